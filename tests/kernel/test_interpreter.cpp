// The interpreter's semantics, op by op with edge cases, and what it finds: bad accesses, races, divergence, fuel.
#include <catch2/catch.hpp>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>

#include "aotc/kernel/builder.h"
#include "aotc/kernel/integer.h"
#include "aotc/kernel/interpreter.h"
#include "aotc/kernel/text.h"
#include "aotc/kernel/verifier.h"

using namespace ingot::aotc;
using namespace ingot::aotc::kernel;

namespace {

template <class T> Binding bind(std::vector<T> &v) { return {v.data(), v.size() * sizeof(T)}; }

Kernel parsed(const std::string &text) {
  Kernel k;
  REQUIRE(parse(text, k) == "");
  REQUIRE(verify(k) == "");
  return k;
}

// op over vectors of inputs, elementwise.
template <class R, class A>
std::vector<R> apply(Opcode op, Scalar from, Scalar to, std::vector<std::vector<A>> inputs) {
  Kernel k;
  k.name = "apply";
  Builder b(k);
  std::vector<uint32_t> in;
  for (size_t i = 0; i < inputs.size(); ++i)
    in.push_back(b.add_buffer("in" + std::to_string(i), Access::kRead, from));
  uint32_t out = b.add_buffer("out", Access::kWrite, to);
  b.for_loop(b.index(0), b.index(static_cast<int64_t>(inputs[0].size())), b.index(1), {}, [&](ValueId i, const Values &) {
    Values v;
    for (uint32_t buffer : in)
      v.push_back(b.load(buffer, i));
    ValueId r = op == Opcode::kConvert    ? b.convert(to, v[0])
                : op == Opcode::kConvertU ? b.convert_u(to, v[0])
                : op == Opcode::kBitcast  ? b.bitcast(to, v[0])
                : v.size() == 1           ? b.unary(op, v[0])
                : v.size() == 2           ? b.binary(op, v[0], v[1])
                                          : b.ternary(op, v[0], v[1], v[2]);
    b.store(out, i, r);
    return Values{};
  });
  std::vector<R> result(inputs[0].size());
  std::vector<Binding> bindings;
  for (auto &v : inputs)
    bindings.push_back(bind(v));
  bindings.push_back(bind(result));
  RunResult run = interpret(k, bindings, {});
  INFO(run.message);
  REQUIRE(run.ok);
  return result;
}

using I32 = std::vector<int32_t>;
constexpr int32_t kMin32 = INT32_MIN, kMax32 = INT32_MAX;

I32 i32(Opcode op, I32 a, I32 b) { return apply<int32_t, int32_t>(op, Scalar::kI32, Scalar::kI32, {a, b}); }
std::vector<float> f32(Opcode op, std::vector<std::vector<float>> in) {
  return apply<float, float>(op, Scalar::kF32, Scalar::kF32, in);
}

} // namespace

TEST_CASE("integer ops are total") {
  CHECK(i32(Opcode::kAdd, {kMax32, 1}, {1, 2}) == I32{kMin32, 3});
  CHECK(i32(Opcode::kSub, {kMin32}, {1}) == I32{kMax32});
  CHECK(i32(Opcode::kMul, {kMin32, 65536}, {-1, 65536}) == I32{kMin32, 0});
  CHECK(i32(Opcode::kDiv, {7, -7, 5, kMin32}, {2, 2, 0, -1}) == I32{3, -3, 0, kMin32});
  CHECK(i32(Opcode::kRem, {7, -7, 5, kMin32}, {2, 2, 0, -1}) == I32{1, -1, 0, 0});
  CHECK(i32(Opcode::kDivU, {-1, 5}, {2, 0}) == I32{kMax32, 0});
  CHECK(i32(Opcode::kRemU, {-1, 5}, {10, 0}) == I32{5, 0});
  CHECK(i32(Opcode::kMin, {-1}, {1}) == I32{-1});
  CHECK(i32(Opcode::kMinU, {-1}, {1}) == I32{1});
  CHECK(i32(Opcode::kMaxU, {-1}, {1}) == I32{-1});
  CHECK(i32(Opcode::kShl, {1, 1, 3}, {31, 33, -1}) == I32{kMin32, 2, kMin32});
  CHECK(i32(Opcode::kShr, {-8, -8}, {1, 32}) == I32{-4, -8});
  CHECK(i32(Opcode::kShrU, {-8, -8}, {1, 32}) == I32{0x7ffffffc, -8});
  CHECK(apply<int32_t, int32_t>(Opcode::kAbs, Scalar::kI32, Scalar::kI32, {{kMin32, -3}}) == I32{kMin32, 3});
  CHECK(apply<int8_t, int8_t>(Opcode::kDiv, Scalar::kI8, Scalar::kI8, {{-128, 100}, {-1, 3}}) == std::vector<int8_t>{-128, 33});
  CHECK(apply<int8_t, int8_t>(Opcode::kShl, Scalar::kI8, Scalar::kI8, {{1, 1}, {7, 9}}) == std::vector<int8_t>{-128, 2});
  CHECK(apply<int64_t, int64_t>(Opcode::kDiv, Scalar::kI64, Scalar::kI64, {{INT64_MIN, 1}, {-1, 0}}) ==
        std::vector<int64_t>{INT64_MIN, 0});
  CHECK(apply<int16_t, int16_t>(Opcode::kMul, Scalar::kI16, Scalar::kI16, {{-1, 300}, {-1, 300}}) ==
        std::vector<int16_t>{1, static_cast<int16_t>(90000)});
}

