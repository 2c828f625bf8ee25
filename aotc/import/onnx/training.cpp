// Optimiser steps of ai.onnx.preview.training: Momentum, Adagrad, Adam. Inputs are R, T, then the groups x..., g..., states...
#include <cmath>

#include "aotc/import/onnx/algebra.h"

namespace ingot::aotc::importer {

namespace {

struct Step {
  ValueId rate, count, started; // R and T as floats of x's type; T > 0
};

// Calls `update` for each tensor with (x, regularised gradient, states); its results are the next x and states.
template <typename Update>
void optimise(Node &n, size_t states, const Update &update) {
  const size_t group = states + 2;
  if (n.inputs() < 2 + group || (n.inputs() - 2) % group != 0)
    n.fail("has " + std::to_string(n.inputs()) + " inputs, expected R, T and " + std::to_string(group) + " for each tensor");
  const size_t tensors = (n.inputs() - 2) / group;
  Algebra a(n);
  for (size_t i = 0; i < tensors; ++i) {
    const auto take = [&](size_t g) { return n.in(2 + g * tensors + i); };
    const ValueId x = take(0);
    n.need_float(2 + i);
    const ElementType e = n.b.type(x).element;
    const ValueId count = n.b.convert(e, n.as_scalar(n.in(1)));
    const Step step = {n.b.convert(e, n.as_scalar(n.in(0))), count, a.lt(a.number(count, 0), count)};
    const ValueId gradient = a.add(a.mul(x, n.float_attr("norm_coefficient", 0)), take(1));
    std::vector<ValueId> old;
    for (size_t s = 0; s < states; ++s)
      old.push_back(take(2 + s));
    const std::vector<ValueId> next = update(a, step, x, gradient, old);
    for (size_t s = 0; s < next.size(); ++s)
      n.set(s * tensors + i, next[s]);
  }
}

void import_momentum(Node &n) {
  const double alpha = n.float_attr("alpha", 0), beta = n.float_attr("beta", 0);
  const std::string mode = n.string_attr("mode", "standard");
  if (mode != "standard" && mode != "nesterov")
    n.fail("attribute 'mode' is '" + mode + "'");
  optimise(n, 1, [&](Algebra &a, const Step &step, ValueId x, ValueId g, const std::vector<ValueId> &old) {
    const ValueId weight = a.select(step.started, a.number(g, beta), a.number(g, 1));
    const ValueId v = a.add(a.mul(old[0], alpha), a.mul(g, weight));
    const ValueId direction = mode == "standard" ? v : a.add(g, a.mul(v, alpha));
    return std::vector<ValueId>{a.sub(x, a.mul(direction, step.rate)), v};
  });
}

void import_adagrad(Node &n) {
  const double decay = n.float_attr("decay_factor", 0), epsilon = n.float_attr("epsilon", 0);
  optimise(n, 1, [&](Algebra &a, const Step &step, ValueId x, ValueId g, const std::vector<ValueId> &old) {
    const ValueId rate = a.div(step.rate, a.add(a.mul(step.count, decay), 1));
    const ValueId h = a.add(old[0], a.mul(g, g));
    return std::vector<ValueId>{a.sub(x, a.div(a.mul(g, rate), a.add(a.map(K::kSqrt, h), epsilon))), h};
  });
}

void import_adam(Node &n) {
  const double alpha = n.float_attr("alpha", 0.9f), beta = n.float_attr("beta", 0.999f), epsilon = n.float_attr("epsilon", 0);
  const double after = n.float_attr("norm_coefficient_post", 0);
  optimise(n, 2, [&](Algebra &a, const Step &step, ValueId x, ValueId g, const std::vector<ValueId> &old) {
    const ValueId v = a.add(a.mul(old[0], alpha), a.mul(g, 1 - alpha));
    const ValueId h = a.add(a.mul(old[1], beta), a.mul(a.mul(g, g), 1 - beta));
    const auto one_less_power = [&](double base) { return a.sub(a.number(x, 1), a.map(K::kPow, a.number(x, base), step.count)); };
    const ValueId corrected = a.div(a.mul(step.rate, a.map(K::kSqrt, one_less_power(beta))), one_less_power(alpha));
    const ValueId rate = a.select(step.started, corrected, step.rate);
    const ValueId next = a.sub(x, a.mul(a.div(v, a.add(a.map(K::kSqrt, h), epsilon)), rate));
    return std::vector<ValueId>{a.mul(next, 1 - after), v, h};
  });
}

} // namespace

std::vector<OperatorRow> training_operators() {
  return {
      {"ai.onnx.preview.training", "Adagrad", 1, 1, import_adagrad},
      {"ai.onnx.preview.training", "Adam", 1, 1, import_adam},
      {"ai.onnx.preview.training", "Momentum", 1, 1, import_momentum},
  };
}

} // namespace ingot::aotc::importer
