// Text of dispatches: printer, parser and canonical form.
//
//   dispatch @softmax_3 nodes("/head/Softmax") {
//     input x f32 265000          output y f32 265000 [constant]
//     axis r 40                   dim w 1 4096 at 64  host n 0 10
//     %0 load f32 x[6625*r + j] guard(j - 1 < 6625) else %9
//     %1 reduce max f32 %0 over j
//     %2 sub f32 %0 %1
//     store y[6625*r + j] %2 over r j
//     check %7 code 1 site 0
//   }
#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <map>
#include <sstream>

#include "aotc/base/error.h"
#include "aotc/dispatch/dispatch.h"
#include "aotc/kernel/kernel.h"
#include "aotc/kernel/text.h"

namespace ingot::aotc::dispatch {
namespace {

constexpr std::string_view kReduceNames[] = {"add",    "mul",    "min",        "max",       "and",
                                             "or",     "argmin", "argmax",     "argmin_last", "argmax_last"};

std::string float_text(double value) {
  if (std::isnan(value))
    return "nan";
  if (std::isinf(value))
    return value < 0 ? "-inf" : "inf";
  char buffer[40];
  auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::hex);
  return std::string(value < 0 || std::signbit(value) ? "-0x" : "0x") +
         std::string(buffer + (std::signbit(value) ? 1 : 0), end);
}

std::string quote(const std::string &text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\')
      out += '\\';
    if (c == '\n')
      out += "\\n";
    else
      out += c;
  }
  return out + "\"";
}

void print_body(std::ostringstream &out, const Dispatch &d) {
  for (const Operand &o : d.operands) {
    out << "  " << (o.output ? "output " : "input ") << o.name << " " << name(o.type) << " [" << o.count.to_string() << "]";
    if (o.constant)
      out << " constant";
    if (o.packing) {
      out << " packing(" << o.packing->lane_axis << ";";
      for (uint32_t a : o.packing->inner_axes)
        out << " " << a;
      out << ";";
      for (uint32_t a : o.packing->batch_axes)
        out << " " << a;
      if (o.packing->group > 1)
        out << "; " << o.packing->group;
      out << ")";
    }
    out << "\n";
  }
  for (const Axis &axis : d.axes)
    out << "  axis " << axis.symbol.name() << " [" << axis.extent.to_string() << "]\n";
  for (size_t i = 0; i < d.values.size(); ++i) {
    const Value &v = d.values[i];
    out << "  %" << i << " ";
    switch (v.kind) {
    case ValueKind::kConst:
      out << "const " << name(v.type) << " " << (is_float(v.type) ? float_text(v.fimm) : std::to_string(v.imm));
      break;
    case ValueKind::kIndex:
      out << "index " << name(v.type) << " [" << v.expr.to_string() << "]";
      break;
    case ValueKind::kLoad:
      out << "load " << name(v.type) << " " << d.operands[v.operand].name << " [" << v.expr.to_string() << "]";
      for (const Guard &g : v.guards)
        out << " guard [" << g.value.to_string() << "] [" << g.extent.to_string() << "]";
      if (v.otherwise != kNoValue)
        out << " else %" << v.otherwise;
      break;
    case ValueKind::kOp:
      out << kernel::name(v.code) << " " << name(v.type);
      for (ValueId a : v.args)
        out << " %" << a;
      break;
    case ValueKind::kReduce:
      out << "reduce " << kReduceNames[static_cast<size_t>(v.reduce)] << " " << name(v.type) << " %" << v.args[0] << " over";
      for (uint32_t a : v.axes)
        out << " " << d.axes[a].symbol.name();
      break;
    }
    out << "\n";
  }
  for (const Store &s : d.stores) {
    out << "  store " << d.operands[s.operand].name << " [" << s.offset.to_string() << "] %" << s.value << " over";
    for (uint32_t a : s.axes)
      out << " " << d.axes[a].symbol.name();
    out << "\n";
  }
  for (const Check &c : d.checks)
    out << "  check %" << c.condition << " code " << c.code << " site " << c.site << "\n";
  if (d.loop) {
    for (const Expr &e : d.loop->params)
      out << "  param [" << e.to_string() << "]\n";
    out << "  loop {\n" << kernel::print(d.loop->kernel) << "  }\n";
  }
  if (d.sequence) {
    const Sequence &q = *d.sequence;
    for (const Operand &local : q.locals)
      out << "  local " << local.name << " " << name(local.type) << " [" << local.count.to_string() << "]\n";
    out << "  sequence " << q.iteration.name() << " " << q.iteration.min() << " " << q.iteration.max() << " ["
        << q.trips.to_string() << "] {\n";
    for (const Sequence::Step &step : q.steps) {
      out << "  step";
      for (uint32_t operand : step.operands)
        out << " " << operand;
      out << " " << print(step.dispatch);
    }
    out << "  }\n";
  }
}

