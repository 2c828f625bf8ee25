// The math functions, written in kernel ops: no target needs a libm. At most 4 ulp in f32 over the whole range
// (tests/kernel prints the table); f16 and bf16 are computed in f32 and rounded; f64 is documented in the source.
//
// In kernels that write nothing but f16 and take no logarithms, exp is off by at most 4e-5 of its value, and 0 below e^-87, and erf by at most
// 4e-5, before they are rounded to f16: within one unit of its last place then (tests/kernel prints what they are off by).
#pragma once

#include "aotc/kernel/kernel.h"

namespace ingot::aotc::kernel {

// Replaces every op for which is_math() holds.
void expand_math(Kernel &kernel);

} // namespace ingot::aotc::kernel
