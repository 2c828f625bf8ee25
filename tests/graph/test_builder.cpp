// The builder's type inference, and the rules it holds ops against.
#include <catch2/catch.hpp>

#include <limits>
#include <random>

#include "aotc/base/error.h"
#include "aotc/graph/check.h"
#include "aotc/graph/constant.h"

using namespace ingot::aotc;
using namespace ingot::aotc::graph;
using K = kernel::Opcode;
using dispatch::ReduceKind;

namespace {

struct Fixture {
  Function f;
  GraphBuilder b{f, f.graph};
  Symbol n = Symbol::dim("n", 1, 64), w = Symbol::dim("w", 1, 4096);

  Fixture() { f.dims = {n, w}; }
  ValueId input(const std::string &name, ElementType element, std::vector<Expr> dims) {
    const ValueId v = b.add_value({element, std::move(dims)}, name);
    f.graph.inputs.push_back({name, v});
    return v;
  }
  std::string type(ValueId v) { return to_string(b.type(v)); }
};

} // namespace

TEST_CASE("results have the types that the primitives imply", "[graph]") {
  Fixture t;
  const ValueId x = t.input("x", ElementType::kF32, {t.n, 3, 48, t.w});
  const ValueId k = t.b.constant({ElementType::kF32, {16, 3, 3, 3}}, make_floats(ElementType::kF32, std::vector<double>(432, 0.5)));
  CHECK(t.type(t.b.map(K::kExp, {x})) == "f32[n,3,48,w]");
  CHECK(t.type(t.b.map(K::kLt, {x, x})) == "bool[n,3,48,w]");
  CHECK(t.type(t.b.convert(ElementType::kF16, x)) == "f16[n,3,48,w]");
  CHECK(t.type(t.b.conv(x, k, {2, 2}, {1, 1}, {1, 1}, {1, 1}, 1)) == "f32[n,16,24," + floordiv(Expr(t.w) + 1, 2).to_string() + "]");
  CHECK(t.type(t.b.transpose(x, {0, 2, 3, 1})) == "f32[n,48,w,3]");
  CHECK(t.type(t.b.reduce(ReduceKind::kMax, x, {1, 3})) == "f32[n,48]");
  CHECK(t.type(t.b.reduce(ReduceKind::kArgMax, x, {1})) == "i64[n,48,w]");
  CHECK(t.type(t.b.concat({x, x}, 3)) == "f32[n,3,48,2*w]");
  CHECK(t.type(t.b.pad(x, {0, 0, 1, 2}, {0, 0, 1, 0}, PadMode::kEdge)) == "f32[n,3,50," + (Expr(t.w) + 2).to_string() + "]");
  CHECK(t.type(t.b.contract(x, k, "nchw", "mcij", "nhwm")) == "f32[n,48,w,16]");
  const ValueId i = t.input("i", ElementType::kI64, {5, 7});
  CHECK(t.type(t.b.gather(x, i, 2)) == "f32[n,3,5,7,w]");
  CHECK(t.f.sites.size() == 1);
}

TEST_CASE("what changes nothing appends nothing", "[graph]") {
  Fixture t;
  const ValueId x = t.input("x", ElementType::kF32, {t.n, 4});
  CHECK(t.b.reshape(x, {t.n, 4}) == x);
  CHECK(t.b.transpose(x, {0, 1}) == x);
  CHECK(t.b.convert(ElementType::kF32, x) == x);
  CHECK(t.b.broadcast_to(x, {t.n, 4}) == x);
  CHECK(t.b.pad(x, {0, 0}, {0, 0}, PadMode::kConstant) == x);
  CHECK(t.b.slice(x, {0, 0}, {1, 1}, {t.n, 4}) == x);
  CHECK(t.b.concat({x}, 0) == x);
  CHECK(t.f.graph.ops.empty());
}

TEST_CASE("conversions pick the signedness of their integer side", "[graph]") {
  Fixture t;
  const auto code = [&](ElementType from, ElementType to) {
    t.b.convert(to, t.input("x" + std::to_string(t.f.values.size()), from, {4}));
    return t.f.graph.ops.back().map;
  };
  CHECK(code(ElementType::kU8, ElementType::kF32) == K::kConvertU);
  CHECK(code(ElementType::kI8, ElementType::kF32) == K::kConvert);
  CHECK(code(ElementType::kF32, ElementType::kU8) == K::kConvertU);
  CHECK(code(ElementType::kU32, ElementType::kI64) == K::kConvertU);
  CHECK(code(ElementType::kI32, ElementType::kU64) == K::kConvert);
  CHECK(code(ElementType::kBool, ElementType::kF32) == K::kConvert);
}

