// Scheduled kernels as native code against the naive schedule in the interpreter: each code version this machine runs.
#include <catch2/catch.hpp>

#include <algorithm>

#include <cstring>
#include <memory>

#include "aotc/emit/llvm/native_runner.h"
#include "aotc/kernel/legalise.h"
#include "tests/schedule/random_dispatch.h"
#include "tests/schedule/run.h"

using namespace ingot::aotc;
using namespace ingot::aotc::testing;

namespace {

std::string run_native(const Case &c, schedule::Scheduled s, const CpuTarget &target, Buffers &buffers) {
  std::string error = kernel::legalise(s.kernel, record_of(target));
  if (!error.empty())
    return error;
  auto native = NativeKernel::compile(s.kernel, target, &error, 1);
  if (!native)
    return error;
  std::vector<std::unique_ptr<uint8_t, void (*)(void *)>> data;
  NativeArgs args;
  for (auto &b : buffers.bytes) {
    data.emplace_back(static_cast<uint8_t *>(std::aligned_alloc(64, (b.size() + 127) / 64 * 64)), std::free);
    std::copy(b.begin(), b.end(), data.back().get());
    args.bindings.push_back(data.back().get());
  }
  for (const Symbol &symbol : c.dispatch.free_symbols())
    args.params.push_back(value_of(symbol, c));
  for (size_t i = 0; i < 3; ++i)
    args.grid[i] = static_cast<uint32_t>(value_of(s.grid[i], c));
  buffers.error_word = args.grid[0] * args.grid[1] * args.grid[2] > 0 ? native->run(args) : 0;
  for (size_t i = 0; i < buffers.bytes.size(); ++i)
    std::copy_n(data[i].get(), buffers.bytes[i].size(), buffers.bytes[i].begin());
  return {};
}

void check(Case c, uint64_t seed, const std::string &what) {
  INFO(what << "\n" << dispatch::print(c.dispatch));
  Buffers inputs = make_buffers(c, seed), reference = inputs;
  REQUIRE(interpret(c, schedule::schedule_naive(c.dispatch, TargetRecord::x86_64_v2()), reference) == "");
  REQUIRE(prepack(c, inputs) == "");
  for (const char *name : {"x86-64-v2", "x86-64-v3", "x86-64-v4", "x86-64-v4-vnni"}) {
    std::string reason;
    auto target = parse_cpu_target(name, &reason);
    REQUIRE(target);
    if (!runs_here(*target, &reason))
      continue;
    schedule::Scheduled s = schedule::schedule(c.dispatch, record_of(*target));
    INFO(name << ": " << s.description);
    Buffers out = inputs;
    CHECK(run_native(c, s, *target, out) == "");
    CHECK(testing::compare(c, out, reference) == "");
  }
}

} // namespace

TEST_CASE("code versions that this machine cannot run are skipped") {
  int versions = 0;
  for (const char *name : {"x86-64-v2", "x86-64-v3", "x86-64-v4", "x86-64-v4-vnni"}) {
    std::string reason;
    auto target = parse_cpu_target(name, &reason);
    REQUIRE(target);
    bool here = runs_here(*target, &reason);
    versions += here;
    if (!here)
      WARN(name << " skipped: " << reason);
  }
  CHECK(versions > 0);
}

TEST_CASE("products") {
  check(matmul(1, 37, 83, 65, false, true, 2, false), 1, "panels");
  check(matmul(3, 20, 33, 17, true, false, 1, true), 2, "scores");
  check(matmul(1, 1, 214, 512, false, true, 0, false), 3, "gemv");
  Symbol s = Symbol::dim("s", 0, 1 << 20), t = Symbol::dim("t", 1, 1 << 20);
  check(matmul(2, s, t, 15, true, false, 0, true, {{s, 40}, {t, 40}}), 4, "symbolic scores");
  check(matmul(2, s, 15, t, false, false, 0, true, {{s, 40}, {t, 40}}), 5, "symbolic values");
}

