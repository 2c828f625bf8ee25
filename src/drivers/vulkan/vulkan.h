// The vulkan driver's objects. Vulkan 1.1 with timeline semaphores, found by dlopen; nothing is linked, and every device
// has a table of functions of its own.
//
//   memory      one VkDeviceMemory with one VkBuffer over all of it
//   executable  a pipeline a kernel; SPIR-V modules stand one after the other in the variant's image
//   stream      a command pool, an error word, and the numbers of its submissions on a timeline semaphore
//   recording   a command buffer and the descriptor sets of its dispatches
#pragma once

#define INGOT_DRIVER_PREFIX ingot_vulkan
#include <ingot/driver.h>

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan.h>

#include "src/drivers/common/device.h"
#include "src/runtime/platform/mutex.h"

namespace ingot::vulkan {

struct InstanceTable {
#define INGOT_VK_INSTANCE(name) PFN_vk##name name = nullptr;
#include "src/drivers/vulkan/functions.inc"
#undef INGOT_VK_INSTANCE
};

struct DeviceTable {
#define INGOT_VK_DEVICE(name) PFN_vk##name name = nullptr;
#include "src/drivers/vulkan/functions.inc"
#undef INGOT_VK_DEVICE
};

// A zeroed Vulkan struct of that type.
template <class T> T make(VkStructureType type) {
  T value;
  memset(static_cast<void *>(&value), 0, sizeof value);
  value.sType = type;
  return value;
}

// Writes what Vulkan said to *error; the code that it stands for. `what`: the function that said it.
Code failed(Error *error, VkResult result, const char *what);

#define INGOT_VK_TRY(call, what)                                                                                       \
  do {                                                                                                                 \
    if (const VkResult ingot_vk_result_ = (call); INGOT_UNLIKELY(ingot_vk_result_ != VK_SUCCESS))                      \
      return ::ingot::vulkan::failed(error, ingot_vk_result_, what);                                                   \
  } while (0)

// Messages of the validation layer (URI option validation=1); the first one fails the next finish.
struct Messages {
  platform::Mutex mutex;
  uint32_t count = 0;
  char first[400] = {};
};

// The loader's library, and an instance of its own or the application's.
struct Instance {
  ~Instance();
  // `messages`: where the validation layer reports; null: without it.
  Code create(Messages *messages, Error *error);
  // `its_get`: null: that of the loader's library.
  Code wrap(VkInstance its, PFN_vkGetInstanceProcAddr its_get, Error *error);
  Code find_loader(Error *error);
  Code find_functions(Error *error);
  bool owned = false;
  VkInstance handle = VK_NULL_HANDLE;
  VkDebugUtilsMessengerEXT messenger = VK_NULL_HANDLE;
  PFN_vkGetInstanceProcAddr get = nullptr;
  InstanceTable vk;
};

// What is known of a physical device before it is opened.
struct Physical {
  VkPhysicalDevice handle = VK_NULL_HANDLE;
  VkPhysicalDeviceProperties properties = {};
  VkPhysicalDeviceSubgroupProperties subgroup = {};
  uint64_t max_allocation = 0;
  char id[33] = {};               // its UUID in hexadecimal
  uint32_t queue_family = INGOT_NONE;
  uint64_t features = 0;          // INGOT_VULKAN_* that it has (schemas/gpu_abi.h)
  bool timelines = false;
  bool host_imports = false;      // VK_EXT_external_memory_host is there, or on
  uint64_t host_alignment = 0;    // of the pages that it imports
  bool feedback = false;          // a pipeline says whether the cache had it
  VkPhysicalDeviceMemoryProperties memory = {};
};
constexpr uint32_t kMaxPhysical = 16;
// Everything about one device, and how good it is; 0 where it cannot be used at all.
uint32_t look_at(const Instance &instance, VkPhysicalDevice handle, Physical *out);
// All of them, best first. Returns how many.
uint32_t list_physical(const Instance &instance, Physical (&out)[kMaxPhysical]);

// A pipeline cache that another one replaced; threads may still use it.
struct OldCache {
  VkPipelineCache cache;
  OldCache *next;
};
struct CacheCounts {
  uint64_t taken = 0, refused = 0, written = 0, not_written = 0; // under cache_mutex
  std::atomic<uint64_t> pipelines{0}, found{0};
};
constexpr uint32_t kFolder = 480; // bytes of a folder's name

} // namespace ingot::vulkan

