// CPU targets of the LLVM emitter: what the user types, as a normalised triple, an LLVM CPU name and feature list, and
// the required-feature mask of schemas/cpu_abi.h that the code compiled for it carries.
//
//   x86-64-v2 | x86-64-v3 | x86-64-v4   the ranked x86 code versions
//   x86-64-v4-vnni                       and with AVX-512 VNNI, for kernels that gain from it
//   host                                 this machine, rounded down to features that the mask can express
//   <triple>[,cpu=NAME][,features=+a,-b] any ELF target that LLVM was built with, e.g. aarch64-linux-gnu
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "aotc/kernel/target.h"

namespace llvm {
class TargetMachine;
}

namespace ingot::aotc {

struct CpuTarget {
  std::string name;          // as typed; for messages
  std::string triple;        // normalised
  std::string cpu;           // LLVM's name; empty: the architecture's generic one
  std::string features;      // LLVM's feature list, "+a,-b"
  uint32_t feature_mask = 0; // INGOT_CPU_*: where code for this target may run
  bool operator==(const CpuTarget &) const = default;
};

// Parses what the user typed. Returns nothing and says why in *error where the text is malformed, the triple names an
// architecture that this LLVM lacks, its objects are not ELF, or it does not know the CPU.
std::optional<CpuTarget> parse_cpu_target(std::string_view text, std::string *error);

// The facts that schedules need of the target: vector width, fused multiply-add, masked memory.
TargetRecord record_of(const CpuTarget &target);

// A machine for one thread's use: position-independent code, small code model, no unwind tables. Null with *error set
// where LLVM refuses. `opt_level` is 0..3.
std::unique_ptr<llvm::TargetMachine> create_target_machine(const CpuTarget &target, unsigned opt_level,
                                                           std::string *error);

} // namespace ingot::aotc
