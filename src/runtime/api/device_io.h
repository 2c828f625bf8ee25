// Inputs and outputs of devices with memory of their own. A tensor in a buffer of the device is bound where it is; every
// other one goes through a fixed place in the context's memory, so that recordings outlive the caller's pointers:
//
//   host memory --memcpy--> upload --prologue--> device --kernels--> device --epilogue--> readback --memcpy--> host memory
//
// On unified memory `device` is mapped, and both copies on the device fall away.
#pragma once

#include "src/runtime/api/session.h"

namespace ingot {

Code create_io(ingot_context_t &context, FunctionState &state, Error *error);
void destroy_io(const ingot_device_t &device, const ingot_allocator_t &allocator, DeviceIo &io);

// Bytes of a tensor by number, inputs first: of inputs what the dims give, of outputs what may be written.
uint64_t tensor_size(const FunctionState &state, size_t tensor);

// Fills state.places from state.given; blocks grow where they must, which needs an idle device. *changed: recordings made
// before name other places.
Code place_tensors(ingot_context_t &context, FunctionState &state, bool *changed, Error *error);

// Host memory to where the prologue, or the kernels, find it.
void copy_inputs(FunctionState &state);
// The other way, for one output of that many bytes.
void copy_output(const FunctionState &state, const ingot_device_t &device, uint32_t output, uint64_t bytes);

// Records the copies on the device; io.before and io.after tell whether there are any.
Code record_prologue(FunctionState &state, const ingot_device_t &device, Error *error);
// With io.output_bytes of each output.
Code record_epilogue(FunctionState &state, const ingot_device_t &device, Error *error);

} // namespace ingot
