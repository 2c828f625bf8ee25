// Operators of the control family.
#include "aotc/import/onnx/math.h"

namespace ingot::aotc::importer {

std::vector<OperatorRow> control_operators() { return {}; }

} // namespace ingot::aotc::importer
