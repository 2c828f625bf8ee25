// XXH3-64 from libxxhash's header, compiled in: libingot links nothing but libc.
#include "src/runtime/archive/hash.h"

#define XXH_INLINE_ALL
#define XXH_NO_STREAM
#include <xxhash.h>

namespace ingot {

uint64_t xxh3(const void *data, size_t size) { return XXH3_64bits(data, size); }

} // namespace ingot
