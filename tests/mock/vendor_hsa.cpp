// Our declarations of HSA (src/drivers/amdgpu) are those of its headers.
#include <hsa/hsa.h>
#include <hsa/hsa_ext_amd.h>

#include <cstddef>

#include "src/drivers/amdgpu/hsa.h"
#include "tests/mock/vendor_signatures.h"

using namespace ingot::amdgpu;

static_assert(HSA_STATUS_ERROR == kError && HSA_STATUS_ERROR_EXCEPTION == kException && HSA_STATUS_SUCCESS == kSuccess && HSA_STATUS_ERROR_INVALID_ALLOCATION == kInvalidAllocation && HSA_STATUS_ERROR_OUT_OF_RESOURCES == kOutOfResources);
static_assert(sizeof(hsa_status_t) == sizeof(int) && sizeof(hsa_signal_value_t) == sizeof(int64_t));
static_assert(sizeof(hsa_agent_t) == sizeof(Agent) && sizeof(hsa_signal_t) == sizeof(Signal) && sizeof(hsa_amd_memory_pool_t) == sizeof(MemoryPool));
static_assert(sizeof(hsa_executable_t) == sizeof(Executable) && sizeof(hsa_executable_symbol_t) == sizeof(ExecutableSymbol) &&
              sizeof(hsa_code_object_reader_t) == sizeof(CodeObjectReader));

static_assert(sizeof(hsa_queue_t) == sizeof(Queue) && offsetof(hsa_queue_t, base_address) == offsetof(Queue, base) &&
              offsetof(hsa_queue_t, doorbell_signal) == offsetof(Queue, doorbell) && offsetof(hsa_queue_t, size) == offsetof(Queue, size));
static_assert(sizeof(hsa_kernel_dispatch_packet_t) == sizeof(DispatchPacket) && offsetof(hsa_kernel_dispatch_packet_t, setup) == offsetof(DispatchPacket, setup) &&
              offsetof(hsa_kernel_dispatch_packet_t, workgroup_size_x) == offsetof(DispatchPacket, workgroup) &&
              offsetof(hsa_kernel_dispatch_packet_t, grid_size_x) == offsetof(DispatchPacket, grid) &&
              offsetof(hsa_kernel_dispatch_packet_t, private_segment_size) == offsetof(DispatchPacket, private_bytes) &&
              offsetof(hsa_kernel_dispatch_packet_t, group_segment_size) == offsetof(DispatchPacket, group_bytes) &&
              offsetof(hsa_kernel_dispatch_packet_t, kernel_object) == offsetof(DispatchPacket, kernel) &&
              offsetof(hsa_kernel_dispatch_packet_t, kernarg_address) == offsetof(DispatchPacket, arguments) &&
              offsetof(hsa_kernel_dispatch_packet_t, completion_signal) == offsetof(DispatchPacket, completion));
static_assert(sizeof(hsa_barrier_and_packet_t) == sizeof(BarrierPacket) && offsetof(hsa_barrier_and_packet_t, dep_signal) == offsetof(BarrierPacket, waits_for) &&
              offsetof(hsa_barrier_and_packet_t, completion_signal) == offsetof(BarrierPacket, completion));
static_assert(sizeof(hsa_amd_event_t) == sizeof(SystemEvent) && offsetof(hsa_amd_event_t, memory_fault) == offsetof(SystemEvent, agent) &&
              offsetof(hsa_amd_gpu_memory_fault_info_t, virtual_address) == offsetof(SystemEvent, address) - offsetof(SystemEvent, agent) &&
              HSA_AMD_GPU_MEMORY_FAULT_EVENT == kEventMemoryFault);
static_assert(sizeof(hsa_amd_profiling_dispatch_time_t) == sizeof(DispatchTime) && offsetof(hsa_amd_profiling_dispatch_time_t, end) == offsetof(DispatchTime, end));

