// Memory on the device comes from a pool of the driver's own, where the library and the device have such. What is released stays in
// it, up to a bound, for what is allocated next: the system is not asked, and no other stream of the device is waited for, as MemFree does.
//
// Allocations and frees are ordered on a stream that has nothing else, and each is waited for. So memory may be used on any stream
// once `take` has returned; and what is given back is idle already (the contract of <ingot/driver.h>): which streams used it need
// not be known. The wait is short, as nothing is ever ahead on that stream.
#include "src/drivers/stream/stream.h"

namespace ingot::stream {

Code open_pool(ingot_driver_device_t &d, Error *error) {
  const Api &api = d.api;
  const Vendor &vendor = *d.vendor;
  if (d.pool_bytes < 0) d.pool_bytes = vendor.pool_share ? int64_t(d.physical.memory_bytes / vendor.pool_share) : 0;
  const bool known = api.MemPoolCreate && api.MemPoolDestroy && api.MemPoolSetAttribute && api.MemAllocFromPool && api.MemFreeAsync;
  if (!d.pool_bytes || !known) return INGOT_OK;
  int has_pools = 0; // libraries before pools do not know the question either
  if (api.DeviceGetAttribute(&has_pools, vendor.memory_pools, d.physical.handle) != kSuccess || !has_pools) return INGOT_OK;
  const PoolProperties properties = {kPoolPinned, /*handles=*/0, kPoolOnDevice, d.physical.handle, {}};
  uint64_t keeps = uint64_t(d.pool_bytes);
  INGOT_STREAM_TRY(d, api.StreamCreate(&d.pool_stream, kStreamNonBlocking), "making a stream");
  int result = api.MemPoolCreate(&d.pool, &properties);
  if (result == kSuccess) result = api.MemPoolSetAttribute(d.pool, kPoolKeeps, &keeps);
  if (result == kSuccess) return INGOT_OK;
  close_pool(d);
  if (result == kOutOfMemory || is_loss(result)) return failed(d, error, result, "making a memory pool");
  return INGOT_OK; // it says that it has pools, and makes none: memory comes from the system then
}

void close_pool(ingot_driver_device_t &d) {
  if (d.pool) d.api.MemPoolDestroy(d.pool); // what it keeps goes back to the system
  if (d.pool_stream) d.api.StreamDestroy(d.pool_stream);
  d.pool = nullptr;
  d.pool_stream = nullptr;
}

Code take(ingot_driver_device_t &d, size_t bytes, Address *address, Error *error) {
  if (!d.pool) {
    INGOT_STREAM_TRY(d, d.api.MemAlloc(address, bytes), "allocating device memory");
    return INGOT_OK;
  }
  INGOT_STREAM_TRY(d, d.api.MemAllocFromPool(address, bytes, d.pool, d.pool_stream), "allocating device memory");
  INGOT_STREAM_TRY(d, d.api.StreamSynchronize(d.pool_stream), "waiting for device memory");
  return INGOT_OK;
}

void give_back(ingot_driver_device_t &d, Address address) {
  if (!d.pool) {
    d.api.MemFree(address);
    return;
  }
  d.api.MemFreeAsync(address, d.pool_stream);
  d.api.StreamSynchronize(d.pool_stream); // this is when a pool gives back what is above its bound
}

} // namespace ingot::stream
