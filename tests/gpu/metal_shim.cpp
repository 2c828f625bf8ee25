// MSL on this CPU: the kernels of an archive are compiled as C++ with the stand-in library of tests/gpu/msl into one shared
// object. The invocations of a workgroup are fibers; at a barrier each gives way to the next, and the runner checks that
// all of them stand at the same one. Signed overflow, shifts and indices of threadgroup arrays that C++ leaves undefined
// trap. Options: barriers=off (a test's: barriers do nothing).
#include <dlfcn.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "tests/gpu/shader_driver.h"
#include "tests/sanitizers.h"

namespace ingot::shaders {
namespace {

const char *compiler() {
  const char *named = std::getenv("INGOT_SHIM_CXX");
  return named ? named : "clang++-19";
}

// The sanitizers' traps need no library; `char` is signed in MSL; products and sums are as written.
constexpr const char *kFlags = "-std=c++17 -O1 -fPIC -shared -ffp-contract=off -fno-math-errno -fsigned-char -fvisibility=hidden "
                               "-fsanitize=signed-integer-overflow,shift,integer-divide-by-zero,bounds,float-cast-overflow "
                               "-fsanitize-trap=all -Wall -Wextra -Werror -Wno-unknown-attributes -Wno-unknown-pragmas "
                               "-Wno-unused-parameter -Wno-unused-variable -Wno-unused-but-set-variable -Wno-tautological-compare "
                               "-Wno-bitwise-instead-of-logical";

// ---- fibers

// The first start of a fiber goes through makecontext, every later switch through _longjmp, which makes no system call.
class Fibers {
 public:
  static constexpr uint32_t kMost = 1024;
  static constexpr size_t kStack = 64 << 10;

  ~Fibers() { clear(); }

  // Runs work(user, i) for each i < count, switching at barriers; backwards where `backwards`. "" or what was wrong.
  std::string run(uint32_t count, bool backwards, void (*work)(void *, uint32_t), void *user) {
    if (count > kMost) return std::to_string(count) + " invocations in a workgroup";
    work_ = work;
    user_ = user;
    while (fibers_.size() < count) create();
    for (uint32_t i = 0; i < count; ++i) fibers_[i]->site = kRunning;
    for (;;) {
      for (uint32_t k = 0; k < count; ++k) step(backwards ? count - 1 - k : k);
      const uint32_t site = fibers_[0]->site;
      for (uint32_t i = 1; i < count; ++i)
        if (fibers_[i]->site != site) {
          std::string wrong = "the invocations of a workgroup do not meet at one barrier (" + place(site) + ", " + place(fibers_[i]->site) + ")";
          clear(); // they stand in the middle of their work
          return wrong;
        }
      if (site == kEnded) return "";
    }
  }

  static void barrier(uint32_t line) {
    Fibers &f = *running_;
    Fiber &own = *f.fibers_[f.current_];
    own.site = line;
    if (_setjmp(own.context) == 0) _longjmp(f.home_, 1);
  }

 private:
  static constexpr uint32_t kRunning = 0, kEnded = UINT32_MAX;
  struct Fiber {
    jmp_buf context;
    ucontext_t first;
    void *stack = nullptr;
    uint32_t site = kRunning;
    bool started = false;
  };

  static std::string place(uint32_t site) { return site == kEnded ? "the end" : "line " + std::to_string(site); }

  void clear() {
    for (Fiber *f : fibers_) {
      munmap(f->stack, kStack);
      delete f;
    }
    fibers_.clear();
  }

  void create() {
    Fiber *f = new Fiber;
    f->stack = mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (f->stack == MAP_FAILED) std::abort();
    getcontext(&f->first);
    f->first.uc_stack.ss_sp = f->stack;
    f->first.uc_stack.ss_size = kStack;
    f->first.uc_link = nullptr;
    makecontext(&f->first, &Fibers::live, 0);
    fibers_.push_back(f);
  }

  // A fiber's whole life: one invocation after the other.
  static void live() {
    for (;;) {
      Fibers &f = *running_;
      f.work_(f.user_, f.current_);
      barrier(kEnded);
    }
  }

  void step(uint32_t i) {
    Fiber &f = *fibers_[i];
    current_ = i;
    running_ = this;
    if (_setjmp(home_) != 0) return;
    if (f.started) _longjmp(f.context, 1);
    f.started = true;
    setcontext(&f.first);
  }

