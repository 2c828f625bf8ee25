// Conversions from and to narrow types: see narrow.h. Every float format here has at most 256 codes, so reading is a look-up
// in a constant table; writing is integer arithmetic on the bits of the f32.
#include "aotc/import/onnx/narrow.h"

#include <cmath>
#include <limits>

#include "aotc/graph/constant.h"
#include "aotc/import/onnx/algebra.h"

namespace ingot::aotc::importer {

namespace {

constexpr ElementType kF32 = ElementType::kF32, kI32 = ElementType::kI32;

// A float format with sign, exponent and mantissa. `max_code` is the largest finite magnitude's code, `overflow` what lies
// beyond it becomes without saturation (with the sign unless `unsigned_zero`), `nan` the code of NaN.
struct Format {
  int mantissa, bias, max_code, overflow, nan, sign_bit;
  bool unsigned_zero; // "fnuz": no negative zero; 0x80 is NaN
};

Format format_of(int32_t type) {
  switch (type) {
    case kFloat8E4M3FN: return {3, 7, 0x7e, 0x7f, 0x7f, 7, false};
    case kFloat8E4M3FNUZ: return {3, 8, 0x7f, 0x80, 0x80, 7, true};
    case kFloat8E5M2: return {2, 15, 0x7b, 0x7c, 0x7e, 7, false};
    case kFloat8E5M2FNUZ: return {2, 16, 0x7f, 0x80, 0x80, 7, true};
    default: return {1, 1, 7, 7, 8, 3, false}; // FLOAT4E2M1 has no infinity and no NaN
  }
}

double value_of(int32_t type, int code) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  if (type == kFloat8E8M0)
    return code == 0xff ? nan : std::ldexp(1.0, code - 127);
  const Format f = format_of(type);
  const int magnitude = code & ((1 << f.sign_bit) - 1);
  const double sign = code >> f.sign_bit & 1 ? -1 : 1;
  if (f.unsigned_zero && code == 0x80)
    return nan;
  if (type == kFloat8E5M2 && magnitude > f.max_code)
    return magnitude == f.overflow ? sign * std::numeric_limits<double>::infinity() : nan;
  if (type == kFloat8E4M3FN && magnitude > f.max_code)
    return nan;
  const int exponent = magnitude >> f.mantissa, fraction = magnitude & ((1 << f.mantissa) - 1);
  const int whole = exponent ? fraction | 1 << f.mantissa : fraction;
  return sign * std::ldexp(whole, (exponent ? exponent : 1) - f.bias - f.mantissa);
}

// E8M0 is the exponent field of the f32 alone.
ValueId store_exponent(Node &n, ValueId x, bool saturate, const std::string &round_mode) {
  Algebra a(n);
  const ValueId bits = n.b.bitcast(kI32, x);
  const auto c = [&](int64_t v) { return a.number(kI32, static_cast<double>(v)); };
  const auto has = [&](int64_t mask) { return a.map(K::kNe, a.map(K::kAnd, bits, c(mask)), c(0)); };
  const ValueId exponent = a.map(K::kAnd, a.map(K::kShrU, bits, c(23)), c(255));
  ValueId up = kNoValue;
  if (round_mode == "up")
    up = has(0x7fffff);
  else if (round_mode == "nearest") // half goes to the even power: up from every normal one
    up = a.both(has(0x400000), a.map(K::kOr, has(0x3fffff), a.lt(c(0), exponent)));
  else if (round_mode != "down")
    n.fail("attribute 'round_mode' is '" + round_mode + "', expected up, down or nearest");
  ValueId code = exponent;
  if (up != kNoValue) {
    if (saturate)
      up = a.both(up, a.lt(exponent, c(254)));
    code = a.add(exponent, a.convert(kI32, up));
  }
  return n.b.convert(ElementType::kU8, a.select(a.eq(exponent, c(255)), c(255), code));
}

// code = (E - emin) * 2^m + rint(|x| / 2^(E - m)) with E = max(exponent of |x|, emin): a mantissa that rounds up to the next
// power of two carries into the exponent by itself, and subnormals need no case of their own.
ValueId store_float(Node &n, ValueId x, const Format &f, bool saturate) {
  Algebra a(n);
  const auto c = [&](int64_t v) { return a.number(kI32, static_cast<double>(v)); };
  const ValueId bits = n.b.bitcast(kI32, x);
  const ValueId negative = a.lt(bits, c(0));
  const ValueId magnitude = a.map(K::kAnd, bits, c(0x7fffffff));
  const int emin = 1 - f.bias;
  // Beyond 2^30 all formats overflow: cutting there keeps the integers in range.
  const ValueId exponent = a.min(a.max(a.sub(a.map(K::kShrU, magnitude, c(23)), c(127)), c(emin)), c(40));
  const ValueId scale = n.b.bitcast(kF32, a.map(K::kShl, a.add(a.sub(c(f.mantissa), exponent), c(127)), c(23)));
  const ValueId absolute = a.min(n.b.bitcast(kF32, magnitude), a.number(kF32, std::ldexp(1.0, 41)));
  const ValueId rounded = n.b.convert(kI32, a.map(K::kRint, a.mul(absolute, scale)));
  ValueId code = a.add(a.map(K::kShl, a.sub(exponent, c(emin)), c(f.mantissa)), rounded);
  const ValueId over = a.lt(c(f.max_code), code);
  const ValueId sign = a.select(negative, c(int64_t{1} << f.sign_bit), c(0));
  code = a.select(over, c(f.max_code), code);
  ValueId signed_code = a.map(K::kOr, code, f.unsigned_zero ? a.select(a.eq(code, c(0)), c(0), sign) : sign);
  if (!saturate)
    signed_code = a.select(over, f.unsigned_zero ? c(f.overflow) : a.map(K::kOr, c(f.overflow), sign), signed_code);
  const ValueId nan = a.lt(c(0x7f800000), magnitude);
  return n.b.convert(ElementType::kU8, a.select(nan, c(f.nan), signed_code));
}

} // namespace

