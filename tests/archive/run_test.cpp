// Hand-made archives run with real native code on local-sync: fixed and free dims, data-dependent sizes, control flow,
// versions, state, errors that kernels report, floating-point control, profiles, deadlines.
#include <catch2/catch.hpp>

#include <thread>
#include <xmmintrin.h>

#include "schemas/cpu_abi.h"
#include "src/runtime/cpu/features.h"
#include "tests/archive/hand_made.h"
#include "tests/archive/support.h"

using namespace support;

namespace {
constexpr auto kF32 = INGOT_ELEMENT_TYPE_F32, kI64 = INGOT_ELEMENT_TYPE_I64, kI32 = INGOT_ELEMENT_TYPE_I32;
}

TEST_CASE("a fixed model runs, and runs again with the same and with other tensors") {
  for (int64_t n : {1, 15, 16, 17, 1000}) {
    Loaded l(hand_made::add_scale(n));
    INFO(l.error());
    REQUIRE(l.session.ok());
    std::vector<float> x(n), y(n, -1), other(n), z(n, -1);
    for (int64_t i = 0; i < n; ++i) x[i] = float(i), other[i] = float(-i);
    for (int round = 0; round < 3; ++round) {
      ingot::Tensor in[] = {tensor(x, kF32, {n})}, out[] = {tensor(y, kF32, {n})};
      REQUIRE(l.session->run(in, out).ok());
      for (int64_t i = 0; i < n; ++i) REQUIRE(y[i] == (x[i] + 0.5f * float(i)) * 2);
      x[0] += 1; // the same pointers, other values
    }
    ingot::Tensor in[] = {tensor(other, kF32, {n})}, out[] = {tensor(z, kF32, {-1})};
    REQUIRE(l.session->run(in, out).ok());
    REQUIRE(out[0].dims[0] == n);
    for (int64_t i = 0; i < n; ++i) REQUIRE(z[i] == (other[i] + 0.5f * float(i)) * 2);
  }
}

TEST_CASE("wrong tensors are refused with what was found and what was expected") {
  Loaded l(hand_made::add_scale(8));
  REQUIRE(l.session.ok());
  std::vector<float> x(8), y(8);
  const auto run = [&](ingot::Tensor in, ingot::Tensor out) {
    ingot::Tensor ins[] = {in}, outs[] = {out};
    const ingot::Status status = l.session->run(ins, outs);
    return std::string(status.code_name()) + ": " + status.message();
  };
  const ingot::Tensor in = tensor(x, kF32, {8}), out = tensor(y, kF32, {8});
  CHECK(run(tensor(x, kF32, {7}), out) == "INGOT_INVALID_ARGUMENT: main: input 'x': dim 0 is 7, expected 8 (8)");
  CHECK(run(tensor(x, kF32, {8, 1}), out) == "INGOT_INVALID_ARGUMENT: main: input 'x' has rank 2, expected 1");
  CHECK(run(tensor(x, kI32, {8}), out) == "INGOT_INVALID_ARGUMENT: main: input 'x' is i32, expected f32");
  CHECK(run(tensor(x.data(), 31, kF32, {8}), out) == "INGOT_OUT_OF_RANGE: main: input 'x' needs 32 bytes, its memory holds 31");
  CHECK(run(in, tensor(y.data(), 31, kF32, {8})) == "INGOT_OUT_OF_RANGE: main: output 'y' needs 32 bytes, its memory holds 31");
  CHECK(run(tensor(nullptr, 32, kF32, {8}), out) == "INGOT_INVALID_ARGUMENT: main: input 'x' is NULL");
  CHECK(run(in, tensor(nullptr, 32, kF32, {8})) == "INGOT_INVALID_ARGUMENT: main: output 'y' is NULL");
  CHECK(run(in, tensor(y, kF32, {9})) == "INGOT_INVALID_ARGUMENT: main: output 'y': dim 0 is 9, expected 8 (8)");
  CHECK(run(in, out) == "INGOT_OK: ");
  ingot::Tensor none[1] = {in};
  CHECK(contains(l.session->run(ingot::Span<const ingot::Tensor>(none, 0), ingot::Span<ingot::Tensor>(none, 1)).message(), "takes 1 inputs, 0 given"));
  CHECK(contains(l.session->run(ingot::Span<const ingot::Tensor>(none, 1), ingot::Span<ingot::Tensor>(none, 1), 7).message(), "no function 7"));
}

