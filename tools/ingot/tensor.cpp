// Element types: names, sizes, and conversion of each to and from double. Small float formats are described by
// a table (exponent bits, mantissa bits, bias, how infinity and NaN are written) and share one decoder and one
// encoder.
#include "tools/ingot/tensor.h"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

#include "tools/ingot/failure.h"

namespace ingot::tool {

namespace {

// A binary float format of at most 32 bits.
struct FloatFormat {
  int exponent_bits, mantissa_bits, bias;
  bool infinity;             // the largest exponent means infinity (mantissa 0) and NaN
  bool negative_zero_is_nan; // "UZ": 0x80 is the only NaN, there is no -0
  bool all_ones_is_nan;      // "FN": all bits but the sign set
};

bool small_float(ElementType type, FloatFormat *out) {
  switch (type) {
    case INGOT_ELEMENT_TYPE_F16:
      *out = {5, 10, 15, true, false, false};
      return true;
    case INGOT_ELEMENT_TYPE_BF16:
      *out = {8, 7, 127, true, false, false};
      return true;
    case INGOT_ELEMENT_TYPE_F8E4M3FN:
      *out = {4, 3, 7, false, false, true};
      return true;
    case INGOT_ELEMENT_TYPE_F8E4M3FNUZ:
      *out = {4, 3, 8, false, true, false};
      return true;
    case INGOT_ELEMENT_TYPE_F8E5M2:
      *out = {5, 2, 15, true, false, false};
      return true;
    case INGOT_ELEMENT_TYPE_F8E5M2FNUZ:
      *out = {5, 2, 16, false, true, false};
      return true;
    case INGOT_ELEMENT_TYPE_F4E2M1:
      *out = {2, 1, 1, false, false, false};
      return true;
    default:
      return false;
  }
}

double decode(const FloatFormat &f, uint64_t bits) {
  const uint64_t mantissa_mask = (uint64_t(1) << f.mantissa_bits) - 1,
                 exponent_mask = (uint64_t(1) << f.exponent_bits) - 1;
  const uint64_t mantissa = bits & mantissa_mask, exponent = bits >> f.mantissa_bits & exponent_mask;
  const bool negative = bits >> (f.mantissa_bits + f.exponent_bits) & 1;
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  if (f.infinity && exponent == exponent_mask) {
    if (mantissa) return nan;
    return negative ? -HUGE_VAL : HUGE_VAL;
  }
  if (f.all_ones_is_nan && exponent == exponent_mask && mantissa == mantissa_mask) return nan;
  if (f.negative_zero_is_nan && negative && exponent == 0 && mantissa == 0) return nan;
  const double value = exponent == 0 ? std::ldexp(double(mantissa), 1 - f.bias - f.mantissa_bits)
                                     : std::ldexp(double(mantissa | (mantissa_mask + 1)),
                                                  int(exponent) - f.bias - f.mantissa_bits);
  return negative ? -value : value;
}

// Nearest, ties to even. What is too large becomes infinity, or the largest value where there is none.
uint64_t encode(const FloatFormat &f, double value) {
  const int sign_shift = f.mantissa_bits + f.exponent_bits;
  const uint64_t sign = uint64_t(std::signbit(value)) << sign_shift;
  const uint64_t mantissa_mask = (uint64_t(1) << f.mantissa_bits) - 1,
                 exponent_mask = (uint64_t(1) << f.exponent_bits) - 1;
  const uint64_t infinity = exponent_mask << f.mantissa_bits;
  uint64_t largest = infinity | mantissa_mask;
  if (f.infinity)
    largest = infinity - 1;
  else if (f.all_ones_is_nan)
    largest -= 1;
  if (std::isnan(value)) {
    if (f.infinity) return sign | infinity | (uint64_t(1) << (f.mantissa_bits - 1));
    if (f.negative_zero_is_nan) return uint64_t(1) << sign_shift;
    return f.all_ones_is_nan ? sign | infinity | mantissa_mask : sign | largest;
  }
  const double magnitude = std::fabs(value);
  if (magnitude == 0) return f.negative_zero_is_nan ? 0 : sign;
  if (std::isinf(value)) return sign | (f.infinity ? infinity : largest);
  int exponent;
  std::frexp(magnitude, &exponent); // magnitude = m * 2^exponent, m in [0.5, 1)
  int biased = exponent - 1 + f.bias;
  if (biased < 1) biased = 1; // subnormal: the step of the smallest normal numbers
  const double scaled = std::nearbyint(std::ldexp(magnitude, -(biased - f.bias - f.mantissa_bits)));
  // `scaled` counts steps; a carry into the next exponent comes out right, as the codes of a format are in
  // order.
  const double code = scaled + std::ldexp(double(biased - 1), f.mantissa_bits);
  if (code > double(largest)) return sign | (f.infinity ? infinity : largest);
  const uint64_t bits = uint64_t(code);
  return bits == 0 && f.negative_zero_is_nan ? 0 : sign | bits;
}

constexpr int64_t kMaxElements = int64_t(1) << 31;

} // namespace

std::string to_text(const TensorType &type) {
  std::string out;
  for (int64_t dim : type.dims) out += (dim < 0 ? "?" : std::to_string(dim)) + "x";
  return out + ingot_element_type_name(type.type);
}

bool parse_element_type(const std::string &text, ElementType *out) {
  for (ElementType type = 1; type < INGOT_ELEMENT_TYPE_COUNT; ++type)
    if (text == ingot_element_type_name(type)) {
      *out = type;
      return true;
    }
  return false;
}

bool parse_type(const std::string &text, TensorType *out) {
  TensorType type;
  size_t at = 0;
  while (at < text.size() && text[at] >= '0' && text[at] <= '9') {
    int64_t dim = 0;
    const auto [end, error] = std::from_chars(text.data() + at, text.data() + text.size(), dim);
    if (error != std::errc() || end == text.data() + text.size() || *end != 'x') return false;
    type.dims.push_back(dim);
    at = static_cast<size_t>(end - text.data()) + 1;
  }
  if (!parse_element_type(text.substr(at), &type.type)) return false;
  *out = std::move(type);
  return true;
}

int64_t element_count(const TensorType &type) {
  if (type.dims.size() > INGOT_MAX_RANK)
    fail(format("%s has rank %zu; at most %d is supported", to_text(type).c_str(), type.dims.size(),
                INGOT_MAX_RANK));
  int64_t count = 1;
  bool empty = false;
  for (int64_t dim : type.dims) {
    if (dim < 0) fail(to_text(type) + " has a negative dim");
    if (dim == 0) empty = true;
  }
  if (empty) return 0;
  for (int64_t dim : type.dims) {
    if (count > (kMaxElements - 1) / dim)
      fail(to_text(type) + " has 2^31 elements or more; a tensor must stay below that");
    count *= dim;
  }
  return count;
}

size_t byte_size(const TensorType &type) {
  return (static_cast<size_t>(element_count(type)) * ingot_element_type_bits(type.type) + 7) / 8;
}

bool is_float(ElementType type) { return type >= INGOT_ELEMENT_TYPE_F16 && type <= INGOT_ELEMENT_TYPE_F4E2M1; }
bool is_integer(ElementType type) {
  return (type >= INGOT_ELEMENT_TYPE_I8 && type <= INGOT_ELEMENT_TYPE_U64) ||
         (type >= INGOT_ELEMENT_TYPE_I4 && type <= INGOT_ELEMENT_TYPE_U2);
}
bool is_complex(ElementType type) {
  return type == INGOT_ELEMENT_TYPE_COMPLEX64 || type == INGOT_ELEMENT_TYPE_COMPLEX128;
}
bool is_signed(ElementType type) {
  return (type >= INGOT_ELEMENT_TYPE_I8 && type <= INGOT_ELEMENT_TYPE_I64) || type == INGOT_ELEMENT_TYPE_I4 ||
         type == INGOT_ELEMENT_TYPE_I2;
}

Bytes::Bytes(size_t size) : size_(size) {
  const size_t rounded = (size + 63) / 64 * 64 + (size == 0 ? 64 : 0);
  void *memory = rounded < size ? nullptr : std::aligned_alloc(64, rounded);
  if (!memory) fail(format("out of memory: %zu bytes for a tensor", size));
  std::memset(memory, 0, rounded);
  data_.reset(static_cast<uint8_t *>(memory));
}
void Bytes::Free::operator()(uint8_t *p) const { std::free(p); }

HostTensor make_tensor(TensorType type) {
  const size_t size = byte_size(type);
  return {std::move(type), Bytes(size)};
}

Tensor view_of(const HostTensor &tensor) {
  if (tensor.value) return view(tensor.value.get(), 0, tensor.type.type, {tensor.type.dims.data(), tensor.type.dims.size()});
  return view(tensor.bytes.data(), tensor.bytes.size(), tensor.type.type,
              {tensor.type.dims.data(), tensor.type.dims.size()});
}

uint64_t element_bits(const HostTensor &tensor, int64_t index) {
  const uint32_t bits = ingot_element_type_bits(tensor.type.type);
  if (bits < 8) {
    const uint64_t first = uint64_t(index) * bits;
    return tensor.bytes.data()[first / 8] >> (first % 8) & ((1u << bits) - 1);
  }
  uint64_t out = 0;
  std::memcpy(&out, tensor.bytes.data() + uint64_t(index) * (bits / 8), bits > 64 ? 8 : bits / 8);
  return out;
}

void set_element_bits(HostTensor &tensor, int64_t index, uint64_t value) {
  const uint32_t bits = ingot_element_type_bits(tensor.type.type);
  if (bits < 8) {
    const uint64_t first = uint64_t(index) * bits;
    uint8_t &byte = tensor.bytes.data()[first / 8];
    const uint8_t mask = uint8_t(((1u << bits) - 1) << (first % 8));
    byte = uint8_t((byte & ~mask) | (uint8_t(value << (first % 8)) & mask));
    return;
  }
  std::memcpy(tensor.bytes.data() + uint64_t(index) * (bits / 8), &value, bits > 64 ? 8 : bits / 8);
}

namespace {

int64_t sign_extend(uint64_t bits, uint32_t width) {
  return width >= 64 ? int64_t(bits) : int64_t(bits << (64 - width)) >> (64 - width);
}

} // namespace

double element(const HostTensor &tensor, int64_t index, double *imaginary) {
  const ElementType type = tensor.type.type;
  if (imaginary) *imaginary = 0;
  if (is_complex(type)) {
    if (type == INGOT_ELEMENT_TYPE_COMPLEX64) {
      float pair[2];
      std::memcpy(pair, tensor.bytes.data() + index * 8, 8);
      if (imaginary) *imaginary = pair[1];
      return pair[0];
    }
    double pair[2];
    std::memcpy(pair, tensor.bytes.data() + index * 16, 16);
    if (imaginary) *imaginary = pair[1];
    return pair[0];
  }
  const uint64_t bits = element_bits(tensor, index);
  FloatFormat format;
  if (small_float(type, &format)) return decode(format, bits);
  if (type == INGOT_ELEMENT_TYPE_F32) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
  }
  if (type == INGOT_ELEMENT_TYPE_F64) {
    double value;
    std::memcpy(&value, &bits, 8);
    return value;
  }
  if (type == INGOT_ELEMENT_TYPE_F8E8M0)
    return bits == 255 ? std::numeric_limits<double>::quiet_NaN() : std::ldexp(1.0, int(bits) - 127);
  if (is_signed(type)) return double(sign_extend(bits, ingot_element_type_bits(type)));
  return double(bits);
}

