// Instances, devices, buffers and semaphores: URIs and their errors, ownership, asynchronous runs.
#include <catch2/catch.hpp>

#include <thread>

#include "tests/archive/hand_made.h"
#include "tests/archive/support.h"

using namespace support;

namespace {

// " local-sync local-task null": the drivers of this build, as messages list them.
std::string drivers(const ingot::Instance &instance) {
  std::string names;
  ingot_driver_info_t info;
  for (size_t i = 0; ingot_driver_info(instance.get(), i, &info) == INGOT_OK; ++i) names += std::string(" ") + info.name;
  return names;
}

} // namespace

TEST_CASE("device URIs") {
  ingot::Instance instance;
  const std::string known = drivers(instance);
  const auto open = [&](const char *uri) {
    auto device = instance.open(uri);
    return device.ok() ? std::string(device->uri()) : std::string(device.status().code_name()) + ": " + device.message();
  };
  CHECK(open("local-sync") == "local-sync://0");
  CHECK(open("local-sync:0") == "local-sync://0");
  CHECK(open("local-sync://0") == "local-sync://0");
  CHECK(open("local-sync://0?features=0x1") == "local-sync://0?features=0x1");
  CHECK(open("auto") == (contains(known, "local-task") ? "local-task://0" : "local-sync://0"));
  CHECK(open("null") == "null://0");
  CHECK(open("local-sync:1") == "INGOT_NOT_FOUND: local-sync: no such device: the only one is local-sync:0");
  CHECK(open("local-sync?threads=1&features=0x1") == "local-sync://0?threads=1&features=0x1");
  CHECK(open("local-sync?threads=2") == "INGOT_INVALID_ARGUMENT: local-sync: 'threads=2': it runs on one thread (local-task uses more)");
  CHECK(open("local-sync?speed=2") == "INGOT_INVALID_ARGUMENT: local-sync: unknown option 'speed=2': known are threads=N and features=0xMASK");
  CHECK(open("local-sync?features=0xg") == "INGOT_INVALID_ARGUMENT: local-sync: 'features=0xg' is no hexadecimal number");
  CHECK(open("nothing") == "INGOT_NOT_FOUND: no driver 'nothing' in this build; it has:" + known);
  for (const char *bad : {"", ":", "local-sync:", "local-sync:x", "local-sync://", "local-sync:123456789"})
    CHECK(contains(open(bad), "is no device: write driver, driver:ordinal, driver://id?options or auto"));
  CHECK(contains(open(std::string(300, 'a').c_str()), "is no device"));
  auto fallback = instance.open("metal", "local-sync");
  CHECK(fallback.ok());
  auto none = instance.open("metal", "webgpu");
  CHECK(std::string(none.message()) == "no driver 'metal' in this build; it has:" + known + "; no driver 'webgpu' in this build; it has:" + known);
  CHECK(contains(none->prepare(ingot::Archive()).message(), "device is NULL"));
}

TEST_CASE("drivers and devices are listed with what decides compilation") {
  ingot::Instance instance;
  const size_t count = ingot_driver_count(instance.get());
  REQUIRE(count >= 2);
  ingot_driver_info_t info;
  REQUIRE(ingot_driver_info(instance.get(), 0, &info) == INGOT_OK);
  CHECK((std::string(info.name) == "local-sync" && info.available == INGOT_OK));
  CHECK(ingot_driver_info(instance.get(), count, &info) == INGOT_OUT_OF_RANGE);
  std::vector<std::string> seen;
  const auto visit = [](void *user, const char *uri, const char *) { static_cast<std::vector<std::string> *>(user)->push_back(uri); };
  REQUIRE(ingot_enumerate_devices(instance.get(), nullptr, visit, &seen, nullptr) == INGOT_OK);
  size_t available = 0; // one device each; a driver whose device is missing is listed, and has none
  for (size_t i = 0; i < count; ++i)
    if (ingot_driver_info(instance.get(), i, &info) == INGOT_OK && info.available == INGOT_OK) ++available;
  REQUIRE(seen.size() >= available);
  REQUIRE(available >= 2);
  CHECK((seen.front() == "local-sync://0" && seen.back() == "null://0"));
  CHECK(ingot_enumerate_devices(instance.get(), "webgpu", visit, &seen, nullptr) == INGOT_NOT_FOUND);
  seen.clear();
  auto device = instance.open("local-sync");
  REQUIRE(ingot_device_describe(device->get(), visit, &seen, nullptr) == INGOT_OK);
  CHECK(seen == std::vector<std::string>{"name", "arch", "features", "feature-mask", "cores", "threads"});
}

