// Instances, drivers and devices: URIs, probing, opening, and what a driver gets to see of a variant.
#include "schemas/gpu_abi.h"
#include "src/drivers/table.h"
#include "src/runtime/api/adopt.h"
#include "src/runtime/api/memory.h"

#include <stdio.h>

using namespace ingot;

ingot_device_t::~ingot_device_t() {
  if (device) driver->close(device);
}

namespace ingot {

ingot_driver_host_t driver_host(const ingot_allocator_t &allocator, const ingot_executor_t *executor) {
  return {sizeof(ingot_driver_host_t), allocator, platform::now_ns, executor, false};
}

Code probe_driver(const ingot_driver_t &driver, const ingot_driver_host_t &host, Error *error) {
  if (driver.abi != INGOT_DRIVER_ABI || driver.struct_size < sizeof(ingot_driver_t))
    return fail(error, INGOT_INCOMPATIBLE, "%s: built for driver ABI %u, this runtime has %u", driver.name, driver.abi,
                INGOT_DRIVER_ABI);
  return driver.probe ? driver.probe(&host, error) : INGOT_OK;
}

Code DriverCode::build(const ingot_archive_t &archive, uint32_t variant, const ingot_allocator_t &allocator, Error *error) {
  const schema::Variant *v = archive.variant(variant);
  size_t version_count = 0;
  for (uint32_t i = 0; i < count(v->kernels()); ++i) version_count += count(v->kernels()->Get(i)->versions());
  INGOT_TRY(images_.create(allocator, count(v->executables()), "code images", error));
  INGOT_TRY(kernels_.create(allocator, count(v->kernels()), "kernels", error));
  INGOT_TRY(versions_.create(allocator, version_count, "code versions", error));
  for (uint32_t i = 0; i < images_.size(); ++i) {
    const schema::Executable *e = v->executables()->Get(i);
    images_[i] = {e->format(), archive.segments[e->segment()].data, size_t(archive.segments[e->segment()].size)};
  }
  ingot_driver_code_version_t *next = versions_.data();
  for (uint32_t i = 0; i < kernels_.size(); ++i) {
    const schema::Kernel *k = v->kernels()->Get(i);
    kernels_[i] = {text(k->name()),
                   count(k->bindings()),
                   k->param_count(),
                   count(k->versions()),
                   k->flags(),
                   {k->local_x(), k->local_y(), k->local_z()},
                   k->bindings() ? k->bindings()->data() : nullptr,
                   next};
    for (uint32_t n = 0; n < count(k->versions()); ++n) {
      const schema::CodeVersion *c = k->versions()->Get(n);
      *next++ = {text(c->entry()),   c->symbol_offset(), c->code_size(), c->feature_mask(), c->scratch_bytes(),
                 c->executable(), c->rank(),          c->stack_bytes()};
    }
  }
  code_ = {sizeof code_,          text(v->target()), text(v->arch()), uint32_t(images_.size()), uint32_t(kernels_.size()),
           images_.data(), kernels_.data(), nullptr,        0};
  static_assert(sizeof(schema::TensorMap) == sizeof(ingot_tensor_map_t), "the same layout");
  if (const auto *maps = v->tensor_maps()) {
    code_.tensor_maps = reinterpret_cast<const ingot_tensor_map_t *>(maps->data());
    code_.tensor_map_count = maps->size();
  }
  return INGOT_OK;
}

Code explain_variant(const ingot_archive_t &archive, uint32_t variant, const ingot_device_t &device, Error *error) {
  DriverCode code;
  INGOT_TRY(code.build(archive, variant, device.allocator, error));
  return device.driver->supports(device.device, &code.get(), error);
}

ingot_driver_host_t adopting_host(const ingot_instance_t &instance) { return driver_host(instance.allocator); }

Code adopt_device(const ingot_instance_t &instance, const ingot_driver_t &driver, void *driver_device, const char *uri,
                  ingot_device_t **out, Error *error) {
  ingot_device_t *device = create_object<ingot_device_t>(instance.allocator, "a device", error);
  if (!device) return INGOT_OUT_OF_MEMORY;
  device->allocator = instance.allocator;
  device->driver = &driver;
  device->device = static_cast<ingot_driver_device_t *>(driver_device);
  device->properties.struct_size = sizeof device->properties;
  if (has_own_memory(*device)) driver.properties(device->device, &device->properties);
  snprintf(device->uri, sizeof device->uri, "%s", uri);
  *out = device;
  return INGOT_OK;
}

void *adopted_device(const ingot_device_t *device, const ingot_driver_t &driver) {
  return device->driver == &driver ? device->device : nullptr;
}

namespace {

// driver[:ordinal] or driver://id[?options], cut into its parts.
struct Uri {
  char driver[64] = {}, id[128] = {}, options[512] = {};
  uint32_t ordinal = 0;
  bool has_id = false;
};

bool take(char *out, size_t capacity, const char *from, size_t length) {
  if (length >= capacity) return false;
  memcpy(out, from, length);
  out[length] = 0;
  return true;
}

Code parse_uri(const char *uri, Uri *out, Error *error) {
  const char *colon = strchr(uri, ':');
  const char *query = strchr(uri, '?');
  const char *end = query ? query : uri + strlen(uri);
  if (colon > end) colon = nullptr;
  bool good = take(out->driver, sizeof out->driver, uri, size_t((colon ? colon : end) - uri)) && out->driver[0];
  if (query) good = good && take(out->options, sizeof out->options, query + 1, strlen(query + 1));
  if (good && colon) {
    if (colon[1] == '/' && colon[2] == '/') {
      out->has_id = true;
      good = take(out->id, sizeof out->id, colon + 3, size_t(end - colon - 3)) && out->id[0];
    } else {
      good = colon + 1 != end && end - colon < 8;
      for (const char *c = colon + 1; good && c != end; ++c) {
        good = *c >= '0' && *c <= '9';
        out->ordinal = out->ordinal * 10 + uint32_t(*c - '0');
      }
    }
  }
  if (good) return INGOT_OK;
  return fail(error, INGOT_INVALID_ARGUMENT, "'%.100s' is no device: write driver, driver:ordinal, driver://id?options or auto",
              uri);
}

struct FirstId {
  char id[128];
  uint32_t wanted, seen;
};

// Opens a device of one driver and checks it against the archive.
Code open_with(const ingot_driver_t &driver, const Uri &uri, const ingot_driver_host_t &host,
               const ingot_archive_t *archive, ingot_device_t **out, Error *error) {
  const ingot_allocator_t &allocator = host.allocator;
  INGOT_TRY(probe_driver(driver, host, error));
  ingot_device_t *device = create_object<ingot_device_t>(allocator, "a device", error);
  if (!device) return INGOT_OUT_OF_MEMORY;
  device->allocator = allocator;
  device->driver = &driver;
  Code code = driver.open(&host, uri.has_id ? uri.id : nullptr, uri.ordinal, uri.options, &device->device, error);
  if (code == INGOT_OK && has_own_memory(*device)) {
    device->properties.struct_size = sizeof device->properties;
    driver.properties(device->device, &device->properties);
  }
  if (code == INGOT_OK) {
    FirstId first = {{}, uri.ordinal, 0};
    if (uri.has_id) memcpy(first.id, uri.id, sizeof first.id);
    else
      driver.enumerate(&host, [](void *user, const char *id, const char *) {
        FirstId *f = static_cast<FirstId *>(user);
        if (f->seen++ == f->wanted) snprintf(f->id, sizeof f->id, "%s", id);
      }, &first, error);
    snprintf(device->uri, sizeof device->uri, "%.60s://%.100s%s%.511s", driver.name, first.id, uri.options[0] ? "?" : "",
             uri.options);
    if (archive) {
      code = INGOT_INCOMPATIBLE;
      for (uint32_t v = 0; v < count(archive->root()->variants()) && code != INGOT_OK && code != INGOT_OUT_OF_MEMORY; ++v)
        code = explain_variant(*archive, v, *device, error);
      if (code != INGOT_OK) prefix(error, "%.60s cannot run the archive", device->uri);
    }
  }
  if (code != INGOT_OK) {
    destroy_object(allocator, device);
    return code;
  }
  *out = device;
  return INGOT_OK;
}

Code open_auto(ingot_driver_host_t host, const ingot_archive_t *archive, const char *options,
               ingot_device_t **out, Error *error) {
  Uri uri;
  memcpy(uri.options, options, sizeof uri.options);
  host.automatic = true;
  fail(error, INGOT_UNAVAILABLE, "auto: no driver of this build may be chosen automatically");
  Code code = INGOT_UNAVAILABLE;
  uint32_t below = UINT32_MAX; // highest priority first; a handful of drivers, so no sorting
  for (;;) {
    uint32_t best = 0;
    for (size_t i = 0; i < driver_count(); ++i)
      if (driver_at(i).automatic && driver_at(i).priority < below && driver_at(i).priority > best)
        best = driver_at(i).priority;
    if (best == 0) return code;
    for (size_t i = 0; i < driver_count(); ++i)
      if (driver_at(i).automatic && driver_at(i).priority == best &&
          (code = open_with(driver_at(i), uri, host, archive, out, error)) == INGOT_OK)
        return INGOT_OK;
    below = best;
  }
}

Code open_uri(const char *text, const ingot_driver_host_t &host, const ingot_archive_t *archive, ingot_device_t **out,
              Error *error) {
  if (!text) return null_argument(error, "a device URI");
  Uri uri;
  INGOT_TRY(parse_uri(text, &uri, error));
  if (strings_equal(uri.driver, "auto")) return open_auto(host, archive, uri.options, out, error);
  for (size_t i = 0; i < driver_count(); ++i)
    if (strings_equal(driver_at(i).name, uri.driver)) return open_with(driver_at(i), uri, host, archive, out, error);
  char known[256] = {};
  size_t length = 0;
  for (size_t i = 0; i < driver_count() && length < 200; ++i)
    length += size_t(snprintf(known + length, sizeof known - length, " %.30s", driver_at(i).name));
  return fail(error, INGOT_NOT_FOUND, "no driver '%.60s' in this build; it has:%s", uri.driver, known);
}

} // namespace
} // namespace ingot

