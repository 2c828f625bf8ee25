// The schedule that covers every dispatch: scalar code, one row of the independent axes after the other.
//
//   simd, block: grid (ceil(rows / chunk), 1, 1); a group runs `chunk` rows, so that it has at least ~4096 points of work
//   simt: one thread a row, 64 threads a group, the number of groups folded into x and y
//
// What is within a row (reductions, stores over more axes) is loops in the body's order; a value is computed at the
// outermost loop that determines it, so a softmax costs rows * columns.
#include <algorithm>

#include "aotc/base/error.h"
#include "aotc/schedule/collapse.h"
#include "aotc/schedule/internal.h"
#include "aotc/schedule/simt/threads.h"
#include "aotc/schedule/sinks.h"

namespace ingot::aotc::schedule {

using kernel::ValueId;
using kernel::Values;

namespace {

// Points of work within one row, about.
int64_t work_per_row(const dispatch::Dispatch &d, const std::vector<uint32_t> &rows) {
  uint64_t row_set = 0;
  for (uint32_t a : rows)
    row_set |= axis_bit(a);
  std::vector<uint64_t> sets = d.axis_sets();
  auto points = [&](uint64_t set) {
    int64_t n = 1;
    for (uint32_t a = 0; a < d.axes.size(); ++a)
      if ((set & ~row_set) & axis_bit(a))
        n = std::min<int64_t>(n * std::max<int64_t>(1, std::min<int64_t>(typical(d.axes[a].extent), 1 << 20)), 1 << 20);
    return n;
  };
  int64_t work = 1;
  for (size_t i = 0; i < d.values.size(); ++i)
    work = std::max(work, points(sets[i]));
  for (const dispatch::Store &s : d.stores) {
    uint64_t set = 0;
    for (uint32_t a : s.axes)
      set |= axis_bit(a);
    work = std::max(work, points(set));
  }
  return work;
}

Scheduled loop_body(const dispatch::Dispatch &d) {
  Scheduled out;
  out.kernel = d.loop->kernel;
  out.grid = {1, 1, 1};
  out.description = "loop";
  return out;
}

void emit_row(Lowering &l, const std::vector<uint32_t> &rows, const std::vector<Sink> &sinks, ValueId flat) {
  Lowering::Scope scope(l);
  bind_flat(l, rows, flat);
  for (const Sink &sink : sinks)
    for (dispatch::ValueId v : sink.values)
      l.hoist(v);
  for (const Sink &sink : sinks)
    emit_sink(l, sink);
}

} // namespace

Scheduled schedule_naive(const dispatch::Dispatch &d, const TargetRecord &record) {
  if (d.loop)
    return loop_body(d);
  const bool simt = record.kernel_class == kernel::Class::kSimt;
  if (d.sequence)
    return schedule_sequence(d, record, simt ? schedule_simt_step : schedule_naive);
  if (simt)
    return schedule_simt_each(d, record, 64);
  Scheduled out;
  out.kernel.name = d.name;
  out.kernel.kind = record.kernel_class;
  kernel::Builder b(out.kernel);
  Lowering l(b, d);
  std::vector<uint32_t> rows = row_axes(d);
  std::vector<Sink> sinks = sinks_of(d);
  Expr total = extent_product(d, rows);
  int64_t chunk = std::max<int64_t>(1, 4096 / work_per_row(d, rows));
  out.grid = {ceildiv(total, chunk), 1, 1};
  out.description = "naive{rows=" + std::to_string(chunk) + "}";
  ValueId lo = b.mul(b.group_id(0), b.index(chunk));
  ValueId hi = b.min(b.add(lo, b.index(chunk)), l.expr(total));
  b.for_loop(lo, hi, b.index(1), {}, [&](ValueId i, const Values &) {
    emit_row(l, rows, sinks, i);
    return Values{};
  });
  return out;
}

Scheduled schedule_simt_each(const dispatch::Dispatch &original, const TargetRecord &record, uint32_t threads) {
  Scheduled out;
  out.kernel.name = original.name;
  out.kernel.kind = record.kernel_class;
  kernel::Builder b(out.kernel);
  const dispatch::Dispatch d = original.checks.empty() ? collapse_axes(original) : original;
  Lowering l(b, d, original.free_symbols());
  std::vector<uint32_t> rows = row_axes(d);
  std::vector<Sink> sinks = sinks_of(d);
  Expr total = extent_product(d, rows);
  // Where there is more than enough for every thread of a large device, a thread takes several rows, a workgroup's width
  // apart, so that it has several loads under way.
  constexpr int64_t kMany = 1 << 20, kRowsEach = 4;
  const int64_t each = typical(total) >= kMany && work_per_row(d, rows) <= 64 ? kRowsEach : 1;
  if (each > 1)
    threads = std::min(std::max(threads, 256u), record.max_workgroup_invocations);
  out.kernel.local_size = {threads, 1, 1};
  const int64_t span = each * threads;
  out.grid = folded_grid(ceildiv(total, span));
  out.description = "naive{threads=" + std::to_string(threads) + (each > 1 ? ",rows=" + std::to_string(each) : "") + "}";
  ValueId first = b.add(b.mul(group_number(b), b.index(span)), b.local_id(0)), count = l.expr(total);
  auto row = [&](ValueId flat) { emit_row(l, rows, sinks, flat); };
  auto guarded = [&](int64_t i) {
    ValueId flat = i ? b.add(first, b.index(i * threads)) : first;
    b.if_then(b.lt(flat, count), [&] {
      Lowering::Scope scope(l);
      row(flat);
    });
  };
  if (each == 1) {
    guarded(0);
    return out;
  }
  b.if_else(
      b.lt(b.add(first, b.index((each - 1) * threads)), count),
      [&] {
        for (int64_t i = 0; i < each; ++i) {
          Lowering::Scope scope(l);
          row(b.add(first, b.index(i * threads)));
        }
        return Values{};
      },
      [&] {
        for (int64_t i = 0; i < each; ++i)
          guarded(i);
        return Values{};
      });
  return out;
}

} // namespace ingot::aotc::schedule
