// Host ops on lists of tensors, and on elements without regard to what they are.
#include "src/runtime/host/ops.h"

namespace ingot {

namespace {

Code not_a(const HostOpArgs &a, uint32_t source, const char *what) {
  const HostObject *o = a.sources[source];
  return fail(a.error, INGOT_INVALID_ARGUMENT, "operand %u is %s of %s, expected %s", source,
              !o ? "nothing" : o->is_list() ? "a list" : "a tensor", o ? ingot_element_type_name(o->type) : "no type", what);
}

bool is_tensor(const HostObject *o) { return o && !o->is_list(); }

// An index that may count from the end, of `count` things; `past`: the place behind the last is one too.
Code resolve(const HostOpArgs &a, int64_t index, uint64_t count, bool past, uint64_t *out) {
  const int64_t n = int64_t(count), most = past ? n : n - 1;
  if (index < -n || index > most)
    return fail(a.error, INGOT_OUT_OF_RANGE, "position %lld of a list of %lld", (long long)index, (long long)n);
  *out = uint64_t(index < 0 ? index + n : index);
  return INGOT_OK;
}

// A list takes elements of one type.
Code same_type(const HostOpArgs &a, ingot_element_type_t list, ingot_element_type_t element) {
  if (list == element || list == INGOT_ELEMENT_TYPE_NONE) return INGOT_OK;
  return fail(a.error, INGOT_INVALID_ARGUMENT, "a list of %s takes no %s", ingot_element_type_name(list), ingot_element_type_name(element));
}

uint64_t product(const int64_t *dims, uint32_t begin, uint32_t end) { // of an object's dims: no overflow
  uint64_t n = 1;
  for (uint32_t i = begin; i < end; ++i) n *= uint64_t(dims[i]);
  return n;
}

// The elements of `from` with flat numbers that index(i) gives, i = 0 .. count - 1, in a tensor of these dims.
template <class Index>
Code gather(const HostOpArgs &a, const HostObject &from, const int64_t *dims, uint32_t rank, Index index, Ref *out) {
  if (from.type == INGOT_ELEMENT_TYPE_STRING) {
    uint64_t count = 0, text = 0;
    INGOT_TRY(count_elements(dims, rank, &count, a.error));
    for (uint64_t i = 0; i < count; ++i) text += string_at(from, index(i)).size;
    INGOT_TRY(make_strings(a.allocator, dims, rank, text, out, a.error));
    StringWriter writer(*out);
    for (uint64_t i = 0; i < count; ++i) {
      writer.append(string_at(from, index(i)));
      writer.finish();
    }
    return INGOT_OK;
  }
  const uint32_t bits = ingot_element_type_bits(from.type);
  if (bits % 8 != 0) return fail(a.error, INGOT_UNIMPLEMENTED, "elements of %s are packed", ingot_element_type_name(from.type));
  INGOT_TRY(make_tensor(a.allocator, from.type, dims, rank, out, a.error));
  const size_t size = bits / 8;
  for (uint64_t i = 0; i < (*out)->count; ++i) memcpy((*out)->data() + i * size, from.data() + index(i) * size, size);
  return INGOT_OK;
}

} // namespace

Code need_list(const HostOpArgs &a, uint32_t source) {
  return a.sources[source] && a.sources[source]->is_list() ? Code(INGOT_OK) : not_a(a, source, "a list");
}
Code need_numbers(const HostOpArgs &a, uint32_t source, ingot_element_type_t type) {
  const HostObject *o = a.sources[source];
  const bool good = is_tensor(o) && !o->is_strings() && (type == INGOT_ELEMENT_TYPE_NONE || o->type == type);
  return good ? Code(INGOT_OK) : not_a(a, source, type ? ingot_element_type_name(type) : "a tensor of numbers");
}
Code need_strings(const HostOpArgs &a, uint32_t source) {
  return a.sources[source] && a.sources[source]->is_strings() ? Code(INGOT_OK) : not_a(a, source, "a tensor of strings");
}
Code need_integers(const HostOpArgs &a, uint32_t source) {
  const HostObject *o = a.sources[source];
  const bool good = is_tensor(o) && (o->type == INGOT_ELEMENT_TYPE_I32 || o->type == INGOT_ELEMENT_TYPE_I64);
  return good ? Code(INGOT_OK) : not_a(a, source, "a tensor of i32 or i64");
}

Code broadcast(const HostObject &x, const HostObject &y, int64_t *dims, uint32_t *rank, Error *error) {
  *rank = x.rank > y.rank ? x.rank : y.rank;
  for (uint32_t i = 0; i < *rank; ++i) {
    const uint32_t from_end = *rank - i;
    const int64_t p = from_end <= x.rank ? x.dims[x.rank - from_end] : 1, q = from_end <= y.rank ? y.dims[y.rank - from_end] : 1;
    if (p != q && p != 1 && q != 1)
      return fail(error, INGOT_INVALID_ARGUMENT, "dims %lld and %lld do not broadcast", (long long)p, (long long)q);
    dims[i] = p == 1 ? q : p;
  }
  return INGOT_OK;
}

uint64_t broadcast_index(const HostObject &from, const int64_t *dims, uint32_t rank, uint64_t index) {
  uint64_t at = 0, stride = 1;
  for (uint32_t i = 0; i < rank; ++i) {
    const uint64_t coordinate = index % uint64_t(dims[rank - 1 - i]);
    index /= uint64_t(dims[rank - 1 - i]);
    if (i >= from.rank) continue;
    const int64_t own = from.dims[from.rank - 1 - i];
    if (own != 1) at += coordinate * stride;
    stride *= uint64_t(own);
  }
  return at;
}

Code host_construct(const HostOpArgs &a) {
  for (uint32_t i = 0; i < a.source_count; ++i) {
    if (!is_tensor(a.sources[i])) return not_a(a, i, "a tensor");
    INGOT_TRY(same_type(a, a.sources[0]->type, a.sources[i]->type));
  }
  INGOT_TRY(make_list(a.allocator, a.sources[0]->type, a.source_count, &a.results[0], a.error));
  for (uint32_t i = 0; i < a.source_count; ++i) set_element(a.results[0], i, const_cast<HostObject *>(a.sources[i]));
  return INGOT_OK;
}

Code host_insert(const HostOpArgs &a) {
  INGOT_TRY(need_list(a, 0));
  const HostObject &list = *a.sources[0];
  if (!is_tensor(a.sources[1])) return not_a(a, 1, "a tensor");
  INGOT_TRY(same_type(a, list.type, a.sources[1]->type));
  uint64_t at = list.count;
  if (a.expr_count) INGOT_TRY(resolve(a, a.exprs[0], list.count, true, &at));
  INGOT_TRY(make_list(a.allocator, a.sources[1]->type, list.count + 1, &a.results[0], a.error));
  for (uint64_t i = 0; i < list.count; ++i) set_element(a.results[0], i + (i >= at), list.elements()[i]);
  set_element(a.results[0], at, const_cast<HostObject *>(a.sources[1]));
  return INGOT_OK;
}

Code host_erase(const HostOpArgs &a) {
  INGOT_TRY(need_list(a, 0));
  const HostObject &list = *a.sources[0];
  uint64_t at = 0;
  INGOT_TRY(resolve(a, a.expr_count ? a.exprs[0] : -1, list.count, false, &at));
  INGOT_TRY(make_list(a.allocator, list.type, list.count - 1, &a.results[0], a.error));
  for (uint64_t i = 0; i < list.count; ++i)
    if (i != at) set_element(a.results[0], i - (i > at), list.elements()[i]);
  return INGOT_OK;
}

Code host_at(const HostOpArgs &a) {
  INGOT_TRY(need_list(a, 0));
  uint64_t at = 0;
  INGOT_TRY(resolve(a, a.exprs[0], a.sources[0]->count, false, &at));
  a.results[0] = Ref::share(a.sources[0]->elements()[at]);
  return INGOT_OK;
}

// before: x [3, 6], axis 1, parts of 4; after: [3, 4], [3, 2]
Code host_split(const HostOpArgs &a) {
  if (!is_tensor(a.sources[0])) return not_a(a, 0, "a tensor");
  const HostObject &x = *a.sources[0];
  const bool keep = a.immediates[1] != 0 || a.source_count > 1;
  int64_t axis = int32_t(a.immediates[0]);
  if (axis < 0) axis += x.rank;
  if (axis < 0 || axis >= x.rank) return fail(a.error, INGOT_OUT_OF_RANGE, "axis %d of rank %u", int32_t(a.immediates[0]), x.rank);
  const int64_t extent = x.dims[axis];
  int64_t part = 1;
  const HostObject *sizes = nullptr;
  if (a.source_count > 1) {
    INGOT_TRY(need_integers(a, 1));
    sizes = a.sources[1]->rank == 0 ? nullptr : a.sources[1];
    if (!sizes) part = i64_at(*a.sources[1], 0);
    if (part < 1) return fail(a.error, INGOT_OUT_OF_RANGE, "parts of %lld", (long long)part);
    int64_t sum = 0;
    for (uint64_t i = 0; sizes && i < sizes->count; ++i) {
      const int64_t n = i64_at(*sizes, i);
      if (n < 0 || n > extent - sum)
        return fail(a.error, INGOT_OUT_OF_RANGE, "the sizes of the parts do not add up to %lld", (long long)extent);
      sum += n;
    }
    if (sizes && sum != extent)
      return fail(a.error, INGOT_OUT_OF_RANGE, "the sizes of the parts add up to %lld, not %lld", (long long)sum, (long long)extent);
  }
  const uint64_t parts = sizes ? sizes->count : uint64_t((extent + part - 1) / part);
  INGOT_TRY(make_list(a.allocator, x.type, parts, &a.results[0], a.error));
  const uint64_t inner = product(x.dims, uint32_t(axis) + 1, x.rank);
  int64_t begin = 0;
  for (uint64_t p = 0; p < parts; ++p) {
    const int64_t own = sizes ? i64_at(*sizes, p) : extent - begin < part ? extent - begin : part;
    int64_t dims[INGOT_MAX_RANK];
    uint32_t rank = 0;
    for (uint32_t d = 0; d < x.rank; ++d)
      if (d != uint32_t(axis) || keep) dims[rank++] = d == uint32_t(axis) ? own : x.dims[d];
    const uint64_t run = uint64_t(own) * inner, step = uint64_t(extent) * inner, offset = uint64_t(begin) * inner;
    Ref element;
    INGOT_TRY(gather(a, x, dims, rank, [&](uint64_t i) { return i / run * step + offset + i % run; }, &element));
    set_element(a.results[0], p, element.get());
    begin += own;
  }
  return INGOT_OK;
}

Code host_concat(const HostOpArgs &a) {
  INGOT_TRY(need_list(a, 0));
  const HostObject &list = *a.sources[0];
  if (list.count == 0) return fail(a.error, INGOT_INVALID_ARGUMENT, "an empty list has no concatenation");
  const HostObject &first = *list.elements()[0];
  const bool stack = a.immediates[1] != 0;
  const uint32_t rank = first.rank + stack;
  int64_t axis = int32_t(a.immediates[0]);
  if (axis < 0) axis += rank;
  if (axis < 0 || axis >= rank || rank > INGOT_MAX_RANK)
    return fail(a.error, INGOT_OUT_OF_RANGE, "axis %d of rank %u", int32_t(a.immediates[0]), rank);
  const uint32_t at = uint32_t(axis);
  int64_t dims[INGOT_MAX_RANK];
  for (uint32_t d = 0; d < rank; ++d) dims[d] = !stack || d < at ? (d < first.rank ? first.dims[d] : 1) : d == at ? 1 : first.dims[d - 1];
  int64_t sum = 0;
  uint64_t text = 0;
  for (uint64_t i = 0; i < list.count; ++i) {
    const HostObject &e = *list.elements()[i];
    bool same = e.rank == first.rank && e.type == first.type;
    for (uint32_t d = 0; same && d < e.rank; ++d) same = (!stack && d == at) || e.dims[d] == first.dims[d];
    if (!same) return fail(a.error, INGOT_INVALID_ARGUMENT, "element %llu of the list has other dims than the first", (unsigned long long)i);
    sum += stack ? 1 : e.dims[at]; // of at most 2^31 elements of at most 2^31
    if (e.is_strings()) text += e.bytes - 8 * (e.count + 1);
  }
  dims[at] = sum;
  const uint64_t outer = product(dims, 0, at);
  const bool strings = first.is_strings();
  if (strings) INGOT_TRY(make_strings(a.allocator, dims, rank, text, &a.results[0], a.error));
  else INGOT_TRY(make_tensor(a.allocator, first.type, dims, rank, &a.results[0], a.error));
  const uint32_t bits = strings ? 8 : ingot_element_type_bits(first.type);
  if (bits % 8 != 0) return fail(a.error, INGOT_UNIMPLEMENTED, "elements of %s are packed", ingot_element_type_name(first.type));
  StringWriter *writer = nullptr;
  alignas(StringWriter) uint8_t room[sizeof(StringWriter)];
  if (strings) writer = new (room) StringWriter(a.results[0]);
  uint8_t *to = a.results[0]->data();
  if (a.results[0]->count == 0) return INGOT_OK;
  for (uint64_t o = 0; o < outer; ++o)
    for (uint64_t i = 0; i < list.count; ++i) {
      const HostObject &e = *list.elements()[i];
      const uint64_t run = e.count / outer; // outer divides it: the dims before the axis are the element's
      if (strings) {
        for (uint64_t k = 0; k < run; ++k) {
          writer->append(string_at(e, o * run + k));
          writer->finish();
        }
        continue;
      }
      memcpy(to, e.data() + o * run * (bits / 8), run * (bits / 8));
      to += run * (bits / 8);
    }
  return INGOT_OK;
}

Code host_take(const HostOpArgs &a) {
  if (!is_tensor(a.sources[0])) return not_a(a, 0, "a tensor");
  INGOT_TRY(need_integers(a, 1));
  const HostObject &x = *a.sources[0], &indices = *a.sources[1];
  for (uint64_t i = 0; i < indices.count; ++i)
    if (const int64_t n = i64_at(indices, i); n < 0 || uint64_t(n) >= x.count)
      return fail(a.error, INGOT_OUT_OF_RANGE, "element %lld of %llu", (long long)n, (unsigned long long)x.count);
  return gather(a, x, indices.dims, indices.rank, [&](uint64_t i) { return uint64_t(i64_at(indices, i)); }, &a.results[0]);
}

} // namespace ingot