std::string range_text(const Symbol &s) {
  std::string text = " " + std::to_string(s.min()) + " " + std::to_string(s.max());
  return s.usual() ? text + " at " + std::to_string(s.usual()) : text;
}

// Symbols that the text must declare: free ones and value symbols.
void declare(std::ostringstream &out, const Dispatch &d) {
  for (const Symbol &s : d.free_symbols())
    out << (s.kind() == SymbolKind::kDim ? "  dim " : "  host ") << s.name() << range_text(s) << "\n";
  std::map<uint64_t, Symbol> values;
  auto collect = [&](const Expr &e) {
    for (const Symbol &s : e.symbols())
      if (s.kind() == SymbolKind::kValue)
        values.emplace(s.id(), s);
  };
  for (const Value &v : d.values) {
    collect(v.expr);
    for (const Guard &g : v.guards)
      collect(g.value);
  }
  for (const Store &s : d.stores)
    collect(s.offset);
  for (auto &[id, s] : values)
    out << "  value " << s.name() << " %" << s.value() << " [" << s.extent()->to_string() << "]\n";
}

} // namespace

std::string print(const Dispatch &d) {
  std::ostringstream out;
  out << "dispatch @" << d.name << " nodes(";
  for (size_t i = 0; i < d.nodes.size(); ++i)
    out << (i ? ", " : "") << quote(d.nodes[i]);
  out << ") {\n";
  declare(out, d);
  print_body(out, d);
  out << "}\n";
  return out.str();
}

std::string canonical_text(const Dispatch &d) {
  // Rename axes, symbols and operands by position; everything else is already canonical.
  std::map<Symbol, Expr> rename;
  std::vector<Symbol> free = d.free_symbols();
  std::ostringstream head;
  for (size_t i = 0; i < free.size(); ++i) {
    Symbol s = Symbol::dim("d" + std::to_string(i), free[i].min(), free[i].max());
    head << "d" << i << range_text(free[i]) << "\n";
    rename.emplace(free[i], Expr(s));
  }
  if (d.loop) {
    // Structured loops are compared by their kernel's text; their params by expression.
    std::ostringstream out;
    out << head.str();
    for (const Operand &o : d.operands)
      out << (o.output ? "output " : "input ") << name(o.type) << " " << o.count.substitute(rename).to_string() << "\n";
    for (const Expr &e : d.loop->params)
      out << e.substitute(rename).to_string() << "\n";
    kernel::Kernel k = d.loop->kernel;
    k.name = "k";
    out << kernel::print(k);
    return out.str();
  }
  if (d.sequence) {
    // Steps are equal by their own text, with their symbols' places among the sequence's.
    const Sequence &q = *d.sequence;
    std::ostringstream out;
    out << head.str() << "sequence " << q.iteration.min() << " " << q.iteration.max() << " "
        << q.trips.substitute(rename).to_string() << "\n";
    auto operands = [&](const std::vector<Operand> &list) {
      for (const Operand &o : list)
        out << (o.output ? "output " : "input ") << name(o.type) << " " << o.count.substitute(rename).to_string()
            << (o.constant ? " constant" : "") << "\n";
    };
    operands(d.operands);
    out << "locals\n";
    operands(q.locals);
    for (const Sequence::Step &step : q.steps) {
      out << "step";
      for (uint32_t operand : step.operands)
        out << " " << operand;
      for (const Symbol &s : step.dispatch.free_symbols())
        out << " d" << (s == q.iteration ? free.size() : static_cast<size_t>(std::find(free.begin(), free.end(), s) - free.begin()));
      out << "\n" << canonical_text(step.dispatch);
    }
    return out.str();
  }
  Dispatch c = rewrite(d, [&](const Expr &e) { return e.substitute(rename); }, true);
  for (size_t i = 0; i < c.operands.size(); ++i)
    c.operands[i].name = "o" + std::to_string(i);
  std::ostringstream out;
  out << head.str();
  print_body(out, c);
  return out.str();
}

