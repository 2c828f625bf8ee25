// See dispatch_maker.h.
#include "tests/schedule/dispatch_maker.h"

namespace ingot::aotc::testing {

using dispatch::Value;
using dispatch::ValueKind;

uint32_t Maker::operand(std::string name, Expr count, bool output, ElementType type, bool constant) {
  dispatch::Operand o;
  o.name = std::move(name);
  o.type = type;
  o.count = count;
  o.output = output;
  o.constant = constant;
  d.operands.push_back(o);
  return static_cast<uint32_t>(d.operands.size() - 1);
}

Symbol Maker::axis(Expr extent) {
  Symbol s = Symbol::axis("i" + std::to_string(d.axes.size()), extent);
  d.axes.push_back({s, extent});
  return s;
}

uint32_t Maker::number(const Symbol &axis) const {
  for (uint32_t i = 0; i < d.axes.size(); ++i)
    if (d.axes[i].symbol == axis)
      return i;
  throw std::logic_error("no such axis");
}

ValueId Maker::load(uint32_t operand, Expr offset, std::vector<Guard> guards, double otherwise) {
  Value v;
  v.kind = ValueKind::kLoad;
  v.type = d.operands[operand].type;
  v.operand = operand;
  v.expr = offset;
  if (!guards.empty()) {
    Value c;
    c.type = v.type;
    c.fimm = otherwise;
    c.imm = static_cast<int64_t>(otherwise > 1e18 ? 0 : otherwise < -1e18 ? 0 : otherwise);
    d.values.push_back(c);
    v.otherwise = static_cast<ValueId>(d.values.size() - 1);
    v.guards = std::move(guards);
  }
  d.values.push_back(std::move(v));
  return static_cast<ValueId>(d.values.size() - 1);
}

ValueId Maker::constant(double value) {
  Value c;
  c.fimm = static_cast<float>(value);
  d.values.push_back(c);
  return static_cast<ValueId>(d.values.size() - 1);
}

ValueId Maker::op(Opcode code, ElementType type, std::vector<ValueId> args) {
  Value v;
  v.kind = ValueKind::kOp;
  v.type = type;
  v.code = code;
  v.args = std::move(args);
  d.values.push_back(std::move(v));
  return static_cast<ValueId>(d.values.size() - 1);
}

ValueId Maker::op(Opcode code, std::vector<ValueId> args) {
  ElementType type = kernel::is_compare(code) ? ElementType::kBool : d.values[args.back()].type;
  return op(code, type, std::move(args));
}

ValueId Maker::index(Expr e, ElementType type) {
  Value v;
  v.kind = ValueKind::kIndex;
  v.type = type;
  v.expr = e;
  bool convert = !is_integer(type); // an index is an integer first
  if (convert)
    v.type = ElementType::kI64;
  d.values.push_back(std::move(v));
  ValueId id = static_cast<ValueId>(d.values.size() - 1);
  return convert ? op(Opcode::kConvert, type, {id}) : id;
}

ValueId Maker::reduce(ReduceKind kind, ValueId arg, const std::vector<Symbol> &axes) {
  Value v;
  v.kind = ValueKind::kReduce;
  v.type = kind >= ReduceKind::kArgMin ? ElementType::kI64 : d.values[arg].type;
  v.reduce = kind;
  v.args = {arg};
  for (const Symbol &s : axes)
    v.axes.push_back(number(s));
  d.values.push_back(std::move(v));
  return static_cast<ValueId>(d.values.size() - 1);
}

void Maker::store(uint32_t operand, Expr offset, ValueId value, const std::vector<Symbol> &axes) {
  dispatch::Store s;
  s.operand = operand;
  s.offset = offset;
  s.value = value;
  for (const Symbol &a : axes)
    s.axes.push_back(number(a));
  d.stores.push_back(std::move(s));
}

namespace {

ValueId activate(Maker &m, ValueId v, int activation, const std::function<ValueId()> &residual) {
  switch (activation) {
  case 1:
    return m.op(Opcode::kMax, {v, m.constant(0)});
  case 2: {
    ValueId six = m.op(Opcode::kAdd, {v, m.constant(3)});
    six = m.op(Opcode::kMin, {m.op(Opcode::kMax, {six, m.constant(0)}), m.constant(6)});
    return m.op(Opcode::kDiv, {m.op(Opcode::kMul, {v, six}), m.constant(6)});
  }
  case 3:
    return m.op(Opcode::kMax, {m.op(Opcode::kAdd, {v, residual()}), m.constant(0)});
  case 4:
    return m.op(Opcode::kSigmoid, {v});
  default:
    return v;
  }
}

} // namespace

Case conv(const ConvShape &s) {
  Maker m("conv");
  size_t rank = s.size.size();
  int64_t taps = 1;
  Expr in_points = 1, out_points = 1;
  std::vector<Expr> size, out_size;
  for (size_t i = 0; i < rank; ++i) {
    size.push_back(s.width && i + 1 == rank ? Expr(*s.width) : Expr(s.size[i]));
    out_size.push_back(floordiv(size[i] + 2 * s.pad[i] - s.dilation[i] * (s.kernel[i] - 1) - 1, s.stride[i]) + 1);
    in_points = in_points * size[i];
    out_points = out_points * out_size[i];
    taps *= s.kernel[i];
  }
  uint32_t x = m.input("x", in_points * (s.n * s.groups * s.in));
  uint32_t w = m.weight("w", s.groups * s.out * s.in * taps);
  uint32_t b = s.bias ? m.weight("bias", s.groups * s.out) : 0;
  uint32_t r = s.activation == 3 ? m.input("r", out_points * (s.n * s.groups * s.out)) : 0;
  uint32_t scale = s.prologue == 2 ? m.input("scale", s.n * s.groups * s.in) : 0;
  uint32_t y = m.output("y", out_points * (s.n * s.groups * s.out));
  Symbol n = m.axis(s.n), g = m.axis(s.groups), oc = m.axis(s.out);
  std::vector<Symbol> out, tap;
  for (size_t i = 0; i < rank; ++i)
    out.push_back(m.axis(out_size[i]));
  Symbol ic = m.axis(s.in);
  for (size_t i = 0; i < rank; ++i)
    tap.push_back(m.axis(s.kernel[i]));
  Expr channel = Expr(g) * s.in + ic;
  Expr position_in = 0, position_out = 0, tap_number = 0;
  std::vector<Guard> guards;
  for (size_t i = 0; i < rank; ++i) {
    Expr position = Expr(out[i]) * s.stride[i] + Expr(tap[i]) * s.dilation[i] - s.pad[i];
    position_in = position_in * size[i] + position;
    position_out = position_out * out_size[i] + out[i];
    tap_number = tap_number * s.kernel[i] + tap[i];
    if (s.pad[i])
      guards.push_back({position, size[i]});
  }
  Expr y_offset = (Expr(n) * (s.groups * s.out) + Expr(g) * s.out + oc) * out_points + position_out;
  ValueId xv = m.load(x, (Expr(n) * (s.groups * s.in) + channel) * in_points + position_in, guards);
  if (s.prologue == 1)
    xv = m.op(Opcode::kMax, {xv, m.constant(0)});
  if (s.prologue == 2)
    xv = m.op(Opcode::kMul, {xv, m.load(scale, Expr(n) * (s.groups * s.in) + channel)});
  ValueId wv = m.load(w, ((Expr(g) * s.out + oc) * s.in + ic) * taps + tap_number);
  std::vector<Symbol> reduced{ic};
  reduced.insert(reduced.end(), tap.begin(), tap.end());
  ValueId v = m.reduce(ReduceKind::kAdd, m.op(Opcode::kMul, {xv, wv}), reduced);
  if (s.bias)
    v = m.op(Opcode::kAdd, {v, m.load(b, Expr(g) * s.out + oc)});
  v = activate(m, v, s.activation, [&] { return m.load(r, y_offset); });
  std::vector<Symbol> stored{n, g, oc};
  stored.insert(stored.end(), out.begin(), out.end());
  m.store(y, y_offset, v, stored);
  Case c{m.d, {}};
  if (s.width)
    c.dims = {{*s.width, s.size.back()}};
  return c;
}

Case matmul(Expr batch, Expr rows, Expr columns, Expr depth, bool transposed, bool weight, int activation,
            bool batched_weight, std::vector<std::pair<Symbol, int64_t>> dims) {
  Maker m("matmul");
  uint32_t x = m.input("x", batch * rows * depth);
  uint32_t w = m.operand("w", (batched_weight ? batch : Expr(1)) * columns * depth, false, ElementType::kF32, weight);
  uint32_t bias = m.operand("bias", columns, false, ElementType::kF32, true);
  uint32_t r = activation == 3 ? m.input("r", batch * rows * columns) : 0;
  uint32_t y = m.output("y", batch * rows * columns);
  Symbol b = m.axis(batch), i = m.axis(rows), j = m.axis(columns), k = m.axis(depth);
  ValueId xv = m.load(x, (Expr(b) * rows + i) * depth + k);
  Expr w_offset = transposed ? Expr(j) * depth + k : Expr(k) * columns + j;
  if (batched_weight)
    w_offset = w_offset + Expr(b) * columns * depth;
  ValueId v = m.reduce(ReduceKind::kAdd, m.op(Opcode::kMul, {xv, m.load(w, w_offset)}), {k});
  v = m.op(Opcode::kAdd, {v, m.load(bias, j)});
  Expr y_offset = (Expr(b) * rows + i) * columns + j;
  v = activate(m, v, activation, [&] { return m.load(r, y_offset); });
  m.store(y, y_offset, v, {b, i, j});
  return {m.d, std::move(dims)};
}

namespace {

// Sums as bytes: rint(sum * scale[column]) + 7, within 0 and 255.
ValueId requantised(Maker &m, ValueId sum, uint32_t scale, const Expr &column) {
  ValueId v = m.op(Opcode::kConvert, ElementType::kF32, {sum});
  v = m.op(Opcode::kRint, {m.op(Opcode::kMul, {v, m.load(scale, column)})});
  v = m.op(Opcode::kAdd, {v, m.constant(7)});
  v = m.op(Opcode::kMax, {m.op(Opcode::kMin, {v, m.constant(255)}), m.constant(0)});
  return m.op(Opcode::kConvertU, ElementType::kU8, {v});
}

ValueId byte_products(Maker &m, ValueId x, ValueId w, const std::vector<Symbol> &k) {
  ValueId wide_x = m.op(Opcode::kConvertU, ElementType::kI32, {x}), wide_w = m.op(Opcode::kConvert, ElementType::kI32, {w});
  return m.reduce(ReduceKind::kAdd, m.op(Opcode::kMul, ElementType::kI32, {wide_x, wide_w}), k);
}

} // namespace

Case byte_matmul(Expr batch, Expr rows, Expr columns, Expr depth, bool transposed, bool weight, bool requantise,
                 std::vector<std::pair<Symbol, int64_t>> dims, bool zeros) {
  Maker m("byte_matmul");
  uint32_t x = m.input("x", batch * rows * depth, ElementType::kU8);
  uint32_t w = m.operand("w", columns * depth, false, ElementType::kI8, weight);
  uint32_t of_rows = zeros ? m.input("of_rows", batch * rows, ElementType::kI32) : 0, of_columns = zeros ? m.input("of_columns", columns, ElementType::kI32) : 0;
  uint32_t scale = requantise ? m.weight("scale", columns) : 0;
  uint32_t y = m.output("y", batch * rows * columns, requantise ? ElementType::kU8 : ElementType::kI32);
  Symbol b = m.axis(batch), i = m.axis(rows), j = m.axis(columns), k = m.axis(depth);
  ValueId v = byte_products(m, m.load(x, (Expr(b) * rows + i) * depth + k),
                            m.load(w, transposed ? Expr(j) * depth + k : Expr(k) * columns + j), {k});
  if (zeros)
    v = m.op(Opcode::kSub, ElementType::kI32, {m.op(Opcode::kSub, ElementType::kI32, {v, m.load(of_rows, Expr(b) * rows + i)}), m.load(of_columns, j)});
  if (requantise)
    v = requantised(m, v, scale, j);
  m.store(y, (Expr(b) * rows + i) * columns + j, v, {b, i, j});
  return {m.d, std::move(dims)};
}

Case byte_conv(const ByteConvShape &s) {
  Maker m("byte_conv");
  int64_t oh = (s.size[0] + 2 * s.pad - s.kernel) / s.stride + 1, ow = (s.size[1] + 2 * s.pad - s.kernel) / s.stride + 1;
  int64_t block = s.in < 16 ? 1 : 16, blocks = s.in / block;
  uint32_t x = m.input("x", s.n * s.in * s.size[0] * s.size[1], ElementType::kU8);
  uint32_t w = m.operand("w", s.out * s.in * s.kernel * s.kernel, false, ElementType::kI8, true);
  uint32_t scale = s.requantise ? m.weight("scale", s.out) : 0;
  uint32_t y = m.output("y", s.n * s.out * oh * ow, s.requantise ? ElementType::kU8 : ElementType::kI32);
  Symbol n = m.axis(s.n), ob = m.axis(s.out / 16), r = m.axis(oh), c = m.axis(ow), lane = m.axis(16);
  Symbol cb = m.axis(blocks), kr = m.axis(s.kernel), kc = m.axis(s.kernel), within = m.axis(block);
  Expr row = Expr(r) * s.stride + kr - s.pad, column = Expr(c) * s.stride + kc - s.pad, out = Expr(ob) * 16 + lane;
  std::vector<Guard> inside;
  if (s.pad)
    inside = {{row, s.size[0]}, {column, s.size[1]}};
  Expr x_offset = (((Expr(n) * blocks + cb) * s.size[0] + row) * s.size[1] + column) * block + within;
  Expr w_offset = ((out * s.in + Expr(cb) * block + within) * s.kernel + kr) * s.kernel + kc;
  ValueId v = byte_products(m, m.load(x, x_offset, inside), m.load(w, w_offset), {cb, kr, kc, within});
  if (s.requantise)
    v = requantised(m, v, scale, out);
  m.store(y, (((Expr(n) * (s.out / 16) + ob) * oh + r) * ow + c) * 16 + lane, v, {n, ob, r, c, lane});
  return {m.d, {}};
}

Case softmax(Expr rows, Expr columns, std::vector<std::pair<Symbol, int64_t>> dims) {
  Maker m("softmax");
  uint32_t x = m.input("x", rows * columns), y = m.output("y", rows * columns);
  Symbol r = m.axis(rows), j = m.axis(columns);
  Expr offset = Expr(r) * columns + j;
  ValueId v = m.load(x, offset);
  ValueId e = m.op(Opcode::kExp, {m.op(Opcode::kSub, {v, m.reduce(ReduceKind::kMax, v, {j})})});
  m.store(y, offset, m.op(Opcode::kDiv, {e, m.reduce(ReduceKind::kAdd, e, {j})}), {r, j});
  return {m.d, std::move(dims)};
}

Case attention(const AttentionShape &s) {
  using Mask = AttentionShape::Mask;
  Maker m("attention");
  const Expr heads = s.batch * s.heads;
  uint32_t q = m.input("q", heads * s.rows * s.depth), k = m.input("k", heads * s.keys * s.depth),
           v = m.input("v", heads * s.keys * s.columns), mask = 0;
  if (s.mask == Mask::kKeys)
    mask = m.input("mask", s.keys * s.batch);
  else if (s.mask == Mask::kMatrix)
    mask = m.input("mask", s.rows * s.keys * s.heads);
  else if (s.mask == Mask::kFlags)
    mask = m.input("mask", s.rows * s.keys, ElementType::kBool);
  uint32_t y = m.output("y", heads * s.rows * s.columns);
  Symbol b = m.axis(s.batch), h = m.axis(s.heads), i = m.axis(s.rows), c = m.axis(s.columns), j = m.axis(s.keys),
         e = m.axis(s.depth);
  auto at = [&](const Expr &count, const Expr &position, int64_t size, const Expr &element) {
    return s.interleaved ? ((Expr(b) * count + position) * s.heads + h) * size + element
                         : ((Expr(b) * s.heads + h) * count + position) * size + element;
  };
  ValueId score = m.reduce(
      ReduceKind::kAdd, m.op(Opcode::kMul, {m.load(q, at(s.rows, i, s.depth, e)), m.load(k, at(s.keys, j, s.depth, e))}), {e});
  score = m.op(Opcode::kMul, {score, m.constant(s.scale)});
  if (s.mask == Mask::kKeys)
    score = m.op(Opcode::kAdd, {score, m.load(mask, Expr(b) * s.keys + j)});
  else if (s.mask == Mask::kMatrix)
    score = m.op(Opcode::kAdd, {m.load(mask, (Expr(h) * s.rows + i) * s.keys + j), score});
  else if (s.mask == Mask::kFlags)
    score = m.op(Opcode::kSelect, ElementType::kF32, {m.load(mask, Expr(i) * s.keys + j), score, m.constant(-INFINITY)});
  else if (s.mask == Mask::kCausal)
    score = m.op(Opcode::kSelect, ElementType::kF32,
                 {m.op(Opcode::kLe, {m.index(j), m.index(Expr(i) + s.shift)}), score, m.constant(-INFINITY)});
  auto bound = [&](ValueId reduced, double least) {
    return s.bounded ? m.op(Opcode::kMax, {reduced, m.constant(least)}) : reduced;
  };
  ValueId p = m.op(Opcode::kExp, {m.op(Opcode::kSub, {score, bound(m.reduce(ReduceKind::kMax, score, {j}), -3e38)})});
  p = m.op(Opcode::kDiv, {p, bound(m.reduce(ReduceKind::kAdd, p, {j}), 1e-38)});
  Expr value_at = s.values_transposed ? ((Expr(b) * s.heads + h) * s.columns + c) * s.keys + j : at(s.keys, j, s.columns, c);
  ValueId out = m.reduce(ReduceKind::kAdd, m.op(Opcode::kMul, {p, m.load(v, value_at)}), {j});
  if (s.epilogue)
    out = m.op(Opcode::kMax, {m.op(Opcode::kMul, {out, m.constant(3)}), m.constant(-0.5)});
  m.store(y, at(s.rows, i, s.columns, c), out, {b, h, i, c});
  return {m.d, s.dims};
}

Case layer_norm(Expr rows, Expr columns, std::vector<std::pair<Symbol, int64_t>> dims) {
  Maker m("layer_norm");
  uint32_t x = m.input("x", rows * columns), scale = m.weight("scale", columns), bias = m.weight("bias", columns);
  uint32_t y = m.output("y", rows * columns);
  Symbol r = m.axis(rows), j = m.axis(columns);
  Expr offset = Expr(r) * columns + j;
  ValueId v = m.load(x, offset);
  ValueId n = m.index(columns, ElementType::kF32);
  ValueId mean = m.op(Opcode::kDiv, {m.reduce(ReduceKind::kAdd, v, {j}), n});
  ValueId c = m.op(Opcode::kSub, {v, mean});
  ValueId variance = m.op(Opcode::kDiv, {m.reduce(ReduceKind::kAdd, m.op(Opcode::kMul, {c, c}), {j}), n});
  ValueId deviation = m.op(Opcode::kSqrt, {m.op(Opcode::kAdd, {variance, m.constant(1e-5)})});
  ValueId out = m.op(Opcode::kMul, {m.op(Opcode::kDiv, {c, deviation}), m.load(scale, j)});
  m.store(y, offset, m.op(Opcode::kAdd, {out, m.load(bias, j)}), {r, j});
  return {m.d, std::move(dims)};
}

Case pool(int64_t channels, std::vector<int64_t> size, std::vector<int64_t> kernel, std::vector<int64_t> stride,
          std::vector<int64_t> pad, bool max) {
  Maker m("pool");
  int64_t oh = (size[0] + 2 * pad[0] - kernel[0]) / stride[0] + 1, ow = (size[1] + 2 * pad[1] - kernel[1]) / stride[1] + 1;
  uint32_t x = m.input("x", channels * size[0] * size[1]), y = m.output("y", channels * oh * ow);
  Symbol c = m.axis(channels), h = m.axis(oh), w = m.axis(ow), kh = m.axis(kernel[0]), kw = m.axis(kernel[1]);
  Expr ph = Expr(h) * stride[0] + kh - pad[0], pw = Expr(w) * stride[1] + kw - pad[1];
  std::vector<Guard> guards;
  if (pad[0])
    guards.push_back({ph, size[0]});
  if (pad[1])
    guards.push_back({pw, size[1]});
  ValueId v = m.load(x, (Expr(c) * size[0] + ph) * size[1] + pw, guards, max ? -INFINITY : 0);
  v = m.reduce(max ? ReduceKind::kMax : ReduceKind::kAdd, v, {kh, kw});
  if (!max)
    v = m.op(Opcode::kDiv, {v, m.constant(static_cast<double>(kernel[0] * kernel[1]))});
  m.store(y, (Expr(c) * oh + h) * ow + w, v, {c, h, w});
  return {m.d, {}};
}

Case reduce(ReduceKind kind, std::vector<int64_t> shape, std::vector<int> axes, ElementType type) {
  Maker m("reduce");
  int64_t total = 1, kept_total = 1;
  std::vector<bool> gone(shape.size());
  for (int a : axes)
    gone[static_cast<size_t>(a)] = true;
  for (size_t i = 0; i < shape.size(); ++i) {
    total *= shape[i];
    kept_total *= gone[i] ? 1 : shape[i];
  }
  bool arg = kind >= ReduceKind::kArgMin;
  uint32_t x = m.input("x", total, type), y = m.output("y", kept_total, arg ? ElementType::kI64 : type);
  Expr in = 0, out = 0;
  std::vector<Symbol> reduced, kept;
  for (size_t i = 0; i < shape.size(); ++i) {
    Symbol s = m.axis(shape[i]);
    in = in * shape[i] + s;
    if (gone[i])
      reduced.push_back(s);
    else {
      out = out * shape[i] + s;
      kept.push_back(s);
    }
  }
  m.store(y, out, m.reduce(kind, m.load(x, in), reduced), kept);
  return {m.d, {}};
}

Case transpose(std::vector<int64_t> shape, std::vector<int> permutation) {
  Maker m("transpose");
  int64_t total = 1;
  std::vector<int64_t> strides(shape.size());
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = total;
    total *= shape[i];
  }
  uint32_t x = m.input("x", total), y = m.output("y", total);
  Expr in = 0, out = 0;
  std::vector<Symbol> axes;
  for (int p : permutation) {
    Symbol s = m.axis(shape[static_cast<size_t>(p)]);
    axes.push_back(s);
    out = out * shape[static_cast<size_t>(p)] + s;
    in = in + Expr(s) * strides[static_cast<size_t>(p)];
  }
  m.store(y, out, m.load(x, in), axes);
  return {m.d, {}};
}

