// local-task: native kernels on several threads. A recording is cut into waves of independent commands
// (task_recording.h), whose workgroups the submitting thread and the device's workers share (task_pool.h).
// Waves that are too small to share run on the submitting thread, as on local-sync.
#include "src/drivers/local/fp_control.h"
#include "src/drivers/local/local_device.h"
#include "src/drivers/local/task_pool.h"
#include "src/drivers/local/task_recording.h"

using namespace ingot;
using namespace ingot::drivers;

namespace {

struct TaskDevice : LocalDevice {
  TaskPool *pool;
};
struct TaskExecutable : LocalExecutable {
  Array<uint32_t> first_access; // per kernel
  Array<uint8_t> access;        // of its bindings
};
struct TaskStream : LocalStream {
  // The error word that is reported: of the last command, and in it the last workgroups, that stored one. That
  // is what remains where one thread runs them in order.
  std::atomic<uint32_t> noting; // a lock of a few instructions
  uint64_t place, word;
  Hazards hazards;
};

TaskDevice &device_of(ingot_driver_device_t *d) { return static_cast<TaskDevice &>(*local_device(d)); }
TaskStream &stream_of(ingot_driver_stream_t *s) { return static_cast<TaskStream &>(*local_stream(s)); }
TaskRecording &recording_of(ingot_driver_recording_t *r) { return *reinterpret_cast<TaskRecording *>(r); }

// ---- device and code ----

Code open_device(const ingot_driver_host_t *h, const char *id, uint32_t ordinal, const char *options,
                 ingot_driver_device_t **out, Error *error) {
  LocalOptions parsed;
  INGOT_TRY(local_open("local-task", id, ordinal, options, kMaxThreads, &parsed, error));
  // A host that was built before executors were known passes a shorter struct.
  const ingot_executor_t *executor = h->struct_size >= sizeof *h ? h->executor : nullptr;
  uint32_t threads = platform::cpu_count();
  if (threads > kMaxThreads) threads = kMaxThreads;
  if (executor) {
    if (executor->concurrency == 0 || executor->concurrency >= kMaxThreads)
      return fail(error, INGOT_INVALID_ARGUMENT,
                  "local-task: an executor's concurrency is %u, expected 1 .. %u", executor->concurrency,
                  kMaxThreads - 1);
    threads = executor->concurrency + 1;
  }
  if (parsed.threads && (!executor || parsed.threads < threads)) threads = parsed.threads;
  TaskDevice *device = create_object<TaskDevice>(h->allocator, "a device", error);
  if (!device) return INGOT_OUT_OF_MEMORY;
  *device = {{h->allocator, parsed.features, h->now_ns, threads}, nullptr};
  if (const Code code = TaskPool::create(h->allocator, threads, executor, h->now_ns, &device->pool, error)) {
    destroy_object(h->allocator, device);
    return code;
  }
  *out = reinterpret_cast<ingot_driver_device_t *>(static_cast<LocalDevice *>(device));
  return INGOT_OK;
}

void close_device(ingot_driver_device_t *d) {
  TaskDevice &device = device_of(d);
  device.pool->close();
  destroy_object(device.allocator, &device);
}

Code fill_executable(TaskDevice &device, const ingot_driver_code_t &code, TaskExecutable *e, Error *error) {
  INGOT_TRY(local_load(device, code, e, error));
  INGOT_TRY(device.pool->reserve_scratch(e->code.scratch_bytes(), error));
  size_t bindings = 0;
  for (uint32_t i = 0; i < code.kernel_count; ++i) bindings += code.kernels[i].binding_count;
  INGOT_TRY(e->first_access.create(device.allocator, code.kernel_count, "kernels", error));
  INGOT_TRY(e->access.create(device.allocator, bindings, "kernels", error));
  uint32_t next = 0;
  for (uint32_t i = 0; i < code.kernel_count; ++i) {
    const ingot_driver_kernel_t &k = code.kernels[i];
    e->first_access[i] = next;
    if (k.binding_count) memcpy(e->access.data() + next, k.binding_access, k.binding_count);
    next += k.binding_count;
  }
  return INGOT_OK;
}

Code load(ingot_driver_device_t *d, const ingot_driver_code_t *code, ingot_driver_executable_t **out,
          Error *error) {
  TaskDevice &device = device_of(d);
  TaskExecutable *e = create_object<TaskExecutable>(device.allocator, "an executable", error);
  if (!e) return INGOT_OUT_OF_MEMORY;
  if (const Code result = fill_executable(device, *code, e, error)) {
    destroy_object(device.allocator, e);
    return result;
  }
  *out = reinterpret_cast<ingot_driver_executable_t *>(static_cast<LocalExecutable *>(e));
  return INGOT_OK;
}

TaskExecutable &executable_of(const LocalStream &stream) {
  return static_cast<TaskExecutable &>(*stream.executable);
}

void unload(ingot_driver_executable_t *handle) {
  TaskExecutable *e = static_cast<TaskExecutable *>(reinterpret_cast<LocalExecutable *>(handle));
  destroy_object(e->device->allocator, e);
}

// ---- streams and recordings ----

Code stream_create(ingot_driver_device_t *d, ingot_driver_executable_t *e, ingot_driver_stream_t **out,
                   Error *error) {
  TaskDevice &device = device_of(d);
  TaskStream *stream = create_object<TaskStream>(device.allocator, "a stream", error);
  if (!stream) return INGOT_OUT_OF_MEMORY;
  if (const Code result = local_stream_init(device, e, stream, error)) {
    destroy_object(device.allocator, stream);
    return result;
  }
  *out = reinterpret_cast<ingot_driver_stream_t *>(static_cast<LocalStream *>(stream));
  return INGOT_OK;
}

void stream_destroy(ingot_driver_stream_t *s) {
  TaskStream &stream = stream_of(s);
  local_stream_release_scratch(stream);
  destroy_object(stream.device->allocator, &stream);
}

Code recording_create(ingot_driver_stream_t *s, const ingot_driver_recording_size_t *size,
                      ingot_driver_recording_t **out, Error *error) {
  TaskStream &stream = stream_of(s);
  INGOT_TRY(stream.hazards.reserve(stream.device->allocator, TaskRecording::accesses(*size), error));
  return TaskRecording::create(stream.device->allocator, s, *size, stream.device->threads, &stream.hazards,
                               reinterpret_cast<TaskRecording **>(out), error);
}
void recording_destroy(ingot_driver_recording_t *r) { TaskRecording::destroy(&recording_of(r)); }
void recording_begin(ingot_driver_recording_t *r, bool) { recording_of(r).begin(); }
void record_dispatch(ingot_driver_recording_t *r, const ingot_driver_dispatch_t *d) {
  TaskRecording &recording = recording_of(r);
  TaskStream &stream = stream_of(recording.host().stream);
  const TaskExecutable &e = executable_of(stream);
  recording.add(local_record_dispatch(recording.host(), stream, *d), *d,
                e.access.begin() + e.first_access[d->kernel]);
}
void record_copy(ingot_driver_recording_t *r, const ingot_driver_span_t *target,
                 const ingot_driver_span_t *source) {
  recording_of(r).add_copy(*target, *source);
}
void record_fill(ingot_driver_recording_t *r, const ingot_driver_span_t *target, uint64_t pattern,
                 uint32_t bytes) {
  recording_of(r).add_fill(*target, pattern, bytes);
}
void record_barrier(ingot_driver_recording_t *) {} // hazards say more
Code recording_end(ingot_driver_recording_t *r, Error *) {
  recording_of(r).end();
  return INGOT_OK;
}

// ---- submission ----

// Called by any thread that runs a part of this stream's work.
__attribute__((noinline, cold)) void note_error(TaskStream &stream, const TaskCommand &c, uint32_t unit,
                                                uint64_t word) {
  const uint64_t place = uint64_t(c.order) << 32 | unit;
  while (stream.noting.exchange(1, std::memory_order_acquire)) {
  }
  if (stream.word == 0 || place >= stream.place) {
    stream.place = place;
    stream.word = word;
  }
  stream.noting.store(0, std::memory_order_release);
}

// One submission: walks the waves, alone or with the pool.
class alignas(64) Submission {
 public:
  Submission(TaskStream &stream, const TaskRecording &recording, const ingot_driver_submit_t &submit)
      : stream_(stream),
        device_(static_cast<TaskDevice &>(*stream.device)),
        recording_(recording),
        submit_(submit) {}
  ~Submission() {
    if (run_) device_.pool->leave(run_);
  }

