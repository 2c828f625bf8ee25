// See regex.h. A pattern becomes a tree, the tree instructions.
#include "aotc/import/onnx/regex.h"

#include <algorithm>
#include <cctype>
#include <memory>

#include "schemas/regex_words.h"

namespace ingot::aotc::importer {

namespace {

using program::RegexAssertion;
using program::RegexOp;
using Ranges = std::vector<std::pair<int64_t, int64_t>>;

constexpr int64_t kLastCharacter = 0x10ffff;
constexpr int kMaxDepth = 200, kMaxRepeat = 1000;

struct Node {
  enum class Kind : uint8_t { kEmpty, kRanges, kNeed, kConcat, kEither, kRepeat } kind = Kind::kEmpty;
  Ranges ranges;
  RegexAssertion assertion = RegexAssertion::begin;
  std::vector<Node> parts;
  int min = 0, max = -1; // of kRepeat; max -1: any number
};

struct Flags {
  bool no_case = false, lines = false, dot_all = false;
};

struct BadPattern {
  std::string why;
};

Ranges sorted(Ranges ranges) {
  std::sort(ranges.begin(), ranges.end());
  Ranges out;
  for (const auto &r : ranges) {
    if (!out.empty() && r.first <= out.back().second + 1)
      out.back().second = std::max(out.back().second, r.second);
    else
      out.push_back(r);
  }
  return out;
}

Ranges complement(const Ranges &ranges) {
  Ranges out;
  int64_t next = 0;
  for (const auto &r : sorted(ranges)) {
    if (r.first > next)
      out.push_back({next, r.first - 1});
    next = r.second + 1;
  }
  if (next <= kLastCharacter)
    out.push_back({next, kLastCharacter});
  return out;
}

Ranges without_case(Ranges ranges) {
  for (size_t i = 0, n = ranges.size(); i < n; ++i)
    for (char c = 'a'; c <= 'z'; ++c) {
      const int64_t upper = c - 32;
      if (ranges[i].first <= c && c <= ranges[i].second)
        ranges.push_back({upper, upper});
      if (ranges[i].first <= upper && upper <= ranges[i].second)
        ranges.push_back({c, c});
    }
  return ranges;
}

class Parser {
 public:
  explicit Parser(const std::string &text) : text_(text) {}

  Node run() {
    Node node = either(0);
    if (at_ < text_.size())
      bad("')' without '('");
    return node;
  }

 private:
  [[noreturn]] void bad(const std::string &why) const { throw BadPattern{why + " at byte " + std::to_string(at_)}; }
  bool end() const { return at_ >= text_.size(); }
  bool accept(const char *what) {
    const std::string_view word(what);
    if (text_.compare(at_, word.size(), word) != 0)
      return false;
    at_ += word.size();
    return true;
  }

  int64_t character() {
    if (end())
      bad("the pattern ends early");
    const auto byte = [&](size_t i) { return at_ + i < text_.size() ? static_cast<uint8_t>(text_[at_ + i]) : 0u; };
    const uint32_t first = byte(0);
    const size_t n = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    int64_t c = n == 1 ? first : first & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; ++i) {
      if ((byte(i) & 0xc0) != 0x80 || first < 0xc2 || first > 0xf4)
        bad("the pattern is no UTF-8");
      c = c << 6 | (byte(i) & 0x3f);
    }
    at_ += n;
    return c;
  }

  Node either(int depth) {
    if (depth > kMaxDepth)
      bad("groups are nested more than 200 deep");
    const Flags outer = flags_; // what a group sets ends with it
    Node node;
    node.kind = Node::Kind::kEither;
    do
      node.parts.push_back(sequence(depth));
    while (accept("|"));
    flags_ = outer;
    return node.parts.size() == 1 ? std::move(node.parts[0]) : node;
  }

  Node sequence(int depth) {
    Node node;
    node.kind = Node::Kind::kConcat;
    while (!end() && text_[at_] != '|' && text_[at_] != ')') {
      if (accept("\\Q")) {
        while (!end() && !accept("\\E"))
          node.parts.push_back(literal(character()));
        continue;
      }
      node.parts.push_back(repeated(atom(depth)));
    }
    return node;
  }

