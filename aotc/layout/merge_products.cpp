// See merge_products.h.
#include "aotc/layout/merge_products.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "aotc/base/error.h"

namespace ingot::aotc::layout {
namespace {

using graph::ConstantData;
using graph::Op;
using graph::Opcode;
using graph::ValueId;

// contract(x, weights), reshaped or not, with a bias or not.
struct Product {
  size_t contract = 0, last = 0;           // positions in the graph's ops; `last` gives the result
  const Op *weights = nullptr, *bias = nullptr;
  size_t bias_side = 0;                    // of the addition
  graph::TensorType shaped;                // of the result
  int64_t columns = 0;
  bool columns_first = false;              // weights [n][k]
};

class Merger {
 public:
  explicit Merger(graph::Function function) : f_(std::move(function)) {}

  graph::Function run() {
    definitions_.resize(f_.values.size());
    users_.resize(f_.values.size());
    outside_.resize(f_.values.size());
    scan(f_.graph);
    rewrite(f_.graph);
    std::string problem = graph::verify(f_);
    ensure(problem.empty(), "merge products: " + problem);
    return std::move(f_);
  }

 private:
  void scan(const graph::Graph &graph) {
    for (const Op &op : graph.ops) {
      auto kept = std::make_shared<const Op>(op);
      for (ValueId result : op.results)
        definitions_[result] = kept;
      for (ValueId operand : op.operands)
        users_[operand].push_back(kept);
      for (const graph::Graph &region : op.regions)
        scan(region);
    }
    for (const graph::Signature &output : graph.outputs)
      outside_[output.value] = true;
  }

  const Op *definition(ValueId v, Opcode code) const {
    const Op *op = definitions_[v].get();
    return op && op->code == code ? op : nullptr;
  }
  const Op *only_user(ValueId v) const { return users_[v].size() == 1 && !outside_[v] ? users_[v][0].get() : nullptr; }

  bool feeds_products(ValueId v) const {
    if (outside_[v] || users_[v].empty())
      return false;
    for (const auto &user : users_[v]) {
      const bool view = user->code == Opcode::kReshape || user->code == Opcode::kTranspose;
      if (user->code != Opcode::kContract && !(view && feeds_products(user->results[0])))
        return false;
    }
    return true;
  }

  // Rank-1 f32 data that is added along the last axis.
  const Op *bias_of(ValueId v) const {
    const Op *broadcast = definition(v, Opcode::kBroadcast);
    const Op *constant = broadcast ? definition(broadcast->operands[0], Opcode::kConstant) : nullptr;
    const size_t rank = f_.values[v].type.dims.size();
    return constant && f_.values[constant->results[0]].type.dims.size() == 1 && broadcast->axes == std::vector<uint32_t>{static_cast<uint32_t>(rank - 1)}
               ? constant
               : nullptr;
  }

  std::optional<Product> match(const Op &op) const {
    if (op.code != Opcode::kContract || f_.values[op.results[0]].type.element != ElementType::kF32)
      return std::nullopt;
    Product p;
    p.weights = definition(op.operands[1], Opcode::kConstant);
    const std::string &a = op.labels[0], &b = op.labels[1], &result = op.labels[2];
    if (!p.weights || b.size() != 2 || users_[op.operands[1]].size() != 1 || result.size() != a.size())
      return std::nullopt;
    const char n = result.back();
    p.columns_first = b[0] == n;
    if ((b[0] != n && b[1] != n) || a.find(n) != std::string::npos)
      return std::nullopt;
    const auto columns = f_.values[op.operands[1]].type.dims[p.columns_first ? 0 : 1].constant();
    if (!columns)
      return std::nullopt;
    p.columns = *columns;
    ValueId last = op.results[0];
    const Op *user = only_user(last);
    if (user && user->code == Opcode::kReshape && f_.values[user->results[0]].type.dims.back() == Expr(p.columns)) {
      last = user->results[0];
      user = only_user(last);
    }
    if (user && user->code == Opcode::kMap && user->map == kernel::Opcode::kAdd) {
      p.bias_side = user->operands[0] == last ? 1 : 0;
      p.bias = bias_of(user->operands[p.bias_side]);
      if (!p.bias)
        return std::nullopt;
      last = user->results[0];
    }
    p.shaped = f_.values[last].type;
    if (!feeds_products(last))
      return std::nullopt;
    results_[op.results[0]] = last;
    return p;
  }

  // Two products are alike whose keys are equal: the same elements in the same arrangement, and results of one shape.
  std::string key(const Op &op, const Product &p) const {
    ValueId x = op.operands[0];
    const std::string shape = graph::to_string(f_.values[x].type);
    if (const Op *view = definition(x, Opcode::kReshape))
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

  void merge(graph::Graph &graph, const Op &first, const std::vector<Product> &parts, const std::vector<ValueId> &results) {
    graph::GraphBuilder b(f_, graph);
    b.set_origin(first.node, first.source);
    int64_t columns = 0;
    for (const Product &p : parts)
      columns += p.columns;
    const std::vector<Expr> &one = f_.values[first.operands[1]].type.dims;
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
      graph.ops.back().results[0] = results[i];
      start += parts[i].columns;
    }
  }

  void rewrite(graph::Graph &graph) {
    std::vector<Op> ops = std::move(graph.ops);
    graph.ops.clear();
    std::map<std::string, std::vector<size_t>> groups;
    std::map<size_t, Product> products;
    for (size_t i = 0; i < ops.size(); ++i)
      if (auto p = match(ops[i])) {
        groups[key(ops[i], *p)].push_back(i);
        products.emplace(i, *p);
      }
    std::map<ValueId, bool> replaced; // what gives it is dropped
    for (size_t i = 0; i < ops.size(); ++i) {
      Op &op = ops[i];
      for (graph::Graph &region : op.regions)
        rewrite(region);
      auto own = products.find(i);
      const std::vector<size_t> *group = own == products.end() ? nullptr : &groups[key(op, own->second)];
      if (group && group->size() > 1) {
        if (group->front() == i) {
          std::vector<Product> parts;
          std::vector<ValueId> results;
          for (size_t member : *group) {
            parts.push_back(products.at(member));
            results.push_back(results_.at(ops[member].results[0]));
            replaced[results.back()] = true;
          }
          merge(graph, op, parts, results);
        }
        continue;
      }
      if (op.results.size() == 1 && replaced.count(op.results[0]))
        continue;
      graph.ops.push_back(std::move(op));
    }
    drop_unused(graph);
  }

  // Reshapes between a product that is gone and its bias.
  void drop_unused(graph::Graph &graph) {
    std::vector<bool> made(f_.values.size());
    for (const Op &op : graph.ops)
      for (ValueId r : op.results)
        made[r] = true;
    std::erase_if(graph.ops, [&](const Op &op) {
      return op.code == Opcode::kReshape && results_.count(op.operands[0]) && !made[op.operands[0]];
    });
  }

  graph::Function f_;
  std::vector<std::shared_ptr<const Op>> definitions_; // before the rewrite
  std::vector<std::vector<std::shared_ptr<const Op>>> users_;
  std::vector<bool> outside_;
  mutable std::map<ValueId, ValueId> results_; // of a matched contraction: the value after its bias
};

} // namespace

graph::Function merge_products(graph::Function function) { return Merger(std::move(function)).run(); }

} // namespace ingot::aotc::layout
