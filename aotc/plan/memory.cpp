// Packing of transients: first fit at representative dims, then offsets as expressions that keep the order found.
#include "aotc/plan/memory.h"

#include <algorithm>
#include <numeric>

#include "aotc/base/error.h"

namespace ingot::aotc::plan {
namespace {


bool conflict(const Interval &a, const Interval &b) { return a.first <= b.last && b.first <= a.last; }

int64_t evaluate(const Expr &e) {
  auto value = e.evaluate([](const Symbol &s) -> std::optional<int64_t> { return representative_value(s); });
  return value ? std::max<int64_t>(0, *value) : 0;
}

struct Packing {
  std::vector<int64_t> offsets;
  int64_t size = 0;
};

// Places the intervals in the given order, each at the lowest gap among those it conflicts with.
Packing first_fit(const std::vector<Interval> &intervals, const std::vector<int64_t> &sizes, const std::vector<size_t> &order) {
  Packing p;
  p.offsets.assign(intervals.size(), 0);
  std::vector<size_t> placed;
  for (size_t i : order) {
    std::vector<std::pair<int64_t, int64_t>> taken;
    for (size_t j : placed)
      if (conflict(intervals[i], intervals[j]))
        taken.push_back({p.offsets[j], p.offsets[j] + sizes[j]});
    std::sort(taken.begin(), taken.end());
    int64_t at = 0;
    for (auto [lo, hi] : taken) {
      if (lo >= at + sizes[i])
        break;
      at = std::max(at, hi);
    }
    p.offsets[i] = at;
    p.size = std::max(p.size, at + sizes[i]);
    placed.push_back(i);
  }
  return p;
}

} // namespace

int64_t representative_value(const Symbol &symbol) {
  int64_t usual = symbol.kind() == SymbolKind::kDim ? 320 : 16;
  return std::clamp(usual, symbol.min(), std::max(symbol.min(), symbol.max()));
}

Layout lay_out(const std::vector<Interval> &intervals, int64_t alignment) {
  size_t n = intervals.size();
  Layout layout;
  layout.below.resize(n);
  layout.top.assign(n, true);
  std::vector<int64_t> sizes;
  for (const Interval &i : intervals) {
    layout.padded.push_back(align_up(max(Expr(0), i.bytes), alignment));
    sizes.push_back(evaluate(layout.padded.back()));
    layout.fixed = layout.fixed && layout.padded.back().is_constant();
  }
  if (n == 0)
    return layout;
  // The largest sum of live bytes is what no packing can go below.
  uint32_t steps = 0;
  for (const Interval &i : intervals)
    steps = std::max(steps, i.last + 1);
  std::vector<int64_t> live(steps + 1, 0);
  for (size_t i = 0; i < n; ++i)
    for (uint32_t s = intervals[i].first; s <= intervals[i].last; ++s)
      live[s] += sizes[i];
  layout.representative_live = *std::max_element(live.begin(), live.end());

  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t{0});
  auto length = [&](size_t i) { return intervals[i].last - intervals[i].first; };
  auto pressure = [&](size_t i) {
    int64_t most = 0;
    for (uint32_t s = intervals[i].first; s <= intervals[i].last; ++s)
      most = std::max(most, live[s]);
    return most;
  };
  std::vector<int64_t> pressures;
  for (size_t i = 0; i < n; ++i)
    pressures.push_back(pressure(i));
  Packing best;
  best.size = INT64_MAX;
  for (int attempt = 0; attempt < 5; ++attempt) {
    std::vector<size_t> o = order;
    std::stable_sort(o.begin(), o.end(), [&](size_t a, size_t b) {
      switch (attempt) {
      case 0: return sizes[a] > sizes[b];
      case 1: return pressures[a] != pressures[b] ? pressures[a] > pressures[b] : sizes[a] > sizes[b];
      case 2: return sizes[a] * (length(a) + 1) > sizes[b] * (length(b) + 1);
      case 3: return intervals[a].first < intervals[b].first;
      default: return length(a) != length(b) ? length(a) > length(b) : sizes[a] > sizes[b];
      }
    });
    Packing p = first_fit(intervals, sizes, o);
    if (p.size < best.size)
      best = std::move(p);
  }
  layout.representative_size = best.size;

  layout.offsets = best.offsets;
  // Bottom up: above everything below that lives at the same time, leaving out what another one below already clears.
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return best.offsets[a] != best.offsets[b] ? best.offsets[a] < best.offsets[b] : a < b;
  });
  std::vector<std::vector<bool>> above(n, std::vector<bool>(n, false)); // above[i][j]: i lies over j
  for (size_t position = 0; position < n; ++position) {
    size_t i = order[position];
    std::vector<size_t> supports;
    for (size_t q = 0; q < position; ++q)
      if (conflict(intervals[i], intervals[order[q]]))
        supports.push_back(order[q]);
    for (size_t j : supports) {
      bool dominated = false;
      for (size_t k : supports)
        dominated = dominated || above[k][j];
      if (!dominated)
        layout.below[i].push_back(j);
      layout.top[j] = false;
    }
    for (size_t j : supports) {
      above[i][j] = true;
      for (size_t k = 0; k < n; ++k)
        if (above[j][k])
          above[i][k] = true;
    }
  }
  layout.order = std::move(order);
  return layout;
}

} // namespace ingot::aotc::plan
