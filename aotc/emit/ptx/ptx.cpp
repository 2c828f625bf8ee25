// GpuFunction in the words of NVPTX, and LLVM's backend for it.
#include "aotc/emit/ptx/ptx.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <set>

#include "aotc/base/error.h"
#include "aotc/emit/llvm/linker.h"
#include "aotc/emit/ptx/fragments.h"
#include "aotc/emit/ptx/gpu_function.h"

#include "llvm/IR/InlineAsm.h"
#include "llvm/IR/IntrinsicsNVPTX.h"
#include "llvm/Support/TargetSelect.h"

namespace ingot::aotc::emit {
namespace {

using kernel::Opcode;

constexpr const char *kTriple = "nvptx64-nvidia-cuda";

class PtxFunction final : public GpuFunction {
 public:
  PtxFunction(const kernel::Kernel &kernel, const TargetRecord &record, const CodeTraits &traits, llvm::Module &module, bool dependent)
      : GpuFunction(kernel, record, traits, module) {
    early_ = dependent;
  }

 protected:
  // A kernel waits before it touches what kernels ahead of it may write or read. Every thread waits, so that who waits for this kernel
  // has waited for those too. The next one may be brought onto the chip when all workgroups of this one have waited: were it to do
  // so at once, small kernels would stand there many deep, which is slower (MobileNetV2 on an H200: 0.178 ms by 0.123).
  void begin() override {
    if (!early_)
      return;
    if (!place_waits(kernel_.body))
      wait();
  }
  void leave_region(const kernel::Op &yield) override {
    if (waits_.contains(&yield))
      wait();
    if (others_follow_.contains(&yield))
      read_constants_by(false);
  }
  void mark_entry() override {
    annotate("kernel", 1);
    annotate("reqntidx", kernel_.local_size[0] + (feeds_ ? kernel::kFeeders : 0));
    annotate("reqntidy", kernel_.local_size[1]);
    annotate("reqntidz", kernel_.local_size[2]);
    mark_maps();
  }
  llvm::Type *map_type() override { return llvm::PointerType::get(context_, 0); }
  V group_id(unsigned dimension) override {
    return special(llvm::Intrinsic::nvvm_read_ptx_sreg_ctaid_x, llvm::Intrinsic::nvvm_read_ptx_sreg_ctaid_y,
                   llvm::Intrinsic::nvvm_read_ptx_sreg_ctaid_z, dimension);
  }
  V local_id(unsigned dimension) override {
    return special(llvm::Intrinsic::nvvm_read_ptx_sreg_tid_x, llvm::Intrinsic::nvvm_read_ptx_sreg_tid_y,
                   llvm::Intrinsic::nvvm_read_ptx_sreg_tid_z, dimension);
  }
  V grid_size(unsigned dimension) override {
    return special(llvm::Intrinsic::nvvm_read_ptx_sreg_nctaid_x, llvm::Intrinsic::nvvm_read_ptx_sreg_nctaid_y,
                   llvm::Intrinsic::nvvm_read_ptx_sreg_nctaid_z, dimension);
  }
  void barrier() override {
    if (feeds_) { // not for those who feed, and what they brought is there for matrix units without a fence
      b_.CreateCall(llvm::InlineAsm::get(llvm::FunctionType::get(b_.getVoidTy(), false), "bar.sync 1, " + std::to_string(kernel_.local_size[0]) + ";", "~{memory}", true))
          ->addFnAttr(llvm::Attribute::Convergent);
      return;
    }
    if (warpgroups_)
      ptx_warpgroup_fence(b_);
    b_.CreateIntrinsic(llvm::Intrinsic::nvvm_barrier0, {}, {});
  }
  V lane_id() override { return b_.CreateIntrinsic(llvm::Intrinsic::nvvm_read_ptx_sreg_laneid, {}, {}); }
  V from_lane(V word, V lane) override {
    return b_.CreateIntrinsic(llvm::Intrinsic::nvvm_shfl_sync_idx_i32, {},
                              {b_.getInt32(0xffffffff), word, lane, b_.getInt32(31)});
  }

