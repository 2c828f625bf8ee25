// A libcuda.so.1 for tests: the functions that src/drivers/cuda calls, over the interpreter of ptx.h. It is strict where the real
// library is not: what is called without a current context, on a handle that is not alive, or out of order ends the process
// with a message, and so does what is left over when a device's primary context is released for the last time.
//
// As libamdhip64 (MOCK_HIP) its code objects are the word MOCK and PTX text: a driver does not look into them.
//
// INGOT_MOCK_NO_LINKER in the environment: there is none, so that only machine code loads (the word MOCK and PTX text again).
//
// Device 0 is well. Device N > 0 is lost at its N-th launch of a kernel or graph: that and everything after it gives 719.
// mock_cuda_fail_at(n): the n-th call from now on that can run out of memory does so. mock_cuda_calls(name): how often that
// function was called; of "": all of them together. mock_cuda_refuse_dependent(1): no dependent launch becomes part of a graph. mock_cuda_slow(1): streams do not begin until mock_cuda_slow(0).
//
// mock_cuda_pools(1): the device has memory pools; 0: it has none; -1: it does not know the question; another code: it has, and
// making one gives that code. mock_cuda_taken(): how often memory of devices was taken from the system; mock_cuda_held(): how many bytes of it
// are not yet given back. MOCK_OLD: the library has no functions for pools, and none that makes tensor maps.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <sanitizer/asan_interface.h>

#include "tests/mock/ptx.h"
#if defined(MOCK_HIP)
#include "tests/mock/hip_names.h"
#endif

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

constexpr int kDevices = 64, kOk = 0, kInvalid = 1, kNoMemory = 2, kBadImage = 200, kInvalidPtx = 218, kNotFound = 500, kNotReady = 600, kLost = 719;
constexpr uint32_t kShared = 48 << 10, kLargeShared = 227 << 10; // bytes a block: without being asked, and at most
using Address = unsigned long long;

[[noreturn]] __attribute__((format(printf, 1, 2))) void wrong(const char *format, ...) {
  va_list list;
  va_start(list, format);
  std::fprintf(stderr, "mock libcuda: ");
  std::vfprintf(stderr, format, list);
  std::fprintf(stderr, "\n");
  std::abort();
}

struct Context;

struct Event {
  Context *context = nullptr;
  bool timing = true;
  uint64_t recorded = 0, passed = 0; // numbers of records; under the context's mutex
  std::chrono::steady_clock::time_point time;
};

struct Work {
  std::function<int()> run;
  bool kernel = false, early = false; // early: begins before the kernels ahead of it have ended
};
thread_local mock::Chain *chain = nullptr; // of the graph that this thread runs

struct Graph {
  std::vector<Work> work;
  uint32_t kernels = 0;
};

struct Stream {
  Context *context = nullptr;
  std::unique_ptr<Graph> capture;
  std::deque<Work> queue;
  mock::Chain written; // by kernels that were sent one by one
  bool running = false, stop = false;
  std::condition_variable changed;
  std::thread worker;
};

struct Function {
  mock::Kernel kernel;
  uint32_t asks = 0; // the most bytes of shared memory that a launch may give, where that was set
};

struct Module {
  std::map<std::string, mock::Kernel> kernels;
  std::map<std::string, std::unique_ptr<Function>> functions;
};

struct Link {
  std::string cubin = "MOCK";
  std::map<std::string, mock::Kernel> kernels;
  char *log = nullptr;
  size_t log_bytes = 0;
  bool complete = false;
};

// Memory on a device, of a pool or of none.
struct Pool;
struct Piece {
  size_t bytes = 0, taken = 0; // asked for; taken from the system
  Pool *pool = nullptr;
  Stream *ordered = nullptr; // the stream of its allocation or free, until the host has waited for it
};
struct Pool {
  uint64_t keeps = 0, held = 0;
  uint32_t used = 0; // pieces
  std::map<Address, Piece> idle;
};

struct Context {
  int device = 0;
  uint32_t references = 0;
  std::recursive_mutex mutex;
  std::atomic<int> lost{0}; // or the code that everything gives
  uint32_t launches = 0;
  std::map<Address, std::pair<size_t, bool>> memory; // begin: bytes, of the host
  std::map<Address, size_t> registered;
  std::map<Address, Piece> pooled; // in `memory` too, once it was waited for
  std::set<Pool *> pools;
  std::set<Stream *> streams;
  std::set<Event *> events;
  std::set<Module *> modules;
  std::set<Function *> functions;
  std::set<Graph *> graphs, execs;
  std::set<Link *> links;
};

Context contexts[kDevices];
thread_local std::vector<Context *> current;
std::mutex counts_mutex;
std::map<std::string, uint64_t> calls;
bool initialised = false;
int fail_in = 0;
bool refuses_dependent = false;
int pools = 1;
uint64_t taken = 0, held = 0;
std::mutex slow_mutex;
std::condition_variable slow_changed;
bool slow = false;

void count(const char *name) {
  std::lock_guard lock(counts_mutex);
  ++calls[name];
  if (!initialised && std::strcmp(name, "cuInit") != 0) wrong("%s before cuInit", name);
}

