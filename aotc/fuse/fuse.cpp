// Decides what is materialised, and turns the graph into steps. The rules stand in fuse.h.
#include "aotc/fuse/fuse.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <sstream>

#include "aotc/base/error.h"
#include "aotc/fuse/attention.h"
#include "aotc/fuse/body.h"

namespace ingot::aotc::fuse {

using graph::Op;
using graph::ValueId;

bool is_view(const Op &op) {
  switch (op.code) {
  case graph::Opcode::kSplat: case graph::Opcode::kIota: case graph::Opcode::kHostTensor: case graph::Opcode::kBroadcast:
  case graph::Opcode::kReshape: case graph::Opcode::kTranspose: case graph::Opcode::kSlice: case graph::Opcode::kPad:
    return true;
  default:
    return false;
  }
}

namespace {

constexpr size_t kMaxMapsPerRoot = 96; // keeps bodies, and so kernels, of a size that compiles well

bool is_heavy(const Op &op) {
  return op.code == graph::Opcode::kContract || op.code == graph::Opcode::kConv || op.code == graph::Opcode::kPool ||
         op.code == graph::Opcode::kScan;
}

bool is_tensor_op(const Op &op) {
  return op.code != graph::Opcode::kReadScalar && op.code != graph::Opcode::kCheck && op.code != graph::Opcode::kIf &&
         op.code != graph::Opcode::kLoop && op.code != graph::Opcode::kCompute && op.code != graph::Opcode::kBind &&
         op.code != graph::Opcode::kHost;
}

// How a value is used inside the root it may be inlined into.
struct Context {
  bool many = false;    // its elements would be computed more than once
  bool direct = true;   // only elementwise ops of the same dims lie between it and the root
  bool guarded = false; // under a pad or a piece of a concat
  bool under_reduce = false;
  bool heavy = false;   // it is an operand of a contraction, convolution or pool
  uint64_t reduced = 0; // its axes that a reduction on the way runs over: a reduction inside would be done again and again
  uint64_t mixed = 0;   // its axes that a reshape on the way merges or splits: what is repeated over one has no row of its own

  void merge(const Context &o) {
    reduced |= o.reduced;
    mixed |= o.mixed;
    many = many || o.many;
    direct = direct && o.direct;
    guarded = guarded || o.guarded;
    under_reduce = under_reduce || o.under_reduce;
    heavy = heavy || o.heavy;
  }
};

struct ValueState {
  const Op *definition = nullptr;
  int region = -1;              // number of the graph that defines it
  bool must = false;            // needs memory: an output, used by control flow or by another region
  bool constant = false;        // derived from constants only, at least one of them not a splat
  bool materialised = false;
  bool used = false;
  std::set<ValueId> roots;
  Context context;
};

struct Group {
  bool heavy = false, reduce = false, concat = false;
  size_t maps = 0;
};

class Fuser {
 public:
  // `apart`: values that are not to be inlined.
  Fuser(const graph::Function &function, const Options &options, const std::set<ValueId> &apart)
      : function_(function), options_(options), apart_(apart), states_(function.values.size()) {}

  Program run() {
    program_.name = function_.name;
    program_.inputs = function_.graph.inputs;
    program_.outputs = function_.graph.outputs;
    program_.dims = function_.dims;
    program_.sites = function_.sites;
    scan(function_.graph, next_region_++);
    if (options_.attention)
      attention_ = find_attention(function_, [this](ValueId v) { return states_[v].must; });
    decide(function_.graph);
    place_function();
    emit(function_.graph, program_.steps);
    copy_outputs();
    return std::move(program_);
  }

  // After run: values to take out of the dispatches with more operands than allowed, one for each.
  std::set<ValueId> parts_of_large_dispatches() {
    std::set<ValueId> parts;
    for (auto [dispatch, root] : roots_)
      if (operand_counts_[dispatch] > options_.max_operands)
        if (auto part = largest_part(root))
          parts.insert(*part);
    return parts;
  }

 private:
  // What the value needs from memory, through what is inlined into it.
  void leaves(ValueId v, bool root, std::set<ValueId> &out, std::set<ValueId> &seen) {
    if (!seen.insert(v).second)
      return;
    const Op *d = states_[v].definition;
    if (!root && (!d || states_[v].materialised)) {
      out.insert(storage(v));
      return;
    }
    for (ValueId operand : d->operands)
      leaves(operand, false, out, seen);
  }

