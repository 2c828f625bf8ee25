// Fragments on the matrix units of AMD GPUs: WMMA of gfx11 and of gfx12, in waves of 32, and MFMA, in waves of 64. The kernel's
// FragmentShape says which: eight words, four, two. Elements are f16.
//
// All three multiply 16 x 16 by 16 x 16, and a lane's sums are of one column, lane % 16. The factors change places here, so that they are
// of one row, and B's columns are dealt to the unit's rows so that the first half of a lane's sums are columns 0..7, the second half 8..15:
//   h = lane / 16, r = run: sum i of a half is of row lane % 16 and column r h + i
// Along k anything goes that both factors agree on: a lane of gfx12 and of MFMA has k = 8 (i / r) + r h + i % r as its element i, which is
// what two fragments of sums leave there. A lane of gfx11 has all of a line, lanes 16..31 what lanes 0..15 have.
//
// Where the unit has what, as gpuopen.com's "How to accelerate AI applications on RDNA 3 using WMMA" and "Using the Matrix Cores of AMD
// RDNA 4 architecture GPUs" say, and of MFMA AMD's Matrix Instruction Calculator (--register-layout):
//   A, B   gfx11: lanes l and l + 16 have line l, k = 0..15; gfx12: lane l has of line l % 16 k = 8 h..8 h + 7; MFMA: k = 4 h..4 h + 3
//   C, D   element i of a lane is of row 2 i + h (gfx11), 8 h + i (gfx12), 4 h + i (MFMA)
#pragma once

#include <utility>

#include "aotc/kernel/kernel.h"

#include "llvm/IR/IRBuilder.h"

namespace ingot::aotc::emit {

// `lane`: i32, of the subgroup. Values are those of the kernel ops.
// `array` is a pointer to the fragment's first element; `pitch` in elements, i32.
llvm::Value *amd_fragment_load(llvm::IRBuilderBase &b, const kernel::FragmentShape &shape, llvm::Value *lane, llvm::Value *array, llvm::Value *pitch,
                               kernel::FragmentRole role);
// Both halves at once.
std::pair<llvm::Value *, llvm::Value *> amd_fragment_mma(llvm::IRBuilderBase &b, const kernel::FragmentShape &shape, llvm::Value *a, llvm::Value *bs,
                                                         llvm::Value *left, llvm::Value *right);
llvm::Value *amd_fragment_pack(llvm::IRBuilderBase &b, const kernel::FragmentShape &shape, llvm::Value *lane, llvm::Value *left, llvm::Value *right);
llvm::Value *amd_fragment_places(llvm::IRBuilderBase &b, const kernel::FragmentShape &shape, llvm::Value *lane, bool rows, llvm::Type *type);
// In waves of 32: what lane l ^ 16 has, i32.
llvm::Value *amd_other_half(llvm::IRBuilderBase &b, llvm::Value *word);

} // namespace ingot::aotc::emit
