// Reductions, argument reductions, cumulative sums.
#include <algorithm>

#include "aotc/import/onnx/math.h"
#include "aotc/import/onnx/runtime_axes.h"

namespace ingot::aotc::importer {

namespace {

using dispatch::ReduceKind;

struct Reduction {
  std::vector<uint32_t> axes;
  bool keep = true, none = false; // none: nothing is reduced (noop_with_empty_axes)
  Expr count = 1;
};

// Axes come as an attribute or, from `input_since` on, as an input known at compile time.
Reduction read_reduction(Node &n, int64_t input_since) {
  n.need_inputs(1, n.opset < input_since ? 1 : 2);
  Reduction r;
  r.keep = n.int_attr("keepdims", 1) != 0;
  std::optional<std::vector<int64_t>> axes;
  if (n.opset < input_since)
    axes = n.ints_attr("axes");
  else if (n.has(1))
    axes = n.need_constant_ints(1, "axes");
  const int64_t rank = n.rank(0);
  if (!axes || axes->empty()) {
    r.none = n.opset >= input_since && n.int_attr("noop_with_empty_axes", 0) != 0;
    if (!r.none)
      for (int64_t i = 0; i < rank; ++i)
        r.axes.push_back(static_cast<uint32_t>(i));
  } else {
    for (int64_t a : *axes)
      r.axes.push_back(static_cast<uint32_t>(n.axis(a, rank)));
    std::sort(r.axes.begin(), r.axes.end());
    if (std::adjacent_find(r.axes.begin(), r.axes.end()) != r.axes.end())
      n.fail("axes name an axis twice");
  }
  for (uint32_t a : r.axes)
    r.count = r.count * n.dims(0)[a];
  return r;
}

ValueId finish(Node &n, const Reduction &r, ElementType element, ValueId y) {
  y = n.lower(element, y);
  return r.keep ? n.keep_axes(y, r.axes, n.dims(0)) : y;
}

// Sets output 0 to `build` of the reduction, whose axes may be known at run time only.
void reduce_with(Node &n, int64_t input_since, const std::function<ValueId(const Reduction &)> &build) {
  if (n.opset < input_since || !n.has(1) || n.constant_ints(1)) {
    n.set(0, build(read_reduction(n, input_since)));
    return;
  }
  n.need_inputs(1, 2);
  const int64_t rank = n.rank(0);
  n.in(0); // outside of the branches
  n.set(0, choose_axes(n, axis_values(n, 1, rank), rank, [&](const std::vector<uint32_t> &axes) {
    Reduction r;
    r.keep = n.int_attr("keepdims", 1) != 0;
    r.axes = axes;
    for (uint32_t a : axes)
      r.count = r.count * n.dims(0)[a];
    return build(r);
  }));
}

// before/after: what is done to each element, and to each result.
enum class Element { kSame, kAbs, kSquare, kExp };
enum class Result { kSame, kSqrt, kLog, kMean };

// A reduction of a host value (a product of dims, say) is one.
bool fold(Node &n, ReduceKind kind, int64_t input_since) {
  if (is_float(n.element(0)) || n.element(0) == ElementType::kBool || !n.host(0) || n.host(0)->empty() ||
      (n.opset >= input_since && n.has(1) && !n.constant_ints(1)))
    return false;
  const Reduction r = read_reduction(n, input_since);
  const ElementType e = n.element(0);
  if (r.none) {
    n.set_value(0, n.value(0));
    return true;
  }
  if (r.axes.size() != n.dims(0).size() || e == ElementType::kU64)
    return false;
  const std::vector<Expr> &host = *n.host(0);
  Expr acc = host[0];
  for (size_t i = 1; i < host.size(); ++i) {
    const Expr &v = host[i];
    const auto far = [](const Expr &x) { return x.lower() < -(int64_t{1} << 31) || x.upper() > int64_t{1} << 31; };
    if (far(acc) || far(v)) // may overflow
      return false;
    acc = kind == ReduceKind::kAdd ? acc + v : kind == ReduceKind::kMul ? acc * v : kind == ReduceKind::kMax ? max(acc, v) : min(acc, v);
  }
  if (byte_size(e) < 4 || acc.lower() < -(int64_t{1} << 31) || acc.upper() >= int64_t{1} << 31)
    return false;
  n.set_host(0, e, r.keep ? Dims(n.dims(0).size(), Expr(1)) : Dims(), {acc});
  return true;
}

void reduce(Node &n, ReduceKind kind, Element before, Result after, int64_t input_since = 18) {
  const ElementType e = n.element(0);
  if (e == ElementType::kBool && kind != ReduceKind::kMax && kind != ReduceKind::kMin)
    n.fail("takes no bool operand");
  if (before == Element::kSame && after == Result::kSame && fold(n, kind, input_since))
    return;
  reduce_with(n, input_since, [&](const Reduction &r) {
    if (e == ElementType::kBool)
      return finish(n, r, e, n.b.reduce(kind == ReduceKind::kMax ? ReduceKind::kOr : ReduceKind::kAnd, n.in(0), r.axes));
    // Roots and logarithms of integers are taken in f64 and truncated.
    const bool floats = before == Element::kExp || after == Result::kSqrt || after == Result::kLog;
    ValueId x = n.lift(n.in(0));
    if (!is_float(e) && floats)
      x = n.b.convert(ElementType::kF64, x);
    switch (before) {
      case Element::kSame: break;
      case Element::kAbs:
        if (!is_unsigned(e))
          x = n.b.map(K::kAbs, {x});
        break;
      case Element::kSquare: x = n.b.map(K::kMul, {x, x}); break;
      case Element::kExp: x = n.b.map(K::kExp, {x}); break;
    }
    ValueId y = n.b.reduce(kind, x, r.axes);
    switch (after) {
      case Result::kSame: break;
      case Result::kSqrt: y = n.b.map(K::kSqrt, {y}); break;
      case Result::kLog: y = n.b.map(K::kLog, {y}); break;
      case Result::kMean: {
        const bool divide_unsigned = is_unsigned(n.b.type(y).element);
        y = n.b.map(divide_unsigned ? K::kDivU : K::kDiv, {y, count_like(n, y, r.count)});
        break;
      }
    }
    return finish(n, r, e, y);
  });
}

void import_reduce_sum(Node &n) { reduce(n, ReduceKind::kAdd, Element::kSame, Result::kSame, 13); }
void import_reduce_mean(Node &n) { reduce(n, ReduceKind::kAdd, Element::kSame, Result::kMean); }
void import_reduce_max(Node &n) { reduce(n, ReduceKind::kMax, Element::kSame, Result::kSame); }
void import_reduce_min(Node &n) { reduce(n, ReduceKind::kMin, Element::kSame, Result::kSame); }
void import_reduce_prod(Node &n) { reduce(n, ReduceKind::kMul, Element::kSame, Result::kSame); }
void import_reduce_l1(Node &n) { reduce(n, ReduceKind::kAdd, Element::kAbs, Result::kSame); }
void import_reduce_l2(Node &n) { reduce(n, ReduceKind::kAdd, Element::kSquare, Result::kSqrt); }
void import_reduce_sum_square(Node &n) { reduce(n, ReduceKind::kAdd, Element::kSquare, Result::kSame); }
void import_reduce_log_sum(Node &n) { reduce(n, ReduceKind::kAdd, Element::kSame, Result::kLog); }

// log(sum(exp(x))) = max + log(sum(exp(x - max))); an infinite max is left out of the subtraction.
void import_reduce_log_sum_exp(Node &n) {
  const ElementType e = n.element(0);
  if (e == ElementType::kBool)
    n.fail("takes no bool operand");
  reduce_with(n, 18, [&](const Reduction &r) {
    ValueId x = n.lift(n.in(0));
    if (!is_float(e))
      x = n.b.convert(ElementType::kF64, x);
    const ValueId largest = n.b.reduce(ReduceKind::kMax, x, r.axes);
    const ValueId finite = n.b.map(K::kSelect, {n.b.map(K::kIsInf, {largest}), n.constant(largest, 0), largest});
    const ValueId shifted = n.b.map(K::kSub, {x, n.spread(finite, r.axes, n.dims(0))});
    const ValueId sum = n.b.reduce(ReduceKind::kAdd, n.b.map(K::kExp, {shifted}), r.axes);
    return finish(n, r, e, n.b.map(K::kAdd, {n.b.map(K::kLog, {sum}), finite}));
  });
}

void arg(Node &n, bool largest) {
  n.need_inputs(1, 1);
  if (n.rank(0) == 0)
    n.fail("takes no scalar");
  const uint32_t axis = static_cast<uint32_t>(n.axis(n.int_attr("axis", 0), n.rank(0)));
  if (n.dims(0)[axis] == Expr(0))
    n.fail("axis " + std::to_string(axis) + " of " + to_string(n.type(0)) + " is empty");
  const bool last = n.int_attr("select_last_index", 0) != 0;
  const ReduceKind kind = largest ? (last ? ReduceKind::kArgMaxLast : ReduceKind::kArgMax)
                                  : (last ? ReduceKind::kArgMinLast : ReduceKind::kArgMin);
  const ValueId y = n.b.reduce(kind, n.lift(n.in(0)), {axis});
  n.set(0, n.int_attr("keepdims", 1) != 0 ? n.keep_axes(y, {axis}, n.dims(0)) : y);
}

void import_arg_max(Node &n) { arg(n, true); }
void import_arg_min(Node &n) { arg(n, false); }

void import_cum_sum(Node &n) {
  n.need_inputs(2, 2);
  if (n.element(0) == ElementType::kBool || n.rank(0) == 0)
    n.fail("takes numbers of rank 1 or more");
  const std::vector<Expr> axis = axis_values(n, 1, n.rank(0));
  if (axis.size() != 1)
    n.fail("takes one axis, got " + to_string(n.type(1)));
  const ValueId x = n.lift(n.in(0));
  const bool exclusive = n.int_attr("exclusive", 0) != 0, reverse = n.int_attr("reverse", 0) != 0;
  n.set(0, choose_axes(n, axis, n.rank(0), [&](const std::vector<uint32_t> &axes) {
    return n.lower(n.element(0), n.b.scan_sum(x, axes[0], exclusive, reverse));
  }));
}

} // namespace

std::vector<OperatorRow> reduce_operators() {
  return {
      {"", "ArgMax", 6, kMaxOpset, import_arg_max},
      {"", "ArgMin", 6, kMaxOpset, import_arg_min},
      {"", "CumSum", 11, kMaxOpset, import_cum_sum},
      {"", "ReduceL1", 6, kMaxOpset, import_reduce_l1},
      {"", "ReduceL2", 6, kMaxOpset, import_reduce_l2},
      {"", "ReduceLogSum", 6, kMaxOpset, import_reduce_log_sum},
      {"", "ReduceLogSumExp", 6, kMaxOpset, import_reduce_log_sum_exp},
      {"", "ReduceMax", 6, kMaxOpset, import_reduce_max},
      {"", "ReduceMean", 6, kMaxOpset, import_reduce_mean},
      {"", "ReduceMin", 6, kMaxOpset, import_reduce_min},
      {"", "ReduceProd", 6, kMaxOpset, import_reduce_prod},
      {"", "ReduceSum", 6, kMaxOpset, import_reduce_sum},
      {"", "ReduceSumSquare", 6, kMaxOpset, import_reduce_sum_square},
  };
}

} // namespace ingot::aotc::importer
