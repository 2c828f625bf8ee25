// PTX emitter: simt kernels through LLVM's NVPTX backend, sharing the CPU emitter's lowering of every value op
// (aotc/emit/llvm/function_emitter.h).
//
// A kernel becomes `.entry NAME(buffers' pointers..., params..., [error pointer])`: global pointers that never alias,
// index and i32 params as .u32, i64 as .u64, f32 as .f32; the error pointer is there where the kernel has error ops and
// addresses a 64-bit word (site << 32 | code, 0 = none). Workgroup arrays are static shared memory; .reqntid is the
// kernel's local size. Floats contract only where an op says so.
#pragma once

#include <string>
#include <vector>

#include "aotc/kernel/kernel.h"
#include "aotc/kernel/target.h"

namespace ingot::aotc::emit {

struct PtxOptions {
  std::string architecture = "sm_80"; // also what older ptxas and driver JITs compile forward from
  unsigned isa = 70;                  // PTX ISA version times 10
  unsigned opt_level = 2;
};

// One PTX module with an entry per kernel, named as the kernels. Throws InternalError for what has no form in PTX.
std::string emit_ptx(const std::vector<const kernel::Kernel *> &kernels, const TargetRecord &record,
                     const PtxOptions &options = {});

} // namespace ingot::aotc::emit
