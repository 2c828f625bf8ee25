// Finding, opening and describing devices.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/drivers/stream/stream.h"
#include "src/runtime/platform/platform.h"

namespace ingot::stream {

Code failed(ingot_driver_device_t &device, Error *error, int result, const char *what) {
  const char *name = nullptr;
  if (!device.api.GetErrorName || device.api.GetErrorName(result, &name) != kSuccess || !name) name = "an error without a name";
  const char *const driver = device.vendor->name;
  if (is_loss(result)) {
    device.lost.store(true, std::memory_order_relaxed);
    if (result == 700)
      return fail(error, INGOT_DEVICE_LOST, "%s: %s: a kernel touched memory that is not there (%s); open the device again for a new start", driver, what, name);
    return fail(error, INGOT_DEVICE_LOST, "%s: %s: the device was lost (%s); open it again for a new start", driver, what, name);
  }
  if (result == kOutOfMemory) return fail(error, INGOT_OUT_OF_MEMORY, "%s: %s: out of memory", driver, what);
  return fail(error, INGOT_INTERNAL, "%s: %s failed with code %d, %s", driver, what, result, name);
}

Code find_library(const Vendor &vendor, Api *api, Error *error) {
  // It stays loaded: such libraries do not survive being unloaded.
  void *library = nullptr;
  const char *name = nullptr;
  for (uint32_t i = 0; i < 4 && vendor.libraries[i] && !library; ++i)
    library = dlopen(name = vendor.libraries[i], RTLD_NOW | RTLD_LOCAL);
  if (!library) return fail(error, INGOT_UNAVAILABLE, "%s: no %s on this machine: install the GPU's driver", vendor.name, vendor.libraries[0]);
  const char *missing = nullptr;
  if (!vendor.find(library, api, &missing)) return fail(error, INGOT_UNAVAILABLE, "%s: %s has no %s: it is too old", vendor.name, name, missing);
  const int result = api->Init(0);
  if (result != kSuccess) return fail(error, INGOT_UNAVAILABLE, "%s: no GPU that the driver can use (code %d)", vendor.name, result);
  return INGOT_OK;
}

Code look_at(const Vendor &vendor, const Api &api, int ordinal, Physical *out, Error *error) {
  Physical &p = *out;
  uint8_t uuid[16] = {};
  size_t bytes = 0;
  int wrong = api.DeviceGet(&p.handle, ordinal);
  if (!wrong) wrong = api.DeviceGetName(p.name, int(sizeof p.name), p.handle);
  if (!wrong) wrong = api.DeviceGetUuid(uuid, p.handle);
  if (!wrong) wrong = api.DeviceTotalMem(&bytes, p.handle);
  const auto number = [&](int attribute, int *value) {
    if (!wrong) wrong = api.DeviceGetAttribute(value, attribute, p.handle);
  };
  int major = 0, minor = 0;
  number(vendor.major, &major);
  number(vendor.minor, &minor);
  number(vendor.max_threads, &p.max_threads);
  number(vendor.warp_size, &p.warp_size);
  number(vendor.shared_bytes, &p.shared_bytes);
  if (vendor.large_shared_bytes) number(vendor.large_shared_bytes, &p.large_shared_bytes);
  number(vendor.multiprocessors, &p.multiprocessors);
  for (int i = 0; i < 3; ++i) {
    number(vendor.max_block[i], &p.max_block[i]);
    number(vendor.max_grid[i], &p.max_grid[i]);
  }
  if (wrong) return fail(error, INGOT_UNAVAILABLE, "%s: device %d does not say what it is (code %d)", vendor.name, ordinal, wrong);
  p.capability = major * 10 + minor;
  if (!vendor.architecture(api, &p)) return fail(error, INGOT_UNAVAILABLE, "%s: device %d does not say what its architecture is", vendor.name, ordinal);
  p.memory_bytes = bytes;
  p.tensor_maps = api.TensorMapEncode != nullptr;
  for (int i = 0; i < 16; ++i) snprintf(p.id + 2 * i, 3, "%02x", uuid[i]);
  return INGOT_OK;
}

Code parse_options(ingot_driver_device_t &d, const char *text, Error *error) {
  while (*text) {
    const size_t length = strcspn(text, "&");
    if (length > 6 && memcmp(text, "cache=", 6) == 0 && length - 6 < sizeof d.cache_folder) {
      memcpy(d.cache_folder, text + 6, length - 6);
      d.cache_folder[length - 6] = 0;
    } else if (length == 11 && (memcmp(text, "dependent=1", 11) == 0 || memcmp(text, "dependent=0", 11) == 0)) {
      d.dependent = text[10] == '1';
    } else if (length > 5 && length < 14 && memcmp(text, "pool=", 5) == 0 && strspn(text + 5, "0123456789") == length - 5) {
      d.pool_bytes = int64_t(strtoull(text + 5, nullptr, 10)) << 20;
    } else {
      return fail(error, INGOT_INVALID_ARGUMENT, "%s: unknown option '%.60s': known are cache=FOLDER, dependent=0 and pool=MIB", d.vendor->name,
                  text);
    }
    text += length + (text[length] == '&');
  }
  uint64_t size = 0;
  if (d.cache_folder[0] && platform::file_size(d.cache_folder, &size, nullptr) != INGOT_IO) // what a folder says, as it is no file
    return fail(error, INGOT_NOT_FOUND, "%s: cache=%.200s is no folder: make it first", d.vendor->name, d.cache_folder);
  return INGOT_OK;
}

namespace {

Code count_devices(const Vendor &vendor, Api *api, int *count, Error *error) {
  INGOT_TRY(find_library(vendor, api, error));
  const int result = api->DeviceGetCount(count);
  if (result != kSuccess || *count == 0) return fail(error, INGOT_UNAVAILABLE, "%s: no device (code %d)", vendor.name, result);
  return INGOT_OK;
}

Code open_into(ingot_driver_device_t &d, const char *id, uint32_t ordinal, const char *options, Error *error) {
  INGOT_TRY(parse_options(d, options, error));
  int count = 0;
  INGOT_TRY(count_devices(*d.vendor, &d.api, &count, error));
  if (id) {
    ordinal = INGOT_NONE;
    for (int i = 0; i < count && ordinal == INGOT_NONE; ++i) {
      INGOT_TRY(look_at(*d.vendor, d.api, i, &d.physical, error));
      if (strings_equal(d.physical.id, id)) ordinal = uint32_t(i);
    }
    if (ordinal == INGOT_NONE)
      return fail(error, INGOT_NOT_FOUND, "%s: no device '%.60s': `ingot list-devices %s` lists them", d.vendor->name, id, d.vendor->name);
  }
  if (ordinal >= uint32_t(count)) return fail(error, INGOT_NOT_FOUND, "%s: no device %u: there are %d", d.vendor->name, ordinal, count);
  INGOT_TRY(look_at(*d.vendor, d.api, int(ordinal), &d.physical, error));
  d.api.DriverGetVersion(&d.driver_version);
  INGOT_STREAM_TRY(d, d.api.PrimaryRetain(&d.context, d.physical.handle), "retaining the primary context");
  d.retained = true;
  Current current(d);
  return open_pool(d, error);
}

} // namespace

Code probe(const Vendor &vendor, Error *error) {
  Api api;
  int count = 0;
  return count_devices(vendor, &api, &count, error);
}

Code enumerate(const Vendor &vendor, ingot_driver_visit_t visit, void *user, Error *error) {
  Api api;
  int count = 0;
  INGOT_TRY(count_devices(vendor, &api, &count, error));
  for (int i = 0; i < count; ++i) {
    Physical p;
    INGOT_TRY(look_at(vendor, api, i, &p, error));
    visit(user, p.id, p.name);
  }
  return INGOT_OK;
}

Code open_device(const Vendor &vendor, const ingot_driver_host_t *host, const char *id, uint32_t ordinal, const char *options,
                 ingot_driver_device_t **out, Error *error) {
  ingot_driver_device_t *d = create_object<ingot_driver_device_t>(host->allocator, "a device", error);
  if (!d) return INGOT_OUT_OF_MEMORY;
  d->vendor = &vendor;
  d->allocator = host->allocator;
  d->now_ns = host->now_ns;
  if (const Code code = open_into(*d, id, ordinal, options, error)) {
    destroy_object(host->allocator, d);
    return code;
  }
  *out = d;
  return INGOT_OK;
}

void close_device(ingot_driver_device_t *device) { destroy_object(device->allocator, device); }

Code describe(ingot_driver_device_t *d, ingot_driver_visit_t visit, void *user, Error *) {
  const Physical &p = d->physical;
  char text[64];
  const auto number = [&](const char *key, uint64_t value) {
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    visit(user, key, text);
  };
  visit(user, "name", p.name);
  visit(user, "architecture", p.architecture);
  snprintf(text, sizeof text, "%d.%d", d->driver_version / 1000, d->driver_version % 1000 / 10);
  visit(user, "driver", text);
  number("subgroup size", uint64_t(p.warp_size));
  number("multiprocessors", uint64_t(p.multiprocessors));
  number("memory bytes", p.memory_bytes);
  visit(user, "memory", "discrete");
  if (d->pool) number("memory pool bytes", uint64_t(d->pool_bytes));
  number("workgroup invocations", uint64_t(p.max_threads));
  number("workgroup memory bytes", uint64_t(p.shared_bytes));
  if (p.large_shared_bytes) number("workgroup memory bytes at launch", uint64_t(p.large_shared_bytes));
  return INGOT_OK;
}

void properties(ingot_driver_device_t *d, ingot_driver_properties_t *out) {
  out->unified_memory = false;
  out->binding_alignment = 16; // of the widest access of a kernel
  out->max_allocation = d->physical.memory_bytes;
}

} // namespace ingot::stream

using namespace ingot::stream;

ingot_driver_device_t::~ingot_driver_device_t() {
  if (!context) return;
  {
    Current current(*this);
    if (staging) release(this, staging);
    for (Event e : staged)
      if (e) api.EventDestroy(e);
    if (transfer_stream) api.StreamDestroy(transfer_stream);
    close_pool(*this);
  }
  if (retained) api.PrimaryRelease(physical.handle);
}
