// Memory, and transfers through a bounded block of pinned memory in two halves: one is filled while the other travels.
#include "src/drivers/stream/stream.h"

namespace ingot::stream {
namespace {

constexpr uint64_t kHalf = kStagingBytes / 2;

// Pre: transfer_mutex is held, the context is current.
Code ensure_staging(ingot_driver_device_t &d, Error *error) {
  if (!d.transfer_stream) INGOT_STREAM_TRY(d, d.api.StreamCreate(&d.transfer_stream, kStreamNonBlocking), "making a stream");
  for (Event &e : d.staged)
    if (!e) INGOT_STREAM_TRY(d, d.api.EventCreate(&e, kEventNoTiming), "making an event");
  return d.staging ? INGOT_OK : allocate(&d, INGOT_MEMORY_UPLOAD, kStagingBytes, &d.staging, error);
}

Code check_lost(ingot_driver_device_t &d, Error *error) {
  if (!d.lost.load(std::memory_order_relaxed)) return INGOT_OK;
  return fail(error, INGOT_DEVICE_LOST, "%s: the device was lost; open it again for a new start", d.vendor->name);
}

Code allocate_into(ingot_driver_device_t &d, ingot_driver_memory_kind_t kind, ingot_driver_memory_t &m, Error *error) {
  const size_t bytes = size_t(align_up(m.size, 16)); // the last access of a kernel may be a whole vector
  if (kind == INGOT_MEMORY_DEVICE) return take(d, bytes, &m.address, error);
  void *pointer = nullptr;
  INGOT_STREAM_TRY(d, d.api.HostAlloc(&pointer, bytes, kHostPortable | kHostMapped), "allocating pinned memory");
  m.host = static_cast<uint8_t *>(pointer);
  INGOT_STREAM_TRY(d, d.api.HostGetDevicePointer(&m.address, pointer, 0), "mapping pinned memory");
  return INGOT_OK;
}

} // namespace

Code allocate(ingot_driver_device_t *device, ingot_driver_memory_kind_t kind, uint64_t size, ingot_driver_memory_t **out, Error *error) {
  INGOT_TRY(check_lost(*device, error));
  ingot_driver_memory_t *m = create_object<ingot_driver_memory_t>(device->allocator, "device memory", error);
  if (!m) return INGOT_OUT_OF_MEMORY;
  m->size = size;
  Current current(*device);
  if (const Code code = allocate_into(*device, kind, *m, error)) {
    release(device, m);
    return code;
  }
  *out = m;
  return INGOT_OK;
}

Code import_host(ingot_driver_device_t *device, void *host, uint64_t size, ingot_driver_memory_t **out, Error *error) {
  ingot_driver_device_t &d = *device;
  INGOT_TRY(check_lost(d, error));
  ingot_driver_memory_t *m = create_object<ingot_driver_memory_t>(d.allocator, "imported memory", error);
  if (!m) return INGOT_OUT_OF_MEMORY;
  m->size = size;
  m->owner = ingot_driver_memory_t::registered;
  Current current(d);
  const auto fill = [&]() -> Code {
    if (uintptr_t(host) % 16 != 0)
      return fail(error, INGOT_UNIMPLEMENTED, "%s: host memory at %p cannot be imported: the device needs a multiple of 16", d.vendor->name, host);
    const int result = d.api.HostRegister(host, size_t(size), kHostPortable | kHostMapped);
    if (is_loss(result)) return failed(d, error, result, "registering host memory");
    if (result != kSuccess)
      return fail(error, INGOT_UNIMPLEMENTED, "%s: host memory at %p of %llu bytes cannot be imported (code %d): allocate a buffer and write to it",
                  d.vendor->name, host, (unsigned long long)size, result);
    m->host = static_cast<uint8_t *>(host);
    INGOT_STREAM_TRY(d, d.api.HostGetDevicePointer(&m->address, host, 0), "mapping host memory");
    return INGOT_OK;
  };
  if (const Code code = fill()) {
    release(device, m);
    return code;
  }
  *out = m;
  return INGOT_OK;
}

void release(ingot_driver_device_t *device, ingot_driver_memory_t *m) {
  Current current(*device);
  if (m->owner == ingot_driver_memory_t::own && m->host)
    device->api.HostFree(m->host);
  else if (m->owner == ingot_driver_memory_t::own && m->address)
    give_back(*device, m->address);
  else if (m->owner == ingot_driver_memory_t::registered && m->host)
    device->api.HostUnregister(m->host);
  destroy_object(device->allocator, m);
}

Code map(ingot_driver_device_t *, ingot_driver_memory_t *memory, void **out, Error *) {
  *out = memory->host;
  return INGOT_OK;
}
void unmap(ingot_driver_device_t *, ingot_driver_memory_t *) {}

Code write(ingot_driver_device_t *device, ingot_driver_memory_t *memory, uint64_t offset, const void *data, size_t length, Error *error) {
  ingot_driver_device_t &d = *device;
  INGOT_TRY(check_lost(d, error));
  platform::Lock lock(d.transfer_mutex);
  Current current(d);
  INGOT_TRY(ensure_staging(d, error));
  uint32_t half = 0;
  for (size_t at = 0; at < length; half ^= 1) {
    const size_t n = length - at < kHalf ? length - at : size_t(kHalf);
    INGOT_STREAM_TRY(d, d.api.EventSynchronize(d.staged[half]), "waiting for a transfer");
    memcpy(d.staging->host + half * kHalf, static_cast<const uint8_t *>(data) + at, n);
    INGOT_STREAM_TRY(d, d.api.CopyAsync(memory->address + offset + at, d.staging->address + half * kHalf, n, d.transfer_stream), "a transfer");
    INGOT_STREAM_TRY(d, d.api.EventRecord(d.staged[half], d.transfer_stream), "recording an event");
    at += n;
  }
  INGOT_STREAM_TRY(d, d.api.StreamSynchronize(d.transfer_stream), "waiting for a transfer");
  return INGOT_OK;
}

Code read(ingot_driver_device_t *device, ingot_driver_memory_t *memory, uint64_t offset, void *data, size_t length, Error *error) {
  ingot_driver_device_t &d = *device;
  INGOT_TRY(check_lost(d, error));
  platform::Lock lock(d.transfer_mutex);
  Current current(d);
  INGOT_TRY(ensure_staging(d, error));
  // Piece k + 1 is under way while piece k is copied out.
  const auto piece = [&](size_t at) { return length - at < kHalf ? length - at : size_t(kHalf); };
  const auto send = [&](size_t at, uint32_t half) -> Code {
    INGOT_STREAM_TRY(d, d.api.CopyAsync(d.staging->address + half * kHalf, memory->address + offset + at, piece(at), d.transfer_stream), "a transfer");
    INGOT_STREAM_TRY(d, d.api.EventRecord(d.staged[half], d.transfer_stream), "recording an event");
    return INGOT_OK;
  };
  if (length) INGOT_TRY(send(0, 0));
  uint32_t half = 0;
  for (size_t at = 0; at < length; half ^= 1) {
    const size_t n = piece(at);
    if (at + n < length) INGOT_TRY(send(at + n, half ^ 1));
    INGOT_STREAM_TRY(d, d.api.EventSynchronize(d.staged[half]), "waiting for a transfer");
    memcpy(static_cast<uint8_t *>(data) + at, d.staging->host + half * kHalf, n);
    at += n;
  }
  return INGOT_OK;
}

} // namespace ingot::stream
