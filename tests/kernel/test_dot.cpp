// kDot4 and kDot2, and bitcasts to other lanes: text there and back, their rules, what they compute, and their expansion.
#include <catch2/catch.hpp>

#include <cstring>
#include <random>
#include <vector>

#include "aotc/kernel/builder.h"
#include "aotc/kernel/interpreter.h"
#include "aotc/kernel/legalise.h"
#include "aotc/kernel/text.h"
#include "aotc/kernel/verifier.h"

using namespace ingot::aotc;
using namespace ingot::aotc::kernel;

namespace {

// y = dot(a, z, c), with an `a` for every lane or one for all.
Kernel make(Opcode code, uint32_t lanes, bool shared) {
  Kernel k;
  k.name = "dot";
  Builder b(k);
  Scalar element = dot_element(code);
  uint32_t terms = dot_terms(code);
  uint32_t a = b.add_buffer("a", Access::kRead, element), z = b.add_buffer("z", Access::kRead, element);
  uint32_t c = b.add_buffer("c", Access::kRead, Scalar::kI32), y = b.add_buffer("y", Access::kWrite, Scalar::kI32);
  ValueId zero = b.index(0);
  b.store(y, zero, b.dot(code, b.load(a, zero, shared ? terms : terms * lanes), b.load(z, zero, terms * lanes), b.load(c, zero, lanes)));
  return k;
}

template <class A, class B>
std::vector<uint32_t> expected(uint32_t terms, bool shared, const std::vector<A> &a, const std::vector<B> &b, std::vector<uint32_t> c) {
  for (size_t i = 0; i < c.size(); ++i)
    for (size_t j = 0; j < terms; ++j)
      c[i] += static_cast<uint32_t>(int64_t{a[shared ? j : i * terms + j]} * int64_t{b[i * terms + j]});
  return c;
}

template <class A, class B> void check(Opcode code, uint32_t lanes, bool shared, uint64_t seed) {
  Kernel k = make(code, lanes, shared);
  INFO(print(k));
  REQUIRE(verify(k) == "");
  Kernel again;
  REQUIRE(parse(print(k), again) == "");
  CHECK(print(again) == print(k));
  std::mt19937_64 random(seed);
  uint32_t terms = dot_terms(code);
  std::vector<A> a((shared ? 1 : lanes) * terms);
  std::vector<B> z(lanes * terms);
  std::vector<uint32_t> c(lanes);
  // Bytes at their ends as often as others, sums that wrap.
  auto draw = [&](auto &v) {
    using T = std::decay_t<decltype(v)>;
    uint64_t bits = random();
    T ends[] = {std::numeric_limits<T>::min(), std::numeric_limits<T>::max()};
    v = bits >> 62 ? static_cast<T>(bits) : ends[bits & 1];
  };
  for (A &v : a) draw(v);
  for (B &v : z) draw(v);
  for (uint32_t &v : c) draw(v);
  std::vector<uint32_t> wanted = expected(terms, shared, a, z, c);
  for (const TargetRecord &record : {TargetRecord::x86_64_v4_vnni(), TargetRecord::x86_64_v3(), TargetRecord::aarch64()}) {
    Kernel legal = k;
    REQUIRE(legalise(legal, record) == "");
    CHECK(uses(legal.body, code) == has_dot(record, code, lanes));
    std::vector<uint32_t> y(lanes);
    std::vector<Binding> bindings = {{a.data(), a.size() * sizeof(A)}, {z.data(), z.size() * sizeof(B)},
                                     {c.data(), c.size() * 4}, {y.data(), y.size() * 4}};
    REQUIRE(interpret(legal, bindings, {}).message == "");
    CHECK(y == wanted);
  }
}

} // namespace

TEST_CASE("dot products wrap, are exact and expand to the same") {
  uint64_t seed = 0;
  for (uint32_t lanes : {1, 2, 3, 4, 8, 16, 32})
    for (bool shared : {false, true})
      for (int round = 0; round < 8; ++round) {
        check<uint8_t, int8_t>(Opcode::kDot4, lanes, shared, ++seed);
        check<int16_t, int16_t>(Opcode::kDot2, lanes, shared, ++seed);
      }
}

TEST_CASE("dot products that do not fit are refused") {
  auto broken = [](const std::function<void(Kernel &, Op &)> &change) {
    Kernel k = make(Opcode::kDot4, 8, false);
    for (Op &op : k.body.ops)
      if (op.code == Opcode::kDot4)
        change(k, op);
    return verify(k);
  };
  CHECK(broken([](Kernel &, Op &) {}) == "");
  CHECK(broken([](Kernel &, Op &op) { op.code = Opcode::kDot2; }) != "");
  CHECK(broken([](Kernel &, Op &op) { std::swap(op.operands[1], op.operands[2]); }) != "");
  CHECK(broken([](Kernel &, Op &op) { op.operands.pop_back(); }) != "");
  CHECK(broken([](Kernel &k, Op &op) { k.types[op.operands[0]].lanes = 16; }) != "");
  Kernel k = make(Opcode::kDot4, 16, true);
  CHECK(verify_for(k, TargetRecord::x86_64_v4_vnni()) == "");
  CHECK(verify_for(k, TargetRecord::x86_64_v4()) != "");
}

TEST_CASE("a bitcast takes lanes of another width in simd kernels") {
  Kernel k;
  k.name = "cast";
  Builder b(k);
  uint32_t x = b.add_buffer("x", Access::kRead, Scalar::kI8), y = b.add_buffer("y", Access::kWrite, Scalar::kI16);
  b.store(y, b.index(0), b.bitcast(Type(Scalar::kI16, 4), b.load(x, b.index(0), 8)));
  REQUIRE(verify(k) == "");
  std::vector<uint8_t> in = {1, 2, 3, 4, 5, 6, 7, 0x88};
  std::vector<uint16_t> out(4);
  std::vector<Binding> bindings = {{in.data(), 8}, {out.data(), 8}};
  REQUIRE(interpret(k, bindings, {}).message == "");
  CHECK(out == std::vector<uint16_t>{0x0201, 0x0403, 0x0605, 0x8807});
  k.kind = Class::kSimt;
  CHECK(verify(k) != "");
}
