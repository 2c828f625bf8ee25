// A recording for drivers whose device is the host: a byte stream of prefilled commands. Shared by null, local-sync and
// whatever else runs in host memory.
#pragma once

#include <ingot/driver.h>

#include "schemas/cpu_abi.h"
#include "schemas/program_words.h"
#include "src/runtime/base.h"

namespace ingot::drivers {

using KernelFunction = void (*)(const IngotCpuArgs *args);

enum class HostOp : uint32_t { dispatch, copy, fill };

// Each command starts with this; `size` (a multiple of 8) leads to the next one.
struct HostCommand {
  HostOp op;
  uint32_t size;
};
struct HostDispatch : HostCommand {
  KernelFunction function; // null: does nothing
  uint32_t kernel, site, version;
  uint32_t padding;
  IngotCpuArgs args; // followed by bindings, parameters, and what bytecode needs; see schemas/cpu_abi.h
};
// The largest one: threads that share a dispatch run copies of it on their stacks. Words of 8 bytes: bindings and their
// lengths, parameters, one more.
constexpr size_t kMaxHostDispatch = sizeof(HostDispatch) + 8 * (2 * program::kMaxBindings + program::kMaxParams + 1);

struct HostCopy : HostCommand {
  void *target;
  const void *source;
  uint64_t length;
};
struct HostFill : HostCommand {
  void *target;
  uint64_t length, pattern;
  uint32_t pattern_bytes, padding;
};

struct HostRecording {
  ingot_allocator_t allocator;
  ingot_driver_stream_t *stream;
  uint8_t *commands; // reserved at creation
  size_t capacity, size;
};

// `stream` is only stored. Fails with INGOT_OUT_OF_MEMORY.
Code host_recording_create(const ingot_allocator_t &allocator, ingot_driver_stream_t *stream,
                           const ingot_driver_recording_size_t &size, HostRecording **out, Error *error);
void host_recording_destroy(HostRecording *recording);
// Each appends a command; null where the recording is full. A dispatch has no function yet: the driver fills function,
// version, error and scratch.
HostDispatch *host_record_dispatch(HostRecording &recording, const ingot_driver_dispatch_t &dispatch);
// Tells a dispatch of bytecode its loaded kernel.
void host_record_kernel(HostDispatch &command, const ingot_driver_dispatch_t &dispatch, const void *kernel);
HostCopy *host_record_copy(HostRecording &recording, const ingot_driver_span_t &target, const ingot_driver_span_t &source);
HostFill *host_record_fill(HostRecording &recording, const ingot_driver_span_t &target, uint64_t pattern,
                           uint32_t pattern_bytes);

void host_copy(const HostCopy &copy);
void host_fill(void *target, uint64_t length, uint64_t pattern, uint32_t pattern_bytes);

} // namespace ingot::drivers
