// GpuFunction in the words of AMDGPU, and LLVM's backend for it.
#include "aotc/emit/ptx/hsaco.h"

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <set>

#include "aotc/base/error.h"
#include "aotc/emit/llvm/linker.h"
#include "aotc/emit/ptx/amd_fragments.h"
#include "aotc/emit/ptx/gpu_function.h"

#include "llvm/IR/IntrinsicsAMDGPU.h"
#include "llvm/Support/TargetSelect.h"

namespace ingot::aotc::emit {
namespace {

constexpr const char *kTriple = "amdgcn-amd-amdhsa";

using kernel::Op;
using kernel::Opcode;

struct Chip {
  const char *name;
  uint32_t lanes;           // of a wave, as LLVM chooses for it
  uint32_t words = 0;       // of a factor of its matrix units that a lane has; 0: it has no matrix units
  bool subnormals = true;   // that they see
};
// gfx90a: "MI200 matrix fused multiply-add (MFMA) behavior specifics" in AMD's documentation of MIOpen.
constexpr Chip kChips[] = {{"gfx90a", 64, 2, false}, {"gfx942", 64, 2}, {"gfx1030", 32}, {"gfx1100", 32, 8}, {"gfx1201", 32, 4}};

class HsacoFunction final : public GpuFunction {
 public:
  using GpuFunction::GpuFunction;

 protected:
  void begin() override { pair_halves(kernel_.body); }
  void mark_entry() override {
    const auto &size = kernel_.local_size;
    const std::string threads = std::to_string(uint64_t{size[0]} * size[1] * size[2]);
    function_->setCallingConv(llvm::CallingConv::AMDGPU_KERNEL);
    function_->setVisibility(llvm::GlobalValue::ProtectedVisibility);
    function_->addFnAttr("amdgpu-flat-work-group-size", threads + "," + threads);
    function_->addFnAttr("uniform-work-group-size", "true");
    llvm::Metadata *dims[3];
    for (int i = 0; i < 3; ++i)
      dims[i] = llvm::ConstantAsMetadata::get(b_.getInt32(size[static_cast<size_t>(i)]));
    function_->setMetadata("reqd_work_group_size", llvm::MDNode::get(context_, dims));
  }
  V group_id(unsigned dimension) override {
    return special(llvm::Intrinsic::amdgcn_workgroup_id_x, llvm::Intrinsic::amdgcn_workgroup_id_y,
                   llvm::Intrinsic::amdgcn_workgroup_id_z, dimension);
  }
  V local_id(unsigned dimension) override {
    return special(llvm::Intrinsic::amdgcn_workitem_id_x, llvm::Intrinsic::amdgcn_workitem_id_y,
                   llvm::Intrinsic::amdgcn_workitem_id_z, dimension);
  }
  V grid_size(unsigned dimension) override { // the first three words of the implicit arguments
    V implicit = b_.CreateIntrinsic(llvm::Intrinsic::amdgcn_implicitarg_ptr, {}, {});
    V at = b_.CreateConstInBoundsGEP1_32(b_.getInt32Ty(), implicit, dimension);
    llvm::LoadInst *load = b_.CreateAlignedLoad(b_.getInt32Ty(), at, llvm::Align(4));
    load->setMetadata(llvm::LLVMContext::MD_invariant_load, llvm::MDNode::get(context_, {}));
    return load;
  }
  void barrier() override {
    const llvm::SyncScope::ID scope = context_.getOrInsertSyncScopeID("workgroup");
    b_.CreateFence(llvm::AtomicOrdering::Release, scope);
    b_.CreateIntrinsic(llvm::Intrinsic::amdgcn_s_barrier, {}, {});
    b_.CreateFence(llvm::AtomicOrdering::Acquire, scope);
  }
  V lane_id() override {
    V low = b_.CreateIntrinsic(llvm::Intrinsic::amdgcn_mbcnt_lo, {}, {b_.getInt32(0xffffffff), b_.getInt32(0)});
    return subgroup_lanes() == 32 ? low : b_.CreateIntrinsic(llvm::Intrinsic::amdgcn_mbcnt_hi, {}, {b_.getInt32(0xffffffff), low});
  }
  V from_lane(V word, V lane) override {
    return b_.CreateIntrinsic(llvm::Intrinsic::amdgcn_ds_bpermute, {}, {b_.CreateShl(lane, 2), word});
  }

  void emit_op(const Op &op) override {
    switch (op.code) {
    case Opcode::kFragmentLoad:
      return set(op, amd_fragment_load(b_, kernel_.fragment, fragment_lane(), pointer(memories_[op.memory], get(op.operands[0])),
                                       b_.CreateZExtOrTrunc(get(op.operands[1]), b_.getInt32Ty()), static_cast<kernel::FragmentRole>(op.imm)));
    case Opcode::kFragmentMma: return products(op);
    case Opcode::kFragmentPack: return set(op, amd_fragment_pack(b_, kernel_.fragment, fragment_lane(), get(op.operands[0]), get(op.operands[1])));
    case Opcode::kFragmentRowAdd:
    case Opcode::kFragmentRowMax: return set(op, rows(op));
    case Opcode::kFragmentRow:
    case Opcode::kFragmentColumn:
      return set(op, amd_fragment_places(b_, kernel_.fragment, fragment_lane(), op.code == Opcode::kFragmentRow, type_of(kernel_.types[op.results[0]])));
    default: return GpuFunction::emit_op(op);
    }
  }

