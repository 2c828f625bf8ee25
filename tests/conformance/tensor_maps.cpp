// Kernels that are fed by tensor maps: the driver cuda makes these, of what an archive says, where the library can; hip never.
#include <dlfcn.h>

#include <cstring>

#include <flatbuffers/flatbuffers.h>

#include "schemas/gpu_abi.h"
#include "tests/archive/mutate.h"
#include "tests/conformance/lines.h"

#include "archive_generated.h"

namespace conformance {
namespace {

constexpr size_t kWords = kFed / 2;

// Is it another device than the one that the code is for?
bool elsewhere(const Subject &s) {
  support::Loaded l(fed(s.target), s.uri.c_str());
  return support::contains(l.session.message(), "the variant is for sm_90a");
}
// Does the library make tensor maps, for a device that takes them? The tests' older one does not.
bool makes_maps(const Subject &s) {
  void *library = s.target == "cuda" ? dlopen("libcuda.so.1", RTLD_NOW) : nullptr;
  return library && dlsym(library, "cuTensorMapEncodeTiled") && !elsewhere(s);
}

Ints numbers(int round) {
  Ints x(kWords);
  for (size_t i = 0; i < kWords; ++i) x[i] = int32_t(0x3c003c00 | (i * 37 + size_t(round)) % 1024 << 16 | (i * 11) % 1024); // pairs of f16
  return x;
}

// What of x arrived: "fed", "copied" or nothing of these.
std::string arrived(const Ints &x, const Ints &y) {
  if (y == x) return "copied";
  Ints wanted(kWords);
  for (size_t line = 0; line < 16; ++line)
    for (size_t i = 0; i < 32; ++i) wanted[32 * line + ((i / 4) ^ (line % 8)) * 4 + i % 4] = x[32 * (2 * (line % 8) + line / 8) + i];
  return y == wanted ? "fed" : "";
}

ingot::Status run(ingot::Context &context, Ints &x, Ints &y) {
  const ingot::Tensor in[] = {support::tensor(x, INGOT_ELEMENT_TYPE_I32, {int64_t(kWords)})};
  ingot::Tensor out[] = {support::tensor(y, INGOT_ELEMENT_TYPE_I32, {int64_t(kWords)})};
  return context.run(in, out);
}

// Several runs, the later ones of a graph.
void runs(const Bytes &archive, const Subject &s, const char *how) {
  support::Loaded l(archive, s.uri.c_str());
  GOOD(l.session);
  auto context = l.session->context();
  GOOD(context);
  for (int round = 0; round < 4; ++round) {
    Ints x = numbers(round), y(kWords);
    GOOD(run(*context, x, y));
    if (arrived(x, y) != how) failed(__FILE__, __LINE__, "it is " + arrived(x, y) + ", not " + how);
  }
  auto from = l.device->allocate(4 * kWords), to = l.device->allocate(4 * kWords); // other addresses
  GOOD(from);
  GOOD(to);
  ingot::Tensor in[] = {support::tensor(nullptr, 4 * kWords, INGOT_ELEMENT_TYPE_I32, {int64_t(kWords)})};
  ingot::Tensor out[] = {support::tensor(nullptr, 4 * kWords, INGOT_ELEMENT_TYPE_I32, {int64_t(kWords)})};
  in[0].buffer = from->get(), out[0].buffer = to->get();
  for (int round = 4; round < 8; ++round) {
    Ints x = numbers(round), y(kWords);
    GOOD(from->write(0, x.data(), 4 * kWords));
    GOOD(context->run(in, out));
    GOOD(to->read(0, y.data(), 4 * kWords));
    EXPECT(arrived(x, y) == how);
  }
}

// The archive with its first variant's tensor maps changed.
template <class Change> Bytes changed(Bytes bytes, const Change &by) {
  auto *archive = flatbuffers::GetMutableRoot<flatbuffers::Table>(bytes.data() + ingot::program::kHeaderSize);
  auto *variants = archive->GetPointer<flatbuffers::Vector<flatbuffers::Offset<flatbuffers::Table>> *>(ingot::schema::Archive::VT_VARIANTS);
  using Maps = flatbuffers::Vector<const ingot::schema::TensorMap *>;
  auto *maps = variants->GetMutableObject(0)->GetPointer<Maps *>(ingot::schema::Variant::VT_TENSOR_MAPS);
  EXPECT(maps && maps->size() == 2);
  ingot_tensor_map_t m[2];
  std::memcpy(m, maps->Data(), sizeof m);
  by(m);
  std::memcpy(const_cast<uint8_t *>(maps->Data()), m, sizeof m);
  mutate::repair(bytes);
  return bytes;
}

} // namespace

CASE("cuda: tensor maps, of a library that makes them", Case::kernels | Case::cuda) {
  const bool fed_here = makes_maps(s);
  runs(fed(s.target, /*masked=*/true, /*other=*/true), s, fed_here ? "fed" : "copied");
  if (fed_here) return runs(fed(s.target), s, "fed");
  if (elsewhere(s)) return;
  support::Loaded l(fed(s.target), s.uri.c_str());
  EQUAL(l.session.status().code(), INGOT_INCOMPATIBLE);
  if (!support::contains(l.session.message(), "kernel 'fed' needs features that this driver does not know"))
    failed(__FILE__, __LINE__, l.session.message());
}

// An archive that does not say what its kernel takes.
CASE("stream: tensor maps, of a library that makes none", Case::kernels | Case::stream) {
  if (makes_maps(s) || elsewhere(s)) return;
  support::Loaded l(fed(s.target, /*masked=*/false), s.uri.c_str());
  EQUAL(l.session.status().code(), INGOT_INCOMPATIBLE);
  if (!support::contains(l.session.message(), "the variant has tensor maps, which the library of ")) failed(__FILE__, __LINE__, l.session.message());
}

CASE("stream: tensor maps that are none", Case::kernels | Case::stream) {
  if (!makes_maps(s)) return;
  using Map = ingot_tensor_map_t;
  struct {
    uint32_t number;
    void (*by)(Map *m);
  } const kChanges[] = {
      {0, [](Map *m) { m[0].kernel = 1; }},
      {1, [](Map *m) { m[1].kernel = 1; }},
      {1, [](Map *m) { m[1].kernel = UINT32_MAX; }},
      {0, [](Map *m) { m[0].binding = 2; }},
      {0, [](Map *m) { m[0].binding = UINT32_MAX; }},
      {0, [](Map *m) { m[0].rank = 0; }},
      {1, [](Map *m) { m[1].rank = 6; }},
      {1, [](Map *m) { m[1].rank = UINT32_MAX; }},
      {0, [](Map *m) { m[0].rank = 3; }}, // its third dimension is all 0
      {0, [](Map *m) { m[0].offset = 8; }},
      {0, [](Map *m) { m[0].offset = uint64_t(1) << 40; }},
      {0, [](Map *m) { m[0].offset = UINT64_MAX - 15; }},
      {0, [](Map *m) { m[0].box[0] = 32; }},
      {0, [](Map *m) { m[0].box[0] = 128; }},
      {0, [](Map *m) { m[0].box[1] = 0; }},
      {0, [](Map *m) { m[0].box[1] = 257; }},
      {0, [](Map *m) { m[0].box[1] = UINT32_MAX; }},
      {0, [](Map *m) { m[0].sizes[0] = 0; }},
      {0, [](Map *m) { m[0].sizes[1] = 0; }},
      {0, [](Map *m) { m[0].sizes[1] = (uint64_t(1) << 32) + 1; }},
      {0, [](Map *m) { m[0].sizes[1] = UINT64_MAX; }},
      {0, [](Map *m) { m[0].sizes[1] = uint64_t(1) << 32, m[0].strides[1] = uint64_t(1) << 39; }},
      {0, [](Map *m) { m[0].strides[0] = 0; }},
      {0, [](Map *m) { m[0].strides[0] = 4; }},
      {0, [](Map *m) { m[0].strides[1] = 0; }},
      {0, [](Map *m) { m[0].strides[1] = 24; }},
      {0, [](Map *m) { m[0].strides[1] = uint64_t(1) << 40; }},
      {0, [](Map *m) { m[0].strides[1] = UINT64_MAX - 15; }},
  };
  int number = 0;
  for (const auto &change : kChanges) {
    support::Loaded l(changed(fed(s.target), change.by), s.uri.c_str());
    const std::string what = "change " + std::to_string(number++) + ": ";
    if (l.session.ok()) failed(__FILE__, __LINE__, what + "it is taken");
    const std::string part = "tensor map " + std::to_string(change.number) + " of the variant is none";
    if (l.session.status().code() != INGOT_CORRUPT || !support::contains(l.session.message(), part))
      failed(__FILE__, __LINE__, what + l.session.message());
  }
}

CASE("stream: tensor maps that are larger than their buffers", Case::kernels | Case::stream) {
  if (!makes_maps(s)) return;
  using Map = ingot_tensor_map_t;
  struct {
    void (*by)(Map *m);
    uint64_t bytes; // that it takes
  } const kChanges[] = {
      {[](Map *m) { m[1].offset += 16; }, 2 * kFed + 16},
      {[](Map *m) { m[1].sizes[0] += 1; }, 2 * kFed + 2},
      {[](Map *m) { m[1].sizes[1] += 1; }, 2 * kFed + 256},
      {[](Map *m) { m[1].strides[1] += 16; }, 2 * kFed + 7 * 16},
      {[](Map *m) { m[1].sizes[1] = uint64_t(1) << 32, m[1].strides[1] = uint64_t(1) << 24; }, (((uint64_t(1) << 32) - 1) << 24) + 256},
      {[](Map *m) { // the most that may be: all of it is added up
         m[1].rank = 5, m[1].offset = (uint64_t(1) << 40) - 16;
         for (int i = 1; i < 5; ++i) m[1].sizes[i] = uint64_t(1) << 32, m[1].strides[i] = uint64_t(1) << 24, m[1].box[i] = 1;
       },
       (uint64_t(1) << 40) - 16 + 4 * (((uint64_t(1) << 32) - 1) << 24) + 128},
  };
  for (const auto &change : kChanges) {
    support::Loaded l(changed(fed(s.target), change.by), s.uri.c_str());
    GOOD(l.session);
    auto context = l.session->context();
    GOOD(context);
    for (int round = 0; round < 3; ++round) {
      Ints x = numbers(round), y(kWords);
      const ingot::Status status = run(*context, x, y);
      EQUAL(status.code(), INGOT_CORRUPT);
      const std::string part = "has " + std::to_string(2 * kFed) + " bytes, its tensor map takes " + std::to_string(change.bytes);
      if (!support::contains(status.message(), part)) failed(__FILE__, __LINE__, status.message());
    }
  }
  // A binding that is shorter, or does not begin at 16 bytes.
  for (const uint32_t from : {4, 8, 16}) {
    support::Loaded l(fed(s.target, true, false, from), s.uri.c_str());
    if (!l.session.ok()) continue; // refused earlier
    auto context = l.session->context();
    GOOD(context);
    Ints x = numbers(0), y(kWords);
    EXPECT(!run(*context, x, y).ok());
  }
}

} // namespace conformance
