// See verifier.h. One walk checks structure, types and access; a second one, to a fixed point, finds which values are
// uniform over the workgroup and judges barriers; a third one compares with a target record.
#include "aotc/kernel/verifier.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <set>

#include "aotc/base/error.h"
#include "aotc/kernel/fragment.h"
#include "aotc/kernel/integer.h"
#include "aotc/kernel/text.h"

namespace ingot::aotc::kernel {
namespace {

struct Illegal {
  std::string message;
};

constexpr int kMaxNesting = 64;
constexpr uint32_t kMaxThreads = 1024;

bool is_identifier(const std::string &text) {
  if (text.empty() || (text[0] >= '0' && text[0] <= '9'))
    return false;
  for (char c : text)
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'))
      return false;
  return true;
}

class Checker {
 public:
  explicit Checker(const Kernel &kernel) : k_(kernel), defined_(kernel.types.size()), visible_(kernel.types.size()) {}

  void run() {
    header();
    if (!k_.body.params.empty())
      fail("the body has params");
    std::vector<ValueId> scope;
    region(k_.body, scope, 0);
    feed_order();
    uniformity();
  }

 private:
  [[noreturn]] void fail(const std::string &what) const {
    std::string where;
    if (current_) {
      where = print_op(k_, *current_);
      where = ", in: " + where.substr(0, where.find('\n'));
    }
    throw Illegal{"kernel " + k_.name + ": " + what + where};
  }
  void need(bool condition, const char *what) const {
    if (!condition)
      fail(what);
  }

  void header() {
    need(is_identifier(k_.name), "its name is not an identifier");
    uint64_t threads = 1;
    for (uint32_t size : k_.local_size) {
      need(size >= 1 && size <= kMaxThreads, "a local size outside 1 to 1024");
      threads *= size;
    }
    need(threads <= kMaxThreads, "more than 1024 threads a workgroup");
    need(k_.kind == Class::kSimt || threads == 1, "only simt kernels have more than one thread a workgroup");
    const FragmentShape &f = k_.fragment;
    need((f.threads == 32 || f.threads == 64) && (f.words == 2 || f.words == 4 || f.words == 8) && f.threads * f.words >= 128 &&
             (f.run == 2 || f.run == 4) && f.run <= f.sums(),
         "fragments of a shape that is none");
    std::set<std::string> names;
    for (const Param &param : k_.params) {
      if (!is_identifier(param.name) || !names.insert(param.name).second)
        fail("param name '" + param.name + "' is not an identifier, or not unique");
      need(param.type == Scalar::kIndex || param.type == Scalar::kI32 || param.type == Scalar::kI64 ||
               param.type == Scalar::kF32,
           "a param is not of type index, i32, i64 or f32");
      need(param.min <= param.max, "a param's range is empty");
    }
    bool arrays = false;
    for (const Memory &memory : k_.memories) {
      if (!is_identifier(memory.name) || !names.insert(memory.name).second)
        fail("memory name '" + memory.name + "' is not an identifier, or not unique");
      std::string at = " (@" + memory.name + ")";
      auto require = [&](bool condition, const char *what) {
        if (!condition)
          fail(what + at);
      };
      bool is_buffer = memory.space == Space::kBuffer;
      require(!is_buffer || !arrays, "a buffer after an array");
      arrays |= !is_buffer;
      require(memory.type != Scalar::kIndex, "a memory of type index");
      require(is_buffer ? memory.count == 0 : memory.count > 0, "a buffer with a count, or an array without one");
      require(memory.count < (uint64_t{1} << 31), "an array of 2^31 elements or more");
      require(std::has_single_bit(memory.align), "an alignment that is no power of two");
      require(memory.align >= byte_size(memory.type), "an alignment below the element's size");
      require(is_buffer || memory.access == Access::kReadWrite, "an array that is not read_write");
      require(!memory.constant || (is_buffer && memory.access == Access::kRead), "a constant that is no buffer, or that is written");
      require(memory.space != Space::kWorkgroup || k_.kind == Class::kSimt, "a workgroup array outside a simt kernel");
    }
    for (const TensorMap &map : k_.tensor_maps)
      tensor_map(map);
    for (Type type : k_.types)
      need(type.lanes >= 1 && type.lanes <= kMaxLanes, "a value of no lanes or more than 1024");
  }

  // What hardware takes ("Tensor Map Object Management" of CUDA's driver API), with lines of 128 bytes.
  void tensor_map(const TensorMap &map) const {
    need(map.memory < k_.buffer_count(), "a tensor map of no buffer");
    const Memory &m = k_.memories[map.memory];
    need((m.type == Scalar::kF16 || m.type == Scalar::kBF16) && m.access == Access::kRead, "a tensor map of a buffer that is not f16 or bf16, or that is written");
    need(map.offset >= 0 && map.offset < (int64_t{1} << 38) && map.offset % 8 == 0 && m.align % 16 == 0, "a tensor map that does not begin at a multiple of 16 bytes");
    need(map.rank() >= 1 && map.rank() <= TensorMap::kMaxRank && map.strides.size() == map.rank() && map.box.size() == map.rank(),
         "a tensor map of no dimensions, or of more than 5, or with other numbers of strides");
    need(map.strides[0] == 1 && map.box[0] == kWarpgroupLine, "a tensor map whose first dimension is not of lines of 64 elements");
    for (size_t i = 0; i < map.rank(); ++i) {
      need(map.sizes[i] >= 1 && map.sizes[i] <= (int64_t{1} << 31), "a tensor map's size outside 1 to 2^31");
      need(map.box[i] >= 1 && map.box[i] <= 256, "a tensor map's box outside 1 to 256");
      need(i == 0 || (map.strides[i] > 0 && map.strides[i] <= (int64_t{1} << 38) && map.strides[i] % 8 == 0), "a tensor map's stride that is no multiple of 16 bytes up to 2^39");
    }
    need(map.box_elements() / kWarpgroupLine % 8 == 0, "a tensor map's box of lines that are not whole eights");
  }

  // ---- Structure

  void define(ValueId id, std::vector<ValueId> &scope) {
    need(id < k_.types.size(), "a value without a type");
    need(!defined_[id], "a value is defined twice");
    defined_[id] = visible_[id] = true;
    scope.push_back(id);
  }

