#include "tests/fuzz/mutate.h"

#include <cstring>
#include <utility>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "archive_generated.h"
#include "schemas/header.h"
#include "schemas/program_words.h"

namespace fuzz {
namespace {

namespace schema = ingot::schema;
using ingot::program::Header;
using ingot::program::kHeaderSize;

bool read_header(const Bytes &archive, Header *header) {
  if (archive.size() < kHeaderSize) return false;
  std::memcpy(header, archive.data(), sizeof *header);
  return header->metadata_size != 0 && header->metadata_size <= archive.size() - kHeaderSize;
}

// The metadata, where it is a well-formed FlatBuffer.
const schema::Archive *metadata(const Bytes &archive, Header *header) {
  if (!read_header(archive, header)) return nullptr;
  flatbuffers::Verifier verifier(archive.data() + kHeaderSize, header->metadata_size, 16, 1 << 20);
  if (!schema::VerifyArchiveBuffer(verifier)) return nullptr;
  return schema::GetArchive(archive.data() + kHeaderSize);
}

// A number in the metadata: where it lies, how wide it is.
struct Number {
  uint8_t *at;
  uint32_t bytes;
};

class Numbers {
 public:
  explicit Numbers(Bytes &archive) : begin_(archive.data()), end_(begin_ + archive.size()) {
    Header header;
    const schema::Archive *root = metadata(archive, &header);
    if (!root) return;
    each(root->segments(), [&](const schema::Segment *s) { all_fields(s); });
    each(root->variants(), [&](const schema::Variant *v) {
      all_fields(v);
      each(v->executables(), [&](const schema::Executable *e) { all_fields(e); });
      each(v->kernels(), [&](const schema::Kernel *k) {
        all_fields(k);
        elements(k->bindings());
        each(k->versions(), [&](const schema::CodeVersion *c) { all_fields(c); });
      });
      each(v->functions(), [&](const schema::Function *f) { function(f); });
    });
  }
  std::vector<Number> list;

 private:
  template <class T, class F>
  static void each(const flatbuffers::Vector<flatbuffers::Offset<T>> *v, F f) {
    if (v)
      for (const T *item : *v) f(item);
  }
  // A table's own size, and slots beyond the fields of the schema, are hostile: no verifier looks at them.
  void add(const void *where, uint32_t bytes) {
    uint8_t *at = const_cast<uint8_t *>(static_cast<const uint8_t *>(where));
    if (at >= begin_ && at < end_ && bytes <= size_t(end_ - at)) list.push_back({at, bytes});
  }
  template <class T>
  void elements(const flatbuffers::Vector<T> *v) {
    if (v)
      for (uint32_t i = 0; i < v->size(); ++i) add(v->Data() + i * sizeof(T), sizeof(T));
  }
  // Every inline field of a table: scalars, and offsets too (a changed offset is caught by the structure's
  // verifier, or not at all where it happens to be well-formed).
  template <class T>
  void all_fields(const T *item) {
    const uint8_t *table = reinterpret_cast<const uint8_t *>(item);
    const uint8_t *vtable = table - flatbuffers::ReadScalar<flatbuffers::soffset_t>(table);
    const uint16_t size = flatbuffers::ReadScalar<uint16_t>(vtable),
                   end = flatbuffers::ReadScalar<uint16_t>(vtable + 2);
    for (uint16_t slot = 4; slot < size; slot = uint16_t(slot + 2)) {
      const uint16_t offset = flatbuffers::ReadScalar<uint16_t>(vtable + slot);
      if (offset == 0) continue;
      uint16_t next =
          end; // the width of a field is the distance to the next one, as far as a power of two goes
      for (uint16_t other = 4; other < size; other = uint16_t(other + 2)) {
        const uint16_t o = flatbuffers::ReadScalar<uint16_t>(vtable + other);
        if (o > offset && o < next) next = o;
      }
      const uint32_t room = next - offset;
      add(table + offset, room >= 8 && offset % 8 == 4 ? 4 : room >= 8 ? 8 : room >= 4 ? 4 : room >= 2 ? 2 : 1);
    }
  }
  void function(const schema::Function *f) {
    each(f->symbols(), [&](const schema::Symbol *s) { all_fields(s); });
    if (f->exprs())
      for (uint32_t i = 0; i < f->exprs()->size(); ++i) {
        const uint8_t *e = reinterpret_cast<const uint8_t *>(f->exprs()->Get(i));
        for (uint32_t at : {8u, 12u, 16u, 20u}) add(e + at, 4);
        add(e, 8);
      }
    for (const auto *tensors : {f->inputs(), f->outputs()})
      each(tensors, [&](const schema::TensorSpec *t) {
        all_fields(t);
        elements(t->dims());
      });
    elements(f->arenas());
    each(f->slots(), [&](const schema::Slot *s) { all_fields(s); });
    each(f->sites(), [&](const schema::Site *s) { all_fields(s); });
    elements(f->commands());
    elements(f->host_slots());
    elements(f->commands()); // twice: they deserve more than their share
    each(f->subroutines(), [&](const schema::Subroutine *s) { elements(s->commands()); });
  }

