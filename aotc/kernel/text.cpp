// The printer and the parser of kernel text. See text.h for the syntax.
#include "aotc/kernel/text.h"

#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <unordered_map>

#include "aotc/base/error.h"
#include "aotc/kernel/fragment.h"

namespace ingot::aotc::kernel {
namespace {

// Which operand of a memory op is the element index, printed @memory[%i].
size_t index_operand(Opcode op) { return op == Opcode::kLoadIf || op == Opcode::kStoreIf ? 1 : 0; }

bool has_imm(Opcode op) {
  return op == Opcode::kParam || op == Opcode::kGroupId || op == Opcode::kLocalId || op == Opcode::kGridSize ||
         op == Opcode::kExtract || op == Opcode::kInsert || op == Opcode::kCopyWait;
}

// ---- Printing

class Printer {
 public:
  Printer(const Kernel &kernel, bool renumber) : kernel_(kernel), renumber_(renumber) {}

  void kernel() {
    text_ += "kernel @" + kernel_.name + " " + std::string(name(kernel_.kind)) + " local";
    for (uint32_t size : kernel_.local_size)
      text_ += " " + std::to_string(size);
    if (const FragmentShape &f = kernel_.fragment; f != FragmentShape())
      text_ += " fragment " + std::to_string(f.threads) + " " + std::to_string(f.words) + " " + std::to_string(f.run);
    text_ += " {\n";
    for (const Param &param : kernel_.params) {
      text_ += "  param @" + param.name + " " + std::string(name(param.type));
      if (param.min != INT64_MIN || param.max != INT64_MAX)
        text_ += " range " + std::to_string(param.min) + " " + std::to_string(param.max);
      if (param.reciprocal_of >= 0)
        text_ += " reciprocal " + std::to_string(param.reciprocal_of);
      text_ += "\n";
    }
    for (const Memory &memory : kernel_.memories) {
      if (memory.space == Space::kBuffer)
        text_ += "  buffer @" + memory.name + " " + (memory.constant ? "constant" : std::string(name(memory.access))) + " ";
      else
        text_ += "  array @" + memory.name + " " + std::string(name(memory.space)) + " ";
      text_ += name(memory.type);
      if (memory.space != Space::kBuffer)
        text_ += " " + std::to_string(memory.count);
      text_ += " align " + std::to_string(memory.align) + "\n";
    }
    for (const TensorMap &m : kernel_.tensor_maps)
      text_ += "  tensor_map @" + memory_name(m.memory) + " " + std::to_string(m.offset) + " sizes " + numbers(m.sizes) + " strides " + numbers(m.strides) +
               " box " + numbers(m.box) + "\n";
    region(kernel_.body, 1);
    text_ += "}\n";
  }

  void region(const Region &region, int depth) {
    for (const Op &o : region.ops)
      op(o, depth);
  }

