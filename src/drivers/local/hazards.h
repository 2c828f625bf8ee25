// Which commands of a straight line may run at the same time, found from the bytes that they touch. Every
// command gets a level: one more than the highest level among the earlier commands that it must follow, because
// it reads what they write (or writes what they read or write). So commands of one level are independent of
// each other, and running the levels in order keeps every hazard. Barriers of the program are not needed: they
// only say part of this.
#pragma once

#include "src/runtime/base.h"

namespace ingot::drivers {

class Hazards {
 public:
  // Room for that many accesses between two resets. Keeps what there is if that is enough.
  Code reserve(const ingot_allocator_t &allocator, size_t accesses, Error *error);
  void reset() { count_ = 0; }
  // The lowest level at which a command with this access may run; a command's level is the highest over its
  // accesses. An access of no bytes conflicts with nothing.
  uint32_t level(const void *data, uint64_t length, bool writes) const;
  // Notes an access of a command that runs at `level`. Pre: level is at least what level() said.
  void note(const void *data, uint64_t length, bool writes, uint32_t level);
  size_t interval_count() const { return count_; } // for tests

 private:
  // Bytes [begin, end) and the lowest levels at which the next command may read and write them. Intervals are
  // disjoint and sorted. Their ends are ends of accesses, so there are fewer than two an access.
  struct Interval {
    uintptr_t begin, end;
    uint32_t readable, writable;
  };
  size_t first_after(uintptr_t address) const; // the first that ends after it
  void insert(size_t at, const Interval &interval);

  Array<Interval> intervals_;
  size_t count_ = 0;
};

} // namespace ingot::drivers
