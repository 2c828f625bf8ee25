// Accuracy of the math library against libm in higher precision: f32 over a dense stride of all bit patterns and
// around special points, with fused and unfused mad; f64 over ranges; special values one by one. Prints the table.
#include <catch2/catch.hpp>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>

#include "aotc/kernel/builder.h"
#include "aotc/kernel/integer.h"
#include "aotc/kernel/interpreter.h"
#include "aotc/kernel/math_library.h"
#include "aotc/kernel/verifier.h"

using namespace ingot::aotc;
using namespace ingot::aotc::kernel;

namespace {

constexpr uint32_t kLanes = 16;

// y[i] = op(x[i], z[i]), expanded.
Kernel make(Opcode op, Scalar scalar, uint32_t lanes, bool expand = true) {
  Kernel k;
  k.name = std::string("math_") + std::string(name(op));
  Builder b(k);
  uint32_t x = b.add_buffer("x", Access::kRead, scalar), z = b.add_buffer("z", Access::kRead, scalar),
           y = b.add_buffer("y", Access::kWrite, scalar);
  ValueId n = b.add_param("n");
  b.for_loop(b.index(0), n, b.index(lanes), {}, [&](ValueId i, const Values &) {
    ValueId v = b.load(x, i, lanes);
    b.store(y, i, op == Opcode::kPow ? b.binary(op, v, b.load(z, i, lanes)) : b.unary(op, v));
    return Values{};
  });
  if (expand)
    expand_math(k);
  REQUIRE(verify(k) == "");
  return k;
}

template <class T> std::vector<T> run(const Kernel &k, std::vector<T> x, std::vector<T> z, bool fused) {
  size_t count = x.size();
  while (x.size() % kLanes != 0)
    x.push_back(0);
  z.resize(x.size());
  std::vector<T> y(x.size());
  Binding bindings[] = {{x.data(), x.size() * sizeof(T)}, {z.data(), z.size() * sizeof(T)}, {y.data(), y.size() * sizeof(T)}};
  int64_t params[] = {static_cast<int64_t>(x.size())};
  RunOptions options;
  options.params = params;
  options.mad_fused = fused;
  RunResult result = interpret(k, bindings, options);
  INFO(result.message);
  REQUIRE(result.ok);
  y.resize(count);
  return y;
}

template <class W> W reference(Opcode op, W x, W y) {
  switch (op) {
  case Opcode::kExp: return std::exp(x);
  case Opcode::kLog: return std::log(x);
  case Opcode::kSin: return std::sin(x);
  case Opcode::kCos: return std::cos(x);
  case Opcode::kTan: return std::tan(x);
  case Opcode::kAsin: return std::asin(x);
  case Opcode::kAcos: return std::acos(x);
  case Opcode::kAtan: return std::atan(x);
  case Opcode::kSinh: return std::sinh(x);
  case Opcode::kCosh: return std::cosh(x);
  case Opcode::kTanh: return std::tanh(x);
  case Opcode::kAsinh: return std::asinh(x);
  case Opcode::kAcosh: return std::acosh(x);
  case Opcode::kAtanh: return std::atanh(x);
  case Opcode::kErf: return std::erf(x);
  case Opcode::kPow: return std::pow(x, y);
  case Opcode::kLog1p: return std::log1p(x);
  case Opcode::kExpm1: return std::expm1(x);
  default: return 1 / (1 + std::exp(-x));
  }
}

// Distance in units of the last place of T around the exact value.
template <class T, class W> double ulps(T got, W want) {
  if (std::isnan(want) || std::isnan(got))
    return std::isnan(want) && std::isnan(got) ? 0 : INFINITY;
  T rounded = static_cast<T>(want);
  if (std::isinf(rounded) || std::isinf(got)) {
    if (got == rounded)
      return 0;
    // Just below or above the largest number: the neighbours count as one apart.
    return std::fabs(static_cast<W>(got)) >= std::numeric_limits<T>::max() && std::fabs(want) >= std::numeric_limits<T>::max() * W(1 - 1e-6) &&
                   std::signbit(got) == std::signbit(want)
               ? 1
               : INFINITY;
  }
  int exponent = want == 0 ? -10000 : std::ilogb(want);
  int lowest = std::numeric_limits<T>::min_exponent - 1, digits = std::numeric_limits<T>::digits;
  W unit = std::ldexp(W(1), std::max(exponent, lowest) - digits + 1);
  return static_cast<double>(std::fabs(static_cast<W>(got) - want) / unit);
}

std::vector<float> samples(uint32_t stride) {
  std::vector<float> x;
  auto push = [&](uint32_t bits) {
    float f;
    std::memcpy(&f, &bits, 4);
    x.push_back(f);
  };
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += stride)
    push(static_cast<uint32_t>(bits));
  const float points[] = {0, 1, 0.5f, 0.25f, 2, 88.72284f, 87.33654f, 103.97f, 104, 89.41599f, 0.70710678f, 1.41421356f, 0.41421356f,
                          2.41421356f, 3.93f, 9.05f, 16, 18, 1600, 1.57079633f, 3.14159265f, 4.71238898f, 6.28318531f, 0.78539816f,
                          0.34657359f, 0.69314718f, 1.0397208f, 1e10f, 1e30f, 3.4028234e38f, 1.17549435e-38f, 1e-20f, INFINITY};
  for (float p : points) {
    uint32_t bits;
    std::memcpy(&bits, &p, 4);
    for (int d = -200; d <= 200; ++d) {
      push(bits + static_cast<uint32_t>(d));
      push((bits + static_cast<uint32_t>(d)) ^ 0x80000000u);
    }
  }
  // The floats nearest to multiples of pi/2, where sin and cos cancel.
  for (int n = 1; n < 4000; ++n)
    x.push_back(static_cast<float>(n * 1.5707963267948966));
  return x;
}

