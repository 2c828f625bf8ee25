// Objects of the drivers cuda and hip: one code over a table of functions (api.h), found by dlopen.
//
//   memory      an allocation on the device, from its pool where it has one, or pinned memory of the host that the device sees
//   executable  modules of kernels: machine code as it is; PTX is compiled for the device once, at load, or comes out of the cache folder
//   stream      a stream of the library's, an error word, and graphs of what was submitted more than once
//   recording   a list of commands, issued to the stream one by one, or captured from it into a graph
//
// A device works in its primary context, which the application's runtime libraries share; each entry makes it current and
// then restores what was.
#pragma once

#define INGOT_DRIVER_PREFIX ingot_stream_driver
#include <ingot/driver.h>

#include "schemas/gpu_abi.h"
#include "src/drivers/common/device.h"
#include "src/drivers/stream/api.h"
#include "src/runtime/platform/mutex.h"

namespace ingot::stream {

constexpr uint32_t kMaxBindings = 64;  // of the archive format
constexpr uint32_t kMaxArguments = 192; // of a kernel: bindings, params, error word, tensor maps
constexpr uint32_t kMapArgument = sizeof(TensorMap) / 8; // words
constexpr uint32_t kFolder = 480;       // bytes of a folder's name
constexpr uint64_t kStagingBytes = 16 << 20;

// What is known of a device before it is opened.
struct Physical {
  int handle = -1;
  char id[33] = {}; // its UUID in hexadecimal
  char name[128] = {};
  int capability = 0; // major * 10 + minor
  char architecture[32] = {}; // "sm_90", "gfx942"
  int max_threads = 0, max_block[3] = {}, max_grid[3] = {}, warp_size = 0, shared_bytes = 0, multiprocessors = 0;
  int large_shared_bytes = 0; // the most that a launch may ask for
  uint64_t memory_bytes = 0;
  bool tensor_maps = false; // the library makes them
};

struct CacheCounts {
  uint64_t taken = 0, refused = 0, written = 0, not_written = 0; // under cache_mutex
};

} // namespace ingot::stream

struct ingot_driver_device_t {
  ~ingot_driver_device_t();
  const ingot::stream::Vendor *vendor = nullptr;
  ingot::stream::Api api;
  ingot_allocator_t allocator = {};
  uint64_t (*now_ns)(void) = nullptr;
  ingot::stream::Physical physical;
  int driver_version = 0;
  ingot::stream::Context context = nullptr;
  bool retained = false;                           // the primary context is held; else it is the application's
  bool shared_stream = false;                      // everything is submitted to the application's stream
  ingot::stream::Stream application_stream = nullptr;
  bool dependent = true;                           // kernels that can wait for the one before them are started early
  int64_t pool_bytes = -1;                         // the most that the pool keeps; 0: no pool; -1: the vendor's share
  ingot::stream::Pool pool = nullptr;              // of all memory on the device, if not null
  ingot::stream::Stream pool_stream = nullptr;     // allocations and frees alone
  std::atomic<bool> lost{false};
  std::atomic<uint64_t> generations{0};            // of recordings
  char cache_folder[ingot::stream::kFolder] = {};  // or empty
  ingot::platform::Mutex cache_mutex;
  ingot::stream::CacheCounts cache_counts;
  // Of write and read: bounded, one transfer at a time.
  ingot::platform::Mutex transfer_mutex;
  ingot::stream::Stream transfer_stream = nullptr;
  ingot_driver_memory_t *staging = nullptr;
  ingot::stream::Event staged[2] = {};             // the half of `staging` is free again
};

struct ingot_driver_memory_t {
  ingot::stream::Address address = 0;
  uint8_t *host = nullptr; // pinned memory of the host
  uint64_t size = 0;
  enum Owner : uint8_t { own, registered, application } owner = own;
};

struct ingot_driver_executable_t {
  struct Kernel {
    ingot::stream::Function function = nullptr;
    uint32_t local_size[3] = {};
    uint32_t shared_bytes = 0; // asked for at each launch
    uint32_t bindings = 0, params = 0, version = INGOT_NONE, module = 0;
    uint32_t first_map = 0, maps = 0; // of `tensor_maps`: its last arguments
    bool errors = false;    // the last argument before them is the error word's address
    bool dependent = false; // may start while the kernel before it ends (programmatic dependent launch)
  };
  ~ingot_driver_executable_t();
  ingot_driver_device_t *device = nullptr;
  ingot::Array<ingot::stream::Module> modules; // one for each kernel that is machine code, and the last for all that are text
  ingot::Array<Kernel> kernels;
  ingot::Array<ingot_tensor_map_t> tensor_maps;
  uint32_t most_maps = 0; // of a kernel
};

