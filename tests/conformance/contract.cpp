// The contract itself: calls on the table of functions of <ingot/driver.h>, as the runtime makes them.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <thread>

#include "src/runtime/api/objects.h"
#include "src/runtime/platform/platform.h"
#include "tests/conformance/kernels.h"
#include "tests/conformance/programs.h"
#include "tests/conformance/suite.h"

namespace conformance {
namespace {

// Runs a call that gives a code and an error.
#define CALL(expression)                                                                                               \
  do {                                                                                                                 \
    ingot_error_t error = {};                                                                                          \
    if (const ingot_code_t code = (expression); code != INGOT_OK)                                                      \
      failed(__FILE__, __LINE__, #expression ": " + std::string(error.message));                                       \
  } while (0)

std::vector<uint8_t> noise(size_t n, uint32_t seed) {
  std::vector<uint8_t> out(n);
  uint32_t x = seed * 2654435761u + 1;
  for (uint8_t &b : out) {
    x = x * 1664525 + 1013904223;
    b = uint8_t(x >> 24);
  }
  return out;
}

// A device opened through the table, with one executable of all kernels.
struct Rig {
  explicit Rig(const Subject &s, const std::string &uri_text = {}) : driver(*driver_of(s.uri)) {
    const std::string uri = uri_text.empty() ? s.uri : uri_text;
    const size_t query = uri.find('?');
    const std::string options = query == std::string::npos ? "" : uri.substr(query + 1);
    const ingot_driver_host_t host = ingot::driver_host(ingot::resolve_allocator(nullptr));
    const size_t colon = uri.find(':');
    const auto ordinal = colon == std::string::npos ? 0u : uint32_t(std::strtoul(uri.c_str() + colon + 1, nullptr, 10));
    CALL(driver.open(&host, nullptr, ordinal, options.c_str(), &device, &error));
    properties.struct_size = sizeof properties;
    if (!driver.host_memory) driver.properties(device, &properties);
    load(s);
  }
  ~Rig() {
    for (const auto &m : memories)
      if (!m->released && m->memory) driver.release(device, m->memory);
    if (executable) driver.unload(executable);
    if (archive) ingot_archive_release(archive);
    if (device) driver.close(device);
  }
  Rig(const Rig &) = delete;

  void load(const Subject &s) {
    bytes = line(s.target);
    CALL(ingot_archive_open(nullptr, bytes.data(), bytes.size(), false, &archive, &error));
    ingot_error_t reason = {};
    for (uint32_t v = 0; v < targets().size(); ++v) {
      CALL(driver_code.build(*archive, v, ingot::resolve_allocator(nullptr), &error));
      if (driver.supports(device, &driver_code.get(), &reason) != INGOT_OK) continue;
      CALL(driver.load(device, &driver_code.get(), &executable, &error));
      return;
    }
    failed(__FILE__, __LINE__, std::string("no variant runs: ") + reason.message);
  }

  struct Memory {
    ingot_driver_memory_t *memory = nullptr;
    std::vector<uint8_t> host; // of drivers with host_memory
    bool released = false;
  };
  Memory &allocate(uint64_t size, ingot_driver_memory_kind_t kind = INGOT_MEMORY_DEVICE) {
    memories.push_back(std::make_unique<Memory>());
    Memory &m = *memories.back();
    if (driver.host_memory) m.host.resize(size_t(size) + 64);
    else CALL(driver.allocate(device, kind, size, &m.memory, &error));
    return m;
  }
  void release(Memory &m) {
    if (m.memory) driver.release(device, m.memory);
    m.released = true;
  }
  ingot_driver_span_t span(Memory &m, uint64_t offset, uint64_t length) const {
    if (!driver.host_memory) return {m.memory, nullptr, offset, length};
    uint8_t *base = m.host.data();
    base += (64 - uintptr_t(base) % 64) % 64;
    return {nullptr, base, offset, length};
  }
  void write(Memory &m, uint64_t offset, const void *data, size_t size) {
    if (!driver.host_memory) CALL(driver.write(device, m.memory, offset, data, size, &error));
    else memcpy(static_cast<uint8_t *>(span(m, 0, 0).host) + offset, data, size);
  }
  void read(Memory &m, uint64_t offset, void *data, size_t size) {
    if (!driver.host_memory) CALL(driver.read(device, m.memory, offset, data, size, &error));
    else memcpy(data, static_cast<uint8_t *>(span(m, 0, 0).host) + offset, size);
  }
  std::vector<uint8_t> bytes_of(Memory &m, uint64_t offset, size_t size) {
    std::vector<uint8_t> out(size, 0xcc);
    read(m, offset, out.data(), size);
    return out;
  }
  std::vector<int32_t> ints(Memory &m, size_t count, uint64_t offset = 0) {
    std::vector<int32_t> out(count, -77);
    read(m, offset, out.data(), 4 * count);
    return out;
  }
  void write_ints(Memory &m, const std::vector<int32_t> &values, uint64_t offset = 0) { write(m, offset, values.data(), 4 * values.size()); }

  const ingot_driver_t &driver;
  ingot_driver_device_t *device = nullptr;
  ingot_driver_executable_t *executable = nullptr;
  ingot_driver_properties_t properties = {sizeof(ingot_driver_properties_t), false, 64, UINT64_MAX};
  std::vector<uint8_t> bytes;
  ingot_archive_t *archive = nullptr;
  ingot::DriverCode driver_code;
  std::vector<std::unique_ptr<Memory>> memories;
};

struct Recording {
  Recording(Rig &rig, ingot_driver_stream_t *stream, uint32_t commands = 64) : driver(rig.driver) {
    const ingot_driver_recording_size_t size = {commands, commands, commands, commands, 8 * commands, kManyParams * commands};
    CALL(driver.recording_create(stream, &size, &handle, &error));
  }
  ~Recording() { driver.recording_destroy(handle); }
  Recording(const Recording &) = delete;
  Recording &begin(bool timed = false) { return driver.recording_begin(handle, timed), *this; }
  Recording &dispatch(uint32_t kernel, std::vector<ingot_driver_span_t> bindings, std::vector<int64_t> params = {}, uint32_t x = 1,
                      uint32_t y = 1, uint32_t z = 1, uint32_t site = 0) {
    const ingot_driver_dispatch_t d = {kernel, site, {x, y, z}, uint32_t(bindings.size()), uint32_t(params.size()), bindings.data(), params.data(), -1, -1};
    return driver.record_dispatch(handle, &d), *this;
  }
  Recording &copy(ingot_driver_span_t target, ingot_driver_span_t source) { return driver.record_copy(handle, &target, &source), *this; }
  Recording &fill(ingot_driver_span_t target, uint64_t pattern, uint32_t bytes) { return driver.record_fill(handle, &target, pattern, bytes), *this; }
  Recording &barrier() { return driver.record_barrier(handle), *this; }
  Recording &end() {
    CALL(driver.recording_end(handle, &error));
    return *this;
  }
  const ingot_driver_t &driver;
  ingot_driver_recording_t *handle = nullptr;
};

struct Stream {
  explicit Stream(Rig &rig) : rig(rig) {
    CALL(rig.driver.stream_create(rig.device, rig.executable, &handle, &error));
    options.struct_size = sizeof options;
    options.cancel = &cancel;
  }
  ~Stream() { rig.driver.stream_destroy(handle); }
  Stream(const Stream &) = delete;
  ingot_code_t submit(std::vector<Recording *> recordings) {
    std::vector<ingot_driver_recording_t *> list;
    for (Recording *r : recordings) list.push_back(r->handle);
    error = {};
    return rig.driver.submit(handle, list.data(), uint32_t(list.size()), &options, &error);
  }
  ingot_code_t finish() { return rig.driver.finish ? rig.driver.finish(handle, &options, &error) : INGOT_OK; }
  ingot_code_t outcome(std::vector<Recording *> recordings) {
    const ingot_code_t code = submit(std::move(recordings));
    return code == INGOT_OK ? finish() : code;
  }
  void run(std::vector<Recording *> recordings) {
    if (const ingot_code_t code = outcome(std::move(recordings)); code != INGOT_OK) failed(__FILE__, __LINE__, std::string("a run: ") + error.message);
  }
  Rig &rig;
  ingot_driver_stream_t *handle = nullptr;
  volatile int32_t cancel = 0;
  ingot_driver_submit_t options = {};
  ingot_error_t error = {};
};

void expect_spun(const int32_t *values, const Subject &s, int32_t want) {
  for (uint32_t i = 0; i < s.groups; ++i) EQUAL(values[i], want);
}

} // namespace

CASE("contract: devices are listed, opened by number and by id, and described", Case::nothing) {
  const ingot_driver_t &driver = *driver_of(s.uri);
  const ingot_driver_host_t host = ingot::driver_host(ingot::resolve_allocator(nullptr));
  std::vector<std::string> ids;
  CALL(driver.enumerate(&host, [](void *user, const char *id, const char *) { static_cast<std::vector<std::string> *>(user)->push_back(id); }, &ids, &error));
  EXPECT(!ids.empty());
  for (const std::string &id : ids) EXPECT(id.find_first_of("?/") == std::string::npos);
  ingot_driver_device_t *device = nullptr;
  CALL(driver.open(&host, ids[0].c_str(), 0, "", &device, &error));
  int facts = 0;
  CALL(driver.describe(device, [](void *user, const char *, const char *) { ++*static_cast<int *>(user); }, &facts, &error));
  driver.close(device);
  EXPECT(facts > 0);
  ingot_error_t error = {};
  EQUAL(driver.open(&host, "no such device", 0, "", &device, &error), INGOT_NOT_FOUND);
  EXPECT(error.message[0] != 0);
  EQUAL(driver.open(&host, nullptr, uint32_t(ids.size()), "", &device, &error), INGOT_NOT_FOUND);
}

CASE("contract: every kernel has a version", Case::kernels) {
  Rig rig(s);
  for (uint32_t k = 0; k < kKernels; ++k) EQUAL(rig.driver.kernel_version(rig.executable, k), 0u);
}

CASE("contract: memory of every size is memory of its own", Case::own_memory) {
  Rig rig(s);
  EXPECT(rig.properties.binding_alignment != 0 && (rig.properties.binding_alignment & (rig.properties.binding_alignment - 1)) == 0);
  EXPECT(rig.properties.max_allocation >= 1 << 20);
  std::vector<std::pair<Rig::Memory *, std::vector<uint8_t>>> all;
  for (const uint64_t size : {1u, 2u, 3u, 63u, 64u, 64u, 64u, 65u, 4095u, 4097u, 4097u, 1048577u}) {
    Rig::Memory &m = rig.allocate(size);
    all.push_back({&m, noise(size, uint32_t(all.size()))});
    rig.write(m, 0, all.back().second.data(), size);
  }
  for (auto &[memory, content] : all) EXPECT(rig.bytes_of(*memory, 0, content.size()) == content);
  for (size_t i = 0; i < all.size(); i += 2) rig.release(*all[i].first);
  for (size_t i = 1; i < all.size(); i += 2) EXPECT(rig.bytes_of(*all[i].first, 0, all[i].second.size()) == all[i].second);
}

CASE("contract: more than max_allocation is out of memory", Case::own_memory) {
  Rig rig(s);
  ingot_driver_memory_t *memory = nullptr;
  ingot_error_t error = {};
  EQUAL(rig.driver.allocate(rig.device, INGOT_MEMORY_DEVICE, uint64_t(1) << 55, &memory, &error), INGOT_OUT_OF_MEMORY);
  EXPECT(error.code == INGOT_OUT_OF_MEMORY && error.message[0] != 0);
}

CASE("contract: mapped memory goes to the device and back", Case::own_memory) {
  Rig rig(s);
  Stream stream(rig);
  Recording recording(rig, stream.handle);
  const size_t size = 10007;
  Rig::Memory &up = rig.allocate(size, INGOT_MEMORY_UPLOAD), &middle = rig.allocate(size), &down = rig.allocate(size, INGOT_MEMORY_READBACK);
  void *from = nullptr, *to = nullptr;
  CALL(rig.driver.map(rig.device, up.memory, &from, &error));
  CALL(rig.driver.map(rig.device, down.memory, &to, &error));
  recording.begin().copy(rig.span(middle, 0, size), rig.span(up, 0, size)).barrier().copy(rig.span(down, 0, size), rig.span(middle, 0, size)).end();
  for (uint32_t round = 0; round < 3; ++round) { // the maps stay
    const std::vector<uint8_t> content = noise(size, round);
    memcpy(from, content.data(), size);
    stream.run({&recording});
    EXPECT(memcmp(to, content.data(), size) == 0);
  }
  rig.driver.unmap(rig.device, up.memory);
  CALL(rig.driver.map(rig.device, up.memory, &from, &error)); // again, with what it held
  EXPECT(memcmp(from, to, size) == 0);
  if (!rig.properties.unified_memory) return;
  void *shared = nullptr;
  CALL(rig.driver.map(rig.device, middle.memory, &shared, &error));
  EXPECT(memcmp(shared, to, size) == 0);
}

CASE("contract: write and read at odd places, however long", Case::own_memory) {
  Rig rig(s);
  const size_t size = (17 << 20) + 29; // more than any driver stages at once
  Rig::Memory &m = rig.allocate(size);
  std::vector<uint8_t> mirror = noise(size, 1);
  rig.write(m, 0, mirror.data(), size);
  EXPECT(rig.bytes_of(m, 0, size) == mirror);
  uint32_t seed = 2;
  for (const auto &[offset, length] : std::vector<std::pair<size_t, size_t>>{{1, 1}, {3, 4}, {5, 1000}, {4093, 7}, {1 << 20, 65537}, {3, (2 << 20) + 1}, {size - 1, 1}}) {
    const std::vector<uint8_t> part = noise(length, seed++);
    rig.write(m, offset, part.data(), length);
    std::copy(part.begin(), part.end(), mirror.begin() + long(offset));
    EXPECT(rig.bytes_of(m, offset, length) == part);
    EXPECT(rig.bytes_of(m, 0, 8192) == std::vector<uint8_t>(mirror.begin(), mirror.begin() + 8192));
  }
  EXPECT(rig.bytes_of(m, 0, size) == mirror);
}

CASE("contract: fills of every width at every place", Case::nothing) {
  Rig rig(s);
  Stream stream(rig);
  Recording recording(rig, stream.handle);
  const size_t size = 4096;
  Rig::Memory &m = rig.allocate(size);
  std::vector<uint8_t> mirror = noise(size, 3);
  rig.write(m, 0, mirror.data(), size);
  const uint64_t pattern = 0xf1e2d3c4b5a69788;
  for (const uint32_t width : {1u, 2u, 4u, 8u})
    for (const uint32_t count : {1u, 3u, 17u, 300u})
      for (const uint32_t offset : {0u, 1u, 6u, 8u, 100u}) {
        recording.begin().fill(rig.span(m, offset, width * count), pattern, width).end();
        stream.run({&recording});
        for (uint32_t i = 0; i < width * count; ++i) mirror[offset + i] = uint8_t(pattern >> (8 * (i % width)));
        if (rig.bytes_of(m, 0, size) != mirror)
          failed(__FILE__, __LINE__, "a fill of " + std::to_string(count) + " times " + std::to_string(width) + " bytes at " + std::to_string(offset));
      }
  recording.begin(); // many in one recording
  for (uint32_t i = 0; i < 60; ++i) {
    recording.fill(rig.span(m, 11 * i, 8), i * 0x0102030405060709, 8);
    for (uint32_t b = 0; b < 8; ++b) mirror[11 * i + b] = uint8_t(i * 0x0102030405060709 >> (8 * b));
  }
  stream.run({&recording.end()});
  EXPECT(rig.bytes_of(m, 0, size) == mirror);
}

CASE("contract: long fills", Case::nothing) {
  Rig rig(s);
  Stream stream(rig);
  Recording recording(rig, stream.handle);
  const size_t size = (9 << 20) + 64;
  Rig::Memory &m = rig.allocate(size);
  std::vector<uint8_t> mirror = noise(size, 4);
  rig.write(m, 0, mirror.data(), size);
  const uint64_t pattern = 0x1827364554637281;
  size_t offset = 3;
  for (const size_t bytes : {size_t(8) << 20, (size_t(5) << 20) + 8, (size_t(128) << 10) + 8, size_t(128) << 10, size_t(4096), size_t(4104)}) {
    recording.begin().fill(rig.span(m, offset, bytes), pattern + bytes, 8).end();
    stream.run({&recording});
    for (size_t i = 0; i < bytes; ++i) mirror[offset + i] = uint8_t((pattern + bytes) >> (8 * (i % 8)));
    if (rig.bytes_of(m, 0, size) != mirror) failed(__FILE__, __LINE__, "a fill of " + std::to_string(bytes) + " bytes");
    offset += 5;
  }
}

CASE("contract: copies between odd places", Case::nothing) {
  Rig rig(s);
  Stream stream(rig);
  Recording recording(rig, stream.handle);
  const size_t size = 8192;
  Rig::Memory &a = rig.allocate(size), &b = rig.allocate(size);
  const std::vector<uint8_t> from = noise(size, 4);
  std::vector<uint8_t> to = noise(size, 5);
  rig.write(a, 0, from.data(), size);
  rig.write(b, 0, to.data(), size);
  for (const auto &[target, source, length] : std::vector<std::array<size_t, 3>>{{0, 0, 1}, {1, 2, 3}, {7, 4, 64}, {100, 301, 1001}, {4096, 0, 4096}, {3000, 4000, 777}}) {
    recording.begin().copy(rig.span(b, target, length), rig.span(a, source, length)).end();
    stream.run({&recording});
    std::copy_n(from.begin() + long(source), length, to.begin() + long(target));
    EXPECT(rig.bytes_of(b, 0, size) == to);
  }
  recording.begin().copy(rig.span(b, 5000, 1000), rig.span(b, 11, 1000)).end(); // inside one memory
  stream.run({&recording});
  std::copy_n(to.begin() + 11, 1000, to.begin() + 5000);
  EXPECT(rig.bytes_of(b, 0, size) == to);
  EXPECT(rig.bytes_of(a, 0, size) == from);
}

CASE("contract: recordings are submitted again, begun again, and several at once", Case::nothing) {
  Rig rig(s);
  Stream stream(rig);
  Recording first(rig, stream.handle), second(rig, stream.handle), third(rig, stream.handle), empty(rig, stream.handle);
  Rig::Memory &m = rig.allocate(64), &n = rig.allocate(64);
  const auto byte = [&](Rig::Memory &memory, size_t at) { return int(rig.bytes_of(memory, at, 1)[0]); };
  // m moves on by one byte a run: the last byte set comes from the one before.
  first.begin().fill(rig.span(m, 0, 64), 1, 1).end();
  second.begin().copy(rig.span(n, 0, 32), rig.span(m, 0, 32)).end();
  third.begin().fill(rig.span(m, 0, 64), 3, 1).end();
  empty.begin().end();
  stream.run({&first});
  stream.run({&second});
  EQUAL(byte(n, 31), 1);
  stream.run({&third, &second, &empty, &first}); // in order
  EQUAL(byte(n, 0), 3);
  EQUAL(byte(m, 63), 1);
  stream.run({&second}); // again
  EQUAL(byte(n, 0), 1);
  stream.run({&third});
  stream.run({&second});
  EQUAL(byte(n, 5), 3);
  first.begin().fill(rig.span(m, 32, 32), 9, 1).end(); // no longer all of it
  stream.run({&first});
  EQUAL(byte(m, 31), 3);
  EQUAL(byte(m, 32), 9);
  first.begin().end(); // nothing any more
  stream.run({&third, &first});
  EQUAL(byte(m, 32), 3);
  std::vector<Recording *> many(20, &second);
  many.push_back(&third);
  stream.run(many);
  EQUAL(byte(n, 31), 3);
}

CASE("contract: barriers order commands", Case::kernels) {
  Rig rig(s);
  Stream stream(rig);
  Recording recording(rig, stream.handle, 300);
  Rig::Memory &a = rig.allocate(4096), &b = rig.allocate(4096);
  std::vector<int32_t> start(256);
  for (int32_t i = 0; i < 256; ++i) start[size_t(i)] = i;
  rig.write_ints(a, start);
  recording.begin();
  for (int i = 0; i < 100; ++i) {
    Rig::Memory &from = i % 2 ? b : a, &to = i % 2 ? a : b;
    recording.dispatch(kScale, {rig.span(from, 0, 1024), rig.span(to, 0, 1024)}, {1, i}, 256).barrier();
  }
  recording.end();
  stream.run({&recording});
  stream.run({&recording, &recording});
  const std::vector<int32_t> got = rig.ints(a, 256);
  for (int32_t i = 0; i < 256; ++i) EQUAL(got[size_t(i)], i + 3 * 4950);
}

CASE("contract: bindings at offsets, parameters, grids", Case::kernels) {
  Rig rig(s);
  Stream stream(rig);
  Recording recording(rig, stream.handle);
  const uint64_t step = std::max<uint64_t>(rig.properties.binding_alignment, 64);
  Rig::Memory &m = rig.allocate(4 * step + 64 * 4096);
  const std::vector<int32_t> zeros(size_t(4 * step + 64 * 4096) / 4, 0);
  rig.write_ints(m, zeros);
  rig.write_ints(m, {1, 2, 3, 4}, step);
  rig.write_ints(m, {10, 20, 30, 40}, 2 * step);
  recording.begin().dispatch(kAdd, {rig.span(m, step, 16), rig.span(m, 2 * step, 16), rig.span(m, 3 * step, 16)}, {}, 4).end();
  stream.run({&recording});
  EXPECT((rig.ints(m, 4, 3 * step) == std::vector<int32_t>{11, 22, 33, 44}));
  EXPECT((rig.ints(m, 4, 0) == std::vector<int32_t>{0, 0, 0, 0}));
  std::vector<int64_t> params;
  int64_t sum = 0;
  for (uint32_t i = 0; i < kManyParams; ++i) {
    params.push_back(i == 3 ? INT32_MIN : i == 4 ? INT32_MAX : i % 2 ? -int64_t(i) * 1000 : int64_t(i) * 77);
    sum += params[i] * (i + 1);
  }
  recording.begin().dispatch(kMany, {rig.span(m, 0, 4)}, params).end();
  stream.run({&recording});
  EQUAL(rig.ints(m, 1)[0], int32_t(sum));
  recording.begin().dispatch(kGrid, {rig.span(m, 0, 4 * 3 * 5 * 7)}, {}, 3, 5, 7).end();
  stream.run({&recording});
  const std::vector<int32_t> grid = rig.ints(m, 105);
  for (int32_t z = 0; z < 7; ++z)
    for (int32_t y = 0; y < 5; ++y)
      for (int32_t x = 0; x < 3; ++x) EQUAL(grid[size_t((z * 5 + y) * 3 + x)], x + 100 * y + 10000 * z);
  if (s.wide_params) {
    recording.begin().dispatch(kHigh, {rig.span(m, 0, 4)}, {(int64_t(5) << 32) + 7}).end();
    stream.run({&recording});
    EQUAL(rig.ints(m, 1)[0], 5);
  }
}

CASE("contract: the error word is told once, and belongs to its stream", Case::kernels) {
  Rig rig(s);
  Stream one(rig), two(rig);
  Recording bad(rig, one.handle), good(rig, one.handle), other(rig, two.handle);
  Rig::Memory &in = rig.allocate(64), &out = rig.allocate(64);
  rig.write_ints(in, {5, -1, 7});
  bad.begin().dispatch(kRefuse, {rig.span(in, 0, 12), rig.span(out, 0, 12)}, {0}, 3).end();
  good.begin().dispatch(kRefuse, {rig.span(in, 0, 4), rig.span(out, 0, 4)}, {0}, 1).end();
  other.begin().dispatch(kRefuse, {rig.span(in, 0, 4), rig.span(out, 0, 4)}, {0}, 1).end();
  for (int round = 0; round < 3; ++round) {
    EQUAL(one.outcome({&bad}), INGOT_KERNEL_ERROR);
    EQUAL(one.options.kernel_error, uint64_t(1) << 32 | kErrorCode);
    EXPECT(one.error.code == INGOT_KERNEL_ERROR && one.error.message[0] != 0);
    EQUAL(one.outcome({&good}), INGOT_OK);
    EQUAL(two.outcome({&other}), INGOT_OK);
  }
  EQUAL(one.outcome({&bad, &good}), INGOT_KERNEL_ERROR); // the first failure of several
  if (!rig.driver.finish) return;
  EQUAL(one.submit({&bad}), INGOT_OK); // both under way
  EQUAL(two.submit({&other}), INGOT_OK);
  EQUAL(two.finish(), INGOT_OK);
  EQUAL(one.finish(), INGOT_KERNEL_ERROR);
  EQUAL(one.submit({&bad}), INGOT_OK);
  EQUAL(one.submit({&good}), INGOT_OK);
  EQUAL(one.finish(), INGOT_KERNEL_ERROR);
  EQUAL(one.finish(), INGOT_OK);
}

CASE("contract: finish waits for the end", Case::kernels | Case::own_memory) {
  Rig rig(s);
  Stream stream(rig);
  Recording recording(rig, stream.handle);
  Rig::Memory &m = rig.allocate(4 * s.groups), &down = rig.allocate(4 * s.groups, INGOT_MEMORY_READBACK);
  void *mapped = nullptr;
  CALL(rig.driver.map(rig.device, down.memory, &mapped, &error));
  memset(mapped, 0, 4 * s.groups);
  rig.write_ints(m, std::vector<int32_t>(s.groups, 1));
  recording.begin().dispatch(kSpin, {rig.span(m, 0, 4 * s.groups)}, {s.spin}, s.groups).barrier().copy(rig.span(down, 0, 4 * s.groups), rig.span(m, 0, 4 * s.groups)).end();
  stream.run({&recording});
  expect_spun(static_cast<int32_t *>(mapped), s, spun(1, s.spin));
}

CASE("contract: a cancelled run ends, and the next finish waits for it", Case::kernels) {
  Rig rig(s);
  Stream stream(rig);
  Recording recording(rig, stream.handle);
  Rig::Memory &m = rig.allocate(4 * s.groups), &down = rig.allocate(4 * s.groups, INGOT_MEMORY_READBACK);
  void *mapped = nullptr;
  if (!rig.driver.host_memory) CALL(rig.driver.map(rig.device, down.memory, &mapped, &error));
  rig.write_ints(m, std::vector<int32_t>(s.groups, 1));
  recording.begin().dispatch(kSpin, {rig.span(m, 0, 4 * s.groups)}, {s.spin}, s.groups).barrier();
  if (mapped) recording.copy(rig.span(down, 0, 4 * s.groups), rig.span(m, 0, 4 * s.groups));
  recording.end();
  if (rig.driver.finish) {
    EQUAL(stream.submit({&recording}), INGOT_OK);
    stream.cancel = 1;
    EQUAL(stream.finish(), INGOT_CANCELLED);
    stream.cancel = 0;
    EQUAL(stream.finish(), INGOT_OK);
    expect_spun(static_cast<int32_t *>(mapped), s, spun(1, s.spin));
  } else {
    stream.cancel = 1;
    EQUAL(stream.submit({&recording}), INGOT_CANCELLED);
    stream.cancel = 0;
  }
  rig.write_ints(m, std::vector<int32_t>(s.groups, 2));
  stream.run({&recording});
  expect_spun(rig.ints(m, s.groups).data(), s, spun(2, s.spin));
}

CASE("contract: a deadline ends a run, and the next finish waits for it", Case::kernels) {
  Rig rig(s);
  Stream stream(rig);
  Recording recording(rig, stream.handle);
  Rig::Memory &m = rig.allocate(4 * s.groups);
  rig.write_ints(m, std::vector<int32_t>(s.groups, 1));
  recording.begin().dispatch(kSpin, {rig.span(m, 0, 4 * s.groups)}, {s.spin}, s.groups).barrier().dispatch(kSpin, {rig.span(m, 0, 4 * s.groups)}, {1}, s.groups).end();
  stream.options.deadline_ns = ingot::platform::now_ns() + 1;
  EQUAL(stream.outcome({&recording}), INGOT_DEADLINE_EXCEEDED);
  stream.options.deadline_ns = 0;
  EQUAL(stream.finish(), INGOT_OK);
  rig.write_ints(m, std::vector<int32_t>(s.groups, 3));
  stream.run({&recording});
  expect_spun(rig.ints(m, s.groups).data(), s, spun(3, s.spin + 1));
}

CASE("contract: what is destroyed waits for what still runs", Case::kernels | Case::own_memory) {
  Rig rig(s);
  Rig::Memory &m = rig.allocate(4 * s.groups);
  rig.write_ints(m, std::vector<int32_t>(s.groups, 1));
  {
    Stream stream(rig);
    Recording recording(rig, stream.handle);
    recording.begin().dispatch(kSpin, {rig.span(m, 0, 4 * s.groups)}, {s.spin}, s.groups).end();
    EQUAL(stream.submit({&recording}), INGOT_OK);
  }
  expect_spun(rig.ints(m, s.groups).data(), s, spun(1, s.spin));
}

CASE("contract: timed runs tell of each dispatch", Case::kernels) {
  Rig rig(s);
  Stream stream(rig);
  Recording first(rig, stream.handle), second(rig, stream.handle);
  Rig::Memory &m = rig.allocate(4096);
  const auto record = [&](Recording &r, uint32_t from) {
    r.begin(true);
    for (uint32_t i = 0; i < 5; ++i)
      r.dispatch(kBump, {rig.span(m, 0, 64)}, {1}, 1 + i, 1, 1, from + i).barrier().fill(rig.span(m, 1024, 64), 0, 1).barrier();
    r.end();
  };
  record(first, 10);
  record(second, 20);
  std::vector<ingot_driver_timing_t> events;
  stream.options.on_dispatch = [](void *user, const ingot_driver_timing_t *t) { static_cast<std::vector<ingot_driver_timing_t> *>(user)->push_back(*t); };
  stream.options.user = &events;
  for (int round = 0; round < 2; ++round) {
    events.clear();
    stream.run({&first, &second});
    EQUAL(events.size(), size_t(10));
    for (uint32_t i = 0; i < 10; ++i) {
      EQUAL(events[i].kernel, uint32_t(kBump));
      EQUAL(events[i].site, (i < 5 ? 10 : 20) + i % 5);
      EQUAL(events[i].version, 0u);
      EQUAL(events[i].grid[0], 1 + i % 5);
      EXPECT(events[i].start_ns <= events[i].end_ns);
      EXPECT(i == 0 || events[i - 1].start_ns <= events[i].start_ns);
    }
  }
}

CASE("contract: a timed run is given up as any other", Case::kernels) {
  Rig rig(s);
  Stream stream(rig);
  Recording recording(rig, stream.handle);
  Rig::Memory &m = rig.allocate(4 * s.groups);
  rig.write_ints(m, std::vector<int32_t>(s.groups, 1));
  recording.begin(true);
  for (int i = 0; i < 2; ++i) recording.dispatch(kSpin, {rig.span(m, 0, 4 * s.groups)}, {s.spin}, s.groups).barrier();
  recording.end();
  std::vector<ingot_driver_timing_t> events;
  stream.options.on_dispatch = [](void *user, const ingot_driver_timing_t *t) { static_cast<std::vector<ingot_driver_timing_t> *>(user)->push_back(*t); };
  stream.options.user = &events;
  const auto given_up = [&](ingot_code_t code, ingot_code_t want) { // with work perhaps still running
    EQUAL(code, want);
    EXPECT(events.size() < 2);
    stream.options.deadline_ns = 0;
    stream.cancel = 0;
    EQUAL(stream.finish(), INGOT_OK);
    events.clear();
  };
  stream.options.deadline_ns = ingot::platform::now_ns() + 1;
  given_up(stream.submit({&recording}), INGOT_DEADLINE_EXCEEDED);
  if (!rig.driver.finish) stream.cancel = 1; // those look between commands only
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    stream.cancel = 1;
  });
  const ingot_code_t code = stream.submit({&recording});
  other.join();
  given_up(code, INGOT_CANCELLED);
  rig.write_ints(m, std::vector<int32_t>(s.groups, 5));
  stream.run({&recording});
  EQUAL(events.size(), size_t(2));
  expect_spun(rig.ints(m, s.groups).data(), s, spun(5, 2 * s.spin));
}