  Node repeated(Node node) {
    for (int times = 0;; ++times) {
      int min = 0, max = -1;
      if (accept("*")) {
      } else if (accept("+")) {
        min = 1;
      } else if (accept("?")) {
        max = 1;
      } else if (!counts(min, max)) {
        return node;
      }
      if (times > 0)
        bad("a repetition of a repetition");
      accept("?"); // as few as possible: the whole text is matched all the same
      Node repeat;
      repeat.kind = Node::Kind::kRepeat;
      repeat.min = min;
      repeat.max = max;
      repeat.parts.push_back(std::move(node));
      node = std::move(repeat);
    }
  }

  // {2}, {2,}, {2,5}; other braces are literals.
  bool counts(int &min, int &max) {
    const size_t before = at_;
    const auto number = [&](int &out) {
      const size_t begin = at_;
      for (out = 0; !end() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_)
        out = std::min(out * 10 + (text_[at_] - '0'), kMaxRepeat + 1);
      return at_ > begin;
    };
    bool good = accept("{") && number(min);
    if (good) {
      max = min;
      if (accept(",") && !number(max))
        max = -1;
      good = accept("}");
    }
    if (!good) {
      at_ = before;
      return false;
    }
    if (min > kMaxRepeat || max > kMaxRepeat || (max >= 0 && max < min))
      bad("a repetition that is out of order or above 1,000");
    return true;
  }

  Node literal(int64_t c) {
    Node node;
    node.kind = Node::Kind::kRanges;
    node.ranges = {{c, c}};
    if (flags_.no_case)
      node.ranges = without_case(node.ranges);
    return node;
  }

  static Node need(RegexAssertion assertion) {
    Node node;
    node.kind = Node::Kind::kNeed;
    node.assertion = assertion;
    return node;
  }

  Node of(Ranges ranges) {
    Node node;
    node.kind = Node::Kind::kRanges;
    node.ranges = std::move(ranges);
    return node;
  }

  Node atom(int depth) {
    if (accept("("))
      return group(depth);
    if (accept("["))
      return of(bracket());
    if (accept("."))
      return of(flags_.dot_all ? Ranges{{0, kLastCharacter}} : complement({{'\n', '\n'}}));
    if (accept("^"))
      return need(flags_.lines ? RegexAssertion::line_begin : RegexAssertion::begin);
    if (accept("$"))
      return need(flags_.lines ? RegexAssertion::line_end : RegexAssertion::end);
    if (accept("\\A"))
      return need(RegexAssertion::begin);
    if (accept("\\z"))
      return need(RegexAssertion::end);
    if (accept("\\b"))
      return need(RegexAssertion::word_boundary);
    if (accept("\\B"))
      return need(RegexAssertion::no_word_boundary);
    if (!end() && (text_[at_] == '*' || text_[at_] == '+' || text_[at_] == '?'))
      bad("nothing to repeat");
    if (!end() && text_[at_] == '\\') {
      if (auto ranges = class_escape())
        return of(std::move(*ranges));
      return literal(escape());
    }
    return literal(character());
  }

  Node group(int depth) {
    if (accept("?P<") || accept("?<")) {
      while (!end() && (std::isalnum(static_cast<unsigned char>(text_[at_])) || text_[at_] == '_'))
        ++at_;
      if (!accept(">"))
        bad("a group's name has no end (look-behind is not supported)");
    } else if (accept("?")) {
      const Flags outer = flags_;
      bool on = true;
      while (!end() && text_[at_] != ':' && text_[at_] != ')') {
        const char c = text_[at_++];
        if (c == '-')
          on = false;
        else if (c == 'i')
          flags_.no_case = on;
        else if (c == 'm')
          flags_.lines = on;
        else if (c == 's')
          flags_.dot_all = on;
        else if (c != 'U')
          bad("an unknown group (?" + std::string(1, c) + "; look-around is not supported");
      }
      if (accept(")"))
        return Node(); // the flags hold to the end of the group around
      if (!accept(":"))
        bad("a group without an end");
      Node node = either(depth + 1);
      flags_ = outer;
      if (!accept(")"))
        bad("a group without an end");
      return node;
    }
    Node node = either(depth + 1);
    if (!accept(")"))
      bad("a group without an end");
    return node;
  }

