// i64 as two i32, low and high. Where the range of a value is known to fit 32 bits, its high half is only the low
// half's sign: ops that look at both halves then look at one, and what nobody uses is dropped afterwards as dead.
#include <vector>

#include "aotc/kernel/formula.h"
#include "aotc/kernel/legalise_passes.h"

namespace ingot::aotc::kernel {
namespace {

struct Range {
  int64_t min = INT64_MIN, max = INT64_MAX;
  bool fits() const { return min >= INT32_MIN && max <= INT32_MAX; }
};

struct Wide {
  V low, high;
};

class Pairs : public Rewriter {
 public:
  explicit Pairs(const Kernel &kernel) : Rewriter(kernel), ranges_(kernel.types.size()) {
    for (Memory &memory : out_.memories)
      if (memory.type == Scalar::kI64) {
        memory.type = Scalar::kI32;
        memory.count *= 2;
      }
    for (Param &param : out_.params)
      if (param.type == Scalar::kI64) {
        if (!Range{param.min, param.max}.fits())
          throw Unsupported{"param " + param.name + " is an i64 of unknown range: give it one that fits 32 bits"};
        param.type = Scalar::kI32;
      }
    check(kernel.body);
  }

 protected:
  std::vector<Type> pieces(Type type) override {
    if (type.scalar == Scalar::kI64)
      return {type.with_scalar(Scalar::kI32), type.with_scalar(Scalar::kI32)};
    return {type};
  }

  Values rewrite(const Op &op) override {
    if (is_memory(op.code) && in_.memories[op.memory].type == Scalar::kI64)
      return memory(op);
    Type type = op.results.empty() ? Type() : old_type(op.results[0]);
    Scalar from = op.operands.empty() ? type.scalar : old_type(op.operands[0]).scalar;
    bool wide = type.scalar == Scalar::kI64;
    if (op.results.size() == 1)
      ranges_[op.results[0]] = range(op, type, from);
    if (!wide && from != Scalar::kI64)
      return copy(op);
    if (wide && ranges_[op.results[0]].fits())
      if (Values narrow = narrowed(op, type); !narrow.empty())
        return narrow;
    switch (op.code) {
    case Opcode::kConst: return pair({constant(type, op.imm), constant(type, op.imm >> 32)});
    case Opcode::kParam: {
      ValueId low = b_.append(op, {type.with_scalar(Scalar::kI32)})[0];
      return pair(signed_pair({&b_, low}));
    }
    case Opcode::kLaneIota:
      return {b_.lane_iota(type.with_scalar(Scalar::kI32)), constant(type, 0).id};
    case Opcode::kConvert:
    case Opcode::kConvertU: return conversion(op, type, from);
    case Opcode::kAdd: return pair(add(a(op), b(op)));
    case Opcode::kSub: return pair(sub(a(op), b(op)));
    case Opcode::kMul: return pair(mul(a(op), b(op)));
    case Opcode::kMad: return pair(add(mul(a(op), b(op)), value(op.operands[2])));
    case Opcode::kNeg: return pair(negate(a(op)));
    case Opcode::kAbs: return pair(choose(a(op).high < c(a(op).high, 0), negate(a(op)), a(op)));
    case Opcode::kNot: return {a(op).low.unary(Opcode::kNot).id, a(op).high.unary(Opcode::kNot).id};
    case Opcode::kAnd:
    case Opcode::kOr:
    case Opcode::kXor: return {a(op).low.binary(op.code, b(op).low).id, a(op).high.binary(op.code, b(op).high).id};
    case Opcode::kMin: return pair(choose(less(a(op), b(op), Opcode::kLt), a(op), b(op)));
    case Opcode::kMax: return pair(choose(less(b(op), a(op), Opcode::kLt), a(op), b(op)));
    case Opcode::kMinU: return pair(choose(less(a(op), b(op), Opcode::kLtU), a(op), b(op)));
    case Opcode::kMaxU: return pair(choose(less(b(op), a(op), Opcode::kLtU), a(op), b(op)));
    case Opcode::kShl:
    case Opcode::kShr:
    case Opcode::kShrU: return pair(shift(op.code, a(op), b(op).low));
    case Opcode::kDiv:
    case Opcode::kRem:
    case Opcode::kDivU:
    case Opcode::kRemU: return pair(divide(op.code, a(op), b(op)));
    case Opcode::kReduceAdd:
    case Opcode::kReduceMul:
    case Opcode::kReduceMin:
    case Opcode::kReduceMax: return reduce(op);
    case Opcode::kSelect:
    case Opcode::kSplat:
    case Opcode::kExtract:
    case Opcode::kInsert:
    case Opcode::kShuffle:
    case Opcode::kSubgroupShuffle: return halves(op, type);
    default: break;
    }
    if (is_compare(op.code))
      return {compare(op).id};
    throw Unsupported{"it uses " + std::string(name(op.code)) + " on i64, which the target does not have"};
  }

