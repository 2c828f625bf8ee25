// Sums of products on matrix units, with the tile.
#pragma once

#include <optional>

#include "aotc/schedule/schedule.h"

namespace ingot::aotc::schedule {

// Tile number `tile` of the table, round and round (-1: chosen by the sizes, which may also say that the form does not pay).
// Nothing where the dispatch is not of the form or the record has no units for it.
std::optional<Scheduled> schedule_simt_fragments(const dispatch::Dispatch &d, const TargetRecord &record, int tile);

// The 8-bit value that is widened to i32 and nothing else; nothing where `side` is something else.
std::optional<dispatch::ValueId> byte_value(const dispatch::Dispatch &d, dispatch::ValueId side);

// The load of an f16 value that is converted to f32 and nothing else; nothing where `side` is something else.
std::optional<dispatch::ValueId> half_load(const dispatch::Dispatch &d, dispatch::ValueId side);

} // namespace ingot::aotc::schedule
