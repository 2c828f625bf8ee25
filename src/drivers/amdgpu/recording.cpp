// Recordings: packets with their arguments, and copies, made once and used by every submission.
#include "src/drivers/amdgpu/amdgpu.h"

using namespace ingot;
using namespace ingot::amdgpu;

ingot_driver_recording_t::~ingot_driver_recording_t() {
  ingot_driver_device_t &d = *stream->device;
  if (flying) wait_idle(*stream);
  for (Signal s : signals)
    if (s.handle) d.api.signal_destroy(s);
  for (Signal s : times)
    if (s.handle) d.api.signal_destroy(s);
  if (arguments) release(&d, arguments);
  if (patterns) release(&d, patterns);
}

namespace ingot::amdgpu {
namespace {

Code create_signals(ingot_driver_device_t &d, Array<Signal> &out, size_t count, Error *error) {
  if (count && !out.size()) INGOT_TRY(out.create(d.allocator, count, "signals", error));
  for (Signal &s : out)
    if (!s.handle) INGOT_HSA_TRY(d, d.api.signal_create(0, 0, nullptr, &s), "making a signal");
  return INGOT_OK;
}

ingot_driver_recording_t::Command &append(ingot_driver_recording_t &r, ingot_driver_recording_t::Command::Kind kind) {
  ingot_driver_recording_t::Command &c = r.commands[r.command_count++];
  c = {};
  c.kind = kind;
  return c;
}

Agent agent_of(const ingot_driver_recording_t &r, const ingot_driver_span_t &span) {
  const Physical &p = r.stream->device->physical;
  return span.memory->host ? p.host : p.agent;
}

} // namespace

Code recording_create(ingot_driver_stream_t *stream, const ingot_driver_recording_size_t *size, ingot_driver_recording_t **out, Error *error) {
  ingot_driver_device_t &d = *stream->device;
  ingot_driver_recording_t *r = create_object<ingot_driver_recording_t>(d.allocator, "a recording", error);
  if (!r) return INGOT_OUT_OF_MEMORY;
  r->stream = stream;
  const auto fill = [&]() -> Code {
    const size_t others = size_t(size->copies) + size->fills;
    INGOT_TRY(r->commands.create(d.allocator, size->dispatches + others, "a recording", error));
    INGOT_TRY(r->packets.create(d.allocator, size->dispatches, "a recording", error, 64));
    INGOT_TRY(create_signals(d, r->signals, 2 * others + size_t(size->fills) * (kFillLevels - 1), error));
    const uint64_t bytes = uint64_t(size->dispatches) * (stream->executable ? stream->executable->most_argument_bytes : 0);
    if (bytes) INGOT_TRY(allocate_arguments(d, bytes, &r->arguments, error));
    if (size->fills) INGOT_TRY(allocate(&d, INGOT_MEMORY_UPLOAD, uint64_t(size->fills) * kPatternBytes, &r->patterns, error));
    return INGOT_OK;
  };
  if (const Code code = fill()) {
    destroy_object(d.allocator, r);
    return code;
  }
  *out = r;
  return INGOT_OK;
}

void recording_destroy(ingot_driver_recording_t *r) { destroy_object(r->stream->device->allocator, r); }

void recording_begin(ingot_driver_recording_t *recording, bool timed) {
  ingot_driver_recording_t &r = *recording;
  if (r.flying) wait_idle(*r.stream); // its submissions have ended, but nobody has looked
  r.error = {};
  r.command_count = r.dispatch_count = r.fill_count = 0;
  r.argument_bytes = 0;
  r.after_barrier = true; // what ran before on the stream
  r.host_seen = false;
  r.timed = timed;
  if (timed) create_signals(*r.stream->device, r.times, r.packets.size(), &r.error);
}

void record_dispatch(ingot_driver_recording_t *recording, const ingot_driver_dispatch_t *dispatch) {
  ingot_driver_recording_t &r = *recording;
  ingot_driver_stream_t &s = *r.stream;
  const Physical &p = s.device->physical;
  const ingot_driver_executable_t::Kernel &k = s.executable->kernels[dispatch->kernel];
  if (r.error.code != INGOT_OK) return;
  for (uint32_t i = 0; i < 3; ++i)
    if (uint64_t(dispatch->grid[i]) * k.local_size[i] > p.max_grid[i]) {
      fail(&r.error, INGOT_OUT_OF_RANGE, "amdgpu: a dispatch of kernel %u has %u workgroups of %u in dimension %u, the device takes %u work-items",
           dispatch->kernel, dispatch->grid[i], k.local_size[i], i, p.max_grid[i]);
      return;
    }
  if (check_params("amdgpu", *dispatch, &r.error) != INGOT_OK) return;
  ingot_driver_recording_t::Command &c = append(r, ingot_driver_recording_t::Command::dispatch);
  c.kernel = dispatch->kernel;
  c.site = dispatch->site;
  c.packet = r.dispatch_count++;
  memcpy(c.grid, dispatch->grid, sizeof c.grid);

  uint8_t *const arguments = k.argument_bytes ? r.arguments->host + r.argument_bytes : nullptr;
  r.argument_bytes += k.argument_bytes;
  uint8_t *at = arguments;
  if (k.argument_bytes) memset(arguments, 0, k.argument_bytes);
  for (uint32_t i = 0; i < dispatch->binding_count; ++i, at += 8) { // one without bytes is never touched
    const ingot_driver_span_t &b = dispatch->bindings[i];
    const uint8_t *const address = b.length ? b.memory->address + b.offset : s.errors->address + 128;
    memcpy(at, &address, 8);
  }
  for (uint32_t i = 0; i < dispatch->param_count; ++i, at += 4) {
    const int32_t value = int32_t(dispatch->params[i]);
    memcpy(at, &value, 4);
  }
  if (k.errors) memcpy(arguments + align_up(uint64_t(at - arguments), 8), &s.errors->address, 8);

  DispatchPacket &packet = r.packets[c.packet];
  packet = {};
  if (r.after_barrier && r.dispatch_count > 1) r.host_seen = true;
  const uint16_t acquire = r.host_seen ? kAcquireAgent : kAcquireSystem; // what the host wrote
  packet.header = uint16_t(kTypeDispatch | acquire | kReleaseAgent | (r.after_barrier ? kBarrierBit : 0));
  packet.setup = 3; // dims
  for (uint32_t i = 0; i < 3; ++i) {
    packet.workgroup[i] = uint16_t(k.local_size[i]);
    packet.grid[i] = dispatch->grid[i] * k.local_size[i];
  }
  packet.private_bytes = k.private_bytes;
  packet.group_bytes = k.group_bytes;
  packet.kernel = k.object;
  packet.arguments = arguments;
  r.after_barrier = false;
}

void record_copy(ingot_driver_recording_t *recording, const ingot_driver_span_t *target, const ingot_driver_span_t *source) {
  ingot_driver_recording_t &r = *recording;
  if (target->length == 0) return;
  ingot_driver_recording_t::Command &c = append(r, ingot_driver_recording_t::Command::copy);
  c.target = target->memory->address + target->offset;
  c.source = source->memory->address + source->offset;
  c.length = target->length;
  c.target_agent = agent_of(r, *target);
  c.source_agent = agent_of(r, *source);
}

void record_fill(ingot_driver_recording_t *recording, const ingot_driver_span_t *target, uint64_t pattern, uint32_t pattern_bytes) {
  ingot_driver_recording_t &r = *recording;
  if (target->length == 0) return;
  ingot_driver_recording_t::Command &c = append(r, ingot_driver_recording_t::Command::fill);
  const uint64_t value = widened(pattern, pattern_bytes);
  uint8_t *const block = r.patterns->host + uint64_t(r.fill_count++) * kPatternBytes;
  for (uint32_t i = 0; i < kPatternBytes; i += 8) memcpy(block + i, &value, 8);
  c.target = target->memory->address + target->offset;
  c.source = block;
  c.length = target->length;
  c.target_agent = agent_of(r, *target);
  c.source_agent = r.stream->device->physical.host;
}

void record_barrier(ingot_driver_recording_t *recording) {
  ingot_driver_recording_t &r = *recording;
  r.after_barrier = true;
  if (r.command_count) r.commands[r.command_count - 1].group_ends = true;
}

Code recording_end(ingot_driver_recording_t *r, Error *error) {
  if (r->error.code == INGOT_OK) return INGOT_OK;
  *error = r->error;
  return error->code;
}

} // namespace ingot::amdgpu
