// Dims, input shapes, and shape arithmetic that folds to expressions.
#include <catch2/catch.hpp>

#include <unistd.h>

#include "tests/import/model.h"

using namespace test;
using Catch::Contains;

TEST_CASE("names of dims become symbols with a range", "[import]") {
  Model m;
  m.input("a", kFloat, {"N", "3", "x.y"}).input("b", kFloat, {"N", "1", ""}).output("y");
  m.node("Mul", {"a", "a"}, {"y"});
  m.output("z");
  m.node("Abs", {"b"}, {"z"});
  const Imported r = m.import();
  REQUIRE(r.text() == "");
  REQUIRE(r.function->dims.size() == 3);
  CHECK(r.function->dims[0].name() == "N");
  CHECK(r.function->dims[1].name() == "x_y");
  CHECK(r.function->dims[2].name() == "b_2");
  CHECK(r.function->dims[0].min() == 1);
  CHECK(r.function->dims[0].max() == 1 << 20);
  CHECK(r.output(0) == "f32[N,3,x_y]");
  CHECK(r.output(1) == "f32[N,1,b_2]");
}

TEST_CASE("--input-shape fixes dims, gives ranges, and says what is wrong with itself", "[import]") {
  Model m;
  m.input("in:put/a", kFloat, {"N", "3", "W"}).output("y");
  m.node("Relu", {"in:put/a"}, {"y"});
  CHECK(m.import({"in:put/a=2x3x?"}).output() == "f32[2,3,W]");
  const Imported r = m.import({"in:put/a=1..8x?x40"});
  CHECK(r.output() == "f32[N,3,40]");
  CHECK(r.function->dims[0].max() == 8);
  CHECK_THAT(m.import({"b=1"}).text(), Contains("--input-shape names 'b', which is no input of the model; hint: the inputs are 'in:put/a'"));
  CHECK_THAT(m.import({"in:put/a=1x3"}).text(), Contains("has 2 dims, the model has 3"));
  CHECK_THAT(m.import({"in:put/a=1x4x5"}).text(), Contains("dim 1 is 3 in the model; --input-shape cannot change it"));
  for (const char *bad : {"in:put/a", "in:put/a=1xx3", "in:put/a=-1x3x4", "in:put/a=1x3x9..2", "in:put/a=1x3x99999999999"})
    CHECK_THAT(m.import({bad}).text(), Contains("is not NAME=1x3x48x320"));
}

TEST_CASE("initializers that are also inputs are constants", "[import]") {
  Model m(9);
  m.input("x", kFloat, {"2"}).input("w", kFloat, {"2"}).floats("w", {2}, {3, 4}).output("y");
  m.node("Add", {"x", "w"}, {"y"});
  const Imported r = m.import();
  REQUIRE(r.text() == "");
  CHECK(r.function->graph.inputs.size() == 1);
  CHECK(r.count(Opcode::kConstant) == 1);
}

TEST_CASE("Shape, Gather, Concat, Reshape leave one reshape", "[import]") {
  // y = Reshape(x, [shape(x)[0], -1, shape(x)[1] * 2])
  Model m;
  m.input("x", kFloat, {"N", "6", "W", "4"}).output("y");
  m.ints("zero", {1}, {0}).ints("one", {1}, {1}).ints("two", {1}, {2}).ints("minus", {1}, {-1});
  m.node("Shape", {"x"}, {"s"});
  m.node("Gather", {"s", "zero"}, {"n"});
  m.node("Slice", {"s", "one", "two"}, {"c"});
  m.node("Mul", {"c", "two"}, {"c2"});
  m.node("Concat", {"n", "minus", "c2"}, {"to"});
  attr(*m.g->mutable_node(4), "axis", 0);
  m.node("Reshape", {"x", "to"}, {"y"});
  const Imported r = m.import();
  REQUIRE(r.text() == "");
  CHECK(r.output() == "f32[N,2*W,12]");
  CHECK(r.function->graph.ops.size() == 1);
  CHECK(r.find(Opcode::kReshape));
}

