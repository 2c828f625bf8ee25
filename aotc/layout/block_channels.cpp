// See block_channels.h.
#include "aotc/layout/block_channels.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "aotc/base/error.h"
#include "schemas/program_words.h"

namespace ingot::aotc::layout {
namespace {

using graph::Op;
using graph::Opcode;
using graph::TensorType;
using graph::ValueId;

bool divides(const Expr &channels) { return channels.constant() && *channels.constant() % kBlock == 0; }

class Blocker {
 public:
  Blocker(const graph::Function &function, bool free_sizes) : out_(function), free_sizes_(free_sizes) {
    for (const Op &op : function.graph.ops)
      for (ValueId v : op.results)
        definitions_[v] = &op;
    inner_uses(function.graph);
  }

  graph::Function run(const graph::Function &function) {
    graph::Graph graph;
    graph.inputs = function.graph.inputs;
    graph.outputs = function.graph.outputs;
    graph_ = &graph;
    for (const graph::Signature &input : graph.inputs)
      plain_.insert(input.value);
    for (const Op &op : function.graph.ops)
      rewrite(op);
    for (const graph::Signature &output : graph.outputs)
      make_plain(output.value);
    out_.graph = std::move(graph);
    std::string problem = graph::verify(out_);
    ensure(problem.empty(), "block channels: " + problem);
    return std::move(out_);
  }

 private:
  const TensorType &type(ValueId v) const { return out_.values[v].type; }
  bool blocked(ValueId v) const { return blocked_.count(v) != 0; }

  // Values that sub-graphs use must be there in their own layout.
  void inner_uses(const graph::Graph &graph) {
    for (const Op &op : graph.ops)
      for (const graph::Graph &region : op.regions) {
        inner_uses(region);
        for (const Op &inner : region.ops)
          used_inside_[&op].insert(inner.operands.begin(), inner.operands.end());
        for (const graph::Signature &output : region.outputs)
          used_inside_[&op].insert(output.value);
        for (const Op &inner : region.ops)
          if (auto it = used_inside_.find(&inner); it != used_inside_.end())
            used_inside_[&op].insert(it->second.begin(), it->second.end());
      }
  }

  ValueId new_value(TensorType type, const std::string &name) {
    out_.values.push_back({std::move(type), name});
    return static_cast<ValueId>(out_.values.size() - 1);
  }

  // Appends an op derived from `like` with one result of its own.
  ValueId append(Op op, TensorType type, ValueId like) {
    ValueId v = new_value(std::move(type), out_.values[like].name);
    op.results = {v};
    graph_->ops.push_back(std::move(op));
    return v;
  }
  // The same for the blocked form of `like`. Its name says so: whoever reads such a tensor must know how it lies.
  ValueId append_blocked(Op op, ValueId like) {
    ValueId v = append(std::move(op), blocked_type(type(like)), like);
    out_.values[v].name = blocked_name(out_.values[like].name);
    return v;
  }
  Op derived(const Op &from, Opcode code, std::vector<ValueId> operands) {
    Op op;
    op.code = code;
    op.node = from.node;
    op.source = from.source;
    op.operands = std::move(operands);
    return op;
  }

  // [n, c, spatial...] -> [n, c/16, spatial..., 16]
  TensorType blocked_type(const TensorType &t) const {
    TensorType b{t.element, {t.dims[0], floordiv(t.dims[1], kBlock)}};
    b.dims.insert(b.dims.end(), t.dims.begin() + 2, t.dims.end());
    b.dims.push_back(kBlock);
    return b;
  }

  ValueId pack(const Op &user, ValueId x) {
    if (auto it = blocked_.find(x); it != blocked_.end())
      return it->second;
    const TensorType t = type(x);
    TensorType split{t.element, {t.dims[0], floordiv(t.dims[1], kBlock), kBlock}};
    split.dims.insert(split.dims.end(), t.dims.begin() + 2, t.dims.end());
    Op reshape = derived(user, Opcode::kReshape, {x});
    ValueId five = append(std::move(reshape), split, x);
    Op transpose = derived(user, Opcode::kTranspose, {five});
    transpose.axes = {0, 1};
    for (uint32_t i = 3; i < split.dims.size(); ++i)
      transpose.axes.push_back(i);
    transpose.axes.push_back(2);
    return blocked_[x] = append_blocked(std::move(transpose), x);
  }

  // The plain form of a value that so far exists in blocks only; its number stays.
  void make_plain(ValueId x) {
    if (plain_.count(x) || !blocked(x))
      return;
    plain_.insert(x);
    const Op &from = *definitions_.at(x);
    const TensorType t = type(x), b = blocked_type(t);
    Op transpose = derived(from, Opcode::kTranspose, {blocked_.at(x)});
    uint32_t last = static_cast<uint32_t>(b.dims.size() - 1);
    transpose.axes = {0, 1, last};
    TensorType split{t.element, {b.dims[0], b.dims[1], kBlock}};
    for (uint32_t i = 2; i < last; ++i) {
      transpose.axes.push_back(i);
      split.dims.push_back(b.dims[i]);
    }
    ValueId five = append(std::move(transpose), split, x);
    Op reshape = derived(from, Opcode::kReshape, {five});
    reshape.results = {x};
    graph_->ops.push_back(std::move(reshape));
  }

