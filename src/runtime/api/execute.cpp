// One run: tensors are bound, dims evaluated, straight-line segments recorded where something changed, and submitted;
// host decisions happen between segments. With the same tensors as last time and no decisions, all of that is skipped.
#include "schemas/cpu_abi.h"
#include "src/runtime/api/device_io.h"
#include "src/runtime/platform/platform.h"

namespace ingot {

using program::kNone;
using program::Opcode;
using program::SlotKind;

namespace {

const char *name_of(const schema::Function *f) { return text(f->name()); }

Code check_shape(const schema::Function *f, const char *kind, const schema::TensorSpec *spec, const ingot_tensor_t &t,
                 Error *error) {
  if (t.type != spec->type())
    return fail(error, INGOT_INVALID_ARGUMENT, "%.60s: %s '%.60s' is %s, expected %s", name_of(f), kind, text(spec->name()),
                ingot_element_type_name(t.type), ingot_element_type_name(spec->type()));
  if (t.rank != count(spec->dims()))
    return fail(error, INGOT_INVALID_ARGUMENT, "%.60s: %s '%.60s' has rank %u, expected %u", name_of(f), kind,
                text(spec->name()), t.rank, count(spec->dims()));
  return INGOT_OK;
}

Code wrong_dim(const schema::Function *f, const char *kind, const schema::TensorSpec *spec, uint32_t dim, int64_t got,
               int64_t want, Error *error) {
  char formula[120];
  expr_text(f, spec->dims()->Get(dim), formula, sizeof formula);
  return fail(error, INGOT_INVALID_ARGUMENT, "%.60s: %s '%.60s': dim %u is %lld, expected %lld (%s)", name_of(f), kind,
              text(spec->name()), dim, (long long)got, (long long)want, formula);
}

// Makes a block at least that large. `keep`: with what it holds; the device is idle then.
Code grow(ingot_context_t &c, Block *block, uint64_t size, bool keep, const char *what, Error *error) {
  if (size <= block->size) return INGOT_OK;
  const ingot_device_t &device = *c.session->device;
  Block larger;
  if (!keep) release_block(device, c.allocator, block);
  INGOT_TRY(create_block(device, c.allocator, INGOT_MEMORY_DEVICE, size, what, &larger, error));
  uint8_t chunk[4096];
  for (uint64_t at = 0; keep && at < block->size; at += sizeof chunk) {
    const uint64_t n = block->size - at < sizeof chunk ? block->size - at : sizeof chunk;
    Code code = read_block(device, *block, at, chunk, n, error);
    if (code == INGOT_OK) code = write_block(device, larger, at, chunk, n, error);
    if (code != INGOT_OK) {
      release_block(device, c.allocator, &larger);
      return code;
    }
  }
  release_block(device, c.allocator, block);
  *block = larger;
  return INGOT_OK;
}

// Arenas whose size is known, grown to it. `late`: those that depend on host scalars, whose contents are live; else
// the others.
Code grow_arenas(ingot_context_t &c, FunctionState &s, bool late, bool *moved, Error *error) {
  const schema::Function *f = s.plan->function;
  for (uint32_t i = 0; i < s.arenas.size(); ++i) {
    const uint32_t e = f->arenas()->Get(i);
    if ((s.plan->late[e] != 0) != late || s.states[e] == ExprState::unset) continue;
    if (s.states[e] != ExprState::value) return expr_error(f, e, s.states[e], error);
    if (s.values[e] < 0) return fail(error, INGOT_OUT_OF_RANGE, "%.60s: arena %u has a negative size", name_of(f), i);
    if (uint64_t(s.values[e]) <= s.arenas[i].size) continue;
    if (late) INGOT_TRY(drain(c, nullptr, error));
    // What grows by a little again and again is not copied each time.
    const uint64_t needed = uint64_t(s.values[e]), more = late ? s.arenas[i].size + s.arenas[i].size / 2 : 0;
    INGOT_TRY(grow(c, &s.arenas[i], needed > more ? needed : more, late, "the arena", error));
    *moved = true;
  }
  return INGOT_OK;
}

// Room for the tensors of a function with fixed dims, as if they all came in host memory.
Code reserve_io(ingot_context_t &c, FunctionState &s, Error *error) {
  const schema::Function *f = s.plan->function;
  const auto bytes_of = [&](const schema::TensorSpec *spec, int64_t *bytes) {
    int64_t dims[INGOT_MAX_RANK];
    *bytes = 0;
    for (uint32_t d = 0; d < count(spec->dims()); ++d) {
      const uint32_t e = spec->dims()->Get(d);
      if (s.states[e] != ExprState::value) return;
      dims[d] = s.values[e];
    }
    if (!tensor_bytes(spec->type(), dims, count(spec->dims()), bytes)) *bytes = 0; // a run says so
  };
  for (uint32_t i = 0; i < s.input_bytes.size(); ++i) bytes_of(f->inputs()->Get(i), &s.input_bytes[i]);
  for (uint32_t i = 0; i < s.outputs.size(); ++i) {
    int64_t bytes;
    bytes_of(f->outputs()->Get(i), &bytes);
    s.io.output_rooms[i] = uint64_t(bytes);
  }
  bool changed = false;
  return place_tensors(c, s, &changed, error);
}

// The buffers of a run that was given up stay alive until the device is done with them.
void hold_buffers(ingot_context_t &c, const ingot_tensor_t *tensors, size_t n, size_t from) {
  for (size_t i = 0; i < n; ++i)
    if (ingot_buffer_t *b = tensors[i].buffer) {
      b->references.retain();
      c.held[from + i] = b;
    }
}

bool any_imported(const ingot_tensor_t *tensors, size_t n) {
  for (size_t i = 0; i < n; ++i)
    if (tensors[i].buffer && !tensors[i].buffer->owned) return true;
  return false;
}

} // namespace

Code tensor_place(const ingot_device_t &device, const ingot_tensor_t &t, Place *out, size_t *available, Error *error) {
  const bool value = INGOT_VALUES && t.type >= INGOT_ELEMENT_TYPE_STRING; // an object of the host's, of whose memory nothing may be used
  if (!t.buffer || value) {
    *out = {nullptr, static_cast<uint8_t *>(t.data), 0, 0};
    *available = value ? 0 : t.size;
    return INGOT_OK;
  }
  const Block &block = t.buffer->block;
  if (t.buffer_offset > block.size)
    return fail(error, INGOT_OUT_OF_RANGE, "its offset %zu is past the end of a buffer of %zu bytes", t.buffer_offset,
                size_t(block.size));
  const bool ours = has_own_memory(device) && t.buffer->device == &device;
  if (!ours && !block.host && block.size)
    return fail(error, INGOT_INVALID_ARGUMENT, "its buffer lies in memory of %.80s: read it into host memory first",
                t.buffer->device->uri);
  *out = ours ? place_in(block, t.buffer_offset) : Place{nullptr, block.host + t.buffer_offset, 0, 0};
  const size_t left = size_t(block.size) - t.buffer_offset;
  *available = t.size < left ? t.size : left;
  return INGOT_OK;
}

Code drain(ingot_context_t &c, ingot_driver_submit_t *submit, Error *error) {
  const ingot_driver_t &driver = *c.session->device->driver;
  if (!INGOT_DEVICE_MEMORY || c.finished == c.submissions) return INGOT_OK;
  const volatile int32_t never = 0;
  ingot_driver_submit_t own = {};
  own.struct_size = sizeof own;
  own.cancel = &never;
  const Code code = driver.finish(c.stream, submit ? submit : &own, error);
  if (code == INGOT_CANCELLED || code == INGOT_DEADLINE_EXCEEDED) return code;
  c.finished = c.submissions;
  release_held(c);
  return code;
}

Code reserve_fixed(ingot_context_t &context, FunctionState &s, Error *error) {
  bool moved;
  evaluate(s.plan->function->exprs(), s.symbols.data(), s.symbol_set.data(), s.values.data(), s.states.data(), nullptr);
  INGOT_TRY(grow_arenas(context, s, false, &moved, error));
  if (has_own_memory(*context.session->device)) return reserve_io(context, s, error);
  // Each page is touched now, so that the first run meets no page faults; zeroing what fresh pages hold already would
  // double the cost.
  const uint64_t page = platform::page_size();
  for (const Block &b : s.arenas)
    for (uint64_t at = 0; at < b.size; at += page) static_cast<volatile uint8_t *>(b.host)[at] = 0;
  return INGOT_OK;
}

Code bind_inputs(const ingot_device_t &device, FunctionState &s, const ingot_tensor_t *inputs, size_t input_count,
                 bool need_data, bool *changed, Error *error) {
  const schema::Function *f = s.plan->function;
  if (input_count != count(f->inputs()) || (!inputs && input_count))
    return fail(error, INGOT_INVALID_ARGUMENT, "%.60s takes %u inputs, %zu given", name_of(f), count(f->inputs()), input_count);
  *changed = !s.bound;
  s.bound = false;
  for (uint32_t i = 0; i < s.symbols.size(); ++i) s.symbol_set[i] = 0;
  for (uint32_t i = 0; i < input_count; ++i) { // first the symbols ...
    const schema::TensorSpec *spec = f->inputs()->Get(i);
    INGOT_TRY(check_shape(f, "input", spec, inputs[i], error));
    for (uint32_t d = 0; d < inputs[i].rank; ++d) {
      const schema::Expr *node = f->exprs()->Get(spec->dims()->Get(d));
      if (node->op() != uint32_t(program::ExprOp::symbol) || s.symbol_set[node->a()]) continue;
      const schema::Symbol *symbol = f->symbols()->Get(node->a());
      const int64_t value = inputs[i].dims[d];
      if (value < symbol->min() || value > symbol->max())
        return fail(error, INGOT_OUT_OF_RANGE, "%.60s: input '%.60s': dim %u (%.40s) is %lld, outside %lld .. %lld",
                    name_of(f), text(spec->name()), d, text(symbol->name()), (long long)value, (long long)symbol->min(),
                    (long long)symbol->max());
      *changed |= s.symbols[node->a()] != value;
      s.symbols[node->a()] = value;
      s.symbol_set[node->a()] = 1;
    }
  }
  const uint8_t *only = *changed ? nullptr : s.plan->late.data();
  if (*changed || s.plan->any_late)
    evaluate(f->exprs(), s.symbols.data(), s.symbol_set.data(), s.values.data(), s.states.data(), only);
  for (uint32_t i = 0; i < input_count; ++i) { // ... then everything that depends on them
    const schema::TensorSpec *spec = f->inputs()->Get(i);
    const ingot_tensor_t &t = inputs[i];
    for (uint32_t d = 0; d < t.rank; ++d) {
      const uint32_t e = spec->dims()->Get(d);
      if (s.states[e] != ExprState::value) return expr_error(f, e, s.states[e], error);
      if (s.values[e] != t.dims[d]) return wrong_dim(f, "input", spec, d, t.dims[d], s.values[e], error);
    }
    int64_t bytes;
    if (!tensor_bytes(t.type, t.dims, t.rank, &bytes))
      return fail(error, INGOT_OUT_OF_RANGE, "%.60s: input '%.60s' has a negative dim or is too large", name_of(f),
                  text(spec->name()));
    s.input_bytes[i] = bytes;
    if (!need_data) continue;
    size_t available;
    if (tensor_place(device, t, &s.given[i], &available, error) != INGOT_OK)
      return prefix(error, "%.60s: input '%.60s'", name_of(f), text(spec->name()));
    if (uint64_t(bytes) > available)
      return fail(error, INGOT_OUT_OF_RANGE, "%.60s: input '%.60s' needs %lld bytes, its memory holds %zu", name_of(f),
                  text(spec->name()), (long long)bytes, available);
    if (is_null(s.given[i]) && bytes)
      return fail(error, INGOT_INVALID_ARGUMENT, "%.60s: input '%.60s' is NULL", name_of(f), text(spec->name()));
  }
  return INGOT_OK;
}

namespace {

class Runner {
public:
  Runner(ingot_context_t &context, FunctionState &state, const ingot_run_options_t *options, Error *error)
      : c_(context), s_(state), plan_(*state.plan), f_(state.plan->function), device_(*context.session->device),
        driver_(*device_.driver), error_(error) {
    submit_.struct_size = sizeof submit_;
    submit_.cancel = &context.cancelled;
    if (!options) return;
    options_ = options;
    if (options->timeout_ns && __builtin_add_overflow(platform::now_ns(), options->timeout_ns, &submit_.deadline_ns))
      submit_.deadline_ns = UINT64_MAX;
    if (options->on_dispatch) {
      submit_.on_dispatch = [](void *user, const ingot_driver_timing_t *t) { static_cast<Runner *>(user)->timed(*t); };
      submit_.user = this;
    }
  }