  void emit_op(const kernel::Op &op) override {
    if (waits_.contains(&op))
      wait();
    switch (op.code) {
    case Opcode::kFragmentLoad: {
      const Mem &mem = memories_[op.memory];
      V pitch = b_.CreateMul(b_.CreateTrunc(get(op.operands[1]), b_.getInt32Ty()), b_.getInt32(mem.element_bytes));
      return set(op, ptx_fragment_load(b_, pointer(mem, get(op.operands[0])), pitch, static_cast<kernel::FragmentRole>(op.imm)));
    }
    case Opcode::kFragmentMma:
      return set(op, ptx_fragment_mma(b_, static_cast<Scalar>(op.imm), get(op.operands[0]), get(op.operands[1]), op.imm2, get(op.operands[2])));
    case Opcode::kFragmentPack:
      return set(op, ptx_fragment_pack(b_, static_cast<Scalar>(op.imm), get(op.operands[0]), get(op.operands.back())));
    case Opcode::kFragmentRowAdd:
    case Opcode::kFragmentRowMax: return set(op, rows(op));
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
    case Opcode::kWarpgroupMma: {
      auto moved = [&](uint32_t memory, size_t operand) { return pointer(memories_[memory], b_.CreateAdd(get(op.operands[operand]), get(op.operands[2]))); };
      return set_all(op, ptx_warpgroup_mma(b_, kernel_.memories[op.memory].type, moved(op.memory, 0), moved(static_cast<uint32_t>(op.imm2), 1), op.imm, all(op, 3)));
    }
    case Opcode::kWarpgroupWait: return set_all(op, ptx_warpgroup_wait(b_, op.imm, all(op, 0)));
    case Opcode::kFeed: return feed_ops_.push_back(&op);
    case Opcode::kFeedStart: return start_feeds(op);
    case Opcode::kFeedWait: return ptx_signal_wait(b_, signal(stage(op)), phase(op));
    case Opcode::kFeedFree: return free_slice(op);
    default: return GpuFunction::emit_op(op);
    }
  }

 private:
  void wait() {
    auto *type = llvm::FunctionType::get(b_.getVoidTy(), false);
    for (const char *text : {"griddepcontrol.wait;", "griddepcontrol.launch_dependents;"})
      b_.CreateCall(llvm::InlineAsm::get(type, text, "~{memory}", /*hasSideEffects=*/true));
    read_constants_by(true);
  }
  // By ld.global.nc or by ld.global? ptxas moves griddepcontrol.wait ahead of the former, as if those loads could not be early.
  void read_constants_by(bool nc) {
    for (size_t i = 0; i < memories_.size(); ++i)
      if (kernel_.memories[i].constant)
        memories_[i].invariant = nc;
  }
  bool shared_with_others(int64_t memory) const {
    const kernel::Memory &m = kernel_.memories[static_cast<size_t>(memory)];
    return m.space == kernel::Space::kBuffer && !m.constant;
  }
  // Tensor maps are arguments by value, in the memory of parameters.
  void mark_maps() {
    llvm::Type *bytes = llvm::ArrayType::get(b_.getInt8Ty(), 128);
    std::vector<llvm::Metadata *> numbers; // from 1 on
    for (size_t i = 0; i < kernel_.tensor_maps.size(); ++i) {
      const auto argument = static_cast<unsigned>(function_->arg_size() - kernel_.tensor_maps.size() + i);
      function_->addParamAttr(argument, llvm::Attribute::getWithByValType(context_, bytes));
      function_->addParamAttr(argument, llvm::Attribute::getWithAlignment(context_, llvm::Align(128)));
      function_->addParamAttr(argument, llvm::Attribute::ReadOnly);
      numbers.push_back(llvm::ConstantAsMetadata::get(b_.getInt32(argument + 1)));
    }
    if (!numbers.empty())
      module_.getOrInsertNamedMetadata("nvvm.annotations")
          ->addOperand(llvm::MDNode::get(context_, {llvm::ValueAsMetadata::get(function_), llvm::MDString::get(context_, "grid_constant"), llvm::MDNode::get(context_, numbers)}));
  }
  V map(size_t number) {
    return b_.CreatePtrToInt(function_->getArg(static_cast<unsigned>(function_->arg_size() - kernel_.tensor_maps.size() + number)), b_.getInt64Ty());
  }

