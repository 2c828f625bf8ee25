// A driver outside Ingot's tree: <ingot/driver.h> filled in for an imitated card (card.h) that runs the native kernels of
// target llvm-cpu. docs/adding-a-driver.md walks through this file.
//
// The contract's handles are structs of this driver's own. The runtime checks arguments, so nothing is checked twice here;
// what can go wrong (memory, a lost card) is told through the error.
#define INGOT_DRIVER_PREFIX example // names of its own for the structs below
#include <ingot/driver.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "card.h"
#include "image.h"
#include "schemas/cpu_abi.h"

struct ingot_driver_device_t {
  explicit ingot_driver_device_t(uint64_t lost_after) : card(lost_after) {}
  card::Card card;
  uint64_t (*now_ns)(void) = nullptr;
  uint64_t features = 0;
};

struct ingot_driver_memory_t : card::Memory {
  using Memory::Memory;
};

struct ingot_driver_executable_t {
  struct Kernel {
    void (*function)(const IngotCpuArgs *) = nullptr;
    uint32_t version = INGOT_NONE;
  };
  std::vector<std::unique_ptr<card::Image>> images;
  std::vector<Kernel> kernels;
  uint64_t scratch_bytes = 0;
};

struct ingot_driver_stream_t {
  ingot_driver_device_t *device = nullptr;
  ingot_driver_executable_t *executable = nullptr;
  uint64_t last = 0;  // number of the last submission
  uint64_t error = 0; // the error word; the card stores to it
  std::unique_ptr<card::Memory> scratch;
};

struct ingot_driver_recording_t {
  struct Command {
    enum { dispatch, copy, fill } what;
    uint32_t kernel, site, grid[3];
    std::vector<uint64_t> arguments; // of a dispatch: addresses of its bindings, then its parameters
    uint8_t *target;
    const uint8_t *source;
    uint64_t length, pattern;
    uint32_t pattern_bytes;
  };
  ingot_driver_stream_t *stream = nullptr;
  std::vector<Command> commands;
  uint64_t last = 0; // number of the last submission that it was part of
};

namespace {

ingot_code_t fail(ingot_error_t *error, ingot_code_t code, const char *format, ...) __attribute__((format(printf, 3, 4)));
ingot_code_t fail(ingot_error_t *error, ingot_code_t code, const char *format, ...) {
  error->code = code;
  va_list list;
  va_start(list, format);
  vsnprintf(error->message, sizeof error->message, format, list);
  va_end(list);
  return code;
}

ingot_code_t lost(ingot_error_t *error) { return fail(error, INGOT_DEVICE_LOST, "example: the card was lost; open it again"); }

// ---- devices

ingot_code_t enumerate(const ingot_driver_host_t *, void (*visit)(void *, const char *, const char *), void *user, ingot_error_t *) {
  visit(user, "0", "an imitated card");
  return INGOT_OK;
}

// The one option: lose=N, the card is lost at its N-th submission (for tests of what an application does then).
ingot_code_t open_device(const ingot_driver_host_t *host, const char *id, uint32_t ordinal, const char *options,
                         ingot_driver_device_t **out, ingot_error_t *error) {
  if ((id && strcmp(id, "0") != 0) || ordinal != 0) return fail(error, INGOT_NOT_FOUND, "example: the only device is example:0");
  unsigned long long lose = 0;
  char rest = 0;
  if (*options && (sscanf(options, "lose=%llu%c", &lose, &rest) != 1 || lose == 0))
    return fail(error, INGOT_INVALID_ARGUMENT, "example: unknown option '%.60s': known is lose=N", options);
  ingot_driver_device_t *d = new (std::nothrow) ingot_driver_device_t(lose);
  if (!d) return fail(error, INGOT_OUT_OF_MEMORY, "example: out of memory");
  d->now_ns = host->now_ns;
#if defined(__x86_64__)
  d->features = INGOT_CPU_X86_64_V2;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) d->features |= INGOT_CPU_X86_64_V3;
#endif
  *out = d;
  return INGOT_OK;
}

void close_device(ingot_driver_device_t *d) { delete d; }

ingot_code_t describe(ingot_driver_device_t *, void (*visit)(void *, const char *, const char *), void *user, ingot_error_t *) {
  visit(user, "name", "an imitated card");
  visit(user, "memory", "discrete");
  return INGOT_OK;
}

