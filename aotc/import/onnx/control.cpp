// If and Loop. A condition that is known picks its branch at compile time; otherwise it is a host expression, read from
// the device where it must be.
#include <algorithm>

#include "aotc/import/onnx/algebra.h"
#include "aotc/import/onnx/host_values.h"
#include "aotc/import/onnx/math.h"
#include "aotc/import/onnx/subgraph.h"

namespace ingot::aotc::importer {

namespace {

constexpr int64_t kFar = 0x7fffffff;

} // namespace

void bound_inside(const graph::Graph &graph, std::set<Symbol> &out) {
  for (const graph::Op &op : graph.ops) {
    if (op.symbol)
      out.insert(op.symbol);
    out.insert(op.symbols.begin(), op.symbols.end());
    if (op.loop) {
      out.insert(op.loop->trips);
      out.insert(op.loop->iteration);
    }
    for (const graph::Graph &region : op.regions)
      bound_inside(region, out);
  }
}

bool free_of(const Expr &e, const std::set<Symbol> &symbols) {
  for (const Symbol &s : e.symbols())
    if (symbols.count(s))
      return false;
  return true;
}

namespace {

struct Branch {
  graph::Graph graph;
  std::vector<ValuePtr> outputs;
  std::set<Symbol> inside;
};

} // namespace

std::vector<ValuePtr> import_body(Node &n, Scope &scope, const onnx::GraphProto &proto) {
  Importer &importer = n.importer();
  const size_t before = importer.problems();
  importer.import_initializers(scope, proto);
  std::set<std::string> names;
  for (const auto &output : proto.output())
    names.insert(output.name());
  importer.import_nodes(scope, proto.node(), names);
  n.b.set_origin(n.name, n.source);
  if (importer.problems() != before)
    throw Refusal{"", ""}; // reported already
  std::vector<ValuePtr> outputs;
  for (const auto &output : proto.output()) {
    outputs.push_back(importer.find(scope, output.name()));
    if (outputs.back()->poisoned)
      throw Refusal{"", ""};
  }
  return outputs;
}

namespace {

Branch import_branch(Node &n, const char *attribute) {
  Branch branch;
  graph::Graph *outer = n.importer().enter_region(branch.graph);
  Scope scope{&n.scope(), {}};
  branch.outputs = import_body(n, scope, n.graph_attr(attribute));
  for (const ValuePtr &v : branch.outputs)
    n.importer().host(*v); // while its symbols are visible
  for (const ValuePtr &v : branch.outputs)
    branch.graph.outputs.push_back({v->name, n.importer().materialise(*v)});
  n.importer().leave_region(outer);
  bound_inside(branch.graph, branch.inside);
  return branch;
}

void import_if(Node &n) {
  n.need_inputs(1, 1);
  if (n.element(0) != ElementType::kBool || !(n.type(0).elements() == Expr(1)))
    n.fail("the condition must be one bool, got " + to_string(n.type(0)));
  Expr condition;
  if (const auto *host = n.host(0))
    condition = (*host)[0];
  else
    condition = n.b.read_scalar(n.as_scalar(n.in(0)), n.importer().unique_symbol(n.name + "_condition"), 0, 1);
  if (condition.constant()) { // the other branch is not even looked at: its ranks may differ
    Scope scope{&n.scope(), {}};
    const auto outputs = import_body(n, scope, n.graph_attr(*condition.constant() ? "then_branch" : "else_branch"));
    if (outputs.size() < n.outputs())
      n.fail("the branch has " + std::to_string(outputs.size()) + " outputs, the node " + std::to_string(n.outputs()));
    for (size_t i = 0; i < n.outputs(); ++i)
      n.set_value(i, outputs[i]);
    return;
  }
  Branch a = import_branch(n, "then_branch"), b = import_branch(n, "else_branch");
  if (a.outputs.size() != n.outputs() || b.outputs.size() != n.outputs())
    n.fail("the branches have " + std::to_string(a.outputs.size()) + " and " + std::to_string(b.outputs.size()) +
           " outputs, the node has " + std::to_string(n.outputs()));
  std::vector<TensorType> types;
  std::vector<std::optional<HostType>> host_types;
  for (size_t i = 0; i < n.outputs(); ++i) {
    host_types.push_back(a.outputs[i]->host_type && b.outputs[i]->host_type ? merge(*a.outputs[i]->host_type, *b.outputs[i]->host_type) : std::nullopt);
    if ((a.outputs[i]->host_type || b.outputs[i]->host_type) && !host_types.back())
      n.fail("the branches give values of different kinds for output " + std::to_string(i));
    const TensorType &ta = a.outputs[i]->type, &tb = b.outputs[i]->type;
    const std::string both = to_string(ta) + " and " + to_string(tb);
    if (ta.element != tb.element || ta.dims.size() != tb.dims.size())
      n.fail("the branches give " + both + " for output " + std::to_string(i),
             "both branches of a condition known at run time must agree in type and rank");
    TensorType type{ta.element, {}};
    for (size_t d = 0; d < ta.dims.size(); ++d) {
      if (!free_of(ta.dims[d], a.inside) || !free_of(tb.dims[d], b.inside))
        n.fail("the size of output " + std::to_string(i) + " (" + both + ") depends on data inside a branch");
      type.dims.push_back(ta.dims[d] == tb.dims[d] ? ta.dims[d] : select(condition, ta.dims[d], tb.dims[d]));
    }
    types.push_back(std::move(type));
  }
  const std::vector<ValueId> results = n.b.if_else(condition, std::move(a.graph), std::move(b.graph), types);
  for (size_t i = 0; i < n.outputs(); ++i)
    if (host_types[i])
      n.set_host_value(i, results[i], *host_types[i]);
    else
      n.set(i, results[i]);
}

// Of a list or an optional after the loop: what the body gives it, if it may also be what it was before.
HostType carried_type(Node &n, const HostType &before, const HostType &after) {
  HostType from = before;
  if (before.kind == HostType::Kind::kOptional && after.kind == HostType::Kind::kList && before.list) {
    from.kind = HostType::Kind::kList;
    from.list = false;
  }
  const auto type = merge(from, after);
  if (!type)
    n.fail("a carried value is " + to_string(before) + " before and " + to_string(after) + " after an iteration");
  return *type;
}

// before: Loop(m, cond, v...) body(i, cond, v...) -> (cond, v..., scan...); after: loop with the trip count and the
// conditions as host values, the iteration number as a host symbol
void import_loop(Node &n) {
  const onnx::GraphProto &body = n.graph_attr("body");
  if (n.inputs() < 2 || body.input_size() != static_cast<int>(n.inputs()) || body.output_size() < body.input_size() - 1)
    n.fail("has " + std::to_string(n.inputs()) + " inputs; its body has " + std::to_string(body.input_size()) +
           " inputs and " + std::to_string(body.output_size()) + " outputs");
  const size_t carried = n.inputs() - 2, scans = static_cast<size_t>(body.output_size()) - 1 - carried;
  if (n.outputs() > carried + scans)
    n.fail("has " + std::to_string(n.outputs()) + " outputs, its body gives " + std::to_string(carried + scans));
  graph::LoopInfo info;
  info.carried = static_cast<uint32_t>(carried);
  info.scans = static_cast<uint32_t>(scans);
  if (n.has(0)) {
    if (const auto *host = n.host(0); host && host->size() == 1) {
      if (!(*host)[0].constant() || *(*host)[0].constant() < kFar) // beyond that it is "for ever"
        info.trip_count = max((*host)[0], Expr(0));
    } else {
      // At run time too: clamped on the device, so that the host value has a range.
      const ValueId m = n.b.convert(ElementType::kI64, n.as_scalar(n.in(0)));
      const ValueId clamped = n.b.map(K::kMax, {n.b.map(K::kMin, {m, n.b.splat_int(ElementType::kI64, {}, kFar)}),
                                               n.b.splat_int(ElementType::kI64, {}, 0)});
      info.trip_count = Expr(n.b.read_scalar(clamped, n.importer().unique_symbol(n.name + "_trip_count"), 0, kFar));
    }
  }
  if (n.has(1)) {
    if (n.element(1) != ElementType::kBool || !(n.type(1).elements() == Expr(1)))
      n.fail("the condition must be one bool, got " + to_string(n.type(1)));
    if (const auto *host = n.host(1))
      info.initial_condition = (*host)[0];
    else
      info.initial_condition = Expr(n.b.read_scalar(n.as_scalar(n.in(1)), n.importer().unique_symbol(n.name + "_condition"), 0, 1));
    if (info.initial_condition->constant() && *info.initial_condition->constant() != 0)
      info.initial_condition.reset();
  }
  std::vector<ValueId> initial;
  for (size_t i = 0; i < carried; ++i)
    initial.push_back(n.in(i + 2));
  const int64_t most = info.trip_count ? std::min(info.trip_count->upper(), kFar) : kFar;
  info.iteration = Symbol::host(n.importer().unique_symbol(n.name + "_i"), 0, std::max<int64_t>(most - 1, 0));
  info.trips = Symbol::host(n.importer().unique_symbol(n.name + "_trips"), 0, most);

  graph::Graph region;
  graph::Graph *outer = n.importer().enter_region(region);
  Scope scope{&n.scope(), {}};
  const auto host_input = [&](int i, ElementType element, Expr value) {
    auto v = std::make_shared<Value>();
    v->name = body.input(i).name();
    v->type = {element, {}};
    v->host = std::vector<Expr>{std::move(value)};
    v->host_home = n.importer().region();
    scope.values[v->name] = std::move(v);
  };
  host_input(0, ElementType::kI64, info.iteration);
  host_input(1, ElementType::kBool, 1); // an iteration begins only where the condition holds
  for (size_t i = 0; i < carried; ++i) {
    auto v = std::make_shared<Value>();
    v->name = body.input(static_cast<int>(i) + 2).name();
    v->type = n.type(i + 2);
    v->host_type = n.host_type(i + 2);
    v->id = n.b.add_value(v->type, v->name);
    v->home = n.importer().region();
    region.inputs.push_back({v->name, v->id});
    scope.values[v->name] = std::move(v);
  }
  const std::vector<ValuePtr> outputs = import_body(n, scope, body);
  if (outputs[0]->type.element != ElementType::kBool || !(outputs[0]->type.elements() == Expr(1)))
    n.fail("the body's condition must be one bool, got " + to_string(outputs[0]->type));
  const std::vector<Expr> *condition = n.importer().host(*outputs[0]);
  info.has_condition = !condition || !(*condition)[0].constant() || *(*condition)[0].constant() == 0;
  if (!info.has_condition && !info.trip_count)
    n.fail("never ends: it has no trip count and its condition is always true");
  if (info.has_condition)
    region.outputs.push_back({outputs[0]->name, n.b.reshape(n.importer().materialise(*outputs[0]), {})});
  std::vector<TensorType> types;
  std::vector<std::optional<HostType>> host_types(carried);
  for (size_t i = 0; i < carried; ++i) {
    const TensorType &from = n.type(i + 2), &to = outputs[i + 1]->type;
    const std::string what = "carried value '" + outputs[i + 1]->name + "' is " + to_string(from) + " before and " +
                             to_string(to) + " after an iteration";
    if (from.element != to.element || from.dims.size() != to.dims.size() || n.host_type(i + 2).has_value() != outputs[i + 1]->host_type.has_value())
      n.fail(what, "a carried value keeps its type and shape");
    if (n.host_type(i + 2)) // an optional may be a sequence afterwards
      host_types[i] = carried_type(n, *n.host_type(i + 2), *outputs[i + 1]->host_type);
    for (size_t d = 0; d < from.dims.size(); ++d)
      n.require_equal(to.dims[d], from.dims[d], what);
    region.outputs.push_back({outputs[i + 1]->name, n.importer().materialise(*outputs[i + 1])});
    types.push_back(from);
  }
  std::set<Symbol> inside = {info.iteration};
  bound_inside(region, inside);
  std::vector<Dims> scan_dims;
  for (size_t i = carried + 1; i < outputs.size(); ++i) {
    if (outputs[i]->host_type)
      n.fail("scan output '" + outputs[i]->name + "' is " + to_string(*outputs[i]->host_type) + ", which is not stacked");
    region.outputs.push_back({outputs[i]->name, n.importer().materialise(*outputs[i])});
    // Where a dim depends on the iteration as far as can be seen, the model may say what it is: then that is checked.
    Dims dims = outputs[i]->type.dims;
    const auto &declared = body.output(static_cast<int>(i)).type().tensor_type().shape();
    for (size_t d = 0; d < dims.size(); ++d)
      if (!free_of(dims[d], inside) && static_cast<size_t>(declared.dim_size()) == dims.size() &&
          declared.dim(static_cast<int>(d)).has_dim_value()) {
        const Expr known = declared.dim(static_cast<int>(d)).dim_value();
        n.require_equal(dims[d], known, "scan output '" + outputs[i]->name + "'");
        dims[d] = known;
      }
    scan_dims.push_back(std::move(dims));
  }
  n.importer().leave_region(outer);
  // Without conditions the number of trips is known before the loop.
  const Expr trips = !info.has_condition && !info.initial_condition ? *info.trip_count : Expr(info.trips);
  for (size_t i = carried + 1; i < outputs.size(); ++i) {
    TensorType type{outputs[i]->type.element, {trips}};
    for (const Expr &dim : scan_dims[i - carried - 1]) {
      if (!free_of(dim, inside))
        n.fail("the size of scan output '" + outputs[i]->name + "' " + to_string(outputs[i]->type) + " changes from iteration to iteration");
      type.dims.push_back(dim);
    }
    if (type.dims.size() > 8)
      n.fail("scan output '" + outputs[i]->name + "' has rank 9; at most 8 is supported");
    types.push_back(std::move(type));
  }
  const std::vector<ValueId> results = n.b.loop(std::move(info), initial, std::move(region), types);
  for (size_t i = 0; i < n.outputs(); ++i)
    if (i < carried && host_types[i])
      n.set_host_value(i, results[i], *host_types[i]);
    else
      n.set(i, results[i]);
}

// before: Scan(state..., x...) body(state..., x[i]...) -> (state..., y...); after: a loop over the scanned axis that slices
// the inputs and stacks the results along axis 0, moved and turned round afterwards as the attributes say
void import_scan(Node &n) {
  const onnx::GraphProto &body = n.graph_attr("body");
  const int64_t count = n.int_attr("num_scan_inputs", 0);
  if (count < 1 || count > static_cast<int64_t>(n.inputs()) || body.input_size() != static_cast<int>(n.inputs()))
    n.fail("has " + std::to_string(n.inputs()) + " inputs, " + std::to_string(count) + " of them scanned; its body has " + std::to_string(body.input_size()));
  const size_t scanned = static_cast<size_t>(count), states = n.inputs() - scanned;
  if (static_cast<size_t>(body.output_size()) < states || n.outputs() > static_cast<size_t>(body.output_size()))
    n.fail("has " + std::to_string(n.outputs()) + " outputs and " + std::to_string(states) + " states; its body gives " + std::to_string(body.output_size()));
  const size_t stacks = static_cast<size_t>(body.output_size()) - states;
  const auto list = [&](const char *name, size_t size) {
    const auto values = n.ints_attr(name).value_or(std::vector<int64_t>(size, 0));
    if (values.size() != size)
      n.fail(std::string("attribute '") + name + "' has " + std::to_string(values.size()) + " elements, expected " + std::to_string(size));
    return values;
  };
  const auto in_axes = list("scan_input_axes", scanned), out_axes = list("scan_output_axes", stacks);
  const auto in_reverse = list("scan_input_directions", scanned), out_reverse = list("scan_output_directions", stacks);
  Algebra a(n);
  std::vector<size_t> axes;
  Expr trips;
  for (size_t i = 0; i < scanned; ++i) {
    axes.push_back(static_cast<size_t>(n.axis(in_axes[i], n.rank(states + i))));
    const Expr extent = n.dims(states + i)[axes[i]];
    trips = i == 0 ? extent : n.unify(trips, extent, "steps of scanned inputs");
  }
  std::vector<ValueId> initial, inputs;
  for (size_t i = 0; i < n.inputs(); ++i)
    (i < states ? initial : inputs).push_back(n.in(i));
  const std::vector<ValueId> results = counted_loop(n, trips, initial, [&](const Expr &step, const std::vector<ValueId> &old) {
    Scope scope{&n.scope(), {}};
    for (size_t i = 0; i < n.inputs(); ++i) {
      ValueId id;
      if (i < states) {
        id = old[i];
      } else {
        const Expr at = in_reverse[i - states] ? trips - 1 - step : step;
        id = a.pick(inputs[i - states], axes[i - states], at);
      }
      auto v = std::make_shared<Value>();
      v->name = body.input(static_cast<int>(i)).name();
      v->type = n.b.type(id);
      v->id = id;
      v->home = n.importer().region();
      scope.values[v->name] = std::move(v);
    }
    const std::vector<ValuePtr> outputs = import_body(n, scope, body);
    std::vector<ValueId> next;
    for (size_t i = 0; i < outputs.size(); ++i) {
      next.push_back(n.importer().materialise(*outputs[i]));
      if (i >= states)
        continue;
      const TensorType &from = n.type(i), &to = outputs[i]->type;
      const std::string what = "state '" + outputs[i]->name + "' is " + to_string(from) + " before and " + to_string(to) + " after a step";
      if (from.element != to.element || from.dims.size() != to.dims.size())
        n.fail(what, "a state keeps its type and shape");
      for (size_t d = 0; d < from.dims.size(); ++d)
        n.require_equal(to.dims[d], from.dims[d], what);
    }
    return next;
  });
  for (size_t i = 0; i < n.outputs(); ++i) {
    ValueId y = results[i];
    if (i >= states) {
      if (out_reverse[i - states])
        y = a.flip(y, 0);
      const int64_t rank = static_cast<int64_t>(n.dims_of(y).size());
      const uint32_t axis = static_cast<uint32_t>(n.axis(out_axes[i - states], rank));
      std::vector<uint32_t> order;
      for (uint32_t d = 1; d < static_cast<uint32_t>(rank); ++d)
        order.push_back(d);
      order.insert(order.begin() + axis, 0);
      y = n.b.transpose(y, order);
    }
    n.set(i, y);
  }
}

} // namespace

std::vector<OperatorRow> control_operators() {
  return {
      {"", "If", 7, kMaxOpset, import_if},
      {"", "Loop", 7, kMaxOpset, import_loop},
      {"", "Scan", 9, kMaxOpset, import_scan},
  };
}

} // namespace ingot::aotc::importer
