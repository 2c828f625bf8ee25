// Feeds: text there and back, rules, and what they bring.
#include <catch2/catch.hpp>

#include <algorithm>
#include <functional>

#include "aotc/kernel/interpreter.h"
#include "aotc/kernel/text.h"
#include "aotc/kernel/verifier.h"
#include "tests/kernel/feed_kernel.h"

using namespace ingot::aotc;
using namespace ingot::aotc::kernel;

namespace {

RunResult run(const Kernel &k, const feeding::Case &c, std::vector<uint16_t> &y) {
  std::vector<std::vector<uint16_t>> in = c.buffers;
  y.assign(c.results(), 0xffff);
  const int64_t slices[] = {c.slices};
  RunOptions options;
  options.params = {slices, k.params.size()};
  options.grid = {c.groups, 1, 1};
  return interpret(k, std::vector<Binding>{{in[0].data(), 2 * in[0].size()}, {in[1].data(), 2 * in[1].size()}, {y.data(), 2 * y.size()}}, options);
}

void says(const std::string &message, const char *reason) {
  INFO(message);
  CHECK(message.find(reason) != std::string::npos);
}

// A number of slices that is known, so that all is in the body but the loop.
feeding::Case known() {
  feeding::Case c = feeding::make_case(1, 3, 2, 5);
  c.slices_known = true;
  return c;
}
void broken(const char *reason, const std::function<void(Kernel &)> &by) {
  Kernel k = feeding::make_kernel(known());
  REQUIRE(verify(k) == "");
  by(k);
  says(verify(k), reason);
}
std::vector<Op>::iterator first(Kernel &k, Opcode code) {
  auto found = std::find_if(k.body.ops.begin(), k.body.ops.end(), [&](const Op &o) { return o.code == code; });
  REQUIRE(found != k.body.ops.end());
  return found;
}

} // namespace

TEST_CASE("feeds bring boxes of tensors") {
  size_t zeros = 0, others = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    const auto rank = static_cast<size_t>(2 + seed % 4);
    const int64_t stages = 1 + static_cast<int64_t>(seed / 4 % 4), slices = static_cast<int64_t>(seed % 7);
    const feeding::Case c = feeding::make_case(seed, rank, stages, slices);
    const Kernel k = feeding::make_kernel(c);
    INFO("seed " << seed << "\n" << print(k));
    REQUIRE(verify(k) == "");
    REQUIRE(verify_for(k, TargetRecord::cuda_sm90a()) == "");
    says(verify_for(k, TargetRecord::cuda_sm80()), "the target has no feeds");
    Kernel back;
    REQUIRE(parse(print(k), back) == "");
    CHECK(back.tensor_maps == k.tensor_maps);
    CHECK(print(back) == print(k));
    const std::vector<uint16_t> wanted = feeding::expected(c);
    for (const uint16_t v : wanted)
      ++(v == 0 ? zeros : others);
    for (const Kernel &kernel : {k, back}) {
      std::vector<uint16_t> y;
      CHECK(run(kernel, c, y).message == "");
      CHECK(y == wanted);
    }
  }
  CHECK(std::min(zeros, others) > (zeros + others) / 20); // boxes lie within, outside and across
}

TEST_CASE("warpgroups multiply what they are fed") {
  for (auto [columns, slices, stages] : {std::tuple(64, 5, 3), std::tuple(8, 1, 1), std::tuple(256, 4, 2), std::tuple(40, 3, 4)}) {
    const Kernel k = feeding::make_product(columns, slices, stages, true);
    INFO(print(k).substr(0, 4000));
    REQUIRE(verify_for(k, TargetRecord::cuda_sm90a()) == "");
    Kernel back;
    CHECK(parse(print(k), back) == "");
    CHECK(print(back) == print(k));
    feeding::Factors f(columns, slices, 5);
    std::vector<float> y(f.y.size(), -1);
    CHECK(interpret(k, std::vector<Binding>{{f.x.data(), 2 * f.x.size()}, {f.w.data(), 2 * f.w.size()}, {y.data(), 4 * y.size()}}, {}).message == "");
    CHECK(y == f.y);
  }
}

