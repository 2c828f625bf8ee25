// Operators that read a tensor between its points, at positions that the data give: GridSample, AffineGrid, RoiAlign,
// DeformConv. Each tap is a gather; the weights and what lies outside are arithmetic on the positions.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "aotc/import/onnx/algebra.h"

namespace ingot::aotc::importer {

namespace {

using dispatch::ReduceKind;
constexpr ElementType kF32 = ElementType::kF32, kF64 = ElementType::kF64, kI64 = ElementType::kI64;

enum class Outside : uint8_t { kZeros, kBorder, kReflection };

// One spatial axis of a sampled tensor: positions are floats, in elements.
class SampledAxis {
 public:
  SampledAxis(Algebra &algebra, Expr extent, Outside outside, bool align_corners)
      : a(algebra), extent_(std::move(extent)), outside_(outside), align_(align_corners) {}

  // From [-1, 1] to elements: the corners are centres of the outer elements (aligned), or their outer edges.
  ValueId position(ValueId normal) {
    const ValueId size = number(normal, extent_);
    return align_ ? a.mul(a.div(a.add(normal, 1), 2), a.sub(size, 1)) : a.div(a.sub(a.mul(a.add(normal, 1), size), 1), 2);
  }
  // What lies past the border, brought back as the mode says.
  ValueId inside(ValueId p) {
    if (outside_ == Outside::kZeros)
      return p;
    const ValueId low = a.number(p, align_ ? 0.0 : -0.5), high = a.sub(number(p, extent_), align_ ? 1.0 : 0.5);
    const ValueId out = a.map(K::kOr, a.lt(p, low), a.lt(high, p));
    const ValueId last = a.sub(number(p, extent_), 1);
    return a.select(out, outside_ == Outside::kBorder ? a.clamp(p, a.number(p, 0), last) : reflect(p), p);
  }
  // The element at a whole position: its index, and whether it exists (kZeros).
  struct Tap {
    ValueId index, valid;
  };
  Tap tap(ValueId p) {
    const ValueId zero = a.number(p, 0), last = a.sub(number(p, extent_), 1);
    ValueId valid = kNoValue;
    if (outside_ == Outside::kZeros)
      valid = a.both(a.le(zero, p), a.le(p, last));
    else if (outside_ == Outside::kReflection)
      p = a.map(K::kTrunc, reflect(p));
    return {a.convert(kI64, a.clamp(p, zero, last)), valid};
  }

