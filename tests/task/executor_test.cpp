// local-task on an application's threads: executors with several threads and with one, one that never starts
// its tasks, one that runs them at once, tasks that come after the device is gone, and what may be wrong with
// the struct.
#include <catch2/catch.hpp>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "tests/archive/mutate.h"
#include "tests/archive/support.h"
#include "tests/task/programs.h"

using namespace support;

namespace {

// A queue of tasks that `count` threads work off; with none they lie there.
class Executor {
 public:
  explicit Executor(size_t count, uint32_t concurrency) {
    executor_ = {sizeof executor_, this, concurrency, start};
    for (size_t i = 0; i < count; ++i) threads_.emplace_back([this] { work(); });
  }
  ~Executor() { stop(); }
  void stop() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    for (std::thread &thread : threads_) thread.join();
    threads_.clear();
  }
  ingot_executor_t *get() { return &executor_; }
  // Runs on the calling thread what lies in the queue.
  void drain() {
    for (Task task; take(&task, false);) task.run(task.argument);
  }
  size_t waiting() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return queue_.size();
  }
  std::atomic<size_t> started{0}, ran{0};
  std::atomic<size_t> most_waiting{0};

 private:
  struct Task {
    void (*run)(void *);
    void *argument;
  };
  static void start(void *user, void (*run)(void *), void *argument) {
    Executor &e = *static_cast<Executor *>(user);
    const std::lock_guard<std::mutex> lock(e.mutex_);
    e.queue_.push_back({run, argument});
    ++e.started;
    e.most_waiting = std::max(e.most_waiting.load(), e.queue_.size());
    e.changed_.notify_one();
  }
  bool take(Task *out, bool wait) {
    std::unique_lock<std::mutex> lock(mutex_);
    if (wait) changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return false;
    *out = queue_.front();
    queue_.pop_front();
    ++ran;
    return true;
  }
  void work() {
    for (Task task; take(&task, true);) task.run(task.argument);
  }
  ingot_executor_t executor_;
  std::vector<std::thread> threads_;
  std::deque<Task> queue_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
};

constexpr int64_t kSize = 2000;

// A session on local-task with that executor, and what its program gives on local-sync.
struct Fixture {
  explicit Fixture(const ingot_executor_t *executor, const char *uri = "local-task",
                   const ingot_allocator_t *allocator = nullptr)
      : bytes(task_programs::random_line(23, kSize, 30, 1'000'000)),
        x(kSize),
        expected(kSize),
        instance(allocator ? *allocator : ingot_allocator_t{}) {
    mutate::Random random{7};
    for (float &v : x) v = float(random.below(100)) / 10;
    Loaded sync(bytes);
    auto reference = sync.session->context();
    REQUIRE(run(*reference, expected));
    archive = ingot::Archive::open(bytes.data(), bytes.size(), false, allocator);
    ingot::DeviceOptions options{};
    options.struct_size = sizeof options;
    options.executor = executor;
    device = instance.open_with(options, uri);
    if (device.ok()) session = device->prepare(*archive);
  }
  bool run(ingot::Context &context, std::vector<float> &y) {
    const ingot::Tensor in[] = {tensor(x, INGOT_ELEMENT_TYPE_F32, {kSize})};
    ingot::Tensor out[] = {tensor(y, INGOT_ELEMENT_TYPE_F32, {kSize})};
    return context.run(in, out).ok();
  }
  // One right run.
  bool good(ingot::Context &context) {
    std::vector<float> y(kSize);
    return run(context, y) && std::memcmp(y.data(), expected.data(), 4 * kSize) == 0;
  }
  std::vector<uint8_t> bytes;
  std::vector<float> x, expected;
  ingot::Instance instance;
  ingot::Result<ingot::Archive> archive{ingot::Status()};
  ingot::Result<ingot::Device> device{ingot::Status()};
  ingot::Result<ingot::Session> session{ingot::Status()};
};

std::string threads_of(const ingot::Device &device) {
  std::string threads;
  const auto visit = [](void *user, const char *key, const char *value) {
    if (std::string(key) == "threads") *static_cast<std::string *>(user) = value;
  };
  REQUIRE(ingot_device_describe(device.get(), visit, &threads, nullptr) == INGOT_OK);
  return threads;
}

} // namespace

TEST_CASE("an executor's threads help") {
  for (size_t count : {1, 3}) {
    Executor executor(count, uint32_t(count));
    {
      Fixture f(executor.get());
      REQUIRE(f.session.ok());
      CHECK(threads_of(*f.device) == std::to_string(count + 1));
      auto context = f.session->context();
      for (int n = 0; n < 200; ++n) REQUIRE(f.good(*context));
    }
    CHECK(executor.started > 0);
    CHECK(executor.most_waiting <= count);
    executor.stop();
    CHECK(executor.ran == executor.started);
  }
}

