// Register classes that a build may leave out (Meson option bytecode_classes): i64 and f64. i32 and f32 are always
// there, and so is i64 over one lane, which addresses are made of.
#pragma once

#include "schemas/bytecode.h"

namespace ingot::bytecode {

constexpr uint8_t kClassI64 = 1, kClassF64 = 2, kAllClasses = 3;
#if defined(INGOT_BYTECODE_CLASSES)
constexpr uint8_t kBuiltClasses = INGOT_BYTECODE_CLASSES;
#else
constexpr uint8_t kBuiltClasses = kAllClasses;
#endif

namespace classes {
constexpr uint8_t I32 = 0, I64 = kClassI64, F32 = 0, F64 = kClassF64;
constexpr uint8_t kOf[kLaneOps] = {
#define INGOT_CLASS(name, R, A) R | A,
    INGOT_BYTECODE_UNARY(INGOT_CLASS) INGOT_BYTECODE_BINARY(INGOT_CLASS) INGOT_BYTECODE_TERNARY(INGOT_CLASS)
#undef INGOT_CLASS
};
} // namespace classes

// Classes that a lane op over `n` lanes needs and this build has not; 0: it can run. select_64 moves bits of any class.
constexpr uint8_t missing_classes(Op op, uint32_t n) {
  const uint8_t needed = op == Op::select_64 ? 0 : classes::kOf[uint32_t(op)];
  return uint8_t((n == 1 ? needed & kClassF64 : needed) & ~kBuiltClasses);
}
constexpr const char *class_name(uint8_t missing) { return missing & kClassF64 ? "f64" : "i64"; }

} // namespace ingot::bytecode
