// Whole models through the public API: the runtime and the driver together.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <climits>
#include <cstring>
#include <memory>
#include <thread>

#include "src/runtime/api/session.h"
#include "tests/conformance/programs.h"
#include "tests/conformance/suite.h"

namespace conformance {
namespace {

using support::tensor;
using Ints = std::vector<int32_t>;
constexpr ingot_element_type_t kI32Type = INGOT_ELEMENT_TYPE_I32;

// An archive prepared on the subject.
struct Model : support::Loaded {
  Model(const Subject &s, const Bytes &bytes, const ingot_allocator_t *allocator = nullptr) : Loaded(bytes, s.uri.c_str(), allocator) {
    if (!session.ok()) failed(__FILE__, __LINE__, error());
  }
  ingot::Context context() {
    auto made = session->context();
    GOOD(made);
    return std::move(*made);
  }
};

ingot::Tensor ints(Ints &values) { return tensor(values, kI32Type, {int64_t(values.size())}); }

// One run of y = f(x).
ingot::Status run(ingot::Context &context, Ints &x, Ints &y, const ingot::RunOptions *options = nullptr) {
  const ingot::Tensor in[] = {ints(x)};
  ingot::Tensor out[] = {ints(y)};
  return context.run(in, out, options);
}

Ints ramp(size_t n, int32_t from = 0) {
  Ints out(n);
  for (size_t i = 0; i < n; ++i) out[i] = from + int32_t(i);
  return out;
}

void expect_line(const Ints &x, const Ints &y) {
  for (size_t i = 0; i < x.size(); ++i) EQUAL(y[i], (x[i] + 10 * int32_t(i)) * 3 - 5);
}

bool works_by_itself(const Subject &s) { return driver_of(s.uri)->finish != nullptr; }
bool own_memory(const Subject &s) { return !driver_of(s.uri)->host_memory; }

// Counts what a driver is asked for: its functions stand between a device and its driver.
struct Counts {
  std::atomic<long> submits{0}, recordings{0}, commands{0}, allocations{0}, transfers{0}, finishes{0};
} counts;
const ingot_driver_t *counted = nullptr;

class Counting {
public:
  explicit Counting(ingot_device_t *device) : device_(device), table_(*device->driver) {
    counted = device->driver;
    table_.submit = [](ingot_driver_stream_t *stream, ingot_driver_recording_t *const *r, uint32_t n, ingot_driver_submit_t *o, ingot_error_t *e) {
      ++counts.submits;
      return counted->submit(stream, r, n, o, e);
    };
    if (counted->finish)
      table_.finish = [](ingot_driver_stream_t *stream, ingot_driver_submit_t *o, ingot_error_t *e) { return ++counts.finishes, counted->finish(stream, o, e); };
    table_.recording_begin = [](ingot_driver_recording_t *r, bool timed) { ++counts.recordings, counted->recording_begin(r, timed); };
    table_.record_dispatch = [](ingot_driver_recording_t *r, const ingot_driver_dispatch_t *d) { ++counts.commands, counted->record_dispatch(r, d); };
    table_.record_copy = [](ingot_driver_recording_t *r, const ingot_driver_span_t *a, const ingot_driver_span_t *b) { ++counts.commands, counted->record_copy(r, a, b); };
    if (!counted->host_memory) {
      table_.allocate = [](ingot_driver_device_t *d, ingot_driver_memory_kind_t k, uint64_t size, ingot_driver_memory_t **out, ingot_error_t *e) {
        return ++counts.allocations, counted->allocate(d, k, size, out, e);
      };
      table_.write = [](ingot_driver_device_t *d, ingot_driver_memory_t *m, uint64_t at, const void *data, size_t n, ingot_error_t *e) {
        return ++counts.transfers, counted->write(d, m, at, data, n, e);
      };
      table_.read = [](ingot_driver_device_t *d, ingot_driver_memory_t *m, uint64_t at, void *data, size_t n, ingot_error_t *e) {
        return ++counts.transfers, counted->read(d, m, at, data, n, e);
      };
    }
    device->driver = &table_;
  }
  ~Counting() { device_->driver = counted; }
  static void clear() { counts.submits = counts.recordings = counts.commands = counts.allocations = counts.transfers = counts.finishes = 0; }

private:
  ingot_device_t *device_;
  ingot_driver_t table_;
};

} // namespace

CASE("copies and fills of a model without kernels", Case::nothing) {
  Model m(s, moves(s.target));
  ingot::Context context = m.context();
  for (int round = 0; round < 3; ++round) {
    Ints x = ramp(40, 1000 * round), a(40), b(40);
    std::vector<int64_t> c(8);
    const ingot::Tensor in[] = {ints(x)};
    ingot::Tensor out[] = {ints(a), ints(b), tensor(c, INGOT_ELEMENT_TYPE_I64, {8})};
    GOOD(context.run(in, out));
    EXPECT(a == x);
    for (const int64_t v : c) EQUAL(v, 0x0102030405060708);
    Ints want(40, 0x01020304);
    std::memcpy(reinterpret_cast<char *>(want.data()) + 4, reinterpret_cast<char *>(x.data()) + 12, 7);
    EXPECT(b == want);
  }
}

CASE("every kind of binding in one dispatch", Case::kernels) {
  Model m(s, bindings(s.target));
  ingot::Context context = m.context();
  for (int round = 1; round <= 4; ++round) {
    Ints x = ramp(64, 7 * round), y(64);
    GOOD(run(context, x, y));
    for (int i = 0; i < 64; ++i) EQUAL(y[size_t(i)], bindings_expected(i, x[size_t(i)], round));
  }
}

CASE("many parameters, negative and large", Case::kernels) {
  const std::vector<std::vector<int64_t>> lists = {
      {1, -1, 2, -2, 3, -3, INT32_MAX, INT32_MIN, 0, -1, 1000000, -1000000, 65536, -65536, 7, -7},
      {INT32_MIN, INT32_MIN, INT32_MIN, INT32_MIN, INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX, -1, -1, -1, -1, 1, 1, 1, 1}};
  for (const std::vector<int64_t> &params : lists) {
    Model m(s, many_params(s.target, params));
    ingot::Context context = m.context();
    int64_t want = 0;
    for (uint32_t i = 0; i < kManyParams; ++i) want += params[i] * (i + 1);
    Ints y(1);
    ingot::Tensor out[] = {ints(y)};
    GOOD(context.run({}, out));
    EQUAL(y[0], int32_t(uint64_t(want)));
  }
}

CASE("a parameter of more than 32 bits is whole, or refused", Case::kernels) {
  Model m(s, wide_param(s.target, (int64_t(200) << 32) + 3));
  ingot::Context context = m.context();
  Ints y(1);
  ingot::Tensor out[] = {ints(y)};
  const ingot::Status status = context.run({}, out);
  if (s.wide_params) GOOD(status);
  if (s.wide_params) EQUAL(y[0], 200);
  else EQUAL(status.code(), INGOT_OUT_OF_RANGE);
}

CASE("grids of three dimensions", Case::kernels) {
  for (const auto &[x, y, z] : std::vector<std::array<uint32_t, 3>>{{1, 1, 1}, {5, 4, 3}, {1, 1, 40}, {1, 40, 1}, {17, 1, 2}}) {
    Model m(s, grid(s.target, x, y, z));
    ingot::Context context = m.context();
    Ints got(size_t(x) * y * z);
    ingot::Tensor out[] = {tensor(got, kI32Type, {z, y, x})};
    GOOD(context.run({}, out));
    for (uint32_t k = 0; k < got.size(); ++k) EQUAL(got[k], k % x + 100 * (k / x % y) + 10000 * (k / x / y));
  }
}

CASE("decisions of the host: if, both loops, subroutine, check", Case::kernels) {
  Model m(s, control(s.target));
  ingot::Context context = m.context();
  for (const int32_t x : {0, 1, 2, 7, 3, -1, 5, -3, 12, 12}) {
    int32_t y = -1;
    const ingot::Tensor in[] = {ingot::view(x)};
    ingot::Tensor out[] = {ingot::view(y)};
    const ingot::Status status = context.run(in, out);
    if (x < 0) {
      EQUAL(status.code(), INGOT_CHECK_FAILED);
      EXPECT(support::contains(status.message(), "must not be negative"));
    } else {
      GOOD(status);
      EQUAL(y, control_expected(x));
    }
  }
}

CASE("scalars of every type are read", Case::kernels) {
  const auto one = [&](ingot_element_type_t type, auto value, int64_t want) {
    Model m(s, scalar(s.target, type));
    ingot::Context context = m.context();
    for (int round = 0; round < 2; ++round) {
      int32_t y = -5;
      const int64_t dims[] = {1};
      const ingot::Tensor in[] = {ingot::view(&value, sizeof value, type, {dims, 1})};
      ingot::Tensor out[] = {ingot::view(&y, 4, kI32Type, {dims, 1})};
      const ingot::Status status = context.run(in, out);
      if (want == INT64_MIN) EQUAL(status.code(), INGOT_OUT_OF_RANGE);
      else GOOD(status);
      if (want != INT64_MIN) EQUAL(y, want);
    }
  };
  one(INGOT_ELEMENT_TYPE_BOOL, uint8_t(1), 1);
  one(INGOT_ELEMENT_TYPE_BOOL, uint8_t(0), 0);
  one(INGOT_ELEMENT_TYPE_I8, int8_t(-100), -100);
  one(INGOT_ELEMENT_TYPE_U8, uint8_t(200), 200);
  one(INGOT_ELEMENT_TYPE_I16, int16_t(-30000), -30000);
  one(INGOT_ELEMENT_TYPE_U16, uint16_t(60000), 60000);
  one(INGOT_ELEMENT_TYPE_I32, int32_t(-999999), -999999);
  one(INGOT_ELEMENT_TYPE_U32, uint32_t(2000000000), 2000000000);
  one(INGOT_ELEMENT_TYPE_I64, int64_t(-77), -77);
  one(INGOT_ELEMENT_TYPE_I64, int64_t(-2000000), INT64_MIN); // outside the symbol's range
  one(INGOT_ELEMENT_TYPE_U64, uint64_t(123456789), 123456789);
  one(INGOT_ELEMENT_TYPE_U64, UINT64_MAX, INT64_MIN);
}

CASE("state is kept, separate and reset", Case::kernels) {
  Model m(s, counter(s.target));
  ingot::Context a = m.context(), b = m.context();
  const auto next = [](ingot::Context &context) {
    Ints y(1, -1);
    ingot::Tensor out[] = {ints(y)};
    GOOD(context.run({}, out));
    return y[0];
  };
  for (int i = 1; i <= 5; ++i) EQUAL(next(a), i);
  EQUAL(next(b), 1);
  EQUAL(next(a), 6);
  GOOD(a.reset_state());
  EQUAL(next(a), 1);
  EQUAL(next(b), 2);
  ingot::Context c = m.context(); // memory of a context that is gone may come back: it is zero again
  EQUAL(next(c), 1);

  Bytes kept(size_t(a.memory().state_bytes));
  GOOD(b.read_state(kept)); // 2
  EQUAL(next(b), 3);
  GOOD(a.write_state(kept));
  EQUAL(next(a), 3);
  GOOD(b.write_state(kept));
  EQUAL(next(b), 3);
  EQUAL(a.read_state({kept.data(), kept.size() - 1}).code(), INGOT_INVALID_ARGUMENT);
  EQUAL(a.write_state({nullptr, kept.size()}).code(), INGOT_INVALID_ARGUMENT);
  EQUAL(next(a), 4);
}

CASE("timelines order runs", Case::kernels) {
  Model m(s, line(s.target));
  ingot::Context a = m.context(), b = m.context();
  auto start = m.device->semaphore(), first = m.device->semaphore(3), second = m.device->semaphore();
  GOOD(start);
  Ints x = ramp(64), middle(64), y(64);
  const ingot::Tensor in_a[] = {ints(x)}, in_b[] = {ints(middle)};
  ingot::Tensor out_a[] = {ints(middle)}, out_b[] = {ints(y)};
  const ingot::SemaphoreValue wait_a[] = {start->at(1)}, signal_a[] = {first->at(4)}, wait_b[] = {first->at(4), start->at(1)}, signal_b[] = {second->at(10)};
  if (!works_by_itself(s)) GOOD(start->signal(1)); // those wait on the thread that submits
  else GOOD(b.submit(in_b, out_b, wait_b, signal_b)); // the later one first
  GOOD(a.submit(in_a, out_a, wait_a, signal_a));
  if (works_by_itself(s)) {
    EQUAL(first->wait(4, 20'000'000).code(), INGOT_DEADLINE_EXCEEDED);
    EQUAL(*first->query(), 3u);
    GOOD(start->signal(1));
  } else {
    GOOD(b.submit(in_b, out_b, wait_b, signal_b));
  }
  GOOD(second->wait(10));
  expect_line(x, middle);
  expect_line(middle, y);
  EQUAL(*second->query(), 10u);
}

CASE("a failure travels through semaphores", Case::kernels) {
  Model m(s, refuse(s.target)), n(s, line(s.target));
  ingot::Context a = m.context(), b = n.context();
  auto first = m.device->semaphore(), second = n.device->semaphore();
  Ints bad(64, 1), x(64), y(64, -9);
  bad[63] = -1;
  const ingot::Tensor in_a[] = {ints(bad)}, in_b[] = {ints(x)};
  ingot::Tensor out_a[] = {ints(x)}, out_b[] = {ints(y)};
  const ingot::SemaphoreValue signal_a[] = {first->at(1)}, wait_b[] = {first->at(1)}, signal_b[] = {second->at(1)};
  const ingot::Status submitted = a.submit(in_a, out_a, {}, signal_a);
  EQUAL(submitted.code(), works_by_itself(s) ? INGOT_OK : INGOT_KERNEL_ERROR);
  (void)b.submit(in_b, out_b, wait_b, signal_b).code();
  const ingot::Status status = second->wait(1);
  EQUAL(status.code(), INGOT_KERNEL_ERROR);
  EXPECT(support::contains(status.message(), "model/refuse"));
  EXPECT(y == Ints(64, -9));
  x = ramp(64); // both contexts go on
  GOOD(run(b, x, y));
  expect_line(x, y);
}

CASE("a semaphore of another device", Case::kernels) {
  Model m(s, line(s.target));
  support::Loaded other(line("llvm-cpu"), "local-sync");
  auto there = other.device->semaphore(), here = m.device->semaphore();
  auto context = other.session->context();
  ingot::Context mine = m.context();
  Ints x = ramp(64), middle(64), y(64);
  const ingot::Tensor in[] = {ints(x)}, in_mine[] = {ints(middle)};
  ingot::Tensor out[] = {ints(middle)}, out_mine[] = {ints(y)};
  const ingot::SemaphoreValue signal[] = {there->at(1)}, wait[] = {there->at(1)}, done[] = {here->at(1)};
  if (works_by_itself(s)) GOOD(mine.submit(in_mine, out_mine, wait, done));
  GOOD(context->submit(in, out, {}, signal));
  if (!works_by_itself(s)) GOOD(mine.submit(in_mine, out_mine, wait, done));
  GOOD(here->wait(1));
  expect_line(middle, y);
}

CASE("submitted runs: many in a row, cancelled while waiting, and never more than one", Case::kernels) {
  if (!works_by_itself(s)) return;
  Ints x(1), y(1); // they outlive the model, whose last run is not waited for
  const ingot::Tensor in[] = {ints(x)};
  ingot::Tensor out[] = {ints(y)};
  Model m(s, chain(s.target, 3));
  ingot::Context context = m.context();
  auto done = m.device->semaphore(), never = m.device->semaphore(), failed_one = m.device->semaphore();
  for (uint64_t i = 1; i <= 50; ++i) {
    x[0] = int32_t(i);
    const ingot::SemaphoreValue signals[] = {done->at(i)};
    GOOD(context.submit(in, out, {}, signals));
    GOOD(done->wait(i));
    EQUAL(y[0], x[0] + 6);
  }
  const ingot::SemaphoreValue waits[] = {never->at(1)}, signals[] = {failed_one->at(1)};
  GOOD(context.submit(in, out, waits, signals));
  EQUAL(run(context, x, y).code(), INGOT_BUSY);
  EQUAL(context.reset_state().code(), INGOT_BUSY);
  context.cancel();
  EQUAL(failed_one->wait(1).code(), INGOT_CANCELLED);
  GOOD(run(context, x, y));
  ingot_run_options_t small = {};
  small.struct_size = 4;
  EQUAL(context.submit(in, out, {}, {}, &small).code(), INGOT_INVALID_ARGUMENT);
  GOOD(run(context, x, y));
  const ingot::SemaphoreValue last[] = {done->at(51)};
  GOOD(m.session->submit(in, out, {}, last)); // left running: the session waits for it
}

CASE("a kernel's error names its node, and the next run is clean", Case::kernels) {
  Model m(s, refuse(s.target));
  ingot::Context context = m.context();
  for (int round = 0; round < 3; ++round) {
    Ints x = ramp(100), y(100);
    x[50] = -1;
    const ingot::Status status = run(context, x, y);
    EQUAL(status.code(), INGOT_KERNEL_ERROR);
    if (!support::contains(status.message(), "node 'model/refuse' (Test): a value is negative")) failed(__FILE__, __LINE__, status.message());
    x[50] = 1;
    GOOD(run(context, x, y));
    EXPECT(y == x);
  }
}

CASE("threads with a context each", Case::kernels) {
  Model m(s, bindings(s.target));
  std::vector<std::string> problems(8);
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&, i] {
      try {
        ingot::Context context = m.context();
        for (int round = 1; round <= 12; ++round) {
          Ints x = ramp(64, 100 * i + round), y(64);
          GOOD(run(context, x, y));
          for (int k = 0; k < 64; ++k) EQUAL(y[size_t(k)], bindings_expected(k, x[size_t(k)], round));
        }
      } catch (const Failed &f) {
        problems[size_t(i)] = f.what;
      }
    });
  for (std::thread &t : threads) t.join();
  for (const std::string &p : problems)
    if (!p.empty()) throw Failed{p};
}

