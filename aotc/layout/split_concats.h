// Concatenations of more tensors than a kernel may bind become concatenations of concatenations.
//
//   before                                        after, with 3 inputs at most
//   %y = concat(%a, %b, %c, %d, %e)               %0 = concat(%a, %b, %c)   %1 = concat(%d, %e)   %y = concat(%0, %1)
#pragma once

#include "aotc/graph/graph.h"

namespace ingot::aotc::layout {

graph::Function split_concats(graph::Function function, size_t most_inputs);

} // namespace ingot::aotc::layout
