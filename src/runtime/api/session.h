// Sessions and contexts.
#pragma once

#include "src/runtime/api/memory.h"
#include "src/runtime/program/expr.h"
#include "src/runtime/program/plan.h"

namespace ingot {
class Submitter; // submission.h
}

struct ingot_session_t {
  ~ingot_session_t();
  ingot::References references;
  ingot_allocator_t allocator = {};
  ingot_device_t *device = nullptr;   // one reference
  ingot_archive_t *archive = nullptr; // one reference
  uint32_t variant = 0;
  const ingot::schema::Variant *schema = nullptr;
  ingot_driver_executable_t *executable = nullptr;
  ingot::Array<ingot::FunctionPlan *> plans; // of the functions, then of the prepare section where there is one
  ingot::Array<ingot::Block> constants; // splat and prepared slots; where the device has memory of its own, constant
                                        // slots too. Those from `sources` on are for preparing alone, and then released
  uint32_t sources = UINT32_MAX;
  bool preparing = false; // contexts made now run the prepare section
  ingot::Array<uint64_t> state_offsets; // per state number
  uint64_t state_bytes = 0;
  // Contexts of the session's own: one at rest for run, one for submit.
  std::atomic<ingot_context_t *> resting{nullptr}, submitting{nullptr};
};

namespace ingot {

// Byte size of a slot whose size is a constant: constant, splat, state.
uint64_t slot_constant_size(const schema::Function *function, const schema::Slot *slot);

// Tensors of a device with memory of its own that are not bound where they are given (device_io.h).
struct DeviceIo { // all arrays but offsets and sources: by output
  Block device, upload, readback;  // inputs, then outputs; the way there; the way back. All empty on unified memory
                                   // but `device`
  Array<uint64_t> offsets;         // of inputs, then outputs, in `device`; UINT64_MAX: bound where it is given
  Array<uint64_t> output_bytes;    // of the last run
  Array<uint64_t> output_rooms;    // bytes of each output that commands may write
  Array<Place> sources;            // of inputs in buffers that are copied: from where
  uint64_t input_bytes = 0;        // of `device` and `upload`: where outputs begin
  ingot_driver_recording_t *prologue = nullptr, *epilogue = nullptr; // copies before and after a run
  bool before = false, after = false;                                // whether there are any
  uint64_t recorded = 0, ended = 0; // epochs of the prologue and of the epilogue; 0: to be recorded again
};

// What a context keeps for one function.
struct FunctionState {
  const FunctionPlan *plan = nullptr;
  Array<int64_t> symbols, values;
  Array<uint8_t> symbol_set;
  Array<ExprState> states;
  Array<Block> arenas;
  Array<ingot_tensor_t> inputs, outputs; // as bound; outputs with the dims of the last run, `size` as may be used
  Array<Place> given;                    // of inputs, then outputs: the caller's memory
  Array<Place> places;                   // where commands find them: there, or in memory of the context
  Array<int64_t> input_bytes;            // as the dims give
  Array<Block> staging;                  // host memory for tensors aligned less than the kernels demand
  DeviceIo io;
  HostValues *host = nullptr;            // made by the first host op
  Array<ingot_driver_recording_t *> recordings;
  Array<uint64_t> recorded, recorded_late; // epochs at which each recording was made
  Array<uint64_t> submitted;               // number of the context's submission that each is in
  uint64_t epoch = 1, late_epoch = 1;
  bool bound = false; // inputs, outputs and symbols hold what the last run bound
  bool ready = false; // the same tensors again: submit recordings[0], nothing else to do
  bool staged = false;
  bool timed = false; // the recordings are made for runs with on_dispatch
};

// Host memory of a tensor, or the buffer that holds it; `available`: bytes that may be touched there.
Code tensor_place(const ingot_device_t &device, const ingot_tensor_t &tensor, Place *out, size_t *available, Error *error);

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
  ingot::Block state;
  // Drivers that return from submit early: submissions so far, and how many of them have ended.
  uint64_t submissions = 0, finished = 0;
  ingot::Array<ingot_buffer_t *> held; // buffers of a run that was given up while the device was still at it
  ingot::Submitter *submitter = nullptr; // made by the first run that goes on by itself
  std::atomic<uint32_t> busy{0};
  volatile int32_t cancelled = 0;
};

namespace ingot {

Code create_context(ingot_session_t *session, bool internal, ingot_context_t **out, Error *error);

// Waits until the device has done what was submitted, and gives its outcome; with the deadline and cancel flag of `submit`,
// or with none. A run that was given up leaves the context so that the next call does this first.
Code drain(ingot_context_t &context, ingot_driver_submit_t *submit, Error *error);
void release_held(ingot_context_t &context);

// Reserves what a function with fixed dims needs.
Code reserve_fixed(ingot_context_t &context, FunctionState &state, Error *error);

Code check_options(const ingot_run_options_t *options, Error *error); // may be null

// Binds tensors, evaluates dims, walks the commands. Pre: the context is held by the caller.
Code execute(ingot_context_t &context, uint32_t function, const ingot_tensor_t *inputs, size_t input_count,
             ingot_tensor_t *outputs, size_t output_count, const ingot_run_options_t *options, Error *error);

// Checks inputs against the signature, binds symbols, evaluates. Shared by execute and infer. *changed: some dim differs
// from before.
Code bind_inputs(const ingot_device_t &device, FunctionState &state, const ingot_tensor_t *inputs, size_t input_count,
                 bool need_data, bool *changed, Error *error);

Code create_function_state(const FunctionPlan &plan, const ingot_allocator_t &allocator, FunctionState **out, Error *error);
void destroy_function_state(const ingot_device_t &device, const HostModule *host, const ingot_allocator_t &allocator,
                            FunctionState *state);

} // namespace ingot