 private:
  ValueId number(ValueId like, const Expr &e) { return a.number(a.element(like), e); }
  // Mirrored at both borders as often as it takes; positions inside stay.
  ValueId reflect(ValueId p) {
    const ValueId low = a.number(p, align_ ? 0.0 : -0.5), high = a.sub(number(p, extent_), align_ ? 1.0 : 0.5);
    const ValueId range = a.max(a.sub(high, low), a.number(p, 1)); // 0 where one element is aligned: any will do
    const ValueId under = a.lt(p, low), over = a.lt(high, p);
    const ValueId excess = a.select(under, a.sub(low, p), a.sub(p, high));
    const ValueId turns = a.map(K::kTrunc, a.div(excess, range)), rest = a.sub(excess, a.mul(turns, range));
    const ValueId odd = a.lt(a.number(p, 0.5), a.sub(turns, a.mul(a.floor(a.div(turns, 2)), 2)));
    const ValueId from_low = a.map(K::kXor, under, odd);
    const ValueId moved = a.select(from_low, a.add(low, rest), a.sub(high, rest));
    return a.select(a.map(K::kOr, under, over), moved, p);
  }
  Algebra &a;
  Expr extent_;
  Outside outside_;
  bool align_;
};

struct Weighted {
  SampledAxis::Tap tap;
  ValueId weight; // kNoValue: 1
};

// x[lead..., spatial...] read with a list of taps per spatial axis: the sum over all combinations. `lead` gives the
// coordinates of the other axes; everything broadcasts to `to`.
ValueId interpolate(Algebra &a, ValueId x, const std::vector<ValueId> &lead, const std::vector<std::vector<Weighted>> &axes, const Dims &to) {
  ValueId sum = kNoValue;
  std::function<void(std::vector<ValueId>, size_t, ValueId, ValueId)> walk = [&](std::vector<ValueId> at, size_t axis, ValueId weight, ValueId valid) {
    if (axis == axes.size()) {
      ValueId v = gather_points(a.n, x, at, to);
      if (valid != kNoValue)
        v = a.select(valid, v, a.number(v, 0));
      if (weight != kNoValue)
        v = a.mul(v, weight);
      sum = sum == kNoValue ? v : a.add(sum, v);
      return;
    }
    for (const Weighted &w : axes[axis]) {
      std::vector<ValueId> next = at;
      next.push_back(w.tap.index);
      const ValueId weights = w.weight == kNoValue ? weight : weight == kNoValue ? w.weight : a.mul(weight, w.weight);
      const ValueId valids = w.tap.valid == kNoValue ? valid : valid == kNoValue ? w.tap.valid : a.both(valid, w.tap.valid);
      walk(std::move(next), axis + 1, weights, valids);
    }
  };
  walk(lead, 0, kNoValue, kNoValue);
  return sum;
}

std::vector<Weighted> linear_taps(Algebra &a, SampledAxis &axis, ValueId p) {
  const ValueId low = a.floor(p), fraction = a.sub(p, low);
  return {{axis.tap(low), a.sub(a.number(p, 1), fraction)}, {axis.tap(a.add(low, 1)), fraction}};
}

// Keys' cubic convolution with a = -0.75.
std::vector<Weighted> cubic_taps(Algebra &a, SampledAxis &axis, ValueId p) {
  constexpr double alpha = -0.75;
  const ValueId low = a.floor(p), t = a.sub(p, low);
  const auto near = [&](ValueId d) { // |d| <= 1
    return a.add(a.mul(a.mul(a.sub(a.mul(d, alpha + 2), alpha + 3), d), d), 1);
  };
  const auto far = [&](ValueId d) { // 1 < |d| < 2
    return a.sub(a.mul(a.add(a.mul(a.sub(a.mul(d, alpha), 5 * alpha), d), 8 * alpha), d), 4 * alpha);
  };
  const ValueId one = a.number(p, 1), two = a.number(p, 2);
  return {{axis.tap(a.sub(low, 1)), far(a.add(t, 1))},
          {axis.tap(low), near(t)},
          {axis.tap(a.add(low, 1)), near(a.sub(one, t))},
          {axis.tap(a.add(low, 2)), far(a.sub(two, t))}};
}

void import_grid_sample(Node &n) {
  n.need_inputs(2, 2);
  n.need_float(1);
  std::string mode = n.string_attr("mode", n.opset < 20 ? "bilinear" : "linear");
  mode = mode == "bilinear" ? "linear" : mode == "bicubic" ? "cubic" : mode;
  if (mode != "linear" && mode != "cubic" && mode != "nearest")
    n.fail("attribute 'mode' is '" + mode + "'");
  if (mode != "nearest")
    n.need_float(0);
  const std::string padding = n.string_attr("padding_mode", "zeros");
  if (padding != "zeros" && padding != "border" && padding != "reflection")
    n.fail("attribute 'padding_mode' is '" + padding + "'");
  const Outside outside = padding == "zeros" ? Outside::kZeros : padding == "border" ? Outside::kBorder : Outside::kReflection;
  const Dims dx = n.dims(0), dg = n.dims(1);
  const size_t rank = dx.size(), spatial = rank - 2;
  if (rank < 3 || dg.size() != rank || !(dg.back() == Expr(static_cast<int64_t>(spatial))))
    n.fail("takes x[n,c,spatial...] and grid[n,spatial...,axes], got " + n.describe_types());
  n.require_equal(dx[0], dg[0], "batch of x and grid");
  Algebra a(n);
  const ElementType work = n.element(0) == kF64 || n.element(1) == kF64 ? kF64 : kF32;
  const bool align = n.int_attr("align_corners", 0) != 0;
  Dims to = {dx[0], dx[1]}, points = {dx[0], 1};
  to.insert(to.end(), dg.begin() + 1, dg.end() - 1);
  points.insert(points.end(), dg.begin() + 1, dg.end() - 1);
  const ValueId grid = a.convert(work, n.in(1));
  const ValueId x = mode == "nearest" ? n.in(0) : a.convert(work, n.in(0));
  std::vector<std::vector<Weighted>> taps;
  for (size_t i = 0; i < spatial; ++i) { // the grid's last axis counts from the innermost spatial axis
    SampledAxis axis(a, dx[i + 2], outside, align);
    const ValueId normal = n.reshape(a.pick(grid, rank - 1, static_cast<int64_t>(spatial - 1 - i)), points);
    ValueId p = axis.position(normal);
    if (mode == "nearest")
      p = a.map(K::kRint, p);
    if (mode != "cubic") // whose taps are brought back one by one
      p = axis.inside(p);
    if (mode == "nearest")
      taps.push_back({{axis.tap(a.map(K::kTrunc, p)), kNoValue}});
    else
      taps.push_back(mode == "linear" ? linear_taps(a, axis, p) : cubic_taps(a, axis, p));
  }
  const std::vector<ValueId> lead = {a.iota(kI64, dx[0], 0, rank), a.iota(kI64, dx[1], 1, rank)};
  n.set(0, n.lower(n.element(0), interpolate(a, x, lead, taps, to)));
}

// grid[n, points..., axes] = theta[n, axes, axes + 1] times (coordinates, 1), coordinates in [-1, 1], innermost first.
void import_affine_grid(Node &n) {
  n.need_inputs(2, 2);
  n.need_float(0);
  Algebra a(n);
  const std::vector<Expr> size = n.shape_values(1, 0, kMaxDim);
  if (size.size() != 4 && size.size() != 5)
    n.fail("size must be [n,c,h,w] or [n,c,d,h,w], got " + std::to_string(size.size()) + " elements");
  const size_t spatial = size.size() - 2, rank = spatial + 2;
  const Expr axes = static_cast<int64_t>(spatial);
  if (n.rank(0) != 3)
    n.fail("theta must be of rank 3, got " + to_string(n.type(0)));
  const Dims expected = {size[0], axes, axes + 1};
  for (size_t d = 0; d < 3; ++d)
    n.require_equal(n.dims(0)[d], expected[d], "theta " + to_string(n.type(0)) + " and size");
  const bool align = n.int_attr("align_corners", 0) != 0;
  const ValueId theta = n.lift(n.in(0));
  Dims column(rank, Expr(1));
  column[0] = size[0];
  column.back() = axes;
  const auto factor = [&](size_t j) { return n.reshape(a.pick(theta, 2, static_cast<int64_t>(j)), column); };
  ValueId y = factor(spatial);
  for (size_t j = 0; j < spatial; ++j) {
    const size_t axis = spatial - j; // in the result
    const Expr extent = size[axis + 1];
    const ValueId i = a.convert(a.element(theta), a.iota(kI64, extent, axis, rank)), length = a.number(a.element(theta), extent);
    const ValueId at = align ? a.sub(a.div(a.mul(i, 2), a.max(a.sub(length, 1), a.number(length, 1))), 1)
                             : a.sub(a.div(a.add(a.mul(i, 2), 1), length), 1);
    y = a.add(y, a.mul(factor(j), at));
  }
  Dims to(size.begin() + 2, size.end());
  to.insert(to.begin(), size[0]);
  to.push_back(axes);
  n.set(0, n.lower(n.element(0), a.spread(y, to)));
}

// Average or maximum of bilinear samples in each bin of each region. The samples of a bin are axes of their own that are
// reduced; where their number depends on the region (sampling_ratio 0), the largest is read and the others are masked.
class RoiAlign {
 public:
  explicit RoiAlign(Node &node) : n(node), a(node) {}

