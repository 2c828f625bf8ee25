// Values that the runtime keeps: a tensor of numbers or strings, or a list of tensors. They never change once they are
// made and are shared by counting, so that a list may hold what another holds; no value at all is a null pointer.
//
// Payload, after the object: numbers, dense and row-major; strings: u64 count + 1 offsets into the text behind them, then
// the text; lists: pointers to tensors.
#pragma once

#include "src/runtime/base.h"

namespace ingot {

constexpr int64_t kMaxElements = 0x7fffffff; // of a tensor or list

struct HostObject {
  enum class Kind : uint32_t { tensor, list };
  References references;
  Kind kind = Kind::tensor;
  ingot_element_type_t type = INGOT_ELEMENT_TYPE_NONE; // of a list: of its elements, or none while it is empty
  uint32_t rank = 0;
  int64_t dims[INGOT_MAX_RANK] = {};
  uint64_t count = 0; // elements
  uint64_t bytes = 0; // of the payload
  ingot_allocator_t allocator = {};

  uint8_t *data() { return reinterpret_cast<uint8_t *>(this) + kHeader; }
  const uint8_t *data() const { return reinterpret_cast<const uint8_t *>(this) + kHeader; }
  HostObject *const *elements() const { return reinterpret_cast<HostObject *const *>(data()); }
  bool is_list() const { return kind == Kind::list; }
  bool is_strings() const { return kind == Kind::tensor && type == INGOT_ELEMENT_TYPE_STRING; }
  static constexpr size_t kHeader = 192;
};
static_assert(sizeof(HostObject) <= HostObject::kHeader && HostObject::kHeader % kAlignment == 0);

void release_object(HostObject *object); // null is fine

// Holds one reference.
class Ref {
public:
  Ref() = default;
  explicit Ref(HostObject *owned) : object_(owned) {}
  Ref(const Ref &o) : object_(o.object_) {
    if (object_) object_->references.retain();
  }
  Ref(Ref &&o) noexcept : object_(o.object_) { o.object_ = nullptr; }
  Ref &operator=(Ref o) noexcept {
    HostObject *mine = object_;
    object_ = o.object_;
    o.object_ = mine;
    return *this;
  }
  ~Ref() { release_object(object_); }
  static Ref share(HostObject *object) {
    if (object) object->references.retain();
    return Ref(object);
  }
  HostObject *get() const { return object_; }
  HostObject *operator->() const { return object_; }
  HostObject &operator*() const { return *object_; }
  explicit operator bool() const { return object_ != nullptr; }

private:
  HostObject *object_ = nullptr;
};

struct Text {
  const char *data = "";
  size_t size = 0;
  bool operator==(Text o) const { return size == o.size && (size == 0 || memcmp(data, o.data, size) == 0); }
};

// Product of dims; INGOT_OUT_OF_RANGE where one is negative or there are too many elements.
Code count_elements(const int64_t *dims, uint32_t rank, uint64_t *out, Error *error);

// A tensor of numbers, contents undefined.
Code make_tensor(const ingot_allocator_t &allocator, ingot_element_type_t type, const int64_t *dims, uint32_t rank, Ref *out,
                 Error *error);
// Strings with room for `text` bytes together; offsets undefined.
Code make_strings(const ingot_allocator_t &allocator, const int64_t *dims, uint32_t rank, uint64_t text, Ref *out, Error *error);
// A list whose elements are null until they are set.
Code make_list(const ingot_allocator_t &allocator, ingot_element_type_t type, uint64_t count, Ref *out, Error *error);
void set_element(Ref &list, uint64_t index, HostObject *element); // adds a reference

Text string_at(const HostObject &strings, uint64_t index);
int64_t i64_at(const HostObject &tensor, uint64_t index); // of an i64 or i32 tensor

// Writes strings one after the other: pre: room was made for all.
class StringWriter {
public:
  explicit StringWriter(Ref &strings);
  void append(const char *data, size_t size); // to the string that is open
  void append(Text text) { append(text.data, text.size); }
  void finish(); // ends the string that is open
private:
  HostObject &object_;
  uint64_t *offsets_;
  uint8_t *text_;
  uint64_t index_ = 0, at_ = 0;
};

} // namespace ingot

struct ingot_value_t {
  ingot_allocator_t allocator = {};
  ingot::Ref object;
};
