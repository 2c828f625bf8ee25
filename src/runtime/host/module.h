// The seam between the runtime and its optional module for values that it keeps itself: lists, optionals, strings. The
// core calls the module through this table alone, which only the open functions of <ingot/values.h> name: a program that
// does not call those does not link the module.
#pragma once

#include "src/runtime/archive/schema.h"

// Whether this build has the module; without it, the core's side of the seam folds away.
#if !defined(INGOT_VALUES)
#define INGOT_VALUES 0
#endif

struct ingot_archive_t;
struct ingot_context_t;

namespace ingot {

struct FunctionState;
struct Place;
class HostValues; // what the host slots of a function hold, in a context

// What an op may ask of the run that it is part of.
struct HostCalls {
  Code (*value)(void *run, uint32_t expr, int64_t *out);
  Code (*set_symbol)(void *run, uint32_t symbol, int64_t value);
  Code (*place)(void *run, uint32_t slot, Place *out, uint64_t *size); // of a slot of bytes
  Code (*settle)(void *run); // waits for the commands so far
};

struct HostModule {
  // Checks the host slots of a function (words null), or the host op at `words`, whose length fits the text. Null, or what
  // is wrong.
  const char *(*verify)(const ingot_archive_t &archive, const schema::Function *function, const uint32_t *words);
  Code (*run)(const HostCalls &calls, void *run, ingot_context_t &context, FunctionState &state, const uint32_t *words,
              Error *error);
  void (*clear)(HostValues *values);   // before a run: slots hold nothing
  void (*destroy)(HostValues *values);
};

// Opening an archive; `host` null: lists and strings are refused.
Code map_archive(const HostModule *host, const ingot_allocator_t *allocator, const char *path, ingot_archive_t **out, Error *error);
Code read_archive(const HostModule *host, const ingot_allocator_t *allocator, const char *path, ingot_archive_t **out, Error *error);
Code open_archive_bytes(const HostModule *host, const ingot_allocator_t *allocator, const void *data, size_t size, bool borrow,
                        ingot_archive_t **out, Error *error);

} // namespace ingot
