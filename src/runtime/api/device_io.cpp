// See device_io.h.
#include "src/runtime/api/device_io.h"

namespace ingot {
namespace {

constexpr uint64_t kDirect = UINT64_MAX; // DeviceIo::offsets: bound where it is given

bool unified(const ingot_device_t &device) { return device.properties.unified_memory; }

Code ensure_block(ingot_context_t &c, ingot_driver_memory_kind_t kind, uint64_t size, const char *what, Block *block, bool *changed,
                  Error *error) {
  if (size <= block->size) return INGOT_OK;
  *changed = true;
  release_block(*c.session->device, c.allocator, block);
  return create_block(*c.session->device, c.allocator, kind, size, what, block, error);
}

// A tensor that is not bound where it is given, and has bytes.
bool goes_through(const FunctionState &s, size_t tensor) { return s.io.offsets[tensor] != kDirect && tensor_size(s, tensor) != 0; }

} // namespace

uint64_t tensor_size(const FunctionState &s, size_t tensor) {
  const size_t inputs = s.input_bytes.size();
  return tensor < inputs ? uint64_t(s.input_bytes[tensor]) : s.io.output_rooms[tensor - inputs];
}

Code create_io(ingot_context_t &c, FunctionState &s, Error *error) {
  const ingot_driver_t &driver = *c.session->device->driver;
  ingot_driver_recording_size_t size = {};
  size.copies = uint32_t(s.input_bytes.size());
  INGOT_TRY(s.io.output_bytes.create(c.allocator, s.outputs.size(), "outputs", error));
  INGOT_TRY(driver.recording_create(c.stream, &size, &s.io.prologue, error));
  size.copies = uint32_t(s.outputs.size());
  return driver.recording_create(c.stream, &size, &s.io.epilogue, error);
}

void destroy_io(const ingot_device_t &device, const ingot_allocator_t &allocator, DeviceIo &io) {
  if (!has_own_memory(device)) return;
  for (ingot_driver_recording_t *r : {io.prologue, io.epilogue})
    if (r) device.driver->recording_destroy(r);
  for (Block *b : {&io.device, &io.upload, &io.readback}) release_block(device, allocator, b);
}

Code place_tensors(ingot_context_t &c, FunctionState &s, bool *changed, Error *error) {
  const ingot_device_t &device = *c.session->device;
  // What the kernels demand counts beside what the device demands.
  const uint64_t io_alignment = c.session->schema->io_alignment();
  const uint64_t binding = device.properties.binding_alignment > io_alignment ? device.properties.binding_alignment : io_alignment;
  const uint64_t alignment = binding > kAlignment ? binding : kAlignment;
  DeviceIo &io = s.io;
  uint64_t end = 0;
  for (size_t i = 0; i < s.places.size(); ++i) {
    if (i == s.input_bytes.size()) io.input_bytes = end;
    const bool direct = s.given[i].memory && s.given[i].offset % binding == 0;
    io.offsets[i] = direct ? kDirect : end;
    if (!direct) end += align_up(tensor_size(s, i), alignment);
  }
  if (s.input_bytes.size() == s.places.size()) io.input_bytes = end;
  INGOT_TRY(ensure_block(c, INGOT_MEMORY_DEVICE, end, "inputs and outputs", &io.device, changed, error));
  if (!unified(device)) {
    INGOT_TRY(ensure_block(c, INGOT_MEMORY_UPLOAD, io.input_bytes, "inputs", &io.upload, changed, error));
    INGOT_TRY(ensure_block(c, INGOT_MEMORY_READBACK, end - io.input_bytes, "outputs", &io.readback, changed, error));
  }
  for (size_t i = 0; i < s.places.size(); ++i) {
    const Place place = io.offsets[i] == kDirect ? s.given[i] : place_in(io.device, io.offsets[i]);
    *changed |= place != s.places[i];
    s.places[i] = place;
    if (i >= s.input_bytes.size()) continue;
    const Place source = io.offsets[i] != kDirect && s.given[i].memory ? s.given[i] : Place();
    *changed |= source != io.sources[i]; // the prologue names it
    io.sources[i] = source;
  }
  return INGOT_OK;
}

void copy_inputs(FunctionState &s) {
  for (size_t i = 0; i < s.input_bytes.size(); ++i) {
    if (!goes_through(s, i) || s.given[i].memory) continue;
    const Block &target = s.io.upload.host ? s.io.upload : s.io.device;
    memcpy(target.host + s.io.offsets[i], s.given[i].host + s.given[i].offset, size_t(tensor_size(s, i)));
  }
}

void copy_output(const FunctionState &s, const ingot_device_t &device, uint32_t output, uint64_t bytes) {
  const size_t i = s.input_bytes.size() + output;
  if (bytes == 0 || !goes_through(s, i) || s.given[i].memory) return;
  const uint8_t *from = unified(device) ? s.io.device.host + s.io.offsets[i]
                                        : s.io.readback.host + (s.io.offsets[i] - s.io.input_bytes);
  memcpy(s.given[i].host + s.given[i].offset, from, size_t(bytes));
}

Code record_prologue(FunctionState &s, const ingot_device_t &device, Error *error) {
  const ingot_driver_t &driver = *device.driver;
  DeviceIo &io = s.io;
  io.before = false;
  driver.recording_begin(io.prologue, false);
  for (size_t i = 0; i < s.input_bytes.size(); ++i) {
    if (!goes_through(s, i) || (!s.given[i].memory && unified(device))) continue;
    const uint64_t bytes = tensor_size(s, i);
    const ingot_driver_span_t target = span_of(s.places[i], bytes);
    const ingot_driver_span_t source = span_of(s.given[i].memory ? s.given[i] : place_in(io.upload, io.offsets[i]), bytes);
    driver.record_copy(io.prologue, &target, &source);
    io.before = true;
  }
  return driver.recording_end(io.prologue, error);
}

Code record_epilogue(FunctionState &s, const ingot_device_t &device, Error *error) {
  const ingot_driver_t &driver = *device.driver;
  DeviceIo &io = s.io;
  bool given = false; // copies to the caller's own device memory, of which epochs know nothing
  for (size_t i = s.input_bytes.size(); i < s.given.size(); ++i) given = given || (goes_through(s, i) && s.given[i].memory);
  if (io.ended == s.epoch && !given) return INGOT_OK; // a new recording would be a new graph
  io.ended = 0;
  io.after = false;
  driver.recording_begin(io.epilogue, false);
  for (size_t o = 0; o < s.outputs.size(); ++o) {
    const size_t i = s.input_bytes.size() + o;
    const uint64_t bytes = io.output_bytes[o];
    if (bytes == 0 || !goes_through(s, i) || (!s.given[i].memory && unified(device))) continue;
    const ingot_driver_span_t source = span_of(s.places[i], bytes);
    const ingot_driver_span_t target =
        span_of(s.given[i].memory ? s.given[i] : place_in(io.readback, io.offsets[i] - io.input_bytes), bytes);
    driver.record_copy(io.epilogue, &target, &source);
    io.after = true;
  }
  INGOT_TRY(driver.recording_end(io.epilogue, error));
  io.ended = given ? 0 : s.epoch;
  return INGOT_OK;
}

} // namespace ingot
