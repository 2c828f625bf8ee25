// Operators that put parts of images together: Col2Im, CenterCropPad, MaxUnpool; and small serial ones: CumProd, Det.
#include <algorithm>

#include "aotc/import/onnx/algebra.h"
#include "aotc/import/onnx/runtime_axes.h"
#include "aotc/import/onnx/serial.h"

namespace ingot::aotc::importer {

namespace {

using kernel::Access;
using kernel::Values;
constexpr int64_t kErrorIndex = 1; // INGOT_KERNEL_ERROR_INDEX of schemas/cpu_abi.h
constexpr ElementType kI64 = ElementType::kI64, kF32 = ElementType::kF32, kF64 = ElementType::kF64;

std::vector<int64_t> list_attr(Node &n, const char *name, size_t count, int64_t otherwise, int64_t least) {
  const auto values = n.ints_attr(name).value_or(std::vector<int64_t>(count, otherwise));
  if (values.size() != count || std::any_of(values.begin(), values.end(), [&](int64_t v) { return v < least; }))
    n.fail(std::string("attribute '") + name + "' must have " + std::to_string(count) + " elements of " + std::to_string(least) + " or more");
  return values;
}

// before: y = Col2Im(x[n, c*k, blocks]); after: for each pixel, the sum over kernel points of the block that covers it
// there, if there is one: a masked gather over [n, c, kernel..., image...], reduced over the kernel's axes
void import_col2im(Node &n) {
  n.need_inputs(3, 3);
  if (n.rank(0) != 3 || n.element(0) == ElementType::kBool)
    n.fail("takes numbers [n,c*kernel,blocks], got " + to_string(n.type(0)));
  Algebra a(n);
  const std::vector<Expr> kernel = n.shape_values(2, 1, kMaxDim);
  const std::vector<Expr> image = n.shape_values(1, 1, kMaxDim);
  const size_t spatial = kernel.size(), rank = 2 + 2 * spatial;
  if (image.size() != spatial || spatial == 0 || rank > 8)
    n.fail("image_shape and block_shape must have the same length of 1 to 3");
  const auto dilations = list_attr(n, "dilations", spatial, 1, 1), strides = list_attr(n, "strides", spatial, 1, 1),
             pads = list_attr(n, "pads", 2 * spatial, 0, 0);
  const Expr points = product(kernel);
  const Dims dx = n.dims(0);
  const Expr channels = floordiv(dx[1], max(points, Expr(1)));
  n.require_equal(channels * points, dx[1], "rows of " + to_string(n.type(0)) + " and blocks of " + points.to_string());
  Dims blocks, to = {dx[0], channels};
  for (size_t i = 0; i < spatial; ++i)
    blocks.push_back(floordiv(image[i] + Expr(pads[i] + pads[spatial + i] - 1) - Expr(dilations[i]) * (kernel[i] - 1), Expr(strides[i])) + 1);
  n.require_equal(dx[2], product(blocks), "blocks of " + to_string(n.type(0)) + " and those that cover the image");
  to.insert(to.end(), kernel.begin(), kernel.end());
  to.insert(to.end(), image.begin(), image.end());
  std::vector<ValueId> at = {a.iota(kI64, dx[0], 0, rank), a.iota(kI64, channels, 1, rank)};
  std::vector<ValueId> block_at;
  ValueId valid = kNoValue;
  const ValueId zero = a.number(kI64, 0.0);
  for (size_t i = 0; i < spatial; ++i) {
    const ValueId k = a.iota(kI64, kernel[i], 2 + i, rank), p = a.iota(kI64, image[i], 2 + spatial + i, rank);
    const ValueId from = a.sub(a.add(p, static_cast<double>(pads[i])), a.mul(k, static_cast<double>(dilations[i])));
    const ValueId step = a.number(kI64, static_cast<double>(strides[i])), count = a.number(kI64, blocks[i]);
    const ValueId block = a.div(a.max(from, zero), step);
    const ValueId good = a.both(a.both(a.le(zero, from), a.eq(a.mul(block, step), from)), a.lt(block, count));
    valid = valid == kNoValue ? good : a.both(valid, good);
    at.push_back(k);
    block_at.push_back(a.clamp(block, zero, a.sub(count, 1)));
  }
  at.insert(at.end(), block_at.begin(), block_at.end());
  Dims seen = {dx[0], channels};
  seen.insert(seen.end(), kernel.begin(), kernel.end());
  seen.insert(seen.end(), blocks.begin(), blocks.end());
  const ValueId x = n.lift(n.in(0)), taken = gather_points(n, n.reshape(x, seen), at, to);
  std::vector<uint32_t> axes;
  for (size_t i = 0; i < spatial; ++i)
    axes.push_back(static_cast<uint32_t>(2 + i));
  n.set(0, n.lower(n.element(0), a.sum(a.select(valid, taken, a.number(x, 0)), axes)));
}

// The middle of each axis, or zeros around it; an odd difference leaves the larger part at the end.
void import_center_crop_pad(Node &n) {
  n.need_inputs(2, 2);
  Algebra a(n);
  const std::vector<Expr> shape = n.shape_values(1, 0, kMaxDim);
  std::vector<int64_t> axes;
  if (const auto given = n.ints_attr("axes")) {
    axes = *given;
  } else {
    for (int64_t i = 0; i < n.rank(0); ++i)
      axes.push_back(i);
  }
  if (axes.size() != shape.size())
    n.fail("has " + std::to_string(axes.size()) + " axes and a shape of " + std::to_string(shape.size()));
  Dims to = n.dims(0);
  std::vector<Expr> starts(to.size(), Expr(0)), low(to.size(), Expr(0)), high(to.size(), Expr(0));
  Dims kept = to;
  for (size_t i = 0; i < axes.size(); ++i) {
    const size_t axis = static_cast<size_t>(n.axis(axes[i], n.rank(0)));
    const Expr from = n.dims(0)[axis];
    kept[axis] = min(from, shape[i]);
    starts[axis] = floordiv(max(from - shape[i], Expr(0)), Expr(2));
    low[axis] = floordiv(max(shape[i] - from, Expr(0)), Expr(2));
    high[axis] = max(shape[i] - from, Expr(0)) - low[axis];
  }
  const ValueId cropped = n.b.slice(n.in(0), starts, std::vector<int64_t>(to.size(), 1), kept);
  n.set(0, n.b.pad(cropped, low, high, graph::PadMode::kConstant));
}

// before: y = MaxUnpool(x, positions); after: zeros, then each element at its position in the flattened result (serial)
void import_max_unpool(Node &n) {
  n.need_inputs(2, 3);
  if (n.element(1) != kI64 || n.rank(0) < 3 || n.rank(0) != n.rank(1))
    n.fail("takes x[n,c,spatial...] and int64 positions of the same shape, got " + n.describe_types());
  const Dims from = n.dims(0);
  for (size_t d = 0; d < from.size(); ++d)
    n.require_equal(from[d], n.dims(1)[d], "x " + to_string(n.type(0)) + " and positions " + to_string(n.type(1)));
  const size_t spatial = from.size() - 2;
  if (!n.attribute("kernel_shape"))
    n.fail("has no attribute 'kernel_shape'");
  const auto kernel = list_attr(n, "kernel_shape", spatial, 1, 1), strides = list_attr(n, "strides", spatial, 1, 1),
             pads = list_attr(n, "pads", 2 * spatial, 0, 0);
  Dims to = {from[0], from[1]};
  for (size_t i = 0; i < spatial; ++i)
    to.push_back((from[i + 2] - 1) * Expr(strides[i]) + Expr(kernel[i] - pads[i] - pads[spatial + i]));
  n.check_dims(to);
  const Expr total = product(to), count = product(from);
  Serial s(n, "max_unpool");
  kernel::Builder &k = s.builder;
  const ElementType e = n.element(0);
  const uint32_t x = s.operand("x", e, count, Access::kRead), where = s.operand("positions", kI64, count, Access::kRead);
  const uint32_t y = s.operand("y", e, total, Access::kWrite);
  const auto n_total = s.param("total", total), n_count = s.param("count", count), zero = k.index(0), one = k.index(1);
  const int64_t site = n.b.add_site("node '" + n.name + "' (" + n.source + "): position out of range");
  k.for_loop(zero, n_total, one, {}, [&](kernel::ValueId i, const Values &) {
    k.store(y, i, k.zero(to_scalar(e)));
    return Values{};
  });
  k.for_loop(zero, n_count, one, {}, [&](kernel::ValueId i, const Values &) {
    const auto at = k.load(where, i), none = k.constant(Scalar::kI64, 0);
    const auto good = k.logical_and(k.compare(K::kGe, at, none), k.lt(at, k.convert(Scalar::kI64, n_total)));
    k.error_if(k.unary(K::kNot, good), kErrorIndex, site);
    k.store_if(y, good, k.convert(Scalar::kIndex, k.select(good, at, none)), k.load(x, i));
    return Values{};
  });
  ValueId result = n.b.compute(s.finish(), {n.in(0), n.in(1)}, {{e, to}})[0];
  if (n.has(2)) { // a larger shape: the rest is zero
    const std::vector<Expr> shape = n.shape_values(2, 0, kMaxDim);
    if (shape.size() != to.size())
      n.fail("output_shape has " + std::to_string(shape.size()) + " elements for rank " + std::to_string(to.size()));
    std::vector<Expr> low(to.size(), Expr(0)), high;
    for (size_t d = 0; d < to.size(); ++d) {
      high.push_back(shape[d] - to[d]);
      if (high.back().constant() && *high.back().constant() < 0)
        n.fail("output_shape is smaller than " + to_string(TensorType{e, to}));
      if (!proves_ge0(high.back()))
        n.b.check(less_equal(to[d], shape[d]), "node '" + n.name + "' (" + n.source + "): output_shape is too small");
    }
    result = n.b.pad(result, low, high, graph::PadMode::kConstant);
  }
  n.set(0, result);
}

// Running products along an axis (serial: one pass over each line).
void import_cum_prod(Node &n) {
  n.need_inputs(2, 2);
  if (n.element(0) == ElementType::kBool || n.rank(0) == 0)
    n.fail("takes numbers of rank 1 or more, got " + to_string(n.type(0)));
  const std::vector<Expr> axes = axis_values(n, 1, n.rank(0));
  if (axes.size() != 1)
    n.fail("takes one axis, got " + to_string(n.type(1)));
  const bool exclusive = n.int_attr("exclusive", 0) != 0, reverse = n.int_attr("reverse", 0) != 0;
  const Dims dims = n.dims(0);
  const ValueId in = n.lift(n.in(0));
  const ElementType work = n.b.type(in).element;
  Serial s(n, "cum_prod");
  kernel::Builder &k = s.builder;
  const uint32_t x = s.operand("x", work, product(dims), Access::kRead), y = s.operand("y", work, product(dims), Access::kWrite);
  // The axis may be known at run time only: what lies before, along and behind it is an expression of it.
  const Expr axis = select(less(axes[0], Expr(0)), axes[0] + Expr(n.rank(0)), axes[0]);
  Expr before = 1, along = 1, behind = 1;
  for (size_t d = 0; d < dims.size(); ++d) {
    const Expr place = static_cast<int64_t>(d);
    before = before * select(less(place, axis), dims[d], Expr(1));
    along = along * select(equal(place, axis), dims[d], Expr(1));
    behind = behind * select(less(axis, place), dims[d], Expr(1));
  }
  const auto outer = s.param("outer", before), extent = s.param("extent", along), inner = s.param("inner", behind);
  const auto zero = k.index(0), one = k.index(1);
  const Scalar scalar = to_scalar(work);
  const auto unit = is_float(work) ? k.constant_float(scalar, 1) : k.constant(scalar, 1);
  k.for_loop(zero, outer, one, {}, [&](kernel::ValueId o, const Values &) {
    k.for_loop(zero, inner, one, {}, [&](kernel::ValueId i, const Values &) {
      const auto first = k.add(k.mul(k.mul(o, extent), inner), i);
      k.for_loop(zero, extent, one, {unit}, [&](kernel::ValueId j, const Values &so_far) {
        const auto row = reverse ? k.sub(k.sub(extent, one), j) : j, at = k.add(first, k.mul(row, inner));
        const auto next = k.mul(so_far[0], k.load(x, at));
        k.store(y, at, exclusive ? so_far[0] : next);
        return Values{next};
      });
      return Values{};
    });
    return Values{};
  });
  n.set(0, n.lower(n.element(0), n.b.compute(s.finish(), {in}, {{work, dims}})[0]));
}

// Determinants by elimination with partial pivoting, matrix after matrix (serial), on a copy.
void import_det(Node &n) {
  n.need_inputs(1, 1);
  n.need_float(0);
  const Dims dims = n.dims(0);
  if (dims.size() < 2)
    n.fail("takes square matrices, got " + to_string(n.type(0)));
  n.require_equal(dims.back(), dims[dims.size() - 2], "sides of " + to_string(n.type(0)));
  const Dims to(dims.begin(), dims.end() - 2);
  const ElementType work = n.element(0) == kF64 ? kF64 : kF32;
  const Scalar scalar = to_scalar(work);
  Serial s(n, "det");
  kernel::Builder &k = s.builder;
  const uint32_t x = s.operand("x", work, product(dims), Access::kRead), y = s.operand("y", work, product(to), Access::kWrite);
  const uint32_t m = s.operand("copy", work, product(dims), Access::kReadWrite);
  const auto batch = s.param("batch", product(to)), size = s.param("size", dims.back());
  const auto zero = k.index(0), one = k.index(1);
  k.for_loop(zero, batch, one, {}, [&](kernel::ValueId b, const Values &) {
    const auto base = k.mul(b, k.mul(size, size));
    k.for_loop(zero, k.mul(size, size), one, {}, [&](kernel::ValueId i, const Values &) {
      k.store(m, k.add(base, i), k.load(x, k.add(base, i)));
      return Values{};
    });
    const auto at = [&](kernel::ValueId row, kernel::ValueId column) { return k.add(base, k.add(k.mul(row, size), column)); };
    const Values product_of = k.for_loop(zero, size, one, {k.constant_float(scalar, 1)}, [&](kernel::ValueId c, const Values &det) {
      const auto first = k.unary(K::kAbs, k.load(m, at(c, c)));
      const Values pivot = k.for_loop(k.add(c, one), size, one, {c, first}, [&](kernel::ValueId r, const Values &best) {
        const auto v = k.unary(K::kAbs, k.load(m, at(r, c))), better = k.lt(best[1], v);
        return Values{k.select(better, r, best[0]), k.select(better, v, best[1])};
      });
      const auto moved = k.compare(K::kNe, pivot[0], c);
      k.for_loop(c, size, one, {}, [&](kernel::ValueId j, const Values &) {
        const auto upper = k.load(m, at(c, j)), lower = k.load(m, at(pivot[0], j));
        k.store(m, at(pivot[0], j), upper);
        k.store(m, at(c, j), lower);
        return Values{};
      });
      const auto p = k.load(m, at(c, c));
      const auto some = k.compare(K::kNe, p, k.zero(scalar));
      k.for_loop(k.add(c, one), size, one, {}, [&](kernel::ValueId r, const Values &) {
        const auto factor = k.select(some, k.div(k.load(m, at(r, c)), p), k.zero(scalar));
        k.for_loop(c, size, one, {}, [&](kernel::ValueId j, const Values &) {
          k.store(m, at(r, j), k.sub(k.load(m, at(r, j)), k.mul(factor, k.load(m, at(c, j)))));
          return Values{};
        });
        return Values{};
      });
      const auto step = k.mul(det[0], p);
      return Values{k.select(moved, k.unary(K::kNeg, step), step)};
    });
    k.store(y, b, product_of[0]);
    return Values{};
  });
  const auto results = n.b.compute(s.finish(), {n.b.convert(work, n.in(0))}, {{work, to}, {work, dims}});
  n.set(0, n.lower(n.element(0), results[0]));
}

} // namespace

std::vector<OperatorRow> spatial_operators() {
  return {
      {"", "CenterCropPad", 18, kMaxOpset, import_center_crop_pad},
      {"", "Col2Im", 18, kMaxOpset, import_col2im},
      {"", "CumProd", 26, kMaxOpset, import_cum_prod},
      {"", "Det", 11, kMaxOpset, import_det},
      {"", "MaxUnpool", 9, kMaxOpset, import_max_unpool},
  };
}

} // namespace ingot::aotc::importer
