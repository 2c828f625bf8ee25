/* Ingot on the application's own CUDA context, stream and memory. There where -Ddrivers has `cuda`; conventions as in
 * <ingot/ingot.h>. No CUDA header is included; <cuda.h> may come before or after.
 *
 *   ingot_cuda_import_t given = {sizeof given};
 *   given.ordinal = 0, given.context = context, given.stream = stream;
 *   ingot_cuda_device_import(instance, &given, NULL, &device, &error);
 *   ingot_cuda_buffer_import(device, pointer, size, &buffer, &error); // an ingot_buffer_t: bind it as a tensor
 */
#ifndef INGOT_CUDA_H_
#define INGOT_CUDA_H_

#include <ingot/ingot.h>

#ifdef __cplusplus
extern "C" {
#endif

struct CUctx_st;
struct CUstream_st;

typedef struct ingot_cuda_import_t {
  size_t struct_size;
  int ordinal;                /* of the context's device, as cuDeviceGet counts */
  struct CUctx_st *context;   /* NULL: the primary context, which the CUDA runtime and most frameworks use */
  struct CUstream_st *stream; /* of that context: all work goes to it, in order with the application's. NULL: to streams of Ingot's own,
                                 one for each ingot_context_t */
} ingot_cuda_import_t;

/* A device in the application's context. `options`: what would follow '?' in a URI ("cache=DIR"), or NULL. Context and stream stay
 * alive until the last of what was made from *out and *out itself are released; Ingot destroys neither, and never waits for the
 * context as a whole. What is submitted to `stream` is captured from streams of Ingot's own: the application may capture its
 * stream at other times, not while a model runs. */
INGOT_API ingot_code_t ingot_cuda_device_import(ingot_instance_t *instance, const ingot_cuda_import_t *given, const char *options,
                                                ingot_device_t **out, ingot_error_t *error);

/* Wraps device memory of the application's, a CUdeviceptr or what cudaMalloc gave, for inputs and outputs that kernels read and write
 * in place. `pointer` is a multiple of 16. It stays allocated until *out is released and no run uses it: run has returned, or a
 * submitted run has signalled. What the application wrote there is seen where it was waited for, or where it was enqueued on the
 * imported stream before. */
INGOT_API ingot_code_t ingot_cuda_buffer_import(ingot_device_t *device, uint64_t pointer, uint64_t size, ingot_buffer_t **out,
                                                ingot_error_t *error);

#ifdef __cplusplus
}
#endif

#endif /* INGOT_CUDA_H_ */
