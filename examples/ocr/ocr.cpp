// Reads lines of text with PP-OCRv4's recogniser:  ocr MODEL.ingot KEYS.txt LINE.png...
//
// Prints `file -> text (confidence)` for each picture. One archive serves any width; it is prepared once. Exit status:
// 0 all read, 1 a picture or the model could not be read, 2 wrong usage.
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include <ingot/ingot.hpp>

#include "picture.h"

namespace {

constexpr int kWidest = 2048; // the widest line that the archive was compiled for

// CTC's greedy decoding: the best class of each step, repeats merged, class 0 (blank) dropped. `confidence` is the mean
// score of the steps kept.
std::string decode(const float *scores, int64_t steps, int64_t classes, const std::vector<std::string> &keys,
                   float *confidence) {
  std::string text;
  float total = 0;
  int kept = 0;
  int64_t before = 0;
  for (int64_t step = 0; step < steps; ++step, scores += classes) {
    int64_t best = 0;
    for (int64_t c = 1; c < classes; ++c)
      if (scores[c] > scores[best]) best = c;
    if (best != 0 && best != before) {
      text += best <= static_cast<int64_t>(keys.size()) ? keys[best - 1] : std::string(" "); // the last class: space
      total += scores[best];
      ++kept;
    }
    before = best;
  }
  *confidence = kept ? total / kept : 0;
  return text;
}

int read_lines(ingot::Session &session, const std::vector<std::string> &keys, int count, char **paths) {
  int failures = 0;
  for (int i = 0; i < count; ++i) {
    Picture picture;
    std::string error;
    if (!read_png(paths[i], picture, error)) {
      std::fprintf(stderr, "ocr: %s\n", error.c_str());
      ++failures;
      continue;
    }
    int width = 0;
    std::vector<float> line = recogniser_input(picture, kWidest, &width);
    const float *pixels = line.data();
    const ingot::Tensor inputs[] = {ingot::view(pixels, {1, 3, 48, width})};
    ingot::Tensor outputs[1] = {};
    ingot::Status status = session.infer(inputs, outputs); // how large is the result at this width?
    std::vector<float> scores;
    if (status) {
      scores.resize(outputs[0].size / sizeof(float));
      outputs[0].data = scores.data();
      status = session.run(inputs, outputs);
    }
    if (!status) {
      std::fprintf(stderr, "ocr: %s: %s\n", paths[i], status.message());
      ++failures;
      continue;
    }
    float confidence = 0;
    const std::string text = decode(scores.data(), outputs[0].dims[1], outputs[0].dims[2], keys, &confidence);
    std::printf("%s -> %s (%.1f %%)\n", paths[i], text.c_str(), 100 * confidence);
  }
  return failures;
}

} // namespace

int main(int argc, char **argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: %s MODEL.ingot KEYS.txt LINE.png...\n", argv[0]);
    return 2;
  }
  std::vector<std::string> keys;
  std::ifstream file(argv[2]);
  for (std::string key; std::getline(file, key);) keys.push_back(key);
  if (keys.empty()) {
    std::fprintf(stderr, "ocr: %s: no dictionary there\n", argv[2]);
    return 1;
  }

  ingot::Instance instance;
  auto archive = ingot::Archive::map(argv[1]);
  if (!archive) return std::fprintf(stderr, "ocr: %s: %s\n", argv[1], archive.message()), 1;
  auto device = instance.open("local-task", "local-sync"); // the first that this build has
  if (!device) return std::fprintf(stderr, "ocr: %s\n", device.message()), 1;
  auto session = device->prepare(*archive);
  if (!session) return std::fprintf(stderr, "ocr: %s: %s\n", argv[1], session.message()), 1;
  return read_lines(*session, keys, argc - 3, argv + 3) ? 1 : 0;
}