TEST_CASE("free dims: many shapes through one session, correct and in any order") {
  Loaded l(hand_made::free_add());
  INFO(l.error());
  REQUIRE(l.session.ok());
  uint32_t seed = 12345;
  for (int round = 0; round < 200; ++round) {
    seed = seed * 1664525 + 1013904223;
    const int64_t rows = 1 + (seed >> 8) % 64, width = 1 + (seed >> 16) % 300, n = rows * width;
    std::vector<float> x(n), y(n), z(n);
    for (int64_t i = 0; i < n; ++i) x[i] = float(i), y[i] = float(round);
    ingot::Tensor in[] = {tensor(x, kF32, {rows, width}), tensor(y, kF32, {rows, width})}, out[] = {tensor(z, kF32, {rows, -1})};
    ingot::Tensor inferred[1] = {};
    REQUIRE(l.session->infer(in, inferred).ok());
    REQUIRE((inferred[0].dims[0] == rows && inferred[0].dims[1] == width && inferred[0].size == size_t(n) * 4));
    const ingot::Status status = l.session->run(in, out);
    INFO(status.message());
    REQUIRE(status.ok());
    for (int64_t i = 0; i < n; ++i) REQUIRE(z[i] == float(i) + float(round));
  }
  std::vector<float> x(10000);
  ingot::Tensor in[] = {tensor(x, kF32, {2, 3}), tensor(x, kF32, {2, 4})}, out[] = {tensor(x, kF32, {-1, -1})};
  CHECK(std::string(l.session->run(in, out).message()) == "main: input 'y': dim 1 is 4, expected 3 (W)");
  in[0] = tensor(x, kF32, {0, 3});
  CHECK(std::string(l.session->run(in, out).message()) == "main: input 'x': dim 0 (B) is 0, outside 1 .. 64");
  in[0] = tensor(x, kF32, {2, 5000});
  CHECK(std::string(l.session->run(in, out).message()) == "main: input 'x': dim 1 (W) is 5000, outside 1 .. 4096");
  in[0] = in[1]; // after failures it still runs
  CHECK(l.session->run(in, out).ok());
}

TEST_CASE("an output whose size depends on data") {
  Loaded l(hand_made::nonzero());
  INFO(l.error());
  REQUIRE(l.session.ok());
  for (int64_t n : {0, 1, 7, 100}) {
    std::vector<float> x(n);
    std::vector<int64_t> expected, positions(n + 1, -7);
    for (int64_t i = 0; i < n; ++i)
      if (i % 3 == 1) x[i] = 2, expected.push_back(i);
    ingot::Tensor in[] = {tensor(x.data(), x.size() * 4, kF32, {n})};
    ingot::Tensor inferred[1] = {};
    REQUIRE(l.session->infer(in, inferred).ok());
    CHECK(inferred[0].dims[0] == -1);
    CHECK(inferred[0].size == size_t(n) * 8);
    ingot::Tensor out[] = {tensor(positions.data(), size_t(n) * 8, kI64, {-1})};
    for (int round = 0; round < 2; ++round) { // the second time with the first one's dims in place
      const ingot::Status status = l.session->run(in, out);
      INFO(status.message());
      REQUIRE(status.ok());
      REQUIRE(out[0].dims[0] == int64_t(expected.size()));
      for (size_t i = 0; i < expected.size(); ++i) REQUIRE(positions[i] == expected[i]);
      REQUIRE(positions[expected.size()] == -7);
    }
  }
  std::vector<float> x(5, 1);
  std::vector<int64_t> small(3);
  ingot::Tensor in[] = {tensor(x, kF32, {5})}, out[] = {tensor(small, kI64, {-1})};
  CHECK(std::string(l.session->run(in, out).message()) == "main: output 'positions' needs 40 bytes, its memory holds 24");
  CHECK(out[0].dims[0] == 5); // what it would have taken
}