  // \d \w \s and their complements.
  std::optional<Ranges> class_escape() {
    static const Ranges digits = {{'0', '9'}}, words = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}},
                        spaces = {{'\t', '\n'}, {'\f', '\r'}, {' ', ' '}};
    if (accept("\\d"))
      return digits;
    if (accept("\\D"))
      return complement(digits);
    if (accept("\\w"))
      return words;
    if (accept("\\W"))
      return complement(words);
    if (accept("\\s"))
      return spaces;
    if (accept("\\S"))
      return complement(spaces);
    return std::nullopt;
  }

  int64_t escape() {
    ++at_;
    if (end())
      bad("a backslash at the end");
    const int64_t c = character();
    switch (c) {
      case 'a': return 7;
      case 'f': return 12;
      case 't': return 9;
      case 'n': return 10;
      case 'r': return 13;
      case 'v': return 11;
      case 'x': return hex();
      default: break;
    }
    if (c >= '0' && c <= '7') {
      int64_t value = c - '0';
      if (c != '0' && (end() || text_[at_] < '0' || text_[at_] > '7'))
        bad("references to groups are not supported");
      for (int i = 0; i < 2 && !end() && text_[at_] >= '0' && text_[at_] <= '7'; ++i)
        value = value * 8 + (text_[at_++] - '0');
      return value;
    }
    if (c < 0x80 && std::isalnum(static_cast<int>(c)))
      bad("escape \\" + std::string(1, static_cast<char>(c)) + " is not supported");
    return c;
  }

  int64_t hex() {
    const bool braces = accept("{");
    int64_t value = 0;
    int digits = 0;
    for (; !end() && std::isxdigit(static_cast<unsigned char>(text_[at_])) && digits < (braces ? 8 : 2); ++digits, ++at_) {
      const char c = static_cast<char>(std::tolower(static_cast<unsigned char>(text_[at_])));
      value = value * 16 + (c <= '9' ? c - '0' : c - 'a' + 10);
    }
    if (digits == 0 || (!braces && digits != 2) || (braces && !accept("}")) || value > kLastCharacter)
      bad("a malformed \\x");
    return value;
  }

  std::optional<Ranges> posix_class() {
    static const std::pair<const char *, Ranges> classes[] = {
        {"alnum", {{'0', '9'}, {'A', 'Z'}, {'a', 'z'}}}, {"alpha", {{'A', 'Z'}, {'a', 'z'}}}, {"ascii", {{0, 127}}},
        {"blank", {{'\t', '\t'}, {' ', ' '}}},           {"cntrl", {{0, 31}, {127, 127}}},    {"digit", {{'0', '9'}}},
        {"graph", {{'!', '~'}}},                         {"lower", {{'a', 'z'}}},             {"print", {{' ', '~'}}},
        {"punct", {{'!', '/'}, {':', '@'}, {'[', '`'}, {'{', '~'}}},
        {"space", {{9, 13}, {' ', ' '}}},                {"upper", {{'A', 'Z'}}},
        {"word", {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}},
        {"xdigit", {{'0', '9'}, {'A', 'F'}, {'a', 'f'}}}};
    if (text_.compare(at_, 2, "[:") != 0)
      return std::nullopt;
    for (const auto &[name, ranges] : classes) {
      if (accept(("[:" + std::string(name) + ":]").c_str()))
        return ranges;
      if (accept(("[:^" + std::string(name) + ":]").c_str()))
        return complement(ranges);
    }
    bad("an unknown class");
  }

  Ranges bracket() {
    const bool negated = accept("^");
    Ranges ranges;
    for (bool first = true; first || !accept("]"); first = false) {
      if (end())
        bad("a class without an end");
      if (auto named = posix_class()) {
        ranges.insert(ranges.end(), named->begin(), named->end());
        continue;
      }
      if (auto escaped = class_escape()) {
        ranges.insert(ranges.end(), escaped->begin(), escaped->end());
        continue;
      }
      const int64_t low = text_[at_] == '\\' ? escape() : character();
      int64_t high = low;
      if (at_ + 1 < text_.size() && text_[at_] == '-' && text_[at_ + 1] != ']') {
        ++at_;
        high = text_[at_] == '\\' ? escape() : character();
        if (high < low)
          bad("a range out of order");
      }
      ranges.push_back({low, high});
    }
    if (flags_.no_case)
      ranges = without_case(std::move(ranges));
    return negated ? complement(ranges) : sorted(std::move(ranges));
  }

  const std::string &text_;
  size_t at_ = 0;
  Flags flags_;
};

