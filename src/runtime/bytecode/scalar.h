// What the lane-by-lane opcodes do to one lane: kernel IR's semantics (aotc/kernel/kernel.h), total and without
// undefined behaviour. Included by sources that are compiled with different instruction sets, so everything is
// in an anonymous namespace and nothing is taken from the standard library: no copy made for a newer CPU can be
// linked into code for an older one. No libm: what SSE2 lacks is written out.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "schemas/bytecode.h"

#define INGOT_INLINE inline __attribute__((always_inline, unused))

namespace {
namespace lane {

using I32 = int32_t;
using I64 = int64_t;
using F32 = float;
using F64 = double;

template <class T>
struct Traits;
template <>
struct Traits<int32_t> {
  using U = uint32_t;
  static constexpr int32_t kMin = INT32_MIN, kMax = INT32_MAX;
  static constexpr uint32_t kShift = 31;
};
template <>
struct Traits<int64_t> {
  using U = uint64_t;
  static constexpr int64_t kMin = INT64_MIN, kMax = INT64_MAX;
  static constexpr uint64_t kShift = 63;
};
template <>
struct Traits<float> {
  using Bits = uint32_t;
  static constexpr uint32_t kSign = 0x80000000u, kInfinity = 0x7f800000u;
  static constexpr float kWhole = 0x1p23f; // from here on every number is an integer
  using Int = int32_t;
};
template <>
struct Traits<double> {
  using Bits = uint64_t;
  static constexpr uint64_t kSign = 0x8000000000000000u, kInfinity = 0x7ff0000000000000u;
  static constexpr double kWhole = 0x1p52;
  using Int = int64_t;
};

template <class To, class From>
INGOT_INLINE To bits(From x) {
  static_assert(sizeof(To) == sizeof(From), "the same bits");
  To y;
  __builtin_memcpy(&y, &x, sizeof y);
  return y;
}

// ---- Integers
template <class T>
using U = typename Traits<T>::U;

template <class T>
INGOT_INLINE T add(T a, T b) {
  return T(U<T>(a) + U<T>(b));
}
template <class T>
INGOT_INLINE T sub(T a, T b) {
  return T(U<T>(a) - U<T>(b));
}
template <class T>
INGOT_INLINE T mul(T a, T b) {
  return T(U<T>(a) * U<T>(b));
}
// Division by what does not trap, then what the special divisors give: no branch for a compiler to hoist a
// division over.
template <class T>
INGOT_INLINE T div(T a, T b) {
  T quotient = T(a / (b == 0 || b == -1 ? T(1) : b));
  return b == 0 ? T(0) : b == -1 ? T(U<T>(0) - U<T>(a)) : quotient;
}
template <class T>
INGOT_INLINE T rem(T a, T b) {
  return T(a % (b == 0 || b == -1 ? T(1) : b));
}
template <class T>
INGOT_INLINE T div_u(T a, T b) {
  T quotient = T(U<T>(a) / (b == 0 ? U<T>(1) : U<T>(b)));
  return b == 0 ? T(0) : quotient;
}
template <class T>
INGOT_INLINE T rem_u(T a, T b) {
  return T(U<T>(a) % (b == 0 ? U<T>(1) : U<T>(b)));
}
template <class T>
INGOT_INLINE T min(T a, T b) {
  return a < b ? a : b;
}
template <class T>
INGOT_INLINE T max(T a, T b) {
  return a > b ? a : b;
}
template <class T>
INGOT_INLINE T min_u(T a, T b) {
  return U<T>(a) < U<T>(b) ? a : b;
}
template <class T>
INGOT_INLINE T max_u(T a, T b) {
  return U<T>(a) > U<T>(b) ? a : b;
}
template <class T>
INGOT_INLINE T and_(T a, T b) {
  return a & b;
}
template <class T>
INGOT_INLINE T or_(T a, T b) {
  return a | b;
}
template <class T>
INGOT_INLINE T xor_(T a, T b) {
  return a ^ b;
}
template <class T>
INGOT_INLINE T shl(T a, T b) {
  return T(U<T>(a) << (U<T>(b) & Traits<T>::kShift));
}
template <class T>
INGOT_INLINE T shr(T a, T b) {
  return T(a >> (U<T>(b) & Traits<T>::kShift));
}
template <class T>
INGOT_INLINE T shr_u(T a, T b) {
  return T(U<T>(a) >> (U<T>(b) & Traits<T>::kShift));
}
template <class T>
INGOT_INLINE T neg(T a) {
  return T(U<T>(0) - U<T>(a));
}
template <class T>
INGOT_INLINE T abs(T a) {
  return a < 0 ? T(U<T>(0) - U<T>(a)) : a;
}
template <class T>
INGOT_INLINE int32_t lt_u(T a, T b) {
  return U<T>(a) < U<T>(b);
}
template <class T>
INGOT_INLINE int32_t le_u(T a, T b) {
  return U<T>(a) <= U<T>(b);
}
template <class T>
INGOT_INLINE int32_t gt_u(T a, T b) {
  return U<T>(a) > U<T>(b);
}
template <class T>
INGOT_INLINE int32_t ge_u(T a, T b) {
  return U<T>(a) >= U<T>(b);
}
template <class T>
INGOT_INLINE int32_t eq(T a, T b) {
  return a == b;
}
template <class T>
INGOT_INLINE int32_t ne(T a, T b) {
  return a != b;
}
template <class T>
INGOT_INLINE int32_t lt(T a, T b) {
  return a < b;
}
template <class T>
INGOT_INLINE int32_t le(T a, T b) {
  return a <= b;
}
template <class T>
INGOT_INLINE int32_t gt(T a, T b) {
  return a > b;
}
template <class T>
INGOT_INLINE int32_t ge(T a, T b) {
  return a >= b;
}

// ---- Floats
template <class T>
using Bits = typename Traits<T>::Bits;
template <class T>
constexpr Bits<T> kSign = Traits<T>::kSign;

template <class T>
INGOT_INLINE T fneg(T a) {
  return bits<T>(Bits<T>(bits<Bits<T>>(a) ^ kSign<T>));
}
template <class T>
INGOT_INLINE T fabs(T a) {
  return bits<T>(Bits<T>(bits<Bits<T>>(a) & ~kSign<T>));
}
template <class T>
INGOT_INLINE T copy_sign(T a, T b) {
  return bits<T>(Bits<T>((bits<Bits<T>>(a) & ~kSign<T>) | (bits<Bits<T>>(b) & kSign<T>)));
}
template <class T>
INGOT_INLINE T fmin(T a, T b) {
  return a != a ? a : b != b ? b : a < b ? a : b;
}
template <class T>
INGOT_INLINE T fmax(T a, T b) {
  return a != a ? a : b != b ? b : a > b ? a : b;
}
template <class T>
INGOT_INLINE int32_t is_nan(T a) {
  return (bits<Bits<T>>(a) & ~kSign<T>) > Traits<T>::kInfinity;
}
template <class T>
INGOT_INLINE int32_t is_inf(T a) {
  return (bits<Bits<T>>(a) & ~kSign<T>) == Traits<T>::kInfinity;
}
template <class T>
INGOT_INLINE T trunc(T a) {
  bool small = fabs(a) < Traits<T>::kWhole; // false for NaN
  T safe = small ? a : T(0);
  T whole = copy_sign(T(typename Traits<T>::Int(safe)), a);
  return small ? whole : a;
}
template <class T>
INGOT_INLINE T floor(T a) {
  T t = trunc(a);
  return t > a ? t - 1 : t;
}
template <class T>
INGOT_INLINE T ceil(T a) {
  T t = trunc(a), up = copy_sign(t + 1, a); // -0.5 goes to -0
  return t < a ? up : t;
}
template <class T>
INGOT_INLINE T rint(T a) {
  T m = fabs(a), r = copy_sign((m + Traits<T>::kWhole) - Traits<T>::kWhole, a);
  return m < Traits<T>::kWhole ? r : a;
}
INGOT_INLINE float sqrt(float a) { return __builtin_sqrtf(a); }
INGOT_INLINE double sqrt(double a) { return __builtin_sqrt(a); }
template <class T>
INGOT_INLINE T fmad(T a, T b, T c) {
#if defined(__FMA__) || defined(__aarch64__)
  return sizeof(T) == 4 ? T(__builtin_fmaf(float(a), float(b), float(c)))
                        : T(__builtin_fma(double(a), double(b), double(c)));
#else
  return a * b + c;
#endif
}

// ---- Conversions
template <class To, class From>
INGOT_INLINE To saturate(From x) {
  constexpr From kHigh = -From(Traits<To>::kMin); // 2^31 or 2^63: the first number that does not fit
  bool fits = x >= -kHigh && x < kHigh;
  To y = To(fits ? x : From(0));
  return fits ? y : x >= kHigh ? Traits<To>::kMax : x < 0 ? Traits<To>::kMin : To(0);
}
template <class To, class From>
INGOT_INLINE To saturate_u(From x) {
  constexpr From kHigh = -2 * From(Traits<To>::kMin);
  bool fits = x > -1 && x < kHigh;
  U<To> y = U<To>(fits ? x : From(0));
  return To(fits ? y : x >= kHigh ? ~U<To>(0) : U<To>(0));
}

// ---- By opcode
#define INGOT_INT_OPS(S, T)                                                 \
  INGOT_INLINE T add_##S(T a, T b) { return add<T>(a, b); }                 \
  INGOT_INLINE T sub_##S(T a, T b) { return sub<T>(a, b); }                 \
  INGOT_INLINE T mul_##S(T a, T b) { return mul<T>(a, b); }                 \
  INGOT_INLINE T div_##S(T a, T b) { return div<T>(a, b); }                 \
  INGOT_INLINE T rem_##S(T a, T b) { return rem<T>(a, b); }                 \
  INGOT_INLINE T div_u_##S(T a, T b) { return div_u<T>(a, b); }             \
  INGOT_INLINE T rem_u_##S(T a, T b) { return rem_u<T>(a, b); }             \
  INGOT_INLINE T min_##S(T a, T b) { return min<T>(a, b); }                 \
  INGOT_INLINE T max_##S(T a, T b) { return max<T>(a, b); }                 \
  INGOT_INLINE T min_u_##S(T a, T b) { return min_u<T>(a, b); }             \
  INGOT_INLINE T max_u_##S(T a, T b) { return max_u<T>(a, b); }             \
  INGOT_INLINE T and_##S(T a, T b) { return and_<T>(a, b); }                \
  INGOT_INLINE T or_##S(T a, T b) { return or_<T>(a, b); }                  \
  INGOT_INLINE T xor_##S(T a, T b) { return xor_<T>(a, b); }                \
  INGOT_INLINE T shl_##S(T a, T b) { return shl<T>(a, b); }                 \
  INGOT_INLINE T shr_##S(T a, T b) { return shr<T>(a, b); }                 \
  INGOT_INLINE T shr_u_##S(T a, T b) { return shr_u<T>(a, b); }             \
  INGOT_INLINE I32 lt_u_##S(T a, T b) { return lt_u<T>(a, b); }             \
  INGOT_INLINE I32 le_u_##S(T a, T b) { return le_u<T>(a, b); }             \
  INGOT_INLINE I32 gt_u_##S(T a, T b) { return gt_u<T>(a, b); }             \
  INGOT_INLINE I32 ge_u_##S(T a, T b) { return ge_u<T>(a, b); }             \
  INGOT_INLINE T neg_##S(T a) { return neg<T>(a); }                         \
  INGOT_INLINE T abs_##S(T a) { return abs<T>(a); }                         \
  INGOT_INLINE T not_##S(T a) { return ~a; }                                \
  INGOT_INLINE T mad_##S(T a, T b, T c) { return add<T>(mul<T>(a, b), c); } \
  INGOT_INLINE T S##_f32(F32 a) { return saturate<T>(a); }                  \
  INGOT_INLINE T S##_f64(F64 a) { return saturate<T>(a); }
#define INGOT_FLOAT_OPS(S, T)                                           \
  INGOT_INLINE T add_##S(T a, T b) { return a + b; }                    \
  INGOT_INLINE T sub_##S(T a, T b) { return a - b; }                    \
  INGOT_INLINE T mul_##S(T a, T b) { return a * b; }                    \
  INGOT_INLINE T div_##S(T a, T b) { return a / b; }                    \
  INGOT_INLINE T min_##S(T a, T b) { return fmin<T>(a, b); }            \
  INGOT_INLINE T max_##S(T a, T b) { return fmax<T>(a, b); }            \
  INGOT_INLINE T copy_sign_##S(T a, T b) { return copy_sign<T>(a, b); } \
  INGOT_INLINE T neg_##S(T a) { return fneg<T>(a); }                    \
  INGOT_INLINE T abs_##S(T a) { return fabs<T>(a); }                    \
  INGOT_INLINE T sqrt_##S(T a) { return sqrt(a); }                      \
  INGOT_INLINE T floor_##S(T a) { return floor<T>(a); }                 \
  INGOT_INLINE T ceil_##S(T a) { return ceil<T>(a); }                   \
  INGOT_INLINE T trunc_##S(T a) { return trunc<T>(a); }                 \
  INGOT_INLINE T rint_##S(T a) { return rint<T>(a); }                   \
  INGOT_INLINE I32 is_nan_##S(T a) { return is_nan<T>(a); }             \
  INGOT_INLINE I32 is_inf_##S(T a) { return is_inf<T>(a); }             \
  INGOT_INLINE T mad_##S(T a, T b, T c) { return fmad<T>(a, b, c); }    \
  INGOT_INLINE T S##_i32(I32 a) { return T(a); }                        \
  INGOT_INLINE T S##_u32(I32 a) { return T(uint32_t(a)); }              \
  INGOT_INLINE T S##_i64(I64 a) { return T(a); }                        \
  INGOT_INLINE T S##_u64(I64 a) { return T(uint64_t(a)); }              \
  INGOT_INLINE I32 u32_##S(T a) { return saturate_u<I32>(a); }          \
  INGOT_INLINE I64 u64_##S(T a) { return saturate_u<I64>(a); }
#define INGOT_COMMON_OPS(S, T)                              \
  INGOT_INLINE I32 eq_##S(T a, T b) { return eq<T>(a, b); } \
  INGOT_INLINE I32 ne_##S(T a, T b) { return ne<T>(a, b); } \
  INGOT_INLINE I32 lt_##S(T a, T b) { return lt<T>(a, b); } \
  INGOT_INLINE I32 le_##S(T a, T b) { return le<T>(a, b); } \
  INGOT_INLINE I32 gt_##S(T a, T b) { return gt<T>(a, b); } \
  INGOT_INLINE I32 ge_##S(T a, T b) { return ge<T>(a, b); } \
  INGOT_INLINE I32 bool_##S(T a) { return a != 0; }
INGOT_INT_OPS(i32, I32)
INGOT_INT_OPS(i64, I64)
INGOT_FLOAT_OPS(f32, F32)
INGOT_FLOAT_OPS(f64, F64)
INGOT_COMMON_OPS(i32, I32)
INGOT_COMMON_OPS(i64, I64)
INGOT_COMMON_OPS(f32, F32)
INGOT_COMMON_OPS(f64, F64)
#undef INGOT_INT_OPS
#undef INGOT_FLOAT_OPS
#undef INGOT_COMMON_OPS

INGOT_INLINE I32 not_bool(I32 a) { return a == 0; }
INGOT_INLINE I32 sign_8(I32 a) { return int8_t(uint8_t(uint32_t(a))); }
INGOT_INLINE I32 sign_16(I32 a) { return int16_t(uint16_t(uint32_t(a))); }
INGOT_INLINE I32 zero_8(I32 a) { return a & 0xff; }
INGOT_INLINE I32 zero_16(I32 a) { return a & 0xffff; }
INGOT_INLINE I64 i64_i32(I32 a) { return a; }
INGOT_INLINE I64 i64_u32(I32 a) { return I64(uint32_t(a)); }
INGOT_INLINE I32 i32_i64(I64 a) { return I32(uint32_t(uint64_t(a))); }
INGOT_INLINE F32 f32_f64(F64 a) { return F32(a); }
INGOT_INLINE F64 f64_f32(F32 a) { return F64(a); }
INGOT_INLINE I32 select_32(I32 c, I32 a, I32 b) { return c ? a : b; }
INGOT_INLINE I64 select_64(I32 c, I64 a, I64 b) { return c ? a : b; }

} // namespace lane
} // namespace