  Code run(const ingot_tensor_t *inputs, size_t input_count, ingot_tensor_t *outputs, size_t output_count) {
    s_.ready = false;
    INGOT_TRY(clear_way());
    bool changed = false;
    INGOT_TRY(bind_inputs(device_, s_, inputs, input_count, true, &changed, error_));
    INGOT_TRY(bind_outputs(outputs, output_count, &changed));
    INGOT_TRY(grow_arenas(c_, s_, false, &changed, error_));
    if (has_own_memory(device_)) INGOT_TRY(place_tensors(c_, s_, &changed, error_));
    else INGOT_TRY(stage_in(&changed));
    if (const bool timed = submit_.on_dispatch; timed != s_.timed) {
      s_.timed = timed;
      changed = true; // recordings that are timed are made for it
    }
    if (changed) ++s_.epoch;
    ++s_.late_epoch; // host scalars are unset again
    s_.bound = true;
    if (INGOT_VALUES && s_.host) c_.session->archive->host->clear(s_.host);
    Code code = has_own_memory(device_) ? run_on_device(inputs, outputs) : run_text(kNone, 0, count(f_->commands()));
    if (code == INGOT_OK) code = finish(outputs, true);
    else finish(outputs, false);
    if (code != INGOT_OK) return code;
    for (uint32_t i = 0; i < input_count; ++i) s_.inputs[i] = inputs[i];
    bool plain = plan_.single && !s_.staged;
    for (uint32_t i = 0; i < input_count; ++i) plain = plain && !inputs[i].buffer;
    for (uint32_t i = 0; i < output_count; ++i) {
      s_.outputs[i] = outputs[i];
      plain = plain && !outputs[i].buffer;
    }
    s_.ready = plain;
    return INGOT_OK;
  }

