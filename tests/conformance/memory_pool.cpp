// Memory of devices that comes from the library's pools. On the mocks it is counted how often the system was asked and what is still held;
// on a real GPU the library says how much of its memory is used.
#include <dlfcn.h>

#include <functional>
#include <optional>
#include <thread>

#include "tests/conformance/lines.h"

namespace conformance {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr ingot_element_type_t kI32 = INGOT_ELEMENT_TYPE_I32;

// The library that the driver opened.
struct Library {
  explicit Library(const Subject &s) : hip(s.target == "rocm"), handle(dlopen(hip ? "libamdhip64.so.6" : "libcuda.so.1", RTLD_NOW)) {
    if (!handle) failed(__FILE__, __LINE__, "no library");
    find(&calls_of, "mock_cuda_calls");
    find(&fail_at, "mock_cuda_fail_at");
    find(&set_pools, "mock_cuda_pools");
    find(&count_taken, "mock_cuda_taken");
    find(&count_held, "mock_cuda_held");
    has_pools = dlsym(handle, hip ? "hipMemPoolCreate" : "cuMemPoolCreate") != nullptr;
    EQUAL(call(hip ? "hipInit" : "cuInit", 0u), 0);
  }
  template <class F> void find(F **function, const char *name) { *function = reinterpret_cast<F *>(dlsym(handle, name)); }
  template <class... A> int call(const char *name, A... arguments) const {
    auto *function = reinterpret_cast<int (*)(A...)>(dlsym(handle, name));
    if (!function) failed(__FILE__, __LINE__, std::string("no ") + name);
    return function(arguments...);
  }
  bool mocked() const { return count_held != nullptr; }
  uint64_t calls(const char *name) const { return mocked() ? calls_of(name) : 0; }
  uint64_t taken() const { return mocked() ? count_taken() : 0; }
  uint64_t held() const {
    if (mocked()) return count_held();
    size_t free = 0, all = 0;
    EQUAL(call("cuMemGetInfo_v2", &free, &all), 0);
    return all - free;
  }
  bool hip, has_pools = false;
  void *handle;
  uint64_t (*calls_of)(const char *) = nullptr, (*count_taken)() = nullptr, (*count_held)() = nullptr;
  void (*fail_at)(int) = nullptr, (*set_pools)(int) = nullptr;
};

// The application's hold on the primary context of a device, current on this thread.
struct Held {
  Held(const Library &of, int ordinal) : library(of), device(ordinal) {
    void *context = nullptr;
    EQUAL(library.call(library.hip ? "hipDevicePrimaryCtxRetain" : "cuDevicePrimaryCtxRetain", &context, device), 0);
    EQUAL(library.call(library.hip ? "hipCtxPushCurrent" : "cuCtxPushCurrent_v2", context), 0);
  }
  ~Held() {
    void *was = nullptr;
    library.call(library.hip ? "hipCtxPopCurrent" : "cuCtxPopCurrent_v2", &was);
    library.call(library.hip ? "hipDevicePrimaryCtxRelease" : "cuDevicePrimaryCtxRelease_v2", device);
  }
  const Library &library;
  int device;
};

// Sessions of `line` and of `free_dims` at sizes that grow, and runs of each.
void use(const Subject &s, const ingot::Device &device, const std::function<uint64_t()> &allocations = [] { return uint64_t(0); }) {
  const Bytes fixed = line(s.target), free = free_dims(s.target);
  auto archive = ingot::Archive::open(fixed.data(), fixed.size(), false);
  GOOD(archive);
  auto session = device.prepare(*archive);
  GOOD(session);
  auto context = session->context();
  GOOD(context);
  uint64_t before = 0;
  for (int round = 0; round < 5; ++round) {
    Ints x(64, round), y(64);
    GOOD(run_line(*context, x, y));
    expect_line(x, y);
    if (round == 0) before = allocations();
  }
  EQUAL(allocations(), before); // none in a run

  auto other = ingot::Archive::open(free.data(), free.size(), false);
  GOOD(other);
  auto growing = device.prepare(*other);
  GOOD(growing);
  auto grown = growing->context();
  GOOD(grown);
  for (const int64_t n : {10, 1000, 40000, 7}) {
    Ints x(size_t(n), 3), y(x.size());
    const ingot::Tensor in[] = {support::tensor(x, kI32, {n})};
    ingot::Tensor out[] = {support::tensor(y, kI32, {n})};
    GOOD(grown->run(in, out));
    for (const int32_t v : y) EQUAL(v, 7);
  }
}

void use(const Subject &s, const std::string &uri, const Library &library) {
  ingot::Instance instance;
  auto device = instance.open(uri.c_str());
  GOOD(device);
  use(s, *device, [&] { return library.calls("cuMemAllocFromPoolAsync") + library.calls("cuMemAlloc_v2"); });
}

// What use() allocates there: {from the pool, from the system}.
std::pair<uint64_t, uint64_t> allocations(const Subject &s, const std::string &uri, const Library &library) {
  const uint64_t pooled = library.calls("cuMemAllocFromPoolAsync"), plain = library.calls("cuMemAlloc_v2");
  use(s, uri, library);
  const uint64_t freed = library.calls("cuMemFreeAsync"), made = library.calls("cuMemAllocFromPoolAsync");
  EQUAL(freed, made);
  return {made - pooled, library.calls("cuMemAlloc_v2") - plain};
}

} // namespace

