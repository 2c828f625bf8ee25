// Cases for GPU code: a simt kernel with sizes, inputs, and what it must compute, by a plain reference in double. The
// bound of each element is a rounding analysis of f32, not a guessed tolerance.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "aotc/kernel/kernel.h"
#include "aotc/kernel/target.h"

namespace ingot::aotc::gpu_spike {

// What every element of an output holds before a run: it must be overwritten, and what lies behind the output must not.
inline constexpr uint32_t kCanary = 0xcafef00d;
inline constexpr size_t kGuardWords = 64; // behind each buffer on devices

struct Case {
  std::string name;                       // "matmul_17x1x31", a file name
  kernel::Kernel kernel;                  // as scheduled
  std::array<uint32_t, 3> grid = {1, 1, 1};
  std::vector<int64_t> params;
  std::vector<std::vector<uint32_t>> buffers; // 32-bit words, the output prefilled with kCanary
  size_t output = 0;                      // which buffer
  bool integer = false;                   // the output is i32 and compared exactly, else f32
  std::vector<double> expected, bound;    // per element: |got - expected| <= bound
};

// The four kernels at sizes that include 1s, primes, several tiles and folded grids; `seed` draws sizes and inputs.
std::vector<Case> make_cases(const TargetRecord &record, uint64_t seed);

// "" if `words` is what the case expects, else the first element that is not.
std::string check(const Case &c, const std::vector<uint32_t> &words);

// Emulates a workgroup grid limit, to walk the folded-grid path at small sizes.
TargetRecord with_small_grid(TargetRecord record);

} // namespace ingot::aotc::gpu_spike
