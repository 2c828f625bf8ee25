// Matching of convolutions in blocks of channels. See blocked.h.
#include "aotc/schedule/blocked.h"

#include <algorithm>

#include "aotc/schedule/collapse.h"
#include "aotc/schedule/lower.h"

namespace ingot::aotc::schedule {

using dispatch::Dispatch;
using dispatch::Guard;
using dispatch::ReduceKind;
using dispatch::Value;
using dispatch::ValueKind;

namespace {

bool contains(const std::vector<uint32_t> &axes, uint32_t a) { return std::find(axes.begin(), axes.end(), a) != axes.end(); }

// The coefficient of an axis in a linear expression; nothing where it is not linear.
std::optional<Expr> factor_of(const Dispatch &d, const Expr &e, uint32_t axis) {
  auto linear = e.linear_in(d.axes[axis].symbol);
  return linear ? std::optional<Expr>(linear->coefficient) : std::nullopt;
}

// The same where it is constant.
std::optional<int64_t> coefficient(const Dispatch &d, const Expr &e, uint32_t axis) {
  auto factor = factor_of(d, e, axis);
  return factor ? factor->constant() : std::nullopt;
}

// stride * out + dilation * tap - pad, in [0, input).
bool dim_of_guard(const BlockedConv &c, const Guard &g, BlockedDim &dim) {
  const Dispatch &d = c.d;
  Expr left = g.value;
  for (uint32_t a = 0; a < d.axes.size(); ++a) {
    if (!left.depends_on(d.axes[a].symbol))
      continue;
    auto factor = coefficient(d, left, a);
    if (!factor || *factor < 1)
      return false;
    left = left.linear_in(d.axes[a].symbol)->rest;
    bool tap = contains(c.k, a);
    if ((tap ? dim.tap : dim.out) >= 0)
      return false;
    (tap ? dim.tap : dim.out) = static_cast<int>(a);
    (tap ? dim.dilation : dim.stride) = *factor;
  }
  auto pad = left.constant();
  if (!pad || *pad > 0 || dim.out < 0)
    return false;
  for (const dispatch::Axis &a : d.axes)
    if (g.extent.depends_on(a.symbol))
      return false;
  dim.pad = -*pad;
  dim.input = g.extent;
  return true;
}

} // namespace

Expr BlockedConv::scratch(int64_t plane, int64_t pitch) const {
  Expr e = 0;
  for (uint32_t a : outer)
    e = e * d.axes[a].extent + d.axes[a].symbol;
  e = e * plane;
  if (rows.tap >= 0)
    e = e + Expr(d.axes[static_cast<size_t>(rows.tap)].symbol) * (rows.dilation * pitch);
  if (columns.tap >= 0)
    e = e + Expr(d.axes[static_cast<size_t>(columns.tap)].symbol) * (columns.dilation * unit);
  if (within >= 0)
    e = e + d.axes[static_cast<size_t>(within)].symbol;
  return e;
}

std::optional<BlockedConv> match_blocked_conv(const Dispatch &original) {
  if (original.loop || original.stores.size() != 1 || !original.checks.empty())
    return std::nullopt;
  int reduces = 0;
  for (const Value &v : original.values)
    reduces += v.kind == ValueKind::kReduce;
  if (reduces != 1)
    return std::nullopt;
  BlockedConv c;
  c.d = collapse_axes(original);
  const Dispatch &d = c.d;
  for (uint32_t i = 0; i < d.values.size(); ++i)
    if (d.values[i].kind == ValueKind::kReduce)
      c.reduce = i;
  const Value &sum = d.values[c.reduce];
  const Value &product = d.values[sum.args[0]];
  if (sum.reduce != ReduceKind::kAdd || sum.type != ElementType::kF32 || sum.axes.empty() ||
      product.kind != ValueKind::kOp || product.code != kernel::Opcode::kMul)
    return std::nullopt;
  for (dispatch::ValueId side : product.args)
    if (d.values[side].kind != ValueKind::kLoad || d.values[side].type != ElementType::kF32)
      return std::nullopt;
  c.x = product.args[0];
  c.w = product.args[1];
  if (d.operands[d.values[c.x].operand].constant)
    std::swap(c.x, c.w);
  const Value &x = d.values[c.x], &w = d.values[c.w];
  if (d.operands[x.operand].constant || !d.operands[w.operand].constant || !w.guards.empty())
    return std::nullopt;
  c.k = sum.axes;
  // The lane is stored contiguously, and nothing but a block of 16.
  const dispatch::Store &store = d.stores[0];
  std::vector<uint64_t> sets = d.axis_sets();
  int lane = -1;
  for (uint32_t a : store.axes)
    if (coefficient(d, store.offset, a) == 1 && d.axes[a].extent.constant() == kPanel)
      lane = static_cast<int>(a);
  if (lane < 0 || !(sets[c.w] & axis_bit(static_cast<uint32_t>(lane))))
    return std::nullopt;
  c.lane = static_cast<uint32_t>(lane);
  c.depthwise = sets[c.x] & axis_bit(c.lane);
  for (const Symbol &s : x.expr.symbols())
    if (s.kind() == SymbolKind::kValue)
      return std::nullopt;
  for (uint32_t a : c.k)
    if (!d.axes[a].extent.is_constant() || contains(store.axes, a))
      return std::nullopt;
  std::vector<uint32_t> image;
  for (uint32_t a : store.axes) {
    if (a == c.lane)
      continue;
    bool of_weights = sets[c.w] & axis_bit(a), of_input = sets[c.x] & axis_bit(a);
    if (of_weights && (c.depthwise == of_input)) {
      if (c.block >= 0 || !d.axes[a].extent.is_constant())
        return std::nullopt;
      c.block = static_cast<int>(a);
    } else if (!of_weights && of_input) {
      image.push_back(a);
    } else {
      return std::nullopt;
    }
  }
  for (const Guard &g : x.guards) {
    BlockedDim dim;
    if (!dim_of_guard(c, g, dim))
      return std::nullopt;
    // Columns are what is stored next to each other.
    bool is_column = coefficient(d, store.offset, static_cast<uint32_t>(dim.out)) == kPanel;
    BlockedDim &into = is_column ? c.columns : c.rows;
    if (into.out >= 0)
      return std::nullopt;
    into = dim;
  }
  c.padded = !x.guards.empty();
  if (c.padded && c.columns.out < 0)
    return std::nullopt;
  for (uint32_t a : image) {
    if (static_cast<int>(a) == c.rows.out || static_cast<int>(a) == c.columns.out)
      continue;
    auto stored = coefficient(d, store.offset, a);
    if (!c.padded && c.columns.out < 0 && stored == kPanel)
      c.columns.out = static_cast<int>(a);
    else
      c.batch.push_back(a);
  }
  if (!c.padded) {
    // Rows follow the columns in memory; stride and taps are read off the input's offset.
    if (c.columns.out < 0)
      return std::nullopt;
    const Expr line = d.axes[static_cast<size_t>(c.columns.out)].extent * kPanel;
    for (uint32_t a : c.batch)
      if (c.rows.out < 0 && factor_of(d, store.offset, a) == line && factor_of(d, x.expr, a).value_or(0).lower() > 0)
        c.rows.out = static_cast<int>(a);
    c.batch.erase(std::remove(c.batch.begin(), c.batch.end(), static_cast<uint32_t>(c.rows.out)), c.batch.end());
  }
  for (BlockedDim *dim : {&c.rows, &c.columns}) {
    if (dim->out >= 0) {
      dim->size = d.axes[static_cast<size_t>(dim->out)].extent;
      if (dim->size.upper() < 1)
        return std::nullopt;
    }
    if (dim->tap >= 0)
      dim->taps = *d.axes[static_cast<size_t>(dim->tap)].extent.constant();
  }
  // What is left of the input's offset are lines: channels, or blocks of them.
  for (uint32_t a : c.k) {
    if (static_cast<int>(a) == c.rows.tap || static_cast<int>(a) == c.columns.tap)
      continue;
    if (!c.depthwise && c.within < 0 && coefficient(d, x.expr, a) == 1 && d.axes[a].extent.constant() == kPanel)
      c.within = static_cast<int>(a);
    else
      c.outer.push_back(a);
  }
  c.unit = c.depthwise || c.within >= 0 ? kPanel : 1;
  if (c.depthwise) {
    if (coefficient(d, x.expr, c.lane) != 1)
      return std::nullopt;
    if (!c.padded) { // the taps of a depthwise convolution are all that it sums over
      auto column = coefficient(d, x.expr, static_cast<uint32_t>(c.columns.out));
      if (!column || *column % c.unit || c.k.size() > 2)
        return std::nullopt;
      c.columns.stride = *column / c.unit;
      for (uint32_t a : c.k) {
        auto step = factor_of(d, x.expr, a);
        const int64_t constant = step ? step->constant().value_or(0) : 0;
        const bool along = constant > 0 && constant % c.unit == 0 && constant / c.unit < 16 && c.columns.tap < 0 && a == c.k.back();
        BlockedDim &dim = along ? c.columns : c.rows;
        if (!step || dim.tap >= 0)
          return std::nullopt;
        dim.tap = static_cast<int>(a);
        dim.taps = *d.axes[a].extent.constant();
        dim.dilation = along ? constant / c.unit : 1;
        if (!along)
          c.rows.pitch = *step;
      }
      if (c.rows.out >= 0) {
        auto row = factor_of(d, x.expr, static_cast<uint32_t>(c.rows.out));
        if (!row)
          return std::nullopt;
        if (c.rows.tap < 0)
          c.rows.pitch = *row;
        if (c.rows.pitch.lower() < 1)
          return std::nullopt;
        auto stride = floordiv(*row, c.rows.pitch).constant();
        if (!stride || !(c.rows.pitch * *stride == *row))
          return std::nullopt;
        c.rows.stride = *stride;
      }
      c.outer.clear();
    }
    if (!c.outer.empty() || c.rows.taps * c.columns.taps > 81)
      return std::nullopt;
  }
  c.rest = x.expr;
  std::map<Symbol, Expr> none;
  if (c.padded) {
    auto column = coefficient(d, x.expr, static_cast<uint32_t>(c.columns.out));
    if (column != c.unit * c.columns.stride)
      return std::nullopt;
    Expr spatial = 0;
    for (const Guard &g : x.guards) {
      bool is_column = g.value.depends_on(d.axes[static_cast<size_t>(c.columns.out)].symbol);
      if (!is_column) {
        auto row = factor_of(d, x.expr, static_cast<uint32_t>(c.rows.out));
        if (!row)
          return std::nullopt;
        c.rows.pitch = floordiv(*row, c.rows.stride);
        if (c.rows.pitch.lower() < 1 || !(c.rows.pitch * c.rows.stride == *row))
          return std::nullopt;
      }
      spatial = spatial + g.value * (is_column ? Expr(c.unit) : c.rows.pitch);
    }
    c.rest = x.expr - spatial;
    for (const BlockedDim *dim : {&c.rows, &c.columns})
      for (int a : {dim->out, dim->tap})
        if (a >= 0 && c.rest.depends_on(d.axes[static_cast<size_t>(a)].symbol))
          return std::nullopt;
    if (c.rows.out < 0)
      c.rows.input = 1;
    if (c.within >= 0)
      none[d.axes[static_cast<size_t>(c.within)].symbol] = 0;
    if (c.depthwise)
      none[d.axes[c.lane].symbol] = 0;
    c.rest = c.rest.substitute(none);
  }
  c.packed = d.operands[w.operand].packing.has_value() && coefficient(d, w.expr, c.lane) == 1;
  return c;
}

} // namespace ingot::aotc::schedule
