// Sessions and contexts.
#pragma once

#include "src/runtime/api/objects.h"
#include "src/runtime/program/expr.h"
#include "src/runtime/program/plan.h"

struct ingot_session_t {
  ~ingot_session_t();
  ingot::References references;
  ingot_allocator_t allocator = {};
  ingot_device_t *device = nullptr;   // one reference
  ingot_archive_t *archive = nullptr; // one reference
  uint32_t variant = 0;
  const ingot::schema::Variant *schema = nullptr;
  ingot_driver_executable_t *executable = nullptr;
  ingot::Array<ingot::FunctionPlan *> plans;
  ingot::Array<uint8_t> splats;         // bytes of all splat slots
  ingot::Array<uint64_t> state_offsets; // per state number
  uint64_t state_bytes = 0;
  // Contexts of the session's own: one at rest for run, one for submit.
  std::atomic<ingot_context_t *> resting{nullptr}, submitting{nullptr};
};

namespace ingot {

// Byte size of a slot whose size is a constant: constant, splat, state.
uint64_t slot_constant_size(const schema::Function *function, const schema::Slot *slot);

// A growing block of memory.
struct Block {
  uint8_t *data = nullptr;
  uint64_t size = 0;
};

// What a context keeps for one function.
struct FunctionState {
  const FunctionPlan *plan = nullptr;
  Array<int64_t> symbols, values;
  Array<uint8_t> symbol_set;
  Array<ExprState> states;
  Array<Block> arenas;
  Array<ingot_tensor_t> inputs, outputs; // as bound; outputs with the dims of the last run
  Array<uint8_t *> input_data, output_data;
  Array<int64_t> input_bytes; // as the dims give
  Array<Block> staging;       // of inputs, then outputs: for pointers aligned less than the kernels demand
  Array<ingot_driver_recording_t *> recordings;
  Array<uint64_t> recorded, recorded_late; // epochs at which each recording was made
  uint64_t epoch = 1, late_epoch = 1;
  bool bound = false; // inputs, outputs and symbols hold what the last run bound
  bool ready = false; // the same tensors again: submit recordings[0], nothing else to do
  bool staged = false;
};

} // namespace ingot

struct ingot_context_t {
  ~ingot_context_t();
  ingot::References references;
  ingot_allocator_t allocator = {};
  ingot_session_t *session = nullptr;
  bool internal = false; // belongs to the session and does not hold a reference to it
  bool used = false;     // has run something
  ingot_driver_stream_t *stream = nullptr;
  ingot::Array<ingot::FunctionState *> functions;
  ingot::Array<uint8_t> state;
  std::atomic<uint32_t> busy{0};
  volatile int32_t cancelled = 0;
};

namespace ingot {

Code create_context(ingot_session_t *session, bool internal, ingot_context_t **out, Error *error);

// Reserves what a function with fixed dims needs.
Code reserve_fixed(ingot_context_t &context, FunctionState &state, Error *error);

// Binds tensors, evaluates dims, walks the commands. Pre: the context is held by the caller.
Code execute(ingot_context_t &context, uint32_t function, const ingot_tensor_t *inputs, size_t input_count,
             ingot_tensor_t *outputs, size_t output_count, const ingot_run_options_t *options, Error *error);

// Checks inputs against the signature, binds symbols, evaluates. Shared by execute and infer. *changed: some dim differs
// from before.
Code bind_inputs(FunctionState &state, const ingot_tensor_t *inputs, size_t input_count, bool need_data, bool *changed,
                 Error *error);

Code create_function_state(const FunctionPlan &plan, const ingot_allocator_t &allocator, FunctionState **out, Error *error);
void destroy_function_state(const ingot_allocator_t &allocator, const ingot_driver_t *driver, FunctionState *state);

} // namespace ingot
