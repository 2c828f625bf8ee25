// Row reductions on threads: softmax, normalisations, sums over long axes.
//
//   a team of threads a row, one or more teams a workgroup; a team's threads are neighbours where the row runs along memory,
//   else neighbouring threads have neighbouring rows:
//     for each stage of reductions (those that need no other, then those that need these, ...):
//       every thread combines the elements t, t + team, ... of the reduced axes; the team combines as a tree
//     stores: the threads divide the elements of the open axes among them
//
// Teams without a row (past the last) do what the last row's does, and store nothing: barriers are for all.
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
constexpr uint32_t kSharedThreads = 128; // of a workgroup that has several rows
constexpr uint32_t kAbreast = 32, kLeastAbreast = 8; // rows that neighbouring threads read across
constexpr int64_t kEnoughGroups = 512; // of workgroups with few threads
constexpr int64_t kAtOnce = 4;         // elements of a row that a thread has under way
constexpr int64_t kUnrolled = 16;      // elements a thread that need no loop
constexpr uint32_t kStepTeam = 8;    // threads a row, in a step of a sequence: they read 32 bytes of it side by side

// Whether neighbouring elements along the innermost reduced axis lie side by side in most loads.
bool contiguous(const Dispatch &d, const Value &reduce) {
  if (reduce.axes.empty()) // all of one element
    return false;
  int score = 0;
  for (const Value &v : d.values) {
    if (v.kind != ValueKind::kLoad)
      continue;
    const Symbol &innermost = d.axes[reduce.axes.back()].symbol;
    if (!v.expr.depends_on(innermost))
      continue; // a scale a channel, say
    auto linear = v.expr.linear_in(innermost);
    score += linear && linear->coefficient.constant() == 1 ? 1 : -1;
  }
  return score > 0;
}

// Reductions by stages, each after those that it needs. Nothing where one is no sum, product, minimum or maximum of a row.
struct Stages {
  std::map<int, std::vector<dispatch::ValueId>> list;
  int64_t longest = 0;     // points of the longest reduction
  bool lies_well = false;  // one at least runs along memory
};

std::optional<Stages> stages_of(const Dispatch &d, uint64_t row_set) {
  std::vector<uint64_t> sets = d.axis_sets();
  std::vector<int> stage(d.values.size(), 0);
  Stages out;
  for (uint32_t i = 0; i < d.values.size(); ++i) {
    const Value &v = d.values[i];
    for (dispatch::ValueId a : v.args)
      stage[i] = std::max(stage[i], stage[a]);
    if (v.kind != ValueKind::kReduce)
      continue;
    if (v.reduce >= ReduceKind::kArgMin || (sets[i] & ~row_set))
      return std::nullopt;
    out.longest = std::max(out.longest, typical_points(d, v.axes));
    out.lies_well |= contiguous(d, v);
    out.list[++stage[i]].push_back(i);
  }
  return out;
}

class SimtRows {
 public:
  SimtRows(const Dispatch &collapsed, const Dispatch &original, const TargetRecord &record, std::vector<uint32_t> rows, uint32_t threads, uint32_t team,
           bool across = false)
      : d_(collapsed), rows_(std::move(rows)), threads_(threads), team_(team), across_(across), b_(out_.kernel), l_(b_, d_, original.free_symbols()) {
    out_.kernel.name = d_.name;
    out_.kernel.kind = record.kernel_class;
    out_.kernel.local_size = {threads, 1, 1};
    for (uint32_t a : rows_)
      row_set_ |= axis_bit(a);
  }

  Scheduled build(const Stages &stages) {
    const Expr row_count = extent_product(d_, rows_);
    const int64_t teams = threads_ / team_;
    const Expr groups = ceildiv(row_count, teams);
    out_.grid = folded_grid(groups);
    out_.description = "simt_rows{threads=" + std::to_string(threads_) + (teams > 1 ? ",team=" + std::to_string(team_) : "") +
                       (across_ ? ",across" : "") + "}";
    for (const auto &[number, reduces] : stages.list)
      for (dispatch::ValueId r : reduces) {
        Scalar type = to_scalar(d_.values[d_.values[r].args[0]].type);
        if (!scratch_.count(type))
          scratch_[type] = b_.add_array("scratch_" + std::string(name(type)), kernel::Space::kWorkgroup, type, threads_);
      }
    ValueId group = group_number(b_);
    thread_ = b_.local_id(0);
    find_reduced_loads();
    if (teams > 1) {
      ValueId width = b_.index(across_ ? teams : team_), fast = b_.rem(thread_, width), slow = b_.div(thread_, width);
      lane_ = across_ ? slow : fast;
      b_.if_then(b_.lt(group, l_.expr(groups)), [&] {
        ValueId all = l_.expr(row_count), row = b_.add(b_.mul(group, b_.index(teams)), across_ ? fast : slow);
        there_ = b_.lt(row, all);
        body(stages, b_.min(row, b_.sub(all, b_.index(1))));
      });
    } else {
      lane_ = thread_;
      b_.if_then(b_.lt(group, l_.expr(row_count)), [&] { body(stages, group); });
    }
    return std::move(out_);
  }

