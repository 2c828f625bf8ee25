// Sums over small windows on threads: depthwise convolutions, pooling.
//
//   a thread `rows` outputs below each other, neighbouring threads neighbouring columns; with everything unrolled:
//     the weights, once
//     for each row of the input that the outputs need, ascending:
//       its elements into registers, once; each goes into every output whose window holds it
//     epilogue and stores
//
// "Below each other" is along any stored axis but the contiguous one, whose windows overlap: position = stride * out +
// dilation * tap wherever the input's expressions mention either. An output's sum has the order of its taps.
#include "aotc/schedule/simt/window.h"

#include <algorithm>
#include <numeric>

#include "aotc/schedule/collapse.h"
#include "aotc/schedule/internal.h"
#include "aotc/schedule/simt/threads.h"
#include "aotc/schedule/sinks.h"

namespace ingot::aotc::schedule {

using dispatch::Dispatch;
using dispatch::Guard;
using dispatch::ReduceKind;
using dispatch::Value;
using dispatch::ValueKind;
using kernel::kNoValue;
using kernel::ValueId;
using kernel::Values;

namespace {

constexpr uint32_t kThreads = 128;
constexpr int64_t kMostTaps = 64;       // weights that wait in registers
constexpr int64_t kMostLoads = 128;     // of one thread
constexpr int64_t kMostFactor = 4;      // stride and dilation
constexpr int64_t kEnoughThreads = 1 << 16; // of a large device

// Positions of the input along the windows' axis, in units that stride and dilation have in common.
struct Slide {
  uint32_t out = 0, tap = 0; // axes
  int64_t stride = 1, dilation = 1, taps = 1;
  int64_t positions(int64_t outputs) const { return (outputs - 1) * stride + (taps - 1) * dilation + 1; }
  double reuse() const { return static_cast<double>((taps - 1) * dilation + 1) / static_cast<double>(stride); }
};

struct WindowForm {
  Dispatch d; // collapsed
  dispatch::ValueId reduce = 0, input = 0;
  dispatch::ValueId weight = dispatch::kNoValue; // none: the input alone is reduced
  Slide slide;
  std::vector<uint32_t> stored; // ascending
};

// Every expression that says what `root` reads or is; nothing where one has a gathered index.
std::optional<std::vector<Expr>> expressions_under(const Dispatch &d, dispatch::ValueId root) {
  std::vector<bool> under(d.values.size(), false);
  under[root] = true;
  std::vector<Expr> out;
  for (size_t i = root + 1; i-- > 0;) {
    if (!under[i])
      continue;
    const Value &v = d.values[i];
    for (dispatch::ValueId a : v.args)
      under[a] = true;
    if (v.kind == ValueKind::kLoad || v.kind == ValueKind::kIndex)
      out.push_back(v.expr);
    for (const Guard &g : v.guards) {
      out.push_back(g.value);
      out.push_back(g.extent);
    }
  }
  for (const Expr &e : out)
    for (const Symbol &s : e.symbols())
      if (s.kind() == SymbolKind::kValue)
        return std::nullopt;
  return out;
}

// The factors with which all expressions see the two axes as one position.
std::optional<Slide> slide_of(const Dispatch &d, const std::vector<Expr> &expressions, uint32_t out, uint32_t tap) {
  const Symbol &o = d.axes[out].symbol, &t = d.axes[tap].symbol;
  std::vector<std::pair<Expr, Expr>> coefficients;
  for (const Expr &e : expressions) {
    if (!e.depends_on(o) && !e.depends_on(t))
      continue;
    auto along_out = e.linear_in(o), along_tap = e.linear_in(t);
    if (!along_out || !along_tap || along_out->coefficient.depends_on(t))
      return std::nullopt;
    coefficients.emplace_back(along_out->coefficient, along_tap->coefficient);
  }
  for (int64_t stride = 1; stride <= kMostFactor && !coefficients.empty(); ++stride)
    for (int64_t dilation = 1; dilation <= kMostFactor; ++dilation)
      if (std::gcd(stride, dilation) == 1 && std::all_of(coefficients.begin(), coefficients.end(), [&](const auto &c) {
            return c.first * dilation == c.second * stride;
          }))
        return Slide{out, tap, stride, dilation, *d.axes[tap].extent.constant()};
  return std::nullopt;
}

std::optional<WindowForm> match(const Dispatch &original) {
  if (original.loop || original.stores.empty() || !original.checks.empty())
    return std::nullopt;
  WindowForm f;
  f.d = collapse_axes(original);
  const Dispatch &d = f.d;
  int reduces = 0;
  for (uint32_t i = 0; i < d.values.size(); ++i)
    if (d.values[i].kind == ValueKind::kReduce) {
      f.reduce = i;
      ++reduces;
    }
  const Value &r = d.values[f.reduce];
  if (reduces != 1 || r.reduce >= ReduceKind::kArgMin || r.axes.empty())
    return std::nullopt;
  int64_t taps = 1;
  for (uint32_t a : r.axes) {
    auto extent = d.axes[a].extent.constant();
    if (!extent || *extent < 1 || taps * *extent > kMostTaps)
      return std::nullopt;
    taps *= *extent;
  }
  std::vector<uint64_t> sets = d.axis_sets();
  uint64_t stored = 0, reduced = 0;
  for (uint32_t a : d.stores[0].axes)
    stored |= axis_bit(a);
  for (uint32_t a : r.axes)
    reduced |= axis_bit(a);
  if ((stored & reduced) || (sets[f.reduce] & ~stored))
    return std::nullopt;
  int contiguous = -1;
  for (const dispatch::Store &s : d.stores) {
    uint64_t own = 0;
    for (uint32_t a : s.axes) {
      own |= axis_bit(a);
      auto linear = s.offset.linear_in(d.axes[a].symbol);
      if (&s == &d.stores[0] && linear && linear->coefficient.constant() == 1)
        contiguous = static_cast<int>(a);
    }
    if (own != stored)
      return std::nullopt;
  }
  for (uint32_t a = 0; a < d.axes.size(); ++a)
    if (stored & axis_bit(a))
      f.stored.push_back(a);
  const Value &arg = d.values[r.args[0]];
  std::vector<std::pair<dispatch::ValueId, dispatch::ValueId>> splits = {{r.args[0], dispatch::kNoValue}};
  if (r.reduce == ReduceKind::kAdd && arg.kind == ValueKind::kOp && arg.code == kernel::Opcode::kMul)
    splits = {{arg.args[1], arg.args[0]}, {arg.args[0], arg.args[1]}, splits[0]};
  for (auto [input, weight] : splits) {
    auto expressions = expressions_under(d, input);
    if (!expressions)
      continue;
    std::optional<Slide> best;
    for (uint32_t tap : r.axes)
      for (uint32_t out : f.stored) {
        if (static_cast<int>(out) == contiguous || (weight != dispatch::kNoValue && (sets[weight] & axis_bit(out))))
          continue;
        auto slide = slide_of(d, *expressions, out, tap);
        if (slide && slide->taps > 1 && slide->reuse() > 1 && (!best || slide->reuse() > best->reuse()))
          best = slide;
      }
    if (!best)
      continue;
    f.input = input;
    f.weight = weight;
    f.slide = *best;
    return f;
  }
  return std::nullopt;
}

class SimtWindow {
 public:
  SimtWindow(const WindowForm &form, const Dispatch &original, const TargetRecord &record, int64_t rows)
      : f_(form), d_(form.d), rows_(rows), b_(out_.kernel), l_(b_, d_, original.free_symbols()) {
    out_.kernel.name = d_.name;
    out_.kernel.kind = record.kernel_class;
    threads_ = threads_for(kThreads, record.max_workgroup_invocations);
    out_.kernel.local_size = {threads_, 1, 1};
  }

