// The driver hip: libamdhip64's names and numbers for src/drivers/stream.
#include <dlfcn.h>
#include <stdio.h>

#include "src/drivers/stream/stream.h"

namespace ingot::hip {
namespace {

using namespace ingot::stream;

bool find(void *library, Api *api, const char **missing) {
#define INGOT_STREAM_NAME(member, symbol, demanded)                                                                    \
  api->member = reinterpret_cast<decltype(api->member)>(dlsym(library, #symbol));                                      \
  if (demanded && !api->member) {                                                                                      \
    *missing = #symbol;                                                                                                \
    return false;                                                                                                      \
  }
#include "src/drivers/hip/names.inc"
#undef INGOT_STREAM_NAME
  return true;
}

// hipDeviceProp_t as the symbol hipGetDeviceProperties fills it in every version: the name is at byte 396, "gfx90a:sramecc+:xnack-".
bool architecture(const Api &api, Physical *p) {
  constexpr size_t kBytes = 4096, kName = 396; // room for larger structs
  static_assert(kName + sizeof p->architecture < kBytes, "inside");
  char properties[kBytes] = {};
  if (api.DeviceProperties(properties, p->handle) != kSuccess) return false;
  const char *const name = properties + kName;
  size_t n = 0;
  while (n + 1 < sizeof p->architecture && name[n] && name[n] != ':') ++n;
  memcpy(p->architecture, name, n);
  p->architecture[n] = 0;
  return strncmp(name, "gfx", 3) == 0;
}

bool runs(const char *arch, const Physical &p) { return strings_equal(arch, p.architecture); }

} // namespace

constexpr Vendor kVendor = {
    "hip",
    {"libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5"},
    "rocm",
    /*text_format=*/0,
    INGOT_CODE_HSACO,
    find,
    /*max_threads=*/56,
    /*max_block=*/{26, 27, 28},
    /*max_grid=*/{29, 30, 31},
    /*warp_size=*/87,
    /*shared_bytes=*/74,
    /*large_shared_bytes=*/0,
    /*multiprocessors=*/63,
    /*major=*/23,
    /*minor=*/61,
    /*memory_pools=*/88,
    /*pool_share=*/0, // on some chips memory of AMD's pools was read as zeros: see docs/gpu.md
    architecture,
    runs,
    [](const char *, const Physical &) { return uint64_t(0); },
};

} // namespace ingot::hip

extern "C" {
extern const ingot_driver_t ingot_driver_hip;
const ingot_driver_t ingot_driver_hip = ingot::stream::driver_table<ingot::hip::kVendor>("code objects on AMD GPUs", 40);
}
