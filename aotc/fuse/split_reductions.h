// Long reductions of few results in two steps, so that they fill a device of many processors.
//
//   before                                        after
//   %0 load f32 x [32768*r + j]                   %0 load f32 x [32768*r + 2048*c + j]
//   %1 reduce add %0 over j:32768                 %1 reduce add %0 over j:2048
//   %2 mul %1, 1/32768                            store part [8*c + r] %1                    over c:16 r:8
//   store y [r] %2    over r:8
//                                                 %0 load f32 part [8*c + r]
//                                                 %1 reduce add %0 over c:16
//                                                 %2 mul %1, 1/32768
//                                                 store y [r] %2                             over r:8
//
// Rows and sums of products (split-K) alike: whatever has one reduction, over an axis of constant extent. The number of
// parts depends on the sizes alone, and with it the order of the additions.
//
// A normalisation of few long rows is taken apart first: each of its statistics is a reduction of its own, which is split as above,
// and what is left goes element by element.
#pragma once

#include "aotc/fuse/fuse.h"

namespace ingot::aotc::fuse {

// `max_operands`: of a dispatch, 0 for any number. `units`: products are for matrix units.
void split_reductions(Program &program, size_t max_operands, bool units = false);

} // namespace ingot::aotc::fuse
