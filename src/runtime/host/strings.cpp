// Host ops on strings: comparison, concatenation, splitting, normalisation.
#include "src/runtime/host/ops.h"
#include "src/runtime/host/utf8.h"

namespace ingot {

namespace {

struct CaseRange {
  uint32_t first, last, step;
  int32_t difference;
};
#include "src/runtime/host/case_table.inc"

template <size_t N> uint32_t map_case(uint32_t c, const CaseRange (&table)[N]) {
  size_t low = 0, high = N;
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (table[middle].last < c) low = middle + 1;
    else high = middle;
  }
  if (low == N || c < table[low].first || (c - table[low].first) % table[low].step != 0) return c;
  return uint32_t(int64_t(c) + table[low].difference);
}

uint32_t to_lower(uint32_t c) { return c < 0x80 ? (c >= 'A' && c <= 'Z' ? c + 32 : c) : map_case(c, kToLower); }
uint32_t to_upper(uint32_t c) { return c < 0x80 ? (c >= 'a' && c <= 'z' ? c - 32 : c) : map_case(c, kToUpper); }

// Calls put(data, size) with each character of the text in that case; bytes that are no UTF-8 stay as they are.
template <class Put> void cased(Text text, uint32_t action, Put put) {
  for (size_t at = 0, length; at < text.size; at += length) {
    const uint32_t c = decode_utf8(text.data, text.size, at, &length);
    const uint32_t to = action == 1 ? to_lower(c) : action == 2 ? to_upper(c) : c;
    char bytes[4];
    if (to == c) put(text.data + at, length);
    else put(static_cast<const char *>(bytes), encode_utf8(to, bytes));
  }
}

bool equal_without_case(Text a, Text b) {
  size_t i = 0, j = 0, m, n;
  while (i < a.size && j < b.size) {
    if (to_lower(decode_utf8(a.data, a.size, i, &m)) != to_lower(decode_utf8(b.data, b.size, j, &n))) return false;
    i += m;
    j += n;
  }
  return i == a.size && j == b.size;
}

bool is_space(uint32_t c) {
  return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
         c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

// Pieces of a text, one after the other: between runs of white space, or between delimiters.
class Pieces {
public:
  Pieces(Text text, Text delimiter, uint64_t most) : text_(text), delimiter_(delimiter), left_(most) {}
  bool next(Text *out) {
    if (delimiter_.size == 0) return next_word(out);
    if (done_) return false;
    size_t end = text_.size;
    if (left_)
      for (size_t i = at_; delimiter_.size <= text_.size && i <= text_.size - delimiter_.size; ++i)
        if (memcmp(text_.data + i, delimiter_.data, delimiter_.size) == 0) {
          end = i;
          break;
        }
    *out = {text_.data + at_, end - at_};
    done_ = end == text_.size;
    at_ = end + (done_ ? 0 : delimiter_.size);
    if (left_) --left_;
    // A delimiter at the very end leaves an empty piece behind it.
    return true;
  }

private:
  bool next_word(Text *out) {
    size_t length;
    while (at_ < text_.size && is_space(decode_utf8(text_.data, text_.size, at_, &length))) at_ += length;
    if (at_ == text_.size) return false;
    const size_t begin = at_;
    if (left_ == 0) at_ = text_.size;
    else --left_;
    while (at_ < text_.size && !is_space(decode_utf8(text_.data, text_.size, at_, &length))) at_ += length;
    *out = {text_.data + begin, at_ - begin};
    return true;
  }

  Text text_, delimiter_;
  uint64_t left_; // splits that may still be made
  size_t at_ = 0;
  bool done_ = false;
};

} // namespace

Code host_equal(const HostOpArgs &a) {
  INGOT_TRY(need_strings(a, 0));
  INGOT_TRY(need_strings(a, 1));
  const HostObject &x = *a.sources[0], &y = *a.sources[1];
  int64_t dims[INGOT_MAX_RANK];
  uint32_t rank;
  INGOT_TRY(broadcast(x, y, dims, &rank, a.error));
  INGOT_TRY(make_tensor(a.allocator, INGOT_ELEMENT_TYPE_BOOL, dims, rank, &a.results[0], a.error));
  for (uint64_t i = 0; i < a.results[0]->count; ++i)
    a.results[0]->data()[i] =
        string_at(x, broadcast_index(x, dims, rank, i)) == string_at(y, broadcast_index(y, dims, rank, i));
  return INGOT_OK;
}

Code host_join(const HostOpArgs &a) {
  INGOT_TRY(need_strings(a, 0));
  INGOT_TRY(need_strings(a, 1));
  const HostObject &x = *a.sources[0], &y = *a.sources[1];
  int64_t dims[INGOT_MAX_RANK];
  uint32_t rank;
  uint64_t count = 0, text = 0;
  INGOT_TRY(broadcast(x, y, dims, &rank, a.error));
  INGOT_TRY(count_elements(dims, rank, &count, a.error));
  const auto left = [&](uint64_t i) { return string_at(x, broadcast_index(x, dims, rank, i)); };
  const auto right = [&](uint64_t i) { return string_at(y, broadcast_index(y, dims, rank, i)); };
  Array<uint64_t> sizes; // made first: what does not fit into memory is not worked on
  INGOT_TRY(sizes.create(a.allocator, count, "strings", a.error));
  for (uint64_t i = 0; i < count; ++i) text += sizes[i] = left(i).size + right(i).size; // 2^31 strings of at most 2^41 bytes
  INGOT_TRY(make_strings(a.allocator, dims, rank, text, &a.results[0], a.error));
  StringWriter writer(a.results[0]);
  for (uint64_t i = 0; i < count; ++i) {
    writer.append(left(i));
    writer.append(right(i));
    writer.finish();
  }
  return INGOT_OK;
}

Code host_tokenize(const HostOpArgs &a) {
  INGOT_TRY(need_strings(a, 0));
  const HostObject &x = *a.sources[0];
  Text delimiter;
  if (a.source_count > 1) {
    INGOT_TRY(need_strings(a, 1));
    if (a.sources[1]->count != 1) return fail(a.error, INGOT_INVALID_ARGUMENT, "%llu delimiters, expected one", (unsigned long long)a.sources[1]->count);
    delimiter = string_at(*a.sources[1], 0);
  }
  const uint64_t most = a.immediates[0] ? a.immediates[0] - 1 : UINT64_MAX;
  if (x.rank == INGOT_MAX_RANK) return fail(a.error, INGOT_OUT_OF_RANGE, "the pieces would have rank 9");
  INGOT_TRY(make_tensor(a.allocator, INGOT_ELEMENT_TYPE_I64, x.dims, x.rank, &a.results[1], a.error));
  int64_t *counts = reinterpret_cast<int64_t *>(a.results[1]->data());
  int64_t width = 0;
  uint64_t text = 0;
  Text piece;
  for (uint64_t i = 0; i < x.count; ++i) {
    counts[i] = 0;
    for (Pieces pieces(string_at(x, i), delimiter, most); pieces.next(&piece); text += piece.size) ++counts[i];
    width = counts[i] > width ? counts[i] : width;
  }
  int64_t dims[INGOT_MAX_RANK];
  for (uint32_t d = 0; d < x.rank; ++d) dims[d] = x.dims[d];
  dims[x.rank] = width;
  INGOT_TRY(make_strings(a.allocator, dims, x.rank + 1, text, &a.results[0], a.error));
  StringWriter writer(a.results[0]);
  for (uint64_t i = 0; i < x.count; ++i) {
    Pieces pieces(string_at(x, i), delimiter, most);
    for (int64_t k = 0; k < width; ++k) {
      if (pieces.next(&piece)) writer.append(piece);
      writer.finish();
    }
  }
  return INGOT_OK;
}

Code host_normalize(const HostOpArgs &a) {
  INGOT_TRY(need_strings(a, 0));
  INGOT_TRY(need_strings(a, 1));
  const HostObject &x = *a.sources[0], &stopwords = *a.sources[1];
  const uint32_t action = a.immediates[0];
  if (action > 2) return fail(a.error, INGOT_CORRUPT, "case change %u is unknown", action);
  if (x.rank < 1 || x.rank > 2 || (x.rank == 2 && x.dims[0] != 1))
    return fail(a.error, INGOT_INVALID_ARGUMENT, "strings of rank %u, expected [n] or [1, n]", x.rank);
  const auto stays = [&](Text text) {
    for (uint64_t i = 0; i < stopwords.count; ++i) {
      const Text word = string_at(stopwords, i);
      if (a.immediates[1] ? word == text : equal_without_case(word, text)) return false;
    }
    return true;
  };
  int64_t kept = 0;
  uint64_t text = 0;
  for (uint64_t i = 0; i < x.count; ++i)
    if (stays(string_at(x, i))) {
      ++kept;
      cased(string_at(x, i), action, [&](const char *, size_t size) { text += size; });
    }
  int64_t dims[2] = {1, 1}; // where nothing is left, one empty string
  dims[x.rank - 1] = kept ? kept : 1;
  INGOT_TRY(make_strings(a.allocator, dims, x.rank, text, &a.results[0], a.error));
  StringWriter writer(a.results[0]);
  for (uint64_t i = 0; i < x.count; ++i)
    if (stays(string_at(x, i))) {
      cased(string_at(x, i), action, [&](const char *data, size_t size) { writer.append(data, size); });
      writer.finish();
    }
  if (!kept) writer.finish();
  return INGOT_OK;
}

} // namespace ingot
