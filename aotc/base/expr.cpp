// Canonical sums of products; simplification uses symbols' ranges. See expr.h.
#include "aotc/base/expr.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cctype>

#include "aotc/base/error.h"

namespace ingot::aotc {

struct SymbolInfo {
  std::string name;
  SymbolKind kind;
  int64_t min, max, usual = 0;
  uint32_t value = 0;
  uint64_t id = 0;
  std::optional<Expr> extent;
};

namespace {

using AtomPtr = std::shared_ptr<const Atom>;

std::shared_ptr<SymbolInfo> new_symbol(std::string name, SymbolKind kind, int64_t min, int64_t max) {
  static std::atomic<uint64_t> next{1}; // identity only; never printed
  auto info = std::make_shared<SymbolInfo>();
  info->name = std::move(name);
  info->kind = kind;
  info->min = min;
  info->max = max;
  info->id = next++;
  return info;
}

int64_t saturating_add(int64_t a, int64_t b) {
  int64_t r;
  if (!__builtin_add_overflow(a, b, &r))
    return r;
  return a > 0 ? INT64_MAX : INT64_MIN;
}

int64_t saturating_mul(int64_t a, int64_t b) {
  int64_t r;
  if (!__builtin_mul_overflow(a, b, &r))
    return r;
  return (a > 0) == (b > 0) ? INT64_MAX : INT64_MIN;
}

struct Interval {
  int64_t lo, hi;
};

Interval operator*(Interval a, Interval b) {
  int64_t p[4] = {saturating_mul(a.lo, b.lo), saturating_mul(a.lo, b.hi), saturating_mul(a.hi, b.lo),
                  saturating_mul(a.hi, b.hi)};
  return {*std::min_element(p, p + 4), *std::max_element(p, p + 4)};
}

// Saturated values are "unknown"; products with zero above stay exact because 0 * MAX = 0.
int64_t floor_div(int64_t a, int64_t b) {
  int64_t q = a / b;
  return (a % b != 0 && (a < 0) != (b < 0)) ? q - 1 : q;
}

int64_t floor_mod(int64_t a, int64_t b) { return a - floor_div(a, b) * b; }

Interval bounds(const Expr &e) { return {e.lower(), e.upper()}; }

Interval bounds(const Atom &atom) {
  switch (atom.op) {
  case ExprOp::kSymbol:
    return {atom.symbol.min(), atom.symbol.max()};
  case ExprOp::kFloorDiv: {
    Interval a = bounds(atom.args[0]), b = bounds(atom.args[1]);
    if (b.lo <= 0)
      return {INT64_MIN, INT64_MAX};
    auto divide = [](int64_t x, int64_t y) {
      return x == INT64_MIN || x == INT64_MAX ? x : floor_div(x, y);
    };
    return {divide(a.lo, a.lo >= 0 ? b.hi : b.lo), divide(a.hi, a.hi >= 0 ? b.lo : b.hi)};
  }
  case ExprOp::kMod: {
    Interval a = bounds(atom.args[0]), b = bounds(atom.args[1]);
    int64_t hi = b.hi == INT64_MAX ? INT64_MAX : b.hi - 1;
    if (a.lo >= 0)
      hi = std::min(hi, a.hi);
    return {0, hi};
  }
  case ExprOp::kMin: {
    Interval a = bounds(atom.args[0]), b = bounds(atom.args[1]);
    return {std::min(a.lo, b.lo), std::min(a.hi, b.hi)};
  }
  case ExprOp::kMax: {
    Interval a = bounds(atom.args[0]), b = bounds(atom.args[1]);
    return {std::max(a.lo, b.lo), std::max(a.hi, b.hi)};
  }
  case ExprOp::kSelect: {
    Interval a = bounds(atom.args[1]), b = bounds(atom.args[2]);
    return {std::min(a.lo, b.lo), std::max(a.hi, b.hi)};
  }
  default:
    return {0, 1};
  }
}

std::string term_key(const Term &term) {
  std::string key;
  for (const AtomPtr &factor : term.factors) {
    key += factor->key;
    key += '*';
  }
  return key;
}

std::string_view op_name(ExprOp op) {
  switch (op) {
  case ExprOp::kFloorDiv: return "floordiv";
  case ExprOp::kMod: return "mod";
  case ExprOp::kMin: return "min";
  case ExprOp::kMax: return "max";
  case ExprOp::kEq: return "eq";
  case ExprOp::kLt: return "lt";
  case ExprOp::kLe: return "le";
  case ExprOp::kAnd: return "and";
  case ExprOp::kOr: return "or";
  case ExprOp::kNot: return "not";
  case ExprOp::kSelect: return "select";
  case ExprOp::kSymbol: return "symbol";
  }
  return "?";
}

Expr make_atom(ExprOp op, std::vector<Expr> args) {
  auto atom = std::make_shared<Atom>();
  atom->op = op;
  atom->key = std::string(op_name(op)) + "(";
  for (size_t i = 0; i < args.size(); ++i)
    atom->key += (i ? ", " : "") + args[i].to_string();
  atom->key += ")";
  atom->args = std::move(args);
  return Expr::from_terms({Term{1, {std::move(atom)}}});
}

// Splits a term by a divisor that is one term: term = divisor * quotient if it divides.
std::optional<Term> divide_term(const Term &term, const Term &divisor) {
  if (divisor.coefficient == 0 || term.coefficient % divisor.coefficient != 0)
    return std::nullopt;
  Term quotient{term.coefficient / divisor.coefficient, {}};
  std::vector<AtomPtr> rest = term.factors;
  for (const AtomPtr &factor : divisor.factors) {
    auto it = std::find_if(rest.begin(), rest.end(), [&](const AtomPtr &f) { return f->key == factor->key; });
    if (it == rest.end())
      return std::nullopt;
    rest.erase(it);
  }
  quotient.factors = std::move(rest);
  return quotient;
}

struct Split {
  Expr quotient, rest;
};

// a = b * quotient + rest with every divisible term in the quotient.
Split split_by(const Expr &a, const Expr &b) {
  if (b.terms().size() != 1)
    return {a == b ? Expr(1) : Expr(0), a == b ? Expr(0) : a};
  std::vector<Term> quotient, rest;
  for (const Term &term : a.terms()) {
    if (auto q = divide_term(term, b.terms()[0]))
      quotient.push_back(*q);
    else if (term.factors.empty() && b.is_constant()) {
      int64_t d = *b.constant();
      quotient.push_back(Term{floor_div(term.coefficient, d), {}});
      rest.push_back(Term{floor_mod(term.coefficient, d), {}});
    } else if (b.is_constant() && *b.constant() > 0) {
      // c*x = d*(c/d)*x + (c mod d)*x
      int64_t d = *b.constant(), q = floor_div(term.coefficient, d);
      if (q > 0)
        quotient.push_back(Term{q, term.factors});
      rest.push_back(Term{q > 0 ? floor_mod(term.coefficient, d) : term.coefficient, term.factors});
    } else {
      rest.push_back(term);
    }
  }
  return {Expr::from_terms(std::move(quotient)), Expr::from_terms(std::move(rest))};
}

// Replaces mod/floordiv pairs of the same operands by what they were taken from:
//   c*q*floordiv(e, q) + c*mod(e, q)               = c*e
//   c*q*mod(floordiv(e, q), p) + c*mod(e, q)       = c*mod(e, q*p)
bool recombine(std::vector<Term> &terms) {
  for (size_t i = 0; i < terms.size(); ++i) {
    for (size_t f = 0; f < terms[i].factors.size(); ++f) {
      const AtomPtr mod_atom = terms[i].factors[f];
      if (mod_atom->op != ExprOp::kMod)
        continue;
      const Expr &e = mod_atom->args[0], &q = mod_atom->args[1];
      Term others = terms[i];
      others.factors.erase(others.factors.begin() + static_cast<std::ptrdiff_t>(f));
      Expr scale = Expr::from_terms({others});
      Expr partner = scale * q * floordiv(e, q);
      // First rule: every term of the partner is in the sum.
      auto find = [&](const Term &wanted) {
        std::string key = term_key(wanted);
        for (size_t j = 0; j < terms.size(); ++j)
          if (j != i && terms[j].coefficient == wanted.coefficient && term_key(terms[j]) == key)
            return static_cast<std::ptrdiff_t>(j);
        return static_cast<std::ptrdiff_t>(-1);
      };
      auto replace = [&](const std::vector<std::ptrdiff_t> &gone, const Expr &with) {
        std::vector<Term> next;
        for (size_t j = 0; j < terms.size(); ++j)
          if (j != i && std::find(gone.begin(), gone.end(), static_cast<std::ptrdiff_t>(j)) == gone.end())
            next.push_back(terms[j]);
        for (const Term &t : with.terms())
          next.push_back(t);
        terms = std::move(next);
      };
      std::vector<std::ptrdiff_t> found;
      bool all = !partner.terms().empty();
      for (const Term &t : partner.terms()) {
        std::ptrdiff_t j = find(t);
        all = all && j >= 0;
        found.push_back(j);
      }
      if (all) {
        Expr with = scale * e;
        replace(found, with);
        return true;
      }
      // Second rule: look for scale * q * mod(x, p) with x == floordiv(e, q).
      Expr quotient = floordiv(e, q);
      for (size_t j = 0; j < terms.size(); ++j) {
        if (j == i)
          continue;
        for (const AtomPtr &g : terms[j].factors) {
          if (g->op != ExprOp::kMod || !(g->args[0] == quotient))
            continue;
          Expr want = scale * q * Expr::from_terms({Term{1, {g}}});
          if (want.terms().size() == 1 && want.terms()[0].coefficient == terms[j].coefficient &&
              term_key(want.terms()[0]) == term_key(terms[j])) {
            Expr with = scale * mod(e, q * g->args[1]);
            replace({static_cast<std::ptrdiff_t>(j)}, with);
            return true;
          }
        }
      }
    }
  }
  return false;
}

void collect(const Expr &e, std::map<uint64_t, Symbol> &out) {
  for (const Term &term : e.terms())
    for (const AtomPtr &factor : term.factors) {
      if (factor->op == ExprOp::kSymbol)
        out.emplace(factor->symbol.id(), factor->symbol);
      for (const Expr &arg : factor->args)
        collect(arg, out);
    }
}

Expr rebuild(ExprOp op, const std::vector<Expr> &a) {
  switch (op) {
  case ExprOp::kFloorDiv: return floordiv(a[0], a[1]);
  case ExprOp::kMod: return mod(a[0], a[1]);
  case ExprOp::kMin: return min(a[0], a[1]);
  case ExprOp::kMax: return max(a[0], a[1]);
  case ExprOp::kEq: return equal(a[0], a[1]);
  case ExprOp::kLt: return less(a[0], a[1]);
  case ExprOp::kLe: return less_equal(a[0], a[1]);
  case ExprOp::kAnd: return logical_and(a[0], a[1]);
  case ExprOp::kOr: return logical_or(a[0], a[1]);
  case ExprOp::kNot: return logical_not(a[0]);
  case ExprOp::kSelect: return select(a[0], a[1], a[2]);
  case ExprOp::kSymbol: break;
  }
  throw InternalError("expr: a symbol has no arguments");
}

// Lower bound of an expression as a constant, first replacing symbols that have symbolic extents (axes) by the end of
// their range that makes the expression smallest, so that w - 1 - j is known to be >= 0 for 0 <= j < w.
bool known_nonnegative(Expr e, int depth = 0) {
  if (e.lower() >= 0)
    return true;
  if (depth > 8)
    return false;
  for (const Symbol &symbol : e.symbols()) {
    const Expr *extent = symbol.extent();
    if (!extent)
      continue;
    auto linear = e.linear_in(symbol);
    if (!linear)
      continue;
    Expr next;
    if (linear->coefficient.lower() >= 0)
      next = linear->rest;
    else if (linear->coefficient.upper() <= 0)
      next = linear->rest + linear->coefficient * (*extent - 1);
    else
      continue;
    return known_nonnegative(next, depth + 1);
  }
  // floordiv(x, c)*c <= x and >= x - c + 1: relax one floordiv atom with a negative coefficient.
  for (const Term &term : e.terms())
    if (term.factors.size() == 1 && term.factors[0]->op == ExprOp::kFloorDiv && term.coefficient < 0) {
      const Atom &atom = *term.factors[0];
      auto divisor = atom.args[1].constant();
      if (divisor && term.coefficient % *divisor == 0) {
        Expr t = Expr::from_terms({term});
        return known_nonnegative(e - t + Expr(term.coefficient / *divisor) * atom.args[0], depth + 1);
      }
    } else if (term.factors.size() == 1 && term.factors[0]->op == ExprOp::kFloorDiv && term.coefficient > 0) {
      const Atom &atom = *term.factors[0];
      auto divisor = atom.args[1].constant();
      if (divisor && term.coefficient % *divisor == 0) {
        Expr t = Expr::from_terms({term});
        return known_nonnegative(e - t + Expr(term.coefficient / *divisor) * (atom.args[0] - (*divisor - 1)), depth + 1);
      }
    }
  return false;
}

} // namespace

Symbol Symbol::dim(std::string name, int64_t min, int64_t max, int64_t usual) {
  Symbol s;
  auto info = new_symbol(std::move(name), SymbolKind::kDim, min, max);
  info->usual = usual;
  s.info_ = std::move(info);
  return s;
}

Symbol Symbol::host(std::string name, int64_t min, int64_t max) {
  Symbol s;
  s.info_ = new_symbol(std::move(name), SymbolKind::kHost, min, max);
  return s;
}

Symbol Symbol::axis(std::string name, const Expr &extent) {
  Symbol s;
  int64_t hi = extent.upper();
  auto info = new_symbol(std::move(name), SymbolKind::kAxis, 0, std::max<int64_t>(0, hi == INT64_MAX ? hi : hi - 1));
  info->extent = extent;
  s.info_ = info;
  return s;
}

Symbol Symbol::value(std::string name, uint32_t value, const Expr &extent) {
  Symbol s;
  int64_t hi = extent.upper();
  auto info = new_symbol(std::move(name), SymbolKind::kValue, 0, std::max<int64_t>(0, hi == INT64_MAX ? hi : hi - 1));
  info->extent = extent;
  info->value = value;
  s.info_ = info;
  return s;
}

const std::string &Symbol::name() const { return info_->name; }
SymbolKind Symbol::kind() const { return info_->kind; }
int64_t Symbol::min() const { return info_->min; }
int64_t Symbol::max() const { return info_->max; }
int64_t Symbol::usual() const { return info_->usual; }
uint32_t Symbol::value() const { return info_->value; }
const Expr *Symbol::extent() const { return info_->extent ? &*info_->extent : nullptr; }
bool Symbol::operator<(const Symbol &other) const { return id() < other.id(); }
uint64_t Symbol::id() const { return info_ ? info_->id : 0; }

Expr::Expr(int64_t value) {
  auto terms = std::make_shared<std::vector<Term>>();
  if (value != 0)
    terms->push_back(Term{value, {}});
  terms_ = std::move(terms);
}

Expr::Expr(const Symbol &symbol) {
  auto atom = std::make_shared<Atom>();
  atom->op = ExprOp::kSymbol;
  atom->symbol = symbol;
  atom->key = symbol.name();
  auto terms = std::make_shared<std::vector<Term>>();
  // An axis of extent 1 is always 0.
  if (symbol.min() == symbol.max()) {
    if (symbol.min() != 0)
      terms->push_back(Term{symbol.min(), {}});
  } else {
    terms->push_back(Term{1, {std::move(atom)}});
  }
  terms_ = std::move(terms);
}

Expr Expr::from_terms(std::vector<Term> terms) {
  std::map<std::string, Term> merged;
  auto merge = [&] {
    merged.clear();
    for (Term &term : terms) {
      std::sort(term.factors.begin(), term.factors.end(), [](const AtomPtr &a, const AtomPtr &b) { return a->key < b->key; });
      auto [it, fresh] = merged.try_emplace(term_key(term), term);
      if (!fresh)
        it->second.coefficient += term.coefficient;
    }
    terms.clear();
    for (auto &[key, term] : merged)
      if (term.coefficient != 0)
        terms.push_back(std::move(term));
  };
  merge();
  while (terms.size() > 1 && recombine(terms))
    merge();
  Expr e;
  e.terms_ = std::make_shared<const std::vector<Term>>(std::move(terms));
  return e;
}

bool Expr::is_constant() const { return terms_->empty() || (terms_->size() == 1 && (*terms_)[0].factors.empty()); }

std::optional<int64_t> Expr::constant() const {
  if (terms_->empty())
    return 0;
  if (is_constant())
    return (*terms_)[0].coefficient;
  return std::nullopt;
}

std::optional<Symbol> Expr::symbol() const {
  if (terms_->size() == 1 && (*terms_)[0].coefficient == 1 && (*terms_)[0].factors.size() == 1 &&
      (*terms_)[0].factors[0]->op == ExprOp::kSymbol)
    return (*terms_)[0].factors[0]->symbol;
  return std::nullopt;
}

bool Expr::is_symbol() const { return symbol().has_value(); }

std::string Expr::to_string() const {
  if (terms_->empty())
    return "0";
  std::string text;
  // The constant sorts first by key; print it last, as people write it.
  auto print = [&](const Term &term) {
    int64_t c = term.coefficient;
    if (text.empty()) {
      if (c < 0)
        text += "-";
    } else {
      text += c < 0 ? " - " : " + ";
    }
    uint64_t magnitude = c < 0 ? 0 - static_cast<uint64_t>(c) : static_cast<uint64_t>(c);
    bool first = true;
    if (magnitude != 1 || term.factors.empty()) {
      text += std::to_string(magnitude);
      first = false;
    }
    for (const AtomPtr &factor : term.factors) {
      if (!first)
        text += "*";
      text += factor->key;
      first = false;
    }
  };
  for (const Term &term : *terms_)
    if (!term.factors.empty())
      print(term);
  for (const Term &term : *terms_)
    if (term.factors.empty())
      print(term);
  return text;
}

bool Expr::operator==(const Expr &other) const {
  if (terms_ == other.terms_)
    return true;
  if (terms_->size() != other.terms_->size())
    return false;
  for (size_t i = 0; i < terms_->size(); ++i) {
    const Term &a = (*terms_)[i], &b = (*other.terms_)[i];
    if (a.coefficient != b.coefficient || a.factors.size() != b.factors.size())
      return false;
    for (size_t f = 0; f < a.factors.size(); ++f)
      if (a.factors[f] != b.factors[f] && a.factors[f]->key != b.factors[f]->key)
        return false;
  }
  return true;
}

int64_t Expr::lower() const {
  int64_t sum = 0;
  for (const Term &term : *terms_) {
    Interval i{1, 1};
    for (const AtomPtr &factor : term.factors)
      i = i * bounds(*factor);
    i = i * Interval{term.coefficient, term.coefficient};
    if (i.lo == INT64_MIN)
      return INT64_MIN;
    sum = saturating_add(sum, i.lo);
  }
  return sum;
}

int64_t Expr::upper() const {
  int64_t sum = 0;
  for (const Term &term : *terms_) {
    Interval i{1, 1};
    for (const AtomPtr &factor : term.factors)
      i = i * bounds(*factor);
    i = i * Interval{term.coefficient, term.coefficient};
    if (i.hi == INT64_MAX)
      return INT64_MAX;
    sum = saturating_add(sum, i.hi);
  }
  return sum;
}

std::vector<Symbol> Expr::symbols() const {
  std::map<uint64_t, Symbol> found;
  collect(*this, found);
  std::vector<Symbol> out;
  for (auto &[id, symbol] : found)
    out.push_back(symbol);
  return out;
}

bool Expr::depends_on(const Symbol &symbol) const {
  for (const Term &term : *terms_)
    for (const AtomPtr &factor : term.factors) {
      if (factor->op == ExprOp::kSymbol ? factor->symbol == symbol : false)
        return true;
      for (const Expr &arg : factor->args)
        if (arg.depends_on(symbol))
          return true;
    }
  return false;
}

Expr Expr::substitute(const std::map<Symbol, Expr> &values) const {
  return replace([&](const Atom &a) -> std::optional<Expr> {
    auto it = a.op == ExprOp::kSymbol ? values.find(a.symbol) : values.end();
    return it != values.end() ? std::optional(it->second) : std::nullopt;
  });
}

Expr Expr::replace(const std::function<std::optional<Expr>(const Atom &)> &value) const {
  std::vector<Term> kept;
  for (const Term &term : *terms_) {
    Expr p(term.coefficient);
    for (const AtomPtr &factor : term.factors) {
      if (auto other = value(*factor)) {
        p = p * *other;
      } else if (factor->op == ExprOp::kSymbol) {
        p = p * Expr::from_terms({Term{1, {factor}}});
      } else {
        std::vector<Expr> args;
        for (const Expr &arg : factor->args)
          args.push_back(arg.replace(value));
        p = p * rebuild(factor->op, args);
      }
    }
    for (const Term &t : p.terms())
      kept.push_back(t);
  }
  return from_terms(std::move(kept));
}

std::optional<Expr::Linear> Expr::linear_in(const Symbol &symbol) const {
  std::vector<Term> coefficient, rest;
  for (const Term &term : *terms_) {
    int power = 0;
    Term without{term.coefficient, {}};
    for (const AtomPtr &factor : term.factors) {
      if (factor->op == ExprOp::kSymbol && factor->symbol == symbol) {
        ++power;
        continue;
      }
      for (const Expr &arg : factor->args)
        if (arg.depends_on(symbol))
          return std::nullopt;
      without.factors.push_back(factor);
    }
    if (power > 1)
      return std::nullopt;
    (power ? coefficient : rest).push_back(std::move(without));
  }
  return Linear{from_terms(std::move(coefficient)), from_terms(std::move(rest))};
}

std::optional<int64_t>
Expr::evaluate(const std::function<std::optional<int64_t>(const Symbol &)> &value_of) const {
  int64_t sum = 0;
  for (const Term &term : *terms_) {
    int64_t p = term.coefficient;
    for (const AtomPtr &factor : term.factors) {
      std::optional<int64_t> v;
      if (factor->op == ExprOp::kSymbol) {
        v = value_of(factor->symbol);
      } else {
        std::vector<int64_t> a;
        for (const Expr &arg : factor->args) {
          auto x = arg.evaluate(value_of);
          if (!x)
            return std::nullopt;
          a.push_back(*x);
        }
        switch (factor->op) {
        case ExprOp::kFloorDiv:
          if (a[1] > 0)
            v = floor_div(a[0], a[1]);
          break;
        case ExprOp::kMod:
          if (a[1] > 0)
            v = floor_mod(a[0], a[1]);
          break;
        case ExprOp::kMin: v = std::min(a[0], a[1]); break;
        case ExprOp::kMax: v = std::max(a[0], a[1]); break;
        case ExprOp::kEq: v = a[0] == a[1]; break;
        case ExprOp::kLt: v = a[0] < a[1]; break;
        case ExprOp::kLe: v = a[0] <= a[1]; break;
        case ExprOp::kAnd: v = a[0] && a[1]; break;
        case ExprOp::kOr: v = a[0] || a[1]; break;
        case ExprOp::kNot: v = !a[0]; break;
        case ExprOp::kSelect: v = a[0] ? a[1] : a[2]; break;
        case ExprOp::kSymbol: break;
        }
      }
      if (!v || __builtin_mul_overflow(p, *v, &p))
        return std::nullopt;
    }
    if (__builtin_add_overflow(sum, p, &sum))
      return std::nullopt;
  }
  return sum;
}

Expr operator+(const Expr &a, const Expr &b) {
  std::vector<Term> terms = a.terms();
  terms.insert(terms.end(), b.terms().begin(), b.terms().end());
  return Expr::from_terms(std::move(terms));
}

Expr operator-(const Expr &a) { return a * Expr(-1); }
Expr operator-(const Expr &a, const Expr &b) { return a + b * Expr(-1); }

Expr operator*(const Expr &a, const Expr &b) {
  std::vector<Term> terms;
  for (const Term &x : a.terms())
    for (const Term &y : b.terms()) {
      Term t{saturating_mul(x.coefficient, y.coefficient), x.factors};
      t.factors.insert(t.factors.end(), y.factors.begin(), y.factors.end());
      terms.push_back(std::move(t));
    }
  return Expr::from_terms(std::move(terms));
}

Expr floordiv(const Expr &a, const Expr &b) {
  auto ca = a.constant(), cb = b.constant();
  if (cb) {
    ensure(*cb > 0, "expr: floordiv by a constant that is not positive");
    if (*cb == 1)
      return a;
    if (ca)
      return floor_div(*ca, *cb);
  }
  if (a == Expr(0))
    return 0;
  Split s = split_by(a, b);
  if (proves_ge0(s.rest) && proves_lt(s.rest, b))
    return s.quotient;
  if (!(s.quotient == Expr(0)))
    return s.quotient + floordiv(s.rest, b);
  // A common constant factor of the divisor and of some terms: floor((g*x + r) / (g*d)) = floor(x / d) for 0 <= r < g.
  if (b.terms().size() == 1) {
    int64_t divisor = b.terms()[0].coefficient;
    for (const Term &term : a.terms()) {
      int64_t g = std::abs(std::__gcd(divisor, term.coefficient));
      if (term.factors.empty() || g <= 1)
        continue;
      Split by_g = split_by(a, Expr(g));
      if (proves_ge0(by_g.rest) && proves_lt(by_g.rest, Expr(g)))
        return floordiv(by_g.quotient, split_by(b, Expr(g)).quotient);
    }
    // The same with a symbolic factor of the divisor.
    for (const auto &factor : b.terms()[0].factors) {
      Expr g = Expr::from_terms({Term{1, {factor}}});
      if (g == b)
        continue;
      Split by_g = split_by(a, g);
      if (!(by_g.quotient == Expr(0)) && proves_ge0(by_g.rest) && proves_lt(by_g.rest, g))
        return floordiv(by_g.quotient, split_by(b, g).quotient);
    }
  }
  if (a.terms().size() == 1 && a.terms()[0].coefficient == 1 && a.terms()[0].factors.size() == 1 &&
      a.terms()[0].factors[0]->op == ExprOp::kFloorDiv) {
    const Atom &inner = *a.terms()[0].factors[0];
    return floordiv(inner.args[0], inner.args[1] * b);
  }
  return make_atom(ExprOp::kFloorDiv, {a, b});
}

Expr ceildiv(const Expr &a, const Expr &b) { return floordiv(a + b - 1, b); }

Expr mod(const Expr &a, const Expr &b) {
  auto ca = a.constant(), cb = b.constant();
  if (cb) {
    ensure(*cb > 0, "expr: mod by a constant that is not positive");
    if (*cb == 1)
      return 0;
    if (ca)
      return floor_mod(*ca, *cb);
  }
  Split s = split_by(a, b);
  if (proves_ge0(s.rest) && proves_lt(s.rest, b))
    return s.rest;
  // mod(g*x + r, g*d) = g*mod(x, d) + r for 0 <= r < g.
  if (b.terms().size() == 1) {
    std::vector<Expr> candidates;
    for (const Term &term : s.rest.terms()) {
      int64_t g = std::abs(std::__gcd(b.terms()[0].coefficient, term.coefficient));
      if (!term.factors.empty() && g > 1)
        candidates.push_back(Expr(g));
    }
    for (const auto &factor : b.terms()[0].factors)
      candidates.push_back(Expr::from_terms({Term{1, {factor}}}));
    for (const Expr &g : candidates) {
      if (g == b)
        continue;
      Split by_g = split_by(s.rest, g);
      Expr d = split_by(b, g).quotient;
      if (!(by_g.quotient == Expr(0)) && !(d == Expr(0)) && d * g == b && proves_ge0(by_g.rest) &&
          proves_lt(by_g.rest, g))
        return g * mod(by_g.quotient, d) + by_g.rest;
    }
  }
  return make_atom(ExprOp::kMod, {s.rest, b});
}

Expr min(const Expr &a, const Expr &b) {
  if (proves_le(a, b))
    return a;
  if (proves_le(b, a))
    return b;
  bool swap = b.to_string() < a.to_string();
  return make_atom(ExprOp::kMin, swap ? std::vector<Expr>{b, a} : std::vector<Expr>{a, b});
}

Expr max(const Expr &a, const Expr &b) {
  if (proves_le(a, b))
    return b;
  if (proves_le(b, a))
    return a;
  bool swap = b.to_string() < a.to_string();
  return make_atom(ExprOp::kMax, swap ? std::vector<Expr>{b, a} : std::vector<Expr>{a, b});
}

Expr align_up(const Expr &a, int64_t alignment) { return ceildiv(a, alignment) * alignment; }

Expr equal(const Expr &a, const Expr &b) {
  Expr d = a - b;
  if (auto c = d.constant())
    return *c == 0;
  if (d.lower() > 0 || d.upper() < 0)
    return 0;
  return make_atom(ExprOp::kEq, {a, b});
}

Expr less(const Expr &a, const Expr &b) {
  if (proves_lt(a, b))
    return 1;
  if (proves_le(b, a))
    return 0;
  return make_atom(ExprOp::kLt, {a, b});
}

Expr less_equal(const Expr &a, const Expr &b) {
  if (proves_le(a, b))
    return 1;
  if (proves_lt(b, a))
    return 0;
  return make_atom(ExprOp::kLe, {a, b});
}

Expr logical_and(const Expr &a, const Expr &b) {
  if (auto c = a.constant())
    return *c ? b : Expr(0);
  if (auto c = b.constant())
    return *c ? a : Expr(0);
  return make_atom(ExprOp::kAnd, {a, b});
}

Expr logical_or(const Expr &a, const Expr &b) {
  if (auto c = a.constant())
    return *c ? Expr(1) : b;
  if (auto c = b.constant())
    return *c ? Expr(1) : a;
  return make_atom(ExprOp::kOr, {a, b});
}

Expr logical_not(const Expr &a) {
  if (auto c = a.constant())
    return *c == 0;
  return make_atom(ExprOp::kNot, {a});
}

Expr select(const Expr &condition, const Expr &a, const Expr &b) {
  if (auto c = condition.constant())
    return *c ? a : b;
  if (a == b)
    return a;
  return make_atom(ExprOp::kSelect, {condition, a, b});
}

Expr product(const std::vector<Expr> &dims) {
  Expr p(1);
  for (const Expr &d : dims)
    p = p * d;
  return p;
}

bool proves_le(const Expr &a, const Expr &b) { return known_nonnegative(b - a); }
bool proves_lt(const Expr &a, const Expr &b) { return known_nonnegative(b - a - 1); }

// ---- parser: sum := term (('+'|'-') term)*, term := factor ('*' factor)*

namespace {

struct ExprParser {
  std::string_view text;
  const std::function<std::optional<Symbol>(std::string_view)> &find;
  size_t at = 0;
  int depth = 0;

