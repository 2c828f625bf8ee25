// Runs one archive on one context at many sizes, one after the other: tests/models/dynamic.py and benchmarks/dynamic.py.
//
//   run_sizes ARCHIVE DEVICE [--runs=N] [--own-allocator] ([ENTRY@]FOLDER | save:FILE | load:FILE)...
//
// ENTRY names the function, otherwise it is the first. A folder holds in0.npy, in1.npy, ... in the order of the inputs;
// out0.npy, ... are written beside them. Prints a line of JSON a folder: milliseconds of the first run and, of N more, all;
// allocations of the first run and of those after it together (0 with --own-allocator, the library's own, as applications
// have it); bytes of the arenas then. `save` and `load` write the
// context's states to a file, and read them from it.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

#include "tools/ingot/failure.h"
#include "tools/ingot/model.h"
#include "tools/ingot/npy.h"

namespace {

using namespace ingot;
using namespace ingot::tool;

struct Meter {
  std::atomic<uint64_t> calls{0};
  static void *allocate(void *user, size_t size, size_t alignment) {
    ++static_cast<Meter *>(user)->calls;
    void *memory = nullptr;
    return posix_memalign(&memory, alignment < sizeof(void *) ? sizeof(void *) : alignment, size) == 0 ? memory : nullptr;
  }
  static void release(void *, void *memory, size_t, size_t) { std::free(memory); }
};

double now_ms() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void run_folder(const Archive &archive, const Session &session, Context &context, Meter &meter, const std::string &argument, int runs) {
  const size_t mark = argument.find('@');
  const std::string entry = mark == std::string::npos ? "" : argument.substr(0, mark), folder = argument.substr(mark == std::string::npos ? 0 : mark + 1);
  const uint32_t function = entry.empty() ? 0 : find_function(archive, entry, entry);
  const std::vector<Signature> signature = inputs_of(archive, function);
  std::vector<HostTensor> inputs;
  for (size_t i = 0; i < signature.size(); ++i) {
    const std::string path = folder + "/in" + std::to_string(i) + ".npy";
    inputs.push_back(to_tensor(read_npy(path), signature[i].type.type, path));
  }
  const std::vector<Tensor> given = views_of(inputs);
  Outputs outputs = make_outputs(session, function, signature, inputs, outputs_of(archive, function).size());
  const std::vector<Tensor> fresh = outputs.views; // dims that depend on data are free again before each run
  std::string times;
  uint64_t first_calls = 0, calls = meter.calls;
  for (int i = 0; i <= runs; ++i) {
    outputs.views = fresh;
    const double start = now_ms();
    check(context.run({given.data(), given.size()}, {outputs.views.data(), outputs.views.size()}, nullptr, function), folder);
    times += (i ? i > 1 ? ", " : ", \"ms\": [" : "{\"first_ms\": ") + std::to_string(now_ms() - start);
    if (i == 0) first_calls = meter.calls - calls, calls = meter.calls;
  }
  if (runs) times += "]";
  ingot_memory_info_t memory = {};
  ingot_context_memory(context.get(), &memory);
  std::printf("%s, \"first_allocations\": %llu, \"allocations\": %llu, \"arena_bytes\": %llu}\n", times.c_str(), (unsigned long long)first_calls,
              (unsigned long long)(meter.calls - calls), (unsigned long long)memory.arena_bytes);
  std::fflush(stdout);
  outputs.take_dims();
  for (size_t i = 0; i < outputs.tensors.size(); ++i) write_npy(folder + "/out" + std::to_string(i) + ".npy", outputs.tensors[i]);
}

void save(Context &context, const std::string &path) {
  std::vector<uint8_t> bytes(size_t(context.memory().state_bytes));
  check(context.read_state(bytes), path);
  const void *part = bytes.data();
  const size_t size = bytes.size();
  write_file(path, &part, &size, 1);
}

void load(Context &context, const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes((std::istreambuf_iterator<char>(file)), {});
  check(context.write_state({reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size()}), path);
}

int run(int argc, char **argv) {
  int runs = 1, at = 3;
  bool counts = true;
  for (; at < argc && std::strncmp(argv[at], "--", 2) == 0; ++at)
    if (std::strncmp(argv[at], "--runs=", 7) == 0) runs = std::atoi(argv[at] + 7);
    else if (std::strcmp(argv[at], "--own-allocator") == 0) counts = false;
    else runs = -1;
  if (argc <= at || runs < 0) {
    std::fprintf(stderr, "usage: run_sizes ARCHIVE DEVICE [--runs=N] [--own-allocator] FOLDER...\n");
    return 2;
  }
  Meter meter;
  const ingot_allocator_t allocator = {&meter, Meter::allocate, Meter::release};
  const Archive archive = open_archive(argv[1], counts ? &allocator : nullptr);
  const Instance instance(counts ? allocator : ingot_allocator_t{});
  const Device device = open_device(instance, archive, argv[2]);
  auto session = device.prepare(archive);
  if (!session) check(session.status(), argv[1]);
  auto context = session->context();
  if (!context) check(context.status(), argv[1]);
  for (; at < argc; ++at)
    if (std::strncmp(argv[at], "save:", 5) == 0) save(*context, argv[at] + 5);
    else if (std::strncmp(argv[at], "load:", 5) == 0) load(*context, argv[at] + 5);
    else run_folder(archive, *session, *context, meter, argv[at], runs);
  return 0;
}

} // namespace

int main(int argc, char **argv) {
  try {
    return run(argc, argv);
  } catch (const Failure &failure) {
    std::fprintf(stderr, "run_sizes: %s\n", failure.what());
    return failure.status;
  }
}
