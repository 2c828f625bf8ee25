// Elementwise work and reductions over outer axes: vectors along the innermost stored axis.
//
//   for each row of the group:  what the row determines
//     for j in [0, n) step W:   the body on W lanes; reductions (pooling windows, outer axes) are loops over vectors
//     the last n mod W columns: the same with a lane count
//
// Where the lanes cross guards that hold in a constant middle part, that part is a loop of its own without masks.
#include <algorithm>

#include "aotc/schedule/collapse.h"
#include "aotc/schedule/internal.h"
#include "aotc/schedule/sinks.h"

namespace ingot::aotc::schedule {

using dispatch::Dispatch;
using dispatch::Value;
using dispatch::ValueKind;
using kernel::kNoValue;
using kernel::ValueId;
using kernel::Values;

namespace {

// The store's axis whose neighbours are neighbours in memory; where that is too short for vectors, the longest one. The choice
// decides the grid, so it may not depend on the record.
int choose_lane_axis(const Dispatch &d, const std::vector<uint32_t> &rows) {
  int contiguous = -1, longest = -1;
  for (uint32_t a : rows) {
    auto linear = d.stores[0].offset.linear_in(d.axes[a].symbol);
    if (linear && linear->coefficient.constant() == 1)
      contiguous = static_cast<int>(a);
    if (longest < 0 || typical(d.axes[a].extent) > typical(d.axes[static_cast<uint32_t>(longest)].extent))
      longest = static_cast<int>(a);
  }
  if (contiguous >= 0 && typical(d.axes[static_cast<uint32_t>(contiguous)].extent) >= 4)
    return contiguous;
  return longest;
}

struct Interior {
  std::vector<dispatch::Guard> guards;
  Expr lo, hi; // of the lane axis
};

// Lane columns for which every guard on the lane axis holds whatever the reduced axes are.
std::optional<Interior> interior_of(const Dispatch &d, uint32_t lane) {
  const Symbol &s = d.axes[lane].symbol;
  Interior in;
  in.lo = 0;
  in.hi = d.axes[lane].extent;
  for (const Value &v : d.values)
    for (const dispatch::Guard &g : v.guards) {
      if (!g.value.depends_on(s))
        continue;
      auto linear = g.value.linear_in(s);
      auto c = linear ? linear->coefficient.constant() : std::nullopt;
      if (!c || *c <= 0 || g.extent.depends_on(s))
        return std::nullopt;
      for (const Symbol &other : linear->rest.symbols())
        if (other.kind() != SymbolKind::kAxis)
          return std::nullopt;
      int64_t lowest = linear->rest.lower(), highest = linear->rest.upper();
      if (lowest < -(1 << 20) || highest > (1 << 20))
        return std::nullopt;
      in.guards.push_back(g);
      in.lo = max(in.lo, Expr(lowest < 0 ? (-lowest + *c - 1) / *c : 0));
      in.hi = min(in.hi, floordiv(g.extent - 1 - highest + *c * 4096, *c) - 4095);
    }
  if (in.guards.empty())
    return std::nullopt;
  in.lo = min(in.lo, d.axes[lane].extent);
  in.hi = max(in.hi, in.lo);
  return in;
}

} // namespace

std::optional<Scheduled> schedule_lanes(const Dispatch &original, const TargetRecord &record) {
  if (original.loop || original.stores.empty())
    return std::nullopt;
  Dispatch d = collapse_axes(original);
  std::vector<uint32_t> rows = row_axes(d);
  if (rows.empty())
    return std::nullopt;
  int chosen = choose_lane_axis(d, rows);
  if (chosen < 0)
    return std::nullopt;
  uint32_t lane = static_cast<uint32_t>(chosen), lanes = lanes_along(record, 4, d.axes[lane].extent);
  std::vector<Sink> sinks = sinks_of(d);
  for (const Sink &sink : sinks)
    for (uint32_t a : sink.axes)
      if (sink.check && std::find(rows.begin(), rows.end(), a) == rows.end())
        return std::nullopt;
  for (const dispatch::Store &s : d.stores) {
    auto linear = s.offset.linear_in(d.axes[lane].symbol);
    if (s.axes.size() != rows.size() && !(linear && linear->coefficient.constant() == 1))
      return std::nullopt; // the lanes would be scattered
  }
  // Rows in the order of the store's strides would be best; the order of the axes is, as a rule.
  rows.erase(std::find(rows.begin(), rows.end(), lane));
  Expr n = d.axes[lane].extent, row_count = extent_product(d, rows);

  int64_t reduced = 1;
  bool heavy = false;
  for (const Value &v : d.values) {
    if (v.kind == ValueKind::kReduce) {
      int64_t points = 1;
      for (uint32_t a : v.axes)
        points = std::min<int64_t>(1 << 20, points * std::max<int64_t>(1, typical(d.axes[a].extent)));
      reduced = std::max(reduced, points);
    }
    heavy |= v.kind == ValueKind::kReduce || kernel::is_math(v.code);
  }
  constexpr int64_t kWork = 16384;
  int64_t block = std::max<int64_t>(256, kWork / reduced / 256 * 256); // of lanes, where rows are long
  int64_t row_points = typical(n);
  for (const dispatch::Store &s : d.stores) {
    int64_t points = 1;
    for (uint32_t a : s.axes)
      if (a != lane && std::find(rows.begin(), rows.end(), a) == rows.end())
        points = std::min<int64_t>(1 << 20, points * std::max<int64_t>(1, typical(d.axes[a].extent)));
    reduced = std::max(reduced, points);
  }
  bool split = n.upper() > block;
  int64_t chunk = split ? std::max<int64_t>(1, block / std::max<int64_t>(1, row_points))
                        : std::max<int64_t>(1, kWork / reduced / std::max<int64_t>(1, row_points));
  if (split && row_points > block)
    chunk = 1;
  if (row_points <= block && split)
    block = int64_t{1} << 40; // symbolic: usually short, so rows are not cut
  Expr blocks = split ? ceildiv(n, block) : Expr(1);

  Scheduled out;
  out.kernel.name = d.name;
  kernel::Builder b(out.kernel);
  Lowering l(b, d, original.free_symbols());
  out.grid = {ceildiv(row_count, chunk) * blocks, 1, 1};
  out.description = "lanes{w=" + std::to_string(lanes) + ",rows=" + std::to_string(chunk) + "}";
  ValueId w = b.index(lanes), group = b.group_id(0);
  ValueId block_count = l.expr(blocks);
  ValueId row_group = b.div(group, block_count), column_group = b.rem(group, block_count);
  ValueId lo = b.mul(row_group, b.index(chunk));
  ValueId hi = b.min(b.add(lo, b.index(chunk)), l.expr(row_count));
  ValueId columns = l.expr(n);
  ValueId column_lo = split ? b.mul(column_group, b.index(block)) : b.index(0);
  ValueId column_hi = split ? b.min(b.add(column_lo, b.index(block)), columns) : columns;
  std::optional<Interior> interior = interior_of(d, lane);
  if (interior && typical(n) < 4 * lanes)
    interior.reset();

  // Whether any lane fails. Checks that hold for the whole row are made once, there.
  auto check = [&](const Sink &sink) {
    ValueId failed = l.eval(sink.check->condition), any = b.constant(Scalar::kBool, 0);
    if (l.lane_count() != kNoValue)
      failed = b.logical_and(failed, b.lt(b.lane_iota(Type(Scalar::kIndex, lanes)), b.splat(l.lane_count(), lanes)));
    for (uint32_t i = 0; i < lanes; ++i)
      any = b.binary(kernel::Opcode::kOr, any, b.extract(failed, i));
    b.error_if(any, sink.check->code, sink.check->site);
  };
  auto vector = [&](ValueId j, ValueId count) {
    Lowering::Scope scope(l);
    l.bind_lanes(lane, j, lanes, count);
    for (const Sink &sink : sinks)
      for (dispatch::ValueId v : sink.values)
        l.hoist(v);
    for (const Sink &sink : sinks)
      if (sink.store)
        emit_sink(l, sink);
      else if (l.varies(sink.check->condition))
        check(sink);
  };
  auto range = [&](ValueId from, ValueId to) {
    ValueId full = b.add(from, b.mul(b.div(b.sub(to, from), w), w));
    b.for_loop(
        from, full, w, {},
        [&](ValueId j, const Values &) {
          vector(j, kNoValue);
          return Values{};
        },
        heavy ? 1 : 4);
    b.if_then(b.lt(full, to), [&] { vector(full, b.sub(to, full)); });
  };
  b.for_loop(lo, hi, b.index(1), {}, [&](ValueId i, const Values &) {
    Lowering::Scope scope(l);
    bind_flat(l, rows, i);
    for (const Sink &sink : sinks)
      for (dispatch::ValueId v : sink.values)
        l.hoist(v);
    for (const Sink &sink : sinks)
      if (sink.check && std::find(sink.axes.begin(), sink.axes.end(), lane) == sink.axes.end())
        emit_sink(l, sink);
    if (!interior) {
      range(column_lo, column_hi);
      return Values{};
    }
    ValueId in_lo = b.min(b.max(l.expr(interior->lo), column_lo), column_hi);
    ValueId in_hi = b.max(b.min(l.expr(interior->hi), column_hi), in_lo);
    range(column_lo, in_lo);
    {
      Lowering::Scope inside(l);
      l.assume(interior->guards);
      range(in_lo, in_hi);
    }
    range(in_hi, column_hi);
    return Values{};
  });
  return out;
}

} // namespace ingot::aotc::schedule
