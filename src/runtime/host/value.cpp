// See value.h.
#include "src/runtime/host/value.h"

namespace ingot {

void release_object(HostObject *object) {
  if (!object || !object->references.release()) return;
  if (object->is_list())
    for (uint64_t i = 0; i < object->count; ++i) release_object(object->elements()[i]); // tensors: no deeper than this
  const ingot_allocator_t allocator = object->allocator;
  const size_t bytes = HostObject::kHeader + size_t(object->bytes);
  object->~HostObject();
  release_bytes(allocator, object, bytes, kAlignment);
}

Code count_elements(const int64_t *dims, uint32_t rank, uint64_t *out, Error *error) {
  uint64_t n = 1;
  bool empty = false;
  for (uint32_t i = 0; i < rank; ++i) {
    if (dims[i] < 0 || dims[i] > kMaxElements)
      return fail(error, INGOT_OUT_OF_RANGE, "dim %u of a value is %lld", i, (long long)dims[i]);
    empty |= dims[i] == 0;
  }
  if (empty) n = 0;
  for (uint32_t i = 0; i < rank && !empty; ++i)
    if ((n *= uint64_t(dims[i])) > uint64_t(kMaxElements))
      return fail(error, INGOT_OUT_OF_RANGE, "a value has more than 2^31 - 1 elements");
  *out = n;
  return INGOT_OK;
}

namespace {

Code make(const ingot_allocator_t &allocator, uint64_t bytes, Ref *out, Error *error) {
  void *memory = bytes > SIZE_MAX - HostObject::kHeader ? nullptr
                 : allocate_bytes(allocator, HostObject::kHeader + size_t(bytes), 1, kAlignment);
  if (!memory) return fail(error, INGOT_OUT_OF_MEMORY, "out of memory: %llu bytes for a value", (unsigned long long)bytes);
  HostObject *object = new (memory) HostObject;
  object->allocator = allocator;
  object->bytes = bytes;
  *out = Ref(object);
  return INGOT_OK;
}

Code make_shaped(const ingot_allocator_t &allocator, ingot_element_type_t type, const int64_t *dims, uint32_t rank,
                 uint64_t count, uint64_t bytes, Ref *out, Error *error) {
  INGOT_TRY(make(allocator, bytes, out, error));
  HostObject &o = **out;
  o.type = type;
  o.rank = rank;
  for (uint32_t i = 0; i < rank; ++i) o.dims[i] = dims[i];
  o.count = count;
  return INGOT_OK;
}

} // namespace

Code make_tensor(const ingot_allocator_t &allocator, ingot_element_type_t type, const int64_t *dims, uint32_t rank, Ref *out,
                 Error *error) {
  uint64_t count = 0;
  int64_t bytes = 0;
  INGOT_TRY(count_elements(dims, rank, &count, error));
  const int64_t n = int64_t(count);
  if (!tensor_bytes(type, &n, 1, &bytes)) return fail(error, INGOT_OUT_OF_RANGE, "a value is too large");
  return make_shaped(allocator, type, dims, rank, count, uint64_t(bytes), out, error);
}

Code make_strings(const ingot_allocator_t &allocator, const int64_t *dims, uint32_t rank, uint64_t text, Ref *out, Error *error) {
  uint64_t count = 0;
  INGOT_TRY(count_elements(dims, rank, &count, error));
  if (text > uint64_t(1) << 40) return fail(error, INGOT_OUT_OF_RANGE, "strings of more than 2^40 bytes");
  const uint64_t bytes = 8 * (count + 1) + text;
  return make_shaped(allocator, INGOT_ELEMENT_TYPE_STRING, dims, rank, count, bytes, out, error);
}

Code make_list(const ingot_allocator_t &allocator, ingot_element_type_t type, uint64_t count, Ref *out, Error *error) {
  if (count > uint64_t(kMaxElements)) return fail(error, INGOT_OUT_OF_RANGE, "a list of more than 2^31 - 1 elements");
  INGOT_TRY(make(allocator, count * sizeof(HostObject *), out, error));
  HostObject &o = **out;
  o.kind = HostObject::Kind::list;
  o.type = type;
  o.count = count;
  if (count) memset(o.data(), 0, count * sizeof(HostObject *));
  return INGOT_OK;
}

void set_element(Ref &list, uint64_t index, HostObject *element) {
  element->references.retain();
  reinterpret_cast<HostObject **>(list->data())[index] = element;
}

Text string_at(const HostObject &strings, uint64_t index) {
  const uint64_t *offsets = reinterpret_cast<const uint64_t *>(strings.data());
  const char *text = reinterpret_cast<const char *>(offsets + strings.count + 1);
  return {text + offsets[index], size_t(offsets[index + 1] - offsets[index])};
}

int64_t i64_at(const HostObject &tensor, uint64_t index) {
  if (tensor.type == INGOT_ELEMENT_TYPE_I32) return reinterpret_cast<const int32_t *>(tensor.data())[index];
  return reinterpret_cast<const int64_t *>(tensor.data())[index];
}

StringWriter::StringWriter(Ref &strings)
    : object_(*strings), offsets_(reinterpret_cast<uint64_t *>(strings->data())),
      text_(strings->data() + 8 * (strings->count + 1)) {
  offsets_[0] = 0;
}

void StringWriter::append(const char *data, size_t size) {
  if (size) memcpy(text_ + at_, data, size);
  at_ += size;
}

void StringWriter::finish() {
  if (index_ < object_.count) offsets_[++index_] = at_;
}

} // namespace ingot
