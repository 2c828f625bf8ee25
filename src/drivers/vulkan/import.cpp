// The application's own device, queue and buffers (<ingot/vulkan.h>).
#include <stdio.h>

#include <ingot/vulkan.h>

#include "schemas/gpu_abi.h"
#include "src/drivers/vulkan/vulkan.h"
#include "src/runtime/api/adopt.h"

using namespace ingot;
using namespace ingot::vulkan;

namespace {

// What a VkDeviceCreateInfo switched on.
struct Enabled {
  uint64_t features = 0; // INGOT_VULKAN_*
  bool timelines = false, host_imports = false, feedback = false;
};

void add_core(const VkPhysicalDeviceFeatures &f, Enabled *out) {
  out->features |= (f.shaderInt64 ? INGOT_VULKAN_INT64 : 0) | (f.shaderInt16 ? INGOT_VULKAN_INT16 : 0) |
                   (f.shaderFloat64 ? INGOT_VULKAN_FLOAT64 : 0);
}

// Visits the structs of a pNext chain.
template <class Visit> void walk(const void *chain, Visit visit) {
  for (auto *s = static_cast<const VkBaseInStructure *>(chain); s; s = s->pNext) visit(s->sType, s);
}

Enabled enabled_by(const VkDeviceCreateInfo &info) {
  Enabled out;
  const auto bit = [&](VkBool32 on, uint64_t feature) { out.features |= on ? feature : 0; };
  if (info.pEnabledFeatures) add_core(*info.pEnabledFeatures, &out);
  walk(info.pNext, [&](VkStructureType type, const void *s) {
    switch (type) {
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2: add_core(static_cast<const VkPhysicalDeviceFeatures2 *>(s)->features, &out); break;
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES:
      bit(static_cast<const VkPhysicalDeviceVulkan11Features *>(s)->storageBuffer16BitAccess, INGOT_VULKAN_STORAGE_16);
      break;
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES: {
      const auto &f = *static_cast<const VkPhysicalDeviceVulkan12Features *>(s);
      bit(f.shaderInt8, INGOT_VULKAN_INT8);
      bit(f.shaderFloat16, INGOT_VULKAN_FLOAT16);
      bit(f.storageBuffer8BitAccess, INGOT_VULKAN_STORAGE_8);
      out.timelines |= f.timelineSemaphore;
      break;
    }
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES:
      bit(static_cast<const VkPhysicalDevice16BitStorageFeatures *>(s)->storageBuffer16BitAccess, INGOT_VULKAN_STORAGE_16);
      break;
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_8BIT_STORAGE_FEATURES:
      bit(static_cast<const VkPhysicalDevice8BitStorageFeatures *>(s)->storageBuffer8BitAccess, INGOT_VULKAN_STORAGE_8);
      break;
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES:
      bit(static_cast<const VkPhysicalDeviceShaderFloat16Int8Features *>(s)->shaderInt8, INGOT_VULKAN_INT8);
      bit(static_cast<const VkPhysicalDeviceShaderFloat16Int8Features *>(s)->shaderFloat16, INGOT_VULKAN_FLOAT16);
      break;
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES:
      out.timelines |= static_cast<const VkPhysicalDeviceTimelineSemaphoreFeatures *>(s)->timelineSemaphore;
      break;
    default: break;
    }
  });
  for (uint32_t i = 0; i < info.enabledExtensionCount; ++i) {
    out.host_imports |= strings_equal(info.ppEnabledExtensionNames[i], VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME);
    out.feedback |= strings_equal(info.ppEnabledExtensionNames[i], VK_EXT_PIPELINE_CREATION_FEEDBACK_EXTENSION_NAME);
  }
  return out;
}

Code check_family(const Instance &instance, const ingot_vulkan_import_t &given, Error *error) {
  VkQueueFamilyProperties families[16];
  uint32_t count = 16;
  instance.vk.GetPhysicalDeviceQueueFamilyProperties(given.physical_device, &count, families);
  if (given.queue_family >= count || !(families[given.queue_family].queueFlags & VK_QUEUE_COMPUTE_BIT))
    return fail(error, INGOT_INVALID_ARGUMENT, "vulkan: queue family %u cannot compute", given.queue_family);
  for (uint32_t i = 0; i < given.create_info->queueCreateInfoCount; ++i)
    if (given.create_info->pQueueCreateInfos[i].queueFamilyIndex == given.queue_family) return INGOT_OK;
  return fail(error, INGOT_INVALID_ARGUMENT, "vulkan: the device was made without a queue of family %u", given.queue_family);
}

// The chain says what is on; what the device could do beyond that is not there.
Code restrict_to(const VkDeviceCreateInfo &info, Physical *p, Error *error) {
  const Enabled on = enabled_by(info);
  if (!on.timelines) return fail(error, INGOT_INCOMPATIBLE, "vulkan: the device was made without the feature timelineSemaphore");
  p->features &= on.features | INGOT_VULKAN_SUBGROUP;
  p->host_imports = p->host_imports && on.host_imports;
  p->feedback = on.feedback;
  return INGOT_OK;
}

Code import_into(ingot_driver_device_t &d, const ingot_vulkan_import_t &given, const char *options_text, Error *error) {
  Options options;
  INGOT_TRY(parse_options(options_text, &options, error));
  if (options.validation)
    return fail(error, INGOT_INVALID_ARGUMENT, "vulkan: validation=1 is for devices of Ingot's own: enable the layer in your instance");
  INGOT_TRY(d.instance.wrap(given.instance, reinterpret_cast<PFN_vkGetInstanceProcAddr>(given.get_instance_proc_addr), error));
  if (look_at(d.instance, given.physical_device, &d.physical) == 0)
    return fail(error, INGOT_INCOMPATIBLE, "vulkan: the device is older than Vulkan 1.1, or cannot compute");
  INGOT_TRY(check_family(d.instance, given, error));
  INGOT_TRY(restrict_to(*given.create_info, &d.physical, error));
  d.physical.queue_family = given.queue_family;
  d.device = given.device;
  d.queue = given.queue;
  memcpy(d.cache_folder, options.cache_folder, sizeof d.cache_folder);
  d.lock = given.lock;
  d.unlock = given.unlock;
  d.lock_user = given.user;
  return set_up(d, error);
}

Code check_import(const ingot_vulkan_import_t &given, Error *error) {
  if (given.struct_size < sizeof given)
    return fail(error, INGOT_INVALID_ARGUMENT, "a Vulkan device: struct_size is %zu, at least %zu expected", given.struct_size, sizeof given);
  const char *absent = !given.instance          ? "instance"
                       : !given.physical_device ? "physical_device"
                       : !given.device          ? "device"
                       : !given.create_info     ? "create_info"
                       : !given.queue           ? "queue"
                                                : nullptr;
  if (absent) return fail(error, INGOT_INVALID_ARGUMENT, "a Vulkan device: %s is NULL", absent);
  if (!given.lock != !given.unlock) return fail(error, INGOT_INVALID_ARGUMENT, "a Vulkan device: lock and unlock come together");
  return INGOT_OK;
}

Code null(Error *error, const char *what) { return fail(error, INGOT_INVALID_ARGUMENT, "%s is NULL (did the call that makes it fail?)", what); }

// Vulkan does not tell a buffer's size; what its memory needs is an upper bound of it.
Code check_range(const ingot_driver_device_t &d, VkBuffer buffer, uint64_t offset, uint64_t size, Error *error) {
  const uint64_t alignment = d.physical.properties.limits.minStorageBufferOffsetAlignment;
  if (offset % (alignment > 4 ? alignment : 4) != 0)
    return fail(error, INGOT_INVALID_ARGUMENT,
                "vulkan: a buffer from byte %llu on: the device needs multiples of %llu (set a tensor's buffer_offset for others)",
                (unsigned long long)offset, (unsigned long long)(alignment > 4 ? alignment : 4));
  VkMemoryRequirements needs;
  d.vk.GetBufferMemoryRequirements(d.device, buffer, &needs);
  if (size > needs.size || !fits(offset, align_up(size, 4), needs.size))
    return fail(error, INGOT_OUT_OF_RANGE, "vulkan: %llu bytes at %llu, in whole words, reach past the end of a buffer of at most %llu",
                (unsigned long long)size, (unsigned long long)offset, (unsigned long long)needs.size);
  return INGOT_OK;
}

// The driver's device behind a handle; null, with the reason, where it is another driver's.
ingot_driver_device_t *vulkan_device(const ingot_device_t *device, Error *error) {
  auto *d = static_cast<ingot_driver_device_t *>(adopted_device(device, ingot_driver_vulkan));
  if (!d) fail(error, INGOT_INVALID_ARGUMENT, "%.80s is no device of the driver vulkan", ingot_device_uri(device));
  return d;
}

} // namespace

