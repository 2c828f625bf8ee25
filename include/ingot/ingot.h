/* Ingot: the C ABI of the runtime. It loads archives (.ingot) compiled by aotc, and runs them on a device.
 *
 * Conventions, for every function unless it says otherwise:
 * - Errors: functions return an ingot_code_t. Where the last parameter is `ingot_error_t *error`, it may be NULL; it is
 *   written on failure only, with what was found, what was expected, where, and what to do.
 * - Results come through pointers and are written on success only, unless documented.
 * - Ownership: *_create, *_open, *_map, *_read and *_prepare give the caller one reference; *_release drops it and
 *   accepts NULL. Objects keep what they need alive: a session keeps its archive and device.
 * - Threads: instances, archives, devices, sessions and semaphores may be used by any number of threads at once.
 *   A context is used by one run at a time; a second one meanwhile gets INGOT_BUSY.
 * - Memory comes from the ingot_allocator_t given at creation (NULL: malloc). After a context's first run at given
 *   shapes, further runs at those shapes allocate nothing.
 * - Strings returned are NUL-terminated UTF-8 and live as long as the object they came from.
 * - Structs with a `struct_size` member are versioned: set it to sizeof, zero the rest, then set what you need.
 */
#ifndef INGOT_INGOT_H_
#define INGOT_INGOT_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INGOT_VERSION_MAJOR 0
#define INGOT_VERSION_MINOR 1
#define INGOT_VERSION_PATCH 0
#define INGOT_VERSION_STRING "0.1.0"
#define INGOT_MAX_RANK 8
#define INGOT_NONE 0xffffffffu /* "no such index" */

#if defined(_WIN32)
#define INGOT_API
#else
#define INGOT_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- codes and errors ------------------------------------------------------------------------------------------ */

typedef int32_t ingot_code_t;
enum {
  INGOT_OK = 0,
  INGOT_INVALID_ARGUMENT = 1,   /* the caller passed something that the function or the model does not accept */
  INGOT_OUT_OF_RANGE = 2,       /* a dim, size or index is outside its range; a buffer is too small */
  INGOT_NOT_FOUND = 3,          /* no file, function, driver or device of that name */
  INGOT_UNIMPLEMENTED = 4,      /* optional feature that this driver or build lacks */
  INGOT_OUT_OF_MEMORY = 5,
  INGOT_CORRUPT = 6,            /* the archive is damaged or malformed */
  INGOT_INCOMPATIBLE = 7,       /* the archive is sound, but this reader or device cannot run it */
  INGOT_UNAVAILABLE = 8,        /* the driver's library or device is missing */
  INGOT_IO = 9,                 /* the operating system could not open or read a file */
  INGOT_BUSY = 10,              /* the context is running already */
  INGOT_CANCELLED = 11,
  INGOT_DEADLINE_EXCEEDED = 12,
  INGOT_CHECK_FAILED = 13,      /* a condition compiled into the model does not hold for these inputs */
  INGOT_KERNEL_ERROR = 14,      /* a kernel met data that its operator forbids; the message names the node */
  INGOT_DEVICE_LOST = 15,
  INGOT_INTERNAL = 16           /* a bug in Ingot */
};

typedef struct ingot_error_t {
  ingot_code_t code;
  char message[508]; /* NUL-terminated; longer texts are cut */
} ingot_error_t;

/* Name of a code, "INGOT_CORRUPT"; never NULL. */
INGOT_API const char *ingot_code_name(ingot_code_t code);
INGOT_API const char *ingot_version(void);

/* ---- memory ---------------------------------------------------------------------------------------------------- */

typedef struct ingot_allocator_t {
  void *user;
  /* Returns `size` (> 0) bytes at a multiple of `alignment` (a power of two), or NULL. Called by any thread. */
  void *(*allocate)(void *user, size_t size, size_t alignment);
  void (*release)(void *user, void *memory, size_t size, size_t alignment);
} ingot_allocator_t;

