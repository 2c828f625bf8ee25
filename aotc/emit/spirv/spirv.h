// SPIR-V emitter: a simt kernel becomes one module for Vulkan 1.1 (SPIR-V 1.3), structured control flow one to one.
// Only the capabilities that the kernel uses are declared. Buffer i is descriptor set 0, binding i; params are push
// constants (gpu_layout.h). Float add, sub and mul are decorated NoContraction unless the op is flagged `contract`.
//
// Precision is Vulkan's: division is within 2.5 ulp, square root within 3 ulp or so, and whether denormals, infinities
// and NaNs are kept is the device's to say (float controls).
#pragma once

#include <cstdint>
#include <vector>

#include "aotc/kernel/kernel.h"
#include "aotc/kernel/target.h"

namespace ingot::aotc::emit {

// The module's words, entry point named as the kernel. The kernel verifies for `record` (verify_for). Throws
// InternalError for what has no form in SPIR-V, naming kernel and op.
std::vector<uint32_t> emit_spirv(const kernel::Kernel &kernel, const TargetRecord &record);

} // namespace ingot::aotc::emit