  // The inlined op that needs most from memory, but not more than a dispatch of its own may.
  std::optional<ValueId> largest_part(ValueId root) {
    std::set<ValueId> all, inside;
    leaves(root, true, all, inside);
    std::optional<ValueId> best;
    size_t most = 1;
    for (ValueId v : inside) {
      const Op *d = states_[v].definition;
      if (v == root || !d || states_[v].materialised || is_view(*d))
        continue;
      std::set<ValueId> own, seen;
      leaves(v, true, own, seen);
      if (own.size() > most && own.size() < options_.max_operands) {
        most = own.size();
        best = v;
      }
    }
    return best;
  }

  // ---- first pass: definitions, regions, what needs memory

  void scan(const graph::Graph &graph, int region) {
    for (const graph::Signature &input : graph.inputs) {
      states_[input.value].region = region;
      states_[input.value].must = true;
    }
    for (const Op &op : graph.ops) {
      for (ValueId result : op.results) {
        states_[result].definition = &op;
        states_[result].region = region;
        states_[result].must = op.code == graph::Opcode::kAppend; // it lasts
      }
      for (ValueId operand : op.operands)
        if (states_[operand].region != region)
          need_memory(operand);
      // A convolution in blocks of channels reads lines of memory: its input is stored in that layout, never re-indexed.
      if (op.code == graph::Opcode::kConv && op.ints[1] > 0)
        need_memory(op.operands[0]);
      // One of bytes gathers windows without guards: its padding is stored, and so is what is padded, which may be a
      // product that would not be computed under a pad.
      if (op.code == graph::Opcode::kConv && byte_size(function_.values[op.operands[0]].type.element) == 1) {
        need_memory(op.operands[0]);
        if (const Op *pad = states_[op.operands[0]].definition; pad && pad->code == graph::Opcode::kPad)
          need_memory(pad->operands[0]);
      }
      if (!is_tensor_op(op)) {
        for (ValueId operand : op.operands)
          need_memory(operand);
        for (ValueId result : op.results)
          states_[result].must = true;
      }
      for (const graph::Graph &inner : op.regions)
        scan(inner, next_region_++);
      if (is_tensor_op(op) && op.results.size() == 1)
        states_[op.results[0]].constant = derived_from_constants(op);
    }
    for (const graph::Signature &output : graph.outputs)
      need_memory(output.value);
  }

  bool derived_from_constants(const Op &op) {
    if (op.code == graph::Opcode::kConstant)
      return op.constant->bytes.size() > byte_size(op.constant->type);
    if (op.operands.empty() || op.code == graph::Opcode::kGather)
      return false;
    bool any = false;
    for (ValueId operand : op.operands) {
      const Op *d = states_[operand].definition;
      if (states_[operand].constant)
        any = true;
      else if (!d || !(d->code == graph::Opcode::kSplat || d->code == graph::Opcode::kConstant || splat_view(*d)))
        return false;
    }
    for (const Expr &dim : function_.values[op.results[0]].type.dims)
      if (!dim.is_constant())
        return false;
    return any;
  }

  bool splat_view(const Op &op) {
    if (!is_view(op) || op.operands.size() != 1)
      return false;
    const Op *d = states_[op.operands[0]].definition;
    return d && (d->code == graph::Opcode::kSplat ||
                 (d->code == graph::Opcode::kConstant && d->constant->bytes.size() == byte_size(d->constant->type)) ||
                 splat_view(*d));
  }

  // A reshape shares its operand's memory where that has memory of its own to share.
  bool aliases(const Op &op) const {
    return op.code == graph::Opcode::kReshape;
  }

  void need_memory(ValueId v) {
    states_[v].must = true;
    const Op *d = states_[v].definition;
    if (d && aliases(*d))
      need_memory(d->operands[0]);
  }

  // ---- second pass, backwards: roots and inlining

  void decide(const graph::Graph &graph) {
    for (size_t i = graph.ops.size(); i-- > 0;) {
      const Op &op = graph.ops[i];
      for (const graph::Graph &inner : op.regions)
        decide(inner);
      for (ValueId v : op.results)
        decide_value(op, v);
      if (!is_tensor_op(op))
        continue;
      ValueState &s = states_[op.results[0]];
      if (!s.used && !s.must)
        continue; // dead
      ValueId v = op.results[0];
      Context base = s.materialised ? Context{} : s.context;
      std::set<ValueId> roots = s.materialised ? std::set<ValueId>{v} : s.roots;
      // An alias passes its users' needs on: whoever loads it loads its operand's memory.
      if (s.materialised && aliases(op))
        roots.clear();
      for (size_t k = 0; k < op.operands.size(); ++k) {
        ValueState &o = states_[op.operands[k]];
        o.used = true;
        o.roots.insert(roots.begin(), roots.end());
        o.context.merge(through(op, k, base));
      }
    }
  }