 private:
  void body(const Stages &stages, ValueId row) {
    Lowering::Scope scope(l_);
    bind_flat(l_, rows_, row);
    for (const auto &[number, reduces] : stages.list)
      reduce_stage(reduces);
    if (there_ == kernel::kNoValue)
      return stores();
    b_.if_then(there_, [&] {
      Lowering::Scope inner(l_);
      stores();
    });
  }

  // Reductions of one stage over the same axes go through them together.
  void reduce_stage(const std::vector<dispatch::ValueId> &reduces) {
    std::map<std::vector<uint32_t>, std::vector<dispatch::ValueId>> by_axes;
    for (dispatch::ValueId r : reduces)
      by_axes[d_.values[r].axes].push_back(r);
    for (const auto &[axes, list] : by_axes) {
      Values init;
      for (dispatch::ValueId r : list)
        init.push_back(l_.identity(d_.values[r], 1));
      for (dispatch::ValueId r : list)
        l_.hoist(d_.values[r].args[0]);
      Values parts = partial(axes, list, init);
      for (size_t k = 0; k < list.size(); ++k) {
        const Value &r = d_.values[list[k]];
        l_.set(list[k], team_combine(l_, r, scratch_.at(to_scalar(d_.values[r.args[0]].type)), parts[k], lane_, team_, across_ ? threads_ / team_ : 1));
      }
    }
  }

  // The extent, where the team divides it and a thread's share needs no loop.
  std::optional<int64_t> few(const Expr &extent) const {
    auto all = extent.constant();
    return all && *all % team_ == 0 && *all / team_ <= kUnrolled ? all : std::nullopt;
  }
  ValueId element(int64_t i) { return i ? b_.add(lane_, b_.index(i * team_)) : lane_; }

  // What was loaded for the thread's element `number` of the axes stays in registers for later stages and the stores.
  void recall(const std::vector<uint32_t> &axes, int64_t number) {
    if (number < 0)
      return;
    auto [kept, fresh] = kept_.try_emplace({axes, number});
    uint64_t set = 0;
    for (uint32_t a : axes)
      set |= axis_bit(a);
    if (fresh)
      for (dispatch::ValueId v : reduced_loads_) // but for those along other axes too
        if ((l_.axes_of(v) & set) && !(l_.axes_of(v) & ~(row_set_ | set)))
          kept->second.emplace_back(v, l_.eval(v));
    for (auto [v, value] : kept->second)
      l_.set(v, value);
  }

  // Loads that reductions are of.
  void find_reduced_loads() {
    std::vector<bool> under(d_.values.size(), false);
    for (dispatch::ValueId i = static_cast<dispatch::ValueId>(d_.values.size()); i-- > 0;) {
      const Value &v = d_.values[i];
      if (v.kind == ValueKind::kReduce || under[i])
        for (dispatch::ValueId a : v.args)
          under[a] = true;
      if (under[i] && v.kind == ValueKind::kLoad)
        reduced_loads_.push_back(i);
    }
  }

  // What this thread combines of the axes. Several elements at a time, each with accumulators of its own, so that their
  // loads are under way together.
  Values partial(const std::vector<uint32_t> &axes, const std::vector<dispatch::ValueId> &list, const Values &init) {
    const Expr extent = extent_product(d_, axes);
    auto step = [&](ValueId i, Values &carried, size_t at, int64_t number = -1) {
      Lowering::Scope scope(l_);
      bind_flat(l_, axes, i);
      recall(axes, number);
      for (size_t k = 0; k < list.size(); ++k)
        carried[at + k] = l_.combine(d_.values[list[k]], carried[at + k], l_.eval(d_.values[list[k]].args[0]));
    };
    auto together = [&](Values sums, int64_t count) { // of `count` accumulators for each reduction
      for (int64_t half = count / 2; half >= 1; half /= 2)
        for (int64_t i = 0; i < half; ++i)
          for (size_t k = 0; k < list.size(); ++k) {
            ValueId &sum = sums[static_cast<size_t>(i) * list.size() + k];
            sum = l_.combine(d_.values[list[k]], sum, sums[static_cast<size_t>(i + half) * list.size() + k]);
          }
      sums.resize(list.size());
      return sums;
    };
    Values many;
    for (int64_t i = 0; i < kAtOnce; ++i)
      many.insert(many.end(), init.begin(), init.end());
    const int64_t team = team_;
    if (auto all = few(extent)) {
      for (int64_t i = 0; i < *all / team; ++i)
        step(element(i), many, static_cast<size_t>(i % kAtOnce) * list.size(), i);
      return together(many, kAtOnce);
    }
    if (typical_points(d_, axes) < 2 * team * kAtOnce)
      return b_.for_loop(lane_, l_.expr(extent), b_.index(team), init, [&](ValueId i, const Values &carried) {
        Values next = carried;
        step(i, next, 0);
        return next;
      });
    ValueId span = b_.index(team * kAtOnce), all = l_.expr(extent), full = b_.mul(b_.div(all, span), span);
    many = b_.for_loop(lane_, full, span, many, [&](ValueId i, const Values &carried) {
      Values next = carried;
      for (int64_t k = 0; k < kAtOnce; ++k)
        step(b_.add(i, b_.index(k * team)), next, static_cast<size_t>(k) * list.size());
      return next;
    });
    return b_.for_loop(b_.add(full, lane_), all, b_.index(team), together(many, kAtOnce), [&](ValueId i, const Values &carried) {
      Values next = carried;
      step(i, next, 0);
      return next;
    });
  }