// ---- code

// The highest version that the card's processor runs.
uint32_t pick_version(const ingot_driver_device_t &d, const ingot_driver_kernel_t &k) {
  uint32_t best = INGOT_NONE;
  for (uint32_t v = 0; v < k.version_count; ++v)
    if ((k.versions[v].feature_mask & ~d.features) == 0 && (best == INGOT_NONE || k.versions[v].rank > k.versions[best].rank)) best = v;
  return best;
}

ingot_code_t supports(ingot_driver_device_t *d, const ingot_driver_code_t *code, ingot_error_t *error) {
#if defined(__x86_64__)
  const char *const arch = "x86_64";
#else
  const char *const arch = "aarch64";
#endif
  if (strcmp(code->target, "llvm-cpu") != 0 || strcmp(code->arch, arch) != 0)
    return fail(error, INGOT_INCOMPATIBLE, "the variant is for %.40s %.40s, this card runs llvm-cpu %s", code->target, code->arch, arch);
  for (uint32_t i = 0; i < code->kernel_count; ++i)
    if (pick_version(*d, code->kernels[i]) == INGOT_NONE)
      return fail(error, INGOT_INCOMPATIBLE, "kernel '%.80s' has no version for this card", code->kernels[i].name);
  return INGOT_OK;
}

ingot_code_t load(ingot_driver_device_t *d, const ingot_driver_code_t *code, ingot_driver_executable_t **out, ingot_error_t *error) {
  std::unique_ptr<ingot_driver_executable_t> e(new (std::nothrow) ingot_driver_executable_t);
  if (!e) return fail(error, INGOT_OUT_OF_MEMORY, "example: out of memory");
  for (uint32_t i = 0; i < code->image_count; ++i) {
    e->images.push_back(std::make_unique<card::Image>());
    if (const char *wrong = e->images.back()->load(code->images[i].data, code->images[i].size))
      return fail(error, INGOT_CORRUPT, "example: image %u: %s", i, wrong);
  }
  for (uint32_t i = 0; i < code->kernel_count; ++i) {
    const uint32_t version = pick_version(*d, code->kernels[i]);
    const ingot_driver_code_version_t &v = code->kernels[i].versions[version];
    const void *entry = e->images[v.image]->at(v.symbol_offset);
    if (!entry) return fail(error, INGOT_CORRUPT, "example: kernel '%.80s' starts outside its image", code->kernels[i].name);
    ingot_driver_executable_t::Kernel kernel;
    memcpy(&kernel.function, &entry, sizeof entry);
    kernel.version = version;
    e->kernels.push_back(kernel);
    if (v.scratch_bytes > e->scratch_bytes) e->scratch_bytes = v.scratch_bytes;
  }
  *out = e.release();
  return INGOT_OK;
}

void unload(ingot_driver_executable_t *e) { delete e; }

uint32_t kernel_version(const ingot_driver_executable_t *e, uint32_t kernel) { return e->kernels[kernel].version; }

// ---- memory

void properties(ingot_driver_device_t *, ingot_driver_properties_t *out) {
  out->unified_memory = false;
  out->binding_alignment = 64;
  out->max_allocation = uint64_t(1) << 34;
}

ingot_code_t allocate(ingot_driver_device_t *, ingot_driver_memory_kind_t, uint64_t size, ingot_driver_memory_t **out, ingot_error_t *error) {
  std::unique_ptr<ingot_driver_memory_t> m(new (std::nothrow) ingot_driver_memory_t(size));
  if (!m || !m->bytes) return fail(error, INGOT_OUT_OF_MEMORY, "example: the card has no %llu bytes left", (unsigned long long)size);
  *out = m.release();
  return INGOT_OK;
}

void release(ingot_driver_device_t *, ingot_driver_memory_t *m) { delete m; }

// Of the kinds UPLOAD and READBACK only: the runtime maps no other, as the memory is not unified.
ingot_code_t map(ingot_driver_device_t *, ingot_driver_memory_t *m, void **out, ingot_error_t *) {
  *out = m->bytes;
  return INGOT_OK;
}
void unmap(ingot_driver_device_t *, ingot_driver_memory_t *) {}

