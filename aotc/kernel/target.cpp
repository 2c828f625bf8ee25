// The built-in target records. Numbers are the baselines that each platform promises, not what one machine has.
#include "aotc/kernel/target.h"

namespace ingot::aotc {
namespace {

TargetRecord cpu(std::string name) {
  TargetRecord r;
  r.name = std::move(name);
  r.kernel_class = kernel::Class::kSimd;
  r.max_workgroup_invocations = 1;
  r.max_buffers = 256;
  r.binding_alignment = 64;
  r.max_vector_lanes = 0;
  r.max_params_bytes = 4096;
  for (uint32_t &limit : r.max_grid)
    limit = 0x7fffffff;
  return r;
}

// What Vulkan 1.1 and WebGPU promise with nothing optional: 32-bit ints and floats.
TargetRecord portable_gpu(std::string name) {
  TargetRecord r;
  r.name = std::move(name);
  r.kernel_class = kernel::Class::kSimt;
  r.vector_bytes = 16;
  r.i8 = r.i16 = r.i64 = r.f16 = r.bf16 = r.f64 = false;
  r.storage_8 = r.storage_16 = r.storage_64 = false;
  r.bool_storage = false;
  r.index_bits = 32;
  return r;
}

} // namespace

TargetRecord TargetRecord::x86_64_v2() {
  TargetRecord r = cpu("x86-64-v2");
  r.vector_bytes = 16;
  r.vector_registers = 16;
  r.has_dot2 = true;
  r.l2_bytes = 256 << 10;
  return r;
}

TargetRecord TargetRecord::x86_64_v3() {
  TargetRecord r = cpu("x86-64-v3");
  r.vector_bytes = 32;
  r.vector_registers = 16;
  r.has_fma = true;
  r.has_masked_memory = true;
  r.has_dot2 = true;
  return r;
}

TargetRecord TargetRecord::x86_64_v4() {
  TargetRecord r = cpu("x86-64-v4");
  r.vector_bytes = 64;
  r.vector_registers = 32;
  r.has_fma = true;
  r.has_masked_memory = true;
  r.has_dot2 = true;
  r.l2_bytes = 1 << 20;
  return r;
}

TargetRecord TargetRecord::x86_64_v4_vnni() {
  TargetRecord r = x86_64_v4();
  r.name = "x86-64-v4-vnni";
  r.has_dot4 = true;
  return r;
}

TargetRecord TargetRecord::aarch64() {
  TargetRecord r = cpu("aarch64");
  r.vector_bytes = 16;
  r.vector_registers = 32;
  r.has_fma = true;
  return r;
}

TargetRecord TargetRecord::bytecode() {
  TargetRecord r = cpu("bytecode");
  r.kernel_class = kernel::Class::kBlock;
  r.vector_bytes = 1024; // long enough to hide the interpreter, short enough for some thirty of them in a first-level cache
  r.vector_registers = 32;
  r.l2_bytes = 1 << 20;
  return r;
}

TargetRecord TargetRecord::vulkan_baseline() { return portable_gpu("vulkan-1.1"); }
TargetRecord TargetRecord::webgpu_baseline() { return portable_gpu("webgpu"); }

TargetRecord TargetRecord::cuda_sm80() {
  TargetRecord r;
  r.name = "sm_80";
  r.kernel_class = kernel::Class::kSimt;
  r.has_fma = true;
  r.subgroup_size = 32;
  r.subgroup_ops = true;
  r.max_workgroup_invocations = 1024;
  r.workgroup_memory_bytes = 48 << 10;
  r.large_workgroup_memory_bytes = 99 << 10; // of every GPU from compute capability 8.0 on
  r.max_grid[0] = 0x7fffffff;
  r.max_buffers = 64;
  r.max_vector_lanes = 8; // 16 bytes of f16; those of ROCm too
  r.max_params_bytes = 2048;
  r.f16 = r.bf16 = true;
  r.fragment_f16 = r.fragment_bf16 = r.fragment_tf32 = r.fragment_i8 = true;
  r.async_copy = true;
  r.index_bits = 32;
  return r;
}

TargetRecord TargetRecord::cuda_sm90a() {
  TargetRecord r = cuda_sm80();
  r.name = "sm_90a";
  r.large_workgroup_memory_bytes = 227 << 10;
  r.warpgroup_mma = true;
  r.tensor_feeds = true;
  return r;
}

bool has_fragment(const TargetRecord &target, Scalar element) {
  switch (element) {
  case Scalar::kF16: return target.fragment_f16;
  case Scalar::kBF16: return target.fragment_bf16;
  case Scalar::kF32: return target.fragment_tf32;
  case Scalar::kI8: return target.fragment_i8;
  default: return false;
  }
}

bool has_dot(const TargetRecord &target, kernel::Opcode op, uint32_t lanes) {
  uint32_t bytes = 4 * lanes;
  bool whole = bytes >= 16 && bytes <= target.vector_bytes && (bytes & (bytes - 1)) == 0;
  return whole && (op == kernel::Opcode::kDot4 ? target.has_dot4 : target.has_dot2);
}

} // namespace ingot::aotc
