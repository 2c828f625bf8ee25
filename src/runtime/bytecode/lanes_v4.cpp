// The microkernels for x86-64-v4, which this file is compiled with.
#define INGOT_LANES kLanesV4
#define INGOT_VECTOR 64
#include "src/runtime/bytecode/lanes.inc"
