// See threads.h.
#include "aotc/schedule/simt/threads.h"

namespace ingot::aotc::schedule {

using kernel::Builder;
using kernel::ValueId;

namespace {
constexpr int64_t kMostGroups = 65535; // in a dimension, of every target
}

std::array<Expr, 3> folded_grid(const Expr &groups) { return {min(groups, kMostGroups), ceildiv(groups, kMostGroups), 1}; }

ValueId group_number(Builder &b) { return b.add(b.group_id(0), b.mul(b.group_id(1), b.grid_size(0))); }

ValueId team_combine(Lowering &l, const dispatch::Value &reduce, uint32_t scratch, ValueId value, ValueId lane, uint32_t team,
                     uint32_t apart) {
  Builder &b = l.builder();
  ValueId thread = b.local_id(0);
  b.store(scratch, thread, value);
  b.barrier();
  for (uint32_t half = team / 2; half >= 1; half /= 2) {
    b.if_then(b.lt(lane, b.index(half)), [&] {
      ValueId other = b.load(scratch, b.add(thread, b.index(int64_t{half} * apart)));
      b.store(scratch, thread, l.combine(reduce, b.load(scratch, thread), other));
    });
    b.barrier();
  }
  ValueId result = b.load(scratch, lane == thread ? b.index(0) : b.sub(thread, b.mul(lane, b.index(apart))));
  b.barrier();
  return result;
}

uint32_t threads_for(int64_t work, uint32_t most) {
  uint32_t threads = 32;
  while (threads < most && threads < work)
    threads *= 2;
  return threads < most ? threads : most;
}

} // namespace ingot::aotc::schedule
