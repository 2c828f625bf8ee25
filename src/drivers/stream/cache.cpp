// Compiled code in a folder, one file for what it was made from: texts of the kernels, device, version of its driver. A checksum
// finds damage, not malice. A file that is no good is the same as none, and is replaced.
#include <stdio.h>

#include "src/drivers/stream/stream.h"
#include "src/runtime/archive/hash.h"
#include "src/runtime/platform/platform.h"

namespace ingot::stream {
namespace {

struct Header {
  char magic[8];
  uint64_t key, size, xxh3; // of what follows
};
static_assert(sizeof(Header) == 32, "no padding");
constexpr char kMagic[8] = {'I', 'N', 'G', 'O', 'T', 'C', 'O', 'D'};
constexpr uint64_t kLargest = uint64_t(1) << 30; // of a file that is looked at

void file_name(const ingot_driver_device_t &d, uint64_t key, char (&out)[kFolder + 64]) {
  snprintf(out, sizeof out, "%s/%s-%016llx.cache", d.cache_folder, d.vendor->name, (unsigned long long)key);
}

bool is_good(const Array<uint8_t> &bytes, uint64_t key) {
  Header h;
  if (bytes.size() < sizeof h) return false;
  memcpy(&h, bytes.data(), sizeof h);
  return memcmp(h.magic, kMagic, sizeof kMagic) == 0 && h.key == key && h.size == bytes.size() - sizeof h &&
         h.xxh3 == xxh3(bytes.data() + sizeof h, size_t(h.size));
}

} // namespace

bool take_cached(ingot_driver_device_t &d, uint64_t key, Array<uint8_t> *code) {
  if (!d.cache_folder[0]) return false;
  char name[kFolder + 64];
  file_name(d, key, name);
  platform::Lock lock(d.cache_mutex);
  uint64_t size = 0;
  Error ignored;
  Array<uint8_t> bytes;
  if (platform::file_size(name, &size, &ignored) != INGOT_OK) return false;
  bool good = size <= kLargest && bytes.create(d.allocator, size_t(size), "compiled code", &ignored) == INGOT_OK &&
              platform::read_file(name, bytes.data(), bytes.size(), &ignored) == INGOT_OK && is_good(bytes, key) &&
              code->create(d.allocator, bytes.size() - sizeof(Header), "compiled code", &ignored) == INGOT_OK;
  if (good) memcpy(code->data(), bytes.data() + sizeof(Header), code->size());
  ++(good ? d.cache_counts.taken : d.cache_counts.refused);
  return good;
}

void store_cached(ingot_driver_device_t &d, uint64_t key, const void *code, size_t size) {
  if (!d.cache_folder[0]) return;
  char name[kFolder + 64];
  file_name(d, key, name);
  platform::Lock lock(d.cache_mutex);
  Error ignored; // counted: a model runs as well without
  Array<uint8_t> bytes;
  Code result = bytes.create(d.allocator, sizeof(Header) + size, "compiled code", &ignored);
  if (result == INGOT_OK) {
    Header h = {};
    memcpy(h.magic, kMagic, sizeof kMagic);
    h.key = key;
    h.size = size;
    h.xxh3 = xxh3(code, size);
    memcpy(bytes.data(), &h, sizeof h);
    memcpy(bytes.data() + sizeof h, code, size);
    result = platform::write_file(name, bytes.data(), bytes.size(), &ignored);
  }
  ++(result == INGOT_OK ? d.cache_counts.written : d.cache_counts.not_written);
}

} // namespace ingot::stream
