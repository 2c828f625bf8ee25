// Blocked layouts change where elements lie and nothing else: random networks give the same results with and without
// them, by the naive schedule in the interpreter; and every convolution in blocks agrees with it by every schedule and
// code version.
#include <catch2/catch.hpp>

#include <cstring>
#include <random>

#include "aotc/fuse/fuse.h"
#include "aotc/graph/constant.h"
#include "aotc/layout/block_channels.h"
#include "aotc/layout/lift_factors.h"
#include "aotc/layout/merge_products.h"
#include "aotc/schedule/blocked.h"
#include "tests/schedule/run.h"

using namespace ingot::aotc;
using namespace ingot::aotc::graph;
using K = kernel::Opcode;
using testing::Buffers;
using testing::Case;

namespace {

using Dims = std::vector<std::pair<Symbol, int64_t>>;

int64_t value_of(const Expr &e, const Dims &dims) { return testing::value_of(e, {{}, dims}); }

// Draws a network of convolutions and of what stands between them; with `free`, batch, height and width may be symbolic.
class Network {
 public:
  explicit Network(uint64_t seed, bool free = false) : free_(free), random_(seed), b_(f_, f_.graph) { b_.set_origin("node", "ai.onnx.Test"); }

  Function draw() {
    int64_t channels = 16 * pick({1, 2, 3});
    const int64_t width = free_ ? pick({1, 2, 3, 5, 7, 13, 17, 101}) : 0;
    Expr h = free_ ? size("h", width > 17 ? pick({1, 2}) : pick({1, 2, 5, 7, 13})) : Expr(pick({1, 5, 7, 8, 13}));
    Expr w = free_ ? size("w", width) : Expr(pick({3, 7, 14, 17}));
    Expr n = free_ ? size("n", pick({1, 1, 2, 3})) : Expr(pick({1, 1, 2}));
    int64_t first = chance(2) ? channels : pick({1, 3, 4});
    ValueId x = b_.add_value({ElementType::kF32, {n, first, h, w}}, "x");
    f_.graph.inputs.push_back({"x", x});
    x = conv(x, channels, 1);
    for (int i = 0; i < 4; ++i)
      x = step(x);
    f_.graph.outputs.push_back({"y", x});
    return std::move(f_);
  }
  const Dims &dims() const { return dims_; }

 private:
  Expr size(const char *name, int64_t value) {
    if (chance(4))
      return value;
    Symbol s = Symbol::dim(name, 1, 1 << 10);
    dims_.emplace_back(s, value);
    f_.dims.push_back(s);
    return s;
  }
  int64_t pick(std::vector<int64_t> from) { return from[random_() % from.size()]; }
  bool chance(int of) { return random_() % static_cast<uint64_t>(of) == 0; }
  int64_t dim(ValueId x, size_t i) { return value_of(b_.type(x).dims[i], dims_); }

  ValueId constant(std::vector<Expr> dims) {
    auto data = std::make_shared<ConstantData>();
    data->type = ElementType::kF32;
    int64_t count = product(dims).constant().value();
    for (int64_t i = 0; i < count; ++i) {
      float value = static_cast<float>(random_() % 2001) / 1000.0f - 1;
      uint8_t bytes[4];
      std::memcpy(bytes, &value, 4);
      data->bytes.insert(data->bytes.end(), bytes, bytes + 4);
    }
    return b_.constant({ElementType::kF32, std::move(dims)}, data);
  }

