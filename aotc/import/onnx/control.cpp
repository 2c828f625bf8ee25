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
    out.insert(op.sizes.begin(), op.sizes.end());
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

std::vector<ValuePtr> import_body(Node &n, Scope &scope, const onnx::GraphProto &proto, const InPlace *in_place) {
  Importer &importer = n.importer();
  const size_t before = importer.problems();
  importer.import_initializers(scope, proto);
  std::set<std::string> names;
  for (const auto &output : proto.output())
    names.insert(output.name());
  importer.import_nodes(scope, proto.node(), names, 0, in_place);
  n.b.set_origin(n.name, n.source);
  if (importer.problems() != before)
    throw Refusal{"", ""}; // reported already
  if (in_place && in_place->enclosing->taken)
    return {};
  std::vector<ValuePtr> outputs;
  for (const auto &output : proto.output()) {
    outputs.push_back(importer.find(scope, output.name()));
    if (outputs.back()->poisoned)
      throw Refusal{"", ""};
  }
  return outputs;
}

namespace {

// A host symbol for a dim that only a region knows.
Symbol size_symbol(Node &n) { return Symbol::host(n.importer().unique_symbol(n.name + "_size"), 0, kMaxDim); }

// Ends a branch: what it gives gets memory.
void close_branch(Node &n, Branch &branch, graph::Graph *outer) {
  for (const ValuePtr &v : branch.outputs)
    n.importer().host(*v); // while its symbols are visible
  for (const ValuePtr &v : branch.outputs)
    branch.graph.outputs.push_back({v->name, n.importer().materialise(*v)});
  n.importer().leave_region(outer);
  bound_inside(branch.graph, branch.inside);
}

Branch import_branch(Node &n, const char *attribute) {
  Branch branch;
  graph::Graph *outer = n.importer().enter_region(branch.graph);
  Scope scope{&n.scope(), {}};
  branch.outputs = import_body(n, scope, n.graph_attr(attribute));
  close_branch(n, branch, outer);
  return branch;
}

// Integers that both branches know on the host are chosen there.
bool choose_on_host(Node &n, const Expr &condition, const Branch &a, const Branch &b, size_t i, ValuePtr &out) {
  const Value &va = *a.outputs[i], &vb = *b.outputs[i];
  if (!va.host || !vb.host || va.host->size() != vb.host->size() || !(va.type == vb.type))
    return false;
  std::vector<Expr> values;
  for (size_t k = 0; k < va.host->size(); ++k) {
    const Expr &x = (*va.host)[k], &y = (*vb.host)[k];
    if (!free_of(x, a.inside) || !free_of(y, b.inside))
      return false;
    values.push_back(x == y ? x : select(condition, x, y));
  }
  out = std::make_shared<Value>();
  out->type = va.type;
  out->host = std::move(values);
  out->host_home = n.importer().region();
  return true;
}

// before: the outputs of two branches, f32[k] and f32[m,2]'s row
// after: one if whose results have the dims of both where they agree, the chosen one where both are known outside, else a
// host symbol that each branch binds
std::vector<ValuePtr> join(Node &n, const Expr &condition, Branch a, Branch b) {
  std::vector<TensorType> types;
  std::vector<std::optional<HostType>> host_types;
  std::vector<Symbol> sizes;
  for (size_t i = 0; i < a.outputs.size(); ++i) {
    const auto &ha = a.outputs[i]->host_type, &hb = b.outputs[i]->host_type;
    host_types.push_back(ha && hb ? merge(*ha, *hb) : std::nullopt);
    if ((ha || hb) && !host_types.back())
      n.fail("the branches give values of different kinds for output " + std::to_string(i));
    const TensorType &ta = a.outputs[i]->type, &tb = b.outputs[i]->type;
    if (ta.element != tb.element || ta.dims.size() != tb.dims.size() || a.outputs[i]->narrow != b.outputs[i]->narrow)
      n.fail("the branches give " + to_string(ta) + " and " + to_string(tb) + " for output " + std::to_string(i),
             "both branches of a condition known at run time must agree in type and rank where the graph ends");
    TensorType type{ta.element, {}};
    for (size_t d = 0; d < ta.dims.size(); ++d) {
      if (free_of(ta.dims[d], a.inside) && free_of(tb.dims[d], b.inside)) {
        type.dims.push_back(ta.dims[d] == tb.dims[d] ? ta.dims[d] : select(condition, ta.dims[d], tb.dims[d]));
        continue;
      }
      sizes.push_back(size_symbol(n));
      type.dims.push_back(sizes.back());
      a.graph.sizes.push_back(ta.dims[d]);
      b.graph.sizes.push_back(tb.dims[d]);
    }
    types.push_back(std::move(type));
  }
  const std::vector<ValueId> results = n.b.if_else(condition, std::move(a.graph), std::move(b.graph), types, sizes);
  std::vector<ValuePtr> values(results.size());
  for (size_t i = 0; i < results.size(); ++i) {
    if (choose_on_host(n, condition, a, b, i, values[i]))
      continue;
    values[i] = std::make_shared<Value>();
    values[i]->type = n.b.type(results[i]);
    values[i]->host_type = host_types[i];
    values[i]->narrow = a.outputs[i]->narrow;
    values[i]->id = results[i];
    values[i]->home = n.importer().region();
  }
  return values;
}

// Where the branches differ in rank, what follows is another computation in each: it is imported in both.
//
//   before: y = If(c) {f32[n]} else {f32[]}; z = Add(y, x)     after: z = If(c) {Add(f32[n], x)} else {Add(f32[], x)}
void import_if_with_rest(Node &n, const Expr &condition) {
  Importer &importer = n.importer();
  Rest &rest = importer.rest();
  constexpr int kMostDoublings = 5;
  if (importer.doublings >= kMostDoublings)
    n.fail("more than " + std::to_string(kMostDoublings) + " conditions known at run time, each inside what follows another, give results of different ranks");
  ++importer.doublings;
  Branch sides[2];
  Rest *last = nullptr;
  Scope *target = &n.scope();
  std::vector<std::string> names;
  for (size_t side = 0; side < 2; ++side) {
    graph::Graph *outer = importer.enter_region(sides[side].graph);
    std::vector<std::unique_ptr<Scope>> follows; // a scope for the rest of each body, up to one that ends by itself
    follows.push_back(std::make_unique<Scope>(Scope{&n.scope(), {}}));
    {
      Scope scope{&n.scope(), {}};
      const auto outputs = import_body(n, scope, n.graph_attr(side == 0 ? "then_branch" : "else_branch"));
      for (size_t i = 0; i < n.outputs() && i < outputs.size(); ++i)
        if (n.wants(i))
          follows.back()->values[n.proto().output(static_cast<int>(i))] = std::make_shared<Value>(*outputs[i]);
    }
    const size_t before = importer.problems();
    importer.import_nodes(*follows.back(), *rest.nodes, *rest.outputs, rest.next);
    last = &rest;
    for (const InPlace *place = rest.in_place; place && importer.problems() == before; place = last->in_place) {
      auto outer_scope = std::make_unique<Scope>(Scope{place->scope, {}});
      for (const auto &[inside, outside] : place->outputs)
        outer_scope->values[outside] = std::make_shared<Value>(*importer.find(*follows.back(), inside));
      follows.push_back(std::move(outer_scope));
      last = place->enclosing;
      target = place->scope;
      importer.import_nodes(*follows.back(), *last->nodes, *last->outputs, last->next);
    }
    n.b.set_origin(n.name, n.source);
    if (importer.problems() != before)
      throw Refusal{"", ""};
    names.clear();
    for (const std::string &name : *last->outputs)
      if (follows.back()->values.count(name)) {
        names.push_back(name);
        sides[side].outputs.push_back(follows.back()->values[name]);
        if (sides[side].outputs.back()->poisoned)
          throw Refusal{"", ""};
      }
    close_branch(n, sides[side], outer);
  }
  --importer.doublings;
  const std::vector<ValuePtr> values = join(n, condition, std::move(sides[0]), std::move(sides[1]));
  for (size_t i = 0; i < names.size(); ++i) {
    values[i]->name = names[i];
    target->values[names[i]] = values[i];
  }
  rest.taken = true;
  for (const InPlace *place = rest.in_place; place; place = place->enclosing->in_place)
    place->enclosing->taken = true;
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
    const onnx::GraphProto &body = n.graph_attr(*condition.constant() ? "then_branch" : "else_branch");
    InPlace place{&n.importer().rest(), &n.scope(), {}};
    for (int i = 0; i < body.output_size() && static_cast<size_t>(i) < n.outputs(); ++i)
      if (n.wants(static_cast<size_t>(i)))
        place.outputs.push_back({body.output(i).name(), n.proto().output(i)});
    const auto outputs = import_body(n, scope, body, &place);
    if (n.importer().rest().taken)
      return;
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
  for (size_t i = 0; i < n.outputs(); ++i)
    if (a.outputs[i]->type.dims.size() != b.outputs[i]->type.dims.size()) {
      import_if_with_rest(n, condition);
      return;
    }
  const std::vector<ValuePtr> values = join(n, condition, std::move(a), std::move(b));
  for (size_t i = 0; i < n.outputs(); ++i)
    n.set_value(i, values[i]);
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

struct LoopBody {
  graph::Graph region;
  bool has_condition = false;
  std::vector<TensorType> types; // carried values, then what is stacked, without the axis of iterations
  std::vector<std::optional<HostType>> host_types; // of carried values
  std::vector<Symbol> sizes;
  std::vector<Expr> first;       // values of sizes before the loop
};

// Imports the body with the carried dims named in `varying` as sizes that each iteration sets. True where more of them
// turn out to vary, which are added: the body must then be imported again.
bool import_loop_body(Node &n, const onnx::GraphProto &body, const graph::LoopInfo &info, std::set<std::pair<size_t, size_t>> &varying, LoopBody &out) {
  Importer &importer = n.importer();
  out = {};
  const size_t carried = info.carried;
  graph::Graph *outer = importer.enter_region(out.region);
  Scope scope{&n.scope(), {}};
  const auto host_input = [&](int i, ElementType element, Expr value) {
    auto v = std::make_shared<Value>();
    v->name = body.input(i).name();
    v->type = {element, {}};
    v->host = std::vector<Expr>{std::move(value)};
    v->host_home = importer.region();
    scope.values[v->name] = std::move(v);
  };
  host_input(0, ElementType::kI64, info.iteration);
  host_input(1, ElementType::kBool, 1); // an iteration begins only where the condition holds
  for (size_t i = 0; i < carried; ++i) {
    auto v = std::make_shared<Value>();
    v->name = body.input(static_cast<int>(i) + 2).name();
    v->type = n.type(i + 2);
    v->host_type = n.host_type(i + 2);
    v->narrow = n.narrow(i + 2);
    for (size_t d = 0; d < v->type.dims.size(); ++d)
      if (varying.count({i, d})) {
        out.sizes.push_back(size_symbol(n));
        out.first.push_back(v->type.dims[d]);
        v->type.dims[d] = out.sizes.back();
      }
    v->id = n.b.add_value(v->type, v->name);
    v->home = importer.region();
    out.region.inputs.push_back({v->name, v->id});
    out.types.push_back(v->type);
    scope.values[v->name] = std::move(v);
  }
  const std::vector<ValuePtr> outputs = import_body(n, scope, body);
  if (outputs[0]->type.element != ElementType::kBool || !(outputs[0]->type.elements() == Expr(1)))
    n.fail("the body's condition must be one bool, got " + to_string(outputs[0]->type));
  const std::vector<Expr> *condition = importer.host(*outputs[0]);
  out.has_condition = !condition || !(*condition)[0].constant() || *(*condition)[0].constant() == 0;
  if (out.has_condition)
    out.region.outputs.push_back({outputs[0]->name, n.b.reshape(importer.materialise(*outputs[0]), {})});
  const auto declared = [&](size_t output, size_t d, size_t rank) -> std::optional<int64_t> {
    const auto &shape = body.output(static_cast<int>(output)).type().tensor_type().shape();
    if (static_cast<size_t>(shape.dim_size()) == rank && shape.dim(static_cast<int>(d)).has_dim_value())
      return shape.dim(static_cast<int>(d)).dim_value();
    return std::nullopt;
  };
  const size_t known = varying.size();
  for (size_t i = 0; i < carried; ++i) {
    const TensorType &from = out.types[i], &to = outputs[i + 1]->type;
    const std::string what = "carried value '" + outputs[i + 1]->name + "' is " + to_string(from) + " before and " +
                             to_string(to) + " after an iteration";
    if (from.element != to.element || from.dims.size() != to.dims.size() ||
        n.host_type(i + 2).has_value() != outputs[i + 1]->host_type.has_value())
      n.fail(what, "a carried value keeps its type and rank");
    out.host_types.push_back(std::nullopt);
    if (n.host_type(i + 2)) // an optional may be a sequence afterwards
      out.host_types.back() = carried_type(n, *n.host_type(i + 2), *outputs[i + 1]->host_type);
    for (size_t d = 0; d < from.dims.size(); ++d) {
      if (varying.count({i, d}))
        out.region.sizes.push_back(to.dims[d]);
      else if (declared(i + 1, d, from.dims.size()) == from.dims[d].constant() && from.dims[d].constant())
        n.require_equal(to.dims[d], from.dims[d], what); // the model says so
      else if (!(to.dims[d] == from.dims[d]))
        varying.insert({i, d});
    }
    out.region.outputs.push_back({outputs[i + 1]->name, importer.materialise(*outputs[i + 1])});
  }
  if (varying.size() != known) {
    importer.leave_region(outer);
    return true;
  }
  std::set<Symbol> inside = {info.iteration};
  inside.insert(out.sizes.begin(), out.sizes.end());
  bound_inside(out.region, inside);
  for (size_t i = carried + 1; i < outputs.size(); ++i) {
    if (outputs[i]->host_type)
      n.fail("scan output '" + outputs[i]->name + "' is " + to_string(*outputs[i]->host_type) + ", which is not stacked");
    out.region.outputs.push_back({outputs[i]->name, importer.materialise(*outputs[i])});
    TensorType type = outputs[i]->type;
    if (type.dims.size() > 7)
      n.fail("scan output '" + outputs[i]->name + "' has rank 9; at most 8 is supported");
    for (size_t d = 0; d < type.dims.size(); ++d) {
      if (free_of(type.dims[d], inside))
        continue;
      if (const auto dim = declared(i, d, type.dims.size())) {
        n.require_equal(type.dims[d], *dim, "scan output '" + outputs[i]->name + "'");
        type.dims[d] = *dim;
        continue;
      }
      // Known after the first iteration, and then the same in every one.
      const Symbol size = size_symbol(n);
      n.b.check(logical_or(equal(info.iteration, 0), equal(size, type.dims[d])),
                "node '" + n.name + "' (" + n.source + "): the size of scan output '" + outputs[i]->name + "' changes from iteration to iteration");
      out.sizes.push_back(size);
      out.first.push_back(0);
      out.region.sizes.push_back(type.dims[d]);
      type.dims[d] = size;
    }
    out.types.push_back(std::move(type));
  }
  importer.leave_region(outer);
  return false;
}

// before: Loop(m, cond, v...) body(i, cond, v...) -> (cond, v..., scan...); after: loop with the trip count and the
// conditions as host values, the iteration number as a host symbol
// torch.jit.script's `a and b` is an If that gives bool[1] or bool[], and of a body's condition only the element counts:
//
//   before: {c = If(p) {bool[1]} else {bool[]}} -> c     after: {c = If(p) ...; s = Reshape(c, [])} -> s
const onnx::GraphProto &with_scalar_condition(const onnx::GraphProto &body, onnx::GraphProto &changed) {
  const auto &nodes = body.node();
  if (body.output_size() == 0 || std::none_of(nodes.begin(), nodes.end(), [](const onnx::NodeProto &node) { return node.op_type() == "If"; }))
    return body;
  changed = body;
  const std::string name = body.output(0).name(), shape = name + "/scalar_shape";
  onnx::TensorProto *none = changed.add_initializer();
  none->set_name(shape);
  none->set_data_type(onnx::TensorProto::INT64);
  none->add_dims(0);
  onnx::NodeProto *reshape = changed.add_node();
  reshape->set_op_type("Reshape");
  reshape->set_name(name + "/scalar");
  reshape->add_input(name);
  reshape->add_input(shape);
  reshape->add_output(name + "/scalar");
  changed.mutable_output(0)->set_name(name + "/scalar");
  return changed;
}

void import_loop(Node &n) {
  onnx::GraphProto changed;
  const onnx::GraphProto &body = with_scalar_condition(n.graph_attr("body"), changed);
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

  LoopBody b;
  std::set<std::pair<size_t, size_t>> varying; // carried value, dim: found out by importing the body
  while (import_loop_body(n, body, info, varying, b)) {
  }
  info.has_condition = b.has_condition;
  if (!info.has_condition && !info.trip_count)
    n.fail("never ends: it has no trip count and its condition is always true");
  // Without conditions the number of trips is known before the loop.
  const Expr trips = !info.has_condition && !info.initial_condition ? *info.trip_count : Expr(info.trips);
  std::vector<TensorType> types = b.types;
  for (size_t i = carried; i < types.size(); ++i)
    types[i].dims.insert(types[i].dims.begin(), trips);
  const std::vector<ValueId> results = n.b.loop(std::move(info), initial, std::move(b.region), types, b.sizes, b.first);
  for (size_t i = 0; i < n.outputs(); ++i)
    if (i < carried && b.host_types[i])
      n.set_host_value(i, results[i], *b.host_types[i]);
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

// before: Scan(, state[b,...]..., x[b,t,...]...) of opset 8: a scan of each example of a batch
// after: a loop over the batch around a loop over steps; what both stack is [b,t,...]
void import_scan_of_batch(Node &n) {
  const onnx::GraphProto &body = n.graph_attr("body");
  const int64_t count = n.int_attr("num_scan_inputs", 0);
  const size_t given = n.inputs() < 1 ? 0 : n.inputs() - 1;
  if (n.has(0))
    n.fail("takes no lengths of sequences here", "convert the model to opset 9");
  if (count < 1 || count > static_cast<int64_t>(given) || body.input_size() != static_cast<int>(given))
    n.fail("has " + std::to_string(given) + " inputs, " + std::to_string(count) + " of them scanned; its body has " + std::to_string(body.input_size()));
  const size_t scanned = static_cast<size_t>(count), states = given - scanned;
  if (static_cast<size_t>(body.output_size()) < states || n.outputs() > static_cast<size_t>(body.output_size()))
    n.fail("has " + std::to_string(n.outputs()) + " outputs and " + std::to_string(states) + " states; its body gives " + std::to_string(body.output_size()));
  const auto reverse = n.ints_attr("directions").value_or(std::vector<int64_t>(scanned, 0));
  if (reverse.size() != scanned)
    n.fail("attribute 'directions' has " + std::to_string(reverse.size()) + " elements, expected " + std::to_string(scanned));
  Algebra a(n);
  Expr batch, trips;
  std::vector<ValueId> inputs;
  for (size_t i = 0; i < given; ++i) {
    const bool scans = i >= states;
    if (n.rank(i + 1) < (scans ? 2 : 1))
      n.fail("input " + std::to_string(i + 1) + " is " + to_string(n.type(i + 1)) + ": it has no axis of batch" + (scans ? " and steps" : ""));
    batch = i == 0 ? n.dims(1)[0] : n.unify(batch, n.dims(i + 1)[0], "batches of inputs");
    if (scans)
      trips = i == states ? n.dims(i + 1)[1] : n.unify(trips, n.dims(i + 1)[1], "steps of scanned inputs");
    inputs.push_back(n.in(i + 1));
  }
  const std::vector<ValueId> results = counted_loop(n, batch, {}, [&](const Expr &example, const std::vector<ValueId> &) {
    std::vector<ValueId> initial, sequences;
    for (size_t i = 0; i < given; ++i)
      (i < states ? initial : sequences).push_back(a.pick(inputs[i], 0, example));
    return counted_loop(n, trips, initial, [&](const Expr &step, const std::vector<ValueId> &old) {
      Scope scope{&n.scope(), {}};
      for (size_t i = 0; i < given; ++i) {
        auto v = std::make_shared<Value>();
        v->name = body.input(static_cast<int>(i)).name();
        v->id = i < states ? old[i] : a.pick(sequences[i - states], 0, reverse[i - states] ? trips - 1 - step : step);
        v->type = n.b.type(v->id);
        v->home = n.importer().region();
        scope.values[v->name] = std::move(v);
      }
      std::vector<ValueId> next;
      for (const ValuePtr &output : import_body(n, scope, body)) {
        const size_t i = next.size();
        next.push_back(n.importer().materialise(*output));
        if (i >= states)
          continue;
        const TensorType &from = n.b.type(old[i]);
        const std::string what = "state '" + output->name + "' is " + to_string(from) + " before and " + to_string(output->type) + " after a step";
        if (from.element != output->type.element || from.dims.size() != output->type.dims.size())
          n.fail(what, "a state keeps its type and shape");
        for (size_t d = 0; d < from.dims.size(); ++d)
          n.require_equal(output->type.dims[d], from.dims[d], what);
      }
      return next;
    });
  });
  for (size_t i = 0; i < n.outputs(); ++i)
    n.set(i, results[i]);
}

} // namespace

std::vector<OperatorRow> control_operators() {
  return {
      {"", "If", 7, kMaxOpset, import_if},
      {"", "Loop", 7, kMaxOpset, import_loop},
      {"", "Scan", 8, 8, import_scan_of_batch},
      {"", "Scan", 9, kMaxOpset, import_scan},
  };
}

} // namespace ingot::aotc::importer
