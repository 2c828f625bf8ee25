// See split_constants.h.
#include "aotc/layout/split_constants.h"

#include <algorithm>
#include <map>

#include "aotc/base/error.h"
#include "aotc/graph/constant.h"

namespace ingot::aotc::layout {
namespace {

using graph::Op;
using graph::Opcode;
using graph::ValueId;

class Splitter {
 public:
  Splitter(const graph::Function &function, uint64_t most_bytes) : out_(function), builder_(out_, out_.graph), most_(most_bytes) {}

  graph::Function run() {
    rewrite(out_.graph);
    std::string problem = graph::verify(out_);
    ensure(problem.empty(), "split constants: " + problem);
    return std::move(out_);
  }

 private:
  void rewrite(graph::Graph &graph) {
    std::vector<Op> ops = std::move(graph.ops);
    graph.ops.clear();
    for (Op &op : ops) {
      for (graph::Graph &region : op.regions)
        rewrite(region);
      if (op.code == Opcode::kConstant || (op.code == Opcode::kSplat && out_.values[op.results[0]].type.elements().is_constant()))
        constants_[op.results[0]] = {op.code, op.constant};
      if (op.code != Opcode::kContract || !split(op, graph))
        graph.ops.push_back(std::move(op));
    }
  }

  bool split(const Op &op, graph::Graph &graph) {
    for (size_t side = 0; side < 2; ++side) {
      auto found = constants_.find(op.operands[side]);
      if (found == constants_.end() || bytes_of(op.operands[side]) <= most_)
        continue;
      const std::string &own = op.labels[side], &other = op.labels[1 - side], &result = op.labels[2];
      for (size_t axis = 0; axis < own.size(); ++axis)
        if (result.find(own[axis]) != std::string::npos && other.find(own[axis]) == std::string::npos) {
          split_along(op, side, axis, found->second, graph);
          return true;
        }
    }
    return false;
  }

  uint64_t bytes_of(ValueId v) const {
    const graph::TensorType &type = out_.values[v].type;
    return static_cast<uint64_t>(type.elements().constant().value()) * byte_size(type.element);
  }

  struct Constant {
    Opcode code = Opcode::kConstant; // or kSplat
    std::shared_ptr<const graph::ConstantData> data;
  };

  void split_along(const Op &op, size_t side, size_t axis, const Constant &constant, graph::Graph &graph) {
    const graph::TensorType type = out_.values[op.operands[side]].type;
    const int64_t extent = type.dims[axis].constant().value();
    const int64_t slice = static_cast<int64_t>(bytes_of(op.operands[side])) / extent; // of one index along the axis
    const int64_t step = std::max<int64_t>(1, static_cast<int64_t>(most_) / slice);
    graph::Graph *before = builder_.exchange_graph(&graph);
    builder_.set_origin(op.node, op.source);
    std::vector<ValueId> parts;
    std::map<int64_t, ValueId> splats; // by their extent
    for (int64_t from = 0; from < extent; from += step) {
      const int64_t count = std::min(step, extent - from);
      graph::TensorType part = type;
      part.dims[axis] = count;
      ValueId w = graph::kNoValue;
      if (constant.code == Opcode::kSplat) {
        auto [known, fresh] = splats.try_emplace(count, w);
        if (fresh)
          known->second = is_float(part.element) ? builder_.splat_float(part.element, part.dims, graph::read_float(*constant.data, 0))
                                                 : builder_.splat_int(part.element, part.dims, graph::read_int(*constant.data, 0));
        w = known->second;
      } else {
        w = builder_.constant(part, rows(type, axis, *constant.data, from, count));
      }
      const ValueId x = op.operands[1 - side];
      parts.push_back(builder_.contract(side ? x : w, side ? w : x, op.labels[0], op.labels[1], op.labels[2]));
      out_.values[parts.back()].type.element = out_.values[op.results[0]].type.element; // of bytes it may be i32
    }
    const uint32_t along = static_cast<uint32_t>(op.labels[2].find(op.labels[side][axis]));
    builder_.concat(parts, along);
    graph.ops.back().results = op.results;
    builder_.exchange_graph(before);
  }

  // The elements with an index in [from, from + count) along the axis.
  static std::shared_ptr<const graph::ConstantData> rows(const graph::TensorType &type, size_t axis,
                                                         const graph::ConstantData &data, int64_t from, int64_t count) {
    int64_t inner = byte_size(data.type), outer = 1; // bytes within an index, blocks of all indices
    for (size_t i = 0; i < axis; ++i)
      outer *= type.dims[i].constant().value();
    for (size_t i = axis + 1; i < type.dims.size(); ++i)
      inner *= type.dims[i].constant().value();
    const int64_t extent = type.dims[axis].constant().value();
    auto out = std::make_shared<graph::ConstantData>();
    out->type = data.type;
    out->bytes.reserve(static_cast<size_t>(outer * count * inner));
    for (int64_t block = 0; block < outer; ++block) {
      auto first = data.bytes.begin() + (block * extent + from) * inner;
      out->bytes.insert(out->bytes.end(), first, first + count * inner);
    }
    return out;
  }

  graph::Function out_;
  graph::GraphBuilder builder_;
  const uint64_t most_;
  std::map<ValueId, Constant> constants_;
};

} // namespace

graph::Function split_constants(const graph::Function &function, uint64_t most_bytes) {
  return Splitter(function, most_bytes).run();
}

} // namespace ingot::aotc::layout
