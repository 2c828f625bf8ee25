// If, Loop, data-dependent sizes, local functions.
#include <catch2/catch.hpp>

#include <unistd.h>

#include "tests/import/model.h"

using namespace test;
using Catch::Contains;

namespace {

// y = If(c) then x * 2 else f(x)
Model &branches(Model &m, const std::vector<std::string> &condition_dims = {}) {
  m.input("c", kBool, condition_dims).input("x", kFloat, {"N", "3"}).output("y");
  auto &node = m.node("If", {"c"}, {"y"});
  auto then = subgraph(node, "then_branch"), otherwise = subgraph(node, "else_branch");
  then.floats("two", {}, {2}).output("t");
  then.node("Mul", {"x", "two"}, {"t"});
  otherwise.output("e");
  otherwise.node("Exp", {"x"}, {"e"});
  return m;
}

} // namespace

TEST_CASE("If reads its condition and has a region a branch", "[import]") {
  Model m;
  const Imported r = branches(m, {"1"}).import();
  REQUIRE(r.text() == "");
  CHECK(r.count(Opcode::kReadScalar) == 1);
  const graph::Op *op = r.find(Opcode::kIf);
  REQUIRE(op);
  CHECK(op->regions.size() == 2);
  CHECK(op->exprs[0].symbols().size() == 1);
  CHECK(r.output() == "f32[N,3]");
}

TEST_CASE("an If whose condition is known is its branch, whatever the other one is", "[import]") {
  Model m;
  m.input("x", kFloat, {"N", "3"}).output("y");
  m.tensor("c", kBool, {})->add_int32_data(1);
  auto &node = m.node("If", {"c"}, {"y"});
  auto then = subgraph(node, "then_branch"), otherwise = subgraph(node, "else_branch");
  then.output("t");
  then.node("Exp", {"x"}, {"t"});
  otherwise.output("e");
  otherwise.node("NoSuchThing", {"x"}, {"e"});
  const Imported r = m.import();
  REQUIRE(r.text() == "");
  CHECK(r.count(Opcode::kIf) == 0);
  CHECK(r.maps(kernel::Opcode::kExp) == 1);
}

TEST_CASE("branches may differ in dims, not in rank or type", "[import]") {
  const auto two = [](const std::vector<std::string> &a, const std::vector<std::string> &b) {
    Model m;
    m.input("c", kBool, {}).input("a", kFloat, a).input("b", kFloat, b).output("y");
    auto &node = m.node("If", {"c"}, {"y"});
    auto then = subgraph(node, "then_branch"), otherwise = subgraph(node, "else_branch");
    then.output("t");
    then.node("Exp", {"a"}, {"t"});
    otherwise.output("e");
    otherwise.node("Exp", {"b"}, {"e"});
    return m.import();
  };
  const Imported r = two({"2", "N"}, {"5", "N"});
  REQUIRE(r.text() == "");
  CHECK_THAT(r.output(), Contains("select("));
  CHECK_THAT(two({"2"}, {"2", "1"}).text(), Contains("the branches give f32[2] and f32[2,1] for output 0; hint: both branches"));
}

TEST_CASE("problems inside a branch are reported there, once", "[import]") {
  Model m;
  m.input("c", kBool, {}).input("x", kFloat, {"2"}).output("y");
  auto &node = m.node("If", {"c"}, {"y"});
  auto then = subgraph(node, "then_branch"), otherwise = subgraph(node, "else_branch");
  then.output("t");
  then.node("Bad", {"x"}, {"t"});
  otherwise.output("e");
  otherwise.node("Exp", {"x"}, {"e"});
  const Imported r = m.import();
  CHECK(r.diagnostics.list().size() == 1);
  CHECK_THAT(r.text(), Contains("node 'the_Bad'"));
}

