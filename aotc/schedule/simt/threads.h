// What the simt schedules of dispatches share.
#pragma once

#include "aotc/kernel/builder.h"
#include "aotc/schedule/lower.h"
#include "aotc/schedule/schedule.h"

namespace ingot::aotc::schedule {

// A grid of `groups` workgroups folded into x and y, and the number of this thread's group; groups past the last exist,
// and are to do nothing.
std::array<Expr, 3> folded_grid(const Expr &groups);
kernel::ValueId group_number(kernel::Builder &b);

// Combines one value a thread over the workgroup, as a halving tree in `scratch` (a workgroup array of an element a
// thread). Every thread gets the result; the scratch may be used again. Uniform control flow only.
kernel::ValueId workgroup_combine(Lowering &l, const dispatch::Value &reduce, uint32_t scratch, kernel::ValueId value,
                                  uint32_t threads);

// Threads of a workgroup that share `work` items: a power of two, at most `most`.
uint32_t threads_for(int64_t work, uint32_t most);

} // namespace ingot::aotc::schedule