TEST_CASE("an archive for another machine is explained") {
  hand_made::Builder b;
  b.kernel("empty", {}, 0);
  b.function();
  hand_made::Variant other = b.variant();
  other.target = "vulkan-spirv";
  b.model.variants.insert(b.model.variants.begin(), other);
  other.target = "llvm-cpu";
  other.arch = "pdp11";
  b.model.variants.insert(b.model.variants.begin(), other);
  const std::vector<uint8_t> bytes = b.bytes();
  Loaded l(bytes);
  REQUIRE(l.session.ok());
  CHECK(ingot_session_variant(l.session->get()) == 2);
  ingot_error_t e;
  CHECK(ingot_archive_explain(l.archive->get(), 0, l.device->get(), &e) == INGOT_INCOMPATIBLE);
  CHECK(contains(e.message, "it is for pdp11, this machine is"));
  CHECK(ingot_archive_explain(l.archive->get(), 1, l.device->get(), &e) == INGOT_INCOMPATIBLE);
  CHECK(contains(e.message, "it is for target vulkan-spirv, this driver runs llvm-cpu"));
  CHECK(ingot_archive_explain(l.archive->get(), 2, l.device->get(), &e) == INGOT_OK);
  CHECK(ingot_archive_explain(l.archive->get(), 3, l.device->get(), &e) == INGOT_OUT_OF_RANGE);
  b.model.variants.pop_back();
  Loaded none(b.bytes());
  CHECK(none.session.status().code() == INGOT_INCOMPATIBLE);
  CHECK(contains(none.error(), "none of the archive's 2 variants runs here"));
  auto device = none.instance.open(*none.archive, "auto");
  CHECK(contains(device.message(), "cannot run the archive"));
}

TEST_CASE("buffers: owned and imported, bound at offsets, never beyond their end") {
  Loaded l(hand_made::add_scale(8));
  REQUIRE(l.session.ok());
  auto owned = l.device->allocate(100);
  REQUIRE(owned.ok());
  std::vector<float> memory(16, 1);
  auto imported = l.device->import(memory.data(), 64);
  REQUIRE(imported.ok());
  const float x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  CHECK(owned->write(64, x, 32).ok());
  CHECK(owned->write(69, x, 32).code() == INGOT_OUT_OF_RANGE);
  CHECK(owned->write(SIZE_MAX, x, 32).code() == INGOT_OUT_OF_RANGE);
  const int64_t dims[] = {8};
  for (int round = 0; round < 3; ++round) {
    ingot::Tensor in[] = {owned->view(INGOT_ELEMENT_TYPE_F32, dims, 64)}, out[] = {imported->view(INGOT_ELEMENT_TYPE_F32, dims, 16)};
    const ingot::Status status = l.session->run(in, out);
    INFO(status.message());
    REQUIRE(status.ok());
    CHECK(memory[3] == 1);
    for (int i = 0; i < 8; ++i) CHECK(memory[4 + i] == (x[i] + 0.5f * float(i)) * 2);
    CHECK(memory[12] == 1);
    in[0] = owned->view(INGOT_ELEMENT_TYPE_F32, dims, 72); // 28 bytes left
    CHECK(contains(l.session->run(in, out).message(), "needs 32 bytes, its memory holds 28"));
    in[0].buffer_offset = 101;
    CHECK(contains(l.session->run(in, out).message(), "offset 101 is past the end of a buffer of 100 bytes"));
  }
}

