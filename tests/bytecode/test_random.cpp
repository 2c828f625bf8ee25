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

// The interpreter fills arrays with ones bits before each group, bytecode with zeros before a call; the generator's kernels
// read what they may not have written.
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
    if (k.memories[m].space != kernel::Space::kPrivate)
      continue;
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
  if (seed % 3 == 0)
    options.lanes = {1, 4, 8, 16};
  if (seed % 5 == 0)
    options.ops = 120;
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

void check_dispatch(uint64_t seed) {
  Case c = random_dispatch(seed);
  INFO("seed " << seed << "\n" << dispatch::print(c.dispatch));
  Buffers inputs = make_buffers(c, seed), reference = inputs;
  REQUIRE(testing::interpret(c, schedule::schedule_naive(c.dispatch, TargetRecord::x86_64_v2()), reference) == "");
  REQUIRE(prepack(c, inputs) == "");
  for (schedule::Scheduled s : schedule::all_schedules(c.dispatch, TargetRecord::bytecode())) {
    INFO(s.description);
    Buffers by_interpreter = inputs;
    CHECK(testing::interpret(c, s, by_interpreter) == "");
    CHECK(testing::compare(c, by_interpreter, reference) == "");
    REQUIRE(kernel::legalise(s.kernel, TargetRecord::bytecode()) == "");
    std::vector<int64_t> params;
    for (const Symbol &symbol : c.dispatch.free_symbols())
      params.push_back(value_of(symbol, c));
    std::array<uint32_t, 3> grid;
    for (size_t i = 0; i < 3; ++i)
      grid[i] = static_cast<uint32_t>(value_of(s.grid[i], c));
    for (uint64_t features : lane_levels()) {
      Buffers out = inputs;
      BytecodeRun run = run_bytecode(s.kernel, out.bytes, params, grid, features);
      REQUIRE(run.error == "");
      CHECK(run.error_word == 0);
      CHECK(testing::compare(c, out, reference) == "");
    }
  }
}

} // namespace

TEST_CASE("random kernels agree with the interpreter") {
  for (uint64_t seed = 1; seed <= 300; ++seed)
    check_kernel(seed);
}

TEST_CASE("random dispatches agree with the interpreter in every block schedule") {
  for (uint64_t seed = 1; seed <= 60; ++seed)
    check_dispatch(seed);
}
