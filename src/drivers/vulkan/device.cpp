// Finding, opening and describing devices.
#include "src/drivers/vulkan/vulkan.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "schemas/gpu_abi.h"

namespace ingot::vulkan {

Code failed(Error *error, VkResult result, const char *what) {
  switch (result) {
  case VK_ERROR_OUT_OF_HOST_MEMORY: return fail(error, INGOT_OUT_OF_MEMORY, "vulkan: %s: out of host memory", what);
  case VK_ERROR_OUT_OF_DEVICE_MEMORY:
  case VK_ERROR_OUT_OF_POOL_MEMORY:
  case VK_ERROR_TOO_MANY_OBJECTS: return fail(error, INGOT_OUT_OF_MEMORY, "vulkan: %s: out of device memory (VkResult %d)", what, result);
  case VK_ERROR_DEVICE_LOST:
    return fail(error, INGOT_DEVICE_LOST, "vulkan: %s: the device was lost; open it again for a new start", what);
  default: return fail(error, INGOT_INTERNAL, "vulkan: %s failed with VkResult %d", what, result);
  }
}

namespace {

VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT, VkDebugUtilsMessageTypeFlagsEXT,
                                          const VkDebugUtilsMessengerCallbackDataEXT *data, void *user) {
  Messages &m = *static_cast<Messages *>(user);
  platform::Lock lock(m.mutex);
  if (m.count++ == 0) snprintf(m.first, sizeof m.first, "%s", data->pMessage);
  return VK_FALSE;
}

bool has_extension(const Instance &instance, VkPhysicalDevice device, const char *name) {
  uint32_t n = 0;
  if (instance.vk.EnumerateDeviceExtensionProperties(device, nullptr, &n, nullptr) != VK_SUCCESS || n == 0) return false;
  VkExtensionProperties *all = static_cast<VkExtensionProperties *>(malloc(n * sizeof *all));
  bool found = false;
  if (all && instance.vk.EnumerateDeviceExtensionProperties(device, nullptr, &n, all) >= VK_SUCCESS)
    for (uint32_t i = 0; i < n && !found; ++i) found = strings_equal(all[i].extensionName, name);
  free(all);
  return found;
}

} // namespace

