// Damage for archives: flips, random bytes, and checksums made right again so that the damage reaches the verifier.
#pragma once

#include <cstring>
#include <vector>

#include "schemas/header.h"
#include "src/runtime/archive/hash.h"

namespace mutate {

// A small generator, the same everywhere.
struct Random {
  uint64_t state;
  uint32_t next() {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return uint32_t(state >> 33);
  }
  uint32_t below(uint32_t n) { return n ? next() % n : 0; }
};

// Recomputes the checksums of metadata and header (not of segments), where the header's sizes allow.
inline void repair(std::vector<uint8_t> &bytes) {
  using ingot::program::Header;
  if (bytes.size() < sizeof(Header)) return;
  Header h;
  std::memcpy(&h, bytes.data(), sizeof h);
  if (h.metadata_size <= bytes.size() - sizeof h)
    h.metadata_xxh3 = ingot::xxh3(bytes.data() + sizeof h, size_t(h.metadata_size));
  h.header_xxh3 = ingot::xxh3(&h, sizeof h - 8);
  std::memcpy(bytes.data(), &h, sizeof h);
}

// One random change of the metadata: a bit, a byte, a 32-bit word set to an interesting value, or words exchanged.
inline void damage(std::vector<uint8_t> &bytes, Random &random) {
  using ingot::program::Header;
  Header h;
  std::memcpy(&h, bytes.data(), sizeof h);
  const uint32_t size = uint32_t(h.metadata_size);
  uint8_t *metadata = bytes.data() + sizeof h;
  const uint32_t at = random.below(size), word = random.below(size / 4) * 4;
  static const uint32_t interesting[] = {0, 1, 2, 7, 8, 0x7f, 0xff, 0x100, 0xffff, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};
  switch (random.below(5)) {
  case 0: metadata[at] ^= uint8_t(1u << random.below(8)); break;
  case 1: metadata[at] = uint8_t(random.next()); break;
  case 2: std::memcpy(metadata + word, &interesting[random.below(13)], 4); break;
  case 3: {
    uint32_t value;
    std::memcpy(&value, metadata + word, 4);
    value += random.below(9) - 4;
    std::memcpy(metadata + word, &value, 4);
    break;
  }
  default: {
    const uint32_t other = random.below(size / 4) * 4;
    uint32_t a, b;
    std::memcpy(&a, metadata + word, 4);
    std::memcpy(&b, metadata + other, 4);
    std::memcpy(metadata + word, &b, 4);
    std::memcpy(metadata + other, &a, 4);
  }
  }
}

} // namespace mutate