/* ---- tensors --------------------------------------------------------------------------------------------------- */

typedef int32_t ingot_element_type_t;
enum {
  INGOT_ELEMENT_TYPE_NONE = 0,
  INGOT_ELEMENT_TYPE_BOOL = 1, /* one byte, 0 or 1 */
  INGOT_ELEMENT_TYPE_I8 = 2,
  INGOT_ELEMENT_TYPE_I16 = 3,
  INGOT_ELEMENT_TYPE_I32 = 4,
  INGOT_ELEMENT_TYPE_I64 = 5,
  INGOT_ELEMENT_TYPE_U8 = 6,
  INGOT_ELEMENT_TYPE_U16 = 7,
  INGOT_ELEMENT_TYPE_U32 = 8,
  INGOT_ELEMENT_TYPE_U64 = 9,
  INGOT_ELEMENT_TYPE_F16 = 10,
  INGOT_ELEMENT_TYPE_BF16 = 11,
  INGOT_ELEMENT_TYPE_F32 = 12,
  INGOT_ELEMENT_TYPE_F64 = 13,
  INGOT_ELEMENT_TYPE_F8E4M3FN = 14,
  INGOT_ELEMENT_TYPE_F8E4M3FNUZ = 15,
  INGOT_ELEMENT_TYPE_F8E5M2 = 16,
  INGOT_ELEMENT_TYPE_F8E5M2FNUZ = 17,
  INGOT_ELEMENT_TYPE_F8E8M0 = 18,
  INGOT_ELEMENT_TYPE_F4E2M1 = 19, /* sub-byte types are packed, low bits first */
  INGOT_ELEMENT_TYPE_I4 = 20, INGOT_ELEMENT_TYPE_U4 = 21,
  INGOT_ELEMENT_TYPE_I2 = 22, INGOT_ELEMENT_TYPE_U2 = 23,
  INGOT_ELEMENT_TYPE_COMPLEX64 = 24,
  INGOT_ELEMENT_TYPE_COMPLEX128 = 25,
  INGOT_ELEMENT_TYPE_STRING = 26, /* `data` is an ingot_value_t, see <ingot/values.h> */
  INGOT_ELEMENT_TYPE_VALUE = 27,  /* the same: a list or an optional; rank 0 */
  INGOT_ELEMENT_TYPE_COUNT = 28
};

/* "f32"; "?" for an unknown one. */
INGOT_API const char *ingot_element_type_name(ingot_element_type_t type);
/* Bits an element takes; 0 for an unknown type. */
INGOT_API uint32_t ingot_element_type_bits(ingot_element_type_t type);

typedef struct ingot_buffer_t ingot_buffer_t;

/* A dense row-major tensor in the caller's memory or in a device buffer. Best 64-byte aligned; a pointer aligned less
 * than the model demands is copied through memory of the context. A zero-element tensor may have a NULL pointer. */
typedef struct ingot_tensor_t {
  void *data;            /* host memory; ignored where `buffer` is set */
  size_t size;           /* bytes that may be used at `data` (or in the buffer, from its offset) */
  ingot_buffer_t *buffer; /* or NULL */
  size_t buffer_offset;
  ingot_element_type_t type;
  uint32_t rank;
  int64_t dims[INGOT_MAX_RANK]; /* Of outputs with data-dependent dims: -1 = whatever comes; a run writes the dims
                                 * found, also where it fails because `size` is too small (INGOT_OUT_OF_RANGE). */
} ingot_tensor_t;

/* ---- instances, drivers, devices --------------------------------------------------------------------------------- */

typedef struct ingot_instance_t ingot_instance_t;
typedef struct ingot_device_t ingot_device_t;
typedef struct ingot_archive_t ingot_archive_t;
typedef struct ingot_session_t ingot_session_t;
typedef struct ingot_context_t ingot_context_t;
typedef struct ingot_semaphore_t ingot_semaphore_t;