CASE("many contexts of one session", Case::kernels) {
  Model m(s, counter(s.target));
  std::vector<ingot::Context> contexts;
  for (int i = 0; i < 40; ++i) contexts.push_back(m.context());
  for (int round = 1; round <= 2; ++round)
    for (ingot::Context &context : contexts) {
      Ints y(1);
      ingot::Tensor out[] = {ints(y)};
      GOOD(context.run({}, out));
      EQUAL(y[0], round);
    }
}

CASE("inputs and outputs in buffers, at any offset", Case::kernels) {
  Model m(s, line(s.target));
  ingot::Context context = m.context();
  const int64_t dims[] = {64};
  const Ints x = ramp(64, 5);
  Ints y(64);
  const auto check = [&](const Ints &from) {
    expect_line(from, y);
    std::fill(y.begin(), y.end(), -1);
  };
  auto in = m.device->allocate(4096), out = m.device->allocate(4096);
  GOOD(in);
  GOOD(out);
  for (const size_t offset : {size_t(0), size_t(256), size_t(4), size_t(12), size_t(1028), size_t(3), size_t(3840)}) { // each other than before
    Ints here = ramp(64, int32_t(offset));
    GOOD(in->write(offset, here.data(), 256));
    const ingot::Tensor inputs[] = {in->view(kI32Type, {dims, 1}, offset)};
    ingot::Tensor outputs[] = {out->view(kI32Type, {dims, 1}, offset)};
    GOOD(context.run(inputs, outputs));
    GOOD(out->read(offset, y.data(), 256));
    check(here);
    Ints host = ramp(64, -3); // between buffer and host memory
    const ingot::Tensor mixed[] = {ints(host)};
    ingot::Tensor plain[] = {ints(y)};
    GOOD(context.run(mixed, outputs));
    GOOD(out->read(offset, y.data(), 256));
    check(host);
    GOOD(context.run(inputs, plain));
    check(here);
    GOOD(context.run(mixed, plain));
    check(host);
  }
  const ingot::Tensor late[] = {in->view(kI32Type, {dims, 1}, 3844)};
  ingot::Tensor outputs[] = {out->view(kI32Type, {dims, 1})};
  EQUAL(context.run(late, outputs).code(), INGOT_OUT_OF_RANGE);
}

