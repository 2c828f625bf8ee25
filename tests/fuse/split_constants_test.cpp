// Products with constants larger than a binding, concatenations of more tensors than a kernel binds: every part within the
// limit, and the same bits.
#include <catch2/catch.hpp>

#include <cstring>
#include <random>

#include "aotc/layout/split_concats.h"
#include "aotc/layout/split_constants.h"
#include "tests/fuse/execute.h"

using namespace ingot::aotc;
using namespace ingot::aotc::graph;
using namespace ingot::aotc::testing;

namespace {

Scheduler naive() {
  return [](const dispatch::Dispatch &d) { return schedule::schedule_naive(d, TargetRecord::x86_64_v2()); };
}

size_t largest_constant(const fuse::Program &p) {
  size_t largest = 0;
  for (const fuse::Tensor &t : p.tensors)
    if (t.kind == fuse::Tensor::Kind::kConstant)
      largest = std::max(largest, t.constant->bytes.size());
  return largest;
}

} // namespace

TEST_CASE("a product with a large constant is computed in parts") {
  const char *forms[][3] = {{"mk", "nk", "mn"}, {"mk", "kn", "mn"}, {"bmk", "bkn", "bmn"}, {"bmk", "bnk", "nbm"}};
  for (uint64_t seed = 0; seed < 40; ++seed) {
    std::mt19937_64 random(seed);
    const auto &form = forms[seed % 4];
    const bool swapped = random() % 2;
    std::map<char, int64_t> sizes;
    for (char label : {'b', 'm', 'n', 'k'})
      sizes[label] = 1 + static_cast<int64_t>(random() % 12);
    auto dims = [&](const char *labels) {
      std::vector<Expr> list;
      for (const char *c = labels; *c; ++c)
        list.push_back(sizes[*c]);
      return list;
    };
    Function f;
    GraphBuilder b(f, f.graph);
    b.set_origin("node", "ai.onnx.MatMul");
    ValueId x = b.add_value({ElementType::kF32, dims(form[0])}, "x");
    f.graph.inputs.push_back({"x", x});
    auto data = std::make_shared<ConstantData>();
    data->type = ElementType::kF32;
    int64_t count = product(dims(form[1])).constant().value();
    for (int64_t i = 0; i < count; ++i) {
      const float value = static_cast<float>(random() % 2001) / 1000.0f - 1;
      data->bytes.insert(data->bytes.end(), reinterpret_cast<const uint8_t *>(&value), reinterpret_cast<const uint8_t *>(&value) + 4);
    }
    ValueId w = b.constant({ElementType::kF32, dims(form[1])}, data);
    f.graph.outputs.push_back({"y", swapped ? b.contract(w, x, form[1], form[0], form[2]) : b.contract(x, w, form[0], form[1], form[2])});
    const uint64_t row = static_cast<uint64_t>(count / sizes['n']) * 4, limit = row * (1 + random() % 4);
    INFO("seed " << seed << ", limit " << limit << "\n" << print(f));
    Function split = layout::split_constants(f, limit);
    fuse::Program whole = fuse::fuse(f), parts = fuse::fuse(split);
    CHECK(largest_constant(parts) <= limit);
    const bool fits = data->bytes.size() <= limit;
    CHECK((print(split) == print(f)) == fits);
    const auto inputs = random_inputs(f, {}, seed);
    CHECK(execute(parts, inputs, {}, naive()) == execute(whole, inputs, {}, naive()));
  }
}

TEST_CASE("parts of a product of bytes have its type") {
  for (const bool sums : {false, true}) { // i32, or bytes that wrap
    Function f;
    GraphBuilder b(f, f.graph);
    b.set_origin("node", "ai.onnx.MatMulInteger");
    ValueId x = b.add_value({ElementType::kF32, {5, 20}}, "x");
    f.graph.inputs.push_back({"x", x});
    auto data = std::make_shared<ConstantData>();
    data->type = ElementType::kI8;
    for (int i = 0; i < 20 * 30; ++i)
      data->bytes.push_back(static_cast<uint8_t>(i * 37));
    ValueId bytes = b.convert(ElementType::kI8, b.bitcast(ElementType::kI32, x));
    ValueId y = b.contract(bytes, b.constant({ElementType::kI8, {20, 30}}, std::move(data)), "mk", "kn", "mn");
    if (sums)
      f.values[y].type.element = ElementType::kI32;
    f.graph.outputs.push_back({"y", y});
    REQUIRE(verify(f) == "");
    fuse::Program whole = fuse::fuse(f), parts = fuse::fuse(layout::split_constants(f, 200));
    CHECK(largest_constant(parts) <= 200);
    const auto inputs = random_inputs(f, {}, 1);
    CHECK(execute(parts, inputs, {}, naive()) == execute(whole, inputs, {}, naive()));
  }
}

