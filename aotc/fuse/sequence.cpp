// See sequence.h.
#include "aotc/fuse/sequence.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "aotc/base/error.h"
#include "aotc/schedule/schedule.h"
#include "aotc/schedule/sinks.h"

namespace ingot::aotc::fuse {
namespace {

constexpr int64_t kMostStepFlops = 1 << 20;   // about ten microseconds of one core

// What a loop does in one iteration, copies included.
struct BodyStep {
  dispatch::Dispatch dispatch;
  std::vector<TensorId> tensors;
};

class LoopFuser {
 public:
  LoopFuser(Program &program, const SequenceOptions &options) : program_(program), options_(options) {}

  void run() {
    count(program_.steps);
    for (TensorId t : program_.input_tensors)
      ++uses_[t];
    for (TensorId t : program_.output_tensors)
      ++uses_[t];
    steps(program_.steps);
  }

 private:
  void count(const Steps &list) {
    for (const Step &step : list) {
      for (TensorId t : tensors_of(step))
        ++uses_[t];
      count(step.then);
      count(step.otherwise);
    }
  }

  static std::vector<TensorId> tensors_of(const Step &step) {
    std::vector<TensorId> found = step.operands;
    if (step.loop) {
      if (step.loop->condition)
        found.push_back(*step.loop->condition);
      for (const auto &c : step.loop->carried)
        found.insert(found.end(), {c.state, c.next});
      for (const auto &s : step.loop->scans)
        found.insert(found.end(), {s.slice, s.whole});
    }
    return found;
  }

  void steps(Steps &list) {
    for (Step &step : list) {
      steps(step.then);
      steps(step.otherwise);
      if (step.kind == Step::Kind::kLoop)
        fuse_loop(step);
    }
    gather(list);
  }

  bool is_sequence(const Step &step) const {
    return step.kind == Step::Kind::kDispatch && program_.dispatches[step.dispatch].sequence;
  }

  // Puts sequences behind copies that do not concern them, which initialise the states of the next sequence: the two
  // directions of a layer then follow each other, and run at the same time.
  void gather(Steps &list) const {
    for (size_t i = list.size(); i-- > 0;)
      for (size_t k = i; is_sequence(list[k]) && k + 1 < list.size() && list[k + 1].kind == Step::Kind::kCopy &&
                         !share_operands(list[k], list[k + 1]);
           ++k)
        std::swap(list[k], list[k + 1]);
  }

  static bool share_operands(const Step &a, const Step &b) {
    return std::any_of(a.operands.begin(), a.operands.end(),
                       [&](TensorId t) { return std::find(b.operands.begin(), b.operands.end(), t) != b.operands.end(); });
  }

  void fuse_loop(Step &step) {
    const LoopStep &loop = *step.loop;
    if (!loop.info.trip_count || !loop.sizes.empty() || loop.condition || loop.info.initial_condition || names_trips(loop.info.trips))
      return;
    std::vector<BodyStep> body;
    std::map<TensorId, size_t> used; // by the loop
    int64_t flops = 0;
    for (const Step &inner : step.then) {
      if (inner.kind == Step::Kind::kCopy) {
        body.push_back(copy(inner.operands[0], inner.operands[1], 0));
        continue;
      }
      if (inner.kind != Step::Kind::kDispatch)
        return;
      const dispatch::Dispatch &d = program_.dispatches[inner.dispatch];
      if (d.loop || d.sequence || extent_varies(d, loop.info.iteration))
        return;
      flops += typical_flops(d);
      body.push_back({d, inner.operands});
    }
    if (flops > kMostStepFlops)
      return;
    for (const auto &s : loop.scans)
      body.push_back(copy(s.slice, s.whole, elements(s.slice) * Expr(loop.info.iteration)));
    for (const auto &c : loop.carried)
      body.push_back(copy(c.next, c.state, 0));
    if (body.empty())
      return;
    for (const Step &inner : step.then)
      for (TensorId t : inner.operands)
        ++used[t];
    for (TensorId t : tensors_of(step))
      ++used[t];
    replace(step, body, used);
  }

  Expr elements(TensorId t) const { return program_.tensors[t].type.elements(); }

  // Copies all of `from` to `to`, from element `at` on.
  BodyStep copy(TensorId from, TensorId to, const Expr &at) const {
    BodyStep out;
    out.tensors = {from, to};
    dispatch::Dispatch &d = out.dispatch;
    d.name = "copy";
    const ElementType type = program_.tensors[from].type.element;
    d.operands.resize(2);
    d.operands[0].name = "x";
    d.operands[0].count = elements(from);
    d.operands[1].name = "y";
    d.operands[1].count = elements(to);
    d.operands[1].output = true;
    for (dispatch::Operand &o : d.operands)
      o.type = type;
    const Symbol i = Symbol::axis("copied_element", elements(from));
    d.axes.push_back({i, elements(from)});
    dispatch::Value load;
    load.kind = dispatch::ValueKind::kLoad;
    load.type = type;
    load.expr = i;
    d.values.push_back(load);
    d.stores.push_back({1, at + i, 0, {0}});
    return out;
  }