TEST_CASE("if, counted and conditional loops, a subroutine, a check") {
  Loaded l(hand_made::control_flow());
  INFO(l.error());
  REQUIRE(l.session.ok());
  for (int64_t trips : {0, 1, 2, 3, 10, 100}) {
    int64_t expected = trips % 2 ? 100 : 200;
    for (int64_t i = 0; i < trips; ++i) expected += 3 + i;
    for (int64_t t = expected; t != 0; t /= 2) expected += 1000;
    int64_t y = -1;
    const ingot::Status status = l.session->run({ingot::view(trips)}, {ingot::view(y)});
    INFO(status.message());
    REQUIRE(status.ok());
    CHECK(y == expected);
  }
  int64_t bad = -2, y;
  CHECK(std::string(l.session->run({ingot::view(bad)}, {ingot::view(y)}).message()) == "main: the trip count must not be negative");
  bad = 1001;
  CHECK(std::string(l.session->run({ingot::view(bad)}, {ingot::view(y)}).message()) == "main: host scalar trips is 1001, outside -5 .. 1000");
}

TEST_CASE("a kernel's error names the node; the next run is clean again") {
  Loaded l(hand_made::gather());
  REQUIRE(l.session.ok());
  std::vector<int64_t> index = {3, 0, 2};
  std::vector<float> y(3);
  ingot::Tensor in[] = {tensor(index, kI64, {3})}, out[] = {tensor(y, kF32, {3})};
  for (int round = 0; round < 2; ++round) {
    index[1] = 0;
    REQUIRE(l.session->run(in, out).ok());
    CHECK(y == std::vector<float>{13, 10, 12});
    for (int64_t bad : {int64_t(-1), int64_t(4), INT64_MIN, INT64_MAX}) {
      index[1] = bad;
      const ingot::Status status = l.session->run(in, out);
      CHECK(status.code() == INGOT_KERNEL_ERROR);
      CHECK(std::string(status.message()) == "main: node 'model/lookup' (Gather): an index is outside axis 0 of 'table'");
    }
  }
  std::vector<int64_t> nothing; // zero elements
  ingot::Tensor none[] = {tensor(nullptr, 0, kI64, {0})}, empty[] = {tensor(nullptr, 0, kF32, {0})};
  CHECK(l.session->run(none, empty).ok());
}

TEST_CASE("the version of a kernel is picked for the CPU") {
  const uint64_t host = ingot::host_cpu_features();
  const uint64_t nobody = uint64_t(1) << 63;
  int32_t ran = 0;
  {
    Loaded l(hand_made::versions(host, nobody));
    REQUIRE(l.session.ok());
    ingot::Tensor out[] = {ingot::view(ran)};
    REQUIRE(l.session->run(ingot::Span<const ingot::Tensor>(), out).ok());
    CHECK(ran == 2);
    CHECK(ingot_session_kernel_version(l.session->get(), 0) == 2);
    CHECK(ingot_session_kernel_version(l.session->get(), 1) == INGOT_NONE);
  }
  {
    Loaded l(hand_made::versions(host, nobody), host ? "local-sync://0?features=0x0" : "local-sync");
    REQUIRE(l.session.ok());
    ingot::Tensor out[] = {ingot::view(ran)};
    REQUIRE(l.session->run(ingot::Span<const ingot::Tensor>(), out).ok());
    CHECK(ran == (host ? 1 : 2));
  }
  { // no version runs: refused when prepared, with the reason
    hand_made::Builder b;
    const uint32_t k = b.kernel("empty", {}, 0);
    b.variant().kernels[k].versions[0].feature_mask = nobody;
    b.function();
    Loaded l(b.bytes());
    CHECK(!l.session.ok());
    CHECK(contains(l.error(), "kernel empty has no code version for this CPU, which lacks"));
  }
}

