// The folders of tensors through which programs exchange values: tensors.json, a list of {"name", "type", "dims", "offset",
// "bytes"}, and tensors.bin. aotc writes and reads the same (docs/verify-numerics.md).
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tools/ingot/spec.h"

namespace ingot::tool {

using NamedTensors = std::vector<std::pair<std::string, HostTensor>>;

// Both throw Failure with the folder in the message; what is read is checked.
NamedTensors read_tensor_folder(const std::string &folder);
void write_tensor_folder(const std::string &folder, const std::vector<Signature> &names, const std::vector<HostTensor> &tensors);

} // namespace ingot::tool
