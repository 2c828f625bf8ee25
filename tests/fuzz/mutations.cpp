// Seeded mutations of archives against everything that reads them, built with the address and
// undefined-behaviour sanitizers. Prints a result line per kind of mutation; a crash ends it, with the number
// of the mutant on stderr.
//   mutations [--count=N] [--seed=N] [--only=KIND:SEED:NUMBER] [ARCHIVE.ingot...]
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include <unistd.h>

#include "tests/fuzz/harness.h"
#include "tests/fuzz/seeds.h"

namespace {

using namespace fuzz;

char g_current[256]; // names the mutant that a crash happened in

extern "C" void __sanitizer_set_death_callback(void (*)(void));

void on_death() {
  const ssize_t ignored = write(2, g_current, std::strlen(g_current));
  (void)ignored;
}

struct Tally {
  long total = 0, refused = 0, loaded = 0, ran = 0, runs_ok = 0, runs_failed = 0;
  double slowest = 0;
};

int failures = 0;

void result(const char *name, bool ok, const std::string &text) {
  std::printf("%s fuzz/%s # %s\n", ok ? "ok" : "not ok", name, text.c_str());
  std::fflush(stdout);
  failures += !ok;
}

std::string describe(const Tally &t) {
  char text[256];
  std::snprintf(text, sizeof text,
                "%ld archives: %ld refused, %ld loaded only, %ld run (%ld runs succeeded, %ld failed cleanly), "
                "slowest %.0f ms",
                t.total, t.refused, t.loaded, t.ran, t.runs_ok, t.runs_failed, t.slowest * 1e3);
  return text;
}

Report observe(const Bytes &bytes, Tally *tally) {
  const auto start = std::chrono::steady_clock::now();
  const Report report = exercise(bytes.data(), bytes.size());
  const double time = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  ++tally->total;
  tally->refused += report.outcome == Outcome::refused;
  tally->loaded += report.outcome == Outcome::loaded;
  tally->ran += report.outcome == Outcome::ran;
  tally->runs_ok += report.runs_ok;
  tally->runs_failed += report.runs_failed;
  if (time > tally->slowest) tally->slowest = time;
  return report;
}

} // namespace

int main(int argc, char **argv) {
  long count = 12000;
  uint64_t base = 20250101;
  std::string only;
  std::vector<Seed> seeds = hand_made_seeds();
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], "--count=", 8) == 0)
      count = std::atol(argv[i] + 8);
    else if (std::strncmp(argv[i], "--seed=", 7) == 0)
      base = std::strtoull(argv[i] + 7, nullptr, 10);
    else if (std::strncmp(argv[i], "--only=", 7) == 0)
      only = argv[i] + 7;
    else
      seeds.push_back(file_seed(argv[i]));
  }
  __sanitizer_set_death_callback(on_death);
  std::signal(SIGABRT, [](int) { on_death(); });

  Tally whole;
  for (const Seed &seed : seeds) {
    std::snprintf(g_current, sizeof g_current, "\nfuzz: in the seed %s\n", seed.name.c_str());
    const Report report = observe(seed.bytes, &whole);
    if (std::getenv("FUZZ_VERBOSE"))
      std::printf("# %s: outcome %d, %d ok, %d failed\n", seed.name.c_str(), int(report.outcome),
                  report.runs_ok, report.runs_failed);
    // Programs with kernels may fail on the null driver, where nobody computes the scalars that they decide by.
    if (report.outcome != Outcome::ran || !report.hashes_ok ||
        (seed.name.compare(0, 6, "plain_") == 0 && report.runs_failed != 0))
      result(("seed-" + seed.name).c_str(), false,
             report.message[0] ? report.message : "the seed itself does not run");
  }
  result("seeds", whole.ran == long(seeds.size()), describe(whole));

  struct Kind {
    const char *name;
    Bytes (*mutate)(const Bytes &, Random &);
    long share;       // percent of the mutants
    bool must_refuse; // every mutant that differs is refused, at the latest by its hashes
    bool must_run;    // some must get as far as running, or the mutations are too coarse to show anything
  };
  static constexpr auto kRandom = [](const Bytes &, Random &random) { return random_bytes(random); };
  const Kind kinds[] = {
      {"truncated", truncated, 10, true, false},        {"bit-flipped", bit_flipped, 15, true, false},
      {"random-bytes", kRandom, 5, true, false},        {"scrambled-repaired", scrambled, 20, false, true},
      {"reshaped-repaired", reshaped, 40, false, true}, {"recoded-repaired", recoded, 10, false, true}};
  for (const Kind &kind : kinds) {
    Tally tally;
    long accepted_damage = 0;
    std::string first;
    const long mutants = count * kind.share / 100 / long(seeds.size()) + 1;
    for (const Seed &seed : seeds)
      for (long n = 0; n < mutants; ++n) {
        char name[200];
        std::snprintf(name, sizeof name, "%s:%s:%ld", kind.name, seed.name.c_str(), n);
        std::snprintf(g_current, sizeof g_current, "\nfuzz: in mutant --seed=%llu --only=%s\n",
                      (unsigned long long)base, name);
        if (!only.empty() && only != name) continue;
        uint64_t own = base;
        for (const char *c = name; *c; ++c) own = own * 1099511628211u + uint8_t(*c);
        Random random(own);
        const Bytes mutant = kind.mutate(seed.bytes, random);
        const Report report = observe(mutant, &tally);
        if (!only.empty()) std::printf("# outcome %d: %s\n", int(report.outcome), report.message);
        if (kind.must_refuse && report.outcome != Outcome::refused && report.hashes_ok &&
            mutant != seed.bytes) {
          if (accepted_damage++ == 0) first = name;
        }
      }
    if (!only.empty() && tally.total == 0) continue;
    if (accepted_damage)
      result(kind.name, false,
             std::to_string(accepted_damage) + " damaged archives were accepted, first " + first);
    else if (kind.must_run && only.empty() && (tally.ran == 0 || tally.refused == 0))
      result(kind.name, false, "shows nothing: " + describe(tally));
    else
      result(kind.name, tally.slowest < 5, describe(tally));
  }
  return failures ? 1 : 0;
}
