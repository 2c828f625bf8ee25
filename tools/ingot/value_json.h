// Values that are no tensors of numbers: lists, optionals and strings, as JSON on the command line and in files.
//
//   "word", ["a", "b"], [["a"], ["b"]]                      strings, of rank 0, 1, 2
//   {"type": "string", "dims": [0, 3], "values": []}        the same, spelled out
//   {"type": "f32", "dims": [2], "values": [1, "nan"]}      numbers; {"npy": "FILE.npy"}: those of a file
//   {"list": "f32", "elements": [{...}, ...]}               a list of such tensors
//   null                                                    an optional without an element
#pragma once

#include <memory>
#include <string>

#include "tools/ingot/compare.h"
#include "tools/ingot/tensor.h"

namespace ingot::tool {

bool is_value_type(ElementType type); // strings, lists and optionals

std::shared_ptr<ingot_value_t> make_value();
// `body`: @FILE.json or json:TEXT. `type`: STRING or VALUE, with the dims of the strings afterwards.
HostTensor parse_value(const std::string &body, const std::string &name, ElementType type);
std::string value_text(const HostTensor &tensor);
void write_value(const std::string &path, const HostTensor &tensor);
// Empty where both hold the same; numbers as the tolerance says, everything else equal.
std::string value_disagreement(const HostTensor &actual, const HostTensor &reference, const Tolerance &tolerance);

} // namespace ingot::tool
