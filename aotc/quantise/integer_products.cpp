// See integer_products.h.
#include "aotc/quantise/integer_products.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>

#include "aotc/base/error.h"

namespace ingot::aotc::quantise {
namespace {

using graph::kNoValue;
using graph::Op;
using graph::Opcode;
using graph::TensorType;
using graph::ValueId;
using K = kernel::Opcode;

constexpr int64_t kDeepest = 1 << 14; // elements summed; beyond, products stay as they are
constexpr int kLongest = 24;          // elementwise ops between a product and its conversion to 8 bits

// A scale or zero point: a tensor whose axis i is axis axes[i] of the operand; the same along all others.
struct Parameter {
  ValueId source = kNoValue;
  std::vector<uint32_t> axes; // ascending
};

// One factor of a product: bytes, less a zero point, times a scale, seen through views.
struct Factor {
  ValueId bytes = kNoValue;
  std::vector<const Op *> views; // from the bytes outwards
  std::optional<Parameter> zero, scale;
};

// The operand as it enters the new product: bytes of the wanted sign and the zero point that goes with them.
struct Side {
  ValueId bytes = kNoValue;
  std::optional<Parameter> zero; // none: zero
};

bool is_byte(ElementType e) { return e == ElementType::kU8 || e == ElementType::kI8; }

class Pass {
 public:
  Pass(const graph::Function &function, bool matrix_units) : in_(function), out_(function), b_(out_, out_.graph), matrix_units_(matrix_units) {
    out_.graph.ops.clear();
    scan(function.graph, true);
    for (const graph::Signature &output : function.graph.outputs)
      kept_.insert(output.value);
  }

  graph::Function run() {
    for (const Op &op : in_.graph.ops) {
      b_.set_origin(op.node, op.source);
      bool done = op.code == Opcode::kContract ? contract(op)
                  : op.code == Opcode::kConv   ? conv(op)
                                               : op.code == Opcode::kPool && max_pool(op);
      if (done)
        continue;
      out_.graph.ops.push_back(op);
      replace_in(out_.graph.ops.back());
    }
    for (graph::Signature &output : out_.graph.outputs)
      output.value = now(output.value);
    std::string problem = graph::verify(out_);
    ensure(problem.empty(), "integer products: " + problem);
    return std::move(out_);
  }

 private:
  // ---- The old graph

  void scan(const graph::Graph &graph, bool outermost) {
    for (const Op &op : graph.ops) {
      for (ValueId v : op.operands) {
        if (outermost)
          uses_[v].push_back(&op);
        else
          kept_.insert(v);
      }
      if (outermost)
        for (ValueId v : op.results)
          definitions_[v] = &op;
      for (const graph::Graph &region : op.regions) {
        scan(region, false);
        for (const graph::Signature &output : region.outputs)
          kept_.insert(output.value);
      }
    }
  }

  const TensorType &type(ValueId v) const { return out_.values[v].type; }
  ValueId now(ValueId v) const {
    auto it = replaced_.find(v);
    return it == replaced_.end() ? v : it->second;
  }
  void replace_in(Op &op) {
    for (ValueId &v : op.operands)
      v = now(v);
    for (graph::Graph &region : op.regions) {
      for (Op &inner : region.ops)
        replace_in(inner);
      for (graph::Signature &output : region.outputs)
        output.value = now(output.value);
    }
  }

  const Op *definition(ValueId v) const {
    auto it = definitions_.find(v);
    return it == definitions_.end() ? nullptr : it->second;
  }
  const Op *map_of(ValueId v, std::initializer_list<K> codes) const {
    const Op *op = definition(v);
    return op && op->code == Opcode::kMap && std::find(codes.begin(), codes.end(), op->map) != codes.end() ? op : nullptr;
  }

  // Whether all that uses v ends, by elementwise ops, in a conversion to 8 bits.
  bool ends_in_bytes(ValueId v, int depth = 0) const {
    if (kept_.count(v) || depth > kLongest)
      return false;
    auto uses = uses_.find(v);
    if (uses == uses_.end())
      return false;
    return std::all_of(uses->second.begin(), uses->second.end(), [&](const Op *op) {
      bool elementwise = op->code == Opcode::kMap || op->code == Opcode::kReshape || op->code == Opcode::kTranspose;
      return elementwise && (is_byte(type(op->results[0]).element) || ends_in_bytes(op->results[0], depth + 1));
    });
  }

