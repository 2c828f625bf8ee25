// Whether a function pointer of stream::Api may call a function as a vendor's header declares it.
#pragma once

#include <type_traits>

#include "src/drivers/stream/api.h"

// Passed alike: in a register for numbers, of one size. What pointers point to is compared where it matters, by size.
template <class Ours, class Theirs>
constexpr bool kSamePassing = sizeof(Ours) == sizeof(Theirs) && std::is_floating_point_v<Ours> == std::is_floating_point_v<Theirs> &&
                              !std::is_class_v<Theirs> && !std::is_union_v<Theirs>;

template <class... Ours, class Result, class... Theirs>
constexpr bool same_functions(int (*)(Ours...), Result (*)(Theirs...)) {
  if constexpr (sizeof...(Ours) != sizeof...(Theirs)) return false;
  else return kSamePassing<int, Result> && (kSamePassing<Ours, Theirs> && ...);
}

// For a member of Api: `same_call<&Api::Init>(cuInit)`.
template <auto Member, class Theirs>
constexpr bool same_call(Theirs theirs) {
  using Ours = std::remove_reference_t<decltype(std::declval<ingot::stream::Api &>().*Member)>;
  return same_functions(static_cast<Ours>(nullptr), theirs);
}
