// Long reductions in two steps: which, that they compute the same, and that the sizes alone decide.
#include <catch2/catch.hpp>

#include <random>

#include "aotc/fuse/split_reductions.h"
#include "aotc/schedule/schedule.h"
#include "tests/fuse/execute.h"
#include "tests/schedule/dispatch_maker.h"

using namespace ingot::aotc;
using namespace ingot::aotc::testing;

namespace {

// Dispatches afterwards; the results agree.
size_t check(const Case &c, uint64_t seed, size_t max_operands = 0) {
  INFO(dispatch::print(c.dispatch));
  fuse::Program whole = program_of(c), parts = whole;
  fuse::split_reductions(parts, max_operands);
  INFO(fuse::print(parts));
  const std::map<Symbol, int64_t> dims(c.dims.begin(), c.dims.end());
  const auto inputs = random_inputs(whole, dims, seed);
  auto scheduler = [](const dispatch::Dispatch &d) { return schedule::schedule_naive(d, TargetRecord::x86_64_v2()); };
  auto a = execute(whole, inputs, dims, scheduler), b = execute(parts, inputs, dims, scheduler);
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i)
    CHECK(difference(b[i], a[i]) < 1e-5f);
  return parts.steps.size();
}

} // namespace

TEST_CASE("long rows") {
  CHECK(check(reduce(ReduceKind::kAdd, {3, 8192}, {1}), 1) == 2);
  CHECK(check(reduce(ReduceKind::kMax, {3, 8192}, {1}), 2) == 2);
  CHECK(check(reduce(ReduceKind::kMin, {2, 6 * 4096}, {1}), 3) == 2);
  CHECK(check(reduce(ReduceKind::kAdd, {16384, 2}, {0}), 4) == 2);
  CHECK(check(reduce(ReduceKind::kAdd, {3, 16384}, {1}, ElementType::kI32), 5) == 2);
  CHECK(check(reduce(ReduceKind::kAdd, {4, 2048, 8}, {1, 2}), 6) == 2);
  CHECK(check(reduce(ReduceKind::kAdd, {3, 8191}, {1}), 7) == 1);  // a prime
  CHECK(check(reduce(ReduceKind::kAdd, {300, 4096}, {1}), 8) == 1); // rows enough
  CHECK(check(reduce(ReduceKind::kAdd, {3, 2048}, {1}), 9) == 1);  // short
  CHECK(check(reduce(ReduceKind::kArgMax, {3, 8192}, {1}), 10) == 1);
  CHECK(check(softmax(2, 8192), 11) == 1);
}

TEST_CASE("normalisations of few long rows") {
  // Maximum and sum in two steps each, and what is left.
  CHECK(check(softmax(2, 32768), 1) == 5);
  CHECK(check(softmax(3, 3 * 8192), 2) == 5);
  CHECK(check(softmax(2, 8192), 3) == 1);   // short
  CHECK(check(softmax(2, 32749), 5) == 3);  // a prime: statistics apart, but whole
  std::mt19937_64 random(5);
  for (uint64_t i = 0; i < 2; ++i)
    CHECK(check(softmax(1 + static_cast<int64_t>(random() % 4), 16384 + static_cast<int64_t>(random() % 9000)), i) >= 3);
}

TEST_CASE("products of much depth") {
  CHECK(check(matmul(1, 8, 9, 2048, true, true, 1, false), 1) == 2);
  CHECK(check(matmul(1, 8, 9, 2048, false, true, 3, false), 2) == 2); // a residual
  CHECK(check(matmul(1, 8, 9, 2048, false, true, 3, false), 2, 5) == 2);
  CHECK(check(matmul(1, 8, 9, 2048, false, true, 3, false), 2, 3) == 1); // more operands than a dispatch may have
  CHECK(check(matmul(1, 8, 9, 256, true, true, 1, false), 3) == 1);
  // Tiles of 32 x 32 fill the device, those of 64 x 64 do not.
  auto steps = [](const Case &c, bool units) {
    fuse::Program p = program_of(c);
    fuse::split_reductions(p, 0, units);
    return p.steps.size();
  };
  CHECK(steps(matmul(1, 128, 768, 3072, false, true, 1, false), false) == 1);
  CHECK(steps(matmul(1, 128, 768, 3072, false, true, 1, false), true) == 2);
  CHECK(steps(matmul(1, 128, 768, 1024, false, true, 1, false), true) == 1); // not deep
  CHECK(steps(matmul(1, 1024, 768, 3072, false, true, 1, false), true) == 1); // tiles enough
  Symbol t = Symbol::dim("t", 1, 1 << 20);
  CHECK(check(matmul(1, t, 9, 4096, false, true, 2, false, {{t, 5}}), 4) == 2);
  CHECK(check(matmul(1, 8, 9, t, false, true, 2, false, {{t, 3000}}), 5) == 1); // a depth that is not known
  ConvShape s;
  s.in = 128;
  s.out = 8;
  s.size = {5, 6};
  s.activation = 3;
  CHECK(check(conv(s), 6) == 2);
}

TEST_CASE("random depths") {
  std::mt19937_64 random(3);
  auto pick = [&](std::vector<int64_t> from) { return from[random() % from.size()]; };
  for (uint64_t i = 0; i < 10; ++i)
    check(matmul(pick({1, 2}), pick({4, 7, 16}), pick({4, 9}), pick({512, 768, 1000, 1536, 4096}), random() & 1, true, static_cast<int>(random() % 5), false), i);
}