Case elementwise(std::vector<int64_t> shape, int broadcast, int kind) {
  Maker m("elementwise");
  int64_t total = 1, other_total = 1;
  for (size_t i = 0; i < shape.size(); ++i) {
    total *= shape[i];
    other_total *= broadcast >> i & 1 ? 1 : shape[i];
  }
  uint32_t x = m.input("x", total), z = m.input("z", other_total), y = m.output("y", total);
  Expr offset = 0, other = 0;
  std::vector<Symbol> axes;
  for (size_t i = 0; i < shape.size(); ++i) {
    Symbol s = m.axis(shape[i]);
    axes.push_back(s);
    offset = offset * shape[i] + s;
    if (!(broadcast >> i & 1))
      other = other * shape[i] + s;
  }
  ValueId a = m.load(x, offset), b = m.load(z, other), v;
  switch (kind) {
  case 0:
    v = m.op(Opcode::kAdd, {a, b});
    break;
  case 1:
    v = m.op(Opcode::kTanh, {m.op(Opcode::kMul, {a, b})});
    break;
  case 2:
    v = m.op(Opcode::kSelect, {m.op(Opcode::kLt, {a, b}), a, m.op(Opcode::kNeg, {b})});
    break;
  default:
    v = m.op(Opcode::kAdd, {m.op(Opcode::kErf, {a}), m.index(offset, ElementType::kF32)});
  }
  m.store(y, offset, v, axes);
  return {m.d, {}};
}

