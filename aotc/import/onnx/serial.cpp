// Serial kernels: see serial.h.
#include "aotc/import/onnx/serial.h"

namespace ingot::aotc::importer {

Serial::Serial(Node &node, const char *name) : builder(kernel_) {
  kernel_.name = name;
  kernel_.kind = kernel::Class::kSimd;
  dispatch_.name = name;
  dispatch_.nodes = {node.name};
}

uint32_t Serial::operand(const char *name, ElementType type, const Expr &count, kernel::Access access) {
  dispatch_.operands.push_back({name, type, count, access != kernel::Access::kRead, false, std::nullopt});
  return builder.add_buffer(name, access, to_scalar(type));
}

kernel::ValueId Serial::param(const std::string &name, const Expr &value) {
  params_.push_back(value);
  return builder.add_param(name, Scalar::kIndex, 0, 0x7fffffff);
}

dispatch::Dispatch Serial::finish() {
  dispatch_.loop = std::make_shared<const dispatch::LoopBody>(dispatch::LoopBody{std::move(kernel_), params_});
  return std::move(dispatch_);
}

} // namespace ingot::aotc::importer
