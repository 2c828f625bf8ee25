// WGSL in Dawn: a child process, node with the npm package webgpu over SwiftShader, does what dawn_server.mjs reads from its
// standard input, a socket. Memory for the host's copies is the host's; everything else is the child's.
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "tests/gpu/shader_driver.h"

namespace ingot::shaders {
namespace {

std::string setting(const char *variable, const char *otherwise) {
  const char *value = std::getenv(variable);
  return value ? value : otherwise;
}
std::string node() { return setting("INGOT_NODE", "/usr/bin/node"); }
std::string package() { return setting("INGOT_WEBGPU_PACKAGE", INGOT_WEBGPU_FOLDER); }
std::string icd() { return setting("INGOT_SWIFTSHADER_ICD", "/usr/lib/chromium/vk_swiftshader_icd.json"); }

class Dawn final : public Backend {
 public:
  ~Dawn() override {
    if (socket_ >= 0) close(socket_);
    if (child_ > 0) waitpid(child_, nullptr, 0);
  }

  std::string start() {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return "dawn: no socket";
    child_ = fork();
    if (child_ < 0) return "dawn: no child process";
    if (child_ == 0) {
      dup2(pair[1], 0);
      dup2(2, 1); // Dawn may print messages; answers go to the socket
      setenv("VK_ICD_FILENAMES", icd().c_str(), 1);
      setenv("VK_DRIVER_FILES", icd().c_str(), 1);
      setenv("XDG_RUNTIME_DIR", "/tmp", 0); // the loader complains without
      execl(node().c_str(), node().c_str(), INGOT_DAWN_SERVER, package().c_str(), static_cast<char *>(nullptr));
      _exit(127);
    }
    close(pair[1]);
    socket_ = pair[0];
    return sync();
  }

  std::string allocate(Memory &memory, bool on_device) override {
    if (!on_device) {
      memory.host.assign(memory.size, 0xa5);
      return "";
    }
    memory.id = next_id_++;
    return say("buffer " + std::to_string(memory.id) + " " + std::to_string(memory.size));
  }
  void release(Memory &memory) override {
    if (memory.host.empty()) say("release " + std::to_string(memory.id));
  }

  // The device takes whole words: the ends of a range that has others are read first.
  std::string write(Memory &memory, uint64_t offset, const void *data, size_t length) override {
    if (!memory.host.empty()) {
      std::memcpy(memory.host.data() + offset, data, length);
      return "";
    }
    const uint64_t first = offset / 4 * 4, end = (offset + length + 3) / 4 * 4;
    std::vector<uint8_t> words(end - first);
    if (first != offset || end != offset + length)
      if (std::string wrong = read_words(memory, first, words); !wrong.empty()) return wrong;
    std::memcpy(words.data() + (offset - first), data, length);
    return say("write " + std::to_string(memory.id) + " " + std::to_string(first), words.data(), words.size());
  }
  std::string read(Memory &memory, uint64_t offset, void *data, size_t length) override {
    if (!memory.host.empty()) {
      std::memcpy(data, memory.host.data() + offset, length);
      return "";
    }
    const uint64_t first = offset / 4 * 4, end = (offset + length + 3) / 4 * 4;
    std::vector<uint8_t> words(end - first);
    if (std::string wrong = read_words(memory, first, words); !wrong.empty()) return wrong;
    std::memcpy(data, words.data() + (offset - first), length);
    return "";
  }
  std::string copy(const Span &target, const Span &source) override {
    if (target.memory->host.empty() && source.memory->host.empty() && (target.offset | source.offset | target.length) % 4 == 0)
      return say("copy " + std::to_string(target.memory->id) + " " + std::to_string(target.offset) + " " +
                 std::to_string(source.memory->id) + " " + std::to_string(source.offset) + " " + std::to_string(target.length));
    std::vector<uint8_t> bytes(target.length);
    if (std::string wrong = read(*source.memory, source.offset, bytes.data(), bytes.size()); !wrong.empty()) return wrong;
    return write(*target.memory, target.offset, bytes.data(), bytes.size());
  }

  std::string load(const std::vector<Kernel> &kernels, uint32_t *first) override {
    *first = next_kernel_;
    for (const Kernel &k : kernels)
      if (std::string wrong = say("module " + std::to_string(next_kernel_++) + " " + k.entry + (k.errors ? " 1" : " 0"), k.text.data(),
                                k.text.size());
          !wrong.empty())
        return wrong;
    return sync();
  }