  // ---- Feeds: one thread of one more subgroup brings slices. Of the signals, number s says that the slice in place s is there, number
  // stages + s that all subgroups are done with it.

  uint32_t stages() const { return static_cast<uint32_t>(start_->imm); }
  V signal(V number) { return pointer(memories_[start_->memory], number); }
  V slice_of(const kernel::Op &op) { return b_.CreateTrunc(get(op.operands[0]), b_.getInt32Ty()); }
  V stage(const kernel::Op &op) { return b_.CreateURem(slice_of(op), b_.getInt32(stages())); }
  V phase(const kernel::Op &op) { return b_.CreateAnd(b_.CreateUDiv(slice_of(op), b_.getInt32(stages())), 1); }
  // Are there more slices than places?
  bool places_return() const {
    auto *slices = llvm::dyn_cast<llvm::ConstantInt>(slices_);
    return !slices || slices->getSExtValue() > static_cast<int64_t>(stages());
  }

  void copy_box(const kernel::Op &op, V slice, V at_stage) {
    const kernel::TensorMap &m = kernel_.tensor_maps[static_cast<size_t>(op.imm2)];
    const kernel::Memory &array = kernel_.memories[op.memory];
    std::vector<V> coordinates;
    for (size_t i = 0; i < m.rank(); ++i) {
      V first = b_.CreateTrunc(get(op.operands[i]), b_.getInt32Ty());
      coordinates.push_back(b_.CreateAdd(first, b_.CreateMul(slice, b_.getInt32(static_cast<uint32_t>(op.imms[i])))));
    }
    V to = b_.CreateAdd(b_.CreateMul(at_stage, b_.getInt32(static_cast<uint32_t>(array.count / stages()))), b_.getInt32(static_cast<uint32_t>(op.imm)));
    ptx_tensor_copy(b_, pointer(memories_[op.memory], to), map(static_cast<size_t>(op.imm2)), coordinates, signal(at_stage));
  }
  // for (i32 slice = first; slice < end; ++slice), with the slice's stage, the first having stage `from`, and how often that came round.
  template <class Body> void each_slice(V first, V end, uint32_t from, const Body &body) {
    llvm::BasicBlock *before = b_.GetInsertBlock(), *head = block("slices"), *in = block("slice"), *after = block("slices_end");
    b_.CreateBr(head);
    b_.SetInsertPoint(head);
    llvm::PHINode *slice = b_.CreatePHI(b_.getInt32Ty(), 2), *at = b_.CreatePHI(b_.getInt32Ty(), 2), *turn = b_.CreatePHI(b_.getInt32Ty(), 2);
    slice->addIncoming(first, before), at->addIncoming(b_.getInt32(from), before), turn->addIncoming(b_.getInt32(0), before);
    b_.CreateCondBr(b_.CreateICmpSLT(slice, end), in, after);
    b_.SetInsertPoint(in);
    body(slice, at, turn);
    V next = b_.CreateAdd(at, b_.getInt32(1)), round = b_.CreateICmpEQ(next, b_.getInt32(stages()));
    llvm::BasicBlock *last = b_.GetInsertBlock();
    slice->addIncoming(b_.CreateAdd(slice, b_.getInt32(1)), last);
    at->addIncoming(b_.CreateSelect(round, b_.getInt32(0), next), last);
    turn->addIncoming(b_.CreateAdd(turn, b_.CreateZExt(round, b_.getInt32Ty())), last);
    b_.CreateBr(head);
    b_.SetInsertPoint(after);
  }
  template <class Then> void only(V condition, const Then &then) {
    llvm::BasicBlock *in = block("only"), *after = block("after");
    b_.CreateCondBr(condition, in, after);
    b_.SetInsertPoint(in);
    then();
    b_.CreateBr(after);
    b_.SetInsertPoint(after);
  }

