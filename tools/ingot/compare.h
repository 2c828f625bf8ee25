// Does a result agree with a reference?
#pragma once

#include <optional>
#include <string>

#include "tools/ingot/tensor.h"

namespace ingot::tool {

struct Tolerance {
  std::optional<double> relative,
      absolute; // of |a - r| <= absolute + relative * |r|; one that is not set counts as 0
};

// Empty where `actual` agrees with `reference`, else what is wrong. Shapes and types must be equal, and so must
// everything that is no float. Floats without a tolerance *agree* where |a - r| <= 1e-3 |r| + 1e-4 max|r|; a
// reference that is constant, zero or not finite then proves nothing, and fails. With a tolerance, infinities
// must be equal and NaN meets NaN.
std::string disagreement(const HostTensor &actual, const HostTensor &reference, const Tolerance &tolerance);

} // namespace ingot::tool
