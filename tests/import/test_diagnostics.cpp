// Every problem of a model in one run, each with node, operator, opset, types, reason and hint.
#include <catch2/catch.hpp>

#include <unistd.h>

#include "tests/import/model.h"

using namespace test;
using Catch::Contains;

namespace {

// Diagnostics of one node with inputs of the given shapes.
std::string one(const std::string &op, const std::vector<std::pair<int, std::vector<std::string>>> &inputs,
                const std::function<void(onnx::NodeProto &)> &fill = {}, int64_t opset = 17) {
  Model m(opset);
  std::vector<std::string> names;
  for (const auto &[type, dims] : inputs) {
    names.push_back("x" + std::to_string(names.size()));
    m.input(names.back(), type, dims);
  }
  m.output("y");
  onnx::NodeProto &n = m.node(op, names, {"y"});
  if (fill)
    fill(n);
  const Imported r = m.import();
  REQUIRE_FALSE(r.function);
  return r.text();
}

} // namespace

TEST_CASE("a diagnostic names node, operator, opset, types, reason and hint", "[import]") {
  CHECK(one("NoSuchThing", {{kFloat, {"1", "N"}}}) ==
        "m.onnx: node 'the_NoSuchThing' (ai.onnx.NoSuchThing, opset 17) (f32[1,N]): operator NoSuchThing of domain ai.onnx is "
        "not supported; hint: aotc --list-operators shows what is; docs/adding-an-operator.md says how to add one\n");
}

TEST_CASE("all problems are reported in one run, and their consequences are not", "[import]") {
  Model m;
  m.input("x", kFloat, {"2", "3"}).input("w", kFloat, {"4", "5"}).output("y");
  m.node("Unknown1", {"x"}, {"a"});
  m.node("MatMul", {"x", "w"}, {"b"});
  m.node("Add", {"a", "b"}, {"c"});
  m.node("Unknown2", {"c"}, {"d"});
  m.node("Relu", {"d"}, {"y"});
  const Imported r = m.import();
  CHECK(r.diagnostics.list().size() == 3);
  CHECK_THAT(r.text(), Contains("Unknown1") && Contains("Unknown2") && Contains("f32[2,3] times f32[4,5]"));
}

TEST_CASE("impossible shapes are refused with both shapes", "[import]") {
  CHECK_THAT(one("Add", {{kFloat, {"2", "3"}}, {kFloat, {"4", "3"}}}), Contains("shapes [2,3] and [4,3] do not broadcast"));
  CHECK_THAT(one("MatMul", {{kFloat, {"2", "3"}}, {kFloat, {"4", "5"}}}), Contains("f32[2,3] times f32[4,5]: inner dims: 3 and 4 differ"));
  CHECK_THAT(one("MatMul", {{kFloat, {"2", "2", "3"}}, {kFloat, {"4", "3", "5"}}}), Contains("batch dims: 2 and 4 differ"));
  CHECK_THAT(one("Gemm", {{kFloat, {"2", "3"}}, {kFloat, {"4", "5"}}}), Contains("inner dims: 3 and 4 differ"));
  CHECK_THAT(one("Conv", {{kFloat, {"1", "3", "8", "8"}}, {kFloat, {"4", "2", "3", "3"}}}),
             Contains("channels of f32[1,3,8,8] and weight f32[4,2,3,3] with group 1: 3 and 2 differ"));
  CHECK_THAT(one("Conv", {{kFloat, {"1", "3", "2", "2"}}, {kFloat, {"4", "3", "3", "3"}}}), Contains("larger than the padded input"));
  CHECK_THAT(one("Conv", {{kFloat, {"1", "4", "8", "8"}}, {kFloat, {"5", "2", "3", "3"}}}, [](auto &n) { attr(n, "group", int64_t{2}); }),
             Contains("group 2 does not divide the 5 filters"));
  CHECK_THAT(one("Concat", {{kFloat, {"2", "3"}}, {kFloat, {"2", "4"}}}, [](auto &n) { attr(n, "axis", int64_t{0}); }),
             Contains("f32[2,3] and f32[2,4]"));
  CHECK_THAT(one("Transpose", {{kFloat, {"2", "3"}}}, [](auto &n) { attr(n, "perm", std::vector<int64_t>{0, 0}); }),
             Contains("perm names axis 0 twice"));
  CHECK_THAT(one("Softmax", {{kFloat, {"2", "3"}}}, [](auto &n) { attr(n, "axis", int64_t{5}); }),
             Contains("axis 5 is out of range for rank 2"));
  CHECK_THAT(one("ReduceMax", {{kFloat, {"2", "3"}}}, [](auto &n) { attr(n, "axes", std::vector<int64_t>{1, -1}); }),
             Contains("axes name an axis twice"));
  CHECK_THAT(one("MaxPool", {{kFloat, {"1", "1", "2", "2"}}}, [](auto &n) { attr(n, "kernel_shape", std::vector<int64_t>{3, 3}); }),
             Contains("the window is larger than the padded input"));
  CHECK_THAT(one("Squeeze", {{kFloat, {"2", "3"}}}, [](auto &n) { attr(n, "axes", std::vector<int64_t>{1}); }, 11),
             Contains("squeezed axis 1 of f32[2,3]: 3 and 1 differ"));
}

