// Attention in graphs: what becomes one dispatch, what does not, and that both give the same.
#include <catch2/catch.hpp>

#include <random>

#include "aotc/plan/plan.h"
#include "tests/fuse/execute.h"

using namespace ingot::aotc;
using namespace ingot::aotc::graph;
using namespace ingot::aotc::testing;
using K = kernel::Opcode;
using dispatch::ReduceKind;

namespace {

enum class Mask { kNone, kKeys, kMatrix, kCausal };

// x -> q, k, v -> heads -> softmax(q k' scale + mask) v -> heads joined -> product, as exporters write it.
struct Block {
  Function f;
  GraphBuilder b{f, f.graph};
  Expr rows;
  int64_t heads, size;
  ValueId scores = kNoValue, softmax = kNoValue, result = kNoValue;

  Block(const Expr &rows_, int64_t heads_, int64_t size_, Mask mask, bool divide = false) : rows(rows_), heads(heads_), size(size_) {
    b.set_origin("node", "ai.onnx.MatMul");
    const int64_t width = heads * size;
    const ValueId x = input("x", {1, rows, width});
    ValueId q = split(product(x, width)), k = split(product(x, width)), v = split(product(x, width));
    ValueId s = b.contract(q, b.transpose(k, {0, 1, 3, 2}), "bhte", "bhes", "bhts");
    const double scale = 1 / std::sqrt(static_cast<double>(size));
    s = divide ? map(K::kDiv, s, number(s, 1 / scale)) : map(K::kMul, s, number(s, scale));
    const std::vector<Expr> dims = b.type(s).dims;
    if (mask == Mask::kKeys)
      s = map(K::kAdd, s, b.broadcast_to(input("mask", {1, 1, 1, rows}), dims));
    if (mask == Mask::kMatrix)
      s = map(K::kAdd, s, b.broadcast_to(input("mask", {rows, rows}), dims));
    if (mask == Mask::kCausal) {
      const ValueId key = b.iota(ElementType::kI64, {1, 1, 1, rows}, 3), query = b.iota(ElementType::kI64, {1, 1, rows, 1}, 2);
      const std::vector<Expr> square = {1, 1, rows, rows};
      const ValueId seen = map(K::kLe, b.broadcast_to(key, square), b.broadcast_to(query, square));
      s = b.map(K::kSelect, {b.broadcast_to(seen, dims), s, number(s, -INFINITY)});
    }
    scores = s;
    const ValueId e = map(K::kExp, map(K::kSub, s, spread(b.reduce(ReduceKind::kMax, s, {3}), dims)));
    softmax = map(K::kDiv, e, spread(b.reduce(ReduceKind::kAdd, e, {3}), dims));
    const ValueId mixed = b.contract(softmax, v, "bhts", "bhsd", "bhtd");
    result = product(b.reshape(b.transpose(mixed, {0, 2, 1, 3}), {1, rows, width}), width);
  }

  ValueId input(const char *name, std::vector<Expr> dims) {
    const ValueId v = b.add_value({ElementType::kF32, std::move(dims)}, name);
    f.graph.inputs.push_back({name, v});
    return v;
  }
  ValueId product(ValueId x, int64_t width) {
    auto data = std::make_shared<ConstantData>();
    data->type = ElementType::kF32;
    std::mt19937_64 random(f.values.size());
    for (int64_t i = 0; i < width * width; ++i) {
      const float value = (static_cast<float>(random() % 2001) / 1000.0f - 1) / std::sqrt(static_cast<float>(width));
      const auto *bytes = reinterpret_cast<const uint8_t *>(&value);
      data->bytes.insert(data->bytes.end(), bytes, bytes + 4);
    }
    return b.contract(x, b.constant({ElementType::kF32, {width, width}}, data), "btk", "kn", "btn");
  }
  ValueId split(ValueId x) { return b.transpose(b.reshape(x, {1, rows, heads, size}), {0, 2, 1, 3}); }
  ValueId map(K code, ValueId x, ValueId y = kNoValue) { return b.map(code, y == kNoValue ? std::vector{x} : std::vector{x, y}); }
  ValueId number(ValueId like, double value) { return b.splat_float(ElementType::kF32, b.type(like).dims, value); }
  ValueId spread(ValueId reduced, const std::vector<Expr> &dims) { return b.broadcast(reduced, {0, 1, 2}, dims); }

  fuse::Program fused(bool attention) {
    if (f.graph.outputs.empty())
      f.graph.outputs.push_back({"y", result});
    REQUIRE(verify(f) == "");
    return fuse::fuse(f, {.attention = attention});
  }
};

int64_t arena_bytes(const fuse::Program &program) {
  std::vector<plan::DispatchInfo> infos(program.dispatches.size());
  for (plan::DispatchInfo &info : infos)
    info.grid = {1, 1, 1};
  plan::WeightPool weights;
  plan::MemoryReport report;
  plan::plan_function(program, infos, 0, 64, weights, &report);
  return report.arena_bytes;
}

Scheduler naive() {
  return [](const dispatch::Dispatch &d) { return schedule::schedule_naive(d, TargetRecord::x86_64_v2()); };
}
Scheduler tuned() {
  return [](const dispatch::Dispatch &d) { return schedule::schedule(d, TargetRecord::x86_64_v3()); };
}

int count_attention(const fuse::Program &program) {
  int n = 0;
  for (const dispatch::Dispatch &d : program.dispatches)
    n += schedule::schedule(d, TargetRecord::x86_64_v3()).description.rfind("attention{", 0) == 0;
  return n;
}

} // namespace

