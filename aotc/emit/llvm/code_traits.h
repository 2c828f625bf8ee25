// What the emitter may know of the instruction set, as facts read from LLVM's subtarget: each says which of two correct
// instruction sequences is the cheap one, or which intrinsic LLVM turns into instructions instead of a library call.
#pragma once

namespace llvm {
class TargetMachine;
}

namespace ingot::aotc {

struct CodeTraits {
  bool f16_convert = false;       // half <-> float conversion instructions
  bool f64_to_f16 = false;        // double -> half in one rounding
  bool rounding = false;          // floor, ceil, trunc, roundeven instructions
  bool nan_min_max = false;       // llvm.minimum and llvm.maximum are a few instructions
  bool nan_min_max_f32 = false;   // the same, of f32 alone
  bool saturating_convert = false;// float -> int of the same width saturates in hardware (llvm.fptosi.sat)
  bool cvttps2dq = false;         // x86: float -> i32 gives 0x80000000 where out of range
  bool avx = false, avx512 = false;
  bool fma = false;
  unsigned masked_bits = 0;       // narrowest element that masked vector memory instructions handle; 0 = there are none
  unsigned division_bits = 64;    // widest integer division instruction; wider ones are expanded inline
  unsigned pointer_bits = 64;

  static CodeTraits of(const llvm::TargetMachine &machine);
};

} // namespace ingot::aotc
