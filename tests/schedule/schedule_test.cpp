// Every schedule against the naive one, in the interpreter: named and seeded random dispatches of each form.
#include <catch2/catch.hpp>

#include <algorithm>
#include <cstring>

#include "aotc/kernel/legalise.h"
#include "aotc/kernel/text.h"
#include "aotc/schedule/attention.h"
#include "aotc/schedule/collapse.h"
#include "aotc/schedule/simt/fragments.h"
#include "aotc/schedule/simt/window.h"
#include "tests/schedule/random_dispatch.h"
#include "tests/sanitizers.h"
#include "tests/schedule/run.h"

using namespace ingot::aotc;
using namespace ingot::aotc::testing;

namespace {

std::vector<TargetRecord> records() {
  return {TargetRecord::x86_64_v2(), TargetRecord::x86_64_v3(), TargetRecord::x86_64_v4(), TargetRecord::x86_64_v4_vnni(),
          TargetRecord::aarch64()};
}

void check(Case c, uint64_t seed, const std::string &what) {
  INFO(what << "\n" << dispatch::print(c.dispatch));
  REQUIRE(dispatch::verify(c.dispatch) == "");
  Buffers reference = make_buffers(c, seed);
  Buffers inputs = reference;
  REQUIRE(interpret(c, schedule::schedule_naive(c.dispatch, TargetRecord::x86_64_v2()), reference) == "");
  auto compare_all = [&](const Case &which, const Buffers &in) {
    std::vector<std::string> grids;
    for (const TargetRecord &record : records()) {
      std::vector<schedule::Scheduled> all = schedule::all_schedules(which.dispatch, record);
      schedule::Scheduled chosen = schedule::schedule(which.dispatch, record);
      grids.push_back(chosen.grid[0].to_string() + "," + chosen.grid[1].to_string() + "," + chosen.grid[2].to_string());
      CHECK(grids.back() == grids.front()); // one program serves every code version
      if (std::none_of(all.begin(), all.end(), [&](const schedule::Scheduled &s) { return s.description == chosen.description; }))
        all.push_back(std::move(chosen));
      for (const schedule::Scheduled &s : all) {
        INFO(record.name << ": " << s.description);
        Buffers out = in;
        CHECK(testing::interpret(which, s, out) == "");
        std::string difference = testing::compare(which, out, reference);
        CHECK(difference == "");
        if (difference != "")
          WARN(kernel::print(s.kernel).substr(0, 6000));
      }
    }
  };
  compare_all(c, inputs);
  // Threads: workgroups, barriers and all, in the interpreter.
  const TargetRecord threads = TargetRecord::vulkan_baseline();
  for (const schedule::Scheduled &s : schedule::all_schedules(c.dispatch, threads)) {
    INFO(threads.name << ": " << s.description << "\n" << kernel::print(s.kernel).substr(0, 6000));
    Buffers out = inputs;
    CHECK(testing::interpret(c, s, out) == "");
    CHECK(testing::compare(c, out, reference) == "");
  }
  Case packed = c;
  Buffers packed_inputs = inputs;
  REQUIRE(prepack(packed, packed_inputs) == "");
  compare_all(packed, packed_inputs);
}

} // namespace

TEST_CASE("elementwise") {
  check(elementwise({7}, 0, 0), 1, "short");
  check(elementwise({1}, 0, 0), 1, "one");
  check(elementwise({0}, 0, 0), 1, "none");
  check(elementwise({3, 0, 5}, 0, 1), 1, "an empty axis");
  for (int kind = 0; kind < 4; ++kind) {
    check(elementwise({3, 5, 17}, 0, kind), 2, "collapsible");
    check(elementwise({3, 5, 17}, 1, kind), 3, "broadcast outer");
    check(elementwise({3, 5, 17}, 2, kind), 4, "broadcast middle");
    check(elementwise({3, 5, 17}, 4, kind), 5, "broadcast inner");
    check(elementwise({50, 1, 3}, 5, kind), 6, "short inner");
  }
  check(elementwise({20000}, 0, 0), 7, "several groups");
  check(elementwise({3, 9000}, 1, 0), 8, "cut rows");
}

TEST_CASE("transpose, concat, gather") {
  check(transpose({5, 7}, {1, 0}), 1, "2-D");
  check(transpose({33, 40}, {1, 0}), 1, "2-D larger");
  check(transpose({2, 3, 8, 5}, {0, 2, 1, 3}), 2, "heads");
  check(transpose({2, 9, 11, 5}, {0, 3, 1, 2}), 3, "NHWC to NCHW");
  check(concat({3, 4, 5, 6}), 4, "middle");
  // Vectors along the inner axis come from one part each, which a branch chooses.
  const Case rows = concat({2, 3, 4, 40});
  const std::string kernel = kernel::print(schedule::schedule(rows.dispatch, TargetRecord::x86_64_v3()).kernel);
  INFO(kernel);
  CHECK(kernel.find("select") == std::string::npos);
  CHECK(kernel.find("} else {") != std::string::npos);
  check(rows, 8, "long inner rows");
  // Very many parts, and chains whose arms share what was before: neither deep nor twice as much for each link.
  auto chain = [](int links, bool recurrent) {
    Maker m("chain");
    const uint32_t x = m.input("x", 40 * (links + 1)), y = m.output("y", 3 * 40);
    const Symbol row = m.axis(3), i = m.axis(40);
    ValueId h = m.load(x, i);
    for (int n = 1; n <= links; ++n) {
      const ValueId next = m.load(x, Expr(i) + 40 * n), which = m.op(Opcode::kGe, ElementType::kBool, {m.index(row), m.index(n % 3)});
      h = m.op(Opcode::kSelect, ElementType::kF32, {which, recurrent ? m.op(Opcode::kAdd, {m.op(Opcode::kMul, {h, m.constant(0.5)}), next}) : next, h});
    }
    m.store(y, Expr(row) * 40 + i, h, {row, i});
    return Case{m.d, {}};
  };
  for (const bool recurrent : {false, true}) {
    const Case c = chain(70, recurrent);
    CHECK(kernel::print(schedule::schedule(c.dispatch, TargetRecord::x86_64_v3()).kernel).size() < 100000);
    check(c, 9, recurrent ? "a masked recurrence" : "many parts");
  }
  check(concat({1, 4, 5, 1}), 5, "inner");
  check(concat({7, 9, 30, 1}), 5, "inner rows");
  check(gather_rows(9, 13, 20), 6, "rows");
  check(gather_rows(100, 13, 1), 7, "elements");
}

TEST_CASE("loads whose guards alone vary over the lanes") {
  // Two pieces side by side, each scaled by one element: within a piece its guard is assumed and leaves no mask.
  for (int64_t left : {1, 15, 32, 70})
    for (int64_t right : {1, 33, 64})
      for (int64_t rows : {1, 3}) {
        Maker m("scaled_pieces");
        const int64_t width = left + right;
        uint32_t scale = m.input("scale", rows), a = m.input("a", left), b = m.input("b", right);
        uint32_t y = m.output("y", rows * width);
        Symbol row = m.axis(rows), i = m.axis(width);
        const Guard in_left{Expr(i), left}, in_right{Expr(i) - left, right};
        ValueId first = m.op(Opcode::kMul, {m.load(scale, row, {in_left}), m.load(a, i, {in_left})});
        ValueId second = m.op(Opcode::kAdd, {m.load(scale, row, {in_right}), m.load(b, Expr(i) - left, {in_right})});
        ValueId which = m.op(Opcode::kGe, ElementType::kBool, {m.index(i), m.index(left)});
        m.store(y, Expr(row) * width + i, m.op(Opcode::kSelect, ElementType::kF32, {which, second, first}), {row, i});
        check({m.d, {}}, static_cast<uint64_t>(left * 100 + right), std::to_string(left) + " and " + std::to_string(right));
      }
}

TEST_CASE("products of bytes") {
  check(byte_matmul(1, 50, 40, 70, false, true, true), 1, "panels");
  check(byte_matmul(1, 1, 70, 33, false, true, false), 2, "one row");
  check(byte_matmul(2, 13, 33, 17, true, false, false), 3, "no constant");
  check(byte_matmul(1, 5, 3, 9, false, true, true), 4, "few columns");
  check(byte_matmul(1, 0, 20, 9, false, true, true), 5, "no rows");
  Symbol s = Symbol::dim("s", 0, 1 << 20), t = Symbol::dim("t", 1, 1 << 20);
  check(byte_matmul(1, s, 20, 30, false, true, true, {{s, 45}}), 6, "symbolic rows");
  check(byte_matmul(1, 5, t, 30, false, false, false, {{t, 45}}), 7, "symbolic columns");
  check(byte_matmul(1, 5, 20, t, false, false, false, {{t, 45}}), 8, "symbolic depth");
  std::mt19937 random(7);
  auto below = [&](int64_t n) { return 1 + static_cast<int64_t>(random() % static_cast<uint64_t>(n)); };
  for (uint64_t i = 0; i < 8; ++i)
    check(byte_matmul(below(2), below(30), below(50), below(60), random() % 2, random() % 2, random() % 2), 10 + i, "drawn");
  for (int64_t in : {3, 16, 32})
    for (int64_t kernel : {1, 3})
      for (int64_t stride : {1, 2}) {
        ByteConvShape c;
        c.n = 1 + stride % 2;
        c.in = in;
        c.kernel = kernel;
        c.stride = stride;
        c.requantise = in != 32;
        check(byte_conv(c), static_cast<uint64_t>(100 + in * 10 + kernel + stride), "convolution");
      }
}

