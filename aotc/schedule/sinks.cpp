// Stores and checks of a dispatch. See sinks.h.
#include "aotc/schedule/sinks.h"

#include <algorithm>

#include "aotc/base/error.h"

namespace ingot::aotc::schedule {

using kernel::ValueId;
using kernel::Values;

std::vector<Sink> sinks_of(const dispatch::Dispatch &d) {
  std::vector<Sink> sinks;
  std::vector<uint64_t> sets = d.axis_sets();
  for (const dispatch::Store &s : d.stores) {
    Sink sink;
    sink.store = &s;
    sink.axes = s.axes;
    std::sort(sink.axes.begin(), sink.axes.end());
    sink.values = {s.value};
    for (const Symbol &symbol : s.offset.symbols())
      if (symbol.kind() == SymbolKind::kValue)
        sink.values.push_back(symbol.value());
    sinks.push_back(std::move(sink));
  }
  for (const dispatch::Check &c : d.checks) {
    Sink sink;
    sink.check = &c;
    for (uint32_t a = 0; a < d.axes.size(); ++a)
      if (sets[c.condition] & axis_bit(a))
        sink.axes.push_back(a);
    sink.values = {c.condition};
    sinks.push_back(std::move(sink));
  }
  return sinks;
}

std::vector<uint32_t> row_axes(const dispatch::Dispatch &d) {
  uint64_t reduced = 0;
  for (const dispatch::Value &v : d.values)
    if (v.kind == dispatch::ValueKind::kReduce)
      for (uint32_t a : v.axes)
        reduced |= axis_bit(a);
  uint64_t common = ~uint64_t{0};
  for (const dispatch::Store &s : d.stores) {
    uint64_t own = 0;
    for (uint32_t a : s.axes)
      own |= axis_bit(a);
    common &= own;
  }
  std::vector<uint32_t> rows;
  for (uint32_t a = 0; a < d.axes.size() && !d.stores.empty(); ++a)
    if ((common & ~reduced) & axis_bit(a))
      rows.push_back(a);
  return rows;
}

bool checks_rows_only(const dispatch::Dispatch &d, const std::vector<uint32_t> &rows) {
  uint64_t row_set = 0;
  for (uint32_t a : rows)
    row_set |= axis_bit(a);
  std::vector<uint64_t> sets = d.axis_sets();
  return std::all_of(d.checks.begin(), d.checks.end(), [&](const dispatch::Check &c) { return !(sets[c.condition] & ~row_set); });
}

Expr extent_product(const dispatch::Dispatch &d, const std::vector<uint32_t> &axes) {
  std::vector<Expr> dims;
  for (uint32_t a : axes)
    dims.push_back(d.axes[a].extent);
  return product(dims);
}

kernel::Values unflatten(Lowering &l, const std::vector<uint32_t> &axes, ValueId flat) {
  kernel::Builder &b = l.builder();
  kernel::Values out(axes.size());
  for (size_t i = axes.size(); i-- > 1;) {
    ValueId n = l.extent(axes[i]);
    out[i] = b.rem(flat, n);
    flat = b.div(flat, n);
  }
  if (!out.empty())
    out[0] = flat;
  return out;
}

void bind_axes(Lowering &l, const std::vector<uint32_t> &axes, const kernel::Values &values) {
  for (size_t i = 0; i < axes.size(); ++i)
    l.bind(axes[i], values[i]);
}

void bind_flat(Lowering &l, const std::vector<uint32_t> &axes, ValueId flat) { bind_axes(l, axes, unflatten(l, axes, flat)); }

void emit_sink(Lowering &l, const Sink &sink) {
  std::vector<uint32_t> open;
  for (uint32_t a : sink.axes)
    if (!(l.bound() & axis_bit(a)))
      open.push_back(a);
  Lowering::Scope scope(l);
  l.loops(open, 0, sink.values, {}, [&](const Values &) {
    if (sink.store)
      l.store(*sink.store);
    else
      l.builder().error_if(l.eval(sink.check->condition), sink.check->code, sink.check->site);
    return Values{};
  });
}

int64_t typical(const Expr &e) {
  if (auto c = e.constant())
    return *c;
  const std::vector<Symbol> symbols = e.symbols();
  if (std::any_of(symbols.begin(), symbols.end(), [](const Symbol &s) { return s.usual() != 0; })) {
    auto value = e.evaluate([](const Symbol &s) -> std::optional<int64_t> {
      if (s.kind() == SymbolKind::kAxis || s.kind() == SymbolKind::kValue)
        return std::nullopt;
      return s.usual() != 0 ? s.usual() : typical(Expr(s));
    });
    if (value)
      return std::max<int64_t>(1, *value);
  }
  int64_t lower = e.lower(), upper = e.upper();
  return std::max<int64_t>(1, std::max(lower, std::min<int64_t>(upper, 64)));
}

int64_t typical_points(const dispatch::Dispatch &d, const std::vector<uint32_t> &axes) {
  int64_t n = 1;
  for (uint32_t a : axes)
    n = std::min<int64_t>(1 << 24, n * std::max<int64_t>(1, typical(d.axes[a].extent)));
  return n;
}

} // namespace ingot::aotc::schedule