  // The integer that all elements of a constant are; nothing where they differ or v is no constant.
  std::optional<int64_t> constant_of(ValueId v) const {
    const Op *op = definition(v);
    if (!op)
      return std::nullopt;
    if (op->code == Opcode::kReshape || op->code == Opcode::kBroadcast || map_of(v, {K::kConvert, K::kConvertU}))
      return constant_of(op->operands[0]);
    if (op->code != Opcode::kConstant && op->code != Opcode::kSplat)
      return std::nullopt;
    ElementType e = op->constant->type;
    size_t size = byte_size(e);
    if (is_float(e) || e == ElementType::kBool || size > 4 || op->constant->bytes.empty())
      return std::nullopt;
    const std::vector<uint8_t> &bytes = op->constant->bytes;
    for (size_t i = size; i < bytes.size(); ++i)
      if (bytes[i] != bytes[i - size])
        return std::nullopt;
    uint64_t bits = 0;
    for (size_t i = 0; i < size; ++i)
      bits |= uint64_t{bytes[i]} << (8 * i);
    uint64_t sign = uint64_t{1} << (8 * size - 1);
    return is_unsigned(e) ? static_cast<int64_t>(bits) : static_cast<int64_t>((bits ^ sign)) - static_cast<int64_t>(sign);
  }

  // ---- Matching

  std::optional<Parameter> parameter(ValueId v) const {
    const Op *op = definition(v);
    Parameter p;
    if (op && op->code == Opcode::kBroadcast) {
      const std::vector<Expr> &dims = type(op->operands[0]).dims;
      for (size_t i = 0; i < dims.size(); ++i)
        if (!(dims[i] == Expr(1)))
          p.axes.push_back(op->axes[i]);
      p.source = op->operands[0];
    } else if (op && op->code == Opcode::kSplat) {
      p.source = v;
    } else {
      p.source = v;
      for (uint32_t i = 0; i < type(v).dims.size(); ++i)
        if (!(type(v).dims[i] == Expr(1)))
          p.axes.push_back(i);
    }
    return std::is_sorted(p.axes.begin(), p.axes.end()) ? std::optional(p) : std::nullopt;
  }

  // The parameter's axes through a view; false where they do not stay axes.
  bool see_through(const Op &view, Parameter &p) const {
    std::vector<uint32_t> axes;
    if (p.axes.empty())
      return true;
    for (uint32_t a : p.axes) {
      if (view.code == Opcode::kTranspose)
        axes.push_back(static_cast<uint32_t>(std::find(view.axes.begin(), view.axes.end(), a) - view.axes.begin()));
      else if (view.code == Opcode::kBroadcast)
        axes.push_back(view.axes[a]);
      else
        return false;
    }
    p.axes = std::move(axes);
    return std::is_sorted(p.axes.begin(), p.axes.end());
  }

  // v as bytes less a zero point (`element` i32), times a scale (f32).
  std::optional<Factor> factor(ValueId v, ElementType element) const {
    Factor f;
    const Op *op = definition(v);
    for (; op && (op->code == Opcode::kTranspose || op->code == Opcode::kReshape || op->code == Opcode::kBroadcast);
         op = definition(v)) {
      f.views.insert(f.views.begin(), op);
      v = op->operands[0];
    }
    if (element == ElementType::kF32) {
      const Op *scaled = map_of(v, {K::kMul});
      if (!scaled)
        return std::nullopt;
      const Op *converted = map_of(scaled->operands[0], {K::kConvert});
      f.scale = parameter(scaled->operands[1]);
      if (!converted || !f.scale || type(converted->operands[0]).element != ElementType::kI32)
        return std::nullopt;
      v = converted->operands[0];
    }
    if (const Op *centred = map_of(v, {K::kSub})) {
      f.zero = parameter(centred->operands[1]);
      if (!f.zero)
        return std::nullopt;
      v = centred->operands[0];
    }
    const Op *widened = map_of(v, {K::kConvert, K::kConvertU});
    if (!widened || type(v).element != ElementType::kI32 || !is_byte(type(widened->operands[0]).element))
      return std::nullopt;
    f.bytes = widened->operands[0];
    for (const Op *view : f.views)
      for (std::optional<Parameter> *p : {&f.zero, &f.scale})
        if (*p && !see_through(*view, **p))
          return std::nullopt;
    return f;
  }

  static bool varies_over(const std::optional<Parameter> &p, const std::vector<uint32_t> &axes) {
    return p && std::any_of(axes.begin(), axes.end(), [&](uint32_t a) {
             return std::find(p->axes.begin(), p->axes.end(), a) != p->axes.end();
           });
  }

