// Matching of matrix products. See contraction.h.
#include "aotc/schedule/contraction.h"

#include <algorithm>

#include "aotc/schedule/collapse.h"
#include "aotc/schedule/sinks.h"

namespace ingot::aotc::schedule {

using dispatch::ReduceKind;
using dispatch::Value;
using dispatch::ValueKind;

std::optional<Contraction> match_contraction(const dispatch::Dispatch &original) {
  if (original.loop || original.stores.empty() || !original.checks.empty())
    return std::nullopt;
  int reduces = 0;
  for (const Value &v : original.values)
    reduces += v.kind == ValueKind::kReduce;
  if (reduces != 1)
    return std::nullopt;
  Contraction c;
  c.d = collapse_axes(original);
  for (uint32_t i = 0; i < c.d.values.size(); ++i)
    if (c.d.values[i].kind == ValueKind::kReduce)
      c.reduce = i;
  const Value &r = c.d.values[c.reduce];
  if (r.reduce != ReduceKind::kAdd)
    return std::nullopt;
  const Value &product = c.d.values[r.args[0]];
  if (product.kind != ValueKind::kOp || product.code != kernel::Opcode::kMul)
    return std::nullopt;
  Scalar type = to_scalar(product.type);
  if (type != Scalar::kF32 && type != Scalar::kF64 && type != Scalar::kI32 && type != Scalar::kI64)
    return std::nullopt;
  c.left = product.args[0];
  c.right = product.args[1];
  c.k = r.axes;
  if (c.k.empty())
    return std::nullopt;
  uint64_t k_set = 0, stored = 0;
  for (uint32_t a : c.k)
    k_set |= axis_bit(a);
  for (uint32_t a : c.d.stores[0].axes)
    stored |= axis_bit(a);
  std::vector<uint64_t> sets = c.d.axis_sets();
  if (sets[c.reduce] & ~stored)
    return std::nullopt;
  for (const dispatch::Store &s : c.d.stores) {
    uint64_t own = 0;
    for (uint32_t a : s.axes)
      own |= axis_bit(a);
    if (own != stored || (own & k_set))
      return std::nullopt;
  }
  int n = -1;
  for (uint32_t a : c.d.stores[0].axes) {
    auto linear = c.d.stores[0].offset.linear_in(c.d.axes[a].symbol);
    if (linear && linear->coefficient.constant() == 1)
      n = static_cast<int>(a);
  }
  if (n < 0)
    return std::nullopt;
  c.n = static_cast<uint32_t>(n);
  bool in_left = sets[c.left] & axis_bit(c.n), in_right = sets[c.right] & axis_bit(c.n);
  if (in_left == in_right)
    return std::nullopt;
  if (in_left)
    std::swap(c.left, c.right);
  for (uint32_t a = 0; a < c.d.axes.size(); ++a) {
    if (!(stored & axis_bit(a)) || a == c.n)
      continue;
    bool only_left = (sets[c.left] & axis_bit(a)) && !(sets[c.right] & axis_bit(a));
    if (only_left && (c.m < 0 || typical(c.d.axes[a].extent) > typical(c.d.axes[static_cast<uint32_t>(c.m)].extent)))
      c.m = static_cast<int>(a);
  }
  for (uint32_t a = 0; a < c.d.axes.size(); ++a)
    if ((stored & axis_bit(a)) && a != c.n && static_cast<int>(a) != c.m)
      c.batch.push_back(a);
  return c;
}

} // namespace ingot::aotc::schedule
