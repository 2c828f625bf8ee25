// What is the driver cuda's alone: graphs, kept code, objects of the application's, memory that runs out inside the library.
// On the mock of tests/mock the library's calls are counted, and made to fail; on a real GPU those parts are left out.
#include <dlfcn.h>
#include <stdlib.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include <ingot/cuda.h>

#include "tests/conformance/lines.h"
#include "tests/conformance/programs.h"
#include "tests/conformance/suite.h"

namespace conformance {
namespace {

constexpr ingot_element_type_t kI32Type = INGOT_ELEMENT_TYPE_I32;
namespace fs = std::filesystem;

// The library that the driver opened: functions by name, as the application has them.
struct Library {
  Library() : handle(dlopen("libcuda.so.1", RTLD_NOW)) {
    EXPECT(handle);
    fail_at = reinterpret_cast<void (*)(int)>(dlsym(handle, "mock_cuda_fail_at"));
    count = reinterpret_cast<uint64_t (*)(const char *)>(dlsym(handle, "mock_cuda_calls"));
    EQUAL(call("cuInit", 0u), 0);
  }
  bool mocked() const { return count != nullptr; }
  uint64_t calls(const char *name) const { return mocked() ? count(name) : 0; }
  template <class... A> int call(const char *name, A... arguments) const {
    auto *function = reinterpret_cast<int (*)(A...)>(dlsym(handle, name));
    if (!function) failed(__FILE__, __LINE__, std::string("no ") + name);
    return function(arguments...);
  }
  void *handle = nullptr;
  void (*fail_at)(int) = nullptr;
  uint64_t (*count)(const char *) = nullptr;
};

// The application: a primary context of its own retaining, a stream, memory.
struct App {
  App() {
    EQUAL(library.call("cuDevicePrimaryCtxRetain", &context, 0), 0);
    EQUAL(library.call("cuCtxPushCurrent_v2", context), 0);
    EQUAL(library.call("cuStreamCreate", &stream, 1u), 0);
    for (uint64_t &m : memory) EQUAL(library.call("cuMemAlloc_v2", &m, size_t(256)), 0);
  }
  ~App() {
    for (uint64_t m : memory) library.call("cuMemFree_v2", m);
    library.call("cuStreamDestroy_v2", stream);
    void *was = nullptr;
    library.call("cuCtxPopCurrent_v2", &was);
    library.call("cuDevicePrimaryCtxRelease_v2", 0);
  }
  // As the application's own work does: enqueued on its stream.
  void set(uint64_t to, unsigned value) { EQUAL(library.call("cuMemsetD32Async", to, value, size_t(64), stream), 0); }
  Ints get(uint64_t from) {
    Ints out(64);
    void *pinned = nullptr;
    EQUAL(library.call("cuMemHostAlloc", &pinned, size_t(256), 0u), 0);
    EQUAL(library.call("cuMemcpyAsync", uint64_t(uintptr_t(pinned)), from, size_t(256), stream), 0);
    EQUAL(library.call("cuStreamSynchronize", stream), 0);
    std::memcpy(out.data(), pinned, 256);
    library.call("cuMemFreeHost", pinned);
    return out;
  }
  Library library;
  void *context = nullptr, *stream = nullptr;
  uint64_t memory[2] = {};
};

struct Folder {
  Folder() {
    char name[] = "/tmp/ingot-cache-XXXXXX";
    if (!mkdtemp(name)) failed(__FILE__, __LINE__, "no temporary folder");
    path = name;
  }
  ~Folder() { fs::remove_all(path); }
  std::vector<fs::path> files() const { return {fs::directory_iterator(path), fs::directory_iterator()}; }
  fs::path path;
};

std::string bytes_of(const fs::path &file) {
  std::ifstream in(file, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

} // namespace

CASE("cuda: a run that comes again is one graph launch", Case::kernels | Case::cuda) {
  Library library;
  support::Loaded l(line(s.target), s.uri.c_str());
  GOOD(l.session);
  auto context = l.session->context();
  GOOD(context);
  Ints x(64, 3), y(64);
  for (int round = 0; round < 2; ++round) GOOD(run_line(*context, x, y));
  const uint64_t graphs = library.calls("cuGraphLaunch"), kernels = library.calls("cuLaunchKernel"), copies = library.calls("cuMemcpyAsync"),
                 made = library.calls("cuGraphInstantiateWithFlags");
  for (int round = 0; round < 5; ++round) {
    x.assign(64, round);
    GOOD(run_line(*context, x, y));
    expect_line(x, y);
  }
  if (!library.mocked()) return;
  EQUAL(library.calls("cuGraphLaunch") - graphs, 5u);
  EQUAL(library.calls("cuLaunchKernel") - kernels, 0u);
  EQUAL(library.calls("cuMemcpyAsync") - copies, 0u);
  EQUAL(library.calls("cuGraphInstantiateWithFlags") - made, 0u);
  EXPECT(made > 0);
}

// Where the context is made current twice: to launch, and to ask whether it is done, which it asks until it is.
CASE("cuda: a steady run calls what it must and nothing else", Case::kernels | Case::cuda) {
  Library library;
  if (!library.mocked()) return;
  support::Loaded l(line(s.target), s.uri.c_str());
  GOOD(l.session);
  auto context = l.session->context();
  GOOD(context);
  Ints x(64, 3), y(64);
  const auto steady = [&](const auto &run) {
    for (int round = 0; round < 3; ++round) run();
    constexpr const char *kNames[] = {"cuCtxPushCurrent_v2", "cuGraphLaunch", "cuStreamQuery", "cuCtxPopCurrent_v2", ""};
    uint64_t before[5], made[5];
    for (int i = 0; i < 5; ++i) before[i] = library.calls(kNames[i]);
    for (int round = 0; round < 10; ++round) run();
    for (int i = 0; i < 5; ++i) made[i] = library.calls(kNames[i]) - before[i];
    EQUAL(made[0], 20u);
    EQUAL(made[1], 10u);
    EXPECT(made[2] >= 10u);
    EQUAL(made[3], 20u);
    EQUAL(made[0] + made[1] + made[2] + made[3], made[4]);
  };
  steady([&] { GOOD(run_line(*context, x, y)); });
  expect_line(x, y);
  auto in = l.device->allocate(256), out = l.device->allocate(256); // the kernels' own memory
  GOOD(in);
  GOOD(out);
  GOOD(in->write(0, x.data(), 256));
  ingot::Tensor from[] = {support::tensor(nullptr, 256, kI32Type, {64})}, to[] = {support::tensor(nullptr, 256, kI32Type, {64})};
  from[0].buffer = in->get(), to[0].buffer = out->get();
  steady([&] { GOOD(context->run(from, to)); });
  GOOD(out->read(0, y.data(), 256));
  expect_line(x, y);
  ingot::Tensor mine[] = {support::tensor(y, kI32Type, {64})}; // one in the device's memory, one in the host's
  y.assign(64, 0);
  steady([&] { GOOD(context->run(from, mine)); });
  expect_line(x, y);
}

CASE("cuda: graphs of other tensors and other dims", Case::kernels | Case::cuda) {
  support::Loaded l(free_dims(s.target), s.uri.c_str());
  GOOD(l.session);
  auto context = l.session->context();
  GOOD(context);
  for (int round = 0; round < 4; ++round)
    for (const int64_t n : {1, 7, 64, 7, 1000, 3, 5, 9}) {
      Ints x(size_t(n), round), y(x.size());
      for (int again = 0; again < 3; ++again) {
        for (size_t i = 0; i < x.size(); ++i) x[i] = int32_t(i) + 10 * again + round;
        const ingot::Tensor in[] = {support::tensor(x, kI32Type, {n})};
        ingot::Tensor out[] = {support::tensor(y, kI32Type, {n})};
        GOOD(context->run(in, out));
        for (size_t i = 0; i < x.size(); ++i) EQUAL(y[i], 2 * x[i] + 1);
      }
    }
}

CASE("cuda: compiled code is kept in a folder", Case::kernels | Case::cuda) {
  Library library;
  const Folder folder;
  const std::string uri = s.uri + "?cache=" + folder.path.string();
  const auto prepared = [&] {
    support::Loaded l(line(s.target), uri.c_str());
    GOOD(l.session);
    auto context = l.session->context();
    GOOD(context);
    Ints x(64, 5), y(64);
    GOOD(run_line(*context, x, y));
    expect_line(x, y);
    return library.calls("cuLinkComplete");
  };
  const uint64_t first = prepared();
  EQUAL(folder.files().size(), 1u);
  const std::string good = bytes_of(folder.files()[0]);
  EQUAL(prepared(), first); // nothing is compiled again
  for (const size_t at : {size_t(0), size_t(9), size_t(20), size_t(30), good.size() / 2, good.size() - 1}) { // damaged, or cut short
    std::string bad = good;
    if (at == good.size() / 2) bad.resize(at);
    else bad[at] = char(bad[at] ^ 0x41);
    std::ofstream(folder.files()[0], std::ios::binary | std::ios::trunc) << bad;
    const uint64_t before = library.calls("cuLinkComplete");
    EQUAL(prepared(), before + library.mocked());
    EXPECT(bytes_of(folder.files()[0]) == good);
  }
  ingot::Instance instance;
  EQUAL(instance.open((s.uri + "?cache=/nonexistent").c_str()).status().code(), INGOT_NOT_FOUND);
  EQUAL(instance.open((s.uri + "?cash=/tmp").c_str()).status().code(), INGOT_INVALID_ARGUMENT);
}

CASE("cuda: the application's context, stream and memory", Case::kernels | Case::cuda) {
  App app;
  for (const bool own_stream : {false, true}) {
    ingot::Instance instance;
    ingot_cuda_import_t given = {};
    given.struct_size = sizeof given;
    given.context = static_cast<CUctx_st *>(app.context);
    given.stream = static_cast<CUstream_st *>(own_stream ? nullptr : app.stream);
    ingot_device_t *device = nullptr;
    ingot_error_t error = {};
    if (ingot_cuda_device_import(instance.get(), &given, nullptr, &device, &error) != INGOT_OK) failed(__FILE__, __LINE__, error.message);
    const ingot::Device owner(device);
    const Bytes bytes = line(s.target);
    auto archive = ingot::Archive::open(bytes.data(), bytes.size(), false);
    GOOD(archive);
    auto session = owner.prepare(*archive);
    GOOD(session);
    auto context = session->context();
    GOOD(context);
    ingot_buffer_t *buffers[2] = {};
    for (int i = 0; i < 2; ++i) EQUAL(ingot_cuda_buffer_import(device, app.memory[i], 256, &buffers[i], &error), INGOT_OK);
    ingot::Tensor in[] = {support::tensor(nullptr, 256, kI32Type, {64})}, out[] = {support::tensor(nullptr, 256, kI32Type, {64})};
    in[0].buffer = buffers[0];
    out[0].buffer = buffers[1];
    for (unsigned round = 0; round < 4; ++round) {
      app.set(app.memory[0], round); // no wait: the run follows on the same stream
      if (own_stream) EQUAL(app.library.call("cuStreamSynchronize", app.stream), 0);
      GOOD(context->run(in, out));
      expect_line(Ints(64, int32_t(round)), app.get(app.memory[1]));
    }
    for (ingot_buffer_t *b : buffers) ingot_buffer_release(b);
  }
}

// A pool of the driver's own in the application's context, whose other work nothing waits for.
CASE("cuda: memory of a pool in the application's context", Case::cuda) {
  App app;
  const bool pools = app.library.mocked() && dlsym(app.library.handle, "cuMemPoolCreate");
  auto *slow = reinterpret_cast<void (*)(int)>(dlsym(app.library.handle, "mock_cuda_slow"));
  for (const char *options : {"", "pool=8", "pool=0"}) {
    ingot::Instance instance;
    ingot_cuda_import_t given = {};
    given.struct_size = sizeof given;
    given.context = static_cast<CUctx_st *>(app.context);
    given.stream = static_cast<CUstream_st *>(app.stream);
    ingot_device_t *device = nullptr;
    ingot_error_t error = {};
    EQUAL(ingot_cuda_device_import(instance.get(), &given, options, &device, &error), INGOT_OK);
    const ingot::Device owner(device);
    const uint64_t before = app.library.calls("cuMemAllocFromPoolAsync");
    if (slow) slow(1);
    app.set(app.memory[0], 7);
    for (int round = 0; round < 3; ++round) GOOD(owner.allocate(10000));
    if (slow) slow(0);
    EQUAL(app.library.calls("cuMemAllocFromPoolAsync") - before, pools && options != std::string("pool=0") ? 3u : 0u);
    EXPECT(app.get(app.memory[0]) == Ints(64, 7));
  }
}

CASE("cuda: what cannot be imported is refused", Case::cuda) {
  App app;
  ingot::Instance instance;
  ingot_cuda_import_t given = {};
  given.struct_size = sizeof given;
  ingot_device_t *device = nullptr;
  ingot_error_t error = {};
  EQUAL(ingot_cuda_device_import(nullptr, &given, nullptr, &device, &error), INGOT_INVALID_ARGUMENT);
  EQUAL(ingot_cuda_device_import(instance.get(), &given, nullptr, nullptr, &error), INGOT_INVALID_ARGUMENT);
  given.ordinal = 100000;
  EQUAL(ingot_cuda_device_import(instance.get(), &given, nullptr, &device, &error), INGOT_NOT_FOUND);
  given.ordinal = 0;
  EQUAL(ingot_cuda_device_import(instance.get(), &given, "colour=red", &device, &error), INGOT_INVALID_ARGUMENT);
  EXPECT(support::contains(error.message, "colour"));
  given.struct_size = 8;
  EQUAL(ingot_cuda_device_import(instance.get(), &given, nullptr, &device, &error), INGOT_INVALID_ARGUMENT);
  given.struct_size = sizeof given;
  EQUAL(ingot_cuda_device_import(instance.get(), &given, nullptr, &device, &error), INGOT_OK); // the primary context
  const ingot::Device owner(device);
  ingot_buffer_t *buffer = nullptr;
  EQUAL(ingot_cuda_buffer_import(device, 0, 256, &buffer, &error), INGOT_INVALID_ARGUMENT);
  EQUAL(ingot_cuda_buffer_import(device, app.memory[0] + 4, 128, &buffer, &error), INGOT_INVALID_ARGUMENT);
  EQUAL(ingot_cuda_buffer_import(device, app.memory[0], 0, &buffer, &error), INGOT_INVALID_ARGUMENT);
  auto local = instance.open("local-sync");
  GOOD(local);
  EQUAL(ingot_cuda_buffer_import(local->get(), app.memory[0], 256, &buffer, &error), INGOT_INVALID_ARGUMENT);
  EXPECT(support::contains(error.message, "no device of the driver cuda"));
}

CASE("cuda: memory that runs out inside the library", Case::kernels | Case::cuda) {
  Library library;
  if (!library.mocked()) return;
  runs_out(s, library.fail_at);
}

} // namespace conformance
