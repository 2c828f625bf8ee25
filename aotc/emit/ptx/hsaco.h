// HSACO emitter: simt kernels as code objects for AMD GPUs, through LLVM's AMDGPU backend and lld. What an entry looks like is in
// gpu_function.h; its metadata (code object v5) names arguments, workgroup size and memory.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "aotc/kernel/kernel.h"
#include "aotc/kernel/target.h"

namespace llvm {
class Module;
}
namespace ingot::aotc {
struct CodeTraits;
}

namespace ingot::aotc::emit {

// The record of a chip that the command line may name: gfx90a, gfx942, gfx1030, gfx1100, gfx1201; nullopt for others.
std::optional<TargetRecord> rocm_record(const std::string &chip);
extern const char *const kRocmChips; // their names, for messages

// One code object with the kernel, named as it. Throws InternalError for what has no form on the chip.
std::vector<uint8_t> emit_hsaco(const kernel::Kernel &kernel, const TargetRecord &record, const std::string &chip);
// The kernel in LLVM's words, as a function of the module, whatever the module is for: tests run it on a CPU, with functions in the place
// of AMDGPU's intrinsics.
void emit_amdgpu_function(const kernel::Kernel &kernel, const TargetRecord &record, const CodeTraits &traits, llvm::Module &module);

} // namespace ingot::aotc::emit
