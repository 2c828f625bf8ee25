// i8 and i16 in i32, and buffers of bool, i8 and i16 as words.
//
// A small integer is held sign-extended; unsigned ops zero-extend their operands first, and what may leave the range is
// wrapped after. Element e of a packed buffer is bits (e % per) * width of word e / per. A written buffer's word may
// belong to several threads, so a store adds the difference between the new element and the old one to the word, by
// an atomic add: the other elements stay as they are, since no carry crosses. Where every access of a buffer covers
// whole aligned words, plain loads and stores do.
#include <vector>

#include "aotc/kernel/formula.h"
#include "aotc/kernel/legalise_passes.h"

namespace ingot::aotc::kernel {
namespace {

enum class Layout : uint8_t {
  kSame,   // not touched
  kWide,   // an array: one i32 an element
  kPlain,  // words, read-only or only accessed by whole words
  kAtomic, // words that threads share
};

class Small : public Rewriter {
 public:
  Small(const Kernel &kernel, const TargetRecord &target)
      : Rewriter(kernel), i8_(!target.i8 || !target.storage_8), i16_(!target.i16 || !target.storage_16),
        bool_(!target.bool_storage), layouts_(kernel.memories.size(), Layout::kSame),
        whole_(kernel.memories.size(), true) {
    accesses(kernel.body);
    for (size_t m = 0; m < layouts_.size(); ++m) {
      Memory &memory = out_.memories[m];
      if (!packed(memory.type))
        continue;
      needed_ = true;
      uint32_t per = 4 / byte_size(memory.type);
      if (memory.space != Space::kBuffer) {
        layouts_[m] = Layout::kWide;
        memory.align *= per;
      } else {
        layouts_[m] = memory.access == Access::kRead || whole_[m] ? Layout::kPlain : Layout::kAtomic;
        memory.align = std::max(memory.align, 4u);
        if (layouts_[m] == Layout::kAtomic)
          memory.access = Access::kReadWrite;
      }
      memory.type = Scalar::kI32;
    }
    for (Type type : kernel.types)
      needed_ |= soft(type.scalar);
  }

  bool needed() const { return needed_; }

 protected:
  bool soft(Scalar scalar) const { return (scalar == Scalar::kI8 && i8_) || (scalar == Scalar::kI16 && i16_); }
  bool packed(Scalar scalar) const { return soft(scalar) || (scalar == Scalar::kBool && bool_); }
  std::vector<Type> pieces(Type type) override {
    return {soft(type.scalar) ? type.with_scalar(Scalar::kI32) : type};
  }

  Values rewrite(const Op &op) override {
    if (is_memory(op.code) && layouts_[op.memory] != Layout::kSame)
      return memory(op);
    Type type = op.results.empty() ? Type() : old_type(op.results[0]);
    Scalar from = op.operands.empty() ? type.scalar : old_type(op.operands[0]).scalar;
    if (!soft(type.scalar) && !soft(from))
      return copy(op);
    switch (op.code) {
    case Opcode::kConst: return {b_.constant(pieces(type)[0], op.imm)};
    case Opcode::kConvert:
    case Opcode::kConvertU: return {conversion(op, type, from)};
    case Opcode::kBitcast:
      if (type.scalar == from)
        return {one(op.operands[0])};
      throw Unsupported{"a bitcast between a 16-bit integer and a float that the target has, without the integer"};
    case Opcode::kAdd:
    case Opcode::kSub:
    case Opcode::kMul:
    case Opcode::kDiv:
    case Opcode::kNeg:
    case Opcode::kAbs:
    case Opcode::kMad:
    case Opcode::kReduceAdd:
    case Opcode::kReduceMul:
    case Opcode::kSubgroupAdd: return {wrap(copy(op)[0], type.scalar)};
    case Opcode::kDivU:
    case Opcode::kRemU:
    case Opcode::kMinU:
    case Opcode::kMaxU:
      return {wrap(b_.binary(op.code, zero_extended(one(op.operands[0]), from), zero_extended(one(op.operands[1]), from)),
                   type.scalar)};
    case Opcode::kShl:
    case Opcode::kShr:
    case Opcode::kShrU: {
      ValueId x = one(op.operands[0]), amount = one(op.operands[1]);
      amount = b_.binary(Opcode::kAnd, amount, like(amount, bit_width(from) - 1));
      if (op.code == Opcode::kShrU)
        x = zero_extended(x, from);
      ValueId shifted = b_.binary(op.code, x, amount);
      return {op.code == Opcode::kShr ? shifted : wrap(shifted, from)};
    }
    case Opcode::kLtU:
    case Opcode::kLeU:
    case Opcode::kGtU:
    case Opcode::kGeU:
      return {b_.compare(op.code, zero_extended(one(op.operands[0]), from), zero_extended(one(op.operands[1]), from))};
    default: return copy(op); // the same on sign-extended values
    }
  }

