// Measures one core's peak of fused multiply-adds in f32 and prints GFLOP/s for each vector width that the CPU has.
//
//   build/benchmarks/peak            a line per width, then `peak NAME GFLOPS`
//
// Twelve independent accumulators hide the latency of an FMA (4 cycles, 2 a cycle) on current x86-64 and Arm cores.
// The best of many short rounds is taken: the peak is what the machine can do, not what it does on average.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>

namespace {

constexpr int kAccumulators = 12;
constexpr long kIterations = 400'000;
constexpr int kRounds = 40;

template <int kLanes>
struct Vector {
  typedef float type __attribute__((vector_size(kLanes * sizeof(float))));
};

// The loop is written once and compiled for each instruction set by its callers' target attributes.
template <int kLanes>
__attribute__((always_inline)) inline float multiply_add(long iterations) {
  using V = typename Vector<kLanes>::type;
  V sums[kAccumulators];
  for (int i = 0; i < kAccumulators; ++i) sums[i] = V{} + static_cast<float>(i) * 0.01f;
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

volatile float g_sink;

template <typename Function>
double gflops(Function function, int lanes) {
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    g_sink = function(kIterations);
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    best = std::max(best, 2.0 * lanes * kAccumulators * kIterations / time.count() / 1e9);
  }
  return best;
}

#if defined(__x86_64__)
__attribute__((target("fma,avx2"), optimize("fp-contract=fast"))) float avx2(long n) { return multiply_add<8>(n); }
__attribute__((target("avx512f,fma,prefer-vector-width=512"), optimize("fp-contract=fast"))) float avx512(long n) {
  return multiply_add<16>(n);
}
__attribute__((optimize("fp-contract=fast"))) float sse(long n) { return multiply_add<4>(n); }
#else
float generic(long n) { return multiply_add<4>(n); }
#endif

} // namespace

int main() {
  const char *name = "";
  double peak = 0;
  const auto report = [&](const char *width, double value) {
    std::printf("%s %.1f\n", width, value);
    if (value > peak) peak = value, name = width;
  };
#if defined(__x86_64__)
  __builtin_cpu_init();
  report("x86-64-v2", gflops(sse, 4));
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) report("x86-64-v3", gflops(avx2, 8));
  if (__builtin_cpu_supports("avx512f")) report("x86-64-v4", gflops(avx512, 16));
#else
  report("generic", gflops(generic, 4));
#endif
  std::printf("peak %s %.1f\n", name, peak);
  return 0;
}
