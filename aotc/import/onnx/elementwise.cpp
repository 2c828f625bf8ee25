// Elementwise operators of one, two or many operands. Integer and bool operands that are host values fold.
#include <algorithm>
#include <cmath>

#include "aotc/graph/constant.h"
#include "aotc/import/onnx/math.h"
#include "aotc/import/onnx/narrow.h"

namespace ingot::aotc::importer {

namespace {

// --- folding on host values ---

using Fold1 = std::optional<Expr> (*)(const Expr &);
using Fold2 = std::optional<Expr> (*)(const Expr &, const Expr &, ElementType);

// Element of a host tensor of dims `from`, broadcast to `to`, at row-major position `at`.
size_t broadcast_index(const Dims &from, const Dims &to, size_t at) {
  size_t index = 0, stride = 1;
  for (size_t i = to.size(); i-- > 0;) {
    const size_t extent = static_cast<size_t>(*to[i].constant()), coordinate = at % extent;
    at /= extent;
    if (to.size() - i > from.size())
      continue;
    const size_t own = static_cast<size_t>(*from[from.size() - (to.size() - i)].constant());
    index += (own == 1 ? 0 : coordinate) * stride;
    stride *= own;
  }
  return index;
}

// Wraps a constant to its element type; symbolic values are dims and stay in range.
Expr wrap(ElementType element, const Expr &value) {
  if (!value.constant())
    return value;
  return graph::read_int(*graph::make_ints(element, {*value.constant()}), 0);
}

bool fold_binary(Node &n, ElementType result, Fold2 fold) {
  if (!fold || n.opset < 7 || !n.host(0) || !n.host(1))
    return false;
  const Dims dims = n.broadcast_dims(n.dims(0), n.dims(1));
  const int64_t count = *product(dims).constant();
  if (count > kMaxHostElements)
    return false;
  std::vector<Expr> out;
  for (int64_t i = 0; i < count; ++i) {
    const auto value = fold((*n.host(0))[broadcast_index(n.dims(0), dims, static_cast<size_t>(i))],
                            (*n.host(1))[broadcast_index(n.dims(1), dims, static_cast<size_t>(i))], n.element(0));
    if (!value)
      return false;
    out.push_back(wrap(result, *value));
  }
  n.set_host(0, result, dims, std::move(out));
  return true;
}

bool small(const Expr &e) { return e.lower() > -(int64_t{1} << 40) && e.upper() < (int64_t{1} << 40); }

int64_t wrap_add(int64_t a, int64_t b) { return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b)); }
int64_t wrap_mul(int64_t a, int64_t b) { return static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b)); }

