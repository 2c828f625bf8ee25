// print and parse are inverse; the parser and the verifier refuse what is wrong, and say where.
#include <catch2/catch.hpp>

#include <random>

#include "aotc/graph/check.h"
#include "aotc/graph/constant.h"

using namespace ingot::aotc;
using namespace ingot::aotc::graph;
using K = kernel::Opcode;
using dispatch::ReduceKind;

namespace {

// A function with every opcode but compute in it.
Function sample() {
  Function f;
  GraphBuilder b(f, f.graph);
  const Symbol n = Symbol::dim("n", 1, 64), w = Symbol::dim("w", 1, 4096);
  f.dims = {n, w};
  const auto input = [&](const char *name, ElementType e, std::vector<Expr> dims) {
    const ValueId v = b.add_value({e, std::move(dims)}, name);
    f.graph.inputs.push_back({name, v});
    return v;
  };
  const ValueId x = input("x", ElementType::kF32, {n, 3, 8, w}), i = input("a/b:0", ElementType::kI64, {2});
  const ValueId flag = input("flag", ElementType::kBool, {});
  b.set_origin("conv \"1\"\n", "ai.onnx.Conv");
  const ValueId k = b.constant({ElementType::kF32, {4, 3, 3, 3}}, make_floats(ElementType::kF32, std::vector<double>(108, 0.25)));
  const ValueId small = b.constant({ElementType::kF32, {2}}, make_floats(ElementType::kF32, {1, -1}));
  ValueId y = b.conv(x, k, {1, 2}, {1, 1}, {1, 1}, {1, 1}, 1);
  b.set_origin("pool", "ai.onnx.MaxPool");
  y = b.pool(PoolMode::kMax, y, {2, 2}, {2, 2}, {1, 1}, {0, 0}, {0, 0},
             {floordiv(b.type(y).dims[2], 2), floordiv(b.type(y).dims[3], 2)}, false);
  y = b.map(K::kAdd, {y, b.splat_float(ElementType::kF32, b.type(y).dims, 1.5)});
  y = b.transpose(y, {0, 2, 3, 1});
  y = b.pad(y, {0, 1, 0, 0}, {0, 0, 2, 0}, PadMode::kReflect);
  y = b.slice(y, {0, 0, 1, 0}, {1, 2, 1, 1}, {n, 2, b.type(y).dims[2] - 1, 4});
  const ValueId r = b.reduce(ReduceKind::kAdd, y, {1, 2});
  const ValueId g = b.gather(r, i, 1);
  const ValueId both = b.concat({g, b.broadcast(small, {1}, b.type(g).dims)}, 0);
  const ValueId sum = b.scan_sum(both, 0, true, false);
  const ValueId c = b.contract(sum, sum, "ab", "cb", "ac");
  b.check(less(Expr(n), 60), "node 'c': n is too large");
  const Symbol s = b.read_scalar(flag, "s", 0, 1);
  const ValueId host = b.convert(ElementType::kF32, b.host_tensor(ElementType::kI64, {Expr(n) + 1, Expr(w) * Expr(n)}, false));
  const ValueId io = b.iota(ElementType::kI64, {n}, 0, 2, Expr(w));
  Graph then, otherwise;
  Graph *outer = b.exchange_graph(&then);
  then.outputs.push_back({"t", b.map(K::kExp, {host})});
  b.exchange_graph(&otherwise);
  otherwise.outputs.push_back({"e", b.map(K::kNeg, {host})});
  b.exchange_graph(outer);
  const ValueId chosen = b.if_else(Expr(s), std::move(then), std::move(otherwise), {b.type(host)})[0];
  LoopInfo info;
  info.trip_count = Expr(n);
  info.iteration = Symbol::host("it", 0, 63);
  info.trips = Symbol::host("trips", 0, 64);
  info.has_condition = true;
  info.carried = 1;
  info.scans = 1;
  Graph body;
  const ValueId state = b.add_value(b.type(chosen), "state");
  body.inputs.push_back({"state", state});
  outer = b.exchange_graph(&body);
  const ValueId next = b.map(K::kMul, {state, state});
  const ValueId on = b.convert(ElementType::kBool, b.host_tensor(ElementType::kI64, {less(info.iteration, 5)}, true));
  body.outputs = {{"on", on}, {"next", next}, {"row", next}};
  b.exchange_graph(outer);
  const auto results = b.loop(info, {chosen}, std::move(body), {b.type(chosen), {ElementType::kF32, {Expr(info.trips), 2}}});
  f.graph.outputs = {{"c", c}, {"state", results[0]}, {"rows", results[1]}, {"io", io}, {"rs", b.reshape(r, {Expr(n) * 4})}};
  return f;
}

std::vector<std::shared_ptr<const ConstantData>> large_constants(const Function &f) {
  std::vector<std::shared_ptr<const ConstantData>> out;
  for (const Op &op : f.graph.ops)
    if (op.constant && op.constant->bytes.size() > 64 * byte_size(op.constant->type))
      out.push_back(op.constant);
  return out;
}

} // namespace

