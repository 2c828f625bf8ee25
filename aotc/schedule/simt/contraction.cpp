// simt schedules of contractions: one tiled matmul whose operands come from loaders, so that a convolution is the same
// kernel with another loader (implicit GEMM).
//
// A workgroup computes an m x n tile. For each k slice the threads copy tile_a (transposed, [k][m]) and tile_b ([k][n])
// into workgroup memory, out-of-range elements as zeros; then each thread multiplies rm x rn outputs from registers.
#include <functional>

#include "aotc/base/error.h"
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

constexpr int64_t kMaxElements = INT32_MAX;

// How a contraction reads and writes. `a_row` and `b_column` compute once what the k loop reuses; loads give 0 where the
// element is out of range; `store` is called only where row and column are in range.
struct Operands {
  std::function<Values(ValueId row)> a_row;
  std::function<ValueId(const Values &row, ValueId k)> a_load;
  std::function<Values(ValueId column)> b_column;
  std::function<ValueId(const Values &column, ValueId k)> b_load;
  std::function<void(ValueId row, ValueId column, ValueId value)> store;
};

uint32_t log2_exact(uint32_t value) {
  ensure(value && !(value & (value - 1)), "simt: tile sizes are powers of two");
  uint32_t log = 0;
  while (value >> (log + 1))
    ++log;
  return log;
}

struct Parts {
  ValueId high, low; // value / size, value % size
};
Parts split(Builder &b, ValueId value, uint32_t size) {
  return {b.binary(Opcode::kShrU, value, b.index(log2_exact(size))), b.binary(Opcode::kAnd, value, b.index(size - 1))};
}

ValueId ceil_div(Builder &b, ValueId value, uint32_t size) {
  // Not (value + size - 1) / size, which overflows 32 bits near the top.
  return b.add(b.div(b.sub(value, b.index(1)), b.index(size)), b.index(1));
}

// Emits the tile at (tile_row, tile_column) of an m x n output with reduction length k. Uniform control flow only.
void emit_tile(Builder &b, const Tile &tile, uint32_t tile_a, uint32_t tile_b, ValueId tile_row, ValueId tile_column,
               ValueId m, ValueId n, ValueId k, const Operands &operands) {
  uint32_t threads = tile.threads(), pitch_a = tile.m + 4, pitch_b = tile.n + 4;
  ensure(tile.m * tile.k % threads == 0 && tile.n * tile.k % threads == 0 && threads % tile.k == 0 &&
             threads % tile.n == 0,
         "simt: a tile " + tile.print() + " does not divide among its threads");
  ValueId thread = b.local_id(0);
  ValueId row0 = b.mul(tile_row, b.index(tile.m)), column0 = b.mul(tile_column, b.index(tile.n));

  // Copying: a thread takes one k of `a` for several rows, and one column of `b` for several k.
  Parts a_part = split(b, thread, tile.k), b_part = split(b, thread, tile.n);
  uint32_t a_count = tile.m * tile.k / threads, a_step = threads / tile.k;
  uint32_t b_count = tile.n * tile.k / threads, b_step = threads / tile.n;
  std::vector<Values> rows;
  for (uint32_t i = 0; i < a_count; ++i)
    rows.push_back(operands.a_row(b.add(row0, b.add(a_part.high, b.index(i * a_step)))));
  Values column = operands.b_column(b.add(column0, b_part.low));
  ValueId a_slot = b.add(b.mul(a_part.low, b.index(pitch_a)), a_part.high);
  ValueId b_slot = b.add(b.mul(b_part.high, b.index(pitch_b)), b_part.low);

  // Multiplying: thread (ty, tx) owns rows ty * rm ..., columns tx * rn ...
  Parts own = split(b, thread, tile.n / tile.rn);
  ValueId own_row = b.mul(own.high, b.index(tile.rm)), own_column = b.mul(own.low, b.index(tile.rn));

  Values zeros(tile.rm * tile.rn, b.constant_float(Scalar::kF32, 0));
  Values sums = b.for_loop(b.index(0), k, b.index(tile.k), zeros, [&](ValueId k0, const Values &outer) {
    for (uint32_t i = 0; i < a_count; ++i)
      b.store(tile_a, b.add(a_slot, b.index(i * a_step)), operands.a_load(rows[i], b.add(k0, a_part.low)));
    for (uint32_t i = 0; i < b_count; ++i)
      b.store(tile_b, b.add(b_slot, b.index(i * b_step * pitch_b)),
              operands.b_load(column, b.add(k0, b.add(b_part.high, b.index(i * b_step)))));
    b.barrier();
    Values inner = b.for_loop(
        b.index(0), b.index(tile.k), b.index(1), outer,
        [&](ValueId kk, const Values &carried) {
          ValueId a_at = b.add(b.mul(kk, b.index(pitch_a)), own_row), b_at = b.add(b.mul(kk, b.index(pitch_b)), own_column);
          Values left, right, next;
          for (uint32_t i = 0; i < tile.rm; ++i)
            left.push_back(b.load(tile_a, b.add(a_at, b.index(i))));
          for (uint32_t j = 0; j < tile.rn; ++j)
            right.push_back(b.load(tile_b, b.add(b_at, b.index(j))));
          for (uint32_t i = 0; i < tile.rm; ++i)
            for (uint32_t j = 0; j < tile.rn; ++j)
              next.push_back(b.mad(left[i], right[j], carried[i * tile.rn + j]));
          return next;
        },
        0);
    b.barrier();
    return inner;
  });
  for (uint32_t i = 0; i < tile.rm; ++i) {
    ValueId row = b.add(row0, b.add(own_row, b.index(i)));
    b.if_then(b.lt(row, m), [&] {
      for (uint32_t j = 0; j < tile.rn; ++j) {
        ValueId at = b.add(column0, b.add(own_column, b.index(j)));
        b.if_then(b.lt(at, n), [&] { operands.store(row, at, sums[i * tile.rn + j]); });
      }
    });
  }
}

