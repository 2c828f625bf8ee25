// An interpreter of PTX for the mock libcuda: what LLVM's NVPTX backend writes, and no more. An instruction that it does not
// know is an error when a module is loaded, with its text.
//
// Threads of a block run one after the other up to a barrier, where all must meet, or a shuffle or an op of matrix units, where those
// of a warp must. Addresses are the host's; each access is checked against its space and its alignment. What cp.async brings is not
// there before the thread has waited for it, and what was there is gone at once; so with boxes of tensors, which come when a thread
// waits for their mbarrier.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <unordered_set>
#include <vector>

namespace mock {

struct Operand {
  enum Kind : uint8_t { none, reg, immediate, special, shared, given, local, param } kind = none;
  uint64_t value = 0; // number of the register, bits, number of the special register, offset; given: 0
};

enum class Op : uint8_t {
  mov, pack, unpack, ld, ld_param, st, add, sub, mul, mul_hi, mul_wide, mad, mad_wide, fma, div, rem, abs, neg, min, max, sqrt, rcp, setp,
  selp, and_, or_, xor_, not_, shl, shr, cvt, bra, bar, shfl, atom_add, atom_min, atom_max, atom_and, atom_or, atom_xor, atom_exch, ret, popc, clz, copysign, bfe, bfi, prmt, cvt_pair, ldmatrix, mma,
  cp_async, cp_commit, cp_wait, wgmma, wgmma_commit, wgmma_wait, fence_async, depend_wait, nop,
  signal_init, signals_fence, signal_expect, signal_arrive, signal_wait, box, prefetch_map
};
enum class Type : uint8_t { pred, b8, b16, b32, b64, u8, u16, u32, u64, s8, s16, s32, s64, f16, f32, f64 };

struct Instruction {
  Op op = Op::nop;
  Type type = Type::b32, from = Type::b32; // from: of cvt
  uint8_t compare = 0, round = 0, lanes = 1, space = 0;
  bool nan = false, ftz = false, negated = false, relaxed = false, cached = false; // cached: as what does not change
  int32_t predicate = -1; // register
  int32_t target = -1;    // of bra
  int64_t offset = 0;     // of ld, st
  Operand d[4], a, b, c, e;
  std::vector<Operand> factors; // of mma: A, B and sums; of wgmma: sums; of boxes: coordinates
  uint32_t line = 0;
};

struct Kernel {
  std::string name;
  std::vector<uint32_t> param_offsets, param_sizes;
  std::array<uint32_t, 3> block = {0, 0, 0}; // .reqntid
  uint32_t registers = 0, shared_bytes = 0, local_bytes = 0;
  uint32_t given_at = 0; // where in shared memory begins what a launch gives
  std::vector<Instruction> code;
};

// A CUtensorMap as the mock makes it: elements of 2 bytes.
struct TensorMap {
  static constexpr uint64_t kMagic = 0x70616d726f736e74;
  uint64_t magic, address;
  uint32_t rank, box[5];
  uint64_t sizes[5], strides[5]; // elements, bytes
  uint64_t rest[1];
};
static_assert(sizeof(TensorMap) == 128);
// What cuTensorMapEncodeTiled demands of maps of 16-bit words swizzled over 128 bytes; false where it is not so. strides: of dimensions from 1 on.
bool make_map(TensorMap *out, uint64_t address, uint32_t rank, const uint64_t *sizes, const uint64_t *strides, const uint32_t *box);

// "" or what is wrong with the text.
std::string parse(const std::string &text, std::map<std::string, Kernel> &kernels);

struct Launch {
  std::array<uint32_t, 3> grid, block;
  uint32_t shared_bytes = 0; // beside the kernel's own: an array that it declares as external
  std::vector<std::vector<uint8_t>> params;
  // Is [address, address + size) memory that a kernel may touch? Gives its bounds.
  std::function<bool(uint64_t address, uint64_t *begin, uint64_t *end)> memory;
  bool early = false; // before the kernels ahead of it have ended: griddepcontrol.wait must come before accesses to what they write
};
// What kernels wrote that may not have ended: words of four bytes. How often one that began early has read before it waited for them.
struct Chain {
  std::unordered_set<uint64_t> written;
  size_t early_reads = 0;
};
// "" or what a thread did wrong.
std::string run(const Kernel &kernel, const Launch &launch, Chain *chain = nullptr);

} // namespace mock
