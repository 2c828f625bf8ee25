// See split_reductions.h.
#include "aotc/fuse/split_reductions.h"

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>
#include <set>

#include "aotc/base/error.h"
#include "aotc/schedule/collapse.h"
#include "aotc/schedule/sinks.h"

namespace ingot::aotc::fuse {

using dispatch::Dispatch;
using dispatch::Guard;
using dispatch::ReduceKind;
using dispatch::Value;
using dispatch::ValueKind;

namespace {

// Rows: a workgroup each. A large device takes some hundred at a time, and wants some thousand elements of each.
constexpr int64_t kEnoughRows = 256, kRowPart = 2048, kMostParts = 64;
// Rows that are written whole: their statistics cost passes of their own, which few and long ones are worth.
constexpr int64_t kFewRows = 128, kLongRow = 16384;
// Sums of products: a workgroup a tile of about 32 x 32 outputs; of 64 x 64 on matrix units if they are deep, as it brings half as
// much for each of them (docs/gpu.md has what that is worth).
constexpr int64_t kTile = 32, kUnitTile = 64, kDeepForUnits = 2048, kEnoughTiles = 96, kProductPart = 256, kMostProductParts = 16;

struct Split {
  dispatch::ValueId reduce = 0;
  uint32_t axis = 0;
  int64_t parts = 0;
};

int64_t points(const Dispatch &d, uint64_t set) {
  int64_t n = 1;
  for (uint32_t a = 0; a < d.axes.size(); ++a)
    if (set >> a & 1)
      n = std::min<int64_t>(1 << 30, n * std::max<int64_t>(1, schedule::typical(d.axes[a].extent)));
  return n;
}

// How many parts the sizes ask for; 1: the device is full as it is.
int64_t wanted_parts(const Dispatch &d, const std::vector<uint64_t> &sets, dispatch::ValueId reduce, bool units) {
  const Value &r = d.values[reduce];
  uint64_t reduced = 0;
  for (uint32_t a : r.axes)
    reduced |= uint64_t{1} << a;
  const int64_t depth = points(d, reduced), results = points(d, sets[reduce]);
  const Value &arg = d.values[r.args[0]];
  if (r.reduce == ReduceKind::kAdd && arg.kind == ValueKind::kOp && arg.code == kernel::Opcode::kMul) {
    const uint64_t left = sets[arg.args[0]], right = sets[arg.args[1]], stored = sets[reduce];
    const int64_t m = points(d, stored & left & ~right), n = points(d, stored & right & ~left), batch = points(d, stored & left & right);
    if (m >= 4 && n >= 4) {
      const int64_t tile = units && depth >= kDeepForUnits && m >= kUnitTile && n >= kUnitTile ? kUnitTile : kTile;
      const int64_t tiles = batch * ((m + tile - 1) / tile) * ((n + tile - 1) / tile);
      return std::min({kEnoughTiles / tiles, depth / kProductPart, kMostProductParts});
    }
  }
  return std::min({kEnoughRows / results, depth / kRowPart, kMostParts});
}

// Of a dispatch without axes of one point.
std::optional<Split> find_split(const Dispatch &d, bool units) {
  Split s;
  int reduces = 0;
  for (uint32_t i = 0; i < d.values.size(); ++i)
    if (d.values[i].kind == ValueKind::kReduce) {
      s.reduce = i;
      ++reduces;
    }
  if (reduces != 1)
    return std::nullopt;
  const Value &r = d.values[s.reduce];
  if (r.reduce > ReduceKind::kMax || (r.type != ElementType::kF32 && r.type != ElementType::kI32))
    return std::nullopt;
  std::vector<uint64_t> sets = d.axis_sets();
  uint64_t reduced = 0;
  for (uint32_t a : r.axes)
    reduced |= uint64_t{1} << a;
  for (const dispatch::Store &store : d.stores)
    for (uint32_t a : store.axes)
      if (!(sets[s.reduce] >> a & 1)) // rows that are written whole (softmax) need their elements again
        return std::nullopt;
  const int64_t wanted = wanted_parts(d, sets, s.reduce, units);
  if (wanted < 2)
    return std::nullopt;
  // The outermost axis that parts of equal size divide best.
  for (uint32_t a : r.axes) {
    auto extent = d.axes[a].extent.constant();
    for (int64_t parts = wanted; extent && parts > s.parts && parts >= 2; --parts)
      if (*extent % parts == 0) {
        s.axis = a;
        s.parts = parts;
      }
  }
  return s.parts >= 2 && 2 * s.parts >= std::min<int64_t>(wanted, 8) ? std::optional(s) : std::nullopt;
}

// The first reduction, where it is over few long rows of which every element is used again.
std::optional<dispatch::ValueId> find_statistic(const Dispatch &d) {
  const std::vector<uint64_t> sets = d.axis_sets();
  for (uint32_t i = 0; i < d.values.size(); ++i) {
    const Value &r = d.values[i];
    if (r.kind != ValueKind::kReduce)
      continue;
    uint64_t reduced = 0;
    for (uint32_t a : r.axes)
      reduced |= uint64_t{1} << a;
    bool whole = true;
    for (const dispatch::Store &store : d.stores)
      for (uint32_t a : r.axes)
        whole = whole && std::find(store.axes.begin(), store.axes.end(), a) != store.axes.end();
    const bool suits = r.reduce <= ReduceKind::kMax && r.type == ElementType::kF32 && points(d, sets[i]) <= kFewRows && points(d, reduced) >= kLongRow;
    return whole && suits ? std::optional(i) : std::nullopt;
  }
  return std::nullopt;
}

// Copies what `roots` need of a dispatch's values, replacing some, and the operands that these load.
class Extract {
 public:
  explicit Extract(const Dispatch &from) : from_(from), values_(from.values.size(), dispatch::kNoValue), operands_(from.operands.size(), -1) {}

