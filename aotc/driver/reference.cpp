// See reference.h. Steps mean here what src/runtime and aotc/plan make of them: a loop's results live in its states, scan
// outputs are stacked, host symbols are bound by reads and loops.
#include "aotc/driver/reference.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <thread>

#include "aotc/base/error.h"
#include "aotc/kernel/interpreter.h"
#include "aotc/kernel/legalise.h"
#include "aotc/schedule/schedule.h"

namespace ingot::aotc {
namespace {

using fuse::Program;
using fuse::Step;
using fuse::Steps;
using fuse::Tensor;
using fuse::TensorId;

// The run cannot go on; for the user.
struct Stopped {
  std::string why;
};

struct Compiled {
  std::array<Expr, 3> grid;
  std::unique_ptr<kernel::Interpreter> interpreter;
};

class Run {
 public:
  Run(const Program &program, unsigned jobs) : program_(program), jobs_(std::max(1u, jobs)), memory_(program.tensors.size()) {}

  std::vector<NamedTensor> run(const std::vector<NamedTensor> &inputs) {
    bind(inputs);
    for (TensorId t = 0; t < program_.tensors.size(); ++t)
      if (program_.tensors[t].kind == Tensor::Kind::kConstant)
        fill_constant(t);
    steps(program_.steps);
    std::vector<NamedTensor> outputs;
    for (size_t i = 0; i < program_.outputs.size(); ++i) {
      TensorId t = program_.output_tensors[i];
      NamedTensor out{program_.outputs[i].name, program_.tensors[t].type.element, {}, memory(t)};
      for (const Expr &dim : program_.tensors[t].type.dims)
        out.dims.push_back(value(dim));
      out.bytes.resize(size(t)); // what a loop stacks may have room for more
      outputs.push_back(std::move(out));
    }
    return outputs;
  }

 private:
  [[noreturn]] static void stop(std::string why) { throw Stopped{std::move(why)}; }

  int64_t value(const Expr &e) const {
    auto v = e.evaluate([&](const Symbol &s) -> std::optional<int64_t> {
      auto it = symbols_.find(s.id());
      return it == symbols_.end() ? std::nullopt : std::optional(it->second);
    });
    if (!v)
      stop("the expression '" + e.to_string() + "' has no value");
    return *v;
  }

  size_t size(TensorId t) const {
    const graph::TensorType &type = program_.tensors[t].type;
    int64_t count = value(type.elements());
    if (count < 0 || count > int64_t{1} << 31)
      stop("tensor '" + program_.tensors[t].name + "' would have " + std::to_string(count) + " elements");
    return static_cast<size_t>(count) * byte_size(type.element);
  }

  // A tensor's bytes, as many as its dims now say at least.
  std::vector<uint8_t> &memory(TensorId t) {
    if (memory_[t].size() < size(t))
      memory_[t].resize(size(t));
    return memory_[t];
  }

  void bind(const std::vector<NamedTensor> &inputs) {
    for (size_t i = 0; i < program_.inputs.size(); ++i) {
      const std::string &name = program_.inputs[i].name;
      auto given = std::find_if(inputs.begin(), inputs.end(), [&](const NamedTensor &t) { return t.name == name; });
      if (given == inputs.end())
        stop("input '" + name + "' is not given");
      TensorId t = program_.input_tensors[i];
      const graph::TensorType &type = program_.tensors[t].type;
      if (given->type != type.element || given->dims.size() != type.dims.size())
        stop("input '" + name + "' is not of type " + to_string(type));
      for (size_t d = 0; d < type.dims.size(); ++d) {
        if (auto symbol = type.dims[d].symbol(); symbol && !symbols_.count(symbol->id()))
          bind(*symbol, given->dims[d]);
        if (value(type.dims[d]) != given->dims[d])
          stop("input '" + name + "', dim " + std::to_string(d) + " is " + std::to_string(given->dims[d]) + ", expected " +
               std::to_string(value(type.dims[d])));
      }
      if (given->bytes.size() != size(t))
        stop("input '" + name + "' has " + std::to_string(given->bytes.size()) + " bytes, its dims make " + std::to_string(size(t)));
      memory_[t] = given->bytes;
    }
  }

  void bind(const Symbol &symbol, int64_t v) {
    if (v < symbol.min() || v > symbol.max())
      stop(symbol.name() + " is " + std::to_string(v) + ", outside " + std::to_string(symbol.min()) + " .. " + std::to_string(symbol.max()));
    symbols_[symbol.id()] = v;
  }

  void fill_constant(TensorId t) {
    const Tensor &x = program_.tensors[t];
    if (!x.splat) {
      memory_[t] = x.constant->bytes;
      return;
    }
    std::vector<uint8_t> &out = memory(t);
    const size_t element = byte_size(x.type.element);
    for (size_t at = 0; at < out.size(); at += element)
      std::memcpy(out.data() + at, x.constant->bytes.data(), element);
  }

  void steps(const Steps &list) {
    for (const Step &step : list)
      switch (step.kind) {
      case Step::Kind::kDispatch: dispatch(step); break;
      case Step::Kind::kCopy: copy(step.operands[0], step.operands[1]); break;
      case Step::Kind::kReadScalar: bind(step.symbol, scalar(step.operands[0])); break;
      case Step::Kind::kCheck:
        if (value(step.condition) == 0)
          stop(step.text);
        break;
      case Step::Kind::kHost:
        stop("node '" + step.node + "' works on lists, optionals or strings, which the reference interpreter does not keep");
      case Step::Kind::kIf: steps(value(step.condition) ? step.then : step.otherwise); break;
      case Step::Kind::kLoop: loop(step); break;
      case Step::Kind::kBind: bind(step.symbol, value(step.condition)); break;
      }
  }