  void op(const Op &op, int depth) {
    if (op.code == Opcode::kYield && op.operands.empty())
      return;
    text_.append(static_cast<size_t>(depth) * 2, ' ');
    list(op.results);
    if (!op.results.empty())
      text_ += " = ";
    text_ += name(op.code);
    if (op.contract)
      text_ += " contract";
    switch (op.code) {
    case Opcode::kFor:
    case Opcode::kIf:
    case Opcode::kWhile:
      control(op, depth);
      return;
    case Opcode::kConst:
      text_ += " ";
      constant(op);
      break;
    case Opcode::kTile:
    case Opcode::kWarpgroupMma:
      text_ += " " + std::to_string(op.imm);
      if (op.code == Opcode::kTile)
        text_ += ", " + std::to_string(op.imms.empty() ? 0 : op.imms[0]);
      text_ += ", @" + memory_name(op.memory) + ", @" + memory_name(op.imm2) + ", ";
      list(op.operands);
      break;
    case Opcode::kFeed:
      text_ += " @" + memory_name(op.memory) + ", " + std::to_string(op.imm) + ", map " + std::to_string(op.imm2) + " " + numbers(op.imms);
      operands(op);
      break;
    case Opcode::kFeedStart:
      text_ += " @" + memory_name(op.memory) + ", " + std::to_string(op.imm) + ",";
      operands(op);
      break;
    case Opcode::kCopyAsync:
      text_ += " " + std::to_string(op.imm) + ", @" + memory_name(op.imm2) + ",";
      operands(op);
      break;
    case Opcode::kFragmentLoad:
      text_ += " " + std::string(op.imm >= 0 && op.imm <= static_cast<int64_t>(FragmentRole::kBPairs) ? name(static_cast<FragmentRole>(op.imm)) : "?") + ",";
      operands(op);
      break;
    case Opcode::kFragmentMma:
      text_ += " " + std::string(op.imm >= 0 && op.imm <= static_cast<int64_t>(Scalar::kIndex) ? name(static_cast<Scalar>(op.imm)) : "?") +
               ", " + std::to_string(op.imm2) + ",";
      operands(op);
      break;
    case Opcode::kWarpgroupWait:
      text_ += " " + std::to_string(op.imm) + ",";
      operands(op);
      break;
    case Opcode::kFragmentPack:
      text_ += " " + std::string(op.imm >= 0 && op.imm <= static_cast<int64_t>(Scalar::kIndex) ? name(static_cast<Scalar>(op.imm)) : "?") + ",";
      operands(op);
      break;
    case Opcode::kError:
      text_ += " ";
      list(op.operands);
      text_ += ", " + std::to_string(op.imm) + ", " + std::to_string(op.imm2);
      break;
    default:
      operands(op);
    }
    types(op);
    text_ += "\n";
  }

  std::string take() { return std::move(text_); }

 private:
  void value(ValueId id) {
    if (renumber_)
      id = numbers_.emplace(id, static_cast<ValueId>(numbers_.size())).first->second;
    text_ += "%" + std::to_string(id);
  }

  std::string memory_name(int64_t number) const {
    size_t n = static_cast<size_t>(number);
    return n < kernel_.memories.size() ? kernel_.memories[n].name : "?";
  }

  void list(const Values &values, size_t first = 0) {
    for (size_t i = first; i < values.size(); ++i) {
      if (i > first)
        text_ += ", ";
      value(values[i]);
    }
  }

  // Illegal kernels are printed too, in messages.
  bool is_known(ValueId id) const { return id < kernel_.types.size(); }

  void types(const Op &op) {
    for (size_t i = 0; i < op.results.size(); ++i)
      text_ += (i == 0 ? " : " : ", ") + (is_known(op.results[i]) ? to_string(kernel_.types[op.results[i]]) : "?");
  }

  void constant(const Op &op) {
    if (op.results.empty() || !is_known(op.results[0]) || !is_float(kernel_.types[op.results[0]].scalar)) {
      text_ += std::to_string(op.imm);
      return;
    }
    uint64_t bits = std::bit_cast<uint64_t>(op.fimm);
    char buffer[64];
    if (std::isnan(op.fimm) && bits != std::bit_cast<uint64_t>(std::numeric_limits<double>::quiet_NaN())) {
      auto end = std::to_chars(buffer, buffer + sizeof buffer, bits, 16).ptr;
      text_ += "nan:" + std::string(buffer, end);
      return;
    }
    auto end = std::to_chars(buffer, buffer + sizeof buffer, op.fimm).ptr;
    text_.append(buffer, end);
  }

  void operands(const Op &op) {
    bool first = true;
    auto separate = [&] {
      text_ += first ? " " : ", ";
      first = false;
    };
    for (size_t i = 0; i < op.operands.size(); ++i) {
      separate();
      if (is_memory(op.code) && i == index_operand(op.code)) {
        text_ += "@";
        text_ += op.memory < kernel_.memories.size() ? kernel_.memories[op.memory].name : "?";
        text_ += "[";
        value(op.operands[i]);
        text_ += "]";
      } else {
        value(op.operands[i]);
      }
    }
    if (has_imm(op.code)) {
      separate();
      text_ += std::to_string(op.imm);
    }
    if (op.code == Opcode::kShuffle)
      text_ += " " + numbers(op.imms);
    if (is_memory(op.code) && op.align != 1)
      text_ += " align " + std::to_string(op.align);
  }

