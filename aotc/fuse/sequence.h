// Loops of little work a step become one dispatch.
//
//   before                                        after
//   loop i trips [100] {                          dispatch @sequence(h, y, p, R)
//     dispatch @gates(h, R, p)                      sequence i [100] { gates; cell; append; carry }
//     dispatch @cell(...)
//     append h' to y, carry h' to h
//   }
//
// A step of a recurrent layer takes a microsecond, about what the host needs to go round; and one core that does all steps
// keeps the recurrent weights in its own caches. Only loops of a known number of trips whose bodies are dispatches are
// taken, and none whose steps are worth more than one core.
#pragma once

#include "aotc/fuse/fuse.h"

namespace ingot::aotc::fuse {

struct SequenceOptions {
  int64_t local_bytes = 64 << 10; // what only the steps use is local up to that many bytes together; what is more stays a tensor
  size_t max_operands = 0;        // a loop with more operands stays one; 0: any number
};

void fuse_loops(Program &program, const SequenceOptions &options = {});

} // namespace ingot::aotc::fuse