extern "C" {

ingot_code_t ingot_vulkan_device_import(ingot_instance_t *instance, const ingot_vulkan_import_t *given, const char *options,
                                        ingot_device_t **out, ingot_error_t *error) {
  Error unwanted;
  if (!error) error = &unwanted;
  if (!instance || !given || !out) return null(error, !instance ? "instance" : !given ? "given" : "out");
  INGOT_TRY(check_import(*given, error));
  const ingot_driver_host_t host = adopting_host(*instance);
  ingot_driver_device_t *d = create_object<ingot_driver_device_t>(host.allocator, "a device", error);
  if (!d) return INGOT_OUT_OF_MEMORY;
  d->allocator = host.allocator;
  d->now_ns = host.now_ns;
  Code code = import_into(*d, *given, options ? options : "", error);
  char uri[64];
  snprintf(uri, sizeof uri, "vulkan://%s", d->physical.id);
  if (code == INGOT_OK) code = adopt_device(*instance, ingot_driver_vulkan, d, uri, out, error);
  if (code != INGOT_OK) close_device(d);
  return code;
}

ingot_code_t ingot_vulkan_buffer_import(ingot_device_t *device, VkBuffer buffer, uint64_t offset, uint64_t size, ingot_buffer_t **out,
                                        ingot_error_t *error) {
  Error unwanted;
  if (!error) error = &unwanted;
  if (!device || !buffer || !out) return null(error, !device ? "device" : !buffer ? "buffer" : "out");
  ingot_driver_device_t *const d = vulkan_device(device, error);
  if (!d) return INGOT_INVALID_ARGUMENT;
  if (size == 0) return fail(error, INGOT_INVALID_ARGUMENT, "vulkan: a buffer of no bytes cannot be imported");
  INGOT_TRY(check_range(*d, buffer, offset, size, error));
  ingot_driver_memory_t *memory = create_object<ingot_driver_memory_t>(d->allocator, "an imported buffer", error);
  if (!memory) return INGOT_OUT_OF_MEMORY;
  memory->buffer = buffer;
  memory->base = offset;
  memory->size = size;
  memory->owned = false;
  const Code code = adopt_buffer(device, memory, size, out, error);
  if (code != INGOT_OK) release(d, memory);
  return code;
}

ingot_code_t ingot_vulkan_pipeline_cache_get(ingot_device_t *device, void *data, size_t capacity, size_t *size, ingot_error_t *error) {
  Error unwanted;
  if (!error) error = &unwanted;
  if (!device || !size) return null(error, device ? "size" : "device");
  ingot_driver_device_t *const d = vulkan_device(device, error);
  return d ? cache_get(*d, data, capacity, size, error) : INGOT_INVALID_ARGUMENT;
}

ingot_code_t ingot_vulkan_pipeline_cache_add(ingot_device_t *device, const void *data, size_t size, ingot_error_t *error) {
  Error unwanted;
  if (!error) error = &unwanted;
  if (!device || !data) return null(error, device ? "data" : "device");
  ingot_driver_device_t *const d = vulkan_device(device, error);
  return d ? cache_add(*d, data, size, error) : INGOT_INVALID_ARGUMENT;
}

ingot_code_t ingot_vulkan_pipeline_cache_info(ingot_device_t *device, ingot_vulkan_pipeline_cache_info_t *out, ingot_error_t *error) {
  Error unwanted;
  if (!error) error = &unwanted;
  if (!device || !out) return null(error, device ? "out" : "device");
  if (out->struct_size < sizeof *out)
    return fail(error, INGOT_INVALID_ARGUMENT, "pipeline cache info: struct_size is %zu, at least %zu expected", out->struct_size, sizeof *out);
  ingot_driver_device_t *const d = vulkan_device(device, error);
  if (!d) return INGOT_INVALID_ARGUMENT;
  platform::Lock lock(d->cache_mutex);
  const CacheCounts &c = d->cache_counts;
  out->blobs_taken = c.taken;
  out->blobs_refused = c.refused;
  out->files_written = c.written;
  out->files_not_written = c.not_written;
  out->pipelines = c.pipelines.load(std::memory_order_relaxed);
  out->pipelines_found = c.found.load(std::memory_order_relaxed);
  return INGOT_OK;
}

} // extern "C"