std::optional<Expr> fold_add(const Expr &a, const Expr &b, ElementType) {
  if (a.constant() && b.constant())
    return Expr(wrap_add(*a.constant(), *b.constant()));
  return small(a) && small(b) ? std::optional<Expr>(a + b) : std::nullopt;
}
std::optional<Expr> fold_sub(const Expr &a, const Expr &b, ElementType) {
  if (a.constant() && b.constant())
    return Expr(static_cast<int64_t>(static_cast<uint64_t>(*a.constant()) - static_cast<uint64_t>(*b.constant())));
  return small(a) && small(b) ? std::optional<Expr>(a - b) : std::nullopt;
}
std::optional<Expr> fold_mul(const Expr &a, const Expr &b, ElementType) {
  if (a.constant() && b.constant())
    return Expr(wrap_mul(*a.constant(), *b.constant()));
  return small(a) && small(b) ? std::optional<Expr>(a * b) : std::nullopt;
}
// Truncating division; where signs are unknown it stays a tensor.
std::optional<Expr> fold_div(const Expr &a, const Expr &b, ElementType element) {
  if (element == ElementType::kU64)
    return std::nullopt;
  if (a.constant() && b.constant()) {
    if (*b.constant() == 0)
      return Expr(0);
    if (*b.constant() == -1)
      return Expr(wrap_mul(*a.constant(), -1));
    return Expr(*a.constant() / *b.constant());
  }
  return proves_ge0(a) && proves_lt(Expr(0), b) ? std::optional<Expr>(floordiv(a, b)) : std::nullopt;
}
std::optional<Expr> fold_min(const Expr &a, const Expr &b, ElementType e) {
  return e == ElementType::kU64 ? std::nullopt : std::optional<Expr>(min(a, b));
}
std::optional<Expr> fold_max(const Expr &a, const Expr &b, ElementType e) {
  return e == ElementType::kU64 ? std::nullopt : std::optional<Expr>(max(a, b));
}
std::optional<Expr> fold_equal(const Expr &a, const Expr &b, ElementType) { return equal(a, b); }
std::optional<Expr> fold_less(const Expr &a, const Expr &b, ElementType e) {
  return e == ElementType::kU64 ? std::nullopt : std::optional<Expr>(less(a, b));
}
std::optional<Expr> fold_less_equal(const Expr &a, const Expr &b, ElementType e) {
  return e == ElementType::kU64 ? std::nullopt : std::optional<Expr>(less_equal(a, b));
}
std::optional<Expr> fold_greater(const Expr &a, const Expr &b, ElementType e) { return fold_less(b, a, e); }
std::optional<Expr> fold_greater_equal(const Expr &a, const Expr &b, ElementType e) { return fold_less_equal(b, a, e); }
std::optional<Expr> fold_and(const Expr &a, const Expr &b, ElementType) { return logical_and(a, b); }
std::optional<Expr> fold_or(const Expr &a, const Expr &b, ElementType) { return logical_or(a, b); }
std::optional<Expr> fold_xor(const Expr &a, const Expr &b, ElementType) { return logical_not(equal(a, b)); }

// --- binary ---

struct Pair {
  ValueId a, b;
};

// Below opset 7 the second operand has the first one's dims, or (broadcast=1) a run of them that begins at `axis`; without
// an axis, those at the end.
//   before: Add(a[n,c,h,w], b[c]) broadcast=1 axis=1; after: b seen as [c,1,1]
Pair legacy_operands(Node &n, size_t i, size_t j) {
  const Dims &a = n.dims(i), &b = n.dims(j);
  const std::string what = to_string(n.type(i)) + " and " + to_string(n.type(j));
  if (n.int_attr("broadcast", 0) == 0 && a.size() != b.size())
    n.fail(what + " differ in rank and attribute 'broadcast' is 0", "convert the model to opset 7 or later");
  if (a.size() < b.size())
    n.fail(what + ": only the second operand broadcasts below opset 7");
  const int64_t at = n.attribute("axis") ? n.axis(n.int_attr("axis", 0), n.rank(i)) : n.rank(i) - n.rank(j);
  if (at + n.rank(j) > n.rank(i))
    n.fail(what + ": attribute 'axis' is " + std::to_string(at));
  Dims seen = b;
  seen.resize(a.size() - static_cast<size_t>(at), Expr(1));
  const ValueId second = n.reshape(n.in(j), seen);
  for (size_t d = 0; d < b.size(); ++d)
    if (!(b[d] == Expr(1)))
      n.require_equal(b[d], a[static_cast<size_t>(at) + d], what + " do not broadcast");
  return {n.in(i), n.broadcast_to(second, a)};
}

// Both operands broadcast to their common dims.
Pair operands(Node &n, size_t i = 0, size_t j = 1) {
  n.need_same_element(i, j);
  if (n.opset < 7)
    return legacy_operands(n, i, j);
  const Dims dims = n.broadcast_dims(n.dims(i), n.dims(j));
  return {n.broadcast_to(n.in(i), dims), n.broadcast_to(n.in(j), dims)};
}

bool unsigned_integer(ElementType e) { return is_unsigned(e) && e != ElementType::kBool; }

