// GpuFunction: a simt kernel as an LLVM function for a GPU. It shares the CPU emitter's lowering of every value op and adds
// what threads bring: an entry with one argument a buffer and param, ids, workgroup arrays, barriers, subgroups; and accesses
// under a mask are branches, since global, shared and private pointers live in different spaces.
//
// A backend (aotc/emit/ptx, aotc/emit/hsaco) says how its hardware spells these: see the virtual functions.
//
// Entry: (pointers of the buffers..., params..., [error word]). Pointers are global and never alias. A param is a 32-bit word:
// index, i32 or f32; an i64 has 64 bits. The error word is there where the kernel has error ops (schemas/gpu_abi.h). Tensor maps come last,
// as a backend has them.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "aotc/emit/llvm/function_emitter.h"

namespace ingot::aotc::emit {

class GpuFunction : public FunctionEmitter {
 public:
  using FunctionEmitter::FunctionEmitter;

  // Emits the kernel as an entry of its own name. Throws InternalError for what has no form on the target.
  llvm::Function *emit_entry();

 protected:
  static constexpr unsigned kGlobalSpace = 1, kSharedSpace = 3; // of NVPTX and AMDGPU alike

  // The kernel starts before those ahead of it have ended, which may write what this one only reads: loads of all but constants stay
  // behind a wait that is somewhere in it.
  bool early_ = false;

  virtual void mark_entry() = 0;              // function_ as a kernel with workgroups of its local size
  virtual V group_id(unsigned dimension) = 0; // these three: i32
  virtual V local_id(unsigned dimension) = 0;
  virtual V grid_size(unsigned dimension) = 0;
  virtual void barrier() = 0;                 // orders workgroup and buffer memory within the workgroup
  virtual V from_lane(V word, V lane) = 0;    // another lane's i32; every lane of the subgroup takes part
  virtual V lane_id() = 0;                    // i32, within the subgroup
  virtual void begin() {}                     // before anything touches memory
  // The type of a tensor map as an argument; null where the target has none.
  virtual llvm::Type *map_type() { return nullptr; }
  virtual uint32_t subgroup_lanes() const { return record_.subgroup_size; }

  void emit_op(const kernel::Op &op) override;
  V divide(kernel::Opcode code, Type type, V a, V b) override;

  V exchanged(V value, V lane); // from_lane for values of any width

  // One of three intrinsics without operands.
  V special(llvm::Intrinsic::ID x, llvm::Intrinsic::ID y, llvm::Intrinsic::ID z, unsigned dimension) {
    llvm::CallInst *id = b_.CreateIntrinsic(dimension == 0 ? x : dimension == 1 ? y : z, {}, {});
    id->addRangeRetAttr(llvm::ConstantRange(llvm::APInt(32, 0), llvm::APInt(32, 0x80000000u))); // what is divided is not negative
    return id;
  }

 private:
  void bind_memories();
  void bind_params();
  V index_of(V id) { return b_.CreateZExtOrTrunc(id, scalar_type(Scalar::kIndex)); }
  template <class Then> V guarded(V condition, V otherwise, const Then &then);
  V lane_of(V vector, uint32_t lane);
  template <class Condition, class Index>
  void load_lanes(const kernel::Op &op, V otherwise, const Condition &condition, const Index &index);
  template <class Condition, class Index>
  void store_lanes(const kernel::Op &op, kernel::ValueId id, const Condition &condition, const Index &index);
  V subgroup(const kernel::Op &op);
  void emit_gpu_error(const kernel::Op &op);
  struct Divisor {
    V magnitude = nullptr, reciprocal = nullptr;
  };
  const Divisor &divisor(V value, bool is_signed);

  std::map<std::pair<V, bool>, Divisor> divisors_; // and whether it is signed
};

struct GpuMachine {
  const char *backend, *triple; // the backend is registered; its name is for messages
  std::string chip, features;
  int opt_level = 2;            // 0 .. 3
};

// Code of what `emit` puts into a fresh module. object: machine code, else text. Throws InternalError.
std::vector<uint8_t> gpu_code(const GpuMachine &machine, bool object, const std::function<void(const CodeTraits &, llvm::Module &)> &emit);

} // namespace ingot::aotc::emit