bool set_integer(HostTensor &tensor, int64_t index, int64_t value) {
  const ElementType type = tensor.type.type;
  if (!is_integer(type)) return set_element(tensor, index, double(value));
  const uint32_t width = ingot_element_type_bits(type);
  if (is_signed(type)) {
    if (width < 64 && (value < -(int64_t(1) << (width - 1)) || value >= int64_t(1) << (width - 1)))
      return false;
  } else if (value < 0 || (width < 64 && value >= int64_t(1) << width)) {
    return false;
  }
  set_element_bits(tensor, index, uint64_t(value));
  return true;
}

bool set_unsigned(HostTensor &tensor, int64_t index, uint64_t value) {
  if (value <= uint64_t(INT64_MAX)) return set_integer(tensor, index, int64_t(value));
  if (tensor.type.type != INGOT_ELEMENT_TYPE_U64)
    return !is_integer(tensor.type.type) && set_element(tensor, index, double(value));
  set_element_bits(tensor, index, value);
  return true;
}

bool set_element(HostTensor &tensor, int64_t index, double value) {
  const ElementType type = tensor.type.type;
  FloatFormat format;
  if (small_float(type, &format)) {
    set_element_bits(tensor, index, encode(format, value));
  } else if (type == INGOT_ELEMENT_TYPE_F32) {
    const float narrow = float(value);
    uint32_t bits;
    std::memcpy(&bits, &narrow, 4);
    set_element_bits(tensor, index, bits);
  } else if (type == INGOT_ELEMENT_TYPE_F64) {
    uint64_t bits;
    std::memcpy(&bits, &value, 8);
    set_element_bits(tensor, index, bits);
  } else if (type == INGOT_ELEMENT_TYPE_F8E8M0) {
    if (std::isnan(value)) {
      set_element_bits(tensor, index, 255);
      return true;
    }
    if (value <= 0 || std::isinf(value)) return false;
    const int exponent = int(std::nearbyint(std::log2(value))) + 127;
    if (exponent < 0 || exponent > 254) return false;
    set_element_bits(tensor, index, uint64_t(exponent));
  } else if (type == INGOT_ELEMENT_TYPE_COMPLEX64) {
    const float pair[2] = {float(value), 0};
    std::memcpy(tensor.bytes.data() + index * 8, pair, 8);
  } else if (type == INGOT_ELEMENT_TYPE_COMPLEX128) {
    const double pair[2] = {value, 0};
    std::memcpy(tensor.bytes.data() + index * 16, pair, 16);
  } else if (type == INGOT_ELEMENT_TYPE_BOOL) {
    if (value != 0 && value != 1) return false;
    set_element_bits(tensor, index, value != 0);
  } else {
    if (!(value == std::floor(value)) || std::fabs(value) > 9007199254740992.0) return false;
    return set_integer(tensor, index, int64_t(value));
  }
  return true;
}

