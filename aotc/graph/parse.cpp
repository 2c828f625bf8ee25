// Parser of what print.cpp writes. Names a line and what was expected where the text is wrong; the caller verifies the
// function it gets.
#include <charconv>
#include <map>
#include <set>

#include "aotc/base/error.h"
#include "aotc/graph/check.h"

namespace ingot::aotc::graph {

namespace {

struct ParseError {
  std::string what;
};

class Parser {
 public:
  Parser(std::string_view text, const std::vector<std::shared_ptr<const ConstantData>> &constants)
      : text_(text), constants_(constants) {}

  Function run() {
    word("function");
    f_.name = name();
    for (;;) {
      if (accept_word("dim")) {
        const std::string dim = name();
        const auto [low, high] = range();
        f_.dims.push_back(Symbol::dim(dim, low, high));
        bind(dim, f_.dims.back());
      } else if (accept_word("site")) {
        f_.sites.push_back(string());
      } else if (accept_word("state")) {
        const std::string state = string();
        expect(':');
        const ElementType type = element();
        f_.states.push_back({state, {type, expressions()}});
      } else {
        break;
      }
    }
    graph(f_.graph, false);
    return std::move(f_);
  }

  size_t line() const {
    size_t n = 1;
    for (size_t i = 0; i < at_ && i < text_.size(); ++i)
      n += text_[i] == '\n';
    return n;
  }

 private:
  [[noreturn]] void fail(const std::string &what) { throw ParseError{what}; }

