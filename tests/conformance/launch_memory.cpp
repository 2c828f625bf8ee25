// Workgroup memory that kernels ask for at launch: cuda gives it, hip has none to give.
#include <dlfcn.h>

#include "tests/conformance/programs.h"
#include "tests/conformance/suite.h"

namespace conformance {
namespace {

constexpr uint64_t kMuch = uint64_t(1) << 30;

// Several runs: the later ones are of a graph.
void run_mirror(const Bytes &archive, const std::string &uri) {
  support::Loaded l(archive, uri.c_str());
  GOOD(l.session);
  auto context = l.session->context();
  GOOD(context);
  std::vector<int32_t> x(kMirrored), y(kMirrored);
  for (int round = 0; round < 4; ++round) {
    for (size_t i = 0; i < x.size(); ++i) x[i] = int32_t(i * i) % 10007 + round;
    const ingot::Tensor in[] = {support::tensor(x, INGOT_ELEMENT_TYPE_I32, {kMirrored})};
    ingot::Tensor out[] = {support::tensor(y, INGOT_ELEMENT_TYPE_I32, {kMirrored})};
    GOOD(context->run(in, out));
    for (size_t i = 0; i < y.size(); ++i) EQUAL(y[i], mirror_expected(int(i), x[i]));
  }
}

} // namespace

CASE("cuda: workgroup memory that is asked for at launch", Case::kernels | Case::cuda) {
  run_mirror(mirror(s.target, {0}), s.uri);
  run_mirror(mirror(s.target, {0, kMuch}), s.uri); // the device has too little for the better version
}

// The second of two kernels, in the first run and in the graph of the others, unless it is turned off or the graph cannot have it.
CASE("cuda: kernels that start while the one before ends", Case::kernels | Case::cuda) {
  if (s.name != "mock cuda") return; // its launches can be counted, and refused
  void *library = dlopen("libcuda.so.1", RTLD_NOW);
  EXPECT(library);
  auto *calls = reinterpret_cast<uint64_t (*)(const char *)>(dlsym(library, "mock_cuda_calls"));
  auto *refuse = reinterpret_cast<void (*)(int)>(dlsym(library, "mock_cuda_refuse_dependent"));
  uint64_t early = 0, all = 0; // launches; all are of two kernels
  auto run = [&](const char *option) {
    early = calls("cuLaunchKernelEx"), all = calls("cuLaunchKernel");
    const uint64_t graphs = calls("cuGraphLaunch");
    run_mirror(mirror(s.target, {0}, /*dependent=*/true), s.uri + option);
    EXPECT(calls("cuGraphLaunch") > graphs);
    early = calls("cuLaunchKernelEx") - early, all = calls("cuLaunchKernel") - all;
  };
  for (const char *option : {"", "?dependent=1"}) {
    run(option);
    EXPECT(early > 0);
    EQUAL(2 * early, all);
  }
  run("?dependent=0");
  EQUAL(early, uint64_t(0));
  refuse(1);
  run("");
  refuse(0);
  EXPECT(early > 0); // outside of graphs, and in vain
  dlclose(library);
}

CASE("stream: more workgroup memory than the device has to give", Case::kernels | Case::stream) {
  const uint64_t asked = s.target == "cuda" ? kMuch : 61440;
  support::Loaded l(mirror(s.target, {asked}), s.uri.c_str());
  EQUAL(l.session.status().code(), INGOT_INCOMPATIBLE);
  const std::string has = s.name == "mock cuda" ? "the device has 232448 to give" : s.target == "rocm" ? "the device has 0 to give" : "the device has ";
  for (const std::string &part : {std::string("kernel 'mirror' asks for ") + std::to_string(asked) + " bytes of workgroup memory at launch", has})
    if (!support::contains(l.session.message(), part)) failed(__FILE__, __LINE__, l.session.message());
}

} // namespace conformance
