// Kernels as MSL on this CPU (tests/gpu/metal_shim.cpp): all of them are compiled at once, then run one by one.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "aotc/kernel/kernel.h"
#include "aotc/kernel/target.h"
#include "tests/gpu/shader_driver.h"

namespace ingot::aotc::gpu_spike {

TargetRecord metal_record(); // what the target metal is compiled for

class MetalHost {
 public:
  static std::unique_ptr<MetalHost> open(std::string &why);
  // Kernel number n is the n-th that was added. load comes after the last of them.
  void add(const kernel::Kernel &kernel, const TargetRecord &record);
  std::string load();
  // Runs a kernel on the buffers. "" or why not.
  std::string run(size_t number, std::vector<std::vector<uint32_t>> &buffers, const std::vector<uint8_t> &params,
                  const std::array<uint32_t, 3> &grid);
  const std::string &text(size_t number) const { return kernels_[number].text; }

 private:
  std::unique_ptr<shaders::Backend> backend_;
  std::vector<shaders::Kernel> kernels_;
};

} // namespace ingot::aotc::gpu_spike
