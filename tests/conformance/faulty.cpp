// See faulty.h. Handles are wrapped where a fault needs to remember something; everything else goes through.
#include "tests/conformance/faulty.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include <ingot/driver.h>

extern "C" const ingot_driver_t ingot_driver_example, ingot_driver_faulty;

namespace conformance {
namespace {

enum Fault : int {
  kCopySourceOffset = 1, kCopyShort, kFillLowHalf, kFillRounded, kFillOffset, kSecondRecordingDropped, kSubmittedOnce, kBeginKeeps,
  kCommandsCutOff, kFinishEarly, kFinishOnceGivenUp, kErrorKept, kErrorLost, kErrorShared, kErrorSite, kParams32, kGridZ, kBindingOffset,
  kReadStale, kReadOffset, kWriteCut, kSharedMemory, kPrivateUpload, kPrivateReadback, kCancelIgnored, kDeadlineIgnored, kLossForgotten,
  kLossInTransfer, kTimingMissing, kTimingDoubled, kTimingSite, kTimedDeadlineIgnored, kTimedCancelIgnored
};
const char *const kNames[] = {
    "none: the plain copy",
    "copy ignores the source's offset",
    "copy of an odd length is one byte short",
    "fill of 8 bytes uses the low half",
    "fill's length is rounded down to words",
    "fill ignores its offset",
    "the second recording of a submission is dropped",
    "a recording runs once only",
    "begin keeps the old commands",
    "commands after the 50th are dropped",
    "finish returns before the work is done",
    "after a run that was given up, finish does not wait",
    "the error word is not cleared",
    "the error word is not reported",
    "streams share one error word",
    "the error's site is lost",
    "parameters are cut to 32 bits",
    "the grid's z is ignored",
    "the offsets of bindings are ignored",
    "read returns what an earlier one read",
    "read ignores its offset",
    "write drops what is past 1 MiB",
    "two allocations share memory",
    "mapped upload memory is a private copy",
    "mapped readback memory is a private copy",
    "cancel is ignored",
    "the deadline is ignored",
    "a loss is forgotten",
    "transfers hide a loss",
    "the last timing event is missing",
    "timing events come twice",
    "timing events have the wrong site",
    "a timed run ignores its deadline",
    "a timed run ignores a cancel",
};

const ingot_driver_t &inner = ingot_driver_example;

struct Device {
  ingot_driver_device_t *inner;
  int fault;
  std::mutex mutex;
  std::set<struct Stream *> streams;
  std::set<struct Memory *> memories;
};
struct Memory {
  std::shared_ptr<ingot_driver_memory_t> inner;
  ingot_driver_memory_kind_t kind;
  uint64_t size;
  std::vector<uint8_t> copy;                        // what a private map gives
  std::map<uint64_t, std::vector<uint8_t>> earlier; // reads
};
struct Executable {
  Device *device;
  ingot_driver_executable_t *inner;
};
struct Stream {
  Device *device;
  ingot_driver_stream_t *inner;
  uint64_t kept = 0; // error word
  bool given_up = false;
};
struct Recording {
  Device *device;
  ingot_driver_recording_t *inner;
  bool begun = false, submitted = false;
  int commands = 0;
};

template <class T, class H> T &of(H *handle) { return *reinterpret_cast<T *>(handle); }
template <class H, class T> void give(H **out, T *made) { *out = reinterpret_cast<H *>(made); }

ingot_code_t enumerate(const ingot_driver_host_t *host, void (*visit)(void *, const char *, const char *), void *user, ingot_error_t *error) {
  return inner.enumerate(host, visit, user, error);
}
ingot_code_t open_device(const ingot_driver_host_t *host, const char *id, uint32_t ordinal, const char *options, ingot_driver_device_t **out,
                         ingot_error_t *error) {
  int fault = 0;
  if (strncmp(options, "fault=", 6) == 0) {
    char *end = nullptr;
    fault = int(strtol(options + 6, &end, 10));
    options = *end == '&' ? end + 1 : end;
  }
  ingot_driver_device_t *device = nullptr;
  if (const ingot_code_t code = inner.open(host, id, ordinal, options, &device, error)) return code;
  give(out, new Device{device, fault, {}, {}, {}});
  return INGOT_OK;
}
void close_device(ingot_driver_device_t *d) {
  inner.close(of<Device>(d).inner);
  delete &of<Device>(d);
}
ingot_code_t describe(ingot_driver_device_t *d, void (*visit)(void *, const char *, const char *), void *user, ingot_error_t *error) {
  return inner.describe(of<Device>(d).inner, visit, user, error);
}
ingot_code_t supports(ingot_driver_device_t *d, const ingot_driver_code_t *code, ingot_error_t *error) {
  return inner.supports(of<Device>(d).inner, code, error);
}
ingot_code_t load(ingot_driver_device_t *d, const ingot_driver_code_t *code, ingot_driver_executable_t **out, ingot_error_t *error) {
  ingot_driver_executable_t *executable = nullptr;
  if (const ingot_code_t result = inner.load(of<Device>(d).inner, code, &executable, error)) return result;
  give(out, new Executable{&of<Device>(d), executable});
  return INGOT_OK;
}
void unload(ingot_driver_executable_t *e) {
  inner.unload(of<Executable>(e).inner);
  delete &of<Executable>(e);
}
uint32_t kernel_version(const ingot_driver_executable_t *e, uint32_t kernel) {
  return inner.kernel_version(reinterpret_cast<const Executable *>(e)->inner, kernel);
}

// ---- memory

void properties(ingot_driver_device_t *d, ingot_driver_properties_t *out) { inner.properties(of<Device>(d).inner, out); }

ingot_code_t allocate(ingot_driver_device_t *handle, ingot_driver_memory_kind_t kind, uint64_t size, ingot_driver_memory_t **out, ingot_error_t *error) {
  Device &d = of<Device>(handle);
  std::lock_guard<std::mutex> lock(d.mutex);
  auto made = std::make_unique<Memory>(Memory{nullptr, kind, size, {}, {}});
  if (d.fault == kSharedMemory)
    for (Memory *m : d.memories)
      if (m->kind == kind && m->size == size) made->inner = m->inner;
  if (!made->inner) {
    ingot_driver_memory_t *memory = nullptr;
    if (const ingot_code_t code = inner.allocate(d.inner, kind, size, &memory, error)) return code;
    made->inner.reset(memory, [device = d.inner](ingot_driver_memory_t *m) { inner.release(device, m); });
  }
  d.memories.insert(made.get());
  give(out, made.release());
  return INGOT_OK;
}
void release(ingot_driver_device_t *handle, ingot_driver_memory_t *m) {
  Device &d = of<Device>(handle);
  std::lock_guard<std::mutex> lock(d.mutex);
  d.memories.erase(&of<Memory>(m));
  delete &of<Memory>(m);
}
ingot_code_t map(ingot_driver_device_t *d, ingot_driver_memory_t *handle, void **out, ingot_error_t *error) {
  Memory &m = of<Memory>(handle);
  const int fault = of<Device>(d).fault;
  if ((fault == kPrivateUpload && m.kind == INGOT_MEMORY_UPLOAD) || (fault == kPrivateReadback && m.kind == INGOT_MEMORY_READBACK)) {
    m.copy.resize(m.size);
    *out = m.copy.data();
    return INGOT_OK;
  }
  return inner.map(of<Device>(d).inner, m.inner.get(), out, error);
}
void unmap(ingot_driver_device_t *d, ingot_driver_memory_t *m) { inner.unmap(of<Device>(d).inner, of<Memory>(m).inner.get()); }
ingot_code_t write(ingot_driver_device_t *d, ingot_driver_memory_t *m, uint64_t offset, const void *data, size_t length, ingot_error_t *error) {
  const int fault = of<Device>(d).fault;
  if (fault == kWriteCut && length > 1 << 20) length = 1 << 20;
  const ingot_code_t code = inner.write(of<Device>(d).inner, of<Memory>(m).inner.get(), offset, data, length, error);
  return fault == kLossInTransfer && code == INGOT_DEVICE_LOST ? INGOT_OK : code;
}
ingot_code_t read(ingot_driver_device_t *d, ingot_driver_memory_t *handle, uint64_t offset, void *data, size_t length, ingot_error_t *error) {
  Memory &m = of<Memory>(handle);
  const int fault = of<Device>(d).fault;
  const auto earlier = m.earlier.find(offset);
  if (fault == kReadStale && earlier != m.earlier.end() && earlier->second.size() == length) {
    memcpy(data, earlier->second.data(), length);
    return INGOT_OK;
  }
  const ingot_code_t code = inner.read(of<Device>(d).inner, m.inner.get(), fault == kReadOffset ? 0 : offset, data, length, error);
  if (fault == kReadStale) m.earlier[offset].assign(static_cast<uint8_t *>(data), static_cast<uint8_t *>(data) + length);
  return fault == kLossInTransfer && code == INGOT_DEVICE_LOST ? INGOT_OK : code;
}

// ---- streams and recordings

ingot_code_t stream_create(ingot_driver_device_t *d, ingot_driver_executable_t *e, ingot_driver_stream_t **out, ingot_error_t *error) {
  ingot_driver_stream_t *stream = nullptr;
  if (const ingot_code_t code = inner.stream_create(of<Device>(d).inner, of<Executable>(e).inner, &stream, error)) return code;
  Stream *made = new Stream{&of<Device>(d), stream};
  std::lock_guard<std::mutex> lock(made->device->mutex);
  made->device->streams.insert(made);
  give(out, made);
  return INGOT_OK;
}
void stream_destroy(ingot_driver_stream_t *handle) {
  Stream &s = of<Stream>(handle);
  std::lock_guard<std::mutex> lock(s.device->mutex);
  s.device->streams.erase(&s);
  inner.stream_destroy(s.inner);
  delete &s;
}
ingot_code_t recording_create(ingot_driver_stream_t *s, const ingot_driver_recording_size_t *size, ingot_driver_recording_t **out, ingot_error_t *error) {
  ingot_driver_recording_t *recording = nullptr;
  if (const ingot_code_t code = inner.recording_create(of<Stream>(s).inner, size, &recording, error)) return code;
  give(out, new Recording{of<Stream>(s).device, recording});
  return INGOT_OK;
}
void recording_destroy(ingot_driver_recording_t *r) {
  inner.recording_destroy(of<Recording>(r).inner);
  delete &of<Recording>(r);
}
void recording_begin(ingot_driver_recording_t *handle, bool timed) {
  Recording &r = of<Recording>(handle);
  if (r.device->fault == kBeginKeeps && r.begun) return;
  r.begun = true;
  r.submitted = false;
  r.commands = 0;
  inner.recording_begin(r.inner, timed);
}
ingot_driver_span_t unwrap(ingot_driver_span_t span) {
  if (span.memory) span.memory = of<Memory>(span.memory).inner.get();
  return span;
}
bool cut_off(Recording &r) { return r.device->fault == kCommandsCutOff && ++r.commands > 50; }
void record_dispatch(ingot_driver_recording_t *handle, const ingot_driver_dispatch_t *dispatch) {
  Recording &r = of<Recording>(handle);
  if (cut_off(r)) return;
  ingot_driver_dispatch_t d = *dispatch;
  std::vector<ingot_driver_span_t> bindings;
  for (uint32_t i = 0; i < d.binding_count; ++i) {
    bindings.push_back(unwrap(d.bindings[i]));
    if (r.device->fault == kBindingOffset) bindings.back().offset = 0;
  }
  std::vector<int64_t> params(d.params, d.params + d.param_count);
  if (r.device->fault == kParams32)
    for (int64_t &p : params) p = int32_t(p);
  if (r.device->fault == kGridZ) d.grid[2] = 1;
  d.bindings = bindings.data();
  d.params = params.data();
  inner.record_dispatch(r.inner, &d);
}
void record_copy(ingot_driver_recording_t *handle, const ingot_driver_span_t *target, const ingot_driver_span_t *source) {
  Recording &r = of<Recording>(handle);
  if (cut_off(r)) return;
  ingot_driver_span_t to = unwrap(*target), from = unwrap(*source);
  if (r.device->fault == kCopySourceOffset) from.offset = 0;
  if (r.device->fault == kCopyShort && to.length % 2 != 0) from.length = --to.length;
  inner.record_copy(r.inner, &to, &from);
}
void record_fill(ingot_driver_recording_t *handle, const ingot_driver_span_t *target, uint64_t pattern, uint32_t bytes) {
  Recording &r = of<Recording>(handle);
  if (cut_off(r)) return;
  ingot_driver_span_t to = unwrap(*target);
  if (r.device->fault == kFillLowHalf && bytes == 8) bytes = 4;
  if (r.device->fault == kFillRounded) to.length -= to.length % 4;
  if (r.device->fault == kFillOffset) to.offset = 0;
  inner.record_fill(r.inner, &to, pattern, bytes);
}
void record_barrier(ingot_driver_recording_t *r) { inner.record_barrier(of<Recording>(r).inner); }
ingot_code_t recording_end(ingot_driver_recording_t *r, ingot_error_t *error) { return inner.recording_end(of<Recording>(r).inner, error); }

// Collects timing events and passes on what the fault leaves.
struct Events {
  int fault;
  std::vector<ingot_driver_timing_t> list;
};
void pass_on(Events &events, const ingot_driver_submit_t &s) {
  if (events.fault == kTimingMissing && !events.list.empty()) events.list.pop_back();
  for (ingot_driver_timing_t &t : events.list) {
    if (events.fault == kTimingSite) t.site = 0;
    for (int i = 0; i < (events.fault == kTimingDoubled ? 2 : 1); ++i) s.on_dispatch(s.user, &t);
  }
}

ingot_code_t submit(ingot_driver_stream_t *handle, ingot_driver_recording_t *const *recordings, uint32_t count, ingot_driver_submit_t *options,
                    ingot_error_t *error) {
  Stream &s = of<Stream>(handle);
  const int fault = s.device->fault;
  std::vector<ingot_driver_recording_t *> list;
  for (uint32_t i = 0; i < count; ++i) {
    Recording &r = of<Recording>(recordings[i]);
    if (fault == kSecondRecordingDropped && i == 1) continue;
    if (fault == kSubmittedOnce && r.submitted) continue;
    r.submitted = true;
    list.push_back(r.inner);
  }
  if (list.empty()) return INGOT_OK;
  if (!options->on_dispatch) return inner.submit(s.inner, list.data(), uint32_t(list.size()), options, error);
  Events events = {fault, {}};
  ingot_driver_submit_t own = *options;
  own.on_dispatch = [](void *user, const ingot_driver_timing_t *t) { static_cast<Events *>(user)->list.push_back(*t); };
  own.user = &events;
  const volatile int32_t never = 0;
  if (fault == kTimedDeadlineIgnored) own.deadline_ns = 0;
  if (fault == kTimedCancelIgnored) own.cancel = &never;
  const ingot_code_t code = inner.submit(s.inner, list.data(), uint32_t(list.size()), &own, error);
  pass_on(events, *options);
  return code;
}

ingot_code_t kernel_error(uint64_t word, ingot_driver_submit_t *options, ingot_error_t *error) {
  options->kernel_error = word;
  error->code = INGOT_KERNEL_ERROR;
  snprintf(error->message, sizeof error->message, "a kernel reported an error");
  return INGOT_KERNEL_ERROR;
}

// What the first failing stream of the device says, whichever it is.
ingot_code_t finish_shared(Stream &s, ingot_driver_submit_t *options, ingot_error_t *error) {
  std::lock_guard<std::mutex> lock(s.device->mutex);
  ingot_code_t first = INGOT_OK;
  for (Stream *other : s.device->streams) {
    const ingot_code_t code = inner.finish(other->inner, options, error);
    if (first == INGOT_OK) first = code;
  }
  return first;
}

ingot_code_t finish(ingot_driver_stream_t *handle, ingot_driver_submit_t *options, ingot_error_t *error) {
  Stream &s = of<Stream>(handle);
  const int fault = s.device->fault;
  if (fault == kFinishEarly) return INGOT_OK;
  if (fault == kErrorShared) return finish_shared(s, options, error);
  if (fault == kFinishOnceGivenUp && s.given_up) {
    s.given_up = false;
    return INGOT_OK;
  }
  const volatile int32_t never = 0;
  ingot_driver_submit_t own = *options;
  if (fault == kCancelIgnored) own.cancel = &never;
  if (fault == kDeadlineIgnored) own.deadline_ns = 0;
  ingot_code_t code = inner.finish(s.inner, &own, error);
  options->kernel_error = own.kernel_error;
  s.given_up = code == INGOT_CANCELLED || code == INGOT_DEADLINE_EXCEEDED;
  if (fault == kErrorKept && code == INGOT_KERNEL_ERROR) s.kept = own.kernel_error;
  if (fault == kErrorKept && code == INGOT_OK && s.kept) return kernel_error(s.kept, options, error);
  if (fault == kErrorLost && code == INGOT_KERNEL_ERROR) return INGOT_OK;
  if (fault == kErrorSite && code == INGOT_KERNEL_ERROR) options->kernel_error &= 0xffffffff;
  if (fault == kLossForgotten && code == INGOT_DEVICE_LOST) return INGOT_OK;
  return code;
}

} // namespace

int fault_count() { return int(sizeof kNames / sizeof kNames[0]) - 1; }
const char *fault_name(int fault) { return kNames[fault]; }
bool fault_is_early(int fault) { return fault == kFinishEarly || fault == kFinishOnceGivenUp; }

} // namespace conformance

const ingot_driver_t ingot_driver_faulty = {
    sizeof(ingot_driver_t),
    INGOT_DRIVER_ABI,
    "faulty",
    "the example with a planted fault, fault=N: for tests of tests",
    /*host_memory=*/false,
    /*automatic=*/false,
    /*priority=*/0,
    /*probe=*/nullptr,
    conformance::enumerate,
    conformance::open_device,
    conformance::close_device,
    conformance::describe,
    conformance::supports,
    conformance::load,
    conformance::unload,
    conformance::kernel_version,
    conformance::properties,
    conformance::allocate,
    conformance::release,
    conformance::map,
    conformance::unmap,
    conformance::write,
    conformance::read,
    /*import=*/nullptr,
    conformance::stream_create,
    conformance::stream_destroy,
    conformance::recording_create,
    conformance::recording_destroy,
    conformance::recording_begin,
    conformance::record_dispatch,
    conformance::record_copy,
    conformance::record_fill,
    conformance::record_barrier,
    conformance::recording_end,
    conformance::submit,
    conformance::finish,
};