static_assert(HSA_PACKET_TYPE_KERNEL_DISPATCH == kTypeDispatch && HSA_PACKET_TYPE_BARRIER_AND == kTypeBarrierAnd && 1 << HSA_PACKET_HEADER_BARRIER == kBarrierBit);
static_assert(HSA_FENCE_SCOPE_AGENT << HSA_PACKET_HEADER_SCACQUIRE_FENCE_SCOPE == kAcquireAgent && HSA_FENCE_SCOPE_SYSTEM << HSA_PACKET_HEADER_SCACQUIRE_FENCE_SCOPE == kAcquireSystem);
static_assert(HSA_FENCE_SCOPE_AGENT << HSA_PACKET_HEADER_SCRELEASE_FENCE_SCOPE == kReleaseAgent && HSA_FENCE_SCOPE_SYSTEM << HSA_PACKET_HEADER_SCRELEASE_FENCE_SCOPE == kReleaseSystem);
static_assert(HSA_SYSTEM_INFO_VERSION_MAJOR == kSystemVersionMajor && HSA_SYSTEM_INFO_VERSION_MINOR == kSystemVersionMinor && HSA_SYSTEM_INFO_TIMESTAMP_FREQUENCY == kSystemTimestampFrequency);
static_assert(HSA_AGENT_INFO_NAME == kAgentName && HSA_AGENT_INFO_WAVEFRONT_SIZE == kAgentWavefrontSize && HSA_AGENT_INFO_WORKGROUP_MAX_DIM == kAgentWorkgroupMaxDim &&
              HSA_AGENT_INFO_WORKGROUP_MAX_SIZE == kAgentWorkgroupMaxSize && HSA_AGENT_INFO_GRID_MAX_DIM == kAgentGridMaxDim &&
              HSA_AGENT_INFO_QUEUE_MAX_SIZE == kAgentQueueMaxSize && HSA_AGENT_INFO_DEVICE == kAgentDevice);
static_assert(int(HSA_AMD_AGENT_INFO_COMPUTE_UNIT_COUNT) == kAgentComputeUnits && int(HSA_AMD_AGENT_INFO_BDFID) == kAgentBdf &&
              int(HSA_AMD_AGENT_INFO_PRODUCT_NAME) == kAgentProductName && int(HSA_AMD_AGENT_INFO_UUID) == kAgentUuid);
static_assert(HSA_DEVICE_TYPE_CPU == kDeviceCpu && HSA_DEVICE_TYPE_GPU == kDeviceGpu && HSA_QUEUE_TYPE_SINGLE == kQueueSingle);
static_assert(HSA_AMD_MEMORY_POOL_INFO_SEGMENT == kPoolSegment && HSA_AMD_MEMORY_POOL_INFO_GLOBAL_FLAGS == kPoolFlags && HSA_AMD_MEMORY_POOL_INFO_SIZE == kPoolSize &&
              HSA_AMD_MEMORY_POOL_INFO_RUNTIME_ALLOC_ALLOWED == kPoolMayAllocate);
static_assert(HSA_AMD_SEGMENT_GLOBAL == kSegmentGlobal && HSA_AMD_SEGMENT_GROUP == kSegmentGroup);
static_assert(HSA_AMD_MEMORY_POOL_GLOBAL_FLAG_KERNARG_INIT == kPoolKernarg && HSA_AMD_MEMORY_POOL_GLOBAL_FLAG_FINE_GRAINED == kPoolFineGrained &&
              HSA_AMD_MEMORY_POOL_GLOBAL_FLAG_COARSE_GRAINED == kPoolCoarseGrained);
static_assert(HSA_EXECUTABLE_SYMBOL_INFO_KERNEL_OBJECT == kSymbolKernelObject && HSA_EXECUTABLE_SYMBOL_INFO_KERNEL_KERNARG_SEGMENT_SIZE == kSymbolKernargBytes &&
              HSA_EXECUTABLE_SYMBOL_INFO_KERNEL_GROUP_SEGMENT_SIZE == kSymbolGroupBytes && HSA_EXECUTABLE_SYMBOL_INFO_KERNEL_PRIVATE_SEGMENT_SIZE == kSymbolPrivateBytes);
static_assert(HSA_PROFILE_FULL == kProfileFull && HSA_DEFAULT_FLOAT_ROUNDING_MODE_DEFAULT == kRoundingDefault && HSA_SIGNAL_CONDITION_LT == kConditionLess &&
              HSA_WAIT_STATE_BLOCKED == kWaitBlocked);

#define INGOT_HSA_FN(result, member, arguments) static_assert(same_call<&Api::member>(&hsa_##member), "hsa_" #member);
#include "src/drivers/amdgpu/functions.inc"
