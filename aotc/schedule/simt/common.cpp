// What the simt schedules share: sizes within the record, the folded grid.
#include "aotc/base/error.h"
#include "aotc/schedule/simt/simt.h"

namespace ingot::aotc::schedule::simt {

using kernel::Builder;
using kernel::ValueId;

// Columns of both tiles are padded by 4 floats: transposed stores of `a` then hit different banks.
uint64_t Tile::workgroup_bytes() const { return uint64_t(4) * k * (m + 4 + n + 4); }

std::string Tile::print() const {
  return "{m=" + std::to_string(m) + ",n=" + std::to_string(n) + ",k=" + std::to_string(k) + ",rm=" + std::to_string(rm) +
         ",rn=" + std::to_string(rn) + "}";
}

Tile choose_tile(const TargetRecord &record) {
  Tile tile;
  while (tile.threads() > record.max_workgroup_invocations || tile.workgroup_bytes() > record.workgroup_memory_bytes) {
    ensure(tile.m > tile.rm, "simt: no matmul tile fits into " + record.name);
    (tile.m > tile.n ? tile.m : tile.n) /= 2;
  }
  return tile;
}

uint32_t choose_threads(const TargetRecord &record) {
  uint32_t threads = 256;
  while (threads > record.max_workgroup_invocations)
    threads /= 2;
  ensure(threads > 0, "simt: " + record.name + " allows no invocation");
  return threads;
}

ValueId linear_group(Builder &b) {
  ValueId row = b.add(b.mul(b.group_id(2), b.grid_size(1)), b.group_id(1));
  return b.add(b.mul(row, b.grid_size(0)), b.group_id(0));
}

} // namespace ingot::aotc::schedule::simt