  void region(const Region &r, std::vector<ValueId> &scope, int depth) {
    need(depth <= kMaxNesting, "regions are nested too deeply");
    for (size_t i = 0; i < r.ops.size(); ++i) {
      const Op &o = r.ops[i];
      current_ = &o;
      bool is_last = i + 1 == r.ops.size();
      if (o.code == Opcode::kYield)
        need(depth > 0 && is_last, "a yield that does not end a region");
      op(o, depth);
      current_ = &o;
      for (ValueId result : o.results)
        define(result, scope);
    }
    current_ = nullptr;
    need(depth == 0 || (!r.ops.empty() && r.ops.back().code == Opcode::kYield), "a region that does not end in a yield");
  }

  // A nested region; its values are out of sight afterwards. Returns the types it yields.
  std::vector<Type> nested(const Op &parent, const Region &r, const std::vector<Type> &params, int depth) {
    need(r.params.size() == params.size(), "a region has another number of params");
    std::vector<ValueId> scope;
    for (size_t i = 0; i < params.size(); ++i) {
      define(r.params[i], scope);
      need(k_.types[r.params[i]] == params[i], "a region param's type differs from its value's");
    }
    region(r, scope, depth + 1);
    std::vector<Type> types;
    for (ValueId id : r.ops.back().operands)
      types.push_back(k_.types[id]);
    for (ValueId id : scope)
      visible_[id] = false;
    current_ = &parent;
    return types;
  }

  // ---- Types

  Type type(size_t operand) const { return k_.types[current_->operands[operand]]; }
  Type result() const { return k_.types[current_->results[0]]; }

  void counts(size_t operands, size_t results) const {
    if (current_->operands.size() != operands)
      fail("it takes " + std::to_string(operands) + " operands");
    if (current_->results.size() != results)
      fail("it has " + std::to_string(results) + " results");
  }

  // `n` operands of the result's type.
  void same(size_t n) const {
    counts(n, 1);
    for (size_t i = 0; i < n; ++i)
      need(type(i) == result(), "an operand's type is not the result's");
  }
  void ints() const { need(is_int(result().scalar), "it takes integers"); }
  void floats() const { need(is_float(result().scalar), "it takes floats"); }
  void numbers() const { need(result().scalar != Scalar::kBool, "it takes no bools"); }

  void fields(const Op &o) const {
    bool is_float_result = !o.results.empty() && is_float(k_.types[o.results[0]].scalar);
    need(!o.contract || (is_float_result && (o.code == Opcode::kAdd || o.code == Opcode::kSub || o.code == Opcode::kMul)),
         "only float add, sub and mul can be contracted");
    need(o.unroll == 1 || o.code == Opcode::kFor, "only a loop can be unrolled");
    const bool warpgroup = o.code == Opcode::kWarpgroupMma;
    need(o.imms.empty() || o.code == Opcode::kShuffle || o.code == Opcode::kTile || o.code == Opcode::kFeed, "a lane list on another op than shuffle, tile and feed");
    need(o.fimm == 0 || o.code == Opcode::kConst, "a float immediate on another op than const");
    bool uses_imm = o.code == Opcode::kConst || o.code == Opcode::kParam || o.code == Opcode::kGroupId ||
                    o.code == Opcode::kLocalId || o.code == Opcode::kGridSize || o.code == Opcode::kExtract ||
                    o.code == Opcode::kInsert || o.code == Opcode::kError || o.code == Opcode::kTile || o.code == Opcode::kCopyAsync ||
                    o.code == Opcode::kCopyWait || o.code == Opcode::kFragmentLoad || o.code == Opcode::kFragmentMma || o.code == Opcode::kFragmentPack || warpgroup || o.code == Opcode::kWarpgroupWait ||
                    o.code == Opcode::kFeed || o.code == Opcode::kFeedStart;
    need(o.imm == 0 || uses_imm, "an immediate that the op does not use");
    need(o.imm2 == 0 || o.code == Opcode::kError || o.code == Opcode::kTile || o.code == Opcode::kCopyAsync || o.code == Opcode::kFragmentMma || warpgroup || o.code == Opcode::kFeed, "a second immediate that the op does not use");
    need(o.regions.empty() || o.code == Opcode::kFor || o.code == Opcode::kIf || o.code == Opcode::kWhile,
         "regions on an op that has none");
    need(is_memory(o.code) || ((o.memory == 0 || o.code == Opcode::kTile || warpgroup || is_feed(o.code)) && o.align == 1), "a memory on an op that accesses none");
  }

