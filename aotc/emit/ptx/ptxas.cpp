// See ptxas.h.
#include "aotc/emit/ptx/ptxas.h"

#include <algorithm>

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FileUtilities.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/raw_ostream.h"

namespace ingot::aotc::emit {
namespace {

constexpr unsigned kSeconds = 600, kMostMessage = 400;

// A file that is gone when this is.
struct Temporary {
  llvm::SmallString<128> path;
  llvm::FileRemover remover;
  std::error_code make(const char *suffix) {
    if (std::error_code problem = llvm::sys::fs::createTemporaryFile("aotc", suffix, path))
      return problem;
    remover.setFile(path);
    return {};
  }
};

std::string text_of(llvm::StringRef path) {
  auto buffer = llvm::MemoryBuffer::getFile(path);
  return buffer ? (*buffer)->getBuffer().str() : "";
}

} // namespace

std::vector<uint8_t> assemble_ptx(const std::string &ptxas, const std::string &text, const std::string &architecture, std::string *error) {
  auto failed = [&](const std::string &why) {
    *error = "--ptxas: '" + ptxas + "' " + why;
    return std::vector<uint8_t>{};
  };
  auto program = llvm::sys::findProgramByName(ptxas);
  if (!program || !llvm::sys::fs::can_execute(*program))
    return failed("cannot be run: no such program");
  Temporary source, object, said;
  for (auto [file, suffix] : {std::pair(&source, "ptx"), {&object, "cubin"}, {&said, "txt"}})
    if (std::error_code problem = file->make(suffix))
      return failed("needs a temporary file: " + problem.message());
  std::error_code unwritten;
  llvm::raw_fd_ostream out(source.path, unwritten);
  out << text;
  out.close();
  if (unwritten || out.has_error()) {
    out.clear_error();
    return failed("needs a temporary file, which cannot be written");
  }
  const std::string chip = "--gpu-name=" + architecture;
  const llvm::StringRef arguments[] = {*program, chip, "--output-file", object.path, source.path};
  const std::optional<llvm::StringRef> streams[] = {llvm::StringRef(), said.path.str(), said.path.str()};
  std::string problem;
  const int status = llvm::sys::ExecuteAndWait(*program, arguments, std::nullopt, streams, kSeconds, 0, &problem);
  const std::string code = status == 0 ? text_of(object.path) : "";
  if (!code.empty())
    return {code.begin(), code.end()};
  std::string message = problem.empty() ? text_of(said.path).substr(0, kMostMessage) : problem;
  std::replace(message.begin(), message.end(), '\n', ' ');
  return failed("gives " + (status == 0 ? "no code" : "exit status " + std::to_string(status)) + ": " + message);
}

} // namespace ingot::aotc::emit
