// Runs kernels of an image on another machine or under qemu: no libc, so that a plain clang and lld build it for any
// Linux. See case.h.
//
// stdin, every item padded to 64 bytes:
//   u64 image_bytes, case_count | image as it lies in memory
//   per case: u64 offset, scratch_bytes, buffers, params, grid x, y, z | params | per buffer: u64 bytes | contents
// stdout, likewise: per case the error word, then every buffer's contents after the run.
#include "schemas/cpu_abi.h"

static long call(long number, long a, long b, long c, long d, long e, long f) {
#if defined(__aarch64__)
  register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c,
                x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
  return x0;
#else
  long result;
  register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
#endif
}

#if defined(__aarch64__)
enum { kRead = 63, kWrite = 64, kExit = 93, kMmap = 222, kMprotect = 226 };
#else
enum { kRead = 0, kWrite = 1, kExit = 60, kMmap = 9, kMprotect = 10 };
#endif

static void leave(int status) {
  for (;;)
    call(kExit, status, 0, 0, 0, 0, 0);
}

static void *pages(uint64_t bytes) {
  long p = call(kMmap, 0, (long)((bytes + 4095) / 4096 * 4096 + 4096), 3 /* rw */,
                0x22 /* private, anonymous */, -1, 0);
  if (p < 0)
    leave(2);
  return (void *)p;
}

static uint64_t padded(uint64_t bytes) { return (bytes + 63) / 64 * 64; }

static void take(void *to, uint64_t bytes) { // reads the padding too
  for (uint64_t at = 0; at < padded(bytes);) {
    long n = call(kRead, 0, (long)to + (long)at, (long)(padded(bytes) - at), 0, 0, 0);
    if (n <= 0)
      leave(3);
    at += (uint64_t)n;
  }
}

static void give(const void *from, uint64_t bytes) {
  for (uint64_t at = 0; at < padded(bytes);) {
    long n = call(kWrite, 1, (long)from + (long)at, (long)(padded(bytes) - at), 0, 0, 0);
    if (n <= 0)
      leave(4);
    at += (uint64_t)n;
  }
}

static void run_cases(void) {
  static uint64_t head[8] __attribute__((aligned(64)));
  take(head, sizeof head);
  char *image = pages(head[0] + 64);
  take(image, head[0]);
#if defined(__aarch64__)
  for (uint64_t k = 0; k < head[0] + 64; k += 16) {
    __asm__ volatile("dc cvau, %0" ::"r"(image + k));
    __asm__ volatile("ic ivau, %0" ::"r"(image + k));
  }
  __asm__ volatile("dsb ish\n isb" ::: "memory");
#endif
  if (call(kMprotect, (long)image, (long)((head[0] + 4095) / 4096 * 4096), 5 /* rx */, 0, 0, 0) != 0)
    leave(5);

  for (uint64_t n = 0; n < head[1]; n++) {
    uint64_t c[8];
    take(c, sizeof c);
    uint64_t *block = pages(INGOT_CPU_ARGS_HEADER + 8 * (c[2] + c[3]) + 64), sizes[64];
    if (c[2] > 64)
      leave(6);
    uint64_t *values = (uint64_t *)((char *)block + INGOT_CPU_ARGS_HEADER);
    uint64_t *params = pages(c[3] * 8 + 64);
    take(params, c[3] * 8);
    for (uint64_t k = 0; k < c[3]; k++)
      values[c[2] + k] = params[k];
    for (uint64_t k = 0; k < c[2]; k++) {
      uint64_t size[8];
      take(size, sizeof size);
      sizes[k] = size[0];
      void *buffer = pages(size[0] + 64);
      take(buffer, size[0]);
      values[k] = (uint64_t)buffer;
    }
    uint64_t error[8] = {0};
    IngotCpuArgs *args = (IngotCpuArgs *)block;
    args->group_begin = 0;
    args->group_end = (uint32_t)(c[4] * c[5] * c[6]);
    for (int d = 0; d < 3; d++)
      args->grid[d] = (uint32_t)c[4 + d];
    args->error = (uint64_t)error;
    args->scratch = (uint64_t)pages(c[1] + 64);
    ((void (*)(const void *))(image + c[0]))(block);
    give(error, sizeof error);
    for (uint64_t k = 0; k < c[2]; k++)
      give((const void *)values[k], sizes[k]);
  }
  leave(0);
}

// The stack is 16-byte aligned here, not 8 off as a called function expects: the attribute sets that right.
#if defined(__x86_64__)
__attribute__((force_align_arg_pointer))
#endif
void _start(void) { run_cases(); }
