// See uses.h.
#include "aotc/layout/uses.h"

namespace ingot::aotc::layout {

Uses::Uses(const graph::Function &function) : places_(function.values.size()) { scan(function.graph); }

void Uses::scan(const graph::Graph &graph) {
  for (const graph::Op &op : graph.ops) {
    for (graph::ValueId result : op.results) {
      places_[result].definition = &op;
      places_[result].home = &graph;
    }
    for (graph::ValueId operand : op.operands) {
      places_[operand].users.push_back(&op);
      places_[operand].homes.push_back(&graph);
    }
    for (const graph::Graph &region : op.regions)
      scan(region);
  }
  for (const graph::Signature &output : graph.outputs)
    places_[output.value].output = true;
}

const graph::Op *Uses::only_user(graph::ValueId v) const {
  const Place &place = places_[v];
  return place.users.size() == 1 && place.homes[0] == place.home && !place.output ? place.users[0] : nullptr;
}

} // namespace ingot::aotc::layout
