// Fusion: graph -> steps, most of which are dispatches.
//
// Every tensor of the graph is either materialised (it has memory and one dispatch computes it: it is a root) or inlined
// into the one root that uses it. Which, is decided backwards over the graph:
//
//   before                                    after
//   %m = reduce max %x over j                 softmax: one dispatch over rows, root %p
//   %d = sub %x, broadcast %m
//   %e = exp %d
//   %s = reduce add %e over j
//   %p = div %e, broadcast %s
//
// Views (reshape, transpose, slice, broadcast, constant pad) become index expressions wherever they are used. A map is
// inlined into the root if every use ends there and it would not be computed more than once per element of its row. A
// contraction or convolution takes elementwise epilogues; at most one of them is in a dispatch, and no row reduction
// beside it. Reshapes of materialised tensors share their memory. Attention (attention.h) may be one dispatch with two
// contractions. What is appended to a state is written into its memory by a dispatch of its own, whose users load from
// there.
//
// Assumes a verified graph. After it, no graph op is left: the steps and dispatches say everything.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "aotc/dispatch/dispatch.h"
#include "aotc/graph/graph.h"

namespace ingot::aotc::fuse {

// Memory that dispatches read and write. Numbered over the function.
using TensorId = uint32_t;

struct Tensor {
  enum class Kind : uint8_t { kInput, kOutput, kConstant, kTransient, kPrepared, kState } kind = Kind::kTransient;
  uint32_t index = 0;                                  // kInput, kOutput: position in the signature; kState: number;
                                                       // kPrepared: number in the variant (plan::join_prepare)
  graph::TensorType type;
  std::string name;
  std::shared_ptr<const graph::ConstantData> constant; // kConstant
  bool splat = false;                                  // kConstant: one element, repeated over the type's dims
};

struct Step;
using Steps = std::vector<Step>;

struct LoopStep {
  graph::LoopInfo info;
  std::optional<TensorId> condition;                   // bool scalar, read after each iteration
  struct Carried {
    TensorId state, next;                              // next is copied to state after each iteration
  };
  std::vector<Carried> carried;
  struct Scan {
    TensorId slice, whole;                             // slice is copied to whole at iteration * bytes of slice
  };
  std::vector<Scan> scans;
  // Sizes that change from iteration to iteration get what the body found: of what is stacked before it is copied, of
  // carried values after that and before they are.
  struct Size {
    Symbol symbol, next;
    bool carried;
  };
  std::vector<Size> sizes;
};

struct HostStep {
  program::HostOp code;
  size_t results = 0;                                  // how many operands of the step, the last ones, it writes
  std::vector<Expr> exprs;
  std::vector<Symbol> symbols;
  std::vector<int64_t> immediates;
};

// When a step is done: from <= measure < until. Steps of one group (0 is none) are alternatives, or parts of one, of which the
// sizes choose one.
struct SizeRange {
  uint32_t group = 0;
  Expr measure;
  int64_t from = 0, until = INT64_MAX;
  Expr holds() const { // 0 or 1
    const Expr below = until == INT64_MAX ? Expr(1) : less(measure, until);
    return from == 0 ? below : logical_and(less_equal(from, measure), below);
  }
};

struct Step {
  enum class Kind : uint8_t { kDispatch, kCopy, kReadScalar, kCheck, kIf, kLoop, kBind, kHost } kind = Kind::kDispatch;
  std::string node;                                    // source node, for messages
  uint32_t dispatch = 0;                               // kDispatch: number in Program::dispatches
  std::optional<SizeRange> sizes;                      // kDispatch
  std::vector<TensorId> operands;                      // kDispatch: in the order of its operands; kCopy: {from, to};
                                                       // kReadScalar: {tensor}
  Symbol symbol;                                       // kReadScalar, kBind
  Expr condition;                                      // kCheck, kIf; kBind: the symbol's value
  std::string text;                                    // kCheck
  Steps then, otherwise;                               // kIf; kLoop: the body is `then`
  std::optional<LoopStep> loop;
  std::optional<HostStep> host;                        // kHost
};

struct Program {
  std::string name;
  std::vector<graph::Signature> inputs, outputs;       // names; types are those of the tensors
  std::vector<TensorId> input_tensors, output_tensors; // by position in the signature
  std::vector<Symbol> dims;
  std::vector<std::string> sites;
  std::vector<Tensor> tensors;
  std::vector<dispatch::Dispatch> dispatches;          // one per kDispatch step; deduplicated later
  Steps steps;
  Steps prepare;                                       // dispatches of constants; they write kPrepared tensors
};

// Walks over the steps, those of branches and (with `loops`) of loop bodies first: where replace(step, out) is true, what it put
// into `out`, if anything, stands for the dispatch.
void replace_dispatches(Steps &steps, const std::function<bool(Step &, Steps &)> &replace, bool loops = true);

struct Options {
  // Attention is one dispatch, and its scores have no memory (attention.h): for targets with a schedule of that form.
  bool attention = false;
  // Most operands of a dispatch, outputs included; what would take more is computed in parts. 0: any number. An op with
  // more operands of its own (a concatenation) stays as it is.
  size_t max_operands = 0;
};

Program fuse(const graph::Function &function, const Options &options = {});

std::string print(const Program &program); // --emit=dispatches

} // namespace ingot::aotc::fuse
