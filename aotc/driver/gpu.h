// GPU variants: programs -> simt kernels -> SPIR-V, MSL, WGSL or PTX modules, one after the other in one code segment.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "aotc/driver/compile.h"

namespace ingot::aotc {

struct GpuVariant {
  archive::Variant variant;
  std::string kernels_text; // kernel IR
  std::string code_text;    // MSL, WGSL, PTX; SPIR-V as words in hexadecimal
};

using Operators = std::map<std::string, std::string>; // of nodes: "ai.onnx.Conv"

// The first record is the baseline; a kernel that it cannot express is tried on the others, in order. nullopt with a
// diagnostic for every dispatch that none can express. Without `texts`, those are left out.
std::optional<GpuVariant> compile_gpu_variant(const CompileOptions &options, const TargetRequest &target,
                                              const std::vector<fuse::Program> &programs, archive::ArchiveModel &model,
                                              plan::WeightPool &weights, bool texts, const Operators &operators,
                                              Diagnostics &diagnostics);

} // namespace ingot::aotc
