// The SPEC forms of --input, --output and --expect:
//   2x3xf32=1,2,3,4,5,6   2x3xf32=0.5 (splat)   2x3xf32=random:7   2x3xf32=@FILE.bin   2x3xf32 (random:0)
//   @FILE.npy   random:SEED (the input's own shape, where it is fixed)     outputs: - (print) or @FILE.npy
// each alone, for the inputs or outputs in order, or as NAME=SPEC.
#pragma once

#include <string>
#include <vector>

#include "tools/ingot/tensor.h"

namespace ingot::tool {

// What an archive's signature says of an input or output; a dim is -1 where it is not fixed.
struct Signature {
  std::string name;
  TensorType type;
};

struct NamedSpec {
  uint32_t index;   // which input or output
  std::string body; // what follows NAME=
};

// Gives each spec its input or output: NAME= is taken where NAME is one of them, the rest goes by position.
// Throws where a name is unknown or one is named twice. `kind` is "input" or "output", for messages.
std::vector<NamedSpec> resolve_names(const std::vector<std::string> &specs,
                                     const std::vector<Signature> &signature, const char *kind);

// The tensor that a spec without its name describes, for an input or output with this signature.
HostTensor parse_tensor(const std::string &body, const Signature &signature);

// Deterministic values: floats uniform in [-1, 1), integers 0 .. 9, u8 0 .. 255, bool either. Drawn from
// splitmix64, one draw an element, so that other programs can make the same.
void fill_random(HostTensor &tensor, uint64_t seed);

} // namespace ingot::tool