  static thread_local Fibers *running_;
  std::vector<Fiber *> fibers_;
  uint32_t current_ = 0;
  jmp_buf home_;
  void (*work_)(void *, uint32_t) = nullptr;
  void *user_ = nullptr;
};
thread_local Fibers *Fibers::running_ = nullptr;

void no_barrier(uint32_t) {}

// ---- text -> shared object

// What the wrapper of a kernel passes for each parameter of its signature, by the parameter's attribute.
std::string arguments(const Kernel &k, std::string *wrong) {
  const std::string head = "kernel void " + k.entry + "(";
  size_t at = k.text.find(head), depth = 0;
  if (at == std::string::npos) return *wrong = "there is no '" + head + "'", "";
  std::string out, parameter;
  for (at += head.size(); at < k.text.size(); ++at) {
    const char c = k.text[at];
    if (depth == 0 && (c == ',' || c == ')')) {
      const size_t open = parameter.find("[["), close = parameter.find("]]");
      if (open == std::string::npos || close == std::string::npos) return *wrong = "parameter without attribute:" + parameter, "";
      const std::string attribute = parameter.substr(open + 2, close - open - 2), declared = parameter.substr(0, open);
      const size_t star = declared.find_first_of("*&");
      out += out.empty() ? "" : ", ";
      if (attribute.rfind("buffer(", 0) == 0 && star != std::string::npos)
        out += std::string(declared[star] == '&' ? "*" : "") + "(" + declared.substr(0, star) + "*)buffers[" +
               attribute.substr(7, attribute.size() - 8) + "]";
      else if (attribute == "threadgroup_position_in_grid")
        out += "uint3(ids[0], ids[1], ids[2])";
      else if (attribute == "thread_position_in_threadgroup")
        out += "uint3(ids[3], ids[4], ids[5])";
      else if (attribute == "threadgroups_per_grid")
        out += "uint3(ids[6], ids[7], ids[8])";
      else
        return *wrong = "parameter with an attribute unknown here:" + parameter, "";
      parameter.clear();
      if (c == ')') return out;
      continue;
    }
    depth += c == '(' || c == '[';
    depth -= c == ')' || c == ']';
    parameter += c;
  }
  return *wrong = "its signature does not end", "";
}

std::string unit_of(size_t number, const Kernel &k, std::string *wrong) {
  const std::string n = std::to_string(number);
  return "#undef INGOT_SHIM_SECTION\n#define INGOT_SHIM_SECTION \"groups_" + n + "\"\nnamespace n" + n + " {\n#include \"" + n +
         ".msl\"\n}\nextern \"C\" {\nextern uchar __start_groups_" + n + "[] __attribute__((weak)), __stop_groups_" + n +
         "[] __attribute__((weak));\n__attribute__((visibility(\"default\"))) void run_" + n +
         "(void *const *buffers, const uint *ids) {\n  using namespace n" + n + ";\n  (void)buffers;\n  n" + n + "::" + k.entry + "(" +
         arguments(k, wrong) + ");\n}\n__attribute__((visibility(\"default\"))) void memory_" + n +
         "(uchar **begin, uchar **end) {\n  *begin = __start_groups_" + n + ";\n  *end = __stop_groups_" + n + ";\n}\n}\n";
}

struct Loaded {
  void (*run)(void *const *buffers, const uint32_t *ids) = nullptr;
  uint8_t *groups_begin = nullptr, *groups_end = nullptr;
  bool barriers = false;
};

std::string run_compiler(const std::filesystem::path &folder) {
  const std::string command = std::string(compiler()) + " " + kFlags + " -I '" INGOT_MSL_FOLDER "' -o '" +
                              (folder / "all.so").string() + "' '" + (folder / "all.cpp").string() + "' 2>&1";
  std::string output;
  FILE *pipe = popen(command.c_str(), "r");
  if (!pipe) return "cannot start " + command;
  char buffer[4096];
  while (size_t count = fread(buffer, 1, sizeof buffer, pipe)) output.append(buffer, count);
  return pclose(pipe) == 0 ? "" : "the MSL does not compile: " + output.substr(0, 600);
}

class MetalShim final : public Backend {
 public:
  explicit MetalShim(bool barriers) : barriers_(barriers) {}
  ~MetalShim() override {
    for (void *library : libraries_) dlclose(library);
  }

  std::string allocate(Memory &memory, bool) override {
    memory.host.assign(memory.size, 0xa5);
    return "";
  }
  std::string write(Memory &memory, uint64_t offset, const void *data, size_t length) override {
    std::memcpy(memory.host.data() + offset, data, length);
    return "";
  }
  std::string read(Memory &memory, uint64_t offset, void *data, size_t length) override {
    std::memcpy(data, memory.host.data() + offset, length);
    return "";
  }
  std::string copy(const Span &target, const Span &source) override {
    std::memcpy(target.memory->host.data() + target.offset, source.memory->host.data() + source.offset, target.length);
    return "";
  }

  std::string load(const std::vector<Kernel> &kernels, uint32_t *first) override {
    char name[] = "/tmp/ingot-msl-XXXXXX";
    if (!mkdtemp(name)) return "no temporary folder";
    std::string wrong = load_from(name, kernels);
    std::filesystem::remove_all(name);
    *first = static_cast<uint32_t>(kernels_.size() - (wrong.empty() ? kernels.size() : 0));
    return wrong;
  }

