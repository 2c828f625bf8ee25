// The math functions, written in kernel ops: no target needs a libm. At most 4 ulp in f32 over the whole range
// (tests/kernel prints the table); f16 and bf16 are computed in f32 and rounded; f64 is documented in the source.
//
// In kernels that write nothing but f16 and take no logarithms, exp is off by up to 7.2e-6 of its value and is 0 below e^-87, and erf is off
// by up to 3.4e-5 (below 1/4 by 1.8e-5 of its value): a seventh of an f16's last place.
#pragma once

#include "aotc/kernel/kernel.h"

namespace ingot::aotc::kernel {

// Replaces every op for which is_math() holds.
void expand_math(Kernel &kernel);

} // namespace ingot::aotc::kernel
