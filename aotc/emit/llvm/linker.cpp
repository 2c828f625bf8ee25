#include "aotc/emit/llvm/linker.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "aotc/base/error.h"

#include "lld/Common/Driver.h"
#include "llvm/Object/ELF.h"
#include "llvm/Support/raw_ostream.h"

LLD_HAS_DRIVER(elf)

namespace ingot::aotc {
namespace {

namespace fs = std::filesystem;

// A private folder for lld's input and output, gone with the object.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (fs::temp_directory_path() / "aotc-XXXXXX").string();
    if (mkdtemp(pattern.data()))
      path_ = pattern;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    if (!path_.empty())
      fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder &) = delete;
  TemporaryFolder &operator=(const TemporaryFolder &) = delete;
  const fs::path &path() const { return path_; }

 private:
  fs::path path_;
};

bool write_file(const fs::path &path, const std::vector<uint8_t> &bytes) {
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char *>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return static_cast<bool>(out.flush());
}

bool read_file(const fs::path &path, std::vector<uint8_t> &bytes) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in)
    return false;
  bytes.resize(static_cast<size_t>(in.tellg()));
  in.seekg(0);
  in.read(reinterpret_cast<char *>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return static_cast<bool>(in);
}

// lld's messages without the path of the temporary folder.
std::string without(std::string text, const std::string &what) {
  for (size_t at; !what.empty() && (at = text.find(what)) != std::string::npos;)
    text.erase(at, what.size());
  while (!text.empty() && text.back() == '\n')
    text.pop_back();
  return text;
}

template <class T> T expect(llvm::Expected<T> value, std::string &error) {
  if (value)
    return *value;
  error = llvm::toString(value.takeError());
  return T{};
}

// Reads the symbols, checks what the image promises, and cuts off what is not loaded.
template <class ELFT> void finish_image(LinkedImage &image) {
  using File = llvm::object::ELFFile<ELFT>;
  llvm::StringRef bytes(reinterpret_cast<const char *>(image.elf.data()), image.elf.size());
  auto opened = File::create(bytes);
  if (!opened) {
    image.error = llvm::toString(opened.takeError());
    return;
  }
  const File &file = *opened;
  std::string &error = image.error;
  uint64_t loaded_end = 0;
  for (const auto &header : expect(file.program_headers(), error)) {
    if (header.p_type == llvm::ELF::PT_DYNAMIC || header.p_type == llvm::ELF::PT_GNU_STACK) {
      if (header.p_type == llvm::ELF::PT_GNU_STACK && (header.p_flags & llvm::ELF::PF_X))
        error = "the image asks for an executable stack";
      continue;
    }
    if (header.p_type != llvm::ELF::PT_LOAD)
      continue;
    if (header.p_flags & llvm::ELF::PF_W)
      error = "the image has writable data";
    if (header.p_memsz != header.p_filesz)
      error = "the image has uninitialised data";
    loaded_end = std::max<uint64_t>(loaded_end, header.p_offset + header.p_filesz);
  }
  for (const auto &section : expect(file.sections(), error)) {
    bool relocations = section.sh_type == llvm::ELF::SHT_REL || section.sh_type == llvm::ELF::SHT_RELA ||
                       section.sh_type == llvm::ELF::SHT_RELR;
    if (relocations && (section.sh_flags & llvm::ELF::SHF_ALLOC) && section.sh_size > 0)
      error = "the image has dynamic relocations";
    if (section.sh_type == llvm::ELF::SHT_DYNSYM) // entry 0 is always there
      for (const auto &symbol : expect(file.symbols(&section), error).drop_front())
        if (symbol.st_shndx == llvm::ELF::SHN_UNDEF)
          error = "the image imports '" +
                  expect(symbol.getName(expect(file.getStringTableForSymtab(section), error)), error).str() +
                  "'";
    if (section.sh_type != llvm::ELF::SHT_SYMTAB)
      continue;
    llvm::StringRef names = expect(file.getStringTableForSymtab(section), error);
    for (const auto &symbol : expect(file.symbols(&section), error))
      if (symbol.getType() == llvm::ELF::STT_FUNC && symbol.st_shndx != llvm::ELF::SHN_UNDEF)
        // Bit 0 of a Thumb function's address marks its instruction set and stays.
        image.symbols.push_back({expect(symbol.getName(names), error).str(), symbol.st_value, symbol.st_size});
  }
  if (!error.empty())
    return;
  std::sort(image.symbols.begin(), image.symbols.end(),
            [](const LinkedSymbol &a, const LinkedSymbol &b) { return a.name < b.name; });
  typename ELFT::Ehdr header;
  std::memcpy(&header, image.elf.data(), sizeof header);
  header.e_shoff = 0;
  header.e_shnum = 0;
  header.e_shstrndx = 0;
  std::memcpy(image.elf.data(), &header, sizeof header);
  image.elf.resize(loaded_end);
}

} // namespace