  ValueId conv(ValueId x, int64_t out, int64_t groups) {
    std::vector<int64_t> strides, dilations;
    std::vector<Expr> low, high, kernel;
    for (size_t i = 2; i < 4; ++i) {
      int64_t k = pick({1, 1, 3, 3, 5}), d = k > 1 && chance(4) ? 2 : 1, reach = (k - 1) * d + 1;
      int64_t before = pick({0, k / 2, k / 2, 1}), after = chance(4) ? 0 : before;
      while (dim(x, i) + before + after < reach)
        ++after;
      kernel.push_back(k);
      dilations.push_back(d);
      strides.push_back(pick({1, 1, 1, 2}));
      low.push_back(before);
      high.push_back(after);
    }
    ValueId w = constant({out, floordiv(b_.type(x).dims[1], groups), kernel[0], kernel[1]});
    ValueId y = b_.conv(x, w, strides, dilations, low, high, groups);
    if (chance(2))
      y = b_.map(K::kAdd, {y, b_.broadcast(constant({out}), {1}, b_.type(y).dims)});
    return chance(2) ? b_.map(K::kMax, {y, b_.splat_float(ElementType::kF32, b_.type(y).dims, 0)}) : y;
  }

  ValueId step(ValueId x) {
    int64_t channels = dim(x, 1);
    switch (random_() % 7) {
    case 0:
      return conv(x, channels, channels); // depthwise
    case 1: {
      if (dim(x, 2) < 3 || dim(x, 3) < 3)
        return conv(x, channels, 1);
      PoolMode mode = chance(2) ? PoolMode::kMax : PoolMode::kAverage;
      return b_.pool(mode, x, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}, {floordiv(b_.type(x).dims[2] - 1, 2) + 1, floordiv(b_.type(x).dims[3] - 1, 2) + 1},
                     chance(2));
    }
    case 2: { // a gate from the mean of each channel
      ValueId mean = b_.reduce(dispatch::ReduceKind::kAdd, x, {2, 3});
      ValueId gate = b_.map(K::kSigmoid, {mean});
      return b_.map(K::kMul, {x, b_.broadcast(b_.reshape(gate, {b_.type(x).dims[0], channels, 1, 1}), {0, 1, 2, 3}, b_.type(x).dims)});
    }
    case 3: { // a residual of another convolution with the same shape
      ValueId y = b_.conv(x, constant({channels, channels, 1, 1}), {1, 1}, {1, 1}, {0, 0}, {0, 0}, 1);
      return b_.map(K::kAdd, {x, y});
    }
    case 4:
      return b_.concat({x, conv_same(x)}, 1);
    case 5: // something that must have the plain tensor
      return b_.slice(x, {0, 0, 0, 0}, {1, 1, 1, 1}, {b_.type(x).dims[0], b_.type(x).dims[1], floordiv(b_.type(x).dims[2] - 1, 2) + 1, b_.type(x).dims[3]});
    default:
      return conv(x, 16 * pick({1, 2, 3}), 1);
    }
  }
  ValueId conv_same(ValueId x) {
    return b_.conv(x, constant({16, b_.type(x).dims[1], 3, 3}), {1, 1}, {1, 1}, {1, 1}, {1, 1}, 1);
  }

  bool free_;
  Dims dims_;
  Function f_;
  std::mt19937_64 random_;
  GraphBuilder b_;
};

using Memory = std::vector<std::vector<uint8_t>>; // by tensor

// Runs a program's steps with the naive schedule; `each` sees every dispatch before it runs.
Memory run(const fuse::Program &p, const Dims &dims, const std::vector<uint8_t> &input,
           const std::function<void(const dispatch::Dispatch &, const Buffers &)> &each) {
  Memory memory(p.tensors.size());
  for (size_t t = 0; t < p.tensors.size(); ++t) {
    const fuse::Tensor &tensor = p.tensors[t];
    size_t size = static_cast<size_t>(value_of(tensor.type.elements(), dims)) * byte_size(tensor.type.element);
    memory[t].assign(size, 0xa5);
    if (tensor.kind == fuse::Tensor::Kind::kInput)
      memory[t] = input;
    if (tensor.kind == fuse::Tensor::Kind::kConstant)
      for (size_t at = 0; at < size; at += tensor.constant->bytes.size())
        std::copy(tensor.constant->bytes.begin(), tensor.constant->bytes.end(), memory[t].begin() + static_cast<std::ptrdiff_t>(at));
  }
  for (const fuse::Step &step : p.steps) {
    if (step.kind == fuse::Step::Kind::kCopy) {
      memory[step.operands[1]] = memory[step.operands[0]];
      continue;
    }
    REQUIRE(step.kind == fuse::Step::Kind::kDispatch);
    const dispatch::Dispatch &d = p.dispatches[step.dispatch];
    Buffers buffers;
    for (fuse::TensorId t : step.operands)
      buffers.bytes.push_back(memory[t]);
    each(d, buffers);
    REQUIRE(testing::interpret({d, dims}, schedule::schedule_naive(d, TargetRecord::x86_64_v2()), buffers) == "");
    for (size_t i = 0; i < step.operands.size(); ++i)
      memory[step.operands[i]] = buffers.bytes[i];
  }
  return memory;
}

