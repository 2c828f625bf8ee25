// kTile: text there and back, its rules, and what it computes, lane counts and steps included.
#include <catch2/catch.hpp>

#include <vector>

#include "aotc/kernel/builder.h"
#include "aotc/kernel/interpreter.h"
#include "aotc/kernel/target.h"
#include "aotc/kernel/text.h"
#include "aotc/kernel/verifier.h"

using namespace ingot::aotc;
using namespace ingot::aotc::kernel;

namespace {

// y[r][c][lane] = sum over i, j of x[7 r + 2 i + j] * z[c * 20 + 4 i + j + lane], for 2 rows, 2 chunks of 4
// lanes (of the second one only `count`), 3 by 2 turns.
Kernel make(int64_t count = 3) {
  Kernel k;
  k.name = "tile";
  k.kind = Class::kBlock;
  Builder b(k);
  uint32_t x = b.add_buffer("x", Access::kRead, Scalar::kF32),
           z = b.add_buffer("z", Access::kRead, Scalar::kF32);
  uint32_t y = b.add_buffer("y", Access::kWrite, Scalar::kF32);
  ValueId one = b.constant_float(Type(Scalar::kF32, 8), 1);
  auto index = [&](int64_t i) { return b.index(i); };
  Values sums = b.tile(x, z, {one, one}, {index(0), index(7)}, {index(0), index(20)}, {index(4), index(count)},
                       {{index(3), index(2), index(4)}, {index(2), index(1), index(1)}}, 2);
  for (size_t r = 0; r < 2; ++r) b.store(y, index(static_cast<int64_t>(8 * r)), sums[r]);
  return k;
}

Op &tile_of(Kernel &k) {
  for (Op &op : k.body.ops)
    if (op.code == Opcode::kTile) return op;
  throw 1;
}

} // namespace

TEST_CASE("a tile sums products over its loops") {
  for (int64_t count : {-1, 0, 3, 4, 9}) {
    Kernel k = make(count);
    REQUIRE(verify(k) == "");
    CHECK(verify_for(k, TargetRecord::bytecode()) == "");
    Kernel again;
    REQUIRE(parse(print(k), again) == "");
    CHECK(print(again) == print(k));
    std::vector<float> x(13), z(33), y(16);
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i) - 5;
    for (size_t i = 0; i < z.size(); ++i) z[i] = static_cast<float>(3 * i % 17);
    std::vector<Binding> bindings = {
        {x.data(), x.size() * 4}, {z.data(), z.size() * 4}, {y.data(), y.size() * 4}};
    RunResult run = interpret(again, bindings, {});
    REQUIRE(run.message == "");
    for (size_t r = 0; r < 2; ++r)
      for (size_t c = 0; c < 2; ++c)
        for (size_t lane = 0; lane < 4; ++lane) {
          float expected = 1;
          if (c == 0 || static_cast<int64_t>(lane) < count)
            for (size_t i = 0; i < 3; ++i)
              for (size_t j = 0; j < 2; ++j) expected += x[7 * r + 2 * i + j] * z[20 * c + 4 * i + j + lane];
          CHECK(y[8 * r + 4 * c + lane] == expected);
        }
    // One element less, and the last access leaves the buffer.
    bindings[0].bytes -= 4;
    CHECK(interpret(again, bindings, {}).message.find("out of range") != std::string::npos);
  }
}

TEST_CASE("a tile's rules") {
  auto broken = [](auto change) {
    Kernel k = make();
    change(k, tile_of(k));
    return verify(k);
  };
  CHECK(broken([](Kernel &, Op &) {}) == "");
  auto says = [](const std::string &problem, const char *words) {
    INFO(problem);
    CHECK(problem.find(words) != std::string::npos);
  };
  says(broken([](Kernel &, Op &o) { o.imm = 3; }), "do not fit each other");
  says(broken([](Kernel &, Op &o) { o.imms = {}; }), "do not fit each other");
  says(broken([](Kernel &, Op &o) { o.imms = {3}; }), "do not fit each other");
  says(broken([](Kernel &, Op &o) { o.operands.pop_back(); }), "do not fit each other");
  says(broken([](Kernel &, Op &o) { o.memory = 7; }), "no such memory");
  says(broken([](Kernel &, Op &o) { o.imm2 = -1; }), "no such memory");
  says(broken([](Kernel &, Op &o) { o.imm2 = 2; }), "may only be written");
  says(broken([](Kernel &k, Op &) { k.memories[0].type = Scalar::kI32; }), "not of the sums' type");
  says(broken([](Kernel &, Op &o) { o.operands[2] = o.operands[0]; }), "a number that is no index");
  Kernel simd = make();
  simd.kind = Class::kSimd;
  says(verify_for(simd, TargetRecord::x86_64_v2()), "outside block kernels");
}
