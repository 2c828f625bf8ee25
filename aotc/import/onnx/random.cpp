// Random numbers: a hash of the element's number and the node's seed (its attribute, else its name), so a run gives
// the same numbers on every target and every time. RandomUniform, RandomNormal (and ...Like), Bernoulli, and Dropout's mask.
#include <cmath>
#include <cstring>

#include "aotc/import/onnx/algebra.h"
#include "aotc/import/onnx/random.h"

namespace ingot::aotc::importer {

namespace {

constexpr ElementType kF32 = ElementType::kF32, kI32 = ElementType::kI32;

uint32_t seed_of(Node &n) {
  uint32_t h = 2166136261u; // FNV-1a
  const auto mix = [&](uint8_t byte) { h = (h ^ byte) * 16777619u; };
  if (const onnx::AttributeProto *a = n.attribute("seed")) {
    const float seed = a->type() == onnx::AttributeProto::INT ? static_cast<float>(a->i()) : n.float_attr("seed", 0);
    uint8_t bytes[4];
    std::memcpy(bytes, &seed, 4);
    for (uint8_t b : bytes)
      mix(b);
  } else {
    for (char c : n.name)
      mix(static_cast<uint8_t>(c));
  }
  return h;
}

ElementType dtype(Node &n, ElementType otherwise) {
  if (!n.attribute("dtype"))
    return otherwise;
  const int32_t code = static_cast<int32_t>(n.int_attr("dtype", 0));
  const auto type = element_type(code);
  if (!type)
    n.fail("attribute 'dtype' is the element type " + onnx_type_name(code) + ", which is not supported");
  return *type;
}

void uniform(Node &n, ElementType e, const Dims &dims) {
  if (!is_float(e))
    n.fail("gives floats, not " + std::string(name(e)));
  Algebra a(n);
  const double low = n.float_attr("low", 0), high = n.float_attr("high", 1);
  n.set(0, n.b.convert(e, a.add(a.mul(random_unit(n, dims, 0), high - low), low)));
}

void normal(Node &n, ElementType e, const Dims &dims) {
  if (!is_float(e))
    n.fail("gives floats, not " + std::string(name(e)));
  Algebra a(n);
  // Box and Muller's: two uniform numbers give a normal one. 1 - u is never 0.
  const ValueId u = random_unit(n, dims, 0), v = random_unit(n, dims, 1);
  const ValueId radius = a.map(K::kSqrt, a.mul(a.map(K::kLog, a.sub(a.number(u, 1), u)), -2));
  const ValueId unit = a.mul(radius, a.map(K::kCos, a.mul(v, 2 * 3.14159265358979323846)));
  n.set(0, n.b.convert(e, a.add(a.mul(unit, n.float_attr("scale", 1)), n.float_attr("mean", 0))));
}

Dims shape_attr(Node &n) {
  Dims dims;
  for (int64_t d : n.ints_attr("shape").value_or(std::vector<int64_t>()))
    dims.push_back(d);
  return n.check_dims(dims);
}

void import_random_uniform(Node &n) {
  n.need_inputs(0, 0);
  uniform(n, dtype(n, kF32), shape_attr(n));
}
void import_random_uniform_like(Node &n) {
  n.need_inputs(1, 1);
  uniform(n, dtype(n, n.element(0)), n.dims(0));
}
void import_random_normal(Node &n) {
  n.need_inputs(0, 0);
  normal(n, dtype(n, kF32), shape_attr(n));
}
void import_random_normal_like(Node &n) {
  n.need_inputs(1, 1);
  normal(n, dtype(n, n.element(0)), n.dims(0));
}

// 1 with the probability that the input gives, else 0.
void import_bernoulli(Node &n) {
  n.need_inputs(1, 1);
  n.need_float(0);
  Algebra a(n);
  const ValueId hit = a.lt(random_unit(n, n.dims(0), 0), n.b.convert(kF32, n.in(0)));
  n.set(0, n.b.convert(dtype(n, n.element(0)), hit));
}

} // namespace

ValueId random_unit(Node &n, const Dims &dims, uint32_t stream) {
  Algebra a(n);
  const auto c = [&](uint32_t v) { return n.b.splat_int(kI32, {}, static_cast<int32_t>(v)); };
  ValueId x = n.b.splat_int(kI32, dims, static_cast<int32_t>(seed_of(n) + stream * 0x9e3779b9u));
  Expr stride = 1;
  for (size_t i = dims.size(); i-- > 0;) {
    x = a.add(x, a.mul(n.b.iota(kI32, dims, static_cast<uint32_t>(i), 0, stride), c(0x9e3779b1u)));
    stride = stride * dims[i];
  }
  const auto fold = [&](int64_t shift) { x = a.map(K::kXor, x, a.map(K::kShrU, x, n.b.splat_int(kI32, {}, shift))); };
  fold(16);
  x = a.mul(x, c(0x7feb352du));
  fold(15);
  x = a.mul(x, c(0x846ca68bu));
  fold(16);
  return a.mul(n.b.convert(kF32, a.map(K::kShrU, x, c(8))), std::ldexp(1.0, -24));
}

std::vector<OperatorRow> random_operators() {
  return {
      {"", "Bernoulli", 15, kMaxOpset, import_bernoulli},
      {"", "RandomNormal", 1, kMaxOpset, import_random_normal},
      {"", "RandomNormalLike", 1, kMaxOpset, import_random_normal_like},
      {"", "RandomUniform", 1, kMaxOpset, import_random_uniform},
      {"", "RandomUniformLike", 1, kMaxOpset, import_random_uniform_like},
  };
}

} // namespace ingot::aotc::importer
