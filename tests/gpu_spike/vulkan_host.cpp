// See vulkan_host.h.
#include "tests/gpu_spike/vulkan_host.h"

#define VK_NO_PROTOTYPES
#include <dlfcn.h>
#include <vulkan/vulkan.h>

#include <cstring>

namespace ingot::aotc::gpu_spike {
namespace {

// clang-format off
#define INGOT_INSTANCE_FUNCTIONS(X) \
  X(EnumeratePhysicalDevices) X(GetPhysicalDeviceProperties2) X(GetPhysicalDeviceMemoryProperties) \
  X(GetPhysicalDeviceQueueFamilyProperties) X(CreateDevice) X(GetDeviceProcAddr) X(DestroyInstance) \
  X(CreateDebugUtilsMessengerEXT) X(DestroyDebugUtilsMessengerEXT)
#define INGOT_DEVICE_FUNCTIONS(X) \
  X(GetDeviceQueue) X(CreateShaderModule) X(DestroyShaderModule) X(CreateDescriptorSetLayout) \
  X(DestroyDescriptorSetLayout) X(CreatePipelineLayout) X(DestroyPipelineLayout) X(CreateComputePipelines) \
  X(DestroyPipeline) X(CreateDescriptorPool) X(DestroyDescriptorPool) X(AllocateDescriptorSets) \
  X(UpdateDescriptorSets) X(CreateBuffer) X(DestroyBuffer) X(GetBufferMemoryRequirements) X(AllocateMemory) \
  X(FreeMemory) X(BindBufferMemory) X(MapMemory) X(UnmapMemory) X(CreateCommandPool) X(DestroyCommandPool) \
  X(AllocateCommandBuffers) X(BeginCommandBuffer) X(EndCommandBuffer) X(CmdBindPipeline) X(CmdBindDescriptorSets) \
  X(CmdPushConstants) X(CmdDispatch) X(CmdPipelineBarrier) X(QueueSubmit) X(QueueWaitIdle) X(DeviceWaitIdle) \
  X(DestroyDevice)
// clang-format on

VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT, VkDebugUtilsMessageTypeFlagsEXT,
                                          const VkDebugUtilsMessengerCallbackDataEXT *data, void *user) {
  static_cast<std::vector<std::string> *>(user)->push_back(data->pMessage);
  return VK_FALSE;
}

template <class T> T make(VkStructureType type) {
  T value;
  std::memset(&value, 0, sizeof value);
  value.sType = type;
  return value;
}

class Host final : public VulkanHost {
 public:
  ~Host() override {
    if (device_) {
      DeviceWaitIdle(device_);
      DestroyDevice(device_, nullptr);
    }
    if (messenger_)
      DestroyDebugUtilsMessengerEXT(instance_, messenger_, nullptr);
    if (instance_)
      DestroyInstance(instance_, nullptr);
    // The library stays loaded: some drivers do not survive being unloaded.
  }

  std::string start() {
    void *library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library)
      return "libvulkan.so.1 is not installed";
    auto get = reinterpret_cast<PFN_vkGetInstanceProcAddr>(dlsym(library, "vkGetInstanceProcAddr"));
    auto create = reinterpret_cast<PFN_vkCreateInstance>(get(nullptr, "vkCreateInstance"));
    const char *layer = "VK_LAYER_KHRONOS_validation", *extension = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
    auto application = make<VkApplicationInfo>(VK_STRUCTURE_TYPE_APPLICATION_INFO);
    application.apiVersion = VK_API_VERSION_1_1;
    auto messenger = make<VkDebugUtilsMessengerCreateInfoEXT>(VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT);
    messenger.messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT;
    messenger.messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_GENERAL_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT |
                            VK_DEBUG_UTILS_MESSAGE_TYPE_PERFORMANCE_BIT_EXT;
    messenger.pfnUserCallback = on_message;
    messenger.pUserData = &messages_;
    auto info = make<VkInstanceCreateInfo>(VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO);
    info.pApplicationInfo = &application;
    info.enabledLayerCount = 1;
    info.ppEnabledLayerNames = &layer;
    info.enabledExtensionCount = 1;
    info.ppEnabledExtensionNames = &extension;
    VkResult result = create(&info, nullptr, &instance_);
    if (result == VK_ERROR_LAYER_NOT_PRESENT)
      return "the Vulkan validation layer is not installed";
    if (result != VK_SUCCESS)
      return "no Vulkan instance: VkResult " + std::to_string(result);
#define LOAD(name) name = reinterpret_cast<PFN_vk##name>(get(instance_, "vk" #name));
    INGOT_INSTANCE_FUNCTIONS(LOAD)
#undef LOAD
    CreateDebugUtilsMessengerEXT(instance_, &messenger, nullptr, &messenger_);