CASE("a buffer that takes the place of another", Case::kernels) {
  Model m(s, line(s.target));
  ingot::Context context = m.context();
  const int64_t dims[] = {64};
  for (int round = 0; round < 8; ++round) { // the handle, or the memory behind it, may be the same as before
    auto in = m.device->allocate(256 + 256 * size_t(round % 3)), out = m.device->allocate(256);
    Ints x = ramp(64, round), y(64);
    GOOD(in->write(0, x.data(), 256));
    const ingot::Tensor inputs[] = {in->view(kI32Type, {dims, 1})};
    ingot::Tensor outputs[] = {out->view(kI32Type, {dims, 1})};
    GOOD(context.run(inputs, outputs));
    GOOD(out->read(0, y.data(), 256));
    expect_line(x, y);
  }
}

CASE("a buffer between two runs, and one of another device", Case::kernels) {
  Model m(s, line(s.target));
  ingot::Context context = m.context();
  const int64_t dims[] = {64};
  auto middle = m.device->allocate(256);
  Ints x = ramp(64), first(64), y(64);
  const ingot::Tensor in[] = {ints(x)}, from[] = {middle->view(kI32Type, {dims, 1})};
  ingot::Tensor to[] = {middle->view(kI32Type, {dims, 1})}, out[] = {ints(y)};
  GOOD(context.run(in, to));
  GOOD(context.run(from, out));
  GOOD(middle->read(0, first.data(), 256));
  expect_line(x, first);
  expect_line(first, y);
  support::Loaded other(line("llvm-cpu"), "local-sync");
  auto theirs = other.device->allocate(256);
  GOOD(theirs->write(0, x.data(), 256));
  const ingot::Tensor host[] = {theirs->view(kI32Type, {dims, 1})};
  GOOD(context.run(host, out));
  expect_line(x, y);
  auto their_context = other.session->context();
  const ingot::Status status = their_context->run(from, out); // of this device, on the other
  if (!own_memory(s)) GOOD(status);
  else if (!status.ok()) EQUAL(status.code(), INGOT_INVALID_ARGUMENT);
  if (status.ok()) expect_line(first, y);
}