 private:
  V fragment_lane() { return b_.CreateAnd(local_id(0), kernel_.fragment.threads - 1); }

  // A product of the matrix unit is those of both halves of a B: finds the op of the other half, where its sums are there already.
  void pair_halves(const kernel::Region &region) {
    for (size_t i = 0; i < region.ops.size(); ++i) {
      const Op &op = region.ops[i];
      for (const kernel::Region &part : op.regions)
        pair_halves(part);
      if (op.code != Opcode::kFragmentMma || seconds_.contains(&op))
        continue;
      std::set<kernel::ValueId> fresh;
      for (size_t j = i + 1; j < region.ops.size(); ++j) {
        fresh.insert(region.ops[j - 1].results.begin(), region.ops[j - 1].results.end());
        const Op &other = region.ops[j];
        if (other.code != Opcode::kFragmentMma || seconds_.contains(&other) || other.imm2 == op.imm2 || other.operands[0] != op.operands[0] ||
            other.operands[1] != op.operands[1] || fresh.contains(other.operands[2]))
          continue;
        second_of_[&op] = &other;
        seconds_.insert(&other);
        break;
      }
    }
  }
  void products(const Op &op) {
    if (seconds_.contains(&op))
      return; // came with the other half
    auto found = second_of_.find(&op);
    const Op *other = found == second_of_.end() ? nullptr : found->second;
    V own = get(op.operands[2]), others = other ? get(other->operands[2]) : llvm::Constant::getNullValue(own->getType());
    if (op.imm2 != 0)
      std::swap(own, others);
    auto [left, right] = amd_fragment_mma(b_, kernel_.fragment, get(op.operands[0]), get(op.operands[1]), own, others);
    set(op, op.imm2 == 0 ? left : right);
    if (other)
      set(*other, op.imm2 == 0 ? right : left);
  }
  // A row's eight elements lie in lanes that are 16 apart.
  V rows(const Op &op) {
    const Opcode code = op.code == Opcode::kFragmentRowAdd ? Opcode::kAdd : Opcode::kMax;
    auto both = [&](V x, V y) { return arithmetic(code, Scalar::kF32, {x, y}, false); };
    V sums = get(op.operands[0]);
    auto own = [&](uint64_t i) { return b_.CreateExtractElement(sums, i); };
    V v = both(own(0), own(1));
    if (kernel_.fragment.run == 4)
      v = both(v, both(own(2), own(3)));
    if (kernel_.fragment.threads == 32)
      v = both(v, b_.CreateBitCast(amd_other_half(b_, b_.CreateBitCast(v, b_.getInt32Ty())), b_.getFloatTy()));
    else
      for (uint32_t apart : {16, 32})
        v = both(v, exchanged(v, b_.CreateXor(fragment_lane(), b_.getInt32(apart))));
    return b_.CreateVectorSplat(kernel_.fragment.sums(), v);
  }

  std::map<const Op *, const Op *> second_of_; // the two halves' products
  std::set<const Op *> seconds_;
};

std::vector<uint8_t> object_of(const kernel::Kernel &kernel, const TargetRecord &record, const std::string &chip) {
  std::shared_lock lock(llvm_global_state());
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeAMDGPUTargetInfo();
    LLVMInitializeAMDGPUTarget();
    LLVMInitializeAMDGPUTargetMC();
    LLVMInitializeAMDGPUAsmPrinter();
  });
  return gpu_code({"AMDGPU", kTriple, chip, ""}, /*object=*/true, [&](const CodeTraits &traits, llvm::Module &module) {
    emit_amdgpu_function(kernel, record, traits, module);
  });
}

} // namespace

const char *const kRocmChips = "gfx90a, gfx942, gfx1030, gfx1100 and gfx1201";

std::optional<TargetRecord> rocm_record(const std::string &chip) {
  for (const Chip &known : kChips) {
    if (chip != known.name)
      continue;
    TargetRecord record = TargetRecord::cuda_sm80();
    record.name = known.name;
    record.subgroup_size = known.lanes;
    record.workgroup_memory_bytes = 64 << 10;
    record.large_workgroup_memory_bytes = 0;
    record.fragment_bf16 = record.fragment_tf32 = record.fragment_i8 = record.async_copy = false;
    record.fragment_f16 = known.words > 0;
    record.fragment_subnormals = known.subnormals;
    if (known.words > 0)
      record.fragment = {known.lanes, known.words, known.lanes == 64 ? 2u : 4u};
    return record;
  }
  return std::nullopt;
}

void emit_amdgpu_function(const kernel::Kernel &kernel, const TargetRecord &record, const CodeTraits &traits, llvm::Module &module) {
  HsacoFunction(kernel, record, traits, module).emit_entry();
}

std::vector<uint8_t> emit_hsaco(const kernel::Kernel &kernel, const TargetRecord &record, const std::string &chip) {
  LinkedImage linked = link_code_object(object_of(kernel, record, chip));
  ensure(linked.error.empty(), "hsaco: kernel '" + kernel.name + "': " + linked.error);
  return std::move(linked.elf);
}

} // namespace ingot::aotc::emit