  // How the axes of a reshape's result lie in its operand. Those that agree from the left or from the right end correspond
  // one to one, axes of 1 aside; what is left between the two ends is merged and split, and counts as one.
  //
  //   [1,56,56,96] -> [8,7,8,7,96]: the last axis is the last axis; 56,56 and 8,7,8,7 lie between
  struct Reshaping {
    std::vector<std::pair<size_t, size_t>> same; // axis of the operand, axis of the result
    uint64_t between = 0, result_between = 0;

    uint64_t to_operand(uint64_t axes) const {
      uint64_t found = axes & result_between ? between : 0;
      for (auto [inner, outer] : same)
        found |= (axes >> outer & 1) << inner;
      return found;
    }
  };

  Reshaping reshaping(const Op &op) {
    const std::vector<Expr> &inner = function_.values[op.operands[0]].type.dims;
    const std::vector<Expr> &outer = function_.values[op.results[0]].type.dims;
    auto longer = [](const std::vector<Expr> &dims) {
      std::vector<size_t> found;
      for (size_t i = 0; i < dims.size(); ++i)
        if (!(dims[i] == Expr(1)))
          found.push_back(i);
      return found;
    };
    std::vector<size_t> from = longer(inner), to = longer(outer);
    Reshaping r;
    size_t left = 0;
    for (; left < from.size() && left < to.size() && inner[from[left]] == outer[to[left]]; ++left)
      r.same.push_back({from[left], to[left]});
    for (; from.size() > left && to.size() > left && inner[from.back()] == outer[to.back()]; from.pop_back(), to.pop_back())
      r.same.push_back({from.back(), to.back()});
    for (size_t i = left; i < from.size(); ++i)
      r.between |= uint64_t{1} << from[i];
    for (size_t i = left; i < to.size(); ++i)
      r.result_between |= uint64_t{1} << to[i];
    return r;
  }

  Context through(const Op &op, size_t operand, Context c) {
    switch (op.code) {
    case graph::Opcode::kMap:
      return c;
    case graph::Opcode::kBroadcast: {
      c.direct = false;
      const std::vector<Expr> &from = function_.values[op.operands[0]].type.dims;
      const std::vector<Expr> &to = function_.values[op.results[0]].type.dims;
      int last_kept = -1;
      std::vector<bool> kept(to.size(), false);
      uint64_t reduced = 0, mixed = 0;
      for (size_t i = 0; i < from.size(); ++i)
        if (!(from[i] == Expr(1))) {
          if (c.reduced >> op.axes[i] & 1)
            reduced |= uint64_t{1} << i;
          if (c.mixed >> op.axes[i] & 1)
            mixed |= uint64_t{1} << i;
          kept[op.axes[i]] = true;
          last_kept = std::max(last_kept, static_cast<int>(op.axes[i]));
        }
      for (int i = 0; i < last_kept; ++i)
        if (!kept[static_cast<size_t>(i)] && !(to[static_cast<size_t>(i)] == Expr(1)))
          c.many = true; // repeated over an outer axis: not a value per row
      for (size_t i = 0; i < to.size(); ++i)
        if (!kept[i] && !(to[i] == Expr(1)) && (c.mixed >> i & 1))
          c.many = true; // the row is no axis of the root, so each of its elements would compute the value again
      c.reduced = reduced;
      c.mixed = mixed;
      return c;
    }
    case graph::Opcode::kReshape: {
      // Dropping or adding axes of 1 keeps an elementwise chain direct.
      const Reshaping r = reshaping(op);
      c.direct = c.direct && !r.between && !r.result_between;
      c.reduced = r.to_operand(c.reduced);
      c.mixed = r.to_operand(c.mixed) | r.between;
      return c;
    }
    case graph::Opcode::kTranspose: {
      c.direct = false;
      uint64_t reduced = 0, mixed = 0;
      for (size_t i = 0; i < op.axes.size(); ++i) {
        reduced |= (c.reduced >> i & 1) << op.axes[i];
        mixed |= (c.mixed >> i & 1) << op.axes[i];
      }
      c.reduced = reduced;
      c.mixed = mixed;
      return c;
    }
    case graph::Opcode::kSlice:
    case graph::Opcode::kAppend:
      c.direct = false;
      return c;
    case graph::Opcode::kPad:
    case graph::Opcode::kConcat:
      c.direct = false;
      c.guarded = true;
      return c;
    case graph::Opcode::kReduce:
      c.direct = false;
      c.under_reduce = true;
      {
        uint64_t axes = 0, reduced = 0, mixed = 0;
        for (uint32_t a : op.axes)
          axes |= uint64_t{1} << a;
        size_t kept = 0;
        for (size_t i = 0; i < function_.values[op.operands[0]].type.dims.size(); ++i) {
          bool gone = axes >> i & 1;
          if (gone || (c.reduced >> kept & 1))
            reduced |= uint64_t{1} << i;
          if (!gone && (c.mixed >> kept & 1))
            mixed |= uint64_t{1} << i;
          kept += !gone;
        }
        c.reduced = reduced;
        c.mixed = mixed;
      }
      return c;
    case graph::Opcode::kGather:
      c.reduced = c.reduced ? ~uint64_t{0} : 0;
      c.mixed = c.mixed ? ~uint64_t{0} : 0;
      c.direct = false;
      c.many = c.many || operand == 0;
      return c;
    default:
      c.direct = false;
      c.many = true;
      c.heavy = true;
      return c;
    }
  }