std::optional<ElementType> narrow_storage(int32_t type) {
  switch (type) {
    case kInt4:
    case kInt2: return ElementType::kI8;
    case kUint4:
    case kUint2:
    case kFloat4E2M1:
    case kFloat8E4M3FN:
    case kFloat8E4M3FNUZ:
    case kFloat8E5M2:
    case kFloat8E5M2FNUZ:
    case kFloat8E8M0: return ElementType::kU8;
    default: return std::nullopt;
  }
}

int narrow_bits(int32_t type) {
  switch (type) {
    case kInt2:
    case kUint2: return 2;
    case kInt4:
    case kUint4:
    case kFloat4E2M1: return 4;
    default: return 8;
  }
}

bool narrow_is_float(int32_t type) {
  return type != kInt4 && type != kUint4 && type != kInt2 && type != kUint2;
}

NarrowRange narrow_range(int32_t type) {
  const int64_t size = int64_t{1} << narrow_bits(type);
  return narrow_storage(type) == ElementType::kI8 ? NarrowRange{-size / 2, size / 2 - 1} : NarrowRange{0, size - 1};
}

ValueId widen_narrow(Node &n, ValueId stored, int32_t type) {
  if (!narrow_is_float(type))
    return stored;
  std::vector<double> table;
  for (int code = 0; code < 1 << narrow_bits(type); ++code)
    table.push_back(value_of(type, code));
  const Expr count = static_cast<int64_t>(table.size());
  return n.b.gather(n.b.constant({kF32, {count}}, graph::make_floats(kF32, table)), n.b.convert(ElementType::kI64, stored), 0);
}

ValueId store_narrow(Node &n, ValueId x, int32_t type, bool saturate, const std::string &round_mode) {
  if (narrow_is_float(type)) {
    x = n.b.convert(kF32, x);
    return type == kFloat8E8M0 ? store_exponent(n, x, saturate, round_mode)
                                           : store_float(n, x, format_of(type), saturate || type == kFloat4E2M1);
  }
  const ElementType storage = *narrow_storage(type);
  Algebra a(n);
  const ValueId shift = a.number(kI32, 32 - narrow_bits(type));
  const ValueId high = a.map(K::kShl, n.b.convert(kI32, n.lift(x)), shift);
  return n.b.convert(storage, a.map(storage == ElementType::kI8 ? K::kShr : K::kShrU, high, shift));
}

} // namespace ingot::aotc::importer