// before: y = Add(a[n,1], b[m]); after: map add(broadcast a, broadcast b)
void arithmetic(Node &n, K code, K unsigned_code, Fold2 fold) {
  n.need_inputs(2, 2);
  n.need_same_element(0, 1);
  const ElementType e = n.element(0);
  if (e == ElementType::kBool)
    n.fail("takes no bool operands");
  if (!is_float(e) && fold_binary(n, e, fold))
    return;
  const Pair p = operands(n);
  const ValueId y = n.b.map(unsigned_integer(e) ? unsigned_code : code, {n.lift(p.a), n.lift(p.b)});
  n.set(0, n.lower(e, y));
}

void import_add(Node &n) { arithmetic(n, K::kAdd, K::kAdd, fold_add); }
void import_sub(Node &n) { arithmetic(n, K::kSub, K::kSub, fold_sub); }
void import_mul(Node &n) { arithmetic(n, K::kMul, K::kMul, fold_mul); }
void import_div(Node &n) { arithmetic(n, K::kDiv, K::kDivU, fold_div); }

void comparison(Node &n, K code, K unsigned_code, Fold2 fold) {
  n.need_inputs(2, 2);
  n.need_same_element(0, 1);
  const ElementType e = n.element(0);
  if (!is_float(e) && fold_binary(n, ElementType::kBool, fold))
    return;
  const Pair p = operands(n);
  n.set(0, n.b.map(unsigned_integer(e) ? unsigned_code : code, {n.lift(p.a), n.lift(p.b)}));
}

void import_equal(Node &n) { comparison(n, K::kEq, K::kEq, fold_equal); }
void import_less(Node &n) { comparison(n, K::kLt, K::kLtU, fold_less); }
void import_less_equal(Node &n) { comparison(n, K::kLe, K::kLeU, fold_less_equal); }
void import_greater(Node &n) { comparison(n, K::kGt, K::kGtU, fold_greater); }
void import_greater_equal(Node &n) { comparison(n, K::kGe, K::kGeU, fold_greater_equal); }

void logical(Node &n, K code, Fold2 fold) {
  n.need_inputs(2, 2);
  if (n.element(0) != ElementType::kBool || n.element(1) != ElementType::kBool)
    n.fail("takes bool operands");
  if (fold_binary(n, ElementType::kBool, fold))
    return;
  const Pair p = operands(n);
  n.set(0, n.b.map(code, {p.a, p.b}));
}

void import_and(Node &n) { logical(n, K::kAnd, fold_and); }
void import_or(Node &n) { logical(n, K::kOr, fold_or); }
void import_xor(Node &n) { logical(n, K::kXor, fold_xor); }

void bitwise(Node &n, K code) {
  n.need_inputs(2, 2);
  if (!is_integer(n.element(0)))
    n.fail("takes integer operands");
  const Pair p = operands(n);
  n.set(0, n.b.map(code, {p.a, p.b}));
}

void import_bitwise_and(Node &n) { bitwise(n, K::kAnd); }
void import_bitwise_or(Node &n) { bitwise(n, K::kOr); }
void import_bitwise_xor(Node &n) { bitwise(n, K::kXor); }

// A shift by the width or more gives 0 (the kernel's shift masks the amount).
void import_bit_shift(Node &n) {
  n.need_inputs(2, 2);
  if (!unsigned_integer(n.element(0)))
    n.fail("takes unsigned operands");
  const std::string direction = n.string_attr("direction", "");
  if (direction != "LEFT" && direction != "RIGHT")
    n.fail("attribute 'direction' is '" + direction + "', expected LEFT or RIGHT");
  const Pair p = operands(n);
  const ElementType e = n.element(0);
  const ValueId shifted = n.b.map(direction == "LEFT" ? K::kShl : K::kShrU, {p.a, p.b});
  const ValueId width = n.b.splat_int(e, Dims(n.dims_of(p.b)), 8 * byte_size(e));
  const ValueId zero = n.b.splat_int(e, Dims(n.dims_of(p.b)), 0);
  n.set(0, n.b.map(K::kSelect, {n.b.map(K::kLtU, {p.b, width}), shifted, zero}));
}

