// The choice of a schedule. See schedule.h.
#include "aotc/schedule/schedule.h"

#include <algorithm>
#include <span>

#include "aotc/schedule/internal.h"
#include "aotc/schedule/sinks.h"

namespace ingot::aotc::schedule {

// What interpreting an op costs, in lanes of it.
static constexpr int64_t kOverheadLanes = 64;

uint32_t lanes_along(const TargetRecord &record, uint32_t bytes, const Expr &extent) {
  uint32_t most = record.vector_bytes / bytes;
  if (record.kernel_class == kernel::Class::kSimd)
    return most;
  // A part of a vector at the end costs a whole one, so several shorter ones may be fewer lanes in all.
  int64_t n = std::clamp<int64_t>(typical(extent), 1, 1 << 20);
  uint32_t best = 8;
  for (uint32_t lanes = 8; lanes <= most; lanes *= 2) {
    auto cost = [&](uint32_t l) { return (n + l - 1) / l * (l + kOverheadLanes); };
    if (cost(lanes) <= cost(best))
      best = lanes;
  }
  return best;
}

namespace {

// In order of preference.
using Form = std::optional<Scheduled> (*)(const dispatch::Dispatch &, const TargetRecord &);
constexpr Form kForms[] = {schedule_dot, schedule_direct, schedule_window, schedule_attention, schedule_contract, schedule_rows, schedule_lanes};
constexpr Form kBlockForms[] = {schedule_direct, schedule_window, schedule_block_contract, schedule_rows, schedule_lanes};
constexpr Form kSimtForms[] = {schedule_simt_attention_fragments, schedule_simt_attention, schedule_simt_few_rows, schedule_simt_fragments, schedule_simt_contract, schedule_simt_window, schedule_simt_rows, schedule_simt_transpose};

std::span<const Form> forms_of(const TargetRecord &record) {
  if (record.kernel_class == kernel::Class::kSimt)
    return kSimtForms;
  if (record.kernel_class == kernel::Class::kBlock)
    return kBlockForms;
  return kForms;
}

Scheduled of_class(Scheduled s, const TargetRecord &record) {
  s.kernel.kind = record.kernel_class;
  return s;
}

} // namespace

Scheduled schedule(const dispatch::Dispatch &d, const TargetRecord &record) {
  if (d.sequence)
    return schedule_sequence(d, record, record.kernel_class == kernel::Class::kSimt ? schedule_simt_step : schedule);
  if (d.loop)
    return of_class(schedule_naive(d, record), record);
  for (Form form : forms_of(record))
    if (auto s = form(d, record))
      return of_class(*std::move(s), record);
  return of_class(schedule_naive(d, record), record);
}

std::vector<Scheduled> all_schedules(const dispatch::Dispatch &d, const TargetRecord &record) {
  std::vector<Scheduled> all;
  all.push_back(of_class(schedule_naive(d, record), record));
  if (d.sequence)
    all.push_back(schedule(d, record));
  if (d.loop || d.sequence)
    return all;
  for (Form form : forms_of(record))
    if (auto s = form(d, record))
      all.push_back(of_class(*std::move(s), record));
  return all;
}

} // namespace ingot::aotc::schedule
