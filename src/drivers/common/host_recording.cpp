// See host_recording.h.
#include "src/drivers/common/host_recording.h"

namespace ingot::drivers {
namespace {

template <class T> T *append(HostRecording &r, HostOp op, size_t extra) {
  const size_t size = sizeof(T) + extra;
  if (size > r.capacity - r.size) return nullptr; // the runtime announced fewer commands: a bug of ours
  T *command = reinterpret_cast<T *>(r.commands + r.size);
  command->op = op;
  command->size = uint32_t(size);
  r.size += size;
  return command;
}

} // namespace

Code host_recording_create(const ingot_allocator_t &allocator, ingot_driver_stream_t *stream,
                           const ingot_driver_recording_size_t &size, HostRecording **out, Error *error) {
  HostRecording *r = create_object<HostRecording>(allocator, "a recording", error);
  if (!r) return INGOT_OUT_OF_MEMORY;
  r->allocator = allocator;
  r->stream = stream;
  r->size = 0;
  r->capacity = size.dispatches * (sizeof(HostDispatch) + 8) + 8 * (2 * size_t(size.bindings) + size.params) +
                size.copies * sizeof(HostCopy) + size.fills * sizeof(HostFill);
  r->commands = r->capacity ? static_cast<uint8_t *>(allocate_bytes(allocator, r->capacity, 1, kAlignment)) : nullptr;
  if (r->capacity && !r->commands) {
    const size_t wanted = r->capacity;
    destroy_object(allocator, r);
    return fail(error, INGOT_OUT_OF_MEMORY, "out of memory: %zu bytes for a recording", wanted);
  }
  *out = r;
  return INGOT_OK;
}

void host_recording_destroy(HostRecording *r) {
  if (!r) return;
  release_bytes(r->allocator, r->commands, r->capacity, kAlignment);
  destroy_object(r->allocator, r);
}

HostDispatch *host_record_dispatch(HostRecording &r, const ingot_driver_dispatch_t &d) {
  HostDispatch *c = append<HostDispatch>(r, HostOp::dispatch, 8 * (2 * size_t(d.binding_count) + d.param_count + 1));
  if (!c) return nullptr;
  c->function = nullptr;
  c->kernel = d.kernel;
  c->site = d.site;
  c->version = INGOT_NONE;
  c->args = {};
  c->args.group_end = d.grid[0] * d.grid[1] * d.grid[2];
  memcpy(c->args.grid, d.grid, sizeof d.grid);
  uint8_t *tail = reinterpret_cast<uint8_t *>(&c->args) + INGOT_CPU_ARGS_HEADER;
  for (uint32_t i = 0; i < d.binding_count; ++i, tail += 8) {
    const uint64_t address = uintptr_t(d.bindings[i].host) + d.bindings[i].offset;
    memcpy(tail, &address, 8);
  }
  if (d.param_count) memcpy(tail, d.params, 8 * size_t(d.param_count));
  tail += 8 * size_t(d.param_count);
  memset(tail, 0, 8);
  for (uint32_t i = 0; i < d.binding_count; ++i) memcpy(tail += 8, &d.bindings[i].length, 8);
  return c;
}

void host_record_kernel(HostDispatch &c, const ingot_driver_dispatch_t &d, const void *kernel) {
  c.args.tail = d.binding_count + d.param_count;
  const uint64_t address = uintptr_t(kernel);
  memcpy(reinterpret_cast<uint8_t *>(&c.args) + INGOT_CPU_ARGS_HEADER + 8 * size_t(c.args.tail), &address, 8);
}

HostCopy *host_record_copy(HostRecording &r, const ingot_driver_span_t &target, const ingot_driver_span_t &source) {
  HostCopy *c = append<HostCopy>(r, HostOp::copy, 0);
  if (!c) return nullptr;
  c->target = static_cast<uint8_t *>(target.host) + target.offset;
  c->source = static_cast<const uint8_t *>(source.host) + source.offset;
  c->length = target.length;
  return c;
}

HostFill *host_record_fill(HostRecording &r, const ingot_driver_span_t &target, uint64_t pattern, uint32_t pattern_bytes) {
  HostFill *c = append<HostFill>(r, HostOp::fill, 0);
  if (!c) return nullptr;
  c->target = static_cast<uint8_t *>(target.host) + target.offset;
  c->length = target.length;
  c->pattern = pattern;
  c->pattern_bytes = pattern_bytes;
  return c;
}

void host_copy(const HostCopy &c) {
  if (c.length) memmove(c.target, c.source, size_t(c.length));
}

void host_fill(void *target, uint64_t length, uint64_t pattern, uint32_t pattern_bytes) {
  if (length == 0) return;
  const uint8_t low = uint8_t(pattern);
  uint8_t bytes[8];
  memcpy(bytes, &pattern, sizeof bytes); // little-endian: the low bytes come first
  bool uniform = true;
  for (uint32_t i = 1; i < pattern_bytes; ++i) uniform = uniform && bytes[i] == low;
  if (uniform) {
    memset(target, low, size_t(length));
    return;
  }
  for (uint64_t i = 0; i + pattern_bytes <= length; i += pattern_bytes)
    memcpy(static_cast<uint8_t *>(target) + i, bytes, pattern_bytes);
}

} // namespace ingot::drivers
