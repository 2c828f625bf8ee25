// The application's own context, stream and memory (<ingot/cuda.h>).
#include <stdio.h>

#include <ingot/cuda.h>

#include "src/drivers/cuda/cuda.h"
#include "src/runtime/api/adopt.h"

using namespace ingot;
using namespace ingot::stream;

namespace {

Code null(Error *error, const char *what) { return fail(error, INGOT_INVALID_ARGUMENT, "%s is NULL (did the call that makes it fail?)", what); }

Code import_into(ingot_driver_device_t &d, const ingot_cuda_import_t &given, const char *options, Error *error) {
  INGOT_TRY(parse_options(d, options, error));
  INGOT_TRY(find_library(cuda::kVendor, &d.api, error));
  int count = 0;
  INGOT_STREAM_TRY(d, d.api.DeviceGetCount(&count), "counting devices");
  if (given.ordinal < 0 || given.ordinal >= count) return fail(error, INGOT_NOT_FOUND, "cuda: no device %d: there are %d", given.ordinal, count);
  INGOT_TRY(look_at(cuda::kVendor, d.api, given.ordinal, &d.physical, error));
  d.api.DriverGetVersion(&d.driver_version);
  if (given.context) {
    d.context = reinterpret_cast<Context>(given.context);
  } else {
    INGOT_STREAM_TRY(d, d.api.PrimaryRetain(&d.context, d.physical.handle), "retaining the primary context");
    d.retained = true;
  }
  d.shared_stream = given.stream != nullptr;
  d.application_stream = reinterpret_cast<Stream>(given.stream);
  Current current(d);
  return open_pool(d, error);
}

} // namespace

extern "C" {

ingot_code_t ingot_cuda_device_import(ingot_instance_t *instance, const ingot_cuda_import_t *given, const char *options,
                                      ingot_device_t **out, ingot_error_t *error) {
  Error unwanted;
  if (!error) error = &unwanted;
  if (!instance || !given || !out) return null(error, !instance ? "instance" : !given ? "given" : "out");
  if (given->struct_size < sizeof *given)
    return fail(error, INGOT_INVALID_ARGUMENT, "a CUDA device: struct_size is %zu, at least %zu expected", given->struct_size, sizeof *given);
  const ingot_driver_host_t host = adopting_host(*instance);
  ingot_driver_device_t *d = create_object<ingot_driver_device_t>(host.allocator, "a device", error);
  if (!d) return INGOT_OUT_OF_MEMORY;
  d->vendor = &cuda::kVendor;
  d->allocator = host.allocator;
  d->now_ns = host.now_ns;
  Code code = import_into(*d, *given, options ? options : "", error);
  char uri[64];
  snprintf(uri, sizeof uri, "cuda://%s", d->physical.id);
  if (code == INGOT_OK) code = adopt_device(*instance, ingot_driver_cuda, d, uri, out, error);
  if (code != INGOT_OK) close_device(d);
  return code;
}

ingot_code_t ingot_cuda_buffer_import(ingot_device_t *device, uint64_t pointer, uint64_t size, ingot_buffer_t **out, ingot_error_t *error) {
  Error unwanted;
  if (!error) error = &unwanted;
  if (!device || !pointer || !out) return null(error, !device ? "device" : !pointer ? "pointer" : "out");
  auto *d = static_cast<ingot_driver_device_t *>(adopted_device(device, ingot_driver_cuda));
  if (!d) return fail(error, INGOT_INVALID_ARGUMENT, "%.80s is no device of the driver cuda", ingot_device_uri(device));
  if (size == 0) return fail(error, INGOT_INVALID_ARGUMENT, "cuda: a buffer of no bytes cannot be imported");
  if (pointer % 16 != 0)
    return fail(error, INGOT_INVALID_ARGUMENT, "cuda: a buffer at 0x%llx: the driver needs a multiple of 16 (set a tensor's buffer_offset for others)",
                (unsigned long long)pointer);
  ingot_driver_memory_t *memory = create_object<ingot_driver_memory_t>(d->allocator, "an imported buffer", error);
  if (!memory) return INGOT_OUT_OF_MEMORY;
  memory->address = pointer;
  memory->size = size;
  memory->owner = ingot_driver_memory_t::application;
  const Code code = adopt_buffer(device, memory, size, out, error);
  if (code != INGOT_OK) release(d, memory);
  return code;
}

} // extern "C"
