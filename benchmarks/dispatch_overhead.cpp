// What a dispatch costs on local-sync: (time of a run of 1,000 empty kernels - time of a run of one) / 999, and run +
// wait of one empty kernel, for a context and for a session. The bar is 0.1 us for each; `--check` makes it an exit
// status. Prints nanoseconds, the best of many rounds: what is measured is the work to do, not the machine's noise.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>

#include "tests/archive/hand_made.h"
#include "tests/archive/support.h"

namespace {

// Nanoseconds of one call of `run`, the best of 30 rounds of `times` calls.
template <class Run> double best(int times, Run run) {
  double least = 1e30;
  for (int round = 0; round < 30; ++round) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < times; ++i)
      if (!run()) std::abort();
    const std::chrono::duration<double, std::nano> time = std::chrono::steady_clock::now() - start;
    least = std::min(least, time.count() / times);
  }
  return least;
}

struct Prepared {
  explicit Prepared(uint32_t dispatches)
      : loaded(hand_made::empties(dispatches)), context(loaded.session->context()), output{ingot::view(y)} {}
  bool run_context() { return ingot_context_run(context->get(), 0, nullptr, 0, output, 1, nullptr, nullptr) == INGOT_OK; }
  bool run_session() { return ingot_session_run(loaded.session->get(), 0, nullptr, 0, output, 1, nullptr) == INGOT_OK; }
  float y = 0;
  support::Loaded loaded;
  ingot::Result<ingot::Context> context;
  ingot::Tensor output[1];
};

} // namespace

int main(int argc, char **argv) {
  Prepared one(1), thousand(1000);
  if (!one.context.ok() || !thousand.context.ok()) {
    std::fprintf(stderr, "%s\n", one.loaded.error().c_str());
    return 2;
  }
  const double single = best(20000, [&] { return one.run_context(); });
  const double session = best(20000, [&] { return one.run_session(); });
  const double many = best(200, [&] { return thousand.run_context(); });
  const double each = (many - single) / 999;
  std::printf("dispatch, (1000 - 1) / 999: %.2f ns\nrun + wait of one, context: %.1f ns\nrun + wait of one, session: %.1f ns\n",
              each, single, session);
  const bool good = each <= 100 && single <= 100 && session <= 100;
  if (argc > 1 && std::strcmp(argv[1], "--check") == 0 && !good) {
    std::fprintf(stderr, "above the bar of 100 ns\n");
    return 1;
  }
  return 0;
}