 private:
  ValueId like(ValueId value, int64_t constant) { return b_.constant(b_.type_of(value), constant); }

  ValueId wrap(ValueId value, Scalar scalar) {
    ValueId n = like(value, 32 - bit_width(scalar));
    return b_.binary(Opcode::kShr, b_.binary(Opcode::kShl, value, n), n);
  }
  ValueId zero_extended(ValueId value, Scalar scalar) {
    return b_.binary(Opcode::kAnd, value, like(value, (int64_t{1} << bit_width(scalar)) - 1));
  }

  ValueId conversion(const Op &op, Type type, Scalar from) {
    ValueId x = one(op.operands[0]);
    bool is_unsigned = op.code == Opcode::kConvertU;
    if (soft(from) && is_unsigned)
      x = zero_extended(x, from);
    Type word = type.with_scalar(Scalar::kI32);
    if (!soft(type.scalar))
      return b_.convert(type, x);
    if (is_float(from)) {
      int64_t values = int64_t{1} << bit_width(type.scalar);
      int64_t lowest = is_unsigned ? 0 : -values / 2, highest = is_unsigned ? values - 1 : values / 2 - 1;
      x = b_.convert(word, x);
      x = b_.min(b_.max(x, like(x, lowest)), like(x, highest));
      return is_unsigned ? wrap(x, type.scalar) : x;
    }
    x = b_.convert(word, x);
    return from == Scalar::kBool ? x : wrap(x, type.scalar);
  }

  // ---- Memory

  // Finds the packed buffers some access of which is not of whole aligned words.
  void accesses(const Region &region) {
    for (const Op &op : region.ops) {
      if (is_memory(op.code) && op.code != Opcode::kPrefetch) {
        bool plain = op.code == Opcode::kLoad || op.code == Opcode::kStore;
        if (!plain || !covers_words(op))
          whole_[op.memory] = false;
      }
      for (const Region &part : op.regions)
        accesses(part);
    }
  }

  uint32_t per(const Op &op) const { return 4 / byte_size(in_.memories[op.memory].type); }
  Type value_type(const Op &op) const {
    if (!op.results.empty())
      return old_type(op.results[0]);
    return old_type(op.operands[op.code == Opcode::kStoreIf ? 2 : op.code == Opcode::kPrefetch ? 0 : 1]);
  }
  bool covers_words(const Op &op) const {
    uint32_t n = byte_size(in_.memories[op.memory].type) < 4 ? per(op) : 1;
    return op.align % n == 0 && value_type(op).lanes % n == 0;
  }

  // A value as the bits to store, in i32; and back.
  ValueId to_word(ValueId value, Scalar scalar) {
    Type type = b_.type_of(value);
    return scalar == Scalar::kBool ? b_.convert(type.with_scalar(Scalar::kI32), value) : value;
  }
  ValueId from_word(ValueId word, Scalar scalar) {
    return scalar == Scalar::kBool ? b_.compare(Opcode::kNe, word, like(word, 0)) : word;
  }

