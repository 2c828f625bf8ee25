// Constant tensors: encoding numbers as stored elements and reading them back.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "aotc/graph/graph.h"

namespace ingot::aotc::graph {

// IEEE half and bfloat16 from a double, rounded once to nearest even; NaN stays NaN.
uint16_t to_half(double value);
uint16_t to_bfloat16(double value);
double from_half(uint16_t bits);
double from_bfloat16(uint16_t bits);

// Appends one element. Integers wrap to the element's width; bool is value != 0; a float element takes the value as is.
void append_int(std::vector<uint8_t> &bytes, ElementType type, int64_t value);
// Appends one element; integer types truncate toward zero and saturate, NaN gives 0.
void append_float(std::vector<uint8_t> &bytes, ElementType type, double value);

// Element `index` of a constant. read_int needs an integer or bool type (u64 above 2^63 wraps).
int64_t read_int(const ConstantData &data, size_t index);
double read_float(const ConstantData &data, size_t index);

std::shared_ptr<const ConstantData> make_ints(ElementType type, const std::vector<int64_t> &values);
std::shared_ptr<const ConstantData> make_floats(ElementType type, const std::vector<double> &values);

} // namespace ingot::aotc::graph
