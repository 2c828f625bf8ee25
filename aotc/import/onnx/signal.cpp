// Signals: windows, mel filters, discrete Fourier transforms.
//
// A transform of a length that is known is a product with a constant matrix; STFT is a convolution with windowed waves.
#include <cmath>

#include "aotc/graph/constant.h"
#include "aotc/import/onnx/algebra.h"
#include "aotc/import/onnx/runtime_axes.h"

namespace ingot::aotc::importer {

namespace {

constexpr ElementType kF32 = ElementType::kF32, kF64 = ElementType::kF64, kI64 = ElementType::kI64;
constexpr double kPi = 3.14159265358979323846;

ElementType output_type(Node &n) {
  const int32_t code = static_cast<int32_t>(n.int_attr("output_datatype", onnx::TensorProto::FLOAT));
  const auto type = element_type(code);
  if (!type)
    n.fail("attribute 'output_datatype' is " + onnx_type_name(code) + ", which is not supported");
  return *type;
}

// c0 - c1 cos(2 pi i / m) + c2 cos(4 pi i / m), m the size (periodic) or one less.
void window(Node &n, double c0, double c1, double c2) {
  n.need_inputs(1, 1);
  Algebra a(n);
  const ElementType e = output_type(n);
  const ElementType work = e == kF64 ? kF64 : kF32;
  const Expr size = n.host_scalar(0, 0, kMaxDim);
  n.check_dims({size});
  const Expr period = n.int_attr("periodic", 1) != 0 ? size : size - 1;
  const ValueId i = a.convert(work, a.iota(kI64, size)), turn = a.div(i, a.number(work, period));
  ValueId y = a.sub(a.number(work, c0), a.mul(a.map(K::kCos, a.mul(turn, 2 * kPi)), c1));
  if (c2 != 0)
    y = a.add(y, a.mul(a.map(K::kCos, a.mul(turn, 4 * kPi)), c2));
  n.set(0, n.b.convert(e, y));
}

void import_hann(Node &n) { window(n, 0.5, 0.5, 0); }
void import_hamming(Node &n) { window(n, 25.0 / 46.0, 21.0 / 46.0, 0); }
void import_blackman(Node &n) { window(n, 0.42, 0.5, 0.08); }

// Triangular filters [bins, mels], equally wide on the mel scale; a constant.
void import_mel(Node &n) {
  n.need_inputs(5, 5);
  std::vector<double> p;
  for (size_t i = 0; i < 5; ++i) {
    const auto v = n.constant_floats(i);
    if (!v || v->size() != 1)
      n.fail("input " + std::to_string(i) + " must be one number known at compile time", "make it an initializer");
    p.push_back((*v)[0]);
  }
  const double mels = p[0], length = p[1], rate = p[2];
  if (!(mels >= 1 && mels <= 65536 && length >= 1 && length <= 1 << 24 && rate >= 1) || mels * (length / 2 + 1) > 1 << 26)
    n.fail("num_mel_bins, dft_length and sample_rate are out of range");
  const auto to_mel = [](double hertz) { return 2595 * std::log10(1 + hertz / 700); };
  const double low = to_mel(p[3]), step = (to_mel(p[4]) - low) / (mels + 2);
  const int64_t count = static_cast<int64_t>(mels), bins = static_cast<int64_t>(length) / 2 + 1;
  std::vector<int64_t> edge; // spectrogram bins where the filters begin, peak and end
  for (int64_t i = 0; i < count + 2; ++i) {
    const double hertz = 700 * (std::pow(10, (static_cast<double>(i) * step + low) / 2595) - 1);
    const double bin = std::floor((length + 1) * hertz / rate);
    if (!(bin >= 0 && bin < static_cast<double>(bins)))
      n.fail("the upper edge lies above half of the sample rate");
    edge.push_back(static_cast<int64_t>(bin));
  }
  std::vector<double> out(static_cast<size_t>(bins * count));
  for (int64_t i = 0; i < count; ++i) {
    const int64_t left = edge[static_cast<size_t>(i)], centre = edge[static_cast<size_t>(i) + 1], right = edge[static_cast<size_t>(i) + 2];
    const auto at = [&](int64_t bin) -> double & { return out[static_cast<size_t>(bin * count + i)]; };
    for (int64_t j = left; j < centre; ++j)
      at(j) = static_cast<double>(j - left) / static_cast<double>(centre - left);
    at(centre) = 1;
    for (int64_t j = centre + 1; j < right; ++j)
      at(j) = static_cast<double>(right - j) / static_cast<double>(right - centre);
  }
  const ElementType e = output_type(n);
  n.set_data(0, {e, {Expr(bins), Expr(count)}}, graph::make_floats(e, out));
}

// The same of parameters that are known at run time: every weight by its formula.
void mel_at_run_time(Node &n) {
  Algebra a(n);
  const Expr mels = n.host_scalar(0, 1, 65536), length = n.host_scalar(1, 1, kMaxDim), bins = floordiv(length, Expr(2)) + 1;
  n.check_dims({bins, mels});
  const auto scalar = [&](size_t i) { return n.b.convert(kF64, n.as_scalar(n.in(i))); };
  const auto to_mel = [&](ValueId hertz) { return a.mul(a.map(K::kLog, a.add(a.div(hertz, 700), 1)), 2595 / std::log(10.0)); };
  const ValueId low = to_mel(scalar(3)), step = a.div(a.sub(to_mel(scalar(4)), low), a.number(kF64, mels + 2));
  const ValueId mel = a.add(a.mul(n.b.convert(kF64, a.iota(kI64, mels + 2)), step), low);
  const ValueId hertz = a.mul(a.sub(a.map(K::kExp, a.mul(mel, std::log(10.0) / 2595)), 1), 700);
  const ValueId edge = a.floor(a.div(a.mul(hertz, a.number(kF64, length + 1)), scalar(2)));
  const ValueId left = a.cut(edge, 0, 0, mels), centre = a.cut(edge, 0, 1, mels), right = a.cut(edge, 0, 2, mels);
  const ValueId bin = n.b.convert(kF64, a.iota(kI64, bins, 0, 2)), one = a.number(kF64, 1.0), zero = a.number(kF64, 0.0);
  const ValueId rise = a.div(a.sub(bin, left), a.max(a.sub(centre, left), one));
  const ValueId fall = a.div(a.sub(right, bin), a.max(a.sub(right, centre), one));
  const ValueId rising = a.both(a.le(left, bin), a.lt(bin, centre)), falling = a.both(a.lt(centre, bin), a.lt(bin, right));
  const ValueId weight = a.select(a.eq(bin, centre), one, a.select(rising, rise, a.select(falling, fall, zero)));
  n.set(0, n.b.convert(output_type(n), weight));
}

void import_mel_weight_matrix(Node &n) {
  n.need_inputs(5, 5);
  for (size_t i = 0; i < 5; ++i)
    if (!n.constant_floats(i)) {
      mel_at_run_time(n);
      return;
    }
  import_mel(n);
}

// cos and sin of 2 pi r c / length; the product is reduced first, so that large ones lose nothing. A constant where the
// sizes are known, else computed in f32.
struct Waves {
  ValueId cosine, sine; // [rows, columns]
};

// `both_sides`: a one-sided spectrum stands for both, so all rows but the first and (even lengths) the last count twice.
Waves waves(Node &n, ElementType e, const Expr &rows, const Expr &columns, const Expr &length, bool both_sides) {
  n.check_dims({rows, columns});
  if (!rows.is_constant() || !columns.is_constant() || !length.is_constant() || *rows.constant() * *columns.constant() > 1 << 26) {
    Algebra a(n);
    const ValueId row = a.iota(kI64, rows, 0, 2), column = a.iota(kI64, columns, 1, 2), period = a.number(kI64, length);
    // By quarters of a turn, so that a half and a quarter give exactly 0, 1 and -1.
    const ValueId quarters = a.mul(a.map(K::kRem, a.mul(row, column), period), 4);
    const ValueId quarter = a.map(K::kDiv, quarters, period), rest = a.map(K::kRem, quarters, period);
    const ValueId angle = a.mul(a.div(a.convert(e, rest), a.number(e, length)), kPi / 2);
    const ValueId near = a.map(K::kCos, angle), far = a.map(K::kSin, angle);
    const ValueId odd = a.eq(a.map(K::kRem, quarter, a.number(kI64, 2.0)), a.number(kI64, 1.0));
    const ValueId behind = a.le(a.number(kI64, 2.0), quarter);
    const auto turned = [&](ValueId v, ValueId negative) { return a.select(negative, a.map(K::kNeg, v), v); };
    ValueId c = turned(a.select(odd, far, near), a.map(K::kXor, odd, behind)), s = turned(a.select(odd, near, far), behind);
    if (both_sides) {
      const ValueId end = a.map(K::kOr, a.eq(row, a.number(kI64, 0.0)), a.eq(a.mul(row, 2), period));
      const ValueId weight = a.select(end, a.number(e, 1.0), a.number(e, 2.0));
      c = a.mul(c, weight);
      s = a.mul(s, weight);
    }
    return {c, s};
  }
  std::vector<double> c, s;
  const int64_t period = *length.constant();
  for (int64_t r = 0; r < *rows.constant(); ++r) {
    const double weight = both_sides && r != 0 && 2 * r != period ? 2 : 1;
    for (int64_t k = 0; k < *columns.constant(); ++k) {
      // By quarters of a turn, so that a half and a quarter give exactly 0, 1 and -1.
      const int64_t quarters = r * k % period * 4, quarter = quarters / period;
      const double angle = kPi / 2 * static_cast<double>(quarters % period) / static_cast<double>(period);
      const double near = std::cos(angle), far = std::sin(angle);
      const double cosines[] = {near, -far, -near, far}, sines[] = {far, near, -far, -near};
      c.push_back(weight * cosines[quarter]);
      s.push_back(weight * sines[quarter]);
    }
  }
  const TensorType type{e, {rows, columns}};
  return {n.b.constant(type, graph::make_floats(e, c)), n.b.constant(type, graph::make_floats(e, s))};
}

struct Transform {
  bool inverse, onesided;
  int64_t parts; // of the input's last axis: 1 real, 2 complex
  Expr length;   // of the transform; absent (0): what the signal gives
};

// before: y = DFT(x[.., l, .., 1 or 2]); after: products of the real and imaginary parts with cosines and sines
ValueId transform(Node &n, const Transform &t, size_t axis) {
  Algebra a(n);
  const size_t rank = n.dims(0).size();
  const Expr signal = n.dims(0)[axis];
  const ElementType work = n.element(0) == kF64 ? kF64 : kF32;
  Expr length = t.length;
  if (length == Expr(0))
    length = t.inverse && t.onesided ? (signal - 1) * 2 : signal;
  // The transformed axis last but one, as rows of a matrix.
  std::vector<uint32_t> order, back(rank);
  for (uint32_t d = 0; d + 1 < static_cast<uint32_t>(rank); ++d)
    if (d != axis)
      order.push_back(d);
  order.push_back(static_cast<uint32_t>(axis));
  order.push_back(static_cast<uint32_t>(rank) - 1);
  for (uint32_t d = 0; d < order.size(); ++d)
    back[order[d]] = d;
  const ValueId x = n.b.transpose(a.convert(work, n.in(0)), order);
  Dims to = n.dims_of(x);
  const Expr rest = product(Dims(to.begin(), to.end() - 2));
  const Expr half = floordiv(length, Expr(2)) + 1;
  const Expr used = min(signal, t.inverse && t.onesided ? half : length); // what is missing is zero, what is over is cut
  const Expr points = t.onesided && !t.inverse ? half : length;
  const ValueId rows = a.cut(n.reshape(x, {rest, signal, Expr(t.parts)}), 1, 0, used);
  const Waves w = waves(n, work, used, points, length, t.inverse && t.onesided);
  const auto times = [&](int64_t part, ValueId matrix) { return n.b.contract(a.pick(rows, 2, part), matrix, "rl", "lk", "rk"); };
  ValueId real = times(0, w.cosine), imaginary = times(0, w.sine);
  if (!t.inverse)
    imaginary = a.map(K::kNeg, imaginary);
  if (t.parts == 2) {
    const ValueId cross = times(1, w.sine), straight = times(1, w.cosine);
    real = t.inverse ? a.sub(real, cross) : a.add(real, cross);
    imaginary = a.add(imaginary, straight);
  }
  if (t.inverse) {
    const ValueId size = a.number(work, length);
    real = a.div(real, size);
    imaginary = a.div(imaginary, size);
  }
  const bool real_only = t.inverse && t.onesided;
  const ValueId y = real_only ? a.insert(real, 2) : n.b.concat({a.insert(real, 2), a.insert(imaginary, 2)}, 2);
  to[to.size() - 2] = points;
  to.back() = real_only ? 1 : 2;
  return n.lower(n.element(0), n.b.transpose(n.reshape(y, to), back));
}

void import_dft(Node &n) {
  n.need_inputs(1, n.opset < 20 ? 2 : 3);
  n.need_float(0);
  const int64_t rank = n.rank(0);
  if (rank < 2)
    n.fail("takes [.., signal, .., 1 or 2], got " + to_string(n.type(0)));
  const auto parts = n.dims(0).back().constant();
  if (!parts || (*parts != 1 && *parts != 2))
    n.fail("the last dim must be 1 or 2, got " + to_string(n.type(0)));
  Transform t{n.int_attr("inverse", 0) != 0, n.int_attr("onesided", 0) != 0, *parts, Expr(0)};
  if (t.onesided && !t.inverse && t.parts == 2)
    n.fail("a one-sided transform takes a real signal");
  if (n.has(1))
    t.length = n.host_scalar(1, 1, kMaxDim);
  if (n.opset < 20 || !n.has(2)) {
    const size_t axis = static_cast<size_t>(n.axis(n.opset < 20 ? n.int_attr("axis", 1) : -2, rank));
    if (axis + 1 == static_cast<size_t>(rank))
      n.fail("the last axis holds real and imaginary parts and cannot be transformed");
    n.set(0, transform(n, t, axis));
    return;
  }
  const Expr given = n.host_scalar(2, -rank, rank - 1), axis = select(less(given, Expr(0)), given + Expr(rank), given);
  if (axis.constant() && (*axis.constant() < 0 || *axis.constant() >= rank - 1))
    n.fail("axis " + given.to_string() + " cannot be transformed: the last one holds real and imaginary parts");
  if (!axis.constant())
    n.b.check(less(axis, Expr(rank - 1)), "node '" + n.name + "' (" + n.source + "): the last axis cannot be transformed");
  n.set(0, choose_axes(n, {axis}, rank - 1, [&](const std::vector<uint32_t> &axes) { return transform(n, t, axes[0]); }));
}

// before: y = STFT(x[b,l,1 or 2], step, window); after: a convolution of stride `step` with 2k filters of the frame's length,
// or, where a size is known at run time only, gathered frames times the filters
void import_stft(Node &n) {
  n.need_inputs(2, 4);
  n.need_float(0);
  Algebra a(n);
  if (n.rank(0) != 3 || !n.dims(0)[2].constant())
    n.fail("takes [batch,signal,1 or 2], got " + to_string(n.type(0)));
  const int64_t parts = *n.dims(0)[2].constant();
  const Expr step = n.host_scalar(1, 1, kMaxDim), signal = n.dims(0)[1];
  Expr length = n.has(3) ? n.host_scalar(3, 1, kMaxDim) : n.has(2) ? n.dims(2).at(0) : signal;
  if (n.has(2)) {
    if (n.rank(2) != 1)
      n.fail("the window must be a list, got " + to_string(n.type(2)));
    n.require_equal(n.dims(2)[0], length, "window " + to_string(n.type(2)) + " and frame_length");
    length = n.dims(2)[0];
  }
  const bool onesided = n.int_attr("onesided", 1) != 0;
  if ((parts != 1 && parts != 2) || (parts == 2 && onesided))
    n.fail("takes a real signal, or a complex one with onesided 0");
  const ElementType work = n.element(0) == kF64 ? kF64 : kF32;
  const Expr points = onesided ? floordiv(length, Expr(2)) + 1 : length;
  const Waves w = waves(n, work, points, length, length, false);
  const ValueId c = a.insert(w.cosine, 1), s = a.insert(w.sine, 1), minus = a.map(K::kNeg, s);
  ValueId filters = n.b.concat({c, minus}, 0); // [2k, 1, n]: real parts, then imaginary ones
  if (parts == 2)
    filters = n.b.concat({filters, n.b.concat({s, c}, 0)}, 1);
  if (n.has(2))
    filters = a.mul(filters, a.convert(work, n.in(2)));
  if (signal.upper() < length.lower())
    n.fail("the signal " + to_string(n.type(0)) + " is shorter than a frame of " + length.to_string());
  if (!proves_le(length, signal))
    n.b.check(less_equal(length, signal), "node '" + n.name + "' (" + n.source + "): the signal is shorter than a frame");
  const ValueId x = n.b.transpose(a.convert(work, n.in(0)), {0, 2, 1}); // [b, parts, l]
  ValueId y; // [b, 2k, frames]
  if (step.constant() && length.constant()) {
    y = n.b.conv(x, filters, {*step.constant()}, {1}, {Expr(0)}, {Expr(0)}, 1);
  } else {
    const Expr frames = max(floordiv(signal - length, step) + 1, Expr(0));
    const ValueId at = a.add(a.mul(a.iota(kI64, frames, 0, 2), a.number(kI64, step)), a.iota(kI64, length, 1, 2));
    y = n.b.contract(filters, n.b.gather(x, at, 2), "kpn", "bpfn", "bkf");
  }
  const Dims d = n.dims_of(y);
  n.set(0, n.lower(n.element(0), n.b.transpose(n.reshape(y, {d[0], 2, points, d[2]}), {0, 3, 2, 1})));
}

} // namespace

std::vector<OperatorRow> signal_operators() {
  return {
      {"", "BlackmanWindow", 17, kMaxOpset, import_blackman},
      {"", "DFT", 17, kMaxOpset, import_dft},
      {"", "HammingWindow", 17, kMaxOpset, import_hamming},
      {"", "HannWindow", 17, kMaxOpset, import_hann},
      {"", "MelWeightMatrix", 17, kMaxOpset, import_mel_weight_matrix},
      {"", "STFT", 17, kMaxOpset, import_stft},
  };
}

} // namespace ingot::aotc::importer
