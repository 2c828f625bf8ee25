// Expressions: named simplifications, and random trees whose canonical form must evaluate as the tree does.
#include <catch2/catch.hpp>

#include <map>
#include <random>

#include "aotc/base/expr.h"

using namespace ingot::aotc;

namespace {

int64_t floor_div(int64_t a, int64_t b) {
  int64_t q = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
}

// A tree evaluated on the side while the expression is built.
struct Built {
  Expr expr;
  std::vector<int64_t> values; // one per assignment
};

} // namespace

TEST_CASE("indices of reshapes collapse") {
  Symbol w = Symbol::dim("w", 1, 1 << 20), h = Symbol::dim("h", 1, 4096);
  Expr W(w), H(h);
  Symbol i = Symbol::axis("i", H), j = Symbol::axis("j", W);
  Expr linear = Expr(i) * W + Expr(j);
  CHECK(floordiv(linear, W) == Expr(i));
  CHECK(mod(linear, W) == Expr(j));
  Symbol t = Symbol::axis("t", H * W);
  Expr T(t);
  CHECK(floordiv(T, W) * W + mod(T, W) == T);
  Symbol u = Symbol::axis("u", Expr(3) * H * W);
  Expr U(u);
  CHECK(floordiv(U, H * W) * H * W + mod(floordiv(U, W), H) * W + mod(U, W) == U);
  CHECK(proves_lt(linear, H * W));
  CHECK_FALSE(proves_lt(linear, H * W - 1));
  CHECK(mod(Expr(Symbol::axis("a", 40)) * 12 + Expr(Symbol::axis("b", 4)), 4) == Expr(Symbol::axis("b", 4)));
}

TEST_CASE("an axis of one point is zero") { CHECK(Expr(Symbol::axis("one", 1)) == Expr(0)); }

TEST_CASE("text reads back") {
  Symbol w = Symbol::dim("w", 1, 64), n = Symbol::dim("n", 0, 9);
  auto find = [&](std::string_view name) -> std::optional<Symbol> {
    if (name == "w") return w;
    if (name == "n") return n;
    return std::nullopt;
  };
  Expr e = select(less(Expr(w), Expr(n) * 7), floordiv(Expr(w) * 3 - 1, Expr(n) + 1), max(mod(Expr(w), 5), Expr(n) - 3));
  auto back = parse_expr(e.to_string(), find);
  REQUIRE(back);
  CHECK(*back == e);
  CHECK_FALSE(parse_expr("w +", find));
  CHECK_FALSE(parse_expr("floordiv(w)", find));
  CHECK_FALSE(parse_expr("mod(w, 0)", find));
  CHECK_FALSE(parse_expr("unknown", find));
  CHECK_FALSE(parse_expr(std::string(1000, '('), find));
}

TEST_CASE("random trees evaluate as built") {
  std::mt19937 random(20261122);
  auto pick = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  for (int round = 0; round < 3000; ++round) {
    // Dims, axes below constants and axes below dims.
    std::vector<Symbol> symbols;
    symbols.push_back(Symbol::dim("d0", 1, 12));
    symbols.push_back(Symbol::dim("d1", 1, 7));
    symbols.push_back(Symbol::axis("a0", Expr(symbols[0])));
    symbols.push_back(Symbol::axis("a1", Expr(symbols[0]) * Expr(symbols[1])));
    symbols.push_back(Symbol::axis("a2", Expr(6)));
    std::vector<std::map<uint64_t, int64_t>> assignments;
    for (int k = 0; k < 8; ++k) {
      std::map<uint64_t, int64_t> a;
      int64_t d0 = 1 + pick(12), d1 = 1 + pick(7);
      a[symbols[0].id()] = d0;
      a[symbols[1].id()] = d1;
      a[symbols[2].id()] = pick(static_cast<int>(d0));
      a[symbols[3].id()] = pick(static_cast<int>(d0 * d1));
      a[symbols[4].id()] = pick(6);
      assignments.push_back(a);
    }
    std::vector<Built> pool;
    for (const Symbol &s : symbols) {
      Built b{Expr(s), {}};
      for (auto &a : assignments)
        b.values.push_back(a[s.id()]);
      pool.push_back(b);
    }
    for (int64_t c : {0, 1, 2, 3, 4, 6, 8, -1, -5})
      pool.push_back({Expr(c), std::vector<int64_t>(assignments.size(), c)});
    for (int step = 0; step < 10; ++step) {
      const Built a = pool[static_cast<size_t>(pick(static_cast<int>(pool.size())))];
      const Built b = pool[static_cast<size_t>(pick(static_cast<int>(pool.size())))];
      Built r;
      int op = pick(9);
      // Division wants a positive divisor: dims, constants and products of them.
      bool positive = b.expr.lower() > 0;
      auto apply = [&](Expr e, auto f) {
        r.expr = std::move(e);
        for (size_t k = 0; k < assignments.size(); ++k)
          r.values.push_back(f(a.values[k], b.values[k]));
      };
      switch (op) {
      case 0: apply(a.expr + b.expr, [](int64_t x, int64_t y) { return x + y; }); break;
      case 1: apply(a.expr - b.expr, [](int64_t x, int64_t y) { return x - y; }); break;
      case 2: apply(a.expr * b.expr, [](int64_t x, int64_t y) { return x * y; }); break;
      case 3:
      case 4:
        if (!positive)
          continue;
        apply(floordiv(a.expr, b.expr), [](int64_t x, int64_t y) { return floor_div(x, y); });
        break;
      case 5:
        if (!positive)
          continue;
        apply(mod(a.expr, b.expr), [](int64_t x, int64_t y) { return x - floor_div(x, y) * y; });
        break;
      case 6: apply(min(a.expr, b.expr), [](int64_t x, int64_t y) { return std::min(x, y); }); break;
      case 7: apply(max(a.expr, b.expr), [](int64_t x, int64_t y) { return std::max(x, y); }); break;
      default: apply(less(a.expr, b.expr), [](int64_t x, int64_t y) { return int64_t{x < y}; }); break;
      }
      for (int64_t v : r.values)
        if (std::abs(v) > (int64_t{1} << 40))
          goto next_round;
      for (size_t k = 0; k < assignments.size(); ++k) {
        auto value = r.expr.evaluate([&](const Symbol &s) -> std::optional<int64_t> {
          auto it = assignments[k].find(s.id());
          return it == assignments[k].end() ? std::nullopt : std::optional<int64_t>(it->second);
        });
        INFO("round " << round << ": " << r.expr.to_string() << " from (" << a.expr.to_string() << ") op " << op << " ("
                      << b.expr.to_string() << ")");
        REQUIRE(value);
        REQUIRE(*value == r.values[k]);
        REQUIRE(r.expr.lower() <= r.values[k]);
        REQUIRE(r.values[k] <= r.expr.upper());
      }
      pool.push_back(std::move(r));
    }
  next_round:;
  }
}
