// Algebra: arithmetic on graph values with numpy's broadcasting, for operators whose formula has many shapes.
//
//   Algebra a(node);
//   ValueId y = a.div(x, a.add(a.abs(x), a.number(x, 1)));   // [n,m] and a scalar
//
// Math (math.h) is for formulas over values of equal dims. Nothing here converts types: operands have one element type.
#pragma once

#include "aotc/import/onnx/subgraph.h"

namespace ingot::aotc::importer {

class Algebra {
 public:
  explicit Algebra(Node &node) : n(node) {}
  Node &n;

  ElementType element(ValueId x) const { return n.b.type(x).element; }
  Dims dims(ValueId x) const { return n.b.type(x).dims; }
  // A scalar of the element type of `like`, or of `e`.
  ValueId number(ElementType e, double value) {
    return is_float(e) ? n.b.splat_float(e, {}, value) : n.b.splat_int(e, {}, static_cast<int64_t>(value));
  }
  ValueId number(ValueId like, double value) { return number(element(like), value); }
  ValueId number(ElementType e, const Expr &value) { return n.scalar_of(e, value, {}); }

  ValueId map(K code, ValueId a) { return n.b.map(code, {a}); }
  ValueId map(K code, ValueId a, ValueId b) {
    const Dims to = n.broadcast_dims(dims(a), dims(b));
    return n.b.map(code, {n.broadcast_to(a, to), n.broadcast_to(b, to)});
  }
  ValueId add(ValueId a, ValueId b) { return map(K::kAdd, a, b); }
  ValueId sub(ValueId a, ValueId b) { return map(K::kSub, a, b); }
  ValueId mul(ValueId a, ValueId b) { return map(K::kMul, a, b); }
  ValueId div(ValueId a, ValueId b) { return map(K::kDiv, a, b); }
  ValueId min(ValueId a, ValueId b) { return map(K::kMin, a, b); }
  ValueId max(ValueId a, ValueId b) { return map(K::kMax, a, b); }
  ValueId lt(ValueId a, ValueId b) { return map(K::kLt, a, b); }
  ValueId le(ValueId a, ValueId b) { return map(K::kLe, a, b); }
  ValueId eq(ValueId a, ValueId b) { return map(K::kEq, a, b); }
  ValueId both(ValueId a, ValueId b) { return map(K::kAnd, a, b); }
  ValueId add(ValueId a, double b) { return add(a, number(a, b)); }
  ValueId sub(ValueId a, double b) { return sub(a, number(a, b)); }
  ValueId mul(ValueId a, double b) { return mul(a, number(a, b)); }
  ValueId div(ValueId a, double b) { return div(a, number(a, b)); }
  // An int is a number too, never a value's name.
  ValueId add(ValueId a, int b) { return add(a, static_cast<double>(b)); }
  ValueId sub(ValueId a, int b) { return sub(a, static_cast<double>(b)); }
  ValueId mul(ValueId a, int b) { return mul(a, static_cast<double>(b)); }
  ValueId div(ValueId a, int b) { return div(a, static_cast<double>(b)); }
  ValueId abs(ValueId a) { return map(K::kAbs, a); }
  ValueId floor(ValueId a) { return map(K::kFloor, a); }
  ValueId clamp(ValueId a, ValueId low, ValueId high) { return max(min(a, high), low); }
  ValueId select(ValueId condition, ValueId a, ValueId b) {
    const Dims to = n.broadcast_dims(n.broadcast_dims(dims(a), dims(b)), dims(condition));
    return n.b.map(K::kSelect, {n.broadcast_to(condition, to), n.broadcast_to(a, to), n.broadcast_to(b, to)});
  }
  ValueId convert(ElementType e, ValueId a) { return n.b.convert(e, a); }

