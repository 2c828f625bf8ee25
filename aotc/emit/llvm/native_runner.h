// Runs compiled kernels in this process: for tests and for the tuner. The image is copied into fresh pages, which are
// made executable and read-only; nothing is resolved, since an image needs nothing.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "aotc/emit/llvm/cpu_emitter.h"

namespace ingot::aotc {

// The image as it lies in memory, from its first byte on: for runners of other machines. Empty with *error set where
// the file is no such image.
std::vector<uint8_t> flatten_image(std::span<const uint8_t> elf, std::string *error);

// An image in memory. Unmapped with the object.
class NativeImage {
 public:
  // Null with *error set where the file is no such image or pages cannot be had.
  static std::unique_ptr<NativeImage> load(std::span<const uint8_t> elf, std::string *error);
  ~NativeImage();
  NativeImage(const NativeImage &) = delete;
  NativeImage &operator=(const NativeImage &) = delete;
  void *at(uint64_t offset) const { return base_ + offset; }

 private:
  NativeImage() = default;
  uint8_t *base_ = nullptr;
  size_t bytes_ = 0;
};

// Arguments of one run. Bindings must be aligned as the kernel's buffers say and as large as it accesses.
struct NativeArgs {
  std::vector<void *> bindings;
  std::vector<int64_t> params;
  std::array<uint32_t, 3> grid = {1, 1, 1};
  uint32_t group_begin = 0;
  uint32_t group_end = 0;      // 0: all groups of the grid
};

// The argument block of schemas/cpu_abi.h, to be filled once and run often.
class NativeCall {
 public:
  // `scratch_bytes` as the compiled symbol says.
  NativeCall(void *function, const NativeArgs &args, uint64_t scratch_bytes);
  // Runs the groups; gives the error word (site << 32 | code, 0 = none).
  uint64_t run();

 private:
  void *function_;
  std::vector<uint64_t> block_;
  std::unique_ptr<uint8_t, void (*)(void *)> scratch_;
  uint64_t error_ = 0;
};

// Compiles one kernel for a target that this machine can run and keeps it callable.
class NativeKernel {
 public:
  // Null with *error set where it does not compile, or this machine lacks a feature of the target.
  static std::unique_ptr<NativeKernel> compile(const kernel::Kernel &kernel, const CpuTarget &target,
                                               std::string *error, unsigned opt_level = 2);
  NativeCall call(const NativeArgs &args) const;
  uint64_t run(const NativeArgs &args) const { return call(args).run(); }
  const CpuModule::Symbol &symbol() const { return symbol_; }

 private:
  std::unique_ptr<NativeImage> image_;
  CpuModule::Symbol symbol_;
};

// Whether this machine can run code for `target`; *reason says why not.
bool runs_here(const CpuTarget &target, std::string *reason = nullptr);

} // namespace ingot::aotc
