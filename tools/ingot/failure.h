// How the tool reports trouble: an exception that carries the exit status of interface and message. main()
// prints it.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <stdexcept>
#include <string>

#include <ingot/ingot.hpp>

namespace ingot::tool {

constexpr int kFailed = 1, kWrongUsage = 2, kInternal = 3;

class Failure : public std::runtime_error {
 public:
  Failure(int status, const std::string &message) : std::runtime_error(message), status(status) {}
  const int status;
};

// printf into a string.
inline std::string format(const char *text, ...) __attribute__((format(printf, 1, 2)));
inline std::string format(const char *text, ...) {
  va_list arguments, again;
  va_start(arguments, text);
  va_copy(again, arguments);
  std::string out(static_cast<size_t>(std::vsnprintf(nullptr, 0, text, arguments)), '\0');
  va_end(arguments);
  std::vsnprintf(out.data(), out.size() + 1, text, again);
  va_end(again);
  return out;
}

// The input cannot be used: exit status 1.
[[noreturn]] inline void fail(const std::string &message) { throw Failure(kFailed, message); }
// The command line is wrong: exit status 2.
[[noreturn]] inline void misuse(const std::string &message) { throw Failure(kWrongUsage, message); }

// Turns a failed call into a Failure, with `where` before the runtime's own message.
inline void check(ingot_code_t code, const ingot_error_t &error, const std::string &where = "") {
  if (code == INGOT_OK) return;
  throw Failure(code == INGOT_INTERNAL ? kInternal : kFailed,
                (where.empty() ? "" : where + ": ") + error.message + " [" + ingot_code_name(code) + "]");
}

inline void check(const Status &status, const std::string &where = "") {
  check(status.code(), status.error(), where);
}

} // namespace ingot::tool
