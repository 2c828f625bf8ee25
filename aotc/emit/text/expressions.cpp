// TextPrinter: the ops that compute values, as expressions. Every op is total as kernel.h defines it, whatever the
// language leaves open: guards are written out. Sub-expressions are always in parentheses: WGSL gives no precedence
// between several operators.
#include <cmath>
#include <cstdio>

#include "aotc/base/error.h"
#include "aotc/emit/text/printer.h"

namespace ingot::aotc::emit::text {

using kernel::Op;
using kernel::Opcode;
using kernel::ValueId;

Type TextPrinter::int_like(Type type) const {
  switch (type.scalar == Scalar::kIndex ? 32 : bit_width(type.scalar)) {
  case 8: return Type(Scalar::kI8, type.lanes);
  case 16: return Type(Scalar::kI16, type.lanes);
  case 64: return Type(Scalar::kI64, type.lanes);
  default: return Type(Scalar::kI32, type.lanes);
  }
}

std::string TextPrinter::construct(Type type, const std::vector<std::string> &parts) {
  if (!type.is_vector())
    return parts.at(0);
  std::string text = dialect_.type(type) + "(";
  for (size_t i = 0; i < parts.size(); ++i)
    text += (i ? ", " : "") + parts[i];
  return text + ")";
}

std::string TextPrinter::int_constant(Type type, int64_t value) {
  std::string literal = type.scalar == Scalar::kBool ? std::string(value ? "true" : "false")
                                                     : dialect_.int_literal(type.scalar, value);
  return type.is_vector() ? dialect_.type(type) + "(" + literal + ")" : literal;
}

std::string TextPrinter::constant(Type type, int64_t imm, double fimm) {
  if (!is_float(type.scalar))
    return int_constant(type, imm);
  Type scalar = type.with_lanes(1);
  std::string literal;
  // A literal must be finite; denormals and -0 may get lost in a compiler: all of those go through bits.
  bool plain = std::isnormal(fimm) || (fimm == 0 && !std::signbit(fimm));
  if (plain && type.scalar == Scalar::kF32)
    plain = std::fabs(fimm) >= 0x1p-126;
  if (fimm == 0 && !std::signbit(fimm))
    plain = true;
  if (plain) {
    char text[64];
    std::snprintf(text, sizeof text, "%a", fimm);
    literal = dialect_.float_literal(type.scalar, text);
  } else {
    ensure(type.scalar == Scalar::kF32, "text: special constants are f32");
    float narrow = static_cast<float>(fimm);
    int32_t bits;
    static_assert(sizeof bits == sizeof narrow);
    __builtin_memcpy(&bits, &narrow, sizeof bits);
    // The bits are held in a local: WGSL evaluates constant expressions and refuses infinity and NaN in them.
    literal = dialect_.bitcast(dialect_.type(scalar), hold(Type(Scalar::kI32), int_constant(Type(Scalar::kI32), bits)));
  }
  return type.is_vector() ? dialect_.type(type) + "(" + literal + ")" : literal;
}

std::string TextPrinter::select(Type type, const std::string &condition, const std::string &a, const std::string &b) {
  return dialect_.select(type, condition, a, b);
}

std::string TextPrinter::is_nan(Type type, const std::string &a) {
  Type ints = int_like(type);
  int64_t infinity = bit_width(type.scalar) == 16 ? 0x7c00 : 0x7f800000;
  int64_t magnitude = bit_width(type.scalar) == 16 ? 0x7fff : 0x7fffffff;
  return "((" + bits_of(type, a) + " & " + int_constant(ints, magnitude) + ") > " + int_constant(ints, infinity) + ")";
}

std::string TextPrinter::binary(Opcode code, bool contract, Type type, const std::string &a, const std::string &b,
                                bool positive_b) {
  (void)contract; // WGSL has no say in it; MSL turns contraction off for the whole file
  bool f = is_float(type.scalar), is_bool = type.scalar == Scalar::kBool;
  std::string unsigned_type = f || is_bool ? "" : dialect_.type(type, true), plain_type = dialect_.type(type);
  auto as_unsigned = [&](const std::string &x) { return dialect_.bitcast(unsigned_type, x); };
  // C++ computes with 8 and 16 bits as int.
  bool promoted = !unsigned_type.empty() && !type.is_vector() && type.scalar != Scalar::kIndex && bit_width(type.scalar) < 32;
  auto from_unsigned = [&](const std::string &x) { return dialect_.bitcast(plain_type, promoted ? unsigned_type + x : x); };
  auto infix = [&](const char *op) { return "(" + a + " " + op + " " + b + ")"; };
  auto pick = [&](const std::string &condition) { return select(type, condition, a, b); };
  auto divide = [&](bool is_unsigned, bool remainder) -> std::string {
    bool zero_guard = !positive_b, minus_guard = zero_guard && !is_unsigned && type.scalar != Scalar::kIndex;
    std::string divisor = b, is_zero, is_minus_one;
    if (zero_guard) {
      is_zero = "(" + b + " == " + int_constant(type, 0) + ")";
      std::string unsafe = is_zero;
      if (minus_guard) {
        is_minus_one = "(" + b + " == " + int_constant(type, -1) + ")";
        unsafe = "(" + is_zero + " | " + is_minus_one + ")";
      }
      divisor = hold(type, select(type, unsafe, int_constant(type, 1), b));
    }
    std::string quotient =
        hold(type, is_unsigned ? from_unsigned("(" + as_unsigned(a) + " / " + as_unsigned(divisor) + ")")
                               : "(" + a + " / " + divisor + ")");
    if (remainder) {
      std::string rest = dialect_.arithmetic("-", type, a, dialect_.arithmetic("*", type, quotient, divisor));
      return zero_guard ? select(type, is_zero, int_constant(type, 0), rest) : rest;
    }
    if (minus_guard)
      quotient = select(type, is_minus_one, dialect_.negate(type, a), quotient);
    return zero_guard ? select(type, is_zero, int_constant(type, 0), quotient) : quotient;
  };
  switch (code) {
  case Opcode::kAdd: return dialect_.arithmetic("+", type, a, b);
  case Opcode::kSub: return dialect_.arithmetic("-", type, a, b);
  case Opcode::kMul: return dialect_.arithmetic("*", type, a, b);
  case Opcode::kDiv: return f ? infix("/") : divide(false, false);
  case Opcode::kRem:
    ensure(!f, "text: fmod has to be expanded before");
    return divide(false, true);
  case Opcode::kDivU: return divide(true, false);
  case Opcode::kRemU: return divide(true, true);
  // A NaN in a passes by the first condition; one in b makes the comparison false.
  case Opcode::kMin: return f ? pick("(" + is_nan(type, a) + " | " + infix("<") + ")") : pick(infix("<"));
  case Opcode::kMax: return f ? pick("(" + is_nan(type, a) + " | " + infix(">") + ")") : pick(infix(">"));
  case Opcode::kMinU: return pick("(" + as_unsigned(a) + " < " + as_unsigned(b) + ")");
  case Opcode::kMaxU: return pick("(" + as_unsigned(a) + " > " + as_unsigned(b) + ")");
  case Opcode::kAnd: return infix("&");
  case Opcode::kOr: return infix("|");
  case Opcode::kXor: return is_bool ? infix("!=") : infix("^");
  case Opcode::kShl:
    return from_unsigned("(" + as_unsigned(a) + " << " + dialect_.shift_amount(type, b) + ")");
  case Opcode::kShr: return "(" + a + " >> " + dialect_.signed_shift_amount(type, b) + ")";
  case Opcode::kShrU:
    return from_unsigned("(" + as_unsigned(a) + " >> " + dialect_.shift_amount(type, b) + ")");
  case Opcode::kCopySign: {
    Type ints = int_like(type);
    int64_t sign = bit_width(type.scalar) == 16 ? INT16_MIN : INT32_MIN;
    return dialect_.bitcast(plain_type, "((" + bits_of(type, a) + " & " + int_constant(ints, ~sign) + ") | (" +
                                            bits_of(type, b) + " & " + int_constant(ints, sign) + "))");
  }
  default: throw InternalError("text: '" + std::string(kernel::name(code)) + "' is no binary op");
  }
}

std::string TextPrinter::unary(const Op &op, Type type, const std::string &a) {
  bool f = is_float(type.scalar);
  switch (op.code) {
  case Opcode::kNeg: return dialect_.negate(type, a);
  case Opcode::kAbs:
    return f ? "abs(" + a + ")"
             : select(type, "(" + a + " < " + int_constant(type, 0) + ")", dialect_.negate(type, a), a);
  case Opcode::kNot: return type.scalar == Scalar::kBool ? "(!" + a + ")" : "(~" + a + ")";
  case Opcode::kSqrt: return "sqrt(" + a + ")";
  case Opcode::kFloor: return "floor(" + a + ")";
  case Opcode::kCeil: return "ceil(" + a + ")";
  case Opcode::kTrunc: return "trunc(" + a + ")";
  case Opcode::kRint: return std::string(dialect_.round_even()) + "(" + a + ")";
  case Opcode::kIsNan: return is_nan(type, a);
  case Opcode::kIsInf: {
    Type ints = int_like(type);
    bool half = bit_width(type.scalar) == 16;
    return "((" + bits_of(type, a) + " & " + int_constant(ints, half ? 0x7fff : 0x7fffffff) +
           ") == " + int_constant(ints, half ? 0x7c00 : 0x7f800000) + ")";
  }
  default: refuse(op, "no form in this language");
  }
}

std::string TextPrinter::compare(Opcode code, Type type, const std::string &a, const std::string &b) {
  auto infix = [&](const char *op) { return "(" + a + " " + op + " " + b + ")"; };
  auto infix_u = [&](const char *op) {
    std::string t = dialect_.type(type, true);
    return "(" + dialect_.bitcast(t, a) + " " + op + " " + dialect_.bitcast(t, b) + ")";
  };
  switch (code) {
  case Opcode::kEq: return infix("==");
  case Opcode::kNe: return infix("!=");
  case Opcode::kLt: return infix("<");
  case Opcode::kLe: return infix("<=");
  case Opcode::kGt: return infix(">");
  case Opcode::kGe: return infix(">=");
  case Opcode::kLtU: return infix_u("<");
  case Opcode::kLeU: return infix_u("<=");
  case Opcode::kGtU: return infix_u(">");
  default: return infix_u(">=");
  }
}

std::string TextPrinter::convert(const Op &op, Type from, Type to, const std::string &a) {
  bool is_unsigned = op.code == Opcode::kConvertU;
  bool from_float = is_float(from.scalar), to_float = is_float(to.scalar);
  std::string to_type = dialect_.type(to);
  if (from.scalar == to.scalar)
    return a;
  if (to.scalar == Scalar::kBool)
    return "(" + a + " != " + (from_float ? constant(from, 0, 0.0) : int_constant(from, 0)) + ")";
  if (from.scalar == Scalar::kBool)
    return to_float ? select(to, a, constant(to, 0, 1.0), constant(to, 0, 0.0))
                    : select(to, a, int_constant(to, 1), int_constant(to, 0));
  if (from_float && to_float)
    return to_type + "(" + a + ")";
  if (!from_float && !to_float) {
    if (int_like(from) == int_like(to))
      return a; // i32 and index
    if (is_unsigned)
      return dialect_.bitcast(to_type, dialect_.type(to, true) + "(" + dialect_.bitcast(dialect_.type(from, true), a) + ")");
    return to_type + "(" + a + ")";
  }
  if (to_float)
    return to_type + "(" + (is_unsigned ? dialect_.bitcast(dialect_.type(from, true), a) : a) + ")";
  // Saturating, NaN -> 0: a value in range is converted; out of range, 0 is converted and the limit selected.
  if (from.scalar != Scalar::kF32)
    refuse(op, "only f32 converts to integers here");
  int width = static_cast<int>(bit_width(int_like(to).scalar));
  double above = std::ldexp(1.0, is_unsigned ? width : width - 1);
  int64_t max = is_unsigned ? -1 : width == 64 ? INT64_MAX : (int64_t(1) << (width - 1)) - 1;
  int64_t min = is_unsigned ? 0 : width == 64 ? INT64_MIN : -(int64_t(1) << (width - 1));
  Type flag = bool_like(from);
  std::string too_high = hold(flag, "(" + a + " >= " + constant(from, 0, above) + ")");
  std::string too_low = hold(flag, "(" + a + " <= " + constant(from, 0, is_unsigned ? 0.0 : -above) + ")");
  std::string safe = hold(from, select(from, "(" + too_high + " | (" + too_low + " | " + is_nan(from, a) + "))",
                                       constant(from, 0, 0.0), a));
  std::string converted = is_unsigned ? dialect_.bitcast(to_type, dialect_.type(to, true) + "(" + safe + ")")
                                      : to_type + "(" + safe + ")";
  return select(to, too_low, int_constant(to, min), select(to, too_high, int_constant(to, max), converted));
}

std::string TextPrinter::expression(const Op &op) {
  Type type = kernel_.type_of(op.results[0]);
  auto operand_type = [&](size_t i) { return kernel_.type_of(op.operands[i]); };
  auto operand = [&](size_t i) { return v(op.operands[i]); };
  static const char *const kDimension[] = {"x", "y", "z"};
  ValueId result = op.results[0];
  switch (op.code) {
  case Opcode::kConst:
    positive_[result] = is_int(type.scalar) && op.imm > 0;
    return constant(type, op.imm, op.fimm);
  case Opcode::kParam: {
    const kernel::Param &param = kernel_.params[static_cast<size_t>(op.imm)];
    positive_[result] = param.type != Scalar::kF32 && param.min > 0;
    return "params." + param_name(param);
  }
  case Opcode::kGroupId:
  case Opcode::kLocalId:
  case Opcode::kGridSize: {
    const char *which = op.code == Opcode::kGroupId ? "group_id" : op.code == Opcode::kLocalId ? "local_id" : "grid_size";
    positive_[result] = op.code == Opcode::kGridSize;
    return dialect_.type(type) + "(" + which + "." + kDimension[op.imm] + ")";
  }
  case Opcode::kLaneIota: {
    std::vector<std::string> parts;
    for (uint32_t i = 0; i < type.lanes; ++i)
      parts.push_back(int_constant(type.with_lanes(1), i));
    return construct(type, parts);
  }
  case Opcode::kMad: return dialect_.mad(type, operand(0), operand(1), operand(2));
  case Opcode::kSelect: {
    std::string condition = operand(0);
    if (type.is_vector() && !operand_type(0).is_vector())
      condition = dialect_.type(bool_like(type)) + "(" + condition + ")";
    return select(type, condition, operand(1), operand(2));
  }
  case Opcode::kConvert:
  case Opcode::kConvertU: return convert(op, operand_type(0), type, operand(0));
  case Opcode::kBitcast: return dialect_.bitcast(dialect_.type(type), operand(0));
  case Opcode::kSplat:
    positive_[result] = positive_[op.operands[0]];
    return type.is_vector() ? dialect_.type(type) + "(" + operand(0) + ")" : operand(0);
  case Opcode::kExtract: return lane(op.operands[0], static_cast<uint32_t>(op.imm));
  case Opcode::kInsert: {
    std::vector<std::string> parts;
    for (uint32_t i = 0; i < type.lanes; ++i)
      parts.push_back(i == static_cast<uint32_t>(op.imm) ? operand(1) : lane(op.operands[0], i));
    return construct(type, parts);
  }
  case Opcode::kShuffle: {
    uint32_t first = operand_type(0).lanes;
    std::vector<std::string> parts;
    for (int64_t number : op.imms)
      parts.push_back(number < first ? lane(op.operands[0], static_cast<uint32_t>(number))
                                     : lane(op.operands[1], static_cast<uint32_t>(number) - first));
    return construct(type, parts);
  }
  case Opcode::kReduceAdd:
  case Opcode::kReduceMul:
  case Opcode::kReduceMin:
  case Opcode::kReduceMax: {
    Opcode step = op.code == Opcode::kReduceAdd   ? Opcode::kAdd
                  : op.code == Opcode::kReduceMul ? Opcode::kMul
                  : op.code == Opcode::kReduceMin ? Opcode::kMin
                                                  : Opcode::kMax;
    std::vector<std::string> lanes;
    for (uint32_t i = 0; i < operand_type(0).lanes; ++i)
      lanes.push_back(lane(op.operands[0], i));
    for (size_t half = lanes.size() / 2; half >= 1; half /= 2) // lane i with lane i + n/2
      for (size_t i = 0; i < half; ++i)
        lanes[i] = hold(type, binary(step, false, type, lanes[i], lanes[i + half], false));
    return lanes[0];
  }
  case Opcode::kSubgroupAdd:
  case Opcode::kSubgroupMin:
  case Opcode::kSubgroupMax:
  case Opcode::kSubgroupShuffle: {
    std::vector<std::string> operands;
    for (ValueId value : op.operands)
      operands.push_back(v(value));
    return dialect_.subgroup(op.code, operands);
  }
  case Opcode::kFma: refuse(op, "no exact fma; use mad");
  default: break;
  }
  if (kernel::is_compare(op.code))
    return compare(op.code, operand_type(0), operand(0), operand(1));
  if (op.operands.size() == 2)
    return binary(op.code, op.contract, type, operand(0), operand(1), positive_[op.operands[1]]);
  if (op.operands.size() == 1 && !kernel::is_math(op.code))
    return unary(op, operand_type(0), operand(0));
  refuse(op, "no form in this language");
}

} // namespace ingot::aotc::emit::text
