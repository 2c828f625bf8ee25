// Memory in f16: which tensors, and that they are all that changes.
#include <catch2/catch.hpp>

#include <algorithm>
#include <cstring>
#include <random>

#include "aotc/fuse/half_storage.h"
#include "aotc/plan/plan.h"
#include "tests/fuse/execute.h"

using namespace ingot::aotc;
using namespace ingot::aotc::graph;
using namespace ingot::aotc::testing;
using K = kernel::Opcode;

namespace {

std::shared_ptr<const ConstantData> floats(int64_t count, uint64_t seed, float scale) {
  auto data = std::make_shared<ConstantData>();
  data->type = ElementType::kF32;
  std::mt19937_64 random(seed);
  for (int64_t i = 0; i < count; ++i) {
    const float value = scale * (static_cast<float>(random() % 2001) / 1000.0f - 1);
    const auto *bytes = reinterpret_cast<const uint8_t *>(&value);
    data->bytes.insert(data->bytes.end(), bytes, bytes + 4);
  }
  return data;
}

struct Network {
  Function f;
  GraphBuilder b{f, f.graph};

  Network() { b.set_origin("node", "ai.onnx.Test"); }
  ValueId input(const char *name, ElementType type, std::vector<Expr> dims) {
    const ValueId v = b.add_value({type, std::move(dims)}, name);
    f.graph.inputs.push_back({name, v});
    return v;
  }
  ValueId weights(int64_t k, int64_t n, float scale) {
    return b.constant({ElementType::kF32, {k, n}}, floats(k * n, static_cast<uint64_t>(k * n), scale));
  }
  void output(const char *name, ValueId v) { f.graph.outputs.push_back({name, v}); }

  fuse::Program lowered(bool half) {
    REQUIRE(verify(f) == "");
    fuse::Program p = fuse::fuse(f);
    plan::fold_constants(p);
    if (half)
      fuse::store_as_half(p);
    return p;
  }
};

std::vector<ElementType> types(const fuse::Program &p, fuse::Tensor::Kind kind) {
  std::vector<ElementType> found;
  for (const fuse::Tensor &t : p.tensors)
    if (t.kind == kind)
      found.push_back(t.type.element);
  return found;
}

using Kind = fuse::Tensor::Kind;
const std::vector<ElementType> kHalf = {ElementType::kF16}, kSingle = {ElementType::kF32};

Scheduler naive() {
  return [](const dispatch::Dispatch &d) { return schedule::schedule_naive(d, TargetRecord::x86_64_v2()); };
}

} // namespace

TEST_CASE("weights and what dispatches exchange are f16, inputs and outputs as they were") {
  Network net;
  ValueId x = net.input("x", ElementType::kF32, {32, 256});
  ValueId h = net.b.map(K::kTanh, {net.b.contract(x, net.weights(256, 256, 0.1f), "mk", "kn", "mn")});
  net.output("y", net.b.contract(h, net.weights(256, 256, 0.1f), "mk", "kn", "mn"));
  fuse::Program single = net.lowered(false), half = net.lowered(true);
  CHECK(types(half, Kind::kInput) == kSingle);
  CHECK(types(half, Kind::kOutput) == kSingle);
  for (ElementType t : types(half, Kind::kTransient))
    CHECK(t == ElementType::kF16);
  for (ElementType t : types(half, Kind::kConstant))
    CHECK(t == ElementType::kF16);
  const auto inputs = random_inputs(net.f, {}, 1);
  const float error = difference(execute(half, inputs, {}, naive())[0], execute(single, inputs, {}, naive())[0]);
  CHECK(error < 2e-3f);
  CHECK(error > 1e-6f);
}

