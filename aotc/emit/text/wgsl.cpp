// The WGSL dialect. Params are a uniform buffer, so that control flow that reaches a barrier depends on uniform values
// only. All integers are i32; bools exist in registers and workgroup arrays, not in buffers.
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

class Wgsl final : public Dialect {
 public:
  const char *name() const override { return "wgsl"; }

  std::string type(Type type, bool unsigned_ints) const override {
    std::string scalar;
    switch (type.scalar) {
    case Scalar::kBool: scalar = "bool"; break;
    case Scalar::kI32:
    case Scalar::kIndex: scalar = unsigned_ints ? "u32" : "i32"; break;
    case Scalar::kF32: scalar = "f32"; break;
    case Scalar::kF16: scalar = "f16"; break;
    default: throw InternalError("wgsl: no type " + std::string(aotc::name(type.scalar)) + ": it was not legalised");
    }
    return type.is_vector() ? "vec" + std::to_string(type.lanes) + "<" + scalar + ">" : scalar;
  }
  std::string int_literal(Scalar, int64_t value) const override {
    int32_t narrow = static_cast<int32_t>(value);
    return narrow == INT32_MIN ? "i32(-2147483648)" : std::to_string(narrow) + "i";
  }
  std::string float_literal(Scalar scalar, const std::string &text) const override {
    return text + (scalar == Scalar::kF16 ? "h" : "f");
  }
  std::string let(Type type, const std::string &name, const std::string &value) const override {
    return "let " + name + ": " + this->type(type, false) + " = " + value + ";";
  }
  std::string variable(Type type, const std::string &name, const std::string &value) const override {
    return "var " + name + ": " + this->type(type, false) + (value.empty() ? "" : " = " + value) + ";";
  }
  std::string bitcast(const std::string &type, const std::string &value) const override {
    return "bitcast<" + type + ">(" + value + ")";
  }
  std::string select(Type, const std::string &condition, const std::string &a, const std::string &b) const override {
    return "select(" + b + ", " + a + ", " + condition + ")";
  }
  std::string arithmetic(const char *op, Type, const std::string &a, const std::string &b) const override {
    return "(" + a + " " + op + " " + b + ")"; // integers wrap
  }
  std::string shift_amount(Type type, const std::string &amount) const override {
    std::string u = this->type(type, true);
    return "(bitcast<" + u + ">(" + amount + ") & " + u + "(31u))";
  }
  std::string mad(Type type, const std::string &a, const std::string &b, const std::string &c) const override {
    return is_float(type.scalar) ? "fma(" + a + ", " + b + ", " + c + ")" : "((" + a + " * " + b + ") + " + c + ")";
  }
  const char *round_even() const override { return "round"; }
  std::string negate(Type, const std::string &a) const override { return "(-" + a + ")"; }

  std::string load(const Memory &, const std::string &element, bool atomic) const override {
    return atomic ? "atomicLoad(&" + element + ")" : element;
  }
  std::string store(const Memory &, const std::string &element, const std::string &value, bool atomic) const override {
    return atomic ? "atomicStore(&" + element + ", " + value + ")" : element + " = " + value;
  }
  std::string atomic(Opcode op, const Memory &, const std::string &element, const std::string &value) const override {
    const char *f = op == Opcode::kAtomicAdd ? "atomicAdd" : op == Opcode::kAtomicMin ? "atomicMin" : "atomicMax";
    return std::string(f) + "(&" + element + ", " + value + ")";
  }
  std::string subgroup(Opcode op, const std::vector<std::string> &operands) const override {
    switch (op) {
    case Opcode::kSubgroupAdd: return "subgroupAdd(" + operands[0] + ")";
    case Opcode::kSubgroupMin: return "subgroupMin(" + operands[0] + ")";
    case Opcode::kSubgroupMax: return "subgroupMax(" + operands[0] + ")";
    default: return "subgroupShuffle(" + operands[0] + ", bitcast<u32>(" + operands[1] + "))";
    }
  }
  std::string loop_head(Type type, const std::string &i, const std::string &lo, const std::string &hi,
                        const std::string &step, bool) const override {
    return "for (var " + i + ": " + this->type(type, false) + " = " + lo + "; " + i + " < " + hi + "; " + i + " = " + i +
           " + " + step + ")";
  }
  const char *forever() const override { return "loop"; }
  std::vector<std::string> barrier(bool buffers) const override {
    if (buffers)
      return {"storageBarrier();", "workgroupBarrier();"};
    return {"workgroupBarrier();"};
  }

