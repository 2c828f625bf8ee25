// Versions for ranges of sizes: which ranges, that exactly one of each group is done at any size, and that all compute the same.
#include <catch2/catch.hpp>

#include <algorithm>
#include <random>

#include "aotc/fuse/specialise_sizes.h"
#include "aotc/fuse/split_reductions.h"
#include "aotc/kernel/text.h"
#include "aotc/kernel/verifier.h"
#include "aotc/plan/plan.h"
#include "aotc/schedule/schedule.h"
#include "schemas/program_words.h"
#include "tests/fuse/execute.h"
#include "tests/schedule/dispatch_maker.h"
#include "tests/schedule/run.h"

using namespace ingot::aotc;
using namespace ingot::aotc::testing;
namespace archive = ingot::aotc::archive;
namespace program = ingot::program;

namespace {

std::vector<int64_t> usual(const dispatch::Dispatch &d) {
  std::vector<int64_t> out;
  for (const Symbol &s : d.free_symbols())
    out.push_back(s.usual());
  return out;
}

// At these sizes the versions compute what the dispatch does, and one of them alone is done.
void check_at(const fuse::Program &whole, const fuse::Program &versions, const std::map<Symbol, int64_t> &dims, uint64_t seed) {
  auto scheduler = [](const dispatch::Dispatch &d) { return schedule::schedule(d, TargetRecord::x86_64_v2()); };
  const auto inputs = random_inputs(whole, dims, seed);
  auto a = execute(whole, inputs, dims, scheduler), b = execute(versions, inputs, dims, scheduler);
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i)
    CHECK(difference(b[i], a[i]) < 1e-5f);
  std::map<uint32_t, std::vector<int64_t>> done; // by group, where the versions begin
  for (const fuse::Step &step : versions.steps)
    if (step.sizes && *step.sizes->holds().evaluate([&](const Symbol &s) { return std::optional(dims.at(s)); }))
      done[step.sizes->group].push_back(step.sizes->from);
  for (const auto &[group, from] : done)
    CHECK(std::count(from.begin(), from.end(), from[0]) == static_cast<std::ptrdiff_t>(from.size()));
  CHECK(done.size() == (versions.steps[0].sizes ? 1u : 0u));
}

} // namespace

TEST_CASE("ranges of a size") {
  const Symbol t = Symbol::dim("t", 1, 1 << 20);
  fuse::Program whole = program_of(matmul(1, t, 9, 20, false, true, 1, false, {{t, 1}})), p = whole;
  fuse::specialise_sizes(p, {1, 32, 1024});
  INFO(fuse::print(p));
  REQUIRE(p.steps.size() == 4);
  std::vector<int64_t> borders;
  for (const fuse::Step &step : p.steps) {
    CHECK(step.sizes->from == (borders.empty() ? 0 : borders.back()));
    borders.push_back(step.sizes->until);
  }
  CHECK(borders == std::vector<int64_t>{2, 6, 181, INT64_MAX});
  CHECK(usual(p.dispatches[p.steps[0].dispatch]).empty()); // one row: nothing is free any more
  CHECK(usual(p.dispatches[p.steps[1].dispatch]) == std::vector<int64_t>{1});
  CHECK(usual(p.dispatches[p.steps[2].dispatch]) == std::vector<int64_t>{32});
  CHECK(usual(p.dispatches[p.steps[3].dispatch]) == std::vector<int64_t>{1024});
  for (int64_t size : {1, 2, 5, 6, 31, 180, 181, 200})
    check_at(whole, p, {{t, size}}, static_cast<uint64_t>(size));
  // The text has the sizes, and different sizes are different work.
  std::string error;
  const std::string text = dispatch::print(p.dispatches[p.steps[2].dispatch]);
  CHECK(text.find("dim t 1 1048576 at 32\n") != std::string::npos);
  auto again = dispatch::parse(text, error);
  REQUIRE(again);
  CHECK(dispatch::print(*again) == text);
  CHECK(dispatch::canonical_text(p.dispatches[p.steps[2].dispatch]) != dispatch::canonical_text(p.dispatches[p.steps[3].dispatch]));
  CHECK_FALSE(dispatch::parse("dispatch @d nodes() {\n  dim t 1 9 at 0\n}\n", error));
  CHECK(error.find("usual value") != std::string::npos);
}

