// See metal_host.h.
#include "tests/gpu_spike/metal_host.h"

#include <cstring>

#include "aotc/driver/compile.h"
#include "aotc/emit/gpu_layout.h"
#include "aotc/emit/text/text.h"

namespace ingot::aotc::gpu_spike {

TargetRecord metal_record() {
  std::string error;
  return parse_target("metal", &error)->gpu->records.front();
}

std::unique_ptr<MetalHost> MetalHost::open(std::string &why) {
  auto host = std::make_unique<MetalHost>();
  host->backend_ = shaders::open_metal_shim("", &why);
  return host->backend_ ? std::move(host) : nullptr;
}

void MetalHost::add(const kernel::Kernel &kernel, const TargetRecord &record) {
  shaders::Kernel k;
  k.name = kernel.name;
  k.entry = emit::text_entry(kernel);
  k.text = emit::emit_msl(kernel, record);
  k.local_size = kernel.local_size;
  k.errors = emit::has_error_ops(kernel);
  kernels_.push_back(std::move(k));
}

std::string MetalHost::load() {
  uint32_t first;
  return backend_->load(kernels_, &first);
}

std::string MetalHost::run(size_t number, std::vector<std::vector<uint32_t>> &buffers, const std::vector<uint8_t> &params,
                           const std::array<uint32_t, 3> &grid) {
  std::vector<shaders::Memory> memories(buffers.size());
  shaders::Dispatch d{static_cast<uint32_t>(number), grid, {}, {}};
  for (size_t i = 0; i < buffers.size(); ++i) {
    memories[i].size = 4 * buffers[i].size();
    backend_->allocate(memories[i], true);
    backend_->write(memories[i], 0, buffers[i].data(), memories[i].size);
    d.bindings.push_back({&memories[i], 0, memories[i].size});
  }
  d.params.resize((params.size() + 3) / 4);
  std::memcpy(d.params.data(), params.data(), params.size());
  std::string wrong = backend_->dispatch(kernels_[number], d);
  for (size_t i = 0; i < buffers.size(); ++i)
    backend_->read(memories[i], 0, buffers[i].data(), memories[i].size);
  return wrong;
}

} // namespace ingot::aotc::gpu_spike
