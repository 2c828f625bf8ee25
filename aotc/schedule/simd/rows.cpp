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

bool has(const std::vector<uint32_t> &axes, uint32_t a) { return std::find(axes.begin(), axes.end(), a) != axes.end(); }

// Loads that run contiguously along `axis`, less those that run along it otherwise.
int contiguity(const Dispatch &d, const std::vector<uint64_t> &sets, uint32_t axis) {
  int score = 0;
  for (size_t i = 0; i < d.values.size(); ++i) {
    const Value &v = d.values[i];
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

} // namespace

std::optional<Scheduled> schedule_rows(const Dispatch &original, const TargetRecord &record) {
  if (original.loop || original.stores.empty() || !original.checks.empty())
    return std::nullopt;
  Dispatch d = collapse_axes(original);
  std::vector<uint64_t> sets = d.axis_sets();
  std::vector<uint32_t> rows = row_axes(d);
  uint64_t row_set = 0;
  for (uint32_t a : rows)
    row_set |= axis_bit(a);
  // The lane axis: reduced, and contiguous in memory.
  int lane_axis = -1, best = 0;
  for (const Value &v : d.values)
    if (v.kind == ValueKind::kReduce)
      for (uint32_t a : v.axes)
        if (int score = contiguity(d, sets, a); score > best) {
          best = score;
          lane_axis = static_cast<int>(a);
        }
  if (lane_axis < 0 || is_window(d, rows))
    return std::nullopt;
  uint32_t lane = static_cast<uint32_t>(lane_axis);
  std::map<int, std::map<std::vector<uint32_t>, std::vector<dispatch::ValueId>>> stages;
  std::vector<int> stage(d.values.size(), 0);
  bool heavy = false;
  for (uint32_t i = 0; i < d.values.size(); ++i) {
    const Value &v = d.values[i];
    for (dispatch::ValueId a : v.args)
      stage[i] = std::max(stage[i], stage[a]);
    heavy |= v.kind == ValueKind::kOp && kernel::is_math(v.code);
    if (v.kind != ValueKind::kReduce)
      continue;
    if (v.reduce >= ReduceKind::kArgMin || (sets[i] & ~row_set))
      return std::nullopt;
    if (!has(v.axes, lane))
      continue;
    stages[++stage[i]][v.axes].push_back(i);
  }

  uint32_t lanes = record.vector_bytes / 4;
  Expr n = d.axes[lane].extent, row_count = extent_product(d, rows);
  int64_t chunk = std::max<int64_t>(1, 16384 / std::max<int64_t>(1, typical(n)));
  Scheduled out;
  out.kernel.name = d.name;
  kernel::Builder b(out.kernel);
  Lowering l(b, d, original.free_symbols());
  out.grid = {ceildiv(row_count, chunk), 1, 1};
  uint32_t unroll = heavy ? 2 : 4;
  out.description = "rows{w=" + std::to_string(lanes) + ",accumulators=" + std::to_string(unroll) +
                    ",rows=" + std::to_string(chunk) + "}";
  ValueId lo = b.mul(b.group_id(0), b.index(chunk));
  ValueId hi = b.min(b.add(lo, b.index(chunk)), l.expr(row_count));
  ValueId columns = l.expr(n), w = b.index(lanes);
  ValueId full = b.mul(b.div(columns, w), w), rest = b.sub(columns, full);
  ValueId wide = b.index(int64_t{lanes} * unroll), full_wide = b.mul(b.div(columns, wide), wide);

  // One pass of reductions that share their axes.
  auto pass = [&](const std::vector<uint32_t> &axes, const std::vector<dispatch::ValueId> &reduces) {
    std::vector<uint32_t> outer = axes;
    outer.erase(std::find(outer.begin(), outer.end(), lane));
    std::vector<dispatch::ValueId> wanted;
    Values init;
    for (dispatch::ValueId r : reduces) {
      wanted.push_back(d.values[r].args[0]);
      for (uint32_t u = 0; u < unroll; ++u)
        init.push_back(l.identity(d.values[r], lanes));
    }
    auto step = [&](const Values &acc, uint32_t u, ValueId j, ValueId count) {
      Lowering::Scope scope(l);
      l.bind_lanes(lane, j, lanes, count);
      Values next = acc;
      for (size_t k = 0; k < reduces.size(); ++k) {
        const Value &r = d.values[reduces[k]];
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
    for (size_t k = 0; k < reduces.size(); ++k) {
      const Value &r = d.values[reduces[k]];
      Values part(sums.begin() + static_cast<ptrdiff_t>(k * unroll), sums.begin() + static_cast<ptrdiff_t>((k + 1) * unroll));
      for (uint32_t m = unroll / 2; m >= 1; m /= 2)
        for (uint32_t u = 0; u < m; ++u)
          part[u] = l.combine(r, part[u], part[u + m]);
      l.set(reduces[k], horizontal(l, r, part[0]));
    }
  };

  std::vector<Sink> sinks = sinks_of(d);
  b.for_loop(lo, hi, b.index(1), {}, [&](ValueId i, const Values &) {
    Lowering::Scope scope(l);
    bind_flat(l, rows, i);
    for (auto &[number, groups] : stages)
      for (auto &[axes, reduces] : groups)
        pass(axes, reduces);
    std::map<std::vector<uint32_t>, std::vector<const Sink *>> by_axes;
    for (const Sink &sink : sinks) {
      if (!has(sink.axes, lane)) {
        emit_sink(l, sink);
        continue;
      }
      by_axes[sink.axes].push_back(&sink);
    }
    for (auto &[axes, group] : by_axes) {
      std::vector<uint32_t> open;
      std::vector<dispatch::ValueId> wanted;
      for (uint32_t a : axes)
        if (!(l.bound() & axis_bit(a)) && a != lane)
          open.push_back(a);
      for (const Sink *s : group)
        wanted.insert(wanted.end(), s->values.begin(), s->values.end());
      Lowering::Scope inner(l);
      l.loops(open, 0, wanted, {}, [&](const Values &) {
        auto vector = [&](ValueId j, ValueId count) {
          Lowering::Scope at(l);
          l.bind_lanes(lane, j, lanes, count);
          for (const Sink *s : group)
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