uint32_t look_at(const Instance &instance, VkPhysicalDevice handle, Physical *out) {
  Physical &p = *out;
  p.handle = handle;
  auto subgroup = make<VkPhysicalDeviceSubgroupProperties>(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES);
  auto ids = make<VkPhysicalDeviceIDProperties>(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES);
  auto maintenance = make<VkPhysicalDeviceMaintenance3Properties>(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES);
  auto properties = make<VkPhysicalDeviceProperties2>(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2);
  properties.pNext = &subgroup;
  subgroup.pNext = &ids;
  ids.pNext = &maintenance;
  auto imports = make<VkPhysicalDeviceExternalMemoryHostPropertiesEXT>(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_MEMORY_HOST_PROPERTIES_EXT);
  p.host_imports = has_extension(instance, handle, VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME);
  if (p.host_imports) maintenance.pNext = &imports;
  instance.vk.GetPhysicalDeviceProperties2(handle, &properties);
  p.properties = properties.properties;
  p.subgroup = subgroup;
  p.max_allocation = maintenance.maxMemoryAllocationSize;
  p.host_alignment = imports.minImportedHostPointerAlignment;
  p.feedback = p.properties.apiVersion >= VK_API_VERSION_1_3;
  for (uint32_t i = 0; i < VK_UUID_SIZE; ++i) snprintf(p.id + 2 * i, 3, "%02x", ids.deviceUUID[i]);
  instance.vk.GetPhysicalDeviceMemoryProperties(handle, &p.memory);

  VkQueueFamilyProperties families[16];
  uint32_t count = 16;
  instance.vk.GetPhysicalDeviceQueueFamilyProperties(handle, &count, families);
  for (uint32_t i = 0; i < count; ++i) // a family for compute alone runs beside the application's graphics
    if ((families[i].queueFlags & VK_QUEUE_COMPUTE_BIT) &&
        (p.queue_family == INGOT_NONE || !(families[i].queueFlags & VK_QUEUE_GRAPHICS_BIT)))
      p.queue_family = i;
  if (p.queue_family == INGOT_NONE || p.properties.apiVersion < VK_API_VERSION_1_1) return 0;

  const bool core12 = p.properties.apiVersion >= VK_API_VERSION_1_2;
  auto storage16 = make<VkPhysicalDevice16BitStorageFeatures>(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES);
  auto storage8 = make<VkPhysicalDevice8BitStorageFeatures>(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_8BIT_STORAGE_FEATURES);
  auto small = make<VkPhysicalDeviceShaderFloat16Int8Features>(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES);
  auto timeline = make<VkPhysicalDeviceTimelineSemaphoreFeatures>(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES);
  auto features = make<VkPhysicalDeviceFeatures2>(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2);
  features.pNext = &storage16;
  if (core12 || has_extension(instance, handle, VK_KHR_TIMELINE_SEMAPHORE_EXTENSION_NAME)) storage16.pNext = &timeline;
  if (core12) {
    timeline.pNext = &storage8;
    storage8.pNext = &small;
  }
  instance.vk.GetPhysicalDeviceFeatures2(handle, &features);
  p.timelines = timeline.timelineSemaphore;
  const auto bit = [&](bool there, uint64_t feature) { p.features |= there ? feature : 0; };
  bit(features.features.shaderInt64, INGOT_VULKAN_INT64);
  bit(features.features.shaderInt16, INGOT_VULKAN_INT16);
  bit(features.features.shaderFloat64, INGOT_VULKAN_FLOAT64);
  bit(small.shaderInt8, INGOT_VULKAN_INT8);
  bit(small.shaderFloat16, INGOT_VULKAN_FLOAT16);
  bit(storage8.storageBuffer8BitAccess, INGOT_VULKAN_STORAGE_8);
  bit(storage16.storageBuffer16BitAccess, INGOT_VULKAN_STORAGE_16);
  const VkSubgroupFeatureFlags wanted = VK_SUBGROUP_FEATURE_ARITHMETIC_BIT | VK_SUBGROUP_FEATURE_SHUFFLE_BIT;
  bit((subgroup.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT) && (subgroup.supportedOperations & wanted) == wanted,
      INGOT_VULKAN_SUBGROUP);
  switch (p.properties.deviceType) {
  case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU: return 5;
  case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU: return 4;
  case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU: return 3;
  case VK_PHYSICAL_DEVICE_TYPE_CPU: return 1;
  default: return 2;
  }
}