TEST_CASE("a wrong use throws", "[graph]") {
  Fixture t;
  const ValueId x = t.input("x", ElementType::kF32, {2, 3}), y = t.input("y", ElementType::kF32, {2, 4});
  const ValueId h = t.input("h", ElementType::kF16, {2, 3}), v = t.input("v", ElementType::kF32, {6});
  CHECK_THROWS_AS(t.b.map(K::kAdd, {x, y}), InternalError);
  CHECK_THROWS_AS(t.b.map(K::kAdd, {x, h}), InternalError);
  CHECK_THROWS_AS(t.b.map(K::kAdd, {x, v}), InternalError);
  CHECK_THROWS_AS(t.b.reshape(x, {5}), InternalError);
  CHECK_THROWS_AS(t.b.transpose(x, {0, 0}), InternalError);
  CHECK_THROWS_AS(t.b.broadcast(x, {0, 1}, {2, 5}), InternalError);
  CHECK_THROWS_AS(t.b.concat({x, y}, 0), InternalError);
  CHECK_THROWS_AS(t.b.contract(x, y, "mk", "kn", "mn"), InternalError);
  CHECK_THROWS_AS(t.b.gather(x, y, 0), InternalError);
  CHECK_THROWS_AS(t.b.read_scalar(x, "s", 0, 1), InternalError);
  CHECK_THROWS_AS(t.b.constant({ElementType::kF32, {3}}, make_floats(ElementType::kF32, {1, 2})), InternalError);
}

TEST_CASE("16-bit floats are rounded once, to nearest even", "[graph]") {
  CHECK(to_half(1.0) == 0x3c00);
  CHECK(to_half(-2.0) == 0xc000);
  CHECK(to_half(65504.0) == 0x7bff);
  CHECK(to_half(65519.99) == 0x7bff);
  CHECK(to_half(65520.0) == 0x7c00); // ties to even: infinity
  CHECK(to_half(5.9604644775390625e-8) == 0x0001);
  CHECK(to_half(2.98023223876953125e-8) == 0x0000); // half of the least: to even
  CHECK(to_half(1.0 + 1.0 / 2048) == 0x3c00);
  CHECK(to_half(1.0 + 3.0 / 2048) == 0x3c02);
  CHECK((to_half(std::numeric_limits<double>::quiet_NaN()) & 0x7fff) > 0x7c00);
  CHECK(to_bfloat16(1.0) == 0x3f80);
  CHECK(to_bfloat16(3.4e38) == 0x7f80);
  // Every finite half survives the way there and back.
  for (uint32_t bits = 0; bits < 0x10000; ++bits)
    if ((bits & 0x7c00) != 0x7c00)
      REQUIRE(to_half(from_half(static_cast<uint16_t>(bits))) == bits);
  for (uint32_t bits = 0; bits < 0x10000; ++bits)
    if ((bits & 0x7f80) != 0x7f80)
      REQUIRE(to_bfloat16(from_bfloat16(static_cast<uint16_t>(bits))) == bits);
}

TEST_CASE("constants wrap integers and saturate floats", "[graph]") {
  CHECK(read_int(*make_ints(ElementType::kI8, {200}), 0) == -56);
  CHECK(read_int(*make_ints(ElementType::kU8, {-1}), 0) == 255);
  CHECK(read_int(*make_ints(ElementType::kBool, {7}), 0) == 1);
  CHECK(read_int(*make_floats(ElementType::kU8, {300.5}), 0) == 255);
  CHECK(read_int(*make_floats(ElementType::kI32, {-1e20}), 0) == std::numeric_limits<int32_t>::min());
  CHECK(read_int(*make_floats(ElementType::kI64, {std::numeric_limits<double>::quiet_NaN()}), 0) == 0);
  CHECK(read_float(*make_floats(ElementType::kF16, {0.1}), 0) == Approx(0.1).epsilon(1e-3));
}
