// See lift_factors.h.
#include "aotc/layout/lift_factors.h"

#include <cmath>
#include <cstring>
#include <optional>
#include <set>
#include <vector>

#include "aotc/base/error.h"
#include "aotc/layout/uses.h"

namespace ingot::aotc::layout {
namespace {

using graph::Op;
using graph::Opcode;
using graph::ValueId;

class Lifter {
 public:
  explicit Lifter(const graph::Function &function) : uses_(function), out_(function) {}

  graph::Function run() {
    rewrite(out_.graph);
    std::string problem = graph::verify(out_);
    ensure(problem.empty(), "lift factors: " + problem);
    return std::move(out_);
  }

 private:
  // An operand that is `views`, the last one first, of `x` times or by `factor`.
  struct Scaled {
    std::vector<Op> views;
    Op scaling;
    ValueId x = graph::kNoValue;
    float factor = 1;
  };

  // Sums without it stay far from where f32 ends.
  static bool is_moderate(float factor) { return std::fabs(factor) >= 1.0f / 1024 && std::fabs(factor) <= 1024; }

  // The element that all of a value's are, if constants alone decide about it, by no more than so many ops.
  std::optional<float> scalar(ValueId v, int most = 8) const {
    const Op *op = most ? uses_.definition(v) : nullptr;
    const ElementType type = out_.values[v].type.element;
    float value = 0;
    if (!op)
      return std::nullopt;
    switch (op->code) {
    case Opcode::kBroadcast:
    case Opcode::kReshape: return scalar(op->operands[0], most - 1);
    case Opcode::kSplat:
    case Opcode::kConstant:
      if (type != ElementType::kF32 || op->constant->bytes.size() != sizeof value)
        return std::nullopt;
      std::memcpy(&value, op->constant->bytes.data(), sizeof value);
      return value;
    case Opcode::kHostTensor:
      if (auto number = op->exprs.size() == 1 ? op->exprs[0].constant() : std::nullopt)
        return static_cast<float>(*number);
      return std::nullopt;
    case Opcode::kMap: break;
    default: return std::nullopt;
    }
    const auto x = scalar(op->operands[0], most - 1), y = op->operands.size() == 2 ? scalar(op->operands[1], most - 1) : x;
    if (type != ElementType::kF32 || !x || !y)
      return std::nullopt;
    switch (op->map) {
    case kernel::Opcode::kConvert: return x;
    case kernel::Opcode::kSqrt: return std::sqrt(*x);
    case kernel::Opcode::kMul: return *x * *y;
    case kernel::Opcode::kDiv: return *x / *y;
    default: return std::nullopt;
    }
  }

  std::optional<Scaled> scaled(ValueId v) const {
    Scaled out;
    for (; uses_.only_user(v); v = out.views.back().operands[0]) {
      const Op *op = uses_.definition(v);
      if (op && (op->code == Opcode::kTranspose || op->code == Opcode::kReshape)) {
        out.views.push_back(*op);
        continue;
      }
      if (!op || op->code != Opcode::kMap || (op->map != kernel::Opcode::kMul && op->map != kernel::Opcode::kDiv))
        return std::nullopt;
      for (size_t side = op->map == kernel::Opcode::kDiv ? 1 : 0; side < 2; ++side)
        if (auto factor = scalar(op->operands[side]); factor && is_moderate(*factor)) {
          out.scaling = *op;
          out.x = op->operands[1 - side];
          out.factor = *factor;
          return out;
        }
      return std::nullopt;
    }
    return std::nullopt;
  }

  void rewrite(graph::Graph &graph) {
    std::vector<Op> ops = std::move(graph.ops);
    graph.ops.clear();
    std::set<ValueId> unused;
    for (Op &op : ops) {
      for (graph::Graph &region : op.regions)
        rewrite(region);
      std::vector<Scaled> factors;
      if (op.code == Opcode::kContract && out_.values[op.results[0]].type.element == ElementType::kF32)
        for (ValueId &operand : op.operands)
          if (auto s = scaled(operand)) {
            for (const Op &view : s->views)
              unused.insert(view.results[0]);
            unused.insert(s->scaling.results[0]);
            graph::GraphBuilder builder(out_, graph);
            operand = s->x;
            for (size_t i = s->views.size(); i-- > 0;) {
              const Op &view = s->views[i];
              builder.set_origin(view.node, view.source);
              operand = view.code == Opcode::kTranspose ? builder.transpose(operand, view.axes)
                                                        : builder.reshape(operand, out_.values[view.results[0]].type.dims);
            }
            factors.push_back(*std::move(s));
          }
      const ValueId result = op.results.empty() ? graph::kNoValue : op.results[0];
      if (!factors.empty()) {
        out_.values.push_back({out_.values[result].type, ""});
        op.results[0] = static_cast<ValueId>(out_.values.size() - 1);
      }
      ValueId product = op.results.empty() ? graph::kNoValue : op.results[0];
      graph.ops.push_back(std::move(op));
      for (const Scaled &s : factors) {
        graph::GraphBuilder builder(out_, graph);
        builder.set_origin(s.scaling.node, s.scaling.source);
        product = builder.map(s.scaling.map, {product, builder.splat_float(ElementType::kF32, out_.values[result].type.dims, s.factor)});
      }
      if (!factors.empty())
        graph.ops.back().results[0] = result;
    }
    std::erase_if(graph.ops, [&](const Op &op) { return op.results.size() == 1 && unused.count(op.results[0]); });
  }

  const Uses uses_; // before the rewrite
  graph::Function out_;
};

} // namespace

graph::Function lift_factors(const graph::Function &function) { return Lifter(function).run(); }

} // namespace ingot::aotc::layout
