// Mutations of archives: blind ones on bytes, and structure-aware ones that change a number of the metadata and
// then repair every checksum, so that the damage reaches the verifier and the executor.
#pragma once

#include <cstdint>
#include <vector>

namespace fuzz {

using Bytes = std::vector<uint8_t>;

// splitmix64: the same sequence everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next();
  uint64_t below(uint64_t n) { return n ? next() % n : 0; }

 private:
  uint64_t state_;
};

// Blind: the checksums stay as they were.
Bytes truncated(const Bytes &seed, Random &random);
Bytes bit_flipped(const Bytes &seed, Random &random); // one bit
Bytes random_bytes(Random &random);

// Bit flips, overwritten words, moved blocks in metadata or segments; checksums repaired.
Bytes scrambled(const Bytes &seed, Random &random);

// One to four numbers of the program (command words, expressions, slots, dims, kernels, segments, ...) set to
// values that hurt; checksums repaired.
Bytes reshaped(const Bytes &seed, Random &random);

// Bytes of a code segment changed; checksums repaired.
Bytes recoded(const Bytes &seed, Random &random);

// Sets the file size and every checksum that can be found to what they ought to be.
void repair(Bytes &archive);

} // namespace fuzz