// fmod=0: the result has the divisor's sign (as in Python); fmod=1: the dividend's (as in C). x mod 0 is total (0, NaN).
void import_mod(Node &n) {
  n.need_inputs(2, 2);
  n.need_same_element(0, 1);
  const ElementType e = n.element(0);
  const bool fmod = n.int_attr("fmod", 0) != 0;
  const auto fold = [](const Expr &a, const Expr &b, ElementType) -> std::optional<Expr> {
    if (a.constant() && b.constant() && *b.constant() != 0) {
      if (*b.constant() == -1)
        return Expr(0);
      const int64_t r = *a.constant() % *b.constant();
      return Expr(r != 0 && (r < 0) != (*b.constant() < 0) ? r + *b.constant() : r);
    }
    return proves_ge0(a) && proves_lt(Expr(0), b) ? std::optional<Expr>(mod(a, b)) : std::nullopt;
  };
  if (is_integer(e) && e != ElementType::kU64 && !fmod && fold_binary(n, e, +fold))
    return;
  const Pair p = operands(n);
  const ValueId a = n.lift(p.a), b = n.lift(p.b);
  ValueId r = n.b.map(unsigned_integer(e) ? K::kRemU : K::kRem, {a, b});
  if (!fmod && !unsigned_integer(e)) {
    const ValueId zero = n.constant(r, 0);
    const ValueId differs = n.b.map(K::kXor, {n.b.map(K::kLt, {r, zero}), n.b.map(K::kLt, {b, zero})});
    const ValueId adjust = n.b.map(K::kAnd, {n.b.map(K::kNe, {r, zero}), differs});
    r = n.b.map(K::kSelect, {adjust, n.b.map(K::kAdd, {r, b}), r});
  }
  n.set(0, n.lower(e, r));
}

// Integer powers by squaring over 7 bits of the exponent: larger ones overflow anyway, except for the bases -1, 0 and 1,
// for which the parity counts. A negative exponent gives 0 unless the base is 1 or -1.
ValueId integer_power(Node &n, ValueId base, ValueId exponent) {
  const ElementType e = n.b.type(base).element;
  const Dims dims = n.dims_of(base);
  const auto c = [&](int64_t v) { return n.b.splat_int(ElementType::kI64, dims, v); };
  const auto m = [&](K code, ValueId a, ValueId b) { return n.b.map(code, {a, b}); };
  const auto select = [&](ValueId p, ValueId a, ValueId b) { return n.b.map(K::kSelect, {p, a, b}); };
  const ValueId x = n.b.convert(ElementType::kI64, base), k = n.b.convert(ElementType::kI64, exponent);
  const ValueId negative = m(K::kLt, k, c(0)), parity = m(K::kAnd, k, c(1));
  ValueId bits = select(m(K::kGt, k, c(63)), m(K::kAdd, c(62), parity), k);
  bits = select(negative, parity, bits);
  ValueId result = c(1), square = x;
  for (int bit = 0; bit < 6; ++bit) {
    const ValueId set = m(K::kNe, m(K::kAnd, bits, c(int64_t{1} << bit)), c(0));
    result = select(set, m(K::kMul, result, square), result);
    if (bit < 5)
      square = m(K::kMul, square, square);
  }
  const ValueId unit = m(K::kOr, m(K::kEq, x, c(1)), m(K::kEq, x, c(-1)));
  return n.b.convert(e, select(m(K::kAnd, negative, n.b.map(K::kNot, {unit})), c(0), result));
}

