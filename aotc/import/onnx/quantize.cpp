// Quantised arithmetic: (de)quantisation and integer products, in i32 and f32.
#include <algorithm>

#include "aotc/import/onnx/math.h"
#include "aotc/import/onnx/narrow.h"
#include "aotc/import/onnx/window.h"

namespace ingot::aotc::importer {

namespace {

constexpr ElementType kI32 = ElementType::kI32, kF32 = ElementType::kF32;

bool one_element(Node &n, size_t i) { return n.type(i).elements() == Expr(1); }

// A scale or zero point broadcast to x: one for all, one per index of `axis`, or one per block along it.
ValueId parameter(Node &n, size_t i, ElementType element, int64_t axis_attribute, int64_t block, const Dims &dims) {
  const ValueId stored = n.narrow(i) ? widen_narrow(n, n.in(i), n.narrow(i)) : n.in(i);
  const ValueId p = n.b.convert(element, stored);
  if (one_element(n, i))
    return n.broadcast_to(n.reshape(p, {}), dims);
  const uint32_t axis = static_cast<uint32_t>(n.axis(axis_attribute, static_cast<int64_t>(dims.size())));
  if (block == 0) {
    if (n.rank(i) != 1)
      n.fail("input " + std::to_string(i) + " is " + to_string(n.type(i)) + ", expected one element or one per index of axis " + std::to_string(axis));
    n.require_equal(n.dims(i)[0], dims[axis], "input " + std::to_string(i) + " " + to_string(n.type(i)) + " and axis " + std::to_string(axis));
    return n.b.broadcast(p, {axis}, dims);
  }
  // Blocked: repeat each entry `block` times along the axis, then cut to size.
  const Dims from = n.dims(i);
  if (from.size() != dims.size() || from.size() > 7)
    n.fail("input " + std::to_string(i) + " is " + to_string(n.type(i)) + ", expected the rank of the input");
  Dims wide = from;
  wide.insert(wide.begin() + axis + 1, Expr(block));
  std::vector<uint32_t> kept;
  for (uint32_t d = 0; d < wide.size(); ++d)
    if (d != axis + 1)
      kept.push_back(d);
  Dims merged = from;
  merged[axis] = from[axis] * Expr(block);
  for (size_t d = 0; d < dims.size(); ++d)
    if (d != axis)
      n.require_equal(from[d], dims[d], "input " + std::to_string(i) + " " + to_string(n.type(i)) + " and axis " + std::to_string(d));
  if (merged[axis].constant() && dims[axis].constant() && *merged[axis].constant() < *dims[axis].constant())
    n.fail("input " + std::to_string(i) + " " + to_string(n.type(i)) + " has too few blocks of " + std::to_string(block));
  const ValueId repeated = n.reshape(n.b.broadcast(p, kept, wide), merged);
  return n.b.slice(repeated, std::vector<Expr>(dims.size(), Expr(0)), std::vector<int64_t>(dims.size(), 1), dims);
}

int64_t block_size(Node &n) {
  const int64_t block = n.opset < 21 ? 0 : n.int_attr("block_size", 0);
  if (block < 0 || block > 0x7fffffff)
    n.fail("attribute 'block_size' is " + std::to_string(block));
  return block;
}

struct Bounds {
  double low, high;
};

Bounds bounds(Node &n, ElementType e) {
  switch (e) {
    case ElementType::kI8: return {-128, 127};
    case ElementType::kU8: return {0, 255};
    case ElementType::kI16: return {-32768, 32767};
    case ElementType::kU16: return {0, 65535};
    default: n.fail("quantised type " + std::string(ingot::aotc::name(e)) + " is not supported");
  }
}

// x / scale in a narrow type: integers as below with their own bounds, floats rounded by their format (zero must be 0).
ValueId quantize_narrow(Node &n, ValueId x, ValueId scale, ValueId zero, int32_t to) {
  ValueId y = n.b.map(K::kDiv, {x, scale});
  if (!narrow_is_float(to)) {
    y = n.b.map(K::kRint, {y});
    if (zero != kNoValue)
      y = n.b.map(K::kAdd, {y, zero});
    const NarrowRange range = narrow_range(to);
    y = n.b.map(K::kMax, {n.b.map(K::kMin, {y, n.constant(y, static_cast<double>(range.high))}), n.constant(y, static_cast<double>(range.low))});
    return n.b.convert(*narrow_storage(to), y);
  }
  if (zero != kNoValue)
    y = n.b.map(K::kAdd, {y, zero});
  return store_narrow(n, y, to, n.int_attr("saturate", 1) != 0, "up");
}

// saturate(rint(x / scale) + zero)
ValueId quantize(Node &n, ValueId x, ValueId scale, ValueId zero, ElementType to) {
  const Bounds range = bounds(n, to);
  ValueId y = n.b.map(K::kRint, {n.b.map(K::kDiv, {x, scale})});
  if (zero != kNoValue)
    y = n.b.map(K::kAdd, {y, zero});
  y = n.b.map(K::kMax, {n.b.map(K::kMin, {y, n.constant(y, range.high)}), n.constant(y, range.low)});
  return n.b.convert(to, y);
}

void import_quantize_linear(Node &n) {
  n.need_inputs(2, 3);
  ElementType to = ElementType::kU8;
  int32_t narrow = 0;
  if (n.has(2)) {
    to = n.element(2);
    narrow = n.narrow(2);
  } else if (narrow_storage(static_cast<int32_t>(n.int_attr("output_dtype", 0)))) {
    narrow = static_cast<int32_t>(n.int_attr("output_dtype", 0));
  } else if (const int64_t code = n.int_attr("output_dtype", 0); code != 0) {
    const auto type = element_type(static_cast<int32_t>(code));
    if (!type)
      n.fail("output type " + onnx_type_name(static_cast<int32_t>(code)) + " is not supported");
    to = *type;
  }
  const Dims dims = n.dims(0);
  const int64_t axis = n.int_attr("axis", 1), block = block_size(n);
  const ValueId x = n.b.convert(kF32, n.in(0)), scale = parameter(n, 1, kF32, axis, block, dims);
  const ValueId zero = n.has(2) ? parameter(n, 2, kF32, axis, block, dims) : kNoValue;
  if (narrow)
    n.set_narrow(0, quantize_narrow(n, x, scale, zero, narrow), narrow);
  else
    n.set(0, quantize(n, x, scale, zero, to));
}

void import_dequantize_linear(Node &n) {
  n.need_inputs(2, 3);
  const Dims dims = n.dims(0);
  const int64_t axis = n.int_attr("axis", 1), block = block_size(n);
  if (n.has(2) && n.narrow(0) != n.narrow(2))
    n.fail("the input is of type " + (n.narrow(0) ? onnx_type_name(n.narrow(0)) : to_string(n.type(0))) + ", the zero point of another");
  if (n.narrow(0) && narrow_is_float(n.narrow(0))) {
    ValueId x = widen_narrow(n, n.in(0), n.narrow(0));
    if (n.has(2))
      x = n.b.map(K::kSub, {x, parameter(n, 2, kF32, axis, block, dims)});
    n.set(0, n.b.convert(n.element(1), n.b.map(K::kMul, {x, parameter(n, 1, kF32, axis, block, dims)})));
    return;
  }
  ValueId x = n.b.convert(kI32, n.in(0));
  if (n.has(2)) {
    n.need_same_element(0, 2);
    x = n.b.map(K::kSub, {x, parameter(n, 2, kI32, axis, block, dims)});
  }
  const ValueId y = n.b.map(K::kMul, {n.b.convert(kF32, x), parameter(n, 1, kF32, axis, block, dims)});
  n.set(0, n.b.convert(n.element(1), y));
}

// scale = (max(x, 0) - min(x, 0)) / 255, zero = saturate(rint(-min / scale))
void import_dynamic_quantize_linear(Node &n) {
  n.need_inputs(1, 1);
  if (n.element(0) != kF32)
    n.fail("takes float32, got " + to_string(n.type(0)));
  const Dims dims = n.dims(0);
  std::vector<uint32_t> axes;
  for (uint32_t i = 0; i < dims.size(); ++i)
    axes.push_back(i);
  const ValueId x = n.in(0), none = n.b.splat_float(kF32, {}, 0);
  const ValueId high = n.b.map(K::kMax, {n.b.reduce(dispatch::ReduceKind::kMax, x, axes), none});
  const ValueId low = n.b.map(K::kMin, {n.b.reduce(dispatch::ReduceKind::kMin, x, axes), none});
  const ValueId scale = n.b.map(K::kDiv, {n.b.map(K::kSub, {high, low}), n.b.splat_float(kF32, {}, 255)});
  ValueId zero = n.b.map(K::kRint, {n.b.map(K::kDiv, {n.b.map(K::kNeg, {low}), scale})});
  zero = n.b.map(K::kMax, {n.b.map(K::kMin, {zero, n.b.splat_float(kF32, {}, 255)}), none});
  n.set(0, quantize(n, x, n.broadcast_to(scale, dims), n.broadcast_to(zero, dims), ElementType::kU8));
  n.set(1, scale);
  n.set(2, n.b.convert(ElementType::kU8, zero));
}

// x - zero in i32; the zero point is one element, or one per index of `axis`.
ValueId centred(Node &n, size_t x, size_t zero, int64_t axis) {
  if (n.element(x) != ElementType::kI8 && n.element(x) != ElementType::kU8)
    n.fail("input " + std::to_string(x) + " is " + to_string(n.type(x)) + ", expected int8 or uint8");
  const ValueId wide = n.b.convert(kI32, n.in(x));
  if (!n.has(zero))
    return wide;
  n.need_same_element(x, zero);
  const Dims dims = n.dims(x);
  if (one_element(n, zero) || n.rank(zero) == 1)
    return n.b.map(K::kSub, {wide, parameter(n, zero, kI32, axis, 0, dims)});
  n.need_broadcasts_to(zero, dims);
  return n.b.map(K::kSub, {wide, n.broadcast_to(n.b.convert(kI32, n.in(zero)), dims)});
}

// Matrix product of rank >= 2 operands, batch dims broadcast (numpy rules).
ValueId product_of(Node &n, ValueId a, ValueId b) {
  const Dims da = n.dims_of(a), db = n.dims_of(b);
  if (da.size() < 2 || db.size() < 2)
    n.fail("takes matrices, got " + to_string(n.b.type(a)) + " and " + to_string(n.b.type(b)));
  n.require_equal(da.back(), db[db.size() - 2], to_string(n.b.type(a)) + " times " + to_string(n.b.type(b)) + ": inner dims");
  const Dims batch = n.broadcast_dims(Dims(da.begin(), da.end() - 2), Dims(db.begin(), db.end() - 2));
  const auto widen = [&](ValueId v, const Dims &d) {
    Dims full = batch;
    full.insert(full.end(), d.end() - 2, d.end());
    return n.broadcast_to(v, full);
  };
  std::string labels;
  for (size_t i = 0; i < batch.size(); ++i)
    labels += static_cast<char>('a' + i);
  return n.b.contract(widen(a, da), widen(b, db), labels + "mk", labels + "kn", labels + "mn");
}

void import_matmul_integer(Node &n) {
  n.need_inputs(2, 4);
  const ValueId a = centred(n, 0, 2, n.rank(0) - 2), b = centred(n, 1, 3, n.rank(1) - 1);
  n.set(0, product_of(n, a, b));
}

void import_qlinear_matmul(Node &n) {
  n.need_inputs(8, 8);
  for (size_t i : {1, 2, 4, 5, 6, 7})
    if (!one_element(n, i))
      n.fail("input " + std::to_string(i) + " is " + to_string(n.type(i)) + "; only one element is supported");
  const ValueId y = n.b.convert(kF32, product_of(n, centred(n, 0, 2, 0), centred(n, 3, 5, 0)));
  const auto scalar = [&](size_t i) { return n.broadcast_to(n.reshape(n.b.convert(kF32, n.in(i)), {}), Dims(n.dims_of(y))); };
  const ValueId scaled = n.b.map(K::kMul, {y, n.b.map(K::kMul, {scalar(1), scalar(4)})});
  n.set(0, quantize(n, scaled, scalar(6), scalar(7), n.element(7)));
}

ValueId integer_conv(Node &n, ValueId x, ValueId w, size_t w_input) {
  const size_t rank = n.dims(0).size();
  if (rank < 3 || n.dims(w_input).size() != rank)
    n.fail("takes [n,c,spatial...] and a weight of the same rank, got " + to_string(n.type(0)) + " and " + to_string(n.type(w_input)));
  const int64_t group = n.int_attr("group", 1);
  if (group < 1)
    n.fail("attribute 'group' is " + std::to_string(group));
  n.require_equal(n.dims(0)[1], n.dims(w_input)[1] * Expr(group), "channels of " + to_string(n.type(0)) + " and weight " + to_string(n.type(w_input)));
  const Window window = read_window(n, std::vector<Expr>(n.dims(w_input).begin() + 2, n.dims(w_input).end()));
  return n.b.conv(x, w, window.strides, window.dilations, window.low, window.high, group);
}

void import_conv_integer(Node &n) {
  n.need_inputs(2, 4);
  n.set(0, integer_conv(n, centred(n, 0, 2, 0), centred(n, 1, 3, 0), 1));
}

// Inputs: x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias (i32, of scale x_scale * w_scale)
void import_qlinear_conv(Node &n) {
  n.need_inputs(8, 9);
  for (size_t i : {1, 2, 6, 7})
    if (!one_element(n, i))
      n.fail("input " + std::to_string(i) + " is " + to_string(n.type(i)) + ", expected one element");
  ValueId y = integer_conv(n, centred(n, 0, 2, 0), centred(n, 3, 5, 0), 3);
  const Dims dims = n.dims_of(y);
  if (n.has(8)) {
    n.require_equal(n.type(8).elements(), dims[1], "bias " + to_string(n.type(8)) + " and output channels");
    y = n.b.map(K::kAdd, {y, n.b.broadcast(n.reshape(n.b.convert(kI32, n.in(8)), {dims[1]}), {1}, dims)});
  }
  const auto p = [&](size_t i) { return parameter(n, i, kF32, 1, 0, dims); };
  const ValueId scaled = n.b.map(K::kMul, {n.b.convert(kF32, y), n.b.map(K::kMul, {p(1), p(4)})});
  n.set(0, quantize(n, scaled, p(6), p(7), n.element(7)));
}

} // namespace

std::vector<OperatorRow> quantize_operators() {
  return {
      {"", "ConvInteger", 10, kMaxOpset, import_conv_integer},
      {"", "DequantizeLinear", 10, kMaxOpset, import_dequantize_linear},
      {"", "DynamicQuantizeLinear", 11, kMaxOpset, import_dynamic_quantize_linear},
      {"", "MatMulInteger", 10, kMaxOpset, import_matmul_integer},
      {"", "QLinearConv", 10, kMaxOpset, import_qlinear_conv},
      {"", "QLinearMatMul", 10, kMaxOpset, import_qlinear_matmul},
      {"", "QuantizeLinear", 10, kMaxOpset, import_quantize_linear},
  };
}

} // namespace ingot::aotc::importer
