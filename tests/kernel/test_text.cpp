// Text: printing, parsing, the round trip, and the messages of syntax errors.
#include <catch2/catch.hpp>

#include <cmath>
#include <cstring>
#include <limits>

#include "aotc/kernel/builder.h"
#include "aotc/kernel/text.h"
#include "aotc/kernel/verifier.h"

using namespace ingot::aotc;
using namespace ingot::aotc::kernel;

namespace {

// Every kind of syntax that there is.
Kernel everything() {
  Kernel k;
  k.name = "everything";
  k.kind = Class::kSimt;
  k.local_size = {8, 2, 1};
  Builder b(k);
  uint32_t x = b.add_buffer("x", Access::kRead, Scalar::kF32);
  uint32_t y = b.add_buffer("y", Access::kReadWrite, Scalar::kI32, 32);
  b.add_buffer("weights", Access::kRead, Scalar::kF32, 64, true);
  uint32_t tile = b.add_array("tile", Space::kWorkgroup, Scalar::kI32, 64);
  ValueId n = b.add_param("n", Scalar::kIndex, 0, 1000);
  ValueId s = b.add_param("s", Scalar::kF32);
  ValueId zero = b.index(0), one = b.index(1), four = b.index(4);
  Type f4(Scalar::kF32, 4);
  ValueId nan = b.constant_float(f4, std::numeric_limits<double>::quiet_NaN());
  ValueId tiny = b.constant_float(f4, 0x1p-149), inf = b.constant_float(Scalar::kF32, -INFINITY);
  ValueId odd = b.constant_float(Scalar::kF32, std::copysign(std::nan("7"), -1.0));
  ValueId splat = b.splat(s, 4);
  Values sum = b.for_loop(zero, n, four, {splat, zero}, [&](ValueId i, const Values &acc) {
    ValueId v = b.load(x, i, 4, 4);
    return Values{b.add(acc[0], b.shuffle(v, nan, {0, 5, 2, 7})), b.add(acc[1], one)};
  }, 2);
  ValueId scalar = b.extract(b.insert(b.mul(sum[0], tiny), inf, 2), 3);
  ValueId cond = b.logical_and(b.lt(scalar, odd), b.lt(b.local_id(0), four));
  Values either = b.if_else(cond, [&] { return Values{b.constant(Scalar::kI32, -7)}; },
                            [&] { return Values{b.atomic(Opcode::kAtomicAdd, y, zero, b.constant(Scalar::kI32, 1))}; });
  b.if_then(cond, [&] { b.store(tile, b.local_id(0), either[0]); });
  b.barrier();
  Values last = b.while_loop({either[0], zero},
                             [&](const Values &v) { return std::pair(b.lt(v[1], four), v); },
                             [&](const Values &v) { return Values{b.unary(Opcode::kNeg, v[0]), b.add(v[1], one)}; });
  b.store_if(y, cond, b.group_id(1), last[0]);
  ValueId part = b.load_part(tile, zero, n, b.constant(Type(Scalar::kI32, 4), 0));
  b.store_part(y, zero, part, n);
  ValueId wide = b.gather(tile, b.lane_iota(Type(Scalar::kIndex, 4)));
  b.scatter(y, b.lane_iota(Type(Scalar::kIndex, 4)), wide, b.constant(Type(Scalar::kBool, 4), 1));
  b.load_if(tile, cond, b.grid_size(2), either[0]);
  b.prefetch(y, zero);
  b.subgroup(Opcode::kSubgroupMax, either[0]);
  b.subgroup_shuffle(scalar, either[0]);
  b.error_if(cond, 3, 17);
  for (Op &op : k.body.ops)
    if (op.code == Opcode::kMul && is_float(k.types[op.results[0]].scalar))
      op.contract = true;
  return k;
}

} // namespace

TEST_CASE("text of every kind of op survives the round trip") {
  Kernel k = everything();
  REQUIRE(verify(k) == "");
  std::string text = print(k);
  INFO(text);
  Kernel back;
  REQUIRE(parse(text, back) == "");
  CHECK(verify(back) == "");
  CHECK(print(back) == text);
  CHECK(text.find("mul contract") != std::string::npos);
  CHECK(text.find("unroll 2") != std::string::npos);
  CHECK(text.find("align 4") != std::string::npos);
  CHECK(text.find("buffer @weights constant f32 align 64") != std::string::npos);
  CHECK(back.memories[2].constant);
}

TEST_CASE("floats read back bit for bit") {
  Kernel k;
  k.name = "floats";
  Builder b(k);
  double values[] = {0.0, -0.0, 0.1f, 1e-45, 3.4028234663852886e38, INFINITY, -INFINITY, NAN, -NAN};
  for (double v : values)
    b.constant_float(Scalar::kF32, v);
  b.constant_float(Scalar::kF64, 0.1);
  b.constant_float(Scalar::kF16, 0.1);
  Kernel back;
  REQUIRE(parse(print(k), back) == "");
  REQUIRE(back.body.ops.size() == k.body.ops.size());
  for (size_t i = 0; i < k.body.ops.size(); ++i)
    CHECK(std::memcmp(&back.body.ops[i].fimm, &k.body.ops[i].fimm, 8) == 0);
}

TEST_CASE("syntax errors say what, where") {
  struct Case {
    const char *text, *message;
  } cases[] = {
      {"kernal @x", "line 1: expected 'kernel', found kernal @x"},
      {"kernel @x simt local 1 1 1 {\n  %0 = konst 1 : index\n}", "line 2: expected an op, found konst"},
      {"kernel @x simt local 1 1 1 {\n  %0 = const 1 : indexx1025\n}", "line 2: expected a type, found indexx1025"},
      {"kernel @x simt local 1 1 1 {\n  %0 = neg %1 : index\n}",
       "line 2: expected a value that is defined above, found %1"},
      {"kernel @x simt local 1 1 1 {\n  %0 = const 1 : i32\n  %0 = const 2 : i32\n}",
       "line 3: expected a value that is not defined yet, found %0"},
      {"kernel @x simt local 1 1 1 {\n  %0 = const 1 : index\n  %1 = load @q[%0] : f32\n}",
       "line 3: expected a declared memory, found @q"},
      {"kernel @x simt local 1 1 1 {\n  %0 = const 1.5 : i32\n}", "line 2: expected ':', found .5 : i32"},
      {"kernel @x simt local 1 1 1 {\n", "line 2: expected '}', found the end of the text"},
      {"kernel @x simt local 1 1 1 {\n}\nx", "line 3: expected the end of the text, found x"},
  };
  for (const Case &c : cases) {
    Kernel k;
    CHECK(parse(c.text, k) == c.message);
  }
}

TEST_CASE("deep nesting is an error, not a crash") {
  std::string text = "kernel @x simd local 1 1 1 {\n%0 = const 1 : bool\n";
  for (int i = 0; i < 100000; ++i)
    text += "if %0 {\n";
  Kernel k;
  CHECK(parse(text, k).find("nested regions") != std::string::npos);
}
