#include "tests/bytecode/runner.h"

#include <cstdlib>
#include <cstring>
#include <memory>

#include "aotc/emit/bytecode/emitter.h"
#include "schemas/cpu_abi.h"
#include "src/runtime/bytecode/lanes.h"
#include "src/runtime/bytecode/program.h"
#include "src/runtime/cpu/features.h"

namespace ingot::aotc::testing {
namespace {

struct Freed {
  void operator()(void *memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<uint8_t, Freed>;
// Of exactly this size for sanitizers, 64-byte aligned.
Memory allocate(size_t bytes) {
  void *memory = nullptr;
  if (posix_memalign(&memory, 64, bytes ? bytes : 1)) std::abort();
  return Memory(static_cast<uint8_t *>(memory));
}

} // namespace

BytecodeRun run_image(const std::vector<uint8_t> &bytes, const std::vector<uint8_t> &access,
                      std::vector<std::vector<uint8_t>> &buffers, const std::vector<int64_t> &params,
                      const std::array<uint32_t, 3> &grid, uint64_t features, uint64_t fuel) {
  BytecodeRun result;
  Memory image = allocate(bytes.size());
  std::copy(bytes.begin(), bytes.end(), static_cast<uint8_t *>(image.get()));
  bytecode::Signature signature = {static_cast<uint32_t>(buffers.size()), static_cast<uint32_t>(params.size()),
                                   access.data()};
  bytecode::Kernel loaded;
  ingot_error_t error;
  if (bytecode::verify(resolve_allocator(nullptr), image.get(), bytes.size(), 0, signature, &loaded, &error)) {
    result.error = error.message;
    return result;
  }
  loaded.lanes = &bytecode::choose_lanes(features);
  loaded.number = 7;
  if (fuel) loaded.fuel = fuel;
  Memory scratch = allocate(loaded.scratch_bytes);
  std::memset(scratch.get(), 0x5a, loaded.scratch_bytes);
  std::vector<Memory> copies;
  IngotCpuArgs header = {};
  header.group_end = grid[0] * grid[1] * grid[2];
  std::memcpy(header.grid, grid.data(), sizeof header.grid);
  header.tail = static_cast<uint32_t>(buffers.size() + params.size());
  header.error = reinterpret_cast<uintptr_t>(&result.error_word);
  header.scratch = reinterpret_cast<uintptr_t>(scratch.get());
  std::vector<uint64_t> words(5);
  std::memcpy(words.data(), &header, sizeof header);
  for (const auto &buffer : buffers) {
    copies.push_back(allocate(buffer.size()));
    if (!buffer.empty()) std::memcpy(copies.back().get(), buffer.data(), buffer.size());
    words.push_back(reinterpret_cast<uintptr_t>(copies.back().get()));
  }
  for (int64_t param : params) words.push_back(static_cast<uint64_t>(param));
  words.push_back(reinterpret_cast<uintptr_t>(&loaded));
  for (const auto &buffer : buffers) words.push_back(buffer.size());
  bytecode::run(loaded, reinterpret_cast<const IngotCpuArgs *>(words.data()));
  for (size_t i = 0; i < buffers.size(); ++i)
    if (!buffers[i].empty()) std::memcpy(buffers[i].data(), copies[i].get(), buffers[i].size());
  return result;
}

BytecodeRun run_bytecode(const kernel::Kernel &kernel, std::vector<std::vector<uint8_t>> &buffers,
                         const std::vector<int64_t> &params, const std::array<uint32_t, 3> &grid,
                         uint64_t features, uint64_t fuel) {
  std::vector<uint8_t> access;
  for (size_t i = 0; i < kernel.buffer_count(); ++i)
    access.push_back(kernel.memories[i].access == kernel::Access::kRead ? bytecode::kReads
                     : kernel.memories[i].access == kernel::Access::kWrite
                         ? bytecode::kWrites
                         : bytecode::kReads | bytecode::kWrites);
  return run_image(emit_bytecode(kernel).bytes, access, buffers, params, grid, features, fuel);
}

std::vector<uint64_t> lane_levels() {
  uint64_t here = host_cpu_features();
  std::vector<uint64_t> levels = {0};
  if (here & INGOT_CPU_X86_64_V3) levels.push_back(INGOT_CPU_X86_64_V3);
  if (here & INGOT_CPU_X86_64_V4) levels.push_back(INGOT_CPU_X86_64_V3 | INGOT_CPU_X86_64_V4);
  return levels;
}

} // namespace ingot::aotc::testing