  void copy(TensorId from, TensorId to) {
    const std::vector<uint8_t> source = memory(from);
    std::copy_n(source.begin(), std::min(source.size(), size(to)), memory(to).begin());
  }

  int64_t scalar(TensorId t) {
    const ElementType type = program_.tensors[t].type.element;
    const uint32_t bytes = byte_size(type);
    uint64_t bits = 0;
    std::memcpy(&bits, memory(t).data(), bytes);
    if (!is_unsigned(type) && bytes < 8 && bits >> (8 * bytes - 1))
      bits |= ~uint64_t{0} << 8 * bytes;
    return static_cast<int64_t>(bits);
  }

  void sizes(const fuse::LoopStep &loop, bool carried) {
    for (const fuse::LoopStep::Size &s : loop.sizes)
      if (s.carried == carried)
        bind(s.symbol, value(s.next));
  }

  void loop(const Step &step) {
    const fuse::LoopStep &loop = *step.loop;
    int64_t trips = loop.info.trip_count ? value(*loop.info.trip_count) : INT64_MAX;
    if (loop.info.initial_condition && value(*loop.info.initial_condition) == 0)
      trips = 0;
    int64_t i = 0;
    for (bool go = true; go && i < trips; ++i) {
      symbols_[loop.info.iteration.id()] = i;
      steps(step.then);
      sizes(loop, false);
      for (const auto &scan : loop.scans) {
        const size_t bytes = size(scan.slice), at = bytes * static_cast<size_t>(i);
        const std::vector<uint8_t> slice = memory(scan.slice);
        if (memory_[scan.whole].size() < at + bytes)
          memory_[scan.whole].resize(at + bytes);
        std::copy_n(slice.begin(), bytes, memory_[scan.whole].begin() + static_cast<long>(at));
      }
      sizes(loop, true);
      for (const auto &carried : loop.carried)
        copy(carried.next, carried.state);
      go = !loop.condition || scalar(*loop.condition) != 0;
    }
    symbols_[loop.info.iteration.id()] = i;
    if (loop.info.trips)
      symbols_[loop.info.trips.id()] = i;
  }

  const Compiled &compiled(uint32_t number) {
    Compiled &c = compiled_[number];
    if (c.interpreter)
      return c;
    const dispatch::Dispatch &d = program_.dispatches[number];
    const TargetRecord record = TargetRecord::x86_64_v2();
    schedule::Scheduled s = schedule::schedule_naive(d, record);
    std::string problem = kernel::legalise(s.kernel, record);
    ensure(problem.empty(), "reference: dispatch " + d.name + ": " + problem);
    c.grid = s.grid;
    c.interpreter = std::make_unique<kernel::Interpreter>(s.kernel);
    return c;
  }

  void dispatch(const Step &step) {
    const dispatch::Dispatch &d = program_.dispatches[step.dispatch];
    const Compiled &c = compiled(step.dispatch);
    kernel::RunOptions options;
    options.check_races = false;
    uint64_t groups = 1;
    for (size_t i = 0; i < 3; ++i) {
      options.grid[i] = static_cast<uint32_t>(value(c.grid[i]));
      groups *= options.grid[i];
    }
    std::vector<int64_t> params;
    if (d.loop)
      for (const Expr &param : d.loop->params)
        params.push_back(value(param));
    else
      for (const Symbol &s : d.free_symbols())
        params.push_back(value(s));
    options.params = params;
    std::vector<kernel::Binding> bindings;
    for (TensorId t : step.operands)
      memory(t);
    for (TensorId t : step.operands)
      bindings.push_back({memory_[t].data(), size(t)});
    run_groups(d, *c.interpreter, bindings, options, groups);
  }

  void run_groups(const dispatch::Dispatch &d, const kernel::Interpreter &interpreter,
                  const std::vector<kernel::Binding> &bindings, const kernel::RunOptions &options, uint64_t groups) {
    const uint64_t chunk = std::max<uint64_t>(1, groups / (8 * jobs_));
    std::atomic<uint64_t> next{0};
    std::vector<kernel::RunResult> failed(jobs_);
    auto work = [&](unsigned job) {
      for (uint64_t first = next.fetch_add(chunk); first < groups; first = next.fetch_add(chunk)) {
        std::vector<uint64_t> list;
        for (uint64_t g = first; g < std::min(groups, first + chunk); ++g)
          list.push_back(g);
        kernel::RunOptions own = options;
        own.groups = list;
        kernel::RunResult result = interpreter.run(bindings, own);
        if (!result.ok || result.error_word) {
          failed[job] = std::move(result);
          next = groups;
        } else {
          failed[job].ok = true;
        }
      }
    };
    std::vector<std::thread> threads;
    for (unsigned j = 1; j < std::min<uint64_t>(jobs_, groups); ++j)
      threads.emplace_back(work, j);
    work(0);
    for (std::thread &t : threads)
      t.join();
    for (const kernel::RunResult &result : failed) {
      ensure(result.message.empty(), "reference: dispatch " + d.name + ": " + result.message);
      const size_t site = static_cast<size_t>(result.error_word >> 32);
      if (result.error_word)
        stop(site < program_.sites.size() ? program_.sites[site] : "kernel " + d.name + " fails");
    }
  }

  const Program &program_;
  const unsigned jobs_;
  std::vector<std::vector<uint8_t>> memory_;
  std::map<uint64_t, int64_t> symbols_;
  std::map<uint32_t, Compiled> compiled_;
};

} // namespace

std::vector<NamedTensor> run_reference(const Program &program, const std::vector<NamedTensor> &inputs, unsigned jobs,
                                       std::string *problem) {
  try {
    return Run(program, jobs).run(inputs);
  } catch (const Stopped &stopped) {
    *problem = stopped.why;
    return {};
  }
}

} // namespace ingot::aotc