Kernel make_kernel(const char *name, const TargetRecord &record, const Tile &tile) {
  ensure(tile.threads() <= record.max_workgroup_invocations && tile.workgroup_bytes() <= record.workgroup_memory_bytes,
         "simt: tile " + tile.print() + " exceeds what " + record.name + " offers");
  Kernel kernel;
  kernel.name = name;
  kernel.kind = kernel::Class::kSimt;
  kernel.local_size = {tile.threads(), 1, 1};
  return kernel;
}

} // namespace

Kernel matmul(const TargetRecord &record, const Tile &tile) {
  Kernel kernel = make_kernel("matmul", record, tile);
  Builder b(kernel);
  uint32_t a = b.add_buffer("a", Access::kRead, Scalar::kF32);
  uint32_t bb = b.add_buffer("b", Access::kRead, Scalar::kF32);
  uint32_t c = b.add_buffer("c", Access::kWrite, Scalar::kF32);
  uint32_t tile_a = b.add_array("tile_a", Space::kWorkgroup, Scalar::kF32, tile.k * (tile.m + 4));
  uint32_t tile_b = b.add_array("tile_b", Space::kWorkgroup, Scalar::kF32, tile.k * (tile.n + 4));
  ValueId m = b.add_param("m", Scalar::kIndex, 1, kMaxElements);
  ValueId n = b.add_param("n", Scalar::kIndex, 1, kMaxElements);
  ValueId k = b.add_param("k", Scalar::kIndex, 0, kMaxElements);
  ValueId group = linear_group(b);
  ValueId columns = ceil_div(b, n, tile.n), rows = ceil_div(b, m, tile.m);
  ValueId tile_row = b.div(group, columns), tile_column = b.rem(group, columns);
  b.if_then(b.lt(tile_row, rows), [&] {
    ValueId zero = b.constant_float(Scalar::kF32, 0);
    Operands operands;
    operands.a_row = [&](ValueId row) { return Values{b.lt(row, m), b.mul(row, k)}; };
    operands.a_load = [&](const Values &row, ValueId at) {
      return b.load_if(a, b.logical_and(row[0], b.lt(at, k)), b.add(row[1], at), zero);
    };
    operands.b_column = [&](ValueId column) { return Values{b.lt(column, n), column}; };
    operands.b_load = [&](const Values &column, ValueId at) {
      return b.load_if(bb, b.logical_and(column[0], b.lt(at, k)), b.add(b.mul(at, n), column[1]), zero);
    };
    operands.store = [&](ValueId row, ValueId column, ValueId value) {
      b.store(c, b.add(b.mul(row, n), column), value);
    };
    emit_tile(b, tile, tile_a, tile_b, tile_row, tile_column, m, n, k, operands);
  });
  return kernel;
}

