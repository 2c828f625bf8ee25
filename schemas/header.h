// The first 64 bytes of an archive. Little-endian; metadata follows at byte 64, segments at data_offset.
#pragma once

#include <cstdint>

namespace ingot::program {

constexpr uint8_t kMagic[8] = {0x89, 'I', 'N', 'G', 'O', 'T', '\r', '\n'};
constexpr uint32_t kFormatVersion = 1; // of what the writer writes
constexpr uint32_t kReaderVersion = 1; // highest min_reader that this reader accepts
// Required-feature bits.
constexpr uint64_t kFeatureHostValues = 1; // host slots and host ops: lists, optionals, strings
constexpr uint64_t kKnownFeatures = 0;     // that every reader of this version knows
constexpr uint32_t kHeaderSize = 64;
constexpr uint32_t kMaxSegmentAlignment = 4096;

struct Header {
  uint8_t magic[8];
  uint32_t format_version;    // version of the format that the writer followed
  uint32_t min_reader;        // readers below this version must refuse the archive
  uint64_t required_features; // a reader that does not know a bit must refuse the archive
  uint64_t file_size;         // of the whole archive
  uint64_t metadata_size;     // bytes of the FlatBuffer at byte 64
  uint64_t data_offset;       // where the segments' offsets count from; a multiple of 64
  uint64_t metadata_xxh3;     // XXH3-64 of the metadata
  uint64_t header_xxh3;       // XXH3-64 of the 56 bytes before this field
};
static_assert(sizeof(Header) == kHeaderSize);

} // namespace ingot::program