TEST_CASE("a concatenation of many is one of several") {
  for (int64_t count : {1, 7, 8, 9, 49, 50, 120}) {
    Function f;
    GraphBuilder b(f, f.graph);
    b.set_origin("node", "ai.onnx.Concat");
    std::vector<ValueId> pieces;
    for (int64_t i = 0; i < count; ++i) {
      ValueId x = b.add_value({ElementType::kF32, {2, 1 + i % 3}}, "x" + std::to_string(i));
      f.graph.inputs.push_back({"x" + std::to_string(i), x});
      pieces.push_back(x);
    }
    f.graph.outputs.push_back({"y", b.map(kernel::Opcode::kNeg, {b.concat(pieces, 1)})});
    INFO(count << " inputs");
    fuse::Options options;
    options.max_operands = 8;
    fuse::Program whole = fuse::fuse(f), parts = fuse::fuse(layout::split_concats(f, 7), options);
    for (const dispatch::Dispatch &d : parts.dispatches)
      CHECK(d.operands.size() <= 8);
    const auto inputs = random_inputs(f, {}, static_cast<uint64_t>(count));
    CHECK(execute(parts, inputs, {}, naive()) == execute(whole, inputs, {}, naive()));
  }
}

TEST_CASE("splats are split as well, and equal parts are one") {
  Function f;
  GraphBuilder b(f, f.graph);
  b.set_origin("node", "ai.onnx.Gemm");
  ValueId x = b.add_value({ElementType::kF32, {2, 8}}, "x");
  f.graph.inputs.push_back({"x", x});
  f.graph.outputs.push_back({"y", b.contract(x, b.splat_float(ElementType::kF32, {10, 8}, 0.5), "mk", "nk", "mn")});
  fuse::Program whole = fuse::fuse(f), parts = fuse::fuse(layout::split_constants(f, 100));
  std::vector<int64_t> sizes;
  for (const fuse::Tensor &t : parts.tensors)
    if (t.kind == fuse::Tensor::Kind::kConstant)
      sizes.push_back(t.type.elements().constant().value());
  CHECK(sizes == std::vector<int64_t>{24, 8}); // three of 3 rows, one of 1
  const auto inputs = random_inputs(f, {}, 1);
  CHECK(execute(parts, inputs, {}, naive()) == execute(whole, inputs, {}, naive()));
}

TEST_CASE("the same within a branch's or a loop's body") {
  Function f;
  GraphBuilder b(f, f.graph);
  b.set_origin("node", "ai.onnx.Loop");
  ValueId x = b.add_value({ElementType::kF32, {2, 8}}, "x");
  f.graph.inputs.push_back({"x", x});
  auto data = std::make_shared<ConstantData>();
  data->type = ElementType::kF32;
  for (int i = 0; i < 64; ++i) {
    const float value = static_cast<float>(i % 7) / 8;
    data->bytes.insert(data->bytes.end(), reinterpret_cast<const uint8_t *>(&value), reinterpret_cast<const uint8_t *>(&value) + 4);
  }
  ValueId w = b.constant({ElementType::kF32, {8, 8}}, data);
  LoopInfo info;
  info.trip_count = Expr(3);
  info.iteration = Symbol::host("i", 0, 999);
  info.trips = Symbol::host("trips", 0, 1000);
  info.carried = 1;
  Graph body;
  Graph *outer = b.exchange_graph(&body);
  ValueId state = b.add_value({ElementType::kF32, {2, 8}}, "state");
  body.inputs.push_back({"state", state});
  body.outputs.push_back({"next", b.contract(state, w, "mk", "nk", "mn")});
  b.exchange_graph(outer);
  f.graph.outputs.push_back({"y", b.loop(info, {x}, std::move(body), {{ElementType::kF32, {2, 8}}})[0]});
  fuse::Program whole = fuse::fuse(f), parts = fuse::fuse(layout::split_constants(f, 100));
  CHECK(largest_constant(parts) <= 100);
  const auto inputs = random_inputs(f, {}, 1);
  CHECK(execute(parts, inputs, {}, naive()) == execute(whole, inputs, {}, naive()));
}
