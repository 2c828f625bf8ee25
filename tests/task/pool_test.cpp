// The pool by itself: every unit once, on every number of threads; what a job wrote is seen by the next one;
// more runs than there are places; scratch memory; threads that sleep are woken, and sleep when there is
// nothing to do.
#include <catch2/catch.hpp>

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "src/drivers/local/task_pool.h"
#include "tests/archive/support.h"

using namespace ingot::drivers;

namespace {

struct PoolHolder {
  explicit PoolHolder(uint32_t threads, const ingot_executor_t *executor = nullptr) {
    ingot::Error error;
    if (TaskPool::create(ingot::resolve_allocator(nullptr), threads, executor, ingot::platform::now_ns, &pool,
                         &error) != INGOT_OK)
      throw std::runtime_error(error.message);
  }
  ~PoolHolder() { pool->close(); }
  TaskPool *pool = nullptr;
};

struct CountingJob : Job {
  explicit CountingJob(uint32_t n, uint32_t for_parties) : seen(n), bounds(for_parties + 1) {
    run = [](const Job &base, uint32_t begin, uint32_t end, uint8_t *) {
      const CountingJob &job = static_cast<const CountingJob &>(base);
      for (uint32_t i = begin; i < end; ++i) ++job.seen[i];
    };
    units = n;
    parties = for_parties;
    for (uint32_t p = 0; p <= parties; ++p) bounds[p] = uint16_t(uint64_t(n) * p / parties);
    cuts = bounds.data();
    rouse = true;
  }
  mutable std::vector<int> seen;
  std::vector<uint16_t> bounds;
};

double cpu_seconds() {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval &t) { return double(t.tv_sec) + 1e-6 * double(t.tv_usec); };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

} // namespace

TEST_CASE("every unit runs once") {
  for (uint32_t threads = 2; threads <= 8; ++threads) {
    PoolHolder holder(threads);
    TaskPool::Run *run = holder.pool->enter();
    REQUIRE(run);
    for (uint32_t units : {1u, 2u, 7u, 100u, 5000u, kMaxUnits})
      for (uint32_t parties = 1; parties <= threads && parties <= units; ++parties)
        for (int round = 0; round < 5; ++round) {
          CountingJob job(units, parties);
          holder.pool->run(*run, job, nullptr);
          INFO(threads << " threads, " << units << " units, " << parties << " parties");
          REQUIRE(std::count(job.seen.begin(), job.seen.end(), 1) == int64_t(units));
        }
    holder.pool->leave(run);
  }
}

TEST_CASE("spans may be empty") {
  PoolHolder holder(4);
  TaskPool::Run *run = holder.pool->enter();
  CountingJob job(10, 4);
  job.bounds = {0, 0, 10, 10, 10};
  job.cuts = job.bounds.data();
  holder.pool->run(*run, job, nullptr);
  CHECK(std::count(job.seen.begin(), job.seen.end(), 1) == 10);
  holder.pool->leave(run);
}

TEST_CASE("there are places for some runs, and then none") {
  PoolHolder holder(2);
  std::vector<TaskPool::Run *> runs;
  while (TaskPool::Run *run = holder.pool->enter()) runs.push_back(run);
  CHECK(runs.size() >= 2);
  CHECK(std::set<TaskPool::Run *>(runs.begin(), runs.end()).size() == runs.size());
  for (TaskPool::Run *run : runs) {
    CountingJob job(50, 2);
    holder.pool->run(*run, job, nullptr);
    CHECK(std::count(job.seen.begin(), job.seen.end(), 1) == 50);
  }
  holder.pool->leave(runs[1]);
  CHECK(holder.pool->enter() == runs[1]);
  for (TaskPool::Run *run : runs) holder.pool->leave(run);
  PoolHolder alone(1);
  CHECK(alone.pool->enter() == nullptr);
}