bool out_of_memory() {
  std::lock_guard lock(counts_mutex);
  return fail_in > 0 && --fail_in == 0;
}

Context &here(const char *name) {
  count(name);
  if (current.empty()) wrong("%s without a current context", name);
  return *current.back();
}

template <class T> T &alive(std::set<T *> &all, void *handle, const char *name) {
  auto found = all.find(static_cast<T *>(handle));
  if (found == all.end()) wrong("%s on a handle that is not alive, or of another context", name);
  return **found;
}

// Begins a function of a context: counts it, locks, and leaves where the context is lost.
#define ENTER(name)                                                                                                    \
  Context &x = here(name);                                                                                             \
  std::unique_lock lock(x.mutex);                                                                                      \
  (void)x
#define ENTER_UNLESS_LOST(name)                                                                                        \
  ENTER(name);                                                                                                         \
  if (x.lost) return x.lost

bool find_memory(Context &x, Address at, uint64_t *begin, uint64_t *end) {
  auto found = x.memory.upper_bound(at);
  if (found != x.memory.begin()) {
    --found;
    if (at < found->first + found->second.first) return *begin = found->first, *end = found->first + found->second.first, true;
  }
  auto other = x.registered.upper_bound(at);
  if (other == x.registered.begin()) return false;
  --other;
  return *begin = other->first, *end = other->first + other->second, at < *end;
}

bool is_memory(Context &x, Address at, size_t bytes) {
  uint64_t begin = 0, end = 0;
  return find_memory(x, at, &begin, &end) && bytes <= end - at;
}

void worker(Stream *s) {
  Context &x = *s->context;
  std::unique_lock lock(x.mutex);
  for (;;) {
    while (s->queue.empty() && !s->stop) {
      s->changed.notify_all();
      // A recursive mutex and a plain condition variable: waits by turns.
      lock.unlock();
      std::this_thread::sleep_for(std::chrono::microseconds(50));
      lock.lock();
    }
    if (s->queue.empty()) return;
    Work work = std::move(s->queue.front());
    s->queue.pop_front();
    s->running = true;
    lock.unlock();
    {
      std::unique_lock waits(slow_mutex);
      slow_changed.wait(waits, [] { return !slow; });
    }
    if (!work.early) s->written.written.clear(); // all that was ahead has ended
    chain = work.kernel ? &s->written : nullptr;
    const int result = x.lost ? 0 : work.run();
    chain = nullptr;
    lock.lock();
    s->running = false;
    if (result && !x.lost) x.lost = result;
  }
}

bool idle(Stream &s) { return s.queue.empty() && !s.running; }

// What a lost device was doing has ended before its memory goes; on a device that lives, freeing what is used is the caller's
// fault, and the sanitizer shows it.
void end_if_lost(Context &x, std::unique_lock<std::recursive_mutex> &lock) {
  const auto runs = [](const Stream *s) { return s->running; };
  while (x.lost && std::any_of(x.streams.begin(), x.streams.end(), runs)) {
    lock.unlock();
    std::this_thread::sleep_for(std::chrono::microseconds(50));
    lock.lock();
  }
}

int enqueue(Context &x, void *stream, const char *name, Work work, bool kernel = false) {
  if (!stream) wrong("%s on the default stream", name);
  Stream &s = alive(x.streams, stream, name);
  work.kernel = kernel;
  if (s.capture) {
    s.capture->work.push_back(std::move(work));
    s.capture->kernels += kernel;
    return kOk;
  }
  s.queue.push_back(std::move(work));
  return kOk;
}

int count_launch(Context &x) {
  if (x.device > 0 && ++x.launches >= uint32_t(x.device)) x.lost = kLost;
  return x.lost;
}

void check_empty(Context &x) {
  if (!x.memory.empty() || !x.pooled.empty()) wrong("leak: %zu allocations, %zu of pools", x.memory.size(), x.pooled.size());
  if (!x.pools.empty()) wrong("leak: %zu memory pools", x.pools.size());
  if (!x.registered.empty()) wrong("leak: %zu registered pieces of host memory", x.registered.size());
  if (!x.streams.empty() || !x.events.empty()) wrong("leak: %zu streams, %zu events", x.streams.size(), x.events.size());
  if (!x.modules.empty() || !x.links.empty()) wrong("leak: %zu modules, %zu linkers", x.modules.size(), x.links.size());
  if (!x.graphs.empty() || !x.execs.empty()) wrong("leak: %zu graphs, %zu executable graphs", x.graphs.size(), x.execs.size());
}

int run_work(const std::vector<Work> &all) {
  mock::Chain written;
  const bool any_early = std::any_of(all.begin(), all.end(), [](const Work &w) { return w.early; });
  int result = kOk;
  for (const Work &w : all) {
    if (!w.early) written.written.clear(); // all that was ahead has ended
    chain = any_early && w.kernel ? &written : nullptr;
    result = w.run();
    chain = nullptr;
    if (result) break;
  }
  return result;
}

