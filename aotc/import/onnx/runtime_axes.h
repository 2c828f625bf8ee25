// Axes that are known only at run time: small integers read from the device, which a chain of Ifs turns into known ones.
#pragma once

#include <functional>

#include "aotc/import/onnx/importer.h"

namespace ingot::aotc::importer {

// Input `i` as axes of a tensor of this rank: host values in [-rank, rank), read at run time where they must be.
std::vector<Expr> axis_values(Node &node, size_t i, int64_t rank);

// 1 where one of `axes` is axis `a` of a tensor of this rank, else 0.
Expr names_axis(const std::vector<Expr> &axes, int64_t a, int64_t rank);

// The result of `build` for the set of axes that the run-time values name, each possible set in a branch of its own.
//   before: y = ReduceSum(x[2,3], axes)          axes: i64[1] of the model's inputs
//   after:  if axes == 0 { build({0}) } else { build({1}) }
// The axes must be distinct (checked at run time); all results have one rank.
ValueId choose_axes(Node &node, const std::vector<Expr> &axes, int64_t rank,
                    const std::function<ValueId(const std::vector<uint32_t> &)> &build);

} // namespace ingot::aotc::importer
