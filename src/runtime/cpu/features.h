// What this machine's CPU can run, in the bits of schemas/cpu_abi.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ingot {

// Architecture that this runtime was built for, as archives spell it: "x86_64", "aarch64", "riscv64", ...
const char *host_arch();

// INGOT_CPU_* bits of this machine; a bit is set only where the operating system saves the registers too.
uint64_t host_cpu_features();

// Name of the lowest set bit ("x86-64-v3"), and that bit in *bit; null where the mask is empty.
const char *cpu_feature_name(uint64_t mask, uint64_t *bit);

// One line of text about the CPU model into buffer; "" where unknown.
void host_cpu_name(char *buffer, size_t capacity);

} // namespace ingot