TEST_CASE("semaphores: order, failure, time") {
  ingot::Instance instance;
  auto device = instance.open("local-sync");
  auto s = device->semaphore(3);
  REQUIRE(s.ok());
  CHECK(s->wait(3).ok());
  CHECK(s->wait(4, 1000000).code() == INGOT_DEADLINE_EXCEEDED);
  CHECK(s->signal(3).code() == INGOT_INVALID_ARGUMENT);
  std::thread signaller([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    (void)s->signal(10);
  });
  CHECK(s->wait(7).ok());
  signaller.join();
  CHECK(*s->query() == 10);
  std::thread failer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    ingot_error_t reason = {INGOT_DEVICE_LOST, "the cable"};
    ingot_semaphore_fail(s->get(), &reason);
  });
  const ingot::Status failed = s->wait(11);
  failer.join();
  CHECK(failed.code() == INGOT_DEVICE_LOST);
  CHECK(std::string(failed.message()) == "the cable");
  CHECK(s->signal(12).code() == INGOT_DEVICE_LOST);
}

TEST_CASE("submitted runs wait, signal, and pass their failures on") {
  Loaded l(hand_made::gather());
  REQUIRE(l.session.ok());
  auto ready = l.device->semaphore(), done = l.device->semaphore();
  std::vector<int64_t> index = {2};
  std::vector<float> y(1);
  ingot::Tensor in[] = {tensor(index, INGOT_ELEMENT_TYPE_I64, {1})}, out[] = {tensor(y, INGOT_ELEMENT_TYPE_F32, {1})};
  std::thread producer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    index[0] = 3;
    (void)ready->signal(1);
  });
  const ingot::SemaphoreValue waits[] = {ready->at(1)}, signals[] = {done->at(1)};
  CHECK(l.session->submit(in, out, waits, signals).ok());
  producer.join();
  CHECK(done->wait(1).ok());
  CHECK(y[0] == 13);
  index[0] = 9;
  const ingot::SemaphoreValue next[] = {done->at(2)};
  CHECK(l.session->submit(in, out, waits, next).code() == INGOT_KERNEL_ERROR);
  CHECK(done->wait(2).code() == INGOT_KERNEL_ERROR);
}

TEST_CASE("NULL handles are refused, never followed") {
  ingot_error_t e;
  ingot_archive_t *archive = nullptr;
  ingot_session_t *session = nullptr;
  ingot_context_t *context = nullptr;
  CHECK(ingot_archive_map(nullptr, nullptr, &archive, &e) == INGOT_INVALID_ARGUMENT);
  CHECK(ingot_archive_open(nullptr, nullptr, 10, false, &archive, &e) == INGOT_INVALID_ARGUMENT);
  CHECK(ingot_archive_check_hashes(nullptr, &e) == INGOT_INVALID_ARGUMENT);
  CHECK(ingot_session_prepare(nullptr, nullptr, &session, &e) == INGOT_INVALID_ARGUMENT);
  CHECK(ingot_session_run(nullptr, 0, nullptr, 0, nullptr, 0, &e) == INGOT_INVALID_ARGUMENT);
  CHECK(ingot_session_infer(nullptr, 0, nullptr, 0, nullptr, 0, nullptr) == INGOT_INVALID_ARGUMENT);
  CHECK(ingot_context_create(nullptr, &context, &e) == INGOT_INVALID_ARGUMENT);
  CHECK(ingot_context_run(nullptr, 0, nullptr, 0, nullptr, 0, nullptr, nullptr) == INGOT_INVALID_ARGUMENT);
  CHECK(ingot_semaphore_wait(nullptr, 0, 0, &e) == INGOT_INVALID_ARGUMENT);
  CHECK(ingot_buffer_write(nullptr, 0, nullptr, 0, &e) == INGOT_INVALID_ARGUMENT);
  ingot_archive_release(nullptr);
  ingot_session_release(nullptr);
  ingot_context_release(nullptr);
  ingot_device_release(nullptr);
  ingot_instance_release(nullptr);
  ingot_semaphore_release(nullptr);
  ingot_buffer_release(nullptr);
}
