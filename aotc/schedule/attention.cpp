// Matching of attention. See attention.h.
#include "aotc/schedule/attention.h"

#include <algorithm>

#include "aotc/schedule/collapse.h"
#include "aotc/schedule/sinks.h"

namespace ingot::aotc::schedule {

using dispatch::Dispatch;
using dispatch::ReduceKind;
using dispatch::Value;
using dispatch::ValueId;
using dispatch::ValueKind;
using kernel::Opcode;

namespace {

constexpr int64_t kLargestHead = 512; // bounds what a kernel keeps in scratch

const Value *op_of(const Dispatch &d, ValueId id, Opcode code) {
  const Value &v = d.values[id];
  return v.kind == ValueKind::kOp && v.code == code ? &v : nullptr;
}

const Value *reduce_of(const Dispatch &d, ValueId id, ReduceKind kind) {
  const Value &v = d.values[id];
  return v.kind == ValueKind::kReduce && v.reduce == kind ? &v : nullptr;
}

// The reduction, or what is bounded from below by a constant.
const Value *bounded_reduce(const Dispatch &d, ValueId id, ReduceKind kind, ValueId &reduce, bool &bounded) {
  reduce = id;
  bounded = false;
  if (const Value *most = op_of(d, id, Opcode::kMax))
    for (size_t side = 0; side < 2; ++side)
      if (d.values[most->args[1 - side]].kind == ValueKind::kConst) {
        reduce = most->args[side];
        bounded = true;
      }
  return reduce_of(d, reduce, kind);
}

// The value weighed by a softmax over the axes of the sum, and the parts of that softmax.
struct Weighed {
  ValueId value, score, sum, divisor;
};

std::optional<Weighed> match_softmax(const Dispatch &d, const Value &sum) {
  const Value *product = op_of(d, sum.args[0], Opcode::kMul);
  for (size_t side = 0; product && side < 2; ++side) {
    const Value *ratio = op_of(d, product->args[side], Opcode::kDiv);
    const Value *e = ratio ? op_of(d, ratio->args[0], Opcode::kExp) : nullptr;
    const Value *shifted = e ? op_of(d, e->args[0], Opcode::kSub) : nullptr;
    if (!shifted)
      continue;
    ValueId total_id, largest_id;
    bool total_bounded, largest_bounded;
    const Value *total = bounded_reduce(d, ratio->args[1], ReduceKind::kAdd, total_id, total_bounded);
    const Value *largest = bounded_reduce(d, shifted->args[1], ReduceKind::kMax, largest_id, largest_bounded);
    if (largest && total && total->args[0] == ratio->args[0] && largest->args[0] == shifted->args[0] &&
        total->axes == sum.axes && largest->axes == sum.axes && total_bounded == largest_bounded)
      return Weighed{product->args[1 - side], shifted->args[0], total_id, ratio->args[1]};
  }
  return std::nullopt;
}

std::optional<int64_t> constant_product(const Dispatch &d, const std::vector<uint32_t> &axes) {
  int64_t n = 1;
  for (uint32_t a : axes) {
    auto extent = d.axes[a].extent.constant();
    if (!extent || *extent < 1 || *extent > kLargestHead)
      return std::nullopt;
    n = std::min<int64_t>(n * *extent, kLargestHead + 1);
  }
  return n;
}

} // namespace

std::optional<Attention> match_attention(const Dispatch &original) {
  if (original.loop || original.stores.empty() || !original.checks.empty())
    return std::nullopt;
  std::vector<ValueId> reduces;
  for (ValueId i = 0; i < original.values.size(); ++i)
    if (original.values[i].kind == ValueKind::kReduce)
      reduces.push_back(i);
  if (reduces.size() != 4) // the dot product, the maximum, the sum and the weighed sum, which comes last
    return std::nullopt;
  Attention a;
  a.d = collapse_axes(original);
  const Dispatch &d = a.d;
  a.output = reduces.back();
  const Value *sum = reduce_of(d, a.output, ReduceKind::kAdd);
  if (!sum || sum->axes.size() != 1)
    return std::nullopt;
  auto softmax = match_softmax(d, *sum);
  if (!softmax)
    return std::nullopt;
  a.keys = sum->axes[0];
  a.v = softmax->value;
  a.score = softmax->score;
  a.sum = softmax->sum;
  a.divisor = softmax->divisor;
  a.dot = reduces.front();
  const Value *dot = reduce_of(d, a.dot, ReduceKind::kAdd);
  const Value *product = dot ? op_of(d, dot->args[0], Opcode::kMul) : nullptr;
  if (!product)
    return std::nullopt;
  a.depth = dot->axes;
  a.q = product->args[0];
  a.k = product->args[1];

  std::vector<uint64_t> sets = d.axis_sets();
  const uint64_t key_bit = axis_bit(a.keys);
  if (sets[a.q] & key_bit)
    std::swap(a.q, a.k);
  uint64_t depth = 0, stored = 0;
  for (uint32_t axis : a.depth)
    depth |= axis_bit(axis);
  for (uint32_t axis : d.stores[0].axes)
    stored |= axis_bit(axis);
  if ((sets[a.q] & key_bit) || !(sets[a.k] & key_bit) || !(sets[a.v] & key_bit) || (sets[a.v] & depth) ||
      (stored & (depth | key_bit)) || (sets[a.output] & ~stored))
    return std::nullopt;
  for (ValueId v : {a.q, a.k, a.v, a.score, a.output})
    if (d.values[v].type != ElementType::kF32)
      return std::nullopt;
  for (const dispatch::Store &s : d.stores) {
    uint64_t own = 0;
    for (uint32_t axis : s.axes)
      own |= axis_bit(axis);
    if (own != stored)
      return std::nullopt;
  }
  int rows = -1, columns = -1;
  for (uint32_t axis : d.stores[0].axes) {
    auto linear = d.stores[0].offset.linear_in(d.axes[axis].symbol);
    const bool in_score = sets[a.score] & axis_bit(axis), in_k = sets[a.k] & axis_bit(axis), in_v = sets[a.v] & axis_bit(axis);
    if (linear && linear->coefficient.constant() == 1 && in_v && !in_score)
      columns = static_cast<int>(axis);
    if ((sets[a.q] & axis_bit(axis)) && !in_k && !in_v &&
        (rows < 0 || typical(d.axes[axis].extent) > typical(d.axes[static_cast<uint32_t>(rows)].extent)))
      rows = static_cast<int>(axis);
  }
  if (rows < 0 || columns < 0)
    return std::nullopt;
  a.rows = static_cast<uint32_t>(rows);
  a.columns = static_cast<uint32_t>(columns);
  auto size = constant_product(d, a.depth), value_size = constant_product(d, {a.columns});
  if (!size || *size > kLargestHead || !value_size || *value_size > kLargestHead)
    return std::nullopt;
  for (uint32_t axis = 0; axis < d.axes.size(); ++axis)
    if ((stored & axis_bit(axis)) && axis != a.rows && axis != a.columns)
      a.batch.push_back(axis);
  return a;
}

bool attention_pays(const Attention &a) {
  auto rows = a.d.axes[a.rows].extent.constant();
  return !rows || *rows >= 8;
}

} // namespace ingot::aotc::schedule
