// Random numbers that operators draw: see random.cpp.
#pragma once

#include "aotc/import/onnx/importer.h"

namespace ingot::aotc::importer {

// f32 in [0, 1), a multiple of 2^-24, one per element; each `stream` of a node is another sequence.
ValueId random_unit(Node &node, const Dims &dims, uint32_t stream);

} // namespace ingot::aotc::importer