TEST_CASE("what goes wrong with feeds is said") {
  std::vector<uint16_t> y;
  feeding::Case c = known();
  says(run(feeding::make_kernel(c, /*kept=*/4), c, y).message, "slice 3 never comes: its place has not been freed");
  CHECK(run(feeding::make_kernel(c, /*kept=*/2), c, y).message == ""); // as many as there are places
  for (const size_t which : {0, 1}) {
    feeding::Case cut = c;
    int64_t end = 0;
    for (const feeding::Case::Box &box : c.boxes)
      if (box.map.memory == which)
        end = std::max(end, box.map.end());
    cut.buffers[which].resize(static_cast<size_t>(end)); // just enough
    CHECK(run(feeding::make_kernel(c), cut, y).message == "");
    cut.buffers[which].resize(static_cast<size_t>(end - 1));
    says(run(feeding::make_kernel(c), cut, y).message,
         ("a tensor of " + std::to_string(end) + " elements in @" + (which ? "z" : "x") + ", which has " + std::to_string(end - 1)).c_str());
  }
  auto turned = [&](const std::function<void(Builder &, ValueId)> &body) { // after slice 0 was waited for
    Kernel k = feeding::make_kernel(c);
    k.body.ops.erase(first(k, Opcode::kFor), k.body.ops.end());
    Builder b(k);
    const ValueId zero = b.index(0);
    b.feed_wait(zero);
    body(b, zero);
    REQUIRE(verify(k) == "");
    return run(k, c, y).message;
  };
  says(turned([](Builder &b, ValueId) { b.feed_free(b.index(1)); }), "slice 1 is freed out of turn");
  says(turned([](Builder &b, ValueId zero) { b.feed_free(zero), b.feed_free(zero); }), "slice 0 is freed out of turn");
  says(turned([](Builder &b, ValueId zero) { b.feed_free(zero), b.feed_free(b.index(1)); }), "slice 1 is freed out of turn"); // nobody waited for it
  says(turned([](Builder &b, ValueId zero) { b.feed_wait(zero); }), "slice 0 is waited for out of turn");
  says(turned([](Builder &b, ValueId zero) { b.feed_free(zero), b.feed_wait(b.index(2)); }), "slice 2 is waited for out of turn");
  says(turned([](Builder &b, ValueId) { b.feed_wait(b.index(5)); }), "slice 5 of 5");
  says(turned([](Builder &b, ValueId) { b.feed_wait(b.index(-1)); }), "slice -1 of 5");
  CHECK(turned([](Builder &b, ValueId zero) { b.feed_wait(b.index(1)), b.feed_free(zero), b.feed_wait(b.index(2)); }) == "");
}

TEST_CASE("rules of tensor maps") {
  auto map = [](const char *reason, const std::function<void(TensorMap &)> &by) { broken(reason, [&](Kernel &k) { by(k.tensor_maps[0]); }); };
  map("a tensor map of no buffer", [](TensorMap &m) { m.memory = 3; });
  map("of a buffer that is not f16 or bf16, or that is written", [](TensorMap &m) { m.memory = 2; });
  broken("of a buffer that is not f16 or bf16, or that is written", [](Kernel &k) { k.memories[0].type = Scalar::kI16; });
  for (int64_t offset : {int64_t{-8}, int64_t{4}, int64_t{1} << 38})
    map("does not begin at a multiple of 16 bytes", [&](TensorMap &m) { m.offset = offset; });
  broken("does not begin at a multiple of 16 bytes", [](Kernel &k) { k.memories[0].align = 8; });
  map("no dimensions, or of more than 5, or with other numbers", [](TensorMap &m) { m.sizes.clear(), m.strides.clear(), m.box.clear(); });
  map("no dimensions, or of more than 5, or with other numbers",
      [](TensorMap &m) { m.sizes.resize(6, 1), m.strides.resize(6, 8), m.box.resize(6, 1); });
  map("no dimensions, or of more than 5, or with other numbers", [](TensorMap &m) { m.strides.pop_back(); });
  map("no dimensions, or of more than 5, or with other numbers", [](TensorMap &m) { m.box.push_back(1); });
  map("not of lines of 64 elements", [](TensorMap &m) { m.strides[0] = 2; });
  map("not of lines of 64 elements", [](TensorMap &m) { m.box[0] = 32; });
  for (int64_t size : {int64_t{0}, int64_t{-1}, (int64_t{1} << 31) + 1})
    map("a tensor map's size outside 1 to 2^31", [&](TensorMap &m) { m.sizes[1] = size; });
  for (int64_t box : {0, -1, 257})
    map("a tensor map's box outside 1 to 256", [&](TensorMap &m) { m.box[1] = box; });
  for (int64_t stride : {int64_t{0}, int64_t{-8}, int64_t{12}, (int64_t{1} << 38) + 8})
    map("a tensor map's stride that is no multiple of 16 bytes up to 2^39", [&](TensorMap &m) { m.strides[1] = stride; });
  map("a tensor map's box of lines that are not whole eights", [](TensorMap &m) { m.box = {64, 3, 4}; });
}

