// Code of one variant, loaded: which version of each kernel runs on this CPU, and where it starts. Bytecode too, in builds
// that have its interpreter: its kernels all start at the interpreter, which the argument block tells the kernel.
#pragma once

#include <ingot/driver.h>

#include "src/drivers/common/host_recording.h"
#include "src/drivers/local/bytecode_code.h"
#include "src/runtime/elf/elf.h"

namespace ingot::drivers {

struct NativeKernel {
  KernelFunction function = nullptr;
  uint32_t version = 0;
  const void *bytecode = nullptr; // for host_record_kernel; null: native
};

class NativeCode {
public:
  ~NativeCode();
  // `allocator` must outlive this.
  Code load(const ingot_allocator_t &allocator, uint64_t features, const ingot_driver_code_t &code, Error *error);
  const NativeKernel &kernel(uint32_t index) const { return kernels_[index]; }
  uint64_t scratch_bytes() const { return scratch_bytes_; } // the most that one kernel wants

private:
  ingot_allocator_t allocator_ = {};
  Array<ElfImage *> images_;
  Array<NativeKernel> kernels_;
  BytecodeCode bytecode_;
  uint64_t scratch_bytes_ = 0;
};

// The version with the highest rank whose features are all there; INGOT_NONE where there is none.
uint32_t pick_version(const ingot_driver_kernel_t &kernel, uint64_t features);

// Can this CPU run the variant? Loads nothing.
Code native_supports(const ingot_allocator_t &allocator, uint64_t features, const ingot_driver_code_t &code,
                     Error *error);

} // namespace ingot::drivers
