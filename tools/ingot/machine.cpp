// The FMA loop is written once over a vector type and compiled for each instruction set through target
// attributes; twelve independent accumulators hide the latency. The best of many short rounds counts: what the
// machine can do, not what it does on average.
#include "tools/ingot/machine.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>

namespace ingot::tool {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

constexpr int kAccumulators = 12;
constexpr long kIterations = 100'000;
constexpr int kRounds = 40;

template <int kLanes>
struct Vector {
  typedef float Type __attribute__((vector_size(kLanes * sizeof(float))));
};

template <int kLanes>
__attribute__((always_inline)) inline float multiply_add(long iterations) {
  using V = typename Vector<kLanes>::Type;
  V sums[kAccumulators];
  for (int i = 0; i < kAccumulators; ++i) sums[i] = V{} + float(i) * 0.01f;
  V factor = V{} + 0.9999f, addend = V{} + 1e-4f;
  asm volatile("" : "+m"(factor), "+m"(addend)); // constants that the compiler must not know
  const V f = factor, a = addend;
  for (long n = 0; n < iterations; ++n) {
#pragma GCC unroll 12
    for (int i = 0; i < kAccumulators; ++i) sums[i] = sums[i] * f + a;
  }
  V total{};
  for (int i = 0; i < kAccumulators; ++i) total += sums[i];
  float out = 0;
  for (int i = 0; i < kLanes; ++i) out += total[i];
  return out;
}

#if defined(__clang__)
#define INGOT_CONTRACT
#pragma clang fp contract(fast)
#else
#define INGOT_CONTRACT , optimize("O2", "fp-contract=fast")
#endif

#if defined(__x86_64__)
__attribute__((target("avx2,fma") INGOT_CONTRACT)) float fma_avx2(long n) { return multiply_add<8>(n); }
__attribute__((target("avx512f,fma,prefer-vector-width=512") INGOT_CONTRACT)) float fma_avx512(long n) {
  return multiply_add<16>(n);
}
#endif
float fma_generic(long n) { return multiply_add<4>(n); }

double gflops(float (*function)(long), int lanes) {
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    const auto start = Clock::now();
    volatile float sink = function(kIterations);
    (void)sink;
    best = std::max(best, 2.0 * lanes * kAccumulators * kIterations / seconds_since(start) / 1e9);
  }
  return best;
}

// Copies `bytes` to and fro until `total` bytes are copied a round; GB/s read and written.
double copy_rate(size_t bytes, size_t total, int rounds) {
  const std::unique_ptr<uint8_t[]> memory(new uint8_t[2 * bytes]);
  std::memset(memory.get(), 1, 2 * bytes);
  double best = 0;
  for (int round = 0; round < rounds; ++round) {
    const size_t times = std::max<size_t>(1, total / bytes);
    const auto start = Clock::now();
    for (size_t i = 0; i < times; ++i) {
      std::memcpy(memory.get() + bytes, memory.get(), bytes);
      asm volatile("" ::"r"(memory.get()) : "memory");
    }
    best = std::max(best, 2.0 * double(bytes) * double(times) / seconds_since(start) / 1e9);
  }
  return best;
}

} // namespace

void run_fma_loop(long iterations) {
  float (*loop)(long) = fma_generic;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) loop = fma_avx2;
  if (__builtin_cpu_supports("avx512f")) loop = fma_avx512;
#endif
  volatile float sink = loop(iterations);
  (void)sink;
}

MachinePeak measure_machine() {
  MachinePeak peak;
  const auto try_width = [&](const char *name, float (*function)(long), int lanes) {
    const double value = gflops(function, lanes);
    if (value > peak.fma_gflops) peak.fma_gflops = value, peak.vector = name;
  };
  try_width("128-bit", fma_generic, 4);
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) try_width("avx2", fma_avx2, 8);
  if (__builtin_cpu_supports("avx512f")) try_width("avx512", fma_avx512, 16);
#endif
  peak.copy_gbps = copy_rate(size_t(64) << 20, size_t(64) << 20, 5);
  peak.cache_copy_gbps = copy_rate(size_t(64) << 10, size_t(32) << 20, 10);
  return peak;
}

} // namespace ingot::tool