  void run() {
    n.need_inputs(3, 3);
    n.need_float(0);
    const std::string mode = n.string_attr("mode", "avg");
    const std::string transform = n.opset < 16 ? "output_half_pixel" : n.string_attr("coordinate_transformation_mode", "half_pixel");
    if ((mode != "avg" && mode != "max") || (transform != "half_pixel" && transform != "output_half_pixel"))
      n.fail("attributes 'mode' and 'coordinate_transformation_mode' are '" + mode + "' and '" + transform + "'");
    if (n.rank(0) != 4 || n.rank(1) != 2 || n.rank(2) != 1)
      n.fail("takes x[n,c,h,w], rois[r,4] and indices[r], got " + n.describe_types());
    const Dims dx = n.dims(0);
    regions_ = n.dims(1)[0];
    n.require_equal(n.dims(1)[1], 4, "rois " + to_string(n.type(1)));
    n.require_equal(n.dims(2)[0], regions_, "indices and rois");
    half_pixel_ = transform == "half_pixel";
    work_ = n.element(0) == kF64 ? kF64 : kF32;
    ratio_ = n.int_attr("sampling_ratio", 0);
    scale_ = n.float_attr("spatial_scale", 1);
    const int64_t height = n.int_attr("output_height", 1), width = n.int_attr("output_width", 1);
    if (height < 1 || width < 1 || ratio_ < 0)
      n.fail("output is " + std::to_string(height) + "x" + std::to_string(width) + ", sampling_ratio " + std::to_string(ratio_));
    // Both numbers of samples are read together: what follows has sizes that need both.
    Side y = bins(1, 3, height), x = bins(0, 2, width);
    read_samples(y, x);
    place(y, dx[2], height, 2);
    place(x, dx[3], width, 4);
    // Axes of a sample: region, channel, bin row, sample row, bin column, sample column.
    const Dims to = {regions_, dx[1], Expr(height), y.samples, Expr(width), x.samples};
    const ValueId batch = n.reshape(a.convert(kI64, n.in(2)), {regions_, 1, 1, 1, 1, 1});
    const ValueId in = a.convert(work_, n.in(0)), channel = a.iota(kI64, dx[1], 1, 6);
    const ValueId valid = a.both(y.valid, x.valid);
    ValueId value = kNoValue;
    for (const auto &[row, row_weight] : {std::pair{y.low, y.low_weight}, std::pair{y.high, y.high_weight}})
      for (const auto &[column, column_weight] : {std::pair{x.low, x.low_weight}, std::pair{x.high, x.high_weight}}) {
        const ValueId v = a.mul(gather_points(n, in, {batch, channel, row, column}, to), a.mul(row_weight, column_weight));
        value = value == kNoValue ? v : mode == "avg" ? a.add(value, v) : a.max(value, v);
      }
    value = a.select(valid, value, a.number(value, 0));
    ValueId result;
    if (mode == "avg") {
      value = a.select(a.both(y.counted, x.counted), value, a.number(value, 0));
      const ValueId count = a.max(a.mul(y.count, x.count), a.number(y.count, 1));
      result = a.div(a.sum(value, {3, 5}), n.reshape(count, {n.dims_of(count)[0], 1, 1, 1}));
    } else {
      value = a.select(a.both(y.counted, x.counted), value, a.number(value, -std::numeric_limits<double>::infinity()));
      result = n.b.reduce(ReduceKind::kMax, value, {3, 5});
      if (ratio_ == 0) { // a region of no extent has no sample
        const ValueId none = a.le(a.mul(y.count, x.count), a.number(y.count, 0));
        result = a.select(n.reshape(none, {n.dims_of(none)[0], 1, 1, 1}), a.number(result, 0), result);
      }
    }
    n.set(0, n.lower(n.element(0), result));
  }

