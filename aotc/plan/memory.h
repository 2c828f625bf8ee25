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

// With fixed dims every offset is a constant. Else offset i is the max of 0 and the ends (offset + padded bytes) of the
// intervals in below[i], which come before i in `order`: the planner writes that as shared expression nodes.
struct Layout {
  bool fixed = true;
  std::vector<int64_t> offsets;          // at the representative dims, by position in the intervals; multiples of the alignment
  std::vector<Expr> padded;              // bytes rounded up to it
  std::vector<size_t> order;             // bottom up
  std::vector<std::vector<size_t>> below;
  std::vector<bool> top;                 // nothing lies over it: its end may be the arena's
  int64_t representative_size = 0, representative_live = 0;
};

// Values for dims at which transients are packed: small enough to be usual, inside the symbol's range.
int64_t representative_value(const Symbol &symbol);

// alignment: bytes, a power of two, of every transient.
Layout lay_out(const std::vector<Interval> &intervals, int64_t alignment = 64);

} // namespace ingot::aotc::plan
