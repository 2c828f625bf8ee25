// Declarations of our own for what libcuda and libamdhip64 have in common, and a table of their functions. No vendor's header
// is included; tests/mock/vendor_cuda.cpp and vendor_hip.cpp compare these declarations with theirs.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ingot::stream {

using Context = struct ContextT *;
using Module = struct ModuleT *;
using Function = struct FunctionT *;
using Stream = struct StreamT *;
using Event = struct EventT *;
using Graph = struct GraphT *;
using GraphExec = struct GraphExecT *;
using Link = struct LinkT *;
using Pool = struct PoolT *;
using Address = unsigned long long; // on the device

// CUmemPoolProps and hipMemPoolProps: what the pool's memory is, where it lies, and what is 0 here.
struct PoolProperties {
  int type, handles, location, device;
  char rest[72];
};
static_assert(sizeof(PoolProperties) == 88, "as both headers have it");
constexpr int kPoolPinned = 1, kPoolOnDevice = 1; // type: it does not migrate; location
constexpr int kPoolKeeps = 4;                     // the attribute: bytes that it may hold before it gives idle ones back (the release threshold)

// CUlaunchAttribute with the one that is used, and CUlaunchConfig.
struct LaunchAttribute {
  int id;
  char pad[4];
  union {
    char bytes[64];
    int flag;
  } value;
};
struct LaunchConfig {
  unsigned grid[3], block[3], shared_bytes;
  Stream stream;
  LaunchAttribute *attributes;
  unsigned attribute_count;
};
static_assert(sizeof(LaunchAttribute) == 72 && sizeof(LaunchConfig) == 56, "as cuda.h has them");
constexpr int kLaunchProgrammatic = 6; // CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION

// CUtensorMap; CU_TENSOR_MAP_DATA_TYPE_UINT16, _INTERLEAVE_NONE, _SWIZZLE_128B, _L2_PROMOTION_L2_256B, _FLOAT_OOB_FILL_NONE.
struct alignas(128) TensorMap {
  uint64_t words[16];
};
constexpr int kMapWords = 1, kMapInterleave = 0, kMapSwizzle = 3, kMapPromotion = 3, kMapZeros = 0;

constexpr int kFunctionAsks = 8; // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: what launches of the function may ask for

// Codes that both libraries share.
constexpr int kSuccess = 0, kOutOfMemory = 2, kNoDevice = 100, kNotReady = 600;
// After these nothing works any more in the context.
constexpr bool is_loss(int code) {
  return code == 4 || code == 201 || code == 214 || code == 220 || code == 700 || code == 702 || code == 709 || (code >= 714 && code <= 719);
}

constexpr unsigned kHostPortable = 1, kHostMapped = 2;          // HostAlloc; the same bits for HostRegister
constexpr unsigned kStreamNonBlocking = 1, kEventNoTiming = 2;
constexpr int kCaptureRelaxed = 2;                              // other threads may call whatever they like meanwhile
constexpr int kJitErrorLog = 5, kJitErrorLogBytes = 6, kJitInputPtx = 1;

struct Api {
#define INGOT_STREAM_FN(member, arguments) int(*member) arguments = nullptr;
#include "src/drivers/stream/functions.inc"
#undef INGOT_STREAM_FN
};

struct Physical;

// What distinguishes the two.
struct Vendor {
  const char *name, *libraries[4], *target; // libraries: the first that is there
  uint32_t text_format, image_format; // text_format: what the library's linker makes code of, or 0; image_format: code
  bool (*find)(void *library, Api *api, const char **missing); // fills the table; the first name that is not there
  // Numbers of attributes. large_shared_bytes: what a launch may ask for; 0: it may not.
  int max_threads, max_block[3], max_grid[3], warp_size, shared_bytes, large_shared_bytes, multiprocessors, major, minor, memory_pools;
  uint32_t pool_share; // a memory pool keeps one part in so many of the device's memory; 0: none unless the URI asks for one
  // Writes the architecture that code is made for; false where the device does not say.
  bool (*architecture)(const Api &api, Physical *physical);
  // Whether code for that architecture runs on the device.
  bool (*runs)(const char *arch, const Physical &physical);
  // The features of kernel versions that the device has, in a variant for that architecture.
  uint64_t (*features)(const char *arch, const Physical &physical);
};

} // namespace ingot::stream
