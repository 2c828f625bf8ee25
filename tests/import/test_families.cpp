// What each family of operators becomes: result types over opsets, ranks, broadcasts and types, and which primitives.
#include <catch2/catch.hpp>

#include <unistd.h>

#include <random>
#include <sstream>

#include "tests/import/model.h"

using namespace test;
using K = kernel::Opcode;

namespace {

using Inputs = std::vector<std::pair<int, std::vector<std::string>>>;

Imported run(int64_t opset, const std::string &op, const Inputs &inputs,
             const std::function<void(Model &, onnx::NodeProto &)> &fill = {}, int outputs = 1) {
  Model m(opset);
  std::vector<std::string> names, out;
  for (const auto &[type, dims] : inputs) {
    names.push_back("x" + std::to_string(names.size()));
    m.input(names.back(), type, dims);
  }
  for (int i = 0; i < outputs; ++i) {
    out.push_back("y" + std::to_string(i));
    m.output(out.back());
  }
  onnx::NodeProto &n = m.node(op, names, out);
  if (fill)
    fill(m, n);
  Imported r = m.import();
  INFO(r.text());
  REQUIRE(r.function);
  return r;
}

void ints_input(Model &m, onnx::NodeProto &n, std::vector<int64_t> values) {
  const std::string name = "c" + std::to_string(n.input_size());
  m.ints(name, {static_cast<int64_t>(values.size())}, values);
  n.add_input(name);
}

} // namespace

TEST_CASE("unary operators keep shape and type in every float type", "[import]") {
  for (const char *op : {"Abs", "Neg", "Exp", "Log", "Sqrt", "Floor", "Ceil", "Sin", "Cos", "Tanh", "Sigmoid", "Relu", "Reciprocal",
                         "Softplus", "Softsign", "Elu", "Selu", "LeakyRelu", "HardSigmoid", "Softmax", "LogSoftmax", "Hardmax",
                         "Erf", "Sign", "Round", "Celu", "HardSwish", "ThresholdedRelu", "Identity", "Atan"}) {
    INFO(op);
    CHECK(run(17, op, {{kFloat, {"N", "3"}}}).output() == "f32[N,3]");
    CHECK(run(17, op, {{kHalf, {"N", "3"}}}).output() == "f16[N,3]");
    CHECK(run(17, op, {{onnx::TensorProto::DOUBLE, {"N", "3"}}}).output() == "f64[N,3]");
  }
}

TEST_CASE("16-bit floats are computed in f32 and rounded once", "[import]") {
  const Imported r = run(17, "Elu", {{kHalf, {"4"}}});
  CHECK(r.maps(K::kConvert) == 2); // there and back
  for (const graph::Op &op : r.function->graph.ops)
    if (op.code == Opcode::kMap && op.map != K::kConvert)
      CHECK(r.function->values[op.operands.back()].type.element == ElementType::kF32);
}

TEST_CASE("binary operators broadcast by numpy's rules", "[import]") {
  std::mt19937 random(11);
  for (int round = 0; round < 200; ++round) {
    // Random dims; each operand drops leading axes and sets some to 1.
    const size_t rank = random() % 5;
    std::vector<int> full(rank);
    for (int &d : full)
      d = 1 + static_cast<int>(random() % 4);
    const auto operand = [&](size_t &dropped) {
      dropped = rank ? random() % (rank + 1) : 0;
      std::vector<std::string> dims;
      for (size_t i = dropped; i < rank; ++i)
        dims.push_back(random() % 3 ? std::to_string(full[i]) : "1");
      return dims;
    };
    size_t da = 0, db = 0;
    const std::vector<std::string> a = operand(da), b = operand(db);
    std::string expected = "f32[";
    for (size_t i = std::min(da, db); i < rank; ++i) {
      int d = 1;
      if (i >= da)
        d = std::max(d, std::stoi(a[i - da]));
      if (i >= db)
        d = std::max(d, std::stoi(b[i - db]));
      expected += (i > std::min(da, db) ? "," : "") + std::to_string(d);
    }
    CHECK(run(17, round % 2 ? "Sub" : "Pow", {{kFloat, a}, {kFloat, b}}).output() == expected + "]");
  }
}

