// The importer: a model's inputs, initialisers, nodes and outputs, in order; problems are collected, not thrown.
#include "aotc/import/onnx/importer.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/stubs/logging.h>

#include "aotc/base/error.h"
#include "aotc/graph/constant.h"
#include "aotc/import/onnx/gradient.h"
#include "aotc/import/onnx/ml.h"
#include "aotc/import/onnx/host_values.h"
#include "aotc/import/onnx/narrow.h"

namespace ingot::aotc::importer {

namespace {

std::string domain_name(const std::string &domain) { return domain.empty() ? "ai.onnx" : domain; }
std::string normal_domain(const std::string &domain) { return domain == "ai.onnx" ? "" : domain; }

// Names that a node reads, those that its sub-graphs capture included (own names of the sub-graph do no harm).
void collect_uses(const onnx::NodeProto &node, std::set<std::string> &uses) {
  for (const std::string &input : node.input())
    uses.insert(input);
  const auto graph_uses = [&](const onnx::GraphProto &graph) {
    for (const onnx::NodeProto &inner : graph.node())
      collect_uses(inner, uses);
    for (const onnx::ValueInfoProto &output : graph.output())
      uses.insert(output.name());
  };
  for (const onnx::AttributeProto &a : node.attribute()) {
    if (a.name() == "y" && node.op_type() == "Gradient")
      uses.insert(a.s());
    if (a.has_g())
      graph_uses(a.g());
    for (const onnx::GraphProto &graph : a.graphs())
      graph_uses(graph);
  }
}

} // namespace

Importer::Importer(const ImportOptions &options, Diagnostics &diagnostics)
    : builder(function, function.graph), options_(options), diagnostics_(diagnostics) {
  function.name = options.entry;
  folder_ = std::filesystem::path(options.path).parent_path().string();
}

void Importer::problem(const std::string &reason, const std::string &hint, const std::string &node) {
  Diagnostic d;
  d.file = options_.path;
  d.node = node;
  d.reason = reason;
  d.hint = hint;
  diagnostics_.add(std::move(d));
}

std::string Importer::unique_symbol(const std::string &base) {
  std::string name;
  for (char c : base)
    name += std::isalnum(static_cast<unsigned char>(c)) || c == '_' ? c : '_';
  if (name.empty() || !(std::isalpha(static_cast<unsigned char>(name[0])) || name[0] == '_'))
    name = "d" + name;
  std::string candidate = name;
  // Words of the expression language are no names.
  static const std::set<std::string> reserved = {"floordiv", "mod", "min", "max", "select", "and", "or", "not", "eq", "lt", "le"};
  for (int n = 1; reserved.count(candidate) || !symbol_names_.insert(candidate).second; ++n)
    candidate = name + "_" + std::to_string(n);
  return candidate;
}

bool Importer::visible(uint64_t home) const { return std::find(regions_.begin(), regions_.end(), home) != regions_.end(); }

graph::Graph *Importer::enter_region(graph::Graph &region) {
  regions_.push_back(++last_region_);
  return builder.exchange_graph(&region);
}

void Importer::leave_region(graph::Graph *outer) {
  regions_.pop_back();
  builder.exchange_graph(outer);
}

ValuePtr Importer::find(Scope &scope, const std::string &name) {
  for (Scope *s = &scope; s; s = s->parent) {
    const auto it = s->values.find(name);
    if (it != s->values.end())
      return it->second;
  }
  throw Refusal{"input '" + name + "' is not defined before this node",
                "the model's nodes must be in topological order; check the exporter"};
}

const std::vector<Expr> *Importer::host(Value &value) {
  if (value.host && visible(value.host_home))
    return &*value.host;
  if (!value.data || is_float(value.type.element))
    return nullptr;
  const int64_t n = value.type.elements().constant().value_or(kMaxHostElements + 1);
  if (n > kMaxHostElements)
    return nullptr;
  std::vector<Expr> values;
  for (int64_t i = 0; i < n; ++i)
    values.push_back(graph::read_int(*value.data, static_cast<size_t>(i)));
  value.host = std::move(values);
  value.host_home = 0;
  return &*value.host;
}

ValueId Importer::materialise(Value &value) {
  if (value.id != kNoValue && visible(value.home))
    return value.id;
  const ElementType element = value.type.element;
  if (!value.data && value.host &&
      std::all_of(value.host->begin(), value.host->end(), [](const Expr &e) { return e.is_constant(); })) {
    std::vector<int64_t> ints;
    for (const Expr &e : *value.host)
      ints.push_back(*e.constant());
    value.data = graph::make_ints(element, ints);
  }
  if (value.data) {
    // Constants go to the function's own graph, where they dominate every region.
    graph::Graph *current = builder.exchange_graph(&function.graph);
    const std::vector<uint8_t> &bytes = value.data->bytes;
    const size_t size = byte_size(element);
    const bool splat = !bytes.empty() && std::equal(bytes.begin() + static_cast<long>(size), bytes.end(), bytes.begin());
    if (splat && is_float(element))
      value.id = builder.splat_float(element, value.type.dims, graph::read_float(*value.data, 0));
    else if (splat)
      value.id = builder.splat_int(element, value.type.dims, graph::read_int(*value.data, 0));
    else
      value.id = builder.constant(value.type, value.data);
    builder.exchange_graph(current);
    value.home = 0;
  } else {
    ensure(value.host.has_value(), "importer: value '" + value.name + "' has no form");
    const bool scalar = value.type.dims.empty();
    const bool direct = element == ElementType::kI64 || element == ElementType::kI32;
    ValueId id = builder.host_tensor(direct ? element : ElementType::kI64, *value.host, scalar);
    id = builder.convert(element, id);
    value.id = scalar ? id : builder.reshape(id, value.type.dims);
    value.home = region();
  }
  if (function.values[value.id].name.empty())
    builder.set_name(value.id, value.name);
  return value.id;
}

ValuePtr Importer::constant(const onnx::TensorProto &tensor, std::string &error) {
  if (tensor.data_type() == onnx::TensorProto::STRING)
    return strings_value(*this, tensor, error);
  std::optional<DecodedTensor> decoded = decode_tensor(tensor, folder_, error);
  if (!decoded)
    return nullptr;
  auto value = std::make_shared<Value>();
  value->type = decoded->type;
  value->narrow = decoded->narrow;
  value->data = decoded->data;
  value->name = tensor.name();
  return value;
}

void Importer::import_initializers(Scope &scope, const onnx::GraphProto &graph) {
  for (const onnx::TensorProto &tensor : graph.initializer()) {
    std::string error;
    ValuePtr value = constant(tensor, error);
    if (!value) {
      problem("initializer: " + error);
      value = std::make_shared<Value>();
      value->poisoned = true;
    }
    if (tensor.name().empty())
      problem("an initializer has no name");
    scope.values[tensor.name()] = std::move(value);
  }
  for (const onnx::SparseTensorProto &tensor : graph.sparse_initializer()) {
    problem("sparse initializer '" + tensor.values().name() + "' is not supported", "store it as a dense tensor");
    auto value = std::make_shared<Value>();
    value->poisoned = true;
    scope.values[tensor.values().name()] = std::move(value);
  }
}

void Importer::poison(Scope &scope, const onnx::NodeProto &proto) {
  for (const std::string &output : proto.output()) {
    auto value = std::make_shared<Value>();
    value->name = output;
    value->poisoned = true;
    if (!output.empty())
      scope.values[output] = std::move(value);
  }
}

namespace {

// What may take elements of a narrow type: conversions, and operators that move elements without looking at them. The
// results of the latter are of the type of their first input.
enum class Narrow : uint8_t { kRefused, kConverts, kMoves };

Narrow narrow_use(const std::string &op) {
  static const std::map<std::string, Narrow> uses = {
      {"Cast", Narrow::kConverts},        {"CastLike", Narrow::kConverts},  {"QuantizeLinear", Narrow::kConverts},
      {"DequantizeLinear", Narrow::kConverts}, {"Shape", Narrow::kConverts}, {"Size", Narrow::kConverts},
      {"BitCast", Narrow::kConverts},     {"Identity", Narrow::kMoves},     {"Reshape", Narrow::kMoves},
      {"Flatten", Narrow::kMoves},        {"Squeeze", Narrow::kMoves},      {"Unsqueeze", Narrow::kMoves},
      {"Transpose", Narrow::kMoves},      {"Slice", Narrow::kMoves},        {"Split", Narrow::kMoves},
      {"Concat", Narrow::kMoves},         {"Gather", Narrow::kMoves},       {"GatherElements", Narrow::kMoves},
      {"GatherND", Narrow::kMoves},       {"Expand", Narrow::kMoves},       {"Tile", Narrow::kMoves},
      {"DepthToSpace", Narrow::kMoves},   {"SpaceToDepth", Narrow::kMoves}};
  const auto it = uses.find(op);
  return it == uses.end() ? Narrow::kRefused : it->second;
}

} // namespace

void Importer::check_narrow(const Node &node, const std::string &op) {
  for (size_t i = 0; i < node.inputs(); ++i) {
    if (!node.has(i) || !node.narrow(i))
      continue;
    if (narrow_use(op) == Narrow::kRefused)
      node.fail("input " + std::to_string(i) + " has element type " + onnx_type_name(node.narrow(i)) + ", which " + op + " does not take here",
                "insert a Cast or a DequantizeLinear before it");
    if (narrow_use(op) == Narrow::kMoves && op == "Concat" && node.narrow(i) != node.narrow(0))
      node.fail("inputs differ in type: " + onnx_type_name(node.narrow(0)) + " and " + onnx_type_name(node.narrow(i)));
  }
}

void Importer::import_node(Scope &scope, const onnx::NodeProto &proto) {
  const std::string name =
      proto.name().empty() ? proto.op_type() + "_" + std::to_string(anonymous_++) : proto.name();
  const std::string domain = normal_domain(proto.domain());
  const std::string source = domain_name(domain) + "." + proto.op_type();
  const auto opset = opsets_.find(domain);
  if (options_.probe && !scope.parent && calls_.empty())
    options_.probe->nodes.push_back({name, domain.empty() ? proto.op_type() : source,
                               {proto.input().begin(), proto.input().end()}, {proto.output().begin(), proto.output().end()}});
  Diagnostic d;
  d.file = options_.path;
  d.node = name;
  d.op = source;
  d.opset = opset == opsets_.end() ? 0 : opset->second;

  const auto input_types = [&] {
    std::string text;
    for (const std::string &input : proto.input()) {
      std::string one = "?";
      for (Scope *s = &scope; s; s = s->parent)
        if (const auto it = s->values.find(input); it != s->values.end()) {
          one = it->second->poisoned ? "?" : to_string(it->second->type);
          break;
        }
      text += (text.empty() ? "" : ", ") + (input.empty() ? std::string("-") : one);
    }
    return "(" + text + ")";
  };

  if (functions_.count({domain, proto.op_type()})) {
    builder.set_origin(name, source);
    try {
      if (!import_call(scope, proto, name))
        poison(scope, proto);
    } catch (const Refusal &refusal) {
      d.types = input_types();
      d.reason = refusal.reason;
      d.hint = refusal.hint;
      diagnostics_.add(std::move(d));
      poison(scope, proto);
    }
    return;
  }

  // Find the row; report an unknown operator even where an input is poisoned.
  const OperatorRow *row = nullptr, *other = nullptr;
  for (const OperatorRow &r : operator_table())
    if (domain == r.domain && proto.op_type() == r.op) {
      other = &r;
      if (d.opset >= r.min_opset && d.opset <= r.max_opset)
        row = &r;
    }
  if (!row) {
    d.types = input_types();
    if (opset == opsets_.end()) {
      d.reason = "the model imports no opset of domain '" + domain_name(domain) + "'";
      d.hint = "add the domain to opset_import";
    } else if (other) {
      d.reason = "operator " + proto.op_type() + " exists from opset " + std::to_string(other->min_opset) + " to " +
                 std::to_string(other->max_opset) + " here, the model has " + std::to_string(d.opset);
      d.hint = "convert the model to another opset";
    } else {
      d.reason = "operator " + proto.op_type() + " of domain " + domain_name(domain) + " is not supported";
      d.hint = "aotc --list-operators shows what is; docs/adding-an-operator.md says how to add one";
    }
    diagnostics_.add(std::move(d));
    poison(scope, proto);
    return;
  }

  builder.set_origin(name, source);
  graph::Graph *const current = builder.exchange_graph(nullptr);
  builder.exchange_graph(current);
  const std::vector<uint64_t> regions = regions_;
  try {
    Node node(*this, scope, proto, d.opset, name, source);
    for (const ValuePtr &input : node.inputs_)
      if (input && input->poisoned) {
        poison(scope, proto);
        return;
      }
    check_narrow(node, proto.op_type());
    if (!import_host_inputs(node))
      row->import(node);
    if (rest().taken)
      return;
    for (size_t i = 0; i < node.outputs(); ++i) {
      const std::string &output = proto.output(static_cast<int>(i));
      if (output.empty())
        continue;
      if (!node.outputs_[i])
        node.fail("output " + std::to_string(i) + " ('" + output + "') is not supported");
      ValuePtr &value = node.outputs_[i];
      if (narrow_use(proto.op_type()) == Narrow::kMoves)
        value->narrow = node.narrow(0);
      value->name = output;
      if (value->id != kNoValue && function.values[value->id].name.empty())
        builder.set_name(value->id, output);
      if (!scope.values.emplace(output, value).second)
        node.fail("output '" + output + "' is already defined");
    }
  } catch (const Refusal &refusal) {
    builder.exchange_graph(current);
    regions_ = regions;
    if (refusal.reason.empty()) { // reported inside (a sub-graph)
      poison(scope, proto);
      return;
    }
    d.types = input_types();
    d.reason = refusal.reason;
    d.hint = refusal.hint;
    diagnostics_.add(std::move(d));
    poison(scope, proto);
  }
}

void Importer::import_nodes(Scope &scope, const google::protobuf::RepeatedPtrField<onnx::NodeProto> &nodes,
                            const std::set<std::string> &outputs, int first, const InPlace *in_place) {
  // Backward: which nodes are of use.
  std::set<std::string> needed = outputs;
  std::vector<bool> used(static_cast<size_t>(nodes.size()));
  for (int i = nodes.size() - 1; i >= first; --i) {
    const onnx::NodeProto &node = nodes[i];
    for (const std::string &output : node.output())
      used[static_cast<size_t>(i)] = used[static_cast<size_t>(i)] || (!output.empty() && needed.count(output));
    if (used[static_cast<size_t>(i)])
      collect_uses(node, needed);
  }
  // Out of order: a needed name may be produced by a node that the backward pass passed already. Such a node's user
  // reports it (find).
  Rest rest{&nodes, &outputs, first, false, in_place};
  rests_.push_back(&rest);
  for (int i = first; i < nodes.size() && !rest.taken; ++i) {
    rest.next = i + 1;
    if (used[static_cast<size_t>(i)])
      import_node(scope, nodes[i]);
    else if (nodes[i].name().empty())
      ++anonymous_;
  }
  rests_.pop_back();
}

// A model-local function: its nodes are imported in place, with attributes substituted.
bool Importer::import_call(Scope &scope, const onnx::NodeProto &proto, const std::string &name) {
  const onnx::FunctionProto &f = *functions_.at({normal_domain(proto.domain()), proto.op_type()});
  if (std::find(calls_.begin(), calls_.end(), &f) != calls_.end() || calls_.size() > 64)
    throw Refusal{"function '" + f.name() + "' calls itself", ""};
  if (proto.input_size() > f.input_size() || proto.output_size() > f.output_size())
    throw Refusal{"function '" + f.name() + "' takes " + std::to_string(f.input_size()) + " inputs and gives " +
                      std::to_string(f.output_size()) + " outputs; the node has " + std::to_string(proto.input_size()) +
                      " and " + std::to_string(proto.output_size()), ""};
  Scope inner; // no parent: a function sees its inputs only
  for (int i = 0; i < f.input_size(); ++i) {
    if (i < proto.input_size() && !proto.input(i).empty()) {
      ValuePtr value = find(scope, proto.input(i));
      if (value->poisoned)
        return false;
      inner.values[f.input(i)] = value;
    }
  }
  // Attribute references become the caller's attributes; those not given disappear (the operator's default holds).
  google::protobuf::RepeatedPtrField<onnx::NodeProto> nodes = f.node();
  for (onnx::NodeProto &node : nodes) {
    node.set_name(name + "/" + (node.name().empty() ? node.op_type() : node.name()));
    for (std::string &input : *node.mutable_input())
      if (std::find(f.input().begin(), f.input().end(), input) != f.input().end() && !inner.values.count(input))
        input.clear(); // an optional input of the function that the caller left out
    google::protobuf::RepeatedPtrField<onnx::AttributeProto> attributes;
    for (const onnx::AttributeProto &a : node.attribute()) {
      if (a.ref_attr_name().empty()) {
        *attributes.Add() = a;
        continue;
      }
      for (const onnx::AttributeProto &given : proto.attribute())
        if (given.name() == a.ref_attr_name()) {
          onnx::AttributeProto *copy = attributes.Add();
          *copy = given;
          copy->set_name(a.name());
        }
    }
    *node.mutable_attribute() = attributes;
  }
  const std::map<std::string, int64_t> outer_opsets = opsets_;
  for (const onnx::OperatorSetIdProto &opset : f.opset_import())
    opsets_[normal_domain(opset.domain())] = opset.version();
  calls_.push_back(&f);
  const size_t before = problems();
  import_nodes(inner, nodes, std::set<std::string>(f.output().begin(), f.output().end()));
  calls_.pop_back();
  opsets_ = outer_opsets;
  if (problems() != before)
    return false;
  for (int i = 0; i < proto.output_size(); ++i)
    if (!proto.output(i).empty()) {
      ValuePtr value = find(inner, f.output(i));
      if (value->poisoned)
        return false;
      scope.values[proto.output(i)] = std::make_shared<Value>(*value);
      scope.values[proto.output(i)]->name = proto.output(i);
    }
  return true;
}

namespace {

// One dim of an --input-shape: a number, '?' or a range.
struct DimSpec {
  std::optional<int64_t> fixed;
  std::optional<std::pair<int64_t, int64_t>> range;
};

bool parse_number(const std::string &text, int64_t &value) {
  if (text.empty() || text.size() > 10 || !std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; }))
    return false;
  value = std::stoll(text);
  return value <= 0x7fffffff;
}