  std::string dispatch(const Kernel &k, const Dispatch &d) override {
    std::string head = "dispatch " + std::to_string(d.kernel);
    for (uint32_t size : d.grid) head += " " + std::to_string(size);
    for (size_t i = 0; i < d.bindings.size(); ++i) {
      const Span &b = d.bindings[i];
      head += " " + std::to_string(b.memory ? b.memory->id : 0) + " " + std::to_string(b.offset) + " " +
              std::to_string((b.length + 3) / 4 * 4) + " " + std::to_string(k.access[i]);
    }
    return say(head, d.params.data(), 4 * d.params.size());
  }

  std::string finish(uint32_t *error_word) override {
    std::vector<uint8_t> word(4);
    Memory errors;
    if (std::string wrong = read_words(errors, 0, word); !wrong.empty()) return wrong; // buffer 0: the error word
    std::memcpy(error_word, word.data(), 4);
    return say("write 0 0", "\0\0\0\0", 4);
  }

 private:
  std::string sync() {
    std::vector<uint8_t> none;
    std::string wrong = say("sync");
    return wrong.empty() ? answer(none) : wrong;
  }
  std::string read_words(const Memory &memory, uint64_t offset, std::vector<uint8_t> &words) {
    std::string wrong = say("read " + std::to_string(memory.id) + " " + std::to_string(offset) + " " + std::to_string(words.size()));
    return wrong.empty() ? answer(words) : wrong;
  }

  // One message: a line of words, the number of bytes that follow last, and these bytes.
  std::string say(const std::string &words, const void *data = nullptr, size_t length = 0) {
    const std::string head = words + " " + std::to_string(length) + "\n";
    std::string wrong = put(head.data(), head.size());
    return wrong.empty() ? put(data, length) : wrong;
  }
  // "ok LENGTH\n" and so many bytes, or "failed LENGTH\n" and a message.
  std::string answer(std::vector<uint8_t> &out) {
    std::string line;
    for (char c; line.empty() || line.back() != '\n'; line += c)
      if (std::string wrong = get(&c, 1); !wrong.empty()) return wrong;
    const size_t length = std::strtoul(line.c_str() + line.find(' '), nullptr, 10);
    if (line.rfind("ok ", 0) == 0 && length == out.size()) return get(out.data(), length);
    std::string message(length, ' ');
    if (std::string wrong = get(message.data(), length); !wrong.empty()) return wrong;
    return "dawn: " + message;
  }

  std::string put(const void *data, size_t length) {
    for (size_t done = 0; done < length;) {
      const ssize_t count = send(socket_, static_cast<const char *>(data) + done, length - done, MSG_NOSIGNAL);
      if (count <= 0) return "dawn: the child process has ended";
      done += static_cast<size_t>(count);
    }
    return "";
  }
  std::string get(void *data, size_t length) {
    for (size_t done = 0; done < length;) {
      const ssize_t count = recv(socket_, static_cast<char *>(data) + done, length - done, 0);
      if (count <= 0) return "dawn: the child process has ended";
      done += static_cast<size_t>(count);
    }
    return "";
  }

  int socket_ = -1;
  pid_t child_ = -1;
  uint32_t next_id_ = 1, next_kernel_ = 0;
};

} // namespace

std::string dawn_missing() {
  if (access(node().c_str(), X_OK) != 0) return "dawn: no node at " + node() + " (INGOT_NODE)";
  if (access(package().c_str(), R_OK) != 0) return "dawn: no npm package webgpu at " + package() + " (INGOT_WEBGPU_PACKAGE)";
  if (access(icd().c_str(), R_OK) != 0) return "dawn: no SwiftShader at " + icd() + " (Debian's chromium; INGOT_SWIFTSHADER_ICD)";
  return "";
}

std::unique_ptr<Backend> open_dawn(const std::string &options, std::string *why) {
  if (*why = dawn_missing(); !why->empty()) return nullptr;
  if (!options.empty()) return *why = "dawn: unknown option '" + options + "'", nullptr;
  auto dawn = std::make_unique<Dawn>();
  if (*why = dawn->start(); !why->empty()) return nullptr;
  return dawn;
}

} // namespace ingot::shaders
