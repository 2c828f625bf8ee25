// Loads native code without the system's loader: an ELF64 shared object that imports nothing, has no relocations and no
// writable data is copied into fresh pages, which then become read-only or executable, never writable again.
// The same on any operating system.
#pragma once

#include "src/runtime/base.h"

namespace ingot {

class ElfImage {
public:
  ElfImage() = default;
  ElfImage(const ElfImage &) = delete;
  ElfImage &operator=(const ElfImage &) = delete;
  ~ElfImage();

  // INGOT_CORRUPT where the image is malformed or has what it must not have; INGOT_INCOMPATIBLE for another machine.
  Code load(const uint8_t *data, uint64_t size, Error *error);
  // The function at a virtual address of the image; null where no executable segment holds it.
  const void *at(uint64_t address) const;

private:
  uint8_t *base_ = nullptr;
  uint64_t size_ = 0;
  struct Range {
    uint64_t begin, end;
  };
  static constexpr uint32_t kMaxRanges = 8;
  Range code_[kMaxRanges] = {};
  uint32_t code_count_ = 0;
};

} // namespace ingot
