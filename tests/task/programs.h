// Archives for the tests of local-task: programs whose commands really depend on each other's order, and whose
// sites claim costs, so that they are shared or not as the test wants.
#pragma once

#include <cstdint>
#include <vector>

namespace task_programs {

// y[n] = what a random straight line of kernels, copies and fills makes of x[n]: overlapping ranges of one
// arena of n floats, read, written and blended in place. `flops` is what each dispatch claims to cost: 1 keeps
// everything on one thread, 1,000,000 shares all of it; -1 mixes both. The same seed gives the same program.
std::vector<uint8_t> random_line(uint32_t seed, int64_t n, uint32_t commands, int64_t flops);

// y[n] from x[n], `dispatches` of them side by side, refuse_f32 each: error site number d, code 1000 + index of
// the element.
std::vector<uint8_t> refusals(int64_t n, uint32_t dispatches);

// The number of workgroups run: each of the dispatches counts its `groups`, every one slow by `steps`. One
// after the other.
std::vector<uint8_t> slow_counts(uint32_t groups, uint32_t dispatches, int64_t steps);

// `dispatches` empty kernels of `groups` workgroups that claim to cost `flops` each, after one another.
std::vector<uint8_t> claiming_empties(uint32_t dispatches, uint32_t groups, int64_t flops);

} // namespace task_programs