 private:
  struct Side {
    Expr samples;
    ValueId start, bin;                         // of the region, [regions,1,1,1,1,1]
    ValueId low, high, low_weight, high_weight; // along the region's, the bin's and the sample's axis
    ValueId valid, counted;                     // inside the image; below the region's own number of samples
    ValueId count;                              // samples of a bin, [regions or 1,1,1,1,1,1]
  };

  Side bins(int64_t from, int64_t to, int64_t count) {
    const auto edge = [&](int64_t column) {
      const ValueId v = a.mul(a.convert(work_, a.pick(n.in(1), 1, column)), scale_);
      return n.reshape(half_pixel_ ? a.sub(v, 0.5) : v, {regions_, 1, 1, 1, 1, 1});
    };
    Side s;
    s.start = edge(from);
    ValueId size = a.sub(edge(to), s.start);
    if (!half_pixel_)
      size = a.max(size, a.number(size, 1));
    s.bin = a.div(size, static_cast<double>(count));
    s.count = ratio_ > 0 ? n.reshape(a.number(work_, static_cast<double>(ratio_)), {1, 1, 1, 1, 1, 1})
                         : a.max(a.map(K::kCeil, s.bin), a.number(s.bin, 0));
    return s;
  }

  void read_samples(Side &y, Side &x) {
    if (ratio_ > 0) {
      y.samples = x.samples = ratio_;
      return;
    }
    std::vector<ValueId> most;
    for (Side *s : {&y, &x}) {
      const ValueId largest = n.b.reduce(ReduceKind::kMax, n.reshape(s->count, {regions_}), {0});
      most.push_back(n.reshape(a.convert(kI64, a.max(largest, a.number(largest, 1))), {Expr(1)}));
    }
    const ValueId both = n.b.concat(most, 0);
    y.samples = n.b.read_scalar(a.pick(both, 0, 0), n.importer().unique_symbol(n.name + "_rows"), 1, 1 << 16);
    x.samples = n.b.read_scalar(a.pick(both, 0, 1), n.importer().unique_symbol(n.name + "_columns"), 1, 1 << 16);
  }

