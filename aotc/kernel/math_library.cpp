// The math functions in kernel ops. Accuracy in f32 is at most 4 ulp everywhere (the table is printed by
// tests/kernel/test_math.cpp); f16 and bf16 go by way of f32. In f64 it is at most 4 ulp as well, but 32 for
// pow; and sin, cos and tan beyond |x| = 2^24 are not accurate: they lose a bit each time |x| doubles.
//
// Nothing here depends on whether mad is fused. Where more than one float's precision is needed (pow, the reduction of
// sin and cos), numbers are cut into parts by masking bits or by constants of few bits, so that products are exact; no
// step needs (a + b) - a to be what it is in IEEE arithmetic only by grace of an unoptimised compiler.
#include "aotc/kernel/math_library.h"

#include <bit>
#include <cmath>
#include <limits>
#include <span>

#include "aotc/base/error.h"
#include "aotc/kernel/formula.h"
#include "aotc/kernel/math_coefficients.h"
#include "aotc/kernel/rewrite.h"

namespace ingot::aotc::kernel {
namespace {

using namespace coefficients;

// The functions for f32 or f64 of some number of lanes.
class Math {
 public:
  // `half`: results become f16, so that exp and erf of f32 may be less exact (math_library.h).
  Math(Builder &b, Type type, bool half = false)
      : half_(half), b_(b), float_(type), int_(type.with_scalar(type.scalar == Scalar::kF64 ? Scalar::kI64 : Scalar::kI32)),
        wide_(type.scalar == Scalar::kF64), mantissa_(wide_ ? 52 : 23), bias_(wide_ ? 1023 : 127) {}

  V apply(Opcode op, V x, V y);

 private:
  V c(double value) { return {&b_, b_.constant_float(float_, value)}; }
  V i(int64_t value) { return {&b_, b_.constant(int_, value)}; }
  V to_int(V x) { return {&b_, b_.convert(int_, x.id)}; }
  V to_float(V x) { return {&b_, b_.convert(float_, x.id)}; }
  V bits(V x) { return {&b_, b_.bitcast(int_, x.id)}; }
  V from_bits(V x) { return {&b_, b_.bitcast(float_, x.id)}; }
  V shl(V x, int64_t n) { return x.binary(Opcode::kShl, i(n)); }
  V shr(V x, int64_t n) { return x.binary(Opcode::kShr, i(n)); }
  V shr_u(V x, int64_t n) { return x.binary(Opcode::kShrU, i(n)); }
  V nan() { return c(std::numeric_limits<double>::quiet_NaN()); }
  V infinity() { return c(INFINITY); }

  // The table's polynomial, lowest degree first, by Horner's rule.
  V polynomial(V x, std::span<const double> table) {
    V sum = c(table.back());
    for (size_t k = table.size() - 1; k-- > 0;)
      sum = mad(sum, x, c(table[k]));
    return sum;
  }
  // The table for the type at hand.
  std::span<const double> pick(std::span<const double> narrow, std::span<const double> wide) const {
    return wide_ ? wide : narrow;
  }

  V power_of_two(V n) { return from_bits(shl(n + i(bias_), mantissa_)); } // n within the normal range
  V exp_part(V r) { return mad(r * r, polynomial(r, pick(kExp32, kExp64)), r); } // e^r - 1, |r| <= ln(2) / 2
  V reduce_exp(V x, V &n);
  V scale(V x, V n);
  V exp(V x);
  V half_exp(V x);
  V expm1(V x);
  V log_series(V f, V k);
  V log_of(V x, V f_when_k_is_0);
  V log(V x);
  V log1p(V x);
  V sigmoid(V x);
  V tanh(V x);
  V erf(V x);
  V sinh(V x);
  V cosh(V x);
  V asinh(V x);
  V acosh(V x);
  V atanh(V x);
  V asin_series(V x) { return mad(x * x * x, polynomial(x * x, pick(kAsin32, kAsin64)), x); }
  V asin(V x);
  V acos(V x);
  V atan(V x);
  V any(V mask);
  void reduce_angle(V x, V &r, V &quadrant);
  void reduce_large_angle(V x, V &r, V &quadrant);
  V sin_series(V r) { return mad(r * r * r, polynomial(r * r, pick(kSin32, kSin64)), r); }
  V cos_series(V r);
  V sin(V x);
  V cos(V x);
  V tan(V x);
  V high_part(V x);
  V pow(V x, V y);