void import_pow(Node &n) {
  n.need_inputs(2, 2);
  const ElementType e = n.element(0);
  if (e == ElementType::kBool || n.element(1) == ElementType::kBool)
    n.fail("takes no bool operands");
  const Pair legacy = n.opset < 7 ? legacy_operands(n, 0, 1) : Pair{kNoValue, kNoValue};
  const Dims dims = n.opset < 7 ? n.dims(0) : n.broadcast_dims(n.dims(0), n.dims(1));
  const ValueId base = n.opset < 7 ? legacy.a : n.broadcast_to(n.in(0), dims);
  // Small constant exponents are products: exact where pow() would be within an ulp.
  if (const auto exponents = n.constant_floats(1); exponents && exponents->size() == 1) {
    const double k = (*exponents)[0];
    Math m(n, base);
    if (k == 1 || k == 2 || k == 3) {
      ValueId y = m.x;
      for (int i = 1; i < static_cast<int>(k); ++i)
        y = m.mul(y, m.x);
      m.finish(0, y);
      return;
    }
    if (k == -1 && is_float(e)) {
      m.finish(0, m.div(m.c(1), m.x));
      return;
    }
  }
  const ValueId exponent = n.opset < 7 ? legacy.b : n.broadcast_to(n.in(1), dims);
  if (!is_float(e) && !is_float(n.element(1))) {
    n.set(0, integer_power(n, base, exponent));
    return;
  }
  const ElementType compute = e == ElementType::kF64 || (!is_float(e) && byte_size(e) > 2) ? ElementType::kF64
                                                                                         : ElementType::kF32;
  n.set(0, n.b.convert(e, n.b.map(K::kPow, {n.b.convert(compute, base), n.b.convert(compute, exponent)})));
}

// --- many operands ---

void variadic(Node &n, K code, K unsigned_code, bool mean, Fold2 fold) {
  n.need_inputs(1, SIZE_MAX);
  const ElementType e = n.element(0);
  Dims dims = n.dims(0);
  for (size_t i = 1; i < n.inputs(); ++i) {
    n.need_same_element(0, i);
    dims = n.broadcast_dims(dims, n.dims(i));
  }
  if (n.inputs() == 2 && !is_float(e) && !mean && fold_binary(n, e, fold))
    return;
  ValueId y = n.lift(n.broadcast_to(n.in(0), dims));
  for (size_t i = 1; i < n.inputs(); ++i)
    y = n.b.map(unsigned_integer(e) ? unsigned_code : code, {y, n.lift(n.broadcast_to(n.in(i), dims))});
  if (mean)
    y = n.b.map(K::kDiv, {y, n.constant(y, static_cast<double>(n.inputs()))});
  n.set(0, n.lower(e, y));
}

void import_max(Node &n) { variadic(n, K::kMax, K::kMaxU, false, fold_max); }
void import_min(Node &n) { variadic(n, K::kMin, K::kMinU, false, fold_min); }
void import_sum(Node &n) { variadic(n, K::kAdd, K::kAdd, false, fold_add); }
void import_mean(Node &n) { variadic(n, K::kAdd, K::kAdd, true, nullptr); }

void import_where(Node &n) {
  n.need_inputs(3, 3);
  n.need_same_element(1, 2);
  if (n.element(0) != ElementType::kBool)
    n.fail("the condition must be bool");
  const Dims dims = n.broadcast_dims(n.broadcast_dims(n.dims(1), n.dims(2)), n.dims(0));
  const auto count = product(dims).constant();
  if (n.all_host() && count && *count <= kMaxHostElements) {
    std::vector<Expr> out;
    for (size_t i = 0; i < static_cast<size_t>(*count); ++i)
      out.push_back(select((*n.host(0))[broadcast_index(n.dims(0), dims, i)],
                           (*n.host(1))[broadcast_index(n.dims(1), dims, i)],
                           (*n.host(2))[broadcast_index(n.dims(2), dims, i)]));
    n.set_host(0, n.element(1), dims, std::move(out));
    return;
  }
  n.set(0, n.b.map(K::kSelect, {n.broadcast_to(n.in(0), dims), n.broadcast_to(n.in(1), dims), n.broadcast_to(n.in(2), dims)}));
}

