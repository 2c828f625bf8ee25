// GpuFunction in the words of AMDGPU, and LLVM's backend for it.
#include "aotc/emit/ptx/hsaco.h"

#include <memory>
#include <mutex>

#include "aotc/base/error.h"
#include "aotc/emit/llvm/linker.h"
#include "aotc/emit/ptx/gpu_function.h"

#include "llvm/IR/IntrinsicsAMDGPU.h"
#include "llvm/Support/TargetSelect.h"

namespace ingot::aotc::emit {
namespace {

constexpr const char *kTriple = "amdgcn-amd-amdhsa";

struct Chip {
  const char *name;
  uint32_t lanes; // of a wave, as LLVM chooses for it
};
constexpr Chip kChips[] = {{"gfx90a", 64}, {"gfx942", 64}, {"gfx1030", 32}, {"gfx1100", 32}, {"gfx1201", 32}};

class HsacoFunction final : public GpuFunction {
 public:
  using GpuFunction::GpuFunction;

 protected:
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
    HsacoFunction(kernel, record, traits, module).emit_entry();
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
    record.fragment_f16 = record.fragment_bf16 = record.fragment_tf32 = record.fragment_i8 = record.async_copy = false;
    return record;
  }
  return std::nullopt;
}

std::vector<uint8_t> emit_hsaco(const kernel::Kernel &kernel, const TargetRecord &record, const std::string &chip) {
  LinkedImage linked = link_code_object(object_of(kernel, record, chip));
  ensure(linked.error.empty(), "hsaco: kernel '" + kernel.name + "': " + linked.error);
  return std::move(linked.elf);
}

} // namespace ingot::aotc::emit
