// InternalError: a bug of the compiler (exit status 3), thrown where an invariant is broken. What a user can cause is
// reported through Diagnostics instead (diagnostics.h).
#pragma once

#include <stdexcept>
#include <string>

namespace ingot::aotc {

struct InternalError : std::logic_error {
  using std::logic_error::logic_error;
};

// Throws InternalError where `condition` is false.
inline void ensure(bool condition, const char *message) {
  if (!condition)
    throw InternalError(message);
}
inline void ensure(bool condition, const std::string &message) {
  if (!condition)
    throw InternalError(message);
}

} // namespace ingot::aotc
