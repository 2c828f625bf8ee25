// Evaluation of a function's expression table: int64, in order, every overflow caught.
#pragma once

#include "src/runtime/archive/schema.h"

namespace ingot {

using ExprNodes = flatbuffers::Vector<const schema::Expr *>;

enum class ExprState : uint8_t {
  value = 0,
  unset = 1,    // depends on a symbol without a value yet
  overflow = 2, // it, or an operand, overflows
  division = 3, // it, or an operand, divides by zero
};

// Operands of an operator: how many of a, b, c are expression indices.
uint32_t expr_operands(uint32_t op);

// Fills values and states for each node; where `only` is given, just for nodes i with only[i] != 0.
void evaluate(const ExprNodes *nodes, const int64_t *symbols, const uint8_t *symbol_set, int64_t *values,
              ExprState *states, const uint8_t *only);

// The expression as text into buffer (cut, NUL-terminated); returns the whole length. Deep ones are abbreviated.
size_t expr_text(const schema::Function *function, uint32_t expr, char *buffer, size_t capacity);

// The error of using an expression that has no value.
Code expr_error(const schema::Function *function, uint32_t expr, ExprState state, Error *error);

} // namespace ingot