TEST_CASE("products of bytes") {
  std::mt19937 random(11);
  auto below = [&](int64_t n) { return 1 + static_cast<int64_t>(random() % static_cast<uint64_t>(n)); };
  check(byte_matmul(1, 50, 96, 70, false, true, true), 1, "panels");
  check(byte_matmul(1, 1, 214, 129, false, true, false), 2, "one row");
  check(byte_matmul(3, 20, 33, 17, true, false, false), 3, "no constant");
  Symbol s = Symbol::dim("s", 0, 1 << 20);
  check(byte_matmul(1, s, 40, 30, false, true, true, {{s, 45}}), 4, "symbolic rows");
  for (uint64_t i = 0; i < 12; ++i)
    check(byte_matmul(below(2), below(40), below(70), below(90), random() % 2, random() % 2, random() % 2), 10 + i, "drawn");
  for (int64_t in : {3, 16, 48})
    for (int64_t kernel : {1, 3})
      for (int64_t stride : {1, 2}) {
        ByteConvShape c;
        c.n = 1 + stride % 2;
        c.in = in;
        c.out = 16 * below(3);
        c.kernel = kernel;
        c.stride = stride;
        c.requantise = in != 48;
        check(byte_conv(c), static_cast<uint64_t>(100 + in * 10 + kernel + stride), "convolution");
      }
}

TEST_CASE("convolutions") {
  ConvShape s;
  s.in = 5;
  s.out = 17;
  s.size = {13, 45};
  for (int64_t stride : {1, 2, 3})
    for (int64_t k : {1, 3, 5}) {
      s.kernel = {k, k};
      s.pad = {k / 2, k / 2};
      s.stride = {stride, stride};
      s.activation = static_cast<int>(k) - 1;
      check(conv(s), static_cast<uint64_t>(stride * 10 + k), "dense");
      ConvShape depthwise = s;
      depthwise.groups = 6;
      depthwise.in = depthwise.out = 1;
      check(conv(depthwise), static_cast<uint64_t>(stride * 10 + k), "depthwise");
    }
}

TEST_CASE("rows and elements") {
  check(softmax(7, 123), 1, "softmax");
  check(layer_norm(7, 120), 2, "layer norm");
  check(elementwise({3, 5, 170}, 2, 1), 3, "tanh");
  check(elementwise({3, 5, 170}, 1, 3), 4, "erf");
  check(pool(3, {9, 70}, {3, 3}, {2, 2}, {1, 1}, true), 5, "max");
  check(transpose({9, 11, 5}, {2, 0, 1}), 6, "transpose");
  check(concat({3, 4, 5, 60}), 7, "concat");
  check(gather_rows(9, 13, 20), 8, "gather");
  check(embedding_norm(9, 50, 70), 8, "rows of a table");
  check(reduce(ReduceKind::kMax, {6, 211}, {1}, ElementType::kU8), 9, "u8");
  check(reduce(ReduceKind::kArgMax, {6, 211}, {1}), 10, "arg max");
}

TEST_CASE("attention") {
  using Mask = AttentionShape::Mask;
  AttentionShape s;
  s.heads = 1;
  s.rows = 19, s.keys = 49, s.depth = 32, s.columns = 33;
  for (Mask mask : {Mask::kNone, Mask::kKeys, Mask::kMatrix, Mask::kFlags, Mask::kCausal}) {
    s.mask = mask;
    s.interleaved = !s.interleaved;
    check(attention(s), 1, "one block");
  }
  Symbol t = Symbol::dim("t", 1, 1 << 20), u = Symbol::dim("u", 1, 1 << 20);
  s.rows = Expr(t), s.keys = Expr(u), s.depth = 16, s.columns = 16, s.shift = -1;
  s.dims = {{t, 11}, {u, 150}};
  check(attention(s), 2, "blocks, and a row that sees nothing");
  s.rows = 17, s.keys = 260, s.scale = 200;
  check(attention(s), 3, "blocks of known number, large scores");
}

TEST_CASE("random dispatches") {
  for (uint64_t seed = 9001; seed < 9031; ++seed)
    check(random_dispatch(seed), seed, "seed " + std::to_string(seed));
}
