// See specialise_sizes.h.
#include "aotc/fuse/specialise_sizes.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <set>

namespace ingot::aotc::fuse {

using dispatch::Dispatch;

namespace {

constexpr int64_t kWide = 4; // from the least to the most: what is less is one size, but for a single point

class Specialise {
 public:
  Specialise(Program &program, const std::vector<int64_t> &multiples) : p_(program), multiples_(multiples) {
    for (TensorId t : p_.input_tensors)
      if (const std::vector<Expr> &dims = p_.tensors[t].type.dims; dims.size() > 1)
        if (auto batch = dims[0].symbol())
          batches_.insert(*batch);
  }

  void run() { // not in loops: sequences (sequence.h) are made of whole steps
    replace_dispatches(p_.steps, [&](Step &step, Steps &out) { return divide(step, out); }, false);
  }

 private:
  using Sizes = std::map<Symbol, int64_t>;

  // The dims of which the product is `multiple` times that of the lower bounds, as far as the ranges go. Batches grow where
  // nothing else can.
  Sizes sizes_at(const std::vector<Symbol> &dims, double multiple) const {
    Sizes sizes;
    for (const bool batch : {false, true}) {
      std::vector<Symbol> grow;
      std::copy_if(dims.begin(), dims.end(), std::back_inserter(grow), [&](const Symbol &s) { return (batches_.count(s) != 0) == batch; });
      const double each = std::pow(multiple, 1.0 / static_cast<double>(std::max<size_t>(1, grow.size())));
      for (const Symbol &s : grow) {
        const double least = static_cast<double>(std::max<int64_t>(1, s.min())), most = static_cast<double>(std::max<int64_t>(1, s.max()));
        const double size = std::clamp(std::round(least * each), 1.0, most);
        sizes.emplace(s, static_cast<int64_t>(size));
        multiple = std::max(1.0, multiple * least / size);
      }
    }
    return sizes;
  }

  // For these sizes, but right at all.
  static Dispatch at(const Dispatch &d, const Sizes &sizes) {
    std::map<Symbol, Expr> renamed;
    for (const auto &[s, size] : sizes) // in their order, which that of a kernel's params follows
      renamed.emplace(s, Symbol::dim(s.name(), s.min(), s.max(), size));
    return dispatch::rewrite(d, [&](const Expr &e) { return e.substitute(renamed); });
  }

  // For what it stores being one point, and right there alone: its free axes go, and what multiplies them is 1.
  // Nothing where something would be divided by what is 0 then (it is not executed, but has no form).
  static std::optional<Dispatch> at_one(const Dispatch &d) {
    std::map<std::string, int64_t> known; // atoms by their text
    for (uint32_t a : d.stores[0].axes) {
      const Expr &extent = d.axes[a].extent;
      int64_t rest = 1; // what the terms that are no constant come to
      const Term *only = nullptr;
      bool single = true;
      for (const Term &term : extent.terms())
        if (term.factors.empty()) {
          rest -= term.coefficient;
        } else {
          single = single && !only;
          only = &term;
        }
      if (extent.is_constant() || !single || rest % only->coefficient != 0)
        continue;
      rest /= only->coefficient;
      bool positive = rest == 1; // factors of 1 that are 1 or more
      for (const auto &factor : only->factors)
        positive = positive && Expr::from_terms({{1, {factor}}}).lower() >= 1;
      if (only->factors.size() == 1 || positive)
        for (const auto &factor : only->factors)
          known.emplace(factor->key, rest);
    }
    bool sound = true;
    auto of_dims = [](const Atom &a) { // an axis may have a dim's name
      auto dim = [](const Symbol &s) { return s.kind() == SymbolKind::kDim; };
      if (a.op == ExprOp::kSymbol)
        return dim(a.symbol);
      return std::all_of(a.args.begin(), a.args.end(), [&](const Expr &x) {
        const std::vector<Symbol> symbols = x.symbols();
        return std::all_of(symbols.begin(), symbols.end(), dim);
      });
    };
    const std::function<std::optional<Expr>(const Atom &)> value = [&](const Atom &a) -> std::optional<Expr> {
      if (auto it = known.find(a.key); it != known.end() && of_dims(a))
        return Expr(it->second);
      if (a.op == ExprOp::kFloorDiv || a.op == ExprOp::kMod)
        if (auto by = a.args[1].replace(value).constant(); by && *by <= 0) {
          sound = false;
          return Expr(0);
        }
      return std::nullopt;
    };
    Dispatch out = dispatch::rewrite(d, [&](const Expr &e) { return e.replace(value); });
    if (!sound)
      return std::nullopt;
    for (uint32_t a : d.stores[0].axes)
      if (!d.axes[a].extent.is_constant())
        out.axes[a].extent = 1;
    return out;
  }

