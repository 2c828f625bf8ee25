#include "aotc/emit/llvm/code_traits.h"

#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/TargetParser/Triple.h"

namespace ingot::aotc {

CodeTraits CodeTraits::of(const llvm::TargetMachine &machine) {
  const llvm::Triple &triple = machine.getTargetTriple();
  const llvm::MCSubtargetInfo &info = *machine.getMCSubtargetInfo();
  auto has = [&](const char *feature) { return info.checkFeatures(feature); };
  CodeTraits t;
  t.pointer_bits = machine.getPointerSizeInBits(0);
  if (triple.isX86()) {
    t.f16_convert = has("+f16c");
    t.rounding = has("+sse4.1");
    t.cvttps2dq = t.nan_min_max = has("+sse2");
    t.avx = has("+avx");
    t.avx512 = has("+avx512f");
    t.fma = has("+fma");
    t.masked_bits = has("+avx512bw") && has("+avx512vl") ? 8 : has("+avx2") ? 32 : 0;
  } else if (triple.isAArch64()) {
    t.f16_convert = t.f64_to_f16 = t.rounding = t.nan_min_max = t.saturating_convert = t.fma = true;
  } else if (triple.isRISCV()) {
    t.fma = has("+d");
    t.division_bits = has("+m") ? t.pointer_bits : 0;
  } else if (triple.isARM() || triple.isThumb()) {
    t.division_bits = has(triple.isThumb() ? "+hwdiv" : "+hwdiv-arm") ? 32 : 0;
  } else if (triple.isNVPTX()) { // sm_80 and later; f64 has no NaN-propagating min and max
    t.f16_convert = t.f64_to_f16 = t.rounding = t.fma = t.nan_min_max_f32 = true;
  } else if (triple.isAMDGCN()) {
    t.f16_convert = t.f64_to_f16 = t.rounding = t.fma = true;
  } else {
    t.division_bits = t.pointer_bits; // what lacks it fails to link, with the name of the function
  }
  return t;
}

} // namespace ingot::aotc
