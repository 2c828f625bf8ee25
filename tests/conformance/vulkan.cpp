// The driver vulkan on the application's own device (<ingot/vulkan.h>), under the validation layer: one message of it fails
// a case, and it watches over threads that use a queue at once and over objects left behind.
#include <dlfcn.h>
#include <stdlib.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>

#define VK_NO_PROTOTYPES
#include <ingot/vulkan.h>
#include <vulkan/vulkan.h>

#include "src/runtime/api/session.h"
#include "src/runtime/archive/hash.h"
#include "tests/conformance/programs.h"
#include "tests/conformance/suite.h"

namespace conformance {
namespace {

using Ints = std::vector<int32_t>;
constexpr ingot_element_type_t kI32Type = INGOT_ELEMENT_TYPE_I32;

#define VK(call)                                                                                                       \
  do {                                                                                                                 \
    const VkResult result_ = (call);                                                                                   \
    if (result_ != VK_SUCCESS) failed(__FILE__, __LINE__, #call ": VkResult " + std::to_string(result_));              \
  } while (0)

struct AppOptions {
  bool timelines = true;
  bool old_chain = false; // the structs of extensions instead of VkPhysicalDeviceVulkan12Features
  std::vector<const char *> extensions;
};

// An application with a device, a queue and a lock.
class App {
public:
  explicit App(const AppOptions &options = {}) : options_(options) {
    void *library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) failed(__FILE__, __LINE__, "no libvulkan.so.1");
    get = reinterpret_cast<PFN_vkGetInstanceProcAddr>(dlsym(library, "vkGetInstanceProcAddr"));
    create_instance();
    uint32_t one = 1;
    const VkResult result = at<PFN_vkEnumeratePhysicalDevices>("vkEnumeratePhysicalDevices")(instance, &one, &physical);
    if (result != VK_SUCCESS && result != VK_INCOMPLETE) failed(__FILE__, __LINE__, "no device");
    create_device();
  }
  ~App() {
    at<PFN_vkDestroyDevice>("vkDestroyDevice")(device, nullptr);
    at<PFN_vkDestroyDebugUtilsMessengerEXT>("vkDestroyDebugUtilsMessengerEXT")(instance, messenger, nullptr);
    at<PFN_vkDestroyInstance>("vkDestroyInstance")(instance, nullptr);
  }
  App(const App &) = delete;

  template <class F> F at(const char *name) const { return reinterpret_cast<F>(get(instance, name)); }
  void expect_silence() const {
    if (!messages.empty()) failed(__FILE__, __LINE__, std::to_string(messages.size()) + " messages; the first: " + messages[0]);
  }

  ingot_vulkan_import_t given() {
    ingot_vulkan_import_t out = {};
    out.struct_size = sizeof out;
    out.get_instance_proc_addr = get;
    out.instance = instance;
    out.physical_device = physical;
    out.device = device;
    out.create_info = &info;
    out.queue = queue;
    out.queue_family = family;
    out.lock = [](void *user) {
      App &app = *static_cast<App *>(user);
      app.mutex.lock();
      ++app.locks;
    };
    out.unlock = [](void *user) { static_cast<App *>(user)->mutex.unlock(); };
    out.user = this;
    return out;
  }

  // Work of the application's own.
  void submit_nothing() {
    const std::lock_guard<std::mutex> lock(mutex);
    VK(at<PFN_vkQueueSubmit>("vkQueueSubmit")(queue, 0, nullptr, VK_NULL_HANDLE));
  }

  PFN_vkGetInstanceProcAddr get = nullptr;
  VkInstance instance = VK_NULL_HANDLE;
  VkDebugUtilsMessengerEXT messenger = VK_NULL_HANDLE;
  VkPhysicalDevice physical = VK_NULL_HANDLE;
  VkDevice device = VK_NULL_HANDLE;
  VkQueue queue = VK_NULL_HANDLE;
  uint32_t family = 0;
  VkDeviceCreateInfo info = {};
  std::mutex mutex;
  long locks = 0;
  std::vector<std::string> messages;

private:
  void create_instance() {
    const char *const layer = "VK_LAYER_KHRONOS_validation", *const extension = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
    VkApplicationInfo application = {VK_STRUCTURE_TYPE_APPLICATION_INFO, nullptr, "test", 1, "test", 1, VK_API_VERSION_1_2};
    VkInstanceCreateInfo create = {VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, nullptr, 0, &application, 1, &layer, 1, &extension};
    VK(at<PFN_vkCreateInstance>("vkCreateInstance")(&create, nullptr, &instance));
    VkDebugUtilsMessengerCreateInfoEXT report = {};
    report.sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT;
    report.messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT;
    report.messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_GENERAL_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT |
                         VK_DEBUG_UTILS_MESSAGE_TYPE_PERFORMANCE_BIT_EXT;
    report.pUserData = &messages;
    report.pfnUserCallback = [](VkDebugUtilsMessageSeverityFlagBitsEXT, VkDebugUtilsMessageTypeFlagsEXT,
                                const VkDebugUtilsMessengerCallbackDataEXT *data, void *user) -> VkBool32 {
      static std::mutex one;
      const std::lock_guard<std::mutex> lock(one);
      static_cast<std::vector<std::string> *>(user)->push_back(data->pMessage);
      return VK_FALSE;
    };
    VK(at<PFN_vkCreateDebugUtilsMessengerEXT>("vkCreateDebugUtilsMessengerEXT")(instance, &report, nullptr, &messenger));
  }

  void create_device() {
    core_.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2;
    core_.features.shaderInt64 = VK_TRUE;
    core_.pNext = &twelve_;
    twelve_.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES;
    twelve_.timelineSemaphore = options_.timelines;
    timeline_.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES;
    timeline_.timelineSemaphore = options_.timelines;
    if (options_.old_chain) core_.pNext = &timeline_;
    queue_info_ = {VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO, nullptr, 0, family, 1, &priority_};
    info.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO;
    info.pNext = &core_;
    info.queueCreateInfoCount = 1;
    info.pQueueCreateInfos = &queue_info_;
    info.enabledExtensionCount = uint32_t(options_.extensions.size());
    info.ppEnabledExtensionNames = options_.extensions.data();
    VK(at<PFN_vkCreateDevice>("vkCreateDevice")(physical, &info, nullptr, &device));
    at<PFN_vkGetDeviceQueue>("vkGetDeviceQueue")(device, family, 0, &queue);
  }

  AppOptions options_;
  VkPhysicalDeviceFeatures2 core_ = {};
  VkPhysicalDeviceVulkan12Features twelve_ = {};
  VkPhysicalDeviceTimelineSemaphoreFeatures timeline_ = {};
  VkDeviceQueueCreateInfo queue_info_ = {};
  float priority_ = 1;
};

// A buffer of the application's, mapped.
class AppBuffer {
public:
  AppBuffer(App &app, uint64_t size) : app_(app) {
    VkBufferCreateInfo create = {};
    create.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO;
    create.size = size;
    create.usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT;
    VK(app.at<PFN_vkCreateBuffer>("vkCreateBuffer")(app.device, &create, nullptr, &handle));
    VkMemoryRequirements needs;
    app.at<PFN_vkGetBufferMemoryRequirements>("vkGetBufferMemoryRequirements")(app.device, handle, &needs);
    VkPhysicalDeviceMemoryProperties types;
    app.at<PFN_vkGetPhysicalDeviceMemoryProperties>("vkGetPhysicalDeviceMemoryProperties")(app.physical, &types);
    VkMemoryAllocateInfo allocate = {VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, nullptr, needs.size, 0};
    const VkMemoryPropertyFlags wanted = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    while (!(needs.memoryTypeBits >> allocate.memoryTypeIndex & 1) ||
           (types.memoryTypes[allocate.memoryTypeIndex].propertyFlags & wanted) != wanted)
      ++allocate.memoryTypeIndex;
    VK(app.at<PFN_vkAllocateMemory>("vkAllocateMemory")(app.device, &allocate, nullptr, &memory_));
    VK(app.at<PFN_vkBindBufferMemory>("vkBindBufferMemory")(app.device, handle, memory_, 0));
    void *data = nullptr;
    VK(app.at<PFN_vkMapMemory>("vkMapMemory")(app.device, memory_, 0, VK_WHOLE_SIZE, 0, &data));
    bytes = static_cast<uint8_t *>(data);
    std::memset(bytes, 0xee, size);
  }
  ~AppBuffer() {
    app_.at<PFN_vkDestroyBuffer>("vkDestroyBuffer")(app_.device, handle, nullptr);
    app_.at<PFN_vkFreeMemory>("vkFreeMemory")(app_.device, memory_, nullptr);
  }
  AppBuffer(const AppBuffer &) = delete;
  VkBuffer handle = VK_NULL_HANDLE;
  uint8_t *bytes = nullptr;

private:
  App &app_;
  VkDeviceMemory memory_ = VK_NULL_HANDLE;
};

ingot::Device import(ingot::Instance &instance, App &app) {
  ingot_device_t *out = nullptr;
  ingot_error_t error = {};
  const ingot_vulkan_import_t given = app.given();
  if (ingot_vulkan_device_import(instance.get(), &given, nullptr, &out, &error) != INGOT_OK) failed(__FILE__, __LINE__, error.message);
  return ingot::Device(out);
}

ingot::Buffer import(const ingot::Device &device, const AppBuffer &buffer, uint64_t offset, uint64_t size) {
  ingot_buffer_t *out = nullptr;
  ingot_error_t error = {};
  if (ingot_vulkan_buffer_import(device.get(), buffer.handle, offset, size, &out, &error) != INGOT_OK) failed(__FILE__, __LINE__, error.message);
  return ingot::Buffer(out);
}

struct Prepared {
  Prepared(ingot::Device &device, Bytes content) : bytes(std::move(content)), archive(ingot::Archive::open(bytes.data(), bytes.size())) {
    GOOD(archive);
    auto made = device.prepare(*archive);
    GOOD(made);
    session = std::move(*made);
    auto own = session.context();
    GOOD(own);
    context = std::move(*own);
  }
  Bytes bytes;
  ingot::Result<ingot::Archive> archive;
  ingot::Session session;
  ingot::Context context;
};

std::atomic<long> copies{0};
const ingot_driver_t *plain = nullptr;

// Counts copies that are recorded while it lives.
class CountCopies {
public:
  explicit CountCopies(ingot_device_t *device) : device_(device), table_(*device->driver) {
    plain = device->driver;
    copies = 0;
    table_.record_copy = [](ingot_driver_recording_t *r, const ingot_driver_span_t *a, const ingot_driver_span_t *b) { ++copies, plain->record_copy(r, a, b); };
    device->driver = &table_;
  }
  ~CountCopies() { device_->driver = plain; }

private:
  ingot_device_t *device_;
  ingot_driver_t table_;
};

void expect_line(const int32_t *x, const int32_t *y) {
  for (int i = 0; i < 64; ++i) EQUAL(y[i], (x[i] + 10 * i) * 3 - 5);
}

} // namespace

CASE("vulkan: buffers of the application's are used where they are, on its queue", Case::kernels | Case::vulkan) {
  for (const bool old_chain : {false, true}) {
    AppOptions options;
    options.old_chain = old_chain;
    App app(options);
    {
      AppBuffer in(app, 4096), out(app, 4096);
      ingot::Instance instance;
      ingot::Device device = import(instance, app);
      EXPECT(support::contains(device.uri(), "vulkan://"));
      Prepared p(device, line(s.target));
      const int64_t dims[] = {64};
      for (const uint64_t offset : {uint64_t(0), uint64_t(256), uint64_t(3840)}) {
        int32_t *x = reinterpret_cast<int32_t *>(in.bytes + offset), *y = reinterpret_cast<int32_t *>(out.bytes + offset);
        for (int i = 0; i < 64; ++i) x[i] = int32_t(offset) - 7 * i;
        const ingot::Buffer from = import(device, in, offset, 256), to = import(device, out, offset, 256);
        const ingot::Tensor inputs[] = {from.view(kI32Type, {dims, 1})};
        ingot::Tensor outputs[] = {to.view(kI32Type, {dims, 1})};
        const CountCopies count(device.get());
        GOOD(p.context.run(inputs, outputs));
        EQUAL(copies.load(), 0);
        expect_line(x, y);
      }
      for (uint64_t at = 0; at < 4096; ++at) // and nothing else is touched
        if (at >= 512 && at < 3840) EQUAL(int(out.bytes[at]), 0xee);
      // Reading, writing, offsets that no binding may have, and a part that is not whole words.
      ingot::Buffer whole = import(device, out, 256, 3840), odd = import(device, in, 0, 4093);
      Ints x(64), y(64);
      for (int i = 0; i < 64; ++i) x[size_t(i)] = 1000 + i;
      GOOD(odd.write(3, x.data(), 256));
      EXPECT(std::memcmp(in.bytes + 3, x.data(), 256) == 0);
      const ingot::Tensor inputs[] = {odd.view(kI32Type, {dims, 1}, 3)};
      ingot::Tensor outputs[] = {whole.view(kI32Type, {dims, 1}, 1028)};
      GOOD(p.context.run(inputs, outputs));
      GOOD(whole.read(1028, y.data(), 256));
      EXPECT(std::memcmp(out.bytes + 256 + 1028, y.data(), 256) == 0);
      expect_line(x.data(), y.data());
      EXPECT(app.locks > 0);
    }
    app.submit_nothing(); // Ingot is gone, the device is not
    app.expect_silence();
  }
}

CASE("vulkan: fills and copies inside buffers of the application's", Case::vulkan) {
  App app;
  {
    AppBuffer all(app, 4096);
    ingot::Instance instance;
    ingot::Device device = import(instance, app);
    Prepared p(device, moves(s.target));
    const int64_t forty[] = {40}, eight[] = {8};
    const ingot::Buffer x = import(device, all, 256, 160), a = import(device, all, 512, 160), b = import(device, all, 768, 160), c = import(device, all, 1024, 64);
    for (int i = 0; i < 160; ++i) all.bytes[256 + i] = uint8_t(3 * i);
    const ingot::Tensor in[] = {x.view(kI32Type, {forty, 1})};
    ingot::Tensor out[] = {a.view(kI32Type, {forty, 1}), b.view(kI32Type, {forty, 1}), c.view(INGOT_ELEMENT_TYPE_I64, {eight, 1})};
    GOOD(p.context.run(in, out));
    EXPECT(std::memcmp(all.bytes + 512, all.bytes + 256, 160) == 0);
    Ints want(40, 0x01020304);
    std::memcpy(reinterpret_cast<char *>(want.data()) + 4, all.bytes + 256 + 12, 7);
    EXPECT(std::memcmp(all.bytes + 768, want.data(), 160) == 0);
    for (int i = 0; i < 64; ++i) EQUAL(int(all.bytes[1024 + i]), 8 - i % 8);
    for (int i = 0; i < 256; ++i) EQUAL(int(all.bytes[i]), 0xee);
  }
  app.expect_silence();
}

CASE("vulkan: the queue is shared with threads of the application's", Case::kernels | Case::vulkan) {
  App app;
  {
    ingot::Instance instance;
    ingot::Device device = import(instance, app);
    Prepared p(device, line(s.target));
    std::atomic<bool> stop{false};
    std::thread frames([&] {
      while (!stop) app.submit_nothing();
    });
    std::vector<std::thread> runs;
    std::atomic<int> wrong{0};
    for (int t = 0; t < 3; ++t)
      runs.emplace_back([&, t] {
        auto context = p.session.context();
        for (int round = 0; round < 30; ++round) {
          Ints x(64, t * 100 + round), y(64);
          const ingot::Tensor in[] = {support::tensor(x, kI32Type, {64})};
          ingot::Tensor out[] = {support::tensor(y, kI32Type, {64})};
          if (!context.ok() || !context->run(in, out).ok()) ++wrong;
          for (int i = 0; i < 64; ++i) wrong += y[size_t(i)] != (x[size_t(i)] + 10 * i) * 3 - 5;
        }
      });
    for (std::thread &t : runs) t.join();
    stop = true;
    frames.join();
    EQUAL(wrong.load(), 0);
    EXPECT(app.locks >= 90);
  }
  app.expect_silence();
}

CASE("vulkan: a run that is late leaves the application's buffers alone", Case::kernels | Case::vulkan) {
  App app;
  {
    ingot::Instance instance;
    ingot::Device device = import(instance, app);
    Prepared p(device, spin(s.target, s.spin, s.groups, 4));
    const int64_t dims[] = {s.groups};
    ingot::RunOptions hurry = {sizeof(ingot::RunOptions), 1'000'000, nullptr, nullptr};
    {
      AppBuffer in(app, 4 * s.groups), out(app, 4 * s.groups);
      const ingot::Buffer from = import(device, in, 0, 4 * s.groups), to = import(device, out, 0, 4 * s.groups);
      const ingot::Tensor inputs[] = {from.view(kI32Type, {dims, 1})};
      ingot::Tensor outputs[] = {to.view(kI32Type, {dims, 1})};
      EQUAL(p.context.run(inputs, outputs, &hurry).code(), INGOT_DEADLINE_EXCEEDED);
    } // destroyed at once: the validation layer says so where a command buffer still uses it
    Ints x(s.groups, 5), y(s.groups);
    const ingot::Tensor inputs[] = {support::tensor(x, kI32Type, {s.groups})};
    ingot::Tensor outputs[] = {support::tensor(y, kI32Type, {s.groups})};
    GOOD(p.context.run(inputs, outputs));
    EXPECT(y == Ints(s.groups, spun(5, 4 * s.spin)));
  }
  app.expect_silence();
}

CASE("vulkan: what cannot be imported is refused", Case::vulkan) {
  App app;
  ingot::Instance instance;
  const auto refused = [&](ingot_code_t code, const char *part, const char *options, auto change) {
    ingot_vulkan_import_t given = app.given();
    VkDeviceCreateInfo info = app.info;
    given.create_info = &info;
    change(given, info);
    ingot_device_t *out = nullptr;
    ingot_error_t error = {};
    EQUAL(ingot_vulkan_device_import(instance.get(), &given, options, &out, &error), code);
    if (!support::contains(error.message, part)) failed(__FILE__, __LINE__, error.message);
  };
  refused(INGOT_INVALID_ARGUMENT, "struct_size", nullptr, [](auto &given, auto &) { given.struct_size = 8; });
  refused(INGOT_INVALID_ARGUMENT, "device is NULL", nullptr, [](auto &given, auto &) { given.device = nullptr; });
  refused(INGOT_INVALID_ARGUMENT, "create_info is NULL", nullptr, [](auto &given, auto &) { given.create_info = nullptr; });
  refused(INGOT_INVALID_ARGUMENT, "come together", nullptr, [](auto &given, auto &) { given.unlock = nullptr; });
  refused(INGOT_INVALID_ARGUMENT, "queue family 99", nullptr, [](auto &given, auto &) { given.queue_family = 99; });
  refused(INGOT_INVALID_ARGUMENT, "without a queue", nullptr, [](auto &, auto &info) { info.queueCreateInfoCount = 0; });
  refused(INGOT_INCOMPATIBLE, "timelineSemaphore", nullptr, [](auto &, auto &info) { info.pNext = nullptr; });
  refused(INGOT_INVALID_ARGUMENT, "your instance", "validation=1", [](auto &, auto &) {});
  refused(INGOT_INVALID_ARGUMENT, "unknown option", "colour=blue", [](auto &, auto &) {});
  EQUAL(ingot_vulkan_device_import(instance.get(), nullptr, nullptr, nullptr, nullptr), INGOT_INVALID_ARGUMENT);
  {
    AppBuffer buffer(app, 4096);
    ingot::Device device = import(instance, app);
    const auto buffer_refused = [&](ingot_code_t code, const char *part, uint64_t offset, uint64_t size) {
      ingot_buffer_t *out = nullptr;
      ingot_error_t error = {};
      EQUAL(ingot_vulkan_buffer_import(device.get(), buffer.handle, offset, size, &out, &error), code);
      if (!support::contains(error.message, part)) failed(__FILE__, __LINE__, error.message);
    };
    buffer_refused(INGOT_INVALID_ARGUMENT, "multiples of", 2, 4);
    buffer_refused(INGOT_INVALID_ARGUMENT, "no bytes", 0, 0);
    buffer_refused(INGOT_OUT_OF_RANGE, "past the end", 256, 1 << 20);
    buffer_refused(INGOT_OUT_OF_RANGE, "past the end", 0, UINT64_MAX - 1);
    buffer_refused(INGOT_OUT_OF_RANGE, "past the end", UINT64_MAX - 255, 512);
    auto other = instance.open("local-sync");
    ingot_buffer_t *out = nullptr;
    EQUAL(ingot_vulkan_buffer_import(other->get(), buffer.handle, 0, 256, &out, nullptr), INGOT_INVALID_ARGUMENT);
    EQUAL(ingot_vulkan_buffer_import(device.get(), VK_NULL_HANDLE, 0, 256, &out, nullptr), INGOT_INVALID_ARGUMENT);
    // Host memory needs an extension that this application did not switch on.
    alignas(4096) static uint8_t page[4096];
    const auto host = device.import(page, sizeof page);
    EQUAL(host.status().code(), INGOT_UNIMPLEMENTED);
    EXPECT(support::contains(host.message(), "VK_EXT_external_memory_host"));
  }
  app.expect_silence();
}

CASE("vulkan: host memory through an extension of the application's", Case::kernels | Case::vulkan) {
  AppOptions options;
  options.extensions = {VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME};
  App app(options);
  {
    ingot::Instance instance;
    ingot::Device device = import(instance, app);
    alignas(4096) static uint8_t page[4096];
    GOOD(device.import(page, sizeof page));
  }
  app.expect_silence();
}

namespace {

namespace fs = std::filesystem;

// A folder that goes with the object.
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

Bytes bytes_of(const fs::path &file) {
  std::ifstream in(file, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(in), {});
}
void write_bytes(const fs::path &file, const Bytes &bytes) {
  std::ofstream(file, std::ios::binary | std::ios::trunc).write(reinterpret_cast<const char *>(bytes.data()), std::streamsize(bytes.size()));
}

ingot_vulkan_pipeline_cache_info_t cache_info(const ingot::Device &device) {
  ingot_vulkan_pipeline_cache_info_t info = {};
  info.struct_size = sizeof info;
  EQUAL(ingot_vulkan_pipeline_cache_info(device.get(), &info, nullptr), INGOT_OK);
  return info;
}

ingot::Device open(ingot::Instance &instance, const std::string &uri) {
  auto device = instance.open(uri.c_str());
  GOOD(device);
  return std::move(*device);
}

Bytes cache_of(const ingot::Device &device) {
  size_t size = 0;
  ingot_error_t error = {};
  EQUAL(ingot_vulkan_pipeline_cache_get(device.get(), nullptr, 0, &size, &error), INGOT_OK);
  Bytes out(size);
  EQUAL(ingot_vulkan_pipeline_cache_get(device.get(), out.data(), out.size(), &size, &error), INGOT_OK);
  EQUAL(size, out.size());
  return out;
}

void expect_runs(Prepared &p) {
  Ints x(64, 3), y(64);
  const ingot::Tensor in[] = {support::tensor(x, kI32Type, {64})};
  ingot::Tensor out[] = {support::tensor(y, kI32Type, {64})};
  GOOD(p.context.run(in, out));
  expect_line(x.data(), y.data());
}

// The layout of a blob: 56 bytes of Ingot's, whose last 16 are the size and the checksum of the rest.
constexpr size_t kBlobHeader = 56;
Bytes sealed(Bytes blob) {
  const uint64_t size = blob.size() - kBlobHeader, hash = ingot::xxh3(blob.data() + kBlobHeader, blob.size() - kBlobHeader);
  std::memcpy(blob.data() + 40, &size, 8);
  std::memcpy(blob.data() + 48, &hash, 8);
  return blob;
}

} // namespace

CASE("vulkan: pipelines are kept in a folder, and found there again", Case::kernels | Case::vulkan) {
  const Folder folder;
  const std::string uri = s.uri + "&cache=" + folder.path.string();
  ingot::Instance instance;
  uint64_t pipelines = 0;
  {
    ingot::Device device = open(instance, uri);
    EXPECT(support::contains(device.uri(), uri.substr(uri.find('?')).c_str()));
    Prepared p(device, line(s.target));
    expect_runs(p);
    const auto first = cache_info(device);
    EQUAL(first.blobs_taken + first.blobs_refused + first.files_not_written + first.pipelines_found, 0u);
    EQUAL(first.files_written, 1u);
    pipelines = first.pipelines;
    EXPECT(pipelines > 0);
    Prepared again(device, line(s.target));
    EQUAL(cache_info(device).files_written, 1u); // nothing is new
    EQUAL(cache_info(device).pipelines, 2 * pipelines);
  }
  EQUAL(folder.files().size(), 1u);
  EXPECT((fs::status(folder.files()[0]).permissions() & (fs::perms::group_all | fs::perms::others_all)) == fs::perms::none);
  ingot::Device device = open(instance, uri);
  EQUAL(cache_info(device).blobs_taken, 1u);
  Prepared p(device, line(s.target));
  expect_runs(p);
  const auto second = cache_info(device);
  EQUAL(second.pipelines, pipelines);
  // Mesa's software device of 2022 keeps nothing in a cache; every other device says that it found them all.
  const bool keeps = bytes_of(folder.files()[0]).size() > kBlobHeader + sizeof(VkPipelineCacheHeaderVersionOne);
  EQUAL(second.pipelines_found, keeps ? pipelines : 0);
  EQUAL(second.files_written + second.blobs_refused, 0u);
}

CASE("vulkan: a pipeline cache that is damaged, cut short or another device's is left alone", Case::kernels | Case::vulkan) {
  const Folder folder;
  const std::string uri = "vulkan:0?cache=" + folder.path.string();
  ingot::Instance instance;
  {
    ingot::Device device = open(instance, uri);
    Prepared p(device, line(s.target));
  }
  const fs::path file = folder.files()[0];
  const Bytes whole = bytes_of(file);
  std::vector<Bytes> wrong;
  for (size_t i = 0; i < whole.size(); i += i < kBlobHeader + 64 ? 1 : 1 + whole.size() / 50) {
    wrong.push_back(whole);
    wrong.back()[i] = uint8_t(wrong.back()[i] ^ (1 << i % 8));
    if (i) wrong.push_back(Bytes(whole.begin(), whole.begin() + long(i)));
  }
  wrong.push_back(whole);
  wrong.back().push_back(0);
  for (size_t i = 0; i < sizeof(VkPipelineCacheHeaderVersionOne); ++i) { // the checksum is right, Vulkan's header is not
    if (i < 4) continue;                                                 // its length: below
    Bytes b = whole;
    b[kBlobHeader + i] ^= 0x10;
    wrong.push_back(sealed(b));
  }
  for (const uint32_t length : {0u, 31u, 0x7fffffffu, 0xffffffffu}) {
    Bytes b = whole;
    std::memcpy(b.data() + kBlobHeader, &length, 4);
    wrong.push_back(sealed(b));
  }
  wrong.push_back(sealed(Bytes(whole.begin(), whole.begin() + kBlobHeader + 20)));
  ingot::Device other = open(instance, "vulkan:0");
  for (const Bytes &b : wrong) { // given to a device that is open
    ingot_error_t error = {};
    const ingot_code_t code = ingot_vulkan_pipeline_cache_add(other.get(), b.data(), b.size(), &error);
    EXPECT(code == INGOT_CORRUPT || code == INGOT_INCOMPATIBLE);
    EXPECT(error.message[0] != 0);
  }
  EQUAL(cache_info(other).blobs_refused, wrong.size());
  EQUAL(cache_info(other).blobs_taken, 0u);
  for (size_t i = 0; i < wrong.size(); i += 17) { // found in the folder
    write_bytes(file, wrong[i]);
    ingot::Device device = open(instance, uri);
    EQUAL(cache_info(device).blobs_refused, 1u);
    Prepared p(device, line(s.target));
    expect_runs(p);
    EQUAL(cache_info(device).files_written, 1u); // and made good
    EXPECT(bytes_of(file) == whole || whole.size() > kBlobHeader + 32);
  }
  EQUAL(folder.files().size(), 1u);
}

CASE("vulkan: a folder of pipelines that is not there, or cannot be written", Case::kernels | Case::vulkan) {
  const Folder folder;
  ingot::Instance instance;
  auto missing = instance.open(("vulkan:0?cache=" + folder.path.string() + "/none").c_str());
  EQUAL(missing.status().code(), INGOT_NOT_FOUND);
  EXPECT(support::contains(missing.message(), "is no folder"));
  EQUAL(instance.open("vulkan:0?cache=").status().code(), INGOT_INVALID_ARGUMENT);
  EQUAL(instance.open("vulkan:0?validation=1&colour=blue").status().code(), INGOT_INVALID_ARGUMENT);
  const std::string uri = "vulkan:0?cache=" + folder.path.string();
  fs::path file;
  {
    ingot::Device device = open(instance, uri);
    Prepared p(device, line(s.target));
    file = folder.files()[0];
  }
  fs::remove(file);
  fs::create_directory(file); // no file can take its place
  ingot::Device device = open(instance, uri);
  Prepared p(device, line(s.target));
  expect_runs(p);
  EQUAL(cache_info(device).files_not_written, 1u);
  EQUAL(folder.files().size(), 1u); // no other name is left behind
}

CASE("vulkan: a pipeline cache as bytes, while sessions are prepared", Case::kernels | Case::vulkan) {
  ingot::Instance instance;
  ingot::Device from = open(instance, s.uri), to = open(instance, s.uri);
  Prepared p(from, line(s.target));
  const Bytes blob = cache_of(from);
  size_t size = 0;
  Bytes little(blob.size() - 1);
  EQUAL(ingot_vulkan_pipeline_cache_get(from.get(), little.data(), little.size(), &size, nullptr), INGOT_OUT_OF_RANGE);
  EQUAL(size, blob.size());
  std::atomic<int> wrong{0};
  std::thread adds([&] {
    for (int i = 0; i < 20; ++i) wrong += ingot_vulkan_pipeline_cache_add(to.get(), blob.data(), blob.size(), nullptr) != INGOT_OK;
  });
  for (int i = 0; i < 5; ++i) {
    Prepared q(to, line(s.target));
    expect_runs(q);
  }
  adds.join();
  EQUAL(wrong.load(), 0);
  EQUAL(cache_info(to).blobs_taken, 20u);
  Prepared q(to, line(s.target));
  expect_runs(q);
  auto host = instance.open("local-sync");
  EQUAL(ingot_vulkan_pipeline_cache_add(host->get(), blob.data(), blob.size(), nullptr), INGOT_INVALID_ARGUMENT);
}

} // namespace conformance
