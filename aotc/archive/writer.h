// Turns an ArchiveModel into the bytes of an archive. Deterministic: equal models give equal bytes. Equal segments
// (content, kind) are stored once at the stricter alignment. docs/archive-format.md describes the result.
#pragma once

#include <cstdint>
#include <vector>

#include "aotc/archive/program.h"

namespace ingot::aotc::archive {

// Never fails on a model that the runtime's verifier would accept; it does not verify by itself.
std::vector<uint8_t> write_archive(const ArchiveModel &model);

} // namespace ingot::aotc::archive
