// See execute.h.
#include "tests/fuse/execute.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <stdexcept>

#include "tests/schedule/run.h"

namespace ingot::aotc::testing {
namespace {

class Executor {
 public:
  Executor(const fuse::Program &program, std::map<Symbol, int64_t> symbols, const Scheduler &scheduler)
      : p_(program), symbols_(std::move(symbols)), scheduler_(scheduler), memory_(program.tensors.size()) {}

  std::vector<std::vector<uint8_t>> run(const std::vector<std::vector<uint8_t>> &inputs) {
    for (size_t t = 0; t < p_.tensors.size(); ++t) {
      const fuse::Tensor &tensor = p_.tensors[t];
      memory_[t].assign(bytes_of(tensor), 0xa5);
      if (tensor.kind == fuse::Tensor::Kind::kInput)
        memory_[t] = inputs.at(tensor.index);
      if (tensor.kind == fuse::Tensor::Kind::kConstant)
        for (size_t at = 0; at < memory_[t].size(); at += tensor.constant->bytes.size())
          std::copy(tensor.constant->bytes.begin(), tensor.constant->bytes.end(), memory_[t].begin() + static_cast<std::ptrdiff_t>(at));
    }
    steps(p_.prepare);
    steps(p_.steps);
    std::vector<std::vector<uint8_t>> outputs;
    for (fuse::TensorId t : p_.output_tensors)
      outputs.push_back(memory_[t]);
    return outputs;
  }

 private:
  int64_t value(const Expr &e) const {
    return e.evaluate([&](const Symbol &s) -> std::optional<int64_t> {
             return symbol(s);
           })
        .value();
  }
  // Dims with a usual value are known by their name.
  int64_t symbol(const Symbol &s) const {
    auto it = symbols_.find(s);
    if (it == symbols_.end() && s.usual() != 0)
      it = std::find_if(symbols_.begin(), symbols_.end(), [&](const auto &known) { return known.first.name() == s.name(); });
    if (it == symbols_.end())
      throw std::logic_error("symbol " + s.name() + " has no value");
    return it->second;
  }
  size_t bytes_of(const fuse::Tensor &t) const { return static_cast<size_t>(value(t.type.elements())) * byte_size(t.type.element); }

  void steps(const fuse::Steps &list) {
    for (const fuse::Step &step : list)
      switch (step.kind) {
      case fuse::Step::Kind::kDispatch:
        dispatch(step);
        break;
      case fuse::Step::Kind::kCopy:
        memory_[step.operands[1]] = memory_[step.operands[0]];
        break;
      case fuse::Step::Kind::kLoop:
        loop(step);
        break;
      default:
        throw std::logic_error("a step that this executor does not know");
      }
  }

  void loop(const fuse::Step &step) {
    const int64_t trips = value(step.loop->info.trip_count.value());
    for (int64_t i = 0; i < trips; ++i) {
      symbols_[step.loop->info.iteration] = i;
      steps(step.then);
      for (const auto &s : step.loop->scans) {
        const auto &slice = memory_[s.slice];
        std::copy(slice.begin(), slice.end(), memory_[s.whole].begin() + i * static_cast<std::ptrdiff_t>(slice.size()));
      }
      for (const auto &c : step.loop->carried)
        memory_[c.state] = memory_[c.next];
    }
  }

  void dispatch(const fuse::Step &step) {
    Case c{p_.dispatches[step.dispatch], {}};
    if (step.sizes && !value(step.sizes->holds()))
      return;
    for (const Symbol &s : c.dispatch.free_symbols())
      c.dims.push_back({s, symbol(s)});
    Buffers buffers;
    for (fuse::TensorId t : step.operands)
      buffers.bytes.push_back(memory_[t]);
    if (std::string problem = interpret(c, scheduler_(c.dispatch), buffers); !problem.empty())
      throw std::logic_error(problem);
    for (size_t i = 0; i < step.operands.size(); ++i)
      memory_[step.operands[i]] = buffers.bytes[i];
  }

