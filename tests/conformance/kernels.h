// One set of kernels for every target: written once in kernel IR, one element a workgroup of one thread, and compiled in
// this process to native code, bytecode, SPIR-V and PTX. All buffers hold i32.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "aotc/archive/commands.h"
#include "aotc/archive/program.h"

namespace conformance {

namespace archive = ingot::aotc::archive;

// Numbers of the kernels in every variant; g is the workgroup's number in x.
enum KernelNumber : uint32_t {
  kAdd,       // (a, b, out) out[g] = a[g] + b[g]
  kScale,     // (in, out; p, q) out[g] = in[g] * p + q
  kBump,      // (data; p) data[g] += p
  kGrid,      // (out) out[(z * grid y + y) * grid x + x] = x + 100 y + 10000 z
  kMany,      // (out; 16 params) out[g] = sum of (i + 1) * param i
  kMix,       // (a, b, c, d, e, f, out) out[g] = a[g] + 2 b[g] + 3 c[g] + 5 d[g] + 7 e[g] + 11 f[g]
  kRefuse,    // (in, out; p) out[g] = in[g] + p; an error of site 1 where in[g] < 0
  kSpin,      // (data; n) n steps of a recurrence on data[g]
  kCount,     // (in, out; n) out[0] = how many of n are not 0
  kPositions, // (in, out; n) out[k] = position of the k-th that is not 0
  kHigh,      // (out; p) out[g] = the upper half of p
  kSum,       // (in, out; n) out[0] = sum of n
  kKernels
};
constexpr uint32_t kManyParams = 16;
constexpr uint32_t kErrorCode = 1; // of an index, in schemas/cpu_abi.h
// What `n` steps of kSpin make of x.
int32_t spun(int32_t x, int64_t n);

// An archive with a variant for each target, `target`'s first, so that a device that runs several takes that one. `fill`
// makes the function "main", and adds segments; `last` is added after the code of all targets. `prepare`, which `fill` may
// write to, is every variant's prepare section.
std::vector<uint8_t> make_archive(const std::string &target,
                                  const std::function<void(archive::ArchiveModel &model, archive::Function &f)> &fill,
                                  const archive::Segment *last = nullptr, const archive::Function *prepare = nullptr);
// An archive for "cuda" or "rocm" alone, with one kernel, which has 60 KiB of workgroup arrays: (in, out) out[i] = 2 * in[n - 1 - i] + i
// for n = kMirrored, in one workgroup. Version i of it, of rank i, asks for asked[i] bytes at launch; 0: for what the arrays take.
// dependent: it may start before the kernel ahead of it has ended. The code is good for cuda only.
constexpr uint32_t kMirrored = 15360;
std::vector<uint8_t> make_mirror_archive(const std::string &target, const std::vector<uint64_t> &asked, bool dependent,
                                         const std::function<void(archive::Function &f)> &fill);
// An archive for "cuda" or "rocm" alone, of kFed words of 16 bits, 16 lines of 64. The kernel of its first variant, for sm_90a, is fed the
// even lines by one tensor map and the odd ones by another: (in, out) line l of out is line 2 (l % 8) + l / 8 of in, its eights e at e ^ (l % 8). `masked`: it
// asks for what that takes. `other`: there is a second variant, for sm_80, whose kernel copies in as it is. The code is good for cuda only.
constexpr uint32_t kFed = 1024;
std::vector<uint8_t> make_fed_archive(const std::string &target, bool masked, bool other, const std::function<void(archive::Function &f)> &fill);
// The targets whose code could be made in this build.
const std::vector<std::string> &targets();

} // namespace conformance
