// FunctionEmitter: one kernel of class simd as one LLVM function with the convention of schemas/cpu_abi.h.
// Internal to aotc/emit/llvm; the public side is cpu_emitter.h.
//
// Representation: bool is i1 (one byte in memory), f16 and bf16 are their bits as i16 (so no target's
// half-baked half support is relied on; arithmetic goes through f32), index has record.index_bits, a vector
// type is LLVM's fixed vector. Every buffer and array has an alias scope of its own, since bindings never
// overlap: what a noalias argument would say, without a second function.
//
//   function_emitter.cpp  prologue, loop over workgroups, control flow
//   emit_arithmetic.cpp   arithmetic, comparisons, vectors
//   emit_convert.cpp      conversions, f16 and bf16
//   emit_memory.cpp       loads, stores, atomics
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "aotc/emit/llvm/code_traits.h"
#include "aotc/kernel/kernel.h"
#include "aotc/kernel/target.h"

#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/Module.h"

namespace ingot::aotc {

class FunctionEmitter {
 public:
  FunctionEmitter(const kernel::Kernel &kernel, const TargetRecord &record, const CodeTraits &traits,
                  llvm::Module &module);
  virtual ~FunctionEmitter() = default;

  // Emits the kernel as `symbol`. Throws InternalError where the kernel is not one that this target's legaliser
  // gives: a math function, threads, an exact fma without the instruction.
  llvm::Function *emit(const std::string &symbol);

  // Bytes of worker scratch that the function uses; after emit().
  uint64_t scratch_bytes() const { return scratch_bytes_; }

 protected: // aotc/emit/ptx derives from it: another convention, threads and address spaces
  using V = llvm::Value *;
  using VV = std::vector<V>;

  // A buffer or array as emitted code sees it.
  struct Mem {
    V base = nullptr;
    llvm::Type *element = nullptr;
    uint32_t element_bytes = 1;
    uint32_t align = 1;
    bool invariant = false;         // nothing writes it during the run
    llvm::MDNode *scope = nullptr;  // alias.scope, null for stack arrays
    llvm::MDNode *others = nullptr; // noalias
  };

  // function_emitter.cpp
  void emit_prologue();
  void emit_groups();
  void emit_region(const kernel::Region &region);
  VV emit_body(const kernel::Region &region, const VV &args); // binds the params; gives the yield's operands
  virtual void emit_op(const kernel::Op &op);
  virtual void leave_region(const kernel::Op &) {} // behind all other ops of the region that this yield ends
  void emit_for(const kernel::Op &op);
  void emit_if(const kernel::Op &op);
  void emit_while(const kernel::Op &op);
  void emit_error(const kernel::Op &op);
  V emit_constant(const kernel::Op &op, Type type);
  // A counted loop, lo < hi tested first unless known. body(i, carried) gives the next carried values; *stop is the
  // first counter that was not run.
  VV counted_loop(V lo, V hi, V step, bool narrow, const VV &init, const std::function<VV(V, const VV &)> &body,
                  V *stop = nullptr);
  llvm::BasicBlock *block(const char *name);
  V alloca_at_entry(llvm::Type *type, uint64_t align, const char *name);

  // emit_arithmetic.cpp
  V arithmetic(kernel::Opcode code, Type type, const VV &x, bool contract);
  V int_arithmetic(kernel::Opcode code, Type type, const VV &x);
  V float_arithmetic(kernel::Opcode code, Type type, const VV &x, bool contract);
  virtual V divide(kernel::Opcode code, Type type, V a, V b);
  V float_min_max(bool max, V a, V b);
  V round(kernel::Opcode code, V x);
  V float_rem(Type type, V a, V b);
  llvm::Function *fmod_function(bool f64);
  V compare(kernel::Opcode code, Type operand_type, V a, V b);
  V is_nan_or_inf(bool nan, Type type, V x);
  V reduce(kernel::Opcode code, Type vector_type, V x);
  V shuffle(const kernel::Op &op);
  V dot(const kernel::Op &op);
  V lane_iota(Type type);

  // emit_convert.cpp
  V convert(Type to, Type from, V x, bool is_unsigned);
  V to_f32(Type from, V bits);      // f16 or bf16 bits -> f32
  V from_f32(Scalar to, V x);       // f32 -> f16 or bf16 bits
  V f64_to_f32_odd(V x);            // rounded to odd, so that a second rounding gives the right result
  V float_to_int(Type to, V x, bool is_unsigned);

  // emit_memory.cpp
  void setup_memories();
  V pointer(const Mem &mem, V index);
  V maybe_pointer(const Mem &mem, V index);
  V slot_of(llvm::Type *type);
  uint32_t access_align(const Mem &mem, const kernel::Op &op) const;
  V to_memory(Type type, V x);      // bool -> byte
  V from_memory(Type type, V x);
  V raw_load(const Mem &mem, Type type, V ptr, uint32_t align, bool plain = true);
  void raw_store(const Mem &mem, V value, V ptr, uint32_t align, bool plain = true);
  llvm::Instruction *annotate(const Mem &mem, llvm::Instruction *access, bool is_load);
  V count_mask(V count, uint32_t lanes);
  void emit_load_part(const kernel::Op &op);
  void emit_store_part(const kernel::Op &op);
  void emit_load_if(const kernel::Op &op);
  void emit_store_if(const kernel::Op &op);
  void emit_gather(const kernel::Op &op);
  void emit_scatter(const kernel::Op &op);
  void emit_atomic(const kernel::Op &op);
  void emit_prefetch(const kernel::Op &op);
  bool has_masked(const Mem &mem) const;
  V lane_slot(const Mem &mem, V mask, uint32_t lane, V ptr, V dummy);

  // Types and small helpers.
  llvm::Type *scalar_type(Scalar s);           // of a value
  llvm::Type *memory_type(Scalar s);           // of an element in memory
  llvm::Type *type_of(Type t);
  llvm::Type *like(llvm::Type *shape, llvm::Type *scalar); // `scalar` with the lanes of `shape`
  llvm::Type *float_type(Type t);              // f32 or f64 (f16, bf16 compute as f32), with t's lanes
  V int_splat(llvm::Type *type, uint64_t value);
  V float_splat(llvm::Type *type, double value);
  V index_constant(int64_t value) {
    return llvm::ConstantInt::get(scalar_type(Scalar::kIndex), static_cast<uint64_t>(value), true);
  }
  uint32_t bits_of(Scalar s) const { return s == Scalar::kIndex ? record_.index_bits : bit_width(s); }
  V i64(int64_t value) { return b_.getInt64(static_cast<uint64_t>(value)); }
  V get(kernel::ValueId id);
  VV get(const std::vector<kernel::ValueId> &ids, size_t from = 0);
  void set(const kernel::Op &op, V value, size_t result = 0);
  [[noreturn]] void fail(const std::string &what) const;

  const kernel::Kernel &kernel_;
  const TargetRecord &record_;
  const CodeTraits &traits_;
  llvm::Module &module_;
  llvm::LLVMContext &context_;
  llvm::IRBuilder<> b_;
  llvm::Function *function_ = nullptr;
  llvm::BasicBlock *entry_ = nullptr;
  std::vector<V> values_;
  std::vector<V> params_;
  std::vector<Mem> memories_;
  std::map<llvm::Type *, V> slots_;
  V args_ = nullptr, error_ = nullptr, group_begin_ = nullptr, group_end_ = nullptr;
  V grid_[3] = {}, group_[3] = {};
  uint64_t scratch_bytes_ = 0;
};

} // namespace ingot::aotc