  bool half_;
  Builder &b_;
  Type float_, int_;
  bool wide_;
  int64_t mantissa_, bias_;
};

// ---- Exponential

// x = n ln(2) + r. The clamp keeps n small; beyond it e^x is 0 or infinite anyway. NaN goes through min and max.
V Math::reduce_exp(V x, V &n) {
  auto parts = pick(kLn2Parts32, kLn2Parts64);
  n = rint(x * c(1.4426950408889634));
  return mad(n, c(-parts[1]), mad(n, c(-parts[0]), x));
}

// x 2^n for n over twice the normal range, with one rounding: denormal results come out right.
V Math::scale(V x, V n) {
  V half = shr(n, 1);
  return x * power_of_two(half) * power_of_two(n - half);
}

V Math::exp(V x) {
  if (half_ && !wide_) { // 2^n 2^f, without the ends of f32's range: what is beyond them is 0 and infinity in f16
    V n = min(max(x, c(-87)), c(88)) * c(1.4426950408889634), whole = rint(n);
    V p = polynomial(n - whole, kExp2Half32);
    return select(x < c(-87), c(0), from_bits(bits(p) + shl(to_int(whole), mantissa_)));
  }
  V n{&b_, kNoValue};
  V clamped = min(max(x, c(wide_ ? -746 : -104)), c(wide_ ? 710 : 89));
  V r = reduce_exp(clamped, n);
  V p = exp_part(r) + c(1);
  // As scale(), but the first factor goes straight into p's exponent: p is within [0.7, 1.42], or NaN with n = 0.
  V exponent = to_int(n), half = shr(exponent, 1);
  return from_bits(bits(p) + shl(half, mantissa_)) * power_of_two(exponent - half);
}

// e^x / 2, which does not overflow where sinh and cosh do not.
V Math::half_exp(V x) {
  V n{&b_, kNoValue};
  V r = reduce_exp(min(x, c(wide_ ? 711 : 90)), n);
  return scale(exp_part(r) + c(1), to_int(n) - i(1));
}

V Math::expm1(V x) {
  V n{&b_, kNoValue};
  V r = reduce_exp(min(max(x, c(wide_ ? -40 : -18)), c(wide_ ? 710 : 89)), n);
  V e = exp_part(r);
  // 2^n e + (2^n - 1), halved for the sake of n = 128 (1024).
  V half = power_of_two(to_int(n) - i(1));
  V y = mad(half, e, half - c(0.5)) * c(2);
  return copy_sign(select(n == c(0), e, y), x);
}

V Math::sigmoid(V x) {
  V e = exp(-abs(x));
  V numerator = select(x >= c(0), c(1), e);
  // A NaN compares false, and is in e.
  return numerator / (e + c(1));
}

// ---- Logarithm

// ln(1 + f) + k ln(2), by way of s = f / (2 + f): ln(1 + f) = f - f^2/2 + s (f^2/2 + R(s^2)).
V Math::log_series(V f, V k) {
  auto parts = pick(kLn2Parts32, kLn2Parts64);
  V s = f / (f + c(2)), z = s * s;
  V r = z * polynomial(z, pick(kLog32, kLog64));
  V half_square = f * f * c(0.5);
  V low = mad(s, half_square + r, k * c(parts[1]));
  return mad(k, c(parts[0]), f - (half_square - low));
}

// ln(x) for x >= 0. Where x is within [sqrt(1/2), sqrt(2)), x - 1 may be given exactly.
V Math::log_of(V x, V f_when_k_is_0) {
  V tiny = x < c(wide_ ? 0x1p-1022 : 0x1p-126);
  V normal = select(tiny, x * c(wide_ ? 0x1p54 : 0x1p24), x);
  V raw = bits(normal);
  int64_t root = wide_ ? 0x3fe6a09e667f3bcc : 0x3f3504f3; // sqrt(1/2)
  V exponent = shr(raw - i(root), mantissa_);
  V m = from_bits(raw - shl(exponent, mantissa_));
  V f = m - c(1);
  if (f_when_k_is_0.id != kNoValue)
    f = select(exponent == i(0), f_when_k_is_0, f);
  V k = to_float(exponent - select(tiny, i(wide_ ? 54 : 24), i(0)));
  V y = log_series(f, k);
  y = select(x < infinity(), y, x);
  y = select(x == c(0), c(-INFINITY), y);
  return select(x >= c(0), y, nan());
}

V Math::log(V x) { return log_of(x, {&b_, kNoValue}); }

V Math::log1p(V x) { return copy_sign(log_of(x + c(1), x), x); }

// ---- Hyperbolic

// y / (y + 2) with y = e^(2 |x|) - 1.
V Math::tanh(V x) {
  V n{&b_, kNoValue};
  V a = min(abs(x), c(wide_ ? 20 : 10));
  V e = exp_part(reduce_exp(a + a, n)), s = power_of_two(to_int(n));
  V y = mad(s, e, s - c(1));
  return copy_sign(y / (y + c(2)), x);
}

V Math::sinh(V x) {
  V a = abs(x), t = x * x;
  V small = mad(x * t, polynomial(t, pick(kSinh32, kSinh64)), x);
  V e = half_exp(a);
  V large = copy_sign(e - c(0.25) / e, x);
  return select(a < c(1), small, large);
}

V Math::cosh(V x) {
  V e = half_exp(abs(x));
  return e + c(0.25) / e;
}

V Math::asinh(V x) {
  V a = abs(x), t = a * a;
  V small = log1p(a + t / (sqrt(t + c(1)) + c(1)));
  V large = log(a) + c(0.6931471805599453);
  return copy_sign(select(a < c(wide_ ? 0x1p300 : 0x1p40), small, large), x);
}

V Math::acosh(V x) {
  V t = x - c(1);
  V small = log1p(t + sqrt(t * (t + c(2))));
  V large = log(x) + c(0.6931471805599453);
  return select(x >= c(1), select(x < c(wide_ ? 0x1p300 : 0x1p40), small, large), nan());
}

V Math::atanh(V x) {
  V a = abs(x);
  return copy_sign(log1p((a + a) / (c(1) - a)) * c(0.5), x);
}

// ---- Error function

V Math::erf(V x) {
  if (half_ && !wide_) {
    V near = min(max(x, c(-3)), c(3));
    return near * polynomial(near * near, kErfHalf32);
  }
  V a = abs(x), t = x * x;
  V small = x * polynomial(t, pick(kErfSmall32, kErfSmall64));
  V tail = x;
  if (wide_) {
    V limited = min(max(a, c(1)), c(6)), inverse = c(1) / limited;
    tail = exp(-(limited * limited)) * inverse * polynomial(mad(inverse, c(2.4), c(-1.4)), kErfLarge64);
  } else {
    V v = mad(min(a, c(4)), c(0.6666666666666666), c(-1.6666666666666667));
    tail = polynomial(v, kErfLarge32);
  }
  return select(a < c(1), small, copy_sign(c(1) - tail, x));
}

// ---- Inverse trigonometric

V Math::asin(V x) {
  V a = abs(x);
  V is_small = a < c(0.5);
  // asin(a) = pi/2 - 2 asin(sqrt((1 - a) / 2)).
  V s = select(is_small, a, sqrt((c(1) - a) * c(0.5)));
  V y = asin_series(s);
  V large = c(1.5707963267948966) - (y + y);
  return copy_sign(select(is_small, y, large), x);
}

V Math::acos(V x) {
  V a = abs(x);
  V is_small = a < c(0.5);
  V s = select(is_small, x, sqrt((c(1) - a) * c(0.5)));
  V y = asin_series(s), twice = y + y;
  V large = select(x < c(0), c(3.141592653589793) - twice, twice);
  return select(is_small, c(1.5707963267948966) - y, large);
}

V Math::atan(V x) {
  V a = abs(x);
  V is_large = a > c(2.414213562373095), is_middle = a > c(0.41421356237309503); // tan(3 pi/8), tan(pi/8)
  V numerator = select(is_large, c(-1), select(is_middle, a - c(1), a));
  V denominator = select(is_large, a, select(is_middle, a + c(1), c(1)));
  V offset = select(is_large, c(1.5707963267948966), select(is_middle, c(0.7853981633974483), c(0)));
  V z = numerator / denominator, t = z * z;
  V y = mad(z * t, polynomial(t, pick(kAtan32, kAtan64)), z);
  return copy_sign(offset + y, x);
}

// ---- Trigonometric

V Math::any(V mask) {
  uint32_t lanes = float_.lanes;
  if (lanes == 1)
    return mask;
  if ((lanes & (lanes - 1)) == 0) {
    Type flags(Scalar::kI32, lanes);
    ValueId flag = b_.select(mask.id, b_.constant(flags, 1), b_.constant(flags, 0));
    return {&b_, b_.compare(Opcode::kNe, b_.reduce(Opcode::kReduceMax, flag), b_.constant(Scalar::kI32, 0))};
  }
  ValueId some = b_.extract(mask.id, 0);
  for (uint32_t k = 1; k < lanes; ++k)
    some = b_.binary(Opcode::kOr, some, b_.extract(mask.id, k));
  return {&b_, some};
}

// x = quadrant pi/2 + r, |r| <= pi/4. pi/2 is subtracted in parts of so few bits that n times a part is exact.
void Math::reduce_angle(V x, V &r, V &quadrant) {
  auto parts = pick(kHalfPiParts32, kHalfPiParts64);
  V n = rint(x * c(0.6366197723675814));
  r = x;
  for (double part : parts)
    r = mad(n, c(-part), r);
  quadrant = to_int(n);
  if (wide_)
    return;
  V is_large = abs(x) > c(1600);
  Values both = b_.if_else(
      any(is_large).id,
      [&] {
        V large_r{&b_, kNoValue}, large_quadrant{&b_, kNoValue};
        reduce_large_angle(x, large_r, large_quadrant);
        return Values{select(is_large, large_r, r).id, select(is_large, large_quadrant, quadrant).id};
      },
      [&] { return Values{r.id, quadrant.id}; });
  r = {&b_, both[0]};
  quadrant = {&b_, both[1]};
}

// For f32 from 2^10: x = m 2^e with a 24-bit integer m. Bits of 2/pi whose product with x is a multiple of 4 are of no
// matter, so 96 bits of 2/pi from there on times m, modulo 2^96, are x 2/pi modulo 4; its upper 64 bits are enough.
void Math::reduce_large_angle(V x, V &r, V &quadrant) {
  V raw = bits(x);
  V exponent = shr_u(raw, 23) & i(0xff);
  V m = (raw & i(0x7fffff)) | i(0x800000);
  // The first bit wanted, counted from the table's leading zero word: 32 + (exponent - 150) - 2.
  V first = exponent - i(120);
  V word = shr_u(first, 5), shift = first & i(31);
  V words[4] = {i(0), i(0), i(0), i(0)};
  for (int k = 0; k < 4; ++k) {
    auto entry = [&](int at) { return i(static_cast<int32_t>(at < 8 ? kTwoOverPi[at] : 0u)); };
    words[k] = entry(k);
    for (int w = 1; w <= 4; ++w)
      words[k] = select(word == i(w), entry(k + w), words[k]);
  }
  V window[3] = {i(0), i(0), i(0)};
  for (int k = 0; k < 3; ++k) {
    V low = shr_u(words[k + 1], 1).binary(Opcode::kShrU, i(31) - shift);
    window[k] = words[k].binary(Opcode::kShl, shift) | low;
  }
  // The upper 32 bits of a 32-bit times a 24-bit number, in 16-bit parts.
  auto high = [&](V a, V b) {
    V mask = i(0xffff);
    V a1 = shr_u(a, 16), a0 = a & mask, b1 = shr_u(b, 16), b0 = b & mask;
    V cross1 = a1 * b0, cross2 = a0 * b1;
    V carry = shr_u(a0 * b0, 16) + (cross1 & mask) + (cross2 & mask);
    return a1 * b1 + shr_u(cross1, 16) + shr_u(cross2, 16) + shr_u(carry, 16);
  };
  V low1 = window[1] * m, middle = low1 + high(window[2], m);
  V carry = select({&b_, b_.compare(Opcode::kLtU, middle.id, low1.id)}, i(1), i(0));
  V top = window[0] * m + high(window[1], m) + carry;
  // The quadrant is the nearest integer; what is left is a signed fraction of 2^-62.
  V q = shr_u(top + i(0x20000000), 30);
  top = top - shl(q, 30);
  V is_negative = top < i(0);
  V negated = i(0) - middle;
  top = select(is_negative, top.unary(Opcode::kNot) + select(middle == i(0), i(1), i(0)), top);
  middle = select(is_negative, negated, middle);
  V fraction = mad(V{&b_, b_.convert_u(float_, top.id)}, c(0x1p-30), V{&b_, b_.convert_u(float_, middle.id)} * c(0x1p-62));
  V angle = mad(fraction, c(1.57079637050628662109375), fraction * c(-4.37113900018624283e-8));
  V flip = (raw & i(INT32_MIN)) ^ select(is_negative, i(INT32_MIN), i(0));
  r = from_bits(bits(angle) ^ flip);
  quadrant = select(raw < i(0), i(0) - q, q);
}

V Math::cos_series(V r) {
  V t = r * r;
  return mad(t * t, polynomial(t, pick(kCos32, kCos64)), mad(t, c(-0.5), c(1)));
}

V Math::sin(V x) {
  V r{&b_, kNoValue}, quadrant{&b_, kNoValue};
  reduce_angle(x, r, quadrant);
  V y = select((quadrant & i(1)) == i(0), sin_series(r), cos_series(r));
  y = select((quadrant & i(2)) == i(0), y, -y);
  V a = abs(x);
  y = select(a < c(wide_ ? 0x1p-27 : 0x1p-13), x, y); // -0 stays -0
  return select(a < infinity(), y, nan());
}

V Math::cos(V x) {
  V r{&b_, kNoValue}, quadrant{&b_, kNoValue};
  reduce_angle(x, r, quadrant);
  V y = select((quadrant & i(1)) == i(0), cos_series(r), sin_series(r));
  y = select(((quadrant + i(1)) & i(2)) == i(0), y, -y);
  return select(abs(x) < infinity(), y, nan());
}

V Math::tan(V x) {
  V r{&b_, kNoValue}, quadrant{&b_, kNoValue};
  reduce_angle(x, r, quadrant);
  V is_even = (quadrant & i(1)) == i(0), y = r;
  if (wide_) {
    V s = sin_series(r), k = cos_series(r);
    y = select(is_even, s, -k) / select(is_even, k, s);
  } else {
    V t = mad(r * r * r, polynomial(r * r, kTan32), r);
    y = select(is_even, t, c(-1)) / select(is_even, c(1), t);
  }
  V a = abs(x);
  y = select(a < c(wide_ ? 0x1p-27 : 0x1p-13), x, y);
  return select(a < infinity(), y, nan());
}

// ---- Power

// x with the lower half of its bits cleared: products of two such are exact.
V Math::high_part(V x) { return from_bits(bits(x) & i(wide_ ? ~int64_t{0x7ffffff} : ~int64_t{0xfff})); }

V Math::pow(V x, V y) {
  V a = abs(x);
  // log2(a) = k + log2(m) as t_high + t_low; log2(m) = 2/ln(2) s (1 + s^2/3 + ...), s = (m - 1) / (m + 1).
  V tiny = a < c(wide_ ? 0x1p-1022 : 0x1p-126);
  V raw = bits(select(tiny, a * c(wide_ ? 0x1p54 : 0x1p24), a));
  V exponent = shr(raw - i(wide_ ? 0x3fe6a09e667f3bcc : 0x3f3504f3), mantissa_);
  V m = from_bits(raw - shl(exponent, mantissa_));
  V k = to_float(exponent - select(tiny, i(wide_ ? 54 : 24), i(0)));
  V f = m - c(1), d = m + c(1);
  V d_high = high_part(d), d_low = m - (d_high - c(1));
  V s_high = high_part(f / d);
  V s_low = (f - s_high * d_high - s_high * d_low) / d;
  V s = s_high + s_low, z = s * s;
  V tail = mad(s, z * polynomial(z, pick(kPowLog32, kPowLog64)), s_low);
  auto factor = pick(kTwoOverLn2Parts32, kTwoOverLn2Parts64);
  V head = s_high * c(factor[0]);
  V rest = mad(tail, c(factor[0]), (s_high + tail) * c(factor[1]));
  V t = k + (head + rest);
  V t_high = high_part(t);
  V t_low = (k - t_high) + head + rest;
  // y log2(a), again in two parts, and 2 to that.
  V y_high = high_part(y), y_low = y - y_high;
  V p_high = y_high * t_high;
  V p_low = mad(y_low, t_high, y * t_low);
  V n = rint(p_high + p_low);
  V r = ((p_high - n) + p_low) * c(0.6931471805599453);
  V power = scale(exp_part(r) + c(1), to_int(min(max(n, c(wide_ ? -1100 : -160)), c(wide_ ? 1100 : 160))));
  // What overflows, and zeros and infinities, are decided by the plain product; NaN is in it as well.
  V log = select(a == c(0), c(-INFINITY), select(a == infinity(), a, t));
  V product = y * log;
  V limit = c(wide_ ? 1025 : 129), floor = c(wide_ ? -1076 : -151);
  power = select(product > limit, infinity(), select(product < floor, c(0), power));
  power = select(a == c(1), c(1), power);
  V whole = y.unary(Opcode::kTrunc);
  V half = y * c(0.5);
  V is_integer = whole == y; // infinities count as even
  V is_odd = is_integer & (half.unary(Opcode::kTrunc) != half);
  V is_negative = bits(x) < i(0);
  power = from_bits(bits(power) ^ select(is_negative & is_odd, i(wide_ ? INT64_MIN : INT32_MIN), i(0)));
  // A negative finite base with a fractional exponent; then NaN operands; then the cases that are 1 whatever the other is.
  V is_proper = (a > c(0)) & (a < infinity());
  power = select(is_negative & is_proper & is_integer.unary(Opcode::kNot), nan(), power);
  power = select(V{&b_, b_.unary(Opcode::kIsNan, x.id)} | V{&b_, b_.unary(Opcode::kIsNan, y.id)}, nan(), power);
  return select((y == c(0)) | (x == c(1)), c(1), power);
}

V Math::apply(Opcode op, V x, V y) {
  switch (op) {
  case Opcode::kExp: return exp(x);
  case Opcode::kLog: return log(x);
  case Opcode::kSin: return sin(x);
  case Opcode::kCos: return cos(x);
  case Opcode::kTan: return tan(x);
  case Opcode::kAsin: return asin(x);
  case Opcode::kAcos: return acos(x);
  case Opcode::kAtan: return atan(x);
  case Opcode::kSinh: return sinh(x);
  case Opcode::kCosh: return cosh(x);
  case Opcode::kTanh: return tanh(x);
  case Opcode::kAsinh: return asinh(x);
  case Opcode::kAcosh: return acosh(x);
  case Opcode::kAtanh: return atanh(x);
  case Opcode::kErf: return erf(x);
  case Opcode::kPow: return pow(x, y);
  case Opcode::kLog1p: return log1p(x);
  case Opcode::kExpm1: return expm1(x);
  case Opcode::kSigmoid: return sigmoid(x);
  default: throw InternalError("math library: not a math function");
  }
}

class Expander : public Rewriter {
 public:
  explicit Expander(const Kernel &kernel) : Rewriter(kernel), half_(true) {
    for (const Memory &m : kernel.memories)
      half_ = half_ && (m.space != Space::kBuffer || m.access == Access::kRead || m.type == Scalar::kF16);
    for (Opcode log : {Opcode::kLog, Opcode::kLog1p, Opcode::kPow, Opcode::kAsinh, Opcode::kAcosh, Opcode::kAtanh})
      half_ = half_ && !uses(kernel.body, log); // of what is far below an f16 the logarithm is one
  }

 protected:
  Values rewrite(const Op &op) override {
    if (!is_math(op.code))
      return copy(op);
    Type type = old_type(op.results[0]);
    Type work = type.scalar == Scalar::kF64 ? type : type.with_scalar(Scalar::kF32);
    V x{&b_, b_.convert(work, one(op.operands[0]))};
    V y = op.operands.size() > 1 ? V{&b_, b_.convert(work, one(op.operands[1]))} : x;
    return {b_.convert(type, Math(b_, work, half_).apply(op.code, x, y).id)};
  }

 private:
  bool half_; // all that the kernel writes is f16, and shows no more than that of what it computes
};

bool has_math(const Region &region) {
  for (const Op &op : region.ops) {
    if (is_math(op.code))
      return true;
    for (const Region &part : op.regions)
      if (has_math(part))
        return true;
  }
  return false;
}

} // namespace

void expand_math(Kernel &kernel) {
  if (has_math(kernel.body))
    kernel = Expander(kernel).run();
}

} // namespace ingot::aotc::kernel
