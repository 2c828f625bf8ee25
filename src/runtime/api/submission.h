// Runs that go on while the caller does something else, on devices that work by themselves: a thread of the context's, made
// at the first such run, waits for the semaphores, runs, and signals.
#pragma once

#include "src/runtime/api/session.h"

namespace ingot {

class Submitter {
public:
  explicit Submitter(ingot_context_t &context) : context_(context) {}
  ~Submitter(); // waits for the run under way; one that still waits for semaphores is cancelled
  bool abandoned() const { return abandoned_.load(std::memory_order_acquire); }
  // Copies everything but `outputs`, whose dims the run writes, and returns. Pre: the context is held; the run lets go of it
  // before it signals.
  Code start(uint32_t function, const ingot_tensor_t *inputs, size_t input_count, ingot_tensor_t *outputs, size_t output_count,
             const ingot_semaphore_value_t *waits, size_t wait_count, const ingot_semaphore_value_t *signals, size_t signal_count,
             const ingot_run_options_t *options, Error *error);

private:
  enum : uint32_t { kIdle, kWork, kStop };
  static void *entry(void *self);
  void work();

  ingot_context_t &context_;
  platform::Thread thread_;
  bool started_ = false;
  std::atomic<uint32_t> state_{kIdle};
  std::atomic<bool> abandoned_{false};
  // The run.
  uint32_t function_ = 0;
  Array<ingot_tensor_t> inputs_;
  size_t input_count_ = 0;
  ingot_tensor_t *outputs_ = nullptr;
  size_t output_count_ = 0;
  Array<ingot_semaphore_value_t> semaphores_; // waits, then signals; one reference each
  size_t wait_count_ = 0, signal_count_ = 0;
  ingot_run_options_t options_ = {};
  bool has_options_ = false;
};

// Waits, runs, signals, on the calling thread. `release`: called before the signals, as whoever waits for them may run next.
Code run_between(ingot_context_t &context, uint32_t function, const ingot_tensor_t *inputs, size_t input_count,
                 ingot_tensor_t *outputs, size_t output_count, const ingot_semaphore_value_t *waits, size_t wait_count,
                 const ingot_semaphore_value_t *signals, size_t signal_count, const ingot_run_options_t *options,
                 void (*release)(ingot_context_t &context), Error *error);

} // namespace ingot
