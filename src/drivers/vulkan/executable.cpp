// Code of a variant: a compute pipeline a kernel.
#include "src/drivers/vulkan/vulkan.h"

#include "schemas/gpu_abi.h"

namespace ingot::vulkan {
namespace {

constexpr uint32_t kMaxBindings = 64 + 1; // of the archive format, and the error word

uint32_t bindings_of(const ingot_driver_kernel_t &k) { return k.binding_count + ((k.flags & INGOT_KERNEL_FLAG_ERRORS) ? 1 : 0); }

// The version with the highest rank whose features are all there; INGOT_NONE where there is none.
uint32_t pick_version(const ingot_driver_kernel_t &k, uint64_t features) {
  uint32_t best = INGOT_NONE;
  for (uint32_t v = 0; v < k.version_count; ++v)
    if ((k.versions[v].feature_mask & ~features) == 0 && (best == INGOT_NONE || k.versions[v].rank > k.versions[best].rank)) best = v;
  return best;
}

// What the device must have for one kernel, beside features.
Code check_limits(const Physical &p, const ingot_driver_kernel_t &k, Error *error) {
  const VkPhysicalDeviceLimits &l = p.properties.limits;
  const uint64_t invocations = uint64_t(k.local_size[0]) * k.local_size[1] * k.local_size[2];
  if (bindings_of(k) > l.maxPerStageDescriptorStorageBuffers || bindings_of(k) > kMaxBindings)
    return fail(error, INGOT_INCOMPATIBLE, "kernel '%.80s' has %u buffers, the device takes %u", k.name, bindings_of(k),
                l.maxPerStageDescriptorStorageBuffers);
  if (4 * uint64_t(k.param_count) > l.maxPushConstantsSize)
    return fail(error, INGOT_INCOMPATIBLE, "kernel '%.80s' has %u parameters, the device takes %u", k.name, k.param_count,
                l.maxPushConstantsSize / 4);
  if (invocations > l.maxComputeWorkGroupInvocations || k.local_size[0] > l.maxComputeWorkGroupSize[0] ||
      k.local_size[1] > l.maxComputeWorkGroupSize[1] || k.local_size[2] > l.maxComputeWorkGroupSize[2])
    return fail(error, INGOT_INCOMPATIBLE, "kernel '%.80s' has workgroups of %u x %u x %u, the device takes %u in all", k.name,
                k.local_size[0], k.local_size[1], k.local_size[2], l.maxComputeWorkGroupInvocations);
  return INGOT_OK;
}

// The SPIR-V words of a version.
Code module_of(const ingot_driver_code_t &code, const ingot_driver_kernel_t &k, const ingot_driver_code_version_t &v,
               const uint32_t **words, size_t *size, Error *error) {
  constexpr uint32_t kMagic = 0x07230203;
  const ingot_driver_image_t &image = code.images[v.image];
  if (image.format != INGOT_CODE_SPIRV || v.symbol_offset % 4 != 0 || v.code_size % 4 != 0 || v.code_size < 20 ||
      !fits(v.symbol_offset, v.code_size, image.size) || uintptr_t(image.data) % 4 != 0)
    return fail(error, INGOT_CORRUPT, "kernel '%.80s': its SPIR-V module is not inside its image", k.name);
  *words = reinterpret_cast<const uint32_t *>(static_cast<const uint8_t *>(image.data) + v.symbol_offset);
  *size = size_t(v.code_size);
  if (**words != kMagic) return fail(error, INGOT_CORRUPT, "kernel '%.80s': its code is no SPIR-V module", k.name);
  return INGOT_OK;
}

Code set_layout(ingot_driver_executable_t &e, uint32_t bindings, VkDescriptorSetLayout *out, Error *error) {
  ingot_driver_device_t &d = *e.device;
  if (!e.set_layouts[bindings]) {
    VkDescriptorSetLayoutBinding list[kMaxBindings];
    for (uint32_t i = 0; i < bindings; ++i) list[i] = {i, VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1, VK_SHADER_STAGE_COMPUTE_BIT, nullptr};
    auto info = make<VkDescriptorSetLayoutCreateInfo>(VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO);
    info.bindingCount = bindings;
    info.pBindings = list;
    INGOT_VK_TRY(d.vk.CreateDescriptorSetLayout(d.device, &info, nullptr, &e.set_layouts[bindings]), "vkCreateDescriptorSetLayout");
  }
  *out = e.set_layouts[bindings];
  return INGOT_OK;
}

Code pipeline_layout(ingot_driver_executable_t &e, uint32_t kernel, Error *error) {
  ingot_driver_device_t &d = *e.device;
  const ingot_driver_executable_t::Pipeline &p = e.pipelines[kernel];
  for (uint32_t k = 0; k < kernel; ++k)
    if (e.pipelines[k].bindings == p.bindings && e.pipelines[k].params == p.params) {
      e.layouts[kernel] = e.layouts[k];
      return INGOT_OK;
    }
  VkDescriptorSetLayout set = VK_NULL_HANDLE;
  INGOT_TRY(set_layout(e, p.bindings, &set, error));
  const VkPushConstantRange range = {VK_SHADER_STAGE_COMPUTE_BIT, 0, 4 * p.params};
  auto info = make<VkPipelineLayoutCreateInfo>(VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO);
  info.setLayoutCount = 1;
  info.pSetLayouts = &set;
  info.pushConstantRangeCount = p.params ? 1 : 0;
  info.pPushConstantRanges = &range;
  INGOT_VK_TRY(d.vk.CreatePipelineLayout(d.device, &info, nullptr, &e.layouts[kernel]), "vkCreatePipelineLayout");
  return INGOT_OK;
}

Code create_pipeline(ingot_driver_executable_t &e, const ingot_driver_code_t &code, uint32_t kernel, Error *error) {
  ingot_driver_device_t &d = *e.device;
  const ingot_driver_kernel_t &k = code.kernels[kernel];
  ingot_driver_executable_t::Pipeline &p = e.pipelines[kernel];
  p.version = pick_version(k, d.physical.features);
  if (p.version == INGOT_NONE) return fail(error, INGOT_INCOMPATIBLE, "kernel '%.80s' has no version for this device", k.name);
  INGOT_TRY(check_limits(d.physical, k, error));
  p.bindings = bindings_of(k);
  p.params = k.param_count;
  p.errors = (k.flags & INGOT_KERNEL_FLAG_ERRORS) != 0;
  INGOT_TRY(pipeline_layout(e, kernel, error));
  auto info = make<VkShaderModuleCreateInfo>(VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO);
  INGOT_TRY(module_of(code, k, k.versions[p.version], &info.pCode, &info.codeSize, error));
  VkShaderModule module = VK_NULL_HANDLE;
  INGOT_VK_TRY(d.vk.CreateShaderModule(d.device, &info, nullptr, &module), "vkCreateShaderModule");
  auto pipeline = make<VkComputePipelineCreateInfo>(VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO);
  pipeline.stage = make<VkPipelineShaderStageCreateInfo>(VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO);
  pipeline.stage.stage = VK_SHADER_STAGE_COMPUTE_BIT;
  pipeline.stage.module = module;
  pipeline.stage.pName = k.versions[p.version].entry;
  pipeline.layout = e.layouts[kernel];
  VkPipelineCreationFeedback whole = {}, stage = {};
  auto feedback = make<VkPipelineCreationFeedbackCreateInfo>(VK_STRUCTURE_TYPE_PIPELINE_CREATION_FEEDBACK_CREATE_INFO);
  feedback.pPipelineCreationFeedback = &whole;
  feedback.pipelineStageCreationFeedbackCount = 1;
  feedback.pPipelineStageCreationFeedbacks = &stage;
  if (d.physical.feedback) pipeline.pNext = &feedback;
  const VkResult result =
      d.vk.CreateComputePipelines(d.device, d.cache.load(std::memory_order_acquire), 1, &pipeline, nullptr, &p.pipeline);
  d.vk.DestroyShaderModule(d.device, module, nullptr);
  if (result != VK_SUCCESS) {
    failed(error, result, "vkCreateComputePipelines");
    return prefix(error, "kernel '%.80s'", k.name);
  }
  constexpr VkPipelineCreationFeedbackFlags kFound =
      VK_PIPELINE_CREATION_FEEDBACK_VALID_BIT | VK_PIPELINE_CREATION_FEEDBACK_APPLICATION_PIPELINE_CACHE_HIT_BIT;
  d.cache_counts.pipelines.fetch_add(1, std::memory_order_relaxed);
  if ((whole.flags & kFound) == kFound) d.cache_counts.found.fetch_add(1, std::memory_order_relaxed);
  return INGOT_OK;
}

} // namespace

Code supports(ingot_driver_device_t *device, const ingot_driver_code_t *code, Error *error) {
  if (!strings_equal(code->target, "vulkan-spirv"))
    return fail(error, INGOT_INCOMPATIBLE, "the variant is for %.60s, this device runs vulkan-spirv", code->target);
  for (uint32_t i = 0; i < code->kernel_count; ++i) {
    const ingot_driver_kernel_t &k = code->kernels[i];
    INGOT_TRY(check_limits(device->physical, k, error));
    if (pick_version(k, device->physical.features) == INGOT_NONE)
      return fail(error, INGOT_INCOMPATIBLE, "kernel '%.80s' needs features that the device lacks (mask 0x%llx, the device has 0x%llx)",
                  k.name, (unsigned long long)(k.version_count ? k.versions[0].feature_mask : 0),
                  (unsigned long long)device->physical.features);
  }
  return INGOT_OK;
}

Code load(ingot_driver_device_t *device, const ingot_driver_code_t *code, ingot_driver_executable_t **out, Error *error) {
  ingot_driver_executable_t *e = create_object<ingot_driver_executable_t>(device->allocator, "an executable", error);
  if (!e) return INGOT_OUT_OF_MEMORY;
  e->device = device;
  const auto fill = [&]() -> Code {
    INGOT_TRY(e->pipelines.create(device->allocator, code->kernel_count, "pipelines", error));
    INGOT_TRY(e->layouts.create(device->allocator, code->kernel_count, "pipelines", error));
    INGOT_TRY(e->set_layouts.create(device->allocator, kMaxBindings + 1, "pipelines", error));
    for (uint32_t i = 0; i < code->kernel_count; ++i) INGOT_TRY(create_pipeline(*e, *code, i, error));
    return INGOT_OK;
  };
  if (const Code result = fill()) {
    destroy_object(device->allocator, e);
    return result;
  }
  store_cache(*device);
  *out = e;
  return INGOT_OK;
}

void unload(ingot_driver_executable_t *e) { destroy_object(e->device->allocator, e); }

uint32_t kernel_version(const ingot_driver_executable_t *e, uint32_t kernel) { return e->pipelines[kernel].version; }

} // namespace ingot::vulkan

ingot_driver_executable_t::~ingot_driver_executable_t() {
  const ingot::vulkan::DeviceTable &vk = device->vk;
  for (const Pipeline &p : pipelines) vk.DestroyPipeline(device->device, p.pipeline, nullptr);
  for (size_t k = 0; k < layouts.size(); ++k) {
    bool first = true;
    for (size_t i = 0; i < k && first; ++i) first = layouts[i] != layouts[k];
    if (first) vk.DestroyPipelineLayout(device->device, layouts[k], nullptr);
  }
  for (VkDescriptorSetLayout layout : set_layouts) vk.DestroyDescriptorSetLayout(device->device, layout, nullptr);
}
