// local-sync: native kernels on the calling thread. Recording fills argument blocks; submitting walks them in order.
#include "src/drivers/local/fp_control.h"
#include "src/drivers/local/local_device.h"

using namespace ingot;
using namespace ingot::drivers;

namespace {

HostRecording &host(ingot_driver_recording_t *r) { return *reinterpret_cast<HostRecording *>(r); }

Code open_device(const ingot_driver_host_t *h, const char *id, uint32_t ordinal, const char *options,
                 ingot_driver_device_t **out, Error *error) {
  LocalOptions parsed;
  INGOT_TRY(local_open("local-sync", id, ordinal, options, 1, &parsed, error));
  LocalDevice *device = create_object<LocalDevice>(h->allocator, "a device", error);
  if (!device) return INGOT_OUT_OF_MEMORY;
  *device = {h->allocator, parsed.features, h->now_ns, 1};
  *out = reinterpret_cast<ingot_driver_device_t *>(device);
  return INGOT_OK;
}

void close_device(ingot_driver_device_t *d) { destroy_object(local_device(d)->allocator, local_device(d)); }

Code load(ingot_driver_device_t *d, const ingot_driver_code_t *code, ingot_driver_executable_t **out, Error *error) {
  LocalDevice &device = *local_device(d);
  LocalExecutable *e = create_object<LocalExecutable>(device.allocator, "an executable", error);
  if (!e) return INGOT_OUT_OF_MEMORY;
  if (const Code result = local_load(device, *code, e, error)) {
    destroy_object(device.allocator, e);
    return result;
  }
  *out = reinterpret_cast<ingot_driver_executable_t *>(e);
  return INGOT_OK;
}

void unload(ingot_driver_executable_t *handle) {
  LocalExecutable *e = reinterpret_cast<LocalExecutable *>(handle);
  destroy_object(e->device->allocator, e);
}

Code stream_create(ingot_driver_device_t *d, ingot_driver_executable_t *e, ingot_driver_stream_t **out, Error *error) {
  LocalDevice &device = *local_device(d);
  LocalStream *stream = create_object<LocalStream>(device.allocator, "a stream", error);
  if (!stream) return INGOT_OUT_OF_MEMORY;
  if (const Code result = local_stream_init(device, e, stream, error)) {
    destroy_object(device.allocator, stream);
    return result;
  }
  *out = reinterpret_cast<ingot_driver_stream_t *>(stream);
  return INGOT_OK;
}

void stream_destroy(ingot_driver_stream_t *s) {
  LocalStream *stream = local_stream(s);
  local_stream_release_scratch(*stream);
  destroy_object(stream->device->allocator, stream);
}

Code recording_create(ingot_driver_stream_t *s, const ingot_driver_recording_size_t *size, ingot_driver_recording_t **out,
                      Error *error) {
  return host_recording_create(local_stream(s)->device->allocator, s, *size, reinterpret_cast<HostRecording **>(out), error);
}
void recording_destroy(ingot_driver_recording_t *r) { host_recording_destroy(&host(r)); }
void recording_begin(ingot_driver_recording_t *r, bool) { host(r).size = 0; }
void record_dispatch(ingot_driver_recording_t *r, const ingot_driver_dispatch_t *d) {
  local_record_dispatch(host(r), *local_stream(host(r).stream), *d);
}
void record_copy(ingot_driver_recording_t *r, const ingot_driver_span_t *target, const ingot_driver_span_t *source) {
  host_record_copy(host(r), *target, *source);
}
void record_fill(ingot_driver_recording_t *r, const ingot_driver_span_t *target, uint64_t pattern, uint32_t bytes) {
  host_record_fill(host(r), *target, pattern, bytes);
}
void record_barrier(ingot_driver_recording_t *) {} // commands run in order
Code recording_end(ingot_driver_recording_t *, Error *) { return INGOT_OK; }

void run_dispatch(void *dispatch) {
  const HostDispatch *d = static_cast<const HostDispatch *>(dispatch);
  d->function(&d->args);
}

Code run(const LocalDevice &device, const HostRecording &r, const ingot_driver_submit_t &s) {
  const bool timed = s.on_dispatch;
  uint8_t *const end = r.commands + r.size;
  for (uint8_t *at = r.commands; at != end;) {
    HostCommand *c = reinterpret_cast<HostCommand *>(at);
    at += c->size;
    if (const Code stop = local_interrupted(device, s)) return stop;
    if (INGOT_LIKELY(c->op == HostOp::dispatch)) {
      HostDispatch *d = static_cast<HostDispatch *>(c);
      if (INGOT_UNLIKELY(timed)) local_timed(device, *d, s, run_dispatch, d);
      else run_dispatch(d);
    } else if (c->op == HostOp::copy) {
      host_copy(*static_cast<const HostCopy *>(c));
    } else {
      const HostFill *f = static_cast<const HostFill *>(c);
      host_fill(f->target, f->length, f->pattern, f->pattern_bytes);
    }
  }
  return INGOT_OK;
}

Code submit(ingot_driver_stream_t *driver_stream, ingot_driver_recording_t *const *recordings, uint32_t count,
            ingot_driver_submit_t *s, Error *error) {
  LocalStream &stream = *local_stream(driver_stream);
  const FpControl control;
  stream.error = 0;
  for (uint32_t i = 0; i < count; ++i)
    if (const Code stop = run(*stream.device, host(recordings[i]), *s)) return local_stopped(stop, error);
  const uint64_t word = *const_cast<volatile uint64_t *>(&stream.error);
  return INGOT_LIKELY(word == 0) ? INGOT_OK : local_kernel_error(word, s, error);
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
    local_enumerate,
    open_device,
    close_device,
    local_describe,
    local_supports,
    load,
    unload,
    local_kernel_version,
    /*properties=*/nullptr,
    /*allocate=*/nullptr,
    /*release=*/nullptr,
    /*map=*/nullptr,
    /*unmap=*/nullptr,
    /*write=*/nullptr,
    /*read=*/nullptr,
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
    /*finish=*/nullptr,
};
}
