// Fragments and copies under way in PTX: ldmatrix, mma.sync, cp.async. Values are those of the kernel ops: four words a thread.
#pragma once

#include <cstdint>
#include <vector>

#include "aotc/kernel/kernel.h"

#include "llvm/IR/IRBuilder.h"

namespace ingot::aotc::emit {

// `array` is a pointer to shared memory at the fragment's first element; `pitch` in bytes, i32.
llvm::Value *ptx_fragment_load(llvm::IRBuilderBase &b, llvm::Value *array, llvm::Value *pitch, kernel::FragmentRole role);
llvm::Value *ptx_fragment_mma(llvm::IRBuilderBase &b, Scalar element, llvm::Value *a, llvm::Value *bs, int64_t which, llvm::Value *sums); // which: imm2
// Sums of two fragments side by side as a factor A; of f32 those of `left` alone.
llvm::Value *ptx_fragment_pack(llvm::IRBuilderBase &b, Scalar element, llvm::Value *left, llvm::Value *right);
// The rows or columns of a thread's four sums, as a vector of `type`.
llvm::Value *ptx_fragment_places(llvm::IRBuilderBase &b, bool rows, llvm::Type *type);

// kWarpgroupMma: pointers to the first line of either factor, moved on to element k; the sums after it. They may not be looked at
// before ptx_warpgroup_wait for all but 0, which gives them back. `element`: f16 or bf16.
std::vector<llvm::Value *> ptx_warpgroup_mma(llvm::IRBuilderBase &b, Scalar element, llvm::Value *a, llvm::Value *bs, int64_t steps,
                                             const std::vector<llvm::Value *> &sums);
std::vector<llvm::Value *> ptx_warpgroup_wait(llvm::IRBuilderBase &b, int64_t under_way, const std::vector<llvm::Value *> &sums);
// What this thread's copies have brought, or it has stored, may be read by matrix units of a warpgroup after a barrier.
void ptx_warpgroup_fence(llvm::IRBuilderBase &b);

void ptx_copy_async(llvm::IRBuilderBase &b, llvm::Value *to, llvm::Value *from, llvm::Value *condition, uint32_t bytes);
void ptx_copy_commit(llvm::IRBuilderBase &b);
void ptx_copy_wait(llvm::IRBuilderBase &b, int64_t batches);

// Signals: objects of 8 bytes in shared memory ("mbarrier" of PTX). A phase ends when all have arrived and all bytes expected have come.
void ptx_signal_init(llvm::IRBuilderBase &b, llvm::Value *signal, uint32_t arrivals);
void ptx_signals_fence(llvm::IRBuilderBase &b);                                    // what was initialised may be used by copies after a barrier
void ptx_signal_expect(llvm::IRBuilderBase &b, llvm::Value *signal, uint64_t bytes); // arrives, and says how many bytes will come
void ptx_signal_arrive(llvm::IRBuilderBase &b, llvm::Value *signal);
void ptx_signal_wait(llvm::IRBuilderBase &b, llvm::Value *signal, llvm::Value *parity); // until a phase of this parity, i32, has ended
// The box of `map` (a CUtensorMap) at the coordinates, i32, to shared memory; its bytes come to `signal`.
void ptx_tensor_copy(llvm::IRBuilderBase &b, llvm::Value *to, llvm::Value *map, const std::vector<llvm::Value *> &coordinates, llvm::Value *signal);
void ptx_prefetch_map(llvm::IRBuilderBase &b, llvm::Value *map);

} // namespace ingot::aotc::emit
