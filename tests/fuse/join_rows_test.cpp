// Maps joined with the row reductions that read them: which, that they compute the same, what stays stored.
#include <catch2/catch.hpp>

#include <random>

#include "aotc/fuse/join_rows.h"
#include "tests/fuse/execute.h"

using namespace ingot::aotc;
using namespace ingot::aotc::testing;

namespace {

// sum = x + y (+ bias of the column) or the sum of parts; n = softmax or normalisation of sum's rows; where `later`, z = 2 sum.
struct Shape {
  Expr rows = 5;
  int64_t columns = 64;
  int64_t parts = 0;         // 0: x + y
  bool bias = true, later = true;
  bool transposed = false;   // x is read down its columns
  bool guarded = false;      // of x, the first row is 0
  bool flat = false;         // the map has one axis: no bias then
  ReduceKind part_kind = ReduceKind::kAdd;
  bool softmax = false;
  int64_t apart = 0;         // elements from row to row of what is reduced, where they overlap
  bool nested = false;       // sums of eights, then of these
  bool shares = false;       // the map: of each group of eight columns, their share of its sum
  ElementType type = ElementType::kF32; // of sum
  std::vector<std::pair<Symbol, int64_t>> dims;
};

ValueId stored(Maker &m, ValueId v, ElementType type) { return type == ElementType::kF32 ? v : m.op(Opcode::kConvert, type, {v}); }
ValueId loaded(Maker &m, ValueId v, ElementType type) { return type == ElementType::kF32 ? v : m.op(Opcode::kConvert, ElementType::kF32, {v}); }

dispatch::Dispatch map_of(const Shape &s) {
  Maker m("map");
  const Expr count = s.rows * s.columns;
  if (s.shares) {
    const uint32_t x = m.input("x", count);
    m.input("y", count);
    m.weight("bias", s.columns);
    const uint32_t out = m.output("out", count, s.type);
    const Symbol r = m.axis(s.rows * (s.columns / 8)), e = m.axis(8);
    const ValueId v = m.load(x, Expr(r) * 8 + e);
    m.store(out, Expr(r) * 8 + e, m.op(Opcode::kDiv, {v, m.op(Opcode::kAdd, {m.reduce(ReduceKind::kAdd, v, {e}), m.constant(10)})}), {r, e});
    return m.d;
  }
  const uint32_t x = m.input("x", count * std::max<int64_t>(1, s.parts)), y = m.input("y", count), bias = m.weight("bias", s.columns);
  const uint32_t out = m.output("out", count, s.type);
  std::vector<Symbol> axes;
  Expr at, column;
  if (s.flat) {
    axes = {m.axis(count)};
    at = Expr(axes[0]);
  } else {
    axes = {m.axis(s.rows), m.axis(s.columns)};
    at = Expr(axes[0]) * s.columns + axes[1];
    column = Expr(axes[1]);
  }
  ValueId v;
  if (s.parts) {
    const Symbol part = m.axis(s.parts);
    v = m.reduce(s.part_kind, m.load(x, Expr(part) * count + at), {part});
  } else {
    std::vector<Guard> guards;
    if (s.guarded)
      guards.push_back({Expr(axes[0]) - 1, s.rows});
    v = m.load(x, s.transposed ? column * s.rows + Expr(axes[0]) : at, guards);
  }
  v = m.op(Opcode::kAdd, {v, m.load(y, at)});
  if (s.bias && !s.flat)
    v = m.op(Opcode::kAdd, {v, m.load(bias, column)});
  m.store(out, at, stored(m, v, s.type), axes);
  return m.d;
}

dispatch::Dispatch rows_dispatch(const Shape &s) {
  Maker m("rows");
  const Expr count = s.rows * s.columns;
  const uint32_t x = m.input("x", count, s.type), y = m.output("y", count);
  const Symbol r = m.axis(s.rows), j = m.axis(s.nested ? s.columns / 8 : s.columns);
  if (s.nested) {
    const Symbol k = m.axis(8);
    const Expr place = Expr(r) * s.columns + Expr(j) * 8 + k;
    const ValueId whole = loaded(m, m.load(x, place), s.type), eights = m.reduce(ReduceKind::kAdd, whole, {k});
    m.store(y, place, m.op(Opcode::kSub, {whole, m.reduce(ReduceKind::kMax, eights, {j})}), {r, j, k});
    return m.d;
  }
  const Expr at = Expr(r) * s.columns + j;
  const ValueId v = loaded(m, m.load(x, s.apart ? Expr(r) * s.apart + j : at), s.type);
  if (s.softmax) {
    const ValueId e = m.op(Opcode::kExp, {m.op(Opcode::kSub, {v, m.reduce(ReduceKind::kMax, v, {j})})});
    m.store(y, at, m.op(Opcode::kDiv, {e, m.reduce(ReduceKind::kAdd, e, {j})}), {r, j});
  } else {
    const ValueId n = m.constant(double(s.columns)), d = m.op(Opcode::kSub, {v, m.op(Opcode::kDiv, {m.reduce(ReduceKind::kAdd, v, {j}), n})});
    const ValueId variance = m.op(Opcode::kDiv, {m.reduce(ReduceKind::kAdd, m.op(Opcode::kMul, {d, d}), {j}), n});
    m.store(y, at, m.op(Opcode::kDiv, {d, m.op(Opcode::kSqrt, {m.op(Opcode::kAdd, {variance, m.constant(1e-5)})})}), {r, j});
  }
  return m.d;
}

dispatch::Dispatch twice(const Shape &s) {
  Maker m("twice");
  const uint32_t x = m.input("x", s.rows * s.columns, s.type), y = m.output("y", s.rows * s.columns);
  const Symbol f = m.axis(s.rows * s.columns);
  const ValueId v = loaded(m, m.load(x, f), s.type);
  m.store(y, f, m.op(Opcode::kAdd, {v, v}), {f});
  return m.d;
}

fuse::TensorId tensor(fuse::Program &p, fuse::Tensor::Kind kind, Expr count, ElementType type = ElementType::kF32) {
  fuse::Tensor t;
  t.kind = kind;
  t.type.element = type;
  t.type.dims = {count};
  const auto id = static_cast<fuse::TensorId>(p.tensors.size());
  if (kind == fuse::Tensor::Kind::kInput || kind == fuse::Tensor::Kind::kOutput) {
    const bool input = kind == fuse::Tensor::Kind::kInput;
    t.index = static_cast<uint32_t>((input ? p.input_tensors : p.output_tensors).size());
    (input ? p.input_tensors : p.output_tensors).push_back(id);
    (input ? p.inputs : p.outputs).push_back({});
  }
  p.tensors.push_back(t);
  return id;
}

void step(fuse::Program &p, dispatch::Dispatch d, std::vector<fuse::TensorId> operands) {
  fuse::Step s;
  s.dispatch = static_cast<uint32_t>(p.dispatches.size());
  s.operands = std::move(operands);
  p.dispatches.push_back(std::move(d));
  p.steps.push_back(std::move(s));
}

struct Tensors {
  fuse::TensorId x, y, bias, sum, n;
};

fuse::Program program(const Shape &s, Tensors *out = nullptr) {
  using Kind = fuse::Tensor::Kind;
  fuse::Program p;
  p.name = "two";
  for (const auto &[symbol, value] : s.dims)
    p.dims.push_back(symbol);
  const Expr count = s.rows * s.columns;
  Tensors t = {};
  t.x = tensor(p, Kind::kInput, count * std::max<int64_t>(1, s.parts));
  t.y = tensor(p, Kind::kInput, count);
  t.bias = tensor(p, Kind::kInput, s.columns);
  t.sum = tensor(p, Kind::kTransient, count, s.type);
  t.n = tensor(p, Kind::kOutput, count);
  step(p, map_of(s), {t.x, t.y, t.bias, t.sum});
  step(p, rows_dispatch(s), {t.sum, t.n});
  if (s.later)
    step(p, twice(s), {t.sum, tensor(p, Kind::kOutput, count)});
  if (out)
    *out = t;
  return p;
}

// Steps afterwards. The results are the same, whichever way the dispatches are scheduled.
size_t check(const fuse::Program &apart, const Shape &s, size_t max_operands = 0) {
  fuse::Program joined = apart;
  fuse::join_rows(joined, max_operands);
  INFO(fuse::print(joined));
  const std::map<Symbol, int64_t> dims(s.dims.begin(), s.dims.end());
  const auto inputs = random_inputs(apart, dims, 7);
  const auto naive = [](const dispatch::Dispatch &d) { return schedule::schedule_naive(d, TargetRecord::x86_64_v2()); };
  const auto simt = [](const dispatch::Dispatch &d) { return schedule::schedule(d, TargetRecord::cuda_sm80()); };
  const auto expected = execute(apart, inputs, dims, naive);
  for (const Scheduler &scheduler : {Scheduler(naive), Scheduler(simt)}) {
    const auto got = execute(joined, inputs, dims, scheduler);
    REQUIRE(got.size() == expected.size());
    for (size_t i = 0; i < got.size(); ++i)
      CHECK(difference(got[i], expected[i]) < 1e-5f);
  }
  return joined.steps.size();
}
size_t check(const Shape &s, size_t max_operands = 0) { return check(program(s), s, max_operands); }

Shape with(void (*change)(Shape &)) {
  Shape s;
  change(s);
  return s;
}

} // namespace