TEST_CASE("integer operators take the signedness of their type", "[import]") {
  CHECK(run(17, "Div", {{kUint8, {"4"}}, {kUint8, {"4"}}}).maps(K::kDivU) == 1);
  CHECK(run(17, "Div", {{kInt32, {"4"}}, {kInt32, {"4"}}}).maps(K::kDiv) == 1);
  CHECK(run(17, "Less", {{kUint8, {"4"}}, {kUint8, {"4"}}}).maps(K::kLtU) == 1);
  CHECK(run(17, "Max", {{kUint8, {"4"}}, {kUint8, {"4"}}, {kUint8, {"1"}}}).maps(K::kMaxU) == 2);
  CHECK(run(17, "Mod", {{kUint8, {"4"}}, {kUint8, {"4"}}}).maps(K::kRemU) == 1);
}

TEST_CASE("softmax normalises one axis from opset 13 on, the rest of the axes before", "[import]") {
  const auto axes = [](int64_t opset, int64_t axis) {
    const Imported r = run(opset, "Softmax", {{kFloat, {"2", "3", "4"}}}, [&](auto &, auto &n) { attr(n, "axis", axis); });
    return r.find(Opcode::kReduce)->axes;
  };
  CHECK(axes(13, 1) == std::vector<uint32_t>{1});
  CHECK(axes(13, -1) == std::vector<uint32_t>{2});
  CHECK(axes(11, 1) == std::vector<uint32_t>{1, 2});
  CHECK(axes(11, -1) == std::vector<uint32_t>{2});
}

TEST_CASE("Clip takes bounds as attributes or inputs, each optional", "[import]") {
  CHECK(run(6 + 1, "Clip", {{kFloat, {"4"}}}, [](auto &, auto &n) { attr(n, "min", 0.0f), attr(n, "max", 6.0f); }).maps(K::kMin) == 1);
  const Imported r = run(13, "Clip", {{kFloat, {"4"}}}, [](auto &m, auto &n) {
    m.floats("hi", {}, {6});
    n.add_input(""), n.add_input("hi");
  });
  CHECK(r.maps(K::kMin) == 1);
  CHECK(r.maps(K::kMax) == 0);
  CHECK(run(13, "Clip", {{kUint8, {"4"}}, {kUint8, {}}, {kUint8, {}}}).maps(K::kMaxU) == 1);
}

TEST_CASE("convolutions: ranks, groups, pads, strides, dilations, auto_pad", "[import]") {
  CHECK(run(11, "Conv", {{kFloat, {"N", "3", "W"}}, {kFloat, {"4", "3", "3"}}, {kFloat, {"4"}}}).output() == "f32[N,4,W - 2]");
  CHECK(run(11, "Conv", {{kFloat, {"1", "4", "9", "8", "7"}}, {kFloat, {"6", "2", "3", "2", "1"}}}, [](auto &, auto &n) {
          attr(n, "group", 2), attr(n, "strides", std::vector<int64_t>{2, 1, 3}), attr(n, "dilations", std::vector<int64_t>{2, 1, 1});
          attr(n, "pads", std::vector<int64_t>{1, 0, 0, 2, 1, 0});
        }).output() == "f32[1,6,4,8,3]");
  CHECK(run(11, "Conv", {{kFloat, {"1", "1", "7", "8"}}, {kFloat, {"1", "1", "3", "3"}}}, [](auto &, auto &n) {
          attr(n, "auto_pad", std::string("SAME_UPPER")), attr(n, "strides", std::vector<int64_t>{2, 2});
        }).output() == "f32[1,1,4,4]");
  CHECK(run(11, "ConvTranspose", {{kFloat, {"1", "2", "3", "3"}}, {kFloat, {"2", "4", "3", "3"}}}, [](auto &, auto &n) {
          attr(n, "strides", std::vector<int64_t>{2, 3}), attr(n, "output_padding", std::vector<int64_t>{1, 1});
          attr(n, "pads", std::vector<int64_t>{1, 2, 1, 2});
        }).output() == "f32[1,4,6,6]");
  CHECK(run(11, "ConvTranspose", {{kFloat, {"1", "4", "5"}}, {kFloat, {"4", "3", "2"}}}, [](auto &, auto &n) { attr(n, "group", 2); })
            .output() == "f32[1,6,6]");
}

