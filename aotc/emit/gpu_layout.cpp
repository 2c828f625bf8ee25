// The host side's view of an emitted GPU kernel; see gpu_layout.h.
#include "aotc/emit/gpu_layout.h"

#include <algorithm>

#include "aotc/base/error.h"

namespace ingot::aotc::emit {

using kernel::Kernel;
using kernel::Op;
using kernel::Opcode;
using kernel::Region;

ParamLayout param_layout(const Kernel &kernel) {
  ParamLayout layout;
  for (const kernel::Param &param : kernel.params) {
    uint32_t size = 0;
    switch (param.type) {
    case Scalar::kIndex:
    case Scalar::kI32:
    case Scalar::kF32: size = 4; break;
    case Scalar::kI64: size = 8; break;
    default:
      throw InternalError("kernel '" + kernel.name + "': param '" + param.name + "' of type " +
                          std::string(name(param.type)) + " has no place in a GPU params block");
    }
    layout.bytes = (layout.bytes + size - 1) / size * size;
    layout.offsets.push_back(layout.bytes);
    layout.bytes += size;
  }
  return layout;
}

WorkgroupLayout workgroup_layout(const Kernel &kernel, const TargetRecord &record) {
  WorkgroupLayout layout;
  uint64_t end = 0;
  for (const kernel::Memory &memory : kernel.memories) {
    if (memory.space == kernel::Space::kWorkgroup) {
      const uint64_t align = std::min(std::max(memory.align, byte_size(memory.type)), kWorkgroupAlign);
      end = (end + align - 1) / align * align;
    }
    layout.offsets.push_back(end);
    if (memory.space == kernel::Space::kWorkgroup)
      end += memory.count * byte_size(memory.type);
  }
  if (end <= record.workgroup_memory_bytes || record.large_workgroup_memory_bytes == 0)
    return layout;
  ensure(end <= record.large_workgroup_memory_bytes, "kernel '" + kernel.name + "': " + std::to_string(end) + " bytes of workgroup memory, " +
                                                         record.name + " has " + std::to_string(record.large_workgroup_memory_bytes));
  layout.bytes = end;
  return layout;
}

static bool region_has(const Region &region, Opcode code) {
  return std::any_of(region.ops.begin(), region.ops.end(), [&](const Op &op) {
    return op.code == code || std::any_of(op.regions.begin(), op.regions.end(),
                                          [&](const Region &inner) { return region_has(inner, code); });
  });
}

bool has_error_ops(const Kernel &kernel) { return region_has(kernel.body, Opcode::kError); }

static uint32_t buffers_of(const Kernel &kernel) {
  return static_cast<uint32_t>(std::count_if(kernel.memories.begin(), kernel.memories.end(),
                                             [](const auto &m) { return m.space == kernel::Space::kBuffer; }));
}

uint32_t params_binding(const Kernel &kernel) { return buffers_of(kernel); }

uint32_t error_binding(const Kernel &kernel, bool params_are_a_buffer) {
  return buffers_of(kernel) + (params_are_a_buffer && !kernel.params.empty() ? 1 : 0);
}

uint32_t error_word(int64_t code, int64_t site) {
  return static_cast<uint32_t>(code & 0xff) | static_cast<uint32_t>(site + 1) << 8;
}

std::array<uint32_t, 3> fold_grid(uint64_t groups, const TargetRecord &record) {
  if (groups <= record.max_grid[0])
    return {static_cast<uint32_t>(groups), 1, 1};
  // Even rows keep the surplus small: ceil(groups / rows) rather than the limit.
  uint64_t rows = (groups + record.max_grid[0] - 1) / record.max_grid[0];
  uint64_t layers = (rows + record.max_grid[1] - 1) / record.max_grid[1];
  ensure(layers <= record.max_grid[2], "fold_grid: more workgroups than the grid of " + record.name + " holds");
  uint64_t x = (groups + rows - 1) / rows;
  uint64_t y = (rows + layers - 1) / layers;
  while (x * y * layers < groups)
    ++x;
  return {static_cast<uint32_t>(x), static_cast<uint32_t>(y), static_cast<uint32_t>(layers)};
}

void unsupported(const char *emitter, const Kernel &kernel, const Op &op, const std::string &why) {
  kernel::ValueId value = !op.operands.empty() ? op.operands[0] : !op.results.empty() ? op.results[0] : kernel::kNoValue;
  std::string type = value == kernel::kNoValue ? "" : " on " + to_string(kernel.type_of(value));
  throw InternalError(std::string(emitter) + ": kernel '" + kernel.name + "': op '" + std::string(kernel::name(op.code)) +
                      "'" + type + ": " + why);
}

} // namespace ingot::aotc::emit
