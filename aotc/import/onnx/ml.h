// Operators of ai.onnx.ml on numbers.
#pragma once

#include "aotc/import/onnx/importer.h"

namespace ingot::aotc::importer {

std::vector<OperatorRow> ml_operators();

// LabelEncoder from numbers to numbers, which kernels compute; whether a node is one.
bool encodes_numbers(Node &node);
void import_numeric_label_encoder(Node &node);

} // namespace ingot::aotc::importer
