// Blocked layouts: convolutions compute on tensors whose channels are in blocks of 16, [n, c/16, h, w, 16].
//
//   before                                after
//   %y = conv(%x, %w)                     %xb = pack(%x)                   pack: reshape, then transpose
//   %r = map max(%y, 0)                   %yb = conv(%xb, %w) ints=[1,16,16]
//   %z = conv(%r, %v)                     %rb = map max(%yb, 0)
//                                         %zb = conv(%rb, %v) ints=[1,16,16]
//                                         %z = unpack(%zb)
//
// A vector then holds 16 channels of one pixel: every access is a line of memory, whatever the width of the image, the
// padding or the stride. Elementwise ops, pools, concatenations of channels and reductions over the image follow their
// operands, so that packs and unpacks remain only where another op needs the plain tensor. Packs and unpacks are ordinary
// reshapes and transposes.
//
// Done for functions that do a good part of their convolutions on channels in multiples of 16; others stay as they are. Assumes a
// verified graph; sub-graphs stay plain.
#pragma once

#include "aotc/graph/graph.h"

namespace ingot::aotc::layout {

inline constexpr int64_t kBlock = 16; // program::kChannelBlock

// Name of the value that holds the value called `plain` in blocks, "x [channels/16]"; an unnamed one has none.
std::string blocked_name(const std::string &plain);

// Where `free_sizes` is not set, convolutions of images of symbolic size stay plain.
graph::Function block_channels(const graph::Function &function, bool free_sizes);

} // namespace ingot::aotc::layout
