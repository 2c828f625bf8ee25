// Hand-scheduled simt kernels: bias + add, row softmax, tiled matmul and 3x3 convolution, f32, every size a param.
//
// They respect what the record allows (invocations, workgroup memory, a grid folded to 3-D). A launch runs at least
// `groups` workgroups, folded by emit::fold_grid; each kernel recovers its linear group number and ignores the surplus.
// A size may be 1 or prime; with a size of 0 the output is empty and nothing is launched (K = 0 and C = 0 are legal).
#pragma once

#include <cstdint>
#include <string>

#include "aotc/kernel/builder.h"
#include "aotc/kernel/kernel.h"
#include "aotc/kernel/target.h"

namespace ingot::aotc::schedule::simt {

// Workgroup tile m x n of the output, k of the reduction at a time; each thread owns rm x rn outputs. All are powers of
// two; threads = m / rm * (n / rn).
struct Tile {
  uint32_t m = 64, n = 64, k = 16, rm = 4, rn = 4;
  uint32_t threads() const { return m / rm * (n / rn); }
  uint64_t workgroup_bytes() const;
  std::string print() const; // "{m=64,n=64,k=16,rm=4,rn=4}"
};

// The largest tile that the record's invocations and workgroup memory hold.
Tile choose_tile(const TargetRecord &record);
// Threads of the one-dimensional kernels: a power of two, at most 256.
uint32_t choose_threads(const TargetRecord &record);

// y[rows, cols] = x[rows, cols] + b[cols]. Buffers x, b, y; params rows, cols.
kernel::Kernel bias_add(const TargetRecord &record);
uint64_t bias_add_groups(const TargetRecord &record, uint64_t rows, uint64_t cols);

// y[rows, cols] = softmax of x over cols, a workgroup a row. Buffers x, y; params rows, cols.
kernel::Kernel row_softmax(const TargetRecord &record);
inline uint64_t row_softmax_groups(uint64_t rows) { return rows; }

// c[m, n] = a[m, k] b[k, n]. Buffers a, b, c; params m, n, k.
kernel::Kernel matmul(const TargetRecord &record, const Tile &tile);
uint64_t matmul_groups(const Tile &tile, uint64_t m, uint64_t n);

// y[batch, out, h, w] = bias[out] + 3x3 convolution of x[batch, in, h, w] with weights[out, in, 3, 3], padding 1, stride
// 1, as an implicit matmul of out x (9 in) x (h w). Buffers x, weights, bias, y; params batch, in, h, w, out.
kernel::Kernel conv3x3(const TargetRecord &record, const Tile &tile);
uint64_t conv3x3_groups(const Tile &tile, uint64_t batch, uint64_t h, uint64_t w, uint64_t out);

// The linear number of this thread's workgroup in a folded grid.
kernel::ValueId linear_group(kernel::Builder &b);

} // namespace ingot::aotc::schedule::simt