/* The instance copies *allocator (NULL: malloc); everything opened from it uses that allocator. */
INGOT_API ingot_code_t ingot_instance_create(const ingot_allocator_t *allocator, ingot_instance_t **out,
                                             ingot_error_t *error);
INGOT_API void ingot_instance_release(ingot_instance_t *instance);

typedef struct ingot_driver_info_t {
  const char *name, *description;
  ingot_code_t available; /* INGOT_OK, or why not; the text is in `reason` */
  ingot_error_t reason;
} ingot_driver_info_t;

INGOT_API size_t ingot_driver_count(const ingot_instance_t *instance);
INGOT_API ingot_code_t ingot_driver_info(const ingot_instance_t *instance, size_t index, ingot_driver_info_t *out);

/* Calls visit(user, uri, name) for each device of a driver (NULL: of all available drivers), best first. */
INGOT_API ingot_code_t ingot_enumerate_devices(const ingot_instance_t *instance, const char *driver,
                                               void (*visit)(void *user, const char *uri, const char *name), void *user,
                                               ingot_error_t *error);

/* Opens the first of `uris` that is there (and that can run `archive`, where not NULL). A URI is `driver`,
 * `driver:ordinal`, `driver://id?key=value` or `auto`. On failure the message lists the reason of each. */
INGOT_API ingot_code_t ingot_device_open(ingot_instance_t *instance, const char *const *uris, size_t count,
                                         const ingot_archive_t *archive, ingot_device_t **out, ingot_error_t *error);

/* Threads of the application's own, for drivers that spread work over threads (local-task). `start` hands task(argument)
 * to one of them and returns; any thread that runs a model may call it, and at most `concurrency` tasks wait to begin.
 * A task lends its thread to the runs that are under way, and returns when they have had nothing for it for 50 us. Each
 * must be run once, at any time: one that comes late, even after the device is released, returns at once. No call of
 * Ingot's waits for a task that has not begun: the thread that calls run does all the work itself where nobody helps. */
typedef struct ingot_executor_t {
  size_t struct_size;
  void *user;
  uint32_t concurrency; /* how many tasks are useful at once, beside the threads that call run; 1 .. 255 */
  void (*start)(void *user, void (*task)(void *argument), void *argument);
} ingot_executor_t;

typedef struct ingot_device_options_t {
  size_t struct_size;
  const ingot_executor_t *executor; /* or NULL; copied. Drivers that use one thread, or none, do without */
} ingot_device_options_t;

/* ingot_device_open with options (NULL: none). The executor's `user` and the instance's allocator must outlive the
 * device, and the last task that was started. */
INGOT_API ingot_code_t ingot_device_open_with(ingot_instance_t *instance, const char *const *uris, size_t count,
                                              const ingot_archive_t *archive, const ingot_device_options_t *options,
                                              ingot_device_t **out, ingot_error_t *error);
INGOT_API void ingot_device_release(ingot_device_t *device);
INGOT_API const char *ingot_device_uri(const ingot_device_t *device);
/* Calls visit(user, key, value) with what decides compilation: "name", "arch", "features", "cores", "cache.l2", ... */
INGOT_API ingot_code_t ingot_device_describe(const ingot_device_t *device,
                                             void (*visit)(void *user, const char *key, const char *value), void *user,
                                             ingot_error_t *error);

/* ---- archives -------------------------------------------------------------------------------------------------- */

/* Maps a file: metadata and code are copied, checksummed and verified; weights are used in place. Somebody truncating
 * the file meanwhile kills the process with SIGBUS; ingot_archive_read copies everything and survives that. */
INGOT_API ingot_code_t ingot_archive_map(const ingot_allocator_t *allocator, const char *path, ingot_archive_t **out,
                                         ingot_error_t *error);
INGOT_API ingot_code_t ingot_archive_read(const ingot_allocator_t *allocator, const char *path, ingot_archive_t **out,
                                          ingot_error_t *error);
