// Attention and what stands beside it in language models: rotary embeddings, linear attention, caches.
//
// Query heads that share a key-value head are an axis of their own (g): keys and values are never repeated.
#include <algorithm>
#include <cmath>
#include <limits>

#include "aotc/import/onnx/algebra.h"
#include "aotc/import/onnx/subgraph.h"

namespace ingot::aotc::importer {

namespace {

using dispatch::ReduceKind;
constexpr ElementType kF32 = ElementType::kF32, kF64 = ElementType::kF64, kI64 = ElementType::kI64, kBool = ElementType::kBool;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

int64_t positive_attr(Node &n, const char *name) {
  const int64_t value = n.int_attr(name, 0);
  if (value < 1)
    n.fail(std::string("attribute '") + name + "' is " + std::to_string(value) + ", expected 1 or more");
  return value;
}

// [b,t,h*d] as [b,h,t,d].
ValueId split_heads(Node &n, ValueId x, int64_t heads, const char *what) {
  const Dims d = n.dims_of(x);
  if (d[2].constant() && *d[2].constant() % heads != 0)
    n.fail(std::string(what) + " of " + d[2].to_string() + " elements does not divide into " + std::to_string(heads) + " heads");
  return n.b.transpose(n.reshape(x, {d[0], d[1], Expr(heads), floordiv(d[2], Expr(heads))}), {0, 2, 1, 3});
}

// [b,h,t,d] as [b,t,h*d].
ValueId join_heads(Node &n, ValueId x) {
  const Dims d = n.dims_of(x);
  return n.reshape(n.b.transpose(x, {0, 2, 1, 3}), {d[0], d[2], d[1] * d[3]});
}

ValueId softmax_last(Algebra &a, ValueId x) {
  const Dims d = a.dims(x);
  const std::vector<uint32_t> last = {static_cast<uint32_t>(d.size() - 1)};
  const ValueId e = a.map(K::kExp, a.sub(x, a.n.spread(a.n.b.reduce(ReduceKind::kMax, x, last), last, d)));
  return a.div(e, a.n.spread(a.sum(e, last), last, d));
}

// The same, but 0 instead of NaN where all of a row is -inf: a query that sees no key. Any other row has a sum of at least
// 1, so that the lower bounds change nothing.
ValueId softmax_of_seen(Algebra &a, ValueId x) {
  const Dims d = a.dims(x);
  const std::vector<uint32_t> last = {static_cast<uint32_t>(d.size() - 1)};
  const bool wide = a.element(x) == kF64;
  const ValueId most = a.n.b.reduce(ReduceKind::kMax, x, last);
  const ValueId shift = a.max(most, a.number(most, wide ? -std::numeric_limits<double>::max() : -std::numeric_limits<float>::max()));
  const ValueId e = a.map(K::kExp, a.sub(x, a.n.spread(shift, last, d)));
  const ValueId sum = a.sum(e, last);
  return a.div(e, a.n.spread(a.max(sum, a.number(sum, std::numeric_limits<float>::min())), last, d));
}

// Query heads per key-value head.
Expr group_of(Node &n, const Expr &query_heads, const Expr &heads) {
  const auto q = query_heads.constant(), k = heads.constant();
  if (!q || !k || *k < 1 || *q % *k != 0)
    n.fail("has " + query_heads.to_string() + " query heads for " + heads.to_string() + " key-value heads");
  return *q / *k;
}

// Attention: softmax(softcap(q k' * scale) + mask) v, with caches before k and v.
class Attention {
 public:
  explicit Attention(Node &node) : n(node), a(node) {}

