// Row reductions: softmax, normalisations, means over contiguous axes.
//
//   for each row of the group:
//     for each stage of reductions (those that need no other, then those that need these, ...):
//       one pass over the columns, four vector accumulators for each reduction, combined as a fixed tree
//     stores of the row; stores over the columns: one vector pass for all of them
#include <algorithm>
#include <map>

#include "aotc/schedule/collapse.h"
#include "aotc/schedule/internal.h"
#include "aotc/schedule/sinks.h"

namespace ingot::aotc::schedule {

using dispatch::Dispatch;
using dispatch::ReduceKind;
using dispatch::Value;
using dispatch::ValueKind;
using kernel::kNoValue;
using kernel::Opcode;
using kernel::ValueId;
using kernel::Values;

namespace {

// Loads under `root` that run contiguously along `axis`, less those that run along it otherwise.
int contiguity(const Dispatch &d, const std::vector<uint64_t> &sets, dispatch::ValueId root, uint32_t axis) {
  std::vector<bool> under(d.values.size(), false);
  under[root] = true;
  int score = 0;
  for (size_t i = root + 1; i-- > 0;) {
    const Value &v = d.values[i];
    if (!under[i])
      continue;
    for (dispatch::ValueId a : v.args)
      under[a] = true;
    if (v.kind != ValueKind::kLoad || !(sets[i] & axis_bit(axis)))
      continue;
    auto linear = v.expr.linear_in(d.axes[axis].symbol);
    score += linear && linear->coefficient.constant() == 1 ? 1 : -1;
  }
  return score;
}

// A window slides along the store's own axis: lanes along that axis serve it better.
bool is_window(const Dispatch &d, const std::vector<uint32_t> &rows) {
  for (uint32_t a : rows) {
    auto stored = d.stores[0].offset.linear_in(d.axes[a].symbol);
    if (!stored || stored->coefficient.constant() != 1)
      continue;
    for (const Value &v : d.values) {
      if (v.kind != ValueKind::kLoad)
        continue;
      auto linear = v.expr.linear_in(d.axes[a].symbol);
      auto c = linear ? linear->coefficient.constant() : std::nullopt;
      if (c && *c >= 1 && *c <= 4)
        return true;
    }
  }
  return false;
}

ValueId horizontal(Lowering &l, const Value &r, ValueId vector) {
  kernel::Builder &b = l.builder();
  bool is_unsigned_type = is_unsigned(l.dispatch().values[r.args[0]].type);
  switch (r.reduce) {
  case ReduceKind::kAdd:
    return b.reduce(Opcode::kReduceAdd, vector);
  case ReduceKind::kMul:
    return b.reduce(Opcode::kReduceMul, vector);
  case ReduceKind::kMin:
  case ReduceKind::kMax:
    if (!is_unsigned_type)
      return b.reduce(r.reduce == ReduceKind::kMin ? Opcode::kReduceMin : Opcode::kReduceMax, vector);
    break;
  default:
    break;
  }
  for (uint32_t n = b.type_of(vector).lanes / 2; n >= 1; n /= 2) {
    std::vector<int64_t> low, high;
    for (uint32_t i = 0; i < n; ++i) {
      low.push_back(i);
      high.push_back(i + n);
    }
    vector = l.combine(r, b.shuffle(vector, vector, low), b.shuffle(vector, vector, high));
  }
  return vector;
}

// A reduction that is not the row's alone (a maximum for each channel, say, that is then reduced over the channels) is
// computed once a row into an array, and read from there.
struct Kept {
  dispatch::ValueId reduce = 0, load = 0; // in the rewritten dispatch
  uint32_t operand = 0;
  std::vector<uint32_t> axes;             // of the array, row-major
  Expr offset;
};

constexpr int64_t kMostKept = 32768; // elements of an array

// Rewrites the dispatch so that such reductions are loads of added operands. False where an array would not be bounded.
bool keep_reductions(Dispatch &d, uint64_t row_set, std::vector<Kept> &kept) {
  std::vector<uint64_t> sets = d.axis_sets();
  Dispatch out = d;
  out.values.clear();
  std::vector<dispatch::ValueId> to(d.values.size());
  for (uint32_t i = 0; i < d.values.size(); ++i) {
    Value v = d.values[i];
    for (const Symbol &s : v.expr.symbols())
      if (s.kind() == SymbolKind::kValue)
        return false;
    for (dispatch::ValueId &a : v.args)
      a = to[a];
    if (v.otherwise != dispatch::kNoValue)
      v.otherwise = to[v.otherwise];
    to[i] = static_cast<dispatch::ValueId>(out.values.size());
    out.values.push_back(v);
    if (v.kind != ValueKind::kReduce || !(sets[i] & ~row_set))
      continue;
    Kept k;
    k.reduce = to[i];
    k.operand = static_cast<uint32_t>(out.operands.size());
    Expr count = 1;
    for (uint32_t a = 0; a < d.axes.size(); ++a)
      if ((sets[i] & ~row_set) & axis_bit(a)) {
        k.axes.push_back(a);
        k.offset = k.offset * d.axes[a].extent + d.axes[a].symbol;
        count = count * d.axes[a].extent;
      }
    if (!count.is_constant() || *count.constant() < 1 || *count.constant() > kMostKept)
      return false;
    dispatch::Operand array;
    array.name = "kept" + std::to_string(kept.size());
    array.type = v.type;
    array.count = count;
    out.operands.push_back(array);
    Value load;
    load.kind = ValueKind::kLoad;
    load.type = v.type;
    load.operand = k.operand;
    load.expr = k.offset;
    k.load = static_cast<dispatch::ValueId>(out.values.size());
    to[i] = k.load;
    out.values.push_back(load);
    kept.push_back(std::move(k));
  }
  for (dispatch::Store &s : out.stores) {
    for (const Symbol &symbol : s.offset.symbols())
      if (symbol.kind() == SymbolKind::kValue)
        return false;
    s.value = to[s.value];
  }
  d = std::move(out);
  return true;
}

} // namespace

std::optional<Scheduled> schedule_rows(const Dispatch &original, const TargetRecord &record) {
  if (original.loop || original.stores.empty())
    return std::nullopt;
  Dispatch d = original.checks.empty() ? collapse_axes(original) : original;
  std::vector<uint32_t> rows = row_axes(d);
  if (!checks_rows_only(d, rows))
    return std::nullopt;
  uint64_t row_set = 0;
  for (uint32_t a : rows)
    row_set |= axis_bit(a);
  if (is_window(d, rows))
    return std::nullopt;
  std::vector<uint64_t> sets = d.axis_sets();
  bool nested = false;
  for (uint32_t i = 0; i < d.values.size(); ++i)
    nested |= d.values[i].kind == ValueKind::kReduce && (sets[i] & ~row_set);
  std::vector<Kept> kept;
  if (nested && (!d.checks.empty() || !keep_reductions(d, row_set, kept)))
    return std::nullopt;
  sets = d.axis_sets();

  // Stages of reductions, those of one stage and the same axes together; each along its contiguous axis.
  struct Group {
    std::vector<uint32_t> axes;
    int lane = -1;
    std::vector<dispatch::ValueId> reduces;
    const Kept *kept = nullptr;
  };
  std::map<int, std::vector<Group>> stages;
  std::vector<int> stage(d.values.size(), 0);
  bool heavy = false, any_lane = false;
  int64_t longest = 1;
  for (uint32_t i = 0; i < d.values.size(); ++i) {
    const Value &v = d.values[i];
    for (dispatch::ValueId a : v.args)
      stage[i] = std::max(stage[i], stage[a]);
    for (const Kept &k : kept)
      if (k.load == i)
        stage[i] = stage[k.reduce];
    heavy |= v.kind == ValueKind::kOp && kernel::is_math(v.code);
    if (v.kind != ValueKind::kReduce)
      continue;
    if (v.reduce >= ReduceKind::kArgMin)
      return std::nullopt;
    Group g;
    g.axes = v.axes;
    int64_t points = 1;
    int best = 0;
    for (uint32_t a : v.axes) {
      points = std::min<int64_t>(1 << 20, points * std::max<int64_t>(1, typical(d.axes[a].extent)));
      if (int score = contiguity(d, sets, v.args[0], a); score > best) {
        best = score;
        g.lane = static_cast<int>(a);
      }
    }
    for (const Kept &k : kept)
      if (k.reduce == i) {
        g.kept = &k;
        points = std::min<int64_t>(1 << 20, points * *d.operands[k.operand].count.constant());
      }
    longest = std::max(longest, points);
    any_lane |= g.lane >= 0;
    std::vector<Group> &groups = stages[++stage[i]];
    bool joined = false;
    for (Group &other : groups)
      if (!g.kept && !other.kept && other.axes == g.axes && other.lane == g.lane) {
        other.reduces.push_back(i);
        joined = true;
      }
    if (!joined) {
      g.reduces = {i};
      groups.push_back(std::move(g));
    }
  }
  if (!any_lane)
    return std::nullopt;

  uint32_t lanes = 0; // along the longest of the contiguous axes
  for (const auto &[number, groups] : stages)
    for (const Group &g : groups)
      if (g.lane >= 0)
        lanes = std::max(lanes, lanes_along(record, 4, d.axes[static_cast<uint32_t>(g.lane)].extent));
  Expr row_count = extent_product(d, rows);
  int64_t chunk = std::max<int64_t>(1, 16384 / longest);
  Scheduled out;
  out.kernel.name = d.name;
  kernel::Builder b(out.kernel);
  Lowering l(b, d, original.free_symbols(), kept.size());
  out.grid = {ceildiv(row_count, chunk), 1, 1};
  uint32_t unroll = heavy ? 2 : 4;
  out.description = "rows{w=" + std::to_string(lanes) + ",accumulators=" + std::to_string(unroll) +
                    ",rows=" + std::to_string(chunk) + "}";
  ValueId lo = b.mul(b.group_id(0), b.index(chunk));
  ValueId hi = b.min(b.add(lo, b.index(chunk)), l.expr(row_count));
  ValueId w = b.index(lanes);
  auto multiple = [&](ValueId n, int64_t of) { return b.mul(b.div(n, b.index(of)), b.index(of)); };

  // One pass of reductions that share their axes; sets their values.
  auto pass = [&](const Group &g) {
    if (g.lane < 0)
      return; // computed by scalar loops where it is asked for
    uint32_t lane = static_cast<uint32_t>(g.lane);
    ValueId columns = l.extent(lane), full = multiple(columns, lanes), rest = b.sub(columns, full);
    ValueId wide = b.index(int64_t{lanes} * unroll), full_wide = multiple(columns, int64_t{lanes} * unroll);
    std::vector<uint32_t> outer = g.axes;
    outer.erase(std::find(outer.begin(), outer.end(), lane));
    std::vector<dispatch::ValueId> wanted;
    Values init;
    for (dispatch::ValueId r : g.reduces) {
      wanted.push_back(d.values[r].args[0]);
      for (uint32_t u = 0; u < unroll; ++u)
        init.push_back(l.identity(d.values[r], lanes));
    }
    auto step = [&](const Values &acc, uint32_t u, ValueId j, ValueId count) {
      Lowering::Scope scope(l);
      l.bind_lanes(lane, j, lanes, count);
      Values next = acc;
      for (size_t k = 0; k < g.reduces.size(); ++k) {
        const Value &r = d.values[g.reduces[k]];
        const Value &arg = d.values[r.args[0]];
        ValueId &into = next[k * unroll + u];
        ValueId combined;
        if (r.reduce == ReduceKind::kAdd && is_float(to_scalar(arg.type)) && arg.kind == ValueKind::kOp &&
            arg.code == Opcode::kMul)
          combined = b.mad(l.eval_lanes(arg.args[0]), l.eval_lanes(arg.args[1]), into);
        else
          combined = l.combine(r, into, l.eval_lanes(r.args[0]));
        if (count != kNoValue)
          combined = b.select(b.lt(b.lane_iota(Type(Scalar::kIndex, lanes)), b.splat(count, lanes)), combined, into);
        into = combined;
      }
      return next;
    };
    Values sums = l.loops(outer, 0, wanted, init, [&](const Values &carried) {
      Values acc = b.for_loop(b.index(0), full_wide, wide, carried, [&](ValueId j, const Values &a) {
        Values next = a;
        for (uint32_t u = 0; u < unroll; ++u)
          next = step(next, u, b.add(j, b.index(int64_t{u} * lanes)), kNoValue);
        return next;
      });
      acc = b.for_loop(full_wide, full, w, acc, [&](ValueId j, const Values &a) { return step(a, 0, j, kNoValue); });
      return b.if_else(
          b.lt(full, columns), [&] { return step(acc, 0, full, rest); }, [&] { return acc; });
    });
    for (size_t k = 0; k < g.reduces.size(); ++k) {
      const Value &r = d.values[g.reduces[k]];
      Values part(sums.begin() + static_cast<ptrdiff_t>(k * unroll), sums.begin() + static_cast<ptrdiff_t>((k + 1) * unroll));
      for (uint32_t m = unroll / 2; m >= 1; m /= 2)
        for (uint32_t u = 0; u < m; ++u)
          part[u] = l.combine(r, part[u], part[u + m]);
      l.set(g.reduces[k], horizontal(l, r, part[0]));
    }
  };
  auto stage_of = [&](const Group &g) {
    if (!g.kept) {
      pass(g);
      return;
    }
    Lowering::Scope scope(l);
    l.loops(g.kept->axes, 0, {}, {}, [&](const Values &) {
      pass(g);
      b.store(g.kept->operand, l.expr(g.kept->offset), l.eval(g.reduces[0]));
      return Values{};
    });
  };

  std::vector<Sink> sinks = sinks_of(d);
  auto lane_of = [&](const Sink &sink) {
    if (sink.check)
      return -1;
    for (uint32_t a : sink.axes) {
      auto linear = sink.store->offset.linear_in(d.axes[a].symbol);
      if (!(row_set & axis_bit(a)) && linear && linear->coefficient.constant() == 1)
        return static_cast<int>(a);
    }
    return -1;
  };
  b.for_loop(lo, hi, b.index(1), {}, [&](ValueId i, const Values &) {
    Lowering::Scope scope(l);
    bind_flat(l, rows, i);
    for (auto &[number, groups] : stages)
      for (const Group &g : groups)
        stage_of(g);
    std::map<std::pair<int, std::vector<uint32_t>>, std::vector<const Sink *>> by_axes;
    for (const Sink &sink : sinks) {
      int lane = lane_of(sink);
      if (lane < 0)
        emit_sink(l, sink);
      else
        by_axes[{lane, sink.axes}].push_back(&sink);
    }
    for (auto &[key, group] : by_axes) {
      uint32_t lane = static_cast<uint32_t>(key.first);
      ValueId columns = l.extent(lane), full = multiple(columns, lanes), rest = b.sub(columns, full);
      std::vector<uint32_t> open;
      std::vector<dispatch::ValueId> wanted;
      for (uint32_t a : key.second)
        if (!(l.bound() & axis_bit(a)) && a != lane)
          open.push_back(a);
      for (const Sink *s : group)
        wanted.insert(wanted.end(), s->values.begin(), s->values.end());
      Lowering::Scope inner(l);
      l.loops(open, 0, wanted, {}, [&, &sinks_here = group](const Values &) {
        auto vector = [&](ValueId j, ValueId count) {
          Lowering::Scope at(l);
          l.bind_lanes(lane, j, lanes, count);
          for (const Sink *s : sinks_here)
            l.store(*s->store);
        };
        b.for_loop(
            b.index(0), full, w, {},
            [&](ValueId j, const Values &) {
              vector(j, kNoValue);
              return Values{};
            },
            heavy ? 2 : 4);
        b.if_then(b.lt(full, columns), [&] { vector(full, rest); });
        return Values{};
      });
    }
    return Values{};
  });
  return out;
}

} // namespace ingot::aotc::schedule
