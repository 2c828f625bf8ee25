// Tensors in the tool's own memory, and what their element types mean: names, sizes, conversion from and to
// numbers.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <ingot/values.hpp>

namespace ingot::tool {

struct TensorType {
  ElementType type = INGOT_ELEMENT_TYPE_NONE;
  std::vector<int64_t> dims;
  bool operator==(const TensorType &) const = default;
};

// "2x3xf32"; a scalar is "f32", an unknown dim "?".
std::string to_text(const TensorType &type);
// False where `text` is not of that form. Dims are not bounded here: see element_count.
bool parse_type(const std::string &text, TensorType *out);
bool parse_element_type(const std::string &text, ElementType *out);

// Product of the dims; throws Failure where a dim is negative or there are 2^31 or more elements.
int64_t element_count(const TensorType &type);
// Bytes of a dense tensor; sub-byte elements are packed.
size_t byte_size(const TensorType &type);

bool is_float(ElementType type);   // f16 .. f64, bf16, fp8 and f4
bool is_integer(ElementType type); // i2 .. i64, u2 .. u64; bool is neither
bool is_complex(ElementType type);
bool is_signed(ElementType type); // of integers

// Bytes aligned to 64, as the runtime likes them best; never null.
class Bytes {
 public:
  Bytes() : Bytes(0) {}
  explicit Bytes(size_t size); // zero-filled
  uint8_t *data() const { return data_.get(); }
  size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(uint8_t *p) const;
  };
  std::unique_ptr<uint8_t, Free> data_;
  size_t size_ = 0;
};

struct HostTensor {
  TensorType type;
  Bytes bytes;
  std::shared_ptr<ingot_value_t> value = nullptr; // of strings, lists and optionals (value_json.h): then without bytes
};

HostTensor make_tensor(TensorType type);
Tensor view_of(const HostTensor &tensor);

// Reads element `index` as a number (complex: its real part; `imaginary`, where given, gets the other one).
// Integers above 2^53 lose digits: compare those as bytes.
double element(const HostTensor &tensor, int64_t index, double *imaginary = nullptr);
// Writes a number, rounded to nearest even; integers must be in range (false otherwise).
bool set_element(HostTensor &tensor, int64_t index, double value);
bool set_integer(HostTensor &tensor, int64_t index, int64_t value);
bool set_unsigned(HostTensor &tensor, int64_t index, uint64_t value);
// Raw bits of an element of at most 64 bits.
uint64_t element_bits(const HostTensor &tensor, int64_t index);
void set_element_bits(HostTensor &tensor, int64_t index, uint64_t bits);

// Element as text: the shortest decimal that reads back equal.
std::string element_text(const HostTensor &tensor, int64_t index);
// Nested brackets, at most `limit` elements, then how many more there are.
std::string values_text(const HostTensor &tensor, int64_t limit);

} // namespace ingot::tool