  void keep(const Op &op) {
    for (ValueId v : op.operands)
      make_plain(v);
    if (auto it = used_inside_.find(&op); it != used_inside_.end())
      for (ValueId v : it->second)
        make_plain(v);
    graph_->ops.push_back(op);
    plain_.insert(op.results.begin(), op.results.end());
  }

  void rewrite(const Op &op) {
    bool done = false;
    switch (op.code) {
    case Opcode::kConv: done = conv(op); break;
    case Opcode::kPool: done = pool(op); break;
    case Opcode::kPad: done = pad(op); break;
    case Opcode::kMap: done = map(op); break;
    case Opcode::kConcat: done = concat(op); break;
    case Opcode::kReduce: done = reduce(op); break;
    default: break;
    }
    if (!done)
      keep(op);
  }

  bool conv(const Op &op) {
    ConvKind kind = conv_kind(out_, op);
    if (kind == ConvKind::kNone || (kind == ConvKind::kDepthwise && !blocked(op.operands[0])))
      return false;
    Op b = op;
    bool plain_x = kind == ConvKind::kStem;
    b.operands[0] = plain_x ? op.operands[0] : pack(op, op.operands[0]);
    if (plain_x)
      make_plain(op.operands[0]);
    b.ints = {op.ints[0], plain_x ? 0 : kBlock, kBlock};
    blocked_[op.results[0]] = append_blocked(std::move(b), op.results[0]);
    return true;
  }

  bool pool(const Op &op) {
    if (!blocked(op.operands[0]))
      return false;
    Op b = op;
    b.operands = {blocked_.at(op.operands[0])};
    b.ints[2] = kBlock;
    blocked_[op.results[0]] = append_blocked(std::move(b), op.results[0]);
    return true;
  }

  // Padding of the image leaves the channels alone.
  bool pad(const Op &op) {
    ValueId x = op.operands[0];
    size_t rank = type(x).dims.size();
    if (!blocked(x))
      return false;
    for (size_t i : {size_t{0}, size_t{1}, rank, rank + 1})
      if (!(op.exprs[i] == Expr(0)))
        return false;
    Op b = op;
    b.operands[0] = blocked_.at(x);
    if (b.operands.size() > 1)
      make_plain(b.operands[1]);
    b.exprs.insert(b.exprs.begin() + static_cast<std::ptrdiff_t>(rank), Expr(0));
    b.exprs.push_back(Expr(0));
    blocked_[op.results[0]] = append(std::move(b), blocked_type(type(op.results[0])), op.results[0]);
    return true;
  }

  // An operand of a map in the blocked layout: what is blocked already, or small things that are repeated over the image.
  // Nothing where it would have to be packed.
  std::optional<ValueId> in_blocks(const Op &user, ValueId v) {
    if (blocked(v))
      return blocked_.at(v);
    auto it = definitions_.find(v);
    if (it == definitions_.end())
      return std::nullopt;
    const Op &op = *it->second;
    const TensorType b = blocked_type(type(v));
    if (op.code == Opcode::kSplat) {
      Op splat = op;
      return append_blocked(std::move(splat), v);
    }
    if (op.code == Opcode::kConstant)
      return pack(user, v); // folded
    if (op.code != Opcode::kBroadcast)
      return std::nullopt;
    // Broadcasting keeps axes of 1 or drops them; the source's channels, if it has them, are split where they stand.
    ValueId source = op.operands[0];
    make_plain(source);
    const TensorType from = type(source);
    TensorType split{from.element, {}};
    std::vector<uint32_t> axes;
    bool channels = false;
    for (size_t i = 0; i < from.dims.size(); ++i) {
      if (from.dims[i] == Expr(1))
        continue;
      if (op.axes[i] == 1) {
        split.dims.push_back(floordiv(from.dims[i], kBlock));
        channels = true;
      } else if (channels) {
        return std::nullopt; // varies over the image and over the channels
      } else {
        split.dims.push_back(from.dims[i]);
      }
      axes.push_back(op.axes[i]);
    }
    if (channels) {
      split.dims.push_back(kBlock);
      axes.push_back(static_cast<uint32_t>(b.dims.size() - 1));
    }
    Op reshape = derived(op, Opcode::kReshape, {source});
    ValueId parts = split.dims == from.dims ? source : append(std::move(reshape), split, v);
    Op broadcast = derived(op, Opcode::kBroadcast, {parts});
    broadcast.axes = std::move(axes);
    return append_blocked(std::move(broadcast), v);
  }

  bool map(const Op &op) {
    const TensorType t = type(op.results[0]); // a copy: appending moves the values
    bool any = false;
    for (ValueId v : op.operands)
      any |= blocked(v) && !plain_.count(v);
    if (!any || t.dims.size() < 3 || !divides(t.dims[1]))
      return false;
    Op b = op;
    for (ValueId &v : b.operands) {
      auto form = in_blocks(op, v);
      v = form ? *form : pack(op, v);
    }
    blocked_[op.results[0]] = append_blocked(std::move(b), op.results[0]);
    return true;
  }

