// Lists (ONNX's sequences) and optionals: the runtime keeps them, host ops make and take them apart.
#include "aotc/import/onnx/algebra.h"
#include "aotc/import/onnx/host_values.h"

namespace ingot::aotc::importer {

namespace {

using Kind = HostType::Kind;

const HostType &need_list(Node &n, size_t i) {
  if (!n.has(i) || !n.host_type(i) || n.host_type(i)->kind != Kind::kList)
    n.fail("input " + std::to_string(i) + " is " + (n.has(i) && n.host_type(i) ? to_string(*n.host_type(i)) : "a tensor") + ", expected a sequence");
  return *n.host_type(i);
}

HostType merged(Node &n, const HostType &a, const HostType &b) {
  const auto type = merge(a, b);
  if (!type)
    n.fail("a " + to_string(a) + " takes no element of a " + to_string(b));
  return *type;
}

// A position may be negative, and beyond any list: then a run says so.
std::vector<Expr> position(Node &n, size_t i) {
  if (!n.has(i))
    return {};
  return {n.host_scalar(i, -(int64_t{1} << 31), int64_t{1} << 31)};
}

void import_empty(Node &n) {
  n.need_inputs(0, 0);
  HostType type;
  type.kind = Kind::kList;
  type.rank = kNoElements;
  const int32_t dtype = static_cast<int32_t>(n.int_attr("dtype", onnx::TensorProto::FLOAT));
  type.strings = dtype == onnx::TensorProto::STRING;
  if (!type.strings) {
    const auto element = element_type(dtype);
    if (!element)
      n.fail("has elements of type " + onnx_type_name(dtype) + ", which is not supported");
    type.element = *element;
  }
  const ElementType element = type.strings ? graph::kHostValue : type.element;
  n.set_host_value(0, host_op(n, HostOp::empty, {}, {}, {}, {static_cast<int64_t>(element)}), type);
}

void import_construct(Node &n) {
  n.need_inputs(1, 255);
  HostType type = list_of(*n.value(0));
  std::vector<ValueId> elements;
  for (size_t i = 0; i < n.inputs(); ++i) {
    type = merged(n, type, list_of(*n.value(i)));
    elements.push_back(box(n, n.value(i)));
  }
  n.set_host_value(0, host_op(n, HostOp::construct, elements), type);
}

void import_insert(Node &n) {
  n.need_inputs(2, 3);
  const HostType type = merged(n, need_list(n, 0), list_of(*n.value(1)));
  n.set_host_value(0, host_op(n, HostOp::insert, {n.in(0), box(n, n.value(1))}, {}, position(n, 2)), type);
}

void import_erase(Node &n) {
  n.need_inputs(1, 2);
  const HostType type = need_list(n, 0);
  n.set_host_value(0, host_op(n, HostOp::erase, {n.in(0)}, {}, position(n, 1)), type);
}

void import_at(Node &n) {
  n.need_inputs(2, 2);
  const HostType type = need_list(n, 0);
  n.set_value(0, unbox(n, host_op(n, HostOp::at, {n.in(0)}, {}, position(n, 1)), type));
}

void import_length(Node &n) {
  n.need_inputs(1, 1);
  need_list(n, 0);
  n.set_host(0, ElementType::kI64, {}, {host_number(n, HostOp::length, n.in(0), "length", 0x7fffffff)});
}

void import_split(Node &n) {
  n.need_inputs(1, 2);
  HostType type = list_of(*n.value(0));
  const int64_t axis = n.axis(n.int_attr("axis", 0), n.rank(0));
  const bool keep = n.has(1) || n.int_attr("keepdims", 1) != 0;
  if (!keep)
    --*type.rank;
  std::vector<ValueId> sources = {box(n, n.value(0))};
  if (n.has(1)) {
    if (n.element(1) != ElementType::kI32 && n.element(1) != ElementType::kI64)
      n.fail("input 1 is " + to_string(n.type(1)) + ", expected i32 or i64");
    sources.push_back(box(n, n.value(1)));
  }
  n.set_host_value(0, host_op(n, HostOp::split, sources, {}, {}, {axis, keep}), type);
}

void import_concat(Node &n) {
  n.need_inputs(1, 1);
  HostType type = need_list(n, 0);
  if (!n.attribute("axis"))
    n.fail("attribute 'axis' is missing");
  const bool stack = n.int_attr("new_axis", 0) != 0;
  const int64_t axis = n.int_attr("axis", 0);
  if (axis < -9 || axis > 8)
    n.fail("axis " + std::to_string(axis) + " is out of range");
  if (type.rank && *type.rank != kNoElements) {
    *type.rank += stack;
    n.axis(axis, static_cast<int64_t>(*type.rank));
  }
  n.set_value(0, unbox(n, host_op(n, HostOp::concat, {n.in(0)}, {}, {}, {axis, stack}), type));
}

// before: y = SequenceMap(xs, w) body; after: a loop over the list that takes an element, applies the body and appends
void import_map(Node &n) {
  const onnx::GraphProto &body = n.graph_attr("body");
  if (n.inputs() < 1 || body.input_size() != static_cast<int>(n.inputs()) || n.outputs() > static_cast<size_t>(body.output_size()))
    n.fail("has " + std::to_string(n.inputs()) + " inputs and " + std::to_string(n.outputs()) + " outputs; its body has " +
           std::to_string(body.input_size()) + " and " + std::to_string(body.output_size()));
  need_list(n, 0);
  const Expr length = host_number(n, HostOp::length, n.in(0), "length", 0x7fffffff);
  for (size_t i = 1; i < n.inputs(); ++i)
    if (n.host_type(i) && n.host_type(i)->kind == Kind::kList)
      n.require_equal(host_number(n, HostOp::length, n.in(i), "length", 0x7fffffff), length, "lengths of the sequences");
  std::vector<ValueId> empty;
  std::vector<HostType> types;
  for (size_t i = 0; i < n.inputs(); ++i)
    n.in(i); // outside of the loop
  for (size_t i = 0; i < static_cast<size_t>(body.output_size()); ++i) {
    HostType declared;
    onnx::TypeProto list;
    *list.mutable_sequence_type()->mutable_elem_type() = body.output(static_cast<int>(i)).type();
    declared = declared_host_type(list);
    const ElementType element = declared.strings ? graph::kHostValue : declared.element;
    empty.push_back(host_op(n, HostOp::empty, {}, {}, {}, {static_cast<int64_t>(element)}));
    declared.rank = kNoElements;
    types.push_back(declared);
  }
  const std::vector<ValueId> results = counted_loop(n, length, empty, [&](const Expr &step, const std::vector<ValueId> &lists) {
    Scope scope{&n.scope(), {}};
    for (size_t i = 0; i < n.inputs(); ++i) {
      const ValuePtr given = n.value(i);
      const bool list = given->host_type && given->host_type->kind == Kind::kList;
      ValuePtr v = list ? unbox(n, host_op(n, HostOp::at, {n.in(i)}, {}, {step}), *given->host_type) : std::make_shared<Value>(*given);
      v->name = body.input(static_cast<int>(i)).name();
      scope.values[v->name] = v;
    }
    const std::vector<ValuePtr> outputs = import_body(n, scope, body);
    std::vector<ValueId> next;
    for (size_t i = 0; i < outputs.size(); ++i) {
      types[i] = merged(n, types[i], list_of(*outputs[i]));
      next.push_back(host_op(n, HostOp::insert, {lists[i], box(n, outputs[i])}));
    }
    return next;
  });
  for (size_t i = 0; i < n.outputs(); ++i)
    n.set_host_value(i, results[i], types[i]);
}

void import_optional(Node &n) {
  n.need_inputs(0, 1);
  if (!n.has(0)) {
    const onnx::AttributeProto *a = n.attribute("type");
    if (!a || !a->has_tp())
      n.fail("attribute 'type' is missing");
    onnx::TypeProto optional;
    *optional.mutable_optional_type()->mutable_elem_type() = a->tp();
    n.set_host_value(0, host_op(n, HostOp::none, {}), declared_host_type(optional));
    return;
  }
  if (n.host_type(0) && n.host_type(0)->kind == Kind::kOptional)
    n.fail("makes an optional of an optional");
  const bool list = n.host_type(0) && n.host_type(0)->kind == Kind::kList;
  HostType type = list ? *n.host_type(0) : list_of(*n.value(0));
  type.kind = Kind::kOptional;
  type.list = list;
  n.set_host_value(0, host_op(n, HostOp::copy, {list ? n.in(0) : box(n, n.value(0))}), type);
}

void import_has_element(Node &n) {
  n.need_inputs(0, 1);
  Expr has = n.has(0) ? 1 : 0; // a tensor or a sequence is there
  if (n.has(0) && n.host_type(0) && n.host_type(0)->kind == Kind::kOptional)
    has = host_number(n, HostOp::has, n.in(0), "has", 1);
  n.set_host(0, ElementType::kBool, {}, {has});
}

void import_get_element(Node &n) {
  n.need_inputs(1, 1);
  if (!n.host_type(0) || n.host_type(0)->kind != Kind::kOptional) {
    n.set_value(0, n.value(0));
    return;
  }
  HostType type = *n.host_type(0);
  if (type.list) {
    type.kind = Kind::kList;
    type.list = false;
    n.b.check(host_number(n, HostOp::has, n.in(0), "has", 1), "node '" + n.name + "' (" + n.source + "): the optional has no element");
    n.set_host_value(0, host_op(n, HostOp::copy, {n.in(0)}), type);
    return;
  }
  n.set_value(0, unbox(n, n.in(0), type));
}

} // namespace

std::vector<OperatorRow> sequence_operators() {
  return {
      {"", "SequenceEmpty", 11, kMaxOpset, import_empty},
      {"", "SequenceConstruct", 11, kMaxOpset, import_construct},
      {"", "SequenceInsert", 11, kMaxOpset, import_insert},
      {"", "SequenceErase", 11, kMaxOpset, import_erase},
      {"", "SequenceAt", 11, kMaxOpset, import_at},
      {"", "SequenceLength", 11, kMaxOpset, import_length},
      {"", "SplitToSequence", 11, kMaxOpset, import_split},
      {"", "ConcatFromSequence", 11, kMaxOpset, import_concat},
      {"", "SequenceMap", 17, kMaxOpset, import_map},
      {"", "Optional", 15, kMaxOpset, import_optional},
      {"", "OptionalHasElement", 15, kMaxOpset, import_has_element},
      {"", "OptionalGetElement", 15, kMaxOpset, import_get_element},
  };
}

} // namespace ingot::aotc::importer
