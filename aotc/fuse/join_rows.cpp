// See join_rows.h.
#include "aotc/fuse/join_rows.h"

#include <algorithm>
#include <map>
#include <numeric>

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

// Rows that a workgroup's threads hold in registers, and sums of so few parts that a thread adds them as it goes.
constexpr int64_t kShortestRow = 32, kLongestRow = 4096, kMostParts = 8;

// An offset that runs densely over all of a tensor: its axes from the outermost to the innermost, and the stride of each.
struct Dense {
  std::vector<uint32_t> axes;
  std::vector<int64_t> strides;
};

std::optional<Dense> dense(const Dispatch &d, const Expr &offset, const Expr &count) {
  Dense out;
  std::map<int64_t, uint32_t> by_stride;
  Expr rest = offset;
  for (uint32_t a = 0; a < d.axes.size(); ++a) {
    if (!rest.depends_on(d.axes[a].symbol))
      continue;
    const auto linear = rest.linear_in(d.axes[a].symbol);
    const auto stride = linear ? linear->coefficient.constant() : std::nullopt;
    if (!stride || *stride <= 0 || !by_stride.emplace(*stride, a).second)
      return std::nullopt;
    rest = linear->rest;
  }
  if (rest.constant() != 0)
    return std::nullopt;
  int64_t reach = 1;
  Expr elements(1);
  for (const auto &[stride, axis] : by_stride) {
    if (stride != reach)
      return std::nullopt;
    const Expr &extent = d.axes[axis].extent;
    elements = elements * extent;
    out.axes.insert(out.axes.begin(), axis);
    out.strides.insert(out.strides.begin(), stride);
    reach = extent.constant() ? reach * *extent.constant() : -1; // only the outermost may be unknown
  }
  return elements == count ? std::optional(out) : std::nullopt;
}

bool gathers(const Expr &e) {
  const std::vector<Symbol> symbols = e.symbols();
  return std::any_of(symbols.begin(), symbols.end(), [](const Symbol &s) { return s.kind() == SymbolKind::kValue; });
}

// No indices out of memory, which are expressions over numbers of values.
bool plain(const Dispatch &d) {
  if (d.loop || d.sequence || !d.checks.empty() || d.stores.empty())
    return false;
  for (const Value &v : d.values) {
    if (gathers(v.expr))
      return false;
    for (const Guard &g : v.guards)
      if (gathers(g.value) || gathers(g.extent))
        return false;
  }
  return std::none_of(d.stores.begin(), d.stores.end(), [](const dispatch::Store &s) { return gathers(s.offset); });
}

std::optional<kernel::Opcode> combining(ReduceKind kind) {
  switch (kind) {
  case ReduceKind::kAdd: return kernel::Opcode::kAdd;
  case ReduceKind::kMul: return kernel::Opcode::kMul;
  default: return std::nullopt;
  }
}

// One value for each point of one store, but for sums of a few loads; what is read along its rows lies side by side.
bool is_map(const Dispatch &d) {
  if (!plain(d) || d.stores.size() != 1)
    return false;
  const auto own = dense(d, d.stores[0].offset, d.operands[d.stores[0].operand].count);
  if (!own || own->axes.empty())
    return false;
  const Symbol &along = d.axes[own->axes.back()].symbol;
  for (const Value &v : d.values) {
    if (v.kind == ValueKind::kLoad && v.expr.depends_on(along))
      if (const auto linear = v.expr.linear_in(along); !linear || linear->coefficient.constant() != 1)
        return false;
    if (v.kind != ValueKind::kReduce)
      continue;
    int64_t parts = 1;
    for (uint32_t a : v.axes)
      parts *= std::find(own->axes.begin(), own->axes.end(), a) != own->axes.end() // it is stored over as well
                   ? kMostParts + 1
                   : d.axes[a].extent.constant().value_or(kMostParts + 1);
    if (parts < 1 || parts > kMostParts || !combining(v.reduce) || d.values[v.args[0]].kind != ValueKind::kLoad)
      return false;
  }
  return true;
}