TEST_CASE("pools: ceil_mode, auto_pad, global", "[import]") {
  const auto pool = [](const char *op, bool ceil) {
    return run(19, op, {{kFloat, {"1", "2", "8", "8"}}}, [&](auto &, auto &n) {
             attr(n, "kernel_shape", std::vector<int64_t>{3, 3}), attr(n, "strides", std::vector<int64_t>{2, 2});
             attr(n, "ceil_mode", ceil ? 1 : 0);
           }).output();
  };
  for (const char *op : {"MaxPool", "AveragePool", "LpPool"}) {
    CHECK(pool(op, false) == "f32[1,2,3,3]");
    CHECK(pool(op, true) == "f32[1,2,4,4]");
  }
  for (const char *op : {"GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"})
    CHECK(run(17, op, {{kFloat, {"N", "3", "5", "W"}}}).output() == "f32[N,3,1,1]");
}

TEST_CASE("reductions take axes as attribute or input, keep or drop them", "[import]") {
  for (const char *op : {"ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum",
                         "ReduceLogSumExp", "ReduceSumSquare", "ReduceSum"}) {
    INFO(op);
    CHECK(run(11, op, {{kFloat, {"2", "N", "4"}}}, [](auto &, auto &n) { attr(n, "axes", std::vector<int64_t>{-1, 0}); }).output() == "f32[1,N,1]");
    CHECK(run(18, op, {{kFloat, {"2", "N", "4"}}}, [](auto &m, auto &n) { ints_input(m, n, {1}), attr(n, "keepdims", 0); }).output() == "f32[2,4]");
    CHECK(run(18, op, {{kFloat, {"2", "N", "4"}}}, [](auto &, auto &n) { attr(n, "keepdims", 0); }).output() == "f32[]");
  }
  CHECK(run(18, "ReduceMax", {{kFloat, {"2", "3"}}}, [](auto &, auto &n) { attr(n, "noop_with_empty_axes", 1); }).function->graph.ops.empty());
  CHECK(run(20, "ReduceMax", {{kBool, {"2", "3"}}}).find(Opcode::kReduce)->reduce == dispatch::ReduceKind::kOr);
  CHECK(run(13, "ArgMax", {{kFloat, {"2", "3"}}}, [](auto &, auto &n) { attr(n, "axis", -1), attr(n, "select_last_index", 1); }).output() == "i64[2,1]");
}

