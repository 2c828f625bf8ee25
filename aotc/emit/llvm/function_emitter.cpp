#include "aotc/emit/llvm/function_emitter.h"

#include "aotc/base/error.h"
#include "schemas/cpu_abi.h"

#include "llvm/IR/MDBuilder.h"

namespace ingot::aotc {

using kernel::Kernel;
using kernel::Op;
using kernel::Opcode;
using kernel::Region;
using kernel::ValueId;

FunctionEmitter::FunctionEmitter(const Kernel &kernel, const TargetRecord &record, const CodeTraits &traits,
                                 llvm::Module &module)
    : kernel_(kernel), record_(record), traits_(traits), module_(module), context_(module.getContext()), b_(context_) {}

void FunctionEmitter::fail(const std::string &what) const {
  throw InternalError("LLVM emitter: kernel " + kernel_.name + " for " + record_.name + ": " + what);
}

llvm::Function *FunctionEmitter::emit(const std::string &symbol) {
  if (kernel_.kind != kernel::Class::kSimd)
    fail("only kernels of class simd run on CPUs");
  if (kernel_.local_size != std::array<uint32_t, 3>{1, 1, 1})
    fail("a simd kernel has one thread a workgroup");
  function_ = llvm::Function::Create(llvm::FunctionType::get(b_.getVoidTy(), {b_.getPtrTy()}, false),
                                     llvm::Function::ExternalLinkage, symbol, module_);
  function_->setVisibility(llvm::GlobalValue::HiddenVisibility);
  function_->setDSOLocal(true);
  function_->addParamAttr(0, llvm::Attribute::NoAlias);
  function_->addParamAttr(0, llvm::Attribute::getWithAlignment(context_, llvm::Align(8)));
  function_->setAlignment(llvm::Align(32));
  entry_ = block("entry");
  b_.SetInsertPoint(entry_);
  values_.assign(kernel_.types.size(), nullptr);
  emit_prologue();
  emit_groups();
  return function_;
}

// Loads the header and leaves at once where there is nothing to do; then bindings and params, each once.
void FunctionEmitter::emit_prologue() {
  args_ = function_->getArg(0);
  llvm::MDNode *empty = llvm::MDNode::get(context_, {});
  auto field = [&](llvm::Type *type, uint64_t offset, const char *name) {
    V ptr = b_.CreateInBoundsGEP(b_.getInt8Ty(), args_, i64(static_cast<int64_t>(offset)));
    llvm::LoadInst *load = b_.CreateAlignedLoad(type, ptr, llvm::Align(type->isIntegerTy(32) ? 4 : 8), name);
    load->setMetadata(llvm::LLVMContext::MD_invariant_load, empty);
    load->setMetadata(llvm::LLVMContext::MD_noundef, empty);
    return load;
  };
  group_begin_ = field(b_.getInt32Ty(), offsetof(IngotCpuArgs, group_begin), "group_begin");
  group_end_ = field(b_.getInt32Ty(), offsetof(IngotCpuArgs, group_end), "group_end");
  llvm::BasicBlock *setup = block("setup"), *none = block("none");
  b_.CreateCondBr(b_.CreateICmpULT(group_begin_, group_end_), setup, none);
  b_.SetInsertPoint(none);
  b_.CreateRetVoid();
  b_.SetInsertPoint(setup);

  for (unsigned d = 0; d < 3; d++) {
    static constexpr const char *kNames[] = {"grid_x", "grid_y", "grid_z"};
    grid_[d] = field(b_.getInt32Ty(), offsetof(IngotCpuArgs, grid) + 4 * d, kNames[d]);
  }
  if (uses(kernel_.body, Opcode::kError))
    error_ = field(b_.getPtrTy(), offsetof(IngotCpuArgs, error), "error");

  setup_memories();
  uint64_t offset = INGOT_CPU_ARGS_HEADER;
  for (Mem &mem : memories_) {
    if (mem.base)
      continue; // an array; buffers come first
    // No alignment is claimed for the pointer: what accesses may rely on is theirs to say (Op::align).
    mem.base = field(b_.getPtrTy(), offset,
                     kernel_.memories[static_cast<size_t>(&mem - memories_.data())].name.c_str());
    offset += 8;
  }
  // An array in scratch is addressed from its start.
  if (scratch_bytes_ > 0) {
    auto *scratch = field(b_.getPtrTy(), offsetof(IngotCpuArgs, scratch), "scratch");
    scratch->setMetadata(llvm::LLVMContext::MD_align,
                         llvm::MDNode::get(context_, llvm::ConstantAsMetadata::get(b_.getInt64(64))));
    for (Mem &mem : memories_)
      if (auto *in_scratch = llvm::dyn_cast<llvm::ConstantInt>(mem.base)) // its offset, until here
        mem.base = b_.CreateInBoundsGEP(b_.getInt8Ty(), scratch, in_scratch);
  }

  for (const kernel::Param &param : kernel_.params) {
    auto *word = field(b_.getInt64Ty(), offset, param.name.c_str());
    offset += 8;
    V value = word;
    switch (param.type) {
    case Scalar::kIndex:
    case Scalar::kI64:
      if (param.min != INT64_MIN && param.max != INT64_MAX && param.min <= param.max)
        word->setMetadata(llvm::LLVMContext::MD_range,
                          llvm::MDBuilder(context_).createRange(llvm::APInt(64, static_cast<uint64_t>(param.min), true),
                                                                llvm::APInt(64, static_cast<uint64_t>(param.max + 1),
                                                                            true)));
      value = b_.CreateTrunc(word, scalar_type(param.type)); // nothing where the type has 64 bits
      break;
    case Scalar::kI32: value = b_.CreateTrunc(word, b_.getInt32Ty()); break;
    case Scalar::kF32: value = b_.CreateBitCast(b_.CreateTrunc(word, b_.getInt32Ty()), b_.getFloatTy()); break;
    case Scalar::kF64: value = b_.CreateBitCast(word, b_.getDoubleTy()); break;
    case Scalar::kBool: value = b_.CreateICmpNE(word, i64(0)); break;
    default: value = b_.CreateTrunc(word, scalar_type(param.type)); break;
    }
    params_.push_back(value);
  }
}

// for g in [group_begin, group_end): ids divided out once, then counted up.
void FunctionEmitter::emit_groups() {
  V y = b_.CreateUDiv(group_begin_, grid_[0]);
  V x = b_.CreateURem(group_begin_, grid_[0]);
  V z = b_.CreateUDiv(y, grid_[1]);
  y = b_.CreateURem(y, grid_[1]);
  llvm::BasicBlock *before = b_.GetInsertBlock(), *loop = block("group"), *done = block("done");
  b_.CreateBr(loop);
  b_.SetInsertPoint(loop);
  V start[4] = {group_begin_, x, y, z};
  llvm::PHINode *phi[4];
  static constexpr const char *kNames[] = {"group", "group_x", "group_y", "group_z"};
  for (int k = 0; k < 4; k++) {
    phi[k] = b_.CreatePHI(b_.getInt32Ty(), 2, kNames[k]);
    phi[k]->addIncoming(start[k], before);
  }
  for (int d = 0; d < 3; d++)
    group_[d] = b_.CreateZExt(phi[d + 1], scalar_type(Scalar::kIndex));

  emit_region(kernel_.body);

  V one = b_.getInt32(1), zero = b_.getInt32(0);
  V next = b_.CreateAdd(phi[0], one, "", true);
  V nx = b_.CreateAdd(phi[1], one), ny = b_.CreateAdd(phi[2], one), nz = b_.CreateAdd(phi[3], one);
  V wrap_x = b_.CreateICmpEQ(nx, grid_[0]);
  V wrap_y = b_.CreateAnd(wrap_x, b_.CreateICmpEQ(ny, grid_[1]));
  nx = b_.CreateSelect(wrap_x, zero, nx);
  ny = b_.CreateSelect(wrap_y, zero, b_.CreateSelect(wrap_x, ny, phi[2]));
  nz = b_.CreateSelect(wrap_y, nz, phi[3]);
  llvm::BasicBlock *latch = b_.GetInsertBlock();
  V following[4] = {next, nx, ny, nz};
  for (int k = 0; k < 4; k++)
    phi[k]->addIncoming(following[k], latch);
  b_.CreateCondBr(b_.CreateICmpULT(next, group_end_), loop, done);
  b_.SetInsertPoint(done);
  b_.CreateRetVoid();
}

void FunctionEmitter::emit_region(const Region &region) {
  for (const Op &op : region.ops)
    if (op.code != Opcode::kYield)
      emit_op(op);
    else
      leave_region(op);
}

FunctionEmitter::VV FunctionEmitter::emit_body(const Region &region, const VV &args) {
  ensure(region.params.size() == args.size(), "a region's params do not match what it is given");
  for (size_t k = 0; k < args.size(); k++)
    values_[region.params[k]] = args[k];
  emit_region(region);
  if (region.ops.empty() || region.ops.back().code != Opcode::kYield)
    return {};
  return get(region.ops.back().operands);
}

void FunctionEmitter::emit_op(const Op &op) {
  auto type = [&](size_t operand) { return kernel_.types[op.operands[operand]]; };
  Type result = op.results.empty() ? Type() : kernel_.types[op.results[0]];
  switch (op.code) {
  case Opcode::kConst: return set(op, emit_constant(op, result));
  case Opcode::kParam: return set(op, params_.at(static_cast<size_t>(op.imm)));
  case Opcode::kGroupId: return set(op, group_[op.imm]);
  case Opcode::kLocalId: return set(op, index_constant(0));
  case Opcode::kGridSize: return set(op, b_.CreateZExt(grid_[op.imm], scalar_type(Scalar::kIndex)));
  case Opcode::kLaneIota: return set(op, lane_iota(result));

  case Opcode::kEq: case Opcode::kNe: case Opcode::kLt: case Opcode::kLe: case Opcode::kGt: case Opcode::kGe:
  case Opcode::kLtU: case Opcode::kLeU: case Opcode::kGtU: case Opcode::kGeU:
    return set(op, compare(op.code, type(0), get(op.operands[0]), get(op.operands[1])));
  case Opcode::kIsNan: case Opcode::kIsInf:
    return set(op, is_nan_or_inf(op.code == Opcode::kIsNan, type(0), get(op.operands[0])));
  case Opcode::kSelect:
    return set(op, b_.CreateSelect(get(op.operands[0]), get(op.operands[1]), get(op.operands[2])));

  case Opcode::kConvert: case Opcode::kConvertU:
    return set(op, convert(result, type(0), get(op.operands[0]), op.code == Opcode::kConvertU));
  case Opcode::kBitcast: return set(op, b_.CreateBitCast(get(op.operands[0]), type_of(result)));

  case Opcode::kSplat: return set(op, b_.CreateVectorSplat(result.lanes, get(op.operands[0])));
  case Opcode::kExtract: return set(op, b_.CreateExtractElement(get(op.operands[0]), static_cast<uint64_t>(op.imm)));
  case Opcode::kInsert:
    return set(op, b_.CreateInsertElement(get(op.operands[0]), get(op.operands[1]), static_cast<uint64_t>(op.imm)));
  case Opcode::kShuffle: return set(op, shuffle(op));
  case Opcode::kReduceAdd: case Opcode::kReduceMul: case Opcode::kReduceMin: case Opcode::kReduceMax:
    return set(op, reduce(op.code, type(0), get(op.operands[0])));

  case Opcode::kDot4: case Opcode::kDot2: return set(op, dot(op));

  case Opcode::kLoad: {
    const Mem &mem = memories_[op.memory];
    return set(op, raw_load(mem, result, pointer(mem, get(op.operands[0])), access_align(mem, op)));
  }
  case Opcode::kStore: {
    const Mem &mem = memories_[op.memory];
    return raw_store(mem, to_memory(type(1), get(op.operands[1])), pointer(mem, get(op.operands[0])),
                     access_align(mem, op));
  }
  case Opcode::kLoadPart: return emit_load_part(op);
  case Opcode::kStorePart: return emit_store_part(op);
  case Opcode::kLoadIf: return emit_load_if(op);
  case Opcode::kStoreIf: return emit_store_if(op);
  case Opcode::kGather: return emit_gather(op);
  case Opcode::kScatter: return emit_scatter(op);
  case Opcode::kAtomicAdd: case Opcode::kAtomicMin: case Opcode::kAtomicMax: return emit_atomic(op);
  case Opcode::kPrefetch: return emit_prefetch(op);

  case Opcode::kFor: return emit_for(op);
  case Opcode::kIf: return emit_if(op);
  case Opcode::kWhile: return emit_while(op);
  case Opcode::kYield: return;

  // One thread a workgroup: a barrier orders nothing, a subgroup is that thread.
  case Opcode::kBarrier: return;
  case Opcode::kSubgroupAdd: case Opcode::kSubgroupMin: case Opcode::kSubgroupMax: case Opcode::kSubgroupShuffle:
    return set(op, get(op.operands[0]));
  case Opcode::kError: return emit_error(op);

  default: return set(op, arithmetic(op.code, result, get(op.operands), op.contract));
  }
}

FunctionEmitter::V FunctionEmitter::emit_constant(const Op &op, Type type) {
  llvm::Type *t = type_of(type);
  switch (type.scalar) {
  case Scalar::kF32:
  case Scalar::kF64: return llvm::ConstantFP::get(t, op.fimm);
  case Scalar::kF16:
  case Scalar::kBF16: {
    llvm::APFloat value(op.fimm);
    bool inexact;
    value.convert(type.scalar == Scalar::kF16 ? llvm::APFloat::IEEEhalf() : llvm::APFloat::BFloat(),
                  llvm::APFloat::rmNearestTiesToEven, &inexact);
    return llvm::ConstantInt::get(t, value.bitcastToAPInt());
  }
  case Scalar::kBool: return llvm::ConstantInt::get(t, op.imm & 1);
  default: return llvm::ConstantInt::get(t, static_cast<uint64_t>(op.imm), true);
  }
}

// `narrow`: the counter could wrap near the end of its type, so that it is compared by what remains.
FunctionEmitter::VV FunctionEmitter::counted_loop(V lo, V hi, V step, bool narrow, const VV &init,
                                                  const std::function<VV(V, const VV &)> &body, V *stop) {
  V enter = b_.CreateICmpSLT(lo, hi);
  auto *known = llvm::dyn_cast<llvm::ConstantInt>(enter);
  if (stop)
    *stop = lo;
  if (known && known->isZero())
    return init;
  V last = narrow ? nullptr : b_.CreateSub(hi, step, "", false, true);
  llvm::BasicBlock *before = b_.GetInsertBlock(), *loop = block("loop"), *exit = block("exit");
  if (known)
    b_.CreateBr(loop);
  else
    b_.CreateCondBr(enter, loop, exit);
  b_.SetInsertPoint(loop);
  llvm::PHINode *i = b_.CreatePHI(lo->getType(), 2, "i");
  i->addIncoming(lo, before);
  std::vector<llvm::PHINode *> phis;
  VV carried;
  for (V v : init) {
    phis.push_back(b_.CreatePHI(v->getType(), 2));
    phis.back()->addIncoming(v, before);
    carried.push_back(phis.back());
  }
  VV next = body(i, carried);
  V following = b_.CreateAdd(i, step, "i.next", false, !narrow);
  // Not written like the test before the loop: LLVM would merge the two into one at the loop's top, and jump to it.
  auto *by = llvm::dyn_cast<llvm::ConstantInt>(step);
  V again = narrow             ? b_.CreateICmpUGT(b_.CreateSub(hi, i), step)
            : by && by->isOne() ? b_.CreateICmpNE(following, hi)
                                : b_.CreateICmpSLT(i, last);
  llvm::BasicBlock *latch = b_.GetInsertBlock();
  i->addIncoming(following, latch);
  for (size_t k = 0; k < phis.size(); k++)
    phis[k]->addIncoming(next[k], latch);
  b_.CreateCondBr(again, loop, exit);
  b_.SetInsertPoint(exit);
  if (stop)
    *stop = following;
  if (known)
    return next;
  if (stop) {
    llvm::PHINode *phi = b_.CreatePHI(i->getType(), 2);
    phi->addIncoming(lo, before);
    phi->addIncoming(following, latch);
    *stop = phi;
  }
  VV results;
  for (size_t k = 0; k < init.size(); k++) {
    llvm::PHINode *phi = b_.CreatePHI(init[k]->getType(), 2);
    phi->addIncoming(init[k], before);
    phi->addIncoming(next[k], latch);
    results.push_back(phi);
  }
  return results;
}

// Unrolls by emitting the body several times; what is left over runs in a second loop.
void FunctionEmitter::emit_for(const Op &op) {
  const Region &region = op.regions[0];
  Scalar scalar = kernel_.types[op.operands[0]].scalar;
  V lo = get(op.operands[0]), hi = get(op.operands[1]), step = get(op.operands[2]);
  // Counters of less than 64 bits count in 64, where they cannot wrap.
  bool small = scalar != Scalar::kIndex && bit_width(scalar) < 64, narrow = scalar == Scalar::kI64;
  if (small) {
    lo = b_.CreateSExt(lo, b_.getInt64Ty());
    hi = b_.CreateSExt(hi, b_.getInt64Ty());
    step = b_.CreateSExt(step, b_.getInt64Ty());
  }
  auto number = [&](int64_t value) {
    return llvm::ConstantInt::get(lo->getType(), static_cast<uint64_t>(value), true);
  };
  auto body = [&](V i, const VV &carried) {
    VV args{small ? b_.CreateTrunc(i, scalar_type(scalar)) : i};
    args.insert(args.end(), carried.begin(), carried.end());
    return emit_body(region, args);
  };
  VV carried = get(op.operands, 3);

  auto *lo_c = llvm::dyn_cast<llvm::ConstantInt>(lo), *hi_c = llvm::dyn_cast<llvm::ConstantInt>(hi),
       *step_c = llvm::dyn_cast<llvm::ConstantInt>(step);
  uint64_t unroll = op.unroll;
  VV results;
  if (lo_c && hi_c && step_c && step_c->getSExtValue() > 0) {
    int64_t first = lo_c->getSExtValue(), last = hi_c->getSExtValue(), by = step_c->getSExtValue();
    uint64_t span = first < last ? static_cast<uint64_t>(last) - static_cast<uint64_t>(first) : 0;
    uint64_t trips = span / static_cast<uint64_t>(by) + (span % static_cast<uint64_t>(by) != 0);
    auto at = [&](uint64_t k) {
      return number(static_cast<int64_t>(static_cast<uint64_t>(first) + k * static_cast<uint64_t>(by)));
    };
    uint64_t looped = 0; // trips that the loop below covers; the rest is emitted behind it
    if (unroll == 0 || trips <= unroll || trips <= 1)
      looped = 0;
    else
      looped = trips / unroll * unroll;
    if (looped > 0)
      // Not past hi, which could overflow: the last stride starts below it either way.
      carried = counted_loop(
          lo, looped == trips ? hi : at(looped), number(by * static_cast<int64_t>(unroll)), narrow, carried,
          [&](V i, const VV &in) {
            VV out = in;
            for (uint64_t u = 0; u < unroll; u++)
              out = body(u == 0 ? i : b_.CreateAdd(i, number(by * static_cast<int64_t>(u)), "", false, true),
                         out);
            return out;
          });
    for (uint64_t k = looped; k < trips; k++)
      carried = body(at(k), carried);
    results = carried;
  } else if (unroll <= 1 || narrow) {
    if (unroll == 0)
      fail("a loop to be unrolled fully has bounds that are not constant");
    results = counted_loop(lo, hi, step, narrow, carried, body);
  } else {
    V factor = number(static_cast<int64_t>(unroll));
    V stride = b_.CreateMul(step, factor, "", false, true);
    V main_hi = b_.CreateSub(hi, b_.CreateSub(stride, step, "", false, true), "", false, true);
    V rest = nullptr; // where the main loop stopped
    carried = counted_loop(lo, main_hi, stride, false, carried, [&](V i, const VV &in) {
      VV out = in;
      for (uint64_t u = 0; u < unroll; u++) {
        V at = b_.CreateMul(step, number(static_cast<int64_t>(u)), "", false, true);
        out = body(b_.CreateAdd(i, at, "", false, true), out);
      }
      return out;
    }, &rest);
    results = counted_loop(rest, hi, step, false, carried, body);
  }
  for (size_t k = 0; k < op.results.size(); k++)
    set(op, results[k], k);
}

void FunctionEmitter::emit_if(const Op &op) {
  V condition = get(op.operands[0]);
  if (auto *known = llvm::dyn_cast<llvm::ConstantInt>(condition)) {
    VV results = emit_body(op.regions[known->isZero() ? 1 : 0], {});
    for (size_t k = 0; k < op.results.size(); k++)
      set(op, results[k], k);
    return;
  }
  llvm::BasicBlock *side[2] = {block("then"), block("else")}, *join = block("join"), *end[2];
  b_.CreateCondBr(condition, side[0], side[1]);
  VV yielded[2];
  for (int s = 0; s < 2; s++) {
    b_.SetInsertPoint(side[s]);
    if (op.regions.size() > static_cast<size_t>(s))
      yielded[s] = emit_body(op.regions[static_cast<size_t>(s)], {});
    end[s] = b_.GetInsertBlock();
    b_.CreateBr(join);
  }
  b_.SetInsertPoint(join);
  for (size_t k = 0; k < op.results.size(); k++) {
    llvm::PHINode *phi = b_.CreatePHI(yielded[0][k]->getType(), 2);
    phi->addIncoming(yielded[0][k], end[0]);
    phi->addIncoming(yielded[1][k], end[1]);
    set(op, phi, k);
  }
}

void FunctionEmitter::emit_while(const Op &op) {
  VV init = get(op.operands);
  llvm::BasicBlock *before = b_.GetInsertBlock(), *test = block("while"), *body = block("do"), *exit = block("exit");
  b_.CreateBr(test);
  b_.SetInsertPoint(test);
  std::vector<llvm::PHINode *> phis;
  VV carried;
  for (V v : init) {
    phis.push_back(b_.CreatePHI(v->getType(), 2));
    phis.back()->addIncoming(v, before);
    carried.push_back(phis.back());
  }
  VV tested = emit_body(op.regions[0], carried);
  b_.CreateCondBr(tested[0], body, exit);
  b_.SetInsertPoint(body);
  VV passed(tested.begin() + 1, tested.end());
  VV next = emit_body(op.regions[1], passed);
  for (size_t k = 0; k < phis.size(); k++)
    phis[k]->addIncoming(next[k], b_.GetInsertBlock());
  b_.CreateBr(test);
  b_.SetInsertPoint(exit);
  for (size_t k = 0; k < op.results.size(); k++)
    set(op, passed[k], k);
}

// Any one of several errors may stay: the store is atomic so that the word is never torn.
void FunctionEmitter::emit_error(const Op &op) {
  llvm::BasicBlock *report = block("error"), *go_on = block("no_error");
  b_.CreateCondBr(get(op.operands[0]), report, go_on, llvm::MDBuilder(context_).createBranchWeights(1, 1 << 20));
  b_.SetInsertPoint(report);
  uint64_t word = static_cast<uint64_t>(op.imm2) << 32 | static_cast<uint32_t>(op.imm);
  llvm::StoreInst *store = b_.CreateAlignedStore(b_.getInt64(word), error_, llvm::Align(8));
  if (traits_.pointer_bits == 64)
    store->setAtomic(llvm::AtomicOrdering::Monotonic);
  b_.CreateBr(go_on);
  b_.SetInsertPoint(go_on);
}

llvm::BasicBlock *FunctionEmitter::block(const char *name) {
  return llvm::BasicBlock::Create(context_, name, function_);
}

FunctionEmitter::V FunctionEmitter::alloca_at_entry(llvm::Type *type, uint64_t align, const char *name) {
  llvm::IRBuilder<> at(entry_, entry_->getFirstInsertionPt());
  llvm::AllocaInst *slot = at.CreateAlloca(type, nullptr, name);
  slot->setAlignment(llvm::Align(align));
  return slot;
}

llvm::Type *FunctionEmitter::scalar_type(Scalar s) {
  switch (s) {
  case Scalar::kBool: return b_.getInt1Ty();
  case Scalar::kI8: return b_.getInt8Ty();
  case Scalar::kI16: case Scalar::kF16: case Scalar::kBF16: return b_.getInt16Ty();
  case Scalar::kI32: return b_.getInt32Ty();
  case Scalar::kI64: return b_.getInt64Ty();
  case Scalar::kIndex: return b_.getIntNTy(record_.index_bits);
  case Scalar::kF32: return b_.getFloatTy();
  case Scalar::kF64: return b_.getDoubleTy();
  }
  fail("an unknown scalar type");
}

llvm::Type *FunctionEmitter::memory_type(Scalar s) { return s == Scalar::kBool ? b_.getInt8Ty() : scalar_type(s); }

llvm::Type *FunctionEmitter::type_of(Type t) {
  llvm::Type *s = scalar_type(t.scalar);
  return t.lanes > 1 ? llvm::FixedVectorType::get(s, t.lanes) : s;
}

llvm::Type *FunctionEmitter::like(llvm::Type *shape, llvm::Type *scalar) {
  auto *vector = llvm::dyn_cast<llvm::FixedVectorType>(shape);
  return vector ? llvm::FixedVectorType::get(scalar, vector->getNumElements()) : scalar;
}

llvm::Type *FunctionEmitter::float_type(Type t) {
  return type_of(t.with_scalar(t.scalar == Scalar::kF64 ? Scalar::kF64 : Scalar::kF32));
}

FunctionEmitter::V FunctionEmitter::int_splat(llvm::Type *type, uint64_t value) {
  return llvm::ConstantInt::get(type, value);
}

FunctionEmitter::V FunctionEmitter::float_splat(llvm::Type *type, double value) {
  return llvm::ConstantFP::get(type, value);
}

FunctionEmitter::V FunctionEmitter::get(ValueId id) {
  ensure(id < values_.size() && values_[id], "LLVM emitter: a value is used before it is defined");
  return values_[id];
}

FunctionEmitter::VV FunctionEmitter::get(const std::vector<ValueId> &ids, size_t from) {
  VV out;
  for (size_t k = from; k < ids.size(); k++)
    out.push_back(get(ids[k]));
  return out;
}

void FunctionEmitter::set(const Op &op, V value, size_t result) { values_[op.results.at(result)] = value; }

} // namespace ingot::aotc
