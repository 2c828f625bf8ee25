// Verifier: every op obeys check.h, values are defined once and before use, symbols are bound before use.
#include <set>
#include <unordered_set>

#include "aotc/graph/check.h"

namespace ingot::aotc::graph {

namespace {

struct Verifier {
  const Function &function;
  std::vector<bool> defined; // somewhere
  std::vector<bool> visible; // here
  std::set<Symbol> bound;
  std::string problem;
  std::set<ValueId> states = {};  // values that are a state's memory

  bool fail(const std::string &where, const std::string &what) {
    if (problem.empty())
      problem = where + ": " + what;
    return false;
  }

  bool define(ValueId v, const std::string &where) {
    if (v >= function.values.size())
      return fail(where, "value %" + std::to_string(v) + " does not exist");
    if (defined[v])
      return fail(where, "value %" + std::to_string(v) + " is defined twice");
    defined[v] = visible[v] = true;
    return true;
  }

  bool bound_expr(const Expr &expr, const std::string &where) {
    for (const Symbol &s : expr.symbols()) {
      if (s.kind() != SymbolKind::kDim && s.kind() != SymbolKind::kHost)
        return fail(where, "'" + s.name() + "' is neither a dim nor a host scalar");
      if (!bound.count(s))
        return fail(where, "'" + s.name() + "' is used before it is bound");
    }
    return true;
  }

  bool type(ValueId v, const std::string &where) {
    for (const Expr &dim : function.values[v].type.dims)
      if (!bound_expr(dim, where))
        return false;
    return true;
  }

  bool graph(const Graph &graph, const std::string &where, bool top) {
    std::set<std::string> names;
    for (const Signature &input : graph.inputs) {
      if (!define(input.value, where + " input '" + input.name + "'"))
        return false;
      if (top && !names.insert(input.name).second)
        return fail(where, "two inputs are named '" + input.name + "'");
      if (!type(input.value, where + " input '" + input.name + "'"))
        return false;
    }
    for (size_t i = 0; i < graph.ops.size(); ++i)
      if (!op(graph.ops[i], where + " op " + std::to_string(i) + " (" + std::string(name(graph.ops[i].code)) + ", node '" +
                                graph.ops[i].node + "')"))
        return false;
    names.clear();
    for (const Signature &output : graph.outputs) {
      if (output.value >= function.values.size() || !visible[output.value])
        return fail(where, "output '" + output.name + "' is not defined");
      if (top && !names.insert(output.name).second)
        return fail(where, "two outputs are named '" + output.name + "'");
    }
    return true;
  }

  bool op(const Op &op, const std::string &where) {
    for (ValueId v : op.operands)
      if (v >= function.values.size() || !visible[v])
        return fail(where, "operand %" + std::to_string(v) + " is not defined here");
    for (const Expr &expr : op.exprs)
      if (!bound_expr(expr, where))
        return false;
    if (op.loop) {
      if ((op.loop->trip_count && !bound_expr(*op.loop->trip_count, where)) ||
          (op.loop->initial_condition && !bound_expr(*op.loop->initial_condition, where)))
        return false;
    }
    // Values and symbols of a region end with it; the loop's trips, sizes and the read scalar live on.
    for (const Graph &region : op.regions) {
      const std::vector<bool> outer_visible = visible;
      const std::set<Symbol> outer_bound = bound;
      if (op.loop) {
        bound.insert(op.loop->iteration);
        bound.insert(op.sizes.begin(), op.sizes.end());
      }
      if (!graph(region, where + " region", false))
        return false;
      for (const Expr &size : region.sizes)
        if (!bound_expr(size, where + " region"))
          return false;
      visible = outer_visible;
      bound = outer_bound;
    }
    if ((op.code == Opcode::kReadScalar || op.code == Opcode::kBind) && op.symbol)
      bound.insert(op.symbol);
    bound.insert(op.sizes.begin(), op.sizes.end());
    bound.insert(op.symbols.begin(), op.symbols.end());
    if (op.loop)
      bound.insert(op.loop->trips);
    const std::string rule = check_op(function, op);
    if (!rule.empty())
      return fail(where, rule);
    for (ValueId v : op.results)
      if (!define(v, where) || !type(v, where))
        return false;
    if (op.code == Opcode::kAppend && !states.count(op.operands[0]))
      return fail(where, "what is appended to is no state");
    if (op.code == Opcode::kState || op.code == Opcode::kAppend)
      states.insert(op.results[0]);
    if (op.code == Opcode::kGather && op.ints.size() > 1 &&
        (op.ints[1] < 0 || static_cast<size_t>(op.ints[1]) >= function.sites.size()))
      return fail(where, "error site does not exist");
    return true;
  }
};

} // namespace

std::string verify(const Function &function) {
  Verifier verifier{function, std::vector<bool>(function.values.size()), std::vector<bool>(function.values.size()), {}, ""};
  for (const Symbol &dim : function.dims)
    verifier.bound.insert(dim);
  verifier.graph(function.graph, function.name, true);
  return verifier.problem;
}

} // namespace ingot::aotc::graph
