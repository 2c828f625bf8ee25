// The threads of a local-task device and how they share the work of runs. A *job* is units [0, n) that may run
// in any order on any thread. A *run* is what one submitting thread has under way: one job after the other.
// Each job's units are cut into spans of about equal cost, one a party; a party takes chunks from its own span,
// a quarter of what is left at a time, then from the others' (the tail is stolen). The submitting thread is
// party 0 and can do everything alone; workers only ever help. Nobody waits for a thread that has not taken a
// chunk.
//
// Everything that workers look at before they hold a chunk lies in the pool, which outlives them; what a job
// points to lives on the submitting thread's side, and is touched by holders of chunks only.
//
// Memory ordering:
// 1. A span is one word: end | next. To take a chunk is one compare-and-swap of the whole word, and what the
// chunk means
//    is read afterwards. So a worker that read the word long ago takes a chunk of the job that is current now,
//    or none: if the swap finds the value that it expects, that many units are there to be taken, whoever put
//    them there.
// 2. The submitter writes job and `done = 0`, then stores the span words (release); it alone does so, and only
// when all
//    are exhausted. Who swaps a span word (acquire; the swaps of others continue the release sequence) sees the
//    job, and all that earlier jobs wrote: the submitter had waited for them (3).
// 3. When a thread finds no more chunks, it adds the units that it ran to `done` (release). A job has ended
// when `done` equals its units, which the
//    submitter reads (acquire): every chunk was run, and what it wrote is seen. Only then does the next job
//    begin or the run end, so a holder's job pointer cannot dangle: its units are missing from `done`. After
//    the addition the holder touches `done` no more, except as an address to wake.
// 4. Sleep. A worker reads `published`, looks for work, and finds none; it announces itself (resting + 1, state
// =
//    resting), reads `published` again, and sleeps only if it has not changed. The submitter changes
//    `published`, then reads `resting` and the states. All of these are sequentially consistent, so of the two
//    at least one sees the other: the worker stays awake, or the submitter wakes it. Whoever swaps the state
//    back to awake counts it off.
// 5. The submitter sleeps on `done`, with a flag bit in that same word: the addition that completes the job
// sees it.
//
// With an executor of the application's, a worker is a task that the executor is given when it is wanted,
// instead of a thread that is woken; it returns where a thread would sleep. The pool then counts references:
// one of the device's and one a task handed over, so a task that comes after the device is gone finds a pool
// that is closed, and frees it.
#pragma once

#include <ingot/driver.h>

#include "src/runtime/base.h"
#include "src/runtime/platform/platform.h"

namespace ingot::drivers {

constexpr uint32_t kMaxThreads = 256;
constexpr uint32_t kMaxUnits = 0xffff; // of a job
constexpr uint64_t kSpinNs = 50'000;   // how long a thread waits awake

struct Job {
  // Runs units [begin, end) with the thread's scratch memory.
  void (*run)(const Job &job, uint32_t begin, uint32_t end, uint8_t *scratch);
  uint32_t units;
  uint32_t parties;     // 1 .. threads of the pool
  const uint16_t *cuts; // parties + 1 ascending numbers from 0 to `units`: where the spans begin
  bool rouse;           // worth waking threads that sleep
};

class TaskPool {
 public:
  struct Run; // a run's place in the pool

  // `threads` counts the submitting one. With `executor` (copied; may be NULL) no thread is started.
  static Code create(const ingot_allocator_t &allocator, uint32_t threads, const ingot_executor_t *executor,
                     uint64_t (*now_ns)(void), TaskPool **out, Error *error);
  // Ends the threads. Pre: no run is under way.
  void close();
  // Workers have at least that much scratch memory from now on. May be called at any time, by any thread.
  Code reserve_scratch(uint64_t bytes, Error *error);

  // A place for a run, or null where all are taken: then there are more runs than a pool can help, and the
  // caller does the work alone. Allocates nothing, waits for nothing.
  Run *enter();
  void leave(Run *run);
  // Runs all units of the job; those that the calling thread takes get `scratch`.
  void run(Run &run, const Job &job, uint8_t *scratch);

  TaskPool() = default; // use create and close
  ~TaskPool();

 private:
  struct Span;
  struct Worker;
  struct Scratch;

  Code fill(Error *error);
  static void *thread_main(void *worker);
  static void task_main(void *worker);
  void serve(Worker &worker);
  bool help(uint32_t worker);
  bool work(Run &run, uint32_t party, uint32_t parties, uint8_t *submitters_scratch);
  void await(Run &run, uint32_t units);
  bool keep_awake(uint32_t seen);
  bool rest(Worker &worker, uint32_t seen);
  void rouse(uint32_t wanted);
  uint8_t *scratch_of(uint32_t worker) const;
  void release();

  ingot_allocator_t allocator_ = {};
  ingot_executor_t executor_ = {};
  uint64_t (*now_ns_)(void) = nullptr;
  bool own_threads_ = false; // or the executor's
  uint32_t threads_ = 1;
  Array<Run> runs_;
  Array<Span> spans_;     // threads_ a run
  Array<Worker> workers_; // number i is party i + 1
  std::atomic<Scratch *> scratch_{nullptr};
  References references_;
  alignas(64) std::atomic<uint32_t> published_{0}; // jobs so far, and the end: what idle workers watch
  std::atomic<uint32_t> closing_{0};
  std::atomic<uint32_t> entered_{0}; // a bit a run that is under way
  alignas(64) std::atomic<int32_t> resting_{0};
};

} // namespace ingot::drivers