  void op(const Op &o, int depth) {
    need(static_cast<size_t>(o.code) < kOpcodeCount, "no such op");
    for (ValueId id : o.operands) {
      need(id < k_.types.size(), "an operand that does not exist");
      need(visible_[id], "an operand that is not defined here");
    }
    for (ValueId id : o.results)
      need(id < k_.types.size(), "a result without a type");
    fields(o);
    switch (o.code) {
    case Opcode::kConst:
      counts(0, 1);
      constant(o);
      break;
    case Opcode::kParam:
      counts(0, 1);
      need(o.imm >= 0 && static_cast<size_t>(o.imm) < k_.params.size(), "no such param");
      need(result() == Type(k_.params[static_cast<size_t>(o.imm)].type), "its type is not the param's");
      break;
    case Opcode::kGroupId:
    case Opcode::kLocalId:
    case Opcode::kGridSize:
      counts(0, 1);
      need(o.imm >= 0 && o.imm <= 2, "a dimension outside 0 to 2");
      need(result() == Type(Scalar::kIndex), "its type is not index");
      break;
    case Opcode::kLaneIota:
      counts(0, 1);
      ints();
      break;
    case Opcode::kAdd:
    case Opcode::kSub:
    case Opcode::kMul:
    case Opcode::kDiv:
    case Opcode::kRem:
    case Opcode::kMin:
    case Opcode::kMax:
      same(2);
      numbers();
      break;
    case Opcode::kDivU:
    case Opcode::kRemU:
    case Opcode::kMinU:
    case Opcode::kMaxU:
    case Opcode::kShl:
    case Opcode::kShr:
    case Opcode::kShrU:
      same(2);
      ints();
      break;
    case Opcode::kAnd:
    case Opcode::kOr:
    case Opcode::kXor:
      same(2);
      need(!is_float(result().scalar), "it takes integers or bools");
      break;
    case Opcode::kNeg:
    case Opcode::kAbs:
      same(1);
      numbers();
      break;
    case Opcode::kNot:
      same(1);
      need(!is_float(result().scalar), "it takes integers or bools");
      break;
    case Opcode::kMad:
      same(3);
      numbers();
      break;
    case Opcode::kFma:
      same(3);
      floats();
      break;
    case Opcode::kSqrt:
    case Opcode::kFloor:
    case Opcode::kCeil:
    case Opcode::kTrunc:
    case Opcode::kRint:
      same(1);
      floats();
      break;
    case Opcode::kCopySign:
    case Opcode::kPow:
      same(2);
      floats();
      break;
    case Opcode::kIsNan:
    case Opcode::kIsInf:
      counts(1, 1);
      need(is_float(type(0).scalar), "it takes a float");
      need(result() == type(0).with_scalar(Scalar::kBool), "its type is not bool with the operand's lanes");
      break;
    case Opcode::kSelect:
      counts(3, 1);
      need(type(0).scalar == Scalar::kBool && (type(0).lanes == 1 || type(0).lanes == result().lanes),
           "the condition is not a bool, or has other lanes");
      need(type(1) == result() && type(2) == result(), "an operand's type is not the result's");
      break;
    case Opcode::kConvert:
    case Opcode::kConvertU:
      counts(1, 1);
      need(type(0).lanes == result().lanes, "a conversion changes the lanes");
      break;
    case Opcode::kBitcast:
      counts(1, 1);
      need(type(0).lanes * bit_width(type(0).scalar) == result().lanes * bit_width(result().scalar) &&
               (type(0).lanes == result().lanes || k_.kind == Class::kSimd),
           "a bitcast changes the lanes or their bits");
      need(type(0).lanes == result().lanes || (type(0).scalar != Scalar::kBool && result().scalar != Scalar::kBool),
           "a bitcast of bools to other lanes");
      need(type(0).scalar != Scalar::kIndex && result().scalar != Scalar::kIndex, "a bitcast of index");
      break;
    case Opcode::kSplat:
      counts(1, 1);
      need(type(0).lanes == 1 && type(0).scalar == result().scalar, "it takes a scalar of the result's type");
      break;
    case Opcode::kExtract:
      counts(1, 1);
      need(o.imm >= 0 && o.imm < type(0).lanes, "no such lane");
      need(result() == type(0).with_lanes(1), "its type is not the vector's scalar");
      break;
    case Opcode::kInsert:
      counts(2, 1);
      need(o.imm >= 0 && o.imm < type(0).lanes, "no such lane");
      need(result() == type(0) && type(1) == type(0).with_lanes(1), "the types of vector, scalar and result differ");
      break;
    case Opcode::kShuffle:
      counts(2, 1);
      need(type(0) == type(1) && result() == type(0).with_lanes(static_cast<uint32_t>(o.imms.size())),
           "the operands' types differ, or the result has other lanes than the list");
      for (int64_t lane : o.imms)
        need(lane >= 0 && lane < 2 * type(0).lanes, "no such lane");
      break;
    case Opcode::kReduceAdd:
    case Opcode::kReduceMul:
    case Opcode::kReduceMin:
    case Opcode::kReduceMax:
      counts(1, 1);
      numbers();
      need(result() == type(0).with_lanes(1), "its type is not the vector's scalar");
      need(std::has_single_bit(type(0).lanes), "the lanes are no power of two");
      break;
    case Opcode::kDot4:
    case Opcode::kDot2: {
      counts(3, 1);
      Type terms(dot_element(o.code), dot_terms(o.code) * result().lanes);
      need(result().scalar == Scalar::kI32 && type(2) == result(), "the sums are not i32, or not of the result's lanes");
      need(type(1) == terms, "the right side has not as many elements as the sums take");
      need(type(0) == terms || type(0) == terms.with_lanes(dot_terms(o.code)), "the left side does not fit the right");
      break;
    }
    case Opcode::kFor:
      for_op(o, depth);
      break;
    case Opcode::kIf:
      if_op(o, depth);
      break;
    case Opcode::kWhile:
      while_op(o, depth);
      break;
    case Opcode::kYield:
      need(o.results.empty(), "a yield has no results");
      break;
    case Opcode::kBarrier:
      counts(0, 0);
      need(k_.kind == Class::kSimt, "only simt kernels have barriers");
      break;
    case Opcode::kSubgroupAdd:
    case Opcode::kSubgroupMin:
    case Opcode::kSubgroupMax:
    case Opcode::kSubgroupShuffle:
      need(k_.kind == Class::kSimt, "only simt kernels have subgroups");
      counts(o.code == Opcode::kSubgroupShuffle ? 2 : 1, 1);
      numbers();
      need(type(0) == result() && result().lanes == 1, "it takes a scalar of the result's type");
      need(o.code != Opcode::kSubgroupShuffle || type(1) == Type(Scalar::kI32), "the lane is not an i32");
      break;
    case Opcode::kTile:
      tile(o);
      break;
    case Opcode::kCopyAsync:
      copy_async(o);
      break;
    case Opcode::kCopyCommit:
    case Opcode::kCopyWait:
      need(k_.kind == Class::kSimt, "only simt kernels have copies under way");
      counts(0, 0);
      need(o.imm >= 0 && o.imm <= 15, "more than 15 batches under way");
      break;
    case Opcode::kFragmentLoad:
    case Opcode::kFragmentMma:
    case Opcode::kFragmentPack:
    case Opcode::kFragmentRowAdd:
    case Opcode::kFragmentRowMax:
    case Opcode::kFragmentRow:
    case Opcode::kFragmentColumn:
      fragment(o);
      break;
    case Opcode::kWarpgroupMma:
    case Opcode::kWarpgroupWait:
      warpgroup(o);
      break;
    case Opcode::kFeed:
    case Opcode::kFeedStart:
    case Opcode::kFeedWait:
    case Opcode::kFeedFree:
      feed(o);
      break;
    case Opcode::kError:
      counts(1, 0);
      need(type(0) == Type(Scalar::kBool), "the condition is not a bool");
      need(o.imm >= 1 && o.imm <= INT32_MAX, "a code outside 1 to 2^31 - 1");
      need(o.imm2 >= 0 && o.imm2 <= INT32_MAX, "a site outside 0 to 2^31 - 1");
      break;
    default:
      if (is_compare(o.code))
        compare(o);
      else if (is_math(o.code)) {
        same(1);
        floats();
      } else {
        memory(o);
      }
    }
  }