  uint8_t *begin_, *end_;
};

uint64_t get(const Number &n) {
  uint64_t value = 0;
  std::memcpy(&value, n.at, n.bytes);
  return value;
}
void set(const Number &n, uint64_t value) { std::memcpy(n.at, &value, n.bytes); }

uint64_t hurtful(const Number &n, const Numbers &numbers, Random &random) {
  const uint64_t old = get(n);
  switch (random.below(9)) {
    case 0:
      return 0;
    case 1:
      return ~uint64_t(0);
    case 2:
      return uint64_t(1) << (n.bytes * 8 - 1); // the most negative
    case 3:
      return (uint64_t(1) << (n.bytes * 8 - 1)) - 1; // the largest
    case 4:
      return old + 1;
    case 5:
      return old - 1;
    case 6:
      return old ^ uint64_t(1) << random.below(n.bytes * 8);
    case 7:
      return random.below(40);
    default: {
      for (int tries = 0; tries < 8; ++tries) {
        const Number &other = numbers.list[random.below(numbers.list.size())];
        if (other.bytes == n.bytes) return get(other);
      }
      return random.next();
    }
  }
}

} // namespace

uint64_t Random::next() {
  uint64_t z = state_ += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

Bytes truncated(const Bytes &seed, Random &random) {
  return Bytes(seed.begin(), seed.begin() + long(random.below(seed.size())));
}

Bytes bit_flipped(const Bytes &seed, Random &random) {
  Bytes out = seed;
  out[random.below(out.size())] ^= uint8_t(1u << random.below(8));
  return out;
}

Bytes random_bytes(Random &random) {
  Bytes out(random.below(4096));
  for (uint8_t &b : out) b = uint8_t(random.next());
  if (out.size() >= 8 && random.below(2)) std::memcpy(out.data(), ingot::program::kMagic, 8);
  if (random.below(2)) repair(out);
  return out;
}

void repair(Bytes &archive) {
  if (archive.size() < kHeaderSize) return;
  Header header;
  std::memcpy(&header, archive.data(), sizeof header);
  header.file_size = archive.size();
  if (header.metadata_size <= archive.size() - kHeaderSize) {
    Header same;
    // All is read before anything is written: tables of a hostile FlatBuffer may overlap.
    std::vector<std::pair<uint8_t *, uint64_t>> hashes;
    if (const schema::Archive *root = metadata(archive, &same); root && root->segments())
      for (const schema::Segment *s : *root->segments()) {
        const uint64_t at = header.data_offset + s->offset(), size = s->size();
        const uint8_t *field =
            reinterpret_cast<const flatbuffers::Table *>(s)->GetAddressOf(schema::Segment::VT_XXH3);
        if (!field || s->offset() > archive.size() || header.data_offset > archive.size() ||
            at > archive.size() || size > archive.size() - at)
          continue;
        hashes.emplace_back(const_cast<uint8_t *>(field), XXH3_64bits(archive.data() + at, size));
      }
    for (const auto &[field, hash] : hashes) std::memcpy(field, &hash, sizeof hash);
    header.metadata_xxh3 = XXH3_64bits(archive.data() + kHeaderSize, header.metadata_size);
  }
  header.header_xxh3 = XXH3_64bits(&header, kHeaderSize - 8);
  std::memcpy(archive.data(), &header, sizeof header);
}

Bytes scrambled(const Bytes &seed, Random &random) {
  Bytes out = seed;
  Header header;
  const bool known = read_header(out, &header);
  for (uint64_t n = 1 + random.below(4); n > 0; --n) {
    // Mostly metadata: that is where the meaning is.
    const bool meta = known && random.below(8) != 0;
    const uint64_t begin = meta ? kHeaderSize : 8, length = meta ? header.metadata_size : out.size() - 8;
    const uint64_t at = begin + random.below(length);
    switch (random.below(4)) {
      case 0:
        out[at] ^= uint8_t(1u << random.below(8));
        break;
      case 1:
        out[at] = uint8_t(random.next());
        break;
      case 2: {
        static constexpr uint32_t kWords[] = {0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffffe, 64, 4096};
        const uint64_t aligned = at & ~uint64_t(3);
        if (aligned + 4 <= out.size()) std::memcpy(out.data() + aligned, &kWords[random.below(8)], 4);
        break;
      }
      default: {
        const uint64_t bytes = 1 + random.below(32), from = begin + random.below(length);
        if (at + bytes <= out.size() && from + bytes <= out.size())
          std::memmove(out.data() + at, out.data() + from, bytes);
      }
    }
  }
  if (random.below(16) == 0) out.resize(out.size() - random.below(out.size() / 4));
  repair(out);
  return out;
}

Bytes reshaped(const Bytes &seed, Random &random) {
  Bytes out = seed;
  const Numbers numbers(out);
  if (numbers.list.empty()) return scrambled(seed, random);
  for (uint64_t n = 1 + random.below(4); n > 0; --n) {
    const Number &number = numbers.list[random.below(numbers.list.size())];
    set(number, hurtful(number, numbers, random));
  }
  repair(out);
  return out;
}

Bytes recoded(const Bytes &seed, Random &random) {
  Bytes out = seed;
  Header header;
  const schema::Archive *root = metadata(out, &header);
  if (!root || !root->segments() || root->segments()->size() == 0) return scrambled(seed, random);
  const schema::Segment *s = root->segments()->Get(uint32_t(random.below(root->segments()->size())));
  const uint64_t begin = header.data_offset + s->offset(),
                 length = s->size(); // once: bytes of the table may change
  if (header.data_offset > out.size() || s->offset() > out.size() || begin >= out.size() || length == 0 ||
      length > out.size() - begin)
    return scrambled(seed, random);
  for (uint64_t n = 1 + random.below(6); n > 0; --n) {
    // The ELF header and program headers stand first; that is what the loader reads.
    const uint64_t at = begin + random.below(random.below(4) ? (length < 512 ? length : 512) : length);
    out[at] = random.below(2) ? uint8_t(out[at] ^ 1u << random.below(8)) : uint8_t(random.next());
  }
  repair(out);
  return out;
}

} // namespace fuzz