Case concat(std::vector<int64_t> s) {
  Maker m("concat");
  int64_t outer = s.at(0), a = s.at(1), b = s.at(2), inner = s.at(3);
  uint32_t x = m.input("x", outer * a * inner), z = m.input("z", outer * b * inner),
           y = m.output("y", outer * (a + b) * inner);
  Symbol o = m.axis(outer), c = m.axis(a + b), i = m.axis(inner);
  ValueId first = m.load(x, (Expr(o) * a + c) * inner + i, {{c, a}});
  ValueId second = m.load(z, (Expr(o) * b + Expr(c) - a) * inner + i, {{Expr(c) - a, b}});
  ValueId is_first = m.op(Opcode::kLt, {m.index(c), m.index(a)});
  m.store(y, (Expr(o) * (a + b) + c) * inner + i, m.op(Opcode::kSelect, {is_first, first, second}), {o, c, i});
  return {m.d, {}};
}

// Any id becomes one of [0, table).
static ValueId clamped(Maker &m, ValueId id, int64_t table) {
  dispatch::Value bound;
  bound.type = ElementType::kI64;
  bound.imm = table - 1;
  m.d.values.push_back(bound);
  ValueId last = static_cast<ValueId>(m.d.values.size() - 1);
  bound.imm = 0;
  m.d.values.push_back(bound);
  return m.op(Opcode::kMax, {m.op(Opcode::kMin, {id, last}), last + 1});
}

