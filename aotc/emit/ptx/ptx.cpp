// PtxFunction: what differs from a CPU function: the entry's convention, thread and group ids, shared memory, barriers
// and subgroups; and accesses under a mask are branches, since global and stack pointers live in different spaces.
#include "aotc/emit/ptx/ptx.h"

#include <memory>
#include <mutex>

#include "aotc/base/error.h"
#include "aotc/emit/gpu_layout.h"
#include "aotc/emit/llvm/function_emitter.h"
#include "aotc/emit/llvm/pipeline.h"
#include "aotc/emit/ptx/fragments.h"

#include "llvm/IR/IntrinsicsNVPTX.h"
#include "llvm/IR/Verifier.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Target/TargetMachine.h"

namespace ingot::aotc::emit {
namespace {

using kernel::Memory;
using kernel::Op;
using kernel::Opcode;
using kernel::Space;
using kernel::ValueId;

constexpr unsigned kGlobalSpace = 1, kSharedSpace = 3;
constexpr const char *kTriple = "nvptx64-nvidia-cuda";

class PtxFunction final : public FunctionEmitter {
 public:
  using FunctionEmitter::FunctionEmitter;

  void emit_entry() {
    if (kernel_.kind != kernel::Class::kSimt)
      fail("only kernels of class simt run on GPUs");
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
    function_ = llvm::Function::Create(llvm::FunctionType::get(b_.getVoidTy(), types, false),
                                       llvm::Function::ExternalLinkage, kernel_.name, module_);
    annotate_entry("kernel", 1);
    annotate_entry("reqntidx", kernel_.local_size[0]);
    annotate_entry("reqntidy", kernel_.local_size[1]);
    annotate_entry("reqntidz", kernel_.local_size[2]);
    entry_ = block("entry");
    b_.SetInsertPoint(entry_);
    values_.assign(kernel_.types.size(), nullptr);
    setup_memories();
    bind_memories();
    bind_params();
    if (errors)
      error_ = function_->getArg(static_cast<unsigned>(types.size()) - 1);
    emit_region(kernel_.body);
    b_.CreateRetVoid();
  }

 private:
  void annotate_entry(const char *key, uint32_t value) {
    module_.getOrInsertNamedMetadata("nvvm.annotations")
        ->addOperand(llvm::MDNode::get(context_, {llvm::ValueAsMetadata::get(function_), llvm::MDString::get(context_, key),
                                                  llvm::ConstantAsMetadata::get(b_.getInt32(value))}));
  }

  // Replaces the bases that setup_memories() gave arrays (stack or scratch) by the spaces of a GPU.
  void bind_memories() {
    unsigned argument = 0;
    for (size_t k = 0; k < memories_.size(); k++) {
      const Memory &memory = kernel_.memories[k];
      Mem &mem = memories_[k];
      if (memory.space == Space::kBuffer) {
        function_->addParamAttr(argument, llvm::Attribute::NoAlias);
        function_->addParamAttr(argument, llvm::Attribute::getWithAlignment(context_, llvm::Align(mem.align)));
        if (memory.access == kernel::Access::kRead)
          function_->addParamAttr(argument, llvm::Attribute::ReadOnly);
        mem.base = function_->getArg(argument++);
        continue;
      }
      llvm::Type *array = llvm::ArrayType::get(mem.element, memory.count);
      if (memory.space == Space::kWorkgroup) {
        auto *variable = new llvm::GlobalVariable(module_, array, false, llvm::GlobalValue::InternalLinkage,
                                                  llvm::PoisonValue::get(array), kernel_.name + "_" + memory.name, nullptr,
                                                  llvm::GlobalValue::NotThreadLocal, kSharedSpace);
        variable->setAlignment(llvm::Align(mem.align));
        mem.base = variable;
      } else if (!llvm::isa<llvm::AllocaInst>(mem.base)) {
        mem.base = alloca_at_entry(array, mem.align, memory.name.c_str());
      }
    }
  }

  void bind_params() {
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
      argument++;
    }
  }

  V special(llvm::Intrinsic::ID x, llvm::Intrinsic::ID y, llvm::Intrinsic::ID z, int64_t dimension) {
    llvm::Intrinsic::ID id = dimension == 0 ? x : dimension == 1 ? y : z;
    return b_.CreateZExtOrTrunc(b_.CreateIntrinsic(id, {}, {}), scalar_type(Scalar::kIndex));
  }

