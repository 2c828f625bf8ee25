// The interpreter's ops without side effects, one template a family, instantiated per element type.
#include "aotc/kernel/interpreter_ops.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "aotc/kernel/integer.h"

namespace ingot::aotc::kernel::interp {
namespace {

// Element types. Bool, F16 and BF16 are stored as integers that need types of their own.
struct Bool {
  uint8_t bits;
};
struct F16 {
  uint16_t bits;
};
struct BF16 {
  uint16_t bits;
};

template <class T> constexpr bool kIsFloat = std::is_same_v<T, float> || std::is_same_v<T, double> ||
                                             std::is_same_v<T, F16> || std::is_same_v<T, BF16>;
template <class T> constexpr bool kIsInt = std::is_integral_v<T>;


// What a float type is computed in: itself, or f32.
inline float widen(float x) { return x; }
inline double widen(double x) { return x; }
inline float widen(F16 x) { return half_to_float(x.bits); }
inline float widen(BF16 x) { return bfloat_to_float(x.bits); }

template <class T, class C> T narrow(C x) {
  if constexpr (std::is_same_v<T, F16>)
    return F16{std::is_same_v<C, float> ? float_to_half(static_cast<float>(x)) : double_to_half(static_cast<double>(x))};
  else if constexpr (std::is_same_v<T, BF16>)
    return BF16{std::is_same_v<C, float> ? float_to_bfloat(static_cast<float>(x)) : double_to_bfloat(static_cast<double>(x))};
  else
    return static_cast<T>(x);
}

template <class F> Pure with_int(Scalar scalar, F f) {
  switch (scalar) {
  case Scalar::kI8: return f(int8_t{});
  case Scalar::kI16: return f(int16_t{});
  case Scalar::kI32: return f(int32_t{});
  case Scalar::kI64:
  case Scalar::kIndex: return f(int64_t{});
  default: return nullptr;
  }
}

template <class F> Pure with_float(Scalar scalar, F f) {
  switch (scalar) {
  case Scalar::kF16: return f(F16{});
  case Scalar::kBF16: return f(BF16{});
  case Scalar::kF32: return f(float{});
  case Scalar::kF64: return f(double{});
  default: return nullptr;
  }
}

template <class F> Pure with_any(Scalar scalar, F f) {
  if (scalar == Scalar::kBool)
    return f(Bool{});
  return is_float(scalar) ? with_float(scalar, f) : with_int(scalar, f);
}

template <class T> T *at(uint8_t *slots, size_t slot, size_t element) {
  return reinterpret_cast<T *>(slots + slot) + element;
}

// ---- Elementwise

template <class R, class A, class F> void map1(uint8_t *slots, const Instruction &in, uint32_t begin, uint32_t end) {
  size_t first = size_t{begin} * in.lanes, n = size_t{end - begin} * in.lanes;
  R *r = at<R>(slots, in.result, first);
  const A *a = at<A>(slots, in.operand[0], first);
  for (size_t i = 0; i < n; ++i)
    r[i] = F::apply(a[i]);
}

template <class R, class A, class F> void map2(uint8_t *slots, const Instruction &in, uint32_t begin, uint32_t end) {
  size_t first = size_t{begin} * in.lanes, n = size_t{end - begin} * in.lanes;
  R *r = at<R>(slots, in.result, first);
  const A *a = at<A>(slots, in.operand[0], first), *b = at<A>(slots, in.operand[1], first);
  for (size_t i = 0; i < n; ++i)
    r[i] = F::apply(a[i], b[i]);
}

template <class T, class F> void map3(uint8_t *slots, const Instruction &in, uint32_t begin, uint32_t end) {
  size_t first = size_t{begin} * in.lanes, n = size_t{end - begin} * in.lanes;
  T *r = at<T>(slots, in.result, first);
  const T *a = at<T>(slots, in.operand[0], first), *b = at<T>(slots, in.operand[1], first),
          *c = at<T>(slots, in.operand[2], first);
  for (size_t i = 0; i < n; ++i)
    r[i] = F::apply(a[i], b[i], c[i]);
}

template <class T> using U = std::make_unsigned_t<T>;
template <class T> constexpr uint32_t kWidth = sizeof(T) * 8;
// Arithmetic is done in at least 32 unsigned bits: small types must not promote to (overflowing) int.
template <class T> using W = std::conditional_t<(sizeof(T) < 4), uint32_t, U<T>>;

template <Opcode op> struct IntOp {
  template <class T> static T apply(T a, T b) {
    W<T> x = static_cast<W<T>>(a), y = static_cast<W<T>>(b);
    U<T> ua = static_cast<U<T>>(a), ub = static_cast<U<T>>(b);
    uint32_t shift = static_cast<uint32_t>(ub & (kWidth<T> - 1));
    (void)x, (void)y, (void)ua, (void)ub, (void)shift;
    if constexpr (op == Opcode::kAdd) return static_cast<T>(x + y);
    if constexpr (op == Opcode::kSub) return static_cast<T>(x - y);
    if constexpr (op == Opcode::kMul) return static_cast<T>(x * y);
    if constexpr (op == Opcode::kDiv) return b == 0 ? T(0) : b == -1 ? static_cast<T>(W<T>(0) - x) : static_cast<T>(a / b);
    if constexpr (op == Opcode::kRem) return b == 0 || b == -1 ? T(0) : static_cast<T>(a % b);
    if constexpr (op == Opcode::kDivU) return ub == 0 ? T(0) : static_cast<T>(ua / ub);
    if constexpr (op == Opcode::kRemU) return ub == 0 ? T(0) : static_cast<T>(ua % ub);
    if constexpr (op == Opcode::kMin) return a < b ? a : b;
    if constexpr (op == Opcode::kMax) return a > b ? a : b;
    if constexpr (op == Opcode::kMinU) return ua < ub ? a : b;
    if constexpr (op == Opcode::kMaxU) return ua > ub ? a : b;
    if constexpr (op == Opcode::kAnd) return static_cast<T>(a & b);
    if constexpr (op == Opcode::kOr) return static_cast<T>(a | b);
    if constexpr (op == Opcode::kXor) return static_cast<T>(a ^ b);
    if constexpr (op == Opcode::kShl) return static_cast<T>(static_cast<W<T>>(ua) << shift);
    if constexpr (op == Opcode::kShr) return static_cast<T>(a >> shift);
    if constexpr (op == Opcode::kShrU) return static_cast<T>(ua >> shift);
  }
};

template <Opcode op> struct BoolOp {
  static Bool apply(Bool a, Bool b) {
    if constexpr (op == Opcode::kAnd) return Bool{static_cast<uint8_t>(a.bits & b.bits)};
    if constexpr (op == Opcode::kOr) return Bool{static_cast<uint8_t>(a.bits | b.bits)};
    if constexpr (op == Opcode::kXor) return Bool{static_cast<uint8_t>(a.bits ^ b.bits)};
  }
};

template <Opcode op> struct FloatOp {
  template <class T> static T apply(T a, T b) {
    if constexpr (op == Opcode::kCopySign) {
      if constexpr (std::is_same_v<T, float> || std::is_same_v<T, double>)
        return std::copysign(a, b);
      else
        return T{static_cast<uint16_t>((a.bits & 0x7fff) | (b.bits & 0x8000))};
    } else if constexpr (op == Opcode::kMin || op == Opcode::kMax) {
      auto x = widen(a), y = widen(b);
      if (x != x)
        return a;
      if (y != y)
        return b;
      return (op == Opcode::kMin ? x < y : x > y) ? a : b;
    } else {
      auto x = widen(a), y = widen(b);
      if constexpr (op == Opcode::kAdd) return narrow<T>(x + y);
      if constexpr (op == Opcode::kSub) return narrow<T>(x - y);
      if constexpr (op == Opcode::kMul) return narrow<T>(x * y);
      if constexpr (op == Opcode::kDiv) return narrow<T>(x / y);
      if constexpr (op == Opcode::kRem) return narrow<T>(std::fmod(x, y));
      if constexpr (op == Opcode::kPow) return narrow<T>(std::pow(static_cast<double>(x), static_cast<double>(y)));
    }
  }
};

template <Opcode op> struct Compare {
  template <class T> static Bool apply(T a, T b) {
    bool r = false;
    if constexpr (std::is_same_v<T, Bool>) {
      r = op == Opcode::kEq ? a.bits == b.bits : a.bits != b.bits;
    } else if constexpr (op >= Opcode::kLtU) {
      U<T> x = static_cast<U<T>>(a), y = static_cast<U<T>>(b);
      r = op == Opcode::kLtU ? x < y : op == Opcode::kLeU ? x <= y : op == Opcode::kGtU ? x > y : x >= y;
    } else {
      auto test = [](auto x, auto y) {
        if constexpr (op == Opcode::kEq) return x == y;
        if constexpr (op == Opcode::kNe) return x != y;
        if constexpr (op == Opcode::kLt) return x < y;
        if constexpr (op == Opcode::kLe) return x <= y;
        if constexpr (op == Opcode::kGt) return x > y;
        if constexpr (op == Opcode::kGe) return x >= y;
      };
      if constexpr (kIsFloat<T>)
        r = test(widen(a), widen(b));
      else
        r = test(a, b);
    }
    return Bool{static_cast<uint8_t>(r)};
  }
};

template <class T> auto float_bits(T a) {
  if constexpr (std::is_same_v<T, float>)
    return std::bit_cast<uint32_t>(a);
  else if constexpr (std::is_same_v<T, double>)
    return std::bit_cast<uint64_t>(a);
  else
    return a.bits;
}
template <class T, class B> T from_bits(B bits) {
  if constexpr (std::is_same_v<T, float> || std::is_same_v<T, double>)
    return std::bit_cast<T>(bits);
  else
    return T{static_cast<uint16_t>(bits)};
}

template <Opcode op> struct Unary {
  template <class T> static T apply(T a) {
    if constexpr (std::is_same_v<T, Bool>) {
      return Bool{static_cast<uint8_t>(!a.bits)}; // kNot
    } else if constexpr (kIsInt<T>) {
      if constexpr (op == Opcode::kNeg) return static_cast<T>(W<T>(0) - static_cast<W<T>>(a));
      if constexpr (op == Opcode::kAbs) return a < 0 ? static_cast<T>(W<T>(0) - static_cast<W<T>>(a)) : a;
      if constexpr (op == Opcode::kNot) return static_cast<T>(~a);
    } else if constexpr (op == Opcode::kNeg || op == Opcode::kAbs) {
      auto bits = float_bits(a);
      using B = decltype(bits);
      constexpr B sign = static_cast<B>(B(1) << (sizeof(B) * 8 - 1));
      return from_bits<T>(static_cast<B>(op == Opcode::kNeg ? bits ^ sign : bits & static_cast<B>(~sign)));
    } else {
      auto x = widen(a);
      if constexpr (op == Opcode::kSqrt) return narrow<T>(std::sqrt(x));
      if constexpr (op == Opcode::kFloor) return narrow<T>(std::floor(x));
      if constexpr (op == Opcode::kCeil) return narrow<T>(std::ceil(x));
      if constexpr (op == Opcode::kTrunc) return narrow<T>(std::trunc(x));
      if constexpr (op == Opcode::kRint) return narrow<T>(std::nearbyint(x));
      // The reference of the math functions is libm in double, rounded once.
      double d = static_cast<double>(x);
      if constexpr (op == Opcode::kExp) return narrow<T>(std::exp(d));
      if constexpr (op == Opcode::kLog) return narrow<T>(std::log(d));
      if constexpr (op == Opcode::kSin) return narrow<T>(std::sin(d));
      if constexpr (op == Opcode::kCos) return narrow<T>(std::cos(d));
      if constexpr (op == Opcode::kTan) return narrow<T>(std::tan(d));
      if constexpr (op == Opcode::kAsin) return narrow<T>(std::asin(d));
      if constexpr (op == Opcode::kAcos) return narrow<T>(std::acos(d));
      if constexpr (op == Opcode::kAtan) return narrow<T>(std::atan(d));
      if constexpr (op == Opcode::kSinh) return narrow<T>(std::sinh(d));
      if constexpr (op == Opcode::kCosh) return narrow<T>(std::cosh(d));
      if constexpr (op == Opcode::kTanh) return narrow<T>(std::tanh(d));
      if constexpr (op == Opcode::kAsinh) return narrow<T>(std::asinh(d));
      if constexpr (op == Opcode::kAcosh) return narrow<T>(std::acosh(d));
      if constexpr (op == Opcode::kAtanh) return narrow<T>(std::atanh(d));
      if constexpr (op == Opcode::kErf) return narrow<T>(std::erf(d));
      if constexpr (op == Opcode::kLog1p) return narrow<T>(std::log1p(d));
      if constexpr (op == Opcode::kExpm1) return narrow<T>(std::expm1(d));
      if constexpr (op == Opcode::kSigmoid) return narrow<T>(1.0 / (1.0 + std::exp(-d)));
    }
  }
};

template <Opcode op> struct Classify {
  template <class T> static Bool apply(T a) {
    auto bits = float_bits(a);
    using B = decltype(bits);
    constexpr B magnitude = static_cast<B>(static_cast<B>(~B(0)) >> 1);
    constexpr B infinity = std::is_same_v<T, float>    ? static_cast<B>(0x7f800000)
                           : std::is_same_v<T, double> ? static_cast<B>(0x7ff0000000000000)
                           : std::is_same_v<T, F16>    ? static_cast<B>(0x7c00)
                                                       : static_cast<B>(0x7f80);
    B m = static_cast<B>(bits & magnitude);
    return Bool{static_cast<uint8_t>(op == Opcode::kIsNan ? m > infinity : m == infinity)};
  }
};

template <bool fused> struct Mad {
  template <class T> static T apply(T a, T b, T c) {
    if constexpr (kIsInt<T>) {
      return static_cast<T>(static_cast<W<T>>(a) * static_cast<W<T>>(b) + static_cast<W<T>>(c));
    } else if constexpr (fused) {
      return narrow<T>(std::fma(widen(a), widen(b), widen(c)));
    } else {
      auto product = narrow<T>(widen(a) * widen(b));
      return narrow<T>(widen(product) + widen(c));
    }
  }
};

// ---- Conversions

template <class D, bool is_unsigned, class S> D saturate(S x) {
  using Limits = std::numeric_limits<std::conditional_t<is_unsigned, U<D>, D>>;
  if (x != x)
    return D(0);
  double d = static_cast<double>(x);
  if (d <= static_cast<double>(Limits::min()))
    return static_cast<D>(Limits::min());
  // For 64 bits the double above is max + 1, which is the first value that does not fit.
  if (d >= static_cast<double>(Limits::max()))
    return static_cast<D>(Limits::max());
  return static_cast<D>(static_cast<std::conditional_t<is_unsigned, U<D>, D>>(d));
}

template <class D, bool is_unsigned> struct Convert {
  template <class S> static D apply(S a) {
    if constexpr (std::is_same_v<D, Bool>) {
      if constexpr (std::is_same_v<S, Bool>)
        return a;
      else if constexpr (kIsFloat<S>)
        return Bool{static_cast<uint8_t>(widen(a) != 0)};
      else
        return Bool{static_cast<uint8_t>(a != 0)};
    } else if constexpr (std::is_same_v<S, Bool>) {
      if constexpr (kIsFloat<D>)
        return narrow<D>(static_cast<float>(a.bits));
      else
        return static_cast<D>(a.bits);
    } else if constexpr (kIsFloat<S>) {
      if constexpr (kIsFloat<D>)
        return narrow<D>(widen(a));
      else
        return saturate<D, is_unsigned>(widen(a));
    } else if constexpr (kIsFloat<D>) {
      // To f16 and bf16 by way of f32.
      using C = std::conditional_t<std::is_same_v<D, double>, double, float>;
      if constexpr (is_unsigned)
        return narrow<D>(static_cast<C>(static_cast<U<S>>(a)));
      else
        return narrow<D>(static_cast<C>(a));
    } else if constexpr (is_unsigned) {
      return static_cast<D>(static_cast<U<D>>(static_cast<U<S>>(a)));
    } else {
      return static_cast<D>(a);
    }
  }
};

template <bool is_unsigned> Pure find_convert(Scalar to, Scalar from) {
  // Only conversions between an integer and a number differ. (GCC 12 at -O2 merges the equal instances wrongly.)
  if (is_unsigned && (to == Scalar::kBool || from == Scalar::kBool || (is_float(to) && is_float(from))))
    return find_convert<false>(to, from);
  return with_any(to, [&](auto d) {
    using D = decltype(d);
    return with_any(from, [&](auto s) -> Pure { return &map1<D, decltype(s), Convert<D, is_unsigned>>; });
  });
}

void copy_bits(uint8_t *slots, const Instruction &in, uint32_t begin, uint32_t end) {
  size_t bytes = size_t{in.lanes} * in.element_bytes;
  std::memcpy(slots + in.result + begin * bytes, slots + in.operand[0] + begin * bytes, (end - begin) * bytes);
}

// ---- Moves

template <class T> void splat(uint8_t *slots, const Instruction &in, uint32_t begin, uint32_t end) {
  for (uint32_t t = begin; t < end; ++t) {
    T value = *at<T>(slots, in.operand[0], t);
    T *r = at<T>(slots, in.result, size_t{t} * in.lanes);
    for (uint32_t k = 0; k < in.lanes; ++k)
      r[k] = value;
  }
}

template <class T> void extract(uint8_t *slots, const Instruction &in, uint32_t begin, uint32_t end) {
  for (uint32_t t = begin; t < end; ++t)
    *at<T>(slots, in.result, t) =
        *at<T>(slots, in.operand[0], size_t{t} * in.operand_lanes + static_cast<size_t>(in.imm));
}

template <class T> void insert(uint8_t *slots, const Instruction &in, uint32_t begin, uint32_t end) {
  for (uint32_t t = begin; t < end; ++t) {
    T *r = at<T>(slots, in.result, size_t{t} * in.lanes);
    std::memcpy(r, at<T>(slots, in.operand[0], size_t{t} * in.lanes), in.lanes * sizeof(T));
    r[in.imm] = *at<T>(slots, in.operand[1], t);
  }
}

template <class T> void shuffle(uint8_t *slots, const Instruction &in, uint32_t begin, uint32_t end) {
  for (uint32_t t = begin; t < end; ++t) {
    const T *a = at<T>(slots, in.operand[0], size_t{t} * in.operand_lanes);
    const T *b = at<T>(slots, in.operand[1], size_t{t} * in.operand_lanes);
    T *r = at<T>(slots, in.result, size_t{t} * in.lanes);
    for (uint32_t k = 0; k < in.lanes; ++k) {
      size_t lane = static_cast<size_t>(in.lane_numbers[k]);
      r[k] = lane < in.operand_lanes ? a[lane] : b[lane - in.operand_lanes];
    }
  }
}

template <class T> void select(uint8_t *slots, const Instruction &in, uint32_t begin, uint32_t end) {
  for (uint32_t t = begin; t < end; ++t) {
    const Bool *c = at<Bool>(slots, in.operand[0], size_t{t} * in.operand_lanes);
    const T *a = at<T>(slots, in.operand[1], size_t{t} * in.lanes), *b = at<T>(slots, in.operand[2], size_t{t} * in.lanes);
    T *r = at<T>(slots, in.result, size_t{t} * in.lanes);
    if (in.operand_lanes == 1)
      std::memcpy(r, c[0].bits ? a : b, in.lanes * sizeof(T));
    else
      for (uint32_t k = 0; k < in.lanes; ++k)
        r[k] = c[k].bits ? a[k] : b[k];
  }
}

template <class T, class F> void reduce(uint8_t *slots, const Instruction &in, uint32_t begin, uint32_t end) {
  T work[kMaxLanes];
  for (uint32_t t = begin; t < end; ++t) {
    std::memcpy(work, at<T>(slots, in.operand[0], size_t{t} * in.operand_lanes), in.operand_lanes * sizeof(T));
    for (uint32_t half = in.operand_lanes / 2; half > 0; half /= 2)
      for (uint32_t k = 0; k < half; ++k)
        work[k] = F::apply(work[k], work[k + half]);
    *at<T>(slots, in.result, t) = work[0];
  }
}

template <class T> void fill(uint8_t *slots, const Instruction &in, uint32_t begin, uint32_t end) {
  T *r = at<T>(slots, in.result, size_t{begin} * in.lanes);
  size_t n = size_t{end - begin} * in.lanes;
  T value;
  if constexpr (std::is_same_v<T, Bool>)
    value = Bool{static_cast<uint8_t>(in.imm != 0)};
  else if constexpr (kIsFloat<T>)
    value = narrow<T>(in.fimm);
  else
    value = static_cast<T>(in.imm);
  for (size_t i = 0; i < n; ++i)
    r[i] = value;
}

template <class T> void iota(uint8_t *slots, const Instruction &in, uint32_t begin, uint32_t end) {
  for (uint32_t t = begin; t < end; ++t)
    for (uint32_t k = 0; k < in.lanes; ++k)
      *at<T>(slots, in.result, size_t{t} * in.lanes + k) = static_cast<T>(k);
}

// ---- Tables

template <Opcode op> Pure find_binary(Scalar scalar) {
  if (scalar == Scalar::kBool) {
    if constexpr (op == Opcode::kAnd || op == Opcode::kOr || op == Opcode::kXor)
      return &map2<Bool, Bool, BoolOp<op>>;
    return nullptr;
  }
  if constexpr (op == Opcode::kAdd || op == Opcode::kSub || op == Opcode::kMul || op == Opcode::kDiv ||
                op == Opcode::kRem || op == Opcode::kMin || op == Opcode::kMax || op == Opcode::kCopySign ||
                op == Opcode::kPow)
    if (is_float(scalar))
      return with_float(scalar, [](auto t) -> Pure { return &map2<decltype(t), decltype(t), FloatOp<op>>; });
  if constexpr (op != Opcode::kCopySign && op != Opcode::kPow)
    if (is_int(scalar))
      return with_int(scalar, [](auto t) -> Pure { return &map2<decltype(t), decltype(t), IntOp<op>>; });
  return nullptr;
}

template <Opcode op> Pure find_compare(Scalar scalar) {
  if constexpr (op >= Opcode::kLtU)
    return with_int(scalar, [](auto t) -> Pure { return &map2<Bool, decltype(t), Compare<op>>; });
  else if (scalar == Scalar::kBool)
    return op == Opcode::kEq || op == Opcode::kNe ? &map2<Bool, Bool, Compare<op>> : nullptr;
  else
    return with_any(scalar, [](auto t) -> Pure { return &map2<Bool, decltype(t), Compare<op>>; });
}

template <Opcode op> Pure find_unary(Scalar scalar) {
  if constexpr (op == Opcode::kNot) {
    if (scalar == Scalar::kBool)
      return &map1<Bool, Bool, Unary<op>>;
    return with_int(scalar, [](auto t) -> Pure { return &map1<decltype(t), decltype(t), Unary<op>>; });
  } else {
    if constexpr (op == Opcode::kNeg || op == Opcode::kAbs)
      if (is_int(scalar))
        return with_int(scalar, [](auto t) -> Pure { return &map1<decltype(t), decltype(t), Unary<op>>; });
    return with_float(scalar, [](auto t) -> Pure { return &map1<decltype(t), decltype(t), Unary<op>>; });
  }
}

template <Opcode op> Pure find_classify(Scalar scalar) {
  return with_float(scalar, [](auto t) -> Pure { return &map1<Bool, decltype(t), Classify<op>>; });
}

template <Opcode op> Pure find_reduce(Scalar scalar) {
  if (is_float(scalar))
    return with_float(scalar, [](auto t) -> Pure { return &reduce<decltype(t), FloatOp<op>>; });
  return with_int(scalar, [](auto t) -> Pure { return &reduce<decltype(t), IntOp<op>>; });
}

template <bool fused> Pure find_mad(Scalar scalar) {
  return with_any(scalar, [](auto t) -> Pure {
    if constexpr (std::is_same_v<decltype(t), Bool>)
      return nullptr;
    else
      return &map3<decltype(t), Mad<fused>>;
  });
}

// kDot4 (T, U = uint8_t, int8_t) and kDot2 (int16_t twice); sums wrap.
template <class T, class U, uint32_t terms> void dot(uint8_t *slots, const Instruction &in, uint32_t begin, uint32_t end) {
  bool shared = in.operand_lanes == terms && in.lanes > 1; // the left side serves every lane
  for (uint32_t t = begin; t < end; ++t) {
    const T *a = at<T>(slots, in.operand[0], size_t{t} * in.operand_lanes);
    const U *b = at<U>(slots, in.operand[1], size_t{t} * in.lanes * terms);
    const uint32_t *c = at<uint32_t>(slots, in.operand[2], size_t{t} * in.lanes);
    uint32_t *out = at<uint32_t>(slots, in.result, size_t{t} * in.lanes);
    for (uint32_t i = 0; i < in.lanes; ++i) {
      uint32_t sum = c[i];
      for (uint32_t j = 0; j < terms; ++j)
        sum += static_cast<uint32_t>(int32_t{a[shared ? j : i * terms + j]} * int32_t{b[i * terms + j]});
      out[i] = sum;
    }
  }
}

} // namespace

Pure find_unfused_mad(Type type) { return find_mad<false>(type.scalar); }

Pure find_pure(const Kernel &kernel, const Op &op) {
  if (op.results.size() != 1)
    return nullptr;
  Scalar result = kernel.types[op.results[0]].scalar;
  Scalar from = op.operands.empty() ? result : kernel.types[op.operands[0]].scalar;
  switch (op.code) {
#define INGOT_CASE(family, opcode)                                                                                     \
  case Opcode::opcode:                                                                                                 \
    return family<Opcode::opcode>(from);
#define INGOT_BINARY(opcode) INGOT_CASE(find_binary, opcode)
#define INGOT_UNARY(opcode) INGOT_CASE(find_unary, opcode)
#define INGOT_COMPARE(opcode) INGOT_CASE(find_compare, opcode)
    INGOT_BINARY(kAdd) INGOT_BINARY(kSub) INGOT_BINARY(kMul) INGOT_BINARY(kDiv) INGOT_BINARY(kRem)
    INGOT_BINARY(kDivU) INGOT_BINARY(kRemU) INGOT_BINARY(kMin) INGOT_BINARY(kMax) INGOT_BINARY(kMinU)
    INGOT_BINARY(kMaxU) INGOT_BINARY(kAnd) INGOT_BINARY(kOr) INGOT_BINARY(kXor) INGOT_BINARY(kShl)
    INGOT_BINARY(kShr) INGOT_BINARY(kShrU) INGOT_BINARY(kCopySign) INGOT_BINARY(kPow)
    INGOT_UNARY(kNeg) INGOT_UNARY(kAbs) INGOT_UNARY(kNot) INGOT_UNARY(kSqrt) INGOT_UNARY(kFloor) INGOT_UNARY(kCeil)
    INGOT_UNARY(kTrunc) INGOT_UNARY(kRint) INGOT_UNARY(kExp) INGOT_UNARY(kLog) INGOT_UNARY(kSin) INGOT_UNARY(kCos)
    INGOT_UNARY(kTan) INGOT_UNARY(kAsin) INGOT_UNARY(kAcos) INGOT_UNARY(kAtan) INGOT_UNARY(kSinh)
    INGOT_UNARY(kCosh) INGOT_UNARY(kTanh) INGOT_UNARY(kAsinh) INGOT_UNARY(kAcosh) INGOT_UNARY(kAtanh)
    INGOT_UNARY(kErf) INGOT_UNARY(kLog1p) INGOT_UNARY(kExpm1) INGOT_UNARY(kSigmoid)
    INGOT_COMPARE(kEq) INGOT_COMPARE(kNe) INGOT_COMPARE(kLt) INGOT_COMPARE(kLe) INGOT_COMPARE(kGt) INGOT_COMPARE(kGe)
    INGOT_COMPARE(kLtU) INGOT_COMPARE(kLeU) INGOT_COMPARE(kGtU) INGOT_COMPARE(kGeU)
    INGOT_CASE(find_classify, kIsNan)
    INGOT_CASE(find_classify, kIsInf)
#undef INGOT_COMPARE
#undef INGOT_UNARY
#undef INGOT_BINARY
#undef INGOT_CASE
  case Opcode::kReduceAdd: return find_reduce<Opcode::kAdd>(from);
  case Opcode::kReduceMul: return find_reduce<Opcode::kMul>(from);
  case Opcode::kReduceMin: return find_reduce<Opcode::kMin>(from);
  case Opcode::kReduceMax: return find_reduce<Opcode::kMax>(from);
  case Opcode::kMad:
  case Opcode::kFma: return find_mad<true>(from);
  case Opcode::kConvert: return find_convert<false>(result, from);
  case Opcode::kConvertU: return find_convert<true>(result, from);
  case Opcode::kBitcast: return &copy_bits;
  case Opcode::kDot4: return &dot<uint8_t, int8_t, 4>;
  case Opcode::kDot2: return &dot<int16_t, int16_t, 2>;
  case Opcode::kConst: return with_any(result, [](auto t) -> Pure { return &fill<decltype(t)>; });
  case Opcode::kLaneIota: return with_int(result, [](auto t) -> Pure { return &iota<decltype(t)>; });
  case Opcode::kSplat: return with_any(result, [](auto t) -> Pure { return &splat<decltype(t)>; });
  case Opcode::kExtract: return with_any(result, [](auto t) -> Pure { return &extract<decltype(t)>; });
  case Opcode::kInsert: return with_any(result, [](auto t) -> Pure { return &insert<decltype(t)>; });
  case Opcode::kShuffle: return with_any(result, [](auto t) -> Pure { return &shuffle<decltype(t)>; });
  case Opcode::kSelect: return with_any(result, [](auto t) -> Pure { return &select<decltype(t)>; });
  default: return nullptr;
  }
}

} // namespace ingot::aotc::kernel::interp
