// Target names, aliases and details.
#include <algorithm>

#include "aotc/driver/compile.h"
#include "aotc/emit/ptx/hsaco.h"
#include "aotc/emit/ptx/ptx.h"

namespace ingot::aotc {
namespace {

constexpr struct {
  const char *name, *alias;
  bool available;
} kTargets[] = {
    {"cuda", "", true},          {"llvm-cpu", "cpu", true},        {"metal", "metal-spirv", true},
    {"rocm", "hip", true},       {"vmvx", "bytecode", true},       {"vmvx-inline", "", false},
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

// Kernels are made for the baseline; those that it cannot express (64-bit floats) demand a feature of the device. So do
// those whose memory is to be f16, which the baseline could express, but not well.
GpuTarget gpu_target(const std::string &name, bool half) {
  GpuTarget target;
  target.half = half;
  if (name == "vulkan-spirv") {
    TargetRecord record = TargetRecord::vulkan_baseline();
    record.f16 = record.storage_16 = half;
    target.records.push_back(record);
    record.f64 = record.i64 = record.storage_64 = true;
    target.records.push_back(record);
    return target;
  }
  if (name == "cuda") {
    target.format = archive::CodeFormat::ptx;
    target.records.push_back(TargetRecord::cuda_sm80());
    return target;
  }
  target.format = name == "metal" ? archive::CodeFormat::msl : archive::CodeFormat::wgsl;
  TargetRecord record = name == "metal" ? metal_record() : TargetRecord::webgpu_baseline();
  record.f16 = half;
  record.storage_16 |= half; // of WebGPU an optional feature, of Metal a part of the language
  target.records.push_back(record);
  return target;
}

// Takes ",precision=VALUE" off the end; nullopt where it is not there.
std::optional<std::string> take_precision(std::string &text) {
  static constexpr std::string_view kKey = ",precision=";
  size_t at = text.rfind(kKey);
  if (at == std::string::npos)
    return std::nullopt;
  std::string value = text.substr(at + kKey.size());
  text.resize(at);
  return value;
}

} // namespace

std::vector<TargetState> list_targets() {
  std::vector<TargetState> list;
  for (const auto &t : kTargets)
    list.push_back({t.name, t.alias, t.available ? "available" : kUnavailable});
  return list;
}

std::optional<TargetRequest> parse_target(const std::string &text, std::string *error, const std::string &precision) {
  TargetRequest request;
  request.text = text;
  std::string rest = text;
  const std::optional<std::string> own = take_precision(rest);
  if (size_t comma = rest.find(','); comma != std::string::npos) {
    *error = "target '" + text + "': unknown option '" + rest.substr(comma + 1) + "'; precision=f32 and precision=f16 are known, once";
    return std::nullopt;
  }
  size_t colon = rest.find(':');
  std::string name = rest.substr(0, colon);
  if (colon != std::string::npos)
    request.detail = rest.substr(colon + 1);
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
  const bool is_gpu = request.name != "llvm-cpu" && request.name != "vmvx";
  if (own && !is_gpu) {
    *error = "target '" + text + "': precision is for GPU targets; " + request.name + " computes in the model's types";
    return std::nullopt;
  }
  const std::string &wanted = own ? *own : precision;
  if (is_gpu && wanted != "f32" && wanted != "f16") {
    static constexpr std::string_view kKnown[] = {"f16", "bf16", "relaxed"};
    const bool known = std::find(std::begin(kKnown), std::end(kKnown), wanted) != std::end(kKnown);
    *error = "target '" + text + "': precision " + wanted +
             (known ? " is not available yet for " + request.name : " is unknown; f32, f16, bf16 and relaxed are known");
    return std::nullopt;
  }
  if (request.name != "llvm-cpu") {
    if (is_gpu)
      request.gpu = gpu_target(request.name, wanted == "f16");
    if (request.name == "cuda") {
      request.gpu->architecture = request.detail.empty() ? "sm_80" : request.detail;
      if (request.gpu->architecture == "sm_90a") // of one GPU alone, which has more than all of them have
        for (TargetRecord &r : request.gpu->records) {
          const TargetRecord own = TargetRecord::cuda_sm90a();
          r.large_workgroup_memory_bytes = own.large_workgroup_memory_bytes;
          r.warpgroup_mma = own.warpgroup_mma;
          r.tensor_feeds = own.tensor_feeds;
        }
      if (emit::ptx_options(request.gpu->architecture))
        return request;
      *error = "target '" + text + "': cuda knows the details sm_80, which every later GPU runs too, sm_90 and sm_90a";
      return std::nullopt;
    }
    if (request.name == "rocm") {
      const std::optional<TargetRecord> record = emit::rocm_record(request.detail);
      if (record) {
        request.gpu->format = archive::CodeFormat::hsaco;
        request.gpu->architecture = request.detail;
        request.gpu->records = {*record};
        return request;
      }
      *error = "target '" + text + "': rocm needs a chip, as in rocm:gfx942; it knows " + emit::kRocmChips;
      return std::nullopt;
    }
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
