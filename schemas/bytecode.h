// The bytecode of target vmvx: what aotc/emit/bytecode writes and src/runtime/bytecode verifies, runs and prints.
// docs/bytecode.md explains it.
//
// An image is a sequence of kernels; a kernel starts at a multiple of 8 with a Header, followed by its memories and its
// instructions. Registers are a file of 8-byte slots without types: an operand names its first slot, the opcode and the
// lane count say how many bytes it takes. Everything is little-endian.
#pragma once

#include <stdint.h>

namespace ingot::bytecode {

constexpr uint32_t kMagic = 0x31434249; // "IBC1"
constexpr uint32_t kMaxLanes = 1024, kMaxSlots = 65536, kMaxMemories = 512, kMaxInstructions = 1u << 20;
constexpr uint64_t kMaxArrayBytes = uint64_t(1) << 30; // of all arrays of a kernel together
constexpr uint32_t kMaxTileRows = 16, kMaxTileVectors = 64, kMaxTileLoops = 4;

struct Header {
  uint32_t magic;
  uint32_t binding_count, param_count;
  uint32_t memory_count;      // bindings in order, then arrays
  uint32_t slot_count;
  uint32_t instruction_count;
  uint32_t body;              // [0, body) runs once a call, [body, end) once a workgroup
  uint32_t reserved;          // 0
};

enum class Storage : uint8_t { boolean, i8, i16, i32, i64, f32, f64 };
constexpr uint32_t kStorageCount = 7;
constexpr uint32_t storage_bytes(Storage s) {
  return s <= Storage::i8 ? 1 : s == Storage::i16 ? 2 : s == Storage::i32 || s == Storage::f32 ? 4 : 8;
}
// Bytes of one lane in a register: smaller types are widened to 32 bits, integers with their sign, bools to 0 or 1.
constexpr uint32_t lane_bytes(Storage s) { return storage_bytes(s) == 8 ? 8 : 4; }

constexpr uint8_t kReads = 1, kWrites = 2;
struct Memory {
  Storage storage;
  uint8_t access;             // kReads | kWrites; arrays have both
  uint8_t reserved[6];        // 0
  uint64_t elements;          // of an array, at least 1; 0 for a binding
};

// Slots that the interpreter fills: the workgroup's numbers, the grid, then the params.
constexpr uint32_t kGroupSlot = 0, kGridSlot = 3, kParamSlot = 6;

struct Instruction {
  uint16_t op;
  uint16_t n;                 // lanes, 1..kMaxLanes
  uint16_t d, a;              // slots
  union {
    struct {
      uint16_t b, c;
      uint32_t imm;
    };
    uint64_t wide;            // constants
  };
};
static_assert(sizeof(Header) == 32 && sizeof(Memory) == 16 && sizeof(Instruction) == 16, "the file's layout");

// ---- Opcodes that compute lane by lane. Types: I32, I64, F32, F64 (of registers). Unsigned ops take the same registers.
// One operand: X(name, result type, operand type).
#define INGOT_BYTECODE_UNARY(X)                                                                                        \
  X(neg_i32, I32, I32) X(neg_i64, I64, I64) X(neg_f32, F32, F32) X(neg_f64, F64, F64)                                  \
  X(abs_i32, I32, I32) X(abs_i64, I64, I64) X(abs_f32, F32, F32) X(abs_f64, F64, F64)                                  \
  X(not_i32, I32, I32) X(not_i64, I64, I64) X(not_bool, I32, I32)                                                      \
  X(sign_8, I32, I32) X(sign_16, I32, I32) X(zero_8, I32, I32) X(zero_16, I32, I32)                                    \
  X(sqrt_f32, F32, F32) X(sqrt_f64, F64, F64) X(floor_f32, F32, F32) X(floor_f64, F64, F64)                            \
  X(ceil_f32, F32, F32) X(ceil_f64, F64, F64) X(trunc_f32, F32, F32) X(trunc_f64, F64, F64)                            \
  X(rint_f32, F32, F32) X(rint_f64, F64, F64)                                                                          \
  X(is_nan_f32, I32, F32) X(is_nan_f64, I32, F64) X(is_inf_f32, I32, F32) X(is_inf_f64, I32, F64)                      \
  X(bool_i32, I32, I32) X(bool_i64, I32, I64) X(bool_f32, I32, F32) X(bool_f64, I32, F64)                              \
  X(i64_i32, I64, I32) X(i64_u32, I64, I32) X(i32_i64, I32, I64)                                                       \
  X(f32_i32, F32, I32) X(f32_u32, F32, I32) X(f32_i64, F32, I64) X(f32_u64, F32, I64)                                  \
  X(f64_i32, F64, I32) X(f64_u32, F64, I32) X(f64_i64, F64, I64) X(f64_u64, F64, I64)                                  \
  X(i32_f32, I32, F32) X(u32_f32, I32, F32) X(i64_f32, I64, F32) X(u64_f32, I64, F32)                                  \
  X(i32_f64, I32, F64) X(u32_f64, I32, F64) X(i64_f64, I64, F64) X(u64_f64, I64, F64)                                  \
  X(f32_f64, F32, F64) X(f64_f32, F64, F32)

// Two operands: X(name, result type, operand type).
#define INGOT_BYTECODE_BINARY_INT(X, S, T)                                                                             \
  X(add_##S, T, T) X(sub_##S, T, T) X(mul_##S, T, T) X(div_##S, T, T) X(rem_##S, T, T) X(div_u_##S, T, T)              \
  X(rem_u_##S, T, T) X(min_##S, T, T) X(max_##S, T, T) X(min_u_##S, T, T) X(max_u_##S, T, T) X(and_##S, T, T)          \
  X(or_##S, T, T) X(xor_##S, T, T) X(shl_##S, T, T) X(shr_##S, T, T) X(shr_u_##S, T, T)                                \
  X(eq_##S, I32, T) X(ne_##S, I32, T) X(lt_##S, I32, T) X(le_##S, I32, T) X(gt_##S, I32, T) X(ge_##S, I32, T)          \
  X(lt_u_##S, I32, T) X(le_u_##S, I32, T) X(gt_u_##S, I32, T) X(ge_u_##S, I32, T)
#define INGOT_BYTECODE_BINARY_FLOAT(X, S, T)                                                                           \
  X(add_##S, T, T) X(sub_##S, T, T) X(mul_##S, T, T) X(div_##S, T, T) X(min_##S, T, T) X(max_##S, T, T)                \
  X(copy_sign_##S, T, T)                                                                                               \
  X(eq_##S, I32, T) X(ne_##S, I32, T) X(lt_##S, I32, T) X(le_##S, I32, T) X(gt_##S, I32, T) X(ge_##S, I32, T)
#define INGOT_BYTECODE_BINARY(X)                                                                                       \
  INGOT_BYTECODE_BINARY_INT(X, i32, I32) INGOT_BYTECODE_BINARY_INT(X, i64, I64)                                        \
  INGOT_BYTECODE_BINARY_FLOAT(X, f32, F32) INGOT_BYTECODE_BINARY_FLOAT(X, f64, F64)

// Three operands: X(name, result and last operands' type, first operand's type).
#define INGOT_BYTECODE_TERNARY(X)                                                                                      \
  X(mad_i32, I32, I32) X(mad_i64, I64, I64) X(mad_f32, F32, F32) X(mad_f64, F64, F64)                                  \
  X(select_32, I32, I32) X(select_64, I64, I32)

// ---- The others: X(name). See docs/bytecode.md for what the fields are.
#define INGOT_BYTECODE_OTHER(X)                                                                                        \
  X(const_32) X(const_64)          /* d[n] = wide */                                                                   \
  X(iota_32) X(iota_64)            /* d[n] = 0, 1, 2 ... */                                                            \
  X(splat_32) X(splat_64)          /* d[n] = a */                                                                      \
  X(move_32) X(move_64)            /* d[n] = a[n] */                                                                   \
  X(pick_32) X(pick_64)            /* d[n] = a ? b[n] : c[n], one condition for all lanes */                           \
  X(extract_32) X(extract_64)      /* d = a[imm] of n lanes */                                                         \
  X(insert_32) X(insert_64)        /* d[n] = a[n], then d[imm] = b */                                                  \
  X(shuffle_32) X(shuffle_64)      /* d[n] = (a ++ b)[list]; imm lanes each; then ceil(n / 8) words of u16 numbers */  \
  X(sum_i32) X(sum_i64) X(sum_f32) X(sum_f64) /* d = halving tree over a[n]; n a power of two */                       \
  X(product_i32) X(product_i64) X(product_f32) X(product_f64)                                                          \
  X(least_i32) X(least_i64) X(least_f32) X(least_f64)                                                                  \
  X(most_i32) X(most_i64) X(most_f32) X(most_f64)                                                                      \
  X(load_step)                     /* d[n] = memory imm [a], [a + b], [a + 2b] ... */                                  \
  X(load)                          /* d[n] = memory imm [a ...] */                                                     \
  X(store)                         /* memory imm [a ...] = b[n] */                                                     \
  X(load_part)                     /* lanes < b from memory, the others of c[n] */                                     \
  X(store_part)                    /* lanes < c of b[n] */                                                             \
  X(load_if) X(store_if)           /* all lanes or none: load_if b ? memory : c[n]; store_if c: b[n] */                \
  X(load_mask) X(store_mask)       /* the same, a condition for each lane */                                           \
  X(gather) X(scatter)             /* d[n] = memory[a[n]]; memory[a[n]] = b[n], in order */                            \
  X(gather_mask) X(scatter_mask)   /* gather_mask b[n] ? memory[a[n]] : c[n]; scatter_mask where c[n] */               \
  X(atomic_add) X(atomic_min) X(atomic_max) /* d = memory imm [a]; memory imm [a] op= b; i32 and i64 */                \
  X(tile)                          /* sums of products, see below */                                                   \
  X(jump)                          /* to imm */                                                                        \
  X(jump_if) X(jump_unless)        /* to imm where a is (not) 0 */                                                     \
  X(jump_ge_i32) X(jump_ge_i64)    /* to imm where a >= b */                                                           \
  X(loop_i32) X(loop_i64)          /* d += a; to imm where d < b and the sum did not overflow */                       \
  X(error)                         /* where a is not 0: error word = imm, site b | c << 16 */                          \
  X(end)                           /* of the workgroup */

// tile: n lanes; d: R*V*n lanes of sums, one after the other; a: loops | kTileZero; b: R; c: V. imm: the number of u16 that
// follow in instruction words: memory of A, memory of B, R first elements in A, V first elements in B, V lane counts, and for
// each loop, outermost first, trips, step in A, step in B (slots of i64).
constexpr uint16_t kTileZero = 0x100; // the sums start at 0, not at what is in d
constexpr uint32_t tile_operands(uint32_t rows, uint32_t vectors, uint32_t loops) {
  return 2 + rows + 2 * vectors + 3 * loops;
}
constexpr uint32_t extra_words(uint32_t u16_count) { return (u16_count + 7) / 8; }

enum class Op : uint16_t {
#define INGOT_OP(name, ...) name,
  INGOT_BYTECODE_UNARY(INGOT_OP) INGOT_BYTECODE_BINARY(INGOT_OP) INGOT_BYTECODE_TERNARY(INGOT_OP)
  INGOT_BYTECODE_OTHER(INGOT_OP)
#undef INGOT_OP
  count
};
constexpr uint32_t kLaneOps = uint32_t(Op::const_32); // those that compute lane by lane come first
constexpr uint32_t kOps = uint32_t(Op::count);

} // namespace ingot::bytecode