namespace {

// A line-based parser: words, bracketed expressions, quoted strings.
class Parser {
 public:
  Parser(std::string_view text, std::string &error) : text_(text), error_(error) {}

  std::optional<Dispatch> run() {
    if (!word("dispatch"))
      return fail("expected 'dispatch'");
    std::string n = next();
    if (n.size() < 2 || n[0] != '@')
      return fail("expected @name");
    d_.name = n.substr(1);
    if (!word("nodes") || !eat('('))
      return fail("expected nodes(");
    while (!eat(')')) {
      std::string s;
      if (!quoted(s))
        return fail("expected a quoted node name");
      d_.nodes.push_back(s);
      eat(',');
    }
    if (!eat('{'))
      return fail("expected '{'");
    while (!eat('}')) {
      if (at_ >= text_.size())
        return fail("the text ends before '}'");
      if (!statement())
        return std::nullopt;
    }
    std::string problem = verify(d_);
    if (!problem.empty())
      return fail(problem);
    return d_;
  }

 private:
  std::nullopt_t fail(const std::string &why) {
    if (error_.empty()) {
      size_t line = 1;
      for (size_t i = 0; i < at_ && i < text_.size(); ++i)
        line += text_[i] == '\n';
      error_ = "dispatch text, line " + std::to_string(line) + ": " + why;
    }
    return std::nullopt;
  }
  bool bad(const std::string &why) {
    fail(why);
    return false;
  }
  void skip() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])))
      ++at_;
  }
  bool eat(char c) {
    skip();
    if (at_ < text_.size() && text_[at_] == c) {
      ++at_;
      return true;
    }
    return false;
  }
  std::string next() {
    skip();
    size_t begin = at_;
    while (at_ < text_.size() && !std::isspace(static_cast<unsigned char>(text_[at_])) &&
           std::string_view("(),;[]{}\"").find(text_[at_]) == std::string_view::npos)
      ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }
  std::string peek() {
    size_t save = at_;
    std::string w = next();
    at_ = save;
    return w;
  }
  bool word(std::string_view w) {
    size_t save = at_;
    if (next() == w)
      return true;
    at_ = save;
    return false;
  }
  bool quoted(std::string &out) {
    if (!eat('"'))
      return false;
    while (at_ < text_.size() && text_[at_] != '"') {
      if (text_[at_] == '\\' && at_ + 1 < text_.size()) {
        ++at_;
        out += text_[at_] == 'n' ? '\n' : text_[at_];
      } else {
        out += text_[at_];
      }
      ++at_;
    }
    return eat('"');
  }
  bool number(int64_t &out) {
    std::string w = next();
    auto [end, error] = std::from_chars(w.data(), w.data() + w.size(), out);
    return error == std::errc() && end == w.data() + w.size() && !w.empty();
  }
  bool value_ref(ValueId &out) {
    std::string w = next();
    uint32_t v = 0;
    if (w.size() < 2 || w[0] != '%')
      return false;
    auto [end, error] = std::from_chars(w.data() + 1, w.data() + w.size(), v);
    out = v;
    return error == std::errc() && end == w.data() + w.size();
  }
  bool expr(Expr &out) {
    if (!eat('['))
      return bad("expected '['");
    size_t end = text_.find(']', at_);
    if (end == std::string_view::npos)
      return bad("expected ']'");
    std::string_view inside = text_.substr(at_, end - at_);
    auto e = parse_expr(inside, [&](std::string_view n) -> std::optional<Symbol> {
      auto it = symbols_.find(std::string(n));
      if (it == symbols_.end())
        return std::nullopt;
      return it->second;
    });
    if (!e)
      return bad("'" + std::string(inside) + "' is no expression over the symbols declared so far");
    at_ = end + 1;
    out = *e;
    return true;
  }
  bool type(ElementType &out) {
    std::string w = next();
    auto t = parse_element_type(w);
    if (!t)
      return bad("'" + w + "' is no element type");
    out = *t;
    return true;
  }
  bool operand(uint32_t &out) {
    std::string w = next();
    for (size_t i = 0; i < d_.operands.size(); ++i)
      if (d_.operands[i].name == w) {
        out = static_cast<uint32_t>(i);
        return true;
      }
    return bad("'" + w + "' is no operand");
  }
  bool axes(std::vector<uint32_t> &out) {
    for (;;) {
      std::string w = peek();
      size_t i = 0;
      for (; i < d_.axes.size(); ++i)
        if (d_.axes[i].symbol.name() == w)
          break;
      if (i == d_.axes.size())
        return true;
      next();
      out.push_back(static_cast<uint32_t>(i));
    }
  }
  bool statement() {
    std::string w = next();
    if (w == "input" || w == "output") {
      Operand o;
      o.output = w == "output";
      o.name = next();
      if (!type(o.type) || !expr(o.count))
        return false;
      o.constant = word("constant");
      if (word("packing")) {
        Packing p;
        int64_t n = 0;
        if (!eat('(') || !number(n))
          return bad("expected packing(lane; inner; batch[; group])");
        p.lane_axis = static_cast<uint32_t>(n);
        for (auto *list : {&p.inner_axes, &p.batch_axes}) {
          if (!eat(';'))
            return bad("expected ';'");
          while (!peek().empty() && number(n))
            list->push_back(static_cast<uint32_t>(n));
        }
        if (eat(';')) {
          if (!number(n) || n < 2 || n > 16)
            return bad("expected a group of 2 to 16");
          p.group = static_cast<uint32_t>(n);
        }
        if (!eat(')'))
          return bad("expected ')'");
        o.packing = p;
      }
      d_.operands.push_back(o);
      return true;
    }
    if (w == "dim" || w == "host") {
      std::string n = next();
      int64_t lo = 0, hi = 0;
      if (n.empty() || !number(lo) || !number(hi))
        return bad("expected a name and two bounds");
      int64_t usual = 0;
      if (w == "dim" && word("at") && (!number(usual) || usual < 1))
        return bad("expected the usual value");
      if (!symbols_.count(n)) // a step names those of its sequence again
        symbols_[n] = w == "dim" ? Symbol::dim(n, lo, hi, usual) : Symbol::host(n, lo, hi);
      return true;
    }
    if (w == "local") {
      Operand o;
      o.name = next();
      if (!type(o.type) || !expr(o.count))
        return false;
      sequence_.locals.push_back(o);
      return true;
    }
    if (w == "sequence")
      return sequence();
    if (w == "value") {
      std::string n = next();
      ValueId v = 0;
      Expr extent;
      if (n.empty() || !value_ref(v) || !expr(extent))
        return bad("expected value NAME %number [extent]");
      symbols_[n] = Symbol::value(n, v, extent);
      return true;
    }
    if (w == "axis") {
      std::string n = next();
      Expr extent;
      if (n.empty() || !expr(extent))
        return bad("expected a name and an extent");
      Symbol s = Symbol::axis(n, extent);
      symbols_[n] = s;
      d_.axes.push_back({s, extent});
      return true;
    }
    if (w == "store") {
      Store s;
      if (!operand(s.operand) || !expr(s.offset) || !value_ref(s.value) || !word("over") || !axes(s.axes))
        return bad("expected store OPERAND [offset] %value over axes");
      d_.stores.push_back(s);
      return true;
    }
    if (w == "check") {
      Check c;
      if (!value_ref(c.condition) || !word("code") || !number(c.code) || !word("site") || !number(c.site))
        return bad("expected check %value code N site N");
      d_.checks.push_back(c);
      return true;
    }
    if (w == "param") {
      Expr e;
      if (!expr(e))
        return false;
      params_.push_back(e);
      return true;
    }
    if (w == "loop") {
      if (!eat('{'))
        return bad("expected '{'");
      // The kernel's text ends where its braces balance.
      size_t begin = at_;
      int depth = 1;
      while (at_ < text_.size() && depth > 0) {
        depth += text_[at_] == '{' ? 1 : text_[at_] == '}' ? -1 : 0;
        ++at_;
      }
      if (depth != 0)
        return bad("the loop's braces do not balance");
      LoopBody loop;
      std::string why = kernel::parse(std::string(text_.substr(begin, at_ - 1 - begin)), loop.kernel);
      if (!why.empty())
        return bad(why);
      loop.params = params_;
      d_.loop = std::make_shared<LoopBody>(std::move(loop));
      return true;
    }
    if (w.size() > 1 && w[0] == '%')
      return value(w);
    return bad("unexpected '" + w + "'");
  }
  bool sequence() {
    std::string n = next();
    int64_t lo = 0, hi = 0;
    if (n.empty() || !number(lo) || !number(hi) || !expr(sequence_.trips))
      return bad("expected a name, two bounds and [trips]");
    sequence_.iteration = symbols_[n] = Symbol::host(n, lo, hi);
    if (!eat('{'))
      return bad("expected '{'");
    while (!eat('}')) {
      if (!word("step"))
        return bad("expected 'step'");
      Sequence::Step step;
      int64_t operand = 0;
      while (peek() != "dispatch") {
        if (!number(operand) || operand < 0)
          return bad("expected the numbers of operands and a dispatch");
        step.operands.push_back(static_cast<uint32_t>(operand));
      }
      Parser inner(text_.substr(at_), error_);
      inner.symbols_ = symbols_;
      auto parsed = inner.run();
      if (!parsed)
        return false;
      step.dispatch = std::move(*parsed);
      at_ += inner.at_;
      sequence_.steps.push_back(std::move(step));
    }
    d_.sequence = std::make_shared<Sequence>(std::move(sequence_));
    return true;
  }
  bool value(const std::string &id) {
    if (id != "%" + std::to_string(d_.values.size()))
      return bad("expected value %" + std::to_string(d_.values.size()) + ", found " + id);
    Value v;
    std::string what = next();
    if (what == "const") {
      v.kind = ValueKind::kConst;
      if (!type(v.type))
        return false;
      if (is_float(v.type)) {
        std::string n = next();
        v.fimm = std::strtod(n.c_str(), nullptr);
      } else if (!number(v.imm)) {
        return bad("expected an integer");
      }
    } else if (what == "index") {
      v.kind = ValueKind::kIndex;
      if (!type(v.type) || !expr(v.expr))
        return false;
    } else if (what == "load") {
      v.kind = ValueKind::kLoad;
      if (!type(v.type) || !operand(v.operand) || !expr(v.expr))
        return false;
      while (word("guard")) {
        Guard g;
        if (!expr(g.value) || !expr(g.extent))
          return false;
        v.guards.push_back(g);
      }
      if (word("else") && !value_ref(v.otherwise))
        return bad("expected a value after else");
    } else if (what == "reduce") {
      v.kind = ValueKind::kReduce;
      std::string kind = next();
      size_t k = 0;
      while (k < std::size(kReduceNames) && kReduceNames[k] != kind)
        ++k;
      if (k == std::size(kReduceNames))
        return bad("'" + kind + "' is no reduction");
      v.reduce = static_cast<ReduceKind>(k);
      ValueId arg = 0;
      if (!type(v.type) || !value_ref(arg) || !word("over") || !axes(v.axes))
        return bad("expected reduce KIND TYPE %value over axes");
      v.args = {arg};
    } else {
      v.kind = ValueKind::kOp;
      auto code = kernel::parse_opcode(what);
      if (!code)
        return bad("'" + what + "' is no op");
      v.code = *code;
      if (!type(v.type))
        return false;
      while (!peek().empty() && peek()[0] == '%') {
        // The next value's definition starts a line; operands stay on this one.
        size_t line_end = text_.find('\n', at_);
        size_t save = at_;
        skip();
        if (line_end != std::string_view::npos && at_ > line_end) {
          at_ = save;
          break;
        }
        ValueId arg = 0;
        if (!value_ref(arg))
          return bad("expected a value");
        v.args.push_back(arg);
      }
    }
    d_.values.push_back(std::move(v));
    return true;
  }

  std::string_view text_;
  std::string &error_;
  size_t at_ = 0;
  Dispatch d_;
  std::map<std::string, Symbol> symbols_;
  std::vector<Expr> params_;
  Sequence sequence_;
};

} // namespace

std::optional<Dispatch> parse(std::string_view text, std::string &error) {
  error.clear();
  return Parser(text, error).run();
}

} // namespace ingot::aotc::dispatch
