// The smallest program: loads an archive, runs it, prints the result.   hello MODEL.ingot
#include <cstdio>

#include <ingot/ingot.hpp>

int main(int argc, char **argv) {
  if (argc != 2) return std::fprintf(stderr, "usage: %s MODEL.ingot\n", argv[0]), 2;

  ingot::Instance instance;
  auto archive = ingot::Archive::map(argv[1]); // verified, used in place
  if (!archive) return std::fprintf(stderr, "hello: %s\n", archive.message()), 1;
  auto device = instance.open(*archive, "auto"); // the best one that can run it
  if (!device) return std::fprintf(stderr, "hello: %s\n", device.message()), 1;
  auto session = device->prepare(*archive); // everything slow happens here, once
  if (!session) return std::fprintf(stderr, "hello: %s\n", session.message()), 1;

  float in[4] = {1, 2, 3, 4}, out[4];
  auto status = session->run({ingot::view(in, {2, 2})}, {ingot::view(out, {2, 2})});
  if (!status) return std::fprintf(stderr, "hello: %s\n", status.message()), 1;
  std::printf("%g %g %g %g\n", out[0], out[1], out[2], out[3]);
  return 0;
}
