// Element types of tensors, and the scalar and vector types of kernel values.
//
// ElementType is what a tensor stores (signedness included); its numbers are the archive's and the C ABI's.
// Scalar is what a kernel computes with: signless integers (signedness is the op's), and `index`, a signed integer
// that never overflows (64 bits on CPUs and in the interpreter, 32 on GPUs: tensors stay below 2^31 elements).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ingot::aotc {

enum class ElementType : uint8_t {
  kNone = 0, kBool = 1, kI8 = 2, kU8 = 3, kI16 = 4, kU16 = 5, kI32 = 6, kU32 = 7, kI64 = 8, kU64 = 9,
  kF16 = 10, kBF16 = 11, kF32 = 12, kF64 = 13,
};

// Bytes of one stored element.
uint32_t byte_size(ElementType type);
bool is_float(ElementType type);
bool is_integer(ElementType type);  // bool is not an integer
bool is_unsigned(ElementType type); // u8..u64 and bool
std::string_view name(ElementType type); // "f32", "u8", "bool" ...
std::optional<ElementType> parse_element_type(std::string_view text);

enum class Scalar : uint8_t { kBool, kI8, kI16, kI32, kI64, kF16, kBF16, kF32, kF64, kIndex };

std::string_view name(Scalar scalar); // "bool", "i32", "f32", "index" ...
std::optional<Scalar> parse_scalar(std::string_view text);
bool is_float(Scalar scalar);
bool is_int(Scalar scalar); // i8..i64 and index, not bool
uint32_t bit_width(Scalar scalar); // bool 1; index 64
uint32_t byte_size(Scalar scalar); // storage bytes: bool 1; index has none (8)

// The scalar that a tensor element computes as: u8 -> i8, bool -> bool, f16 -> f16 ...
Scalar to_scalar(ElementType type);

// Of a vector: what block schedules use.
inline constexpr uint32_t kMaxLanes = 1024;

// Type of a kernel value: a scalar or a vector of `lanes` of them. Printed "f32" or "f32x8".
struct Type {
  Scalar scalar = Scalar::kIndex;
  uint16_t lanes = 1;           // at most kMaxLanes

  constexpr Type() = default;
  constexpr Type(Scalar s, uint32_t n = 1) : scalar(s), lanes(static_cast<uint16_t>(n)) {}
  bool operator==(const Type &) const = default;
  bool is_vector() const { return lanes > 1; }
  Type with_lanes(uint32_t n) const { return Type(scalar, n); }
  Type with_scalar(Scalar s) const { return Type(s, lanes); }
};

std::string to_string(Type type);
std::optional<Type> parse_type(std::string_view text);

} // namespace ingot::aotc