  // The same tensors as last time, all in host memory, and nothing to decide.
  Code run_again() {
    if (!has_own_memory(device_)) return s_.recordings.size() ? submit(&s_.recordings[0], 1) : INGOT_OK;
    INGOT_TRY(clear_way());
    copy_inputs(s_);
    if (s_.io.before) queue(s_.io.prologue);
    if (s_.recordings.size()) queue(s_.recordings[0]);
    if (s_.io.after) queue(s_.io.epilogue);
    INGOT_TRY(flush());
    INGOT_TRY(wait());
    for (uint32_t i = 0; i < s_.outputs.size(); ++i) copy_output(s_, device_, i, s_.io.output_bytes[i]);
    return INGOT_OK;
  }

private:
  // ---- submitting ----

  Code submit(ingot_driver_recording_t *const *recordings, uint32_t n) {
    const Code code = driver_.submit(c_.stream, recordings, n, &submit_, error_);
    return INGOT_LIKELY(code != INGOT_KERNEL_ERROR) ? code : kernel_error();
  }

  // Drivers with memory of their own: recordings that will be one submission.
  void queue(ingot_driver_recording_t *r) { queued_[queue_length_++] = r; }
  Code flush() {
    if (queue_length_ == 0) return INGOT_OK;
    const uint32_t n = queue_length_;
    queue_length_ = 0;
    if (driver_.finish) ++c_.submissions;
    return submit(queued_, n);
  }
  Code wait() {
    const Code code = drain(c_, &submit_, error_);
    return code == INGOT_KERNEL_ERROR ? kernel_error() : code;
  }

