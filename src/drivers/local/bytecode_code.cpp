// See bytecode_code.h.
#include "src/drivers/local/bytecode_code.h"

#include "src/runtime/bytecode/classes.h"
#include "src/runtime/bytecode/lanes.h"
#include "src/runtime/bytecode/program.h"

namespace ingot::drivers {
namespace {

void run_bytecode(const IngotCpuArgs *args) {
  uint64_t address;
  memcpy(&address, reinterpret_cast<const uint8_t *>(args) + INGOT_CPU_ARGS_HEADER + 8 * size_t(args->tail), 8);
  bytecode::run(*reinterpret_cast<const bytecode::Kernel *>(uintptr_t(address)), args);
}

Code verify_kernel(const ingot_allocator_t &allocator, const ingot_driver_code_t &code, uint32_t index,
                   bytecode::Kernel *out, Error *error) {
  const ingot_driver_kernel_t &k = code.kernels[index];
  const ingot_driver_code_version_t &v = k.versions[0];
  const ingot_driver_image_t &image = code.images[v.image];
  const bytecode::Signature signature = {k.binding_count, k.param_count, k.binding_access};
  const Code result = bytecode::verify(allocator, static_cast<const uint8_t *>(image.data), image.size,
                                       v.symbol_offset, signature, out, error);
  return result == INGOT_OK ? result : prefix(error, "kernel %.80s", k.name);
}

} // namespace

Code bytecode_supports(const ingot_allocator_t &allocator, const ingot_driver_code_t &code, Error *error) {
  for (uint32_t i = 0; i < code.image_count; ++i)
    if (code.images[i].format != INGOT_CODE_BYTECODE)
      return fail(error, INGOT_INCOMPATIBLE, "its image %u is no bytecode", i);
  for (uint32_t i = 0; i < code.kernel_count; ++i)
    if (code.kernels[i].version_count != 1 || code.kernels[i].versions[0].feature_mask)
      return fail(error, INGOT_INCOMPATIBLE,
                  "bytecode kernel %.80s has several versions, or wants CPU features", code.kernels[i].name);
  // Only the code says which classes it needs. Where it is damaged, loading says so.
  if constexpr (bytecode::kBuiltClasses != bytecode::kAllClasses)
    for (uint32_t i = 0; i < code.kernel_count; ++i) {
      bytecode::Kernel unused;
      if (verify_kernel(allocator, code, i, &unused, error) == INGOT_INCOMPATIBLE) return INGOT_INCOMPATIBLE;
    }
  (void)allocator;
  return INGOT_OK;
}

Code BytecodeCode::load(const ingot_allocator_t &allocator, uint64_t features, const ingot_driver_code_t &code,
                        Error *error) {
  INGOT_TRY(kernels_.create(allocator, code.kernel_count, "bytecode kernels", error));
  for (uint32_t i = 0; i < code.kernel_count; ++i) {
    INGOT_TRY(verify_kernel(allocator, code, i, &kernels_[i], error));
    kernels_[i].lanes = &bytecode::choose_lanes(features);
    kernels_[i].number = i;
    if (kernels_[i].scratch_bytes > scratch_bytes_) scratch_bytes_ = kernels_[i].scratch_bytes;
  }
  return INGOT_OK;
}

KernelFunction BytecodeCode::function() const { return run_bytecode; }
const bytecode::Kernel *BytecodeCode::kernel(uint32_t index) const { return &kernels_[index]; }

} // namespace ingot::drivers
