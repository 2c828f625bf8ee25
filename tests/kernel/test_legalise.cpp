// The legaliser: random kernels compute the same before and after, for records that lack all sorts of things; what it
// gives is legal for the target; what it cannot express it refuses.
#include <catch2/catch.hpp>

#include <bit>
#include <cmath>
#include <random>

#include "aotc/kernel/builder.h"
#include "aotc/kernel/interpreter.h"
#include "aotc/kernel/legalise.h"
#include "aotc/kernel/text.h"
#include "aotc/kernel/verifier.h"
#include "tests/kernel/random_kernel.h"

using namespace ingot::aotc;
using namespace ingot::aotc::kernel;

namespace {

void compare(random::Options options, const TargetRecord &target, uint64_t seeds) {
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    options.seed = seed;
    options.kind = target.kernel_class;
    random::Case c = random::make(options);
    INFO(target.name << " seed " << seed);
    Kernel legal = c.kernel;
    REQUIRE(legalise(legal, target) == "");
    REQUIRE(verify_for(legal, target) == "");
    std::vector<std::vector<uint8_t>> before, after;
    RunResult first = c.run(c.kernel, before);
    REQUIRE(first.ok);
    RunResult second = c.run(legal, after);
    INFO(second.message);
    REQUIRE(second.ok);
    REQUIRE(second.error_word == first.error_word);
    std::string difference = random::same_results(c.kernel, before, after);
    INFO(difference);
    if (!difference.empty())
      INFO(print(c.kernel));
    REQUIRE(difference.empty());
  }
}

} // namespace

TEST_CASE("legalised kernels compute the same on CPU records") {
  for (TargetRecord target : {TargetRecord::x86_64_v2(), TargetRecord::aarch64()})
    compare({}, target, 150);
}

TEST_CASE("legalised kernels compute the same on portable GPU records") {
  random::Options options;
  options.scalars = {Scalar::kBool, Scalar::kI8, Scalar::kI16, Scalar::kI32, Scalar::kI64, Scalar::kF16, Scalar::kBF16, Scalar::kF32};
  TargetRecord target = TargetRecord::vulkan_baseline();
  target.max_buffers = 32;
  target.max_params_bytes = 128;
  compare(options, target, 300);
}

TEST_CASE("legalised kernels compute the same, one type missing at a time") {
  random::Options options;
  options.scalars = {Scalar::kBool, Scalar::kI8, Scalar::kI16, Scalar::kI32, Scalar::kI64, Scalar::kF16, Scalar::kBF16, Scalar::kF32, Scalar::kF64};
  for (int missing = 0; missing < 6; ++missing) {
    TargetRecord target = TargetRecord::cuda_sm80();
    target.name = "without " + std::to_string(missing);
    bool *flags[] = {&target.i8, &target.i16, &target.i64, &target.f16, &target.bf16, &target.bool_storage};
    *flags[missing] = false;
    options.scalars = {Scalar::kBool, Scalar::kI8, Scalar::kI32, Scalar::kI64, Scalar::kBF16, Scalar::kF32};
    if (missing != 1)
      options.scalars.push_back(Scalar::kI16);
    if (missing != 2) {
      options.scalars.push_back(Scalar::kF64);
      options.scalars.push_back(Scalar::kF16);
    }
    if (missing == 1) // 16-bit bit patterns of floats need the integer
      target.bf16 = false;
    compare(options, target, 60);
  }
}

TEST_CASE("other vector widths") {
  random::Options options;
  options.scalars = {Scalar::kBool, Scalar::kI32, Scalar::kF32, Scalar::kI64};
  options.lanes = {1, 2, 8, 16};
  TargetRecord target = TargetRecord::cuda_sm80();
  for (uint32_t lanes : {1u, 2u, 4u}) {
    target.max_vector_lanes = lanes;
    compare(options, target, 60);
  }
}

