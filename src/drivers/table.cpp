// The table of drivers.inc, filtered at compile time. No static constructor registers anything, so linking cannot lose
// a driver. INGOT_EXTERNAL_DRIVERS is a list of rows for out-of-tree ones.
#include "src/drivers/table.h"

#define INGOT_DRIVER_NULL 1
#define INGOT_DRIVER_LOCAL_SYNC 1
#if !defined(INGOT_DRIVER_LOCAL_TASK)
#define INGOT_DRIVER_LOCAL_TASK 0
#endif

#if !defined(INGOT_DRIVER_CUDA)
#define INGOT_DRIVER_CUDA 0
#endif
#if !defined(INGOT_DRIVER_AMDGPU)
#define INGOT_DRIVER_AMDGPU 0
#endif
#if !defined(INGOT_DRIVER_HIP)
#define INGOT_DRIVER_HIP 0
#endif
#if !defined(INGOT_DRIVER_VULKAN)
#define INGOT_DRIVER_VULKAN 0
#endif

// The macros are 0, 1 or undefined; pasting makes rows of absent drivers vanish.
#define INGOT_CHOOSE_(flag, symbol) INGOT_CHOOSE_##flag(symbol)
#define INGOT_CHOOSE(flag, symbol) INGOT_CHOOSE_(flag, symbol)

extern "C" {
#define INGOT_CHOOSE_1(symbol) extern const ingot_driver_t symbol;
#define INGOT_CHOOSE_0(symbol)
#define INGOT_DRIVER_ROW(flag, symbol) INGOT_CHOOSE(flag, symbol)
#include "src/drivers/drivers.inc"
#if defined(INGOT_EXTERNAL_DRIVERS)
#define INGOT_EXTERNAL_ROW(symbol) extern const ingot_driver_t symbol;
INGOT_EXTERNAL_DRIVERS
#undef INGOT_EXTERNAL_ROW
#endif
#undef INGOT_CHOOSE_1
#undef INGOT_DRIVER_ROW
}

namespace ingot {
namespace {

#define INGOT_CHOOSE_1(symbol) &symbol,
#define INGOT_DRIVER_ROW(flag, symbol) INGOT_CHOOSE(flag, symbol)
const ingot_driver_t *const kDrivers[] = {
#include "src/drivers/drivers.inc"
#if defined(INGOT_EXTERNAL_DRIVERS)
#define INGOT_EXTERNAL_ROW(symbol) &symbol,
    INGOT_EXTERNAL_DRIVERS
#endif
};

} // namespace

size_t driver_count() { return sizeof kDrivers / sizeof kDrivers[0]; }
const ingot_driver_t &driver_at(size_t index) { return *kDrivers[index]; }

} // namespace ingot
