// What a model computes, by the reference interpreter: every dispatch by its naive schedule, exactly in order. Slow; what
// `aotc --emit=reference` and so `ingot verify-numerics` compare with.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "aotc/fuse/fuse.h"

namespace ingot::aotc {

struct NamedTensor {
  std::string name;
  ElementType type = ElementType::kF32;
  std::vector<int64_t> dims;
  std::vector<uint8_t> bytes; // dense, row-major
};

// The outputs of one run, in order. Empty with *problem set where the inputs do not fit the signature or the run fails (a
// check, an index out of range). `jobs` threads share the groups of each dispatch; the result does not depend on it.
std::vector<NamedTensor> run_reference(const fuse::Program &program, const std::vector<NamedTensor> &inputs, unsigned jobs,
                                       std::string *problem);

} // namespace ingot::aotc
