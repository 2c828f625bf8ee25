// Host ops that look elements up: LabelEncoder's mapping and TfIdfVectorizer's counts.
#include <algorithm>
#include <math.h>

#include "src/runtime/host/ops.h"

namespace ingot {

namespace {

// Elements of one tensor as keys that can be compared: texts, integers, or the bits of floats.
struct Keys {
  const HostObject &o;
  uint32_t size; // bytes of a number
  explicit Keys(const HostObject &object) : o(object), size(ingot_element_type_bits(object.type) / 8) {}

  Text at(uint64_t i) const {
    if (o.is_strings()) return string_at(o, i);
    return {reinterpret_cast<const char *>(o.data()) + i * size, size};
  }
  // Every NaN is one key, and so are both zeros.
  bool equal(Text a, Text b) const {
    if (o.type == INGOT_ELEMENT_TYPE_F32) {
      float x, y;
      memcpy(&x, a.data, 4);
      memcpy(&y, b.data, 4);
      return x == y || (x != x && y != y);
    }
    if (o.type == INGOT_ELEMENT_TYPE_F64) {
      double x, y;
      memcpy(&x, a.data, 8);
      memcpy(&y, b.data, 8);
      return x == y || (x != x && y != y);
    }
    return a == b;
  }
  uint64_t hash(Text t) const {
    char bytes[8] = {};
    if (o.type == INGOT_ELEMENT_TYPE_F32 || o.type == INGOT_ELEMENT_TYPE_F64) { // equal keys have equal hashes
      double value = 0;
      float narrow;
      if (t.size == 4) memcpy(&narrow, t.data, 4), value = narrow;
      else memcpy(&value, t.data, 8);
      if (value != value) value = 1e300;
      if (value == 0) value = 0;
      memcpy(bytes, &value, 8);
      if (value == 0) memset(bytes, 0, 8);
      t = {bytes, 8};
    }
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < t.size; ++i) h = (h ^ uint8_t(t.data[i])) * 1099511628211u;
    return h ^ h >> 29;
  }
};

// A hash table over the elements of a tensor: open addressing, half full at most. A hostile table of equal hashes costs
// a walk over it for every look-up, no more.
class Index {
public:
  Code build(const HostOpArgs &a, const Keys &keys) {
    uint64_t size = 4;
    while (size < 2 * keys.o.count) size *= 2;
    INGOT_TRY(slots_.create(a.allocator, size, "a table of keys", a.error));
    for (uint64_t i = 0; i < keys.o.count; ++i) {
      const Text key = keys.at(i);
      uint64_t at = keys.hash(key) & (size - 1);
      while (slots_[at] && !keys.equal(keys.at(slots_[at] - 1), key)) at = (at + 1) & (size - 1);
      slots_[at] = uint32_t(i + 1); // of equal keys the last counts
    }
    return INGOT_OK;
  }
  // The element with that key, or count.
  uint64_t find(const Keys &keys, Text key) const {
    uint64_t at = keys.hash(key) & (slots_.size() - 1);
    for (; slots_[at]; at = (at + 1) & (slots_.size() - 1))
      if (keys.equal(keys.at(slots_[at] - 1), key)) return slots_[at] - 1;
    return keys.o.count;
  }

private:
  Array<uint32_t> slots_; // element + 1, 0: free
};

bool whole_bytes(const HostObject &o) { return o.is_strings() || (ingot_element_type_bits(o.type) % 8 == 0 && ingot_element_type_bits(o.type) > 0 && ingot_element_type_bits(o.type) <= 64); }

} // namespace

Code host_lookup(const HostOpArgs &a) {
  for (uint32_t i = 0; i < 4; ++i)
    if (!a.sources[i] || a.sources[i]->is_list() || !whole_bytes(*a.sources[i]))
      return fail(a.error, INGOT_INVALID_ARGUMENT, "operand %u is no tensor", i);
  const HostObject &x = *a.sources[0], &keys = *a.sources[1], &values = *a.sources[2], &otherwise = *a.sources[3];
  if (x.type != keys.type || values.type != otherwise.type || keys.count != values.count || otherwise.count != 1)
    return fail(a.error, INGOT_INVALID_ARGUMENT, "%s looked up in %llu keys of %s with %llu values of %s", ingot_element_type_name(x.type),
                (unsigned long long)keys.count, ingot_element_type_name(keys.type), (unsigned long long)values.count,
                ingot_element_type_name(values.type));
  const Keys key(keys), look(x);
  Index index;
  INGOT_TRY(index.build(a, key));
  Array<uint32_t> found;
  INGOT_TRY(found.create(a.allocator, x.count, "the values found", a.error));
  uint64_t text = 0;
  for (uint64_t i = 0; i < x.count; ++i) {
    found[i] = uint32_t(index.find(key, look.at(i)));
    if (values.is_strings()) text += found[i] == keys.count ? string_at(otherwise, 0).size : string_at(values, found[i]).size;
  }
  if (values.is_strings()) {
    INGOT_TRY(make_strings(a.allocator, x.dims, x.rank, text, &a.results[0], a.error));
    StringWriter writer(a.results[0]);
    for (uint64_t i = 0; i < x.count; ++i) {
      writer.append(found[i] == keys.count ? string_at(otherwise, 0) : string_at(values, found[i]));
      writer.finish();
    }
    return INGOT_OK;
  }
  INGOT_TRY(make_tensor(a.allocator, values.type, x.dims, x.rank, &a.results[0], a.error));
  const size_t size = ingot_element_type_bits(values.type) / 8;
  for (uint64_t i = 0; i < x.count; ++i)
    memcpy(a.results[0]->data() + i * size, found[i] == keys.count ? otherwise.data() : values.data() + found[i] * size, size);
  return INGOT_OK;
}

