#include "tools/ingot/compare.h"

#include <algorithm>
#include <cmath>

#include "tools/ingot/failure.h"

namespace ingot::tool {

namespace {

std::string position(const TensorType &type, int64_t index) {
  std::vector<int64_t> at(type.dims.size());
  for (size_t d = type.dims.size(); d-- > 0; index /= type.dims[d]) at[d] = index % type.dims[d];
  std::string out = "[";
  for (size_t d = 0; d < at.size(); ++d) out += (d ? ", " : "") + std::to_string(at[d]);
  return out + "]";
}

} // namespace

std::string disagreement(const HostTensor &actual, const HostTensor &reference, const Tolerance &tolerance) {
  if (!(actual.type == reference.type))
    return "it is " + to_text(actual.type) + ", expected " + to_text(reference.type);
  const int64_t count = element_count(reference.type);
  const bool exact = !is_float(reference.type.type) && !is_complex(reference.type.type);
  int64_t wrong = 0, first = 0;
  double worst = 0;
  const auto differs = [&](int64_t i) {
    if (wrong++ == 0) first = i;
  };
  if (exact) {
    for (int64_t i = 0; i < count; ++i)
      if (element_bits(actual, i) != element_bits(reference, i)) differs(i);
  } else {
    double peak = 0;
    bool constant = count > 1, finite = true;
    double first_part[2] = {};
    for (int64_t i = 0; i < count; ++i) {
      double part[2];
      part[0] = element(reference, i, &part[1]);
      if (i == 0) std::copy(part, part + 2, first_part);
      if (part[0] != first_part[0] || part[1] != first_part[1]) constant = false;
      for (double p : part) {
        if (std::isfinite(p))
          peak = std::max(peak, std::fabs(p));
        else
          finite = false;
      }
    }
    const bool given = tolerance.relative || tolerance.absolute;
    if (!given) {
      if (!finite)
        return "the reference is not finite, so it proves nothing; give --rtol and --atol to compare all the "
               "same";
      if (count && peak == 0)
        return "the reference is zero, so it proves nothing; give --rtol and --atol to compare all the same";
      if (constant)
        return "the reference is constant, so it proves nothing; give --rtol and --atol to compare all the "
               "same";
    }
    const double relative = given ? tolerance.relative.value_or(0) : 1e-3;
    const double absolute = given ? tolerance.absolute.value_or(0) : 1e-4 * peak;
    for (int64_t i = 0; i < count; ++i) {
      double a[2], r[2];
      a[0] = element(actual, i, &a[1]);
      r[0] = element(reference, i, &r[1]);
      for (int part = 0; part < 2; ++part) {
        const bool same = a[part] == r[part] || (std::isnan(a[part]) && std::isnan(r[part]));
        const double difference = std::fabs(a[part] - r[part]);
        if (same || (std::isfinite(r[part]) && difference <= absolute + relative * std::fabs(r[part])))
          continue;
        if (std::isfinite(difference)) worst = std::max(worst, difference);
        differs(i);
        break;
      }
    }
  }
  if (wrong == 0) return "";
  std::string out = format("%lld of %lld elements differ, first at %s: %s, expected %s", (long long)wrong,
                           (long long)count, position(reference.type, first).c_str(),
                           element_text(actual, first).c_str(), element_text(reference, first).c_str());
  if (!exact) out += format("; worst difference %.3g", worst);
  return out;
}

} // namespace ingot::tool