  // Waits for what an earlier run left under way when it was given up. Its outcome was told then; a lost device stays lost.
  Code clear_way() {
    if (c_.finished == c_.submissions) return INGOT_OK;
    Error earlier = {};
    const Code code = drain(c_, &submit_, &earlier);
    if (code != INGOT_CANCELLED && code != INGOT_DEADLINE_EXCEEDED && code != INGOT_DEVICE_LOST) return INGOT_OK;
    *error_ = earlier;
    return code;
  }

  // Copies, commands, copies. After a failure nothing of the run is under way any more, unless it was given up.
  Code run_on_device(const ingot_tensor_t *inputs, const ingot_tensor_t *outputs) {
    Code code = walk_on_device();
    queue_length_ = 0;
    if (code == INGOT_CANCELLED || code == INGOT_DEADLINE_EXCEEDED) {
      if (c_.finished == c_.submissions) return code;
      // Buffers are kept; memory that one wraps is the caller's again when the caller releases it, so it must be idle.
      Error ignored;
      if (any_imported(inputs, s_.input_bytes.size()) || any_imported(outputs, s_.outputs.size())) drain(c_, nullptr, &ignored);
      if (c_.finished == c_.submissions) return code;
      hold_buffers(c_, inputs, s_.input_bytes.size(), 0);
      hold_buffers(c_, outputs, s_.outputs.size(), s_.input_bytes.size());
    } else if (code != INGOT_OK) {
      Error ignored;
      drain(c_, nullptr, &ignored);
    }
    return code;
  }
  Code walk_on_device() {
    copy_inputs(s_);
    if (s_.io.recorded != s_.epoch) {
      s_.io.recorded = 0;
      INGOT_TRY(record_prologue(s_, device_, error_));
      s_.io.recorded = s_.epoch;
    }
    if (s_.io.before) queue(s_.io.prologue);
    INGOT_TRY(run_text(kNone, 0, count(f_->commands())));
    INGOT_TRY(epilogue());
    INGOT_TRY(flush());
    return wait();
  }
  Code epilogue() {
    for (uint32_t i = 0; i < s_.outputs.size(); ++i) {
      const schema::TensorSpec *spec = f_->outputs()->Get(i);
      int64_t dims[INGOT_MAX_RANK], size = 0;
      for (uint32_t d = 0; d < count(spec->dims()); ++d) INGOT_TRY(value(spec->dims()->Get(d), &dims[d]));
      if (!tensor_bytes(spec->type(), dims, count(spec->dims()), &size))
        return fail(error_, INGOT_OUT_OF_RANGE, "%.60s: output '%.60s' has a negative dim or is too large", name_of(f_),
                    text(spec->name()));
      if (uint64_t(size) > s_.io.output_rooms[i]) return too_small(i, uint64_t(size), s_.io.output_rooms[i]);
      if (s_.io.output_bytes[i] != uint64_t(size)) s_.io.ended = 0;
      s_.io.output_bytes[i] = uint64_t(size);
    }
    if (!plan_.single) INGOT_TRY(flush()); // it may still be in the submission before
    INGOT_TRY(record_epilogue(s_, device_, error_));
    if (s_.io.after) queue(s_.io.epilogue);
    return INGOT_OK;
  }

  // ---- binding ----

  Code bind_outputs(const ingot_tensor_t *outputs, size_t output_count, bool *changed) {
    if (output_count != count(f_->outputs()) || (!outputs && output_count))
      return fail(error_, INGOT_INVALID_ARGUMENT, "%.60s gives %u outputs, %zu given", name_of(f_), count(f_->outputs()),
                  output_count);
    for (uint32_t i = 0; i < output_count; ++i) {
      const schema::TensorSpec *spec = f_->outputs()->Get(i);
      const ingot_tensor_t &t = outputs[i];
      INGOT_TRY(check_shape(f_, "output", spec, t, error_));
      bool known = true;
      int64_t dims[INGOT_MAX_RANK];
      for (uint32_t d = 0; d < t.rank; ++d) {
        const uint32_t e = spec->dims()->Get(d);
        dims[d] = s_.values[e];
        if (s_.states[e] == ExprState::unset) known = false; // an earlier run's dims may still stand there
        else if (s_.states[e] != ExprState::value) return expr_error(f_, e, s_.states[e], error_);
        else if (t.dims[d] != -1 && t.dims[d] != dims[d]) return wrong_dim(f_, "output", spec, d, t.dims[d], dims[d], error_);
      }
      Place &given = s_.given[s_.input_bytes.size() + i];
      size_t available;
      int64_t bytes = 0;
      if (tensor_place(device_, t, &given, &available, error_) != INGOT_OK)
        return prefix(error_, "%.60s: output '%.60s'", name_of(f_), text(spec->name()));
      if (known && !tensor_bytes(spec->type(), dims, t.rank, &bytes))
        return fail(error_, INGOT_OUT_OF_RANGE, "%.60s: output '%.60s' has a negative dim or is too large", name_of(f_),
                    text(spec->name()));
      if (uint64_t(bytes) > available) return too_small(i, uint64_t(bytes), available);
      if (is_null(given) && (bytes || available))
        return fail(error_, INGOT_INVALID_ARGUMENT, "%.60s: output '%.60s' is NULL", name_of(f_), text(spec->name()));
      // Memory of the device is not spent on what the caller has beyond the tensor.
      const uint64_t room = has_own_memory(device_) && known ? uint64_t(bytes) : available;
      *changed |= room != s_.io.output_rooms[i];
      s_.io.output_rooms[i] = room;
    }
    return INGOT_OK;
  }

