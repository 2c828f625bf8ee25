// The calling convention between the CPU drivers and native kernels.
//
// A kernel is `void kernel(const IngotCpuArgs *args)`, System V on x86-64 whatever the OS, the platform's C
// convention elsewhere. It runs the linear workgroups [group_begin, group_end) of a 3-D grid (x fastest), so that
// any contiguous range is a unit of parallel work. It imports nothing, keeps no state and writes nothing but its
// writable bindings, its scratch and *error.
//
// The compiler (aotc/emit/llvm) and the drivers (src/drivers/local) share this file and nothing else.
#ifndef INGOT_SCHEMAS_CPU_ABI_H_
#define INGOT_SCHEMAS_CPU_ABI_H_

#include <stddef.h>
#include <stdint.h>

// Fixed header of an argument block. It is followed directly by
//   void   *bindings[binding_count]   dense buffers in the order of the kernel's buffer declarations
//   int64_t params[param_count]       index and integer params sign-extended; f32 params as their bits
// at kIngotCpuArgsHeader and kIngotCpuArgsHeader + 8 * binding_count. Pointers take 8 bytes on every target (the
// upper half is zero on 32-bit ones), so the layout is the same everywhere.
//
// Behind these a recording keeps what only bytecode reads, so that its accesses can be checked:
//   void    *kernel                   the loaded kernel (src/runtime/bytecode/program.h)
//   uint64_t lengths[binding_count]   bytes of each binding
typedef struct IngotCpuArgs {
  uint32_t group_begin; // first linear workgroup to run
  uint32_t group_end;   // one past the last
  uint32_t grid[3];     // workgroups in x, y, z
  uint32_t tail;        // 0 for native code; of bytecode, which 8-byte word behind the header holds its Kernel (see below)
  uint64_t error;       // address of the run's 64-bit error word (0 = no error so far); kernels only ever store to it
  uint64_t scratch;     // address of this worker's scratch memory, 64-byte aligned, at least the kernel's scratch_size
} IngotCpuArgs;

#define INGOT_CPU_ARGS_HEADER 40u

// Value of the error word: site << 32 | code. `site` indexes the function's table of error sites (node names).
enum {
  INGOT_KERNEL_ERROR_NONE = 0,
  INGOT_KERNEL_ERROR_INDEX = 1,       // an index operand is outside its axis (Gather, Scatter, ...)
  INGOT_KERNEL_ERROR_DIVISION = 2,    // integer division by zero where the operator demands an error
  INGOT_KERNEL_ERROR_VALUE = 3,       // an operand has a value that the operator forbids
  INGOT_KERNEL_ERROR_FUEL = 4,        // bytecode ran out of fuel; site is the kernel's number
  INGOT_KERNEL_ERROR_BOUNDS = 5       // bytecode was about to access memory outside a binding; site is the kernel's number
};

// CPU features, as bits of a kernel version's required-feature mask. A version runs where every bit of its mask is
// set in the machine's. Bits are never renumbered.
enum {
  INGOT_CPU_X86_64_V2 = 1u << 0,      // SSE4.2, SSSE3, POPCNT, CX16, LAHF
  INGOT_CPU_X86_64_V3 = 1u << 1,      // AVX, AVX2, BMI1, BMI2, F16C, FMA, LZCNT, MOVBE (and OS support)
  INGOT_CPU_X86_64_V4 = 1u << 2,      // AVX-512 F, BW, CD, DQ, VL (and OS support)
  INGOT_CPU_X86_AVX512_VNNI = 1u << 3,
  INGOT_CPU_X86_AVX512_BF16 = 1u << 4,
  INGOT_CPU_X86_AVX_VNNI = 1u << 5,
  INGOT_CPU_X86_AVX512_FP16 = 1u << 6,
  INGOT_CPU_AARCH64_DOTPROD = 1u << 16,
  INGOT_CPU_AARCH64_I8MM = 1u << 17,
  INGOT_CPU_AARCH64_BF16 = 1u << 18,
  INGOT_CPU_AARCH64_SVE = 1u << 19,
  INGOT_CPU_AARCH64_FP16 = 1u << 20
};

#endif // INGOT_SCHEMAS_CPU_ABI_H_