extern "C" const ingot_driver_t ingot_driver_vulkan;

struct ingot_driver_device_t {
  ~ingot_driver_device_t();
  ingot_allocator_t allocator = {};
  uint64_t (*now_ns)(void) = nullptr;
  ingot::vulkan::Messages messages;
  ingot::vulkan::Instance instance;
  ingot::vulkan::Physical physical;
  VkDevice device = VK_NULL_HANDLE;
  bool owned = false; // else the application's, with `instance`
  ingot::vulkan::DeviceTable vk;
  VkQueue queue = VK_NULL_HANDLE;
  ingot::platform::Mutex queue_mutex; // of `queue` and `submissions`
  void (*lock)(void *user) = nullptr, (*unlock)(void *user) = nullptr; // of the application's queue; or null
  void *lock_user = nullptr;
  VkSemaphore timeline = VK_NULL_HANDLE;
  uint64_t submissions = 0;           // the value that the last one raises the timeline to
  std::atomic<VkPipelineCache> cache{VK_NULL_HANDLE};
  ingot::platform::Mutex cache_mutex; // of what replaces it, and of files
  ingot::vulkan::OldCache *old_caches = nullptr;
  ingot::vulkan::CacheCounts cache_counts;
  char cache_folder[ingot::vulkan::kFolder] = {}; // or empty
  uint64_t cache_stored = 0;                      // checksum of what the file holds
  uint32_t device_type = 0, upload_type = 0, readback_type = 0; // memory types
  bool unified = false;
  bool validation = false;
  std::atomic<bool> lost{false};
  // Of write and read: bounded, one transfer at a time.
  ingot::platform::Mutex transfer_mutex;
  ingot_driver_memory_t *staging = nullptr;
  uint8_t *staging_data = nullptr;
  VkCommandPool transfer_pool = VK_NULL_HANDLE;
  VkCommandBuffer transfer_commands = VK_NULL_HANDLE;
};

struct ingot_driver_memory_t {
  VkDeviceMemory memory = VK_NULL_HANDLE;
  VkBuffer buffer = VK_NULL_HANDLE;
  uint64_t base = 0; // where its first byte is in `buffer`: of buffers of the application's
  uint64_t size = 0;
  bool owned = true; // else `buffer` is the application's
};

struct ingot_driver_executable_t {
  struct Pipeline {
    VkPipeline pipeline = VK_NULL_HANDLE;
    uint32_t bindings = 0, params = 0; // params: words
    uint32_t version = INGOT_NONE;
    bool errors = false;               // the binding after the last is the error word
  };
  ~ingot_driver_executable_t();
  ingot_driver_device_t *device = nullptr;
  ingot::Array<Pipeline> pipelines;
  // By number of bindings, and by bindings and params: shared by all kernels.
  ingot::Array<VkDescriptorSetLayout> set_layouts;
  ingot::Array<VkPipelineLayout> layouts; // per pipeline; equal ones are one handle, owned by the first
};

struct ingot_driver_stream_t {
  ~ingot_driver_stream_t();
  ingot_driver_device_t *device = nullptr;
  ingot_driver_executable_t *executable = nullptr;
  VkCommandPool pool = VK_NULL_HANDLE;
  ingot_driver_memory_t *errors = nullptr; // the error word, mapped
  uint32_t *error_word = nullptr;
  uint64_t last = 0;                       // timeline value of the last submission, 0: none
};

struct ingot_driver_recording_t {
  ~ingot_driver_recording_t();
  ingot_driver_stream_t *stream = nullptr;
  VkCommandBuffer commands = VK_NULL_HANDLE;
  VkDescriptorPool descriptors = VK_NULL_HANDLE;
  VkQueryPool queries = VK_NULL_HANDLE; // a pair of timestamps a dispatch
  struct Dispatch {
    uint32_t kernel, site;
    uint32_t grid[3];
  };
  ingot::Array<Dispatch> dispatches;
  uint32_t dispatch_count = 0;
  ingot_driver_memory_t *patterns = nullptr; // of fills
  uint32_t fill_count = 0;
  bool timed = false;
  uint64_t last = 0;                    // timeline value of the last submission it was in
  ingot::Error error = {};              // the first failure while recording
};

