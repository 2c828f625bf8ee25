// Compile-time evaluation: constant folding and packing run dispatches in the reference interpreter, so what a
// compile-time result is does not depend on the machine.
#include <algorithm>
#include <cstring>
#include <set>

#include "aotc/base/error.h"
#include "aotc/kernel/interpreter.h"
#include "aotc/kernel/legalise.h"
#include "aotc/plan/plan.h"

namespace ingot::aotc::plan {
namespace {

using fuse::Program;
using fuse::Step;
using fuse::Steps;
using fuse::Tensor;
using fuse::TensorId;

constexpr int64_t kLittle = 64 << 10; // bytes that folding may add

// The bytes of a constant tensor; splats are expanded.
std::vector<uint8_t> expand(const Tensor &tensor) {
  auto count = tensor.type.elements().constant();
  ensure(count.has_value(), "fold: a constant has symbolic dims");
  size_t element = byte_size(tensor.type.element), bytes = static_cast<size_t>(*count) * element;
  if (!tensor.splat)
    return tensor.constant->bytes;
  std::vector<uint8_t> out(bytes);
  for (size_t i = 0; i < bytes; i += element)
    std::memcpy(out.data() + i, tensor.constant->bytes.data(), element);
  return out;
}

// Runs a dispatch on constant inputs; one result per output operand, or none where it met an error (an index out of
// range), which is then for the run to report.
std::vector<std::vector<uint8_t>> evaluate(const dispatch::Dispatch &d, std::vector<std::vector<uint8_t>> inputs) {
  TargetRecord record = TargetRecord::x86_64_v2();
  schedule::Scheduled s = schedule::schedule_naive(d, record);
  std::string problem = kernel::legalise(s.kernel, record);
  ensure(problem.empty(), "fold: dispatch " + d.name + ": " + problem);
  std::vector<std::vector<uint8_t>> outputs;
  for (const dispatch::Operand &o : d.operands)
    if (o.output) {
      auto count = o.count.constant();
      ensure(count.has_value(), "fold: an output has a symbolic size");
      outputs.emplace_back(static_cast<size_t>(*count) * byte_size(o.type));
    }
  std::vector<kernel::Binding> bindings;
  size_t in = 0, out = 0;
  for (const dispatch::Operand &o : d.operands) {
    std::vector<uint8_t> &bytes = o.output ? outputs[out++] : inputs[in++];
    bindings.push_back({bytes.data(), bytes.size()});
  }
  std::vector<int64_t> params; // of a loop body; any other dispatch with constant dims has none
  if (d.loop)
    for (const Expr &param : d.loop->params) {
      ensure(param.is_constant(), "fold: a param is symbolic");
      params.push_back(*param.constant());
    }
  kernel::RunOptions options;
  options.params = params;
  options.check_races = false;
  bool empty = false;
  for (size_t i = 0; i < 3; ++i) {
    auto g = s.grid[i].constant();
    ensure(g.has_value(), "fold: a grid is symbolic");
    options.grid[i] = static_cast<uint32_t>(*g);
    empty = empty || *g == 0;
  }
  if (empty)
    return outputs;
  kernel::RunResult result = kernel::interpret(s.kernel, bindings, options);
  ensure(result.ok, "fold: dispatch " + d.name + ": " + result.message);
  if (result.error_word != 0)
    outputs.clear();
  return outputs;
}

void make_constant(Tensor &tensor, std::vector<uint8_t> bytes) {
  tensor.kind = Tensor::Kind::kConstant;
  size_t element = byte_size(tensor.type.element);
  // A splat stays a splat in the archive.
  bool splat = bytes.size() > element;
  for (size_t i = element; splat && i < bytes.size(); i += element)
    splat = std::memcmp(bytes.data(), bytes.data() + i, element) == 0;
  if (splat)
    bytes.resize(element);
  tensor.splat = splat;
  auto data = std::make_shared<graph::ConstantData>();
  data->type = tensor.type.element;
  data->bytes = std::move(bytes);
  tensor.constant = std::move(data);
}

// Whether the results take more of an archive than what they are made of.
bool grows(const Program &program, const Step &step) {
  const dispatch::Dispatch &d = program.dispatches[step.dispatch];
  int64_t before = 0, after = 0;
  for (size_t i = 0; i < d.operands.size(); ++i) {
    const Tensor &t = program.tensors[step.operands[i]];
    const int64_t elements = t.splat ? 1 : *t.type.elements().constant();
    const int64_t bytes = elements * static_cast<int64_t>(byte_size(t.type.element));
    if (d.operands[i].output)
      after += bytes;
    else
      before += bytes;
  }
  return after > before + kLittle && !d.loop;
}

void fold_steps(Program &program, Steps &steps, bool prepare) {
  Steps kept;
  for (Step &step : steps) {
    fold_steps(program, step.then, prepare);
    fold_steps(program, step.otherwise, prepare);
    if (step.kind != Step::Kind::kDispatch) {
      kept.push_back(std::move(step));
      continue;
    }
    const dispatch::Dispatch &d = program.dispatches[step.dispatch];
    bool foldable = d.free_symbols().empty() && d.checks.empty();
    bool any_input = false;
    for (size_t i = 0; i < d.operands.size(); ++i) {
      const Tensor &t = program.tensors[step.operands[i]];
      if (d.operands[i].output) {
        foldable = foldable && t.kind == Tensor::Kind::kTransient;
      } else {
        any_input = true;
        foldable = foldable && t.kind == Tensor::Kind::kConstant;
      }
      foldable = foldable && t.type.elements().is_constant();
    }
    if (!foldable || !any_input || (prepare && grows(program, step))) {
      kept.push_back(std::move(step));
      continue;
    }
    std::vector<std::vector<uint8_t>> inputs;
    for (size_t i = 0; i < d.operands.size(); ++i)
      if (!d.operands[i].output)
        inputs.push_back(expand(program.tensors[step.operands[i]]));
    std::vector<std::vector<uint8_t>> outputs = evaluate(d, std::move(inputs));
    if (outputs.empty()) {
      kept.push_back(std::move(step));
      continue;
    }
    size_t out = 0;
    for (size_t i = 0; i < d.operands.size(); ++i)
      if (d.operands[i].output)
        make_constant(program.tensors[step.operands[i]], std::move(outputs[out++]));
  }
  steps = std::move(kept);
}

void mark_constants(Program &program, const Steps &steps) {
  for (const Step &step : steps) {
    mark_constants(program, step.then);
    mark_constants(program, step.otherwise);
    if (step.kind != Step::Kind::kDispatch)
      continue;
    dispatch::Dispatch &d = program.dispatches[step.dispatch];
    for (size_t i = 0; i < d.operands.size(); ++i)
      if (!d.operands[i].output)
        d.operands[i].constant = program.tensors[step.operands[i]].kind == Tensor::Kind::kConstant;
  }
}

using Packed = std::map<std::pair<TensorId, std::string>, TensorId>; // source and layout: dispatches for other sizes share them

void prepack_steps(Program &program, Steps &steps, Packed &known) {
  for (Step &step : steps) {
    prepack_steps(program, step.then, known);
    prepack_steps(program, step.otherwise, known);
    if (step.kind != Step::Kind::kDispatch)
      continue;
    dispatch::Dispatch &d = program.dispatches[step.dispatch];
    for (const schedule::Repack &repack : schedule::prepack_simd(d)) {
      TensorId &operand = step.operands[repack.operand];
      const Tensor &source = program.tensors[operand];
      ensure(source.kind == Tensor::Kind::kConstant, "prepack: an operand that is no constant");
      auto [at, fresh] = known.try_emplace({operand, dispatch::canonical_text(repack.pack)}, static_cast<TensorId>(program.tensors.size()));
      operand = at->second;
      if (!fresh)
        continue;
      Tensor packed;
      packed.kind = Tensor::Kind::kConstant;
      packed.name = source.name;
      packed.type.element = source.type.element;
      packed.type.dims = {repack.pack.operands.back().count};
      make_constant(packed, evaluate(repack.pack, {expand(source)})[0]);
      program.tensors.push_back(std::move(packed));
    }
  }
}

} // namespace

void fold_constants(Program &program, bool prepare) {
  fold_steps(program, program.steps, prepare);
  mark_constants(program, program.steps);
}

void prepack(Program &program) {
  Packed known;
  prepack_steps(program, program.steps, known);
}

} // namespace ingot::aotc::plan
