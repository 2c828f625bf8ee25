// Layouts of constants for CPU code. See schedule.h.
#include "aotc/schedule/schedule.h"

namespace ingot::aotc::schedule {

std::vector<Repack> prepack_simd(dispatch::Dispatch &) { return {}; }

} // namespace ingot::aotc::schedule
