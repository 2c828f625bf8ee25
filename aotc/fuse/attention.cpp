// See attention.h. Candidates are found in the graph; whether one is of the form that schedules know, its body says.
#include "aotc/fuse/attention.h"

#include <algorithm>
#include <map>
#include <vector>

#include "aotc/fuse/body.h"
#include "aotc/schedule/attention.h"

namespace ingot::aotc::fuse {

using graph::Op;
using graph::ValueId;

namespace {

constexpr size_t kLongestChain = 64; // values between the two contractions

class Finder {
 public:
  Finder(const graph::Function &function, const std::function<bool(ValueId)> &needs_memory)
      : function_(function), needs_memory_(needs_memory), definitions_(function.values.size()), users_(function.values.size()) {}

  AttentionValues run() {
    scan(function_.graph);
    find(function_.graph);
    return std::move(found_);
  }

 private:
  struct Chain {
    const Op *weigh = nullptr, *dot = nullptr;
    std::set<ValueId> values;   // that depend on the scores
    std::set<ValueId> computed; // masks made of positions alone: cheaper computed again than read
  };

  void scan(const graph::Graph &graph) {
    for (const Op &op : graph.ops) {
      for (ValueId result : op.results)
        definitions_[result] = &op;
      for (ValueId operand : op.operands)
        users_[operand].push_back(&op);
      for (const graph::Graph &inner : op.regions)
        scan(inner);
    }
  }

  void find(const graph::Graph &graph) {
    for (const Op &op : graph.ops) {
      for (const graph::Graph &inner : op.regions)
        find(inner);
      if (op.code == graph::Opcode::kContract)
        for (ValueId side : op.operands)
          if (is_softmax(side) && accept(op, side))
            break;
    }
  }

  bool is_softmax(ValueId v) const {
    const Op *d = definitions_[v];
    while (d && is_view(*d) && !d->operands.empty())
      d = definitions_[d->operands[0]];
    if (!is_map(d, kernel::Opcode::kDiv))
      return false;
    return is_map(definitions_[d->operands[0]], kernel::Opcode::kExp);
  }

  static bool is_map(const Op *op, kernel::Opcode code) { return op && op->code == graph::Opcode::kMap && op->map == code; }

  bool accept(const Op &weigh, ValueId weights) {
    std::vector<const Op *> dots;
    std::set<ValueId> seen;
    collect_contractions(weights, dots, seen);
    for (const Op *dot : dots) {
      Chain chain{&weigh, dot, {}, {}};
      std::map<ValueId, bool> reaches;
      collect(weights, chain, reaches);
      if (chain.values.size() > kLongestChain || !is_closed(chain) || !has_form(chain))
        continue;
      found_.outputs.insert(weigh.results[0]);
      found_.inner.insert(chain.values.begin(), chain.values.end());
      found_.inner.insert(chain.computed.begin(), chain.computed.end());
      return true;
    }
    return false;
  }

  // Contractions below `v` that only elementwise work, reductions and views lie above.
  void collect_contractions(ValueId v, std::vector<const Op *> &dots, std::set<ValueId> &seen) const {
    const Op *d = definitions_[v];
    if (!d || seen.size() > 4 * kLongestChain || !seen.insert(v).second)
      return;
    if (d->code == graph::Opcode::kContract)
      dots.push_back(d);
    else if (passes(*d))
      for (ValueId operand : d->operands)
        collect_contractions(operand, dots, seen);
  }

  static bool passes(const Op &op) {
    return op.code == graph::Opcode::kMap || op.code == graph::Opcode::kReduce || is_view(op);
  }

  bool depends(ValueId v, const Op *dot, std::map<ValueId, bool> &reaches) const {
    auto [it, fresh] = reaches.try_emplace(v, false);
    if (!fresh)
      return it->second;
    const Op *d = definitions_[v];
    bool result = d == dot;
    if (d && !result && passes(*d) && reaches.size() < 4 * kLongestChain)
      for (ValueId operand : d->operands)
        result = depends(operand, dot, reaches) || result;
    return reaches[v] = result;
  }

  void collect(ValueId v, Chain &chain, std::map<ValueId, bool> &reaches) const {
    if (!depends(v, chain.dot, reaches)) {
      if (is_made_of_positions(v, 0))
        collect_positions(v, chain);
      return;
    }
    if (!chain.values.insert(v).second || definitions_[v] == chain.dot)
      return;
    for (ValueId operand : definitions_[v]->operands)
      collect(operand, chain, reaches);
  }

  // Elementwise work on positions, numbers and host scalars: nothing in memory.
  bool is_made_of_positions(ValueId v, int depth) const {
    const Op *d = definitions_[v];
    if (!d || needs_memory_(v) || depth > 8)
      return false;
    if (d->code == graph::Opcode::kConstant)
      return d->constant->bytes.size() == byte_size(d->constant->type);
    if (!(is_view(*d) || (d->code == graph::Opcode::kMap && !kernel::is_math(d->map))))
      return false;
    return std::all_of(d->operands.begin(), d->operands.end(),
                       [&](ValueId operand) { return is_made_of_positions(operand, depth + 1); });
  }

  void collect_positions(ValueId v, Chain &chain) const {
    if (definitions_[v]->code == graph::Opcode::kConstant || !chain.computed.insert(v).second)
      return;
    for (ValueId operand : definitions_[v]->operands)
      collect_positions(operand, chain);
  }

  bool is_closed(const Chain &chain) const {
    return std::all_of(chain.values.begin(), chain.values.end(), [&](ValueId v) {
      return !needs_memory_(v) && std::all_of(users_[v].begin(), users_[v].end(), [&](const Op *user) {
        return user == chain.weigh || (user->results.size() == 1 && chain.values.count(user->results[0]));
      });
    });
  }

  bool has_form(const Chain &chain) const {
    const ValueId output = chain.weigh->results[0];
    auto loaded = [&](ValueId v) {
      const Op *d = definitions_[v];
      return v != output && !chain.values.count(v) && !chain.computed.count(v) && !(d && is_view(*d));
    };
    GraphView view{function_, [this](ValueId v) { return definitions_[v]; }, loaded, [](ValueId v) { return v; }};
    std::vector<ValueId> inputs;
    dispatch::Dispatch d = BodyBuilder(view).build(output, inputs);
    auto form = schedule::match_attention(d);
    return form && schedule::attention_pays(*form);
  }

  const graph::Function &function_;
  const std::function<bool(ValueId)> &needs_memory_;
  std::vector<const Op *> definitions_;
  std::vector<std::vector<const Op *>> users_;
  AttentionValues found_;
};

} // namespace

AttentionValues find_attention(const graph::Function &function, const std::function<bool(ValueId)> &needs_memory) {
  return Finder(function, needs_memory).run();
}

} // namespace ingot::aotc::fuse