  Code too_small(uint32_t output, uint64_t needed, uint64_t available) {
    return fail(error_, INGOT_OUT_OF_RANGE, "%.60s: output '%.60s' needs %llu bytes, its memory holds %llu", name_of(f_),
                text(f_->outputs()->Get(output)->name()), (unsigned long long)needed, (unsigned long long)available);
  }

  // Host memory: tensors are bound where they are given, but for aligned copies of pointers aligned less than the kernels
  // demand.
  Code stage_in(bool *changed) {
    const uint32_t alignment = c_.session->schema->io_alignment();
    s_.staged = false;
    for (size_t i = 0; i < s_.places.size(); ++i) {
      Place place = s_.given[i];
      const uint64_t bytes = tensor_size(s_, i);
      if (alignment > 1 && uintptr_t(place.host) % alignment != 0 && bytes != 0) {
        INGOT_TRY(grow(c_, &s_.staging[i], bytes, false, "an unaligned tensor", error_));
        if (i < s_.input_bytes.size()) memcpy(s_.staging[i].host, place.host, size_t(bytes));
        place.host = s_.staging[i].host;
        s_.staged = true;
      }
      *changed |= place != s_.places[i];
      s_.places[i] = place;
    }
    return INGOT_OK;
  }

  // Writes the dims found to the caller's outputs and copies staged ones back. `strict`: the run went well, so every
  // dim must be known.
  Code finish(ingot_tensor_t *outputs, bool strict) {
    for (uint32_t i = 0; i < s_.outputs.size(); ++i) {
      const schema::TensorSpec *spec = f_->outputs()->Get(i);
      bool known = true;
      for (uint32_t d = 0; d < outputs[i].rank; ++d) {
        const uint32_t e = spec->dims()->Get(d);
        if (s_.states[e] == ExprState::value) outputs[i].dims[d] = s_.values[e];
        else if (strict) return expr_error(f_, e, s_.states[e], error_);
        else known = false;
      }
      if (!strict || !known) continue;
      int64_t bytes;
      if (!tensor_bytes(spec->type(), outputs[i].dims, outputs[i].rank, &bytes))
        return fail(error_, INGOT_OUT_OF_RANGE, "%.60s: output '%.60s' has a negative dim or is too large", name_of(f_),
                    text(spec->name()));
      if (uint64_t(bytes) > s_.io.output_rooms[i]) return too_small(i, uint64_t(bytes), s_.io.output_rooms[i]);
      const size_t tensor = s_.input_bytes.size() + i;
      if (has_own_memory(device_)) copy_output(s_, device_, i, uint64_t(bytes));
      else if (s_.places[tensor] != s_.given[tensor] && bytes) memcpy(s_.given[tensor].host, s_.places[tensor].host, size_t(bytes));
    }
    return INGOT_OK;
  }

  // ---- values and places ----

  Code value(uint32_t expr, int64_t *out) {
    if (INGOT_UNLIKELY(s_.states[expr] != ExprState::value)) return expr_error(f_, expr, s_.states[expr], error_);
    *out = s_.values[expr];
    return INGOT_OK;
  }

  Code outside(uint32_t slot, int64_t offset, int64_t length, uint64_t size) {
    return fail(error_, INGOT_OUT_OF_RANGE, "%.60s: %lld bytes at %lld reach past the end of slot %u (%.60s) of %llu bytes",
                name_of(f_), (long long)length, (long long)offset, slot, text(f_->slots()->Get(slot)->name()),
                (unsigned long long)size);
  }

  // Where a slot is and how much of it may be used. Aliases are at most 8 deep.
  Code place(uint32_t slot, Place *out, uint64_t *size) {
    const schema::Slot *s = f_->slots()->Get(slot);
    int64_t bytes = 0, offset = 0;
    INGOT_TRY(value(s->size(), &bytes));
    if (bytes < 0) return fail(error_, INGOT_OUT_OF_RANGE, "%.60s: slot %u has a negative size", name_of(f_), slot);
    *size = uint64_t(bytes);
    uint64_t room = *size;
    switch (SlotKind(s->kind())) {
    case SlotKind::constant:
      if (has_own_memory(device_)) *out = held(slot);
      else *out = {nullptr, const_cast<uint8_t *>(c_.session->archive->segments[s->of()].data), s->segment_offset(), 0};
      break;
    case SlotKind::splat:
    case SlotKind::prepared: *out = held(slot); break;
    case SlotKind::state: *out = place_in(c_.state, c_.session->state_offsets[s->of()]); break;
    case SlotKind::input:
      *out = s_.places[s->of()];
      room = uint64_t(s_.input_bytes[s->of()]);
      break;
    case SlotKind::output:
      *out = s_.places[s_.input_bytes.size() + s->of()];
      room = s_.io.output_rooms[s->of()];
      if (*size > room) return too_small(s->of(), *size, room);
      break;
    case SlotKind::transient:
      INGOT_TRY(value(s->offset(), &offset));
      *out = place_in(s_.arenas[s->of()], 0);
      room = s_.arenas[s->of()].size;
      break;
    case SlotKind::alias:
      INGOT_TRY(value(s->offset(), &offset));
      INGOT_TRY(place(s->of(), out, &room));
      break;
    }
    if (offset < 0 || !fits(uint64_t(offset), *size, room)) return outside(slot, offset, bytes, room);
    out->offset += uint64_t(offset);
    return INGOT_OK;
  }
  Place held(uint32_t slot) const {
    const FunctionPlan::Held &h = plan_.held[slot];
    return place_in(c_.session->constants[h.block], h.offset);
  }

