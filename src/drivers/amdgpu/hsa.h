// Declarations of our own for what the driver calls of libhsa-runtime64, and a table of its functions: the HSA Runtime Programmer's
// Reference Manual 1.2, the HSA Platform System Architecture Specification 1.2 (packets, 2.9), and AMD's extensions as ROCr's
// hsa_ext_amd.h documents them. No vendor's header is included; tests/mock/vendor_hsa.cpp compares these with theirs.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ingot::amdgpu {

struct Agent {
  uint64_t handle;
};
struct Signal {
  uint64_t handle; // 0: none
};
struct MemoryPool {
  uint64_t handle;
};
struct CodeObjectReader {
  uint64_t handle;
};
struct Executable {
  uint64_t handle;
};
struct ExecutableSymbol {
  uint64_t handle;
};

struct Queue {
  uint32_t type, features;
  void *base;
  Signal doorbell;
  uint32_t size, reserved;
  uint64_t id;
};

// Packets are 64 bytes. The first two words are stored last, at once: they hand the packet over.
struct DispatchPacket {
  uint16_t header, setup;
  uint16_t workgroup[3], reserved;
  uint32_t grid[3]; // work-items
  uint32_t private_bytes, group_bytes;
  uint64_t kernel;
  void *arguments;
  uint64_t reserved_2;
  Signal completion;
};
struct BarrierPacket { // waits until all signals are 0
  uint16_t header, reserved;
  uint32_t reserved_1;
  Signal waits_for[5];
  uint64_t reserved_2;
  Signal completion;
};
static_assert(sizeof(DispatchPacket) == 64 && sizeof(BarrierPacket) == 64, "as the queue takes them");

constexpr uint16_t kTypeDispatch = 2, kTypeBarrierAnd = 3, kBarrierBit = 1 << 8;
constexpr uint16_t kAcquireAgent = 1 << 9, kAcquireSystem = 2 << 9, kReleaseAgent = 1 << 11, kReleaseSystem = 2 << 11;

struct DispatchTime {
  uint64_t start, end; // ticks
};

struct SystemEvent { // hsa_amd_event_t
  uint32_t type;
  Agent agent;
  uint64_t address;
  uint32_t reasons;
};

// Statuses.
constexpr int kSuccess = 0, kError = 0x1000, kInvalidAllocation = 0x1003, kOutOfResources = 0x1008, kException = 0x1016;
constexpr uint32_t kEventMemoryFault = 0, kEventException = 1; // SystemEvent::type; both name the agent

// Attributes.
constexpr int kSystemVersionMajor = 0, kSystemVersionMinor = 1, kSystemTimestampFrequency = 3;
constexpr int kAgentName = 0, kAgentWavefrontSize = 6, kAgentWorkgroupMaxDim = 7, kAgentWorkgroupMaxSize = 8, kAgentGridMaxDim = 9,
              kAgentQueueMaxSize = 14, kAgentDevice = 17;
constexpr int kAgentComputeUnits = 0xA002, kAgentBdf = 0xA006, kAgentProductName = 0xA009, kAgentUuid = 0xA011;
constexpr uint32_t kDeviceCpu = 0, kDeviceGpu = 1;
constexpr int kPoolSegment = 0, kPoolFlags = 1, kPoolSize = 2, kPoolMayAllocate = 5;
constexpr uint32_t kSegmentGlobal = 0, kSegmentGroup = 3;
constexpr uint32_t kPoolKernarg = 1, kPoolFineGrained = 2, kPoolCoarseGrained = 4;
constexpr int kSymbolKernelObject = 22, kSymbolKernargBytes = 11, kSymbolGroupBytes = 13, kSymbolPrivateBytes = 14;
constexpr int kProfileFull = 1, kRoundingDefault = 0;
constexpr uint32_t kQueueSingle = 1; // one thread at a time writes packets
constexpr int kConditionLess = 2, kWaitBlocked = 0;

struct Api {
#define INGOT_HSA_FN(result, member, arguments) result(*member) arguments = nullptr;
#include "src/drivers/amdgpu/functions.inc"
#undef INGOT_HSA_FN
};

} // namespace ingot::amdgpu
