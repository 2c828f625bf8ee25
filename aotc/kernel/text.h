// Kernels as text, for people, tests and hashing. Printing is deterministic, values are renumbered in order of
// appearance, and print(parse(print(k))) == print(k). Floats are printed so that they read back exactly.
//
//   kernel @add simd local 1 1 1 {
//     param %0 = n : index range 0 1048576
//     buffer @x read f32 align 64
//     buffer @y write f32 align 64
//     array @tile workgroup f32 256 align 16
//     %1 = const 0 : index
//     ...
//     %5 = for %4 = %1 to %0 step %2 carry %6 = %3 : f32 {
//       %7 = load @x[%4] : f32
//       %8 = add %6, %7 : f32
//       yield %8
//     }
//     store @y[%1], %5
//   }
#pragma once

#include <string>
#include <string_view>

#include "aotc/kernel/kernel.h"

namespace ingot::aotc::kernel {

std::string print(const Kernel &kernel);
// One op (with its regions), with the kernel's own value numbers; for messages.
std::string print_op(const Kernel &kernel, const Op &op);

// Fills `kernel`; on a syntax error returns "line 3: expected ..., found ..." and leaves it unspecified. "" on success.
// Only the syntax is checked here: verify() judges the result.
std::string parse(std::string_view text, Kernel &kernel);

} // namespace ingot::aotc::kernel
