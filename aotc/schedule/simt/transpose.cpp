// Elementwise dispatches that read across memory: transposes, and what is fused with them.
//
//   a workgroup a square of `kSide` x `kSide` points of two axes, the one that stores run along and the one that those loads do:
//     neighbouring threads read along the loads' axis into workgroup memory
//     neighbouring threads take their elements from there along the stores' axis, compute and store
#include <algorithm>

#include "aotc/schedule/collapse.h"
#include "aotc/schedule/internal.h"
#include "aotc/schedule/simt/threads.h"
#include "aotc/schedule/sinks.h"

namespace ingot::aotc::schedule {

using dispatch::Dispatch;
using dispatch::Value;
using dispatch::ValueKind;
using kernel::ValueId;
using kernel::Values;

namespace {

constexpr int64_t kSide = 32, kRowsAtOnce = 8, kPitch = kSide + 1; // neighbouring rows start in different banks
constexpr uint32_t kThreads = kSide * kRowsAtOnce;
constexpr int64_t kWorthwhile = 16; // shorter axes fit the caches' lines anyway

struct Crossing {
  Dispatch d;
  uint32_t along_store = 0, along_load = 0;
  std::vector<dispatch::ValueId> loads; // that read across
};

bool unit(const Dispatch &d, const Expr &e, uint32_t axis) {
  auto linear = e.linear_in(d.axes[axis].symbol);
  return linear && linear->coefficient.constant() == 1;
}

std::optional<Crossing> match(const Dispatch &original) {
  if (original.loop || original.stores.empty() || !original.checks.empty())
    return std::nullopt;
  Crossing c;
  c.d = collapse_axes(original);
  const Dispatch &d = c.d;
  if (std::any_of(d.values.begin(), d.values.end(), [](const Value &v) { return v.kind == ValueKind::kReduce; }))
    return std::nullopt;
  const std::vector<uint32_t> &axes = d.stores[0].axes;
  for (const dispatch::Store &s : d.stores)
    if (s.axes != axes)
      return std::nullopt;
  auto store = std::find_if(axes.begin(), axes.end(), [&](uint32_t a) { return unit(d, d.stores[0].offset, a); });
  if (store == axes.end())
    return std::nullopt;
  c.along_store = *store;
  for (dispatch::ValueId i = 0; i < d.values.size(); ++i) {
    const Value &v = d.values[i];
    if (v.kind != ValueKind::kLoad || !v.expr.depends_on(d.axes[c.along_store].symbol) || unit(d, v.expr, c.along_store))
      continue;
    auto load = std::find_if(axes.begin(), axes.end(), [&](uint32_t a) { return a != c.along_store && unit(d, v.expr, a); });
    if (load == axes.end() || (!c.loads.empty() && c.along_load != *load) || byte_size(to_scalar(v.type)) != 4)
      return std::nullopt;
    c.along_load = *load;
    c.loads.push_back(i);
  }
  if (c.loads.empty() || c.loads.size() > 3 || typical(d.axes[c.along_store].extent) < kWorthwhile || typical(d.axes[c.along_load].extent) < kWorthwhile)
    return std::nullopt;
  return c;
}

} // namespace

std::optional<Scheduled> schedule_simt_transpose(const Dispatch &original, const TargetRecord &record) {
  auto c = match(original);
  if (!c || record.max_workgroup_invocations < kThreads || c->loads.size() * kSide * kPitch * 4 > record.workgroup_memory_bytes)
    return std::nullopt;
  const Dispatch &d = c->d;
  Scheduled out;
  out.kernel.name = d.name;
  out.kernel.kind = record.kernel_class;
  out.kernel.local_size = {kThreads, 1, 1};
  out.description = "simt_transpose";
  kernel::Builder b(out.kernel);
  Lowering l(b, d, original.free_symbols());
  std::vector<uint32_t> tiles, rest;
  for (dispatch::ValueId load : c->loads)
    tiles.push_back(b.add_array("tile" + std::to_string(tiles.size()), kernel::Space::kWorkgroup, to_scalar(d.values[load].type), kSide * kPitch));
  for (uint32_t a : d.stores[0].axes)
    if (a != c->along_store && a != c->along_load)
      rest.push_back(a);
  const Expr across = ceildiv(d.axes[c->along_store].extent, kSide), down = ceildiv(d.axes[c->along_load].extent, kSide);
  const Expr groups = extent_product(d, rest) * across * down;
  out.grid = folded_grid(groups);
  ValueId group = group_number(b), thread = b.local_id(0);
  b.if_then(b.lt(group, l.expr(groups)), [&] {
    Lowering::Scope scope(l);
    ValueId across_count = l.expr(across), down_count = l.expr(down), number = b.div(group, across_count);
    ValueId store0 = b.mul(b.rem(group, across_count), b.index(kSide)), load0 = b.mul(b.rem(number, down_count), b.index(kSide));
    if (!rest.empty())
      bind_flat(l, rest, b.div(number, down_count));
    ValueId fast = b.rem(thread, b.index(kSide)), slow = b.div(thread, b.index(kSide));
    auto squares = [&](bool reading, const std::function<void(ValueId)> &body) {
      for (int64_t i = 0; i < kSide; i += kRowsAtOnce) {
        ValueId row = b.add(slow, b.index(i)), in_load = reading ? fast : row, in_store = reading ? row : fast;
        ValueId along_load = b.add(load0, in_load), along_store = b.add(store0, in_store);
        ValueId there = b.logical_and(b.lt(along_load, l.extent(c->along_load)), b.lt(along_store, l.extent(c->along_store)));
        b.if_then(there, [&] {
          Lowering::Scope inner(l);
          l.bind(c->along_load, along_load);
          l.bind(c->along_store, along_store);
          body(b.add(b.mul(in_store, b.index(kPitch)), in_load));
        });
      }
    };
    squares(true, [&](ValueId slot) {
      for (size_t k = 0; k < tiles.size(); ++k)
        b.store(tiles[k], slot, l.eval(c->loads[k]));
    });
    b.barrier();
    squares(false, [&](ValueId slot) {
      for (size_t k = 0; k < tiles.size(); ++k)
        l.set(c->loads[k], b.load(tiles[k], slot));
      for (const dispatch::Store &s : d.stores)
        l.store(s);
    });
  });
  return out;
}

} // namespace ingot::aotc::schedule
