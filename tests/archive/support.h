// Small helpers of the archive tests: open, prepare, run, and an allocator that counts and can fail.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include <ingot/values.hpp>

namespace support {

// Counts what is live and how many calls there were; call number `fail_at` (from 0) returns NULL.
struct CountingAllocator {
  long live = 0, calls = 0, fail_at = -1;
  size_t limit = SIZE_MAX; // larger blocks are refused
  bool mismatch = false; // a release with another size than its allocation
  ingot_allocator_t get() {
    return {this,
            [](void *user, size_t size, size_t alignment) -> void * {
              CountingAllocator &a = *static_cast<CountingAllocator *>(user);
              if (a.calls++ == a.fail_at || size > a.limit) return nullptr;
              const size_t head = alignment < 64 ? 64 : alignment;
              char *memory = static_cast<char *>(std::aligned_alloc(head, (size + head + head - 1) / head * head));
              if (!memory) return nullptr;
              *reinterpret_cast<size_t *>(memory) = size;
              ++a.live;
              return memory + head;
            },
            [](void *user, void *memory, size_t size, size_t alignment) {
              CountingAllocator &a = *static_cast<CountingAllocator *>(user);
              char *start = static_cast<char *>(memory) - (alignment < 64 ? 64 : alignment);
              if (*reinterpret_cast<size_t *>(start) != size) a.mismatch = true;
              --a.live;
              std::free(start);
            }};
  }
};

// Everything that it takes to run an archive that lies in memory.
struct Loaded {
  explicit Loaded(const std::vector<uint8_t> &bytes, const char *uri = "local-sync", const ingot_allocator_t *allocator = nullptr)
      : instance(allocator ? *allocator : ingot_allocator_t{}), archive(open(bytes, allocator)),
        device(instance.open(uri)), session(device->prepare(*archive)) {}
  // Archives with lists and strings too.
  static ingot::Result<ingot::Archive> open(const std::vector<uint8_t> &bytes, const ingot_allocator_t *allocator) {
    ingot_archive_t *out = nullptr;
    ingot::Status status;
    if (!status.set(ingot_values_archive_open(allocator, bytes.data(), bytes.size(), false, &out, status.slot()))) return status;
    return ingot::Archive(out);
  }
  std::string error() const {
    if (!archive.ok()) return archive.message();
    if (!device.ok()) return device.message();
    return session.message();
  }
  ingot::Instance instance;
  ingot::Result<ingot::Archive> archive;
  ingot::Result<ingot::Device> device;
  ingot::Result<ingot::Session> session;
};

inline ingot::Tensor tensor(void *data, size_t size, ingot_element_type_t type, std::vector<int64_t> dims) {
  return ingot::view(data, size, type, ingot::Span<const int64_t>(dims.data(), dims.size()));
}
template <class T> ingot::Tensor tensor(std::vector<T> &values, ingot_element_type_t type, std::vector<int64_t> dims) {
  return tensor(values.data(), values.size() * sizeof(T), type, dims);
}

inline bool contains(const std::string &text, const std::string &part) { return text.find(part) != std::string::npos; }

} // namespace support