TEST_CASE("what has no versions") {
  auto steps = [](const Case &c) {
    fuse::Program p = program_of(c);
    fuse::specialise_sizes(p, {1, 32, 1024});
    CHECK_FALSE(p.steps[0].sizes);
    return p.steps.size();
  };
  CHECK(steps(matmul(1, 8, 9, 20, false, true, 1, false)) == 1);
  const Symbol host = Symbol::host("n", 1, 1000), few = Symbol::dim("few", 7, 9), t = Symbol::dim("t", 1, 1000);
  CHECK(steps(matmul(1, host, 9, 20, false, true, 1, false, {{host, 3}})) == 1);  // known too late
  CHECK(steps(matmul(1, few, 9, 20, false, true, 1, false, {{few, 8}})) == 1);    // hardly free
  CHECK(steps(matmul(1, 8, 9, t, false, false, 1, false, {{t, 8}})) == 1);        // what is stored has one size
  fuse::Program p = program_of(matmul(1, t, 9, 20, false, true, 1, false, {{t, 1}}));
  fuse::specialise_sizes(p, {});
  CHECK(p.steps.size() == 1);
}

TEST_CASE("batches grow last") {
  const Symbol n = Symbol::dim("n", 1, 64), t = Symbol::dim("t", 1, 256);
  fuse::Program p = program_of(matmul(n, t, 9, 20, false, true, 1, false, {{n, 1}, {t, 1}}), {n, t, 20});
  fuse::specialise_sizes(p, {1, 32, 1024});
  REQUIRE(p.steps.size() == 4);
  CHECK(usual(p.dispatches[p.steps[2].dispatch]) == std::vector<int64_t>{1, 32});
  CHECK(usual(p.dispatches[p.steps[3].dispatch]) == std::vector<int64_t>{4, 256}); // the range ends there
}

TEST_CASE("one point: what multiplies it is known") {
  // Rows of which there are ceil(t / 4): their stride is 1 where they are one.
  const Symbol t = Symbol::dim("t", 1, 4096);
  const Expr rows = max(Expr(1), floordiv(Expr(t) + 3, 4));
  fuse::Program whole = program_of(matmul(1, rows, 24, 20, true, true, 1, false, {{t, 1}})), p = whole;
  fuse::specialise_sizes(p, {1, 32});
  REQUIRE(p.steps.size() == 2);
  CHECK(usual(p.dispatches[p.steps[0].dispatch]).empty());
  for (int64_t size : {1, 3, 4, 5, 8, 9, 100, 1000})
    check_at(whole, p, {{t, size}}, static_cast<uint64_t>(size));
  const Symbol w = Symbol::dim("w", 1, 512);
  ConvShape s;
  s.width = w;
  s.size = {1, 1};
  Case c = conv(s);
  c.dims = {{w, 1}};
  fuse::Program image = program_of(c), versions = image;
  fuse::specialise_sizes(versions, {1, 32, 1024});
  INFO(fuse::print(versions));
  for (int64_t size : {1, 2, 3, 7, 40, 200})
    check_at(image, versions, {{w, size}}, static_cast<uint64_t>(size));
}

TEST_CASE("one point: names and divisors") {
  const auto scheduler = [](const dispatch::Dispatch &d) { return schedule::schedule(d, TargetRecord::x86_64_v2()); };
  // A dim may have the name that an axis has.
  const Symbol rows = Symbol::dim("i1", 1, 500);
  Maker m("named");
  const uint32_t x = m.input("x", Expr(rows) * 6), y = m.output("y", Expr(rows) * 6);
  const Symbol i = m.axis(rows), j = m.axis(6);
  REQUIRE(j.name() == "i1");
  m.store(y, Expr(i) * 6 + j, m.op(Opcode::kAdd, {m.load(x, Expr(i) * 6 + j), m.constant(1)}), {i, j});
  fuse::Program whole = program_of({m.d, {{rows, 1}}}), p = whole;
  fuse::specialise_sizes(p, {1, 32});
  CHECK(p.steps.size() == 3);
  for (int64_t size : {1, 2, 40})
    check_at(whole, p, {{rows, size}}, static_cast<uint64_t>(size));
  // What divides by 0 there has no version of its own.
  const Symbol t = Symbol::dim("t", 1, 500);
  Maker n("shifted");
  const uint32_t a = n.input("a", Expr(t)), b = n.output("b", Expr(t));
  const Symbol k = n.axis(t), r = n.axis((Expr(t) - 1) * 4);
  const ValueId sum = n.reduce(ReduceKind::kAdd, n.load(a, mod(r, Expr(t) - 1) + 1), {r});
  n.store(b, k, n.op(Opcode::kAdd, {n.load(a, k), sum}), {k});
  fuse::Program before = program_of({n.d, {{t, 2}}}), after = before;
  fuse::specialise_sizes(after, {1, 32});
  for (const fuse::Step &step : after.steps)
    CHECK(usual(after.dispatches[step.dispatch]).size() == 1);
  for (int64_t size : {2, 3, 50})
    check_at(before, after, {{t, size}}, static_cast<uint64_t>(size));
}

