// Streams: a recording's packets are copied to the queue; the doorbell is rung while the rest is still being copied. Nothing is
// allocated.
#include "src/drivers/amdgpu/amdgpu.h"

using namespace ingot;
using namespace ingot::amdgpu;

ingot_driver_stream_t::~ingot_driver_stream_t() {
  if (done.handle) wait_idle(*this);
  if (queue) device->api.queue_destroy(queue);
  if (done.handle) device->api.signal_destroy(done);
  if (errors) release(device, errors);
}

namespace ingot::amdgpu {
namespace {

constexpr uint32_t kQueuePackets = 1024, kRingEvery = 32;

using Command = ingot_driver_recording_t::Command;

void ring(ingot_driver_stream_t &s) {
  if (s.rung == s.written) return;
  const Api &api = s.device->api;
  api.queue_store_write_index_screlease(s.queue, s.written);
  api.signal_store_screlease(s.queue->doorbell, int64_t(s.written - 1));
  s.rung = s.written;
}

// A copy that fails makes its signal negative, for which no packet ends.
void look_for_failed_copies(ingot_driver_stream_t &s) {
  for (const ingot_driver_recording_t *r = s.flying; r; r = r->next_flying)
    for (Signal signal : r->signals)
      if (s.device->api.signal_load_scacquire(signal) < 0) lose(*s.device, kError);
}

// Copies a packet into the queue, once there is room. Its first word hands it over.
Code put(ingot_driver_stream_t &s, const void *packet, Error *error) {
  const ingot_driver_device_t &d = *s.device;
  const std::atomic<uint32_t> never{0};
  while (s.written - d.api.queue_load_read_index_scacquire(s.queue) >= s.queue->size) {
    ring(s);
    look_for_failed_copies(s);
    if (d.lost.load(std::memory_order_acquire)) return lost(*s.device, error, "submitting");
    platform::wait_on(&never, 0, 20'000);
  }
  uint8_t *const slot = static_cast<uint8_t *>(s.queue->base) + (s.written & (s.queue->size - 1)) * 64;
  uint32_t first = 0;
  memcpy(&first, packet, 4);
  memcpy(slot + 4, static_cast<const uint8_t *>(packet) + 4, 60);
  __atomic_store_n(reinterpret_cast<uint32_t *>(slot), first, __ATOMIC_RELEASE);
  if (++s.written - s.rung >= kRingEvery) ring(s);
  return INGOT_OK;
}

// A packet that ends when all before it have, and `waits_for` is 0.
Code put_barrier(ingot_driver_stream_t &s, uint16_t fences, Signal waits_for, Signal completion, Error *error) {
  BarrierPacket packet = {};
  packet.header = uint16_t(kTypeBarrierAnd | kBarrierBit | fences);
  packet.waits_for[0] = waits_for;
  packet.completion = completion;
  return put(s, &packet, error);
}

// Counts all that was sent as one submission, under way until it has ended.
Code put_end(ingot_driver_stream_t &s, Error *error) {
  s.device->api.signal_add_relaxed(s.done, 1);
  const Code code = put_barrier(s, kReleaseSystem, {}, s.done, error);
  ring(s);
  return code;
}

// The copies of one level of a fill: `count` of at most `block` bytes, from the pattern, or from what the levels before filled.
struct Level {
  uint64_t begin, block, end, count;
};
// False where the levels before have filled all.
bool level_of(const Command &c, uint32_t level, Level *out) {
  uint64_t block = kPatternBytes;
  for (uint32_t i = 0; i < level; ++i) block *= kFillFactor;
  const uint64_t begin = level ? block : 0, reach = block * kFillFactor;
  if (begin >= c.length) return false;
  const uint64_t end = c.length < reach ? c.length : reach;
  *out = {begin, block, end, (end - begin + block - 1) / block};
  return true;
}

// Copies under way: where one cannot be begun, it and those after it count as ended, and `status` says why.
struct Copies {
  const Api &api;
  int status = kSuccess;
  void begin(const Command &c, uint8_t *target, const uint8_t *source, Agent source_agent, uint64_t length, Signal waits_for, Signal completion) {
    if (status == kSuccess) status = api.amd_memory_async_copy(target, c.target_agent, source, source_agent, size_t(length), 1, &waits_for, completion);
    if (status != kSuccess) api.signal_add_relaxed(completion, -1);
  }
};

// Commands [first, last), copies and fills that do not touch each other's bytes: group number `group` of its recording.
Code send_copies(ingot_driver_stream_t &s, ingot_driver_recording_t &r, uint32_t first, uint32_t last, uint32_t group, uint32_t *fill, Error *error) {
  const Api &api = s.device->api;
  const Signal before = r.signals[2 * group], after = r.signals[2 * group + 1];
  const Signal *const inner = r.signals.data() + (r.signals.size() - size_t(r.patterns ? r.patterns->size / kPatternBytes : 0) * (kFillLevels - 1));
  int64_t ends = 0; // of copies that nothing follows
  Level level;
  for (uint32_t i = first; i < last; ++i) {
    if (r.commands[i].kind == Command::copy) ++ends;
    else
      for (uint32_t l = 0; level_of(r.commands[i], l, &level); ++l)
        if (Level next; !level_of(r.commands[i], l + 1, &next)) ends += int64_t(level.count);
  }
  api.signal_store_relaxed(before, 1);
  api.signal_store_relaxed(after, ends);
  INGOT_TRY(put_barrier(s, kReleaseSystem, {}, before, error));
  ring(s);
  Copies copies{api};
  for (uint32_t i = first; i < last; ++i) {
    const Command &c = r.commands[i];
    if (c.kind == Command::copy) {
      copies.begin(c, c.target, c.source, c.source_agent, c.length, before, after);
      continue;
    }
    const Signal *const chain = inner + size_t((*fill)++) * (kFillLevels - 1);
    for (uint32_t l = 0; level_of(c, l, &level); ++l) {
      Level next;
      const bool ends_here = !level_of(c, l + 1, &next);
      const Signal completion = ends_here ? after : chain[l];
      if (!ends_here) api.signal_store_relaxed(completion, int64_t(level.count));
      for (uint64_t at = level.begin; at < level.end; at += level.block) {
        const uint64_t n = level.end - at < level.block ? level.end - at : level.block;
        copies.begin(c, c.target + at, l ? c.target : c.source, l ? c.target_agent : c.source_agent, n, l ? chain[l - 1] : before, completion);
      }
    }
  }
  INGOT_TRY(put_barrier(s, kAcquireSystem, after, {}, error));
  INGOT_HSA_TRY(*s.device, copies.status, "a copy or fill");
  return INGOT_OK;
}

Code send(ingot_driver_stream_t &s, ingot_driver_recording_t &r, bool timed, Error *error) {
  uint32_t group = 0, fill = 0;
  for (uint32_t i = 0; i < r.command_count;) {
    const Command &c = r.commands[i];
    if (c.kind == Command::dispatch) {
      DispatchPacket packet = r.packets[c.packet];
      if (timed) {
        packet.completion = r.times[c.packet];
        s.device->api.signal_store_relaxed(packet.completion, 1);
      }
      INGOT_TRY(put(s, &packet, error));
      ++i;
      continue;
    }
    uint32_t last = i + 1;
    while (last < r.command_count && !r.commands[last - 1].group_ends && r.commands[last].kind != Command::dispatch) ++last;
    INGOT_TRY(send_copies(s, r, i, last, group++, &fill, error));
    i = last;
  }
  return INGOT_OK;
}

void land(ingot_driver_stream_t &s) {
  while (ingot_driver_recording_t *const r = s.flying) {
    s.flying = r->next_flying;
    r->flying = false;
    r->next_flying = nullptr;
  }
}

// Waits for all that was submitted to the stream, unless the run is given up meanwhile.
Code await(ingot_driver_stream_t &s, const ingot_driver_submit_t &options, Error *error) {
  ingot_driver_device_t &d = *s.device;
  return await_work(
      options, d.now_ns,
      [&](bool rested) {
        if (rested) look_for_failed_copies(s);
        if (d.lost.load(std::memory_order_acquire)) return wait_idle(s), lost(d, error, "waiting for a run"), Work::failed;
        if (d.api.signal_load_scacquire(s.done) != 0) return Work::running;
        return land(s), Work::ended;
      },
      error);
}

// Tells of each dispatch of a recording that has run.
Code report(const ingot_driver_recording_t &r, const ingot_driver_submit_t &options, uint64_t origin, Error *error) {
  ingot_driver_device_t &d = *r.stream->device;
  const double ns = 1e9 / double(d.physical.frequency); // a tick
  for (uint32_t i = 0; i < r.command_count; ++i) {
    const Command &c = r.commands[i];
    if (c.kind != Command::dispatch) continue;
    DispatchTime t = {};
    INGOT_HSA_TRY(d, d.api.amd_profiling_get_dispatch_time(d.physical.agent, r.times[c.packet], &t), "reading a dispatch's time");
    const uint64_t start = t.start > origin ? uint64_t(double(t.start - origin) * ns) : 0; // neighbours begin in any order
    const ingot_driver_timing_t timing = {c.kernel, c.site, r.stream->executable->kernels[c.kernel].version,
                                          {c.grid[0], c.grid[1], c.grid[2]}, start, start + uint64_t(double(t.end - t.start) * ns)};
    options.on_dispatch(options.user, &timing);
  }
  return INGOT_OK;
}

// A device that is lost while its queues are being used tells it here, on a thread of the library's.
void on_queue_error(int status, Queue *, void *data) {
  ingot_driver_device_t &d = *static_cast<ingot_driver_device_t *>(data);
  lose(d, status);
}

} // namespace

void wait_idle(ingot_driver_stream_t &s) {
  ingot_driver_device_t &d = *s.device;
  while (!d.lost.load(std::memory_order_acquire)) {
    if (d.api.signal_wait_scacquire(s.done, kConditionLess, 1, d.physical.frequency / 50, kWaitBlocked) == 0) return land(s);
    look_for_failed_copies(s);
  }
  if (s.queue && !s.inactive) d.api.queue_inactivate(s.queue); // no packet looks at a signal any more
  s.inactive = true;
  // Copies that still wait for packets or for others begin now, or never will, while all that they touch is there.
  for (const ingot_driver_recording_t *r = s.flying; r; r = r->next_flying) {
    const size_t groups = r->commands.size() - r->packets.size();
    for (size_t i = 0; i < r->signals.size(); ++i)
      if (i >= 2 * groups || i % 2 == 0) d.api.signal_store_screlease(r->signals[i], 0);
    for (size_t i = 1; i < 2 * groups; i += 2) settle(d, r->signals[i]);
  }
  land(s);
}

Code stream_create(ingot_driver_device_t *device, ingot_driver_executable_t *executable, ingot_driver_stream_t **out, Error *error) {
  ingot_driver_device_t &d = *device;
  ingot_driver_stream_t *s = create_object<ingot_driver_stream_t>(d.allocator, "a stream", error);
  if (!s) return INGOT_OUT_OF_MEMORY;
  s->device = device;
  s->executable = executable;
  const auto fill = [&]() -> Code {
    INGOT_TRY(allocate(device, INGOT_MEMORY_READBACK, 256, &s->errors, error));
    memset(s->errors->host, 0, 256);
    INGOT_HSA_TRY(d, d.api.signal_create(0, 0, nullptr, &s->done), "making a signal");
    const uint32_t packets = d.physical.queue_packets < kQueuePackets ? d.physical.queue_packets : kQueuePackets;
    INGOT_HSA_TRY(d, d.api.queue_create(d.physical.agent, packets, kQueueSingle, on_queue_error, device, 0, 0, &s->queue), "making a queue");
    s->written = s->rung = d.api.queue_load_write_index_relaxed(s->queue);
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
  if (d.lost.load(std::memory_order_acquire)) return lost(d, error, "submitting");
  const bool timed = options->on_dispatch != nullptr;
  if (timed && !s.profiled) {
    INGOT_HSA_TRY(d, d.api.amd_profiling_set_profiler_enabled(s.queue, 1), "measuring times");
    s.profiled = true;
  }
  for (uint32_t i = 0; i < count; ++i) {
    ingot_driver_recording_t &r = *recordings[i];
    if (r.flying && (timed || r.signals.size())) { // its signals are still in use
      if (i) INGOT_TRY(put_end(s, error));
      INGOT_TRY(await(s, *options, error));
    }
    if (!r.flying) {
      r.flying = true;
      r.next_flying = s.flying;
      s.flying = &r;
    }
    if (const Code code = send(s, r, timed && r.timed, error)) {
      Error second = {}; // what was sent is waited for all the same
      if (put_end(s, &second) != INGOT_OK) wait_idle(s);
      return code;
    }
  }
  INGOT_TRY(put_end(s, error));
  if (!timed) return INGOT_OK;
  INGOT_TRY(await(s, *options, error));
  DispatchTime first = {};
  for (uint32_t i = 0; i < count; ++i) {
    ingot_driver_recording_t &r = *recordings[i];
    if (!r.timed || !r.dispatch_count) continue;
    if (!first.start) d.api.amd_profiling_get_dispatch_time(d.physical.agent, r.times[0], &first);
    INGOT_TRY(report(r, *options, first.start, error));
  }
  return INGOT_OK;
}

Code finish(ingot_driver_stream_t *stream, ingot_driver_submit_t *options, Error *error) {
  INGOT_TRY(await(*stream, *options, error));
  volatile uint32_t *const word = reinterpret_cast<volatile uint32_t *>(stream->errors->host);
  const uint32_t told = *word;
  *word = 0;
  return told ? gpu_kernel_error(told, options, error) : INGOT_OK;
}

} // namespace ingot::amdgpu
