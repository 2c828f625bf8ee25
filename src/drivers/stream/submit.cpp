// Streams: what is submitted once is issued command by command; what comes again, as the run of a model with fixed dims does, is
// captured into a graph, which is launched from then on.
#include "src/drivers/stream/stream.h"

#include "schemas/cpu_abi.h"

using namespace ingot;
using namespace ingot::stream;

ingot_driver_stream_t::~ingot_driver_stream_t() {
  Current current(*device);
  wait_idle(*this);
  for (Kept &k : kept)
    if (k.exec) device->api.GraphExecDestroy(k.exec);
  if (done) device->api.EventDestroy(done);
  if (own) device->api.StreamDestroy(own);
  if (errors) release(device, errors);
}

namespace ingot::stream {
namespace {

constexpr uint64_t kFirstPiece = 256; // of a fill by copies

int launch(ingot_driver_stream_t &s, ingot_driver_recording_t &r, const ingot_driver_recording_t::Command &c, Stream to, bool dependent) {
  const Api &api = s.device->api;
  const ingot_driver_executable_t::Kernel &k = s.executable->kernels[c.kernel];
  void *arguments[kMaxArguments];
  uint64_t *const words = &r.arguments[c.first_argument];
  for (uint32_t i = 0; i < c.argument_count; ++i) arguments[i] = words + i;
  for (uint32_t i = 0; i < k.maps; ++i) arguments[c.argument_count + i] = words + c.argument_count + i * kMapArgument;
  const uint32_t *g = c.grid, *b = k.local_size;
  if (!dependent || !k.dependent || !api.LaunchKernelEx)
    return api.LaunchKernel(k.function, g[0], g[1], g[2], b[0], b[1], b[2], k.shared_bytes, to, arguments, nullptr);
  LaunchAttribute attribute = {};
  attribute.id = kLaunchProgrammatic;
  attribute.value.flag = 1;
  const LaunchConfig config = {{g[0], g[1], g[2]}, {b[0], b[1], b[2]}, k.shared_bytes, to, &attribute, 1};
  return api.LaunchKernelEx(&config, k.function, arguments, nullptr);
}

int fill(const Api &api, const ingot_driver_recording_t::Command &c, Stream to) {
  switch (c.pattern_bytes) {
  case 1: return api.SetAsync8(c.target, uint8_t(c.value), size_t(c.length), to);
  case 2: return api.SetAsync16(c.target, uint16_t(c.value), size_t(c.length / 2), to);
  case 4: return api.SetAsync32(c.target, uint32_t(c.value), size_t(c.length / 4), to);
  default: break;
  }
  uint64_t done = c.length < kFirstPiece ? c.length : kFirstPiece;
  int result = api.CopyAsync(c.target, c.source, size_t(done), to);
  while (result == kSuccess && done < c.length) {
    const uint64_t n = c.length - done < done ? c.length - done : done;
    result = api.CopyAsync(c.target + done, c.target, size_t(n), to);
    done += n;
  }
  return result;
}

// The event that ends dispatch number `dispatch`, command i: the one that begins the next, where that follows at once, as each
// event costs about as much as a small kernel.
uint32_t end_event(const ingot_driver_recording_t &r, uint32_t i, uint32_t dispatch) {
  const bool next = i + 1 < r.command_count && r.commands[i + 1].kind == ingot_driver_recording_t::Command::dispatch;
  return 2 * dispatch + (next ? 2 : 1);
}

// All commands, one after the other. `timed`: with events around dispatches. `early`: kernels may start while the one before ends.
Code issue(ingot_driver_stream_t &s, ingot_driver_recording_t &r, Stream to, bool timed, bool early, Error *error) {
  const Api &api = s.device->api;
  bool after_kernel = false; // the command before is a kernel of this recording
  uint32_t dispatch = 0;
  for (uint32_t i = 0; i < r.command_count; ++i) {
    const ingot_driver_recording_t::Command &c = r.commands[i];
    int result = kSuccess;
    if (c.kind == c.dispatch) {
      if (timed) result = api.EventRecord(r.events[2 * dispatch], to);
      if (result == kSuccess) result = launch(s, r, c, to, after_kernel && early && !timed);
      const uint32_t end = end_event(r, i, dispatch);
      if (timed && result == kSuccess && end % 2 == 1) result = api.EventRecord(r.events[end], to);
      ++dispatch;
    } else {
      result = c.kind == c.copy ? api.CopyAsync(c.target, c.source, size_t(c.length), to) : fill(api, c, to);
    }
    if (result != kSuccess) return failed(*s.device, error, result, c.kind == c.dispatch ? "launching a kernel" : "a copy or fill");
    after_kernel = c.kind == c.dispatch;
  }
  return INGOT_OK;
}

Code capture_once(ingot_driver_stream_t &s, ingot_driver_recording_t *const *recordings, uint32_t count, bool early, GraphExec *out, Error *error) {
  ingot_driver_device_t &d = *s.device;
  INGOT_STREAM_TRY(d, d.api.StreamBeginCapture(s.own, kCaptureRelaxed), "beginning a capture");
  Code code = INGOT_OK;
  for (uint32_t i = 0; i < count && code == INGOT_OK; ++i) code = issue(s, *recordings[i], s.own, false, early, error);
  Graph graph = nullptr;
  const int ended = d.api.StreamEndCapture(s.own, &graph);
  int result = ended;
  if (code == INGOT_OK && result == kSuccess) result = d.api.GraphInstantiate(out, graph, 0);
  if (graph) d.api.GraphDestroy(graph);
  INGOT_TRY(code);
  INGOT_STREAM_TRY(d, result, "making a graph");
  return INGOT_OK;
}

// A vendor's library may know dependent launches, but not in graphs: these go without then.
Code capture(ingot_driver_stream_t &s, ingot_driver_recording_t *const *recordings, uint32_t count, GraphExec *out, Error *error) {
  Error refused = {};
  const bool early = s.device->dependent;
  const Code code = capture_once(s, recordings, count, early, out, &refused);
  if (code == INGOT_INTERNAL && early) return capture_once(s, recordings, count, false, out, error);
  if (code != INGOT_OK && error) *error = refused;
  return code;
}

// The entry of these recordings; a new one takes the place of the oldest.
ingot_driver_stream_t::Kept &entry_of(ingot_driver_stream_t &s, ingot_driver_recording_t *const *recordings, uint32_t count) {
  for (ingot_driver_stream_t::Kept &k : s.kept) {
    bool same = k.count == count;
    for (uint32_t i = 0; i < count && same; ++i) same = k.generations[i] == recordings[i]->generation;
    if (same) return k;
  }
  ingot_driver_stream_t::Kept &k = s.kept[s.next_kept++ % ingot_driver_stream_t::kKept];
  if (k.exec) s.device->api.GraphExecDestroy(k.exec);
  k = {};
  k.count = count;
  for (uint32_t i = 0; i < count; ++i) k.generations[i] = recordings[i]->generation;
  return k;
}

Code send(ingot_driver_stream_t &s, ingot_driver_recording_t *const *recordings, uint32_t count, bool timed, Error *error) {
  ingot_driver_device_t &d = *s.device;
  if (!timed && count <= ingot_driver_stream_t::kTogether) {
    ingot_driver_stream_t::Kept &k = entry_of(s, recordings, count);
    if (!k.exec && k.submissions++ > 0) INGOT_TRY(capture(s, recordings, count, &k.exec, error));
    if (k.exec) {
      INGOT_STREAM_TRY(d, d.api.GraphLaunch(k.exec, s.used), "launching a graph");
      return INGOT_OK;
    }
  }
  for (uint32_t i = 0; i < count; ++i) INGOT_TRY(issue(s, *recordings[i], s.used, timed && recordings[i]->timed, true, error));
  return INGOT_OK;
}

// Has all that was submitted run? kSuccess, kNotReady, or what went wrong.
int query(const ingot_driver_stream_t &s) { return s.done ? s.device->api.EventQuery(s.done) : s.device->api.StreamQuery(s.used); }

// Waits for all that was submitted to the stream, unless the run is given up meanwhile.
Code await(ingot_driver_stream_t &s, const ingot_driver_submit_t &options, Error *error) {
  ingot_driver_device_t &d = *s.device;
  if (d.lost.load(std::memory_order_relaxed)) return failed(d, error, 709, "waiting");
  if (!s.busy) return INGOT_OK;
  return await_work(
      options, d.now_ns,
      [&](bool) {
        const int result = query(s);
        if (result == kNotReady) return Work::running;
        if (result == kSuccess) return s.busy = false, Work::ended;
        return failed(d, error, result, "waiting for a run"), Work::failed;
      },
      error);
}

// Tells of each dispatch of a recording that has run.
void report(ingot_driver_recording_t &r, const ingot_driver_submit_t &options, Event origin) {
  const Api &api = r.stream->device->api;
  uint32_t dispatch = 0;
  for (uint32_t i = 0; i < r.command_count; ++i) {
    const ingot_driver_recording_t::Command &c = r.commands[i];
    if (c.kind != c.dispatch) continue;
    float begin = 0, length = 0; // milliseconds
    api.EventElapsedTime(&begin, origin, r.events[2 * dispatch]);
    api.EventElapsedTime(&length, r.events[2 * dispatch], r.events[end_event(r, i, dispatch)]);
    ++dispatch;
    const uint64_t start = uint64_t(double(begin) * 1e6);
    const ingot_driver_timing_t timing = {c.kernel, c.site, r.stream->executable->kernels[c.kernel].version,
                                          {c.grid[0], c.grid[1], c.grid[2]}, start, start + uint64_t(double(length) * 1e6)};
    options.on_dispatch(options.user, &timing);
  }
}

} // namespace

void wait_idle(ingot_driver_stream_t &s) {
  if (!s.busy || s.device->lost.load(std::memory_order_relaxed)) return;
  const int result = s.done ? s.device->api.EventSynchronize(s.done) : s.device->api.StreamSynchronize(s.used);
  if (result != kSuccess) failed(*s.device, nullptr, result, "waiting");
}

void forget(ingot_driver_stream_t &s, uint64_t generation) {
  for (ingot_driver_stream_t::Kept &k : s.kept) {
    bool holds = false;
    for (uint32_t i = 0; i < k.count; ++i) holds = holds || k.generations[i] == generation;
    if (!holds) continue;
    if (k.exec) s.device->api.GraphExecDestroy(k.exec);
    k = {};
  }
}

Code stream_create(ingot_driver_device_t *device, ingot_driver_executable_t *executable, ingot_driver_stream_t **out, Error *error) {
  ingot_driver_device_t &d = *device;
  ingot_driver_stream_t *s = create_object<ingot_driver_stream_t>(d.allocator, "a stream", error);
  if (!s) return INGOT_OUT_OF_MEMORY;
  s->device = device;
  s->executable = executable;
  Current current(d);
  const auto fill = [&]() -> Code {
    INGOT_TRY(allocate(device, INGOT_MEMORY_READBACK, 256, &s->errors, error));
    memset(s->errors->host, 0, 256);
    INGOT_STREAM_TRY(d, d.api.StreamCreate(&s->own, kStreamNonBlocking), "making a stream");
    s->used = d.shared_stream ? d.application_stream : s->own;
    if (d.shared_stream) INGOT_STREAM_TRY(d, d.api.EventCreate(&s->done, kEventNoTiming), "making an event");
    return INGOT_OK;
  };
  if (const Code code = fill()) {
    destroy_object(d.allocator, s);
    return code;
  }
  *out = s;
  return INGOT_OK;
}

void stream_destroy(ingot_driver_stream_t *s) { destroy_object(s->device->allocator, s); }

Code submit(ingot_driver_stream_t *stream, ingot_driver_recording_t *const *recordings, uint32_t count, ingot_driver_submit_t *options, Error *error) {
  ingot_driver_stream_t &s = *stream;
  ingot_driver_device_t &d = *s.device;
  if (raised(options->cancel)) return fail(error, INGOT_CANCELLED, "the run was cancelled");
  if (d.lost.load(std::memory_order_relaxed)) return failed(d, error, 709, "submitting");
  Current current(d);
  const bool timed = options->on_dispatch != nullptr;
  s.busy = true;
  INGOT_TRY(send(s, recordings, count, timed, error));
  if (s.done) INGOT_STREAM_TRY(d, d.api.EventRecord(s.done, s.used), "recording an event");
  if (!timed) return INGOT_OK;
  INGOT_TRY(await(s, *options, error));
  Event origin = nullptr;
  for (uint32_t i = 0; i < count; ++i) {
    ingot_driver_recording_t &r = *recordings[i];
    if (!r.timed || !r.dispatch_count) continue;
    if (!origin) origin = r.events[0];
    report(r, *options, origin);
  }
  return INGOT_OK;
}

Code finish(ingot_driver_stream_t *stream, ingot_driver_submit_t *options, Error *error) {
  Current current(*stream->device);
  INGOT_TRY(await(*stream, *options, error));
  volatile uint32_t *const word = reinterpret_cast<volatile uint32_t *>(stream->errors->host);
  const uint32_t told = *word;
  *word = 0;
  return told ? gpu_kernel_error(told, options, error) : INGOT_OK;
}

} // namespace ingot::stream