TEST_CASE("products of bytes take the form of dot products") {
  Case c = byte_matmul(1, 50, 40, 70, false, true, true), conv = byte_conv({});
  for (Case *which : {&c, &conv}) {
    Buffers buffers = make_buffers(*which, 1);
    REQUIRE(prepack(*which, buffers) == "");
    CHECK(schedule::schedule(which->dispatch, TargetRecord::x86_64_v3()).description.find("dot2{mr=6,nr=16,panels,wide") == 0);
    CHECK(schedule::schedule(which->dispatch, TargetRecord::x86_64_v4_vnni()).description.find("dot4{mr=12,nr=32,panels") == 0);
  }
}

TEST_CASE("rows that threads keep in registers, and longer ones") {
  for (int64_t columns : {512, 1024, 1536, 4096, 5000})
    check(softmax(2, columns), static_cast<uint64_t>(columns), std::to_string(columns) + " columns");
  check(matmul(1, 2, 3, 1024, true, false, 0, false), 1, "two factors"); // each loaded for itself
  for (int64_t columns : {512, 768, 1024}) { // one sum goes along the axis of the other, and along one of its own
    Maker m("sums");
    const uint32_t x = m.input("x", 4 * columns), z = m.input("z", 12 * columns), y = m.output("y", 4);
    const Symbol r = m.axis(4), j = m.axis(columns), k = m.axis(3);
    const ValueId one = m.reduce(ReduceKind::kAdd, m.load(x, Expr(r) * columns + j), {j});
    const ValueId two = m.reduce(ReduceKind::kAdd, m.load(z, (Expr(r) * columns + j) * 3 + k), {j, k});
    m.store(y, r, m.op(Opcode::kAdd, {one, two}), {r});
    check({m.d, {}}, static_cast<uint64_t>(columns), "sums over " + std::to_string(columns));
  }
}

TEST_CASE("attention") {
  using Mask = AttentionShape::Mask;
  AttentionShape s;
  check(attention(s), 1, "small");
  for (Mask mask : {Mask::kNone, Mask::kKeys, Mask::kMatrix, Mask::kFlags, Mask::kCausal}) {
    s.mask = mask;
    s.rows = 9, s.keys = 19, s.depth = 5, s.columns = 3;
    check(attention(s), 2, "odd sizes");
    s.rows = 8, s.keys = 34, s.depth = 16, s.columns = 17;
    s.interleaved = true;
    check(attention(s), 3, "heads innermost");
    s.interleaved = false;
  }
  s.shift = -3; // the first rows see no key: NaN, as in the formula
  check(attention(s), 4, "rows that see nothing");
  s.bounded = true;
  check(attention(s), 4, "rows that see nothing give 0");
  s.bounded = false;
  s.shift = 0;
  s.scale = 500;
  check(attention(s), 5, "large scores");
  s.values_transposed = s.epilogue = true;
  check(attention(s), 6, "transposed values, epilogue");
}

TEST_CASE("attention with a running softmax") {
  using Mask = AttentionShape::Mask;
  Symbol t = Symbol::dim("t", 1, 1 << 20), u = Symbol::dim("u", 0, 1 << 20);
  AttentionShape s;
  s.heads = 1;
  s.rows = Expr(t), s.keys = Expr(u), s.depth = 4, s.columns = 4;
  auto with = [&](int64_t rows, int64_t keys) {
    s.dims = {{t, rows}, {u, keys}};
    return attention(s);
  };
  check(with(3, 0), 1, "no keys");
  check(with(1, 1), 2, "one row, one key");
  check(with(13, 128), 3, "a whole block");
  check(with(7, 300), 4, "three blocks");
  s.mask = Mask::kCausal;
  s.shift = 130; // whole blocks are hidden from some rows
  check(with(9, 280), 5, "hidden blocks");
  s.shift = -2;
  check(with(5, 260), 6, "rows that see nothing");
  s.bounded = true;
  check(with(5, 260), 6, "rows that see nothing give 0");
  s.mask = Mask::kMatrix;
  s.scale = 700;
  check(with(3, 257), 7, "large scores, mask");
}

TEST_CASE("random attention") {
#if defined(INGOT_ADDRESS_SANITIZER)
  constexpr uint64_t kSeeds = 10; // five times as slow there
#else
  constexpr uint64_t kSeeds = 40;
#endif
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    std::mt19937_64 random(seed);
    auto pick = [&](int64_t low, int64_t high) { return low + static_cast<int64_t>(random() % static_cast<uint64_t>(high - low + 1)); };
    AttentionShape s;
    s.batch = pick(1, 2), s.heads = pick(1, 3);
    const int64_t rows = pick(1, 11), keys = pick(2, 40);
    Symbol t = Symbol::dim("t", 0, 1 << 20), u = Symbol::dim("u", 0, 1 << 20);
    s.rows = rows, s.keys = keys;
    if (random() % 2)
      s.rows = Expr(t), s.dims.push_back({t, rows});
    if (random() % 2)
      s.keys = Expr(u), s.dims.push_back({u, keys});
    s.depth = std::vector<int64_t>{2, 4, 8, 16, 20}[random() % 5], s.columns = pick(2, 20);
    s.interleaved = random() % 2, s.values_transposed = random() % 4 == 0, s.epilogue = random() % 3 == 0, s.bounded = random() % 2;
    s.mask = static_cast<AttentionShape::Mask>(random() % 5);
    s.shift = pick(-2, 6);
    s.scale = std::vector<double>{0.1, 1, 90}[random() % 3];
    check(attention(s), seed, "seed " + std::to_string(seed));
  }
}

TEST_CASE("what is attention and what is not") {
  AttentionShape s;
  s.rows = 30;
  Case c = attention(s);
  auto form = schedule::match_attention(c.dispatch);
  REQUIRE(form);
  CHECK(schedule::attention_pays(*form));
  CHECK(schedule::schedule(c.dispatch, TargetRecord::x86_64_v3()).description.substr(0, 10) == "attention{");
  s.rows = 1; // one query row
  form = schedule::match_attention(attention(s).dispatch);
  CHECK((!form || !schedule::attention_pays(*form)));
  s.rows = 30;
  s.depth = 1000; // panels would not be bounded
  CHECK(!schedule::match_attention(attention(s).dispatch));
  CHECK(!schedule::match_attention(softmax(30, 40).dispatch));
  CHECK(!schedule::match_attention(matmul(1, 30, 40, 20, false, false, 0, false).dispatch));
}

TEST_CASE("what attention keeps in scratch does not grow with the keys") {
  auto scratch = [](int64_t keys) {
    AttentionShape s;
    s.rows = keys, s.keys = keys, s.depth = s.columns = 64;
    schedule::Scheduled k = schedule::schedule(attention(s).dispatch, TargetRecord::x86_64_v4());
    uint64_t bytes = 0;
    for (const kernel::Memory &memory : k.kernel.memories)
      if (memory.space == kernel::Space::kPrivate)
        bytes += memory.count * 4;
    return bytes;
  };
  CHECK(scratch(8192) == scratch(65536));
  CHECK(scratch(8192) < 256 << 10);
}

TEST_CASE("reductions") {
  for (ReduceKind kind : {ReduceKind::kAdd, ReduceKind::kMul, ReduceKind::kMin, ReduceKind::kMax}) {
    check(reduce(kind, {5, 37}, {1}), 1, "inner");
    check(reduce(kind, {5, 37}, {0}), 2, "outer");
    check(reduce(kind, {3, 4, 50}, {0, 2}), 3, "both sides");
    check(reduce(kind, {3, 4, 50}, {1}), 4, "middle");
    check(reduce(kind, {130}, {0}), 5, "all");
    check(reduce(kind, {3, 0}, {1}), 6, "nothing");
    check(reduce(kind, {6, 21}, {1}, ElementType::kI32), 7, "i32");
    check(reduce(kind, {6, 21}, {0}, ElementType::kU8), 8, "u8");
    check(reduce(kind, {6, 21}, {1}, ElementType::kI64), 9, "i64");
  }
  for (ReduceKind kind : {ReduceKind::kArgMin, ReduceKind::kArgMax, ReduceKind::kArgMinLast, ReduceKind::kArgMaxLast}) {
    check(reduce(kind, {5, 37}, {1}), 1, "arg inner");
    check(reduce(kind, {5, 37}, {0}), 2, "arg outer");
    check(reduce(kind, {5, 37}, {1}, ElementType::kI32), 3, "arg with ties");
  }
  check(reduce(ReduceKind::kAnd, {5, 7}, {1}, ElementType::kBool), 1, "and");
  check(reduce(ReduceKind::kOr, {5, 7}, {0}, ElementType::kBool), 1, "or");
}

