// Random kernels: all verify, run without a complaint, and survive the round trip through text, with equal results.
#include <catch2/catch.hpp>

#include "aotc/kernel/text.h"
#include "aotc/kernel/verifier.h"
#include "tests/kernel/random_kernel.h"

using namespace ingot::aotc;
using namespace ingot::aotc::kernel;

TEST_CASE("random kernels verify, run, and survive the round trip through text") {
  for (Class kind : {Class::kSimd, Class::kSimt})
    for (uint64_t seed = 1; seed <= 150; ++seed) {
      random::Options options;
      options.seed = seed;
      options.kind = kind;
      random::Case c = random::make(options);
      INFO("seed " << seed);
      REQUIRE(verify(c.kernel) == "");
      std::vector<std::vector<uint8_t>> a, b;
      RunResult run = c.run(c.kernel, a);
      INFO(run.message);
      REQUIRE(run.ok);
      std::string text = print(c.kernel);
      Kernel back;
      REQUIRE(parse(text, back) == "");
      REQUIRE(print(back) == text);
      REQUIRE(c.run(back, b).ok);
      REQUIRE(random::same_results(c.kernel, a, b) == "");
      REQUIRE(a != c.buffers); // it does something
    }
}
