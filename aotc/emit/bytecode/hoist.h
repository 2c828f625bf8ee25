// What no optimiser will do after the emitter: invariant computations leave loops, equal ones are done once,
// and an `if` on a constant becomes its side. Interpreting an op costs the same wherever it stands, so index
// arithmetic counts.
#pragma once

#include "aotc/kernel/kernel.h"

namespace ingot::aotc {

kernel::Kernel hoist_invariants(const kernel::Kernel &kernel);

} // namespace ingot::aotc
