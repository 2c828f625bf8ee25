// Writes the hand-made archives of tests/archive into a folder, with a few more that no machine here can run,
// so that command-line tests, the fuzzers' seeds and the docs' examples have archives without a compiler:
//   make_archives FOLDER
#include <cstdio>
#include <fstream>

#include "tests/archive/hand_made.h"

namespace {

using namespace hand_made;

// y = x, f32[4], with a kernel that is never dispatched: what the machine must have is up to the caller.
template <class Change>
std::vector<uint8_t> unrunnable(Change change) {
  Builder b;
  b.kernel("empty", {}, 0);
  Function &f = b.function();
  ExprBuilder e(f);
  const uint32_t four = e.constant(4), bytes = e.constant(16), zero = e.constant(0);
  f.inputs.push_back({"x", INGOT_ELEMENT_TYPE_F32, {four}, {}, kNone});
  f.outputs.push_back({"y", INGOT_ELEMENT_TYPE_F32, {four}, {}, kNone});
  const uint32_t in = input_slot(f, 0, bytes), out = output_slot(f, 0, bytes);
  CommandBuilder(f.commands).copy(out, zero, in, zero, bytes);
  change(b);
  return b.bytes();
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 2) return std::fprintf(stderr, "usage: make_archives FOLDER\n"), 2;
  const std::string folder = argv[1];
  const auto save = [&](const char *name, const std::vector<uint8_t> &bytes) {
    const std::string path = folder + "/" + name + ".ingot";
    std::ofstream file(path, std::ios::binary);
    file.write(reinterpret_cast<const char *>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    if (!file.flush()) {
      std::fprintf(stderr, "make_archives: %s cannot be written\n", path.c_str());
      std::exit(1);
    }
  };
  save("add_scale", add_scale(8));
  save("free_add", free_add());
  save("nonzero", nonzero());
  save("control_flow", control_flow());
  save("gather", gather());
  save("versions", versions(1, uint64_t(1) << 40));
  save("counter", counter());
  save("empties", empties(3));
  save("reciprocal", reciprocal());
  save("foreign_arch", unrunnable([](Builder &b) { b.variant().arch = "pdp11"; }));
  save("foreign_target", unrunnable([](Builder &b) { b.variant().target = "abacus"; }));
  save("foreign_features",
       unrunnable([](Builder &b) { b.variant().kernels[0].versions[0].feature_mask = uint64_t(1) << 40; }));
  save("future_features", unrunnable([](Builder &b) { b.model.required_features = uint64_t(1) << 50; }));
  // Two variants: the first runs nowhere, the second here.
  save("second_variant", unrunnable([](Builder &b) {
         b.model.variants.push_back(b.model.variants[0]);
         b.model.variants[0].target = "abacus";
       }));
  return 0;
}