// Transfers take their turn in the queue, as they would on a card.
ingot_code_t transfer(ingot_driver_device_t *d, void *to, const void *from, size_t length, ingot_error_t *error) {
  const uint64_t number = d->card.submit([=] { memcpy(to, from, length); });
  return number && d->card.wait(number, UINT64_MAX / 4) == card::Card::Outcome::done ? INGOT_OK : lost(error);
}
ingot_code_t write(ingot_driver_device_t *d, ingot_driver_memory_t *m, uint64_t offset, const void *data, size_t length, ingot_error_t *error) {
  return transfer(d, m->bytes + offset, data, length, error);
}
ingot_code_t read(ingot_driver_device_t *d, ingot_driver_memory_t *m, uint64_t offset, void *data, size_t length, ingot_error_t *error) {
  return transfer(d, data, m->bytes + offset, length, error);
}

// ---- recordings

ingot_code_t stream_create(ingot_driver_device_t *d, ingot_driver_executable_t *e, ingot_driver_stream_t **out, ingot_error_t *error) {
  std::unique_ptr<ingot_driver_stream_t> s(new (std::nothrow) ingot_driver_stream_t);
  if (s) s->scratch.reset(new (std::nothrow) card::Memory(e->scratch_bytes + 64));
  if (!s || !s->scratch || !s->scratch->bytes) return fail(error, INGOT_OUT_OF_MEMORY, "example: out of memory");
  s->device = d;
  s->executable = e;
  *out = s.release();
  return INGOT_OK;
}

// What was submitted may still be running.
void await(ingot_driver_stream_t &s, uint64_t number) {
  if (number) s.device->card.wait(number, UINT64_MAX / 4);
}

void stream_destroy(ingot_driver_stream_t *s) {
  await(*s, s->last);
  delete s;
}

ingot_code_t recording_create(ingot_driver_stream_t *s, const ingot_driver_recording_size_t *size, ingot_driver_recording_t **out,
                              ingot_error_t *error) {
  ingot_driver_recording_t *r = new (std::nothrow) ingot_driver_recording_t;
  if (!r) return fail(error, INGOT_OUT_OF_MEMORY, "example: out of memory");
  r->stream = s;
  r->commands.reserve(size->dispatches + size->copies + size->fills);
  *out = r;
  return INGOT_OK;
}

void recording_destroy(ingot_driver_recording_t *r) {
  await(*r->stream, r->last);
  delete r;
}

void recording_begin(ingot_driver_recording_t *r, bool) { r->commands.clear(); }

uint8_t *address(const ingot_driver_span_t &span) { return span.memory ? span.memory->bytes + span.offset : nullptr; }

void record_dispatch(ingot_driver_recording_t *r, const ingot_driver_dispatch_t *d) {
  ingot_driver_recording_t::Command c = {};
  c.what = c.dispatch;
  c.kernel = d->kernel;
  c.site = d->site;
  memcpy(c.grid, d->grid, sizeof c.grid);
  for (uint32_t i = 0; i < d->binding_count; ++i) c.arguments.push_back(uintptr_t(address(d->bindings[i])));
  for (uint32_t i = 0; i < d->param_count; ++i) c.arguments.push_back(uint64_t(d->params[i]));
  r->commands.push_back(std::move(c));
}

void record_copy(ingot_driver_recording_t *r, const ingot_driver_span_t *target, const ingot_driver_span_t *source) {
  ingot_driver_recording_t::Command c = {};
  c.what = c.copy;
  c.target = address(*target);
  c.source = address(*source);
  c.length = target->length;
  r->commands.push_back(std::move(c));
}

void record_fill(ingot_driver_recording_t *r, const ingot_driver_span_t *target, uint64_t pattern, uint32_t pattern_bytes) {
  ingot_driver_recording_t::Command c = {};
  c.what = c.fill;
  c.target = address(*target);
  c.length = target->length;
  c.pattern = pattern;
  c.pattern_bytes = pattern_bytes;
  r->commands.push_back(std::move(c));
}

void record_barrier(ingot_driver_recording_t *) {} // the card runs commands in order

ingot_code_t recording_end(ingot_driver_recording_t *, ingot_error_t *) { return INGOT_OK; }

