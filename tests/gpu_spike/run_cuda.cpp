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
struct Expectation {
  size_t buffer = 0;
  std::string type, file;
};
struct Case {
  std::string name, file, entry;
  unsigned local[3] = {1, 1, 1}, grid[3] = {1, 1, 1};
  std::vector<Param> params;
  std::vector<std::string> buffers;
  std::vector<Expectation> expectations;
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
      words >> rest;
      current.buffers.push_back(rest);
    } else if (word == "expect") {
      Expectation expectation;
      words >> expectation.buffer >> expectation.type >> expectation.file;
      current.expectations.push_back(expectation);
    } else if (word == "end") {
      cases.push_back(current);
    } else if (!word.empty()) {
      return false;
    }
  }
  return !cases.empty();
}

// (exponent bits, fraction bits) of a float type; {0, 0} for integers.
struct Layout {
  size_t bytes;
  unsigned exponent, fraction;
};
bool layout_of(const std::string &type, Layout &out) {
  static const struct {
    const char *name;
    Layout layout;
  } kTypes[] = {{"bool", {1, 0, 0}}, {"i8", {1, 0, 0}},  {"i16", {2, 0, 0}},  {"i32", {4, 0, 0}}, {"i64", {8, 0, 0}},
                {"f16", {2, 5, 10}}, {"bf16", {2, 8, 7}}, {"f32", {4, 8, 23}}, {"f64", {8, 11, 52}}};
  for (const auto &row : kTypes)
    if (type == row.name) {
      out = row.layout;
      return true;
    }
  return false;
}

bool is_nan(uint64_t bits, const Layout &layout) {
  uint64_t fraction = bits & ((uint64_t{1} << layout.fraction) - 1);
  uint64_t exponent = bits >> layout.fraction & ((uint64_t{1} << layout.exponent) - 1);
  return layout.exponent && fraction && exponent == (uint64_t{1} << layout.exponent) - 1;
}

// "" or the first element that is not what is expected.
std::string judge(const Expectation &expectation, const std::string &folder, const std::vector<uint8_t> &got) {
  std::string want;
  char text[200];
  if (!read_file(folder + "/" + expectation.file, want))
    return "no expectation in " + expectation.file;
  if (expectation.type == "bound") {
    size_t count = want.size() / 16;
    if (got.size() < count * 4)
      return "the output is too short";
    for (size_t i = 0; i * 4 < got.size(); ++i) {
      uint32_t word;
      float value;
      std::memcpy(&word, &got[i * 4], 4);
      std::memcpy(&value, &word, 4);
      if (i >= count) {
        if (word != kCanary)
          return "wrote past the end of the output";
        continue;
      }
      double pair[2];
      std::memcpy(pair, &want[i * 16], 16);
      if (word == kCanary || !(std::fabs(value - pair[0]) <= pair[1])) {
        std::snprintf(text, sizeof text, "element %zu is %.9g, expected %.9g within %.3g", i, double(value), pair[0], pair[1]);
        return text;
      }
    }
    return "";
  }
  Layout layout;
  if (!layout_of(expectation.type, layout) || got.size() < want.size())
    return "bad expectation " + expectation.file;
  for (size_t i = 0; i * layout.bytes < want.size(); ++i) {
    uint64_t a = 0, b = 0;
    std::memcpy(&a, &got[i * layout.bytes], layout.bytes);
    std::memcpy(&b, &want[i * layout.bytes], layout.bytes);
    if (a == b || (is_nan(a, layout) && is_nan(b, layout)))
      continue;
    std::snprintf(text, sizeof text, "buffer %zu, %s element %zu is 0x%llx, expected 0x%llx", expectation.buffer,
                  expectation.type.c_str(), i, static_cast<unsigned long long>(a), static_cast<unsigned long long>(b));
    return text;
  }
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
  std::vector<std::string> contents;
  for (const std::string &name : c.buffers) {
    std::string bytes;
    if (!read_file(folder + "/" + name, bytes) || bytes.empty())
      return "cannot read " + name;
    uint64_t pointer = 0;
    CHECK(allocate(&pointer, bytes.size()));
    pointers.push_back(pointer);
    contents.push_back(bytes);
  }
  std::vector<Param> params = c.params;
  std::vector<void *> arguments;
  for (uint64_t &pointer : pointers)
    arguments.push_back(&pointer);
  for (Param &param : params)
    arguments.push_back(&param.bits); // little-endian: the low bytes
  for (int round = 0; round < 2; ++round) { // the second one is timed
    for (size_t i = 0; i < pointers.size(); ++i)
      CHECK(upload(pointers[i], contents[i].data(), contents[i].size()));
    CHECK(synchronize());
    auto start = std::chrono::steady_clock::now();
    CHECK(launch(function, c.grid[0], c.grid[1], c.grid[2], c.local[0], c.local[1], c.local[2], 0, nullptr,
                 arguments.data(), nullptr));
    CHECK(synchronize());
    microseconds = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
  }
  std::string problem;
  for (const Expectation &expectation : c.expectations) {
    std::vector<uint8_t> got(contents.at(expectation.buffer).size());
    CHECK(download(got.data(), pointers[expectation.buffer], got.size()));
    if (problem.empty())
      problem = judge(expectation, folder, got);
  }
  for (uint64_t pointer : pointers)
    CHECK(release(pointer));
  CHECK(module_unload(module));
#undef CHECK
  return problem;
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
