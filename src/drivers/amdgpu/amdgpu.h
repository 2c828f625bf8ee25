// Objects of the driver amdgpu: code objects on AMD GPUs through HSA queues, without HIP. Experimental: it has run on a mock alone.
//
//   memory      an allocation of a pool of the GPU's or of the host's, or locked memory of the application's
//   executable  one HSA executable a kernel
//   stream      a queue, a signal that counts submissions under way, an error word
//   recording   packets, made when they are recorded and copied to the queue at each submission; copies, which the library's
//               engines do, in groups between a packet that tells them to begin and one that waits for them
#pragma once

#define INGOT_DRIVER_PREFIX ingot_amdgpu_driver
#include <ingot/driver.h>

#include "src/drivers/amdgpu/hsa.h"
#include "src/drivers/common/device.h"
#include "src/runtime/platform/mutex.h"

namespace ingot::amdgpu {

constexpr uint32_t kMaxBindings = 64;              // of the archive format
constexpr uint32_t kMaxArgumentBytes = 4096;       // of a kernel
constexpr uint32_t kPatternBytes = 4096;           // of a fill
constexpr uint32_t kFillFactor = 32, kFillLevels = 6; // each level copies what the one before filled, so many times at most
constexpr uint64_t kStagingBytes = 16 << 20;

// What is known of a device before it is opened.
struct Physical {
  Agent agent = {}, host = {};
  MemoryPool device_pool = {}, host_pool = {}, argument_pool = {};
  char id[32] = {};   // its UUID, "GPU-...", or where on the bus it is, "bdf-..."
  char name[64] = {}; // the product's
  char architecture[64] = {}; // "gfx942"
  uint32_t wavefront = 0, max_workgroup = 0, compute_units = 0, queue_packets = 0, group_bytes = 0;
  uint16_t max_dim[3] = {};  // of a workgroup
  uint32_t max_grid[3] = {}; // work-items
  uint64_t memory_bytes = 0, frequency = 0; // ticks a second
};

} // namespace ingot::amdgpu

struct ingot_driver_device_t {
  ~ingot_driver_device_t();
  ingot::amdgpu::Api api;
  ingot_allocator_t allocator = {};
  uint64_t (*now_ns)(void) = nullptr;
  bool initialised = false; // the library counts them
  ingot::amdgpu::Physical physical;
  std::atomic<bool> lost{false};
  std::atomic<int> queue_status{0};      // why it is lost
  std::atomic<uint64_t> fault_address{0};
  ingot_driver_device_t *next = nullptr; // of all that are open; under the lock of them
  // Of write and read: bounded, one transfer at a time.
  ingot::platform::Mutex transfer_mutex;
  ingot_driver_memory_t *staging = nullptr;
  ingot::amdgpu::Signal staged[2] = {}; // 0: the half of `staging` is free again
};

struct ingot_driver_memory_t {
  uint8_t *address = nullptr; // of the GPU
  uint8_t *host = nullptr;    // the same memory for the host; or null
  uint64_t size = 0;
  bool locked = false; // the application's
};

struct ingot_driver_executable_t {
  struct Kernel {
    ingot::amdgpu::Executable executable = {};
    uint64_t object = 0;
    uint32_t local_size[3] = {};
    uint32_t group_bytes = 0, private_bytes = 0, argument_bytes = 0; // the last: a multiple of 16
    uint32_t bindings = 0, params = 0, version = INGOT_NONE;
    bool errors = false; // the last argument is the error word's address
  };
  ~ingot_driver_executable_t();
  ingot_driver_device_t *device = nullptr;
  ingot::Array<Kernel> kernels;
  uint32_t most_argument_bytes = 0; // of a kernel
};

struct ingot_driver_recording_t {
  ~ingot_driver_recording_t();
  struct Command {
    enum Kind : uint32_t { dispatch, copy, fill } kind;
    uint32_t kernel, site, grid[3];
    uint32_t packet;  // of a dispatch
    bool group_ends;  // of copies and fills: the next command is none, or comes after a barrier
    uint8_t *target;
    const uint8_t *source; // of a fill: its pattern
    uint64_t length;
    ingot::amdgpu::Agent target_agent, source_agent;
  };
  ingot_driver_stream_t *stream = nullptr;
  ingot::Array<Command> commands;
  ingot::Array<ingot::amdgpu::DispatchPacket> packets;
  ingot::Array<ingot::amdgpu::Signal> signals; // of groups of copies, then of fills
  ingot::Array<ingot::amdgpu::Signal> times;   // timed: one a dispatch
  ingot_driver_memory_t *arguments = nullptr, *patterns = nullptr;
  uint32_t command_count = 0, dispatch_count = 0, fill_count = 0;
  uint64_t argument_bytes = 0;
  bool timed = false, after_barrier = true;
  bool host_seen = false; // a dispatch before the last barrier has seen what the host wrote
  bool flying = false; // submitted, and its stream has not been seen idle since
  ingot_driver_recording_t *next_flying = nullptr;
  ingot::Error error = {}; // the first failure while recording
};

