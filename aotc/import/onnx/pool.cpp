// Pooling, windowed and global.
#include "aotc/graph/check.h"
#include "aotc/import/onnx/math.h"
#include "aotc/import/onnx/serial.h"
#include "aotc/import/onnx/window.h"

namespace ingot::aotc::importer {

namespace {

// MaxPool with the flat position of each maximum in x: row-major, or with the first spatial axis innermost
// (storage_order 1). One serial kernel computes both outputs; the first of equals wins.
void max_pool_indices(Node &n, const std::vector<int64_t> &kernel, const Window &w, const std::vector<Expr> &spatial) {
  using kernel::Values;
  const Dims dims = n.dims(0);
  const size_t rank = spatial.size();
  const bool column_major = n.int_attr("storage_order", 0) != 0;
  const ElementType e = n.element(0);
  const ValueId x = n.lift(n.in(0));
  const ElementType work = n.b.type(x).element;
  Dims out = {dims[0], dims[1]};
  out.insert(out.end(), spatial.begin(), spatial.end());
  Serial s(n, "max_pool_indices");
  kernel::Builder &k = s.builder;
  const uint32_t source = s.operand("x", work, product(dims), kernel::Access::kRead);
  const uint32_t best = s.operand("y", work, product(out), kernel::Access::kWrite);
  const uint32_t where = s.operand("indices", ElementType::kI64, product(out), kernel::Access::kWrite);
  const auto zero = k.index(0), one = k.index(1);
  const auto planes = s.param("planes", dims[0] * dims[1]);
  Values in, extent, low;
  for (size_t i = 0; i < rank; ++i) {
    in.push_back(s.param("in" + std::to_string(i), dims[i + 2]));
    extent.push_back(s.param("out" + std::to_string(i), spatial[i]));
    low.push_back(s.param("low" + std::to_string(i), w.low[i]));
  }
  kernel::ValueId plane_size = one, out_size = one;
  int64_t window = 1;
  for (size_t i = 0; i < rank; ++i) {
    plane_size = k.mul(plane_size, in[i]);
    out_size = k.mul(out_size, extent[i]);
    window *= kernel[i];
  }
  const Scalar scalar = to_scalar(work);
  k.for_loop(zero, planes, one, {}, [&](kernel::ValueId plane, const Values &) {
    k.for_loop(zero, out_size, one, {}, [&](kernel::ValueId point, const Values &) {
      Values at(rank);
      kernel::ValueId rest = point;
      for (size_t i = rank; i-- > 0;) {
        at[i] = k.rem(rest, extent[i]);
        rest = k.div(rest, extent[i]);
      }
      const kernel::ValueId nothing = k.index(-1);
      const Values found = k.for_loop(zero, k.index(window), one, {k.zero(scalar), nothing}, [&](kernel::ValueId tap, const Values &c) {
        kernel::ValueId left = tap, inside = k.constant(Scalar::kBool, 1), offset = zero, position = zero;
        Values point_in(rank);
        for (size_t i = rank; i-- > 0;) {
          const auto step = k.rem(left, k.index(kernel[i]));
          left = k.div(left, k.index(kernel[i]));
          point_in[i] = k.sub(k.add(k.mul(at[i], k.index(w.strides[i])), k.mul(step, k.index(w.dilations[i]))), low[i]);
          inside = k.logical_and(inside, k.logical_and(k.compare(K::kLe, zero, point_in[i]), k.lt(point_in[i], in[i])));
        }
        for (size_t i = 0; i < rank; ++i)
          offset = k.add(k.mul(offset, in[i]), point_in[i]);
        for (size_t i = rank; i-- > 0;)
          position = k.add(k.mul(position, in[i]), point_in[i]);
        const auto value = k.load_if(source, inside, k.add(k.mul(plane, plane_size), offset), k.zero(scalar));
        const auto empty = k.lt(c[1], zero);
        const auto greater = k.compare(is_unsigned(work) ? K::kGtU : K::kGt, value, c[0]);
        const auto take = k.logical_and(inside, k.binary(K::kOr, empty, greater));
        return Values{k.select(take, value, c[0]), k.select(take, column_major ? position : offset, c[1])};
      });
      const auto index = k.add(k.mul(plane, out_size), point);
      k.store(best, index, found[0]);
      k.store(where, index, k.convert(Scalar::kI64, k.add(k.mul(plane, plane_size), found[1])));
      return Values{};
    });
    return Values{};
  });
  const auto results = n.b.compute(s.finish(), {x}, {{work, out}, {ElementType::kI64, out}});
  n.set(0, n.lower(e, results[0]));
  n.set(1, results[1]);
}

void pool(Node &n, graph::PoolMode mode) {
  n.need_inputs(1, 1);
  const size_t rank = n.dims(0).size();
  if (rank < 3)
    n.fail("takes [n,c,spatial...], got " + to_string(n.type(0)));
  if (mode != graph::PoolMode::kMax)
    n.need_float(0);
  const size_t spatial = rank - 2;
  if (!n.attribute("kernel_shape"))
    n.fail("attribute 'kernel_shape' is missing");
  const std::vector<int64_t> kernel = spatial_ints(n, "kernel_shape", spatial, 1);
  const Window w = read_window(n, std::vector<Expr>(kernel.begin(), kernel.end()));
  const bool ceil = n.int_attr("ceil_mode", 0) != 0;
  const bool automatic = n.string_attr("auto_pad", "NOTSET").rfind("SAME", 0) == 0;
  std::vector<Expr> dims;
  for (size_t i = 0; i < spatial; ++i) {
    const Expr in = n.dims(0)[i + 2], reach = (kernel[i] - 1) * w.dilations[i] + 1, stride = w.strides[i];
    Expr out;
    if (automatic)
      out = ceildiv(in, stride);
    else if (ceil) // the last window must start inside the input or the low pad
      out = min(ceildiv(in + w.low[i] + w.high[i] - reach, stride) + 1, ceildiv(in + w.low[i], stride));
    else
      out = graph::window_extent(in, w.low[i], w.high[i], Expr(kernel[i]), w.strides[i], w.dilations[i]);
    // ONNX divides toward zero: an input smaller than the window, but by less than a stride, has one window too.
    const Expr spare = in + w.low[i] + w.high[i] - reach;
    if (!automatic && !ceil && !proves_ge0(spare)) {
      const Expr one_at_least = less(-stride, spare);
      if (one_at_least.constant() && !*one_at_least.constant())
        n.fail("the window is larger than the padded input " + to_string(n.type(0)));
      if (!one_at_least.constant())
        n.b.check(one_at_least, "node '" + n.name + "' (" + n.source + "): the window is larger than the padded input " + to_string(n.type(0)));
      out = max(out, 1);
    }
    if (out.constant() && *out.constant() < 1)
      n.fail("the window is larger than the padded input " + to_string(n.type(0)));
    dims.push_back(out);
  }
  const bool include = n.int_attr("count_include_pad", 0) != 0;
  const int64_t p = n.int_attr("p", 2);
  if (mode == graph::PoolMode::kLp && (p < 1 || p > 64))
    n.fail("attribute 'p' is " + std::to_string(p));
  if (mode == graph::PoolMode::kMax && n.wants(1)) {
    max_pool_indices(n, kernel, w, dims);
    return;
  }
  const ElementType e = n.element(0);
  const ValueId x = mode == graph::PoolMode::kMax ? n.in(0) : n.lift(n.in(0));
  n.set(0, n.lower(e, n.b.pool(mode, x, kernel, w.strides, w.dilations, w.low, w.high, dims, include, p)));
}

void import_max_pool(Node &n) { pool(n, graph::PoolMode::kMax); }
void import_average_pool(Node &n) { pool(n, graph::PoolMode::kAverage); }
void import_lp_pool(Node &n) { pool(n, graph::PoolMode::kLp); }

std::vector<uint32_t> spatial_axes(Node &n) {
  n.need_inputs(1, 1);
  n.need_float(0);
  if (n.rank(0) < 2)
    n.fail("takes [n,c,spatial...], got " + to_string(n.type(0)));
  std::vector<uint32_t> axes;
  for (uint32_t i = 2; i < n.dims(0).size(); ++i)
    axes.push_back(i);
  return axes;
}

Expr points(Node &n) { return product(Dims(n.dims(0).begin() + 2, n.dims(0).end())); }

// before: y = GlobalAveragePool(x); after: reduce add over the spatial axes, times 1/n
void import_global_average_pool(Node &n) {
  const auto axes = spatial_axes(n);
  Math m(n, n.in(0));
  const ValueId sum = n.b.reduce(dispatch::ReduceKind::kAdd, m.x, axes);
  m.finish(0, n.keep_axes(m.div(sum, count_like(n, sum, points(n))), axes, n.dims(0)));
}

void import_global_max_pool(Node &n) {
  const auto axes = spatial_axes(n);
  Math m(n, n.in(0));
  m.finish(0, n.keep_axes(n.b.reduce(dispatch::ReduceKind::kMax, m.x, axes), axes, n.dims(0)));
}

void import_global_lp_pool(Node &n) {
  const auto axes = spatial_axes(n);
  const int64_t p = n.int_attr("p", 2);
  if (p < 1)
    n.fail("attribute 'p' is " + std::to_string(p));
  Math m(n, n.in(0));
  const ValueId magnitude = m.map(K::kAbs, m.x);
  ValueId power = magnitude;
  if (p == 2)
    power = m.mul(m.x, m.x);
  else if (p != 1)
    power = m.map(K::kPow, magnitude, m.c(static_cast<double>(p)));
  ValueId y = n.b.reduce(dispatch::ReduceKind::kAdd, power, axes);
  if (p == 2)
    y = m.map(K::kSqrt, y);
  else if (p != 1)
    y = m.map(K::kPow, y, n.constant(y, 1.0 / static_cast<double>(p)));
  m.finish(0, n.keep_axes(y, axes, n.dims(0)));
}

} // namespace

std::vector<OperatorRow> pool_operators() {
  return {
      {"", "AveragePool", 6, kMaxOpset, import_average_pool},
      {"", "GlobalAveragePool", 6, kMaxOpset, import_global_average_pool},
      {"", "GlobalLpPool", 6, kMaxOpset, import_global_lp_pool},
      {"", "GlobalMaxPool", 6, kMaxOpset, import_global_max_pool},
      {"", "LpPool", 6, kMaxOpset, import_lp_pool},
      {"", "MaxPool", 6, kMaxOpset, import_max_pool},
  };
}

} // namespace ingot::aotc::importer
