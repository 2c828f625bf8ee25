// Contexts: what a run needs beside the session, and the run functions of the C ABI.
#include "src/runtime/api/semaphore.h"
#include "src/runtime/api/session.h"

using namespace ingot;

ingot_context_t::~ingot_context_t() {
  for (FunctionState *state : functions) destroy_function_state(allocator, session->device->driver, state);
  if (stream) session->device->driver->stream_destroy(stream);
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
    INGOT_TRY(s->input_data.create(allocator, count(f->inputs()), "inputs", error));
    INGOT_TRY(s->output_data.create(allocator, count(f->outputs()), "outputs", error));
    INGOT_TRY(s->input_bytes.create(allocator, count(f->inputs()), "inputs", error));
    INGOT_TRY(s->staging.create(allocator, size_t(count(f->inputs())) + count(f->outputs()), "staging", error));
    INGOT_TRY(s->recordings.create(allocator, plan.segments.size(), "recordings", error));
    INGOT_TRY(s->recorded.create(allocator, plan.segments.size(), "recordings", error));
    return s->recorded_late.create(allocator, plan.segments.size(), "recordings", error);
  };
  if (const Code code = fill()) {
    destroy_object(allocator, s);
    return code;
  }
  *out = s;
  return INGOT_OK;
}

void destroy_function_state(const ingot_allocator_t &allocator, const ingot_driver_t *driver, FunctionState *s) {
  if (!s) return;
  for (Array<Block> *blocks : {&s->arenas, &s->staging})
    for (const Block &b : *blocks) release_bytes(allocator, b.data, size_t(b.size), kAlignment);
  for (ingot_driver_recording_t *r : s->recordings)
    if (r) driver->recording_destroy(r);
  destroy_object(allocator, s);
}

namespace {

Code fill_context(ingot_context_t &c, Error *error) {
  ingot_session_t &s = *c.session;
  const ingot_driver_t &driver = *s.device->driver;
  INGOT_TRY(driver.stream_create(s.device->device, s.executable, &c.stream, error));
  INGOT_TRY(c.state.create(c.allocator, size_t(s.state_bytes), "state", error, kAlignment));
  INGOT_TRY(c.functions.create(c.allocator, s.plans.size(), "functions", error));
  for (uint32_t f = 0; f < s.plans.size(); ++f) {
    INGOT_TRY(create_function_state(*s.plans[f], c.allocator, &c.functions[f], error));
    FunctionState &state = *c.functions[f];
    for (uint32_t i = 0; i < state.recordings.size(); ++i)
      INGOT_TRY(driver.recording_create(c.stream, &s.plans[f]->segments[i].size, &state.recordings[i], error));
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

extern "C" {

ingot_code_t ingot_context_create(ingot_session_t *session, ingot_context_t **out, ingot_error_t *error) {
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
  if (!context || (!waits && wait_count) || (!signals && signal_count))
    return null_argument(error, !context ? "context" : !waits && wait_count ? "waits" : "signals");
  Error local;
  Error *reason = error ? error : &local;
  Code code = INGOT_OK;
  for (size_t i = 0; i < wait_count && code == INGOT_OK; ++i)
    code = ingot_semaphore_wait(waits[i].semaphore, waits[i].value, UINT64_MAX, reason);
  if (code == INGOT_OK)
    code = ingot_context_run(context, function, inputs, input_count, outputs, output_count, options, reason);
  for (size_t i = 0; i < signal_count; ++i)
    if (code != INGOT_OK) ingot_semaphore_fail(signals[i].semaphore, reason);
    else code = ingot_semaphore_signal(signals[i].semaphore, signals[i].value, reason);
  return code;
}

void ingot_context_cancel(ingot_context_t *context) {
  if (context) set_flag(&context->cancelled, 1);
}

ingot_code_t ingot_context_reset_state(ingot_context_t *context, ingot_error_t *error) {
  if (!context) return null_argument(error, "context");
  if (context->busy.exchange(1, std::memory_order_acquire) != 0)
    return fail(error, INGOT_BUSY, "the context is running: its state cannot be reset now");
  if (context->state.size()) memset(context->state.data(), 0, context->state.size());
  context->busy.store(0, std::memory_order_release);
  return INGOT_OK;
}

void ingot_context_memory(const ingot_context_t *context, ingot_memory_info_t *out) {
  if (!out) return;
  *out = {};
  if (!context) return;
  out->state_bytes = context->state.size();
  for (const FunctionState *s : context->functions) {
    for (const Block &b : s->arenas) out->arena_bytes += b.size;
    for (const Block &b : s->staging) out->recording_bytes += b.size;
    for (const StraightLine &line : s->plan->segments)
      out->recording_bytes += line.size.dispatches * 72u + line.size.copies * 32u + line.size.fills * 40u +
                              8u * (line.size.bindings + line.size.params);
  }
}

} // extern "C"
