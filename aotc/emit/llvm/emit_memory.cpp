// Loads, stores and atomics. Whole vectors are one access; partial ones use masked instructions where the target has
// them, and otherwise a branch: the full vector, or a loop over the elements that are there. Gathers are scalar loads:
// 0.50 ns an element against 0.67 with vgather on Zen 3, and the same everywhere.
#include <algorithm>

#include "aotc/base/error.h"
#include "aotc/emit/llvm/function_emitter.h"

#include "llvm/IR/MDBuilder.h"

namespace ingot::aotc {

using kernel::Memory;
using kernel::Op;
using kernel::Opcode;
using kernel::Space;

namespace {

constexpr uint64_t kStackArrayBytes = 4096;  // a larger private array goes to scratch
constexpr uint64_t kStackTotalBytes = 16384; // and so does what exceeds this together

} // namespace

// Decides where each array lives and gives every memory its alias scope. A scratch array's base is left as its offset.
void FunctionEmitter::setup_memories() {
  llvm::MDBuilder md(context_);
  llvm::MDNode *domain = md.createAnonymousAliasScopeDomain(kernel_.name);
  std::vector<llvm::MDNode *> scopes;
  uint64_t stack = 0;
  for (const Memory &memory : kernel_.memories) {
    Mem mem;
    mem.element = memory_type(memory.type);
    mem.element_bytes = byte_size(memory.type);
    mem.align = std::max(memory.align, mem.element_bytes);
    mem.invariant = memory.space == Space::kBuffer && memory.access == kernel::Access::kRead;
    llvm::MDNode *scope = md.createAnonymousAliasScope(domain, memory.name);
    if (memory.space != Space::kBuffer) {
      uint64_t bytes = memory.count * mem.element_bytes;
      bool on_stack = memory.space == Space::kPrivate && bytes <= kStackArrayBytes && stack + bytes <= kStackTotalBytes;
      if (on_stack) {
        // The stack itself is 16-byte aligned; more would cost a realigned frame.
        mem.align = std::min(mem.align, 16u);
        mem.base = alloca_at_entry(llvm::ArrayType::get(mem.element, memory.count), mem.align, memory.name.c_str());
        stack += bytes;
      } else {
        uint64_t align = std::min<uint64_t>(mem.align, 64);
        scratch_bytes_ = (scratch_bytes_ + align - 1) / align * align;
        mem.base = i64(static_cast<int64_t>(scratch_bytes_));
        mem.align = static_cast<uint32_t>(align);
        scratch_bytes_ += bytes;
      }
    }
    scopes.push_back(scope);
    memories_.push_back(mem);
  }
  for (size_t k = 0; k < memories_.size(); k++) {
    std::vector<llvm::Metadata *> others;
    for (size_t o = 0; o < scopes.size(); o++)
      if (o != k)
        others.push_back(scopes[o]);
    memories_[k].scope = llvm::MDNode::get(context_, {scopes[k]});
    memories_[k].others = others.empty() ? nullptr : llvm::MDNode::get(context_, others);
  }
}

FunctionEmitter::V FunctionEmitter::pointer(const Mem &mem, V index) {
  return b_.CreateInBoundsGEP(mem.element, mem.base, index);
}

// Where the access may not happen, the address may be anything.
FunctionEmitter::V FunctionEmitter::maybe_pointer(const Mem &mem, V index) {
  return b_.CreateGEP(mem.element, mem.base, index);
}

// Stack memory that one op fills and reads at once, or that stands in for an element that is not to be touched. Ops
// share it: each is done with it before the next begins.
FunctionEmitter::V FunctionEmitter::slot_of(llvm::Type *type) {
  V &slot = slots_[type];
  if (!slot)
    slot = alloca_at_entry(type, 16, "slot");
  return slot;
}

uint32_t FunctionEmitter::access_align(const Mem &mem, const Op &op) const {
  return std::max(std::min(op.align * mem.element_bytes, mem.align), mem.element_bytes);
}

FunctionEmitter::V FunctionEmitter::to_memory(Type type, V x) {
  return type.scalar == Scalar::kBool ? b_.CreateZExt(x, like(x->getType(), b_.getInt8Ty())) : x;
}

FunctionEmitter::V FunctionEmitter::from_memory(Type type, V x) {
  return type.scalar == Scalar::kBool ? b_.CreateICmpNE(x, int_splat(x->getType(), 0)) : x;
}

llvm::Instruction *FunctionEmitter::annotate(const Mem &mem, llvm::Instruction *access, bool is_load) {
  access->setMetadata(llvm::LLVMContext::MD_alias_scope, mem.scope);
  if (mem.others)
    access->setMetadata(llvm::LLVMContext::MD_noalias, mem.others);
  if (is_load && mem.invariant && llvm::isa<llvm::LoadInst>(access))
    access->setMetadata(llvm::LLVMContext::MD_invariant_load, llvm::MDNode::get(context_, {}));
  return access;
}

// `plain` is false where the pointer may be a stand-in that is not in `mem`.
FunctionEmitter::V FunctionEmitter::raw_load(const Mem &mem, Type type, V ptr, uint32_t align, bool plain) {
  llvm::Type *stored = type.is_vector() ? llvm::FixedVectorType::get(mem.element, type.lanes) : mem.element;
  llvm::LoadInst *load = b_.CreateAlignedLoad(stored, ptr, llvm::Align(align));
  if (plain)
    annotate(mem, load, true);
  return from_memory(type, load);
}

void FunctionEmitter::raw_store(const Mem &mem, V value, V ptr, uint32_t align, bool plain) {
  llvm::StoreInst *store = b_.CreateAlignedStore(value, ptr, llvm::Align(align));
  if (plain)
    annotate(mem, store, false);
}

bool FunctionEmitter::has_masked(const Mem &mem) const {
  return traits_.masked_bits && mem.element_bytes * 8 >= traits_.masked_bits;
}

// Lane k is on where k < count, for any count.
FunctionEmitter::V FunctionEmitter::count_mask(V count, uint32_t lanes) {
  V n = b_.CreateBinaryIntrinsic(llvm::Intrinsic::smax, count, index_constant(0));
  n = b_.CreateBinaryIntrinsic(llvm::Intrinsic::smin, n, index_constant(lanes));
  n = b_.CreateSExtOrTrunc(n, b_.getInt32Ty());
  return b_.CreateICmpSLT(lane_iota(Type(Scalar::kI32, lanes)), b_.CreateVectorSplat(lanes, n));
}

void FunctionEmitter::emit_load_part(const Op &op) {
  const Mem &mem = memories_[op.memory];
  Type type = kernel_.types[op.results[0]];
  V ptr = maybe_pointer(mem, get(op.operands[0])), count = get(op.operands[1]), otherwise = get(op.operands[2]);
  uint32_t align = access_align(mem, op);
  if (!type.is_vector()) { // one lane
    V dummy = slot_of(mem.element);
    V there = b_.CreateICmpSGT(count, index_constant(0));
    V loaded = raw_load(mem, type, b_.CreateSelect(there, ptr, dummy), mem.element_bytes, false);
    return set(op, b_.CreateSelect(there, loaded, otherwise));
  }
  auto *stored = llvm::FixedVectorType::get(mem.element, type.lanes);
  V fallback = to_memory(type, otherwise);
  if (has_masked(mem)) {
    auto *load = b_.CreateMaskedLoad(stored, ptr, llvm::Align(align), count_mask(count, type.lanes), fallback);
    return set(op, from_memory(type, annotate(mem, load, true)));
  }
  V all = b_.CreateICmpSGE(count, index_constant(type.lanes));
  llvm::BasicBlock *whole = block("whole"), *part = block("part"), *join = block("join");
  b_.CreateCondBr(all, whole, part);
  b_.SetInsertPoint(whole);
  V full = annotate(mem, b_.CreateAlignedLoad(stored, ptr, llvm::Align(align)), true);
  b_.CreateBr(join);
  b_.SetInsertPoint(part);
  V slot = slot_of(stored);
  b_.CreateAlignedStore(fallback, slot, llvm::Align(16));
  counted_loop(index_constant(0), count, index_constant(1), false, {}, [&](V i, const VV &) {
    V element = annotate(mem, b_.CreateAlignedLoad(mem.element, b_.CreateInBoundsGEP(mem.element, ptr, i),
                                                   llvm::Align(mem.element_bytes)), true);
    b_.CreateAlignedStore(element, b_.CreateInBoundsGEP(mem.element, slot, i), llvm::Align(mem.element_bytes));
    return VV{};
  });
  V pieced = b_.CreateAlignedLoad(stored, slot, llvm::Align(16));
  llvm::BasicBlock *part_end = b_.GetInsertBlock();
  b_.CreateBr(join);
  b_.SetInsertPoint(join);
  llvm::PHINode *phi = b_.CreatePHI(stored, 2);
  phi->addIncoming(full, whole);
  phi->addIncoming(pieced, part_end);
  set(op, from_memory(type, phi));
}

// The branch pays even where there are masked stores: they are slow on several machines, and mostly all lanes are on.
void FunctionEmitter::emit_store_part(const Op &op) {
  const Mem &mem = memories_[op.memory];
  Type type = kernel_.types[op.operands[1]];
  V ptr = maybe_pointer(mem, get(op.operands[0])), value = to_memory(type, get(op.operands[1])),
    count = get(op.operands[2]);
  uint32_t align = access_align(mem, op);
  llvm::BasicBlock *whole = block("whole"), *join = block("join");
  if (!type.is_vector()) {
    b_.CreateCondBr(b_.CreateICmpSGT(count, index_constant(0)), whole, join);
    b_.SetInsertPoint(whole);
    raw_store(mem, value, ptr, align);
    b_.CreateBr(join);
    b_.SetInsertPoint(join);
    return;
  }
  llvm::BasicBlock *part = block("part");
  b_.CreateCondBr(b_.CreateICmpSGE(count, index_constant(type.lanes)), whole, part);
  b_.SetInsertPoint(whole);
  raw_store(mem, value, ptr, align);
  b_.CreateBr(join);
  b_.SetInsertPoint(part);
  if (has_masked(mem)) {
    annotate(mem, b_.CreateMaskedStore(value, ptr, llvm::Align(align), count_mask(count, type.lanes)), false);
  } else {
    V slot = slot_of(value->getType());
    b_.CreateAlignedStore(value, slot, llvm::Align(16));
    counted_loop(index_constant(0), count, index_constant(1), false, {}, [&](V i, const VV &) {
      V element = b_.CreateAlignedLoad(mem.element, b_.CreateInBoundsGEP(mem.element, slot, i),
                                       llvm::Align(mem.element_bytes));
      raw_store(mem, element, b_.CreateInBoundsGEP(mem.element, ptr, i), mem.element_bytes);
      return VV{};
    });
  }
  b_.CreateBr(join);
  b_.SetInsertPoint(join);
}

// A pointer that may be accessed whatever the mask: the element, or a stand-in on the stack.
FunctionEmitter::V FunctionEmitter::lane_slot(const Mem &, V mask, uint32_t lane, V ptr, V dummy) {
  return mask ? b_.CreateSelect(b_.CreateExtractElement(mask, uint64_t{lane}), ptr, dummy) : ptr;
}

void FunctionEmitter::emit_load_if(const Op &op) {
  const Mem &mem = memories_[op.memory];
  Type type = kernel_.types[op.results[0]];
  V condition = get(op.operands[0]), index = get(op.operands[1]), otherwise = get(op.operands[2]);
  uint32_t align = access_align(mem, op);
  if (!condition->getType()->isVectorTy()) {
    llvm::Type *stored = type.is_vector() ? llvm::FixedVectorType::get(mem.element, type.lanes) : mem.element;
    if (!type.is_vector()) { // without a branch
      V dummy = slot_of(stored);
      V ptr = maybe_pointer(mem, index);
      V loaded = raw_load(mem, type, b_.CreateSelect(condition, ptr, dummy), mem.element_bytes, false);
      return set(op, b_.CreateSelect(condition, loaded, otherwise));
    }
    llvm::BasicBlock *before = b_.GetInsertBlock(), *access = block("load"), *join = block("join");
    b_.CreateCondBr(condition, access, join);
    b_.SetInsertPoint(access);
    V loaded = raw_load(mem, type, pointer(mem, index), align);
    b_.CreateBr(join);
    b_.SetInsertPoint(join);
    llvm::PHINode *phi = b_.CreatePHI(type_of(type), 2);
    phi->addIncoming(otherwise, before);
    phi->addIncoming(loaded, access);
    return set(op, phi);
  }
  V ptr = maybe_pointer(mem, index);
  if (has_masked(mem)) {
    auto *stored = llvm::FixedVectorType::get(mem.element, type.lanes);
    auto *load = b_.CreateMaskedLoad(stored, ptr, llvm::Align(align), condition, to_memory(type, otherwise));
    return set(op, from_memory(type, annotate(mem, load, true)));
  }
  V dummy = slot_of(mem.element);
  V result = otherwise;
  for (uint32_t lane = 0; lane < type.lanes; lane++) {
    V slot = lane_slot(mem, condition, lane, b_.CreateGEP(mem.element, ptr, index_constant(lane)), dummy);
    V loaded = raw_load(mem, type.with_lanes(1), slot, mem.element_bytes, false);
    result = b_.CreateInsertElement(result, loaded, uint64_t{lane});
  }
  set(op, b_.CreateSelect(condition, result, otherwise));
}

void FunctionEmitter::emit_store_if(const Op &op) {
  const Mem &mem = memories_[op.memory];
  Type type = kernel_.types[op.operands[2]];
  V condition = get(op.operands[0]), index = get(op.operands[1]), value = to_memory(type, get(op.operands[2]));
  uint32_t align = access_align(mem, op);
  if (!condition->getType()->isVectorTy()) {
    llvm::BasicBlock *access = block("store"), *join = block("join");
    b_.CreateCondBr(condition, access, join);
    b_.SetInsertPoint(access);
    raw_store(mem, value, pointer(mem, index), align);
    b_.CreateBr(join);
    b_.SetInsertPoint(join);
    return;
  }
  V ptr = maybe_pointer(mem, index);
  if (has_masked(mem)) {
    annotate(mem, b_.CreateMaskedStore(value, ptr, llvm::Align(align), condition), false);
    return;
  }
  V dummy = slot_of(mem.element);
  for (uint32_t lane = 0; lane < type.lanes; lane++)
    raw_store(mem, b_.CreateExtractElement(value, uint64_t{lane}),
              lane_slot(mem, condition, lane, b_.CreateGEP(mem.element, ptr, index_constant(lane)), dummy),
              mem.element_bytes, false);
}

void FunctionEmitter::emit_gather(const Op &op) {
  const Mem &mem = memories_[op.memory];
  Type type = kernel_.types[op.results[0]];
  V indices = get(op.operands[0]), mask = op.operands.size() > 1 ? get(op.operands[1]) : nullptr;
  V otherwise = op.operands.size() > 2 ? get(op.operands[2]) : nullptr;
  V dummy = mask ? slot_of(mem.element) : nullptr;
  V result = llvm::PoisonValue::get(type_of(type));
  for (uint32_t lane = 0; lane < type.lanes; lane++) {
    V index = b_.CreateExtractElement(indices, uint64_t{lane});
    V ptr = mask ? maybe_pointer(mem, index) : pointer(mem, index);
    V loaded = raw_load(mem, type.with_lanes(1), lane_slot(mem, mask, lane, ptr, dummy), mem.element_bytes, !mask);
    result = b_.CreateInsertElement(result, loaded, uint64_t{lane});
  }
  set(op, mask ? b_.CreateSelect(mask, result, otherwise) : result);
}

void FunctionEmitter::emit_scatter(const Op &op) {
  const Mem &mem = memories_[op.memory];
  Type type = kernel_.types[op.operands[1]];
  V indices = get(op.operands[0]), value = to_memory(type, get(op.operands[1]));
  V mask = op.operands.size() > 2 ? get(op.operands[2]) : nullptr;
  V dummy = mask ? slot_of(mem.element) : nullptr;
  for (uint32_t lane = 0; lane < type.lanes; lane++) {
    V index = b_.CreateExtractElement(indices, uint64_t{lane});
    V ptr = mask ? maybe_pointer(mem, index) : pointer(mem, index);
    raw_store(mem, b_.CreateExtractElement(value, uint64_t{lane}), lane_slot(mem, mask, lane, ptr, dummy),
              mem.element_bytes, !mask);
  }
}

void FunctionEmitter::emit_atomic(const Op &op) {
  const Mem &mem = memories_[op.memory];
  auto kind = op.code == Opcode::kAtomicAdd   ? llvm::AtomicRMWInst::Add
              : op.code == Opcode::kAtomicMin ? llvm::AtomicRMWInst::Min
                                              : llvm::AtomicRMWInst::Max;
  set(op, annotate(mem, b_.CreateAtomicRMW(kind, pointer(mem, get(op.operands[0])), get(op.operands[1]),
                                           llvm::Align(mem.element_bytes), llvm::AtomicOrdering::Monotonic), false));
}

// Into all cache levels. The index may be anything: a prefetch never faults.
void FunctionEmitter::emit_prefetch(const Op &op) {
  const Mem &mem = memories_[op.memory];
  V ptr = maybe_pointer(mem, get(op.operands[0]));
  b_.CreateIntrinsic(llvm::Intrinsic::prefetch, {b_.getPtrTy()}, {ptr, b_.getInt32(0), b_.getInt32(3), b_.getInt32(1)});
}

} // namespace ingot::aotc
