// Losses over classes: NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss.
#include <algorithm>

#include "aotc/import/onnx/math.h"

namespace ingot::aotc::importer {

namespace {

using dispatch::ReduceKind;
constexpr ElementType kI64 = ElementType::kI64;

std::vector<uint32_t> all_axes(size_t rank) {
  std::vector<uint32_t> axes;
  for (uint32_t i = 0; i < rank; ++i)
    axes.push_back(i);
  return axes;
}

// loss[n, d...] = -weight[t] * log_probability[n, t, d...] with t = target[n, d...]; 0 where t is ignored. Reduced as asked.
void likelihood(Node &n, ValueId log_probability, size_t target_input, size_t weight_input) {
  const ElementType element = n.element(0), compute = n.b.type(log_probability).element;
  const Dims dims = n.dims_of(log_probability);
  if (dims.size() < 2)
    n.fail("takes [n,c,...], got " + to_string(n.type(0)));
  if (n.element(target_input) != kI64 && n.element(target_input) != ElementType::kI32)
    n.fail("targets must be int32 or int64, got " + to_string(n.type(target_input)));
  Dims points = dims;
  points.erase(points.begin() + 1);
  if (n.dims(target_input).size() != points.size())
    n.fail("scores " + to_string(n.type(0)) + " and targets " + to_string(n.type(target_input)) + " do not fit");
  for (size_t i = 0; i < points.size(); ++i)
    n.require_equal(points[i], n.dims(target_input)[i], "scores " + to_string(n.type(0)) + " and targets " + to_string(n.type(target_input)));
  const std::string reduction = n.string_attr("reduction", "mean");
  if (reduction != "mean" && reduction != "sum" && reduction != "none")
    n.fail("attribute 'reduction' is '" + reduction + "', expected none, mean or sum");
  const auto m = [&](K code, ValueId a, ValueId b) { return n.b.map(code, {a, b}); };
  const auto splat = [&](int64_t v) { return n.b.splat_int(kI64, points, v); };
  ValueId target = n.b.convert(kI64, n.in(target_input)), ignored = kNoValue;
  if (n.attribute("ignore_index")) {
    ignored = m(K::kEq, target, splat(n.int_attr("ignore_index", 0)));
    target = n.b.map(K::kSelect, {ignored, splat(0), target});
  }
  // Flat positions of the targets' scores; an index outside the classes becomes one outside the tensor.
  const Expr classes = dims[1], inner = product(Dims(dims.begin() + 2, dims.end()));
  const ValueId valid = m(K::kAnd, m(K::kGe, target, splat(0)), m(K::kLt, target, n.scalar_of(kI64, classes, points)));
  ValueId at = m(K::kAdd, n.b.iota(kI64, points, 0, 0, classes * inner), m(K::kMul, target, n.scalar_of(kI64, inner, points)));
  Expr stride = 1;
  for (size_t i = points.size(); i-- > 1;) {
    at = m(K::kAdd, at, n.b.iota(kI64, points, static_cast<uint32_t>(i), 0, stride));
    stride = stride * points[i];
  }
  at = n.b.map(K::kSelect, {valid, at, n.scalar_of(kI64, product(dims), points)});
  const ValueId score = n.b.gather(n.reshape(log_probability, {product(dims)}), at, 0);
  ValueId weight = n.b.splat_float(compute, points, 1);
  if (n.has(weight_input)) {
    if (n.rank(weight_input) != 1)
      n.fail("weights must be of rank 1, got " + to_string(n.type(weight_input)));
    n.require_equal(n.dims(weight_input)[0], classes, "weights " + to_string(n.type(weight_input)) + " and classes");
    weight = n.b.gather(n.b.convert(compute, n.in(weight_input)), target, 0);
  }
  if (ignored != kNoValue)
    weight = n.b.map(K::kSelect, {ignored, n.b.splat_float(compute, points, 0), weight});
  ValueId loss = m(K::kMul, n.b.map(K::kNeg, {score}), weight);
  if (ignored != kNoValue) // whatever the score at class 0 is, infinity included
    loss = n.b.map(K::kSelect, {ignored, n.b.splat_float(compute, points, 0), loss});
  if (reduction != "none") {
    loss = n.b.reduce(ReduceKind::kAdd, loss, all_axes(points.size()));
    if (reduction == "mean")
      loss = m(K::kDiv, loss, n.b.reduce(ReduceKind::kAdd, weight, all_axes(points.size())));
  }
  n.set(0, n.lower(element, loss));
}

void import_nll_loss(Node &n) {
  n.need_inputs(2, 3);
  n.need_float(0);
  likelihood(n, n.lift(n.in(0)), 1, 2);
}

void import_softmax_cross_entropy(Node &n) {
  n.need_inputs(2, 3);
  n.need_float(0);
  if (n.rank(0) < 2)
    n.fail("takes [n,c,...], got " + to_string(n.type(0)));
  Math m(n, n.in(0));
  const Dims dims = n.dims(0);
  const ValueId largest = n.spread(n.b.reduce(ReduceKind::kMax, m.x, {1}), {1}, dims);
  const ValueId shifted = m.sub(m.x, largest);
  const ValueId sum = n.b.reduce(ReduceKind::kAdd, m.map(K::kExp, shifted), {1});
  const ValueId log_probability = m.sub(shifted, n.spread(m.map(K::kLog, sum), {1}, dims));
  likelihood(n, log_probability, 1, 2);
  if (n.wants(1))
    m.finish(1, log_probability);
}

} // namespace

std::vector<OperatorRow> loss_operators() {
  return {
      {"", "NegativeLogLikelihoodLoss", 12, kMaxOpset, import_nll_loss},
      {"", "SoftmaxCrossEntropyLoss", 12, kMaxOpset, import_softmax_cross_entropy},
  };
}

} // namespace ingot::aotc::importer
