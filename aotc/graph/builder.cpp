// GraphBuilder: appends ops, infers result types, and holds each op against the rules of check.h.
#include <bit>

#include "aotc/base/error.h"
#include "aotc/graph/check.h"
#include "aotc/graph/constant.h"

namespace ingot::aotc::graph {

std::string to_string(const TensorType &type) {
  std::string text(name(type.element));
  text += '[';
  for (size_t i = 0; i < type.dims.size(); ++i)
    text += (i ? "," : "") + type.dims[i].to_string();
  return text + ']';
}

ValueId GraphBuilder::add_value(TensorType type, std::string name) {
  function_.values.push_back({std::move(type), std::move(name)});
  return static_cast<ValueId>(function_.values.size() - 1);
}

int64_t GraphBuilder::add_site(std::string text) {
  function_.sites.push_back(std::move(text));
  return static_cast<int64_t>(function_.sites.size() - 1);
}

Op &GraphBuilder::append(Opcode code, std::vector<ValueId> operands) {
  for (ValueId v : operands)
    ensure(v < function_.values.size(), "graph builder: operand does not exist");
  Op &op = graph_->ops.emplace_back();
  op.code = code;
  op.node = node_;
  op.source = source_;
  op.operands = std::move(operands);
  return op;
}

ValueId GraphBuilder::finish(Op &op, TensorType type) {
  const ValueId result = add_value(std::move(type), "");
  op.results.push_back(result);
  const std::string problem = check_op(function_, op);
  ensure(problem.empty(), "graph builder: node '" + op.node + "' (" + op.source + "): " + problem);
  return result;
}

ValueId GraphBuilder::constant(TensorType type, std::shared_ptr<const ConstantData> data) {
  Op &op = append(Opcode::kConstant, {});
  op.constant = std::move(data);
  return finish(op, std::move(type));
}

ValueId GraphBuilder::splat_float(ElementType type, std::vector<Expr> dims, double value) {
  Op &op = append(Opcode::kSplat, {});
  op.constant = make_floats(type, {value});
  return finish(op, {type, std::move(dims)});
}

ValueId GraphBuilder::splat_int(ElementType type, std::vector<Expr> dims, int64_t value) {
  Op &op = append(Opcode::kSplat, {});
  op.constant = make_ints(type, {value});
  return finish(op, {type, std::move(dims)});
}

ValueId GraphBuilder::iota(ElementType type, std::vector<Expr> dims, uint32_t axis, Expr start, Expr step) {
  Op &op = append(Opcode::kIota, {});
  op.axes = {axis};
  op.exprs = {std::move(start), std::move(step)};
  return finish(op, {type, std::move(dims)});
}

ValueId GraphBuilder::host_tensor(ElementType type, std::vector<Expr> values, bool scalar) {
  ensure(!scalar || values.size() == 1, "graph builder: a host scalar has one value");
  Op &op = append(Opcode::kHostTensor, {});
  std::vector<Expr> dims;
  if (!scalar)
    dims.push_back(static_cast<int64_t>(values.size()));
  op.exprs = std::move(values);
  return finish(op, {type, std::move(dims)});
}

ValueId GraphBuilder::map(kernel::Opcode code, std::vector<ValueId> operands) {
  ensure(!operands.empty(), "graph builder: map without operands");
  using K = kernel::Opcode;
  ensure(code != K::kConvert && code != K::kConvertU, "graph builder: conversions go through convert()");
  TensorType result = type(code == K::kSelect ? operands.at(1) : operands[0]);
  // Dims known as constants win over symbolic ones that a check makes equal.
  for (ValueId v : operands) {
    const TensorType &other = type(v);
    ensure(other.dims.size() == result.dims.size(), "graph builder: map of " + to_string(result) + " and " + to_string(other));
    for (size_t i = 0; i < result.dims.size(); ++i)
      if (other.dims[i].is_constant())
        result.dims[i] = other.dims[i];
  }
  if (kernel::is_compare(code) || code == K::kIsNan || code == K::kIsInf)
    result.element = ElementType::kBool;
  Op &op = append(Opcode::kMap, std::move(operands));
  op.map = code;
  return finish(op, std::move(result));
}

ValueId GraphBuilder::convert(ElementType element, ValueId x) {
  const TensorType from = type(x);
  if (from.element == element)
    return x;
  Op &op = append(Opcode::kMap, {x});
  const bool from_unsigned = is_unsigned(from.element) && from.element != ElementType::kBool;
  const bool to_unsigned = is_unsigned(element) && element != ElementType::kBool;
  op.map = from_unsigned || (to_unsigned && is_float(from.element)) ? kernel::Opcode::kConvertU : kernel::Opcode::kConvert;
  return finish(op, {element, from.dims});
}

ValueId GraphBuilder::bitcast(ElementType element, ValueId x) {
  const TensorType from = type(x);
  if (from.element == element)
    return x;
  ensure(byte_size(from.element) == byte_size(element), "graph builder: bitcast keeps the size");
  Op &op = append(Opcode::kMap, {x});
  op.map = kernel::Opcode::kBitcast;
  return finish(op, {element, from.dims});
}

ValueId GraphBuilder::broadcast(ValueId x, std::vector<uint32_t> axes, std::vector<Expr> dims) {
  const TensorType &from = type(x);
  if (from.dims == dims)
    return x;
  TensorType result{from.element, std::move(dims)};
  Op &op = append(Opcode::kBroadcast, {x});
  op.axes = std::move(axes);
  return finish(op, std::move(result));
}

ValueId GraphBuilder::broadcast_to(ValueId x, const std::vector<Expr> &dims) {
  const size_t rank = type(x).dims.size();
  ensure(rank <= dims.size(), "graph builder: broadcast to a lower rank");
  std::vector<uint32_t> axes(rank);
  for (size_t i = 0; i < rank; ++i)
    axes[i] = static_cast<uint32_t>(dims.size() - rank + i);
  return broadcast(x, std::move(axes), dims);
}

ValueId GraphBuilder::reshape(ValueId x, std::vector<Expr> dims) {
  if (type(x).dims == dims)
    return x;
  TensorType result{type(x).element, std::move(dims)};
  return finish(append(Opcode::kReshape, {x}), std::move(result));
}

ValueId GraphBuilder::transpose(ValueId x, std::vector<uint32_t> permutation) {
  const TensorType from = type(x);
  ensure(permutation.size() == from.dims.size(), "graph builder: transpose needs a permutation");
  TensorType result{from.element, {}};
  bool identity = true;
  for (size_t i = 0; i < permutation.size(); ++i) {
    result.dims.push_back(from.dims.at(permutation[i]));
    identity = identity && permutation[i] == i;
  }
  if (identity)
    return x;
  Op &op = append(Opcode::kTranspose, {x});
  op.axes = std::move(permutation);
  return finish(op, std::move(result));
}

ValueId GraphBuilder::slice(ValueId x, std::vector<Expr> starts, std::vector<int64_t> steps, std::vector<Expr> dims) {
  bool whole = type(x).dims == dims;
  for (size_t i = 0; whole && i < steps.size(); ++i)
    whole = steps[i] == 1 && starts[i] == Expr(0);
  if (whole)
    return x;
  TensorType result{type(x).element, std::move(dims)};
  Op &op = append(Opcode::kSlice, {x});
  op.exprs = std::move(starts);
  op.ints = std::move(steps);
  return finish(op, std::move(result));
}

ValueId GraphBuilder::pad(ValueId x, std::vector<Expr> low, std::vector<Expr> high, PadMode mode, ValueId value) {
  TensorType result = type(x);
  ensure(low.size() == result.dims.size() && high.size() == result.dims.size(), "graph builder: pad per axis");
  bool none = true;
  for (size_t i = 0; i < low.size(); ++i) {
    result.dims[i] = result.dims[i] + low[i] + high[i];
    none = none && low[i] == Expr(0) && high[i] == Expr(0);
  }
  if (none)
    return x;
  std::vector<ValueId> operands = {x};
  if (value != kNoValue)
    operands.push_back(value);
  Op &op = append(Opcode::kPad, std::move(operands));
  op.exprs = std::move(low);
  op.exprs.insert(op.exprs.end(), high.begin(), high.end());
  op.pad_mode = mode;
  return finish(op, std::move(result));
}

ValueId GraphBuilder::concat(std::vector<ValueId> xs, uint32_t axis) {
  ensure(!xs.empty(), "graph builder: concat of nothing");
  if (xs.size() == 1)
    return xs[0];
  TensorType result = type(xs[0]);
  ensure(axis < result.dims.size(), "graph builder: concat axis");
  for (size_t i = 1; i < xs.size(); ++i) {
    const TensorType &other = type(xs[i]);
    ensure(other.dims.size() == result.dims.size(), "graph builder: concat of different ranks");
    result.dims[axis] = result.dims[axis] + other.dims[axis];
    for (size_t d = 0; d < result.dims.size(); ++d)
      if (d != axis && other.dims[d].is_constant())
        result.dims[d] = other.dims[d];
  }
  Op &op = append(Opcode::kConcat, std::move(xs));
  op.ints = {axis};
  return finish(op, std::move(result));
}

ValueId GraphBuilder::reduce(dispatch::ReduceKind kind, ValueId x, std::vector<uint32_t> axes) {
  const TensorType from = type(x);
  const bool arg = kind >= dispatch::ReduceKind::kArgMin;
  if (axes.empty())
    return x;
  TensorType result{arg ? ElementType::kI64 : from.element, {}};
  for (size_t i = 0, next = 0; i < from.dims.size(); ++i) {
    if (next < axes.size() && axes[next] == i)
      ++next;
    else
      result.dims.push_back(from.dims[i]);
  }
  Op &op = append(Opcode::kReduce, {x});
  op.reduce = kind;
  op.axes = std::move(axes);
  return finish(op, std::move(result));
}

ValueId GraphBuilder::scan_sum(ValueId x, uint32_t axis, bool exclusive, bool reverse) {
  TensorType result = type(x);
  Op &op = append(Opcode::kScan, {x});
  op.ints = {axis, exclusive, reverse};
  return finish(op, std::move(result));
}

static ElementType product_element(ElementType a, ElementType b) {
  return a != b ? ElementType::kI32 : a; // bytes of either sign
}

ValueId GraphBuilder::contract(ValueId a, ValueId b, std::string a_labels, std::string b_labels, std::string result_labels) {
  TensorType result{product_element(type(a).element, type(b).element), {}};
  for (char label : result_labels) {
    const size_t i = a_labels.find(label), j = b_labels.find(label);
    ensure(i != std::string::npos || j != std::string::npos, "graph builder: contract result label");
    const Expr *in_a = i != std::string::npos ? &type(a).dims.at(i) : nullptr;
    const Expr *in_b = j != std::string::npos ? &type(b).dims.at(j) : nullptr;
    result.dims.push_back(in_a && (!in_b || !in_b->is_constant()) ? *in_a : *in_b);
  }
  Op &op = append(Opcode::kContract, {a, b});
  op.labels = {std::move(a_labels), std::move(b_labels), std::move(result_labels)};
  return finish(op, std::move(result));
}

ValueId GraphBuilder::conv(ValueId x, ValueId w, std::vector<int64_t> strides, std::vector<int64_t> dilations,
                           std::vector<Expr> pads_low, std::vector<Expr> pads_high, int64_t groups, int64_t x_block,
                           int64_t result_block) {
  const TensorType &input = type(x), &weight = type(w);
  ensure(weight.dims.size() >= 3 && input.dims.size() == weight.dims.size() + (x_block > 0) &&
             strides.size() + 2 == weight.dims.size() && dilations.size() == strides.size() && pads_low.size() == strides.size() && pads_high.size() == strides.size(),
         "graph builder: conv attributes per spatial axis");
  TensorType result{product_element(input.element, weight.element), {input.dims[0], result_block ? floordiv(weight.dims[0], result_block) : weight.dims[0]}};
  for (size_t i = 0; i < strides.size(); ++i)
    result.dims.push_back(
        window_extent(input.dims[i + 2], pads_low[i], pads_high[i], weight.dims[i + 2], strides[i], dilations[i]));
  if (result_block)
    result.dims.push_back(result_block);
  Op &op = append(Opcode::kConv, {x, w});
  op.strides = std::move(strides);
  op.dilations = std::move(dilations);
  op.exprs = std::move(pads_low);
  op.exprs.insert(op.exprs.end(), pads_high.begin(), pads_high.end());
  op.ints = {groups, x_block, result_block};
  return finish(op, std::move(result));
}

ValueId GraphBuilder::pool(PoolMode mode, ValueId x, std::vector<int64_t> window, std::vector<int64_t> strides,
                           std::vector<int64_t> dilations, std::vector<Expr> pads_low, std::vector<Expr> pads_high,
                           std::vector<Expr> spatial_dims, bool count_include_pad, int64_t p, int64_t block) {
  const TensorType &input = type(x);
  ensure(input.dims.size() >= 3, "graph builder: pool takes [n, c, spatial...]");
  TensorType result{input.element, {input.dims[0], input.dims[1]}};
  result.dims.insert(result.dims.end(), spatial_dims.begin(), spatial_dims.end());
  if (block)
    result.dims.push_back(block);
  Op &op = append(Opcode::kPool, {x});
  op.pool_mode = mode;
  op.window = std::move(window);
  op.strides = std::move(strides);
  op.dilations = std::move(dilations);
  op.exprs = std::move(pads_low);
  op.exprs.insert(op.exprs.end(), pads_high.begin(), pads_high.end());
  op.ints = {count_include_pad, p, block};
  return finish(op, std::move(result));
}

ValueId GraphBuilder::gather(ValueId x, ValueId indices, uint32_t axis) {
  TensorType result{type(x).element, {}};
  const std::vector<Expr> &from = type(x).dims;
  ensure(axis < from.size(), "graph builder: gather axis");
  result.dims.assign(from.begin(), from.begin() + axis);
  result.dims.insert(result.dims.end(), type(indices).dims.begin(), type(indices).dims.end());
  result.dims.insert(result.dims.end(), from.begin() + axis + 1, from.end());
  const std::string bound = from[axis].to_string();
  Op &op = append(Opcode::kGather, {x, indices});
  op.ints = {axis, add_site("node '" + node_ + "' (" + source_ + "): index out of range: expected -n to n-1, n = " + bound)};
  return finish(op, std::move(result));
}

std::vector<ValueId> GraphBuilder::compute(dispatch::Dispatch dispatch, std::vector<ValueId> operands,
                                           std::vector<TensorType> results) {
  Op &op = append(Opcode::kCompute, std::move(operands));
  op.compute = std::make_shared<const dispatch::Dispatch>(std::move(dispatch));
  for (TensorType &type : results)
    op.results.push_back(add_value(std::move(type), ""));
  const std::string problem = check_op(function_, op);
  ensure(problem.empty(), "graph builder: " + problem);
  return op.results;
}

Symbol GraphBuilder::read_scalar(ValueId scalar, std::string name, int64_t min, int64_t max) {
  Op &op = append(Opcode::kReadScalar, {scalar});
  op.symbol = Symbol::host(std::move(name), min, max);
  const std::string problem = check_op(function_, op);
  ensure(problem.empty(), "graph builder: " + problem);
  return op.symbol;
}

void GraphBuilder::check(Expr condition, std::string text) {
  Op &op = append(Opcode::kCheck, {});
  op.exprs = {std::move(condition)};
  op.text = std::move(text);
}

ValueId GraphBuilder::state(uint32_t number) {
  ensure(number < function_.states.size(), "graph builder: there is no such state");
  Op &op = append(Opcode::kState, {});
  op.ints = {number};
  return finish(op, function_.states[number].type);
}

ValueId GraphBuilder::append_state(ValueId state, ValueId x, uint32_t axis, Expr start) {
  TensorType type = function_.values[state].type;
  Op &op = append(Opcode::kAppend, {state, x});
  op.ints = {axis};
  op.exprs = {std::move(start)};
  return finish(op, std::move(type));
}

Symbol GraphBuilder::bind(Expr value, std::string name, int64_t min, int64_t max) {
  Op &op = append(Opcode::kBind, {});
  op.exprs = {std::move(value)};
  op.symbol = Symbol::host(std::move(name), min, max);
  return op.symbol;
}

std::vector<ValueId> GraphBuilder::host(program::HostOp code, std::vector<ValueId> operands, std::vector<TensorType> results,
                                        std::vector<Expr> exprs, std::vector<Symbol> symbols, std::vector<int64_t> immediates) {
  Op &op = append(Opcode::kHost, std::move(operands));
  op.host = code;
  op.exprs = std::move(exprs);
  op.symbols = std::move(symbols);
  op.ints = std::move(immediates);
  for (TensorType &type : results)
    op.results.push_back(add_value(std::move(type), ""));
  const std::string problem = check_op(function_, op);
  ensure(problem.empty(), "graph builder: " + problem);
  return op.results;
}

ValueId GraphBuilder::host_constant(std::vector<Expr> dims, std::shared_ptr<const ConstantData> data) {
  Op &op = append(Opcode::kHost, {});
  op.constant = std::move(data);
  op.results.push_back(add_value({kHostValue, std::move(dims)}, ""));
  const std::string problem = check_op(function_, op);
  ensure(problem.empty(), "graph builder: " + problem);
  return op.results[0];
}

std::vector<ValueId> GraphBuilder::if_else(Expr condition, Graph then, Graph otherwise, std::vector<TensorType> results,
                                           std::vector<Symbol> sizes) {
  Op &op = append(Opcode::kIf, {});
  op.sizes = std::move(sizes);
  op.exprs = {std::move(condition)};
  op.regions.push_back(std::move(then));
  op.regions.push_back(std::move(otherwise));
  for (TensorType &type : results)
    op.results.push_back(add_value(std::move(type), ""));
  const std::string problem = check_op(function_, op);
  ensure(problem.empty(), "graph builder: " + problem);
  return op.results;
}

std::vector<ValueId> GraphBuilder::loop(LoopInfo info, std::vector<ValueId> initial, Graph body,
                                        std::vector<TensorType> results, std::vector<Symbol> sizes,
                                        std::vector<Expr> first) {
  Op &op = append(Opcode::kLoop, std::move(initial));
  op.sizes = std::move(sizes);
  op.exprs = std::move(first);
  op.loop = std::move(info);
  op.regions.push_back(std::move(body));
  for (TensorType &type : results)
    op.results.push_back(add_value(std::move(type), ""));
  const std::string problem = check_op(function_, op);
  ensure(problem.empty(), "graph builder: " + problem);
  return op.results;
}

} // namespace ingot::aotc::graph
