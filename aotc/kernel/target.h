// TargetRecord: what schedules, the legaliser and emitters may know of a target. Facts, never names: nothing tests
// which target it is, only what the record says.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "aotc/kernel/kernel.h"

namespace ingot::aotc {

// What products of matrices run on: threads alone, fragments of a subgroup, or also kWarpgroupMma.
enum class MatrixUnits : uint8_t { kNone, kSubgroup, kWarpgroup };

struct TargetRecord {
  std::string name;                    // for messages and printing: "x86-64-v3", "vulkan-1.1", "webgpu", "sm_80"
  kernel::Class kernel_class = kernel::Class::kSimd;

  // simd
  uint32_t vector_bytes = 16;          // widest vector register
  uint32_t vector_registers = 16;
  bool has_fma = false;                // kMad becomes a fused instruction
  bool has_masked_memory = false;      // partial vector loads and stores are one instruction
  bool has_dot4 = false;               // kDot4 is one instruction (VNNI)
  bool has_dot2 = false;               // kDot2 is two (pmaddwd, add)
  uint64_t l1_bytes = 32 << 10, l2_bytes = 512 << 10;

  // simt
  uint32_t subgroup_size = 0;          // 0 = unknown
  uint32_t max_workgroup_invocations = 256;
  uint64_t workgroup_memory_bytes = 16 << 10;
  uint64_t large_workgroup_memory_bytes = 0; // what a kernel may have that asks for it at launch; 0: it cannot ask
  uint32_t max_grid[3] = {65535, 65535, 65535};
  uint32_t max_buffers = 8;
  uint32_t binding_alignment = 256;    // bytes
  uint32_t max_vector_lanes = 4;       // of values in emitted code; 0 = any (simd)
  uint64_t max_params_bytes = 128;

  // types that the target computes with, and those it can load and store
  bool i8 = true, i16 = true, i64 = true, f16 = false, bf16 = false, f64 = true;
  bool storage_8 = true, storage_16 = true, storage_64 = true;
  bool bool_storage = true;            // bool is stored as one byte
  uint32_t index_bits = 64;            // what kIndex becomes
  bool subgroup_ops = false;

  // matrix units: elements of kFragmentMma that the target has (with kFragmentLoad of them)
  bool fragment_f16 = false, fragment_bf16 = false, fragment_tf32 = false, fragment_i8 = false;
  bool fragment_subnormals = true;     // else an element of f16 that is subnormal counts as 0
  kernel::FragmentShape fragment;      // of its fragments
  bool warpgroup_mma = false;          // kWarpgroupMma
  bool async_copy = false;             // kCopyAsync is one instruction
  bool tensor_feeds = false;           // kFeed

  MatrixUnits matrix_units() const { return warpgroup_mma ? MatrixUnits::kWarpgroup : fragment_f16 ? MatrixUnits::kSubgroup : MatrixUnits::kNone; }

  static TargetRecord x86_64_v2();
  static TargetRecord x86_64_v3();
  static TargetRecord x86_64_v4();
  static TargetRecord x86_64_v4_vnni();
  static TargetRecord aarch64();       // NEON
  static TargetRecord bytecode();      // block kernels: vector_bytes is how many a lane register best has
  static TargetRecord vulkan_baseline(); // Vulkan 1.1, nothing optional
  static TargetRecord webgpu_baseline();
  static TargetRecord cuda_sm80();     // and every later GPU
  static TargetRecord cuda_sm90a();    // compute capability 9.0 alone
};

// Whether the target has fragments of such elements.
bool has_fragment(const TargetRecord &target, Scalar element);
// Whether the target has the dot product for that many sums: whole vectors of 128 bits or more. The legaliser expands others.
bool has_dot(const TargetRecord &target, kernel::Opcode op, uint32_t lanes);

} // namespace ingot::aotc