TEST_CASE("one point of reductions whose axes go") {
  const Symbol t = Symbol::dim("t", 1, 400);
  Maker m("sums");
  const uint32_t x = m.input("x", Expr(t) * 9000), y = m.output("y", Expr(t));
  const Symbol i = m.axis(t), j = m.axis(9000), k = m.axis(Expr(t));
  const ValueId row = m.reduce(ReduceKind::kAdd, m.load(x, Expr(i) * 9000 + j), {j});
  const ValueId column = m.reduce(ReduceKind::kMax, m.load(x, Expr(k) * 9000), {k});
  m.store(y, i, m.op(Opcode::kAdd, {row, column}), {i});
  fuse::Program whole = program_of({m.d, {{t, 1}}}), p = whole;
  fuse::specialise_sizes(p, {1, 8});
  fuse::split_reductions(p, 0);
  for (int64_t size : {1, 2, 5})
    check_at(whole, p, {{t, size}}, static_cast<uint64_t>(size));
}

TEST_CASE("versions that are the same kernel become one") {
  const Symbol t = Symbol::dim("t", 2, 1 << 20);
  fuse::Program p = program_of(matmul(1, t, 9, 20, false, true, 1, false, {{t, 2}}));
  fuse::specialise_sizes(p, {1, 32, 1024});
  REQUIRE(p.steps.size() == 3);
  auto joined = [&](std::vector<uint32_t> kernel_of) {
    fuse::Program q = p;
    fuse::join_sizes(q, kernel_of);
    return q;
  };
  CHECK(joined({9, 0, 0, 0}).steps.size() == 1);
  CHECK_FALSE(joined({9, 0, 0, 0}).steps[0].sizes);
  const fuse::Program two = joined({9, 0, 0, 1});
  REQUIRE(two.steps.size() == 2);
  CHECK(two.steps[0].sizes->until == p.steps[2].sizes->from);
  CHECK(two.steps[1].sizes->until == INT64_MAX);
  CHECK(joined({9, 0, 1, 0}).steps.size() == 3); // not neighbours
  // What stays is right at all sizes, whatever the first was.
  const Symbol one = Symbol::dim("one", 1, 1 << 20);
  fuse::Program from_one = program_of(matmul(1, one, 9, 20, false, true, 1, false, {{one, 1}}));
  fuse::specialise_sizes(from_one, {1, 32});
  const uint32_t last = from_one.steps.back().dispatch;
  fuse::join_sizes(from_one, std::vector<uint32_t>(from_one.dispatches.size(), 0));
  REQUIRE(from_one.steps.size() == 1);
  CHECK(from_one.steps[0].dispatch == last);
  // A version of two steps stays.
  fuse::Program deep = program_of(matmul(1, t, 9, 4096, false, true, 1, false, {{t, 2}}));
  fuse::Program whole = deep;
  fuse::specialise_sizes(deep, {1, 32, 1024});
  fuse::split_reductions(deep, 0);
  INFO(fuse::print(deep));
  CHECK(deep.steps.size() > 3);
  fuse::Program same = deep;
  fuse::join_sizes(same, std::vector<uint32_t>(deep.dispatches.size(), 0));
  CHECK(same.steps.size() >= 4);
  for (int64_t size : {2, 11, 12, 50})
    check_at(whole, deep, {{t, size}}, static_cast<uint64_t>(size));
}

TEST_CASE("alternatives do not wait for each other") {
  const Symbol t = Symbol::dim("t", 1, 1 << 20);
  auto commands = [](const fuse::Program &p) {
    plan::WeightPool weights;
    std::vector<plan::DispatchInfo> infos(p.dispatches.size());
    for (plan::DispatchInfo &info : infos)
      info.grid = {1, 1, 1};
    const archive::Function f = plan::plan_function(p, infos, 0, 64, weights);
    std::string out;
    for (size_t at = 0; at < f.commands.size(); at += f.commands[at] >> 8)
      out += static_cast<program::Opcode>(f.commands[at] & 0xff) == program::Opcode::barrier ? '|' : 'd';
    return out;
  };
  fuse::Program p = program_of(matmul(1, t, 9, 20, false, true, 1, false, {{t, 1}}));
  fuse::specialise_sizes(p, {1, 32, 1024});
  CHECK(commands(p) == "dddd");
  // Versions of two steps: the second waits for the first, another version for neither.
  fuse::Program deep = program_of(matmul(1, t, 9, 4096, false, true, 1, false, {{t, 1}}));
  fuse::specialise_sizes(deep, {1, 32});
  fuse::split_reductions(deep, 0);
  INFO(fuse::print(deep));
  CHECK(commands(deep) == "d|dd|dd|d");
  // What reads the result waits for all.
  fuse::Program chain = p;
  fuse::Step after = chain.steps[0];
  after.sizes.reset();
  chain.tensors.push_back(chain.tensors[chain.output_tensors[0]]);
  chain.tensors.back().type.dims = {Expr(t) * 20};
  chain.tensors.back().kind = fuse::Tensor::Kind::kTransient;
  after.operands[0] = chain.output_tensors[0];
  after.operands.back() = static_cast<fuse::TensorId>(chain.tensors.size() - 1);
  chain.steps.push_back(after);
  CHECK(commands(chain) == "dddd|d");
}

