// Recurrent layers: RNN, GRU, LSTM.
//
//   before: Y, Y_h = GRU(x[t,b,i], W, R, B)
//   after:  p = x W' + bias for all steps at once (one product), then a loop over steps that adds h R' and applies the cell
//
// A reverse direction walks the steps from the last to the first. Where entries have lengths of their own, a step past an
// entry's length leaves its state as it is and gives zeros, in both directions.
#include <algorithm>

#include "aotc/import/onnx/algebra.h"

namespace ingot::aotc::importer {

namespace {

struct Activation {
  std::string name;
  double alpha = 0, beta = 0;
};

std::string lower_case(std::string text) {
  for (char &c : text)
    c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

// The layer's activations, `each` a direction, with their parameters: alphas and betas are listed in order for those
// activations that have one, else the default holds.
std::vector<Activation> read_activations(Node &n, size_t directions, const std::vector<std::string> &defaults) {
  struct Known {
    const char *name;
    bool alpha, beta;
    double default_alpha, default_beta;
  };
  static constexpr Known known[] = {
      {"relu", false, false, 0, 0},        {"tanh", false, false, 0, 0},       {"sigmoid", false, false, 0, 0},
      {"softsign", false, false, 0, 0},    {"softplus", false, false, 0, 0},   {"affine", true, true, 1, 0},
      {"leakyrelu", true, false, 0.01, 0}, {"thresholdedrelu", true, false, 1, 0}, {"scaledtanh", true, true, 1, 1},
      {"hardsigmoid", true, true, 0.2, 0.5}, {"elu", true, false, 1, 0}};
  std::vector<std::string> names;
  if (const onnx::AttributeProto *a = n.attribute("activations"))
    for (const std::string &name : a->strings())
      names.push_back(lower_case(name));
  if (names.empty())
    for (size_t d = 0; d < directions; ++d)
      names.insert(names.end(), defaults.begin(), defaults.end());
  if (names.size() != directions * defaults.size())
    n.fail("has " + std::to_string(names.size()) + " activations, expected " + std::to_string(directions * defaults.size()));
  const std::vector<float> alphas = n.floats_attr("activation_alpha"), betas = n.floats_attr("activation_beta");
  size_t next_alpha = 0, next_beta = 0;
  std::vector<Activation> out;
  for (const std::string &name : names) {
    const Known *k = std::find_if(std::begin(known), std::end(known), [&](const Known &e) { return name == e.name; });
    if (k == std::end(known))
      n.fail("activation '" + name + "' is unknown");
    Activation a{name, k->default_alpha, k->default_beta};
    if (k->alpha && next_alpha < alphas.size())
      a.alpha = alphas[next_alpha++];
    if (k->beta && next_beta < betas.size())
      a.beta = betas[next_beta++];
    out.push_back(a);
  }
  return out;
}

ValueId activate(Algebra &m, const Activation &a, ValueId x) {
  const auto positive = [&] { return m.lt(m.number(x, 0), x); };
  if (a.name == "relu")
    return m.max(x, m.number(x, 0));
  if (a.name == "tanh")
    return m.map(K::kTanh, x);
  if (a.name == "sigmoid")
    return m.map(K::kSigmoid, x);
  if (a.name == "softsign")
    return m.div(x, m.add(m.abs(x), 1));
  if (a.name == "softplus") // max(x, 0) + log(1 + exp(-|x|)): no overflow
    return m.add(m.max(x, m.number(x, 0)), m.map(K::kLog1p, m.map(K::kExp, m.map(K::kNeg, m.abs(x)))));
  if (a.name == "affine")
    return m.add(m.mul(x, a.alpha), a.beta);
  if (a.name == "leakyrelu")
    return m.select(positive(), x, m.mul(x, a.alpha));
  if (a.name == "thresholdedrelu")
    return m.select(m.lt(m.number(x, a.alpha), x), x, m.number(x, 0));
  if (a.name == "scaledtanh")
    return m.mul(m.map(K::kTanh, m.mul(x, a.beta)), a.alpha);
  if (a.name == "hardsigmoid")
    return m.clamp(m.add(m.mul(x, a.alpha), a.beta), m.number(x, 0), m.number(x, 1));
  return m.select(positive(), x, m.mul(m.map(K::kExpm1, x), a.alpha)); // elu
}

// What one direction of a layer works with, in the type of computation.
struct Direction {
  ValueId w, r;                    // [gates*h, i], [gates*h, h]
  ValueId wb = kNoValue, rb = kNoValue; // [gates*h]
  ValueId peephole = kNoValue;     // [3*h]
  std::vector<Activation> act;
  bool reverse = false;
};

// The part that RNN, GRU and LSTM share; a cell maps (p[b,gates*h], state...) to the next state, h first.
class Layer {
 public:
  Layer(Node &node, size_t gates, std::vector<std::string> activations, size_t max_inputs)
      : n(node), m(node), gates_(gates), defaults_(std::move(activations)) {
    n.need_inputs(3, max_inputs);
    n.need_float(0);
    for (size_t i : {1, 2, 3, 5, 6, 7})
      if (n.has(i))
        n.need_same_element(0, i);
    batch_first_ = n.opset >= 14 && n.int_attr("layout", 0) != 0;
    const std::string direction = n.string_attr("direction", "forward");
    if (direction != "forward" && direction != "reverse" && direction != "bidirectional")
      n.fail("attribute 'direction' is '" + direction + "'");
    reverse_ = direction == "reverse";
    directions_ = direction == "bidirectional" ? 2 : 1;
    if (n.rank(0) != 3 || n.rank(1) != 3 || n.rank(2) != 3)
      n.fail("takes x, W and R of rank 3, got " + to_string(n.type(0)) + ", " + to_string(n.type(1)) + ", " + to_string(n.type(2)));
    x_ = n.lift(n.in(0));
    if (batch_first_)
      x_ = n.b.transpose(x_, {1, 0, 2});
    const Dims d = m.dims(x_);
    steps = d[0], batch = d[1], inputs = d[2];
    hidden = n.dims(2)[2];
    if (const int64_t size = n.int_attr("hidden_size", 0); size != 0)
      n.require_equal(hidden, Expr(size), "attribute 'hidden_size' and R " + to_string(n.type(2)));
    const Expr count = static_cast<int64_t>(directions_), rows = hidden * Expr(static_cast<int64_t>(gates_));
    need_dims(1, {count, rows, inputs});
    need_dims(2, {count, rows, hidden});
    need_dims(3, {count, rows * 2});
    if (n.has(4)) {
      if (n.rank(4) != 1 || is_float(n.element(4)))
        n.fail("sequence lengths must be a list of integers, got " + to_string(n.type(4)));
      n.require_equal(n.dims(4)[0], batch, "sequence lengths and batch");
    }
    need_dims(7, {count, hidden * 3});
    clip_ = n.float_attr("clip", 0);
    if (clip_ < 0)
      n.fail("attribute 'clip' is negative");
    act_ = read_activations(n, directions_, defaults_);
  }

  // Runs the layer; states are those of inputs `initial` (5: h, 6: c), results go to outputs 1, 2 ...
  template <typename Cell>
  void run(const std::vector<size_t> &initial, bool recurrent_bias_outside, const Cell &cell) {
    std::vector<ValueId> sequences;
    std::vector<std::vector<ValueId>> finals(initial.size());
    std::vector<Direction> directions;
    std::vector<ValueId> projected; // all of them first: the directions' loops then have nothing between them
    for (size_t d = 0; d < directions_; ++d) {
      const Direction &dir = directions.emplace_back(direction(d));
      ValueId p = n.b.contract(x_, dir.w, "tbi", "gi", "tbg");
      if (dir.wb != kNoValue)
        p = m.add(p, dir.wb);
      if (dir.rb != kNoValue && !recurrent_bias_outside)
        p = m.add(p, dir.rb);
      projected.push_back(p);
    }
    for (size_t d = 0; d < directions_; ++d) {
      const Direction &dir = directions[d];
      const ValueId p = projected[d];
      std::vector<ValueId> state;
      for (size_t i : initial)
        state.push_back(initial_state(i, d));
      const auto out = counted_loop(n, steps, state, [&](const Expr &i, const std::vector<ValueId> &old) {
        const Expr t = dir.reverse ? steps - 1 - i : i;
        std::vector<ValueId> next = cell(dir, m.pick(p, 0, t), old);
        ValueId shown = next[0];
        if (n.has(4)) {
          const ValueId length = n.reshape(m.convert(ElementType::kI64, n.in(4)), {batch, Expr(1)});
          const ValueId valid = m.lt(m.number(ElementType::kI64, t), length);
          for (size_t s = 0; s < next.size(); ++s)
            next[s] = m.select(valid, next[s], old[s]);
          shown = m.select(valid, shown, m.number(shown, 0));
        }
        next.push_back(shown);
        return next;
      });
      sequences.push_back(m.insert(dir.reverse ? m.flip(out.back(), 0) : out.back(), 1)); // [t,1,b,h]
      for (size_t s = 0; s < initial.size(); ++s)
        finals[s].push_back(m.insert(out[s], 0)); // [1,b,h]
    }
    const ElementType element = n.element(0);
    const ValueId y = n.b.concat(sequences, 1);
    if (n.wants(0))
      n.set(0, n.lower(element, batch_first_ ? n.b.transpose(y, {2, 0, 1, 3}) : y));
    for (size_t s = 0; s < initial.size(); ++s)
      if (n.wants(s + 1)) {
        const ValueId last = n.b.concat(finals[s], 0);
        n.set(s + 1, n.lower(element, batch_first_ ? n.b.transpose(last, {1, 0, 2}) : last));
      }
  }

  // Gate `g` of [.., gates*h] along the last axis.
  ValueId gate(ValueId x, size_t g) { return m.cut(x, m.dims(x).size() - 1, hidden * Expr(static_cast<int64_t>(g)), hidden); }
  // h R' for `count` gates from gate `first` on.
  ValueId recur(const Direction &d, ValueId h, size_t first, size_t count) {
    const ValueId r = m.cut(d.r, 0, hidden * Expr(static_cast<int64_t>(first)), hidden * Expr(static_cast<int64_t>(count)));
    return n.b.contract(h, r, "bk", "gk", "bg");
  }
  ValueId act(const Direction &d, size_t which, ValueId x) {
    if (clip_ > 0)
      x = m.clamp(x, m.number(x, -clip_), m.number(x, clip_));
    return activate(m, d.act[which], x);
  }
  ValueId act_unclipped(const Direction &d, size_t which, ValueId x) { return activate(m, d.act[which], x); }

  Node &n;
  Algebra m;
  Expr steps, batch, inputs, hidden;

 private:
  void need_dims(size_t i, const Dims &expected) {
    if (!n.has(i))
      return;
    const std::string what = "input " + std::to_string(i) + " " + to_string(n.type(i)) + ", expected " +
                             to_string(TensorType{n.element(i), expected});
    if (n.dims(i).size() != expected.size())
      n.fail(what);
    for (size_t d = 0; d < expected.size(); ++d)
      n.require_equal(n.dims(i)[d], expected[d], what);
  }
  Direction direction(size_t d) {
    const Expr index = static_cast<int64_t>(d), rows = hidden * Expr(static_cast<int64_t>(gates_));
    Direction out;
    out.reverse = reverse_ || d == 1;
    out.w = m.pick(n.lift(n.in(1)), 0, index);
    out.r = m.pick(n.lift(n.in(2)), 0, index);
    if (n.has(3)) {
      const ValueId both = m.pick(n.lift(n.in(3)), 0, index);
      out.wb = m.cut(both, 0, 0, rows);
      out.rb = m.cut(both, 0, rows, rows);
    }
    if (n.has(7))
      out.peephole = m.pick(n.lift(n.in(7)), 0, index);
    out.act.assign(act_.begin() + static_cast<long>(d * defaults_.size()), act_.begin() + static_cast<long>((d + 1) * defaults_.size()));
    return out;
  }
  ValueId initial_state(size_t i, size_t d) {
    if (!n.has(i))
      return n.b.splat_float(m.element(x_), {batch, hidden}, 0);
    const Expr count = static_cast<int64_t>(directions_);
    need_dims(i, batch_first_ ? Dims{batch, count, hidden} : Dims{count, batch, hidden});
    return m.pick(n.lift(n.in(i)), batch_first_ ? 1 : 0, static_cast<int64_t>(d));
  }

  size_t gates_, directions_ = 1;
  std::vector<std::string> defaults_;
  std::vector<Activation> act_;
  bool batch_first_ = false, reverse_ = false;
  double clip_ = 0;
  ValueId x_ = kNoValue;
};

// h' = f(p + h R')
void import_rnn(Node &n) {
  Layer l(n, 1, {"tanh"}, 6);
  l.run({5}, false, [&](const Direction &d, ValueId p, const std::vector<ValueId> &s) {
    return std::vector<ValueId>{l.act(d, 0, l.m.add(p, l.recur(d, s[0], 0, 1)))};
  });
}

// Gates z, r, h: h' = (1 - z) * g(p_h + (r * h) R_h') + z * h; with linear_before_reset r scales the product instead.
void import_gru(Node &n) {
  Layer l(n, 3, {"sigmoid", "tanh"}, 6);
  const bool linear = n.int_attr("linear_before_reset", 0) != 0;
  l.run({5}, true, [&](const Direction &d, ValueId p, const std::vector<ValueId> &s) {
    Algebra &m = l.m;
    const ValueId h = s[0];
    const auto with_bias = [&](ValueId x, size_t g) { return d.rb == kNoValue ? x : m.add(x, l.gate(d.rb, g)); };
    const ValueId zr = l.recur(d, h, 0, 2);
    const ValueId z = l.act(d, 0, m.add(l.gate(p, 0), with_bias(l.gate(zr, 0), 0)));
    const ValueId r = l.act(d, 0, m.add(l.gate(p, 1), with_bias(l.gate(zr, 1), 1)));
    const ValueId inner = linear ? m.mul(r, with_bias(l.recur(d, h, 2, 1), 2)) : with_bias(l.recur(d, m.mul(r, h), 2, 1), 2);
    const ValueId candidate = l.act(d, 1, m.add(l.gate(p, 2), inner));
    return std::vector<ValueId>{m.add(m.mul(m.sub(m.number(z, 1), z), candidate), m.mul(z, h))};
  });
}

// Gates i, o, f, c: c' = f * c + i * g(.), h' = o * h(c'); peepholes add P * c (P * c' for o).
void import_lstm(Node &n) {
  Layer l(n, 4, {"sigmoid", "tanh", "tanh"}, 8);
  const bool coupled = n.int_attr("input_forget", 0) != 0;
  l.run({5, 6}, false, [&](const Direction &d, ValueId p, const std::vector<ValueId> &s) {
    Algebra &m = l.m;
    const ValueId h = s[0], c = s[1], sum = m.add(p, l.recur(d, h, 0, 4));
    const auto peep = [&](ValueId x, size_t g, ValueId cell) {
      return d.peephole == kNoValue ? x : m.add(x, m.mul(cell, l.gate(d.peephole, g)));
    };
    const ValueId i = l.act(d, 0, peep(l.gate(sum, 0), 0, c));
    const ValueId f = coupled ? m.sub(m.number(i, 1), i) : l.act(d, 0, peep(l.gate(sum, 2), 2, c));
    const ValueId next = m.add(m.mul(f, c), m.mul(i, l.act(d, 1, l.gate(sum, 3))));
    const ValueId o = l.act(d, 0, peep(l.gate(sum, 1), 1, next));
    return std::vector<ValueId>{m.mul(o, l.act_unclipped(d, 2, next)), next};
  });
}

} // namespace

std::vector<OperatorRow> recurrent_operators() {
  return {
      {"", "GRU", 7, kMaxOpset, import_gru},
      {"", "LSTM", 7, kMaxOpset, import_lstm},
      {"", "RNN", 7, kMaxOpset, import_rnn},
  };
}

} // namespace ingot::aotc::importer
