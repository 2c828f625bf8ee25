// Constants that are larger than one binding may be: a product with such a matrix becomes several with parts of it.
//
//   before                                        after
//   %w : f32[4096,25088] = constant               %w0 : f32[1024,25088] = constant   ...   %w3
//   %y = contract(%x, %w) mk nk -> mn             %y0 = contract(%x, %w0)            ...   %y3
//                                                 %y  = concat(%y0, %y1, %y2, %y3) along n
//
// Vulkan and WebGPU promise 128 MiB a binding, and what a device allows is not known at compile time. Only products are
// split, along a dim that the other operand does not have.
#pragma once

#include "aotc/graph/graph.h"

namespace ingot::aotc::layout {

graph::Function split_constants(const graph::Function &function, uint64_t most_bytes);

} // namespace ingot::aotc::layout