TEST_CASE("rules of feeds") {
  auto op = [](Opcode code, const char *reason, const std::function<void(Op &)> &by) { broken(reason, [&](Kernel &k) { by(*first(k, code)); }); };
  for (const std::array<uint32_t, 3> &size : {std::array<uint32_t, 3>{48, 1, 1}, {32, 2, 1}, {32, 1, 2}, {1024, 1, 1}})
    broken("whole subgroups in one dimension that leave room", [&](Kernel &k) { k.local_size = size; });
  auto of_other_type = [](Kernel &k, Opcode code) { // its first operand
    k.types.emplace_back(Scalar::kI32);
    Op constant;
    constant.results = {static_cast<ValueId>(k.types.size() - 1)};
    k.body.ops.insert(k.body.ops.begin(), constant);
    first(k, code)->operands[0] = constant.results[0];
  };
  broken("it takes indices", [&](Kernel &k) { of_other_type(k, Opcode::kFeed); });
  broken("it takes indices", [&](Kernel &k) { of_other_type(k, Opcode::kFeedStart); });
  op(Opcode::kFor, "it takes a slice", [](Op &loop) { loop.regions[0].ops[0].operands.push_back(loop.regions[0].params[0]); });
  op(Opcode::kFor, "it takes a slice", [](Op &loop) { loop.regions[0].ops[0].operands.clear(); });
  op(Opcode::kFeed, "it takes an array of the workgroup", [](Op &o) { o.memory = 0; });
  op(Opcode::kFeedStart, "it takes an array of the workgroup", [](Op &o) { o.memory = 77; });
  const char *signals = "its array is not of i64, two a stage, or there are more than 32";
  op(Opcode::kFeedStart, signals, [](Op &o) { o.memory = 3; });
  for (int64_t stages : {0, 1, 3})
    op(Opcode::kFeedStart, signals, [&](Op &o) { o.imm = stages; });
  broken(signals, [](Kernel &k) { first(k, Opcode::kFeedStart)->imm = 33, k.memories[5].count = 66; });
  broken(signals, [](Kernel &k) { k.memories[5].type = Scalar::kI32; });
  for (int64_t map : {-1, 3})
    op(Opcode::kFeed, "no such tensor map", [&](Op &o) { o.imm2 = map; });
  op(Opcode::kFeed, "its coordinates are not as many as the map has dimensions", [](Op &o) { o.operands.pop_back(); });
  op(Opcode::kFeed, "its coordinates are not as many as the map has dimensions", [](Op &o) { o.imms.push_back(0); });
  broken("its array is not of the map's type and aligned to 1,024 bytes", [](Kernel &k) { k.memories[3].align = 512; });
  broken("its array is not of the map's type and aligned to 1,024 bytes",
         [](Kernel &k) { k.memories[3].type = k.memories[3].type == Scalar::kF16 ? Scalar::kBF16 : Scalar::kF16; });
  for (int64_t place : {-512, 64, 256})
    op(Opcode::kFeed, "its place does not begin at a multiple of 8 lines", [&](Op &o) { o.imm = place; });
}