std::optional<std::vector<DimSpec>> parse_shape(const std::string &text) {
  std::vector<DimSpec> dims;
  if (text.empty())
    return dims; // rank 0
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find('x', at), text.size());
    const std::string part = text.substr(at, end - at);
    DimSpec dim;
    const size_t dots = part.find("..");
    int64_t low = 0, high = 0;
    if (dots != std::string::npos) {
      if (!parse_number(part.substr(0, dots), low) || !parse_number(part.substr(dots + 2), high) || low > high)
        return std::nullopt;
      dim.range = {low, high};
    } else if (part != "?") {
      if (!parse_number(part, low))
        return std::nullopt;
      dim.fixed = low;
    }
    dims.push_back(dim);
    at = end + 1;
  }
  return dims;
}

} // namespace

bool Importer::import_inputs(Scope &scope, const onnx::GraphProto &graph) {
  const size_t before = problems();
  std::map<std::string, std::vector<DimSpec>> shapes;
  for (const std::string &text : options_.input_shapes) {
    const size_t equals = text.rfind('=');
    const auto dims = equals == std::string::npos ? std::nullopt : parse_shape(text.substr(equals + 1));
    if (!dims) {
      problem("--input-shape=" + text + " is not NAME=1x3x48x320 ('?' keeps a dim, '1..64' is a range)");
      continue;
    }
    const std::string name = text.substr(0, equals);
    bool found = false;
    std::string known;
    for (const onnx::ValueInfoProto &input : graph.input()) {
      if (input.name() == name)
        found = true;
      if (!scope.values.count(input.name()))
        known += (known.empty() ? "'" : ", '") + input.name() + "'";
    }
    if (!found || scope.values.count(name))
      problem("--input-shape names '" + name + "', which is no input of the model", "the inputs are " + known);
    shapes[name] = *dims;
  }

  find_states(scope, graph);
  for (const onnx::ValueInfoProto &input : graph.input()) {
    if (scope.values.count(input.name()))
      continue; // an initialiser: its value is fixed (or a duplicate, reported below)
    auto value = std::make_shared<Value>();
    value->name = input.name();
    value->poisoned = true;
    scope.values[input.name()] = value;
    if (input.name().empty()) {
      problem("an input has no name");
      continue;
    }
    if (!input.type().has_tensor_type()) {
      try {
        value->host_type = declared_host_type(input.type());
      } catch (const Refusal &refusal) {
        problem("input '" + input.name() + "' " + refusal.reason, refusal.hint);
        continue;
      }
      value->type = {graph::kHostValue, {}};
      value->id = builder.add_value(value->type, input.name());
      value->poisoned = false;
      function.graph.inputs.push_back({input.name(), value->id});
      continue;
    }
    const onnx::TypeProto_Tensor &tensor = input.type().tensor_type();
    std::optional<ElementType> element = element_type(tensor.elem_type());
    if (!element && narrow_storage(tensor.elem_type())) {
      element = narrow_storage(tensor.elem_type());
      value->narrow = tensor.elem_type();
    }
    if (tensor.elem_type() == onnx::TensorProto::STRING) {
      element = graph::kHostValue;
      value->host_type = strings_type();
    }
    if (!element) {
      problem("input '" + input.name() + "' has element type " + onnx_type_name(tensor.elem_type()) +
              ", which is not supported");
      continue;
    }
    const auto given = shapes.find(input.name());
    const std::vector<DimSpec> *spec = given == shapes.end() ? nullptr : &given->second;
    if (!tensor.has_shape() && !spec) {
      problem("input '" + input.name() + "' has no shape", "give one: --input-shape=" + input.name() + "=1x3x224x224");
      continue;
    }
    const size_t rank = tensor.has_shape() ? static_cast<size_t>(tensor.shape().dim_size()) : spec->size();
    if (spec && spec->size() != rank) {
      problem("--input-shape of '" + input.name() + "' has " + std::to_string(spec->size()) + " dims, the model has " +
              std::to_string(rank));
      continue;
    }
    if (rank > 8) {
      problem("input '" + input.name() + "' has rank " + std::to_string(rank) + "; at most 8 is supported");
      continue;
    }
    TensorType type;
    type.element = *element;
    bool good = true;
    for (size_t i = 0; i < rank && good; ++i) {
      static const onnx::TensorShapeProto_Dimension none;
      const auto &dim = tensor.has_shape() ? tensor.shape().dim(static_cast<int>(i)) : none;
      const DimSpec one = spec ? (*spec)[i] : DimSpec{};
      const std::string where = "input '" + input.name() + "', dim " + std::to_string(i);
      if (dim.has_dim_value() && dim.dim_value() >= 0) {
        if (dim.dim_value() > 0x7fffffff) {
          problem(where + " is " + std::to_string(dim.dim_value()) + ", past 2^31-1");
          good = false;
        } else if ((one.fixed && *one.fixed != dim.dim_value()) ||
                   (one.range && (one.range->first > dim.dim_value() || one.range->second < dim.dim_value()))) {
          problem(where + " is " + std::to_string(dim.dim_value()) + " in the model; --input-shape cannot change it");
          good = false;
        }
        type.dims.push_back(dim.dim_value());
        continue;
      }
      // A dim without a value: named, anonymous, or -1 of an old exporter.
      const std::string param = dim.has_dim_param() ? dim.dim_param() : "";
      if (!param.empty() && dims_.count(param)) {
        const Expr &known = dims_.at(param);
        if (one.fixed && !(known == Expr(*one.fixed))) {
          problem(where + " ('" + param + "') is given as " + std::to_string(*one.fixed) + " and as " + known.to_string(),
                  "dims of one name are equal");
          good = false;
        }
        type.dims.push_back(known);
        continue;
      }
      // Another input may fix the same name: look ahead so that order does not matter.
      DimSpec merged = one;
      if (!param.empty())
        for (const onnx::ValueInfoProto &other : graph.input()) {
          const auto s = shapes.find(other.name());
          if (s == shapes.end() || !other.type().has_tensor_type())
            continue;
          const auto &shape = other.type().tensor_type().shape();
          for (int k = 0; k < shape.dim_size() && static_cast<size_t>(k) < s->second.size(); ++k)
            if (shape.dim(k).has_dim_param() && shape.dim(k).dim_param() == param) {
              const DimSpec &o = s->second[static_cast<size_t>(k)];
              if (o.fixed && !merged.fixed)
                merged.fixed = o.fixed;
              if (o.range && !merged.range)
                merged.range = o.range;
            }
        }
      Expr extent;
      if (merged.fixed) {
        extent = Expr(*merged.fixed);
      } else if (growing_.count(input.name())) {
        if (!merged.range) {
          problem(where + " of the state has no bound", "say how far it may grow, as in --input-shape=" + input.name() + "=1x8x0..1023x64");
          good = false;
          break;
        }
        extent = state_length(input.name(), param.empty() ? input.name() + "_" + std::to_string(i) : param, merged.range->second);
      } else {
        const std::string base = param.empty() ? input.name() + "_" + std::to_string(i) : param;
        const Symbol symbol = Symbol::dim(unique_symbol(base), merged.range ? merged.range->first : only_host_uses(graph, input) ? 0 : 1,
                                          merged.range ? merged.range->second : kMaxDim);
        function.dims.push_back(symbol);
        extent = symbol;
      }
      if (!param.empty())
        dims_[param] = extent;
      type.dims.push_back(extent);
    }
    if (!good)
      continue;
    __int128 elements = 1;
    for (const Expr &dim : type.dims)
      elements = elements > 0x7fffffff ? elements : elements * dim.constant().value_or(1);
    if (elements > 0x7fffffff) {
      problem("input '" + input.name() + "' has more than 2^31-1 elements");
      continue;
    }
    value->type = type;
    if (growing_.count(input.name())) {
      begin_state(*value);
      continue;
    }
    for (const Expr &dim : type.dims)
      for (const StateLength &length : lengths_)
        if (dim == length.length) {
          problem("input '" + input.name() + "' has a dim that is the length of a state, " + dim.to_string(),
                  "the runtime knows how long its states are: such an input cannot be given");
          good = false;
        }
    if (!good)
      continue;
    value->poisoned = false;
    value->id = builder.add_value(type, input.name());
    function.graph.inputs.push_back({input.name(), value->id, value->host_type.has_value()});
  }
  return problems() == before;
}

