// See memory.h.
#include "src/runtime/api/memory.h"

namespace ingot {

Code create_block(const ingot_device_t &device, const ingot_allocator_t &allocator, ingot_driver_memory_kind_t kind,
                  uint64_t size, const char *what, Block *out, Error *error) {
  if (size == 0) {
    *out = {};
    return INGOT_OK;
  }
  Block block;
  block.size = size;
  if (!has_own_memory(device)) {
    if (size <= SIZE_MAX / 2) block.host = static_cast<uint8_t *>(allocate_bytes(allocator, size_t(size), 1, kAlignment));
    if (!block.host) return fail(error, INGOT_OUT_OF_MEMORY, "out of memory: %llu bytes for %s", (unsigned long long)size, what);
    *out = block;
    return INGOT_OK;
  }
  const ingot_driver_t &driver = *device.driver;
  if (size > device.properties.max_allocation)
    return fail(error, INGOT_OUT_OF_MEMORY, "%.80s: %llu bytes for %s: one allocation holds %llu at most", device.uri,
                (unsigned long long)size, what, (unsigned long long)device.properties.max_allocation);
  if (const Code code = driver.allocate(device.device, kind, size, &block.memory, error)) {
    prefix(error, "%llu bytes for %s", (unsigned long long)size, what);
    return code;
  }
  if (kind != INGOT_MEMORY_DEVICE || device.properties.unified_memory) {
    void *host = nullptr;
    if (const Code code = driver.map(device.device, block.memory, &host, error)) {
      driver.release(device.device, block.memory);
      return code;
    }
    block.host = static_cast<uint8_t *>(host);
  }
  block.serial = next_serial(device);
  *out = block;
  return INGOT_OK;
}

void release_block(const ingot_device_t &device, const ingot_allocator_t &allocator, Block *block) {
  if (!has_own_memory(device)) release_bytes(allocator, block->host, size_t(block->size), kAlignment);
  else if (block->memory) {
    if (block->host) device.driver->unmap(device.device, block->memory);
    device.driver->release(device.device, block->memory);
  }
  *block = {};
}

Code write_block(const ingot_device_t &device, const Block &block, uint64_t offset, const void *data, uint64_t size, Error *error) {
  if (size == 0) return INGOT_OK;
  if (has_own_memory(device) && !block.host)
    return device.driver->write(device.device, block.memory, offset, data, size_t(size), error);
  memcpy(block.host + offset, data, size_t(size));
  return INGOT_OK;
}

Code read_block(const ingot_device_t &device, const Block &block, uint64_t offset, void *data, uint64_t size, Error *error) {
  if (size == 0) return INGOT_OK;
  if (has_own_memory(device) && !block.host)
    return device.driver->read(device.device, block.memory, offset, data, size_t(size), error);
  memcpy(data, block.host + offset, size_t(size));
  return INGOT_OK;
}

Code fill_block(const ingot_device_t &device, const Block &block, uint64_t offset, uint64_t size, uint64_t pattern,
                uint32_t pattern_bytes, Error *error) {
  const auto fill = [&](uint8_t *target, uint64_t bytes) {
    for (uint64_t i = 0; i < bytes; ++i) target[i] = uint8_t(pattern >> (8 * (i % pattern_bytes)));
  };
  if (size == 0) return INGOT_OK;
  if (!INGOT_DEVICE_MEMORY || block.host) {
    fill(block.host + offset, size);
    return INGOT_OK;
  }
  const uint64_t whole = 1 << 20, chunk = size < whole ? size : whole; // a multiple of every pattern
  uint8_t *const bytes = static_cast<uint8_t *>(allocate_bytes(device.allocator, size_t(chunk), 1, kAlignment));
  if (!bytes) return fail(error, INGOT_OUT_OF_MEMORY, "out of memory: %llu bytes to fill from", (unsigned long long)chunk);
  fill(bytes, chunk);
  Code code = INGOT_OK;
  for (uint64_t at = 0; code == INGOT_OK && at < size; at += chunk)
    code = write_block(device, block, offset + at, bytes, size - at < chunk ? size - at : chunk, error);
  release_bytes(device.allocator, bytes, size_t(chunk), kAlignment);
  return code;
}

} // namespace ingot
