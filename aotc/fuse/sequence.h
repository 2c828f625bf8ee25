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

void fuse_loops(Program &program);

} // namespace ingot::aotc::fuse
