// See vectors.h.
#include "aotc/schedule/simt/vectors.h"

#include <algorithm>

namespace ingot::aotc::schedule {

using dispatch::Dispatch;
using dispatch::Guard;
using dispatch::Value;

int64_t run_length(const Dispatch &d, const Value &load, const std::vector<uint32_t> &axes) {
  Expr next = 1;
  int64_t run = 0;
  for (size_t i = axes.size(); i-- > 0;) {
    const Symbol &symbol = d.axes[axes[i]].symbol;
    auto linear = load.expr.linear_in(symbol);
    auto extent = d.axes[axes[i]].extent.constant();
    if (!linear || !(linear->coefficient == next))
      break;
    for (const Guard &g : load.guards)
      if (g.value.depends_on(symbol) || g.extent.depends_on(symbol))
        return run;
    if (!extent)
      return std::max<int64_t>(run, 1); // any number of points, so none for certain
    run = std::max<int64_t>(run, 1) * *extent;
    next = next * *extent;
  }
  return run;
}

bool comes_in_vectors(const Dispatch &d, const Value &load, const std::vector<uint32_t> &axes, int64_t elements) {
  const int64_t run = run_length(d, load, axes);
  if (run == 0 || run % elements != 0)
    return false;
  Expr rest = load.expr;
  int64_t covered = 1;
  for (size_t i = axes.size(); i-- > 0 && covered < run;) {
    rest = rest.linear_in(d.axes[axes[i]].symbol)->rest;
    covered *= d.axes[axes[i]].extent.constant().value_or(1);
  }
  return std::all_of(rest.terms().begin(), rest.terms().end(), [&](const Term &t) { return t.coefficient % elements == 0; });
}

kernel::ValueId within_guards(Lowering &l, const Value &load, kernel::ValueId good) {
  kernel::Builder &b = l.builder();
  for (const Guard &g : load.guards) {
    if (!proves_le(0, g.value))
      good = b.logical_and(good, b.compare(kernel::Opcode::kGe, l.expr(g.value), b.index(0)));
    good = b.logical_and(good, b.lt(l.expr(g.value), l.expr(g.extent)));
  }
  return good;
}

} // namespace ingot::aotc::schedule