  Code run() {
    for (const Wave *w = recording_.begin_waves(); w != recording_.end_waves(); ++w) {
      Code code;
      if (INGOT_UNLIKELY(submit_.on_dispatch != nullptr))
        code = profile(*w);
      else if (w->parties > 1 && enter())
        code = share(*w, w->units, 0, w->parties, recording_.cuts(*w));
      else
        code = alone(*w);
      if (INGOT_UNLIKELY(code != INGOT_OK)) return code;
    }
    return INGOT_OK;
  }

 private:
  struct alignas(64) WaveJob : Job { // workers read it: no line of the stack that changes meanwhile
    Submission *submission;
    const Wave *wave;
    uint32_t first_unit;            // of the wave, that is unit 0 of the job
    mutable std::atomic<Code> stop; // why chunks are not run any more
  };

  bool enter() {
    if (!run_) run_ = device_.pool->enter();
    return run_ != nullptr;
  }

  Code alone(const Wave &wave) {
    for (uint32_t i = wave.first; i < wave.first + wave.count; ++i) {
      const TaskCommand &c = recording_.command(i);
      if (INGOT_LIKELY(c.units == 1 && c.command->op == HostOp::dispatch)) { // as on local-sync
        INGOT_TRY(local_interrupted(device_, submit_));
        const HostDispatch &d = static_cast<const HostDispatch &>(*c.command);
        d.function(&d.args);
        if (const uint64_t word = *const_cast<volatile uint64_t *>(&stream_.error); INGOT_UNLIKELY(word != 0)) {
          note_error(stream_, c, 0, word);
          stream_.error = 0;
        }
        continue;
      }
      for (uint32_t unit = 0; unit < c.units; ++unit) {
        INGOT_TRY(local_interrupted(device_, submit_));
        if (const uint64_t word = run_units(c, unit, unit + 1, stream_.scratch))
          note_error(stream_, c, unit, word);
      }
    }
    return INGOT_OK;
  }

