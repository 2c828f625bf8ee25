// What the CPU drivers share: the device (options, description), loaded executables, streams, and the entries
// of the driver table that are the same for all of them. local_sync.cpp and local_task.cpp add how a recording
// runs.
#pragma once

#include <ingot/driver.h>

#include "src/drivers/local/native_code.h"

namespace ingot::drivers {

// A driver's own device, executable and stream derive from these and stand behind the contract's handles.
struct LocalDevice {
  ingot_allocator_t allocator;
  uint64_t features;
  uint64_t (*now_ns)(void);
  uint32_t threads; // that one run may use
};
struct LocalExecutable {
  LocalDevice *device;
  NativeCode code;
};
struct LocalStream {
  LocalDevice *device;
  LocalExecutable *executable;
  uint8_t *scratch; // of the submitting thread
  uint64_t error;   // the error word that kernels store to
};

inline LocalDevice *local_device(ingot_driver_device_t *d) { return reinterpret_cast<LocalDevice *>(d); }
inline LocalStream *local_stream(ingot_driver_stream_t *s) { return reinterpret_cast<LocalStream *>(s); }

// Options of a device URI, joined by '&':
//   features=0xMASK  narrows the CPU features (bits of schemas/cpu_abi.h), so that every code version can be
//   tested threads=N        1 .. max_threads
struct LocalOptions {
  uint64_t features;
  uint32_t threads; // 0 where not given
};
// Checks that the only device, 0, is meant, and parses its options. `driver` is the name for messages.
Code local_open(const char *driver, const char *id, uint32_t ordinal, const char *options, uint32_t max_threads,
                LocalOptions *out, Error *error);
Code local_enumerate(const ingot_driver_host_t *host, void (*visit)(void *, const char *, const char *),
                     void *user, Error *error);
Code local_describe(ingot_driver_device_t *device, void (*visit)(void *, const char *, const char *),
                    void *user, Error *error);
Code local_supports(ingot_driver_device_t *device, const ingot_driver_code_t *code, Error *error);
uint32_t local_kernel_version(const ingot_driver_executable_t *executable, uint32_t kernel);

// Loads the code and fills in what the base of a stream holds. The caller owns both objects, also on failure.
Code local_load(LocalDevice &device, const ingot_driver_code_t &code, LocalExecutable *out, Error *error);
Code local_stream_init(LocalDevice &device, ingot_driver_executable_t *executable, LocalStream *out,
                       Error *error);
void local_stream_release_scratch(LocalStream &stream);

// Appends a dispatch that one thread can run as it stands; null where the recording is full.
HostDispatch *local_record_dispatch(HostRecording &recording, LocalStream &stream,
                                    const ingot_driver_dispatch_t &dispatch);
// Runs it whole, timed, and tells on_dispatch. `run` is called with `argument`.
void local_timed(const LocalDevice &device, const HostDispatch &dispatch, const ingot_driver_submit_t &submit,
                 void (*run)(void *argument), void *argument);

// INGOT_OK, or the reason to stop now.
inline Code local_interrupted(const LocalDevice &device, const ingot_driver_submit_t &s) {
  if (INGOT_UNLIKELY(raised(s.cancel))) return INGOT_CANCELLED;
  if (INGOT_UNLIKELY(s.deadline_ns != 0) && device.now_ns() > s.deadline_ns) return INGOT_DEADLINE_EXCEEDED;
  return INGOT_OK;
}
// The error of a run that ended for that reason, or with that error word.
Code local_stopped(Code reason, Error *error);
Code local_kernel_error(uint64_t word, ingot_driver_submit_t *submit, Error *error);

} // namespace ingot::drivers
