// Loops that become one dispatch: which ones, and that they compute the same, bit for bit.
#include <catch2/catch.hpp>

#include <random>

#include "aotc/fuse/sequence.h"
#include "aotc/kernel/legalise.h"
#include "aotc/plan/plan.h"
#include "tests/fuse/execute.h"

using namespace ingot::aotc;
using namespace ingot::aotc::graph;
using namespace ingot::aotc::testing;
using K = kernel::Opcode;

namespace {

// h' = tanh(h R + x[i]), stacked; with `cells` states, each fed by the one before it.
struct Recurrence {
  Function f;
  GraphBuilder b{f, f.graph};
  LoopInfo info;
  Graph body;
  std::vector<ValueId> states, next;
  Expr steps;
  int64_t batch, hidden;
  ValueId x = kNoValue;

  Recurrence(const Expr &steps_, int64_t batch_, int64_t hidden_) : steps(steps_), batch(batch_), hidden(hidden_) {
    b.set_origin("node", "ai.onnx.RNN");
    x = input("x", {steps, batch, hidden});
    info.trip_count = steps;
    info.iteration = Symbol::host("i", 0, 999);
    info.trips = Symbol::host("trips", 0, 1000);
  }

  ValueId input(const char *name, std::vector<Expr> dims) {
    const ValueId v = b.add_value({ElementType::kF32, std::move(dims)}, name);
    f.graph.inputs.push_back({name, v});
    return v;
  }
  ValueId weights() {
    auto data = std::make_shared<ConstantData>();
    data->type = ElementType::kF32;
    std::mt19937_64 random(f.values.size());
    for (int64_t i = 0; i < hidden * hidden; ++i) {
      const float value = (static_cast<float>(random() % 2001) / 1000.0f - 1) / std::sqrt(static_cast<float>(hidden));
      const auto *bytes = reinterpret_cast<const uint8_t *>(&value);
      data->bytes.insert(data->bytes.end(), bytes, bytes + 4);
    }
    return b.constant({ElementType::kF32, {hidden, hidden}}, data);
  }

  void build(size_t cells, bool reverse, bool swap = false) {
    std::vector<ValueId> initial, constants;
    for (size_t c = 0; c < cells; ++c) {
      initial.push_back(c % 2 ? b.splat_float(ElementType::kF32, {batch, hidden}, 0.25) : input(("h" + std::to_string(c)).c_str(), {batch, hidden}));
      constants.push_back(weights());
    }
    Graph *outer = b.exchange_graph(&body);
    for (size_t c = 0; c < cells; ++c) {
      states.push_back(b.add_value({ElementType::kF32, {batch, hidden}}, "state"));
      body.inputs.push_back({"state", states.back()});
    }
    const Expr t = reverse ? steps - 1 - info.iteration : Expr(info.iteration);
    ValueId in = b.reshape(b.slice(x, {t, 0, 0}, {1, 1, 1}, {1, batch, hidden}), {batch, hidden});
    for (size_t c = 0; c < cells; ++c) {
      in = b.map(K::kTanh, {b.map(K::kAdd, {b.contract(states[c], constants[c], "bk", "kn", "bn"), in})});
      next.push_back(in);
    }
    if (swap)
      std::swap(next[0], next[1]);
    for (ValueId v : next)
      body.outputs.push_back({"next", v});
    body.outputs.push_back({"shown", in});
    b.exchange_graph(outer);
    info.carried = static_cast<uint32_t>(cells);
    info.scans = 1;
    std::vector<TensorType> types(cells, {ElementType::kF32, {batch, hidden}});
    types.push_back({ElementType::kF32, {steps, batch, hidden}});
    const std::vector<ValueId> results = b.loop(info, initial, std::move(body), types);
    f.graph.outputs.push_back({"y", results.back()});
    f.graph.outputs.push_back({"last", results[0]});
  }

  fuse::Program fused(bool sequences, const fuse::SequenceOptions &options = {}) {
    REQUIRE(verify(f) == "");
    fuse::Program p = fuse::fuse(f);
    plan::fold_constants(p);
    plan::prepack(p);
    if (sequences)
      fuse::fuse_loops(p, options);
    return p;
  }
};

int count(const fuse::Steps &steps, fuse::Step::Kind kind) {
  int n = 0;
  for (const fuse::Step &step : steps)
    n += (step.kind == kind) + count(step.then, kind) + count(step.otherwise, kind);
  return n;
}

Scheduler naive() {
  return [](const dispatch::Dispatch &d) { return schedule::schedule_naive(d, TargetRecord::x86_64_v2()); };
}
Scheduler tuned() {
  return [](const dispatch::Dispatch &d) { return schedule::schedule(d, TargetRecord::x86_64_v4()); };
}

} // namespace

TEST_CASE("a recurrence is one dispatch") {
  Recurrence r(20, 1, 32);
  r.build(2, false);
  fuse::Program loop = r.fused(false), sequence = r.fused(true);
  CHECK(count(loop.steps, fuse::Step::Kind::kLoop) == 1);
  CHECK(count(sequence.steps, fuse::Step::Kind::kLoop) == 0);
  CHECK(count(sequence.steps, fuse::Step::Kind::kDispatch) == 1); // for all 20 steps
}

