// Integer and float arithmetic as the kernel IR defines it, on values held in 64 bits. Shared by the builder's folds
// and the interpreter, so that they cannot disagree.
#pragma once

#include <cstdint>

#include "aotc/kernel/kernel.h"

namespace ingot::aotc::kernel {

constexpr int64_t sign_extend(int64_t value, uint32_t bits) {
  if (bits >= 64)
    return value;
  uint32_t shift = 64 - bits;
  return static_cast<int64_t>(static_cast<uint64_t>(value) << shift) >> shift;
}
constexpr uint64_t zero_extend(int64_t value, uint32_t bits) {
  return bits >= 64 ? static_cast<uint64_t>(value) : static_cast<uint64_t>(value) & ((uint64_t{1} << bits) - 1);
}
constexpr int64_t wrapping_add(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}
constexpr int64_t wrapping_sub(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) - static_cast<uint64_t>(b));
}
constexpr int64_t wrapping_mul(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
}

// a op b on sign-extended integers of type `scalar` (bool: 0 or 1), for the binary integer ops and comparisons.
// False if `op` is none of them.
bool fold_integer(Opcode op, Scalar scalar, int64_t a, int64_t b, int64_t &result);

// IEEE half and bfloat16 to and from float; rounding is to nearest even, NaNs stay NaNs (quiet).
float half_to_float(uint16_t bits);
uint16_t float_to_half(float value);
uint16_t double_to_half(double value); // one rounding
float bfloat_to_float(uint16_t bits);
uint16_t float_to_bfloat(float value);
uint16_t double_to_bfloat(double value); // one rounding

// `value` rounded to the float type `scalar`, once.
double round_to(Scalar scalar, double value);

} // namespace ingot::aotc::kernel