TEST_CASE("what a target cannot express is refused with a reason") {
  TargetRecord target = TargetRecord::webgpu_baseline();
  auto refuse = [&](const char *body, const char *reason) {
    Kernel k;
    std::string text = std::string("kernel @k simt local 1 1 1 {\n") + body + "}\n";
    REQUIRE(parse(text, k) == "");
    REQUIRE(verify(k) == "");
    CHECK(legalise(k, target) == std::string("kernel k for webgpu: ") + reason);
  };
  refuse("buffer @x read f64 align 64\n", "it uses f64, which the target does not have: compile the model in f32");
  refuse("%0 = const 1.0 : f32\n%1 = fma %0, %0, %0 : f32\n",
         "it uses fma, which the target does not have: the schedule should use mad");
  refuse("%0 = const 1 : i32\n%1 = subgroup_add %0 : i32\n",
         "it uses subgroup ops, which the target does not have: choose another schedule");
  refuse("param @n i64\n", "param n is an i64 of unknown range: give it one that fits 32 bits");
  refuse("buffer @x read_write i64 align 64\n%0 = const 0 : index\n%1 = const 1 : i64\n%2 = atomic_add @x[%0], %1 : i64\n",
         "an atomic on i64, which the target does not have");
  refuse("%0 = const 1 : i64\nfor %1 = %0 to %0 step %0 {\n}\n",
         "a loop counts in i64, which the target does not have: count in index");
}

TEST_CASE("i64 that provably fits is done in 32 bits") {
  Kernel k;
  REQUIRE(parse(R"(kernel @k simt local 1 1 1 {
  param @n i64 range 0 1000
  buffer @x write i32 align 64
  %0 = param 0 : i64
  %1 = const 7 : i64
  %2 = mul %0, %1 : i64
  %3 = div %2, %1 : i64
  %4 = lt %3, %1 : bool
  %5 = convert %4 : i32
  %6 = const 0 : index
  store @x[%6], %5
})", k) == "");
  REQUIRE(legalise(k, TargetRecord::vulkan_baseline()) == "");
  CHECK(print(k) == R"(kernel @k simt local 1 1 1 {
  param @n i32 range 0 1000
  buffer @x write i32 align 64
  %0 = param 0 : i32
  %1 = const 7 : i32
  %2 = const 0 : index
  %3 = mul %0, %1 : i32
  %4 = div %3, %1 : i32
  %5 = lt %4, %1 : bool
  %6 = convert %5 : i32
  store @x[%2], %6
}
)");
}

TEST_CASE("division by constants on GPUs is exact among normal numbers") {
  const TargetRecord target = TargetRecord::cuda_sm80();
  std::mt19937_64 random(7);
  for (int round = 0; round < 200; ++round) {
    const float c = std::ldexp(1.0f + static_cast<float>(random() % (1 << 23)) / (1 << 23), static_cast<int>(random() % 38) - 19) * (round % 2 ? -1 : 1);
    const std::vector<float> special = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 1e-40f, 3e38f};
    constexpr size_t kCount = 512;
    Kernel kernel;
    kernel.name = "quotients";
    kernel.kind = Class::kSimt;
    Builder b(kernel);
    const uint32_t from = b.add_buffer("x", Access::kRead, Scalar::kF32, 64), to = b.add_buffer("y", Access::kWrite, Scalar::kF32, 64);
    b.for_loop(b.index(0), b.index(kCount), b.index(1), {}, [&](ValueId i, const Values &) {
      b.store(to, i, b.binary(Opcode::kDiv, b.load(from, i), b.constant_float(Scalar::kF32, c)));
      return Values{};
    });
    Kernel legal = kernel;
    REQUIRE(legalise(legal, target) == "");
    REQUIRE(print(legal).find("= div ") == std::string::npos);
    std::vector<float> x(kCount), y(kCount);
    for (size_t i = 0; i < kCount; ++i)
      x[i] = i < special.size() ? special[i] : std::ldexp(1.0f + static_cast<float>(random() % (1 << 23)) / (1 << 23), static_cast<int>(random() % 150) - 58);
    const Binding bindings[] = {{x.data(), x.size() * 4}, {y.data(), y.size() * 4}};
    REQUIRE(interpret(legal, bindings, {}).ok);
    for (size_t i = 0; i < kCount; ++i) {
      const float want = x[i] / c;
      INFO(x[i] << " / " << c);
      if (std::isnan(want))
        CHECK(std::isnan(y[i]));
      else if (i < special.size())
        CHECK((y[i] == want || std::fabs(y[i] - want) <= 2e-7f * std::fabs(want) + 1e-44f));
      else
        CHECK(std::bit_cast<uint32_t>(y[i]) == std::bit_cast<uint32_t>(want));
    }
  }
}