TEST_CASE("a reshape to another element count names both shapes", "[import]") {
  Model m;
  m.input("x", kFloat, {"2", "3"}).ints("to", {2}, {4, 2}).output("y");
  m.node("Reshape", {"x", "to"}, {"y"});
  CHECK_THAT(m.import().text(), Contains("cannot reshape f32[2,3] to f32[4,2]: 6 and 8 elements"));
}

TEST_CASE("wrong types, inputs and attributes are refused", "[import]") {
  CHECK_THAT(one("Add", {{kFloat, {"2"}}, {kInt64, {"2"}}}), Contains("differ in type: f32[2] and i64[2]; hint: insert a Cast"));
  CHECK_THAT(one("Exp", {{kInt64, {"2"}}}), Contains("expected a float type"));
  CHECK_THAT(one("And", {{kFloat, {"2"}}, {kFloat, {"2"}}}), Contains("takes bool operands"));
  CHECK_THAT(one("Relu", {{kFloat, {"2"}}, {kFloat, {"2"}}}), Contains("has 2 inputs, expected 1"));
  CHECK_THAT(one("Cast", {{kFloat, {"2"}}}, [](auto &n) { attr(n, "to", int64_t{8}); }), Contains("attribute 'to' is the element type string, which is not supported"));
  CHECK_THAT(one("Softmax", {{kFloat, {"2"}}}, [](auto &n) { attr(n, "axis", std::string("x")); }),
             Contains("attribute 'axis' has the wrong kind, expected an int"));
  CHECK_THAT(one("Gelu", {{kFloat, {"2"}}}, {}, 17), Contains("operator Gelu exists from opset 20 to 27 here, the model has 17"));
  CHECK_THAT(one("Conv", {{kFloat, {"1", "1", "4", "4"}}, {kFloat, {"1", "1", "3", "3"}}},
                 [](auto &n) { attr(n, "strides", std::vector<int64_t>{0, 1}); }),
             Contains("attribute 'strides' holds 0"));
  CHECK_THAT(one("Conv", {{kFloat, {"1", "1", "4", "4"}}, {kFloat, {"1", "1", "3", "3"}}},
                 [](auto &n) { attr(n, "pads", std::vector<int64_t>{1, 1}); }),
             Contains("attribute 'pads' has 2 entries, expected 4"));
}

TEST_CASE("ill-formed graphs are refused", "[import]") {
  {
    Model m;
    m.input("x", kFloat, {"2"}).output("y");
    m.node("Relu", {"later"}, {"y"});
    m.node("Relu", {"x"}, {"later"});
    CHECK_THAT(m.import().text(), Contains("input 'later' is not defined before this node"));
  }
  {
    Model m;
    m.input("x", kFloat, {"2"}).output("nowhere");
    CHECK_THAT(m.import().text(), Contains("output 'nowhere' is not produced by any node"));
  }
  {
    Model m;
    m.input("x", kFloat, {"2"}).output("y");
    m.node("Relu", {"x"}, {"y"});
    m.node("Relu", {"x"}, {"y"});
    CHECK_THAT(m.import().text(), Contains("output 'y' is already defined"));
  }
  {
    Model m;
    m.input("x", kFloat, {"2"}).output("y");
    m.node("Relu", {"x"}, {"y"}, "com.microsoft");
    CHECK_THAT(m.import().text(), Contains("the model imports no opset of domain 'com.microsoft'"));
  }
  {
    Model m;
    m.input("x", kFloat, {"2"}).output("y");
    m.g->mutable_input(0)->mutable_type()->mutable_tensor_type()->clear_shape();
    m.node("Relu", {"x"}, {"y"});
    CHECK_THAT(m.import().text(), Contains("input 'x' has no shape; hint: give one: --input-shape=x="));
    CHECK(m.import({"x=2x?"}).output() == "f32[2,x_1]");
  }
  {
    Model m;
    m.input("x", 8, {"2"}).output("y");
    m.node("Relu", {"x"}, {"y"});
    CHECK_THAT(m.import().text(), Contains("input 0 is strings, which Relu does not take here"));
  }
}

TEST_CASE("sizes past the limits are refused", "[import]") {
  Model m;
  m.input("x", kFloat, {"1"}).ints("to", {3}, {65536, 65536, 2}).output("y");
  m.node("Expand", {"x", "to"}, {"y"});
  CHECK_THAT(m.import().text(), Contains("more than 2^31-1 elements"));
  Model n;
  n.input("x", kFloat, {"70000", "70000"}).output("y");
  n.node("Relu", {"x"}, {"y"});
  CHECK_THAT(n.import().text(), Contains("input 'x' has more than 2^31-1 elements"));
}