  void constant(const Op &o) const {
    Scalar scalar = result().scalar;
    if (is_float(scalar)) {
      need(o.imm == 0, "a float constant with an integer immediate");
      need(std::isnan(o.fimm) || round_to(scalar, o.fimm) == o.fimm, "a constant that its type cannot represent");
      return;
    }
    need(o.fimm == 0, "an integer constant with a float immediate");
    int64_t fits = scalar == Scalar::kBool ? (o.imm != 0) : sign_extend(o.imm, bit_width(scalar));
    need(fits == o.imm, "a constant that its type cannot represent");
  }

  void compare(const Op &o) const {
    counts(2, 1);
    need(type(0) == type(1), "the operands' types differ");
    need(result() == type(0).with_scalar(Scalar::kBool), "its type is not bool with the operands' lanes");
    need(o.code == Opcode::kEq || o.code == Opcode::kNe || type(0).scalar != Scalar::kBool, "it takes no bools");
    need(o.code < Opcode::kLtU || is_int(type(0).scalar), "it takes integers");
  }

  // ---- Memory

  void memory(const Op &o) const {
    need(o.memory < k_.memories.size(), "no such memory");
    const Memory &m = k_.memories[o.memory];
    need(std::has_single_bit(o.align), "an alignment that is no power of two");
    need(uint64_t{o.align} * byte_size(m.type) <= m.align || o.align == 1, "more alignment than the memory's base has");
    auto index = [&](size_t i) { need(type(i) == Type(Scalar::kIndex), "the index is not of type index"); };
    auto value = [&](Type t) { need(t.scalar == m.type, "the value is not of the memory's type"); };
    auto mask = [&](Type t, Type v) {
      need(t.scalar == Scalar::kBool && (t.lanes == 1 || t.lanes == v.lanes), "the mask is not a bool, or has other lanes");
    };
    auto full_mask = [&](Type t, Type v) {
      need(t == v.with_scalar(Scalar::kBool), "the mask is not a bool vector of the value's lanes");
    };
    bool reads = false, writes = false, elementwise = false;
    switch (o.code) {
    case Opcode::kLoad:
      counts(1, 1);
      index(0);
      value(result());
      reads = true;
      break;
    case Opcode::kStore:
      counts(2, 0);
      index(0);
      value(type(1));
      writes = true;
      break;
    case Opcode::kLoadPart:
      counts(3, 1);
      index(0);
      index(1);
      value(result());
      need(type(2) == result(), "the other value's type is not the result's");
      reads = true;
      break;
    case Opcode::kStorePart:
      counts(3, 0);
      index(0);
      index(2);
      value(type(1));
      writes = true;
      break;
    case Opcode::kLoadIf:
      counts(3, 1);
      mask(type(0), result());
      index(1);
      value(result());
      need(type(2) == result(), "the other value's type is not the result's");
      reads = true;
      break;
    case Opcode::kStoreIf:
      counts(3, 0);
      mask(type(0), type(2));
      index(1);
      value(type(2));
      writes = true;
      break;
    case Opcode::kGather:
      counts(o.operands.size() == 3 ? 3 : 1, 1);
      need(type(0) == result().with_scalar(Scalar::kIndex), "the indices are not of type index with the result's lanes");
      value(result());
      if (o.operands.size() == 3) {
        full_mask(type(1), result());
        need(type(2) == result(), "the other value's type is not the result's");
      }
      reads = elementwise = true;
      break;
    case Opcode::kScatter:
      counts(o.operands.size() == 3 ? 3 : 2, 0);
      need(type(0) == type(1).with_scalar(Scalar::kIndex), "the indices are not of type index with the value's lanes");
      value(type(1));
      if (o.operands.size() == 3)
        full_mask(type(2), type(1));
      writes = elementwise = true;
      break;
    case Opcode::kAtomicAdd:
    case Opcode::kAtomicMin:
    case Opcode::kAtomicMax:
      counts(2, 1);
      index(0);
      value(result());
      ints();
      need(result().lanes == 1 && type(1) == result(), "it takes a scalar of the result's type");
      need(m.space != Space::kPrivate, "an atomic on a private array");
      reads = writes = elementwise = true;
      break;
    case Opcode::kPrefetch:
      counts(1, 0);
      index(0);
      need(m.space == Space::kBuffer, "a prefetch of an array");
      elementwise = true;
      break;
    default:
      fail("no such op");
    }
    need(!elementwise || o.align == 1, "an alignment on an op that accesses single elements");
    need(!reads || m.access != Access::kWrite, "it reads a buffer that may only be written");
    need(!writes || m.access != Access::kRead, "it writes a buffer that may only be read");
  }

  void tile(const Op &o) const {
    auto shape = tile_shape(o);
    need(shape.has_value(), "its numbers of rows, sums and loops do not fit each other");
    need(o.memory < k_.memories.size() && o.imm2 >= 0 && static_cast<size_t>(o.imm2) < k_.memories.size(), "no such memory");
    const Memory &a = k_.memories[o.memory], &b = k_.memories[static_cast<size_t>(o.imm2)];
    Type sum = result();
    need(sum.scalar == Scalar::kF32 || sum.scalar == Scalar::kF64 || sum.scalar == Scalar::kI32 || sum.scalar == Scalar::kI64,
         "it takes f32, f64, i32 and i64");
    need(sum.lanes % shape->chunks == 0, "its lanes are no multiple of its chunks");
    need(a.type == sum.scalar && b.type == sum.scalar, "a memory is not of the sums' type");
    need(a.access != Access::kWrite && b.access != Access::kWrite, "it reads a buffer that may only be written");
    for (size_t i = 0; i < o.operands.size(); ++i)
      need(type(i) == (i < shape->a() ? sum : Type(Scalar::kIndex)), "a sum of another type, or a number that is no index");
    for (ValueId id : o.results)
      need(k_.types[id] == sum, "the sums' types differ");
  }

