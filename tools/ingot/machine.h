// What one core of this machine can do, measured in a fraction of a second: the bar that kernels are held
// against.
#pragma once

namespace ingot::tool {

struct MachinePeak {
  double fma_gflops = 0;      // f32 fused multiply-adds of the widest vectors, two operations each
  const char *vector = "";    // "avx512", "avx2", ...
  double copy_gbps = 0;       // bytes read plus bytes written a second, copying 64 MiB: memory
  double cache_copy_gbps = 0; // the same within 128 KiB: the caches
};

MachinePeak measure_machine();

// Fused multiply-adds with the widest vectors, for a while: `iterations` of some ten nanoseconds each.
void run_fma_loop(long iterations);

} // namespace ingot::tool