TEST_CASE("rows") {
  check(softmax(5, 33), 1, "softmax");
  check(softmax(3, 1), 1, "softmax of one");
  check(softmax(1, 200), 2, "softmax of one row");
  check(layer_norm(5, 33), 3, "layer norm");
  check(layer_norm(2, 120), 3, "layer norm");
  Symbol t = Symbol::dim("t", 1, 1 << 20);
  check(softmax(t, 21, {{t, 4}}), 4, "symbolic rows");
  check(softmax(6, t, {{t, 45}}), 5, "symbolic columns");
  check(layer_norm(t, 21, {{t, 7}}), 6, "symbolic rows");
}

TEST_CASE("rows that a check refuses") {
  Symbol t = Symbol::dim("t", 1, 1 << 20);
  for (uint64_t seed : {1, 2, 3}) {
    check(embedding_norm(9, 13, 37), seed, "some ids outside");
    check(embedding_norm(5, 1 << 10, 64), seed, "ids below 0");
    check(embedding_norm(t, 13, 130, {{t, 7}}), seed, "symbolic rows");
  }
  Case inside = embedding_norm(9, 13, 37);
  Buffers buffers = make_buffers(inside, 1);
  for (int64_t i = 0; i < 9; ++i)
    memcpy(&buffers.bytes[1][static_cast<size_t>(i) * 8], &i, 8);
  REQUIRE(interpret(inside, schedule::schedule_naive(inside.dispatch, TargetRecord::x86_64_v2()), buffers) == "");
  CHECK(buffers.error_word == 0);
}

TEST_CASE("reductions of reductions") {
  // A maximum for each channel, normalised over the channels.
  for (int64_t channels : {1, 7, 40}) {
    Maker m("nested");
    uint32_t x = m.input("x", 2 * channels * 21), scale = m.weight("scale", channels), y = m.output("y", 2 * channels);
    Symbol n = m.axis(2), c = m.axis(channels), t = m.axis(21);
    ValueId v = m.op(Opcode::kTanh, {m.load(x, (Expr(n) * channels + c) * 21 + t)});
    ValueId top = m.reduce(ReduceKind::kMax, v, {t});
    ValueId mean = m.op(Opcode::kDiv, {m.reduce(ReduceKind::kAdd, top, {c}), m.constant(static_cast<double>(channels))});
    ValueId centred = m.op(Opcode::kSub, {top, mean});
    ValueId variance = m.reduce(ReduceKind::kAdd, m.op(Opcode::kMul, {centred, centred}), {c});
    ValueId out = m.op(Opcode::kDiv, {centred, m.op(Opcode::kSqrt, {m.op(Opcode::kAdd, {variance, m.constant(1)})})});
    m.store(y, Expr(n) * channels + c, m.op(Opcode::kMul, {out, m.load(scale, c)}), {n, c});
    check({m.d, {}}, 1, "channels");
  }
}

TEST_CASE("pooling") {
  check(pool(3, {9, 30}, {3, 3}, {2, 2}, {1, 1}, true), 1, "max 3x3/2");
  check(pool(3, {9, 80}, {3, 3}, {1, 1}, {1, 1}, true), 1, "max 3x3/1");
  check(pool(2, {12, 70}, {2, 2}, {2, 2}, {0, 0}, true), 2, "max 2x2");
  check(pool(2, {5, 8}, {5, 8}, {1, 1}, {0, 0}, false), 3, "global average");
  check(pool(2, {13, 10}, {5, 3}, {3, 1}, {2, 1}, false), 4, "average");
}

TEST_CASE("matrix products") {
  std::mt19937_64 random(7);
  auto pick = [&](std::vector<int64_t> from) { return from[random() % from.size()]; };
  check(matmul(1, 1, 40, 17, false, true, 0, false), 1, "gemv");
  check(matmul(1, 13, 1, 17, false, true, 0, false), 1, "a column");
  check(matmul(1, 5, 7, 0, false, false, 0, false), 1, "no depth");
  check(matmul(1, 0, 7, 4, false, false, 0, false), 1, "no rows");
  for (int i = 0; i < 24; ++i) {
    int64_t b = pick({1, 1, 2, 3}), m = pick({1, 2, 5, 6, 7, 12, 13, 40}), n = pick({1, 3, 8, 15, 16, 17, 31, 40, 64}),
            k = pick({1, 2, 7, 16, 33});
    bool transposed = random() & 1, weight = random() & 1, batched = random() & 1;
    check(matmul(b, m, n, k, transposed, weight, static_cast<int>(random() % 5), batched), i,
          "random " + std::to_string(i));
  }
  Symbol s = Symbol::dim("s", 0, 1 << 20), t = Symbol::dim("t", 1, 1 << 20);
  check(matmul(2, s, 24, 10, false, true, 1, false, {{s, 9}}), 1, "symbolic rows");
  check(matmul(2, s, t, 10, true, false, 0, true, {{s, 9}, {t, 21}}), 2, "attention scores");
  check(matmul(2, s, 12, t, false, false, 0, true, {{s, 9}, {t, 21}}), 3, "attention values");
  check(matmul(2, s, 12, t, false, false, 0, true, {{s, 0}, {t, 21}}), 3, "no rows");
}

TEST_CASE("deep matrix products") {
  check(matmul(1, 13, 20, 800, false, true, 1, false), 1, "panels, blocks of k");
  check(matmul(1, 100, 17, 600, true, false, 0, false), 2, "packed, blocks of k");
  ConvShape deep;
  deep.in = 70;
  deep.out = 9;
  deep.size = {4, 5};
  check(conv(deep), 3, "convolution, blocks of channels");
}

TEST_CASE("convolutions") {
  std::mt19937_64 random(11);
  auto pick = [&](std::vector<int64_t> from) { return from[random() % from.size()]; };
  for (int i = 0; i < 30; ++i) {
    ConvShape s;
    s.n = pick({1, 1, 2});
    s.groups = pick({1, 1, 2, 3});
    s.in = pick({1, 2, 3, 5, 8});
    s.out = pick({1, 3, 4, 7, 16});
    for (int a = 0; a < 2; ++a) {
      size_t at = static_cast<size_t>(a);
      s.kernel[at] = pick({1, 2, 3, 5});
      s.stride[at] = pick({1, 1, 2, 3});
      s.dilation[at] = pick({1, 1, 2});
      s.pad[at] = pick({0, 1, 2});
      s.size[at] = std::max<int64_t>(pick({4, 7, 10, 13, 20, 33}), s.dilation[at] * (s.kernel[at] - 1) + 1);
    }
    s.bias = random() & 1;
    s.activation = static_cast<int>(random() % 5);
    s.prologue = static_cast<int>(random() % 3);
    check(conv(s), i, "random " + std::to_string(i));
  }
  ConvShape pointwise;
  pointwise.in = 20;
  pointwise.out = 13;
  pointwise.kernel = {1, 1};
  pointwise.pad = {0, 0};
  pointwise.size = {6, 7};
  check(conv(pointwise), 1, "1x1");
  pointwise.size = {1, 1};
  check(conv(pointwise), 2, "1x1 on one pixel");
  pointwise.stride = {2, 2};
  pointwise.size = {9, 9};
  check(conv(pointwise), 3, "1x1 stride 2");
  ConvShape line;
  line.size = {40};
  line.kernel = {5};
  line.stride = {1};
  line.dilation = {1};
  line.pad = {0};
  line.in = 6;
  check(conv(line), 4, "1-D");
  line.pad = {2};
  check(conv(line), 5, "1-D padded");
  {
    // Channels innermost in the input, outermost in the output.
    Maker m("line");
    uint32_t x = m.input("x", 30 * 6), w = m.weight("w", 9 * 6 * 5), y = m.output("y", 9 * 26);
    Symbol oc = m.axis(9), t = m.axis(26), ic = m.axis(6), k = m.axis(5);
    ValueId v = m.op(Opcode::kMul, {m.load(x, (Expr(t) + k) * 6 + ic), m.load(w, (Expr(oc) * 6 + ic) * 5 + k)});
    m.store(y, Expr(oc) * 26 + t, m.reduce(ReduceKind::kAdd, v, {ic, k}), {oc, t});
    check({m.d, {}}, 6, "1-D, channels last");
  }
}

