// Dot products of short integers and bitcasts to other lanes, by instruction or expanded, against the interpreter.
#include <catch2/catch.hpp>

#include "tests/emit_llvm/case.h"

namespace ingot::aotc::test {
namespace {

using namespace kernel;

constexpr uint32_t kGroups = 24;

Case dot_case(Opcode code, uint32_t lanes, bool shared, Random &random) {
  Case c;
  c.kernel.name = std::string(name(code)) + "_x" + std::to_string(lanes) + (shared ? "_shared" : "");
  c.grid = {kGroups, 1, 1};
  Builder b(c.kernel);
  uint32_t terms = dot_terms(code), left = shared ? terms : terms * lanes;
  uint32_t a = b.add_buffer("a", Access::kRead, dot_element(code)), z = b.add_buffer("z", Access::kRead, dot_element(code));
  uint32_t s = b.add_buffer("s", Access::kRead, Scalar::kI32), y = b.add_buffer("y", Access::kWrite, Scalar::kI32);
  ValueId g = b.group_id(0);
  auto at = [&](uint32_t n) { return b.mul(g, b.index(n)); };
  b.store(y, at(lanes), b.dot(code, b.load(a, at(left), left), b.load(z, at(terms * lanes), terms * lanes), b.load(s, at(lanes), lanes)));
  c.buffers = {random_elements(dot_element(code), kGroups * left, random),
               random_elements(dot_element(code), kGroups * terms * lanes, random),
               random_elements(Scalar::kI32, kGroups * lanes, random), zeros(Scalar::kI32, kGroups * lanes)};
  return c;
}

Case cast_case(Scalar from, Scalar to, uint32_t bytes, Random &random) {
  Case c;
  c.kernel.name = "cast_" + std::string(aotc::name(from)) + "_" + std::string(aotc::name(to)) + "x" + std::to_string(bytes);
  c.grid = {kGroups, 1, 1};
  Builder b(c.kernel);
  uint32_t in = bytes / byte_size(from), out = bytes / byte_size(to);
  uint32_t x = b.add_buffer("x", Access::kRead, from), y = b.add_buffer("y", Access::kWrite, to);
  b.store(y, b.mul(b.group_id(0), b.index(out)),
          b.bitcast(Type(to, out), b.load(x, b.mul(b.group_id(0), b.index(in)), in)));
  c.buffers = {random_elements(from, kGroups * in, random), zeros(to, kGroups * out)};
  return c;
}

} // namespace

TEST_CASE("dot products of short integers") {
  Random random(5);
  std::vector<Case> cases;
  for (uint32_t lanes : {1, 2, 4, 8, 16, 32})
    for (bool shared : {false, true})
      for (Opcode code : {Opcode::kDot4, Opcode::kDot2})
        cases.push_back(dot_case(code, lanes, shared, random));
  for (uint32_t bytes : {8, 32, 64}) {
    cases.push_back(cast_case(Scalar::kI8, Scalar::kI16, bytes, random));
    cases.push_back(cast_case(Scalar::kI8, Scalar::kI32, bytes, random));
    cases.push_back(cast_case(Scalar::kI32, Scalar::kI8, bytes, random));
    cases.push_back(cast_case(Scalar::kI64, Scalar::kI16, bytes, random));
  }
  check_cases(cases);
}

} // namespace ingot::aotc::test
