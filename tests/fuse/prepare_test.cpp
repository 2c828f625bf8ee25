// The prepare section: which constants it re-lays out or makes, once each, and that results stay what they were.
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

std::shared_ptr<const ConstantData> floats(int64_t count, uint64_t seed) {
  auto data = std::make_shared<ConstantData>();
  data->type = ElementType::kF32;
  std::mt19937_64 random(seed);
  for (int64_t i = 0; i < count; ++i) {
    const float value = 0.1f * (static_cast<float>(random() % 2001) / 1000.0f - 1);
    const auto *bytes = reinterpret_cast<const uint8_t *>(&value);
    data->bytes.insert(data->bytes.end(), bytes, bytes + 4);
  }
  return data;
}

struct Network {
  Function f;
  GraphBuilder b{f, f.graph};

  Network() { b.set_origin("node", "ai.onnx.Test"); }
  ValueId input(const char *name, std::vector<Expr> dims) {
    const ValueId v = b.add_value({ElementType::kF32, std::move(dims)}, name);
    f.graph.inputs.push_back({name, v});
    return v;
  }
  ValueId weights(std::vector<int64_t> dims, uint64_t seed) {
    int64_t count = 1;
    std::vector<Expr> exprs;
    for (int64_t d : dims) {
      count *= d;
      exprs.push_back(d);
    }
    return b.constant({ElementType::kF32, exprs}, floats(count, seed));
  }
  void output(const char *name, ValueId v) { f.graph.outputs.push_back({name, v}); }

  fuse::Program lowered(bool prepare, bool half = false) {
    REQUIRE(verify(f) == "");
    fuse::Program p = fuse::fuse(f);
    plan::fold_constants(p, prepare);
    if (half)
      fuse::store_as_half(p);
    if (prepare)
      plan::prepare_constants(p);
    return p;
  }
};

Scheduler naive() {
  return [](const dispatch::Dispatch &d) { return schedule::schedule_naive(d, TargetRecord::x86_64_v2()); };
}

// The program with a prepare section computes what the one without does, bit for bit.
void check_same(Network &net, size_t steps, bool half = false) {
  const fuse::Program plain = net.lowered(false, half), prepared = net.lowered(true, half);
  CHECK(prepared.prepare.size() == steps);
  for (const fuse::Step &step : prepared.prepare) {
    REQUIRE(dispatch::verify(prepared.dispatches[step.dispatch]) == "");
    CHECK(prepared.tensors[step.operands.back()].kind == fuse::Tensor::Kind::kPrepared);
  }
  for (const fuse::Step &step : prepared.steps)
    REQUIRE(dispatch::verify(prepared.dispatches[step.dispatch]) == "");
  const auto inputs = random_inputs(net.f, {}, 3);
  CHECK(execute(prepared, inputs, {}, naive()) == execute(plain, inputs, {}, naive()));
}

} // namespace

TEST_CASE("weights whose depth lies innermost are turned, once for all that read them") {
  Network net;
  ValueId x = net.input("x", {24, 192}), w = net.weights({160, 192}, 1);
  net.output("y", net.b.contract(x, w, "mk", "nk", "mn"));
  net.output("z", net.b.contract(net.b.map(K::kTanh, {x}), w, "mk", "nk", "mn"));
  check_same(net, 1);
  Network half; // f16 in memory is for matrix units, which take lines along the depth
  half.output("y", half.b.contract(half.input("x", {24, 256}), half.weights({320, 256}, 1), "mk", "nk", "mn"));
  check_same(half, 0, true);
  // w[n][k] became w[k][n].
  const fuse::Program p = net.lowered(true);
  const dispatch::Dispatch &d = p.dispatches[p.prepare[0].dispatch];
  REQUIRE(d.axes.size() == 2);
  CHECK(d.axes[0].extent == Expr(192));
  CHECK(d.axes[1].extent == Expr(160));
  CHECK(d.values[0].expr == 192 * Expr(d.axes[1].symbol) + d.axes[0].symbol);
  CHECK(d.stores[0].offset == 160 * Expr(d.axes[0].symbol) + d.axes[1].symbol);
}

TEST_CASE("weights that neighbours read side by side stay, as do small ones and those of a few rows") {
  Network side;
  side.output("y", side.b.contract(side.input("x", {24, 192}), side.weights({192, 160}, 1), "mk", "kn", "mn"));
  check_same(side, 0);
  Network small;
  small.output("y", small.b.contract(small.input("x", {24, 32}), small.weights({48, 32}, 1), "mk", "nk", "mn"));
  check_same(small, 0);
  Network few;
  few.output("y", few.b.contract(few.input("x", {2, 192}), few.weights({160, 192}, 1), "mk", "nk", "mn"));
  check_same(few, 0);
}

