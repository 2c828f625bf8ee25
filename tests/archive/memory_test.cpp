// Memory: every allocation made to fail in turn, nothing leaked, nothing allocated once a context runs fixed dims.
#include <catch2/catch.hpp>

#include <functional>

#include "src/runtime/base.h"
#include "tests/archive/hand_made.h"
#include "tests/archive/support.h"

using namespace support;

namespace {

// Opens, prepares, runs twice; returns the first code that is not OK.
ingot_code_t whole_life(const std::vector<uint8_t> &bytes, CountingAllocator &allocator, const std::function<ingot::Status(ingot::Context &)> &run) {
  const ingot_allocator_t a = allocator.get();
  ingot::Instance instance(a);
  if (!instance.status()) return instance.status().code();
  auto archive = ingot::Archive::open(bytes.data(), bytes.size(), false, &a);
  if (!archive.ok()) return archive.status().code();
  auto device = instance.open("local-sync");
  if (!device.ok()) return device.status().code();
  auto session = device->prepare(*archive);
  if (!session.ok()) return session.status().code();
  auto context = session->context();
  if (!context.ok()) return context.status().code();
  for (int round = 0; round < 2; ++round) {
    const ingot::Status status = run(*context);
    if (!status.ok()) return status.code();
  }
  return INGOT_OK;
}

void walk(const std::vector<uint8_t> &bytes, const std::function<ingot::Status(ingot::Context &)> &run) {
  CountingAllocator counting;
  REQUIRE(whole_life(bytes, counting, run) == INGOT_OK);
  REQUIRE(counting.live == 0);
  const long calls = counting.calls;
  REQUIRE(calls > 10);
  for (long at = 0; at < calls; ++at) {
    CountingAllocator failing;
    failing.fail_at = at;
    const ingot_code_t code = whole_life(bytes, failing, run);
    INFO("allocation " << at << " of " << calls);
    REQUIRE(code == INGOT_OUT_OF_MEMORY);
    REQUIRE(failing.live == 0);
    REQUIRE(!failing.mismatch);
  }
}

} // namespace

TEST_CASE("each allocation may fail: a clear error, nothing leaked") {
  SECTION("fixed dims, staging, splats") {
    std::vector<float> memory(100);
    float *odd = reinterpret_cast<float *>((uintptr_t(memory.data()) + 63) / 64 * 64) + 1;
    walk(hand_made::add_scale(20, 64), [&](ingot::Context &context) {
      ingot::Tensor in[] = {tensor(odd, 80, INGOT_ELEMENT_TYPE_F32, {20})}, out[] = {tensor(odd + 32, 80, INGOT_ELEMENT_TYPE_F32, {20})};
      return context.run(in, out);
    });
  }
  SECTION("free dims") {
    std::vector<float> x(60), y(60);
    int64_t width = 3;
    walk(hand_made::free_add(), [&](ingot::Context &context) {
      width += 2; // each run grows the arena
      if (width > 20) width = 5;
      ingot::Tensor in[] = {tensor(x, INGOT_ELEMENT_TYPE_F32, {2, width}), tensor(x, INGOT_ELEMENT_TYPE_F32, {2, width})};
      ingot::Tensor out[] = {tensor(y, INGOT_ELEMENT_TYPE_F32, {2, width})};
      const ingot::Status status = context.run(in, out);
      if (!status.ok()) width = 3;
      return status;
    });
  }
  SECTION("control flow") {
    int64_t x = 3, y;
    ingot::Tensor in[] = {ingot::view(x)}, out[] = {ingot::view(y)};
    walk(hand_made::control_flow(), [&](ingot::Context &context) { return context.run(in, out); });
  }
  SECTION("state") {
    int64_t y;
    ingot::Tensor out[] = {ingot::view(y)};
    walk(hand_made::counter(), [&](ingot::Context &context) { return context.run(ingot::Span<const ingot::Tensor>(), out); });
  }
}

TEST_CASE("with fixed dims nothing is allocated after the context is there") {
  CountingAllocator counting;
  const ingot_allocator_t a = counting.get();
  Loaded l(hand_made::add_scale(100), "local-sync", &a);
  REQUIRE(l.session.ok());
  auto context = l.session->context();
  std::vector<float> x(100), y(100), z(100);
  const long before = counting.calls;
  for (int round = 0; round < 10; ++round) { // other tensors too
    ingot::Tensor in[] = {tensor(round % 2 ? x : z, INGOT_ELEMENT_TYPE_F32, {100})}, out[] = {tensor(y, INGOT_ELEMENT_TYPE_F32, {100})};
    REQUIRE(context->run(in, out).ok());
  }
  CHECK(counting.calls == before);
  ingot_memory_info_t memory = context->memory();
  CHECK(memory.arena_bytes == 64 + 400);
}

TEST_CASE("with free dims nothing is allocated at dims seen before, or smaller ones") {
  CountingAllocator counting;
  const ingot_allocator_t a = counting.get();
  Loaded l(hand_made::free_add(), "local-sync", &a);
  auto context = l.session->context();
  std::vector<float> x(4000), z(4000);
  long before = 0;
  for (int64_t width : {1000, 10, 500, 1000, 1}) {
    ingot::Tensor in[] = {tensor(x, INGOT_ELEMENT_TYPE_F32, {4, width}), tensor(x, INGOT_ELEMENT_TYPE_F32, {4, width})}, out[] = {tensor(z, INGOT_ELEMENT_TYPE_F32, {4, -1})};
    REQUIRE(context->run(in, out).ok());
    if (!before) before = counting.calls;
  }
  CHECK(counting.calls == before);
}

TEST_CASE("what the library allocates by megabytes can lie on large pages") {
  const ingot_allocator_t own = ingot::resolve_allocator(nullptr);
  for (const size_t size : {size_t{1}, size_t{1} << 20, (size_t{2} << 20) - 1, size_t{2} << 20, (size_t{5} << 20) + 3}) {
    auto *memory = static_cast<uint8_t *>(own.allocate(own.user, size, 64));
    REQUIRE(memory);
    CHECK(reinterpret_cast<uintptr_t>(memory) % (size >= size_t{2} << 20 ? size_t{2} << 20 : 64) == 0);
    memory[0] = memory[size - 1] = 1;
    own.release(own.user, memory, size, 64);
  }
}
