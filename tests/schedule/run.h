// Runs scheduled kernels in the interpreter and natively, on seeded data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "aotc/schedule/schedule.h"
#include "tests/schedule/dispatch_maker.h"

namespace ingot::aotc::testing {

struct Buffers {
  std::vector<std::vector<uint8_t>> bytes; // by operand
  uint64_t error_word = 0;                 // of the run: which check failed, 0: none
};

int64_t value_of(const Expr &e, const Case &c);
// Inputs from the seed, outputs filled with a pattern.
Buffers make_buffers(const Case &c, uint64_t seed);
// "" or why the run failed.
std::string interpret(const Case &c, const schedule::Scheduled &s, Buffers &buffers);
// "" where the outputs and the failed checks agree (floats: |a-b| <= 1e-4 |b| + 1e-5 max |b|; others equal), else the first difference.
std::string compare(const Case &c, const Buffers &a, const Buffers &b);
// Packs the constants that prepack_simd chooses: the case becomes the packed one, and so do the buffers.
std::string prepack(Case &c, Buffers &buffers);

} // namespace ingot::aotc::testing
