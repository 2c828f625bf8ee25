// The reference interpreter: what it computes is what a kernel means. It checks what emitted code takes on trust:
// every access is bounds-checked, threads that race are found, and a run can be bounded by fuel.
//
// Threads of a workgroup run in lockstep under an active mask. `kIndex` is 64 bits. f16 and bf16 are computed in f32
// and rounded once an op. Bindings hold elements densely, in the memory's storage type (bool: one byte, 0 or 1).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "aotc/kernel/kernel.h"

namespace ingot::aotc::kernel {

// A buffer of the kernel, in the order of kernel.memories. Read-only buffers are not written.
struct Binding {
  void *data = nullptr;
  size_t bytes = 0;
};

struct RunOptions {
  std::span<const int64_t> params;        // by number; f32 params as their bits in the low half
  std::array<uint32_t, 3> grid = {1, 1, 1};
  std::span<const uint64_t> groups;       // linear workgroups (x fastest) to run, in order; empty: all of them
  uint64_t fuel = 0;                      // most thread-ops (vectors count once) to run; 0 = no limit
  bool mad_fused = true;                  // kMad of floats as std::fma, else as a rounded product and sum
  bool check_races = true;                // within a workgroup
  uint32_t subgroup_size = 32;            // consecutive local threads, x fastest
};

struct RunResult {
  bool ok = false;
  std::string message;     // why not: out-of-range access, race, barrier in divergent control flow, fuel
  uint64_t error_word = 0; // first kError met: site << 32 | code; 0 = none
  uint64_t ops = 0;        // thread-ops run
};

// A kernel compiled for interpretation; it outlives the Kernel that it was made from. Throws InternalError if the
// kernel does not verify. run() may be called from several threads.
class Interpreter {
 public:
  explicit Interpreter(const Kernel &kernel);
  ~Interpreter();
  Interpreter(Interpreter &&) noexcept;
  RunResult run(std::span<const Binding> bindings, const RunOptions &options) const;

 private:
  struct Program;
  std::unique_ptr<const Program> program_;
};

// Compiles and runs once.
RunResult interpret(const Kernel &kernel, std::span<const Binding> bindings, const RunOptions &options);

} // namespace ingot::aotc::kernel
