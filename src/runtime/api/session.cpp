// Preparing an archive on a device: the first variant that runs, its code, plans of its functions, splats, states.
#include "src/runtime/api/session.h"

#include <algorithm>

using namespace ingot;

ingot_session_t::~ingot_session_t() {
  for (std::atomic<ingot_context_t *> *own : {&resting, &submitting})
    if (ingot_context_t *context = own->load(std::memory_order_acquire)) destroy_object(allocator, context);
  for (FunctionPlan *plan : plans) destroy_object(allocator, plan);
  for (ingot::Block &block : constants) ingot::release_block(*device, allocator, &block);
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

// Constants that the session holds itself, each once: splats, what is prepared, and where the device has memory of its own
// what the archive holds. They share blocks of up to this size.
constexpr uint64_t kConstantBlock = 256 << 20; // or less, where one allocation holds less
constexpr uint64_t kPrepared = UINT64_MAX - 1;

struct Constant {
  uint64_t segment, offset, size; // of a constant slot; a splat's segment is UINT64_MAX, its offset the pattern; a
                                  // prepared slot's segment is one less, its offset the number
  uint32_t pattern_bytes;
  bool source;                    // only the prepare section uses it
  FunctionPlan::Held *held;
  bool operator<(const Constant &o) const {
    if (source != o.source) return o.source;
    if (segment != o.segment) return segment < o.segment;
    if (offset != o.offset) return offset < o.offset;
    if (size != o.size) return size > o.size; // the longest first: it serves the others
    return pattern_bytes < o.pattern_bytes;
  }
  bool covers(const Constant &o) const {
    return source == o.source && segment == o.segment && offset == o.offset && pattern_bytes == o.pattern_bytes && size >= o.size;
  }
};

Code collect_constants(ingot_session_t &s, Array<Constant> *out, Error *error) {
  const bool all = has_own_memory(*s.device);
  size_t n = 0;
  const auto wanted = [&](const schema::Slot *slot) {
    const program::SlotKind kind = program::SlotKind(slot->kind());
    return kind == program::SlotKind::splat || (INGOT_DEVICE_MEMORY && kind == program::SlotKind::prepared) ||
           (all && kind == program::SlotKind::constant);
  };
  for (FunctionPlan *plan : s.plans) {
    INGOT_TRY(plan->held.create(s.allocator, count(plan->function->slots()), "constants", error));
    for (uint32_t i = 0; i < plan->held.size(); ++i) n += wanted(plan->function->slots()->Get(i));
  }
  INGOT_TRY(out->create(s.allocator, n, "constants", error));
  n = 0;
  for (FunctionPlan *plan : s.plans)
    for (uint32_t i = 0; i < plan->held.size(); ++i) {
      const schema::Slot *slot = plan->function->slots()->Get(i);
      if (!wanted(slot)) continue;
      Constant &c = (*out)[n++];
      c = {slot->of(), slot->segment_offset(), slot_constant_size(plan->function, slot), 0,
           INGOT_DEVICE_MEMORY && plan->function == s.schema->prepare(), &plan->held[i]};
      if (slot->kind() == uint8_t(program::SlotKind::splat)) {
        c.segment = UINT64_MAX;
        c.offset = slot->pattern();
        c.pattern_bytes = slot->pattern_bytes();
      } else if (INGOT_DEVICE_MEMORY && slot->kind() == uint8_t(program::SlotKind::prepared)) {
        c.segment = kPrepared;
        c.offset = slot->of();
        c.source = false;
      }
    }
  std::sort(out->begin(), out->end());
  return INGOT_OK;
}

Code fill_constant(ingot_session_t &s, const Constant &c, Error *error) {
  const Block &block = s.constants[c.held->block];
  if (INGOT_DEVICE_MEMORY && c.segment == kPrepared) return fill_block(*s.device, block, c.held->offset, c.size, 0, 1, error);
  if (c.pattern_bytes) return fill_block(*s.device, block, c.held->offset, c.size, c.offset, c.pattern_bytes, error);
  return write_block(*s.device, block, c.held->offset, s.archive->segments[c.segment].data + c.offset, c.size, error);
}

// Places, allocates and fills.
Code hold_constants(ingot_session_t &s, Error *error) {
  Array<Constant> constants;
  INGOT_TRY(collect_constants(s, &constants, error));
  uint64_t alignment = kAlignment, block_size = kConstantBlock;
  if (has_own_memory(*s.device)) {
    const ingot_driver_properties_t &p = s.device->properties;
    if (p.binding_alignment > alignment) alignment = p.binding_alignment;
    if (p.max_allocation < block_size) block_size = p.max_allocation;
  }
  const auto same = [&](size_t i) { return i > 0 && constants[i - 1].covers(constants[i]); };
  uint32_t blocks = 0;
  uint64_t end = 0;
  bool sources = false;
  for (size_t i = 0; i < constants.size(); ++i) {
    Constant &c = constants[i];
    if (same(i)) {
      *c.held = *constants[i - 1].held;
      c.size = constants[i - 1].size; // so that the next one is measured against the longest
      continue;
    }
    const uint64_t size = align_up(c.size, alignment);
    if (c.source != sources) s.sources = blocks;
    if (blocks == 0 || c.source != sources || size > block_size || end > block_size - size) {
      ++blocks;
      end = 0;
    }
    sources = c.source;
    *c.held = {blocks - 1, end};
    end += size;
  }
  INGOT_TRY(s.constants.create(s.allocator, blocks, "constants", error));
  for (size_t i = 0, next; i < constants.size(); i = next) { // one block at a time
    const uint32_t block = constants[i].held->block;
    for (next = i; next < constants.size() && constants[next].held->block == block; ++next)
      if (const uint64_t to = constants[next].held->offset + align_up(constants[next].size, alignment); to > end || next == i) end = to;
    INGOT_TRY(create_block(*s.device, s.allocator, INGOT_MEMORY_DEVICE, end, "constants", &s.constants[block], error));
    for (size_t k = i; k < next; ++k)
      if (!same(k)) INGOT_TRY(fill_constant(s, constants[k], error));
  }
  return INGOT_OK;
}

// Sums up the states of all functions.
Code lay_out_states(ingot_session_t &s, Error *error) {
  uint64_t alignment = kAlignment;
  if (has_own_memory(*s.device) && s.device->properties.binding_alignment > alignment)
    alignment = s.device->properties.binding_alignment;
  uint32_t states = 0;
  const auto each = [&](auto &&visit) {
    for (FunctionPlan *plan : s.plans)
      for (uint32_t i = 0; i < count(plan->function->slots()); ++i) {
        const schema::Slot *slot = plan->function->slots()->Get(i);
        if (slot->kind() == uint8_t(program::SlotKind::state)) visit(slot->of(), slot_constant_size(plan->function, slot));
      }
  };
  each([&](uint32_t state, uint64_t) { states = state >= states ? state + 1 : states; });
  INGOT_TRY(s.state_offsets.create(s.allocator, states < kMaxStates ? states : kMaxStates, "states", error));
  each([&](uint32_t state, uint64_t bytes) { // the size for now
    if (bytes > s.state_offsets[state]) s.state_offsets[state] = bytes;
  });
  for (uint64_t &state : s.state_offsets) {
    const uint64_t bytes = state;
    state = s.state_bytes;
    s.state_bytes += align_up(bytes, alignment);
  }
  return INGOT_OK;
}

Code pick_variant(ingot_session_t &s, Error *error) {
  const uint32_t variants = count(s.archive->root()->variants());
  Code code = INGOT_INCOMPATIBLE;
  for (s.variant = 0; s.variant < variants; ++s.variant)
    if ((code = explain_variant(*s.archive, s.variant, *s.device, error)) == INGOT_OK || code == INGOT_OUT_OF_MEMORY) break;
  if (code == INGOT_OK || code == INGOT_OUT_OF_MEMORY) return code; // not that it cannot run: it could not be asked
  prefix(error, "%.80s: none of the archive's %u variants runs here; the last one", s.device->uri, variants);
  return code;
}

Code prepare(ingot_session_t &s, Error *error) {
  INGOT_TRY(pick_variant(s, error));
  s.schema = s.archive->variant(s.variant);
  if (!INGOT_DEVICE_MEMORY && s.schema->prepare())
    return fail(error, INGOT_INCOMPATIBLE, "only builds with GPU drivers prepare constants");
  DriverCode code;
  INGOT_TRY(code.build(*s.archive, s.variant, s.allocator, error));
  INGOT_TRY(s.device->driver->load(s.device->device, &code.get(), &s.executable, error));
  const uint32_t functions = count(s.schema->functions());
  INGOT_TRY(s.plans.create(s.allocator, functions + (INGOT_DEVICE_MEMORY && s.schema->prepare()), "plans", error));
  for (uint32_t f = 0; f < s.plans.size(); ++f) {
    s.plans[f] = create_object<FunctionPlan>(s.allocator, "a plan", error);
    if (!s.plans[f]) return INGOT_OUT_OF_MEMORY;
    INGOT_TRY(s.plans[f]->build(!INGOT_DEVICE_MEMORY || f < functions ? s.schema->functions()->Get(f) : s.schema->prepare(), s.allocator, error));
  }
  INGOT_TRY(hold_constants(s, error));
  return lay_out_states(s, error);
}

// Runs the prepare section, and lets go of what only it reads.
Code run_prepare(ingot_session_t &s, Error *error) {
  ingot_context_t *context = nullptr;
  s.preparing = true;
  Code code = create_context(&s, true, &context, error);
  s.preparing = false;
  if (code != INGOT_OK) return code;
  code = execute(*context, uint32_t(s.plans.size()) - 1, nullptr, 0, nullptr, 0, nullptr, error);
  destroy_object(s.allocator, context);
  for (uint32_t i = s.sources; i < s.constants.size(); ++i) release_block(*s.device, s.allocator, &s.constants[i]);
  return code;
}

} // namespace
} // namespace ingot