/* Opens an archive in memory. `borrow`: weights are used in place where `data` is 64-byte aligned, and the caller keeps
 * the bytes unchanged until the archive is gone; otherwise everything is copied. */
INGOT_API ingot_code_t ingot_archive_open(const ingot_allocator_t *allocator, const void *data, size_t size, bool borrow,
                                          ingot_archive_t **out, ingot_error_t *error);
INGOT_API void ingot_archive_release(ingot_archive_t *archive);
/* Checks the checksum of every segment, weights included (opening checks metadata and code only). */
INGOT_API ingot_code_t ingot_archive_check_hashes(const ingot_archive_t *archive, ingot_error_t *error);

/* ---- introspection of archives: indices are 0 .. count - 1; INGOT_OUT_OF_RANGE beyond ---------------------------- */

typedef struct ingot_archive_info_t {
  uint32_t format_version;
  uint32_t variant_count, segment_count;
  uint64_t file_size, metadata_size, metadata_xxh3, required_features;
  const char *compiler, *flags, *source_name;
  uint8_t source_sha256[32];
} ingot_archive_info_t;
INGOT_API void ingot_archive_info(const ingot_archive_t *archive, ingot_archive_info_t *out);

typedef struct ingot_segment_info_t {
  const char *name, *kind; /* kind: "weights", "code", "other" */
  uint64_t offset, size, alignment, xxh3;
  const void *data;
} ingot_segment_info_t;
INGOT_API ingot_code_t ingot_archive_segment(const ingot_archive_t *archive, uint32_t segment, ingot_segment_info_t *out);

typedef struct ingot_variant_info_t {
  const char *target, *arch;
  uint32_t kernel_count, function_count, executable_count, io_alignment;
} ingot_variant_info_t;
INGOT_API ingot_code_t ingot_archive_variant(const ingot_archive_t *archive, uint32_t variant, ingot_variant_info_t *out);

/* Can this device run that variant? INGOT_OK, or the reason in *error (`ingot explain`). */
INGOT_API ingot_code_t ingot_archive_explain(const ingot_archive_t *archive, uint32_t variant,
                                             const ingot_device_t *device, ingot_error_t *error);

typedef struct ingot_kernel_info_t {
  const char *name;
  uint32_t binding_count, param_count, version_count;
  const uint8_t *binding_access; /* 1 read, 2 write, 3 both */
  uint32_t local_size[3];
} ingot_kernel_info_t;
INGOT_API ingot_code_t ingot_archive_kernel(const ingot_archive_t *archive, uint32_t variant, uint32_t kernel,
                                            ingot_kernel_info_t *out);

typedef struct ingot_version_info_t {
  const char *entry, *schedule, *format; /* format: "elf", "spirv", ... */
  uint64_t feature_mask, code_size, scratch_bytes;
  uint32_t rank, stack_bytes, executable, code_segment;
  uint64_t entry_offset; /* of the entry point in its image */
} ingot_version_info_t;
INGOT_API ingot_code_t ingot_archive_kernel_version(const ingot_archive_t *archive, uint32_t variant, uint32_t kernel,
                                                    uint32_t version, ingot_version_info_t *out);

typedef struct ingot_function_info_t {
  const char *name;
  uint32_t input_count, output_count, symbol_count, expr_count, slot_count, site_count, arena_count;
  uint32_t dispatch_count;      /* dispatch commands in the text */
  uint32_t host_decision_count; /* read_scalar, if, loop and host ops: where the host waits, decides or works */
  bool fixed;                   /* fixed dims, no host decisions: one submission a run */
} ingot_function_info_t;
/* Function number function_count is what a session runs once (docs/archive-format.md), where the variant has that. */
INGOT_API ingot_code_t ingot_archive_function(const ingot_archive_t *archive, uint32_t variant, uint32_t function,
                                              ingot_function_info_t *out);
