// The choice of a schedule. See schedule.h.
#include "aotc/schedule/schedule.h"

#include "aotc/schedule/internal.h"

namespace ingot::aotc::schedule {

namespace {

// In order of preference.
using Form = std::optional<Scheduled> (*)(const dispatch::Dispatch &, const TargetRecord &);
constexpr Form kForms[] = {schedule_direct, schedule_window, schedule_contract, schedule_rows, schedule_lanes};

} // namespace

Scheduled schedule(const dispatch::Dispatch &d, const TargetRecord &record) {
  if (d.loop || record.kernel_class != kernel::Class::kSimd)
    return schedule_naive(d, record);
  for (auto form : kForms)
    if (auto s = form(d, record))
      return *std::move(s);
  return schedule_naive(d, record);
}

std::vector<Scheduled> all_schedules(const dispatch::Dispatch &d, const TargetRecord &record) {
  std::vector<Scheduled> all;
  all.push_back(schedule_naive(d, record));
  if (d.loop || record.kernel_class != kernel::Class::kSimd)
    return all;
  for (auto form : kForms)
    if (auto s = form(d, record))
      all.push_back(*std::move(s));
  return all;
}

} // namespace ingot::aotc::schedule
