// TextPrinter: prints a kernel in a C-like language, each SSA value as an immutable local of its own (v12). What carried
// values and branch results need is a mutable local beside it. A Dialect spells types, literals, declarations and the
// frame; the order, the structure and the meaning of every op are the printer's.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "aotc/emit/gpu_layout.h"
#include "aotc/kernel/kernel.h"
#include "aotc/kernel/target.h"

namespace ingot::aotc::emit::text {

class Dialect {
 public:
  virtual ~Dialect() = default;
  virtual const char *name() const = 0;

  // Types and literals. `unsigned_ints` asks for the unsigned form of an integer type.
  virtual std::string type(Type type, bool unsigned_ints = false) const = 0;
  virtual std::string int_literal(Scalar scalar, int64_t value) const = 0;
  // Finite, normal or +0; others go through bits. `text` is a hexadecimal float.
  virtual std::string float_literal(Scalar scalar, const std::string &text) const = 0;

  // Declarations: an immutable and a mutable local (without initialiser: to be assigned before use).
  virtual std::string let(Type type, const std::string &name, const std::string &value) const = 0;
  virtual std::string variable(Type type, const std::string &name, const std::string &value) const = 0;

  // Expressions.
  virtual std::string bitcast(const std::string &type, const std::string &value) const = 0;
  virtual std::string select(Type type, const std::string &condition, const std::string &a, const std::string &b) const = 0;
  virtual std::string arithmetic(const char *op, Type type, const std::string &a, const std::string &b) const = 0; // + - * on ints
  virtual std::string shift_amount(Type type, const std::string &amount) const = 0; // of an unsigned value
  virtual std::string signed_shift_amount(Type type, const std::string &amount) const { return shift_amount(type, amount); }
  virtual std::string mad(Type type, const std::string &a, const std::string &b, const std::string &c) const = 0;
  virtual const char *round_even() const = 0;
  virtual std::string negate(Type type, const std::string &a) const = 0;

  // Memory: an atomic memory is accessed through functions.
  virtual std::string load(const kernel::Memory &memory, const std::string &element, bool atomic) const = 0;
  virtual std::string store(const kernel::Memory &memory, const std::string &element, const std::string &value,
                            bool atomic) const = 0;
  virtual std::string atomic(kernel::Opcode op, const kernel::Memory &memory, const std::string &element,
                             const std::string &value) const = 0;
  virtual std::string subgroup(kernel::Opcode op, const std::vector<std::string> &operands) const = 0; // "" if none

  // Statements and the frame.
  virtual std::string loop_head(Type type, const std::string &i, const std::string &lo, const std::string &hi,
                                const std::string &step, bool unroll) const = 0;
  virtual const char *forever() const = 0;
  virtual std::vector<std::string> barrier(bool buffers) const = 0;
  virtual std::string frame_begin(const kernel::Kernel &kernel, const std::vector<bool> &atomic_memories) const = 0;
  virtual std::string frame_end() const { return "}\n"; }
};

class TextPrinter {
 public:
  TextPrinter(const kernel::Kernel &kernel, const TargetRecord &record, const Dialect &dialect);
  std::string run();

 private:
  void region(const kernel::Region &region, const std::vector<std::string> &targets);
  void op(const kernel::Op &op);
  void emit_for(const kernel::Op &op);
  void emit_if(const kernel::Op &op);
  void emit_while(const kernel::Op &op);
  void memory_op(const kernel::Op &op);
  std::string expression(const kernel::Op &op);
  std::string binary(kernel::Opcode code, bool contract, Type type, const std::string &a, const std::string &b,
                     bool positive_b);
  std::string unary(const kernel::Op &op, Type type, const std::string &a);
  std::string compare(kernel::Opcode code, Type type, const std::string &a, const std::string &b);
  std::string convert(const kernel::Op &op, Type from, Type to, const std::string &a);
  std::string constant(Type type, int64_t imm, double fimm);
  std::string construct(Type type, const std::vector<std::string> &parts);
  std::string lane(kernel::ValueId value, uint32_t lane);
  std::string bits_of(Type type, const std::string &a) { return dialect_.bitcast(dialect_.type(int_like(type)), a); }
  std::string is_nan(Type type, const std::string &a);
  std::string select(Type type, const std::string &condition, const std::string &a, const std::string &b);
  std::string element(uint32_t memory, const std::string &index);
  std::string load_element(uint32_t memory, const std::string &index);
  void store_element(uint32_t memory, const std::string &index, const std::string &value);

  Type int_like(Type type) const;
  Type bool_like(Type type) const { return Type(Scalar::kBool, type.lanes); }
  std::string int_constant(Type type, int64_t value);
  std::string v(kernel::ValueId value) const { return "v" + std::to_string(value); }
  std::string fresh() { return "t" + std::to_string(next_temporary_++); }
  std::string hold(Type type, const std::string &value); // names an expression that is used twice
  void line(const std::string &text);
  void open(const std::string &head);
  void close();
  void define(const kernel::Op &op, const std::string &value);
  [[noreturn]] void refuse(const kernel::Op &op, const std::string &why) const {
    unsupported(dialect_.name(), kernel_, op, why);
  }

  const kernel::Kernel &kernel_;
  const TargetRecord &record_;
  const Dialect &dialect_;
  std::string out_;
  std::vector<bool> positive_;         // by ValueId: an integer known to be > 0
  std::vector<bool> atomic_memories_;
  bool writes_buffers_ = false;
  uint32_t next_temporary_ = 0;
  uint32_t depth_ = 1;
};

// Shared by the dialects' frames.
std::string memory_name(const kernel::Memory &memory); // "mem_x"
std::string param_name(const kernel::Param &param);    // "p_rows"

} // namespace ingot::aotc::emit::text
