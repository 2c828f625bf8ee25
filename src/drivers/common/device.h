// What drivers of devices with memory of their own have in common. Included by a driver's header, after <ingot/driver.h>.
#pragma once

#include "src/runtime/base.h"
#include "src/runtime/platform/platform.h"

namespace ingot {

// A fill's pattern of 1, 2, 4 or 8 bytes, repeated to 8.
inline uint64_t widened(uint64_t pattern, uint32_t bytes) {
  for (; bytes < 8; bytes *= 2) {
    const uint64_t mask = (uint64_t(1) << 8 * bytes) - 1;
    pattern = (pattern & mask) * (mask + 2);
  }
  return pattern;
}

// The error word of GPU kernels (schemas/gpu_abi.h), to the host's way of saying it (schemas/cpu_abi.h).
inline Code gpu_kernel_error(uint32_t word, ingot_driver_submit_t *submit, Error *error) {
  submit->kernel_error = uint64_t((word >> 8) - 1) << 32 | (word & 0xff);
  return fail(error, INGOT_KERNEL_ERROR, "a kernel reported error %u", word & 0xff);
}

// Libraries take a code object's size from its header, so its table of sections, which comes last, must be inside.
inline bool is_whole_object(const void *data, size_t bytes) {
  const uint8_t *const at = static_cast<const uint8_t *>(data);
  if (bytes < 4 || memcmp(at, "\177ELF", 4) != 0) return true; // nothing of ours; the library refuses it
  uint64_t sections = 0;
  uint16_t size = 0, count = 0;
  if (bytes < 64) return false;
  memcpy(&sections, at + 0x28, sizeof sections);
  memcpy(&size, at + 0x3a, sizeof size);
  memcpy(&count, at + 0x3c, sizeof count);
  return fits(sections, uint64_t(size) * count, bytes);
}

// GPU kernels take params of 32 bits.
inline Code check_params(const char *driver, const ingot_driver_dispatch_t &dispatch, Error *error) {
  for (uint32_t i = 0; i < dispatch.param_count; ++i)
    if (dispatch.params[i] != int32_t(dispatch.params[i]))
      return fail(error, INGOT_OUT_OF_RANGE, "%s: parameter %u of kernel %u is %lld, which does not fit 32 bits", driver, i, dispatch.kernel,
                  (long long)dispatch.params[i]);
  return INGOT_OK;
}

// Waits until `ended(rested)` says so, gives a failure of its own, or the run is given up. Asks again at once for a millisecond,
// then rests in between; `rested`: it may take longer over its answer. The clock is read now and then.
enum class Work { ended, running, failed };
template <class Ended> Code await_work(const ingot_driver_submit_t &options, uint64_t (*now_ns)(void), Ended ended, Error *error) {
  constexpr uint64_t kSpin = 1'000'000, kSlice = 20'000; // ns
  uint64_t start = 0;
  const std::atomic<uint32_t> never{0};
  for (uint32_t round = 0;; ++round) {
    switch (ended(round % 16 == 15)) {
    case Work::ended: return INGOT_OK;
    case Work::failed: return error->code;
    case Work::running: break;
    }
    if (raised(options.cancel)) return fail(error, INGOT_CANCELLED, "the run was cancelled");
    if (round % 16 != 15) continue;
    const uint64_t now = now_ns();
    if (start == 0) start = now;
    if (options.deadline_ns && now > options.deadline_ns) return fail(error, INGOT_DEADLINE_EXCEEDED, "the run exceeded its deadline");
    if (now - start > kSpin) platform::wait_on(&never, 0, kSlice);
  }
}

} // namespace ingot