// On the card's thread.
void run_dispatch(ingot_driver_stream_t &s, const ingot_driver_recording_t::Command &c) {
  alignas(8) uint8_t block[INGOT_CPU_ARGS_HEADER + 8 * 160];
  IngotCpuArgs args = {};
  args.group_end = c.grid[0] * c.grid[1] * c.grid[2];
  memcpy(args.grid, c.grid, sizeof c.grid);
  args.error = uintptr_t(&s.error);
  args.scratch = uintptr_t(s.scratch->bytes);
  memcpy(block, &args, INGOT_CPU_ARGS_HEADER);
  memcpy(block + INGOT_CPU_ARGS_HEADER, c.arguments.data(), 8 * c.arguments.size());
  s.executable->kernels[c.kernel].function(reinterpret_cast<const IngotCpuArgs *>(block));
}

void run(const ingot_driver_recording_t &r, std::vector<ingot_driver_timing_t> *timings) {
  for (const ingot_driver_recording_t::Command &c : r.commands) {
    const uint64_t start = timings ? r.stream->device->now_ns() : 0;
    if (c.what == c.dispatch) run_dispatch(*r.stream, c);
    if (c.what == c.copy) memcpy(c.target, c.source, size_t(c.length));
    if (c.what == c.fill)
      for (uint64_t i = 0; i < c.length; ++i) c.target[i] = uint8_t(c.pattern >> (8 * (i % c.pattern_bytes)));
    if (timings && c.what == c.dispatch)
      timings->push_back({c.kernel, c.site, r.stream->executable->kernels[c.kernel].version, {c.grid[0], c.grid[1], c.grid[2]},
                          start, r.stream->device->now_ns()});
  }
}

// Waits for all that was submitted to the stream, unless the run is given up meanwhile.
ingot_code_t wait_or_give_up(ingot_driver_stream_t *s, const ingot_driver_submit_t *options, ingot_error_t *error) {
  for (;;) {
    const card::Card::Outcome outcome = s->device->card.wait(s->last, 1000000);
    if (outcome == card::Card::Outcome::lost) return lost(error);
    if (outcome == card::Card::Outcome::done) return INGOT_OK;
    if (__atomic_load_n(options->cancel, __ATOMIC_RELAXED)) return fail(error, INGOT_CANCELLED, "the run was cancelled");
    if (options->deadline_ns && s->device->now_ns() > options->deadline_ns)
      return fail(error, INGOT_DEADLINE_EXCEEDED, "the run exceeded its deadline");
  }
}

// Timed submissions are waited for. The card notes the times in memory that it shares: a run that is given up goes on.
ingot_code_t submit(ingot_driver_stream_t *s, ingot_driver_recording_t *const *recordings, uint32_t count,
                    ingot_driver_submit_t *options, ingot_error_t *error) {
  std::vector<ingot_driver_recording_t *> list(recordings, recordings + count);
  const auto timings = options->on_dispatch ? std::make_shared<std::vector<ingot_driver_timing_t>>() : nullptr;
  s->last = s->device->card.submit([list, timings] {
    for (const ingot_driver_recording_t *r : list) run(*r, timings.get());
  });
  for (ingot_driver_recording_t *r : list) r->last = s->last;
  if (s->last == 0) return lost(error);
  if (!timings) return INGOT_OK;
  if (const ingot_code_t code = wait_or_give_up(s, options, error)) return code;
  for (const ingot_driver_timing_t &t : *timings) options->on_dispatch(options->user, &t);
  return INGOT_OK;
}

ingot_code_t finish(ingot_driver_stream_t *s, ingot_driver_submit_t *options, ingot_error_t *error) {
  if (const ingot_code_t code = wait_or_give_up(s, options, error)) return code;
  const uint64_t word = s->error;
  s->error = 0;
  if (word == 0) return INGOT_OK;
  options->kernel_error = word;
  return fail(error, INGOT_KERNEL_ERROR, "a kernel reported error %u", unsigned(word));
}

} // namespace

extern "C" const ingot_driver_t ingot_driver_example;
const ingot_driver_t ingot_driver_example = {
    sizeof(ingot_driver_t),
    INGOT_DRIVER_ABI,
    "example",
    "native kernels on an imitated card",
    /*host_memory=*/false,
    /*automatic=*/false,
    /*priority=*/0,
    /*probe=*/nullptr,
    enumerate,
    open_device,
    close_device,
    describe,
    supports,
    load,
    unload,
    kernel_version,
    properties,
    allocate,
    release,
    map,
    unmap,
    write,
    read,
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
    finish,
};
