// simt schedules of elementwise kernels and row reductions.
#include <cmath>

#include "aotc/schedule/simt/simt.h"

namespace ingot::aotc::schedule::simt {

using kernel::Access;
using kernel::Builder;
using kernel::Kernel;
using kernel::Opcode;
using kernel::Space;
using kernel::ValueId;
using kernel::Values;

namespace {

constexpr int64_t kMaxElements = INT32_MAX; // of a tensor, hence of a dim

Kernel make_kernel(const char *name, uint32_t threads) {
  Kernel kernel;
  kernel.name = name;
  kernel.kind = kernel::Class::kSimt;
  kernel.local_size = {threads, 1, 1};
  return kernel;
}

// Combines one value a thread over the workgroup: a halving tree in `scratch` (one element a thread). The result is the
// same in every thread; the last barrier lets `scratch` be used again.
ValueId workgroup_reduce(Builder &b, Opcode op, uint32_t scratch, ValueId thread, ValueId value, uint32_t threads) {
  b.store(scratch, thread, value);
  b.barrier();
  for (uint32_t half = threads / 2; half >= 1; half /= 2) {
    b.if_then(b.lt(thread, b.index(half)), [&] {
      ValueId other = b.load(scratch, b.add(thread, b.index(half)));
      b.store(scratch, thread, b.binary(op, b.load(scratch, thread), other));
    });
    b.barrier();
  }
  ValueId result = b.load(scratch, b.index(0));
  b.barrier();
  return result;
}

} // namespace

Kernel bias_add(const TargetRecord &record) {
  uint32_t threads = choose_threads(record);
  Kernel kernel = make_kernel("bias_add", threads);
  Builder b(kernel);
  uint32_t x = b.add_buffer("x", Access::kRead, Scalar::kF32);
  uint32_t bias = b.add_buffer("bias", Access::kRead, Scalar::kF32);
  uint32_t y = b.add_buffer("y", Access::kWrite, Scalar::kF32);
  ValueId rows = b.add_param("rows", Scalar::kIndex, 1, kMaxElements);
  ValueId cols = b.add_param("cols", Scalar::kIndex, 1, kMaxElements);
  ValueId count = b.mul(rows, cols), thread = b.local_id(0), group = linear_group(b);
  // The group is tested first: surplus groups of a folded grid would otherwise take the element number past 2^31.
  ValueId groups = b.add(b.div(b.sub(count, b.index(1)), b.index(threads)), b.index(1));
  b.if_then(b.lt(group, groups), [&] {
    ValueId first = b.mul(group, b.index(threads));
    b.if_then(b.lt(thread, b.sub(count, first)), [&] {
      ValueId i = b.add(first, thread);
      b.store(y, i, b.add(b.load(x, i), b.load(bias, b.rem(i, cols))));
    });
  });
  return kernel;
}

uint64_t bias_add_groups(const TargetRecord &record, uint64_t rows, uint64_t cols) {
  uint64_t threads = choose_threads(record);
  return (rows * cols + threads - 1) / threads;
}

Kernel row_softmax(const TargetRecord &record) {
  uint32_t threads = choose_threads(record);
  Kernel kernel = make_kernel("row_softmax", threads);
  Builder b(kernel);
  uint32_t x = b.add_buffer("x", Access::kRead, Scalar::kF32);
  uint32_t y = b.add_buffer("y", Access::kWrite, Scalar::kF32);
  uint32_t scratch = b.add_array("scratch", Space::kWorkgroup, Scalar::kF32, threads);
  ValueId rows = b.add_param("rows", Scalar::kIndex, 1, kMaxElements);
  ValueId cols = b.add_param("cols", Scalar::kIndex, 1, kMaxElements);
  ValueId thread = b.local_id(0), row = linear_group(b);
  ValueId step = b.index(threads);
  b.if_then(b.lt(row, rows), [&] {
    ValueId base = b.mul(row, cols);
    auto at = [&](ValueId j) { return b.load(x, b.add(base, j)); };
    Values greatest = b.for_loop(thread, cols, step, {b.constant_float(Scalar::kF32, -INFINITY)},
                                 [&](ValueId j, const Values &v) { return Values{b.max(v[0], at(j))}; });
    ValueId top = workgroup_reduce(b, Opcode::kMax, scratch, thread, greatest[0], threads);
    auto power = [&](ValueId j) { return b.unary(Opcode::kExp, b.sub(at(j), top)); };
    Values sum = b.for_loop(thread, cols, step, {b.constant_float(Scalar::kF32, 0)},
                            [&](ValueId j, const Values &v) { return Values{b.add(v[0], power(j))}; });
    ValueId total = workgroup_reduce(b, Opcode::kAdd, scratch, thread, sum[0], threads);
    b.for_loop(thread, cols, step, {}, [&](ValueId j, const Values &) {
      b.store(y, b.add(base, j), b.div(power(j), total));
      return Values{};
    });
  });
  return kernel;
}

} // namespace ingot::aotc::schedule::simt
