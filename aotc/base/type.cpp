#include "aotc/base/type.h"

#include <array>
#include <charconv>

namespace ingot::aotc {
namespace {

struct ElementInfo {
  ElementType type;
  std::string_view name;
  uint8_t bytes;
  Scalar scalar;
};

constexpr std::array<ElementInfo, 13> kElements = {{
    {ElementType::kBool, "bool", 1, Scalar::kBool},
    {ElementType::kI8, "i8", 1, Scalar::kI8},
    {ElementType::kU8, "u8", 1, Scalar::kI8},
    {ElementType::kI16, "i16", 2, Scalar::kI16},
    {ElementType::kU16, "u16", 2, Scalar::kI16},
    {ElementType::kI32, "i32", 4, Scalar::kI32},
    {ElementType::kU32, "u32", 4, Scalar::kI32},
    {ElementType::kI64, "i64", 8, Scalar::kI64},
    {ElementType::kU64, "u64", 8, Scalar::kI64},
    {ElementType::kF16, "f16", 2, Scalar::kF16},
    {ElementType::kBF16, "bf16", 2, Scalar::kBF16},
    {ElementType::kF32, "f32", 4, Scalar::kF32},
    {ElementType::kF64, "f64", 8, Scalar::kF64},
}};

constexpr std::array<std::string_view, 10> kScalarNames = {"bool", "i8",   "i16", "i32", "i64",
                                                           "f16",  "bf16", "f32", "f64", "index"};

const ElementInfo *find(ElementType type) {
  for (const ElementInfo &info : kElements)
    if (info.type == type)
      return &info;
  return nullptr;
}

} // namespace

uint32_t byte_size(ElementType type) {
  const ElementInfo *info = find(type);
  return info ? info->bytes : 0;
}

bool is_float(ElementType type) { return type >= ElementType::kF16 && type <= ElementType::kF64; }
bool is_integer(ElementType type) { return type >= ElementType::kI8 && type <= ElementType::kU64; }

bool is_unsigned(ElementType type) {
  return type == ElementType::kBool || type == ElementType::kU8 || type == ElementType::kU16 ||
         type == ElementType::kU32 || type == ElementType::kU64;
}

std::string_view name(ElementType type) {
  const ElementInfo *info = find(type);
  return info ? info->name : "none";
}

std::optional<ElementType> parse_element_type(std::string_view text) {
  for (const ElementInfo &info : kElements)
    if (info.name == text)
      return info.type;
  return std::nullopt;
}

std::string_view name(Scalar scalar) { return kScalarNames[static_cast<size_t>(scalar)]; }

std::optional<Scalar> parse_scalar(std::string_view text) {
  for (size_t i = 0; i < kScalarNames.size(); ++i)
    if (kScalarNames[i] == text)
      return static_cast<Scalar>(i);
  return std::nullopt;
}

bool is_float(Scalar scalar) { return scalar >= Scalar::kF16 && scalar <= Scalar::kF64; }

bool is_int(Scalar scalar) {
  return (scalar >= Scalar::kI8 && scalar <= Scalar::kI64) || scalar == Scalar::kIndex;
}

uint32_t bit_width(Scalar scalar) {
  constexpr std::array<uint8_t, 10> kBits = {1, 8, 16, 32, 64, 16, 16, 32, 64, 64};
  return kBits[static_cast<size_t>(scalar)];
}

uint32_t byte_size(Scalar scalar) {
  uint32_t bits = bit_width(scalar);
  return bits < 8 ? 1 : bits / 8;
}

Scalar to_scalar(ElementType type) {
  const ElementInfo *info = find(type);
  return info ? info->scalar : Scalar::kI8;
}

std::string to_string(Type type) {
  std::string text(name(type.scalar));
  if (type.lanes > 1)
    text += "x" + std::to_string(type.lanes);
  return text;
}

std::optional<Type> parse_type(std::string_view text) {
  // "index" holds an x, so the lane count is what follows the last x, if that is a number.
  size_t x = text.rfind('x');
  if (x != std::string_view::npos && x + 1 < text.size()) {
    uint32_t lanes = 0;
    auto [end, error] = std::from_chars(text.data() + x + 1, text.data() + text.size(), lanes);
    if (error == std::errc() && end == text.data() + text.size() && lanes >= 2 && lanes <= kMaxLanes) {
      if (auto scalar = parse_scalar(text.substr(0, x)))
        return Type(*scalar, lanes);
      return std::nullopt;
    }
  }
  if (auto scalar = parse_scalar(text))
    return Type(*scalar);
  return std::nullopt;
}

} // namespace ingot::aotc
