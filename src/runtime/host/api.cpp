// The functions of <ingot/values.h>.
#include <ingot/values.h>

#include "src/runtime/api/objects.h"
#include "src/runtime/host/host.h"
#include "src/runtime/host/value.h"

using namespace ingot;

namespace {

const HostObject *element_of(const ingot_value_t *value, uint32_t element) {
  const HostObject *o = value ? value->object.get() : nullptr;
  if (!o || element == INGOT_NONE) return o && !o->is_list() ? o : nullptr;
  return o->is_list() && element < o->count ? o->elements()[element] : nullptr;
}

Code no_tensor(Error *error) { return fail(error, INGOT_OUT_OF_RANGE, "the value has no such tensor"); }

} // namespace

extern "C" {

ingot_code_t ingot_values_archive_map(const ingot_allocator_t *allocator, const char *path, ingot_archive_t **out, ingot_error_t *error) {
  return map_archive(&host_module(), allocator, path, out, error);
}
ingot_code_t ingot_values_archive_read(const ingot_allocator_t *allocator, const char *path, ingot_archive_t **out, ingot_error_t *error) {
  return read_archive(&host_module(), allocator, path, out, error);
}
ingot_code_t ingot_values_archive_open(const ingot_allocator_t *allocator, const void *data, size_t size, bool borrow,
                                       ingot_archive_t **out, ingot_error_t *error) {
  return open_archive_bytes(&host_module(), allocator, data, size, borrow, out, error);
}

ingot_code_t ingot_value_create(const ingot_allocator_t *allocator, ingot_value_t **out, ingot_error_t *error) {
  if (!out) return null_argument(error, "out");
  const ingot_allocator_t resolved = resolve_allocator(allocator);
  ingot_value_t *value = create_object<ingot_value_t>(resolved, "a value", error);
  if (!value) return INGOT_OUT_OF_MEMORY;
  value->allocator = resolved;
  *out = value;
  return INGOT_OK;
}

void ingot_value_release(ingot_value_t *value) {
  if (value) destroy_object(value->allocator, value);
}

void ingot_value_set_none(ingot_value_t *value) {
  if (value) value->object = Ref();
}

ingot_code_t ingot_value_set_tensor(ingot_value_t *value, const ingot_tensor_t *tensor, ingot_error_t *error) {
  if (!value || !tensor) return null_argument(error, value ? "tensor" : "value");
  if (tensor->buffer || tensor->type <= 0 || tensor->type >= INGOT_ELEMENT_TYPE_STRING || tensor->rank > INGOT_MAX_RANK)
    return fail(error, INGOT_INVALID_ARGUMENT, "a value takes numbers in host memory, of rank 8 at most");
  Ref made;
  INGOT_TRY(make_tensor(value->allocator, tensor->type, tensor->dims, tensor->rank, &made, error));
  if (made->bytes > tensor->size || (made->bytes && !tensor->data))
    return fail(error, INGOT_OUT_OF_RANGE, "the tensor needs %llu bytes, its memory holds %zu", (unsigned long long)made->bytes, tensor->size);
  if (made->bytes) memcpy(made->data(), tensor->data, size_t(made->bytes));
  value->object = static_cast<Ref &&>(made);
  return INGOT_OK;
}

ingot_code_t ingot_value_set_strings(ingot_value_t *value, const ingot_string_t *strings, const int64_t *dims, uint32_t rank,
                                     ingot_error_t *error) {
  if (!value || (!dims && rank)) return null_argument(error, value ? "dims" : "value");
  if (rank > INGOT_MAX_RANK) return fail(error, INGOT_INVALID_ARGUMENT, "rank %u, above 8", rank);
  uint64_t count = 0, text = 0;
  INGOT_TRY(count_elements(dims, rank, &count, error));
  if (!strings && count) return null_argument(error, "strings");
  for (uint64_t i = 0; i < count; ++i) {
    if (!strings[i].data && strings[i].size) return null_argument(error, "a string");
    if (__builtin_add_overflow(text, uint64_t(strings[i].size), &text)) return fail(error, INGOT_OUT_OF_RANGE, "the strings are too long");
  }
  Ref made;
  INGOT_TRY(make_strings(value->allocator, dims, rank, text, &made, error));
  StringWriter writer(made);
  for (uint64_t i = 0; i < count; ++i) {
    writer.append(strings[i].data, strings[i].size);
    writer.finish();
  }
  value->object = static_cast<Ref &&>(made);
  return INGOT_OK;
}

ingot_code_t ingot_value_set_list(ingot_value_t *value, ingot_element_type_t type, const ingot_value_t *const *elements, size_t count,
                                  ingot_error_t *error) {
  if (!value || (!elements && count)) return null_argument(error, value ? "elements" : "value");
  for (size_t i = 0; i < count; ++i) {
    const HostObject *o = element_of(elements[i], INGOT_NONE);
    if (!o || o->type != element_of(elements[0], INGOT_NONE)->type)
      return fail(error, INGOT_INVALID_ARGUMENT, "element %zu of a list is no tensor, or of another type than the first", i);
    type = o->type;
  }
  if (type < 0 || type > INGOT_ELEMENT_TYPE_STRING) return fail(error, INGOT_INVALID_ARGUMENT, "unknown element type %d", int(type));
  Ref made;
  INGOT_TRY(make_list(value->allocator, type, count, &made, error));
  for (size_t i = 0; i < count; ++i) set_element(made, i, elements[i]->object.get());
  value->object = static_cast<Ref &&>(made);
  return INGOT_OK;
}

ingot_value_kind_t ingot_value_kind(const ingot_value_t *value) {
  const HostObject *o = value ? value->object.get() : nullptr;
  return !o ? INGOT_VALUE_NONE : o->is_list() ? INGOT_VALUE_LIST : o->is_strings() ? INGOT_VALUE_STRINGS : INGOT_VALUE_TENSOR;
}

size_t ingot_value_count(const ingot_value_t *value) {
  return ingot_value_kind(value) == INGOT_VALUE_LIST ? size_t(value->object->count) : 0;
}

ingot_element_type_t ingot_value_list_type(const ingot_value_t *value) {
  return ingot_value_kind(value) == INGOT_VALUE_LIST ? value->object->type : ingot_element_type_t(INGOT_ELEMENT_TYPE_NONE);
}

ingot_code_t ingot_value_tensor(const ingot_value_t *value, uint32_t element, ingot_tensor_t *out, ingot_error_t *error) {
  if (!out) return null_argument(error, "out");
  const HostObject *o = element_of(value, element);
  if (!o) return no_tensor(error);
  *out = {};
  out->type = o->type;
  out->rank = o->rank;
  for (uint32_t d = 0; d < o->rank; ++d) out->dims[d] = o->dims[d];
  if (o->is_strings()) return INGOT_OK;
  out->data = const_cast<uint8_t *>(o->data());
  out->size = size_t(o->bytes);
  return INGOT_OK;
}

ingot_code_t ingot_value_string(const ingot_value_t *value, uint32_t element, uint64_t index, ingot_string_t *out, ingot_error_t *error) {
  if (!out) return null_argument(error, "out");
  const HostObject *o = element_of(value, element);
  if (!o || !o->is_strings() || index >= o->count) return no_tensor(error);
  const Text t = string_at(*o, index);
  *out = {t.data, t.size};
  return INGOT_OK;
}

} // extern "C"
