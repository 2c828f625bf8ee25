// Levels of commands: named cases, and random accesses against the definition itself.
#include <catch2/catch.hpp>

#include <algorithm>
#include <vector>

#include "src/drivers/local/hazards.h"
#include "tests/archive/mutate.h"

using ingot::drivers::Hazards;

namespace {

struct Access {
  uintptr_t begin;
  uint64_t length;
  bool writes;
  const void *data() const { return reinterpret_cast<const void *>(begin); }
};

uint32_t place(Hazards &hazards, const std::vector<Access> &command) {
  uint32_t level = 0;
  for (const Access &a : command) level = std::max(level, hazards.level(a.data(), a.length, a.writes));
  for (const Access &a : command) hazards.note(a.data(), a.length, a.writes, level);
  return level;
}

bool conflict(const Access &a, const Access &b) {
  return (a.writes || b.writes) && a.length && b.length && a.begin < b.begin + b.length &&
         b.begin < a.begin + a.length;
}

} // namespace

TEST_CASE("reads, writes and untouched bytes") {
  Hazards hazards;
  REQUIRE(hazards.reserve(ingot::resolve_allocator(nullptr), 32, nullptr) == INGOT_OK);
  CHECK(place(hazards, {{100, 50, true}}) == 0);
  CHECK(place(hazards, {{100, 50, false}}) == 1);                 // read after write
  CHECK(place(hazards, {{120, 10, false}}) == 1);                 // reads do not disturb each other
  CHECK(place(hazards, {{149, 1, true}}) == 2);                   // write after read, of one byte
  CHECK(place(hazards, {{100, 49, true}}) == 2);                  // the rest is independent of that byte
  CHECK(place(hazards, {{150, 50, true}}) == 0);                  // behind
  CHECK(place(hazards, {{50, 50, true}}) == 0);                   // before
  CHECK(place(hazards, {{40, 200, false}}) == 3);                 // over all of it
  CHECK(place(hazards, {{0, 40, false}, {400, 10, true}}) == 0);  // elsewhere
  CHECK(place(hazards, {{110, 0, true}}) == 0);                   // no bytes, no conflict
  CHECK(place(hazards, {{405, 1, false}, {100, 1, false}}) == 3); // the higher of two
  hazards.reset();
  CHECK(place(hazards, {{100, 50, false}}) == 0);
}

TEST_CASE("random commands follow exactly those that they conflict with") {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    mutate::Random random{seed};
    const uint32_t span = 1 + random.below(2000);
    Hazards hazards;
    std::vector<std::vector<Access>> commands(1 + random.below(60));
    size_t accesses = 0;
    for (auto &command : commands) {
      command.resize(random.below(6));
      accesses += command.size();
      for (Access &a : command)
        a = {4096 + random.below(span), random.below(random.below(4) ? 20 : span), random.below(3) == 0};
    }
    REQUIRE(hazards.reserve(ingot::resolve_allocator(nullptr), accesses, nullptr) == INGOT_OK);
    std::vector<uint32_t> levels;
    for (size_t i = 0; i < commands.size(); ++i) {
      uint32_t expected = 0;
      for (size_t j = 0; j < i; ++j)
        for (const Access &a : commands[i])
          for (const Access &b : commands[j])
            if (conflict(a, b)) expected = std::max(expected, levels[j] + 1);
      INFO("seed " << seed << ", command " << i);
      levels.push_back(place(hazards, commands[i]));
      REQUIRE(levels.back() == expected);
      REQUIRE(hazards.interval_count() <= 2 * accesses);
    }
  }
}