  void place(Side &s, const Expr &extent, int64_t bins, size_t axis) {
    const ValueId i = a.convert(work_, a.iota(kI64, s.samples, axis + 1, 6));
    s.counted = a.lt(i, s.count);
    const ValueId step = a.div(s.bin, a.max(s.count, a.number(s.count, 1)));
    const ValueId bin_start = a.add(s.start, a.mul(a.convert(work_, a.iota(kI64, bins, axis, 6)), s.bin));
    ValueId p = a.add(bin_start, a.mul(a.add(i, 0.5), step));
    const ValueId zero = a.number(p, 0), length = a.number(work_, extent), last = a.sub(length, 1);
    s.valid = a.both(a.le(a.number(p, -1), p), a.le(p, length));
    p = a.clamp(p, zero, last); // the last element and its right neighbour, which has no weight there
    const ValueId low = a.floor(p);
    s.high_weight = a.sub(p, low);
    s.low_weight = a.sub(a.number(p, 1), s.high_weight);
    s.low = a.convert(kI64, low);
    s.high = a.convert(kI64, a.min(a.add(low, 1), last));
  }

  Node &n;
  Algebra a;
  Expr regions_;
  bool half_pixel_ = true;
  ElementType work_ = kF32;
  int64_t ratio_ = 0;
  double scale_ = 1;
};

void import_roi_align(Node &n) { RoiAlign(n).run(); }

// A convolution whose kernel points are displaced by `offset`: sampled columns [n,c,kernel,out], then a product with W.
void import_deform_conv(Node &n) {
  n.need_inputs(3, 5);
  n.need_float(0);
  if (n.rank(0) != 4 || n.rank(1) != 4 || n.rank(2) != 4)
    n.fail("takes x[n,c,h,w], a weight and offsets of rank 4 (two spatial axes), got " + n.describe_types());
  Algebra a(n);
  const Dims dx = n.dims(0), dw = n.dims(1), shift_dims = n.dims(2);
  const int64_t groups = n.int_attr("group", 1), offset_groups = n.int_attr("offset_group", 1);
  const auto kh = dw[2].constant(), kw = dw[3].constant(), channels = dx[1].constant(), filters = dw[0].constant();
  if (!kh || !kw || !channels || !filters)
    n.fail("channels and kernel must be known at compile time");
  if (groups < 1 || offset_groups < 1 || *channels % groups != 0 || *filters % groups != 0 || *channels % offset_groups != 0)
    n.fail("channels do not divide into group " + std::to_string(groups) + " and offset_group " + std::to_string(offset_groups));
  n.require_equal(dw[1], *channels / groups, "channels of the weight " + to_string(n.type(1)));
  n.require_equal(shift_dims[1], offset_groups * *kh * *kw * 2, "channels of the offsets " + to_string(n.type(2)));
  const auto ints = [&](const char *name, std::vector<int64_t> otherwise) {
    auto v = n.ints_attr(name).value_or(otherwise);
    if (v.size() != otherwise.size())
      n.fail(std::string("attribute '") + name + "' has " + std::to_string(v.size()) + " elements");
    return v;
  };
  const std::vector<int64_t> strides = ints("strides", {1, 1}), dilations = ints("dilations", {1, 1}), pads = ints("pads", {0, 0, 0, 0});
  const Expr oh = shift_dims[2], ow = shift_dims[3], og = offset_groups, per = *channels / offset_groups;
  const ElementType work = n.element(0) == kF64 ? kF64 : kF32;
  // Axes: n, offset group, channel of it, kernel row, kernel column, row, column.
  const ValueId shifts = n.reshape(a.convert(work, n.in(2)), {dx[0], og, Expr(*kh), Expr(*kw), 2, oh, ow});
  std::vector<std::vector<Weighted>> taps;
  for (size_t i = 0; i < 2; ++i) {
    const ValueId kernel = a.mul(a.iota(kI64, i == 0 ? *kh : *kw, 3 + i, 7), static_cast<double>(dilations[i]));
    const ValueId out = a.sub(a.mul(a.iota(kI64, i == 0 ? oh : ow, 5 + i, 7), static_cast<double>(strides[i])), static_cast<double>(pads[i]));
    const ValueId shift = a.insert(a.pick(shifts, 4, static_cast<int64_t>(i)), 2);
    SampledAxis axis(a, dx[i + 2], Outside::kZeros, true);
    taps.push_back(linear_taps(a, axis, a.add(a.convert(work, a.add(kernel, out)), shift)));
  }
  const ValueId channel = a.add(a.mul(a.iota(kI64, og, 1, 7), a.number(kI64, per)), a.iota(kI64, per, 2, 7));
  const Dims columns = {dx[0], og, per, Expr(*kh), Expr(*kw), oh, ow};
  ValueId sampled = interpolate(a, a.convert(work, n.in(0)), {a.iota(kI64, dx[0], 0, 7), channel}, taps, columns);
  if (n.has(4)) {
    n.require_equal(n.type(4).elements(), product({dx[0], og, Expr(*kh), Expr(*kw), oh, ow}), "mask " + to_string(n.type(4)));
    sampled = a.mul(sampled, n.reshape(a.convert(work, n.in(4)), {dx[0], og, 1, Expr(*kh), Expr(*kw), oh, ow}));
  }
  const Expr g = groups, taken = *channels / groups, made = *filters / groups, points = *kh * *kw;
  const ValueId x = n.reshape(sampled, {dx[0], g, taken * points, oh, ow});
  const ValueId w = n.reshape(a.convert(work, n.in(1)), {g, made, taken * points});
  ValueId y = n.reshape(n.b.contract(x, w, "ngkhw", "gmk", "ngmhw"), {dx[0], dw[0], oh, ow});
  if (n.has(3)) {
    n.require_equal(n.type(3).elements(), dw[0], "bias " + to_string(n.type(3)));
    y = a.add(y, n.b.broadcast(a.convert(work, n.in(3)), {1}, n.dims_of(y)));
  }
  n.set(0, n.lower(n.element(0), y));
}

} // namespace

std::vector<OperatorRow> sample_operators() {
  return {
      {"", "AffineGrid", 20, kMaxOpset, import_affine_grid},
      {"", "DeformConv", 19, kMaxOpset, import_deform_conv},
      {"", "GridSample", 16, kMaxOpset, import_grid_sample},
      {"", "RoiAlign", 10, kMaxOpset, import_roi_align},
  };
}

} // namespace ingot::aotc::importer
