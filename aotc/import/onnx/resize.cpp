// Resize and Upsample: an axis at a time, as gathers with computed indices and weights.
//
//   before: y = Resize(x[n,c,h,w], scales 1,1,2,2) linear
//   after:  for h, then w: lo = gather(x, floor(p)), hi = gather(x, floor(p) + 1), lo * (1 - r) + hi * r
//
// Indices and weights are vectors along the output axis: constants where sizes and scales are known, else maps of an
// iota. A downscaling filter (antialias) has many taps and becomes a contraction with a constant matrix.
#include <cmath>
#include <functional>
#include <numeric>

#include "aotc/graph/constant.h"
#include "aotc/import/onnx/math.h"

namespace ingot::aotc::importer {

namespace {

constexpr ElementType kF32 = ElementType::kF32;

// A vector of floats along the output axis, or one float: known, or a graph value of rank 1 (a scalar: rank 0).
struct Lane {
  std::vector<float> known; // one element: a scalar
  ValueId id = kNoValue;
  bool is_known() const { return id == kNoValue; }
};

// Arithmetic on lanes; known ones are computed here with the kernel's f32 arithmetic.
class Lanes {
 public:
  Lanes(Node &n, Expr extent) : n_(n), extent_(std::move(extent)) {}

  static Lane c(double v) { return {{static_cast<float>(v)}, kNoValue}; }
  Lane host(const Expr &e) {
    if (e.constant())
      return c(static_cast<double>(*e.constant()));
    return {{}, n_.b.convert(kF32, n_.b.host_tensor(ElementType::kI64, {e}, true))};
  }
  Lane iota() {
    if (const auto count = extent_.constant(); count && *count <= 65536) {
      Lane lane;
      for (int64_t i = 0; i < *count; ++i)
        lane.known.push_back(static_cast<float>(i));
      if (lane.known.size() != 1)
        return lane;
      return lane; // one point: a scalar all the same
    }
    return {{}, n_.b.convert(kF32, n_.b.iota(ElementType::kI64, {extent_}, 0))};
  }
  Lane apply(K code, const Lane &a, const Lane &b) {
    if (a.is_known() && b.is_known()) {
      Lane out;
      const size_t count = a.known.empty() || b.known.empty() ? 0 : std::max(a.known.size(), b.known.size());
      for (size_t i = 0; i < count; ++i)
        out.known.push_back(compute(code, a.known[a.known.size() == 1 ? 0 : i], b.known[b.known.size() == 1 ? 0 : i]));
      return out;
    }
    const bool vector = wide(a) || wide(b);
    const ValueId x = tensor(a, vector), y = tensor(b, vector);
    const ValueId result = n_.b.map(code, {x, y});
    return {{}, kernel::is_compare(code) ? n_.b.convert(kF32, result) : result};
  }
  Lane apply(K code, const Lane &a) {
    if (a.is_known()) {
      Lane out;
      for (float v : a.known)
        out.known.push_back(code == K::kFloor ? std::floor(v) : code == K::kCeil ? std::ceil(v) : std::fabs(v));
      return out;
    }
    return {{}, n_.b.map(code, {a.id})};
  }
  Lane add(const Lane &a, const Lane &b) { return apply(K::kAdd, a, b); }
  Lane sub(const Lane &a, const Lane &b) { return apply(K::kSub, a, b); }
  Lane mul(const Lane &a, const Lane &b) { return apply(K::kMul, a, b); }
  Lane div(const Lane &a, const Lane &b) { return apply(K::kDiv, a, b); }
  Lane clamp(const Lane &a, const Lane &high) { return apply(K::kMax, apply(K::kMin, a, high), c(0)); }
  Lane less(const Lane &a, const Lane &b) { return apply(K::kLt, a, b); } // 1 or 0

  // As a rank-1 tensor of the output extent, of floats or of i64 indices.
  ValueId vector(const Lane &a, ElementType element) {
    if (a.is_known()) {
      std::vector<double> values(a.known.begin(), a.known.end());
      const int64_t count = extent_.constant().value_or(1);
      if (values.size() == 1 && (!extent_.constant() || count != 1))
        return element == kF32 ? n_.b.splat_float(element, {extent_}, values[0])
                               : n_.b.splat_int(element, {extent_}, static_cast<int64_t>(values[0]));
      return n_.b.constant({element, {extent_}}, graph::make_floats(element, values));
    }
    return n_.b.convert(element, tensor(a, true));
  }

