// The microkernels for whatever the runtime itself is compiled for.
#define INGOT_LANES kLanesBaseline
#define INGOT_VECTOR 16
#include "src/runtime/bytecode/lanes.inc"