TEST_CASE("each thread has its own scratch memory, which can grow while others run") {
  PoolHolder holder(4);
  struct ScratchJob : CountingJob {
    ScratchJob(uint32_t n, size_t size) : CountingJob(n, 4), bytes(size) {
      run = [](const Job &base, uint32_t begin, uint32_t end, uint8_t *scratch) {
        const ScratchJob &job = static_cast<const ScratchJob &>(base);
        for (uint32_t i = begin; i < end; ++i) {
          std::memset(scratch, int(i & 0xff), job.bytes);
          job.seen[i] = 1;
          for (size_t k = 0; k < job.bytes; ++k) job.seen[i] &= scratch[k] == uint8_t(i);
        }
      };
    }
    size_t bytes;
  };
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (size_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (size_t bytes = 64 + t; bytes < 40'000; bytes = bytes * 2 + 1) {
        if (holder.pool->reserve_scratch(bytes, nullptr) != INGOT_OK) ++wrong;
        std::vector<uint8_t> own(bytes);
        ScratchJob job(64, bytes);
        TaskPool::Run *run = holder.pool->enter();
        holder.pool->run(*run, job, own.data());
        holder.pool->leave(run);
        if (std::count(job.seen.begin(), job.seen.end(), 1) != 64) ++wrong;
      }
    });
  for (std::thread &thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("scratch memory that cannot be had is an error, not a crash") {
  PoolHolder holder(3);
  ingot::Error error;
  CHECK(holder.pool->reserve_scratch(UINT64_MAX, &error) == INGOT_OUT_OF_MEMORY);
  CHECK(holder.pool->reserve_scratch(UINT64_MAX / 2, &error) == INGOT_OUT_OF_MEMORY);
  CHECK(support::contains(error.message, "for each of 2 threads"));
}

TEST_CASE("workers help after they slept, and cost nothing while they sleep") {
  PoolHolder holder(2);
  TaskPool::Run *run = holder.pool->enter();
  struct WhoJob : CountingJob {
    WhoJob() : CountingJob(2, 2), who(2) {
      run = [](const Job &base, uint32_t begin, uint32_t end, uint8_t *) {
        const WhoJob &job = static_cast<const WhoJob &>(base);
        for (uint32_t i = begin; i < end; ++i) job.who[i] = std::this_thread::get_id();
        // Each unit waits for the other to begin, so two threads are needed.
        job.begun.fetch_add(int(end - begin));
        while (job.begun.load() < 2) std::this_thread::yield();
      };
    }
    mutable std::vector<std::thread::id> who;
    mutable std::atomic<int> begun{0};
  };
  for (int round = 0; round < 3; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20)); // far longer than anybody spins
    WhoJob job;
    holder.pool->run(*run, job, nullptr);
    CHECK(job.who[0] != job.who[1]);
  }
  holder.pool->leave(run);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const double before = cpu_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  CHECK(cpu_seconds() - before < 0.03); // this process; a spinning thread would take all of the 0.3 s
}

TEST_CASE("a job sees all that the one before it wrote") {
  PoolHolder holder(4);
  constexpr uint32_t kSize = 4096, kUnits = 64;
  struct ChainJob : CountingJob {
    ChainJob(const std::vector<uint32_t> *from, std::vector<uint32_t> *to)
        : CountingJob(kUnits, 4), source(from), target(to) {
      run = [](const Job &base, uint32_t begin, uint32_t end, uint8_t *) {
        const ChainJob &job = static_cast<const ChainJob &>(base);
        for (uint32_t i = begin * (kSize / kUnits); i < end * (kSize / kUnits); ++i)
          (*job.target)[i] = (*job.source)[(i * 1031 + 7) % kSize] * 2654435761u + i;
      };
    }
    const std::vector<uint32_t> *source;
    std::vector<uint32_t> *target;
  };
  std::vector<uint32_t> a(kSize, 1), b(kSize), expected(kSize, 1), next(kSize);
  TaskPool::Run *run = holder.pool->enter();
  for (int step = 0; step < 200; ++step) {
    ChainJob job(&a, &b);
    holder.pool->run(*run, job, nullptr);
    a.swap(b);
    for (uint32_t i = 0; i < kSize; ++i) next[i] = expected[(i * 1031 + 7) % kSize] * 2654435761u + i;
    expected.swap(next);
    REQUIRE(a == expected);
  }
  holder.pool->leave(run);
}
