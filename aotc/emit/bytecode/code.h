// Bytecode under construction: instructions over variables, before these have slots. Code::finish allocates the
// slots by a linear scan and lays the kernel out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "schemas/bytecode.h"

namespace ingot::aotc::bytecode_emit {

using Var = uint32_t;
inline constexpr Var kNoVar = ~0u;

// A place in the register file. `part_of` names the variable that it is a part of, `offset` bytes from its
// start.
struct Variable {
  uint32_t bytes = 0;
  bool pinned = false; // holds its value over the whole call
  int64_t slot = -1;   // where it is, if that is fixed from the start, or once allocated
  Var part_of = kNoVar;
  uint32_t offset = 0;
};

struct Line {
  bytecode::Op op = bytecode::Op::end;
  uint16_t n = 1;
  Var d = kNoVar, a = kNoVar, b = kNoVar, c = kNoVar;
  uint32_t raw_a = 0, raw_b = 0, raw_c = 0; // the fields where they are no variables
  uint32_t imm = 0;
  uint64_t wide = 0;
  bool is_wide = false;
  uint32_t label = kNoVar;       // jumps: the target
  std::vector<uint16_t> numbers; // extra words: plain numbers first,
  std::vector<Var> operands;     // then variables
};

class Code {
 public:
  Var add(uint32_t bytes);
  Var add_fixed(uint32_t slot, uint32_t bytes);
  Var add_part(Var whole, uint32_t offset, uint32_t bytes);
  void pin(Var var) { variables_[var].pinned = true; }

  // Appends to the workgroup's code, or to what runs once a call.
  void emit(Line line) { (to_once_ ? once_ : lines_).push_back(std::move(line)); }
  void emit_to_once(bool once) { to_once_ = once; } // where `emit` appends; no jumps there
  void emit_once(Line line) { once_.push_back(std::move(line)); }

  uint32_t new_label();
  void place(uint32_t label);
  // Everything between the two runs again and again.
  void begin_loop() { open_.push_back(lines_.size()); }
  void end_loop();

  // The kernel's bytes.
  std::vector<uint8_t> finish(bytecode::Header header, const std::vector<bytecode::Memory> &memories);

 private:
  struct Loop {
    size_t begin, end;
  };
  Var root(Var var) const { return variables_[var].part_of == kNoVar ? var : variables_[var].part_of; }
  uint16_t slot_of(Var var) const;
  void allocate(uint32_t first_free);

  std::vector<Variable> variables_;
  std::vector<Line> once_, lines_;
  bool to_once_ = false;
  std::vector<size_t> labels_; // positions in lines_
  std::vector<size_t> open_;
  std::vector<Loop> loops_;
  uint32_t slots_ = 0;
};

} // namespace ingot::aotc::bytecode_emit