TEST_CASE("convolutions, grouped ones too") {
  for (int64_t groups : {1, 2}) {
    INFO(groups << " groups");
    Network net;
    ValueId x = net.input("x", {1, 32 * groups, 6, 7}), w = net.weights({80 * groups, 32, 3, 3}, 4);
    net.output("y", net.b.conv(x, w, {1, 1}, {1, 1}, {1, 1}, {1, 1}, groups));
    check_same(net, groups == 1 ? 1 : 0); // in groups both operands go with the output's channel: no product of matrices
  }
}

TEST_CASE("generated products and layouts of their operands") {
  std::mt19937_64 random(20261126);
  for (int i = 0; i < 30; ++i) {
    const auto pick = [&](std::initializer_list<int64_t> of) { return of.begin()[random() % of.size()]; };
    const int64_t m = pick({1, 5, 16, 37}), n = pick({7, 16, 130, 200}), k = pick({9, 64, 150, 257}), batch = pick({1, 3});
    const char *layouts[] = {"nk", "kn", "bnk", "bkn", "nbk", "knb"};
    const std::string labels = layouts[random() % 6];
    std::vector<int64_t> dims;
    for (char c : labels)
      dims.push_back(c == 'n' ? n : c == 'k' ? k : batch);
    Network net;
    const ValueId x = net.input("x", {batch, m, k}), w = net.weights(dims, random());
    net.output("y", random() % 2 ? net.b.contract(x, w, "bmk", labels, "bmn") : net.b.contract(w, x, labels, "bmk", "bnm"));
    INFO("m " << m << " n " << n << " k " << k << " batch " << batch << " weights " << labels);
    const fuse::Program plain = net.lowered(false), prepared = net.lowered(true);
    const auto inputs = random_inputs(net.f, {}, random());
    CHECK(execute(prepared, inputs, {}, naive()) == execute(plain, inputs, {}, naive()));
    if (labels == "nk" && m >= 16 && n >= 16 && k >= 16 && n * k * 4 >= 65536)
      CHECK(prepared.prepare.size() == 1);
  }
}

TEST_CASE("weights of 8 bits become lines of the depth for matrix units") {
  for (const ElementType type : {ElementType::kU8, ElementType::kI8})
    for (const bool conv : {false, true})
      for (const MatrixUnits units : {MatrixUnits::kNone, MatrixUnits::kSubgroup, MatrixUnits::kWarpgroup}) {
        Network net;
        auto data = std::make_shared<ConstantData>();
        data->type = type;
        std::mt19937_64 random(7);
        for (int i = 0; i < 64 * 32 * 9; ++i)
          data->bytes.push_back(static_cast<uint8_t>(random()));
        const ValueId w = net.b.constant({type, conv ? std::vector<Expr>{64, 32, 3, 3} : std::vector<Expr>{288, 64}}, std::move(data));
        const ElementType other = type == ElementType::kU8 ? ElementType::kI8 : ElementType::kU8;
        auto bytes = [&](ValueId x) { return net.b.convert(other, net.b.bitcast(ElementType::kI32, x)); };
        if (conv)
          net.output("y", net.b.conv(bytes(net.input("x", {1, 2, 7, 8, 16})), w, {1, 1}, {1, 1}, {1, 1}, {1, 1}, 1, 16, 16));
        else
          net.output("y", net.b.contract(bytes(net.input("x", {24, 288})), w, "mk", "kn", "mn"));
        REQUIRE(verify(net.f) == "");
        fuse::Program plain = fuse::fuse(net.f), prepared = fuse::fuse(net.f);
        plan::fold_constants(plain, true);
        plan::fold_constants(prepared, true);
        plan::prepare_constants(prepared, units);
        CHECK(prepared.prepare.size() == (units == MatrixUnits::kNone ? 0 : 1)); // their natural layouts serve threads alone
        const auto inputs = random_inputs(net.f, {}, 3);
        CHECK(execute(prepared, inputs, {}, naive()) == execute(plain, inputs, {}, naive()));
        if (prepared.prepare.empty())
          continue;
        const dispatch::Dispatch &d = prepared.dispatches[prepared.prepare[0].dispatch];
        CHECK(d.stores[0].offset.linear_in(d.axes.back().symbol)->coefficient.constant() == 1);
        CHECK(d.axes.back().extent == Expr(conv ? 16 : 288)); // channels of a block, then what lies around them
      }
}

