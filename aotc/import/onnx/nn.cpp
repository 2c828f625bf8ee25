// Convolutions.
#include <algorithm>

#include "aotc/graph/check.h"
#include "aotc/import/onnx/math.h"
#include "aotc/import/onnx/window.h"

namespace ingot::aotc::importer {

std::vector<int64_t> spatial_ints(Node &n, const char *name, size_t count, int64_t otherwise) {
  const auto given = n.ints_attr(name);
  if (!given || given->empty())
    return std::vector<int64_t>(count, otherwise);
  if (given->size() != count)
    n.fail(std::string("attribute '") + name + "' has " + std::to_string(given->size()) + " entries for " +
           std::to_string(count) + " spatial axes");
  for (int64_t v : *given)
    if (v < 1 || v > 0x7fffffff)
      n.fail(std::string("attribute '") + name + "' holds " + std::to_string(v));
  return *given;
}

Window read_window(Node &n, const std::vector<Expr> &kernel) {
  const size_t spatial = kernel.size();
  Window w;
  w.strides = spatial_ints(n, "strides", spatial, 1);
  w.dilations = spatial_ints(n, "dilations", spatial, 1);
  const std::string auto_pad = n.string_attr("auto_pad", "NOTSET");
  if (auto_pad == "NOTSET") {
    const auto pads = n.ints_attr("pads");
    if (pads && !pads->empty()) {
      if (pads->size() != 2 * spatial)
        n.fail("attribute 'pads' has " + std::to_string(pads->size()) + " entries, expected " + std::to_string(2 * spatial));
      for (int64_t p : *pads)
        if (p < 0 || p > 0x7fffffff)
          n.fail("attribute 'pads' holds " + std::to_string(p));
      w.low.assign(pads->begin(), pads->begin() + static_cast<long>(spatial));
      w.high.assign(pads->begin() + static_cast<long>(spatial), pads->end());
    } else {
      w.low.assign(spatial, Expr(0));
      w.high.assign(spatial, Expr(0));
    }
  } else if (auto_pad == "VALID") {
    w.low.assign(spatial, Expr(0));
    w.high.assign(spatial, Expr(0));
  } else if (auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER") {
    for (size_t i = 0; i < spatial; ++i) {
      const Expr in = n.dims(0)[i + 2], stride = w.strides[i];
      const Expr out = ceildiv(in, stride);
      const Expr total = max((out - 1) * stride + (kernel[i] - 1) * Expr(w.dilations[i]) + 1 - in, Expr(0));
      const Expr half = floordiv(total, Expr(2));
      w.low.push_back(auto_pad == "SAME_UPPER" ? half : total - half);
      w.high.push_back(auto_pad == "SAME_UPPER" ? total - half : half);
    }
  } else {
    n.fail("attribute 'auto_pad' is '" + auto_pad + "', expected NOTSET, VALID, SAME_UPPER or SAME_LOWER");
  }
  return w;
}

namespace {

// Adds a bias [m] along axis 1; the sum is made in f32 for 16-bit floats.
ValueId add_bias(Node &n, ValueId y, size_t input) {
  const ElementType e = n.b.type(y).element;
  const Dims dims = n.dims_of(y);
  n.need_same_element(0, input);
  if (n.rank(input) != 1)
    n.fail("the bias must be of rank 1, got " + to_string(n.type(input)));
  n.require_equal(n.dims(input)[0], dims[1], "bias " + to_string(n.type(input)) + " and output channels");
  const ValueId bias = n.b.broadcast(n.lift(n.in(input)), {1}, dims);
  return n.lower(e, n.b.map(K::kAdd, {n.lift(y), bias}));
}

// Kernel extents: the weight's dims, which kernel_shape must agree with.
std::vector<Expr> kernel_extents(Node &n) {
  const size_t rank = n.dims(0).size();
  if (rank < 3)
    n.fail("takes [n,c,spatial...], got " + to_string(n.type(0)));
  if (n.dims(1).size() != rank)
    n.fail("input and weight differ in rank: " + to_string(n.type(0)) + " and " + to_string(n.type(1)));
  const std::vector<Expr> kernel(n.dims(1).begin() + 2, n.dims(1).end());
  if (const auto shape = n.ints_attr("kernel_shape"); shape && !shape->empty()) {
    if (shape->size() != kernel.size())
      n.fail("attribute 'kernel_shape' has " + std::to_string(shape->size()) + " entries for " +
             std::to_string(kernel.size()) + " spatial axes");
    for (size_t i = 0; i < kernel.size(); ++i)
      n.require_equal(kernel[i], Expr((*shape)[i]), "kernel_shape and weight " + to_string(n.type(1)));
  }
  return kernel;
}

int64_t groups(Node &n) {
  const int64_t group = n.int_attr("group", 1);
  if (group < 1 || group > 0x7fffffff)
    n.fail("attribute 'group' is " + std::to_string(group));
  return group;
}

void import_conv(Node &n) {
  n.need_inputs(2, 3);
  n.need_float(0);
  n.need_same_element(0, 1);
  const std::vector<Expr> kernel = kernel_extents(n);
  const int64_t group = groups(n);
  const std::string types = to_string(n.type(0)) + " and weight " + to_string(n.type(1));
  n.require_equal(n.dims(0)[1], n.dims(1)[1] * Expr(group), "channels of " + types + " with group " + std::to_string(group));
  if (n.dims(1)[0].constant() && *n.dims(1)[0].constant() % group != 0)
    n.fail("group " + std::to_string(group) + " does not divide the " + n.dims(1)[0].to_string() + " filters");
  const Window w = read_window(n, kernel);
  for (size_t i = 0; i < kernel.size(); ++i) {
    const Expr extent =
        graph::window_extent(n.dims(0)[i + 2], w.low[i], w.high[i], kernel[i], w.strides[i], w.dilations[i]);
    if (extent.constant() && *extent.constant() < 1 && !(n.dims(0)[i + 2] == Expr(0)))
      n.fail("the kernel is larger than the padded input: " + types);
  }
  ValueId y = n.b.conv(n.in(0), n.in(1), w.strides, w.dilations, w.low, w.high, group);
  if (n.has(2))
    y = add_bias(n, y, 2);
  n.set(0, y);
}

// A transposed convolution is a convolution of the input, spread out by the strides, with the flipped kernel.
// The transposed convolution without pads, by phases. With stride s, result s*i + r is a plain convolution of its own for
// each r: sum over a of x[i - a] w[r + s*a]. All phases together are one convolution with s times the channels (for each
// strided axis), whose result is interleaved; nothing is multiplied by the zeros that a stride would put between.
//
//   x[n,c,h,w], w[c,m/g,kh,kw], stride 2   ->   [n, m*2*2, h+a-1, w+b-1]   ->   [n, m, (h+a-1)*2, (w+b-1)*2]
//
// Nothing where the rank would be too high or a strided axis is dilated.
std::optional<ValueId> transposed_by_phases(Node &n, const std::vector<Expr> &kernel, const std::vector<int64_t> &strides,
                                            const std::vector<int64_t> &dilations, int64_t group) {
  const size_t spatial = kernel.size();
  const Dims x_dims = n.dims(0), w_dims = n.dims(1);
  if (spatial > 2)
    return std::nullopt;
  std::vector<int64_t> taps, conv_dilations; // of one phase
  for (size_t i = 0; i < spatial; ++i) {
    if (!kernel[i].is_constant() || (strides[i] > 1 && dilations[i] != 1))
      return std::nullopt;
    taps.push_back((*kernel[i].constant() + strides[i] - 1) / strides[i]);
    conv_dilations.push_back(strides[i] > 1 ? 1 : dilations[i]);
  }
  // w -> [g, c/g, m/g, taps, phases, ...], taps in reverse -> [g * m/g * phases, c/g, taps...]
  const Expr g = group, c = floordiv(w_dims[0], g), m = w_dims[1];
  std::vector<Expr> none(w_dims.size(), Expr(0)), behind = none;
  Dims parts = {g, c, m};
  std::vector<Expr> starts(3, Expr(0));
  std::vector<int64_t> steps(3, 1);
  std::vector<uint32_t> permutation = {0, 2}, tap_axes;
  Expr channels = g * m;
  Dims joined = {c};
  for (size_t i = 0; i < spatial; ++i) {
    behind[i + 2] = Expr(taps[i] * strides[i]) - kernel[i];
    permutation.push_back(static_cast<uint32_t>(parts.size()) + 1);
    tap_axes.push_back(static_cast<uint32_t>(parts.size()));
    parts.push_back(taps[i]);
    parts.push_back(strides[i]);
    starts.insert(starts.end(), {Expr(taps[i] - 1), Expr(0)});
    steps.insert(steps.end(), {-1, 1});
    channels = channels * Expr(strides[i]);
    joined.push_back(taps[i]);
  }
  permutation.push_back(1);
  permutation.insert(permutation.end(), tap_axes.begin(), tap_axes.end());
  joined.insert(joined.begin(), channels);
  ValueId w = n.b.pad(n.in(1), none, behind, graph::PadMode::kConstant, n.b.splat_float(n.element(1), {}, 0));
  w = n.b.slice(n.reshape(w, parts), starts, steps, parts);
  w = n.reshape(n.b.transpose(w, permutation), joined);
  std::vector<Expr> pads;
  for (size_t i = 0; i < spatial; ++i)
    pads.push_back(Expr((taps[i] - 1) * conv_dilations[i]));
  ValueId y = n.b.conv(n.in(0), w, std::vector<int64_t>(spatial, 1), conv_dilations, pads, pads, group);
  // [n, m, phases..., positions...] -> each position's phases behind it
  const Dims out = n.dims_of(y);
  Dims split = {out[0], g * m}, whole = split;
  std::vector<uint32_t> order = {0, 1};
  for (size_t i = 0; i < spatial; ++i)
    split.push_back(strides[i]);
  for (size_t i = 0; i < spatial; ++i) {
    split.push_back(out[i + 2]);
    whole.push_back(out[i + 2] * Expr(strides[i]));
    order.insert(order.end(), {static_cast<uint32_t>(2 + spatial + i), static_cast<uint32_t>(2 + i)});
  }
  return n.reshape(n.b.transpose(n.reshape(y, split), order), whole);
}

void import_conv_transpose(Node &n) {
  n.need_inputs(2, 3);
  n.need_float(0);
  n.need_same_element(0, 1);
  const std::vector<Expr> kernel = kernel_extents(n);
  const size_t spatial = kernel.size();
  const int64_t group = groups(n);
  const Dims x_dims = n.dims(0), w_dims = n.dims(1);
  n.require_equal(x_dims[1], w_dims[0], "channels of " + to_string(n.type(0)) + " and weight " + to_string(n.type(1)));
  if (w_dims[0].constant() && *w_dims[0].constant() % group != 0)
    n.fail("group " + std::to_string(group) + " does not divide the channels of " + to_string(n.type(0)));
  const std::vector<int64_t> strides = spatial_ints(n, "strides", spatial, 1);
  const std::vector<int64_t> dilations = spatial_ints(n, "dilations", spatial, 1);
  std::vector<int64_t> output_padding(spatial, 0);
  if (const auto given = n.ints_attr("output_padding"); given && !given->empty()) {
    if (given->size() != spatial || *std::min_element(given->begin(), given->end()) < 0)
      n.fail("attribute 'output_padding' does not fit");
    output_padding = *given;
  }
  const auto output_shape = n.ints_attr("output_shape");
  if (output_shape && !output_shape->empty() && output_shape->size() != spatial)
    n.fail("attribute 'output_shape' has " + std::to_string(output_shape->size()) + " entries for " +
           std::to_string(spatial) + " spatial axes");
  const std::string auto_pad = n.string_attr("auto_pad", "NOTSET");
  std::vector<Expr> low(spatial, Expr(0)), high(spatial, Expr(0)), full(spatial);
  for (size_t i = 0; i < spatial; ++i) // what the pads are cut from
    full[i] = (x_dims[i + 2] - 1) * Expr(strides[i]) + Expr(output_padding[i]) + (kernel[i] - 1) * Expr(dilations[i]) + 1;
  const bool shaped = output_shape && !output_shape->empty();
  if (shaped || auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER") {
    for (size_t i = 0; i < spatial; ++i) {
      const Expr wanted = shaped ? Expr((*output_shape)[i]) : x_dims[i + 2] * Expr(strides[i]);
      const Expr total = max(full[i] - wanted, Expr(0));
      if (shaped && proves_lt(full[i], wanted)) {
        output_padding[i] += *(wanted - full[i]).constant(); // both constant, or it is not proven
        full[i] = wanted;
      }
      const Expr half = floordiv(total, Expr(2));
      low[i] = auto_pad == "SAME_UPPER" ? half : total - half;
      high[i] = total - low[i];
    }
  } else if (auto_pad == "NOTSET") {
    if (const auto pads = n.ints_attr("pads"); pads && !pads->empty()) {
      if (pads->size() != 2 * spatial)
        n.fail("attribute 'pads' has " + std::to_string(pads->size()) + " entries, expected " + std::to_string(2 * spatial));
      for (size_t i = 0; i < spatial; ++i) {
        low[i] = (*pads)[i];
        high[i] = (*pads)[spatial + i];
      }
    }
  } else if (auto_pad != "VALID") {
    n.fail("attribute 'auto_pad' is '" + auto_pad + "', expected NOTSET, VALID, SAME_UPPER or SAME_LOWER");
  }
  if (std::any_of(strides.begin(), strides.end(), [](int64_t s) { return s > 1; })) {
    if (auto whole = transposed_by_phases(n, kernel, strides, dilations, group)) {
      // Cut at the pads; what output_padding adds behind the last phase is zero.
      const Dims there = n.dims_of(*whole);
      Dims out = there;
      std::vector<Expr> none(there.size(), Expr(0)), behind = none, cut = none;
      for (size_t i = 0; i < spatial; ++i) {
        out[i + 2] = full[i] - low[i] - high[i];
        if (out[i + 2].constant() && *out[i + 2].constant() < 0)
          n.fail("the pads are larger than the result");
        behind[i + 2] = max(full[i] - there[i + 2], Expr(0));
        cut[i + 2] = low[i];
      }
      ValueId y = n.b.pad(*whole, none, behind, graph::PadMode::kConstant, n.b.splat_float(n.element(0), {}, 0));
      y = n.b.slice(y, cut, std::vector<int64_t>(out.size(), 1), out);
      if (n.has(2))
        y = add_bias(n, y, 2);
      n.set(0, y);
      return;
    }
  }
  // x[n,c,h,w] -> x[n,c,(h-1)*s+1,...] with zeros between.
  ValueId x = n.in(0);
  for (size_t i = 0; i < spatial; ++i) {
    if (strides[i] == 1)
      continue;
    Dims now = n.dims_of(x);
    Dims split(now.begin(), now.begin() + static_cast<long>(i) + 3);
    split.push_back(1);
    split.insert(split.end(), now.begin() + static_cast<long>(i) + 3, now.end());
    std::vector<Expr> none(split.size(), Expr(0)), behind = none;
    behind[i + 3] = strides[i] - 1;
    if (split.size() > 8)
      n.fail("rank " + std::to_string(now.size()) + " is too high");
    x = n.b.pad(n.reshape(x, split), none, behind, graph::PadMode::kConstant, n.b.splat_float(n.element(0), {}, 0));
    Dims joined = now;
    joined[i + 2] = now[i + 2] * Expr(strides[i]);
    x = n.reshape(x, joined);
    Dims cut = joined;
    cut[i + 2] = (now[i + 2] - 1) * Expr(strides[i]) + 1;
    x = n.b.slice(x, std::vector<Expr>(cut.size(), Expr(0)), std::vector<int64_t>(cut.size(), 1), cut);
  }
  // w[c,m/g,k...] -> flipped [m,c/g,k...]
  const Expr g = group, c = floordiv(w_dims[0], g), m = w_dims[1];
  Dims grouped = {g, c, m};
  grouped.insert(grouped.end(), kernel.begin(), kernel.end());
  std::vector<uint32_t> permutation = {0, 2, 1};
  for (uint32_t i = 3; i < grouped.size(); ++i)
    permutation.push_back(i);
  Dims joined = {g * m, c};
  joined.insert(joined.end(), kernel.begin(), kernel.end());
  if (grouped.size() > 8)
    n.fail("rank " + std::to_string(w_dims.size()) + " is too high");
  ValueId w = n.reshape(n.b.transpose(n.reshape(n.in(1), grouped), permutation), joined);
  std::vector<Expr> starts = {0, 0};
  std::vector<int64_t> steps = {1, 1};
  for (size_t i = 0; i < spatial; ++i) {
    starts.push_back(kernel[i] - 1);
    steps.push_back(-1);
  }
  w = n.b.slice(w, starts, steps, joined);
  // Pads of the plain convolution; what would be negative is cut off the result.
  std::vector<Expr> conv_low, conv_high, cut(2, Expr(0));
  for (size_t i = 0; i < spatial; ++i) {
    const Expr reach = (kernel[i] - 1) * Expr(dilations[i]);
    conv_low.push_back(reach);
    conv_high.push_back(reach + Expr(output_padding[i]));
    cut.push_back(low[i]);
  }
  ValueId y = n.b.conv(x, w, std::vector<int64_t>(spatial, 1), dilations, conv_low, conv_high, group);
  Dims out = n.dims_of(y);
  for (size_t i = 0; i < spatial; ++i) {
    out[i + 2] = out[i + 2] - low[i] - high[i];
    if (out[i + 2].constant() && *out[i + 2].constant() < 0)
      n.fail("the pads are larger than the result");
  }
  y = n.b.slice(y, cut, std::vector<int64_t>(out.size(), 1), out);
  if (n.has(2))
    y = add_bias(n, y, 2);
  n.set(0, y);
}

} // namespace

std::vector<OperatorRow> nn_operators() {
  return {
      {"", "Conv", 6, kMaxOpset, import_conv},
      {"", "ConvTranspose", 6, kMaxOpset, import_conv_transpose},
  };
}

} // namespace ingot::aotc::importer