// Device memory from the system, and back.
void *take(size_t bytes) {
  void *memory = bytes > size_t(1) << 34 ? nullptr : std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (!memory) return nullptr;
  std::memset(memory, 0xee, bytes < 1 << 20 ? bytes : 1 << 20);
  std::lock_guard lock(counts_mutex);
  ++taken;
  held += bytes;
  return memory;
}
void give_back(Address at, size_t bytes) {
  std::free(reinterpret_cast<void *>(uintptr_t(at)));
  std::lock_guard lock(counts_mutex);
  held -= bytes;
}

// What pools do once the host has waited for that stream: its allocations may be used anywhere, its frees be given back. null: for none.
void settle(Context &x, Stream *stream) {
  for (auto &[at, piece] : x.pooled)
    if (stream && piece.ordered == stream) piece.ordered = nullptr, x.memory[at] = {piece.bytes, false};
  for (Pool *pool : x.pools)
    for (auto p = pool->idle.begin(); p != pool->idle.end();) {
      if (p->second.ordered == stream) p->second.ordered = nullptr;
      if (p->second.ordered || pool->held <= pool->keeps) {
        ++p;
        continue;
      }
      pool->held -= p->second.taken;
      ASAN_UNPOISON_MEMORY_REGION(reinterpret_cast<void *>(uintptr_t(p->first)), p->second.taken);
      give_back(p->first, p->second.taken);
      p = pool->idle.erase(p);
    }
}

std::string add_text(std::map<std::string, mock::Kernel> &kernels, const char *text) { return mock::parse(text, kernels); }

} // namespace

EXPORT void mock_cuda_fail_at(int n) {
  std::lock_guard lock(counts_mutex);
  fail_in = n;
}
EXPORT uint64_t mock_cuda_calls(const char *name) {
  std::lock_guard lock(counts_mutex);
  if (*name) return calls[name];
  uint64_t all = 0;
  for (const auto &[of, n] : calls) all += n;
  return all;
}
EXPORT void mock_cuda_refuse_dependent(int on) {
  std::lock_guard lock(counts_mutex);
  refuses_dependent = on != 0;
}
EXPORT void mock_cuda_pools(int how) {
  std::lock_guard lock(counts_mutex);
  pools = how;
}
EXPORT uint64_t mock_cuda_taken() {
  std::lock_guard lock(counts_mutex);
  return taken;
}
EXPORT uint64_t mock_cuda_held() {
  std::lock_guard lock(counts_mutex);
  return held;
}
EXPORT void mock_cuda_slow(int on) {
  std::lock_guard lock(slow_mutex);
  slow = on != 0;
  slow_changed.notify_all();
}

EXPORT int cuInit(unsigned flags) {
  count("cuInit");
  initialised = true;
  return flags == 0 ? kOk : kInvalid;
}
EXPORT int cuDriverGetVersion(int *version) {
  count("cuDriverGetVersion");
  *version = 13000;
  return kOk;
}
EXPORT int cuGetErrorName(int code, const char **name) {
  *name = code == kNoMemory ? "CUDA_ERROR_OUT_OF_MEMORY" : code == kLost ? "CUDA_ERROR_LAUNCH_FAILED" : code == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "CUDA_ERROR_MOCK";
  return kOk;
}
EXPORT int cuDeviceGetCount(int *n) {
  count("cuDeviceGetCount");
  *n = kDevices;
  return kOk;
}
EXPORT int cuDeviceGet(int *device, int ordinal) {
  count("cuDeviceGet");
  *device = ordinal;
  return ordinal >= 0 && ordinal < kDevices ? kOk : 101;
}
EXPORT int cuDeviceGetName(char *name, int size, int device) {
  std::snprintf(name, size_t(size), device == 0 ? "mock GPU" : "mock GPU that is lost at launch %d", device);
  return kOk;
}
EXPORT int cuDeviceGetUuid(uint8_t *bytes, int device) {
  for (int i = 0; i < 16; ++i) bytes[i] = uint8_t(0xa0 + i);
  bytes[15] = uint8_t(device);
  return kOk;
}
EXPORT int cuDeviceGetAttribute(int *value, int attribute, int) {
  std::unique_lock lock(counts_mutex);
  const int has_pools = pools;
  lock.unlock();
#if defined(MOCK_HIP)
  constexpr int kPools = 88;
  static const std::map<int, int> values = {{56, 1024}, {26, 1024}, {27, 1024}, {28, 1024}, {29, 2147483647}, {30, 65535}, {31, 65535},
                                            {74, 65536}, {87, 64}, {63, 4}, {23, 9}, {61, 4}};
#else
  constexpr int kPools = 115;
  static const std::map<int, int> values = {{1, 1024}, {2, 1024}, {3, 1024}, {4, 64}, {5, 2147483647}, {6, 65535}, {7, 65535},
                                            {8, kShared}, {97, kLargeShared}, {10, 32}, {16, 4}, {75, 9}, {76, 0}};
#endif
  if (attribute == kPools && has_pools != -1) return *value = has_pools != 0, kOk;
  auto found = values.find(attribute);
  if (found == values.end()) return kInvalid;
  *value = found->second;
  return kOk;
}
EXPORT int cuDeviceTotalMem_v2(size_t *bytes, int) {
  *bytes = size_t(1) << 33;
  return kOk;
}
EXPORT int cuDevicePrimaryCtxRetain(void **context, int device) {
  count("cuDevicePrimaryCtxRetain");
  Context &x = contexts[device];
  std::lock_guard lock(x.mutex);
  if (out_of_memory()) return kNoMemory;
  x.device = device;
  if (x.references++ == 0) x.lost = 0, x.launches = 0;
  *context = &x;
  return kOk;
}
EXPORT int cuDevicePrimaryCtxRelease_v2(int device) {
  count("cuDevicePrimaryCtxRelease_v2");
  Context &x = contexts[device];
  std::lock_guard lock(x.mutex);
  if (x.references == 0) wrong("a primary context is released more often than retained");
  if (--x.references == 0) check_empty(x);
  return kOk;
}
EXPORT int cuCtxPushCurrent_v2(void *context) {
  count("cuCtxPushCurrent_v2");
  if (!context || static_cast<Context *>(context)->references == 0) wrong("cuCtxPushCurrent on a context that is not alive");
  current.push_back(static_cast<Context *>(context));
  return kOk;
}
EXPORT int cuCtxPopCurrent_v2(void **context) {
  count("cuCtxPopCurrent_v2");
  if (current.empty()) wrong("cuCtxPopCurrent without a current context");
  *context = current.back();
  current.pop_back();
  return kOk;
}

