// Blocks of memory on a device: from the host's allocator where the driver works in host memory, else from the driver.
#pragma once

#include "src/runtime/api/objects.h"

namespace ingot {

inline bool has_own_memory(const ingot_device_t &device) { return INGOT_DEVICE_MEMORY && !device.driver->host_memory; }

// Bytes that commands may name: `offset` into `memory` (`host`: where its start is mapped, or null), or past `host`
// where `memory` is null.
struct Place {
  ingot_driver_memory_t *memory = nullptr;
  uint8_t *host = nullptr;
  uint64_t offset = 0;
  uint64_t serial = 0; // of `memory`
  bool operator==(const Place &o) const {
    return memory == o.memory && host == o.host && offset == o.offset && serial == o.serial;
  }
  bool operator!=(const Place &o) const { return !(*this == o); }
};

inline Place place_in(const Block &block, uint64_t offset) { return {block.memory, block.host, offset, block.serial}; }
inline ingot_driver_span_t span_of(const Place &p, uint64_t length) {
  return {p.memory, p.memory ? nullptr : p.host, p.offset, length};
}
// For a Block of memory that was just made or imported.
inline uint64_t next_serial(const ingot_device_t &device) { return device.memories.fetch_add(1, std::memory_order_relaxed) + 1; }
inline bool is_null(const Place &p) { return !p.memory && !p.host; }

// Makes a block of `size` bytes, contents undefined; size 0 gives an empty one. Blocks of drivers with memory of their own
// are mapped where the kind or unified memory allows. On failure *out is untouched, and the message names `what`.
Code create_block(const ingot_device_t &device, const ingot_allocator_t &allocator, ingot_driver_memory_kind_t kind,
                  uint64_t size, const char *what, Block *out, Error *error);
void release_block(const ingot_device_t &device, const ingot_allocator_t &allocator, Block *block);

// Host bytes to a block that no command is using, and back. Pre: inside the block.
Code write_block(const ingot_device_t &device, const Block &block, uint64_t offset, const void *data, uint64_t size, Error *error);
Code read_block(const ingot_device_t &device, const Block &block, uint64_t offset, void *data, uint64_t size, Error *error);
// Sets bytes to a repeated pattern of 1, 2, 4 or 8 bytes; size need not be a multiple of it.
Code fill_block(const ingot_device_t &device, const Block &block, uint64_t offset, uint64_t size, uint64_t pattern,
                uint32_t pattern_bytes, Error *error);

} // namespace ingot