  static std::string numbers(const std::vector<int64_t> &list) {
    std::string out = "[";
    for (size_t i = 0; i < list.size(); ++i)
      out += (i ? " " : "") + std::to_string(list[i]);
    return out + "]";
  }

  void carried(const Op &op, const Values &params, size_t first_param, size_t first_operand) {
    for (size_t i = first_operand; i < op.operands.size() && i - first_operand + first_param < params.size(); ++i) {
      text_ += i == first_operand ? " carry " : ", ";
      value(params[i - first_operand + first_param]);
      text_ += " = ";
      value(op.operands[i]);
    }
  }

  void control(const Op &op, int depth) {
    std::string indent(static_cast<size_t>(depth) * 2, ' ');
    if (op.code == Opcode::kFor && op.operands.size() >= 3 && op.regions.size() == 1 && !op.regions[0].params.empty()) {
      text_ += " ";
      value(op.regions[0].params[0]);
      text_ += " = ";
      value(op.operands[0]);
      text_ += " to ";
      value(op.operands[1]);
      text_ += " step ";
      value(op.operands[2]);
      carried(op, op.regions[0].params, 1, 3);
      if (op.unroll != 1)
        text_ += " unroll " + std::to_string(op.unroll);
    } else if (op.code == Opcode::kWhile && op.regions.size() == 2) {
      carried(op, op.regions[0].params, 0, 0);
    } else {
      text_ += " ";
      list(op.operands);
    }
    types(op);
    text_ += " {\n";
    for (size_t r = 0; r < op.regions.size(); ++r) {
      const Region &part = op.regions[r];
      if (r == 1 && op.code == Opcode::kIf && part.ops.size() == 1 && part.ops[0].code == Opcode::kYield &&
          part.ops[0].operands.empty())
        break;
      if (r > 0) {
        text_ += indent + (op.code == Opcode::kIf ? "} else" : "} do");
        if (op.code != Opcode::kIf && !part.params.empty()) {
          text_ += " ";
          list(part.params);
        }
        text_ += " {\n";
      }
      region(part, depth + 1);
    }
    text_ += indent + "}\n";
  }

  const Kernel &kernel_;
  bool renumber_;
  std::string text_;
  std::unordered_map<ValueId, ValueId> numbers_;
};

// ---- Parsing

struct SyntaxError {
  std::string message;
};

constexpr int kMaxDepth = 128;

class Parser {
 public:
  Parser(std::string_view text, Kernel &kernel) : text_(text), kernel_(kernel) {}

  void kernel() {
    kernel_ = Kernel();
    expect("kernel");
    kernel_.name = name_after('@');
    std::string kind = word("a class");
    if (kind == "simd")
      kernel_.kind = Class::kSimd;
    else if (kind == "simt")
      kernel_.kind = Class::kSimt;
    else if (kind == "block")
      kernel_.kind = Class::kBlock;
    else
      fail("a class (simd, simt or block)", kind);
    expect("local");
    for (uint32_t &size : kernel_.local_size)
      size = static_cast<uint32_t>(integer(0, UINT32_MAX));
    if (accept("fragment"))
      for (uint32_t *size : {&kernel_.fragment.threads, &kernel_.fragment.words, &kernel_.fragment.run})
        *size = static_cast<uint32_t>(integer(0, UINT32_MAX));
    expect("{");
    for (;;) {
      // "param @n ..." declares; "%0 = param 0" is an op and begins with %.
      if (accept("param"))
        param();
      else if (accept("buffer"))
        buffer();
      else if (accept("array"))
        array();
      else if (accept("tensor_map"))
        tensor_map();
      else
        break;
    }
    ops(kernel_.body, 0);
    expect("}");
    skip_space();
    if (at_ != text_.size())
      fail("the end of the text", rest());
  }