 private:
  bool wide(const Lane &a) const { return a.is_known() ? a.known.size() != 1 : !n_.b.type(a.id).dims.empty(); }
  ValueId tensor(const Lane &a, bool as_vector) {
    if (a.is_known())
      return as_vector ? vector(a, kF32) : n_.b.splat_float(kF32, {}, a.known.at(0));
    return as_vector ? n_.b.broadcast_to(a.id, {extent_}) : a.id;
  }
  static float compute(K code, float a, float b) {
    switch (code) {
      case K::kAdd: return a + b;
      case K::kSub: return a - b;
      case K::kMul: return a * b;
      case K::kDiv: return a / b;
      case K::kMin: return std::min(a, b);
      case K::kMax: return std::max(a, b);
      default: return a < b ? 1.0f : 0.0f; // kLt
    }
  }
  Node &n_;
  Expr extent_;
};

struct Options {
  std::string mode = "nearest", coordinates = "half_pixel", nearest = "round_prefer_floor";
  double cubic_a = -0.75, extrapolation = 0;
  bool exclude_outside = false, antialias = false;
};

struct Axis {
  Expr in, out;
  Lane scale;            // out / in, or as given
  Lane roi_start, roi_end;
};

// Position in the input of each output point.
Lane position(Lanes &l, const Options &o, const Axis &a) {
  const Lane x = l.iota();
  const Lane centred = l.sub(l.div(l.add(x, Lanes::c(0.5)), a.scale), Lanes::c(0.5));
  if (o.coordinates == "half_pixel")
    return centred;
  if (o.coordinates == "asymmetric")
    return l.div(x, a.scale);
  const Lane in = l.host(a.in), out = l.host(a.out), last = l.sub(in, Lanes::c(1));
  // 0 where the result has one point.
  const Lane several = l.less(Lanes::c(1), out), steps = l.apply(K::kMax, l.sub(out, Lanes::c(1)), Lanes::c(1));
  if (o.coordinates == "pytorch_half_pixel")
    return l.mul(centred, several);
  if (o.coordinates == "align_corners")
    return l.mul(l.div(l.mul(x, last), steps), several);
  if (o.coordinates == "half_pixel_symmetric") {
    const Lane adjustment = l.div(out, l.mul(a.scale, in));
    return l.add(l.mul(l.mul(in, Lanes::c(0.5)), l.sub(Lanes::c(1), adjustment)), centred);
  }
  // tf_crop_and_resize
  const Lane span = l.div(l.mul(l.sub(a.roi_end, a.roi_start), last), steps);
  const Lane line = l.add(l.mul(a.roi_start, last), l.mul(x, span));
  const Lane middle = l.mul(l.mul(l.add(a.roi_start, a.roi_end), last), Lanes::c(0.5));
  return l.add(l.mul(line, several), l.mul(middle, l.sub(Lanes::c(1), several)));
}

double cubic(double t, double a) {
  t = std::fabs(t);
  if (t < 1)
    return ((a + 2) * t - (a + 3)) * t * t + 1;
  return t < 2 ? ((a * t - 5 * a) * t + 8 * a) * t - 4 * a : 0;
}

// Weights of the four taps around a position with fraction r.
Lane cubic_lane(Lanes &l, const Lane &t, double a, bool near) {
  const auto c = [](double v) { return Lanes::c(v); };
  const Lane t2 = l.mul(t, t);
  if (near)
    return l.add(l.mul(l.sub(l.mul(c(a + 2), t), c(a + 3)), t2), c(1));
  return l.sub(l.mul(l.add(l.mul(l.sub(l.mul(c(a), t), c(5 * a)), t), c(8 * a)), t), c(4 * a));
}

// How often the nearest point of each input element is taken, where that is the same for all of them and those lie side by
// side; else 0. Positions are exact enough for that below 2^22.
int64_t repeats(const Options &o, const Axis &a) {
  if (o.mode != "nearest" || !a.scale.is_known() || a.out.upper() > (1 << 22))
    return 0;
  const float s = a.scale.known.at(0);
  if (s < 2 || s > 1024 || s != std::floor(s) || !(a.out == a.in * Expr(static_cast<int64_t>(s))))
    return 0;
  const bool centred = o.coordinates == "half_pixel" || o.coordinates == "pytorch_half_pixel" || o.coordinates == "half_pixel_symmetric";
  const bool rounds = o.nearest == "round_prefer_floor" || o.nearest == "round_prefer_ceil"; // no position is between two points
  return (centred && rounds) || (o.coordinates == "asymmetric" && o.nearest == "floor") ? static_cast<int64_t>(s) : 0;
}

// One axis of x (float for linear and cubic, any type for nearest).
ValueId resize_axis(Node &n, ValueId x, uint32_t axis, const Options &o, const Axis &a) {
  if (const int64_t times = repeats(o, a)) { // views alone
    Dims dims = n.dims_of(x), apart = dims;
    apart.insert(apart.begin() + axis + 1, Expr(times));
    std::vector<uint32_t> from(apart.size());
    std::iota(from.begin(), from.end(), 0);
    from.erase(from.begin() + axis + 1);
    dims[axis] = a.out;
    return n.b.reshape(n.b.broadcast(x, from, apart), dims);
  }
  Lanes l(n, a.out);
  const Lane p = position(l, o, a), high = l.sub(l.host(a.in), Lanes::c(1));
  const Dims dims = [&] {
    Dims d = n.dims_of(x);
    d[axis] = a.out;
    return d;
  }();
  const auto tap = [&](const Lane &index) {
    return n.b.gather(x, l.vector(l.clamp(index, high), ElementType::kI64), axis);
  };
  const auto along = [&](const Lane &weights) {
    return n.b.convert(n.b.type(x).element, n.b.broadcast(l.vector(weights, kF32), {axis}, dims));
  };
  ValueId y = kNoValue;
  if (o.mode == "nearest") {
    Lane index;
    if (o.nearest == "round_prefer_floor")
      index = l.apply(K::kCeil, l.sub(p, Lanes::c(0.5)));
    else if (o.nearest == "round_prefer_ceil")
      index = l.apply(K::kFloor, l.add(p, Lanes::c(0.5)));
    else
      index = l.apply(o.nearest == "floor" ? K::kFloor : K::kCeil, p);
    y = tap(index);
  } else if (o.antialias && (!p.is_known() || !a.scale.is_known() || !a.out.constant())) {
    // A scale known at run time only: taps as far as the filter can reach (out >= 1, so 1/scale <= in).
    const int64_t support = o.mode == "cubic" ? 2 : 1, reach = support * *a.in.constant() + 1;
    const Lane one = Lanes::c(1), shrink = l.apply(K::kMin, a.scale, one), floor = l.apply(K::kFloor, p);
    Lane sum = Lanes::c(0);
    for (int64_t t = -reach; t <= reach; ++t) {
      const Lane index = l.add(floor, Lanes::c(static_cast<double>(t)));
      const Lane distance = l.apply(K::kAbs, l.mul(l.sub(index, p), shrink));
      Lane weight;
      if (o.mode == "cubic") {
        const Lane near = l.less(distance, one), reached = l.less(distance, Lanes::c(2));
        weight = l.add(l.mul(cubic_lane(l, distance, o.cubic_a, true), near),
                       l.mul(cubic_lane(l, distance, o.cubic_a, false), l.sub(reached, near)));
      } else {
        weight = l.apply(K::kMax, l.sub(one, distance), Lanes::c(0));
      }
      if (o.exclude_outside)
        weight = l.mul(weight, l.mul(l.less(Lanes::c(-0.5), index), l.less(index, l.add(high, Lanes::c(0.5)))));
      sum = l.add(sum, weight);
      const ValueId part = n.b.map(K::kMul, {tap(index), along(weight)});
      y = y == kNoValue ? part : n.b.map(K::kAdd, {y, part});
    }
    y = n.b.map(K::kDiv, {y, along(sum)});
  } else if (o.antialias) {
    // Dense matrix [out, in] of known sizes.
    const int64_t in = *a.in.constant(), out = *a.out.constant();
    const double shrink = std::min(1.0, static_cast<double>(a.scale.known.at(0))), support = o.mode == "cubic" ? 2 : 1;
    std::vector<double> matrix(static_cast<size_t>(in * out));
    for (int64_t i = 0; i < out; ++i) {
      const double at = p.known[p.known.size() == 1 ? 0 : static_cast<size_t>(i)];
      double sum = 0;
      const auto weight = [&](int64_t k) {
        const double t = (static_cast<double>(k) - at) * shrink;
        return o.mode == "cubic" ? cubic(t, o.cubic_a) : std::max(0.0, 1 - std::fabs(t));
      };
      const int64_t first = static_cast<int64_t>(std::floor(at - support / shrink)), last = static_cast<int64_t>(std::ceil(at + support / shrink));
      for (int64_t k = first; k <= last; ++k)
        if (!o.exclude_outside || (k >= 0 && k < in))
          sum += weight(k);
      for (int64_t k = first; k <= last; ++k)
        if (!o.exclude_outside || (k >= 0 && k < in))
          matrix[static_cast<size_t>(i * in + std::min(std::max<int64_t>(k, 0), in - 1))] += weight(k) / sum;
    }
    const ElementType e = n.b.type(x).element;
    const ValueId w = n.b.constant({e, {a.out, a.in}}, graph::make_floats(e, matrix));
    std::string labels, result;
    for (size_t i = 0; i < dims.size(); ++i)
      labels += static_cast<char>('a' + i);
    result = labels;
    result[axis] = 'z';
    y = n.b.contract(x, w, labels, std::string("z") + labels[axis], result);
  } else if (o.mode == "linear") {
    const Lane floor = l.apply(K::kFloor, p), r = l.sub(p, floor);
    const ValueId lo = tap(floor), hi = tap(l.add(floor, Lanes::c(1)));
    y = n.b.map(K::kAdd, {n.b.map(K::kMul, {lo, along(l.sub(Lanes::c(1), r))}), n.b.map(K::kMul, {hi, along(r)})});
  } else {
    const Lane floor = l.apply(K::kFloor, p), r = l.sub(p, floor), rest = l.sub(Lanes::c(1), r);
    Lane weights[4] = {cubic_lane(l, l.add(r, Lanes::c(1)), o.cubic_a, false), cubic_lane(l, r, o.cubic_a, true),
                       cubic_lane(l, rest, o.cubic_a, true), cubic_lane(l, l.add(rest, Lanes::c(1)), o.cubic_a, false)};
    if (o.exclude_outside) {
      Lane sum = Lanes::c(0);
      for (int k = 0; k < 4; ++k) {
        const Lane index = l.add(floor, Lanes::c(k - 1));
        const Lane inside = l.mul(l.less(Lanes::c(-0.5), index), l.less(index, l.add(high, Lanes::c(0.5))));
        weights[k] = l.mul(weights[k], inside);
        sum = l.add(sum, weights[k]);
      }
      for (Lane &w : weights)
        w = l.div(w, sum);
    }
    for (int k = 0; k < 4; ++k) {
      const ValueId part = n.b.map(K::kMul, {tap(l.add(floor, Lanes::c(k - 1))), along(weights[k])});
      y = y == kNoValue ? part : n.b.map(K::kAdd, {y, part});
    }
  }
  if (o.coordinates == "tf_crop_and_resize") {
    const Lane outside = l.add(l.less(p, Lanes::c(0)), l.less(high, p));
    const ValueId mask = n.b.broadcast(n.b.convert(ElementType::kBool, l.vector(outside, kF32)), {axis}, dims);
    const ElementType e = n.b.type(y).element;
    const ValueId fill = is_float(e) ? n.b.splat_float(e, dims, o.extrapolation)
                                     : n.b.splat_int(e, dims, static_cast<int64_t>(o.extrapolation));
    y = n.b.map(K::kSelect, {mask, fill, y});
  }
  return y;
}

// Resizes the axes in order; those that provably keep every point are left alone.
void resize(Node &n, const Options &o, const std::vector<uint32_t> &axes, const std::vector<Axis> &table) {
  Dims dims = n.dims(0);
  for (size_t i = 0; i < axes.size(); ++i)
    dims[axes[i]] = table[i].out;
  n.check_dims(dims);
  const ElementType e = n.element(0);
  ValueId x = n.in(0);
  if (o.mode != "nearest")
    x = is_float(e) ? n.lift(x) : n.b.convert(kF32, x);
  for (size_t i = 0; i < axes.size(); ++i) {
    const Axis &a = table[i];
    const bool unit = a.scale.is_known() && a.scale.known.at(0) == 1.0f;
    if (unit && a.in == a.out && o.coordinates != "tf_crop_and_resize")
      continue;
    if (a.in == Expr(0) && !(a.out == Expr(0)))
      n.fail("cannot resize the empty axis " + std::to_string(axes[i]));
    if (o.antialias && o.mode != "nearest") {
      const auto in = a.in.constant(), out = a.out.constant();
      const bool known = in && out && a.scale.is_known();
      if (!in || (!known && *in > 64) || (known && *in * *out > (1 << 24)))
        n.fail("antialias needs sizes that are known at compile time", "fix the input's dims with --input-shape");
    }
    x = resize_axis(n, x, axes[i], o, a);
  }
  n.set(0, n.b.convert(e, x));
}

// The i-th float of an input: known, or read at run time as a scalar tensor.
Lane element(Node &n, size_t input, size_t i) {
  if (const auto known = n.constant_floats(input))
    return Lanes::c((*known)[i]);
  const ValueId x = n.b.slice(n.in(input), {Expr(static_cast<int64_t>(i))}, {1}, {Expr(1)});
  return {{}, n.b.convert(kF32, n.reshape(x, {}))};
}

// floor(in * scale)
Expr scaled_extent(Node &n, const Expr &in, const Lane &scale) {
  if (scale.is_known()) {
    const float s = scale.known.at(0);
    if (!(s > 0) || s > 1e6f)
      n.fail("a scale is " + std::to_string(s));
    if (in.constant())
      return static_cast<int64_t>(std::floor(static_cast<float>(*in.constant()) * s));
    if (s == std::floor(s))
      return in * Expr(static_cast<int64_t>(s));
    // A fraction p/q that f32 rounds to this very scale keeps the arithmetic whole.
    for (int64_t q = 2; q <= 64; ++q) {
      const float p = std::nearbyint(s * static_cast<float>(q));
      if (p > 0 && p / static_cast<float>(q) == s)
        return floordiv(in * Expr(static_cast<int64_t>(p)), Expr(q));
    }
  }
  Lanes l(n, 1);
  Lane extent = l.apply(K::kFloor, l.mul(l.host(in), scale));
  return n.b.read_scalar(n.b.convert(ElementType::kI64, extent.id), n.importer().unique_symbol(n.name + "_size"), 0, kMaxDim);
}

void import_resize(Node &n) {
  const int64_t rank = n.rank(0);
  Options o;
  o.mode = n.string_attr("mode", "nearest");
  if (o.mode != "nearest" && o.mode != "linear" && o.mode != "cubic")
    n.fail("attribute 'mode' is '" + o.mode + "', expected nearest, linear or cubic");
  const size_t scales_at = n.opset < 11 ? 1 : 2;
  if (n.opset < 11) {
    n.need_inputs(2, 2);
    o.coordinates = "asymmetric";
    o.nearest = "floor";
  } else {
    n.need_inputs(1, 4);
    o.coordinates = n.string_attr("coordinate_transformation_mode", "half_pixel");
    o.nearest = n.string_attr("nearest_mode", "round_prefer_floor");
    o.cubic_a = n.float_attr("cubic_coeff_a", -0.75f);
    o.extrapolation = n.float_attr("extrapolation_value", 0);
    o.exclude_outside = n.int_attr("exclude_outside", 0) != 0;
    o.antialias = n.int_attr("antialias", 0) != 0;
  }
  for (const auto &[value, allowed, name] :
       {std::tuple{o.coordinates, std::string(" half_pixel half_pixel_symmetric pytorch_half_pixel align_corners asymmetric tf_crop_and_resize "), "coordinate_transformation_mode"},
        std::tuple{o.nearest, std::string(" round_prefer_floor round_prefer_ceil floor ceil "), "nearest_mode"}})
    if (allowed.find(" " + value + " ") == std::string::npos)
      n.fail(std::string("attribute '") + name + "' is '" + value + "', expected one of" + allowed);
  std::vector<uint32_t> axes;
  if (const auto given = n.ints_attr("axes"))
    for (int64_t a : *given)
      axes.push_back(static_cast<uint32_t>(n.axis(a, rank)));
  else
    for (int64_t i = 0; i < rank; ++i)
      axes.push_back(static_cast<uint32_t>(i));
  const Expr count = static_cast<int64_t>(axes.size());
  const bool by_scale = n.has(scales_at) && !(n.type(scales_at).elements() == Expr(0));
  const bool by_size = n.has(3) && !(n.type(3).elements() == Expr(0));
  if (by_scale == by_size)
    n.fail("needs either scales or sizes");
  const size_t input = by_scale ? scales_at : 3;
  if (n.rank(input) != 1 || !(n.dims(input)[0] == count))
    n.fail(std::string(by_scale ? "scales" : "sizes") + " is " + to_string(n.type(input)) + ", expected " + count.to_string() + " entries");
  std::vector<Axis> table(axes.size());
  std::vector<Expr> sizes;
  if (by_size)
    sizes = n.shape_values(3, 1, kMaxDim);
  const std::string policy = n.string_attr("keep_aspect_ratio_policy", "stretch");
  std::optional<Lane> common; // one scale for all axes
  if (by_size && policy != "stretch") {
    if (policy != "not_larger" && policy != "not_smaller")
      n.fail("attribute 'keep_aspect_ratio_policy' is '" + policy + "'");
    Lanes l(n, 1);
    for (size_t i = 0; i < axes.size(); ++i) {
      const Lane s = l.div(l.host(sizes[i]), l.host(n.dims(0)[axes[i]]));
      common = !common ? s : l.apply(policy == "not_larger" ? K::kMin : K::kMax, *common, s);
    }
  }
  for (size_t i = 0; i < axes.size(); ++i) {
    Axis &a = table[i];
    a.in = n.dims(0)[axes[i]];
    Lanes l(n, 1);
    if (by_scale) {
      a.scale = element(n, scales_at, i);
      a.out = scaled_extent(n, a.in, a.scale);
    } else if (common) {
      const Lane size = l.apply(K::kFloor, l.add(l.mul(*common, l.host(a.in)), Lanes::c(0.5)));
      a.out = size.is_known() ? Expr(static_cast<int64_t>(size.known.at(0)))
                              : Expr(n.b.read_scalar(n.b.convert(ElementType::kI64, size.id), n.importer().unique_symbol(n.name + "_size"), 0, kMaxDim));
      a.scale = *common;
    } else {
      a.out = sizes[i];
      a.scale = a.in == a.out ? Lanes::c(1) : l.div(l.host(a.out), l.host(a.in));
    }
    if (o.coordinates == "tf_crop_and_resize") {
      if (!n.has(1) || n.rank(1) != 1 || !(n.dims(1)[0] == count * Expr(2)))
        n.fail("tf_crop_and_resize needs roi with " + std::to_string(2 * axes.size()) + " entries");
      a.roi_start = element(n, 1, i);
      a.roi_end = element(n, 1, i + axes.size());
    }
  }
  resize(n, o, axes, table);
}

void import_upsample(Node &n) {
  n.need_inputs(n.opset < 9 ? 1 : 2, n.opset < 9 ? 1 : 2);
  Options o;
  o.mode = n.string_attr("mode", "nearest");
  if (o.mode == "bilinear")
    o.mode = "linear";
  if (o.mode != "nearest" && o.mode != "linear")
    n.fail("attribute 'mode' is '" + o.mode + "', expected nearest or linear");
  o.coordinates = "asymmetric";
  o.nearest = "floor";
  const std::vector<float> attribute = n.floats_attr("scales");
  const size_t rank = n.dims(0).size();
  if (n.opset < 9 ? attribute.size() != rank : n.rank(1) != 1 || !(n.dims(1)[0] == Expr(static_cast<int64_t>(rank))))
    n.fail("scales must have " + std::to_string(rank) + " entries");
  std::vector<uint32_t> axes;
  std::vector<Axis> table(rank);
  for (uint32_t i = 0; i < rank; ++i) {
    axes.push_back(i);
    table[i].in = n.dims(0)[i];
    table[i].scale = n.opset < 9 ? Lanes::c(attribute[i]) : element(n, 1, i);
    table[i].out = scaled_extent(n, table[i].in, table[i].scale);
  }
  resize(n, o, axes, table);
}

} // namespace

std::vector<OperatorRow> resize_operators() {
  return {
      {"", "Resize", 10, kMaxOpset, import_resize},
      {"", "Upsample", 7, 9, import_upsample},
  };
}

} // namespace ingot::aotc::importer
