// Products of one tensor with several constants become one product with all of them side by side.
//
//   before                                        after
//   %q = add(contract(%x, Wq), bq)                %1 = add(contract(%x, Wq|Wk|Wv), bq|bk|bv)
//   %k = add(contract(%x, Wk), bk)                %q, %k, %v = slices of %1
//   %v = add(contract(%x, Wv), bv)
//
// One product of three times the columns fills a GPU that each of the three leaves partly idle.
#pragma once

#include "aotc/graph/graph.h"

namespace ingot::aotc::layout {

// Where all that is read of a result are further products, which read a slice as well as a tensor of its own.
graph::Function merge_products(const graph::Function &function);

} // namespace ingot::aotc::layout
