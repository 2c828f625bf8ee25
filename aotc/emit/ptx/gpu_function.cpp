// See gpu_function.h.
#include "aotc/emit/ptx/gpu_function.h"

#include "aotc/base/error.h"
#include "aotc/emit/gpu_layout.h"
#include "aotc/emit/llvm/pipeline.h"

#include "llvm/IR/MDBuilder.h"
#include "llvm/IR/Verifier.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Target/TargetMachine.h"

namespace ingot::aotc::emit {

using kernel::Memory;
using kernel::Op;
using kernel::Opcode;
using kernel::Space;
using kernel::ValueId;

llvm::Function *GpuFunction::emit_entry() {
  if (kernel_.kind != kernel::Class::kSimt)
    fail("only kernels of class simt run on GPUs");
  param_layout(kernel_); // refuses params of other types
  std::vector<llvm::Type *> types;
  llvm::Type *global = llvm::PointerType::get(context_, kGlobalSpace);
  for (const Memory &memory : kernel_.memories)
    if (memory.space == Space::kBuffer)
      types.push_back(global);
  for (const kernel::Param &param : kernel_.params)
    types.push_back(param.type == Scalar::kIndex ? b_.getInt32Ty() : scalar_type(param.type));
  bool errors = has_error_ops(kernel_);
  if (errors)
    types.push_back(global);
  const auto error_argument = static_cast<unsigned>(types.size()) - 1;
  if (!kernel_.tensor_maps.empty() && !map_type())
    fail("tensor maps on a target that has none");
  for (size_t i = 0; i < kernel_.tensor_maps.size(); ++i)
    types.push_back(map_type());
  function_ = llvm::Function::Create(llvm::FunctionType::get(b_.getVoidTy(), types, false),
                                     llvm::Function::ExternalLinkage, kernel_.name, module_);
  mark_entry();
  entry_ = block("entry");
  b_.SetInsertPoint(entry_);
  values_.assign(kernel_.types.size(), nullptr);
  setup_memories();
  bind_memories();
  bind_params();
  if (errors)
    error_ = function_->getArg(error_argument);
  begin();
  emit_region(kernel_.body);
  b_.CreateRetVoid();
  return function_;
}

// The magnitude of a divisor, 1 for 0, and floor((2^32 - 1) / it), computed once, where the divisor is: kernels of free dims
// divide by the same extents again and again, and GPUs have no instruction for that.
const GpuFunction::Divisor &GpuFunction::divisor(V b, bool is_signed) {
  auto [at, fresh] = divisors_.try_emplace({b, is_signed});
  Divisor &d = at->second;
  if (!fresh)
    return d;
  const llvm::IRBuilderBase::InsertPointGuard here(b_);
  auto *instruction = llvm::dyn_cast<llvm::Instruction>(b);
  llvm::BasicBlock *in = instruction ? instruction->getParent() : entry_;
  b_.SetInsertPoint(in, instruction && !llvm::isa<llvm::PHINode>(instruction) ? std::next(instruction->getIterator()) : in->getFirstInsertionPt());
  d.magnitude = b_.CreateBinaryIntrinsic(llvm::Intrinsic::umax, is_signed ? b_.CreateBinaryIntrinsic(llvm::Intrinsic::abs, b, b_.getFalse()) : b, b_.getInt32(1));
  d.reciprocal = b_.CreateUDiv(b_.getInt32(UINT32_MAX), d.magnitude);
  return d;
}

// n * reciprocal / 2^32 is the quotient or one less: reciprocal >= (2^32 - d) / d, so that it falls short of n / d by at most
// n / 2^32, which is less than 1.
FunctionEmitter::V GpuFunction::divide(Opcode code, Type type, V a, V b) {
  if (type != Type(Scalar::kIndex) || !b->getType()->isIntegerTy(32) || llvm::isa<llvm::Constant>(b))
    return FunctionEmitter::divide(code, type, a, b);
  const bool is_signed = code == Opcode::kDiv || code == Opcode::kRem, quotient = code == Opcode::kDiv || code == Opcode::kDivU;
  const Divisor &d = divisor(b, is_signed);
  llvm::Type *wide = b_.getInt64Ty();
  V zero = b_.getInt32(0), n = is_signed ? b_.CreateBinaryIntrinsic(llvm::Intrinsic::abs, a, b_.getFalse()) : a;
  V q = b_.CreateTrunc(b_.CreateLShr(b_.CreateMul(b_.CreateZExt(n, wide), b_.CreateZExt(d.reciprocal, wide)), 32), b_.getInt32Ty());
  V rest = b_.CreateSub(n, b_.CreateMul(q, d.magnitude)), more = b_.CreateICmpUGE(rest, d.magnitude);
  V result = quotient ? b_.CreateAdd(q, b_.CreateZExt(more, b_.getInt32Ty())) : b_.CreateSelect(more, b_.CreateSub(rest, d.magnitude), rest);
  if (is_signed)
    result = b_.CreateSelect(b_.CreateICmpSLT(quotient ? b_.CreateXor(a, b) : a, zero), b_.CreateNeg(result), result);
  return b_.CreateSelect(b_.CreateICmpEQ(b, zero), zero, result);
}

// Replaces the bases that setup_memories() gave arrays (stack or scratch) by the spaces of a GPU.
void GpuFunction::bind_memories() {
  unsigned argument = 0;
  const WorkgroupLayout layout = workgroup_layout(kernel_, record_);
  llvm::GlobalVariable *external = nullptr; // of all workgroup arrays, given at launch
  if (layout.bytes > 0) {
    external = new llvm::GlobalVariable(module_, llvm::ArrayType::get(b_.getInt8Ty(), 0), false, llvm::GlobalValue::ExternalLinkage, nullptr,
                                        kernel_.name + "_workgroup", nullptr, llvm::GlobalValue::NotThreadLocal, kSharedSpace);
    external->setAlignment(llvm::Align(kWorkgroupAlign));
  }
  for (size_t k = 0; k < memories_.size(); k++) {
    const Memory &memory = kernel_.memories[k];
    Mem &mem = memories_[k];
    if (memory.space == Space::kBuffer) {
      const bool read = memory.access == kernel::Access::kRead;
      if (read && early_) // what is constant becomes so behind the wait: see PtxFunction
        mem.invariant = false;
      else if (!early_ || memory.access != kernel::Access::kReadWrite)
        function_->addParamAttr(argument, llvm::Attribute::NoAlias);
      function_->addParamAttr(argument, llvm::Attribute::getWithAlignment(context_, llvm::Align(mem.align)));
      if (read)
        function_->addParamAttr(argument, llvm::Attribute::ReadOnly);
      mem.base = function_->getArg(argument++);
      continue;
    }
    llvm::Type *array = llvm::ArrayType::get(mem.element, memory.count);
    if (memory.space == Space::kWorkgroup && external) {
      mem.base = llvm::ConstantExpr::getGetElementPtr(b_.getInt8Ty(), external, b_.getInt32(static_cast<uint32_t>(layout.offsets[k])));
    } else if (memory.space == Space::kWorkgroup) {
      auto *variable = new llvm::GlobalVariable(module_, array, false, llvm::GlobalValue::InternalLinkage,
                                                llvm::PoisonValue::get(array), kernel_.name + "_" + memory.name, nullptr,
                                                llvm::GlobalValue::NotThreadLocal, kSharedSpace);
      variable->setAlignment(llvm::Align(std::max(memory.align, mem.element_bytes)));
      mem.base = variable;
    } else if (!llvm::isa<llvm::AllocaInst>(mem.base)) {
      mem.base = alloca_at_entry(array, mem.align, memory.name.c_str());
    }
  }
}

void GpuFunction::bind_params() {
  auto argument = static_cast<unsigned>(kernel_.buffer_count());
  for (const kernel::Param &param : kernel_.params) {
    V value = function_->getArg(argument);
    if (param.type == Scalar::kIndex) {
      // The known range lets LLVM drop guards of divisions.
      if (param.min >= INT32_MIN && param.max < INT32_MAX && param.min <= param.max) {
        llvm::ConstantRange range(llvm::APInt(32, static_cast<uint64_t>(param.min), true),
                                  llvm::APInt(32, static_cast<uint64_t>(param.max + 1), true));
        function_->addParamAttr(argument, llvm::Attribute::get(context_, llvm::Attribute::Range, range));
      } else if (param.min > 0) {
        llvm::ConstantRange range(llvm::APInt(32, static_cast<uint64_t>(param.min)), llvm::APInt(32, 0x80000000u));
        function_->addParamAttr(argument, llvm::Attribute::get(context_, llvm::Attribute::Range, range));
      }
      value = b_.CreateSExtOrTrunc(value, scalar_type(Scalar::kIndex));
    }
    params_.push_back(value);
    if (param.reciprocal_of >= 0)
      for (const bool is_signed : {false, true})
        divisors_[{params_[static_cast<size_t>(param.reciprocal_of)], is_signed}] = {params_[static_cast<size_t>(param.reciprocal_of)], value};
    argument++;
  }
}

// Runs `then` where `condition` holds; gives its value, else `otherwise` (null: no value).
template <class Then> GpuFunction::V GpuFunction::guarded(V condition, V otherwise, const Then &then) {
  llvm::BasicBlock *before = b_.GetInsertBlock(), *access = block("access"), *join = block("join");
  b_.CreateCondBr(condition, access, join);
  b_.SetInsertPoint(access);
  V value = then();
  llvm::BasicBlock *access_end = b_.GetInsertBlock();
  b_.CreateBr(join);
  b_.SetInsertPoint(join);
  if (!otherwise)
    return nullptr;
  llvm::PHINode *phi = b_.CreatePHI(otherwise->getType(), 2);
  phi->addIncoming(otherwise, before);
  phi->addIncoming(value, access_end);
  return phi;
}

GpuFunction::V GpuFunction::lane_of(V vector, uint32_t lane) {
  return vector->getType()->isVectorTy() ? b_.CreateExtractElement(vector, uint64_t{lane}) : vector;
}

// Lane by lane under `condition(lane)` at `index(lane)`.
template <class Condition, class Index>
void GpuFunction::load_lanes(const Op &op, V otherwise, const Condition &condition, const Index &index) {
  const Mem &mem = memories_[op.memory];
  Type type = kernel_.types[op.results[0]];
  V result = type.is_vector() ? llvm::PoisonValue::get(type_of(type)) : nullptr;
  for (uint32_t i = 0; i < type.lanes; i++) {
    V value = guarded(condition(i), lane_of(otherwise, i), [&] {
      return raw_load(mem, type.with_lanes(1), pointer(mem, index(i)), mem.element_bytes);
    });
    result = type.is_vector() ? b_.CreateInsertElement(result, value, uint64_t{i}) : value;
  }
  set(op, result);
}

template <class Condition, class Index>
void GpuFunction::store_lanes(const Op &op, ValueId id, const Condition &condition, const Index &index) {
  const Mem &mem = memories_[op.memory];
  V value = to_memory(kernel_.types[id], get(id));
  for (uint32_t i = 0; i < kernel_.types[id].lanes; i++)
    guarded(condition(i), nullptr, [&] {
      raw_store(mem, lane_of(value, i), pointer(mem, index(i)), mem.element_bytes);
      return V(nullptr);
    });
}

GpuFunction::V GpuFunction::exchanged(V value, V lane) {
  llvm::Type *type = value->getType(), *word = b_.getInt32Ty();
  unsigned bits = type->getScalarSizeInBits();
  V whole = type->isIntegerTy() ? value : b_.CreateBitCast(value, b_.getIntNTy(bits));
  if (bits <= 32) {
    V got = b_.CreateTrunc(from_lane(b_.CreateZExt(whole, word), lane), b_.getIntNTy(bits));
    return b_.CreateBitCast(got, type);
  }
  V low = from_lane(b_.CreateTrunc(whole, word), lane), high = from_lane(b_.CreateTrunc(b_.CreateLShr(whole, 32), word), lane);
  V both = b_.CreateOr(b_.CreateZExt(low, b_.getInt64Ty()), b_.CreateShl(b_.CreateZExt(high, b_.getInt64Ty()), 32));
  return b_.CreateBitCast(both, type);
}

// Butterfly over the lanes: every lane gets the same result.
GpuFunction::V GpuFunction::subgroup(const Op &op) {
  Type type = kernel_.types[op.results[0]];
  if (type.is_vector())
    fail("subgroup ops on " + to_string(type));
  V value = get(op.operands[0]);
  if (op.code == Opcode::kSubgroupShuffle) {
    V lane = b_.CreateZExtOrTrunc(get(op.operands[1]), b_.getInt32Ty());
    return exchanged(value, b_.CreateAnd(lane, b_.getInt32(subgroup_lanes() - 1)));
  }
  Opcode step = op.code == Opcode::kSubgroupAdd ? Opcode::kAdd : op.code == Opcode::kSubgroupMin ? Opcode::kMin : Opcode::kMax;
  for (uint32_t distance = subgroup_lanes() / 2; distance >= 1; distance /= 2) {
    V other = exchanged(value, b_.CreateXor(lane_id(), b_.getInt32(distance)));
    value = arithmetic(step, type, {value, other}, false);
  }
  return value;
}

// Any one of several errors may stay: a word is never torn.
void GpuFunction::emit_gpu_error(const Op &op) {
  guarded(get(op.operands[0]), nullptr, [&] {
    llvm::StoreInst *store = b_.CreateAlignedStore(b_.getInt32(error_word(op.imm, op.imm2)), error_, llvm::Align(4));
    store->setAtomic(llvm::AtomicOrdering::Monotonic);
    return V(nullptr);
  });
}

void GpuFunction::emit_op(const Op &op) {
  auto element_offset = [&](V index, uint32_t i) {
    return i == 0 ? index : b_.CreateAdd(index, llvm::ConstantInt::get(index->getType(), i));
  };
  auto own_lane = [&](size_t k) { return [this, &op, k](uint32_t i) { return lane_of(get(op.operands[k]), i); }; };
  auto own_offset = [&](size_t k) {
    return [this, &op, k, element_offset](uint32_t i) { return element_offset(get(op.operands[k]), i); };
  };
  auto in_count = [&](size_t k) {
    return [this, &op, k](uint32_t i) {
      V count = get(op.operands[k]);
      return b_.CreateICmpSGT(count, llvm::ConstantInt::get(count->getType(), i));
    };
  };
  switch (op.code) {
  case Opcode::kGroupId: return set(op, index_of(group_id(static_cast<unsigned>(op.imm))));
  case Opcode::kLocalId: return set(op, index_of(local_id(static_cast<unsigned>(op.imm))));
  case Opcode::kGridSize: return set(op, index_of(grid_size(static_cast<unsigned>(op.imm))));
  case Opcode::kBarrier: return barrier();
  case Opcode::kSubgroupAdd:
  case Opcode::kSubgroupMin:
  case Opcode::kSubgroupMax:
  case Opcode::kSubgroupShuffle: return set(op, subgroup(op));
  case Opcode::kError: return emit_gpu_error(op);
  case Opcode::kLoadPart: return load_lanes(op, get(op.operands[2]), in_count(1), own_offset(0));
  case Opcode::kStorePart: return store_lanes(op, op.operands[1], in_count(2), own_offset(0));
  case Opcode::kLoadIf: {
    V condition = get(op.operands[0]);
    Type type = kernel_.types[op.results[0]];
    if (condition->getType()->isVectorTy() || !type.is_vector())
      return load_lanes(op, get(op.operands[2]), own_lane(0), own_offset(1));
    const Mem &mem = memories_[op.memory]; // one condition for the whole vector: one access
    return set(op, guarded(condition, get(op.operands[2]), [&] {
      return raw_load(mem, type, pointer(mem, get(op.operands[1])), access_align(mem, op));
    }));
  }
  case Opcode::kStoreIf: {
    V condition = get(op.operands[0]);
    Type type = kernel_.types[op.operands[2]];
    if (condition->getType()->isVectorTy() || !type.is_vector())
      return store_lanes(op, op.operands[2], own_lane(0), own_offset(1));
    const Mem &mem = memories_[op.memory];
    guarded(condition, nullptr, [&] {
      raw_store(mem, to_memory(type, get(op.operands[2])), pointer(mem, get(op.operands[1])), access_align(mem, op));
      return V(nullptr);
    });
    return;
  }
  case Opcode::kGather:
    if (op.operands.size() == 1)
      return FunctionEmitter::emit_op(op);
    return load_lanes(op, get(op.operands[2]), own_lane(1), own_lane(0));
  case Opcode::kScatter:
    if (op.operands.size() == 2)
      return FunctionEmitter::emit_op(op);
    return store_lanes(op, op.operands[1], own_lane(2), own_lane(0));
  case Opcode::kPrefetch: return; // a hint
  default: return FunctionEmitter::emit_op(op);
  }
}

std::vector<uint8_t> gpu_code(const GpuMachine &machine, bool object, const std::function<void(const CodeTraits &, llvm::Module &)> &emit) {
  const std::string backend = machine.backend;
  std::string error;
  const llvm::Target *target = llvm::TargetRegistry::lookupTarget(machine.triple, error);
  ensure(target != nullptr, "this LLVM has no " + backend + " backend: " + error);
  llvm::TargetOptions options;
  options.AllowFPOpFusion = llvm::FPOpFusion::Standard; // only what is flagged `contract`
  std::unique_ptr<llvm::TargetMachine> made(
      target->createTargetMachine(machine.triple, machine.chip, machine.features, options, llvm::Reloc::PIC_, std::nullopt,
                                  machine.opt_level >= 2 ? llvm::CodeGenOptLevel::Aggressive : llvm::CodeGenOptLevel::Default));
  ensure(made != nullptr, backend + ": LLVM refuses " + machine.chip);
  llvm::LLVMContext context;
  llvm::Module module("ingot", context);
  module.setTargetTriple(machine.triple);
  module.setDataLayout(made->createDataLayout());
  emit(CodeTraits::of(*made), module);
  std::string problem;
  llvm::raw_string_ostream stream(problem);
  ensure(!llvm::verifyModule(module, &stream), backend + ": broken LLVM module: " + problem);
  optimise_module(module, *made, machine.opt_level);
  std::vector<uint8_t> code;
  generate_code(module, *made, object, code);
  return code;
}

} // namespace ingot::aotc::emit