/* Index of the function of that name, or INGOT_NONE. */
INGOT_API uint32_t ingot_archive_find_function(const ingot_archive_t *archive, const char *name);

typedef struct ingot_signature_tensor_t {
  const char *name;
  ingot_element_type_t type;
  uint32_t rank;
  uint32_t dims[INGOT_MAX_RANK];          /* expressions of variant 0's function */
  int64_t fixed_dims[INGOT_MAX_RANK];     /* value where constant, -1 where not */
  const char *dim_names[INGOT_MAX_RANK];  /* names in the source model, or "" */
} ingot_signature_tensor_t;
INGOT_API ingot_code_t ingot_archive_input(const ingot_archive_t *archive, uint32_t function, uint32_t input,
                                           ingot_signature_tensor_t *out);
INGOT_API ingot_code_t ingot_archive_output(const ingot_archive_t *archive, uint32_t function, uint32_t output,
                                            ingot_signature_tensor_t *out);

typedef struct ingot_symbol_info_t {
  const char *name;
  int64_t min, max;
  bool host; /* set while running, not by an input's dim */
} ingot_symbol_info_t;
INGOT_API ingot_code_t ingot_archive_symbol(const ingot_archive_t *archive, uint32_t variant, uint32_t function,
                                            uint32_t symbol, ingot_symbol_info_t *out);

typedef struct ingot_slot_info_t {
  const char *name, *kind; /* kind: "constant", "splat", "input", "output", "transient", "alias", "state", "prepared" */
  uint32_t of;             /* segment, input, output, arena or slot */
  uint32_t offset, size;   /* expressions (offset INGOT_NONE where the kind has none) */
  uint64_t segment_offset, splat_pattern;
} ingot_slot_info_t;
INGOT_API ingot_code_t ingot_archive_slot(const ingot_archive_t *archive, uint32_t variant, uint32_t function,
                                          uint32_t slot, ingot_slot_info_t *out);

typedef struct ingot_site_info_t {
  uint32_t kernel, node_count;
  uint32_t flops, bytes; /* expressions or INGOT_NONE */
} ingot_site_info_t;
INGOT_API ingot_code_t ingot_archive_site(const ingot_archive_t *archive, uint32_t variant, uint32_t function,
                                          uint32_t site, ingot_site_info_t *out);
INGOT_API const char *ingot_archive_site_node(const ingot_archive_t *archive, uint32_t variant, uint32_t function,
                                              uint32_t site, uint32_t node);
/* Byte size expression of an arena; their sum is the peak of transient memory. */
INGOT_API uint32_t ingot_archive_arena(const ingot_archive_t *archive, uint32_t variant, uint32_t function,
                                       uint32_t arena);

/* Writes the expression as text ("4*(W floordiv 8)+64") into buffer, cut to `capacity` with its NUL; returns the
 * length of the whole text. */
INGOT_API size_t ingot_archive_expr_text(const ingot_archive_t *archive, uint32_t variant, uint32_t function,
                                         uint32_t expr, char *buffer, size_t capacity);
/* Evaluates it with the given symbol values (all of the function's, in order). */
INGOT_API ingot_code_t ingot_archive_evaluate(const ingot_archive_t *archive, uint32_t variant, uint32_t function,
                                              uint32_t expr, const int64_t *symbols, uint32_t symbol_count,
                                              int64_t *out, ingot_error_t *error);
/* Prints the command at *cursor (0 at first) as text and moves *cursor on; *depth is its nesting. Returns false at the
 * end. Bodies of if and loop follow their command one level deeper. */
INGOT_API bool ingot_archive_command_text(const ingot_archive_t *archive, uint32_t variant, uint32_t function,
                                          uint32_t *cursor, uint32_t *depth, char *buffer, size_t capacity);

/* ---- sessions and contexts --------------------------------------------------------------------------------------- */

/* Prepares an archive for a device: picks the first variant that it can run, loads the code, picks each kernel's
 * version. The session is immutable. */
