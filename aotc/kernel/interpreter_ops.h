// Internal to the interpreter: flat instructions, and the functions that compute ops without side effects on slots.
//
// A value's slot holds its lanes for every thread of the workgroup, thread by thread, in native elements (bool: one
// byte; f16 and bf16: their bits; index: int64). Ops without side effects are total, so they may be computed for
// threads that are not active: nothing reads what they leave there.
#pragma once

#include <cstdint>
#include <vector>

#include "aotc/kernel/kernel.h"

namespace ingot::aotc::kernel::interp {

struct Instruction;

// Computes the instruction for the threads begin <= t < end.
using Pure = void (*)(uint8_t *slots, const Instruction &instruction, uint32_t begin, uint32_t end);

struct Copy {
  size_t from, to;
  uint32_t bytes; // of one thread
};

struct Block;

struct Instruction {
  Opcode code = Opcode::kConst;
  Pure pure = nullptr;         // null: the interpreter's own switch runs it
  Pure unfused = nullptr;      // kMad of floats without fusing
  size_t result = 0;           // slots, as byte offsets
  size_t operand[4] = {0, 0, 0, 0};
  uint32_t operand_count = 0;
  uint32_t lanes = 1;          // of the result; of the value in stores
  uint32_t operand_lanes = 1;  // of operand 0 (kExtract, reductions, shuffles, masks)
  uint32_t element_bytes = 0;  // of the value that is loaded, stored or moved
  Scalar scalar = Scalar::kIndex; // of the result, or of the value that is stored
  uint32_t memory = 0;
  uint32_t align = 1;
  int64_t imm = 0, imm2 = 0;
  double fimm = 0;
  uint32_t extra = 0;          // index of the control record, or of the shuffle's lanes
  const Op *op = nullptr;      // for messages
  const int64_t *lane_numbers = nullptr; // kShuffle
  std::vector<size_t> tile;    // kTile: slots of the operands, then of the results
};

struct Block {
  std::vector<Instruction> instructions;
};

// kFor, kIf, kWhile. The copies move values under the mask of the threads concerned.
struct Control {
  std::vector<Block> blocks;
  std::vector<Copy> enter;              // init -> region params
  std::vector<std::vector<Copy>> leave; // kFor: [0] yields -> params, [1] params -> results;
                                        // kIf: yields -> results of each side;
                                        // kWhile: [0] condition's yields -> body's params, [1] body's yields -> condition's params,
                                        // [2] condition's yields -> results
  std::vector<bool> staged;             // a list of `leave` reads what it writes
  size_t induction = 0;                 // kFor
  size_t condition = 0;                 // kWhile
  uint32_t depth = 0;                   // of masks in use outside
};

// The function for an op without side effects, and for kMad its unfused form; null if the op is not one of them.
Pure find_pure(const Kernel &kernel, const Op &op);
Pure find_unfused_mad(Type type);

} // namespace ingot::aotc::kernel::interp