CASE("buffers are bounded, and imported where the driver can", Case::nothing) {
  Model m(s, moves(s.target));
  auto buffer = m.device->allocate(1000), empty = m.device->allocate(0);
  GOOD(empty);
  alignas(4096) static uint8_t bytes[1000];
  for (int i = 0; i < 1000; ++i) bytes[i] = uint8_t(i * 7);
  GOOD(buffer->write(0, bytes, 1000));
  uint8_t got[10] = {};
  GOOD(buffer->read(501, got, 10));
  EXPECT(std::memcmp(got, bytes + 501, 10) == 0);
  EQUAL(buffer->write(991, bytes, 10).code(), INGOT_OUT_OF_RANGE);
  EQUAL(buffer->read(1001, got, 0).code(), INGOT_OUT_OF_RANGE);
  GOOD(empty->read(0, got, 0));
  auto imported = m.device->import(bytes, sizeof bytes);
  if (own_memory(s) && !driver_of(s.uri)->import) EQUAL(imported.status().code(), INGOT_UNIMPLEMENTED);
  else GOOD(imported);
}

CASE("host memory that is imported is used where it is", Case::kernels) {
  if (own_memory(s) && !driver_of(s.uri)->import) return;
  Model m(s, line(s.target));
  const Counting counting(m.device->get());
  ingot::Context context = m.context();
  const int64_t dims[] = {64};
  for (const size_t offset : {size_t(0), size_t(1024), size_t(4096 + 256)}) {
    alignas(4096) static uint8_t from[8192], to[8192]; // the pages before and behind belong to others
    std::memset(to, 0xee, sizeof to);
    Ints x = ramp(64, int32_t(offset)), y(64);
    std::memcpy(from + offset, x.data(), 256);
    auto in = m.device->import(from + offset, 256), out = m.device->import(to + offset, 512);
    GOOD(in);
    GOOD(out);
    const ingot::Tensor inputs[] = {in->view(kI32Type, {dims, 1})};
    ingot::Tensor outputs[] = {out->view(kI32Type, {dims, 1}, 256)};
    Counting::clear();
    GOOD(context.run(inputs, outputs));
    EQUAL(counts.transfers.load() + counts.allocations.load(), 0);
    std::memcpy(y.data(), to + offset + 256, 256);
    expect_line(x, y);
    for (size_t i = 0; i < sizeof to; ++i)
      if (i < offset + 256 || i >= offset + 512) EQUAL(int(to[i]), 0xee);
    x = ramp(64, 77); // what the host writes there is there
    std::memcpy(from + offset, x.data(), 256);
    GOOD(context.run(inputs, outputs));
    GOOD(out->read(256, y.data(), 256));
    expect_line(x, y);
  }
  uint8_t odd[64];
  auto unaligned = m.device->import(odd + (uintptr_t(odd) % 2 == 0), 33); // refused with the reason, or good
  if (!unaligned.ok()) EQUAL(unaligned.status().code(), INGOT_UNIMPLEMENTED);
}

