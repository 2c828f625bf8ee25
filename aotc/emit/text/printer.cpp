// TextPrinter: structure, memory and locals. Expressions are in expressions.cpp.
#include "aotc/emit/text/printer.h"

#include <algorithm>
#include <functional>

#include "aotc/base/error.h"
#include "aotc/emit/text/text.h"

namespace ingot::aotc::emit {

std::string text_entry(const kernel::Kernel &kernel) { return "k_" + kernel.name; }

namespace text {

using kernel::Memory;
using kernel::Op;
using kernel::Opcode;
using kernel::Region;
using kernel::Space;
using kernel::ValueId;

std::string memory_name(const Memory &memory) { return "mem_" + memory.name; }
std::string param_name(const kernel::Param &param) { return "p_" + param.name; }

namespace {

void visit(const Region &region, const std::function<void(const Op &)> &f) {
  for (const Op &op : region.ops) {
    f(op);
    for (const Region &inner : op.regions)
      visit(inner, f);
  }
}

} // namespace

TextPrinter::TextPrinter(const kernel::Kernel &kernel, const TargetRecord &record, const Dialect &dialect)
    : kernel_(kernel), record_(record), dialect_(dialect), positive_(kernel.types.size(), false),
      atomic_memories_(kernel.memories.size(), false) {
  visit(kernel.body, [&](const Op &op) {
    if (kernel::is_atomic(op.code))
      atomic_memories_[op.memory] = true;
  });
  for (const Memory &memory : kernel.memories)
    writes_buffers_ |= memory.space == Space::kBuffer && memory.access == kernel::Access::kReadWrite;
}

std::string TextPrinter::run() {
  out_ = dialect_.frame_begin(kernel_, atomic_memories_);
  for (const Memory &memory : kernel_.memories)
    if (memory.space == Space::kPrivate)
      ensure(record_.index_bits == 32, "text: private arrays need 32-bit indices");
  region(kernel_.body, {});
  out_ += dialect_.frame_end();
  return out_;
}

void TextPrinter::line(const std::string &text) { out_.append(2 * depth_, ' ').append(text).append(1, '\n'); }
void TextPrinter::open(const std::string &head) {
  line(head + " {");
  ++depth_;
}
void TextPrinter::close() {
  --depth_;
  line("}");
}

std::string TextPrinter::hold(Type type, const std::string &value) {
  std::string name = fresh();
  line(dialect_.let(type, name, value));
  return name;
}

void TextPrinter::define(const Op &op, const std::string &value) {
  line(dialect_.let(kernel_.type_of(op.results.at(0)), v(op.results[0]), value));
}

// Prints the region's ops and assigns what it yields to `targets`. The values are immutable, so the order of the
// assignments does not matter.
void TextPrinter::region(const Region &region, const std::vector<std::string> &targets) {
  for (const Op &inner : region.ops) {
    if (inner.code == Opcode::kYield) {
      ensure(inner.operands.size() == targets.size(), "text: a yield of the wrong length");
      for (size_t i = 0; i < targets.size(); ++i)
        line(targets[i] + " = " + v(inner.operands[i]) + ";");
      return;
    }
    op(inner);
  }
}

void TextPrinter::emit_for(const Op &op) {
  const Region &body = op.regions[0];
  Type index_type = kernel_.type_of(op.operands[0]);
  std::vector<std::string> carried;
  for (size_t k = 3; k < op.operands.size(); ++k) {
    carried.push_back(fresh());
    line(dialect_.variable(kernel_.type_of(op.operands[k]), carried.back(), v(op.operands[k])));
  }
  std::string i = fresh();
  open(dialect_.loop_head(index_type, i, v(op.operands[0]), v(op.operands[1]), v(op.operands[2]), op.unroll == 0));
  line(dialect_.let(index_type, v(body.params[0]), i));
  for (size_t k = 0; k < carried.size(); ++k)
    line(dialect_.let(kernel_.type_of(body.params[k + 1]), v(body.params[k + 1]), carried[k]));
  region(body, carried);
  close();
  for (size_t k = 0; k < carried.size(); ++k)
    line(dialect_.let(kernel_.type_of(op.results[k]), v(op.results[k]), carried[k]));
}

void TextPrinter::emit_if(const Op &op) {
  std::vector<std::string> targets;
  for (ValueId result : op.results) {
    targets.push_back(fresh());
    line(dialect_.variable(kernel_.type_of(result), targets.back(), ""));
  }
  open("if (" + v(op.operands[0]) + ")");
  region(op.regions[0], targets);
  bool has_else = !targets.empty() || std::any_of(op.regions[1].ops.begin(), op.regions[1].ops.end(),
                                                  [](const Op &o) { return o.code != Opcode::kYield; });
  if (has_else) {
    --depth_;
    open("} else");
    region(op.regions[1], targets);
  }
  close();
  for (size_t i = 0; i < targets.size(); ++i)
    line(dialect_.let(kernel_.type_of(op.results[i]), v(op.results[i]), targets[i]));
}

void TextPrinter::emit_while(const Op &op) {
  const Region &test = op.regions[0], &body = op.regions[1];
  std::vector<std::string> carried;
  for (ValueId init : op.operands) {
    carried.push_back(fresh());
    line(dialect_.variable(kernel_.type_of(init), carried.back(), v(init)));
  }
  open(dialect_.forever());
  for (size_t k = 0; k < carried.size(); ++k)
    line(dialect_.let(kernel_.type_of(test.params[k]), v(test.params[k]), carried[k]));
  std::string go_on = fresh();
  line(dialect_.variable(Type(Scalar::kBool), go_on, ""));
  std::vector<std::string> targets = carried;
  targets.insert(targets.begin(), go_on);
  region(test, targets);
  open("if (!" + go_on + ")");
  line("break;");
  close();
  for (size_t k = 0; k < carried.size(); ++k)
    line(dialect_.let(kernel_.type_of(body.params[k]), v(body.params[k]), carried[k]));
  region(body, carried);
  close();
  for (size_t k = 0; k < carried.size(); ++k)
    line(dialect_.let(kernel_.type_of(op.results[k]), v(op.results[k]), carried[k]));
}

std::string TextPrinter::element(uint32_t memory, const std::string &index) {
  return memory_name(kernel_.memories[memory]) + "[" + index + "]";
}

std::string TextPrinter::load_element(uint32_t memory, const std::string &index) {
  return dialect_.load(kernel_.memories[memory], element(memory, index), atomic_memories_[memory]);
}

void TextPrinter::store_element(uint32_t memory, const std::string &index, const std::string &value) {
  line(dialect_.store(kernel_.memories[memory], element(memory, index), value, atomic_memories_[memory]) + ";");
}

std::string TextPrinter::lane(ValueId value, uint32_t lane) {
  return kernel_.type_of(value).is_vector() ? v(value) + "[" + std::to_string(lane) + "]" : v(value);
}

void TextPrinter::memory_op(const Op &op) {
  Type index_type(Scalar::kIndex);
  auto offset = [&](ValueId index, uint32_t i) {
    return i == 0 ? v(index) : dialect_.arithmetic("+", index_type, v(index), int_constant(index_type, i));
  };
  auto in_count = [&](ValueId count, uint32_t i) { return v(count) + " > " + int_constant(kernel_.type_of(count), i); };
  // Result lanes that are loaded only where a condition holds: mutable locals, then a vector of them.
  auto load_lanes_if = [&](ValueId otherwise, const std::function<std::string(uint32_t)> &condition,
                           const std::function<std::string(uint32_t)> &index) {
    Type t = kernel_.type_of(op.results[0]);
    std::vector<std::string> parts;
    for (uint32_t i = 0; i < t.lanes; ++i) {
      parts.push_back(fresh());
      line(dialect_.variable(t.with_lanes(1), parts.back(), lane(otherwise, i)));
      open("if (" + condition(i) + ")");
      line(parts.back() + " = " + load_element(op.memory, index(i)) + ";");
      close();
    }
    define(op, construct(t, parts));
  };
  auto store_lanes_if = [&](ValueId value, const std::function<std::string(uint32_t)> &condition,
                            const std::function<std::string(uint32_t)> &index) {
    for (uint32_t i = 0; i < kernel_.type_of(value).lanes; ++i) {
      open("if (" + condition(i) + ")");
      store_element(op.memory, index(i), lane(value, i));
      close();
    }
  };
  auto own_offset = [&](size_t operand) { return [&, operand](uint32_t i) { return offset(op.operands[operand], i); }; };
  auto own_lane = [&](size_t operand) { return [&, operand](uint32_t i) { return lane(op.operands[operand], i); }; };

  switch (op.code) {
  case Opcode::kLoad: {
    Type t = kernel_.type_of(op.results[0]);
    std::vector<std::string> parts;
    for (uint32_t i = 0; i < t.lanes; ++i)
      parts.push_back(load_element(op.memory, offset(op.operands[0], i)));
    return define(op, construct(t, parts));
  }
  case Opcode::kStore:
    for (uint32_t i = 0; i < kernel_.type_of(op.operands[1]).lanes; ++i)
      store_element(op.memory, offset(op.operands[0], i), lane(op.operands[1], i));
    return;
  case Opcode::kLoadPart:
    return load_lanes_if(op.operands[2], [&](uint32_t i) { return in_count(op.operands[1], i); }, own_offset(0));
  case Opcode::kStorePart:
    return store_lanes_if(op.operands[1], [&](uint32_t i) { return in_count(op.operands[2], i); }, own_offset(0));
  case Opcode::kLoadIf: return load_lanes_if(op.operands[2], own_lane(0), own_offset(1));
  case Opcode::kStoreIf: return store_lanes_if(op.operands[2], own_lane(0), own_offset(1));
  case Opcode::kGather: {
    if (op.operands.size() > 1)
      return load_lanes_if(op.operands[2], own_lane(1), own_lane(0));
    Type t = kernel_.type_of(op.results[0]);
    std::vector<std::string> parts;
    for (uint32_t i = 0; i < t.lanes; ++i)
      parts.push_back(load_element(op.memory, lane(op.operands[0], i)));
    return define(op, construct(t, parts));
  }
  case Opcode::kScatter:
    if (op.operands.size() > 2)
      return store_lanes_if(op.operands[1], own_lane(2), own_lane(0));
    for (uint32_t i = 0; i < kernel_.type_of(op.operands[1]).lanes; ++i)
      store_element(op.memory, lane(op.operands[0], i), lane(op.operands[1], i));
    return;
  case Opcode::kAtomicAdd:
  case Opcode::kAtomicMin:
  case Opcode::kAtomicMax:
    return define(op, dialect_.atomic(op.code, kernel_.memories[op.memory], element(op.memory, v(op.operands[0])),
                                      v(op.operands[1])));
  case Opcode::kPrefetch: return;
  default: refuse(op, "no form in this language");
  }
}

void TextPrinter::op(const Op &op) {
  switch (op.code) {
  case Opcode::kFor: return emit_for(op);
  case Opcode::kIf: return emit_if(op);
  case Opcode::kWhile: return emit_while(op);
  case Opcode::kBarrier:
    for (const std::string &statement : dialect_.barrier(writes_buffers_))
      line(statement);
    return;
  case Opcode::kError:
    open("if (" + v(op.operands[0]) + ")");
    line("error_word[0] = " + std::to_string(error_word(op.imm, op.imm2)) + "u;");
    return close();
  default: break;
  }
  if (kernel::is_memory(op.code))
    return memory_op(op);
  if (!op.results.empty())
    return define(op, expression(op));
  refuse(op, "no form in this language");
}

} // namespace text
} // namespace ingot::aotc::emit
