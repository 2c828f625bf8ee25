// The effects of a dispatch (stores and checks) and the axes that workgroups can divide among them.
#pragma once

#include <cstdint>
#include <vector>

#include "aotc/dispatch/dispatch.h"
#include "aotc/schedule/lower.h"

namespace ingot::aotc::schedule {

// A store, or a check where `check` is set.
struct Sink {
  std::vector<uint32_t> axes; // ascending
  std::vector<dispatch::ValueId> values;
  const dispatch::Store *store = nullptr;
  const dispatch::Check *check = nullptr;
};

std::vector<Sink> sinks_of(const dispatch::Dispatch &d);

// Axes that every store has and no value reduces: rows that are independent of each other. Ascending.
std::vector<uint32_t> row_axes(const dispatch::Dispatch &d);

// Whether every check is of a row alone: its condition depends on no other axis than `rows`.
bool checks_rows_only(const dispatch::Dispatch &d, const std::vector<uint32_t> &rows);

Expr extent_product(const dispatch::Dispatch &d, const std::vector<uint32_t> &axes);

// Binds `axes` from their flattened number (row-major).
void bind_flat(Lowering &l, const std::vector<uint32_t> &axes, kernel::ValueId flat);
// The same in two steps: the axes' values, and binding them, perhaps more than once.
kernel::Values unflatten(Lowering &l, const std::vector<uint32_t> &axes, kernel::ValueId flat);
void bind_axes(Lowering &l, const std::vector<uint32_t> &axes, const kernel::Values &values);

// Emits the sink: loops over those of its axes that are not bound, then its effect.
void emit_sink(Lowering &l, const Sink &sink);

// A number that stands for a possibly symbolic extent where only sizes of blocks are decided: what is known of it,
// else a middling guess. It depends on the dispatch alone.
int64_t typical(const Expr &e);
// The same for all points of the axes together, at most 2^24.
int64_t typical_points(const dispatch::Dispatch &d, const std::vector<uint32_t> &axes);

} // namespace ingot::aotc::schedule
