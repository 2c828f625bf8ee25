#include "aotc/emit/llvm/native_runner.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "aotc/base/error.h"
#include "schemas/cpu_abi.h"

#include "llvm/BinaryFormat/ELF.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/Triple.h"

namespace ingot::aotc {
namespace {

constexpr uint64_t kPage = 4096;

#if defined(__x86_64__)
using KernelFunction = void(__attribute__((sysv_abi)) *)(const void *);
#else
using KernelFunction = void (*)(const void *);
#endif

} // namespace

std::vector<uint8_t> flatten_image(std::span<const uint8_t> elf, std::string *error) {
  auto refuse = [&](const char *why) {
    if (error)
      *error = std::string("native image: ") + why;
    return std::vector<uint8_t>();
  };
  llvm::ELF::Elf64_Ehdr header;
  if (elf.size() < sizeof header)
    return refuse("it is too short for an ELF header");
  std::memcpy(&header, elf.data(), sizeof header);
  if (std::memcmp(header.e_ident, llvm::ELF::ElfMagic, 4) != 0 || header.e_ident[4] != llvm::ELF::ELFCLASS64)
    return refuse("it is not a 64-bit ELF file");
  if (header.e_phoff > elf.size() || header.e_phnum * sizeof(llvm::ELF::Elf64_Phdr) > elf.size() - header.e_phoff)
    return refuse("its program headers lie outside the file");
  std::vector<llvm::ELF::Elf64_Phdr> segments(header.e_phnum);
  std::memcpy(segments.data(), elf.data() + header.e_phoff, header.e_phnum * sizeof(llvm::ELF::Elf64_Phdr));
  std::vector<uint8_t> image;
  for (const auto &s : segments) {
    if (s.p_type != llvm::ELF::PT_LOAD)
      continue;
    if (s.p_offset > elf.size() || s.p_filesz > elf.size() - s.p_offset || s.p_filesz > s.p_memsz ||
        s.p_vaddr > UINT32_MAX || s.p_memsz > UINT32_MAX)
      return refuse("a segment lies outside the file");
    image.resize(std::max<size_t>(image.size(), s.p_vaddr + s.p_memsz));
    if (s.p_filesz > 0)
      std::memcpy(image.data() + s.p_vaddr, elf.data() + s.p_offset, s.p_filesz);
  }
  if (image.empty())
    return refuse("it loads nothing");
  return image;
}

std::unique_ptr<NativeImage> NativeImage::load(std::span<const uint8_t> elf, std::string *error) {
  std::vector<uint8_t> flat = flatten_image(elf, error);
  if (flat.empty())
    return nullptr;
  std::unique_ptr<NativeImage> image(new NativeImage);
  image->bytes_ = (flat.size() + kPage - 1) / kPage * kPage;
  void *pages = mmap(nullptr, image->bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) {
    if (error)
      *error = "native image: no memory for " + std::to_string(image->bytes_) + " bytes";
    return nullptr;
  }
  image->base_ = static_cast<uint8_t *>(pages);
  std::memcpy(pages, flat.data(), flat.size());
  if (mprotect(pages, image->bytes_, PROT_READ | PROT_EXEC) != 0) {
    if (error)
      *error = "native image: the system does not let its pages be executed";
    return nullptr;
  }
  __builtin___clear_cache(reinterpret_cast<char *>(image->base_),
                          reinterpret_cast<char *>(image->base_ + image->bytes_));
  return image;
}

NativeImage::~NativeImage() {
  if (base_)
    munmap(base_, bytes_);
}

NativeCall::NativeCall(void *function, const NativeArgs &args, uint64_t scratch_bytes)
    : function_(function), scratch_(nullptr, std::free) {
  static_assert(sizeof(IngotCpuArgs) == INGOT_CPU_ARGS_HEADER);
  scratch_.reset(static_cast<uint8_t *>(std::aligned_alloc(64, (scratch_bytes + 127) / 64 * 64)));
  ensure(scratch_ != nullptr, "no memory for kernel scratch");
  IngotCpuArgs header{};
  header.group_begin = args.group_begin;
  header.group_end = args.group_end ? args.group_end : args.grid[0] * args.grid[1] * args.grid[2];
  std::copy(args.grid.begin(), args.grid.end(), header.grid);
  header.scratch = reinterpret_cast<uint64_t>(scratch_.get());
  block_.resize(INGOT_CPU_ARGS_HEADER / 8 + args.bindings.size() + args.params.size());
  std::memcpy(block_.data(), &header, sizeof header);
  size_t at = INGOT_CPU_ARGS_HEADER / 8;
  for (void *p : args.bindings)
    block_[at++] = reinterpret_cast<uint64_t>(p);
  for (int64_t p : args.params)
    block_[at++] = static_cast<uint64_t>(p);
}

uint64_t NativeCall::run() {
  error_ = 0;
  uint64_t address = reinterpret_cast<uint64_t>(&error_);
  std::memcpy(reinterpret_cast<uint8_t *>(block_.data()) + offsetof(IngotCpuArgs, error), &address, 8);
  KernelFunction f;
  std::memcpy(&f, &function_, sizeof f);
  f(block_.data());
  return error_;
}

std::unique_ptr<NativeKernel> NativeKernel::compile(const kernel::Kernel &kernel, const CpuTarget &target,
                                                    std::string *error, unsigned opt_level) {
  if (!runs_here(target, error))
    return nullptr;
  CpuOptions options;
  options.opt_level = opt_level;
  CpuResult result = compile_cpu({{&kernel, kernel.name, record_of(target), target}}, options);
  if (!result.module) {
    if (error)
      *error = result.error;
    return nullptr;
  }
  std::unique_ptr<NativeKernel> native(new NativeKernel);
  native->image_ = NativeImage::load(result.module->elf, error);
  native->symbol_ = result.module->symbols[0];
  return native->image_ ? std::move(native) : nullptr;
}

NativeCall NativeKernel::call(const NativeArgs &args) const {
  return NativeCall(image_->at(symbol_.offset), args, symbol_.scratch_bytes);
}

bool runs_here(const CpuTarget &target, std::string *reason) {
  std::string error;
  auto host = parse_cpu_target("host", &error);
  ensure(host.has_value(), error);
  llvm::Triple here(host->triple), there(target.triple);
  std::string why;
  if (here.getArch() != there.getArch())
    why = "it is a " + here.getArchName().str() + " machine";
  else if (target.feature_mask & ~host->feature_mask)
    why = "it lacks CPU features of the target (mask " +
          std::to_string(target.feature_mask & ~host->feature_mask) + ")";
  if (!why.empty() && reason)
    *reason = "target '" + target.name + "' does not run on this machine: " + why;
  return why.empty();
}

} // namespace ingot::aotc