std::vector<uint8_t> random_input(const Function &f, const Dims &dims, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<uint8_t> bytes(static_cast<size_t>(value_of(f.values[f.graph.inputs[0].value].type.elements(), dims)) * 4);
  for (size_t i = 0; i < bytes.size(); i += 4) {
    float value = static_cast<float>(random() % 4001) / 1000.0f - 2;
    std::memcpy(&bytes[i], &value, 4);
  }
  return bytes;
}

struct Counts {
  int convs = 0, direct = 0, copies = 0;
};

// Every schedule of a packed convolution against the naive one of the natural dispatch.
void check_schedules(const dispatch::Dispatch &d, const Dims &dims, const Buffers &buffers, Counts &counts) {
  if (!schedule::match_blocked_conv(d)) {
    counts.copies += d.values.size() == 1;
    return;
  }
  ++counts.convs;
  Buffers reference = buffers;
  REQUIRE(testing::interpret({d, dims}, schedule::schedule_naive(d, TargetRecord::x86_64_v2()), reference) == "");
  Case packed{d, dims};
  Buffers in = buffers;
  REQUIRE(testing::prepack(packed, in) == "");
  INFO(dispatch::print(packed.dispatch));
  std::string grid;
  for (const TargetRecord &record : {TargetRecord::x86_64_v2(), TargetRecord::x86_64_v3(), TargetRecord::x86_64_v4(), TargetRecord::aarch64()}) {
    schedule::Scheduled s = schedule::schedule(packed.dispatch, record);
    INFO(record.name << ": " << s.description);
    counts.direct += s.description.rfind("direct", 0) == 0 && record.name == TargetRecord::x86_64_v4().name;
    Buffers out = in;
    REQUIRE(testing::interpret(packed, s, out) == "");
    std::string difference = testing::compare(packed, out, reference);
    CHECK(difference == "");
    std::string g = s.grid[0].to_string() + "," + s.grid[1].to_string() + "," + s.grid[2].to_string();
    CHECK((grid.empty() || g == grid)); // one program serves every code version
    grid = g;
  }
}

} // namespace

namespace {

void check_networks(bool free, uint64_t networks) {
  Counts counts;
  uint64_t blocked = 0, first = 1, last = networks;
  if (const char *seed = getenv("INGOT_TEST_SEED"))
    first = last = std::strtoull(seed, nullptr, 10);
  for (uint64_t seed = first; seed <= last; ++seed) {
    Network network(seed, free);
    Function plain = network.draw();
    const Dims &dims = network.dims();
    REQUIRE(verify(plain) == "");
    Function blocks = layout::block_channels(plain, true);
    INFO("seed " << seed << "\n" << print(blocks));
    blocked += blocks.values.size() != plain.values.size();
    std::vector<uint8_t> input = random_input(plain, dims, seed);
    fuse::Program p = fuse::fuse(plain), q = fuse::fuse(blocks);
    Memory a = run(p, dims, input, [](const dispatch::Dispatch &, const Buffers &) {});
    Memory b = run(q, dims, input, [&](const dispatch::Dispatch &d, const Buffers &buffers) { check_schedules(d, dims, buffers, counts); });
    const std::vector<uint8_t> &want = a[p.output_tensors[0]], &got = b[q.output_tensors[0]];
    REQUIRE(want.size() == got.size());
    float largest = 0, worst = 0;
    for (size_t i = 0; i < want.size(); i += 4) {
      float u, v;
      std::memcpy(&u, &want[i], 4);
      std::memcpy(&v, &got[i], 4);
      largest = std::max(largest, std::fabs(u));
      worst = std::max(worst, std::fabs(u - v));
    }
    CHECK(worst <= 1e-4f * largest);
  }
  if (first == last)
    return;
  INFO(blocked << " of " << networks << " networks, " << counts.direct << " of " << counts.convs << " convolutions");
  CHECK(blocked >= networks * 3 / 4);            // a test that blocks nothing shows nothing
  CHECK(counts.direct >= counts.convs * 9 / 10); // the direct schedule takes nearly all of them
  CHECK(counts.convs >= static_cast<int>(networks) * 5 / 3);
}

} // namespace