  // Units [first, first + units) of the wave, together with the pool.
  Code share(const Wave &wave, uint32_t units, uint32_t first, uint32_t parties, const uint16_t *cuts) {
    WaveJob job;
    job.run = run_chunk;
    job.units = units;
    job.parties = parties;
    job.cuts = cuts;
    job.rouse = wave.spread_ns >= kRouseNs;
    job.submission = this;
    job.wave = &wave;
    job.first_unit = first;
    job.stop.store(INGOT_OK, std::memory_order_relaxed);
    device_.pool->run(*run_, job, stream_.scratch);
    return job.stop.load(std::memory_order_relaxed);
  }

  static void run_chunk(const Job &base, uint32_t begin, uint32_t end, uint8_t *scratch) {
    const WaveJob &job = static_cast<const WaveJob &>(base);
    const Submission &s = *job.submission;
    if (INGOT_UNLIKELY(job.stop.load(std::memory_order_relaxed) != INGOT_OK)) return;
    if (const Code code = local_interrupted(s.device_, s.submit_); INGOT_UNLIKELY(code != INGOT_OK)) {
      job.stop.store(code, std::memory_order_relaxed);
      return;
    }
    begin += job.first_unit;
    end += job.first_unit;
    uint32_t low = job.wave->first,
             high = low + job.wave->count; // the last command that starts at or before `begin`
    while (high - low > 1) {
      const uint32_t middle = low + (high - low) / 2;
      if (s.recording_.command(middle).first_unit <= begin)
        low = middle;
      else
        high = middle;
    }
    for (uint32_t i = low; begin < end; ++i) {
      const TaskCommand &c = s.recording_.command(i);
      const uint32_t from = begin - c.first_unit,
                     to = end - c.first_unit < c.units ? end - c.first_unit : c.units;
      if (const uint64_t word = run_units(c, from, to, scratch)) note_error(s.stream_, c, from, word);
      begin = c.first_unit + to;
    }
  }

