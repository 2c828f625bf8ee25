// Sliding windows: the attributes that convolutions and pools share (kernel_shape, strides, dilations, pads, auto_pad).
#pragma once

#include "aotc/import/onnx/importer.h"

namespace ingot::aotc::importer {

struct Window {
  std::vector<int64_t> strides, dilations;
  std::vector<Expr> low, high; // pads per spatial axis, resolved from auto_pad
};

// Reads and checks them against the spatial dims of input 0 and the kernel's extents.
Window read_window(Node &node, const std::vector<Expr> &kernel);
// A list attribute of positive ints, one per spatial axis; `otherwise` repeated where it is absent.
std::vector<int64_t> spatial_ints(Node &node, const char *name, size_t count, int64_t otherwise);

} // namespace ingot::aotc::importer
