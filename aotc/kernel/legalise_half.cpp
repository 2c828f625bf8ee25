// f16 and bf16 in f32: a value is the f32 of equal value, so loads decode, stores encode without rounding, and only
// ops whose f32 result may not be representable are followed by a rounding.
#include "aotc/kernel/formula.h"
#include "aotc/kernel/legalise_passes.h"

namespace ingot::aotc::kernel {
namespace {

class Half : public Rewriter {
 public:
  Half(const Kernel &kernel, const TargetRecord &target)
      : Rewriter(kernel), f16_(!target.f16 || !target.storage_16), bf16_(!target.bf16 || !target.storage_16) {
    for (Memory &memory : out_.memories) {
      if (!soft(memory.type))
        continue;
      bool is_buffer = memory.space == Space::kBuffer;
      memory.type = is_buffer ? Scalar::kI16 : Scalar::kF32;
      memory.align *= is_buffer ? 1 : 2;
    }
  }

  bool needed() const {
    for (Type type : in_.types)
      if (soft(type.scalar))
        return true;
    for (const Memory &memory : in_.memories)
      if (soft(memory.type))
        return true;
    return false;
  }

 protected:
  bool soft(Scalar scalar) const { return (scalar == Scalar::kF16 && f16_) || (scalar == Scalar::kBF16 && bf16_); }
  std::vector<Type> pieces(Type type) override {
    return {soft(type.scalar) ? type.with_scalar(Scalar::kF32) : type};
  }

  Values rewrite(const Op &op) override {
    if (is_memory(op.code) && soft(in_.memories[op.memory].type) &&
        in_.memories[op.memory].space == Space::kBuffer)
      return memory(op);
    Type type = op.results.empty() ? Type() : old_type(op.results[0]);
    Scalar from = op.operands.empty() ? type.scalar : old_type(op.operands[0]).scalar;
    switch (op.code) {
    case Opcode::kConst:
      return soft(type.scalar) ? Values{b_.constant_float(pieces(type)[0], op.fimm)} : copy(op);
    case Opcode::kConvert:
    case Opcode::kConvertU:
      if (soft(type.scalar))
        return {to_soft(op, type, from)};
      return copy(op);
    case Opcode::kBitcast: {
      if (!soft(type.scalar) && !soft(from))
        return copy(op);
      ValueId bits = soft(from) ? encode(one(op.operands[0]), from) // i32
                                : b_.convert_u(type.with_scalar(Scalar::kI32), one(op.operands[0]));
      if (soft(type.scalar))
        return {decode(bits, type.scalar)};
      return {b_.convert(type, bits)};
    }
    case Opcode::kReduceAdd:
    case Opcode::kReduceMul:
      if (soft(type.scalar))
        return {reduce(op, type.scalar)};
      return copy(op);
    case Opcode::kAdd:
    case Opcode::kSub:
    case Opcode::kMul:
    case Opcode::kDiv:
    case Opcode::kMad:
    case Opcode::kFma:
    case Opcode::kSqrt:
    case Opcode::kSubgroupAdd: {
      Values value = copy(op);
      if (soft(type.scalar))
        value[0] = round(value[0], type.scalar);
      return value;
    }
    default: return copy(op); // exact, or not about these types
    }
  }

 private:
  V f(ValueId like, double value) { return {&b_, b_.constant_float(b_.type_of(like).with_scalar(Scalar::kF32), value)}; }
  V i(ValueId like, int64_t value) { return {&b_, b_.constant(b_.type_of(like).with_scalar(Scalar::kI32), value)}; }
  V bits(V x) { return {&b_, b_.bitcast(b_.type_of(x.id).with_scalar(Scalar::kI32), x.id)}; }
  V from_bits(V x) { return {&b_, b_.bitcast(b_.type_of(x.id).with_scalar(Scalar::kF32), x.id)}; }

  // The nearest value of the type, as an f32.
  ValueId round(ValueId value, Scalar to) {
    V x{&b_, value}, raw = bits(x);
    auto c = [&](int64_t n) { return i(value, n); };
    if (to == Scalar::kBF16) {
      V rounded = (raw + c(0x7fff) + (shr_u(raw, c(16)) & c(1))) & c(-65536);
      return select(x == x, from_bits(rounded), x).id;
    }
    V magnitude = raw & c(0x7fffffff), sign = raw & c(INT32_MIN);
    V normal = (magnitude + c(0xfff) + (shr_u(magnitude, c(13)) & c(1))) & c(~0x1fff);
    normal = select(normal >= c(0x47800000), c(0x7f800000), normal); // 65536 and more
    V small = bits(rint(from_bits(magnitude) * f(value, 0x1p24)) * f(value, 0x1p-24)); // denormals: a fixed quantum
    V result = select(magnitude < c(0x38800000), small, normal);
    return select(x == x, from_bits(result | sign), x).id;
  }

