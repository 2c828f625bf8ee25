// Recurrent layers, attention, sampling, signals and narrow types: result types, what they become, and what is refused.
#include <catch2/catch.hpp>

#include <functional>

#include "tests/import/model.h"

using namespace test;
using Catch::Contains;

namespace {

using Inputs = std::vector<std::pair<int, std::vector<std::string>>>;
constexpr int kInt4 = 22, kFloat8 = 17; // TensorProto.DataType

Imported import_one(int64_t opset, const std::string &op, const Inputs &inputs,
                    const std::function<void(Model &, onnx::NodeProto &)> &fill = {}, int outputs = 1) {
  Model m(opset);
  std::vector<std::string> names, out;
  for (const auto &[type, dims] : inputs) {
    names.push_back(type ? "x" + std::to_string(names.size()) : "");
    if (type)
      m.input(names.back(), type, dims);
  }
  for (int i = 0; i < outputs; ++i) {
    out.push_back("y" + std::to_string(i));
    m.output(out.back());
  }
  onnx::NodeProto &n = m.node(op, names, out);
  if (fill)
    fill(m, n);
  return m.import();
}

void set_int(onnx::NodeProto &n, const char *name, int64_t value) {
  auto *a = n.add_attribute();
  a->set_name(name), a->set_type(onnx::AttributeProto::INT), a->set_i(value);
}

void set_text(onnx::NodeProto &n, const char *name, const char *value) {
  auto *a = n.add_attribute();
  a->set_name(name), a->set_type(onnx::AttributeProto::STRING), a->set_s(value);
}

std::string types(const Imported &r) {
  std::string all = r.function ? "" : r.text();
  for (size_t i = 0; r.function && i < r.function->graph.outputs.size(); ++i)
    all += (i ? " " : "") + r.output(i);
  return all;
}

} // namespace

TEST_CASE("recurrent layers: a product for all steps, a loop over them, states in either layout", "[import]") {
  for (const auto &[op, gates] : {std::pair{"RNN", "8"}, std::pair{"GRU", "24"}, std::pair{"LSTM", "32"}}) {
    INFO(op);
    const bool lstm = std::string(op) == "LSTM";
    const Inputs forward = {{kFloat, {"T", "2", "5"}}, {kFloat, {"1", gates, "5"}}, {kFloat, {"1", gates, "8"}}};
    const Imported r = import_one(22, op, forward, {}, lstm ? 3 : 2);
    CHECK(types(r) == std::string("f32[T,1,2,8] f32[1,2,8]") + (lstm ? " f32[1,2,8]" : ""));
    REQUIRE(r.function);
    CHECK(r.count(Opcode::kLoop) == 1);
    const Inputs both = {{kFloat, {"2", "T", "5"}}, {kFloat, {"2", gates, "5"}}, {kFloat, {"2", gates, "8"}}};
    const Imported batch = import_one(22, op, both, [](Model &, onnx::NodeProto &n) {
      set_text(n, "direction", "bidirectional");
      set_int(n, "layout", 1);
    }, 2);
    CHECK(types(batch) == "f32[2,T,2,8] f32[2,2,8]");
    CHECK(batch.count(Opcode::kLoop) == 2);
    CHECK_THAT(import_one(22, op, forward, [](Model &, onnx::NodeProto &n) { set_text(n, "direction", "sideways"); }, 2).text(),
               Contains("attribute 'direction' is 'sideways'"));
    CHECK_THAT(import_one(22, op, {forward[0], forward[1], {kFloat, {"1", gates, "9"}}}, {}, 2).text(), Contains("expected"));
  }
}

TEST_CASE("attention: grouped heads are never repeated, caches go before, masks of each rank", "[import]") {
  const Inputs qkv = {{kFloat, {"2", "8", "4", "16"}}, {kFloat, {"2", "2", "6", "16"}}, {kFloat, {"2", "2", "6", "24"}}};
  CHECK(types(import_one(23, "Attention", qkv)) == "f32[2,8,4,24]");
  Inputs cached = qkv;
  cached.push_back({0, {}});
  cached.push_back({kFloat, {"2", "2", "P", "16"}});
  cached.push_back({kFloat, {"2", "2", "P", "24"}});
  CHECK(types(import_one(23, "Attention", cached, {}, 3)) == "f32[2,8,4,24] f32[2,2,P + 6,16] f32[2,2,P + 6,24]");
  for (const std::vector<std::string> &mask : {std::vector<std::string>{"4", "6"}, {"8", "4", "6"}, {"2", "1", "4", "6"}, {"2", "8", "4", "3"}}) {
    Inputs masked = qkv;
    masked.push_back({kBool, mask});
    CHECK(types(import_one(23, "Attention", masked)) == "f32[2,8,4,24]");
  }
  Inputs uneven = qkv;
  uneven[0].second[1] = "7";
  CHECK_THAT(import_one(23, "Attention", uneven).text(), Contains("7 query heads for 2 key-value heads"));
}

