// Fewer, longer axes: drops axes of extent 1 and merges pairs that always occur as one flattened number.
//
//   y[320*h + w] = relu(x[320*h + w])  over h:48 w:320     becomes     y[f] = relu(x[f])  over f:15360
#pragma once

#include "aotc/dispatch/dispatch.h"

namespace ingot::aotc::schedule {

// Same values in the same order; only axes, expressions and axis numbers change.
dispatch::Dispatch collapse_axes(const dispatch::Dispatch &d);

// The opposite, for schedules that want neighbours: also splits axes that expressions divide, so that what is read or stored
// through a reshape is linear in the parts.
//
//   a[64*(k/64) + 8192*m + k%64] over m:128 k:768     becomes     a[64*k_outer + 8192*m + k_inner] over k_outer:12 k_inner:64
dispatch::Dispatch split_axes(const dispatch::Dispatch &d);

// Replaces symbols in every expression of the body.
void substitute(dispatch::Dispatch &d, const std::map<Symbol, Expr> &values);

} // namespace ingot::aotc::schedule
