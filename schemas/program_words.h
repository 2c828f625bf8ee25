// Numbers shared by the archive's writer (aotc) and its reader (runtime): expression operators, slot kinds, symbol
// kinds, binding access, opcodes and operand layouts of the command word stream. Values are never renumbered and
// never reused; new ones are appended. docs/archive-format.md says what each means.
#pragma once

#include <cstdint>

namespace ingot::program {

constexpr uint32_t kNone = 0xffffffffu; // "no expression / no symbol / no slot" wherever an index may be absent

// Expressions are nodes of one table per function over int64, evaluated in order: an operand's index is always
// smaller than its own node's. Overflow and division by zero poison the node; using a poisoned node is an error.
enum class ExprOp : uint8_t {
  constant = 0, // value
  symbol = 1,   // a = symbol index
  add = 2,
  sub = 3,
  mul = 4,
  floordiv = 5, // rounds to minus infinity
  mod = 6,      // sign of the divisor: a - floordiv(a, b) * b
  min = 7,
  max = 8,
  eq = 9, // comparisons give 0 or 1
  ne = 10,
  lt = 11,
  le = 12,
  logical_and = 13, // operands are tested against 0, the result is 0 or 1
  logical_or = 14,
  logical_not = 15, // a
  select = 16,      // a != 0 ? b : c; only the chosen one may not be poisoned
};
constexpr uint8_t kExprOpCount = 17;

enum class SymbolKind : uint8_t {
  input = 0, // bound by the first input dim that is the plain symbol
  host = 1,  // set while running: by read_scalar or bind, or as a loop's iteration number
};

enum class SlotKind : uint8_t {
  constant = 0,  // bytes of a segment: a = segment, offset; size is constant
  splat = 1,     // one element repeated: pattern, pattern_bytes; size is constant
  input = 2,     // a = input index
  output = 3,    // a = output index
  transient = 4, // a = arena index, offset expression
  alias = 5,     // a = slot (a smaller index), offset expression
  state = 6,     // lives as long as the context, zero at first: a = state number, shared by the functions of a variant;
                 // size is constant and the same everywhere
  prepared = 7,  // lives as long as the session, written by the prepare section alone: a = its number, shared by the
                 // functions of a variant; size is constant and the same everywhere
};
constexpr uint8_t kSlotKindCount = 8;

// Slots that hold a value [n, c, spatial...] as [n, c/16, spatial..., 16] are named after the value with this behind it.
constexpr char kBlockedSuffix[] = " [channels/16]";
constexpr int64_t kChannelBlock = 16;

// How a kernel uses a binding.
constexpr uint8_t kAccessRead = 1, kAccessWrite = 2, kAccessReadWrite = 3;

// First word of a command: opcode | length << 8, the length in words with this one, bodies of if and loop included.
// Operands, one word each unless said otherwise ("e" = expression index, "n" = words):
enum class Opcode : uint32_t {
  dispatch = 1,    // kernel, site, grid x e, y e, z e, bindings n, params n, {slot, offset e, length e}..., {param e}...
  copy = 2,        // dst slot, dst offset e, src slot, src offset e, length e
  fill = 3,        // slot, offset e, length e, pattern bytes (1, 2, 4, 8), pattern low, pattern high
  barrier = 4,     // commands after it see the writes of those before it
  read_scalar = 5, // slot, offset e, element type, symbol
  check = 6,       // condition e, message (string index)
  branch = 7,      // condition e, then n, else n, then-words..., else-words...
  loop = 8,        // trip count e or kNone, condition symbol or kNone, iteration symbol or kNone, body n, body-words...
  call = 9,        // subroutine (only one with a smaller index than the caller's own)
  bind = 10,       // value e, host symbol
  host_op = 11,    // see HostOp
};
constexpr uint32_t kMaxCommandLength = 0xffffff;

// A host op works on values that the runtime itself keeps: tensors of numbers or strings, lists of them, or nothing
// (an optional without an element). They live in host slots, a table beside the slots of bytes.
// Words of the command: opcode | length, kind, results n, sources n, exprs n, symbols n, immediates n, then
// {host slot}..., {host slot}..., {e}..., {host symbol}..., {immediate}...
enum class HostOp : uint32_t {
  copy = 1,      // (any) -> the same
  none = 2,      // () -> nothing
  empty = 3,     // () -> list without elements; immediate: element type
  construct = 4, // (tensor...) -> list
  insert = 5,    // (list, tensor) [position e] -> list; without a position at the end
  erase = 6,     // (list) [position e] -> list; without a position the last
  at = 7,        // (list) position e -> tensor
  length = 8,    // (list): symbol = number of elements
  has = 9,       // (any): symbol = 0 where it is nothing, else 1
  box = 10,      // () dims e... -> tensor from a slot of bytes; immediates: slot, element type
  shape = 11,    // (tensor): symbols = its dims; immediate: element type, which is checked as the rank is
  put = 12,      // (tensor) dims e...: to a slot of bytes; immediates: slot, element type
  split = 13,    // (tensor[, i64 sizes, or a scalar: size of the parts]) -> list; immediates: axis, keep the axis (0, 1)
  concat = 14,   // (list) -> tensor; immediates: axis (two's complement), a new axis (0, 1)
  take = 15,     // (tensor, i64 indices) -> elements by flat index, dims of the indices
  equal = 16,    // (strings, strings) -> bool tensor, broadcast
  join = 17,     // (strings, strings) -> strings one behind the other, broadcast
  tokenize = 18, // (strings[, delimiter]) -> strings with a new last axis, i64 counts; immediate: most splits + 1, or 0
  normalize = 19, // (strings, stopwords) -> strings; immediates: 0 as is, 1 lower, 2 upper; 1: case counts
  match = 20,    // (strings, i32 automaton) -> bool tensor (regex_words.h)
  lookup = 21,   // (x, keys, values, default) -> values of equal keys
  tfidf = 22,    // (x, pool, counts, indexes, weights) -> f32; immediates: mode, shortest, longest gram, most skips
  decode = 23,   // (u8 bytes of an image file) -> u8 [h, w, channels]; immediate: 0 RGB, 1 BGR, 2 grayscale
};
constexpr uint32_t kHostOpCount = 24, kHostOpHeader = 7;

// Counts that an op takes: at least, at most.
struct HostOpForm {
  uint8_t results, sources[2], exprs[2], symbols[2], immediates;
};
constexpr HostOpForm kHostOps[kHostOpCount] = {
    {},
    {1, {1, 1}, {0, 0}, {0, 0}, 0},   // copy
    {1, {0, 0}, {0, 0}, {0, 0}, 0},   // none
    {1, {0, 0}, {0, 0}, {0, 0}, 1},   // empty
    {1, {1, 255}, {0, 0}, {0, 0}, 0}, // construct
    {1, {2, 2}, {0, 1}, {0, 0}, 0},   // insert
    {1, {1, 1}, {0, 1}, {0, 0}, 0},   // erase
    {1, {1, 1}, {1, 1}, {0, 0}, 0},   // at
    {0, {1, 1}, {0, 0}, {1, 1}, 0},   // length
    {0, {1, 1}, {0, 0}, {1, 1}, 0},   // has
    {1, {0, 0}, {0, 8}, {0, 0}, 2},   // box
    {0, {1, 1}, {0, 0}, {0, 8}, 1},   // shape
    {0, {1, 1}, {0, 8}, {0, 0}, 2},   // put
    {1, {1, 2}, {0, 0}, {0, 0}, 2},   // split
    {1, {1, 1}, {0, 0}, {0, 0}, 2},   // concat
    {1, {2, 2}, {0, 0}, {0, 0}, 0},   // take
    {1, {2, 2}, {0, 0}, {0, 0}, 0},   // equal
    {1, {2, 2}, {0, 0}, {0, 0}, 0},   // join
    {2, {1, 2}, {0, 0}, {0, 0}, 1},   // tokenize
    {1, {2, 2}, {0, 0}, {0, 0}, 2},   // normalize
    {1, {2, 2}, {0, 0}, {0, 0}, 0},   // match
    {1, {4, 4}, {0, 0}, {0, 0}, 0},   // lookup
    {1, {5, 5}, {0, 0}, {0, 0}, 4},   // tfidf
    {1, {1, 1}, {0, 0}, {0, 0}, 1},   // decode
};

// A host slot takes kHostSlotWords words of Function::host_slots: kind, `of` (input, output or segment), then for a
// constant element type, rank, offset low, high, bytes low, high, dims (8). The bytes of strings: u64 n + 1 offsets into
// the text behind them, then the text.
enum class HostSlotKind : uint32_t { transient = 0, input = 1, output = 2, constant = 3 };
constexpr uint32_t kHostSlotWords = 16;
constexpr uint32_t kMaxNesting = 32; // of branch, loop and call together

// Limits that both sides check.
constexpr uint32_t kMaxRank = 8, kMaxBindings = 64, kMaxParams = 64;
constexpr int64_t kMaxDim = int64_t{1} << 31;

enum class SegmentKind : uint8_t { weights = 0, code = 1, other = 2 };
enum class CodeFormat : uint8_t { none = 0, elf = 1, spirv = 2, ptx = 3, cubin = 4, hsaco = 5, msl = 6, wgsl = 7, bytecode = 8 };

} // namespace ingot::program
