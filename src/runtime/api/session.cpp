// Preparing an archive on a device: the first variant that runs, its code, plans of its functions, splats, states.
#include "src/runtime/api/session.h"

using namespace ingot;

ingot_session_t::~ingot_session_t() {
  for (std::atomic<ingot_context_t *> *own : {&resting, &submitting})
    if (ingot_context_t *context = own->load(std::memory_order_acquire)) destroy_object(allocator, context);
  for (FunctionPlan *plan : plans) destroy_object(allocator, plan);
  if (executable) device->driver->unload(executable);
  ingot_archive_release(archive);
  ingot_device_release(device);
}

namespace ingot {

uint64_t slot_constant_size(const schema::Function *function, const schema::Slot *slot) {
  return uint64_t(function->exprs()->Get(slot->size())->value());
}

namespace {

constexpr uint32_t kMaxStates = 4096; // the verifier's limit

// Sums up splats and states, allocates, fills the splats.
Code lay_out_memory(ingot_session_t &s, Error *error) {
  uint32_t states = 0;
  uint64_t splat_bytes = 0;
  for (FunctionPlan *plan : s.plans) {
    INGOT_TRY(plan->splat_offsets.create(s.allocator, count(plan->function->slots()), "splats", error));
    for (uint32_t i = 0; i < plan->splat_offsets.size(); ++i) {
      const schema::Slot *slot = plan->function->slots()->Get(i);
      if (slot->kind() == uint8_t(program::SlotKind::state) && slot->of() >= states) states = slot->of() + 1;
      if (slot->kind() != uint8_t(program::SlotKind::splat)) continue;
      plan->splat_offsets[i] = splat_bytes;
      splat_bytes += align_up(slot_constant_size(plan->function, slot), kAlignment);
    }
  }
  INGOT_TRY(s.state_offsets.create(s.allocator, states < kMaxStates ? states : kMaxStates, "states", error));
  if (splat_bytes > SIZE_MAX / 2) return fail(error, INGOT_OUT_OF_MEMORY, "out of memory: %llu bytes of splats", (unsigned long long)splat_bytes);
  INGOT_TRY(s.splats.create(s.allocator, size_t(splat_bytes), "splats", error, kAlignment));
  for (FunctionPlan *plan : s.plans)
    for (uint32_t i = 0; i < plan->splat_offsets.size(); ++i) {
      const schema::Slot *slot = plan->function->slots()->Get(i);
      const uint64_t bytes = slot_constant_size(plan->function, slot);
      if (slot->kind() == uint8_t(program::SlotKind::state) && bytes > s.state_offsets[slot->of()])
        s.state_offsets[slot->of()] = bytes; // the size for now
      if (slot->kind() != uint8_t(program::SlotKind::splat)) continue;
      uint8_t *target = s.splats.data() + plan->splat_offsets[i];
      for (uint64_t b = 0; b < bytes; ++b) target[b] = uint8_t(slot->pattern() >> (8 * (b % slot->pattern_bytes())));
    }
  for (uint64_t &state : s.state_offsets) {
    const uint64_t bytes = state;
    state = s.state_bytes;
    s.state_bytes += align_up(bytes, kAlignment);
  }
  return INGOT_OK;
}

Code pick_variant(ingot_session_t &s, Error *error) {
  const uint32_t variants = count(s.archive->root()->variants());
  Code code = INGOT_INCOMPATIBLE;
  for (s.variant = 0; s.variant < variants; ++s.variant)
    if ((code = explain_variant(*s.archive, s.variant, *s.device, error)) == INGOT_OK) break;
  if (code == INGOT_OK) return INGOT_OK;
  prefix(error, "%.80s: none of the archive's %u variants runs here; the last one", s.device->uri, variants);
  return code;
}

Code prepare(ingot_session_t &s, Error *error) {
  INGOT_TRY(pick_variant(s, error));
  s.schema = s.archive->variant(s.variant);
  if (!s.device->driver->host_memory)
    return fail(error, INGOT_UNIMPLEMENTED, "%s: devices with memory of their own are not implemented yet", s.device->driver->name);
  DriverCode code;
  INGOT_TRY(code.build(*s.archive, s.variant, s.allocator, error));
  INGOT_TRY(s.device->driver->load(s.device->device, &code.get(), &s.executable, error));
  INGOT_TRY(s.plans.create(s.allocator, count(s.schema->functions()), "plans", error));
  for (uint32_t f = 0; f < s.plans.size(); ++f) {
    s.plans[f] = create_object<FunctionPlan>(s.allocator, "a plan", error);
    if (!s.plans[f]) return INGOT_OUT_OF_MEMORY;
    INGOT_TRY(s.plans[f]->build(s.schema->functions()->Get(f), s.allocator, error));
  }
  return lay_out_memory(s, error);
}

} // namespace
} // namespace ingot

