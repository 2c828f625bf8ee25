// Narrow types: ONNX's integers below a byte and 8- and 4-bit floats. The graph stores them one element a byte (their value
// for integers, their bits for floats) and never computes with them: Cast, QuantizeLinear and DequantizeLinear convert,
// operators that only move elements pass them on, others refuse them.
#pragma once

#include "aotc/import/onnx/importer.h"

namespace ingot::aotc::importer {

// Their numbers in TensorProto.DataType, which older onnx.proto files do not name.
inline constexpr int32_t kFloat8E4M3FN = 17, kFloat8E4M3FNUZ = 18, kFloat8E5M2 = 19, kFloat8E5M2FNUZ = 20, kUint4 = 21,
                         kInt4 = 22, kFloat4E2M1 = 23, kFloat8E8M0 = 24, kUint2 = 25, kInt2 = 26;

// The element type that stores a narrow ONNX type: i8 or u8; nullopt for types that are not narrow.
std::optional<ElementType> narrow_storage(int32_t onnx_type);
// Bits of an element in a tensor's packed payload: 2, 4 or 8 (low bits first).
int narrow_bits(int32_t onnx_type);
bool narrow_is_float(int32_t onnx_type);
// Smallest and largest value of a narrow integer type.
struct NarrowRange {
  int64_t low, high;
};
NarrowRange narrow_range(int32_t onnx_type);

// The values of a stored tensor: f32 for floats; integers are their values already.
ValueId widen_narrow(Node &node, ValueId stored, int32_t onnx_type);

// Stored elements from numbers of any graph type. Floats round to nearest even; beyond the largest value `saturate` gives
// that value, else infinity or NaN, as the type has. Integers wrap. `round_mode` ("up", "down", "nearest") is float8e8m0's.
ValueId store_narrow(Node &node, ValueId x, int32_t onnx_type, bool saturate, const std::string &round_mode);

} // namespace ingot::aotc::importer