  Scheduled build() {
    const Expr blocks = ceildiv(d_.axes[f_.slide.out].extent, rows_);
    std::vector<Expr> dims;
    for (uint32_t a : f_.stored)
      dims.push_back(a == f_.slide.out ? blocks : d_.axes[a].extent);
    const Expr all = product(dims), groups = ceildiv(all, int64_t{threads_});
    out_.grid = folded_grid(groups);
    out_.description = "simt_window{rows=" + std::to_string(rows_) + "}";
    ValueId group = group_number(b_);
    b_.if_then(b_.lt(group, l_.expr(groups)), [&] { // first, so that the thread's number stays in range
      ValueId flat = b_.add(b_.mul(group, b_.index(threads_)), b_.local_id(0));
      b_.if_then(b_.lt(flat, l_.expr(all)), [&] {
        Lowering::Scope scope(l_);
        for (size_t i = f_.stored.size(); i-- > 0;) {
          ValueId extent = i ? l_.expr(dims[i]) : kNoValue, at = i ? b_.rem(flat, extent) : flat;
          if (f_.stored[i] == f_.slide.out)
            first_ = b_.mul(at, b_.index(rows_));
          else
            l_.bind(f_.stored[i], at);
          if (i)
            flat = b_.div(flat, extent);
        }
        outputs();
      });
    });
    return std::move(out_);
  }

