// Lists, optionals and strings while they are imported: types, and the ways between them and tensors.
#pragma once

#include "aotc/import/onnx/importer.h"

namespace ingot::aotc::importer {

using program::HostOp;

// Rank of the elements of a list that has none yet.
inline constexpr size_t kNoElements = ~size_t{0};

// What a value of a sequence or optional type holds; a refusal where archives have no such values (maps, sparse tensors).
HostType declared_host_type(const onnx::TypeProto &type);
std::string to_string(const HostType &type);
// The type of what may be either; nullopt where their elements differ in type.
std::optional<HostType> merge(const HostType &a, const HostType &b);

HostType strings_type();
// Of a list of tensors such as `value`.
HostType list_of(const Value &value);

// A host value with the contents of a tensor, or of a value that is one already.
ValueId box(Node &n, const ValuePtr &value);
ValueId box_ints(Node &n, std::vector<Expr> values); // [n] of i64

// The other way: a tensor of known type; its dims become host scalars that a run finds. Of strings, a value with dims.
ValuePtr unbox(Node &n, ValueId boxed, const HostType &element);
// The same where the dims are known.
ValueId unbox(Node &n, ValueId boxed, ElementType element, const Dims &dims);

ValueId host_op(Node &n, HostOp op, std::vector<ValueId> sources, Dims dims = {}, std::vector<Expr> exprs = {},
                std::vector<int64_t> immediates = {});
// A scalar that the runtime finds.
Expr host_number(Node &n, HostOp op, ValueId source, const char *what, int64_t max);

ValueId strings_constant(graph::GraphBuilder &b, Dims dims, const std::vector<std::string> &texts);
ValueId numbers_constant(graph::GraphBuilder &b, ElementType type, const std::vector<int64_t> &values);
// A tensor of strings of the model; null, and why, where it is malformed.
ValuePtr strings_value(Importer &importer, const onnx::TensorProto &tensor, std::string &error);

// Whether only host ops use an input of a graph: no kernel then depends on its dims, which may be 0.
bool only_host_uses(const onnx::GraphProto &graph, const onnx::ValueInfoProto &input);

// Operators that need not know of strings: those that move elements are imported for the elements' numbers, which are
// looked up afterwards. True where the node was one. A list, an optional or strings that an operator does not take are
// refused.
bool import_host_inputs(Node &n);

} // namespace ingot::aotc::importer
