// Runs that go on by themselves, in quantity, on the example driver: chains of contexts through semaphores, several threads,
// runs that are cancelled, contexts released while their run is under way. Built with the thread sanitizer.
//
//   submit_stress [--runs=N]
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include <ingot/ingot.hpp>

#include "tests/archive/hand_made.h"
#include "tests/archive/support.h"

namespace {

constexpr int64_t kElements = 64;

[[noreturn]] void stop(const char *what, const char *message) {
  std::fprintf(stderr, "submit_stress: %s: %s\n", what, message);
  std::exit(1);
}
void good(const ingot::Status &status, const char *what) {
  if (!status.ok()) stop(what, status.message());
}

std::vector<float> next(const std::vector<float> &x) {
  std::vector<float> y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = (x[i] + float(i) * 0.5f) * 2;
  return y;
}

// A chain of three contexts, each waiting for the one before; submitted backwards, so that all wait at once.
void chain(const ingot::Device &device, ingot::Session &session, int runs, int seed) {
  std::vector<ingot::Context> contexts;
  for (int i = 0; i < 3; ++i) contexts.push_back(std::move(*session.context()));
  auto timeline = device.semaphore();
  good(timeline.status(), "a semaphore");
  std::vector<std::vector<float>> tensors(4, std::vector<float>(kElements));
  for (int run = 0; run < runs; ++run) {
    for (size_t i = 0; i < kElements; ++i) tensors[0][i] = float((seed + run + int(i)) % 50);
    const uint64_t base = uint64_t(run) * 4;
    for (int i = 2; i >= 0; --i) {
      const ingot::Tensor in[] = {support::tensor(tensors[size_t(i)], INGOT_ELEMENT_TYPE_F32, {kElements})};
      ingot::Tensor *out = new ingot::Tensor(support::tensor(tensors[size_t(i) + 1], INGOT_ELEMENT_TYPE_F32, {kElements}));
      const ingot::SemaphoreValue waits[] = {timeline->at(base + uint64_t(i) + 1)}, signals[] = {timeline->at(base + uint64_t(i) + 2)};
      good(contexts[size_t(i)].submit(in, {out, 1}, waits, signals), "submit");
      static thread_local std::vector<std::unique_ptr<ingot::Tensor>> kept; // until the chain has run
      if (i == 2) kept.clear();
      kept.emplace_back(out);
    }
    good(timeline->signal(base + 1), "signal");
    good(timeline->wait(base + 4), "wait");
    if (tensors[3] != next(next(next(tensors[0])))) stop("a chain", "wrong result");
  }
}

// Cancelled at some time, and released while the run may still be under way.
void give_up(const ingot::Device &device, ingot::Session &session, int runs) {
  auto never = device.semaphore(), done = device.semaphore();
  std::vector<float> x(kElements, 1), y(kElements);
  for (int run = 0; run < runs; ++run) {
    auto context = session.context();
    auto ended = device.semaphore();
    const ingot::Tensor in[] = {support::tensor(x, INGOT_ELEMENT_TYPE_F32, {kElements})};
    ingot::Tensor out[] = {support::tensor(y, INGOT_ELEMENT_TYPE_F32, {kElements})};
    const ingot::SemaphoreValue waits[] = {never->at(1)}, signals[] = {ended->at(1)};
    good(context->submit(in, out, {waits, run % 4 == 0 ? 1u : 0u}, signals), "submit");
    context->cancel();
    if (run % 3 == 0) (void)ended->wait(1).code();
  }
}

} // namespace

int main(int argc, char **argv) {
  const int runs = argc > 1 && std::strncmp(argv[1], "--runs=", 7) == 0 ? std::atoi(argv[1] + 7) : 200;
  const std::vector<uint8_t> bytes = hand_made::add_scale(kElements);
  support::Loaded l(bytes, "example");
  if (!l.session.ok()) stop("prepare", l.error().c_str());
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) threads.emplace_back([&, i] { chain(*l.device, *l.session, runs, i); });
  threads.emplace_back([&] { give_up(*l.device, *l.session, runs / 4); });
  for (std::thread &t : threads) t.join();
  std::printf("submit_stress: %d chains in each of 3 threads\n", runs);
  return 0;
}