TEST_CASE("a sum and the normalisation of its rows") {
  CHECK(check({}) == 2);                                            // the sum is stored for who reads it later
  CHECK(check(with([](Shape &s) { s.later = false; })) == 1);
  CHECK(check(with([](Shape &s) { s.softmax = true; })) == 2);
  CHECK(check(with([](Shape &s) { s.flat = true; })) == 2);         // one axis in the map, two in the rows
  CHECK(check(with([](Shape &s) { s.guarded = true; })) == 2);
  CHECK(check(with([](Shape &s) { s.columns = 768; s.rows = 3; })) == 2);
  CHECK(check(with([](Shape &s) { s.columns = 97; })) == 2);        // a prime
  CHECK(check(with([](Shape &s) { s.type = ElementType::kF16; })) == 2); // rounded as it was in memory
}

TEST_CASE("parts of a sum and the normalisation of its rows") {
  for (int64_t parts : {1, 2, 5, 8}) {
    Shape s;
    s.parts = parts;
    s.later = parts % 2;
    CHECK(check(s) == (s.later ? 2u : 1u));
    s.flat = true;
    s.part_kind = ReduceKind::kMul;
    CHECK(check(s) == (s.later ? 2u : 1u));
  }
  CHECK(check(with([](Shape &s) { s.parts = 9; })) == 3); // a thread would add too many
  CHECK(check(with([](Shape &s) { s.parts = 3; s.part_kind = ReduceKind::kMax; })) == 3);
}