  // ---- The new graph

  // A parameter's source with its own axes alone.
  ValueId bare(const Parameter &p) {
    ValueId source = now(p.source);
    if (const Op *op = definition(p.source); op && op->code == Opcode::kSplat)
      return constant_of(p.source) ? b_.splat_int(type(source).element, {}, *constant_of(p.source)) : scalar_splat(*op);
    std::vector<Expr> dims;
    for (const Expr &dim : type(source).dims)
      if (!(dim == Expr(1)))
        dims.push_back(dim);
    return b_.reshape(source, dims);
  }
  ValueId scalar_splat(const Op &splat) {
    Op op = splat;
    op.results = {b_.add_value({type(splat.results[0]).element, {}}, "")};
    out_.graph.ops.push_back(op);
    return op.results[0];
  }

  ValueId replay(const std::vector<const Op *> &views, ValueId v) {
    for (const Op *view : views) {
      const std::vector<Expr> &dims = type(view->results[0]).dims;
      v = view->code == Opcode::kTranspose ? b_.transpose(v, view->axes)
          : view->code == Opcode::kReshape ? b_.reshape(v, dims)
                                           : b_.broadcast(v, view->axes, dims);
    }
    return v;
  }

  // u8 by i8 is what dot products of bytes take; matrix units any. `padded`: the zero point is stored around the bytes unless it is 0.
  ElementType wanted(const Factor &f, ElementType of_dots, bool padded) const {
    if (!matrix_units_)
      return of_dots;
    const ElementType own = type(f.bytes).element;
    const Op *op = definition(f.bytes);
    const auto zero = f.zero ? constant_of(f.zero->source) : 0;
    const bool vanishes = zero == (own == ElementType::kU8 ? 128 : -128), gains = padded || (op && op->code == Opcode::kConstant);
    return !vanishes || !gains ? own : own == ElementType::kU8 ? ElementType::kI8 : ElementType::kU8;
  }
  ValueId in_i32(ValueId product) {
    out_.values[product].type.element = ElementType::kI32;
    return product;
  }

  // The bytes in the wanted signedness: x and x xor 128 differ by 128 as numbers, and so do the zero points.
  Side side(const Factor &f, ElementType wanted) {
    Side s;
    s.zero = f.zero;
    ValueId bytes = now(f.bytes);
    const TensorType own = type(bytes);
    std::optional<int64_t> zero = f.zero ? constant_of(f.zero->source) : 0;
    int64_t shift = own.element == wanted ? 0 : wanted == ElementType::kU8 ? 128 : -128;
    if (shift) {
      const Op *op = definition(f.bytes);
      if (op && op->code == Opcode::kConstant) {
        auto moved = std::make_shared<graph::ConstantData>(*op->constant);
        moved->type = wanted;
        for (uint8_t &byte : moved->bytes)
          byte ^= 0x80;
        bytes = b_.constant({wanted, own.dims}, std::move(moved));
      } else {
        ValueId half = b_.splat_int(own.element, own.dims, own.element == ElementType::kU8 ? 128 : -128);
        bytes = b_.bitcast(wanted, b_.map(K::kXor, {bytes, half}));
      }
    }
    s.bytes = replay(f.views, bytes);
    if (zero && *zero + shift == 0) {
      s.zero.reset();
    } else if (zero) {
      s.zero = Parameter{b_.splat_int(ElementType::kI32, {}, *zero + shift), {}};
    } else {
      s.zero->source = bare(*f.zero);
      if (shift)
        s.zero->source = b_.map(K::kAdd, {s.zero->source, b_.splat_int(ElementType::kI32, std::vector<Expr>(type(s.zero->source).dims), shift)});
    }
    return s;
  }

  // A tensor over some axes of the result, and how to combine two of them: by the fewer elements first.
  struct Part {
    ValueId value;
    std::vector<uint32_t> axes;
  };
  ValueId spread(const Part &p, const std::vector<Expr> &dims) { return b_.broadcast(p.value, p.axes, dims); }
  Part times(const Part &x, const Part &y, const std::vector<Expr> &dims) {
    if (x.axes.empty())
      return {b_.map(K::kMul, {b_.broadcast(x.value, {}, std::vector<Expr>(type(y.value).dims)), y.value}), y.axes};
    if (y.axes.empty() || x.axes == y.axes)
      return {b_.map(K::kMul, {x.value, b_.broadcast(y.value, y.axes.empty() ? y.axes : identity(y.axes.size()), std::vector<Expr>(type(x.value).dims))}), x.axes};
    return {b_.map(K::kMul, {spread(x, dims), spread(y, dims)}), identity(dims.size())};
  }
  static std::vector<uint32_t> identity(size_t n) {
    std::vector<uint32_t> axes(n);
    for (uint32_t i = 0; i < n; ++i)
      axes[i] = i;
    return axes;
  }

