// Operators that move elements: slices, concatenations, permutations, padding. Host values are moved on the host.
#include <algorithm>
#include <functional>

#include "aotc/graph/constant.h"
#include "aotc/import/onnx/math.h"
#include "aotc/import/onnx/runtime_axes.h"

namespace ingot::aotc::importer {

namespace {

// If input 0 is a host value and the result is small: output element k is input element source(coordinates of k).
bool fold_move(Node &n, const Dims &to, const std::function<size_t(const std::vector<int64_t> &)> &source) {
  const std::vector<Expr> *host = n.host(0);
  const auto count = product(to).constant();
  if (!host || !count || *count > kMaxHostElements)
    return false;
  for (const Expr &dim : to)
    if (!dim.constant())
      return false;
  std::vector<Expr> out;
  std::vector<int64_t> at(to.size());
  for (int64_t k = 0; k < *count; ++k) {
    int64_t rest = k;
    for (size_t i = to.size(); i-- > 0;) {
      at[i] = rest % *to[i].constant();
      rest /= *to[i].constant();
    }
    out.push_back((*host)[source(at)]);
  }
  n.set_host(0, n.element(0), to, std::move(out));
  return true;
}

size_t flat(const Dims &dims, const std::vector<int64_t> &at) {
  size_t index = 0;
  for (size_t i = 0; i < dims.size(); ++i)
    index = index * static_cast<size_t>(*dims[i].constant()) + static_cast<size_t>(at[i]);
  return index;
}

void import_transpose(Node &n) {
  n.need_inputs(1, 1);
  const size_t rank = n.dims(0).size();
  std::vector<uint32_t> permutation(rank);
  if (const auto perm = n.ints_attr("perm")) {
    if (perm->size() != rank)
      n.fail("perm has " + std::to_string(perm->size()) + " entries for rank " + std::to_string(rank));
    std::vector<bool> seen(rank);
    for (size_t i = 0; i < rank; ++i) {
      const int64_t a = n.axis((*perm)[i], static_cast<int64_t>(rank));
      if (seen[static_cast<size_t>(a)])
        n.fail("perm names axis " + std::to_string(a) + " twice");
      seen[static_cast<size_t>(a)] = true;
      permutation[i] = static_cast<uint32_t>(a);
    }
  } else {
    for (size_t i = 0; i < rank; ++i)
      permutation[i] = static_cast<uint32_t>(rank - 1 - i);
  }
  const Dims from = n.dims(0);
  Dims to;
  for (uint32_t axis : permutation)
    to.push_back(from[axis]);
  if (fold_move(n, to, [&](const std::vector<int64_t> &at) {
        std::vector<int64_t> source(rank);
        for (size_t i = 0; i < rank; ++i)
          source[permutation[i]] = at[i];
        return flat(from, source);
      }))
    return;
  n.set(0, n.b.transpose(n.in(0), permutation));
}

void import_concat(Node &n) {
  n.need_inputs(1, SIZE_MAX);
  if (!n.attribute("axis"))
    n.fail("attribute 'axis' is missing");
  const int64_t rank = n.rank(0);
  if (rank == 0)
    n.fail("takes no scalars");
  const size_t axis = static_cast<size_t>(n.axis(n.int_attr("axis", 0), rank));
  Dims dims = n.dims(0);
  for (size_t i = 1; i < n.inputs(); ++i) {
    n.need_same_element(0, i);
    if (n.rank(i) != rank)
      n.fail("inputs 0 and " + std::to_string(i) + " differ in rank: " + to_string(n.type(0)) + " and " + to_string(n.type(i)));
    for (size_t d = 0; d < dims.size(); ++d)
      dims[d] = d == axis ? dims[d] + n.dims(i)[d]
                          : n.unify(dims[d], n.dims(i)[d],
                                    "inputs 0 and " + std::to_string(i) + " (" + to_string(n.type(0)) + " and " +
                                        to_string(n.type(i)) + "), axis " + std::to_string(d));
  }
  n.check_dims(dims);
  if (n.all_host() && product(dims).constant().value_or(kMaxHostElements + 1) <= kMaxHostElements) {
    // Rows of each input, in turn for each index of the outer axes.
    int64_t outer = 1;
    for (size_t d = 0; d < axis; ++d)
      outer *= *dims[d].constant();
    std::vector<Expr> out;
    for (int64_t o = 0; o < outer; ++o)
      for (size_t i = 0; i < n.inputs(); ++i) {
        const std::vector<Expr> &values = *n.host(i);
        const size_t row = values.size() / static_cast<size_t>(outer);
        out.insert(out.end(), values.begin() + static_cast<long>(static_cast<size_t>(o) * row),
                   values.begin() + static_cast<long>((static_cast<size_t>(o) + 1) * row));
      }
    n.set_host(0, n.element(0), dims, std::move(out));
    return;
  }
  std::vector<ValueId> xs;
  for (size_t i = 0; i < n.inputs(); ++i)
    xs.push_back(n.in(i));
  n.set(0, n.b.concat(std::move(xs), static_cast<uint32_t>(axis)));
}

void import_split(Node &n) {
  n.need_inputs(1, n.opset < 13 ? 1 : 2);
  const int64_t rank = n.rank(0);
  if (rank == 0)
    n.fail("takes no scalar");
  const size_t axis = static_cast<size_t>(n.axis(n.int_attr("axis", 0), rank));
  const Expr extent = n.dims(0)[axis];
  std::vector<Expr> sizes;
  if (n.opset < 13) {
    if (const auto split = n.ints_attr("split"))
      sizes.assign(split->begin(), split->end());
  } else if (n.has(1)) {
    sizes = n.shape_values(1, 0, kMaxDim);
  }
  const size_t parts = n.outputs();
  if (sizes.empty()) {
    const int64_t count = n.int_attr("num_outputs", static_cast<int64_t>(parts));
    if (count != static_cast<int64_t>(parts))
      n.fail("num_outputs is " + std::to_string(count) + ", the node has " + std::to_string(parts) + " outputs");
    if (n.opset < 18 && extent.constant() && *extent.constant() % count != 0)
      n.fail("axis " + std::to_string(axis) + " of " + to_string(n.type(0)) + " does not split into " +
             std::to_string(count) + " equal parts");
    const Expr chunk = ceildiv(extent, Expr(count));
    for (size_t i = 0; i < parts; ++i) // the last one may be smaller
      sizes.push_back(i + 1 < parts ? chunk : extent - chunk * Expr(count - 1));
  } else {
    if (sizes.size() != parts)
      n.fail("split has " + std::to_string(sizes.size()) + " entries, the node has " + std::to_string(parts) + " outputs");
    Expr sum = 0;
    for (const Expr &s : sizes) {
      if (s.constant() && *s.constant() < 0)
        n.fail("split holds " + s.to_string());
      sum = sum + s;
    }
    n.require_equal(sum, extent, "split sizes and axis " + std::to_string(axis) + " of " + to_string(n.type(0)));
  }
  Expr start = 0;
  const std::vector<Expr> *host = n.host(0);
  for (size_t i = 0; i < parts; ++i) {
    Dims dims = n.dims(0);
    dims[axis] = sizes[i];
    n.check_dims(dims);
    if (host && rank == 1 && start.constant() && sizes[i].constant()) {
      const auto from = host->begin() + *start.constant();
      n.set_host(i, n.element(0), dims, std::vector<Expr>(from, from + *sizes[i].constant()));
    } else {
      std::vector<Expr> starts(dims.size(), Expr(0));
      starts[axis] = start;
      n.set(i, n.b.slice(n.in(0), starts, std::vector<int64_t>(dims.size(), 1), dims));
    }
    start = start + sizes[i];
  }
}

// A bound of a slice, counted from the end if negative, clamped to [low, high] (high depends on the dim).
Expr slice_bound(const Expr &value, const Expr &dim, const Expr &low, const Expr &high) {
  constexpr int64_t kFar = 0x7fffffff;
  Expr v = value;
  if (const auto c = v.constant()) {
    if (*c >= kFar)
      return high;
    if (*c <= -kFar)
      return low;
    v = *c < 0 ? dim + Expr(*c) : Expr(*c);
  } else if (proves_lt(v, Expr(0))) {
    v = v + dim;
  } else if (!proves_ge0(v)) {
    v = select(less(v, Expr(0)), v + dim, v);
  }
  return max(min(v, high), low);
}

// Axes or steps known at run time only: each axis is picked by computed indices.
//   before: y = Slice(x, starts, ends, axes, steps)   after: gather(x, iota(start, step), axis) for each axis
void slice_at_run_time(Node &n) {
  constexpr int64_t kBound = 0x7fffffff;
  const int64_t rank = n.rank(0);
  const std::vector<Expr> starts = n.shape_values(1, -kBound, kBound, true), ends = n.shape_values(2, -kBound, kBound, true);
  std::vector<Expr> axes, steps(starts.size(), Expr(1));
  if (n.has(3))
    axes = axis_values(n, 3, rank);
  else
    for (size_t i = 0; i < starts.size(); ++i)
      axes.push_back(static_cast<int64_t>(i));
  if (n.has(4))
    steps = n.shape_values(4, -kMaxDim, kMaxDim, true);
  if (starts.size() != ends.size() || starts.size() != axes.size() || starts.size() != steps.size())
    n.fail("starts, ends, axes and steps differ in length");
  ValueId x = n.in(0);
  for (int64_t a = 0; a < rank; ++a) {
    const Expr dim = n.dims(0)[static_cast<size_t>(a)];
    Expr start = 0, end = dim, step = 1; // of this axis, from whichever entry names it
    for (size_t j = 0; j < axes.size(); ++j) {
      const Expr named = names_axis({axes[j]}, a, rank);
      start = select(named, starts[j], start);
      end = select(named, ends[j], end);
      step = select(named, steps[j], step);
    }
    if (start == Expr(0) && end == dim && step == Expr(1))
      continue;
    if (step.constant() && *step.constant() == 0)
      n.fail("a step is 0");
    if (!step.constant())
      n.b.check(logical_not(equal(step, Expr(0))), "node '" + n.name + "' (" + n.source + "): a step is 0");
    const Expr up = less(Expr(0), step), high = select(up, dim, dim - 1);
    const auto bound = [&](const Expr &v, const Expr &low) { return max(min(select(less(v, Expr(0)), v + dim, v), high), low); };
    const Expr first = bound(start, Expr(0)), last = bound(end, select(up, Expr(0), Expr(-1)));
    const Expr size = max(max(step, -step), Expr(1));
    const Expr count = max(ceildiv(select(up, last - first, first - last), size), Expr(0));
    x = n.b.gather(x, n.b.iota(ElementType::kI64, {count}, 0, first, step), static_cast<uint32_t>(a));
  }
  n.set(0, x);
}

void import_slice(Node &n) {
  if (n.opset >= 10 && ((n.has(3) && !n.constant_ints(3)) || (n.has(4) && !n.constant_ints(4)))) {
    n.need_inputs(3, 5);
    slice_at_run_time(n);
    return;
  }
  const int64_t rank = n.rank(0);
  std::vector<Expr> starts, ends;
  std::vector<int64_t> axes, steps;
  constexpr int64_t kBound = 0x7fffffff;
  if (n.opset < 10) {
    n.need_inputs(1, 1);
    const auto s = n.ints_attr("starts"), e = n.ints_attr("ends"), a = n.ints_attr("axes");
    if (!s || !e)
      n.fail("attributes 'starts' and 'ends' are needed");
    starts.assign(s->begin(), s->end());
    ends.assign(e->begin(), e->end());
    axes = a.value_or(std::vector<int64_t>());
    if (!a)
      for (size_t i = 0; i < starts.size(); ++i)
        axes.push_back(static_cast<int64_t>(i));
  } else {
    n.need_inputs(3, 5);
    starts = n.shape_values(1, -kBound, kBound, true);
    ends = n.shape_values(2, -kBound, kBound, true);
    if (n.has(3))
      axes = n.need_constant_ints(3, "axes");
    else
      for (size_t i = 0; i < starts.size(); ++i)
        axes.push_back(static_cast<int64_t>(i));
    if (n.has(4))
      steps = n.need_constant_ints(4, "steps");
  }
  if (steps.empty())
    steps.assign(starts.size(), 1);
  if (starts.size() != ends.size() || starts.size() != axes.size() || starts.size() != steps.size())
    n.fail("starts, ends, axes and steps differ in length");
  const Dims from = n.dims(0);
  Dims dims = from;
  std::vector<Expr> first(from.size(), Expr(0));
  std::vector<int64_t> stride(from.size(), 1);
  std::vector<bool> seen(from.size());
  for (size_t i = 0; i < axes.size(); ++i) {
    const size_t a = static_cast<size_t>(n.axis(axes[i], rank));
    if (seen[a])
      n.fail("axis " + std::to_string(axes[i]) + " is named twice");
    seen[a] = true;
    if (steps[i] == 0)
      n.fail("a step is 0");
    const int64_t step = std::clamp<int64_t>(steps[i], -kBound, kBound);
    const Expr dim = from[a];
    if (step > 0) {
      const Expr start = slice_bound(starts[i], dim, 0, dim), end = slice_bound(ends[i], dim, 0, dim);
      first[a] = start;
      dims[a] = max(ceildiv(end - start, Expr(step)), Expr(0));
    } else {
      const Expr start = slice_bound(starts[i], dim, 0, dim - 1), end = slice_bound(ends[i], dim, -1, dim - 1);
      first[a] = start;
      dims[a] = max(ceildiv(start - end, Expr(-step)), Expr(0));
    }
    stride[a] = step;
  }
  n.check_dims(dims);
  if (std::all_of(first.begin(), first.end(), [](const Expr &e) { return e.is_constant(); }) &&
      fold_move(n, dims, [&](const std::vector<int64_t> &at) {
        std::vector<int64_t> source(at.size());
        for (size_t i = 0; i < at.size(); ++i)
          source[i] = *first[i].constant() + at[i] * stride[i];
        return flat(from, source);
      }))
    return;
  n.set(0, n.b.slice(n.in(0), first, stride, dims));
}

// before: y = Pad(x, pads = -1, 2); after: slice 1 off the front, then pad 2 behind
void import_pad(Node &n) {
  const size_t rank = n.dims(0).size();
  std::vector<Expr> pads;
  std::vector<int64_t> axes;
  double attribute_value = 0;
  if (n.opset < 11) {
    n.need_inputs(1, 1);
    const auto p = n.ints_attr("pads");
    if (!p)
      n.fail("attribute 'pads' is missing");
    pads.assign(p->begin(), p->end());
    attribute_value = n.float_attr("value", 0);
  } else {
    n.need_inputs(2, n.opset < 18 ? 3 : 4);
    pads = n.shape_values(1, -kMaxDim, kMaxDim);
  }
  if (n.has(3) && !n.constant_ints(3)) { // known at run time only: each axis takes the entries that name it
    const std::vector<Expr> named = axis_values(n, 3, static_cast<int64_t>(rank));
    if (pads.size() != 2 * named.size())
      n.fail("pads has " + std::to_string(pads.size()) + " entries, expected " + std::to_string(2 * named.size()));
    std::vector<Expr> spread(2 * rank, Expr(0));
    for (size_t i = 0; i < rank; ++i)
      for (size_t j = 0; j < named.size(); ++j) {
        const Expr here = names_axis({named[j]}, static_cast<int64_t>(i), static_cast<int64_t>(rank));
        spread[i] = spread[i] + select(here, pads[j], Expr(0));
        spread[rank + i] = spread[rank + i] + select(here, pads[named.size() + j], Expr(0));
      }
    pads = spread;
  } else if (n.has(3)) {
    axes = n.need_constant_ints(3, "axes");
  }
  if (axes.empty() && !(n.has(3) && n.type(3).elements() == Expr(0)))
    for (size_t i = 0; i < rank; ++i)
      axes.push_back(static_cast<int64_t>(i));
  if (pads.size() != 2 * axes.size())
    n.fail("pads has " + std::to_string(pads.size()) + " entries, expected " + std::to_string(2 * axes.size()));
  const std::string mode_name = n.string_attr("mode", "constant");
  graph::PadMode mode = graph::PadMode::kConstant;
  if (mode_name == "reflect")
    mode = graph::PadMode::kReflect;
  else if (mode_name == "edge")
    mode = graph::PadMode::kEdge;
  else if (mode_name == "wrap")
    mode = graph::PadMode::kWrap;
  else if (mode_name != "constant")
    n.fail("attribute 'mode' is '" + mode_name + "', expected constant, reflect, edge or wrap");
  std::vector<Expr> low(rank, Expr(0)), high(rank, Expr(0)), crop(rank, Expr(0));
  Dims cropped = n.dims(0);
  bool crops = false;
  for (size_t i = 0; i < axes.size(); ++i) {
    const size_t a = static_cast<size_t>(n.axis(axes[i], static_cast<int64_t>(rank)));
    const Expr l = pads[i], h = pads[axes.size() + i];
    low[a] = max(l, Expr(0));
    high[a] = max(h, Expr(0));
    crop[a] = max(-l, Expr(0));
    cropped[a] = cropped[a] - crop[a] - max(-h, Expr(0));
    crops = crops || !(crop[a] == Expr(0)) || !(h == high[a]);
    if (mode != graph::PadMode::kConstant && cropped[a].constant() && *cropped[a].constant() == 0 &&
        !(low[a] + high[a] == Expr(0)))
      n.fail("mode " + mode_name + " cannot pad the empty axis " + std::to_string(a));
  }
  n.check_dims(cropped);
  ValueId x = n.in(0);
  if (crops)
    x = n.b.slice(x, crop, std::vector<int64_t>(rank, 1), cropped);
  ValueId value = kNoValue;
  if (mode == graph::PadMode::kConstant) {
    if (n.has(2)) {
      n.need_same_element(0, 2);
      value = n.as_scalar(n.in(2));
    } else if (is_float(n.element(0))) {
      value = n.b.splat_float(n.element(0), {}, attribute_value);
    } else {
      value = n.b.splat_int(n.element(0), {}, static_cast<int64_t>(attribute_value));
    }
  }
  Dims result = cropped;
  for (size_t i = 0; i < rank; ++i)
    result[i] = result[i] + low[i] + high[i];
  n.check_dims(result);
  n.set(0, n.b.pad(x, low, high, mode, value));
}

// The shape's dims are known at run time only, so either side may turn out to be 1 there. An axis whose own extent may be 1
// or the result's is a gather by min(i, extent - 1).
void expand_at_run_time(Node &n, const Dims &shape) {
  const Dims from = n.dims(0);
  const size_t rank = std::max(from.size(), shape.size());
  Dims seen(rank - from.size(), Expr(1)), to;
  seen.insert(seen.end(), from.begin(), from.end());
  std::vector<uint32_t> stretched;
  for (size_t i = 0; i < rank; ++i) {
    const Expr a = seen[i], c = i + shape.size() < rank ? Expr(1) : shape[i + shape.size() - rank];
    if (a == c || c == Expr(1)) {
      to.push_back(a);
      continue;
    }
    if (a == Expr(1)) {
      to.push_back(c);
      continue;
    }
    const std::string what = "axis of " + a.to_string() + " expanded to " + c.to_string();
    if (a.is_constant() && c.is_constant())
      n.fail("shapes do not broadcast: " + what);
    n.b.check(logical_or(equal(a, c), logical_or(equal(a, Expr(1)), equal(c, Expr(1)))), "node '" + n.name + "' (" + n.source + "): " + what);
    if (a.is_constant()) { // c is a or 1
      to.push_back(a);
      continue;
    }
    to.push_back(c.is_constant() ? c : select(equal(a, Expr(1)), c, a));
    stretched.push_back(static_cast<uint32_t>(i));
  }
  n.check_dims(to);
  ValueId x = n.reshape(n.in(0), seen);
  for (uint32_t axis : stretched) {
    const ValueId i = n.b.iota(ElementType::kI64, {to[axis]}, 0);
    const ValueId last = n.scalar_of(ElementType::kI64, seen[axis] - 1, {to[axis]});
    x = n.b.gather(x, n.b.map(K::kMin, {i, last}), axis);
  }
  n.set(0, n.broadcast_to(x, to));
}

void import_expand(Node &n) {
  n.need_inputs(2, 2);
  const Dims from = n.dims(0);
  const Dims shape = n.check_dims(n.shape_values(1, 0, kMaxDim));
  if (!std::all_of(shape.begin(), shape.end(), [](const Expr &e) { return e.is_constant(); })) {
    expand_at_run_time(n, shape);
    return;
  }
  const Dims dims = n.check_dims(n.broadcast_dims(from, shape));
  if (fold_move(n, dims, [&](const std::vector<int64_t> &at) {
        std::vector<int64_t> source(from.size());
        for (size_t i = 0; i < from.size(); ++i)
          source[i] = from[i] == Expr(1) ? 0 : at[at.size() - from.size() + i];
        return flat(from, source);
      }))
    return;
  n.set(0, n.broadcast_to(n.in(0), dims));
}

// before: y = Tile(x[a,b], [r,s]); after: reshape [1,a,1,b], broadcast [r,a,s,b], reshape [r*a,s*b]
void import_tile(Node &n) {
  n.need_inputs(2, 2);
  const Dims from = n.dims(0);
  const std::vector<Expr> repeats = n.shape_values(1, 0, kMaxDim);
  if (repeats.size() != from.size())
    n.fail("repeats has " + std::to_string(repeats.size()) + " entries for rank " + std::to_string(from.size()));
  Dims split, wide, to;
  std::vector<uint32_t> axes;
  for (size_t i = 0; i < from.size(); ++i) {
    if (repeats[i].constant() && *repeats[i].constant() < 0)
      n.fail("repeats holds " + repeats[i].to_string());
    if (!(repeats[i] == Expr(1)))
      wide.push_back(repeats[i]);
    axes.push_back(static_cast<uint32_t>(wide.size()));
    wide.push_back(from[i]);
    to.push_back(from[i] * repeats[i]);
  }
  n.check_dims(to);
  if (fold_move(n, to, [&](const std::vector<int64_t> &at) {
        std::vector<int64_t> source(at.size());
        for (size_t i = 0; i < at.size(); ++i)
          source[i] = at[i] % *from[i].constant();
        return flat(from, source);
      }))
    return;
  if (wide.size() <= 8) {
    n.set(0, n.reshape(n.b.broadcast(n.in(0), axes, wide), to));
    return;
  }
  ValueId x = n.in(0); // rank too high for one broadcast: an axis at a time, its neighbours merged
  Dims now = from;
  for (size_t i = 0; i < from.size(); ++i) {
    const Expr before = product(Dims(now.begin(), now.begin() + static_cast<long>(i)));
    const Expr after = product(Dims(now.begin() + static_cast<long>(i), now.end()));
    x = n.b.broadcast(n.reshape(x, {before, after}), {0, 2}, {before, repeats[i], after});
    now[i] = to[i];
  }
  n.set(0, n.reshape(x, to));
}

void import_depth_to_space(Node &n) {
  n.need_inputs(1, 1);
  const int64_t s = n.int_attr("blocksize", 0);
  const std::string mode = n.opset < 11 ? "DCR" : n.string_attr("mode", "DCR");
  if (n.rank(0) != 4 || s < 1 || s > 65536)
    n.fail("takes [n,c,h,w] and a positive blocksize, got " + to_string(n.type(0)));
  if (mode != "DCR" && mode != "CRD")
    n.fail("attribute 'mode' is '" + mode + "', expected DCR or CRD");
  const Dims d = n.dims(0);
  if (d[1].constant() && *d[1].constant() % (s * s) != 0)
    n.fail("blocksize " + std::to_string(s) + " does not divide the channels of " + to_string(n.type(0)));
  const Expr c = floordiv(d[1], Expr(s * s)), b = s;
  ValueId x;
  if (mode == "DCR")
    x = n.b.transpose(n.reshape(n.in(0), {d[0], b, b, c, d[2], d[3]}), {0, 3, 4, 1, 5, 2});
  else
    x = n.b.transpose(n.reshape(n.in(0), {d[0], c, b, b, d[2], d[3]}), {0, 1, 4, 2, 5, 3});
  n.set(0, n.reshape(x, {d[0], c, d[2] * b, d[3] * b}));
}

void import_space_to_depth(Node &n) {
  n.need_inputs(1, 1);
  const int64_t s = n.int_attr("blocksize", 0);
  if (n.rank(0) != 4 || s < 1 || s > 65536)
    n.fail("takes [n,c,h,w] and a positive blocksize, got " + to_string(n.type(0)));
  const Dims d = n.dims(0);
  for (size_t i = 2; i < 4; ++i)
    if (d[i].constant() && *d[i].constant() % s != 0)
      n.fail("blocksize " + std::to_string(s) + " does not divide axis " + std::to_string(i) + " of " + to_string(n.type(0)));
  const Expr b = s, h = floordiv(d[2], b), w = floordiv(d[3], b);
  const ValueId x = n.b.transpose(n.reshape(n.in(0), {d[0], d[1], h, b, w, b}), {0, 3, 5, 1, 2, 4});
  n.set(0, n.reshape(x, {d[0], d[1] * b * b, h, w}));
}

// Upper keeps column - row >= k, lower column - row <= k.
void import_trilu(Node &n) {
  n.need_inputs(1, 2);
  const size_t rank = n.dims(0).size();
  if (rank < 2)
    n.fail("takes matrices, got " + to_string(n.type(0)));
  const Expr k = n.has(1) ? n.host_scalar(1, -kMaxDim, kMaxDim) : Expr(0);
  const bool upper = n.int_attr("upper", 1) != 0;
  const Dims dims = n.dims(0);
  const Expr bound = k.constant() ? Expr(std::clamp<int64_t>(*k.constant(), -0x7fffffff, 0x7fffffff)) : k;
  const ValueId row = n.b.iota(ElementType::kI64, dims, static_cast<uint32_t>(rank - 2), bound);
  const ValueId column = n.b.iota(ElementType::kI64, dims, static_cast<uint32_t>(rank - 1));
  const ValueId keep = n.b.map(upper ? K::kGe : K::kLe, {column, row});
  const ElementType e = n.element(0);
  const ValueId zero = is_float(e) ? n.b.splat_float(e, dims, 0) : n.b.splat_int(e, dims, 0);
  n.set(0, n.b.map(K::kSelect, {keep, n.in(0), zero}));
}

} // namespace

std::vector<OperatorRow> movement_operators() {
  return {
      {"", "Concat", 6, kMaxOpset, import_concat},
      {"", "DepthToSpace", 6, kMaxOpset, import_depth_to_space},
      {"", "Expand", 8, kMaxOpset, import_expand},
      {"", "Pad", 6, kMaxOpset, import_pad},
      {"", "Slice", 6, kMaxOpset, import_slice},
      {"", "SpaceToDepth", 6, kMaxOpset, import_space_to_depth},
      {"", "Split", 6, kMaxOpset, import_split},
      {"", "Tile", 6, kMaxOpset, import_tile},
      {"", "Transpose", 6, kMaxOpset, import_transpose},
      {"", "Trilu", 14, kMaxOpset, import_trilu},
  };
}

} // namespace ingot::aotc::importer