 private:
  void check(const Region &region) {
    for (const Op &op : region.ops) {
      if (op.code == Opcode::kFor && old_type(op.operands[0]).scalar == Scalar::kI64)
        throw Unsupported{"a loop counts in i64, which the target does not have: count in index"};
      for (const Region &part : op.regions)
        check(part);
    }
  }

  V constant(Type type, int64_t bits) { return {&b_, b_.constant(type.with_scalar(Scalar::kI32), bits)}; }
  V c(V like, int64_t value) { return {&b_, b_.constant(b_.type_of(like.id), value)}; }
  Wide value(ValueId old) { return {{&b_, all(old).at(0)}, {&b_, all(old).at(1)}}; }
  Wide a(const Op &op) { return value(op.operands[0]); }
  Wide b(const Op &op) { return value(op.operands[1]); }
  static Values pair(Wide w) { return {w.low.id, w.high.id}; }
  Wide signed_pair(V low) { return {low, shr(low, c(low, 31))}; }

  // ---- Ranges

  Range range(const Op &op, Type type, Scalar from) const {
    auto operand = [&](size_t k) {
      ValueId id = op.operands[k];
      switch (old_type(id).scalar) {
      case Scalar::kBool: return Range{0, 1};
      case Scalar::kI8: return Range{-128, 127};
      case Scalar::kI16: return Range{-32768, 32767};
      case Scalar::kI32: return Range{INT32_MIN, INT32_MAX};
      case Scalar::kIndex: return Range{INT32_MIN, INT32_MAX};
      default: return ranges_[id];
      }
    };
    if (type.scalar != Scalar::kI64)
      return {};
    Range r;
    auto join = [](Range x, Range y) { return Range{std::min(x.min, y.min), std::max(x.max, y.max)}; };
    switch (op.code) {
    case Opcode::kConst: return {op.imm, op.imm};
    case Opcode::kParam: return {in_.params[static_cast<size_t>(op.imm)].min, in_.params[static_cast<size_t>(op.imm)].max};
    case Opcode::kLaneIota: return {0, type.lanes};
    case Opcode::kConvert: return is_float(from) ? r : operand(0);
    case Opcode::kAdd:
      if (!__builtin_add_overflow(operand(0).min, operand(1).min, &r.min) &&
          !__builtin_add_overflow(operand(0).max, operand(1).max, &r.max))
        return r;
      return {};
    case Opcode::kSub:
      if (!__builtin_sub_overflow(operand(0).min, operand(1).max, &r.min) &&
          !__builtin_sub_overflow(operand(0).max, operand(1).min, &r.max))
        return r;
      return {};
    case Opcode::kMul: {
      if (!operand(0).fits() || !operand(1).fits())
        return {};
      int64_t p[] = {operand(0).min * operand(1).min, operand(0).min * operand(1).max, operand(0).max * operand(1).min,
                     operand(0).max * operand(1).max};
      return {std::min(std::min(p[0], p[1]), std::min(p[2], p[3])), std::max(std::max(p[0], p[1]), std::max(p[2], p[3]))};
    }
    case Opcode::kMin: return {std::min(operand(0).min, operand(1).min), std::min(operand(0).max, operand(1).max)};
    case Opcode::kMax: return {std::max(operand(0).min, operand(1).min), std::max(operand(0).max, operand(1).max)};
    case Opcode::kAnd:
      if (operand(1).min >= 0)
        return {0, operand(1).max};
      return operand(0).min >= 0 ? Range{0, operand(0).max} : Range{};
    case Opcode::kDiv: // never further from zero than the dividend, but for MIN / -1
      if (operand(0).fits() && operand(0).min > INT32_MIN) {
        int64_t most = std::max(-operand(0).min, operand(0).max);
        return {-most, most};
      }
      return {};
    case Opcode::kRem:
      if (operand(0).fits() && operand(0).min > INT32_MIN) {
        int64_t most = std::max(-operand(0).min, operand(0).max);
        return {operand(0).min < 0 ? -most : 0, most};
      }
      return {};
    case Opcode::kSelect: return join(operand(1), operand(2));
    case Opcode::kSplat:
    case Opcode::kExtract: return operand(0);
    case Opcode::kInsert:
    case Opcode::kShuffle: return join(operand(0), operand(1));
    default: return {};
    }
  }