namespace {

// The memory type with all of `needed` and most of `wanted`; among equals the first, which is the fastest.
uint32_t pick_type(const Physical &p, VkMemoryPropertyFlags needed, VkMemoryPropertyFlags wanted) {
  uint32_t best = INGOT_NONE, best_score = 0;
  for (uint32_t i = 0; i < p.memory.memoryTypeCount; ++i) {
    const VkMemoryPropertyFlags flags = p.memory.memoryTypes[i].propertyFlags;
    if ((flags & needed) != needed || (flags & VK_MEMORY_PROPERTY_PROTECTED_BIT)) continue;
    const uint32_t score = 1 + uint32_t(__builtin_popcount(flags & wanted));
    if (score > best_score) {
      best = i;
      best_score = score;
    }
  }
  return best;
}

constexpr VkMemoryPropertyFlags kLocal = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, kVisible = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT,
                                kCoherent = VK_MEMORY_PROPERTY_HOST_COHERENT_BIT, kCached = VK_MEMORY_PROPERTY_HOST_CACHED_BIT;

// Unified: every device-local type can be seen by the host, as on integrated GPUs and software devices. A discrete card
// with a window onto its memory is not: reading through it is slow.
Code pick_memory(ingot_driver_device_t &d, Error *error) {
  const Physical &p = d.physical;
  d.unified = p.properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU || p.properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU;
  const uint32_t shared = pick_type(p, kLocal | kVisible | kCoherent, kCached);
  d.unified = d.unified && shared != INGOT_NONE;
  d.device_type = d.unified ? shared : pick_type(p, kLocal, 0);
  d.upload_type = pick_type(p, kVisible | kCoherent, 0);
  d.readback_type = pick_type(p, kVisible | kCoherent, kCached);
  if (d.device_type == INGOT_NONE || d.upload_type == INGOT_NONE || d.readback_type == INGOT_NONE)
    return fail(error, INGOT_UNAVAILABLE, "vulkan: '%.80s' has no memory that host and device can both use", p.properties.deviceName);
  return INGOT_OK;
}

Code create_device(ingot_driver_device_t &d, Error *error) {
  const Physical &p = d.physical;
  const bool core12 = p.properties.apiVersion >= VK_API_VERSION_1_2;
  auto storage16 = make<VkPhysicalDevice16BitStorageFeatures>(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES);
  auto storage8 = make<VkPhysicalDevice8BitStorageFeatures>(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_8BIT_STORAGE_FEATURES);
  auto small = make<VkPhysicalDeviceShaderFloat16Int8Features>(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES);
  auto timeline = make<VkPhysicalDeviceTimelineSemaphoreFeatures>(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES);
  auto features = make<VkPhysicalDeviceFeatures2>(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2);
  features.pNext = &storage16;
  storage16.pNext = &timeline;
  if (core12) {
    timeline.pNext = &storage8;
    storage8.pNext = &small;
  }
  timeline.timelineSemaphore = VK_TRUE;
  features.features.shaderInt64 = (p.features & INGOT_VULKAN_INT64) != 0;
  features.features.shaderInt16 = (p.features & INGOT_VULKAN_INT16) != 0;
  features.features.shaderFloat64 = (p.features & INGOT_VULKAN_FLOAT64) != 0;
  small.shaderInt8 = (p.features & INGOT_VULKAN_INT8) != 0;
  small.shaderFloat16 = (p.features & INGOT_VULKAN_FLOAT16) != 0;
  storage8.storageBuffer8BitAccess = (p.features & INGOT_VULKAN_STORAGE_8) != 0;
  storage16.storageBuffer16BitAccess = (p.features & INGOT_VULKAN_STORAGE_16) != 0;
  const float priority = 1;
  auto queue = make<VkDeviceQueueCreateInfo>(VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO);
  queue.queueFamilyIndex = p.queue_family;
  queue.queueCount = 1;
  queue.pQueuePriorities = &priority;
  const char *extensions[2];
  auto info = make<VkDeviceCreateInfo>(VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO);
  info.pNext = &features;
  info.queueCreateInfoCount = 1;
  info.pQueueCreateInfos = &queue;
  info.ppEnabledExtensionNames = extensions;
  if (!core12) extensions[info.enabledExtensionCount++] = VK_KHR_TIMELINE_SEMAPHORE_EXTENSION_NAME;
  if (p.host_imports) extensions[info.enabledExtensionCount++] = VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME;
  INGOT_VK_TRY(d.instance.vk.CreateDevice(p.handle, &info, nullptr, &d.device), "vkCreateDevice");
  d.owned = true;
  d.vk.GetDeviceQueue = reinterpret_cast<PFN_vkGetDeviceQueue>(d.instance.vk.GetDeviceProcAddr(d.device, "vkGetDeviceQueue"));
  d.vk.GetDeviceQueue(d.device, p.queue_family, 0, &d.queue);
  return set_up(d, error);
}

} // namespace

Code set_up(ingot_driver_device_t &d, Error *error) {
  const PFN_vkGetDeviceProcAddr get = d.instance.vk.GetDeviceProcAddr;
#define INGOT_VK_DEVICE(name) d.vk.name = reinterpret_cast<PFN_vk##name>(get(d.device, "vk" #name));
#include "src/drivers/vulkan/functions.inc"
#undef INGOT_VK_DEVICE
  if (!d.vk.WaitSemaphoresKHR) // core since 1.2, under a name of its own
    d.vk.WaitSemaphoresKHR = reinterpret_cast<PFN_vkWaitSemaphoresKHR>(get(d.device, "vkWaitSemaphores"));
  if (!d.vk.WaitSemaphoresKHR) return fail(error, INGOT_INCOMPATIBLE, "vulkan: the device was made without timeline semaphores");
  auto type = make<VkSemaphoreTypeCreateInfo>(VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO);
  type.semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE;
  auto semaphore = make<VkSemaphoreCreateInfo>(VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO);
  semaphore.pNext = &type;
  INGOT_VK_TRY(d.vk.CreateSemaphore(d.device, &semaphore, nullptr, &d.timeline), "vkCreateSemaphore");
  auto cache = make<VkPipelineCacheCreateInfo>(VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO);
  VkPipelineCache empty = VK_NULL_HANDLE;
  INGOT_VK_TRY(d.vk.CreatePipelineCache(d.device, &cache, nullptr, &empty), "vkCreatePipelineCache");
  d.cache.store(empty, std::memory_order_release);
  INGOT_TRY(pick_memory(d, error));
  return open_cache_folder(d, error);
}