// --- unary ---

void unary(Node &n, K code, bool integers, Fold1 fold = nullptr) {
  n.need_inputs(1, 1);
  if (!integers)
    n.need_float(0);
  if (fold && !is_float(n.element(0)) && n.host(0)) {
    std::vector<Expr> out;
    for (const Expr &value : *n.host(0)) {
      const auto y = fold(value);
      if (!y)
        break;
      out.push_back(wrap(n.element(0), *y));
    }
    if (out.size() == n.host(0)->size()) {
      n.set_host(0, n.element(0), n.dims(0), std::move(out));
      return;
    }
  }
  Math m(n, n.in(0));
  m.finish(0, m.map(code, m.x));
}

template <K code>
void float_unary(Node &n) {
  unary(n, code, false);
}

void import_abs(Node &n) {
  if (n.has(0) && unsigned_integer(n.element(0))) {
    n.set_value(0, n.value(0));
    return;
  }
  unary(n, K::kAbs, true);
}

void import_neg(Node &n) {
  unary(n, K::kNeg, true, [](const Expr &e) -> std::optional<Expr> { return small(e) ? std::optional<Expr>(-e) : std::nullopt; });
}

void import_not(Node &n) {
  n.need_inputs(1, 1);
  if (n.element(0) != ElementType::kBool)
    n.fail("takes a bool operand");
  unary(n, K::kNot, true, [](const Expr &e) -> std::optional<Expr> { return logical_not(e); });
}

void import_bitwise_not(Node &n) {
  n.need_inputs(1, 1);
  if (!is_integer(n.element(0)))
    n.fail("takes an integer operand");
  n.set(0, n.b.map(K::kNot, {n.in(0)}));
}

void import_reciprocal(Node &n) {
  n.need_inputs(1, 1);
  n.need_float(0);
  Math m(n, n.in(0));
  m.finish(0, m.div(m.c(1), m.x));
}

void import_sign(Node &n) {
  n.need_inputs(1, 1);
  Math m(n, n.in(0));
  const ValueId zero = m.c(0);
  // NaN compares false both ways and stays itself.
  ValueId y = m.select(m.lt(zero, m.x), m.c(1), is_float(n.element(0)) ? m.x : zero);
  if (!m.unsigned_type())
    y = m.select(m.lt(m.x, zero), m.c(-1), y);
  m.finish(0, y);
}

void import_is_nan(Node &n) {
  n.need_inputs(1, 1);
  n.need_float(0);
  n.set(0, n.b.map(K::kIsNan, {n.lift(n.in(0))}));
}

void import_is_inf(Node &n) {
  n.need_inputs(1, 1);
  n.need_float(0);
  const bool negative = n.int_attr("detect_negative", 1) != 0, positive = n.int_attr("detect_positive", 1) != 0;
  Math m(n, n.in(0));
  ValueId y = m.map(K::kIsInf, m.x);
  if (!positive)
    y = m.map(K::kAnd, y, m.lt(m.x, m.c(0)));
  if (!negative)
    y = m.map(K::kAnd, y, m.lt(m.c(0), m.x));
  n.set(0, y);
}

// --- Cast ---

void cast(Node &n, ElementType to) {
  const ElementType from = n.element(0);
  if (!is_float(from) && n.host(0)) {
    if (!is_float(to)) {
      std::vector<Expr> out;
      for (const Expr &e : *n.host(0))
        out.push_back(to == ElementType::kBool ? logical_not(equal(e, Expr(0))) : wrap(to, e));
      n.set_host(0, to, n.dims(0), std::move(out));
      return;
    }
    if (const auto values = n.constant_ints(0)) {
      std::vector<double> floats(values->begin(), values->end());
      n.set_data(0, {to, n.dims(0)}, graph::make_floats(to, floats));
      return;
    }
  }
  const auto constant = n.value(0)->data;
  if (constant && is_float(from)) { // constants convert here, with the kernel's rules
    const auto values = *n.constant_floats(0);
    auto data = std::make_shared<graph::ConstantData>();
    data->type = to;
    for (double v : values)
      graph::append_float(data->bytes, to, v);
    n.set_data(0, {to, n.dims(0)}, std::move(data));
    return;
  }
  ValueId x = n.in(0);
  // Between 16-bit floats and anything but f32, f32 stands in the middle.
  const auto half = [](ElementType e) { return e == ElementType::kF16 || e == ElementType::kBF16; };
  if (half(from))
    x = n.b.convert(ElementType::kF32, x);
  if (half(to) && !is_float(n.b.type(x).element))
    x = n.b.convert(ElementType::kF32, x);
  n.set(0, n.b.convert(to, x));
}

