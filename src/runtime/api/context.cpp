// Contexts: what a run needs beside the session, and the run functions of the C ABI.
#include "src/runtime/api/device_io.h"
#include "src/runtime/api/submission.h"

using namespace ingot;

ingot_context_t::~ingot_context_t() {
  const ingot_device_t &device = *session->device;
  if (INGOT_DEVICE_MEMORY) destroy_object(allocator, submitter);
  for (FunctionState *s : functions) destroy_function_state(device, session->archive->host, allocator, s);
  if (stream) device.driver->stream_destroy(stream);
  release_held(*this);
  release_block(device, allocator, &state);
}

namespace ingot {

Code create_function_state(const FunctionPlan &plan, const ingot_allocator_t &allocator, FunctionState **out, Error *error) {
  const schema::Function *f = plan.function;
  FunctionState *s = create_object<FunctionState>(allocator, "a function's state", error);
  if (!s) return INGOT_OUT_OF_MEMORY;
  s->plan = &plan;
  const auto fill = [&] {
    INGOT_TRY(s->symbols.create(allocator, count(f->symbols()), "symbols", error));
    INGOT_TRY(s->symbol_set.create(allocator, count(f->symbols()), "symbols", error));
    INGOT_TRY(s->values.create(allocator, count(f->exprs()), "expressions", error));
    INGOT_TRY(s->states.create(allocator, count(f->exprs()), "expressions", error));
    INGOT_TRY(s->arenas.create(allocator, count(f->arenas()), "arenas", error));
    INGOT_TRY(s->inputs.create(allocator, count(f->inputs()), "inputs", error));
    INGOT_TRY(s->outputs.create(allocator, count(f->outputs()), "outputs", error));
    const size_t tensors = size_t(count(f->inputs())) + count(f->outputs());
    INGOT_TRY(s->given.create(allocator, tensors, "tensors", error));
    INGOT_TRY(s->places.create(allocator, tensors, "tensors", error));
    INGOT_TRY(s->input_bytes.create(allocator, count(f->inputs()), "inputs", error));
    INGOT_TRY(s->staging.create(allocator, tensors, "staging", error));
    INGOT_TRY(s->io.sources.create(allocator, count(f->inputs()), "tensors", error));
    INGOT_TRY(s->io.output_rooms.create(allocator, count(f->outputs()), "outputs", error));
    INGOT_TRY(s->io.offsets.create(allocator, tensors, "tensors", error));
    INGOT_TRY(s->recordings.create(allocator, plan.segments.size(), "recordings", error));
    INGOT_TRY(s->recorded.create(allocator, plan.segments.size(), "recordings", error));
    INGOT_TRY(s->submitted.create(allocator, plan.segments.size(), "recordings", error));
    return s->recorded_late.create(allocator, plan.segments.size(), "recordings", error);
  };
  if (const Code code = fill()) {
    destroy_object(allocator, s);
    return code;
  }
  *out = s;
  return INGOT_OK;
}

void destroy_function_state(const ingot_device_t &device, const HostModule *host, const ingot_allocator_t &allocator,
                            FunctionState *s) {
  if (!s) return;
  for (ingot_driver_recording_t *r : s->recordings) // first: this waits for what still uses the memory below
    if (r) device.driver->recording_destroy(r);
  destroy_io(device, allocator, s->io);
  if (INGOT_VALUES && s->host) host->destroy(s->host);
  for (Block &b : s->arenas) release_block(device, allocator, &b);
  for (const Block &b : s->staging) release_bytes(allocator, b.host, size_t(b.size), kAlignment);
  destroy_object(allocator, s);
}

void release_held(ingot_context_t &c) {
  for (ingot_buffer_t *&b : c.held) {
    ingot_buffer_release(b);
    b = nullptr;
  }
}

namespace {

Code fill_context(ingot_context_t &c, Error *error) {
  ingot_session_t &s = *c.session;
  const ingot_driver_t &driver = *s.device->driver;
  INGOT_TRY(driver.stream_create(s.device->device, s.executable, &c.stream, error));
  INGOT_TRY(create_block(*s.device, c.allocator, INGOT_MEMORY_DEVICE, s.state_bytes, "state", &c.state, error));
  INGOT_TRY(fill_block(*s.device, c.state, 0, s.state_bytes, 0, 1, error));
  INGOT_TRY(c.functions.create(c.allocator, INGOT_DEVICE_MEMORY && s.preparing ? s.plans.size() : count(s.schema->functions()), "functions", error));
  size_t tensors = 0;
  for (const FunctionPlan *plan : s.plans) {
    const size_t n = size_t(count(plan->function->inputs())) + count(plan->function->outputs());
    tensors = n > tensors ? n : tensors;
  }
  if (has_own_memory(*s.device)) INGOT_TRY(c.held.create(c.allocator, tensors, "buffers", error));
  const uint32_t functions = count(s.schema->functions());
  for (uint32_t f = INGOT_DEVICE_MEMORY && s.preparing ? functions : 0; f < c.functions.size(); ++f) {
    INGOT_TRY(create_function_state(*s.plans[f], c.allocator, &c.functions[f], error));
    FunctionState &state = *c.functions[f];
    for (uint32_t i = 0; i < state.recordings.size(); ++i)
      INGOT_TRY(driver.recording_create(c.stream, &s.plans[f]->segments[i].size, &state.recordings[i], error));
    if (has_own_memory(*s.device)) INGOT_TRY(create_io(c, state, error));
    if (s.plans[f]->fixed) INGOT_TRY(reserve_fixed(c, state, error));
  }
  return INGOT_OK;
}

} // namespace

Code create_context(ingot_session_t *session, bool internal, ingot_context_t **out, Error *error) {
  ingot_context_t *c = create_object<ingot_context_t>(session->allocator, "a context", error);
  if (!c) return INGOT_OUT_OF_MEMORY;
  c->allocator = session->allocator;
  c->session = session;
  c->internal = internal;
  if (const Code code = fill_context(*c, error)) {
    destroy_object(session->allocator, c);
    return code;
  }
  if (!internal) session->references.retain();
  *out = c;
  return INGOT_OK;
}

} // namespace ingot

