// The form of attention: a row-softmax of scores that are a contraction, and the sum of values that it weighs.
//
//   %dot = reduce add (q * k) over d         %p = exp(%s - reduce max %s over j)
//   %s   = elementwise of %dot               %o = reduce add (%p / reduce add %p over j) * v over j
//
// One dispatch says all of it, so the scores need no memory. Maximum and sum may be bounded from below, which makes 0 of
// rows of -inf alone.
#pragma once

#include <optional>
#include <vector>

#include "aotc/dispatch/dispatch.h"

namespace ingot::aotc::schedule {

struct Attention {
  dispatch::Dispatch d;              // collapsed
  dispatch::ValueId q = 0, k = 0, v = 0;
  dispatch::ValueId dot = 0;         // reduce add over `depth` of q * k
  dispatch::ValueId score = 0;       // what the softmax is of: scaled, masked
  dispatch::ValueId sum = 0;         // reduce add over `keys` of the exponentials
  dispatch::ValueId divisor = 0;     // the sum, or the larger of it and a constant
  dispatch::ValueId output = 0;      // reduce add over `keys` of softmax * v
  uint32_t rows = 0;                 // the longest stored axis of q alone
  uint32_t keys = 0;                 // of k and v
  uint32_t columns = 0;              // of v, along which the first store is contiguous
  std::vector<uint32_t> depth;       // of q and k
  std::vector<uint32_t> batch;       // all others that are stored
};

// Floats of 32 bits only, and heads of constant size.
std::optional<Attention> match_attention(const dispatch::Dispatch &d);

// Whether one dispatch is faster than scores in memory. Few rows share what is packed for them, and a score matrix of few
// rows is small.
bool attention_pays(const Attention &form);

} // namespace ingot::aotc::schedule
