// Kernels to native code: the public side of aotc/emit/llvm.
//
//   std::string error;
//   auto v3 = *parse_cpu_target("x86-64-v3", &error);
//   std::vector<CpuKernel> list = {{&kernel, "matmul_v3", record_of(v3), v3}};
//   CpuResult r = compile_cpu(list, {});
//   if (!r.module) report(r.error);
//
// Every version of a kernel is a function of its own in one ELF image, with the convention of schemas/cpu_abi.h. The
// image has no imports, no relocations and no writable data; symbols are found by the offsets given here.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "aotc/emit/llvm/cpu_target.h"
#include "aotc/kernel/kernel.h"
#include "aotc/kernel/target.h"

namespace ingot::aotc {

// One function to compile. The kernel must be legal for the record (kernel::verify_for) and outlive the call.
struct CpuKernel {
  const kernel::Kernel *kernel = nullptr;
  std::string symbol;       // unique in the module; a C identifier
  TargetRecord record;
  CpuTarget target;
};

struct CpuModule {
  struct Symbol {
    std::string name;
    uint64_t offset = 0;         // of the entry point in the loaded image
    uint32_t stack_bytes = 0;    // most stack that a call takes, return address included
    uint64_t scratch_bytes = 0;  // IngotCpuArgs::scratch must have as many
    uint64_t code_bytes = 0;
    uint32_t feature_mask = 0;   // INGOT_CPU_*
  };
  std::vector<uint8_t> elf;      // one R+X PT_LOAD, no section headers
  std::vector<Symbol> symbols;   // in the order of the kernels given
};

struct CpuOptions {
  unsigned opt_level = 2;        // 0..3
  unsigned jobs = 1;             // threads; the bytes do not depend on it
  // Called after compilation, in order, with the text of each compiled batch of functions.
  std::function<void(const std::string &text)> on_llvm; // after optimisation
  std::function<void(const std::string &text)> on_asm;
};

struct CpuResult {
  std::optional<CpuModule> module;
  std::string error;             // where there is no module: what, for which target, and what to do
};

// Compiles all kernels and links them once. All targets must be of one architecture. Kernels that break an emitter's
// precondition throw InternalError. Several threads may call it; links take turns.
CpuResult compile_cpu(const std::vector<CpuKernel> &kernels, const CpuOptions &options);

// One kernel as text: LLVM IR as emitted (opt_level 0) or optimised, and assembly. Throw InternalError as above.
std::string emit_llvm_text(const CpuKernel &kernel, unsigned opt_level = 2);
std::string emit_asm_text(const CpuKernel &kernel, unsigned opt_level = 2);

} // namespace ingot::aotc
