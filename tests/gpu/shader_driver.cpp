// The tables of the two test drivers over their backends; see shader_driver.h.
#define INGOT_DRIVER_PREFIX shader
#include <ingot/driver.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <mutex>

#include "schemas/gpu_abi.h"
#include "tests/gpu/shader_driver.h"

using namespace ingot::shaders;

struct ingot_driver_device_t {
  std::unique_ptr<Backend> backend;
  const char *target = "";
  uint32_t format = 0;
  uint64_t (*now_ns)(void) = nullptr;
  std::mutex mutex; // of the backend: streams take turns
  bool lost = false;
};

struct ingot_driver_memory_t : Memory {};

struct ingot_driver_executable_t {
  uint32_t first = 0;
  std::vector<Kernel> kernels;
};

struct ingot_driver_stream_t {
  ingot_driver_device_t *device = nullptr;
  ingot_driver_executable_t *executable = nullptr;
};

struct ingot_driver_recording_t {
  struct Command {
    enum { dispatch, copy, fill } what;
    Dispatch run;
    uint32_t site = 0;
    Span target, source;
    std::vector<uint8_t> pattern;
  };
  ingot_driver_stream_t *stream = nullptr;
  std::vector<Command> commands;
};

namespace {

using Device = ingot_driver_device_t;
using Recording = ingot_driver_recording_t;

ingot_code_t fail(ingot_error_t *error, ingot_code_t code, const std::string &message) {
  error->code = code;
  snprintf(error->message, sizeof error->message, "%s", message.c_str());
  return code;
}

// A backend that failed is lost: nothing is known of what it still does.
ingot_code_t judge(Device &d, const std::string &wrong, ingot_error_t *error) {
  if (wrong.empty()) return INGOT_OK;
  d.lost = true;
  return fail(error, INGOT_DEVICE_LOST, wrong);
}

// ---- devices

ingot_code_t enumerate(const ingot_driver_host_t *, ingot_driver_visit_t visit, void *user, ingot_error_t *) {
  visit(user, "0", "shader text, for tests");
  return INGOT_OK;
}

ingot_code_t opened(const ingot_driver_host_t *host, std::unique_ptr<Backend> backend, const std::string &why, const char *target,
                    uint32_t format, ingot_driver_device_t **out, ingot_error_t *error) {
  if (!backend) return fail(error, INGOT_UNAVAILABLE, why);
  *out = new Device;
  (*out)->backend = std::move(backend);
  (*out)->target = target;
  (*out)->format = format;
  (*out)->now_ns = host->now_ns;
  return INGOT_OK;
}

ingot_code_t open_metal(const ingot_driver_host_t *host, const char *, uint32_t ordinal, const char *options,
                        ingot_driver_device_t **out, ingot_error_t *error) {
  if (ordinal != 0) return fail(error, INGOT_NOT_FOUND, "metal-shim: the only device is metal-shim:0");
  std::string why;
  std::unique_ptr<Backend> backend = open_metal_shim(options, &why);
  return opened(host, std::move(backend), why, "metal", INGOT_CODE_MSL, out, error);
}

ingot_code_t open_webgpu(const ingot_driver_host_t *host, const char *, uint32_t ordinal, const char *options,
                         ingot_driver_device_t **out, ingot_error_t *error) {
  if (ordinal != 0) return fail(error, INGOT_NOT_FOUND, "dawn: the only device is dawn:0");
  std::string why;
  std::unique_ptr<Backend> backend = open_dawn(options, &why);
  return opened(host, std::move(backend), why, "webgpu", INGOT_CODE_WGSL, out, error);
}

void close_device(Device *d) { delete d; }

ingot_code_t describe(Device *d, ingot_driver_visit_t visit, void *user, ingot_error_t *) {
  visit(user, "runs", d->target);
  return INGOT_OK;
}

ingot_code_t probed(const std::string &missing, ingot_error_t *error) {
  return missing.empty() ? INGOT_OK : fail(error, INGOT_UNAVAILABLE, missing);
}
ingot_code_t probe_metal(const ingot_driver_host_t *, ingot_error_t *error) { return probed(metal_shim_missing(), error); }
ingot_code_t probe_webgpu(const ingot_driver_host_t *, ingot_error_t *error) { return probed(dawn_missing(), error); }

// ---- code

ingot_code_t supports(Device *d, const ingot_driver_code_t *code, ingot_error_t *error) {
  if (strcmp(code->target, d->target) != 0)
    return fail(error, INGOT_INCOMPATIBLE, std::string("the variant is for ") + code->target + ", this device runs " + d->target);
  return INGOT_OK;
}

ingot_code_t load(Device *d, const ingot_driver_code_t *code, ingot_driver_executable_t **out, ingot_error_t *error) {
  auto e = std::make_unique<ingot_driver_executable_t>();
  for (uint32_t i = 0; i < code->kernel_count; ++i) {
    const ingot_driver_kernel_t &k = code->kernels[i];
    const ingot_driver_code_version_t &v = k.versions[0];
    const ingot_driver_image_t &image = code->images[v.image];
    if (image.format != d->format || v.symbol_offset > image.size || v.code_size > image.size - v.symbol_offset)
      return fail(error, INGOT_CORRUPT, std::string("kernel '") + k.name + "': its text is not inside its image");
    Kernel kernel;
    kernel.name = k.name;
    kernel.entry = v.entry;
    kernel.text.assign(static_cast<const char *>(image.data) + v.symbol_offset, size_t(v.code_size));
    std::copy_n(k.local_size, 3, kernel.local_size.begin());
    kernel.binding_count = k.binding_count;
    kernel.param_count = k.param_count;
    kernel.access.assign(k.binding_access, k.binding_access + k.binding_count);
    kernel.errors = (k.flags & INGOT_KERNEL_FLAG_ERRORS) != 0;
    e->kernels.push_back(std::move(kernel));
  }
  std::lock_guard<std::mutex> lock(d->mutex);
  if (std::string wrong = d->backend->load(e->kernels, &e->first); !wrong.empty())
    return fail(error, INGOT_INCOMPATIBLE, wrong);
  *out = e.release();
  return INGOT_OK;
}

void unload(ingot_driver_executable_t *e) { delete e; }
uint32_t kernel_version(const ingot_driver_executable_t *, uint32_t) { return 0; }

// ---- memory

void properties(Device *, ingot_driver_properties_t *out) {
  out->unified_memory = false;
  out->binding_alignment = 256;
  out->max_allocation = uint64_t(1) << 30;
}

ingot_code_t allocate(Device *d, ingot_driver_memory_kind_t kind, uint64_t size, ingot_driver_memory_t **out, ingot_error_t *error) {
  auto m = std::make_unique<ingot_driver_memory_t>();
  m->size = (size + 3) / 4 * 4;
  std::lock_guard<std::mutex> lock(d->mutex);
  if (const ingot_code_t code = judge(*d, d->backend->allocate(*m, kind == INGOT_MEMORY_DEVICE), error)) return code;
  *out = m.release();
  return INGOT_OK;
}

void release(Device *d, ingot_driver_memory_t *m) {
  std::lock_guard<std::mutex> lock(d->mutex);
  d->backend->release(*m);
  delete m;
}

// Of the kinds UPLOAD and READBACK only, which are the host's.
ingot_code_t map(Device *, ingot_driver_memory_t *m, void **out, ingot_error_t *) {
  *out = m->host.data();
  return INGOT_OK;
}
void unmap(Device *, ingot_driver_memory_t *) {}

ingot_code_t write(Device *d, ingot_driver_memory_t *m, uint64_t offset, const void *data, size_t length, ingot_error_t *error) {
  std::lock_guard<std::mutex> lock(d->mutex);
  return judge(*d, d->backend->write(*m, offset, data, length), error);
}
ingot_code_t read(Device *d, ingot_driver_memory_t *m, uint64_t offset, void *data, size_t length, ingot_error_t *error) {
  std::lock_guard<std::mutex> lock(d->mutex);
  return judge(*d, d->backend->read(*m, offset, data, length), error);
}

// ---- recordings

ingot_code_t stream_create(Device *d, ingot_driver_executable_t *e, ingot_driver_stream_t **out, ingot_error_t *) {
  *out = new ingot_driver_stream_t{d, e};
  return INGOT_OK;
}
void stream_destroy(ingot_driver_stream_t *s) { delete s; }

ingot_code_t recording_create(ingot_driver_stream_t *s, const ingot_driver_recording_size_t *, Recording **out, ingot_error_t *) {
  *out = new Recording;
  (*out)->stream = s;
  return INGOT_OK;
}
void recording_destroy(Recording *r) { delete r; }
void recording_begin(Recording *r, bool) { r->commands.clear(); }

Span span_of(const ingot_driver_span_t &s) { return {s.length ? s.memory : nullptr, s.offset, s.length}; }

void record_dispatch(Recording *r, const ingot_driver_dispatch_t *d) {
  Recording::Command c = {};
  c.what = c.dispatch;
  c.site = d->site;
  c.run.kernel = d->kernel;
  std::copy_n(d->grid, 3, c.run.grid.begin());
  for (uint32_t i = 0; i < d->binding_count; ++i) c.run.bindings.push_back(span_of(d->bindings[i]));
  for (uint32_t i = 0; i < d->param_count; ++i) c.run.params.push_back(static_cast<uint32_t>(d->params[i]));
  r->commands.push_back(std::move(c));
}

void record_copy(Recording *r, const ingot_driver_span_t *target, const ingot_driver_span_t *source) {
  Recording::Command c = {};
  c.what = c.copy;
  c.target = span_of(*target);
  c.source = span_of(*source);
  r->commands.push_back(std::move(c));
}

void record_fill(Recording *r, const ingot_driver_span_t *target, uint64_t pattern, uint32_t pattern_bytes) {
  Recording::Command c = {};
  c.what = c.fill;
  c.target = span_of(*target);
  for (uint64_t i = 0; i < target->length; ++i) c.pattern.push_back(uint8_t(pattern >> (8 * (i % pattern_bytes))));
  r->commands.push_back(std::move(c));
}

void record_barrier(Recording *) {} // commands run in order
ingot_code_t recording_end(Recording *, ingot_error_t *) { return INGOT_OK; }

std::string run_command(Device &d, const ingot_driver_executable_t &e, const Recording::Command &c) {
  switch (c.what) {
  case Recording::Command::dispatch: {
    Dispatch shifted = c.run;
    shifted.kernel += e.first;
    return d.backend->dispatch(e.kernels[c.run.kernel], shifted);
  }
  case Recording::Command::copy: return c.target.length ? d.backend->copy(c.target, c.source) : "";
  default: return c.target.length ? d.backend->write(*c.target.memory, c.target.offset, c.pattern.data(), c.pattern.size()) : "";
  }
}

ingot_code_t submit(ingot_driver_stream_t *s, Recording *const *recordings, uint32_t count, ingot_driver_submit_t *options,
                    ingot_error_t *error) {
  Device &d = *s->device;
  std::lock_guard<std::mutex> lock(d.mutex);
  if (d.lost) return fail(error, INGOT_DEVICE_LOST, "the device failed before");
  uint32_t word = 0;
  for (uint32_t i = 0; i < count; ++i)
    for (const Recording::Command &c : recordings[i]->commands) {
      const bool cancelled = __atomic_load_n(options->cancel, __ATOMIC_RELAXED) != 0;
      if (cancelled || (options->deadline_ns && d.now_ns() > options->deadline_ns)) {
        if (const ingot_code_t code = judge(d, d.backend->finish(&word), error)) return code;
        return cancelled ? fail(error, INGOT_CANCELLED, "the run was cancelled")
                         : fail(error, INGOT_DEADLINE_EXCEEDED, "the run exceeded its deadline");
      }
      const uint64_t start = d.now_ns();
      if (const ingot_code_t code = judge(d, run_command(d, *s->executable, c), error)) return code;
      if (!options->on_dispatch || c.what != c.dispatch) continue;
      const ingot_driver_timing_t timing = {c.run.kernel, c.site, 0, {c.run.grid[0], c.run.grid[1], c.run.grid[2]}, start, d.now_ns()};
      options->on_dispatch(options->user, &timing);
    }
  if (const ingot_code_t code = judge(d, d.backend->finish(&word), error)) return code;
  if (word == 0) return INGOT_OK;
  options->kernel_error = uint64_t((word >> 8) - 1) << 32 | (word & 0xff);
  return fail(error, INGOT_KERNEL_ERROR, "a kernel reported error " + std::to_string(word & 0xff));
}

constexpr ingot_driver_t make_driver(const char *name, const char *description, decltype(ingot_driver_t::probe) probe,
                                     decltype(ingot_driver_t::open) open) {
  ingot_driver_t t = {};
  t.struct_size = sizeof t;
  t.abi = INGOT_DRIVER_ABI;
  t.name = name;
  t.description = description;
  t.probe = probe;
  t.enumerate = enumerate;
  t.open = open;
  t.close = close_device;
  t.describe = describe;
  t.supports = supports;
  t.load = load;
  t.unload = unload;
  t.kernel_version = kernel_version;
  t.properties = properties;
  t.allocate = allocate;
  t.release = release;
  t.map = map;
  t.unmap = unmap;
  t.write = write;
  t.read = read;
  t.stream_create = stream_create;
  t.stream_destroy = stream_destroy;
  t.recording_create = recording_create;
  t.recording_destroy = recording_destroy;
  t.recording_begin = recording_begin;
  t.record_dispatch = record_dispatch;
  t.record_copy = record_copy;
  t.record_fill = record_fill;
  t.record_barrier = record_barrier;
  t.recording_end = recording_end;
  t.submit = submit;
  return t;
}

} // namespace

extern "C" {
extern const ingot_driver_t ingot_driver_metal_shim, ingot_driver_dawn;
const ingot_driver_t ingot_driver_metal_shim = make_driver("metal-shim", "MSL compiled for this CPU, for tests", probe_metal, open_metal);
const ingot_driver_t ingot_driver_dawn = make_driver("dawn", "WGSL in Dawn over SwiftShader, for tests", probe_webgpu, open_webgpu);
}