  // `raw` less what the zero points add; sums and zero points over axes of the result.
  ValueId corrected(ValueId raw, const std::optional<Part> &left_zero, const std::optional<Part> &right_sum,
                    const std::optional<Part> &right_zero, const std::optional<Part> &left_sum, int64_t depth) {
    const std::vector<Expr> dims = type(raw).dims;
    auto minus = [&](ValueId x, const Part &p) { return b_.map(K::kSub, {x, spread(p, dims)}); };
    if (left_zero)
      raw = minus(raw, times(*left_zero, *right_sum, dims));
    if (right_zero)
      raw = minus(raw, times(*right_zero, *left_sum, dims));
    if (left_zero && right_zero) {
      Part all{b_.splat_int(ElementType::kI32, {}, -depth), {}};
      raw = minus(raw, times(all, times(*left_zero, *right_zero, dims), dims));
    }
    return raw;
  }

  void finish(const Op &op, ValueId sums, const std::optional<Part> &left_scale, const std::optional<Part> &right_scale) {
    if (left_scale) {
      const std::vector<Expr> dims = type(sums).dims;
      Part scale = times(*left_scale, *right_scale, dims);
      sums = b_.map(K::kMul, {b_.convert(ElementType::kF32, sums), spread(scale, dims)});
    }
    out_.values[sums].name = out_.values[op.results[0]].name;
    replaced_[op.results[0]] = sums;
  }

  // An operand without the axes that it only repeats along, where the other one has them.
  void strip(ValueId &v, std::string &labels, const std::string &other) {
    const Op *op = definition(v);
    if (!op || op->code != Opcode::kBroadcast)
      return;
    const std::vector<Expr> &dims = type(op->operands[0]).dims;
    std::string kept;
    std::vector<Expr> long_dims;
    for (size_t i = 0; i < dims.size(); ++i)
      if (!(dims[i] == Expr(1))) {
        kept += labels[op->axes[i]];
        long_dims.push_back(dims[i]);
      }
    for (char label : labels)
      if (kept.find(label) == std::string::npos && other.find(label) == std::string::npos)
        return;
    if (long_dims.size() != dims.size())
      return; // a reshape between would hide what is repeated
    v = op->operands[0];
    labels = kept;
  }