  void copy_boxes(bool constant, V slice, V at) {
    for (const kernel::Op *op : feed_ops_)
      if (kernel_.memories[kernel_.tensor_maps[static_cast<size_t>(op->imm2)].memory].constant == constant)
        copy_box(*op, slice, at);
  }
  // What the thread does that feeds. Constants of the first slices need not wait for the kernels ahead; those of all would keep what the
  // first product takes waiting behind them.
  void bring_slices() {
    constexpr uint32_t kFirst = 2;
    uint64_t bytes = 0;
    for (const kernel::Op *op : feed_ops_)
      bytes += 2 * static_cast<uint64_t>(kernel_.tensor_maps[static_cast<size_t>(op->imm2)].box_elements());
    auto bring = [&](V slice, V at) {
      ptx_signal_expect(b_, signal(at), bytes);
      copy_boxes(false, slice, at);
      copy_boxes(true, slice, at);
    };
    auto at_most = [&](uint32_t n) { return b_.CreateBinaryIntrinsic(llvm::Intrinsic::smin, slices_, b_.getInt32(n)); };
    const uint32_t begun = std::min(kFirst, stages());
    V first = at_most(begun), at_once = at_most(stages());
    each_slice(b_.getInt32(0), first, 0, [&](V slice, V at, V) {
      ptx_signal_expect(b_, signal(at), bytes);
      copy_boxes(true, slice, at);
    });
    if (early_)
      wait();
    each_slice(b_.getInt32(0), first, 0, [&](V slice, V at, V) { copy_boxes(false, slice, at); });
    each_slice(first, at_once, begun, [&](V slice, V at, V) { bring(slice, at); });
    if (places_return())
      each_slice(at_once, slices_, 0, [&](V slice, V at, V turn) {
        ptx_signal_wait(b_, signal(b_.CreateAdd(at, b_.getInt32(stages()))), b_.CreateAnd(turn, 1));
        bring(slice, at);
      });
  }

  void start_feeds(const kernel::Op &op) {
    start_ = &op;
    slices_ = slice_of(op);
    V thread = local_id(0), own = b_.getInt32(kernel_.local_size[0]), feeder = b_.CreateSub(thread, own);
    only(b_.CreateICmpEQ(thread, b_.getInt32(0)), [&] {
      for (size_t i = 0; i < kernel_.tensor_maps.size(); ++i)
        ptx_prefetch_map(b_, map(i));
    });
    only(b_.CreateICmpULT(feeder, b_.getInt32(stages())), [&] {
      ptx_signal_init(b_, signal(feeder), 1);
      if (places_return())
        ptx_signal_init(b_, signal(b_.CreateAdd(feeder, b_.getInt32(stages()))), kernel_.local_size[0] / kernel::kSubgroup);
      ptx_signals_fence(b_);
    });
    b_.CreateIntrinsic(llvm::Intrinsic::nvvm_barrier0, {}, {});
    llvm::BasicBlock *feeds = block("feeds"), *others = block("others");
    b_.CreateCondBr(b_.CreateICmpUGE(thread, own), feeds, others);
    b_.SetInsertPoint(feeds);
    only(b_.CreateICmpEQ(feeder, b_.getInt32(0)), [&] { bring_slices(); });
    if (early_)
      wait();
    b_.CreateRetVoid();
    b_.SetInsertPoint(others);
    if (early_)
      wait();
  }

  void free_slice(const kernel::Op &op) {
    if (places_return())
      only(b_.CreateICmpEQ(b_.CreateAnd(local_id(0), kernel::kSubgroup - 1), b_.getInt32(0)),
           [&] { ptx_signal_arrive(b_, signal(b_.CreateAdd(stage(op), b_.getInt32(stages())))); });
  }