TEST_CASE("the CPU features found are consistent") {
  const uint64_t f = ingot::host_cpu_features();
  if (f & INGOT_CPU_X86_64_V4) CHECK(f & INGOT_CPU_X86_64_V3);
  if (f & INGOT_CPU_X86_64_V3) CHECK(f & INGOT_CPU_X86_64_V2);
#if defined(__x86_64__)
  CHECK(bool(f & INGOT_CPU_X86_64_V2) == bool(__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt")));
  CHECK(bool(f & INGOT_CPU_X86_64_V3) == bool(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")));
  CHECK(bool(f & INGOT_CPU_X86_64_V4) == bool(__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")));
  CHECK(bool(f & INGOT_CPU_X86_AVX512_VNNI) == bool(__builtin_cpu_supports("avx512vnni")));
#endif
}

TEST_CASE("state lives as long as its context, and can be reset") {
  Loaded l(hand_made::counter());
  REQUIRE(l.session.ok());
  auto first = l.session->context(), second = l.session->context();
  REQUIRE((first.ok() && second.ok()));
  int64_t n = 0;
  ingot::Tensor out[] = {ingot::view(n)};
  for (int64_t i = 1; i <= 3; ++i) {
    REQUIRE(first->run(ingot::Span<const ingot::Tensor>(), out).ok());
    CHECK(n == i);
  }
  REQUIRE(second->run(ingot::Span<const ingot::Tensor>(), out).ok());
  CHECK(n == 1);
  REQUIRE(first->reset_state().ok());
  REQUIRE(first->run(ingot::Span<const ingot::Tensor>(), out).ok());
  CHECK(n == 1);
  CHECK(first->memory().state_bytes == 64);
}

#if defined(__x86_64__)
TEST_CASE("kernels run with round to nearest and denormals, whatever the caller set, and its settings come back") {
  Loaded l(hand_made::reciprocal());
  REQUIRE(l.session.ok());
  const unsigned before = _mm_getcsr();
  float x = 1e38f, y = 0; // 1 / 1e38 is denormal
  const unsigned hostile = 0x1f80 | 0x8040 | 0x6000; // flush to zero, denormals are zero, round to zero
  _mm_setcsr(hostile);
  const ingot::Status first = l.session->run({ingot::view(x)}, {ingot::view(y)});
  const unsigned after = _mm_getcsr();
  _mm_setcsr(before);
  REQUIRE(first.ok());
  CHECK((after & ~0x3fu) == (hostile & ~0x3fu));
  CHECK(y > 0);
  CHECK(y == Approx(1e-38).epsilon(1e-5));
  _mm_setcsr(before & ~0x200u); // divisions by zero trap
  x = 0;
  const ingot::Status second = l.session->run({ingot::view(x)}, {ingot::view(y)});
  _mm_setcsr(before);
  REQUIRE(second.ok());
  CHECK(y > 3e38f);
}
#endif

TEST_CASE("tensors aligned less than the kernels demand go through copies") {
  for (int64_t n : {5, 64}) {
    Loaded l(hand_made::add_scale(n, 64));
    REQUIRE(l.session.ok());
    std::vector<float> memory(2 * n + 64);
    float *aligned = reinterpret_cast<float *>((uintptr_t(memory.data()) + 63) / 64 * 64);
    for (int offset : {0, 1, 3}) {
      std::vector<float> result(n + 17);
      float *x = aligned + offset, *y = result.data() + 1;
      for (int64_t i = 0; i < n; ++i) x[i] = float(i);
      ingot::Tensor in[] = {tensor(x, n * 4, kF32, {n})}, out[] = {tensor(y, n * 4, kF32, {n})};
      for (int round = 0; round < 2; ++round) {
        x[0] = float(round);
        REQUIRE(l.session->run(in, out).ok());
        CHECK(y[0] == 2 * float(round));
        for (int64_t i = 1; i < n; ++i) REQUIRE(y[i] == 3 * float(i));
      }
    }
  }
}

TEST_CASE("profiles: one event per dispatch, with sites, versions and costs") {
  Loaded l(hand_made::add_scale(100));
  auto context = l.session->context();
  REQUIRE(context.ok());
  std::vector<ingot_dispatch_event_t> events;
  ingot_run_options_t options = {};
  options.struct_size = sizeof options;
  options.on_dispatch = [](void *user, const ingot_dispatch_event_t *e) { static_cast<std::vector<ingot_dispatch_event_t> *>(user)->push_back(*e); };
  options.user = &events;
  std::vector<float> x(100), y(100);
  ingot::Tensor in[] = {tensor(x, kF32, {100})}, out[] = {tensor(y, kF32, {100})};
  REQUIRE(context->run(in, out).ok());
  for (int round = 1; round <= 2; ++round) {
    REQUIRE(context->run(in, out, &options).ok());
    REQUIRE(events.size() == size_t(2 * round));
  }
  CHECK(events[0].kernel == 0);
  CHECK(events[1].kernel == 1);
  CHECK(events[1].site == 1);
  CHECK(events[0].version == 0);
  CHECK(events[0].grid[0] == 7);
  CHECK(events[0].flops == 100);
  CHECK(events[0].bytes == 1200);
  CHECK(events[0].end_ns >= events[0].start_ns);
  CHECK(events[1].start_ns >= events[0].end_ns);
  options.struct_size = 4;
  CHECK(context->run(in, out, &options).code() == INGOT_INVALID_ARGUMENT);
}

TEST_CASE("a bound host scalar sizes what follows, within its range") {
  hand_made::Builder b;
  hand_made::Function &f = b.function();
  f.symbols = {{"n", 0, 100, hand_made::SymbolKind::input}, {"s", 0, 20, hand_made::SymbolKind::host}};
  hand_made::ExprBuilder e(f);
  const uint32_t zero = e.constant(0), eight = e.constant(8), n = e.symbol(0), s = e.symbol(1);
  const uint32_t bytes = e.mul(n, eight), half = e.mul(s, eight);
  f.inputs = {{"x", kI64, {n}, {}, hand_made::kNone}};
  f.outputs = {{"y", kI64, {s}, {}, bytes}};
  f.arenas = {half}; // known only when s is
  const uint32_t x = hand_made::input_slot(f, 0, bytes), y = hand_made::output_slot(f, 0, half), t = hand_made::transient_slot(f, 0, zero, half);
  hand_made::CommandBuilder w(f.commands);
  w.bind(e.floordiv(n, e.constant(2)), 1);
  w.copy(t, zero, x, zero, half);
  w.barrier();
  w.copy(y, zero, t, zero, half);
  Loaded l(b.bytes());
  INFO(l.error());
  REQUIRE(l.session.ok());
  auto context = l.session->context();
  std::vector<int64_t> in(60), out(60);
  for (size_t i = 0; i < in.size(); ++i) in[i] = int64_t(i + 1);
  for (int64_t count : {6, 7, 1, 0, 40, 4, 42}) {
    std::fill(out.begin(), out.end(), 0);
    ingot::Tensor given[] = {ingot::view(in.data(), {count})}, found[] = {ingot::view(out.data(), {60})};
    found[0].dims[0] = -1;
    const ingot::Status status = context->run(given, found);
    if (count > 41) { // s would be 21
      CHECK(status.code() == INGOT_OUT_OF_RANGE);
      CHECK(std::string(status.message()).find("host scalar s is 21, outside 0 .. 20") != std::string::npos);
      continue;
    }
    REQUIRE(status.ok());
    CHECK(found[0].dims[0] == count / 2);
    for (int64_t i = 0; i < 60; ++i) CHECK(out[size_t(i)] == (i < count / 2 ? i + 1 : 0));
  }
}

TEST_CASE("a dispatch whose grid is empty asks for nothing more") {
  hand_made::Builder b;
  const uint32_t kernel = b.kernel("add_scalar_i64", {hand_made::kAccessReadWrite}, 1);
  hand_made::Function &f = b.function();
  f.symbols = {{"n", 1, 100, hand_made::SymbolKind::input}};
  hand_made::ExprBuilder e(f);
  const uint32_t zero = e.constant(0), one = e.constant(1), n = e.symbol(0), bytes = e.mul(n, e.constant(8)), rest = e.sub(n, one);
  f.inputs = {{"x", kI64, {n}, {}, hand_made::kNone}};
  f.outputs = {{"y", kI64, {n}, {}, hand_made::kNone}};
  const uint32_t x = hand_made::input_slot(f, 0, bytes), y = hand_made::output_slot(f, 0, bytes);
  hand_made::CommandBuilder w(f.commands);
  w.copy(y, zero, x, zero, bytes);
  w.barrier();
  w.dispatch(kernel, hand_made::kNone, e.binary(hand_made::ExprOp::min, rest, one), one, one, {{y, zero, bytes}}, {e.floordiv(e.constant(60), rest)}); // without a value where n is 1
  Loaded l(b.bytes());
  INFO(l.error());
  REQUIRE(l.session.ok());
  for (const int64_t size : {1, 2, 7, 1}) {
    std::vector<int64_t> given(size_t(size), 5), got(size_t(size), 0);
    ingot::Tensor in[] = {tensor(given, kI64, {size})}, out[] = {tensor(got, kI64, {size})};
    const ingot::Status status = l.session->run(in, out);
    INFO(status.message());
    REQUIRE(status.ok());
    CHECK(got[0] == 5 + (size == 1 ? 0 : 60 / (size - 1)));
  }
}

TEST_CASE("deadlines and cancellation stop a run") {
  hand_made::Builder b;
  const uint32_t kernel = b.kernel("add_scalar_i64", {hand_made::kAccessReadWrite}, 1);
  hand_made::Function &f = b.function(); // loops for ever
  f.symbols = {{"go", 0, 1, hand_made::SymbolKind::host}};
  hand_made::ExprBuilder e(f);
  const uint32_t zero = e.constant(0), one = e.constant(1), eight = e.constant(8);
  f.inputs = {{"go", kI64, {}, {}, hand_made::kNone}};
  f.outputs = {{"y", kI64, {}, {}, hand_made::kNone}};
  const uint32_t x = hand_made::input_slot(f, 0, eight), y = hand_made::output_slot(f, 0, eight);
  hand_made::CommandBuilder w(f.commands);
  w.read_scalar(x, zero, kI64, 0);
  w.begin_loop(hand_made::kNone, 0, hand_made::kNone);
  w.dispatch(kernel, hand_made::kNone, one, one, one, {{y, zero, eight}}, {one});
  w.end_loop();
  Loaded l(b.bytes());
  INFO(l.error());
  REQUIRE(l.session.ok());
  auto context = l.session->context();
  int64_t go = 1, count = 0;
  ingot::Tensor in[] = {ingot::view(go)}, out[] = {ingot::view(count)};
  ingot_run_options_t options = {};
  options.struct_size = sizeof options;
  options.timeout_ns = 5000000;
  CHECK(context->run(in, out, &options).code() == INGOT_DEADLINE_EXCEEDED);
  CHECK(count > 0);
  std::thread canceller([&] {
    for (int i = 0; i < 100; ++i) { // until it runs
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      context->cancel();
    }
  });
  CHECK(context->run(in, out).code() == INGOT_CANCELLED);
  canceller.join();
  go = 0;
  CHECK(context->run(in, out).ok());
}

TEST_CASE("a session is shared by threads; a context is not") {
  Loaded l(hand_made::free_add());
  REQUIRE(l.session.ok());
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int round = 0; round < 200; ++round) {
        const int64_t n = 1 + (t * 31 + round) % 100;
        std::vector<float> x(n, float(t)), y(n, float(round)), z(n);
        ingot::Tensor in[] = {tensor(x, kF32, {1, n}), tensor(y, kF32, {1, n})}, out[] = {tensor(z, kF32, {1, n})};
        if (!l.session->run(in, out).ok() || z[n - 1] != float(t + round)) ++wrong;
      }
    });
  for (std::thread &t : threads) t.join();
  CHECK(wrong == 0);
}

TEST_CASE("weights in place: an archive that is mapped, read, borrowed or copied gives the same") {
  const std::vector<uint8_t> bytes = hand_made::add_scale(33);
  const char *path = "archive_test_tmp.ingot";
  FILE *file = std::fopen(path, "wb");
  REQUIRE(std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size());
  std::fclose(file);
  uint8_t *aligned = static_cast<uint8_t *>(std::aligned_alloc(64, (bytes.size() + 63) / 64 * 64));
  std::copy(bytes.begin(), bytes.end(), aligned);
  for (int how = 0; how < 4; ++how) {
    auto archive = how == 0 ? ingot::Archive::map(path) : how == 1 ? ingot::Archive::read(path) : ingot::Archive::open(aligned, bytes.size(), how == 2);
    INFO(archive.message());
    REQUIRE(archive.ok());
    REQUIRE(archive->check_hashes().ok());
    ingot_segment_info_t weights;
    REQUIRE(ingot_archive_segment(archive->get(), 1, &weights) == INGOT_OK);
    CHECK((weights.data >= aligned && weights.data < aligned + bytes.size()) == (how == 2));
    ingot::Instance instance;
    auto device = instance.open(*archive, "auto");
    auto session = device->prepare(*archive);
    REQUIRE(session.ok());
    std::vector<float> x(33, 1), y(33);
    ingot::Tensor in[] = {tensor(x, kF32, {33})}, out[] = {tensor(y, kF32, {33})};
    archive = ingot::Status(); // the session keeps what it needs
    REQUIRE(session->run(in, out).ok());
    CHECK(y[32] == 34);
  }
  std::free(aligned);
  std::remove(path);
}
