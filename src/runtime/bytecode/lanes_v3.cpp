// The microkernels for x86-64-v3, which this file is compiled with.
#define INGOT_LANES kLanesV3
#define INGOT_VECTOR 32
#include "src/runtime/bytecode/lanes.inc"
