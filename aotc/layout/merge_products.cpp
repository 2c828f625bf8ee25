// See merge_products.h.
#include "aotc/layout/merge_products.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "aotc/base/error.h"
#include "aotc/layout/uses.h"

namespace ingot::aotc::layout {
namespace {

using graph::ConstantData;
using graph::Op;
using graph::Opcode;
using graph::ValueId;

// contract(x, weights), reshaped or not, with a bias or not.
struct Product {
  const Op *weights = nullptr, *bias = nullptr;
  std::vector<ValueId> chain; // from the contraction to the result, which comes last
  graph::TensorType shaped;   // of the result
  int64_t columns = 0;
  bool columns_first = false; // weights [n][k]
};

class Merger {
 public:
  explicit Merger(const graph::Function &function) : uses_(function), out_(function) {}

  graph::Function run() {
    rewrite(out_.graph);
    std::string problem = graph::verify(out_);
    ensure(problem.empty(), "merge products: " + problem);
    return std::move(out_);
  }

 private:
  bool feeds_products(ValueId v, int views = 0) const {
    constexpr int kMostViews = 16;
    if (uses_.is_output(v) || uses_.users(v).empty() || views > kMostViews)
      return false;
    return std::all_of(uses_.users(v).begin(), uses_.users(v).end(), [&](const Op *user) {
      const bool view = user->code == Opcode::kReshape || user->code == Opcode::kTranspose;
      return user->code == Opcode::kContract || (view && feeds_products(user->results[0], views + 1));
    });
  }

  // Rank-1 data that is added along the last axis.
  const Op *bias_of(ValueId v) const {
    const Op *broadcast = uses_.definition(v, Opcode::kBroadcast);
    const Op *constant = broadcast ? uses_.definition(broadcast->operands[0], Opcode::kConstant) : nullptr;
    const std::vector<uint32_t> last = {static_cast<uint32_t>(out_.values[v].type.dims.size() - 1)};
    return constant && out_.values[constant->results[0]].type.dims.size() == 1 && broadcast->axes == last ? constant : nullptr;
  }

  std::optional<Product> match(const Op &op) const {
    if (op.code != Opcode::kContract || out_.values[op.results[0]].type.element != ElementType::kF32)
      return std::nullopt;
    Product p;
    p.weights = uses_.definition(op.operands[1], Opcode::kConstant);
    const std::string &a = op.labels[0], &b = op.labels[1], &result = op.labels[2];
    if (!p.weights || b.size() != 2 || result.empty() || uses_.users(op.operands[1]).size() != 1 || result.size() != a.size())
      return std::nullopt;
    const char n = result.back();
    p.columns_first = b[0] == n;
    if ((b[0] != n && b[1] != n) || a.find(n) != std::string::npos)
      return std::nullopt;
    const auto columns = out_.values[op.operands[1]].type.dims[p.columns_first ? 0 : 1].constant();
    if (!columns)
      return std::nullopt;
    p.columns = *columns;
    p.chain = {op.results[0]};
    const Op *user = uses_.only_user(p.chain.back());
    const std::vector<Expr> *reshaped = user && user->code == Opcode::kReshape ? &out_.values[user->results[0]].type.dims : nullptr;
    if (reshaped && !reshaped->empty() && reshaped->back() == Expr(p.columns)) {
      p.chain.push_back(user->results[0]);
      user = uses_.only_user(p.chain.back());
    }
    if (user && user->code == Opcode::kMap && user->map == kernel::Opcode::kAdd) {
      p.bias = bias_of(user->operands[user->operands[0] == p.chain.back() ? 1 : 0]);
      if (!p.bias)
        return std::nullopt;
      p.chain.push_back(user->results[0]);
    }
    p.shaped = out_.values[p.chain.back()].type;
    return feeds_products(p.chain.back()) ? std::optional(std::move(p)) : std::nullopt;
  }