constexpr Opcode kUnary[] = {Opcode::kExp, Opcode::kLog, Opcode::kSin, Opcode::kCos, Opcode::kTan, Opcode::kAsin, Opcode::kAcos,
                             Opcode::kAtan, Opcode::kSinh, Opcode::kCosh, Opcode::kTanh, Opcode::kAsinh, Opcode::kAcosh,
                             Opcode::kAtanh, Opcode::kErf, Opcode::kLog1p, Opcode::kExpm1, Opcode::kSigmoid};

void check(Opcode op, const std::vector<float> &x, const std::vector<float> &z) {
  Kernel k = make(op, Scalar::kF32, kLanes);
  double worst[2] = {0, 0};
  float at[2] = {0, 0}, at_z[2] = {0, 0};
  for (int fused = 0; fused < 2; ++fused) {
    std::vector<float> y = run(k, x, z, fused != 0);
    for (size_t i = 0; i < x.size(); ++i) {
      double error = ulps(y[i], reference<double>(op, x[i], op == Opcode::kPow ? z[i] : 0));
      if (error > worst[fused]) {
        worst[fused] = error;
        at[fused] = x[i];
        at_z[fused] = z[i];
      }
    }
  }
  std::printf("%-8s f32: %6.2f ulp at %-14.8g %-14.8g unfused, %6.2f ulp at %-14.8g fused\n", std::string(name(op)).c_str(),
              worst[0], at[0], op == Opcode::kPow ? at_z[0] : 0.0, worst[1], at[1]);
  INFO(name(op));
  CHECK(worst[0] <= 4);
  CHECK(worst[1] <= 4);
}

} // namespace

TEST_CASE("f32 functions are within 4 ulp over the whole range") {
  std::vector<float> x = samples(20011);
  for (Opcode op : kUnary)
    check(op, x, x);
}

