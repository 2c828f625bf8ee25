// A factor of all elements of a product's operand becomes a factor of the product.
//
//   before                                        after
//   %1 = div(%q, broadcast(8.0))                  %0 = contract(transpose(%q), %k)
//   %2 = contract(transpose(%1), %k)              %2 = div(%0, broadcast(8.0))
//
// What exporters scale attention by then costs no pass over the queries or keys, which are read where they lie.
#pragma once

#include "aotc/graph/graph.h"

namespace ingot::aotc::layout {

// Products of f32 whose operands nothing else uses.
graph::Function lift_factors(const graph::Function &function);

} // namespace ingot::aotc::layout
