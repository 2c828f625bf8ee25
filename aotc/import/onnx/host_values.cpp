// See host_values.h.
#include "aotc/import/onnx/host_values.h"

#include <cstring>
#include <set>

#include "aotc/graph/constant.h"
#include "aotc/import/onnx/narrow.h"

namespace ingot::aotc::importer {

using Kind = HostType::Kind;

namespace {

void fill_element(const onnx::TypeProto_Tensor &tensor, HostType &out) {
  out.strings = tensor.elem_type() == onnx::TensorProto::STRING;
  if (tensor.has_shape())
    out.rank = static_cast<size_t>(tensor.shape().dim_size());
  if (out.strings)
    return;
  std::optional<ElementType> element = element_type(tensor.elem_type());
  if (!element && narrow_storage(tensor.elem_type())) {
    element = narrow_storage(tensor.elem_type());
    out.narrow = tensor.elem_type();
  }
  if (!element)
    throw Refusal{"has elements of type " + onnx_type_name(tensor.elem_type()) + ", which is not supported", ""};
  out.element = *element;
}

} // namespace

HostType declared_host_type(const onnx::TypeProto &type) {
  HostType out;
  const onnx::TypeProto *inner = &type;
  if (inner->has_optional_type()) {
    out.kind = Kind::kOptional;
    inner = &inner->optional_type().elem_type();
  }
  if (inner->has_sequence_type()) {
    if (out.kind == Kind::kOptional)
      out.list = true;
    else
      out.kind = Kind::kList;
    inner = &inner->sequence_type().elem_type();
  }
  if (!inner->has_tensor_type() || out.kind == Kind::kStrings)
    throw Refusal{"is not a tensor, a sequence of tensors or an optional of these", "maps and sparse tensors are not supported"};
  fill_element(inner->tensor_type(), out);
  return out;
}

std::string to_string(const HostType &type) {
  if (type.kind == Kind::kStrings)
    return "strings";
  const std::string element = type.strings ? "string" : type.narrow ? onnx_type_name(type.narrow) : std::string(name(type.element));
  const std::string inner = type.kind == Kind::kList || type.list ? "seq(" + element + ")" : element;
  return type.kind == Kind::kOptional ? "optional(" + inner + ")" : inner;
}

std::optional<HostType> merge(const HostType &a, const HostType &b) {
  const auto list = [](const HostType &t) { return t.kind == Kind::kList || t.list; };
  if ((a.kind == Kind::kStrings) != (b.kind == Kind::kStrings) || a.strings != b.strings || a.narrow != b.narrow ||
      (!a.strings && a.kind != Kind::kStrings && a.element != b.element) || list(a) != list(b))
    return std::nullopt;
  HostType out = a.kind == Kind::kOptional ? a : b;
  out.rank = a.rank == b.rank ? a.rank : a.rank == kNoElements ? b.rank : b.rank == kNoElements ? a.rank : std::nullopt;
  return out;
}

HostType strings_type() {
  HostType out;
  out.kind = Kind::kStrings;
  out.strings = true;
  return out;
}

HostType list_of(const Value &value) {
  HostType out;
  out.kind = Kind::kList;
  out.strings = value.host_type.has_value();
  out.element = out.strings ? ElementType::kF32 : value.type.element;
  out.narrow = value.narrow;
  out.rank = value.type.dims.size();
  return out;
}

void Node::set_host_value(size_t i, ValueId value, HostType type) {
  set(i, value);
  if (i < outputs_.size())
    outputs_[i]->host_type = type;
}

ValueId host_op(Node &n, HostOp op, std::vector<ValueId> sources, Dims dims, std::vector<Expr> exprs, std::vector<int64_t> immediates) {
  return n.b.host(op, std::move(sources), {{graph::kHostValue, std::move(dims)}}, std::move(exprs), {}, std::move(immediates))[0];
}

Expr host_number(Node &n, HostOp op, ValueId source, const char *what, int64_t max) {
  const Symbol symbol = Symbol::host(n.importer().unique_symbol(n.name + "_" + what), 0, max);
  n.b.host(op, {source}, {}, {}, {symbol});
  return symbol;
}

ValueId box(Node &n, const ValuePtr &value) {
  const ValueId x = n.importer().materialise(*value);
  if (value->host_type) {
    if (value->host_type->kind != Kind::kStrings)
      n.fail("takes a tensor here, got " + to_string(*value->host_type));
    return x;
  }
  return host_op(n, HostOp::box, {x}, {}, n.dims_of(x));
}

ValueId box_ints(Node &n, std::vector<Expr> values) {
  const int64_t count = static_cast<int64_t>(values.size());
  return host_op(n, HostOp::box, {n.b.host_tensor(ElementType::kI64, std::move(values), false)}, {}, {Expr(count)});
}

ValueId unbox(Node &n, ValueId boxed, ElementType element, const Dims &dims) {
  n.check_dims(dims);
  return n.b.host(HostOp::put, {boxed}, {{element, dims}}, dims)[0];
}

ValuePtr unbox(Node &n, ValueId boxed, const HostType &element) {
  if (!element.rank || *element.rank == kNoElements)
    n.fail("gives a tensor whose rank is not known", "declare the shape of the sequence's elements; unknown dims may stay open");
  if (*element.rank > 8)
    n.fail("gives a tensor of rank " + std::to_string(*element.rank) + "; at most 8 is supported");
  std::vector<Symbol> symbols;
  Dims dims;
  for (size_t i = 0; i < *element.rank; ++i) {
    symbols.push_back(Symbol::host(n.importer().unique_symbol(n.name + "_dim" + std::to_string(i)), 0, kMaxDim));
    dims.push_back(symbols.back());
  }
  const ElementType type = element.strings ? graph::kHostValue : element.element;
  n.b.host(HostOp::shape, {boxed}, {}, {}, symbols, {static_cast<int64_t>(type)});
  auto v = std::make_shared<Value>();
  v->type = {type, dims};
  v->home = n.importer().region();
  if (element.strings) { // the same value, of which the dims are known now
    v->host_type = strings_type();
    v->id = host_op(n, HostOp::copy, {boxed}, dims);
  } else {
    v->narrow = element.narrow;
    v->id = unbox(n, boxed, type, dims);
  }
  return v;
}

namespace {

std::shared_ptr<graph::ConstantData> text_data(const std::vector<std::string> &texts) {
  auto data = std::make_shared<graph::ConstantData>();
  data->type = graph::kHostValue;
  const auto put = [&](uint64_t v) {
    for (int i = 0; i < 8; ++i)
      data->bytes.push_back(static_cast<uint8_t>(v >> 8 * i));
  };
  uint64_t at = 0;
  put(0);
  for (const std::string &text : texts)
    put(at += text.size());
  for (const std::string &text : texts)
    data->bytes.insert(data->bytes.end(), text.begin(), text.end());
  return data;
}

// Constants stand in the function's own graph, where every region sees them.
ValueId constant_in_function(graph::GraphBuilder &b, Dims dims, std::shared_ptr<const graph::ConstantData> data) {
  graph::Graph *current = b.exchange_graph(&b.function().graph);
  const ValueId id = b.host_constant(std::move(dims), std::move(data));
  b.exchange_graph(current);
  return id;
}

} // namespace

ValueId strings_constant(graph::GraphBuilder &b, Dims dims, const std::vector<std::string> &texts) {
  return constant_in_function(b, std::move(dims), text_data(texts));
}

ValueId numbers_constant(graph::GraphBuilder &b, ElementType type, const std::vector<int64_t> &values) {
  return constant_in_function(b, {Expr(static_cast<int64_t>(values.size()))}, graph::make_ints(type, values));
}

ValuePtr strings_value(Importer &importer, const onnx::TensorProto &tensor, std::string &error) {
  Dims dims;
  int64_t count = 1;
  for (int64_t dim : tensor.dims()) {
    if (dim < 0 || dim > 0x7fffffff || (count && dim && count > 0x7fffffff / dim)) {
      error = "tensor '" + tensor.name() + "' has dims that are negative or too large";
      return nullptr;
    }
    count *= dim;
    dims.push_back(dim);
  }
  if (count != tensor.string_data_size() || dims.size() > 8) {
    error = "tensor '" + tensor.name() + "' holds " + std::to_string(tensor.string_data_size()) + " strings, its dims say " +
            std::to_string(count) + " of rank 8 at most";
    return nullptr;
  }
  auto v = std::make_shared<Value>();
  v->type = {graph::kHostValue, dims};
  v->host_type = strings_type();
  v->id = strings_constant(importer.builder, dims, {tensor.string_data().begin(), tensor.string_data().end()});
  v->name = tensor.name();
  return v;
}

namespace {

// Elements of all strings that a node takes, one behind the other.
ValueId all_elements(Node &n, const std::vector<size_t> &inputs) {
  std::vector<ValueId> flat;
  for (size_t i : inputs) {
    const Expr count = n.type(i).elements();
    const ValueId numbers = n.b.iota(ElementType::kI64, {count}, 0);
    flat.push_back(host_op(n, HostOp::take, {n.in(i), host_op(n, HostOp::box, {numbers}, {}, {count})}, {count}));
  }
  return host_op(n, HostOp::concat, {host_op(n, HostOp::construct, flat)}, {}, {}, {0, 0});
}

// before: y = Transpose(x), x strings; after: y = take(x, Transpose(0, 1, 2 ... in the dims of x))
void import_moved(Node &n) {
  std::vector<size_t> strings;
  for (size_t i = 0; i < n.inputs(); ++i)
    if (n.is_strings(i))
      strings.push_back(i);
  const ValueId source = strings.size() == 1 ? n.in(strings[0]) : all_elements(n, strings);
  Scope scope{&n.scope(), {}};
  google::protobuf::RepeatedPtrField<onnx::NodeProto> nodes;
  onnx::NodeProto &proto = *nodes.Add();
  proto = n.proto();
  proto.set_name(n.name);
  Expr first = 0;
  for (size_t i : strings) {
    auto v = std::make_shared<Value>();
    const Expr count = n.type(i).elements();
    v->type = {ElementType::kI64, n.dims(i)};
    v->id = n.b.reshape(n.b.iota(ElementType::kI64, {count}, 0, first), n.dims(i));
    v->home = n.importer().region();
    v->name = n.name + "/numbers" + std::to_string(i);
    proto.set_input(static_cast<int>(i), v->name);
    scope.values[v->name] = v;
    first = first + count;
  }
  const size_t before = n.importer().problems();
  n.importer().import_nodes(scope, nodes, {proto.output().begin(), proto.output().end()});
  n.b.set_origin(n.name, n.source);
  if (n.importer().problems() != before)
    throw Refusal{"", ""};
  for (size_t i = 0; i < n.outputs(); ++i) {
    const ValuePtr numbers = n.wants(i) ? scope.values[proto.output(static_cast<int>(i))] : nullptr;
    if (!numbers)
      continue;
    if (numbers->poisoned)
      throw Refusal{"", ""};
    n.set_host_value(i, host_op(n, HostOp::take, {source, box(n, numbers)}, numbers->type.dims), strings_type());
  }
}

void import_equal(Node &n) {
  n.need_inputs(2, 2);
  if (!n.is_strings(0) || !n.is_strings(1))
    n.fail("compares strings with " + to_string(n.type(n.is_strings(0) ? 1 : 0)));
  const Dims dims = n.broadcast_dims(n.dims(0), n.dims(1));
  n.set(0, unbox(n, host_op(n, HostOp::equal, {n.in(0), n.in(1)}), ElementType::kBool, dims));
}

} // namespace

bool only_host_uses(const onnx::GraphProto &graph, const onnx::ValueInfoProto &input) {
  static const std::set<std::string> takers = {"SplitToSequence", "SequenceConstruct", "SequenceInsert", "Optional", "OptionalHasElement"};
  if (input.type().tensor_type().elem_type() == onnx::TensorProto::STRING)
    return true;
  for (const onnx::NodeProto &node : graph.node()) {
    for (const onnx::AttributeProto &a : node.attribute())
      if (a.has_g() || a.graphs_size())
        return false; // it may be captured there
    for (const std::string &name : node.input())
      if (name == input.name() && !takers.count(node.op_type()))
        return false;
  }
  for (const onnx::ValueInfoProto &output : graph.output())
    if (output.name() == input.name())
      return false;
  return true;
}

bool import_host_inputs(Node &n) {
  static const std::set<std::string> moves = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split", "Concat", "Gather",
                                              "GatherElements", "GatherND", "Expand", "Tile", "Where", "DepthToSpace", "SpaceToDepth", "Compress",
                                              "ReverseSequence"};
  static const std::set<std::string> strings = {"Identity", "Shape", "Size", "Loop", "StringConcat", "StringSplit", "StringNormalizer",
                                                "RegexFullMatch", "LabelEncoder", "TfIdfVectorizer", "SequenceConstruct", "SequenceInsert",
                                                "SequenceMap", "SplitToSequence", "Optional", "OptionalHasElement", "OptionalGetElement"};
  static const std::set<std::string> others = {"Identity", "Loop", "SequenceInsert", "SequenceErase", "SequenceAt", "SequenceLength",
                                               "ConcatFromSequence", "SequenceMap", "Optional", "OptionalHasElement", "OptionalGetElement"};
  const std::string &op = n.proto().op_type();
  bool any = false;
  for (size_t i = 0; i < n.inputs(); ++i) {
    if (!n.has(i) || !n.host_type(i))
      continue;
    any = true;
    const bool good = n.is_strings(i) ? strings.count(op) || moves.count(op) || op == "Equal" : others.count(op) > 0;
    if (!good)
      n.fail("input " + std::to_string(i) + " is " + to_string(*n.host_type(i)) + ", which " + op + " does not take here");
  }
  if (!any || (!moves.count(op) && op != "Equal"))
    return false;
  if (op == "Equal")
    import_equal(n);
  else
    import_moved(n);
  return true;
}

} // namespace ingot::aotc::importer