// Its rows are reduced, each of them whole; `load`: the offset at which it reads operand `from`, all of it once.
std::optional<Expr> rows_of(const Dispatch &d, uint32_t from) {
  if (!plain(d))
    return std::nullopt;
  const std::vector<uint32_t> rows = schedule::row_axes(d);
  std::vector<uint32_t> open;
  for (uint32_t a = 0; a < d.axes.size(); ++a)
    if (std::find(rows.begin(), rows.end(), a) == rows.end())
      open.push_back(a);
  int64_t length = 1;
  for (uint32_t a : open)
    length *= std::min<int64_t>(d.axes[a].extent.constant().value_or(kLongestRow + 1), kLongestRow + 1);
  if (length < kShortestRow || length > kLongestRow)
    return std::nullopt;
  bool reduces = false;
  std::optional<Expr> load;
  for (const Value &v : d.values) {
    if (v.kind == ValueKind::kReduce) {
      if (v.reduce >= ReduceKind::kArgMin || v.axes != open)
        return std::nullopt;
      reduces = true;
    }
    if (v.kind != ValueKind::kLoad || v.operand != from)
      continue;
    if (!v.guards.empty() || (load && !(*load == v.expr)))
      return std::nullopt;
    load = v.expr;
  }
  const auto all = load && reduces ? dense(d, *load, d.operands[from].count) : std::nullopt;
  return all && all->axes.size() == d.axes.size() ? load : std::nullopt;
}

class JoinRows {
 public:
  JoinRows(Program &program, size_t max_operands) : p_(program), max_operands_(max_operands) {}
  void run() {
    for (TensorId t : p_.output_tensors)
      ++uses_[t];
    count(p_.prepare);
    count(p_.steps);
    join(p_.steps);
  }

 private:
  void count(const Steps &steps) {
    for (const Step &s : steps) {
      for (TensorId t : s.operands)
        ++uses_[t];
      if (s.loop) {
        if (s.loop->condition)
          ++uses_[*s.loop->condition];
        for (const LoopStep::Carried &c : s.loop->carried)
          ++uses_[c.state], ++uses_[c.next];
        for (const LoopStep::Scan &c : s.loop->scans)
          ++uses_[c.slice], ++uses_[c.whole];
      }
      count(s.then);
      count(s.otherwise);
    }
  }

  void join(Steps &steps) {
    for (Step &s : steps) {
      join(s.then);
      join(s.otherwise);
    }
    for (size_t i = 0; i < steps.size(); ++i)
      if (const auto reader = reader_of(steps, i); reader && merge(steps[i], steps[*reader])) {
        steps.erase(steps.begin() + static_cast<std::ptrdiff_t>(i));
        --i;
      }
  }

  // The dispatch that reads first what step i writes, before anything else than dispatches happens.
  std::optional<size_t> reader_of(const Steps &steps, size_t i) const {
    const Step &map = steps[i];
    if (map.kind != Step::Kind::kDispatch || map.sizes)
      return std::nullopt;
    for (TensorId t : map.operands) // others may write it meanwhile
      if (p_.tensors[t].kind == Tensor::Kind::kState)
        return std::nullopt;
    const TensorId result = map.operands.back();
    for (size_t j = i + 1; j < steps.size(); ++j) {
      const Step &s = steps[j];
      if (s.kind != Step::Kind::kDispatch)
        return std::nullopt;
      if (std::find(s.operands.begin(), s.operands.end(), result) != s.operands.end())
        return s.sizes ? std::nullopt : std::optional(j);
    }
    return std::nullopt;
  }

  // The map's work becomes the reader's; false where they do not fit.
  bool merge(const Step &map, Step &reader) {
    const TensorId result = map.operands.back();
    const Dispatch a = schedule::collapse_axes(p_.dispatches[map.dispatch]), b = schedule::collapse_axes(p_.dispatches[reader.dispatch]);
    const auto at = std::find(reader.operands.begin(), reader.operands.end(), result);
    const auto from = static_cast<uint32_t>(at - reader.operands.begin());
    if (std::count(reader.operands.begin(), reader.operands.end(), result) != 1 || b.operands[from].output || !is_map(a))
      return false;
    const auto load = rows_of(b, from);
    if (!load)
      return false;
    const bool kept = uses_[result] > 2; // by who writes it and the reader

    Dispatch d;
    d.name = b.name;
    d.nodes = a.nodes;
    for (const std::string &n : b.nodes)
      if (std::find(d.nodes.begin(), d.nodes.end(), n) == d.nodes.end())
        d.nodes.push_back(n);
    d.axes = b.axes;
    std::vector<TensorId> operands;
    std::vector<uint32_t> of_a(a.operands.size()), of_b(b.operands.size());
    auto take = [&](const dispatch::Operand &o, TensorId tensor) {
      if (!o.output)
        for (uint32_t i = 0; i < operands.size(); ++i)
          if (operands[i] == tensor)
            return i;
      d.operands.push_back(o);
      d.operands.back().name = (o.output ? "y" : "x") + std::to_string(operands.size());
      operands.push_back(tensor);
      return static_cast<uint32_t>(operands.size() - 1);
    };
    for (bool outputs : {false, true}) {
      for (uint32_t i = 0; i < a.operands.size(); ++i)
        if (a.operands[i].output == outputs && (!outputs || kept))
          of_a[i] = take(a.operands[i], map.operands[i]);
      for (uint32_t i = 0; i < b.operands.size(); ++i)
        if (b.operands[i].output == outputs && i != from)
          of_b[i] = take(b.operands[i], reader.operands[i]);
    }
    if (max_operands_ && d.operands.size() > max_operands_)
      return false;

    const dispatch::ValueId stored = add_map(d, a, of_a, *load);
    if (kept) {
      std::vector<uint32_t> all(d.axes.size());
      std::iota(all.begin(), all.end(), 0u);
      d.stores.push_back({of_a[a.stores[0].operand], *load, stored, all});
    }
    std::vector<dispatch::ValueId> number(b.values.size());
    for (uint32_t i = 0; i < b.values.size(); ++i) {
      const Value &v = b.values[i];
      if (v.kind == ValueKind::kLoad && v.operand == from) {
        number[i] = stored;
        continue;
      }
      number[i] = add(d, v, number, of_b, {});
    }
    for (dispatch::Store s : b.stores) {
      s.operand = of_b[s.operand];
      s.value = number[s.value];
      d.stores.push_back(std::move(s));
    }
    if (std::string problem = dispatch::verify(d); !problem.empty())
      throw InternalError("join rows: " + problem);
    p_.dispatches[reader.dispatch] = std::move(d);
    reader.operands = std::move(operands);
    if (!kept)
      uses_.erase(result);
    return true;
  }

