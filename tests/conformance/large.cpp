// Weights of gigabytes, in a sparse file: they are never in memory twice, and on the CPU not even once. The system is told how
// much memory the process may still take (RLIMIT_DATA: what is private and writable, so not the mapped file); a copy too many
// is an allocation that fails. Run with INGOT_FULL=1 the file has more than 4 GiB, otherwise more than one block of constants.
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "schemas/header.h"
#include "src/runtime/api/session.h"
#include "src/runtime/archive/hash.h"
#include "tests/conformance/programs.h"
#include "tests/conformance/suite.h"
#include "tests/sanitizers.h"

namespace conformance {
namespace {

// A sanitizer's own memory would count too.
#if defined(INGOT_ADDRESS_SANITIZER) || defined(INGOT_THREAD_SANITIZER)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif
constexpr uint64_t kConstantBytes = 64 << 20, kTail = 256; // the last bytes of each constant are looked at
constexpr uint64_t kSlack = 192 << 20;                     // what a driver and its compiler may take beside the weights

// The archive on disk; its weights are a hole but for the tails, where constant i holds i, i + 1, i + 2, ...
class LargeFile {
public:
  LargeFile(const std::string &target, uint32_t constants) {
    Bytes bytes = large(target, constants, kConstantBytes, kTail);
    const uint64_t begin = stretch(bytes, constants * kConstantBytes);
    char name[] = "/tmp/ingot-large-XXXXXX";
    const int fd = mkstemp(name);
    path = name;
    bool good = fd >= 0 && ftruncate(fd, off_t(begin + constants * kConstantBytes)) == 0 && pwrite(fd, bytes.data(), begin, 0) == ssize_t(begin);
    for (uint32_t c = 0; c < constants && good; ++c) {
      int32_t tail[kTail / 4];
      for (uint32_t i = 0; i < kTail / 4; ++i) tail[i] = int32_t(c + i);
      good = pwrite(fd, tail, kTail, off_t(begin + (c + 1) * kConstantBytes - kTail)) == ssize_t(kTail);
    }
    close(fd);
    if (!good) failed(__FILE__, __LINE__, "no room for a sparse file in /tmp");
  }
  ~LargeFile() { unlink(path.c_str()); }
  LargeFile(const LargeFile &) = delete;
  std::string path;

private:
  // Lets the last segment, the weights, have that many bytes. Returns where it begins.
  static uint64_t stretch(Bytes &bytes, uint64_t size) {
    ingot::program::Header header;
    std::memcpy(&header, bytes.data(), sizeof header);
    uint8_t *const metadata = bytes.data() + ingot::program::kHeaderSize;
    auto *archive = flatbuffers::GetMutableRoot<flatbuffers::Table>(metadata);
    auto *segments = archive->GetPointer<flatbuffers::Vector<flatbuffers::Offset<flatbuffers::Table>> *>(ingot::schema::Archive::VT_SEGMENTS);
    flatbuffers::Table *last = segments->GetMutableObject(segments->size() - 1);
    const uint64_t begin = header.data_offset + last->GetField<uint64_t>(ingot::schema::Segment::VT_OFFSET, 0);
    if (!last->SetField<uint64_t>(ingot::schema::Segment::VT_SIZE, size, 0)) failed(__FILE__, __LINE__, "the segment has no size to change");
    header.file_size = begin + size;
    header.metadata_xxh3 = ingot::xxh3(metadata, header.metadata_size);
    header.header_xxh3 = ingot::xxh3(&header, ingot::program::kHeaderSize - 8);
    std::memcpy(bytes.data(), &header, sizeof header);
    return begin;
  }
};

// Private and writable bytes of the process, which RLIMIT_DATA counts.
uint64_t data_bytes() {
  unsigned long long kib = 0;
  if (FILE *status = std::fopen("/proc/self/status", "r")) {
    char line[200];
    while (std::fgets(line, sizeof line, status))
      if (std::sscanf(line, "VmData: %llu", &kib) == 1) break;
    std::fclose(status);
  }
  return kib << 10;
}

// At most that many more bytes from now on.
class Limit {
public:
  explicit Limit(uint64_t more) {
    getrlimit(RLIMIT_DATA, &before_);
    rlimit now = before_;
    now.rlim_cur = data_bytes() + more;
    EXPECT(setrlimit(RLIMIT_DATA, &now) == 0);
    void *const beyond = mmap(nullptr, more + (64 << 20), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    EXPECT(beyond == MAP_FAILED); // the system means it
  }
  ~Limit() { setrlimit(RLIMIT_DATA, &before_); }

private:
  rlimit before_;
};

void load_and_run(const Subject &s, bool unified) {
  if (kSanitized) return;
  const bool full = std::getenv("INGOT_FULL") && std::string(std::getenv("INGOT_FULL")) == "1";
  const uint32_t constants = full ? 65 : 5;
  const bool own_memory = !driver_of(s.uri)->host_memory;
  const LargeFile file(s.target, constants);
  ingot::Instance instance;
  auto device = instance.open(s.uri.c_str());
  GOOD(device);
  if (!unified) device->get()->properties.unified_memory = false; // as a card is: weights go through staging
  const Limit limit(kSlack + (own_memory ? constants * kConstantBytes : 0));
  auto archive = ingot::Archive::map(file.path.c_str());
  GOOD(archive);
  auto session = device->prepare(*archive);
  GOOD(session);
  auto context = session->context();
  GOOD(context);
  std::vector<int32_t> y(constants * kTail / 4, -1);
  ingot::Tensor out[] = {support::tensor(y, INGOT_ELEMENT_TYPE_I32, {int64_t(y.size())})};
  GOOD(context->run({}, out));
  for (uint32_t c = 0; c < constants; ++c)
    for (uint32_t i = 0; i < kTail / 4; ++i) EQUAL(y[c * kTail / 4 + i], int32_t(c + i));
}

} // namespace

CASE("weights of gigabytes are not in memory twice", Case::nothing) { load_and_run(s, true); }

CASE("weights of gigabytes go to a card in pieces", Case::own_memory) { load_and_run(s, false); }

} // namespace conformance