CASE("tensors anywhere in host memory, new ones every run", Case::kernels) {
  Model m(s, line(s.target));
  ingot::Context context = m.context();
  for (size_t round = 0; round < 12; ++round) {
    std::vector<uint8_t> from(256 + 64), to(256 + 64);
    const Ints x = ramp(64, int32_t(round));
    Ints y(64);
    std::memcpy(from.data() + round % 5, x.data(), 256);
    const int64_t dims[] = {64};
    const ingot::Tensor in[] = {ingot::view(from.data() + round % 5, 256, kI32Type, {dims, 1})};
    ingot::Tensor out[] = {ingot::view(to.data() + round * 3 % 64, 256, kI32Type, {dims, 1})};
    GOOD(context.run(in, out));
    std::memcpy(y.data(), to.data() + round * 3 % 64, 256);
    expect_line(x, y);
  }
}

CASE("dims that change, and tensors without elements", Case::kernels) {
  Model m(s, free_dims(s.target));
  ingot::Context context = m.context();
  for (const size_t n : {size_t(5), size_t(0), size_t(1000), size_t(1), size_t(0), size_t(20000), size_t(3), size_t(65), size_t(1000)}) {
    Ints x = ramp(n, 9), y(n + 2, -1);
    const ingot::Tensor in[] = {ints(x)};
    ingot::Tensor out[] = {tensor(y.data(), 4 * n, kI32Type, {int64_t(n)})};
    if (n == 0) out[0].data = nullptr;
    GOOD(context.run(in, out));
    for (size_t i = 0; i < n; ++i) EQUAL(y[i], 2 * x[i] + 1);
    EQUAL(y[n], -1);
  }
}

CASE("output sizes that depend on data", Case::kernels) {
  Model m(s, nonzero(s.target));
  ingot::Context context = m.context();
  for (const size_t n : {size_t(10), size_t(0), size_t(3000), size_t(10), size_t(500)})
    for (const int32_t step : {1, 3, 100000}) {
      Ints x(n), want, y(n + 1, -1);
      for (size_t i = 0; i < n; ++i) {
        x[i] = i % size_t(step) == 1 % size_t(step) ? 5 : 0;
        if (x[i]) want.push_back(int32_t(i));
      }
      const ingot::Tensor in[] = {ints(x)};
      ingot::Tensor out[] = {tensor(y.data(), 4 * n, kI32Type, {-1})};
      GOOD(context.run(in, out));
      EQUAL(out[0].dims[0], int64_t(want.size()));
      for (size_t i = 0; i < want.size(); ++i) EQUAL(y[i], want[i]);
      EQUAL(y[n], -1);
      if (want.empty()) continue;
      out[0] = tensor(y.data(), 4 * (want.size() - 1), kI32Type, {-1}); // one too few
      EQUAL(context.run(in, out).code(), INGOT_OUT_OF_RANGE);
      EQUAL(out[0].dims[0], int64_t(want.size()));
    }
}

CASE("a deadline, then the next run", Case::kernels) {
  Model m(s, spin(s.target, s.spin, s.groups, 4));
  ingot::Context context = m.context();
  ingot::RunOptions hurry = {sizeof(ingot::RunOptions), 1'000'000, nullptr, nullptr};
  Ints x(s.groups, 1), y(s.groups, -1);
  for (int round = 0; round < 2; ++round) {
    std::fill(x.begin(), x.end(), round);
    EQUAL(run(context, x, y, &hurry).code(), INGOT_DEADLINE_EXCEEDED);
    EQUAL(run(context, x, y, &hurry).code(), INGOT_DEADLINE_EXCEEDED); // perhaps still waiting for the one before
    Ints other(s.groups, round + 10);
    GOOD(run(context, other, y));
    EXPECT(y == Ints(s.groups, spun(round + 10, 4 * s.spin))); // each spin goes on from the one before
  }
  EQUAL(run(context, x, y, &hurry).code(), INGOT_DEADLINE_EXCEEDED);
  GOOD(context.reset_state());
  EQUAL(run(context, x, y, &hurry).code(), INGOT_DEADLINE_EXCEEDED);
} // the context goes while its run may still be under way