TEST_CASE("a function prints, parses back and prints the same", "[graph]") {
  const Function f = sample();
  REQUIRE(verify(f) == "");
  const std::string text = print(f);
  std::string error;
  const auto again = parse(text, large_constants(f), error);
  REQUIRE(error == "");
  REQUIRE(again);
  CHECK(verify(*again) == "");
  CHECK(print(*again) == text);
  CHECK(again->graph.ops.size() == f.graph.ops.size());
}

TEST_CASE("damaged text is refused or verified, never worse", "[graph]") {
  const Function f = sample();
  const std::string text = print(f);
  const auto constants = large_constants(f);
  std::string error;
  for (size_t cut = 0; cut + 1 < text.size(); cut += 7) {
    error.clear();
    const auto g = parse(text.substr(0, cut), constants, error);
    if (!g)
      CHECK(error.substr(0, 5) == "line ");
    else
      (void)verify(*g); // a prefix that ends at a line
  }
  std::mt19937 random(20240611);
  for (int round = 0; round < 3000; ++round) {
    std::string damaged = text;
    for (int k = 0; k < 3; ++k) {
      const size_t at = random() % damaged.size();
      if (random() % 2)
        damaged[at] = "()[]{}%\"=,0123456789abx-."[random() % 25];
      else
        damaged.erase(at, 1 + random() % 4);
    }
    error.clear();
    const auto g = parse(damaged, constants, error);
    if (g)
      (void)verify(*g);
    else
      REQUIRE(!error.empty());
  }
}

TEST_CASE("the parser says what is wrong and on which line", "[graph]") {
  const auto refuse = [](const char *text) {
    std::string error;
    REQUIRE_FALSE(parse(text, {}, error));
    return error;
  };
  CHECK(refuse("graph main") == "line 1: expected 'function'");
  CHECK(refuse("function main\ninput \"x\" %0 : f33[1]\n") == "line 2: unknown element type 'f33'");
  CHECK(refuse("function main\ninput \"x\" %0 : f32[q]\n") == "line 2: unknown symbol 'q'");
  CHECK(refuse("function main\n%0 : f32[1] = fly()\n") == "line 2: unknown op 'fly'");
  CHECK(refuse("function main\ninput \"x\" %0 : f32[1]\n%0 : f32[1] = map(%0) code=exp\n") == "line 4: value %0 is defined twice");
  CHECK(refuse("function main\n%0 : f32[100] = constant() data=f32#00\n") == "line 2: a large constant, but no more data was given");
}

TEST_CASE("the verifier names what is broken", "[graph]") {
  const auto broken = [](const char *text) {
    std::string error;
    const auto f = parse(text, {}, error);
    REQUIRE(error == "");
    return verify(*f);
  };
  CHECK_THAT(broken("function main\n%1 : f32[1] = map(%0) code=exp\noutput \"y\" %1\n"),
             Catch::Contains("operand %0 is not defined"));
  CHECK_THAT(broken("function main\ninput \"x\" %0 : f32[2]\n%1 : f32[3] = map(%0) code=exp\noutput \"y\" %1\n"),
             Catch::Contains("differs in dims"));
  CHECK_THAT(broken("function main\ninput \"x\" %0 : f32[2]\n%1 : f32[3] = reshape(%0)\noutput \"y\" %1\n"),
             Catch::Contains("reshape: f32[2] to f32[3]"));
  CHECK_THAT(broken("function main\ninput \"x\" %0 : f32[2]\n%1 : f32[2] = slice(%0) ints=[0] exprs=[0]\noutput \"y\" %1\n"),
             Catch::Contains("slice: step 0"));
  CHECK_THAT(broken("function main\ninput \"x\" %0 : f32[2]\noutput \"y\" %7\n"), Catch::Contains("output 'y' is not defined"));
  CHECK_THAT(broken("function main\ninput \"x\" %0 : f32[2]\ninput \"x\" %1 : f32[2]\noutput \"y\" %0\n"),
             Catch::Contains("two inputs are named 'x'"));
  CHECK_THAT(broken("function main\ninput \"c\" %0 : bool[]\nread_scalar(%0) symbol=s:0..1\n"
                    "%1 : f32[] = if() exprs=[s] {\n  %2 : f32[] = splat() data=f32:00000000\n  output \"a\" %2\n} {\n"
                    "  output \"b\" %2\n}\noutput \"y\" %1\n"),
             Catch::Contains("output 'b' is not defined"));
}