namespace {

// Backward liveness over a graph and its regions; drops ops whose results and symbols nobody uses.
struct Liveness {
  std::vector<bool> values;
  std::set<Symbol> symbols;

  void use(const Expr &expr) {
    for (const Symbol &s : expr.symbols())
      symbols.insert(s);
  }

  void run(graph::Graph &graph, const graph::Function &function) {
    for (const graph::Signature &output : graph.outputs)
      values[output.value] = true;
    for (const Expr &size : graph.sizes)
      use(size);
    std::vector<bool> keep(graph.ops.size());
    for (size_t n = graph.ops.size(); n-- > 0;) {
      graph::Op &op = graph.ops[n];
      bool live = op.code == graph::Opcode::kCheck;
      for (ValueId v : op.results)
        live = live || values[v];
      live = live || op.code == graph::Opcode::kAppend || (op.symbol && symbols.count(op.symbol));
      for (const Symbol &s : op.symbols)
        live = live || symbols.count(s);
      live = live || (op.loop && symbols.count(op.loop->trips));
      for (const Symbol &s : op.sizes)
        live = live || symbols.count(s);
      if (!live)
        continue;
      keep[n] = true;
      for (ValueId v : op.operands)
        values[v] = true;
      for (const Expr &e : op.exprs)
        use(e);
      for (ValueId v : op.results)
        for (const Expr &dim : function.values[v].type.dims)
          use(dim);
      if (op.loop && op.loop->trip_count)
        use(*op.loop->trip_count);
      if (op.loop && op.loop->initial_condition)
        use(*op.loop->initial_condition);
      if (op.compute)
        for (const Symbol &s : op.compute->free_symbols())
          symbols.insert(s);
      if (op.compute && op.compute->loop)
        for (const Expr &e : op.compute->loop->params)
          use(e);
      for (graph::Graph &region : op.regions)
        run(region, function);
    }
    size_t to = 0;
    for (size_t i = 0; i < graph.ops.size(); ++i)
      if (keep[i]) {
        if (to != i)
          graph.ops[to] = std::move(graph.ops[i]);
        ++to;
      }
    graph.ops.resize(to);
  }
};

} // namespace