    uint32_t count = 16;
    VkPhysicalDevice devices[16];
    EnumeratePhysicalDevices(instance_, &count, devices);
    if (count == 0)
      return "no Vulkan device";
    physical_ = devices[0];
    for (uint32_t i = 0; i < count; ++i) {
      auto properties = make<VkPhysicalDeviceProperties2>(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2);
      GetPhysicalDeviceProperties2(devices[i], &properties);
      if (properties.properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU)
        physical_ = devices[i];
    }
    auto controls = make<VkPhysicalDeviceFloatControlsProperties>(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FLOAT_CONTROLS_PROPERTIES);
    auto properties = make<VkPhysicalDeviceProperties2>(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2);
    GetPhysicalDeviceProperties2(physical_, &properties);
    if (properties.properties.apiVersion >= VK_API_VERSION_1_2) {
      properties.pNext = &controls;
      GetPhysicalDeviceProperties2(physical_, &properties);
    }
    name_ = properties.properties.deviceName;
    float_specials_ = controls.shaderSignedZeroInfNanPreserveFloat32;

    VkQueueFamilyProperties families[16];
    count = 16;
    GetPhysicalDeviceQueueFamilyProperties(physical_, &count, families);
    uint32_t family = 0;
    while (family < count && !(families[family].queueFlags & VK_QUEUE_COMPUTE_BIT))
      ++family;
    if (family == count)
      return name_ + " has no compute queue";
    float priority = 1;
    auto queue = make<VkDeviceQueueCreateInfo>(VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO);
    queue.queueFamilyIndex = family;
    queue.queueCount = 1;
    queue.pQueuePriorities = &priority;
    auto device = make<VkDeviceCreateInfo>(VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO); // no feature is turned on
    device.queueCreateInfoCount = 1;
    device.pQueueCreateInfos = &queue;
    result = CreateDevice(physical_, &device, nullptr, &device_);
    if (result != VK_SUCCESS)
      return "no device on " + name_ + ": VkResult " + std::to_string(result);
#define LOAD(name) name = reinterpret_cast<PFN_vk##name>(GetDeviceProcAddr(device_, "vk" #name));
    INGOT_DEVICE_FUNCTIONS(LOAD)
#undef LOAD
    GetDeviceQueue(device_, family, 0, &queue_);
    family_ = family;
    return "";
  }

  std::string device_name() const override { return name_; }
  bool keeps_float_specials() const override { return float_specials_; }

  std::string run(const std::vector<uint32_t> &spirv, const std::string &entry, std::vector<std::vector<uint32_t>> &buffers,
                  const std::vector<uint8_t> &params, const std::array<uint32_t, 3> &grid) override {
    messages_.clear();
    Resources r;
    std::string problem = launch(r, spirv, entry, buffers, params, grid);
    DeviceWaitIdle(device_);
    release(r);
    if (problem.empty() && !messages_.empty())
      problem = "validation: " + messages_[0];
    return problem;
  }

 private:
  struct Resources {
    VkShaderModule module = VK_NULL_HANDLE;
    VkDescriptorSetLayout set_layout = VK_NULL_HANDLE;
    VkPipelineLayout layout = VK_NULL_HANDLE;
    VkPipeline pipeline = VK_NULL_HANDLE;
    VkDescriptorPool pool = VK_NULL_HANDLE;
    VkCommandPool commands = VK_NULL_HANDLE;
    std::vector<VkBuffer> buffers;
    std::vector<VkDeviceMemory> memories;
  };