INGOT_API ingot_code_t ingot_session_prepare(ingot_device_t *device, ingot_archive_t *archive, ingot_session_t **out,
                                             ingot_error_t *error);
INGOT_API void ingot_session_release(ingot_session_t *session);
INGOT_API uint32_t ingot_session_variant(const ingot_session_t *session);
INGOT_API ingot_archive_t *ingot_session_archive(const ingot_session_t *session); /* borrowed */
/* Version of a kernel that runs on this device; INGOT_NONE where the driver has none. */
INGOT_API uint32_t ingot_session_kernel_version(const ingot_session_t *session, uint32_t kernel);

/* From the inputs' types and dims, writes type, rank, dims (-1 where they depend on data) and `size` (bytes to provide)
 * of each output; data pointers are left alone. */
INGOT_API ingot_code_t ingot_session_infer(const ingot_session_t *session, uint32_t function,
                                           const ingot_tensor_t *inputs, size_t input_count, ingot_tensor_t *outputs,
                                           size_t output_count, ingot_error_t *error);

/* Runs and waits, on a context of the session's own (one is kept; threads that meet get one each, for the call). */
INGOT_API ingot_code_t ingot_session_run(ingot_session_t *session, uint32_t function, const ingot_tensor_t *inputs,
                                         size_t input_count, ingot_tensor_t *outputs, size_t output_count,
                                         ingot_error_t *error);

/* One dispatch of a profiled run. */
typedef struct ingot_dispatch_event_t {
  uint32_t kernel, site, version;
  uint32_t grid[3];
  uint64_t start_ns, end_ns; /* one clock, arbitrary origin */
  int64_t flops, bytes;      /* of the site's expressions at the bound dims; -1 where unknown */
} ingot_dispatch_event_t;

typedef struct ingot_run_options_t {
  size_t struct_size;
  uint64_t timeout_ns; /* 0: none. Looked at between commands (local-task: parts of them): INGOT_DEADLINE_EXCEEDED */
  /* Called after each dispatch by the thread that runs, or NULL. Dispatches then run one after the other. */
  void (*on_dispatch)(void *user, const ingot_dispatch_event_t *event);
  void *user;
} ingot_run_options_t;

/* A context has its own arena, state and recordings. With fixed dims everything is reserved here. */
INGOT_API ingot_code_t ingot_context_create(ingot_session_t *session, ingot_context_t **out, ingot_error_t *error);
/* Waits for a submitted run that is under way. One that still waits for semaphores is cancelled: INGOT_CANCELLED is put into
 * those that it would have signalled. */
INGOT_API void ingot_context_release(ingot_context_t *context);
INGOT_API ingot_code_t ingot_context_run(ingot_context_t *context, uint32_t function, const ingot_tensor_t *inputs,
                                         size_t input_count, ingot_tensor_t *outputs, size_t output_count,
                                         const ingot_run_options_t *options, ingot_error_t *error);
/* Stops the run that another thread has under way, at the next command: it returns INGOT_CANCELLED. */
INGOT_API void ingot_context_cancel(ingot_context_t *context);
/* Sets all state slots to zero. */
INGOT_API ingot_code_t ingot_context_reset_state(ingot_context_t *context, ingot_error_t *error);
/* All states of the context as `bytes` bytes, which must be state_bytes of ingot_context_memory: to go on from later, in this or
 * another context of the same archive on a device of the same kind. What they hold is nobody's business but the model's. */
INGOT_API ingot_code_t ingot_context_read_state(ingot_context_t *context, void *out, size_t bytes, ingot_error_t *error);
INGOT_API ingot_code_t ingot_context_write_state(ingot_context_t *context, const void *from, size_t bytes, ingot_error_t *error);
typedef struct ingot_memory_info_t {
  uint64_t arena_bytes;     /* transient memory held, what `inspect` calls the peak */
  uint64_t state_bytes;     /* state slots */
  uint64_t recording_bytes; /* recordings, scratch, staging, bookkeeping */
} ingot_memory_info_t;
INGOT_API void ingot_context_memory(const ingot_context_t *context, ingot_memory_info_t *out);

