// Ingot: lists, optionals and strings in C++17, header-only over <ingot/values.h>.
//
//   auto archive = ingot::values::map("model.ingot");                 // Result<Archive>
//   ingot::Value words, out;
//   words.set_strings({{"a", 1}, {"b", 1}}, {2});
//   session->run({words.view({2})}, {out.view()});                    // out.kind(), out.string(i), ...
#pragma once

#include <ingot/ingot.hpp>
#include <ingot/values.h>

namespace ingot {

using String = ingot_string_t;
using ValueKind = ingot_value_kind_t;

// Nothing, a tensor, strings, or a list of tensors.
class Value {
public:
  explicit Value(const ingot_allocator_t *allocator = nullptr) {
    ingot_value_t *out = nullptr;
    ingot_error_t error;
    ingot_value_create(allocator, &out, &error); // out of memory, or a build without values: each use says so
    handle_ = detail::Handle<ingot_value_t, ingot_value_release>(out);
  }

  void set_none() { ingot_value_set_none(get()); }
  Status set_tensor(const Tensor &tensor) {
    Status status;
    return status.set(ingot_value_set_tensor(get(), &tensor, status.slot()));
  }
  Status set_strings(Span<const String> strings, Span<const int64_t> dims) {
    Status status;
    return status.set(ingot_value_set_strings(get(), strings.data(), dims.data(), static_cast<uint32_t>(dims.size()), status.slot()));
  }
  template <size_t N, size_t Rank> Status set_strings(const String (&strings)[N], const int64_t (&dims)[Rank]) {
    return set_strings(Span<const String>(strings, N), Span<const int64_t>(dims, Rank));
  }
  // `type` counts where there are no elements.
  Status set_list(ElementType type, Span<const ingot_value_t *const> elements) {
    Status status;
    return status.set(ingot_value_set_list(get(), type, elements.data(), elements.size(), status.slot()));
  }
  template <size_t N> Status set_list(ElementType type, const ingot_value_t *const (&elements)[N]) {
    return set_list(type, Span<const ingot_value_t *const>(elements, N));
  }

  ValueKind kind() const { return ingot_value_kind(get()); }
  size_t count() const { return ingot_value_count(get()); }
  Result<Tensor> tensor(uint32_t element = INGOT_NONE) const {
    Status status;
    Tensor out{};
    if (!status.set(ingot_value_tensor(get(), element, &out, status.slot()))) return status;
    return static_cast<Tensor &&>(out);
  }
  Result<String> string(uint64_t index, uint32_t element = INGOT_NONE) const {
    Status status;
    String out{};
    if (!status.set(ingot_value_string(get(), element, index, &out, status.slot()))) return status;
    return static_cast<String &&>(out);
  }

  // As an input or output of a run: strings with their dims (of outputs -1 where they depend on data), or a list or an
  // optional.
  template <size_t Rank> Tensor view(const int64_t (&dims)[Rank]) const {
    return detail::make_view(get(), INGOT_ELEMENT_TYPE_STRING, 0, dims, Rank);
  }
  Tensor view() const { return detail::make_view(get(), INGOT_ELEMENT_TYPE_VALUE, 0, nullptr, 0); }
  ingot_value_t *get() const { return handle_.get(); }

private:
  detail::Handle<ingot_value_t, ingot_value_release> handle_;
};

namespace values {

// As Archive::map, for archives that work with values too.
inline Result<Archive> map(const char *path, const ingot_allocator_t *allocator = nullptr) {
  Status status;
  ingot_archive_t *out = nullptr;
  if (!status.set(ingot_values_archive_map(allocator, path, &out, status.slot()))) return status;
  return Archive(out);
}

} // namespace values
} // namespace ingot