  void release(Resources &r) {
    DestroyCommandPool(device_, r.commands, nullptr);
    DestroyDescriptorPool(device_, r.pool, nullptr);
    DestroyPipeline(device_, r.pipeline, nullptr);
    DestroyPipelineLayout(device_, r.layout, nullptr);
    DestroyDescriptorSetLayout(device_, r.set_layout, nullptr);
    DestroyShaderModule(device_, r.module, nullptr);
    for (VkBuffer buffer : r.buffers)
      DestroyBuffer(device_, buffer, nullptr);
    for (VkDeviceMemory memory : r.memories)
      FreeMemory(device_, memory, nullptr);
  }

  std::string launch(Resources &r, const std::vector<uint32_t> &spirv, const std::string &entry,
                     std::vector<std::vector<uint32_t>> &buffers, const std::vector<uint8_t> &params,
                     const std::array<uint32_t, 3> &grid) {
#define CHECK(call)                                                                                                     \
  if (VkResult result = (call); result != VK_SUCCESS)                                                                  \
  return #call ": VkResult " + std::to_string(result) + (messages_.empty() ? "" : ": " + messages_[0])
    auto module = make<VkShaderModuleCreateInfo>(VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO);
    module.codeSize = spirv.size() * 4;
    module.pCode = spirv.data();
    CHECK(CreateShaderModule(device_, &module, nullptr, &r.module));

    std::vector<VkDescriptorSetLayoutBinding> bindings(buffers.size());
    for (size_t i = 0; i < bindings.size(); ++i)
      bindings[i] = {uint32_t(i), VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1, VK_SHADER_STAGE_COMPUTE_BIT, nullptr};
    auto set_layout = make<VkDescriptorSetLayoutCreateInfo>(VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO);
    set_layout.bindingCount = uint32_t(bindings.size());
    set_layout.pBindings = bindings.data();
    CHECK(CreateDescriptorSetLayout(device_, &set_layout, nullptr, &r.set_layout));
    VkPushConstantRange range = {VK_SHADER_STAGE_COMPUTE_BIT, 0, uint32_t(params.size())};
    auto layout = make<VkPipelineLayoutCreateInfo>(VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO);
    layout.setLayoutCount = 1;
    layout.pSetLayouts = &r.set_layout;
    layout.pushConstantRangeCount = params.empty() ? 0 : 1;
    layout.pPushConstantRanges = &range;
    CHECK(CreatePipelineLayout(device_, &layout, nullptr, &r.layout));
    auto pipeline = make<VkComputePipelineCreateInfo>(VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO);
    pipeline.stage = make<VkPipelineShaderStageCreateInfo>(VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO);
    pipeline.stage.stage = VK_SHADER_STAGE_COMPUTE_BIT;
    pipeline.stage.module = r.module;
    pipeline.stage.pName = entry.c_str();
    pipeline.layout = r.layout;
    CHECK(CreateComputePipelines(device_, VK_NULL_HANDLE, 1, &pipeline, nullptr, &r.pipeline));

    VkDescriptorPoolSize size = {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, uint32_t(buffers.size())};
    auto pool = make<VkDescriptorPoolCreateInfo>(VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO);
    pool.maxSets = 1;
    pool.poolSizeCount = 1;
    pool.pPoolSizes = &size;
    CHECK(CreateDescriptorPool(device_, &pool, nullptr, &r.pool));
    auto allocate_set = make<VkDescriptorSetAllocateInfo>(VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO);
    allocate_set.descriptorPool = r.pool;
    allocate_set.descriptorSetCount = 1;
    allocate_set.pSetLayouts = &r.set_layout;
    VkDescriptorSet set;
    CHECK(AllocateDescriptorSets(device_, &allocate_set, &set));

    VkPhysicalDeviceMemoryProperties memories;
    GetPhysicalDeviceMemoryProperties(physical_, &memories);
    std::vector<void *> mapped;
    for (size_t i = 0; i < buffers.size(); ++i) {
      auto info = make<VkBufferCreateInfo>(VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO);
      info.size = buffers[i].size() * 4;
      info.usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT;
      r.buffers.push_back(VK_NULL_HANDLE);
      CHECK(CreateBuffer(device_, &info, nullptr, &r.buffers.back()));
      VkMemoryRequirements needs;
      GetBufferMemoryRequirements(device_, r.buffers.back(), &needs);
      VkMemoryPropertyFlags wanted = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
      uint32_t type = 0;
      while (type < memories.memoryTypeCount && !((needs.memoryTypeBits >> type & 1) &&
                                                  (memories.memoryTypes[type].propertyFlags & wanted) == wanted))
        ++type;
      auto allocate = make<VkMemoryAllocateInfo>(VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO);
      allocate.allocationSize = needs.size;
      allocate.memoryTypeIndex = type;
      r.memories.push_back(VK_NULL_HANDLE);
      CHECK(AllocateMemory(device_, &allocate, nullptr, &r.memories.back()));
      CHECK(BindBufferMemory(device_, r.buffers.back(), r.memories.back(), 0));
      mapped.push_back(nullptr);
      CHECK(MapMemory(device_, r.memories.back(), 0, VK_WHOLE_SIZE, 0, &mapped.back()));
      std::memcpy(mapped.back(), buffers[i].data(), info.size);
      VkDescriptorBufferInfo whole = {r.buffers.back(), 0, VK_WHOLE_SIZE};
      auto write = make<VkWriteDescriptorSet>(VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET);
      write.dstSet = set;
      write.dstBinding = uint32_t(i);
      write.descriptorCount = 1;
      write.descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER;
      write.pBufferInfo = &whole;
      UpdateDescriptorSets(device_, 1, &write, 0, nullptr);
    }

    auto commands = make<VkCommandPoolCreateInfo>(VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO);
    commands.queueFamilyIndex = family_;
    CHECK(CreateCommandPool(device_, &commands, nullptr, &r.commands));
    auto allocate = make<VkCommandBufferAllocateInfo>(VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO);
    allocate.commandPool = r.commands;
    allocate.commandBufferCount = 1;
    VkCommandBuffer buffer;
    CHECK(AllocateCommandBuffers(device_, &allocate, &buffer));
    auto begin = make<VkCommandBufferBeginInfo>(VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO);
    CHECK(BeginCommandBuffer(buffer, &begin));
    CmdBindPipeline(buffer, VK_PIPELINE_BIND_POINT_COMPUTE, r.pipeline);
    CmdBindDescriptorSets(buffer, VK_PIPELINE_BIND_POINT_COMPUTE, r.layout, 0, 1, &set, 0, nullptr);
    if (!params.empty())
      CmdPushConstants(buffer, r.layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, uint32_t(params.size()), params.data());
    CmdDispatch(buffer, grid[0], grid[1], grid[2]);
    auto barrier = make<VkMemoryBarrier>(VK_STRUCTURE_TYPE_MEMORY_BARRIER);
    barrier.srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT;
    barrier.dstAccessMask = VK_ACCESS_HOST_READ_BIT;
    CmdPipelineBarrier(buffer, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &barrier, 0, nullptr,
                       0, nullptr);
    CHECK(EndCommandBuffer(buffer));
    auto submit = make<VkSubmitInfo>(VK_STRUCTURE_TYPE_SUBMIT_INFO);
    submit.commandBufferCount = 1;
    submit.pCommandBuffers = &buffer;
    CHECK(QueueSubmit(queue_, 1, &submit, VK_NULL_HANDLE));
    CHECK(QueueWaitIdle(queue_));
    for (size_t i = 0; i < buffers.size(); ++i)
      std::memcpy(buffers[i].data(), mapped[i], buffers[i].size() * 4);
#undef CHECK
    return "";
  }

#define DECLARE(name) PFN_vk##name name = nullptr;
  INGOT_INSTANCE_FUNCTIONS(DECLARE)
  INGOT_DEVICE_FUNCTIONS(DECLARE)
#undef DECLARE
  std::vector<std::string> messages_;
  VkInstance instance_ = VK_NULL_HANDLE;
  VkDebugUtilsMessengerEXT messenger_ = VK_NULL_HANDLE;
  VkPhysicalDevice physical_ = VK_NULL_HANDLE;
  VkDevice device_ = VK_NULL_HANDLE;
  VkQueue queue_ = VK_NULL_HANDLE;
  uint32_t family_ = 0;
  bool float_specials_ = false;
  std::string name_;
};

} // namespace

std::unique_ptr<VulkanHost> VulkanHost::open(std::string &why) {
  auto host = std::make_unique<Host>();
  why = host->start();
  if (!why.empty())
    return nullptr;
  return host;
}

} // namespace ingot::aotc::gpu_spike
