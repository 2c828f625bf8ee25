// Kernels as text, for people, tests and hashing. Printing is deterministic, values are renumbered in order of
// appearance, and print(parse(print(k))) == print(k). Floats are printed so that they read back exactly.
//
//   kernel @sum simd local 1 1 1 {
//     param @n index range 0 1048576
//     buffer @x read f32 align 64
//     array @tile workgroup f32 256 align 16
//     %0 = param 0 : index
//     %1 = const 0 : index
//     %2 = const 4 : index
//     %3 = const 0.5 : f32x4
//     %4 = for %5 = %1 to %0 step %2 carry %6 = %3 unroll 2 : f32x4 {
//       %7 = load @x[%5] align 4 : f32x4
//       %8 = add contract %6, %7 : f32x4
//       yield %8
//     }
//     %9 = if %c : f32 {
//       yield %a
//     } else {
//       yield %b
//     }
//     %10 = while carry %11 = %1 : index {
//       yield %c, %11
//     } do %12 {
//       yield %12
//     }
//     store_if %c, @x[%1], %9
//     error %c, 3, 17
//   }
//
// An operation's type is that of its result. A yield of nothing and an else that only yields nothing are left out.
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