  Dispatch out;
  std::vector<uint32_t> sources; // operands of `from` that are operands of `out`, in order

  void replace(dispatch::ValueId old, dispatch::ValueId now) { values_[old] = now; }
  void substitute(const Symbol &symbol, const Expr &value) { renamed_.emplace(symbol, value); }

  uint32_t operand(uint32_t old) {
    if (operands_[old] < 0) {
      operands_[old] = static_cast<int>(out.operands.size());
      out.operands.push_back(from_.operands[old]);
      sources.push_back(old);
    }
    return static_cast<uint32_t>(operands_[old]);
  }

  dispatch::ValueId value(dispatch::ValueId old) {
    if (values_[old] != dispatch::kNoValue)
      return values_[old];
    Value v = from_.values[old];
    for (dispatch::ValueId &a : v.args)
      a = value(a);
    if (v.kind == ValueKind::kLoad || v.kind == ValueKind::kIndex)
      v.expr = expr(v.expr);
    for (Guard &g : v.guards) {
      g.value = expr(g.value);
      g.extent = expr(g.extent);
    }
    if (v.otherwise != dispatch::kNoValue)
      v.otherwise = value(v.otherwise);
    if (v.kind == ValueKind::kLoad)
      v.operand = operand(v.operand);
    out.values.push_back(std::move(v));
    return values_[old] = static_cast<dispatch::ValueId>(out.values.size() - 1);
  }

  Expr expr(const Expr &e) {
    // Gathered indices are named by their value's number.
    for (const Symbol &s : e.symbols())
      if (s.kind() == SymbolKind::kValue && !renamed_.count(s)) {
        dispatch::ValueId now = value(s.value());
        renamed_.emplace(s, Symbol::value("v" + std::to_string(now), now, s.extent()->substitute(renamed_)));
      }
    return e.substitute(renamed_);
  }