TEST_CASE("the builder's folds agree with the interpreter") {
  int64_t values[] = {0, 1, -1, 2, 7, 31, 33, INT8_MAX, INT8_MIN, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN};
  for (Scalar scalar : {Scalar::kI8, Scalar::kI16, Scalar::kI32, Scalar::kI64})
    for (int op = static_cast<int>(Opcode::kAdd); op <= static_cast<int>(Opcode::kShrU); ++op)
      for (int64_t a : values)
        for (int64_t c : values) {
          int64_t x = sign_extend(a, bit_width(scalar)), y = sign_extend(c, bit_width(scalar)), folded = 0;
          REQUIRE(fold_integer(static_cast<Opcode>(op), scalar, x, y, folded));
          std::vector<int64_t> in0 = {x}, in1 = {y}, out = {0x5555};
          Kernel k;
          k.name = "k";
          Builder b(k);
          uint32_t p = b.add_buffer("p", Access::kRead, scalar), q = b.add_buffer("q", Access::kRead, scalar),
                   r = b.add_buffer("r", Access::kWrite, Scalar::kI64);
          b.store(r, b.index(0), b.convert(Scalar::kI64, b.binary(static_cast<Opcode>(op), b.load(p, b.index(0)),
                                                                  b.load(q, b.index(0)))));
          Binding bindings[] = {bind(in0), bind(in1), bind(out)};
          REQUIRE(interpret(k, bindings, {}).ok);
          INFO(name(static_cast<Opcode>(op)) << " " << name(scalar) << " " << x << " " << y);
          REQUIRE(out[0] == folded);
        }
}

TEST_CASE("float ops") {
  float nan = NAN, inf = INFINITY;
  auto is_nan = [](float x) { return x != x; };
  CHECK(is_nan(f32(Opcode::kMin, {{nan}, {1}})[0]));
  CHECK(is_nan(f32(Opcode::kMax, {{1}, {nan}})[0]));
  CHECK(f32(Opcode::kMin, {{1}, {2}})[0] == 1);
  CHECK(f32(Opcode::kDiv, {{1}, {0}})[0] == inf);
  CHECK(f32(Opcode::kRem, {{-7.5f, 5.5f}, {2, -2}}) == std::vector<float>{-1.5f, 1.5f});
  CHECK(is_nan(f32(Opcode::kRem, {{1}, {0}})[0]));
  CHECK(f32(Opcode::kRint, {{0.5f, 1.5f, 2.5f, -0.5f}}) == std::vector<float>{0, 2, 2, 0});
  CHECK(std::signbit(f32(Opcode::kRint, {{-0.5f}})[0]));
  CHECK(std::signbit(f32(Opcode::kNeg, {{0.0f}})[0]));
  CHECK(is_nan(f32(Opcode::kSqrt, {{-1}})[0]));
  CHECK(f32(Opcode::kCopySign, {{3, 3}, {-0.0f, 1}}) == std::vector<float>{-3, 3});
  float a = 1 + 0x1p-12f;
  CHECK(f32(Opcode::kMad, {{a}, {a}, {-1}})[0] == std::fma(a, a, -1.0f));
}

