// Runs of the program `line` (programs.h), and of it while a vendor's library runs out of memory.
#pragma once

#include "tests/conformance/programs.h"
#include "tests/conformance/suite.h"

namespace conformance {

using Ints = std::vector<int32_t>;

inline void expect_line(const Ints &x, const Ints &y) {
  for (size_t i = 0; i < x.size(); ++i) EQUAL(y[i], (x[i] + 10 * int32_t(i)) * 3 - 5);
}

// One run of `line` from and to host memory.
inline ingot::Status run_line(ingot::Context &context, Ints &x, Ints &y) {
  const ingot::Tensor in[] = {support::tensor(x, INGOT_ELEMENT_TYPE_I32, {64})};
  ingot::Tensor out[] = {support::tensor(y, INGOT_ELEMENT_TYPE_I32, {64})};
  return context.run(in, out);
}

// fail_at(n): the n-th call of the library from now on that can run out of memory does so. Each of them does once.
inline void runs_out(const Subject &s, void (*fail_at)(int)) {
  bool survived = false;
  int failures = 0;
  for (int at = 1; at < 200 && !survived; ++at) {
    fail_at(at);
    support::Loaded l(line(s.target), s.uri.c_str());
    ingot::Status status = l.device.ok() ? l.session.ok() ? ingot::Status() : l.session.status() : l.device.status();
    if (status.ok()) {
      auto context = l.session->context();
      if (!context.ok()) status = context.status();
      Ints x(64, 2), y(64);
      for (int round = 0; round < 4 && status.ok(); ++round) {
        status = run_line(*context, x, y);
        if (status.ok()) expect_line(x, y);
      }
      if (context.ok() && !status.ok()) { // and the context goes on
        GOOD(run_line(*context, x, y));
        expect_line(x, y);
      }
    }
    survived = status.ok();
    if (!survived) EQUAL(status.code(), INGOT_OUT_OF_MEMORY);
    failures += !survived;
  }
  fail_at(0);
  EXPECT(survived);
  EXPECT(failures >= 10);
}

} // namespace conformance