CASE("stream: memory of the device is from a pool, where there are pools", Case::kernels | Case::stream) {
  const Library library(s);
  if (!library.mocked()) return use(s, s.uri, library);
  const auto expect = [&](const std::string &option, bool from_pool) {
    const auto [pooled, plain] = allocations(s, s.uri + option, library);
    EXPECT((pooled > 0) == (from_pool && library.has_pools));
    EXPECT((plain > 0) == !(from_pool && library.has_pools));
  };
  expect("", !library.hip);
  expect("?pool=0", false);
  expect("?pool=64", true);
  for (const int how : {0, -1, 801, 1}) { // it has none, does not know what they are, makes none; and it has again
    library.set_pools(how);
    expect("?pool=64", how == 1);
  }
  EQUAL(library.held(), 0u);
}

CASE("stream: a memory pool that cannot be made", Case::stream) {
  const Library library(s);
  ingot::Instance instance;
  for (const char *option : {"pool=", "pool=x", "pool=-1", "pool=1M", "pool=123456789"}) {
    auto device = instance.open((s.uri + "?" + option).c_str());
    EQUAL(device.status().code(), INGOT_INVALID_ARGUMENT);
    EXPECT(support::contains(device.message(), option));
  }
  if (!library.mocked() || !library.has_pools) return;
  for (const int code : {2, 700}) {
    library.set_pools(code);
    auto device = instance.open((s.uri + "?pool=64").c_str());
    EQUAL(device.status().code(), code == 2 ? INGOT_OUT_OF_MEMORY : INGOT_DEVICE_LOST);
  }
  library.set_pools(1);
  GOOD(instance.open((s.uri + "?pool=64").c_str()));
}

CASE("stream: a session made anew has the memory of the one before", Case::kernels | Case::stream) {
  const Library library(s);
  for (const bool pool : {true, false}) {
    ingot::Instance instance;
    auto device = instance.open((s.uri + (pool ? "?pool=64" : "?pool=0")).c_str());
    GOOD(device);
    use(s, *device);
    const uint64_t before = library.taken();
    for (int round = 0; round < 3; ++round) use(s, *device);
    if (library.mocked()) EXPECT((library.taken() == before) == (pool && library.has_pools));
  }
}

CASE("stream: what a pool keeps of memory is bounded, and given back", Case::stream) {
  const Library library(s);
  const Held context(library, 0);
  const bool pooled = library.has_pools;
  const uint64_t unit = library.mocked() ? kMiB : 64 * kMiB, slack = library.mocked() ? 0 : 100 * kMiB; // the library's own
  const uint64_t none = library.held();
  const auto held = [&] { return library.held() > none ? library.held() - none : 0; };
  const auto after = [&](uint64_t keeps, uint32_t pieces, uint64_t least, uint64_t most) {
    ingot::Instance instance;
    auto device = instance.open((s.uri + "?pool=" + std::to_string(keeps / kMiB)).c_str());
    GOOD(device);
    for (int round = 0; round < 2; ++round) {
      {
        std::vector<ingot::Buffer> buffers;
        for (uint32_t i = 0; i < pieces; ++i) {
          auto buffer = device->allocate(unit);
          GOOD(buffer);
          buffers.push_back(std::move(*buffer));
        }
        EXPECT(held() >= pieces * unit && held() <= pieces * unit + slack);
      }
      EXPECT(held() + slack >= least && held() <= most + slack);
    }
  };
  after(2 * unit, 5, pooled && library.mocked() ? unit : 0, pooled ? 2 * unit : 0);
  EXPECT(held() <= slack);
  after(8 * unit, 5, pooled ? 5 * unit : 0, pooled ? 5 * unit : 0);
  EXPECT(held() <= slack);
  ingot::Instance instance;
  if (!library.mocked()) { // what is kept is no loss to others in this process
    size_t most = 0;
    EQUAL(library.call("cuDeviceTotalMem_v2", &most, 0), 0);
    most = most / 5 * 3;
    auto device = instance.open((s.uri + "?pool=" + std::to_string(most / kMiB + 1)).c_str());
    GOOD(device);
    { GOOD(device->allocate(most)); }
    EXPECT(held() + slack >= most);
    uint64_t other = 0;
    EQUAL(library.call("cuMemAlloc_v2", &other, most), 0);
    EQUAL(library.call("cuMemFree_v2", other), 0);
    return;
  }
  if (library.hip) return;
  auto device = instance.open(s.uri.c_str()); // it keeps a sixteenth of 8 GiB
  GOOD(device);
  for (const uint64_t size : {500 * kMiB, 520 * kMiB}) {
    { GOOD(device->allocate(size)); }
    EQUAL(held(), pooled && size < 512 * kMiB ? size : 0);
  }
}

