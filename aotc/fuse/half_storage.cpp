// See half_storage.h.
#include "aotc/fuse/half_storage.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "aotc/base/error.h"
#include "aotc/graph/constant.h"
#include "aotc/schedule/collapse.h"
#include "aotc/schedule/contraction.h"
#include "aotc/schedule/simt/fragments.h"
#include "aotc/schedule/simt/vectors.h"
#include "aotc/schedule/sinks.h"

namespace ingot::aotc::fuse {
namespace {

using dispatch::Dispatch;
using dispatch::Value;
using dispatch::ValueKind;

constexpr int64_t kSmall = 4096, kSmallConstant = 65536; // elements
constexpr double kLargest = 65504, kLeastPeak = 0x1p-8; // of a constant's magnitudes

bool suits_half(const graph::ConstantData &data) {
  double peak = 0;
  for (size_t i = 0; i < data.bytes.size() / byte_size(data.type); ++i) {
    const double x = std::fabs(graph::read_float(data, i));
    if (std::isfinite(x))
      peak = std::max(peak, x);
  }
  return peak == 0 || (peak >= kLeastPeak && peak <= kLargest);
}

// Operands whose elements decide about positions: an index or an integer comes of them, or an output that is `wanted` for
// one. What is summed does not: each element has a small share in it.
std::vector<bool> positions(const Dispatch &d, const std::vector<bool> &wanted) {
  std::vector<bool> decides(d.values.size(), false), found(d.operands.size(), false);
  auto symbols = [&](const Expr &e) {
    for (const Symbol &s : e.symbols())
      if (s.kind() == SymbolKind::kValue)
        decides[s.value()] = true;
  };
  for (const dispatch::Store &s : d.stores) {
    symbols(s.offset);
    if (wanted[s.operand])
      decides[s.value] = true;
  }
  for (size_t i = d.values.size(); i-- > 0;) {
    const Value &v = d.values[i];
    if (v.kind == ValueKind::kLoad || v.kind == ValueKind::kIndex)
      symbols(v.expr);
    for (const dispatch::Guard &g : v.guards) {
      symbols(g.value);
      symbols(g.extent);
    }
    const bool converts = v.kind == ValueKind::kOp && is_integer(v.type) && is_float(d.values[v.args[0]].type) &&
                          (v.code == kernel::Opcode::kConvert || v.code == kernel::Opcode::kConvertU ||
                           v.code == kernel::Opcode::kBitcast);
    if (converts)
      decides[i] = true;
    if (!decides[i])
      continue;
    const bool sums = v.kind == ValueKind::kReduce && (v.reduce == dispatch::ReduceKind::kAdd || v.reduce == dispatch::ReduceKind::kMul);
    for (dispatch::ValueId a : v.args)
      decides[a] = decides[a] || !sums;
    if (v.kind == ValueKind::kLoad)
      found[v.operand] = true;
  }
  return found;
}

// The dispatch with those of its f32 operands stored as f16.
Dispatch converted(const Dispatch &d, const std::vector<bool> &half) {
  Dispatch out = d;
  for (size_t o = 0; o < half.size(); ++o)
    if (half[o])
      out.operands[o].type = ElementType::kF16;
  out.values.clear();
  std::vector<dispatch::ValueId> now(d.values.size());
  std::map<Symbol, Expr> renamed;
  auto add = [&](Value v) {
    out.values.push_back(std::move(v));
    return static_cast<dispatch::ValueId>(out.values.size() - 1);
  };
  auto convert = [&](dispatch::ValueId from, ElementType to) {
    Value v;
    v.kind = ValueKind::kOp;
    v.code = kernel::Opcode::kConvert;
    v.type = to;
    v.args = {from};
    return add(v);
  };
  // Gathered indices are named by their value's number.
  auto expr = [&](Expr &e) {
    for (const Symbol &s : e.symbols())
      if (s.kind() == SymbolKind::kValue && !renamed.count(s))
        renamed.emplace(s, Symbol::value("v" + std::to_string(now[s.value()]), now[s.value()], s.extent()->substitute(renamed)));
    e = e.substitute(renamed);
  };
  for (size_t i = 0; i < d.values.size(); ++i) {
    Value v = d.values[i];
    for (dispatch::ValueId &a : v.args)
      a = now[a];
    if (v.kind == ValueKind::kLoad || v.kind == ValueKind::kIndex)
      expr(v.expr);
    for (dispatch::Guard &g : v.guards) {
      expr(g.value);
      expr(g.extent);
    }
    const bool narrow = v.kind == ValueKind::kLoad && half[v.operand];
    if (v.otherwise != dispatch::kNoValue) {
      Value otherwise = d.values[v.otherwise];
      v.otherwise = now[v.otherwise];
      if (narrow) {
        otherwise.type = ElementType::kF16;
        otherwise.fimm = graph::from_half(graph::to_half(otherwise.fimm));
        v.otherwise = add(otherwise);
      }
    }
    if (narrow)
      v.type = ElementType::kF16;
    now[i] = add(v);
    if (narrow)
      now[i] = convert(now[i], ElementType::kF32);
  }
  for (dispatch::Store &s : out.stores) {
    s.value = half[s.operand] ? convert(now[s.value], ElementType::kF16) : now[s.value];
    expr(s.offset);
  }
  for (dispatch::Check &c : out.checks)
    c.condition = now[c.condition];
  return out;
}

class HalfStorage {
 public:
  HalfStorage(Program &program, bool pairs) : p_(program), pairs_(pairs), group_(program.tensors.size()), keeps_(program.tensors.size()),
                                           decides_(program.tensors.size()) {}

