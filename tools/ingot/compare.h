// Does a result agree with a reference?
#pragma once

#include <optional>
#include <string>

#include "tools/ingot/tensor.h"

namespace ingot::tool {

struct Tolerance {
  std::optional<double> relative,
      absolute; // of |a - r| <= absolute + relative * |r|; one that is not set counts as 0
  std::optional<double> of_peak = {}; // adds of_peak * max|r| to `absolute`
  std::optional<uint64_t> ulp = {};   // floats this near agree whatever the others say
  bool integers = false;              // `relative` and `absolute` hold for integers too; else they must be equal
};

// How far a result lies from a reference of the same type.
struct Difference {
  int64_t count = 0, wrong = 0; // elements, and those outside the tolerance
  int64_t first = -1;           // the first of those
  int64_t at = -1;              // where the largest error is
  double error = 0;             // largest |a - r|; infinite where only one of them is, or is NaN
  double peak = 0;              // largest finite |r|: the tensor's scale
  std::optional<uint64_t> ulp;  // floats: most numbers of the type between a and r, at any element
  std::string degenerate;       // "constant", "zero", "not finite": such a reference proves little; else empty
};
Difference compare(const HostTensor &actual, const HostTensor &reference, const Tolerance &tolerance);
// "[1, 0, 3]" of element `index`.
std::string position(const TensorType &type, int64_t index);

// Empty where `actual` agrees with `reference`, else what is wrong. Shapes and types must be equal, and so must
// everything that is no float. Floats without a tolerance *agree* where |a - r| <= 1e-3 |r| + 1e-4 max|r|; a
// reference that is constant, zero or not finite then proves nothing, and fails. With a tolerance, infinities
// must be equal and NaN meets NaN.
std::string disagreement(const HostTensor &actual, const HostTensor &reference, const Tolerance &tolerance);

} // namespace ingot::tool