  void run() {
    n.need_inputs(3, 7);
    for (size_t i = 0; i < 3; ++i)
      n.need_float(i);
    const bool flat = n.rank(0) == 3;
    for (size_t i = 0; i < 3; ++i)
      if (n.rank(i) != (flat ? 3 : 4))
        n.fail("takes Q, K and V of one rank, 3 or 4, got " + n.describe_types());
    ValueId q = n.in(0), k = n.in(1), v = n.in(2);
    if (flat) {
      const int64_t query = positive_attr(n, "q_num_heads"), heads = positive_attr(n, "kv_num_heads");
      q = split_heads(n, q, query, "Q");
      k = split_heads(n, k, heads, "K");
      v = split_heads(n, v, heads, "V");
    }
    const Expr past = n.has(4) ? n.dims(4).at(2) : Expr(0);
    k = with_past(k, 4);
    v = with_past(v, 5);
    if (n.wants(1))
      n.set(1, k);
    if (n.wants(2))
      n.set(2, v);
    const ElementType element = n.element(0);
    const Dims dq = n.dims_of(q), dk = n.dims_of(k);
    n.require_equal(dq[3], dk[3], "head sizes of Q and K");
    n.require_equal(n.dims_of(v)[2], dk[2], "sequences of K and V");
    const int64_t precision = n.int_attr("softmax_precision", 0);
    const ElementType work = element == kF64 || precision == onnx::TensorProto::DOUBLE ? kF64 : kF32;
    const Expr heads = dk[1], group = group_of(n, dq[1], heads);
    full_ = {dq[0], heads, group, dq[2], dk[2]};
    double scale = n.float_attr("scale", 0);
    if (!n.attribute("scale")) {
      if (!dq[3].constant())
        n.fail("the head size must be known at compile time", "give attribute 'scale'");
      scale = 1 / std::sqrt(static_cast<double>(std::max<int64_t>(*dq[3].constant(), 1)));
    }
    const ValueId grouped = n.reshape(q, {dq[0], heads, group, dq[2], dq[3]});
    ValueId s = a.mul(n.b.contract(a.convert(work, grouped), a.convert(work, k), "bhgle", "bhse", "bhgls"), scale);
    const int64_t mode = n.int_attr("qk_matmul_output_mode", 0);
    show(mode == 0, s);
    if (const double cap = n.float_attr("softcap", 0); cap != 0)
      s = a.mul(a.map(K::kTanh, a.div(s, cap)), cap);
    show(mode == 1, s);
    s = masked(s, past);
    show(mode == 2, s);
    const ValueId p = softmax_of_seen(a, s);
    show(mode == 3, p);
    ValueId y = n.b.contract(p, a.convert(work, v), "bhgls", "bhsv", "bhglv");
    const Dims dy = n.dims_of(y);
    y = n.lower(element, n.reshape(y, {dy[0], dq[1], dy[3], dy[4]}));
    n.set(0, flat ? join_heads(n, y) : y);
  }

 private:
  ValueId with_past(ValueId x, size_t input) {
    if (!n.has(input))
      return x;
    if (n.rank(input) != 4)
      n.fail("caches are [batch,heads,past,size], got " + to_string(n.type(input)));
    const Dims now = n.dims_of(x);
    for (size_t d : {0, 1, 3})
      n.require_equal(n.dims(input)[d], now[d], "cache " + to_string(n.type(input)) + " and " + to_string(n.b.type(x)));
    return n.b.concat({n.b.convert(n.b.type(x).element, n.in(input)), x}, 2);
  }

  // The scores as output 3, [b,heads,l,s].
  void show(bool wanted, ValueId s) {
    if (!wanted || !n.wants(3))
      return;
    n.set(3, n.lower(n.element(0), n.reshape(s, {full_[0], full_[1] * full_[2], full_[3], full_[4]})));
  }