Code parse_options(const char *text, Options *out, Error *error) {
  while (*text) {
    const size_t length = strcspn(text, "&"), key = strcspn(text, "=&");
    if (length == 12 && memcmp(text, "validation=1", 12) == 0) {
      out->validation = true;
    } else if (key == 5 && memcmp(text, "cache=", 6) == 0 && length > 6 && length - 6 < sizeof out->cache_folder) {
      memcpy(out->cache_folder, text + 6, length - 6);
      out->cache_folder[length - 6] = 0;
    } else {
      return fail(error, INGOT_INVALID_ARGUMENT, "vulkan: unknown option '%.60s': known are validation=1 and cache=FOLDER", text);
    }
    text += length + (text[length] == '&');
  }
  return INGOT_OK;
}

Instance::~Instance() {
  if (messenger) {
    const auto destroy = reinterpret_cast<PFN_vkDestroyDebugUtilsMessengerEXT>(get(handle, "vkDestroyDebugUtilsMessengerEXT"));
    destroy(handle, messenger, nullptr);
  }
  if (owned) vk.DestroyInstance(handle, nullptr);
  // The library stays loaded: some drivers do not survive being unloaded.
}

Code Instance::find_loader(Error *error) {
  void *library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) return fail(error, INGOT_UNAVAILABLE, "vulkan: no libvulkan.so.1 on this machine: install a Vulkan loader and driver");
  get = reinterpret_cast<PFN_vkGetInstanceProcAddr>(dlsym(library, "vkGetInstanceProcAddr"));
  return get ? INGOT_OK : fail(error, INGOT_UNAVAILABLE, "vulkan: libvulkan.so.1 has no vkGetInstanceProcAddr");
}

Code Instance::find_functions(Error *error) {
#define INGOT_VK_INSTANCE(name) vk.name = reinterpret_cast<PFN_vk##name>(get(handle, "vk" #name));
#include "src/drivers/vulkan/functions.inc"
#undef INGOT_VK_INSTANCE
  if (!vk.GetPhysicalDeviceProperties2 || !vk.GetPhysicalDeviceFeatures2)
    return fail(error, INGOT_UNAVAILABLE, "vulkan: the instance, or the loader, is older than Vulkan 1.1");
  return INGOT_OK;
}

Code Instance::wrap(VkInstance its, PFN_vkGetInstanceProcAddr its_get, Error *error) {
  handle = its;
  get = its_get;
  if (!get) INGOT_TRY(find_loader(error));
  return find_functions(error);
}

Code Instance::create(Messages *messages, Error *error) {
  INGOT_TRY(find_loader(error));
  const auto create = reinterpret_cast<PFN_vkCreateInstance>(get(nullptr, "vkCreateInstance"));
  if (!create) return fail(error, INGOT_UNAVAILABLE, "vulkan: libvulkan.so.1 has no vkCreateInstance");
  const char *const layer = "VK_LAYER_KHRONOS_validation", *const extension = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
  auto application = make<VkApplicationInfo>(VK_STRUCTURE_TYPE_APPLICATION_INFO);
  application.apiVersion = VK_API_VERSION_1_3;
  auto info = make<VkInstanceCreateInfo>(VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO);
  info.pApplicationInfo = &application;
  if (messages) {
    info.enabledLayerCount = info.enabledExtensionCount = 1;
    info.ppEnabledLayerNames = &layer;
    info.ppEnabledExtensionNames = &extension;
  }
  const VkResult result = create(&info, nullptr, &handle);
  if (result == VK_ERROR_LAYER_NOT_PRESENT)
    return fail(error, INGOT_UNAVAILABLE, "vulkan: validation=1 needs the layer %s, which is not installed", layer);
  if (result == VK_ERROR_INCOMPATIBLE_DRIVER)
    return fail(error, INGOT_UNAVAILABLE, "vulkan: no Vulkan driver on this machine that the loader can use");
  INGOT_VK_TRY(result, "vkCreateInstance");
  owned = true;
  INGOT_TRY(find_functions(error));
  if (!messages) return INGOT_OK;
  auto messenger_info = make<VkDebugUtilsMessengerCreateInfoEXT>(VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT);
  messenger_info.messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT;
  messenger_info.messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_GENERAL_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT |
                               VK_DEBUG_UTILS_MESSAGE_TYPE_PERFORMANCE_BIT_EXT;
  messenger_info.pfnUserCallback = on_message;
  messenger_info.pUserData = messages;
  const auto create_messenger = reinterpret_cast<PFN_vkCreateDebugUtilsMessengerEXT>(get(handle, "vkCreateDebugUtilsMessengerEXT"));
  INGOT_VK_TRY(create_messenger(handle, &messenger_info, nullptr, &messenger), "vkCreateDebugUtilsMessengerEXT");
  return INGOT_OK;
}

