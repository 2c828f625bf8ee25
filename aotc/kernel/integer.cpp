// See integer.h.
#include "aotc/kernel/integer.h"

#include <bit>
#include <cmath>

namespace ingot::aotc::kernel {
namespace {

// Rounds a double to a 16-bit float with `mantissa` stored bits and exponent bias `bias`, to nearest even.
uint16_t round_to_16(double value, int mantissa, int bias) {
  uint64_t bits = std::bit_cast<uint64_t>(value);
  uint32_t sign = static_cast<uint32_t>(bits >> 63) << 15;
  uint32_t exponent_mask = ((1u << (15 - mantissa)) - 1) << mantissa;
  if (std::isnan(value))
    return static_cast<uint16_t>(sign | exponent_mask | (1u << (mantissa - 1)));
  double magnitude = std::fabs(value);
  if (std::isinf(value))
    return static_cast<uint16_t>(sign | exponent_mask);
  if (magnitude == 0)
    return static_cast<uint16_t>(sign);
  int exponent = std::ilogb(magnitude);
  if (exponent < 1 - bias)
    exponent = 1 - bias; // denormal: fixed quantum
  // In units of the last place the value is exact in a double, so rint rounds once.
  double units = std::rint(std::ldexp(magnitude, mantissa - exponent));
  uint32_t rounded = static_cast<uint32_t>(units);
  // Units of 2^mantissa or more are normal numbers; a carry moves into the exponent by itself.
  uint32_t result = rounded + (static_cast<uint32_t>(exponent + bias - 1) << mantissa);
  return static_cast<uint16_t>(sign | (result >= exponent_mask ? exponent_mask : result));
}

} // namespace

bool fold_integer(Opcode op, Scalar scalar, int64_t a, int64_t b, int64_t &result) {
  uint32_t bits = bit_width(scalar);
  uint64_t ua = zero_extend(a, bits), ub = zero_extend(b, bits);
  int64_t shift = static_cast<int64_t>(ub & (bits - 1));
  int64_t r;
  switch (op) {
  case Opcode::kAdd: r = wrapping_add(a, b); break;
  case Opcode::kSub: r = wrapping_sub(a, b); break;
  case Opcode::kMul: r = wrapping_mul(a, b); break;
  case Opcode::kDiv: r = b == 0 ? 0 : b == -1 ? wrapping_sub(0, a) : a / b; break;
  case Opcode::kRem: r = b == 0 || b == -1 ? 0 : a % b; break;
  case Opcode::kDivU: r = ub == 0 ? 0 : static_cast<int64_t>(ua / ub); break;
  case Opcode::kRemU: r = ub == 0 ? 0 : static_cast<int64_t>(ua % ub); break;
  case Opcode::kMin: r = a < b ? a : b; break;
  case Opcode::kMax: r = a > b ? a : b; break;
  case Opcode::kMinU: r = ua < ub ? a : b; break;
  case Opcode::kMaxU: r = ua > ub ? a : b; break;
  case Opcode::kAnd: r = a & b; break;
  case Opcode::kOr: r = a | b; break;
  case Opcode::kXor: r = a ^ b; break;
  case Opcode::kShl: r = static_cast<int64_t>(ua << shift); break;
  case Opcode::kShr: r = a >> shift; break;
  case Opcode::kShrU: r = static_cast<int64_t>(ua >> shift); break;
  case Opcode::kEq: result = a == b; return true;
  case Opcode::kNe: result = a != b; return true;
  case Opcode::kLt: result = a < b; return true;
  case Opcode::kLe: result = a <= b; return true;
  case Opcode::kGt: result = a > b; return true;
  case Opcode::kGe: result = a >= b; return true;
  case Opcode::kLtU: result = ua < ub; return true;
  case Opcode::kLeU: result = ua <= ub; return true;
  case Opcode::kGtU: result = ua > ub; return true;
  case Opcode::kGeU: result = ua >= ub; return true;
  default: return false;
  }
  result = scalar == Scalar::kBool ? r & 1 : sign_extend(r, bits);
  return true;
}

float half_to_float(uint16_t bits) {
  uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  uint32_t magnitude = bits & 0x7fff;
  if (magnitude >= 0x7c00) // inf, NaN
    return std::bit_cast<float>(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
  if (magnitude < 0x400) // zero, denormal
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(static_cast<float>(magnitude) * 0x1p-24f));
  return std::bit_cast<float>(sign | ((magnitude << 13) + (112u << 23)));
}

uint16_t double_to_half(double value) { return round_to_16(value, 10, 15); }

uint16_t float_to_half(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000)
    return static_cast<uint16_t>(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
  if (magnitude >= 0x47800000) // 65536
    return static_cast<uint16_t>(sign | 0x7c00);
  if (magnitude < 0x38800000) { // below 2^-14: the sum's last place is a half's denormal quantum
    uint32_t sum = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f);
    return static_cast<uint16_t>(sign | (sum - std::bit_cast<uint32_t>(0.5f)));
  }
  return static_cast<uint16_t>(sign | ((magnitude + 0xfff + (magnitude >> 13 & 1) - (112u << 23)) >> 13));
}

float bfloat_to_float(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
uint16_t double_to_bfloat(double value) { return round_to_16(value, 7, 127); }

uint16_t float_to_bfloat(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  if (value != value)
    return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

double round_to(Scalar scalar, double value) {
  switch (scalar) {
  case Scalar::kF16: return half_to_float(double_to_half(value));
  case Scalar::kBF16: return bfloat_to_float(double_to_bfloat(value));
  case Scalar::kF32: return static_cast<float>(value);
  default: return value;
  }
}

} // namespace ingot::aotc::kernel