  bool divide(const Step &step, Steps &out) {
    const Dispatch d = p_.dispatches[step.dispatch];
    if (d.loop || d.sequence || d.stores.empty())
      return false;
    std::vector<Symbol> dims;
    for (const Symbol &s : d.free_symbols())
      if (s.kind() == SymbolKind::kDim)
        dims.push_back(s);
      else
        return false; // a host scalar: known too late
    std::sort(dims.begin(), dims.end());
    SizeRange range;
    range.measure = 1;
    for (uint32_t a : d.stores[0].axes)
      if (!d.axes[a].extent.is_constant())
        range.measure = range.measure * d.axes[a].extent;
    if (dims.empty() || range.measure.is_constant())
      return false;
    auto measured = [&](double multiple) {
      const Sizes sizes = sizes_at(dims, multiple);
      return range.measure.evaluate([&](const Symbol &s) -> std::optional<int64_t> { return sizes.at(s); }).value_or(INT64_MAX);
    };
    std::vector<std::pair<SizeRange, Dispatch>> versions;
    if (range.measure.lower() == 1 && measured(1) == 1)
      if (auto one = at_one(d)) {
        range.until = 2;
        versions.emplace_back(range, std::move(*one));
      }
    // Borders lie in the middle between neighbours, on the scale of their ratio.
    const int64_t most = measured(1e18);
    const bool wide = most / kWide >= measured(1);
    for (size_t i = wide ? 0 : multiples_.size() - 1; i < multiples_.size(); ++i) {
      range.from = versions.empty() ? 0 : versions.back().first.until;
      range.until = INT64_MAX;
      if (i + 1 < multiples_.size())
        range.until = measured(std::sqrt(static_cast<double>(multiples_[i]) * static_cast<double>(multiples_[i + 1])));
      if (range.from < range.until && range.from <= most)
        versions.emplace_back(range, at(d, sizes_at(dims, static_cast<double>(multiples_[i]))));
    }
    if (versions.size() < 2)
      return false;
    versions.back().first.until = INT64_MAX;
    ++groups_;
    for (auto &[where, version] : versions) {
      Step one = step;
      one.sizes = where;
      one.sizes->group = groups_;
      one.dispatch = static_cast<uint32_t>(p_.dispatches.size());
      p_.dispatches.push_back(std::move(version));
      out.push_back(std::move(one));
    }
    return true;
  }

  Program &p_;
  const std::vector<int64_t> &multiples_;
  std::set<Symbol> batches_; // first dims of inputs
  uint32_t groups_ = 0;
};

void join(Steps &steps, const std::vector<uint32_t> &kernel_of) {
  // How many steps each version has: those of several stay.
  std::map<std::pair<uint32_t, int64_t>, size_t> count;
  for (const Step &step : steps)
    if (step.sizes)
      ++count[{step.sizes->group, step.sizes->from}];
  Steps out;
  for (Step &step : steps) {
    join(step.then, kernel_of);
    join(step.otherwise, kernel_of);
    const bool joins = step.sizes && !out.empty() && out.back().sizes && out.back().sizes->group == step.sizes->group &&
                       out.back().sizes->until == step.sizes->from && count.at({step.sizes->group, step.sizes->from}) == 1 &&
                       count.at({step.sizes->group, out.back().sizes->from}) == 1 && out.back().operands == step.operands &&
                       kernel_of[out.back().dispatch] == kernel_of[step.dispatch];
    if (!joins) {
      out.push_back(std::move(step));
      continue;
    }
    out.back().dispatch = step.dispatch; // the first may be right for one point alone
    out.back().sizes->until = step.sizes->until;
    if (out.back().sizes->from == 0 && out.back().sizes->until == INT64_MAX)
      out.back().sizes.reset();
  }
  steps = std::move(out);
}

} // namespace

void specialise_sizes(Program &program, const std::vector<int64_t> &multiples) {
  if (multiples.size() > 1)
    Specialise(program, multiples).run();
}

void join_sizes(Program &program, const std::vector<uint32_t> &kernel_of) { join(program.steps, kernel_of); }

} // namespace ingot::aotc::fuse
