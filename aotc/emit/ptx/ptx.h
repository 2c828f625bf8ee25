// PTX emitter: simt kernels through LLVM's NVPTX backend. What an entry looks like is in gpu_function.h: index and i32 params
// are .u32, i64 .u64, f32 .f32. Workgroup arrays are static shared memory, or parts of an external array that is
// given at launch (workgroup_layout in gpu_layout.h); .reqntid is the kernel's local size. Floats contract only where an op says so.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "aotc/kernel/kernel.h"
#include "aotc/kernel/target.h"

namespace ingot::aotc::emit {

struct PtxOptions {
  std::string architecture = "sm_80"; // also what older ptxas and driver JITs compile forward from
  unsigned isa = 70;                  // PTX ISA version times 10
  int opt_level = 2;
  bool dependent_launch = false;      // the kernel may be started early, and waits for the one before it (sm_90 and later)
};

// What goes with a name of the command line: sm_80, sm_90, sm_90a; nullopt for others.
std::optional<PtxOptions> ptx_options(const std::string &architecture);

// One PTX module with an entry per kernel, named as the kernels. Throws InternalError for what has no form in PTX.
std::string emit_ptx(const std::vector<const kernel::Kernel *> &kernels, const TargetRecord &record,
                     const PtxOptions &options = {});

} // namespace ingot::aotc::emit
