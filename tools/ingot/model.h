// An archive opened, prepared and run the way `run`, `run-many` and `bench` need it.
#pragma once

#include <string>
#include <vector>

#include "tools/ingot/failure.h"
#include "tools/ingot/spec.h"

namespace ingot::tool {

// Throws Failure with the path in the message.
Archive open_archive(const std::string &path, const ingot_allocator_t *allocator = nullptr);
// Index of the function; throws with the names there are.
uint32_t find_function(const Archive &archive, const std::string &path, const std::string &name);
std::vector<Signature> inputs_of(const Archive &archive, uint32_t function);
std::vector<Signature> outputs_of(const Archive &archive, uint32_t function);
// The first device that the URI means and that can run the archive.
Device open_device(const Instance &instance, const Archive &archive, const std::string &uri);

// All inputs in order. Those without a spec: random:`seed` where `fill`, else a Failure that lists them.
std::vector<HostTensor> make_inputs(const std::vector<std::string> &specs,
                                    const std::vector<Signature> &signature, bool fill, uint64_t seed = 0);
std::vector<Tensor> views_of(const std::vector<HostTensor> &tensors);

// "x: 2x3xf32, y: f32", for messages.
std::string to_text(const std::vector<Signature> &signature, const std::vector<HostTensor> &tensors);
std::string to_text(const std::vector<Signature> &signature);

// Outputs with memory, sized by ingot_session_infer; after a run, `take_dims` gives those with data-dependent
// dims their true ones.
struct Outputs {
  std::vector<HostTensor> tensors;
  std::vector<Tensor> views;
  void take_dims();
};
// `signature` and `tensors` are the inputs', for the message where they do not fit.
Outputs make_outputs(const Session &session, uint32_t function, const std::vector<Signature> &signature,
                     const std::vector<HostTensor> &tensors, size_t count);

} // namespace ingot::tool
