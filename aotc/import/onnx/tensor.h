// TensorProto: types, payload in all its forms, external data.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include <onnx/onnx_pb.h>

#include "aotc/graph/graph.h"

namespace ingot::aotc::importer {

// nullopt for types the graph has not (strings, complex; float8, int4 and their kin: see narrow.h).
std::optional<ElementType> element_type(int32_t onnx_type);
// The other way round.
int32_t onnx_type_of(ElementType type);
// Name of any ONNX data type: "float16", "string", "type 99".
std::string onnx_type_name(int32_t onnx_type);

struct DecodedTensor {
  graph::TensorType type;
  int32_t narrow = 0; // the ONNX type, where `type` only stores it (narrow.h)
  std::shared_ptr<const graph::ConstantData> data;
};

// Decodes a tensor; on failure returns nullopt and says why in `error`. `folder` is where external data lies; its files
// must be inside it after all links are followed.
std::optional<DecodedTensor> decode_tensor(const onnx::TensorProto &tensor, const std::string &folder, std::string &error);

} // namespace ingot::aotc::importer
