// See task_pool.h; numbers in brackets are those of its memory-ordering argument.
#include "src/drivers/local/task_pool.h"

#include "src/drivers/local/fp_control.h"

namespace ingot::drivers {
namespace {

constexpr uint32_t kRuns = 8;
constexpr uint64_t kPoliteNs = 5'000;
constexpr uint32_t kAwaited = 1u << 31; // in `done`: the submitter sleeps on it
enum : uint32_t { kAwake, kResting };   // states of a worker

uint32_t span_word(uint32_t next, uint32_t end) { return end << 16 | next; }

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
  __asm__ volatile("yield");
#endif
}

// Looks for at most kSpinNs whether `changed`; the clock is read now and then only. After a while, whoever is
// waited for may be waiting for this very CPU.
template <class Changed>
bool spin_until(uint64_t (*now_ns)(void), Changed changed) {
  const uint64_t start = now_ns();
  for (uint64_t passed = 0; passed < kSpinNs; passed = now_ns() - start) {
    if (passed >= kPoliteNs) platform::yield();
    for (int i = 0; i < 32; ++i) {
      if (changed()) return true;
      pause();
    }
  }
  return false;
}

} // namespace

struct TaskPool::Span {
  alignas(64) std::atomic<uint32_t> word; // [1]
};

struct TaskPool::Run {
  alignas(64) const Job *job; // for holders of a chunk
  Span *spans;
  std::atomic<uint32_t> parties; // a stale number costs a look at empty spans
  alignas(64) std::atomic<uint32_t> done;
};

struct TaskPool::Worker {
  alignas(64) TaskPool *pool;
  uint32_t number;
  std::atomic<uint32_t> state;
  platform::Thread thread;
};

// Scratch memory of all workers. Blocks only get larger; those outgrown stay until the end, as somebody may use
// them.
struct TaskPool::Scratch {
  Scratch *outgrown;
  uint8_t *memory;
  uint64_t stride;
};

Code TaskPool::create(const ingot_allocator_t &allocator, uint32_t threads, const ingot_executor_t *executor,
                      uint64_t (*now_ns)(void), TaskPool **out, Error *error) {
  TaskPool *pool = create_object<TaskPool>(allocator, "a thread pool", error);
  if (!pool) return INGOT_OUT_OF_MEMORY;
  pool->allocator_ = allocator;
  if (executor) pool->executor_ = *executor;
  pool->own_threads_ = !executor;
  pool->now_ns_ = now_ns;
  pool->threads_ = threads;
  if (const Code code = pool->fill(error)) {
    pool->close();
    return code;
  }
  *out = pool;
  return INGOT_OK;
}

Code TaskPool::fill(Error *error) {
  if (threads_ == 1) return INGOT_OK;
  INGOT_TRY(runs_.create(allocator_, kRuns, "a thread pool", error));
  INGOT_TRY(spans_.create(allocator_, size_t(kRuns) * threads_, "a thread pool", error));
  INGOT_TRY(workers_.create(allocator_, threads_ - 1, "a thread pool", error));
  for (uint32_t i = 0; i < kRuns; ++i) runs_[i].spans = &spans_[size_t(i) * threads_];
  for (uint32_t i = 0; i < workers_.size(); ++i) {
    Worker &w = workers_[i];
    w.pool = this;
    w.number = i;
    w.state.store(own_threads_ ? kAwake : kResting, std::memory_order_relaxed);
    if (own_threads_)
      INGOT_TRY(platform::start_thread(thread_main, &w, &w.thread, error));
    else
      resting_.fetch_add(1, std::memory_order_relaxed);
  }
  return INGOT_OK;
}

void TaskPool::close() {
  closing_.store(1, std::memory_order_seq_cst);
  published_.fetch_add(1, std::memory_order_seq_cst);
  if (own_threads_) {
    rouse(threads_);
    for (const Worker &w : workers_)
      if (w.thread.process) platform::join_thread(w.thread);
  }
  release();
}

void TaskPool::release() {
  if (references_.release()) destroy_object(allocator_, this);
}

