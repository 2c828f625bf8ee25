// Memory, and transfers through a bounded block of the host's memory in two halves: one is filled while the other travels.
#include "src/drivers/amdgpu/amdgpu.h"

namespace ingot::amdgpu {
namespace {

constexpr uint64_t kHalf = kStagingBytes / 2;

// Pre: transfer_mutex is held.
Code ensure_staging(ingot_driver_device_t &d, Error *error) {
  for (Signal &s : d.staged)
    if (!s.handle) INGOT_HSA_TRY(d, d.api.signal_create(0, 0, nullptr, &s), "making a signal");
  return d.staging ? INGOT_OK : allocate(&d, INGOT_MEMORY_UPLOAD, kStagingBytes, &d.staging, error);
}

Code check_lost(ingot_driver_device_t &d, const char *what, Error *error) {
  return d.lost.load(std::memory_order_acquire) ? lost(d, error, what) : INGOT_OK;
}

// `pool` is the host's, or the device's own.
Code allocate_from(ingot_driver_device_t &d, MemoryPool pool, bool of_host, uint64_t size, ingot_driver_memory_t **out, Error *error) {
  INGOT_TRY(check_lost(d, "allocating", error));
  ingot_driver_memory_t *m = create_object<ingot_driver_memory_t>(d.allocator, "device memory", error);
  if (!m) return INGOT_OUT_OF_MEMORY;
  m->size = size;
  const auto fill = [&]() -> Code {
    void *pointer = nullptr; // the last access of a kernel may be a whole vector
    INGOT_HSA_TRY(d, d.api.amd_memory_pool_allocate(pool, size_t(align_up(size, 16)), 0, &pointer), of_host ? "allocating host memory" : "allocating device memory");
    m->address = static_cast<uint8_t *>(pointer);
    if (!of_host) return INGOT_OK;
    m->host = m->address;
    INGOT_HSA_TRY(d, d.api.amd_agents_allow_access(1, &d.physical.agent, nullptr, pointer), "giving the device access to host memory");
    return INGOT_OK;
  };
  if (const Code code = fill()) {
    release(&d, m);
    return code;
  }
  *out = m;
  return INGOT_OK;
}

} // namespace

Code allocate(ingot_driver_device_t *device, ingot_driver_memory_kind_t kind, uint64_t size, ingot_driver_memory_t **out, Error *error) {
  const bool of_host = kind != INGOT_MEMORY_DEVICE;
  return allocate_from(*device, of_host ? device->physical.host_pool : device->physical.device_pool, of_host, size, out, error);
}

Code allocate_arguments(ingot_driver_device_t &d, uint64_t size, ingot_driver_memory_t **out, Error *error) {
  return allocate_from(d, d.physical.argument_pool, true, size, out, error);
}

Code import_host(ingot_driver_device_t *device, void *host, uint64_t size, ingot_driver_memory_t **out, Error *error) {
  ingot_driver_device_t &d = *device;
  INGOT_TRY(check_lost(d, "importing memory", error));
  if (uintptr_t(host) % 16 != 0)
    return fail(error, INGOT_UNIMPLEMENTED, "amdgpu: host memory at %p cannot be imported: the device needs a multiple of 16", host);
  ingot_driver_memory_t *m = create_object<ingot_driver_memory_t>(d.allocator, "imported memory", error);
  if (!m) return INGOT_OUT_OF_MEMORY;
  void *pointer = nullptr;
  const int status = d.api.amd_memory_lock(host, size_t(size), &d.physical.agent, 1, &pointer);
  if (status != kSuccess) {
    destroy_object(d.allocator, m);
    return fail(error, INGOT_UNIMPLEMENTED, "amdgpu: host memory at %p of %llu bytes cannot be imported (status 0x%x): allocate a buffer and write to it", host,
                (unsigned long long)size, unsigned(status));
  }
  m->address = static_cast<uint8_t *>(pointer);
  m->host = static_cast<uint8_t *>(host);
  m->size = size;
  m->locked = true;
  *out = m;
  return INGOT_OK;
}

void release(ingot_driver_device_t *device, ingot_driver_memory_t *m) {
  if (m->locked) device->api.amd_memory_unlock(m->host);
  else if (m->address) device->api.amd_memory_pool_free(m->address);
  destroy_object(device->allocator, m);
}

Code map(ingot_driver_device_t *, ingot_driver_memory_t *memory, void **out, Error *) {
  *out = memory->host;
  return INGOT_OK;
}
void unmap(ingot_driver_device_t *, ingot_driver_memory_t *) {}

Code wait_signal(ingot_driver_device_t &d, Signal signal, const char *what, Error *error) {
  for (;;) {
    const int64_t value = d.api.signal_wait_scacquire(signal, kConditionLess, 1, d.physical.frequency / 50, kWaitBlocked);
    if (value == 0) return INGOT_OK;
    if (value < 0) lose(d, kError); // how a copy says that it has failed
    INGOT_TRY(check_lost(d, what, error));
  }
}

void settle(ingot_driver_device_t &d, Signal signal) {
  for (uint32_t round = 0; signal.handle && (round < 50 || !d.lost.load(std::memory_order_acquire)); ++round)
    if (d.api.signal_wait_scacquire(signal, kConditionLess, 1, d.physical.frequency / 50, kWaitBlocked) < 1) return;
}

void settle_transfers(ingot_driver_device_t &d) {
  for (Signal s : d.staged) settle(d, s);
}

namespace {
struct Settled {
  explicit Settled(ingot_driver_device_t &device) : d(device) {}
  ~Settled() { settle_transfers(d); }
  ingot_driver_device_t &d;
};
} // namespace

Code write(ingot_driver_device_t *device, ingot_driver_memory_t *memory, uint64_t offset, const void *data, size_t length, Error *error) {
  ingot_driver_device_t &d = *device;
  INGOT_TRY(check_lost(d, "a transfer", error));
  platform::Lock lock(d.transfer_mutex);
  INGOT_TRY(ensure_staging(d, error));
  const Settled settled(d); // nothing of the caller's is in use afterwards, whatever happens
  uint32_t half = 0;
  for (size_t at = 0; at < length; half ^= 1) {
    const size_t n = length - at < kHalf ? length - at : size_t(kHalf);
    uint8_t *const staged = d.staging->host + half * kHalf;
    INGOT_TRY(wait_signal(d, d.staged[half], "a transfer", error));
    memcpy(staged, static_cast<const uint8_t *>(data) + at, n);
    d.api.signal_store_relaxed(d.staged[half], 1);
    const int status = d.api.amd_memory_async_copy(memory->address + offset + at, memory->host ? d.physical.host : d.physical.agent, staged,
                                                   d.physical.host, n, 0, nullptr, d.staged[half]);
    if (status != kSuccess) d.api.signal_store_relaxed(d.staged[half], 0);
    INGOT_HSA_TRY(d, status, "a transfer");
    at += n;
  }
  for (Signal s : d.staged) INGOT_TRY(wait_signal(d, s, "a transfer", error));
  return INGOT_OK;
}

Code read(ingot_driver_device_t *device, ingot_driver_memory_t *memory, uint64_t offset, void *data, size_t length, Error *error) {
  ingot_driver_device_t &d = *device;
  INGOT_TRY(check_lost(d, "a transfer", error));
  platform::Lock lock(d.transfer_mutex);
  INGOT_TRY(ensure_staging(d, error));
  const Settled settled(d);
  // Piece k + 1 is under way while piece k is copied out.
  const auto piece = [&](size_t at) { return length - at < kHalf ? length - at : size_t(kHalf); };
  const auto send = [&](size_t at, uint32_t half) -> Code {
    INGOT_TRY(wait_signal(d, d.staged[half], "a transfer", error)); // where an earlier transfer failed half way
    d.api.signal_store_relaxed(d.staged[half], 1);
    const int status = d.api.amd_memory_async_copy(d.staging->host + half * kHalf, d.physical.host, memory->address + offset + at,
                                                   memory->host ? d.physical.host : d.physical.agent, piece(at), 0, nullptr, d.staged[half]);
    if (status != kSuccess) d.api.signal_store_relaxed(d.staged[half], 0);
    INGOT_HSA_TRY(d, status, "a transfer");
    return INGOT_OK;
  };
  if (length) INGOT_TRY(send(0, 0));
  uint32_t half = 0;
  for (size_t at = 0; at < length; half ^= 1) {
    const size_t n = piece(at);
    if (at + n < length) INGOT_TRY(send(at + n, half ^ 1));
    INGOT_TRY(wait_signal(d, d.staged[half], "a transfer", error));
    memcpy(static_cast<uint8_t *>(data) + at, d.staging->host + half * kHalf, n);
    at += n;
  }
  return INGOT_OK;
}

} // namespace ingot::amdgpu
