// Operators about shapes and constants: they fold to host values and forward views.
#include <algorithm>
#include <cmath>

#include "aotc/graph/constant.h"
#include "aotc/import/onnx/algebra.h"
#include "aotc/import/onnx/host_values.h"
#include "aotc/import/onnx/math.h"
#include "aotc/import/onnx/random.h"
#include "aotc/import/onnx/runtime_axes.h"

namespace ingot::aotc::importer {

namespace {

void import_constant(Node &n) {
  n.need_inputs(0, 0);
  using A = onnx::AttributeProto;
  const auto text = [&](const char *what) { n.fail(std::string("holds ") + what + ", which is not supported"); };
  for (const A &a : n.proto().attribute()) {
    std::string error;
    if (a.name() == "value" && a.has_t()) {
      const ValuePtr v = n.importer().constant(a.t(), error);
      if (!v)
        n.fail(error);
      n.set_value(0, v);
    } else if (a.name() == "value_float") {
      n.set_data(0, {ElementType::kF32, {}}, graph::make_floats(ElementType::kF32, {a.f()}));
    } else if (a.name() == "value_int") {
      n.set_data(0, {ElementType::kI64, {}}, graph::make_ints(ElementType::kI64, {a.i()}));
    } else if (a.name() == "value_floats") {
      n.set_data(0, {ElementType::kF32, {Expr(static_cast<int64_t>(a.floats_size()))}},
                 graph::make_floats(ElementType::kF32, {a.floats().begin(), a.floats().end()}));
    } else if (a.name() == "value_ints") {
      n.set_data(0, {ElementType::kI64, {Expr(static_cast<int64_t>(a.ints_size()))}},
                 graph::make_ints(ElementType::kI64, {a.ints().begin(), a.ints().end()}));
    } else if (a.name() == "sparse_value") {
      text("a sparse tensor");
    } else if (a.name() == "value_string") {
      n.set_host_value(0, strings_constant(n.b, {}, std::vector<std::string>{a.s()}), strings_type());
    } else if (a.name() == "value_strings") {
      n.set_host_value(0, strings_constant(n.b, {Expr(static_cast<int64_t>(a.strings_size()))}, {a.strings().begin(), a.strings().end()}),
                       strings_type());
    } else {
      continue;
    }
    return;
  }
  n.fail("has no value");
}

void import_identity(Node &n) {
  n.need_inputs(1, 1);
  n.set_value(0, n.value(0));
}

// Elements stay with probability 1 - ratio, enlarged so that the mean stays; none is dropped where the mode is off.
void dropout_in_training(Node &n) {
  n.need_float(0);
  Algebra a(n);
  const ElementType e = n.element(0);
  const ValueId ratio = n.has(1) ? n.b.convert(ElementType::kF32, n.as_scalar(n.in(1))) : a.number(ElementType::kF32, 0.5);
  const ValueId on = n.b.convert(ElementType::kBool, n.as_scalar(n.in(2)));
  const ValueId effective = a.select(on, ratio, a.number(ratio, 0));
  const ValueId stays = a.le(a.spread(effective, n.dims(0)), random_unit(n, n.dims(0), 0));
  const ValueId x = n.lift(n.in(0));
  const ValueId scaled = a.div(x, n.b.convert(a.element(x), a.sub(a.number(ratio, 1), effective)));
  n.set(0, n.lower(e, a.select(stays, scaled, a.number(x, 0))));
  if (n.wants(1))
    n.set(1, stays);
}

// Inference: the identity, and a mask of all true. training_mode from opset 12 on is an input.
void import_dropout(Node &n) {
  n.need_inputs(1, n.opset < 12 ? 1 : 3);
  if (n.has(2)) {
    const auto training = n.constant_ints(2);
    const auto ratio = n.has(1) ? n.constant_floats(1) : std::optional(std::vector<double>{0.5});
    const bool off = (training && training->size() == 1 && (*training)[0] == 0) ||
                     (ratio && ratio->size() == 1 && (*ratio)[0] == 0);
    if (!off) {
      dropout_in_training(n);
      return;
    }
  }
  if (n.opset < 7 && n.int_attr("is_test", 0) == 0)
    n.fail("attribute 'is_test' is 0: training mode is not supported below opset 7", "export the model for inference");
  n.set_value(0, n.value(0));
  if (n.wants(1))
    n.set(1, n.b.splat_int(ElementType::kBool, n.dims(0), 1));
}

void import_shape(Node &n) {
  n.need_inputs(1, 1);
  const int64_t rank = n.rank(0);
  const auto clamp = [&](int64_t v) { return std::clamp<int64_t>(v < 0 ? v + rank : v, 0, rank); };
  const int64_t start = clamp(n.int_attr("start", 0)), end = clamp(n.int_attr("end", rank));
  const Dims &dims = n.dims(0);
  std::vector<Expr> out;
  for (int64_t i = start; i < end; ++i)
    out.push_back(dims[static_cast<size_t>(i)]);
  const int64_t count = static_cast<int64_t>(out.size());
  n.set_host(0, ElementType::kI64, {Expr(count)}, std::move(out));
}

void import_size(Node &n) {
  n.need_inputs(1, 1);
  n.set_host(0, ElementType::kI64, {}, {n.type(0).elements()});
}

// --- reshape and its kin ---

// Sets output 0 to input 0 seen with other dims, in whichever forms it has.
void set_view(Node &n, Dims dims) {
  const ValuePtr &v = n.value(0);
  const bool known = std::all_of(dims.begin(), dims.end(), [](const Expr &d) { return d.is_constant(); });
  if (const std::vector<Expr> *host = n.host(0); host && known) {
    std::vector<Expr> values = *host;
    n.set_host(0, v->type.element, std::move(dims), std::move(values));
  } else if (v->data && known && v->type.elements() == product(dims)) {
    n.set_data(0, {v->type.element, std::move(dims)}, v->data);
  } else {
    n.set(0, n.reshape(n.in(0), n.check_dims(std::move(dims))));
  }
}

// product(a) / product(b) with equal factors struck out first, so that symbolic dims cancel.
Expr divide_products(Dims a, Dims b, bool &exact) {
  for (size_t i = 0; i < b.size();) {
    const auto it = std::find(a.begin(), a.end(), b[i]);
    if (it != a.end() && !(*it == Expr(0))) {
      a.erase(it);
      b.erase(b.begin() + static_cast<long>(i));
    } else {
      ++i;
    }
  }
  const Expr divisor = product(b), dividend = product(a);
  exact = divisor == Expr(1);
  if (divisor.constant() && *divisor.constant() == 0)
    return 0;
  const Expr quotient = exact ? dividend : floordiv(dividend, divisor);
  exact = exact || quotient * divisor == dividend;
  return quotient;
}

void import_reshape(Node &n) {
  n.need_inputs(2, 2);
  const bool allow_zero = n.int_attr("allowzero", 0) != 0;
  const Dims from = n.dims(0);
  const std::vector<Expr> shape = n.shape_values(1, -1, kMaxDim);
  Dims dims, known;
  std::optional<size_t> free;
  std::vector<Expr> copied = from; // dims that are copied (0) cancel by position
  for (size_t i = 0; i < shape.size(); ++i) {
    Expr dim = shape[i];
    const auto c = dim.constant();
    if (c && *c < -1)
      n.fail("the shape holds " + std::to_string(*c));
    if (c && *c == 0 && !allow_zero) {
      if (i >= from.size())
        n.fail("the shape copies dim " + std::to_string(i) + " of " + to_string(n.type(0)));
      dim = from[i];
    } else if (!c && !allow_zero && dim.lower() <= 0 && dim.upper() >= 0 && !n.value(1)->data && dim.lower() < 0) {
      // Read at run time: may be 0 (copy).
      dim = select(equal(dim, Expr(0)), i < from.size() ? from[i] : Expr(0), dim);
    }
    if (c && *c == -1) {
      if (free)
        n.fail("the shape holds more than one -1");
      free = i;
      dims.push_back(1);
      continue;
    }
    dims.push_back(dim);
    known.push_back(dim);
  }
  bool runtime = false;
  for (const Expr &dim : known)
    runtime = runtime || (!dim.is_constant() && dim.lower() < 0);
  if (runtime && !free) {
    // Any of them may be -1: the product of the others is minus the product of all.
    const Expr total = product(from);
    Dims resolved = dims;
    for (size_t i = 0; i < dims.size(); ++i) {
      if (dims[i].is_constant() || dims[i].lower() >= 0)
        continue;
      Dims others = dims;
      others.erase(others.begin() + static_cast<long>(i));
      const Expr rest = max(product(others), Expr(1));
      resolved[i] = max(select(less(dims[i], Expr(0)), floordiv(total, rest), dims[i]), Expr(0));
    }
    dims = resolved;
  } else if (free) {
    bool exact = false;
    dims[*free] = divide_products(from, known, exact);
    if (exact) {
      n.check_dims(dims);
      set_view(n, std::move(dims));
      return;
    }
  }
  n.check_dims(dims);
  const Expr before = product(from), after = product(dims);
  if (!(before == after)) {
    if ((before.is_constant() && after.is_constant()) || proves_lt(before, after) || proves_lt(after, before))
      n.fail("cannot reshape " + to_string(n.type(0)) + " to " + to_string(TensorType{n.element(0), dims}) + ": " +
             before.to_string() + " and " + after.to_string() + " elements");
    n.require_equal(before, after, "cannot reshape " + to_string(n.type(0)) + " to " + to_string(TensorType{n.element(0), dims}));
  }
  set_view(n, std::move(dims));
}

void import_flatten(Node &n) {
  n.need_inputs(1, 1);
  const int64_t rank = n.rank(0);
  int64_t axis = n.int_attr("axis", 1);
  if (axis < -rank || axis > rank)
    n.fail("axis " + std::to_string(axis) + " is out of range for rank " + std::to_string(rank));
  if (axis < 0)
    axis += rank;
  const Dims &d = n.dims(0);
  set_view(n, {product(Dims(d.begin(), d.begin() + axis)), product(Dims(d.begin() + axis, d.end()))});
}

// Axes: an attribute below opset 13, an input (known at compile time) from then on.
std::optional<std::vector<int64_t>> view_axes(Node &n) {
  if (n.opset < 13)
    return n.ints_attr("axes");
  if (!n.has(1))
    return std::nullopt;
  return n.need_constant_ints(1, "axes");
}

// Axes known at run time change no element: each result dim is the input dim whose place moves there.
bool runtime_axes(Node &n) { return n.opset >= 13 && n.has(1) && !n.constant_ints(1); }

// As host scalars: kernels then take each dim as a parameter, and know nothing of the choice that makes it.
Dims bind_dims(Node &n, const Dims &dims) {
  Dims bound;
  for (const Expr &dim : dims)
    bound.push_back(dim.is_constant() ? dim : Expr(n.b.bind(dim, n.importer().unique_symbol(n.name + "_dim"), 0, kMaxDim)));
  return bound;
}

void squeeze_at_run_time(Node &n) {
  const Dims from = n.dims(0);
  const int64_t rank = n.rank(0);
  const std::vector<Expr> axes = axis_values(n, 1, rank);
  if (static_cast<int64_t>(axes.size()) > rank)
    n.fail("has " + std::to_string(axes.size()) + " axes for rank " + std::to_string(rank));
  Dims dims(from.size() - axes.size(), Expr(0));
  Expr place = 0;
  for (int64_t i = 0; i < rank; ++i) {
    const Expr dropped = names_axis(axes, i, rank);
    for (size_t o = 0; o < dims.size(); ++o)
      dims[o] = dims[o] + select(logical_and(logical_not(dropped), equal(place, Expr(static_cast<int64_t>(o)))), from[static_cast<size_t>(i)], Expr(0));
    place = place + logical_not(dropped);
  }
  dims = bind_dims(n, dims);
  n.require_equal(product(dims), product(from), "squeezed axes of " + to_string(n.type(0)) + " must have extent 1: elements");
  n.set(0, n.reshape(n.in(0), dims));
}

void unsqueeze_at_run_time(Node &n) {
  const Dims from = n.dims(0);
  const std::optional<int64_t> count = n.type(1).elements().constant();
  const int64_t rank = n.rank(0) + count.value_or(8);
  if (rank > 8)
    n.fail("the result's rank is unknown or above 8");
  const std::vector<Expr> axes = axis_values(n, 1, rank);
  Dims dims;
  Expr place = 0; // of the next input dim
  for (int64_t o = 0; o < rank; ++o) {
    const Expr fresh = names_axis(axes, o, rank);
    Expr dim = fresh;
    for (size_t i = 0; i < from.size(); ++i)
      dim = dim + select(logical_and(logical_not(fresh), equal(place, Expr(static_cast<int64_t>(i)))), from[i], Expr(0));
    dims.push_back(dim);
    place = place + logical_not(fresh);
  }
  dims = bind_dims(n, dims);
  n.require_equal(product(dims), product(from), "axes must be distinct: elements");
  n.set(0, n.reshape(n.in(0), dims));
}

void import_squeeze(Node &n) {
  n.need_inputs(1, n.opset < 13 ? 1 : 2);
  if (runtime_axes(n)) {
    squeeze_at_run_time(n);
    return;
  }
  const Dims from = n.dims(0);
  std::vector<bool> drop(from.size());
  if (const auto axes = view_axes(n)) {
    for (int64_t a : *axes) {
      const size_t i = static_cast<size_t>(n.axis(a, n.rank(0)));
      n.require_equal(from[i], 1, "squeezed axis " + std::to_string(i) + " of " + to_string(n.type(0)));
      drop[i] = true;
    }
  } else {
    for (size_t i = 0; i < from.size(); ++i)
      drop[i] = from[i] == Expr(1);
  }
  Dims dims;
  for (size_t i = 0; i < from.size(); ++i)
    if (!drop[i])
      dims.push_back(from[i]);
  set_view(n, std::move(dims));
}

void import_unsqueeze(Node &n) {
  n.need_inputs(n.opset < 13 ? 1 : 2, n.opset < 13 ? 1 : 2);
  if (runtime_axes(n)) {
    unsqueeze_at_run_time(n);
    return;
  }
  const auto axes = view_axes(n);
  if (!axes)
    n.fail("has no axes");
  const int64_t rank = n.rank(0) + static_cast<int64_t>(axes->size());
  if (rank > 8)
    n.fail("the result has rank " + std::to_string(rank) + "; at most 8 is supported");
  std::vector<bool> fresh(static_cast<size_t>(rank));
  for (int64_t a : *axes) {
    const size_t i = static_cast<size_t>(n.axis(a, rank));
    if (fresh[i])
      n.fail("axis " + std::to_string(a) + " is named twice");
    fresh[i] = true;
  }
  Dims dims;
  size_t next = 0;
  for (size_t i = 0; i < fresh.size(); ++i)
    dims.push_back(fresh[i] ? Expr(1) : n.dims(0)[next++]);
  set_view(n, std::move(dims));
}

// --- new tensors ---

void import_constant_of_shape(Node &n) {
  n.need_inputs(1, 1);
  Dims dims = n.check_dims(n.shape_values(0, 0, kMaxDim));
  TensorType scalar{ElementType::kF32, {}};
  std::shared_ptr<const graph::ConstantData> data = graph::make_floats(ElementType::kF32, {0});
  if (const onnx::AttributeProto *a = n.attribute("value")) {
    std::string error;
    const ValuePtr v = a->has_t() ? n.importer().constant(a->t(), error) : nullptr;
    if (v && v->narrow)
      n.fail("attribute 'value' has element type " + onnx_type_name(v->narrow) + ", which is not supported");
    if (!v || !(v->type.elements() == Expr(1)))
      n.fail("attribute 'value' must be a tensor of one element" + (error.empty() ? "" : ": " + error));
    scalar.element = v->type.element;
    data = v->data;
  }
  const auto count = product(dims).constant();
  if (is_float(scalar.element)) {
    n.set(0, n.b.splat_float(scalar.element, dims, graph::read_float(*data, 0)));
  } else if (count && *count <= kMaxHostElements) {
    n.set_host(0, scalar.element, dims, std::vector<Expr>(static_cast<size_t>(*count), Expr(graph::read_int(*data, 0))));
  } else {
    n.set(0, n.b.splat_int(scalar.element, dims, graph::read_int(*data, 0)));
  }
}

// start, start + delta, ... below (or above) limit
void import_range(Node &n) {
  n.need_inputs(3, 3);
  n.need_same_element(0, 1);
  n.need_same_element(0, 2);
  const ElementType e = n.element(0);
  if (is_float(e)) {
    const auto start = n.constant_floats(0), limit = n.constant_floats(1), delta = n.constant_floats(2);
    Expr count;
    if (start && limit && delta && start->size() == 1 && limit->size() == 1 && delta->size() == 1) {
      const double d = std::ceil(((*limit)[0] - (*start)[0]) / (*delta)[0]);
      if (!(std::fabs(d) < 2147483648.0))
        n.fail("start, limit and delta give no finite number of elements");
      count = static_cast<int64_t>(std::max(d, 0.0));
    } else {
      const ValueId a = n.as_scalar(n.in(0)), b = n.as_scalar(n.in(1)), c = n.as_scalar(n.in(2));
      const ValueId steps = n.b.map(K::kCeil, {n.b.map(K::kDiv, {n.b.map(K::kSub, {b, a}), c})});
      count = n.b.read_scalar(n.b.map(K::kMax, {n.b.convert(ElementType::kI64, steps),
                                               n.b.splat_int(ElementType::kI64, {}, 0)}),
                              n.importer().unique_symbol(n.name + "_count"), 0, kMaxDim);
    }
    const Dims dims = n.check_dims({count});
    const ElementType compute = e == ElementType::kF64 ? e : ElementType::kF32;
    const ValueId i = n.b.convert(compute, n.b.iota(ElementType::kI64, dims, 0));
    const auto operand = [&](size_t k) {
      return n.broadcast_to(n.b.convert(compute, n.as_scalar(n.in(k))), dims);
    };
    n.set(0, n.b.convert(e, n.b.map(K::kAdd, {operand(0), n.b.map(K::kMul, {i, operand(2)})})));
    return;
  }
  constexpr int64_t kBound = int64_t{1} << 31;
  const Expr start = n.host_scalar(0, -kBound, kBound), limit = n.host_scalar(1, -kBound, kBound),
             delta = n.host_scalar(2, -kBound, kBound);
  if (delta.constant() && *delta.constant() == 0)
    n.fail("delta is 0");
  Expr count;
  if (proves_lt(Expr(0), delta)) {
    count = max(ceildiv(limit - start, delta), Expr(0));
  } else if (proves_lt(delta, Expr(0))) {
    count = max(ceildiv(start - limit, -delta), Expr(0));
  } else { // the sign is known at run time only
    n.b.check(logical_not(equal(delta, Expr(0))), "node '" + n.name + "' (" + n.source + "): delta is 0");
    const Expr forward = less(Expr(0), delta), size = max(max(delta, -delta), Expr(1));
    count = max(ceildiv(select(forward, limit - start, start - limit), size), Expr(0));
  }
  if (count.constant() && *count.constant() <= kMaxHostElements) {
    std::vector<Expr> values;
    for (int64_t i = 0; i < *count.constant(); ++i)
      values.push_back(start + delta * Expr(i));
    n.set_host(0, e, {count}, std::move(values));
    return;
  }
  n.set(0, n.b.iota(e, n.check_dims({count}), 0, start, delta));
}

void import_eye_like(Node &n) {
  n.need_inputs(1, 1);
  if (n.rank(0) != 2)
    n.fail("takes a matrix, got " + to_string(n.type(0)));
  ElementType e = n.element(0);
  if (n.attribute("dtype")) {
    const auto type = element_type(static_cast<int32_t>(n.int_attr("dtype", 0)));
    if (!type)
      n.fail("attribute 'dtype' is not supported");
    e = *type;
  }
  const Dims dims = n.dims(0);
  const ValueId row = n.b.iota(ElementType::kI64, dims, 0, Expr(n.int_attr("k", 0))), column = n.b.iota(ElementType::kI64, dims, 1);
  n.set(0, n.b.convert(e, n.b.map(K::kEq, {row, column})));
}

} // namespace

std::vector<OperatorRow> shape_operators() {
  return {
      {"", "Constant", 6, kMaxOpset, import_constant},
      {"", "ConstantOfShape", 9, kMaxOpset, import_constant_of_shape},
      {"", "Dropout", 6, kMaxOpset, import_dropout},
      {"", "EyeLike", 9, kMaxOpset, import_eye_like},
      {"", "Flatten", 6, kMaxOpset, import_flatten},
      {"", "Identity", 6, kMaxOpset, import_identity},
      {"", "Range", 11, kMaxOpset, import_range},
      {"", "Reshape", 6, kMaxOpset, import_reshape},
      {"", "Shape", 6, kMaxOpset, import_shape},
      {"", "Size", 6, kMaxOpset, import_size},
      {"", "Squeeze", 6, kMaxOpset, import_squeeze},
      {"", "Unsqueeze", 6, kMaxOpset, import_unsqueeze},
  };
}

} // namespace ingot::aotc::importer