struct ingot_driver_recording_t {
  ~ingot_driver_recording_t();
  struct Command {
    enum Kind : uint32_t { dispatch, copy, fill } kind;
    uint32_t kernel, site, grid[3];
    uint32_t first_argument, argument_count; // words; those of tensor maps follow
    ingot::stream::Address target, source;
    uint64_t length;
    uint32_t pattern_bytes;
    uint32_t pattern; // its place in `patterns`, where it is more than a value of the library's fills
    uint64_t value;
  };
  ingot_driver_stream_t *stream = nullptr;
  ingot::Array<Command> commands;
  ingot::Array<uint64_t> arguments; // of all dispatches
  ingot::Array<ingot::stream::Event> events; // timed: a pair a dispatch
  uint32_t command_count = 0, argument_count = 0, dispatch_count = 0, fill_count = 0;
  ingot_driver_memory_t *patterns = nullptr; // of fills
  bool timed = false;
  uint64_t generation = 0; // changes with each recording_begin
  ingot::Error error = {}; // the first failure while recording
};

struct ingot_driver_stream_t {
  ~ingot_driver_stream_t();
  // Recordings that were submitted together, and their graph once that has happened twice.
  static constexpr uint32_t kTogether = 4, kKept = 4;
  struct Kept {
    uint64_t generations[kTogether] = {};
    uint32_t count = 0, submissions = 0;
    ingot::stream::GraphExec exec = nullptr;
  };
  ingot_driver_device_t *device = nullptr;
  ingot_driver_executable_t *executable = nullptr;
  ingot::stream::Stream own = nullptr;  // also where graphs are captured
  ingot::stream::Stream used = nullptr; // what work goes to: `own` or the application's
  ingot::stream::Event done = nullptr;  // after the last submission to the application's stream
  ingot_driver_memory_t *errors = nullptr; // the error word, pinned
  Kept kept[kKept];
  uint32_t next_kept = 0;
  bool busy = false; // something was submitted since the last successful wait
};

