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

ProductAxes product_axes(const Contraction &c) {
  const std::vector<uint64_t> sets = c.d.axis_sets();
  uint64_t stored = 0;
  for (uint32_t a : c.d.stores[0].axes)
    stored |= axis_bit(a);
  ProductAxes out;
  for (uint32_t a = 0; a < c.d.axes.size(); ++a) {
    if (!(stored & axis_bit(a)))
      continue;
    const bool left = sets[c.left] & axis_bit(a), right = sets[c.right] & axis_bit(a);
    (left && !right ? out.left : right && !left ? out.right : out.others).push_back(a);
  }
  return out;
}

std::optional<DotProduct> match_dot(const Contraction &c) {
  const dispatch::Dispatch &d = c.d;
  auto bytes = [&](dispatch::ValueId side, ElementType type, kernel::Opcode widen) -> std::optional<dispatch::ValueId> {
    const Value &v = d.values[side];
    if (v.kind != ValueKind::kOp || v.code != widen || v.type != ElementType::kI32)
      return std::nullopt;
    const Value &load = d.values[v.args[0]];
    if (load.kind != ValueKind::kLoad || load.type != type)
      return std::nullopt;
    for (const Symbol &s : load.expr.symbols())
      if (s.kind() == SymbolKind::kValue)
        return std::nullopt;
    return v.args[0];
  };
  auto left = bytes(c.left, ElementType::kU8, kernel::Opcode::kConvertU);
  auto right = bytes(c.right, ElementType::kI8, kernel::Opcode::kConvert);
  if (!left || !right || !d.values[*right].guards.empty() || d.values[c.reduce].type != ElementType::kI32)
    return std::nullopt;
  DotProduct dot;
  dot.left = *left;
  dot.right = *right;
  dot.depth = 1;
  constexpr int64_t kDeepest = 1 << 14; // rows and panels of that many bytes wait in scratch
  for (uint32_t a : c.k) {
    auto extent = d.axes[a].extent.constant();
    if (!extent || *extent < 1 || dot.depth * *extent > kDeepest)
      return std::nullopt;
    dot.depth *= *extent;
  }
  std::vector<uint64_t> sets = d.axis_sets();
  auto only = [&](uint32_t a, dispatch::ValueId in, dispatch::ValueId out) {
    return (sets[in] & axis_bit(a)) && !(sets[out] & axis_bit(a));
  };
  for (uint32_t a : c.batch)
    if (only(a, c.right, c.left) && d.axes[c.n].extent.constant() == 16)
      dot.block = static_cast<int>(a);
  // Axes of rows whose coefficients at the store follow from each other are one number.
  const Expr &offset = d.stores[0].offset;
  auto coefficient = [&](uint32_t a) -> std::optional<Expr> {
    auto linear = offset.linear_in(d.axes[a].symbol);
    if (!linear)
      return std::nullopt;
    return linear->coefficient;
  };
  if (c.m >= 0)
    dot.rows.push_back(static_cast<uint32_t>(c.m));
  for (bool grown = c.m >= 0; grown;) {
    grown = false;
    for (uint32_t a : c.batch) {
      if (std::find(dot.rows.begin(), dot.rows.end(), a) != dot.rows.end() || !only(a, c.left, c.right))
        continue;
      auto own = coefficient(a), first = coefficient(dot.rows.front()), last = coefficient(dot.rows.back());
      if (!own || !first || !last)
        continue;
      if (*own == *first * d.axes[dot.rows.front()].extent)
        dot.rows.insert(dot.rows.begin(), a);
      else if (*last == *own * d.axes[a].extent)
        dot.rows.push_back(a);
      else
        continue;
      grown = true;
      break;
    }
  }
  for (uint32_t a : c.batch)
    if (static_cast<int>(a) != dot.block && std::find(dot.rows.begin(), dot.rows.end(), a) == dot.rows.end())
      dot.batch.push_back(a);
  return dot;
}

} // namespace ingot::aotc::schedule