CASE("cancelled by another thread, then the next run", Case::kernels) {
  Model m(s, spin(s.target, s.spin, s.groups, 40));
  ingot::Context context = m.context();
  Ints x(s.groups, 1), y(s.groups, -1);
  std::atomic<bool> ended{false};
  std::thread other([&] {
    while (!ended) { // a cancel before the run has begun is forgotten
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      context.cancel();
    }
  });
  const ingot::Status status = run(context, x, y);
  ended = true;
  other.join();
  EQUAL(status.code(), INGOT_CANCELLED);
  Model small(s, line(s.target)); // the device is not stuck
  ingot::Context next = small.context();
  Ints a = ramp(64), b(64);
  GOOD(run(next, a, b));
  expect_line(a, b);
}

CASE("a buffer of a run that was given up may be released", Case::kernels) {
  Model m(s, spin(s.target, s.spin, s.groups, 2));
  ingot::Context context = m.context();
  ingot::RunOptions hurry = {sizeof(ingot::RunOptions), 1'000'000, nullptr, nullptr};
  const int64_t dims[] = {s.groups};
  const Ints four(s.groups, 4);
  {
    auto in = m.device->allocate(4 * s.groups), out = m.device->allocate(4 * s.groups);
    GOOD(in->write(0, four.data(), 4 * s.groups));
    const ingot::Tensor inputs[] = {in->view(kI32Type, {dims, 1})};
    ingot::Tensor outputs[] = {out->view(kI32Type, {dims, 1})};
    EQUAL(context.run(inputs, outputs, &hurry).code(), INGOT_DEADLINE_EXCEEDED);
  }
  Ints x(s.groups, 5), y(s.groups);
  GOOD(run(context, x, y));
  EXPECT(y == Ints(s.groups, spun(5, 2 * s.spin)));
}

CASE("a loop of the host is cut off", Case::kernels) {
  Model m(s, looped(s.target, s.spin / 50, s.groups));
  ingot::Context context = m.context();
  Ints x(s.groups, 3), trips = {500000}, y(s.groups);
  const ingot::Tensor in[] = {ints(x), ints(trips)};
  ingot::Tensor out[] = {ints(y)};
  ingot::RunOptions hurry = {sizeof(ingot::RunOptions), 20'000'000, nullptr, nullptr};
  EQUAL(context.run(in, out, &hurry).code(), INGOT_DEADLINE_EXCEEDED);
  trips[0] = 3;
  GOOD(context.run(in, out));
  EXPECT(y == Ints(s.groups, spun(3, 3 * (s.spin / 50))));
}

CASE("a profile has every dispatch", Case::kernels) {
  Model m(s, chain(s.target, 9));
  ingot::Context context = m.context();
  std::vector<ingot_dispatch_event_t> events;
  ingot::RunOptions options = {sizeof(ingot::RunOptions), 0,
                               [](void *user, const ingot_dispatch_event_t *e) { static_cast<std::vector<ingot_dispatch_event_t> *>(user)->push_back(*e); }, &events};
  Ints x = {1}, y = {0};
  for (int round = 0; round < 3; ++round) {
    events.clear();
    GOOD(run(context, x, y, round == 1 ? nullptr : &options)); // with, without, with
    EQUAL(y[0], 46);
    EQUAL(events.size(), round == 1 ? 0u : 9u);
    for (size_t i = 0; i < events.size(); ++i) {
      EQUAL(events[i].kernel, uint32_t(kBump));
      EQUAL(events[i].site, i);
      EQUAL(events[i].flops, 100);
      EXPECT(events[i].start_ns <= events[i].end_ns);
    }
  }
}

CASE("a profiled run is late, then the next one", Case::kernels) {
  Model m(s, spin(s.target, s.spin, s.groups, 4));
  ingot::Context context = m.context();
  long events = 0;
  ingot::RunOptions options = {sizeof(ingot::RunOptions), 1'000'000, [](void *user, const ingot_dispatch_event_t *) { ++*static_cast<long *>(user); }, &events};
  Ints x(s.groups, 1), y(s.groups, -1);
  for (int round = 0; round < 2; ++round) {
    events = 0;
    EQUAL(run(context, x, y, &options).code(), INGOT_DEADLINE_EXCEEDED);
    EXPECT(events < 4);
  }
  events = 0;
  options.timeout_ns = 0;
  Ints other(s.groups, 10);
  GOOD(run(context, other, y, &options));
  EQUAL(events, 4);
  EXPECT(y == Ints(s.groups, spun(10, 4 * s.spin)));
}

CASE("a context is released while its run waits for what never comes", Case::kernels) {
  if (!works_by_itself(s)) return;
  Ints x(1, 7), y(1, -1);
  const ingot::Tensor in[] = {ints(x)};
  ingot::Tensor out[] = {ints(y)};
  Model m(s, chain(s.target, 3));
  auto never = m.device->semaphore(), reached = m.device->semaphore(5), cancelled = m.device->semaphore(), done = m.device->semaphore();
  const ingot::SemaphoreValue waits[] = {reached->at(5), never->at(1)}, signals[] = {cancelled->at(1)}, no_waits[] = {reached->at(5)}, finished[] = {done->at(1)};
  {
    ingot::Context context = m.context(), ready = m.context();
    GOOD(context.submit(in, out, waits, signals));
    GOOD(ready.submit(in, out, no_waits, finished)); // what has nothing to wait for runs to its end
  }
  EQUAL(cancelled->wait(1).code(), INGOT_CANCELLED);
  EXPECT(support::contains(cancelled->wait(1).message(), "released"));
  GOOD(done->wait(1));
  EQUAL(y[0], 13);
  auto again = m.device->semaphore();
  const ingot::SemaphoreValue last[] = {again->at(1)};
  GOOD(m.session->submit(in, out, waits, last)); // and with its session, whose context it is
  m.session = ingot::Result<ingot::Session>(ingot::Status());
  EQUAL(again->wait(1).code(), INGOT_CANCELLED);
}