  static dispatch::ValueId add(Dispatch &d, Value v, const std::vector<dispatch::ValueId> &number, const std::vector<uint32_t> &operand,
                               const std::map<Symbol, Expr> &where) {
    if (v.kind == ValueKind::kLoad)
      v.operand = operand[v.operand];
    if (!where.empty()) {
      v.expr = v.expr.substitute(where);
      for (Guard &g : v.guards)
        g = {g.value.substitute(where), g.extent.substitute(where)};
    }
    for (dispatch::ValueId &x : v.args)
      x = number[x];
    if (v.otherwise != dispatch::kNoValue)
      v.otherwise = number[v.otherwise];
    d.values.push_back(std::move(v));
    return static_cast<dispatch::ValueId>(d.values.size() - 1);
  }

  // The map's values where its result lies at `offset`; the one that it stores.
  static dispatch::ValueId add_map(Dispatch &d, const Dispatch &a, const std::vector<uint32_t> &operand, const Expr &offset) {
    const dispatch::Store &store = a.stores[0];
    const Dense own = *dense(a, store.offset, a.operands[store.operand].count);
    std::map<Symbol, Expr> where;
    for (size_t i = 0; i < own.axes.size(); ++i) {
      const dispatch::Axis &axis = a.axes[own.axes[i]];
      const Expr whole = floordiv(offset, own.strides[i]);
      where[axis.symbol] = i ? mod(whole, axis.extent) : whole;
    }
    std::vector<dispatch::ValueId> number(a.values.size(), dispatch::kNoValue);
    const std::vector<uint64_t> sets = a.axis_sets();
    uint64_t parts = 0;
    for (const Value &v : a.values)
      if (v.kind == ValueKind::kReduce)
        for (uint32_t x : v.axes)
          parts |= uint64_t{1} << x;
    for (uint32_t i = 0; i < a.values.size(); ++i) {
      const Value &v = a.values[i];
      if (sets[i] & parts) // a load that only a sum takes: each of its parts is a load
        continue;
      if (v.kind != ValueKind::kReduce) {
        number[i] = add(d, v, number, operand, where);
        continue;
      }
      Value term = a.values[v.args[0]], sum;
      sum.kind = ValueKind::kOp;
      sum.type = v.type;
      sum.code = *combining(v.reduce);
      int64_t count = 1;
      for (uint32_t x : v.axes)
        count *= *a.axes[x].extent.constant();
      std::map<Symbol, Expr> here = where;
      for (int64_t k = 0; k < count; ++k) {
        int64_t rest = k;
        for (size_t x = v.axes.size(); x-- > 0;) {
          const int64_t extent = *a.axes[v.axes[x]].extent.constant();
          here[a.axes[v.axes[x]].symbol] = Expr(rest % extent);
          rest /= extent;
        }
        const dispatch::ValueId part = add(d, term, number, operand, here);
        if (k == 0) {
          number[i] = part;
          continue;
        }
        sum.args = {number[i], part};
        d.values.push_back(sum);
        number[i] = static_cast<dispatch::ValueId>(d.values.size() - 1);
      }
    }
    return number[store.value];
  }

  Program &p_;
  size_t max_operands_;
  std::map<TensorId, size_t> uses_;
};

} // namespace

void join_rows(Program &program, size_t max_operands) { JoinRows(program, max_operands).run(); }

} // namespace ingot::aotc::fuse
