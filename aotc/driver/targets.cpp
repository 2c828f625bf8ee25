// Target names, aliases and details.
#include <algorithm>

#include "aotc/driver/compile.h"
#include "schemas/gpu_abi.h"

namespace ingot::aotc {
namespace {

constexpr struct {
  const char *name, *alias;
  bool available;
} kTargets[] = {
    {"cuda", "", false},         {"llvm-cpu", "cpu", true},        {"metal", "metal-spirv", true},
    {"rocm", "hip", false},      {"vmvx", "bytecode", true},       {"vmvx-inline", "", false},
    {"vulkan-spirv", "vulkan", true}, {"webgpu", "webgpu-spirv", true},
};

constexpr const char *kUnavailable = "not available: this version of aotc does not generate archives for it";

// What every Metal GPU has beyond WebGPU's promises: integers of all widths, in memory too. Params and the error word take
// two of its 31 buffers.
TargetRecord metal_record() {
  TargetRecord record = TargetRecord::webgpu_baseline();
  record.name = "metal";
  record.i8 = record.i16 = record.i64 = true;
  record.storage_8 = record.storage_16 = record.storage_64 = record.bool_storage = true;
  record.workgroup_memory_bytes = 32 << 10;
  record.max_buffers = 29;
  return record;
}

// Kernels are made for the baseline; those that it cannot express (64-bit floats) demand a feature of the device.
GpuTarget gpu_target(const std::string &name) {
  GpuTarget target;
  if (name == "vulkan-spirv") {
    target.format = archive::CodeFormat::spirv;
    target.levels.push_back({TargetRecord::vulkan_baseline(), 0});
    TargetRecord doubles = TargetRecord::vulkan_baseline();
    doubles.f64 = doubles.i64 = doubles.storage_64 = true;
    target.levels.push_back({doubles, INGOT_VULKAN_FLOAT64 | INGOT_VULKAN_INT64});
    return target;
  }
  if (name == "metal") {
    target.format = archive::CodeFormat::msl;
    target.levels.push_back({metal_record(), 0});
    return target;
  }
  target.format = archive::CodeFormat::wgsl;
  target.levels.push_back({TargetRecord::webgpu_baseline(), 0});
  return target;
}

} // namespace

std::vector<TargetState> list_targets() {
  std::vector<TargetState> list;
  for (const auto &t : kTargets)
    list.push_back({t.name, t.alias, t.available ? "available" : kUnavailable});
  return list;
}

std::optional<TargetRequest> parse_target(const std::string &text, std::string *error) {
  TargetRequest request;
  request.text = text;
  size_t colon = text.find(':');
  std::string name = text.substr(0, colon);
  if (colon != std::string::npos)
    request.detail = text.substr(colon + 1);
  const auto *found = std::find_if(std::begin(kTargets), std::end(kTargets),
                                   [&](const auto &t) { return name == t.name || (t.alias[0] && name == t.alias); });
  if (found == std::end(kTargets)) {
    *error = "unknown target '" + name + "'; `aotc --list-targets` lists them";
    return std::nullopt;
  }
  request.name = found->name;
  if (!found->available) {
    *error = "target '" + request.name + "' is " + kUnavailable;
    return std::nullopt;
  }
  if (request.name != "llvm-cpu") {
    if (request.name != "vmvx")
      request.gpu = gpu_target(request.name);
    if (request.detail.empty() || (request.name == "vulkan-spirv" && request.detail == "1.1"))
      return request;
    *error = "target '" + text + "': " + request.name +
             (request.name == "vulkan-spirv" ? " knows the detail 1.1 only" : " takes no detail");
    return std::nullopt;
  }
  std::vector<std::string> names;
  if (request.detail.empty()) {
#if defined(__x86_64__)
    names = {"x86-64-v2", "x86-64-v3", "x86-64-v4", "x86-64-v4-vnni"};
#else
    names = {"host"};
#endif
  } else {
    names = {request.detail};
  }
  for (const std::string &n : names) {
    std::string why;
    auto target = parse_cpu_target(n, &why);
    if (!target) {
      *error = "target '" + text + "': " + why;
      return std::nullopt;
    }
    request.versions.push_back(std::move(*target));
  }
  return request;
}

} // namespace ingot::aotc