TEST_CASE("products: MatMul of all ranks, Gemm, Einsum", "[import]") {
  const auto matmul = [](std::vector<std::string> a, std::vector<std::string> b) {
    return run(13, "MatMul", {{kFloat, std::move(a)}, {kFloat, std::move(b)}}).output();
  };
  CHECK(matmul({"2", "3"}, {"3", "4"}) == "f32[2,4]");
  CHECK(matmul({"3"}, {"3"}) == "f32[]");
  CHECK(matmul({"3"}, {"N", "3", "4"}) == "f32[N,4]");
  CHECK(matmul({"N", "2", "3"}, {"3"}) == "f32[N,2]");
  CHECK(matmul({"N", "1", "2", "3"}, {"5", "3", "4"}) == "f32[N,5,2,4]");
  CHECK(matmul({"1", "2", "3"}, {"1", "3", "4"}) == "f32[1,2,4]");
  CHECK(run(13, "Gemm", {{kFloat, {"3", "2"}}, {kFloat, {"4", "3"}}, {kFloat, {"4"}}}, [](auto &, auto &n) {
          attr(n, "transA", 1), attr(n, "transB", 1), attr(n, "alpha", 0.5f);
        }).output() == "f32[2,4]");
  const auto einsum = [](const char *equation, Inputs inputs) {
    return run(12, "Einsum", inputs, [&](auto &, auto &n) { attr(n, "equation", std::string(equation)); }).output();
  };
  CHECK(einsum("ij,jk->ik", {{kFloat, {"2", "3"}}, {kFloat, {"3", "4"}}}) == "f32[2,4]");
  CHECK(einsum("...ii -> ...i", {{kFloat, {"2", "3", "3"}}}) == "f32[2,3]");
  CHECK(einsum("bhid,bhjd->bhij", {{kFloat, {"N", "2", "5", "4"}}, {kFloat, {"N", "2", "6", "4"}}}) == "f32[N,2,5,6]");
  CHECK(einsum("ji", {{kFloat, {"2", "3"}}}) == "f32[3,2]");
  CHECK(einsum("a,b,c->abc", {{kFloat, {"2"}}, {kFloat, {"3"}}, {kFloat, {"4"}}}) == "f32[2,3,4]");
}

TEST_CASE("movement: slices, pads, tiles, splits", "[import]") {
  const auto slice = [](std::vector<int64_t> starts, std::vector<int64_t> ends, std::vector<int64_t> axes, std::vector<int64_t> steps) {
    return run(13, "Slice", {{kFloat, {"10", "W"}}}, [&](auto &m, auto &n) {
             for (const auto &list : {starts, ends, axes, steps})
               ints_input(m, n, list);
           }).output();
  };
  CHECK(slice({1}, {-1}, {0}, {2}) == "f32[4,W]");
  CHECK(slice({-1}, {INT64_MIN}, {0}, {-1}) == "f32[10,W]");
  CHECK(slice({0}, {INT64_MAX}, {1}, {1}) == "f32[10,W]");
  CHECK(slice({20}, {30}, {0}, {1}) == "f32[0,W]");
  CHECK(slice({8, 0}, {2, 1}, {0, -1}, {-3, 1}) == "f32[2,1]");
  CHECK(run(11, "Pad", {{kFloat, {"2", "3"}}}, [](auto &m, auto &n) { ints_input(m, n, {-1, 2, 0, 1}); }).output() == "f32[1,6]");
  CHECK(run(13, "Tile", {{kFloat, {"2", "N"}}}, [](auto &m, auto &n) { ints_input(m, n, {3, 2}); }).output() == "f32[6,2*N]");
  CHECK(run(13, "Expand", {{kFloat, {"3", "1"}}}, [](auto &m, auto &n) { ints_input(m, n, {2, 1, 6}); }).output() == "f32[2,3,6]");
  const Imported split = run(18, "Split", {{kFloat, {"7", "2"}}}, [](auto &, auto &n) { attr(n, "num_outputs", 3); }, 3);
  CHECK(split.output(0) == "f32[3,2]");
  CHECK(split.output(2) == "f32[1,2]");
  CHECK(run(13, "DepthToSpace", {{kFloat, {"N", "8", "2", "3"}}}, [](auto &, auto &n) { attr(n, "blocksize", 2); }).output() == "f32[N,2,4,6]");
  CHECK(run(13, "SpaceToDepth", {{kFloat, {"N", "2", "4", "6"}}}, [](auto &, auto &n) { attr(n, "blocksize", 2); }).output() == "f32[N,8,2,3]");
}

