// Sequences: the kernels of the steps, each as scheduled on its own, put one after the other into one kernel.
//
//   for i in [0, trips):
//     for g in [0, groups of step 0): the body of step 0's kernel with group id g, iteration i
//     for g in [0, groups of step 1): ...
//
// Locals are private arrays. A whole recurrence is then one dispatch, whose weights stay in the caches of one core. On
// threads it is one workgroup: locals and the steps' arrays lie in its memory, and a barrier stands after each step.
#include <map>
#include <tuple>

#include "aotc/base/error.h"
#include "aotc/schedule/internal.h"
#include "aotc/schedule/lower.h"

namespace ingot::aotc::schedule {

using dispatch::Dispatch;
using dispatch::Sequence;
using kernel::kNoValue;
using kernel::Opcode;
using kernel::ValueId;
using kernel::Values;

namespace {

// Copies a kernel's body into another kernel, for one of its groups.
class Inliner {
 public:
  Inliner(kernel::Builder &b, const kernel::Kernel &from, std::vector<uint32_t> memories, Values params)
      : b_(b), from_(from), memories_(std::move(memories)), params_(std::move(params)), map_(from.types.size(), kNoValue) {}

  void body(const std::array<ValueId, 3> &group, const std::array<ValueId, 3> &grid) {
    group_ = group;
    grid_ = grid;
    region(from_.body);
  }

 private:
  Values mapped(const Values &old, size_t first = 0) const {
    Values now;
    for (size_t i = first; i < old.size(); ++i)
      now.push_back(map_[old[i]]);
    return now;
  }
  void define(const Values &old, const Values &now, size_t first = 0) {
    for (size_t i = 0; i < now.size(); ++i)
      map_[old[first + i]] = now[i];
  }
  static const Values &yields(const kernel::Region &region) { return region.ops.back().operands; }

  void region(const kernel::Region &region) {
    for (const kernel::Op &op : region.ops) {
      if (op.code == Opcode::kYield)
        continue;
      if (op.code == Opcode::kFor) {
        define(op.results, b_.for_loop(
                               map_[op.operands[0]], map_[op.operands[1]], map_[op.operands[2]], mapped(op.operands, 3),
                               [&](ValueId i, const Values &carried) {
                                 map_[op.regions[0].params[0]] = i;
                                 define(op.regions[0].params, carried, 1);
                                 this->region(op.regions[0]);
                                 return mapped(yields(op.regions[0]));
                               },
                               op.unroll));
      } else if (op.code == Opcode::kIf) {
        auto side = [&](size_t k) {
          this->region(op.regions[k]);
          return mapped(yields(op.regions[k]));
        };
        define(op.results, b_.if_else(map_[op.operands[0]], [&] { return side(0); }, [&] { return side(1); }));
      } else if (op.code == Opcode::kWhile) {
        define(op.results, b_.while_loop(
                               mapped(op.operands),
                               [&](const Values &carried) {
                                 define(op.regions[0].params, carried);
                                 this->region(op.regions[0]);
                                 return std::pair(map_[yields(op.regions[0])[0]], mapped(yields(op.regions[0]), 1));
                               },
                               [&](const Values &carried) {
                                 define(op.regions[1].params, carried);
                                 this->region(op.regions[1]);
                                 return mapped(yields(op.regions[1]));
                               }));
      } else {
        plain(op);
      }
    }
  }

  void plain(const kernel::Op &op) {
    auto dimension = static_cast<size_t>(op.imm);
    switch (op.code) {
    case Opcode::kParam:
      map_[op.results[0]] = params_[dimension];
      return;
    case Opcode::kGroupId:
      map_[op.results[0]] = group_[dimension];
      return;
    case Opcode::kGridSize:
      map_[op.results[0]] = grid_[dimension];
      return;
    default:
      break;
    }
    kernel::Op now = op;
    now.operands = mapped(op.operands);
    if (kernel::is_memory(op.code) || op.code == Opcode::kTile)
      now.memory = memories_[op.memory];
    if (op.code == Opcode::kTile)
      now.imm2 = memories_[static_cast<size_t>(op.imm2)];
    std::vector<Type> types;
    for (ValueId result : op.results)
      types.push_back(from_.types[result]);
    define(op.results, b_.append(std::move(now), types));
  }