TEST_CASE("attention is one dispatch, its scores have no memory") {
  for (Mask mask : {Mask::kNone, Mask::kKeys, Mask::kMatrix, Mask::kCausal}) {
    Block block(512, 12, 64, mask, mask == Mask::kKeys);
    fuse::Program whole = block.fused(true), apart = block.fused(false);
    CHECK(whole.dispatches.size() == 5); // q, k, v, attention, the product after it
    CHECK(count_attention(whole) == 1);
    CHECK(apart.dispatches.size() >= 7); // scores, softmax and the weighed sum; a causal mask has memory as well
    const int64_t scores = int64_t{12} * 512 * 512 * 4, activations = int64_t{512} * 768 * 4;
    CHECK(arena_bytes(apart) >= 2 * scores);
    CHECK(arena_bytes(whole) <= 4 * activations);
  }
}

TEST_CASE("the arena of attention grows with the sequence, not with its square") {
  const int64_t one = arena_bytes(Block(512, 12, 64, Mask::kCausal).fused(true)),
                four = arena_bytes(Block(2048, 12, 64, Mask::kCausal).fused(true));
  CHECK(four <= 4 * one + 4096);
}

TEST_CASE("attention of free dims") {
  Symbol t = Symbol::dim("t", 1, 4096);
  Block block{Expr(t), 2, 8, Mask::kKeys};
  block.f.dims = {t};
  fuse::Program whole = block.fused(true), apart = block.fused(false);
  CHECK(count_attention(whole) == 1);
  for (int64_t rows : {1, 5, 40}) {
    const std::map<Symbol, int64_t> dims = {{t, rows}};
    const auto inputs = random_inputs(block.f, dims, static_cast<uint64_t>(rows));
    CHECK(difference(execute(whole, inputs, dims, tuned())[0], execute(apart, inputs, dims, naive())[0]) < 1e-5f);
  }
}

TEST_CASE("scores that something else uses have memory") {
  for (bool output : {true, false}) {
    Block block(32, 2, 8, Mask::kKeys);
    const ValueId also = output ? block.scores : block.map(K::kTanh, block.softmax);
    block.f.graph.outputs = {{"y", block.result}, {"also", also}};
    CHECK(count_attention(block.fused(true)) == 0);
  }
}

TEST_CASE("a single query row keeps its scores in memory") {
  Function f;
  GraphBuilder b{f, f.graph};
  b.set_origin("node", "ai.onnx.MatMul");
  auto input = [&](const char *name, std::vector<Expr> dims) {
    const ValueId v = b.add_value({ElementType::kF32, std::move(dims)}, name);
    f.graph.inputs.push_back({name, v});
    return v;
  };
  const ValueId q = input("q", {1, 4, 1, 16}), k = input("k", {1, 4, 90, 16}), v = input("v", {1, 4, 90, 16});
  const ValueId s = b.contract(q, k, "bhte", "bhse", "bhts");
  const std::vector<Expr> dims = b.type(s).dims;
  const ValueId e = b.map(K::kExp, {b.map(K::kSub, {s, b.broadcast(b.reduce(ReduceKind::kMax, s, {3}), {0, 1, 2}, dims)})});
  const ValueId p = b.map(K::kDiv, {e, b.broadcast(b.reduce(ReduceKind::kAdd, e, {3}), {0, 1, 2}, dims)});
  f.graph.outputs.push_back({"y", b.contract(p, v, "bhts", "bhsd", "bhtd")});
  CHECK(fuse::fuse(f, {.attention = true}).dispatches.size() == fuse::fuse(f).dispatches.size());
}

TEST_CASE("fused and unfused attention agree") {
  for (uint64_t seed = 1; seed <= 24; ++seed) {
    std::mt19937_64 random(seed);
    const int64_t rows = 8 + static_cast<int64_t>(random() % 30), heads = 1 + static_cast<int64_t>(random() % 3);
    const int64_t size = std::vector<int64_t>{4, 8, 12}[random() % 3];
    Block block(rows, heads, size, static_cast<Mask>(random() % 4), random() % 2);
    INFO("seed " << seed << "\n" << print(block.f));
    fuse::Program whole = block.fused(true), apart = block.fused(false);
    CHECK(count_attention(whole) == 1);
    const auto inputs = random_inputs(block.f, {}, seed);
    const auto expected = execute(apart, inputs, {}, naive())[0];
    CHECK(difference(execute(whole, inputs, {}, naive())[0], expected) < 1e-5f);
    CHECK(difference(execute(whole, inputs, {}, tuned())[0], expected) < 1e-5f);
  }
}