namespace {

std::string number_text(double value, bool narrow) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto result = narrow ? std::to_chars(buffer, buffer + sizeof buffer, float(value))
                             : std::to_chars(buffer, buffer + sizeof buffer, value);
  return std::string(buffer, result.ptr);
}

} // namespace

std::string element_text(const HostTensor &tensor, int64_t index) {
  const ElementType type = tensor.type.type;
  if (type == INGOT_ELEMENT_TYPE_BOOL) return element_bits(tensor, index) ? "true" : "false";
  if (is_integer(type)) {
    const uint64_t bits = element_bits(tensor, index);
    return is_signed(type) ? std::to_string(sign_extend(bits, ingot_element_type_bits(type)))
                           : std::to_string(bits);
  }
  double imaginary;
  const double value = element(tensor, index, &imaginary);
  const bool narrow = type != INGOT_ELEMENT_TYPE_F64 && type != INGOT_ELEMENT_TYPE_COMPLEX128;
  if (!is_complex(type)) return number_text(value, narrow);
  return number_text(value, narrow) + (std::signbit(imaginary) ? "-" : "+") +
         number_text(std::fabs(imaginary), narrow) + "i";
}

std::string values_text(const HostTensor &tensor, int64_t limit) {
  const int64_t count = element_count(tensor.type);
  const auto &dims = tensor.type.dims;
  if (count == 0) return "(no elements)";
  std::string out;
  const int64_t shown = count < limit ? count : limit;
  for (int64_t i = 0; i < shown; ++i) {
    // Brackets open where the index is a multiple of the product of the trailing dims, and close before such a
    // one.
    int64_t block = 1;
    size_t opening = 0;
    for (size_t d = dims.size(); d-- > 0;) {
      block *= dims[d];
      if (i % block == 0) ++opening;
    }
    if (i != 0) out += opening ? "\n" + std::string(dims.size() - opening, ' ') : " ";
    out += std::string(opening, '[') + element_text(tensor, i);
    block = 1;
    for (size_t d = dims.size(); d-- > 0;) {
      block *= dims[d];
      if ((i + 1) % block == 0) out += ']';
    }
  }
  if (shown < count) out += " ... " + std::to_string(count - shown) + " more";
  return out;
}

} // namespace ingot::tool