  void copy_async(const Op &o) const {
    need(k_.kind == Class::kSimt, "only simt kernels have copies under way");
    counts(3, 0);
    need(o.memory < k_.memories.size() && o.imm2 >= 0 && static_cast<size_t>(o.imm2) < k_.memories.size(), "no such memory");
    const Memory &to = k_.memories[o.memory], &from = k_.memories[static_cast<size_t>(o.imm2)];
    need(to.space == Space::kWorkgroup && from.space == Space::kBuffer && from.access == Access::kRead,
         "it copies from a buffer that is only read to an array of the workgroup");
    need(to.type == from.type, "the memories' types differ");
    need(type(0) == Type(Scalar::kIndex) && type(1) == Type(Scalar::kIndex) && type(2) == Type(Scalar::kBool), "it takes two indices and a bool");
    int64_t bytes = o.imm * byte_size(to.type);
    need(o.imm > 0 && (bytes == 4 || bytes == 8 || bytes == 16), "it copies 4, 8 or 16 bytes");
    need(o.align == o.imm && bytes <= to.align && bytes <= from.align, "its alignment is that of what it copies");
  }

  void fragment(const Op &o) const {
    need(k_.kind == Class::kSimt && k_.local_size[0] % k_.fragment.threads == 0, "fragments are for simt kernels with whole subgroups");
    const uint32_t n = k_.fragment.sums();
    if (o.code == Opcode::kFragmentRow || o.code == Opcode::kFragmentColumn) {
      counts(0, 1);
      need(result() == Type(Scalar::kIndex, n), "its type is not an index for each sum");
      return;
    }
    const Type words(Scalar::kI32, k_.fragment.words), floats(Scalar::kF32, n);
    if (o.code == Opcode::kFragmentPack) {
      const bool one = o.imm == static_cast<int64_t>(Scalar::kF32);
      counts(one ? 1 : 2, 1);
      need(one || o.imm == static_cast<int64_t>(Scalar::kF16) || o.imm == static_cast<int64_t>(Scalar::kBF16), "the elements are not f16, bf16 or f32");
      need(type(0) == floats && (one || type(1) == floats), "a half is not an f32 for each sum");
      need(result() == words, "its type is not that of a factor");
      return;
    }
    if (o.code == Opcode::kFragmentRowAdd || o.code == Opcode::kFragmentRowMax) {
      counts(1, 1);
      need(type(0) == floats && result() == floats, "its type is not an f32 for each sum");
      return;
    }
    if (o.code == Opcode::kFragmentMma) {
      counts(3, 1);
      bool bytes = o.imm == static_cast<int64_t>(Scalar::kI8);
      need(bytes || o.imm == static_cast<int64_t>(Scalar::kF16) || o.imm == static_cast<int64_t>(Scalar::kBF16) ||
               o.imm == static_cast<int64_t>(Scalar::kF32),
           "the elements are not f16, bf16, f32 or i8");
      need(o.imm2 >= 0 && o.imm2 <= (bytes ? kHalfOfB | kUnsignedA | kUnsignedB : kHalfOfB), "no such half");
      need(type(0) == words && type(1) == words, "a factor is not an i32 for each of its words");
      need(result() == Type(bytes ? Scalar::kI32 : Scalar::kF32, n) && type(2) == result(), "the sums are not each an f32, of i8 an i32");
      return;
    }
    counts(2, 1);
    need(o.memory < k_.memories.size(), "no such memory");
    const Memory &m = k_.memories[o.memory];
    need(m.type == Scalar::kF16 || m.type == Scalar::kBF16 || m.type == Scalar::kF32 || m.type == Scalar::kI8, "the elements are not f16, bf16, f32 or i8");
    need(m.space == Space::kWorkgroup, "it loads from an array of the workgroup");
    need(o.imm >= 0 && o.imm <= static_cast<int64_t>(FragmentRole::kBPairs), "no such role");
    need(o.imm != static_cast<int64_t>(FragmentRole::kBRows) || byte_size(m.type) == 2, "only 16-bit elements are loaded by rows of B");
    need(o.imm != static_cast<int64_t>(FragmentRole::kBPairs) || m.type == Scalar::kF32, "only f32 is loaded by pairs of rows of B");
    need(type(0) == Type(Scalar::kIndex) && type(1) == Type(Scalar::kIndex), "it takes an index and a pitch");
    need(o.align * byte_size(m.type) == 16 && m.align >= 16, "its alignment is not 16 bytes");
    need(result() == words, "its type is not an i32 for each word");
  }

  void warpgroup(const Op &o) const {
    need(k_.kind == Class::kSimt && k_.local_size[0] % kWarpgroup == 0, "warpgroups are for simt kernels that have whole ones");
    need(k_.fragment == FragmentShape(), "warpgroups have fragments of 32 threads, four words and runs of two columns");
    const size_t first = o.code == Opcode::kWarpgroupMma ? 3 : 0;
    need(o.operands.size() > first && o.results.size() == o.operands.size() - first, "its sums and its results differ in number");
    for (size_t i = first; i < o.operands.size(); ++i)
      need(type(i) == Type(Scalar::kF32, 4) && k_.types[o.results[i - first]] == type(i), "a sum is not f32 x 4");
    if (first == 0) {
      need(o.imm >= 0 && o.imm <= 7, "more than 7 products under way");
      return;
    }
    need(o.results.size() <= 32, "more than 256 columns");
    need(o.imm >= 1 && o.imm <= int64_t{kWarpgroupLine} / 16, "its steps are not in 1 to 4");
    need(o.memory < k_.memories.size() && o.imm2 >= 0 && static_cast<size_t>(o.imm2) < k_.memories.size(), "no such memory");
    for (const Memory *m : {&k_.memories[o.memory], &k_.memories[static_cast<size_t>(o.imm2)]}) {
      need(m->space == Space::kWorkgroup && (m->type == Scalar::kF16 || m->type == Scalar::kBF16), "it takes arrays of the workgroup, of f16 or bf16");
      need(m->align % 1024 == 0, "an array is not aligned to 1,024 bytes");
    }
    need(k_.memories[o.memory].type == k_.memories[static_cast<size_t>(o.imm2)].type, "the memories' types differ");
    for (size_t i = 0; i < first; ++i)
      need(type(i) == Type(Scalar::kIndex), "it takes three indices");
  }