  // Two products are alike whose keys are equal: the same elements in the same arrangement, and results of one shape.
  std::string key(const Op &op, const Product &p) const {
    ValueId x = op.operands[0];
    const std::string shape = graph::to_string(out_.values[x].type);
    if (const Op *view = uses_.definition(x, Opcode::kReshape))
      x = view->operands[0];
    graph::TensorType rows = p.shaped;
    rows.dims.pop_back();
    return std::to_string(x) + " " + shape + " " + op.labels[0] + "," + op.labels[1] + "," + op.labels[2] + " " + graph::to_string(rows) + (p.bias ? " bias" : "");
  }

  static std::shared_ptr<const ConstantData> joined(const std::vector<Product> &parts, const Op *Product::*member, int64_t rows) {
    auto data = std::make_shared<ConstantData>();
    data->type = ElementType::kF32;
    for (int64_t row = 0; row < rows; ++row)
      for (const Product &p : parts) {
        const std::vector<uint8_t> &from = (p.*member)->constant->bytes;
        const auto bytes = static_cast<std::ptrdiff_t>(from.size()) / rows;
        data->bytes.insert(data->bytes.end(), from.begin() + row * bytes, from.begin() + (row + 1) * bytes);
      }
    return data;
  }

  void merge(graph::Graph &graph, const Op &first, const std::vector<Product> &parts) {
    graph::GraphBuilder b(out_, graph);
    b.set_origin(first.node, first.source);
    int64_t columns = 0;
    for (const Product &p : parts)
      columns += p.columns;
    const std::vector<Expr> &one = out_.values[first.operands[1]].type.dims;
    const bool columns_first = parts[0].columns_first;
    const Expr depth = one[columns_first ? 1 : 0];
    ValueId w = b.constant({ElementType::kF32, columns_first ? std::vector<Expr>{columns, depth} : std::vector<Expr>{depth, columns}},
                           joined(parts, &Product::weights, columns_first ? 1 : *depth.constant()));
    ValueId y = b.contract(first.operands[0], w, first.labels[0], first.labels[1], first.labels[2]);
    std::vector<Expr> dims = parts[0].shaped.dims;
    dims.back() = columns;
    y = b.reshape(y, dims);
    const auto last = static_cast<uint32_t>(dims.size() - 1);
    if (parts[0].bias)
      y = b.map(kernel::Opcode::kAdd, {y, b.broadcast(b.constant({ElementType::kF32, {columns}}, joined(parts, &Product::bias, 1)), {last}, dims)});
    int64_t start = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
      std::vector<Expr> starts(dims.size(), 0);
      starts.back() = start;
      dims.back() = parts[i].columns;
      b.slice(y, starts, std::vector<int64_t>(dims.size(), 1), dims);
      graph.ops.back().results[0] = parts[i].chain.back();
      start += parts[i].columns;
    }
  }

  void rewrite(graph::Graph &graph) {
    std::vector<Op> ops = std::move(graph.ops);
    graph.ops.clear();
    std::map<std::string, std::vector<Product>> groups;
    for (const Op &op : ops)
      if (auto p = match(op))
        groups[key(op, *p)].push_back(*std::move(p));
    std::set<ValueId> replaced; // what gives them is dropped
    for (Op &op : ops) {
      for (graph::Graph &region : op.regions)
        rewrite(region);
      if (auto p = match(op)) {
        const std::vector<Product> &group = groups[key(op, *p)];
        if (group.size() > 1 && group.front().chain == p->chain) {
          merge(graph, op, group);
          for (const Product &member : group)
            replaced.insert(member.chain.begin(), member.chain.end());
        }
      }
      if (op.results.size() != 1 || !replaced.count(op.results[0]))
        graph.ops.push_back(std::move(op));
    }
  }

  const Uses uses_; // before the rewrite
  graph::Function out_;
};

} // namespace

graph::Function merge_products(const graph::Function &function) { return Merger(function).run(); }

} // namespace ingot::aotc::layout