TEST_CASE("drawn sizes") {
  std::mt19937_64 random(11);
  auto below = [&](int64_t n) { return 1 + static_cast<int64_t>(random() % static_cast<uint64_t>(n)); };
  for (uint64_t i = 0; i < 12; ++i) {
    const int64_t low = below(4);
    const Symbol a = Symbol::dim("a", low, low + below(3000)), b = Symbol::dim("b", 1, below(40));
    const bool both = random() % 2;
    Case c = matmul(both ? Expr(b) : Expr(1), a, below(20), below(30), random() % 2, random() % 2, static_cast<int>(random() % 3), false, {{a, low}, {b, 1}});
    if (!both)
      c.dims.pop_back();
    fuse::Program whole = program_of(c), p = whole;
    fuse::specialise_sizes(p, {1, 32, 1024});
    INFO(fuse::print(p));
    for (int k = 0; k < 4; ++k) {
      std::map<Symbol, int64_t> dims = {{a, std::min(a.max(), low + below(k == 0 ? 1 : 60) - 1)}};
      if (both)
        dims[b] = std::min<int64_t>(b.max(), below(k == 0 ? 1 : 5));
      check_at(whole, p, dims, i);
    }
  }
}

TEST_CASE("what depends on params alone becomes params") {
  std::mt19937_64 random(3);
  auto below = [&](int64_t n) { return 1 + static_cast<int64_t>(random() % static_cast<uint64_t>(n)); };
  for (int i = 0; i < 12; ++i) {
    const Symbol a = Symbol::dim("a", 1, 1 << 16), b = Symbol::dim("b", 1, 1000);
    const Expr rows = floordiv(Expr(a) + 3, 2), columns = Expr(b) + 2;
    Case c = i % 3 == 0   ? matmul(1, rows, columns, below(20), random() % 2, false, 1, false, {{a, below(50)}, {b, below(40)}})
             : i % 3 == 1 ? softmax(rows, columns, {{a, below(20)}, {b, below(90)}})
                          : matmul(Expr(b), rows, 9, below(30), true, true, 2, false, {{a, below(20)}, {b, below(3)}});
    INFO(dispatch::print(c.dispatch));
    const TargetRecord record = TargetRecord::cuda_sm80();
    schedule::Scheduled plain = schedule::schedule(c.dispatch, record), moved = plain;
    schedule::move_to_params(moved, c.dispatch);
    REQUIRE(moved.params);
    CHECK(moved.params->size() == moved.kernel.params.size());
    REQUIRE(kernel::verify(moved.kernel) == "");
    const std::string text = kernel::print(moved.kernel);
    INFO(text);
    kernel::Kernel again;
    CHECK(kernel::parse(text, again) == "");
    CHECK(kernel::print(again) == text);
    // Whatever divides has its reciprocal beside it.
    size_t reciprocals = 0;
    for (const kernel::Param &p : moved.kernel.params)
      reciprocals += p.reciprocal_of >= 0;
    CHECK((reciprocals > 0 || i % 3 != 0)); // products divide the group's number by how many tiles are side by side
    for (size_t p = 0; p < moved.kernel.params.size(); ++p)
      if (const int32_t of = moved.kernel.params[p].reciprocal_of; of >= 0) {
        const int64_t d = value_of((*moved.params)[static_cast<size_t>(of)], c), r = value_of((*moved.params)[p], c);
        CHECK(static_cast<uint32_t>(r) == UINT32_MAX / static_cast<uint32_t>(d));
      }
    Buffers expected = make_buffers(c, static_cast<uint64_t>(i)), got = expected;
    REQUIRE(interpret(c, plain, expected) == "");
    REQUIRE(interpret(c, moved, got) == "");
    for (size_t o = 0; o < got.bytes.size(); ++o)
      CHECK(got.bytes[o] == expected.bytes[o]);
  }
}
