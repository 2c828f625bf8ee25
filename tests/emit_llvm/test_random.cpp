// Random kernels against the interpreter, in code for every target.
#include <catch2/catch.hpp>

#include "tests/emit_llvm/case.h"
#include "tests/kernel/random_kernel.h"

namespace ingot::aotc::test {
namespace {

using namespace kernel;

// Compiled code does not clear arrays; the generator's kernels read what they may not have written.
void clear_private_arrays(Kernel &k) {
  std::vector<Op> clear;
  auto constant = [&](Type type, int64_t value) {
    Op op;
    op.code = Opcode::kConst;
    op.imm = value;
    op.results = {static_cast<ValueId>(k.types.size())};
    k.types.push_back(type);
    clear.push_back(op);
    return op.results[0];
  };
  for (uint32_t m = 0; m < k.memories.size(); m++) {
    if (k.memories[m].space != Space::kPrivate)
      continue;
    for (uint64_t i = 0; i < k.memories[m].count; i++) {
      Op store;
      store.code = Opcode::kStore;
      store.memory = m;
      ValueId index = constant(Type(Scalar::kIndex), static_cast<int64_t>(i));
      store.operands = {index, constant(Type(k.memories[m].type), 0)};
      clear.push_back(store);
    }
  }
  k.body.ops.insert(k.body.ops.begin(), clear.begin(), clear.end());
}

} // namespace

TEST_CASE("random kernels agree with the interpreter") {
  std::vector<Case> cases;
  for (uint64_t seed = 1; seed <= 40; seed++) {
    kernel::random::Options options;
    options.seed = seed;
    options.float_mad = seed % 2 == 0;
    if (seed % 3 == 0)
      options.lanes = {1, 4, 8};
    kernel::random::Case made = kernel::random::make(options);
    Case c;
    c.kernel = std::move(made.kernel);
    clear_private_arrays(c.kernel);
    c.buffers = std::move(made.buffers);
    c.params = std::move(made.params);
    c.grid = made.grid;
    cases.push_back(std::move(c));
  }
  check_cases(cases);
}

} // namespace ingot::aotc::test
