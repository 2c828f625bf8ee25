// Normalisations, as means and variances in f32 that fusion makes one kernel of.
#include <algorithm>
#include <cmath>

#include "aotc/graph/constant.h"
#include "aotc/import/onnx/math.h"

namespace ingot::aotc::importer {

namespace {

using dispatch::ReduceKind;

struct Moments {
  ValueId centred;   // x - mean
  ValueId mean, inverse; // reduced; inverse = 1 / sqrt(variance + epsilon)
};

// Mean and inverse standard deviation over `axes`, of x with its own dims.
Moments moments(Node &n, ValueId x, const std::vector<uint32_t> &axes, double epsilon) {
  const Dims dims = n.dims_of(x);
  Expr count = 1;
  for (uint32_t a : axes)
    count = count * dims[a];
  const auto m = [&](K code, ValueId a, ValueId b) { return n.b.map(code, {a, b}); };
  const ValueId sum = n.b.reduce(ReduceKind::kAdd, x, axes);
  const ValueId mean = m(K::kDiv, sum, count_like(n, sum, count));
  const ValueId centred = m(K::kSub, x, n.spread(mean, axes, dims));
  const ValueId squares = n.b.reduce(ReduceKind::kAdd, m(K::kMul, centred, centred), axes);
  const ValueId variance = m(K::kDiv, squares, count_like(n, squares, count));
  const ValueId deviation = n.b.map(K::kSqrt, {m(K::kAdd, variance, n.constant(variance, epsilon))});
  return {centred, mean, m(K::kDiv, n.constant(deviation, 1), deviation)};
}

// A vector [c] along `axis` of dims, in the type of computation.
ValueId along(Node &n, size_t input, uint32_t axis, const Dims &dims, ElementType element) {
  if (n.rank(input) != 1)
    n.fail("input " + std::to_string(input) + " must be of rank 1, got " + to_string(n.type(input)));
  n.require_equal(n.dims(input)[0], dims[axis], "input " + std::to_string(input) + " " + to_string(n.type(input)) + " and channels");
  return n.b.broadcast(n.b.convert(element, n.in(input)), {axis}, dims);
}

// Inference: y = x * s + t with s = scale / sqrt(var + epsilon) and t = bias - mean * s, computed here if constant.
void import_batch_norm(Node &n) {
  n.need_inputs(5, 5);
  n.need_float(0);
  if (n.opset < 7 && n.int_attr("is_test", 0) == 0)
    n.fail("attribute 'is_test' is 0: training mode is not supported below opset 14", "export the model for inference");
  if (n.opset < 9 && n.int_attr("spatial", 1) == 0)
    n.fail("attribute 'spatial' is 0, which is not supported");
  if (n.rank(0) < 2)
    n.fail("takes [n,c,...], got " + to_string(n.type(0)));
  const bool training = n.opset >= 14 && n.int_attr("training_mode", 0) != 0;
  for (size_t i = 1; i < n.outputs(); ++i)
    if (n.wants(i) && !training)
      n.fail("training outputs are not supported", "export the model for inference");
  const double epsilon = n.float_attr("epsilon", 1e-5f);
  const Dims dims = n.dims(0);
  Math m(n, n.in(0));
  const ElementType compute = n.b.type(m.x).element;
  const Expr channels = dims[1];
  for (size_t i = 1; i < 5; ++i) {
    if (n.rank(i) != 1)
      n.fail("input " + std::to_string(i) + " must be of rank 1, got " + to_string(n.type(i)));
    n.require_equal(n.dims(i)[0], channels, "input " + std::to_string(i) + " " + to_string(n.type(i)) + " and channels of " + to_string(n.type(0)));
  }
  if (training) { // statistics of this batch; the running ones are updated
    std::vector<uint32_t> axes = {0};
    for (uint32_t i = 2; i < dims.size(); ++i)
      axes.push_back(i);
    const Moments mo = moments(n, m.x, axes, epsilon);
    const ValueId y = m.mul(m.mul(mo.centred, n.spread(mo.inverse, axes, dims)), along(n, 1, 1, dims, compute));
    m.finish(0, m.add(y, along(n, 2, 1, dims, compute)));
    Expr count = dims[0];
    for (size_t i = 2; i < dims.size(); ++i)
      count = count * dims[i];
    const ValueId squares = n.b.reduce(ReduceKind::kAdd, m.mul(mo.centred, mo.centred), axes);
    const ValueId variance = m.div(squares, count_like(n, squares, count));
    const double momentum = n.float_attr("momentum", 0.9f);
    for (size_t i = 1; i <= 2; ++i)
      if (n.wants(i)) {
        const ValueId old = n.b.convert(compute, n.in(i + 2)), now = i == 1 ? mo.mean : variance;
        n.set(i, n.b.convert(n.element(i + 2), m.add(m.mul(old, n.constant(old, momentum)), m.mul(now, n.constant(now, 1 - momentum)))));
      }
    return;
  }
  const auto scale = n.constant_floats(1), bias = n.constant_floats(2), mean = n.constant_floats(3), var = n.constant_floats(4);
  if (scale && bias && mean && var) {
    std::vector<double> s, t;
    for (size_t i = 0; i < scale->size(); ++i) {
      s.push_back((*scale)[i] / std::sqrt((*var)[i] + epsilon));
      t.push_back((*bias)[i] - (*mean)[i] * s.back());
    }
    const TensorType vector{compute, {Expr(static_cast<int64_t>(s.size()))}};
    const ValueId vs = n.b.constant(vector, graph::make_floats(compute, s));
    const ValueId vt = n.b.constant(vector, graph::make_floats(compute, t));
    m.finish(0, m.add(m.mul(m.x, n.b.broadcast(vs, {1}, dims)), n.b.broadcast(vt, {1}, dims)));
    return;
  }
  const ValueId v = n.b.convert(compute, n.in(4));
  const ValueId deviation = n.b.map(K::kSqrt, {m.add(v, n.constant(v, epsilon))});
  const ValueId factor = m.div(n.b.convert(compute, n.in(1)), deviation);
  const ValueId centred = m.sub(m.x, along(n, 3, 1, dims, compute));
  m.finish(0, m.add(m.mul(centred, n.b.broadcast(factor, {1}, dims)), along(n, 2, 1, dims, compute)));
}

// Normalises axes from `axis` on; Scale and B broadcast to x.
void import_layer_norm(Node &n) {
  n.need_inputs(2, 3);
  n.need_float(0);
  const int64_t rank = n.rank(0);
  const uint32_t axis = static_cast<uint32_t>(n.axis(n.int_attr("axis", -1), rank));
  const Dims dims = n.dims(0);
  std::vector<uint32_t> axes;
  for (uint32_t i = axis; i < rank; ++i)
    axes.push_back(i);
  Math m(n, n.in(0));
  const ElementType compute = n.b.type(m.x).element;
  const Moments mo = moments(n, m.x, axes, n.float_attr("epsilon", 1e-5f));
  const auto parameter = [&](size_t i) {
    n.need_broadcasts_to(i, dims);
    return n.broadcast_to(n.b.convert(compute, n.in(i)), dims);
  };
  ValueId y = m.mul(m.mul(mo.centred, n.spread(mo.inverse, axes, dims)), parameter(1));
  if (n.has(2))
    y = m.add(y, parameter(2));
  m.finish(0, y);
  const auto stash = element_type(static_cast<int32_t>(n.int_attr("stash_type", 1)));
  for (size_t i = 1; i <= 2; ++i)
    if (n.wants(i))
      n.set(i, n.b.convert(stash.value_or(ElementType::kF32), n.keep_axes(i == 1 ? mo.mean : mo.inverse, axes, dims)));
}

// y = x / sqrt(mean(x^2) + epsilon) * scale, over the axes from `axis` on.
void import_rms_norm(Node &n) {
  n.need_inputs(2, 2);
  n.need_float(0);
  const int64_t rank = n.rank(0);
  const uint32_t axis = static_cast<uint32_t>(n.axis(n.int_attr("axis", -1), rank));
  const Dims dims = n.dims(0);
  std::vector<uint32_t> axes;
  Expr count = 1;
  for (uint32_t i = axis; i < rank; ++i) {
    axes.push_back(i);
    count = count * dims[i];
  }
  Math m(n, n.in(0));
  const ElementType compute = n.b.type(m.x).element;
  const ValueId squares = n.b.reduce(ReduceKind::kAdd, m.mul(m.x, m.x), axes);
  const ValueId mean = m.div(squares, count_like(n, squares, count));
  const ValueId deviation = m.map(K::kSqrt, m.add(mean, n.constant(mean, n.float_attr("epsilon", 1e-5f))));
  n.need_broadcasts_to(1, dims);
  const ValueId normal = m.div(m.x, n.spread(deviation, axes, dims));
  n.set(0, n.b.convert(n.element(1), m.mul(normal, n.broadcast_to(n.b.convert(compute, n.in(1)), dims))));
}

void import_instance_norm(Node &n) {
  n.need_inputs(3, 3);
  n.need_float(0);
  if (n.rank(0) < 3)
    n.fail("takes [n,c,spatial...], got " + to_string(n.type(0)));
  const Dims dims = n.dims(0);
  std::vector<uint32_t> axes;
  for (uint32_t i = 2; i < dims.size(); ++i)
    axes.push_back(i);
  Math m(n, n.in(0));
  const ElementType compute = n.b.type(m.x).element;
  const Moments mo = moments(n, m.x, axes, n.float_attr("epsilon", 1e-5f));
  const ValueId y = m.mul(m.mul(mo.centred, n.spread(mo.inverse, axes, dims)), along(n, 1, 1, dims, compute));
  m.finish(0, m.add(y, along(n, 2, 1, dims, compute)));
}

// Scale and bias are per group in opset 18, per channel from 21 on.
void import_group_norm(Node &n) {
  n.need_inputs(3, 3);
  n.need_float(0);
  const int64_t g = n.int_attr("num_groups", 0);
  const Dims dims = n.dims(0);
  if (dims.size() < 2 || g < 1)
    n.fail("takes [n,c,...] and num_groups, got " + to_string(n.type(0)) + " and " + std::to_string(g));
  if (dims[1].constant() && *dims[1].constant() % g != 0)
    n.fail("num_groups " + std::to_string(g) + " does not divide the channels of " + to_string(n.type(0)));
  const Dims grouped = {dims[0], Expr(g), floordiv(dims[1], Expr(g)), product(Dims(dims.begin() + 2, dims.end()))};
  Math m(n, n.in(0));
  const ElementType compute = n.b.type(m.x).element;
  const Moments mo = moments(n, n.reshape(m.x, grouped), {2, 3}, n.float_attr("epsilon", 1e-5f));
  ValueId y = m.mul(mo.centred, n.spread(mo.inverse, {2, 3}, grouped));
  if (n.opset < 21) {
    y = m.add(m.mul(y, along(n, 1, 1, grouped, compute)), along(n, 2, 1, grouped, compute));
    m.finish(0, n.reshape(y, dims));
  } else {
    y = n.reshape(y, dims);
    m.finish(0, m.add(m.mul(y, along(n, 1, 1, dims, compute)), along(n, 2, 1, dims, compute)));
  }
}

// x / |x|_p along an axis; 0 where the norm is 0.
void import_lp_norm(Node &n) {
  n.need_inputs(1, 1);
  n.need_float(0);
  const uint32_t axis = static_cast<uint32_t>(n.axis(n.int_attr("axis", -1), n.rank(0)));
  const int64_t p = n.int_attr("p", 2);
  if (p != 1 && p != 2)
    n.fail("attribute 'p' is " + std::to_string(p) + ", expected 1 or 2");
  Math m(n, n.in(0));
  ValueId norm = n.b.reduce(ReduceKind::kAdd, p == 1 ? m.map(K::kAbs, m.x) : m.mul(m.x, m.x), {axis});
  if (p == 2)
    norm = m.map(K::kSqrt, norm);
  const ValueId full = n.spread(norm, {axis}, n.dims(0));
  m.finish(0, m.select(m.map(K::kEq, full, m.c(0)), m.c(0), m.div(m.x, full)));
}

// y = (x - mean) / (deviation + 1e-9)
void import_mean_variance_norm(Node &n) {
  n.need_inputs(1, 1);
  n.need_float(0);
  std::vector<uint32_t> axes;
  for (int64_t a : n.ints_attr("axes").value_or(std::vector<int64_t>{0, 2, 3}))
    axes.push_back(static_cast<uint32_t>(n.axis(a, n.rank(0))));
  std::sort(axes.begin(), axes.end());
  const Dims dims = n.dims(0);
  Math m(n, n.in(0));
  const Moments mo = moments(n, m.x, axes, 1e-18);
  m.finish(0, m.mul(mo.centred, n.spread(mo.inverse, axes, dims)));
}

// y = x / (bias + alpha/size * sum of squares over a window of channels) ^ beta
void import_lrn(Node &n) {
  n.need_inputs(1, 1);
  n.need_float(0);
  const int64_t size = n.int_attr("size", 0);
  const Dims dims = n.dims(0);
  if (dims.size() < 3 || size < 1 || size > 0x7fffffff)
    n.fail("takes [n,c,spatial...] and a positive size, got " + to_string(n.type(0)) + " and " + std::to_string(size));
  const double alpha = n.float_attr("alpha", 1e-4f), beta = n.float_attr("beta", 0.75f), bias = n.float_attr("bias", 1);
  Math m(n, n.in(0));
  // Squares as [n, 1, c, points]: a pool over the channel axis.
  const Dims flat = {dims[0], Expr(1), dims[1], product(Dims(dims.begin() + 2, dims.end()))};
  const ValueId squares = n.reshape(m.mul(m.x, m.x), flat);
  const ValueId mean = n.b.pool(graph::PoolMode::kAverage, squares, {size, 1}, {1, 1}, {1, 1},
                                {Expr((size - 1) / 2), Expr(0)}, {Expr(size - 1 - (size - 1) / 2), Expr(0)},
                                {flat[2], flat[3]}, true);
  const ValueId base = m.add(m.mul(n.reshape(mean, dims), m.c(alpha)), m.c(bias));
  m.finish(0, m.div(m.x, m.map(K::kPow, base, m.c(beta))));
}

} // namespace

std::vector<OperatorRow> norm_operators() {
  return {
      {"", "BatchNormalization", 6, kMaxOpset, import_batch_norm},
      {"", "GroupNormalization", 18, kMaxOpset, import_group_norm},
      {"", "InstanceNormalization", 6, kMaxOpset, import_instance_norm},
      {"", "LRN", 6, kMaxOpset, import_lrn},
      {"", "LayerNormalization", 6, kMaxOpset, import_layer_norm}, // ONNX has it from 17 on; ONNX Runtime's tools write it before
      {"", "LpNormalization", 6, kMaxOpset, import_lp_norm},
      {"", "MeanVarianceNormalization", 9, kMaxOpset, import_mean_variance_norm},
      {"", "RMSNormalization", 23, kMaxOpset, import_rms_norm},
  };
}

} // namespace ingot::aotc::importer
