// Text emitters: a simt kernel as WGSL or MSL source. One printer (printer.h) with two dialects.
//
// Buffer i is binding i (WGSL: group 0; MSL: buffer(i)), then the params as a constant buffer, then the error word
// (gpu_layout.h). Integers are 32 bits in WGSL; neither WGSL nor its implementations promise anything about NaN,
// infinity, denormals or contraction.
#pragma once

#include <string>

#include "aotc/kernel/kernel.h"
#include "aotc/kernel/target.h"

namespace ingot::aotc::emit {

// The name of the entry function in the text: no kernel's name then clashes with a word of the language.
std::string text_entry(const kernel::Kernel &kernel);

// One complete shader module. The kernel verifies for `record`. Throws InternalError for what has no form in the
// language, naming kernel and op.
std::string emit_wgsl(const kernel::Kernel &kernel, const TargetRecord &record);
std::string emit_msl(const kernel::Kernel &kernel, const TargetRecord &record);

} // namespace ingot::aotc::emit
