// The MSL dialect. Signed overflow is undefined in this C++, so integer arithmetic goes through unsigned types.
// Contraction is off for the whole file; a `mad` is an fma. Buffers are device pointers with __restrict: they never
// overlap. Workgroup arrays are declared at the head of the kernel.
#include "aotc/base/error.h"
#include "aotc/emit/text/printer.h"
#include "aotc/emit/text/text.h"

namespace ingot::aotc::emit {
namespace text {
namespace {

using kernel::Kernel;
using kernel::Memory;
using kernel::Opcode;
using kernel::Space;

class Msl final : public Dialect {
 public:
  const char *name() const override { return "msl"; }

  std::string type(Type type, bool unsigned_ints) const override {
    std::string scalar;
    switch (type.scalar) {
    case Scalar::kBool: scalar = "bool"; break;
    case Scalar::kI8: scalar = "char"; break;
    case Scalar::kI16: scalar = "short"; break;
    case Scalar::kI32:
    case Scalar::kIndex: scalar = "int"; break;
    case Scalar::kI64: scalar = "long"; break;
    case Scalar::kF16: scalar = "half"; break;
    case Scalar::kF32: scalar = "float"; break;
    default: throw InternalError("msl: no type " + std::string(aotc::name(type.scalar)) + ": it was not legalised");
    }
    if (unsigned_ints && is_int(type.scalar))
      scalar = "u" + scalar;
    return type.is_vector() ? scalar + std::to_string(type.lanes) : scalar;
  }
  std::string int_literal(Scalar scalar, int64_t value) const override {
    if (value == INT64_MIN)
      return "long(0x8000000000000000ul)";
    if (scalar == Scalar::kI64)
      return std::to_string(value) + "l";
    if (value == INT32_MIN)
      return "int(0x80000000u)";
    std::string text = std::to_string(value);
    return scalar == Scalar::kI8 || scalar == Scalar::kI16 ? type(scalar, false) + "(" + text + ")" : text;
  }
  std::string float_literal(Scalar scalar, const std::string &text) const override {
    return scalar == Scalar::kF16 ? "half(" + text + "f)" : text + "f";
  }
  std::string let(Type type, const std::string &name, const std::string &value) const override {
    return "const " + this->type(type, false) + " " + name + " = " + value + ";";
  }
  std::string variable(Type type, const std::string &name, const std::string &value) const override {
    return this->type(type, false) + " " + name + (value.empty() ? "" : " = " + value) + ";";
  }
  std::string bitcast(const std::string &type, const std::string &value) const override {
    return "as_type<" + type + ">(" + value + ")";
  }
  std::string select(Type type, const std::string &condition, const std::string &a, const std::string &b) const override {
    if (type.is_vector())
      return "select(" + b + ", " + a + ", " + condition + ")";
    return "(" + condition + " ? " + a + " : " + b + ")";
  }
  std::string arithmetic(const char *op, Type type, const std::string &a, const std::string &b) const override {
    if (is_float(type.scalar))
      return "(" + a + " " + op + " " + b + ")";
    // 8 and 16 bits are computed as uint: C++ would promote them to int, whose products overflow. The cast back narrows.
    bool narrow = !type.is_vector() && type.scalar != Scalar::kIndex && bit_width(type.scalar) < 32;
    std::string u = narrow ? "uint" : this->type(type, true);
    return this->type(type, false) + "(" + u + "(" + a + ") " + op + " " + u + "(" + b + "))";
  }
  std::string shift_amount(Type type, const std::string &amount) const override {
    uint32_t bits = type.scalar == Scalar::kIndex ? 32 : bit_width(type.scalar);
    std::string u = this->type(type, true);
    return "(" + u + "(" + amount + ") & " + u + "(" + std::to_string(bits - 1) + "))";
  }
  std::string signed_shift_amount(Type type, const std::string &amount) const override {
    return this->type(type, false) + shift_amount(type, amount); // vectors shift by vectors of their own type
  }
  std::string mad(Type type, const std::string &a, const std::string &b, const std::string &c) const override {
    return is_float(type.scalar) ? "fma(" + a + ", " + b + ", " + c + ")"
                                 : arithmetic("+", type, arithmetic("*", type, a, b), c);
  }
  const char *round_even() const override { return "rint"; }
  std::string negate(Type type, const std::string &a) const override {
    return is_float(type.scalar) ? "(-" + a + ")" : arithmetic("-", type, this->type(type, false) + "(0)", a);
  }