  Values memory(const Op &op) {
    if (is_atomic(op.code))
      throw Unsupported{"an atomic on i8 or i16, which the target does not have"};
    Scalar scalar = in_.memories[op.memory].type;
    if (op.code == Opcode::kPrefetch)
      return {};
    if (layouts_[op.memory] == Layout::kWide) {
      Op now = op;
      for (ValueId &operand : now.operands) {
        bool is_value = old_type(operand).scalar == scalar;
        operand = one(operand);
        // A condition is a bool as well, but not what is stored or kept.
        if (is_value && !(scalar == Scalar::kBool && is_condition(op, &operand - now.operands.data())))
          operand = to_word(operand, scalar);
      }
      if (op.results.empty())
        return b_.append(std::move(now), {});
      return {from_word(b_.append(std::move(now), {old_type(op.results[0]).with_scalar(Scalar::kI32)})[0], scalar)};
    }
    if ((op.code == Opcode::kLoad || op.code == Opcode::kStore) && covers_words(op) &&
        layouts_[op.memory] == Layout::kPlain)
      return words(op, scalar);
    return elements(op, scalar);
  }

  static bool is_condition(const Op &op, ptrdiff_t operand) {
    return ((op.code == Opcode::kLoadIf || op.code == Opcode::kStoreIf) && operand == 0) ||
           (op.code == Opcode::kGather && operand == 1) || (op.code == Opcode::kScatter && operand == 2);
  }

  ValueId word_index(ValueId element, uint32_t n) {
    return b_.binary(Opcode::kShr, element, b_.index(n == 4 ? 2 : 1));
  }

  // The shift of each lane's bits in its word: (lane % per) * width.
  V lane_shifts(uint32_t lanes, uint32_t n) {
    Type type(Scalar::kI32, lanes);
    V lane{&b_, b_.lane_iota(type)};
    return (lane & V{&b_, b_.constant(type, n - 1)}) * V{&b_, b_.constant(type, 32 / n)};
  }

  // Whole aligned words, unpacked or packed with vector ops.
  Values words(const Op &op, Scalar scalar) {
    uint32_t n = per(op), lanes = value_type(op).lanes, count = lanes / n;
    uint32_t align = op.align / n, width = 32 / n;
    Type type(Scalar::kI32, lanes);
    ValueId index = word_index(one(op.operands[0]), n);
    V shifts = lane_shifts(lanes, n);
    if (op.code == Opcode::kLoad) {
      ValueId word = b_.load(op.memory, index, count, align);
      std::vector<int64_t> spread;
      for (uint32_t k = 0; k < lanes; ++k)
        spread.push_back(k / n);
      V all{&b_, count == 1 ? b_.splat(word, lanes) : b_.shuffle(word, word, spread)};
      V high{&b_, b_.constant(type, 32 - width)};
      return {from_word(shr(shl(all, high - shifts), high).id, scalar)};
    }
    V value{&b_, to_word(one(op.operands[1]), scalar)};
    V placed = shl(value & V{&b_, b_.constant(type, (int64_t{1} << width) - 1)}, shifts);
    ValueId word = kNoValue;
    for (uint32_t k = 0; k < n; ++k) {
      std::vector<int64_t> picks;
      for (uint32_t w = 0; w < count; ++w)
        picks.push_back(w * n + k);
      ValueId part = b_.shuffle(placed.id, placed.id, picks);
      word = k == 0 ? part : b_.binary(Opcode::kOr, word, part);
    }
    b_.store(op.memory, index, word, align);
    return {};
  }