  bool contract(const Op &op) {
    const TensorType &result = type(op.results[0]);
    if ((result.element != ElementType::kI32 && result.element != ElementType::kF32) || result.dims.empty() ||
        (result.element == ElementType::kF32 && !ends_in_bytes(op.results[0])))
      return false;
    // The side that has the result's last axis is the right one.
    ValueId left = op.operands[0], right = op.operands[1];
    std::string left_labels = op.labels[0], right_labels = op.labels[1];
    const std::string &out = op.labels[2];
    if (right_labels.find(out.back()) == std::string::npos || left_labels.find(out.back()) != std::string::npos) {
      std::swap(left, right);
      std::swap(left_labels, right_labels);
    }
    strip(left, left_labels, right_labels);
    strip(right, right_labels, left_labels);
    auto l = factor(left, result.element), r = factor(right, result.element);
    if (!l || !r)
      return false;
    auto summed = [&](const std::string &labels) {
      std::vector<uint32_t> axes;
      for (uint32_t i = 0; i < labels.size(); ++i)
        if (out.find(labels[i]) == std::string::npos)
          axes.push_back(i);
      return axes;
    };
    std::vector<uint32_t> left_k = summed(left_labels), right_k = summed(right_labels);
    int64_t depth = 1;
    for (uint32_t a : left_k) {
      auto extent = type(left).dims[a].constant();
      if (!extent || *extent < 1 || depth * *extent > kDeepest || right_labels.find(left_labels[a]) == std::string::npos)
        return false;
      depth *= *extent;
    }
    if (left_k.empty() || left_k.size() != right_k.size())
      return false;
    for (const std::optional<Parameter> *p : {&l->zero, &l->scale})
      if (varies_over(*p, left_k))
        return false;
    for (const std::optional<Parameter> *p : {&r->zero, &r->scale})
      if (varies_over(*p, right_k))
        return false;
    auto part = [&](const Parameter &p, const std::string &labels, ValueId value) {
      Part q{value, {}};
      for (uint32_t a : p.axes)
        q.axes.push_back(static_cast<uint32_t>(out.find(labels[a])));
      return q;
    };
    for (auto [f, labels] : {std::pair(&*l, &left_labels), std::pair(&*r, &right_labels)})
      for (const std::optional<Parameter> *p : {&f->zero, &f->scale})
        if (*p && !ascending(part(**p, *labels, 0).axes))
          return false;
    auto rest = [&](const std::string &labels) {
      std::vector<uint32_t> axes;
      for (char label : labels)
        if (size_t at = out.find(label); at != std::string::npos)
          axes.push_back(static_cast<uint32_t>(at));
      return axes;
    };
    if (!ascending(rest(left_labels)) || !ascending(rest(right_labels)))
      return false;
    Side x = side(*l, wanted(*l, ElementType::kU8, false)), w = side(*r, wanted(*r, ElementType::kI8, false));
    ValueId raw = in_i32(b_.contract(x.bytes, w.bytes, left_labels, right_labels, out));
    std::optional<Part> x_zero, w_zero, x_sum, w_sum, x_scale, w_scale;
    auto sum = [&](ValueId bytes, const std::vector<uint32_t> &axes, const std::string &labels) {
      return Part{b_.reduce(dispatch::ReduceKind::kAdd, b_.convert(ElementType::kI32, bytes), axes), rest(labels)};
    };
    if (x.zero) {
      x_zero = part(*x.zero, left_labels, x.zero->source);
      w_sum = sum(w.bytes, right_k, right_labels);
    }
    if (w.zero) {
      w_zero = part(*w.zero, right_labels, w.zero->source);
      x_sum = sum(x.bytes, left_k, left_labels);
    }
    if (l->scale) {
      x_scale = part(*l->scale, left_labels, bare(*l->scale));
      w_scale = part(*r->scale, right_labels, bare(*r->scale));
    }
    finish(op, corrected(raw, x_zero, w_sum, w_zero, x_sum, depth), x_scale, w_scale);
    return true;
  }

  static bool ascending(const std::vector<uint32_t> &axes) { return std::is_sorted(axes.begin(), axes.end()); }

  bool conv(const Op &op) {
    const TensorType x_type = type(op.operands[0]), w_type = type(op.operands[1]), result = type(op.results[0]);
    if ((result.element != ElementType::kI32 && result.element != ElementType::kF32) ||
        (result.element == ElementType::kF32 && !ends_in_bytes(op.results[0])))
      return false;
    // What aotc/layout puts into blocks; on others, lanes are pixels and bytes gain nothing.
    constexpr int64_t kBlock = 16, kFew = 4;
    auto channels = x_type.dims[1].constant(), outputs = w_type.dims[0].constant();
    if (op.ints[0] != 1 || op.ints[1] || op.ints[2] || x_type.dims.size() != 4 || !channels || !outputs ||
        *outputs % kBlock || (*channels % kBlock && *channels > kFew))
      return false;
    int64_t depth = *channels;
    for (size_t i = 2; i < 4; ++i) {
      auto taps = w_type.dims[i].constant();
      if (!taps || !x_type.dims[i].is_constant() || !result.dims[i].is_constant() || depth * *taps > kDeepest)
        return false;
      depth *= *taps;
    }
    auto x_factor = factor(op.operands[0], result.element), w_factor = factor(op.operands[1], result.element);
    if (!x_factor || !w_factor || depth < 1)
      return false;
    const Op *weights = definition(w_factor->bytes);
    if (!weights || weights->code != Opcode::kConstant || !w_factor->views.empty())
      return false;
    for (const std::optional<Parameter> *p : {&x_factor->zero, &x_factor->scale})
      if (varies_over(*p, {0, 1, 2, 3}))
        return false;
    for (const std::optional<Parameter> *p : {&w_factor->zero, &w_factor->scale})
      if (varies_over(*p, {1, 2, 3}))
        return false;
    const bool pads = std::any_of(op.exprs.begin(), op.exprs.end(), [](const Expr &e) { return !(e == Expr(0)); });
    Side x = side(*x_factor, wanted(*x_factor, ElementType::kU8, pads)), w = side(*w_factor, wanted(*w_factor, ElementType::kI8, false));
    std::vector<Expr> low(4, Expr(0)), high(4, Expr(0)), none(2, Expr(0));
    for (size_t i = 0; i < 2; ++i) {
      low[2 + i] = op.exprs[i];
      high[2 + i] = op.exprs[2 + i];
    }
    ValueId padded = x.bytes;
    std::vector<Expr> before = none, after = none;
    if (matrix_units_ && !x.zero) {
      before = {op.exprs[0], op.exprs[1]};
      after = {op.exprs[2], op.exprs[3]};
    } else {
      const ElementType element = type(x.bytes).element;
      ValueId fill = x.zero ? b_.convert(element, x.zero->source) : b_.splat_int(element, {}, 0);
      padded = b_.pad(x.bytes, low, high, graph::PadMode::kConstant, fill);
    }
    auto convolve = [&](ValueId weight) { return in_i32(b_.conv(padded, weight, op.strides, op.dilations, before, after, 1)); };
    ValueId raw = convolve(w.bytes);
    std::optional<Part> x_zero, w_zero, x_sum, w_sum, x_scale, w_scale;
    auto of_weights = [&](const Parameter &p, ValueId value) {
      return Part{value, p.axes.empty() ? std::vector<uint32_t>{} : std::vector<uint32_t>{1}};
    };
    if (x.zero) {
      x_zero = Part{x.zero->source, {}};
      w_sum = Part{b_.reduce(dispatch::ReduceKind::kAdd, b_.convert(ElementType::kI32, w.bytes), {1, 2, 3}), {1}};
    }
    if (w.zero) {
      w_zero = of_weights(*w.zero, w.zero->source);
      ValueId windows = convolve(b_.splat_int(ElementType::kI8, {Expr(1), w_type.dims[1], w_type.dims[2], w_type.dims[3]}, 1));
      x_sum = Part{windows, {0, 1, 2, 3}};
    }
    if (x_factor->scale) {
      x_scale = Part{bare(*x_factor->scale), {}};
      w_scale = of_weights(*w_factor->scale, bare(*w_factor->scale));
    }
    finish(op, corrected(raw, x_zero, w_sum, w_zero, x_sum, depth), x_scale, w_scale);
    return true;
  }

