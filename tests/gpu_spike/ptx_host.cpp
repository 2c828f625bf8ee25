// See ptx_host.h.
#include "tests/gpu_spike/ptx_host.h"

#include <cstring>

#include "tests/mock/ptx.h"

namespace ingot::aotc::gpu_spike {

std::string run_ptx(const std::string &text, const std::string &entry, std::vector<std::vector<uint32_t>> &buffers,
                    const std::vector<std::pair<int, uint64_t>> &params, const std::array<uint32_t, 3> &grid,
                    const std::array<uint32_t, 3> &local, uint32_t shared_bytes, const kernel::Kernel *early, size_t *early_reads) {
  std::map<std::string, mock::Kernel> kernels;
  if (std::string problem = mock::parse(text, kernels); !problem.empty())
    return problem;
  auto kernel = kernels.find(entry);
  if (kernel == kernels.end())
    return "no entry " + entry;
  mock::Launch launch;
  launch.grid = grid;
  launch.block = local;
  launch.shared_bytes = shared_bytes;
  auto add = [&](uint64_t bits, size_t bytes) {
    std::vector<uint8_t> value(bytes);
    std::memcpy(value.data(), &bits, bytes);
    launch.params.push_back(std::move(value));
  };
  for (std::vector<uint32_t> &buffer : buffers)
    add(reinterpret_cast<uintptr_t>(buffer.data()), 8);
  for (const auto &[bytes, bits] : params)
    add(bits, static_cast<size_t>(bytes));
  // Tensor maps, which only kernels have that say what they are.
  if (early && !early->tensor_maps.empty())
    launch.block[0] += kernel::kFeeders;
  for (const kernel::TensorMap &map : early ? early->tensor_maps : std::vector<kernel::TensorMap>()) {
    uint64_t sizes[kernel::TensorMap::kMaxRank] = {}, strides[kernel::TensorMap::kMaxRank] = {};
    uint32_t box[kernel::TensorMap::kMaxRank] = {};
    for (size_t i = 0; i < map.rank(); ++i)
      sizes[i] = static_cast<uint64_t>(map.sizes[i]), strides[i] = 2 * static_cast<uint64_t>(map.strides[i]), box[i] = static_cast<uint32_t>(map.box[i]);
    mock::TensorMap made;
    if (!mock::make_map(&made, reinterpret_cast<uintptr_t>(buffers[map.memory].data()) + 2 * static_cast<uint64_t>(map.offset), static_cast<uint32_t>(map.rank()), sizes,
                        strides + 1, box))
      return entry + " has a tensor map that the library would refuse";
    launch.params.emplace_back(reinterpret_cast<const uint8_t *>(&made), reinterpret_cast<const uint8_t *>(&made + 1));
  }
  if (launch.params.size() != kernel->second.param_sizes.size())
    return entry + " has " + std::to_string(kernel->second.param_sizes.size()) + " parameters";
  launch.memory = [&](uint64_t at, uint64_t *begin, uint64_t *end) {
    for (const std::vector<uint32_t> &buffer : buffers) {
      *begin = reinterpret_cast<uintptr_t>(buffer.data());
      *end = *begin + 4 * buffer.size();
      if (at >= *begin && at < *end)
        return true;
    }
    return false;
  };
  mock::Chain chain;
  launch.early = early != nullptr;
  for (size_t b = 0; early && b < buffers.size(); ++b)
    for (uint32_t &word : buffers[b])
      if (!early->memories[b].constant)
        chain.written.insert(reinterpret_cast<uintptr_t>(&word) / 4);
  const std::string problem = mock::run(kernel->second, launch, early ? &chain : nullptr);
  if (early_reads)
    *early_reads = chain.early_reads;
  return problem;
}

} // namespace ingot::aotc::gpu_spike