  void decide_value(const Op &op, ValueId v) {
    ValueState &s = states_[v];
    if (!s.used && !s.must)
      return;
    if (!is_tensor_op(op) || op.code == graph::Opcode::kConstant || op.code == graph::Opcode::kState) {
      s.materialised = true;
      return;
    }
    if (attention_.inner.count(v))
      return; // its root has room for it
    s.materialised = !inlined(op, v);
    if (s.materialised)
      groups_[v]; // a root: its own op joins the group
    ValueId root = s.materialised ? v : (s.roots.empty() ? v : *s.roots.begin());
    Group &group = groups_[root];
    if (!is_view(op)) {
      group.heavy = group.heavy || is_heavy(op);
      group.reduce = group.reduce || op.code == graph::Opcode::kReduce;
      group.concat = group.concat || op.code == graph::Opcode::kConcat;
      group.maps += op.code == graph::Opcode::kMap;
    }
  }

  bool inlined(const Op &op, ValueId v) {
    ValueState &s = states_[v];
    if (s.must || attention_.outputs.count(v) || apart_.count(v))
      return false;
    const Context &c = s.context;
    if (is_view(op)) {
      if (!c.heavy)
        return true;
      // Operands of contractions and convolutions are loads: index maps and zero padding, nothing computed.
      if (op.code == graph::Opcode::kPad)
        return op.pad_mode == graph::PadMode::kConstant && zero_fill(op) && !reaches_pad(op.operands[0]);
      return op.code != graph::Opcode::kIota && op.code != graph::Opcode::kHostTensor && op.code != graph::Opcode::kSplat;
    }
    if (s.constant && !all_users_constant_)
      return false; // computed once, at compile time
    if (s.roots.size() != 1)
      return false;
    Group &group = groups_[*s.roots.begin()];
    switch (op.code) {
    case graph::Opcode::kMap:
      return !c.many && group.maps < kMaxMapsPerRoot;
    case graph::Opcode::kReduce:
      return !c.many && !c.guarded && !group.heavy && !group.concat && op.reduce < dispatch::ReduceKind::kArgMin &&
             !reduced_again(v);
    case graph::Opcode::kContract: case graph::Opcode::kConv: case graph::Opcode::kPool: case graph::Opcode::kScan:
      return c.direct && !group.heavy && !group.reduce && !group.concat;
    case graph::Opcode::kGather:
      return !c.many && !c.guarded && !group.heavy;
    case graph::Opcode::kConcat:
      return !c.many && !c.guarded && !c.under_reduce && !group.heavy && !group.reduce && op.operands.size() <= 4;
    default:
      return false;
    }
  }

  // A row's mean may be used below a reduction over the row; a maximum per channel may not be reduced over the channels.
  bool reduced_again(ValueId v) {
    const std::vector<Expr> &dims = function_.values[v].type.dims;
    for (size_t i = 0; i < dims.size(); ++i)
      if (!(dims[i] == Expr(1)) && (states_[v].context.reduced >> i & 1))
        return true;
    return false;
  }

  bool zero_fill(const Op &op) {
    if (op.operands.size() < 2)
      return true;
    const Op *d = states_[op.operands[1]].definition;
    if (!d || (d->code != graph::Opcode::kConstant && d->code != graph::Opcode::kSplat))
      return false;
    for (uint8_t byte : d->constant->bytes)
      if (byte)
        return false;
    return true;
  }

  bool reaches_pad(ValueId v) {
    const Op *d = states_[v].definition;
    return d && is_view(*d) && (d->code == graph::Opcode::kPad || (!d->operands.empty() && reaches_pad(d->operands[0])));
  }

  // ---- third pass: memory and steps

  // A splat of known size is a slot that the loader fills; of another, a kernel does.
  bool filled_at_run_time(const Op &splat) { return !function_.values[splat.results[0]].type.elements().is_constant(); }

  // The value whose memory a materialised value uses.
  ValueId storage(ValueId v) const {
    const Op *d = states_[v].definition;
    if (d && (d->code == graph::Opcode::kAppend || (aliases(*d) && states_[v].materialised && states_[d->operands[0]].materialised)))
      return storage(d->operands[0]);
    return v;
  }

