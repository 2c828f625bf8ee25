// Runs case files (case_files.h) on an NVIDIA GPU and judges them: run_cuda FOLDER
// Self-contained: libcuda through dlopen, no CUDA headers, C++17, nothing of the compiler.
//   g++ -std=c++17 -O2 run_cuda.cpp -ldl -o run_cuda
// The kernel files are PTX, which the driver compiles for the card at hand. Each case is also run timed. Exit status: 0
// all agree, 1 some do not, 2 bad case files, 77 no libcuda or no device.
#include <dlfcn.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

namespace {

constexpr uint32_t kCanary = 0xcafef00d;

// The part of libcuda that is used: X(return value name, exported symbol, parameters).
#define CUDA_FUNCTIONS(X)                                                                                              \
  X(init, "cuInit", (unsigned))                                                                                        \
  X(device_count, "cuDeviceGetCount", (int *))                                                                         \
  X(device_get, "cuDeviceGet", (int *, int))                                                                           \
  X(device_name, "cuDeviceGetName", (char *, int, int))                                                                \
  X(context_create, "cuCtxCreate_v2", (void **, unsigned, int))                                                        \
  X(synchronize, "cuCtxSynchronize", ())                                                                               \
  X(module_load, "cuModuleLoadDataEx", (void **, const void *, unsigned, int *, void **))                              \
  X(module_unload, "cuModuleUnload", (void *))                                                                         \
  X(get_function, "cuModuleGetFunction", (void **, void *, const char *))                                              \
  X(allocate, "cuMemAlloc_v2", (uint64_t *, size_t))                                                                   \
  X(release, "cuMemFree_v2", (uint64_t))                                                                               \
  X(upload, "cuMemcpyHtoD_v2", (uint64_t, const void *, size_t))                                                       \
  X(download, "cuMemcpyDtoH_v2", (void *, uint64_t, size_t))                                                           \
  X(error_name, "cuGetErrorName", (int, const char **))                                                                \
  X(launch, "cuLaunchKernel",                                                                                          \
    (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **))

struct Cuda {
#define DECLARE(name, symbol, parameters) int(*name) parameters = nullptr;
  CUDA_FUNCTIONS(DECLARE)
#undef DECLARE
  bool load() {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    if (!library)
      return false;
    bool all = true;
#define LOAD(name, symbol, parameters)                                                                                 \
  name = reinterpret_cast<int(*) parameters>(dlsym(library, symbol));                                                  \
  all = all && name;
    CUDA_FUNCTIONS(LOAD)
#undef LOAD
    return all;
  }
  std::string error(int code) const {
    const char *text = "unknown error";
    error_name(code, &text);
    return text;
  }
};

struct Param {
  int bytes = 4;
  uint64_t bits = 0;
};
struct Case {
  std::string name, file, entry, expect;
  unsigned local[3] = {1, 1, 1}, grid[3] = {1, 1, 1};
  std::vector<Param> params;
  std::vector<std::string> buffers;
  size_t output = 0;
};

bool read_file(const std::string &path, std::string &out) {
  std::ifstream file(path, std::ios::binary);
  out.assign(std::istreambuf_iterator<char>(file), {});
  return file.good() || file.eof();
}

bool parse(const std::string &text, std::vector<Case> &cases) {
  std::istringstream lines(text);
  std::string line;
  Case current;
  while (std::getline(lines, line)) {
    std::istringstream words(line);
    std::string word, rest;
    words >> word;
    if (word == "case") {
      current = Case();
      words >> current.name;
    } else if (word == "kernel") {
      words >> current.file >> current.entry;
    } else if (word == "local") {
      words >> current.local[0] >> current.local[1] >> current.local[2];
    } else if (word == "grid") {
      words >> current.grid[0] >> current.grid[1] >> current.grid[2];
    } else if (word == "param") {
      Param param;
      words >> param.bytes >> std::hex >> param.bits;
      current.params.push_back(param);
    } else if (word == "buffer") {
      words >> rest >> line;
      current.buffers.push_back(line);
    } else if (word == "expect") {
      words >> current.output >> current.expect;
    } else if (word == "end") {
      cases.push_back(current);
    } else if (word != "result" && !word.empty()) {
      return false;
    }
  }
  return !cases.empty();
}

std::string judge(const Case &c, const std::string &folder, const std::vector<uint32_t> &words) {
  std::string pairs;
  if (!read_file(folder + "/" + c.expect, pairs) || pairs.size() % 16 != 0)
    return "no expectation in " + c.expect;
  size_t count = pairs.size() / 16;
  if (words.size() < count)
    return "the output is too short";
  for (size_t i = 0; i < count; ++i) {
    double pair[2];
    std::memcpy(pair, &pairs[i * 16], 16);
    float got;
    std::memcpy(&got, &words[i], 4);
    if (words[i] == kCanary || !(std::fabs(got - pair[0]) <= pair[1])) {
      char text[160];
      std::snprintf(text, sizeof text, "element %zu is %.9g, expected %.9g within %.3g", i, double(got), pair[0], pair[1]);
      return text;
    }
  }
  for (size_t i = count; i < words.size(); ++i)
    if (words[i] != kCanary)
      return "wrote past the end of the output";
  return "";
}

std::string run(const Cuda &cuda, const Case &c, const std::string &folder, double &microseconds) {
#define CHECK(call)                                                                                                    \
  if (int code = cuda.call; code != 0)                                                                                 \
  return std::string(#call) + ": " + cuda.error(code)
  std::string source;
  if (!read_file(folder + "/" + c.file, source) || source.empty())
    return "cannot read " + c.file;
  void *module = nullptr, *function = nullptr;
  CHECK(module_load(&module, source.c_str(), 0, nullptr, nullptr));
  CHECK(get_function(&function, module, c.entry.c_str()));
  std::vector<uint64_t> pointers;
  std::vector<uint32_t> words;
  for (const std::string &name : c.buffers) {
    std::string bytes;
    if (!read_file(folder + "/" + name, bytes) || bytes.empty())
      return "cannot read " + name;
    uint64_t pointer = 0;
    CHECK(allocate(&pointer, bytes.size()));
    CHECK(upload(pointer, bytes.data(), bytes.size()));
    if (pointers.size() == c.output)
      words.resize(bytes.size() / 4);
    pointers.push_back(pointer);
  }
  std::vector<Param> params = c.params;
  std::vector<void *> arguments;
  for (uint64_t &pointer : pointers)
    arguments.push_back(&pointer);
  for (Param &param : params)
    arguments.push_back(&param.bits); // little-endian: the low bytes
  for (int round = 0; round < 2; ++round) { // the second one is timed
    CHECK(synchronize());
    auto start = std::chrono::steady_clock::now();
    CHECK(launch(function, c.grid[0], c.grid[1], c.grid[2], c.local[0], c.local[1], c.local[2], 0, nullptr,
                 arguments.data(), nullptr));
    CHECK(synchronize());
    microseconds = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
  }
  CHECK(download(words.data(), pointers.at(c.output), words.size() * 4));
  for (uint64_t pointer : pointers)
    CHECK(release(pointer));
  CHECK(module_unload(module));
#undef CHECK
  return judge(c, folder, words);
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: run_cuda FOLDER\n");
    return 2;
  }
  std::string folder = argv[1], text;
  std::vector<Case> cases;
  if (!read_file(folder + "/cases.txt", text) || !parse(text, cases)) {
    std::fprintf(stderr, "run_cuda: no cases in %s/cases.txt\n", argv[1]);
    return 2;
  }
  Cuda cuda;
  int count = 0, device = 0;
  if (!cuda.load() || cuda.init(0) != 0 || cuda.device_count(&count) != 0 || count == 0) {
    std::printf("skip: no libcuda, or no device\n");
    return 77;
  }
  char name[256] = "";
  void *context = nullptr;
  if (cuda.device_get(&device, 0) != 0 || cuda.device_name(name, sizeof name, device) != 0 ||
      cuda.context_create(&context, 0, device) != 0) {
    std::fprintf(stderr, "run_cuda: cannot open device 0\n");
    return 1;
  }
  std::printf("device %s\n", name);
  int failed = 0;
  for (const Case &c : cases) {
    double microseconds = 0;
    std::string problem = run(cuda, c, folder, microseconds);
    failed += !problem.empty();
    std::printf("%s %s%s%s (%.1f us with launch)\n", problem.empty() ? "ok" : "not ok", c.name.c_str(),
                problem.empty() ? "" : ": ", problem.c_str(), microseconds);
  }
  std::printf("%zu cases, %d failed\n", cases.size(), failed);
  return failed ? 1 : 0;
}
