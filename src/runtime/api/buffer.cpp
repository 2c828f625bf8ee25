// Device buffers.
#include "src/runtime/api/adopt.h"
#include "src/runtime/api/memory.h"

using namespace ingot;

namespace {

Code make(ingot_device_t *device, ingot_buffer_t **out, Error *error) {
  if (!device || !out) return null_argument(error, device ? "out" : "device");
  ingot_buffer_t *buffer = create_object<ingot_buffer_t>(device->allocator, "a buffer", error);
  if (!buffer) return INGOT_OUT_OF_MEMORY;
  device->references.retain();
  buffer->device = device;
  *out = buffer;
  return INGOT_OK;
}

// Wraps the caller's memory.
Code import_memory(ingot_device_t &device, void *data, size_t size, Block *out, Error *error) {
  Block block = {static_cast<uint8_t *>(data), nullptr, size, 0};
  if (has_own_memory(device) && size) {
    if (!device.driver->import)
      return fail(error, INGOT_UNIMPLEMENTED, "%.80s cannot import host memory: allocate a buffer and write to it", device.uri);
    INGOT_TRY(device.driver->import(device.device, data, size, &block.memory, error));
    block.serial = next_serial(device);
  }
  *out = block;
  return INGOT_OK;
}

Code check(const ingot_buffer_t *buffer, size_t offset, const void *data, size_t size, Error *error) {
  if (!buffer || (!data && size)) return null_argument(error, buffer ? "data" : "buffer");
  if (!fits(offset, size, buffer->block.size))
    return fail(error, INGOT_OUT_OF_RANGE, "%zu bytes at %zu reach past the end of a buffer of %zu", size, offset,
                size_t(buffer->block.size));
  return INGOT_OK;
}

} // namespace

Code ingot::adopt_buffer(ingot_device_t *device, void *driver_memory, uint64_t size, ingot_buffer_t **out, Error *error) {
  ingot_buffer_t *buffer = nullptr;
  INGOT_TRY(make(device, &buffer, error));
  buffer->block = {nullptr, static_cast<ingot_driver_memory_t *>(driver_memory), size, next_serial(*device)};
  *out = buffer;
  return INGOT_OK;
}

extern "C" {

ingot_code_t ingot_buffer_allocate(ingot_device_t *device, size_t size, ingot_buffer_t **out, ingot_error_t *error) {
  ingot_buffer_t *buffer = nullptr;
  Error unwanted;
  if (!error) error = &unwanted;
  if (!out) return null_argument(error, "out");
  INGOT_TRY(make(device, &buffer, error));
  buffer->owned = true;
  if (const Code code = create_block(*device, device->allocator, INGOT_MEMORY_DEVICE, size, "a buffer", &buffer->block, error)) {
    ingot_buffer_release(buffer);
    return code;
  }
  *out = buffer;
  return INGOT_OK;
}

ingot_code_t ingot_buffer_import(ingot_device_t *device, void *data, size_t size, ingot_buffer_t **out,
                                 ingot_error_t *error) {
  ingot_buffer_t *buffer = nullptr;
  Error unwanted;
  if (!error) error = &unwanted;
  if (!out || (!data && size)) return null_argument(error, out ? "data" : "out");
  INGOT_TRY(make(device, &buffer, error));
  if (const Code code = import_memory(*device, data, size, &buffer->block, error)) {
    ingot_buffer_release(buffer);
    return code;
  }
  *out = buffer;
  return INGOT_OK;
}

void ingot_buffer_release(ingot_buffer_t *buffer) {
  if (!buffer || !buffer->references.release()) return;
  ingot_device_t *device = buffer->device;
  if (buffer->owned) release_block(*device, device->allocator, &buffer->block);
  else if (buffer->block.memory) device->driver->release(device->device, buffer->block.memory);
  destroy_object(device->allocator, buffer);
  ingot_device_release(device);
}

size_t ingot_buffer_size(const ingot_buffer_t *buffer) { return buffer ? size_t(buffer->block.size) : 0; }

ingot_code_t ingot_buffer_write(ingot_buffer_t *buffer, size_t offset, const void *data, size_t size, ingot_error_t *error) {
  Error unwanted;
  if (!error) error = &unwanted;
  INGOT_TRY(check(buffer, offset, data, size, error));
  return write_block(*buffer->device, buffer->block, offset, data, size, error);
}

ingot_code_t ingot_buffer_read(ingot_buffer_t *buffer, size_t offset, void *data, size_t size, ingot_error_t *error) {
  Error unwanted;
  if (!error) error = &unwanted;
  INGOT_TRY(check(buffer, offset, data, size, error));
  return read_block(*buffer->device, buffer->block, offset, data, size, error);
}

} // extern "C"