  TensorId new_tensor(graph::TensorType type, std::string name, Tensor::Kind kind = Tensor::Kind::kTransient) {
    Tensor t;
    t.kind = kind;
    t.type = std::move(type);
    t.name = std::move(name);
    program_.tensors.push_back(std::move(t));
    return static_cast<TensorId>(program_.tensors.size() - 1);
  }

  TensorId tensor(ValueId value) {
    ValueId v = storage(value);
    auto [it, fresh] = tensors_.try_emplace(v, 0);
    if (!fresh)
      return it->second;
    const Op *d = states_[v].definition;
    TensorId t = new_tensor(function_.values[v].type, function_.values[v].name);
    it->second = t;
    if (d && d->code == graph::Opcode::kHost && d->constant) {
      program_.tensors[t].kind = Tensor::Kind::kConstant;
      program_.tensors[t].constant = d->constant;
    }
    if (d && d->code == graph::Opcode::kState) {
      program_.tensors[t].kind = Tensor::Kind::kState;
      program_.tensors[t].index = static_cast<uint32_t>(d->ints[0]);
      program_.tensors[t].name = function_.states[program_.tensors[t].index].name;
    }
    if (d && (d->code == graph::Opcode::kConstant || (d->code == graph::Opcode::kSplat && !filled_at_run_time(*d)))) {
      program_.tensors[t].kind = Tensor::Kind::kConstant;
      program_.tensors[t].constant = d->constant;
      program_.tensors[t].splat = d->code == graph::Opcode::kSplat || d->constant->bytes.size() == byte_size(d->constant->type);
    }
    return t;
  }

  void place_function() {
    for (size_t i = 0; i < function_.graph.inputs.size(); ++i) {
      TensorId t = tensor(function_.graph.inputs[i].value);
      program_.tensors[t].kind = Tensor::Kind::kInput;
      program_.tensors[t].index = static_cast<uint32_t>(i);
      program_.input_tensors.push_back(t);
    }
    for (size_t i = 0; i < function_.graph.outputs.size(); ++i) {
      ValueId v = function_.graph.outputs[i].value;
      const Op *d = states_[storage(v)].definition;
      TensorId t = tensor(v);
      bool direct = d && is_tensor_op(*d) && program_.tensors[t].kind == Tensor::Kind::kTransient;
      if (d && d->code == graph::Opcode::kCompute && program_.tensors[t].kind == Tensor::Kind::kTransient)
        direct = true;
      if (sized_later(v))
        direct = false;
      if (!direct) {
        TensorId out = new_tensor(function_.values[v].type, function_.graph.outputs[i].name);
        program_.tensors[out].kind = Tensor::Kind::kOutput;
        program_.tensors[out].index = static_cast<uint32_t>(i);
        copies_.push_back({t, out});
        program_.output_tensors.push_back(out);
        continue;
      }
      program_.tensors[t].kind = Tensor::Kind::kOutput;
      program_.tensors[t].index = static_cast<uint32_t>(i);
      program_.tensors[t].type = function_.values[v].type;
      program_.output_tensors.push_back(t);
    }
  }

  // Whether host scalars that the value's memory does not depend on are in its dims: it may be written before they are known.
  bool sized_later(ValueId v) const {
    const std::vector<Expr> &own = function_.values[v].type.dims, &memory = function_.values[storage(v)].type.dims;
    for (const Expr &dim : own)
      for (const Symbol &s : dim.symbols())
        if (s.kind() == SymbolKind::kHost &&
            std::none_of(memory.begin(), memory.end(), [&](const Expr &m) { return m.depends_on(s); }))
          return true;
    return false;
  }

  Step copy_step(TensorId from, TensorId to, const std::string &node) {
    Step step;
    step.kind = Step::Kind::kCopy;
    step.node = node;
    step.operands = {from, to};
    return step;
  }

  void copy_outputs() {
    for (auto [from, to] : copies_)
      program_.steps.push_back(copy_step(from, to, program_.tensors[to].name));
  }

  void collect_nodes(ValueId v, bool root, std::vector<std::string> &nodes, std::set<const Op *> &seen) {
    const Op *d = states_[v].definition;
    if (!d || (!root && states_[v].materialised) || !seen.insert(d).second)
      return;
    for (ValueId operand : d->operands)
      collect_nodes(operand, false, nodes, seen);
    if (!d->node.empty() && std::find(nodes.begin(), nodes.end(), d->node) == nodes.end())
      nodes.push_back(d->node);
  }

