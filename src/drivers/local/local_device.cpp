// See local_device.h.
#include "src/drivers/local/local_device.h"

#include <stdio.h>

#include "src/runtime/cpu/features.h"
#include "src/runtime/platform/platform.h"

namespace ingot::drivers {
namespace {

// A number that ends at '&' or at the end of the text; moves *text there. False where it is none or does not
// fit.
bool take_number(const char **text, uint32_t base, uint64_t *out) {
  const char *at = *text;
  uint64_t value = 0;
  for (; *at && *at != '&'; ++at) {
    const char c = char(*at | 0x20);
    const uint32_t digit = c >= '0' && c <= '9'   ? uint32_t(c - '0')
                           : c >= 'a' && c <= 'f' ? uint32_t(c - 'a' + 10)
                                                  : 16;
    if (digit >= base || value > (UINT64_MAX - digit) / base) return false;
    value = value * base + digit;
  }
  if (at == *text) return false;
  *text = at;
  *out = value;
  return true;
}

bool take_prefix(const char **text, const char *prefix) {
  const size_t length = strlen(prefix);
  if (strncmp(*text, prefix, length) != 0) return false;
  *text += length;
  return true;
}

Code parse_options(const char *driver, const char *options, uint32_t max_threads, LocalOptions *out,
                   Error *error) {
  for (const char *at = options; *at;) {
    const char *const option = at;
    uint64_t value = 0;
    if (take_prefix(&at, "features=0x")) {
      if (!take_number(&at, 16, &value))
        return fail(error, INGOT_INVALID_ARGUMENT, "%s: '%.40s' is no hexadecimal number", driver, option);
      out->features &= value;
    } else if (take_prefix(&at, "threads=")) {
      if (!take_number(&at, 10, &value) || value == 0 || value > max_threads)
        return fail(error, INGOT_INVALID_ARGUMENT,
                    max_threads == 1 ? "%s: '%.40s': it runs on one thread (local-task uses more)"
                                     : "%s: '%.40s': 1 to %u threads may be asked for",
                    driver, option, max_threads);
      out->threads = uint32_t(value);
    } else {
      return fail(error, INGOT_INVALID_ARGUMENT,
                  "%s: unknown option '%.60s': known are threads=N and features=0xMASK", driver, option);
    }
    if (*at == '&') ++at;
  }
  return INGOT_OK;
}

} // namespace

Code local_open(const char *driver, const char *id, uint32_t ordinal, const char *options, uint32_t max_threads,
                LocalOptions *out, Error *error) {
  if ((id && !strings_equal(id, "0")) || ordinal != 0)
    return fail(error, INGOT_NOT_FOUND, "%s: no such device: the only one is %s:0", driver, driver);
  *out = {host_cpu_features(), 0};
  return parse_options(driver, options, max_threads, out, error);
}

Code local_enumerate(const ingot_driver_host_t *, void (*visit)(void *, const char *, const char *), void *user,
                     Error *) {
  char name[128];
  host_cpu_name(name, sizeof name);
  visit(user, "0", name[0] ? name : host_arch());
  return INGOT_OK;
}

Code local_describe(ingot_driver_device_t *d, void (*visit)(void *, const char *, const char *), void *user,
                    Error *) {
  const LocalDevice &device = *local_device(d);
  char buffer[256];
  host_cpu_name(buffer, sizeof buffer);
  visit(user, "name", buffer);
  visit(user, "arch", host_arch());
  size_t length = 0;
  buffer[0] = 0;
  uint64_t bit;
  for (uint64_t left = device.features; const char *name = cpu_feature_name(left, &bit); left &= ~bit)
    length += size_t(snprintf(buffer + length, sizeof buffer - length, "%s%s", length ? " " : "", name));
  visit(user, "features", buffer);
  snprintf(buffer, sizeof buffer, "0x%llx", (unsigned long long)device.features);
  visit(user, "feature-mask", buffer);
  snprintf(buffer, sizeof buffer, "%u", platform::cpu_count());
  visit(user, "cores", buffer);
  snprintf(buffer, sizeof buffer, "%u", device.threads);
  visit(user, "threads", buffer);
  return INGOT_OK;
}

Code local_supports(ingot_driver_device_t *d, const ingot_driver_code_t *code, Error *error) {
  return native_supports(local_device(d)->allocator, local_device(d)->features, *code, error);
}

uint32_t local_kernel_version(const ingot_driver_executable_t *e, uint32_t kernel) {
  return reinterpret_cast<const LocalExecutable *>(e)->code.kernel(kernel).version;
}

Code local_load(LocalDevice &device, const ingot_driver_code_t &code, LocalExecutable *out, Error *error) {
  out->device = &device;
  return out->code.load(device.allocator, device.features, code, error);
}

Code local_stream_init(LocalDevice &device, ingot_driver_executable_t *executable, LocalStream *out,
                       Error *error) {
  out->device = &device;
  out->executable = reinterpret_cast<LocalExecutable *>(executable);
  const uint64_t scratch = out->executable->code.scratch_bytes();
  if (scratch == 0) return INGOT_OK;
  out->scratch = static_cast<uint8_t *>(allocate_bytes(device.allocator, size_t(scratch), 1, kAlignment));
  if (out->scratch) return INGOT_OK;
  return fail(error, INGOT_OUT_OF_MEMORY, "out of memory: %llu bytes of scratch memory",
              (unsigned long long)scratch);
}

void local_stream_release_scratch(LocalStream &stream) {
  release_bytes(stream.device->allocator, stream.scratch, size_t(stream.executable->code.scratch_bytes()),
                kAlignment);
}

HostDispatch *local_record_dispatch(HostRecording &recording, LocalStream &stream,
                                    const ingot_driver_dispatch_t &d) {
  const NativeKernel &kernel = stream.executable->code.kernel(d.kernel);
  HostDispatch *c = host_record_dispatch(recording, d);
  if (!c) return nullptr;
  c->function = kernel.function;
  c->version = kernel.version;
  if (kernel.bytecode) host_record_kernel(*c, d, kernel.bytecode);
  c->args.error = uintptr_t(&stream.error);
  c->args.scratch = uintptr_t(stream.scratch);
  return c;
}

__attribute__((noinline, cold)) void local_timed(const LocalDevice &device, const HostDispatch &c,
                                                 const ingot_driver_submit_t &s, void (*run)(void *),
                                                 void *argument) {
  ingot_driver_timing_t t = {c.kernel, c.site, c.version, {c.args.grid[0], c.args.grid[1], c.args.grid[2]},
                             0,        0};
  t.start_ns = device.now_ns();
  run(argument);
  t.end_ns = device.now_ns();
  s.on_dispatch(s.user, &t);
}

__attribute__((cold)) Code local_stopped(Code reason, Error *error) {
  return fail(error, reason,
              reason == INGOT_CANCELLED ? "the run was cancelled" : "the run exceeded its deadline");
}

__attribute__((cold)) Code local_kernel_error(uint64_t word, ingot_driver_submit_t *s, Error *error) {
  s->kernel_error = word;
  return fail(error, INGOT_KERNEL_ERROR, "a kernel reported error %llu", (unsigned long long)word);
}

} // namespace ingot::drivers
