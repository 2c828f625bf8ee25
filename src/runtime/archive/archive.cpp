// Opening an archive: header, checksums, structure, segments. Every number is checked before it is used, and nothing
// is read from the caller's bytes again once it was checked, other than weights.
#include "src/runtime/archive/archive.h"

#include "schemas/header.h"
#include "src/runtime/archive/hash.h"

using namespace ingot;

ingot_archive_t::~ingot_archive_t() {
  for (const SegmentData &s : segments)
    if (s.owned) release_bytes(allocator, const_cast<uint8_t *>(s.data), s.size, kAlignment);
  platform::unmap_file(mapped);
}

namespace ingot {
namespace {

Code check_header(const uint8_t *data, uint64_t size, uint64_t known, program::Header *out, Error *error) {
  if (size < program::kHeaderSize)
    return fail(error, INGOT_CORRUPT, "archive: %llu bytes, fewer than the 64 of a header: not an archive, or truncated",
                (unsigned long long)size);
  memcpy(out, data, sizeof *out);
  if (memcmp(out->magic, program::kMagic, sizeof out->magic) != 0)
    return fail(error, INGOT_CORRUPT, "archive: does not start with the magic number: not an Ingot archive");
  if (xxh3(out, program::kHeaderSize - 8) != out->header_xxh3)
    return fail(error, INGOT_CORRUPT, "archive: the header's checksum does not match: the file is damaged");
  if (out->min_reader > program::kReaderVersion)
    return fail(error, INGOT_INCOMPATIBLE, "archive: needs a reader of version %u, this one is version %u: update Ingot",
                out->min_reader, program::kReaderVersion);
  if (const uint64_t unknown = out->required_features & ~known)
    return fail(error, INGOT_INCOMPATIBLE,
                unknown != program::kFeatureHostValues ? "archive: needs features 0x%llx that this reader does not know: update Ingot"
                : INGOT_VALUES ? "archive: works with lists or strings (feature 0x%llx): open it as <ingot/values.h> says"
                               : "archive: works with lists or strings (feature 0x%llx), which this build leaves out (-Dvalues)",
                (unsigned long long)unknown);
  if (out->file_size != size)
    return fail(error, INGOT_CORRUPT, "archive: the header says %llu bytes, the file has %llu: it is %s",
                (unsigned long long)out->file_size, (unsigned long long)size,
                size < out->file_size ? "truncated" : "longer than it was written");
  if (!fits(program::kHeaderSize, out->metadata_size, size) || out->metadata_size > 0x7fffffff)
    return fail(error, INGOT_CORRUPT, "archive: metadata of %llu bytes does not fit the file of %llu",
                (unsigned long long)out->metadata_size, (unsigned long long)size);
  if (out->data_offset % 64 != 0 || out->data_offset < program::kHeaderSize + out->metadata_size)
    return fail(error, INGOT_CORRUPT, "archive: data offset %llu is unaligned or lies in the metadata",
                (unsigned long long)out->data_offset);
  return INGOT_OK;
}

Code locate_segments(ingot_archive_t &archive, const uint8_t *data, uint64_t size, Error *error) {
  const auto *table = archive.root()->segments();
  INGOT_TRY(archive.segments.create(archive.allocator, count(table), "segments", error));
  uint64_t previous_end = 0;
  for (uint32_t i = 0; i < count(table); ++i) {
    const schema::Segment *s = table->Get(i);
    const auto where = [&](const char *what) {
      return fail(error, INGOT_CORRUPT, "archive: segment %u (%.40s): %s", i, text(s->name()), what);
    };
    if (s->kind() > uint8_t(program::SegmentKind::other)) return where("unknown kind");
    if (!is_power_of_two(s->alignment()) || s->alignment() < 64 || s->alignment() > program::kMaxSegmentAlignment)
      return where("its alignment is not a power of two from 64 to 4096");
    if (s->offset() % s->alignment() != 0 || archive.data_offset % s->alignment() != 0)
      return where("its offset is not a multiple of its alignment");
    if (s->offset() < previous_end) return where("it overlaps the one before");
    if (archive.data_offset > size || !fits(s->offset(), s->size(), size - archive.data_offset))
      return fail(error, INGOT_CORRUPT,
                  "archive: segment %u (%.40s) of %llu bytes at %llu ends past the file's end at %llu", i,
                  text(s->name()), (unsigned long long)s->size(), (unsigned long long)s->offset(),
                  (unsigned long long)size);
    previous_end = s->offset() + s->size();
    SegmentData &out = archive.segments[i];
    out.size = s->size();
    out.data = data + archive.data_offset + s->offset();
    if (s->kind() != uint8_t(program::SegmentKind::code) || out.size == 0) continue;
    void *copy = allocate_bytes(archive.allocator, size_t(out.size), 1, kAlignment);
    if (!copy)
      return fail(error, INGOT_OUT_OF_MEMORY, "out of memory: %llu bytes of code", (unsigned long long)out.size);
    memcpy(copy, out.data, size_t(out.size));
    out.data = static_cast<const uint8_t *>(copy);
    out.owned = true;
    if (xxh3(copy, size_t(out.size)) != s->xxh3())
      return where("its checksum does not match: the file is damaged");
  }
  if (archive.data_offset + previous_end != size) {
    if (count(table) != 0 || size < archive.data_offset)
      return fail(error, INGOT_CORRUPT, "archive: the segments end at %llu, the file at %llu",
                  (unsigned long long)(archive.data_offset + previous_end), (unsigned long long)size);
  }
  return INGOT_OK;
}

} // namespace

Code open_archive(ingot_archive_t &archive, const uint8_t *data, uint64_t size, Error *error) {
  program::Header header;
  INGOT_TRY(check_header(data, size, program::kKnownFeatures | (archive.values() ? program::kFeatureHostValues : 0), &header, error));
  archive.bytes = data;
  archive.file_size = size;
  archive.data_offset = header.data_offset;
  archive.metadata_xxh3 = header.metadata_xxh3;
  archive.required_features = header.required_features;
  archive.format_version = header.format_version;
  if (header.metadata_size == 0) return fail(error, INGOT_CORRUPT, "archive: no metadata");
  INGOT_TRY(archive.metadata.create(archive.allocator, size_t(header.metadata_size), "metadata", error));
  memcpy(archive.metadata.data(), data + program::kHeaderSize, archive.metadata.size());
  if (xxh3(archive.metadata.data(), archive.metadata.size()) != header.metadata_xxh3)
    return fail(error, INGOT_CORRUPT, "archive: the metadata's checksum does not match: the file is damaged");
  // Tables cannot outnumber the bytes; the depth is that of the schema.
  flatbuffers::Verifier verifier(archive.metadata.data(), archive.metadata.size(), 16,
                                 flatbuffers::uoffset_t(archive.metadata.size() / 4));
  if (!schema::VerifyArchiveBuffer(verifier))
    return fail(error, INGOT_CORRUPT, "archive: the metadata is not a well-formed FlatBuffer of this schema");
  INGOT_TRY(locate_segments(archive, data, size, error));
  return verify_meaning(archive, error);
}

namespace {

// Creates the archive, lets `fill` provide the bytes, opens it.
template <class Fill>
Code make(const HostModule *host, const ingot_allocator_t *allocator, ingot_archive_t **out, Error *error, Fill fill) {
  const ingot_allocator_t resolved = resolve_allocator(allocator);
  ingot_archive_t *archive = create_object<ingot_archive_t>(resolved, "an archive", error);
  if (!archive) return INGOT_OUT_OF_MEMORY;
  archive->allocator = resolved;
  archive->host = host;
  const uint8_t *data = nullptr;
  uint64_t size = 0;
  Code code = fill(*archive, &data, &size);
  if (code == INGOT_OK) code = open_archive(*archive, data, size, error);
  if (code != INGOT_OK) {
    destroy_object(resolved, archive);
    return code;
  }
  *out = archive;
  return INGOT_OK;
}

Code missing(Error *error, const char *what) { return fail(error, INGOT_INVALID_ARGUMENT, "%s is NULL", what); }

} // namespace

Code map_archive(const HostModule *host, const ingot_allocator_t *allocator, const char *path, ingot_archive_t **out, Error *error) {
  if (!path || !out) return missing(error, path ? "out" : "path");
  const Code code = make(host, allocator, out, error, [&](ingot_archive_t &a, const uint8_t **data, uint64_t *size) {
    INGOT_TRY(platform::map_file(path, &a.mapped, error));
    *data = a.mapped.data;
    *size = a.mapped.size;
    return Code(INGOT_OK);
  });
  if (code == INGOT_CORRUPT || code == INGOT_INCOMPATIBLE) prefix(error, "%.200s", path);
  return code;
}

Code read_archive(const HostModule *host, const ingot_allocator_t *allocator, const char *path, ingot_archive_t **out, Error *error) {
  if (!path || !out) return missing(error, path ? "out" : "path");
  const Code code = make(host, allocator, out, error, [&](ingot_archive_t &a, const uint8_t **data, uint64_t *size) {
    INGOT_TRY(platform::file_size(path, size, error));
    INGOT_TRY(a.copied.create(a.allocator, size_t(*size), "an archive's bytes", error, program::kMaxSegmentAlignment));
    INGOT_TRY(platform::read_file(path, a.copied.data(), size_t(*size), error));
    *data = a.copied.data();
    return Code(INGOT_OK);
  });
  if (code == INGOT_CORRUPT || code == INGOT_INCOMPATIBLE) prefix(error, "%.200s", path);
  return code;
}

Code open_archive_bytes(const HostModule *host, const ingot_allocator_t *allocator, const void *data, size_t size, bool borrow,
                        ingot_archive_t **out, Error *error) {
  if ((!data && size) || !out) return missing(error, out ? "data" : "out");
  return make(host, allocator, out, error, [&](ingot_archive_t &a, const uint8_t **bytes, uint64_t *length) {
    *bytes = static_cast<const uint8_t *>(data);
    *length = size;
    if (borrow && uintptr_t(data) % kAlignment == 0) return Code(INGOT_OK);
    INGOT_TRY(a.copied.create(a.allocator, size, "an archive's bytes", error, program::kMaxSegmentAlignment));
    if (size) memcpy(a.copied.data(), data, size);
    *bytes = a.copied.data();
    return Code(INGOT_OK);
  });
}

} // namespace ingot