TEST_CASE("feeds come before their start, that before its waits") {
  broken("a feed that the start does not follow", [](Kernel &k) {
    const Op feed = *first(k, Opcode::kFeed);
    k.body.ops.insert(k.body.ops.end(), feed);
  });
  broken("a feed that the start does not follow", [](Kernel &k) { k.body.ops.erase(first(k, Opcode::kFeedStart), k.body.ops.end()); });
  broken("a second start of feeds", [](Kernel &k) { k.body.ops.insert(first(k, Opcode::kFor), *first(k, Opcode::kFeedStart)); });
  broken("a start without feeds", [](Kernel &k) { std::erase_if(k.body.ops, [](const Op &o) { return o.code == Opcode::kFeed; }); });
  broken("not of as many places as the start has stages", [](Kernel &k) { k.memories[3].count += 1; });
  broken("not of as many places as the start has stages", [](Kernel &k) { k.memories[3].count += 2 * 64; });
  broken("the box does not fit its place", [](Kernel &k) { k.memories[3].count -= 2 * 512; });
  broken("the box does not fit its place", [](Kernel &k) { // the second one
    std::find_if(first(k, Opcode::kFeed) + 1, k.body.ops.end(), [](const Op &o) { return o.code == Opcode::kFeed; })->imm += 512;
  });
  for (Opcode code : {Opcode::kFeedWait, Opcode::kFeedFree})
    broken("it comes before the start of feeds", [&](Kernel &k) {
      Op op;
      op.code = code;
      op.operands = {first(k, Opcode::kFeedStart)->operands[0]};
      k.body.ops.insert(first(k, Opcode::kFeedStart), op);
    });
  auto wrapped = [](Kernel &k, Opcode code) { // feeds and all after them
    auto from = first(k, Opcode::kFeed);
    Op outer;
    outer.code = code;
    outer.regions.emplace_back();
    outer.regions[0].ops.assign(from, k.body.ops.end());
    outer.regions[0].ops.emplace_back().code = Opcode::kYield;
    k.body.ops.erase(from, k.body.ops.end());
    Op constant;
    auto number = [&](Scalar type, int64_t value) {
      constant.imm = value;
      constant.results = {static_cast<ValueId>(k.types.size())};
      k.types.emplace_back(type);
      k.body.ops.push_back(constant);
      outer.operands.push_back(constant.results[0]);
    };
    if (code == Opcode::kIf) {
      number(Scalar::kBool, 1);
      outer.regions.emplace_back().ops.emplace_back().code = Opcode::kYield;
    } else {
      for (int64_t value : {0, 1, 1})
        number(Scalar::kIndex, value);
      outer.regions[0].params = {static_cast<ValueId>(k.types.size())};
      k.types.emplace_back(Scalar::kIndex);
    }
    k.body.ops.push_back(outer);
  };
  broken("a start of feeds in a loop", [&](Kernel &k) { wrapped(k, Opcode::kFor); });
  feeding::Case c = known();
  Kernel within = feeding::make_kernel(c);
  wrapped(within, Opcode::kIf);
  CHECK(verify(within) == "");
  std::vector<uint16_t> y;
  CHECK(run(within, c, y).message == "");
  CHECK(y == feeding::expected(c));
  for (Opcode code : {Opcode::kBarrier, Opcode::kFeedFree}) {
    Op op;
    op.code = code;
    if (code == Opcode::kFeedFree)
      op.operands = {first(within, Opcode::kIf)->regions[0].ops[0].operands[0]};
    Kernel after = within, beside = within;
    after.body.ops.push_back(op);
    says(verify(after), "what touches memory may not follow an `if` that has the start");
    std::vector<Op> &other = first(beside, Opcode::kIf)->regions[1].ops;
    other.insert(other.begin(), op);
    says(verify(beside), "the start is in the other branch");
  }
  const char *early = "only what touches no memory may come before the start";
  broken(early, [](Kernel &k) {
    Op barrier;
    barrier.code = Opcode::kBarrier;
    k.body.ops.insert(first(k, Opcode::kFeedStart), barrier);
  });
  broken(early, [](Kernel &k) { // a load
    Op load;
    load.code = Opcode::kLoad;
    load.operands = {first(k, Opcode::kFeed)->operands[0]};
    load.results = {static_cast<ValueId>(k.types.size())};
    k.types.emplace_back(k.memories[0].type);
    k.body.ops.insert(first(k, Opcode::kFeedStart), load);
  });
  Kernel differs = feeding::make_kernel(c);
  first(differs, Opcode::kFeedStart)->operands[0] = first(differs, Opcode::kLocalId)->results[0];
  says(verify(differs), "a feed that is not the same for the whole workgroup");
}