  static std::string identifier(const Op &op, size_t number) {
    std::string source = op.source.substr(op.source.rfind('.') == std::string::npos ? 0 : op.source.rfind('.') + 1);
    std::string out;
    for (char c : source)
      out += std::isalnum(static_cast<unsigned char>(c)) ? static_cast<char>(std::tolower(static_cast<unsigned char>(c))) : '_';
    if (out.empty() || std::isdigit(static_cast<unsigned char>(out[0])))
      out = "k" + out;
    return out + "_" + std::to_string(number);
  }

  // The name of a fused dispatch says what it mainly does.
  const Op *principal(ValueId v, bool root, int &best, const Op *current) {
    const Op *d = states_[v].definition;
    if (!d || (!root && states_[v].materialised))
      return current;
    int weight = is_heavy(*d) ? 3 : d->code == graph::Opcode::kReduce ? 2 : is_view(*d) ? 0 : 1;
    if (weight > best) {
      best = weight;
      current = d;
    }
    if (++visits_ > 4096)
      return current;
    for (ValueId operand : d->operands)
      current = principal(operand, false, best, current);
    return current;
  }

  void emit(const graph::Graph &graph, Steps &steps) {
    for (const Op &op : graph.ops) {
      switch (op.code) {
      case graph::Opcode::kReadScalar: {
        Step step;
        step.kind = Step::Kind::kReadScalar;
        step.node = op.node;
        step.operands = {tensor(op.operands[0])};
        step.symbol = op.symbol;
        steps.push_back(step);
        break;
      }
      case graph::Opcode::kCheck: {
        Step step;
        step.kind = Step::Kind::kCheck;
        step.node = op.node;
        step.condition = op.exprs[0];
        step.text = op.text;
        steps.push_back(step);
        break;
      }
      case graph::Opcode::kBind:
        steps.push_back(bind_step(op.symbol, op.exprs[0], op.node));
        break;
      case graph::Opcode::kHost:
        if (!op.constant)
          emit_host(op, steps);
        break;
      case graph::Opcode::kIf:
        emit_if(op, steps);
        break;
      case graph::Opcode::kLoop:
        emit_loop(op, steps);
        break;
      case graph::Opcode::kCompute: {
        dispatch::Dispatch d = *op.compute;
        Step step;
        step.node = op.node;
        for (ValueId operand : op.operands)
          step.operands.push_back(tensor(operand));
        for (ValueId result : op.results)
          step.operands.push_back(tensor(result));
        for (size_t i = 0; i < op.operands.size(); ++i)
          d.operands[i].constant = program_.tensors[step.operands[i]].kind == Tensor::Kind::kConstant;
        d.name = identifier(op, program_.dispatches.size());
        d.nodes = {op.node};
        add_dispatch(std::move(d), std::move(step), steps);
        break;
      }
      case graph::Opcode::kConstant:
      case graph::Opcode::kState:
        break; // they have memory and no step
      default: {
        ValueId v = op.results[0];
        if (!states_[v].materialised || (storage(v) != v && op.code != graph::Opcode::kAppend) || (op.code == graph::Opcode::kSplat && !filled_at_run_time(op)))
          break;
        GraphView view{function_, [this](ValueId x) { return states_[x].definition; },
                       [this](ValueId x) { return states_[x].materialised; }, [this](ValueId x) { return storage(x); }};
        BodyBuilder builder(view);
        std::vector<ValueId> inputs;
        dispatch::Dispatch d = builder.build(v, inputs);
        Step step;
        step.node = op.node;
        for (ValueId input : inputs)
          step.operands.push_back(tensor(input));
        step.operands.push_back(tensor(v));
        int best = -1;
        visits_ = 0;
        d.name = identifier(*principal(v, true, best, &op), program_.dispatches.size());
        std::set<const Op *> seen;
        collect_nodes(v, true, d.nodes, seen);
        roots_.push_back({program_.dispatches.size(), v});
        add_dispatch(std::move(d), std::move(step), steps);
        break;
      }
      }
    }
  }

  void add_dispatch(dispatch::Dispatch d, Step step, Steps &steps) {
    std::string problem = dispatch::verify(d);
    ensure(problem.empty(), "fuse: " + problem);
    step.dispatch = static_cast<uint32_t>(program_.dispatches.size());
    operand_counts_.push_back(d.operands.size() + (d.checks.empty() ? 0 : 1)); // and the error word
    program_.dispatches.push_back(std::move(d));
    steps.push_back(std::move(step));
  }

  static Step bind_step(const Symbol &symbol, const Expr &value, const std::string &node) {
    Step step;
    step.kind = Step::Kind::kBind;
    step.node = node;
    step.symbol = symbol;
    step.condition = value;
    return step;
  }

