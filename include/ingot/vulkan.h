/* Ingot on the application's own Vulkan device, and its pipeline cache. There where -Ddrivers has `vulkan`; conventions as
 * in <ingot/ingot.h>. No Vulkan header is included: the few handles below are declared as Vulkan declares them, and
 * <vulkan/vulkan.h> may come before or after.
 *
 * Ingot submits to the application's queue, so a frame and a model share a device, its memory and its buffers:
 *
 *   ingot_vulkan_import_t given = {sizeof given};
 *   given.instance = instance, given.physical_device = physical, given.device = device;
 *   given.create_info = &device_create_info; // what vkCreateDevice got
 *   given.queue = queue, given.queue_family = family;
 *   given.lock = lock, given.unlock = unlock, given.user = &mutex;
 *   ingot_vulkan_device_import(ingot_instance, &given, NULL, &ingot_device, &error);
 *   ingot_vulkan_buffer_import(ingot_device, vk_buffer, 0, size, &buffer, &error);
 */
#ifndef INGOT_VULKAN_H_
#define INGOT_VULKAN_H_

#include <ingot/ingot.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct VkInstance_T *VkInstance;
typedef struct VkPhysicalDevice_T *VkPhysicalDevice;
typedef struct VkDevice_T *VkDevice;
typedef struct VkQueue_T *VkQueue;
#if UINTPTR_MAX > 0xffffffffu
typedef struct VkBuffer_T *VkBuffer;
#else
typedef uint64_t VkBuffer;
#endif
struct VkDeviceCreateInfo;

typedef struct ingot_vulkan_import_t {
  size_t struct_size;
  /* The application's vkGetInstanceProcAddr; NULL: that of libvulkan.so.1. */
  void (*(*get_instance_proc_addr)(VkInstance instance, const char *name))(void);
  VkInstance instance;
  VkPhysicalDevice physical_device;
  VkDevice device;
  /* What vkCreateDevice got, with its chain: it says which features and extensions are on. Read during the call only.
   * Demanded: timelineSemaphore, Vulkan 1.1 (instance and device). A kernel version that needs a feature which is not on is
   * not taken: switch on shaderInt64, shaderInt16, shaderInt8, shaderFloat16 and 8- and 16-bit storage where they are there. */
  const struct VkDeviceCreateInfo *create_info;
  VkQueue queue; /* of queue_family, which can compute */
  uint32_t queue_family;
  /* Called around each vkQueueSubmit of Ingot's, by any thread that runs, never nested. Do not call Ingot while holding
   * it. Both or, where nobody else uses the queue, neither. */
  void (*lock)(void *user);
  void (*unlock)(void *user);
  void *user;
} ingot_vulkan_import_t;

/* Wraps a Vulkan device of the application's. `options`: what would follow '?' in a URI ("cache=DIR"), or NULL; the layers
 * are the application's. Ingot keeps objects of its own on the device and destroys them; it never calls vkDestroyDevice,
 * vkDeviceWaitIdle or vkQueueWaitIdle. instance, device and queue stay alive until the last of what was made from *out
 * (sessions, contexts, buffers, semaphores) and *out itself are released; *create_info does not. */
INGOT_API ingot_code_t ingot_vulkan_device_import(ingot_instance_t *instance, const ingot_vulkan_import_t *given,
                                                  const char *options, ingot_device_t **out, ingot_error_t *error);

/* Wraps bytes of a VkBuffer of the same VkDevice, for inputs and outputs that kernels read and write in place. Its usage has
 * storage buffer, transfer source and transfer destination; its memory is bound; it is concurrent or belongs to the queue's
 * family. `offset` is a multiple of minStorageBufferOffsetAlignment (import from 0 and set a tensor's buffer_offset for any
 * other), and offset + size, rounded up to 4, is inside the buffer: kernels move whole words.
 * The buffer stays alive until *out is released and no run uses it: run has returned, or a submitted run has signalled.
 * A run that is cancelled or late ends only when the device no longer touches it.
 * What the application wrote there before a run is seen where it was waited for, or where it was submitted to the same queue
 * before and ends with a barrier towards VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT. What a run
 * wrote is there once it has returned or signalled; the application's commands that use it begin with a barrier from those
 * stages. */
INGOT_API ingot_code_t ingot_vulkan_buffer_import(ingot_device_t *device, VkBuffer buffer, uint64_t offset, uint64_t size,
                                                  ingot_buffer_t **out, ingot_error_t *error);

/* ---- pipeline cache: what the driver of the GPU compiled, for the next start on the same device and driver --------------
 * The URI option cache=FOLDER does all of this: "vulkan:0?cache=/home/me/.cache/app". The folder exists, and only those write
 * there whom the process trusts: a checksum finds damage, not malice. Files are written to another name, then renamed. */

/* Writes it to `data`, and its size to *size. NULL asks for the size alone; INGOT_OUT_OF_RANGE, with *size, where `capacity`
 * is too small: it grows with each session that is prepared. */
INGOT_API ingot_code_t ingot_vulkan_pipeline_cache_get(ingot_device_t *device, void *data, size_t capacity, size_t *size,
                                                       ingot_error_t *error);
/* Adds what _get gave, best before sessions are prepared. INGOT_CORRUPT, INGOT_INCOMPATIBLE (of another device or driver):
 * the device goes on as before. Its own header and checksum are looked at before Vulkan sees a byte. */
INGOT_API ingot_code_t ingot_vulkan_pipeline_cache_add(ingot_device_t *device, const void *data, size_t size, ingot_error_t *error);

typedef struct ingot_vulkan_pipeline_cache_info_t {
  size_t struct_size; /* set it first */
  uint64_t blobs_taken, blobs_refused;       /* by _add, or from the folder */
  uint64_t files_written, files_not_written; /* to the folder */
  uint64_t pipelines, pipelines_found;       /* made; of these, in the cache, as far as the device's driver tells */
} ingot_vulkan_pipeline_cache_info_t;
INGOT_API ingot_code_t ingot_vulkan_pipeline_cache_info(ingot_device_t *device, ingot_vulkan_pipeline_cache_info_t *out,
                                                        ingot_error_t *error);

#ifdef __cplusplus
}
#endif

#endif /* INGOT_VULKAN_H_ */
