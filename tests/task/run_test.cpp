// Whole runs on local-task through the C++ API: the same bits as local-sync at any number of threads, errors,
// deadlines, cancelling, memory, several contexts at once, profiles, options.
#include <catch2/catch.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <set>
#include <thread>

#include "src/runtime/platform/platform.h"
#include "tests/archive/hand_made.h"
#include "tests/archive/mutate.h"
#include "tests/archive/support.h"
#include "tests/task/programs.h"

using namespace support;

namespace {

std::string uri(uint32_t threads) { return "local-task://0?threads=" + std::to_string(threads); }

std::vector<float> numbers(size_t n, uint64_t seed) {
  mutate::Random random{seed};
  std::vector<float> out(n);
  for (float &v : out) v = float(random.below(2000)) / 500 - 2;
  return out;
}

// One run of y[n] = f(x[n]).
ingot::Status run(ingot::Context &context, std::vector<float> &x, std::vector<float> &y,
                  const ingot::RunOptions *options = nullptr) {
  const ingot::Tensor in[] = {tensor(x, INGOT_ELEMENT_TYPE_F32, {int64_t(x.size())})};
  ingot::Tensor out[] = {tensor(y, INGOT_ELEMENT_TYPE_F32, {int64_t(y.size())})};
  return context.run(in, out, options);
}

bool same_bits(const std::vector<float> &a, const std::vector<float> &b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), 4 * a.size()) == 0;
}

} // namespace

TEST_CASE("random programs: the same bits as local-sync at 1 to 8 threads") {
  constexpr int64_t kSize = 3000;
  for (uint32_t seed = 1; seed <= 30; ++seed)
    for (const int64_t flops : {int64_t(1), int64_t(1'000'000), int64_t(-1)}) {
      const std::vector<uint8_t> bytes = task_programs::random_line(seed, kSize, 40, flops);
      std::vector<float> x = numbers(kSize, seed), expected(kSize), y(kSize);
      Loaded reference(bytes);
      REQUIRE(reference.session.ok());
      auto context = reference.session->context();
      REQUIRE(run(*context, x, expected).ok());
      for (uint32_t threads : {1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u}) {
        Loaded l(bytes, uri(threads).c_str());
        INFO("seed " << seed << ", flops " << flops << ", " << threads << " threads " << l.error());
        REQUIRE(l.session.ok());
        auto own = l.session->context();
        for (int round = 0; round < 3; ++round) {
          std::fill(y.begin(), y.end(), -1.0f);
          REQUIRE(run(*own, x, y).ok());
          REQUIRE(same_bits(y, expected));
        }
      }
    }
}

TEST_CASE("control flow, data-dependent sizes and state run as on local-sync") {
  for (uint32_t threads : {1u, 3u}) {
    Loaded flow(hand_made::control_flow(), uri(threads).c_str()), sync(hand_made::control_flow());
    for (int64_t x : {0, 1, 7, 20}) {
      int64_t y = 0, z = 0;
      const ingot::Tensor in[] = {ingot::view(x)};
      ingot::Tensor out[] = {ingot::view(y)}, reference[] = {ingot::view(z)};
      REQUIRE(flow.session->run(in, out).ok());
      REQUIRE(sync.session->run(in, reference).ok());
      CHECK(y == z);
    }
    Loaded some(hand_made::nonzero(), uri(threads).c_str());
    std::vector<float> x = {0, 1, 0, 2, 3};
    std::vector<int64_t> positions(5);
    const ingot::Tensor in[] = {tensor(x, INGOT_ELEMENT_TYPE_F32, {5})};
    ingot::Tensor out[] = {tensor(positions, INGOT_ELEMENT_TYPE_I64, {-1})};
    REQUIRE(some.session->run(in, out).ok());
    CHECK((out[0].dims[0] == 3 && positions[0] == 1 && positions[2] == 4));
    Loaded counter(hand_made::counter(), uri(threads).c_str());
    auto context = counter.session->context();
    int64_t count = 0;
    ingot::Tensor counted[] = {ingot::view(count)};
    for (int64_t n = 1; n <= 5; ++n) {
      REQUIRE(context->run(ingot::Span<const ingot::Tensor>(), counted).ok());
      CHECK(count == n);
    }
  }
}

TEST_CASE("the error reported is the one that local-sync reports") {
  constexpr int64_t kSize = 500;
  const std::vector<uint8_t> bytes = task_programs::refusals(kSize, 3);
  Loaded sync(bytes);
  auto reference = sync.session->context();
  std::vector<float> y(3 * kSize);
  for (uint32_t threads : {1u, 2u, 4u, 8u}) {
    Loaded l(bytes, uri(threads).c_str());
    REQUIRE(l.session.ok());
    auto context = l.session->context();
    std::set<std::string> messages;
    for (uint64_t seed = 1; seed <= 60; ++seed) {
      mutate::Random random{seed};
      std::vector<float> x(3 * kSize, 1.0f);
      for (uint32_t bad = random.below(4); bad > 0; --bad) x[random.below(3 * kSize)] = -1;
      const ingot::Status expected = run(*reference, x, y), got = run(*context, x, y);
      INFO(threads << " threads, seed " << seed);
      CHECK(got.code() == expected.code());
      CHECK(std::string(got.message()) == expected.message());
      messages.insert(got.message());
    }
    CHECK(messages.size() == 4); // none, and each of the three nodes
  }
}

