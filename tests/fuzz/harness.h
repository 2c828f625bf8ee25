// Runs one archive, hostile or not, through everything that reads it: opening, introspection, hashes, preparing
// on every driver, and running on the null driver, which executes the whole program but no native code.
// Anything but a clean refusal or a clean run ends the process (the sanitizers, or die() here).
#pragma once

#include <cstddef>
#include <cstdint>

namespace fuzz {

enum class Outcome { refused, loaded, ran };

struct Report {
  Outcome outcome = Outcome::refused; // of the archive: how far it came
  int runs_ok = 0, runs_failed = 0;   // functions run, on any driver
  bool hashes_ok = false;
  char message[512] = {}; // why it was refused
};

// Memory that an archive may take, so that sizes of petabytes become INGOT_OUT_OF_MEMORY and not a slow
// machine.
constexpr size_t kMemoryLimit = size_t(64) << 20;

Report exercise(const uint8_t *data, size_t size);

} // namespace fuzz
