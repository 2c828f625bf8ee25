// Seeded random dispatches: loads in any layout, guards, elementwise values, reductions of reductions, several stores.
#pragma once

#include "tests/schedule/dispatch_maker.h"

namespace ingot::aotc::testing {

Case random_dispatch(uint64_t seed);

} // namespace ingot::aotc::testing
