// Dispatch: one kernel's worth of work, unscheduled.
//
// A dispatch is a pure computation over named axes. Its body is a DAG of scalar values; each value implicitly depends
// on a set of axes (those of its loads, indices and operands). `reduce` removes axes; a `store` writes a value for every
// point of its axes. An axis can be reduced by one value and stored over by another, so a whole softmax is one body:
//
//   axes r:40 j:6625
//   %0 = load x[6625*r + j] : f32
//   %1 = reduce max %0 over j
//   %2 = sub %0, %1          %3 = exp %2
//   %4 = reduce add %3 over j
//   %5 = div %3, %4
//   store y[6625*r + j] = %5 over r j
//
// Operands are dense row-major 1-D buffers; an offset is an Expr over axes, dims and gathered indices (symbols of kind
// kValue). A load with guards reads only where 0 <= value < extent for each guard, and gives `otherwise` elsewhere:
// padding is a guarded load. Without guards the offset is in range by construction, which the verifier proves where it
// can (offset bounds against the operand's element count).
//
// Work that is not affine (NonZero's compaction, sorting) has a structured loop instead of a body: a kernel of one
// group, the same on every target. A recurrence has a sequence instead: dispatches that run in turn, again and again,
// within one group.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "aotc/base/expr.h"
#include "aotc/base/type.h"
#include "aotc/kernel/kernel.h"

namespace ingot::aotc::dispatch {

using ValueId = uint32_t;
inline constexpr ValueId kNoValue = ~0u;

// How a constant operand was laid out for the CPU: panels of 16 along `lane_axis`, as [lane/16][k][16], zero padded;
// k runs over the flattened `inner_axes` (row-major, in this order). With `group` g > 1, as [lane/16][k/g][16][g]: what one
// lane of a dot product takes lies together. Loads are written in terms of the packed offset, so
// a schedule that does not know packings still computes the right thing.
struct Packing {
  uint32_t lane_axis = 0;
  std::vector<uint32_t> inner_axes;
  std::vector<uint32_t> batch_axes; // outermost, e.g. the group of a grouped convolution
  uint32_t group = 1;
};

struct Operand {
  std::string name;
  ElementType type = ElementType::kF32;
  Expr count;                     // elements
  bool output = false;
  bool constant = false;          // known at compile time
  std::optional<Packing> packing; // of constants, after prepacking
};

struct Axis {
  Symbol symbol;                  // printed a0, a1 ... in canonical text
  Expr extent;                    // may be zero
};

struct Guard {
  Expr value, extent;             // 0 <= value < extent
  bool operator==(const Guard &) const = default;
};

enum class ValueKind : uint8_t { kConst, kIndex, kLoad, kOp, kReduce };
enum class ReduceKind : uint8_t { kAdd, kMul, kMin, kMax, kAnd, kOr, kArgMin, kArgMax, kArgMinLast, kArgMaxLast };

struct Value {
  ValueKind kind = ValueKind::kConst;
  ElementType type = ElementType::kF32;
  int64_t imm = 0;                // kConst of integers and bool
  double fimm = 0;                // kConst of floats
  Expr expr;                      // kIndex: the value, converted to `type`; kLoad: the offset in elements
  uint32_t operand = 0;           // kLoad: number in Dispatch::operands
  std::vector<Guard> guards;      // kLoad
  ValueId otherwise = kNoValue;   // kLoad with guards: a kConst
  kernel::Opcode code = kernel::Opcode::kAdd; // kOp: arithmetic, comparison, select, convert (signedness is the op's)
  std::vector<ValueId> args;      // kOp, kReduce (one)
  ReduceKind reduce = ReduceKind::kAdd;
  std::vector<uint32_t> axes;     // kReduce: axes removed. Arg reductions: exactly one axis; the result is its index
                                  // (type i64), the first of equals, or the last for ...Last
};

struct Store {
  uint32_t operand = 0;
  Expr offset;                    // injective over `axes`
  ValueId value = 0;
  std::vector<uint32_t> axes;     // every axis that the value or the offset depends on
};

// Where `condition` (bool) holds at any point, the run fails with `code` (INGOT_KERNEL_ERROR_*) naming `site`.
struct Check {
  ValueId condition = 0;
  int64_t code = 0;
  int64_t site = 0;
};

struct LoopBody {
  kernel::Kernel kernel;          // scalar simd-class kernel, one group; buffers are the operands in order
  std::vector<Expr> params;
};

struct Sequence;

struct Dispatch {
  std::string name;               // C identifier
  std::vector<std::string> nodes; // source nodes, for diagnostics and `inspect`
  std::vector<Operand> operands;  // inputs, then outputs
  std::vector<Axis> axes;
  std::vector<Value> values;      // topologically sorted
  std::vector<Store> stores;
  std::vector<Check> checks;
  std::shared_ptr<const LoopBody> loop; // instead of axes, values, stores
  std::shared_ptr<const Sequence> sequence; // instead of axes, values, stores

  // Free symbols (dims, host scalars) in order of first appearance in the canonical text: the kernel's params.
  std::vector<Symbol> free_symbols() const;
  // Axes each value depends on, as bit masks (at most 64 axes).
  std::vector<uint64_t> axis_sets() const;
};

// trips times: every step in order, each with the memory that earlier ones wrote. Of the sequence's operands, outputs may
// be read as well; what they hold before is then an input (the initial state).
//
//   sequence i 0 99 [100] {
//     step 0 2 4 dispatch @... { ... }      operands 0, 2 and 4 of the sequence are its operands
//   }
struct Sequence {
  struct Step {
    Dispatch dispatch;                // has a body; may use `iteration` in expressions, but not in extents
    std::vector<uint32_t> operands;   // of the sequence, then its locals, by the step's operands
  };
  Symbol iteration;                   // host symbol: 0, 1, 2 ...
  Expr trips;
  std::vector<Operand> locals;        // of constant size, for what only the steps exchange
  std::vector<Step> steps;
};

// The dispatch with its expressions changed by `change`, which looks at free symbols; its axes and gathered indices are made
// anew over them. `canonical`: axes are called a0, a1 ... in their order. No loop and no sequence.
Dispatch rewrite(const Dispatch &dispatch, const std::function<Expr(const Expr &)> &change, bool canonical = false);

// Text: deterministic; `print` for people and files, parsed back by `parse`. canonical_text renumbers axes and symbols and
// leaves out names, so equal work has equal text (deduplication, tuning).
std::string print(const Dispatch &dispatch);
std::string canonical_text(const Dispatch &dispatch);
std::optional<Dispatch> parse(std::string_view text, std::string &error);
// Empty if the dispatch is well formed; else what is wrong and where.
std::string verify(const Dispatch &dispatch);

} // namespace ingot::aotc::dispatch