  Code access(uint32_t slot, uint32_t offset_expr, int64_t length, Place *out) {
    uint64_t size = 0;
    int64_t offset = 0;
    INGOT_TRY(place(slot, out, &size));
    INGOT_TRY(value(offset_expr, &offset));
    if (offset < 0 || length < 0 || !fits(uint64_t(offset), uint64_t(length), size)) return outside(slot, offset, length, size);
    out->offset += uint64_t(offset);
    return INGOT_OK;
  }
  Code access(uint32_t slot, uint32_t offset_expr, int64_t length, ingot_driver_span_t *out) {
    Place place;
    INGOT_TRY(access(slot, offset_expr, length, &place));
    *out = span_of(place, uint64_t(length));
    return INGOT_OK;
  }

  // ---- recording ----

  // What the site's expressions say at the dims bound; -1 where they say nothing.
  void site_cost(uint32_t site, int64_t *flops, int64_t *bytes) {
    *flops = *bytes = -1;
    if (site == kNone) return;
    const schema::Site *s = f_->sites()->Get(site);
    if (s->flops() != kNone && s_.states[s->flops()] == ExprState::value) *flops = s_.values[s->flops()];
    if (s->bytes() != kNone && s_.states[s->bytes()] == ExprState::value) *bytes = s_.values[s->bytes()];
  }

  Code record_dispatch(ingot_driver_recording_t *r, const uint32_t *w) {
    ingot_driver_dispatch_t d = {w[1], w[2], {}, w[6], w[7], nullptr, nullptr, -1, -1};
    ingot_driver_span_t spans[program::kMaxBindings];
    int64_t params[program::kMaxParams];
    uint64_t groups = 1;
    for (uint32_t i = 0; i < 3; ++i) {
      int64_t n = 0;
      INGOT_TRY(value(w[3 + i], &n));
      if (n < 0 || n > UINT32_MAX || (groups *= uint64_t(n)) > UINT32_MAX)
        return fail(error_, INGOT_OUT_OF_RANGE, "%.60s: a dispatch of kernel %.80s has a grid of more than 2^32 workgroups",
                    name_of(f_), text(c_.session->schema->kernels()->Get(w[1])->name()));
      d.grid[i] = uint32_t(n);
    }
    if (groups == 0) return INGOT_OK; // nothing to do
    for (uint32_t i = 0; i < w[6]; ++i) {
      const uint32_t *b = w + 8 + 3 * i;
      int64_t length = 0;
      INGOT_TRY(value(b[2], &length));
      INGOT_TRY(access(b[0], b[1], length, &spans[i]));
      if (has_own_memory(device_) && spans[i].offset % device_.properties.binding_alignment != 0)
        return fail(error_, INGOT_INCOMPATIBLE, "%.60s: kernel %.80s binds slot %u at byte %llu, %.80s needs multiples of %u", name_of(f_),
                    text(c_.session->schema->kernels()->Get(w[1])->name()), b[0], (unsigned long long)spans[i].offset, device_.uri,
                    device_.properties.binding_alignment);
    }
    for (uint32_t i = 0; i < w[7]; ++i) INGOT_TRY(value(w[8 + 3 * w[6] + i], &params[i]));
    d.bindings = spans;
    d.params = params;
    site_cost(w[2], &d.flops, &d.bytes);
    driver_.record_dispatch(r, &d);
    return INGOT_OK;
  }

  Code record(const StraightLine &line, ingot_driver_recording_t *r) {
    const uint32_t *words = plan_.words(line.text)->data();
    driver_.recording_begin(r, s_.timed);
    for (uint32_t at = line.begin; at < line.end; at += words[at] >> 8) {
      const uint32_t *w = words + at;
      ingot_driver_span_t target, source;
      int64_t length = 0;
      switch (Opcode(w[0] & 0xff)) {
      case Opcode::dispatch: INGOT_TRY(record_dispatch(r, w)); break;
      case Opcode::copy:
        INGOT_TRY(value(w[5], &length));
        INGOT_TRY(access(w[1], w[2], length, &target));
        INGOT_TRY(access(w[3], w[4], length, &source));
        if (length) driver_.record_copy(r, &target, &source);
        break;
      case Opcode::fill:
        INGOT_TRY(value(w[3], &length));
        INGOT_TRY(access(w[1], w[2], length, &target));
        if (length % w[4] != 0)
          return fail(error_, INGOT_OUT_OF_RANGE, "%.60s: a fill of %lld bytes is no multiple of its pattern of %u",
                      name_of(f_), (long long)length, w[4]);
        if (length) driver_.record_fill(r, &target, uint64_t(w[6]) << 32 | w[5], w[4]);
        break;
      default: driver_.record_barrier(r);
      }
    }
    return driver_.recording_end(r, error_);
  }

  // ---- walking ----