  void run() {
    for (size_t t = 0; t < group_.size(); ++t) {
      group_[t] = static_cast<TensorId>(t);
      keeps_[t] = !suits(p_.tensors[t]);
    }
    each(p_.steps, [&](const Step &step) { look_at(step); });
    find_positions();
    std::vector<bool> whole(keeps_.size(), false); // groups with a member that keeps its type
    for (size_t t = 0; t < keeps_.size(); ++t)
      if (keeps_[t])
        whole[group(static_cast<TensorId>(t))] = true;
    std::vector<bool> half(keeps_.size());
    for (size_t t = 0; t < half.size(); ++t)
      half[t] = !whole[group(static_cast<TensorId>(t))];
    each(p_.steps, [&](const Step &step) {
      if (step.kind != Step::Kind::kDispatch)
        return;
      std::vector<bool> operands;
      bool any = false;
      for (TensorId t : step.operands) {
        operands.push_back(half[t]);
        any = any || half[t];
      }
      if (!any)
        return;
      Dispatch &d = p_.dispatches[step.dispatch];
      d = converted(d, operands);
      std::string problem = dispatch::verify(d);
      ensure(problem.empty(), "half storage: " + problem);
    });
    for (size_t t = 0; t < half.size(); ++t)
      if (half[t])
        narrow(p_.tensors[t]);
    if (pairs_) {
      for (TensorId t = 0; t < half.size(); ++t)
        if (p_.tensors[t].kind == Tensor::Kind::kInput && p_.tensors[t].type.element == ElementType::kF32 && !decides_[t] && schedule::typical(p_.tensors[t].type.elements()) >= kSmall)
          narrow_input(t);
      split_factors();
    }
  }

 private:
  static void each(const Steps &steps, const std::function<void(const Step &)> &visit) {
    for (const Step &step : steps) {
      visit(step);
      each(step.then, visit);
      each(step.otherwise, visit);
    }
  }

  static bool suits(const Tensor &t) {
    if (t.type.element != ElementType::kF32)
      return false;
    if (t.kind == Tensor::Kind::kConstant)
      return schedule::typical(t.type.elements()) >= kSmallConstant && suits_half(*t.constant);
    return t.kind == Tensor::Kind::kTransient && schedule::typical(t.type.elements()) >= kSmall;
  }

  void look_at(const Step &step) {
    switch (step.kind) {
    case Step::Kind::kDispatch: {
      const Dispatch &d = p_.dispatches[step.dispatch];
      if (d.loop || d.sequence)
        for (TensorId t : step.operands)
          keeps_[t] = true;
      break;
    }
    case Step::Kind::kReadScalar:
      keeps_[step.operands[0]] = true;
      break;
    case Step::Kind::kHost:
      for (TensorId t : step.operands)
        keeps_[t] = true;
      break;
    case Step::Kind::kCopy:
      join(step.operands[0], step.operands[1]);
      break;
    case Step::Kind::kLoop:
      for (const LoopStep::Carried &c : step.loop->carried)
        join(c.state, c.next);
      for (const LoopStep::Scan &s : step.loop->scans)
        join(s.slice, s.whole);
      break;
    case Step::Kind::kBind:
    case Step::Kind::kCheck:
    case Step::Kind::kIf:
      break;
    }
  }

  void find_positions() {
    for (bool found = true; found;) {
      found = false;
      each(p_.steps, [&](const Step &step) {
        if (step.kind != Step::Kind::kDispatch || p_.dispatches[step.dispatch].loop || p_.dispatches[step.dispatch].sequence)
          return;
        std::vector<bool> wanted;
        for (TensorId t : step.operands)
          wanted.push_back(decides_[t]);
        const std::vector<bool> decides = positions(p_.dispatches[step.dispatch], wanted);
        for (size_t o = 0; o < decides.size(); ++o)
          if (decides[o] && !decides_[step.operands[o]])
            found = decides_[step.operands[o]] = keeps_[step.operands[o]] = true;
      });
    }
  }