  bool concat(const Op &op) {
    if (op.ints[0] != 1)
      return false;
    for (ValueId v : op.operands)
      if (!blocked(v))
        return false;
    Op b = op;
    for (ValueId &v : b.operands)
      v = blocked_.at(v);
    blocked_[op.results[0]] = append_blocked(std::move(b), op.results[0]);
    return true;
  }

  // Over the whole image: what is left are the channels, in their own order.
  bool reduce(const Op &op) {
    ValueId x = op.operands[0];
    if (!blocked(x) || op.reduce >= dispatch::ReduceKind::kArgMin || op.axes.empty() || op.axes[0] != 2 ||
        op.axes.size() + 2 != type(x).dims.size())
      return false;
    const TensorType t = type(op.results[0]);
    Op b = op;
    b.operands = {blocked_.at(x)};
    ValueId parts = append(std::move(b), {t.element, {t.dims[0], floordiv(t.dims[1], kBlock), kBlock}}, op.results[0]);
    Op reshape = derived(op, Opcode::kReshape, {parts});
    reshape.results = op.results;
    graph_->ops.push_back(std::move(reshape));
    plain_.insert(op.results[0]);
    return true;
  }

 public:
  enum class ConvKind { kNone, kStem, kDense, kDepthwise };

  ConvKind conv_kind(const graph::Function &f, const Op &op) const {
    const TensorType &x = f.values[op.operands[0]].type, &w = f.values[op.operands[1]].type;
    const TensorType &y = f.values[op.results[0]].type;
    if ((x.element != ElementType::kF32 && byte_size(x.element) != 1) || x.dims.size() != 4 || op.ints[1] || op.ints[2] || !divides(y.dims[1]))
      return ConvKind::kNone;
    auto weight = definitions_.find(op.operands[1]);
    if (weight == definitions_.end() || weight->second->code != Opcode::kConstant)
      return ConvKind::kNone;
    bool fixed = true;
    for (size_t i = 2; i < 4; ++i)
      fixed &= x.dims[i].is_constant() && y.dims[i].is_constant();
    // Padding that depends on the size would be no constant shift of the image; products of bytes know their windows.
    bool shifts = std::all_of(op.exprs.begin(), op.exprs.end(), [](const Expr &e) { return e.is_constant(); });
    if (!fixed && (!free_sizes_ || !shifts || x.element != ElementType::kF32))
      return ConvKind::kNone;
    if (op.ints[0] == 1 && divides(x.dims[1]))
      return ConvKind::kDense;
    if (op.ints[0] == 1)
      return x.dims[1].constant().value_or(kBlock) <= 4 ? ConvKind::kStem : ConvKind::kNone;
    return x.element == ElementType::kF32 && divides(x.dims[1]) && w.dims[1] == Expr(1) && w.dims[0] == x.dims[1] ? ConvKind::kDepthwise : ConvKind::kNone;
  }

  // The share of the convolutions' work that would be done in blocks.
  double share(const graph::Function &f) const {
    double all = 0, some = 0;
    for (const Op &op : f.graph.ops) {
      if (op.code != Opcode::kConv)
        continue;
      const TensorType &w = f.values[op.operands[1]].type, &y = f.values[op.results[0]].type;
      double work = 1;
      for (size_t i = 1; i < y.dims.size(); ++i)
        work *= static_cast<double>(y.dims[i].constant().value_or(64));
      for (size_t i = 1; i < w.dims.size(); ++i)
        work *= static_cast<double>(w.dims[i].constant().value_or(1));
      all += work;
      some += conv_kind(f, op) != ConvKind::kNone ? work : 0;
    }
    return all > 0 ? some / all : 0;
  }

 private:
  graph::Function out_;
  bool free_sizes_;
  graph::Graph *graph_ = nullptr;
  std::map<ValueId, const Op *> definitions_;
  std::map<const Op *, std::set<ValueId>> used_inside_;
  std::map<ValueId, ValueId> blocked_; // plain value -> its blocked form
  std::set<ValueId> plain_;            // values whose plain form is there
};

constexpr double kWorthwhile = 0.25; // share of the work of all convolutions

} // namespace

std::string blocked_name(const std::string &plain) {
  return plain.empty() ? plain : plain + program::kBlockedSuffix;
}

graph::Function block_channels(const graph::Function &function, bool free_sizes) {
  Blocker blocker(function, free_sizes);
  // Products of bytes are only made where they go in blocks.
  bool bytes = std::any_of(function.graph.ops.begin(), function.graph.ops.end(), [&](const Op &op) {
    return op.code == Opcode::kConv && byte_size(function.values[op.operands[0]].type.element) == 1;
  });
  if (!bytes && blocker.share(function) < kWorthwhile)
    return function;
  return blocker.run(function);
}

} // namespace ingot::aotc::layout
