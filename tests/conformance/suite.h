// The conformance suite: cases that every driver passes. A case is a function over a Subject, one row of the table of
// drivers (main.cpp); it throws Failed with the place and the condition.
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include <ingot/driver.h>
#include <ingot/ingot.hpp>

#include "tests/archive/support.h"

namespace conformance {

// A driver under test.
struct Subject {
  std::string name;    // of the row: "local-sync vmvx"
  std::string uri;     // "local-sync"
  std::string target;  // what it runs first; empty: no kernels
  std::string lose;    // URI that loses the device, a number to be appended; empty: it cannot
  int64_t spin;        // steps of kSpin in each of `groups` that take about 50 ms together (some devices bound a kernel's loops)
  uint32_t groups;
  bool wide_params;    // parameters have 64 bits
};

struct Failed {
  std::string what;
};

struct Case {
  const char *name;
  enum Needs : uint32_t { nothing = 0, kernels = 1, own_memory = 2, loss = 4, import = 8, vulkan = 16, cuda = 32, stream = 64, amdgpu = 128 };
  uint32_t needs;
  void (*run)(const Subject &s);
};
std::vector<Case> &cases();
struct Registered {
  Registered(const char *name, uint32_t needs, void (*run)(const Subject &)) { cases().push_back({name, needs, run}); }
};

[[noreturn]] inline void failed(const char *file, int line, const std::string &what) {
  const char *slash = __builtin_strrchr(file, '/');
  throw Failed{std::string(slash ? slash + 1 : file) + ":" + std::to_string(line) + ": " + what};
}

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
// CASE("name", Case::kernels) { ... with `s`, the Subject ... }
#define CASE(name, needs)                                                                                              \
  static void JOIN(case_, __LINE__)(const Subject &s);                                                                 \
  static const Registered JOIN(registered_, __LINE__)(name, needs, JOIN(case_, __LINE__));                             \
  static void JOIN(case_, __LINE__)([[maybe_unused]] const Subject &s)

#define EXPECT(condition)                                                                                              \
  do {                                                                                                                 \
    if (!(condition)) ::conformance::failed(__FILE__, __LINE__, #condition);                                           \
  } while (0)
#define EQUAL(a, b)                                                                                                    \
  do {                                                                                                                 \
    const auto equal_a = (a);                                                                                          \
    const auto equal_b = static_cast<std::decay_t<decltype(equal_a)>>(b);                                              \
    if (!(equal_a == equal_b))                                                                                         \
      ::conformance::failed(__FILE__, __LINE__, std::string(#a " == " #b ": ") + std::to_string(equal_a) + " and " + std::to_string(equal_b)); \
  } while (0)
// A Status or Result that is fine.
#define GOOD(status)                                                                                                   \
  do {                                                                                                                 \
    const auto &good = (status);                                                                                       \
    if (!good.ok()) ::conformance::failed(__FILE__, __LINE__, std::string(#status ": ") + good.message());             \
  } while (0)

// The driver of a URI, out of the table that is linked in.
const ingot_driver_t *driver_of(const std::string &uri);

} // namespace conformance
