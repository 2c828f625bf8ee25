#include "image.h"

#include <elf.h>
#include <sys/mman.h>

#include <cstring>

namespace card {

Image::~Image() {
  if (base_) munmap(base_, size_);
}

const char *Image::load(const void *data, size_t size) {
  const uint8_t *const file = static_cast<const uint8_t *>(data);
  Elf64_Ehdr header;
  if (size < sizeof header) return "its code is no ELF file";
  memcpy(&header, file, sizeof header);
  if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phoff > size ||
      header.e_phnum > (size - header.e_phoff) / sizeof(Elf64_Phdr))
    return "its code is no ELF file";
  const auto part = [&](unsigned i) {
    Elf64_Phdr p;
    memcpy(&p, file + header.e_phoff + i * sizeof p, sizeof p);
    return p;
  };
  size_t end = 0;
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    const Elf64_Phdr p = part(i);
    if (p.p_type != PT_LOAD) continue;
    constexpr uint64_t kMost = uint64_t(1) << 32;
    if (p.p_filesz > p.p_memsz || p.p_offset > size || p.p_filesz > size - p.p_offset || p.p_vaddr > kMost || p.p_memsz > kMost)
      return "its code is malformed";
    if (p.p_vaddr + p.p_memsz > end) end = size_t(p.p_vaddr + p.p_memsz);
  }
  if (end == 0) return "its code is empty";
  void *pages = mmap(nullptr, end, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) return "no pages for its code";
  base_ = static_cast<uint8_t *>(pages);
  size_ = end;
  for (unsigned i = 0; i < header.e_phnum; ++i)
    if (const Elf64_Phdr p = part(i); p.p_type == PT_LOAD && p.p_filesz) memcpy(base_ + p.p_vaddr, file + p.p_offset, p.p_filesz);
  return mprotect(base_, size_, PROT_READ | PROT_EXEC) == 0 ? nullptr : "the system allows no code in pages of this program";
}

} // namespace card