TEST_CASE("convolutions of symbolic width") {
  std::mt19937_64 random(17);
  auto pick = [&](std::vector<int64_t> from) { return from[random() % from.size()]; };
#if defined(INGOT_ADDRESS_SANITIZER)
  constexpr int kShapes = 5;
#else
  constexpr int kShapes = 16;
#endif
  for (int i = 0; i < kShapes; ++i) {
    ConvShape s;
    s.groups = pick({1, 4});
    s.in = s.groups > 1 ? 1 : pick({3, 8});
    s.out = s.groups > 1 ? 1 : pick({5, 12});
    int64_t k = pick({1, 3, 5});
    s.kernel = {k, k};
    s.stride = {pick({1, 2}), pick({1, 2})};
    s.pad = {k / 2, k / 2};
    s.size = {6, pick({9, 20, 40, 150, 300})};
    s.activation = static_cast<int>(random() % 5);
    s.width = Symbol::dim("w", 8, 1 << 20);
    check(conv(s), i, "random " + std::to_string(i));
  }
}

TEST_CASE("depthwise") {
  std::mt19937_64 random(13);
  auto pick = [&](std::vector<int64_t> from) { return from[random() % from.size()]; };
  for (int i = 0; i < 16; ++i) {
    ConvShape s;
    s.groups = pick({1, 3, 5});
    s.in = 1;
    s.out = pick({1, 1, 1, 2});
    int64_t k = pick({3, 5}), stride = pick({1, 2});
    s.kernel = {k, pick({k, k, 3})};
    s.stride = {pick({1, stride}), stride};
    s.pad = {k / 2, pick({0, s.kernel[1] / 2})};
    s.size = {pick({5, 8, 12}), pick({7, 16, 40, 67})};
    s.activation = static_cast<int>(random() % 5);
    s.prologue = static_cast<int>(random() % 3);
    check(conv(s), i, "random " + std::to_string(i));
  }
}

TEST_CASE("small planes for bytecode are one vector") {
  std::mt19937_64 random(29);
  auto pick = [&](int64_t low, int64_t high) { return low + static_cast<int64_t>(random() % static_cast<uint64_t>(high - low + 1)); };
  const TargetRecord record = TargetRecord::bytecode();
  int gathered = 0;
  for (int i = 0; i < 40; ++i) {
    ConvShape s;
    s.groups = pick(1, 4);
    s.in = s.out = 1;
    s.kernel = {pick(1, 3) * 2 - 1, pick(1, 3) * 2 - 1};
    s.stride = {pick(1, 3), pick(1, 3)};
    s.pad = {pick(0, s.kernel[0] / 2), pick(0, s.kernel[1] / 2)};
    s.size = {s.kernel[0] + s.stride[0] * pick(1, 8), s.kernel[1] + s.stride[1] * pick(1, 8)};
    s.activation = static_cast<int>(pick(0, 4));
    s.prologue = static_cast<int>(std::max<int64_t>(0, pick(-3, 2)));
    const Case c = conv(s);
    INFO("case " << i << "\n" << dispatch::print(c.dispatch));
    Buffers reference = make_buffers(c, i);
    const Buffers inputs = reference;
    REQUIRE(interpret(c, schedule::schedule_naive(c.dispatch, TargetRecord::x86_64_v2()), reference) == "");
    int flat = 0;
    for (const schedule::Scheduled &one : schedule::all_schedules(c.dispatch, record)) {
      INFO(one.description << "\n" << kernel::print(one.kernel).substr(0, 6000));
      Buffers out = inputs;
      CHECK(testing::interpret(c, one, out) == "");
      CHECK(testing::compare(c, out, reference) == "");
      if (one.description.find(",flat") != std::string::npos) {
        ++flat;
        gathered += one.description.find(",gathered") != std::string::npos;
      }
    }
    if (s.pad[0] > 0 && s.pad[1] > 0) // windows are known by their guards
      CHECK(flat == 1);
  }
  CHECK(gathered >= 5); // those without a computation on the way
  ConvShape large;
  large.groups = 2, large.in = large.out = 1, large.size = {30, 30};
  for (const schedule::Scheduled &one : schedule::all_schedules(conv(large).dispatch, record))
    CHECK(one.description.find(",flat") == std::string::npos);
}

namespace {

// With every number of outputs a thread, whatever the sizes would choose.
void check_windows(const Case &c, uint64_t seed, const std::string &what) {
  INFO(what << "\n" << dispatch::print(c.dispatch));
  REQUIRE(dispatch::verify(c.dispatch) == "");
  Buffers reference = make_buffers(c, seed);
  const Buffers inputs = reference;
  REQUIRE(interpret(c, schedule::schedule_naive(c.dispatch, TargetRecord::x86_64_v2()), reference) == "");
  for (int64_t rows : {1, 2, 3, 4, 8}) {
    auto s = schedule::schedule_simt_window(c.dispatch, TargetRecord::vulkan_baseline(), rows);
    REQUIRE(s);
    INFO(s->description << "\n" << kernel::print(s->kernel).substr(0, 6000));
    Buffers out = inputs;
    CHECK(testing::interpret(c, *s, out) == "");
    CHECK(testing::compare(c, out, reference) == "");
  }
}

} // namespace

TEST_CASE("windows on threads") {
  std::mt19937_64 random(29);
  auto pick = [&](std::vector<int64_t> from) { return from[random() % from.size()]; };
  Symbol width = Symbol::dim("w", 8, 1 << 20);
  for (uint64_t i = 0; i < 24; ++i) {
    ConvShape s;
    s.n = pick({1, 2});
    s.groups = pick({3, 5});
    s.in = 1;
    s.out = pick({1, 1, 2});
    s.kernel = {pick({2, 3, 5}), pick({1, 3})};
    s.dilation = {pick({1, 1, 2, 3}), pick({1, 2})};
    s.stride = {pick({1, 2}), pick({1, 2, 3})};
    s.pad = {pick({0, 1, 2}), pick({0, 1})};
    s.size = {pick({7, 9, 13, 16}) + s.dilation[0] * (s.kernel[0] - 1), pick({8, 11, 17})};
    s.bias = random() & 1;
    s.activation = static_cast<int>(random() % 5);
    s.prologue = static_cast<int>(random() % 3);
    if (random() % 3 == 0)
      s.width = width;
    if (s.stride[0] < s.dilation[0] * (s.kernel[0] - 1) + 1)
      check_windows(conv(s), i, "random " + std::to_string(i));
  }
  check_windows(pool(3, {9, 30}, {3, 3}, {2, 2}, {1, 1}, true), 1, "max 3x3/2");
  check_windows(pool(2, {13, 10}, {5, 3}, {3, 1}, {2, 1}, false), 2, "average 5x3/3");
  ConvShape large;
  large.groups = 16, large.in = large.out = 1, large.size = {128, 512};
  auto chosen = [](const Case &c) { return schedule::schedule(c.dispatch, TargetRecord::vulkan_baseline()).description; };
  CHECK(chosen(conv(large)) == "simt_window{rows=8}");
  large.size = {28, 28};
  CHECK(chosen(conv(large)) == "simt_window{rows=1}");
  large.size = {36, 4096}; // rows of 8 would leave a tenth of the last block empty, but the threads are enough
  CHECK(chosen(conv(large)) == "simt_window{rows=8}");
  CHECK(chosen(pool(16, {130, 1024}, {2, 2}, {2, 2}, {0, 0}, true)).find("simt_window") == std::string::npos); // no overlap
}

namespace {

void check_fragments(const Case &c, int tile, uint64_t seed, const std::string &what, std::vector<std::string> *seen = nullptr) {
  INFO(what << "\n" << dispatch::print(c.dispatch));
  REQUIRE(dispatch::verify(c.dispatch) == "");
  const Buffers inputs = make_buffers(c, seed);
  Buffers reference = inputs, out = inputs;
  REQUIRE(interpret(c, schedule::schedule_naive(c.dispatch, TargetRecord::cuda_sm80()), reference) == "");
  auto s = schedule::schedule_simt_fragments(c.dispatch, TargetRecord::cuda_sm80(), tile);
  REQUIRE(s);
  INFO(s->description << "\n" << kernel::print(s->kernel).substr(0, 3000));
  kernel::Kernel legal = s->kernel;
  CHECK(kernel::legalise(legal, TargetRecord::cuda_sm80()) == "");
  CHECK(kernel::uses(legal.body, kernel::Opcode::kFragmentMma));
  CHECK(testing::interpret(c, *s, out) == "");
  CHECK(testing::compare(c, out, reference) == "");
  if (seen)
    seen->push_back(s->description);
}

} // namespace