// To or from a type that the graph only stores.
void cast_narrow(Node &n, int32_t to) {
  if (n.narrow(0) == to) {
    n.set_value(0, n.value(0));
    return;
  }
  const ValueId x = n.narrow(0) ? widen_narrow(n, n.in(0), n.narrow(0)) : n.in(0);
  if (narrow_storage(to)) {
    const bool saturate = n.int_attr("saturate", 1) != 0;
    n.set_narrow(0, store_narrow(n, x, to, saturate, n.string_attr("round_mode", "up")), to);
  } else {
    const ElementType e = *element_type(to);
    const bool half = e == ElementType::kF16 || e == ElementType::kBF16;
    n.set(0, n.b.convert(e, half ? n.b.convert(ElementType::kF32, x) : x));
  }
}

void import_cast(Node &n) {
  n.need_inputs(1, 1);
  const int32_t code = static_cast<int32_t>(n.int_attr("to", 0));
  const auto to = element_type(code);
  if (!to && !narrow_storage(code))
    n.fail("attribute 'to' is the element type " + onnx_type_name(code) + ", which is not supported");
  if (!to || n.narrow(0))
    cast_narrow(n, code);
  else
    cast(n, *to);
}

// The bits of each element as another type of the same size.
void import_bit_cast(Node &n) {
  n.need_inputs(1, 1);
  const int32_t code = static_cast<int32_t>(n.int_attr("to", 0));
  const auto to = element_type(code), stored = narrow_storage(code);
  if (!to && !stored)
    n.fail("attribute 'to' is the element type " + onnx_type_name(code) + ", which is not supported");
  const int from_bits = n.narrow(0) ? narrow_bits(n.narrow(0)) : static_cast<int>(8 * byte_size(n.element(0)));
  const int to_bits = stored ? narrow_bits(code) : static_cast<int>(8 * byte_size(*to));
  if (from_bits != to_bits)
    n.fail("attribute 'to' is " + onnx_type_name(code) + " of " + std::to_string(to_bits) + " bits, the input has " + std::to_string(from_bits));
  ValueId x = n.in(0);
  if (from_bits < 8) { // signed values are stored extended: only the low bits count, then the new sign
    x = n.b.convert(ElementType::kI32, x);
    x = store_narrow(n, x, code, true, "up");
    n.set_narrow(0, x, code);
    return;
  }
  const bool from_bool = n.element(0) == ElementType::kBool, to_bool = to == ElementType::kBool;
  if (from_bool) // stored 0 or 1, as a byte
    x = n.b.convert(ElementType::kU8, x);
  if (to_bool)
    x = n.b.convert(ElementType::kBool, x);
  else
    x = n.b.bitcast(stored ? *stored : *to, x);
  n.set_narrow(0, x, stored ? code : 0);
}

void import_cast_like(Node &n) {
  n.need_inputs(2, 2);
  if (n.narrow(0) || n.narrow(1))
    cast_narrow(n, n.narrow(1) ? n.narrow(1) : onnx_type_of(n.element(1)));
  else
    cast(n, n.element(1));
}

} // namespace

