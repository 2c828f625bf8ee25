// The form of matrix products: one sum over products of two values, with axes told apart by who has them.
#pragma once

#include <optional>
#include <vector>

#include "aotc/dispatch/dispatch.h"

namespace ingot::aotc::schedule {

struct Contraction {
  dispatch::Dispatch d;           // collapsed
  dispatch::ValueId reduce = 0;   // add over `k` of left * right
  dispatch::ValueId left = 0;     // does not depend on n
  dispatch::ValueId right = 0;    // does not depend on m
  int m = -1;                     // the longest axis of left alone; -1: none
  uint32_t n = 0;                 // the axis along which the first store is contiguous, of right alone
  std::vector<uint32_t> k;
  std::vector<uint32_t> batch;    // all others that are stored
};

std::optional<Contraction> match_contraction(const dispatch::Dispatch &d);

// Its stored axes: those of left alone, of right alone, and the others, each by number.
struct ProductAxes {
  std::vector<uint32_t> left, right, others;
};
ProductAxes product_axes(const Contraction &contraction);

// A contraction of u8 with i8 in i32 over a depth known at compile time: sums of dot products of bytes.
struct DotProduct {
  dispatch::ValueId left = 0, right = 0; // the loads of bytes
  int64_t depth = 0;                     // elements of k
  std::vector<uint32_t> rows;            // axes of left alone that are one flattened number where they are stored
  int block = -1;                        // axis of blocks of 16 columns, n being the column in its block; -1: none
  std::vector<uint32_t> batch;           // all others that are stored
};

std::optional<DotProduct> match_dot(const Contraction &contraction);

} // namespace ingot::aotc::schedule
