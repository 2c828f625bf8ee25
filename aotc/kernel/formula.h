// V: a value with its builder and operators, so that passes which emit many ops can write them as formulas.
#pragma once

#include "aotc/kernel/builder.h"

namespace ingot::aotc::kernel {

struct V {
  Builder *b;
  ValueId id;
  V binary(Opcode op, V y) const { return {b, b->binary(op, id, y.id)}; }
  V unary(Opcode op) const { return {b, b->unary(op, id)}; }
};
inline V operator+(V x, V y) { return x.binary(Opcode::kAdd, y); }
inline V operator-(V x, V y) { return x.binary(Opcode::kSub, y); }
inline V operator*(V x, V y) { return x.binary(Opcode::kMul, y); }
inline V operator/(V x, V y) { return x.binary(Opcode::kDiv, y); }
inline V operator&(V x, V y) { return x.binary(Opcode::kAnd, y); }
inline V operator|(V x, V y) { return x.binary(Opcode::kOr, y); }
inline V operator^(V x, V y) { return x.binary(Opcode::kXor, y); }
inline V operator<(V x, V y) { return {x.b, x.b->compare(Opcode::kLt, x.id, y.id)}; }
inline V operator>(V x, V y) { return {x.b, x.b->compare(Opcode::kGt, x.id, y.id)}; }
inline V operator>=(V x, V y) { return {x.b, x.b->compare(Opcode::kGe, x.id, y.id)}; }
inline V operator==(V x, V y) { return {x.b, x.b->compare(Opcode::kEq, x.id, y.id)}; }
inline V operator!=(V x, V y) { return {x.b, x.b->compare(Opcode::kNe, x.id, y.id)}; }
inline V operator-(V x) { return x.unary(Opcode::kNeg); }
inline V mad(V x, V y, V z) { return {x.b, x.b->mad(x.id, y.id, z.id)}; }
inline V select(V c, V x, V y) { return {x.b, x.b->select(c.id, x.id, y.id)}; }
inline V abs(V x) { return x.unary(Opcode::kAbs); }
inline V rint(V x) { return x.unary(Opcode::kRint); }
inline V sqrt(V x) { return x.unary(Opcode::kSqrt); }
inline V min(V x, V y) { return x.binary(Opcode::kMin, y); }
inline V max(V x, V y) { return x.binary(Opcode::kMax, y); }
inline V copy_sign(V x, V y) { return x.binary(Opcode::kCopySign, y); }

inline V shl(V x, V n) { return x.binary(Opcode::kShl, n); }
inline V shr(V x, V n) { return x.binary(Opcode::kShr, n); }
inline V shr_u(V x, V n) { return x.binary(Opcode::kShrU, n); }
inline V less_u(V x, V y) { return {x.b, x.b->compare(Opcode::kLtU, x.id, y.id)}; }
inline V logical_not(V x) { return x.unary(Opcode::kNot); }

} // namespace ingot::aotc::kernel
