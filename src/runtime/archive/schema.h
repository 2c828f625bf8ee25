// Generated FlatBuffers accessors, and helpers that make absent vectors and strings harmless.
#pragma once

#include "archive_generated.h"
#include "schemas/program_words.h"
#include "src/runtime/base.h"

namespace ingot {

template <class V> inline uint32_t count(const V *vector) { return vector ? vector->size() : 0; }
inline const char *text(const flatbuffers::String *string) { return string ? string->c_str() : ""; }

} // namespace ingot