  // Does it access what other kernels of a run may write, or read while this one writes it?
  bool touches(const kernel::Op &op) const {
    if (op.code == Opcode::kError || op.code == Opcode::kFeedStart)
      return true;
    if (op.code == Opcode::kCopyAsync)
      return shared_with_others(op.imm2);
    if (op.code == Opcode::kTile)
      return shared_with_others(op.memory) || shared_with_others(op.imm2);
    if (op.code >= Opcode::kLoad && op.code <= Opcode::kAtomicMax)
      return shared_with_others(op.memory);
    return std::any_of(op.regions.begin(), op.regions.end(), [this](const kernel::Region &region) {
      return std::any_of(region.ops.begin(), region.ops.end(), [this](const kernel::Op &inner) { return touches(inner); });
    });
  }
  // Before the first access on each way through the region; false where there is none.
  bool place_waits(const kernel::Region &region) {
    auto first = std::find_if(region.ops.begin(), region.ops.end(), [this](const kernel::Op &op) { return touches(op); });
    if (first == region.ops.end())
      return false;
    if (first->code == Opcode::kFeedStart) // it waits itself
      return true;
    if (first->code != Opcode::kIf) {
      waits_.insert(&*first);
      return true;
    }
    for (const kernel::Region &branch : first->regions) {
      if (!place_waits(branch))
        waits_.insert(&branch.ops.back()); // its yield
      if (&branch != &first->regions.back())
        others_follow_.insert(&branch.ops.back());
    }
    return true;
  }
  std::vector<V> all(const kernel::Op &op, size_t first) {
    std::vector<V> out;
    for (size_t i = first; i < op.operands.size(); ++i)
      out.push_back(get(op.operands[i]));
    return out;
  }
  void set_all(const kernel::Op &op, const std::vector<V> &values) {
    for (size_t i = 0; i < values.size(); ++i)
      values_[op.results[i]] = values[i];
  }
  // A row's eight elements lie in four threads.
  V rows(const kernel::Op &op) {
    const Opcode code = op.code == Opcode::kFragmentRowAdd ? Opcode::kAdd : Opcode::kMax;
    V sums = get(op.operands[0]), out = llvm::PoisonValue::get(sums->getType());
    for (uint64_t half = 0; half < 2; ++half) {
      V v = arithmetic(code, Scalar::kF32, {b_.CreateExtractElement(sums, half * 2), b_.CreateExtractElement(sums, half * 2 + 1)}, false);
      for (uint32_t apart : {1, 2})
        v = arithmetic(code, Scalar::kF32, {v, exchanged(v, b_.CreateXor(lane_id(), b_.getInt32(apart)))}, false);
      for (uint64_t i = half * 2; i < half * 2 + 2; ++i)
        out = b_.CreateInsertElement(out, v, i);
    }
    return out;
  }
  void annotate(const char *key, uint32_t value) {
    module_.getOrInsertNamedMetadata("nvvm.annotations")
        ->addOperand(llvm::MDNode::get(context_, {llvm::ValueAsMetadata::get(function_), llvm::MDString::get(context_, key),
                                                  llvm::ConstantAsMetadata::get(b_.getInt32(value))}));
  }
  std::set<const kernel::Op *> waits_;         // ops that come after a wait
  std::set<const kernel::Op *> others_follow_; // yields of branches that waited, before ones that have not
  const bool feeds_ = kernel::uses(kernel_.body, Opcode::kFeedStart);
  std::vector<const kernel::Op *> feed_ops_;
  const kernel::Op *start_ = nullptr;
  V slices_ = nullptr; // i32
  const bool warpgroups_ = kernel::uses(kernel_.body, Opcode::kWarpgroupMma);
};

} // namespace

std::optional<PtxOptions> ptx_options(const std::string &architecture) {
  static constexpr struct {
    const char *name;
    unsigned isa; // the first that knows it
    bool dependent_launch;
  } kKnown[] = {{"sm_80", 70, false}, {"sm_90", 78, true}, {"sm_90a", 80, true}};
  for (const auto &known : kKnown)
    if (architecture == known.name)
      return PtxOptions{known.name, known.isa, 2, known.dependent_launch};
  return std::nullopt;
}

std::string emit_ptx(const std::vector<const kernel::Kernel *> &kernels, const TargetRecord &record,
                     const PtxOptions &options) {
  std::shared_lock lock(llvm_global_state());
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeNVPTXTargetInfo();
    LLVMInitializeNVPTXTarget();
    LLVMInitializeNVPTXTargetMC();
    LLVMInitializeNVPTXAsmPrinter();
  });
  const GpuMachine machine = {"NVPTX", kTriple, options.architecture, "+ptx" + std::to_string(options.isa), options.opt_level};
  const std::vector<uint8_t> text = gpu_code(machine, /*object=*/false, [&](const CodeTraits &traits, llvm::Module &module) {
    for (const kernel::Kernel *kernel : kernels)
      PtxFunction(*kernel, record, traits, module, options.dependent_launch).emit_entry();
  });
  return std::string(text.begin(), text.end());
}

} // namespace ingot::aotc::emit