  // The greatest of dequantised values is the greatest byte, dequantised, where the scale is one positive number.
  bool max_pool(const Op &op) {
    if (op.pool_mode != graph::PoolMode::kMax || type(op.results[0]).element != ElementType::kF32)
      return false;
    auto f = factor(op.operands[0], ElementType::kF32);
    if (!f || !f->views.empty() || !f->scale->axes.empty() || (f->zero && !f->zero->axes.empty()) || !is_positive(f->scale->source))
      return false;
    const std::vector<Expr> dims = type(op.results[0]).dims;
    Op pool = op;
    pool.operands = {now(f->bytes)};
    pool.results = {b_.add_value({type(f->bytes).element, dims}, "")};
    ValueId v = b_.convert(ElementType::kI32, append(std::move(pool)));
    if (f->zero)
      v = b_.map(K::kSub, {v, b_.broadcast(bare(*f->zero), {}, dims)});
    v = b_.map(K::kMul, {b_.convert(ElementType::kF32, v), b_.broadcast(bare(*f->scale), {}, dims)});
    out_.values[v].name = out_.values[op.results[0]].name;
    replaced_[op.results[0]] = v;
    return true;
  }

  ValueId append(Op op) {
    ValueId v = op.results[0];
    out_.graph.ops.push_back(std::move(op));
    return v;
  }

  bool is_positive(ValueId v) const {
    const Op *op = definition(v);
    if (op && op->code == Opcode::kReshape)
      return is_positive(op->operands[0]);
    if (!op || (op->code != Opcode::kConstant && op->code != Opcode::kSplat) || op->constant->type != ElementType::kF32 ||
        op->constant->bytes.size() != sizeof(float))
      return false;
    float value;
    std::memcpy(&value, op->constant->bytes.data(), sizeof value);
    return value > 0 && std::isfinite(value);
  }

  const graph::Function &in_;
  graph::Function out_;
  graph::GraphBuilder b_;
  bool matrix_units_;
  std::map<ValueId, const Op *> definitions_;
  std::map<ValueId, std::vector<const Op *>> uses_;
  std::set<ValueId> kept_;              // outputs, and what sub-graphs use
  std::map<ValueId, ValueId> replaced_; // results of products, old -> new
};

} // namespace

graph::Function integer_products(const graph::Function &function, bool matrix_units) { return Pass(function, matrix_units).run(); }

} // namespace ingot::aotc::quantise
