// Constant tensors: see constant.h.
#include "aotc/graph/constant.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "aotc/base/error.h"

namespace ingot::aotc::graph {

namespace {

// Rounds a double to a binary float of `fraction` fraction bits and `exponent` exponent bits, to nearest even.
uint16_t to_small(double value, int exponent_bits, int fraction_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const uint16_t infinity = static_cast<uint16_t>(((1 << exponent_bits) - 1) << fraction_bits);
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  if (std::isnan(value))
    return static_cast<uint16_t>(sign | infinity | (1 << (fraction_bits - 1)));
  double magnitude = std::fabs(value);
  if (std::isinf(value))
    return static_cast<uint16_t>(sign | infinity);
  if (magnitude == 0)
    return sign;
  int exponent = std::ilogb(magnitude);
  if (exponent < 1 - bias)
    exponent = 1 - bias; // subnormal: fixed scale
  const double scaled = std::nearbyint(std::ldexp(magnitude, fraction_bits - exponent));
  // `scaled` holds the hidden bit too; adding it to the biased exponent carries as it should.
  const int64_t bits = static_cast<int64_t>(scaled) + (static_cast<int64_t>(exponent + bias - 1) << fraction_bits);
  if (bits >= infinity)
    return static_cast<uint16_t>(sign | infinity);
  return static_cast<uint16_t>(sign | bits);
}

template <typename T>
void append(std::vector<uint8_t> &bytes, T value) {
  const size_t at = bytes.size();
  bytes.resize(at + sizeof value);
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

template <typename T>
T saturate(double value) {
  if (std::isnan(value))
    return 0;
  const double low = static_cast<double>(std::numeric_limits<T>::min());
  const double high = static_cast<double>(std::numeric_limits<T>::max());
  if (value <= low)
    return std::numeric_limits<T>::min();
  if (value >= high)
    return std::numeric_limits<T>::max();
  return static_cast<T>(value);
}

template <typename T>
T read(const ConstantData &data, size_t index) {
  ensure((index + 1) * sizeof(T) <= data.bytes.size(), "constant: element out of range");
  T value;
  std::memcpy(&value, data.bytes.data() + index * sizeof(T), sizeof value);
  return value;
}

} // namespace

uint16_t to_half(double value) { return to_small(value, 5, 10); }
uint16_t to_bfloat16(double value) { return to_small(value, 8, 7); }

double from_half(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int fraction = bits & 1023;
  double value;
  if (exponent == 31)
    value = fraction ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
  else if (exponent == 0)
    value = std::ldexp(fraction, -24);
  else
    value = std::ldexp(1024 + fraction, exponent - 25);
  return bits & 0x8000 ? -value : value;
}

double from_bfloat16(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

void append_int(std::vector<uint8_t> &bytes, ElementType type, int64_t value) {
  switch (type) {
    case ElementType::kBool: append<uint8_t>(bytes, value != 0); break;
    case ElementType::kI8:
    case ElementType::kU8: append(bytes, static_cast<uint8_t>(value)); break;
    case ElementType::kI16:
    case ElementType::kU16: append(bytes, static_cast<uint16_t>(value)); break;
    case ElementType::kI32:
    case ElementType::kU32: append(bytes, static_cast<uint32_t>(value)); break;
    case ElementType::kI64:
    case ElementType::kU64: append(bytes, value); break;
    default: append_float(bytes, type, static_cast<double>(value)); break;
  }
}

void append_float(std::vector<uint8_t> &bytes, ElementType type, double value) {
  switch (type) {
    case ElementType::kBool: append<uint8_t>(bytes, value != 0); break;
    case ElementType::kI8: append(bytes, saturate<int8_t>(value)); break;
    case ElementType::kU8: append(bytes, saturate<uint8_t>(value)); break;
    case ElementType::kI16: append(bytes, saturate<int16_t>(value)); break;
    case ElementType::kU16: append(bytes, saturate<uint16_t>(value)); break;
    case ElementType::kI32: append(bytes, saturate<int32_t>(value)); break;
    case ElementType::kU32: append(bytes, saturate<uint32_t>(value)); break;
    case ElementType::kI64: append(bytes, saturate<int64_t>(value)); break;
    case ElementType::kU64: append(bytes, saturate<uint64_t>(value)); break;
    case ElementType::kF16: append(bytes, to_half(value)); break;
    case ElementType::kBF16: append(bytes, to_bfloat16(value)); break;
    case ElementType::kF32: append(bytes, static_cast<float>(value)); break;
    case ElementType::kF64: append(bytes, value); break;
    case ElementType::kNone: throw InternalError("constant without a type");
  }
}

int64_t read_int(const ConstantData &data, size_t index) {
  switch (data.type) {
    case ElementType::kBool: return read<uint8_t>(data, index) != 0;
    case ElementType::kI8: return read<int8_t>(data, index);
    case ElementType::kU8: return read<uint8_t>(data, index);
    case ElementType::kI16: return read<int16_t>(data, index);
    case ElementType::kU16: return read<uint16_t>(data, index);
    case ElementType::kI32: return read<int32_t>(data, index);
    case ElementType::kU32: return read<uint32_t>(data, index);
    case ElementType::kI64: return read<int64_t>(data, index);
    case ElementType::kU64: return static_cast<int64_t>(read<uint64_t>(data, index));
    default: throw InternalError("read_int of a float constant");
  }
}

double read_float(const ConstantData &data, size_t index) {
  switch (data.type) {
    case ElementType::kF16: return from_half(read<uint16_t>(data, index));
    case ElementType::kBF16: return from_bfloat16(read<uint16_t>(data, index));
    case ElementType::kF32: return read<float>(data, index);
    case ElementType::kF64: return read<double>(data, index);
    case ElementType::kU64: return static_cast<double>(read<uint64_t>(data, index));
    default: return static_cast<double>(read_int(data, index));
  }
}

std::shared_ptr<const ConstantData> make_ints(ElementType type, const std::vector<int64_t> &values) {
  auto data = std::make_shared<ConstantData>();
  data->type = type;
  for (int64_t value : values)
    append_int(data->bytes, type, value);
  return data;
}

std::shared_ptr<const ConstantData> make_floats(ElementType type, const std::vector<double> &values) {
  auto data = std::make_shared<ConstantData>();
  data->type = type;
  for (double value : values)
    append_float(data->bytes, type, value);
  return data;
}

} // namespace ingot::aotc::graph
