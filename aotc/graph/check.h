// Rules of one op: shared by the builder (a broken rule is a bug of the importer) and the verifier.
#pragma once

#include <string>

#include "aotc/graph/graph.h"

namespace ingot::aotc::graph {

std::string_view name(Opcode code);  // "constant", "read_scalar" ...
std::optional<Opcode> parse_opcode(std::string_view text);
std::string_view name(PadMode mode); // "constant", "reflect", "edge", "wrap"
std::string_view name(PoolMode mode);
std::string_view name(dispatch::ReduceKind kind);

// Result dim of a window that slides: floor((in + low + high - (dilation * (kernel - 1) + 1)) / stride) + 1.
Expr window_extent(const Expr &in, const Expr &low, const Expr &high, const Expr &kernel, int64_t stride, int64_t dilation);

// Empty if the operands, attributes and result types of `op` fit together; else what is wrong. Regions are not entered.
std::string check_op(const Function &function, const Op &op);

} // namespace ingot::aotc::graph
