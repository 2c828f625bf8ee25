// Where a function's values come from and where they go.
#pragma once

#include <vector>

#include "aotc/graph/graph.h"

namespace ingot::aotc::layout {

// Of a function that must live, unchanged, as long as this: rewrites ask about the old one while they make the new one.
class Uses {
 public:
  explicit Uses(const graph::Function &function);

  // The op that gives a value, if it has that code; null for others, inputs and what a region is given.
  const graph::Op *definition(graph::ValueId v) const { return places_[v].definition; }
  const graph::Op *definition(graph::ValueId v, graph::Opcode code) const {
    const graph::Op *op = places_[v].definition;
    return op && op->code == code ? op : nullptr;
  }
  const std::vector<const graph::Op *> &users(graph::ValueId v) const { return places_[v].users; }
  // Whether it is an output of the function or of a region.
  bool is_output(graph::ValueId v) const { return places_[v].output; }
  // Its only user, if that is in the same graph and nothing else needs the value.
  const graph::Op *only_user(graph::ValueId v) const;

 private:
  struct Place {
    const graph::Op *definition = nullptr;
    const graph::Graph *home = nullptr; // of the definition
    std::vector<const graph::Op *> users;
    std::vector<const graph::Graph *> homes; // of the users
    bool output = false;
  };
  void scan(const graph::Graph &graph);

  std::vector<Place> places_;
};

} // namespace ingot::aotc::layout