  ValueId masked(ValueId s, const Expr &past) {
    const auto hide = [&](ValueId visible) { s = a.select(visible, s, a.number(s, -kInfinity)); };
    if (n.has(3)) {
      const bool flags = n.element(3) == kBool;
      ValueId mask = flags ? n.in(3) : a.convert(a.element(s), n.in(3));
      const Dims d = n.dims_of(mask);
      if (d.size() < 2 || d.size() > 4)
        n.fail("the mask must be of rank 2 to 4, got " + to_string(n.type(3)));
      if (!(d.back() == full_[4]) && !(d.back() == Expr(1))) { // shorter: what it does not mention is hidden
        const Expr missing = full_[4] - d.back();
        if (missing.upper() < 0)
          n.fail("the mask " + to_string(n.type(3)) + " is longer than the keys, " + full_[4].to_string());
        if (!proves_ge0(missing))
          n.b.check(less_equal(d.back(), full_[4]), "node '" + n.name + "' (" + n.source + "): the mask is longer than the keys");
        std::vector<Expr> low(d.size(), Expr(0)), high(d.size(), Expr(0));
        high.back() = missing;
        mask = n.b.pad(mask, low, high, graph::PadMode::kConstant, flags ? a.number(kBool, 0.0) : a.number(mask, -kInfinity));
      }
      // [.., heads, l, s] to [.., kv heads, group, l, s].
      Dims grouped = n.dims_of(mask);
      if (grouped.size() >= 3) {
        const size_t h = grouped.size() - 3;
        const bool one = grouped[h] == Expr(1);
        if (!one)
          n.require_equal(grouped[h], full_[1] * full_[2], "heads of the mask " + to_string(n.type(3)));
        grouped[h] = one ? Expr(1) : full_[2];
        grouped.insert(grouped.begin() + static_cast<long>(h), one ? Expr(1) : full_[1]);
        mask = n.reshape(mask, grouped);
      }
      if (flags)
        hide(mask);
      else
        s = a.add(s, mask);
    }
    const ValueId key = a.iota(kI64, full_[4], 4, 5);
    if (n.int_attr("is_causal", 0) != 0) {
      const ValueId query = a.add(a.iota(kI64, full_[3], 3, 5), a.number(kI64, past));
      hide(a.le(key, query));
    }
    if (n.has(6)) {
      if (n.rank(6) != 1 || n.element(6) != kI64)
        n.fail("nonpad_kv_seqlen must be a list of int64, got " + to_string(n.type(6)));
      hide(a.lt(key, n.reshape(n.in(6), {full_[0], 1, 1, 1, 1})));
    }
    return s;
  }

