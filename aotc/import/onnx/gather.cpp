// Operators that pick or place elements by index, and those whose result size depends on data.
//
// GatherElements and GatherND become a plain gather on a flattened axis with computed indices; Scatter* and NonZero are
// serial kernels (dispatch::LoopBody), the same on every target.
#include <algorithm>

#include "aotc/import/onnx/math.h"
#include "aotc/import/onnx/serial.h"

namespace ingot::aotc::importer {

namespace {

using kernel::Access;
using kernel::Values;

constexpr int64_t kErrorIndex = 1; // INGOT_KERNEL_ERROR_INDEX of schemas/cpu_abi.h
constexpr ElementType kI64 = ElementType::kI64;

void need_indices(Node &n, size_t i) {
  if (n.element(i) != ElementType::kI32 && n.element(i) != kI64)
    n.fail("indices must be int32 or int64, got " + to_string(n.type(i)));
}

// before: y = Gather(shape, 0); after: the host expression itself
void import_gather(Node &n) {
  n.need_inputs(2, 2);
  need_indices(n, 1);
  if (n.rank(0) == 0)
    n.fail("takes no scalar");
  const size_t axis = static_cast<size_t>(n.axis(n.int_attr("axis", 0), n.rank(0)));
  const Dims from = n.dims(0);
  Dims to(from.begin(), from.begin() + static_cast<long>(axis));
  to.insert(to.end(), n.dims(1).begin(), n.dims(1).end());
  to.insert(to.end(), from.begin() + static_cast<long>(axis) + 1, from.end());
  n.check_dims(to);
  const auto indices = n.constant_ints(1);
  const auto extent = from[axis].constant();
  if (indices && extent)
    for (int64_t index : *indices)
      if (index < -*extent || index >= *extent)
        n.fail("index " + std::to_string(index) + " is out of range for axis " + std::to_string(axis) + " of " + to_string(n.type(0)));
  const auto count = product(to).constant();
  if (const std::vector<Expr> *host = n.host(0); host && indices && count && *count <= kMaxHostElements) {
    const size_t inner = static_cast<size_t>(*product(Dims(from.begin() + static_cast<long>(axis) + 1, from.end())).constant());
    const size_t outer = static_cast<size_t>(*product(Dims(from.begin(), from.begin() + static_cast<long>(axis))).constant());
    std::vector<Expr> out;
    for (size_t o = 0; o < outer; ++o)
      for (int64_t index : *indices)
        for (size_t i = 0; i < inner; ++i)
          out.push_back((*host)[(o * static_cast<size_t>(*extent) + static_cast<size_t>(index < 0 ? index + *extent : index)) * inner + i]);
    n.set_host(0, n.element(0), to, std::move(out));
    return;
  }
  // One constant index is a slice.
  if (indices && indices->size() == 1 && (extent || (*indices)[0] >= 0)) {
    Dims one = from;
    one[axis] = 1;
    std::vector<Expr> starts(from.size(), Expr(0));
    starts[axis] = (*indices)[0] < 0 ? Expr((*indices)[0] + *extent) : Expr((*indices)[0]);
    if (!extent && !proves_lt(starts[axis], from[axis]))
      n.b.check(less(starts[axis], from[axis]), "node '" + n.name + "' (" + n.source + "): index " +
                                                    std::to_string((*indices)[0]) + " is out of range for axis " +
                                                    std::to_string(axis) + " of " + to_string(n.type(0)));
    n.set(0, n.reshape(n.b.slice(n.in(0), starts, std::vector<int64_t>(from.size(), 1), one), to));
    return;
  }
  n.set(0, n.b.gather(n.in(0), n.in(1), static_cast<uint32_t>(axis)));
}

// index + (index < 0 ? extent : 0), and whether it lies in [0, extent).
struct Checked {
  ValueId index, valid;
};

Checked check_index(Node &n, ValueId index, const Expr &extent) {
  const Dims dims = n.dims_of(index);
  index = n.b.convert(kI64, index);
  const ValueId zero = n.b.splat_int(kI64, dims, 0), size = n.scalar_of(kI64, extent, dims);
  const ValueId wrapped = n.b.map(K::kSelect, {n.b.map(K::kLt, {index, zero}), n.b.map(K::kAdd, {index, size}), index});
  return {wrapped, n.b.map(K::kAnd, {n.b.map(K::kGe, {wrapped, zero}), n.b.map(K::kLt, {wrapped, size})})};
}

// Row-major offsets into `from` of the points whose axis `axis` is `index` and whose other coordinates are those of the
// point itself; -1 - (elements) where the index is out of range, so that whoever uses it fails.
ValueId element_offsets(Node &n, ValueId index, uint32_t axis, const Dims &from) {
  const Dims dims = n.dims_of(index);
  const Checked checked = check_index(n, index, from[axis]);
  ValueId offset = kNoValue;
  Expr stride = 1;
  for (uint32_t i = static_cast<uint32_t>(from.size()); i-- > 0;) {
    const ValueId part = i == axis ? n.b.map(K::kMul, {checked.index, n.scalar_of(kI64, stride, dims)})
                                   : n.b.iota(kI64, dims, i, 0, stride);
    offset = offset == kNoValue ? part : n.b.map(K::kAdd, {offset, part});
    stride = stride * from[i];
  }
  const ValueId bad = n.scalar_of(kI64, Expr(0) - stride - 1, dims);
  return n.b.map(K::kSelect, {checked.valid, offset, bad});
}

void need_elementwise_indices(Node &n, uint32_t axis) {
  if (n.rank(0) != n.rank(1))
    n.fail("data and indices differ in rank: " + to_string(n.type(0)) + " and " + to_string(n.type(1)));
  for (size_t i = 0; i < n.dims(0).size(); ++i) {
    const auto a = n.dims(0)[i].constant(), b = n.dims(1)[i].constant();
    if (i != axis && a && b && *b > *a)
      n.fail("indices " + to_string(n.type(1)) + " are larger than data " + to_string(n.type(0)));
    if (i != axis && !(a && b) && !proves_le(n.dims(1)[i], n.dims(0)[i]))
      n.b.check(less_equal(n.dims(1)[i], n.dims(0)[i]), "node '" + n.name + "' (" + n.source + "): indices " +
                                                           to_string(n.type(1)) + " are larger than data " + to_string(n.type(0)));
  }
}

void import_gather_elements(Node &n) {
  n.need_inputs(2, 2);
  need_indices(n, 1);
  if (n.rank(0) == 0)
    n.fail("takes no scalar");
  const uint32_t axis = static_cast<uint32_t>(n.axis(n.int_attr("axis", 0), n.rank(0)));
  need_elementwise_indices(n, axis);
  const ValueId offsets = element_offsets(n, n.in(1), axis, n.dims(0));
  n.set(0, n.b.gather(n.reshape(n.in(0), {n.type(0).elements()}), offsets, 0));
}

// Offsets, in rows of `inner` elements, of tuples indices[..., k] into the leading k axes (after `batch` shared ones).
ValueId tuple_offsets(Node &n, size_t input, size_t batch, size_t k, const Dims &from) {
  const Dims dims = n.dims(input);
  const Dims points(dims.begin(), dims.end() - 1);
  ValueId offset = kNoValue, valid = kNoValue;
  Expr stride = 1;
  for (size_t i = batch + k; i-- > 0;) {
    ValueId part;
    if (i < batch) {
      part = n.b.iota(kI64, points, static_cast<uint32_t>(i), 0, stride);
    } else {
      std::vector<Expr> starts(dims.size(), Expr(0));
      starts.back() = static_cast<int64_t>(i - batch);
      Dims one = dims;
      one.back() = 1;
      const ValueId index = n.reshape(n.b.slice(n.in(input), starts, std::vector<int64_t>(dims.size(), 1), one), points);
      const Checked checked = check_index(n, index, from[i]);
      valid = valid == kNoValue ? checked.valid : n.b.map(K::kAnd, {valid, checked.valid});
      part = n.b.map(K::kMul, {checked.index, n.scalar_of(kI64, stride, points)});
    }
    offset = offset == kNoValue ? part : n.b.map(K::kAdd, {offset, part});
    stride = stride * from[i];
  }
  return n.b.map(K::kSelect, {valid, offset, n.scalar_of(kI64, Expr(0) - stride - 1, points)});
}

size_t tuple_length(Node &n, size_t batch) {
  if (n.rank(0) == 0 || n.rank(1) == 0)
    n.fail("takes no scalars");
  const auto k = n.dims(1).back().constant();
  if (!k || *k < 1 || *k + static_cast<int64_t>(batch) > n.rank(0))
    n.fail("the last dim of indices " + to_string(n.type(1)) + " does not fit data " + to_string(n.type(0)));
  return static_cast<size_t>(*k);
}

void import_gather_nd(Node &n) {
  n.need_inputs(2, 2);
  if (n.element(1) != kI64)
    n.fail("indices must be int64, got " + to_string(n.type(1)));
  const int64_t batch_dims = n.opset < 12 ? 0 : n.int_attr("batch_dims", 0);
  if (batch_dims < 0 || batch_dims >= std::min(n.rank(0), n.rank(1)))
    n.fail("attribute 'batch_dims' is " + std::to_string(batch_dims));
  const size_t batch = static_cast<size_t>(batch_dims), k = tuple_length(n, batch);
  const Dims from = n.dims(0);
  for (size_t i = 0; i < batch; ++i)
    n.require_equal(from[i], n.dims(1)[i], "batch dim " + std::to_string(i));
  const long rows = static_cast<long>(batch + k);
  Dims view = {product(Dims(from.begin(), from.begin() + rows))};
  view.insert(view.end(), from.begin() + rows, from.end());
  n.set(0, n.b.gather(n.reshape(n.in(0), view), tuple_offsets(n, 1, batch, k, from), 0));
}

// --- serial kernels ---

// before: y = NonZero(x[a,b]) : [2,?]; after: compute (indices [2,a*b], count), read the count, slice
void import_non_zero(Node &n) {
  n.need_inputs(1, 1);
  const Dims dims = n.dims(0);
  if (dims.empty())
    n.fail("a scalar is not supported", "reshape it to [1]");
  const Expr total = product(dims), rank = static_cast<int64_t>(dims.size());
  Serial s(n, "non_zero");
  kernel::Builder &k = s.builder;
  const uint32_t mask = s.operand("mask", ElementType::kBool, total, Access::kRead);
  const uint32_t indices = s.operand("indices", kI64, total * rank, Access::kWrite);
  const uint32_t count = s.operand("count", kI64, 1, Access::kWrite);
  const kernel::ValueId n_total = s.param("total", total);
  Values extents;
  for (size_t i = 1; i < dims.size(); ++i)
    extents.push_back(s.param(("extent" + std::to_string(i)).c_str(), dims[i]));
  const kernel::ValueId zero = k.index(0), one = k.index(1);
  const Values found = k.for_loop(zero, n_total, one, {zero}, [&](kernel::ValueId i, const Values &carried) {
    const kernel::ValueId hit = k.load(mask, i);
    kernel::ValueId rest = i;
    for (size_t axis = dims.size(); axis-- > 0;) {
      kernel::ValueId coordinate = rest;
      if (axis > 0) {
        coordinate = k.rem(rest, extents[axis - 1]);
        rest = k.div(rest, extents[axis - 1]);
      }
      const kernel::ValueId at = k.add(k.mul(k.index(static_cast<int64_t>(axis)), n_total), carried[0]);
      k.store_if(indices, hit, at, k.convert(Scalar::kI64, coordinate));
    }
    return Values{k.select(hit, k.add(carried[0], one), carried[0])};
  });
  k.store(count, zero, k.convert(Scalar::kI64, found[0]));
  const ValueId x = n.b.convert(ElementType::kBool, n.lift(n.in(0)));
  const auto results = n.b.compute(s.finish(), {x}, {{kI64, {rank, total}}, {kI64, {}}});
  const int64_t most = std::min<int64_t>(total.upper(), 0x7fffffff);
  const Symbol symbol = n.b.read_scalar(results[1], n.importer().unique_symbol(n.name + "_count"), 0, most);
  n.b.check(less_equal(Expr(symbol), total), "node '" + n.name + "': more non-zero elements than elements");
  n.set(0, n.b.slice(results[0], {Expr(0), Expr(0)}, {1, 1}, {rank, Expr(symbol)}));
}

// How a scattered element meets the one that is there. max and min came with opset 18; ONNX Runtime takes them from 16 on.
std::string reduction(Node &n) {
  const std::string r = n.opset < 16 ? "none" : n.string_attr("reduction", "none");
  if (r != "none" && r != "add" && r != "mul" && r != "max" && r != "min")
    n.fail("attribute 'reduction' is '" + r + "', which is none of none, add, mul, max and min");
  return r;
}

// before: y = ScatterX(data, indices, updates); after: copy data, then one row of `inner` elements per offset, in order
void scatter(Node &n, ValueId offsets, const Expr &inner, const std::string &reduction) {
  ElementType element = n.element(0);
  const Dims from = n.dims(0);
  const Expr total = n.type(0).elements(), count = n.b.type(offsets).elements();
  ValueId data = n.in(0), updates = n.in(2);
  // Arithmetic on 16-bit floats is f32's.
  const bool arithmetic = reduction != "none";
  if (arithmetic) {
    data = n.lift(data);
    updates = n.lift(updates);
  }
  if (element == ElementType::kBool && arithmetic)
    n.fail("reduction '" + reduction + "' takes no bool");
  const ElementType work = n.b.type(data).element;
  const bool is_u = is_unsigned(work);
  Serial s(n, "scatter");
  kernel::Builder &k = s.builder;
  const uint32_t source = s.operand("data", work, total, Access::kRead);
  const uint32_t where = s.operand("offsets", kI64, count, Access::kRead);
  const uint32_t what = s.operand("updates", work, count * inner, Access::kRead);
  const uint32_t result = s.operand("result", work, total, Access::kReadWrite);
  const kernel::ValueId n_total = s.param("total", total), n_count = s.param("count", count), n_inner = s.param("inner", inner);
  const int64_t site = n.b.add_site("node '" + n.name + "' (" + n.source + "): index out of range");
  const kernel::ValueId zero = k.index(0), one = k.index(1);
  k.for_loop(zero, n_total, one, {}, [&](kernel::ValueId i, const Values &) {
    k.store(result, i, k.load(source, i));
    return Values{};
  });
  k.for_loop(zero, n_count, one, {}, [&](kernel::ValueId i, const Values &) {
    const kernel::ValueId row = k.load(where, i);
    const kernel::ValueId bad = k.lt(row, k.constant(Scalar::kI64, 0));
    k.error_if(bad, kErrorIndex, site);
    const kernel::ValueId first = k.mul(k.convert(Scalar::kIndex, k.select(bad, k.constant(Scalar::kI64, 0), row)), n_inner);
    const kernel::ValueId good = k.unary(K::kNot, bad);
    k.for_loop(zero, n_inner, one, {}, [&](kernel::ValueId j, const Values &) {
      const kernel::ValueId at = k.add(first, j);
      kernel::ValueId value = k.load(what, k.add(k.mul(i, n_inner), j));
      if (arithmetic) {
        const kernel::ValueId old = k.load_if(result, good, at, value);
        if (reduction == "add")
          value = k.add(old, value);
        else if (reduction == "mul")
          value = k.mul(old, value);
        else if (reduction == "max")
          value = k.binary(is_u ? K::kMaxU : K::kMax, old, value);
        else
          value = k.binary(is_u ? K::kMinU : K::kMin, old, value);
      }
      k.store_if(result, good, at, value);
      return Values{};
    });
    return Values{};
  });
  const auto results = n.b.compute(s.finish(), {data, offsets, updates}, {{work, from}});
  n.set(0, n.lower(element, results[0]));
}

void import_scatter_elements(Node &n) {
  n.need_inputs(3, 3);
  need_indices(n, 1);
  n.need_same_element(0, 2);
  if (n.rank(0) == 0)
    n.fail("takes no scalar");
  const uint32_t axis = static_cast<uint32_t>(n.axis(n.int_attr("axis", 0), n.rank(0)));
  need_elementwise_indices(n, axis);
  if (n.rank(2) != n.rank(1))
    n.fail("indices and updates differ in rank: " + to_string(n.type(1)) + " and " + to_string(n.type(2)));
  for (size_t i = 0; i < n.dims(1).size(); ++i)
    n.require_equal(n.dims(1)[i], n.dims(2)[i], "indices " + to_string(n.type(1)) + " and updates " + to_string(n.type(2)));
  scatter(n, element_offsets(n, n.in(1), axis, n.dims(0)), 1, reduction(n));
}

void import_scatter_nd(Node &n) {
  n.need_inputs(3, 3);
  n.need_same_element(0, 2);
  if (n.element(1) != kI64)
    n.fail("indices must be int64, got " + to_string(n.type(1)));
  const size_t k = tuple_length(n, 0);
  const Dims from = n.dims(0);
  Dims expected(n.dims(1).begin(), n.dims(1).end() - 1);
  expected.insert(expected.end(), from.begin() + static_cast<long>(k), from.end());
  if (expected.size() != n.dims(2).size())
    n.fail("updates " + to_string(n.type(2)) + " do not fit: expected " + to_string(TensorType{n.element(0), expected}));
  for (size_t i = 0; i < expected.size(); ++i)
    n.require_equal(expected[i], n.dims(2)[i], "updates " + to_string(n.type(2)) + " and " + to_string(TensorType{n.element(0), expected}));
  const Expr inner = product(Dims(from.begin() + static_cast<long>(k), from.end()));
  scatter(n, tuple_offsets(n, 1, 0, k, from), inner, reduction(n));
}

// before: y = OneHot(i, depth, [off, on]); after: select(i == iota, on, off)
void import_one_hot(Node &n) {
  n.need_inputs(3, 3);
  if (n.element(0) == ElementType::kBool)
    n.fail("indices must be numbers, got " + to_string(n.type(0)));
  Expr depth;
  if (const auto known = n.constant_floats(1); known && known->size() == 1)
    depth = static_cast<int64_t>(std::clamp((*known)[0], -1.0, 2147483647.0));
  else if (is_float(n.element(1)))
    depth = n.b.read_scalar(n.b.convert(kI64, n.as_scalar(n.in(1))), n.importer().unique_symbol(n.name + "_depth"), 1, kMaxDim);
  else
    depth = n.host_scalar(1, 1, kMaxDim);
  if (depth.constant() && *depth.constant() < 1)
    n.fail("depth is " + depth.to_string());
  if (!(n.type(2).elements() == Expr(2)) || n.rank(2) != 1)
    n.fail("values must be [off, on], got " + to_string(n.type(2)));
  const uint32_t axis = static_cast<uint32_t>(n.axis(n.int_attr("axis", -1), n.rank(0) + 1));
  Dims dims = n.dims(0);
  dims.insert(dims.begin() + axis, depth);
  n.check_dims(dims);
  const Dims plain = n.dims(0);
  ValueId index = n.b.convert(kI64, n.lift(n.in(0)));
  const ValueId negative = n.b.map(K::kLt, {index, n.b.splat_int(kI64, plain, 0)});
  index = n.b.map(K::kSelect, {negative, n.b.map(K::kAdd, {index, n.scalar_of(kI64, depth, plain)}), index});
  const ValueId hit = n.b.map(K::kEq, {n.spread(index, {axis}, dims), n.b.iota(kI64, dims, axis)});
  const auto value = [&](int64_t i) {
    return n.broadcast_to(n.reshape(n.b.slice(n.in(2), {Expr(i)}, {1}, {Expr(1)}), {}), dims);
  };
  n.set(0, n.b.map(K::kSelect, {hit, value(1), value(0)}));
}

} // namespace

std::vector<OperatorRow> gather_operators() {
  return {
      {"", "Gather", 6, kMaxOpset, import_gather},
      {"", "GatherElements", 11, kMaxOpset, import_gather_elements},
      {"", "GatherND", 11, kMaxOpset, import_gather_nd},
      {"", "NonZero", 9, kMaxOpset, import_non_zero},
      {"", "OneHot", 9, kMaxOpset, import_one_hot},
      {"", "Scatter", 9, 10, import_scatter_elements},
      {"", "ScatterElements", 11, kMaxOpset, import_scatter_elements},
      {"", "ScatterND", 11, kMaxOpset, import_scatter_nd},
  };
}

} // namespace ingot::aotc::importer