TEST_CASE("what would make the archive larger is computed on the device, the rest here") {
  Network net;
  ValueId bytes = net.b.constant({ElementType::kI8, {200, 200}}, [] {
    auto data = std::make_shared<ConstantData>();
    data->type = ElementType::kI8;
    for (int i = 0; i < 200 * 200; ++i)
      data->bytes.push_back(static_cast<uint8_t>(i * 37));
    return std::shared_ptr<const ConstantData>(data);
  }());
  // Read twice, so that it gets memory of its own.
  ValueId w = net.b.convert(ElementType::kF32, bytes);
  ValueId x = net.input("x", {200, 200});
  net.output("y", net.b.map(K::kAdd, {x, net.b.reduce(dispatch::ReduceKind::kAdd, net.b.broadcast(net.b.reduce(dispatch::ReduceKind::kAdd, w, {1}), {0}, {200, 200}), {})}));
  net.output("z", net.b.contract(x, net.b.map(K::kExp, {w}), "mk", "kn", "mn"));
  const fuse::Program plain = net.lowered(false), prepared = net.lowered(true);
  const auto inputs = random_inputs(net.f, {}, 5);
  CHECK(execute(prepared, inputs, {}, naive()) == execute(plain, inputs, {}, naive()));
  REQUIRE(plain.prepare.empty());
  REQUIRE_FALSE(prepared.prepare.empty());
  const auto constants = [](const fuse::Program &p) { // their bytes
    size_t sum = 0;
    for (const fuse::Tensor &t : p.tensors)
      sum += t.kind == fuse::Tensor::Kind::kConstant ? t.constant->bytes.size() : 0;
    return sum;
  };
  CHECK(constants(prepared) + 200 * 200 * 3 <= constants(plain)); // bytes instead of floats
}

TEST_CASE("what the section writes is no constant to it") {
  // A kernel may read its constants before the kernels ahead of it have ended.
  Network net;
  auto data = std::make_shared<ConstantData>();
  data->type = ElementType::kI8;
  for (int i = 0; i < 200 * 200; ++i)
    data->bytes.push_back(static_cast<uint8_t>(i * 37));
  ValueId w = net.b.map(K::kExp, {net.b.convert(ElementType::kF32, net.b.constant({ElementType::kI8, {200, 200}}, std::shared_ptr<const ConstantData>(data)))});
  ValueId x = net.input("x", {200, 200}); // the exponentials are made, then turned
  net.output("y", net.b.contract(x, w, "mk", "nk", "mn"));
  net.output("z", net.b.contract(net.b.map(K::kTanh, {x}), w, "mk", "nk", "mn"));
  const fuse::Program p = net.lowered(true);
  CHECK(std::any_of(p.prepare.begin(), p.prepare.end(), [&](const fuse::Step &s) { return p.tensors[s.operands[0]].kind == fuse::Tensor::Kind::kPrepared; }));
  for (const fuse::Steps *steps : {&p.prepare, &p.steps})
    for (const fuse::Step &step : *steps) {
      const dispatch::Dispatch &d = p.dispatches[step.dispatch];
      for (size_t i = 0; i < d.operands.size(); ++i) {
        const auto kind = p.tensors[step.operands[i]].kind;
        if (d.operands[i].constant)
          CHECK((kind == fuse::Tensor::Kind::kConstant || (steps == &p.steps && kind == fuse::Tensor::Kind::kPrepared)));
      }
    }
}

TEST_CASE("a variant's programs share what is prepared alike") {
  std::vector<fuse::Program> programs;
  for (int i = 0; i < 3; ++i) {
    Network net;
    net.output("y", net.b.contract(net.input("x", {16 + i, 192}), net.weights({160, 192}, i == 2 ? 8 : 7), "mk", "nk", "mn"));
    programs.push_back(net.lowered(true));
  }
  const fuse::Program all = plan::join_prepare(programs);
  CHECK(all.steps.size() == 2); // the first two have the same weights
  const auto number = [&](int i) {
    const fuse::Program &p = programs[static_cast<size_t>(i)];
    return p.tensors[p.prepare.at(0).operands.back()].index;
  };
  CHECK(number(0) == number(1));
  CHECK(number(0) != number(2));
  for (const fuse::Step &step : all.steps)
    CHECK(all.tensors[step.operands.back()].kind == fuse::Tensor::Kind::kPrepared);
}