namespace ingot::stream {

// Writes what the library said to *error; the code that it stands for. `what`: the function that said it.
Code failed(ingot_driver_device_t &device, Error *error, int result, const char *what);

#define INGOT_STREAM_TRY(device, call, what)                                                                           \
  do {                                                                                                                 \
    if (const int ingot_stream_result_ = (call); INGOT_UNLIKELY(ingot_stream_result_ != ::ingot::stream::kSuccess))    \
      return ::ingot::stream::failed(device, error, ingot_stream_result_, what);                                       \
  } while (0)

// The device's context is current as long as this lives.
class Current {
public:
  explicit Current(ingot_driver_device_t &device) : device_(device) { device.api.PushCurrent(device.context); }
  ~Current() {
    Context was = nullptr;
    device_.api.PopCurrent(&was);
  }
  Current(const Current &) = delete;
  Current &operator=(const Current &) = delete;

private:
  ingot_driver_device_t &device_;
};

// device.cpp
Code find_library(const Vendor &vendor, Api *api, Error *error);
Code look_at(const Vendor &vendor, const Api &api, int ordinal, Physical *out, Error *error);
Code parse_options(ingot_driver_device_t &device, const char *text, Error *error);
Code probe(const Vendor &vendor, Error *error);
Code enumerate(const Vendor &vendor, ingot_driver_visit_t visit, void *user, Error *error);
Code open_device(const Vendor &vendor, const ingot_driver_host_t *host, const char *id, uint32_t ordinal, const char *options,
                 ingot_driver_device_t **out, Error *error);
void close_device(ingot_driver_device_t *device);
Code describe(ingot_driver_device_t *device, ingot_driver_visit_t visit, void *user, Error *error);
void properties(ingot_driver_device_t *device, ingot_driver_properties_t *out);

// memory.cpp
Code allocate(ingot_driver_device_t *device, ingot_driver_memory_kind_t kind, uint64_t size, ingot_driver_memory_t **out, Error *error);
void release(ingot_driver_device_t *device, ingot_driver_memory_t *memory);
Code map(ingot_driver_device_t *device, ingot_driver_memory_t *memory, void **out, Error *error);
void unmap(ingot_driver_device_t *device, ingot_driver_memory_t *memory);
Code write(ingot_driver_device_t *device, ingot_driver_memory_t *memory, uint64_t offset, const void *data, size_t length, Error *error);
Code read(ingot_driver_device_t *device, ingot_driver_memory_t *memory, uint64_t offset, void *data, size_t length, Error *error);
Code import_host(ingot_driver_device_t *device, void *host, uint64_t size, ingot_driver_memory_t **out, Error *error);

// pool.cpp. Pre: the context is current.
Code open_pool(ingot_driver_device_t &device, Error *error); // or leaves device.pool null, where it cannot have one
void close_pool(ingot_driver_device_t &device);
Code take(ingot_driver_device_t &device, size_t bytes, Address *address, Error *error); // memory on the device
void give_back(ingot_driver_device_t &device, Address address);

// executable.cpp
Code supports(ingot_driver_device_t *device, const ingot_driver_code_t *code, Error *error);
Code load(ingot_driver_device_t *device, const ingot_driver_code_t *code, ingot_driver_executable_t **out, Error *error);
void unload(ingot_driver_executable_t *executable);
uint32_t kernel_version(const ingot_driver_executable_t *executable, uint32_t kernel);

// cache.cpp: compiled code in the device's folder, by a hash of what it was made from.
bool take_cached(ingot_driver_device_t &device, uint64_t key, Array<uint8_t> *code); // false where there is none that is good
void store_cached(ingot_driver_device_t &device, uint64_t key, const void *code, size_t size);

// recording.cpp
Code stream_create(ingot_driver_device_t *device, ingot_driver_executable_t *executable, ingot_driver_stream_t **out, Error *error);
void stream_destroy(ingot_driver_stream_t *stream);
Code recording_create(ingot_driver_stream_t *stream, const ingot_driver_recording_size_t *size, ingot_driver_recording_t **out, Error *error);
void recording_destroy(ingot_driver_recording_t *recording);
void recording_begin(ingot_driver_recording_t *recording, bool timed);
void record_dispatch(ingot_driver_recording_t *recording, const ingot_driver_dispatch_t *dispatch);
void record_copy(ingot_driver_recording_t *recording, const ingot_driver_span_t *target, const ingot_driver_span_t *source);
void record_fill(ingot_driver_recording_t *recording, const ingot_driver_span_t *target, uint64_t pattern, uint32_t pattern_bytes);
void record_barrier(ingot_driver_recording_t *recording);
Code recording_end(ingot_driver_recording_t *recording, Error *error);

// submit.cpp
Code submit(ingot_driver_stream_t *stream, ingot_driver_recording_t *const *recordings, uint32_t count, ingot_driver_submit_t *submit, Error *error);
Code finish(ingot_driver_stream_t *stream, ingot_driver_submit_t *submit, Error *error);
void wait_idle(ingot_driver_stream_t &stream); // for ever, unless the device is lost
void forget(ingot_driver_stream_t &stream, uint64_t generation); // graphs that hold that recording

// The table of the driver of that vendor.
template <const Vendor &vendor> constexpr ingot_driver_t driver_table(const char *description, uint32_t priority) {
  return {
      sizeof(ingot_driver_t),
      INGOT_DRIVER_ABI,
      vendor.name,
      description,
      /*host_memory=*/false,
      /*automatic=*/true,
      priority,
      [](const ingot_driver_host_t *, ingot_error_t *error) { return probe(vendor, error); },
      [](const ingot_driver_host_t *, ingot_driver_visit_t visit, void *user, ingot_error_t *error) {
        return enumerate(vendor, visit, user, error);
      },
      [](const ingot_driver_host_t *host, const char *id, uint32_t ordinal, const char *options, ingot_driver_device_t **out,
         ingot_error_t *error) { return open_device(vendor, host, id, ordinal, options, out, error); },
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
      import_host,
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
}

} // namespace ingot::stream
