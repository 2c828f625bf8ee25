// What the variants of every kind of target share: finding a program's distinct dispatches, and planning its functions.
#pragma once

#include <functional>

#include "aotc/driver/compile.h"

namespace ingot::aotc {

inline constexpr uint32_t kCpuAlignment = 64, kGpuAlignment = 256; // bytes, of transients

// The dispatches that run, equal ones once, in order of first appearance.
struct UniqueDispatches {
  std::vector<const dispatch::Dispatch *> dispatches;
  std::vector<std::vector<uint32_t>> kernel_of; // [program][dispatch]: index in `dispatches`
};
UniqueDispatches unique_dispatches(const std::vector<fuse::Program> &programs);

// For targets whose kernels never start before those ahead have ended: kernels that differ in what is constant alone are one then.
void forget_constants(schedule::Scheduled &scheduled);

// Where a dispatch is scheduled for several sizes, kernels may come out the same: everything that decides what runs, and which
// of a list of such texts to keep. `kernel_of` then names those kept.
std::string kernel_text(const schedule::Scheduled &scheduled, const dispatch::Dispatch &dispatch);
std::vector<uint32_t> unique_kernels(const std::vector<std::string> &texts, std::vector<std::vector<uint32_t>> &kernel_of);

// Calls work(i) for i < n on `jobs` threads; rethrows the first exception.
void parallel_for(size_t n, unsigned jobs, const std::function<void(size_t)> &work);

// Name, bindings and params of a kernel.
archive::Kernel archive_kernel(const KernelVersions &kernel);

// Adds the functions of a variant and its prepare section; its kernels are in the order of `kernels`.
void plan_functions(const std::vector<fuse::Program> &programs, const CpuKernels &kernels, uint32_t alignment,
                    plan::WeightPool &weights, archive::Variant &variant);

} // namespace ingot::aotc