namespace {

// `start` and `holds`: of the description; `bound`: of the difference from what threads compute, by the largest result. `spoil` changes inputs.
void check_attention(const Case &c, uint64_t seed, const std::string &start, const std::string &holds, double bound,
                     const std::function<void(Buffers &)> &spoil = {}) {
  INFO("seed " << seed << "\n" << dispatch::print(c.dispatch));
  Buffers inputs = make_buffers(c, seed);
  if (spoil)
    spoil(inputs);
  Buffers reference = inputs, out = inputs;
  const size_t y = c.dispatch.operands.size() - 1;
  REQUIRE(interpret(c, schedule::schedule(c.dispatch, TargetRecord::vulkan_baseline()), reference) == ""); // on threads, held to the naive one above
  auto scheduled = schedule::schedule(c.dispatch, TargetRecord::cuda_sm80());
  INFO(scheduled.description << "\n" << kernel::print(scheduled.kernel).substr(0, 3000));
  REQUIRE(scheduled.description.find(start + "{") == 0);
  CHECK(scheduled.description.find(holds) != std::string::npos);
  kernel::Kernel legal = scheduled.kernel;
  CHECK(kernel::legalise(legal, TargetRecord::cuda_sm80()) == "");
  CHECK(testing::interpret(c, scheduled, out) == "");
  const auto *got = reinterpret_cast<const float *>(out.bytes[y].data()), *wanted = reinterpret_cast<const float *>(reference.bytes[y].data());
  const size_t count = out.bytes[y].size() / 4;
  double worst = 0, peak = 0;
  size_t different = 0;
  for (size_t i = 0; i < count; ++i) {
    if (!std::isfinite(wanted[i]) || !std::isfinite(got[i])) {
      different += std::isnan(wanted[i]) ? !std::isnan(got[i]) : got[i] != wanted[i];
      continue;
    }
    worst = std::max(worst, static_cast<double>(std::fabs(got[i] - wanted[i])));
    peak = std::max(peak, static_cast<double>(std::fabs(wanted[i])));
  }
  CHECK(different == 0);
  CHECK(worst <= bound * std::max(peak, 0.5));
}

// What elements of either type go through: masks, keys that fill blocks in part and whole, rows that see no key, free dims, a depth of no
// whole fragments. attends(shape, seed, parts): 0: however many. Gives the last shape.
template <class Attends> AttentionShape attention_shapes(const Attends &attends) {
  using Mask = AttentionShape::Mask;
  Symbol t = Symbol::dim("t", 1, 1 << 20), u = Symbol::dim("u", 1, 1 << 20);
  AttentionShape s;
  s.rows = 37, s.keys = 150, s.depth = 32, s.columns = 24;
  uint64_t seed = 0;
  for (Mask mask : {Mask::kNone, Mask::kKeys, Mask::kMatrix, Mask::kFlags, Mask::kCausal})
    for (bool interleaved : {false, true}) {
      s.mask = mask, s.interleaved = interleaved;
      attends(s, ++seed, 4);
    }
  for (int64_t keys : {2, 31, 33, 64, 65, 127, 128, 129, 200}) { // parts without a key, blocks begun and full
    s.mask = keys % 2 ? Mask::kNone : Mask::kKeys, s.keys = keys;
    attends(s, ++seed, keys <= 32 ? 1 : keys <= 64 ? 2 : 4);
  }
  s.mask = Mask::kCausal, s.keys = 150;
  s.shift = -3;
  attends(s, ++seed, 0); // rows that see no key
  s.bounded = true;
  attends(s, ++seed, 0);
  s.shift = 0, s.rows = Expr(t), s.keys = Expr(u), s.dims = {{t, 21}, {u, 70}};
  attends(s, ++seed, 0);
  s.epilogue = true, s.depth = 24;
  attends(s, ++seed, 0);
  return s;
}
std::string with_parts(int parts) { return parts == 0 ? "" : parts == 1 ? "}" : ",parts=" + std::to_string(parts); }

} // namespace

TEST_CASE("attention on matrix units") {
  auto attends = [](const AttentionShape &s, uint64_t seed, const std::string &stages) { // weights are rounded to f16: 2^-11 of what they weigh
    check_attention(in_half(attention(s), 3), seed, "simt_attention_fragments", stages, 1.5e-3);
  };
  using Mask = AttentionShape::Mask;
  AttentionShape s = attention_shapes([&](const AttentionShape &shape, uint64_t seed, int parts) { attends(shape, seed, "stages=2" + with_parts(parts)); });
  s.depth = 128, s.columns = 128;
  attends(s, 50, "stages=");
  auto chosen = [](const AttentionShape &shape) { return schedule::schedule(in_half(attention(shape), 3).dispatch, TargetRecord::cuda_sm80()).description; };
  s.depth = 32, s.values_transposed = true; // values would come one by one
  CHECK(chosen(s).find("simt_attention{") == 0);
  s.values_transposed = false, s.depth = 20;
  CHECK(chosen(s).find("simt_attention{") == 0);
  std::mt19937_64 random(17);
  auto pick = [&](std::vector<int64_t> from) { return from[random() % from.size()]; };
  for (int i = 0; i < 12; ++i) {
    AttentionShape r;
    r.batch = pick({1, 2}), r.heads = pick({1, 2, 3});
    r.rows = pick({8, 16, 33, 65}), r.keys = pick({3, 16, 40, 64, 129}), r.depth = pick({8, 16, 24, 64, 72}), r.columns = pick({8, 16, 40, 64});
    r.mask = static_cast<Mask>(random() % 5), r.interleaved = random() % 2, r.epilogue = random() % 2, r.scale = i % 3 == 0 ? 4 : 0.3;
    attends(r, 100 + static_cast<uint64_t>(i), "stages=");
  }
}

TEST_CASE("attention of f32 on matrix units") {
  using Mask = AttentionShape::Mask;
  auto attends = [](const AttentionShape &s, uint64_t seed, const std::string &holds = "", const std::function<void(Buffers &)> &spoil = {}) {
    check_attention(attention(s), seed, "simt_attention_fragments_f32", holds, 4e-6, spoil);
  };
  Symbol t = Symbol::dim("t", 1, 1 << 20), u = Symbol::dim("u", 1, 1 << 20);
  AttentionShape s = attention_shapes([&](const AttentionShape &shape, uint64_t n, int parts) { attends(shape, n, "stages=1" + with_parts(parts)); });
  uint64_t seed = 50;
  s.depth = 128, s.columns = 128;
  attends(s, ++seed);
  s.depth = 32, s.columns = 24, s.values_transposed = true; // values come one by one
  attends(s, ++seed);
  s.values_transposed = false, s.depth = 21; // everything does, and no row of the result is aligned
  s.columns = 19;
  attends(s, ++seed);
  s = {};
  const Symbol none = Symbol::dim("none", 0, 1 << 20);
  s.keys = Expr(none), s.dims = {{none, 0}}; // what was brought for the first block is not there when parts come together
  attends(s, ++seed, "parts=");
  s = {};
  s.batch = 40, s.heads = 5, s.rows = 49, s.keys = 49, s.depth = 8, s.mask = Mask::kMatrix; // many rows, each part of which has several
  attends(s, ++seed, "rows=64,keys=64,stages=1,parts=2");
  s = {};
  s.heads = 1, s.rows = 16 * 1056, s.keys = 17; // no parts
  attends(s, ++seed, "rows=64,keys=32,stages=1}");
  s = {};
  s.scale = 30, s.rows = 40, s.keys = 90, s.depth = 64; // the maximum rises
  check_attention(attention(s), ++seed, "simt_attention_fragments_f32", "", 1e-4);
  std::mt19937_64 random(18);
  auto pick = [&](std::vector<int64_t> from) { return from[random() % from.size()]; };
  auto any_shape = [&](int i) {
    AttentionShape r;
    r.batch = pick({1, 2}), r.heads = pick({1, 2, 3});
    r.rows = pick({8, 16, 33, 65}), r.keys = pick({3, 16, 40, 64, 129}), r.depth = pick({2, 8, 13, 16, 24, 64, 72}), r.columns = pick({3, 5, 8, 16, 18, 40, 64});
    r.mask = static_cast<Mask>(random() % 5), r.interleaved = random() % 2, r.epilogue = random() % 2, r.scale = i % 3 == 0 ? 4 : 0.3;
    r.values_transposed = random() % 4 == 0, r.bounded = random() % 2, r.shift = r.mask == Mask::kCausal ? pick({-2, 0, 5}) : 0;
    if (random() % 3 == 0) {
      r.dims = {{t, pick({9, 17})}, {u, pick({1, 50})}};
      r.rows = Expr(t), r.keys = Expr(u);
    }
    return r;
  };
  for (int i = 0; i < 24; ++i)
    attends(any_shape(i), 200 + static_cast<uint64_t>(i));
  // Infinities and NaNs, one in each operand in turn, come through as on threads.
  for (int i = 0; i < 30; ++i) {
    attends(any_shape(i), 300 + static_cast<uint64_t>(i), "", [&](Buffers &in) {
      const float what = i / 3 % 3 == 0 ? INFINITY : i / 3 % 3 == 1 ? -INFINITY : NAN;
      std::vector<uint8_t> &bytes = in.bytes[static_cast<size_t>(i % 3)];
      memcpy(&bytes[random() % (bytes.size() / 4) * 4], &what, 4);
    });
  }
  TargetRecord plain = TargetRecord::cuda_sm80();
  plain.fragment_tf32 = false;
  CHECK(schedule::schedule(attention(s).dispatch, plain).description.find("simt_attention{") == 0);
}

