// local-sync: native kernels on the calling thread. Recording fills argument blocks; submitting walks them.
#include <stdio.h>

#include "src/drivers/local/fp_control.h"
#include "src/drivers/local/native_code.h"
#include "src/runtime/cpu/features.h"
#include "src/runtime/platform/platform.h"

using namespace ingot;
using namespace ingot::drivers;

namespace {

struct Device {
  ingot_allocator_t allocator;
  uint64_t features;
  uint64_t (*now_ns)(void);
};
struct Executable {
  Device *device;
  NativeCode code;
};
struct Stream {
  Device *device;
  Executable *executable;
  uint8_t *scratch;
  uint64_t error; // the error word that kernels store to
};

Device *device_of(ingot_driver_device_t *d) { return reinterpret_cast<Device *>(d); }
Executable *executable_of(const ingot_driver_executable_t *e) {
  return reinterpret_cast<Executable *>(const_cast<ingot_driver_executable_t *>(e));
}
Stream *stream_of(ingot_driver_stream_t *s) { return reinterpret_cast<Stream *>(s); }
HostRecording &host(ingot_driver_recording_t *r) { return *reinterpret_cast<HostRecording *>(r); }

Code enumerate(const ingot_driver_host_t *, void (*visit)(void *, const char *, const char *), void *user, Error *) {
  char name[128];
  host_cpu_name(name, sizeof name);
  visit(user, "0", name[0] ? name : host_arch());
  return INGOT_OK;
}

// Options: `features=0x3` narrows the CPU features (bits of schemas/cpu_abi.h), so that every code version can be tested.
Code parse_options(const char *options, uint64_t *features, Error *error) {
  if (!*options) return INGOT_OK;
  static constexpr char kFeatures[] = "features=0x";
  const char *digits = options + sizeof kFeatures - 1;
  if (strncmp(options, kFeatures, sizeof kFeatures - 1) == 0 && *digits) {
    uint64_t mask = 0;
    for (; *digits; ++digits) {
      const char c = char(*digits | 0x20);
      if (c >= '0' && c <= '9') mask = mask << 4 | uint64_t(c - '0');
      else if (c >= 'a' && c <= 'f') mask = mask << 4 | uint64_t(c - 'a' + 10);
      else return fail(error, INGOT_INVALID_ARGUMENT, "local-sync: '%.40s' is no hexadecimal number", options);
    }
    *features &= mask;
    return INGOT_OK;
  }
  return fail(error, INGOT_INVALID_ARGUMENT, "local-sync: unknown option '%.60s': known is features=0xMASK", options);
}

Code open_device(const ingot_driver_host_t *h, const char *id, uint32_t ordinal, const char *options,
                 ingot_driver_device_t **out, Error *error) {
  if ((id && !strings_equal(id, "0")) || ordinal != 0)
    return fail(error, INGOT_NOT_FOUND, "local-sync: no such device: the only one is local-sync:0");
  uint64_t features = host_cpu_features();
  INGOT_TRY(parse_options(options, &features, error));
  Device *device = create_object<Device>(h->allocator, "a device", error);
  if (!device) return INGOT_OUT_OF_MEMORY;
  *device = {h->allocator, features, h->now_ns};
  *out = reinterpret_cast<ingot_driver_device_t *>(device);
  return INGOT_OK;
}

void close_device(ingot_driver_device_t *d) { destroy_object(device_of(d)->allocator, device_of(d)); }

Code describe(ingot_driver_device_t *d, void (*visit)(void *, const char *, const char *), void *user, Error *) {
  char buffer[256];
  host_cpu_name(buffer, sizeof buffer);
  visit(user, "name", buffer);
  visit(user, "arch", host_arch());
  size_t length = 0;
  buffer[0] = 0;
  uint64_t bit;
  for (uint64_t left = device_of(d)->features; const char *name = cpu_feature_name(left, &bit); left &= ~bit)
    length += size_t(snprintf(buffer + length, sizeof buffer - length, "%s%s", length ? " " : "", name));
  visit(user, "features", buffer);
  snprintf(buffer, sizeof buffer, "0x%llx", (unsigned long long)device_of(d)->features);
  visit(user, "feature-mask", buffer);
  snprintf(buffer, sizeof buffer, "%u", platform::cpu_count());
  visit(user, "cores", buffer);
  visit(user, "threads", "1");
  return INGOT_OK;
}

Code supports(ingot_driver_device_t *d, const ingot_driver_code_t *code, Error *error) {
  return native_supports(device_of(d)->features, *code, error);
}

Code load(ingot_driver_device_t *d, const ingot_driver_code_t *code, ingot_driver_executable_t **out, Error *error) {
  Device *device = device_of(d);
  Executable *e = create_object<Executable>(device->allocator, "an executable", error);
  if (!e) return INGOT_OUT_OF_MEMORY;
  e->device = device;
  if (const Code result = e->code.load(device->allocator, device->features, *code, error)) {
    destroy_object(device->allocator, e);
    return result;
  }
  *out = reinterpret_cast<ingot_driver_executable_t *>(e);
  return INGOT_OK;
}

void unload(ingot_driver_executable_t *e) { destroy_object(executable_of(e)->device->allocator, executable_of(e)); }

uint32_t kernel_version(const ingot_driver_executable_t *e, uint32_t kernel) {
  return executable_of(e)->code.kernel(kernel).version;
}

Code stream_create(ingot_driver_device_t *d, ingot_driver_executable_t *e, ingot_driver_stream_t **out, Error *error) {
  Device *device = device_of(d);
  Stream *stream = create_object<Stream>(device->allocator, "a stream", error);
  if (!stream) return INGOT_OUT_OF_MEMORY;
  *stream = {device, executable_of(e), nullptr, 0};
  const uint64_t scratch = stream->executable->code.scratch_bytes();
  if (scratch) {
    stream->scratch = static_cast<uint8_t *>(allocate_bytes(device->allocator, size_t(scratch), 1, kAlignment));
    if (!stream->scratch) {
      destroy_object(device->allocator, stream);
      return fail(error, INGOT_OUT_OF_MEMORY, "out of memory: %llu bytes of scratch memory", (unsigned long long)scratch);
    }
  }
  *out = reinterpret_cast<ingot_driver_stream_t *>(stream);
  return INGOT_OK;
}

void stream_destroy(ingot_driver_stream_t *s) {
  Stream *stream = stream_of(s);
  const ingot_allocator_t &allocator = stream->device->allocator;
  release_bytes(allocator, stream->scratch, size_t(stream->executable->code.scratch_bytes()), kAlignment);
  destroy_object(allocator, stream);
}

Code recording_create(ingot_driver_stream_t *s, const ingot_driver_recording_size_t *size, ingot_driver_recording_t **out,
                      Error *error) {
  return host_recording_create(stream_of(s)->device->allocator, s, *size, reinterpret_cast<HostRecording **>(out), error);
}
void recording_destroy(ingot_driver_recording_t *r) { host_recording_destroy(&host(r)); }
void recording_begin(ingot_driver_recording_t *r) { host(r).size = 0; }

void record_dispatch(ingot_driver_recording_t *r, const ingot_driver_dispatch_t *d) {
  Stream *stream = stream_of(host(r).stream);
  const NativeKernel &kernel = stream->executable->code.kernel(d->kernel);
  HostDispatch *c = host_record_dispatch(host(r), *d);
  if (!c) return;
  c->function = kernel.function;
  c->version = kernel.version;
  if (kernel.bytecode) host_record_kernel(*c, *d, kernel.bytecode);
  c->args.error = uintptr_t(&stream->error);
  c->args.scratch = uintptr_t(stream->scratch);
}
void record_copy(ingot_driver_recording_t *r, const ingot_driver_span_t *target, const ingot_driver_span_t *source) {
  host_record_copy(host(r), *target, *source);
}
void record_fill(ingot_driver_recording_t *r, const ingot_driver_span_t *target, uint64_t pattern, uint32_t bytes) {
  host_record_fill(host(r), *target, pattern, bytes);
}
void record_barrier(ingot_driver_recording_t *) {} // commands run in order
Code recording_end(ingot_driver_recording_t *, Error *) { return INGOT_OK; }

__attribute__((noinline, cold)) void timed(const Device &device, const HostDispatch &c, const ingot_driver_submit_t &s) {
  ingot_driver_timing_t t = {c.kernel, c.site, c.version, {c.args.grid[0], c.args.grid[1], c.args.grid[2]}, 0, 0};
  t.start_ns = device.now_ns();
  c.function(&c.args);
  t.end_ns = device.now_ns();
  s.on_dispatch(s.user, &t);
}

Code submit(ingot_driver_stream_t *driver_stream, ingot_driver_recording_t *recording, ingot_driver_submit_t *s,
            Error *error) {
  Stream &stream = *stream_of(driver_stream);
  const HostRecording &r = host(recording);
  const FpControl control;
  const bool slow = s->on_dispatch || s->deadline_ns;
  stream.error = 0;
  const uint8_t *const end = r.commands + r.size;
  for (const uint8_t *at = r.commands; at != end;) {
    const HostCommand *c = reinterpret_cast<const HostCommand *>(at);
    at += c->size;
    if (INGOT_UNLIKELY(*s->cancel)) return fail(error, INGOT_CANCELLED, "the run was cancelled");
    if (INGOT_UNLIKELY(slow) && s->deadline_ns && stream.device->now_ns() > s->deadline_ns)
      return fail(error, INGOT_DEADLINE_EXCEEDED, "the run exceeded its deadline");
    if (INGOT_LIKELY(c->op == HostOp::dispatch)) {
      const HostDispatch *d = static_cast<const HostDispatch *>(c);
      if (INGOT_UNLIKELY(slow && s->on_dispatch)) timed(*stream.device, *d, *s);
      else d->function(&d->args);
    } else if (c->op == HostOp::copy) {
      host_copy(*static_cast<const HostCopy *>(c));
    } else {
      const HostFill *f = static_cast<const HostFill *>(c);
      host_fill(f->target, f->length, f->pattern, f->pattern_bytes);
    }
  }
  const uint64_t word = *const_cast<volatile uint64_t *>(&stream.error);
  if (INGOT_LIKELY(word == 0)) return INGOT_OK;
  s->kernel_error = word;
  return fail(error, INGOT_KERNEL_ERROR, "a kernel reported error %llu", (unsigned long long)word);
}

} // namespace

extern "C" {
extern const ingot_driver_t ingot_driver_local_sync;
const ingot_driver_t ingot_driver_local_sync = {
    sizeof(ingot_driver_t),
    INGOT_DRIVER_ABI,
    "local-sync",
    "native kernels on the calling thread",
    /*host_memory=*/true,
    /*automatic=*/true,
    /*priority=*/10,
    /*probe=*/nullptr,
    enumerate,
    open_device,
    close_device,
    describe,
    supports,
    load,
    unload,
    kernel_version,
    /*allocate=*/nullptr,
    /*release=*/nullptr,
    /*map=*/nullptr,
    /*unmap=*/nullptr,
    /*import=*/nullptr,
    stream_create,
    stream_destroy,
    recording_create,
    recording_destroy,
    recording_begin,
    record_dispatch,
    record_copy,
    record_fill,
    record_barrier,
    recording_end,
    submit,
};
}