struct ingot_driver_stream_t {
  ~ingot_driver_stream_t();
  ingot_driver_device_t *device = nullptr;
  ingot_driver_executable_t *executable = nullptr;
  ingot::amdgpu::Queue *queue = nullptr;
  ingot::amdgpu::Signal done = {}; // submissions under way
  uint64_t written = 0, rung = 0;  // packets; those that the doorbell told of
  bool profiled = false;
  bool inactive = false; // the device is lost, and the queue was stopped
  ingot_driver_memory_t *errors = nullptr; // the error word; a place for bindings without bytes behind it
  ingot_driver_recording_t *flying = nullptr;
};

namespace ingot::amdgpu {

// Writes what the library said to *error; the code that it stands for. `what`: what was being done.
Code failed(ingot_driver_device_t &device, Error *error, int status, const char *what);
Code lost(ingot_driver_device_t &device, Error *error, const char *what);
void lose(ingot_driver_device_t &device, int status); // the first status is what is told

#define INGOT_HSA_TRY(device, call, what)                                                                              \
  do {                                                                                                                 \
    if (const int ingot_hsa_status_ = (call); INGOT_UNLIKELY(ingot_hsa_status_ != ::ingot::amdgpu::kSuccess))          \
      return ::ingot::amdgpu::failed(device, error, ingot_hsa_status_, what);                                          \
  } while (0)

// device.cpp
Code probe(const ingot_driver_host_t *host, Error *error);
Code enumerate(const ingot_driver_host_t *host, ingot_driver_visit_t visit, void *user, Error *error);
Code open_device(const ingot_driver_host_t *host, const char *id, uint32_t ordinal, const char *options, ingot_driver_device_t **out, Error *error);
void close_device(ingot_driver_device_t *device);
Code describe(ingot_driver_device_t *device, ingot_driver_visit_t visit, void *user, Error *error);
void properties(ingot_driver_device_t *device, ingot_driver_properties_t *out);

// memory.cpp
Code allocate(ingot_driver_device_t *device, ingot_driver_memory_kind_t kind, uint64_t size, ingot_driver_memory_t **out, Error *error);
Code allocate_arguments(ingot_driver_device_t &device, uint64_t size, ingot_driver_memory_t **out, Error *error);
void release(ingot_driver_device_t *device, ingot_driver_memory_t *memory);
Code map(ingot_driver_device_t *device, ingot_driver_memory_t *memory, void **out, Error *error);
void unmap(ingot_driver_device_t *device, ingot_driver_memory_t *memory);
Code write(ingot_driver_device_t *device, ingot_driver_memory_t *memory, uint64_t offset, const void *data, size_t length, Error *error);
Code read(ingot_driver_device_t *device, ingot_driver_memory_t *memory, uint64_t offset, void *data, size_t length, Error *error);
Code import_host(ingot_driver_device_t *device, void *host, uint64_t size, ingot_driver_memory_t **out, Error *error);
Code wait_signal(ingot_driver_device_t &device, Signal signal, const char *what, Error *error); // until it is 0
void settle(ingot_driver_device_t &device, Signal signal); // of a copy: until it has ended or failed; a second at most where the device is lost
void settle_transfers(ingot_driver_device_t &device);      // those of write and read

// executable.cpp
Code supports(ingot_driver_device_t *device, const ingot_driver_code_t *code, Error *error);
Code load(ingot_driver_device_t *device, const ingot_driver_code_t *code, ingot_driver_executable_t **out, Error *error);
void unload(ingot_driver_executable_t *executable);
uint32_t kernel_version(const ingot_driver_executable_t *executable, uint32_t kernel);

// recording.cpp
Code recording_create(ingot_driver_stream_t *stream, const ingot_driver_recording_size_t *size, ingot_driver_recording_t **out, Error *error);
void recording_destroy(ingot_driver_recording_t *recording);
void recording_begin(ingot_driver_recording_t *recording, bool timed);
void record_dispatch(ingot_driver_recording_t *recording, const ingot_driver_dispatch_t *dispatch);
void record_copy(ingot_driver_recording_t *recording, const ingot_driver_span_t *target, const ingot_driver_span_t *source);
void record_fill(ingot_driver_recording_t *recording, const ingot_driver_span_t *target, uint64_t pattern, uint32_t pattern_bytes);
void record_barrier(ingot_driver_recording_t *recording);
Code recording_end(ingot_driver_recording_t *recording, Error *error);

// submit.cpp
Code stream_create(ingot_driver_device_t *device, ingot_driver_executable_t *executable, ingot_driver_stream_t **out, Error *error);
void stream_destroy(ingot_driver_stream_t *stream);
Code submit(ingot_driver_stream_t *stream, ingot_driver_recording_t *const *recordings, uint32_t count, ingot_driver_submit_t *submit, Error *error);
Code finish(ingot_driver_stream_t *stream, ingot_driver_submit_t *submit, Error *error);
void wait_idle(ingot_driver_stream_t &stream); // for ever, unless the device is lost; nothing of it is in use afterwards

} // namespace ingot::amdgpu