TEST_CASE("comparisons with NaN") {
  float nan = NAN;
  auto compare = [&](Opcode op, float x, float y) {
    return apply<uint8_t, float>(op, Scalar::kF32, Scalar::kBool, {{x}, {y}})[0];
  };
  for (Opcode op : {Opcode::kEq, Opcode::kLt, Opcode::kLe, Opcode::kGt, Opcode::kGe})
    CHECK(compare(op, nan, 1) == 0);
  CHECK(compare(Opcode::kNe, nan, nan) == 1);
  CHECK(compare(Opcode::kEq, 0.0f, -0.0f) == 1);
  CHECK(apply<uint8_t, float>(Opcode::kIsNan, Scalar::kF32, Scalar::kBool, {{nan, INFINITY, 1}}) ==
        std::vector<uint8_t>{1, 0, 0});
  CHECK(apply<uint8_t, float>(Opcode::kIsInf, Scalar::kF32, Scalar::kBool, {{nan, -INFINITY, 1}}) ==
        std::vector<uint8_t>{0, 1, 0});
}

TEST_CASE("conversions saturate and round") {
  auto to = [](Scalar s, std::vector<float> v) { return apply<int32_t, float>(Opcode::kConvert, Scalar::kF32, s, {v}); };
  CHECK(to(Scalar::kI32, {1.9f, -1.9f, 3e9f, -3e9f, NAN, INFINITY, -INFINITY}) ==
        I32{1, -1, kMax32, kMin32, 0, kMax32, kMin32});
  CHECK(apply<int32_t, float>(Opcode::kConvertU, Scalar::kF32, Scalar::kI32, {{-1, 3e9f, 1e10f, NAN}}) ==
        I32{0, static_cast<int32_t>(3000000000u), -1, 0});
  CHECK(apply<int8_t, float>(Opcode::kConvert, Scalar::kF32, Scalar::kI8, {{200, -200, 5.5f}}) == std::vector<int8_t>{127, -128, 5});
  CHECK(apply<int64_t, float>(Opcode::kConvert, Scalar::kF32, Scalar::kI64, {{1e30f, -1e30f}}) ==
        std::vector<int64_t>{INT64_MAX, INT64_MIN});
  CHECK(apply<int64_t, int32_t>(Opcode::kConvert, Scalar::kI32, Scalar::kI64, {{-1}}) == std::vector<int64_t>{-1});
  CHECK(apply<int64_t, int32_t>(Opcode::kConvertU, Scalar::kI32, Scalar::kI64, {{-1}}) == std::vector<int64_t>{0xffffffff});
  CHECK(apply<float, int32_t>(Opcode::kConvert, Scalar::kI32, Scalar::kF32, {{16777217}}) == std::vector<float>{16777216});
  CHECK(apply<uint8_t, float>(Opcode::kConvert, Scalar::kF32, Scalar::kBool, {{0, -0.0f, NAN, 0.5f}}) ==
        std::vector<uint8_t>{0, 0, 1, 1});
  CHECK(apply<uint16_t, float>(Opcode::kConvert, Scalar::kF32, Scalar::kF16, {{1, 65519, 65520, 0x1p-25f, 0x1.8p-25f, -1e-10f}}) ==
        std::vector<uint16_t>{0x3c00, 0x7bff, 0x7c00, 0, 1, 0x8000});
  CHECK(apply<uint16_t, float>(Opcode::kConvert, Scalar::kF32, Scalar::kBF16, {{1, 3.4028234e38f, 1.00390625f}}) ==
        std::vector<uint16_t>{0x3f80, 0x7f80, 0x3f80});
  for (Opcode op : {Opcode::kConvert, Opcode::kConvertU})
    CHECK(apply<uint8_t, uint16_t>(op, Scalar::kF16, Scalar::kBool, {{0, 0x8000, 0xdf93, 0x7e00, 1}}) ==
          std::vector<uint8_t>{0, 0, 1, 1, 1});
  CHECK(apply<int32_t, float>(Opcode::kBitcast, Scalar::kF32, Scalar::kI32, {{1}}) == I32{0x3f800000});
}

