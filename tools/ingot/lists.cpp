// list-drivers, list-devices, dump-devices, verify, explain: short reports straight from the runtime.
#include <cstdio>

#include "tools/ingot/commands.h"
#include "tools/ingot/model.h"

namespace ingot::tool {

namespace {

const Instance &checked(const Instance &instance) {
  check(instance.status());
  return instance;
}

std::vector<ingot_driver_info_t> drivers_of(const Instance &instance) {
  std::vector<ingot_driver_info_t> out;
  for (size_t i = 0; i < ingot_driver_count(instance.get()); ++i) {
    ingot_driver_info_t info;
    if (ingot_driver_info(instance.get(), i, &info) == INGOT_OK) out.push_back(info);
  }
  return out;
}

// Throws where there is no such driver; lists those that there are.
void check_driver(const Instance &instance, const std::string &name) {
  if (name.empty()) return;
  std::string names;
  for (const ingot_driver_info_t &info : drivers_of(instance)) {
    if (name == info.name) return;
    names += std::string(names.empty() ? "" : ", ") + info.name;
  }
  fail("no driver '" + name + "' in this build; it has " + names);
}

struct DeviceName {
  std::string uri, name;
};

// Devices of one driver. An unavailable driver has none: *reason says why.
std::vector<DeviceName> devices_of(const Instance &instance, const ingot_driver_info_t &driver,
                                   std::string *reason) {
  std::vector<DeviceName> out;
  if (driver.available != INGOT_OK) {
    *reason = driver.reason.message;
    return out;
  }
  ingot_error_t error;
  const ingot_code_t code = ingot_enumerate_devices(
      instance.get(), driver.name,
      [](void *user, const char *uri, const char *name) {
        static_cast<std::vector<DeviceName> *>(user)->push_back({uri, name});
      },
      &out, &error);
  if (code != INGOT_OK)
    *reason = error.message;
  else if (out.empty())
    *reason = "no device";
  return out;
}

} // namespace

int list_drivers_command() {
  const Instance instance;
  for (const ingot_driver_info_t &info : drivers_of(checked(instance))) {
    std::printf("%s: %s", info.name, info.description);
    if (info.available != INGOT_OK) std::printf(" (unavailable: %s)", info.reason.message);
    std::printf("\n");
  }
  return 0;
}

int list_devices_command(const std::string &driver) {
  const Instance instance;
  check_driver(checked(instance), driver);
  for (const ingot_driver_info_t &info : drivers_of(instance)) {
    if (!driver.empty() && driver != info.name) continue;
    std::string reason;
    for (const DeviceName &device : devices_of(instance, info, &reason))
      std::printf("%s\n", device.uri.c_str());
    if (!reason.empty()) std::fprintf(stderr, "%s: unavailable: %s\n", info.name, reason.c_str());
  }
  return 0;
}

int dump_devices_command(const std::string &driver) {
  const Instance instance;
  check_driver(checked(instance), driver);
  for (const ingot_driver_info_t &info : drivers_of(instance)) {
    if (!driver.empty() && driver != info.name) continue;
    std::string reason;
    for (const DeviceName &found : devices_of(instance, info, &reason)) {
      std::printf("%s\n", found.uri.c_str());
      auto device = instance.open(found.uri.c_str());
      if (!device) {
        std::printf("  cannot be opened: %s\n", device.message());
        continue;
      }
      ingot_error_t error;
      const ingot_code_t code = ingot_device_describe(
          device->get(),
          [](void *, const char *key, const char *value) { std::printf("  %s: %s\n", key, value); }, nullptr,
          &error);
      if (code != INGOT_OK) std::printf("  %s\n", error.message);
    }
    if (!reason.empty()) std::printf("%s\n  unavailable: %s\n", info.name, reason.c_str());
  }
  return 0;
}

int verify_command(const std::string &path, bool hash) {
  const Archive archive = open_archive(path);
  if (hash) {
    const Status status = archive.check_hashes();
    check(status, path);
  }
  ingot_archive_info_t info;
  ingot_archive_info(archive.get(), &info);
  std::printf("%s: sound: header, metadata and code%s verified (%llu bytes, format %u)\n", path.c_str(),
              hash ? ", and every segment's checksum" : "", (unsigned long long)info.file_size,
              info.format_version);
  return 0;
}

int explain_command(const std::string &path, const std::string &uri) {
  const Archive archive = open_archive(path);
  ingot_archive_info_t info;
  ingot_archive_info(archive.get(), &info);
  const Instance instance;
  std::vector<DeviceName> devices;
  std::vector<std::string> absent;
  if (!uri.empty()) {
    devices.push_back({uri, ""});
  } else {
    for (const ingot_driver_info_t &driver : drivers_of(checked(instance))) {
      std::string reason;
      for (DeviceName &device : devices_of(instance, driver, &reason)) devices.push_back(std::move(device));
      if (!reason.empty()) absent.push_back(std::string(driver.name) + ": unavailable: " + reason);
    }
  }
  for (uint32_t v = 0; v < info.variant_count; ++v) {
    ingot_variant_info_t variant;
    if (ingot_archive_variant(archive.get(), v, &variant) != INGOT_OK) continue;
    std::printf("variant %u: %s%s%s\n", v, variant.target, variant.arch[0] ? " " : "", variant.arch);
    for (const DeviceName &name : devices) {
      auto device = instance.open(name.uri.c_str());
      if (!device) {
        if (!uri.empty()) check(device.status());
        std::printf("  %s: cannot be opened: %s\n", name.uri.c_str(), device.message());
        continue;
      }
      ingot_error_t error;
      const ingot_code_t code = ingot_archive_explain(archive.get(), v, device->get(), &error);
      if (code == INGOT_OK)
        std::printf("  %s: accepted\n", name.uri.c_str());
      else
        std::printf("  %s: refused: %s\n", name.uri.c_str(), error.message);
    }
  }
  for (const std::string &line : absent) std::printf("%s\n", line.c_str());
  return 0;
}

} // namespace ingot::tool
