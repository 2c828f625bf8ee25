// Arithmetic in f32, memory in f16: weights and what dispatches exchange take half the bytes.
//
//   before                                        after
//   %0 load f32 w [i]                             %0 load f16 w [i]      %1 convert f32 %0
//   ...                                           ...
//   store t [i] %9                                %10 convert f16 %9     store t [i] %10
//
// Accumulators and everything else within a dispatch stay f32; the model's inputs and outputs keep their types (with `pairs` products
// take a rounded copy of an input; there as in all that is stored, what is beyond f16's range becomes infinite). So do:
//   * constants with values beyond f16's range, or none that is large enough to be normal there (an epsilon);
//   * small tensors: statistics and scales, whose range is wide and whose size does not matter. Constants of some size
//     count as small too: many a network is sensitive to its first filters and its depthwise ones;
//   * what decides about positions (an index, a conversion to integers), directly or through other tensors but not through
//     sums, and what a structured loop takes;
//   * what is copied to or from one of these.
#pragma once

#include "aotc/fuse/fuse.h"

namespace ingot::aotc::fuse {

// `pairs`: constants that are small, and factors of products with f16, become two of f16, the high part and what it leaves; the
// product sums over both. That is as good as f32, and what matrix units of f16 take.
void store_as_half(Program &program, bool pairs = false);

} // namespace ingot::aotc::fuse
