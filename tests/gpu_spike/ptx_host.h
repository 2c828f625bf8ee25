// PTX on this CPU, in the interpreter of tests/mock.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "aotc/kernel/kernel.h"

namespace ingot::aotc::gpu_spike {

// Runs the entry on the buffers, in binding order; params as param_words() gives them; shared_bytes: workgroup memory given at
// launch. `early`: the kernel of the text, with its tensor maps, which then begins before kernels ahead have ended that write all buffers but its constants;
// early_reads: how often it reads before it waits for those.
// "" or what went wrong.
std::string run_ptx(const std::string &text, const std::string &entry, std::vector<std::vector<uint32_t>> &buffers,
                    const std::vector<std::pair<int, uint64_t>> &params, const std::array<uint32_t, 3> &grid,
                    const std::array<uint32_t, 3> &local, uint32_t shared_bytes = 0,
                    const kernel::Kernel *early = nullptr, size_t *early_reads = nullptr);

} // namespace ingot::aotc::gpu_spike