// pool: n-grams one behind the other, counts[n - 1]: where those of n elements begin, indexes: the output of each n-gram,
// weights: of the outputs in order, or none. mode 0 TF, 1 IDF, 2 TFIDF.
Code host_tfidf(const HostOpArgs &a) {
  for (uint32_t i : {0u, 1u})
    if (!a.sources[i] || a.sources[i]->is_list() || !whole_bytes(*a.sources[i]))
      return fail(a.error, INGOT_INVALID_ARGUMENT, "operand %u is no tensor", i);
  INGOT_TRY(need_numbers(a, 2, INGOT_ELEMENT_TYPE_I64));
  INGOT_TRY(need_numbers(a, 3, INGOT_ELEMENT_TYPE_I64));
  INGOT_TRY(need_numbers(a, 4, INGOT_ELEMENT_TYPE_F32));
  const HostObject &x = *a.sources[0], &pool = *a.sources[1], &counts = *a.sources[2], &indexes = *a.sources[3], &weights = *a.sources[4];
  const uint32_t mode = a.immediates[0], shortest = a.immediates[1], longest = a.immediates[2], skips = a.immediates[3];
  if (x.type != pool.type || x.rank < 1 || x.rank > 2 || mode > 2 || shortest < 1 || longest < shortest || longest > counts.count ||
      longest > 64 || (weights.count && weights.count != indexes.count))
    return fail(a.error, INGOT_INVALID_ARGUMENT, "n-grams of %u to %u elements of %s, rank %u", shortest, longest,
                ingot_element_type_name(x.type), x.rank);
  int64_t width = 0;
  for (uint64_t i = 0; i < indexes.count; ++i) {
    const int64_t n = i64_at(indexes, i);
    if (n < 0 || n >= kMaxElements) return fail(a.error, INGOT_OUT_OF_RANGE, "n-gram %llu has output %lld", (unsigned long long)i, (long long)n);
    width = n + 1 > width ? n + 1 : width;
  }
  int64_t dims[2] = {x.dims[0], width};
  if (x.rank == 1) dims[0] = width;
  INGOT_TRY(make_tensor(a.allocator, INGOT_ELEMENT_TYPE_F32, dims, x.rank, &a.results[0], a.error));
  HostObject &y = *a.results[0];
  float *out = reinterpret_cast<float *>(y.data());
  if (y.count) memset(out, 0, y.count * sizeof *out);
  const Keys key(pool), look(x);
  const int64_t row = x.rank == 2 ? x.dims[1] : x.dims[0], rows = x.rank == 2 ? x.dims[0] : 1;
  uint64_t gram = 0; // number of the n-gram, over all lengths
  for (uint32_t n = 1; n <= counts.count && n <= longest; ++n) {
    const int64_t begin = i64_at(counts, n - 1), end = n < counts.count ? i64_at(counts, n) : int64_t(pool.count);
    if (begin < 0 || end < begin || uint64_t(end) > pool.count || (end - begin) % n != 0)
      return fail(a.error, INGOT_OUT_OF_RANGE, "the pool of n-grams of %u elements is %lld to %lld of %llu", n, (long long)begin,
                  (long long)end, (unsigned long long)pool.count);
    for (int64_t g = begin; g < end; g += n, ++gram) {
      if (gram >= indexes.count) return fail(a.error, INGOT_OUT_OF_RANGE, "more n-grams than outputs");
      if (n < shortest) continue;
      const int64_t output = i64_at(indexes, gram);
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t step = 1; step <= (n == 1 || skips == 0 ? 1 : int64_t(skips) < row ? int64_t(skips) + 1 : row); ++step)
          for (int64_t at = 0; at + step * (int64_t(n) - 1) < row; ++at) {
            bool same = true;
            for (int64_t k = 0; same && k < int64_t(n); ++k)
              same = key.equal(look.at(uint64_t(r * row + at + k * step)), key.at(uint64_t(g + k)));
            if (same) out[r * width + output] += 1;
          }
    }
  }
  for (uint64_t i = 0; mode != 0 && i < y.count; ++i) {
    if (mode == 1) out[i] = out[i] > 0;
    if (const uint64_t column = i % uint64_t(width); column < weights.count) out[i] *= reinterpret_cast<const float *>(weights.data())[column];
  }
  return INGOT_OK;
}

} // namespace ingot