  void feed(const Op &o) const {
    need(k_.kind == Class::kSimt && k_.local_size[0] % kSubgroup == 0 && k_.local_size[0] + kFeeders <= kMaxThreads && k_.local_size[1] * k_.local_size[2] == 1,
         "feeds are for simt kernels of whole subgroups in one dimension that leave room for the threads that feed");
    counts(o.operands.size(), 0);
    for (size_t i = 0; i < o.operands.size(); ++i)
      need(type(i) == Type(Scalar::kIndex), "it takes indices");
    if (o.code == Opcode::kFeedWait || o.code == Opcode::kFeedFree) {
      need(o.operands.size() == 1 && o.memory == 0, "it takes a slice");
      return;
    }
    need(o.memory < k_.memories.size() && k_.memories[o.memory].space == Space::kWorkgroup, "it takes an array of the workgroup");
    const Memory &m = k_.memories[o.memory];
    if (o.code == Opcode::kFeedStart) {
      need(o.operands.size() == 1 && o.imm >= 1 && o.imm <= kSubgroup && m.type == Scalar::kI64 && m.count == 2 * static_cast<uint64_t>(o.imm), "its array is not of i64, two a stage, or there are more than 32");
      return;
    }
    need(o.imm2 >= 0 && static_cast<size_t>(o.imm2) < k_.tensor_maps.size(), "no such tensor map");
    const TensorMap &map = k_.tensor_maps[static_cast<size_t>(o.imm2)];
    need(o.operands.size() == map.rank() && o.imms.size() == map.rank(), "its coordinates are not as many as the map has dimensions");
    need(m.type == k_.memories[map.memory].type && m.align % 1024 == 0, "its array is not of the map's type and aligned to 1,024 bytes");
    need(o.imm >= 0 && o.imm % (8 * int64_t{kWarpgroupLine}) == 0, "its place does not begin at a multiple of 8 lines");
  }

  // Feeds come before their start, that before whoever waits; and before it nothing is that the threads that feed must not do, nor is there
  // such a thing beside it or after it where an `if` has it.
  void feed_order() {
    const Op *start = nullptr;
    std::vector<const Op *> feeds;
    feed_order(k_.body, start, feeds);
    need(start || feeds.empty(), "feeds that are never started");
  }
  static bool touches_nothing(const Op &o) {
    return o.code == Opcode::kYield || (o.regions.empty() && !is_memory(o.code) && !has_side_effect(o.code) && !is_fragment(o.code));
  }
  void feed_order(const Region &r, const Op *&start, std::vector<const Op *> &feeds) {
    const bool has_start = uses(r, Opcode::kFeedStart);
    bool left = false; // the start was in an `if`: who feeds goes on from there where that is not run
    for (const Op &o : r.ops) {
      current_ = &o;
      need(!left || touches_nothing(o), "the threads that feed would do it too: what touches memory may not follow an `if` that has the start");
      if (o.code == Opcode::kFeed) {
        need(!start && has_start, "a feed that the start does not follow");
        feeds.push_back(&o);
      } else if (o.code == Opcode::kFeedStart) {
        need(!start, "a second start of feeds");
        need(!feeds.empty(), "a start without feeds");
        start = &o;
        for (const Op *feed : feeds) {
          current_ = feed;
          const uint64_t stages = static_cast<uint64_t>(o.imm), count = k_.memories[feed->memory].count, each = count / stages;
          need(count % stages == 0 && each % (8 * kWarpgroupLine) == 0, "its array is not of as many places as the start has stages");
          need(static_cast<uint64_t>(feed->imm + k_.tensor_maps[static_cast<size_t>(feed->imm2)].box_elements()) <= each, "the box does not fit its place");
        }
      } else if (o.code == Opcode::kFeedWait || o.code == Opcode::kFeedFree) {
        need(start, "it comes before the start of feeds");
      } else {
        const bool leads = std::any_of(o.regions.begin(), o.regions.end(), [](const Region &part) { return uses(part, Opcode::kFeedStart); });
        need(!leads || o.code == Opcode::kIf, "a start of feeds in a loop");
        need(start || !has_start || leads || touches_nothing(o),
             "the threads that feed would do it too: only what touches no memory may come before the start");
        for (const Region &part : o.regions) {
          if (leads && !uses(part, Opcode::kFeedStart))
            for (const Op &inner : part.ops) {
              current_ = &inner;
              need(touches_nothing(inner), "the threads that feed would do it too: the start is in the other branch");
            }
          feed_order(part, start, feeds);
        }
        left = left || leads;
      }
    }
    current_ = nullptr;
  }

  // ---- Control

  std::vector<Type> operand_types(const Op &o, size_t first) const {
    std::vector<Type> types;
    for (size_t i = first; i < o.operands.size(); ++i)
      types.push_back(k_.types[o.operands[i]]);
    return types;
  }
  void matches(const std::vector<Type> &found, const std::vector<Type> &expected, const char *what) const {
    if (found != expected)
      fail(std::string("what ") + what + " yields does not match the op's values");
  }
  std::vector<Type> result_types(const Op &o) const {
    std::vector<Type> types;
    for (ValueId id : o.results)
      types.push_back(k_.types[id]);
    return types;
  }

  void for_op(const Op &o, int depth) {
    need(o.operands.size() >= 3 && o.regions.size() == 1, "a loop has bounds, a step and one region");
    Type counter = type(0);
    need(is_int(counter.scalar) && counter.lanes == 1 && type(1) == counter && type(2) == counter,
         "the bounds and the step are not integers of one type");
    std::vector<Type> carried = operand_types(o, 3), params = carried;
    need(result_types(o) == carried, "the results' types are not those of the carried values");
    params.insert(params.begin(), counter);
    matches(nested(o, o.regions[0], params, depth), carried, "the body");
  }

