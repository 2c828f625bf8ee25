// Activation functions, each as its formula; softmax and its kin as primitives that fusion makes one kernel of.
#include <cfloat>
#include <cmath>

#include "aotc/import/onnx/math.h"

namespace ingot::aotc::importer {

namespace {

void import_relu(Node &n) {
  n.need_inputs(1, 1);
  if (is_unsigned(n.element(0)))
    n.fail("takes floats or signed integers");
  Math m(n, n.in(0));
  m.finish(0, m.max(m.x, m.c(0)));
}

void import_leaky_relu(Node &n) {
  n.need_inputs(1, 1);
  n.need_float(0);
  Math m(n, n.in(0));
  m.finish(0, m.select(m.lt(m.x, m.c(0)), m.mul(m.x, m.c(n.float_attr("alpha", 0.01f))), m.x));
}

// The slope broadcasts to x; below opset 7 it is [c] for x[n,c,...], which is written [c,1,1] since.
void import_prelu(Node &n) {
  n.need_inputs(2, 2);
  n.need_same_element(0, 1);
  const Dims dims = n.dims(0);
  const bool channels = n.opset < 7 && n.rank(1) == 1 && n.rank(0) > 1 && !(n.dims(1)[0] == Expr(1));
  if (channels)
    n.require_equal(n.dims(1)[0], dims[1], "slope " + to_string(n.type(1)) + " and channels of " + to_string(n.type(0)));
  else
    n.need_broadcasts_to(1, dims);
  Math m(n, n.in(0));
  const ValueId slope = channels ? n.b.broadcast(n.lift(n.in(1)), {1}, dims) : n.broadcast_to(n.lift(n.in(1)), dims);
  m.finish(0, m.select(m.lt(m.x, m.c(0)), m.mul(m.x, slope), m.x));
}

void import_elu(Node &n) {
  n.need_inputs(1, 1);
  n.need_float(0);
  Math m(n, n.in(0));
  const ValueId negative = m.mul(m.c(n.float_attr("alpha", 1.0f)), m.map(K::kExpm1, m.x));
  m.finish(0, m.select(m.lt(m.x, m.c(0)), negative, m.x));
}

void import_selu(Node &n) {
  n.need_inputs(1, 1);
  n.need_float(0);
  const float alpha = n.float_attr("alpha", 1.67326319217681884765625f);
  const float gamma = n.float_attr("gamma", 1.05070102214813232421875f);
  Math m(n, n.in(0));
  const ValueId negative = m.mul(m.c(alpha), m.map(K::kExpm1, m.x));
  m.finish(0, m.mul(m.c(gamma), m.select(m.lt(m.c(0), m.x), m.x, negative)));
}

// max(0,x) + min(0, alpha * (exp(x/alpha) - 1))
void import_celu(Node &n) {
  n.need_inputs(1, 1);
  n.need_float(0);
  const float alpha = n.float_attr("alpha", 1.0f);
  Math m(n, n.in(0));
  const ValueId negative = m.mul(m.c(alpha), m.map(K::kExpm1, m.div(m.x, m.c(alpha))));
  m.finish(0, m.select(m.lt(m.x, m.c(0)), negative, m.x));
}

// min and max are attributes below opset 11, inputs from then on; both may be absent. max < min gives max.
void import_clip(Node &n) {
  n.need_inputs(1, n.opset < 11 ? 1 : 3);
  if (n.element(0) == ElementType::kBool)
    n.fail("takes no bool operand");
  Math m(n, n.in(0));
  ValueId y = m.x;
  if (n.opset < 11) {
    if (n.attribute("min"))
      y = m.max(y, m.c(n.float_attr("min", 0)));
    if (n.attribute("max"))
      y = m.min(y, m.c(n.float_attr("max", 0)));
  } else {
    for (size_t i = 1; i <= 2; ++i)
      if (n.has(i)) {
        n.need_same_element(0, i);
        const auto value = is_float(n.element(i)) ? n.constant_floats(i) : std::nullopt;
        const ValueId bound = value && value->size() == 1
                                  ? m.c((*value)[0])
                                  : n.broadcast_to(n.as_scalar(n.lift(n.in(i))), n.dims(0));
        y = i == 1 ? m.max(y, bound) : m.min(y, bound);
      }
  }
  m.finish(0, y);
}

void import_sigmoid(Node &n) {
  n.need_inputs(1, 1);
  n.need_float(0);
  Math m(n, n.in(0));
  m.finish(0, m.map(K::kSigmoid, m.x));
}

ValueId hard_sigmoid(Math &m, double alpha, double beta) {
  return m.min(m.max(m.add(m.mul(m.x, m.c(alpha)), m.c(beta)), m.c(0)), m.c(1));
}

void import_hard_sigmoid(Node &n) {
  n.need_inputs(1, 1);
  n.need_float(0);
  Math m(n, n.in(0));
  m.finish(0, hard_sigmoid(m, n.float_attr("alpha", 0.2f), n.float_attr("beta", 0.5f)));
}

void import_hard_swish(Node &n) {
  n.need_inputs(1, 1);
  n.need_float(0);
  Math m(n, n.in(0));
  m.finish(0, m.mul(m.x, hard_sigmoid(m, 1.0 / 6, 0.5)));
}

void import_swish(Node &n) {
  n.need_inputs(1, 1);
  n.need_float(0);
  Math m(n, n.in(0));
  m.finish(0, m.mul(m.x, m.map(K::kSigmoid, m.mul(m.x, m.c(n.float_attr("alpha", 1.0f))))));
}

void import_tanh(Node &n) {
  n.need_inputs(1, 1);
  n.need_float(0);
  Math m(n, n.in(0));
  m.finish(0, m.map(K::kTanh, m.x));
}

// log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|))
ValueId softplus(Math &m) {
  const ValueId tail = m.map(K::kLog1p, m.map(K::kExp, m.map(K::kNeg, m.map(K::kAbs, m.x))));
  return m.add(m.max(m.x, m.c(0)), tail);
}

void import_softplus(Node &n) {
  n.need_inputs(1, 1);
  n.need_float(0);
  Math m(n, n.in(0));
  m.finish(0, softplus(m));
}

void import_softsign(Node &n) {
  n.need_inputs(1, 1);
  n.need_float(0);
  Math m(n, n.in(0));
  m.finish(0, m.div(m.x, m.add(m.c(1), m.map(K::kAbs, m.x))));
}

void import_mish(Node &n) {
  n.need_inputs(1, 1);
  n.need_float(0);
  Math m(n, n.in(0));
  m.finish(0, m.mul(m.x, m.map(K::kTanh, softplus(m))));
}

void import_gelu(Node &n) {
  n.need_inputs(1, 1);
  n.need_float(0);
  const std::string approximate = n.string_attr("approximate", "none");
  Math m(n, n.in(0));
  ValueId inner;
  if (approximate == "tanh") {
    const ValueId cubic = m.mul(m.c(0.044715), m.mul(m.x, m.mul(m.x, m.x)));
    inner = m.map(K::kTanh, m.mul(m.c(std::sqrt(2 / M_PI)), m.add(m.x, cubic)));
  } else if (approximate == "none") {
    inner = m.map(K::kErf, m.mul(m.x, m.c(std::sqrt(0.5))));
  } else {
    n.fail("attribute 'approximate' is '" + approximate + "', expected none or tanh");
  }
  m.finish(0, m.mul(m.mul(m.c(0.5), m.x), m.add(m.c(1), inner)));
}

void import_thresholded_relu(Node &n) {
  n.need_inputs(1, 1);
  n.need_float(0);
  Math m(n, n.in(0));
  m.finish(0, m.select(m.lt(m.c(n.float_attr("alpha", 1.0f)), m.x), m.x, m.c(0)));
}

void import_shrink(Node &n) {
  n.need_inputs(1, 1);
  if (n.element(0) == ElementType::kBool)
    n.fail("takes no bool operand");
  const float bias = n.float_attr("bias", 0), lambda = n.float_attr("lambd", 0.5f);
  const ValueId x = n.in(0);
  const bool lift = !is_float(n.element(0));
  Math m(n, lift ? n.b.convert(ElementType::kF32, x) : x);
  const ValueId low = m.lt(m.x, m.c(-lambda)), high = m.lt(m.c(lambda), m.x);
  const ValueId y = m.select(low, m.add(m.x, m.c(bias)), m.select(high, m.sub(m.x, m.c(bias)), m.c(0)));
  n.set(0, n.b.convert(n.element(0), y));
}

// --- softmax ---

// Axes that are normalised together: one from opset 13 on; before, the input is seen as 2-D, split at the axis.
std::vector<uint32_t> softmax_axes(Node &n) {
  const int64_t rank = n.rank(0);
  if (n.opset >= 13) {
    if (rank == 0)
      return {};
    return {static_cast<uint32_t>(n.axis(n.int_attr("axis", -1), rank))};
  }
  int64_t axis = n.int_attr("axis", 1);
  if (axis != rank) // the axis may be the rank: rows of one element
    axis = n.axis(axis, rank);
  std::vector<uint32_t> axes;
  for (; axis < rank; ++axis)
    axes.push_back(static_cast<uint32_t>(axis));
  return axes;
}

// before: y = Softmax(x); after: e = exp(x - max), y = e / sum(e)
void softmax(Node &n, bool log) {
  n.need_inputs(1, 1);
  n.need_float(0);
  const std::vector<uint32_t> axes = softmax_axes(n);
  const Dims dims = n.dims(0);
  Math m(n, n.in(0));
  const ValueId largest = n.spread(n.b.reduce(dispatch::ReduceKind::kMax, m.x, axes), axes, dims);
  const ValueId shifted = m.sub(m.x, largest);
  const ValueId e = m.map(K::kExp, shifted);
  const ValueId sum = n.b.reduce(dispatch::ReduceKind::kAdd, e, axes);
  if (log)
    m.finish(0, m.sub(shifted, n.spread(m.map(K::kLog, sum), axes, dims)));
  else
    m.finish(0, m.div(e, n.spread(sum, axes, dims)));
}

void import_softmax(Node &n) { softmax(n, false); }
void import_log_softmax(Node &n) { softmax(n, true); }

// 1 at the first largest element, 0 elsewhere.
void import_hardmax(Node &n) {
  n.need_inputs(1, 1);
  n.need_float(0);
  const std::vector<uint32_t> axes = softmax_axes(n);
  const Dims dims = n.dims(0);
  if (axes.empty()) {
    n.set(0, n.b.splat_float(n.element(0), dims, 1));
    return;
  }
  // Several axes count as one: flatten them.
  Dims flat(dims.begin(), dims.begin() + axes[0]);
  flat.push_back(product(Dims(dims.begin() + axes[0], dims.begin() + axes.back() + 1)));
  flat.insert(flat.end(), dims.begin() + axes.back() + 1, dims.end());
  const ValueId x = n.lift(n.reshape(n.in(0), flat));
  const ValueId best = n.b.reduce(dispatch::ReduceKind::kArgMax, x, {axes[0]});
  const ValueId hit = n.b.map(K::kEq, {n.spread(best, {axes[0]}, flat), n.b.iota(ElementType::kI64, flat, axes[0])});
  n.set(0, n.reshape(n.b.convert(n.element(0), n.b.convert(ElementType::kF32, hit)), dims));
}

} // namespace

std::vector<OperatorRow> activation_operators() {
  return {
      {"", "Celu", 12, kMaxOpset, import_celu},
      {"", "Clip", 6, kMaxOpset, import_clip},
      {"", "Elu", 6, kMaxOpset, import_elu},
      {"", "Gelu", 20, kMaxOpset, import_gelu},
      {"", "HardSigmoid", 6, kMaxOpset, import_hard_sigmoid},
      {"", "HardSwish", 14, kMaxOpset, import_hard_swish},
      {"", "Hardmax", 6, kMaxOpset, import_hardmax},
      {"", "LeakyRelu", 6, kMaxOpset, import_leaky_relu},
      {"", "LogSoftmax", 6, kMaxOpset, import_log_softmax},
      {"", "Mish", 18, kMaxOpset, import_mish},
      {"", "PRelu", 6, kMaxOpset, import_prelu},
      {"", "Relu", 6, kMaxOpset, import_relu},
      {"", "Selu", 6, kMaxOpset, import_selu},
      {"", "Shrink", 9, kMaxOpset, import_shrink},
      {"", "Sigmoid", 6, kMaxOpset, import_sigmoid},
      {"", "Softmax", 6, kMaxOpset, import_softmax},
      {"", "Softplus", 6, kMaxOpset, import_softplus},
      {"", "Softsign", 6, kMaxOpset, import_softsign},
      {"", "Swish", 24, kMaxOpset, import_swish},
      {"", "Tanh", 6, kMaxOpset, import_tanh},
      {"", "ThresholdedRelu", 10, kMaxOpset, import_thresholded_relu},
  };
}

} // namespace ingot::aotc::importer
