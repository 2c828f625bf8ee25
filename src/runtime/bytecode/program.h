// A verified kernel of target vmvx, and running it. What verify() accepts may be run with any data: it cannot
// touch memory outside its bindings and scratch, and fuel ends it. docs/bytecode.md has the argument.
#pragma once

#include "schemas/bytecode.h"
#include "schemas/cpu_abi.h"
#include "src/runtime/base.h"

namespace ingot::bytecode {

struct LaneTable;

// Fuel of one call: a back-edge burns 1, a tile or a long vector what it computes / 256, so that this is
// minutes at least.
#if defined(INGOT_DEFAULT_FUEL) // fuzzers
constexpr uint64_t kDefaultFuel = INGOT_DEFAULT_FUEL;
#else
constexpr uint64_t kDefaultFuel = uint64_t(1) << 38;
#endif

struct Kernel {
  const Header *header = nullptr;
  const Memory *memories = nullptr;
  const Instruction *code = nullptr;
  const LaneTable *lanes = nullptr;
  uint64_t scratch_bytes =
      0; // what a call needs: table of memories, registers, arrays; from there on 64-byte aligned
  uint64_t fuel = kDefaultFuel;
  uint32_t number = 0; // for error words
};

// What the archive says of the kernel.
struct Signature {
  uint32_t binding_count, param_count;
  const uint8_t *binding_access; // kReads | kWrites
};

// Checks the kernel at `offset` of an image, which must stay as it is and where it is while the kernel is in
// use. Linear in the kernel's size. INGOT_CORRUPT says what is wrong and where.
Code verify(const ingot_allocator_t &allocator, const uint8_t *image, size_t size, uint64_t offset,
            const Signature &signature, Kernel *out, Error *error);

// Runs workgroups [group_begin, group_end). Behind the params, args carries the bindings' lengths
// (schemas/cpu_abi.h). What goes wrong is in the error word: INGOT_KERNEL_ERROR_BOUNDS or _FUEL with the
// kernel's number as site, or what the kernel reports.
void run(const Kernel &kernel, const IngotCpuArgs *args);

// ---- text

const char *op_name(Op op);

// Prints one instruction, without a line's end, and gives how many words it takes. The kernel must be verified.
uint32_t disassemble(const Kernel &kernel, uint32_t at, char *buffer, size_t capacity);

} // namespace ingot::bytecode
