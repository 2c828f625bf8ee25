// Sums over small windows on threads, with the number of outputs a thread.
#pragma once

#include <optional>

#include "aotc/schedule/schedule.h"

namespace ingot::aotc::schedule {

// `rows` outputs of a thread (0: chosen by the sizes). Nothing where the dispatch is not of the form.
std::optional<Scheduled> schedule_simt_window(const dispatch::Dispatch &d, const TargetRecord &record, int64_t rows);

} // namespace ingot::aotc::schedule