extern "C" {

ingot_code_t ingot_instance_create(const ingot_allocator_t *allocator, ingot_instance_t **out, ingot_error_t *error) {
  if (!out) return null_argument(error, "out");
  const ingot_allocator_t resolved = resolve_allocator(allocator);
  ingot_instance_t *instance = create_object<ingot_instance_t>(resolved, "an instance", error);
  if (!instance) return INGOT_OUT_OF_MEMORY;
  instance->allocator = resolved;
  *out = instance;
  return INGOT_OK;
}

void ingot_instance_release(ingot_instance_t *instance) {
  if (instance && instance->references.release()) destroy_object(instance->allocator, instance);
}

size_t ingot_driver_count(const ingot_instance_t *) { return driver_count(); }

ingot_code_t ingot_driver_info(const ingot_instance_t *instance, size_t index, ingot_driver_info_t *out) {
  if (!instance || !out) return INGOT_INVALID_ARGUMENT;
  if (index >= driver_count()) return INGOT_OUT_OF_RANGE;
  const ingot_driver_t &driver = driver_at(index);
  out->name = driver.name;
  out->description = driver.description;
  out->reason.code = INGOT_OK;
  out->reason.message[0] = 0;
  out->available = probe_driver(driver, driver_host(instance->allocator), &out->reason);
  return INGOT_OK;
}

ingot_code_t ingot_enumerate_devices(const ingot_instance_t *instance, const char *name,
                                     void (*visit)(void *, const char *, const char *), void *user, ingot_error_t *error) {
  Error unwanted;
  if (!error) error = &unwanted;
  if (!instance || !visit) return null_argument(error, instance ? "visit" : "instance");
  struct Wrap {
    const ingot_driver_t *driver;
    void (*visit)(void *, const char *, const char *);
    void *user;
  };
  const ingot_driver_host_t host = driver_host(instance->allocator);
  bool found = false;
  for (size_t i = 0; i < driver_count(); ++i) {
    const ingot_driver_t &driver = driver_at(i);
    if (name && !strings_equal(name, driver.name)) continue;
    found = true;
    Wrap wrap = {&driver, visit, user};
    Code code = probe_driver(driver, host, error);
    if (code == INGOT_OK)
      code = driver.enumerate(&host, [](void *w, const char *id, const char *device) {
        const Wrap *wrap = static_cast<Wrap *>(w);
        char uri[256];
        snprintf(uri, sizeof uri, "%s://%s", wrap->driver->name, id);
        wrap->visit(wrap->user, uri, device);
      }, &wrap, error);
    if (code != INGOT_OK && name) return code; // a driver that is not there counts only where it was asked for
  }
  return found ? INGOT_OK : fail(error, INGOT_NOT_FOUND, "no driver '%.60s' in this build", name);
}

ingot_code_t ingot_device_open(ingot_instance_t *instance, const char *const *uris, size_t uri_count,
                               const ingot_archive_t *archive, ingot_device_t **out, ingot_error_t *error) {
  return ingot_device_open_with(instance, uris, uri_count, archive, nullptr, out, error);
}

ingot_code_t ingot_device_open_with(ingot_instance_t *instance, const char *const *uris, size_t uri_count,
                                    const ingot_archive_t *archive, const ingot_device_options_t *options,
                                    ingot_device_t **out, ingot_error_t *error) {
  Error unwanted;
  if (!error) error = &unwanted;
  if (!instance || !out || (!uris && uri_count)) return null_argument(error, !instance ? "instance" : out ? "uris" : "out");
  if (uri_count == 0) return fail(error, INGOT_INVALID_ARGUMENT, "no device URI given");
  const ingot_executor_t *executor = nullptr;
  if (options) {
    if (options->struct_size < sizeof *options)
      return fail(error, INGOT_INVALID_ARGUMENT, "device options: struct_size is %zu, at least %zu expected",
                  options->struct_size, sizeof *options);
    executor = options->executor;
  }
  if (executor && executor->struct_size < sizeof *executor)
    return fail(error, INGOT_INVALID_ARGUMENT, "an executor: struct_size is %zu, at least %zu expected",
                executor->struct_size, sizeof *executor);
  if (executor && !executor->start) return null_argument(error, "the executor's start");
  const ingot_driver_host_t host = driver_host(instance->allocator, executor);
  if (uri_count == 1) return open_uri(uris[0], host, archive, out, error);
  char reasons[sizeof error->message] = {}; // every reason, one after the other
  size_t length = 0;
  Code code = INGOT_OK;
  for (size_t i = 0; i < uri_count; ++i) {
    Error one;
    code = open_uri(uris[i], host, archive, out, &one);
    if (code == INGOT_OK) return code;
    if (length < sizeof reasons)
      length += size_t(snprintf(reasons + length, sizeof reasons - length, "%s%s", i ? "; " : "", one.message));
  }
  return fail(error, code, "%s", reasons);
}

void ingot_device_release(ingot_device_t *device) {
  if (device && device->references.release()) destroy_object(device->allocator, device);
}

const char *ingot_device_uri(const ingot_device_t *device) { return device ? device->uri : ""; }

ingot_code_t ingot_device_describe(const ingot_device_t *device, void (*visit)(void *, const char *, const char *),
                                   void *user, ingot_error_t *error) {
  Error unwanted;
  if (!error) error = &unwanted;
  if (!device || !visit) return null_argument(error, device ? "visit" : "device");
  return device->driver->describe(device->device, visit, user, error);
}

ingot_code_t ingot_archive_explain(const ingot_archive_t *archive, uint32_t variant, const ingot_device_t *device,
                                   ingot_error_t *error) {
  Error unwanted;
  if (!error) error = &unwanted;
  if (!archive || !device) return null_argument(error, archive ? "device" : "archive");
  if (variant >= count(archive->root()->variants()))
    return fail(error, INGOT_OUT_OF_RANGE, "the archive has no variant %u", variant);
  return explain_variant(*archive, variant, *device, error);
}

} // extern "C"
