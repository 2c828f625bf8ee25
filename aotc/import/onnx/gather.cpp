// Operators of the gather family.
#include "aotc/import/onnx/math.h"

namespace ingot::aotc::importer {

std::vector<OperatorRow> gather_operators() { return {}; }

} // namespace ingot::aotc::importer