extern "C" {

ingot_code_t ingot_session_prepare(ingot_device_t *device, ingot_archive_t *archive, ingot_session_t **out,
                                   ingot_error_t *error) {
  Error unwanted;
  if (!error) error = &unwanted;
  if (!device || !archive || !out) return null_argument(error, !device ? "device" : !archive ? "archive" : "out");
  ingot_session_t *s = create_object<ingot_session_t>(device->allocator, "a session", error);
  if (!s) return INGOT_OUT_OF_MEMORY;
  device->references.retain();
  archive->references.retain();
  s->allocator = device->allocator;
  s->device = device;
  s->archive = archive;
  Code code = prepare(*s, error);
  if (INGOT_DEVICE_MEMORY && code == INGOT_OK && s->schema->prepare()) code = run_prepare(*s, error);
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
  if (function >= count(session->schema->functions())) return fail(error, INGOT_OUT_OF_RANGE, "the archive has no function %u", function);
  const schema::Function *f = session->plans[function]->function;
  if (output_count != count(f->outputs()) || (!outputs && output_count))
    return fail(error, INGOT_INVALID_ARGUMENT, "%.60s has %u outputs, %zu given", text(f->name()), count(f->outputs()), output_count);
  FunctionState *state = nullptr;
  bool changed;
  INGOT_TRY(create_function_state(*session->plans[function], session->allocator, &state, error));
  Code code = bind_inputs(*session->device, *state, inputs, input_count, false, &changed, error);
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
  destroy_function_state(*session->device, session->archive->host, session->allocator, state);
  return code;
}

ingot_code_t ingot_session_run(ingot_session_t *session, uint32_t function, const ingot_tensor_t *inputs,
                               size_t input_count, ingot_tensor_t *outputs, size_t output_count, ingot_error_t *error) {
  Error unwanted;
  if (!error) error = &unwanted;
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
  Error unwanted;
  if (!error) error = &unwanted;
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
