// RegexFullMatch: walks an automaton (schemas/regex_words.h) over each string, all its states at once: time is at most
// instructions times characters, whatever the expression and the text.
#include "schemas/regex_words.h"
#include "src/runtime/host/ops.h"
#include "src/runtime/host/utf8.h"

namespace ingot {

namespace {

using program::RegexAssertion;
using program::RegexOp;

constexpr uint32_t kNoCharacter = 0xffffffffu;

bool is_word(uint32_t c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_'; }

class Automaton {
public:
  Code open(const HostOpArgs &a, const HostObject &words) {
    words_ = reinterpret_cast<const int32_t *>(words.data());
    const auto bad = [&](const char *what) { return fail(a.error, INGOT_CORRUPT, "the automaton of a regular expression: %s", what); };
    if (words.count < 1 || words_[0] < 1 || words_[0] > program::kMaxRegexInstructions ||
        uint64_t(words_[0]) * 3 + 1 > words.count)
      return bad("its instructions do not fit");
    count_ = uint32_t(words_[0]);
    ranges_ = words_ + 1 + 3 * count_;
    const uint64_t pairs = (words.count - 1 - 3 * count_) / 2;
    for (uint32_t i = 0; i < count_; ++i) {
      const int32_t *w = instruction(i);
      const auto is_state = [&](int32_t s) { return s >= 0 && uint32_t(s) < count_; };
      bool good = false;
      switch (RegexOp(w[0])) {
      case RegexOp::match: good = true; break;
      case RegexOp::fork: good = is_state(w[1]) && is_state(w[2]); break;
      case RegexOp::jump: good = is_state(w[1]); break;
      case RegexOp::need: good = i + 1 < count_ && w[1] >= 0 && w[1] <= int32_t(RegexAssertion::line_end); break;
      case RegexOp::ranges: good = i + 1 < count_ && w[1] >= 0 && w[2] >= 0 && uint64_t(w[1]) + uint64_t(w[2]) <= pairs; break;
      }
      if (!good) return bad("an instruction is malformed");
    }
    INGOT_TRY(now_.create(a.allocator, count_, "the states of a regular expression", a.error));
    INGOT_TRY(next_.create(a.allocator, count_, "the states of a regular expression", a.error));
    INGOT_TRY(seen_.create(a.allocator, count_, "the states of a regular expression", a.error));
    return stack_.create(a.allocator, 2 * size_t(count_) + 2, "the states of a regular expression", a.error);
  }

  bool matches(Text text) {
    uint32_t n = 0, before = kNoCharacter;
    size_t length = 0;
    ++mark_;
    matched_ = false;
    enter(0, before, peek(text, 0, &length), &now_, &n);
    for (size_t at = 0; at < text.size;) {
      const uint32_t c = peek(text, at, &length);
      at += length;
      size_t ignored;
      const uint32_t after = peek(text, at, &ignored);
      uint32_t m = 0;
      ++mark_;
      matched_ = false;
      for (uint32_t i = 0; i < n; ++i)
        if (takes(instruction(now_[i]), c)) enter(now_[i] + 1, c, after, &next_, &m);
      for (uint32_t i = 0; i < m; ++i) now_[i] = next_[i];
      n = m;
      if (n == 0 && !matched_) return false;
    }
    return matched_;
  }

private:
  const int32_t *instruction(uint32_t i) const { return words_ + 1 + 3 * size_t(i); }

  static uint32_t peek(Text text, size_t at, size_t *length) {
    return at < text.size ? decode_utf8(text.data, text.size, at, length) : kNoCharacter;
  }

  bool takes(const int32_t *w, uint32_t c) const {
    for (int32_t i = 0; i < w[2]; ++i) {
      const int32_t *pair = ranges_ + 2 * (size_t(w[1]) + size_t(i));
      if (int64_t(c) >= pair[0] && int64_t(c) <= pair[1]) return true;
    }
    return false;
  }

  static bool holds(RegexAssertion assertion, uint32_t before, uint32_t after) {
    switch (assertion) {
    case RegexAssertion::begin: return before == kNoCharacter;
    case RegexAssertion::end: return after == kNoCharacter;
    case RegexAssertion::line_begin: return before == kNoCharacter || before == '\n';
    case RegexAssertion::line_end: return after == kNoCharacter || after == '\n';
    case RegexAssertion::word_boundary: return is_word(before) != is_word(after);
    case RegexAssertion::no_word_boundary: return is_word(before) == is_word(after);
    }
    return false;
  }

  // Adds the states that take a character and are reached from `state` without one. Each is entered once a character, so
  // the stack holds at most two entries an instruction.
  void enter(uint32_t state, uint32_t before, uint32_t after, Array<uint32_t> *states, uint32_t *n) {
    uint32_t depth = 0;
    stack_[depth++] = state;
    while (depth) {
      const uint32_t s = stack_[--depth];
      if (seen_[s] == mark_) continue;
      seen_[s] = mark_;
      const int32_t *w = instruction(s);
      switch (RegexOp(w[0])) {
      case RegexOp::match: matched_ = true; break;
      case RegexOp::fork: stack_[depth++] = uint32_t(w[2]); stack_[depth++] = uint32_t(w[1]); break;
      case RegexOp::jump: stack_[depth++] = uint32_t(w[1]); break;
      case RegexOp::need:
        if (holds(RegexAssertion(w[1]), before, after)) stack_[depth++] = s + 1;
        break;
      case RegexOp::ranges: (*states)[(*n)++] = s; break;
      }
    }
  }

  const int32_t *words_ = nullptr, *ranges_ = nullptr;
  uint32_t count_ = 0;
  uint64_t mark_ = 0;
  bool matched_ = false;
  Array<uint32_t> now_, next_, stack_;
  Array<uint64_t> seen_;
};

} // namespace

Code host_match(const HostOpArgs &a) {
  INGOT_TRY(need_strings(a, 0));
  INGOT_TRY(need_numbers(a, 1, INGOT_ELEMENT_TYPE_I32));
  Automaton automaton;
  INGOT_TRY(automaton.open(a, *a.sources[1]));
  const HostObject &x = *a.sources[0];
  INGOT_TRY(make_tensor(a.allocator, INGOT_ELEMENT_TYPE_BOOL, x.dims, x.rank, &a.results[0], a.error));
  for (uint64_t i = 0; i < x.count; ++i) a.results[0]->data()[i] = automaton.matches(string_at(x, i));
  return INGOT_OK;
}

} // namespace ingot