TEST_CASE("random networks in blocks") { check_networks(false, 60); }

TEST_CASE("random networks of free sizes in blocks") { check_networks(true, 24); }

TEST_CASE("conversions cancel") {
  // conv, relu, pool, conv, residual: one conversion on the way in, one on the way out.
  Function f;
  GraphBuilder b(f, f.graph);
  b.set_origin("node", "ai.onnx.Test");
  auto weights = [&](int64_t k) {
    auto data = std::make_shared<ConstantData>();
    data->type = ElementType::kF32;
    data->bytes.resize(static_cast<size_t>(32 * 32 * k * k) * 4, 1);
    return b.constant({ElementType::kF32, {32, 32, k, k}}, data);
  };
  ValueId x = b.add_value({ElementType::kF32, {1, 32, 14, 14}}, "x");
  f.graph.inputs.push_back({"x", x});
  ValueId y = b.conv(x, weights(3), {1, 1}, {1, 1}, {1, 1}, {1, 1}, 1);
  y = b.map(K::kMax, {y, b.splat_float(ElementType::kF32, b.type(y).dims, 0)});
  ValueId p = b.pool(PoolMode::kMax, y, {2, 2}, {2, 2}, {1, 1}, {0, 0}, {0, 0}, {7, 7}, false);
  ValueId z = b.map(K::kAdd, {b.conv(p, weights(1), {1, 1}, {1, 1}, {0, 0}, {0, 0}, 1), p});
  f.graph.outputs.push_back({"z", z});
  fuse::Program program = fuse::fuse(layout::block_channels(f, true));
  CHECK(program.dispatches.size() == 5); // pack, conv + relu, pool, conv + add, unpack
}

TEST_CASE("networks of other channels stay as they are") {
  Function f;
  GraphBuilder b(f, f.graph);
  b.set_origin("node", "ai.onnx.Test");
  auto data = std::make_shared<ConstantData>();
  data->type = ElementType::kF32;
  data->bytes.resize(24 * 24 * 9 * 4, 1);
  ValueId w = b.constant({ElementType::kF32, {24, 24, 3, 3}}, data);
  ValueId x = b.add_value({ElementType::kF32, {1, 24, 14, 14}}, "x");
  f.graph.inputs.push_back({"x", x});
  f.graph.outputs.push_back({"y", b.conv(x, w, {1, 1}, {1, 1}, {1, 1}, {1, 1}, 1)});
  Function same = layout::block_channels(f, true);
  CHECK(print(same) == print(f));
}

