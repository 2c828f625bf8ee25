// ONNX Runtime as a reference: run by the user's Python, in a program of its own.
#pragma once

#include <string>
#include <vector>

#include "tools/ingot/tensor_folder.h"

namespace ingot::tool {

struct OnnxRuntimeResult {
  std::string version;
  NamedTensors values; // those of `names` that are tensors of a type that NumPy has
};

// The values `names` of the model for the inputs in `folder`/inputs (tensor_folder.h), unoptimised. `hidden`: those of them
// that are no outputs of the model. Works in `folder`; throws Failure where Python or the package is missing, or the model does not run there.
OnnxRuntimeResult run_onnxruntime(const std::string &python, const std::string &model,
                                  const std::vector<std::string> &names, const std::vector<std::string> &hidden,
                                  const std::string &folder);

} // namespace ingot::tool