  void stores() {
    for (const Sink &sink : sinks_of(d_)) {
      std::vector<uint32_t> open;
      for (uint32_t a : sink.axes)
        if (!(row_set_ & axis_bit(a)))
          open.push_back(a);
      if (open.empty()) {
        b_.if_then(b_.compare(kernel::Opcode::kEq, lane_, b_.index(0)), [&] {
          Lowering::Scope inner(l_);
          emit_sink(l_, sink);
        });
        continue;
      }
      for (dispatch::ValueId v : sink.values)
        l_.hoist(v);
      if (auto all = few(extent_product(d_, open)); all && kept_.count({open, 0})) {
        for (int64_t i = 0; i < *all / team_; ++i) {
          Lowering::Scope inner(l_);
          bind_flat(l_, open, element(i));
          recall(open, i);
          emit_sink(l_, sink);
        }
        continue;
      }
      b_.for_loop(lane_, l_.expr(extent_product(d_, open)), b_.index(team_), {}, [&](ValueId i, const Values &) {
        Lowering::Scope inner(l_);
        bind_flat(l_, open, i);
        emit_sink(l_, sink);
        return Values{};
      });
    }
  }

  const Dispatch &d_;
  std::vector<uint32_t> rows_;
  uint64_t row_set_ = 0;
  uint32_t threads_, team_;
  bool across_;
  Scheduled out_;
  kernel::Builder b_;
  Lowering l_;
  std::map<Scalar, uint32_t> scratch_;
  std::vector<dispatch::ValueId> reduced_loads_;
  std::map<std::pair<std::vector<uint32_t>, int64_t>, std::vector<std::pair<dispatch::ValueId, ValueId>>> kept_; // by axes and number
  ValueId thread_ = kernel::kNoValue, lane_ = kernel::kNoValue, there_ = kernel::kNoValue;
};

// Rows of a dispatch that teams can take; `threads` a workgroup.
struct RowsForm {
  Dispatch d;
  std::vector<uint32_t> rows;
  Stages stages;
};

std::optional<RowsForm> match_rows(const Dispatch &original) {
  if (original.loop || original.stores.empty())
    return std::nullopt;
  RowsForm f;
  f.d = original.checks.empty() ? collapse_axes(original) : original;
  f.rows = row_axes(f.d);
  if (!checks_rows_only(f.d, f.rows))
    return std::nullopt;
  uint64_t row_set = 0;
  for (uint32_t a : f.rows)
    row_set |= axis_bit(a);
  auto stages = stages_of(f.d, row_set);
  if (!stages)
    return std::nullopt;
  f.stages = std::move(*stages);
  return f;
}

} // namespace

std::optional<Scheduled> schedule_simt_rows(const Dispatch &original, const TargetRecord &record) {
  auto f = match_rows(original);
  if (!f || f->stages.longest < kShortest || (!f->stages.lies_well && typical_points(f->d, f->rows) >= kManyRows))
    return std::nullopt;
  const uint32_t most = std::min(kMostThreads, record.max_workgroup_invocations);
  if (!f->stages.lies_well && most % kAbreast == 0 && most > kAbreast) {
    uint32_t abreast = kAbreast;
    while (abreast > kLeastAbreast && typical_points(f->d, f->rows) / abreast < kEnoughGroups)
      abreast /= 2;
    return SimtRows(f->d, original, record, f->rows, most, most / abreast, /*across=*/true).build(f->stages);
  }
  const uint32_t team = threads_for(f->stages.longest, most);
  const uint32_t teams = typical_points(f->d, f->rows) >= kManyRows ? std::max(1u, std::min(most, kSharedThreads) / team) : 1; // short rows share a workgroup
  return SimtRows(f->d, original, record, f->rows, team * teams, team).build(f->stages);
}

Scheduled schedule_simt_step(const Dispatch &d, const TargetRecord &record) {
  const uint32_t threads = step_threads(record);
  auto f = match_rows(d);
  if (f && f->stages.longest >= kShortest && typical_points(f->d, f->rows) < 64 * int64_t{threads})
    return SimtRows(f->d, d, record, f->rows, threads, kStepTeam).build(f->stages);
  return schedule_simt_each(d, record, threads);
}

uint32_t step_threads(const TargetRecord &record) { return threads_for(kMostThreads, std::min(kMostThreads, record.max_workgroup_invocations)); }

} // namespace ingot::aotc::schedule
