// Kernel IR: structured code over flat typed buffers, one language for every target.
//
// A kernel runs a 3-D grid of workgroups of `local_size` threads. Values are in SSA form; structured `for`, `if` and
// `while` carry values. Every op is total, with one written result (see Opcode). The reference interpreter
// (interpreter.h) defines the semantics; verifier.h says what is legal; text.h prints and parses.
//
// Memory: kernel.memories lists the buffers (bindings, in order) first, then workgroup and private arrays. A memory is
// a 1-D array of one storage type; indices are of type index and must be in range: an index that is not proven in
// range by construction has to be clamped or predicated by the schedule that writes it. Buffers never overlap.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "aotc/base/type.h"

namespace ingot::aotc::kernel {

using ValueId = uint32_t;
inline constexpr ValueId kNoValue = ~0u;

// Operands and results in parentheses. T is any type; all operands and the result have the same type unless stated,
// and ops apply lane by lane to vectors.
enum class Opcode : uint8_t {
  // Leaves.
  kConst,      // imm: integer (sign-extended; bool 0/1), or fimm for floats. Vector type: splat.
  kParam,      // imm: number of the kernel param; its type is params[imm].type
  kGroupId,    // imm: dimension 0..2 -> index
  kLocalId,    // imm: dimension 0..2 -> index (0 on simd kernels: local size 1)
  kGridSize,   // imm: dimension 0..2 -> index, workgroups in that dimension
  kLaneIota,   // (no operands) -> vector of index or int: 0, 1, 2 ...

  // Integers wrap; kIndex never overflows by construction. Floats round to nearest even and never contract.
  kAdd, kSub, kMul,
  kDiv,        // ints: truncated, x/0 = 0, MIN/-1 = MIN; floats: IEEE
  kRem,        // ints: sign of dividend, x%0 = 0, MIN%-1 = 0; floats: fmod
  kDivU, kRemU,// unsigned ints; x/0 = 0, x%0 = 0
  kMin, kMax,  // ints signed; floats: a NaN operand gives NaN (either payload); -0 < +0 is not promised
  kMinU, kMaxU,
  kAnd, kOr, kXor, // ints and bool
  kShl, kShr, kShrU, // shift amount masked by width-1; kShr is arithmetic
  kNeg, kAbs,  // ints wrap (abs(MIN) = MIN); floats: sign bit
  kNot,        // ints bitwise; bool logical
  kMad,        // (a, b, c) floats: a*b+c, fused or not as the target likes; ints: wraps; index: never overflows
  kFma,        // (a, b, c) floats: exact fused; only where the target record has_fma
  kSqrt,       // IEEE; negative -> NaN
  kFloor, kCeil, kTrunc, kRint, // rint: half to even
  kCopySign,   // (magnitude, sign)
  // Math functions of one or two operands. Legal in schedules' output; expanded by the math library
  // (math_library.h), after which they are illegal.
  kExp, kLog, kSin, kCos, kTan, kAsin, kAcos, kAtan, kSinh, kCosh, kTanh, kAsinh, kAcosh, kAtanh, kErf, kPow,
  kLog1p, kExpm1, kSigmoid,

  // Comparison -> bool with the operands' lanes. Floats: ordered, except kNe which is true for NaN.
  kEq, kNe, kLt, kLe, kGt, kGe,
  kLtU, kLeU, kGtU, kGeU,
  kIsNan, kIsInf, // floats -> bool; integer bit tests
  kSelect,     // (bool [vector or scalar], T, T) -> T

  // Conversion; result type is the op's type. int->int sign-extends or truncates; int->float signed, nearest even;
  // float->int truncates toward zero and saturates, NaN -> 0; bool -> 0/1; x -> bool is x != 0.
  kConvert,
  kConvertU,   // as kConvert with integers taken as unsigned (zero-extend; float->unsigned saturates to [0, max])
  kBitcast,    // same bits in all; in simd kernels lanes of another width too, the narrow ones in little-endian order

  // Vectors.
  kSplat,      // scalar -> vector
  kExtract,    // (vector), imm lane -> scalar
  kInsert,     // (vector, scalar), imm lane -> vector
  kShuffle,    // (a, b), imms: lane numbers into a ++ b -> vector of imms.size() lanes
  kReduceAdd, kReduceMul, kReduceMin, kReduceMax, // vector -> scalar, as a halving tree: lane i with i + n/2
  // Dot products of the short integers in 32 bits: (a x g*n or x g, b x g*n, c i32 x n) -> i32 x n
  //   lane i: c[i] + sum over j < g of a[g*i + j] * b[g*i + j], in i32, wrapping; an `a` of g lanes serves every lane.
  kDot4,       // g = 4, i8: a is taken as unsigned, b as signed
  kDot2,       // g = 2, i16: both signed

