// Memory ops: whole, partial, predicated and scattered accesses of every type, arrays on the stack and in scratch,
// atomics. Buffers hold exactly what may be accessed; check_cases() sees writes behind them.
#include <catch2/catch.hpp>

#include "tests/emit_llvm/case.h"

namespace ingot::aotc::test {
namespace {

using namespace kernel;

constexpr uint32_t kLanes[] = {1, 4, 8, 16};

} // namespace

TEST_CASE("partial loads and stores touch the counted lanes only, for any count") {
  Random random(11);
  std::vector<Case> cases;
  for (uint32_t lanes : kLanes)
    for (Scalar s : kAllScalars) {
      Case c;
      c.kernel.name = "part";
      Builder b(c.kernel);
      uint32_t counts = b.add_buffer("counts", Access::kRead, Scalar::kI64), x = b.add_buffer("x", Access::kRead, s);
      uint32_t whole = b.add_buffer("whole", Access::kWrite, s), part = b.add_buffer("part", Access::kReadWrite, s);
      uint32_t groups = lanes + 4;
      Type type(s, lanes);
      ValueId g = b.group_id(0), base = b.mul(g, b.index(lanes));
      ValueId count = b.convert(Type(Scalar::kIndex), b.load(counts, g));
      // Reads at an odd place too, so that nothing may rely on alignment.
      ValueId v = b.load_part(x, base, count, b.load(x, b.index(3), lanes));
      b.store(whole, base, v);
      b.store_part(part, base, v, count);
      c.grid = {groups, 1, 1};
      std::vector<uint8_t> n = zeros(Scalar::kI64, groups);
      for (uint32_t k = 0; k < groups; k++)
        put(n, Scalar::kI64, k, k == 0 ? INT64_MIN : k == 1 ? INT64_MAX : k == 2 ? ~uint64_t{0} : k - 3);
      c.buffers = {n, random_elements(s, size_t{groups} * lanes + 3, random), zeros(s, size_t{groups} * lanes),
                   random_elements(s, size_t{groups} * lanes, random)};
      cases.push_back(std::move(c));
    }
  check_cases(cases);
}

TEST_CASE("a partial access at a buffer's end stays inside it") {
  Random random(12);
  std::vector<Case> cases;
  for (uint32_t lanes : {4u, 8u, 16u})
    for (Scalar s : {Scalar::kI8, Scalar::kF16, Scalar::kF32, Scalar::kF64, Scalar::kBool}) {
      Case c;
      c.kernel.name = "tail";
      Builder b(c.kernel);
      ValueId n = b.add_param("n", Scalar::kIndex, 0, 1 << 20);
      uint32_t x = b.add_buffer("x", Access::kRead, s), y = b.add_buffer("y", Access::kWrite, s);
      b.for_loop(b.index(0), n, b.index(lanes), {}, [&](ValueId i, const Values &) {
        ValueId left = b.sub(n, i);
        b.store_part(y, i, b.load_part(x, i, left, b.zero(Type(s, lanes))), left);
        return Values{};
      });
      uint32_t count = 3 * lanes + 3;
      c.params = {count};
      c.buffers = {random_elements(s, count, random), zeros(s, count)};
      cases.push_back(std::move(c));
    }
  check_cases(cases);
}

TEST_CASE("predicated, gathered and scattered accesses of every type") {
  Random random(13);
  std::vector<Case> cases;
  for (uint32_t lanes : kLanes)
    for (Scalar s : kAllScalars) {
      Case c;
      c.kernel.name = "predicated";
      Builder b(c.kernel);
      uint32_t x = b.add_buffer("x", Access::kRead, s), masks = b.add_buffer("masks", Access::kRead, Scalar::kBool);
      uint32_t indices = b.add_buffer("indices", Access::kRead, Scalar::kI64);
      uint32_t r = b.add_buffer("r", Access::kWrite, s), w = b.add_buffer("w", Access::kReadWrite, s);
      constexpr uint32_t kGroups = 12;
      int64_t row = kGroups * lanes;
      ValueId g = b.group_id(0), base = b.mul(g, b.index(lanes));
      ValueId v = b.load(x, base, lanes), mask = b.load(masks, base, lanes);
      ValueId one = lanes > 1 ? b.extract(mask, 0) : mask;
      ValueId other = b.load(x, b.add(base, b.index(row)), lanes);
      // Where the condition is false the index is far outside: it must not matter.
      ValueId far = b.select(one, base, b.index(int64_t{1} << 40));
      b.store(r, base, b.load_if(x, one, far, other));
      b.store_if(w, one, far, v);
      b.store(r, b.add(base, b.index(row)), b.load_if(x, mask, base, other));
      b.store_if(w, mask, b.add(base, b.index(row)), v);
      if (lanes > 1) {
        ValueId at = b.convert(Type(Scalar::kIndex, lanes), b.load(indices, base, lanes));
        ValueId wild = b.select(mask, at, b.splat(b.index(int64_t{1} << 40), lanes));
        b.store(r, b.add(base, b.index(2 * row)), b.gather(x, at));
        b.store(r, b.add(base, b.index(3 * row)), b.gather(x, wild, mask, other));
        // Equal indices in one scatter: the last lane wins. Groups write apart, since they run in any order.
        ValueId own = b.add(at, b.splat(b.add(b.index(2 * row), b.mul(g, b.index(row))), lanes));
        b.scatter(w, own, v);
        b.scatter(w, b.select(mask, own, wild), other, mask);
      }
      c.grid = {kGroups, 1, 1};
      std::vector<uint8_t> at = zeros(Scalar::kI64, static_cast<size_t>(row));
      for (int64_t k = 0; k < row; k++)
        put(at, Scalar::kI64, static_cast<size_t>(k), random.below(static_cast<uint64_t>(row < 8 ? row : 8)));
      size_t n = static_cast<size_t>(row);
      c.buffers = {random_elements(s, 2 * n, random), random_elements(Scalar::kBool, n, random), at, zeros(s, 4 * n),
                   random_elements(s, (2 + kGroups) * n, random)};
      cases.push_back(std::move(c));
    }
  check_cases(cases);
}

TEST_CASE("aligned accesses, and loads of bools that are not 0 or 1") {
  Random random(14);
  std::vector<Case> cases;
  for (Scalar s : {Scalar::kI8, Scalar::kF16, Scalar::kF32, Scalar::kF64}) {
    Case c;
    c.kernel.name = "aligned";
    Builder b(c.kernel);
    uint32_t lanes = 64 / byte_size(s);
    if (lanes > 64)
      lanes = 64;
    uint32_t x = b.add_buffer("x", Access::kRead, s), y = b.add_buffer("y", Access::kWrite, s);
    ValueId base = b.mul(b.group_id(0), b.index(lanes));
    b.prefetch(x, b.add(base, b.index(1 << 20)));
    b.store(y, base, b.load(x, base, lanes, lanes), lanes);
    c.grid = {5, 1, 1};
    c.buffers = {random_elements(s, size_t{5} * lanes, random), zeros(s, size_t{5} * lanes)};
    cases.push_back(std::move(c));
  }
  Case c;
  c.kernel.name = "bools";
  Builder b(c.kernel);
  uint32_t x = b.add_buffer("x", Access::kRead, Scalar::kBool), y = b.add_buffer("y", Access::kWrite, Scalar::kBool);
  b.store(y, b.index(0), b.load(x, b.index(0), 8));
  b.store(y, b.index(8), b.unary(Opcode::kNot, b.load(x, b.index(1))));
  c.buffers = {{0, 1, 2, 0x80, 0xff, 4, 0, 1}, zeros(Scalar::kBool, 9)};
  cases.push_back(std::move(c));
  check_cases(cases);
}

TEST_CASE("private arrays on the stack and in scratch") {
  Random random(15);
  std::vector<Case> cases;
  for (uint64_t count : {8u, 64u, 1024u, 5000u}) // the last two are 4 KiB of f32 and more
    for (Scalar s : {Scalar::kF32, Scalar::kI8, Scalar::kF64, Scalar::kBool}) {
      Case c;
      c.kernel.name = "arrays";
      Builder b(c.kernel);
      uint32_t x = b.add_buffer("x", Access::kRead, s), y = b.add_buffer("y", Access::kWrite, s);
      uint32_t t = b.add_array("t", Space::kPrivate, s, count), u = b.add_array("u", Space::kPrivate, s, count, 64);
      ValueId n = b.index(static_cast<int64_t>(count)), base = b.mul(b.group_id(0), n);
      b.for_loop(b.index(0), n, b.index(1), {}, [&](ValueId i, const Values &) {
        b.store(t, b.sub(b.sub(n, b.index(1)), i), b.load(x, b.add(base, i)));
        b.store(u, i, b.load(x, base));
        return Values{};
      });
      b.for_loop(b.index(0), n, b.index(4), {}, [&](ValueId i, const Values &) {
        ValueId v = b.load(t, i, 4, 4);
        b.store(y, b.add(base, i), v);
        return Values{};
      });
      b.store(y, base, b.load(u, b.sub(n, b.index(1))));
      c.grid = {3, 1, 1};
      c.buffers = {random_elements(s, 3 * count, random), zeros(s, 3 * count)};
      cases.push_back(std::move(c));
    }
  check_cases(cases);
}

TEST_CASE("atomics give the old value") {
  std::vector<Case> cases;
  Random random(16);
  for (Scalar s : {Scalar::kI32, Scalar::kI64}) {
    Case c;
    c.kernel.name = "atomics";
    Builder b(c.kernel);
    uint32_t x = b.add_buffer("x", Access::kRead, s), y = b.add_buffer("y", Access::kReadWrite, s);
    uint32_t old = b.add_buffer("old", Access::kWrite, s);
    ValueId g = b.group_id(0), v = b.load(x, g);
    int64_t k = 0;
    for (Opcode op : {Opcode::kAtomicAdd, Opcode::kAtomicMin, Opcode::kAtomicMax}) {
      ValueId before = b.atomic(op, y, b.index(k), v);
      b.store(old, b.add(b.mul(g, b.index(3)), b.index(k)), before);
      k++;
    }
    c.grid = {40, 1, 1};
    c.buffers = {random_elements(s, 40, random), random_elements(s, 3, random), zeros(s, 120)};
    cases.push_back(std::move(c));
  }
  check_cases(cases);
}

} // namespace ingot::aotc::test
