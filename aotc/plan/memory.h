// Layout of transients in arenas. See plan.h for the method.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "aotc/base/expr.h"

namespace ingot::aotc::plan {

struct Interval {
  uint32_t tensor = 0;
  uint32_t first = 0, last = 0; // steps, inclusive
  Expr bytes;
};

struct Layout {
  std::vector<Expr> offsets;    // by position in the intervals; multiples of 64
  Expr size;                    // bytes of the arena
  int64_t representative_size = 0, representative_live = 0;
};

// Values for dims at which transients are packed: small enough to be usual, inside the symbol's range.
int64_t representative_value(const Symbol &symbol);

Layout lay_out(const std::vector<Interval> &intervals);

} // namespace ingot::aotc::plan