void Importer::drop_unused() {
  Liveness liveness{std::vector<bool>(function.values.size()), {}};
  liveness.run(function.graph, function);
}

namespace {

// Which values of the function's own graph depend on more than constants.
std::vector<bool> find_varying(const graph::Function &function) {
  std::vector<bool> varying(function.values.size());
  for (const graph::Signature &input : function.graph.inputs)
    varying[input.value] = true;
  for (const graph::Op &op : function.graph.ops) {
    bool any = !op.regions.empty() || op.code == graph::Opcode::kHostTensor || op.code == graph::Opcode::kState ||
               (op.code == graph::Opcode::kCompute && op.operands.empty()); // random numbers
    for (ValueId v : op.operands)
      any = any || varying[v];
    for (ValueId v : op.results)
      varying[v] = any;
  }
  return varying;
}

} // namespace

// What only constants make is left out: as an output it would be computed at run time, and its users, say a convolution
// of rearranged weights, would get other kernels than they have in the model.
void Importer::probe(Scope &scope) {
  const std::vector<bool> varying = find_varying(function);
  std::set<std::string> outputs;
  for (const graph::Signature &output : function.graph.outputs) {
    outputs.insert(output.name);
    options_.probe->outputs.push_back(output.name);
  }
  for (ProbedNode &node : options_.probe->nodes) {
    std::vector<std::string> visible;
    for (const std::string &name : node.outputs) {
      const auto it = scope.values.find(name);
      if (it == scope.values.end() || it->second->narrow || it->second->host_type)
        continue;
      const ValueId known = it->second->id;
      if (known < varying.size() && !varying[known] && !it->second->data && !outputs.count(name))
        continue;
      if (!outputs.count(name)) {
        if (node.op == "Constant")
          continue;
        outputs.insert(name);
        const ValueId id = materialise(*it->second);
        function.graph.outputs.push_back({name, id});
      }
      visible.push_back(name);
    }
    node.outputs = std::move(visible);
    std::erase(node.inputs, "");
  }
}

