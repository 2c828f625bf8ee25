// A map and the row reduction that reads its result first become one dispatch, which stores both: the sum that a residual network
// carries on and its normalisation, the parts of a split product and what normalises their sum.
//
//   before                                        after
//   %0 load f16 x [768*r + j]                     %0 load f16 x [768*r + j]
//   %1 load f16 y [768*r + j]                     %1 load f16 y [768*r + j]
//   %2 add %0 %1                                  %2 add %0 %1
//   store sum [768*r + j] %2    over r j          %3 reduce add %2 over j
//                                                 ...
//   %0 load f16 sum [768*r + j]                   store sum [768*r + j] %2     over r j
//   %1 reduce add %0 over j                       store n [768*r + j] %7       over r j
//   ...
//   store n [768*r + j] %5      over r j
//
// The sum is not stored where nothing else reads it. A launch and a trip to memory less; what a thread has of its row stays in
// registers (aotc/schedule/simt/rows.cpp), so the map is not computed again where rows are of constant length.
#pragma once

#include "aotc/fuse/fuse.h"

namespace ingot::aotc::fuse {

// `max_operands`: of a dispatch, 0 for any number.
void join_rows(Program &program, size_t max_operands);

} // namespace ingot::aotc::fuse