  static bool extent_varies(const dispatch::Dispatch &d, const Symbol &iteration) {
    return std::any_of(d.axes.begin(), d.axes.end(), [&](const dispatch::Axis &a) { return a.extent.depends_on(iteration); }) ||
           std::any_of(d.operands.begin(), d.operands.end(), [&](const dispatch::Operand &o) { return o.count.depends_on(iteration); });
  }

  static int64_t typical_flops(const dispatch::Dispatch &d) {
    const Expr flops = schedule::cost(d).flops;
    std::map<Symbol, Expr> values;
    for (const Symbol &s : flops.symbols())
      values.emplace(s, schedule::typical(Expr(s)));
    return flops.substitute(values).constant().value_or(INT64_MAX / 2);
  }

  // Whether anything goes by the number of iterations done, which only a loop of the host counts.
  bool names_trips(const Symbol &trips) const {
    if (!trips)
      return false;
    for (const Tensor &t : program_.tensors)
      if (t.type.elements().depends_on(trips))
        return true;
    for (const dispatch::Dispatch &d : program_.dispatches) {
      const std::vector<Symbol> free = d.free_symbols();
      if (std::find(free.begin(), free.end(), trips) != free.end())
        return true;
    }
    return conditions_name(program_.steps, trips);
  }

  static bool conditions_name(const Steps &list, const Symbol &trips) {
    return std::any_of(list.begin(), list.end(), [&](const Step &step) {
      return step.condition.depends_on(trips) || (step.loop && step.loop->info.trip_count && step.loop->info.trip_count->depends_on(trips)) ||
             conditions_name(step.then, trips) || conditions_name(step.otherwise, trips);
    });
  }

  void replace(Step &step, const std::vector<BodyStep> &body, std::map<TensorId, size_t> &used) {
    std::set<TensorId> written;
    for (const BodyStep &b : body)
      for (size_t i = 0; i < b.tensors.size(); ++i)
        if (b.dispatch.operands[i].output)
          written.insert(b.tensors[i]);
    auto sequence = std::make_shared<dispatch::Sequence>();
    dispatch::Dispatch d;
    d.name = "sequence_" + std::to_string(program_.dispatches.size());
    d.nodes = {step.node};
    std::vector<TensorId> inputs, outputs, locals;
    int64_t local_bytes = 0;
    std::set<TensorId> seen;
    auto place = [&](TensorId t, const dispatch::Operand &operand) {
      if (!seen.insert(t).second)
        return;
      const Tensor &x = program_.tensors[t];
      dispatch::Operand o = operand;
      o.output = written.count(t) > 0;
      o.constant = x.kind == Tensor::Kind::kConstant;
      const auto count = o.count.constant();
      const int64_t bytes = count ? *count * static_cast<int64_t>(byte_size(o.type)) : 0;
      if (o.output && x.kind == Tensor::Kind::kTransient && used[t] == uses_[t] && bytes > 0 && local_bytes + bytes <= options_.local_bytes) {
        local_bytes += bytes;
        o.output = false;
        o.name = "local" + std::to_string(locals.size());
        locals.push_back(t);
        sequence->locals.push_back(std::move(o));
        return;
      }
      o.name = (o.output ? "y" : "x") + std::to_string((o.output ? outputs : inputs).size());
      (o.output ? outputs : inputs).push_back(t);
      (o.output ? later_ : d.operands).push_back(std::move(o));
    };
    later_.clear();
    for (const BodyStep &b : body)
      for (size_t i = 0; i < b.tensors.size(); ++i)
        place(b.tensors[i], b.dispatch.operands[i]);
    d.operands.insert(d.operands.end(), later_.begin(), later_.end());
    if (options_.max_operands && d.operands.size() > options_.max_operands)
      return;
    std::map<TensorId, uint32_t> numbers;
    for (const auto *list : {&inputs, &outputs, &locals})
      for (TensorId t : *list)
        numbers.emplace(t, static_cast<uint32_t>(numbers.size()));
    for (const BodyStep &b : body) {
      dispatch::Sequence::Step s;
      s.dispatch = b.dispatch;
      for (TensorId t : b.tensors)
        s.operands.push_back(numbers.at(t));
      sequence->steps.push_back(std::move(s));
    }
    sequence->iteration = step.loop->info.iteration;
    sequence->trips = *step.loop->info.trip_count;
    d.sequence = std::move(sequence);
    std::string problem = dispatch::verify(d);
    ensure(problem.empty(), "fuse: " + problem);
    Step now;
    now.node = step.node;
    now.dispatch = static_cast<uint32_t>(program_.dispatches.size());
    now.operands = inputs;
    now.operands.insert(now.operands.end(), outputs.begin(), outputs.end());
    program_.dispatches.push_back(std::move(d));
    step = std::move(now);
  }

  Program &program_;
  SequenceOptions options_;
  std::map<TensorId, size_t> uses_;
  std::vector<dispatch::Operand> later_; // outputs come after the inputs
};

} // namespace

void fuse_loops(Program &program, const SequenceOptions &options) { LoopFuser(program, options).run(); }

} // namespace ingot::aotc::fuse