TEST_CASE("f32 pow is within 4 ulp") {
  std::vector<float> x, z;
  uint64_t state = 7;
  auto next = [&] {
    state = state * 6364136223846793005 + 1442695040888963407;
    return static_cast<uint32_t>(state >> 32);
  };
  auto any = [&] {
    uint32_t bits = next();
    float f;
    std::memcpy(&f, &bits, 4);
    return f;
  };
  for (int i = 0; i < 60000; ++i) {
    x.push_back(any());
    z.push_back(any());
    // Results within the range: a base near 1 with a large exponent, and moderate ones.
    float base = std::exp2(static_cast<float>(next() % 20001) / 1000 - 10);
    x.push_back(base);
    z.push_back((static_cast<float>(next() % 20001) - 10000) / 10000 * 130 / std::max(std::fabs(std::log2(base)), 1e-3f));
    x.push_back(1 + (static_cast<float>(next() % 2001) - 1000) * 1e-6f);
    z.push_back(static_cast<float>(next() % 100000) * 10);
    x.push_back(-static_cast<float>(next() % 100));
    z.push_back(static_cast<float>(next() % 41) - 20);
  }
  const float specials[] = {0, 1, 2, 3, 0.5f, 1e-45f, 1e30f, 16777216.0f, 16777218.0f, 33554430.0f, NAN, INFINITY};
  for (float a : specials)
    for (float b : specials)
      for (int signs = 0; signs < 4; ++signs) {
        x.push_back(signs & 1 ? -a : a);
        z.push_back(signs & 2 ? -b : b);
      }
  check(Opcode::kPow, x, z);
  // Zeros compare equal above; their signs matter too.
  Kernel k = make(Opcode::kPow, Scalar::kF32, kLanes);
  std::vector<float> y = run(k, x, z, true);
  for (size_t i = 0; i < x.size(); ++i) {
    float want = static_cast<float>(std::pow(static_cast<double>(x[i]), static_cast<double>(z[i])));
    if (want == 0 && y[i] == 0) {
      INFO(x[i] << " " << z[i]);
      REQUIRE(std::signbit(want) == std::signbit(y[i]));
    }
  }
}

TEST_CASE("signs of zero, and zeros at zero") {
  for (Opcode op : {Opcode::kSin, Opcode::kTan, Opcode::kAsin, Opcode::kAtan, Opcode::kSinh, Opcode::kTanh, Opcode::kAsinh,
                    Opcode::kAtanh, Opcode::kErf, Opcode::kLog1p, Opcode::kExpm1})
    for (bool fused : {false, true}) {
      std::vector<float> y = run<float>(make(op, Scalar::kF32, kLanes), {0.0f, -0.0f}, {0, 0}, fused);
      INFO(name(op));
      CHECK(y[0] == 0);
      CHECK_FALSE(std::signbit(y[0]));
      CHECK(y[1] == 0);
      CHECK(std::signbit(y[1]));
      std::vector<double> w = run<double>(make(op, Scalar::kF64, kLanes), {0.0, -0.0}, {0, 0}, fused);
      CHECK(w[0] == 0);
      CHECK_FALSE(std::signbit(w[0]));
      CHECK(std::signbit(w[1]));
    }
}

TEST_CASE("f64 functions") {
  std::vector<double> x;
  uint64_t state = 3;
  auto next = [&] {
    state = state * 6364136223846793005 + 1442695040888963407;
    return static_cast<double>(state >> 11) * 0x1p-53;
  };
  for (int i = 0; i < 30000; ++i) {
    x.push_back((next() - 0.5) * 2);
    x.push_back((next() - 0.5) * 20);
    x.push_back((next() - 0.5) * 1500);
    x.push_back(std::ldexp(next() - 0.5, static_cast<int>(next() * 40) - 20));
    x.push_back(std::exp2((next() - 0.5) * 2000));
  }
  for (double v : {0.0, 1.0, -1.0, 0.5, 709.78, -745.0, 710.47, 1e300, -1e300, 5e-324, (double)INFINITY, -(double)INFINITY, (double)NAN})
    x.push_back(v);
  for (Opcode op : kUnary) {
    bool is_periodic = op == Opcode::kSin || op == Opcode::kCos || op == Opcode::kTan;
    std::vector<double> in;
    for (double v : x)
      if (!is_periodic || !(std::fabs(v) > 0x1p24) || std::isinf(v))
        in.push_back(v);
    std::vector<double> y = run(make(op, Scalar::kF64, kLanes), in, in, true);
    double worst = 0, at = 0;
    for (size_t i = 0; i < in.size(); ++i) {
      double error = ulps(y[i], reference<long double>(op, in[i], 0));
      if (error > worst) {
        worst = error;
        at = in[i];
      }
    }
    std::printf("%-8s f64: %6.2f ulp at %.17g\n", std::string(name(op)).c_str(), worst, at);
    INFO(name(op) << " at " << at);
    CHECK(worst <= 4);
  }
  std::vector<double> base, power;
  for (int i = 0; i < 30000; ++i) {
    base.push_back(std::exp2((next() - 0.5) * 40));
    power.push_back((next() - 0.5) * 2000 / std::max(std::fabs(std::log2(base.back())), 1e-3));
  }
  std::vector<double> y = run(make(Opcode::kPow, Scalar::kF64, kLanes), base, power, true);
  double worst = 0;
  for (size_t i = 0; i < base.size(); ++i)
    worst = std::max(worst, ulps(y[i], std::pow(static_cast<long double>(base[i]), static_cast<long double>(power[i]))));
  std::printf("pow      f64: %6.2f ulp\n", worst);
  CHECK(worst <= 32);
}

