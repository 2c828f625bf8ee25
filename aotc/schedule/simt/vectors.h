// Where several elements of a load are one aligned piece of memory.
#pragma once

#include <vector>

#include "aotc/schedule/lower.h"

namespace ingot::aotc::schedule {

// How many points of the flattened axes, innermost first, lie side by side in the load; 0 where not even neighbours do.
int64_t run_length(const dispatch::Dispatch &d, const dispatch::Value &load, const std::vector<uint32_t> &axes);

// Whether each `elements` that start at a multiple of that along the axes are one aligned piece of memory, read or not read as
// a whole.
bool comes_in_vectors(const dispatch::Dispatch &d, const dispatch::Value &load, const std::vector<uint32_t> &axes, int64_t elements);

// `good`, and that the load's guards hold where its axes are bound to.
kernel::ValueId within_guards(Lowering &l, const dispatch::Value &load, kernel::ValueId good);

} // namespace ingot::aotc::schedule