  std::string load(const Memory &memory, const std::string &element, bool atomic) const override {
    if (atomic)
      return "atomic_load_explicit(&" + element + ", memory_order_relaxed)";
    return memory.type == Scalar::kBool && memory.space == Space::kBuffer ? "(" + element + " != 0)" : element;
  }
  std::string store(const Memory &, const std::string &element, const std::string &value, bool atomic) const override {
    return atomic ? "atomic_store_explicit(&" + element + ", " + value + ", memory_order_relaxed)" : element + " = " + value;
  }
  std::string atomic(Opcode op, const Memory &, const std::string &element, const std::string &value) const override {
    const char *f = op == Opcode::kAtomicAdd ? "add" : op == Opcode::kAtomicMin ? "min" : "max";
    return std::string("atomic_fetch_") + f + "_explicit(&" + element + ", " + value + ", memory_order_relaxed)";
  }
  std::string subgroup(Opcode op, const std::vector<std::string> &operands) const override {
    switch (op) {
    case Opcode::kSubgroupAdd: return "simd_sum(" + operands[0] + ")";
    case Opcode::kSubgroupMin: return "simd_min(" + operands[0] + ")";
    case Opcode::kSubgroupMax: return "simd_max(" + operands[0] + ")";
    default: return "simd_shuffle(" + operands[0] + ", ushort(" + operands[1] + "))";
    }
  }
  std::string loop_head(Type type, const std::string &i, const std::string &lo, const std::string &hi,
                        const std::string &step, bool unroll) const override {
    (void)unroll; // the Metal compiler unrolls by itself; a pragma would have to stand on a line of its own
    return "for (" + this->type(type, false) + " " + i + " = " + lo + "; " + i + " < " + hi + "; " + i + " += " + step + ")";
  }
  const char *forever() const override { return "while (true)"; }
  std::vector<std::string> barrier(bool buffers) const override {
    return {buffers ? "threadgroup_barrier(mem_flags::mem_threadgroup | mem_flags::mem_device);"
                    : "threadgroup_barrier(mem_flags::mem_threadgroup);"};
  }

  std::string frame_begin(const Kernel &kernel, const std::vector<bool> &atomic_memories) const override {
    std::string out = "#include <metal_stdlib>\nusing namespace metal;\n#pragma METAL fp contract(off)\n";
    if (!kernel.params.empty()) {
      out += "struct Params {\n";
      for (const kernel::Param &param : kernel.params)
        out += "  " + type(param.type, false) + " " + param_name(param) + ";\n";
      out += "};\n";
    }
    std::string arguments, arrays;
    uint32_t binding = 0;
    for (size_t i = 0; i < kernel.memories.size(); ++i) {
      const Memory &memory = kernel.memories[i];
      std::string element = memory.type == Scalar::kBool ? "uchar" : type(memory.type, false);
      if (atomic_memories[i])
        element = "atomic_" + element;
      if (memory.space == Space::kBuffer) {
        arguments += std::string("device ") + (memory.access == kernel::Access::kRead ? "const " : "") + element +
                     " *__restrict " + memory_name(memory) + " [[buffer(" + std::to_string(binding++) + ")]], ";
      } else {
        arrays += std::string("  ") + (memory.space == Space::kWorkgroup ? "threadgroup " : "") + element + " " +
                  memory_name(memory) + "[" + std::to_string(memory.count) + "];\n";
      }
    }
    if (!kernel.params.empty())
      arguments += "constant Params &params [[buffer(" + std::to_string(params_binding(kernel)) + ")]], ";
    if (has_error_ops(kernel))
      arguments += "device uint *error_word [[buffer(" + std::to_string(error_binding(kernel, true)) + ")]], ";
    const auto &size = kernel.local_size;
    out += "// threads a workgroup: " + std::to_string(size[0]) + " " + std::to_string(size[1]) + " " +
           std::to_string(size[2]) + "\n";
    out += "[[max_total_threads_per_threadgroup(" + std::to_string(size[0] * size[1] * size[2]) + ")]]\nkernel void " +
           text_entry(kernel) + "(" + arguments +
           "uint3 group_id [[threadgroup_position_in_grid]], uint3 local_id [[thread_position_in_threadgroup]], "
           "uint3 grid_size [[threadgroups_per_grid]]) {\n";
    return out + arrays;
  }
};

} // namespace
} // namespace text

std::string emit_msl(const kernel::Kernel &kernel, const TargetRecord &record) {
  return text::TextPrinter(kernel, record, text::Msl()).run();
}

} // namespace ingot::aotc::emit