Case gather_rows(int64_t rows, int64_t table, int64_t width) {
  Maker m("gather");
  uint32_t x = m.input("x", table * width), ids = m.input("ids", rows, ElementType::kI64), y = m.output("y", rows * width);
  Symbol r = m.axis(rows), j = m.axis(width);
  ValueId id = m.load(ids, r);
  id = clamped(m, id, table);
  Symbol row = Symbol::value("row", id, table);
  m.store(y, Expr(r) * width + j, m.load(x, Expr(row) * width + j), {r, j});
  return {m.d, {}};
}

Case embedding_norm(Expr rows, int64_t table, int64_t width, std::vector<std::pair<Symbol, int64_t>> dims) {
  Maker m("embedding_norm");
  uint32_t x = m.input("x", table * width), ids = m.input("ids", rows, ElementType::kI64), scale = m.weight("scale", width);
  uint32_t y = m.output("y", rows * width);
  Symbol r = m.axis(rows), j = m.axis(width);
  ValueId id = m.load(ids, r), inside = clamped(m, id, table);
  ValueId v = m.load(x, Expr(Symbol::value("row", inside, table)) * width + j);
  ValueId n = m.index(width, ElementType::kF32);
  ValueId c = m.op(Opcode::kSub, {v, m.op(Opcode::kDiv, {m.reduce(ReduceKind::kAdd, v, {j}), n})});
  ValueId variance = m.op(Opcode::kDiv, {m.reduce(ReduceKind::kAdd, m.op(Opcode::kMul, {c, c}), {j}), n});
  ValueId deviation = m.op(Opcode::kSqrt, {m.op(Opcode::kAdd, {variance, m.constant(1e-5)})});
  m.store(y, Expr(r) * width + j, m.op(Opcode::kMul, {m.op(Opcode::kDiv, {c, deviation}), m.load(scale, j)}), {r, j});
  m.d.checks.push_back({m.op(Opcode::kNe, ElementType::kBool, {id, inside}), 1, 0});
  return {m.d, std::move(dims)};
}