TEST_CASE("rows of an unknown number") {
  const Symbol n = Symbol::dim("n", 1, 1 << 20);
  for (int64_t rows : {1, 2, 7}) {
    Shape s;
    s.rows = n;
    s.dims = {{n, rows}};
    CHECK(check(s) == 2);
    s.parts = 2;
    s.flat = true;
    CHECK(check(s) == 2);
  }
}

TEST_CASE("what is not joined") {
  CHECK(check(with([](Shape &s) { s.columns = 16; })) == 3);         // short rows
  CHECK(check(with([](Shape &s) { s.columns = 8192; s.rows = 2; })) == 3); // rows too long for registers
  CHECK(check(with([](Shape &s) { s.transposed = true; })) == 3);    // its reads do not lie side by side
  CHECK(check(with([](Shape &s) { s.shares = true; })) == 3);        // a sum over what is stored too
  CHECK(check(with([](Shape &s) { s.apart = 32; })) == 3);           // rows that share elements
  CHECK(check(with([](Shape &s) { s.nested = true; })) == 3);        // sums that a team would not take whole
  CHECK(check({}, 4) == 3);                                          // more operands than a dispatch may have
  CHECK(check({}, 5) == 2);
  Tensors t;
  {
    fuse::Program p = program({}, &t);
    p.tensors[t.y].kind = fuse::Tensor::Kind::kState; // somebody may write it in between
    fuse::join_rows(p, 0);
    CHECK(p.steps.size() == 3);
  }
  {
    fuse::Program p = program({}, &t); // who reads it first is no reduction
    std::swap(p.steps[1], p.steps[2]);
    CHECK(check(p, {}) == 3);
  }
  {
    fuse::Program p = program({}, &t); // something else happens in between
    fuse::Step copy;
    copy.kind = fuse::Step::Kind::kCopy;
    copy.operands = {t.y, tensor(p, fuse::Tensor::Kind::kOutput, 5 * 64)};
    p.steps.insert(p.steps.begin() + 1, copy);
    CHECK(check(p, {}) == 4);
  }
  for (int which : {0, 1}) {
    fuse::Program p = program({}, &t); // one version of several
    p.steps[static_cast<size_t>(which)].sizes = fuse::SizeRange{1, Expr(4), 0, INT64_MAX};
    CHECK(check(p, {}) == 3);
  }
}

TEST_CASE("a sum that is an output stays one") {
  Tensors t;
  Shape s;
  s.later = false;
  fuse::Program p = program(s, &t);
  p.tensors[t.sum].kind = fuse::Tensor::Kind::kOutput;
  p.tensors[t.sum].index = 1;
  p.output_tensors.push_back(t.sum);
  p.outputs.push_back({});
  CHECK(check(p, s) == 1);
}

TEST_CASE("a tensor that both read is one operand") {
  Tensors t;
  Shape s;
  fuse::Program p = program(s, &t);
  p.steps[0].operands[1] = t.x; // x + x
  fuse::Program joined = p;
  fuse::join_rows(joined, 0);
  CHECK(joined.dispatches[joined.steps[0].dispatch].operands.size() == 4); // x, bias, sum, n
  CHECK(check(p, s) == 2);
}

TEST_CASE("drawn shapes") {
  std::mt19937_64 random(29);
  auto below = [&](uint64_t n) { return static_cast<int64_t>(random() % n); };
  for (int round = 0; round < 25; ++round) {
    Shape s;
    s.rows = 1 + below(9);
    s.columns = 32 + below(300);
    s.parts = below(3) ? 0 : 1 + below(8);
    s.bias = below(2);
    s.later = below(2);
    s.flat = below(2);
    s.guarded = !s.flat && !s.parts && below(2);
    s.softmax = below(2);
    s.type = below(2) ? ElementType::kF16 : ElementType::kF32;
    CHECK(check(s) == (s.later ? 2u : 1u));
  }
}