TEST_CASE("sums stay f32") {
  // 70,000 in all: past f16's range, and far past the integers that it knows.
  Network net;
  ValueId x = net.input("x", ElementType::kF32, {1, 256});
  auto ones = std::make_shared<ConstantData>();
  ones->type = ElementType::kF32;
  const float one = 1;
  for (int i = 0; i < 256 * 256; ++i)
    ones->bytes.insert(ones->bytes.end(), reinterpret_cast<const uint8_t *>(&one), reinterpret_cast<const uint8_t *>(&one) + 4);
  auto varied = std::make_shared<ConstantData>(*ones);
  const float two = 2;
  std::memcpy(varied->bytes.data() + 255 * 256 * 4, &two, 4); // not a splat
  net.output("y", net.b.contract(x, net.b.constant({ElementType::kF32, {256, 256}}, varied), "mk", "kn", "mn"));
  fuse::Program half = net.lowered(true);
  REQUIRE(types(half, Kind::kConstant) == kHalf);
  std::vector<uint8_t> input(256 * 4);
  for (int i = 0; i < 256; ++i) {
    const float value = 300 + static_cast<float>(i % 2);
    std::memcpy(input.data() + 4 * i, &value, 4);
  }
  const auto y = execute(half, {input}, {}, naive())[0];
  float first, second;
  std::memcpy(&first, y.data(), 4);
  std::memcpy(&second, y.data() + 4, 4);
  CHECK(first == 256 * 300 + 128 + 301);
  CHECK(second == 256 * 300 + 128);
}

TEST_CASE("what f16 does not suit keeps f32") {
  for (float scale : {1e6f, 1e-6f}) { // beyond its range; all of it below its normal numbers
    Network net;
    ValueId x = net.input("x", ElementType::kF32, {2, 256});
    net.output("y", net.b.contract(x, net.weights(256, 256, scale), "mk", "kn", "mn"));
    CHECK(types(net.lowered(true), Kind::kConstant) == kSingle);
  }
  Network small;
  ValueId x = small.input("x", ElementType::kF32, {2, 16});
  ValueId h = small.b.map(K::kTanh, {small.b.contract(x, small.weights(16, 16, 1), "mk", "kn", "mn")});
  small.output("y", small.b.contract(h, small.weights(16, 16, 2), "mk", "kn", "mn"));
  fuse::Program p = small.lowered(true);
  CHECK(types(p, Kind::kConstant) == std::vector<ElementType>{ElementType::kF32, ElementType::kF32});
  CHECK(types(p, Kind::kTransient) == kSingle);
}

TEST_CASE("what decides about positions keeps f32") {
  // 4,097 is no f16: rounded, the row that is gathered would be another one.
  for (bool gathers : {true, false}) {
    Network net;
    ValueId x = net.input("x", ElementType::kF32, {8192});
    ValueId t = net.b.map(K::kAdd, {x, x});
    net.output("seen", net.b.contract(net.b.reshape(t, {1, 8192}), net.weights(8192, 8, 0.1f), "mk", "kn", "mn"));
    if (gathers)
      net.output("rounded", net.b.convert(ElementType::kI32, t));
    else
      net.output("other", net.b.map(K::kTanh, {t}));
    CHECK(types(net.lowered(true), Kind::kTransient) == (gathers ? kSingle : kHalf));
  }
}

TEST_CASE("so does what these come from, but not what they are sums of") {
  for (bool sums : {false, true}) {
    Network net;
    ValueId x = net.input("x", ElementType::kF32, {16, 512});
    ValueId t = net.b.map(K::kAdd, {x, x}); // used twice, as is u: both have memory
    ValueId w = net.weights(512, 512, 0.1f);
    ValueId u = sums ? net.b.contract(t, w, "mk", "kn", "mn") : net.b.map(K::kNeg, {net.b.map(K::kTanh, {t})});
    net.output("seen", net.b.contract(t, w, "mk", "kn", "mn"));
    net.output("also", net.b.contract(u, w, "mk", "kn", "mn"));
    net.output("rounded", net.b.convert(ElementType::kI32, u));
    const std::vector<ElementType> found = types(net.lowered(true), Kind::kTransient);
    REQUIRE(found.size() == 2);
    CHECK(std::count(found.begin(), found.end(), ElementType::kF16) == (sums ? 1 : 0));
  }
}

