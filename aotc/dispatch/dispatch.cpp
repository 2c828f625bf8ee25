// Queries, verifier and canonical text of dispatches. The printer and parser of people's text are in text.cpp.
#include "aotc/dispatch/dispatch.h"

#include <functional>
#include <map>
#include <set>

#include "aotc/base/error.h"

namespace ingot::aotc::dispatch {
namespace {

// Calls `visit` for every Expr of the dispatch in canonical order.
void for_each_expr(const Dispatch &d, const std::function<void(const Expr &)> &visit) {
  for (const Axis &axis : d.axes)
    visit(axis.extent);
  for (const Value &v : d.values) {
    if (v.kind == ValueKind::kIndex || v.kind == ValueKind::kLoad)
      visit(v.expr);
    for (const Guard &g : v.guards) {
      visit(g.value);
      visit(g.extent);
    }
  }
  for (const Store &s : d.stores)
    visit(s.offset);
  if (d.loop)
    for (const Expr &e : d.loop->params)
      visit(e);
  if (d.sequence) {
    visit(d.sequence->trips);
    for (const Sequence::Step &step : d.sequence->steps)
      for_each_expr(step.dispatch, visit);
  }
}

std::string verify_sequence(const Dispatch &d) {
  const Sequence &s = *d.sequence;
  if (!d.axes.empty() || !d.values.empty() || !d.stores.empty() || !d.checks.empty() || d.loop)
    return "has both a sequence and a body";
  if (!s.iteration || s.iteration.kind() != SymbolKind::kHost)
    return "the sequence's iteration is no host symbol";
  if (s.trips.depends_on(s.iteration))
    return "the sequence's trips depend on its iteration";
  for (const Operand &local : s.locals)
    if (!local.count.is_constant())
      return "local " + local.name + " has a symbolic size";
  if (s.steps.empty())
    return "the sequence has no steps";
  for (const Sequence::Step &step : s.steps) {
    const std::string at = "step " + step.dispatch.name + ": ";
    if (step.dispatch.loop || step.dispatch.sequence)
      return at + "has no body";
    if (std::string problem = verify(step.dispatch); !problem.empty())
      return at + problem;
    if (step.operands.size() != step.dispatch.operands.size())
      return at + "has " + std::to_string(step.dispatch.operands.size()) + " operands, " +
             std::to_string(step.operands.size()) + " are given";
    for (const Axis &axis : step.dispatch.axes)
      if (axis.extent.depends_on(s.iteration))
        return at + "the extent of axis " + axis.symbol.name() + " depends on the iteration";
    for (size_t i = 0; i < step.operands.size(); ++i) {
      const size_t n = step.operands[i];
      if (n >= d.operands.size() + s.locals.size())
        return at + "uses operand " + std::to_string(n) + " of " + std::to_string(d.operands.size() + s.locals.size());
      const Operand &outer = n < d.operands.size() ? d.operands[n] : s.locals[n - d.operands.size()];
      if (outer.type != step.dispatch.operands[i].type)
        return at + "operand " + outer.name + " has another type";
      if (step.dispatch.operands[i].output && n < d.operands.size() && !outer.output)
        return at + "writes " + outer.name + ", which is an input";
      for (size_t k = 0; k < i; ++k) // buffers of a kernel never overlap
        if (step.operands[k] == n && (step.dispatch.operands[k].output || step.dispatch.operands[i].output))
          return at + "reads and writes " + outer.name;
    }
  }
  return {};
}

} // namespace

std::vector<Symbol> Dispatch::free_symbols() const {
  std::vector<Symbol> found;
  for_each_expr(*this, [&](const Expr &e) {
    for (const Symbol &s : e.symbols()) {
      if ((s.kind() != SymbolKind::kDim && s.kind() != SymbolKind::kHost) || (sequence && s == sequence->iteration))
        continue;
      bool known = false;
      for (const Symbol &f : found)
        known = known || f == s;
      if (!known)
        found.push_back(s);
    }
  });
  return found;
}

Dispatch rewrite(const Dispatch &d, const std::function<Expr(const Expr &)> &change_free, bool canonical) {
  Dispatch out = d;
  std::map<Symbol, Expr> renamed;
  for (size_t i = 0; i < d.axes.size(); ++i) {
    const Expr extent = change_free(d.axes[i].extent).substitute(renamed);
    const Symbol axis = Symbol::axis(canonical ? "a" + std::to_string(i) : d.axes[i].symbol.name(), extent);
    renamed.emplace(d.axes[i].symbol, axis);
    out.axes[i] = {axis, extent};
  }
  auto change = [&](Expr &e) {
    for (const Symbol &s : e.symbols()) // gathered indices are named by their value's number
      if (s.kind() == SymbolKind::kValue && !renamed.count(s))
        renamed.emplace(s, Symbol::value("v" + std::to_string(s.value()), s.value(), change_free(*s.extent()).substitute(renamed)));
    e = change_free(e).substitute(renamed);
  };
  for (Value &v : out.values) {
    change(v.expr);
    for (Guard &g : v.guards) {
      change(g.value);
      change(g.extent);
    }
  }
  for (Store &s : out.stores)
    change(s.offset);
  for (Operand &o : out.operands)
    change(o.count);
  return out;
}

std::vector<uint64_t> Dispatch::axis_sets() const {
  std::vector<uint64_t> sets(values.size(), 0);
  auto of_expr = [&](const Expr &e) {
    uint64_t set = 0;
    for (const Symbol &s : e.symbols()) {
      if (s.kind() == SymbolKind::kAxis) {
        for (size_t a = 0; a < axes.size(); ++a)
          if (axes[a].symbol == s)
            set |= uint64_t{1} << a;
      } else if (s.kind() == SymbolKind::kValue && s.value() < values.size()) {
        set |= sets[s.value()];
      }
    }
    return set;
  };
  for (size_t i = 0; i < values.size(); ++i) {
    const Value &v = values[i];
    uint64_t set = 0;
    if (v.kind == ValueKind::kIndex || v.kind == ValueKind::kLoad)
      set |= of_expr(v.expr);
    for (const Guard &g : v.guards)
      set |= of_expr(g.value) | of_expr(g.extent);
    if (v.otherwise != kNoValue)
      set |= sets[v.otherwise];
    for (ValueId arg : v.args)
      set |= sets[arg];
    if (v.kind == ValueKind::kReduce)
      for (uint32_t axis : v.axes)
        set &= ~(uint64_t{1} << axis);
    sets[i] = set;
  }
  return sets;
}

std::string verify(const Dispatch &d) {
  std::string where = "dispatch " + d.name + ": ";
  if (d.name.empty())
    return "dispatch: has no name";
  if (d.sequence) {
    std::string problem = verify_sequence(d);
    return problem.empty() ? problem : where + problem;
  }
  if (d.loop) {
    if (!d.axes.empty() || !d.values.empty() || !d.stores.empty())
      return where + "has both a loop and a body";
    if (d.loop->kernel.buffer_count() != d.operands.size())
      return where + "the loop's kernel has " + std::to_string(d.loop->kernel.buffer_count()) + " buffers for " +
             std::to_string(d.operands.size()) + " operands";
    return {};
  }
  if (d.axes.size() > 64)
    return where + "has " + std::to_string(d.axes.size()) + " axes, at most 64 are allowed";
  std::set<std::string> names;
  for (const Axis &axis : d.axes) {
    if (!axis.symbol || axis.symbol.kind() != SymbolKind::kAxis)
      return where + "an axis has no axis symbol";
    if (!names.insert(axis.symbol.name()).second)
      return where + "two axes are named " + axis.symbol.name();
    for (const Symbol &s : axis.extent.symbols())
      if (s.kind() != SymbolKind::kDim && s.kind() != SymbolKind::kHost)
        return where + "the extent of axis " + axis.symbol.name() + " depends on " + s.name();
  }
  auto in_scope = [&](const Expr &e, size_t before, std::string &problem) {
    for (const Symbol &s : e.symbols()) {
      if (s.kind() == SymbolKind::kAxis) {
        bool known = false;
        for (const Axis &axis : d.axes)
          known = known || axis.symbol == s;
        if (!known)
          problem = "uses " + s.name() + ", which is no axis of it";
      } else if (s.kind() == SymbolKind::kValue) {
        if (s.value() >= before)
          problem = "uses value %" + std::to_string(s.value()) + " before it is defined";
        else if (!is_integer(d.values[s.value()].type))
          problem = "uses value %" + std::to_string(s.value()) + " as an index, but it is " +
                    std::string(name(d.values[s.value()].type));
      }
    }
    return problem.empty();
  };
  bool outputs = false;
  for (const Operand &o : d.operands) {
    if (outputs && !o.output)
      return where + "input " + o.name + " comes after an output";
    outputs = outputs || o.output;
  }
  for (size_t i = 0; i < d.values.size(); ++i) {
    const Value &v = d.values[i];
    std::string at = where + "value %" + std::to_string(i) + ": ";
    std::string problem;
    for (ValueId arg : v.args)
      if (arg >= i)
        return at + "uses value %" + std::to_string(arg) + " before it is defined";
    switch (v.kind) {
    case ValueKind::kConst:
      break;
    case ValueKind::kIndex:
      if (!in_scope(v.expr, i, problem))
        return at + problem;
      if (!is_integer(v.type))
        return at + "an index has an integer type, not " + std::string(name(v.type));
      break;
    case ValueKind::kLoad: {
      if (v.operand >= d.operands.size() || d.operands[v.operand].output)
        return at + "loads from operand " + std::to_string(v.operand) + ", which is no input";
      const Operand &o = d.operands[v.operand];
      if (o.type != v.type)
        return at + "loads " + std::string(name(v.type)) + " from " + o.name + ", which is " + std::string(name(o.type));
      if (!in_scope(v.expr, i, problem))
        return at + problem;
      for (const Guard &g : v.guards)
        if (!in_scope(g.value, i, problem) || !in_scope(g.extent, i, problem))
          return at + problem;
      if (!v.guards.empty() && (v.otherwise == kNoValue || v.otherwise >= i))
        return at + "a guarded load needs an `otherwise` value defined before it";
      if (v.guards.empty() && v.otherwise != kNoValue)
        return at + "an unguarded load has an `otherwise` value";
      if (v.otherwise != kNoValue && d.values[v.otherwise].type != v.type)
        return at + "`otherwise` has another type";
      if (v.guards.empty() && (v.expr.upper() < 0 || (o.count.upper() != INT64_MAX && v.expr.lower() >= o.count.upper() &&
                                                      o.count.upper() > 0)))
        return at + "offset " + v.expr.to_string() + " is outside " + o.name + " of " + o.count.to_string() + " elements";
      break;
    }
    case ValueKind::kOp:
      if (v.args.empty() || v.args.size() > 3)
        return at + "an op has one to three operands";
      break;
    case ValueKind::kReduce:
      if (v.args.size() != 1 || v.axes.empty())
        return at + "a reduce has one operand and at least one axis";
      for (uint32_t axis : v.axes)
        if (axis >= d.axes.size())
          return at + "reduces over axis " + std::to_string(axis) + ", there are " + std::to_string(d.axes.size());
      if (v.reduce >= ReduceKind::kArgMin && v.axes.size() != 1)
        return at + "an arg reduction has exactly one axis";
      break;
    }
  }
  if (d.stores.empty())
    return where + "stores nothing";
  std::vector<uint64_t> sets = d.axis_sets();
  for (const Store &s : d.stores) {
    std::string problem;
    if (s.operand >= d.operands.size() || !d.operands[s.operand].output)
      return where + "stores to operand " + std::to_string(s.operand) + ", which is no output";
    if (s.value >= d.values.size())
      return where + "stores a value that does not exist";
    if (d.values[s.value].type != d.operands[s.operand].type)
      return where + "stores " + std::string(name(d.values[s.value].type)) + " to " + d.operands[s.operand].name +
             ", which is " + std::string(name(d.operands[s.operand].type));
    if (!in_scope(s.offset, d.values.size(), problem))
      return where + "store to " + d.operands[s.operand].name + ": " + problem;
    uint64_t mask = 0;
    for (uint32_t axis : s.axes) {
      if (axis >= d.axes.size())
        return where + "a store runs over axis " + std::to_string(axis);
      mask |= uint64_t{1} << axis;
    }
    if (sets[s.value] & ~mask)
      return where + "a stored value depends on an axis that its store does not run over";
  }
  for (const Check &c : d.checks)
    if (c.condition >= d.values.size() || d.values[c.condition].type != ElementType::kBool)
      return where + "a check's condition is not a bool value";
  return {};
}

} // namespace ingot::aotc::dispatch
