#include "aotc/emit/llvm/cpu_target.h"

#include <algorithm>
#include <mutex>

#include "aotc/base/error.h"
#include "schemas/cpu_abi.h"

#include "llvm/ADT/StringMap.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/Triple.h"

namespace ingot::aotc {
namespace {

void initialize_llvm() {
  static std::once_flag once;
  std::call_once(once, [] {
    llvm::InitializeAllTargetInfos();
    llvm::InitializeAllTargets();
    llvm::InitializeAllTargetMCs();
    llvm::InitializeAllAsmPrinters();
    llvm::InitializeAllAsmParsers();
  });
}

// One bit of the mask and the LLVM features that it stands for.
struct FeatureBit {
  uint32_t bit;
  const char *features;
};

constexpr FeatureBit kX86Bits[] = {
    {INGOT_CPU_X86_64_V2, "+sse4.2,+ssse3,+popcnt,+cx16,+sahf"},
    {INGOT_CPU_X86_64_V3, "+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe"},
    {INGOT_CPU_X86_64_V4, "+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl"},
    {INGOT_CPU_X86_AVX512_VNNI, "+avx512vnni"},
    {INGOT_CPU_X86_AVX512_BF16, "+avx512bf16"},
    {INGOT_CPU_X86_AVX_VNNI, "+avxvnni"},
    {INGOT_CPU_X86_AVX512_FP16, "+avx512fp16"},
};

constexpr FeatureBit kAArch64Bits[] = {
    {INGOT_CPU_AARCH64_DOTPROD, "+dotprod"}, {INGOT_CPU_AARCH64_I8MM, "+i8mm"}, {INGOT_CPU_AARCH64_BF16, "+bf16"},
    {INGOT_CPU_AARCH64_SVE, "+sve"},         {INGOT_CPU_AARCH64_FP16, "+fullfp16"},
};

// MCSubtargetInfo::checkFeatures answers for one feature at a time here: with a list it compares the sets' union.
bool has_features(const llvm::MCSubtargetInfo &info, llvm::StringRef list) {
  llvm::SmallVector<llvm::StringRef, 8> parts;
  list.split(parts, ',');
  return std::all_of(parts.begin(), parts.end(), [&](llvm::StringRef f) { return info.checkFeatures(f.str()); });
}

// x86 levels are a ladder: V3 without all of V2 counts as neither.
uint32_t feature_mask(const llvm::Triple &triple, const llvm::MCSubtargetInfo &info) {
  uint32_t mask = 0;
  if (triple.isX86() && triple.isArch64Bit()) {
    for (const FeatureBit &b : kX86Bits)
      if (has_features(info, b.features))
        mask |= b.bit;
    if (!(mask & INGOT_CPU_X86_64_V2))
      mask &= ~uint32_t{INGOT_CPU_X86_64_V3};
    if (!(mask & INGOT_CPU_X86_64_V3))
      mask &= ~uint32_t{INGOT_CPU_X86_64_V4};
  }
  if (triple.isAArch64())
    for (const FeatureBit &b : kAArch64Bits)
      if (has_features(info, b.features))
        mask |= b.bit;
  return mask;
}

const llvm::Target *lookup(const std::string &triple, std::string *error) {
  initialize_llvm();
  std::string why;
  const llvm::Target *target = llvm::TargetRegistry::lookupTarget(triple, why);
  if (!target && error)
    *error = "target '" + triple + "': " + why;
  return target;
}

std::unique_ptr<llvm::MCSubtargetInfo> subtarget_of(const CpuTarget &t, std::string *error) {
  const llvm::Target *target = lookup(t.triple, error);
  if (!target)
    return nullptr;
  return std::unique_ptr<llvm::MCSubtargetInfo>(target->createMCSubtargetInfo(t.triple, t.cpu, t.features));
}

// Fills in the mask; refuses what LLVM does not know or the linker cannot link.
std::optional<CpuTarget> finish(CpuTarget t, std::string *error) {
  llvm::Triple triple(t.triple);
  if (!lookup(t.triple, error))
    return std::nullopt;
  if (!triple.isOSBinFormatELF()) {
    *error = "target '" + t.name + "': its objects are not ELF; CPU code in archives is ELF on every OS, so name a "
             "triple such as " + triple.getArchName().str() + "-linux-gnu";
    return std::nullopt;
  }
  if (!triple.isLittleEndian()) {
    *error = "target '" + t.name + "': big-endian targets are not supported";
    return std::nullopt;
  }
  auto info = subtarget_of(t, error);
  if (!info) {
    *error = "target '" + t.name + "': LLVM refuses CPU '" + t.cpu + "' with features '" + t.features + "'";
    return std::nullopt;
  }
  if (!t.cpu.empty() && !info->isCPUStringValid(t.cpu)) {
    *error = "target '" + t.name + "': LLVM knows no CPU '" + t.cpu + "' for " + t.triple;
    return std::nullopt;
  }
  t.feature_mask = feature_mask(triple, *info);
  return t;
}

constexpr const char *kX86Triple = "x86_64-unknown-linux-gnu";

// This machine's features, rounded down to what the mask names: code with any other feature could not be guarded.
CpuTarget host_target() {
  CpuTarget t{"host", llvm::Triple::normalize(llvm::sys::getDefaultTargetTriple()), "", "", 0};
  llvm::Triple triple(t.triple);
  auto features = llvm::sys::getHostCPUFeatures();
  auto has = [&](const char *list) {
    llvm::SmallVector<llvm::StringRef, 8> parts;
    llvm::StringRef(list).split(parts, ',');
    return std::all_of(parts.begin(), parts.end(), [&](llvm::StringRef f) { return features.lookup(f.drop_front()); });
  };
  auto take = [&](const FeatureBit &b) {
    if (has(b.features))
      t.features += (t.features.empty() ? "" : ",") + std::string(b.features);
  };
  if (triple.isX86() && triple.isArch64Bit()) {
    t.cpu = !has(kX86Bits[0].features)   ? "x86-64"
            : !has(kX86Bits[1].features) ? "x86-64-v2"
            : !has(kX86Bits[2].features) ? "x86-64-v3"
                                         : "x86-64-v4";
    for (size_t k = 3; k < std::size(kX86Bits); k++)
      take(kX86Bits[k]);
  } else if (triple.isAArch64()) {
    for (const FeatureBit &b : kAArch64Bits)
      take(b);
  }
  return t;
}

} // namespace

std::optional<CpuTarget> parse_cpu_target(std::string_view text, std::string *error) {
  std::string ignored;
  if (!error)
    error = &ignored;
  initialize_llvm();
  std::string name(text);
  if (name == "host")
    return finish(host_target(), error);
  if (name == "x86-64-v2" || name == "x86-64-v3" || name == "x86-64-v4")
    return finish(CpuTarget{name, kX86Triple, name, "", 0}, error);
  if (name == "x86-64-v4-vnni")
    return finish(CpuTarget{name, kX86Triple, "x86-64-v4", "+avx512vnni", 0}, error);

  CpuTarget t{name, "", "", "", 0};
  size_t comma = name.find(',');
  t.triple = llvm::Triple::normalize(name.substr(0, comma));
  // Everything after "features=" belongs to it, since the list has commas of its own.
  while (comma != std::string::npos) {
    size_t begin = comma + 1;
    if (name.compare(begin, 9, "features=") == 0) {
      t.features = name.substr(begin + 9);
      break;
    }
    comma = name.find(',', begin);
    std::string part = name.substr(begin, comma == std::string::npos ? comma : comma - begin);
    if (part.rfind("cpu=", 0) != 0) {
      *error = "target '" + name + "': '" + part + "' is neither cpu=NAME nor features=LIST";
      return std::nullopt;
    }
    t.cpu = part.substr(4);
  }
  if (llvm::Triple(t.triple).getArch() == llvm::Triple::UnknownArch) {
    *error = "target '" + name + "': not a CPU target; expected x86-64-v2, x86-64-v3, x86-64-v4, x86-64-v4-vnni, host, or a triple "
             "such as aarch64-linux-gnu with optional ,cpu=NAME and ,features=LIST";
    return std::nullopt;
  }
  return finish(std::move(t), error);
}

TargetRecord record_of(const CpuTarget &target) {
  std::string error;
  auto info = subtarget_of(target, &error);
  ensure(info != nullptr, error);
  auto has = [&](const char *list) { return has_features(*info, list); };
  llvm::Triple triple(target.triple);
  TargetRecord record;
  if (triple.isX86()) {
    record = has("+avx512f,+avx512bw,+avx512vl") ? TargetRecord::x86_64_v4()
             : has("+avx2,+fma")                 ? TargetRecord::x86_64_v3()
                                                 : TargetRecord::x86_64_v2();
    record.has_fma = has("+fma");
    record.has_masked_memory = has("+avx2");
    record.has_dot4 = has("+avx512vnni,+avx512vl");
  } else if (triple.isAArch64()) {
    record = TargetRecord::aarch64();
  } else {
    // Baseline that any CPU keeps: one SSE-sized vector split by LLVM as it likes, no fused instruction.
    record = TargetRecord::x86_64_v2();
    record.has_fma = false;
    record.has_masked_memory = false;
    record.has_dot2 = false;
    record.index_bits = triple.isArch64Bit() ? 64 : 32;
  }
  record.name = target.name;
  return record;
}

std::unique_ptr<llvm::TargetMachine> create_target_machine(const CpuTarget &target, unsigned opt_level,
                                                           std::string *error) {
  const llvm::Target *t = lookup(target.triple, error);
  if (!t)
    return nullptr;
  llvm::TargetOptions options;
  options.AllowFPOpFusion = llvm::FPOpFusion::Standard; // only operations that carry the contract flag
  options.EmitAddrsig = false;
  llvm::CodeGenOptLevel level = opt_level == 0   ? llvm::CodeGenOptLevel::None
                                : opt_level == 1 ? llvm::CodeGenOptLevel::Less
                                : opt_level == 2 ? llvm::CodeGenOptLevel::Default
                                                 : llvm::CodeGenOptLevel::Aggressive;
  std::unique_ptr<llvm::TargetMachine> machine(t->createTargetMachine(
      target.triple, target.cpu, target.features, options, llvm::Reloc::PIC_, llvm::CodeModel::Small, level));
  if (!machine && error)
    *error = "target '" + target.name + "': LLVM cannot generate code for it";
  return machine;
}

} // namespace ingot::aotc