extern "C" {

ingot_code_t ingot_archive_map(const ingot_allocator_t *allocator, const char *path, ingot_archive_t **out,
                               ingot_error_t *error) {
  return map_archive(nullptr, allocator, path, out, error);
}

ingot_code_t ingot_archive_read(const ingot_allocator_t *allocator, const char *path, ingot_archive_t **out,
                                ingot_error_t *error) {
  return read_archive(nullptr, allocator, path, out, error);
}

ingot_code_t ingot_archive_open(const ingot_allocator_t *allocator, const void *data, size_t size, bool borrow,
                                ingot_archive_t **out, ingot_error_t *error) {
  return open_archive_bytes(nullptr, allocator, data, size, borrow, out, error);
}

void ingot_archive_release(ingot_archive_t *archive) {
  if (archive && archive->references.release()) destroy_object(archive->allocator, archive);
}

ingot_code_t ingot_archive_check_hashes(const ingot_archive_t *archive, ingot_error_t *error) {
  if (!archive) return missing(error, "archive");
  // Gaps are zero, so that every byte of the file is vouched for.
  uint64_t position = program::kHeaderSize + archive->metadata.size();
  const auto gap = [&](uint64_t end) {
    for (; position < end; ++position)
      if (archive->bytes[position] != 0)
        return fail(error, INGOT_CORRUPT, "archive: byte %llu between two parts is not zero: the file is damaged",
                    (unsigned long long)position);
    return Code(INGOT_OK);
  };
  const auto *table = archive->root()->segments();
  for (uint32_t i = 0; i < count(table); ++i) {
    const schema::Segment *s = table->Get(i);
    INGOT_TRY(gap(archive->data_offset + s->offset()));
    position += s->size();
    if (xxh3(archive->segments[i].data, size_t(s->size())) != s->xxh3())
      return fail(error, INGOT_CORRUPT, "archive: segment %u (%.40s): its checksum does not match: the file is damaged",
                  i, text(s->name()));
  }
  return gap(archive->file_size);
}

} // extern "C"
