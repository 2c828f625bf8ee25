// Selections whose size depends on data: NonMaxSuppression and Unique, as serial kernels; the count is read, then results
// are cut to it.
#include <algorithm>

#include "aotc/import/onnx/algebra.h"
#include "aotc/import/onnx/serial.h"

namespace ingot::aotc::importer {

namespace {

using kernel::Access;
using kernel::Values;
constexpr ElementType kI64 = ElementType::kI64, kF32 = ElementType::kF32, kBool = ElementType::kBool;

Symbol read_count(Node &n, ValueId count, const Expr &most) {
  const Symbol s = n.b.read_scalar(count, n.importer().unique_symbol(n.name + "_count"), 0, std::min<int64_t>(most.upper(), 0x7fffffff));
  n.b.check(less_equal(Expr(s), most), "node '" + n.name + "': more results than elements");
  return s;
}

// For each batch and class: the best box that is left is taken, and what overlaps it by more than the threshold is dropped,
// until none is left or enough are taken. Of equal scores the lower index goes first.
void import_non_max_suppression(Node &n) {
  n.need_inputs(2, 5);
  if (n.element(0) != kF32 || n.element(1) != kF32 || n.rank(0) != 3 || n.rank(1) != 3)
    n.fail("takes float32 boxes[b,n,4] and scores[b,c,n], got " + n.describe_types());
  const Dims boxes_dims = n.dims(0), scores_dims = n.dims(1);
  n.require_equal(boxes_dims[0], scores_dims[0], "batch of boxes and scores");
  n.require_equal(boxes_dims[1], scores_dims[2], "number of boxes and scores");
  n.require_equal(boxes_dims[2], 4, "boxes " + to_string(n.type(0)));
  const bool centre = n.int_attr("center_point_box", 0) != 0;
  const Expr batch = boxes_dims[0], count = boxes_dims[1], classes = scores_dims[1];
  const Expr all = batch * classes * count;
  // The three settings as one-element tensors; without a score threshold every score passes (NaN does not).
  const auto setting = [&](size_t i, ElementType e, double otherwise) {
    if (n.has(i) && n.type(i).elements() == Expr(1))
      return n.reshape(n.b.convert(e, n.in(i)), {Expr(1)});
    if (n.has(i) && !(n.type(i).elements() == Expr(0)))
      n.fail("input " + std::to_string(i) + " must be one number, got " + to_string(n.type(i)));
    return is_float(e) ? n.b.splat_float(e, {Expr(1)}, otherwise) : n.b.splat_int(e, {Expr(1)}, static_cast<int64_t>(otherwise));
  };
  Serial s(n, "non_max_suppression");
  kernel::Builder &k = s.builder;
  const uint32_t boxes = s.operand("boxes", kF32, batch * count * 4, Access::kRead), scores = s.operand("scores", kF32, all, Access::kRead);
  const uint32_t limit = s.operand("limit", kI64, 1, Access::kRead), overlap = s.operand("overlap", kF32, 1, Access::kRead),
                 least = s.operand("least", kF32, 1, Access::kRead);
  const uint32_t chosen = s.operand("chosen", kI64, all * 3, Access::kWrite), total = s.operand("total", kI64, 1, Access::kWrite);
  const uint32_t alive = s.operand("alive", kBool, count, Access::kReadWrite);
  const auto n_batch = s.param("batch", batch), n_classes = s.param("classes", classes), n_boxes = s.param("count", count);
  const auto zero = k.index(0), one = k.index(1), none = k.constant_float(Scalar::kF32, 0);
  const auto yes = k.constant(Scalar::kBool, 1), no = k.constant(Scalar::kBool, 0);
  const auto threshold = k.load(overlap, zero), minimum = k.load(least, zero);
  const auto wanted = k.min(k.convert(Scalar::kIndex, k.max(k.load(limit, zero), k.constant(Scalar::kI64, 0))), n_boxes);
  struct Corners {
    kernel::ValueId y1, x1, y2, x2;
  };
  const auto corners = [&](kernel::ValueId b, kernel::ValueId box) {
    const auto base = k.mul(k.add(k.mul(b, n_boxes), box), k.index(4));
    const auto at = [&](int64_t i) { return k.load(boxes, k.add(base, k.index(i))); };
    const auto p = at(0), q = at(1), r = at(2), t = at(3);
    if (!centre)
      return Corners{k.min(p, r), k.min(q, t), k.max(p, r), k.max(q, t)};
    const auto half = k.constant_float(Scalar::kF32, 0.5), w = k.mul(r, half), h = k.mul(t, half);
    return Corners{k.sub(q, h), k.sub(p, w), k.add(q, h), k.add(p, w)};
  };
  const auto area = [&](const Corners &c) { return k.mul(k.sub(c.y2, c.y1), k.sub(c.x2, c.x1)); };
  const Values found = k.for_loop(zero, n_batch, one, {zero}, [&](kernel::ValueId b, const Values &before_batch) {
    return k.for_loop(zero, n_classes, one, {before_batch[0]}, [&](kernel::ValueId c, const Values &before) {
      const auto row = k.mul(k.add(k.mul(b, n_classes), c), n_boxes);
      k.for_loop(zero, n_boxes, one, {}, [&](kernel::ValueId i, const Values &) {
        k.store(alive, i, k.compare(K::kGt, k.load(scores, k.add(row, i)), minimum));
        return Values{};
      });
      // (taken, found so far, go on)
      const Values done = k.while_loop(
          {zero, before[0], yes}, [&](const Values &v) { return std::pair(k.logical_and(v[2], k.lt(v[0], wanted)), v); },
          [&](const Values &v) {
            const Values best = k.for_loop(zero, n_boxes, one, {zero, none, no}, [&](kernel::ValueId i, const Values &so_far) {
              const auto score = k.load(scores, k.add(row, i));
              const auto beats = k.binary(K::kOr, k.unary(K::kNot, so_far[2]), k.compare(K::kGt, score, so_far[1]));
              const auto better = k.logical_and(k.load(alive, i), beats);
              return Values{k.select(better, i, so_far[0]), k.select(better, score, so_far[1]), k.binary(K::kOr, better, so_far[2])};
            });
            const auto some = best[2];
            const auto at = k.mul(v[1], k.index(3));
            k.store_if(chosen, some, at, k.convert(Scalar::kI64, b));
            k.store_if(chosen, some, k.add(at, one), k.convert(Scalar::kI64, c));
            k.store_if(chosen, some, k.add(at, k.index(2)), k.convert(Scalar::kI64, best[0]));
            const Corners p = corners(b, best[0]);
            const auto own = area(p);
            k.for_loop(zero, n_boxes, one, {}, [&](kernel::ValueId i, const Values &) {
              const Corners q = corners(b, i);
              const auto height = k.max(k.sub(k.min(p.y2, q.y2), k.max(p.y1, q.y1)), none);
              const auto width = k.max(k.sub(k.min(p.x2, q.x2), k.max(p.x1, q.x1)), none);
              const auto shared = k.mul(height, width), whole = k.sub(k.add(own, area(q)), shared);
              const auto covers = k.logical_and(k.compare(K::kGt, shared, none), k.compare(K::kGt, k.div(shared, whole), threshold));
              const auto drop = k.logical_and(some, k.binary(K::kOr, covers, k.compare(K::kEq, i, best[0])));
              k.store_if(alive, drop, i, no);
              return Values{};
            });
            return Values{k.add(v[0], one), k.select(some, k.add(v[1], one), v[1]), some};
          });
      return Values{done[1]};
    });
  });
  k.store(total, zero, k.convert(Scalar::kI64, found[0]));
  const auto results = n.b.compute(
      s.finish(), {n.in(0), n.in(1), setting(2, kI64, 0), setting(3, kF32, 0), setting(4, kF32, -3.402823466e38)},
      {{kI64, {all, Expr(3)}}, {kI64, {}}, {kBool, {count}}});
  n.set(0, Algebra(n).cut(results[0], 0, 0, Expr(read_count(n, results[1], all))));
}

// Distinct rows along an axis (or elements of the flattened tensor): numbered by first occurrence, then ranked if sorted.
void import_unique(Node &n) {
  n.need_inputs(1, 1);
  const bool sorted = n.int_attr("sorted", 1) != 0, whole = !n.attribute("axis");
  ValueId x = n.in(0);
  std::vector<uint32_t> order;
  Dims rest; // dims of a row
  if (whole) {
    x = n.reshape(x, {n.type(0).elements()});
  } else {
    const uint32_t axis = static_cast<uint32_t>(n.axis(n.int_attr("axis", 0), n.rank(0)));
    order.push_back(axis);
    for (uint32_t d = 0; d < static_cast<uint32_t>(n.rank(0)); ++d)
      if (d != axis)
        order.push_back(d);
    x = n.b.transpose(x, order);
    const Dims d = n.dims_of(x);
    rest.assign(d.begin() + 1, d.end());
  }
  const Expr rows = n.dims_of(x)[0], width = product(rest);
  // Compared as numbers: 16-bit floats in f32, bool as bytes.
  const ElementType e = n.element(0);
  const ValueId keys = e == kBool ? n.b.convert(ElementType::kU8, x) : n.lift(x);
  const ElementType work = n.b.type(keys).element;
  const bool is_u = is_unsigned(work);
  Serial s(n, "unique");
  kernel::Builder &k = s.builder;
  const uint32_t in = s.operand("x", work, rows * width, Access::kRead);
  const uint32_t first = s.operand("first", kI64, rows, Access::kReadWrite), inverse = s.operand("inverse", kI64, rows, Access::kReadWrite),
                 counts = s.operand("counts", kI64, rows, Access::kReadWrite), total = s.operand("total", kI64, 1, Access::kWrite);
  // Before they are ranked: first occurrence and count of each number, and its rank.
  const uint32_t found_first = s.operand("found_first", kI64, rows, Access::kReadWrite), found_count = s.operand("found_count", kI64, rows, Access::kReadWrite),
                 rank = s.operand("rank", kI64, rows, Access::kReadWrite);
  const auto n_rows = s.param("rows", rows), n_width = s.param("width", width), zero = k.index(0), one = k.index(1);
  const auto no = k.constant(Scalar::kBool, 0), yes = k.constant(Scalar::kBool, 1), one64 = k.constant(Scalar::kI64, 1);
  const auto to64 = [&](kernel::ValueId v) { return k.convert(Scalar::kI64, v); };
  const auto index_at = [&](uint32_t memory, kernel::ValueId i) { return k.convert(Scalar::kIndex, k.load(memory, i)); };
  // Whether row a is less than row b, and whether they are equal.
  const auto compare = [&](kernel::ValueId a, kernel::ValueId b) {
    return k.for_loop(zero, n_width, one, {no, yes}, [&](kernel::ValueId j, const Values &v) {
      const auto p = k.load(in, k.add(k.mul(a, n_width), j)), q = k.load(in, k.add(k.mul(b, n_width), j));
      const auto less = k.compare(is_u ? K::kLtU : K::kLt, p, q), same = k.compare(K::kEq, p, q);
      return Values{k.binary(K::kOr, v[0], k.logical_and(v[1], less)), k.logical_and(v[1], same)};
    });
  };
  const Values kinds = k.for_loop(zero, n_rows, one, {zero}, [&](kernel::ValueId i, const Values &known) {
    const Values hit = k.for_loop(zero, known[0], one, {known[0]}, [&](kernel::ValueId u, const Values &v) {
      return Values{k.select(compare(i, index_at(found_first, u))[1], u, v[0])};
    });
    const auto fresh = k.compare(K::kEq, hit[0], known[0]);
    k.store(inverse, i, to64(hit[0]));
    k.store_if(found_first, fresh, hit[0], to64(i));
    const auto before = k.load_if(found_count, k.unary(K::kNot, fresh), hit[0], k.constant(Scalar::kI64, 0));
    k.store(found_count, hit[0], k.add(before, one64));
    return Values{k.select(fresh, k.add(known[0], one), known[0])};
  });
  const auto n_kinds = kinds[0];
  k.for_loop(zero, n_kinds, one, {}, [&](kernel::ValueId u, const Values &) {
    auto place = u;
    if (sorted)
      place = k.for_loop(zero, n_kinds, one, {zero}, [&](kernel::ValueId v, const Values &below) {
        const auto less = compare(index_at(found_first, v), index_at(found_first, u))[0];
        return Values{k.select(less, k.add(below[0], one), below[0])};
      })[0];
    k.store(rank, u, to64(place));
    k.store(first, place, k.load(found_first, u));
    k.store(counts, place, k.load(found_count, u));
    return Values{};
  });
  k.for_loop(zero, n_rows, one, {}, [&](kernel::ValueId i, const Values &) {
    k.store(inverse, i, k.load(rank, index_at(inverse, i)));
    return Values{};
  });
  k.store(total, zero, to64(n_kinds));
  const TensorType list{kI64, {rows}};
  const auto results = n.b.compute(s.finish(), {keys}, {list, list, list, {kI64, {}}, list, list, list});
  const Expr count = Expr(read_count(n, results[3], rows));
  Algebra a(n);
  const ValueId picked = a.cut(results[0], 0, 0, count);
  ValueId y = n.b.gather(x, picked, 0);
  if (!whole) {
    std::vector<uint32_t> back(order.size());
    for (uint32_t d = 0; d < order.size(); ++d)
      back[order[d]] = d;
    y = n.b.transpose(y, back);
  }
  n.set(0, y);
  n.set(1, picked);
  n.set(2, results[1]);
  n.set(3, a.cut(results[2], 0, 0, count));
}

} // namespace

std::vector<OperatorRow> detect_operators() {
  return {
      {"", "NonMaxSuppression", 10, kMaxOpset, import_non_max_suppression},
      {"", "Unique", 11, kMaxOpset, import_unique},
  };
}

} // namespace ingot::aotc::importer
