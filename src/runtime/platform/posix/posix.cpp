// The platform contract on POSIX systems; Linux has a futex and /proc, others poll and do without.
#include "src/runtime/platform/platform.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#if defined(__aarch64__)
#include <sys/auxv.h>
#endif
#endif

#include "schemas/cpu_abi.h"

namespace ingot::platform {
namespace {

class File {
public:
  explicit File(const char *path) : fd_(open(path, O_RDONLY | O_CLOEXEC)) {}
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  // Opens, and checks that it is a regular file.
  Code check(const char *path, uint64_t *size, Error *error) const {
    if (fd_ < 0)
      return fail(error, errno == ENOENT || errno == ENOTDIR ? INGOT_NOT_FOUND : INGOT_IO, "%s: cannot open: %s", path,
                  strerror(errno));
    struct stat info;
    if (fstat(fd_, &info) != 0) return fail(error, INGOT_IO, "%s: cannot stat: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode)) return fail(error, INGOT_IO, "%s: not a regular file", path);
    if (uint64_t(info.st_size) > SIZE_MAX / 2)
      return fail(error, INGOT_IO, "%s: %llu bytes do not fit the address space", path, (unsigned long long)info.st_size);
    *size = uint64_t(info.st_size);
    return INGOT_OK;
  }
  int fd() const { return fd_; }

private:
  int fd_;
};

} // namespace

Code map_file(const char *path, FileView *out, Error *error) {
  File file(path);
  uint64_t size = 0;
  INGOT_TRY(file.check(path, &size, error));
  if (size == 0) {
    *out = {};
    return INGOT_OK;
  }
  void *data = mmap(nullptr, size_t(size), PROT_READ, MAP_PRIVATE, file.fd(), 0);
  if (data == MAP_FAILED) return fail(error, INGOT_IO, "%s: cannot map: %s", path, strerror(errno));
  *out = {static_cast<const uint8_t *>(data), size_t(size)};
  return INGOT_OK;
}

void unmap_file(const FileView &view) {
  if (view.data) munmap(const_cast<uint8_t *>(view.data), view.size);
}

Code file_size(const char *path, uint64_t *out, Error *error) {
  File file(path);
  return file.check(path, out, error);
}

Code read_file(const char *path, void *buffer, size_t size, Error *error) {
  File file(path);
  uint64_t now = 0;
  INGOT_TRY(file.check(path, &now, error));
  size_t done = 0;
  while (done < size) {
    const ssize_t n = read(file.fd(), static_cast<uint8_t *>(buffer) + done, size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(error, INGOT_IO, "%s: cannot read: %s", path, strerror(errno));
    if (n == 0)
      return fail(error, INGOT_IO, "%s: ended after %zu of %zu bytes: the file changed while it was read", path, done,
                  size);
    done += size_t(n);
  }
  return INGOT_OK;
}

Code write_file(const char *path, const void *data, size_t size, Error *error) {
  char name[4096];
  const int length = snprintf(name, sizeof name, "%s.XXXXXX", path);
  if (length < 0 || size_t(length) >= sizeof name) return fail(error, INGOT_IO, "%.200s...: the name is too long", path);
  const int fd = mkstemp(name);
  if (fd < 0) return fail(error, INGOT_IO, "%s: cannot create: %s", name, strerror(errno));
  int problem = 0;
  for (size_t done = 0; done < size && !problem;) {
    const ssize_t n = write(fd, static_cast<const uint8_t *>(data) + done, size - done);
    if (n < 0 && errno != EINTR) problem = errno;
    if (n > 0) done += size_t(n);
  }
  if (close(fd) != 0 && !problem) problem = errno;
  if (!problem && rename(name, path) != 0) problem = errno;
  if (!problem) return INGOT_OK;
  unlink(name);
  return fail(error, INGOT_IO, "%s: cannot write: %s", path, strerror(problem));
}

size_t page_size() { return size_t(sysconf(_SC_PAGESIZE)); }

void prefer_large_pages(void *memory, size_t size) {
#if defined(MADV_HUGEPAGE)
  madvise(memory, size, MADV_HUGEPAGE);
#else
  (void)memory, (void)size;
#endif
}

Code allocate_code(size_t size, void **out, Error *error) {
  void *base = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED)
    return fail(error, INGOT_OUT_OF_MEMORY, "out of memory: %zu bytes of pages for code: %s", size, strerror(errno));
  *out = base;
  return INGOT_OK;
}

Code seal_code(void *base, size_t offset, size_t size, bool executable, Error *error) {
  const size_t page = page_size();
  const size_t begin = offset / page * page, end = (offset + size + page - 1) / page * page;
  char *start = static_cast<char *>(base) + begin;
  if (mprotect(start, end - begin, executable ? PROT_READ | PROT_EXEC : PROT_READ) != 0)
    return fail(error, INGOT_UNAVAILABLE, "the system refuses %s memory for code: %s",
                executable ? "executable" : "read-only", strerror(errno));
  if (executable) __builtin___clear_cache(start, start + (end - begin));
  return INGOT_OK;
}

void release_code(void *base, size_t size) {
  if (base) munmap(base, size);
}

uint64_t now_ns() {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return uint64_t(t.tv_sec) * 1000000000u + uint64_t(t.tv_nsec);
}

void wait_on(const std::atomic<uint32_t> *word, uint32_t expected, uint64_t timeout_ns) {
  struct timespec t = {time_t(timeout_ns / 1000000000u), long(timeout_ns % 1000000000u)};
#if defined(__linux__)
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, timeout_ns == UINT64_MAX ? nullptr : &t, nullptr, 0);
#else
  if (word->load(std::memory_order_acquire) != expected) return;
  if (timeout_ns > 100000) t = {0, 100000};
  nanosleep(&t, nullptr);
#endif
}

namespace {

void wake(const std::atomic<uint32_t> *word, int count) {
#if defined(__linux__)
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
#else
  (void)word, (void)count;
#endif
}

} // namespace

void wake_one(const std::atomic<uint32_t> *word) { wake(word, 1); }
void wake_all(const std::atomic<uint32_t> *word) { wake(word, 0x7fffffff); }

uint32_t cpu_count() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) return uint32_t(CPU_COUNT(&set));
#endif
  const long n = sysconf(_SC_NPROCESSORS_ONLN);
  return n > 0 ? uint32_t(n) : 1;
}