namespace ingot::vulkan {

// device.cpp
struct Options {
  bool validation = false;
  char cache_folder[kFolder] = {};
};
Code parse_options(const char *text, Options *out, Error *error);
// Finds functions, makes what the driver keeps on a device, picks types of memory. Pre: `device` and `physical` are set.
Code set_up(ingot_driver_device_t &device, Error *error);
void close_device(ingot_driver_device_t *device);

// cache.cpp
Code open_cache_folder(ingot_driver_device_t &device, Error *error); // does nothing where there is none
void store_cache(ingot_driver_device_t &device);
Code cache_get(ingot_driver_device_t &device, void *data, size_t capacity, size_t *size, Error *error);
Code cache_add(ingot_driver_device_t &device, const void *data, size_t size, Error *error);

// memory.cpp
Code allocate(ingot_driver_device_t *device, ingot_driver_memory_kind_t kind, uint64_t size, ingot_driver_memory_t **out,
              Error *error);
void release(ingot_driver_device_t *device, ingot_driver_memory_t *memory);
Code map(ingot_driver_device_t *device, ingot_driver_memory_t *memory, void **out, Error *error);
void unmap(ingot_driver_device_t *device, ingot_driver_memory_t *memory);
Code write(ingot_driver_device_t *device, ingot_driver_memory_t *memory, uint64_t offset, const void *data, size_t length,
           Error *error);
Code read(ingot_driver_device_t *device, ingot_driver_memory_t *memory, uint64_t offset, void *data, size_t length, Error *error);
Code import_host(ingot_driver_device_t *device, void *host, uint64_t size, ingot_driver_memory_t **out, Error *error);

// executable.cpp
Code supports(ingot_driver_device_t *device, const ingot_driver_code_t *code, Error *error);
Code load(ingot_driver_device_t *device, const ingot_driver_code_t *code, ingot_driver_executable_t **out, Error *error);
void unload(ingot_driver_executable_t *executable);
uint32_t kernel_version(const ingot_driver_executable_t *executable, uint32_t kernel);

// recording.cpp
Code stream_create(ingot_driver_device_t *device, ingot_driver_executable_t *executable, ingot_driver_stream_t **out, Error *error);
void stream_destroy(ingot_driver_stream_t *stream);
Code recording_create(ingot_driver_stream_t *stream, const ingot_driver_recording_size_t *size, ingot_driver_recording_t **out,
                      Error *error);
void recording_destroy(ingot_driver_recording_t *recording);
void recording_begin(ingot_driver_recording_t *recording, bool timed);
void record_dispatch(ingot_driver_recording_t *recording, const ingot_driver_dispatch_t *dispatch);
void record_copy(ingot_driver_recording_t *recording, const ingot_driver_span_t *target, const ingot_driver_span_t *source);
void record_fill(ingot_driver_recording_t *recording, const ingot_driver_span_t *target, uint64_t pattern, uint32_t pattern_bytes);
void record_barrier(ingot_driver_recording_t *recording);
Code recording_end(ingot_driver_recording_t *recording, Error *error);
Code submit(ingot_driver_stream_t *stream, ingot_driver_recording_t *const *recordings, uint32_t count,
            ingot_driver_submit_t *submit, Error *error);
Code finish(ingot_driver_stream_t *stream, ingot_driver_submit_t *submit, Error *error);

// Submits command buffers as one submission that raises the timeline; *value: to what. Threads: any.
Code submit_commands(ingot_driver_device_t &device, const VkCommandBuffer *commands, uint32_t count, uint64_t *value, Error *error);
// Waits until the timeline reaches value. timeout_ns UINT64_MAX: for ever. INGOT_DEADLINE_EXCEEDED, INGOT_DEVICE_LOST.
Code wait_timeline(ingot_driver_device_t &device, uint64_t value, uint64_t timeout_ns, Error *error);

} // namespace ingot::vulkan