std::optional<graph::Function> Importer::run(const onnx::ModelProto &model) {
  if (!model.has_graph() || model.graph().output_size() == 0) {
    problem("the file holds no ONNX graph with outputs", "is it an ONNX model?");
    return std::nullopt;
  }
  for (const onnx::OperatorSetIdProto &opset : model.opset_import())
    opsets_[normal_domain(opset.domain())] = opset.version();
  for (const onnx::FunctionProto &f : model.functions())
    functions_[{normal_domain(f.domain()), f.name()}] = &f;
  const auto standard = opsets_.find("");
  if (standard != opsets_.end() && (standard->second < kMinOpset || standard->second > kMaxOpset)) {
    problem("the model has opset " + std::to_string(standard->second) + " of ai.onnx; supported are " +
                std::to_string(kMinOpset) + " to " + std::to_string(kMaxOpset),
            "convert it with onnx.version_converter");
    return std::nullopt;
  }
  const onnx::GraphProto &graph = model.graph();
  Scope scope;
  import_initializers(scope, graph);
  import_inputs(scope, graph);
  std::set<std::string> outputs;
  for (const onnx::ValueInfoProto &output : graph.output())
    if (!outputs.insert(output.name()).second)
      problem("two outputs are named '" + output.name() + "'");
  import_nodes(scope, graph.node(), outputs);
  if (problems() == 0)
    close_states(scope);
  for (const onnx::ValueInfoProto &output : graph.output()) {
    if (std::any_of(growing_.begin(), growing_.end(), [&](const auto &g) { return g.second.output == output.name(); }))
      continue;
    const auto it = scope.values.find(output.name());
    if (it == scope.values.end()) {
      problem("output '" + output.name() + "' is not produced by any node");
      continue;
    }
    if (it->second->poisoned)
      continue;
    builder.set_origin("", "");
    const ValueId id = materialise(*it->second);
    const auto &host = it->second->host_type;
    function.graph.outputs.push_back({output.name(), id, host && host->kind == HostType::Kind::kStrings});
  }
  if (!diagnostics_.empty())
    return std::nullopt;
  if (options_.probe)
    probe(scope);
  drop_unused();
  const std::string wrong = graph::verify(function);
  ensure(wrong.empty(), "import of '" + options_.path + "' made an ill-formed graph: " + wrong);
  return std::move(function);
}