  // Memory. `memory` names kernel.memories[memory]. Vector forms access `lanes` consecutive elements from the index.
  // `align` is in elements (a power of two, 1 = unknown): the index is a multiple of it and so is the base.
  kLoad,       // (index) -> T
  kStore,      // (index, T)
  kLoadPart,   // (index, count, else T) -> T vector: lanes < count are loaded, the others keep `else`; count is index
  kStorePart,  // (index, T, count)
  kLoadIf,     // (bool, index, else T) -> T; nothing is accessed where false. All lanes together when bool is scalar.
  kStoreIf,    // (bool, index, T)
  kGather,     // (index vector, [bool vector, else]) -> T vector, element by element
  kScatter,    // (index vector, T vector, [bool vector]); lanes in order: the last of equal indices wins
  kAtomicAdd, kAtomicMin, kAtomicMax, // (index, scalar) -> old value; ints only
  // Copies that go on while the thread does other things, 16, 8 or 4 bytes each; the thread's copies since its last commit
  // make a batch. What is copied may be read after a wait, by other threads after a barrier that follows it.
  kCopyAsync,  // (index in `memory`, an array of the workgroup; index in the buffer imm2; bool), imm: elements. Zeros where false
  kFragmentLoad, // (index, pitch), imm: FragmentRole -> i32 x w. See FragmentRole
  kPrefetch,   // (index): a hint, no effect

  // A tile of sums of products over up to four nested loops, for targets whose ops are microkernels:
  //   (init x R*V, a x R, b x V*C, count x V*C, {trips, a_step, b_step} x loops) -> R*V vectors of C chunks of n lanes
  //   for i0 < trips0, i1 < trips1 ...: for c < C: for lane < count[v*C + c]:
  //     sum[r*V + v][c*n + lane] = mad(A[a[r] + i . a_step], B[b[v*C + c] + i . b_step + lane], sum[r*V + v][c*n + lane])
  // A is `memory`, B is imm2; R is imm, C imms[0]. Everything but the sums is of type index; counts are clamped to [0, n].
  // The kMad rules hold.
  kTile,

  // Control. Regions end in kYield whose operands match the results.
  kFor,        // (lo, hi, step, init...) -> results; region params (i, carried...); step > 0; index or int typed
  kIf,         // (bool) -> results; regions[0] then, regions[1] else (always present, may only yield)
  kWhile,      // (init...) -> results; regions[0](carried...) yields (bool, carried...), regions[1](carried...) yields next
  kYield,

  // Groups of threads.
  kBarrier,    // workgroup barrier; orders workgroup arrays and buffers within the group; uniform control flow only
  kSubgroupAdd, kSubgroupMin, kSubgroupMax, // scalar -> scalar over the subgroup
  kSubgroupShuffle, // (T, lane as i32) -> T

  kCopyCommit, // the thread's copies since the last one are a batch
  kCopyWait,   // imm: all but that many of the thread's latest batches are there

  // Matrix units. A fragment is a small matrix that a subgroup's consecutive threads hold together: each has n of the sums, and w words
  // of A and of B. How many threads, n and w are the kernel's FragmentShape.
  //   sums 16 x 8 += A 16 x k times B k x 8, with k = 32 bytes of elements
  // Which thread holds which element is the target's business: kFragmentRow and kFragmentColumn tell it for sums, and
  // anything may be computed with these, element by element. A and B are opaque; one load of B serves two halves.
  // Products are exact; the order of the additions, and roundings between them to f32 or better, are the target's.
  kFragmentMma, // (A i32 x w, B i32 x w, sums), imm: Scalar of the elements, imm2: see fragment.h -> sums: f32 x n, of i8 i32 x n, which wrap.
                // f32 elements count as tf32: their low 13 bits are ignored
  kFragmentPack, // (sums f32 x n, sums f32 x n), imm: f16 or bf16 -> A i32 x w: columns 0..7 and 8..15 of A, rounded to nearest
                 // (sums f32 x n), imm: f32 -> A i32 x w: columns 0 2 4 6 1 3 5 7 are those of A, unchanged; for B of role kBPairs
  kFragmentRowAdd, kFragmentRowMax, // (sums f32 x n) -> f32 x n: each element becomes what the 8 of its row come to
  kFragmentRow, kFragmentColumn, // -> index x n: of each element of sums, 0..15 and 0..7

