// Fusion must not multiply work: what the dispatches compute is held against what the graph's own operators
// would.
#include <catch2/catch.hpp>

#include <random>

#include "aotc/fuse/fuse.h"
#include "aotc/schedule/schedule.h"

using namespace ingot::aotc;
using namespace ingot::aotc::graph;
using K = kernel::Opcode;
using dispatch::ReduceKind;

namespace {

using Shape = std::vector<int64_t>;

std::vector<Expr> dims_of(const Shape &shape) { return {shape.begin(), shape.end()}; }

int64_t elements(const Function &f, ValueId v) { return f.values[v].type.elements().constant().value(); }

// One element of a map or of a reduction's operand counts once, as schedule::cost counts it in a dispatch.
int64_t work_of(const Function &f) {
  int64_t work = 0;
  for (const Op &op : f.graph.ops)
    if (op.code == Opcode::kMap)
      work += elements(f, op.results[0]);
    else if (op.code == Opcode::kReduce)
      work += elements(f, op.operands[0]);
  return work;
}

int64_t work_of(const fuse::Program &program) {
  int64_t work = 0;
  for (const dispatch::Dispatch &d : program.dispatches) work += schedule::cost(d).flops.constant().value();
  return work;
}

// Mean and variance over `axes` of x, x normalised by them.
ValueId normalise(GraphBuilder &b, ValueId x, const std::vector<uint32_t> &axes) {
  const std::vector<Expr> dims = b.type(x).dims;
  std::vector<uint32_t> kept;
  int64_t count = 1;
  for (uint32_t i = 0; i < dims.size(); ++i)
    if (std::find(axes.begin(), axes.end(), i) == axes.end())
      kept.push_back(i);
    else
      count *= dims[i].constant().value();
  auto mean = [&](ValueId v) {
    ValueId sum = b.reduce(ReduceKind::kAdd, v, axes);
    return b.map(K::kDiv,
                 {sum, b.splat_float(ElementType::kF32, b.type(sum).dims, static_cast<double>(count))});
  };
  ValueId centred = b.map(K::kSub, {x, b.broadcast(mean(x), kept, dims)});
  ValueId variance = mean(b.map(K::kMul, {centred, centred}));
  return b.map(K::kDiv, {centred, b.broadcast(b.map(K::kSqrt, {variance}), kept, dims)});
}

struct Fixture {
  Function f;
  GraphBuilder b{f, f.graph};

  ValueId input(const Shape &shape) {
    const ValueId v = b.add_value({ElementType::kF32, dims_of(shape)}, "x");
    f.graph.inputs.push_back({"x", v});
    return v;
  }
  fuse::Program fused(ValueId result) {
    f.graph.outputs.push_back({"y", result});
    return fuse::fuse(f);
  }
};

// The factors of n, in a random grouping of at most 6 axes.
Shape random_factors(std::mt19937 &random, int64_t n) {
  Shape shape{1};
  for (int64_t p = 2; n > 1; ++p)
    for (; n % p == 0; n /= p)
      if (random() % 2 || shape.size() == 6)
        shape.back() *= p;
      else
        shape.push_back(p);
  return shape;
}

} // namespace

TEST_CASE("a norm over rows is one dispatch") {
  Fixture t;
  ValueId x = t.input({6, 40, 96});
  fuse::Program p = t.fused(t.b.map(K::kTanh, {normalise(t.b, x, {2})}));
  CHECK(p.dispatches.size() == 1);
}

TEST_CASE("a reshape that leaves the rows alone keeps a norm one dispatch") {
  Fixture t;
  ValueId x = t.input({6, 40, 96});
  ValueId rows = t.b.reshape(normalise(t.b, x, {2}), dims_of({2, 3, 8, 5, 96}));
  fuse::Program p = t.fused(t.b.map(K::kTanh, {rows}));
  CHECK(p.dispatches.size() == 1);
}

TEST_CASE("a norm over groups of channels is not computed again for each element") {
  // As GroupNorm is exported: [1,64,32,32] seen as 8 rows, normalised, seen as an image again.
  Fixture t;
  ValueId x = t.input({1, 64, 32, 32});
  ValueId rows = normalise(t.b, t.b.reshape(x, dims_of({1, 8, 8192})), {2});
  const int64_t before = work_of(t.f);
  fuse::Program p = t.fused(t.b.map(K::kTanh, {t.b.reshape(rows, dims_of({1, 64, 32, 32}))}));
  CHECK(work_of(p) <= 2 * before);
}

TEST_CASE("no chain of norms, reshapes and transposes multiplies its work") {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    Fixture t;
    const int64_t total = std::vector<int64_t>{360, 1024, 2310, 46656}[random() % 4];
    ValueId v = t.input(random_factors(random, total));
    for (size_t step = 0, steps = 2 + random() % 4; step < steps; ++step) {
      const auto rank = static_cast<uint32_t>(t.b.type(v).dims.size());
      switch (random() % 4) {
        case 0:
          v = t.b.reshape(v, dims_of(random_factors(random, total)));
          break;
        case 1: {
          std::vector<uint32_t> order(rank);
          for (uint32_t i = 0; i < rank; ++i) order[i] = i;
          std::shuffle(order.begin(), order.end(), random);
          v = t.b.transpose(v, order);
          break;
        }
        case 2: {
          std::vector<uint32_t> axes;
          for (uint32_t i = 0; i < rank; ++i)
            if (random() % 2) axes.push_back(i);
          v = normalise(t.b, v, axes);
          break;
        }
        default:
          v = t.b.map(K::kTanh, {v});
      }
    }
    v = t.b.map(K::kExp, {v});
    const int64_t before = work_of(t.f);
    fuse::Program p = t.fused(v);
    INFO("seed " << seed << "\n" << print(t.f) << fuse::print(p));
    CHECK(work_of(p) <= 3 * before);
  }
}

TEST_CASE("a dispatch has no more operands than allowed, and the program computes the same work") {
  // y = ((x0 + x1) * (x2 + x3)) + ... over twelve inputs: one dispatch of thirteen operands where nothing limits it.
  Function f;
  f.name = "main";
  GraphBuilder b(f, f.graph);
  std::vector<ValueId> sums;
  const Shape shape = {3, 5};
  for (int i = 0; i < 12; ++i) {
    const ValueId x = b.add_value({ElementType::kF32, dims_of(shape)}, "x" + std::to_string(i));
    f.graph.inputs.push_back({"x" + std::to_string(i), x});
    sums.push_back(x);
  }
  while (sums.size() > 1) {
    std::vector<ValueId> next;
    for (size_t i = 0; i + 1 < sums.size(); i += 2)
      next.push_back(b.map(next.size() % 2 ? K::kMul : K::kAdd, {sums[i], sums[i + 1]}));
    if (sums.size() % 2)
      next.push_back(sums.back());
    sums = next;
  }
  f.graph.outputs.push_back({"y", sums[0]});
  REQUIRE(verify(f) == "");
  CHECK(fuse::fuse(f).dispatches.size() == 1);
  CHECK(fuse::fuse(f).dispatches[0].operands.size() == 13);
  for (size_t most : {8, 5, 3}) {
    fuse::Options options;
    options.max_operands = most;
    const fuse::Program limited = fuse::fuse(f, options);
    INFO(most << "\n" << fuse::print(limited));
    CHECK(limited.dispatches.size() > 1);
    for (const dispatch::Dispatch &d : limited.dispatches)
      CHECK(d.operands.size() <= most);
    CHECK(work_of(limited) == work_of(f));
  }
}
