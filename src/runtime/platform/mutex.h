// A mutex of one word, for objects that must not cost a system resource: three states, after U. Drepper, "Futexes Are
// Tricky" (2011), section 6.
#pragma once

#include "src/runtime/platform/platform.h"

namespace ingot::platform {

class Mutex {
public:
  void lock() {
    uint32_t seen = 0;
    if (word_.compare_exchange_strong(seen, 1, std::memory_order_acquire)) return;
    if (seen != 2) seen = word_.exchange(2, std::memory_order_acquire);
    while (seen != 0) {
      wait_on(&word_, 2, UINT64_MAX);
      seen = word_.exchange(2, std::memory_order_acquire);
    }
  }
  void unlock() {
    if (word_.exchange(0, std::memory_order_release) == 2) wake_one(&word_);
  }

private:
  std::atomic<uint32_t> word_{0}; // 0 free, 1 held, 2 held and somebody may sleep
};

class Lock {
public:
  explicit Lock(Mutex &mutex) : mutex_(mutex) { mutex_.lock(); }
  ~Lock() { mutex_.unlock(); }
  Lock(const Lock &) = delete;
  Lock &operator=(const Lock &) = delete;

private:
  Mutex &mutex_;
};

} // namespace ingot::platform
