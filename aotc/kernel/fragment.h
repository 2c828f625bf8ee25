// The second immediate of a kFragmentMma: which half of B, and of i8 how the elements of each factor count.
#pragma once

#include <cstdint>

namespace ingot::aotc::kernel {

constexpr int64_t kHalfOfB = 1, kUnsignedA = 2, kUnsignedB = 4;

} // namespace ingot::aotc::kernel
