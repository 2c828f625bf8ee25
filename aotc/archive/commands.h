// Builders for the two tables that are awkward to fill by hand: expressions (with sharing of equal nodes and folding
// of constants) and command words (lengths and nesting filled in).
#pragma once

#include <cstdint>
#include <map>
#include <tuple>
#include <vector>

#include "aotc/archive/program.h"

namespace ingot::aotc::archive {

// Appends nodes to Function::exprs; equal nodes get one index, constant operands fold where that cannot overflow.
class ExprBuilder {
public:
  explicit ExprBuilder(Function &function);
  uint32_t constant(int64_t value);
  uint32_t symbol(uint32_t index);
  uint32_t binary(ExprOp op, uint32_t a, uint32_t b);
  uint32_t logical_not(uint32_t a);
  uint32_t select(uint32_t condition, uint32_t then_value, uint32_t else_value);
  uint32_t add(uint32_t a, uint32_t b) { return binary(ExprOp::add, a, b); }
  uint32_t sub(uint32_t a, uint32_t b) { return binary(ExprOp::sub, a, b); }
  uint32_t mul(uint32_t a, uint32_t b) { return binary(ExprOp::mul, a, b); }
  uint32_t floordiv(uint32_t a, uint32_t b) { return binary(ExprOp::floordiv, a, b); }
  uint32_t ceildiv(uint32_t a, int64_t b);        // b > 0
  uint32_t align_up(uint32_t a, int64_t multiple); // multiple > 0
  // True, and *value set, where the node is a constant.
  bool is_constant(uint32_t node, int64_t *value) const;

private:
  uint32_t intern(const Expr &node);
  Function &function_;
  std::map<std::tuple<uint8_t, uint32_t, uint32_t, uint32_t, int64_t>, uint32_t> index_;
};

struct BindingRef {
  uint32_t slot;
  uint32_t offset; // expressions, bytes
  uint32_t length;
};

// Appends commands to a word vector. begin_* / end calls must nest.
class CommandBuilder {
public:
  explicit CommandBuilder(Words &words) : words_(words) {}
  void dispatch(uint32_t kernel, uint32_t site, uint32_t grid_x, uint32_t grid_y, uint32_t grid_z,
                const std::vector<BindingRef> &bindings, const std::vector<uint32_t> &params);
  void copy(uint32_t dst, uint32_t dst_offset, uint32_t src, uint32_t src_offset, uint32_t length);
  void fill(uint32_t slot, uint32_t offset, uint32_t length, uint64_t pattern, uint32_t pattern_bytes);
  void barrier();
  // Waits for the work so far, reads one element of a bool or integer type and binds the host symbol.
  void read_scalar(uint32_t slot, uint32_t offset, ingot_element_type_t type, uint32_t symbol);
  void check(uint32_t condition, uint32_t message);
  void begin_if(uint32_t condition);
  void begin_else(); // optional
  void end_if();
  // Runs the body while iteration < trip_count (where given) and condition symbol != 0 (where given; tested before
  // each iteration). iteration_symbol, where given, is set to 0, 1, 2, ... before each iteration, and after the loop to
  // the number of iterations done: its range must hold that too.
  void begin_loop(uint32_t trip_count, uint32_t condition_symbol, uint32_t iteration_symbol);
  void end_loop();
  void call(uint32_t subroutine);
  void bind(uint32_t value, uint32_t symbol); // an expression, a host symbol
  void host_op(program::HostOp op, const std::vector<uint32_t> &results, const std::vector<uint32_t> &sources,
               const std::vector<uint32_t> &exprs, const std::vector<uint32_t> &symbols,
               const std::vector<uint32_t> &immediates);

private:
  struct Frame {
    size_t start, else_start; // else_start 0 = none yet
  };
  void command(program::Opcode op, std::initializer_list<uint32_t> operands);
  void close(size_t start);
  Words &words_;
  std::vector<Frame> frames_;
};

} // namespace ingot::aotc::archive
