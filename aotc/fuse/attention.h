// Attention in the graph: a contraction whose one side is the softmax of another contraction's elementwise chain.
//
//   %s = contract q, k                       one dispatch, root %o:
//   %t = add (mul %s, scale), mask           q, k, v and mask are loaded, everything between is computed
//   %p = softmax %t (max, sub, exp, add, div)
//   %o = contract %p, v
//
// It is found by structure, views between the operators aside. Values of the chain that are used elsewhere, or are
// outputs, keep their memory, and then so does the whole chain.
#pragma once

#include <functional>
#include <set>

#include "aotc/graph/graph.h"

namespace ingot::aotc::fuse {

struct AttentionValues {
  std::set<graph::ValueId> outputs; // of attention: roots of their own
  std::set<graph::ValueId> inner;   // computed within those, never in memory
};

AttentionValues find_attention(const graph::Function &function, const std::function<bool(graph::ValueId)> &needs_memory);

bool is_view(const graph::Op &op);

} // namespace ingot::aotc::fuse