TEST_CASE("few rows by a matrix, on threads") {
  auto named = [](const Case &c) {
    std::string s = schedule::schedule(c.dispatch, TargetRecord::cuda_sm80()).description;
    return s.substr(0, s.find('{'));
  };
  uint64_t seed = 0;
  for (int64_t rows : {1, 3, 4})
    for (int64_t columns : {8, 40, 64})
      for (int64_t depth : {128, 300, 1100, 2310, 4096}) { // less than one batch, one of them, and several, with and without a rest
        if (depth > 2000 && columns != 40)
          continue;
        ++seed;
        const bool batched = seed % 2; // each with a matrix of its own
        Case c = matmul(batched ? 2 : 1, rows, columns, depth, false, true, static_cast<int>(seed % 5), batched);
        CHECK(named(c) == "simt_few_rows");
        check(c, seed, std::to_string(rows) + " rows");
        Case half = in_half(c);
        const Buffers inputs = make_buffers(half, seed);
        Buffers reference = inputs, out = inputs;
        auto s = schedule::schedule(half.dispatch, TargetRecord::cuda_sm80());
        INFO(s.description);
        CHECK(s.description.find("simt_few_rows{rows=" + std::to_string(rows) + ",columns=8,") == 0);
        REQUIRE(interpret(half, schedule::schedule_naive(half.dispatch, TargetRecord::cuda_sm80()), reference) == "");
        CHECK(testing::interpret(half, s, out) == "");
        CHECK(testing::compare(half, out, reference) == "");
      }
  CHECK(named(matmul(1, 1, 42, 256, false, true, 0, false)) != "simt_few_rows"); // rows of 42 are not aligned
  CHECK(named(matmul(1, 1, 64, 256, true, true, 0, false)) != "simt_few_rows");  // k runs along memory
  CHECK(named(matmul(1, 5, 64, 256, false, true, 0, false)) != "simt_few_rows");
  Symbol t = Symbol::dim("t", 200, 1 << 20);
  check(matmul(2, 1, 64, t, false, true, 1, true, {{t, 277}}), 1, "symbolic depth");
  CHECK(named(matmul(2, 1, 64, t, false, true, 1, true, {{t, 277}})) == "simt_few_rows");
}

TEST_CASE("products by warpgroups") {
  std::mt19937_64 random(71);
  auto pick = [&](std::vector<int64_t> from) { return from[random() % from.size()]; };
  const TargetRecord record = TargetRecord::cuda_sm90a();
  Symbol t = Symbol::dim("t", 1, 1 << 20);
  std::vector<std::string> seen;
  auto holds = [&](Case c, int tile, uint64_t seed) {
    INFO("tile " << tile << "\n" << dispatch::print(c.dispatch));
    const Buffers inputs = make_buffers(c, seed);
    Buffers reference = inputs, out = inputs;
    REQUIRE(interpret(c, schedule::schedule_naive(c.dispatch, TargetRecord::cuda_sm80()), reference) == "");
    auto s = schedule::schedule_simt_fragments(c.dispatch, record, tile);
    if (!s)
      return; // too deep for its memory; what has to be seen is said below
    INFO(s->description);
    kernel::Kernel legal = s->kernel;
    CHECK(kernel::legalise(legal, record) == "");
    CHECK(kernel::uses(legal.body, kernel::Opcode::kWarpgroupMma) == (s->description.find("simt_warpgroups{") == 0));
    CHECK(testing::interpret(c, *s, out) == "");
    CHECK(testing::compare(c, out, reference) == "");
    seen.push_back(s->description);
  };
  // The table's tiles of warpgroups; a depth that is no whole slice, one that fits whole, one whose slices take turns.
  for (int tile = 13; tile < 31; ++tile) {
    std::vector<int64_t> depths = {pick({8, 72, 136}), pick({256, 320})};
    if (tile == 13 || tile == 17 || tile == 22 || tile == 23) // a product of the tile is slow to interpret
      depths.push_back(tile >= 20 ? 2048 : 584);
    for (int64_t k : depths) {
      const bool free = random() % 3 == 0;
      const int64_t rows = pick({17, 64, 70}), n = pick({16, 36, 40, 66});
      Case c = matmul(pick({1, 1, 2}), free ? Expr(t) : Expr(rows), n, k, true, true, static_cast<int>(random() % 5), false,
                      free ? std::vector<std::pair<Symbol, int64_t>>{{t, rows}} : std::vector<std::pair<Symbol, int64_t>>{});
      holds(in_half(c), tile, static_cast<uint64_t>(tile));
    }
  }
  auto any = [&](const char *what) { return std::any_of(seen.begin(), seen.end(), [&](const std::string &s) { return s.find("simt_warpgroups{") == 0 && s.find(what) != std::string::npos; }); };
  for (const char *what : {"m=128,n=256", "m=256,n=128", "m=128,n=64,k=128,deep=2", "deep=4", "stages=2", "stages=4"})
    if (!any(what))
      FAIL_CHECK("no kernel with " << what);
  // What was measured to be the fastest, or near it (docs/gpu.md): a warpgroup alone where tiles are few, more of them where slices take turns.
  for (auto [m, n, depth, tile] : {std::tuple(128, 768, 768, "m=64,n=32,k=64,deep=1,"), std::tuple(197, 2304, 768, "m=64,n=80,k=64,deep=1,"),
                                   std::tuple(1024, 1024, 1024, "m=128,n=64,k=64,deep=1,"), std::tuple(4096, 4096, 4096, "m=128,n=256,k=64,deep=1,")})
    CHECK(schedule::schedule(in_half(matmul(1, m, n, depth, true, true, 0, false)).dispatch, record).description.find("simt_warpgroups{" + std::string(tile)) == 0);
  // Only lines of k, of f16, go to warpgroups, and only where the target has them.
  Case c = in_half(matmul(1, 128, 768, 768, true, true, 0, false));
  CHECK(schedule::schedule(c.dispatch, record).description.find("simt_warpgroups{") == 0);
  CHECK(schedule::schedule(c.dispatch, TargetRecord::cuda_sm80()).description.find("simt_fragments{") == 0);
  CHECK(schedule::schedule(in_half(matmul(1, 128, 768, 768, false, true, 0, false)).dispatch, record).description.find("simt_fragments{") == 0);
  CHECK(schedule::schedule(matmul(1, 128, 768, 768, true, true, 0, false).dispatch, record).description.find("simt_fragments_f32{") == 0);
}

// y[b, i, j] = relu(sum over h and d of x[b, h, i, d] w[(b,) j, h, d] + bias[j]), d below 64: what heads of attention leave, and a projection.
// `pieces`: w as [(b,) h, j, d].
static Case of_heads(int64_t batch, int64_t heads, int64_t rows, int64_t columns, bool pieces, bool batched_weight) {
  Maker m("of_heads");
  const int64_t depth = 64 * heads;
  const uint32_t x = m.input("x", batch * rows * depth);
  const uint32_t w = m.operand("w", (batched_weight ? batch : 1) * columns * depth, false, ElementType::kF32, true);
  const uint32_t bias = m.weight("bias", columns), y = m.output("y", batch * rows * columns);
  const Symbol b = m.axis(batch), i = m.axis(rows), j = m.axis(columns), h = m.axis(heads), d = m.axis(64);
  Expr w_offset = pieces ? (Expr(h) * columns + j) * 64 + d : Expr(j) * depth + Expr(h) * 64 + d;
  if (batched_weight)
    w_offset = w_offset + Expr(b) * columns * depth;
  const ValueId left = m.load(x, ((Expr(b) * heads + h) * rows + i) * 64 + d);
  ValueId v = m.reduce(ReduceKind::kAdd, m.op(Opcode::kMul, {left, m.load(w, w_offset)}), {h, d});
  v = m.op(Opcode::kMax, {m.op(Opcode::kAdd, {v, m.load(bias, j)}), m.constant(0)});
  m.store(y, (Expr(b) * rows + i) * columns + j, v, {b, i, j});
  return {m.d, {}};
}