TEST_CASE("factors of operands become factors of products") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    std::mt19937_64 random(seed);
    auto pick = [&](std::vector<int64_t> from) { return from[random() % from.size()]; };
    Function f;
    GraphBuilder b(f, f.graph);
    b.set_origin("node", "ai.onnx.Test");
    const int64_t heads = pick({1, 2, 3}), rows = pick({1, 5, 16}), depth = pick({1, 7, 8});
    ValueId x = b.add_value({ElementType::kF32, {rows, heads, depth}}, "x");
    f.graph.inputs.push_back({"x", x});
    auto scaled = [&](ValueId v, bool divided, double by) {
      ValueId factor = b.splat_float(ElementType::kF32, b.type(v).dims, by);
      return b.map(divided ? K::kDiv : K::kMul, divided || random() % 2 ? std::vector<ValueId>{v, factor} : std::vector<ValueId>{factor, v});
    };
    ValueId q = b.transpose(scaled(x, random() % 2 == 0, 8.0), {1, 0, 2});
    ValueId k = scaled(b.transpose(x, {1, 2, 0}), random() % 2 == 0, 0.3);
    ValueId y = b.contract(q, k, "amk", "akn", "amn");
    f.graph.outputs.push_back({"y", y});
    const bool kept = seed % 4 == 0; // what something else uses stays
    if (kept)
      f.graph.outputs.push_back({"q", q});
    Function lifted = layout::lift_factors(f);
    INFO("seed " << seed << "\n" << print(lifted));
    size_t before = 0, maps = 0;
    for (const Op &op : lifted.graph.ops) {
      maps += op.code == Opcode::kMap;
      if (op.code == Opcode::kContract)
        before = maps;
    }
    CHECK(before == (kept ? 1 : 0)); // maps that stand before the product
    CHECK(maps == 2);
    std::vector<uint8_t> input = random_input(f, {}, seed);
    fuse::Program p = fuse::fuse(f), r = fuse::fuse(lifted);
    auto ignore = [](const dispatch::Dispatch &, const Buffers &) {};
    const std::vector<uint8_t> want = run(p, {}, input, ignore)[p.output_tensors[0]], got = run(r, {}, input, ignore)[r.output_tensors[0]];
    REQUIRE(want.size() == got.size());
    for (size_t i = 0; i < want.size(); i += 4) {
      float u, v;
      std::memcpy(&u, &want[i], 4);
      std::memcpy(&v, &got[i], 4);
      CHECK(std::fabs(u - v) <= 1e-5f * (1 + std::fabs(u)));
    }
  }
}

TEST_CASE("products of one tensor become one") {
  for (uint64_t seed = 1; seed <= 24; ++seed) {
    std::mt19937_64 random(seed);
    auto pick = [&](std::vector<int64_t> from) { return from[random() % from.size()]; };
    auto floats = [&](std::vector<Expr> dims) {
      std::vector<double> values(static_cast<size_t>(product(dims).constant().value()));
      for (double &v : values)
        v = static_cast<double>(random() % 2001) / 1000 - 1;
      return std::pair(TensorType{ElementType::kF32, dims}, make_floats(ElementType::kF32, values));
    };
    Function f;
    GraphBuilder b(f, f.graph);
    b.set_origin("node", "ai.onnx.Test");
    const int64_t rows = pick({1, 5, 16}), depth = pick({3, 8}), columns = pick({4, 7});
    const bool biased = random() % 2, reshaped = random() % 2, columns_first = random() % 2;
    ValueId x = b.add_value({ElementType::kF32, {1, rows, depth}}, "x");
    f.graph.inputs.push_back({"x", x});
    auto project = [&] {
      auto [type, data] = floats(columns_first ? std::vector<Expr>{columns, depth} : std::vector<Expr>{depth, columns});
      ValueId w = b.constant(type, data), rank2 = reshaped ? b.reshape(x, {rows, depth}) : x;
      ValueId y = b.contract(rank2, w, reshaped ? "mk" : "bmk", columns_first ? "nk" : "kn", reshaped ? "mn" : "bmn");
      y = b.reshape(y, {1, rows, columns});
      if (!biased)
        return y;
      auto [bias_type, bias] = floats({columns});
      ValueId broadcast = b.broadcast(b.constant(bias_type, bias), {2}, {1, rows, columns});
      return b.map(K::kAdd, random() % 2 ? std::vector<ValueId>{y, broadcast} : std::vector<ValueId>{broadcast, y});
    };
    ValueId q = project(), k = project(), v = project();
    ValueId scores = b.contract(q, b.transpose(k, {0, 2, 1}), "bmk", "bkn", "bmn");
    f.graph.outputs.push_back({"y", b.contract(scores, v, "bmk", "bkn", "bmn")});
    const bool kept = seed % 4 == 0; // an output has memory of its own
    if (kept)
      f.graph.outputs.push_back({"v", v});
    Function merged = layout::merge_products(f);
    INFO("seed " << seed << "\n" << print(merged));
    CHECK(std::count_if(merged.graph.ops.begin(), merged.graph.ops.end(), [](const Op &op) { return op.code == Opcode::kContract; }) == (kept ? 4 : 3));
    std::vector<uint8_t> input = random_input(f, {}, seed);
    fuse::Program p = fuse::fuse(f), r = fuse::fuse(merged);
    auto ignore = [](const dispatch::Dispatch &, const Buffers &) {};
    CHECK(run(p, {}, input, ignore)[p.output_tensors[0]] == run(r, {}, input, ignore)[r.output_tensors[0]]);
  }
}

