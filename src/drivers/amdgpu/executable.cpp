// Code of a variant: an executable of the library's for each kernel.
#include <stdio.h>

#include "schemas/gpu_abi.h"
#include "src/drivers/amdgpu/amdgpu.h"

namespace ingot::amdgpu {
namespace {

constexpr uint32_t kMostPrivateBytes = 1 << 20; // of a work-item: the library keeps that for each that can run at once

// The version with the highest rank of those that ask for nothing; INGOT_NONE where there is none.
uint32_t pick_version(const ingot_driver_kernel_t &k) {
  uint32_t best = INGOT_NONE;
  for (uint32_t v = 0; v < k.version_count; ++v)
    if (k.versions[v].feature_mask == 0 && k.versions[v].scratch_bytes == 0 && (best == INGOT_NONE || k.versions[v].rank > k.versions[best].rank)) best = v;
  return best;
}

uint64_t argument_bytes(const ingot_driver_kernel_t &k) {
  const uint64_t words = uint64_t(k.binding_count) * 8 + uint64_t(k.param_count) * 4;
  return (k.flags & INGOT_KERNEL_FLAG_ERRORS) ? align_up(words, 8) + 8 : words;
}

// What the device must have for one kernel.
Code check_kernel(const Physical &p, const ingot_driver_kernel_t &k, Error *error) {
  const uint64_t invocations = uint64_t(k.local_size[0]) * k.local_size[1] * k.local_size[2];
  if (k.binding_count > kMaxBindings || argument_bytes(k) > kMaxArgumentBytes)
    return fail(error, INGOT_INCOMPATIBLE, "kernel '%.80s' has %u buffers and %u parameters, the driver takes %u and %u bytes of both", k.name,
                k.binding_count, k.param_count, kMaxBindings, kMaxArgumentBytes);
  for (uint32_t i = 0; i < 3; ++i)
    if (invocations == 0 || invocations > p.max_workgroup || k.local_size[i] > p.max_dim[i])
      return fail(error, INGOT_INCOMPATIBLE, "kernel '%.80s' has workgroups of %u x %u x %u, the device takes %u in all", k.name,
                  k.local_size[0], k.local_size[1], k.local_size[2], p.max_workgroup);
  if (pick_version(k) == INGOT_NONE)
    return fail(error, INGOT_INCOMPATIBLE, "kernel '%.80s' has no version for this device: all ask for features or for workgroup memory at launch", k.name);
  return INGOT_OK;
}

Code load_kernel(ingot_driver_executable_t &e, const ingot_driver_code_t &code, uint32_t i, Error *error) {
  ingot_driver_device_t &d = *e.device;
  const Api &api = d.api;
  const ingot_driver_kernel_t &k = code.kernels[i];
  ingot_driver_executable_t::Kernel &out = e.kernels[i];
  out.version = pick_version(k);
  const ingot_driver_code_version_t &v = k.versions[out.version];
  const ingot_driver_image_t &image = code.images[v.image];
  if (image.format != INGOT_CODE_HSACO || v.code_size == 0 || !fits(v.symbol_offset, v.code_size, image.size))
    return fail(error, INGOT_CORRUPT, "kernel '%.80s': its code is not inside its image", k.name);
  const char *const bytes = static_cast<const char *>(image.data) + v.symbol_offset;
  if (!is_whole_object(bytes, size_t(v.code_size))) return fail(error, INGOT_CORRUPT, "kernel '%.80s': its code object is cut off", k.name);

  INGOT_HSA_TRY(d, api.executable_create_alt(kProfileFull, kRoundingDefault, nullptr, &out.executable), "making an executable");
  CodeObjectReader reader = {};
  INGOT_HSA_TRY(d, api.code_object_reader_create_from_memory(bytes, size_t(v.code_size), &reader), "reading a code object");
  int status = api.executable_load_agent_code_object(out.executable, d.physical.agent, reader, nullptr, nullptr);
  if (status == kSuccess) status = api.executable_freeze(out.executable, nullptr);
  api.code_object_reader_destroy(reader);
  INGOT_HSA_TRY(d, status, "loading a code object");

  char name[512];
  if (snprintf(name, sizeof name, "%s.kd", v.entry) >= int(sizeof name)) return fail(error, INGOT_CORRUPT, "kernel '%.80s': its entry's name is too long", k.name);
  ExecutableSymbol symbol = {};
  INGOT_HSA_TRY(d, api.executable_get_symbol_by_name(out.executable, name, &d.physical.agent, &symbol), "finding a kernel");
  INGOT_HSA_TRY(d, api.executable_symbol_get_info(symbol, kSymbolKernelObject, &out.object), "asking for a kernel's code");
  INGOT_HSA_TRY(d, api.executable_symbol_get_info(symbol, kSymbolKernargBytes, &out.argument_bytes), "asking for a kernel's arguments");
  INGOT_HSA_TRY(d, api.executable_symbol_get_info(symbol, kSymbolGroupBytes, &out.group_bytes), "asking for a kernel's workgroup memory");
  INGOT_HSA_TRY(d, api.executable_symbol_get_info(symbol, kSymbolPrivateBytes, &out.private_bytes), "asking for a kernel's stack");
  if (out.argument_bytes < argument_bytes(k) || out.argument_bytes > kMaxArgumentBytes)
    return fail(error, INGOT_CORRUPT, "kernel '%.80s' takes %u bytes of arguments, its archive has %llu", k.name, out.argument_bytes,
                (unsigned long long)argument_bytes(k));
  if (out.group_bytes > d.physical.group_bytes || out.private_bytes > kMostPrivateBytes)
    return fail(error, INGOT_INCOMPATIBLE, "kernel '%.80s' needs %u bytes of workgroup memory and %u of stack, the device has %u and %u", k.name,
                out.group_bytes, out.private_bytes, d.physical.group_bytes, kMostPrivateBytes);
  out.argument_bytes = uint32_t(align_up(out.argument_bytes, 16));
  if (out.argument_bytes > e.most_argument_bytes) e.most_argument_bytes = out.argument_bytes;
  memcpy(out.local_size, k.local_size, sizeof out.local_size);
  out.bindings = k.binding_count;
  out.params = k.param_count;
  out.errors = (k.flags & INGOT_KERNEL_FLAG_ERRORS) != 0;
  return INGOT_OK;
}

Code fill(ingot_driver_executable_t &e, const ingot_driver_code_t &code, Error *error) {
  INGOT_TRY(e.kernels.create(e.device->allocator, code.kernel_count, "kernels", error));
  for (uint32_t i = 0; i < code.kernel_count; ++i) {
    INGOT_TRY(check_kernel(e.device->physical, code.kernels[i], error));
    INGOT_TRY(load_kernel(e, code, i, error));
  }
  return INGOT_OK;
}

} // namespace

Code supports(ingot_driver_device_t *device, const ingot_driver_code_t *code, Error *error) {
  if (!strings_equal(code->target, "rocm")) return fail(error, INGOT_INCOMPATIBLE, "the variant is for %.60s, this device runs rocm", code->target);
  if (!strings_equal(code->arch, device->physical.architecture))
    return fail(error, INGOT_INCOMPATIBLE, "the variant is for %.60s, this device is %s", code->arch, device->physical.architecture);
  for (uint32_t i = 0; i < code->kernel_count; ++i) INGOT_TRY(check_kernel(device->physical, code->kernels[i], error));
  return INGOT_OK;
}

Code load(ingot_driver_device_t *device, const ingot_driver_code_t *code, ingot_driver_executable_t **out, Error *error) {
  if (device->lost.load(std::memory_order_acquire)) return lost(*device, error, "loading");
  ingot_driver_executable_t *e = create_object<ingot_driver_executable_t>(device->allocator, "an executable", error);
  if (!e) return INGOT_OUT_OF_MEMORY;
  e->device = device;
  if (const Code result = fill(*e, *code, error)) {
    destroy_object(device->allocator, e);
    return result;
  }
  *out = e;
  return INGOT_OK;
}

void unload(ingot_driver_executable_t *e) { destroy_object(e->device->allocator, e); }

uint32_t kernel_version(const ingot_driver_executable_t *e, uint32_t kernel) { return e->kernels[kernel].version; }

} // namespace ingot::amdgpu

ingot_driver_executable_t::~ingot_driver_executable_t() {
  for (const Kernel &k : kernels)
    if (k.executable.handle) device->api.executable_destroy(k.executable);
}