  static void narrow(Tensor &t) {
    t.type.element = ElementType::kF16;
    if (t.kind != Tensor::Kind::kConstant)
      return;
    auto data = std::make_shared<graph::ConstantData>();
    data->type = ElementType::kF16;
    for (size_t i = 0; i < t.constant->bytes.size() / byte_size(t.constant->type); ++i)
      graph::append_float(data->bytes, ElementType::kF16, graph::read_float(*t.constant, i));
    t.constant = std::move(data);
  }

  // An input of the model that products take stays f32, as the caller gives it; they take a copy of it in f16.
  void narrow_input(TensorId input) {
    const std::vector<uint32_t> uses = uses_of_tensors();
    std::optional<TensorId> copy;
    for (size_t s = 0; s < p_.steps.size(); ++s) {
      if (p_.steps[s].kind != Step::Kind::kDispatch)
        continue;
      for (size_t o = 0; o < p_.steps[s].operands.size(); ++o) {
        if (p_.steps[s].operands[o] != input || !factor_beside_half(p_.steps[s], static_cast<uint32_t>(o), uses))
          continue;
        if (!copy) {
          copy = insert_copy(input, s);
          ++s;
        }
        Dispatch &d = p_.dispatches[p_.steps[s].dispatch];
        std::vector<bool> half(d.operands.size());
        half[o] = true;
        d = converted(d, half);
        p_.steps[s].operands[o] = *copy;
        const std::string problem = dispatch::verify(d);
        ensure(problem.empty(), "half storage: " + problem);
      }
    }
  }

  // A dispatch before step `at` that rounds the tensor to f16; gives what it writes.
  TensorId insert_copy(TensorId of, size_t at) {
    Tensor t = p_.tensors[of];
    t.kind = Tensor::Kind::kTransient;
    t.index = 0;
    t.type.element = ElementType::kF16;
    const Expr count = t.type.elements();
    const auto made = static_cast<TensorId>(p_.tensors.size());
    p_.tensors.push_back(std::move(t));
    const std::string node = p_.steps[at].node;
    Dispatch d;
    d.name = "half_" + std::to_string(p_.dispatches.size());
    d.nodes = {node};
    d.operands = {{"x", ElementType::kF32, count, false, false, {}}, {"y", ElementType::kF16, count, true, false, {}}};
    const Symbol axis = Symbol::axis("i", count);
    d.axes = {{axis, count}};
    Value load;
    load.kind = ValueKind::kLoad;
    load.expr = Expr(axis);
    Value rounded;
    rounded.kind = ValueKind::kOp;
    rounded.code = kernel::Opcode::kConvert;
    rounded.type = ElementType::kF16;
    rounded.args = {0};
    d.values = {load, rounded};
    d.stores = {{1, Expr(axis), 1, {0}}};
    const std::string problem = dispatch::verify(d);
    ensure(problem.empty(), "half storage: " + problem);
    Step step;
    step.node = node;
    step.dispatch = static_cast<uint32_t>(p_.dispatches.size());
    step.operands = {of, made};
    p_.dispatches.push_back(std::move(d));
    p_.steps.insert(p_.steps.begin() + static_cast<std::ptrdiff_t>(at), std::move(step));
    return made;
  }

  // Is the operand, in f32, one factor of a product that matrix units would take if it were f16, and fast, 16 bytes at a time? The
  // other factor is f16, or will be two of f16.
  bool factor_beside_half(const Step &step, uint32_t operand, const std::vector<uint32_t> &uses) const {
    constexpr uint32_t kVector = 8;
    const Dispatch &d = p_.dispatches[step.dispatch];
    const auto form = product(schedule::split_axes(d));
    if (!form)
      return false;
    for (bool left : {true, false}) {
      const Value &factor = form->d.values[left ? form->left : form->right], &other = form->d.values[left ? form->right : form->left];
      if (factor.kind != ValueKind::kLoad || factor.operand != operand || factor.type != ElementType::kF32 || loads_of(d, operand) != 1 ||
          !schedule::comes_in_vectors(form->d, factor, form->k, kVector))
        continue;
      return (splits(form->d, other) && may_split(step.operands[other.operand], uses)) || schedule::half_load(form->d, left ? form->right : form->left).has_value();
    }
    return false;
  }