namespace {

// state and a stacked copy of it, `trips` times or until state's sum passes a limit.
Imported loop(bool with_trip_count, bool with_condition, const std::string &grow = "") {
  Model m;
  m.input("m", kInt64, {}).input("s", kFloat, {"3"}).output("last").output("all");
  m.floats("limit", {}, {100});
  auto &node = m.node("Loop", {with_trip_count ? "m" : "", "", "s"}, {"last", "all"});
  auto body = subgraph(node, "body");
  body.input("i", kInt64, {}).input("go", kBool, {}).input("v", kFloat, {"3"});
  body.output("go_on").output("next").output("row");
  if (grow.empty()) {
    body.node("Add", {"v", "v"}, {"next"});
  } else {
    attr(body.node("Concat", {"v", "v"}, {"next"}), "axis", 0);
  }
  body.node("Identity", {"next"}, {"row"});
  if (with_condition) {
    attr(body.node("ReduceSum", {"next"}, {"sum"}), "keepdims", 0);
    body.node("Less", {"sum", "limit"}, {"go_on"});
  } else {
    body.node("Identity", {"go"}, {"go_on"});
  }
  return m.import();
}

} // namespace

TEST_CASE("Loop carries values, stacks scans and ends by count, condition or both", "[import]") {
  const Imported counted = loop(true, false);
  REQUIRE(counted.text() == "");
  const graph::Op *op = counted.find(Opcode::kLoop);
  REQUIRE(op);
  CHECK(op->loop->trip_count);
  CHECK_FALSE(op->loop->has_condition);
  CHECK(op->loop->carried == 1);
  CHECK(op->loop->scans == 1);
  CHECK(counted.output(0) == "f32[3]");
  CHECK(counted.output(1) == "f32[" + op->loop->trip_count->to_string() + ",3]"); // known before the loop

  const Imported both = loop(true, true);
  REQUIRE(both.text() == "");
  op = both.find(Opcode::kLoop);
  CHECK(op->loop->has_condition);
  CHECK(op->regions[0].outputs.size() == 3);
  CHECK(both.output(1) == "f32[" + op->loop->trips.name() + ",3]");

  const Imported endless = loop(false, true);
  REQUIRE(endless.text() == "");
  CHECK_FALSE(endless.find(Opcode::kLoop)->loop->trip_count);
}

TEST_CASE("a loop without end is refused, a growing state is not", "[import]") {
  CHECK_THAT(loop(false, false).text(), Contains("never ends"));
  const Imported growing = loop(true, false, "grow");
  REQUIRE(growing.text() == "");
  CHECK_FALSE(growing.find(Opcode::kLoop)->sizes.empty()); // its dim is what the iteration before found
}

TEST_CASE("NonZero counts on the device and slices to the count", "[import]") {
  Model m;
  m.input("x", kFloat, {"4", "N"}).output("y");
  m.node("NonZero", {"x"}, {"y"});
  const Imported r = m.import();
  REQUIRE(r.text() == "");
  CHECK(r.count(Opcode::kCompute) == 1);
  CHECK(r.count(Opcode::kReadScalar) == 1);
  CHECK_THAT(r.output(), Contains("i64[2,the_NonZero_count"));
}

TEST_CASE("local functions are inlined with their attributes", "[import]") {
  Model m;
  m.proto.add_opset_import()->set_domain("my");
  m.proto.mutable_opset_import(1)->set_version(1);
  auto *f = m.proto.add_functions();
  f->set_name("Leaky"), f->set_domain("my");
  f->add_input("a"), f->add_output("b"), f->add_attribute("slope");
  f->add_opset_import()->set_version(17);
  auto *n = f->add_node();
  n->set_op_type("LeakyRelu"), n->add_input("a"), n->add_output("b");
  auto *a = n->add_attribute();
  a->set_name("alpha"), a->set_ref_attr_name("slope"), a->set_type(onnx::AttributeProto::FLOAT);
  m.input("x", kFloat, {"2"}).output("y");
  attr(m.node("Leaky", {"x"}, {"y"}, "my"), "slope", 0.25f);
  const Imported r = m.import();
  REQUIRE(r.text() == "");
  CHECK_THAT(graph::print(*r.function), Contains("data=f32:0000803e")); // 0.25

  n->set_op_type("Leaky"), n->set_domain("my");
  CHECK_THAT(m.import().text(), Contains("function 'Leaky' calls itself"));
}
