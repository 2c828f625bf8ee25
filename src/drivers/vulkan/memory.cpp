// Memory, and transfers through a bounded staging block.
#include "src/drivers/vulkan/vulkan.h"

namespace ingot::vulkan {
namespace {

constexpr uint64_t kStagingBytes = 16 << 20;
constexpr VkBufferUsageFlags kUsage =
    VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT;

// The first of these types whose memory the host sees without flushes; INGOT_NONE.
uint32_t pick_coherent(const Physical &p, uint32_t types) {
  constexpr VkMemoryPropertyFlags kNeeded = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
  for (uint32_t i = 0; i < p.memory.memoryTypeCount; ++i)
    if ((types >> i & 1) && (p.memory.memoryTypes[i].propertyFlags & kNeeded) == kNeeded) return i;
  return INGOT_NONE;
}

// Staging and the command buffer of transfers, made at the first one. Pre: transfer_mutex is held.
Code ensure_staging(ingot_driver_device_t &d, Error *error) {
  if (d.staging_data) return INGOT_OK;
  if (!d.transfer_pool) {
    auto pool = make<VkCommandPoolCreateInfo>(VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO);
    pool.flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT;
    pool.queueFamilyIndex = d.physical.queue_family;
    INGOT_VK_TRY(d.vk.CreateCommandPool(d.device, &pool, nullptr, &d.transfer_pool), "vkCreateCommandPool");
  }
  if (!d.transfer_commands) {
    auto allocate_info = make<VkCommandBufferAllocateInfo>(VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO);
    allocate_info.commandPool = d.transfer_pool;
    allocate_info.commandBufferCount = 1;
    INGOT_VK_TRY(d.vk.AllocateCommandBuffers(d.device, &allocate_info, &d.transfer_commands), "vkAllocateCommandBuffers");
  }
  if (!d.staging) INGOT_TRY(allocate(&d, INGOT_MEMORY_READBACK, kStagingBytes, &d.staging, error)); // cached: good both ways
  void *data = nullptr;
  INGOT_TRY(map(&d, d.staging, &data, error));
  d.staging_data = static_cast<uint8_t *>(data);
  return INGOT_OK;
}

// One copy on the device, waited for. Pre: transfer_mutex is held.
Code copy_now(ingot_driver_device_t &d, VkBuffer from, uint64_t from_offset, VkBuffer to, uint64_t to_offset, uint64_t size,
              Error *error) {
  auto begin = make<VkCommandBufferBeginInfo>(VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO);
  begin.flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT;
  INGOT_VK_TRY(d.vk.BeginCommandBuffer(d.transfer_commands, &begin), "vkBeginCommandBuffer");
  const VkBufferCopy region = {from_offset, to_offset, size};
  d.vk.CmdCopyBuffer(d.transfer_commands, from, to, 1, &region);
  auto barrier = make<VkMemoryBarrier>(VK_STRUCTURE_TYPE_MEMORY_BARRIER);
  barrier.srcAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT;
  barrier.dstAccessMask = VK_ACCESS_HOST_READ_BIT | VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_TRANSFER_READ_BIT;
  d.vk.CmdPipelineBarrier(d.transfer_commands, VK_PIPELINE_STAGE_TRANSFER_BIT,
                          VK_PIPELINE_STAGE_HOST_BIT | VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT, 0, 1,
                          &barrier, 0, nullptr, 0, nullptr);
  INGOT_VK_TRY(d.vk.EndCommandBuffer(d.transfer_commands), "vkEndCommandBuffer");
  uint64_t value = 0;
  INGOT_TRY(submit_commands(d, &d.transfer_commands, 1, &value, error));
  return wait_timeline(d, value, UINT64_MAX, error);
}

} // namespace

Code allocate(ingot_driver_device_t *device, ingot_driver_memory_kind_t kind, uint64_t size, ingot_driver_memory_t **out,
              Error *error) {
  ingot_driver_device_t &d = *device;
  ingot_driver_memory_t *m = create_object<ingot_driver_memory_t>(d.allocator, "device memory", error);
  if (!m) return INGOT_OUT_OF_MEMORY;
  m->size = size;
  const auto fill = [&]() -> Code {
    auto buffer = make<VkBufferCreateInfo>(VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO);
    buffer.size = align_up(size, 4); // kernels that pack small elements into words touch whole words
    buffer.usage = kUsage;
    INGOT_VK_TRY(d.vk.CreateBuffer(d.device, &buffer, nullptr, &m->buffer), "vkCreateBuffer");
    VkMemoryRequirements needs;
    d.vk.GetBufferMemoryRequirements(d.device, m->buffer, &needs);
    const uint32_t type = kind == INGOT_MEMORY_UPLOAD ? d.upload_type : kind == INGOT_MEMORY_READBACK ? d.readback_type : d.device_type;
    if (!(needs.memoryTypeBits >> type & 1))
      return fail(error, INGOT_INTERNAL, "vulkan: memory type %u cannot hold a storage buffer on this device", type);
    auto info = make<VkMemoryAllocateInfo>(VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO);
    info.allocationSize = needs.size;
    info.memoryTypeIndex = type;
    INGOT_VK_TRY(d.vk.AllocateMemory(d.device, &info, nullptr, &m->memory), "vkAllocateMemory");
    INGOT_VK_TRY(d.vk.BindBufferMemory(d.device, m->buffer, m->memory, 0), "vkBindBufferMemory");
    return INGOT_OK;
  };
  if (const Code code = fill()) {
    release(device, m);
    return code;
  }
  *out = m;
  return INGOT_OK;
}

Code import_host(ingot_driver_device_t *device, void *host, uint64_t size, ingot_driver_memory_t **out, Error *error) {
  ingot_driver_device_t &d = *device;
  if (!d.physical.host_imports || !d.vk.GetMemoryHostPointerPropertiesEXT)
    return fail(error, INGOT_UNIMPLEMENTED, "vulkan: the device has no %s: allocate a buffer and write to it",
                VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME);
  constexpr VkExternalMemoryHandleTypeFlagBits kType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT;
  const uint64_t page = d.physical.host_alignment, inside = uintptr_t(host) & (page - 1);
  void *const first = static_cast<uint8_t *>(host) - inside; // whole pages are imported, a part of them is used
  ingot_driver_memory_t *m = create_object<ingot_driver_memory_t>(d.allocator, "imported memory", error);
  if (!m) return INGOT_OUT_OF_MEMORY;
  m->size = size;
  const auto fill = [&]() -> Code {
    auto external = make<VkExternalMemoryBufferCreateInfo>(VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO);
    external.handleTypes = kType;
    auto buffer = make<VkBufferCreateInfo>(VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO);
    buffer.pNext = &external;
    buffer.size = size;
    buffer.usage = kUsage;
    INGOT_VK_TRY(d.vk.CreateBuffer(d.device, &buffer, nullptr, &m->buffer), "vkCreateBuffer");
    VkMemoryRequirements needs;
    d.vk.GetBufferMemoryRequirements(d.device, m->buffer, &needs);
    if (inside % needs.alignment != 0 || size % 4 != 0)
      return fail(error, INGOT_UNIMPLEMENTED,
                  "vulkan: host memory at %p of %llu bytes cannot be imported: the device needs a multiple of %llu, and whole words",
                  host, (unsigned long long)size, (unsigned long long)needs.alignment);
    auto pointer = make<VkMemoryHostPointerPropertiesEXT>(VK_STRUCTURE_TYPE_MEMORY_HOST_POINTER_PROPERTIES_EXT);
    INGOT_VK_TRY(d.vk.GetMemoryHostPointerPropertiesEXT(d.device, kType, first, &pointer), "vkGetMemoryHostPointerPropertiesEXT");
    const uint32_t type = pick_coherent(d.physical, needs.memoryTypeBits & pointer.memoryTypeBits);
    if (type == INGOT_NONE) return fail(error, INGOT_UNIMPLEMENTED, "vulkan: the device imports no coherent host memory for buffers");
    auto import = make<VkImportMemoryHostPointerInfoEXT>(VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT);
    import.handleType = kType;
    import.pHostPointer = first;
    auto info = make<VkMemoryAllocateInfo>(VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO);
    info.pNext = &import;
    info.allocationSize = align_up(inside + size, page);
    info.memoryTypeIndex = type;
    INGOT_VK_TRY(d.vk.AllocateMemory(d.device, &info, nullptr, &m->memory), "vkAllocateMemory");
    INGOT_VK_TRY(d.vk.BindBufferMemory(d.device, m->buffer, m->memory, inside), "vkBindBufferMemory");
    return INGOT_OK;
  };
  if (const Code code = fill()) {
    release(device, m);
    return code;
  }
  *out = m;
  return INGOT_OK;
}

void release(ingot_driver_device_t *device, ingot_driver_memory_t *m) {
  if (m->owned) device->vk.DestroyBuffer(device->device, m->buffer, nullptr);
  device->vk.FreeMemory(device->device, m->memory, nullptr);
  destroy_object(device->allocator, m);
}

Code map(ingot_driver_device_t *device, ingot_driver_memory_t *memory, void **out, Error *error) {
  INGOT_VK_TRY(device->vk.MapMemory(device->device, memory->memory, 0, VK_WHOLE_SIZE, 0, out), "vkMapMemory");
  return INGOT_OK;
}

void unmap(ingot_driver_device_t *device, ingot_driver_memory_t *memory) { device->vk.UnmapMemory(device->device, memory->memory); }

Code write(ingot_driver_device_t *device, ingot_driver_memory_t *memory, uint64_t offset, const void *data, size_t length,
           Error *error) {
  platform::Lock lock(device->transfer_mutex);
  INGOT_TRY(ensure_staging(*device, error));
  for (size_t at = 0; at < length;) {
    const size_t n = length - at < kStagingBytes ? length - at : kStagingBytes;
    memcpy(device->staging_data, static_cast<const uint8_t *>(data) + at, n);
    INGOT_TRY(copy_now(*device, device->staging->buffer, 0, memory->buffer, memory->base + offset + at, n, error));
    at += n;
  }
  return INGOT_OK;
}

Code read(ingot_driver_device_t *device, ingot_driver_memory_t *memory, uint64_t offset, void *data, size_t length, Error *error) {
  platform::Lock lock(device->transfer_mutex);
  INGOT_TRY(ensure_staging(*device, error));
  for (size_t at = 0; at < length;) {
    const size_t n = length - at < kStagingBytes ? length - at : kStagingBytes;
    INGOT_TRY(copy_now(*device, memory->buffer, memory->base + offset + at, device->staging->buffer, 0, n, error));
    memcpy(static_cast<uint8_t *>(data) + at, device->staging_data, n);
    at += n;
  }
  return INGOT_OK;
}

} // namespace ingot::vulkan
