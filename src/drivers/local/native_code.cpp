// See native_code.h.
#include "src/drivers/local/native_code.h"

#include "src/runtime/cpu/features.h"

namespace ingot::drivers {

uint32_t pick_version(const ingot_driver_kernel_t &kernel, uint64_t features) {
  uint32_t best = INGOT_NONE;
  for (uint32_t i = 0; i < kernel.version_count; ++i)
    if ((kernel.versions[i].feature_mask & ~features) == 0 &&
        (best == INGOT_NONE || kernel.versions[i].rank > kernel.versions[best].rank))
      best = i;
  return best;
}

Code native_supports(const ingot_allocator_t &allocator, uint64_t features, const ingot_driver_code_t &code,
                     Error *error) {
  if (is_bytecode(code)) return bytecode_supports(allocator, code, error);
  if (!strings_equal(code.target, "llvm-cpu"))
    return fail(error, INGOT_INCOMPATIBLE, "it is for target %.40s, this driver runs llvm-cpu" INGOT_OR_VMVX, code.target);
  if (!strings_equal(code.arch, host_arch()))
    return fail(error, INGOT_INCOMPATIBLE, "it is for %.40s, this machine is %s", code.arch, host_arch());
  for (uint32_t i = 0; i < code.image_count; ++i)
    if (code.images[i].format != INGOT_CODE_ELF)
      return fail(error, INGOT_INCOMPATIBLE, "its image %u is no ELF image", i);
  for (uint32_t i = 0; i < code.kernel_count; ++i) {
    const ingot_driver_kernel_t &k = code.kernels[i];
    if (pick_version(k, features) != INGOT_NONE) continue;
    uint64_t least = ~uint64_t(0), bit; // what the version closest to this machine lacks
    for (uint32_t v = 0; v < k.version_count; ++v) {
      const uint64_t lacking = k.versions[v].feature_mask & ~features;
      if (lacking < least) least = lacking;
    }
    return fail(error, INGOT_INCOMPATIBLE, "kernel %.80s has no code version for this CPU, which lacks %s", k.name,
                cpu_feature_name(least, &bit));
  }
  return INGOT_OK;
}

NativeCode::~NativeCode() {
  for (ElfImage *image : images_) destroy_object(allocator_, image);
}

Code NativeCode::load(const ingot_allocator_t &allocator, uint64_t features, const ingot_driver_code_t &code,
                      Error *error) {
  allocator_ = allocator;
  INGOT_TRY(kernels_.create(allocator, code.kernel_count, "kernels", error));
  if (is_bytecode(code)) {
    INGOT_TRY(bytecode_.load(allocator, features, code, error));
    for (uint32_t i = 0; i < code.kernel_count; ++i) kernels_[i] = {bytecode_.function(), 0, bytecode_.kernel(i)};
    scratch_bytes_ = bytecode_.scratch_bytes();
    return INGOT_OK;
  }
  INGOT_TRY(images_.create(allocator, code.image_count, "code images", error));
  for (uint32_t i = 0; i < code.image_count; ++i) {
    images_[i] = create_object<ElfImage>(allocator, "a code image", error);
    if (!images_[i]) return INGOT_OUT_OF_MEMORY;
    INGOT_TRY(images_[i]->load(static_cast<const uint8_t *>(code.images[i].data), code.images[i].size, error));
  }
  for (uint32_t i = 0; i < code.kernel_count; ++i) {
    const uint32_t picked = pick_version(code.kernels[i], features);
    if (picked == INGOT_NONE) return fail(error, INGOT_INTERNAL, "kernel %u was not checked for support", i);
    const ingot_driver_code_version_t &v = code.kernels[i].versions[picked];
    const void *address = images_[v.image]->at(v.symbol_offset);
    if (!address)
      return fail(error, INGOT_CORRUPT, "native code: entry %.80s at 0x%llx lies outside the executable segments", v.entry,
                  (unsigned long long)v.symbol_offset);
    memcpy(&kernels_[i].function, &address, sizeof address);
    kernels_[i].version = picked;
    if (v.scratch_bytes > scratch_bytes_) scratch_bytes_ = v.scratch_bytes;
  }
  return INGOT_OK;
}

} // namespace ingot::drivers
