// The objects behind the C handles other than archives, sessions and contexts.
#pragma once

#include <ingot/driver.h>

#include "src/runtime/archive/archive.h"
#include "src/runtime/base.h"

namespace ingot {

// A piece of memory on a device (memory.h). Host memory: `host` alone. A driver's own: `memory`, and `host` where mapped.
struct Block {
  uint8_t *host = nullptr;
  ingot_driver_memory_t *memory = nullptr;
  uint64_t size = 0;
  uint64_t serial = 0; // of `memory`: a later one may have the same handle, but is another place
};

} // namespace ingot

struct ingot_instance_t {
  ingot::References references;
  ingot_allocator_t allocator = {};
};

struct ingot_device_t {
  ~ingot_device_t();
  ingot::References references;
  ingot_allocator_t allocator = {};
  const ingot_driver_t *driver = nullptr;
  ingot_driver_device_t *device = nullptr;
  ingot_driver_properties_t properties = {}; // of drivers with memory of their own
  mutable std::atomic<uint64_t> memories{0}; // made so far: their serial numbers
  char uri[704] = {};
};

struct ingot_buffer_t {
  ingot::References references;
  ingot_device_t *device = nullptr; // one reference
  ingot::Block block;
  bool owned = false; // else `block` wraps memory of the caller's
};

namespace ingot {

ingot_driver_host_t driver_host(const ingot_allocator_t &allocator, const ingot_executor_t *executor = nullptr);
// INGOT_OK where the driver's library is there and its header matches ours.
Code probe_driver(const ingot_driver_t &driver, const ingot_driver_host_t &host, Error *error);

// The driver's view of one variant; lives as long as this object.
class DriverCode {
public:
  Code build(const ingot_archive_t &archive, uint32_t variant, const ingot_allocator_t &allocator, Error *error);
  const ingot_driver_code_t &get() const { return code_; }

private:
  ingot_driver_code_t code_ = {};
  Array<ingot_driver_image_t> images_;
  Array<ingot_driver_kernel_t> kernels_;
  Array<ingot_driver_code_version_t> versions_;
};

// Can the device run the variant? The reason is in *error.
Code explain_variant(const ingot_archive_t &archive, uint32_t variant, const ingot_device_t &device, Error *error);

inline Code null_argument(Error *error, const char *what) {
  return fail(error, INGOT_INVALID_ARGUMENT, "%s is NULL (did the call that makes it fail?)", what);
}

} // namespace ingot
