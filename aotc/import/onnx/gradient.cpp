// Gradient: reverse mode over the model's own nodes, from y back to xs.
//
//   before: c = Mul(a, b); da, db = Gradient[xs = a, b; y = c](a, b)
//   after:  da = dc b; db = dc a, with dc = ones of c's shape; summed over axes along which a or b was broadcast
//
// A node that y depends on by way of an x must be one of the operators of `rules`; any other is refused by name.
#include "aotc/import/onnx/gradient.h"

#include <algorithm>

#include "aotc/import/onnx/algebra.h"

namespace ingot::aotc::importer {

namespace {

// One node on the way: its operands and result as values, and the derivative of y by its result.
struct Way {
  Node &n;
  Algebra &a;
  const onnx::NodeProto &node;
  std::vector<ValueId> x; // kNoValue where an optional one is absent
  ValueId y, dy;

  int64_t int_attr(const char *name, int64_t otherwise) const {
    for (const onnx::AttributeProto &attribute : node.attribute())
      if (attribute.name() == name)
        return attribute.i();
    return otherwise;
  }
};

// Gives the derivative by each operand; kNoValue for one that has none (a shape).
using Rule = std::vector<ValueId> (*)(Way &);

// The sum over what broadcasting repeated.
ValueId unbroadcast(Algebra &a, ValueId dx, const Dims &to) {
  const Dims from = a.dims(dx);
  std::vector<uint32_t> axes;
  const size_t shift = from.size() - to.size();
  for (size_t i = 0; i < from.size(); ++i)
    if (i < shift || (to[i - shift] == Expr(1) && !(from[i] == Expr(1))))
      axes.push_back(static_cast<uint32_t>(i));
  return axes.empty() ? dx : a.n.reshape(a.sum(dx, axes), to);
}

ValueId swap_last_two(Algebra &a, ValueId x) {
  std::vector<uint32_t> order(a.dims(x).size());
  for (uint32_t i = 0; i < order.size(); ++i)
    order[i] = i;
  std::swap(order[order.size() - 1], order[order.size() - 2]);
  return a.n.b.transpose(x, order);
}

// The same letters for the leading axes of both, of equal extents.
ValueId matrix_product(Algebra &a, ValueId x, ValueId y) {
  std::string batch;
  for (size_t i = 2; i < a.dims(x).size(); ++i)
    batch += static_cast<char>('a' + i);
  return a.n.b.contract(x, y, batch + "mk", batch + "kn", batch + "mn");
}

std::vector<ValueId> matmul_rule(Way &w) {
  const Dims p = w.a.dims(w.x[0]), q = w.a.dims(w.x[1]);
  if (p.size() < 2 || q.size() < 2 || p.size() > 6 || q.size() > 6)
    w.n.fail("the gradient of MatMul is known for matrices only");
  Dims batch = w.n.broadcast_dims({p.begin(), p.end() - 2}, {q.begin(), q.end() - 2});
  const auto full = [&](ValueId x) {
    Dims to = batch;
    const Dims own = w.a.dims(x);
    to.insert(to.end(), own.end() - 2, own.end());
    return w.a.spread(x, to);
  };
  const ValueId da = matrix_product(w.a, w.dy, swap_last_two(w.a, full(w.x[1])));
  const ValueId db = matrix_product(w.a, swap_last_two(w.a, full(w.x[0])), w.dy);
  return {da, db};
}

std::vector<ValueId> transpose_rule(Way &w) {
  const size_t rank = w.a.dims(w.y).size();
  std::vector<uint32_t> back(rank);
  for (uint32_t i = 0; i < rank; ++i)
    back[i] = static_cast<uint32_t>(rank - 1 - i);
  for (const onnx::AttributeProto &attribute : w.node.attribute())
    if (attribute.name() == "perm")
      for (int i = 0; i < attribute.ints_size() && static_cast<size_t>(i) < rank; ++i)
        back[static_cast<size_t>(attribute.ints(i))] = static_cast<uint32_t>(i);
  return {w.n.b.transpose(w.dy, back)};
}

// Sums and means: each element of a row gets what the row got. The row is known by its dims: without keepdims only sums over
// all axes, or over those at either end, are told apart, so the result must keep its rank or be one element.
std::vector<ValueId> reduce_rule(Way &w) {
  const Dims to = w.a.dims(w.x[0]), from = w.a.dims(w.y);
  ValueId d = w.dy;
  if (w.n.b.type(w.y).elements() == Expr(1))
    d = w.n.reshape(d, Dims(to.size(), Expr(1)));
  else if (from.size() != to.size())
    w.n.fail("the gradient of " + w.node.op_type() + " is known with keepdims or over all axes");
  d = w.a.spread(d, to);
  if (w.node.op_type() == "ReduceMean") {
    const ValueId count = w.a.number(w.a.element(d), product(to));
    d = w.a.div(w.a.mul(d, w.a.number(w.a.element(d), w.n.b.type(w.y).elements())), count);
  }
  std::vector<ValueId> all(w.x.size(), kNoValue);
  all[0] = d;
  return all;
}

const std::map<std::string, Rule> &rules() {
  static const std::map<std::string, Rule> table = {
      {"Add", [](Way &w) { return std::vector<ValueId>{w.dy, w.dy}; }},
      {"Sub", [](Way &w) { return std::vector<ValueId>{w.dy, w.a.map(K::kNeg, w.dy)}; }},
      {"Mul", [](Way &w) { return std::vector<ValueId>{w.a.mul(w.dy, w.x[1]), w.a.mul(w.dy, w.x[0])}; }},
      {"Div", [](Way &w) {
         const ValueId by = w.a.div(w.dy, w.x[1]);
         return std::vector<ValueId>{by, w.a.map(K::kNeg, w.a.mul(by, w.y))};
       }},
      {"Neg", [](Way &w) { return std::vector<ValueId>{w.a.map(K::kNeg, w.dy)}; }},
      {"Identity", [](Way &w) { return std::vector<ValueId>{w.dy}; }},
      {"Exp", [](Way &w) { return std::vector<ValueId>{w.a.mul(w.dy, w.y)}; }},
      {"Log", [](Way &w) { return std::vector<ValueId>{w.a.div(w.dy, w.x[0])}; }},
      {"Sqrt", [](Way &w) { return std::vector<ValueId>{w.a.div(w.dy, w.a.mul(w.y, 2))}; }},
      {"Tanh", [](Way &w) { return std::vector<ValueId>{w.a.sub(w.dy, w.a.mul(w.dy, w.a.mul(w.y, w.y)))}; }},
      {"Sigmoid", [](Way &w) { return std::vector<ValueId>{w.a.mul(w.dy, w.a.sub(w.y, w.a.mul(w.y, w.y)))}; }},
      {"Relu", [](Way &w) {
         return std::vector<ValueId>{w.a.select(w.a.lt(w.a.number(w.y, 0), w.y), w.dy, w.a.number(w.dy, 0))};
       }},
      {"Reshape", [](Way &w) { return std::vector<ValueId>{w.n.reshape(w.dy, w.a.dims(w.x[0])), kNoValue}; }},
      {"MatMul", matmul_rule},
      {"Transpose", transpose_rule},
      {"ReduceSum", reduce_rule},
      {"ReduceMean", reduce_rule},
  };
  return table;
}

void import_gradient(Node &n) {
  const onnx::AttributeProto *xs = n.attribute("xs"), *zs = n.attribute("zs");
  const std::string y = n.string_attr("y", "");
  if (!xs || xs->strings_size() == 0 || y.empty())
    n.fail("needs the attributes 'xs' and 'y'");
  std::vector<std::string> given(xs->strings().begin(), xs->strings().end());
  if (zs)
    given.insert(given.end(), zs->strings().begin(), zs->strings().end());
  if (n.inputs() != given.size())
    n.fail("has " + std::to_string(n.inputs()) + " inputs for " + std::to_string(given.size()) + " names in 'xs' and 'zs'");
  for (size_t i = 0; i < given.size(); ++i)
    if (n.proto().input(static_cast<int>(i)) != given[i])
      n.fail("takes the gradient at '" + n.proto().input(static_cast<int>(i)) + "' in place of '" + given[i] + "'",
             "only the gradient at the values that the graph itself computes with is supported");
  Importer &importer = n.importer();
  Algebra a(n);
  const Rest &rest = importer.rest();
  std::set<std::string> varies(xs->strings().begin(), xs->strings().end());
  for (int i = 0; i + 1 < rest.next; ++i)
    for (const std::string &input : (*rest.nodes)[i].input())
      if (varies.count(input) && !std::count(given.begin(), given.end(), (*rest.nodes)[i].output(0)))
        varies.insert((*rest.nodes)[i].output().begin(), (*rest.nodes)[i].output().end());
  const auto value = [&](const std::string &name) { return name.empty() ? kNoValue : importer.materialise(*importer.find(n.scope(), name)); };
  std::map<std::string, ValueId> derivative; // of y by what is named
  const ValueId end = value(y);
  derivative[y] = a.spread(a.number(end, 1), a.dims(end));
  for (int i = rest.next - 2; i >= 0; --i) {
    const onnx::NodeProto &node = (*rest.nodes)[i];
    const auto known = node.output_size() ? derivative.find(node.output(0)) : derivative.end();
    if (known == derivative.end() || !varies.count(node.output(0)) || std::count(given.begin(), given.end(), node.output(0)))
      continue;
    const auto rule = rules().find(node.op_type());
    if (rule == rules().end() || !(node.domain().empty() || node.domain() == "ai.onnx"))
      n.fail("the gradient of operator " + node.op_type() + " (node '" + node.name() + "') is not supported");
    Way way{n, a, node, {}, value(node.output(0)), known->second};
    if (!is_float(a.element(way.y)))
      n.fail("'" + node.output(0) + "' is " + to_string(n.b.type(way.y)) + ": gradients are of floats");
    for (const std::string &input : node.input())
      way.x.push_back(value(input));
    const std::vector<ValueId> parts = rule->second(way);
    for (size_t k = 0; k < parts.size() && k < way.x.size(); ++k) {
      const std::string &name = node.input(static_cast<int>(k));
      if (parts[k] == kNoValue || way.x[k] == kNoValue || !varies.count(name))
        continue;
      const ValueId part = unbroadcast(a, parts[k], a.dims(way.x[k]));
      const auto it = derivative.find(name);
      if (it == derivative.end())
        derivative.emplace(name, part);
      else
        it->second = a.add(it->second, part);
    }
  }
  for (int i = 0; i < xs->strings_size(); ++i) {
    const ValueId x = value(xs->strings(i));
    const auto it = derivative.find(xs->strings(i));
    n.set(static_cast<size_t>(i), it != derivative.end() ? it->second : a.spread(a.number(x, 0), a.dims(x)));
  }
}

} // namespace

std::vector<OperatorRow> gradient_operators() { return {{"ai.onnx.preview.training", "Gradient", 1, 1, import_gradient}}; }

} // namespace ingot::aotc::importer
