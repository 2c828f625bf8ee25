// Operators of the resize family.
#include "aotc/import/onnx/math.h"

namespace ingot::aotc::importer {

std::vector<OperatorRow> resize_operators() { return {}; }

} // namespace ingot::aotc::importer
