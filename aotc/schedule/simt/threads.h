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

// Combines one value a thread over each team of the workgroup (`team` threads, a power of two, `apart` from one
// to the next; `lane` is a thread's number in its team), as a halving tree in `scratch`, a workgroup array of an element a thread. Every thread gets
// its team's result; the scratch may be used again. Uniform control flow only.
kernel::ValueId team_combine(Lowering &l, const dispatch::Value &reduce, uint32_t scratch, kernel::ValueId value, kernel::ValueId lane,
                             uint32_t team, uint32_t apart = 1);

// Threads of a workgroup that share `work` items: a power of two, at most `most`.
uint32_t threads_for(int64_t work, uint32_t most);

// Threads of the one workgroup that runs a sequence.
uint32_t step_threads(const TargetRecord &record);

} // namespace ingot::aotc::schedule
