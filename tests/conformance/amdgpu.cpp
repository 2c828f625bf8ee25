// What is the driver amdgpu's alone: what runs out or fails inside the library, what a run costs. On the mock of tests/mock the
// library's calls are counted, and made to fail; on a real GPU those parts are left out.
#include <dlfcn.h>

#include <set>

#include "tests/conformance/lines.h"

namespace conformance {
namespace {

struct Library {
  Library() : handle(dlopen("libhsa-runtime64.so.1", RTLD_NOW)) {
    EXPECT(handle);
    fail_at = get<void (*)(int)>("mock_hsa_fail_at");
    fail_copies = get<void (*)(int)>("mock_hsa_fail_copies");
    fault = get<void (*)(int)>("mock_hsa_fault");
    slow = get<void (*)(int)>("mock_hsa_slow");
    calls = get<uint64_t (*)(const char *)>("mock_hsa_calls");
  }
  template <class T> T get(const char *name) { return reinterpret_cast<T>(dlsym(handle, name)); }
  bool mocked() const { return calls != nullptr; }
  void *handle;
  void (*fail_at)(int) = nullptr, (*fail_copies)(int) = nullptr, (*fault)(int) = nullptr, (*slow)(int) = nullptr;
  uint64_t (*calls)(const char *) = nullptr;
};

void says(const ingot::Status &status, const std::string &expected) {
  EQUAL(status.code(), INGOT_DEVICE_LOST);
  if (std::string(status.message()).find(expected) == std::string::npos) failed(__FILE__, __LINE__, status.message());
}

// A program of one i32 input and one output of `count` elements, in a context of its own.
struct Model {
  Model(const Subject &s, const Bytes &archive, int64_t count) : loaded(archive, s.uri.c_str()), x(size_t(count), 1), y(size_t(count)) {
    GOOD(loaded.session);
    auto made = loaded.session->context();
    GOOD(made);
    context = std::move(*made);
  }
  ingot::Status run(const ingot_run_options_t *options = nullptr) {
    const ingot::Tensor in[] = {support::tensor(x, INGOT_ELEMENT_TYPE_I32, {int64_t(x.size())})};
    ingot::Tensor out[] = {support::tensor(y, INGOT_ELEMENT_TYPE_I32, {int64_t(y.size())})};
    return context.run(in, out, options);
  }
  support::Loaded loaded;
  Ints x, y;
  ingot::Context context;
};
struct Line : Model {
  explicit Line(const Subject &s) : Model(s, line(s.target), 64) {}
};
struct Chain : Model {
  Chain(const Subject &s, int dispatches) : Model(s, chain(s.target, dispatches), 1) {}
};

} // namespace

CASE("amdgpu: a run makes nothing anew", Case::kernels | Case::amdgpu) {
  Library library;
  Line m(s);
  GOOD(m.run());
  if (!library.mocked()) return;
  const char *const made[] = {"hsa_signal_create", "hsa_amd_memory_pool_allocate", "hsa_queue_create", "hsa_executable_create_alt",
                              "hsa_amd_agents_allow_access"};
  uint64_t before = 0, after = 0, stores = library.calls("hsa_queue_store_write_index_screlease");
  for (const char *name : made) before += library.calls(name);
  constexpr int kRuns = 7;
  for (int round = 0; round < kRuns; ++round) {
    m.x.assign(64, round);
    GOOD(m.run());
    expect_line(m.x, m.y);
  }
  for (const char *name : made) after += library.calls(name);
  EXPECT(before > 0);
  EQUAL(after, before);
  stores = library.calls("hsa_queue_store_write_index_screlease") - stores;
  EXPECT(stores >= kRuns); // the doorbell is told of several packets at once: of all up to each group of copies
  EXPECT(stores <= 3 * kRuns);
}

CASE("amdgpu: more packets than a queue holds", Case::kernels | Case::amdgpu) {
  Chain m(s, 300);
  for (int32_t round = 0; round < 3; ++round) {
    m.x[0] = round;
    GOOD(m.run());
    EQUAL(m.y[0], round + 300 * 301 / 2);
  }
}

CASE("amdgpu: memory that runs out inside the library", Case::kernels | Case::amdgpu) {
  Library library;
  if (library.mocked()) runs_out(s, library.fail_at);
}

// A fault loses the device: this run and all later ones say so, and everything can be destroyed.
CASE("amdgpu: kernels that fault", Case::kernels | Case::amdgpu) {
  Library library;
  if (!library.mocked()) return;
  Line m(s);
  GOOD(m.run());
  library.fault(1);
  for (int round = 0; round < 2; ++round) says(m.run(), "touched memory that is not there, at 0x1234000");
  library.fault(0);
}

// The same of copies that fail while they are under way: those of a run, and those of a write or a read.
CASE("amdgpu: copies that fail", Case::amdgpu) {
  Library library;
  if (!library.mocked()) return;
  for (bool of_run : {true, false}) {
    support::Loaded l(moves(s.target), s.uri.c_str());
    GOOD(l.session);
    auto context = l.session->context();
    GOOD(context);
    Ints x(40, 1), a(40), b(40);
    std::vector<int64_t> c(8);
    ingot::Tensor in[] = {support::tensor(x, INGOT_ELEMENT_TYPE_I32, {40})};
    ingot::Tensor out[] = {support::tensor(a, INGOT_ELEMENT_TYPE_I32, {40}), support::tensor(b, INGOT_ELEMENT_TYPE_I32, {40}),
                           support::tensor(c, INGOT_ELEMENT_TYPE_I64, {8})};
    std::vector<ingot::Buffer> buffers; // of all tensors: a run copies nothing else then
    for (ingot::Tensor *t : {&in[0], &out[0], &out[1], &out[2]}) {
      auto buffer = l.device->allocate(t->size);
      GOOD(buffer);
      buffers.push_back(std::move(*buffer));
      t->buffer = buffers.back().get();
    }
    const auto run = [&] { return of_run ? context->run(in, out) : buffers[0].write(0, x.data(), 160); };
    GOOD(run());
    library.fail_copies(1);
    for (int round = 0; round < 2; ++round) says(run(), "the device was lost");
    library.fail_copies(0);
  }
}

// More packets than the queue holds come after a copy that never ends: nobody waits for room for ever.
CASE("amdgpu: a copy that fails before many packets", Case::kernels | Case::amdgpu) {
  Library library;
  if (!library.mocked()) return;
  Chain m(s, 300);
  library.fail_copies(1);
  says(m.run(), "the device was lost");
  library.fail_copies(0);
}

// A transfer in several pieces of which one cannot be begun, or fails: what has begun is waited for.
CASE("amdgpu: long transfers that fail half way", Case::amdgpu) {
  Library library;
  if (!library.mocked()) return;
  std::vector<uint8_t> bytes((33 << 20) + 5, 7);
  for (bool writes : {true, false})
    for (bool begun : {true, false})
      for (int at = 1; at <= 5; ++at) {
        ingot::Instance instance;
        auto device = instance.open(s.uri.c_str());
        GOOD(device);
        auto buffer = device->allocate(bytes.size());
        GOOD(buffer);
        GOOD(buffer->write(0, bytes.data(), 1)); // what a device makes at its first transfer is there
        (begun ? library.fail_copies : library.fail_at)(at);
        const ingot::Status status = writes ? buffer->write(0, bytes.data(), bytes.size()) : buffer->read(0, bytes.data(), bytes.size());
        EQUAL(status.code(), begun ? INGOT_DEVICE_LOST : INGOT_OUT_OF_MEMORY);
        library.fail_copies(0);
        library.fail_at(0);
      }
}

CASE("amdgpu: a measured run that runs out of signals", Case::kernels | Case::amdgpu) {
  Library library;
  if (!library.mocked()) return;
  Chain m(s, 20);
  GOOD(m.run());
  int seen = 0;
  ingot_run_options_t options = {};
  options.struct_size = sizeof options;
  options.user = &seen;
  options.on_dispatch = [](void *user, const ingot_dispatch_event_t *event) {
    EXPECT(event->end_ns >= event->start_ns && event->end_ns < 3'600'000'000'000);
    ++*static_cast<int *>(user);
  };
  library.fail_at(7);
  EQUAL(m.run(&options).code(), INGOT_OUT_OF_MEMORY);
  library.fail_at(0);
  GOOD(m.run(&options));
  EQUAL(seen, 20);
}

// What befalls devices that nobody here has opened is not handled: the library then does what it does without a handler.
CASE("amdgpu: events of this device and of others", Case::kernels | Case::amdgpu) {
  Library library;
  if (!library.mocked()) return;
  auto *event = library.get<int (*)(uint32_t, int)>("mock_hsa_event");
  EXPECT(event);
  constexpr uint32_t kFault = 0, kException = 1, kUnknown = 7;
  for (uint32_t type : {kFault, kException}) {
    Line m(s);
    GOOD(m.run());
    EXPECT(event(type, 5) > 0);
    EXPECT(event(kUnknown, 0) > 0);
    GOOD(m.run());
    EQUAL(event(type, 0), 0);
    says(m.run(), type == kFault ? "touched memory that is not there" : "the device was lost");
  }
}

CASE("amdgpu: a run that has not begun is given up", Case::kernels | Case::amdgpu) {
  Library library;
  if (!library.mocked()) return;
  Line m(s);
  GOOD(m.run());
  library.slow(1);
  ingot_run_options_t options = {};
  options.struct_size = sizeof options;
  options.timeout_ns = 5'000'000;
  const ingot::Status status = m.run(&options);
  library.slow(0);
  EQUAL(status.code(), INGOT_DEADLINE_EXCEEDED);
  m.x.assign(64, 9);
  GOOD(m.run());
  expect_line(m.x, m.y);
}

CASE("amdgpu: devices by name", Case::amdgpu) {
  const ingot_driver_t &driver = *driver_of(s.uri);
  const ingot_driver_host_t host = {};
  std::set<std::string> ids;
  ingot_error_t error = {};
  EQUAL(driver.enumerate(&host, [](void *user, const char *id, const char *) { EXPECT(static_cast<std::set<std::string> *>(user)->insert(id).second); }, &ids, &error), INGOT_OK);
  EXPECT(!ids.empty());
  Library library;
  if (library.mocked()) EXPECT(ids.count("bdf-0301")); // it has no UUID
  ingot::Instance instance;
  for (const std::string &id : ids) {
    auto device = instance.open(("amdgpu://" + id).c_str());
    GOOD(device);
  }
  EQUAL(instance.open("amdgpu:0?unknown=1").status().code(), INGOT_INVALID_ARGUMENT);
  EQUAL(instance.open("amdgpu://GPU-none").status().code(), INGOT_NOT_FOUND);
  EQUAL(instance.open("amdgpu:999").status().code(), INGOT_NOT_FOUND);
}

} // namespace conformance