 private:
  const Dispatch &from_;
  std::vector<dispatch::ValueId> values_;
  std::vector<int> operands_;
  std::map<Symbol, Expr> renamed_;
};

// Axes of a body that one dispatch has of another, by their numbers there.
struct AxisMap {
  std::vector<int> now;
  explicit AxisMap(size_t n) : now(n, -1) {}
  std::vector<uint32_t> of(const std::vector<uint32_t> &axes) const {
    std::vector<uint32_t> out;
    for (uint32_t a : axes)
      out.push_back(static_cast<uint32_t>(now[a]));
    return out;
  }
};

struct Halves {
  Dispatch parts, whole;
  std::vector<uint32_t> parts_sources, whole_sources; // operands of the original, the parts' tensor left out
  size_t part_operand = 0;                            // of `whole`
  Expr count;                                         // elements of the tensor of parts
};

// Offsets in a dense tensor over the axes in `results`, row-major, and its elements.
std::pair<Expr, Expr> dense(const Dispatch &d, uint64_t results) {
  Expr flat = 0, count = 1;
  for (uint32_t a = 0; a < d.axes.size(); ++a)
    if (results >> a & 1) {
      flat = flat * d.axes[a].extent + d.axes[a].symbol;
      count = count * d.axes[a].extent;
    }
  return {flat, count};
}

// The first half: what `first` has extracted of `d`, with `value` stored in the tensor.
void end_first(Halves &h, Extract &first, const Dispatch &d, dispatch::Operand tensor, dispatch::Store store, const char *suffix) {
  tensor.output = true;
  first.out.operands.push_back(std::move(tensor));
  store.operand = static_cast<uint32_t>(first.out.operands.size() - 1);
  first.out.stores.push_back(std::move(store));
  first.out.name = d.name + suffix;
  first.out.nodes = d.nodes;
  h.parts = std::move(first.out);
  h.parts_sources = std::move(first.sources);
}

// The second half begins with the tensor's element, value 0 ...
void begin_second(Extract &second, dispatch::Operand tensor, const Expr &offset) {
  Value load;
  load.kind = ValueKind::kLoad;
  load.type = tensor.type;
  load.expr = offset;
  second.out.operands.push_back(std::move(tensor));
  second.out.values.push_back(std::move(load));
}

// ... and ends with all that `d` stores.
void end_second(Halves &h, Extract &second, const Dispatch &d, const AxisMap &axes) {
  for (const dispatch::Store &old : d.stores) {
    dispatch::Store now;
    now.value = second.value(old.value);
    now.offset = second.expr(old.offset);
    now.axes = axes.of(old.axes);
    second.out.stores.push_back(std::move(now));
  }
  for (size_t i = 0; i < d.stores.size(); ++i) // outputs come last
    second.out.stores[i].operand = second.operand(d.stores[i].operand);
  second.out.name = d.name;
  second.out.nodes = d.nodes;
  h.whole = std::move(second.out);
  h.whole_sources = std::move(second.sources);
}

dispatch::Operand operand_of(std::string name, ElementType type, const Expr &count) {
  dispatch::Operand tensor;
  tensor.name = std::move(name);
  tensor.type = type;
  tensor.count = count;
  return tensor;
}

Halves split(const Dispatch &d, const Split &s) {
  const Value &r = d.values[s.reduce];
  const int64_t length = *d.axes[s.axis].extent.constant() / s.parts;
  const uint64_t results = d.axis_sets()[s.reduce];
  const Symbol part = Symbol::axis("part", s.parts);
  // Offsets in the tensor of parts: [part][results, row-major].
  const auto [flat, count] = dense(d, results);
  const Expr offset = Expr(part) * count + flat;
  Halves h;
  h.count = count * s.parts;
  const dispatch::Operand tensor = operand_of("parts", r.type, h.count);
  std::vector<uint32_t> kept;
  for (uint32_t a = 0; a < d.axes.size(); ++a)
    if (results >> a & 1)
      kept.push_back(a);

  Extract first(d);
  const Symbol within = Symbol::axis("within", length);
  first.substitute(d.axes[s.axis].symbol, Expr(part) * length + within);
  AxisMap axes(d.axes.size());
  first.out.axes.push_back({part, s.parts});
  for (uint32_t a : kept) {
    axes.now[a] = static_cast<int>(first.out.axes.size());
    first.out.axes.push_back(d.axes[a]);
  }
  for (uint32_t a : r.axes) {
    axes.now[a] = static_cast<int>(first.out.axes.size());
    first.out.axes.push_back(a == s.axis ? dispatch::Axis{within, length} : d.axes[a]);
  }
  dispatch::Store store;
  store.value = first.value(s.reduce);
  store.offset = offset;
  store.axes = axes.of(kept);
  store.axes.insert(store.axes.begin(), 0);
  first.out.values[store.value].axes = axes.of(r.axes);
  end_first(h, first, d, tensor, std::move(store), "_parts");

  Extract second(d);
  AxisMap rest(d.axes.size());
  for (uint32_t a : kept) {
    rest.now[a] = static_cast<int>(second.out.axes.size());
    second.out.axes.push_back(d.axes[a]);
  }
  second.out.axes.push_back({part, s.parts});
  begin_second(second, tensor, offset);
  Value again = r;
  again.args = {0};
  again.axes = {static_cast<uint32_t>(second.out.axes.size() - 1)};
  second.out.values.push_back(again);
  second.replace(s.reduce, 1);
  end_second(h, second, d, rest);
  return h;
}

// The reduction in a dispatch of its own; in the other it is loaded.
Halves apart(const Dispatch &d, dispatch::ValueId reduce) {
  const Value &r = d.values[reduce];
  const uint64_t results = d.axis_sets()[reduce];
  const auto [flat, count] = dense(d, results);
  Halves h;
  h.count = count;
  const dispatch::Operand tensor = operand_of("statistic_" + std::to_string(d.operands.size()), r.type, count); // a dispatch may load several

  Extract first(d);
  AxisMap axes(d.axes.size());
  dispatch::Store store;
  for (uint32_t a = 0; a < d.axes.size(); ++a)
    if (results >> a & 1 || std::find(r.axes.begin(), r.axes.end(), a) != r.axes.end()) {
      axes.now[a] = static_cast<int>(first.out.axes.size());
      if (results >> a & 1)
        store.axes.push_back(static_cast<uint32_t>(first.out.axes.size()));
      first.out.axes.push_back(d.axes[a]);
    }
  store.value = first.value(reduce);
  store.offset = flat;
  first.out.values[store.value].axes = axes.of(r.axes);
  end_first(h, first, d, tensor, std::move(store), "_statistic");

  Extract second(d);
  AxisMap same(d.axes.size());
  std::iota(same.now.begin(), same.now.end(), 0);
  second.out.axes = d.axes;
  begin_second(second, tensor, flat);
  second.replace(reduce, 0);
  end_second(h, second, d, same);
  return h;
}

class SplitReductions {
 public:
  SplitReductions(Program &program, size_t max_operands, bool units) : p_(program), max_operands_(max_operands), units_(units) {}
  void run() {
    replace_dispatches(p_.steps, [&](Step &step, Steps &out) { return divide(step, out); });
  }