uint32_t list_physical(const Instance &instance, Physical (&out)[kMaxPhysical]) {
  VkPhysicalDevice handles[kMaxPhysical];
  uint32_t count = kMaxPhysical, n = 0;
  const VkResult result = instance.vk.EnumeratePhysicalDevices(instance.handle, &count, handles);
  if (result != VK_SUCCESS && result != VK_INCOMPLETE) return 0;
  uint32_t scores[kMaxPhysical];
  for (uint32_t i = 0; i < count; ++i) {
    Physical p;
    const uint32_t score = look_at(instance, handles[i], &p);
    if (score == 0 || !p.timelines) continue;
    uint32_t at = n++;
    for (; at > 0 && scores[at - 1] < score; --at) {
      out[at] = out[at - 1];
      scores[at] = scores[at - 1];
    }
    out[at] = p;
    scores[at] = score;
  }
  return n;
}

void close_device(ingot_driver_device_t *device) { destroy_object(device->allocator, device); }

} // namespace ingot::vulkan

using namespace ingot;
using namespace ingot::vulkan;

ingot_driver_device_t::~ingot_driver_device_t() {
  if (!device || !vk.DestroyDevice) return;
  if (submissions) wait_timeline(*this, submissions, UINT64_MAX, nullptr); // other work of the application's goes on
  if (staging) release(this, staging);
  vk.DestroyCommandPool(device, transfer_pool, nullptr);
  vk.DestroyPipelineCache(device, cache.load(std::memory_order_acquire), nullptr);
  while (OldCache *old = old_caches) {
    old_caches = old->next;
    vk.DestroyPipelineCache(device, old->cache, nullptr);
    destroy_object(allocator, old);
  }
  vk.DestroySemaphore(device, timeline, nullptr);
  if (owned) vk.DestroyDevice(device, nullptr);
}