Case with_bytes(const Case &c, ElementType left, ElementType right) {
  Case out = c;
  dispatch::Dispatch &d = out.dispatch;
  const ElementType types[] = {left, right};
  for (dispatch::Value &v : d.values)
    if (v.kind == ValueKind::kLoad && v.operand < 2) {
      v.type = types[v.operand];
      if (v.otherwise != dispatch::kNoValue)
        d.values[v.otherwise].type = v.type;
    } else if (v.kind == ValueKind::kOp && v.type == ElementType::kI32 && v.args.size() == 1 && d.values[v.args[0]].kind == ValueKind::kLoad) {
      v.code = d.values[v.args[0]].type == ElementType::kU8 ? Opcode::kConvertU : Opcode::kConvert;
    }
  d.operands[0].type = left, d.operands[1].type = right;
  return out;
}

Case in_half(const Case &c, uint32_t operands) {
  Case out = c;
  dispatch::Dispatch &d = out.dispatch;
  std::vector<dispatch::Value> values;
  std::vector<ValueId> now;
  for (dispatch::Value v : c.dispatch.values) {
    for (ValueId &a : v.args)
      a = now[a];
    if (v.otherwise != dispatch::kNoValue)
      v.otherwise = now[v.otherwise];
    const bool half = v.kind == dispatch::ValueKind::kLoad && v.operand < operands;
    if (half) {
      v.type = ElementType::kF16;
      if (v.otherwise != dispatch::kNoValue) {
        dispatch::Value zero = values[v.otherwise];
        zero.type = ElementType::kF16;
        values.push_back(zero);
        v.otherwise = static_cast<ValueId>(values.size() - 1);
      }
    }
    values.push_back(v);
    if (half) {
      dispatch::Value convert;
      convert.kind = dispatch::ValueKind::kOp;
      convert.code = Opcode::kConvert;
      convert.args = {static_cast<ValueId>(values.size() - 1)};
      values.push_back(convert);
    }
    now.push_back(static_cast<ValueId>(values.size() - 1));
  }
  d.values = values;
  for (dispatch::Store &s : d.stores)
    s.value = now[s.value];
  for (uint32_t o = 0; o < operands; ++o)
    d.operands[o].type = ElementType::kF16;
  return out;
}

} // namespace ingot::aotc::testing
