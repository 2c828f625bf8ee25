// Gradient of ai.onnx.preview.training.
#pragma once

#include "aotc/import/onnx/importer.h"

namespace ingot::aotc::importer {

std::vector<OperatorRow> gradient_operators();

} // namespace ingot::aotc::importer