TEST_CASE("f16 and bf16 functions are rounded once more, any lanes") {
  for (uint32_t lanes : {1u, 2u, 16u})
    for (Scalar scalar : {Scalar::kF16, Scalar::kBF16})
      for (Opcode op : {Opcode::kExp, Opcode::kTanh, Opcode::kSin, Opcode::kPow}) {
        std::vector<uint16_t> x(65536), a, b;
        for (uint32_t i = 0; i < 65536; ++i)
          x[i] = static_cast<uint16_t>(i);
        std::vector<uint16_t> z(65536, scalar == Scalar::kF16 ? 0x4000 : 0x4040);
        a = run(make(op, scalar, lanes), x, z, true);
        b = run(make(op, scalar, lanes, false), x, z, true);
        auto is_nan = [&](uint16_t v) { return (v & 0x7fff) > (scalar == Scalar::kF16 ? 0x7c00 : 0x7f80); };
        for (uint32_t i = 0; i < 65536; ++i) {
          INFO(name(op) << " " << name(scalar) << " " << i << " " << a[i] << " " << b[i]);
          REQUIRE((std::abs(a[i] - b[i]) <= 1 || (is_nan(a[i]) && is_nan(b[i]))));
        }
      }
}

namespace {

// y[i] = op(x[i]) in f32, rounded to f16, and 1024 times what that takes away; `more`: w[i] too, as it is, which is f32.
Kernel make_half(Opcode op, Scalar from, uint32_t lanes, bool more = false, bool log = false) {
  Kernel k;
  k.name = "math_half";
  Builder b(k);
  const uint32_t x = b.add_buffer("x", Access::kRead, from), y = b.add_buffer("y", Access::kWrite, Scalar::kF16);
  const uint32_t rest = b.add_buffer("rest", Access::kWrite, Scalar::kF16);
  const uint32_t w = more ? b.add_buffer("w", Access::kReadWrite, Scalar::kF32) : 0;
  const ValueId n = b.add_param("n");
  b.for_loop(b.index(0), n, b.index(lanes), {}, [&](ValueId i, const Values &) {
    ValueId v = b.unary(op, b.convert(Type(Scalar::kF32, lanes), b.load(x, i, lanes)));
    if (log)
      v = b.unary(Opcode::kLog, v);
    const ValueId half = b.convert(Type(Scalar::kF16, lanes), v), off = b.sub(v, b.convert(Type(Scalar::kF32, lanes), half));
    b.store(y, i, half);
    b.store(rest, i, b.convert(Type(Scalar::kF16, lanes), b.mul(off, b.constant_float(Type(Scalar::kF32, lanes), 1024))));
    if (more)
      b.store(w, i, v);
    return Values{};
  });
  expand_math(k);
  REQUIRE(verify(k) == "");
  return k;
}

struct Halves {
  std::vector<uint16_t> y, rest;
  std::vector<float> w;
};
template <class T> Halves run_half(const Kernel &k, std::vector<T> x, bool fused) {
  const size_t count = x.size();
  x.resize((count + kLanes - 1) / kLanes * kLanes);
  Halves out{std::vector<uint16_t>(x.size()), std::vector<uint16_t>(x.size()), std::vector<float>(x.size())};
  const Binding bindings[] = {{x.data(), x.size() * sizeof(T)}, {out.y.data(), x.size() * 2}, {out.rest.data(), x.size() * 2}, {out.w.data(), x.size() * 4}};
  const int64_t params[] = {static_cast<int64_t>(x.size())};
  RunOptions options;
  options.params = params;
  options.mad_fused = fused;
  REQUIRE(interpret(k, {bindings, k.memories.size()}, options).message == "");
  out.y.resize(count);
  return out;
}

// How far a f16 is from the exact value, in units of the last place there; 2^16 follows the largest.
double half_ulps(uint16_t got, double want) {
  if (std::isnan(want) || (got & 0x7fff) > 0x7c00)
    return std::isnan(want) && (got & 0x7fff) > 0x7c00 ? 0 : INFINITY;
  auto bounded = [](double v) { return std::min(std::max(v, -65536.0), 65536.0); };
  want = bounded(want);
  const int exponent = want == 0 ? -14 : std::min(std::max(std::ilogb(want), -14), 15);
  return std::fabs(bounded(half_to_float(got)) - want) / std::ldexp(1.0, exponent - 10);
}

} // namespace