TaskPool::~TaskPool() {
  for (Scratch *s = scratch_.load(std::memory_order_acquire); s;) {
    Scratch *const next = s->outgrown;
    release_bytes(allocator_, s->memory, size_t(s->stride) * workers_.size(), kAlignment);
    destroy_object(allocator_, s);
    s = next;
  }
}

Code TaskPool::reserve_scratch(uint64_t bytes, Error *error) {
  if (workers_.size() == 0 || bytes == 0) return INGOT_OK;
  Scratch *now = scratch_.load(std::memory_order_acquire);
  if (now && now->stride >= bytes) return INGOT_OK;
  const uint64_t stride = align_up(bytes, kAlignment);
  uint8_t *memory =
      stride < bytes || stride > SIZE_MAX
          ? nullptr
          : static_cast<uint8_t *>(allocate_bytes(allocator_, workers_.size(), size_t(stride), kAlignment));
  if (!memory)
    return fail(error, INGOT_OUT_OF_MEMORY,
                "out of memory: %llu bytes of scratch memory for each of %zu threads",
                (unsigned long long)bytes, workers_.size());
  Scratch *block = create_object<Scratch>(allocator_, "scratch memory", error);
  if (block) {
    *block = {now, memory, stride};
    // Somebody else's block may come first; it does not matter whether it is the larger one, only that the
    // newest is.
    while (!block->outgrown || block->outgrown->stride < stride)
      if (scratch_.compare_exchange_weak(block->outgrown, block, std::memory_order_acq_rel,
                                         std::memory_order_acquire))
        return INGOT_OK;
  }
  release_bytes(allocator_, memory, size_t(stride) * workers_.size(), kAlignment);
  destroy_object(allocator_, block);
  return block ? INGOT_OK : INGOT_OUT_OF_MEMORY;
}

uint8_t *TaskPool::scratch_of(uint32_t worker) const {
  const Scratch *s = scratch_.load(std::memory_order_acquire);
  return s ? s->memory + worker * s->stride : nullptr;
}

// ---- the submitting thread ----

TaskPool::Run *TaskPool::enter() {
  uint32_t taken = entered_.load(std::memory_order_relaxed);
  while (runs_.size()) {
    const uint32_t free = ~taken & ((1u << kRuns) - 1);
    if (free == 0) return nullptr;
    if (entered_.compare_exchange_weak(taken, taken | (free & -free), std::memory_order_acquire,
                                       std::memory_order_relaxed))
      return &runs_[size_t(__builtin_ctz(free))];
  }
  return nullptr;
}

void TaskPool::leave(Run *run) { entered_.fetch_and(~(1u << (run - runs_.data())), std::memory_order_release); }

void TaskPool::run(Run &run, const Job &job, uint8_t *scratch) {
  run.job = &job;
  run.parties.store(job.parties, std::memory_order_relaxed);
  run.done.store(0, std::memory_order_relaxed);
  for (uint32_t i = 0; i < job.parties; ++i) // [2]
    run.spans[i].word.store(span_word(job.cuts[i], job.cuts[i + 1]), std::memory_order_release);
  published_.fetch_add(1, std::memory_order_seq_cst); // [4]
  if (job.rouse && resting_.load(std::memory_order_seq_cst) > 0) rouse(job.parties - 1);
  work(run, 0, job.parties, scratch);
  await(run, job.units);
}

void TaskPool::await(Run &run, uint32_t units) {
  const auto all = [&] { return (run.done.load(std::memory_order_acquire) & ~kAwaited) == units; }; // [3]
  if (all() || spin_until(now_ns_, all)) return;
  for (;;) { // [5]
    uint32_t seen = run.done.load(std::memory_order_acquire);
    if ((seen & ~kAwaited) == units) return;
    if (!(seen & kAwaited) && !run.done.compare_exchange_strong(
                                  seen, seen | kAwaited, std::memory_order_acq_rel, std::memory_order_relaxed))
      continue;
    platform::wait_on(&run.done, seen | kAwaited, UINT64_MAX);
  }
}

// ---- everybody ----

