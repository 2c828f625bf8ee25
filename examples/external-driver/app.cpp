// Runs a model on the driver of this project: synchronously, then as a run that goes on by itself.   app MODEL.ingot
#include <cstdio>

#include <ingot/ingot.hpp>

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  ingot::Instance instance;
  auto archive = ingot::Archive::map(argv[1]);
  if (!archive) return std::fprintf(stderr, "app: %s\n", archive.message()), 1;
  auto device = instance.open(*archive, "example");
  if (!device) return std::fprintf(stderr, "app: %s\n", device.message()), 1;
  auto session = device->prepare(*archive); // the weights go to the card
  if (!session) return std::fprintf(stderr, "app: %s\n", session.message()), 1;

  const float in[4] = {1, 2, 3, 4}, want[4] = {0, 10.5f, 5, 22.5f};
  float out[4] = {}, later[4] = {};
  auto status = session->run({ingot::view(in, {2, 2})}, {ingot::view(out, {2, 2})});
  if (!status) return std::fprintf(stderr, "app: %s\n", status.message()), 1;

  auto done = device->semaphore();
  if (!done) return std::fprintf(stderr, "app: %s\n", done.message()), 1;
  const ingot::Tensor inputs[] = {ingot::view(in, {2, 2})};
  ingot::Tensor outputs[] = {ingot::view(later, {2, 2})};
  const ingot::SemaphoreValue signals[] = {{done->get(), 1}};
  if (auto started = session->submit(inputs, outputs, {}, signals); !started) return std::fprintf(stderr, "app: %s\n", started.message()), 1;
  if (auto waited = done->wait(1); !waited) return std::fprintf(stderr, "app: %s\n", waited.message()), 1;

  std::printf("%s: %g %g %g %g\n", device->uri(), out[0], out[1], out[2], out[3]);
  for (int i = 0; i < 4; ++i)
    if (out[i] != want[i] || later[i] != want[i]) return std::fprintf(stderr, "app: wrong result\n"), 1;
  return 0;
}
