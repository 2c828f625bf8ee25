// Makes the tensors that an archive keeps in memory visible: a copy of the archive whose function also returns what it
// otherwise overwrites. Kernels, commands and constants stay as they are, so what is seen is what ships.
#pragma once

#include <string>
#include <vector>

#include "tools/ingot/tensor.h"

namespace ingot::tool {

struct ExposedTensor {
  std::string name;               // of the value in the source model, as the compiler noted it
  uint32_t output = 0;            // which output of the copy's function holds it; the function's own keep their numbers
  std::string kernel;             // the last dispatch that writes it; empty where only copies do
  std::vector<std::string> nodes; // source nodes of the dispatches that write it
};

struct Exposed {
  Bytes archive;                      // one variant, the one asked for
  std::vector<ExposedTensor> tensors; // in the order in which the program completes them
};

// Pre: `archive` holds a whole archive that the runtime accepts, with such a variant and function. Left out are tensors
// without a name, those whose name another one bears, and those whose size only the run knows.
Exposed expose(const Bytes &archive, uint32_t variant, uint32_t function);

} // namespace ingot::tool
