// Arithmetic, comparisons and vectors. Each op is total: where LLVM's instruction has undefined or poison results, the
// operands are made safe first and the written result is selected afterwards.
#include "aotc/base/error.h"
#include "aotc/emit/llvm/function_emitter.h"

#include "llvm/Analysis/SimplifyQuery.h"
#include "llvm/Analysis/ValueTracking.h"
#include "llvm/IR/IntrinsicsX86.h"

namespace ingot::aotc {

using kernel::Op;
using kernel::Opcode;

namespace {

bool is_16_bit_float(Scalar s) { return s == Scalar::kF16 || s == Scalar::kBF16; }

} // namespace

FunctionEmitter::V FunctionEmitter::arithmetic(Opcode code, Type type, const VV &x, bool contract) {
  if (type.scalar == Scalar::kBool || is_int(type.scalar))
    return int_arithmetic(code, type, x);
  if (!is_16_bit_float(type.scalar))
    return float_arithmetic(code, type, x, contract);

  // f16 and bf16: sign operations on the bits, the rest in f32, rounded once.
  uint64_t sign = 0x8000;
  llvm::Type *t = type_of(type);
  switch (code) {
  case Opcode::kNeg: return b_.CreateXor(x[0], int_splat(t, sign));
  case Opcode::kAbs: return b_.CreateAnd(x[0], int_splat(t, 0x7fff));
  case Opcode::kCopySign:
    return b_.CreateOr(b_.CreateAnd(x[0], int_splat(t, 0x7fff)), b_.CreateAnd(x[1], int_splat(t, sign)));
  case Opcode::kMad: // not fused: the product is a value of the type too
    if (!record_.has_fma || !traits_.fma)
      return arithmetic(Opcode::kAdd, type, {arithmetic(Opcode::kMul, type, {x[0], x[1]}, contract), x[2]}, contract);
    break;
  default: break;
  }
  VV wide;
  for (V v : x)
    wide.push_back(to_f32(type, v));
  return from_f32(type.scalar, float_arithmetic(code, type.with_scalar(Scalar::kF32), wide, contract));
}

FunctionEmitter::V FunctionEmitter::int_arithmetic(Opcode code, Type type, const VV &x) {
  llvm::Type *t = type_of(type);
  bool nsw = type.scalar == Scalar::kIndex; // never overflows by construction
  auto masked = [&](V amount) { return b_.CreateAnd(amount, int_splat(t, bits_of(type.scalar) - 1)); };
  switch (code) {
  case Opcode::kAdd: return b_.CreateAdd(x[0], x[1], "", false, nsw);
  case Opcode::kSub: return b_.CreateSub(x[0], x[1], "", false, nsw);
  case Opcode::kMul: return b_.CreateMul(x[0], x[1], "", false, nsw);
  case Opcode::kMad: return b_.CreateAdd(b_.CreateMul(x[0], x[1], "", false, nsw), x[2], "", false, nsw);
  case Opcode::kDiv: case Opcode::kRem: case Opcode::kDivU: case Opcode::kRemU: return divide(code, type, x[0], x[1]);
  case Opcode::kMin: return b_.CreateBinaryIntrinsic(llvm::Intrinsic::smin, x[0], x[1]);
  case Opcode::kMax: return b_.CreateBinaryIntrinsic(llvm::Intrinsic::smax, x[0], x[1]);
  case Opcode::kMinU: return b_.CreateBinaryIntrinsic(llvm::Intrinsic::umin, x[0], x[1]);
  case Opcode::kMaxU: return b_.CreateBinaryIntrinsic(llvm::Intrinsic::umax, x[0], x[1]);
  case Opcode::kAnd: return b_.CreateAnd(x[0], x[1]);
  case Opcode::kOr: return b_.CreateOr(x[0], x[1]);
  case Opcode::kXor: return b_.CreateXor(x[0], x[1]);
  case Opcode::kShl: return b_.CreateShl(x[0], masked(x[1]));
  case Opcode::kShr: return b_.CreateAShr(x[0], masked(x[1]));
  case Opcode::kShrU: return b_.CreateLShr(x[0], masked(x[1]));
  case Opcode::kNeg: return b_.CreateNeg(x[0], "", nsw);
  case Opcode::kAbs: return b_.CreateBinaryIntrinsic(llvm::Intrinsic::abs, x[0], b_.getFalse());
  case Opcode::kNot: return b_.CreateNot(x[0]);
  default: fail("op " + std::string(kernel::name(code)) + " on " + to_string(type));
  }
}

// x/0 = 0, x%0 = 0, MIN/-1 = MIN, MIN%-1 = 0. A divisor of 0 or -1 is replaced by 1, and the result corrected.
FunctionEmitter::V FunctionEmitter::divide(Opcode code, Type type, V a, V b) {
  llvm::Type *t = type_of(type);
  V zero = int_splat(t, 0), one = int_splat(t, 1);
  bool is_signed = code == Opcode::kDiv || code == Opcode::kRem;
  // Divisors known to be neither (tile sizes, extents with a range) need no guard.
  llvm::KnownBits known = llvm::computeKnownBits(b, module_.getDataLayout());
  bool nonzero = known.isNonZero() || llvm::isKnownNonZero(b, llvm::SimplifyQuery(module_.getDataLayout()));
  bool plain = nonzero && (!is_signed || known.isNonNegative() || type.scalar == Scalar::kIndex);
  V by_zero = b_.CreateICmpEQ(b, zero);
  if (!is_signed) {
    V safe = plain ? b : b_.CreateSelect(by_zero, one, b);
    V r = code == Opcode::kDivU ? b_.CreateUDiv(a, safe) : b_.CreateURem(a, safe);
    return plain ? r : b_.CreateSelect(by_zero, zero, r); // x%1 is 0 too, and the select folds away
  }
  V safe = b;
  if (!plain)
    safe = b_.CreateSelect(b_.CreateICmpULE(b_.CreateAdd(b, one), one), one, b);
  if (code == Opcode::kRem)
    return b_.CreateSRem(a, safe);
  V r = b_.CreateSDiv(a, safe);
  if (plain)
    return r;
  r = b_.CreateSelect(b_.CreateICmpEQ(b, int_splat(t, ~uint64_t{0})), b_.CreateNeg(a), r);
  return b_.CreateSelect(by_zero, zero, r);
}

FunctionEmitter::V FunctionEmitter::float_arithmetic(Opcode code, Type type, const VV &x, bool contract) {
  llvm::Type *t = type_of(type);
  auto flagged = [&](V v) {
    if (auto *i = llvm::dyn_cast<llvm::Instruction>(v); i && contract)
      i->setHasAllowContract(true);
    return v;
  };
  switch (code) {
  case Opcode::kAdd: return flagged(b_.CreateFAdd(x[0], x[1]));
  case Opcode::kSub: return flagged(b_.CreateFSub(x[0], x[1]));
  case Opcode::kMul: return flagged(b_.CreateFMul(x[0], x[1]));
  case Opcode::kDiv: return b_.CreateFDiv(x[0], x[1]);
  case Opcode::kRem: return float_rem(type, x[0], x[1]);
  case Opcode::kMin: return float_min_max(false, x[0], x[1]);
  case Opcode::kMax: return float_min_max(true, x[0], x[1]);
  case Opcode::kNeg: return b_.CreateFNeg(x[0]);
  case Opcode::kAbs: return b_.CreateUnaryIntrinsic(llvm::Intrinsic::fabs, x[0]);
  case Opcode::kMad:
    if (!record_.has_fma || !traits_.fma)
      return b_.CreateFAdd(b_.CreateFMul(x[0], x[1]), x[2]);
    return b_.CreateIntrinsic(llvm::Intrinsic::fma, {t}, {x[0], x[1], x[2]});
  case Opcode::kFma:
    if (!traits_.fma)
      fail("an exact fma, which the target has no instruction for");
    return b_.CreateIntrinsic(llvm::Intrinsic::fma, {t}, {x[0], x[1], x[2]});
  case Opcode::kSqrt: return b_.CreateUnaryIntrinsic(llvm::Intrinsic::sqrt, x[0]);
  case Opcode::kFloor: case Opcode::kCeil: case Opcode::kTrunc: case Opcode::kRint: return round(code, x[0]);
  case Opcode::kCopySign: {
    bool f64 = type.scalar == Scalar::kF64;
    llvm::Type *bits = type_of(type.with_scalar(f64 ? Scalar::kI64 : Scalar::kI32));
    uint64_t sign = f64 ? uint64_t{1} << 63 : uint64_t{1} << 31;
    V magnitude = b_.CreateAnd(b_.CreateBitCast(x[0], bits), int_splat(bits, sign - 1));
    V s = b_.CreateAnd(b_.CreateBitCast(x[1], bits), int_splat(bits, sign));
    return b_.CreateBitCast(b_.CreateOr(magnitude, s), t);
  }
  default:
    fail("op " + std::string(kernel::name(code)) + " on " + to_string(type) +
         "; math functions must have been expanded by the math library");
  }
}

// A NaN operand gives NaN. `a > b ? a : b` is one instruction on most machines and gives b where either is NaN, so an
// operand that cannot be NaN goes first and the check of it is dropped. LLVM does the same for its own intrinsic where
// the sign of zeros does not matter: max(x, 0) is one instruction, max(x, y) on x86 three.
FunctionEmitter::V FunctionEmitter::float_min_max(bool max, V a, V b) {
  if (traits_.nan_min_max || (traits_.nan_min_max_f32 && a->getType()->getScalarType()->isFloatTy())) {
    V v = b_.CreateBinaryIntrinsic(max ? llvm::Intrinsic::maximum : llvm::Intrinsic::minimum, a, b);
    if (auto *call = llvm::dyn_cast<llvm::CallInst>(v))
      call->setHasNoSignedZeros(true);
    return v;
  }
  llvm::SimplifyQuery query(module_.getDataLayout());
  bool a_safe = llvm::isKnownNeverNaN(a, 0, query);
  if (!a_safe && llvm::isKnownNeverNaN(b, 0, query)) {
    std::swap(a, b);
    a_safe = true;
  }
  V picked = b_.CreateSelect(max ? b_.CreateFCmpOGT(a, b) : b_.CreateFCmpOLT(a, b), a, b);
  return a_safe ? picked : b_.CreateSelect(b_.CreateFCmpUNO(a, a), a, picked);
}

// Without rounding instructions: through integers below 2^mantissa, where every value has a fraction, and unchanged
// above, where none has. The sign is put back, so that -0.5 gives -0.
FunctionEmitter::V FunctionEmitter::round(Opcode code, V x) {
  if (traits_.rounding) {
    llvm::Intrinsic::ID id = code == Opcode::kFloor  ? llvm::Intrinsic::floor
                             : code == Opcode::kCeil ? llvm::Intrinsic::ceil
                             : code == Opcode::kTrunc ? llvm::Intrinsic::trunc
                                                      : llvm::Intrinsic::roundeven;
    return b_.CreateUnaryIntrinsic(id, x);
  }
  llvm::Type *t = x->getType();
  bool f64 = t->getScalarType()->isDoubleTy();
  double limit = f64 ? 0x1p52 : 0x1p23;
  V magnitude = b_.CreateUnaryIntrinsic(llvm::Intrinsic::fabs, x);
  V small = b_.CreateFCmpOLT(magnitude, float_splat(t, limit));
  V r;
  if (code == Opcode::kRint) {
    r = b_.CreateFSub(b_.CreateFAdd(magnitude, float_splat(t, limit)), float_splat(t, limit)); // no fast-math: kept
  } else {
    llvm::Type *integer = like(t, f64 ? b_.getInt64Ty() : b_.getInt32Ty());
    V safe = b_.CreateSelect(small, magnitude, float_splat(t, 0));
    r = b_.CreateSIToFP(b_.CreateFPToSI(safe, integer), t); // trunc of the magnitude
    V negative = b_.CreateFCmpOLT(x, float_splat(t, 0));
    V up = b_.CreateFAdd(r, float_splat(t, 1));
    V fraction = b_.CreateFCmpOLT(r, safe);
    if (code == Opcode::kFloor)
      r = b_.CreateSelect(b_.CreateAnd(negative, fraction), up, r);
    else if (code == Opcode::kCeil)
      r = b_.CreateSelect(b_.CreateAnd(b_.CreateNot(negative), fraction), up, r);
  }
  return b_.CreateSelect(small, b_.CreateBinaryIntrinsic(llvm::Intrinsic::copysign, r, x), x);
}

FunctionEmitter::V FunctionEmitter::float_rem(Type type, V a, V b) {
  llvm::Function *fmod = fmod_function(type.scalar == Scalar::kF64);
  if (!type.is_vector())
    return b_.CreateCall(fmod, {a, b});
  V result = llvm::PoisonValue::get(type_of(type));
  for (uint64_t lane = 0; lane < type.lanes; lane++)
    result = b_.CreateInsertElement(
        result, b_.CreateCall(fmod, {b_.CreateExtractElement(a, lane), b_.CreateExtractElement(b, lane)}), lane);
  return result;
}

// fmod by long division of the significands: exact, one quotient bit a step. A function of the module, since it is
// large and rare.
llvm::Function *FunctionEmitter::fmod_function(bool f64) {
  std::string name = f64 ? "ingot.fmod.f64" : "ingot.fmod.f32";
  if (llvm::Function *existing = module_.getFunction(name))
    return existing;
  llvm::Type *ft = f64 ? b_.getDoubleTy() : b_.getFloatTy();
  llvm::IntegerType *it = f64 ? b_.getInt64Ty() : b_.getInt32Ty();
  uint64_t mantissa = f64 ? 52 : 23, width = f64 ? 64 : 32;
  llvm::Function *f = llvm::Function::Create(llvm::FunctionType::get(ft, {ft, ft}, false),
                                             llvm::Function::InternalLinkage, name, module_);
  f->addFnAttr(llvm::Attribute::NoInline);
  f->setDoesNotAccessMemory();
  auto bb = [&](const char *n) { return llvm::BasicBlock::Create(context_, n, f); };
  llvm::BasicBlock *entry = bb("entry"), *invalid = bb("invalid"), *valid = bb("valid"), *same = bb("same"),
                   *divide = bb("divide"), *step = bb("step"), *last = bb("last"), *whole = bb("whole"),
                   *finish = bb("finish");
  llvm::IRBuilder<> b(entry);
  auto c = [&](uint64_t v) { return llvm::ConstantInt::get(it, v); };
  uint64_t sign_bit = uint64_t{1} << (width - 1), one_ulp = uint64_t{1} << mantissa;
  uint64_t infinity = ((uint64_t{1} << (width - 1 - mantissa)) - 1) << mantissa;

  V x = f->getArg(0), y = f->getArg(1);
  V bx = b.CreateBitCast(x, it), by = b.CreateBitCast(y, it);
  V sign = b.CreateAnd(bx, c(sign_bit)), ax = b.CreateAnd(bx, c(~sign_bit & (sign_bit | (sign_bit - 1)))),
    ay = b.CreateAnd(by, c(sign_bit - 1));
  V bad = b.CreateOr(b.CreateICmpUGE(ax, c(infinity)),
                     b.CreateOr(b.CreateICmpUGT(ay, c(infinity)), b.CreateICmpEQ(ay, c(0))));
  b.CreateCondBr(bad, invalid, valid);
  b.SetInsertPoint(invalid);
  b.CreateRet(llvm::ConstantFP::getNaN(ft));
  b.SetInsertPoint(valid);
  b.CreateCondBr(b.CreateICmpULT(ax, ay), same, divide);
  b.SetInsertPoint(same);
  b.CreateRet(x);

  b.SetInsertPoint(divide);
  // (significand with its leading one, biased exponent); denormals are shifted up to look normal.
  auto split = [&](V a) {
    V e = b.CreateLShr(a, c(mantissa)), fraction = b.CreateAnd(a, c(one_ulp - 1));
    V lz = b.CreateSub(b.CreateIntrinsic(llvm::Intrinsic::ctlz, {it}, {b.CreateOr(a, c(1)), b.getFalse()}),
                       c(width - 1 - mantissa));
    V denormal = b.CreateICmpEQ(e, c(0));
    lz = b.CreateSelect(denormal, lz, c(0));
    return std::pair<V, V>{b.CreateSelect(denormal, b.CreateShl(a, lz), b.CreateOr(fraction, c(one_ulp))),
                           b.CreateSelect(denormal, b.CreateSub(c(1), lz), e)};
  };
  auto [mx0, ex0] = split(ax);
  auto [my, ey] = split(ay);
  b.CreateCondBr(b.CreateICmpSGT(ex0, ey), step, last);
  b.SetInsertPoint(step);
  llvm::PHINode *mx = b.CreatePHI(it, 2), *ex = b.CreatePHI(it, 2);
  auto subtract = [&](V m) { return b.CreateSelect(b.CreateICmpUGE(m, my), b.CreateSub(m, my), m); };
  V mx_next = b.CreateShl(subtract(mx), c(1)), ex_next = b.CreateSub(ex, c(1));
  mx->addIncoming(mx0, divide);
  mx->addIncoming(mx_next, step);
  ex->addIncoming(ex0, divide);
  ex->addIncoming(ex_next, step);
  b.CreateCondBr(b.CreateICmpSGT(ex_next, ey), step, last);
  b.SetInsertPoint(last);
  llvm::PHINode *m = b.CreatePHI(it, 2);
  m->addIncoming(mx0, divide);
  m->addIncoming(mx_next, step);
  V rest = subtract(m);
  b.CreateCondBr(b.CreateICmpEQ(rest, c(0)), whole, finish);
  b.SetInsertPoint(whole);
  b.CreateRet(b.CreateBitCast(sign, ft));
  b.SetInsertPoint(finish);
  V lz = b.CreateSub(b.CreateIntrinsic(llvm::Intrinsic::ctlz, {it}, {rest, b.getFalse()}), c(width - 1 - mantissa));
  V e = b.CreateSub(ey, lz);
  V normal = b.CreateOr(b.CreateAnd(b.CreateShl(rest, lz), c(one_ulp - 1)), b.CreateShl(e, c(mantissa)));
  V is_normal = b.CreateICmpSGT(e, c(0));
  // rest * 2^(ey - bias - mantissa) as a denormal: its unit is that of exponent 1.
  V shift = b.CreateSelect(is_normal, c(0), b.CreateSub(c(1), ey));
  V up = b.CreateSub(c(0), shift);
  V denormal = b.CreateSelect(b.CreateICmpSGE(shift, c(0)),
                              b.CreateLShr(rest, b.CreateAnd(shift, c(width - 1))),
                              b.CreateShl(rest, b.CreateAnd(up, c(width - 1))));
  b.CreateRet(b.CreateBitCast(b.CreateOr(b.CreateSelect(is_normal, normal, denormal), sign), ft));
  return f;
}

FunctionEmitter::V FunctionEmitter::compare(Opcode code, Type type, V a, V b) {
  using P = llvm::CmpInst;
  if (is_float(type.scalar)) {
    if (is_16_bit_float(type.scalar)) {
      a = to_f32(type, a);
      b = to_f32(type, b);
    }
    switch (code) {
    case Opcode::kEq: return b_.CreateFCmp(P::FCMP_OEQ, a, b);
    case Opcode::kNe: return b_.CreateFCmp(P::FCMP_UNE, a, b);
    case Opcode::kLt: return b_.CreateFCmp(P::FCMP_OLT, a, b);
    case Opcode::kLe: return b_.CreateFCmp(P::FCMP_OLE, a, b);
    case Opcode::kGt: return b_.CreateFCmp(P::FCMP_OGT, a, b);
    case Opcode::kGe: return b_.CreateFCmp(P::FCMP_OGE, a, b);
    default: fail("an unsigned comparison of floats");
    }
  }
  // The signed order of bools is that of 0 and 1, which as i1 is the unsigned one.
  bool u = type.scalar == Scalar::kBool;
  switch (code) {
  case Opcode::kEq: return b_.CreateICmpEQ(a, b);
  case Opcode::kNe: return b_.CreateICmpNE(a, b);
  case Opcode::kLt: return b_.CreateICmp(u ? P::ICMP_ULT : P::ICMP_SLT, a, b);
  case Opcode::kLe: return b_.CreateICmp(u ? P::ICMP_ULE : P::ICMP_SLE, a, b);
  case Opcode::kGt: return b_.CreateICmp(u ? P::ICMP_UGT : P::ICMP_SGT, a, b);
  case Opcode::kGe: return b_.CreateICmp(u ? P::ICMP_UGE : P::ICMP_SGE, a, b);
  case Opcode::kLtU: return b_.CreateICmpULT(a, b);
  case Opcode::kLeU: return b_.CreateICmpULE(a, b);
  case Opcode::kGtU: return b_.CreateICmpUGT(a, b);
  default: return b_.CreateICmpUGE(a, b);
  }
}

FunctionEmitter::V FunctionEmitter::is_nan_or_inf(bool nan, Type type, V x) {
  if (is_16_bit_float(type.scalar)) {
    llvm::Type *t = type_of(type);
    V magnitude = b_.CreateAnd(x, int_splat(t, 0x7fff)),
      infinity = int_splat(t, type.scalar == Scalar::kF16 ? 0x7c00 : 0x7f80);
    return nan ? b_.CreateICmpUGT(magnitude, infinity) : b_.CreateICmpEQ(magnitude, infinity);
  }
  if (nan)
    return b_.CreateFCmpUNO(x, x);
  return b_.CreateFCmpOEQ(b_.CreateUnaryIntrinsic(llvm::Intrinsic::fabs, x),
                          llvm::ConstantFP::getInfinity(x->getType()));
}

// As a halving tree: lane i with lane i + n/2.
FunctionEmitter::V FunctionEmitter::reduce(Opcode code, Type type, V x) {
  Opcode op = code == Opcode::kReduceAdd   ? Opcode::kAdd
              : code == Opcode::kReduceMul ? Opcode::kMul
              : code == Opcode::kReduceMin ? Opcode::kMin
                                           : Opcode::kMax;
  uint32_t lanes = type.lanes;
  if (lanes & (lanes - 1))
    fail("a reduction of " + std::to_string(lanes) + " lanes, which is not a power of two");
  while (lanes > 1) {
    lanes /= 2;
    std::vector<int> low, high;
    for (uint32_t k = 0; k < lanes; k++) {
      low.push_back(static_cast<int>(k));
      high.push_back(static_cast<int>(k + lanes));
    }
    V a = lanes == 1 ? b_.CreateExtractElement(x, uint64_t{0}) : b_.CreateShuffleVector(x, low);
    V b = lanes == 1 ? b_.CreateExtractElement(x, uint64_t{1}) : b_.CreateShuffleVector(x, high);
    x = arithmetic(op, type.with_lanes(lanes), {a, b}, false);
  }
  return x;
}

FunctionEmitter::V FunctionEmitter::shuffle(const Op &op) {
  V a = get(op.operands[0]), b = get(op.operands[1]);
  std::vector<int> lanes(op.imms.begin(), op.imms.end());
  if (!a->getType()->isVectorTy()) { // scalars count as vectors of one lane
    V both = b_.CreateInsertElement(b_.CreateVectorSplat(2, a), b, uint64_t{1});
    return lanes.size() == 1 ? b_.CreateExtractElement(both, static_cast<uint64_t>(lanes[0]))
                             : b_.CreateShuffleVector(both, lanes);
  }
  if (lanes.size() == 1) {
    uint64_t n = llvm::cast<llvm::FixedVectorType>(a->getType())->getNumElements(),
             lane = static_cast<uint64_t>(lanes[0]);
    return b_.CreateExtractElement(lane < n ? a : b, lane < n ? lane : lane - n);
  }
  return b_.CreateShuffleVector(a, b, lanes);
}

// vpdpbusd, or pmaddwd and an addition; record_ says that the target has it for these lanes.
FunctionEmitter::V FunctionEmitter::dot(const Op &op) {
  uint32_t lanes = kernel_.types[op.results[0]].lanes;
  llvm::Type *sums = type_of(kernel_.types[op.results[0]]);
  V a = get(op.operands[0]), b = get(op.operands[1]), c = get(op.operands[2]);
  if (kernel_.types[op.operands[0]].lanes == kernel::dot_terms(op.code)) // a lane for all
    a = b_.CreateVectorSplat(lanes, b_.CreateBitCast(a, b_.getInt32Ty()));
  if (op.code == Opcode::kDot4) {
    llvm::Intrinsic::ID id = lanes == 16  ? llvm::Intrinsic::x86_avx512_vpdpbusd_512
                             : lanes == 8 ? llvm::Intrinsic::x86_avx512_vpdpbusd_256
                                          : llvm::Intrinsic::x86_avx512_vpdpbusd_128;
    return b_.CreateIntrinsic(id, {}, {c, b_.CreateBitCast(a, sums), b_.CreateBitCast(b, sums)});
  }
  llvm::Intrinsic::ID id = lanes == 16  ? llvm::Intrinsic::x86_avx512_pmaddw_d_512
                           : lanes == 8 ? llvm::Intrinsic::x86_avx2_pmadd_wd
                                        : llvm::Intrinsic::x86_sse2_pmadd_wd;
  llvm::Type *pairs = llvm::FixedVectorType::get(b_.getInt16Ty(), 2 * lanes);
  return b_.CreateAdd(b_.CreateIntrinsic(id, {}, {b_.CreateBitCast(a, pairs), b_.CreateBitCast(b, pairs)}), c);
}

FunctionEmitter::V FunctionEmitter::lane_iota(Type type) {
  llvm::Type *s = scalar_type(type.scalar);
  if (!type.is_vector())
    return llvm::ConstantInt::get(s, 0);
  std::vector<llvm::Constant *> lanes;
  for (uint32_t k = 0; k < type.lanes; k++)
    lanes.push_back(llvm::ConstantInt::get(s, k));
  return llvm::ConstantVector::get(lanes);
}

} // namespace ingot::aotc