  void if_op(const Op &o, int depth) {
    need(o.operands.size() == 1 && o.regions.size() == 2, "an if has a condition and two regions");
    need(type(0) == Type(Scalar::kBool), "the condition is not a bool");
    for (const Region &side : o.regions)
      matches(nested(o, side, {}, depth), result_types(o), "a side");
  }

  void while_op(const Op &o, int depth) {
    need(o.regions.size() == 2, "a while has two regions");
    std::vector<Type> carried = operand_types(o, 0), condition = carried;
    need(result_types(o) == carried, "the results' types are not those of the carried values");
    condition.insert(condition.begin(), Scalar::kBool);
    matches(nested(o, o.regions[0], carried, depth), condition, "the condition");
    matches(nested(o, o.regions[1], carried, depth), carried, "the body");
  }

  // ---- Uniformity, as WGSL defines it: a value is uniform if every thread of the workgroup is known to have the same.

  bool mark(ValueId id, bool varies) {
    if (!varies || varies_[id])
      return false;
    varies_[id] = true;
    return true;
  }

  bool any_varies(const Values &values, size_t first = 0) const {
    for (size_t i = first; i < values.size(); ++i)
      if (varies_[values[i]])
        return true;
    return false;
  }

  // One pass; returns whether anything changed. With `judge`, refuses barriers in divergent control flow.
  // Which values are sums under way; judges who takes them. True where something changed.
  bool flow(const Region &r, bool judge) {
    bool changed = false;
    auto mark_under_way = [&](ValueId id, bool is) {
      changed |= is && !under_way_[id];
      under_way_[id] = under_way_[id] || is;
    };
    for (const Op &o : r.ops) {
      current_ = &o;
      const bool passes = o.code == Opcode::kWarpgroupMma || o.code == Opcode::kWarpgroupWait || o.code == Opcode::kFor || o.code == Opcode::kYield;
      for (ValueId id : o.operands)
        if (judge && under_way_[id]) {
          need(passes, "a sum is under way: a wait has to come first");
          need(taken_.insert(id).second, "a sum that is under way is taken twice");
        }
      if (o.code == Opcode::kWarpgroupMma || (o.code == Opcode::kWarpgroupWait && o.imm > 0))
        for (ValueId id : o.results)
          mark_under_way(id, true);
      for (const Region &part : o.regions) {
        changed |= flow(part, judge);
        current_ = &o;
        const Values &yielded = part.ops.back().operands;
        for (size_t i = 0; i < yielded.size(); ++i)
          if (o.code == Opcode::kWhile)
            need(!judge || !under_way_[yielded[i]], "a sum that is under way goes round a while");
          else
            mark_under_way(o.results[i], under_way_[yielded[i]]);
        if (o.code == Opcode::kFor)
          for (size_t i = 0; i < yielded.size(); ++i) {
            mark_under_way(part.params[i + 1], under_way_[yielded[i]] || under_way_[o.operands[i + 3]]);
            mark_under_way(o.results[i], under_way_[o.operands[i + 3]]);
          }
      }
    }
    current_ = nullptr;
    return changed;
  }

  bool spread(const Region &r, bool divergent, bool judge) {
    bool changed = false;
    for (const Op &o : r.ops) {
      current_ = &o;
      switch (o.code) {
      case Opcode::kFor:
      case Opcode::kWhile: {
        const Values &yields = o.regions[0].ops.back().operands;
        bool is_for = o.code == Opcode::kFor;
        // Threads may leave the loop at different turns where its bounds or its condition vary.
        bool turns_vary = is_for ? any_varies({o.operands[0], o.operands[1], o.operands[2]}) : varies_[yields[0]];
        size_t skip = is_for ? 3 : 0, param_skip = is_for ? 1 : 0;
        const Values &next = is_for ? yields : o.regions[1].ops.back().operands;
        if (is_for)
          changed |= mark(o.regions[0].params[0], turns_vary);
        for (size_t i = 0; i < o.results.size(); ++i) {
          bool varies = turns_vary || varies_[o.operands[i + skip]] || varies_[next[i]];
          changed |= mark(o.regions[0].params[i + param_skip], varies);
          if (is_for) {
            changed |= mark(o.results[i], varies);
          } else {
            changed |= mark(o.regions[1].params[i], turns_vary || varies_[yields[i + 1]]);
            changed |= mark(o.results[i], turns_vary || varies_[yields[i + 1]]);
          }
        }
        for (const Region &part : o.regions)
          changed |= spread(part, divergent || turns_vary, judge);
        break;
      }
      case Opcode::kIf: {
        bool splits = varies_[o.operands[0]];
        for (size_t i = 0; i < o.results.size(); ++i) {
          bool varies = splits;
          for (const Region &side : o.regions)
            varies |= varies_[side.ops.back().operands[i]];
          changed |= mark(o.results[i], varies);
        }
        for (const Region &side : o.regions)
          changed |= spread(side, divergent || splits, judge);
        break;
      }
      case Opcode::kFeed:
      case Opcode::kFeedStart:
      case Opcode::kFeedWait:
      case Opcode::kFeedFree:
        need(!judge || (!divergent && !any_varies(o.operands)), "a feed that is not the same for the whole workgroup");
        break;
      case Opcode::kBarrier:
        need(!judge || !divergent, "a barrier in control flow that is not uniform over the workgroup");
        break;
      default: {
        need(!judge || !divergent || !(is_subgroup(o.code) || is_fragment(o.code)),
             "a subgroup op in control flow that is not uniform over the workgroup");
        bool varies = any_varies(o.operands) || o.code == Opcode::kLocalId || is_subgroup(o.code) || is_fragment(o.code);
        if (is_memory(o.code)) {
          const Memory &m = k_.memories[o.memory];
          varies |= m.space != Space::kBuffer || m.access != Access::kRead;
        }
        for (ValueId id : o.results)
          changed |= mark(id, varies);
      }
      }
    }
    return changed;
  }

