// See kernels.h.
#include "aotc/driver/kernels.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <map>
#include <mutex>
#include <string_view>
#include <thread>

#include "aotc/fuse/specialise_sizes.h"
#include "aotc/kernel/text.h"

namespace ingot::aotc {

UniqueDispatches unique_dispatches(const std::vector<fuse::Program> &programs) {
  UniqueDispatches result;
  std::map<std::string, uint32_t> known;
  for (const fuse::Program &program : programs) {
    std::vector<bool> used(program.dispatches.size(), false);
    std::function<void(const fuse::Steps &)> mark = [&](const fuse::Steps &steps) {
      for (const fuse::Step &step : steps) {
        if (step.kind == fuse::Step::Kind::kDispatch)
          used[step.dispatch] = true;
        mark(step.then);
        mark(step.otherwise);
      }
    };
    mark(program.steps);
    mark(program.prepare);
    std::vector<uint32_t> kernel_of(program.dispatches.size(), 0);
    for (size_t d = 0; d < program.dispatches.size(); ++d) {
      if (!used[d])
        continue;
      auto [it, fresh] = known.try_emplace(dispatch::canonical_text(program.dispatches[d]),
                                           static_cast<uint32_t>(result.dispatches.size()));
      if (fresh)
        result.dispatches.push_back(&program.dispatches[d]);
      kernel_of[d] = it->second;
    }
    result.kernel_of.push_back(std::move(kernel_of));
  }
  return result;
}

std::vector<uint32_t> unique_kernels(const std::vector<std::string> &texts, std::vector<std::vector<uint32_t>> &kernel_of) {
  std::map<std::string_view, uint32_t> known;
  std::vector<uint32_t> kept, now;
  for (uint32_t i = 0; i < texts.size(); ++i) {
    auto [it, fresh] = known.try_emplace(texts[i], static_cast<uint32_t>(kept.size()));
    if (fresh)
      kept.push_back(i);
    now.push_back(it->second);
  }
  for (std::vector<uint32_t> &of_program : kernel_of)
    for (uint32_t &kernel : of_program)
      kernel = now.empty() ? kernel : now[kernel];
  return kept;
}

void forget_constants(schedule::Scheduled &scheduled) {
  for (kernel::Memory &m : scheduled.kernel.memories)
    m.constant = false;
}

std::string kernel_text(const schedule::Scheduled &s, const dispatch::Dispatch &d) {
  std::map<Symbol, Expr> by_place;
  for (const Symbol &symbol : d.free_symbols())
    by_place.emplace(symbol, Symbol::dim("d" + std::to_string(by_place.size()), symbol.min(), symbol.max()));
  std::string text = s.description;
  for (const Expr &size : s.grid)
    text += "\n" + size.substitute(by_place).to_string();
  for (size_t i = 0; s.params && i < s.params->size(); ++i)
    text += "\n" + (*s.params)[i].substitute(by_place).to_string();
  return text + "\n" + kernel::print(s.kernel);
}

void parallel_for(size_t n, unsigned jobs, const std::function<void(size_t)> &work) {
  std::atomic<size_t> next{0};
  std::mutex mutex;
  std::exception_ptr failure;
  auto run = [&] {
    for (size_t i = next++; i < n; i = next++) {
      try {
        work(i);
      } catch (...) {
        std::lock_guard lock(mutex);
        if (!failure)
          failure = std::current_exception();
        next = n;
      }
    }
  };
  std::vector<std::thread> threads;
  for (unsigned j = 1; j < std::max(1u, jobs); ++j)
    threads.emplace_back(run);
  run();
  for (std::thread &t : threads)
    t.join();
  if (failure)
    std::rethrow_exception(failure);
}

void plan_functions(const std::vector<fuse::Program> &given, const CpuKernels &kernels, uint32_t alignment,
                    plan::WeightPool &weights, archive::Variant &variant) {
  std::vector<fuse::Program> programs = given; // what is prepared gets its numbers
  if (!kernels.kernels.empty())
    for (size_t p = 0; p < programs.size(); ++p)
      fuse::join_sizes(programs[p], kernels.kernel_of[p]);
  const fuse::Program prepare = plan::join_prepare(programs);
  std::vector<plan::DispatchInfo> all;
  for (size_t p = 0; p < programs.size(); ++p) {
    std::vector<plan::DispatchInfo> infos(programs[p].dispatches.size());
    for (size_t d = 0; d < infos.size(); ++d) {
      if (kernels.kernels.empty())
        break;
      infos[d].kernel = kernels.kernel_of[p][d];
      // Equal dispatches have equal grids up to the names of their symbols, so each is scheduled for its own names.
      const KernelVersions &k = kernels.kernels[infos[d].kernel];
      const dispatch::Dispatch &own = programs[p].dispatches[d];
      std::map<Symbol, Expr> rename;
      std::vector<Symbol> from = k.dispatch->free_symbols(), to = own.free_symbols();
      for (size_t i = 0; i < from.size() && i < to.size(); ++i)
        rename.emplace(from[i], Expr(to[i]));
      for (size_t i = 0; i < 3; ++i)
        infos[d].grid[i] = k.versions[0].grid[i].substitute(rename);
      if (const auto &params = k.versions[0].params) {
        infos[d].params.emplace();
        for (const Expr &e : *params)
          infos[d].params->push_back(e.substitute(rename));
      }
      infos[d].cost = schedule::cost(own);
    }
    variant.functions.push_back(plan::plan_function(programs[p], infos, 0, alignment, weights));
    all.insert(all.end(), infos.begin(), infos.end());
  }
  if (!prepare.steps.empty())
    variant.prepare = plan::plan_function(prepare, all, 0, alignment, weights);
}

archive::Kernel archive_kernel(const KernelVersions &k) {
  auto access_bits = [](kernel::Access access) {
    switch (access) {
    case kernel::Access::kRead: return program::kAccessRead;
    case kernel::Access::kWrite: return program::kAccessWrite;
    case kernel::Access::kReadWrite: break;
    }
    return program::kAccessReadWrite;
  };
  archive::Kernel kernel;
  kernel.name = k.dispatch->name;
  const kernel::Kernel &first = k.versions[0].kernel;
  for (size_t i = 0; i < first.buffer_count(); ++i)
    kernel.bindings.push_back(access_bits(first.memories[i].access));
  kernel.param_count = static_cast<uint32_t>(first.params.size());
  return kernel;
}

} // namespace ingot::aotc
