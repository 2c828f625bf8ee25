// Expression and command builders; see commands.h.
#include "aotc/archive/commands.h"

#include <stdexcept>

namespace ingot::aotc::archive {

ExprBuilder::ExprBuilder(Function &function) : function_(function) {
  for (uint32_t i = 0; i < function.exprs.size(); ++i) {
    const Expr &e = function.exprs[i];
    index_.emplace(std::make_tuple(uint8_t(e.op), e.a, e.b, e.c, e.value), i);
  }
}

uint32_t ExprBuilder::intern(const Expr &node) {
  auto [it, fresh] = index_.emplace(std::make_tuple(uint8_t(node.op), node.a, node.b, node.c, node.value),
                                    uint32_t(function_.exprs.size()));
  if (fresh) function_.exprs.push_back(node);
  return it->second;
}

bool ExprBuilder::is_constant(uint32_t node, int64_t *value) const {
  const Expr &e = function_.exprs.at(node);
  if (e.op != ExprOp::constant) return false;
  *value = e.value;
  return true;
}

uint32_t ExprBuilder::constant(int64_t value) { return intern({ExprOp::constant, 0, 0, 0, value}); }
uint32_t ExprBuilder::symbol(uint32_t index) { return intern({ExprOp::symbol, index, 0, 0, 0}); }

namespace {

int64_t floor_divide(int64_t a, int64_t b) {
  int64_t q = a / b;
  return (a % b != 0 && ((a < 0) != (b < 0))) ? q - 1 : q;
}

// False where the result would overflow or is undefined: the node is then left for the runtime to poison.
bool fold(ExprOp op, int64_t a, int64_t b, int64_t *out) {
  switch (op) {
  case ExprOp::add: return !__builtin_add_overflow(a, b, out);
  case ExprOp::sub: return !__builtin_sub_overflow(a, b, out);
  case ExprOp::mul: return !__builtin_mul_overflow(a, b, out);
  case ExprOp::floordiv:
    if (b == 0 || (a == INT64_MIN && b == -1)) return false;
    *out = floor_divide(a, b);
    return true;
  case ExprOp::mod:
    if (b == 0 || b == -1) return b == -1 ? (*out = 0, true) : false;
    *out = a - floor_divide(a, b) * b;
    return true;
  case ExprOp::min: *out = a < b ? a : b; return true;
  case ExprOp::max: *out = a > b ? a : b; return true;
  case ExprOp::eq: *out = a == b; return true;
  case ExprOp::ne: *out = a != b; return true;
  case ExprOp::lt: *out = a < b; return true;
  case ExprOp::le: *out = a <= b; return true;
  case ExprOp::logical_and: *out = a != 0 && b != 0; return true;
  case ExprOp::logical_or: *out = a != 0 || b != 0; return true;
  default: return false;
  }
}

} // namespace

uint32_t ExprBuilder::binary(ExprOp op, uint32_t a, uint32_t b) {
  int64_t x = 0, y = 0, folded = 0;
  const bool xc = is_constant(a, &x), yc = is_constant(b, &y);
  if (xc && yc && fold(op, x, y, &folded)) return constant(folded);
  if (yc && y == 0 && (op == ExprOp::add || op == ExprOp::sub)) return a;
  if (xc && x == 0 && op == ExprOp::add) return b;
  if (yc && y == 1 && (op == ExprOp::mul || op == ExprOp::floordiv)) return a;
  if (xc && x == 1 && op == ExprOp::mul) return b;
  const bool commutes = op == ExprOp::add || op == ExprOp::mul || op == ExprOp::min || op == ExprOp::max ||
                        op == ExprOp::eq || op == ExprOp::ne || op == ExprOp::logical_and || op == ExprOp::logical_or;
  if (commutes && b < a) std::swap(a, b);
  return intern({op, a, b, 0, 0});
}

uint32_t ExprBuilder::logical_not(uint32_t a) {
  int64_t x = 0;
  if (is_constant(a, &x)) return constant(x == 0);
  return intern({ExprOp::logical_not, a, 0, 0, 0});
}

uint32_t ExprBuilder::select(uint32_t condition, uint32_t then_value, uint32_t else_value) {
  int64_t x = 0;
  if (is_constant(condition, &x)) return x != 0 ? then_value : else_value;
  return intern({ExprOp::select, condition, then_value, else_value, 0});
}

uint32_t ExprBuilder::ceildiv(uint32_t a, int64_t b) { return floordiv(add(a, constant(b - 1)), constant(b)); }
uint32_t ExprBuilder::align_up(uint32_t a, int64_t multiple) { return mul(ceildiv(a, multiple), constant(multiple)); }

void CommandBuilder::command(program::Opcode op, std::initializer_list<uint32_t> operands) {
  words_.push_back(uint32_t(op) | uint32_t(operands.size() + 1) << 8);
  words_.insert(words_.end(), operands);
}

// Writes the final length into the command that starts at `start`.
void CommandBuilder::close(size_t start) {
  const size_t length = words_.size() - start;
  if (length > program::kMaxCommandLength) throw std::length_error("a command's body exceeds 2^24 words");
  words_[start] = (words_[start] & 0xff) | uint32_t(length) << 8;
}

void CommandBuilder::dispatch(uint32_t kernel, uint32_t site, uint32_t grid_x, uint32_t grid_y, uint32_t grid_z,
                              const std::vector<BindingRef> &bindings, const std::vector<uint32_t> &params) {
  const size_t start = words_.size();
  command(program::Opcode::dispatch,
          {kernel, site, grid_x, grid_y, grid_z, uint32_t(bindings.size()), uint32_t(params.size())});
  for (const BindingRef &b : bindings) words_.insert(words_.end(), {b.slot, b.offset, b.length});
  words_.insert(words_.end(), params.begin(), params.end());
  close(start);
}

void CommandBuilder::copy(uint32_t dst, uint32_t dst_offset, uint32_t src, uint32_t src_offset, uint32_t length) {
  command(program::Opcode::copy, {dst, dst_offset, src, src_offset, length});
}
void CommandBuilder::fill(uint32_t slot, uint32_t offset, uint32_t length, uint64_t pattern, uint32_t pattern_bytes) {
  command(program::Opcode::fill, {slot, offset, length, pattern_bytes, uint32_t(pattern), uint32_t(pattern >> 32)});
}
void CommandBuilder::barrier() { command(program::Opcode::barrier, {}); }
void CommandBuilder::read_scalar(uint32_t slot, uint32_t offset, ingot_element_type_t type, uint32_t symbol) {
  command(program::Opcode::read_scalar, {slot, offset, uint32_t(type), symbol});
}
void CommandBuilder::check(uint32_t condition, uint32_t message) {
  command(program::Opcode::check, {condition, message});
}
void CommandBuilder::call(uint32_t subroutine) { command(program::Opcode::call, {subroutine}); }
void CommandBuilder::bind(uint32_t value, uint32_t symbol) { command(program::Opcode::bind, {value, symbol}); }

void CommandBuilder::host_op(program::HostOp op, const std::vector<uint32_t> &results,
                             const std::vector<uint32_t> &sources, const std::vector<uint32_t> &exprs,
                             const std::vector<uint32_t> &symbols, const std::vector<uint32_t> &immediates) {
  const size_t start = words_.size();
  command(program::Opcode::host_op, {uint32_t(op), uint32_t(results.size()), uint32_t(sources.size()), uint32_t(exprs.size()),
                                     uint32_t(symbols.size()), uint32_t(immediates.size())});
  for (const auto *list : {&results, &sources, &exprs, &symbols, &immediates})
    words_.insert(words_.end(), list->begin(), list->end());
  close(start);
}

void CommandBuilder::begin_if(uint32_t condition) {
  frames_.push_back({words_.size(), 0});
  command(program::Opcode::branch, {condition, 0, 0});
}
void CommandBuilder::begin_else() { frames_.back().else_start = words_.size(); }
void CommandBuilder::end_if() {
  const Frame frame = frames_.back();
  frames_.pop_back();
  const size_t body = frame.start + 4, split = frame.else_start ? frame.else_start : words_.size();
  words_[frame.start + 2] = uint32_t(split - body);
  words_[frame.start + 3] = uint32_t(words_.size() - split);
  close(frame.start);
}

void CommandBuilder::begin_loop(uint32_t trip_count, uint32_t condition_symbol, uint32_t iteration_symbol) {
  frames_.push_back({words_.size(), 0});
  command(program::Opcode::loop, {trip_count, condition_symbol, iteration_symbol, 0});
}
void CommandBuilder::end_loop() {
  const Frame frame = frames_.back();
  frames_.pop_back();
  words_[frame.start + 4] = uint32_t(words_.size() - frame.start - 5);
  close(frame.start);
}

} // namespace ingot::aotc::archive
