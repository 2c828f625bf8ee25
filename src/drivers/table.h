// The drivers compiled into this library.
#pragma once

#include <ingot/driver.h>

namespace ingot {

size_t driver_count();
const ingot_driver_t &driver_at(size_t index);

} // namespace ingot