EXPORT int cuLinkCreate_v2(unsigned n, int *options, void **values, void **out) {
  ENTER_UNLESS_LOST("cuLinkCreate_v2");
  if (out_of_memory()) return kNoMemory;
  if (std::getenv("INGOT_MOCK_NO_LINKER")) return kInvalid;
  Link *link = new Link;
  for (unsigned i = 0; i < n; ++i) {
    if (options[i] == 5) link->log = static_cast<char *>(values[i]);
    if (options[i] == 6) link->log_bytes = reinterpret_cast<uintptr_t>(values[i]);
  }
  x.links.insert(link);
  *out = link;
  return kOk;
}
EXPORT int cuLinkAddData_v2(void *handle, int type, void *data, size_t size, const char *, unsigned, int *, void **) {
  ENTER_UNLESS_LOST("cuLinkAddData_v2");
  Link &link = alive(x.links, handle, "cuLinkAddData_v2");
  if (link.complete) wrong("cuLinkAddData after cuLinkComplete");
  if (type != 1) wrong("cuLinkAddData of type %d", type);
  if (out_of_memory()) return kNoMemory;
  const char *text = static_cast<const char *>(data);
  if (size == 0 || text[size - 1] != 0) wrong("PTX without its final 0");
  if (const std::string problem = add_text(link.kernels, text); !problem.empty()) {
    if (link.log) std::snprintf(link.log, link.log_bytes, "%s", problem.c_str());
    return kInvalidPtx;
  }
  link.cubin += text;
  return kOk;
}
EXPORT int cuLinkComplete(void *handle, void **cubin, size_t *size) {
  ENTER_UNLESS_LOST("cuLinkComplete");
  Link &link = alive(x.links, handle, "cuLinkComplete");
  if (out_of_memory()) return kNoMemory;
  link.complete = true;
  *cubin = link.cubin.data();
  *size = link.cubin.size() + 1;
  return kOk;
}
EXPORT int cuLinkDestroy(void *handle) {
  ENTER("cuLinkDestroy");
  Link &link = alive(x.links, handle, "cuLinkDestroy");
  x.links.erase(&link);
  std::fill(link.cubin.begin(), link.cubin.end(), 'x'); // it belongs to the linker
  delete &link;
  return kOk;
}
EXPORT int cuModuleLoadData(void **out, const void *image) {
  ENTER_UNLESS_LOST("cuModuleLoadData");
  if (out_of_memory()) return kNoMemory;
  const char *text = static_cast<const char *>(image);
  if (std::strncmp(text, "MOCK", 4) != 0) return kBadImage;
  auto module = std::make_unique<Module>();
  if (!add_text(module->kernels, text + 4).empty()) return kBadImage;
  x.modules.insert(module.get());
  *out = module.release();
  return kOk;
}
EXPORT int cuModuleGetFunction(void **out, void *handle, const char *name) {
  ENTER_UNLESS_LOST("cuModuleGetFunction");
  Module &module = alive(x.modules, handle, "cuModuleGetFunction");
  auto kernel = module.kernels.find(name);
  if (kernel == module.kernels.end()) return kNotFound;
  auto &function = module.functions[name];
  if (!function) function = std::make_unique<Function>(Function{kernel->second});
  x.functions.insert(function.get());
  *out = function.get();
  return kOk;
}
EXPORT int cuFuncSetAttribute(void *handle, int attribute, int value) {
  ENTER_UNLESS_LOST("cuFuncSetAttribute");
  Function &f = alive(x.functions, handle, "cuFuncSetAttribute");
  if (attribute != 8) wrong("cuFuncSetAttribute of attribute %d", attribute);
  if (value < 0 || uint64_t(value) + f.kernel.shared_bytes > kLargeShared) return kInvalid;
  f.asks = uint32_t(value);
  return kOk;
}
EXPORT int cuModuleUnload(void *handle) {
  ENTER("cuModuleUnload");
  Module &module = alive(x.modules, handle, "cuModuleUnload");
  for (auto &[name, function] : module.functions) x.functions.erase(function.get());
  x.modules.erase(&module);
  delete &module;
  return kOk;
}

