// Bytecode as text, one instruction a line: "add_f32 x256 r128 = r0 r64".
#include <stdarg.h>
#include <stdio.h>

#include "src/runtime/bytecode/forms.h"
#include "src/runtime/bytecode/program.h"

namespace ingot::bytecode {
namespace {

class Line {
 public:
  Line(char *buffer, size_t capacity) : buffer_(buffer), capacity_(capacity) {
    if (capacity) buffer[0] = 0;
  }
  __attribute__((format(printf, 2, 3))) void add(const char *format, ...) {
    if (length_ + 1 >= capacity_) return;
    va_list list;
    va_start(list, format);
    const int n = vsnprintf(buffer_ + length_, capacity_ - length_, format, list);
    va_end(list);
    if (n > 0) length_ += size_t(n) < capacity_ - length_ ? size_t(n) : capacity_ - length_ - 1;
  }

 private:
  char *buffer_;
  size_t capacity_, length_ = 0;
};

} // namespace

const char *op_name(Op op) {
  static constexpr const char *names[] = {
#define INGOT_NAME(name, ...) #name,
      INGOT_BYTECODE_UNARY(INGOT_NAME) INGOT_BYTECODE_BINARY(INGOT_NAME) INGOT_BYTECODE_TERNARY(INGOT_NAME)
          INGOT_BYTECODE_OTHER(INGOT_NAME)
#undef INGOT_NAME
  };
  return names[uint32_t(op)];
}

uint32_t disassemble(const Kernel &kernel, uint32_t at, char *buffer, size_t capacity) {
  const Instruction &i = kernel.code[at];
  const Op op = Op(i.op);
  Line line(buffer, capacity);
  line.add("%s", op_name(op));
  if (i.n != 1) line.add(" x%u", i.n);
  auto extra = [&](uint32_t number) {
    uint16_t value;
    memcpy(&value, reinterpret_cast<const uint8_t *>(&i + 1) + 2 * size_t(number), 2);
    return value;
  };
  if (i.op < kLaneOps) {
    const Form &f = kForms[i.op];
    line.add(" r%u = r%u", i.d, i.a);
    if (f.b) line.add(" r%u", i.b);
    if (f.c) line.add(" r%u", i.c);
    return 1;
  }
  switch (op) {
    case Op::const_32:
      line.add(" r%u = 0x%x", i.d, uint32_t(i.wide));
      break;
    case Op::const_64:
      line.add(" r%u = 0x%llx", i.d, (unsigned long long)i.wide);
      break;
    case Op::iota_32:
    case Op::iota_64:
      line.add(" r%u", i.d);
      break;
    case Op::pick_32:
    case Op::pick_64:
      line.add(" r%u = r%u ? r%u : r%u", i.d, i.a, i.b, i.c);
      break;
    case Op::extract_32:
    case Op::extract_64:
      line.add(" r%u = r%u[%u]", i.d, i.a, i.imm);
      break;
    case Op::insert_32:
    case Op::insert_64:
      line.add(" r%u = r%u with [%u] = r%u", i.d, i.a, i.imm, i.b);
      break;
    case Op::shuffle_32:
    case Op::shuffle_64:
      line.add(" r%u = r%u ++ r%u [", i.d, i.a, i.b);
      for (uint32_t l = 0; l < i.n; ++l) line.add(l ? " %u" : "%u", extra(l));
      line.add("]");
      return 1 + extra_words(i.n);
    case Op::load:
    case Op::gather:
      line.add(" r%u = m%u[r%u]", i.d, i.imm, i.a);
      break;
    case Op::load_step:
      line.add(" r%u = m%u[r%u] step r%u", i.d, i.imm, i.a, i.b);
      break;
    case Op::load_part:
      line.add(" r%u = m%u[r%u] first r%u else r%u", i.d, i.imm, i.a, i.b, i.c);
      break;
    case Op::load_if:
    case Op::load_mask:
    case Op::gather_mask:
      line.add(" r%u = m%u[r%u] if r%u else r%u", i.d, i.imm, i.a, i.b, i.c);
      break;
    case Op::store:
    case Op::scatter:
      line.add(" m%u[r%u] = r%u", i.imm, i.a, i.b);
      break;
    case Op::store_part:
      line.add(" m%u[r%u] = r%u first r%u", i.imm, i.a, i.b, i.c);
      break;
    case Op::store_if:
    case Op::store_mask:
    case Op::scatter_mask:
      line.add(" m%u[r%u] = r%u if r%u", i.imm, i.a, i.b, i.c);
      break;
    case Op::atomic_add:
    case Op::atomic_min:
    case Op::atomic_max:
      line.add(" r%u = m%u[r%u], r%u", i.d, i.imm, i.a, i.b);
      break;
    case Op::tile: {
      const uint32_t rows = i.b, vectors = i.c, loops = i.a & 0xff;
      line.add(" r%u %s m%u m%u rows", i.d, i.a & kTileZero ? "=" : "+=", extra(0), extra(1));
      for (uint32_t o = 2; o < 2 + rows; ++o) line.add(" r%u", extra(o));
      line.add(" vectors");
      for (uint32_t v = 0; v < vectors; ++v)
        line.add(" r%u:r%u", extra(2 + rows + v), extra(2 + rows + vectors + v));
      for (uint32_t l = 0; l < loops; ++l) {
        const uint32_t o = 2 + rows + 2 * vectors + 3 * l;
        line.add(" loop r%u steps r%u r%u", extra(o), extra(o + 1), extra(o + 2));
      }
      return 1 + extra_words(i.imm);
    }
    case Op::jump:
      line.add(" %u", i.imm);
      break;
    case Op::jump_if:
    case Op::jump_unless:
      line.add(" r%u %u", i.a, i.imm);
      break;
    case Op::jump_ge_i32:
    case Op::jump_ge_i64:
      line.add(" r%u r%u %u", i.a, i.b, i.imm);
      break;
    case Op::loop_i32:
    case Op::loop_i64:
      line.add(" r%u += r%u < r%u %u", i.d, i.a, i.b, i.imm);
      break;
    case Op::error:
      line.add(" r%u code %u site %u", i.a, i.imm, i.b | uint32_t(i.c) << 16);
      break;
    case Op::end:
      break;
    default:
      line.add(" r%u = r%u", i.d, i.a); // splat, move, reductions
  }
  return 1;
}

} // namespace ingot::bytecode
