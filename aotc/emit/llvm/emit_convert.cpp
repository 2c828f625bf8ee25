// Conversions. LLVM's fptosi is undefined out of range and its half support turns into library calls on targets without
// the instructions, so saturation and the 16-bit formats are spelled out wherever the hardware does not do them.
#include "aotc/base/error.h"
#include "aotc/emit/llvm/function_emitter.h"

#include "llvm/IR/IntrinsicsX86.h"

#include <cmath>

namespace ingot::aotc {

namespace {

bool is_16_bit_float(Scalar s) { return s == Scalar::kF16 || s == Scalar::kBF16; }

} // namespace

FunctionEmitter::V FunctionEmitter::convert(Type to, Type from, V x, bool is_unsigned) {
  llvm::Type *t = type_of(to);
  bool from_int = is_int(from.scalar), to_int = is_int(to.scalar);
  if (to.scalar == from.scalar)
    return x;

  if (to.scalar == Scalar::kBool) { // x != 0
    if (from_int)
      return b_.CreateICmpNE(x, int_splat(x->getType(), 0));
    if (is_16_bit_float(from.scalar))
      return b_.CreateICmpNE(b_.CreateAnd(x, int_splat(x->getType(), 0x7fff)), int_splat(x->getType(), 0));
    return b_.CreateFCmpUNE(x, float_splat(x->getType(), 0));
  }
  if (from.scalar == Scalar::kBool) {
    if (to_int)
      return b_.CreateZExt(x, t);
    if (to.scalar == Scalar::kF16 || to.scalar == Scalar::kBF16)
      return b_.CreateSelect(x, int_splat(t, to.scalar == Scalar::kF16 ? 0x3c00 : 0x3f80), int_splat(t, 0));
    return b_.CreateSelect(x, float_splat(t, 1), float_splat(t, 0));
  }
  if (from_int && to_int)
    return is_unsigned ? b_.CreateZExtOrTrunc(x, t) : b_.CreateSExtOrTrunc(x, t);

  if (from_int) {
    auto to_float = [&](V v, llvm::Type *type) {
      return is_unsigned ? b_.CreateUIToFP(v, type) : b_.CreateSIToFP(v, type);
    };
    if (!is_16_bit_float(to.scalar))
      return to_float(x, t);
    return from_f32(to.scalar, to_float(x, float_type(to))); // by way of f32, as it is defined
  }

  if (to_int) {
    if (is_16_bit_float(from.scalar))
      x = to_f32(from, x);
    return float_to_int(to, x, is_unsigned);
  }

  // float -> float
  if (is_16_bit_float(from.scalar)) {
    V f32 = to_f32(from, x);
    return to.scalar == Scalar::kF32   ? f32
           : to.scalar == Scalar::kF64 ? b_.CreateFPExt(f32, t)
                                       : from_f32(to.scalar, f32);
  }
  if (!is_16_bit_float(to.scalar))
    return b_.CreateFPCast(x, t);
  if (from.scalar == Scalar::kF32)
    return from_f32(to.scalar, x);
  if (to.scalar == Scalar::kF16 && traits_.f64_to_f16)
    return b_.CreateBitCast(b_.CreateFPTrunc(x, like(t, b_.getHalfTy())), t);
  return from_f32(to.scalar, f64_to_f32_odd(x));
}

FunctionEmitter::V FunctionEmitter::to_f32(Type from, V x) {
  llvm::Type *i32 = like(x->getType(), b_.getInt32Ty()), *f32 = like(x->getType(), b_.getFloatTy());
  if (from.scalar == Scalar::kBF16)
    return b_.CreateBitCast(b_.CreateShl(b_.CreateZExt(x, i32), int_splat(i32, 16)), f32);
  if (traits_.f16_convert)
    return b_.CreateFPExt(b_.CreateBitCast(x, like(x->getType(), b_.getHalfTy())), f32);
  // Exponent and fraction shifted into place are the value times 2^-112, denormals included; the product is exact.
  V bits = b_.CreateZExt(x, i32);
  V magnitude = b_.CreateShl(b_.CreateAnd(bits, int_splat(i32, 0x7fff)), int_splat(i32, 13));
  V scaled = b_.CreateBitCast(b_.CreateFMul(b_.CreateBitCast(magnitude, f32), float_splat(f32, 0x1p112)), i32);
  V special = b_.CreateOr(magnitude, int_splat(i32, 0x7f800000)); // inf and NaN
  V value = b_.CreateSelect(b_.CreateICmpUGE(magnitude, int_splat(i32, 0x7c00u << 13)), special, scaled);
  V sign = b_.CreateShl(b_.CreateAnd(bits, int_splat(i32, 0x8000)), int_splat(i32, 16));
  return b_.CreateBitCast(b_.CreateOr(value, sign), f32);
}

FunctionEmitter::V FunctionEmitter::from_f32(Scalar to, V x) {
  llvm::Type *i32 = like(x->getType(), b_.getInt32Ty()), *i16 = like(x->getType(), b_.getInt16Ty());
  if (to == Scalar::kF16 && traits_.f16_convert)
    return b_.CreateBitCast(b_.CreateFPTrunc(x, like(x->getType(), b_.getHalfTy())), i16);
  V bits = b_.CreateBitCast(x, i32);
  if (to == Scalar::kBF16) {
    V odd = b_.CreateAnd(b_.CreateLShr(bits, int_splat(i32, 16)), int_splat(i32, 1));
    V rounded = b_.CreateLShr(b_.CreateAdd(bits, b_.CreateAdd(odd, int_splat(i32, 0x7fff))), int_splat(i32, 16));
    V nan = b_.CreateOr(b_.CreateLShr(bits, int_splat(i32, 16)), int_splat(i32, 0x40));
    return b_.CreateTrunc(b_.CreateSelect(b_.CreateFCmpUNO(x, x), nan, rounded), i16);
  }
  V sign = b_.CreateAnd(b_.CreateLShr(bits, int_splat(i32, 16)), int_splat(i32, 0x8000));
  V magnitude = b_.CreateAnd(bits, int_splat(i32, 0x7fffffff));
  // Normal results: rebias, round half to even by adding just under half, or half where the last kept bit is odd. A
  // carry out of the fraction moves into the exponent, up to infinity.
  V odd = b_.CreateAnd(b_.CreateLShr(magnitude, int_splat(i32, 13)), int_splat(i32, 1));
  V rebias = int_splat(i32, static_cast<uint32_t>(0xfff - (112 << 23)));
  V normal = b_.CreateLShr(b_.CreateAdd(b_.CreateAdd(magnitude, rebias), odd), int_splat(i32, 13));
  // Denormal results: adding 0.5 aligns the last place of f16's denormals with f32's, so the addition rounds.
  llvm::Type *f32 = x->getType();
  V aligned = b_.CreateFAdd(b_.CreateBitCast(magnitude, f32), float_splat(f32, 0.5));
  V denormal = b_.CreateSub(b_.CreateBitCast(aligned, i32), int_splat(i32, 0x3f000000));
  V small = b_.CreateICmpULT(magnitude, int_splat(i32, 113u << 23));
  V special = b_.CreateSelect(b_.CreateICmpUGT(magnitude, int_splat(i32, 0x7f800000)), int_splat(i32, 0x7e00),
                              int_splat(i32, 0x7c00));
  V result = b_.CreateSelect(b_.CreateICmpUGE(magnitude, int_splat(i32, 143u << 23)), special,
                             b_.CreateSelect(small, denormal, normal));
  return b_.CreateTrunc(b_.CreateOr(result, sign), i16);
}

// The truncated value, with its last bit set where anything was cut off: of the two floats around x, the odd one.
FunctionEmitter::V FunctionEmitter::f64_to_f32_odd(V x) {
  llvm::Type *f32 = like(x->getType(), b_.getFloatTy()), *i32 = like(x->getType(), b_.getInt32Ty());
  V nearest = b_.CreateFPTrunc(x, f32);
  V back = b_.CreateFPExt(nearest, x->getType());
  V bits = b_.CreateBitCast(nearest, i32);
  V inexact = b_.CreateFCmpONE(back, x); // false for NaN
  V even = b_.CreateICmpEQ(b_.CreateAnd(bits, int_splat(i32, 1)), int_splat(i32, 0));
  V too_small = b_.CreateFCmpOLT(b_.CreateUnaryIntrinsic(llvm::Intrinsic::fabs, back),
                                 b_.CreateUnaryIntrinsic(llvm::Intrinsic::fabs, x));
  V towards = b_.CreateSelect(too_small, int_splat(i32, 1), int_splat(i32, 0xffffffff));
  V moved = b_.CreateAdd(bits, towards);
  return b_.CreateBitCast(b_.CreateSelect(b_.CreateAnd(inexact, even), moved, bits), f32);
}

// Truncates toward zero, saturates, NaN -> 0.
FunctionEmitter::V FunctionEmitter::float_to_int(Type to, V x, bool is_unsigned) {
  llvm::Type *t = type_of(to), *ft = x->getType();
  bool f64 = ft->getScalarType()->isDoubleTy();
  unsigned bits = bits_of(to.scalar), mantissa = f64 ? 53 : 24;
  if (traits_.saturating_convert) {
    // In hardware at the float's own width; narrower results are clamped as integers.
    unsigned own = f64 ? 64 : 32;
    llvm::Type *via = bits >= own ? t : like(t, b_.getIntNTy(own));
    V r = b_.CreateIntrinsic(is_unsigned ? llvm::Intrinsic::fptoui_sat : llvm::Intrinsic::fptosi_sat, {via, ft}, {x});
    if (bits >= own)
      return r;
    llvm::APInt high =
        is_unsigned ? llvm::APInt::getMaxValue(bits).zext(own) : llvm::APInt::getSignedMaxValue(bits).sext(own);
    llvm::APInt low = llvm::APInt::getSignedMinValue(bits).sext(own);
    if (is_unsigned)
      r = b_.CreateBinaryIntrinsic(llvm::Intrinsic::umin, r, llvm::ConstantInt::get(via, high));
    else
      r = b_.CreateBinaryIntrinsic(
          llvm::Intrinsic::smax,
          b_.CreateBinaryIntrinsic(llvm::Intrinsic::smin, r, llvm::ConstantInt::get(via, high)),
          llvm::ConstantInt::get(via, low));
    return b_.CreateTrunc(r, t);
  }

  unsigned magnitude_bits = is_unsigned ? bits : bits - 1;
  double top = std::ldexp(1.0, static_cast<int>(magnitude_bits)); // one more than the greatest result
  double bottom = is_unsigned ? 0 : -top;

  if (magnitude_bits <= mantissa) {
    // The limits are exact floats: clamp, then convert as i32 (or i64), which is then in range.
    llvm::Type *via = like(t, bits >= 32 && (is_unsigned || bits > 32) ? b_.getInt64Ty() : b_.getInt32Ty());
    V high = float_splat(ft, top - 1), low = float_splat(ft, bottom);
    V v = b_.CreateSelect(b_.CreateFCmpOGT(x, low), x, low); // NaN -> low
    v = b_.CreateSelect(b_.CreateFCmpOLT(v, high), v, high);
    if (!is_unsigned)
      v = b_.CreateSelect(b_.CreateFCmpORD(x, x), v, float_splat(ft, 0));
    return b_.CreateTrunc(b_.CreateFPToSI(v, via), t);
  }

  unsigned lanes = to.lanes;
  bool halves = lanes > 8 && !traits_.avx512;
  if (traits_.cvttps2dq && !f64 && !is_unsigned && bits == 32 && !halves &&
      (lanes == 4 || (lanes == 8 && traits_.avx) || (lanes == 16 && traits_.avx512))) {
    // The instruction gives 0x80000000 out of range: right below, all bits flipped above, cleared for NaN.
    V r;
    if (lanes == 16)
      r = b_.CreateIntrinsic(llvm::Intrinsic::x86_avx512_mask_cvttps2dq_512, {},
                             {x, llvm::Constant::getNullValue(t), b_.getInt16(0xffff), b_.getInt32(4)});
    else
      r = b_.CreateIntrinsic(lanes == 8 ? llvm::Intrinsic::x86_avx_cvtt_ps2dq_256 : llvm::Intrinsic::x86_sse2_cvttps2dq,
                             {}, {x});
    r = b_.CreateXor(r, b_.CreateSExt(b_.CreateFCmpOGE(x, float_splat(ft, top)), t));
    return b_.CreateAnd(r, b_.CreateSExt(b_.CreateFCmpORD(x, x), t));
  }

  V above = b_.CreateFCmpOGE(x, float_splat(ft, top));
  // For unsigned results (-1, 0] truncates to 0 in range; what is below is made 0 with it.
  V fits_below = is_unsigned ? b_.CreateFCmpOGT(x, float_splat(ft, 0)) : b_.CreateFCmpOGE(x, float_splat(ft, bottom));
  V fits = b_.CreateAnd(fits_below, b_.CreateFCmpOLT(x, float_splat(ft, top)));
  V safe = b_.CreateSelect(fits, x, float_splat(ft, 0));
  V r = is_unsigned ? b_.CreateFPToUI(safe, t) : b_.CreateFPToSI(safe, t);
  uint64_t most = is_unsigned ? ~uint64_t{0} >> (64 - bits) : (~uint64_t{0} >> (65 - bits));
  r = b_.CreateSelect(above, int_splat(t, most), r);
  if (!is_unsigned)
    r = b_.CreateSelect(b_.CreateFCmpOLT(x, float_splat(ft, bottom)), int_splat(t, uint64_t{1} << (bits - 1)), r);
  return r;
}

} // namespace ingot::aotc