CASE("contract: streams of many threads", Case::kernels) {
  Rig rig(s);
  std::vector<Rig::Memory *> memories;
  for (int i = 0; i < 8; ++i) {
    memories.push_back(&rig.allocate(256));
    rig.write_ints(*memories.back(), std::vector<int32_t>(64, i));
  }
  std::vector<std::string> problems(8);
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&, i] {
      try {
        for (int round = 0; round < 5; ++round) {
          Stream stream(rig);
          Recording recording(rig, stream.handle);
          recording.begin().dispatch(kBump, {rig.span(*memories[size_t(i)], 0, 256)}, {i + 1}, 64).end();
          for (int k = 0; k < 4; ++k) stream.run({&recording});
        }
      } catch (const Failed &f) {
        problems[size_t(i)] = f.what;
      }
    });
  for (std::thread &t : threads) t.join();
  for (int i = 0; i < 8; ++i) {
    if (!problems[size_t(i)].empty()) throw Failed{problems[size_t(i)]};
    EXPECT(rig.ints(*memories[size_t(i)], 64) == std::vector<int32_t>(64, i + 20 * (i + 1)));
  }
}

CASE("contract: imported memory is the host's", Case::own_memory | Case::import) {
  Rig rig(s);
  alignas(4096) static uint8_t page[4096];
  ingot_driver_memory_t *memory = nullptr;
  CALL(rig.driver.import(rig.device, page, sizeof page, &memory, &error));
  Stream stream(rig);
  Recording recording(rig, stream.handle);
  const ingot_driver_span_t all = {memory, nullptr, 0, sizeof page};
  recording.begin().fill(all, 0x5a, 1).end();
  stream.run({&recording});
  EXPECT(std::all_of(page, page + sizeof page, [](uint8_t b) { return b == 0x5a; }));
  rig.driver.release(rig.device, memory);
}

