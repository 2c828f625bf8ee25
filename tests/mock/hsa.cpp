// A libhsa-runtime64.so.1 for tests: the functions that src/drivers/amdgpu calls, over the interpreter of ptx.h. It is strict where
// the real library is not: what is called before hsa_init, on a handle that is not alive, or out of order ends the process with a
// message, and so do a packet that is not as the specification has it, and what is left over at the last hsa_shut_down. And it does
// what the specification allows and hardware seldom does: packets without a barrier bit run in the reverse order, copies too.
//
// Code objects are the word MOCK and PTX text, as for the mock of libamdhip64: a driver does not look into them.
//
// GPU 0 is well. GPU N > 0 is lost at its N-th dispatch: its queues end with an exception. mock_hsa_fail_at(n): the n-th call from now
// on that can run out of resources does so. mock_hsa_calls(name): how often that function was called. mock_hsa_fail_copies(n): the
// n-th copy from now on fails while it is under way. mock_hsa_fault(1): dispatches touch memory that is not there. mock_hsa_slow(1): queues do not begin until mock_hsa_slow(0).
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "src/drivers/amdgpu/hsa.h"
#include "tests/mock/ptx.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

using namespace ingot::amdgpu;

namespace {

constexpr int kGpus = 64, kInvalidArgument = 0x1001, kInvalidCode = 0x1010, kInvalidName = 0x1013;
constexpr uint64_t kHostAgent = 7, kFirstGpu = 100, kHostFine = 21, kHostArguments = 22, kHostCoarse = 23, kFirstPool = 1000, kFirstGroup = 2000;
constexpr uint64_t kTicks = 100'000'000; // a second
constexpr uint32_t kGroupBytes = 64 << 10;
constexpr auto kRest = std::chrono::microseconds(20);

[[noreturn]] __attribute__((format(printf, 1, 2))) void wrong(const char *format, ...) {
  va_list list;
  va_start(list, format);
  std::fprintf(stderr, "mock libhsa-runtime64: ");
  std::vfprintf(stderr, format, list);
  std::fprintf(stderr, "\n");
  std::abort();
}

struct Memory {
  size_t bytes = 0;
  uint64_t pool = 0;
  std::set<uint64_t> agents; // that have access
  bool locked = false;
};

struct MockSignal {
  std::atomic<int64_t> value{0};
};

struct Code {
  mock::Kernel kernel;
  uint32_t argument_bytes = 0;
};

struct MockExecutable {
  bool frozen = false;
  uint64_t agent = 0;
  std::map<std::string, std::unique_ptr<Code>> kernels;
};

struct Reader {
  const char *data;
  size_t size;
};

struct MockQueue {
  Queue shown = {};
  uint64_t agent = 0;
  std::atomic<uint64_t> read{0}, write{0};
  std::vector<uint8_t> ring;
  void (*callback)(int, Queue *, void *) = nullptr;
  void *data = nullptr;
  std::atomic<bool> stop{false}, dead{false}, busy{false};
  bool profiled = false;
  std::thread worker;
};

struct Copy {
  uint8_t *target;
  const uint8_t *source;
  size_t size;
  std::vector<MockSignal *> waits_for;
  MockSignal *completion;
};

std::recursive_mutex mutex; // of all that follows
std::map<std::string, uint64_t> calls;
uint32_t references = 0;
int fail_in = 0;
std::map<uint64_t, Memory> memory; // by address
std::set<MockSignal *> signals;
std::set<MockQueue *> queues;
std::set<MockExecutable *> executables;
std::set<Reader *> readers;
std::set<Code *> codes;
std::map<MockSignal *, DispatchTime> times;
std::deque<Copy> copies;
std::thread engine;
bool engine_runs = false, engine_stops = false, copies_failed = false, faults = false;
int copy_fails_in = 0;
uint32_t launches[kGpus];
bool gone[kGpus];
int (*handler)(const SystemEvent *, void *) = nullptr;
void *handler_data = nullptr;
std::atomic<bool> slow{false};

using Lock = std::unique_lock<std::recursive_mutex>;

void count(const char *name) {
  ++calls[name];
  if (references == 0 && std::strcmp(name, "hsa_init") != 0) wrong("%s before hsa_init", name);
}
#define ENTER(name)                                                                                                    \
  Lock lock(mutex);                                                                                                    \
  count(name)

bool out_of_resources() { return fail_in > 0 && --fail_in == 0; }

template <class T> T &alive(std::set<T *> &all, uint64_t handle, const char *name) {
  auto found = all.find(reinterpret_cast<T *>(handle));
  if (found == all.end()) wrong("%s on a handle that is not alive", name);
  return **found;
}
template <class T> uint64_t handle_of(T *object) { return reinterpret_cast<uint64_t>(object); }

MockSignal &signal_of(Signal s, const char *name) {
  Lock lock(mutex);
  return alive(signals, s.handle, name);
}

bool is_gpu(uint64_t agent) { return agent >= kFirstGpu && agent < kFirstGpu + kGpus; }
void check_agent(uint64_t agent, const char *name) {
  if (agent != kHostAgent && !is_gpu(agent)) wrong("%s on an agent that there is not", name);
}

// The memory around an address; null where there is none.
const Memory *memory_at(uint64_t at, uint64_t *begin) {
  Lock lock(mutex);
  auto found = memory.upper_bound(at);
  if (found == memory.begin()) return nullptr;
  --found;
  *begin = found->first;
  return at < found->first + found->second.bytes ? &found->second : nullptr;
}
const Memory &memory_of(const void *pointer, size_t size, const char *name) {
  uint64_t begin = 0;
  const uint64_t at = reinterpret_cast<uint64_t>(pointer);
  const Memory *m = memory_at(at, &begin);
  if (!m || size > begin + m->bytes - at) wrong("%s of %zu bytes at %p, which is no memory", name, size, pointer);
  return *m;
}
bool of_host(const Memory &m) { return m.locked || m.pool == kHostFine || m.pool == kHostArguments || m.pool == kHostCoarse; }

uint64_t ticks() {
  return uint64_t(std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count()) / (1'000'000'000 / kTicks);
}

// ---- copies ---------------------------------------------------------------------------------------------------------

void run_copies() {
  Lock lock(mutex);
  while (!engine_stops) {
    auto ready = copies.rend();
    for (auto c = copies.rbegin(); c != copies.rend() && ready == copies.rend(); ++c)
      if (std::all_of(c->waits_for.begin(), c->waits_for.end(), [](const MockSignal *s) { return s->value.load() == 0; })) ready = c;
    if (ready == copies.rend() || slow.load()) {
      lock.unlock();
      std::this_thread::sleep_for(kRest);
      lock.lock();
      continue;
    }
    const Copy c = *ready;
    copies.erase(std::next(ready).base());
    if (copy_fails_in > 0 && --copy_fails_in == 0) {
      copies_failed = true;
      c.completion->value.store(-1);
      continue;
    }
    lock.unlock(); // a place that is read or written meanwhile shows itself under the thread sanitizer
    std::memcpy(c.target, c.source, c.size);
    lock.lock();
    c.completion->value.fetch_sub(1);
  }
}

// ---- queues ---------------------------------------------------------------------------------------------------------

void check_header(uint16_t header) {
  const int acquire = header >> 9 & 3, release = header >> 11 & 3;
  if (header >> 13 || acquire > 2 || release > 2) wrong("a packet with the header 0x%x", header);
}

// "" or what went wrong.
std::string dispatch(MockQueue &q, const DispatchPacket &p) {
  if ((p.header >> 9 & 3) == 0 || (p.header >> 11 & 3) == 0) wrong("a dispatch that does not see what others wrote, or does not show what it wrote");
  if (p.setup != 3 || p.reserved || p.reserved_2) wrong("a dispatch of %u dims, or with reserved bits set", p.setup);
  mock::Launch launch;
  uint64_t size = 1;
  for (int i = 0; i < 3; ++i) {
    if (p.workgroup[i] == 0 || p.grid[i] == 0 || p.grid[i] % p.workgroup[i] != 0) wrong("a dispatch of %u work-items in workgroups of %u", p.grid[i], p.workgroup[i]);
    launch.block[size_t(i)] = p.workgroup[i];
    launch.grid[size_t(i)] = p.grid[i] / p.workgroup[i];
    size *= p.workgroup[i];
  }
  if (size > 1024) wrong("a workgroup of %llu work-items", static_cast<unsigned long long>(size));
  Code *code = nullptr;
  {
    Lock lock(mutex);
    code = &alive(codes, p.kernel, "a dispatch");
  }
  if (p.group_bytes < code->kernel.shared_bytes || p.private_bytes < code->kernel.local_bytes) wrong("a dispatch with too little memory for its kernel");
  uint64_t begin = 0;
  if (code->argument_bytes) {
    const uint64_t at = reinterpret_cast<uint64_t>(p.arguments);
    const Memory *m = memory_at(at, &begin);
    if (!m || m->pool != kHostArguments || !m->agents.count(q.agent) || code->argument_bytes > begin + m->bytes - at) wrong("arguments that do not lie in memory for arguments");
    if (at % 16) wrong("arguments at an address that is no multiple of 16");
  }
  const uint8_t *arguments = static_cast<const uint8_t *>(p.arguments);
  uint64_t offset = 0;
  for (uint32_t bytes : code->kernel.param_sizes) {
    offset = (offset + bytes - 1) / bytes * bytes;
    launch.params.emplace_back(arguments + offset, arguments + offset + bytes);
    offset += bytes;
  }
  launch.memory = [agent = q.agent](uint64_t at, uint64_t *first, uint64_t *end) {
    Lock lock(mutex);
    const Memory *m = memory_at(at, first);
    if (!m || !m->agents.count(agent)) return false;
    *end = *first + m->bytes;
    return true;
  };
  return mock::run(code->kernel, launch);
}

void complete(const Signal &s) {
  if (s.handle) signal_of(s, "a packet's completion").value.fetch_sub(1);
}

// The queue is dead from now on.
void lose(MockQueue &q, const std::string &problem) {
  const size_t gpu = size_t(q.agent - kFirstGpu);
  {
    Lock lock(mutex);
    gone[gpu] = true;
  }
  q.dead = true;
  if (problem.empty()) {
    if (q.callback) q.callback(kException, &q.shown, q.data);
    return;
  }
  std::fprintf(stderr, "mock libhsa-runtime64: %s\n", problem.c_str());
  if (!handler) wrong("a fault of memory, and nobody handles it");
  SystemEvent event = {};
  event.agent.handle = q.agent;
  event.address = 0x1234000;
  handler(&event, handler_data);
}

// False where the queue has died.
bool run_packet(MockQueue &q, const uint8_t *packet) {
  const size_t gpu = size_t(q.agent - kFirstGpu);
  DispatchPacket p;
  std::memcpy(&p, packet, sizeof p);
  {
    Lock lock(mutex);
    if (gone[gpu] || (gpu > 0 && ++launches[gpu] >= gpu)) {
      lock.unlock();
      return lose(q, ""), false;
    }
  }
  const uint64_t start = ticks();
  if (const std::string problem = faults ? "a fault that was asked for" : dispatch(q, p); !problem.empty()) return lose(q, problem), false;
  if (p.completion.handle && q.profiled) {
    Lock lock(mutex);
    times[reinterpret_cast<MockSignal *>(p.completion.handle)] = {start, ticks()};
  }
  complete(p.completion);
  return true;
}

// False where the queue ends before.
bool run_barrier(MockQueue &q, const uint8_t *packet) {
  BarrierPacket p;
  std::memcpy(&p, packet, sizeof p);
  if (p.reserved || p.reserved_1 || p.reserved_2) wrong("a barrier with reserved bits set");
  if (p.completion.handle && (p.header >> 11 & 3) != 2) wrong("a barrier that tells others, and does not show them what was written");
  if (p.waits_for[0].handle && (p.header >> 9 & 3) != 2) wrong("a barrier that waits for copies, and does not see what they wrote");
  for (const Signal &s : p.waits_for)
    while (s.handle && signal_of(s, "a barrier").value.load() != 0) {
      if (q.stop || q.dead) return false;
      std::this_thread::sleep_for(kRest);
    }
  complete(p.completion);
  return true;
}

void work(MockQueue *queue) {
  MockQueue &q = *queue;
  const uint32_t size = q.shown.size;
  auto slot = [&](uint64_t at) { return &q.ring[(at & (size - 1)) * 64]; };
  auto header = [&](uint64_t at) { return __atomic_load_n(reinterpret_cast<uint16_t *>(slot(at)), __ATOMIC_ACQUIRE); };
  while (!q.stop) {
    const uint64_t end = uint64_t(signal_of(q.shown.doorbell, "a doorbell").value.load()) + 1, begin = q.read.load();
    q.busy = true;
    if (begin == end || q.dead || slow.load()) {
      q.busy = false;
      std::this_thread::sleep_for(kRest);
      continue;
    }
    if (end > q.write.load()) wrong("the doorbell tells of packet %llu, %llu were written", static_cast<unsigned long long>(end), static_cast<unsigned long long>(q.write.load()));
    if (end - begin > size) wrong("a queue that runs over");
    // Up to the next packet that waits for all before it.
    uint64_t last = begin + 1;
    while (last < end && !(header(last) & kBarrierBit)) ++last;
    for (uint64_t i = begin; i < last; ++i) {
      check_header(header(i));
      const int type = header(i) & 0xff;
      if (type != kTypeDispatch && type != kTypeBarrierAnd) wrong("a packet of type %d", type);
    }
    bool lives = true;
    for (uint64_t i = last; i-- > begin && lives;)
      if ((header(i) & 0xff) == kTypeDispatch) lives = run_packet(q, slot(i));
    for (uint64_t i = begin; i < last && lives; ++i)
      if ((header(i) & 0xff) == kTypeBarrierAnd) lives = run_barrier(q, slot(i));
    for (uint64_t i = begin; i < last && lives; ++i) __atomic_store_n(reinterpret_cast<uint16_t *>(slot(i)), uint16_t(1), __ATOMIC_RELEASE);
    if (lives) q.read.store(last);
    q.busy = false;
  }
}

void check_empty() {
  if (!memory.empty()) wrong("leak: %zu pieces of memory", memory.size());
  if (!queues.empty()) wrong("leak: %zu queues", queues.size());
  if (!signals.empty()) wrong("leak: %zu signals", signals.size());
  if (!executables.empty() || !readers.empty()) wrong("leak: %zu executables, %zu readers", executables.size(), readers.size());
}

int put_text(void *value, const std::string &text) {
  std::memcpy(value, text.c_str(), text.size() + 1);
  return kSuccess;
}
template <class T> int put(void *value, const T &v) {
  std::memcpy(value, &v, sizeof v);
  return kSuccess;
}

} // namespace

EXPORT void mock_hsa_fail_at(int n) {
  Lock lock(mutex);
  fail_in = n;
}
EXPORT uint64_t mock_hsa_calls(const char *name) {
  Lock lock(mutex);
  return calls[name];
}
EXPORT void mock_hsa_fail_copies(int n) {
  Lock lock(mutex);
  copy_fails_in = n;
}
EXPORT void mock_hsa_fault(int on) {
  Lock lock(mutex);
  faults = on != 0;
}
// An event of GPU number `gpu`; what the handler says, or -1 where there is none.
EXPORT int mock_hsa_event(uint32_t type, int gpu) {
  SystemEvent event = {};
  event.type = type;
  event.agent.handle = kFirstGpu + uint64_t(gpu);
  return handler ? handler(&event, handler_data) : -1;
}
EXPORT void mock_hsa_slow(int on) { slow = on != 0; }

EXPORT int hsa_init() {
  ENTER("hsa_init");
  ++references;
  return kSuccess;
}
EXPORT int hsa_shut_down() {
  ENTER("hsa_shut_down");
  if (--references) return kSuccess;
  check_empty();
  handler = nullptr;
  copies_failed = false;
  std::fill(std::begin(launches), std::end(launches), 0u);
  std::fill(std::begin(gone), std::end(gone), false);
  if (!engine_runs) return kSuccess;
  engine_stops = true;
  lock.unlock();
  engine.join();
  engine_runs = engine_stops = false;
  copies.clear();
  return kSuccess;
}
EXPORT int hsa_status_string(int status, const char **text) {
  *text = status == kException ? "HSA_STATUS_ERROR_EXCEPTION" : status == kOutOfResources ? "HSA_STATUS_ERROR_OUT_OF_RESOURCES" : "HSA_STATUS_ERROR";
  return kSuccess;
}
EXPORT int hsa_system_get_info(int attribute, void *value) {
  ENTER("hsa_system_get_info");
  if (attribute == kSystemVersionMajor) return put(value, uint16_t(1));
  if (attribute == kSystemVersionMinor) return put(value, uint16_t(1));
  return attribute == kSystemTimestampFrequency ? put(value, kTicks) : kInvalidArgument;
}
EXPORT int hsa_iterate_agents(int (*callback)(Agent, void *), void *data) {
  ENTER("hsa_iterate_agents");
  for (uint64_t i = 0; i <= kGpus; ++i)
    if (const int status = callback({i ? kFirstGpu + i - 1 : kHostAgent}, data)) return status;
  return kSuccess;
}
EXPORT int hsa_agent_get_info(Agent agent, int attribute, void *value) {
  ENTER("hsa_agent_get_info");
  check_agent(agent.handle, "hsa_agent_get_info");
  const uint64_t gpu = agent.handle - kFirstGpu;
  if (attribute == kAgentDevice) return put(value, is_gpu(agent.handle) ? kDeviceGpu : kDeviceCpu);
  if (!is_gpu(agent.handle)) return kInvalidArgument;
  switch (attribute) {
  case kAgentName: return put_text(value, "gfx942");
  case kAgentProductName: return put_text(value, gpu ? "mock GPU that is lost at dispatch " + std::to_string(gpu) : "mock GPU");
  case kAgentUuid: return put_text(value, gpu == 1 ? "GPU-XX" : "GPU-00000000000000" + std::to_string(10 + gpu));
  case kAgentBdf: return put(value, uint32_t(0x300 + gpu));
  case kAgentWavefrontSize: return put(value, uint32_t(64));
  case kAgentWorkgroupMaxSize: return put(value, uint32_t(1024));
  case kAgentWorkgroupMaxDim: return put(value, std::array<uint16_t, 3>{1024, 1024, 1024});
  case kAgentGridMaxDim: return put(value, std::array<uint32_t, 3>{~0u, ~0u, ~0u});
  case kAgentComputeUnits: return put(value, uint32_t(4));
  case kAgentQueueMaxSize: return put(value, uint32_t(64)); // packets: less than a model needs
  default: return kInvalidArgument;
  }
}
EXPORT int hsa_amd_agent_iterate_memory_pools(Agent agent, int (*callback)(MemoryPool, void *), void *data) {
  ENTER("hsa_amd_agent_iterate_memory_pools");
  check_agent(agent.handle, "hsa_amd_agent_iterate_memory_pools");
  const uint64_t gpu = agent.handle - kFirstGpu;
  const std::vector<uint64_t> pools = is_gpu(agent.handle) ? std::vector<uint64_t>{kFirstGroup + gpu, kFirstPool + gpu} : std::vector<uint64_t>{kHostCoarse, kHostFine, kHostArguments};
  for (uint64_t pool : pools)
    if (const int status = callback({pool}, data)) return status;
  return kSuccess;
}
EXPORT int hsa_amd_memory_pool_get_info(MemoryPool pool, int attribute, void *value) {
  ENTER("hsa_amd_memory_pool_get_info");
  const bool group = pool.handle >= kFirstGroup;
  switch (attribute) {
  case kPoolSegment: return put(value, group ? kSegmentGroup : kSegmentGlobal);
  case kPoolFlags:
    return put(value, pool.handle == kHostFine ? kPoolFineGrained : pool.handle == kHostArguments ? kPoolFineGrained | kPoolKernarg : kPoolCoarseGrained);
  case kPoolSize: return put(value, group ? size_t(kGroupBytes) : size_t(1) << 33);
  case kPoolMayAllocate: return put(value, !group);
  default: return kInvalidArgument;
  }
}
EXPORT int hsa_amd_memory_pool_allocate(MemoryPool pool, size_t size, uint32_t flags, void **out) {
  ENTER("hsa_amd_memory_pool_allocate");
  if (size == 0 || flags || pool.handle >= kFirstGroup) return kInvalidArgument;
  if (out_of_resources() || size > size_t(1) << 33) return kOutOfResources;
  void *pointer = std::aligned_alloc(4096, (size + 4095) / 4096 * 4096);
  if (!pointer) return kOutOfResources;
  Memory &m = memory[reinterpret_cast<uint64_t>(pointer)];
  m.bytes = size;
  m.pool = pool.handle;
  if (pool.handle >= kFirstPool) m.agents.insert(pool.handle - kFirstPool + kFirstGpu);
  *out = pointer;
  return kSuccess;
}
EXPORT int hsa_amd_memory_pool_free(void *pointer) {
  ENTER("hsa_amd_memory_pool_free");
  auto found = memory.find(reinterpret_cast<uint64_t>(pointer));
  if (found == memory.end() || found->second.locked) wrong("hsa_amd_memory_pool_free of what is no memory");
  const auto inside = [&](const void *at) { return reinterpret_cast<uint64_t>(at) - found->first < found->second.bytes; };
  for (const Copy &c : copies)
    if (inside(c.target) || inside(c.source)) wrong("memory is freed that a copy is to use");
  memory.erase(found);
  std::free(pointer);
  return kSuccess;
}
EXPORT int hsa_amd_agents_allow_access(uint32_t n, const Agent *agents, const uint32_t *flags, const void *pointer) {
  ENTER("hsa_amd_agents_allow_access");
  if (flags) wrong("hsa_amd_agents_allow_access with flags");
  auto found = memory.find(reinterpret_cast<uint64_t>(pointer));
  if (found == memory.end()) wrong("hsa_amd_agents_allow_access to what is no memory");
  if (out_of_resources()) return kOutOfResources;
  for (uint32_t i = 0; i < n; ++i) found->second.agents.insert(agents[i].handle);
  return kSuccess;
}
EXPORT int hsa_amd_memory_lock(void *host, size_t size, Agent *agents, int n, void **out) {
  ENTER("hsa_amd_memory_lock");
  if (out_of_resources()) return kOutOfResources;
  uint64_t begin = 0;
  if (!size || memory_at(reinterpret_cast<uint64_t>(host), &begin)) return kInvalidArgument;
  Memory &m = memory[reinterpret_cast<uint64_t>(host)];
  m.bytes = size;
  m.locked = true;
  for (int i = 0; i < n; ++i) m.agents.insert(agents[i].handle);
  *out = host;
  return kSuccess;
}
EXPORT int hsa_amd_memory_unlock(void *host) {
  ENTER("hsa_amd_memory_unlock");
  auto found = memory.find(reinterpret_cast<uint64_t>(host));
  if (found == memory.end() || !found->second.locked) wrong("hsa_amd_memory_unlock of what is not locked");
  memory.erase(found);
  return kSuccess;
}
EXPORT int hsa_amd_memory_async_copy(void *target, Agent target_agent, const void *source, Agent source_agent, size_t size, uint32_t n,
                                     const Signal *waits_for, Signal completion) {
  ENTER("hsa_amd_memory_async_copy");
  check_agent(target_agent.handle, "hsa_amd_memory_async_copy");
  check_agent(source_agent.handle, "hsa_amd_memory_async_copy");
  if (of_host(memory_of(target, size, "a copy to")) != (target_agent.handle == kHostAgent)) wrong("a copy to memory of another agent");
  if (of_host(memory_of(source, size, "a copy from")) != (source_agent.handle == kHostAgent)) wrong("a copy from memory of another agent");
  if (out_of_resources()) return kOutOfResources;
  Copy c = {static_cast<uint8_t *>(target), static_cast<const uint8_t *>(source), size, {}, &alive(signals, completion.handle, "hsa_amd_memory_async_copy")};
  for (uint32_t i = 0; i < n; ++i) c.waits_for.push_back(&alive(signals, waits_for[i].handle, "hsa_amd_memory_async_copy"));
  copies.push_back(std::move(c));
  if (!engine_runs) engine = std::thread(run_copies), engine_runs = true;
  return kSuccess;
}

EXPORT int hsa_signal_create(int64_t value, uint32_t n, const Agent *, Signal *out) {
  ENTER("hsa_signal_create");
  if (n) wrong("hsa_signal_create with consumers");
  if (out_of_resources()) return kOutOfResources;
  MockSignal *s = new MockSignal;
  s->value = value;
  signals.insert(s);
  out->handle = handle_of(s);
  return kSuccess;
}
EXPORT int hsa_signal_destroy(Signal signal) {
  ENTER("hsa_signal_destroy");
  MockSignal *s = &alive(signals, signal.handle, "hsa_signal_destroy");
  for (const Copy &c : copies) // whatever has become of the device
    if (c.completion == s || std::find(c.waits_for.begin(), c.waits_for.end(), s) != c.waits_for.end()) wrong("a signal is destroyed that a copy is to use");
  signals.erase(s);
  times.erase(s);
  delete s;
  return kSuccess;
}
EXPORT void hsa_signal_store_relaxed(Signal s, int64_t value) { signal_of(s, "hsa_signal_store_relaxed").value.store(value); }
EXPORT void hsa_signal_store_screlease(Signal s, int64_t value) { signal_of(s, "hsa_signal_store_screlease").value.store(value); }
EXPORT void hsa_signal_add_relaxed(Signal s, int64_t value) { signal_of(s, "hsa_signal_add_relaxed").value.fetch_add(value); }
EXPORT int64_t hsa_signal_load_scacquire(Signal s) { return signal_of(s, "hsa_signal_load_scacquire").value.load(); }
EXPORT int64_t hsa_signal_wait_scacquire(Signal signal, int condition, int64_t value, uint64_t hint, int) {
  MockSignal &s = signal_of(signal, "hsa_signal_wait_scacquire");
  if (condition != kConditionLess) wrong("hsa_signal_wait_scacquire for condition %d", condition);
  for (const uint64_t begin = ticks();;) {
    const int64_t now = s.value.load();
    if (now < value || ticks() - begin > hint) return now;
    std::this_thread::sleep_for(kRest);
  }
}

EXPORT int hsa_queue_create(Agent agent, uint32_t size, uint32_t type, void (*callback)(int, Queue *, void *), void *data, uint32_t, uint32_t, Queue **out) {
  ENTER("hsa_queue_create");
  if (!is_gpu(agent.handle) || size == 0 || (size & (size - 1)) || size > 64 || type != kQueueSingle) wrong("hsa_queue_create of %u packets, type %u", size, type);
  if (out_of_resources()) return kOutOfResources;
  auto *q = new MockQueue;
  q->agent = agent.handle;
  q->ring.resize(size * 64);
  q->callback = callback;
  q->data = data;
  q->shown.type = type;
  q->shown.features = 1;
  q->shown.base = q->ring.data();
  q->shown.size = size;
  for (uint32_t i = 0; i < size; ++i) q->ring[i * 64] = 1;
  MockSignal *doorbell = new MockSignal;
  doorbell->value = -1;
  signals.insert(doorbell);
  q->shown.doorbell.handle = handle_of(doorbell);
  queues.insert(q);
  q->worker = std::thread(work, q);
  *out = &q->shown;
  return kSuccess;
}
EXPORT int hsa_queue_inactivate(Queue *queue) {
  Lock lock(mutex);
  count("hsa_queue_inactivate");
  MockQueue &q = alive(queues, handle_of(queue), "hsa_queue_inactivate");
  lock.unlock();
  q.dead = true;
  while (q.busy) std::this_thread::sleep_for(kRest);
  return kSuccess;
}
EXPORT int hsa_queue_destroy(Queue *queue) {
  Lock lock(mutex);
  count("hsa_queue_destroy");
  MockQueue *q = &alive(queues, handle_of(queue), "hsa_queue_destroy");
  MockSignal *doorbell = &alive(signals, queue->doorbell.handle, "hsa_queue_destroy");
  lock.unlock(); // what a packet's completion told of may be seen before the packet is counted as read
  for (int i = 0; i < 50'000 && q->busy; ++i) std::this_thread::sleep_for(kRest);
  lock.lock();
  if (!q->dead && !gone[q->agent - kFirstGpu] && !copies_failed && q->read.load() != q->write.load()) wrong("a queue is destroyed that still has work");
  q->stop = true;
  lock.unlock();
  q->worker.join();
  lock.lock();
  queues.erase(q);
  signals.erase(doorbell);
  delete doorbell;
  delete q;
  return kSuccess;
}
EXPORT uint64_t hsa_queue_load_read_index_scacquire(const Queue *queue) {
  ENTER("hsa_queue_load_read_index_scacquire");
  return alive(queues, handle_of(const_cast<Queue *>(queue)), "hsa_queue_load_read_index_scacquire").read.load();
}
EXPORT uint64_t hsa_queue_load_write_index_relaxed(const Queue *queue) {
  ENTER("hsa_queue_load_write_index_relaxed");
  return alive(queues, handle_of(const_cast<Queue *>(queue)), "hsa_queue_load_write_index_relaxed").write.load();
}
EXPORT void hsa_queue_store_write_index_screlease(const Queue *queue, uint64_t value) {
  ENTER("hsa_queue_store_write_index_screlease");
  MockQueue &q = alive(queues, handle_of(const_cast<Queue *>(queue)), "hsa_queue_store_write_index_screlease");
  if (value < q.write.load() || value - q.read.load() > q.shown.size) wrong("a queue of %u packets that runs over", q.shown.size);
  q.write.store(value);
}

EXPORT int hsa_code_object_reader_create_from_memory(const void *data, size_t size, CodeObjectReader *out) {
  ENTER("hsa_code_object_reader_create_from_memory");
  if (out_of_resources()) return kOutOfResources;
  Reader *r = new Reader{static_cast<const char *>(data), size};
  readers.insert(r);
  out->handle = handle_of(r);
  return kSuccess;
}
EXPORT int hsa_code_object_reader_destroy(CodeObjectReader reader) {
  ENTER("hsa_code_object_reader_destroy");
  Reader *r = &alive(readers, reader.handle, "hsa_code_object_reader_destroy");
  readers.erase(r);
  delete r;
  return kSuccess;
}
EXPORT int hsa_executable_create_alt(int, int, const char *, Executable *out) {
  ENTER("hsa_executable_create_alt");
  if (out_of_resources()) return kOutOfResources;
  MockExecutable *e = new MockExecutable;
  executables.insert(e);
  out->handle = handle_of(e);
  return kSuccess;
}
EXPORT int hsa_executable_load_agent_code_object(Executable executable, Agent agent, CodeObjectReader reader, const char *, void *) {
  ENTER("hsa_executable_load_agent_code_object");
  MockExecutable &e = alive(executables, executable.handle, "hsa_executable_load_agent_code_object");
  const Reader &r = alive(readers, reader.handle, "hsa_executable_load_agent_code_object");
  if (e.frozen) wrong("code is loaded into what is frozen");
  if (out_of_resources()) return kOutOfResources;
  const std::string text(r.data, r.size);
  std::map<std::string, mock::Kernel> kernels;
  if (text.compare(0, 4, "MOCK") != 0 || !mock::parse(text.substr(4).c_str(), kernels).empty()) return kInvalidCode;
  e.agent = agent.handle;
  for (auto &[name, kernel] : kernels) {
    auto code = std::make_unique<Code>();
    uint32_t bytes = 0;
    for (uint32_t n : kernel.param_sizes) bytes = (bytes + n - 1) / n * n + n;
    code->argument_bytes = (bytes + 7) / 8 * 8;
    code->kernel = std::move(kernel);
    codes.insert(code.get());
    e.kernels[name + ".kd"] = std::move(code);
  }
  return kSuccess;
}
EXPORT int hsa_executable_freeze(Executable executable, const char *) {
  ENTER("hsa_executable_freeze");
  MockExecutable &e = alive(executables, executable.handle, "hsa_executable_freeze");
  if (e.frozen) wrong("an executable is frozen twice");
  e.frozen = true;
  return kSuccess;
}
EXPORT int hsa_executable_destroy(Executable executable) {
  ENTER("hsa_executable_destroy");
  MockExecutable *e = &alive(executables, executable.handle, "hsa_executable_destroy");
  for (auto &[name, code] : e->kernels) codes.erase(code.get());
  executables.erase(e);
  delete e;
  return kSuccess;
}
EXPORT int hsa_executable_get_symbol_by_name(Executable executable, const char *name, const Agent *agent, ExecutableSymbol *out) {
  ENTER("hsa_executable_get_symbol_by_name");
  MockExecutable &e = alive(executables, executable.handle, "hsa_executable_get_symbol_by_name");
  if (!e.frozen) wrong("a symbol of what is not frozen");
  auto found = e.kernels.find(name);
  if (found == e.kernels.end() || agent->handle != e.agent) return kInvalidName;
  out->handle = handle_of(found->second.get());
  return kSuccess;
}
EXPORT int hsa_executable_symbol_get_info(ExecutableSymbol symbol, int attribute, void *value) {
  ENTER("hsa_executable_symbol_get_info");
  const Code &code = alive(codes, symbol.handle, "hsa_executable_symbol_get_info");
  switch (attribute) {
  case kSymbolKernelObject: return put(value, symbol.handle);
  case kSymbolKernargBytes: return put(value, code.argument_bytes);
  case kSymbolGroupBytes: return put(value, code.kernel.shared_bytes);
  case kSymbolPrivateBytes: return put(value, code.kernel.local_bytes);
  default: return kInvalidArgument;
  }
}
EXPORT int hsa_amd_profiling_set_profiler_enabled(Queue *queue, int enable) {
  ENTER("hsa_amd_profiling_set_profiler_enabled");
  alive(queues, handle_of(queue), "hsa_amd_profiling_set_profiler_enabled").profiled = enable != 0;
  return kSuccess;
}
EXPORT int hsa_amd_profiling_get_dispatch_time(Agent agent, Signal signal, DispatchTime *out) {
  ENTER("hsa_amd_profiling_get_dispatch_time");
  check_agent(agent.handle, "hsa_amd_profiling_get_dispatch_time");
  auto found = times.find(&alive(signals, signal.handle, "hsa_amd_profiling_get_dispatch_time"));
  if (found == times.end()) return kError;
  *out = found->second;
  return kSuccess;
}
EXPORT int hsa_amd_register_system_event_handler(int (*callback)(const SystemEvent *, void *), void *data) {
  ENTER("hsa_amd_register_system_event_handler");
  if (handler) return kError;
  handler = callback;
  handler_data = data;
  return kSuccess;
}