namespace {

Code probe(const ingot_driver_host_t *, Error *error) {
  Instance instance;
  INGOT_TRY(instance.create(nullptr, error));
  Physical physical[kMaxPhysical];
  if (list_physical(instance, physical) == 0)
    return fail(error, INGOT_UNAVAILABLE, "vulkan: no device with Vulkan 1.1, a compute queue and timeline semaphores");
  return INGOT_OK;
}

Code enumerate(const ingot_driver_host_t *, void (*visit)(void *, const char *, const char *), void *user, Error *error) {
  Instance instance;
  INGOT_TRY(instance.create(nullptr, error));
  Physical physical[kMaxPhysical];
  const uint32_t n = list_physical(instance, physical);
  for (uint32_t i = 0; i < n; ++i) visit(user, physical[i].id, physical[i].properties.deviceName);
  return INGOT_OK;
}

Code open_into(ingot_driver_device_t &d, bool automatic, const char *id, uint32_t ordinal, const char *options_text, Error *error) {
  Options options;
  INGOT_TRY(parse_options(options_text, &options, error));
  d.validation = options.validation;
  memcpy(d.cache_folder, options.cache_folder, sizeof d.cache_folder);
  INGOT_TRY(d.instance.create(options.validation ? &d.messages : nullptr, error));
  Physical physical[kMaxPhysical];
  const uint32_t n = list_physical(d.instance, physical);
  uint32_t chosen = id ? n : ordinal;
  for (uint32_t i = 0; id && i < n; ++i)
    if (strings_equal(physical[i].id, id)) chosen = i;
  if (chosen >= n) {
    if (id) return fail(error, INGOT_NOT_FOUND, "vulkan: no device '%.60s': `ingot list-devices vulkan` lists them", id);
    return fail(error, INGOT_NOT_FOUND, "vulkan: no device %u: there are %u", ordinal, n);
  }
  d.physical = physical[chosen];
  if (automatic && d.physical.properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU)
    return fail(error, INGOT_UNAVAILABLE, "vulkan: '%.80s' is software, which `auto` leaves alone", d.physical.properties.deviceName);
  return create_device(d, error);
}

Code open_device(const ingot_driver_host_t *host, const char *id, uint32_t ordinal, const char *options,
                 ingot_driver_device_t **out, Error *error) {
  ingot_driver_device_t *d = create_object<ingot_driver_device_t>(host->allocator, "a device", error);
  if (!d) return INGOT_OUT_OF_MEMORY;
  d->allocator = host->allocator;
  d->now_ns = host->now_ns;
  if (const Code code = open_into(*d, host->automatic, id, ordinal, options, error)) {
    destroy_object(host->allocator, d);
    return code;
  }
  *out = d;
  return INGOT_OK;
}

Code describe(ingot_driver_device_t *d, void (*visit)(void *, const char *, const char *), void *user, Error *) {
  const Physical &p = d->physical;
  const VkPhysicalDeviceLimits &l = p.properties.limits;
  char text[160];
  const auto number = [&](const char *key, uint64_t value) {
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    visit(user, key, text);
  };
  const auto version = [&](const char *key, uint32_t v) {
    snprintf(text, sizeof text, "%u.%u.%u", VK_API_VERSION_MAJOR(v), VK_API_VERSION_MINOR(v), VK_API_VERSION_PATCH(v));
    visit(user, key, text);
  };
  visit(user, "name", p.properties.deviceName);
  static constexpr char kinds[][12] = {"other", "integrated", "discrete", "virtual", "cpu"};
  visit(user, "kind", kinds[p.properties.deviceType <= 4 ? p.properties.deviceType : 0]);
  version("vulkan", p.properties.apiVersion);
  static constexpr struct {
    uint64_t bit;
    char name[12];
  } names[] = {{INGOT_VULKAN_INT64, "int64"},         {INGOT_VULKAN_INT16, "int16"},       {INGOT_VULKAN_INT8, "int8"},
               {INGOT_VULKAN_FLOAT16, "float16"},     {INGOT_VULKAN_FLOAT64, "float64"},   {INGOT_VULKAN_STORAGE_8, "storage8"},
               {INGOT_VULKAN_STORAGE_16, "storage16"}, {INGOT_VULKAN_SUBGROUP, "subgroup"}};
  size_t length = 0;
  text[0] = 0;
  for (const auto &n : names)
    if (p.features & n.bit) length += size_t(snprintf(text + length, sizeof text - length, "%s%s", length ? " " : "", n.name));
  visit(user, "features", text);
  number("subgroup size", p.subgroup.subgroupSize);
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < p.memory.memoryHeapCount; ++i)
    if (p.memory.memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) bytes += p.memory.memoryHeaps[i].size;
  number("memory bytes", bytes);
  visit(user, "memory", d->unified ? "unified" : "discrete");
  number("workgroup invocations", l.maxComputeWorkGroupInvocations);
  number("workgroup memory bytes", l.maxComputeSharedMemorySize);
  number("buffers a kernel", l.maxPerStageDescriptorStorageBuffers);
  number("binding bytes", l.maxStorageBufferRange);
  number("binding alignment", l.minStorageBufferOffsetAlignment);
  number("push constant bytes", l.maxPushConstantsSize);
  return INGOT_OK;
}

void properties(ingot_driver_device_t *d, ingot_driver_properties_t *out) {
  out->unified_memory = d->unified;
  const uint64_t alignment = d->physical.properties.limits.minStorageBufferOffsetAlignment;
  out->binding_alignment = alignment > 4 ? uint32_t(alignment) : 4;
  out->max_allocation = d->physical.max_allocation;
}

} // namespace

extern "C" {
const ingot_driver_t ingot_driver_vulkan = {
    sizeof(ingot_driver_t),
    INGOT_DRIVER_ABI,
    "vulkan",
    "SPIR-V kernels on GPUs",
    /*host_memory=*/false,
    /*automatic=*/true,
    /*priority=*/30,
    probe,
    enumerate,
    open_device,
    close_device,
    describe,
    supports,
    load,
    unload,
    kernel_version,
    properties,
    allocate,
    release,
    map,
    unmap,
    write,
    read,
    import_host,
    stream_create,
    stream_destroy,
    recording_create,
    recording_destroy,
    recording_begin,
    record_dispatch,
    record_copy,
    record_fill,
    record_barrier,
    recording_end,
    submit,
    finish,
};
}
