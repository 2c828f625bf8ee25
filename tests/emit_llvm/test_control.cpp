// Loops with every unroll factor and trip count, branches, while loops, the grid and its ranges, error words.
#include <catch2/catch.hpp>

#include "tests/emit_llvm/case.h"

namespace ingot::aotc::test {
namespace {

using namespace kernel;

} // namespace

TEST_CASE("for loops of any bounds, step and unroll factor") {
  std::vector<Case> cases;
  Random random(21);
  for (bool constant_bounds : {false, true})
    for (uint32_t unroll : {1u, 3u, 4u})
      for (int64_t step : {1, 3}) {
        for (Scalar s : {Scalar::kIndex, Scalar::kI64, Scalar::kI32, Scalar::kI8}) {
          Case c;
          c.kernel.name = "loop";
          Builder b(c.kernel);
          uint32_t bounds = b.add_buffer("bounds", Access::kRead, Scalar::kI64);
          uint32_t out = b.add_buffer("out", Access::kReadWrite, Scalar::kI64);
          Type type(s), i64(Scalar::kI64);
          constexpr int64_t kBounds[][2] = {{0, 0}, {0, 1}, {0, 5}, {2, 11}, {5, 3}, {0, 12}, {-7, 8}, {100, 127}};
          int64_t row = 0;
          for (auto &[lo, hi] : kBounds) {
            auto bound = [&](int64_t value, int64_t at) {
              if (constant_bounds)
                return s == Scalar::kIndex ? b.index(value) : b.constant(type, value);
              return b.convert(type, b.load(bounds, b.index(2 * row + at)));
            };
            ValueId low = bound(lo, 0), high = bound(hi, 1);
            ValueId by = s == Scalar::kIndex ? b.index(step) : b.constant(type, step);
            Values r = b.for_loop(low, high, by, {b.constant(i64, 1), b.constant(i64, 0)},
                                  [&](ValueId i, const Values &acc) {
                                    ValueId v = b.convert(i64, i);
                                    return Values{b.add(b.mul(acc[0], b.constant(i64, 31)), v),
                                                  b.binary(Opcode::kXor, acc[0], acc[1])};
                                  }, unroll);
            b.store(out, b.index(2 * row), r[0]);
            b.store(out, b.index(2 * row + 1), r[1]);
            row++;
          }
          std::vector<uint8_t> data = zeros(Scalar::kI64, 16);
          for (size_t k = 0; k < 8; k++) {
            put(data, Scalar::kI64, 2 * k, static_cast<uint64_t>(kBounds[k][0]));
            put(data, Scalar::kI64, 2 * k + 1, static_cast<uint64_t>(kBounds[k][1]));
          }
          c.buffers = {data, zeros(Scalar::kI64, 16)};
          cases.push_back(std::move(c));
        }
      }
  check_cases(cases);
}

TEST_CASE("counters near the end of their type stop") {
  std::vector<Case> cases;
  for (bool constant_bounds : {false, true})
    for (uint32_t unroll : {1u, 4u})
      for (Scalar s : {Scalar::kI8, Scalar::kI16, Scalar::kI32, Scalar::kI64}) {
        Case c;
        c.kernel.name = "limit";
        Builder b(c.kernel);
        uint32_t in = b.add_buffer("in", Access::kRead, s), out = b.add_buffer("out", Access::kWrite, Scalar::kI64);
        Type type(s);
        int64_t most = static_cast<int64_t>(~uint64_t{0} >> (65 - bit_width(s)));
        ValueId lo = constant_bounds ? b.constant(type, most - 9) : b.load(in, b.index(0));
        ValueId hi = constant_bounds ? b.constant(type, most) : b.load(in, b.index(1));
        Values r = b.for_loop(lo, hi, b.constant(type, 4), {b.constant(Type(Scalar::kI64), 0)},
                              [&](ValueId, const Values &acc) {
                                return Values{b.add(acc[0], b.constant(Type(Scalar::kI64), 1))};
                              }, unroll);
        b.store(out, b.index(0), r[0]);
        std::vector<uint8_t> data = zeros(s, 2);
        put(data, s, 0, static_cast<uint64_t>(most - 9));
        put(data, s, 1, static_cast<uint64_t>(most));
        c.buffers = {data, zeros(Scalar::kI64, 1)};
        cases.push_back(std::move(c));
      }
  check_cases(cases);
}

TEST_CASE("fully unrolled loops over a private array, branches and while loops") {
  std::vector<Case> cases;
  Random random(22);
  {
    Case c;
    c.kernel.name = "unrolled";
    Builder b(c.kernel);
    Type v(Scalar::kF32, 4);
    uint32_t x = b.add_buffer("x", Access::kRead, Scalar::kF32), y = b.add_buffer("y", Access::kWrite, Scalar::kF32);
    uint32_t t = b.add_array("t", Space::kPrivate, Scalar::kF32, 32);
    b.for_loop(b.index(0), b.index(8), b.index(1), {}, [&](ValueId i, const Values &) {
      ValueId at = b.mul(i, b.index(4));
      b.store(t, at, b.load(x, at, 4), 4);
      return Values{};
    }, 0);
    Values sum = b.for_loop(b.index(0), b.index(8), b.index(1), {b.zero(v)}, [&](ValueId i, const Values &acc) {
      return Values{b.add(acc[0], b.load(t, b.mul(i, b.index(4)), 4, 4))};
    }, 0);
    b.store(y, b.index(0), sum[0]);
    c.buffers = {random_elements(Scalar::kF32, 32, random), zeros(Scalar::kF32, 4)};
    cases.push_back(std::move(c));
  }
  {
    // Collatz steps: a while loop around a branch, from values of the group.
    Case c;
    c.kernel.name = "collatz";
    Builder b(c.kernel);
    Type i64(Scalar::kI64);
    uint32_t y = b.add_buffer("y", Access::kWrite, Scalar::kI64);
    ValueId g = b.group_id(0), one = b.constant(i64, 1), two = b.constant(i64, 2);
    Values r = b.while_loop({b.add(b.convert(i64, g), one), b.constant(i64, 0)},
                            [&](const Values &v) { return std::pair{b.compare(Opcode::kGt, v[0], one), v}; },
                            [&](const Values &v) {
                              ValueId odd = b.compare(Opcode::kNe, b.rem(v[0], two), b.constant(i64, 0));
                              Values next = b.if_else(
                                  odd, [&] { return Values{b.add(b.mul(v[0], b.constant(i64, 3)), one)}; },
                                  [&] { return Values{b.div(v[0], two)}; });
                              return Values{next[0], b.add(v[1], one)};
                            });
    b.store(y, g, r[1]);
    c.grid = {50, 1, 1};
    c.buffers = {zeros(Scalar::kI64, 50)};
    cases.push_back(std::move(c));
  }
  {
    Case c;
    c.kernel.name = "branches";
    Builder b(c.kernel);
    Type v(Scalar::kF32, 8);
    uint32_t x = b.add_buffer("x", Access::kRead, Scalar::kF32),
             y = b.add_buffer("y", Access::kReadWrite, Scalar::kF32);
    ValueId g = b.group_id(0), at = b.mul(g, b.index(8));
    ValueId big = b.compare(Opcode::kGt, b.load(x, at), b.constant_float(Type(Scalar::kF32), 0));
    Values r = b.if_else(
        big, [&] { return Values{b.mul(b.load(x, at, 8), b.constant_float(v, 2)), b.index(1)}; },
        [&] { return Values{b.zero(v), b.index(0)}; });
    b.if_then(b.compare(Opcode::kEq, r[1], b.index(1)), [&] { b.store(y, at, r[0]); });
    b.if_then(b.compare(Opcode::kLt, g, b.index(0)), [&] { b.store(y, b.index(0), r[0]); });
    c.grid = {20, 1, 1};
    c.buffers = {random_elements(Scalar::kF32, 160, random), random_elements(Scalar::kF32, 160, random)};
    cases.push_back(std::move(c));
  }
  check_cases(cases);
}

TEST_CASE("group ids follow x, y, z; params of every type; error words") {
  std::vector<Case> cases;
  for (std::array<uint32_t, 3> grid :
       {std::array<uint32_t, 3>{1, 1, 1}, {7, 1, 1}, {1, 5, 1}, {1, 1, 6}, {3, 4, 5}, {2, 1, 9}})
    for (int64_t limit : {1000, 17}) {
      Case c;
      c.kernel.name = "grid";
      Builder b(c.kernel);
      uint32_t out = b.add_buffer("out", Access::kWrite, Scalar::kI64),
               f = b.add_buffer("f", Access::kWrite, Scalar::kF32);
      ValueId limit_param = b.add_param("limit", Scalar::kIndex, 0, 100000), small = b.add_param("small", Scalar::kI32),
              wide = b.add_param("wide", Scalar::kI64), real = b.add_param("real", Scalar::kF32);
      ValueId g = b.add(b.group_id(0),
                        b.mul(b.grid_size(0), b.add(b.group_id(1), b.mul(b.grid_size(1), b.group_id(2)))));
      ValueId packed =
          b.add(b.mul(b.group_id(0), b.index(10000)), b.add(b.mul(b.group_id(1), b.index(100)), b.group_id(2)));
      Type i64(Scalar::kI64);
      b.store(out, b.mul(g, b.index(2)), b.convert(i64, packed));
      b.store(out, b.add(b.mul(g, b.index(2)), b.index(1)),
              b.add(b.convert(i64, small), b.add(wide, b.convert(i64, b.grid_size(2)))));
      b.store(f, g, real);
      b.error_if(b.compare(Opcode::kGe, g, limit_param), 3, 41);
      c.grid = grid;
      size_t n = size_t{grid[0]} * grid[1] * grid[2];
      c.params = {limit, -5, int64_t{1} << 40, 0x40490fdb};
      c.buffers = {zeros(Scalar::kI64, 2 * n), zeros(Scalar::kF32, n)};
      cases.push_back(std::move(c));
    }
  check_cases(cases);
}

} // namespace ingot::aotc::test
