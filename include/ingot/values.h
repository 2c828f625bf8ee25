/* Ingot: lists, optionals and strings, as inputs and outputs of models. The conventions are those of <ingot/ingot.h>.
 *
 * An archive that works with them says so, and opens through the functions here; ingot_archive_map and its kin refuse it.
 * A program that calls none of these does not link what they need.
 *
 * A value is nothing (an optional without an element), a tensor of numbers or of strings, or a list of tensors. An input or
 * output of type INGOT_ELEMENT_TYPE_STRING or INGOT_ELEMENT_TYPE_VALUE is an ingot_tensor_t whose `data` is an
 * ingot_value_t; `size` and `buffer` do not count. Strings have rank and dims, as tensors have; the others rank 0.
 *
 * Values never change while they are shared: a run takes what a value holds, and puts something new into the values that
 * are its outputs. Until the run has ended, the caller leaves them alone. Values are used by one thread at a time.
 */
#ifndef INGOT_VALUES_H_
#define INGOT_VALUES_H_

#include <ingot/ingot.h>

#ifdef __cplusplus
extern "C" {
#endif

/* As ingot_archive_map, ingot_archive_read and ingot_archive_open; any archive is taken. INGOT_INCOMPATIBLE where this
 * build of Ingot has no values. */
INGOT_API ingot_code_t ingot_values_archive_map(const ingot_allocator_t *allocator, const char *path, ingot_archive_t **out,
                                                ingot_error_t *error);
INGOT_API ingot_code_t ingot_values_archive_read(const ingot_allocator_t *allocator, const char *path, ingot_archive_t **out,
                                                 ingot_error_t *error);
INGOT_API ingot_code_t ingot_values_archive_open(const ingot_allocator_t *allocator, const void *data, size_t size, bool borrow,
                                                 ingot_archive_t **out, ingot_error_t *error);

typedef struct ingot_value_t ingot_value_t;
typedef struct ingot_string_t {
  const char *data; /* UTF-8 where a model says so; not NUL-terminated, and may hold NULs */
  size_t size;
} ingot_string_t;

typedef int32_t ingot_value_kind_t;
enum { INGOT_VALUE_NONE = 0, INGOT_VALUE_TENSOR = 1, INGOT_VALUE_STRINGS = 2, INGOT_VALUE_LIST = 3 };

/* Holds nothing at first. The allocator (NULL: malloc) must outlive every run whose outputs it shares. */
INGOT_API ingot_code_t ingot_value_create(const ingot_allocator_t *allocator, ingot_value_t **out, ingot_error_t *error);
INGOT_API void ingot_value_release(ingot_value_t *value);

/* What a value shall hold; the bytes are copied. On failure it keeps what it held. */
INGOT_API void ingot_value_set_none(ingot_value_t *value);
INGOT_API ingot_code_t ingot_value_set_tensor(ingot_value_t *value, const ingot_tensor_t *tensor, ingot_error_t *error);
INGOT_API ingot_code_t ingot_value_set_strings(ingot_value_t *value, const ingot_string_t *strings, const int64_t *dims,
                                               uint32_t rank, ingot_error_t *error);
/* A list of the tensors in `elements`, which are of one type; `type` says which where there are none. */
INGOT_API ingot_code_t ingot_value_set_list(ingot_value_t *value, ingot_element_type_t type,
                                            const ingot_value_t *const *elements, size_t count, ingot_error_t *error);

INGOT_API ingot_value_kind_t ingot_value_kind(const ingot_value_t *value);
/* Elements of a list; 0 for others. */
INGOT_API size_t ingot_value_count(const ingot_value_t *value);
/* Type and dims of the tensor that a value is (element INGOT_NONE) or of an element of a list; `data` points into it until
 * the value changes. Of strings `data` is NULL. */
INGOT_API ingot_code_t ingot_value_tensor(const ingot_value_t *value, uint32_t element, ingot_tensor_t *out, ingot_error_t *error);
/* One string of such a tensor, by its number in row-major order. */
INGOT_API ingot_code_t ingot_value_string(const ingot_value_t *value, uint32_t element, uint64_t index, ingot_string_t *out,
                                          ingot_error_t *error);
/* Type of a list's elements, or INGOT_ELEMENT_TYPE_NONE. */
INGOT_API ingot_element_type_t ingot_value_list_type(const ingot_value_t *value);

#ifdef __cplusplus
}
#endif

#endif /* INGOT_VALUES_H_ */