  void emit_host(const Op &op, Steps &steps) {
    Step step;
    step.kind = Step::Kind::kHost;
    step.node = op.node;
    for (ValueId operand : op.operands)
      step.operands.push_back(tensor(operand));
    for (ValueId result : op.results)
      step.operands.push_back(tensor(result));
    step.host = HostStep{op.host, op.results.size(), op.exprs, op.symbols, op.ints};
    steps.push_back(std::move(step));
  }

  void emit_if(const Op &op, Steps &steps) {
    Step step;
    step.kind = Step::Kind::kIf;
    step.node = op.node;
    step.condition = op.exprs[0];
    for (size_t side = 0; side < 2; ++side) {
      Steps &body = side == 0 ? step.then : step.otherwise;
      emit(op.regions[side], body);
      for (size_t i = 0; i < op.sizes.size(); ++i)
        body.push_back(bind_step(op.sizes[i], op.regions[side].sizes[i], op.node));
      for (size_t i = 0; i < op.results.size(); ++i)
        body.push_back(copy_step(tensor(op.regions[side].outputs[i].value), tensor(op.results[i]), op.node));
    }
    steps.push_back(std::move(step));
  }

  bool depends_on(ValueId value, const std::vector<Symbol> &symbols) const {
    for (const Expr &dim : function_.values[value].type.dims)
      for (const Symbol &s : symbols)
        if (dim.depends_on(s))
          return true;
    return false;
  }

  // Binds each size that the body found to a symbol of its own, and says when it becomes the loop's. Gives those symbols.
  std::map<Symbol, Expr> emit_sizes(const Op &op, Step &step, LoopStep &loop) {
    std::map<Symbol, Expr> next;
    for (size_t i = 0; i < op.sizes.size(); ++i) {
      const Symbol &s = op.sizes[i];
      const Symbol found = Symbol::host(s.name() + "_next", s.min(), s.max());
      step.then.push_back(bind_step(found, op.regions[0].sizes[i], op.node));
      bool carried = false;
      for (uint32_t k = 0; k < loop.info.carried; ++k)
        carried = carried || depends_on(op.results[k], {s});
      loop.sizes.push_back({s, found, carried});
      next.emplace(s, found);
    }
    return next;
  }

  void emit_loop(const Op &op, Steps &steps) {
    const graph::Graph &body = op.regions[0];
    const graph::LoopInfo &info = *op.loop;
    Step step;
    step.kind = Step::Kind::kLoop;
    step.node = op.node;
    LoopStep loop;
    loop.info = info;
    for (size_t i = 0; i < op.sizes.size(); ++i)
      steps.push_back(bind_step(op.sizes[i], op.exprs[i], op.node));
    // Carried values live in the results' memory: initial values are copied in, each iteration's are copied back.
    for (uint32_t i = 0; i < info.carried; ++i) {
      TensorId state = tensor(op.results[i]);
      tensors_[body.inputs[i].value] = state;
      steps.push_back(copy_step(tensor(op.operands[i]), state, op.node));
    }
    emit(body, step.then);
    const std::map<Symbol, Expr> next_sizes = emit_sizes(op, step, loop);
    size_t first = info.has_condition ? 1 : 0;
    if (info.has_condition)
      loop.condition = tensor(body.outputs[0].value);
    for (uint32_t i = 0; i < info.carried; ++i) {
      TensorId state = tensor(op.results[i]), next = tensor(body.outputs[first + i].value);
      if (next == state)
        continue; // passed through
      // A state whose size changes moves when the size does, and with it what has that size: the next value waits in memory
      // of the size to come.
      if (depends_on(op.results[i], op.sizes)) {
        graph::TensorType type = function_.values[op.results[i]].type;
        for (Expr &dim : type.dims)
          dim = dim.substitute(next_sizes);
        const TensorId waiting = new_tensor(std::move(type), program_.tensors[next].name);
        step.then.push_back(copy_step(next, waiting, op.node));
        loop.carried.push_back({state, waiting});
        continue;
      }
      // A next value that is another carried value's state (a swap) is saved before any state is overwritten.
      for (uint32_t k = 0; k < info.carried; ++k)
        if (next == tensor(op.results[k])) {
          TensorId saved = new_tensor(program_.tensors[next].type, program_.tensors[next].name);
          step.then.push_back(copy_step(next, saved, op.node));
          next = saved;
          break;
        }
      loop.carried.push_back({state, next});
    }
    for (uint32_t i = 0; i < info.scans; ++i)
      loop.scans.push_back({tensor(body.outputs[first + info.carried + i].value), tensor(op.results[info.carried + i])});
    step.loop = std::move(loop);
    steps.push_back(std::move(step));
  }