  const fuse::Program &p_;
  std::map<Symbol, int64_t> symbols_;
  const Scheduler &scheduler_;
  Memory memory_;
};

} // namespace

fuse::Program program_of(const Case &c, const std::vector<Expr> &first) {
  fuse::Program p;
  p.name = "one";
  fuse::Step step;
  for (const dispatch::Operand &o : c.dispatch.operands) {
    fuse::Tensor t;
    t.kind = o.output ? fuse::Tensor::Kind::kOutput : fuse::Tensor::Kind::kInput;
    t.index = static_cast<uint32_t>(o.output ? p.output_tensors.size() : p.input_tensors.size());
    t.type.element = o.type;
    t.type.dims = p.tensors.empty() && !first.empty() ? first : std::vector<Expr>{o.count};
    const auto id = static_cast<fuse::TensorId>(p.tensors.size());
    (o.output ? p.output_tensors : p.input_tensors).push_back(id);
    (o.output ? p.outputs : p.inputs).push_back({});
    step.operands.push_back(id);
    p.tensors.push_back(t);
  }
  for (const auto &[symbol, value] : c.dims)
    p.dims.push_back(symbol);
  p.dispatches.push_back(c.dispatch);
  p.steps.push_back(step);
  return p;
}

std::vector<std::vector<uint8_t>> random_inputs(const fuse::Program &program, const std::map<Symbol, int64_t> &dims, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::vector<uint8_t>> inputs;
  for (fuse::TensorId t : program.input_tensors) {
    const fuse::Tensor &tensor = program.tensors[t];
    const auto count = tensor.type.elements().evaluate([&](const Symbol &s) { return std::optional(dims.at(s)); });
    std::vector<uint8_t> bytes(static_cast<size_t>(*count) * 4);
    for (size_t at = 0; at < bytes.size(); at += 4) {
      const float value = static_cast<float>(random() % 2001) / 1000.0f - 1;
      const int32_t number = static_cast<int32_t>(random() % 41) - 20;
      std::memcpy(&bytes[at], tensor.type.element == ElementType::kF32 ? static_cast<const void *>(&value) : &number, 4);
    }
    inputs.push_back(std::move(bytes));
  }
  return inputs;
}

std::vector<std::vector<uint8_t>> random_inputs(const graph::Function &f, const std::map<Symbol, int64_t> &dims, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::vector<uint8_t>> inputs;
  for (const graph::Signature &input : f.graph.inputs) {
    const int64_t count = f.values[input.value]
                              .type.elements()
                              .evaluate([&](const Symbol &s) -> std::optional<int64_t> { return dims.at(s); })
                              .value();
    std::vector<uint8_t> bytes(static_cast<size_t>(count) * 4);
    for (size_t i = 0; i < bytes.size(); i += 4) {
      const float x = static_cast<float>(random() % 4001) / 1000.0f - 2;
      std::memcpy(&bytes[i], &x, 4);
    }
    inputs.push_back(std::move(bytes));
  }
  return inputs;
}

std::vector<std::vector<uint8_t>> execute(const fuse::Program &program, const std::vector<std::vector<uint8_t>> &inputs,
                                          std::map<Symbol, int64_t> symbols, const Scheduler &scheduler) {
  return Executor(program, std::move(symbols), scheduler).run(inputs);
}

float difference(const std::vector<uint8_t> &a, const std::vector<uint8_t> &b) {
  if (a.size() != b.size())
    return INFINITY;
  float largest = 0, worst = 0;
  for (size_t i = 0; i < a.size(); i += 4) {
    float u, v;
    std::memcpy(&u, &a[i], 4);
    std::memcpy(&v, &b[i], 4);
    if (std::isnan(u) != std::isnan(v))
      return INFINITY;
    if (std::isnan(u))
      continue;
    largest = std::max(largest, std::fabs(v));
    worst = std::max(worst, std::fabs(u - v));
  }
  return worst / std::max(largest, 1e-20f);
}

} // namespace ingot::aotc::testing
