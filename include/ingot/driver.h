/* Ingot: the contract between the runtime and a driver. A driver is one constant ingot_driver_t full of C function
 * pointers; in-tree ones are rows of src/drivers/drivers.inc, out-of-tree ones are named by the Meson option
 * external_drivers. docs/adding-a-driver.md walks through one.
 *
 * - The runtime validates every argument once (ranges, sizes, alignments, counts, non-NULL); drivers trust what they get.
 * - Entries marked (optional) may be NULL; the runtime falls back to its own.
 * - Structs start with their size: a driver built against an older header sees a larger size and ignores the rest, one
 *   built against a newer header tests the size before it reads new members. New members are appended only.
 * - Errors are written to *error (never NULL here), and the code is returned.
 * - Threads: driver and device entries may be called by any number of threads at once; entries that take a stream or a
 *   recording by one thread at a time for that stream.
 */
#ifndef INGOT_DRIVER_H_
#define INGOT_DRIVER_H_

#include <ingot/ingot.h>

#ifdef __cplusplus
extern "C" {
#endif

#define INGOT_DRIVER_ABI 2u

/* Each driver defines the structs behind these handles in its own way, and a program may hold many drivers. In C++, where
 * structs have constructors and go through templates, the linker takes those of one name for one thing: a driver defines
 * INGOT_DRIVER_PREFIX (an identifier) before it includes this header, which gives its structs names of their own. */
#if defined(INGOT_DRIVER_PREFIX)
#define INGOT_DRIVER_JOIN_(a, b) a##b
#define INGOT_DRIVER_JOIN(a, b) INGOT_DRIVER_JOIN_(a, b)
#define ingot_driver_device_t INGOT_DRIVER_JOIN(INGOT_DRIVER_PREFIX, _device_t)
#define ingot_driver_memory_t INGOT_DRIVER_JOIN(INGOT_DRIVER_PREFIX, _memory_t)
#define ingot_driver_executable_t INGOT_DRIVER_JOIN(INGOT_DRIVER_PREFIX, _executable_t)
#define ingot_driver_stream_t INGOT_DRIVER_JOIN(INGOT_DRIVER_PREFIX, _stream_t)
#define ingot_driver_recording_t INGOT_DRIVER_JOIN(INGOT_DRIVER_PREFIX, _recording_t)
#endif

typedef struct ingot_driver_device_t ingot_driver_device_t;         /* an open device */
typedef struct ingot_driver_memory_t ingot_driver_memory_t;         /* device memory */
typedef struct ingot_driver_executable_t ingot_driver_executable_t; /* loaded code of one variant */
typedef struct ingot_driver_stream_t ingot_driver_stream_t;         /* what one context keeps on the device */
typedef struct ingot_driver_recording_t ingot_driver_recording_t;   /* a straight line of commands */

/* ---- code --------------------------------------------------------------------------------------------------------- */

enum { /* ingot_driver_image_t::format; the numbers of the archive format */
  INGOT_CODE_ELF = 1, INGOT_CODE_SPIRV = 2, INGOT_CODE_PTX = 3, INGOT_CODE_CUBIN = 4,
  INGOT_CODE_HSACO = 5, INGOT_CODE_MSL = 6, INGOT_CODE_WGSL = 7, INGOT_CODE_BYTECODE = 8
};

typedef struct ingot_driver_image_t {
  uint32_t format;
  const void *data; /* lives as long as the executable */
  size_t size;
} ingot_driver_image_t;

typedef struct ingot_driver_code_version_t {
  const char *entry;
  uint64_t symbol_offset, code_size, feature_mask, scratch_bytes;
  uint32_t image, rank, stack_bytes;
} ingot_driver_code_version_t;

typedef struct ingot_driver_kernel_t {
  const char *name;
  uint32_t binding_count, param_count, version_count, flags, local_size[3]; /* flags: INGOT_KERNEL_FLAG_* (schemas/gpu_abi.h) */
  const uint8_t *binding_access; /* 1 read, 2 write, 3 both */
  const ingot_driver_code_version_t *versions;
} ingot_driver_kernel_t;

/* One variant of an archive. Borrowed: the driver copies what it keeps, except image bytes. */
typedef struct ingot_driver_code_t {
  size_t struct_size;
  const char *target, *arch;
  uint32_t image_count, kernel_count;
  const ingot_driver_image_t *images;
  const ingot_driver_kernel_t *kernels; const struct ingot_tensor_map_t *tensor_maps; uint32_t tensor_map_count; /* schemas/gpu_abi.h; unchecked */
} ingot_driver_code_t;

/* ---- devices and memory ------------------------------------------------------------------------------------------- */

/* What the runtime must know of a device with memory of its own. */
typedef struct ingot_driver_properties_t {
  size_t struct_size;
  bool unified_memory;        /* memory of kind DEVICE can be mapped at no cost: host and device share it */
  uint32_t binding_alignment; /* bytes, a power of two: of the offset of each binding in its memory */
  uint64_t max_allocation;    /* bytes of the largest single allocation */
} ingot_driver_properties_t;

typedef uint32_t ingot_driver_memory_kind_t;
enum {
  INGOT_MEMORY_DEVICE = 0,   /* what kernels read and write. Can be mapped where unified_memory says so */
  INGOT_MEMORY_UPLOAD = 1,   /* the host writes, copies on the device read; always mappable */
  INGOT_MEMORY_READBACK = 2  /* copies on the device write, the host reads; always mappable */
};

/* ---- commands ----------------------------------------------------------------------------------------------------- */

/* Bytes: `offset` into `memory`, or past `host`. Drivers with host_memory get host pointers (memory is NULL), all others
 * memory (host is NULL). Where length is 0 both may be NULL: a kernel does not touch such a binding. The offset of a
 * binding is a multiple of properties.binding_alignment. */
typedef struct ingot_driver_span_t {
  ingot_driver_memory_t *memory;
  void *host;
  uint64_t offset, length;
} ingot_driver_span_t;

typedef struct ingot_driver_dispatch_t {
  uint32_t kernel, site, grid[3]; /* workgroups, each > 0; their product fits 32 bits */
  uint32_t binding_count, param_count;
  const ingot_driver_span_t *bindings;
  const int64_t *params;
  int64_t flops, bytes; /* what it costs at these dims, as the compiler counted; -1: unknown */
} ingot_driver_dispatch_t;

/* Upper bounds of what one recording will hold: a driver reserves it all at creation, so recording allocates nothing. */
typedef struct ingot_driver_recording_size_t {
  uint32_t dispatches, copies, fills, barriers, bindings, params; /* the last two: sums over the dispatches */
} ingot_driver_recording_size_t;

typedef struct ingot_driver_timing_t {
  uint32_t kernel, site, version, grid[3];
  uint64_t start_ns, end_ns;
} ingot_driver_timing_t;

typedef struct ingot_driver_submit_t {
  size_t struct_size;
  const volatile int32_t *cancel; /* not 0: stop with INGOT_CANCELLED; never NULL; written by other threads */
  uint64_t deadline_ns;           /* 0: none; on the clock of host->now_ns */
  /* Or NULL. Called for each dispatch, in order, before `finish` returns (before `submit` does, where there is none), unless
   * the run is given up first: a submit that waits for this looks at cancel and deadline as finish does. */
  void (*on_dispatch)(void *user, const ingot_driver_timing_t *timing);
  void *user;
  uint64_t kernel_error; /* out: the error word (schemas/cpu_abi.h) where INGOT_KERNEL_ERROR is returned */
} ingot_driver_submit_t;

/* ---- services of the runtime, and the driver --------------------------------------------------------------------- */

typedef struct ingot_driver_host_t {
  size_t struct_size;
  ingot_allocator_t allocator;
  uint64_t (*now_ns)(void); /* a steady clock */
  const ingot_executor_t *executor; /* threads of the application's for the device being opened; or NULL */
  bool automatic; /* `auto` is looking for a device: open refuses one that only imitates hardware (INGOT_UNAVAILABLE) */
} ingot_driver_host_t;

/* What enumerate and describe call, once for each device (its id and name) or property (its key and value). */
typedef void (*ingot_driver_visit_t)(void *user, const char *key, const char *value);

typedef struct ingot_driver_t {
  size_t struct_size;
  uint32_t abi;            /* INGOT_DRIVER_ABI */
  const char *name, *description; /* what users type before the colon; one line */
  bool host_memory, automatic; /* commands take host pointers, and the memory entries are never called; `auto` may choose it */
  uint32_t priority;       /* `auto` tries higher ones first */

  /* Is the driver's library there? Anything but INGOT_OK makes it unavailable, for the reason in *error. (optional) */
  ingot_code_t (*probe)(const ingot_driver_host_t *host, ingot_error_t *error);
  /* Calls visit(user, id, name) for each device, best first; the id is stable over reboots, no '?' or '/' in it. */
  ingot_code_t (*enumerate)(const ingot_driver_host_t *host, ingot_driver_visit_t visit, void *user, ingot_error_t *error);
  /* Opens the device of that id (NULL: number `ordinal`). `options` is what follows '?' in the URI, or "". */
  ingot_code_t (*open)(const ingot_driver_host_t *host, const char *id, uint32_t ordinal, const char *options,
                       ingot_driver_device_t **out, ingot_error_t *error);
  void (*close)(ingot_driver_device_t *device);
  /* Calls visit(user, key, value) with what decides compilation, in a fixed order. */
  ingot_code_t (*describe)(ingot_driver_device_t *device, ingot_driver_visit_t visit, void *user, ingot_error_t *error);

  /* Can the device run this variant? The reason why not goes to *error. Loads nothing. */
  ingot_code_t (*supports)(ingot_driver_device_t *device, const ingot_driver_code_t *code, ingot_error_t *error);
  ingot_code_t (*load)(ingot_driver_device_t *device, const ingot_driver_code_t *code, ingot_driver_executable_t **out, ingot_error_t *error);
  void (*unload)(ingot_driver_executable_t *executable);
  /* Which of the kernel's versions runs here; INGOT_NONE where the driver runs none (the null driver). */
  uint32_t (*kernel_version)(const ingot_driver_executable_t *executable, uint32_t kernel);

  /* Memory. Drivers with host_memory leave these NULL; all others have them, import aside.
   * allocate: `size` > 0 bytes at the device's best alignment, contents undefined; INGOT_OUT_OF_MEMORY where there are
   * none. map: a pointer to its first byte, until unmap or release; each memory is mapped once at most. It is coherent:
   * what the host wrote before a submit is seen by the commands, what they wrote is seen once `finish` returned.
   * write, read: host bytes to memory and back, waiting for the end; the range is idle on the device. They take any
   * length in bounded extra memory. import wraps host memory, which the caller keeps in place until release. */
  void (*properties)(ingot_driver_device_t *device, ingot_driver_properties_t *out); /* struct_size is set */
  ingot_code_t (*allocate)(ingot_driver_device_t *device, ingot_driver_memory_kind_t kind, uint64_t size,
                           ingot_driver_memory_t **out, ingot_error_t *error);
  void (*release)(ingot_driver_device_t *device, ingot_driver_memory_t *memory);
  ingot_code_t (*map)(ingot_driver_device_t *device, ingot_driver_memory_t *memory, void **out, ingot_error_t *error);
  void (*unmap)(ingot_driver_device_t *device, ingot_driver_memory_t *memory);
  ingot_code_t (*write)(ingot_driver_device_t *device, ingot_driver_memory_t *memory, uint64_t offset, const void *data,
                        size_t length, ingot_error_t *error);
  ingot_code_t (*read)(ingot_driver_device_t *device, ingot_driver_memory_t *memory, uint64_t offset, void *data, size_t length, ingot_error_t *error);
  ingot_code_t (*import)(ingot_driver_device_t *device, void *host, uint64_t size, ingot_driver_memory_t **out, ingot_error_t *error); /* (optional) */

  /* A stream holds what one context needs beside recordings: scratch memory, error word, its place in a queue. What is
   * submitted to one stream runs in order. stream_destroy and recording_destroy wait for what is still running. */
  ingot_code_t (*stream_create)(ingot_driver_device_t *device, ingot_driver_executable_t *executable, ingot_driver_stream_t **out, ingot_error_t *error);
  void (*stream_destroy)(ingot_driver_stream_t *stream);

  /* create .. begin .. commands .. end .. submit, any number of times .. begin again .. destroy. begin comes only when no
   * submission of the recording is running. Commands between two barriers may run in any order, also at once; they do not
   * touch each other's bytes. What a recording writes is seen by the next one of its stream. */
  ingot_code_t (*recording_create)(ingot_driver_stream_t *stream, const ingot_driver_recording_size_t *size,
                                   ingot_driver_recording_t **out, ingot_error_t *error);
  void (*recording_destroy)(ingot_driver_recording_t *recording);
  void (*recording_begin)(ingot_driver_recording_t *recording, bool timed); /* timed: submits will have on_dispatch */
  void (*record_dispatch)(ingot_driver_recording_t *recording, const ingot_driver_dispatch_t *dispatch);
  /* Copies: of equal lengths. Fills: the length is a multiple of pattern_bytes: 1, 2, 4 or 8. */
  void (*record_copy)(ingot_driver_recording_t *recording, const ingot_driver_span_t *target, const ingot_driver_span_t *source);
  void (*record_fill)(ingot_driver_recording_t *recording, const ingot_driver_span_t *target, uint64_t pattern, uint32_t pattern_bytes);
  void (*record_barrier)(ingot_driver_recording_t *recording);
  ingot_code_t (*recording_end)(ingot_driver_recording_t *recording, ingot_error_t *error);
  /* Runs recordings of this stream one after the other, as one submission (count >= 1). Where `finish` is NULL it waits
   * for their end and gives the outcome; otherwise it may return before they begin. */
  ingot_code_t (*submit)(ingot_driver_stream_t *stream, ingot_driver_recording_t *const *recordings, uint32_t count,
                         ingot_driver_submit_t *submit, ingot_error_t *error);
  /* Waits until all that was submitted has run, and gives its outcome: the first failure since the last finish.
   * INGOT_CANCELLED and INGOT_DEADLINE_EXCEEDED come at once, with work perhaps still running: the runtime then calls
   * finish again before it submits, re-records or frees anything. A lost device fails this and every later call with
   * INGOT_DEVICE_LOST, and everything can still be destroyed. (optional) */
  ingot_code_t (*finish)(ingot_driver_stream_t *stream, ingot_driver_submit_t *submit, ingot_error_t *error);
} ingot_driver_t;

#ifdef __cplusplus
}
#endif

#endif /* INGOT_DRIVER_H_ */