  // Runs `then` where `condition` holds; gives its value, else `otherwise` (null: no value).
  template <class Then> V guarded(V condition, V otherwise, const Then &then) {
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

  V lane(V vector, uint32_t lane) {
    return vector->getType()->isVectorTy() ? b_.CreateExtractElement(vector, uint64_t{lane}) : vector;
  }

  // Lane by lane under `condition(lane)` at `index(lane)`.
  template <class Condition, class Index>
  void load_lanes(const Op &op, V otherwise, const Condition &condition, const Index &index) {
    const Mem &mem = memories_[op.memory];
    Type type = kernel_.types[op.results[0]];
    V result = type.is_vector() ? llvm::PoisonValue::get(type_of(type)) : nullptr;
    for (uint32_t i = 0; i < type.lanes; i++) {
      V value = guarded(condition(i), lane(otherwise, i), [&] {
        return raw_load(mem, type.with_lanes(1), pointer(mem, index(i)), mem.element_bytes);
      });
      result = type.is_vector() ? b_.CreateInsertElement(result, value, uint64_t{i}) : value;
    }
    set(op, result);
  }
  template <class Condition, class Index>
  void store_lanes(const Op &op, ValueId id, const Condition &condition, const Index &index) {
    const Mem &mem = memories_[op.memory];
    V value = to_memory(kernel_.types[id], get(id));
    for (uint32_t i = 0; i < kernel_.types[id].lanes; i++)
      guarded(condition(i), nullptr, [&] {
        raw_store(mem, lane(value, i), pointer(mem, index(i)), mem.element_bytes);
        return V(nullptr);
      });
  }

  // Butterfly over the 32 lanes: every lane gets the same result.
  V subgroup(const Op &op) {
    Type type = kernel_.types[op.results[0]];
    if (type.is_vector() || bit_width(type.scalar) != 32)
      fail("subgroup ops on " + to_string(type));
    bool f = is_float(type.scalar);
    V everyone = b_.getInt32(0xffffffff), value = get(op.operands[0]);
    if (op.code == Opcode::kSubgroupShuffle)
      return b_.CreateIntrinsic(f ? llvm::Intrinsic::nvvm_shfl_sync_idx_f32 : llvm::Intrinsic::nvvm_shfl_sync_idx_i32, {},
                                {everyone, value, get(op.operands[1]), b_.getInt32(31)});
    Opcode step = op.code == Opcode::kSubgroupAdd ? Opcode::kAdd : op.code == Opcode::kSubgroupMin ? Opcode::kMin : Opcode::kMax;
    for (uint32_t distance = 16; distance >= 1; distance /= 2) {
      V other = b_.CreateIntrinsic(f ? llvm::Intrinsic::nvvm_shfl_sync_bfly_f32 : llvm::Intrinsic::nvvm_shfl_sync_bfly_i32,
                                   {}, {everyone, value, b_.getInt32(distance), b_.getInt32(31)});
      value = arithmetic(step, type, {value, other}, false);
    }
    return value;
  }

  void emit_op(const Op &op) override {
    using namespace llvm;
    auto element_offset = [&](V index, uint32_t i) { return i == 0 ? index : b_.CreateAdd(index, llvm::ConstantInt::get(index->getType(), i)); };
    auto own_lane = [&](size_t k) { return [this, &op, k](uint32_t i) { return lane(get(op.operands[k]), i); }; };
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
    case Opcode::kGroupId:
      return set(op, special(Intrinsic::nvvm_read_ptx_sreg_ctaid_x, Intrinsic::nvvm_read_ptx_sreg_ctaid_y,
                             Intrinsic::nvvm_read_ptx_sreg_ctaid_z, op.imm));
    case Opcode::kLocalId:
      return set(op, special(Intrinsic::nvvm_read_ptx_sreg_tid_x, Intrinsic::nvvm_read_ptx_sreg_tid_y,
                             Intrinsic::nvvm_read_ptx_sreg_tid_z, op.imm));
    case Opcode::kGridSize:
      return set(op, special(Intrinsic::nvvm_read_ptx_sreg_nctaid_x, Intrinsic::nvvm_read_ptx_sreg_nctaid_y,
                             Intrinsic::nvvm_read_ptx_sreg_nctaid_z, op.imm));
    case Opcode::kBarrier: b_.CreateIntrinsic(Intrinsic::nvvm_barrier0, {}, {}); return;
    case Opcode::kSubgroupAdd:
    case Opcode::kSubgroupMin:
    case Opcode::kSubgroupMax:
    case Opcode::kSubgroupShuffle: return set(op, subgroup(op));
    case Opcode::kLoadPart: return load_lanes(op, get(op.operands[2]), in_count(1), own_offset(0));
    case Opcode::kStorePart: return store_lanes(op, op.operands[1], in_count(2), own_offset(0));
    case Opcode::kLoadIf: return load_lanes(op, get(op.operands[2]), own_lane(0), own_offset(1));
    case Opcode::kStoreIf: return store_lanes(op, op.operands[2], own_lane(0), own_offset(1));
    case Opcode::kGather:
      if (op.operands.size() == 1)
        return FunctionEmitter::emit_op(op);
      return load_lanes(op, get(op.operands[2]), own_lane(1), own_lane(0));
    case Opcode::kScatter:
      if (op.operands.size() == 2)
        return FunctionEmitter::emit_op(op);
      return store_lanes(op, op.operands[1], own_lane(2), own_lane(0));
    case Opcode::kFragmentLoad: {
      const Mem &mem = memories_[op.memory];
      V pitch = b_.CreateMul(b_.CreateTrunc(get(op.operands[1]), b_.getInt32Ty()), b_.getInt32(mem.element_bytes));
      return set(op, ptx_fragment_load(b_, pointer(mem, get(op.operands[0])), pitch, static_cast<kernel::FragmentRole>(op.imm)));
    }
    case Opcode::kFragmentMma:
      return set(op, ptx_fragment_mma(b_, static_cast<Scalar>(op.imm), get(op.operands[0]), get(op.operands[1]), op.imm2, get(op.operands[2])));
    case Opcode::kFragmentRow:
    case Opcode::kFragmentColumn:
      return set(op, ptx_fragment_places(b_, op.code == Opcode::kFragmentRow, type_of(kernel_.types[op.results[0]])));
    case Opcode::kCopyAsync: {
      const Mem &from = memories_[static_cast<size_t>(op.imm2)];
      return ptx_copy_async(b_, pointer(memories_[op.memory], get(op.operands[0])), pointer(from, get(op.operands[1])), get(op.operands[2]),
                            static_cast<uint32_t>(op.imm) * from.element_bytes);
    }
    case Opcode::kCopyCommit: return ptx_copy_commit(b_);
    case Opcode::kCopyWait: return ptx_copy_wait(b_, op.imm);
    case Opcode::kPrefetch: return; // a hint
    default: return FunctionEmitter::emit_op(op);
    }
  }
};

std::unique_ptr<llvm::TargetMachine> create_machine(const PtxOptions &options) {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeNVPTXTargetInfo();
    LLVMInitializeNVPTXTarget();
    LLVMInitializeNVPTXTargetMC();
    LLVMInitializeNVPTXAsmPrinter();
  });
  std::string error;
  const llvm::Target *target = llvm::TargetRegistry::lookupTarget(kTriple, error);
  ensure(target != nullptr, "ptx: this LLVM has no NVPTX backend: " + error);
  llvm::TargetOptions target_options;
  target_options.AllowFPOpFusion = llvm::FPOpFusion::Standard; // only what is flagged `contract`
  std::unique_ptr<llvm::TargetMachine> machine(target->createTargetMachine(
      kTriple, options.architecture, "+ptx" + std::to_string(options.isa), target_options, llvm::Reloc::PIC_, std::nullopt,
      options.opt_level >= 2 ? llvm::CodeGenOptLevel::Aggressive : llvm::CodeGenOptLevel::Default));
  ensure(machine != nullptr, "ptx: LLVM refuses " + options.architecture);
  return machine;
}

} // namespace

std::string emit_ptx(const std::vector<const kernel::Kernel *> &kernels, const TargetRecord &record,
                     const PtxOptions &options) {
  std::unique_ptr<llvm::TargetMachine> machine = create_machine(options);
  llvm::LLVMContext context;
  llvm::Module module("ingot", context);
  module.setTargetTriple(kTriple);
  module.setDataLayout(machine->createDataLayout());
  CodeTraits traits = CodeTraits::of(*machine);
  for (const kernel::Kernel *kernel : kernels)
    PtxFunction(*kernel, record, traits, module).emit_entry();
  std::string problem;
  llvm::raw_string_ostream stream(problem);
  ensure(!llvm::verifyModule(module, &stream), "ptx: broken LLVM module: " + problem);
  optimise_module(module, *machine, options.opt_level);
  std::vector<uint8_t> text;
  generate_code(module, *machine, /*object=*/false, text);
  return std::string(text.begin(), text.end());
}

} // namespace ingot::aotc::emit
