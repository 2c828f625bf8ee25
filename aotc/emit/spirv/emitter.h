// SpirvEmitter: the state of emitting one kernel. emitter.cpp has the module's frame, memory and control flow;
// arithmetic.cpp the ops that compute values.
#pragma once

#include <functional>
#include <vector>

#include "aotc/emit/gpu_layout.h"
#include "aotc/emit/spirv/module.h"
#include "aotc/kernel/kernel.h"
#include "aotc/kernel/target.h"

namespace ingot::aotc::emit::spv {

class SpirvEmitter {
 public:
  SpirvEmitter(const kernel::Kernel &kernel, const TargetRecord &record);
  std::vector<uint32_t> run();

 private:
  // emitter.cpp
  void declare_memories();
  void declare_params();
  Id builtin(BuiltIn which);
  Id region(const kernel::Region &region, std::vector<Id> *yielded);
  void op(const kernel::Op &op);
  void emit_if(const kernel::Op &op);
  void emit_for(const kernel::Op &op);
  void emit_while(const kernel::Op &op);
  void emit_error(const kernel::Op &op);
  // Runs `then` where `condition` holds; gives a phi of its value and `otherwise`, unless that is 0.
  Id guarded(Id condition, Id type, Id otherwise, const std::function<Id()> &then);
  void start_block(Id label);
  void memory_op(const kernel::Op &op);
  Id element_pointer(uint32_t memory, Id index);
  Id load_element(uint32_t memory, Id index);
  void store_element(uint32_t memory, Id index, Id value);
  Id offset_index(Id index, uint32_t lane);

  // arithmetic.cpp
  bool arithmetic_op(const kernel::Op &op); // false if it is no such op
  Id binary(const kernel::Op &op, Type type, Id a, Id b);
  Id unary(const kernel::Op &op, Type type, Id a);
  Id compare(kernel::Opcode code, Type type, Id a, Id b);
  Id divide(const kernel::Op &op, Type type, Id a, Id b);
  Id float_extremum(Type type, Id a, Id b, bool max);
  Id convert(const kernel::Op &op, Type from, Type to, Id a);
  Id float_to_int(Type from, Type to, Id a, bool is_unsigned);
  Id reduce(const kernel::Op &op);
  Id is_nan(Type type, Id a);
  Id lane_broadcast(Id scalar, Type type); // scalar id -> vector id (or itself)

  Id type(Type type);
  Id scalar_type(Scalar scalar);
  uint32_t bits(Scalar scalar) const;
  Id bool_type(Type like) { return type(Type(Scalar::kBool, like.lanes)); }
  Type int_like(Type type) const; // integers of the same width and lanes
  Id int_constant(Type type, int64_t value);
  Id float_constant(Type type, double value);
  Id select(Id condition, Type type, Id a, Id b) { return module_.emit_value(Inst::Select, this->type(type), {condition, a, b}); }
  Id value(kernel::ValueId id) const;
  void define(const kernel::Op &op, Id id) { ids_[op.results.at(0)] = id; }
  [[noreturn]] void refuse(const kernel::Op &op, const std::string &why) const { unsupported("spirv", kernel_, op, why); }

  const kernel::Kernel &kernel_;
  const TargetRecord &record_;
  SpirvModule module_;
  std::vector<Id> ids_;              // by ValueId; 0 = not yet defined
  std::vector<bool> positive_;       // by ValueId: an integer known to be > 0, so division needs no guard
  std::vector<Id> memory_ids_;       // variables
  std::vector<Id> memory_elements_;  // ids of the element types
  Id params_ = 0, error_ = 0;
  Id block_ = 0;                     // label of the block being emitted
  std::vector<std::pair<BuiltIn, Id>> builtins_; // loaded at the kernel's top on first use
  std::vector<Id> interface_;
};

} // namespace ingot::aotc::emit::spv
