// Host ops, by family. Each is total: it gives a value or says why not, whatever its operands are.
#pragma once

#include "src/runtime/host/value.h"

namespace ingot {

// Operands and results of one op; sources[i] may be null (nothing).
struct HostOpArgs {
  const ingot_allocator_t &allocator;
  const HostObject *const *sources;
  uint32_t source_count;
  const int64_t *exprs;
  uint32_t expr_count;
  const uint32_t *immediates;
  Ref *results;
  Error *error;
};

// What an operand must be; INGOT_INVALID_ARGUMENT where it is not.
Code need_list(const HostOpArgs &a, uint32_t source);
Code need_numbers(const HostOpArgs &a, uint32_t source, ingot_element_type_t type); // NONE: any
Code need_strings(const HostOpArgs &a, uint32_t source);
Code need_integers(const HostOpArgs &a, uint32_t source); // i32 or i64
// Dims of two tensors after numpy's broadcasting, and where an element of it lies in either.
Code broadcast(const HostObject &a, const HostObject &b, int64_t *dims, uint32_t *rank, Error *error);
uint64_t broadcast_index(const HostObject &from, const int64_t *dims, uint32_t rank, uint64_t index);

// lists.cpp
Code host_construct(const HostOpArgs &a);
Code host_insert(const HostOpArgs &a);
Code host_erase(const HostOpArgs &a);
Code host_at(const HostOpArgs &a);
Code host_split(const HostOpArgs &a);
Code host_concat(const HostOpArgs &a);
Code host_take(const HostOpArgs &a);
// strings.cpp
Code host_equal(const HostOpArgs &a);
Code host_join(const HostOpArgs &a);
Code host_tokenize(const HostOpArgs &a);
Code host_normalize(const HostOpArgs &a);
// match.cpp
Code host_match(const HostOpArgs &a);
// tables.cpp
Code host_lookup(const HostOpArgs &a);
Code host_tfidf(const HostOpArgs &a);
// image.cpp
Code host_decode(const HostOpArgs &a);

} // namespace ingot
