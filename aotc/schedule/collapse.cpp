// Merging of axes. See collapse.h.
#include "aotc/schedule/collapse.h"

#include <algorithm>
#include <functional>

namespace ingot::aotc::schedule {

using dispatch::Dispatch;
using dispatch::ReduceKind;
using dispatch::Value;
using dispatch::ValueKind;

namespace {

void for_each_expr(Dispatch &d, const std::function<void(Expr &)> &visit) {
  for (Value &v : d.values) {
    if (v.kind == ValueKind::kLoad || v.kind == ValueKind::kIndex)
      visit(v.expr);
    for (dispatch::Guard &g : v.guards) {
      visit(g.value);
      visit(g.extent);
    }
  }
  for (dispatch::Store &s : d.stores)
    visit(s.offset);
}

bool is_arg(const Value &v) { return v.kind == ValueKind::kReduce && v.reduce >= ReduceKind::kArgMin; }

bool has(const std::vector<uint32_t> &axes, uint32_t a) { return std::find(axes.begin(), axes.end(), a) != axes.end(); }

// Removes axis `a`, which no expression uses any more.
void remove_axis(Dispatch &d, uint32_t a) {
  auto fix = [&](std::vector<uint32_t> &axes) {
    axes.erase(std::remove(axes.begin(), axes.end(), a), axes.end());
    for (uint32_t &x : axes)
      x -= x > a;
  };
  for (Value &v : d.values)
    fix(v.axes);
  for (dispatch::Store &s : d.stores)
    fix(s.axes);
  d.axes.erase(d.axes.begin() + a);
}

// The smallest constant that some expression divides exactly this symbol by; 0: none.
int64_t least_divisor(Dispatch &d, const Symbol &symbol) {
  int64_t least = 0;
  const std::function<void(const Expr &)> look = [&](const Expr &e) {
    for (const Term &term : e.terms())
      for (const std::shared_ptr<const Atom> &factor : term.factors) {
        for (const Expr &arg : factor->args)
          look(arg);
        if (factor->op != ExprOp::kFloorDiv && factor->op != ExprOp::kMod)
          continue;
        auto divisor = factor->args[1].constant();
        if (divisor && factor->args[0] == Expr(symbol) && (least == 0 || *divisor < least))
          least = *divisor;
      }
  };
  for_each_expr(d, [&](Expr &e) { look(e); });
  return least;
}

// Axis `a` becomes two: its quotient by `divisor`, and after it the rest.
void split_axis(Dispatch &d, uint32_t a, int64_t divisor) {
  const dispatch::Axis whole = d.axes[a];
  const Expr quotients = floordiv(whole.extent, divisor);
  const Symbol outer = Symbol::axis(whole.symbol.name() + "_outer", quotients), inner = Symbol::axis(whole.symbol.name() + "_inner", divisor);
  substitute(d, {{whole.symbol, Expr(outer) * divisor + Expr(inner)}});
  d.axes[a] = {outer, quotients};
  d.axes.insert(d.axes.begin() + a + 1, {inner, divisor});
  auto fix = [&](std::vector<uint32_t> &axes) {
    for (uint32_t &x : axes)
      x += x > a;
    if (auto at = std::find(axes.begin(), axes.end(), a); at != axes.end())
      axes.insert(at + 1, a + 1);
  };
  for (Value &v : d.values)
    fix(v.axes);
  for (dispatch::Store &s : d.stores)
    fix(s.axes);
}

bool can_merge(Dispatch &d, uint32_t p, uint32_t q) {
  const Symbol &sp = d.axes[p].symbol, &sq = d.axes[q].symbol;
  for (const dispatch::Store &s : d.stores)
    if (has(s.axes, p) != has(s.axes, q))
      return false;
  for (const Value &v : d.values)
    if (v.kind == ValueKind::kReduce) {
      if (has(v.axes, p) != has(v.axes, q))
        return false;
      if (has(v.axes, p)) {
        // Reductions go in the order of the axes: p must come right before q.
        auto it = std::find(v.axes.begin(), v.axes.end(), p);
        if (is_arg(v) || it + 1 == v.axes.end() || *(it + 1) != q)
          return false;
      }
    }
  bool ok = true, used = false;
  for_each_expr(d, [&](Expr &e) {
    if (!ok)
      return;
    bool dp = e.depends_on(sp), dq = e.depends_on(sq);
    if (!dp && !dq)
      return;
    used = true;
    auto lp = e.linear_in(sp);
    if (!dp || !dq || !lp || lp->coefficient.depends_on(sq)) {
      ok = false;
      return;
    }
    auto lq = lp->rest.linear_in(sq);
    ok = lq && lp->coefficient == lq->coefficient * d.axes[q].extent;
  });
  return ok && used;
}

} // namespace

void substitute(Dispatch &d, const std::map<Symbol, Expr> &values) {
  for_each_expr(d, [&](Expr &e) { e = e.substitute(values); });
}

Dispatch collapse_axes(const Dispatch &original) {
  Dispatch d = original;
  for (uint32_t a = 0; a < d.axes.size();) {
    bool arg = false;
    for (const Value &v : d.values)
      arg |= is_arg(v) && has(v.axes, a);
    if (d.axes[a].extent.constant() == 1 && !arg) {
      substitute(d, {{d.axes[a].symbol, Expr(0)}});
      remove_axis(d, a);
    } else {
      ++a;
    }
  }
  bool changed = true;
  while (changed) {
    changed = false;
    for (uint32_t p = 0; p < d.axes.size() && !changed; ++p)
      for (uint32_t q = 0; q < d.axes.size() && !changed; ++q)
        if (p != q && can_merge(d, p, q)) {
          Expr extent = d.axes[p].extent * d.axes[q].extent;
          Symbol merged = Symbol::axis(d.axes[q].symbol.name(), extent);
          substitute(d, {{d.axes[p].symbol, Expr(0)}, {d.axes[q].symbol, Expr(merged)}});
          d.axes[q] = {merged, extent};
          remove_axis(d, p);
          changed = true;
        }
  }
  return d;
}

Dispatch split_axes(const Dispatch &original) {
  constexpr size_t kMostAxes = 32;
  Dispatch d = collapse_axes(original);
  for (uint32_t a = 0; a < d.axes.size() && d.axes.size() < kMostAxes;) {
    const int64_t divisor = least_divisor(d, d.axes[a].symbol);
    auto extent = d.axes[a].extent.constant();
    const bool arg = std::any_of(d.values.begin(), d.values.end(), [&](const Value &v) { return is_arg(v) && has(v.axes, a); });
    if (divisor > 1 && extent && *extent > divisor && *extent % divisor == 0 && !arg)
      split_axis(d, a, divisor); // what is left may be divided again
    else
      ++a;
  }
  return d;
}

} // namespace ingot::aotc::schedule
