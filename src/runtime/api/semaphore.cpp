// See semaphore.h. Shared default for drivers without semaphores of their own.
#include "src/runtime/api/semaphore.h"

using namespace ingot;

namespace {

Code failure(const ingot_semaphore_t &s, Error *error) {
  if (s.failed.load(std::memory_order_acquire) != 2) return INGOT_OK;
  if (error) *error = s.reason;
  return s.reason.code;
}

void changed(ingot_semaphore_t &s) {
  s.changes.fetch_add(1, std::memory_order_acq_rel);
  platform::wake_all(&s.changes);
}

} // namespace

extern "C" {

ingot_code_t ingot_semaphore_create(ingot_device_t *device, uint64_t value, ingot_semaphore_t **out, ingot_error_t *error) {
  if (!device || !out) return null_argument(error, device ? "out" : "device");
  ingot_semaphore_t *s = create_object<ingot_semaphore_t>(device->allocator, "a semaphore", error);
  if (!s) return INGOT_OUT_OF_MEMORY;
  device->references.retain();
  s->device = device;
  s->value.store(value, std::memory_order_relaxed);
  *out = s;
  return INGOT_OK;
}

void ingot_semaphore_release(ingot_semaphore_t *s) {
  if (!s || !s->references.release()) return;
  ingot_device_t *device = s->device;
  destroy_object(device->allocator, s);
  ingot_device_release(device);
}

ingot_code_t ingot_semaphore_query(ingot_semaphore_t *s, uint64_t *value, ingot_error_t *error) {
  if (!s || !value) return null_argument(error, s ? "value" : "semaphore");
  INGOT_TRY(failure(*s, error));
  *value = s->value.load(std::memory_order_acquire);
  return INGOT_OK;
}

ingot_code_t ingot_semaphore_signal(ingot_semaphore_t *s, uint64_t value, ingot_error_t *error) {
  if (!s) return null_argument(error, "semaphore");
  INGOT_TRY(failure(*s, error));
  uint64_t now = s->value.load(std::memory_order_relaxed);
  do {
    if (value <= now)
      return fail(error, INGOT_INVALID_ARGUMENT, "a semaphore at %llu cannot be signalled to %llu: its value only grows",
                  (unsigned long long)now, (unsigned long long)value);
  } while (!s->value.compare_exchange_weak(now, value, std::memory_order_acq_rel));
  changed(*s);
  return INGOT_OK;
}

void ingot_semaphore_fail(ingot_semaphore_t *s, const ingot_error_t *reason) {
  if (!s || !reason || reason->code == INGOT_OK) return;
  uint32_t expected = 0; // the first failure stays
  if (!s->failed.compare_exchange_strong(expected, 1, std::memory_order_acq_rel)) return;
  s->reason.code = reason->code;
  memcpy(s->reason.message, reason->message, strnlen(reason->message, sizeof s->reason.message - 1));
  s->failed.store(2, std::memory_order_release);
  changed(*s);
}

ingot_code_t ingot_semaphore_wait(ingot_semaphore_t *s, uint64_t value, uint64_t timeout_ns, ingot_error_t *error) {
  if (!s) return null_argument(error, "semaphore");
  uint64_t deadline = UINT64_MAX;
  if (timeout_ns != UINT64_MAX && __builtin_add_overflow(platform::now_ns(), timeout_ns, &deadline)) deadline = UINT64_MAX;
  for (;;) {
    const uint32_t seen = s->changes.load(std::memory_order_acquire);
    INGOT_TRY(failure(*s, error));
    const uint64_t now_at = s->value.load(std::memory_order_acquire);
    if (now_at >= value) return INGOT_OK;
    uint64_t left = UINT64_MAX;
    if (deadline != UINT64_MAX) {
      const uint64_t now = platform::now_ns();
      if (now >= deadline)
        return fail(error, INGOT_DEADLINE_EXCEEDED, "a semaphore at %llu did not reach %llu in time",
                    (unsigned long long)now_at, (unsigned long long)value);
      left = deadline - now;
    }
    platform::wait_on(&s->changes, seen, left);
  }
}

} // extern "C"
