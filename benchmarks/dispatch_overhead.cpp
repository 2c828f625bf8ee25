// What a dispatch costs on a CPU driver: (time of a run of 1,000 empty kernels - time of a run of one) / 999, and run +
// wait of one empty kernel, for a context and for a session. The bar is 0.1 us for each on local-sync, and 3 us for run +
// wait on local-task with two threads, also where the dispatch claims to be large and really is shared between them.
// `--check` makes it an exit status. Prints nanoseconds, the best of many rounds: what is measured is the work to do, not
// the machine's noise.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/archive/hand_made.h"
#include "tests/archive/support.h"
#include "tests/task/programs.h"

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
  Prepared(const std::vector<uint8_t> &archive, const char *uri)
      : loaded(archive, uri), context(loaded.session->context()), output{ingot::view(y)} {
    if (context.ok()) return;
    std::fprintf(stderr, "%s\n", loaded.error().c_str());
    std::exit(2);
  }
  bool run_context() { return ingot_context_run(context->get(), 0, nullptr, 0, output, 1, nullptr, nullptr) == INGOT_OK; }
  bool run_session() { return ingot_session_run(loaded.session->get(), 0, nullptr, 0, output, 1, nullptr) == INGOT_OK; }
  float y = 0;
  support::Loaded loaded;
  ingot::Result<ingot::Context> context;
  ingot::Tensor output[1];
};

struct Costs {
  double each, single, session;
};

Costs measure(const char *uri) {
  Prepared one(hand_made::empties(1), uri), thousand(hand_made::empties(1000), uri);
  Costs c;
  c.single = best(20000, [&] { return one.run_context(); });
  c.session = best(20000, [&] { return one.run_session(); });
  c.each = (best(200, [&] { return thousand.run_context(); }) - c.single) / 999;
  std::printf("%s\n  dispatch, (1000 - 1) / 999:   %8.2f ns\n  run + wait of one, context:   %8.1f ns\n"
              "  run + wait of one, session:   %8.1f ns\n", uri, c.each, c.single, c.session);
  return c;
}

} // namespace

int main(int argc, char **argv) {
  const Costs sync = measure("local-sync");
  bool good = sync.each <= 100 && sync.single <= 100 && sync.session <= 100;
#if INGOT_DRIVER_LOCAL_TASK
  const char *uri = "local-task://0?threads=2";
  const Costs task = measure(uri);
  Prepared one(task_programs::claiming_empties(1, 64, 1'000'000), uri);
  Prepared hundred(task_programs::claiming_empties(100, 64, 1'000'000), uri);
  const double single = best(5000, [&] { return one.run_context(); });
  const double each = (best(200, [&] { return hundred.run_context(); }) - single) / 99;
  std::printf("  run + wait of one, shared:    %8.1f ns\n  dispatch, shared:             %8.1f ns\n", single, each);
  good = good && task.single <= 3000 && task.session <= 3000 && single <= 3000;
#endif
  if (argc > 1 && std::strcmp(argv[1], "--check") == 0 && !good) {
    std::fprintf(stderr, "above the bar of 100 ns (local-task: 3,000 ns)\n");
    return 1;
  }
  return 0;
}