  void uniformity() {
    if (k_.kind != Class::kSimt)
      return;
    varies_.assign(k_.types.size(), false);
    while (spread(k_.body, false, false)) {
    }
    spread(k_.body, false, true);
    under_way_.assign(k_.types.size(), false);
    while (flow(k_.body, false)) {
    }
    flow(k_.body, true);
  }

  const Kernel &k_;
  const Op *current_ = nullptr;
  std::vector<bool> defined_, visible_, varies_, under_way_;
  std::set<ValueId> taken_;
};

// ---- Targets

class TargetChecker {
 public:
  TargetChecker(const Kernel &kernel, const TargetRecord &target) : k_(kernel), t_(target) {}

  void run() {
    need(k_.kind == t_.kernel_class, "is of another class than the target's kernels");
    uint64_t threads = uint64_t{k_.local_size[0]} * k_.local_size[1] * k_.local_size[2];
    need(threads + (uses(k_.body, Opcode::kFeedStart) ? kFeeders : 0) <= t_.max_workgroup_invocations, "has more threads a workgroup than the target allows");
    need(k_.buffer_count() <= t_.max_buffers, "has more buffers than the target allows");
    uint64_t shared = 0;
    for (const Memory &memory : k_.memories) {
      if (memory.space == Space::kWorkgroup)
        shared += memory.count * byte_size(memory.type);
      if (!storable(memory.type))
        fail("@" + memory.name + " holds " + std::string(name(memory.type)) + ", which the target cannot store");
    }
    need(shared <= std::max(t_.workgroup_memory_bytes, t_.large_workgroup_memory_bytes), "has more workgroup memory than the target");
    uint64_t params = 0;
    for (const Param &param : k_.params)
      params += param.type == Scalar::kIndex ? t_.index_bits / 8 : byte_size(param.type);
    need(params <= t_.max_params_bytes, "has more bytes of params than the target allows");
    region(k_.body);
  }

 private:
  [[noreturn]] void fail(const std::string &what) const {
    std::string where;
    if (current_) {
      where = print_op(k_, *current_);
      where = ", in: " + where.substr(0, where.find('\n'));
    }
    throw Illegal{"kernel " + k_.name + " for " + t_.name + ": " + what + where};
  }
  void need(bool condition, const char *what) const {
    if (!condition)
      fail(what);
  }

  bool computable(Scalar scalar) const {
    switch (scalar) {
    case Scalar::kI8: return t_.i8;
    case Scalar::kI16: return t_.i16;
    case Scalar::kI64: return t_.i64;
    case Scalar::kF16: return t_.f16;
    case Scalar::kBF16: return t_.bf16;
    case Scalar::kF64: return t_.f64;
    default: return true;
    }
  }

  bool storable(Scalar scalar) const {
    if (scalar == Scalar::kBool)
      return t_.bool_storage;
    uint32_t bytes = byte_size(scalar);
    return computable(scalar) && (bytes != 1 || t_.storage_8) && (bytes != 2 || t_.storage_16) &&
           (bytes != 8 || t_.storage_64);
  }

  void value(ValueId id) const {
    Type type = k_.types[id];
    if (!computable(type.scalar))
      fail("the target does not compute with " + std::string(name(type.scalar)));
    need(t_.max_vector_lanes == 0 || type.lanes <= t_.max_vector_lanes, "a vector of more lanes than the target has");
  }

  void region(const Region &r) {
    for (ValueId id : r.params)
      value(id);
    for (const Op &o : r.ops) {
      current_ = &o;
      for (ValueId id : o.results)
        value(id);
      need(!is_math(o.code), "a math function that has not been expanded");
      need(o.code != Opcode::kTile || k_.kind == Class::kBlock, "a tile outside block kernels");
      need(o.code != Opcode::kFma || t_.has_fma, "the target has no fma");
      need(!is_dot(o.code) || has_dot(t_, o.code, k_.types[o.results[0]].lanes), "a dot product that the target does not have");
      need(!is_subgroup(o.code) || t_.subgroup_ops, "the target has no subgroup ops");
      need(!is_copy(o.code) || t_.async_copy, "the target has no copies under way");
      if (o.code == Opcode::kFragmentMma)
        need(has_fragment(t_, static_cast<Scalar>(o.imm)), "the target has no matrix unit for these elements");
      if (o.code == Opcode::kFragmentPack)
        need(has_fragment(t_, static_cast<Scalar>(o.imm)), "the target has no matrix unit for these elements");
      need(!is_feed(o.code) || t_.tensor_feeds, "the target has no feeds");
      need((o.code != Opcode::kWarpgroupMma && o.code != Opcode::kWarpgroupWait) || t_.warpgroup_mma, "the target has no matrix units of warpgroups");
      need(!is_fragment(o.code) || (t_.subgroup_size == k_.fragment.threads && t_.fragment == k_.fragment), "fragments of another shape than the target's");
      need(o.code != Opcode::kRem || !is_float(k_.types[o.results[0]].scalar), "a float remainder that has not been expanded");
      need(!is_atomic(o.code) || bit_width(k_.memories[o.memory].type) >= 32, "an atomic on less than 32 bits");
      if (o.code == Opcode::kConst && t_.index_bits < 64 && k_.types[o.results[0]].scalar == Scalar::kIndex)
        need(sign_extend(o.imm, t_.index_bits) == o.imm, "an index constant of more bits than the target's index");
      for (const Region &part : o.regions)
        region(part);
      current_ = nullptr;
    }
  }

  const Kernel &k_;
  const TargetRecord &t_;
  const Op *current_ = nullptr;
};

} // namespace

std::string verify(const Kernel &kernel) {
  try {
    Checker(kernel).run();
    return "";
  } catch (const Illegal &illegal) {
    return illegal.message;
  }
}

std::string verify_for(const Kernel &kernel, const TargetRecord &target) {
  std::string problem = verify(kernel);
  if (!problem.empty())
    return problem;
  try {
    TargetChecker(kernel, target).run();
    return "";
  } catch (const Illegal &illegal) {
    return illegal.message;
  }
}

} // namespace ingot::aotc::kernel
