// The microkernels of the interpreter: what an opcode does over its lanes. lanes.inc holds their one source,
// which is compiled once for each level of vector instructions; choose_lanes picks by the CPU's features.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "schemas/bytecode.h"

namespace ingot::bytecode {

// d, a, b, c are registers; d may be one of the others, as a whole.
using LaneFunction = void (*)(void *d, const void *a, const void *b, const void *c, uint32_t n);

// A tile, with every address computed and every access known to be in range.
struct Tile {
  uint32_t rows, vectors, lanes, loops; // loops is kMaxTileLoops: missing ones are outermost, with one trip
  int64_t trips[kMaxTileLoops], a_step[kMaxTileLoops], b_step[kMaxTileLoops]; // steps in elements
  const void *a[kMaxTileRows];
  const void *b[kMaxTileVectors];
  uint32_t count[kMaxTileVectors]; // lanes that count, at least 1 and at most `lanes`
  uint32_t wide[kMaxTileVectors];  // lanes that may be read, at least count
  void *sums;
};

struct LaneTable {
  LaneFunction compute[kLaneOps]; // by opcode
  LaneFunction reduce[16];        // sum, product, least, most of i32, i64, f32, f64; destroys `a`
  void (*load[kStorageCount])(void *to, const void *from, uint32_t n); // memory to register
  void (*load_step[kStorageCount])(void *to, const uint8_t *from, int64_t bytes,
                                   uint32_t n);                         // `bytes` from lane to lane
  void (*store[kStorageCount])(void *to, const void *from, uint32_t n); // register to memory
  void (*splat[2])(void *to, const void *value, uint32_t n);            // of 4 and 8 bytes
  void (*iota[2])(void *to, uint32_t n);
  // Whether all of the n indices are below the limit.
  bool (*in_range)(const int64_t *indices, uint32_t n, uint64_t limit);
  void (*gather[2])(void *to, const void *from, const int64_t *indices, uint32_t n);
  bool (*gather_mask[2])(void *to, const void *from, const int64_t *indices, const int32_t *mask, uint32_t n, uint64_t limit);
  void (*tile[4])(const Tile &tile); // i32, i64, f32, f64
};

extern const LaneTable kLanesBaseline;
#if defined(__x86_64__)
extern const LaneTable kLanesV3, kLanesV4;
#endif

// The best for a machine with these INGOT_CPU_* features.
const LaneTable &choose_lanes(uint64_t features);

} // namespace ingot::bytecode
