// The portability contract: all that the runtime asks of an operating system. One folder per OS implements it; no
// #ifdef on an OS stands anywhere else. Results are written on success only; sizes are in bytes.
#pragma once

#include "src/runtime/base.h"

namespace ingot::platform {

// A file's bytes. `mapped` memory must go back through unmap_file.
struct FileView {
  const uint8_t *data = nullptr;
  size_t size = 0;
};

// Maps a whole file for reading. INGOT_NOT_FOUND, INGOT_IO. An empty file gives data null, size 0.
// Post: data is page-aligned; the pages are private.
Code map_file(const char *path, FileView *out, Error *error);
void unmap_file(const FileView &view);
// Size of a file and its bytes into `buffer`: two calls, so that the caller allocates. A file that shrank in between
// fails with INGOT_IO.
Code file_size(const char *path, uint64_t *out, Error *error);
Code read_file(const char *path, void *buffer, size_t size, Error *error);
// Writes a whole file, readable by its owner alone: under another name in the same folder first, so that whoever opens `path`
// finds what was there before or all that is new. INGOT_IO.
Code write_file(const char *path, const void *data, size_t size, Error *error);

// Pages for code. allocate_code gives zeroed pages that can be written, never executed; seal_code makes the range from
// `offset` on (page-rounded) read-only, or executable, and never writable again.
// Pre: size > 0. Post: *out page-aligned, size rounded up to pages.
Code allocate_code(size_t size, void **out, Error *error);
Code seal_code(void *base, size_t offset, size_t size, bool executable, Error *error);
void release_code(void *base, size_t size);
size_t page_size();

// Asks the system to back page-aligned memory that was not used yet by large pages; it may do without.
void prefer_large_pages(void *memory, size_t size);

// A steady clock, nanoseconds from an arbitrary origin.
uint64_t now_ns();

// Sleeps while *word == expected, at most timeout_ns (UINT64_MAX: for ever); may wake early. wake_one and wake_all wake
// sleepers; *word itself is not touched, so it may be gone by then.
void wait_on(const std::atomic<uint32_t> *word, uint32_t expected, uint64_t timeout_ns);
void wake_one(const std::atomic<uint32_t> *word);
void wake_all(const std::atomic<uint32_t> *word);
// Lets another thread run that waits for this CPU, if there is one.
void yield();

// A thread that runs entry(argument) with every signal blocked, so that the application's handlers stay on the
// application's threads. join_thread waits for its end; in a child that was forked since, where it does not exist, it
// returns at once.
struct Thread {
  uintptr_t handle = 0;
  uint32_t process = 0;
};
Code start_thread(void *(*entry)(void *), void *argument, Thread *out, Error *error);
void join_thread(const Thread &thread);

// Number of CPUs that this process may use; >= 1.
uint32_t cpu_count();
// Bits of INGOT_CPU_* that need the operating system to find out (aarch64); 0 elsewhere.
uint64_t os_cpu_features();
// One line of text about the CPU model into buffer; "" where unknown.
void cpu_name(char *buffer, size_t capacity);

} // namespace ingot::platform
