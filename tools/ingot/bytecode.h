// Bytecode as text, for `ingot inspect --disassemble`.
#pragma once

#include <string>
#include <vector>

#include "tools/ingot/model.h"

namespace ingot::tool {

// A line an instruction; one line that says why where the kernel is no bytecode that this tool can read.
std::vector<std::string> disassemble(const Archive &archive, uint32_t variant, uint32_t kernel,
                                     uint32_t version);

} // namespace ingot::tool
