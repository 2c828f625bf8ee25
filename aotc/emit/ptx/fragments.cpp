// See fragments.h.
#include "aotc/emit/ptx/fragments.h"

#include <string>
#include <vector>

#include "aotc/base/error.h"
#include "aotc/kernel/fragment.h"

#include "llvm/IR/InlineAsm.h"
#include "llvm/IR/IntrinsicsNVPTX.h"

namespace ingot::aotc::emit {

using kernel::FragmentRole;
using V = llvm::Value *;

namespace {

// Convergent, and in order with other accesses to memory where `memory`.
V assembly(llvm::IRBuilderBase &b, llvm::Type *result, const std::string &text, const std::string &constraints, const std::vector<V> &operands,
           bool memory) {
  std::vector<llvm::Type *> types;
  for (V v : operands)
    types.push_back(v->getType());
  auto *type = llvm::FunctionType::get(result, types, false);
  llvm::CallInst *call = b.CreateCall(type, llvm::InlineAsm::get(type, text, constraints + (!memory ? "" : constraints.empty() ? "~{memory}" : ",~{memory}"), memory), operands);
  call->addFnAttr(llvm::Attribute::Convergent);
  call->addFnAttr(llvm::Attribute::NoUnwind);
  if (!memory)
    call->addFnAttr(llvm::Attribute::getWithMemoryEffects(b.getContext(), llvm::MemoryEffects::none()));
  return call;
}

V lane(llvm::IRBuilderBase &b) {
  V thread = b.CreateIntrinsic(llvm::Intrinsic::nvvm_read_ptx_sreg_tid_x, {}, {});
  return b.CreateAnd(thread, kernel::kSubgroup - 1);
}

// Pointers to shared memory are offsets into it.
V offset_of(llvm::IRBuilderBase &b, V pointer) { return b.CreateTrunc(b.CreatePtrToInt(pointer, b.getInt64Ty()), b.getInt32Ty()); }

V vector_of(llvm::IRBuilderBase &b, V parts, llvm::Type *element) {
  V out = llvm::PoisonValue::get(llvm::FixedVectorType::get(element, 4));
  for (unsigned i = 0; i < 4; ++i)
    out = b.CreateInsertElement(out, b.CreateExtractValue(parts, i), uint64_t{i});
  return out;
}

llvm::Type *four(llvm::IRBuilderBase &b, llvm::Type *type) { return llvm::StructType::get(b.getContext(), std::vector<llvm::Type *>(4, type)); }

} // namespace

V ptx_fragment_load(llvm::IRBuilderBase &b, V array, V pitch, FragmentRole role) {
  V l = lane(b), line, half;
  if (role == FragmentRole::kBPairs) { // words of f32 lie apart: ldmatrix takes pieces of 16 bytes
    V pair = b.CreateShl(b.CreateAnd(l, 3), 1), column = b.CreateLShr(l, 2), out = llvm::PoisonValue::get(llvm::FixedVectorType::get(b.getInt32Ty(), 4));
    for (uint32_t w = 0; w < 4; ++w) {
      V at = b.CreateAdd(b.CreateMul(b.CreateAdd(pair, b.getInt32(w % 2)), pitch), b.CreateShl(b.CreateAdd(column, b.getInt32(w / 2 * 8)), 2));
      V word = b.CreateAlignedLoad(b.getInt32Ty(), b.CreateGEP(b.getInt8Ty(), array, b.CreateZExt(at, b.getInt64Ty())), llvm::Align(4));
      out = b.CreateInsertElement(out, word, uint64_t{w});
    }
    return out;
  }
  // Each thread names a row of 16 bytes: threads 8 i + r row r of matrix i, which becomes word i.
  if (role == FragmentRole::kB) {
    line = b.CreateOr(b.CreateAnd(l, 7), b.CreateShl(b.CreateLShr(l, 4), 3));
    half = b.CreateAnd(b.CreateLShr(l, 3), 1);
  } else {
    line = b.CreateAnd(l, 15);
    half = b.CreateLShr(l, 4);
  }
  V address = b.CreateAdd(offset_of(b, array), b.CreateAdd(b.CreateMul(line, pitch), b.CreateShl(half, 4)));
  const std::string transposed = role == FragmentRole::kBRows ? ".trans" : "";
  V words = assembly(b, four(b, b.getInt32Ty()), "ldmatrix.sync.aligned.m8n8.x4" + transposed + ".shared.b16 {$0,$1,$2,$3}, [$4];",
                     "=r,=r,=r,=r,r", {address}, true);
  return vector_of(b, words, b.getInt32Ty());
}

V ptx_fragment_mma(llvm::IRBuilderBase &b, Scalar element, V a, V bs, int64_t which, V sums) {
  std::string shape;
  switch (element) {
  case Scalar::kF16: shape = "m16n8k16.row.col.f32.f16.f16.f32"; break;
  case Scalar::kBF16: shape = "m16n8k16.row.col.f32.bf16.bf16.f32"; break;
  case Scalar::kF32: shape = "m16n8k8.row.col.f32.tf32.tf32.f32"; break;
  case Scalar::kI8: shape = std::string("m16n8k32.row.col.s32.") + (which & kernel::kUnsignedA ? "u8." : "s8.") + (which & kernel::kUnsignedB ? "u8" : "s8") + ".s32"; break;
  default: throw InternalError("ptx: fragments of " + std::string(name(element)));
  }
  llvm::Type *sum = element == Scalar::kI8 ? b.getInt32Ty() : b.getFloatTy();
  const char *constraints = element == Scalar::kI8 ? "=r,=r,=r,=r,r,r,r,r,r,r,r,r,r,r" : "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f";
  std::vector<V> operands;
  auto take = [&](V vector, uint64_t first, uint64_t count) {
    for (uint64_t i = first; i < first + count; ++i)
      operands.push_back(b.CreateExtractElement(vector, i));
  };
  take(a, 0, 4);
  take(bs, static_cast<uint64_t>(which & kernel::kHalfOfB) * 2, 2);
  take(sums, 0, 4);
  V result = assembly(b, four(b, sum), "mma.sync.aligned." + shape + " {$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};", constraints,
                      operands, false);
  return vector_of(b, result, sum);
}

V ptx_fragment_pack(llvm::IRBuilderBase &b, Scalar element, V left, V right) {
  const std::string text = element == Scalar::kF16 ? "cvt.rn.f16x2.f32 $0, $2, $1;" : "cvt.rn.bf16x2.f32 $0, $2, $1;"; // the first is the high half
  V out = llvm::PoisonValue::get(llvm::FixedVectorType::get(b.getInt32Ty(), 4));
  if (element == Scalar::kF32) // a thread has columns 2 q and 2 q + 1 of the sums, and is to have columns q and q + 4 of A
    return b.CreateShuffleVector(b.CreateBitCast(left, out->getType()), std::vector<int>{0, 2, 1, 3});
  for (uint64_t w = 0; w < 4; ++w) {
    V from = w < 2 ? left : right;
    V low = b.CreateExtractElement(from, w % 2 * 2), high = b.CreateExtractElement(from, w % 2 * 2 + 1);
    out = b.CreateInsertElement(out, assembly(b, b.getInt32Ty(), text, "=r,f,f", {low, high}, false), w);
  }
  return out;
}

V ptx_fragment_places(llvm::IRBuilderBase &b, bool rows, llvm::Type *type) {
  V l = lane(b), first = rows ? b.CreateLShr(l, 2) : b.CreateShl(b.CreateAnd(l, 3), 1);
  V out = llvm::PoisonValue::get(type);
  for (uint32_t i = 0; i < 4; ++i) {
    V at = b.CreateAdd(first, b.getInt32(rows ? i / 2 * 8 : i % 2));
    out = b.CreateInsertElement(out, b.CreateZExtOrTrunc(at, type->getScalarType()), uint64_t{i});
  }
  return out;
}

namespace {

// Text that reads and writes the sums' registers in place, $0 and on, with `inputs` after them.
std::vector<V> in_place(llvm::IRBuilderBase &b, const std::string &text, const std::vector<V> &sums, const std::vector<V> &inputs) {
  const size_t count = sums.size() * 4;
  std::string constraints, tied;
  std::vector<V> operands = inputs;
  for (size_t i = 0; i < count; ++i) {
    constraints += i ? ",=f" : "=f";
    tied += "," + std::to_string(i);
    operands.push_back(b.CreateExtractElement(sums[i / 4], uint64_t{i % 4}));
  }
  for (size_t i = 0; i < inputs.size(); ++i)
    constraints += ",l";
  V result = assembly(b, llvm::StructType::get(b.getContext(), std::vector<llvm::Type *>(count, b.getFloatTy())), text, constraints + tied, operands, true);
  std::vector<V> out;
  for (unsigned f = 0; f < sums.size(); ++f) {
    V sum = llvm::PoisonValue::get(sums[f]->getType());
    for (unsigned i = 0; i < 4; ++i)
      sum = b.CreateInsertElement(sum, b.CreateExtractValue(result, 4 * f + i), uint64_t{i});
    out.push_back(sum);
  }
  return out;
}

// Of a matrix in shared memory whose lines of 128 bytes begin at `pointer` ("matrix descriptor" of PTX's wgmma): the address, 1,024
// bytes from 8 lines to the next 8, and the mode in which the 16 bytes of a line change places over all 128.
V descriptor(llvm::IRBuilderBase &b, V pointer) {
  V address = b.CreateAnd(b.CreateLShr(offset_of(b, pointer), 4), 0x3fff);
  return b.CreateOr(b.CreateZExt(address, b.getInt64Ty()), b.getInt64(uint64_t{1} << 62 | uint64_t{1024 >> 4} << 32 | uint64_t{1} << 16));
}

} // namespace

std::vector<V> ptx_warpgroup_mma(llvm::IRBuilderBase &b, Scalar element, V a, V bs, int64_t steps, const std::vector<V> &sums) {
  const size_t count = sums.size() * 4;
  const std::string type = element == Scalar::kF16 ? "f16" : "bf16";
  std::string registers;
  for (size_t i = 0; i < count; ++i)
    registers += (i ? ",$" : "$") + std::to_string(i);
  std::string text = "wgmma.fence.sync.aligned;\n";
  std::vector<V> inputs;
  V from_a = descriptor(b, a), from_b = descriptor(b, bs);
  for (int64_t s = 0; s < steps; ++s) { // 32 bytes each
    inputs.push_back(b.CreateAdd(from_a, b.getInt64(static_cast<uint64_t>(2 * s))));
    inputs.push_back(b.CreateAdd(from_b, b.getInt64(static_cast<uint64_t>(2 * s))));
    const std::string at = "$" + std::to_string(count + 2 * static_cast<size_t>(s)), next = "$" + std::to_string(count + 2 * static_cast<size_t>(s) + 1);
    text += "wgmma.mma_async.sync.aligned.m64n" + std::to_string(sums.size() * 8) + "k16.f32." + type + "." + type + " {" + registers + "}, " + at + ", " +
            next + ", 1, 1, 1, 0, 0;\n"; // added to the sums; neither factor negated nor transposed
  }
  return in_place(b, text + "wgmma.commit_group.sync.aligned;", sums, inputs);
}

std::vector<V> ptx_warpgroup_wait(llvm::IRBuilderBase &b, int64_t under_way, const std::vector<V> &sums) {
  return in_place(b, "wgmma.wait_group.sync.aligned " + std::to_string(under_way) + ";", sums, {});
}

void ptx_warpgroup_fence(llvm::IRBuilderBase &b) { assembly(b, b.getVoidTy(), "fence.proxy.async.shared::cta;", "", {}, true); }

void ptx_copy_async(llvm::IRBuilderBase &b, V to, V from, V condition, uint32_t bytes) {
  // Of a size of 0 nothing is read, and all is zeros.
  const std::string size = std::to_string(bytes), way = bytes == 16 ? "cg" : "ca"; // 16 bytes may pass the first cache by
  V read = b.CreateSelect(condition, b.getInt32(bytes), b.getInt32(0));
  assembly(b, b.getVoidTy(), "cp.async." + way + ".shared.global [$0], [$1], " + size + ", $2;", "r,l,r",
           {offset_of(b, to), b.CreatePtrToInt(from, b.getInt64Ty()), read}, true);
}

void ptx_copy_commit(llvm::IRBuilderBase &b) { assembly(b, b.getVoidTy(), "cp.async.commit_group;", "", {}, true); }

void ptx_copy_wait(llvm::IRBuilderBase &b, int64_t batches) {
  assembly(b, b.getVoidTy(), "cp.async.wait_group " + std::to_string(batches) + ";", "", {}, true);
}

void ptx_signal_init(llvm::IRBuilderBase &b, V signal, uint32_t arrivals) {
  assembly(b, b.getVoidTy(), "mbarrier.init.shared::cta.b64 [$0], " + std::to_string(arrivals) + ";", "r", {offset_of(b, signal)}, true);
}

void ptx_signals_fence(llvm::IRBuilderBase &b) { assembly(b, b.getVoidTy(), "fence.mbarrier_init.release.cluster;", "", {}, true); }

void ptx_signal_expect(llvm::IRBuilderBase &b, V signal, uint64_t bytes) {
  assembly(b, b.getVoidTy(), "mbarrier.arrive.expect_tx.shared::cta.b64 _, [$0], " + std::to_string(bytes) + ";", "r", {offset_of(b, signal)}, true);
}

void ptx_signal_arrive(llvm::IRBuilderBase &b, V signal) {
  assembly(b, b.getVoidTy(), "mbarrier.arrive.shared::cta.b64 _, [$0];", "r", {offset_of(b, signal)}, true);
}

void ptx_signal_wait(llvm::IRBuilderBase &b, V signal, V parity) {
  llvm::Function *in = b.GetInsertBlock()->getParent();
  auto *again = llvm::BasicBlock::Create(b.getContext(), "signal", in), *ended = llvm::BasicBlock::Create(b.getContext(), "signalled", in);
  V at = offset_of(b, signal);
  b.CreateBr(again);
  b.SetInsertPoint(again); // the instruction itself waits for a time that the hardware sets
  b.CreateCondBr(assembly(b, b.getInt1Ty(), "mbarrier.try_wait.parity.shared::cta.b64 $0, [$1], $2;", "=b,r,r", {at, parity}, true), ended, again);
  b.SetInsertPoint(ended);
}

void ptx_tensor_copy(llvm::IRBuilderBase &b, V to, V map, const std::vector<V> &coordinates, V signal) {
  std::vector<V> operands = {offset_of(b, to), map};
  std::string constraints = "r,l", list;
  for (V at : coordinates) {
    list += (list.empty() ? "$" : ", $") + std::to_string(operands.size());
    constraints += ",r";
    operands.push_back(at);
  }
  operands.push_back(offset_of(b, signal));
  const std::string text = "cp.async.bulk.tensor." + std::to_string(coordinates.size()) + "d.shared::cluster.global.mbarrier::complete_tx::bytes [$0], [$1, {" + list +
                           "}], [$" + std::to_string(operands.size() - 1) + "];";
  assembly(b, b.getVoidTy(), text, constraints + ",r", operands, true);
}

void ptx_prefetch_map(llvm::IRBuilderBase &b, V map) { assembly(b, b.getVoidTy(), "prefetch.tensormap [$0];", "l", {map}, true); }

} // namespace ingot::aotc::emit
