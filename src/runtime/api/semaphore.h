// Timeline semaphores on the host: a value that only grows, or a failure that stays.
#pragma once

#include "src/runtime/api/objects.h"

struct ingot_semaphore_t {
  ingot::References references;
  ingot_device_t *device = nullptr; // one reference
  std::atomic<uint64_t> value{0};
  std::atomic<uint32_t> changes{0}; // what waiters sleep on: counts signals and failures
  std::atomic<uint32_t> failed{0};  // 0 no, 1 the reason is being written, 2 yes
  ingot::Error reason = {};
};
