// BodyBuilder: builds a dispatch's body by asking for elements of graph values.
//
// `element(v, index)` is the body value of v at the index: a load if v is materialised, else v's definition with its
// operands' elements asked for in turn. Equal requests give the same body value, so shared subexpressions are shared.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "aotc/dispatch/dispatch.h"
#include "aotc/graph/graph.h"

namespace ingot::aotc::fuse {

using Index = std::vector<Expr>;

// What the builder needs to know of the graph around it.
struct GraphView {
  const graph::Function &function;
  std::function<const graph::Op *(graph::ValueId)> definition; // null for inputs and outer values
  std::function<bool(graph::ValueId)> materialised;            // has memory: loaded, not recomputed
  std::function<graph::ValueId(graph::ValueId)> storage;       // the value whose memory a materialised value shares
};

class BodyBuilder {
 public:
  explicit BodyBuilder(const GraphView &view) : view_(view) {}

  // The dispatch that computes all elements of `root` into a buffer of its own; of an append, what is appended, into the
  // state's. `inputs` gets the graph values whose memory the operands are, in order; the last operand is the output.
  dispatch::Dispatch build(graph::ValueId root, std::vector<graph::ValueId> &inputs);

 private:
  dispatch::ValueId element(graph::ValueId v, const Index &index);
  dispatch::ValueId define(const graph::Op &op, graph::ValueId v, const Index &index);
  dispatch::ValueId load(graph::ValueId v, const Index &index);
  dispatch::ValueId reshape(const graph::Op &op, const Index &index);
  dispatch::ValueId concat(const graph::Op &op, const Index &index);
  dispatch::ValueId pad(const graph::Op &op, const Index &index);
  dispatch::ValueId widened(dispatch::ValueId value, ElementType type);
  dispatch::ValueId contract(const graph::Op &op, const Index &index);
  dispatch::ValueId conv(const graph::Op &op, const Index &index);
  dispatch::ValueId pool(const graph::Op &op, const Index &index);
  dispatch::ValueId reduce(const graph::Op &op, const Index &index);
  dispatch::ValueId scan(const graph::Op &op, const Index &index);
  dispatch::ValueId gather(const graph::Op &op, const Index &index);
  dispatch::ValueId host_tensor(const graph::Op &op, const Index &index);

  uint32_t add_axis(const char *prefix, const Expr &extent);
  // An axis to reduce over: one of the same extent that the index does not mention, else a new one. Under a contraction its
  // own are preferred: a softmax is then of the values that are contracted.
  uint32_t reduction_axis(const Expr &extent, const Index &index);
  dispatch::ValueId add(dispatch::Value value);
  dispatch::ValueId constant_int(ElementType type, int64_t value);
  dispatch::ValueId constant_float(ElementType type, double value);
  dispatch::ValueId zero(ElementType type);
  dispatch::ValueId scalar_of(const graph::ConstantData &data, ElementType type);
  dispatch::ValueId index_value(const Expr &expr, ElementType type = ElementType::kI64);
  dispatch::ValueId op(kernel::Opcode code, ElementType type, std::vector<dispatch::ValueId> args);
  dispatch::ValueId inside(const std::vector<dispatch::Guard> &guards); // bool value
  dispatch::ValueId reduce_value(dispatch::ReduceKind kind, ElementType type, dispatch::ValueId x, std::vector<uint32_t> axes);

  const GraphView &view_;
  dispatch::Dispatch d_;
  std::vector<graph::ValueId> *inputs_ = nullptr;
  std::vector<uint32_t> contracted_;              // axes of the contractions whose operands are now asked for
  std::vector<dispatch::Guard> guards_;           // loads now asked for happen only inside these
  std::map<std::string, dispatch::ValueId> memo_; // values by their text
  std::map<std::string, dispatch::ValueId> elements_;
};

// Row-major strides of dims.
std::vector<Expr> row_major(const std::vector<Expr> &dims);
// The index into `to` dims of the element at `index` of `from` dims (same number of elements).
Index reindex(const std::vector<Expr> &from, const Index &index, const std::vector<Expr> &to);

} // namespace ingot::aotc::fuse