TEST_CASE("half conversions agree with their definition for every bit pattern") {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    uint16_t h = static_cast<uint16_t>(bits);
    float f = half_to_float(h), g = bfloat_to_float(h);
    if (f == f) {
      REQUIRE(float_to_half(f) == h);
      REQUIRE(double_to_half(f) == h);
      // Half way to the next one goes to the even one, a little more goes up.
      if ((bits & 0x7fff) < 0x7bff) {
        double next = half_to_float(static_cast<uint16_t>(bits + 1)), middle = (f + next) / 2;
        REQUIRE(double_to_half(middle) == (bits & 1 ? bits + 1 : bits));
        REQUIRE(float_to_half(static_cast<float>(middle)) == (bits & 1 ? bits + 1 : bits));
        REQUIRE(double_to_half(middle * (1 + 0x1p-50)) == bits + 1);
      }
    } else {
      REQUIRE(std::isnan(half_to_float(float_to_half(f))));
    }
    if (g == g) {
      REQUIRE(float_to_bfloat(g) == h);
      REQUIRE(double_to_bfloat(g) == h);
    }
  }
}

TEST_CASE("vectors") {
  Kernel k = parsed(R"(kernel @v simd local 1 1 1 {
  buffer @x read i32 align 64
  buffer @y write i32 align 64
  %0 = const 0 : index
  %1 = load @x[%0] align 4 : i32x8
  %2 = const 8 : index
  %3 = load @x[%2] : i32x8
  %4 = shuffle %1, %3 [15 0 8 7] : i32x4
  store @y[%0], %4
  %5 = reduce_add %1 : i32
  %6 = const 4 : index
  store @y[%6], %5
  %7 = insert %4, %5, 2 : i32x4
  %8 = extract %7, 2 : i32
  %9 = lane_iota : i32x4
  %10 = mad %7, %9, %4 : i32x4
  store @y[%2], %10
  %11 = splat %8 : i32x4
  %12 = lt %9, %11 : boolx4
  %13 = select %12, %9, %11 : i32x4
  %14 = const 12 : index
  store @y[%14], %13
})");
  I32 x(16), y(16);
  for (int i = 0; i < 16; ++i)
    x[static_cast<size_t>(i)] = i + 1;
  Binding bindings[] = {bind(x), bind(y)};
  RunResult run = interpret(k, bindings, {});
  REQUIRE(run.ok);
  CHECK(y == I32{16, 1, 9, 8, 36, 0, 0, 0, 16, 2, 81, 32, 0, 1, 2, 3});
}

TEST_CASE("partial and predicated accesses touch only what they may") {
  Kernel k = parsed(R"(kernel @p simd local 1 1 1 {
  param @n index
  buffer @x read f32 align 64
  buffer @y read_write f32 align 64
  %0 = param 0 : index
  %1 = const 0 : index
  %2 = const 9.0 : f32x8
  %3 = load_part @x[%1], %0, %2 : f32x8
  store_part @y[%1], %3, %0
  %4 = const 1000000 : index
  %5 = const 0 : bool
  %6 = const 5.0 : f32
  %7 = load_if %5, @x[%4], %6 : f32
  store_if %5, @y[%4], %7
  %8 = lane_iota : indexx8
  %9 = splat %0 : indexx8
  %10 = lt %8, %9 : boolx8
  %11 = gather @x[%8], %10, %2 : f32x8
  scatter @y[%8], %11, %10
  %12 = load_if %10, @x[%1], %2 : f32x8
  store_if %10, @y[%1], %12
  prefetch @x[%4]
})");
  std::vector<float> x = {1, 2, 3}, y = {0, 0, 0};
  Binding bindings[] = {bind(x), bind(y)};
  int64_t params[] = {3};
  RunOptions options;
  options.params = params;
  RunResult run = interpret(k, bindings, options);
  INFO(run.message);
  REQUIRE(run.ok);
  CHECK(y == x);
  params[0] = -5;
  CHECK(interpret(k, bindings, options).ok);
  params[0] = 4;
  run = interpret(k, bindings, options);
  CHECK_FALSE(run.ok);
  CHECK(run.message == "kernel p: access out of range: elements 0 to 3 of @x, which has 3, by thread (0, 0, 0) of group "
                       "(0, 0, 0), in: %3 = load_part @x[%1], %0, %2 : f32x8");
}

TEST_CASE("misaligned access is found") {
  Kernel k = parsed("kernel @a simd local 1 1 1 {\n  buffer @x read f32 align 64\n  %0 = const 2 : index\n"
                    "  %1 = load @x[%0] align 4 : f32x4\n}");
  std::vector<float> x(16);
  Binding bindings[] = {bind(x)};
  RunResult run = interpret(k, bindings, {});
  CHECK_FALSE(run.ok);
  CHECK(run.message.find("not a multiple of the alignment 4") != std::string::npos);
}