  const graph::Function &function_;
  const Options &options_;
  const std::set<ValueId> &apart_;
  std::vector<std::pair<size_t, ValueId>> roots_; // dispatches that compute a value
  std::vector<size_t> operand_counts_;           // per dispatch
  AttentionValues attention_;
  std::vector<ValueState> states_;
  std::map<ValueId, Group> groups_;
  std::map<ValueId, TensorId> tensors_;
  std::vector<std::pair<TensorId, TensorId>> copies_;
  Program program_;
  int next_region_ = 0;
  int visits_ = 0;
  static constexpr bool all_users_constant_ = false;
};

} // namespace

Program fuse(const graph::Function &function, const Options &options) {
  std::set<ValueId> apart;
  for (;;) {
    Fuser fuser(function, options, apart);
    Program program = fuser.run();
    std::set<ValueId> parts;
    if (options.max_operands)
      parts = fuser.parts_of_large_dispatches();
    if (parts.empty())
      return program;
    apart.insert(parts.begin(), parts.end());
  }
}

namespace {

void print_steps(std::ostringstream &out, const Program &p, const Steps &steps, std::string indent) {
  auto tensor = [&](TensorId t) {
    const Tensor &x = p.tensors[t];
    static constexpr const char *kKinds[] = {"input", "output", "constant", "t", "prepared", "state"};
    return std::string(kKinds[static_cast<size_t>(x.kind)]) + "." + std::to_string(t) + ":" + graph::to_string(x.type);
  };
  for (const Step &s : steps) {
    switch (s.kind) {
    case Step::Kind::kDispatch:
      out << indent << "dispatch @" << p.dispatches[s.dispatch].name << "(";
      for (size_t i = 0; i < s.operands.size(); ++i)
        out << (i ? ", " : "") << tensor(s.operands[i]);
      out << ")" << (s.sizes ? " where [" + s.sizes->holds().to_string() + "]" : "") << "\n";
      break;
    case Step::Kind::kCopy:
      out << indent << "copy " << tensor(s.operands[0]) << " to " << tensor(s.operands[1]) << "\n";
      break;
    case Step::Kind::kReadScalar:
      out << indent << "read_scalar " << tensor(s.operands[0]) << " as " << s.symbol.name() << "\n";
      break;
    case Step::Kind::kBind:
      out << indent << "bind " << s.symbol.name() << " to [" << s.condition.to_string() << "]\n";
      break;
    case Step::Kind::kCheck:
      out << indent << "check [" << s.condition.to_string() << "] \"" << s.text << "\"\n";
      break;
    case Step::Kind::kHost:
      out << indent << "host " << static_cast<uint32_t>(s.host->code) << " (";
      for (size_t i = 0; i < s.operands.size(); ++i)
        out << (i == 0 ? "" : i + s.host->results == s.operands.size() ? " -> " : ", ") << tensor(s.operands[i]);
      out << ")";
      for (const Expr &e : s.host->exprs)
        out << " [" << e.to_string() << "]";
      for (const Symbol &symbol : s.host->symbols)
        out << " binds " << symbol.name();
      out << "\n";
      break;
    case Step::Kind::kIf:
      out << indent << "if [" << s.condition.to_string() << "] {\n";
      print_steps(out, p, s.then, indent + "  ");
      out << indent << "} else {\n";
      print_steps(out, p, s.otherwise, indent + "  ");
      out << indent << "}\n";
      break;
    case Step::Kind::kLoop:
      out << indent << "loop " << s.loop->info.iteration.name();
      if (s.loop->info.trip_count)
        out << " trips [" << s.loop->info.trip_count->to_string() << "]";
      if (s.loop->condition)
        out << " while " << tensor(*s.loop->condition);
      out << " {\n";
      print_steps(out, p, s.then, indent + "  ");
      for (const auto &c : s.loop->carried)
        out << indent << "  carry " << tensor(c.next) << " to " << tensor(c.state) << "\n";
      for (const auto &c : s.loop->scans)
        out << indent << "  append " << tensor(c.slice) << " to " << tensor(c.whole) << "\n";
      out << indent << "}\n";
      break;
    }
  }
}

} // namespace

void replace_dispatches(Steps &steps, const std::function<bool(Step &, Steps &)> &replace, bool loops) {
  Steps out;
  for (Step &step : steps) {
    if (loops || step.kind != Step::Kind::kLoop) {
      replace_dispatches(step.then, replace, loops);
      replace_dispatches(step.otherwise, replace, loops);
    }
    if (step.kind != Step::Kind::kDispatch || !replace(step, out))
      out.push_back(std::move(step));
  }
  steps = std::move(out);
}

std::string print(const Program &p) {
  std::ostringstream out;
  out << "program @" << p.name << " {\n";
  print_steps(out, p, p.steps, "  ");
  out << "}\n";
  for (const dispatch::Dispatch &d : p.dispatches)
    out << dispatch::print(d);
  return out.str();
}

} // namespace ingot::aotc::fuse
