// See plan.h.
#include "src/runtime/program/plan.h"

#include "src/runtime/program/expr.h"

namespace ingot {

using program::kNone;
using program::Opcode;

namespace {

bool is_straight(uint32_t word) {
  const Opcode op = Opcode(word & 0xff);
  return op == Opcode::dispatch || op == Opcode::copy || op == Opcode::fill || op == Opcode::barrier;
}

} // namespace

bool FunctionPlan::slot_late(uint32_t index) const {
  for (;;) {
    const schema::Slot *s = function->slots()->Get(index);
    // Only these two kinds have an offset; of the others it means nothing and was not verified.
    const bool has_offset = s->kind() == uint8_t(program::SlotKind::transient) || s->kind() == uint8_t(program::SlotKind::alias);
    if (late[s->size()] || (has_offset && late[s->offset()])) return true;
    if (s->kind() == uint8_t(program::SlotKind::transient)) return late[function->arenas()->Get(s->of())] != 0;
    if (s->kind() != uint8_t(program::SlotKind::alias)) return false;
    index = s->of();
  }
}

// Appends the segments of words [begin, end) to `out` (null: only counts them); returns their number.
uint32_t FunctionPlan::walk(uint32_t text, uint32_t begin, uint32_t end, StraightLine *out) {
  const uint32_t *words = end ? this->words(text)->data() : nullptr;
  uint32_t n = 0;
  for (uint32_t at = begin; at < end;) {
    const uint32_t *w = words + at;
    const Opcode op = Opcode(w[0] & 0xff);
    if (is_straight(w[0])) {
      StraightLine line;
      line.text = text;
      line.begin = at;
      for (; at < end && is_straight(words[at]); at += words[at] >> 8) {
        w = words + at;
        switch (Opcode(w[0] & 0xff)) {
        case Opcode::dispatch:
          ++line.size.dispatches;
          line.size.bindings += w[6];
          line.size.params += w[7];
          for (uint32_t i = 3; i < 6; ++i) line.late |= late[w[i]] != 0;
          for (uint32_t i = 0; i < w[6]; ++i) {
            const uint32_t *b = w + 8 + 3 * i;
            line.late |= slot_late(b[0]) || late[b[1]] || late[b[2]];
          }
          for (uint32_t i = 0; i < w[7]; ++i) line.late |= late[w[8 + 3 * w[6] + i]] != 0;
          break;
        case Opcode::copy:
          ++line.size.copies;
          line.late |= slot_late(w[1]) || late[w[2]] || slot_late(w[3]) || late[w[4]] || late[w[5]];
          break;
        case Opcode::fill:
          ++line.size.fills;
          line.late |= slot_late(w[1]) || late[w[2]] || late[w[3]];
          break;
        default: ++line.size.barriers;
        }
      }
      line.end = at;
      if (out) out[n] = line;
      else dispatches += line.size.dispatches;
      ++n;
      continue;
    }
    if (!out) decisions += op != Opcode::call && op != Opcode::check && op != Opcode::bind;
    if (op == Opcode::branch) {
      n += walk(text, at + 4, at + 4 + w[2], out ? out + n : nullptr);
      n += walk(text, at + 4 + w[2], at + (w[0] >> 8), out ? out + n : nullptr);
    } else if (op == Opcode::loop) {
      n += walk(text, at + 5, at + (w[0] >> 8), out ? out + n : nullptr);
    }
    at += w[0] >> 8;
  }
  return n;
}

Code FunctionPlan::build(const schema::Function *f, const ingot_allocator_t &allocator, Error *error) {
  function = f;
  fixed = true;
  INGOT_TRY(late.create(allocator, count(f->exprs()), "expressions", error));
  for (uint32_t i = 0; i < count(f->symbols()); ++i)
    if (f->symbols()->Get(i)->kind() == uint8_t(program::SymbolKind::input)) fixed = false;
  for (uint32_t i = 0; i < late.size(); ++i) {
    const schema::Expr *e = f->exprs()->Get(i);
    const uint32_t operands[3] = {e->a(), e->b(), e->c()};
    if (e->op() == uint32_t(program::ExprOp::symbol))
      late[i] = f->symbols()->Get(e->a())->kind() == uint8_t(program::SymbolKind::host);
    else
      for (uint32_t k = 0; k < expr_operands(e->op()); ++k) late[i] |= late[operands[k]];
    any_late |= late[i] != 0;
  }
  const uint32_t subroutines = count(f->subroutines());
  uint32_t n = 0;
  for (uint32_t t = 0; t <= subroutines; ++t) {
    const uint32_t text = t < subroutines ? t : kNone;
    n += walk(text, 0, count(words(text)), nullptr);
  }
  INGOT_TRY(segments.create(allocator, n, "segments", error));
  n = 0;
  for (uint32_t t = 0; t <= subroutines; ++t) {
    const uint32_t text = t < subroutines ? t : kNone;
    n += walk(text, 0, count(words(text)), segments.data() + n);
  }
  single = !any_late && subroutines == 0 &&
           (count(f->commands()) == 0 ||
            (segments.size() == 1 && segments[0].begin == 0 && segments[0].end == count(f->commands())));
  return INGOT_OK;
}

uint32_t FunctionPlan::find(uint32_t text, uint32_t begin) const {
  // kNone is the largest text number, so segments are ordered by (text, begin).
  uint32_t low = 0, high = uint32_t(segments.size());
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    const StraightLine &s = segments[middle];
    if (s.text < text || (s.text == text && s.begin < begin)) low = middle + 1;
    else high = middle;
  }
  return low;
}

} // namespace ingot
