// See submission.h.
#include "src/runtime/api/submission.h"

#include "src/runtime/api/semaphore.h"

namespace ingot {

namespace {

// Looks at the cancel flag, and whether the context is being released, now and then.
Code wait_for(const ingot_context_t &c, const ingot_semaphore_value_t &point, Error *error) {
  constexpr uint64_t kSlice = 5'000'000; // ns
  for (uint64_t ignored;;) {
    const Code code = ingot_semaphore_wait(point.semaphore, point.value, kSlice, error);
    if (code != INGOT_DEADLINE_EXCEEDED || ingot_semaphore_query(point.semaphore, &ignored, error) != INGOT_OK) return code;
    if (raised(&c.cancelled)) return fail(error, INGOT_CANCELLED, "the run was cancelled before it began");
    if (c.submitter && c.submitter->abandoned())
      return fail(error, INGOT_CANCELLED, "the context was released before what its run waits for");
  }
}

} // namespace

Code run_between(ingot_context_t &c, uint32_t function, const ingot_tensor_t *inputs, size_t input_count, ingot_tensor_t *outputs,
                 size_t output_count, const ingot_semaphore_value_t *waits, size_t wait_count,
                 const ingot_semaphore_value_t *signals, size_t signal_count, const ingot_run_options_t *options,
                 void (*release)(ingot_context_t &context), Error *error) {
  Code code = INGOT_OK;
  for (size_t i = 0; i < wait_count && code == INGOT_OK; ++i)
    code = wait_for(c, waits[i], error);
  if (code == INGOT_OK) code = execute(c, function, inputs, input_count, outputs, output_count, options, error);
  release(c);
  for (size_t i = 0; i < signal_count; ++i)
    if (code != INGOT_OK) ingot_semaphore_fail(signals[i].semaphore, error);
    else code = ingot_semaphore_signal(signals[i].semaphore, signals[i].value, error);
  return code;
}

Submitter::~Submitter() {
  if (!started_) return;
  abandoned_.store(true, std::memory_order_release);
  while (state_.load(std::memory_order_acquire) == kWork) platform::wait_on(&state_, kWork, UINT64_MAX);
  state_.store(kStop, std::memory_order_release);
  platform::wake_all(&state_);
  platform::join_thread(thread_);
}

Code Submitter::start(uint32_t function, const ingot_tensor_t *inputs, size_t input_count, ingot_tensor_t *outputs,
                      size_t output_count, const ingot_semaphore_value_t *waits, size_t wait_count,
                      const ingot_semaphore_value_t *signals, size_t signal_count, const ingot_run_options_t *options, Error *error) {
  while (state_.load(std::memory_order_acquire) == kWork) platform::wait_on(&state_, kWork, UINT64_MAX); // it is signalling
  if (input_count > inputs_.size()) INGOT_TRY(inputs_.create(context_.allocator, input_count, "a run's inputs", error));
  if (wait_count + signal_count > semaphores_.size())
    INGOT_TRY(semaphores_.create(context_.allocator, wait_count + signal_count, "a run's semaphores", error));
  if (!started_) {
    INGOT_TRY(platform::start_thread(entry, this, &thread_, error));
    started_ = true;
  }
  function_ = function;
  if (input_count) memcpy(inputs_.data(), inputs, input_count * sizeof *inputs);
  input_count_ = input_count;
  outputs_ = outputs;
  output_count_ = output_count;
  for (size_t i = 0; i < wait_count + signal_count; ++i) {
    semaphores_[i] = i < wait_count ? waits[i] : signals[i - wait_count];
    semaphores_[i].semaphore->references.retain();
  }
  wait_count_ = wait_count;
  signal_count_ = signal_count;
  has_options_ = options != nullptr;
  if (options) options_ = *options;
  state_.store(kWork, std::memory_order_release);
  platform::wake_all(&state_);
  return INGOT_OK;
}

void *Submitter::entry(void *self) {
  static_cast<Submitter *>(self)->work();
  return nullptr;
}

void Submitter::work() {
  for (;;) {
    const uint32_t state = state_.load(std::memory_order_acquire);
    if (state == kStop) return;
    if (state == kIdle) {
      platform::wait_on(&state_, kIdle, UINT64_MAX);
      continue;
    }
    Error error = {};
    run_between(context_, function_, inputs_.data(), input_count_, outputs_, output_count_, semaphores_.data(), wait_count_,
                semaphores_.data() + wait_count_, signal_count_, has_options_ ? &options_ : nullptr,
                [](ingot_context_t &c) { c.busy.store(0, std::memory_order_release); }, &error);
    for (size_t i = 0; i < wait_count_ + signal_count_; ++i) ingot_semaphore_release(semaphores_[i].semaphore);
    state_.store(kIdle, std::memory_order_release);
    platform::wake_all(&state_);
  }
}

} // namespace ingot