  // Matrix units that 128 consecutive threads (a warpgroup) use together, factors from workgroup memory, and that go on while the
  // threads do other things. Of sums 64 x 8 c, subgroup s of the warpgroup has rows 16 s to 16 s + 15, as c fragments side by side.
  //   (index of A, index of B, k, sums f32 x 4 times c), imm: steps of 16 -> the sums after A 64 x 16 steps times B 16 steps x 8 c
  // A is `memory`, B imm2, arrays of f16 or bf16. A piece of either has lines of 64 elements, of A rows and of B columns, and in each
  // line the eights of elements change places: element k of line l lies at index + 64 l + ((k / 8) ^ (l % 8)) * 8 + k % 8. The
  // first step begins at element `k` of the lines, a multiple of 16; an index is a multiple of 512 (8 lines).
  // It is under way then: its results may only go on to be sums of another one, and what it reads may not be written, before a
  // kWarpgroupWait says that it has ended.
  kWarpgroupMma,
  kWarpgroupWait, // (f32 x 4 ...) -> the same, imm: all but that many of the thread's latest kWarpgroupMma have ended. With 0 the results
                  // are there; else they are under way as before

  // Boxes of tensors (Kernel::tensor_maps) that come to workgroup memory slice by slice, brought by none of the kernel's threads: it has
  // kFeeders more, which do nothing else. Slice s is in place s % stages of each array, whose `count` the stages share evenly. A kernel
  // has one kFeedStart at most; before it are only ops without side effects that touch no memory, and the kFeeds.
  kFeed,       // (coordinate of slice 0, for each dimension of the map), imm: element in the place; imm2: map; imms: what a slice adds to each
               // coordinate. The box goes to `memory`, lines of 64 elements in the order of its dimensions, eights changing places as
               // kWarpgroupMma says; what lies outside of the tensor is zeros
  kFeedStart,  // (slices), imm: stages. `memory`: an array of i64, twice as many as stages, that belongs to the feed
  kFeedWait,   // (slice): what was fed for it is there. Every thread of the workgroup waits for each slice, in order
  kFeedFree,   // (slice), in order: matrix units that this thread's subgroup began have ended with it, and nothing else will read it. After all
               // subgroups have said so its place takes another one

