// The pipeline cache as bytes, and in a folder. What comes back from outside is looked at before the driver's library sees
// it: made for this very device and version of its driver, whole, and unchanged. Whatever is not is left alone.
#include <stddef.h>
#include <stdio.h>

#include "src/drivers/vulkan/vulkan.h"
#include "src/runtime/archive/hash.h"
#include "src/runtime/platform/platform.h"

namespace ingot::vulkan {
namespace {

// In front of what vkGetPipelineCacheData gives.
struct BlobHeader {
  char magic[8];
  uint32_t version, vendor, device, driver;
  uint8_t uuid[VK_UUID_SIZE];
  uint64_t size, xxh3; // of what follows
};
static_assert(sizeof(BlobHeader) == 56, "no padding");
constexpr char kMagic[8] = {'I', 'N', 'G', 'O', 'T', 'V', 'P', 'C'};
constexpr uint32_t kVersion = 1;
constexpr uint64_t kLargest = uint64_t(1) << 30; // of a file that is looked at

BlobHeader header_for(const Physical &p) {
  BlobHeader h;
  memset(&h, 0, sizeof h);
  memcpy(h.magic, kMagic, sizeof kMagic);
  h.version = kVersion;
  h.vendor = p.properties.vendorID;
  h.device = p.properties.deviceID;
  h.driver = p.properties.driverVersion;
  memcpy(h.uuid, p.properties.pipelineCacheUUID, VK_UUID_SIZE);
  return h;
}

Code check_blob(const Physical &p, const uint8_t *data, size_t size, Error *error) {
  BlobHeader h;
  if (size < sizeof h) return fail(error, INGOT_CORRUPT, "a pipeline cache of %zu bytes: its header has %zu", size, sizeof h);
  memcpy(&h, data, sizeof h);
  const BlobHeader want = header_for(p);
  if (memcmp(h.magic, want.magic, sizeof h.magic) != 0) return fail(error, INGOT_CORRUPT, "not a pipeline cache of Ingot's");
  if (memcmp(&h.version, &want.version, offsetof(BlobHeader, size) - offsetof(BlobHeader, version)) != 0)
    return fail(error, INGOT_INCOMPATIBLE, "a pipeline cache of another device, another driver or another version of them");
  if (h.size != size - sizeof h || h.xxh3 != xxh3(data + sizeof h, size - sizeof h))
    return fail(error, INGOT_CORRUPT, "a pipeline cache that is cut short or changed: its checksum does not match");
  VkPipelineCacheHeaderVersionOne inner; // Vulkan's own
  if (h.size < sizeof inner) return fail(error, INGOT_CORRUPT, "a pipeline cache without Vulkan's header");
  memcpy(&inner, data + sizeof h, sizeof inner);
  if (inner.headerSize < sizeof inner || inner.headerSize > h.size || inner.headerVersion != VK_PIPELINE_CACHE_HEADER_VERSION_ONE ||
      inner.vendorID != h.vendor || inner.deviceID != h.device || memcmp(inner.pipelineCacheUUID, h.uuid, VK_UUID_SIZE) != 0)
    return fail(error, INGOT_INCOMPATIBLE, "a pipeline cache whose Vulkan header is of another device");
  return INGOT_OK;
}

// A new cache with the blob and what the device has takes the device's place: merging into the old one would race with
// threads that make pipelines. Pre: cache_mutex is held.
Code take_blob(ingot_driver_device_t &d, const uint8_t *data, size_t size, Error *error) {
  auto *old = create_object<OldCache>(d.allocator, "a pipeline cache", error);
  if (!old) return INGOT_OUT_OF_MEMORY;
  auto info = make<VkPipelineCacheCreateInfo>(VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO);
  info.initialDataSize = size - sizeof(BlobHeader);
  info.pInitialData = data + sizeof(BlobHeader);
  VkPipelineCache merged = VK_NULL_HANDLE;
  const VkPipelineCache now = d.cache.load(std::memory_order_acquire);
  VkResult result = d.vk.CreatePipelineCache(d.device, &info, nullptr, &merged);
  if (result == VK_SUCCESS) result = d.vk.MergePipelineCaches(d.device, merged, 1, &now);
  if (result != VK_SUCCESS) {
    d.vk.DestroyPipelineCache(d.device, merged, nullptr);
    destroy_object(d.allocator, old);
    return failed(error, result, "vkCreatePipelineCache");
  }
  *old = {now, d.old_caches};
  d.old_caches = old;
  d.cache.store(merged, std::memory_order_release);
  return INGOT_OK;
}

// Pre: cache_mutex is held.
Code add_blob(ingot_driver_device_t &d, const uint8_t *data, size_t size, Error *error) {
  Code code = check_blob(d.physical, data, size, error);
  if (code == INGOT_OK) code = take_blob(d, data, size, error);
  ++(code == INGOT_OK ? d.cache_counts.taken : d.cache_counts.refused);
  return code;
}

// The whole blob. Pre: cache_mutex is held.
Code make_blob(ingot_driver_device_t &d, Array<uint8_t> *out, Error *error) {
  const VkPipelineCache cache = d.cache.load(std::memory_order_acquire);
  for (;;) { // it may grow between two calls
    size_t size = 0;
    INGOT_VK_TRY(d.vk.GetPipelineCacheData(d.device, cache, &size, nullptr), "vkGetPipelineCacheData");
    INGOT_TRY(out->create(d.allocator, sizeof(BlobHeader) + size, "a pipeline cache", error));
    const VkResult result = d.vk.GetPipelineCacheData(d.device, cache, &size, out->data() + sizeof(BlobHeader));
    if (result == VK_INCOMPLETE || sizeof(BlobHeader) + size != out->size()) continue;
    INGOT_VK_TRY(result, "vkGetPipelineCacheData");
    BlobHeader h = header_for(d.physical);
    h.size = size;
    h.xxh3 = xxh3(out->data() + sizeof h, size);
    memcpy(out->data(), &h, sizeof h);
    return INGOT_OK;
  }
}

// One file a device and driver.
void file_name(const ingot_driver_device_t &d, char (&out)[kFolder + 64]) {
  const int n = snprintf(out, sizeof out, "%s/vulkan-", d.cache_folder);
  for (uint32_t i = 0; i < VK_UUID_SIZE; ++i)
    snprintf(out + n + 2 * i, sizeof out - size_t(n) - 2 * i, "%02x", d.physical.properties.pipelineCacheUUID[i]);
  strncat(out, ".cache", sizeof out - strlen(out) - 1);
}

} // namespace

Code open_cache_folder(ingot_driver_device_t &d, Error *error) {
  if (!d.cache_folder[0]) return INGOT_OK;
  uint64_t size = 0;
  if (platform::file_size(d.cache_folder, &size, nullptr) != INGOT_IO) // what a folder says, as it is no file
    return fail(error, INGOT_NOT_FOUND, "vulkan: cache=%.200s is no folder: make it first", d.cache_folder);
  char name[kFolder + 64];
  file_name(d, name);
  platform::Lock lock(d.cache_mutex);
  Error ignored; // a file that is not there, or no good, is the same as none
  if (platform::file_size(name, &size, &ignored) != INGOT_OK) return INGOT_OK;
  if (size > kLargest) return ++d.cache_counts.refused, INGOT_OK;
  Array<uint8_t> bytes;
  INGOT_TRY(bytes.create(d.allocator, size_t(size), "a pipeline cache", error));
  if (platform::read_file(name, bytes.data(), bytes.size(), &ignored) != INGOT_OK) return ++d.cache_counts.refused, INGOT_OK;
  if (add_blob(d, bytes.data(), bytes.size(), &ignored) == INGOT_OK) d.cache_stored = xxh3(bytes.data(), bytes.size());
  return INGOT_OK;
}

void store_cache(ingot_driver_device_t &d) {
  if (!d.cache_folder[0]) return;
  char name[kFolder + 64];
  file_name(d, name);
  platform::Lock lock(d.cache_mutex);
  Error ignored; // counted: a model runs as well without
  Array<uint8_t> bytes;
  Code code = make_blob(d, &bytes, &ignored);
  const uint64_t hash = code == INGOT_OK ? xxh3(bytes.data(), bytes.size()) : 0;
  if (code == INGOT_OK && hash == d.cache_stored) return;
  if (code == INGOT_OK) code = platform::write_file(name, bytes.data(), bytes.size(), &ignored);
  if (code == INGOT_OK) d.cache_stored = hash;
  ++(code == INGOT_OK ? d.cache_counts.written : d.cache_counts.not_written);
}

Code cache_get(ingot_driver_device_t &d, void *data, size_t capacity, size_t *size, Error *error) {
  platform::Lock lock(d.cache_mutex);
  Array<uint8_t> bytes;
  INGOT_TRY(make_blob(d, &bytes, error));
  *size = bytes.size();
  if (!data) return INGOT_OK;
  if (capacity < bytes.size())
    return fail(error, INGOT_OUT_OF_RANGE, "vulkan: the pipeline cache has %zu bytes, there is room for %zu", bytes.size(), capacity);
  memcpy(data, bytes.data(), bytes.size());
  return INGOT_OK;
}

Code cache_add(ingot_driver_device_t &d, const void *data, size_t size, Error *error) {
  platform::Lock lock(d.cache_mutex);
  return add_blob(d, static_cast<const uint8_t *>(data), size, error);
}

} // namespace ingot::vulkan