 private:
  // Calls `visit` with every tap of the axes from `at` on bound, the slide's own left out; `number` counts them.
  template <class Visit> void each_tap(size_t at, int64_t number, const Visit &visit) {
    const std::vector<uint32_t> &axes = d_.values[f_.reduce].axes;
    if (at == axes.size())
      return visit(number);
    if (axes[at] == f_.slide.tap)
      return each_tap(at + 1, number, visit);
    const int64_t extent = *d_.axes[axes[at]].extent.constant();
    for (int64_t t = 0; t < extent; ++t) {
      Lowering::Scope scope(l_);
      l_.bind(axes[at], b_.index(t));
      each_tap(at + 1, number * extent + t, visit);
    }
  }

  // Whether every block is full.
  bool whole() const { return rows_ == 1 || mod(d_.axes[f_.slide.out].extent, rows_).constant() == 0; }
  ValueId exists(int64_t row) { return b_.lt(b_.add(first_, b_.index(row)), l_.extent(f_.slide.out)); }

  // Weights by the tap of the slide, then the others.
  void load_weights() {
    if (f_.weight == dispatch::kNoValue)
      return;
    for (int64_t t = 0; t < f_.slide.taps; ++t) {
      weights_.emplace_back();
      Lowering::Scope scope(l_);
      l_.bind(f_.slide.out, first_);
      l_.bind(f_.slide.tap, b_.index(t));
      each_tap(0, 0, [&](int64_t) { weights_.back().push_back(l_.eval(f_.weight)); });
    }
  }

  // The input's elements at `position` after the thread's first, by the other taps.
  Values elements(int64_t position) {
    const Slide &s = f_.slide;
    int64_t row = 0, tap = position; // the first output that needs it, and by which tap
    while (tap % s.dilation != 0 || tap / s.dilation >= s.taps) {
      ++row;
      tap -= s.stride;
    }
    tap /= s.dilation;
    auto load = [&] {
      Lowering::Scope scope(l_);
      l_.bind(s.out, row ? b_.add(first_, b_.index(row)) : first_);
      l_.bind(s.tap, b_.index(tap));
      Values out;
      each_tap(0, 0, [&](int64_t) { out.push_back(l_.eval(f_.input)); });
      return out;
    };
    if (row == 0 || whole())
      return load();
    return b_.if_else(exists(row), load, [&] {
      return Values(static_cast<size_t>(others()), b_.zero(to_scalar(d_.values[f_.input].type)));
    });
  }
  int64_t others() const {
    int64_t n = 1;
    for (uint32_t a : d_.values[f_.reduce].axes)
      n *= a == f_.slide.tap ? 1 : *d_.axes[a].extent.constant();
    return n;
  }
  bool needed(int64_t position) const {
    const Slide &s = f_.slide;
    for (int64_t row = 0; row < rows_; ++row)
      if (int64_t at = position - row * s.stride; at >= 0 && at % s.dilation == 0 && at / s.dilation < s.taps)
        return true;
    return false;
  }

