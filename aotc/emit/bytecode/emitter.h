// Kernel IR to the bytecode of target vmvx (schemas/bytecode.h). The kernel must be legal for
// TargetRecord::bytecode(): math functions, f16 and bf16 are gone. What comes out passes the runtime's
// verifier.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "aotc/kernel/kernel.h"

namespace ingot::aotc {

struct BytecodeKernel {
  std::vector<uint8_t> bytes; // header, memories, instructions
  uint32_t instructions = 0;
  uint32_t slots = 0;
  uint64_t scratch_bytes = 0; // memories, registers and arrays of one call
};

// Throws InternalError for a kernel that is not legal, or that wants more registers than there are.
BytecodeKernel emit_bytecode(const kernel::Kernel &kernel);

} // namespace ingot::aotc
