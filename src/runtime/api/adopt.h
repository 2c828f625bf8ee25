// For drivers that make devices and buffers by public functions of their own (<ingot/vulkan.h>): objects around theirs.
// Handles are void pointers here, as each driver gives its structs names of its own.
#pragma once

#include <ingot/driver.h>

#include "src/runtime/base.h"

namespace ingot {

// Services of the runtime, as a driver's open gets them.
ingot_driver_host_t adopting_host(const ingot_instance_t &instance);
// On failure the driver's device, or memory, is still the caller's.
Code adopt_device(const ingot_instance_t &instance, const ingot_driver_t &driver, void *driver_device, const char *uri,
                  ingot_device_t **out, Error *error);
Code adopt_buffer(ingot_device_t *device, void *driver_memory, uint64_t size, ingot_buffer_t **out, Error *error);
// The driver's part of a device; null where the device is another driver's.
void *adopted_device(const ingot_device_t *device, const ingot_driver_t &driver);

} // namespace ingot
