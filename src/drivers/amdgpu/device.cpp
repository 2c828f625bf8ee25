// Finding, opening and describing devices; what becomes of them when they fail.
#include <dlfcn.h>
#include <stdio.h>

#include "src/drivers/amdgpu/amdgpu.h"

namespace ingot::amdgpu {
namespace {

constexpr uint32_t kMostAgents = 64;

platform::Mutex open_mutex;
ingot_driver_device_t *open_devices = nullptr; // under it

// Faults of memory come here, for all of the process: without a handler the library ends it.
int on_event(const SystemEvent *event, void *) {
  platform::Lock lock(open_mutex);
  int handled = kError; // others' devices are others' matter
  for (ingot_driver_device_t *d = open_devices; d; d = d->next)
    if ((event->type == kEventMemoryFault || event->type == kEventException) && d->physical.agent.handle == event->agent.handle) {
      if (event->type == kEventMemoryFault) d->fault_address.store(event->address ? event->address : 1, std::memory_order_relaxed);
      lose(*d, kException);
      handled = kSuccess;
    }
  return handled;
}

void enter(ingot_driver_device_t &d) {
  platform::Lock lock(open_mutex);
  if (!open_devices) d.api.amd_register_system_event_handler(on_event, nullptr); // refused where the application has one of its own
  d.next = open_devices;
  open_devices = &d;
}

void leave(ingot_driver_device_t &d) {
  platform::Lock lock(open_mutex);
  for (ingot_driver_device_t **at = &open_devices; *at; at = &(*at)->next)
    if (*at == &d) {
      *at = d.next;
      return;
    }
}

Code find_library(Api *api, Error *error) {
  void *const library = dlopen("libhsa-runtime64.so.1", RTLD_NOW | RTLD_LOCAL); // it stays loaded: it has threads
  if (!library) return fail(error, INGOT_UNAVAILABLE, "amdgpu: no libhsa-runtime64.so.1 on this machine: install ROCm's runtime");
  const char *missing = nullptr;
#define INGOT_HSA_FN(result, member, arguments)                                                                        \
  api->member = reinterpret_cast<decltype(api->member)>(dlsym(library, "hsa_" #member));                               \
  if (!api->member && !missing) missing = "hsa_" #member;
#include "src/drivers/amdgpu/functions.inc"
#undef INGOT_HSA_FN
  if (missing) return fail(error, INGOT_UNAVAILABLE, "amdgpu: libhsa-runtime64.so.1 has no %s: it is too old", missing);
  const int status = api->init();
  if (status != kSuccess) return fail(error, INGOT_UNAVAILABLE, "amdgpu: no GPU that the runtime can use (status 0x%x)", unsigned(status));
  return INGOT_OK;
}

struct Agents {
  const Api *api;
  Agent gpus[kMostAgents], host;
  uint32_t count = 0;
  bool has_host = false;
};

// Pre: the library is initialised.
Code find_agents(const Api &api, Agents *out, Error *error) {
  out->api = &api;
  const int status = api.iterate_agents(
      [](Agent agent, void *data) {
        Agents &a = *static_cast<Agents *>(data);
        uint32_t kind = ~0u;
        if (a.api->agent_get_info(agent, kAgentDevice, &kind) != kSuccess) return kSuccess;
        if (kind == kDeviceCpu && !a.has_host) a.host = agent, a.has_host = true;
        if (kind == kDeviceGpu && a.count < kMostAgents) a.gpus[a.count++] = agent;
        return kSuccess;
      },
      out);
  if (status != kSuccess || out->count == 0 || !out->has_host)
    return fail(error, INGOT_UNAVAILABLE, "amdgpu: no device (status 0x%x)", unsigned(status));
  return INGOT_OK;
}

struct Pools {
  const Api *api;
  MemoryPool coarse = {}, fine = {}, arguments = {};
  size_t coarse_bytes = 0, group_bytes = 0;
};

int look_at_pool(MemoryPool pool, void *data) {
  Pools &p = *static_cast<Pools *>(data);
  uint32_t segment = ~0u, flags = 0;
  bool may_allocate = false;
  size_t bytes = 0;
  const auto info = [&](int attribute, void *value) { return p.api->amd_memory_pool_get_info(pool, attribute, value) == kSuccess; };
  if (!info(kPoolSegment, &segment) || !info(kPoolSize, &bytes)) return kSuccess;
  if (segment == kSegmentGroup) p.group_bytes = bytes;
  if (segment != kSegmentGlobal || !info(kPoolFlags, &flags) || !info(kPoolMayAllocate, &may_allocate) || !may_allocate) return kSuccess;
  if ((flags & kPoolCoarseGrained) && !p.coarse.handle) p.coarse = pool, p.coarse_bytes = bytes;
  if ((flags & kPoolFineGrained) && !p.fine.handle) p.fine = pool;
  if ((flags & kPoolKernarg) && !p.arguments.handle) p.arguments = pool;
  return kSuccess;
}

Code look_at(const Api &api, Agent agent, Agent host, Physical *out, Error *error) {
  Physical &p = *out;
  p = {};
  p.agent = agent;
  p.host = host;
  int wrong = 0;
  const auto ask = [&](int attribute, void *value) {
    if (!wrong) wrong = api.agent_get_info(agent, attribute, value);
  };
  uint32_t place = 0;
  ask(kAgentName, p.architecture);
  ask(kAgentProductName, p.name);
  ask(kAgentUuid, p.id);
  ask(kAgentBdf, &place);
  ask(kAgentWavefrontSize, &p.wavefront);
  ask(kAgentWorkgroupMaxSize, &p.max_workgroup);
  ask(kAgentWorkgroupMaxDim, p.max_dim);
  ask(kAgentGridMaxDim, p.max_grid);
  ask(kAgentComputeUnits, &p.compute_units);
  ask(kAgentQueueMaxSize, &p.queue_packets);
  if (!wrong) wrong = api.system_get_info(kSystemTimestampFrequency, &p.frequency);
  Pools own, shared;
  own.api = shared.api = &api;
  if (!wrong) wrong = api.amd_agent_iterate_memory_pools(agent, look_at_pool, &own);
  if (!wrong) wrong = api.amd_agent_iterate_memory_pools(host, look_at_pool, &shared);
  if (wrong) return fail(error, INGOT_UNAVAILABLE, "amdgpu: a device does not say what it is (status 0x%x)", unsigned(wrong));
  p.device_pool = own.coarse;
  p.host_pool = shared.fine;
  p.argument_pool = shared.arguments;
  p.memory_bytes = own.coarse_bytes;
  p.group_bytes = uint32_t(own.group_bytes);
  if (!p.device_pool.handle || !p.host_pool.handle || !p.argument_pool.handle || !p.frequency || !is_power_of_two(p.queue_packets))
    return fail(error, INGOT_UNAVAILABLE, "amdgpu: %.60s has no memory or no queue for kernels", p.name);
  if (strcmp(p.id, "GPU-XX") == 0) snprintf(p.id, sizeof p.id, "bdf-%04x", place); // it has no UUID
  return INGOT_OK;
}

Code open_into(ingot_driver_device_t &d, const char *id, uint32_t ordinal, const char *options, Error *error) {
  if (options[0]) return fail(error, INGOT_INVALID_ARGUMENT, "amdgpu: unknown option '%.60s': there are none", options);
  INGOT_TRY(find_library(&d.api, error));
  d.initialised = true;
  Agents agents;
  INGOT_TRY(find_agents(d.api, &agents, error));
  if (id) {
    ordinal = INGOT_NONE;
    for (uint32_t i = 0; i < agents.count && ordinal == INGOT_NONE; ++i) {
      INGOT_TRY(look_at(d.api, agents.gpus[i], agents.host, &d.physical, error));
      if (strings_equal(d.physical.id, id)) ordinal = i;
    }
    if (ordinal == INGOT_NONE) return fail(error, INGOT_NOT_FOUND, "amdgpu: no device '%.60s': `ingot list-devices amdgpu` lists them", id);
  }
  if (ordinal >= agents.count) return fail(error, INGOT_NOT_FOUND, "amdgpu: no device %u: there are %u", ordinal, agents.count);
  return look_at(d.api, agents.gpus[ordinal], agents.host, &d.physical, error);
}

} // namespace

Code failed(ingot_driver_device_t &device, Error *error, int status, const char *what) {
  const char *text = nullptr;
  if (device.lost.load(std::memory_order_acquire)) return lost(device, error, what);
  if (status == kOutOfResources || status == kInvalidAllocation) return fail(error, INGOT_OUT_OF_MEMORY, "amdgpu: %s: out of memory", what);
  if (device.api.status_string(status, &text) != kSuccess || !text) text = "a status without a name";
  return fail(error, INGOT_INTERNAL, "amdgpu: %s failed with status 0x%x, %.200s", what, unsigned(status), text);
}

void lose(ingot_driver_device_t &device, int status) {
  int none = kSuccess;
  device.queue_status.compare_exchange_strong(none, status, std::memory_order_relaxed);
  device.lost.store(true, std::memory_order_release);
}

Code lost(ingot_driver_device_t &device, Error *error, const char *what) {
  const char *text = nullptr;
  if (const uint64_t address = device.fault_address.load(std::memory_order_relaxed))
    return fail(error, INGOT_DEVICE_LOST, "amdgpu: %s: a kernel touched memory that is not there, at 0x%llx; open the device again for a new start", what,
                (unsigned long long)address);
  if (device.api.status_string(device.queue_status.load(std::memory_order_relaxed), &text) != kSuccess || !text) text = "a status without a name";
  return fail(error, INGOT_DEVICE_LOST, "amdgpu: %s: the device was lost (%.200s); open it again for a new start", what, text);
}

Code probe(const ingot_driver_host_t *, Error *error) {
  Api api;
  Agents agents;
  INGOT_TRY(find_library(&api, error));
  const Code code = find_agents(api, &agents, error);
  api.shut_down();
  return code;
}

Code enumerate(const ingot_driver_host_t *, ingot_driver_visit_t visit, void *user, Error *error) {
  Api api;
  Agents agents;
  INGOT_TRY(find_library(&api, error));
  Code code = find_agents(api, &agents, error);
  for (uint32_t i = 0; i < agents.count && code == INGOT_OK; ++i) {
    Physical p;
    code = look_at(api, agents.gpus[i], agents.host, &p, error);
    if (code == INGOT_OK) visit(user, p.id, p.name);
  }
  api.shut_down();
  return code;
}

Code open_device(const ingot_driver_host_t *host, const char *id, uint32_t ordinal, const char *options, ingot_driver_device_t **out, Error *error) {
  ingot_driver_device_t *d = create_object<ingot_driver_device_t>(host->allocator, "a device", error);
  if (!d) return INGOT_OUT_OF_MEMORY;
  d->allocator = host->allocator;
  d->now_ns = host->now_ns;
  if (const Code code = open_into(*d, id, ordinal, options, error)) {
    destroy_object(host->allocator, d);
    return code;
  }
  enter(*d);
  *out = d;
  return INGOT_OK;
}

void close_device(ingot_driver_device_t *device) {
  leave(*device);
  destroy_object(device->allocator, device);
}

Code describe(ingot_driver_device_t *d, ingot_driver_visit_t visit, void *user, Error *) {
  const Physical &p = d->physical;
  char text[64];
  const auto number = [&](const char *key, uint64_t value) {
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    visit(user, key, text);
  };
  uint16_t major = 0, minor = 0;
  d->api.system_get_info(kSystemVersionMajor, &major);
  d->api.system_get_info(kSystemVersionMinor, &minor);
  visit(user, "name", p.name);
  visit(user, "architecture", p.architecture);
  snprintf(text, sizeof text, "HSA %u.%u", major, minor);
  visit(user, "driver", text);
  number("subgroup size", p.wavefront);
  number("multiprocessors", p.compute_units);
  number("memory bytes", p.memory_bytes);
  visit(user, "memory", "discrete");
  number("workgroup invocations", p.max_workgroup);
  number("workgroup memory bytes", p.group_bytes);
  return INGOT_OK;
}

void properties(ingot_driver_device_t *d, ingot_driver_properties_t *out) {
  out->unified_memory = false;
  out->binding_alignment = 16; // of the widest access of a kernel
  out->max_allocation = d->physical.memory_bytes;
}

} // namespace ingot::amdgpu

using namespace ingot::amdgpu;

ingot_driver_device_t::~ingot_driver_device_t() {
  settle_transfers(*this);
  if (staging) release(this, staging);
  for (Signal s : staged)
    if (s.handle) api.signal_destroy(s);
  if (initialised) api.shut_down();
}

extern "C" {
extern const ingot_driver_t ingot_driver_amdgpu;
const ingot_driver_t ingot_driver_amdgpu = {
    sizeof(ingot_driver_t),
    INGOT_DRIVER_ABI,
    "amdgpu",
    "code objects on AMD GPUs through HSA queues (experimental)",
    /*host_memory=*/false,
    /*automatic=*/false,
    /*priority=*/10,
    probe,
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