TEST_CASE("loops carry values, swap them, and end") {
  Kernel k = parsed(R"(kernel @fib simd local 1 1 1 {
  param @n i32
  buffer @y write i32 align 64
  %0 = param 0 : i32
  %1 = const 0 : i32
  %2 = const 1 : i32
  %3, %4 = for %5 = %1 to %0 step %2 carry %6 = %1, %7 = %2 : i32, i32 {
    %8 = add %6, %7 : i32
    yield %7, %8
  }
  %9, %10 = while carry %11 = %3, %12 = %4 : i32, i32 {
    %13 = lt %11, %12 : bool
    yield %13, %11, %12
  } do %14, %15 {
    yield %15, %14
  }
  %16 = const 0 : index
  store @y[%16], %9
  %17 = const 1 : index
  store @y[%17], %10
})");
  I32 y(2);
  Binding bindings[] = {bind(y)};
  int64_t params[] = {10};
  RunOptions options;
  options.params = params;
  REQUIRE(interpret(k, bindings, options).ok);
  CHECK(y == I32{89, 55});
  params[0] = -3;
  REQUIRE(interpret(k, bindings, options).ok);
  CHECK(y == I32{1, 0});
}

TEST_CASE("a loop at the end of its type's range ends") {
  Kernel k = parsed(R"(kernel @edge simd local 1 1 1 {
  buffer @y write i32 align 64
  %0 = const 2147483640 : i32
  %1 = const 2147483647 : i32
  %2 = const 5 : i32
  %3 = const 0 : i32
  %4 = for %5 = %0 to %1 step %2 carry %6 = %3 : i32 {
    %7 = add %6, %2 : i32
    yield %7
  }
  %8 = const 0 : index
  store @y[%8], %4
})");
  I32 y(1);
  Binding bindings[] = {bind(y)};
  REQUIRE(interpret(k, bindings, {}).ok);
  CHECK(y[0] == 10);
}

namespace {

// Threads of a workgroup reverse 64 elements through an array, with or without the barrier between.
std::string reverse_kernel(bool barrier) {
  return std::string(R"(kernel @reverse simt local 64 1 1 {
  buffer @x read i32 align 64
  buffer @y write i32 align 64
  array @tile workgroup i32 64 align 16
  %0 = local_id 0 : index
  %1 = group_id 0 : index
  %2 = const 64 : index
  %3 = mad %1, %2, %0 : index
  %4 = load @x[%3] : i32
  store @tile[%0], %4
)") + (barrier ? "  barrier\n" : "") + R"(  %5 = const 63 : index
  %6 = sub %5, %0 : index
  %7 = load @tile[%6] : i32
  store @y[%3], %7
})";
}

} // namespace

TEST_CASE("workgroups share arrays, and races are found") {
  I32 x(256), y(256);
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = static_cast<int32_t>(i * i);
  Binding bindings[] = {bind(x), bind(y)};
  RunOptions options;
  options.grid = {4, 1, 1};
  RunResult run = interpret(parsed(reverse_kernel(true)), bindings, options);
  INFO(run.message);
  REQUIRE(run.ok);
  for (size_t i = 0; i < 256; ++i)
    REQUIRE(y[i] == x[i / 64 * 64 + 63 - i % 64]);
  run = interpret(parsed(reverse_kernel(false)), bindings, options);
  CHECK_FALSE(run.ok);
  CHECK(run.message.find("race: a thread reads what another one writes, element 63 of @tile") != std::string::npos);
  options.check_races = false;
  CHECK(interpret(parsed(reverse_kernel(false)), bindings, options).ok);
  // A subset of the groups.
  std::fill(y.begin(), y.end(), -1);
  uint64_t groups[] = {2};
  options.groups = groups;
  REQUIRE(interpret(parsed(reverse_kernel(true)), bindings, options).ok);
  CHECK(y[128] == x[191]);
  CHECK(y[0] == -1);
}

TEST_CASE("two threads that write one element of a buffer race, atomics do not") {
  std::string head = "kernel @r simt local 4 1 1 {\n  buffer @y read_write i32 align 64\n  %0 = const 0 : index\n"
                     "  %1 = const 5 : i32\n";
  I32 y(1);
  Binding bindings[] = {bind(y)};
  RunResult run = interpret(parsed(head + "  store @y[%0], %1\n}"), bindings, {});
  CHECK_FALSE(run.ok);
  CHECK(run.message.find("race: two threads write element 0 of @y") != std::string::npos);
  y[0] = 0;
  run = interpret(parsed(head + "  %2 = atomic_add @y[%0], %1 : i32\n}"), bindings, {});
  CHECK(run.ok);
  CHECK(y[0] == 20);
  run = interpret(parsed(head + "  %2 = atomic_add @y[%0], %1 : i32\n  %3 = load @y[%0] : i32\n}"), bindings, {});
  CHECK_FALSE(run.ok);
}

