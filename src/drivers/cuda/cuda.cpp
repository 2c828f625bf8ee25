// The driver cuda: libcuda's names and numbers for src/drivers/stream.
#include <dlfcn.h>
#include <stdio.h>

#include "schemas/gpu_abi.h"
#include "src/drivers/cuda/cuda.h"

namespace ingot::cuda {
namespace {

using namespace ingot::stream;

bool find(void *library, Api *api, const char **missing) {
#define INGOT_STREAM_NAME(member, symbol, demanded)                                                                    \
  api->member = reinterpret_cast<decltype(api->member)>(dlsym(library, #symbol));                                      \
  if (demanded && !api->member) {                                                                                      \
    *missing = #symbol;                                                                                                \
    return false;                                                                                                      \
  }
#include "src/drivers/cuda/names.inc"
#undef INGOT_STREAM_NAME
  return true;
}

bool architecture(const Api &, Physical *p) {
  snprintf(p->architecture, sizeof p->architecture, "sm_%d", p->capability);
  return true;
}

// "sm_90" gives 90, "sm_90a" too and sets *alone; 0 where it is neither.
int number_of(const char *arch, bool *alone) {
  if (strncmp(arch, "sm_", 3) != 0) return 0;
  int number = 0;
  const char *at = arch + 3;
  for (; *at >= '0' && *at <= '9' && number < 1000; ++at) number = 10 * number + (*at - '0');
  *alone = strings_equal(at, "a");
  return *alone || *at == 0 ? number : 0;
}

// "sm_80": this capability and later ones; "sm_90a": this one alone.
bool runs(const char *arch, const Physical &p) {
  bool alone = false;
  const int number = number_of(arch, &alone);
  return number != 0 && (alone ? p.capability == number : p.capability >= number);
}

uint64_t features(const char *arch, const Physical &p) {
  bool alone = false;
  const int number = number_of(arch, &alone);
  uint64_t have = 0;
  if (runs(arch, p) && p.capability / 10 == number / 10) have |= INGOT_CUDA_BINARY;
  if (p.capability >= 90 && p.tensor_maps) have |= INGOT_CUDA_TENSOR_MAPS;
  return have;
}

} // namespace

constexpr Vendor kVendor = {
    "cuda",
    {"libcuda.so.1"},
    "cuda",
    INGOT_CODE_PTX,
    INGOT_CODE_CUBIN,
    find,
    /*max_threads=*/1,
    /*max_block=*/{2, 3, 4},
    /*max_grid=*/{5, 6, 7},
    /*warp_size=*/10,
    /*shared_bytes=*/8,
    /*large_shared_bytes=*/97,
    /*multiprocessors=*/16,
    /*major=*/75,
    /*minor=*/76,
    /*memory_pools=*/115,
    /*pool_share=*/16,
    architecture,
    runs,
    features,
};

} // namespace ingot::cuda

extern "C" {
const ingot_driver_t ingot_driver_cuda = ingot::stream::driver_table<ingot::cuda::kVendor>("PTX kernels on NVIDIA GPUs", 40);
}
