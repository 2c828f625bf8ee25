// Kernels for AMD GPUs on this CPU: what the HSACO emitter says in LLVM's words, compiled for this machine, with functions in the place of
// AMDGPU's intrinsics. A workgroup's threads are fibers; a wave's lanes meet at what they do together. Matrix units have their operands
// where AMD's documents say (aotc/emit/ptx/amd_fragments.h names them).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "aotc/kernel/kernel.h"
#include "aotc/kernel/target.h"

namespace ingot::aotc::gpu_spike {

// What a test has go wrong on purpose.
enum class AmdFault { kNone, kSumsElsewhere, kFactorElsewhere, kNoExchange, kNoBarriers };

// Runs a kernel that is legal for the record on the buffers, in binding order; params as param_words() gives them. products: of matrix
// units, by all waves. "" or what went wrong.
std::string run_amd(const kernel::Kernel &kernel, const TargetRecord &record, std::vector<std::vector<uint32_t>> &buffers,
                    const std::vector<std::pair<int, uint64_t>> &params, const std::array<uint32_t, 3> &grid, size_t *products = nullptr,
                    AmdFault fault = AmdFault::kNone);

} // namespace ingot::aotc::gpu_spike