  // An op whose operands and result all fit: done on the low halves.
  Values narrowed(const Op &op, Type type) {
    bool possible = op.code == Opcode::kAdd || op.code == Opcode::kSub || op.code == Opcode::kMul ||
                    op.code == Opcode::kDiv || op.code == Opcode::kRem || op.code == Opcode::kMin ||
                    op.code == Opcode::kMax;
    if (!possible)
      return {};
    for (ValueId operand : op.operands)
      if (!ranges_[operand].fits())
        return {};
    (void)type;
    return pair(signed_pair(a(op).low.binary(op.code, b(op).low)));
  }

  // ---- Arithmetic

  V carry(V is_one) { return {&b_, b_.convert(b_.type_of(is_one.id).with_scalar(Scalar::kI32), is_one.id)}; }
  Wide add(Wide x, Wide y) {
    V low = x.low + y.low;
    return {low, x.high + y.high + carry(less_u(low, x.low))};
  }
  Wide sub(Wide x, Wide y) { return {x.low - y.low, x.high - y.high - carry(less_u(x.low, y.low))}; }
  Wide negate(Wide x) { return sub({c(x.low, 0), c(x.low, 0)}, x); }
  Wide choose(V condition, Wide x, Wide y) {
    return {select(condition, x.low, y.low), select(condition, x.high, y.high)};
  }

  Wide mul(Wide x, Wide y) {
    V mask = c(x.low, 0xffff), sixteen = c(x.low, 16);
    V x1 = shr_u(x.low, sixteen), x0 = x.low & mask, y1 = shr_u(y.low, sixteen), y0 = y.low & mask;
    V cross1 = x1 * y0, cross2 = x0 * y1;
    V middle = shr_u(x0 * y0, sixteen) + (cross1 & mask) + (cross2 & mask);
    V upper = x1 * y1 + shr_u(cross1, sixteen) + shr_u(cross2, sixteen) + shr_u(middle, sixteen);
    return {x.low * y.low, upper + x.low * y.high + x.high * y.low};
  }

  V less(Wide x, Wide y, Opcode op) {
    V high{&b_, b_.compare(op, x.high.id, y.high.id)};
    return high | ((x.high == y.high) & less_u(x.low, y.low));
  }

  V compare(const Op &op) {
    if (ranges_[op.operands[0]].fits() && ranges_[op.operands[1]].fits())
      return {&b_, b_.compare(op.code, a(op).low.id, b(op).low.id)};
    Wide x = a(op), y = b(op);
    switch (op.code) {
    case Opcode::kEq: return (x.low == y.low) & (x.high == y.high);
    case Opcode::kNe: return (x.low != y.low) | (x.high != y.high);
    case Opcode::kLt: return less(x, y, Opcode::kLt);
    case Opcode::kGt: return less(y, x, Opcode::kLt);
    case Opcode::kLe: return logical_not(less(y, x, Opcode::kLt));
    case Opcode::kGe: return logical_not(less(x, y, Opcode::kLt));
    case Opcode::kLtU: return less(x, y, Opcode::kLtU);
    case Opcode::kGtU: return less(y, x, Opcode::kLtU);
    case Opcode::kLeU: return logical_not(less(y, x, Opcode::kLtU));
    default: return logical_not(less(x, y, Opcode::kLtU));
    }
  }