CASE("fixed dims: one submission, nothing recorded, nothing allocated", Case::kernels) {
  support::CountingAllocator counter;
  const ingot_allocator_t allocator = counter.get();
  Model m(s, line(s.target), &allocator);
  const Counting counting(m.device->get());
  ingot::Context context = m.context();
  Ints x = ramp(64), y(64);
  GOOD(run(context, x, y)); // records
  Counting::clear();
  const long calls = counter.calls;
  for (int round = 0; round < 10; ++round) {
    x[0] = round;
    GOOD(run(context, x, y));
    expect_line(x, y);
  }
  EQUAL(counter.calls, calls);
  EQUAL(counts.submits.load(), 10);
  EQUAL(counts.finishes.load(), works_by_itself(s) ? 10 : 0);
  EQUAL(counts.recordings.load() + counts.commands.load() + counts.allocations.load() + counts.transfers.load(), 0);
}

namespace {

void out_of_memory(const Subject &s, const Bytes &bytes) {
  long total = 0;
  for (long at = -1; at < total || at == -1; at += at < 40 ? 1 : 7) { // all of the first ones, then some
    support::CountingAllocator counter;
    counter.fail_at = at;
    const ingot_allocator_t allocator = counter.get();
    {
      support::Loaded l(bytes, s.uri.c_str(), &allocator);
      if (l.session.ok()) {
        auto context = l.session->context();
        if (context.ok()) {
          Ints x = ramp(64), y(64);
          const ingot::Status status = run(*context, x, y);
          if (at == -1) GOOD(status);
          if (!status.ok()) EQUAL(status.code(), INGOT_OUT_OF_MEMORY);
        } else {
          EQUAL(context.status().code(), INGOT_OUT_OF_MEMORY);
        }
      } else if (l.device.ok() && l.archive.ok()) {
        if (l.session.status().code() != INGOT_OUT_OF_MEMORY) failed(__FILE__, __LINE__, l.session.message());
      }
    }
    EQUAL(counter.live, 0);
    EXPECT(!counter.mismatch);
    if (at == -1) total = counter.calls;
  }
  EXPECT(total > 10);
}

} // namespace

CASE("out of memory at every allocation", Case::kernels) {
  out_of_memory(s, bindings(s.target));
  out_of_memory(s, prepared(s.target));
}

CASE("what is prepared once is there for every context, and its sources are not", Case::kernels) {
  static thread_local std::vector<std::pair<ingot_driver_memory_t *, uint64_t>> live; // memory of the device
  static thread_local int released; // allocations of the sources' size
  support::Loaded l(prepared(s.target), s.uri.c_str());
  GOOD(l.device);
  ingot_device_t *device = l.device->get();
  const ingot_driver_t *driver = device->driver;
  ingot_driver_t table = *driver;
  if (driver->allocate) {
    counted = driver;
    live.clear();
    released = 0;
    table.allocate = [](ingot_driver_device_t *d, ingot_driver_memory_kind_t k, uint64_t size, ingot_driver_memory_t **out, ingot_error_t *e) {
      const ingot_code_t code = counted->allocate(d, k, size, out, e);
      if (code == INGOT_OK) live.push_back({*out, size});
      return code;
    };
    table.release = [](ingot_driver_device_t *d, ingot_driver_memory_t *memory) {
      const auto found = std::find_if(live.begin(), live.end(), [&](const auto &m) { return m.first == memory; });
      released += found->second == 512;
      live.erase(found);
      counted->release(d, memory);
    };
    device->driver = &table;
  }
  auto session = l.device->prepare(*l.archive);
  GOOD(session);
  if (driver->allocate) {
    ingot_archive_t *archive = l.archive->get();
    ingot_function_info_t info;
    EQUAL(ingot_archive_function(archive, ingot_session_variant(session->get()), 1, &info), INGOT_OK);
    EQUAL(info.dispatch_count, 3);
    EQUAL(released, 1); // the constant and the splat lie in one allocation
  }
  for (int i = 0; i < 2; ++i) {
    auto context = session->context();
    GOOD(context);
    for (int round = 0; round < 2; ++round) {
      Ints x = ramp(64, 7 * round + i), y(64);
      GOOD(run(*context, x, y));
      for (int k = 0; k < 64; ++k) EQUAL(y[size_t(k)], prepared_expected(k, x[size_t(k)]));
    }
  }
  session = l.device->prepare(*l.archive); // the other one is gone first or later, as it comes
  GOOD(session);
  Ints x = ramp(64), y(64);
  auto context = session->context();
  GOOD(context);
  GOOD(run(*context, x, y));
  EQUAL(y[63], prepared_expected(63, x[63]));
  context = ingot::Result<ingot::Context>(ingot::Status());
  device->driver = driver;
}

CASE("the driver is out of memory at every allocation", Case::kernels | Case::own_memory) {
  static thread_local long left;
  support::Loaded first(bindings(s.target), s.uri.c_str());
  GOOD(first.device);
  ingot_device_t *device = first.device->get();
  const ingot_driver_t *driver = device->driver;
  counted = driver;
  ingot_driver_t table = *driver;
  table.allocate = [](ingot_driver_device_t *d, ingot_driver_memory_kind_t k, uint64_t size, ingot_driver_memory_t **out, ingot_error_t *e) {
    if (left-- == 0) return ingot::fail(e, INGOT_OUT_OF_MEMORY, "planned");
    return counted->allocate(d, k, size, out, e);
  };
  device->driver = &table;
  int whole = 0;
  for (long at = 0; at < 20; ++at) {
    left = at;
    auto session = first.device->prepare(*first.archive);
    if (!session.ok()) {
      EQUAL(session.status().code(), INGOT_OUT_OF_MEMORY);
      continue;
    }
    auto context = session->context();
    GOOD(context);
    Ints x = ramp(64), y(64);
    const int64_t dims[] = {64};
    const ingot::Status status = run(*context, x, y);
    if (!status.ok()) EQUAL(status.code(), INGOT_OUT_OF_MEMORY);
    else ++whole;
    left = LONG_MAX;
    GOOD(run(*context, x, y)); // it recovers
    for (int i = 0; i < 64; ++i) EQUAL(y[size_t(i)], bindings_expected(i, x[size_t(i)], status.ok() ? 2 : 1));
    (void)dims;
  }
  device->driver = driver;
  EXPECT(whole > 0);
}