TEST_CASE("a deadline is kept between blocks of workgroups") {
  for (uint32_t threads : {1u, 2u, 4u}) {
    Loaded l(task_programs::slow_counts(256, 1, 100'000), uri(threads).c_str());
    REQUIRE(l.session.ok());
    auto context = l.session->context();
    int32_t count = 0;
    ingot::Tensor out[] = {ingot::view(count)};
    ingot::RunOptions options{};
    options.struct_size = sizeof options;
    options.timeout_ns = 1;
    ingot::Status status = context->run(ingot::Span<const ingot::Tensor>(), out, &options);
    CHECK(status.code() == INGOT_DEADLINE_EXCEEDED);
    CHECK(std::string(status.message()) == "the run exceeded its deadline");
    CHECK(count == 0);
    options.timeout_ns = 2'000'000; // 256 workgroups take some 30 ms and more: it ends inside the only dispatch
    status = context->run(ingot::Span<const ingot::Tensor>(), out, &options);
    CHECK(status.code() == INGOT_DEADLINE_EXCEEDED);
    CHECK(count < 256);
    options.timeout_ns = 0;
    REQUIRE(context->run(ingot::Span<const ingot::Tensor>(), out, &options).ok());
    CHECK(count == 256);
  }
}

TEST_CASE("a run is cancelled between blocks of workgroups") {
  for (uint32_t threads : {1u, 2u, 4u}) {
    Loaded l(task_programs::slow_counts(4096, 1, 100'000), uri(threads).c_str());
    REQUIRE(l.session.ok());
    auto context = l.session->context();
    int32_t count = 0;
    ingot::Tensor out[] = {ingot::view(count)};
    std::atomic<bool> returned{false};
    std::thread other([&] {
      while (!returned) { // a cancel that comes before the run counts for nothing
        std::this_thread::sleep_for(std::chrono::milliseconds(3));
        context->cancel();
      }
    });
    const ingot::Status status = context->run(ingot::Span<const ingot::Tensor>(), out);
    returned = true;
    other.join();
    CHECK(status.code() == INGOT_CANCELLED);
    CHECK(count < 4096);
  }
}

TEST_CASE("a run allocates nothing once the context is there") {
  CountingAllocator counting;
  const ingot_allocator_t a = counting.get();
  {
    Loaded l(task_programs::random_line(5, 3000, 40, 1'000'000), uri(4).c_str(), &a);
    REQUIRE(l.session.ok());
    auto context = l.session->context();
    std::vector<float> x = numbers(3000, 5), y(3000), z(3000);
    const long before = counting.calls;
    for (int round = 0; round < 10; ++round)
      REQUIRE(run(*context, x, round % 2 ? y : z).ok()); // other tensors too
    CHECK(counting.calls == before);
    CHECK(same_bits(y, z));
  }
  CHECK(counting.live == 0);
  CHECK(!counting.mismatch);
}

TEST_CASE("each allocation may fail: a clear error, nothing leaked") {
  const std::vector<uint8_t> bytes = task_programs::random_line(3, 600, 10, 1'000'000);
  std::vector<float> x = numbers(600, 3), y(600);
  const auto whole_life = [&](CountingAllocator &counting) {
    const ingot_allocator_t a = counting.get();
    ingot::Instance instance(a);
    if (!instance.status()) return instance.status().code();
    auto archive = ingot::Archive::open(bytes.data(), bytes.size(), false, &a);
    if (!archive.ok()) return archive.status().code();
    auto device = instance.open(uri(3).c_str());
    if (!device.ok()) return device.status().code();
    auto session = device->prepare(*archive);
    if (!session.ok()) return session.status().code();
    auto context = session->context();
    if (!context.ok()) return context.status().code();
    return run(*context, x, y).code();
  };
  CountingAllocator good;
  REQUIRE(whole_life(good) == INGOT_OK);
  REQUIRE(good.live == 0);
  for (long at = 0; at < good.calls; ++at) {
    CountingAllocator failing;
    failing.fail_at = at;
    INFO("allocation " << at << " of " << good.calls);
    REQUIRE(whole_life(failing) == INGOT_OUT_OF_MEMORY);
    REQUIRE(failing.live == 0);
    REQUIRE(!failing.mismatch);
  }
}

TEST_CASE("eight contexts run at once on one device") {
  constexpr int64_t kSize = 2000;
  const std::vector<uint8_t> bytes = task_programs::random_line(11, kSize, 30, 1'000'000);
  std::vector<std::vector<float>> inputs, expected;
  Loaded sync(bytes);
  auto reference = sync.session->context();
  for (uint64_t t = 0; t < 8; ++t) {
    inputs.push_back(numbers(kSize, t));
    expected.emplace_back(kSize);
    REQUIRE(run(*reference, inputs[t], expected[t]).ok());
  }
  for (uint32_t pool : {2u, 5u}) {
    Loaded l(bytes, uri(pool).c_str());
    REQUIRE(l.session.ok());
    std::atomic<int> good{0};
    std::vector<std::thread> threads;
    for (size_t t = 0; t < 8; ++t)
      threads.emplace_back([&, t] {
        auto context = l.session->context();
        std::vector<float> x = inputs[t], y(kSize);
        for (int n = 0; n < 50; ++n) good += run(*context, x, y).ok() && same_bits(y, expected[t]);
      });
    for (std::thread &thread : threads) thread.join();
    CHECK(good == 400);
  }
}

TEST_CASE("a profile has each dispatch once, one after the other, and changes no bit") {
  const std::vector<uint8_t> bytes = task_programs::random_line(17, 3000, 40, -1);
  std::vector<float> x = numbers(3000, 17), expected(3000), y(3000);
  struct Profile {
    std::vector<ingot_dispatch_event_t> events;
    std::thread::id thread = std::this_thread::get_id();
  } profile;
  ingot::RunOptions options{};
  options.struct_size = sizeof options;
  options.user = &profile;
  options.on_dispatch = [](void *user, const ingot_dispatch_event_t *event) {
    Profile &p = *static_cast<Profile *>(user);
    if (p.thread == std::this_thread::get_id()) p.events.push_back(*event);
  };
  Loaded sync(bytes), l(bytes, uri(3).c_str());
  auto reference = sync.session->context(), context = l.session->context();
  REQUIRE(run(*reference, x, expected, &options).ok());
  const size_t dispatches = profile.events.size();
  CHECK(dispatches > 10);
  profile.events.clear();
  REQUIRE(run(*context, x, y, &options).ok());
  CHECK(same_bits(y, expected));
  CHECK(profile.events.size() == dispatches);
  for (size_t i = 1; i < profile.events.size(); ++i)
    CHECK(profile.events[i].start_ns >= profile.events[i - 1].end_ns);
  REQUIRE(run(*context, x, y).ok());
  CHECK(same_bits(y, expected));
}

TEST_CASE("in a forked child the calling thread does all the work, and closing waits for nobody") {
  const std::vector<uint8_t> bytes = task_programs::random_line(29, 2000, 30, 1'000'000);
  std::vector<float> x = numbers(2000, 29), expected(2000), y(2000);
  auto l = std::make_unique<Loaded>(bytes, uri(3).c_str());
  REQUIRE(l->session.ok());
  auto context = std::make_unique<ingot::Context>(std::move(*l->session->context()));
  REQUIRE(run(*context, x, expected).ok());
  const pid_t child = fork();
  if (child == 0) {
    bool good = true;
    for (int n = 0; n < 5; ++n) good = good && run(*context, x, y).ok() && same_bits(y, expected);
    context.reset();
    l.reset();
    _exit(good ? 0 : 1);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 0));
  CHECK(run(*context, x, y).ok());
}

TEST_CASE("options of the device") {
  ingot::Instance instance;
  const auto open = [&](const char *text) {
    auto device = instance.open(text);
    if (!device.ok()) return std::string(device.message());
    std::string threads;
    const auto visit = [](void *user, const char *key, const char *value) {
      if (std::string(key) == "threads") *static_cast<std::string *>(user) = value;
    };
    REQUIRE(ingot_device_describe(device->get(), visit, &threads, nullptr) == INGOT_OK);
    return threads;
  };
  CHECK(open("local-task://0?threads=1") == "1");
  CHECK(open("local-task?threads=7&features=0x1") == "7");
  CHECK(open("local-task?features=0x1&threads=256") == "256");
  CHECK(open("auto?threads=3") == "3");
  CHECK(open("local-task") == std::to_string(ingot::platform::cpu_count()));
  for (const char *bad :
       {"threads=0", "threads=257", "threads=99999999999999999999", "threads=2x", "threads=", "threads=-1"})
    CHECK(contains(open((std::string("local-task?") + bad).c_str()), "1 to 256 threads may be asked for"));
  CHECK(contains(open("local-task?color=red"),
                 "unknown option 'color=red': known are threads=N and features=0xMASK"));
  CHECK(contains(open("local-task:1"), "no such device"));
  CHECK(open("auto?threads=999") != "999");
}
