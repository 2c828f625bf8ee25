// Rules of one op: see check.h. Dims that are equal only at run time (a kCheck says so) are let through: two different
// constants are what is refused.
#include "aotc/graph/check.h"

#include <algorithm>
#include <array>

namespace ingot::aotc::graph {

namespace {

constexpr std::array<std::string_view, 26> kOpcodeNames = {
    "constant", "splat", "iota",     "host_tensor", "map",  "broadcast", "reshape", "transpose",   "slice", "pad", "concat",
    "reduce",   "scan",  "contract", "conv",        "pool", "gather",    "compute", "read_scalar", "check", "if",
    "loop", "bind", "host", "state", "append"};

// True unless the dims are known to differ.
bool may_equal(const Expr &a, const Expr &b) {
  const auto x = a.constant(), y = b.constant();
  return !x || !y || *x == *y;
}

bool may_equal(const std::vector<Expr> &a, const std::vector<Expr> &b) {
  if (a.size() != b.size())
    return false;
  for (size_t i = 0; i < a.size(); ++i)
    if (!may_equal(a[i], b[i]))
      return false;
  return true;
}

std::string check_map(const Function &f, const Op &op, const TensorType &result) {
  const auto element = [&](size_t i) { return f.values[op.operands[i]].type.element; };
  const size_t n = op.operands.size();
  if (n < 1 || n > 3)
    return "map takes 1 to 3 operands";
  for (ValueId v : op.operands)
    if (!may_equal(f.values[v].type.dims, result.dims))
      return "map: operand " + to_string(f.values[v].type) + " differs in dims from result " + to_string(result);
  using K = kernel::Opcode;
  if (op.map == K::kConvert || op.map == K::kConvertU)
    return n == 1 ? "" : "convert takes one operand";
  if (op.map == K::kSelect) {
    if (n != 3 || element(0) != ElementType::kBool || element(1) != element(2) || element(1) != result.element)
      return "select takes (bool, T, T) -> T";
    return "";
  }
  for (size_t i = 1; i < n; ++i)
    if (element(i) != element(0))
      return "map: mixed operand types " + std::string(name(element(0))) + " and " + std::string(name(element(i)));
  if (kernel::is_compare(op.map) || op.map == K::kIsNan || op.map == K::kIsInf)
    return result.element == ElementType::kBool ? "" : "comparison must give bool";
  if (op.map != K::kBitcast && result.element != element(0))
    return "map: result type differs from the operands'";
  return "";
}

// Sums of products are of the factors' type, or i32 where these are of 8 bits, which then may differ in sign.
bool product_elements(ElementType a, ElementType b, ElementType result) {
  auto is_byte = [](ElementType e) { return e == ElementType::kU8 || e == ElementType::kI8; };
  return (is_byte(a) && is_byte(b) && result == ElementType::kI32) || (a == b && a == result);
}

std::string check_contract(const Function &f, const Op &op, const TensorType &result) {
  if (op.operands.size() != 2 || op.labels.size() != 3)
    return "contract takes 2 operands and 3 label strings";
  const TensorType &a = f.values[op.operands[0]].type, &b = f.values[op.operands[1]].type;
  if (!product_elements(a.element, b.element, result.element))
    return "contract: element types differ";
  if (op.labels[0].size() != a.dims.size() || op.labels[1].size() != b.dims.size() ||
      op.labels[2].size() != result.dims.size())
    return "contract: a label per axis is needed";
  for (size_t i = 0; i < op.labels[0].size(); ++i) {
    const size_t j = op.labels[1].find(op.labels[0][i]);
    if (j != std::string::npos && !may_equal(a.dims[i], b.dims[j]))
      return "contract: axis '" + op.labels[0].substr(i, 1) + "' has extents " + a.dims[i].to_string() + " and " +
             b.dims[j].to_string();
  }
  for (size_t i = 0; i < op.labels[2].size(); ++i) {
    const size_t j = op.labels[0].find(op.labels[2][i]), k = op.labels[1].find(op.labels[2][i]);
    if (j == std::string::npos && k == std::string::npos)
      return "contract: result label not in an operand";
    if (!may_equal(result.dims[i], j != std::string::npos ? a.dims[j] : b.dims[k]))
      return "contract: result dim differs";
  }
  return "";
}

std::string check_window(const Function &f, const Op &op, const TensorType &result) {
  const TensorType &x = f.values[op.operands[0]].type;
  const bool conv = op.code == Opcode::kConv;
  if (op.ints.size() != 3 || op.ints[1] < 0 || op.ints[2] < 0)
    return "conv and pool need three ints";
  const int64_t x_block = op.ints[conv ? 1 : 2], result_block = op.ints[2];
  const size_t spatial = x.dims.size() - 2 - (x_block > 0);
  if (x.dims.size() < size_t{3} + (x_block > 0) || result.dims.size() != spatial + 2 + (result_block > 0))
    return "conv and pool take [n, c, spatial...] or [n, c / block, spatial..., block]";
  if ((x_block && !(x.dims.back() == Expr(x_block))) || (result_block && !(result.dims.back() == Expr(result_block))))
    return "conv and pool: the last dim of blocked channels is the block";
  if (op.strides.size() != spatial || op.dilations.size() != spatial || op.exprs.size() != 2 * spatial)
    return "conv and pool need strides, dilations and pads per spatial axis";
  for (size_t i = 0; i < spatial; ++i)
    if (op.strides[i] < 1 || op.dilations[i] < 1)
      return "strides and dilations must be positive";
  if (op.code == Opcode::kPool)
    return op.window.size() == spatial ? "" : "pool needs a window";
  const TensorType &w = f.values[op.operands[1]].type;
  if (w.dims.size() != spatial + 2 || !product_elements(x.element, w.element, result.element))
    return "conv: x, w and the result differ in rank or type";
  const auto channels = [](const TensorType &t, int64_t block) { return block ? t.dims[1] * Expr(block) : t.dims[1]; };
  if (op.ints[0] < 1 || !may_equal(channels(x, x_block), w.dims[1] * Expr(op.ints[0])))
    return "conv: channels do not fit the groups";
  if ((x_block || result_block) && op.ints[0] != 1 && !(x_block == result_block && w.dims[1] == Expr(1)))
    return "conv: blocked channels with groups are depthwise only";
  return may_equal(channels(result, result_block), w.dims[0]) && may_equal(result.dims[0], x.dims[0]) ? ""
                                                                                                     : "conv: result dims";
}

std::string check_host(const Function &f, const Op &op) {
  using program::HostOp;
  const uint32_t number = static_cast<uint32_t>(op.host);
  if (op.constant) {
    const bool single = number == 0 && op.operands.empty() && op.results.size() == 1;
    return single && f.values[op.results[0]].type.elements().constant() ? "" : "host: a constant has one result of fixed dims";
  }
  if (number == 0 || number >= program::kHostOpCount)
    return "host: unknown op";
  const program::HostOpForm &form = program::kHostOps[number];
  const auto within = [](size_t n, const uint8_t (&range)[2]) { return n >= range[0] && n <= range[1]; };
  // Of box and put, one side is a tensor, whose slot and type become the command's immediates.
  const bool box = op.host == HostOp::box, put = op.host == HostOp::put;
  const size_t sources = op.operands.size() - (box && !op.operands.empty()), results = op.results.size() - (put && !op.results.empty());
  if (results != form.results || !within(sources, form.sources) || !within(op.exprs.size(), form.exprs) ||
      !within(op.symbols.size(), form.symbols) || op.ints.size() != (box || put ? 0u : form.immediates))
    return "host: wrong numbers of operands, results, expressions, symbols or immediates";
  for (ValueId v : op.operands)
    if ((f.values[v].type.element == kHostValue) == box)
      return box ? "host: box takes a tensor" : "host: an operand is no host value";
  for (ValueId v : op.results)
    if ((f.values[v].type.element == kHostValue) == put)
      return put ? "host: put gives a tensor" : "host: a result is no host value";
  return "";
}

} // namespace

std::string_view name(Opcode code) {
  return kOpcodeNames[static_cast<size_t>(code)];
}

std::optional<Opcode> parse_opcode(std::string_view text) {
  for (size_t i = 0; i < kOpcodeNames.size(); ++i)
    if (name(static_cast<Opcode>(i)) == text)
      return static_cast<Opcode>(i);
  return std::nullopt;
}

std::string_view name(PadMode mode) {
  constexpr std::array<std::string_view, 4> names = {"constant", "reflect", "edge", "wrap"};
  return names[static_cast<size_t>(mode)];
}

std::string_view name(PoolMode mode) {
  constexpr std::array<std::string_view, 3> names = {"max", "average", "lp"};
  return names[static_cast<size_t>(mode)];
}

std::string_view name(dispatch::ReduceKind kind) {
  constexpr std::array<std::string_view, 10> names = {"add", "mul",    "min",    "max",         "and",
                                                      "or",  "argmin", "argmax", "argmin_last", "argmax_last"};
  return names[static_cast<size_t>(kind)];
}

Expr window_extent(const Expr &in, const Expr &low, const Expr &high, const Expr &kernel, int64_t stride, int64_t dilation) {
  return floordiv(in + low + high - (kernel - 1) * Expr(dilation) - 1, Expr(stride)) + 1;
}

std::string check_op(const Function &f, const Op &op) {
  const auto operand = [&](size_t i) -> const TensorType & { return f.values[op.operands[i]].type; };
  for (ValueId v : op.operands)
    if (v >= f.values.size())
      return "operand %" + std::to_string(v) + " does not exist";
  for (ValueId v : op.results) {
    if (v >= f.values.size())
      return "result %" + std::to_string(v) + " does not exist";
    const TensorType &type = f.values[v].type;
    const bool host = op.code == Opcode::kHost || op.code == Opcode::kIf || op.code == Opcode::kLoop;
    if ((type.element == kHostValue && !host) || type.dims.size() > 8)
      return "result %" + std::to_string(v) + " has no legal type: " + to_string(type);
    for (const Expr &dim : type.dims)
      if (dim.constant() && *dim.constant() < 0)
        return "result %" + std::to_string(v) + " has a negative dim: " + to_string(type);
  }
  const auto counts = [&](size_t operands, size_t results) {
    return op.operands.size() == operands && op.results.size() == results;
  };
  const bool single = op.results.size() == 1;
  static const TensorType none;
  const TensorType &result = single ? f.values[op.results[0]].type : none;
  const size_t rank = op.operands.empty() ? 0 : operand(0).dims.size();
  const auto same_element = [&] { return operand(0).element == result.element; };
  switch (op.code) {
    case Opcode::kConstant: {
      if (!counts(0, 1) || !op.constant || op.constant->type != result.element)
        return "constant: data of the result's type is needed";
      const auto elements = result.elements().constant();
      if (!elements || static_cast<uint64_t>(*elements) * byte_size(result.element) != op.constant->bytes.size())
        return "constant: " + std::to_string(op.constant->bytes.size()) + " bytes for " + to_string(result);
      return "";
    }
    case Opcode::kSplat:
      if (!counts(0, 1) || !op.constant || op.constant->type != result.element ||
          op.constant->bytes.size() != byte_size(result.element))
        return "splat: one element of the result's type is needed";
      return "";
    case Opcode::kIota:
      if (!counts(0, 1) || op.axes.size() != 1 || op.exprs.size() != 2 || op.axes[0] >= result.dims.size() ||
          result.element == ElementType::kBool)
        return "iota: an axis, start and step are needed";
      return "";
    case Opcode::kHostTensor:
      if (!counts(0, 1) || result.dims.size() > 1 || op.exprs.empty() != (result.elements() == Expr(0)) ||
          !(result.elements() == Expr(static_cast<int64_t>(op.exprs.size()))) || is_float(result.element))
        return "host_tensor: " + std::to_string(op.exprs.size()) + " values for " + to_string(result);
      return "";
    case Opcode::kMap: return single ? check_map(f, op, result) : "map has one result";
    case Opcode::kBroadcast: {
      if (!counts(1, 1) || op.axes.size() != rank || !same_element())
        return "broadcast: an axis per operand axis is needed";
      for (size_t i = 0; i < rank; ++i) {
        if (op.axes[i] >= result.dims.size() || (i > 0 && op.axes[i] <= op.axes[i - 1]))
          return "broadcast: axes must rise and lie in the result";
        if (!(operand(0).dims[i] == Expr(1)) && !may_equal(operand(0).dims[i], result.dims[op.axes[i]]))
          return "broadcast: " + to_string(operand(0)) + " to " + to_string(result);
      }
      return "";
    }
    case Opcode::kReshape:
      if (!counts(1, 1) || !same_element() || !may_equal(operand(0).elements(), result.elements()))
        return "reshape: " + (op.operands.empty() ? "" : to_string(operand(0))) + " to " + to_string(result);
      return "";
    case Opcode::kTranspose: {
      if (!counts(1, 1) || op.axes.size() != rank || result.dims.size() != rank || !same_element())
        return "transpose: a permutation of the operand's axes is needed";
      uint32_t seen = 0;
      for (size_t i = 0; i < rank; ++i) {
        if (op.axes[i] >= rank || (seen >> op.axes[i] & 1))
          return "transpose: not a permutation";
        seen |= 1u << op.axes[i];
        if (!may_equal(operand(0).dims[op.axes[i]], result.dims[i]))
          return "transpose: result dims";
      }
      return "";
    }
    case Opcode::kSlice:
      if (!counts(1, 1) || op.exprs.size() != rank || op.ints.size() != rank || result.dims.size() != rank || !same_element())
        return "slice: a start and a step per axis are needed";
      return std::count(op.ints.begin(), op.ints.end(), 0) ? "slice: step 0" : "";
    case Opcode::kPad:
      if (op.operands.size() < 1 || op.operands.size() > 2 || !single || op.exprs.size() != 2 * rank ||
          result.dims.size() != rank || !same_element())
        return "pad: low and high per axis are needed";
      if (op.operands.size() == 2 && (!operand(1).dims.empty() || operand(1).element != result.element))
        return "pad: the value must be a scalar of the same type";
      return "";
    case Opcode::kConcat: {
      if (op.operands.empty() || !single || op.ints.size() != 1 || op.ints[0] < 0 ||
          op.ints[0] >= static_cast<int64_t>(rank) || result.dims.size() != rank)
        return "concat: operands and an axis are needed";
      Expr sum = 0;
      for (size_t i = 0; i < op.operands.size(); ++i) {
        if (operand(i).dims.size() != rank || operand(i).element != result.element)
          return "concat: operand " + to_string(operand(i)) + " in result " + to_string(result);
        for (size_t d = 0; d < rank; ++d)
          if (static_cast<int64_t>(d) != op.ints[0] && !may_equal(operand(i).dims[d], result.dims[d]))
            return "concat: operand " + to_string(operand(i)) + " in result " + to_string(result);
        sum = sum + operand(i).dims[static_cast<size_t>(op.ints[0])];
      }
      return may_equal(sum, result.dims[static_cast<size_t>(op.ints[0])]) ? "" : "concat: result dim";
    }
    case Opcode::kReduce: {
      if (!counts(1, 1) || result.dims.size() + op.axes.size() != rank)
        return "reduce: axes do not fit the ranks";
      for (size_t i = 0; i < op.axes.size(); ++i)
        if (op.axes[i] >= rank || (i > 0 && op.axes[i] <= op.axes[i - 1]))
          return "reduce: axes must rise and lie in the operand";
      if (op.reduce >= dispatch::ReduceKind::kArgMin)
        return op.axes.size() == 1 && result.element == ElementType::kI64 ? "" : "arg reduce: one axis, i64 result";
      return same_element() ? "" : "reduce: result type";
    }
    case Opcode::kScan:
      return counts(1, 1) && op.ints.size() == 3 && op.ints[0] >= 0 && op.ints[0] < static_cast<int64_t>(rank) &&
                     same_element() && may_equal(operand(0).dims, result.dims)
                 ? ""
                 : "scan: axis, exclusive, reverse are needed";
    case Opcode::kContract: return single ? check_contract(f, op, result) : "contract has one result";
    case Opcode::kConv:
      return counts(2, 1) ? check_window(f, op, result) : "conv takes x and w";
    case Opcode::kPool: return counts(1, 1) ? check_window(f, op, result) : "pool takes x";
    case Opcode::kGather:
      if (!counts(2, 1) || op.ints.empty() || op.ints[0] < 0 || op.ints[0] >= static_cast<int64_t>(rank) ||
          !is_integer(operand(1).element) || !same_element() ||
          result.dims.size() != rank - 1 + operand(1).dims.size())
        return "gather: x, integer indices and an axis are needed";
      return "";
    case Opcode::kCompute:
      if (!op.compute || op.compute->operands.size() != op.operands.size() + op.results.size())
        return "compute: operands and results must match the dispatch's operands";
      return "";
    case Opcode::kReadScalar:
      return counts(1, 0) && operand(0).dims.empty() && !is_float(operand(0).element) && op.symbol
                 ? ""
                 : "read_scalar takes one integer or bool scalar and defines a symbol";
    case Opcode::kState:
      if (!counts(0, 1) || op.ints.size() != 1 || op.ints[0] < 0 || static_cast<size_t>(op.ints[0]) >= f.states.size())
        return "state: the number of a state is needed";
      return result == f.states[static_cast<size_t>(op.ints[0])].type && result.elements().constant()
                 ? ""
                 : "state: the result has the state's type, and constant dims";
    case Opcode::kAppend: {
      if (!counts(2, 1) || op.ints.size() != 1 || op.exprs.size() != 1 || !(result == operand(0)) ||
          operand(1).element != result.element || operand(1).dims.size() != rank)
        return "append: a state, what is written to it, an axis and a start are needed";
      for (size_t d = 0; d < rank; ++d)
        if (static_cast<int64_t>(d) != op.ints[0] && !may_equal(operand(1).dims[d], result.dims[d]))
          return "append: " + to_string(operand(1)) + " to " + to_string(result);
      return rank == 0 || (op.ints[0] >= 0 && static_cast<size_t>(op.ints[0]) < rank) ? "" : "append: there is no such axis";
    }
    case Opcode::kHost: return check_host(f, op);
    case Opcode::kCheck: return counts(0, 0) && op.exprs.size() == 1 ? "" : "check takes one expression";
    case Opcode::kBind: return counts(0, 0) && op.exprs.size() == 1 && op.symbol ? "" : "bind takes one expression and defines a symbol";
    case Opcode::kIf: {
      if (!op.operands.empty() || op.exprs.size() != 1 || op.regions.size() != 2)
        return "if takes a condition and two regions";
      for (const Graph &region : op.regions) {
        if (!region.inputs.empty() || region.outputs.size() != op.results.size() || region.sizes.size() != op.sizes.size())
          return "if: a region's outputs and sizes must match the results";
        for (size_t i = 0; i < op.results.size(); ++i)
          if (f.values[region.outputs[i].value].type.element != f.values[op.results[i]].type.element ||
              f.values[region.outputs[i].value].type.dims.size() != f.values[op.results[i]].type.dims.size())
            return "if: output " + std::to_string(i) + " differs in type";
      }
      return "";
    }
    case Opcode::kLoop: {
      if (!op.loop || op.regions.size() != 1)
        return "loop: info and one region are needed";
      const LoopInfo &info = *op.loop;
      const Graph &body = op.regions[0];
      if (op.operands.size() != info.carried || body.inputs.size() != info.carried ||
          op.results.size() != info.carried + info.scans || !info.iteration || !info.trips ||
          body.outputs.size() != info.carried + info.scans + (info.has_condition ? 1 : 0))
        return "loop: operands, region and results do not match";
      if (op.exprs.size() != op.sizes.size() || body.sizes.size() != op.sizes.size())
        return "loop: sizes do not match";
      if (!info.trip_count && !info.has_condition)
        return "loop without an end";
      for (size_t i = 0; i < info.carried; ++i) {
        const TensorType &type = operand(i);
        if (f.values[body.inputs[i].value].type.element != type.element ||
            !may_equal(f.values[body.inputs[i].value].type.dims, type.dims) ||
            !may_equal(f.values[op.results[i]].type.dims, type.dims))
          return "loop: carried value " + std::to_string(i) + " changes its type";
      }
      return "";
    }
  }
  return "unknown opcode";
}

} // namespace ingot::aotc::graph
