// Builder: type inference, the few folds, and the nesting of regions. See builder.h.
#include "aotc/kernel/builder.h"

#include <bit>
#include <cmath>
#include <tuple>

#include "aotc/base/error.h"
#include "aotc/kernel/integer.h"

namespace ingot::aotc::kernel {

bool Builder::LeafKey::operator<(const LeafKey &other) const {
  return std::tuple(code, type.scalar, type.lanes, bits) <
         std::tuple(other.code, other.type.scalar, other.type.lanes, other.bits);
}

Builder::Builder(Kernel &kernel) : kernel_(kernel) {
  stack_.push_back(&kernel_.body);
  // A kernel that already has ops keeps its leading leaves; they are shared from here on.
  for (const Op &op : kernel_.body.ops) {
    if (!is_leaf(op.code))
      break;
    ++leaf_count_;
    Type type = kernel_.types[op.results[0]];
    bool is_float_constant = op.code == Opcode::kConst && is_float(type.scalar);
    uint64_t bits = is_float_constant ? std::bit_cast<uint64_t>(op.fimm) : static_cast<uint64_t>(op.imm);
    leaves_.emplace(LeafKey{op.code, type, bits}, op.results[0]);
    if (op.code == Opcode::kConst && !is_float_constant)
      constant_values_[op.results[0]] = op.imm;
  }
}

void Builder::require(bool condition, Opcode op, const char *what) const {
  if (!condition)
    throw InternalError("kernel " + kernel_.name + ": " + std::string(name(op)) + ": " + what);
}

ValueId Builder::new_value(Type type) {
  kernel_.types.push_back(type);
  return static_cast<ValueId>(kernel_.types.size() - 1);
}

ValueId Builder::append_value(Op op, Type result) {
  ValueId id = new_value(result);
  op.results = {id};
  stack_.back()->ops.push_back(std::move(op));
  return id;
}

void Builder::append_effect(Op op) { stack_.back()->ops.push_back(std::move(op)); }

ValueId Builder::leaf(Opcode code, Type type, int64_t imm, double fimm) {
  bool is_float_constant = code == Opcode::kConst && is_float(type.scalar);
  LeafKey key{code, type, is_float_constant ? std::bit_cast<uint64_t>(fimm) : static_cast<uint64_t>(imm)};
  if (auto it = leaves_.find(key); it != leaves_.end())
    return it->second;
  Op op;
  op.code = code;
  op.imm = imm;
  op.fimm = fimm;
  ValueId id = new_value(type);
  op.results = {id};
  Region &body = *stack_.front();
  body.ops.insert(body.ops.begin() + static_cast<ptrdiff_t>(leaf_count_++), std::move(op));
  leaves_.emplace(key, id);
  if (code == Opcode::kConst && !is_float_constant)
    constant_values_[id] = imm;
  return id;
}

// ---- Declarations

uint32_t Builder::add_buffer(std::string name, Access access, Scalar type, uint32_t align, bool constant) {
  ensure(kernel_.buffer_count() == kernel_.memories.size(), "add_buffer after add_array");
  ensure(type != Scalar::kIndex, "a memory of type index");
  kernel_.memories.push_back({std::move(name), Space::kBuffer, access, type, 0, align, constant});
  return static_cast<uint32_t>(kernel_.memories.size() - 1);
}

uint32_t Builder::add_array(std::string name, Space space, Scalar type, uint64_t count, uint32_t align) {
  ensure(space != Space::kBuffer && count > 0, "add_array of a buffer or of no elements");
  ensure(type != Scalar::kIndex, "a memory of type index");
  kernel_.memories.push_back({std::move(name), space, Access::kReadWrite, type, count, align});
  return static_cast<uint32_t>(kernel_.memories.size() - 1);
}

ValueId Builder::add_param(std::string name, Scalar type, int64_t min, int64_t max) {
  kernel_.params.push_back({std::move(name), type, min, max});
  return leaf(Opcode::kParam, type, static_cast<int64_t>(kernel_.params.size() - 1));
}

// ---- Leaves

ValueId Builder::index(int64_t value) { return constant(Scalar::kIndex, value); }

ValueId Builder::constant(Type type, int64_t value) {
  require(!is_float(type.scalar), Opcode::kConst, "an integer constant of a float type");
  value = type.scalar == Scalar::kBool ? value != 0 : sign_extend(value, bit_width(type.scalar));
  return leaf(Opcode::kConst, type, value);
}

ValueId Builder::constant_float(Type type, double value) {
  require(is_float(type.scalar), Opcode::kConst, "a float constant of another type");
  return leaf(Opcode::kConst, type, 0, round_to(type.scalar, value));
}

ValueId Builder::zero(Type type) { return is_float(type.scalar) ? constant_float(type, 0) : constant(type, 0); }
ValueId Builder::group_id(int dim) { return leaf(Opcode::kGroupId, Scalar::kIndex, dim); }
ValueId Builder::local_id(int dim) { return leaf(Opcode::kLocalId, Scalar::kIndex, dim); }
ValueId Builder::grid_size(int dim) { return leaf(Opcode::kGridSize, Scalar::kIndex, dim); }
ValueId Builder::lane_iota(Type type) { return leaf(Opcode::kLaneIota, type, 0); }

bool Builder::is_constant(ValueId value, int64_t &out) const {
  auto it = constant_values_.find(value);
  if (it == constant_values_.end())
    return false;
  out = it->second;
  return true;
}

// ---- Arithmetic

ValueId Builder::unary(Opcode op, ValueId a) {
  Type type = type_of(a);
  if (is_reduce(op))
    return reduce(op, a);
  bool is_predicate = op == Opcode::kIsNan || op == Opcode::kIsInf;
  bool float_only = is_predicate || is_math(op) || (op >= Opcode::kSqrt && op <= Opcode::kRint);
  require(float_only || op == Opcode::kNeg || op == Opcode::kAbs || op == Opcode::kNot, op, "is not a unary op");
  require(op != Opcode::kPow, op, "takes two operands");
  require(!float_only || is_float(type.scalar), op, "takes a float");
  require(op != Opcode::kNot || !is_float(type.scalar), op, "takes an integer or bool");
  require(op == Opcode::kNot || type.scalar != Scalar::kBool, op, "takes no bool");
  int64_t value;
  if (is_constant(a, value)) {
    if (op == Opcode::kNot)
      return constant(type, type.scalar == Scalar::kBool ? !value : ~value);
    if (op == Opcode::kNeg)
      return constant(type, wrapping_sub(0, value));
  }
  Op out;
  out.code = op;
  out.operands = {a};
  return append_value(std::move(out), is_predicate ? type.with_scalar(Scalar::kBool) : type);
}

ValueId Builder::fold(Opcode op, ValueId a, ValueId b) {
  Type type = type_of(a);
  if (is_float(type.scalar))
    return kNoValue;
  int64_t x, y;
  bool has_x = is_constant(a, x), has_y = is_constant(b, y);
  if (has_x && has_y) {
    int64_t result;
    if (fold_integer(op, type.scalar, x, y, result))
      return constant(is_compare(op) ? type.with_scalar(Scalar::kBool) : type, result);
    return kNoValue;
  }
  if (type.scalar == Scalar::kBool) {
    if (op == Opcode::kAnd && has_x)
      return x ? b : a;
    if (op == Opcode::kAnd && has_y)
      return y ? a : b;
    if (op == Opcode::kOr && has_x)
      return x ? a : b;
    if (op == Opcode::kOr && has_y)
      return y ? b : a;
    return kNoValue;
  }
  switch (op) {
  case Opcode::kAdd:
    return has_x && x == 0 ? b : has_y && y == 0 ? a : kNoValue;
  case Opcode::kSub:
    return has_y && y == 0 ? a : kNoValue;
  case Opcode::kMul:
    if (has_x)
      return x == 0 ? a : x == 1 ? b : kNoValue;
    return has_y ? (y == 0 ? b : y == 1 ? a : kNoValue) : kNoValue;
  case Opcode::kDiv:
  case Opcode::kDivU:
    return has_y && y == 1 ? a : kNoValue;
  case Opcode::kRem:
  case Opcode::kRemU:
    return has_y && y == 1 ? constant(type, 0) : kNoValue;
  default:
    return kNoValue;
  }
}

ValueId Builder::binary(Opcode op, ValueId a, ValueId b) {
  if (is_compare(op))
    return compare(op, a, b);
  Type type = type_of(a);
  bool bitwise = op == Opcode::kAnd || op == Opcode::kOr || op == Opcode::kXor;
  bool float_only = op == Opcode::kCopySign || op == Opcode::kPow;
  bool integer_only = bitwise || op == Opcode::kDivU || op == Opcode::kRemU || op == Opcode::kMinU ||
                      op == Opcode::kMaxU || (op >= Opcode::kShl && op <= Opcode::kShrU);
  require(integer_only || float_only || (op >= Opcode::kAdd && op <= Opcode::kMax), op, "is not a binary op");
  require(type == type_of(b), op, "the operands' types differ");
  require(!float_only || is_float(type.scalar), op, "takes floats");
  require(!integer_only || !is_float(type.scalar), op, "takes integers");
  require(bitwise || type.scalar != Scalar::kBool, op, "takes no bools");
  if (ValueId folded = fold(op, a, b); folded != kNoValue)
    return folded;
  Op out;
  out.code = op;
  out.operands = {a, b};
  return append_value(std::move(out), type);
}

ValueId Builder::compare(Opcode op, ValueId a, ValueId b) {
  Type type = type_of(a);
  require(is_compare(op), op, "is not a comparison");
  require(type == type_of(b), op, "the operands' types differ");
  require(op < Opcode::kLtU || is_int(type.scalar), op, "takes integers");
  require(op == Opcode::kEq || op == Opcode::kNe || type.scalar != Scalar::kBool, op, "takes no bools");
  if (ValueId folded = fold(op, a, b); folded != kNoValue)
    return folded;
  Op out;
  out.code = op;
  out.operands = {a, b};
  return append_value(std::move(out), type.with_scalar(Scalar::kBool));
}

ValueId Builder::ternary(Opcode op, ValueId a, ValueId b, ValueId c) {
  if (op == Opcode::kSelect)
    return select(a, b, c);
  Type type = type_of(a);
  require(op == Opcode::kMad || op == Opcode::kFma, op, "is not a ternary op");
  require(type == type_of(b) && type == type_of(c), op, "the operands' types differ");
  require(is_float(type.scalar) || (op == Opcode::kMad && is_int(type.scalar)), op, "takes floats");
  if (!is_float(type.scalar)) {
    if (ValueId product = fold(Opcode::kMul, a, b); product != kNoValue)
      return add(product, c);
    int64_t value;
    if (is_constant(c, value) && value == 0)
      return mul(a, b);
  }
  Op out;
  out.code = op;
  out.operands = {a, b, c};
  return append_value(std::move(out), type);
}

ValueId Builder::select(ValueId condition, ValueId a, ValueId b) {
  Type type = type_of(a), condition_type = type_of(condition);
  require(type == type_of(b), Opcode::kSelect, "the operands' types differ");
  require(condition_type.scalar == Scalar::kBool &&
              (condition_type.lanes == 1 || condition_type.lanes == type.lanes),
          Opcode::kSelect, "the condition is a bool scalar, or a vector of the operands' lanes");
  int64_t value;
  if (is_constant(condition, value))
    return value ? a : b;
  if (a == b)
    return a;
  Op out;
  out.code = Opcode::kSelect;
  out.operands = {condition, a, b};
  return append_value(std::move(out), type);
}

ValueId Builder::convert(Type type, ValueId a) {
  Type from = type_of(a);
  require(from.lanes == type.lanes, Opcode::kConvert, "keeps the lanes");
  if (from == type)
    return a;
  int64_t value;
  if (!is_float(type.scalar) && is_constant(a, value))
    return constant(type, value);
  Op out;
  out.code = Opcode::kConvert;
  out.operands = {a};
  return append_value(std::move(out), type);
}

ValueId Builder::convert_u(Type type, ValueId a) {
  Type from = type_of(a);
  require(from.lanes == type.lanes, Opcode::kConvertU, "keeps the lanes");
  if (from == type)
    return a;
  int64_t value;
  if (!is_float(type.scalar) && is_constant(a, value))
    return constant(type, static_cast<int64_t>(zero_extend(value, bit_width(from.scalar))));
  Op out;
  out.code = Opcode::kConvertU;
  out.operands = {a};
  return append_value(std::move(out), type);
}

ValueId Builder::bitcast(Type type, ValueId a) {
  Type from = type_of(a);
  require(from.lanes * bit_width(from.scalar) == type.lanes * bit_width(type.scalar), Opcode::kBitcast,
          "keeps the lanes and their bits");
  require(from.scalar != Scalar::kIndex && type.scalar != Scalar::kIndex, Opcode::kBitcast, "takes no index");
  if (from == type)
    return a;
  Op out;
  out.code = Opcode::kBitcast;
  out.operands = {a};
  return append_value(std::move(out), type);
}

// ---- Vectors

ValueId Builder::splat(ValueId scalar, uint32_t lanes) {
  Type type = type_of(scalar);
  require(type.lanes == 1, Opcode::kSplat, "takes a scalar");
  if (lanes == 1)
    return scalar;
  int64_t value;
  if (is_constant(scalar, value))
    return constant(type.with_lanes(lanes), value);
  Op out;
  out.code = Opcode::kSplat;
  out.operands = {scalar};
  return append_value(std::move(out), type.with_lanes(lanes));
}

ValueId Builder::extract(ValueId vector, uint32_t lane) {
  Type type = type_of(vector);
  require(lane < type.lanes, Opcode::kExtract, "the lane is out of range");
  if (type.lanes == 1)
    return vector;
  int64_t value;
  if (is_constant(vector, value))
    return constant(type.with_lanes(1), value);
  Op out;
  out.code = Opcode::kExtract;
  out.imm = lane;
  out.operands = {vector};
  return append_value(std::move(out), type.with_lanes(1));
}

ValueId Builder::insert(ValueId vector, ValueId scalar, uint32_t lane) {
  Type type = type_of(vector);
  require(lane < type.lanes, Opcode::kInsert, "the lane is out of range");
  require(type_of(scalar) == type.with_lanes(1), Opcode::kInsert, "the scalar's type is not the vector's");
  if (type.lanes == 1)
    return scalar;
  Op out;
  out.code = Opcode::kInsert;
  out.imm = lane;
  out.operands = {vector, scalar};
  return append_value(std::move(out), type);
}

ValueId Builder::shuffle(ValueId a, ValueId b, std::vector<int64_t> lanes) {
  Type type = type_of(a);
  require(type == type_of(b), Opcode::kShuffle, "the operands' types differ");
  require(!lanes.empty() && lanes.size() <= kMaxLanes, Opcode::kShuffle, "gives 1 to 1024 lanes");
  for (int64_t lane : lanes)
    require(lane >= 0 && lane < 2 * type.lanes, Opcode::kShuffle, "a lane is out of range");
  if (lanes.size() == 1 && type.lanes > 1)
    return lanes[0] < type.lanes ? extract(a, static_cast<uint32_t>(lanes[0]))
                                 : extract(b, static_cast<uint32_t>(lanes[0]) - type.lanes);
  Op out;
  out.code = Opcode::kShuffle;
  out.operands = {a, b};
  Type result = type.with_lanes(static_cast<uint32_t>(lanes.size()));
  out.imms = std::move(lanes);
  return append_value(std::move(out), result);
}

ValueId Builder::reduce(Opcode op, ValueId vector) {
  Type type = type_of(vector);
  require(is_reduce(op), op, "is not a reduction");
  require(type.scalar != Scalar::kBool, op, "takes no bools");
  require((type.lanes & (type.lanes - 1)) == 0, op, "takes a power of two of lanes");
  if (type.lanes == 1)
    return vector;
  Op out;
  out.code = op;
  out.operands = {vector};
  return append_value(std::move(out), type.with_lanes(1));
}

ValueId Builder::dot(Opcode op, ValueId a, ValueId b, ValueId c) {
  Type sums = type_of(c), left = type_of(a), right = type_of(b);
  require(is_dot(op), op, "is no dot product");
  require(sums.scalar == Scalar::kI32, op, "sums are i32");
  require(right == Type(dot_element(op), dot_terms(op) * sums.lanes), op, "the right side does not fit the sums");
  require(left == right || left == right.with_lanes(dot_terms(op)), op, "the left side does not fit the right");
  Op out;
  out.code = op;
  out.operands = {a, b, c};
  return append_value(std::move(out), sums);
}

// ---- Memory

namespace {

Op memory_op(Opcode code, uint32_t memory, Values operands, uint32_t align = 1) {
  Op op;
  op.code = code;
  op.memory = memory;
  op.align = align;
  op.operands = std::move(operands);
  return op;
}

} // namespace

ValueId Builder::load(uint32_t memory, ValueId index, uint32_t lanes, uint32_t align) {
  require(memory < kernel_.memories.size(), Opcode::kLoad, "no such memory");
  require(type_of(index) == Type(Scalar::kIndex), Opcode::kLoad, "the index is not of type index");
  return append_value(memory_op(Opcode::kLoad, memory, {index}, align), Type(kernel_.memories[memory].type, lanes));
}

void Builder::store(uint32_t memory, ValueId index, ValueId value, uint32_t align) {
  require(memory < kernel_.memories.size(), Opcode::kStore, "no such memory");
  require(type_of(index) == Type(Scalar::kIndex), Opcode::kStore, "the index is not of type index");
  require(type_of(value).scalar == kernel_.memories[memory].type, Opcode::kStore, "the value is not of the memory's type");
  append_effect(memory_op(Opcode::kStore, memory, {index, value}, align));
}

ValueId Builder::load_part(uint32_t memory, ValueId index, ValueId count, ValueId otherwise) {
  require(memory < kernel_.memories.size(), Opcode::kLoadPart, "no such memory");
  require(type_of(index) == Type(Scalar::kIndex) && type_of(count) == Type(Scalar::kIndex), Opcode::kLoadPart,
          "the index and the count are of type index");
  require(type_of(otherwise).scalar == kernel_.memories[memory].type, Opcode::kLoadPart,
          "the other value is not of the memory's type");
  return append_value(memory_op(Opcode::kLoadPart, memory, {index, count, otherwise}), type_of(otherwise));
}

void Builder::store_part(uint32_t memory, ValueId index, ValueId value, ValueId count) {
  require(memory < kernel_.memories.size(), Opcode::kStorePart, "no such memory");
  require(type_of(index) == Type(Scalar::kIndex) && type_of(count) == Type(Scalar::kIndex), Opcode::kStorePart,
          "the index and the count are of type index");
  require(type_of(value).scalar == kernel_.memories[memory].type, Opcode::kStorePart,
          "the value is not of the memory's type");
  append_effect(memory_op(Opcode::kStorePart, memory, {index, value, count}));
}

ValueId Builder::load_if(uint32_t memory, ValueId condition, ValueId index, ValueId otherwise, uint32_t align) {
  require(memory < kernel_.memories.size(), Opcode::kLoadIf, "no such memory");
  require(type_of(index) == Type(Scalar::kIndex), Opcode::kLoadIf, "the index is not of type index");
  Type type = type_of(otherwise), mask = type_of(condition);
  require(type.scalar == kernel_.memories[memory].type, Opcode::kLoadIf, "the other value is not of the memory's type");
  require(mask.scalar == Scalar::kBool && (mask.lanes == 1 || mask.lanes == type.lanes), Opcode::kLoadIf,
          "the condition is a bool scalar, or a vector of the value's lanes");
  return append_value(memory_op(Opcode::kLoadIf, memory, {condition, index, otherwise}, align), type);
}

void Builder::store_if(uint32_t memory, ValueId condition, ValueId index, ValueId value, uint32_t align) {
  require(memory < kernel_.memories.size(), Opcode::kStoreIf, "no such memory");
  require(type_of(index) == Type(Scalar::kIndex), Opcode::kStoreIf, "the index is not of type index");
  Type type = type_of(value), mask = type_of(condition);
  require(type.scalar == kernel_.memories[memory].type, Opcode::kStoreIf, "the value is not of the memory's type");
  require(mask.scalar == Scalar::kBool && (mask.lanes == 1 || mask.lanes == type.lanes), Opcode::kStoreIf,
          "the condition is a bool scalar, or a vector of the value's lanes");
  append_effect(memory_op(Opcode::kStoreIf, memory, {condition, index, value}, align));
}

ValueId Builder::gather(uint32_t memory, ValueId indices, ValueId mask, ValueId otherwise) {
  require(memory < kernel_.memories.size(), Opcode::kGather, "no such memory");
  Type index_type = type_of(indices), type(kernel_.memories[memory].type, index_type.lanes);
  require(index_type.scalar == Scalar::kIndex, Opcode::kGather, "the indices are not of type index");
  require((mask == kNoValue) == (otherwise == kNoValue), Opcode::kGather, "takes both a mask and another value or neither");
  Values operands = {indices};
  if (mask != kNoValue) {
    require(type_of(mask) == type.with_scalar(Scalar::kBool), Opcode::kGather, "the mask is a bool vector");
    require(type_of(otherwise) == type, Opcode::kGather, "the other value is not of the result's type");
    operands = {indices, mask, otherwise};
  }
  return append_value(memory_op(Opcode::kGather, memory, std::move(operands)), type);
}

void Builder::scatter(uint32_t memory, ValueId indices, ValueId value, ValueId mask) {
  require(memory < kernel_.memories.size(), Opcode::kScatter, "no such memory");
  Type type = type_of(value);
  require(type.scalar == kernel_.memories[memory].type, Opcode::kScatter, "the value is not of the memory's type");
  require(type_of(indices) == type.with_scalar(Scalar::kIndex), Opcode::kScatter, "one index for each lane");
  Values operands = {indices, value};
  if (mask != kNoValue) {
    require(type_of(mask) == type.with_scalar(Scalar::kBool), Opcode::kScatter, "the mask is a bool vector");
    operands.push_back(mask);
  }
  append_effect(memory_op(Opcode::kScatter, memory, std::move(operands)));
}

ValueId Builder::atomic(Opcode op, uint32_t memory, ValueId index, ValueId value) {
  require(is_atomic(op), op, "is not an atomic");
  require(memory < kernel_.memories.size(), op, "no such memory");
  require(type_of(index) == Type(Scalar::kIndex), op, "the index is not of type index");
  Type type(kernel_.memories[memory].type);
  require(type_of(value) == type && is_int(type.scalar), op, "takes an integer scalar of the memory's type");
  return append_value(memory_op(op, memory, {index, value}), type);
}

Values Builder::tile(uint32_t a_memory, uint32_t b_memory, const Values &init, const Values &a, const Values &b,
                     const Values &counts, const std::vector<TileLoop> &loops, uint32_t chunks) {
  require(!init.empty() && init.size() * chunks == a.size() * b.size() && counts.size() == b.size() && !loops.empty(), Opcode::kTile,
          "as many sums as rows times vectors");
  Op op;
  op.code = Opcode::kTile;
  op.memory = a_memory;
  op.imm = static_cast<int64_t>(a.size());
  op.imm2 = b_memory;
  op.imms = {chunks};
  op.operands = init;
  for (const Values *list : {&a, &b, &counts})
    op.operands.insert(op.operands.end(), list->begin(), list->end());
  for (const TileLoop &loop : loops)
    op.operands.insert(op.operands.end(), {loop.trips, loop.a_step, loop.b_step});
  return append(std::move(op), std::vector<Type>(init.size(), type_of(init[0])));
}

void Builder::prefetch(uint32_t memory, ValueId index) {
  require(memory < kernel_.memories.size(), Opcode::kPrefetch, "no such memory");
  append_effect(memory_op(Opcode::kPrefetch, memory, {index}));
}

// ---- Control

namespace {

Op yield(Values values) {
  Op op;
  op.code = Opcode::kYield;
  op.operands = std::move(values);
  return op;
}

} // namespace

Values Builder::for_loop(ValueId lo, ValueId hi, ValueId step, const Values &init, const LoopBody &body,
                         uint32_t unroll) {
  Type type = type_of(lo);
  require(type.lanes == 1 && is_int(type.scalar), Opcode::kFor, "counts in index or an integer");
  require(type == type_of(hi) && type == type_of(step), Opcode::kFor, "the bounds' types differ");
  Region region;
  region.params.push_back(new_value(type));
  Values carried;
  for (ValueId value : init) {
    carried.push_back(new_value(type_of(value)));
    region.params.push_back(carried.back());
  }
  ValueId i = region.params[0];
  stack_.push_back(&region);
  Values next = body(i, carried);
  require(next.size() == init.size(), Opcode::kFor, "the body yields another number of values");
  for (size_t k = 0; k < next.size(); ++k)
    require(type_of(next[k]) == type_of(init[k]), Opcode::kFor, "the body yields another type");
  append_effect(yield(std::move(next)));
  stack_.pop_back();
  Op op;
  op.code = Opcode::kFor;
  op.unroll = unroll;
  op.operands = {lo, hi, step};
  op.operands.insert(op.operands.end(), init.begin(), init.end());
  Values results;
  for (ValueId value : init)
    results.push_back(new_value(type_of(value)));
  op.results = results;
  op.regions.push_back(std::move(region));
  append_effect(std::move(op));
  return results;
}

Values Builder::if_else(ValueId condition, const Body &then, const Body &otherwise) {
  require(type_of(condition) == Type(Scalar::kBool), Opcode::kIf, "the condition is not a bool scalar");
  Op op;
  op.code = Opcode::kIf;
  op.operands = {condition};
  Values yielded[2];
  for (int side = 0; side < 2; ++side) {
    Region region;
    stack_.push_back(&region);
    yielded[side] = side == 0 ? then() : otherwise();
    append_effect(yield(yielded[side]));
    stack_.pop_back();
    op.regions.push_back(std::move(region));
  }
  require(yielded[0].size() == yielded[1].size(), Opcode::kIf, "the sides yield different numbers of values");
  for (size_t k = 0; k < yielded[0].size(); ++k) {
    require(type_of(yielded[0][k]) == type_of(yielded[1][k]), Opcode::kIf, "the sides yield different types");
    op.results.push_back(new_value(type_of(yielded[0][k])));
  }
  Values results = op.results;
  append_effect(std::move(op));
  return results;
}

void Builder::if_then(ValueId condition, const std::function<void()> &then) {
  if_else(
      condition,
      [&] {
        then();
        return Values{};
      },
      [] { return Values{}; });
}

Values Builder::while_loop(const Values &init, const std::function<std::pair<ValueId, Values>(const Values &)> &condition,
                           const std::function<Values(const Values &)> &body) {
  Op op;
  op.code = Opcode::kWhile;
  op.operands = init;
  for (int part = 0; part < 2; ++part) {
    Region region;
    for (ValueId value : init)
      region.params.push_back(new_value(type_of(value)));
    Values carried = region.params;
    stack_.push_back(&region);
    Values next;
    ValueId go = kNoValue;
    if (part == 0) {
      std::tie(go, next) = condition(carried);
      require(type_of(go) == Type(Scalar::kBool), Opcode::kWhile, "the condition is not a bool scalar");
    } else {
      next = body(carried);
    }
    require(next.size() == init.size(), Opcode::kWhile, "a region yields another number of values");
    for (size_t k = 0; k < next.size(); ++k)
      require(type_of(next[k]) == type_of(init[k]), Opcode::kWhile, "a region yields another type");
    if (part == 0)
      next.insert(next.begin(), go);
    append_effect(yield(std::move(next)));
    stack_.pop_back();
    op.regions.push_back(std::move(region));
  }
  for (ValueId value : init)
    op.results.push_back(new_value(type_of(value)));
  Values results = op.results;
  append_effect(std::move(op));
  return results;
}

void Builder::barrier() {
  Op op;
  op.code = Opcode::kBarrier;
  append_effect(std::move(op));
}

ValueId Builder::subgroup(Opcode op, ValueId value) {
  require(op >= Opcode::kSubgroupAdd && op <= Opcode::kSubgroupMax, op, "is not a subgroup reduction");
  Type type = type_of(value);
  require(type.lanes == 1 && type.scalar != Scalar::kBool, op, "takes a scalar number");
  Op out;
  out.code = op;
  out.operands = {value};
  return append_value(std::move(out), type);
}

ValueId Builder::subgroup_shuffle(ValueId value, ValueId lane) {
  Type type = type_of(value);
  require(type.lanes == 1 && type.scalar != Scalar::kBool, Opcode::kSubgroupShuffle, "takes a scalar number");
  require(type_of(lane) == Type(Scalar::kI32), Opcode::kSubgroupShuffle, "the lane is an i32");
  Op out;
  out.code = Opcode::kSubgroupShuffle;
  out.operands = {value, lane};
  return append_value(std::move(out), type);
}

Values Builder::append(Op op, const std::vector<Type> &results) {
  if (is_leaf(op.code))
    return {leaf(op.code, results.at(0), op.imm, op.fimm)};
  op.results.clear();
  for (Type type : results)
    op.results.push_back(new_value(type));
  Values values = op.results;
  append_effect(std::move(op));
  return values;
}

ValueId Builder::fragment_load(uint32_t memory, ValueId index, ValueId pitch, FragmentRole role) {
  Op op;
  op.code = Opcode::kFragmentLoad;
  op.memory = memory;
  op.align = 16 / byte_size(kernel_.memories[memory].type);
  op.imm = static_cast<int64_t>(role);
  op.operands = {index, pitch};
  return append_value(std::move(op), Type(Scalar::kI32, kernel_.fragment.words));
}

ValueId Builder::fragment_mma(Scalar element, ValueId a, ValueId b, int half, ValueId sums) {
  Op op;
  op.code = Opcode::kFragmentMma;
  op.imm = static_cast<int64_t>(element);
  op.imm2 = half;
  op.operands = {a, b, sums};
  return append_value(std::move(op), type_of(sums));
}

ValueId Builder::fragment_pack(Scalar element, ValueId left, ValueId right) {
  Op op;
  op.code = Opcode::kFragmentPack;
  op.imm = static_cast<int64_t>(element);
  op.operands = {left};
  if (right != kNoValue)
    op.operands.push_back(right);
  return append_value(std::move(op), Type(Scalar::kI32, kernel_.fragment.words));
}

ValueId Builder::fragment_rows(Opcode code, ValueId sums) {
  Op op;
  op.code = code;
  op.operands = {sums};
  return append_value(std::move(op), type_of(sums));
}

ValueId Builder::fragment_row() {
  Op op;
  op.code = Opcode::kFragmentRow;
  return append_value(std::move(op), Type(Scalar::kIndex, kernel_.fragment.sums()));
}

ValueId Builder::fragment_column() {
  Op op;
  op.code = Opcode::kFragmentColumn;
  return append_value(std::move(op), Type(Scalar::kIndex, kernel_.fragment.sums()));
}

Values Builder::warpgroup_mma(uint32_t a_memory, ValueId a, uint32_t b_memory, ValueId b, ValueId k, int64_t steps, const Values &sums) {
  Op op;
  op.code = Opcode::kWarpgroupMma;
  op.memory = a_memory;
  op.imm = steps;
  op.imm2 = b_memory;
  op.operands = {a, b, k};
  op.operands.insert(op.operands.end(), sums.begin(), sums.end());
  return append(std::move(op), std::vector<Type>(sums.size(), Type(Scalar::kF32, 4)));
}

Values Builder::warpgroup_wait(const Values &sums, int64_t under_way) {
  Op op;
  op.code = Opcode::kWarpgroupWait;
  op.imm = under_way;
  op.operands = sums;
  return append(std::move(op), std::vector<Type>(sums.size(), Type(Scalar::kF32, 4)));
}

void Builder::copy_async(uint32_t array, ValueId to, uint32_t buffer, ValueId from, ValueId condition, uint32_t elements) {
  Op op;
  op.code = Opcode::kCopyAsync;
  op.memory = array;
  op.imm = elements;
  op.imm2 = buffer;
  op.align = elements;
  op.operands = {to, from, condition};
  append_effect(std::move(op));
}

uint32_t Builder::add_tensor_map(TensorMap map) {
  kernel_.tensor_maps.push_back(std::move(map));
  return static_cast<uint32_t>(kernel_.tensor_maps.size()) - 1;
}

void Builder::feed(uint32_t array, int64_t at, uint32_t map, const Values &coordinates, const std::vector<int64_t> &steps) {
  append_effect({.code = Opcode::kFeed, .memory = array, .imm = at, .imm2 = map, .imms = steps, .operands = coordinates});
}

void Builder::feed_start(uint32_t signals, int64_t stages, ValueId slices) {
  append_effect({.code = Opcode::kFeedStart, .memory = signals, .imm = stages, .operands = {slices}});
}

void Builder::feed_wait(ValueId slice) { append_effect({.code = Opcode::kFeedWait, .operands = {slice}}); }

void Builder::feed_free(ValueId slice) { append_effect({.code = Opcode::kFeedFree, .operands = {slice}}); }

void Builder::copy_commit() {
  Op op;
  op.code = Opcode::kCopyCommit;
  append_effect(std::move(op));
}

void Builder::copy_wait(int64_t batches) {
  Op op;
  op.code = Opcode::kCopyWait;
  op.imm = batches;
  append_effect(std::move(op));
}

void Builder::error_if(ValueId condition, int64_t code, int64_t site) {
  require(type_of(condition) == Type(Scalar::kBool), Opcode::kError, "the condition is not a bool scalar");
  Op op;
  op.code = Opcode::kError;
  op.imm = code;
  op.imm2 = site;
  op.operands = {condition};
  append_effect(std::move(op));
}

} // namespace ingot::aotc::kernel
