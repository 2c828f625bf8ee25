// A kernel with its data, run by the reference interpreter and by compiled code, and compared.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "aotc/emit/llvm/cpu_emitter.h"
#include "aotc/kernel/builder.h"

namespace ingot::aotc::test {

struct Case {
  kernel::Kernel kernel;
  std::vector<std::vector<uint8_t>> buffers; // contents before the run, by binding
  std::vector<int64_t> params;
  std::array<uint32_t, 3> grid = {1, 1, 1};
  bool signed_zeros = true;                  // false: -0 equals +0 (min and max do not promise which)
};

// The targets whose code is tested: those that run here, those that are only compiled, and aarch64 under qemu.
std::vector<CpuTarget> x86_targets();

// Runs each case by the interpreter and by code for every target, all cases of a target in one image; checks outputs
// and error words, and that nothing is written outside the buffers. Reports through Catch2.
void check_cases(const std::vector<Case> &cases);

// Code that does not run here can be checked on a machine where it does. With INGOT_CASE_FOLDER set, a run of
// the tests writes FOLDER/<target>-<test>.in for it; there, a build of image_runner.c makes .out of each:
//   clang-19 -O1 -ffreestanding -fno-builtin -nostdlib -static -fuse-ld=lld -I. tests/emit_llvm/image_runner.c
//   -o runner for f in FOLDER/*.in; do ./runner < $f > ${f%.in}.out; done
// and a second run of the tests with the .out files in place compares them.

// Deterministic bits.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  uint64_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ * 0x2545f4914f6cdd1du;
  }
  uint64_t below(uint64_t n) { return (next() >> 16) % n; }

 private:
  uint64_t state_;
};

// Bits of an element of type `s`: the k-th special value (0, -0, infinities, limits ...), random beyond them.
uint64_t interesting(Scalar s, size_t k, Random &random);
size_t special_count(Scalar s);

// `count` elements; put() stores element i.
std::vector<uint8_t> zeros(Scalar s, size_t count);
void put(std::vector<uint8_t> &buffer, Scalar s, size_t i, uint64_t bits);
std::vector<uint8_t> random_elements(Scalar s, size_t count, Random &random);

inline constexpr Scalar kAllScalars[] = {Scalar::kBool, Scalar::kI8,   Scalar::kI16, Scalar::kI32, Scalar::kI64,
                                         Scalar::kF16,  Scalar::kBF16, Scalar::kF32, Scalar::kF64};

} // namespace ingot::aotc::test