// What touches the states of a context, while none of its runs is under way.
template <class F> static Code with_states(ingot_context_t *context, Error *error, F &&touch) {
  Error unwanted;
  if (!error) error = &unwanted;
  if (!context) return null_argument(error, "context");
  if (context->busy.exchange(1, std::memory_order_acquire) != 0)
    return fail(error, INGOT_BUSY, "the context is running: its states cannot be touched now");
  Code code = drain(*context, nullptr, error);
  if (code != INGOT_DEVICE_LOST) code = INGOT_OK; // how the run ended that was given up was told then
  if (code == INGOT_OK) code = touch(*context, error);
  context->busy.store(0, std::memory_order_release);
  return code;
}

static Code check_state_bytes(const ingot_context_t &context, const void *bytes_at, size_t bytes, Error *error) {
  if (bytes != context.state.size)
    return fail(error, INGOT_INVALID_ARGUMENT, "%zu bytes for states of %zu: ingot_context_memory tells their size", bytes,
                size_t(context.state.size));
  return bytes && !bytes_at ? null_argument(error, "the states' bytes") : INGOT_OK;
}

extern "C" {

ingot_code_t ingot_context_create(ingot_session_t *session, ingot_context_t **out, ingot_error_t *error) {
  Error unwanted;
  if (!error) error = &unwanted;
  if (!session || !out) return null_argument(error, session ? "out" : "session");
  // The first caller gets the one that the session made for itself, if nothing ran on it: no memory is held twice.
  if (ingot_context_t *resting = session->resting.exchange(nullptr, std::memory_order_acq_rel)) {
    if (!resting->used) {
      resting->internal = false;
      session->references.retain();
      *out = resting;
      return INGOT_OK;
    }
    ingot_context_t *none = nullptr;
    if (!session->resting.compare_exchange_strong(none, resting, std::memory_order_acq_rel))
      destroy_object(session->allocator, resting);
  }
  return create_context(session, false, out, error);
}

void ingot_context_release(ingot_context_t *context) {
  if (!context || !context->references.release()) return;
  ingot_session_t *session = context->internal ? nullptr : context->session;
  destroy_object(context->allocator, context);
  ingot_session_release(session);
}

ingot_code_t ingot_context_run(ingot_context_t *context, uint32_t function, const ingot_tensor_t *inputs,
                               size_t input_count, ingot_tensor_t *outputs, size_t output_count,
                               const ingot_run_options_t *options, ingot_error_t *error) {
  Error unwanted;
  if (!error) error = &unwanted;
  if (INGOT_UNLIKELY(!context)) return null_argument(error, "context");
  if (INGOT_UNLIKELY(context->busy.exchange(1, std::memory_order_acquire) != 0))
    return fail(error, INGOT_BUSY, "the context is running already: give each thread a context of its own");
  set_flag(&context->cancelled, 0);
  context->used = true;
  const Code code = execute(*context, function, inputs, input_count, outputs, output_count, options, error);
  context->busy.store(0, std::memory_order_release);
  return code;
}

ingot_code_t ingot_context_submit(ingot_context_t *context, uint32_t function, const ingot_tensor_t *inputs,
                                  size_t input_count, ingot_tensor_t *outputs, size_t output_count,
                                  const ingot_semaphore_value_t *waits, size_t wait_count,
                                  const ingot_semaphore_value_t *signals, size_t signal_count,
                                  const ingot_run_options_t *options, ingot_error_t *error) {
  Error unwanted;
  if (!error) error = &unwanted;
  if (!context || (!waits && wait_count) || (!signals && signal_count))
    return null_argument(error, !context ? "context" : !waits && wait_count ? "waits" : "signals");
  INGOT_TRY(check_options(options, error)); // before a copy of them is made
  for (size_t i = 0; i < wait_count + signal_count; ++i)
    if (!(i < wait_count ? waits[i] : signals[i - wait_count]).semaphore) return null_argument(error, "a semaphore");
  if (INGOT_UNLIKELY(context->busy.exchange(1, std::memory_order_acquire) != 0))
    return fail(error, INGOT_BUSY, "the context is running already: give each thread a context of its own");
  set_flag(&context->cancelled, 0);
  context->used = true;
  const auto release = [](ingot_context_t &c) { c.busy.store(0, std::memory_order_release); };
  if (!has_own_memory(*context->session->device) || !context->session->device->driver->finish)
    return run_between(*context, function, inputs, input_count, outputs, output_count, waits, wait_count, signals, signal_count,
                       options, release, error);
  Code code = INGOT_OK;
  if (!context->submitter) {
    context->submitter = create_object<Submitter>(context->allocator, "a thread for runs", error, *context);
    if (!context->submitter) code = INGOT_OUT_OF_MEMORY;
  }
  if (code == INGOT_OK)
    code = context->submitter->start(function, inputs, input_count, outputs, output_count, waits, wait_count, signals, signal_count,
                                     options, error);
  if (code != INGOT_OK) release(*context);
  return code;
}

void ingot_context_cancel(ingot_context_t *context) {
  if (context) set_flag(&context->cancelled, 1);
}

ingot_code_t ingot_context_reset_state(ingot_context_t *context, ingot_error_t *error) {
  return with_states(context, error, [](ingot_context_t &c, Error *e) {
    return fill_block(*c.session->device, c.state, 0, c.state.size, 0, 1, e);
  });
}

ingot_code_t ingot_context_read_state(ingot_context_t *context, void *out, size_t bytes, ingot_error_t *error) {
  return with_states(context, error, [&](ingot_context_t &c, Error *e) {
    INGOT_TRY(check_state_bytes(c, out, bytes, e));
    return read_block(*c.session->device, c.state, 0, out, bytes, e);
  });
}

ingot_code_t ingot_context_write_state(ingot_context_t *context, const void *from, size_t bytes, ingot_error_t *error) {
  return with_states(context, error, [&](ingot_context_t &c, Error *e) {
    INGOT_TRY(check_state_bytes(c, from, bytes, e));
    return write_block(*c.session->device, c.state, 0, from, bytes, e);
  });
}

void ingot_context_memory(const ingot_context_t *context, ingot_memory_info_t *out) {
  if (!out) return;
  *out = {};
  if (!context) return;
  out->state_bytes = context->state.size;
  for (const FunctionState *s : context->functions) {
    for (const Block &b : s->arenas) out->arena_bytes += b.size;
    for (const Block &b : s->staging) out->recording_bytes += b.size;
    for (const Block *b : {&s->io.device, &s->io.upload, &s->io.readback}) out->recording_bytes += b->size;
    for (const StraightLine &line : s->plan->segments)
      out->recording_bytes += line.size.dispatches * 72u + line.size.copies * 32u + line.size.fills * 40u +
                              8u * (line.size.bindings + line.size.params);
  }
}

} // extern "C"
