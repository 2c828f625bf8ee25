// Uniform arithmetic of kernels as params. See schedule.h.
#include <functional>
#include <iterator>
#include <map>
#include <set>

#include "aotc/kernel/rewrite.h"
#include "aotc/schedule/schedule.h"

namespace ingot::aotc::schedule {

using kernel::Op;
using kernel::Opcode;
using kernel::Region;
using kernel::ValueId;

namespace {

constexpr size_t kMostParams = 32; // a launch copies them

class HostParams {
 public:
  HostParams(kernel::Kernel &kernel, std::vector<Expr> params) : k_(kernel), params_(std::move(params)) {}

  std::vector<Expr> run() {
    find(k_.body);
    for (ValueId v : divisors_) // first, where there is not room for all
      if (const size_t at = param(v); at < params_.size())
        reciprocal(at);
    for (ValueId v : needed_)
      param(v);
    remove(k_.body);
    std::vector<Op> leaves;
    for (const auto &[v, param] : replaced_) {
      Op &leaf = leaves.emplace_back();
      leaf.code = Opcode::kParam;
      leaf.imm = static_cast<int64_t>(param);
      leaf.results = {v};
    }
    k_.body.ops.insert(k_.body.ops.begin(), std::make_move_iterator(leaves.begin()), std::make_move_iterator(leaves.end()));
    kernel::remove_dead_ops(k_);
    drop_unused();
    return std::move(params_);
  }

 private:
  bool is_index(ValueId v) const { return k_.types[v] == Type(Scalar::kIndex); }

  std::optional<Expr> value(const Op &op) const {
    if (op.results.size() != 1 || !is_index(op.results[0]) || !op.regions.empty())
      return std::nullopt;
    if (op.code == Opcode::kConst)
      return Expr(op.imm);
    if (op.code == Opcode::kParam)
      return params_[static_cast<size_t>(op.imm)];
    std::vector<Expr> x;
    for (ValueId v : op.operands) {
      auto it = known_.find(v);
      if (it == known_.end())
        return std::nullopt;
      x.push_back(it->second);
    }
    const bool divides = x.size() == 2 && x[0].lower() >= 0 && x[1].lower() >= 1; // rounding down is rounding to 0
    switch (op.code) {
    case Opcode::kAdd: return x[0] + x[1];
    case Opcode::kSub: return x[0] - x[1];
    case Opcode::kMul: return x[0] * x[1];
    case Opcode::kMad: return x[0] * x[1] + x[2];
    case Opcode::kMin: return min(x[0], x[1]);
    case Opcode::kMax: return max(x[0], x[1]);
    case Opcode::kDiv: return divides ? std::optional(floordiv(x[0], x[1])) : std::nullopt;
    case Opcode::kRem: return divides ? std::optional(mod(x[0], x[1])) : std::nullopt;
    default: return std::nullopt;
    }
  }

  // Values that the host knows, and those of them that others use.
  void find(const Region &region) {
    for (const Op &op : region.ops) {
      if (auto e = value(op)) {
        known_.emplace(op.results[0], std::move(*e));
        continue;
      }
      for (size_t i = 0; i < op.operands.size(); ++i)
        if (auto it = known_.find(op.operands[i]); it != known_.end() && !it->second.is_constant()) {
          const bool divides = i == 1 && (op.code == Opcode::kDiv || op.code == Opcode::kRem) && is_index(op.operands[1]) && it->second.lower() >= 1;
          if ((divides ? divisors_seen_ : needed_seen_).insert(op.operands[i]).second)
            (divides ? divisors_ : needed_).push_back(op.operands[i]);
        }
      for (const Region &inner : op.regions)
        find(inner);
    }
  }

  // The param that is worth what the value is, params_.size() where there is no room for one more.
  size_t param(ValueId v) {
    const Expr &e = known_.at(v);
    for (size_t i = 0; i < params_.size(); ++i)
      if (k_.params[i].type == Scalar::kIndex && k_.params[i].reciprocal_of < 0 && params_[i] == e)
        return replaced_[v] = i;
    if (params_.size() >= kMostParams)
      return params_.size();
    kernel::Param p;
    p.name = "h" + std::to_string(params_.size());
    p.min = e.lower();
    p.max = e.upper();
    replaced_[v] = params_.size();
    k_.params.push_back(std::move(p));
    params_.push_back(e);
    return params_.size() - 1;
  }

  void reciprocal(size_t of) {
    for (const kernel::Param &p : k_.params)
      if (p.reciprocal_of == static_cast<int32_t>(of))
        return;
    if (params_.size() >= kMostParams)
      return;
    const Expr d = params_[of], r = floordiv(Expr(int64_t{UINT32_MAX}), max(d, 1));
    kernel::Param p;
    p.name = "r" + std::to_string(params_.size());
    p.reciprocal_of = static_cast<int32_t>(of);
    k_.params.push_back(std::move(p));
    params_.push_back(select(less(d, 2), -1, r)); // 2^32 - 1 as a signed word
  }

  void remove(Region &region) {
    std::erase_if(region.ops, [&](const Op &op) { return op.results.size() == 1 && replaced_.count(op.results[0]); });
    for (Op &op : region.ops)
      for (Region &inner : op.regions)
        remove(inner);
  }

  void drop_unused() {
    std::set<int64_t> used;
    const std::function<void(Region &, const std::function<void(Op &)> &)> each = [&](Region &region, const std::function<void(Op &)> &visit) {
      for (Op &op : region.ops) {
        if (op.code == Opcode::kParam)
          visit(op);
        for (Region &inner : op.regions)
          each(inner, visit);
      }
    };
    each(k_.body, [&](Op &op) { used.insert(op.imm); });
    std::vector<kernel::Param> kept;
    std::vector<Expr> values;
    std::map<int64_t, int64_t> now;
    for (size_t i = 0; i < params_.size(); ++i) {
      const int32_t of = k_.params[i].reciprocal_of;
      if (!used.count(of >= 0 ? of : static_cast<int64_t>(i)))
        continue;
      now[static_cast<int64_t>(i)] = static_cast<int64_t>(kept.size());
      kept.push_back(k_.params[i]);
      if (of >= 0)
        kept.back().reciprocal_of = static_cast<int32_t>(now.at(of));
      values.push_back(params_[i]);
    }
    each(k_.body, [&](Op &op) { op.imm = now.at(op.imm); });
    k_.params = std::move(kept);
    params_ = std::move(values);
  }

  kernel::Kernel &k_;
  std::vector<Expr> params_;
  std::map<ValueId, Expr> known_;
  std::map<ValueId, size_t> replaced_;
  std::vector<ValueId> divisors_, needed_;
  std::set<ValueId> divisors_seen_, needed_seen_;
};

} // namespace

void move_to_params(Scheduled &s, const dispatch::Dispatch &d) {
  std::vector<Expr> params;
  if (d.loop)
    params = d.loop->params;
  else
    for (const Symbol &symbol : d.free_symbols())
      params.push_back(symbol);
  if (params.size() == s.kernel.params.size())
    s.params = HostParams(s.kernel, std::move(params)).run();
}

} // namespace ingot::aotc::schedule