std::shared_mutex &llvm_global_state() {
  static std::shared_mutex mutex;
  return mutex;
}

namespace {

// Runs lld with these flags; the linked file, or an error, goes to *image.
void link_file(const std::vector<std::string> &flags, const std::vector<std::vector<uint8_t>> &objects, LinkedImage *image) {
  std::unique_lock lock(llvm_global_state());
  static bool usable = true; // lld says so after each run
  if (!usable) {
    image->error = "the linker failed earlier in this process and cannot run again";
    return;
  }
  TemporaryFolder folder;
  if (folder.path().empty()) {
    image->error = "cannot create a temporary folder in " + fs::temp_directory_path().string() +
                   "; set TMPDIR to a writable folder";
    return;
  }
  std::string output = (folder.path() / "image").string();
  std::vector<std::string> args = flags;
  args.insert(args.end(), {"--threads=1", "--error-limit=0", "-o", output});
  for (size_t k = 0; k < objects.size(); k++) {
    fs::path path = folder.path() / (std::to_string(k) + ".o");
    if (!write_file(path, objects[k])) {
      image->error = "cannot write " + path.string() + "; is the disk full?";
      return;
    }
    args.push_back(path.string());
  }
  std::vector<const char *> argv;
  for (const std::string &a : args)
    argv.push_back(a.c_str());
  std::string messages;
  llvm::raw_string_ostream stream(messages);
  lld::Result result = lld::lldMain(argv, stream, stream, {{lld::Gnu, &lld::elf::link}});
  stream.flush();
  usable = result.canRunAgain;
  if (result.retCode != 0)
    image->error = without(messages, folder.path().string() + "/");
  else if (!read_file(output, image->elf) || image->elf.size() < 16)
    image->error = "cannot read the linked image back from " + folder.path().string();
}

} // namespace

LinkedImage link_image(const std::vector<std::vector<uint8_t>> &objects) {
  LinkedImage image;
  ensure(!objects.empty(), "link_image without objects");
  link_file({"ld.lld", "-shared", "-nostdlib", "-Bsymbolic", "--no-undefined", "--build-id=none", "--hash-style=sysv",
             "--no-rosegment", "--no-eh-frame-hdr", "-O1", "-znoexecstack", "-znorelro", "-zrodynamic", "-zmax-page-size=4096",
             "-znoseparate-code", "--orphan-handling=place", "-ztext"},
            objects, &image);
  if (!image.error.empty())
    return image;
  if (image.elf[4] == llvm::ELF::ELFCLASS64)
    finish_image<llvm::object::ELF64LE>(image);
  else
    finish_image<llvm::object::ELF32LE>(image);
  return image;
}

LinkedImage link_code_object(const std::vector<uint8_t> &object) {
  LinkedImage image;
  link_file({"ld.lld", "-shared", "--no-undefined", "--build-id=none", "-O1"}, {object}, &image);
  return image;
}

} // namespace ingot::aotc