EXPORT int cuMemAlloc_v2(Address *out, size_t bytes) {
  ENTER_UNLESS_LOST("cuMemAlloc_v2");
  if (bytes == 0) return kInvalid;
  if (out_of_memory()) return kNoMemory;
  void *memory = take(bytes);
  if (!memory) return kNoMemory;
  *out = Address(uintptr_t(memory));
  x.memory[*out] = {bytes, false};
  return kOk;
}
static int free_memory(const char *name, Address at, bool of_host) {
  ENTER(name);
  auto found = x.memory.find(at);
  if (found == x.memory.end() || found->second.second != of_host || x.pooled.count(at)) wrong("%s of what was not allocated so", name);
  end_if_lost(x, lock);
  const size_t bytes = found->second.first;
  x.memory.erase(at);
  if (of_host) std::free(reinterpret_cast<void *>(uintptr_t(at)));
  else give_back(at, bytes);
  return kOk;
}
EXPORT int cuMemFree_v2(Address at) { return free_memory("cuMemFree_v2", at, false); }
EXPORT int cuMemFreeHost(void *at) { return free_memory("cuMemFreeHost", Address(uintptr_t(at)), true); }
EXPORT int cuMemHostAlloc(void **out, size_t bytes, unsigned) {
  ENTER_UNLESS_LOST("cuMemHostAlloc");
  if (out_of_memory()) return kNoMemory;
  *out = bytes > size_t(1) << 34 ? nullptr : std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (!*out) return kNoMemory;
  x.memory[Address(uintptr_t(*out))] = {bytes, true};
  return kOk;
}
EXPORT int cuMemHostRegister_v2(void *at, size_t bytes, unsigned) {
  ENTER_UNLESS_LOST("cuMemHostRegister_v2");
  if (out_of_memory()) return kNoMemory;
  x.registered[Address(uintptr_t(at))] = bytes;
  return kOk;
}
EXPORT int cuMemHostUnregister(void *at) {
  ENTER("cuMemHostUnregister");
  end_if_lost(x, lock);
  if (x.registered.erase(Address(uintptr_t(at))) == 0) wrong("cuMemHostUnregister of what was not registered");
  return kOk;
}
EXPORT int cuMemHostGetDevicePointer_v2(Address *out, void *at, unsigned) {
  ENTER_UNLESS_LOST("cuMemHostGetDevicePointer_v2");
  if (!is_memory(x, Address(uintptr_t(at)), 1)) wrong("cuMemHostGetDevicePointer of memory that is not pinned");
  *out = Address(uintptr_t(at));
  return kOk;
}

