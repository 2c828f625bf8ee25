// What a GPU emitter and the host that launches its kernel must agree on: the layout of the params block, the binding
// numbers and the grid.
//
// Bindings: buffer i of the kernel is binding i. Params are one struct, in order, each at its natural alignment
// (index as 4 bytes): push constants in SPIR-V, a uniform buffer (the binding after the last buffer) in WGSL, a
// constant buffer in MSL. In PTX and HSACO each param is a kernel parameter after the buffers' pointers. A kernel that has error
// ops gets one more read_write buffer of u32, last of all: word 0 is 0 or holds `error_word(code, site)`.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "aotc/kernel/kernel.h"
#include "aotc/kernel/target.h"

namespace ingot::aotc::emit {

struct ParamLayout {
  std::vector<uint32_t> offsets; // bytes, one per param
  uint32_t bytes = 0;            // of the whole block, a multiple of 4
};

// The layout of the kernel's params block. Throws InternalError for a param type that has no layout.
ParamLayout param_layout(const kernel::Kernel &kernel);

// Where workgroup arrays lie in the one block of memory that a kernel asks for at launch: it does so where they exceed what the
// target declares statically. Throws InternalError where they exceed the target's memory.
struct WorkgroupLayout {
  std::vector<uint64_t> offsets; // bytes, one a memory of the kernel; only those of workgroup arrays mean something
  uint64_t bytes = 0;            // of the block; 0: the arrays are static
};
constexpr uint32_t kWorkgroupAlign = 1024; // of the block
WorkgroupLayout workgroup_layout(const kernel::Kernel &kernel, const TargetRecord &record);

// True where the kernel holds an error op, at any depth.
bool has_error_ops(const kernel::Kernel &kernel);

// The binding of the error buffer, and of the params where they are a buffer (WGSL, MSL).
uint32_t params_binding(const kernel::Kernel &kernel);
uint32_t error_binding(const kernel::Kernel &kernel, bool params_are_a_buffer);

// The word that a raised error leaves: code in the low 8 bits, site + 1 above.
uint32_t error_word(int64_t code, int64_t site);

// Folds a number of workgroups into a 3-D grid within the record's limits; the product is >= groups and exceeds it by
// less than one row. Kernels recover the number as (z * size_y + y) * size_x + x and ignore the surplus.
std::array<uint32_t, 3> fold_grid(uint64_t groups, const TargetRecord &record);

// What an emitter says of an op that it cannot emit; "<emitter>: kernel 'k': op 'exp' on f32: <why>".
[[noreturn]] void unsupported(const char *emitter, const kernel::Kernel &kernel, const kernel::Op &op,
                              const std::string &why);

} // namespace ingot::aotc::emit
