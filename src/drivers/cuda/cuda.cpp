// The driver cuda: libcuda's names and numbers for src/drivers/stream.
#include <dlfcn.h>

#include "src/drivers/cuda/cuda.h"

namespace ingot::cuda {
namespace {

using namespace ingot::stream;

bool find(void *library, Api *api, const char **missing) {
#define INGOT_STREAM_NAME(member, symbol, demanded)                                                                    \
  api->member = reinterpret_cast<decltype(api->member)>(dlsym(library, symbol));                                       \
  if (demanded && !api->member) {                                                                                      \
    *missing = symbol;                                                                                                 \
    return false;                                                                                                      \
  }
#include "src/drivers/cuda/names.inc"
#undef INGOT_STREAM_NAME
  return true;
}

// "sm_80": this capability and later ones; "sm_90a": this one alone.
bool runs(const char *arch, int capability) {
  if (strncmp(arch, "sm_", 3) != 0) return false;
  int number = 0;
  const char *at = arch + 3;
  for (; *at >= '0' && *at <= '9' && number < 1000; ++at) number = 10 * number + (*at - '0');
  if (number == 0) return false;
  return strings_equal(at, "a") ? capability == number : *at == 0 && capability >= number;
}

} // namespace

const Vendor kVendor = {
    "cuda",
    "libcuda.so.1",
    "cuda",
    INGOT_CODE_PTX,
    find,
    /*max_threads=*/1,
    /*max_block=*/{2, 3, 4},
    /*max_grid=*/{5, 6, 7},
    /*warp_size=*/10,
    /*shared_bytes=*/8,
    /*multiprocessors=*/16,
    /*major=*/75,
    /*minor=*/76,
    runs,
};

} // namespace ingot::cuda

using namespace ingot;

extern "C" {
const ingot_driver_t ingot_driver_cuda = {
    sizeof(ingot_driver_t),
    INGOT_DRIVER_ABI,
    "cuda",
    "PTX kernels on NVIDIA GPUs",
    /*host_memory=*/false,
    /*automatic=*/true,
    /*priority=*/40,
    [](const ingot_driver_host_t *, ingot_error_t *error) { return stream::probe(cuda::kVendor, error); },
    [](const ingot_driver_host_t *, ingot_driver_visit_t visit, void *user, ingot_error_t *error) {
      return stream::enumerate(cuda::kVendor, visit, user, error);
    },
    [](const ingot_driver_host_t *host, const char *id, uint32_t ordinal, const char *options, ingot_driver_device_t **out,
       ingot_error_t *error) { return stream::open_device(cuda::kVendor, host, id, ordinal, options, out, error); },
    stream::close_device,
    stream::describe,
    stream::supports,
    stream::load,
    stream::unload,
    stream::kernel_version,
    stream::properties,
    stream::allocate,
    stream::release,
    stream::map,
    stream::unmap,
    stream::write,
    stream::read,
    stream::import_host,
    stream::stream_create,
    stream::stream_destroy,
    stream::recording_create,
    stream::recording_destroy,
    stream::recording_begin,
    stream::record_dispatch,
    stream::record_copy,
    stream::record_fill,
    stream::record_barrier,
    stream::recording_end,
    stream::submit,
    stream::finish,
};
}
