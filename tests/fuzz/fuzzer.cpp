// libFuzzer target: any bytes through everything that reads an archive. The custom mutator is structure-aware
// and repairs the checksums, without which nearly every input would end at the first of them.
#include <cstring>
#include <fstream>
#include <string>

#include "tests/fuzz/harness.h"
#include "tests/fuzz/seeds.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

// `-ingot_write_seeds=FOLDER` writes the hand-made archives there as a corpus, and ends.
extern "C" int LLVMFuzzerInitialize(int *argc, char ***argv) {
  for (int i = 1; i < *argc; ++i) {
    static constexpr char kFlag[] = "-ingot_write_seeds=";
    if (std::strncmp((*argv)[i], kFlag, sizeof kFlag - 1) != 0) continue;
    for (const fuzz::Seed &seed : fuzz::hand_made_seeds()) {
      std::ofstream file(std::string((*argv)[i] + sizeof kFlag - 1) + "/" + seed.name, std::ios::binary);
      file.write(reinterpret_cast<const char *>(seed.bytes.data()), long(seed.bytes.size()));
      if (!file.flush()) exit(1);
    }
    exit(0);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  fuzz::exercise(data, size);
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed) {
  fuzz::Random random(seed);
  fuzz::Bytes bytes(data, data + size);
  if (size < 128) return LLVMFuzzerMutate(data, size, max_size);
  switch (random.below(8)) {
    case 0: {
      bytes.resize(max_size);
      bytes.resize(LLVMFuzzerMutate(bytes.data(), size, max_size));
      fuzz::repair(bytes);
      break;
    }
    case 1:
      bytes = fuzz::scrambled(bytes, random);
      break;
    case 2:
      bytes = fuzz::recoded(bytes, random);
      break;
    default:
      bytes = fuzz::reshaped(bytes, random);
  }
  if (bytes.size() > max_size) bytes.resize(max_size);
  std::memcpy(data, bytes.data(), bytes.size());
  return bytes.size();
}