TEST_CASE("a recurrence computes what its loop does") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    std::mt19937_64 random(seed);
    Symbol t = Symbol::dim("t", 0, 1000);
    const bool free = random() % 2;
    const int64_t steps = static_cast<int64_t>(random() % 6) + !free;
    Recurrence r(free ? Expr(t) : Expr(steps), 1 + static_cast<int64_t>(random() % 3), 1 + static_cast<int64_t>(random() % 40));
    if (free)
      r.f.dims = {t};
    const size_t cells = 1 + random() % 3;
    r.build(cells, random() % 2, cells > 1 && random() % 2);
    INFO("seed " << seed << "\n" << print(r.f));
    const std::map<Symbol, int64_t> dims = {{t, steps}};
    const auto inputs = random_inputs(r.f, dims, seed);
    fuse::Program loop = r.fused(false), sequence = r.fused(true);
    CHECK(count(sequence.steps, fuse::Step::Kind::kLoop) == 0);
    for (const Scheduler &scheduler : {naive(), tuned()})
      CHECK(execute(sequence, inputs, dims, scheduler) == execute(loop, inputs, dims, scheduler));
  }
}

TEST_CASE("a recurrence computes on threads what its loop does") {
  const Scheduler threads = [](const dispatch::Dispatch &d) {
    schedule::Scheduled s = schedule::schedule(d, TargetRecord::vulkan_baseline());
    REQUIRE(kernel::legalise(s.kernel, TargetRecord::vulkan_baseline()) == ""); // within its workgroup memory, too
    return s;
  };
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    std::mt19937_64 random(seed);
    const int64_t steps = 1 + static_cast<int64_t>(random() % 5), hidden = seed % 3 ? 1 + static_cast<int64_t>(random() % 70) : 128;
    Recurrence r(steps, 1 + static_cast<int64_t>(random() % 3), hidden);
    const size_t cells = 1 + random() % 2;
    r.build(cells, random() % 2, cells > 1 && random() % 2);
    INFO("seed " << seed << "\n" << print(r.f));
    const auto inputs = random_inputs(r.f, {}, seed);
    fuse::Program loop = r.fused(false), sequence = r.fused(true, {.local_bytes = 4096, .max_operands = 8});
    CHECK(count(sequence.steps, fuse::Step::Kind::kLoop) == 0);
    const auto got = execute(sequence, inputs, {}, threads), want = execute(loop, inputs, {}, naive());
    for (size_t i = 0; i < want.size(); ++i)
      CHECK(difference(got[i], want[i]) < 1e-5f);
  }
}

TEST_CASE("a recurrence with too many operands stays a loop") {
  Recurrence r(20, 1, 32);
  r.build(2, false);
  CHECK(count(r.fused(true, {.max_operands = 3}).steps, fuse::Step::Kind::kLoop) == 1);
}

TEST_CASE("steps that are worth several cores stay a loop") {
  Recurrence r(20, 1, 1024);
  r.build(1, false);
  CHECK(count(r.fused(true).steps, fuse::Step::Kind::kLoop) == 1);
}

TEST_CASE("text of a sequence is read back") {
  const Symbol t = Symbol::dim("t", 0, 1000);
  Recurrence r(Expr(t), 2, 5);
  r.f.dims = {t};
  r.build(2, true);
  fuse::Program p = r.fused(true);
  const dispatch::Dispatch &d = p.dispatches.back();
  REQUIRE(d.sequence);
  std::string error;
  auto again = dispatch::parse(dispatch::print(d), error);
  INFO(dispatch::print(d) << error);
  REQUIRE(again);
  CHECK(dispatch::print(*again) == dispatch::print(d));
  CHECK(dispatch::canonical_text(*again) == dispatch::canonical_text(d));
}

TEST_CASE("a wrong sequence is refused") {
  Recurrence r(3, 2, 5);
  r.build(1, false);
  const dispatch::Dispatch good = r.fused(true).dispatches.back();
  REQUIRE(dispatch::verify(good) == "");
  auto broken = [&](const std::function<void(dispatch::Sequence &)> &change) {
    dispatch::Dispatch d = good;
    dispatch::Sequence q = *good.sequence;
    change(q);
    d.sequence = std::make_shared<dispatch::Sequence>(std::move(q));
    return dispatch::verify(d);
  };
  CHECK(broken([](dispatch::Sequence &q) { q.steps.clear(); }).find("has no steps") != std::string::npos);
  CHECK(broken([](dispatch::Sequence &q) { q.trips = q.iteration; }).find("trips depend") != std::string::npos);
  CHECK(broken([](dispatch::Sequence &q) { q.steps[0].operands.pop_back(); }).find("are given") != std::string::npos);
  CHECK(broken([](dispatch::Sequence &q) { q.steps[0].operands[0] = 99; }).find("uses operand 99") != std::string::npos);
  CHECK(broken([](dispatch::Sequence &q) { q.steps[0].operands.back() = 0; }).find("is an input") != std::string::npos);
}