  // Each command by itself, on as many threads as it would be, and timed as a whole.
  __attribute__((noinline, cold)) Code profile(const Wave &wave) {
    Code code = INGOT_OK;
    for (uint32_t i = wave.first; i < wave.first + wave.count && code == INGOT_OK; ++i) {
      struct Timed {
        Submission *self;
        Wave wave;
        Code code;
      } timed = {this, wave, INGOT_OK};
      timed.wave.first = i;
      timed.wave.count = 1;
      const auto run = [](void *argument) {
        Timed &t = *static_cast<Timed *>(argument);
        t.code = t.self->by_itself(t.wave);
      };
      const HostCommand &c = *recording_.command(i).command;
      if (c.op == HostOp::dispatch)
        local_timed(device_, static_cast<const HostDispatch &>(c), submit_, run, &timed);
      else
        run(&timed);
      code = timed.code;
    }
    return code;
  }
  Code by_itself(const Wave &wave) {
    const TaskCommand &c = recording_.command(wave.first);
    const uint32_t parties = c.units < wave.parties ? c.units : wave.parties;
    if (parties < 2 || !enter()) return alone(wave);
    uint16_t cuts[kMaxThreads + 1];
    for (uint32_t p = 0; p <= parties; ++p) cuts[p] = uint16_t(uint64_t(c.units) * p / parties);
    return share(wave, c.units, c.first_unit, parties, cuts);
  }

  TaskStream &stream_;
  TaskDevice &device_;
  const TaskRecording &recording_;
  const ingot_driver_submit_t &submit_;
  TaskPool::Run *run_ = nullptr;
};

Code submit(ingot_driver_stream_t *driver_stream, ingot_driver_recording_t *const *recordings, uint32_t count,
            ingot_driver_submit_t *s, Error *error) {
  TaskStream &stream = stream_of(driver_stream);
  const FpControl control;
  stream.error = stream.word = 0;
  for (uint32_t i = 0; i < count; ++i)
    if (const Code stop = Submission(stream, recording_of(recordings[i]), *s).run()) return local_stopped(stop, error);
  return INGOT_LIKELY(stream.word == 0) ? INGOT_OK : local_kernel_error(stream.word, s, error);
}

} // namespace

extern "C" {
extern const ingot_driver_t ingot_driver_local_task;
const ingot_driver_t ingot_driver_local_task = {
    sizeof(ingot_driver_t),
    INGOT_DRIVER_ABI,
    "local-task",
    "native kernels on several threads",
    /*host_memory=*/true,
    /*automatic=*/true,
    /*priority=*/20,
    /*probe=*/nullptr,
    local_enumerate,
    open_device,
    close_device,
    local_describe,
    local_supports,
    load,
    unload,
    local_kernel_version,
    /*properties=*/nullptr,
    /*allocate=*/nullptr,
    /*release=*/nullptr,
    /*map=*/nullptr,
    /*unmap=*/nullptr,
    /*write=*/nullptr,
    /*read=*/nullptr,
    /*import=*/nullptr,
    stream_create,
    stream_destroy,
    recording_create,
    recording_destroy,
    recording_begin,
    record_dispatch,
    record_copy,
    record_fill,
    record_barrier,
    recording_end,
    submit,
    /*finish=*/nullptr,
};
}
