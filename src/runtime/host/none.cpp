// Builds without values (-Dvalues=false): archives that need them are refused, and the functions on values say why.
#include <ingot/values.h>

#include "src/runtime/host/module.h"

using namespace ingot;

extern "C" {

ingot_code_t ingot_values_archive_map(const ingot_allocator_t *allocator, const char *path, ingot_archive_t **out, ingot_error_t *error) {
  return map_archive(nullptr, allocator, path, out, error);
}
ingot_code_t ingot_values_archive_read(const ingot_allocator_t *allocator, const char *path, ingot_archive_t **out, ingot_error_t *error) {
  return read_archive(nullptr, allocator, path, out, error);
}
ingot_code_t ingot_values_archive_open(const ingot_allocator_t *allocator, const void *data, size_t size, bool borrow,
                                       ingot_archive_t **out, ingot_error_t *error) {
  return open_archive_bytes(nullptr, allocator, data, size, borrow, out, error);
}

static ingot_code_t absent(ingot_error_t *error) {
  return fail(error, INGOT_UNIMPLEMENTED, "this build of Ingot has no lists and strings: configure it with -Dvalues=true");
}
ingot_code_t ingot_value_create(const ingot_allocator_t *, ingot_value_t **, ingot_error_t *error) { return absent(error); }
void ingot_value_release(ingot_value_t *) {}
void ingot_value_set_none(ingot_value_t *) {}
ingot_code_t ingot_value_set_tensor(ingot_value_t *, const ingot_tensor_t *, ingot_error_t *error) { return absent(error); }
ingot_code_t ingot_value_set_strings(ingot_value_t *, const ingot_string_t *, const int64_t *, uint32_t, ingot_error_t *error) {
  return absent(error);
}
ingot_code_t ingot_value_set_list(ingot_value_t *, ingot_element_type_t, const ingot_value_t *const *, size_t, ingot_error_t *error) {
  return absent(error);
}
ingot_value_kind_t ingot_value_kind(const ingot_value_t *) { return INGOT_VALUE_NONE; }
size_t ingot_value_count(const ingot_value_t *) { return 0; }
ingot_element_type_t ingot_value_list_type(const ingot_value_t *) { return INGOT_ELEMENT_TYPE_NONE; }
ingot_code_t ingot_value_tensor(const ingot_value_t *, uint32_t, ingot_tensor_t *, ingot_error_t *error) { return absent(error); }
ingot_code_t ingot_value_string(const ingot_value_t *, uint32_t, uint64_t, ingot_string_t *, ingot_error_t *error) { return absent(error); }

} // extern "C"