extern "C" {

ingot_code_t ingot_session_prepare(ingot_device_t *device, ingot_archive_t *archive, ingot_session_t **out,
                                   ingot_error_t *error) {
  if (!device || !archive || !out) return null_argument(error, !device ? "device" : !archive ? "archive" : "out");
  ingot_session_t *s = create_object<ingot_session_t>(device->allocator, "a session", error);
  if (!s) return INGOT_OUT_OF_MEMORY;
  device->references.retain();
  archive->references.retain();
  s->allocator = device->allocator;
  s->device = device;
  s->archive = archive;
  Code code = prepare(*s, error);
  ingot_context_t *context = nullptr; // made now, so that the first run has nothing left to prepare
  if (code == INGOT_OK) code = create_context(s, true, &context, error);
  s->resting.store(context, std::memory_order_release);
  if (code != INGOT_OK) ingot_session_release(s);
  else *out = s;
  return code;
}

void ingot_session_release(ingot_session_t *session) {
  if (session && session->references.release()) destroy_object(session->allocator, session);
}

uint32_t ingot_session_variant(const ingot_session_t *session) { return session ? session->variant : INGOT_NONE; }

ingot_archive_t *ingot_session_archive(const ingot_session_t *session) { return session ? session->archive : nullptr; }

uint32_t ingot_session_kernel_version(const ingot_session_t *session, uint32_t kernel) {
  if (!session || kernel >= count(session->schema->kernels())) return INGOT_NONE;
  return session->device->driver->kernel_version(session->executable, kernel);
}

ingot_code_t ingot_session_infer(const ingot_session_t *session, uint32_t function, const ingot_tensor_t *inputs,
                                 size_t input_count, ingot_tensor_t *outputs, size_t output_count, ingot_error_t *error) {
  if (!session) return null_argument(error, "session");
  if (function >= session->plans.size()) return fail(error, INGOT_OUT_OF_RANGE, "the archive has no function %u", function);
  const schema::Function *f = session->plans[function]->function;
  if (output_count != count(f->outputs()) || (!outputs && output_count))
    return fail(error, INGOT_INVALID_ARGUMENT, "%.60s has %u outputs, %zu given", text(f->name()), count(f->outputs()), output_count);
  FunctionState *state = nullptr;
  bool changed;
  INGOT_TRY(create_function_state(*session->plans[function], session->allocator, &state, error));
  Code code = bind_inputs(*state, inputs, input_count, false, &changed, error);
  for (uint32_t i = 0; code == INGOT_OK && i < output_count; ++i) {
    const schema::TensorSpec *spec = f->outputs()->Get(i);
    ingot_tensor_t &t = outputs[i];
    t.type = spec->type();
    t.rank = count(spec->dims());
    bool known = true;
    for (uint32_t d = 0; d < t.rank; ++d) {
      const uint32_t e = spec->dims()->Get(d);
      t.dims[d] = state->states[e] == ExprState::value ? state->values[e] : -1;
      if (state->states[e] == ExprState::unset) known = false;
      else if (state->states[e] != ExprState::value) code = expr_error(f, e, state->states[e], error);
    }
    int64_t bytes = 0;
    if (code != INGOT_OK) break;
    if (known && !tensor_bytes(t.type, t.dims, t.rank, &bytes))
      code = fail(error, INGOT_OUT_OF_RANGE, "%.60s: output '%.60s' is too large, or has a negative dim", text(f->name()), text(spec->name()));
    if (!known) {
      if (state->states[spec->capacity()] != ExprState::value)
        code = expr_error(f, spec->capacity(), state->states[spec->capacity()], error);
      bytes = state->values[spec->capacity()];
    }
    t.size = size_t(bytes);
  }
  destroy_function_state(session->allocator, nullptr, state);
  return code;
}

ingot_code_t ingot_session_run(ingot_session_t *session, uint32_t function, const ingot_tensor_t *inputs,
                               size_t input_count, ingot_tensor_t *outputs, size_t output_count, ingot_error_t *error) {
  if (INGOT_UNLIKELY(!session)) return null_argument(error, "session");
  ingot_context_t *context = session->resting.exchange(nullptr, std::memory_order_acq_rel);
  if (INGOT_UNLIKELY(!context)) INGOT_TRY(create_context(session, true, &context, error));
  const Code code = ingot_context_run(context, function, inputs, input_count, outputs, output_count, nullptr, error);
  ingot_context_t *none = nullptr;
  if (INGOT_UNLIKELY(!session->resting.compare_exchange_strong(none, context, std::memory_order_acq_rel)))
    destroy_object(session->allocator, context);
  return code;
}

ingot_code_t ingot_session_submit(ingot_session_t *session, uint32_t function, const ingot_tensor_t *inputs,
                                  size_t input_count, ingot_tensor_t *outputs, size_t output_count,
                                  const ingot_semaphore_value_t *waits, size_t wait_count,
                                  const ingot_semaphore_value_t *signals, size_t signal_count, ingot_error_t *error) {
  if (!session) return null_argument(error, "session");
  ingot_context_t *context = session->submitting.load(std::memory_order_acquire);
  if (!context) {
    ingot_context_t *expected = nullptr;
    INGOT_TRY(create_context(session, true, &context, error));
    if (!session->submitting.compare_exchange_strong(expected, context, std::memory_order_acq_rel)) {
      destroy_object(session->allocator, context);
      context = expected;
    }
  }
  return ingot_context_submit(context, function, inputs, input_count, outputs, output_count, waits, wait_count, signals,
                              signal_count, nullptr, error);
}

} // extern "C"