TEST_CASE("tasks that are never started stop nobody, and may come when all is over") {
  CountingAllocator counting;
  const ingot_allocator_t a = counting.get();
  Executor executor(0, 3);
  {
    Fixture f(executor.get(), "local-task", &a);
    REQUIRE(f.session.ok());
    auto context = f.session->context();
    for (int n = 0; n < 20; ++n) REQUIRE(f.good(*context));
    CHECK(executor.waiting() <= 3);
    CHECK(executor.waiting() > 0);
  }
  CHECK(counting.live > 0); // what the tasks may still look at
  executor.drain();
  CHECK(counting.live == 0);
  CHECK(!counting.mismatch);
}

TEST_CASE("the only thread of an executor runs models itself") {
  Executor executor(1, 1);
  Fixture f(executor.get());
  REQUIRE(f.session.ok());
  struct Call {
    Fixture *fixture;
    bool good = false;
    std::atomic<bool> done{false};
  } call;
  call.fixture = &f;
  // From inside the thread on which the helpers would have to start.
  executor.get()->start(
      executor.get()->user,
      [](void *argument) {
        Call &c = *static_cast<Call *>(argument);
        auto context = c.fixture->session->context();
        c.good = c.fixture->good(*context) && c.fixture->good(*context);
        c.done = true;
      },
      &call);
  while (!call.done) std::this_thread::yield();
  CHECK(call.good);
}

TEST_CASE("an executor may run tasks at once, on the thread that asks") {
  ingot_executor_t executor = {sizeof executor, nullptr, 2,
                               [](void *, void (*run)(void *), void *argument) { run(argument); }};
  Fixture f(&executor);
  REQUIRE(f.session.ok());
  auto context = f.session->context();
  for (int n = 0; n < 20; ++n) REQUIRE(f.good(*context));
}

TEST_CASE("many contexts share an executor") {
  Executor executor(3, 3);
  {
    Fixture f(executor.get());
    REQUIRE(f.session.ok());
    std::atomic<int> good{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 8; ++t)
      threads.emplace_back([&] {
        auto context = f.session->context();
        for (int n = 0; n < 50; ++n) good += f.good(*context);
      });
    for (std::thread &thread : threads) thread.join();
    CHECK(good == 400);
    CHECK(executor.most_waiting <= 3);
  }
}

TEST_CASE("devices come and go while their tasks are still about") {
  Executor executor(2, 2);
  for (int n = 0; n < 30; ++n) {
    Fixture f(executor.get());
    REQUIRE(f.session.ok());
    auto context = f.session->context();
    REQUIRE(f.good(*context));
  }
  executor.stop();
  CHECK(executor.ran == executor.started);
}

TEST_CASE("options and executors that are wrong are refused") {
  Executor executor(0, 3);
  CHECK(threads_of(*Fixture(executor.get(), "local-task://0?threads=2").device) ==
        "2"); // fewer than the executor has
  CHECK(threads_of(*Fixture(executor.get(), "local-task://0?threads=9").device) == "4"); // not more
  CHECK(threads_of(*Fixture(executor.get(), "local-sync").device) == "1");               // does without
  CHECK(threads_of(*Fixture(nullptr, "local-task://0?threads=2").device) == "2");
  ingot_executor_t wrong = *executor.get();
  wrong.concurrency = 0;
  CHECK(std::string(Fixture(&wrong).device.message()) ==
        "local-task: an executor's concurrency is 0, expected 1 .. 255");
  wrong.concurrency = 256;
  CHECK(contains(Fixture(&wrong).device.message(), "concurrency is 256"));
  wrong = *executor.get();
  wrong.start = nullptr;
  CHECK(contains(Fixture(&wrong).device.message(), "the executor's start is NULL"));
  wrong = *executor.get();
  wrong.struct_size = 8;
  CHECK(contains(Fixture(&wrong).device.message(), "an executor: struct_size is 8, at least"));
  ingot::Instance instance;
  ingot_device_options_t options = {4, nullptr};
  ingot_device_t *device = nullptr;
  ingot_error_t error;
  const char *uri = "local-task";
  CHECK(ingot_device_open_with(instance.get(), &uri, 1, nullptr, &options, &device, &error) ==
        INGOT_INVALID_ARGUMENT);
  CHECK(contains(error.message, "device options: struct_size is 4"));
}
