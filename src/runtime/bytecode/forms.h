// How many bytes a lane of each operand takes, for the opcodes that compute lane by lane; 0 where there is no
// operand.
#pragma once

#include "schemas/bytecode.h"

namespace ingot::bytecode {

struct Form {
  uint8_t d, a, b, c;
};

constexpr uint8_t I32 = 4, I64 = 8, F32 = 4, F64 = 8;
constexpr Form kForms[kLaneOps] = {
#define INGOT_FORM(name, R, A) {R, A, 0, 0},
    INGOT_BYTECODE_UNARY(INGOT_FORM)
#undef INGOT_FORM
#define INGOT_FORM(name, R, A) {R, A, A, 0},
        INGOT_BYTECODE_BINARY(INGOT_FORM)
#undef INGOT_FORM
#define INGOT_FORM(name, R, A) {R, A, R, R},
            INGOT_BYTECODE_TERNARY(INGOT_FORM)
#undef INGOT_FORM
};

} // namespace ingot::bytecode