  std::string frame_begin(const Kernel &kernel, const std::vector<bool> &atomic_memories) const override {
    std::string out, memories;
    bool half = false;
    uint32_t binding = 0;
    for (size_t i = 0; i < kernel.memories.size(); ++i) {
      const Memory &memory = kernel.memories[i];
      half |= memory.type == Scalar::kF16;
      std::string element = type(memory.type, false);
      if (atomic_memories[i])
        element = "atomic<" + element + ">";
      if (memory.space == Space::kBuffer) {
        if (memory.type == Scalar::kBool)
          throw InternalError("wgsl: kernel '" + kernel.name + "': bool buffer '" + memory.name + "' was not legalised");
        const char *access = memory.access == kernel::Access::kRead ? "read" : "read_write";
        memories += "@group(0) @binding(" + std::to_string(binding++) + ") var<storage, " + access + "> " +
                    memory_name(memory) + ": array<" + element + ">;\n";
      } else {
        memories += std::string("var<") + (memory.space == Space::kWorkgroup ? "workgroup" : "private") + "> " +
                    memory_name(memory) + ": array<" + element + ", " + std::to_string(memory.count) + ">;\n";
      }
    }
    for (const Type &t : kernel.types)
      half |= t.scalar == Scalar::kF16;
    bool subgroups = false;
    if (half)
      out += "enable f16;\n";
    for (const kernel::Op &op : kernel.body.ops)
      subgroups |= uses_subgroups(op);
    if (subgroups)
      out += "enable subgroups;\n";
    if (!kernel.params.empty()) {
      out += "struct Params {\n";
      for (const kernel::Param &param : kernel.params)
        out += "  " + param_name(param) + ": " + type(param.type, false) + ",\n";
      out += "}\n";
    }
    out += memories;
    if (!kernel.params.empty())
      out += "@group(0) @binding(" + std::to_string(params_binding(kernel)) + ") var<uniform> params: Params;\n";
    if (has_error_ops(kernel))
      out += "@group(0) @binding(" + std::to_string(error_binding(kernel, true)) +
             ") var<storage, read_write> error_word: array<u32>;\n";
    const auto &size = kernel.local_size;
    out += "@compute @workgroup_size(" + std::to_string(size[0]) + ", " + std::to_string(size[1]) + ", " +
           std::to_string(size[2]) + ")\nfn " + text_entry(kernel) +
           "(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_id) local_id: vec3<u32>, "
           "@builtin(num_workgroups) grid_size: vec3<u32>) {\n";
    // A derived pipeline layout leaves out bindings that are never mentioned, but the caller binds every buffer.
    for (const Memory &memory : kernel.memories)
      if (memory.space == Space::kBuffer)
        out += "  _ = &" + memory_name(memory) + ";\n";
    if (!kernel.params.empty())
      out += "  _ = &params;\n";
    return out;
  }

 private:
  static bool uses_subgroups(const kernel::Op &op) {
    if (kernel::is_subgroup(op.code))
      return true;
    for (const kernel::Region &region : op.regions)
      for (const kernel::Op &inner : region.ops)
        if (uses_subgroups(inner))
          return true;
    return false;
  }
};

} // namespace
} // namespace text

std::string emit_wgsl(const kernel::Kernel &kernel, const TargetRecord &record) {
  return text::TextPrinter(kernel, record, text::Wgsl()).run();
}

} // namespace ingot::aotc::emit
