// Writes a sound archive to the first path, and `count` damaged ones to PATH.0, PATH.1, ...: cut, flipped, and changed
// with checksums made right again but native code unreachable from what was changed.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/archive/hand_made.h"
#include "tests/archive/mutate.h"

namespace {

void write(const std::string &path, const std::vector<uint8_t> &bytes) {
  FILE *file = std::fopen(path.c_str(), "wb");
  if (!file || std::fwrite(bytes.data(), 1, bytes.size(), file) != bytes.size() || std::fclose(file) != 0) std::abort();
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  const std::string path = argv[1];
  const std::vector<uint8_t> good = hand_made::add_scale(16);
  write(path, good);
  mutate::Random random{41};
  for (int i = 0, count = std::atoi(argv[2]); i < count; ++i) {
    std::vector<uint8_t> bad = good;
    ingot::program::Header h;
    std::memcpy(&h, bad.data(), sizeof h);
    if (i % 2) bad.resize(random.below(uint32_t(bad.size())));
    else bad[random.below(uint32_t(64 + h.metadata_size))] ^= uint8_t(1u << random.below(8));
    write(path + "." + std::to_string(i), bad);
  }
}