CASE("stream: memory of a pool that runs out", Case::kernels | Case::stream) {
  const Library library(s);
  if (!library.mocked()) return;
  Subject pooled = s;
  pooled.uri += "?pool=64";
  runs_out(pooled, library.fail_at);
  EQUAL(library.held(), 0u);
  ingot::Instance instance;
  auto device = instance.open(pooled.uri.c_str());
  GOOD(device);
  library.fail_at(1);
  EQUAL(device->allocate(1000).status().code(), INGOT_OUT_OF_MEMORY);
  GOOD(device->allocate(1000));
}

CASE("stream: memory of a pool while another device's context is current", Case::kernels | Case::stream) {
  const Library library(s);
  if (!library.mocked()) return;
  const Held context(library, 5);
  use(s, s.uri + "?pool=64", library);
}

CASE("stream: threads that take memory from one pool", Case::kernels | Case::stream) {
  const Library library(s);
  ingot::Instance instance;
  auto device = instance.open((s.uri + "?pool=1").c_str());
  GOOD(device);
  const auto work = [&](uint32_t seed) {
    std::vector<ingot::Buffer> buffers;
    std::vector<Ints> values;
    for (int round = 0; round < 60; ++round) {
      seed = seed * 1664525 + 1013904223;
      if (buffers.size() > 5) { // an older one is still what was written
        const size_t at = seed / 7 % buffers.size();
        Ints read(values[at].size());
        GOOD(buffers[at].read(0, read.data(), 4 * read.size()));
        EXPECT(read == values[at]);
        buffers.erase(buffers.begin() + int64_t(at));
        values.erase(values.begin() + int64_t(at));
      }
      Ints value(1 + seed / 64 % 90000, int32_t(seed));
      auto buffer = device->allocate(4 * value.size());
      GOOD(buffer);
      GOOD(buffer->write(0, value.data(), 4 * value.size()));
      buffers.push_back(std::move(*buffer));
      values.push_back(std::move(value));
      if (round % 20 == 0) use(s, *device);
    }
  };
  std::vector<std::thread> threads;
  std::vector<std::string> wrong(3);
  for (uint32_t i = 0; i < wrong.size(); ++i)
    threads.emplace_back([&, i] {
      try {
        work(i + 1);
      } catch (const Failed &f) {
        wrong[i] = f.what;
      }
    });
  for (std::thread &t : threads) t.join();
  for (const std::string &w : wrong)
    if (!w.empty()) throw Failed{w};
}

CASE("stream: a device that is lost has no pool memory left", Case::kernels | Case::stream | Case::loss) {
  const Library library(s);
  for (int at = 1; at <= 6; ++at) {
    {
      support::Loaded l(line(s.target), (s.lose + std::to_string(at) + "?pool=64").c_str());
      ingot::Status status = l.session.ok() ? ingot::Status() : l.session.status();
      std::optional<ingot::Buffer> buffer;
      if (status.ok()) {
        auto given = l.device->allocate(5000);
        GOOD(given);
        buffer.emplace(std::move(*given));
        auto context = l.session->context();
        GOOD(context);
        Ints x(64, at), y(64);
        for (int round = 0; round < 8 && status.ok(); ++round) status = run_line(*context, x, y);
      }
      EQUAL(status.code(), INGOT_DEVICE_LOST);
      EQUAL(l.device->allocate(1000).status().code(), INGOT_DEVICE_LOST);
    }
    EQUAL(library.held(), 0u);
  }
}

} // namespace conformance