#if !defined(MOCK_OLD)
// CUmemPoolProps: what it is, how it is shared, where it lies (two words), and what must be 0.
EXPORT int cuMemPoolCreate(void **out, const void *properties) {
  ENTER_UNLESS_LOST("cuMemPoolCreate");
  int words[22];
  std::memcpy(words, properties, sizeof words);
  if (words[0] != 1 || words[1] != 0 || words[2] != 1 || words[3] != x.device) wrong("cuMemPoolCreate of other memory than this device's");
  if (std::any_of(words + 4, words + 22, [](int w) { return w != 0; })) wrong("cuMemPoolCreate with what is not expected");
  std::unique_lock counts(counts_mutex);
  if (pools == 0 || pools == -1) wrong("cuMemPoolCreate on a device that has none");
  if (pools != 1) return pools;
  counts.unlock();
  if (out_of_memory()) return kNoMemory;
  Pool *pool = new Pool;
  x.pools.insert(pool);
  *out = pool;
  return kOk;
}
EXPORT int cuMemPoolSetAttribute(void *handle, int attribute, void *value) {
  ENTER_UNLESS_LOST("cuMemPoolSetAttribute");
  Pool &pool = alive(x.pools, handle, "cuMemPoolSetAttribute");
  if (attribute != 4) wrong("cuMemPoolSetAttribute of attribute %d", attribute);
  if (out_of_memory()) return kNoMemory;
  std::memcpy(&pool.keeps, value, sizeof pool.keeps);
  return kOk;
}
EXPORT int cuMemPoolDestroy(void *handle) {
  ENTER("cuMemPoolDestroy");
  Pool *pool = &alive(x.pools, handle, "cuMemPoolDestroy");
  if (pool->used) wrong("a memory pool is destroyed while %u pieces of it are used", pool->used);
  pool->keeps = 0;
  for (auto &[at, piece] : pool->idle) {
    if (piece.ordered && !x.lost) wrong("a memory pool is destroyed before a free was waited for");
    piece.ordered = nullptr;
  }
  settle(x, nullptr);
  x.pools.erase(pool);
  delete pool;
  return kOk;
}
EXPORT int cuMemAllocFromPoolAsync(Address *out, size_t bytes, void *handle, void *stream) {
  ENTER_UNLESS_LOST("cuMemAllocFromPoolAsync");
  Pool &pool = alive(x.pools, handle, "cuMemAllocFromPoolAsync");
  Stream &s = alive(x.streams, stream, "cuMemAllocFromPoolAsync");
  if (s.capture) wrong("cuMemAllocFromPoolAsync becomes part of a graph");
  if (bytes == 0) return kInvalid;
  if (out_of_memory()) return kNoMemory;
  auto best = pool.idle.end(); // the smallest that is large enough, if not too large
  for (auto p = pool.idle.begin(); p != pool.idle.end(); ++p) {
    const bool fits = p->second.taken >= bytes && p->second.taken / 2 <= bytes && (!p->second.ordered || p->second.ordered == &s);
    if (fits && (best == pool.idle.end() || p->second.taken < best->second.taken)) best = p;
  }
  Piece piece = {bytes, bytes, &pool, &s};
  if (best != pool.idle.end()) {
    *out = best->first;
    piece.taken = best->second.taken;
    pool.idle.erase(best);
    ASAN_UNPOISON_MEMORY_REGION(reinterpret_cast<void *>(uintptr_t(*out)), piece.taken);
  } else {
    *out = Address(uintptr_t(take(bytes)));
    if (!*out) return kNoMemory;
    pool.held += bytes;
  }
  ++pool.used;
  x.pooled[*out] = piece;
  return kOk;
}
EXPORT int cuMemFreeAsync(Address at, void *stream) {
  ENTER("cuMemFreeAsync");
  Stream &s = alive(x.streams, stream, "cuMemFreeAsync");
  if (s.capture) wrong("cuMemFreeAsync becomes part of a graph");
  auto found = x.pooled.find(at);
  if (found == x.pooled.end()) wrong("cuMemFreeAsync of what is of no pool");
  end_if_lost(x, lock);
  Piece piece = found->second;
  x.pooled.erase(found);
  x.memory.erase(at);
  piece.ordered = x.lost ? nullptr : &s;
  --piece.pool->used;
  piece.pool->idle[at] = piece;
  std::memset(reinterpret_cast<void *>(uintptr_t(at)), 0xdd, piece.bytes < 1 << 20 ? piece.bytes : 1 << 20);
  ASAN_POISON_MEMORY_REGION(reinterpret_cast<void *>(uintptr_t(at)), piece.taken);
  return x.lost;
}
#endif

EXPORT int cuMemcpyAsync(Address to, Address from, size_t bytes, void *stream) {
  ENTER_UNLESS_LOST("cuMemcpyAsync");
  if (!is_memory(x, to, bytes) || !is_memory(x, from, bytes)) wrong("a copy of %zu bytes outside of memory", bytes);
  return enqueue(x, stream, "cuMemcpyAsync", {[=] {
    std::memcpy(reinterpret_cast<void *>(uintptr_t(to)), reinterpret_cast<const void *>(uintptr_t(from)), bytes);
    return kOk;
  }});
}
template <class T> static int fill(const char *name, Address to, T value, size_t n, void *stream) {
  ENTER_UNLESS_LOST(name);
  if (!is_memory(x, to, n * sizeof(T))) wrong("a fill outside of memory");
  if (to % sizeof(T) != 0) return kInvalid;
  return enqueue(x, stream, name, {[=] {
    T *at = reinterpret_cast<T *>(uintptr_t(to));
    for (size_t i = 0; i < n; ++i) at[i] = value;
    return kOk;
  }});
}
EXPORT int cuMemsetD8Async(Address to, unsigned char v, size_t n, void *s) { return fill<uint8_t>("cuMemsetD8Async", to, v, n, s); }
EXPORT int cuMemsetD16Async(Address to, unsigned short v, size_t n, void *s) { return fill<uint16_t>("cuMemsetD16Async", to, v, n, s); }
EXPORT int cuMemsetD32Async(Address to, unsigned v, size_t n, void *s) { return fill<uint32_t>("cuMemsetD32Async", to, v, n, s); }