  Code interrupted() {
    if (raised(&c_.cancelled)) return fail(error_, INGOT_CANCELLED, "the run was cancelled");
    if (submit_.deadline_ns && platform::now_ns() > submit_.deadline_ns)
      return fail(error_, INGOT_DEADLINE_EXCEEDED, "the run exceeded its deadline");
    return INGOT_OK;
  }

  // Gives a host symbol its value, and everything that depends on it.
  Code set_symbol(uint32_t symbol, int64_t v) {
    const schema::Symbol *s = f_->symbols()->Get(symbol);
    if (v < s->min() || v > s->max())
      return fail(error_, INGOT_OUT_OF_RANGE, "%.60s: host scalar %.60s is %lld, outside %lld .. %lld", name_of(f_),
                  text(s->name()), (long long)v, (long long)s->min(), (long long)s->max());
    if (s_.symbol_set[symbol] && s_.symbols[symbol] == v) return INGOT_OK;
    s_.symbols[symbol] = v;
    s_.symbol_set[symbol] = 1;
    evaluate(f_->exprs(), s_.symbols.data(), s_.symbol_set.data(), s_.values.data(), s_.states.data(), plan_.late.data());
    ++s_.late_epoch;
    bool moved = false;
    INGOT_TRY(grow_arenas(c_, s_, true, &moved, error_));
    if (moved) ++s_.epoch;
    return INGOT_OK;
  }

  Code read_scalar(const uint32_t *w) {
    Place from;
    const uint32_t bytes = ingot_element_type_bits(ingot_element_type_t(w[3])) / 8;
    INGOT_TRY(access(w[1], w[2], bytes, &from));
    uint64_t bits = 0;
    if (has_own_memory(device_)) {
      INGOT_TRY(flush()); // copies of inputs may still be queued
      INGOT_TRY(wait());
    }
    if (has_own_memory(device_) && !from.host) INGOT_TRY(driver_.read(device_.device, from.memory, from.offset, &bits, bytes, error_));
    else memcpy(&bits, from.host + from.offset, bytes);
    int64_t v = int64_t(bits);
    switch (w[3]) {
    case INGOT_ELEMENT_TYPE_BOOL: v = bits != 0; break;
    case INGOT_ELEMENT_TYPE_I8: v = int8_t(bits); break;
    case INGOT_ELEMENT_TYPE_I16: v = int16_t(bits); break;
    case INGOT_ELEMENT_TYPE_I32: v = int32_t(bits); break;
    case INGOT_ELEMENT_TYPE_U64:
      if (v < 0) return fail(error_, INGOT_OUT_OF_RANGE, "%.60s: host scalar %.60s does not fit 63 bits", name_of(f_),
                             text(f_->symbols()->Get(w[4])->name()));
      break;
    default: break;
    }
    return set_symbol(w[4], v);
  }

  // Lists, optionals and strings: only archives that were opened with the module have such commands.
  Code host_op(const uint32_t *w) {
    static constexpr HostCalls kCalls = {
        [](void *run, uint32_t e, int64_t *out) { return static_cast<Runner *>(run)->value(e, out); },
        [](void *run, uint32_t symbol, int64_t v) { return static_cast<Runner *>(run)->set_symbol(symbol, v); },
        [](void *run, uint32_t slot, Place *out, uint64_t *size) { return static_cast<Runner *>(run)->place(slot, out, size); },
        [](void *run) {
          Runner &r = *static_cast<Runner *>(run);
          if (!has_own_memory(r.device_)) return Code(INGOT_OK);
          INGOT_TRY(r.flush());
          return r.wait();
        }};
    INGOT_TRY(interrupted());
    return c_.session->archive->host->run(kCalls, this, c_, s_, w, error_);
  }

  Code run_loop(uint32_t text, uint32_t at, const uint32_t *w) {
    int64_t trips = INT64_MAX;
    if (w[1] != kNone) INGOT_TRY(value(w[1], &trips));
    int64_t i = 0;
    for (; i < trips; ++i) {
      if (w[2] != kNone) {
        if (!s_.symbol_set[w[2]])
          return fail(error_, INGOT_CORRUPT, "%.60s: a loop's condition is tested before it is read", name_of(f_));
        if (s_.symbols[w[2]] == 0) break;
      }
      INGOT_TRY(interrupted());
      if (w[3] != kNone) INGOT_TRY(set_symbol(w[3], i));
      INGOT_TRY(run_text(text, at + 5, at + (w[0] >> 8)));
    }
    // After the loop its iteration symbol is the number of iterations done.
    return w[3] != kNone ? set_symbol(w[3], i) : INGOT_OK;
  }