  Wide shift(Opcode op, Wide x, V amount) {
    V s = amount & c(amount, 31), rest = c(amount, 31) - s, one_bit = c(amount, 1);
    V is_far = (amount & c(amount, 32)) != c(amount, 0);
    if (op == Opcode::kShl) {
      V low = shl(x.low, s), high = shl(x.high, s) | shr_u(shr_u(x.low, one_bit), rest);
      return choose(is_far, {c(low, 0), low}, {low, high});
    }
    V low = shr_u(x.low, s) | shl(shl(x.high, one_bit), rest);
    V high = x.high.binary(op, s);
    V fill = op == Opcode::kShr ? shr(x.high, c(s, 31)) : c(s, 0);
    return choose(is_far, {high, fill}, {low, high});
  }

  // Bit by bit, on magnitudes.
  Wide divide(Opcode op, Wide x, Wide y) {
    bool is_signed = op == Opcode::kDiv || op == Opcode::kRem;
    V zero = c(x.low, 0);
    V x_negative = x.high < zero, y_negative = y.high < zero;
    Wide n = is_signed ? choose(x_negative, negate(x), x) : x;
    Wide d = is_signed ? choose(y_negative, negate(y), y) : y;
    Values out = b_.for_loop(b_.index(0), b_.index(64), b_.index(1), {n.low.id, n.high.id, zero.id, zero.id},
                             [&](ValueId, const Values &v) {
      // The dividend's bits leave at the top as the quotient's come in at the bottom.
      Wide q{{&b_, v[0]}, {&b_, v[1]}}, r{{&b_, v[2]}, {&b_, v[3]}};
      V one_bit = c(zero, 1), top = c(zero, 31);
      V out_of_r = shr_u(r.high, top); // the remainder's 65th bit
      r = {shl(r.low, one_bit) | shr_u(q.high, top), shl(r.high, one_bit) | shr_u(r.low, top)};
      q = {shl(q.low, one_bit), shl(q.high, one_bit) | shr_u(q.low, top)};
      V goes = logical_not(less(r, d, Opcode::kLtU)) | (out_of_r != zero);
      r = choose(goes, sub(r, d), r);
      return Values{(q.low | carry(goes)).id, q.high.id, r.low.id, r.high.id};
    });
    Wide q{{&b_, out[0]}, {&b_, out[1]}}, r{{&b_, out[2]}, {&b_, out[3]}};
    V by_zero = (y.low | y.high) == zero;
    bool wants_quotient = op == Opcode::kDiv || op == Opcode::kDivU;
    Wide result = wants_quotient ? q : r;
    if (is_signed)
      result = choose(wants_quotient ? x_negative ^ y_negative : x_negative, negate(result), result);
    return choose(by_zero, {zero, zero}, result);
  }

  Values reduce(const Op &op) {
    Wide x = a(op);
    for (int64_t half = old_type(op.operands[0]).lanes / 2; half > 0; half /= 2) {
      std::vector<int64_t> first, second;
      for (int64_t k = 0; k < half; ++k) {
        first.push_back(k);
        second.push_back(k + half);
      }
      auto take = [&](const std::vector<int64_t> &lanes) {
        return Wide{{&b_, b_.shuffle(x.low.id, x.low.id, lanes)}, {&b_, b_.shuffle(x.high.id, x.high.id, lanes)}};
      };
      Wide p = take(first), q = take(second);
      x = op.code == Opcode::kReduceAdd   ? add(p, q)
          : op.code == Opcode::kReduceMul ? mul(p, q)
          : op.code == Opcode::kReduceMin ? choose(less(p, q, Opcode::kLt), p, q)
                                          : choose(less(q, p, Opcode::kLt), p, q);
    }
    return pair(x);
  }

