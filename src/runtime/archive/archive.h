// An opened archive: private, verified metadata; private code; weights in place or copied.
#pragma once

#include "src/runtime/archive/schema.h"
#include "src/runtime/base.h"
#include "src/runtime/host/module.h"
#include "src/runtime/platform/platform.h"

// Whether any driver of this build has memory of its own; without one, its code folds away.
#if !defined(INGOT_DEVICE_MEMORY)
#define INGOT_DEVICE_MEMORY 0
#endif

namespace ingot {

struct SegmentData {
  const uint8_t *data = nullptr;
  uint64_t size = 0;
  bool owned = false; // a copy of its own (code)
};

} // namespace ingot

struct ingot_archive_t {
  ~ingot_archive_t();
  ingot::References references;
  ingot_allocator_t allocator = {};
  uint64_t file_size = 0, data_offset = 0, metadata_xxh3 = 0, required_features = 0;
  uint32_t format_version = 0;
  ingot::Array<uint8_t> metadata;
  ingot::Array<ingot::SegmentData> segments;
  // The file's bytes: mapped, copied, or the caller's.
  const uint8_t *bytes = nullptr;
  ingot::platform::FileView mapped;
  ingot::Array<uint8_t> copied;
  const ingot::HostModule *host = nullptr; // lists and strings; null: such archives are refused

  const ingot::HostModule *values() const { return INGOT_VALUES ? host : nullptr; }
  const ingot::schema::Archive *root() const { return ingot::schema::GetArchive(metadata.data()); }
  const ingot::schema::Variant *variant(uint32_t v) const { return root()->variants()->Get(v); }
  const ingot::schema::Function *function(uint32_t v, uint32_t f) const { return variant(v)->functions()->Get(f); }
};

namespace ingot {

// Verifies header and structure, copies metadata and code, locates segments, then verifies the meaning.
// `data` (the whole file, aligned to 64 bytes) stays valid and unchanged as long as the archive.
Code open_archive(ingot_archive_t &archive, const uint8_t *data, uint64_t size, Error *error);

// Meaning: indices, sizes, alignments, words, bindings inside slots. Pre: structure verified, segments located.
Code verify_meaning(const ingot_archive_t &archive, Error *error);

} // namespace ingot