/* ---- asynchronous runs: timeline semaphores, whose value only grows ---------------------------------------------- */

typedef struct ingot_semaphore_value_t {
  ingot_semaphore_t *semaphore;
  uint64_t value;
} ingot_semaphore_value_t;

INGOT_API ingot_code_t ingot_semaphore_create(ingot_device_t *device, uint64_t value, ingot_semaphore_t **out,
                                              ingot_error_t *error);
INGOT_API void ingot_semaphore_release(ingot_semaphore_t *semaphore);
/* Its value now, or the failure that travels in it. */
INGOT_API ingot_code_t ingot_semaphore_query(ingot_semaphore_t *semaphore, uint64_t *value, ingot_error_t *error);
INGOT_API ingot_code_t ingot_semaphore_signal(ingot_semaphore_t *semaphore, uint64_t value, ingot_error_t *error);
/* Makes it fail: every wait, now and later, returns this code. */
INGOT_API void ingot_semaphore_fail(ingot_semaphore_t *semaphore, const ingot_error_t *reason);
/* Waits until the value is reached; timeout_ns UINT64_MAX: for ever. INGOT_DEADLINE_EXCEEDED when time is up. */
INGOT_API ingot_code_t ingot_semaphore_wait(ingot_semaphore_t *semaphore, uint64_t value, uint64_t timeout_ns,
                                            ingot_error_t *error);
/* Starts a run once `waits` are reached, then raises `signals`; a failure of the run is put into them. Inputs, outputs
 * and memory (the array `outputs` too, the other arrays are copied) stay untouched by the caller until then. Devices
 * of the CPU wait and run on the calling thread, and give the outcome here too; others return before the run begins. */
INGOT_API ingot_code_t ingot_context_submit(ingot_context_t *context, uint32_t function, const ingot_tensor_t *inputs,
                                            size_t input_count, ingot_tensor_t *outputs, size_t output_count,
                                            const ingot_semaphore_value_t *waits, size_t wait_count,
                                            const ingot_semaphore_value_t *signals, size_t signal_count,
                                            const ingot_run_options_t *options, ingot_error_t *error);
/* The same on a context that the session keeps for this: one such run at a time, INGOT_BUSY otherwise. */
INGOT_API ingot_code_t ingot_session_submit(ingot_session_t *session, uint32_t function, const ingot_tensor_t *inputs,
                                            size_t input_count, ingot_tensor_t *outputs, size_t output_count,
                                            const ingot_semaphore_value_t *waits, size_t wait_count,
                                            const ingot_semaphore_value_t *signals, size_t signal_count,
                                            ingot_error_t *error);

/* ---- device buffers ---------------------------------------------------------------------------------------------- */

INGOT_API ingot_code_t ingot_buffer_allocate(ingot_device_t *device, size_t size, ingot_buffer_t **out,
                                             ingot_error_t *error);
/* Wraps host memory that the caller keeps alive and in place until the buffer is released. */
INGOT_API ingot_code_t ingot_buffer_import(ingot_device_t *device, void *data, size_t size, ingot_buffer_t **out,
                                           ingot_error_t *error);
INGOT_API void ingot_buffer_release(ingot_buffer_t *buffer);
INGOT_API size_t ingot_buffer_size(const ingot_buffer_t *buffer);
INGOT_API ingot_code_t ingot_buffer_write(ingot_buffer_t *buffer, size_t offset, const void *data, size_t size,
                                          ingot_error_t *error);
INGOT_API ingot_code_t ingot_buffer_read(ingot_buffer_t *buffer, size_t offset, void *data, size_t size,
                                         ingot_error_t *error);

#ifdef __cplusplus
}
#endif

#endif /* INGOT_INGOT_H_ */