  // An op that moves values: once for each half.
  Values halves(const Op &op, Type type) {
    Values out;
    for (size_t half = 0; half < 2; ++half) {
      Op now = op;
      for (size_t k = 0; k < op.operands.size(); ++k)
        now.operands[k] = all(op.operands[k]).size() == 2 ? all(op.operands[k])[half] : one(op.operands[k]);
      out.push_back(b_.append(std::move(now), {type.with_scalar(Scalar::kI32)})[0]);
    }
    return out;
  }

  // ---- Conversion

  Values conversion(const Op &op, Type type, Scalar from) {
    bool is_unsigned = op.code == Opcode::kConvertU;
    Type word = type.with_scalar(Scalar::kI32), single = type.with_scalar(Scalar::kF32);
    if (from == Scalar::kI64 && type.scalar == Scalar::kI64)
      return pair(a(op));
    if (from == Scalar::kI64) {
      Wide x = a(op);
      if (type.scalar == Scalar::kBool)
        return {((x.low | x.high) != c(x.low, 0)).id};
      if (!is_float(type.scalar))
        return {b_.convert(type, x.low.id)};
      if (ranges_[op.operands[0]].fits() && !is_unsigned)
        return {b_.convert(type, b_.convert(single, x.low.id))};
      return {b_.convert(type, to_float(x, single, is_unsigned).id)};
    }
    ValueId x = one(op.operands[0]);
    if (is_float(from))
      return pair(from_float({&b_, b_.convert(single, x)}, word, is_unsigned));
    if (from == Scalar::kBool || (is_unsigned && from != Scalar::kIndex)) {
      ValueId low = from == Scalar::kBool ? b_.convert(word, x) : b_.convert_u(word, x);
      return {low, b_.constant(word, 0)};
    }
    return pair(signed_pair({&b_, b_.convert(word, x)}));
  }

  // Rounded once: the leading 32 bits or so, with the rest or'ed into the last one.
  V to_float(Wide x, Type single, bool is_unsigned) {
    auto f = [&](double v) { return V{&b_, b_.constant_float(single, v)}; };
    auto from_word = [&](V v) { return V{&b_, b_.convert_u(single, v.id)}; };
    V is_negative = x.high < c(x.high, 0);
    Wide m = is_unsigned ? x : choose(is_negative, negate(x), x);
    V zero = c(m.low, 0);
    V result = from_word(m.low); // high == 0
    static const int shifts[] = {28, 21, 14, 7}; // for high below 2^4, 2^11, 2^18, 2^25
    V value = from_word(m.high | carry(m.low != zero)) * f(0x1p32);
    for (int k = 3; k >= 0; --k) {
      int up = shifts[k], down = 32 - up;
      V lost = m.low & c(zero, (int64_t{1} << down) - 1);
      V word = shl(m.high, c(zero, up)) | shr_u(m.low, c(zero, down)) | carry(lost != zero);
      V scaled = from_word(word) * f(static_cast<double>(int64_t{1} << down));
      value = select(less_u(m.high, c(zero, int64_t{1} << (32 - up))), scaled, value);
    }
    result = select(m.high == zero, result, value);
    return is_unsigned ? result : select(is_negative, -result, result);
  }

  Wide from_float(V x, Type word, bool is_unsigned) {
    Type single = b_.type_of(x.id);
    auto f = [&](double v) { return V{&b_, b_.constant_float(single, v)}; };
    auto w = [&](int64_t v) { return V{&b_, b_.constant(word, v)}; };
    V limit = f(is_unsigned ? 0x1p64 : 0x1p63);
    V magnitude = is_unsigned ? max(x, f(0)) : abs(x);
    V high_part = (magnitude * f(0x1p-32)).unary(Opcode::kTrunc);
    V low_part = magnitude - high_part * f(0x1p32);
    Wide result{{&b_, b_.convert_u(word, low_part.id)}, {&b_, b_.convert_u(word, high_part.id)}};
    Wide most{w(-1), w(is_unsigned ? -1 : INT32_MAX)};
    if (is_unsigned) {
      result = choose(x >= limit, most, result);
    } else {
      result = choose(x < f(0), negate(result), result);
      result = choose(x >= limit, most, choose(x < -limit, {w(0), w(INT32_MIN)}, result));
    }
    return choose(x == x, result, {w(0), w(0)});
  }