uint64_t os_cpu_features() {
#if defined(__linux__) && defined(__aarch64__)
  const unsigned long caps = getauxval(AT_HWCAP), caps2 = getauxval(AT_HWCAP2);
  uint64_t features = 0;
  if (caps & (1ul << 20)) features |= INGOT_CPU_AARCH64_DOTPROD; // HWCAP_ASIMDDP
  if (caps & (1ul << 22)) features |= INGOT_CPU_AARCH64_SVE;     // HWCAP_SVE
  if ((caps & (1ul << 9)) && (caps & (1ul << 10))) features |= INGOT_CPU_AARCH64_FP16; // HWCAP_FPHP, HWCAP_ASIMDHP
  if (caps2 & (1ul << 13)) features |= INGOT_CPU_AARCH64_I8MM;   // HWCAP2_I8MM
  if (caps2 & (1ul << 14)) features |= INGOT_CPU_AARCH64_BF16;   // HWCAP2_BF16
  return features;
#else
  return 0;
#endif
}

void cpu_name(char *buffer, size_t capacity) {
  buffer[0] = 0;
  char text[4096];
  const int fd = open("/proc/cpuinfo", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  const ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0) return;
  text[n] = 0;
  const char *line = strstr(text, "model name");
  if (!line || !(line = strchr(line, ':'))) return;
  line += line[1] == ' ' ? 2 : 1;
  size_t i = 0;
  for (; i + 1 < capacity && line[i] && line[i] != '\n'; ++i) buffer[i] = line[i];
  buffer[i] = 0;
}

} // namespace ingot::platform