  kError,      // (bool), imm: code, imm2: site. Where true, sets the run's error word (any one of several)
};

inline constexpr size_t kOpcodeCount = static_cast<size_t>(Opcode::kError) + 1;

std::string_view name(Opcode opcode); // "add", "load_part" ...
std::optional<Opcode> parse_opcode(std::string_view text);
bool is_leaf(Opcode op);    // kConst ... kLaneIota
bool is_compare(Opcode op); // kEq ... kGeU
bool is_math(Opcode op);    // what expand_math removes
bool is_reduce(Opcode op);
bool is_dot(Opcode op);
uint32_t dot_terms(Opcode op);  // products in a lane: 4 or 2
Scalar dot_element(Opcode op);  // i8 or i16
bool is_atomic(Opcode op);
bool is_fragment(Opcode op);  // kFragment..., kWarpgroup...: a subgroup's threads run it together
bool is_copy(Opcode op);      // kCopyAsync, kCopyCommit, kCopyWait
bool is_feed(Opcode op);      // kFeed, kFeedStart, kFeedWait, kFeedFree
bool is_subgroup(Opcode op);
bool is_memory(Opcode op);  // kLoad ... kPrefetch: `memory` is meaningful
bool has_side_effect(Opcode op); // must stay where it is even if its results are unused; control ops have regions

// What a kFragmentLoad loads: element (row, column) of A from index + row * pitch + column, of B from index + column * pitch +
// row, or from index + row * pitch + column (kBRows; 16-bit elements only). A is 16 x k, B k x 16; the elements are those of
// the memory, f16, bf16, f32 or i8; index and pitch are multiples of `align`, which is 16 bytes. kBPairs, of f32 only, is as
// kBRows with the rows of B in the order of the columns that kFragmentPack makes: its rows are rows 0 2 4 6 1 3 5 7 there.
enum class FragmentRole : uint8_t { kA, kB, kBRows, kBPairs };
std::string_view name(FragmentRole role); // "b_rows"

// How threads hold fragments.
struct FragmentShape {
  uint32_t threads = 32; // of a subgroup
  uint32_t words = 4;    // of A, and of B, that each has (one may be with several)
  uint32_t run = 2;      // columns side by side, from a multiple of as many on, of each row of sums that a thread has something of
  uint32_t sums() const { return 128 / threads; } // that each has: element i is of the thread's row i / run, and there of column i % run
  uint32_t rows() const { return sums() / run; }
  bool operator==(const FragmentShape &) const = default;
};
constexpr uint32_t kSubgroup = 32; // of a warpgroup, and of FragmentShape unless a target says otherwise
constexpr uint32_t kWarpgroup = 128;
constexpr uint32_t kWarpgroupLine = 64; // elements; see kWarpgroupMma

enum class Access : uint8_t { kRead, kWrite, kReadWrite };
enum class Space : uint8_t { kBuffer, kWorkgroup, kPrivate };
std::string_view name(Access access); // "read_write"
std::string_view name(Space space);   // "workgroup"

// A buffer as a tensor, of which boxes are fed. In elements, f16 or bf16; dimension 0 is the one whose elements follow each other.
struct TensorMap {
  static constexpr size_t kMaxRank = 5;
  uint32_t memory = 0;          // the buffer
  int64_t offset = 0;           // of the first element
  std::vector<int64_t> sizes;   // 1 .. 2^31 each
  std::vector<int64_t> strides; // the first is 1; the others are multiples of 8 up to 2^38
  std::vector<int64_t> box;     // the first is 64; the others are up to 256
  size_t rank() const { return sizes.size(); }
  int64_t box_elements() const;
  int64_t end() const;          // one more than the last element, from the buffer's beginning
  bool operator==(const TensorMap &) const = default;
};
constexpr uint32_t kFeeders = 32; // threads

// The parts of a kTile's operands.
struct TileShape {
  size_t rows = 0, vectors = 0, chunks = 1, loops = 0;
  size_t a() const { return rows * vectors; }         // first operand of each part
  size_t b() const { return a() + rows; }
  size_t count() const { return b() + vectors * chunks; }
  size_t loop(size_t i) const { return count() + vectors * chunks + 3 * i; }
};

struct Memory {
  std::string name;              // unique in the kernel
  Space space = Space::kBuffer;
  Access access = Access::kRead; // of buffers
  Scalar type = Scalar::kF32;    // storage type; loads give values of exactly this scalar
  uint64_t count = 0;            // elements of an array; 0 for buffers, whose length the binding gives
  uint32_t align = 16;           // bytes that the base is aligned to: buffers 64 on CPU
  bool constant = false;         // a buffer that is read, and that no kernel of a run writes: it may be read before kernels ahead have ended
};

struct Param {
  std::string name;
  Scalar type = Scalar::kIndex;  // index, i32, i64, f32
  int64_t min = INT64_MIN, max = INT64_MAX; // known range of an integer param (lets the legaliser narrow)
  // An index that is floor((2^32 - 1) / another param's value), as 32 bits, the other being 1 or more: for emitters whose target has no
  // instruction to divide by the other. -1: it is not.
  int32_t reciprocal_of = -1;
};

struct Op;

struct Region {
  std::vector<ValueId> params;
  std::vector<Op> ops;
};

// Whether the region, or one within it, has such an op.
bool uses(const Region &region, Opcode code);

// nullopt where the numbers of operands and results are not those of a tile.
std::optional<TileShape> tile_shape(const Op &op);

struct Op {
  Opcode code = Opcode::kConst;
  uint32_t memory = 0;           // memory ops
  uint32_t align = 1;            // memory ops, in elements
  uint32_t unroll = 1;           // kFor: a hint; 0 = fully (constant bounds)
  bool contract = false;         // kAdd, kSub, kMul on floats: may be contracted with a neighbour that is flagged too
  int64_t imm = 0;
  int64_t imm2 = 0;
  double fimm = 0;               // kConst of floats (f32 constants are exactly representable)
  std::vector<int64_t> imms;     // kShuffle
  std::vector<ValueId> operands;
  std::vector<ValueId> results;  // their types are Kernel::types
  std::vector<Region> regions;
};

// The class of schedule that made the kernel, which says what its emitter may meet.
enum class Class : uint8_t { kSimd, kSimt, kBlock };
std::string_view name(Class kind); // "simd"

struct Kernel {
  std::string name;              // a valid C identifier
  Class kind = Class::kSimd;
  std::array<uint32_t, 3> local_size = {1, 1, 1};
  FragmentShape fragment;        // of all fragments
  std::vector<Memory> memories;  // buffers first
  std::vector<Param> params;
  std::vector<TensorMap> tensor_maps;
  std::vector<Type> types;       // by ValueId
  Region body;                   // no params, no yield

  Type type_of(ValueId value) const { return types[value]; }
  size_t buffer_count() const;
  bool is_float_op(const Op &op) const; // by the type of the first operand or result
};

using Values = std::vector<ValueId>;

} // namespace ingot::aotc::kernel
