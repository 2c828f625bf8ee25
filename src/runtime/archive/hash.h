// The archive's checksum.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ingot {

uint64_t xxh3(const void *data, size_t size);

} // namespace ingot
