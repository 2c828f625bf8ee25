// Embeds Ingot: prepares the model once, then runs it from two threads that share the session.   app
// MODEL.ingot
#include <cstdio>
#include <thread>

#include <ingot/ingot.hpp>

namespace {

// Rows of two measurements -> rows of two scores. False, with the reason printed, where the run failed.
bool score(ingot::Session &session, const float (&rows)[4], float (&scores)[4]) {
  const ingot::Status status = session.run({ingot::view(rows, {2, 2})}, {ingot::view(scores, {2, 2})});
  if (!status) std::fprintf(stderr, "app: %s\n", status.message());
  return status.ok();
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  ingot::Instance instance;
  auto archive = ingot::Archive::map(argv[1]);
  if (!archive) return std::fprintf(stderr, "app: %s\n", archive.message()), 1;
  auto device = instance.open(*archive, "auto");
  if (!device) return std::fprintf(stderr, "app: %s\n", device.message()), 1;
  auto session = device->prepare(*archive);
  if (!session) return std::fprintf(stderr, "app: %s\n", session.message()), 1;

  const float first[4] = {1, 2, 3, 4}, second[4] = {0, 5, 1, 1};
  float a[4] = {}, b[4] = {};
  bool good_a = false, good_b = false;
  std::thread other([&] { good_b = score(*session, second, b); });
  good_a = score(*session, first, a);
  other.join();
  if (!good_a || !good_b) return 1;
  std::printf("%g %g %g %g\n%g %g %g %g\n", a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]);
  // y = Relu(x . w + b), worked out by hand
  const float want_a[4] = {0, 10.5f, 5, 22.5f}, want_b[4] = {5, 20.5f, 0, 6.5f};
  for (int i = 0; i < 4; ++i)
    if (a[i] != want_a[i] || b[i] != want_b[i]) return std::fprintf(stderr, "app: wrong result\n"), 1;
  return 0;
}