  Code run_text(uint32_t text, uint32_t begin, uint32_t end) {
    if (begin == end) return INGOT_OK;
    const uint32_t *words = plan_.words(text)->data();
    for (uint32_t at = begin; at < end;) {
      const uint32_t *w = words + at;
      int64_t condition = 0;
      switch (Opcode(w[0] & 0xff)) {
      case Opcode::read_scalar: INGOT_TRY(read_scalar(w)); break;
      case Opcode::check:
        INGOT_TRY(value(w[1], &condition));
        if (!condition) return fail(error_, INGOT_CHECK_FAILED, "%.60s: %.400s", name_of(f_), ingot::text(f_->messages()->Get(w[2])));
        break;
      case Opcode::bind:
        INGOT_TRY(value(w[1], &condition));
        INGOT_TRY(set_symbol(w[2], condition));
        break;
      case Opcode::branch:
        INGOT_TRY(interrupted());
        INGOT_TRY(value(w[1], &condition));
        if (condition) INGOT_TRY(run_text(text, at + 4, at + 4 + w[2]));
        else INGOT_TRY(run_text(text, at + 4 + w[2], at + (w[0] >> 8)));
        break;
      case Opcode::host_op:
        if (INGOT_VALUES) INGOT_TRY(host_op(w)); // else no archive has one
        break;
      case Opcode::loop: INGOT_TRY(run_loop(text, at, w)); break;
      case Opcode::call:
        INGOT_TRY(interrupted());
        INGOT_TRY(run_text(w[1], 0, count(plan_.words(w[1]))));
        break;
      default: { // a straight line
        const uint32_t index = plan_.find(text, at);
        const StraightLine &line = plan_.segments[index];
        if (s_.recorded[index] != s_.epoch || (line.late && s_.recorded_late[index] != s_.late_epoch)) {
          s_.recorded[index] = 0;
          if (s_.submitted[index] > c_.finished) INGOT_TRY(wait()); // it may still be running
          INGOT_TRY(record(line, s_.recordings[index]));
          s_.recorded[index] = s_.epoch;
          s_.recorded_late[index] = s_.late_epoch;
        }
        if (!has_own_memory(device_)) {
          INGOT_TRY(submit(&s_.recordings[index], 1));
        } else {
          queue(s_.recordings[index]);
          s_.submitted[index] = c_.submissions + 1;
          if (!plan_.single) INGOT_TRY(flush());
        }
        at = line.end;
        continue;
      }
      }
      at += w[0] >> 8;
    }
    return INGOT_OK;
  }

  // ---- errors and profiles ----

  Code kernel_error() {
    const uint32_t code = uint32_t(submit_.kernel_error), site = uint32_t(submit_.kernel_error >> 32);
#if defined(INGOT_BYTECODE)
    if (code == INGOT_KERNEL_ERROR_FUEL)
      return fail(error_, INGOT_KERNEL_ERROR, "%.60s: kernel %u ran out of fuel", name_of(f_), site);
    if (code == INGOT_KERNEL_ERROR_BOUNDS)
      return fail(error_, INGOT_KERNEL_ERROR, "%.60s: kernel %u was about to access memory outside its bindings", name_of(f_),
                  site);
#endif
    if (site >= count(f_->error_sites()))
      return fail(error_, INGOT_KERNEL_ERROR, "%.60s: a kernel reported error %u at unknown site %u", name_of(f_), code, site);
    const schema::ErrorSite *e = f_->error_sites()->Get(site);
    return fail(error_, INGOT_KERNEL_ERROR, "%.60s: node '%.120s' (%.40s): %.250s", name_of(f_), text(e->node()), text(e->op()),
                text(e->message()));
  }

  void timed(const ingot_driver_timing_t &t) {
    ingot_dispatch_event_t event = {t.kernel, t.site, t.version, {t.grid[0], t.grid[1], t.grid[2]},
                                    t.start_ns, t.end_ns, -1, -1};
    site_cost(t.site, &event.flops, &event.bytes);
    options_->on_dispatch(options_->user, &event);
  }

  ingot_context_t &c_;
  FunctionState &s_;
  const FunctionPlan &plan_;
  const schema::Function *f_;
  const ingot_device_t &device_;
  const ingot_driver_t &driver_;
  const ingot_run_options_t *options_ = nullptr;
  ingot_driver_submit_t submit_ = {};
  Error *error_;
  ingot_driver_recording_t *queued_[3]; // prologue, straight line, epilogue
  uint32_t queue_length_ = 0;
};

bool same_tensors(const Array<ingot_tensor_t> &bound, const ingot_tensor_t *given, size_t n) {
  if (n != bound.size()) return false;
  for (size_t i = 0; i < n; ++i) {
    const ingot_tensor_t &a = bound[i], &b = given[i];
    if (a.data != b.data || a.size != b.size || b.buffer || a.type != b.type || a.rank != b.rank) return false;
    for (uint32_t d = 0; d < a.rank; ++d)
      if (a.dims[d] != b.dims[d]) return false;
  }
  return true;
}

} // namespace

Code check_options(const ingot_run_options_t *options, Error *error) {
  if (!options || options->struct_size >= sizeof *options) return INGOT_OK;
  return fail(error, INGOT_INVALID_ARGUMENT, "run options: struct_size is %zu, at least %zu expected", options->struct_size,
              sizeof *options);
}

Code execute(ingot_context_t &context, uint32_t function, const ingot_tensor_t *inputs, size_t input_count,
             ingot_tensor_t *outputs, size_t output_count, const ingot_run_options_t *options, Error *error) {
  if (function >= context.functions.size())
    return fail(error, INGOT_OUT_OF_RANGE, "the archive has no function %u: it has %zu", function, context.functions.size());
  INGOT_TRY(check_options(options, error));
  FunctionState &state = *context.functions[function];
  Runner runner(context, state, options, error);
  const bool timed = options && options->on_dispatch;
  if (INGOT_LIKELY(state.ready) && timed == state.timed && same_tensors(state.inputs, inputs, input_count) &&
      same_tensors(state.outputs, outputs, output_count))
    return runner.run_again();
  return runner.run(inputs, input_count, outputs, output_count);
}

} // namespace ingot
