// Row reductions on threads: softmax, normalisations, sums over long axes.
//
//   a workgroup a row:
//     for each stage of reductions (those that need no other, then those that need these, ...):
//       every thread combines the elements t, t + threads, ... of the reduced axes; the threads combine as a tree
//     stores: the threads divide the elements of the open axes among them
#include <algorithm>
#include <map>

#include "aotc/schedule/collapse.h"
#include "aotc/schedule/internal.h"
#include "aotc/schedule/simt/threads.h"
#include "aotc/schedule/sinks.h"

namespace ingot::aotc::schedule {

using dispatch::Dispatch;
using dispatch::ReduceKind;
using dispatch::Value;
using dispatch::ValueKind;
using kernel::ValueId;
using kernel::Values;

namespace {

constexpr uint32_t kMostThreads = 256;
constexpr int64_t kShortest = 32;    // a row with less to reduce is one thread's work
constexpr int64_t kManyRows = 16384; // rows that fill any device with a thread each

int64_t points(const Dispatch &d, const std::vector<uint32_t> &axes) {
  int64_t n = 1;
  for (uint32_t a : axes)
    n = std::min<int64_t>(1 << 24, n * std::max<int64_t>(1, typical(d.axes[a].extent)));
  return n;
}

// Whether neighbouring elements along the innermost reduced axis lie side by side in most loads.
bool contiguous(const Dispatch &d, const Value &reduce) {
  int score = 0;
  for (const Value &v : d.values) {
    if (v.kind != ValueKind::kLoad)
      continue;
    for (uint32_t a : reduce.axes)
      if (v.expr.depends_on(d.axes[a].symbol)) {
        auto linear = v.expr.linear_in(d.axes[reduce.axes.back()].symbol);
        score += linear && linear->coefficient.constant() == 1 ? 1 : -1;
        break;
      }
  }
  return score > 0;
}

} // namespace

std::optional<Scheduled> schedule_simt_rows(const Dispatch &original, const TargetRecord &record) {
  if (original.loop || original.stores.empty() || !original.checks.empty())
    return std::nullopt;
  Dispatch d = collapse_axes(original);
  std::vector<uint32_t> rows = row_axes(d);
  uint64_t row_set = 0;
  for (uint32_t a : rows)
    row_set |= axis_bit(a);
  std::vector<uint64_t> sets = d.axis_sets();
  std::map<int, std::vector<dispatch::ValueId>> stages;
  std::vector<int> stage(d.values.size(), 0);
  int64_t longest = 0;
  bool lies_well = false;
  for (uint32_t i = 0; i < d.values.size(); ++i) {
    const Value &v = d.values[i];
    for (dispatch::ValueId a : v.args)
      stage[i] = std::max(stage[i], stage[a]);
    if (v.kind != ValueKind::kReduce)
      continue;
    if (v.reduce >= ReduceKind::kArgMin || (sets[i] & ~row_set))
      return std::nullopt;
    longest = std::max(longest, points(d, v.axes));
    lies_well |= contiguous(d, v);
    stages[++stage[i]].push_back(i);
  }
  if (longest < kShortest || (!lies_well && points(d, rows) >= kManyRows))
    return std::nullopt;

  uint32_t threads = threads_for(longest, std::min(kMostThreads, record.max_workgroup_invocations));
  Scheduled out;
  out.kernel.name = d.name;
  out.kernel.kind = record.kernel_class;
  out.kernel.local_size = {threads, 1, 1};
  kernel::Builder b(out.kernel);
  Lowering l(b, d, original.free_symbols());
  Expr row_count = extent_product(d, rows);
  out.grid = folded_grid(row_count);
  out.description = "simt_rows{threads=" + std::to_string(threads) + "}";
  std::map<Scalar, uint32_t> scratch;
  for (const auto &[number, reduces] : stages)
    for (dispatch::ValueId r : reduces) {
      Scalar type = to_scalar(d.values[d.values[r].args[0]].type);
      if (!scratch.count(type))
        scratch[type] = b.add_array("scratch_" + std::string(name(type)), kernel::Space::kWorkgroup, type, threads);
    }
  ValueId group = group_number(b), thread = b.local_id(0), step = b.index(threads);

  // Reductions of one stage over the same axes go through them together.
  auto reduce_stage = [&](const std::vector<dispatch::ValueId> &reduces) {
    std::map<std::vector<uint32_t>, std::vector<dispatch::ValueId>> by_axes;
    for (dispatch::ValueId r : reduces)
      by_axes[d.values[r].axes].push_back(r);
    for (const auto &[axes, list] : by_axes) {
      Values init;
      for (dispatch::ValueId r : list)
        init.push_back(l.identity(d.values[r], 1));
      for (dispatch::ValueId r : list)
        l.hoist(d.values[r].args[0]);
      Values parts = b.for_loop(thread, l.expr(extent_product(d, axes)), step, init, [&, &axes = axes, &list = list](ValueId i, const Values &carried) {
        Lowering::Scope scope(l);
        bind_flat(l, axes, i);
        Values next;
        for (size_t k = 0; k < list.size(); ++k)
          next.push_back(l.combine(d.values[list[k]], carried[k], l.eval(d.values[list[k]].args[0])));
        return next;
      });
      for (size_t k = 0; k < list.size(); ++k) {
        const Value &r = d.values[list[k]];
        l.set(list[k], workgroup_combine(l, r, scratch.at(to_scalar(d.values[r.args[0]].type)), parts[k], threads));
      }
    }
  };
  b.if_then(b.lt(group, l.expr(row_count)), [&] {
    Lowering::Scope scope(l);
    bind_flat(l, rows, group);
    for (const auto &[number, reduces] : stages)
      reduce_stage(reduces);
    for (const Sink &sink : sinks_of(d)) {
      std::vector<uint32_t> open;
      for (uint32_t a : sink.axes)
        if (!(row_set & axis_bit(a)))
          open.push_back(a);
      if (open.empty()) {
        b.if_then(b.compare(kernel::Opcode::kEq, thread, b.index(0)), [&] {
          Lowering::Scope inner(l);
          emit_sink(l, sink);
        });
        continue;
      }
      for (dispatch::ValueId v : sink.values)
        l.hoist(v);
      b.for_loop(thread, l.expr(extent_product(d, open)), step, {}, [&](ValueId i, const Values &) {
        Lowering::Scope inner(l);
        bind_flat(l, open, i);
        emit_sink(l, sink);
        return Values{};
      });
    }
  });
  return out;
}

} // namespace ingot::aotc::schedule
