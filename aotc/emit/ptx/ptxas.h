// PTX to machine code of one chip, by NVIDIA's assembler, which the user has.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ingot::aotc::emit {

// Runs `ptxas` (a path, or a name to be found on PATH) on the text. Empty with *error set where it cannot be run or refuses.
// May be called from several threads.
std::vector<uint8_t> assemble_ptx(const std::string &ptxas, const std::string &text, const std::string &architecture, std::string *error);

} // namespace ingot::aotc::emit