// Takes chunks of the run until there are none. False if there was none at all. What was run is reported once,
// at the end: `done` is a line of memory that everybody writes.
bool TaskPool::work(Run &run, uint32_t party, uint32_t parties, uint8_t *submitters_scratch) {
  uint32_t ran = 0, units = 0;
  for (uint32_t i = 0; i < parties; ++i) {
    std::atomic<uint32_t> &span = run.spans[(party + i) % parties].word;
    for (uint32_t word = span.load(std::memory_order_relaxed);;) {
      const uint32_t next = word & 0xffff, end = word >> 16;
      if (next >= end) break;
      const uint32_t chunk = (end - next + 3) / 4;
      if (!span.compare_exchange_weak(word, word + chunk, std::memory_order_acquire, std::memory_order_relaxed))
        continue; // [2]
      const Job &job = *run.job;
      units = job.units;
      job.run(job, next, next + chunk, party ? scratch_of(party - 1) : submitters_scratch);
      ran += chunk;
      word = span.load(std::memory_order_relaxed);
    }
  }
  // All of it belongs to one job, as no job ends while some of its units are not reported; it may be gone after
  // this.
  if (ran && run.done.fetch_add(ran, std::memory_order_acq_rel) + ran == (units | kAwaited)) // [3], [5]
    platform::wake_one(&run.done);
  return ran != 0;
}

// ---- workers ----

bool TaskPool::help(uint32_t worker) {
  const uint32_t entered = entered_.load(std::memory_order_acquire);
  bool took = false;
  for (uint32_t i = 0; i < kRuns; ++i) { // each worker begins at another run
    Run &run = runs_[(worker + i) % kRuns];
    const uint32_t parties = run.parties.load(std::memory_order_relaxed);
    if ((entered >> (&run - runs_.data()) & 1) && parties) took |= work(run, worker + 1, parties, nullptr);
  }
  return took;
}

void TaskPool::serve(Worker &worker) {
  const FpControl control;
  for (;;) {
    const uint32_t seen = published_.load(std::memory_order_acquire);
    if (closing_.load(std::memory_order_acquire)) return;
    if (help(worker.number)) continue;
    if (keep_awake(seen)) continue;
    if (!rest(worker, seen)) return;
  }
}

// Waits awake for something new; false where nothing came. A thread of the application's waits during runs
// only.
bool TaskPool::keep_awake(uint32_t seen) {
  if (!own_threads_ && entered_.load(std::memory_order_relaxed) == 0) return false;
  return spin_until(now_ns_, [&] { return published_.load(std::memory_order_acquire) != seen; });
}

// [4] Goes to sleep until roused. False where the task must end instead: it will be started again when wanted.
bool TaskPool::rest(Worker &worker, uint32_t seen) {
  resting_.fetch_add(1, std::memory_order_seq_cst);
  worker.state.store(kResting, std::memory_order_seq_cst);
  if (published_.load(std::memory_order_seq_cst) != seen) {
    uint32_t expected = kResting;
    const bool mine = worker.state.compare_exchange_strong(expected, kAwake, std::memory_order_seq_cst);
    if (mine) resting_.fetch_sub(1, std::memory_order_relaxed);
    return mine || own_threads_; // roused already: another task is on its way
  }
  if (!own_threads_) return false;
  while (worker.state.load(std::memory_order_acquire) == kResting)
    platform::wait_on(&worker.state, kResting, UINT64_MAX);
  return true;
}

void TaskPool::rouse(uint32_t wanted) {
  for (Worker &w : workers_) {
    if (wanted == 0) return;
    uint32_t expected = kResting;
    if (w.state.load(std::memory_order_seq_cst) != kResting ||
        !w.state.compare_exchange_strong(expected, kAwake, std::memory_order_seq_cst))
      continue;
    resting_.fetch_sub(1, std::memory_order_relaxed);
    --wanted;
    if (own_threads_) {
      platform::wake_one(&w.state);
    } else {
      references_.retain(); // the task's own
      executor_.start(executor_.user, task_main, &w);
    }
  }
}

void *TaskPool::thread_main(void *argument) {
  Worker &worker = *static_cast<Worker *>(argument);
  worker.pool->serve(worker);
  return nullptr;
}

void TaskPool::task_main(void *argument) {
  Worker &worker = *static_cast<Worker *>(argument);
  TaskPool *const pool = worker.pool; // as soon as it rests, the worker may be somebody else's
  pool->serve(worker);
  pool->release();
}

} // namespace ingot::drivers