  // Constants in f32 that a single product takes, with another factor of f16.
  void split_factors() {
    const std::vector<uint32_t> uses = uses_of_tensors();
    each(p_.steps, [&](const Step &step) {
      if (step.kind != Step::Kind::kDispatch)
        return;
      Dispatch &d = p_.dispatches[step.dispatch];
      const auto operand = small_factor(d);
      if (!operand || !may_split(step.operands[*operand], uses))
        return;
      d = with_parts(d, *operand);
      split(p_.tensors[step.operands[*operand]]);
      std::string problem = dispatch::verify(d);
      ensure(problem.empty(), "half storage: " + problem);
    });
  }

  std::vector<uint32_t> uses_of_tensors() const {
    std::vector<uint32_t> uses(p_.tensors.size());
    each(p_.steps, [&](const Step &step) {
      for (TensorId t : step.operands)
        ++uses[t];
    });
    return uses;
  }
  bool may_split(TensorId tensor, const std::vector<uint32_t> &uses) const {
    const Tensor &t = p_.tensors[tensor];
    return t.kind == Tensor::Kind::kConstant && !t.splat && uses[tensor] == 1 && suits_half(*t.constant);
  }
  // Is the value a constant in f32 that the dispatch reads nowhere else?
  static bool splits(const Dispatch &d, const Value &v) {
    return v.kind == ValueKind::kLoad && v.type == ElementType::kF32 && v.guards.empty() && d.operands[v.operand].constant && loads_of(d, v.operand) == 1;
  }

  // A product in f32 that is large enough for matrix units.
  static std::optional<schedule::Contraction> product(const Dispatch &d) {
    constexpr int64_t kFewest = 16; // elements along m, n and k
    if (d.loop || d.sequence)
      return std::nullopt;
    auto form = schedule::match_contraction(d);
    if (!form || form->d.values[form->reduce].type != ElementType::kF32)
      return std::nullopt;
    const schedule::ProductAxes own = schedule::product_axes(*form);
    for (const std::vector<uint32_t> &axes : {own.left, own.right, form->k})
      if (schedule::typical_points(form->d, axes) < kFewest)
        return std::nullopt;
    return form;
  }
  static int64_t loads_of(const Dispatch &d, uint32_t operand) {
    return std::count_if(d.values.begin(), d.values.end(), [&](const Value &v) { return v.kind == ValueKind::kLoad && v.operand == operand; });
  }

  // The operand of a product that is constant and f32, where the other factor is f16 and matrix units take the product.
  static std::optional<uint32_t> small_factor(const Dispatch &d) {
    const auto form = product(d);
    if (!form)
      return std::nullopt;
    for (bool left : {true, false}) {
      const Value &small = form->d.values[left ? form->left : form->right];
      if (splits(form->d, small) && schedule::half_load(form->d, left ? form->right : form->left))
        return small.operand;
    }
    return std::nullopt;
  }

  // The product with that operand's f16 parts one after the other, summed over both.
  static Dispatch with_parts(const Dispatch &product, uint32_t operand) {
    std::vector<bool> half(product.operands.size());
    half[operand] = true;
    Dispatch d = converted(product, half);
    const auto axis = static_cast<uint32_t>(d.axes.size());
    const Symbol number = Symbol::axis("half", 2);
    d.axes.push_back({number, 2});
    Expr &count = d.operands[operand].count;
    for (Value &v : d.values) {
      if (v.kind == ValueKind::kLoad && v.operand == operand)
        v.expr = v.expr + count * Expr(number);
      if (v.kind == ValueKind::kReduce)
        v.axes.insert(v.axes.begin(), axis);
    }
    count = count * 2;
    return d;
  }

  static void split(Tensor &t) {
    auto data = std::make_shared<graph::ConstantData>();
    data->type = ElementType::kF16;
    const size_t count = t.constant->bytes.size() / byte_size(t.constant->type);
    for (bool low : {false, true})
      for (size_t i = 0; i < count; ++i) {
        const double x = graph::read_float(*t.constant, i), high = graph::from_half(graph::to_half(x));
        graph::append_float(data->bytes, ElementType::kF16, low ? (std::isfinite(high) ? x - high : 0) : x);
      }
    t.constant = std::move(data);
    t.type.element = ElementType::kF16;
    t.type.dims.insert(t.type.dims.begin(), 2);
  }

  // What copies connect has one type.
  TensorId group(TensorId t) {
    while (group_[t] != t)
      t = group_[t] = group_[group_[t]];
    return t;
  }
  void join(TensorId a, TensorId b) { group_[group(a)] = group(b); }

  Program &p_;
  bool pairs_;
  std::vector<TensorId> group_;
  std::vector<bool> keeps_, decides_;
};

} // namespace

void store_as_half(Program &program, bool pairs) { HalfStorage(program, pairs).run(); }

} // namespace ingot::aotc::fuse