uint64_t matmul_groups(const Tile &tile, uint64_t m, uint64_t n) {
  return (m + tile.m - 1) / tile.m * ((n + tile.n - 1) / tile.n);
}

Kernel conv3x3(const TargetRecord &record, const Tile &tile) {
  Kernel kernel = make_kernel("conv3x3", record, tile);
  Builder b(kernel);
  uint32_t x = b.add_buffer("x", Access::kRead, Scalar::kF32);
  uint32_t weights = b.add_buffer("weights", Access::kRead, Scalar::kF32);
  uint32_t bias = b.add_buffer("bias", Access::kRead, Scalar::kF32);
  uint32_t y = b.add_buffer("y", Access::kWrite, Scalar::kF32);
  uint32_t tile_a = b.add_array("tile_a", Space::kWorkgroup, Scalar::kF32, tile.k * (tile.m + 4));
  uint32_t tile_b = b.add_array("tile_b", Space::kWorkgroup, Scalar::kF32, tile.k * (tile.n + 4));
  ValueId batch = b.add_param("batch", Scalar::kIndex, 1, kMaxElements);
  ValueId in = b.add_param("in", Scalar::kIndex, 0, kMaxElements);
  ValueId h = b.add_param("h", Scalar::kIndex, 1, kMaxElements);
  ValueId w = b.add_param("w", Scalar::kIndex, 1, kMaxElements);
  ValueId out = b.add_param("out", Scalar::kIndex, 1, kMaxElements);
  ValueId area = b.mul(h, w), depth = b.mul(in, b.index(9));
  ValueId columns = ceil_div(b, area, tile.n), rows = ceil_div(b, out, tile.m);
  // Group = (image, tile row, tile column).
  ValueId group = linear_group(b), line = b.div(group, columns), tile_column = b.rem(group, columns);
  ValueId image = b.div(line, rows), tile_row = b.rem(line, rows);
  b.if_then(b.lt(image, batch), [&] {
    ValueId zero = b.constant_float(Scalar::kF32, 0), none = b.index(0);
    ValueId image_base = b.mul(b.mul(image, in), area);
    Operands operands;
    operands.a_row = [&](ValueId row) { return Values{b.lt(row, out), b.mul(row, depth)}; };
    operands.a_load = [&](const Values &row, ValueId at) {
      return b.load_if(weights, b.logical_and(row[0], b.lt(at, depth)), b.add(row[1], at), zero);
    };
    operands.b_column = [&](ValueId column) {
      return Values{b.lt(column, area), b.div(column, w), b.rem(column, w)};
    };
    operands.b_load = [&](const Values &column, ValueId at) {
      ValueId channel = b.div(at, b.index(9)), tap = b.rem(at, b.index(9));
      ValueId row = b.sub(b.add(column[1], b.div(tap, b.index(3))), b.index(1));
      ValueId across = b.sub(b.add(column[2], b.rem(tap, b.index(3))), b.index(1));
      ValueId inside = b.logical_and(b.logical_and(column[0], b.lt(at, depth)),
                                     b.logical_and(b.logical_and(b.compare(Opcode::kGe, row, none), b.lt(row, h)),
                                                   b.logical_and(b.compare(Opcode::kGe, across, none), b.lt(across, w))));
      ValueId offset = b.add(b.add(image_base, b.mul(channel, area)), b.add(b.mul(row, w), across));
      return b.load_if(x, inside, offset, zero);
    };
    operands.store = [&](ValueId row, ValueId column, ValueId value) {
      ValueId offset = b.add(b.mul(b.add(b.mul(image, out), row), area), column);
      b.store(y, offset, b.add(value, b.load(bias, row)));
    };
    emit_tile(b, tile, tile_a, tile_b, tile_row, tile_column, out, area, depth, operands);
  });
  return kernel;
}

uint64_t conv3x3_groups(const Tile &tile, uint64_t batch, uint64_t h, uint64_t w, uint64_t out) {
  return batch * matmul_groups(tile, out, h * w);
}

} // namespace ingot::aotc::schedule::simt