 private:
  bool divide(const Step &step, Steps &out) {
    const Dispatch &original = p_.dispatches[step.dispatch];
    if (original.loop || original.sequence || !original.checks.empty() || original.stores.empty())
      return false;
    const Dispatch d = schedule::collapse_axes(original);
    for (const Value &v : d.values)
      if (v.kind == ValueKind::kReduce && v.axes.empty()) // over one point
        return false;
    const auto statistic = find_statistic(d);
    const auto found = statistic ? std::nullopt : find_split(d, units_);
    if (!statistic && !found)
      return false;
    Halves h = statistic ? apart(d, *statistic) : split(d, *found);
    if (max_operands_ && h.whole.operands.size() > max_operands_)
      return false;
    for (const Dispatch *half : {&h.parts, &h.whole})
      if (std::string problem = dispatch::verify(*half); !problem.empty())
        throw InternalError("split reductions: " + problem);
    Tensor tensor;
    tensor.kind = Tensor::Kind::kTransient;
    tensor.type.element = d.values[statistic ? *statistic : found->reduce].type;
    tensor.type.dims = {step.sizes ? h.count * step.sizes->holds() : h.count};
    tensor.name = h.parts.name;
    const TensorId parts = static_cast<TensorId>(p_.tensors.size());
    p_.tensors.push_back(std::move(tensor));
    Step first = step, second = step;
    first.operands.clear();
    for (uint32_t o : h.parts_sources)
      first.operands.push_back(step.operands[o]);
    first.operands.push_back(parts);
    first.dispatch = static_cast<uint32_t>(p_.dispatches.size());
    p_.dispatches.push_back(std::move(h.parts));
    second.operands = {parts};
    for (uint32_t o : h.whole_sources)
      second.operands.push_back(step.operands[o]);
    p_.dispatches[step.dispatch] = std::move(h.whole);
    for (Step *half : {&first, &second})
      if (!statistic || !divide(*half, out))
        out.push_back(std::move(*half));
    return true;
  }

  Program &p_;
  size_t max_operands_;
  bool units_;
};

} // namespace

void split_reductions(Program &program, size_t max_operands, bool units) { SplitReductions(program, max_operands, units).run(); }

} // namespace ingot::aotc::fuse
