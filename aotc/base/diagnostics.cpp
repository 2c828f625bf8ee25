// Text of a diagnostic: one line that names file, node, operator, opset, types, reason and hint.
#include "aotc/base/diagnostics.h"

namespace ingot::aotc {

std::string to_string(const Diagnostic &diagnostic) {
  std::string text = diagnostic.file;
  if (!diagnostic.node.empty() || !diagnostic.op.empty()) {
    if (!text.empty())
      text += ": ";
    text += "node '" + diagnostic.node + "'";
    if (!diagnostic.op.empty()) {
      text += " (" + diagnostic.op;
      if (diagnostic.opset > 0)
        text += ", opset " + std::to_string(diagnostic.opset);
      text += ")";
    }
    if (!diagnostic.types.empty())
      text += " " + diagnostic.types;
  }
  if (!text.empty())
    text += ": ";
  text += diagnostic.reason;
  if (!diagnostic.hint.empty())
    text += "; hint: " + diagnostic.hint;
  return text;
}

} // namespace ingot::aotc
