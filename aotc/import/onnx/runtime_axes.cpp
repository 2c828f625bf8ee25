// Run-time axes: see runtime_axes.h.
#include "aotc/import/onnx/runtime_axes.h"

namespace ingot::aotc::importer {

namespace {

struct Chooser {
  Node &n;
  const std::vector<Expr> &axes;
  int64_t rank;
  const std::function<ValueId(const std::vector<uint32_t> &)> &build;

  // Decides axis `a`, given those that are chosen already; `axes.size()` are chosen in the end.
  ValueId choose(std::vector<uint32_t> chosen, int64_t a) {
    if (chosen.size() == axes.size())
      return build(chosen);
    std::vector<uint32_t> with = chosen;
    with.push_back(static_cast<uint32_t>(a));
    if (rank - a == static_cast<int64_t>(axes.size() - chosen.size())) // all that are left
      return choose(std::move(with), a + 1);
    const Expr condition = names_axis(axes, a, rank);
    if (condition.constant())
      return *condition.constant() ? choose(std::move(with), a + 1) : choose(std::move(chosen), a + 1);
    graph::Graph yes, no;
    const ValueId y = branch(yes, std::move(with), a), z = branch(no, std::move(chosen), a);
    const TensorType ty = n.b.type(y), tz = n.b.type(z);
    TensorType type{ty.element, {}};
    for (size_t i = 0; i < ty.dims.size(); ++i)
      type.dims.push_back(ty.dims[i] == tz.dims[i] ? ty.dims[i] : select(condition, ty.dims[i], tz.dims[i]));
    return n.b.if_else(condition, std::move(yes), std::move(no), {type})[0];
  }

  ValueId branch(graph::Graph &graph, std::vector<uint32_t> chosen, int64_t a) {
    graph::Graph *outer = n.importer().enter_region(graph);
    const ValueId v = choose(std::move(chosen), a + 1);
    graph.outputs.push_back({"y", v});
    n.importer().leave_region(outer);
    return v;
  }
};

} // namespace

std::vector<Expr> axis_values(Node &n, size_t i, int64_t rank) {
  std::vector<Expr> axes = n.shape_values(i, -rank, rank - 1);
  for (const Expr &axis : axes)
    if (axis.constant())
      n.axis(*axis.constant(), rank);
  return axes;
}

Expr names_axis(const std::vector<Expr> &axes, int64_t a, int64_t rank) {
  Expr named = 0;
  for (const Expr &axis : axes)
    named = logical_or(named, logical_or(equal(axis, Expr(a)), equal(axis, Expr(a - rank))));
  return named;
}

ValueId choose_axes(Node &n, const std::vector<Expr> &axes, int64_t rank,
                    const std::function<ValueId(const std::vector<uint32_t> &)> &build) {
  if (static_cast<int64_t>(axes.size()) > rank)
    n.fail("has " + std::to_string(axes.size()) + " axes for rank " + std::to_string(rank));
  if (rank > 5)
    n.fail("axes must be known at compile time above rank 5", "make them an initializer");
  if (axes.size() > 1) {
    Expr count = 0;
    for (int64_t a = 0; a < rank; ++a)
      count = count + names_axis(axes, a, rank);
    n.b.check(equal(count, Expr(static_cast<int64_t>(axes.size()))), "node '" + n.name + "' (" + n.source + "): axes name an axis twice");
  }
  return Chooser{n, axes, rank, build}.choose({}, 0);
}

} // namespace ingot::aotc::importer
