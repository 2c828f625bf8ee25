// Operators that select or reorder along an axis by value or by length: TopK, Compress, ReverseSequence.
#include <algorithm>

#include "aotc/import/onnx/math.h"
#include "aotc/import/onnx/serial.h"

namespace ingot::aotc::importer {

namespace {

using kernel::Access;
using kernel::Values;
constexpr ElementType kI64 = ElementType::kI64;

struct Split3 {
  Expr outer, extent, inner;
};

Split3 split_at(const Dims &dims, size_t axis) {
  return {product(Dims(dims.begin(), dims.begin() + static_cast<long>(axis))), dims[axis],
          product(Dims(dims.begin() + static_cast<long>(axis) + 1, dims.end()))};
}

// Values and indices of the k largest (or smallest) along an axis, in order; the lower index wins between equals.
// A serial insertion into the k best so far: the result buffers hold them.
void import_top_k(Node &n) {
  n.need_inputs(n.opset < 10 ? 1 : 2, n.opset < 10 ? 1 : 2);
  if (n.rank(0) == 0 || n.element(0) == ElementType::kBool)
    n.fail("takes numbers of rank 1 or more, got " + to_string(n.type(0)));
  const size_t axis = static_cast<size_t>(n.axis(n.int_attr("axis", -1), n.rank(0)));
  const bool largest = n.opset < 11 || n.int_attr("largest", 1) != 0;
  const Dims dims = n.dims(0);
  const Expr wanted = n.opset < 10 ? Expr(n.int_attr("k", -1)) : n.host_scalar(1, 0, kMaxDim);
  if (wanted.constant() && (*wanted.constant() < 0 || (dims[axis].constant() && *wanted.constant() > *dims[axis].constant())))
    n.fail("k is " + wanted.to_string() + " for axis " + std::to_string(axis) + " of " + to_string(n.type(0)));
  if (!proves_le(wanted, dims[axis]))
    n.b.check(less_equal(wanted, dims[axis]), "node '" + n.name + "' (" + n.source + "): k is larger than axis " +
                                                  std::to_string(axis) + " of " + to_string(n.type(0)));
  Dims to = dims;
  to[axis] = wanted;
  n.check_dims(to);
  const ElementType e = n.element(0);
  const ValueId x = n.lift(n.in(0));
  const ElementType work = n.b.type(x).element;
  const Split3 d = split_at(dims, axis);
  Serial s(n, "top_k");
  kernel::Builder &k = s.builder;
  const uint32_t source = s.operand("x", work, product(dims), Access::kRead);
  const uint32_t values = s.operand("values", work, product(to), Access::kReadWrite);
  const uint32_t indices = s.operand("indices", kI64, product(to), Access::kReadWrite);
  const auto outer = s.param("outer", d.outer), extent = s.param("extent", d.extent), inner = s.param("inner", d.inner),
             count = s.param("k", wanted);
  const auto zero = k.index(0), one = k.index(1);
  const bool is_u = is_unsigned(work), floats = is_float(work);
  // a goes before b; a NaN counts as larger than any number.
  const auto before = [&](kernel::ValueId a, kernel::ValueId b) {
    const auto x1 = largest ? b : a, x2 = largest ? a : b; // x1 < x2
    const auto less = k.compare(is_u ? K::kLtU : K::kLt, x1, x2);
    if (!floats)
      return less;
    const auto nan = k.logical_and(k.unary(K::kIsNan, x2), k.unary(K::kNot, k.unary(K::kIsNan, x1)));
    return k.binary(K::kOr, less, nan);
  };
  k.for_loop(zero, outer, one, {}, [&](kernel::ValueId o, const Values &) {
    k.for_loop(zero, inner, one, {}, [&](kernel::ValueId i, const Values &) {
      const auto from = k.add(k.mul(k.mul(o, extent), inner), i), into = k.add(k.mul(k.mul(o, count), inner), i);
      k.for_loop(zero, extent, one, {}, [&](kernel::ValueId j, const Values &) {
        const auto candidate = k.load(source, k.add(from, k.mul(j, inner)));
        const auto filled = k.min(j, count);
        // From the last kept backwards: what the candidate precedes moves down one place (the last falls out).
        const Values place = k.for_loop(zero, filled, one, {filled}, [&](kernel::ValueId step, const Values &c) {
          const auto at = k.sub(k.sub(filled, one), step), address = k.add(into, k.mul(at, inner));
          const auto kept = k.load(values, address);
          const auto index = k.load(indices, address);
          const auto moves = k.logical_and(before(candidate, kept), k.compare(K::kEq, c[0], k.add(at, one)));
          const auto room = k.logical_and(moves, k.lt(k.add(at, one), count));
          const auto next = k.add(address, inner);
          k.store_if(values, room, next, kept);
          k.store_if(indices, room, next, index);
          return Values{k.select(moves, at, c[0])};
        });
        const auto fits = k.lt(place[0], count), address = k.add(into, k.mul(place[0], inner));
        k.store_if(values, fits, address, candidate);
        k.store_if(indices, fits, address, k.convert(Scalar::kI64, j));
        return Values{};
      });
      return Values{};
    });
    return Values{};
  });
  const auto results = n.b.compute(s.finish(), {x}, {{work, to}, {kI64, to}});
  n.set(0, n.lower(e, results[0]));
  n.set(1, results[1]);
}

// before: y = Compress(x, condition); after: the positions where it holds and their count (serial), then a gather
void import_compress(Node &n) {
  n.need_inputs(2, 2);
  if (n.element(1) != ElementType::kBool || n.rank(1) != 1)
    n.fail("the condition must be a list of bools, got " + to_string(n.type(1)));
  ValueId x = n.in(0);
  uint32_t axis = 0;
  if (n.attribute("axis"))
    axis = static_cast<uint32_t>(n.axis(n.int_attr("axis", 0), n.rank(0)));
  else
    x = n.reshape(x, {n.type(0).elements()});
  const Expr length = n.dims(1)[0], extent = n.dims_of(x)[axis];
  if (!proves_le(length, extent)) {
    if (length.is_constant() && extent.is_constant())
      n.fail("the condition " + to_string(n.type(1)) + " is longer than the axis of " + to_string(n.b.type(x)));
    n.b.check(less_equal(length, extent), "node '" + n.name + "' (" + n.source + "): the condition is longer than the axis");
  }
  Serial s(n, "compress");
  kernel::Builder &k = s.builder;
  const uint32_t mask = s.operand("mask", ElementType::kBool, length, Access::kRead);
  const uint32_t indices = s.operand("indices", kI64, length, Access::kWrite);
  const uint32_t count = s.operand("count", kI64, 1, Access::kWrite);
  const auto total = s.param("length", length), zero = k.index(0), one = k.index(1);
  const Values found = k.for_loop(zero, total, one, {zero}, [&](kernel::ValueId i, const Values &c) {
    const auto hit = k.load(mask, i);
    k.store_if(indices, hit, c[0], k.convert(Scalar::kI64, i));
    return Values{k.select(hit, k.add(c[0], one), c[0])};
  });
  k.store(count, zero, k.convert(Scalar::kI64, found[0]));
  const auto results = n.b.compute(s.finish(), {n.in(1)}, {{kI64, {length}}, {kI64, {}}});
  const Symbol kept = n.b.read_scalar(results[1], n.importer().unique_symbol(n.name + "_count"), 0, std::min<int64_t>(length.upper(), 0x7fffffff));
  n.set(0, n.b.gather(x, n.b.slice(results[0], {Expr(0)}, {1}, {Expr(kept)}), axis));
}

// Reverses the first lengths[b] steps of each batch entry: a gather of computed positions.
void import_reverse_sequence(Node &n) {
  n.need_inputs(2, 2);
  const int64_t batch = n.int_attr("batch_axis", 1), time = n.int_attr("time_axis", 0);
  if (n.rank(0) < 2 || batch + time != 1 || batch < 0 || time < 0)
    n.fail("takes axes 0 and 1 of a tensor of rank 2 or more, got " + to_string(n.type(0)));
  if (n.element(1) != kI64 || n.rank(1) != 1)
    n.fail("lengths must be a list of int64, got " + to_string(n.type(1)));
  const Dims dims = n.dims(0);
  const Expr steps = dims[static_cast<size_t>(time)], entries = dims[static_cast<size_t>(batch)];
  n.require_equal(n.dims(1)[0], entries, "lengths " + to_string(n.type(1)) + " and batch of " + to_string(n.type(0)));
  // Flat positions [dims 0, dims 1] of the row that each row comes from.
  const Dims plane = {dims[0], dims[1]};
  const uint32_t t = static_cast<uint32_t>(time), e = static_cast<uint32_t>(batch);
  const auto m = [&](K code, ValueId a, ValueId b) { return n.b.map(code, {a, b}); };
  const ValueId step = n.b.iota(kI64, plane, t), length = n.b.broadcast(n.in(1), {e}, plane);
  const ValueId mirrored = m(K::kSub, m(K::kSub, length, n.b.splat_int(kI64, plane, 1)), step);
  const ValueId from = n.b.map(K::kSelect, {m(K::kLt, step, length), mirrored, step});
  const Expr step_stride = time == 0 ? dims[1] : Expr(1), entry_stride = time == 0 ? Expr(1) : dims[1];
  const ValueId position = m(K::kAdd, m(K::kMul, from, n.scalar_of(kI64, step_stride, plane)), n.b.iota(kI64, plane, e, 0, entry_stride));
  Dims rows = {dims[0] * dims[1]};
  rows.insert(rows.end(), dims.begin() + 2, dims.end());
  // A length past the axis gives a position outside: an error that names the node.
  const ValueId good = m(K::kLe, length, n.scalar_of(kI64, steps, plane));
  const ValueId checked = n.b.map(K::kSelect, {good, position, n.scalar_of(kI64, dims[0] * dims[1], plane)});
  n.set(0, n.b.gather(n.reshape(n.in(0), rows), checked, 0));
}

} // namespace

std::vector<OperatorRow> sort_operators() {
  return {
      {"", "Compress", 9, kMaxOpset, import_compress},
      {"", "ReverseSequence", 10, kMaxOpset, import_reverse_sequence},
      {"", "TopK", 6, kMaxOpset, import_top_k},
  };
}

} // namespace ingot::aotc::importer
