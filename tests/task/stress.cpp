// Many runs of many contexts at once: made for the thread sanitizer.
//
//   stress [--runs=N]     N runs in all (default 100,000); prints a line for each part; exit status 1 where
//   anything is wrong
//
// Part 1 drives the pool with jobs compiled here, so the sanitizer sees every byte that jobs hand to each
// other. Parts 2 and 3 run archives through the API from 8 threads, each with a context of its own, on a pool
// and on an application's executor; now and then with a deadline that cannot be kept, and with another thread
// that cancels at random. Part 4 fails.
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "src/drivers/local/task_pool.h"
#include "tests/archive/mutate.h"
#include "tests/archive/support.h"
#include "tests/task/programs.h"

namespace {

constexpr int kContexts = 8;
constexpr uint32_t kThreads = 4;
constexpr int64_t kSize = 600;

std::atomic<long> wrong{0};

void complain(const char *what) {
  if (wrong++ < 10) std::printf("wrong: %s\n", what);
}

// ---- the pool ----

using ingot::drivers::Job;
using ingot::drivers::TaskPool;

constexpr uint32_t kCells = 96, kUnits = 24;

uint32_t step(const uint32_t *from, uint32_t i) { return from[(i * 37 + 11) % kCells] * 2654435761u + i; }

struct StepJob : Job {
  const uint32_t *from;
  uint32_t *to;
};

void pool_runs(TaskPool &pool, uint64_t seed, long runs) {
  mutate::Random random{seed};
  uint32_t cells[2][kCells] = {}, expected[2][kCells] = {};
  for (long n = 0; n < runs; ++n) {
    uint16_t cuts[kThreads + 1] = {};
    StepJob job;
    job.run = [](const Job &base, uint32_t begin, uint32_t end, uint8_t *) {
      const StepJob &j = static_cast<const StepJob &>(base);
      for (uint32_t i = begin * (kCells / kUnits); i < end * (kCells / kUnits); ++i) j.to[i] = step(j.from, i);
    };
    job.units = kUnits;
    job.parties = 1 + random.below(kThreads);
    for (uint32_t p = 1; p < job.parties; ++p)
      cuts[p] = uint16_t(cuts[p - 1] + random.below(kUnits - cuts[p - 1] + 1));
    cuts[job.parties] = kUnits;
    job.cuts = cuts;
    job.rouse = random.below(4) != 0;
    TaskPool::Run *run = pool.enter();
    for (int k = 0; k < 4; ++k) {
      job.from = cells[k % 2];
      job.to = cells[1 - k % 2];
      for (uint32_t i = 0; i < kCells; ++i) expected[1 - k % 2][i] = step(expected[k % 2], i);
      if (run)
        pool.run(*run, job, nullptr);
      else
        job.run(job, 0, kUnits, nullptr); // more runs than places
    }
    if (run) pool.leave(run);
    if (std::memcmp(cells, expected, sizeof cells) != 0)
      return complain("a job did not see what the one before it wrote");
    if (random.below(500) == 0)
      std::this_thread::sleep_for(std::chrono::microseconds(200)); // workers fall asleep
  }
}

// ---- archives ----

std::vector<float> input_of(uint64_t seed) {
  mutate::Random random{seed};
  std::vector<float> x(kSize);
  for (float &v : x) v = float(random.below(2000)) / 500 - 2;
  return x;
}

ingot::Status run_once(ingot::Context &context, std::vector<float> &x, std::vector<float> &y,
                       const ingot::RunOptions *options) {
  const ingot::Tensor in[] = {support::tensor(x, INGOT_ELEMENT_TYPE_F32, {kSize})};
  ingot::Tensor out[] = {support::tensor(y, INGOT_ELEMENT_TYPE_F32, {kSize})};
  return context.run(in, out, options);
}

struct Tally {
  std::atomic<long> done{0}, late{0}, cancelled{0};
};

void context_runs(ingot::Context &context, uint64_t seed, long runs, const std::vector<float> &expected,
                  Tally &tally) {
  std::vector<float> x = input_of(seed), y[2] = {std::vector<float>(kSize), std::vector<float>(kSize)};
  for (long n = 0; n < runs; ++n) {
    std::vector<float> &out = y[n / 16 % 2]; // recorded anew now and then
    ingot::RunOptions options{};
    options.struct_size = sizeof options;
    options.timeout_ns = n % 50 == 49 ? 1 : 0;
    const ingot::Status status = run_once(context, x, out, &options);
    if (status.ok()) {
      ++tally.done;
      if (std::memcmp(out.data(), expected.data(), 4 * kSize) != 0)
        complain("a run gave other bits than local-sync");
    } else if (status.code() == INGOT_DEADLINE_EXCEEDED && options.timeout_ns) {
      ++tally.late;
    } else if (status.code() == INGOT_CANCELLED) {
      ++tally.cancelled;
    } else {
      complain(status.message());
    }
    if (n % 300 == 299) std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
}

void archive_runs(const char *part, const ingot_executor_t *executor, long runs) {
  const std::vector<uint8_t> bytes = task_programs::random_line(42, kSize, 12, -1);
  ingot::Instance instance;
  auto archive = ingot::Archive::open(bytes.data(), bytes.size());
  ingot::DeviceOptions options{};
  options.struct_size = sizeof options;
  options.executor = executor;
  auto device = instance.open_with(options, "local-task://0?threads=4");
  auto sync = instance.open("local-sync");
  if (!archive.ok() || !device.ok() || !sync.ok()) return complain("the device cannot be opened");
  auto session = device->prepare(*archive), reference_session = sync->prepare(*archive);
  if (!session.ok() || !reference_session.ok()) return complain("the archive cannot be prepared");
  std::vector<ingot::Context> contexts;
  std::vector<std::vector<float>> expected;
  auto reference = reference_session->context();
  for (int t = 0; t < kContexts; ++t) {
    contexts.push_back(std::move(*session->context()));
    std::vector<float> x = input_of(uint64_t(t)), y(kSize);
    if (!run_once(*reference, x, y, nullptr).ok()) return complain("local-sync cannot run it");
    expected.push_back(y);
  }
  Tally tally;
  std::atomic<bool> over{false};
  std::thread canceller([&] {
    for (mutate::Random random{99}; !over;) {
      contexts[random.below(kContexts)].cancel();
      std::this_thread::sleep_for(std::chrono::microseconds(500 + random.below(1000)));
    }
  });
  std::vector<std::thread> threads;
  for (int t = 0; t < kContexts; ++t)
    threads.emplace_back([&, t] {
      context_runs(contexts[size_t(t)], uint64_t(t), runs / kContexts, expected[size_t(t)], tally);
    });
  for (std::thread &thread : threads) thread.join();
  over = true;
  canceller.join();
  std::printf("%s: %ld runs right, %ld past their deadline, %ld cancelled\n", part, tally.done.load(),
              tally.late.load(), tally.cancelled.load());
  if (tally.late == 0 || tally.done < runs / 2) complain("too few runs, or no deadline met");
}

// Kernels that store error words at the same time: each run reports what local-sync does.
void failing_runs(long runs) {
  constexpr int64_t kEach = 200;
  const std::vector<uint8_t> bytes = task_programs::refusals(kEach, 3);
  support::Loaded l(bytes, "local-task://0?threads=4"), sync(bytes);
  if (!l.session.ok() || !sync.session.ok()) return complain("the archive of refusals cannot be prepared");
  std::vector<std::thread> threads;
  std::atomic<long> failed{0};
  for (int t = 0; t < kContexts; ++t)
    threads.emplace_back([&, t] {
      auto context = l.session->context(), reference = sync.session->context();
      mutate::Random random{uint64_t(t)};
      for (long n = 0; n < runs / kContexts; ++n) {
        std::vector<float> x(3 * kEach, 1.0f), y(3 * kEach);
        for (uint32_t bad = random.below(100); bad > 0; --bad) x[random.below(3 * kEach)] = -1;
        const ingot::Tensor in[] = {support::tensor(x, INGOT_ELEMENT_TYPE_F32, {3 * kEach})};
        ingot::Tensor out[] = {support::tensor(y, INGOT_ELEMENT_TYPE_F32, {3 * kEach})};
        const ingot::Status got = context->run(in, out), expected = reference->run(in, out);
        failed += !got.ok();
        if (std::strcmp(got.message(), expected.message()) != 0) complain("another error than on local-sync");
      }
    });
  for (std::thread &thread : threads) thread.join();
  std::printf("errors: %ld runs failed as on local-sync\n", failed.load());
}

// Threads of an application that work off a queue.
struct Workers {
  explicit Workers(uint32_t count) : executor{sizeof executor, this, count, start} {
    for (uint32_t i = 0; i < count; ++i) threads.emplace_back([this] { work(); });
  }
  ~Workers() {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      stopping = true;
    }
    changed.notify_all();
    for (std::thread &thread : threads) thread.join();
  }
  static void start(void *user, void (*task)(void *), void *argument) {
    Workers &w = *static_cast<Workers *>(user);
    const std::lock_guard<std::mutex> lock(w.mutex);
    w.queue.push_back({task, argument});
    w.changed.notify_one();
  }
  void work() {
    for (;;) {
      std::unique_lock<std::mutex> lock(mutex);
      changed.wait(lock, [this] { return stopping || !queue.empty(); });
      if (queue.empty()) return;
      const auto [task, argument] = queue.front();
      queue.pop_front();
      lock.unlock();
      task(argument);
    }
  }
  ingot_executor_t executor;
  std::vector<std::thread> threads;
  std::deque<std::pair<void (*)(void *), void *>> queue;
  std::mutex mutex;
  std::condition_variable changed;
  bool stopping = false;
};

} // namespace

int main(int argc, char **argv) {
  long runs = 100'000;
  for (int i = 1; i < argc; ++i)
    if (std::strncmp(argv[i], "--runs=", 7) == 0) runs = std::atol(argv[i] + 7);
  {
    TaskPool *pool = nullptr;
    ingot::Error error;
    if (TaskPool::create(ingot::resolve_allocator(nullptr), kThreads, nullptr, ingot::platform::now_ns, &pool,
                         &error) != INGOT_OK) {
      std::printf("%s\n", error.message);
      return 2;
    }
    std::vector<std::thread> threads;
    for (int t = 0; t < kContexts + 2; ++t)
      threads.emplace_back([&, t] { pool_runs(*pool, uint64_t(t), runs / 4 / kContexts); });
    for (std::thread &thread : threads) thread.join();
    pool->close();
    std::printf("pool: %ld runs\n", runs / 4 / kContexts * (kContexts + 2));
  }
  archive_runs("threads of the pool", nullptr, runs);
  {
    Workers workers(3);
    archive_runs("threads of an application", &workers.executor, runs / 4);
  }
  failing_runs(runs / 4);
  std::printf("%ld wrong\n", wrong.load());
  return wrong ? 1 : 0;
}
