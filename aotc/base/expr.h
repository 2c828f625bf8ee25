// Expr: symbolic integer expressions over dims, axes, host scalars and body values.
//
// Dims of tensors, offsets of loads, sizes and grid counts are Exprs. They are immutable values in a canonical form: a
// sorted sum of terms, each an integer times a sorted product of atoms (symbols, floordiv, mod, min, max, comparisons,
// select). Equal canonical forms are equal expressions, so comparing and hashing is comparing text. Construction
// simplifies with the ranges of symbols: (i*w + j) floordiv w is i where j is known to lie in [0, w).
// Values are 64-bit; dims stay below 2^31, so offsets do not overflow (checked when dims are bound).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ingot::aotc {

class Expr;
struct SymbolInfo;
struct Atom;

enum class SymbolKind : uint8_t {
  kDim,   // a free dim of the model, bound from the inputs' shapes
  kHost,  // a host scalar: read from a tensor, or a loop's induction variable
  kAxis,  // an axis of a dispatch: 0 <= axis < extent
  kValue, // an index-typed value of a dispatch's body (a gathered index): number in `value`
};

// A named integer unknown. Two symbols are the same if they share the info; since canonical forms are texts, symbols that
// meet in one expression must have different names (free dims: unique in a model; axes: unique in a dispatch).
class Symbol {
 public:
  Symbol() = default;
  // `usual`: the value that code is to be fast at; 0: nothing is known.
  static Symbol dim(std::string name, int64_t min, int64_t max, int64_t usual = 0);
  static Symbol host(std::string name, int64_t min, int64_t max);
  static Symbol axis(std::string name, const Expr &extent);
  static Symbol value(std::string name, uint32_t value, const Expr &extent); // in [0, extent)

  const std::string &name() const;
  SymbolKind kind() const;
  int64_t min() const;
  int64_t max() const;
  int64_t usual() const;
  uint32_t value() const;
  const Expr *extent() const; // axes and values; null otherwise
  bool operator==(const Symbol &other) const { return info_ == other.info_; }
  bool operator<(const Symbol &other) const; // by creation order: stable within a compile
  explicit operator bool() const { return info_ != nullptr; }
  uint64_t id() const;

 private:
  std::shared_ptr<const SymbolInfo> info_;
};

enum class ExprOp : uint8_t { kSymbol, kFloorDiv, kMod, kMin, kMax, kEq, kLt, kLe, kAnd, kOr, kNot, kSelect };

struct Term {
  int64_t coefficient = 0;
  std::vector<std::shared_ptr<const Atom>> factors; // sorted by key; empty for the constant term
};

class Expr {
 public:
  Expr() : Expr(0) {}
  Expr(int64_t value); // NOLINT: integers are expressions
  Expr(int value) : Expr(static_cast<int64_t>(value)) {}
  Expr(const Symbol &symbol); // NOLINT

  bool is_constant() const;
  std::optional<int64_t> constant() const;
  bool is_symbol() const;
  std::optional<Symbol> symbol() const; // if it is exactly one symbol
  const std::vector<Term> &terms() const { return *terms_; }

  // Canonical text: equal expressions have equal text. Symbols print by name; `parse_expr` reads it back.
  std::string to_string() const;
  bool operator==(const Expr &other) const;

  // Constant bounds from the symbols' ranges (saturating at INT64_MIN / INT64_MAX).
  int64_t lower() const;
  int64_t upper() const;

  // Symbols that occur, each once, in order of id.
  std::vector<Symbol> symbols() const;
  bool depends_on(const Symbol &symbol) const;
  Expr substitute(const std::map<Symbol, Expr> &values) const;
  // With other expressions for those atoms, however deep, for which `value` has one.
  Expr replace(const std::function<std::optional<Expr>(const Atom &)> &value) const;

  // If the expression is `coefficient * symbol + rest` with neither part depending on `symbol`.
  struct Linear;
  std::optional<Linear> linear_in(const Symbol &symbol) const;

  // Value with every symbol given; nullopt where one is missing, on overflow or a division by zero.
  std::optional<int64_t> evaluate(const std::function<std::optional<int64_t>(const Symbol &)> &value_of) const;

  static Expr from_terms(std::vector<Term> terms); // normalises

 private:
  std::shared_ptr<const std::vector<Term>> terms_;
};

struct Expr::Linear {
  Expr coefficient, rest;
};

struct Atom {
  ExprOp op = ExprOp::kSymbol;
  Symbol symbol;          // kSymbol
  std::vector<Expr> args; // the others
  std::string key;        // canonical text
};

Expr operator+(const Expr &a, const Expr &b);
Expr operator-(const Expr &a, const Expr &b);
Expr operator-(const Expr &a);
Expr operator*(const Expr &a, const Expr &b);
Expr floordiv(const Expr &a, const Expr &b); // b > 0
Expr ceildiv(const Expr &a, const Expr &b);  // b > 0
Expr mod(const Expr &a, const Expr &b);      // b > 0; result in [0, b)
Expr min(const Expr &a, const Expr &b);
Expr max(const Expr &a, const Expr &b);
Expr align_up(const Expr &a, int64_t alignment);
// Booleans are 0 and 1.
Expr equal(const Expr &a, const Expr &b);
Expr less(const Expr &a, const Expr &b);
Expr less_equal(const Expr &a, const Expr &b);
Expr logical_and(const Expr &a, const Expr &b);
Expr logical_or(const Expr &a, const Expr &b);
Expr logical_not(const Expr &a);
Expr select(const Expr &condition, const Expr &a, const Expr &b);
Expr product(const std::vector<Expr> &dims);

// True if a <= b (a < b, a == b) for every value of the symbols in range; false if that is not known.
bool proves_le(const Expr &a, const Expr &b);
bool proves_lt(const Expr &a, const Expr &b);
inline bool proves_ge0(const Expr &a) { return proves_le(Expr(0), a); }

// Reads what to_string prints; `find` maps names to symbols. nullopt on a syntax error or unknown name.
std::optional<Expr> parse_expr(std::string_view text, const std::function<std::optional<Symbol>(std::string_view)> &find);

} // namespace ingot::aotc
