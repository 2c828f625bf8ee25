// Kernels for hand-made archives: compiled to a freestanding shared object at test build time, so that the runtime can
// be tested with real native code and without the compiler. Each follows schemas/cpu_abi.h.
#include "schemas/cpu_abi.h"

#define BINDING(args, i) (((void *const *)((const char *)(args) + INGOT_CPU_ARGS_HEADER))[i])
#define PARAM(args, bindings, i) (((const int64_t *)((const char *)(args) + INGOT_CPU_ARGS_HEADER + 8 * (bindings)))[i])

#define ERROR(args, site, code) (*(uint64_t *)(uintptr_t)(args)->error = (uint64_t)(site) << 32 | (code))

// Nothing at all.
void empty(const IngotCpuArgs *args) { (void)args; }

// out[i] = a[i] + b[i] for i < param 0; a workgroup does 16 elements.
void add_f32(const IngotCpuArgs *args) {
  const float *a = BINDING(args, 0), *b = BINDING(args, 1);
  float *out = BINDING(args, 2);
  const int64_t n = PARAM(args, 3, 0);
  for (uint32_t g = args->group_begin; g < args->group_end; ++g)
    for (int64_t i = 16 * (int64_t)g; i < 16 * (int64_t)(g + 1) && i < n; ++i) out[i] = a[i] + b[i];
}

// out[i] = out[i] / 2 + a[i] * 5 / 4 - b[i] for i < param 0; a workgroup does 16 elements, in scratch memory on the way.
void blend_f32(const IngotCpuArgs *args) {
  const float *a = BINDING(args, 0), *b = BINDING(args, 1);
  float *out = BINDING(args, 2);
  volatile float *scratch = (volatile float *)(uintptr_t)args->scratch;
  const int64_t n = PARAM(args, 3, 0);
  for (uint32_t g = args->group_begin; g < args->group_end; ++g) {
    const int64_t begin = 16 * (int64_t)g, count = n - begin < 16 ? n - begin : 16;
    for (int64_t i = 0; i < count; ++i) scratch[i] = a[begin + i] * 1.25f;
    for (int64_t i = 0; i < count; ++i) out[begin + i] = out[begin + i] * 0.5f + scratch[i] - b[begin + i];
  }
}

// out[g] = g where in[g] >= 0, else an error of the site param 0 with code 1000 + g; a workgroup does one element.
void refuse_f32(const IngotCpuArgs *args) {
  const float *in = BINDING(args, 0);
  float *out = BINDING(args, 1);
  for (uint32_t g = args->group_begin; g < args->group_end; ++g) {
    if (in[g] < 0) ERROR(args, PARAM(args, 2, 0), 1000 + g);
    out[g] = (float)g;
  }
}

// Waits: counts *flag (bound read_write) up by one a workgroup, each after about param 0 steps of a loop.
void slow_count_i32(const IngotCpuArgs *args) {
  volatile int32_t *flag = BINDING(args, 0);
  for (uint32_t g = args->group_begin; g < args->group_end; ++g) {
    for (volatile int64_t i = 0; i < PARAM(args, 1, 0); ++i) {
    }
    __atomic_fetch_add((int32_t *)flag, 1, __ATOMIC_RELAXED);
  }
}

// data[i] = data[i] * scale (param 1, f32 bits): one read_write binding.
void scale_f32(const IngotCpuArgs *args) {
  float *data = BINDING(args, 0);
  const int64_t n = PARAM(args, 1, 0);
  const union {
    int32_t bits;
    float value;
  } scale = {(int32_t)PARAM(args, 1, 1)};
  for (int64_t i = 0; i < n; ++i) data[i] *= scale.value;
}

// out[i] = table[index[i]]; params: n, table length, error site.
void gather_f32(const IngotCpuArgs *args) {
  const float *table = BINDING(args, 0);
  const int64_t *index = BINDING(args, 1);
  float *out = BINDING(args, 2);
  const int64_t n = PARAM(args, 3, 0), length = PARAM(args, 3, 1);
  for (int64_t i = 0; i < n; ++i) {
    if (index[i] < 0 || index[i] >= length) {
      ERROR(args, PARAM(args, 3, 2), INGOT_KERNEL_ERROR_INDEX);
      return;
    }
    out[i] = table[index[i]];
  }
}

// count[0] = number of values that are not zero; scratch holds the positions meanwhile. Params: n.
void count_nonzero_f32(const IngotCpuArgs *args) {
  const float *values = BINDING(args, 0);
  int64_t *count = BINDING(args, 1);
  int64_t *scratch = (int64_t *)(uintptr_t)args->scratch;
  const int64_t n = PARAM(args, 2, 0);
  int64_t found = 0;
  for (int64_t i = 0; i < n; ++i)
    if (values[i] != 0) scratch[found++ & 15] = i;
  count[0] = found;
}

// out[k] = position of the k-th value that is not zero. Params: n.
void positions_f32(const IngotCpuArgs *args) {
  const float *values = BINDING(args, 0);
  int64_t *out = BINDING(args, 1);
  const int64_t n = PARAM(args, 2, 0);
  int64_t found = 0;
  for (int64_t i = 0; i < n; ++i)
    if (values[i] != 0) out[found++] = i;
}

// x[0] += param 0, on i64.
void add_scalar_i64(const IngotCpuArgs *args) {
  int64_t *x = BINDING(args, 0);
  x[0] += PARAM(args, 1, 0);
}

// Which code version ran: each stores its own number.
void version_one(const IngotCpuArgs *args) { *(int32_t *)BINDING(args, 0) = 1; }
void version_two(const IngotCpuArgs *args) { *(int32_t *)BINDING(args, 0) = 2; }
void version_three(const IngotCpuArgs *args) { *(int32_t *)BINDING(args, 0) = 3; }

// out[0] = 1 / in[0], in single precision: shows rounding, denormals and traps.
void reciprocal_f32(const IngotCpuArgs *args) { *(float *)BINDING(args, 1) = 1.0f / *(const float *)BINDING(args, 0); }