  // Views.
  ValueId cut(ValueId x, size_t axis, const Expr &start, const Expr &count, int64_t step = 1) {
    Dims to = dims(x);
    std::vector<Expr> starts(to.size(), Expr(0));
    std::vector<int64_t> steps(to.size(), 1);
    to[axis] = count;
    starts[axis] = start;
    steps[axis] = step;
    return n.b.slice(x, std::move(starts), std::move(steps), std::move(to));
  }
  ValueId pick(ValueId x, size_t axis, const Expr &index) { // cut to one, axis dropped
    Dims to = dims(x);
    to.erase(to.begin() + static_cast<long>(axis));
    return n.reshape(cut(x, axis, index, 1), to);
  }
  ValueId flip(ValueId x, size_t axis) { return cut(x, axis, dims(x)[axis] - 1, dims(x)[axis], -1); }
  ValueId insert(ValueId x, size_t axis) { // a new axis of extent 1
    Dims to = dims(x);
    to.insert(to.begin() + static_cast<long>(axis), Expr(1));
    return n.reshape(x, to);
  }
  // 0, 1, 2 ... along `axis` of a tensor of this rank whose other extents are 1.
  ValueId iota(ElementType e, const Expr &extent, size_t axis = 0, size_t rank = 1) {
    Dims to(rank, Expr(1));
    to[axis] = extent;
    return n.b.iota(e, to, static_cast<uint32_t>(axis));
  }
  ValueId sum(ValueId x, std::vector<uint32_t> axes) { return n.b.reduce(dispatch::ReduceKind::kAdd, x, std::move(axes)); }
  ValueId spread(ValueId x, const Dims &to) { return n.broadcast_to(x, to); }
};

// x at the points of `to` whose coordinate along axis i of x is coordinates[i] (i64, broadcast to `to`, in range).
inline ValueId gather_points(Node &n, ValueId x, const std::vector<ValueId> &coordinates, const Dims &to) {
  Algebra a(n);
  const Dims from = a.dims(x);
  ValueId offset = n.b.splat_int(ElementType::kI64, to, 0);
  Expr stride = 1;
  for (size_t i = from.size(); i-- > 0;) {
    offset = a.add(offset, a.mul(coordinates[i], a.number(ElementType::kI64, stride)));
    stride = stride * from[i];
  }
  return n.b.gather(n.reshape(x, {stride}), offset, 0);
}

// A loop of a known number of trips: `body(i, carried)` gives the next carried values, then what is stacked along a new
// axis 0. Returns the last carried values, then the stacks.
template <typename Body>
std::vector<ValueId> counted_loop(Node &n, const Expr &trips, const std::vector<ValueId> &initial, const Body &body) {
  graph::LoopInfo info;
  info.carried = static_cast<uint32_t>(initial.size());
  info.trip_count = trips;
  const int64_t most = std::min<int64_t>(std::max<int64_t>(trips.upper(), 0), 0x7fffffff);
  info.iteration = Symbol::host(n.importer().unique_symbol(n.name + "_i"), 0, std::max<int64_t>(most - 1, 0));
  info.trips = Symbol::host(n.importer().unique_symbol(n.name + "_trips"), 0, most);
  graph::Graph region;
  graph::Graph *outer = n.importer().enter_region(region);
  std::vector<ValueId> carried;
  std::vector<TensorType> types;
  for (ValueId v : initial) {
    const TensorType type = n.b.type(v);
    carried.push_back(n.b.add_value(type, n.name + "_carried"));
    region.inputs.push_back({n.name + "_carried", carried.back()});
    types.push_back(type);
  }
  const std::vector<ValueId> results = body(Expr(info.iteration), carried);
  n.importer().leave_region(outer);
  std::set<Symbol> inside = {info.iteration};
  bound_inside(region, inside);
  for (size_t i = 0; i < results.size(); ++i) {
    region.outputs.push_back({n.name + "_next", results[i]});
    if (i < initial.size())
      continue;
    TensorType type = n.b.type(results[i]);
    for (const Expr &dim : type.dims)
      if (!free_of(dim, inside))
        n.fail("the size of a result that is stacked, " + to_string(type) + ", changes from step to step");
    if (type.dims.size() > 7)
      n.fail("a stacked result has rank 9; at most 8 is supported");
    type.dims.insert(type.dims.begin(), trips);
    types.push_back(type);
  }
  info.scans = static_cast<uint32_t>(results.size() - initial.size());
  return n.b.loop(std::move(info), initial, std::move(region), types);
}

} // namespace ingot::aotc::importer