// Where no tile is cut, others than the threads that multiply bring the slices.
TEST_CASE("products that are fed") {
  std::mt19937_64 random(83);
  auto draw = [&](int64_t lo, int64_t hi) { return lo + static_cast<int64_t>(random() % static_cast<uint64_t>(hi - lo + 1)); };
  const TargetRecord record = TargetRecord::cuda_sm90a();
  std::vector<std::string> seen;
  auto holds = [&](const Case &c, int tile, bool fed, const std::string &what) {
    INFO(what << ", tile " << tile << "\n" << dispatch::print(c.dispatch));
    REQUIRE(dispatch::verify(c.dispatch) == "");
    const Buffers inputs = make_buffers(c, static_cast<uint64_t>(tile));
    Buffers reference = inputs, out = inputs;
    REQUIRE(interpret(c, schedule::schedule_naive(c.dispatch, TargetRecord::cuda_sm80()), reference) == "");
    const auto s = schedule::schedule_simt_fragments(c.dispatch, record, tile);
    REQUIRE(s);
    INFO(s->description);
    CHECK(s->description.find("simt_warpgroups{") == 0);
    CHECK((s->description.find(",fed}") != std::string::npos) == fed);
    kernel::Kernel legal = s->kernel;
    CHECK(kernel::legalise(legal, record) == "");
    CHECK(kernel::uses(legal.body, Opcode::kFeedStart) == fed);
    CHECK(testing::interpret(c, *s, out) == "");
    CHECK(testing::compare(c, out, reference) == "");
    seen.push_back(s->description);
  };
  for (int tile = 13; tile < 31; ++tile) {
    const auto probe = schedule::schedule_simt_fragments(in_half(matmul(1, 512, 512, 512, true, true, 0, false)).dispatch, record, tile);
    REQUIRE(probe);
    int64_t m = 0, n = 0;
    REQUIRE(std::sscanf(probe->description.c_str(), "simt_warpgroups{m=%ld,n=%ld,", &m, &n) == 2);
    const bool large = m * n > 128 * 128; // slow to interpret
    const int64_t depth = 8 * draw(9, 40), heads = large ? 2 : draw(2, 6);
    auto of = [&](int64_t batch, int64_t rows, int64_t columns, int64_t k) {
      return in_half(matmul(batch, rows, columns, k, true, true, tile % 5, batch > 1 && tile % 2));
    };
    holds(of(1, m * (large ? 1 : draw(1, 2)), n * (large ? 1 : draw(1, 2)), depth % 64 ? depth : depth + 8), tile, true, "a depth with a tail");
    holds(of(large ? 1 : draw(2, 3), m, n, 64 * draw(2, 5)), tile, true, "batches");
    const int64_t batch = large ? 1 : draw(1, 2); // with weights of its own: else its rows would be no tensor's
    for (const bool pieces : {false, true})
      holds(in_half(of_heads(batch, heads, m, n, pieces, batch > 1)), tile, true, pieces ? "heads on both sides" : "heads");
    if (large)
      continue;
    holds(of(1, m + 8 * draw(1, m / 8 - 1), n, depth), tile, false, "rows cut");
    holds(of(1, m, n + (n > 8 ? 8 * draw(1, n / 8 - 1) : 4), depth), tile, false, "columns cut");
    Symbol t = Symbol::dim("t", 1, 1 << 20);
    holds(in_half(matmul(1, Expr(t), n, depth, true, true, 1, false, {{t, m}})), tile, false, "rows that are not known");
  }
  for (const char *what : {"deep=1", "deep=2", "stages=2,", "stages=4,", "m=256,n=128", "m=128,n=256"})
    if (std::none_of(seen.begin(), seen.end(),
                     [&](const std::string &s) { return s.find(",fed}") != std::string::npos && s.find(what) != std::string::npos; }))
      FAIL_CHECK("none is fed with " << what);
  auto chosen = [](const Case &c, const TargetRecord &of) { return schedule::schedule(in_half(c).dispatch, of).description; };
  CHECK(chosen(matmul(1, 1024, 1024, 1024, true, true, 0, false), record).find(",fed}") != std::string::npos);
  CHECK(chosen(matmul(1, 197, 768, 768, true, true, 0, false), record).find(",fed}") == std::string::npos);
  TargetRecord without = record;
  without.tensor_feeds = false;
  CHECK(chosen(matmul(1, 1024, 1024, 1024, true, true, 0, false), without).find("simt_warpgroups{") == 0);
  CHECK(chosen(matmul(1, 1024, 1024, 1024, true, true, 0, false), without).find(",fed}") == std::string::npos);
}

TEST_CASE("products on matrix units") {
  std::mt19937_64 random(31);
  auto pick = [&](std::vector<int64_t> from) { return from[random() % from.size()]; };
  Symbol t = Symbol::dim("t", 1, 1 << 20);
  std::vector<std::string> seen;
  for (int tile = 0; tile < 13; ++tile)
    for (int turn = 0; turn < 2; ++turn) {
      const bool free = turn == 1 && random() % 2;
      const int64_t rows = pick({5, 16, 31, 70}), n = pick({8, 20, 24, 33, 80}), k = pick({8, 20, 32, 72, 136});
      Case c = matmul(pick({1, 1, 2}), free ? Expr(t) : Expr(rows), n, k, random() & 1, true, static_cast<int>(random() % 5), false,
                      free ? std::vector<std::pair<Symbol, int64_t>>{{t, rows}} : std::vector<std::pair<Symbol, int64_t>>{});
      check_fragments(in_half(c), tile, static_cast<uint64_t>(2 * tile + turn), "tile " + std::to_string(tile), &seen);
      check_fragments(c, tile, static_cast<uint64_t>(2 * tile + turn), "f32, tile " + std::to_string(tile), &seen);
    }
  auto any = [&](const char *what) { return std::any_of(seen.begin(), seen.end(), [&](const std::string &s) { return s.find(what) != std::string::npos; }); };
  CHECK(any(",copied,copied}"));
  CHECK(any("stages=2"));
  CHECK(any("deep=2"));
  for (int i = 0; i < 8; ++i) {
    ConvShape s;
    s.n = pick({1, 2});
    s.groups = pick({1, 1, 2});
    s.in = pick({3, 8, 16});
    s.out = pick({8, 17});
    s.kernel = {pick({1, 3}), pick({1, 3})};
    s.stride = {pick({1, 2}), pick({1, 2})};
    s.pad = {pick({0, 1}), pick({0, 1})};
    s.size = {pick({4, 7}), pick({8, 9})};
    s.activation = static_cast<int>(random() % 5);
    for (const Case &c : {conv(s), in_half(conv(s))})
      check_fragments(c, static_cast<int>(random() % 13), static_cast<uint64_t>(i), "convolution " + std::to_string(i));
  }
  auto chosen = [](const Case &c) { return schedule::schedule(c.dispatch, TargetRecord::cuda_sm80()).description; };
  CHECK(chosen(in_half(matmul(1, 4096, 4096, 4096, false, true, 0, false))).find("simt_fragments{m=128,n=256,k=32,deep=1,stages=3,copied,copied}") == 0);
  INFO(chosen(in_half(matmul(1, 128, 768, 768, false, true, 0, false))));
  CHECK(chosen(in_half(matmul(1, 128, 768, 768, false, true, 0, false))).find("simt_fragments{m=32,n=32,k=64,deep=4,stages=8,copied,copied}") == 0);
  // What follows each sum makes large tiles dear.
  CHECK(chosen(in_half(matmul(1, 512, 2048, 768, false, true, 0, false))).find("simt_fragments{m=128,n=128,") == 0);
  CHECK(chosen(in_half(matmul(1, 512, 2048, 768, false, true, 4, false))).find("simt_fragments{m=128,n=64,") == 0);
  CHECK(chosen(matmul(1, 4096, 4096, 4096, false, true, 0, false)).find("simt_fragments_f32{") == 0);
  CHECK(chosen(in_half(matmul(1, 2, 64, 64, false, true, 0, false))).find("simt_fragments") == std::string::npos);
}