const std::vector<OperatorRow> &operator_table() {
  static const std::vector<OperatorRow> table = [] {
    std::vector<OperatorRow> all;
    for (const auto &rows : {elementwise_operators(), activation_operators(), shape_operators(), movement_operators(),
                             gather_operators(), contract_operators(), nn_operators(), pool_operators(),
                             norm_operators(), reduce_operators(), resize_operators(), control_operators(),
                             quantize_operators(), sort_operators(), loss_operators(), recurrent_operators(),
                             attention_operators(), spatial_operators(), sample_operators(), signal_operators(),
                             detect_operators(), training_operators(), random_operators(), ml_operators(), gradient_operators(),
                             sequence_operators(), string_operators()})
      all.insert(all.end(), rows.begin(), rows.end());
    return all;
  }();
  return table;
}

} // namespace ingot::aotc::importer

namespace ingot::aotc {

namespace {

void refuse(const ImportOptions &options, Diagnostics &diagnostics, const std::string &reason, const std::string &hint) {
  Diagnostic d;
  d.file = options.path;
  d.reason = reason;
  d.hint = hint;
  diagnostics.add(std::move(d));
}

} // namespace

std::optional<graph::Function> import_onnx_bytes(const std::string &bytes, const ImportOptions &options,
                                                 Diagnostics &diagnostics) {
  if (bytes.size() > 0x7fffffff) {
    refuse(options, diagnostics, "the file is larger than 2 GiB, protobuf's limit", "store the weights as external data");
    return std::nullopt;
  }
  google::protobuf::LogSilencer silence; // a damaged file is reported below, once
  onnx::ModelProto model;
  google::protobuf::io::ArrayInputStream stream(bytes.data(), static_cast<int>(bytes.size()));
  google::protobuf::io::CodedInputStream coded(&stream);
  coded.SetTotalBytesLimit(0x7fffffff);
  if (bytes.empty() || !model.ParseFromCodedStream(&coded) || !coded.ConsumedEntireMessage()) {
    refuse(options, diagnostics, "not a readable ONNX model: the file is truncated, damaged or of another format",
           "compare its size and checksum with the source");
    return std::nullopt;
  }
  importer::Importer importer(options, diagnostics);
  return importer.run(model);
}

std::optional<graph::Function> import_onnx(const ImportOptions &options, Diagnostics &diagnostics) {
  namespace fs = std::filesystem;
  std::error_code code;
  if (!fs::exists(options.path, code)) {
    refuse(options, diagnostics, "the file does not exist", "");
    return std::nullopt;
  }
  if (fs::is_directory(options.path, code)) {
    refuse(options, diagnostics, "is a folder, not a file", "");
    return std::nullopt;
  }
  const uint64_t size = fs::file_size(options.path, code);
  if (!code && size > 0x7fffffff) {
    refuse(options, diagnostics, "the file is larger than 2 GiB, protobuf's limit", "store the weights as external data");
    return std::nullopt;
  }
  std::ifstream file(options.path, std::ios::binary);
  std::string bytes(code ? 0 : size, '\0');
  if (code || !file || (size && !file.read(bytes.data(), static_cast<std::streamsize>(size)))) {
    refuse(options, diagnostics, "the file cannot be read", "check its permissions");
    return std::nullopt;
  }
  return import_onnx_bytes(bytes, options, diagnostics);
}

std::vector<std::string> list_onnx_operators() {
  std::vector<std::string> lines;
  for (const importer::OperatorRow &row : importer::operator_table())
    lines.push_back((row.domain[0] ? std::string(row.domain) : "ai.onnx") + " " + row.op + " " +
                    std::to_string(row.min_opset) + "-" + std::to_string(row.max_opset));
  std::sort(lines.begin(), lines.end());
  return lines;
}

} // namespace ingot::aotc