  Node &n;
  Algebra a;
  Dims full_; // batch, key-value heads, query heads of each, queries, keys
};

void import_attention(Node &n) { Attention(n).run(); }

// A graph attribute applied to one value, where it is given.
ValueId modified(Node &n, const char *attribute, ValueId x) {
  if (!n.attribute(attribute))
    return x;
  const onnx::GraphProto &body = n.graph_attr(attribute);
  if (body.input_size() != 1 || body.output_size() != 1)
    n.fail(std::string("attribute '") + attribute + "' must take one tensor and give one");
  Scope scope{&n.scope(), {}};
  auto v = std::make_shared<Value>();
  v->name = body.input(0).name();
  v->type = n.b.type(x);
  v->id = x;
  v->home = n.importer().region();
  scope.values[v->name] = v;
  const ValuePtr out = import_body(n, scope, body)[0];
  if (out->type.dims.size() != v->type.dims.size())
    n.fail(std::string("attribute '") + attribute + "' changes the shape from " + to_string(v->type) + " to " + to_string(out->type));
  return n.b.convert(v->type.element, n.importer().materialise(*out));
}

// softmax(score_mod(q k' * scale)) v with prob_mod on the probabilities.
void import_flex_attention(Node &n) {
  n.need_inputs(3, 3);
  Algebra a(n);
  for (size_t i = 0; i < 3; ++i) {
    n.need_float(i);
    if (n.rank(i) != 4)
      n.fail("takes Q, K and V of rank 4, got " + n.describe_types());
  }
  const Dims dq = n.dims(0), dk = n.dims(1), dv = n.dims(2);
  n.require_equal(dq[3], dk[3], "head sizes of Q and K");
  n.require_equal(dk[2], dv[2], "sequences of K and V");
  n.require_equal(dk[1], dv[1], "heads of K and V");
  const Expr group = group_of(n, dq[1], dk[1]);
  double scale = n.float_attr("scale", 0);
  if (!n.attribute("scale")) {
    if (!dq[3].constant())
      n.fail("the head size must be known at compile time", "give attribute 'scale'");
    scale = 1 / std::sqrt(static_cast<double>(std::max<int64_t>(*dq[3].constant(), 1)));
  }
  ElementType work = n.element(0) == kF64 ? kF64 : kF32;
  if (const int64_t precision = n.int_attr("softmax_precision", 0); precision != 0) {
    const auto type = element_type(static_cast<int32_t>(precision));
    if (!type || !is_float(*type))
      n.fail("attribute 'softmax_precision' is " + onnx_type_name(static_cast<int32_t>(precision)));
    work = *type == kF64 ? kF64 : work;
  }
  const ValueId q = n.reshape(a.convert(work, n.in(0)), {dq[0], dk[1], group, dq[2], dq[3]});
  ValueId s = a.mul(n.b.contract(q, a.convert(work, n.in(1)), "bhgle", "bhse", "bhgls"), scale);
  const Dims flat = {dq[0], dq[1], dq[2], dk[2]};
  s = modified(n, "score_mod", n.reshape(s, flat));
  const ValueId p = modified(n, "prob_mod", softmax_last(a, s));
  const ValueId y = n.b.contract(n.reshape(p, {dq[0], dk[1], group, dq[2], dk[2]}), a.convert(work, n.in(2)), "bhgls", "bhsv", "bhglv");
  n.set(0, n.lower(n.element(2), n.reshape(y, {dq[0], dq[1], dq[2], dv[3]})));
}

// Pairs (x1, x2) of the last axis turned by the position's angle; what lies past rotary_embedding_dim stays.
void import_rotary(Node &n) {
  n.need_inputs(3, 4);
  n.need_float(0);
  Algebra a(n);
  const bool flat = n.rank(0) == 3;
  if (!flat && n.rank(0) != 4)
    n.fail("takes rank 3 or 4, got " + to_string(n.type(0)));
  ValueId x = flat ? split_heads(n, n.lift(n.in(0)), positive_attr(n, "num_heads"), "the input") : n.lift(n.in(0)); // [b,h,t,d]
  const Dims d = n.dims_of(x);
  const int64_t part = n.int_attr("rotary_embedding_dim", 0);
  const Expr turned = part > 0 ? Expr(part) : d[3], half = floordiv(turned, Expr(2));
  if (part < 0 || part % 2 != 0 || (d[3].constant() && part > *d[3].constant()))
    n.fail("attribute 'rotary_embedding_dim' is " + std::to_string(part) + " for head size " + d[3].to_string());
  const auto cache = [&](size_t i) { // [b or 1, 1, t, half]
    ValueId c = n.b.convert(a.element(x), n.in(i));
    if (n.has(3)) {
      if (n.rank(i) != 2)
        n.fail("with position_ids, caches are [positions,size/2], got " + to_string(n.type(i)));
      c = n.b.gather(c, n.in(3), 0);
    }
    const Dims dc = n.dims_of(c);
    if (dc.size() != 3)
      n.fail("caches must be [batch,sequence,size/2] without position_ids, got " + to_string(n.type(i)));
    n.require_equal(dc[2], half, "cache " + to_string(n.type(i)) + " and half of the turned size");
    return a.insert(c, 1);
  };
  const ValueId cosine = cache(1), sine = cache(2), moving = a.cut(x, 3, 0, turned);
  const bool interleaved = n.int_attr("interleaved", 0) != 0;
  const ValueId x1 = interleaved ? a.cut(moving, 3, 0, half, 2) : a.cut(moving, 3, 0, half);
  const ValueId x2 = interleaved ? a.cut(moving, 3, 1, half, 2) : a.cut(moving, 3, half, half);
  const ValueId real = a.sub(a.mul(cosine, x1), a.mul(sine, x2)), imaginary = a.add(a.mul(sine, x1), a.mul(cosine, x2));
  ValueId y = interleaved ? n.reshape(n.b.concat({a.insert(real, 4), a.insert(imaginary, 4)}, 4), {d[0], d[1], d[2], turned})
                          : n.b.concat({real, imaginary}, 3);
  if (!(turned == d[3]))
    y = n.b.concat({y, a.cut(x, 3, turned, d[3] - turned)}, 3);
  y = n.lower(n.element(0), y);
  n.set(0, flat ? join_heads(n, y) : y);
}

// A recurrence over a state [b,h,k,v]: state = exp(decay) * state + k (x) beta * (v - state' k); y = scale * q state.
void import_linear_attention(Node &n) {
  n.need_inputs(3, 6);
  Algebra a(n);
  const std::string rule = n.string_attr("update_rule", "gated_delta");
  const bool gated = rule == "gated" || rule == "gated_delta", delta = rule == "delta" || rule == "gated_delta";
  if (!gated && !delta && rule != "linear")
    n.fail("attribute 'update_rule' is '" + rule + "'");
  if (gated != n.has(4) || delta != n.has(5))
    n.fail("update rule '" + rule + "' takes " + (gated ? "a" : "no") + " decay and " + (delta ? "a" : "no") + " beta input");
  for (size_t i : {0, 1, 2, 4, 5})
    if (n.has(i) && n.rank(i) != 3)
      n.fail("takes tensors of rank 3, got " + n.describe_types());
  const int64_t query_heads = positive_attr(n, "q_num_heads"), heads = positive_attr(n, "kv_num_heads");
  const Expr group = group_of(n, Expr(query_heads), Expr(heads)), h = heads;
  const auto take = [&](size_t i) { return n.b.convert(kF32, n.in(i)); };
  const ValueId q = split_heads(n, take(0), query_heads, "query"), k = split_heads(n, take(1), heads, "key"),
                v = split_heads(n, take(2), heads, "value");
  const Dims dk = n.dims_of(k), dv = n.dims_of(v);
  const Expr batch = dk[0], steps = dk[2], size = dk[3], value_size = dv[3];
  double scale = n.float_attr("scale", 0);
  if (scale == 0) {
    if (!size.constant() || *size.constant() < 1)
      n.fail("the key size must be known at compile time", "give attribute 'scale'");
    scale = 1 / std::sqrt(static_cast<double>(*size.constant()));
  }
  ValueId decay = kNoValue, beta = kNoValue;
  if (gated) { // one a head, or one a key element
    const Expr last = n.dims(4)[2];
    const bool each = !(last == h);
    if (each)
      n.require_equal(last, h * size, "decay " + to_string(n.type(4)) + " and heads");
    decay = a.map(K::kExp, n.reshape(take(4), {batch, steps, h, each ? size : Expr(1), 1}));
  }
  if (delta) {
    const bool one = n.dims(5)[2] == Expr(1);
    if (!one)
      n.require_equal(n.dims(5)[2], h, "beta " + to_string(n.type(5)) + " and heads");
    beta = n.reshape(take(5), {batch, steps, one ? Expr(1) : h, 1});
  }
  const Dims state_dims = {batch, h, size, value_size};
  ValueId state = n.b.splat_float(kF32, state_dims, 0);
  if (n.has(3)) {
    if (n.rank(3) != 4)
      n.fail("the past state must be of rank 4, got " + to_string(n.type(3)));
    for (size_t d = 0; d < 4; ++d)
      n.require_equal(n.dims(3)[d], state_dims[d], "past state " + to_string(n.type(3)));
    state = take(3);
  }
  const auto out = counted_loop(n, steps, {state}, [&](const Expr &t, const std::vector<ValueId> &old) {
    ValueId s = old[0];
    const ValueId qt = n.reshape(a.pick(q, 2, t), {batch, h, group, size}), kt = a.pick(k, 2, t);
    ValueId vt = a.pick(v, 2, t);
    if (gated)
      s = a.mul(s, a.pick(decay, 1, t));
    if (delta)
      vt = a.mul(a.pick(beta, 1, t), a.sub(vt, n.b.contract(s, kt, "bhkv", "bhk", "bhv")));
    s = a.add(s, a.mul(a.insert(kt, 3), a.insert(vt, 2)));
    return std::vector<ValueId>{s, a.mul(n.b.contract(qt, s, "bhgk", "bhkv", "bhgv"), scale)};
  });
  const ValueId y = n.b.transpose(out[1], {1, 0, 2, 3, 4}); // [t,b,h,g,v] to [b,t,h,g,v]
  n.set(0, n.lower(n.element(0), n.reshape(y, {batch, steps, Expr(query_heads) * value_size})));
  if (n.wants(1))
    n.set(1, n.lower(n.has(3) ? n.element(3) : n.element(0), out[0]));
}

// A depthwise convolution over the past and the present; the last k - 1 points are the next state.
void import_causal_conv(Node &n) {
  n.need_inputs(2, 4);
  n.need_float(0);
  Algebra a(n);
  const std::string activation = n.string_attr("activation", "none");
  if (activation != "none" && activation != "silu" && activation != "swish")
    n.fail("attribute 'activation' is '" + activation + "'");
  if (n.rank(0) != 3 || n.rank(1) != 3)
    n.fail("takes an input [n,c,l] and a weight [c,1,k], got " + n.describe_types());
  n.need_same_element(0, 1);
  const Dims dx = n.dims(0), dw = n.dims(1);
  n.require_equal(dx[1], dw[0], "channels of input and weight");
  const auto channels = dx[1].constant();
  if (!channels || !dw[2].constant())
    n.fail("channels and kernel must be known at compile time");
  const Expr past = dw[2] - 1;
  ValueId state = n.b.splat_float(n.element(0), {dx[0], dx[1], past}, 0);
  if (n.has(3)) {
    if (n.rank(3) != 3)
      n.fail("the past state must be of rank 3, got " + to_string(n.type(3)));
    n.require_equal(n.dims(3)[2], past, "past state " + to_string(n.type(3)) + " and the kernel less 1");
    state = n.b.convert(n.element(0), n.in(3));
  }
  const ValueId x = n.b.concat({state, n.in(0)}, 2);
  ValueId y = n.lift(n.b.conv(x, n.in(1), {1}, {1}, {Expr(0)}, {Expr(0)}, *channels));
  if (n.has(2))
    y = a.add(y, n.b.broadcast(n.b.convert(a.element(y), n.in(2)), {1}, n.dims_of(y)));
  if (activation != "none")
    y = a.mul(y, a.map(K::kSigmoid, y));
  n.set(0, n.lower(n.element(0), y));
  if (n.wants(1))
    n.set(1, n.lower(n.has(3) ? n.element(3) : n.element(0), a.cut(x, 2, n.dims_of(x)[2] - past, past)));
}

// `update` written into the cache along an axis, from write_indices[batch] on; circular: past the end goes on at 0.
void import_tensor_scatter(Node &n) {
  n.need_inputs(2, 3);
  n.need_same_element(0, 1);
  Algebra a(n);
  const std::string mode = n.string_attr("mode", "linear");
  if (mode != "linear" && mode != "circular")
    n.fail("attribute 'mode' is '" + mode + "'");
  const Dims from = n.dims(0), part = n.dims(1);
  const size_t axis = static_cast<size_t>(n.axis(n.int_attr("axis", -2), n.rank(0))), rank = from.size();
  if (part.size() != rank || axis == 0)
    n.fail("takes a cache and an update of one rank, along an axis after the batch, got " + n.describe_types());
  for (size_t d = 0; d < rank; ++d)
    if (d != axis)
      n.require_equal(from[d], part[d], "cache " + to_string(n.type(0)) + " and update " + to_string(n.type(1)));
  ValueId start = a.number(kI64, 0.0);
  Dims column(rank, Expr(1));
  column[0] = from[0];
  if (n.has(2)) {
    if (n.dims(2).size() != 1)
      n.fail("write_indices hold one number for each batch, got " + n.describe_types());
    n.require_equal(n.dims(2)[0], from[0], "cache " + to_string(n.type(0)) + " and write_indices " + to_string(n.type(2)));
    start = n.reshape(n.b.convert(kI64, n.in(2)), column);
  }
  // Which row of the update lands on each row of the cache.
  ValueId row = a.sub(a.iota(kI64, from[axis], axis, rank), start);
  if (mode == "circular") {
    const ValueId size = a.number(kI64, from[axis]);
    row = a.map(K::kRem, a.add(a.map(K::kRem, row, size), size), size);
  }
  const ValueId zero = a.number(kI64, 0.0), count = a.number(kI64, part[axis]);
  const ValueId hit = a.both(a.le(zero, row), a.lt(row, count));
  std::vector<ValueId> at;
  for (size_t d = 0; d < rank; ++d)
    at.push_back(d == axis ? a.select(hit, row, zero) : a.iota(kI64, from[d], d, rank));
  n.set(0, a.select(hit, gather_points(n, n.in(1), at, from), n.in(0)));
}

} // namespace

std::vector<OperatorRow> attention_operators() {
  return {
      {"", "Attention", 23, kMaxOpset, import_attention},
      {"", "CausalConvWithState", 27, kMaxOpset, import_causal_conv},
      {"", "LinearAttention", 27, kMaxOpset, import_linear_attention},
      {"", "RotaryEmbedding", 23, kMaxOpset, import_rotary},
      {"", "TensorScatter", 24, kMaxOpset, import_tensor_scatter},
      {"ai.onnx.preview", "FlexAttention", 1, 1, import_flex_attention},
  };
}

} // namespace ingot::aotc::importer
