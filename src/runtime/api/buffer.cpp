// Device buffers, for drivers whose device is the host.
#include "src/runtime/api/objects.h"

using namespace ingot;

namespace {

Code make(ingot_device_t *device, size_t size, ingot_buffer_t **out, Error *error) {
  if (!device || !out) return null_argument(error, device ? "out" : "device");
  if (!device->driver->host_memory)
    return fail(error, INGOT_UNIMPLEMENTED, "%s: buffers of devices with memory of their own are not implemented yet",
                device->driver->name);
  ingot_buffer_t *buffer = create_object<ingot_buffer_t>(device->allocator, "a buffer", error);
  if (!buffer) return INGOT_OUT_OF_MEMORY;
  device->references.retain();
  buffer->device = device;
  buffer->size = size;
  *out = buffer;
  return INGOT_OK;
}

Code check(const ingot_buffer_t *buffer, size_t offset, const void *data, size_t size, Error *error) {
  if (!buffer || (!data && size)) return null_argument(error, buffer ? "data" : "buffer");
  if (!fits(offset, size, buffer->size))
    return fail(error, INGOT_OUT_OF_RANGE, "%zu bytes at %zu reach past the end of a buffer of %zu", size, offset, buffer->size);
  return INGOT_OK;
}

} // namespace

extern "C" {

ingot_code_t ingot_buffer_allocate(ingot_device_t *device, size_t size, ingot_buffer_t **out, ingot_error_t *error) {
  if (!out) return null_argument(error, "out");
  ingot_buffer_t *buffer = nullptr;
  INGOT_TRY(make(device, size, &buffer, error));
  buffer->owned = true;
  if (size) {
    buffer->data = static_cast<uint8_t *>(allocate_bytes(device->allocator, size, 1, kAlignment));
    if (!buffer->data) {
      ingot_buffer_release(buffer);
      return fail(error, INGOT_OUT_OF_MEMORY, "out of memory: a buffer of %zu bytes", size);
    }
  }
  *out = buffer;
  return INGOT_OK;
}

ingot_code_t ingot_buffer_import(ingot_device_t *device, void *data, size_t size, ingot_buffer_t **out,
                                 ingot_error_t *error) {
  if (!data && size) return null_argument(error, "data");
  INGOT_TRY(make(device, size, out, error));
  (*out)->data = static_cast<uint8_t *>(data);
  return INGOT_OK;
}

void ingot_buffer_release(ingot_buffer_t *buffer) {
  if (!buffer || !buffer->references.release()) return;
  ingot_device_t *device = buffer->device;
  if (buffer->owned) release_bytes(device->allocator, buffer->data, buffer->size, kAlignment);
  destroy_object(device->allocator, buffer);
  ingot_device_release(device);
}

size_t ingot_buffer_size(const ingot_buffer_t *buffer) { return buffer ? buffer->size : 0; }

ingot_code_t ingot_buffer_write(ingot_buffer_t *buffer, size_t offset, const void *data, size_t size, ingot_error_t *error) {
  INGOT_TRY(check(buffer, offset, data, size, error));
  if (size) memcpy(buffer->data + offset, data, size);
  return INGOT_OK;
}

ingot_code_t ingot_buffer_read(ingot_buffer_t *buffer, size_t offset, void *data, size_t size, ingot_error_t *error) {
  INGOT_TRY(check(buffer, offset, data, size, error));
  if (size) memcpy(data, buffer->data + offset, size);
  return INGOT_OK;
}

} // extern "C"