  kernel::Builder &b_;
  const kernel::Kernel &from_;
  std::vector<uint32_t> memories_;
  Values params_;
  Values map_;
  std::array<ValueId, 3> group_{}, grid_{};
};

kernel::Access access_of(const Sequence &q, uint32_t operand) {
  bool read = false, written = false;
  for (const Sequence::Step &step : q.steps)
    for (size_t i = 0; i < step.operands.size(); ++i)
      if (step.operands[i] == operand)
        (step.dispatch.operands[i].output ? written : read) = true;
  return !written ? kernel::Access::kRead : read ? kernel::Access::kReadWrite : kernel::Access::kWrite;
}

} // namespace

Scheduled schedule_sequence(const Dispatch &d, const TargetRecord &record,
                            Scheduled (*schedule_step)(const Dispatch &, const TargetRecord &)) {
  const bool threads = record.kernel_class == kernel::Class::kSimt;
  const Sequence &q = *d.sequence;
  Scheduled out;
  out.kernel.name = d.name;
  out.kernel.kind = record.kernel_class;
  out.grid = {1, 1, 1};
  out.description = "sequence{";
  kernel::Builder b(out.kernel);
  std::vector<uint32_t> memories;
  for (uint32_t i = 0; i < d.operands.size(); ++i)
    memories.push_back(b.add_buffer(d.operands[i].name, access_of(q, i), to_scalar(d.operands[i].type)));
  std::map<Symbol, ValueId> symbols;
  for (const Symbol &s : d.free_symbols())
    symbols[s] = b.add_param("p" + std::to_string(symbols.size()), Scalar::kIndex, s.min(), s.max());
  std::vector<Scheduled> steps;
  for (const Sequence::Step &step : q.steps) {
    steps.push_back(schedule_step(step.dispatch, record));
    out.description += (steps.size() > 1 ? ";" : "") + steps.back().description;
    if (threads)
      out.kernel.local_size = steps.back().kernel.local_size;
  }
  out.description += "}";
  for (const dispatch::Operand &local : q.locals)
    memories.push_back(b.add_array(local.name, threads ? kernel::Space::kWorkgroup : kernel::Space::kPrivate, to_scalar(local.type),
                                   static_cast<uint64_t>(*local.count.constant()), 64));
  std::vector<std::vector<uint32_t>> step_memories;
  std::map<std::tuple<Scalar, uint64_t, uint32_t>, uint32_t> scratch; // of workgroups: steps do not overlap
  for (size_t k = 0; k < steps.size(); ++k) {
    const kernel::Kernel &kernel = steps[k].kernel;
    std::vector<uint32_t> own;
    for (uint32_t operand : q.steps[k].operands)
      own.push_back(memories[operand]);
    for (size_t m = own.size(); m < kernel.memories.size(); ++m) {
      const kernel::Memory &array = kernel.memories[m];
      const auto add = [&] { return b.add_array("s" + std::to_string(k) + "_" + array.name, array.space, array.type, array.count, array.align); };
      if (array.space != kernel::Space::kWorkgroup) {
        own.push_back(add());
        continue;
      }
      auto [known, fresh] = scratch.try_emplace({array.type, array.count, array.align}, 0);
      if (fresh)
        known->second = add();
      own.push_back(known->second);
    }
    step_memories.push_back(std::move(own));
  }
  // The sizes of the steps' grids come from a dispatch without a body whose free symbols are the sequence's.
  Dispatch sizes;
  sizes.name = d.name;
  auto value_of = [&](const Expr &e) {
    kernel::Builder *builder = &b;
    Lowering l(*builder, sizes, {});
    for (auto &[symbol, value] : symbols)
      l.bind_symbol(symbol, value);
    return l.expr(e);
  };
  b.for_loop(b.index(0), value_of(q.trips), b.index(1), {}, [&](ValueId i, const Values &) {
    symbols[q.iteration] = i;
    for (size_t k = 0; k < steps.size(); ++k) {
      Values params;
      for (const Symbol &s : q.steps[k].dispatch.free_symbols())
        params.push_back(symbols.at(s));
      Inliner inliner(b, steps[k].kernel, step_memories[k], params);
      std::array<ValueId, 3> grid, group;
      for (size_t n = 0; n < 3; ++n)
        grid[n] = value_of(steps[k].grid[n]);
      std::function<void(size_t)> groups = [&](size_t n) {
        if (n == 3) {
          inliner.body(group, grid);
          return;
        }
        if (steps[k].grid[2 - n].constant() == 1) {
          group[2 - n] = b.index(0);
          groups(n + 1);
          return;
        }
        b.for_loop(b.index(0), grid[2 - n], b.index(1), {}, [&](ValueId g, const Values &) {
          group[2 - n] = g;
          groups(n + 1);
          return Values{};
        });
      };
      groups(0);
      if (threads)
        b.barrier();
    }
    return Values{};
  });
  return out;
}

} // namespace ingot::aotc::schedule
