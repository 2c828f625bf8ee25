// Layouts of constants for CPU code: the side of a matrix product that has the lanes, where it is constant, becomes
// panels [batch][ceil(n / 16)][k][16], zero padded; that of an integer dot product [batch][ceil(n / 16)][ceil(k / 4)][16][4].
// See schedule.h and dispatch::Packing.
#include "aotc/base/error.h"
#include "aotc/schedule/blocked.h"
#include "aotc/schedule/contraction.h"
#include "aotc/schedule/lower.h"
#include "aotc/schedule/schedule.h"

namespace ingot::aotc::schedule {

using dispatch::Dispatch;
using dispatch::Value;
using dispatch::ValueKind;

namespace {

// Lays the constant that `value` loads out as panels [batch][ceil(n / 16)][inner][16]; nothing where an extent is not
// known or something else loads it too.
std::vector<Repack> pack(Dispatch &d, dispatch::ValueId value, const dispatch::Packing &packing) {
  Value &load = d.values[value];
  for (uint32_t i = 0; i < d.values.size(); ++i)
    if (i != value && d.values[i].kind == ValueKind::kLoad && d.values[i].operand == load.operand)
      return {};
  auto n = d.axes[packing.lane_axis].extent.constant();
  if (!n || *n < 4)
    return {};
  for (const Symbol &s : load.expr.symbols())
    if (s.kind() != SymbolKind::kAxis)
      return {};
  Expr depth = 1, batch = 1;
  for (uint32_t a : packing.inner_axes) {
    if (!d.axes[a].extent.is_constant())
      return {};
    depth = depth * d.axes[a].extent;
  }
  for (uint32_t a : packing.batch_axes) {
    if (!d.axes[a].extent.is_constant())
      return {};
    batch = batch * d.axes[a].extent;
  }
  const int64_t group = packing.group;
  Expr panels = (*n + kPanel - 1) / kPanel, groups = ceildiv(depth, group);
  Expr count = batch * panels * groups * (kPanel * group);

  Repack repack;
  repack.operand = load.operand;
  Dispatch &p = repack.pack;
  const dispatch::Operand &natural = d.operands[load.operand];
  p.name = "pack_" + d.name;
  p.nodes = d.nodes;
  p.operands = {natural, natural};
  p.operands[0].name = "natural";
  p.operands[1].name = "packed";
  p.operands[1].count = count;
  p.operands[1].output = true;
  p.operands[1].constant = false;
  std::map<Symbol, Expr> to_new;
  dispatch::Store store;
  Expr offset = 0;
  auto axis = [&](const char *name, const Expr &extent) {
    Symbol s = Symbol::axis(name + std::to_string(p.axes.size()), extent);
    store.axes.push_back(static_cast<uint32_t>(p.axes.size()));
    p.axes.push_back({s, extent});
    offset = offset * extent + s;
    return s;
  };
  for (uint32_t a : packing.batch_axes)
    to_new[d.axes[a].symbol] = axis("b", d.axes[a].extent);
  Symbol panel = axis("p", panels);
  std::vector<dispatch::Guard> padding;
  if (group == 1)
    for (uint32_t a : packing.inner_axes)
      to_new[d.axes[a].symbol] = axis("k", d.axes[a].extent);
  Expr outer = group == 1 ? Expr(0) : Expr(axis("k", groups));
  Symbol lane = axis("j", kPanel);
  if (group > 1) {
    Expr flat = outer * group + axis("g", group);
    if (!(groups * group == depth))
      padding.push_back({flat, depth});
    for (size_t i = packing.inner_axes.size(); i-- > 0;) {
      const dispatch::Axis &inner = d.axes[packing.inner_axes[i]];
      to_new[inner.symbol] = i == 0 ? flat : mod(flat, inner.extent);
      flat = floordiv(flat, inner.extent);
    }
  }
  Expr column = Expr(panel) * kPanel + lane;
  to_new[d.axes[packing.lane_axis].symbol] = column;
  Value natural_load = load;
  natural_load.operand = 0;
  natural_load.expr = load.expr.substitute(to_new);
  if (*n % kPanel)
    padding.push_back({column, *n});
  if (!padding.empty()) {
    Value zero;
    zero.type = load.type;
    p.values.push_back(zero);
    natural_load.guards = std::move(padding);
    natural_load.otherwise = 0;
  }
  p.values.push_back(natural_load);
  store.operand = 1;
  store.offset = offset;
  store.value = static_cast<dispatch::ValueId>(p.values.size() - 1);
  p.stores.push_back(store);

  Expr packed = 0;
  for (uint32_t a : packing.batch_axes)
    packed = packed * d.axes[a].extent + d.axes[a].symbol;
  Expr column_in = d.axes[packing.lane_axis].symbol;
  packed = packed * panels + floordiv(column_in, kPanel);
  if (group == 1) {
    for (uint32_t a : packing.inner_axes)
      packed = packed * d.axes[a].extent + d.axes[a].symbol;
    packed = packed * kPanel + mod(column_in, kPanel);
  } else {
    Expr flat = 0;
    for (uint32_t a : packing.inner_axes)
      flat = flat * d.axes[a].extent + d.axes[a].symbol;
    packed = (packed * groups + floordiv(flat, group)) * (kPanel * group) + mod(column_in, kPanel) * group + mod(flat, group);
  }
  load.expr = packed;
  d.operands[load.operand].count = count;
  d.operands[load.operand].packing = packing;
  return {std::move(repack)};
}

} // namespace

std::vector<Repack> prepack_simd(Dispatch &dispatch) {
  dispatch::Packing packing;
  if (auto conv = match_blocked_conv(dispatch)) {
    packing.lane_axis = conv->lane;
    packing.inner_axes = conv->k;
    if (conv->block >= 0)
      packing.batch_axes.push_back(static_cast<uint32_t>(conv->block));
    if (conv->d.operands[conv->d.values[conv->w].operand].packing)
      return {};
    std::vector<Repack> packed = pack(conv->d, conv->w, packing);
    if (!packed.empty())
      dispatch = std::move(conv->d);
    return packed;
  }
  auto form = match_contraction(dispatch);
  if (!form)
    return {};
  if (auto dot = match_dot(*form)) {
    form->right = dot->right;
    packing.group = 4;
  }
  const Value &load = form->d.values[form->right];
  if (load.kind != ValueKind::kLoad || !load.guards.empty() || !form->d.operands[load.operand].constant ||
      form->d.operands[load.operand].packing)
    return {};
  packing.lane_axis = form->n;
  packing.inner_axes = form->k;
  for (uint32_t a : form->batch)
    if (load.expr.depends_on(form->d.axes[a].symbol))
      packing.batch_axes.push_back(a);
  std::vector<Repack> packed = pack(form->d, form->right, packing);
  if (!packed.empty())
    dispatch = std::move(form->d);
  return packed;
}

} // namespace ingot::aotc::schedule