  // --- tokens ---
  void space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t'))
      ++at_;
  }
  bool accept(char c) {
    space();
    if (at_ >= text_.size() || text_[at_] != c)
      return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c))
      fail(std::string("expected '") + c + "'");
  }
  static bool name_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
  }
  std::string_view peek_word() {
    space();
    size_t end = at_;
    while (end < text_.size() && name_char(text_[end]))
      ++end;
    return text_.substr(at_, end - at_);
  }
  bool accept_word(std::string_view w) {
    if (peek_word() != w)
      return false;
    at_ += w.size();
    return true;
  }
  void word(std::string_view w) {
    if (!accept_word(w))
      fail("expected '" + std::string(w) + "'");
  }
  std::string name() {
    const std::string_view w = peek_word();
    if (w.empty())
      fail("expected a name");
    at_ += w.size();
    return std::string(w);
  }
  int64_t integer() {
    space();
    int64_t value = 0;
    const auto [end, code] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (code != std::errc())
      fail("expected an integer");
    at_ = static_cast<size_t>(end - text_.data());
    return value;
  }
  std::pair<int64_t, int64_t> range() {
    const int64_t low = integer();
    if (text_.substr(at_, 2) != "..")
      fail("expected a range 'low..high'");
    at_ += 2;
    const int64_t high = integer();
    if (low > high)
      fail("an empty range");
    return {low, high};
  }
  std::string string() {
    expect('"');
    std::string out;
    for (; at_ < text_.size() && text_[at_] != '"'; ++at_) {
      if (text_[at_] != '\\') {
        out += text_[at_];
        continue;
      }
      if (++at_ >= text_.size())
        break;
      if (text_[at_] == 'n') {
        out += '\n';
      } else if (text_[at_] == 'x') {
        unsigned value = 0;
        if (at_ + 3 > text_.size() ||
            std::from_chars(text_.data() + at_ + 1, text_.data() + at_ + 3, value, 16).ptr != text_.data() + at_ + 3)
          fail("a bad escape in a string");
        out += static_cast<char>(value);
        at_ += 2;
      } else {
        out += text_[at_];
      }
    }
    expect('"');
    return out;
  }

  // --- expressions ---
  void bind(const std::string &name, const Symbol &symbol) {
    if (!symbols_.emplace(name, symbol).second)
      fail("symbol '" + name + "' is defined twice");
  }
  Expr expression(std::string_view text) {
    std::string unknown;
    const auto e = parse_expr(text, [&](std::string_view s) -> std::optional<Symbol> {
      const auto it = symbols_.find(std::string(s));
      if (it != symbols_.end())
        return it->second;
      unknown = std::string(s);
      return std::nullopt;
    });
    if (!e)
      fail(unknown.empty() ? "bad expression '" + std::string(text) + "'" : "unknown symbol '" + unknown + "'");
    return *e;
  }
  // "[e, e, ...]": commas inside parentheses belong to the expressions.
  std::vector<Expr> expressions() {
    expect('[');
    std::vector<Expr> out;
    size_t begin = at_;
    int depth = 0;
    bool blank = true;
    for (; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (c == '(') {
        ++depth;
      } else if (c == ')') {
        --depth;
      } else if (depth == 0 && (c == ',' || c == ']')) {
        if (!(c == ']' && blank && out.empty()))
          out.push_back(expression(text_.substr(begin, at_ - begin)));
        begin = at_ + 1;
        blank = true;
        if (c == ']') {
          ++at_;
          return out;
        }
        continue;
      }
      blank = blank && c == ' ';
    }
    fail("a list without end");
  }
  Expr one_expression() {
    const std::vector<Expr> list = expressions();
    if (list.size() != 1)
      fail("expected one expression");
    return list[0];
  }
  std::vector<int64_t> integers() {
    expect('[');
    std::vector<int64_t> out;
    if (accept(']'))
      return out;
    do
      out.push_back(integer());
    while (accept(','));
    expect(']');
    return out;
  }
  Symbol host_symbol() {
    space();
    std::string symbol;
    while (at_ < text_.size() && text_[at_] != ':' && name_char(text_[at_]))
      symbol += text_[at_++];
    if (symbol.empty())
      fail("expected a symbol");
    expect(':');
    const auto [low, high] = range();
    const Symbol s = Symbol::host(symbol, low, high);
    bind(symbol, s);
    return s;
  }

  // --- values ---
  ValueId value() {
    expect('%');
    const int64_t number = integer();
    if (number < 0 || number > (1 << 26))
      fail("bad value number");
    return static_cast<ValueId>(number);
  }
  ElementType element() {
    const std::string_view w = peek_word();
    const auto type = w == aotc::name(kHostValue) ? kHostValue : parse_element_type(w);
    if (!type)
      fail("unknown element type '" + std::string(w) + "'");
    at_ += w.size();
    return *type;
  }
  // %3 "name" : f32[1,w]. Dims may use symbols that the op itself defines, so they are read when it is done.
  struct Definition {
    ValueId value;
    std::string name;
    ElementType element;
    size_t dims;
  };
  Definition definition() {
    Definition d;
    d.value = value();
    space();
    if (at_ < text_.size() && text_[at_] == '"')
      d.name = string();
    expect(':');
    d.element = element();
    space();
    d.dims = at_;
    expect('[');
    for (int depth = 0; at_ < text_.size() && (depth > 0 || text_[at_] != ']'); ++at_)
      depth += text_[at_] == '(' ? 1 : text_[at_] == ')' ? -1 : 0;
    expect(']');
    return d;
  }
  void define(const Definition &d) {
    const size_t after = at_;
    at_ = d.dims;
    TensorType type{d.element, expressions()};
    at_ = after;
    if (d.value >= f_.values.size())
      f_.values.resize(d.value + 1, {{ElementType::kNone, {}}, ""});
    if (!defined_.insert(d.value).second)
      fail("value %" + std::to_string(d.value) + " is defined twice");
    f_.values[d.value] = {std::move(type), d.name};
  }

  // --- ops ---
  void graph(Graph &graph, bool region) {
    while (accept_word("input")) {
      const std::string input = string();
      const Definition d = definition();
      define(d);
      graph.inputs.push_back({input, d.value, accept_word("strings")});
    }
    for (;;) {
      space();
      if (at_ >= text_.size() || (region && text_[at_] == '}') || peek_word() == "output" || peek_word() == "size")
        break;
      Op parsed = op();
      graph.ops.push_back(std::move(parsed));
    }
    while (accept_word("output")) {
      const std::string output = string();
      const ValueId v = value();
      graph.outputs.push_back({output, v, accept_word("strings")});
    }
    while (region && accept_word("size"))
      graph.sizes.push_back(one_expression());
    if (!region) {
      space();
      if (at_ != text_.size())
        fail("text after the end");
    }
  }

  template <typename T>
  T enumerator(int count) {
    const std::string_view w = peek_word();
    for (int i = 0; i < count; ++i)
      if (graph::name(static_cast<T>(i)) == w) {
        at_ += w.size();
        return static_cast<T>(i);
      }
    fail("unknown word '" + std::string(w) + "'");
  }

  std::shared_ptr<const ConstantData> constant() {
    const ElementType type = element();
    if (accept('#')) {
      name();
      if (next_constant_ >= constants_.size())
        fail("a large constant, but no more data was given");
      const auto &data = constants_[next_constant_++];
      if (!data || data->type != type)
        fail("the data given for a constant has another type");
      return data;
    }
    expect(':');
    auto data = std::make_shared<ConstantData>();
    data->type = type;
    const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; };
    while (at_ + 1 < text_.size() && digit(text_[at_]) >= 0 && digit(text_[at_ + 1]) >= 0) {
      data->bytes.push_back(static_cast<uint8_t>(digit(text_[at_]) * 16 + digit(text_[at_ + 1])));
      at_ += 2;
    }
    return data;
  }

  Op op() {
    if (++depth_ > 64)
      fail("regions are nested too deep");
    Op o;
    std::vector<Definition> results;
    space();
    if (at_ < text_.size() && text_[at_] == '%') {
      do
        results.push_back(definition());
      while (accept(','));
      expect('=');
    }
    const std::string mnemonic = name();
    const auto code = parse_opcode(mnemonic);
    if (!code)
      fail("unknown op '" + mnemonic + "'");
    o.code = *code;
    expect('(');
    if (!accept(')')) {
      do
        o.operands.push_back(value());
      while (accept(','));
      expect(')');
    }
    for (;;) {
      const size_t before = at_;
      const std::string key(peek_word());
      if (key.empty())
        break;
      at_ += key.size();
      if (at_ >= text_.size() || text_[at_] != '=') { // the next line
        at_ = before;
        break;
      }
      ++at_;
      attribute(o, key);
    }
    while (accept('{')) {
      Graph &region = o.regions.emplace_back();
      graph(region, true);
      expect('}');
    }
    for (const Definition &d : results) {
      define(d);
      o.results.push_back(d.value);
    }
    --depth_;
    return o;
  }

  void attribute(Op &o, const std::string &key) {
    const auto loop = [&]() -> LoopInfo & {
      if (!o.loop)
        o.loop.emplace();
      return *o.loop;
    };
    if (key == "code") {
      const std::string w = name();
      const auto code = kernel::parse_opcode(w);
      if (!code)
        fail("unknown code '" + w + "'");
      o.map = *code;
    } else if (key == "kind") {
      o.reduce = enumerator<dispatch::ReduceKind>(10);
    } else if (key == "mode") {
      o.pad_mode = enumerator<PadMode>(4);
    } else if (key == "pool") {
      o.pool_mode = enumerator<PoolMode>(3);
    } else if (key == "axes") {
      for (int64_t a : integers())
        o.axes.push_back(static_cast<uint32_t>(a));
    } else if (key == "ints") {
      o.ints = integers();
    } else if (key == "window") {
      o.window = integers();
    } else if (key == "strides") {
      o.strides = integers();
    } else if (key == "dilations") {
      o.dilations = integers();
    } else if (key == "exprs") {
      o.exprs = expressions();
    } else if (key == "labels") {
      expect('[');
      do
        o.labels.push_back(string());
      while (accept(','));
      expect(']');
    } else if (key == "text") {
      o.text = string();
    } else if (key == "symbol") {
      o.symbol = host_symbol();
    } else if (key == "size") {
      o.sizes.push_back(host_symbol());
    } else if (key == "host") {
      const int64_t number = integer();
      if (number < 0 || number >= program::kHostOpCount)
        fail("unknown host op");
      o.host = static_cast<program::HostOp>(number);
    } else if (key == "binds") {
      o.symbols.push_back(host_symbol());
    } else if (key == "data") {
      o.constant = constant();
    } else if (key == "compute") {
      std::string error;
      auto d = dispatch::parse(string(), error);
      if (!d)
        fail("dispatch: " + error);
      o.compute = std::make_shared<const dispatch::Dispatch>(std::move(*d));
    } else if (key == "trip_count") {
      loop().trip_count = one_expression();
    } else if (key == "iteration") {
      loop().iteration = host_symbol();
    } else if (key == "trips") {
      loop().trips = host_symbol();
    } else if (key == "has_condition") {
      loop().has_condition = integer() != 0;
    } else if (key == "initial_condition") {
      loop().initial_condition = one_expression();
    } else if (key == "carried") {
      loop().carried = static_cast<uint32_t>(integer());
    } else if (key == "scans") {
      loop().scans = static_cast<uint32_t>(integer());
    } else if (key == "node") {
      o.node = string();
    } else if (key == "source") {
      o.source = string();
    } else {
      fail("unknown attribute '" + key + "'");
    }
  }

  std::string_view text_;
  const std::vector<std::shared_ptr<const ConstantData>> &constants_;
  size_t at_ = 0, next_constant_ = 0;
  int depth_ = 0;
  Function f_;
  std::map<std::string, Symbol> symbols_;
  std::set<ValueId> defined_;
};

} // namespace

std::optional<Function> parse(std::string_view text, const std::vector<std::shared_ptr<const ConstantData>> &constants,
                              std::string &error) {
  Parser parser(text, constants);
  try {
    return parser.run();
  } catch (const ParseError &e) {
    error = "line " + std::to_string(parser.line()) + ": " + e.what;
  } catch (const InternalError &e) { // an expression out of bounds
    error = "line " + std::to_string(parser.line()) + ": " + e.what();
  }
  return std::nullopt;
}

} // namespace ingot::aotc::graph
