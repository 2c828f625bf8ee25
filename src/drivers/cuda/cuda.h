// What the driver cuda adds to src/drivers/stream.
#pragma once

#include "src/drivers/stream/stream.h"

namespace ingot::cuda {
extern const stream::Vendor kVendor;
}

extern "C" const ingot_driver_t ingot_driver_cuda;
