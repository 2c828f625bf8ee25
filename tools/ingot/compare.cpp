#include "tools/ingot/compare.h"

#include <algorithm>
#include <cmath>

#include "tools/ingot/failure.h"

namespace ingot::tool {

std::string position(const TensorType &type, int64_t index) {
  std::vector<int64_t> at(type.dims.size());
  for (size_t d = type.dims.size(); d-- > 0; index /= type.dims[d]) at[d] = index % type.dims[d];
  std::string out = "[";
  for (size_t d = 0; d < at.size(); ++d) out += (d ? ", " : "") + std::to_string(at[d]);
  return out + "]";
}

namespace {

struct Peak {
  double value = 0;
  bool constant = false, finite = true;
};

Peak peak_of(const HostTensor &reference, int64_t count) {
  Peak peak;
  peak.constant = count > 1;
  double first[2] = {};
  for (int64_t i = 0; i < count; ++i) {
    double part[2];
    part[0] = element(reference, i, &part[1]);
    if (i == 0) std::copy(part, part + 2, first);
    if (part[0] != first[0] || part[1] != first[1]) peak.constant = false;
    for (double p : part)
      if (std::isfinite(p))
        peak.value = std::max(peak.value, std::fabs(p));
      else
        peak.finite = false;
  }
  return peak;
}

// Numbers of the type in order, so that neighbours differ by 1 and both zeros are 0. Only for f16, bf16, f32, f64.
int64_t rank_of(uint64_t bits, uint32_t width) {
  const uint64_t sign = uint64_t(1) << (width - 1);
  const int64_t magnitude = int64_t(bits & (sign - 1));
  return bits & sign ? -magnitude : magnitude;
}

uint64_t distance(int64_t a, int64_t b) { return a > b ? uint64_t(a) - uint64_t(b) : uint64_t(b) - uint64_t(a); }

uint32_t ranked_width(ElementType type) {
  switch (type) {
    case INGOT_ELEMENT_TYPE_F16:
    case INGOT_ELEMENT_TYPE_BF16: return 16;
    case INGOT_ELEMENT_TYPE_F32: return 32;
    case INGOT_ELEMENT_TYPE_F64: return 64;
    default: return 0;
  }
}

} // namespace

Difference compare(const HostTensor &actual, const HostTensor &reference, const Tolerance &tolerance) {
  const ElementType type = reference.type.type;
  const bool exact = !is_float(type) && !is_complex(type);
  const uint32_t width = ranked_width(type);
  Difference out;
  out.count = element_count(reference.type);
  const Peak peak = peak_of(reference, out.count);
  out.peak = peak.value;
  if (!peak.finite)
    out.degenerate = "not finite";
  else if (out.count && peak.value == 0)
    out.degenerate = "zero";
  else if (peak.constant)
    out.degenerate = "constant";
  if (width) out.ulp = 0;
  const double relative = tolerance.relative.value_or(0);
  const double absolute = tolerance.absolute.value_or(0) + tolerance.of_peak.value_or(0) * peak.value;
  for (int64_t i = 0; i < out.count; ++i) {
    if (exact && element_bits(actual, i) == element_bits(reference, i)) continue;
    double a[2], r[2], error = 0;
    a[0] = element(actual, i, &a[1]);
    r[0] = element(reference, i, &r[1]);
    bool near = !exact || tolerance.integers;
    for (int part = 0; part < 2; ++part) {
      if (a[part] == r[part] || (std::isnan(a[part]) && std::isnan(r[part]))) continue;
      const double difference = std::fabs(a[part] - r[part]);
      error = std::max(error, std::isfinite(difference) ? difference : HUGE_VAL);
      near = near && std::isfinite(r[part]) && difference <= absolute + relative * std::fabs(r[part]);
    }
    if (exact && error == 0) error = 1; // integers above 2^53
    if (width && error > 0 && !std::isnan(a[0]) && !std::isnan(r[0])) {
      const uint64_t ulp = distance(rank_of(element_bits(actual, i), width), rank_of(element_bits(reference, i), width));
      out.ulp = std::max(*out.ulp, ulp);
      near = near || (tolerance.ulp && ulp <= *tolerance.ulp);
    }
    if (error > out.error) out.error = error, out.at = i;
    if (!near && out.wrong++ == 0) out.first = i;
  }
  return out;
}

std::string disagreement(const HostTensor &actual, const HostTensor &reference, const Tolerance &tolerance) {
  if (!(actual.type == reference.type))
    return "it is " + to_text(actual.type) + ", expected " + to_text(reference.type);
  const bool exact = !is_float(reference.type.type) && !is_complex(reference.type.type);
  const bool given = tolerance.relative || tolerance.absolute;
  Tolerance used = tolerance;
  if (!given) used.relative = 1e-3, used.of_peak = 1e-4;
  const Difference d = compare(actual, reference, used);
  if (!exact && !given && !d.degenerate.empty())
    return "the reference is " + d.degenerate +
           ", so it proves nothing; give --rtol and --atol to compare all the same";
  if (d.wrong == 0) return "";
  std::string out = format("%lld of %lld elements differ, first at %s: %s, expected %s", (long long)d.wrong,
                           (long long)d.count, position(reference.type, d.first).c_str(),
                           element_text(actual, d.first).c_str(), element_text(reference, d.first).c_str());
  if (!exact) out += format("; worst difference %.3g", d.error);
  return out;
}

} // namespace ingot::tool
