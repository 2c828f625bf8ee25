// The passes that kernels need, no more: schedules choose vectors, tiles and unrolling, so LLVM's vectorisers, unroller
// and loop idioms (which make memset calls) stay off, and no library function is known to any pass.
#pragma once

#include <cstdint>
#include <vector>

namespace llvm {
class Module;
class TargetMachine;
}

namespace ingot::aotc {

// Replaces integer divisions of more than `bits` bits by loops, where LLVM would call a library.
void expand_divisions(llvm::Module &module, unsigned bits);

// Simplifies and hoists; `opt_level` 0 does nothing, 3 runs the pipeline twice.
void optimise_module(llvm::Module &module, llvm::TargetMachine &machine, unsigned opt_level);

// Machine code as an object file or as assembly text. Changes the module.
void generate_code(llvm::Module &module, llvm::TargetMachine &machine, bool object, std::vector<uint8_t> &out);

} // namespace ingot::aotc
