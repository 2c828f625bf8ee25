// See amd_fragments.h.
#include "aotc/emit/ptx/amd_fragments.h"

#include <numeric>
#include <vector>

#include "llvm/IR/IntrinsicsAMDGPU.h"

namespace ingot::aotc::emit {

using kernel::FragmentRole;
using kernel::FragmentShape;
using V = llvm::Value *;

namespace {

enum class Unit { kWmma11, kWmma12, kMfma };
Unit unit_of(const FragmentShape &s) { return s.threads == 64 ? Unit::kMfma : s.words == 8 ? Unit::kWmma11 : Unit::kWmma12; }

llvm::Type *vector(llvm::Type *element, uint32_t lanes) { return llvm::FixedVectorType::get(element, lanes); }

V joined(llvm::IRBuilderBase &b, V left, V right) {
  const auto lanes = llvm::cast<llvm::FixedVectorType>(left->getType())->getNumElements();
  std::vector<int> all(2 * size_t{lanes});
  std::iota(all.begin(), all.end(), 0);
  return b.CreateShuffleVector(left, right, all);
}
V part(llvm::IRBuilderBase &b, V whole, uint32_t first, uint32_t lanes) {
  std::vector<int> some(lanes);
  std::iota(some.begin(), some.end(), static_cast<int>(first));
  return b.CreateShuffleVector(whole, some);
}

// Column of B that the unit has as row `line`: that of the sum which a lane has of this row.
V column_of(llvm::IRBuilderBase &b, const FragmentShape &s, V line) {
  V h, i;
  switch (unit_of(s)) {
  case Unit::kWmma11: h = b.CreateAnd(line, 1), i = b.CreateLShr(line, 1); break;
  case Unit::kWmma12: h = b.CreateLShr(line, 3), i = b.CreateAnd(line, 7); break;
  case Unit::kMfma: h = b.CreateLShr(line, 2), i = b.CreateAnd(line, 3); break;
  }
  V half = b.CreateUDiv(i, b.getInt32(s.run)), in = b.CreateURem(i, b.getInt32(s.run));
  return b.CreateAdd(b.CreateShl(half, 3), b.CreateAdd(b.CreateMul(h, b.getInt32(s.run)), in));
}

} // namespace

V amd_fragment_load(llvm::IRBuilderBase &b, const FragmentShape &s, V lane, V array, V pitch, FragmentRole role) {
  const bool whole_lines = unit_of(s) == Unit::kWmma11;
  V line = b.CreateAnd(lane, 15), k0 = whole_lines ? b.getInt32(0) : b.CreateMul(b.CreateLShr(lane, 4), b.getInt32(s.run));
  if (role != FragmentRole::kA)
    line = column_of(b, s, line);
  const uint32_t piece = whole_lines ? 8 : s.run, elements = 2 * s.words; // elements: side by side along k, from 8 on the second such piece
  llvm::Type *half = b.getHalfTy();
  auto at = [&](V index) { return b.CreateGEP(half, array, index); };
  if (role != FragmentRole::kBRows) {
    V from = b.CreateAdd(b.CreateMul(line, pitch), k0);
    V first = b.CreateAlignedLoad(vector(half, piece), at(from), llvm::Align(2 * piece));
    V second = b.CreateAlignedLoad(vector(half, piece), at(b.CreateAdd(from, b.getInt32(8))), llvm::Align(2 * piece));
    return b.CreateBitCast(joined(b, first, second), vector(b.getInt32Ty(), s.words));
  }
  V out = llvm::PoisonValue::get(vector(half, elements));
  for (uint32_t i = 0; i < elements; ++i) {
    V k = b.CreateAdd(k0, b.getInt32(i / piece * 8 + i % piece));
    out = b.CreateInsertElement(out, b.CreateAlignedLoad(half, at(b.CreateAdd(b.CreateMul(k, pitch), line)), llvm::Align(2)), uint64_t{i});
  }
  return b.CreateBitCast(out, vector(b.getInt32Ty(), s.words));
}

std::pair<V, V> amd_fragment_mma(llvm::IRBuilderBase &b, const FragmentShape &s, V a, V bs, V left, V right) {
  llvm::Type *factor = vector(b.getHalfTy(), 2 * s.words);
  V x = b.CreateBitCast(a, factor), y = b.CreateBitCast(bs, factor), sums = joined(b, left, right);
  V zero = b.getInt32(0);
  V all = unit_of(s) == Unit::kMfma ? b.CreateIntrinsic(llvm::Intrinsic::amdgcn_mfma_f32_16x16x16f16, {}, {y, x, sums, zero, zero, zero})
                                    : b.CreateIntrinsic(llvm::Intrinsic::amdgcn_wmma_f32_16x16x16_f16, {sums->getType(), factor}, {y, x, sums});
  return {part(b, all, 0, s.sums()), part(b, all, s.sums(), s.sums())};
}

V amd_fragment_pack(llvm::IRBuilderBase &b, const FragmentShape &s, V lane, V left, V right) {
  llvm::Type *halves = vector(b.getHalfTy(), s.sums()), *words = vector(b.getInt32Ty(), s.sums());
  V own = b.CreateBitCast(joined(b, b.CreateFPTrunc(left, halves), b.CreateFPTrunc(right, halves)), words);
  if (unit_of(s) != Unit::kWmma11)
    return own;
  // The lane's row whole: k = 0..3 and 8..11 are with lanes 0..15, the others with lanes 16..31; two words each.
  V upper = b.CreateICmpUGE(lane, b.getInt32(16)), out = llvm::PoisonValue::get(vector(b.getInt32Ty(), 8));
  for (uint64_t w = 0; w < 4; ++w) {
    V mine = b.CreateExtractElement(own, w), other = amd_other_half(b, mine);
    const uint64_t place = w / 2 * 4 + w % 2;
    out = b.CreateInsertElement(out, b.CreateSelect(upper, other, mine), place);
    out = b.CreateInsertElement(out, b.CreateSelect(upper, mine, other), place + 2);
  }
  return out;
}

V amd_fragment_places(llvm::IRBuilderBase &b, const FragmentShape &s, V lane, bool rows, llvm::Type *type) {
  V first = rows ? b.CreateAnd(lane, 15) : b.CreateMul(b.CreateLShr(lane, 4), b.getInt32(s.run));
  V out = llvm::PoisonValue::get(type);
  for (uint32_t i = 0; i < s.sums(); ++i) {
    V at = rows ? first : b.CreateAdd(first, b.getInt32(i));
    out = b.CreateInsertElement(out, b.CreateZExtOrTrunc(at, type->getScalarType()), uint64_t{i});
  }
  return out;
}

V amd_other_half(llvm::IRBuilderBase &b, V word) { // each lane of a row of 16 takes from the same lane of the other row
  return b.CreateIntrinsic(llvm::Intrinsic::amdgcn_permlanex16, {b.getInt32Ty()},
                           {word, word, b.getInt32(0x76543210), b.getInt32(0xfedcba98), b.getFalse(), b.getFalse()});
}

} // namespace ingot::aotc::emit
