// Whether a function pointer of a driver's table may call a function as a vendor's header declares it.
#pragma once

#include <cstddef>
#include <type_traits>

// Passed alike: in a register for numbers, of one size, and for structs of one integer. What pointers point to is compared where it
// matters, by size.
template <class T> constexpr size_t kPassedBytes = sizeof(T);
template <> constexpr size_t kPassedBytes<void> = 0;
template <class Ours, class Theirs>
constexpr bool kSamePassing = kPassedBytes<Ours> == kPassedBytes<Theirs> && std::is_floating_point_v<Ours> == std::is_floating_point_v<Theirs> &&
                              std::is_class_v<Ours> == std::is_class_v<Theirs> && (!std::is_class_v<Theirs> || kPassedBytes<Theirs> == 8) &&
                              !std::is_union_v<Theirs>;

template <class Mine, class... Ours, class Result, class... Theirs>
constexpr bool same_functions(Mine (*)(Ours...), Result (*)(Theirs...)) {
  if constexpr (sizeof...(Ours) != sizeof...(Theirs)) return false;
  else return kSamePassing<Mine, Result> && (kSamePassing<Ours, Theirs> && ...);
}

// For a member of a table: `same_call<&Api::Init>(cuInit)`.
template <class Table, class Ours> Ours type_of_member(Ours Table::*);
template <auto Member, class Theirs>
constexpr bool same_call(Theirs theirs) {
  return same_functions(static_cast<decltype(type_of_member(Member))>(nullptr), theirs);
}