CASE("contract: a lost device stays lost, and everything can be destroyed", Case::kernels | Case::loss) {
  for (int at = 1; at < 12; ++at) {
    Rig rig(s, s.lose + std::to_string(at));
    Rig::Memory &m = rig.allocate(64);
    Stream stream(rig), other(rig);
    Recording recording(rig, stream.handle), its(rig, other.handle);
    recording.begin().dispatch(kBump, {rig.span(m, 0, 4)}, {1}).end();
    its.begin().dispatch(kBump, {rig.span(m, 0, 4)}, {1}).end();
    int runs = 0;
    while (stream.outcome({&recording}) == INGOT_OK && runs < 20) ++runs;
    EQUAL(stream.error.code, INGOT_DEVICE_LOST);
    EQUAL(runs, at - 1);
    for (int again = 0; again < 2; ++again) {
      EQUAL(stream.outcome({&recording}), INGOT_DEVICE_LOST);
      EQUAL(stream.finish(), INGOT_DEVICE_LOST);
      EQUAL(other.outcome({&its}), INGOT_DEVICE_LOST);
    }
    int32_t word = 0;
    ingot_error_t error = {};
    EQUAL(rig.driver.read(rig.device, m.memory, 0, &word, 4, &error), INGOT_DEVICE_LOST);
    EQUAL(rig.driver.write(rig.device, m.memory, 0, &word, 4, &error), INGOT_DEVICE_LOST);
  }
  Rig fresh(s); // opened anew, it works
  Rig::Memory &m = fresh.allocate(64);
  fresh.write_ints(m, {1});
  EQUAL(fresh.ints(m, 1)[0], 1);
}

} // namespace conformance
