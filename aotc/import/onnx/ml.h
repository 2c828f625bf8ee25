// Operators of ai.onnx.ml on numbers.
#pragma once

#include "aotc/import/onnx/importer.h"

namespace ingot::aotc::importer {

std::vector<OperatorRow> ml_operators();

} // namespace ingot::aotc::importer
