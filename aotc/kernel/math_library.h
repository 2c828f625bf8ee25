// The math functions, written in kernel ops: no target needs a libm. At most 4 ulp in f32 over the whole range
// (tests/kernel prints the table); f16 and bf16 are computed in f32 and rounded; f64 is documented in the source.
#pragma once

#include "aotc/kernel/kernel.h"

namespace ingot::aotc::kernel {

// Replaces every op for which is_math() holds.
void expand_math(Kernel &kernel);

} // namespace ingot::aotc::kernel
