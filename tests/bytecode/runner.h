// Kernels as bytecode: emitted, verified and run the way the drivers do it, on copies of a case's buffers.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "aotc/kernel/kernel.h"

namespace ingot::aotc::testing {

struct BytecodeRun {
  std::string error; // of the verifier; "" where it ran
  uint64_t error_word = 0;
};

// Runs the whole grid on `buffers`, which are bound with exactly their lengths. The kernel must be legal for
// TargetRecord::bytecode(). `features`: INGOT_CPU_* bits, which choose the microkernels. Fuel 0: the default.
BytecodeRun run_bytecode(const kernel::Kernel &kernel, std::vector<std::vector<uint8_t>> &buffers,
                         const std::vector<int64_t> &params, const std::array<uint32_t, 3> &grid,
                         uint64_t features, uint64_t fuel = 0);

// The same for an image that is already there.
BytecodeRun run_image(const std::vector<uint8_t> &image, const std::vector<uint8_t> &access,
                      std::vector<std::vector<uint8_t>> &buffers, const std::vector<int64_t> &params,
                      const std::array<uint32_t, 3> &grid, uint64_t features, uint64_t fuel = 0);

// The levels of microkernels that this machine runs, as features.
std::vector<uint64_t> lane_levels();

} // namespace ingot::aotc::testing