TEST_CASE("symbolic dims cancel in a reshape with -1", "[import]") {
  Model m;
  m.input("x", kFloat, {"N", "120", "1", "W"}).ints("to", {3}, {0, 120, -1}).output("y");
  m.node("Reshape", {"x", "to"}, {"y"});
  const Imported r = m.import();
  CHECK(r.output() == "f32[N,120,W]");
  CHECK(r.count(Opcode::kCheck) == 0);
}

TEST_CASE("a run-time shape is read and checked", "[import]") {
  Model m;
  m.input("x", kFloat, {"4", "6"}).input("to", kInt64, {"2"}).output("y");
  m.node("Reshape", {"x", "to"}, {"y"});
  const Imported r = m.import();
  REQUIRE(r.text() == "");
  CHECK(r.count(Opcode::kReadScalar) == 2);
  CHECK(r.count(Opcode::kCheck) == 1);
}

TEST_CASE("Range, ConstantOfShape and host arithmetic fold", "[import]") {
  Model m;
  m.input("x", kFloat, {"N", "5"}).output("y");
  m.ints("start", {}, {0}).ints("step", {}, {1}).ints("at", {}, {1});
  m.node("Shape", {"x"}, {"s"});
  m.node("Gather", {"s", "at"}, {"five"});
  m.node("Range", {"start", "five", "step"}, {"r"});
  m.node("ReduceSum", {"r"}, {"ten"});
  m.node("Unsqueeze", {"ten", "start"}, {"u"});
  m.node("Squeeze", {"u"}, {"q"});
  m.node("Reshape", {"x", "q2"}, {"y"});
  m.node("Identity", {"q"}, {"unused"});
  // [10 / 2] is the shape: N*5 elements in 5 columns.
  m.g->mutable_node(6)->set_input(1, "w");
  onnx::NodeProto concat = m.node("Concat", {"minus", "five1"}, {"w"});
  m.ints("minus", {1}, {-1}).ints("two", {1}, {2});
  onnx::NodeProto div = m.node("Div", {"q1", "two"}, {"five1"}), view = m.node("Reshape", {"q", "one"}, {"q1"});
  m.ints("one", {1}, {1});
  attr(concat, "axis", int64_t{0});
  // Topological order: producers before the last Reshape.
  onnx::NodeProto reshape = m.g->node(6);
  m.g->mutable_node()->DeleteSubrange(6, m.g->node_size() - 6);
  *m.g->add_node() = view, *m.g->add_node() = div, *m.g->add_node() = concat, *m.g->add_node() = reshape;
  const Imported r = m.import();
  REQUIRE(r.text() == "");
  CHECK(r.output() == "f32[N,5]");
  CHECK(r.function->graph.ops.empty()); // the reshape changes nothing
}

TEST_CASE("dims that must be equal are checked at run time", "[import]") {
  Model m;
  m.input("a", kFloat, {"N"}).input("b", kFloat, {"M"}).output("y");
  m.node("Add", {"a", "b"}, {"y"});
  const Imported r = m.import();
  REQUIRE(r.text() == "");
  const graph::Op *check = r.find(Opcode::kCheck);
  REQUIRE(check);
  CHECK_THAT(check->text, Contains("node 'the_Add' (ai.onnx.Add)") && Contains("N and M must be equal"));
}

TEST_CASE("nodes of no use are dropped, even where they could not be imported", "[import]") {
  Model m;
  m.input("x", kFloat, {"2"}).output("y");
  m.node("Relu", {"x"}, {"y"});
  m.node("NoSuchOperator", {"x"}, {"z"});
  m.node("Exp", {"x"}, {"e"});
  const Imported r = m.import();
  CHECK(r.text() == "");
  CHECK(r.function->graph.ops.size() == r.count(Opcode::kMap) + r.count(Opcode::kSplat));
}

TEST_CASE("constants that repeat one element are splats", "[import]") {
  Model m;
  m.input("x", kFloat, {"4"}).floats("w", {4}, {2, 2, 2, 2}).output("y");
  m.node("Mul", {"x", "w"}, {"y"});
  const Imported r = m.import();
  CHECK(r.count(Opcode::kConstant) == 0);
  CHECK(r.count(Opcode::kSplat) == 1);
}
