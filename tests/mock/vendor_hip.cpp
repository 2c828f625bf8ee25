// Our declarations of HIP (src/drivers/stream, src/drivers/hip) are those of its header.
#define __HIP_PLATFORM_AMD__ 1
#define __HIP_DISABLE_CPP_FUNCTIONS__ 1 // the functions, not templates over them
#include <hip/hip_runtime_api.h>

#include <cstddef>

#include "src/drivers/stream/api.h"
#include "tests/mock/vendor_signatures.h"

using namespace ingot::stream;

static_assert(hipSuccess == kSuccess && hipErrorOutOfMemory == kOutOfMemory && hipErrorNotReady == kNotReady && hipErrorNoDevice == kNoDevice);
static_assert(is_loss(hipErrorIllegalAddress) && is_loss(hipErrorLaunchFailure) && is_loss(hipErrorLaunchTimeOut) && !is_loss(hipErrorInvalidValue));
static_assert(hipHostMallocPortable == kHostPortable && hipHostMallocMapped == kHostMapped);
static_assert(hipHostRegisterPortable == kHostPortable && hipHostRegisterMapped == kHostMapped);
static_assert(hipStreamNonBlocking == kStreamNonBlocking && hipEventDisableTiming == kEventNoTiming && hipStreamCaptureModeRelaxed == kCaptureRelaxed);
static_assert(sizeof(hipDeviceptr_t) == sizeof(Address) && sizeof(hipDevice_t) == sizeof(int) && sizeof(hipError_t) == sizeof(int));
static_assert(offsetof(hipDeviceProp_t, gcnArchName) == 396 && sizeof(hipDeviceProp_t) <= 4096);
static_assert(hipDeviceAttributeMaxThreadsPerBlock == 56 && hipDeviceAttributeWarpSize == 87 && hipDeviceAttributeMaxSharedMemoryPerBlock == 74);
static_assert(hipDeviceAttributeMaxBlockDimX == 26 && hipDeviceAttributeMaxBlockDimZ == 28);
static_assert(hipDeviceAttributeMaxGridDimX == 29 && hipDeviceAttributeMaxGridDimZ == 31);
static_assert(hipDeviceAttributeMultiprocessorCount == 63 && hipDeviceAttributeComputeCapabilityMajor == 23 && hipDeviceAttributeComputeCapabilityMinor == 61);

static_assert(hipDeviceAttributeMemoryPoolsSupported == 88 && hipMemPoolAttrReleaseThreshold == kPoolKeeps);
static_assert(hipMemAllocationTypePinned == kPoolPinned && hipMemLocationTypeDevice == kPoolOnDevice);
static_assert(sizeof(hipMemPoolProps) == sizeof(PoolProperties) && offsetof(hipMemPoolProps, handleTypes) == offsetof(PoolProperties, handles));
static_assert(offsetof(hipMemPoolProps, location.type) == offsetof(PoolProperties, location) && offsetof(hipMemPoolProps, location.id) == offsetof(PoolProperties, device));
static_assert(same_call<&Api::MemPoolCreate>(&hipMemPoolCreate) && same_call<&Api::MemPoolDestroy>(&hipMemPoolDestroy) &&
              same_call<&Api::MemPoolSetAttribute>(&hipMemPoolSetAttribute) && same_call<&Api::MemFreeAsync>(&hipFreeAsync));
static_assert(same_call<&Api::MemAllocFromPool>(static_cast<hipError_t (*)(void **, size_t, hipMemPool_t, hipStream_t)>(&hipMallocFromPoolAsync))); // not a template

// What the driver can do without may be missing from an older header.
#define COMPARE_true(member, symbol) static_assert(same_call<&Api::member>(&symbol), #symbol);
#define COMPARE_false(member, symbol)
#define INGOT_STREAM_NAME(member, symbol, demanded) COMPARE_##demanded(member, symbol)
#include "src/drivers/hip/names.inc"