TEST_CASE("products of bytes on matrix units") {
  std::mt19937_64 random(83);
  auto pick = [&](std::vector<int64_t> from) { return from[random() % from.size()]; };
  constexpr ElementType kTypes[] = {ElementType::kU8, ElementType::kI8};
  Symbol t = Symbol::dim("t", 1, 1 << 20);
  std::vector<std::string> seen;
  uint64_t seed = 0;
  for (int tile = 0; tile < 13; ++tile)
    for (ElementType left : kTypes)
      for (ElementType right : kTypes) {
        const bool free = random() % 4 == 0, fused = random() & 1, zeros = random() & 1, transposed = random() & 1;
        const int64_t batch = pick({1, 1, 2}), rows = pick({5, 16, 31, 70}), n = pick({8, 20, 24, 33, 80}), k = pick({16, 33, 64, 100, 144, 272});
        Case c = byte_matmul(batch, free ? Expr(t) : Expr(rows), n, k, transposed, true, fused,
                             free ? std::vector<std::pair<Symbol, int64_t>>{{t, rows}} : std::vector<std::pair<Symbol, int64_t>>{}, zeros);
        check_fragments(with_bytes(c, left, right), tile, ++seed, "tile " + std::to_string(tile), &seen);
      }
  check_fragments(byte_matmul(1, 33, 40, 272, true, true, true), 12, ++seed, "long slices, shared by four", &seen);
  auto any = [&](const char *what) { return std::any_of(seen.begin(), seen.end(), [&](const std::string &s) { return s.find("simt_fragments_i8{") == 0 && s.find(what) != std::string::npos; }); };
  for (const char *what : {",copied,copied}", ",copied}", "k=128", "stages=2", "deep=2", "deep=4"})
    if (!any(what))
      FAIL_CHECK("no kernel with " << what);
  for (int i = 0; i < 16; ++i) {
    ByteConvShape s;
    s.n = pick({1, 2}), s.in = pick({3, 16, 32}), s.out = pick({16, 48}), s.stride = pick({1, 2}), s.kernel = pick({1, 3}), s.pad = pick({0, 1});
    s.size = {pick({5, 8}), pick({6, 9})};
    s.requantise = random() & 1;
    const ElementType left = kTypes[random() % 2], right = kTypes[random() % 2];
    check_fragments(with_bytes(byte_conv(s), left, right), static_cast<int>(random() % 13), ++seed, "convolution " + std::to_string(i), &seen);
  }
  // The largest sums, and one that leaves i32: 66,000 products of 255 and -128, or of 255 and 255.
  for (ElementType right : kTypes) {
    Case deep = with_bytes(byte_matmul(1, 16, 16, 66000, true, true, false), ElementType::kU8, right);
    INFO(name(right));
    Buffers inputs = make_buffers(deep, 1);
    std::fill(inputs.bytes[0].begin(), inputs.bytes[0].end(), 0xff);
    std::fill(inputs.bytes[1].begin(), inputs.bytes[1].end(), right == ElementType::kU8 ? 0xff : 0x80);
    auto s = schedule::schedule_simt_fragments(deep.dispatch, TargetRecord::cuda_sm80(), 12);
    REQUIRE(s);
    REQUIRE(testing::interpret(deep, *s, inputs) == "");
    int32_t first;
    std::memcpy(&first, inputs.bytes[2].data(), 4);
    CHECK(first == static_cast<int32_t>(static_cast<uint32_t>(int64_t{66000} * 255 * (right == ElementType::kU8 ? 255 : -128))));
  }
  // Only where the target has them, for both factors of 8 bits, and where little of a fragment would be empty.
  auto chosen = [](const Case &c, const TargetRecord &record) { return schedule::schedule(c.dispatch, record).description; };
  const Case large = byte_matmul(1, 512, 512, 512, true, true, true);
  for (const TargetRecord &record : {TargetRecord::cuda_sm80(), TargetRecord::cuda_sm90a()})
    for (ElementType left : kTypes)
      for (ElementType right : kTypes)
        CHECK(chosen(with_bytes(large, left, right), record).find("simt_fragments_i8{") == 0);
  TargetRecord without = TargetRecord::cuda_sm80();
  without.fragment_i8 = false;
  CHECK(chosen(large, without).find("simt_fragments") == std::string::npos);
  CHECK(chosen(large, TargetRecord::vulkan_baseline()).find("simt_fragments") == std::string::npos);
  TargetRecord bytes_only = TargetRecord::cuda_sm80();
  bytes_only.fragment_f16 = bytes_only.fragment_tf32 = false;
  CHECK(chosen(large, bytes_only).find("simt_fragments_i8{") == 0);
  CHECK(chosen(in_half(matmul(1, 512, 512, 512, true, true, 0, false)), bytes_only).find("simt_fragments") == std::string::npos);
  CHECK(chosen(byte_matmul(1, 4, 512, 512, true, true, true), TargetRecord::cuda_sm80()).find("simt_fragments") == std::string::npos);
  CHECK(chosen(byte_matmul(1, 64, 64, 16, true, true, true), TargetRecord::cuda_sm80()).find("simt_fragments") == std::string::npos);
  Case changed = large; // u8 widened as if it were signed is no byte that the units know
  for (dispatch::Value &v : changed.dispatch.values)
    if (v.kind == dispatch::ValueKind::kOp && v.code == kernel::Opcode::kConvertU && v.type == ElementType::kI32)
      v.code = kernel::Opcode::kConvert;
  CHECK(!schedule::schedule_simt_fragments(changed.dispatch, TargetRecord::cuda_sm80(), 0));
}

// What exporters read heads by: rows of k in pieces, [k/piece][m][k%piece].
TEST_CASE("products on matrix units through a reshape") {
  for (int piece : {8, 32, 64}) {
    for (int rows : {16, 40}) {
      const int k = 128, n = 32;
      dispatch::Dispatch d;
      d.name = "heads";
      d.operands = {{"x", ElementType::kF16, rows * k, false, false, {}}, {"w", ElementType::kF16, k * n, false, false, {}}, {"y", ElementType::kF32, rows * n, true, false, {}}};
      Symbol am = Symbol::axis("m", rows), an = Symbol::axis("n", n), ak = Symbol::axis("k", k);
      d.axes = {{am, rows}, {an, n}, {ak, k}};
      auto load = [&](uint32_t operand, Expr at) {
        dispatch::Value v;
        v.kind = dispatch::ValueKind::kLoad;
        v.type = ElementType::kF16;
        v.operand = operand;
        v.expr = std::move(at);
        d.values.push_back(v);
        dispatch::Value c;
        c.kind = dispatch::ValueKind::kOp;
        c.code = kernel::Opcode::kConvert;
        c.args = {static_cast<dispatch::ValueId>(d.values.size() - 1)};
        d.values.push_back(c);
        return static_cast<dispatch::ValueId>(d.values.size() - 1);
      };
      const dispatch::ValueId x = load(0, floordiv(Expr(ak), piece) * rows * piece + Expr(am) * piece + mod(Expr(ak), piece)), w = load(1, Expr(an) * k + ak);
      dispatch::Value product;
      product.kind = dispatch::ValueKind::kOp;
      product.code = kernel::Opcode::kMul;
      product.args = {x, w};
      d.values.push_back(product);
      dispatch::Value sum;
      sum.kind = dispatch::ValueKind::kReduce;
      sum.args = {static_cast<dispatch::ValueId>(d.values.size() - 1)};
      sum.axes = {2};
      d.values.push_back(sum);
      d.stores = {{2, Expr(am) * n + an, static_cast<dispatch::ValueId>(d.values.size() - 1), {0, 1}}};
      REQUIRE(dispatch::verify(d) == "");
      CHECK(schedule::split_axes(d).axes.size() == 4);
      CHECK(schedule::collapse_axes(d).axes.size() == 3);
      CHECK(schedule::schedule(d, TargetRecord::cuda_sm80()).description.find(",copied,copied}") != std::string::npos);
      Case c;
      c.dispatch = d;
      for (int tile : {3, 7, 12})
        check_fragments(c, tile, static_cast<uint64_t>(piece + rows), "pieces of " + std::to_string(piece));
    }
  }
}

TEST_CASE("random dispatches") {
  uint64_t first = 1, count = 300;
  if (const char *seed = getenv("INGOT_TEST_SEED")) // to look at a failure, or for more
    first = strtoull(seed, nullptr, 10), count = 1;
  if (const char *more = getenv("INGOT_TEST_COUNT"))
    count = strtoull(more, nullptr, 10);
  for (uint64_t seed = first; seed < first + count; ++seed)
    check(random_dispatch(seed), seed, "seed " + std::to_string(seed));
}

TEST_CASE("cost") {
  Case c = matmul(1, 10, 20, 30, false, true, 0, false);
  schedule::Cost cost = schedule::cost(c.dispatch);
  CHECK(cost.flops == Expr(2 * 10 * 20 * 30 + 10 * 20)); // and a bias
  CHECK(cost.bytes == Expr(4 * (10 * 30 + 20 * 30 + 20 + 10 * 20)));
  Symbol t = Symbol::dim("t", 1, 1 << 20);
  CHECK(schedule::cost(softmax(t, 8).dispatch).bytes == Expr(t) * 64);
}

TEST_CASE("the forms get the schedules meant for them") {
  TargetRecord v3 = TargetRecord::x86_64_v3();
  auto named = [&](const Case &c) {
    std::string s = schedule::schedule(c.dispatch, v3).description;
    return s.substr(0, s.find('{'));
  };
  ConvShape dense, depthwise, pointwise;
  depthwise.groups = 8;
  depthwise.in = depthwise.out = 1;
  pointwise.kernel = {1, 1};
  pointwise.pad = {0, 0};
  CHECK(named(conv(dense)) == "window");
  CHECK(named(conv(depthwise)) == "window");
  CHECK(named(conv(pointwise)) == "contract");
  CHECK(named(matmul(1, 8, 8, 8, false, true, 0, false)) == "contract");
  CHECK(named(softmax(4, 100)) == "rows");
  CHECK(named(layer_norm(4, 100)) == "rows");
  CHECK(named(embedding_norm(4, 50, 100)) == "rows");
  CHECK(named(elementwise({4, 100}, 0, 0)) == "lanes");
  CHECK(named(pool(3, {9, 30}, {3, 3}, {2, 2}, {1, 1}, true)) == "lanes");
  CHECK(named(transpose({9, 20}, {1, 0})) == "lanes");
}
