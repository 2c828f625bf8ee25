// Node: what operator functions share (inputs in each form, attributes, dims, host values).
#include <algorithm>

#include "aotc/base/error.h"
#include "aotc/graph/constant.h"
#include "aotc/import/onnx/importer.h"

namespace ingot::aotc::importer {

using onnx::AttributeProto;

Node::Node(Importer &importer, Scope &scope, const onnx::NodeProto &proto, int64_t opset, std::string name, std::string source)
    : b(importer.builder), opset(opset), name(std::move(name)), source(std::move(source)), importer_(importer),
      scope_(scope), proto_(proto) {
  for (const std::string &input : proto.input())
    inputs_.push_back(input.empty() ? nullptr : importer.find(scope, input));
  outputs_.resize(static_cast<size_t>(proto.output_size()));
}

const ValuePtr &Node::value(size_t i) const {
  if (!has(i))
    fail("input " + std::to_string(i) + " is missing");
  return inputs_[i];
}

ValueId Node::in(size_t i) { return importer_.materialise(*value(i)); }

void Node::need_inputs(size_t min, size_t max) const {
  size_t present = 0;
  for (size_t i = 0; i < inputs_.size(); ++i)
    present = inputs_[i] ? i + 1 : present;
  if (present < min || present > max)
    fail("has " + std::to_string(present) + " inputs, expected " +
         (min == max ? std::to_string(min) : std::to_string(min) + " to " + std::to_string(max)));
  for (size_t i = 0; i < min; ++i)
    value(i);
}

void Node::need_float(size_t i) const {
  if (!is_float(element(i)))
    fail("input " + std::to_string(i) + " is " + to_string(type(i)) + ", expected a float type");
}

void Node::need_same_element(size_t i, size_t j) const {
  if (element(i) != element(j))
    fail("inputs " + std::to_string(i) + " and " + std::to_string(j) + " differ in type: " + to_string(type(i)) + " and " +
             to_string(type(j)),
         "insert a Cast");
}

const AttributeProto *Node::attribute(const char *name) const {
  for (const AttributeProto &a : proto_.attribute())
    if (a.name() == name)
      return &a;
  return nullptr;
}

namespace {
std::string wrong_attribute(const AttributeProto &a, const char *expected) {
  return "attribute '" + a.name() + "' has the wrong kind, expected " + expected;
}
} // namespace

int64_t Node::int_attr(const char *name, int64_t otherwise) const {
  const AttributeProto *a = attribute(name);
  if (!a)
    return otherwise;
  if (a->type() != AttributeProto::INT)
    fail(wrong_attribute(*a, "an int"));
  return a->i();
}

float Node::float_attr(const char *name, float otherwise) const {
  const AttributeProto *a = attribute(name);
  if (!a)
    return otherwise;
  if (a->type() != AttributeProto::FLOAT)
    fail(wrong_attribute(*a, "a float"));
  return a->f();
}

std::string Node::string_attr(const char *name, const std::string &otherwise) const {
  const AttributeProto *a = attribute(name);
  if (!a)
    return otherwise;
  if (a->type() != AttributeProto::STRING)
    fail(wrong_attribute(*a, "a string"));
  return a->s();
}

std::optional<std::vector<int64_t>> Node::ints_attr(const char *name) const {
  const AttributeProto *a = attribute(name);
  if (!a)
    return std::nullopt;
  if (a->type() != AttributeProto::INTS)
    fail(wrong_attribute(*a, "a list of ints"));
  return std::vector<int64_t>(a->ints().begin(), a->ints().end());
}

std::vector<float> Node::floats_attr(const char *name) const {
  const AttributeProto *a = attribute(name);
  if (!a)
    return {};
  if (a->type() != AttributeProto::FLOATS)
    fail(wrong_attribute(*a, "a list of floats"));
  return {a->floats().begin(), a->floats().end()};
}

const onnx::GraphProto &Node::graph_attr(const char *name) const {
  const AttributeProto *a = attribute(name);
  if (!a || a->type() != AttributeProto::GRAPH || !a->has_g())
    fail(std::string("attribute '") + name + "' (a graph) is missing");
  return a->g();
}

int64_t Node::axis(int64_t axis, int64_t rank) const {
  if (axis < -rank || axis >= rank)
    fail("axis " + std::to_string(axis) + " is out of range for rank " + std::to_string(rank));
  return axis < 0 ? axis + rank : axis;
}

const std::vector<Expr> *Node::host(size_t i) { return has(i) ? importer_.host(*inputs_[i]) : nullptr; }

bool Node::all_host() {
  for (size_t i = 0; i < inputs_.size(); ++i)
    if (has(i) && !host(i))
      return false;
  return true;
}

std::vector<Expr> Node::shape_values(size_t i, int64_t min, int64_t max, bool clamp) {
  if (const std::vector<Expr> *known = host(i)) {
    // Sizes of constants may go to the tensors' own limit; symbols have their range.
    const int64_t most = std::max<int64_t>(max, 0x7fffffff);
    for (const Expr &e : *known)
      if (const auto c = e.constant(); c && !clamp && (*c < min || *c > most))
        fail("input " + std::to_string(i) + " holds " + std::to_string(*c) + ", expected " + std::to_string(min) + " to " + std::to_string(most));
    return *known;
  }
  const ValuePtr &v = value(i);
  if (is_float(v->type.element) || v->type.dims.size() > 1)
    fail("input " + std::to_string(i) + " is " + to_string(v->type) + ", expected a list of integers");
  const std::optional<int64_t> count = v->type.elements().constant();
  if (!count || *count > 64)
    fail("input " + std::to_string(i) + " is " + to_string(v->type) + ": a run-time list needs a known, small length");
  std::vector<Expr> values;
  ValueId x = in(i);
  if (clamp && (v->type.element == ElementType::kI64 || v->type.element == ElementType::kI32)) {
    const TensorType type = b.type(x);
    x = b.map(K::kMax, {b.map(K::kMin, {x, b.splat_int(type.element, type.dims, max)}), b.splat_int(type.element, type.dims, min)});
  }
  for (int64_t e = 0; e < *count; ++e) {
    const ValueId element = v->type.dims.empty() ? x : b.reshape(b.slice(x, {Expr(e)}, {1}, {Expr(1)}), {});
    values.push_back(b.read_scalar(element, importer_.unique_symbol(v->name), min, max));
  }
  v->host = values;
  v->host_home = importer_.region();
  return values;
}

Expr Node::host_scalar(size_t i, int64_t min, int64_t max) {
  std::vector<Expr> values = shape_values(i, min, max);
  if (values.size() != 1)
    fail("input " + std::to_string(i) + " is " + to_string(type(i)) + ", expected one element");
  return values[0];
}

std::optional<std::vector<int64_t>> Node::constant_ints(size_t i) {
  std::vector<int64_t> out;
  const std::vector<Expr> *values = host(i);
  if (!values && type(i).elements() == Expr(0)) // nothing to know
    return out;
  if (!values)
    return std::nullopt;
  for (const Expr &value : *values) {
    if (!value.constant())
      return std::nullopt;
    out.push_back(*value.constant());
  }
  return out;
}

std::vector<int64_t> Node::need_constant_ints(size_t i, const char *what) {
  auto values = constant_ints(i);
  if (!values)
    fail(std::string(what) + " must be known at compile time", "make input " + std::to_string(i) + " an initializer");
  return *values;
}

std::optional<std::vector<double>> Node::constant_floats(size_t i) {
  const ValuePtr &v = value(i);
  std::vector<double> out;
  if (v->data) {
    const size_t n = v->data->bytes.size() / byte_size(v->data->type);
    for (size_t e = 0; e < n; ++e)
      out.push_back(graph::read_float(*v->data, e));
    return out;
  }
  if (const auto ints = constant_ints(i)) {
    for (int64_t value : *ints)
      out.push_back(static_cast<double>(value));
    return out;
  }
  return std::nullopt;
}

void Node::set(size_t i, ValueId id) {
  if (i >= outputs_.size())
    return;
  auto v = std::make_shared<Value>();
  v->type = b.type(id);
  check_dims(v->type.dims);
  v->id = id;
  v->home = importer_.region();
  outputs_[i] = std::move(v);
}

void Node::set_narrow(size_t i, ValueId stored, int32_t onnx_type) {
  set(i, stored);
  if (i < outputs_.size())
    outputs_[i]->narrow = onnx_type;
}

void Node::set_host(size_t i, ElementType element, Dims dims, std::vector<Expr> values) {
  if (i >= outputs_.size())
    return;
  auto v = std::make_shared<Value>();
  v->type = {element, std::move(dims)};
  v->host = std::move(values);
  v->host_home = importer_.region();
  outputs_[i] = std::move(v);
}

void Node::set_data(size_t i, TensorType type, std::shared_ptr<const graph::ConstantData> data) {
  if (i >= outputs_.size())
    return;
  auto v = std::make_shared<Value>();
  v->type = std::move(type);
  v->data = std::move(data);
  outputs_[i] = std::move(v);
}

void Node::set_value(size_t i, const ValuePtr &value) {
  if (i < outputs_.size())
    outputs_[i] = std::make_shared<Value>(*value);
}

// --- dims ---

void Node::require_equal(const Expr &a, const Expr &c, const std::string &what) {
  if (a == c)
    return;
  if (a.is_constant() && c.is_constant())
    fail(what + ": " + a.to_string() + " and " + c.to_string() + " differ");
  if (proves_lt(a, c) || proves_lt(c, a))
    fail(what + ": " + a.to_string() + " and " + c.to_string() + " can never be equal");
  b.check(equal(a, c), "node '" + name + "' (" + source + "): " + what + ": " + a.to_string() + " and " + c.to_string() +
                           " must be equal");
}

Expr Node::unify(const Expr &a, const Expr &c, const std::string &what) {
  require_equal(a, c, what);
  return c.is_constant() ? c : a;
}

Expr Node::broadcast_dim(const Expr &a, const Expr &c, const std::string &what) {
  if (a == Expr(1))
    return c;
  if (c == Expr(1))
    return a;
  return unify(a, c, what);
}

Dims Node::broadcast_dims(const Dims &a, const Dims &c) {
  const Dims &longer = a.size() >= c.size() ? a : c, &shorter = a.size() >= c.size() ? c : a;
  Dims out = longer;
  const size_t shift = longer.size() - shorter.size();
  for (size_t i = 0; i < shorter.size(); ++i)
    out[shift + i] = broadcast_dim(longer[shift + i], shorter[i],
                                   "shapes " + to_string(TensorType{ElementType::kNone, a}).substr(4) + " and " +
                                       to_string(TensorType{ElementType::kNone, c}).substr(4) + " do not broadcast");
  return out;
}

void Node::need_broadcasts_to(size_t input, const Dims &to) {
  const Dims &from = dims(input);
  const std::string what = "input " + std::to_string(input) + " " + to_string(type(input)) + " does not broadcast to " +
                           to_string(TensorType{ElementType::kNone, to}).substr(4);
  if (from.size() > to.size())
    fail(what);
  for (size_t i = 0; i < from.size(); ++i)
    if (!(from[i] == Expr(1)))
      require_equal(from[i], to[to.size() - from.size() + i], what);
}

Dims Node::check_dims(Dims dims) const {
  __int128 elements = 1;
  bool empty = false;
  for (const Expr &dim : dims) {
    const auto n = dim.constant();
    if (n && (*n < 0 || *n > 0x7fffffff))
      fail("the result has dim " + std::to_string(*n));
    empty = empty || (n && *n == 0);
    if (n && elements <= 0x7fffffff)
      elements *= *n;
  }
  if (dims.size() > 8)
    fail("the result has rank " + std::to_string(dims.size()) + "; at most 8 is supported");
  if (!empty && elements > 0x7fffffff)
    fail("the result has more than 2^31-1 elements");
  return dims;
}

ValueId Node::keep_axes(ValueId reduced, const std::vector<uint32_t> &axes, const Dims &full) {
  Dims dims = full;
  for (uint32_t axis : axes)
    dims[axis] = 1;
  return b.reshape(reduced, std::move(dims));
}

ValueId Node::spread(ValueId reduced, const std::vector<uint32_t> &axes, const Dims &full) {
  std::vector<uint32_t> kept;
  for (uint32_t i = 0; i < full.size(); ++i)
    if (std::find(axes.begin(), axes.end(), i) == axes.end())
      kept.push_back(i);
  return b.broadcast(reduced, std::move(kept), full);
}

// --- values ---

ValueId Node::lift(ValueId x) {
  const ElementType element = b.type(x).element;
  return element == ElementType::kF16 || element == ElementType::kBF16 ? b.convert(ElementType::kF32, x) : x;
}

ValueId Node::constant(ValueId like, double value) {
  const TensorType type = b.type(like);
  return b.splat_float(type.element, type.dims, value);
}

ValueId Node::scalar_of(ElementType element, const Expr &value, const Dims &dims) {
  if (value.constant())
    return b.splat_int(element, dims, *value.constant());
  return b.broadcast_to(b.convert(element, b.host_tensor(ElementType::kI64, {value}, true)), dims);
}

ValueId Node::as_scalar(ValueId x) {
  if (!(b.type(x).elements() == Expr(1)))
    fail("expected one element, got " + to_string(b.type(x)));
  return b.reshape(x, {});
}

std::string Node::describe_types() const {
  std::string out = "(";
  for (size_t i = 0; i < inputs_.size(); ++i)
    out += (i ? ", " : "") + (inputs_[i] ? to_string(inputs_[i]->type) : std::string("-"));
  return out + ')';
}

} // namespace ingot::aotc::importer
