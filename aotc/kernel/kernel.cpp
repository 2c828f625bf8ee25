// Names of the opcodes and small queries over kernels.
#include "aotc/kernel/kernel.h"

#include <unordered_map>

#include "aotc/base/error.h"

namespace ingot::aotc::kernel {
namespace {

// In the order of Opcode.
constexpr std::string_view kNames[] = {
    "const", "param", "group_id", "local_id", "grid_size", "lane_iota",
    "add", "sub", "mul", "div", "rem", "div_u", "rem_u", "min", "max", "min_u", "max_u",
    "and", "or", "xor", "shl", "shr", "shr_u", "neg", "abs", "not", "mad", "fma", "sqrt",
    "floor", "ceil", "trunc", "rint", "copy_sign",
    "exp", "log", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh",
    "erf", "pow", "log1p", "expm1", "sigmoid",
    "eq", "ne", "lt", "le", "gt", "ge", "lt_u", "le_u", "gt_u", "ge_u", "is_nan", "is_inf", "select",
    "convert", "convert_u", "bitcast",
    "splat", "extract", "insert", "shuffle", "reduce_add", "reduce_mul", "reduce_min", "reduce_max",
    "dot4", "dot2",
    "load", "store", "load_part", "store_part", "load_if", "store_if", "gather", "scatter",
    "atomic_add", "atomic_min", "atomic_max", "copy_async", "fragment_load", "prefetch", "tile",
    "for", "if", "while", "yield",
    "barrier", "subgroup_add", "subgroup_min", "subgroup_max", "subgroup_shuffle",
    "copy_commit", "copy_wait", "fragment_mma", "fragment_pack", "fragment_row_add", "fragment_row_max", "fragment_row", "fragment_column",
    "warpgroup_mma", "warpgroup_wait", "feed", "feed_start", "feed_wait", "feed_free",
    "error"};
static_assert(std::size(kNames) == kOpcodeCount);

} // namespace

std::string_view name(Opcode opcode) {
  size_t i = static_cast<size_t>(opcode);
  return i < std::size(kNames) ? kNames[i] : "?";
}

std::optional<Opcode> parse_opcode(std::string_view text) {
  for (size_t i = 0; i < std::size(kNames); ++i)
    if (kNames[i] == text)
      return static_cast<Opcode>(i);
  return std::nullopt;
}

std::string_view name(Access access) {
  constexpr std::string_view names[] = {"read", "write", "read_write"};
  return names[static_cast<size_t>(access)];
}

std::string_view name(FragmentRole role) {
  constexpr std::string_view names[] = {"a", "b", "b_rows", "b_pairs"};
  return names[static_cast<size_t>(role)];
}

std::string_view name(Space space) {
  constexpr std::string_view names[] = {"buffer", "workgroup", "private"};
  return names[static_cast<size_t>(space)];
}

std::string_view name(Class kind) {
  constexpr std::string_view names[] = {"simd", "simt", "block"};
  return names[static_cast<size_t>(kind)];
}

bool is_compare(Opcode op) { return op >= Opcode::kEq && op <= Opcode::kGeU; }
bool is_math(Opcode op) { return op >= Opcode::kExp && op <= Opcode::kSigmoid; }
bool is_reduce(Opcode op) { return op >= Opcode::kReduceAdd && op <= Opcode::kReduceMax; }
bool is_dot(Opcode op) { return op == Opcode::kDot4 || op == Opcode::kDot2; }
uint32_t dot_terms(Opcode op) { return op == Opcode::kDot4 ? 4 : 2; }
Scalar dot_element(Opcode op) { return op == Opcode::kDot4 ? Scalar::kI8 : Scalar::kI16; }
bool is_atomic(Opcode op) { return op >= Opcode::kAtomicAdd && op <= Opcode::kAtomicMax; }
bool is_subgroup(Opcode op) { return op >= Opcode::kSubgroupAdd && op <= Opcode::kSubgroupShuffle; }
bool is_fragment(Opcode op) { return op == Opcode::kFragmentLoad || (op >= Opcode::kFragmentMma && op <= Opcode::kWarpgroupWait); }
bool is_copy(Opcode op) { return op == Opcode::kCopyAsync || op == Opcode::kCopyCommit || op == Opcode::kCopyWait; }
bool is_feed(Opcode op) { return op >= Opcode::kFeed && op <= Opcode::kFeedFree; }
bool is_memory(Opcode op) { return op >= Opcode::kLoad && op <= Opcode::kPrefetch; }
bool is_leaf(Opcode op) { return op <= Opcode::kLaneIota; }

bool has_side_effect(Opcode op) {
  switch (op) {
  case Opcode::kStore:
  case Opcode::kStorePart:
  case Opcode::kStoreIf:
  case Opcode::kScatter:
  case Opcode::kAtomicAdd:
  case Opcode::kAtomicMin:
  case Opcode::kAtomicMax:
  case Opcode::kBarrier:
  case Opcode::kError:
  case Opcode::kYield:
  case Opcode::kPrefetch:
    return true;
  default:
    return is_subgroup(op) || is_copy(op) || is_feed(op) || op == Opcode::kWarpgroupMma || op == Opcode::kWarpgroupWait; // a wait counts those before it
  }
}

bool uses(const Region &region, Opcode code) {
  for (const Op &op : region.ops) {
    if (op.code == code)
      return true;
    for (const Region &part : op.regions)
      if (uses(part, code))
        return true;
  }
  return false;
}

int64_t TensorMap::box_elements() const {
  int64_t all = 1;
  for (int64_t b : box)
    all *= b;
  return all;
}

int64_t TensorMap::end() const {
  int64_t last = offset;
  for (size_t i = 0; i < rank(); ++i)
    last += (sizes[i] - 1) * strides[i];
  return last + 1;
}

std::optional<TileShape> tile_shape(const Op &op) {
  TileShape shape;
  if (op.imm < 1 || op.imm > INT32_MAX || op.imms.size() != 1 || op.imms[0] < 1 || op.imms[0] > kMaxLanes || op.results.empty() || op.results.size() % static_cast<size_t>(op.imm) != 0)
    return std::nullopt;
  shape.rows = static_cast<size_t>(op.imm);
  shape.vectors = op.results.size() / shape.rows;
  shape.chunks = static_cast<size_t>(op.imms[0]);
  size_t fixed = shape.loop(0);
  if (op.operands.size() <= fixed || (op.operands.size() - fixed) % 3 != 0)
    return std::nullopt;
  shape.loops = (op.operands.size() - fixed) / 3;
  if (shape.loops > 4)
    return std::nullopt;
  return shape;
}

size_t Kernel::buffer_count() const {
  size_t n = 0;
  while (n < memories.size() && memories[n].space == Space::kBuffer)
    ++n;
  return n;
}

bool Kernel::is_float_op(const Op &op) const {
  if (!op.operands.empty())
    return is_float(types[op.operands[0]].scalar);
  return !op.results.empty() && is_float(types[op.results[0]].scalar);
}

} // namespace ingot::aotc::kernel
