// The form of convolutions whose channels are in blocks of 16 (aotc/layout): axes told apart by what they do. Channels and
// taps are constants; sizes of the image and the batch may be symbolic.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "aotc/dispatch/dispatch.h"

namespace ingot::aotc::schedule {

inline constexpr int64_t kPanel = 16; // channels of a block, and lanes of a panel of packed weights

// One dim of the image: input position = stride * out + dilation * tap - pad, in [0, input).
struct BlockedDim {
  int out = -1, tap = -1; // axes; -1: none
  Expr size = 1;          // of the output
  int64_t stride = 1, dilation = 1, pad = 0, taps = 1;
  Expr input = 1;         // positions of the input, where it is padded
  Expr pitch = 0;         // of the input, in elements
};

struct BlockedConv {
  dispatch::Dispatch d;          // collapsed
  bool depthwise = false;        // both factors have the lane; else the input is the same for all lanes
  bool padded = false;           // the input has guards
  bool packed = false;           // the weights are contiguous along the lane
  dispatch::ValueId reduce = 0, x = 0, w = 0; // the sum, the loads
  uint32_t lane = 0;             // stored contiguously, extent 16
  int block = -1;                // the axis of channel blocks; -1: one block
  BlockedDim rows, columns;      // `columns` alone where the image is one line of pixels
  std::vector<uint32_t> k;       // all that is summed over, in order
  std::vector<uint32_t> outer;   // those of k that are neither taps nor channels within a block: lines of the input
  int within = -1;               // channel within a block of the input; -1: none
  int64_t unit = 1;              // elements of one position of the input: 16 in blocks, 1 in plain rows
  std::vector<uint32_t> batch;   // all other stored axes
  Expr rest;                     // the load's offset at row 0, column 0, channel 0 of a block

  // Offset in scratch [outer][row][column][unit] of what an output reads, less its own row and column.
  Expr scratch(int64_t plane, int64_t pitch) const;
};

std::optional<BlockedConv> match_blocked_conv(const dispatch::Dispatch &d);

} // namespace ingot::aotc::schedule