std::vector<OperatorRow> elementwise_operators() {
  return {
      {"", "Abs", 6, kMaxOpset, import_abs},
      {"", "Acos", 7, kMaxOpset, float_unary<K::kAcos>},
      {"", "Acosh", 9, kMaxOpset, float_unary<K::kAcosh>},
      {"", "Add", 6, kMaxOpset, import_add},
      {"", "And", 6, kMaxOpset, import_and},
      {"", "Asin", 7, kMaxOpset, float_unary<K::kAsin>},
      {"", "Asinh", 9, kMaxOpset, float_unary<K::kAsinh>},
      {"", "Atan", 7, kMaxOpset, float_unary<K::kAtan>},
      {"", "Atanh", 9, kMaxOpset, float_unary<K::kAtanh>},
      {"", "BitCast", 26, kMaxOpset, import_bit_cast},
      {"", "BitShift", 11, kMaxOpset, import_bit_shift},
      {"", "BitwiseAnd", 18, kMaxOpset, import_bitwise_and},
      {"", "BitwiseNot", 18, kMaxOpset, import_bitwise_not},
      {"", "BitwiseOr", 18, kMaxOpset, import_bitwise_or},
      {"", "BitwiseXor", 18, kMaxOpset, import_bitwise_xor},
      {"", "Cast", 6, kMaxOpset, import_cast},
      {"", "CastLike", 15, kMaxOpset, import_cast_like},
      {"", "Ceil", 6, kMaxOpset, float_unary<K::kCeil>},
      {"", "Cos", 7, kMaxOpset, float_unary<K::kCos>},
      {"", "Cosh", 9, kMaxOpset, float_unary<K::kCosh>},
      {"", "Div", 6, kMaxOpset, import_div},
      {"", "Equal", 6, kMaxOpset, import_equal},
      {"", "Erf", 9, kMaxOpset, float_unary<K::kErf>},
      {"", "Exp", 6, kMaxOpset, float_unary<K::kExp>},
      {"", "Floor", 6, kMaxOpset, float_unary<K::kFloor>},
      {"", "Greater", 6, kMaxOpset, import_greater},
      {"", "GreaterOrEqual", 12, kMaxOpset, import_greater_equal},
      {"", "IsInf", 10, kMaxOpset, import_is_inf},
      {"", "IsNaN", 9, kMaxOpset, import_is_nan},
      {"", "Less", 6, kMaxOpset, import_less},
      {"", "LessOrEqual", 12, kMaxOpset, import_less_equal},
      {"", "Log", 6, kMaxOpset, float_unary<K::kLog>},
      {"", "Max", 6, kMaxOpset, import_max},
      {"", "Mean", 6, kMaxOpset, import_mean},
      {"", "Min", 6, kMaxOpset, import_min},
      {"", "Mod", 10, kMaxOpset, import_mod},
      {"", "Mul", 6, kMaxOpset, import_mul},
      {"", "Neg", 6, kMaxOpset, import_neg},
      {"", "Not", 1, kMaxOpset, import_not},
      {"", "Or", 6, kMaxOpset, import_or},
      {"", "Pow", 6, kMaxOpset, import_pow},
      {"", "Reciprocal", 6, kMaxOpset, import_reciprocal},
      {"", "Round", 11, kMaxOpset, float_unary<K::kRint>},
      {"", "Sign", 9, kMaxOpset, import_sign},
      {"", "Sin", 7, kMaxOpset, float_unary<K::kSin>},
      {"", "Sinh", 9, kMaxOpset, float_unary<K::kSinh>},
      {"", "Sqrt", 6, kMaxOpset, float_unary<K::kSqrt>},
      {"", "Sub", 6, kMaxOpset, import_sub},
      {"", "Sum", 6, kMaxOpset, import_sum},
      {"", "Tan", 7, kMaxOpset, float_unary<K::kTan>},
      {"", "Where", 9, kMaxOpset, import_where},
      {"", "Xor", 6, kMaxOpset, import_xor},
  };
}

} // namespace ingot::aotc::importer
