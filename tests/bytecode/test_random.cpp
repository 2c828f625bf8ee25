// Random kernels and dispatches as bytecode, against the reference interpreter.
#include <catch2/catch.hpp>

#include "aotc/kernel/interpreter.h"
#include "aotc/kernel/legalise.h"
#include "aotc/kernel/text.h"
#include "aotc/kernel/verifier.h"
#include "tests/bytecode/runner.h"
#include "tests/kernel/random_kernel.h"
#include "tests/schedule/random_dispatch.h"
#include "tests/schedule/run.h"

using namespace ingot::aotc;
using namespace ingot::aotc::testing;

namespace {

// The interpreter fills arrays with ones bits before each group, bytecode with zeros before a call; the
// generator's kernels read what they may not have written.
void clear_private_arrays(kernel::Kernel &k) {
  std::vector<kernel::Op> clear;
  auto constant = [&](Type type, int64_t value) {
    kernel::Op op;
    op.code = kernel::Opcode::kConst;
    op.imm = value;
    op.results = {static_cast<kernel::ValueId>(k.types.size())};
    k.types.push_back(type);
    clear.push_back(op);
    return op.results[0];
  };
  for (uint32_t m = 0; m < k.memories.size(); m++) {
    if (k.memories[m].space != kernel::Space::kPrivate) continue;
    for (uint64_t i = 0; i < k.memories[m].count; i++) {
      kernel::Op store;
      store.code = kernel::Opcode::kStore;
      store.memory = m;
      kernel::ValueId index = constant(Type(Scalar::kIndex), static_cast<int64_t>(i));
      store.operands = {index, constant(Type(k.memories[m].type), 0)};
      clear.push_back(store);
    }
  }
  k.body.ops.insert(k.body.ops.begin(), clear.begin(), clear.end());
}

void check_kernel(uint64_t seed) {
  kernel::random::Options options;
  options.seed = seed;
  options.kind = kernel::Class::kBlock;
  options.float_mad = false;
  if (seed % 3 == 0) options.lanes = {1, 4, 8, 16};
  if (seed % 5 == 0) options.ops = 120;
  kernel::random::Case c = kernel::random::make(options);
  clear_private_arrays(c.kernel);
  INFO("seed " << seed);
  std::vector<std::vector<uint8_t>> expected;
  kernel::RunResult reference = c.run(c.kernel, expected);
  REQUIRE(reference.message == "");
  kernel::Kernel legal = c.kernel;
  REQUIRE(kernel::legalise(legal, TargetRecord::bytecode()) == "");
  INFO(kernel::print(legal));
  for (uint64_t features : lane_levels()) {
    std::vector<std::vector<uint8_t>> buffers = c.buffers;
    BytecodeRun run = run_bytecode(legal, buffers, c.params, c.grid, features);
    INFO("features " << features);
    REQUIRE(run.error == "");
    CHECK((run.error_word != 0) == (reference.error_word != 0));
    CHECK(kernel::random::same_results(c.kernel, expected, buffers) == "");
  }
}

void check_dispatch(Case c, uint64_t seed, const char *expected = "") {
  INFO("seed " << seed << "\n" << dispatch::print(c.dispatch));
  Buffers inputs = make_buffers(c, seed), reference = inputs;
  REQUIRE(testing::interpret(c, schedule::schedule_naive(c.dispatch, TargetRecord::x86_64_v2()), reference) ==
          "");
  REQUIRE(prepack(c, inputs) == "");
  if (*expected)
    CHECK(schedule::schedule(c.dispatch, TargetRecord::bytecode()).description.find(expected) == 0);
  for (schedule::Scheduled s : schedule::all_schedules(c.dispatch, TargetRecord::bytecode())) {
    INFO(s.description);
    Buffers by_interpreter = inputs;
    CHECK(testing::interpret(c, s, by_interpreter) == "");
    CHECK(testing::compare(c, by_interpreter, reference) == "");
    REQUIRE(kernel::legalise(s.kernel, TargetRecord::bytecode()) == "");
    std::vector<int64_t> params;
    for (const Symbol &symbol : c.dispatch.free_symbols()) params.push_back(value_of(symbol, c));
    std::array<uint32_t, 3> grid;
    for (size_t i = 0; i < 3; ++i) grid[i] = static_cast<uint32_t>(value_of(s.grid[i], c));
    for (uint64_t features : lane_levels()) {
      Buffers out = inputs;
      BytecodeRun run = run_bytecode(s.kernel, out.bytes, params, grid, features);
      REQUIRE(run.error == "");
      out.error_word = run.error_word;
      CHECK(testing::compare(c, out, reference) == "");
    }
  }
}

} // namespace

TEST_CASE("random kernels agree with the interpreter") {
  for (uint64_t seed = 1; seed <= 300; ++seed) check_kernel(seed);
}

TEST_CASE("random dispatches agree with the interpreter in every block schedule") {
  for (uint64_t seed = 1; seed <= 60; ++seed) check_dispatch(random_dispatch(seed), seed);
}

TEST_CASE("products become tile ops") {
  check_dispatch(matmul(1, 37, 83, 65, false, true, 2, false), 1, "block_contract{rows=8,lanes=128,panels");
  check_dispatch(matmul(3, 20, 33, 17, true, false, 1, true), 2, "block_contract");
  check_dispatch(matmul(1, 1, 214, 512, false, true, 0, false), 3, "block_contract");
  check_dispatch(matmul(1, 5, 300, 200, false, false, 0, false), 6, "block_contract");
  check_dispatch(matmul(1, 10, 70, 2500, true, false, 0, false), 7, "block_contract");
  Symbol s = Symbol::dim("s", 0, 1 << 20), t = Symbol::dim("t", 1, 1 << 20);
  check_dispatch(matmul(2, s, t, 15, true, false, 0, true, {{s, 40}, {t, 40}}), 4, "block_contract");
  check_dispatch(matmul(2, s, 15, t, false, false, 0, true, {{s, 40}, {t, 40}}), 5, "block_contract");
  check_dispatch(matmul(2, s, 15, t, true, false, 0, true, {{s, 40}, {t, 40}}), 8, "block_contract");
}

TEST_CASE("convolutions become tile ops") {
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
      check_dispatch(conv(s), static_cast<uint64_t>(stride * 10 + k), k == 1 ? "" : "window");
      ConvShape depthwise = s;
      depthwise.groups = 6;
      depthwise.in = depthwise.out = 1;
      check_dispatch(conv(depthwise), static_cast<uint64_t>(stride * 10 + k), k == 1 ? "" : "window");
    }
}

TEST_CASE("rows and elements") {
  check_dispatch(softmax(7, 123), 1, "rows");
  check_dispatch(layer_norm(7, 120), 2, "rows");
  check_dispatch(elementwise({3, 5, 170}, 2, 1), 3, "lanes");
  check_dispatch(elementwise({3, 5, 170}, 1, 3), 4, "lanes");
  check_dispatch(pool(3, {9, 70}, {3, 3}, {2, 2}, {1, 1}, true), 5, "lanes");
  check_dispatch(transpose({9, 11, 5}, {2, 0, 1}), 6);
  check_dispatch(concat({3, 4, 5, 60}), 7);
  check_dispatch(gather_rows(9, 13, 20), 8);
  check_dispatch(embedding_norm(9, 50, 70), 9);
  check_dispatch(reduce(ReduceKind::kMax, {6, 211}, {1}, ElementType::kU8), 9);
  check_dispatch(reduce(ReduceKind::kArgMax, {6, 211}, {1}), 10);
}
