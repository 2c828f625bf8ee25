// Diagnostics: what a user must fix. Collected, so that every problem of a model is reported in one run.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace ingot::aotc {

struct Diagnostic {
  std::string file;    // model or flag it concerns
  std::string node;    // node name, or "" for the whole model
  std::string op;      // "ai.onnx.Conv", or ""
  int64_t opset = 0;   // 0 = does not apply
  std::string types;   // operand types: "(f32[1,3,48,320], f64[8])", or ""
  std::string reason;  // what was found and what was expected
  std::string hint;    // what to do, or ""
};

// "model.onnx: node 'conv1' (ai.onnx.Conv, opset 11) (f32[1,3,48,320]): reason; hint: ..."
std::string to_string(const Diagnostic &diagnostic);

class Diagnostics {
 public:
  void add(Diagnostic diagnostic) { list_.push_back(std::move(diagnostic)); }
  bool empty() const { return list_.empty(); }
  const std::vector<Diagnostic> &list() const { return list_; }

 private:
  std::vector<Diagnostic> list_;
};

} // namespace ingot::aotc
