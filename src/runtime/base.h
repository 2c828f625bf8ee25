// What every runtime file needs: error reporting, the caller's allocator, checked arithmetic, reference counts.
// No libstdc++ symbol is used: a program that links libingot needs libc only.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>

#include <ingot/ingot.h>

#define INGOT_LIKELY(x) __builtin_expect(!!(x), 1)
#define INGOT_UNLIKELY(x) __builtin_expect(!!(x), 0)

namespace ingot {

using Error = ingot_error_t;
using Code = ingot_code_t;

// Writes code and formatted message (printf) to *error where it is not null; returns the code.
Code fail(Error *error, Code code, const char *format, ...) __attribute__((format(printf, 3, 4), cold));
// Puts "prefix: " before an error's message.
Code prefix(Error *error, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

// Evaluates to the code of a failed call by returning it from the function.
#define INGOT_TRY(call)                                                                                                \
  do {                                                                                                                 \
    if (::ingot::Code ingot_try_code_ = (call); INGOT_UNLIKELY(ingot_try_code_ != INGOT_OK)) return ingot_try_code_;   \
  } while (0)

// ---- memory ---------------------------------------------------------------------------------------------------------

// The caller's, or malloc's where the caller gave none.
ingot_allocator_t resolve_allocator(const ingot_allocator_t *given);

constexpr size_t kAlignment = 64; // of all larger blocks

// Uninitialised memory of count elements, or null (also where the size overflows, or is 0).
void *allocate_bytes(const ingot_allocator_t &allocator, size_t count, size_t element, size_t alignment);
void release_bytes(const ingot_allocator_t &allocator, void *memory, size_t bytes, size_t alignment);

// Memory of an Array, without its type: one copy of the code serves all.
class RawArray {
public:
  RawArray() = default;
  RawArray(const RawArray &) = delete;
  RawArray &operator=(const RawArray &) = delete;
  ~RawArray() { reset(); }
  void reset();

protected:
  // INGOT_OUT_OF_MEMORY with `what` in the message. Old contents are dropped first. sizes: element | alignment << 32.
  Code create(const ingot_allocator_t &allocator, size_t count, uint64_t sizes, const char *what, Error *error);
  void *data_ = nullptr;
  size_t size_ = 0, bytes_ = 0, alignment_ = 0;
  ingot_allocator_t allocator_ = {};
};

// An owned array of trivially destructible T, zero-filled. Empty where count is 0.
template <class T> class Array : public RawArray {
public:
  Code create(const ingot_allocator_t &allocator, size_t count, const char *what, Error *error,
              size_t alignment = alignof(T) < 16 ? 16 : alignof(T)) {
    return RawArray::create(allocator, count, sizeof(T) | uint64_t(alignment) << 32, what, error);
  }
  T *data() { return static_cast<T *>(data_); }
  const T *data() const { return static_cast<const T *>(data_); }
  size_t size() const { return size_; }
  T &operator[](size_t i) { return data()[i]; }
  const T &operator[](size_t i) const { return data()[i]; }
  T *begin() { return data(); }
  T *end() { return data() + size_; }
  const T *begin() const { return data(); }
  const T *end() const { return data() + size_; }
};

// Creates and destroys objects in memory of an allocator.
template <class T, class... A> T *create_object(const ingot_allocator_t &allocator, const char *what, Error *error, A &...arguments) {
  void *memory = allocate_bytes(allocator, 1, sizeof(T), alignof(T) < 16 ? 16 : alignof(T));
  if (!memory) {
    fail(error, INGOT_OUT_OF_MEMORY, "out of memory: %zu bytes for %s", sizeof(T), what);
    return nullptr;
  }
  return new (memory) T(arguments...);
}
template <class T> void destroy_object(const ingot_allocator_t &allocator, T *object) {
  if (!object) return;
  const ingot_allocator_t copy = allocator; // it may lie in the object
  object->~T();
  release_bytes(copy, object, sizeof(T), alignof(T) < 16 ? 16 : alignof(T));
}

// A flag that another thread may raise meanwhile (the contract of drivers declares it volatile).
inline bool raised(const volatile int32_t *flag) { return __atomic_load_n(flag, __ATOMIC_RELAXED) != 0; }
inline void set_flag(volatile int32_t *flag, int32_t value) { __atomic_store_n(flag, value, __ATOMIC_RELAXED); }

// Counts the references to an object; the last release is told so.
class References {
public:
  void retain() { count_.fetch_add(1, std::memory_order_relaxed); }
  bool release() { return count_.fetch_sub(1, std::memory_order_acq_rel) == 1; }

private:
  std::atomic<uint32_t> count_{1};
};

// ---- numbers --------------------------------------------------------------------------------------------------------

// offset + length <= size, without overflow.
inline bool fits(uint64_t offset, uint64_t length, uint64_t size) { return offset <= size && length <= size - offset; }
inline bool is_power_of_two(uint64_t v) { return v != 0 && (v & (v - 1)) == 0; }
inline uint64_t align_up(uint64_t v, uint64_t multiple) { return (v + multiple - 1) & ~(multiple - 1); }

// Bytes of a dense tensor; false where a dim is negative or the size does not fit an int64.
bool tensor_bytes(ingot_element_type_t type, const int64_t *dims, uint32_t rank, int64_t *out);

inline bool strings_equal(const char *a, const char *b) { return strcmp(a, b) == 0; }

} // namespace ingot
