// Archives that mutations start from: hand-made ones with and without native code, and files named by the
// caller.
#pragma once

#include <string>
#include <vector>

#include "tests/fuzz/mutate.h"

namespace fuzz {

struct Seed {
  std::string name;
  Bytes bytes;
};

std::vector<Seed> hand_made_seeds();
// A whole file; throws where it cannot be read.
Seed file_seed(const std::string &path);

} // namespace fuzz