  ValueId step(ValueId sum, ValueId element, ValueId weight) {
    if (weight == kNoValue)
      return l_.combine(d_.values[f_.reduce], sum, element);
    if (is_float(b_.type_of(element).scalar))
      return b_.mad(weight, element, sum);
    return b_.add(sum, b_.mul(weight, element));
  }

  void outputs() {
    const Slide &s = f_.slide;
    load_weights();
    Values sums(static_cast<size_t>(rows_), l_.identity(d_.values[f_.reduce], 1));
    for (int64_t position = 0; position < s.positions(rows_); ++position) {
      if (!needed(position))
        continue;
      Values now = elements(position);
      for (int64_t row = 0; row < rows_; ++row) {
        const int64_t at = position - row * s.stride;
        if (at < 0 || at % s.dilation != 0 || at / s.dilation >= s.taps)
          continue;
        ValueId &sum = sums[static_cast<size_t>(row)];
        for (size_t i = 0; i < now.size(); ++i)
          sum = step(sum, now[i], weights_.empty() ? kNoValue : weights_[static_cast<size_t>(at / s.dilation)][i]);
      }
    }
    for (int64_t row = 0; row < rows_; ++row) {
      auto store = [&] {
        Lowering::Scope scope(l_);
        l_.bind(s.out, row ? b_.add(first_, b_.index(row)) : first_);
        l_.set(f_.reduce, sums[static_cast<size_t>(row)]);
        for (const dispatch::Store &store : d_.stores)
          l_.store(store);
      };
      if (row == 0 || whole())
        store();
      else
        b_.if_then(exists(row), store);
    }
  }

  const WindowForm &f_;
  const Dispatch &d_;
  const int64_t rows_;
  Scheduled out_;
  kernel::Builder b_;
  Lowering l_;
  uint32_t threads_ = 0;
  ValueId first_ = kNoValue; // the thread's first output along the slide
  std::vector<Values> weights_;
};

// As many outputs as leave a large device enough threads.
int64_t choose_rows(const WindowForm &f) {
  const int64_t extent = std::max<int64_t>(1, typical(f.d.axes[f.slide.out].extent));
  int64_t outputs = 1, others = 1;
  for (uint32_t a : f.stored)
    outputs = std::min<int64_t>(1 << 30, outputs * std::max<int64_t>(1, typical(f.d.axes[a].extent)));
  for (uint32_t a : f.d.values[f.reduce].axes)
    others *= a == f.slide.tap ? 1 : *f.d.axes[a].extent.constant();
  for (int64_t rows : {8, 4, 2}) {
    const int64_t padded = (extent + rows - 1) / rows * rows;
    if (outputs / rows >= kEnoughThreads && 4 * padded <= 5 * extent && f.slide.positions(rows) * others <= kMostLoads)
      return rows;
  }
  return 1;
}

} // namespace

std::optional<Scheduled> schedule_simt_window(const Dispatch &original, const TargetRecord &record, int64_t rows) {
  auto form = match(original);
  if (!form)
    return std::nullopt;
  return SimtWindow(*form, original, record, rows ? rows : choose_rows(*form)).build();
}

std::optional<Scheduled> schedule_simt_window(const Dispatch &d, const TargetRecord &record) {
  return schedule_simt_window(d, record, 0);
}

} // namespace ingot::aotc::schedule
