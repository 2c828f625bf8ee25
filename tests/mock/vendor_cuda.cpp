// Our declarations of CUDA's driver API (src/drivers/stream, src/drivers/cuda) are those of its header.
#include <cuda.h>

#include <cstddef>

#include "src/drivers/stream/api.h"
#include "tests/mock/vendor_signatures.h"

using namespace ingot::stream;

static_assert(CUDA_SUCCESS == kSuccess && CUDA_ERROR_OUT_OF_MEMORY == kOutOfMemory && CUDA_ERROR_NOT_READY == kNotReady && CUDA_ERROR_NO_DEVICE == kNoDevice);
static_assert(is_loss(CUDA_ERROR_ILLEGAL_ADDRESS) && is_loss(CUDA_ERROR_LAUNCH_FAILED) && is_loss(CUDA_ERROR_LAUNCH_TIMEOUT) && !is_loss(CUDA_ERROR_INVALID_VALUE));
static_assert(is_loss(CUDA_ERROR_ECC_UNCORRECTABLE) && is_loss(CUDA_ERROR_NVLINK_UNCORRECTABLE) && is_loss(CUDA_ERROR_CONTEXT_IS_DESTROYED));
static_assert(is_loss(CUDA_ERROR_HARDWARE_STACK_ERROR) && is_loss(CUDA_ERROR_ILLEGAL_INSTRUCTION) && is_loss(CUDA_ERROR_MISALIGNED_ADDRESS));
static_assert(CU_MEMHOSTALLOC_PORTABLE == kHostPortable && CU_MEMHOSTALLOC_DEVICEMAP == kHostMapped);
static_assert(CU_MEMHOSTREGISTER_PORTABLE == kHostPortable && CU_MEMHOSTREGISTER_DEVICEMAP == kHostMapped);
static_assert(CU_STREAM_NON_BLOCKING == kStreamNonBlocking && CU_EVENT_DISABLE_TIMING == kEventNoTiming && CU_STREAM_CAPTURE_MODE_RELAXED == kCaptureRelaxed);
static_assert(CU_JIT_ERROR_LOG_BUFFER == kJitErrorLog && CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES == kJitErrorLogBytes && CU_JIT_INPUT_PTX == kJitInputPtx);
static_assert(sizeof(CUdeviceptr) == sizeof(Address) && sizeof(CUdevice) == sizeof(int) && sizeof(CUresult) == sizeof(int) && sizeof(CUuuid) == 16);
static_assert(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK == 1 && CU_DEVICE_ATTRIBUTE_WARP_SIZE == 10 && CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK == 8);
static_assert(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN == 97 && CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES == kFunctionAsks);
static_assert(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X == 2 && CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z == 4);
static_assert(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X == 5 && CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z == 7);
static_assert(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT == 16 && CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR == 75 && CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR == 76);

static_assert(sizeof(CUlaunchAttribute) == sizeof(LaunchAttribute) && offsetof(CUlaunchAttribute, value) == offsetof(LaunchAttribute, value));
static_assert(sizeof(CUtensorMap) == sizeof(TensorMap) && alignof(CUtensorMap) <= alignof(TensorMap) && CU_TENSOR_MAP_DATA_TYPE_UINT16 == kMapWords);
static_assert(CU_TENSOR_MAP_INTERLEAVE_NONE == kMapInterleave && CU_TENSOR_MAP_SWIZZLE_128B == kMapSwizzle);
static_assert(CU_TENSOR_MAP_L2_PROMOTION_L2_256B == kMapPromotion && CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE == kMapZeros);
static_assert(CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION == kLaunchProgrammatic);
static_assert(sizeof(CUlaunchConfig) == sizeof(LaunchConfig) && offsetof(CUlaunchConfig, blockDimX) == offsetof(LaunchConfig, block));
static_assert(offsetof(CUlaunchConfig, sharedMemBytes) == offsetof(LaunchConfig, shared_bytes) && offsetof(CUlaunchConfig, hStream) == offsetof(LaunchConfig, stream));
static_assert(offsetof(CUlaunchConfig, attrs) == offsetof(LaunchConfig, attributes) && offsetof(CUlaunchConfig, numAttrs) == offsetof(LaunchConfig, attribute_count));

static_assert(CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED == 115 && CU_MEMPOOL_ATTR_RELEASE_THRESHOLD == kPoolKeeps);
static_assert(CU_MEM_ALLOCATION_TYPE_PINNED == kPoolPinned && CU_MEM_LOCATION_TYPE_DEVICE == kPoolOnDevice && sizeof(cuuint64_t) == sizeof(uint64_t));
static_assert(sizeof(CUmemPoolProps) == sizeof(PoolProperties) && offsetof(CUmemPoolProps, handleTypes) == offsetof(PoolProperties, handles));
static_assert(offsetof(CUmemPoolProps, location.type) == offsetof(PoolProperties, location) && offsetof(CUmemPoolProps, location.id) == offsetof(PoolProperties, device));

#define INGOT_STREAM_NAME(member, symbol, demanded) static_assert(same_call<&Api::member>(&symbol), #symbol);
#include "src/drivers/cuda/names.inc"