TEST_CASE("the logarithm of what f16 does not hold is one that f16 does") {
  const std::vector<float> x = {-90, -100, -20.5, 0, 88.5, 3};
  const Halves h = run_half(make_half(Opcode::kExp, Scalar::kF32, 1, false, /*log=*/true), x, true);
  for (size_t i = 0; i < x.size(); ++i)
    CHECK(std::fabs(half_to_float(h.y[i]) - x[i]) <= std::fabs(x[i]) / 1024);
}

TEST_CASE("exp and erf of kernels that write f16") {
  std::vector<uint16_t> all(65536);
  for (uint32_t i = 0; i < 65536; ++i)
    all[i] = static_cast<uint16_t>(i);
  const std::vector<float> singles = samples(100003);
  for (Opcode op : {Opcode::kExp, Opcode::kErf}) {
    double worst = 0, furthest = 0; // of what is rounded; of what it was before, of exp by the result
    auto judge = [&](double x, uint16_t got, uint16_t rest) {
      const double want = reference<double>(op, x, 0), half = half_to_float(got), ulps = half_ulps(got, want);
      worst = std::max(worst, ulps);
      if (std::isnan(x) || std::isinf(x)) {
        INFO(name(op) << " of " << x << " is " << half);
        CHECK(ulps == 0);
      } else if (std::fabs(half) < 65536 && (op == Opcode::kErf || half > 0x1p-14)) {
        const double error = std::fabs(half + half_to_float(rest) / 1024 - want);
        furthest = std::max(furthest, op == Opcode::kErf ? error : error / want);
      }
    };
    for (bool fused : {false, true})
      for (uint32_t lanes : {1u, kLanes}) {
        const Halves h = run_half(make_half(op, Scalar::kF16, lanes), all, fused);
        for (size_t i = 0; i < all.size(); ++i)
          if (all[i] % 0x8000 <= 0x7c00 || all[i] % 0x8000 == 0x7e00) // one NaN of each sign
            judge(half_to_float(all[i]), h.y[i], h.rest[i]);
        if (lanes == 1)
          continue;
        const Halves of_singles = run_half(make_half(op, Scalar::kF32, lanes), singles, fused);
        for (size_t i = 0; i < singles.size(); ++i)
          judge(singles[i], of_singles.y[i], of_singles.rest[i]);
      }
    std::printf("%-8s f16: %6.2f ulp, %.2g before it is rounded\n", std::string(name(op)).c_str(), worst, furthest);
    INFO(name(op));
    CHECK(worst <= 1);
    CHECK(furthest <= 4e-5);
    // What lies at the ends, and a zero's sign.
    const uint16_t minus = 0x8000, one = 0x3c00, infinity = 0x7c00;
    const Halves ends = run_half<uint16_t>(make_half(op, Scalar::kF16, 1), {0, minus, infinity, minus | infinity}, true);
    CHECK(ends.y == (op == Opcode::kExp ? std::vector<uint16_t>{one, one, infinity, 0} : std::vector<uint16_t>{0, minus, one, minus | one}));
    // One that writes f32 beside it has the form of f32.
    const Halves more = run_half(make_half(op, Scalar::kF32, kLanes, /*more=*/true), singles, true);
    double single = 0;
    for (size_t i = 0; i < singles.size(); ++i)
      single = std::max(single, ulps(more.w[i], reference<double>(op, singles[i], 0)));
    CHECK(single <= 4);
  }
}
