// See expr.h.
#include "src/runtime/program/expr.h"

#include <stdio.h>

namespace ingot {

using program::ExprOp;

uint32_t expr_operands(uint32_t op) {
  switch (ExprOp(op)) {
  case ExprOp::constant:
  case ExprOp::symbol: return 0;
  case ExprOp::logical_not: return 1;
  case ExprOp::select: return 3;
  default: return 2;
  }
}

namespace {

int64_t floor_divide(int64_t a, int64_t b) {
  const int64_t q = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
}

ExprState binary(ExprOp op, int64_t a, int64_t b, int64_t *out) {
  bool overflow = false;
  switch (op) {
  case ExprOp::add: overflow = __builtin_add_overflow(a, b, out); break;
  case ExprOp::sub: overflow = __builtin_sub_overflow(a, b, out); break;
  case ExprOp::mul: overflow = __builtin_mul_overflow(a, b, out); break;
  case ExprOp::floordiv:
  case ExprOp::mod: {
    if (b == 0) return ExprState::division;
    if (b == -1) { // INT64_MIN / -1 is the one that overflows
      if (op == ExprOp::mod) *out = 0;
      else overflow = __builtin_sub_overflow(int64_t(0), a, out);
      break;
    }
    const int64_t q = floor_divide(a, b);
    // q * b may leave 64 bits (1 mod INT64_MIN), the remainder never does: unsigned arithmetic wraps to it.
    *out = op == ExprOp::floordiv ? q : int64_t(uint64_t(a) - uint64_t(q) * uint64_t(b));
    break;
  }
  case ExprOp::min: *out = a < b ? a : b; break;
  case ExprOp::max: *out = a > b ? a : b; break;
  case ExprOp::eq: *out = a == b; break;
  case ExprOp::ne: *out = a != b; break;
  case ExprOp::lt: *out = a < b; break;
  case ExprOp::le: *out = a <= b; break;
  case ExprOp::logical_and: *out = a != 0 && b != 0; break;
  case ExprOp::logical_or: *out = a != 0 || b != 0; break;
  default: break;
  }
  return overflow ? ExprState::overflow : ExprState::value;
}

} // namespace

void evaluate(const ExprNodes *nodes, const int64_t *symbols, const uint8_t *symbol_set, int64_t *values,
              ExprState *states, const uint8_t *only) {
  for (uint32_t i = 0; i < count(nodes); ++i) {
    if (only && !only[i]) continue;
    const schema::Expr *e = nodes->Get(i);
    const ExprOp op = ExprOp(e->op());
    int64_t value = 0;
    ExprState state = ExprState::value;
    switch (op) {
    case ExprOp::constant: value = e->value(); break;
    case ExprOp::symbol:
      state = symbol_set[e->a()] ? ExprState::value : ExprState::unset;
      value = symbols[e->a()];
      break;
    case ExprOp::logical_not:
      state = states[e->a()];
      value = values[e->a()] == 0;
      break;
    case ExprOp::select:
      state = states[e->a()];
      if (state == ExprState::value) {
        const uint32_t chosen = values[e->a()] != 0 ? e->b() : e->c();
        state = states[chosen];
        value = values[chosen];
      }
      break;
    default:
      state = states[e->a()] != ExprState::value ? states[e->a()] : states[e->b()];
      if (state == ExprState::value) state = binary(op, values[e->a()], values[e->b()], &value);
    }
    values[i] = state == ExprState::value ? value : 0;
    states[i] = state;
  }
}

namespace {

struct Text {
  char *buffer;
  size_t capacity, length = 0;
  void put(const char *s) {
    for (; *s; ++s, ++length)
      if (length + 1 < capacity) buffer[length] = *s;
  }
};

void print(const schema::Function *f, uint32_t index, uint32_t depth, Text &out) {
  char number[32];
  if (index >= count(f->exprs())) return out.put("?");
  const schema::Expr *e = f->exprs()->Get(index);
  const ExprOp op = ExprOp(e->op());
  if (op == ExprOp::constant) {
    snprintf(number, sizeof number, "%lld", (long long)e->value());
    return out.put(number);
  }
  if (op == ExprOp::symbol) {
    if (e->a() < count(f->symbols()) && *text(f->symbols()->Get(e->a())->name()))
      return out.put(text(f->symbols()->Get(e->a())->name()));
    snprintf(number, sizeof number, "s%u", e->a());
    return out.put(number);
  }
  if (depth > 12 || out.length > 4096) { // shared sub-expressions could print exponentially
    snprintf(number, sizeof number, "e%u", index);
    return out.put(number);
  }
  static constexpr char kNames[][5] = {"", "", "+", "-", "*", "/", "%", "min", "max", "==", "!=", "<", "<=", "&&", "||"};
  if (op == ExprOp::logical_not) {
    out.put("!");
    return print(f, e->a(), depth + 1, out);
  }
  if (op == ExprOp::select) {
    out.put("(");
    print(f, e->a(), depth + 1, out);
    out.put(" ? ");
    print(f, e->b(), depth + 1, out);
    out.put(" : ");
    print(f, e->c(), depth + 1, out);
    return out.put(")");
  }
  const bool call = op == ExprOp::min || op == ExprOp::max;
  if (call) out.put(kNames[e->op()]);
  if (call || depth) out.put("(");
  print(f, e->a(), depth + 1, out);
  out.put(call ? ", " : kNames[e->op()]);
  print(f, e->b(), depth + 1, out);
  if (call || depth) out.put(")");
}

} // namespace

size_t expr_text(const schema::Function *function, uint32_t expr, char *buffer, size_t capacity) {
  Text out{buffer, capacity};
  print(function, expr, 0, out);
  if (capacity) buffer[out.length < capacity ? out.length : capacity - 1] = 0;
  return out.length;
}

Code expr_error(const schema::Function *function, uint32_t expr, ExprState state, Error *error) {
  char name[200];
  expr_text(function, expr, name, sizeof name);
  if (state == ExprState::unset)
    return fail(error, INGOT_CORRUPT, "%.60s: expression %u (%s) is used before its host scalar is read",
                text(function->name()), expr, name);
  return fail(error, INGOT_OUT_OF_RANGE, "%.60s: expression %u (%s) %s for these dims", text(function->name()), expr,
              name, state == ExprState::division ? "divides by zero" : "overflows 64 bits");
}

} // namespace ingot
