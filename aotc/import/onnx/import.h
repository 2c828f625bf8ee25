// Import of ONNX models (opsets 7 to 27) into the graph IR.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "aotc/base/diagnostics.h"
#include "aotc/graph/graph.h"

namespace ingot::aotc {

// A node of the model's own graph, and those of its outputs that are outputs of the function.
struct ProbedNode {
  std::string name, op;                  // op as the model writes it: "Conv", "com.example.Fancy"
  std::vector<std::string> inputs, outputs;
};

struct Probe {
  std::vector<std::string> outputs;      // the model's own
  std::vector<ProbedNode> nodes;         // in the order of the model
};

struct ImportOptions {
  std::string path;                      // the model; external data is looked for beside it
  std::vector<std::string> input_shapes; // "NAME=1x3x48x320"; '?' keeps a dim as it is, "a..b" makes it dynamic in a range
  // "INPUT:OUTPUT", where OUTPUT is the concatenation of INPUT and what a run adds: they leave the signature and become a
  // state that grows in place (states.cpp). One '*' on both sides stands for the same text.
  std::vector<std::string> states;
  std::string entry = "main";            // name of the function
  // Where set, what every node computes becomes an output of the function too, after the model's own outputs, and the
  // nodes are listed here. Nodes of sub-graphs and functions are not among them, nor are
  // Constants and elements of types that are stored as others (narrow.h).
  Probe *probe = nullptr;
};

// Reads, checks and lowers the model. Every problem found is added to `diagnostics`; the result is empty exactly if
// there is one. Shape arithmetic is folded to expressions and nodes without use are dropped. Free dims carry a range
// (1..2^20 unless an input shape says otherwise); inputs that are also initialisers are constants.
std::optional<graph::Function> import_onnx(const ImportOptions &options, Diagnostics &diagnostics);

// The same for a model in memory (a serialised ModelProto). `options.path` names it in diagnostics and locates
// external data.
std::optional<graph::Function> import_onnx_bytes(const std::string &bytes, const ImportOptions &options,
                                                 Diagnostics &diagnostics);

// Operators that can be imported, sorted: "ai.onnx Conv 7-27".
std::vector<std::string> list_onnx_operators();

} // namespace ingot::aotc