TEST_CASE("products that are not merged, and factors that stay") {
  Function f;
  GraphBuilder b(f, f.graph);
  b.set_origin("node", "ai.onnx.Test");
  auto weights = [&](std::vector<Expr> dims) {
    std::vector<double> values;
    for (int64_t i = 0; i < product(dims).constant().value(); ++i)
      values.push_back(static_cast<double>(i % 7) - 3);
    return b.constant({ElementType::kF32, dims}, make_floats(ElementType::kF32, values));
  };
  ValueId x = b.add_value({ElementType::kF32, {2, 4}}, "x");
  f.graph.inputs.push_back({"x", x});
  // What belongs to a product may stand in a region of its own: it is of the region, and stays there.
  ValueId outer[] = {b.contract(x, weights({4, 3}), "mk", "kn", "mn"), b.contract(x, weights({4, 3}), "mk", "kn", "mn")};
  auto region = [&](ValueId v) {
    Graph inner;
    Graph *before = b.exchange_graph(&inner);
    ValueId r = b.reshape(v, {1, 2, 3});
    inner.outputs.push_back({"", b.contract(r, r, "bmk", "bnk", "bmn")});
    b.exchange_graph(before);
    return inner;
  };
  Graph then = region(outer[0]), otherwise = region(outer[1]);
  ValueId y = b.if_else(Expr(1), std::move(then), std::move(otherwise), {{ElementType::kF32, {1, 2, 2}}})[0];
  f.graph.outputs.push_back({"y", y});
  // A product of a scalar, to a scalar.
  ValueId one = b.contract(b.splat_float(ElementType::kF32, {}, 2), weights({4, 3}), "", "kn", "");
  f.graph.outputs.push_back({"one", one});
  // A number that constants alone decide about, though by 2^60 paths.
  ValueId factor = b.splat_float(ElementType::kF32, {}, 1);
  for (int i = 0; i < 60; ++i)
    factor = b.map(K::kMul, {factor, factor});
  ValueId scaled = b.map(K::kMul, {b.reshape(x, {2, 4}), b.broadcast(factor, {}, {2, 4})});
  f.graph.outputs.push_back({"z", b.contract(scaled, weights({4, 3}), "mk", "kn", "mn")});
  REQUIRE(verify(f) == "");
  Function merged = layout::merge_products(layout::lift_factors(f));
  CHECK(verify(merged) == "");
  CHECK(print(merged).find("contract") != std::string::npos);
  auto contractions = [](const Graph &graph) {
    return std::count_if(graph.ops.begin(), graph.ops.end(), [](const Op &op) { return op.code == Opcode::kContract; });
  };
  CHECK(contractions(merged.graph) == contractions(f.graph) - 1); // the two of x, whose results are read in regions
}
