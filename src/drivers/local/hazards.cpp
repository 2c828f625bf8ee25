// See hazards.h.
#include "src/drivers/local/hazards.h"

namespace ingot::drivers {

Code Hazards::reserve(const ingot_allocator_t &allocator, size_t accesses, Error *error) {
  if (2 * accesses <= intervals_.size()) return INGOT_OK;
  count_ = 0;
  return intervals_.create(allocator, 2 * accesses, "the hazards of a recording", error);
}

size_t Hazards::first_after(uintptr_t address) const {
  size_t low = 0, high = count_;
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    if (intervals_[middle].end <= address)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

void Hazards::insert(size_t at, const Interval &interval) {
  memmove(intervals_.data() + at + 1, intervals_.data() + at, (count_ - at) * sizeof(Interval));
  intervals_[at] = interval;
  ++count_;
}

uint32_t Hazards::level(const void *data, uint64_t length, bool writes) const {
  const uintptr_t begin = uintptr_t(data), end = begin + uintptr_t(length);
  uint32_t lowest = 0;
  if (length == 0) return 0;
  for (size_t i = first_after(begin); i < count_ && intervals_[i].begin < end; ++i) {
    const uint32_t allowed = writes ? intervals_[i].writable : intervals_[i].readable;
    if (allowed > lowest) lowest = allowed;
  }
  return lowest;
}

void Hazards::note(const void *data, uint64_t length, bool writes, uint32_t level) {
  uintptr_t begin = uintptr_t(data);
  const uintptr_t end = begin + uintptr_t(length);
  if (begin == end) return;
  const uint32_t after = level + 1;
  size_t i = first_after(begin);
  if (i < count_ && intervals_[i].begin < begin) { // what lies before the access stays as it was
    insert(i, intervals_[i]);
    intervals_[i].end = begin;
    intervals_[++i].begin = begin;
  }
  for (; begin < end; ++i) {
    if (i == count_ || intervals_[i].begin > begin) { // bytes that nobody touched so far
      const uintptr_t next = i == count_ || intervals_[i].begin > end ? end : intervals_[i].begin;
      insert(i, {begin, next, 0, 0});
    } else if (intervals_[i].end > end) { // so does what lies behind it
      insert(i, intervals_[i]);
      intervals_[i].end = end;
      intervals_[i + 1].begin = end;
    }
    Interval &now = intervals_[i];
    if (now.writable < after) now.writable = after;
    if (writes) now.readable = after;
    begin = now.end;
  }
}

} // namespace ingot::drivers
