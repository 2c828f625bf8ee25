// A regular expression as aotc compiles it and the runtime walks it: an automaton in i32 words. Word 0 is the number of
// instructions n; instruction i is words 1 + 3 i: opcode, a, b; behind them pairs (first, last) of code points.
#pragma once

#include <cstdint>

namespace ingot::program {

enum class RegexOp : int32_t {
  match = 0,  // the end
  fork = 1,   // goes on at a and at b
  jump = 2,   // goes on at a
  need = 3,   // goes on at the next where a RegexAssertion holds
  ranges = 4, // takes a character of pairs a .. a + b - 1, goes on at the next
};
enum class RegexAssertion : int32_t { begin = 0, end = 1, word_boundary = 2, no_word_boundary = 3, line_begin = 4, line_end = 5 };
constexpr int32_t kMaxRegexInstructions = 1 << 15;

} // namespace ingot::program