EXPORT int cuStreamCreate(void **out, unsigned flags) {
  ENTER_UNLESS_LOST("cuStreamCreate");
  if (flags != 1) wrong("a stream that waits for the default stream");
  if (out_of_memory()) return kNoMemory;
  Stream *s = new Stream;
  s->context = &x;
  x.streams.insert(s);
  s->worker = std::thread(worker, s);
  *out = s;
  return kOk;
}
EXPORT int cuStreamDestroy_v2(void *handle) {
  Stream *s = nullptr;
  {
    ENTER("cuStreamDestroy_v2");
    s = &alive(x.streams, handle, "cuStreamDestroy_v2");
    if (s->capture) wrong("a stream is destroyed while it captures");
    const auto ordered = [&](const auto &p) { return p.second.ordered == s; };
    if (std::any_of(x.pooled.begin(), x.pooled.end(), ordered)) wrong("a stream is destroyed before an allocation on it was waited for");
    for (Pool *pool : x.pools)
      if (std::any_of(pool->idle.begin(), pool->idle.end(), ordered)) wrong("a stream is destroyed before a free on it was waited for");
    x.streams.erase(s);
    s->stop = true;
  }
  s->worker.join();
  delete s;
  return kOk;
}
EXPORT int cuStreamQuery(void *handle) {
  ENTER_UNLESS_LOST("cuStreamQuery");
  return idle(alive(x.streams, handle, "cuStreamQuery")) ? kOk : kNotReady;
}
EXPORT int cuStreamSynchronize(void *handle) {
  for (;;) {
    {
      ENTER_UNLESS_LOST("cuStreamSynchronize");
      Stream &s = alive(x.streams, handle, "cuStreamSynchronize");
      if (s.capture) wrong("cuStreamSynchronize of a stream that captures");
      if (idle(s)) return settle(x, &s), kOk;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
}
EXPORT int cuStreamBeginCapture_v2(void *handle, int) {
  ENTER_UNLESS_LOST("cuStreamBeginCapture_v2");
  Stream &s = alive(x.streams, handle, "cuStreamBeginCapture_v2");
  if (s.capture) wrong("a stream that captures already");
  if (out_of_memory()) return kNoMemory;
  s.capture = std::make_unique<Graph>();
  return kOk;
}
EXPORT int cuStreamEndCapture(void *handle, void **out) {
  ENTER("cuStreamEndCapture");
  Stream &s = alive(x.streams, handle, "cuStreamEndCapture");
  if (!s.capture) wrong("cuStreamEndCapture of a stream that does not capture");
  std::unique_ptr<Graph> graph = std::move(s.capture);
  if (x.lost) return x.lost;
  if (out_of_memory()) return kNoMemory;
  x.graphs.insert(graph.get());
  *out = graph.release();
  return kOk;
}
EXPORT int cuGraphInstantiateWithFlags(void **out, void *graph, unsigned long long) {
  ENTER_UNLESS_LOST("cuGraphInstantiateWithFlags");
  if (out_of_memory()) return kNoMemory;
  Graph *exec = new Graph(alive(x.graphs, graph, "cuGraphInstantiateWithFlags"));
  x.execs.insert(exec);
  *out = exec;
  return kOk;
}
EXPORT int cuGraphDestroy(void *graph) {
  ENTER("cuGraphDestroy");
  Graph *g = &alive(x.graphs, graph, "cuGraphDestroy");
  x.graphs.erase(g);
  delete g;
  return kOk;
}
EXPORT int cuGraphExecDestroy(void *exec) {
  ENTER("cuGraphExecDestroy");
  Graph *g = &alive(x.execs, exec, "cuGraphExecDestroy");
  x.execs.erase(g);
  delete g;
  return kOk;
}
EXPORT int cuGraphLaunch(void *exec, void *stream) {
  ENTER_UNLESS_LOST("cuGraphLaunch");
  const Graph &g = alive(x.execs, exec, "cuGraphLaunch");
  if (const int lost = count_launch(x)) return lost;
  return enqueue(x, stream, "cuGraphLaunch", {[work = g.work] { return run_work(work); }});
}

EXPORT int cuEventCreate(void **out, unsigned flags) {
  ENTER_UNLESS_LOST("cuEventCreate");
  if (out_of_memory()) return kNoMemory;
  Event *e = new Event;
  e->context = &x;
  e->timing = !(flags & 2);
  x.events.insert(e);
  *out = e;
  return kOk;
}
EXPORT int cuEventDestroy_v2(void *handle) {
  ENTER("cuEventDestroy_v2");
  Event *e = &alive(x.events, handle, "cuEventDestroy_v2");
  if (e->recorded != e->passed && !x.lost) wrong("an event is destroyed that is still to come");
  x.events.erase(e);
  if (e->recorded == e->passed) delete e;
  return kOk;
}
EXPORT int cuEventRecord(void *handle, void *stream) {
  ENTER_UNLESS_LOST("cuEventRecord");
  Event *e = &alive(x.events, handle, "cuEventRecord");
  const uint64_t number = ++e->recorded;
  return enqueue(x, stream, "cuEventRecord", {[e, number] {
    std::lock_guard lock(e->context->mutex);
    e->passed = number;
    e->time = std::chrono::steady_clock::now();
    return kOk;
  }});
}
EXPORT int cuEventQuery(void *handle) {
  ENTER_UNLESS_LOST("cuEventQuery");
  Event &e = alive(x.events, handle, "cuEventQuery");
  return e.passed == e.recorded ? kOk : kNotReady;
}
EXPORT int cuEventSynchronize(void *handle) {
  for (;;) {
    {
      ENTER_UNLESS_LOST("cuEventSynchronize");
      Event &e = alive(x.events, handle, "cuEventSynchronize");
      if (e.passed == e.recorded) return kOk;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
}
EXPORT int cuEventElapsedTime(float *ms, void *start, void *end) {
  ENTER_UNLESS_LOST("cuEventElapsedTime");
  Event &a = alive(x.events, start, "cuEventElapsedTime"), &b = alive(x.events, end, "cuEventElapsedTime");
  if (!a.timing || !b.timing || !a.recorded || !b.recorded) return kInvalid;
  if (a.passed != a.recorded || b.passed != b.recorded) return kNotReady;
  *ms = std::chrono::duration<float, std::milli>(b.time - a.time).count();
  return kOk;
}

thread_local bool next_is_early = false;

EXPORT int cuLaunchKernel(void *handle, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                          void *stream, void **params, void **extra) {
  ENTER_UNLESS_LOST("cuLaunchKernel");
  const Function &f = alive(x.functions, handle, "cuLaunchKernel");
  if (extra) wrong("cuLaunchKernel with what is not expected");
  if (uint64_t(shared) + f.kernel.shared_bytes > kShared && shared > f.asks) return kInvalid;
  if (!gx || !gy || !gz || gy > 65535 || gz > 65535 || uint64_t(bx) * by * bz > 1024 || !bx || !by || !bz) return kInvalid;
  auto launch = std::make_shared<mock::Launch>();
  launch->grid = {gx, gy, gz};
  launch->block = {bx, by, bz};
  launch->shared_bytes = shared;
  launch->early = next_is_early;
  for (size_t i = 0; i < f.kernel.param_sizes.size(); ++i) {
    const uint8_t *bytes = static_cast<const uint8_t *>(params[i]);
    launch->params.emplace_back(bytes, bytes + f.kernel.param_sizes[i]);
  }
  Context *context = &x;
  launch->memory = [context](uint64_t at, uint64_t *begin, uint64_t *end) {
    std::lock_guard guard(context->mutex);
    return find_memory(*context, at, begin, end);
  };
  Stream &s = alive(x.streams, stream, "cuLaunchKernel");
  if (!s.capture)
    if (const int lost = count_launch(x)) return lost;
  auto kernel = std::make_shared<mock::Kernel>(f.kernel);
  return enqueue(x, stream, "cuLaunchKernel", {[kernel, launch] {
    const std::string problem = mock::run(*kernel, *launch, chain);
    if (problem.empty()) return kOk;
    std::fprintf(stderr, "mock libcuda: %s\n", problem.c_str());
    return 700;
  }, true, launch->early}, true);
}

#if !defined(MOCK_HIP) && !defined(MOCK_OLD)
EXPORT int cuTensorMapEncodeTiled(void *map, int type, unsigned rank, void *address, const uint64_t *sizes, const uint64_t *strides, const unsigned *box,
                                  const unsigned *steps, int interleave, int swizzle, int promotion, int outside) {
  ENTER_UNLESS_LOST("cuTensorMapEncodeTiled");
  if (reinterpret_cast<uintptr_t>(map) % 128 != 0) wrong("a tensor map that is not aligned to 128 bytes");
  if (type != 1 || interleave != 0 || swizzle != 3 || promotion < 0 || promotion > 3 || outside != 0) wrong("cuTensorMapEncodeTiled with what is not expected");
  if (rank < 1 || rank > 5) return kInvalid;
  for (unsigned i = 0; i < rank; ++i)
    if (steps[i] != 1) wrong("a tensor map with other steps than 1");
  uint64_t begin = 0, end = 0;
  if (!find_memory(x, reinterpret_cast<uintptr_t>(address), &begin, &end)) wrong("a tensor map of memory that is not allocated");
  return mock::make_map(static_cast<mock::TensorMap *>(map), reinterpret_cast<uintptr_t>(address), rank, sizes, strides, box) ? kOk : kInvalid;
}
#endif

bool refuses_in_graphs() {
  std::lock_guard lock(counts_mutex);
  return refuses_dependent;
}
bool captures(void *stream) {
  ENTER("cuLaunchKernelEx");
  return alive(x.streams, stream, "cuLaunchKernelEx").capture != nullptr;
}

// CUlaunchConfig: three dims of grid and block, shared bytes, stream, attributes.
EXPORT int cuLaunchKernelEx(const void *config, void *function, void **params, void **extra) {
  unsigned n[7];
  void *stream = nullptr;
  std::memcpy(n, config, sizeof n);
  std::memcpy(&stream, static_cast<const char *>(config) + 32, sizeof stream);
  count("cuLaunchKernelEx");
  if (refuses_in_graphs() && captures(stream)) return 801; // CUDA_ERROR_NOT_SUPPORTED
  next_is_early = true;
  const int result = cuLaunchKernel(function, n[0], n[1], n[2], n[3], n[4], n[5], n[6], stream, params, extra);
  next_is_early = false;
  return result;
}

#if defined(MOCK_HIP)
EXPORT int hipGetDeviceProperties(void *properties, int) {
  count("hipGetDeviceProperties");
  std::strcpy(static_cast<char *>(properties) + 396, "gfx942:sramecc+:xnack-");
  return kOk;
}
#endif
