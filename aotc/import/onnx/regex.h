// Regular expressions in RE2's syntax, compiled to an automaton (schemas/regex_words.h) that the runtime walks.
//
// Everything that needs no look back: alternatives, groups (named, or with flags i, m, s, U), repetitions up to 1,000,
// classes with POSIX names, \d \w \s, ^ $ \A \z \b \B, escapes, \Q...\E. Case is ignored in ASCII letters alone; classes of
// Unicode properties (\pL) are refused.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ingot::aotc::importer {

std::optional<std::vector<int64_t>> compile_regex(const std::string &pattern, std::string &error);

} // namespace ingot::aotc::importer
