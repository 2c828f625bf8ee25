// Versions of dispatches for ranges of their sizes, where dims are free.
//
//   before                              after
//   dispatch @conv_3(x, w, y)           dispatch @conv_3(x, w, y) where [n*h*w < 2912]             scheduled at n=1 h=32 w=32
//                                       dispatch @conv_3(x, w, y) where [2912 <= n*h*w < 32768]    at n=1 h=91 w=91
//                                       dispatch @conv_3(x, w, y) where [32768 <= n*h*w]           at n=1 h=362 w=362
//
// What is measured is the points that the dispatch stores; the least, from which the sizes are multiples, is that of the
// dims' lower bounds, so that the range's upper end hardly matters. Those not chosen have empty grids. All versions take all
// sizes, but for that of a measure of 1, where there can be one: a row of a product, a pixel. Its free axes are gone. Which schedules differ is not known here: versions that turn out to be the same kernel become one again
// (join_sizes).
#pragma once

#include "aotc/fuse/fuse.h"

namespace ingot::aotc::fuse {

// `multiples`: of the least measure, ascending, one a version.
void specialise_sizes(Program &program, const std::vector<int64_t> &multiples);

// Neighbouring versions of one step each that have the same number in `kernel_of` (by dispatch) become one.
void join_sizes(Program &program, const std::vector<uint32_t> &kernel_of);

} // namespace ingot::aotc::fuse
