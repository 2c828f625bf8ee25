// See elf.h. Structures are read with memcpy from checked offsets; layouts are those of the ELF64 specification.
#include "src/runtime/elf/elf.h"

#include "src/runtime/platform/platform.h"

namespace ingot {
namespace {

struct FileHeader {
  uint8_t ident[16];
  uint16_t type, machine;
  uint32_t version;
  uint64_t entry, program_offset, section_offset;
  uint32_t flags;
  uint16_t header_size, program_size, program_count, section_size, section_count, section_names;
};
struct ProgramHeader {
  uint32_t type, flags;
  uint64_t offset, address, physical, file_size, memory_size, alignment;
};
struct DynamicEntry {
  int64_t tag;
  uint64_t value;
};
static_assert(sizeof(FileHeader) == 64 && sizeof(ProgramHeader) == 56 && sizeof(DynamicEntry) == 16);

constexpr uint32_t kLoad = 1, kDynamic = 2, kInterpreter = 3, kThreadLocal = 7;
constexpr uint32_t kExecute = 1, kWrite = 2;
constexpr uint64_t kMaxImage = uint64_t(1) << 30;
constexpr uint32_t kMaxProgramHeaders = 32;

uint16_t host_machine() {
#if defined(__x86_64__)
  return 62;
#elif defined(__aarch64__)
  return 183;
#elif defined(__riscv)
  return 243;
#else
  return 0;
#endif
}

Code bad(Error *error, const char *what) { return fail(error, INGOT_CORRUPT, "native code: %s", what); }

// The dynamic section may only describe symbols, never ask the loader for something.
Code check_dynamic(const uint8_t *data, const ProgramHeader &p, Error *error) {
  for (uint64_t i = 0; i + sizeof(DynamicEntry) <= p.file_size; i += sizeof(DynamicEntry)) {
    DynamicEntry d;
    memcpy(&d, data + p.offset + i, sizeof d);
    switch (d.tag) {
    case 0: return INGOT_OK;
    case 1: return bad(error, "it needs another library (DT_NEEDED)");
    case 2: case 8: case 18: // DT_PLTRELSZ, DT_RELASZ, DT_RELSZ
    case 35:                 // DT_RELRSZ
      if (d.value != 0) return bad(error, "it has relocations");
      break;
    case 12: case 13: case 25: case 26: case 32: return bad(error, "it has initialisers"); // DT_INIT ... DT_PREINIT_ARRAY
    case 22: return bad(error, "it has relocations in code (DT_TEXTREL)");
    default: break;
    }
  }
  return INGOT_OK;
}

} // namespace

ElfImage::~ElfImage() { platform::release_code(base_, size_t(size_)); }

Code ElfImage::load(const uint8_t *data, uint64_t size, Error *error) {
  FileHeader header;
  if (size < sizeof header) return bad(error, "shorter than an ELF header");
  memcpy(&header, data, sizeof header);
  const uint8_t expected[7] = {0x7f, 'E', 'L', 'F', 2, 1, 1}; // 64-bit, little-endian, version 1
  if (memcmp(header.ident, expected, sizeof expected) != 0) return bad(error, "not a little-endian ELF64 image");
  if (header.type != 3) return bad(error, "not a position-independent image (ET_DYN)");
  if (header.machine != host_machine())
    return fail(error, INGOT_INCOMPATIBLE, "native code: for ELF machine %u, this one is %u", header.machine, host_machine());
  if (header.program_size != sizeof(ProgramHeader) || header.program_count == 0 || header.program_count > kMaxProgramHeaders ||
      !fits(header.program_offset, uint64_t(header.program_count) * sizeof(ProgramHeader), size))
    return bad(error, "its program headers lie outside the image or have the wrong size");

  ProgramHeader parts[kMaxProgramHeaders];
  memcpy(parts, data + header.program_offset, header.program_count * sizeof(ProgramHeader));
  uint64_t end = 0;
  for (uint32_t i = 0; i < header.program_count; ++i) {
    const ProgramHeader &p = parts[i];
    if (p.type == kInterpreter || p.type == kThreadLocal) return bad(error, "it wants an interpreter or thread-local data");
    if (p.type != kLoad && p.type != kDynamic) continue;
    if (!fits(p.offset, p.file_size, size) || p.file_size > p.memory_size || !fits(p.address, p.memory_size, kMaxImage))
      return bad(error, "a segment lies outside the image");
    if (p.type == kDynamic) {
      INGOT_TRY(check_dynamic(data, p, error));
      continue;
    }
    if (p.flags & kWrite) return bad(error, "it has writable data");
    if (p.address + p.memory_size > end) end = p.address + p.memory_size;
    if (p.flags & kExecute) {
      if (code_count_ == kMaxRanges) return bad(error, "more than 8 executable segments");
      code_[code_count_++] = {p.address, p.address + p.file_size};
    }
  }
  if (code_count_ == 0) return bad(error, "it has no executable segment");

  void *base = nullptr;
  const uint64_t page = platform::page_size();
  const uint64_t rounded = align_up(end, page);
  INGOT_TRY(platform::allocate_code(size_t(rounded), &base, error));
  base_ = static_cast<uint8_t *>(base);
  size_ = rounded;
  for (uint32_t i = 0; i < header.program_count; ++i)
    if (parts[i].type == kLoad && parts[i].file_size != 0)
      memcpy(base_ + parts[i].address, data + parts[i].offset, size_t(parts[i].file_size));
  INGOT_TRY(platform::seal_code(base_, 0, size_t(rounded), false, error));
  for (uint32_t i = 0; i < code_count_; ++i)
    if (code_[i].end > code_[i].begin)
      INGOT_TRY(platform::seal_code(base_, size_t(code_[i].begin), size_t(code_[i].end - code_[i].begin), true, error));
  return INGOT_OK;
}

const void *ElfImage::at(uint64_t address) const {
  for (uint32_t i = 0; i < code_count_; ++i)
    if (address >= code_[i].begin && address < code_[i].end) return base_ + address;
  return nullptr;
}

} // namespace ingot
