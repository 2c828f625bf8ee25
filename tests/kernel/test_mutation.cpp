// Mutated kernel texts: the parser and the verifier say yes or no to each, and what they accept the interpreter runs
// to an end (or an error) without touching what it must not. Worth running under sanitizers.
#include <catch2/catch.hpp>

#include "aotc/kernel/text.h"
#include "aotc/kernel/verifier.h"
#include "tests/kernel/random_kernel.h"

using namespace ingot::aotc;
using namespace ingot::aotc::kernel;

namespace {

struct Noise {
  uint64_t state;
  uint32_t below(uint32_t n) {
    state = state * 6364136223846793005 + 1442695040888963407;
    return static_cast<uint32_t>(state >> 33) % n;
  }
};

void mutate(std::string &text, Noise &noise) {
  static const char *words[] = {"add",   "load", "store", "f32", "i8x4", "index",  "bool", "align 8", "%0",  "%3",   "%17", "-1",
                                "yield", "}",    "{",     "nan", "1e99", "barrier", "@own", "carry",   "rem", "const", ":",  ","};
  size_t at = noise.below(static_cast<uint32_t>(text.size()));
  switch (noise.below(5)) {
  case 0: // a number changes
    for (size_t i = at; i < text.size(); ++i)
      if (text[i] >= '0' && text[i] <= '9') {
        text[i] = static_cast<char>('0' + noise.below(10));
        break;
      }
    break;
  case 1: { // a line goes
    size_t begin = text.rfind('\n', at), end = text.find('\n', at);
    if (begin != std::string::npos && end != std::string::npos)
      text.erase(begin, end - begin);
    break;
  }
  case 2: text[at] = static_cast<char>(32 + noise.below(95)); break;
  case 3: { // a word becomes another one
    size_t begin = text.find(' ', at), end = begin == std::string::npos ? begin : text.find_first_of(" \n,", begin + 1);
    if (end != std::string::npos)
      text.replace(begin + 1, end - begin - 1, words[noise.below(std::size(words))]);
    break;
  }
  default: { // a line moves
    size_t begin = text.rfind('\n', at), end = text.find('\n', at);
    if (begin == std::string::npos || end == std::string::npos)
      break;
    std::string line = text.substr(begin, end - begin);
    text.erase(begin, end - begin);
    size_t to = text.find('\n', noise.below(static_cast<uint32_t>(text.size())));
    if (to != std::string::npos)
      text.insert(to, line);
  }
  }
}

} // namespace

TEST_CASE("mutated kernels are refused or run") {
  uint32_t parsed = 0, legal = 0, ran = 0;
  for (uint64_t seed = 1; seed <= 400; ++seed) {
    random::Options options;
    options.seed = seed;
    options.ops = 12;
    options.kind = seed % 2 ? Class::kSimd : Class::kSimt;
    random::Case c = random::make(options);
    std::string original = print(c.kernel);
    Noise noise{seed};
    for (int round = 0; round < 20; ++round) {
      std::string text = original;
      for (uint32_t n = noise.below(3) + 1; n > 0; --n)
        mutate(text, noise);
      Kernel k;
      if (!parse(text, k).empty())
        continue;
      ++parsed;
      // What prints must parse again, legal or not, unless names have become unusable.
      if (!verify(k).empty())
        continue;
      ++legal;
      std::string printed = print(k);
      Kernel again;
      REQUIRE(parse(printed, again) == "");
      REQUIRE(print(again) == printed);
      RunOptions limits;
      limits.fuel = 200000;
      std::vector<std::vector<uint8_t>> results;
      ran += c.run(k, results, limits).ok;
    }
  }
  INFO(parsed << " parsed, " << legal << " legal, " << ran << " ran");
  CHECK(parsed > 100);
  CHECK(legal > 50);
  CHECK(legal < parsed); // some were refused
  CHECK(ran > 20);
  CHECK(ran < legal); // and some stopped
}
