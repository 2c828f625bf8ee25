// Graph attributes: bodies of If, Loop and Scan, and functions that an operator applies.
#pragma once

#include "aotc/import/onnx/importer.h"

namespace ingot::aotc::importer {

// Imports the nodes of `proto` into the builder's current graph and finds its outputs; `scope` holds its inputs. In place of
// a node there are none where the body imported what follows that node too (Rest::taken).
std::vector<ValuePtr> import_body(Node &node, Scope &scope, const onnx::GraphProto &proto, const InPlace *in_place = nullptr);

// Symbols that ops of a region bind (read scalars, iterations): they mean nothing outside of it.
void bound_inside(const graph::Graph &graph, std::set<Symbol> &out);
bool free_of(const Expr &expr, const std::set<Symbol> &symbols);

} // namespace ingot::aotc::importer