  ValueId to_soft(const Op &op, Type type, Scalar from) {
    ValueId x = one(op.operands[0]);
    Type wide = type.with_scalar(Scalar::kF32);
    if (soft(from))
      return from == type.scalar ? x : round(x, type.scalar);
    if (from == Scalar::kF64) {
      // Rounded to f32 by truncation with the lost bits or'ed into the last one, so that the next rounding is right.
      V d{&b_, x}, near{&b_, b_.convert(wide, x)}, raw = bits(near);
      V back{&b_, b_.convert(type.with_scalar(Scalar::kF64), near.id)};
      auto c = [&](int64_t n) { return i(near.id, n); };
      V is_exact = back == d, is_above = abs(back) > abs(d);
      V odd = (raw - select(is_above, c(1), c(0))) | c(1);
      V sure = select(is_exact, near, from_bits(odd));
      return round(select(d == d, sure, near).id, type.scalar);
    }
    ValueId value = op.code == Opcode::kConvert ? b_.convert(wide, x) : b_.convert_u(wide, x);
    return from == Scalar::kBool ? value : round(value, type.scalar);
  }

  // The bits of a representable value, as i32 (upper half zero).
  ValueId encode(ValueId value, Scalar from) {
    V x{&b_, value}, raw = bits(x);
    auto c = [&](int64_t n) { return i(value, n); };
    if (from == Scalar::kBF16)
      return shr_u(raw, c(16)).id;
    V magnitude = raw & c(0x7fffffff), sign = shr_u(raw, c(16)) & c(0x8000);
    V normal = shr_u(magnitude, c(13)) - c(112 << 10);
    V small{&b_, b_.convert(b_.type_of(raw.id), (from_bits(magnitude) * f(value, 0x1p24)).id)};
    V special = c(0x7c00) | select(x == x, c(0), c(0x200));
    V result = select(magnitude < c(0x38800000), small, select(magnitude >= c(0x7f800000), special, normal));
    return (result | sign).id;
  }

  ValueId decode(ValueId half, Scalar to) {
    V h{&b_, half};
    auto c = [&](int64_t n) { return i(half, n); };
    if (to == Scalar::kBF16)
      return from_bits(shl(h, c(16))).id;
    V sign = shl(h & c(0x8000), c(16)), magnitude = h & c(0x7fff);
    V wide = shl(magnitude, c(13));
    V normal = wide + select(magnitude >= c(0x7c00), c(224 << 23), c(112 << 23));
    V small = V{&b_, b_.convert(b_.type_of(half).with_scalar(Scalar::kF32), magnitude.id)} * f(half, 0x1p-24);
    return from_bits(select(magnitude < c(0x400), bits(small), normal) | sign).id;
  }

  ValueId reduce(const Op &op, Scalar scalar) {
    ValueId value = one(op.operands[0]);
    Opcode step = op.code == Opcode::kReduceAdd ? Opcode::kAdd : Opcode::kMul;
    for (int64_t half = b_.type_of(value).lanes / 2; half > 0; half /= 2) {
      std::vector<int64_t> low, high;
      for (int64_t k = 0; k < half; ++k) {
        low.push_back(k);
        high.push_back(k + half);
      }
      value = round(b_.binary(step, b_.shuffle(value, value, low), b_.shuffle(value, value, high)), scalar);
    }
    return value;
  }

  Values memory(const Op &op) {
    Scalar scalar = in_.memories[op.memory].type;
    Op now = op;
    for (ValueId &operand : now.operands) {
      bool is_value = soft(old_type(operand).scalar);
      operand = one(operand);
      if (is_value)
        operand = b_.convert(b_.type_of(operand).with_scalar(Scalar::kI16), encode(operand, scalar));
    }
    if (op.results.empty())
      return b_.append(std::move(now), {});
    Type type = old_type(op.results[0]);
    ValueId raw = b_.append(std::move(now), {type.with_scalar(Scalar::kI16)})[0];
    return {decode(b_.convert_u(type.with_scalar(Scalar::kI32), raw), scalar)};
  }

  bool f16_, bf16_;
};

} // namespace

void lower_half(Kernel &kernel, const TargetRecord &target) {
  Half pass(kernel, target);
  if (pass.needed())
    kernel = pass.run();
}

} // namespace ingot::aotc::kernel
