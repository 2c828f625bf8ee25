// Native code of an archive (target llvm-cpu), loaded: an ELF64 file without imports and relocations, whose loadable parts
// are copied into pages of their own. A card with an instruction set of its own would upload the image instead.
#pragma once

#include <cstddef>
#include <cstdint>

namespace card {

class Image {
public:
  Image() = default;
  Image(const Image &) = delete;
  ~Image();
  // Null, or what is wrong.
  const char *load(const void *data, size_t size);
  // The code at a virtual address of the image; null where there is none.
  const void *at(uint64_t address) const { return address < size_ ? base_ + address : nullptr; }

private:
  uint8_t *base_ = nullptr;
  size_t size_ = 0;
};

} // namespace card
