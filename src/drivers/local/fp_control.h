// Floating-point control of the calling thread: kernels run with round to nearest, denormals kept, nothing trapping.
#pragma once

#include <cstdint>

namespace ingot::drivers {

class FpControl {
public:
  FpControl() {
#if defined(__x86_64__)
    __asm__ volatile("stmxcsr %0" : "=m"(saved_));
    if ((saved_ & ~kStatus) != kDefault) {
      const uint32_t wanted = kDefault;
      __asm__ volatile("ldmxcsr %0" : : "m"(wanted));
      changed_ = true;
    }
#elif defined(__aarch64__)
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved_));
    if (saved_ != 0) {
      __asm__ volatile("msr fpcr, %0" : : "r"(uint64_t(0)));
      changed_ = true;
    }
#endif
  }
  ~FpControl() {
    if (!changed_) return;
#if defined(__x86_64__)
    __asm__ volatile("ldmxcsr %0" : : "m"(saved_));
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(saved_));
#endif
  }
  FpControl(const FpControl &) = delete;
  FpControl &operator=(const FpControl &) = delete;

private:
#if defined(__x86_64__)
  static constexpr uint32_t kDefault = 0x1f80, kStatus = 0x3f; // status bits are sticky flags, not control
  uint32_t saved_ = kDefault;
#else
  uint64_t saved_ = 0;
#endif
  bool changed_ = false;
};

} // namespace ingot::drivers