  // ---- Memory

  Values memory(const Op &op) {
    if (is_atomic(op.code))
      throw Unsupported{"an atomic on i64, which the target does not have"};
    if (op.code == Opcode::kPrefetch)
      return {};
    bool stores = op.results.empty();
    bool predicated = op.code == Opcode::kLoadIf || op.code == Opcode::kStoreIf;
    bool indexed = op.code == Opcode::kGather || op.code == Opcode::kScatter;
    size_t index_at = predicated ? 1 : 0;
    size_t value_at = stores ? (predicated ? 2 : 1) : (op.operands.size() == 3 ? 2 : SIZE_MAX);
    Type type = stores ? old_type(op.operands[value_at]) : old_type(op.results[0]);
    ValueId index = one(op.operands[index_at]);
    Type index_type = b_.type_of(index);
    index = b_.mul(index, b_.constant(index_type, 2));
    bool part = op.code == Opcode::kLoadPart || op.code == Opcode::kStorePart;
    size_t count_at = op.code == Opcode::kStorePart ? 2 : 1;
    // Scalars and gathers: the halves one after the other.
    if (type.lanes == 1 || indexed) {
      Values out;
      for (uint32_t half = 0; half < 2; ++half) {
        Op now = op;
        now.align = 1;
        for (size_t k = 0; k < op.operands.size(); ++k)
          now.operands[k] = all(op.operands[k]).size() == 2 ? all(op.operands[k])[half] : one(op.operands[k]);
        now.operands[index_at] = b_.add(index, b_.constant(index_type, half));
        if (stores)
          b_.append(std::move(now), {});
        else
          out.push_back(b_.append(std::move(now), {type.with_scalar(Scalar::kI32)})[0]);
      }
      return out;
    }
    // Vectors: both halves of all lanes at once, interleaved.
    uint32_t lanes = type.lanes;
    if (lanes > 32)
      throw Unsupported{"an access to more than 32 lanes of i64, which the target does not have"};
    std::vector<int64_t> mix, twice, even, odd;
    for (uint32_t k = 0; k < lanes; ++k) {
      mix.insert(mix.end(), {k, lanes + k});
      twice.insert(twice.end(), {k, k});
      even.push_back(2 * k);
      odd.push_back(2 * k + 1);
    }
    Op now = op;
    now.align = op.align * 2;
    for (size_t k = 0; k < op.operands.size(); ++k) {
      if (k == index_at) {
        now.operands[k] = index;
      } else if (k == value_at) {
        Wide v = value(op.operands[k]);
        now.operands[k] = b_.shuffle(v.low.id, v.high.id, mix);
      } else {
        now.operands[k] = one(op.operands[k]);
        if (predicated && b_.type_of(now.operands[k]).lanes > 1)
          now.operands[k] = b_.shuffle(now.operands[k], now.operands[k], twice);
        if (part && k == count_at) // saturated first, for it could be anything
          now.operands[k] = b_.mul(b_.max(b_.min(now.operands[k], b_.index(lanes)), b_.index(0)), b_.index(2));
      }
    }
    if (stores)
      return b_.append(std::move(now), {});
    ValueId all_words = b_.append(std::move(now), {Type(Scalar::kI32, lanes * 2)})[0];
    return {b_.shuffle(all_words, all_words, even), b_.shuffle(all_words, all_words, odd)};
  }

  std::vector<Range> ranges_;
};

} // namespace

void lower_i64(Kernel &kernel, const TargetRecord &target) {
  if (target.i64 && target.storage_64)
    return;
  bool needed = false;
  for (Type type : kernel.types)
    needed |= type.scalar == Scalar::kI64;
  for (const Memory &memory : kernel.memories)
    needed |= memory.type == Scalar::kI64;
  for (const Param &param : kernel.params)
    needed |= param.type == Scalar::kI64;
  if (needed)
    kernel = Pairs(kernel).run();
}

} // namespace ingot::aotc::kernel
