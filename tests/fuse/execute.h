// Runs a fused program step by step in the reference interpreter, loops included.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "aotc/fuse/fuse.h"
#include "aotc/schedule/schedule.h"
#include "tests/schedule/dispatch_maker.h"

namespace ingot::aotc::testing {

using Memory = std::vector<std::vector<uint8_t>>; // by tensor
using Scheduler = std::function<schedule::Scheduled(const dispatch::Dispatch &)>;

// The dispatch as a program whose operands are inputs and outputs; `first`: the dims of its first input, where it has several.
fuse::Program program_of(const Case &c, const std::vector<Expr> &first = {});
// Its f32 and i32 inputs, from a seed.
std::vector<std::vector<uint8_t>> random_inputs(const fuse::Program &program, const std::map<Symbol, int64_t> &dims, uint64_t seed);

// f32 inputs of functions, from a seed, by position.
std::vector<std::vector<uint8_t>> random_inputs(const graph::Function &f, const std::map<Symbol, int64_t> &dims, uint64_t seed);

// The outputs, by position. Throws where a step cannot be run.
std::vector<std::vector<uint8_t>> execute(const fuse::Program &program, const std::vector<std::vector<uint8_t>> &inputs,
                                          std::map<Symbol, int64_t> symbols, const Scheduler &scheduler);

// The largest |a - b| over the largest |b|; infinite where one is NaN and the other is not.
float difference(const std::vector<uint8_t> &a, const std::vector<uint8_t> &b);

} // namespace ingot::aotc::testing
