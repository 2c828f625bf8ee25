// See ptxas.h.
#include "aotc/emit/ptx/ptxas.h"

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
  auto program = llvm::sys::findProgramByName(ptxas);
  if (!program || !llvm::sys::fs::can_execute(*program))
    return *error = "--ptxas: '" + ptxas + "' cannot be run: no such program", std::vector<uint8_t>{};
  Temporary source, object, said;
  for (auto [file, suffix] : {std::pair(&source, "ptx"), {&object, "cubin"}, {&said, "txt"}})
    if (std::error_code problem = file->make(suffix))
      return *error = "a temporary file: " + problem.message(), std::vector<uint8_t>{};
  {
    std::error_code problem;
    llvm::raw_fd_ostream out(source.path, problem);
    out << text;
    out.close();
    if (problem || out.has_error()) {
      out.clear_error();
      return *error = "a temporary file cannot be written", std::vector<uint8_t>{};
    }
  }
  const std::string chip = "--gpu-name=" + architecture;
  const llvm::StringRef arguments[] = {*program, chip, "--output-file", object.path, source.path};
  const std::optional<llvm::StringRef> streams[] = {llvm::StringRef(), said.path.str(), said.path.str()};
  std::string problem;
  const int status = llvm::sys::ExecuteAndWait(*program, arguments, std::nullopt, streams, kSeconds, 0, &problem);
  std::string code = status == 0 ? text_of(object.path) : "";
  if (code.empty()) {
    std::string message = problem.empty() ? text_of(said.path).substr(0, kMostMessage) : problem;
    for (char &c : message)
      c = c == '\n' ? ' ' : c;
    return *error = "--ptxas: '" + ptxas + "' gives " + (status == 0 ? "no code" : "exit status " + std::to_string(status)) + ": " + message,
           std::vector<uint8_t>{};
  }
  return {code.begin(), code.end()};
}

} // namespace ingot::aotc::emit
