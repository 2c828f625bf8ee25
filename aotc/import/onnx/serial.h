// Serial kernels: work that is not affine (compaction, scattering, sorting), as one group's loops, the same on every
// target (dispatch::LoopBody).
//
//   Serial s(node, "non_zero");
//   uint32_t x = s.operand("x", ElementType::kF32, count, kernel::Access::kRead);   // operands, then results
//   kernel::ValueId n = s.param("n", count);
//   ... s.builder ...
//   node.b.compute(s.finish(), {x}, {type});
#pragma once

#include "aotc/import/onnx/importer.h"
#include "aotc/kernel/builder.h"

namespace ingot::aotc::importer {

class Serial {
 public:
  Serial(Node &node, const char *name);
  // Declares the next operand or result and returns its memory's number.
  uint32_t operand(const char *name, ElementType type, const Expr &count, kernel::Access access);
  // An index-typed parameter with this value.
  kernel::ValueId param(const std::string &name, const Expr &value);
  dispatch::Dispatch finish();

 private:
  kernel::Kernel kernel_;
  dispatch::Dispatch dispatch_;
  std::vector<Expr> params_;

 public:
  kernel::Builder builder; // into kernel_, hence last
};

} // namespace ingot::aotc::importer
