// CPU detection: CPUID and XGETBV on x86-64, the operating system's word elsewhere.
#include "src/runtime/cpu/features.h"

#include "schemas/cpu_abi.h"
#include "src/runtime/platform/platform.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace ingot {

const char *host_arch() {
#if defined(__x86_64__)
  return "x86_64";
#elif defined(__aarch64__)
  return "aarch64";
#elif defined(__riscv) && __riscv_xlen == 64
  return "riscv64";
#elif defined(__arm__)
  return "arm";
#else
  return "unknown";
#endif
}

uint64_t host_cpu_features() {
#if defined(__x86_64__)
  auto all = [](uint32_t word, uint32_t bits) { return (word & bits) == bits; };
  uint32_t a, b, c, d, c1, b7 = 0, c7 = 0, d7 = 0, a71 = 0, c_ext = 0;
  if (!__get_cpuid(1, &a, &b, &c1, &d)) return 0;
  if (__get_cpuid_count(7, 0, &a, &b7, &c7, &d7) && a >= 1) {
    uint32_t sub;
    if (__get_cpuid_count(7, 1, &sub, &b, &c, &d)) a71 = sub;
  }
  if (__get_cpuid(0x80000001u, &a, &b, &c, &d)) c_ext = c;
  uint64_t xcr0 = 0;
  if (c1 & (1u << 27)) { // OSXSAVE
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    xcr0 = uint64_t(high) << 32 | low;
  }
  uint64_t features = 0;
  // SSE3, SSSE3, CX16, SSE4.1, SSE4.2, POPCNT; LAHF
  const bool v2 = all(c1, 1u << 0 | 1u << 9 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 23) && all(c_ext, 1u << 0);
  // FMA, MOVBE, AVX, F16C; BMI1, AVX2, BMI2; LZCNT; ymm state saved
  const bool v3 = v2 && all(c1, 1u << 12 | 1u << 22 | 1u << 28 | 1u << 29) && all(b7, 1u << 3 | 1u << 5 | 1u << 8) &&
                  all(c_ext, 1u << 5) && (xcr0 & 6) == 6;
  // AVX-512 F, DQ, CD, BW, VL; zmm and mask state saved
  const bool v4 = v3 && all(b7, 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31) && (xcr0 & 0xe6) == 0xe6;
  if (v2) features |= INGOT_CPU_X86_64_V2;
  if (v3) features |= INGOT_CPU_X86_64_V3;
  if (v4) features |= INGOT_CPU_X86_64_V4;
  if (v4 && all(c7, 1u << 11)) features |= INGOT_CPU_X86_AVX512_VNNI;
  if (v4 && all(d7, 1u << 23)) features |= INGOT_CPU_X86_AVX512_FP16;
  if (v4 && all(a71, 1u << 5)) features |= INGOT_CPU_X86_AVX512_BF16;
  if (v3 && all(a71, 1u << 4)) features |= INGOT_CPU_X86_AVX_VNNI;
  return features;
#else
  return platform::os_cpu_features();
#endif
}

void host_cpu_name(char *buffer, size_t capacity) {
#if defined(__x86_64__)
  uint32_t words[13] = {}; // the brand string: 48 bytes in three leaves
  for (uint32_t i = 0; i < 3; ++i)
    if (!__get_cpuid(0x80000002u + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2], &words[4 * i + 3])) break;
  const char *text = reinterpret_cast<const char *>(words);
  while (*text == ' ') ++text;
  size_t length = strlen(text);
  if (length >= capacity) length = capacity - 1;
  memcpy(buffer, text, length);
  buffer[length] = 0;
#else
  platform::cpu_name(buffer, capacity);
#endif
}

const char *cpu_feature_name(uint64_t mask, uint64_t *bit) {
  *bit = mask & (~mask + 1);
  switch (*bit) {
  case 0: return nullptr;
  case INGOT_CPU_X86_64_V2: return "x86-64-v2";
  case INGOT_CPU_X86_64_V3: return "x86-64-v3";
  case INGOT_CPU_X86_64_V4: return "x86-64-v4";
  case INGOT_CPU_X86_AVX512_VNNI: return "avx512-vnni";
  case INGOT_CPU_X86_AVX512_BF16: return "avx512-bf16";
  case INGOT_CPU_X86_AVX_VNNI: return "avx-vnni";
  case INGOT_CPU_X86_AVX512_FP16: return "avx512-fp16";
  case INGOT_CPU_AARCH64_DOTPROD: return "dotprod";
  case INGOT_CPU_AARCH64_I8MM: return "i8mm";
  case INGOT_CPU_AARCH64_BF16: return "bf16";
  case INGOT_CPU_AARCH64_SVE: return "sve";
  case INGOT_CPU_AARCH64_FP16: return "fp16";
  default: return "a feature unknown to this runtime";
  }
}

} // namespace ingot