class Emitter {
 public:
  std::vector<int64_t> run(const Node &node) {
    emit(node);
    add(RegexOp::match);
    std::vector<int64_t> words = {static_cast<int64_t>(instructions_.size())};
    for (const Instruction &i : instructions_)
      words.insert(words.end(), {static_cast<int64_t>(i.op), i.a, i.b});
    for (const auto &[first, last] : ranges_)
      words.insert(words.end(), {first, last});
    return words;
  }

 private:
  struct Instruction {
    RegexOp op;
    int64_t a, b;
  };

  size_t add(RegexOp op, int64_t a = 0, int64_t b = 0) {
    if (instructions_.size() >= static_cast<size_t>(program::kMaxRegexInstructions))
      throw BadPattern{"the pattern is too large: its repetitions multiply"};
    instructions_.push_back({op, a, b});
    return instructions_.size() - 1;
  }
  int64_t here() const { return static_cast<int64_t>(instructions_.size()); }

  void emit(const Node &node) {
    switch (node.kind) {
      case Node::Kind::kEmpty: break;
      case Node::Kind::kRanges:
        add(RegexOp::ranges, static_cast<int64_t>(ranges_.size()), static_cast<int64_t>(node.ranges.size()));
        ranges_.insert(ranges_.end(), node.ranges.begin(), node.ranges.end());
        break;
      case Node::Kind::kNeed: add(RegexOp::need, static_cast<int64_t>(node.assertion)); break;
      case Node::Kind::kConcat:
        for (const Node &part : node.parts)
          emit(part);
        break;
      case Node::Kind::kEither: {
        std::vector<size_t> ends;
        for (size_t i = 0; i < node.parts.size(); ++i) {
          const bool last = i + 1 == node.parts.size();
          const size_t fork = last ? 0 : add(RegexOp::fork, here() + 1);
          emit(node.parts[i]);
          if (last)
            break;
          ends.push_back(add(RegexOp::jump));
          instructions_[fork].b = here();
        }
        for (size_t end : ends)
          instructions_[end].a = here();
        break;
      }
      case Node::Kind::kRepeat: {
        for (int i = 0; i < node.min; ++i)
          emit(node.parts[0]);
        if (node.max < 0) {
          const size_t fork = add(RegexOp::fork, here() + 1);
          emit(node.parts[0]);
          add(RegexOp::jump, static_cast<int64_t>(fork));
          instructions_[fork].b = here();
        }
        std::vector<size_t> forks;
        for (int i = node.min; i < node.max; ++i) {
          forks.push_back(add(RegexOp::fork, here() + 1));
          emit(node.parts[0]);
        }
        for (size_t fork : forks)
          instructions_[fork].b = here();
        break;
      }
    }
  }

  std::vector<Instruction> instructions_;
  Ranges ranges_;
};

} // namespace

std::optional<std::vector<int64_t>> compile_regex(const std::string &pattern, std::string &error) {
  try {
    const Node node = Parser(pattern).run();
    return Emitter().run(node);
  } catch (const BadPattern &bad) {
    error = bad.why;
    return std::nullopt;
  }
}

} // namespace ingot::aotc::importer