 private:
  // Lexing: no token list, just a position.
  void skip_space() {
    while (at_ < text_.size()) {
      char c = text_[at_];
      if (c == '\n')
        ++line_;
      if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
        ++at_;
      } else if (text_.substr(at_, 2) == "//") {
        while (at_ < text_.size() && text_[at_] != '\n')
          ++at_;
      } else {
        break;
      }
    }
  }

  static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  }

  std::string rest() const {
    if (at_ >= text_.size())
      return "the end of the text";
    size_t end = text_.find('\n', at_);
    return std::string(text_.substr(at_, std::min<size_t>(end == std::string_view::npos ? 20 : end - at_, 20)));
  }

  [[noreturn]] void fail(const std::string &expected, const std::string &found) const {
    throw SyntaxError{"line " + std::to_string(line_) + ": expected " + expected + ", found " + found};
  }

  // True and consumed if the next token is `token`.
  bool accept(std::string_view token) {
    skip_space();
    if (text_.substr(at_, token.size()) != token)
      return false;
    size_t end = at_ + token.size();
    if (is_word(token.back()) && end < text_.size() && is_word(text_[end]))
      return false;
    at_ = end;
    return true;
  }

  void expect(std::string_view token) {
    if (!accept(token))
      fail("'" + std::string(token) + "'", rest());
  }

  std::string word(const char *what) {
    skip_space();
    size_t begin = at_;
    while (at_ < text_.size() && is_word(text_[at_]))
      ++at_;
    if (at_ == begin)
      fail(what, rest());
    return std::string(text_.substr(begin, at_ - begin));
  }

