// Errors, the default allocator, element types. See base.h.
#include "src/runtime/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/runtime/platform/platform.h"

namespace ingot {

Code fail(Error *error, Code code, const char *format, ...) {
  if (error) {
    error->code = code;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
  }
  return code;
}

Code prefix(Error *error, const char *format, ...) {
  if (!error) return INGOT_INTERNAL;
  char head[sizeof error->message];
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(head, sizeof head, format, arguments);
  va_end(arguments);
  if (length > 0 && size_t(length) + 3 < sizeof head) {
    const size_t room = sizeof error->message - size_t(length) - 2;
    const size_t old = strnlen(error->message, room - 1);
    memmove(error->message + length + 2, error->message, old);
    memcpy(error->message, head, size_t(length));
    memcpy(error->message + length, ": ", 2);
    error->message[size_t(length) + 2 + old] = 0;
  }
  return error->code;
}

namespace {

// Arenas of megabytes: their first use costs a page fault for each 4 KiB otherwise, which is most of the first run at a new size.
constexpr size_t kLargePage = 2 << 20;

void *default_allocate(void *, size_t size, size_t alignment) {
  void *memory = nullptr;
  const size_t large = size & ~(kLargePage - 1), least = large ? kLargePage : sizeof(void *);
  if (posix_memalign(&memory, alignment < least ? least : alignment, size) != 0) return nullptr;
  if (large) platform::prefer_large_pages(memory, large);
  return memory;
}
void default_release(void *, void *memory, size_t, size_t) { free(memory); }

} // namespace

ingot_allocator_t resolve_allocator(const ingot_allocator_t *given) {
  if (given && given->allocate && given->release) return *given;
  return {nullptr, default_allocate, default_release};
}

void *allocate_bytes(const ingot_allocator_t &allocator, size_t count, size_t element, size_t alignment) {
  size_t bytes;
  if (__builtin_mul_overflow(count, element, &bytes) || bytes == 0 || bytes > SIZE_MAX / 2) return nullptr;
  return allocator.allocate(allocator.user, bytes, alignment);
}

void release_bytes(const ingot_allocator_t &allocator, void *memory, size_t bytes, size_t alignment) {
  if (memory) allocator.release(allocator.user, memory, bytes, alignment);
}

void RawArray::reset() {
  if (data_) release_bytes(allocator_, data_, bytes_, alignment_);
  data_ = nullptr;
  size_ = 0;
}

Code RawArray::create(const ingot_allocator_t &allocator, size_t count, uint64_t sizes, const char *what, Error *error) {
  reset();
  if (count == 0) return INGOT_OK;
  const size_t element = uint32_t(sizes);
  alignment_ = size_t(sizes >> 32);
  data_ = allocate_bytes(allocator, count, element, alignment_);
  if (!data_)
    return fail(error, INGOT_OUT_OF_MEMORY, "out of memory: %zu elements of %zu bytes for %s", count, element, what);
  size_ = count;
  bytes_ = count * element;
  allocator_ = allocator;
  memset(data_, 0, bytes_);
  return INGOT_OK;
}

bool tensor_bytes(ingot_element_type_t type, const int64_t *dims, uint32_t rank, int64_t *out) {
  int64_t count = 1, bits;
  bool zero = false;
  for (uint32_t i = 0; i < rank; ++i) {
    if (dims[i] < 0) return false;
    if (dims[i] == 0) zero = true;
  }
  for (uint32_t i = 0; i < rank && !zero; ++i)
    if (__builtin_mul_overflow(count, dims[i], &count)) return false;
  if (zero) count = 0;
  if (__builtin_mul_overflow(count, int64_t(ingot_element_type_bits(type)), &bits) || bits > INT64_MAX - 7) return false;
  *out = (bits + 7) / 8;
  return true;
}

namespace {

// One row per ingot_element_type_t, in order; fixed-size names so that the table needs no relocations.
struct ElementRow {
  char name[11];
  uint8_t bits;
};
constexpr ElementRow kElements[INGOT_ELEMENT_TYPE_COUNT] = {
    {"?", 0},     {"bool", 8},    {"i8", 8},          {"i16", 16},    {"i32", 32},        {"i64", 64},   {"u8", 8},
    {"u16", 16},  {"u32", 32},    {"u64", 64},        {"f16", 16},    {"bf16", 16},       {"f32", 32},   {"f64", 64},
    {"f8e4m3fn", 8}, {"f8e4m3fnuz", 8}, {"f8e5m2", 8}, {"f8e5m2fnuz", 8}, {"f8e8m0", 8}, {"f4e2m1", 4}, {"i4", 4},
    {"u4", 4},    {"i2", 2},      {"u2", 2},          {"complex64", 64}, {"complex128", 128}, {"string", 0}, {"value", 0}};

} // namespace
} // namespace ingot

extern "C" {

const char *ingot_element_type_name(ingot_element_type_t type) {
  return ingot::kElements[type > 0 && type < INGOT_ELEMENT_TYPE_COUNT ? type : 0].name;
}

uint32_t ingot_element_type_bits(ingot_element_type_t type) {
  return ingot::kElements[type > 0 && type < INGOT_ELEMENT_TYPE_COUNT ? type : 0].bits;
}

const char *ingot_version(void) { return INGOT_VERSION_STRING; }

const char *ingot_code_name(ingot_code_t code) {
  switch (code) {
  case INGOT_OK: return "INGOT_OK";
  case INGOT_INVALID_ARGUMENT: return "INGOT_INVALID_ARGUMENT";
  case INGOT_OUT_OF_RANGE: return "INGOT_OUT_OF_RANGE";
  case INGOT_NOT_FOUND: return "INGOT_NOT_FOUND";
  case INGOT_UNIMPLEMENTED: return "INGOT_UNIMPLEMENTED";
  case INGOT_OUT_OF_MEMORY: return "INGOT_OUT_OF_MEMORY";
  case INGOT_CORRUPT: return "INGOT_CORRUPT";
  case INGOT_INCOMPATIBLE: return "INGOT_INCOMPATIBLE";
  case INGOT_UNAVAILABLE: return "INGOT_UNAVAILABLE";
  case INGOT_IO: return "INGOT_IO";
  case INGOT_BUSY: return "INGOT_BUSY";
  case INGOT_CANCELLED: return "INGOT_CANCELLED";
  case INGOT_DEADLINE_EXCEEDED: return "INGOT_DEADLINE_EXCEEDED";
  case INGOT_CHECK_FAILED: return "INGOT_CHECK_FAILED";
  case INGOT_KERNEL_ERROR: return "INGOT_KERNEL_ERROR";
  case INGOT_DEVICE_LOST: return "INGOT_DEVICE_LOST";
  case INGOT_INTERNAL: return "INGOT_INTERNAL";
  default: return "unknown code";
  }
}

} // extern "C"
