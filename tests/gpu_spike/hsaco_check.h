// Code objects for AMD GPUs, looked at by LLVM's tools: nothing here runs them.
#pragma once

#include <string>
#include <vector>

#include "aotc/kernel/kernel.h"

namespace ingot::aotc::gpu_spike {

// "" or why LLVM's tools are not there.
std::string hsaco_tools_missing();
// "" or what the code object of that kernel lacks: its metadata names the kernel, its arguments and its workgroups; its code
// disassembles, ends, and has barriers where the kernel has.
std::string check_hsaco(const kernel::Kernel &kernel, const std::vector<uint8_t> &object);
// Instructions of that name (its beginning), and whether registers went to memory; -1 where it does not disassemble.
struct HsacoCode {
  int instructions = -1;
  long long spilled = -1;
};
HsacoCode look_into_hsaco(const std::vector<uint8_t> &object, const std::string &instruction);

} // namespace ingot::aotc::gpu_spike
