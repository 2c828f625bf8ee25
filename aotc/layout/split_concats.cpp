// See split_concats.h.
#include "aotc/layout/split_concats.h"

#include <algorithm>

#include "aotc/base/error.h"

namespace ingot::aotc::layout {
namespace {

using graph::Op;
using graph::ValueId;

void rewrite(graph::Function &function, graph::Graph &graph, size_t most) {
  std::vector<Op> ops = std::move(graph.ops);
  graph.ops.clear();
  for (Op &op : ops) {
    for (graph::Graph &region : op.regions)
      rewrite(function, region, most);
    if (op.code == graph::Opcode::kConcat && op.operands.size() > most) {
      graph::GraphBuilder builder(function, graph);
      builder.set_origin(op.node, op.source);
      const uint32_t axis = static_cast<uint32_t>(op.ints.at(0));
      // Level by level, so that the tree is no deeper than it must be.
      while (op.operands.size() > most) {
        std::vector<ValueId> level;
        for (size_t i = 0; i < op.operands.size(); i += most) {
          auto first = op.operands.begin() + static_cast<std::ptrdiff_t>(i);
          auto last = op.operands.begin() + static_cast<std::ptrdiff_t>(std::min(i + most, op.operands.size()));
          level.push_back(builder.concat({first, last}, axis));
        }
        op.operands = std::move(level);
      }
    }
    graph.ops.push_back(std::move(op));
  }
}

} // namespace

graph::Function split_concats(graph::Function function, size_t most_inputs) {
  ensure(most_inputs >= 2, "split concats: a concatenation of one");
  rewrite(function, function.graph, most_inputs);
  std::string problem = graph::verify(function);
  ensure(problem.empty(), "split concats: " + problem);
  return function;
}

} // namespace ingot::aotc::layout