  std::string dispatch(const Kernel &k, const Dispatch &d) override {
    const Loaded &loaded = kernels_[d.kernel];
    Group group{&loaded, {}, k.local_size, {}};
    for (const Span &span : d.bindings) group.buffers.push_back(span.memory ? span.memory->host.data() + span.offset : nullptr);
    if (!d.params.empty()) group.buffers.push_back(const_cast<uint32_t *>(d.params.data()));
    if (k.errors) group.buffers.push_back(&error_);
    std::copy(d.grid.begin(), d.grid.end(), group.ids + 6);
    const uint32_t count = k.local_size[0] * k.local_size[1] * k.local_size[2];
    uint32_t number = 0;
    for (uint32_t z = 0; z < d.grid[2]; ++z)
      for (uint32_t y = 0; y < d.grid[1]; ++y)
        for (uint32_t x = 0; x < d.grid[0]; ++x, ++number) {
          group.ids[0] = x, group.ids[1] = y, group.ids[2] = z;
          // Threadgroup memory holds nothing at the start: NaNs, here.
          if (loaded.groups_begin) std::memset(loaded.groups_begin, 0xff, size_t(loaded.groups_end - loaded.groups_begin));
          std::string wrong;
          if (loaded.barriers && barriers_)
            wrong = fibers_.run(count, number % 2 != 0, invoke, &group);
          else
            for (uint32_t i = 0; i < count; ++i) invoke(&group, i);
          if (!wrong.empty()) return "kernel '" + k.name + "': " + wrong;
        }
    return "";
  }

  std::string finish(uint32_t *error_word) override {
    *error_word = error_;
    error_ = 0;
    return "";
  }

 private:
  struct Group {
    const Loaded *loaded;
    std::vector<void *> buffers;
    std::array<uint32_t, 3> local_size;
    uint32_t ids[9];
  };

  static void invoke(void *user, uint32_t i) {
    const Group &g = *static_cast<const Group *>(user);
    const uint32_t x = g.local_size[0], y = g.local_size[1];
    const uint32_t ids[9] = {g.ids[0], g.ids[1], g.ids[2], i % x, i / x % y, i / x / y, g.ids[6], g.ids[7], g.ids[8]};
    g.loaded->run(g.buffers.data(), ids);
  }

  std::string load_from(const std::filesystem::path &folder, const std::vector<Kernel> &kernels) {
    std::string unit = "#include <metal_stdlib>\n", wrong;
    for (size_t i = 0; i < kernels.size(); ++i) {
      std::ofstream(folder / (std::to_string(i) + ".msl")) << kernels[i].text;
      unit += unit_of(i, kernels[i], &wrong);
      if (!wrong.empty()) return "kernel '" + kernels[i].name + "': " + wrong;
    }
    std::ofstream(folder / "all.cpp") << unit;
    if (wrong = run_compiler(folder); !wrong.empty()) return wrong;
    void *library = dlopen((folder / "all.so").c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) return dlerror();
    libraries_.push_back(library);
    void *hook = dlsym(library, "ingot_shim_barrier");
    if (!hook) return "the compiled kernels lack the barrier's hook";
    void (*barrier)(uint32_t) = barriers_ ? Fibers::barrier : no_barrier;
    std::memcpy(hook, &barrier, sizeof barrier);
    for (size_t i = 0; i < kernels.size(); ++i) {
      Loaded loaded;
      const std::string n = std::to_string(i);
      void *run = dlsym(library, ("run_" + n).c_str()), *memory = dlsym(library, ("memory_" + n).c_str());
      if (!run || !memory) return "the compiled kernels lack one of their own functions";
      std::memcpy(&loaded.run, &run, sizeof run);
      void (*groups)(uint8_t **, uint8_t **) = nullptr;
      std::memcpy(&groups, &memory, sizeof memory);
      groups(&loaded.groups_begin, &loaded.groups_end);
      loaded.barriers = kernels[i].text.find("threadgroup_barrier(") != std::string::npos;
      kernels_.push_back(loaded);
    }
    return "";
  }

  bool barriers_;
  uint32_t error_ = 0;
  Fibers fibers_;
  std::vector<Loaded> kernels_;
  std::vector<void *> libraries_;
};

} // namespace

std::string metal_shim_missing() {
#if defined(INGOT_ADDRESS_SANITIZER)
  return "metal-shim: its fibers do not go with the address sanitizer";
#endif
  const std::string command = std::string("command -v ") + compiler() + " >/dev/null 2>&1";
  return std::system(command.c_str()) == 0 ? "" : std::string("metal-shim: no ") + compiler() + " (INGOT_SHIM_CXX names another)";
}

std::unique_ptr<Backend> open_metal_shim(const std::string &options, std::string *why) {
  if (*why = metal_shim_missing(); !why->empty()) return nullptr;
  if (!options.empty() && options != "barriers=off") return *why = "metal-shim: unknown option '" + options + "'", nullptr;
  return std::make_unique<MetalShim>(options.empty());
}

} // namespace ingot::shaders