  void skip() {
    while (at < text.size() && text[at] == ' ')
      ++at;
  }
  bool eat(char c) {
    skip();
    if (at < text.size() && text[at] == c) {
      ++at;
      return true;
    }
    return false;
  }
  std::optional<Expr> sum() {
    if (++depth > 64)
      return std::nullopt;
    bool negative = eat('-');
    auto left = term();
    if (!left)
      return std::nullopt;
    Expr e = negative ? -*left : *left;
    for (;;) {
      bool plus = eat('+');
      if (!plus && !eat('-'))
        break;
      auto right = term();
      if (!right)
        return std::nullopt;
      e = plus ? e + *right : e - *right;
    }
    --depth;
    return e;
  }
  std::optional<Expr> term() {
    auto left = factor();
    while (left && eat('*')) {
      auto right = factor();
      if (!right)
        return std::nullopt;
      left = *left * *right;
    }
    return left;
  }
  std::optional<Expr> factor() {
    skip();
    if (at >= text.size())
      return std::nullopt;
    if (eat('(')) {
      auto e = sum();
      return e && eat(')') ? e : std::nullopt;
    }
    if (std::isdigit(static_cast<unsigned char>(text[at]))) {
      int64_t v = 0;
      auto [end, error] = std::from_chars(text.data() + at, text.data() + text.size(), v);
      if (error != std::errc())
        return std::nullopt;
      at = static_cast<size_t>(end - text.data());
      return Expr(v);
    }
    size_t begin = at;
    while (at < text.size() && (std::isalnum(static_cast<unsigned char>(text[at])) || text[at] == '_' || text[at] == '.' ||
                                text[at] == '%' || text[at] == '$'))
      ++at;
    std::string_view word = text.substr(begin, at - begin);
    if (word.empty())
      return std::nullopt;
    static constexpr std::pair<std::string_view, ExprOp> kCalls[] = {
        {"floordiv", ExprOp::kFloorDiv}, {"mod", ExprOp::kMod}, {"min", ExprOp::kMin}, {"max", ExprOp::kMax},
        {"eq", ExprOp::kEq}, {"lt", ExprOp::kLt}, {"le", ExprOp::kLe}, {"and", ExprOp::kAnd}, {"or", ExprOp::kOr},
        {"not", ExprOp::kNot}, {"select", ExprOp::kSelect}};
    for (auto [call, op] : kCalls) {
      if (word != call || !eat('('))
        continue;
      std::vector<Expr> args;
      do {
        auto e = sum();
        if (!e)
          return std::nullopt;
        args.push_back(*e);
      } while (eat(','));
      size_t want = op == ExprOp::kNot ? 1 : op == ExprOp::kSelect ? 3 : 2;
      if (!eat(')') || args.size() != want)
        return std::nullopt;
      if ((op == ExprOp::kFloorDiv || op == ExprOp::kMod) && args[1].is_constant() && *args[1].constant() <= 0)
        return std::nullopt;
      return rebuild(op, args);
    }
    auto symbol = find(word);
    return symbol ? std::optional<Expr>(Expr(*symbol)) : std::nullopt;
  }
};

} // namespace

std::optional<Expr> parse_expr(std::string_view text,
                               const std::function<std::optional<Symbol>(std::string_view)> &find) {
  ExprParser parser{text, find};
  auto e = parser.sum();
  parser.skip();
  return e && parser.at == text.size() ? e : std::nullopt;
}

} // namespace ingot::aotc