  // Element by element; `condition` is kNoValue for always.
  ValueId load_element(const Op &op, ValueId element, ValueId condition, ValueId otherwise, Scalar scalar) {
    uint32_t n = per(op), width = 32 / n;
    ValueId index = word_index(element, n);
    auto extract = [&](ValueId word) {
      V in_word = V{&b_, b_.convert(Scalar::kI32, element)} & V{&b_, b_.constant(Scalar::kI32, n - 1)};
      V high{&b_, b_.constant(Scalar::kI32, 32 - width)};
      V up = high - in_word * V{&b_, b_.constant(Scalar::kI32, width)};
      return from_word(shr(shl(V{&b_, word}, up), high).id, scalar);
    };
    ValueId zero = b_.constant(Scalar::kI32, 0);
    if (layouts_[op.memory] == Layout::kPlain) {
      if (condition == kNoValue)
        return extract(b_.load(op.memory, index));
      return b_.select(condition, extract(b_.load_if(op.memory, condition, index, zero)), otherwise);
    }
    auto load = [&] { return extract(b_.atomic(Opcode::kAtomicAdd, op.memory, index, zero)); };
    if (condition == kNoValue)
      return load();
    return b_.if_else(condition, [&] { return Values{load()}; }, [&] { return Values{otherwise}; })[0];
  }

  void store_element(const Op &op, ValueId element, ValueId condition, ValueId value, Scalar scalar) {
    uint32_t n = per(op), width = 32 / n;
    auto store = [&] {
      ValueId index = word_index(element, n);
      V mask{&b_, b_.constant(Scalar::kI32, (int64_t{1} << width) - 1)};
      V in_word = V{&b_, b_.convert(Scalar::kI32, element)} & V{&b_, b_.constant(Scalar::kI32, n - 1)};
      V shift = in_word * V{&b_, b_.constant(Scalar::kI32, width)};
      V word{&b_, b_.atomic(Opcode::kAtomicAdd, op.memory, index, b_.constant(Scalar::kI32, 0))};
      V now = V{&b_, to_word(value, scalar)} & mask, old = shr_u(word, shift) & mask;
      b_.atomic(Opcode::kAtomicAdd, op.memory, index, shl(now - old, shift).id);
    };
    if (condition == kNoValue)
      store();
    else
      b_.if_then(condition, store);
  }

  Values elements(const Op &op, Scalar scalar) {
    Type type = value_type(op);
    bool predicated = op.code == Opcode::kLoadIf || op.code == Opcode::kStoreIf;
    bool indexed = op.code == Opcode::kGather || op.code == Opcode::kScatter;
    bool partial = op.code == Opcode::kLoadPart || op.code == Opcode::kStorePart;
    bool stores = op.results.empty();
    ValueId base = one(op.operands[predicated ? 1 : 0]);
    auto condition = [&](uint32_t lane) -> ValueId {
      if (partial)
        return b_.lt(b_.index(lane), one(op.operands[stores ? 2 : 1]));
      size_t at = predicated ? 0 : stores ? 2 : 1;
      if (!(predicated || (indexed && op.operands.size() == 3)))
        return kNoValue;
      ValueId mask = one(op.operands[at]);
      return b_.type_of(mask).lanes == 1 ? mask : b_.extract(mask, lane);
    };
    auto element = [&](uint32_t lane) { return indexed ? b_.extract(base, lane) : b_.add(base, b_.index(lane)); };
    if (stores) {
      ValueId value = one(op.operands[predicated ? 2 : 1]);
      for (uint32_t lane = 0; lane < type.lanes; ++lane)
        store_element(op, element(lane), condition(lane), b_.extract(value, lane), scalar);
      return {};
    }
    ValueId otherwise = op.operands.size() == 3 ? one(op.operands[2]) : kNoValue;
    ValueId result = kNoValue;
    if (type.lanes > 1)
      result = b_.zero(pieces(type)[0]);
    for (uint32_t lane = 0; lane < type.lanes; ++lane) {
      ValueId one_of = otherwise == kNoValue ? kNoValue : b_.extract(otherwise, lane);
      ValueId loaded = load_element(op, element(lane), condition(lane), one_of, scalar);
      result = type.lanes > 1 ? b_.insert(result, loaded, lane) : loaded;
    }
    return {result};
  }

  bool i8_, i16_, bool_, needed_ = false;
  std::vector<Layout> layouts_;
  std::vector<bool> whole_;
};

} // namespace

void lower_small_integers(Kernel &kernel, const TargetRecord &target) {
  Small pass(kernel, target);
  if (pass.needed())
    kernel = pass.run();
}

} // namespace ingot::aotc::kernel
