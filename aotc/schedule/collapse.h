// Fewer, longer axes: drops axes of extent 1 and merges pairs that always occur as one flattened number.
//
//   y[320*h + w] = relu(x[320*h + w])  over h:48 w:320     becomes     y[f] = relu(x[f])  over f:15360
#pragma once

#include "aotc/dispatch/dispatch.h"

namespace ingot::aotc::schedule {

// Same values in the same order; only axes, expressions and axis numbers change.
dispatch::Dispatch collapse_axes(const dispatch::Dispatch &d);

// Replaces symbols in every expression of the body.
void substitute(dispatch::Dispatch &d, const std::map<Symbol, Expr> &values);

} // namespace ingot::aotc::schedule
