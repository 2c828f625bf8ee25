// Bytecode of one variant, loaded: verified kernels for the CPU drivers. A build without the interpreter
// (-Dbytecode=false) knows of no such code.
#pragma once

#include <ingot/driver.h>

#include "src/drivers/common/host_recording.h"

namespace ingot::bytecode {
struct Kernel;
}

namespace ingot::drivers {

#if defined(INGOT_BYTECODE)

#define INGOT_OR_VMVX " and vmvx"

inline bool is_bytecode(const ingot_driver_code_t &code) { return strings_equal(code.target, "vmvx"); }

class BytecodeCode {
 public:
  // Verifies every kernel. `allocator` and the images must outlive this.
  Code load(const ingot_allocator_t &allocator, uint64_t features, const ingot_driver_code_t &code,
            Error *error);
  KernelFunction function() const; // of every kernel
  const bytecode::Kernel *kernel(uint32_t index) const;
  uint64_t scratch_bytes() const { return scratch_bytes_; } // the most that one kernel wants

 private:
  Array<bytecode::Kernel> kernels_;
  uint64_t scratch_bytes_ = 0;
};

// Can this build run the variant? Loads nothing.
Code bytecode_supports(const ingot_allocator_t &allocator, const ingot_driver_code_t &code, Error *error);

#else

#define INGOT_OR_VMVX

constexpr bool is_bytecode(const ingot_driver_code_t &) { return false; }

class BytecodeCode {
 public:
  Code load(const ingot_allocator_t &, uint64_t, const ingot_driver_code_t &, Error *) {
    return INGOT_INTERNAL;
  }
  KernelFunction function() const { return nullptr; }
  const bytecode::Kernel *kernel(uint32_t) const { return nullptr; }
  uint64_t scratch_bytes() const { return 0; }
};

inline Code bytecode_supports(const ingot_allocator_t &, const ingot_driver_code_t &, Error *) { return INGOT_INTERNAL; }

#endif

} // namespace ingot::drivers
