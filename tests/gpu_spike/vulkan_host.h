// A small Vulkan 1.1 host for the tests: libvulkan through dlopen, the validation layer on, one compute dispatch a call.
// The Vulkan headers are all that it needs to build.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace ingot::aotc::gpu_spike {

class VulkanHost {
 public:
  // A host on a CPU device (lavapipe) if there is one, else on the first device; null with the reason in `why` where
  // the loader, the validation layer or a device is missing.
  static std::unique_ptr<VulkanHost> open(std::string &why);
  virtual ~VulkanHost() = default;

  virtual std::string device_name() const = 0;
  virtual bool keeps_float_specials() const = 0; // infinities and NaN in f32, by the device's float controls

  // Runs `entry` of the module with each vector as a storage buffer (set 0, binding by position) and `params` as push
  // constants; the buffers hold the results afterwards. "" or what failed; a validation message fails the run.
  virtual std::string run(const std::vector<uint32_t> &spirv, const std::string &entry,
                          std::vector<std::vector<uint32_t>> &buffers, const std::vector<uint8_t> &params,
                          const std::array<uint32_t, 3> &grid) = 0;
};

} // namespace ingot::aotc::gpu_spike