  std::string name_after(char sigil) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != sigil)
      fail(std::string("a name after '") + sigil + "'", rest());
    ++at_;
    return word("a name");
  }

  int64_t integer(int64_t min, int64_t max) {
    skip_space();
    int64_t value = 0;
    auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (error != std::errc() || value < min || value > max)
      fail("an integer from " + std::to_string(min) + " to " + std::to_string(max), rest());
    at_ = static_cast<size_t>(end - text_.data());
    return value;
  }

  double number() {
    skip_space();
    if (accept("nan:")) {
      uint64_t bits = 0;
      auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), bits, 16);
      if (error != std::errc() || !std::isnan(std::bit_cast<double>(bits)))
        fail("the bits of a NaN", rest());
      at_ = static_cast<size_t>(end - text_.data());
      return std::bit_cast<double>(bits);
    }
    double value = 0;
    auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (error != std::errc())
      fail("a number", rest());
    at_ = static_cast<size_t>(end - text_.data());
    return value;
  }

  Type type() {
    std::string text = word("a type");
    auto parsed = parse_type(text);
    if (!parsed)
      fail("a type", text);
    return *parsed;
  }

  Scalar scalar() {
    Type parsed = type();
    if (parsed.lanes != 1)
      fail("a scalar type", to_string(parsed));
    return parsed.scalar;
  }

  // Declarations.
  void param() {
    Param p;
    p.name = name_after('@');
    p.type = scalar();
    if (accept("range")) {
      p.min = integer(INT64_MIN, INT64_MAX);
      p.max = integer(INT64_MIN, INT64_MAX);
    }
    if (accept("reciprocal"))
      p.reciprocal_of = static_cast<int32_t>(integer(0, static_cast<int64_t>(kernel_.params.size()) - 1));
    kernel_.params.push_back(std::move(p));
  }

  uint32_t alignment() {
    expect("align");
    return static_cast<uint32_t>(integer(0, UINT32_MAX));
  }

  void buffer() {
    Memory m;
    m.name = name_after('@');
    std::string access = word("an access");
    if (access == "read")
      m.access = Access::kRead;
    else if (access == "constant")
      m.access = Access::kRead, m.constant = true;
    else if (access == "write")
      m.access = Access::kWrite;
    else if (access == "read_write")
      m.access = Access::kReadWrite;
    else
      fail("an access (read, constant, write or read_write)", access);
    m.type = scalar();
    m.align = alignment();
    kernel_.memories.push_back(std::move(m));
  }

  void array() {
    Memory m;
    m.name = name_after('@');
    m.access = Access::kReadWrite;
    std::string space = word("a space");
    if (space == "workgroup")
      m.space = Space::kWorkgroup;
    else if (space == "private")
      m.space = Space::kPrivate;
    else
      fail("a space (workgroup or private)", space);
    m.type = scalar();
    m.count = static_cast<uint64_t>(integer(0, INT64_MAX));
    m.align = alignment();
    kernel_.memories.push_back(std::move(m));
  }

  void tensor_map() {
    TensorMap m;
    m.memory = memory();
    m.offset = integer(INT64_MIN, INT64_MAX);
    for (auto [what, list] : {std::pair("sizes", &m.sizes), std::pair("strides", &m.strides), std::pair("box", &m.box)}) {
      expect(what);
      *list = numbers();
    }
    kernel_.tensor_maps.push_back(std::move(m));
  }

  uint32_t memory() {
    std::string memory_name = name_after('@');
    for (size_t i = 0; i < kernel_.memories.size(); ++i)
      if (kernel_.memories[i].name == memory_name)
        return static_cast<uint32_t>(i);
    fail("a declared memory", "@" + memory_name);
  }

  // Values.
  uint64_t value_number() {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != '%')
      fail("a value", rest());
    ++at_;
    return static_cast<uint64_t>(integer(0, UINT32_MAX));
  }

  bool at_value() {
    skip_space();
    return at_ < text_.size() && text_[at_] == '%';
  }

  ValueId use() {
    uint64_t number = value_number();
    auto it = values_.find(number);
    if (it == values_.end())
      fail("a value that is defined above", "%" + std::to_string(number));
    return it->second;
  }

  ValueId define(uint64_t number, Type type) {
    ValueId id = static_cast<ValueId>(kernel_.types.size());
    if (!values_.emplace(number, id).second)
      fail("a value that is not defined yet", "%" + std::to_string(number));
    kernel_.types.push_back(type);
    return id;
  }

  void define_results(Op &op, const std::vector<uint64_t> &numbers) {
    if (numbers.empty())
      return;
    expect(":");
    for (size_t i = 0; i < numbers.size(); ++i) {
      if (i > 0)
        expect(",");
      op.results.push_back(define(numbers[i], type()));
    }
  }

  // Ops up to a closing brace.
  void ops(Region &region, int depth) {
    if (depth > kMaxDepth)
      fail("at most " + std::to_string(kMaxDepth) + " nested regions", "one more");
    for (;;) {
      skip_space();
      if (at_ >= text_.size())
        fail("'}'", rest());
      if (text_[at_] == '}')
        break;
      Op o = op(depth);
      region.ops.push_back(std::move(o));
    }
    if (depth > 0 && (region.ops.empty() || region.ops.back().code != Opcode::kYield)) {
      Op yield;
      yield.code = Opcode::kYield;
      region.ops.push_back(std::move(yield));
    }
  }

  Op op(int depth) {
    std::vector<uint64_t> results;
    if (at_value()) {
      do
        results.push_back(value_number());
      while (accept(","));
      expect("=");
    }
    std::string code = word("an op");
    auto opcode = parse_opcode(code);
    if (!opcode)
      fail("an op", code);
    Op op;
    op.code = *opcode;
    op.contract = accept("contract");
    switch (op.code) {
    case Opcode::kFor:
      for_op(op, results, depth);
      return op;
    case Opcode::kIf:
      if_op(op, results, depth);
      return op;
    case Opcode::kWhile:
      while_op(op, results, depth);
      return op;
    case Opcode::kConst: {
      // The type comes after the number and decides how the number is read.
      skip_space();
      size_t begin = at_, begin_line = line_;
      while (at_ < text_.size() && text_[at_] != ' ' && text_[at_] != '\n')
        ++at_;
      define_results(op, results);
      size_t end = at_, end_line = line_;
      at_ = begin;
      line_ = begin_line;
      if (!op.results.empty() && is_float(kernel_.types[op.results[0]].scalar))
        op.fimm = number();
      else
        op.imm = integer(INT64_MIN, INT64_MAX);
      skip_space();
      if (!op.results.empty() && (at_ >= text_.size() || text_[at_] != ':'))
        fail("':'", rest());
      at_ = end;
      line_ = end_line;
      return op;
    }
    case Opcode::kTile:
    case Opcode::kWarpgroupMma:
      op.imm = integer(1, INT32_MAX);
      expect(",");
      if (op.code == Opcode::kTile) {
        op.imms = {integer(1, kMaxLanes)};
        expect(",");
      }
      op.memory = memory();
      expect(",");
      op.imm2 = memory();
      while (accept(","))
        op.operands.push_back(use());
      define_results(op, results);
      return op;
    case Opcode::kFeed:
    case Opcode::kFeedStart:
      op.memory = memory();
      expect(",");
      op.imm = integer(0, INT32_MAX);
      if (op.code == Opcode::kFeed) {
        expect(",");
        expect("map");
        op.imm2 = integer(0, INT32_MAX);
        op.imms = numbers();
      } else {
        expect(",");
      }
      break;
    case Opcode::kCopyAsync:
      op.imm = integer(1, INT32_MAX);
      expect(",");
      op.imm2 = memory();
      expect(",");
      break;
    case Opcode::kFragmentLoad: {
      constexpr auto kLast = static_cast<int64_t>(FragmentRole::kBPairs);
      std::string role = word("a, b, b_rows or b_pairs");
      while (op.imm <= kLast && name(static_cast<FragmentRole>(op.imm)) != role)
        ++op.imm;
      if (op.imm > kLast)
        fail("a, b, b_rows or b_pairs", role);
      expect(",");
      break;
    }
    case Opcode::kFragmentMma:
      op.imm = static_cast<int64_t>(scalar());
      expect(",");
      op.imm2 = integer(0, kHalfOfB | kUnsignedA | kUnsignedB);
      expect(",");
      break;
    case Opcode::kWarpgroupWait:
      op.imm = integer(0, INT32_MAX);
      expect(",");
      break;
    case Opcode::kFragmentPack:
      op.imm = static_cast<int64_t>(scalar());
      expect(",");
      break;
    case Opcode::kError:
      op.operands.push_back(use());
      expect(",");
      op.imm = integer(INT64_MIN, INT64_MAX);
      expect(",");
      op.imm2 = integer(INT64_MIN, INT64_MAX);
      return op;
    default:
      break;
    }
    operands(op);
    define_results(op, results);
    return op;
  }

  void operands(Op &op) {
    bool first = true;
    auto at_sigil = [&] {
      skip_space();
      return at_ < text_.size() && (text_[at_] == '%' || text_[at_] == '@');
    };
    bool pending = false; // a comma was read: something has to follow
    // An op without results on the next line begins with a word, and one with results is "%n =" or "%n, %m =".
    auto starts_next_op = [&] {
      size_t at = at_;
      size_t line = line_;
      bool is_next = false;
      if (first && op.operands.empty() && at_value() && (op.code == Opcode::kBarrier || op.code == Opcode::kYield || op.code == Opcode::kCopyCommit)) {
        do
          value_number();
        while (accept(",") && at_value());
        is_next = accept("=");
      }
      at_ = at;
      line_ = line;
      return is_next;
    };
    while (at_sigil() && (first || pending) && !starts_next_op()) {
      if (text_[at_] == '@') {
        op.memory = memory();
        expect("[");
        op.operands.push_back(use());
        expect("]");
      } else {
        op.operands.push_back(use());
      }
      first = false;
      pending = accept(",");
    }
    if (has_imm(op.code)) {
      if (!first && !pending)
        fail("','", rest());
      op.imm = integer(INT64_MIN, INT64_MAX);
      pending = false;
    }
    if (pending)
      fail("an operand", rest());
    if (op.code == Opcode::kShuffle)
      op.imms = numbers(0, 2 * kMaxLanes - 1);
    if (is_memory(op.code) && accept("align"))
      op.align = static_cast<uint32_t>(integer(0, UINT32_MAX));
  }

  std::vector<int64_t> numbers(int64_t least = INT64_MIN, int64_t most = INT64_MAX) {
    std::vector<int64_t> out;
    expect("[");
    while (!accept("]"))
      out.push_back(integer(least, most));
    return out;
  }

  void carried(Op &op, std::vector<uint64_t> &params) {
    if (!accept("carry"))
      return;
    do {
      params.push_back(value_number());
      expect("=");
      op.operands.push_back(use());
    } while (accept(","));
  }

  Region region(int depth) {
    Region region;
    ops(region, depth + 1);
    expect("}");
    return region;
  }

  // Results are usable only after the op, so their definitions are made when the regions have been read, but the ids
  // are taken before: printing numbers the results first.
  void for_op(Op &op, const std::vector<uint64_t> &results, int depth) {
    uint64_t i = value_number();
    expect("=");
    op.operands.push_back(use());
    expect("to");
    op.operands.push_back(use());
    expect("step");
    op.operands.push_back(use());
    std::vector<uint64_t> params;
    carried(op, params);
    if (accept("unroll"))
      op.unroll = static_cast<uint32_t>(integer(0, UINT32_MAX));
    define_results(op, results);
    expect("{");
    Region body;
    body.params.push_back(define(i, kernel_.types[op.operands[0]]));
    for (size_t k = 0; k < params.size(); ++k)
      body.params.push_back(define(params[k], kernel_.types[op.operands[3 + k]]));
    ops(body, depth + 1);
    expect("}");
    op.regions.push_back(std::move(body));
  }

  void if_op(Op &op, const std::vector<uint64_t> &results, int depth) {
    op.operands.push_back(use());
    define_results(op, results);
    expect("{");
    op.regions.push_back(region(depth));
    Region otherwise;
    if (accept("else")) {
      expect("{");
      otherwise = region(depth);
    } else {
      Op yield;
      yield.code = Opcode::kYield;
      otherwise.ops.push_back(std::move(yield));
    }
    op.regions.push_back(std::move(otherwise));
  }

  void while_op(Op &op, const std::vector<uint64_t> &results, int depth) {
    std::vector<uint64_t> params;
    carried(op, params);
    define_results(op, results);
    expect("{");
    for (int part = 0; part < 2; ++part) {
      Region body;
      if (part == 1) {
        expect("do");
        params.clear();
        if (at_value()) {
          do
            params.push_back(value_number());
          while (accept(","));
        }
        expect("{");
        if (params.size() != op.operands.size())
          fail(std::to_string(op.operands.size()) + " carried values", std::to_string(params.size()));
      }
      for (size_t k = 0; k < params.size(); ++k)
        body.params.push_back(define(params[k], kernel_.types[op.operands[k]]));
      ops(body, depth + 1);
      expect("}");
      op.regions.push_back(std::move(body));
    }
  }

  std::string_view text_;
  Kernel &kernel_;
  size_t at_ = 0;
  size_t line_ = 1;
  std::unordered_map<uint64_t, ValueId> values_;
};

} // namespace

std::string print(const Kernel &kernel) {
  Printer printer(kernel, true);
  printer.kernel();
  return printer.take();
}

std::string print_op(const Kernel &kernel, const Op &op) {
  Printer printer(kernel, false);
  printer.op(op, 0);
  std::string text = printer.take();
  while (!text.empty() && text.back() == '\n')
    text.pop_back();
  return text;
}

std::string parse(std::string_view text, Kernel &kernel) {
  try {
    Parser(text, kernel).kernel();
    return "";
  } catch (const SyntaxError &error) {
    return error.message;
  }
}

} // namespace ingot::aotc::kernel