CASE("growing fails, and works again later", Case::kernels | Case::own_memory) {
  Model m(s, free_dims(s.target));
  ingot::Context context = m.context();
  ingot_device_t *device = m.device->get();
  const uint64_t most = device->properties.max_allocation;
  Ints x = ramp(100), y(100);
  GOOD(run(context, x, y));
  device->properties.max_allocation = 2000;
  Ints large = ramp(1000), large_y(1000);
  EQUAL(run(context, large, large_y).code(), INGOT_OUT_OF_MEMORY);
  GOOD(run(context, x, y));
  EQUAL(y[99], 199);
  EQUAL(m.device->allocate(2001).status().code(), INGOT_OUT_OF_MEMORY);
  GOOD(m.device->allocate(2000));
  device->properties.max_allocation = most;
  GOOD(run(context, large, large_y));
  EQUAL(large_y[999], 1999);
}

CASE("constants are spread over allocations", Case::kernels | Case::own_memory) {
  Model m(s, line(s.target));
  ingot_device_t *device = m.device->get();
  const uint64_t most = device->properties.max_allocation;
  device->properties.max_allocation = 1024;
  const Bytes bytes = weights(s.target, 5, 100);
  auto archive = ingot::Archive::open(bytes.data(), bytes.size());
  auto session = m.device->prepare(*archive);
  GOOD(session);
  auto context = session->context();
  GOOD(context);
  Ints y(100);
  ingot::Tensor out[] = {ints(y)};
  GOOD(context->run({}, out));
  for (int i = 0; i < 100; ++i) EQUAL(y[size_t(i)], 5 * 31 * i + 10000);
  device->properties.max_allocation = most;
}

CASE("a caller who has more memory than the output needs", Case::kernels | Case::own_memory) {
  Model m(s, line(s.target));
  const Counting counting(m.device->get());
  ingot::Context context = m.context();
  Ints x = ramp(64), y(100000);
  const ingot::Tensor in[] = {ints(x)};
  ingot::Tensor out[] = {tensor(y.data(), 4 * y.size(), kI32Type, {64})};
  Counting::clear();
  for (int round = 0; round < 3; ++round) GOOD(context.run(in, out));
  EQUAL(counts.allocations.load(), 0);
  y.resize(64);
  expect_line(x, y);
}

CASE("calls without a place for the error", Case::kernels) {
  Model m(s, refuse(s.target));
  ingot_context_t *context = nullptr;
  EQUAL(ingot_context_create(m.session->get(), &context, nullptr), INGOT_OK);
  Ints x(4, -1), y(4);
  const ingot::Tensor in = ints(x);
  ingot::Tensor out = ints(y);
  EQUAL(ingot_context_run(context, 0, &in, 1, &out, 1, nullptr, nullptr), INGOT_KERNEL_ERROR);
  ingot_run_options_t hurry = {sizeof(ingot_run_options_t), 1, nullptr, nullptr};
  const ingot_code_t code = ingot_context_run(context, 0, &in, 1, &out, 1, &hurry, nullptr);
  EXPECT(code == INGOT_DEADLINE_EXCEEDED || code == INGOT_KERNEL_ERROR);
  EQUAL(ingot_context_reset_state(context, nullptr), INGOT_OK);
  ingot_context_release(context);
  ingot_buffer_t *buffer = nullptr;
  const ingot_code_t large = ingot_buffer_allocate(m.device->get(), size_t(1) << 52, &buffer, nullptr);
  EQUAL(large, INGOT_OUT_OF_MEMORY);
  ingot_device_t *device = nullptr;
  const std::string uri = s.uri.substr(0, s.uri.find_first_of(":?")) + "://no-such-device";
  const char *uris[] = {uri.c_str()};
  EQUAL(ingot_device_open(m.instance.get(), uris, 1, nullptr, &device, nullptr), INGOT_NOT_FOUND);
}

CASE("a device lost at any point", Case::kernels | Case::loss) {
  bool survived = false;
  for (int at = 1; at < 60 && !survived; ++at) {
    Subject losing = s;
    losing.uri = s.lose + std::to_string(at);
    const Bytes bytes = bindings(s.target);
    support::Loaded l(bytes, losing.uri.c_str());
    GOOD(l.device);
    if (!l.session.ok()) {
      EQUAL(l.session.status().code(), INGOT_DEVICE_LOST);
      continue;
    }
    auto context = l.session->context(), other = l.session->context();
    if (!context.ok() || !other.ok()) {
      EQUAL((context.ok() ? other : context).status().code(), INGOT_DEVICE_LOST);
      continue;
    }
    Ints x = ramp(64), y(64);
    ingot::Status status;
    for (int round = 0; round < 3 && status.ok(); ++round) status = run(*context, x, y);
    auto semaphore = l.device->semaphore();
    const ingot::Tensor in[] = {ints(x)};
    ingot::Tensor out[] = {ints(y)};
    const ingot::SemaphoreValue signals[] = {semaphore->at(1)};
    GOOD(other->submit(in, out, {}, signals));
    const ingot::Status submitted = semaphore->wait(1);
    if (status.ok() && submitted.ok()) {
      survived = true; // lost after all that
      continue;
    }
    if (!status.ok()) EQUAL(status.code(), INGOT_DEVICE_LOST);
    EQUAL(submitted.code(), INGOT_DEVICE_LOST);
    for (int again = 0; again < 2; ++again) {
      EQUAL(run(*context, x, y).code(), INGOT_DEVICE_LOST);
      EQUAL(run(*other, x, y).code(), INGOT_DEVICE_LOST);
    }
    EQUAL(context->reset_state().code(), INGOT_DEVICE_LOST);
  }
  EXPECT(survived);
  Model m(s, line(s.target)); // opened anew
  ingot::Context context = m.context();
  Ints x = ramp(64), y(64);
  GOOD(run(context, x, y));
  expect_line(x, y);
}

} // namespace conformance