TEST_CASE("divergent threads keep their own values") {
  Kernel k = parsed(R"(kernel @d simt local 8 1 1 {
  buffer @y write i64 align 64
  %0 = local_id 0 : index
  %1 = const 0 : index
  %2 = const 1 : index
  %3 = for %4 = %1 to %0 step %2 carry %5 = %1 : index {
    %6 = and %4, %2 : index
    %7 = eq %6, %1 : bool
    %8 = if %7 : index {
      %9 = add %5, %4 : index
      yield %9
    } else {
      yield %5
    }
    yield %8
  }
  %10 = convert %3 : i64
  store @y[%0], %10
})");
  std::vector<int64_t> y(8);
  Binding bindings[] = {bind(y)};
  REQUIRE(interpret(k, bindings, {}).ok);
  CHECK(y == std::vector<int64_t>{0, 0, 0, 2, 2, 6, 6, 12});
}

TEST_CASE("subgroups") {
  Kernel k = parsed(R"(kernel @s simt local 48 1 1 {
  buffer @y write i32 align 64
  %0 = local_id 0 : index
  %1 = convert %0 : i32
  %2 = subgroup_add %1 : i32
  %3 = const 3 : i32
  %4 = subgroup_shuffle %1, %3 : i32
  %5 = add %2, %4 : i32
  store @y[%0], %5
})");
  I32 y(48);
  Binding bindings[] = {bind(y)};
  REQUIRE(interpret(k, bindings, {}).ok);
  CHECK(y[0] == 31 * 32 / 2 + 3);
  CHECK(y[47] == (47 * 48 - 31 * 32) / 2 + 35);
}

TEST_CASE("error word, fuel, params, bindings") {
  Kernel k = parsed(R"(kernel @e simd local 1 1 1 {
  param @n index range 0 10
  %0 = param 0 : index
  %1 = const 5 : index
  %2 = gt %0, %1 : bool
  error %2, 7, 3
  %3 = const 0 : index
  %4 = const 1 : index
  for %5 = %3 to %0 step %4 {
    %6 = add %5, %5 : index
  }
})");
  int64_t params[] = {4};
  RunOptions options;
  options.params = params;
  CHECK(interpret(k, {}, options).error_word == 0);
  params[0] = 9;
  RunResult run = interpret(k, {}, options);
  CHECK(run.ok);
  CHECK(run.error_word == (uint64_t{3} << 32 | 7));
  options.fuel = 10;
  run = interpret(k, {}, options);
  CHECK(run.message == "kernel e: out of fuel after 10 ops");
  params[0] = 11;
  run = interpret(k, {}, options);
  CHECK(run.message == "kernel e: param n is 11, outside its range 0 to 10");
  options.params = {};
  CHECK_FALSE(interpret(k, {}, options).ok);
  int32_t x = 0;
  Binding extra[] = {{&x, 4}};
  options.params = params;
  CHECK_FALSE(interpret(k, extra, options).ok);
}

TEST_CASE("speed", "[.speed]") {
  Kernel k = parsed(R"(kernel @speed simd local 1 1 1 {
  param @n index
  buffer @y write f32 align 64
  %0 = param 0 : index
  %1 = const 0 : index
  %2 = const 1 : index
  %3 = const 1.5 : f32
  %4 = for %5 = %1 to %0 step %2 carry %6 = %3 : f32 {
    %7 = mul %6, %3 : f32
    %8 = add %7, %6 : f32
    %9 = sub %8, %7 : f32
    %10 = min %9, %3 : f32
    yield %10
  }
  store @y[%1], %4
})");
  std::vector<float> y(1);
  Binding bindings[] = {bind(y)};
  int64_t params[] = {5000000};
  RunOptions options;
  options.params = params;
  auto start = std::chrono::steady_clock::now();
  RunResult run = interpret(k, bindings, options);
  double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  REQUIRE(run.ok);
  std::printf("%.1f M scalar ops/s\n", static_cast<double>(run.ops) / seconds / 1e6);
}
