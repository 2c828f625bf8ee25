// What GPU kernels and the drivers that launch them agree on. The compiler (aotc/emit, aotc/driver) and the drivers share
// this file and nothing else.
//
// - Buffer i of a kernel is binding i, whole elements from the binding's first byte.
// - A parameter is one 32-bit word, in order: an integer, its value in two's complement. The words are push constants on
//   Vulkan; a uniform buffer in WGSL (group 0) and a constant buffer in MSL, the binding after the last buffer. In PTX and
//   HSACO bindings are the kernel's first parameters, 64-bit addresses; params follow, then the error word's address, and last, in PTX,
//   the kernel's tensor maps: 128 bytes each, aligned to 128, as cuTensorMapEncodeTiled makes them.
// - Kernels with INGOT_KERNEL_FLAG_ERRORS have one more binding, last: a 32-bit word, 0 or an error that a kernel stored,
//   code in the low 8 bits, site + 1 above.
// - Every format: the modules of a variant stand one after the other in its image; a code version's symbol_offset and code_size
//   are the bytes of its module (SPIR-V words; WGSL or MSL text without a final 0; PTX text with it), its entry the name of the
//   entry point. The variant's arch says what PTX is for, "sm_80": devices of that compute capability and later ones.
#ifndef INGOT_SCHEMAS_GPU_ABI_H_
#define INGOT_SCHEMAS_GPU_ABI_H_

#include <stdint.h>

// Kernel.flags.
enum {
  INGOT_KERNEL_FLAG_ERRORS = 1u << 0,
  // It waits for the kernel before it by an instruction of its own before it touches memory, so that a driver may start it early
  // (CUDA's programmatic dependent launch).
  INGOT_KERNEL_FLAG_DEPENDENT = 1u << 1
};

// Features of Vulkan devices beyond the baseline, as bits of a code version's mask. Bits are never renumbered.
enum {
  INGOT_VULKAN_INT64 = 1u << 0,      // shaderInt64
  INGOT_VULKAN_INT16 = 1u << 1,      // shaderInt16
  INGOT_VULKAN_INT8 = 1u << 2,       // shaderInt8
  INGOT_VULKAN_FLOAT16 = 1u << 3,    // shaderFloat16
  INGOT_VULKAN_FLOAT64 = 1u << 4,    // shaderFloat64
  INGOT_VULKAN_STORAGE_8 = 1u << 5,  // storageBuffer8BitAccess
  INGOT_VULKAN_STORAGE_16 = 1u << 6, // storageBuffer16BitAccess
  INGOT_VULKAN_SUBGROUP = 1u << 7    // subgroup arithmetic and shuffle in compute shaders
};

// Features of CUDA devices. A variant's kernels may be there as PTX and as machine code (cubin).
enum {
  INGOT_CUDA_BINARY = 1u << 0,     // it runs code of the variant's arch: the same major number, at least its minor one; "sm_90a": that one
  INGOT_CUDA_TENSOR_MAPS = 1u << 1 // it copies boxes of tensors, and its library makes tensor maps
};

// A binding of a kernel as a tensor of which hardware copies boxes to workgroup memory; TensorMap of schemas/archive.fbs has the same layout.
// Elements are of 2 bytes, and swizzled over lines of 128 (CU_TENSOR_MAP_SWIZZLE_128B); outside of the tensor are zeros.
enum { INGOT_TENSOR_MAP_RANK = 5 };
typedef struct ingot_tensor_map_t {
  uint32_t kernel, binding, rank;         // kernel: index in its variant
  uint32_t box[INGOT_TENSOR_MAP_RANK];    // elements, 1 .. 256; the first is 64
  uint64_t offset;                        // bytes, of the first element in the binding: a multiple of 16
  uint64_t sizes[INGOT_TENSOR_MAP_RANK];  // elements, 1 .. 2^32; those from `rank` on are 0
  uint64_t strides[INGOT_TENSOR_MAP_RANK]; // bytes: the first is 2, others are multiples of 16 below 2^40
} ingot_tensor_map_t;

#endif // INGOT_SCHEMAS_GPU_ABI_H_
