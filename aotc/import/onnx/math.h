// Math: arithmetic on graph values of equal dims, as an operator's formula reads. Scalars become splats.
//
//   Math m(node, node.in(0));            // f16 and bf16 are lifted to f32 here ...
//   m.finish(0, m.div(m.x, m.add(m.c(1), m.map(K::kAbs, m.x)))); // ... and rounded back here: once a node
#pragma once

#include "aotc/import/onnx/importer.h"

namespace ingot::aotc::importer {

class Math {
 public:
  Math(Node &node, ValueId input) : x(node.lift(input)), node_(node), element_(node.b.type(input).element) {}

  ValueId x; // the lifted input

  ValueId c(double value) { return node_.constant(x, value); }
  ValueId map(K code, ValueId a) { return node_.b.map(code, {a}); }
  ValueId map(K code, ValueId a, ValueId b) { return node_.b.map(code, {a, b}); }
  ValueId add(ValueId a, ValueId b) { return map(K::kAdd, a, b); }
  ValueId sub(ValueId a, ValueId b) { return map(K::kSub, a, b); }
  ValueId mul(ValueId a, ValueId b) { return map(K::kMul, a, b); }
  ValueId div(ValueId a, ValueId b) { return map(K::kDiv, a, b); }
  ValueId min(ValueId a, ValueId b) { return map(unsigned_type() ? K::kMinU : K::kMin, a, b); }
  ValueId max(ValueId a, ValueId b) { return map(unsigned_type() ? K::kMaxU : K::kMax, a, b); }
  ValueId lt(ValueId a, ValueId b) { return map(unsigned_type() ? K::kLtU : K::kLt, a, b); }
  ValueId select(ValueId condition, ValueId a, ValueId b) { return node_.b.map(K::kSelect, {condition, a, b}); }
  bool unsigned_type() const { return is_unsigned(node_.b.type(x).element); }
  // Rounds back to the input's type and sets the output.
  void finish(size_t output, ValueId value) { node_.set(output, node_.b.convert(element_, value)); }

 private:
  Node &node_;
  ElementType element_;
};

// How many points the axes have, as a tensor of `like`'s type and dims (a constant where it is known).
inline ValueId count_like(Node &node, ValueId like, const Expr &count) {
  return node.scalar_of(node.b.type(like).element, count, Dims(node.dims_of(like)));
}

} // namespace ingot::aotc::importer