TEST_CASE("small factors of f16 are two of f16") {
  for (bool pairs : {false, true}) {
    Network net;
    ValueId x = net.input("x", ElementType::kF32, {64, 260}); // of lines that are not whole vectors: it stays as it is
    ValueId h = net.b.map(K::kTanh, {net.b.contract(x, net.weights(260, 256, 0.1f), "mk", "kn", "mn")});
    net.output("y", net.b.contract(h, net.weights(256, 32, 0.1f), "mk", "kn", "mn"));
    fuse::Program single = net.lowered(false), half = net.lowered(false);
    fuse::store_as_half(half, pairs);
    std::vector<fuse::Tensor> small;
    for (const fuse::Tensor &t : half.tensors)
      if (t.kind == Kind::kConstant && (t.type.dims.size() == 3 || t.type.element == ElementType::kF32))
        small.push_back(t);
    REQUIRE(small.size() == 1);
    CHECK(to_string(small[0].type) == (pairs ? "f16[2,256,32]" : "f32[256,32]"));
    const auto &first = half.dispatches[0], &second = half.dispatches[1];
    auto reads = [](const dispatch::Dispatch &d) { return schedule::schedule(d, TargetRecord::cuda_sm80()).description; };
    CHECK((reads(second).find("simt_fragments{") == 0) == pairs);
    // Beside the network whose hidden tensor and large weights alone are f16, the parts make no difference.
    const auto inputs = random_inputs(net.f, {}, 3);
    fuse::Program plain = net.lowered(false);
    fuse::store_as_half(plain);
    const float error = difference(execute(half, inputs, {}, naive())[0], execute(plain, inputs, {}, naive())[0]);
    CHECK(error < 4e-6f);
    CHECK(difference(execute(half, inputs, {}, naive())[0], execute(single, inputs, {}, naive())[0]) < 2e-3f);
    CHECK(first.axes.size() == 3);
  }
}

TEST_CASE("products take a copy of an input in f16, once") {
  for (const bool pairs : {false, true})
    for (const int64_t depth : {256, 260}) { // 16 bytes at a time, or not
      Network net;
      ValueId x = net.input("x", ElementType::kF32, {64, depth});
      net.output("y", net.b.contract(x, net.weights(depth, 256, 0.1f), "mk", "kn", "mn"));
      net.output("z", net.b.contract(x, net.weights(depth, 320, 0.1f), "mk", "kn", "mn"));
      fuse::Program single = net.lowered(false), half = net.lowered(false);
      fuse::store_as_half(half, pairs);
      const bool copied = pairs && depth == 256;
      INFO("pairs " << pairs << ", depth " << depth);
      CHECK(half.steps.size() == (copied ? 3 : 2));
      CHECK(types(half, Kind::kInput) == kSingle);
      CHECK(types(half, Kind::kTransient) == (copied ? kHalf : std::vector<ElementType>()));
      for (const fuse::Step &step : half.steps) {
        const dispatch::Dispatch &d = half.dispatches[step.dispatch];
        if (d.operands.size() == 3) // a product
          CHECK(d.operands[0].type == (copied ? ElementType::kF16 : ElementType::kF32));
      }
      CHECK((half.dispatches[half.steps[0].dispatch].operands.size() == 2) == copied);
      const auto inputs = random_inputs(net.f, {}, 3);
      const auto exact = execute(single, inputs, {}, naive()), rounded = execute(half, inputs, {}, naive());
      for (size_t i = 0; i < exact.size(); ++i)
        CHECK(difference(rounded[i], exact[i]) < 4e-3f);
    }
}

TEST_CASE("an input stays f32 beside a constant that does") {
  for (const float scale : {1.0f, 1e-3f}) { // the second is too small for f16
    Network net;
    ValueId x = net.input("x", ElementType::kF32, {64, 256});
    net.output("y", net.b.contract(x, net.weights(256, 128, scale), "mk", "kn", "mn"));
    fuse::Program p = net.lowered(false);
    fuse::store_as_half(p, true);
    CHECK(p.steps.size() == (scale == 1 ? 2 : 1));
    CHECK(types(p, Kind::kConstant) == (scale == 1 ? kHalf : kSingle));
  }
}
