// SPIR-V: the ops that compute values. Every op is total as kernel.h defines it: what SPIR-V leaves undefined (division
// by zero, overlong shifts, conversions out of range, NaN in min and max) is written out here with selects.
#include "aotc/emit/spirv/emitter.h"

#include <cmath>
#include <cstring>

#include "aotc/base/error.h"

namespace ingot::aotc::emit::spv {

using kernel::Op;
using kernel::Opcode;
using kernel::ValueId;

namespace {

uint64_t float_bits(Scalar scalar, double value) {
  if (scalar == Scalar::kF64) {
    uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
  }
  float narrow = static_cast<float>(value);
  uint32_t bits;
  std::memcpy(&bits, &narrow, sizeof bits);
  if (scalar == Scalar::kF32)
    return bits;
  // f16 constants are exactly representable (kernel verifier), so the conversion only moves bits.
  uint32_t sign = bits >> 16 & 0x8000;
  if (std::isnan(narrow))
    return sign | 0x7e00;
  if (std::isinf(narrow))
    return sign | 0x7c00;
  float magnitude = std::fabs(narrow);
  if (magnitude < 0x1p-14f)
    return sign | static_cast<uint32_t>(magnitude * 0x1p24f);
  return sign | (((bits & 0x7fffffff) - (112u << 23)) >> 13);
}

} // namespace

Id SpirvEmitter::int_constant(Type type, int64_t value) {
  Id id;
  if (type.scalar == Scalar::kBool) {
    id = module_.constant_bool(value != 0);
  } else {
    uint32_t width = bits(type.scalar);
    uint64_t mask = width == 64 ? ~0ull : (1ull << width) - 1; // unused high bits of unsigned types are zero
    id = module_.constant(scalar_type(type.scalar), width, static_cast<uint64_t>(value) & mask);
  }
  return type.is_vector() ? module_.constant_composite(this->type(type), std::vector<Id>(type.lanes, id)) : id;
}

Id SpirvEmitter::float_constant(Type type, double value) {
  Id id = module_.constant(scalar_type(type.scalar), bits(type.scalar), float_bits(type.scalar, value));
  return type.is_vector() ? module_.constant_composite(this->type(type), std::vector<Id>(type.lanes, id)) : id;
}

// An integer bit test: comparisons may assume that there is no NaN.
Id SpirvEmitter::is_nan(Type type, Id a) {
  uint32_t width = bits(type.scalar);
  Type ints = int_like(type);
  int64_t infinity = width == 16 ? 0x7c00 : width == 32 ? 0x7f800000 : 0x7ff0000000000000;
  int64_t magnitude = width == 64 ? INT64_MAX : (int64_t(1) << (width - 1)) - 1;
  Id raw = module_.emit_value(Inst::Bitcast, this->type(ints), {a});
  Id masked = module_.emit_value(Inst::BitwiseAnd, this->type(ints), {raw, int_constant(ints, magnitude)});
  return module_.emit_value(Inst::UGreaterThan, bool_type(type), {masked, int_constant(ints, infinity)});
}

// A NaN in `a` is passed on by the first select; one in `b` makes the ordered comparison false, which picks b.
Id SpirvEmitter::float_extremum(Type type, Id a, Id b, bool max) {
  Id first = module_.emit_value(max ? Inst::FOrdGreaterThan : Inst::FOrdLessThan, bool_type(type), {a, b});
  Id keep_a = module_.emit_value(Inst::LogicalOr, bool_type(type), {is_nan(type, a), first});
  return select(keep_a, type, a, b);
}

Id SpirvEmitter::divide(const Op &op, Type type, Id a, Id b) {
  Id t = this->type(type), flag = bool_type(type);
  bool is_unsigned = op.code == Opcode::kDivU || op.code == Opcode::kRemU;
  bool remainder = op.code == Opcode::kRem || op.code == Opcode::kRemU;
  bool guarded_zero = !positive_[op.operands[1]];
  // Index arithmetic never overflows, so only ints meet MIN / -1.
  bool guarded_minus_one = guarded_zero && !is_unsigned && type.scalar != Scalar::kIndex;
  Id zero = int_constant(type, 0), divisor = b, is_zero = 0, is_minus_one = 0;
  if (guarded_zero) {
    is_zero = module_.emit_value(Inst::IEqual, flag, {b, zero});
    Id unsafe = is_zero;
    if (guarded_minus_one) {
      is_minus_one = module_.emit_value(Inst::IEqual, flag, {b, int_constant(type, -1)});
      unsafe = module_.emit_value(Inst::LogicalOr, flag, {is_zero, is_minus_one});
    }
    divisor = select(unsafe, type, int_constant(type, 1), b);
  }
  Id quotient = module_.emit_value(is_unsigned ? Inst::UDiv : Inst::SDiv, t, {a, divisor});
  if (remainder) {
    // Not OpSRem: drivers disagree about negative operands. For -1 (divisor 1 here) the remainder is 0 as well.
    Id product = module_.emit_value(Inst::IMul, t, {quotient, divisor});
    Id rest = module_.emit_value(Inst::ISub, t, {a, product});
    return guarded_zero ? select(is_zero, type, zero, rest) : rest;
  }
  if (guarded_minus_one)
    quotient = select(is_minus_one, type, module_.emit_value(Inst::SNegate, t, {a}), quotient);
  return guarded_zero ? select(is_zero, type, zero, quotient) : quotient;
}

Id SpirvEmitter::binary(const Op &op, Type type, Id a, Id b) {
  Id t = this->type(type);
  bool is_float_type = is_float(type.scalar), is_bool = type.scalar == Scalar::kBool;
  auto plain = [&](Inst inst) { return module_.emit_value(inst, t, {a, b}); };
  auto rounded = [&](Inst inst) {
    Id id = plain(inst);
    if (!op.contract)
      module_.decorate(id, kNoContraction);
    return id;
  };
  auto shift = [&](Inst inst) {
    Id amount = module_.emit_value(Inst::BitwiseAnd, t, {b, int_constant(type, bits(type.scalar) - 1)});
    return module_.emit_value(inst, t, {a, amount});
  };
  auto pick = [&](Inst inst) { return select(module_.emit_value(inst, bool_type(type), {a, b}), type, a, b); };
  switch (op.code) {
  case Opcode::kAdd: return is_float_type ? rounded(Inst::FAdd) : plain(Inst::IAdd);
  case Opcode::kSub: return is_float_type ? rounded(Inst::FSub) : plain(Inst::ISub);
  case Opcode::kMul: return is_float_type ? rounded(Inst::FMul) : plain(Inst::IMul);
  case Opcode::kDiv: return is_float_type ? plain(Inst::FDiv) : divide(op, type, a, b);
  case Opcode::kRem:
    if (is_float_type)
      refuse(op, "fmod has to be expanded before");
    return divide(op, type, a, b);
  case Opcode::kDivU:
  case Opcode::kRemU: return divide(op, type, a, b);
  case Opcode::kMin: return is_float_type ? float_extremum(type, a, b, false) : pick(Inst::SLessThan);
  case Opcode::kMax: return is_float_type ? float_extremum(type, a, b, true) : pick(Inst::SGreaterThan);
  case Opcode::kMinU: return pick(Inst::ULessThan);
  case Opcode::kMaxU: return pick(Inst::UGreaterThan);
  case Opcode::kAnd: return plain(is_bool ? Inst::LogicalAnd : Inst::BitwiseAnd);
  case Opcode::kOr: return plain(is_bool ? Inst::LogicalOr : Inst::BitwiseOr);
  case Opcode::kXor: return plain(is_bool ? Inst::LogicalNotEqual : Inst::BitwiseXor);
  case Opcode::kShl: return shift(Inst::ShiftLeftLogical);
  case Opcode::kShr: return shift(Inst::ShiftRightArithmetic);
  case Opcode::kShrU: return shift(Inst::ShiftRightLogical);
  case Opcode::kCopySign: {
    Type ints = int_like(type);
    int64_t sign = bits(type.scalar) == 64 ? INT64_MIN : int64_t(1) << (bits(type.scalar) - 1);
    Id it = this->type(ints);
    Id magnitude = module_.emit_value(Inst::BitwiseAnd, it,
                                      {module_.emit_value(Inst::Bitcast, it, {a}), int_constant(ints, ~sign)});
    Id sign_bit = module_.emit_value(Inst::BitwiseAnd, it,
                                     {module_.emit_value(Inst::Bitcast, it, {b}), int_constant(ints, sign)});
    return module_.emit_value(Inst::Bitcast, t, {module_.emit_value(Inst::BitwiseOr, it, {magnitude, sign_bit})});
  }
  default: refuse(op, "no SPIR-V form");
  }
}

Id SpirvEmitter::unary(const Op &op, Type type, Id a) {
  Id t = this->type(type);
  bool is_float_type = is_float(type.scalar);
  switch (op.code) {
  case Opcode::kNeg: return module_.emit_value(is_float_type ? Inst::FNegate : Inst::SNegate, t, {a});
  case Opcode::kAbs: {
    if (is_float_type)
      return module_.glsl(Glsl::FAbs, t, {a});
    Id negative = module_.emit_value(Inst::SLessThan, bool_type(type), {a, int_constant(type, 0)});
    return select(negative, type, module_.emit_value(Inst::SNegate, t, {a}), a);
  }
  case Opcode::kNot: return module_.emit_value(type.scalar == Scalar::kBool ? Inst::LogicalNot : Inst::Not, t, {a});
  case Opcode::kSqrt: return module_.glsl(Glsl::Sqrt, t, {a});
  case Opcode::kFloor: return module_.glsl(Glsl::Floor, t, {a});
  case Opcode::kCeil: return module_.glsl(Glsl::Ceil, t, {a});
  case Opcode::kTrunc: return module_.glsl(Glsl::Trunc, t, {a});
  case Opcode::kRint: return module_.glsl(Glsl::RoundEven, t, {a});
  case Opcode::kIsNan: return is_nan(type, a);
  case Opcode::kIsInf: {
    Type ints = int_like(type);
    uint32_t width = bits(type.scalar);
    int64_t infinity = width == 16 ? 0x7c00 : width == 32 ? 0x7f800000 : 0x7ff0000000000000;
    int64_t magnitude = width == 64 ? INT64_MAX : (int64_t(1) << (width - 1)) - 1;
    Id raw = module_.emit_value(Inst::Bitcast, this->type(ints), {a});
    Id masked = module_.emit_value(Inst::BitwiseAnd, this->type(ints), {raw, int_constant(ints, magnitude)});
    return module_.emit_value(Inst::IEqual, bool_type(type), {masked, int_constant(ints, infinity)});
  }
  default: refuse(op, "no SPIR-V form");
  }
}

Id SpirvEmitter::compare(Opcode code, Type type, Id a, Id b) {
  Inst inst;
  bool f = is_float(type.scalar);
  if (type.scalar == Scalar::kBool) {
    ensure(code == Opcode::kEq || code == Opcode::kNe, "spirv: bools compare for equality only");
    inst = code == Opcode::kEq ? Inst::LogicalEqual : Inst::LogicalNotEqual;
  } else {
    switch (code) {
    case Opcode::kEq: inst = f ? Inst::FOrdEqual : Inst::IEqual; break;
    case Opcode::kNe: inst = f ? Inst::FUnordNotEqual : Inst::INotEqual; break;
    case Opcode::kLt: inst = f ? Inst::FOrdLessThan : Inst::SLessThan; break;
    case Opcode::kLe: inst = f ? Inst::FOrdLessThanEqual : Inst::SLessThanEqual; break;
    case Opcode::kGt: inst = f ? Inst::FOrdGreaterThan : Inst::SGreaterThan; break;
    case Opcode::kGe: inst = f ? Inst::FOrdGreaterThanEqual : Inst::SGreaterThanEqual; break;
    case Opcode::kLtU: inst = Inst::ULessThan; break;
    case Opcode::kLeU: inst = Inst::ULessThanEqual; break;
    case Opcode::kGtU: inst = Inst::UGreaterThan; break;
    default: inst = Inst::UGreaterThanEqual; break;
    }
  }
  return module_.emit_value(inst, bool_type(type), {a, b});
}

// Saturating, NaN -> 0. A value in range is converted; out of range, 0 is converted and the limit selected.
Id SpirvEmitter::float_to_int(Type from, Type to, Id a, bool is_unsigned) {
  uint32_t width = bits(to.scalar);
  double above = std::ldexp(1.0, static_cast<int>(is_unsigned ? width : width - 1)); // first value past the range
  double least = is_unsigned ? 0.0 : -above;
  int64_t max = is_unsigned ? -1 : width == 64 ? INT64_MAX : (int64_t(1) << (width - 1)) - 1;
  int64_t min = is_unsigned ? 0 : width == 64 ? INT64_MIN : -(int64_t(1) << (width - 1));
  // Every finite f16 fits in 32 bits, and f16 has no constant at 2^31: infinity stands for it.
  bool whole_range = from.scalar == Scalar::kF16 && width >= 32;
  Id flag = bool_type(from);
  Id high = float_constant(from, whole_range ? INFINITY : above);
  Id low = float_constant(from, whole_range && !is_unsigned ? -INFINITY : least);
  Id too_high = module_.emit_value(Inst::FOrdGreaterThanEqual, flag, {a, high});
  Id too_low = module_.emit_value(Inst::FOrdLessThanEqual, flag, {a, low});
  Id nan = is_nan(from, a);
  Id outside = module_.emit_value(Inst::LogicalOr, flag, {module_.emit_value(Inst::LogicalOr, flag, {too_high, too_low}), nan});
  Id safe = select(outside, from, float_constant(from, 0), a);
  Id converted = module_.emit_value(is_unsigned ? Inst::ConvertFToU : Inst::ConvertFToS, type(to), {safe});
  converted = select(too_high, to, int_constant(to, max), converted);
  return select(too_low, to, int_constant(to, min), converted);
}

Id SpirvEmitter::convert(const Op &op, Type from, Type to, Id a) {
  bool is_unsigned = op.code == Opcode::kConvertU;
  Id t = type(to);
  bool from_float = is_float(from.scalar), to_float = is_float(to.scalar);
  if (from.scalar == to.scalar)
    return a;
  if (to.scalar == Scalar::kBool) {
    if (from_float)
      return module_.emit_value(Inst::FUnordNotEqual, t, {a, float_constant(from, 0)});
    return module_.emit_value(Inst::INotEqual, t, {a, int_constant(from, 0)});
  }
  if (from.scalar == Scalar::kBool)
    return to_float ? select(a, to, float_constant(to, 1), float_constant(to, 0))
                    : select(a, to, int_constant(to, 1), int_constant(to, 0));
  if (from_float && to_float)
    return module_.emit_value(Inst::FConvert, t, {a});
  if (from_float)
    return float_to_int(from, to, a, is_unsigned);
  if (to_float)
    return module_.emit_value(is_unsigned ? Inst::ConvertUToF : Inst::ConvertSToF, t, {a});
  if (bits(from.scalar) == bits(to.scalar))
    return a; // i32 and index
  return module_.emit_value(is_unsigned ? Inst::UConvert : Inst::SConvert, t, {a});
}

Id SpirvEmitter::reduce(const Op &op) {
  Type from = kernel_.type_of(op.operands[0]), scalar = from.with_lanes(1);
  Op step = op;
  step.code = op.code == Opcode::kReduceAdd   ? Opcode::kAdd
              : op.code == Opcode::kReduceMul ? Opcode::kMul
              : op.code == Opcode::kReduceMin ? Opcode::kMin
                                              : Opcode::kMax;
  std::vector<Id> lanes;
  for (uint32_t i = 0; i < from.lanes; ++i)
    lanes.push_back(module_.emit_value(Inst::CompositeExtract, scalar_type(from.scalar), {value(op.operands[0]), i}));
  for (size_t half = lanes.size() / 2; half >= 1; half /= 2) // lane i with lane i + n/2
    for (size_t i = 0; i < half; ++i)
      lanes[i] = binary(step, scalar, lanes[i], lanes[i + half]);
  return lanes[0];
}

bool SpirvEmitter::arithmetic_op(const Op &op) {
  Type type = op.results.empty() ? Type() : kernel_.type_of(op.results[0]);
  auto operand = [&](size_t i) { return value(op.operands[i]); };
  auto operand_type = [&](size_t i) { return kernel_.type_of(op.operands[i]); };
  switch (op.code) {
  case Opcode::kConst:
    define(op, is_float(type.scalar) ? float_constant(type, op.fimm) : int_constant(type, op.imm));
    positive_[op.results[0]] = is_int(type.scalar) && op.imm > 0;
    return true;
  case Opcode::kLaneIota: {
    std::vector<Id> parts;
    for (uint32_t i = 0; i < type.lanes; ++i)
      parts.push_back(int_constant(type.with_lanes(1), i));
    define(op, type.is_vector() ? module_.constant_composite(this->type(type), parts) : parts[0]);
    return true;
  }
  case Opcode::kMad: {
    // Neither is decorated, so the target may fuse the two.
    bool f = is_float(type.scalar);
    Id t = this->type(type);
    Id product = module_.emit_value(f ? Inst::FMul : Inst::IMul, t, {operand(0), operand(1)});
    define(op, module_.emit_value(f ? Inst::FAdd : Inst::IAdd, t, {product, operand(2)}));
    return true;
  }
  case Opcode::kEq:
  case Opcode::kNe:
  case Opcode::kLt:
  case Opcode::kLe:
  case Opcode::kGt:
  case Opcode::kGe:
  case Opcode::kLtU:
  case Opcode::kLeU:
  case Opcode::kGtU:
  case Opcode::kGeU: define(op, compare(op.code, operand_type(0), operand(0), operand(1))); return true;
  case Opcode::kNeg:
  case Opcode::kAbs:
  case Opcode::kNot:
  case Opcode::kSqrt:
  case Opcode::kFloor:
  case Opcode::kCeil:
  case Opcode::kTrunc:
  case Opcode::kRint:
  case Opcode::kIsNan:
  case Opcode::kIsInf: define(op, unary(op, operand_type(0), operand(0))); return true;
  case Opcode::kSelect: {
    Id condition = operand_type(0).is_vector() ? operand(0) : lane_broadcast(operand(0), Type(Scalar::kBool, type.lanes));
    define(op, select(condition, type, operand(1), operand(2)));
    return true;
  }
  case Opcode::kConvert:
  case Opcode::kConvertU: define(op, convert(op, operand_type(0), type, operand(0))); return true;
  case Opcode::kBitcast: {
    bool same = this->type(operand_type(0)) == this->type(type);
    define(op, same ? operand(0) : module_.emit_value(Inst::Bitcast, this->type(type), {operand(0)}));
    return true;
  }
  case Opcode::kSplat:
    define(op, lane_broadcast(operand(0), type));
    positive_[op.results[0]] = positive_[op.operands[0]];
    return true;
  case Opcode::kExtract:
    define(op, module_.emit_value(Inst::CompositeExtract, this->type(type), {operand(0), static_cast<uint32_t>(op.imm)}));
    return true;
  case Opcode::kInsert:
    define(op, module_.emit_value(Inst::CompositeInsert, this->type(type),
                                  {operand(1), operand(0), static_cast<uint32_t>(op.imm)}));
    return true;
  case Opcode::kShuffle: {
    // Extracts and a construct: the operands may be wider than what SPIR-V's shuffle takes as literals, or scalars.
    uint32_t first = operand_type(0).lanes;
    std::vector<Id> parts;
    for (int64_t lane : op.imms) {
      size_t from = lane < first ? 0 : 1;
      uint32_t number = static_cast<uint32_t>(lane) - (from ? first : 0);
      parts.push_back(operand_type(from).is_vector()
                          ? module_.emit_value(Inst::CompositeExtract, scalar_type(type.scalar), {operand(from), number})
                          : operand(from));
    }
    define(op, type.is_vector() ? module_.emit_value(Inst::CompositeConstruct, this->type(type), parts) : parts[0]);
    return true;
  }
  case Opcode::kReduceAdd:
  case Opcode::kReduceMul:
  case Opcode::kReduceMin:
  case Opcode::kReduceMax: define(op, reduce(op)); return true;
  case Opcode::kSubgroupAdd:
  case Opcode::kSubgroupMin:
  case Opcode::kSubgroupMax: {
    module_.capability(kGroupNonUniform);
    module_.capability(kGroupNonUniformArithmetic);
    bool f = is_float(type.scalar);
    Inst inst = op.code == Opcode::kSubgroupAdd   ? (f ? Inst::GroupNonUniformFAdd : Inst::GroupNonUniformIAdd)
                : op.code == Opcode::kSubgroupMin ? (f ? Inst::GroupNonUniformFMin : Inst::GroupNonUniformSMin)
                                                  : (f ? Inst::GroupNonUniformFMax : Inst::GroupNonUniformSMax);
    define(op, module_.emit_value(inst, this->type(type),
                                  {module_.constant_u32(kScopeSubgroup), kGroupOperationReduce, operand(0)}));
    return true;
  }
  case Opcode::kSubgroupShuffle:
    module_.capability(kGroupNonUniform);
    module_.capability(kGroupNonUniformShuffle);
    define(op, module_.emit_value(Inst::GroupNonUniformShuffle, this->type(type),
                                  {module_.constant_u32(kScopeSubgroup), operand(0), operand(1)}));
    return true;
  case Opcode::kAdd:
  case Opcode::kSub:
  case Opcode::kMul:
  case Opcode::kDiv:
  case Opcode::kRem:
  case Opcode::kDivU:
  case Opcode::kRemU:
  case Opcode::kMin:
  case Opcode::kMax:
  case Opcode::kMinU:
  case Opcode::kMaxU:
  case Opcode::kAnd:
  case Opcode::kOr:
  case Opcode::kXor:
  case Opcode::kShl:
  case Opcode::kShr:
  case Opcode::kShrU:
  case Opcode::kCopySign: define(op, binary(op, type, operand(0), operand(1))); return true;
  default: return false; // kFma among them: GLSL's Fma need not be exact
  }
}

} // namespace ingot::aotc::emit::spv
