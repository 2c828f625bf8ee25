// A folder of tensors, for other programs: tensors.json is a list of {"name", "type", "dims", "offset", "bytes"}, and
// tensors.bin holds the bytes. Written by `aotc --emit=reference`, read as its --inputs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "aotc/driver/reference.h"

namespace ingot::aotc {

// nullopt with *problem set: the folder cannot be read, or does not hold what it says.
std::optional<std::vector<NamedTensor>> read_tensor_folder(const std::string &folder, std::string *problem);
// The folder is made where it is missing. False with *problem set; then nothing new is left behind.
bool write_tensor_folder(const std::string &folder, const std::vector<NamedTensor> &tensors, std::string *problem);

} // namespace ingot::aotc