TEST_CASE("sampling operators take their extents from the grid, the regions and the offsets", "[import]") {
  CHECK(types(import_one(20, "GridSample", {{kFloat, {"2", "3", "8", "9"}}, {kFloat, {"2", "H", "5", "2"}}})) == "f32[2,3,H,5]");
  CHECK_THAT(import_one(20, "GridSample", {{kFloat, {"2", "3", "8", "9"}}, {kFloat, {"2", "4", "5", "3"}}}).text(), Contains("takes x[n,c,spatial...]"));
  const Inputs rois = {{kFloat, {"1", "3", "8", "9"}}, {kFloat, {"R", "4"}}, {kInt64, {"R"}}};
  const Imported adaptive = import_one(16, "RoiAlign", rois);
  CHECK(types(adaptive) == "f32[R,3,1,1]");
  CHECK(adaptive.count(Opcode::kReadScalar) == 2); // the number of samples depends on the regions
  const Imported fixed = import_one(16, "RoiAlign", rois, [](Model &, onnx::NodeProto &n) { set_int(n, "sampling_ratio", 2); });
  CHECK(fixed.count(Opcode::kReadScalar) == 0);
}

TEST_CASE("transforms of known length are products with constants, STFT a convolution", "[import]") {
  const Imported dft = import_one(17, "DFT", {{kFloat, {"B", "10", "1"}}}, [](Model &, onnx::NodeProto &n) { set_int(n, "onesided", 1); });
  CHECK(types(dft) == "f32[B,6,2]");
  CHECK(dft.count(Opcode::kContract) == 2);
  const Imported stft = import_one(17, "STFT", {{kFloat, {"B", "100", "1"}}}, [](Model &m, onnx::NodeProto &n) {
    m.ints("step", {}, {10});
    m.floats("window", {20}, std::vector<float>(20, 0.5f));
    n.add_input("step"), n.add_input("window");
  });
  CHECK(types(stft) == "f32[B,9,11,2]");
  CHECK(stft.count(Opcode::kConv) == 1);
}

TEST_CASE("narrow types are stored one element a byte, moved, converted, and refused by arithmetic", "[import]") {
  CHECK(types(import_one(21, "Cast", {{kInt4, {"3", "5"}}}, [](Model &, onnx::NodeProto &n) { set_int(n, "to", kFloat); })) == "f32[3,5]");
  const Imported table = import_one(21, "Cast", {{kFloat8, {"N"}}}, [](Model &, onnx::NodeProto &n) { set_int(n, "to", kFloat); });
  CHECK(types(table) == "f32[N]");
  CHECK(table.count(Opcode::kGather) == 1);
  CHECK(types(import_one(21, "Cast", {{kFloat, {"N"}}}, [](Model &, onnx::NodeProto &n) { set_int(n, "to", kFloat8); })) == "u8[N]");
  CHECK(types(import_one(21, "Transpose", {{kInt4, {"3", "5"}}})) == "i8[5,3]");
  CHECK_THAT(import_one(21, "Add", {{kInt4, {"3"}}, {kInt4, {"3"}}}).text(), Contains("has element type int4, which Add does not take here"));
  // Two elements a byte, low bits first, signs extended.
  Model m(21);
  auto *w = m.tensor("w", kInt4, {3});
  w->set_raw_data(std::string("\x1f\x08", 2));
  m.output("y");
  m.node("Identity", {"w"}, {"y"});
  const Imported r = m.import();
  REQUIRE(r.function);
  const graph::Op *c = r.find(Opcode::kConstant);
  REQUIRE(c);
  CHECK(c->constant->bytes == std::vector<uint8_t>{0xff, 0x01, 0xf8});
  w->set_raw_data("\x1f");
  CHECK_THAT(m.import().text(), Contains("raw_data holds 1 bytes, the dims and type say 2"));
}

TEST_CASE("below opset 7 the second operand broadcasts where the attributes say", "[import]") {
  const auto add = [](std::vector<std::string> second, std::optional<int64_t> axis, bool broadcast) {
    return types(import_one(6, "Add", {{kFloat, {"2", "3", "4"}}, {kFloat, std::move(second)}}, [&](Model &, onnx::NodeProto &n) {
      if (broadcast)
        set_int(n, "broadcast", 1);
      if (axis)
        set_int(n, "axis", *axis);
    }));
  };
  CHECK(add({"3"}, 1, true) == "f32[2,3,4]");
  CHECK(add({"2", "3"}, 0, true) == "f32[2,3,4]");
  CHECK(add({"4"}, std::nullopt, true) == "f32[2,3,4]");
  CHECK_THAT(add({"4"}, std::nullopt, false), Contains("attribute 'broadcast' is 0"));
  CHECK_THAT(add({"3"}, 2, true), Contains("do not broadcast"));
}