TEST_CASE("gathers and scatters", "[import]") {
  CHECK(run(13, "Gather", {{kFloat, {"N", "5"}}, {kInt64, {"2", "3"}}}, [](auto &, auto &n) { attr(n, "axis", 1); }).output() == "f32[N,2,3]");
  CHECK(run(13, "GatherElements", {{kFloat, {"4", "5"}}, {kInt64, {"2", "5"}}}).output() == "f32[2,5]");
  CHECK(run(13, "GatherND", {{kFloat, {"2", "3", "4"}}, {kInt64, {"2", "1"}}}, [](auto &, auto &n) { attr(n, "batch_dims", 1); }).output() == "f32[2,4]");
  CHECK(run(16, "ScatterND", {{kFloat, {"4", "5"}}, {kInt64, {"2", "1"}}, {kFloat, {"2", "5"}}}, [](auto &, auto &n) { attr(n, "reduction", std::string("add")); }).output() == "f32[4,5]");
  CHECK(run(16, "ScatterElements", {{kHalf, {"4", "5"}}, {kInt64, {"2", "5"}}, {kHalf, {"2", "5"}}}).output() == "f16[4,5]");
  const Imported r = run(13, "Gather", {{kFloat, {"N", "5"}}, {kInt64, {"2"}}});
  CHECK(r.function->sites.at(0) == "node 'the_Gather' (ai.onnx.Gather): index out of range: expected -n to n-1, n = N");
}

TEST_CASE("resize computes sizes and leaves unit axes alone", "[import]") {
  const auto resize = [](const char *mode, const char *coordinates, std::vector<float> scales, const char *rounding = "round_prefer_floor") {
    return run(13, "Resize", {{kFloat, {"1", "2", "4", "W"}}}, [&](auto &m, auto &n) {
      m.floats("scales", {4}, scales);
      n.add_input(""), n.add_input("scales");
      attr(n, "mode", std::string(mode)), attr(n, "coordinate_transformation_mode", std::string(coordinates));
      attr(n, "nearest_mode", std::string(rounding));
    });
  };
  const Imported nearest = resize("nearest", "asymmetric", {1, 1, 2, 2});
  CHECK(nearest.output() == "f32[1,2,8,2*W]");
  CHECK(nearest.count(Opcode::kGather) == 2);
  // Whole numbers of equal neighbours are views.
  CHECK(resize("nearest", "asymmetric", {1, 1, 2, 3}, "floor").count(Opcode::kGather) == 0);
  CHECK(resize("nearest", "half_pixel", {1, 1, 3, 4}).count(Opcode::kGather) == 0);
  CHECK(resize("nearest", "half_pixel", {1, 1, 3, 4}).output() == "f32[1,2,12,4*W]");
  CHECK(resize("nearest", "half_pixel", {1, 1, 3, 4}, "floor").count(Opcode::kGather) == 2);
  CHECK(resize("nearest", "half_pixel", {1, 1, 1.5f, 2.5f}).count(Opcode::kGather) == 2);
  CHECK(resize("nearest", "align_corners", {1, 1, 2, 2}).count(Opcode::kGather) == 2);
  CHECK(resize("linear", "half_pixel", {1, 1, 1, 0.5f}).count(Opcode::kGather) == 2);
  CHECK(resize("cubic", "align_corners", {1, 1, 1.5f, 1}).count(Opcode::kGather) == 4);
}

TEST_CASE("operators are listed with their opsets", "[import]") {
  const auto lines = list_onnx_operators();
  CHECK(lines.size() > 140);
  CHECK(std::is_sorted(lines.begin(), lines.end()));
  CHECK(std::count(lines.begin(), lines.end(), "ai.onnx Conv 6-27") == 1);
  for (const std::string &line : lines) {
    std::istringstream words(line);
    std::string domain, op, range, more;
    words >> domain >> op >> range;
    CHECK_FALSE(words >> more);
    CHECK(range.find('-') != std::string::npos);
  }
}

TEST_CASE("graphs of imported models survive print and parse", "[import]") {
  const Imported r = run(13, "Softmax", {{kFloat, {"N", "5"}}});
  std::string error;
  const auto again = graph::parse(graph::print(*r.function), {}, error);
  REQUIRE(error == "");
  CHECK(graph::print(*again) == graph::print(*r.function));
}
