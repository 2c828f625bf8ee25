// The prepare section: what a session computes from constants once, on its device.
#include <functional>
#include <map>
#include <string_view>

#include "aotc/base/error.h"
#include "aotc/plan/plan.h"

namespace ingot::aotc::plan {
namespace {

using fuse::Program;
using fuse::Step;
using fuse::Steps;
using fuse::Tensor;
using fuse::TensorId;

constexpr int64_t kWorthwhile = 64 << 10, kHalfWorthwhile = 8 << 10; // bytes; smaller constants, of f16 or less, stay as they are

int64_t bytes_of(const Tensor &t) { return *t.type.elements().constant() * static_cast<int64_t>(byte_size(t.type.element)); }

bool is_constant(const Tensor &t) { return t.kind == Tensor::Kind::kConstant || t.kind == Tensor::Kind::kPrepared; }

class Preparing {
 public:
  Preparing(Program &program, MatrixUnits units) : p_(program), units_(units) {}

  void run() {
    hoist();
    relay(p_.steps);
  }

 private:
  // Steps of constants alone that folding left (they would make the archive larger).
  void hoist() {
    fuse::replace_dispatches(p_.steps, [&](Step &step, Steps &) {
      if (!prepares(step))
        return false;
      const dispatch::Dispatch &d = p_.dispatches[step.dispatch];
      for (size_t i = 0; i < d.operands.size(); ++i)
        if (d.operands[i].output)
          p_.tensors[step.operands[i]].kind = Tensor::Kind::kPrepared;
      p_.prepare.push_back(std::move(step));
      return true;
    });
  }

  bool prepares(const Step &step) const {
    const dispatch::Dispatch &d = p_.dispatches[step.dispatch];
    if (!d.free_symbols().empty() || !d.checks.empty() || d.loop || d.sequence)
      return false;
    bool any_input = false;
    for (size_t i = 0; i < d.operands.size(); ++i) {
      const Tensor &t = p_.tensors[step.operands[i]];
      if (!t.type.elements().is_constant() || (d.operands[i].output ? t.kind != Tensor::Kind::kTransient : !is_constant(t)))
        return false;
      any_input = any_input || !d.operands[i].output;
    }
    return any_input;
  }

  // Weights in the layout that the schedules of products read best.
  void relay(Steps &steps) {
    for (Step &step : steps) {
      relay(step.then);
      relay(step.otherwise);
      if (step.kind != Step::Kind::kDispatch)
        continue;
      dispatch::Dispatch &d = p_.dispatches[step.dispatch];
      std::vector<bool> constant;
      for (size_t i = 0; i < d.operands.size(); ++i) {
        const Tensor &t = p_.tensors[step.operands[i]];
        constant.push_back(d.operands[i].constant);
        d.operands[i].constant = !d.operands[i].output && is_constant(t) && !t.splat && bytes_of(t) >= (byte_size(t.type.element) <= 2 ? kHalfWorthwhile : kWorthwhile);
      }
      std::vector<schedule::Repack> repacks = schedule::prepack_simt(d, units_);
      for (size_t i = 0; i < constant.size(); ++i)
        d.operands[i].constant = constant[i];
      for (schedule::Repack &repack : repacks) // this adds dispatches: `d` is void from here on
        step.operands[repack.operand] = relaid(step.operands[repack.operand], step.node, std::move(repack.pack));
    }
  }

  TensorId relaid(TensorId natural, const std::string &node, dispatch::Dispatch pack) {
    auto [known, fresh] = relaid_.try_emplace({natural, dispatch::canonical_text(pack)}, static_cast<TensorId>(p_.tensors.size()));
    if (!fresh)
      return known->second;
    Tensor t;
    t.kind = Tensor::Kind::kPrepared;
    t.name = p_.tensors[natural].name;
    t.type.element = p_.tensors[natural].type.element;
    t.type.dims = {pack.operands.back().count};
    p_.tensors.push_back(std::move(t));
    pack.operands[0].constant = p_.tensors[natural].kind == Tensor::Kind::kConstant; // what is prepared, the section writes
    Step step;
    step.node = node;
    step.dispatch = static_cast<uint32_t>(p_.dispatches.size());
    step.operands = {natural, known->second};
    p_.dispatches.push_back(std::move(pack));
    p_.prepare.push_back(std::move(step));
    return known->second;
  }

  Program &p_;
  MatrixUnits units_;
  std::map<std::pair<TensorId, std::string>, TensorId> relaid_;
};

} // namespace

void prepare_constants(Program &program, MatrixUnits units) { Preparing(program, units).run(); }

namespace {

// Numbers constants by what they hold.
class Contents {
 public:
  std::string name(const Tensor &t) {
    const std::vector<uint8_t> &bytes = t.constant->bytes;
    auto &candidates = known_[std::hash<std::string_view>()({reinterpret_cast<const char *>(bytes.data()), bytes.size()})];
    for (const auto &[number, data] : candidates)
      if (data->bytes == bytes)
        return (t.splat ? "splat " : "constant ") + std::to_string(number);
    candidates.push_back({next_++, t.constant});
    return (t.splat ? "splat " : "constant ") + std::to_string(candidates.back().first);
  }

 private:
  std::map<size_t, std::vector<std::pair<uint32_t, std::shared_ptr<const graph::ConstantData>>>> known_;
  uint32_t next_ = 0;
};

} // namespace

Program join_prepare(std::vector<Program> &programs) {
  Program all;
  all.name = "prepare";
  std::map<std::string, uint32_t> known; // what a prepared tensor is made of and how -> its number
  uint32_t numbers = 0;
  Contents contents;
  for (Program &p : programs) {
    const auto tensors = static_cast<TensorId>(all.tensors.size());
    const auto dispatches = static_cast<uint32_t>(all.dispatches.size());
    std::map<TensorId, std::string> made_of;
    auto content = [&](TensorId t) {
      const Tensor &x = p.tensors[t];
      return x.kind == Tensor::Kind::kPrepared ? made_of.at(t) : contents.name(x);
    };
    Steps fresh;
    for (const Step &step : p.prepare) {
      const dispatch::Dispatch &d = p.dispatches[step.dispatch];
      std::string key = dispatch::canonical_text(d);
      for (size_t i = 0; i < d.operands.size(); ++i)
        if (!d.operands[i].output)
          key += "\n" + content(step.operands[i]);
      bool is_new = false;
      for (size_t i = 0; i < d.operands.size(); ++i)
        if (d.operands[i].output) {
          std::string output = key + "\noutput " + std::to_string(i);
          auto [it, first] = known.try_emplace(output, numbers);
          numbers += first ? 1 : 0;
          is_new = is_new || first;
          p.tensors[step.operands[i]].index = it->second;
          made_of.emplace(step.operands[i], std::move(output));
        }
      if (!is_new)
        continue;
      fresh.push_back(step);
      fresh.back().dispatch += dispatches;
      for (TensorId &t : fresh.back().operands)
        t += tensors;
    }
    all.tensors.insert(all.tensors.end(), p.tensors.begin(), p.tensors.end());
    for (size_t t = tensors; t < all.tensors.size(); ++t)
      if (Tensor &x = all.tensors[t]; x.kind == Tensor::Kind::kInput || x.kind == Tensor::Kind::kOutput)
        x.kind = Tensor::Kind::kTransient; // the section has no signature, and does not use them
    all.dispatches.insert(all.dispatches.end(), p.dispatches.begin(), p.dispatches.end());
    all.steps.insert(all.steps.end(), fresh.begin(), fresh.end());
  }
  return all;
}

} // namespace ingot::aotc::plan
