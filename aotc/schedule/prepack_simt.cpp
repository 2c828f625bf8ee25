// The layout of constants for products on threads: a session re-lays them out on its device when it is made.
//
// Threads that are neighbours along a side's last axis read the same k at a time, so that side's constants are stored with
// that axis innermost: weights [out][in][kh][kw] as [in][kh][kw][out]. Natural layouts of which neighbours read
// neighbouring elements already stay.
//
// Matrix units take lines of k: [out][in/16][kh][kw][16] where convolutions are on channels in blocks. Factors of f16 may have
// lines along the side instead where subgroups take them; warpgroups take lines of k alone, as do factors of 8 bits.
#include <algorithm>

#include "aotc/schedule/contraction.h"
#include "aotc/schedule/schedule.h"
#include "aotc/schedule/simt/fragments.h"
#include "aotc/schedule/sinks.h"

namespace ingot::aotc::schedule {

using dispatch::Dispatch;
using dispatch::Value;
using dispatch::ValueId;
using dispatch::ValueKind;

namespace {

constexpr int64_t kFewest = 16; // elements along m, n and k: a tile of a product

// The load that a side consists of, converted (f16 or 8 bits in memory) or not.
std::optional<ValueId> side_load(const Dispatch &d, ValueId side) {
  if (auto half = half_load(d, side))
    side = *half;
  else if (auto byte = byte_value(d, side))
    side = *byte;
  const Value &load = d.values[side];
  if (load.kind != ValueKind::kLoad || !load.guards.empty() || !d.operands[load.operand].constant || d.operands[load.operand].packing)
    return std::nullopt;
  for (ValueId i = 0; i < d.values.size(); ++i)
    if (i != side && d.values[i].kind == ValueKind::kLoad && d.values[i].operand == load.operand)
      return std::nullopt;
  for (const Symbol &s : load.expr.symbols())
    if (s.kind() != SymbolKind::kAxis)
      return std::nullopt;
  return side;
}

bool is_unit(const Dispatch &d, const Value &load, uint32_t axis) {
  auto linear = load.expr.linear_in(d.axes[axis].symbol);
  return linear && linear->coefficient.constant() == 1;
}

// Axes of the load's new layout, outermost first; empty where the old one is as good.
std::vector<uint32_t> layout(const Contraction &form, const Value &load, const std::vector<uint32_t> &own, MatrixUnits units) {
  const Dispatch &d = form.d;
  const bool half = load.type == ElementType::kF16, lines_of_k = half || (units != MatrixUnits::kNone && (load.type == ElementType::kF32 || byte_size(load.type) == 1));
  const bool copied = typical_points(d, form.k) % 8 == 0; // 16 bytes at once
  const bool others_do = half ? units != MatrixUnits::kWarpgroup || !copied : !lines_of_k; // lines along the side
  if (own.empty() || form.k.empty() || is_unit(d, load, form.k.back()) == lines_of_k || (is_unit(d, load, own.back()) && others_do))
    return {};
  std::vector<uint32_t> axes;
  auto take = [&](const std::vector<uint32_t> &list) {
    for (uint32_t a : list)
      if (load.expr.depends_on(d.axes[a].symbol))
        axes.push_back(a);
  };
  std::vector<uint32_t> others; // stored axes of neither side, or of the other one
  for (uint32_t a = 0; a < d.axes.size(); ++a)
    if (std::find(own.begin(), own.end(), a) == own.end() && std::find(form.k.begin(), form.k.end(), a) == form.k.end())
      others.push_back(a);
  take(others);
  take(lines_of_k ? own : form.k);
  take(lines_of_k ? form.k : own);
  for (uint32_t a : axes)
    if (!d.axes[a].extent.is_constant())
      return {};
  return axes;
}

Repack relay(Dispatch &d, ValueId value, const std::vector<uint32_t> &axes) {
  Value &load = d.values[value];
  const dispatch::Operand &natural = d.operands[load.operand];
  Repack repack;
  repack.operand = load.operand;
  Dispatch &p = repack.pack;
  p.name = "relay_" + d.name;
  p.nodes = d.nodes;
  p.operands = {natural, natural};
  p.operands[0].name = "natural";
  p.operands[1].name = "prepared";
  p.operands[1].output = true;
  p.operands[1].constant = false;
  Expr packed = 0, here = 0, count = 1;
  std::map<Symbol, Expr> renamed;
  dispatch::Store store;
  for (uint32_t a : axes) {
    const dispatch::Axis &axis = d.axes[a];
    Symbol s = Symbol::axis("p" + std::to_string(a), axis.extent);
    store.axes.push_back(static_cast<uint32_t>(p.axes.size()));
    p.axes.push_back({s, axis.extent});
    renamed.emplace(axis.symbol, s);
    packed = packed * axis.extent + s;
    here = here * axis.extent + axis.symbol;
    count = count * axis.extent;
  }
  Value copied = load;
  copied.operand = 0;
  copied.expr = load.expr.substitute(renamed);
  p.values.push_back(copied);
  p.operands[1].count = count;
  store.operand = 1;
  store.offset = packed;
  p.stores.push_back(store);
  load.expr = here;
  d.operands[load.operand].count = count;
  return repack;
}

} // namespace

std::vector<Repack> prepack_simt(Dispatch &dispatch, MatrixUnits units) {
  auto form = match_contraction(dispatch);
  if (!form)
    return {};
  const ProductAxes own = product_axes(*form);
  auto points = [&](const std::vector<uint32_t> &axes) { return typical_points(form->d, axes); };
  if (points(own.left) < kFewest || points(own.right) < kFewest || points(form->k) < kFewest)
    return {};
  std::vector<Repack> out;
  for (bool left : {true, false}) {
    auto load = side_load(form->d, left ? form->left : form->right);
    if (!load)
      continue;
    const std::vector<uint32_t> axes = layout(*form, form->d.values[*load], left ? own.left : own.right, units);
    Expr count = 1;
    for (uint32_t a : axes)
      count = count * form->d.axes[a].extent;
    const auto have = form->d.operands[form->d.values[*load].operand].count.constant();
    if (!axes.empty() && have && *count.constant() <= *have)
      out.push_back(relay(form->d, *load, axes));
  }
  if (!out.empty())
    dispatch = std::move(form->d);
  return out;
}

} // namespace ingot::aotc::schedule
