// Code of a variant. What is machine code is a module for each kernel. Text goes through the library's linker, which compiles all of it
// for this very device and gives one binary; that is kept in the cache folder.
#include <stdio.h>

#include "schemas/gpu_abi.h"
#include "src/drivers/stream/stream.h"
#include "src/runtime/archive/hash.h"

namespace ingot::stream {
namespace {

constexpr size_t kLogBytes = 400;

// The version with the highest rank of those whose features and memory are there; INGOT_NONE where there is none.
uint32_t pick_version(const Physical &p, const ingot_driver_kernel_t &k, uint64_t features) {
  uint32_t best = INGOT_NONE;
  for (uint32_t v = 0; v < k.version_count; ++v) {
    const ingot_driver_code_version_t &version = k.versions[v];
    if ((version.feature_mask & ~features) != 0 || version.scratch_bytes > uint64_t(p.large_shared_bytes)) continue;
    if (best == INGOT_NONE || version.rank > k.versions[best].rank) best = v;
  }
  return best;
}

// Older callers have none.
uint32_t maps_of(const ingot_driver_code_t &code) {
  return code.struct_size >= offsetof(ingot_driver_code_t, tensor_map_count) + sizeof code.tensor_map_count ? code.tensor_map_count : 0;
}

// What the device must have for one kernel.
Code check_limits(const Physical &p, const ingot_driver_kernel_t &k, uint64_t features, Error *error) {
  const uint64_t invocations = uint64_t(k.local_size[0]) * k.local_size[1] * k.local_size[2];
  if (k.binding_count > kMaxBindings || uint64_t(k.binding_count) + k.param_count + 1 > kMaxArguments)
    return fail(error, INGOT_INCOMPATIBLE, "kernel '%.80s' has %u buffers and %u parameters, the driver takes %u and %u in all", k.name,
                k.binding_count, k.param_count, kMaxBindings, kMaxArguments - 1);
  for (uint32_t i = 0; i < 3; ++i)
    if (invocations == 0 || invocations > uint64_t(p.max_threads) || k.local_size[i] > uint32_t(p.max_block[i]))
      return fail(error, INGOT_INCOMPATIBLE, "kernel '%.80s' has workgroups of %u x %u x %u, the device takes %d in all", k.name,
                  k.local_size[0], k.local_size[1], k.local_size[2], p.max_threads);
  uint64_t least = UINT64_MAX; // that one of its versions asks for
  for (uint32_t v = 0; v < k.version_count; ++v)
    if ((k.versions[v].feature_mask & ~features) == 0 && k.versions[v].scratch_bytes < least) least = k.versions[v].scratch_bytes;
  if (least != UINT64_MAX && least > uint64_t(p.large_shared_bytes))
    return fail(error, INGOT_INCOMPATIBLE, "kernel '%.80s' asks for %llu bytes of workgroup memory at launch, the device has %d to give", k.name,
                (unsigned long long)least, p.large_shared_bytes);
  return INGOT_OK;
}

struct Bytes {
  const char *data;
  size_t size; // of text: with the final 0
  bool is_text;
};

Code bytes_of(const ingot_driver_device_t &d, const ingot_driver_code_t &code, const ingot_driver_kernel_t &k,
             const ingot_driver_code_version_t &v, Bytes *out, Error *error) {
  const ingot_driver_image_t &image = code.images[v.image];
  const bool is_text = d.vendor->text_format != 0 && image.format == d.vendor->text_format;
  if ((!is_text && image.format != d.vendor->image_format) || v.code_size == 0 || !fits(v.symbol_offset, v.code_size, image.size))
    return fail(error, INGOT_CORRUPT, "kernel '%.80s': its code is not inside its image", k.name);
  *out = {static_cast<const char *>(image.data) + v.symbol_offset, size_t(v.code_size), is_text};
  if (!is_text) return is_whole_object(out->data, out->size) ? INGOT_OK : fail(error, INGOT_CORRUPT, "kernel '%.80s': its code object is cut off", k.name);
  if (out->data[out->size - 1] != 0 || strlen(out->data) + 1 != out->size)
    return fail(error, INGOT_CORRUPT, "kernel '%.80s': its code is no text with a final 0", k.name);
  return INGOT_OK;
}

struct Linker {
  explicit Linker(ingot_driver_device_t &device) : d(device) {}
  ~Linker() {
    if (link) d.api.LinkDestroy(link);
  }
  Code compile(const Array<Bytes> &texts, const ingot_driver_code_t &code, void **cubin, size_t *size, Error *error) {
    int options[] = {kJitErrorLog, kJitErrorLogBytes};
    void *values[] = {log, reinterpret_cast<void *>(uintptr_t(kLogBytes))};
    INGOT_STREAM_TRY(d, d.api.LinkCreate(2, options, values, &link), "making a linker");
    for (size_t k = 0; k < texts.size(); ++k) {
      if (!texts[k].is_text) continue;
      const int result = d.api.LinkAddData(link, kJitInputPtx, const_cast<char *>(texts[k].data), texts[k].size, code.kernels[k].name, 0, nullptr, nullptr);
      if (result != kSuccess) return explain(result, code.kernels[k].name, error);
    }
    const int result = d.api.LinkComplete(link, cubin, size);
    return result == kSuccess ? INGOT_OK : explain(result, "all", error);
  }

private:
  Code explain(int result, const char *kernel, Error *error) {
    failed(d, error, result, "compiling PTX");
    log[kLogBytes - 1] = 0;
    for (char &c : log) c = c == '\n' ? ' ' : c;
    if (error->code == INGOT_INTERNAL) {
      const Error before = *error;
      return fail(error, INGOT_INCOMPATIBLE, "kernel '%.80s': %.120s: %.200s", kernel, before.message, log);
    }
    return error->code;
  }
  ingot_driver_device_t &d;
  Link link = nullptr;
  char log[kLogBytes] = {};
};

uint64_t key_of(const ingot_driver_device_t &d, const Array<Bytes> &texts) {
  uint64_t key = uint64_t(uint32_t(d.driver_version)) << 32 | uint32_t(d.physical.capability);
  for (const Bytes &t : texts) {
    if (!t.is_text) continue;
    const uint64_t pair[] = {key, xxh3(t.data, t.size)};
    key = xxh3(pair, sizeof pair);
  }
  return key;
}

// One module of all texts: out of the cache folder, or compiled.
Code compile_module(ingot_driver_executable_t &e, const ingot_driver_code_t &code, const Array<Bytes> &texts, Module *out, Error *error) {
  ingot_driver_device_t &d = *e.device;
  const uint64_t key = key_of(d, texts);
  Array<uint8_t> cached;
  if (take_cached(d, key, &cached)) {
    if (d.api.ModuleLoadData(out, cached.data()) == kSuccess) return INGOT_OK;
    *out = nullptr; // a folder of someone else's: compiled anew
  }
  Linker linker(d);
  void *cubin = nullptr;
  size_t size = 0;
  INGOT_TRY(linker.compile(texts, code, &cubin, &size, error));
  INGOT_STREAM_TRY(d, d.api.ModuleLoadData(out, cubin), "loading a module");
  store_cached(d, key, cubin, size);
  return INGOT_OK;
}

Code load_modules(ingot_driver_executable_t &e, const ingot_driver_code_t &code, Error *error) {
  ingot_driver_device_t &d = *e.device;
  Array<Bytes> pieces;
  INGOT_TRY(pieces.create(d.allocator, code.kernel_count, "kernels", error));
  for (uint32_t i = 0; i < code.kernel_count; ++i)
    INGOT_TRY(bytes_of(d, code, code.kernels[i], code.kernels[i].versions[e.kernels[i].version], &pieces[i], error));
  INGOT_TRY(e.modules.create(d.allocator, size_t(code.kernel_count) + 1, "modules", error)); // the last: of all texts
  bool texts = false;
  for (uint32_t i = 0; i < code.kernel_count; ++i) {
    e.kernels[i].module = pieces[i].is_text ? code.kernel_count : i;
    texts = texts || pieces[i].is_text;
    if (!pieces[i].is_text) INGOT_STREAM_TRY(d, d.api.ModuleLoadData(&e.modules[i], pieces[i].data), "loading a module");
  }
  return texts ? compile_module(e, code, pieces, &e.modules[code.kernel_count], error) : INGOT_OK;
}

// The archive's tensor maps: what the library would refuse, or that lies where 64 bits end, is refused here.
Code take_maps(ingot_driver_executable_t &e, const ingot_driver_code_t &code, Error *error) {
  const uint32_t count = maps_of(code);
  if (count != 0 && !e.device->physical.tensor_maps)
    return fail(error, INGOT_INCOMPATIBLE, "the variant has tensor maps, which the library of %s does not make here", e.device->vendor->name);
  INGOT_TRY(e.tensor_maps.create(e.device->allocator, count, "tensor maps", error));
  for (uint32_t n = 0; n < count; ++n) {
    const ingot_tensor_map_t &m = code.tensor_maps[n];
    bool good = m.kernel < code.kernel_count && (n == 0 || code.tensor_maps[n - 1].kernel <= m.kernel) && m.binding < code.kernels[m.kernel].binding_count &&
                m.rank >= 1 && m.rank <= INGOT_TENSOR_MAP_RANK && m.offset % 16 == 0 && m.offset < uint64_t(1) << 40 && m.box[0] == 64;
    for (uint32_t i = 0; good && i < m.rank; ++i)
      good = m.sizes[i] >= 1 && m.sizes[i] <= uint64_t(1) << 32 && m.box[i] >= 1 && m.box[i] <= 256 && m.strides[i] < uint64_t(1) << 40 &&
             (i == 0 ? m.strides[i] == 2 : m.strides[i] > 0 && m.strides[i] % 16 == 0) && m.sizes[i] - 1 <= (uint64_t(1) << 56) / m.strides[i];
    if (!good) return fail(error, INGOT_CORRUPT, "tensor map %u of the variant is none", n);
    ingot_driver_executable_t::Kernel &k = e.kernels[m.kernel];
    if (k.maps++ == 0) k.first_map = n;
    if (uint64_t(code.kernels[m.kernel].binding_count) + code.kernels[m.kernel].param_count + 1 + k.maps > kMaxArguments)
      return fail(error, INGOT_INCOMPATIBLE, "kernel '%.80s' has %u tensor maps and more, the driver takes %u arguments in all", code.kernels[m.kernel].name, k.maps, kMaxArguments);
    e.most_maps = k.maps > e.most_maps ? k.maps : e.most_maps;
    e.tensor_maps[n] = m;
  }
  return INGOT_OK;
}

Code fill(ingot_driver_executable_t &e, const ingot_driver_code_t &code, Error *error) {
  ingot_driver_device_t &d = *e.device;
  INGOT_TRY(e.kernels.create(d.allocator, code.kernel_count, "kernels", error));
  const uint64_t features = d.vendor->features(code.arch, d.physical);
  for (uint32_t i = 0; i < code.kernel_count; ++i) {
    const ingot_driver_kernel_t &k = code.kernels[i];
    INGOT_TRY(check_limits(d.physical, k, features, error));
    e.kernels[i].version = pick_version(d.physical, k, features);
    if (e.kernels[i].version == INGOT_NONE) return fail(error, INGOT_INCOMPATIBLE, "kernel '%.80s' has no version for this device", k.name);
  }
  if (code.kernel_count == 0) return INGOT_OK;
  INGOT_TRY(load_modules(e, code, error));
  INGOT_TRY(take_maps(e, code, error));
  for (uint32_t i = 0; i < code.kernel_count; ++i) {
    const ingot_driver_kernel_t &k = code.kernels[i];
    ingot_driver_executable_t::Kernel &out = e.kernels[i];
    const ingot_driver_code_version_t &version = k.versions[out.version];
    INGOT_STREAM_TRY(d, d.api.ModuleGetFunction(&out.function, e.modules[out.module], version.entry), "finding a kernel");
    out.shared_bytes = uint32_t(version.scratch_bytes);
    if (out.shared_bytes)
      INGOT_STREAM_TRY(d, d.api.FuncSetAttribute(out.function, kFunctionAsks, int(out.shared_bytes)), "asking for workgroup memory");
    memcpy(out.local_size, k.local_size, sizeof out.local_size);
    out.bindings = k.binding_count;
    out.params = k.param_count;
    out.errors = (k.flags & INGOT_KERNEL_FLAG_ERRORS) != 0;
    out.dependent = d.dependent && (k.flags & INGOT_KERNEL_FLAG_DEPENDENT) != 0;
  }
  return INGOT_OK;
}

} // namespace

Code supports(ingot_driver_device_t *device, const ingot_driver_code_t *code, Error *error) {
  const Vendor &vendor = *device->vendor;
  if (!strings_equal(code->target, vendor.target))
    return fail(error, INGOT_INCOMPATIBLE, "the variant is for %.60s, this device runs %s", code->target, vendor.target);
  if (!vendor.runs(code->arch, device->physical))
    return fail(error, INGOT_INCOMPATIBLE, "the variant is for %.60s, this device is %s", code->arch, device->physical.architecture);
  const uint64_t features = vendor.features(code->arch, device->physical);
  for (uint32_t i = 0; i < code->kernel_count; ++i) {
    INGOT_TRY(check_limits(device->physical, code->kernels[i], features, error));
    if (pick_version(device->physical, code->kernels[i], features) == INGOT_NONE)
      return fail(error, INGOT_INCOMPATIBLE, "kernel '%.80s' needs features that this driver does not know", code->kernels[i].name);
  }
  return INGOT_OK;
}

Code load(ingot_driver_device_t *device, const ingot_driver_code_t *code, ingot_driver_executable_t **out, Error *error) {
  if (device->lost.load(std::memory_order_relaxed)) return failed(*device, error, 709, "loading");
  ingot_driver_executable_t *e = create_object<ingot_driver_executable_t>(device->allocator, "an executable", error);
  if (!e) return INGOT_OUT_OF_MEMORY;
  e->device = device;
  Current current(*device);
  if (const Code result = fill(*e, *code, error)) {
    destroy_object(device->allocator, e);
    return result;
  }
  *out = e;
  return INGOT_OK;
}

void unload(ingot_driver_executable_t *e) { destroy_object(e->device->allocator, e); }

uint32_t kernel_version(const ingot_driver_executable_t *e, uint32_t kernel) { return e->kernels[kernel].version; }

} // namespace ingot::stream

ingot_driver_executable_t::~ingot_driver_executable_t() {
  ingot::stream::Current current(*device);
  for (ingot::stream::Module m : modules)
    if (m) device->api.ModuleUnload(m);
}
