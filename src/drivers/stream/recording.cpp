// Recordings: lists of commands, checked as they are made.
#include "src/drivers/stream/stream.h"

using namespace ingot;
using namespace ingot::stream;

ingot_driver_recording_t::~ingot_driver_recording_t() {
  ingot_driver_device_t &d = *stream->device;
  Current current(d);
  wait_idle(*stream);
  forget(*stream, generation);
  for (Event e : events)
    if (e) d.api.EventDestroy(e);
  if (patterns) release(&d, patterns);
}

namespace ingot::stream {
namespace {

constexpr uint32_t kPatternBytes = 256; // of a fill that the library's cannot do

// The smallest width, 1, 2 or 4 bytes, of which the pattern is a repetition; else 8.
uint32_t period_of(uint64_t pattern) {
  if (uint32_t(pattern) != uint32_t(pattern >> 32)) return 8;
  if (uint16_t(pattern) != uint16_t(pattern >> 16)) return 4;
  return uint8_t(pattern) != uint8_t(pattern >> 8) ? 2 : 1;
}

// A tensor map of the dispatch, as an argument.
Code encode(ingot_driver_device_t &d, const ingot_tensor_map_t &map, const ingot_driver_dispatch_t &dispatch, uint64_t *argument, Error *error) {
  const ingot_driver_span_t &b = dispatch.bindings[map.binding];
  uint64_t end = map.offset + 2;
  for (uint32_t i = 0; i < map.rank; ++i) end += (map.sizes[i] - 1) * map.strides[i];
  if (end > b.length)
    return fail(error, INGOT_CORRUPT, "%s: buffer %u of a dispatch of kernel %u has %llu bytes, its tensor map takes %llu", d.vendor->name, map.binding, map.kernel,
                (unsigned long long)b.length, (unsigned long long)end);
  const unsigned steps[INGOT_TENSOR_MAP_RANK] = {1, 1, 1, 1, 1};
  TensorMap out;
  Current current(d);
  INGOT_STREAM_TRY(d, d.api.TensorMapEncode(&out, kMapWords, map.rank, reinterpret_cast<void *>(uintptr_t(b.memory->address + b.offset + map.offset)), map.sizes,
                                            map.strides + 1, map.box, steps, kMapInterleave, kMapSwizzle, kMapPromotion, kMapZeros),
                   "making a tensor map");
  memcpy(argument, out.words, sizeof out.words);
  return INGOT_OK;
}

} // namespace

Code recording_create(ingot_driver_stream_t *stream, const ingot_driver_recording_size_t *size, ingot_driver_recording_t **out, Error *error) {
  ingot_driver_device_t &d = *stream->device;
  ingot_driver_recording_t *r = create_object<ingot_driver_recording_t>(d.allocator, "a recording", error);
  if (!r) return INGOT_OUT_OF_MEMORY;
  r->stream = stream;
  const auto fill = [&]() -> Code {
    INGOT_TRY(r->commands.create(d.allocator, size_t(size->dispatches) + size->copies + size->fills, "a recording", error));
    INGOT_TRY(r->arguments.create(d.allocator, size_t(size->bindings) + size->params + size_t(size->dispatches) * (1 + stream->executable->most_maps * kMapArgument),
                                  "a recording", error));
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
  ingot_driver_device_t &d = *r.stream->device;
  Current current(d);
  forget(*r.stream, r.generation);
  r.generation = d.generations.fetch_add(1, std::memory_order_relaxed) + 1;
  r.error = {};
  r.command_count = r.argument_count = r.dispatch_count = r.fill_count = 0;
  r.timed = timed;
  if (!timed || r.events.size()) return;
  const size_t pairs = r.commands.size();
  if (pairs && r.events.create(d.allocator, 2 * pairs, "events", &r.error) != INGOT_OK) return;
  for (Event &e : r.events)
    if (const int result = d.api.EventCreate(&e, 0)) {
      failed(d, &r.error, result, "making an event");
      return;
    }
}

void record_dispatch(ingot_driver_recording_t *recording, const ingot_driver_dispatch_t *dispatch) {
  ingot_driver_recording_t &r = *recording;
  ingot_driver_stream_t &s = *r.stream;
  const ingot_driver_executable_t::Kernel &k = s.executable->kernels[dispatch->kernel];
  if (r.error.code != INGOT_OK) return;
  const char *const driver = s.device->vendor->name;
  for (uint32_t i = 0; i < 3; ++i)
    if (dispatch->grid[i] > uint32_t(s.device->physical.max_grid[i])) {
      fail(&r.error, INGOT_OUT_OF_RANGE, "%s: a dispatch of kernel %u has %u workgroups in dimension %u, the device takes %d", driver,
           dispatch->kernel, dispatch->grid[i], i, s.device->physical.max_grid[i]);
      return;
    }
  if (check_params(driver, *dispatch, &r.error) != INGOT_OK) return;
  ingot_driver_recording_t::Command &c = r.commands[r.command_count++];
  c = {};
  c.kind = c.dispatch;
  c.kernel = dispatch->kernel;
  c.site = dispatch->site;
  memcpy(c.grid, dispatch->grid, sizeof c.grid);
  c.first_argument = r.argument_count;
  uint64_t *argument = &r.arguments[r.argument_count];
  for (uint32_t i = 0; i < dispatch->binding_count; ++i) { // one without bytes is never touched
    const ingot_driver_span_t &b = dispatch->bindings[i];
    *argument++ = b.length ? b.memory->address + b.offset : s.errors->address + 128;
  }
  for (uint32_t i = 0; i < dispatch->param_count; ++i) *argument++ = uint64_t(dispatch->params[i]);
  if (k.errors) *argument++ = s.errors->address;
  c.argument_count = uint32_t(argument - &r.arguments[c.first_argument]);
  r.argument_count += c.argument_count + k.maps * kMapArgument;
  for (uint32_t i = 0; i < k.maps; ++i, argument += kMapArgument)
    if (encode(*s.device, s.executable->tensor_maps[k.first_map + i], *dispatch, argument, &r.error) != INGOT_OK) return;
  ++r.dispatch_count;
}

void record_copy(ingot_driver_recording_t *r, const ingot_driver_span_t *target, const ingot_driver_span_t *source) {
  if (target->length == 0) return;
  ingot_driver_recording_t::Command &c = r->commands[r->command_count++];
  c = {};
  c.kind = c.copy;
  c.target = target->memory->address + target->offset;
  c.source = source->memory->address + source->offset;
  c.length = target->length;
}

void record_fill(ingot_driver_recording_t *recording, const ingot_driver_span_t *target, uint64_t pattern, uint32_t pattern_bytes) {
  ingot_driver_recording_t &r = *recording;
  if (target->length == 0) return;
  ingot_driver_recording_t::Command &c = r.commands[r.command_count++];
  c = {};
  c.kind = c.fill;
  c.target = target->memory->address + target->offset;
  c.length = target->length;
  c.value = widened(pattern, pattern_bytes);
  c.pattern_bytes = period_of(c.value);
  if (c.pattern_bytes < 8 && c.target % c.pattern_bytes == 0) return;
  c.pattern_bytes = 8; // from pinned memory, then doubled
  c.pattern = r.fill_count++ * kPatternBytes;
  for (uint32_t i = 0; i < kPatternBytes; i += 8) memcpy(r.patterns->host + c.pattern + i, &c.value, 8);
  c.source = r.patterns->address + c.pattern;
}

void record_barrier(ingot_driver_recording_t *) {} // commands run in order

Code recording_end(ingot_driver_recording_t *r, Error *error) {
  if (r->error.code == INGOT_OK) return INGOT_OK;
  *error = r->error;
  return error->code;
}

} // namespace ingot::stream
