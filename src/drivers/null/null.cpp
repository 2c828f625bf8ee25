// The null driver: accepts every variant, runs copies and fills, and leaves kernels out. The whole API can be tested
// with it on any machine, and archives of foreign targets can be walked through. Never chosen by `auto`.
#include "src/drivers/common/host_recording.h"

using namespace ingot;
using namespace ingot::drivers;

namespace {

// Behind each of the contract's handles, recordings aside.
struct Object {
  ingot_allocator_t allocator;
};
template <class H> Object &object(H *handle) { return *reinterpret_cast<Object *>(handle); }
template <class H> void destroy(H *handle) { destroy_object(object(handle).allocator, &object(handle)); }

HostRecording &host(ingot_driver_recording_t *recording) { return *reinterpret_cast<HostRecording *>(recording); }

template <class H> Code make(const ingot_allocator_t &allocator, const char *what, H **out, Error *error) {
  Object *made = create_object<Object>(allocator, what, error);
  if (!made) return INGOT_OUT_OF_MEMORY;
  made->allocator = allocator;
  *out = reinterpret_cast<H *>(made);
  return INGOT_OK;
}

Code enumerate(const ingot_driver_host_t *, void (*visit)(void *, const char *, const char *), void *user, Error *) {
  visit(user, "0", "nothing");
  return INGOT_OK;
}

Code open_device(const ingot_driver_host_t *host, const char *id, uint32_t ordinal, const char *,
                 ingot_driver_device_t **out, Error *error) {
  if ((id && !strings_equal(id, "0")) || ordinal != 0)
    return fail(error, INGOT_NOT_FOUND, "null: no such device: the only one is null:0");
  return make(host->allocator, "a device", out, error);
}

void close_device(ingot_driver_device_t *device) { destroy(device); }

Code describe(ingot_driver_device_t *, void (*visit)(void *, const char *, const char *), void *user, Error *) {
  visit(user, "name", "nothing");
  return INGOT_OK;
}

Code supports(ingot_driver_device_t *, const ingot_driver_code_t *, Error *) { return INGOT_OK; }

Code load(ingot_driver_device_t *device, const ingot_driver_code_t *, ingot_driver_executable_t **out, Error *error) {
  return make(object(device).allocator, "an executable", out, error);
}

void unload(ingot_driver_executable_t *executable) { destroy(executable); }

uint32_t kernel_version(const ingot_driver_executable_t *, uint32_t) { return INGOT_NONE; }

Code stream_create(ingot_driver_device_t *device, ingot_driver_executable_t *, ingot_driver_stream_t **out, Error *error) {
  return make(object(device).allocator, "a stream", out, error);
}

void stream_destroy(ingot_driver_stream_t *stream) { destroy(stream); }

Code recording_create(ingot_driver_stream_t *stream, const ingot_driver_recording_size_t *size,
                      ingot_driver_recording_t **out, Error *error) {
  return host_recording_create(object(stream).allocator, stream, *size, reinterpret_cast<HostRecording **>(out), error);
}
void recording_destroy(ingot_driver_recording_t *r) { host_recording_destroy(&host(r)); }
void recording_begin(ingot_driver_recording_t *r, bool) { host(r).size = 0; }
void record_dispatch(ingot_driver_recording_t *r, const ingot_driver_dispatch_t *d) { host_record_dispatch(host(r), *d); }
void record_copy(ingot_driver_recording_t *r, const ingot_driver_span_t *target, const ingot_driver_span_t *source) {
  host_record_copy(host(r), *target, *source);
}
void record_fill(ingot_driver_recording_t *r, const ingot_driver_span_t *target, uint64_t pattern, uint32_t bytes) {
  host_record_fill(host(r), *target, pattern, bytes);
}
void record_barrier(ingot_driver_recording_t *) {}
Code recording_end(ingot_driver_recording_t *, Error *) { return INGOT_OK; }

Code run(const HostRecording &r, const ingot_driver_submit_t &s, Error *error) {
  for (size_t at = 0; at < r.size;) {
    const HostCommand *c = reinterpret_cast<const HostCommand *>(r.commands + at);
    if (raised(s.cancel)) return fail(error, INGOT_CANCELLED, "the run was cancelled");
    if (c->op == HostOp::copy) host_copy(*static_cast<const HostCopy *>(c));
    if (c->op == HostOp::fill) {
      const HostFill *f = static_cast<const HostFill *>(c);
      host_fill(f->target, f->length, f->pattern, f->pattern_bytes);
    }
    at += c->size;
  }
  return INGOT_OK;
}

Code submit(ingot_driver_stream_t *, ingot_driver_recording_t *const *recordings, uint32_t count, ingot_driver_submit_t *s,
            Error *error) {
  for (uint32_t i = 0; i < count; ++i) INGOT_TRY(run(host(recordings[i]), *s, error));
  return INGOT_OK;
}

} // namespace

extern "C" {
extern const ingot_driver_t ingot_driver_null;
const ingot_driver_t ingot_driver_null = {
    sizeof(ingot_driver_t),
    INGOT_DRIVER_ABI,
    "null",
    "runs no kernels, copies and fills only: for tests",
    /*host_memory=*/true,
    /*automatic=*/false,
    /*priority=*/0,
    /*probe=*/nullptr,
    enumerate,
    open_device,
    close_device,
    describe,
    supports,
    load,
    unload,
    kernel_version,
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
