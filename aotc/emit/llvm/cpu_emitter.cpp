#include "aotc/emit/llvm/cpu_emitter.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <map>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <thread>

#include "aotc/base/error.h"
#include "aotc/emit/llvm/function_emitter.h"
#include "aotc/emit/llvm/linker.h"
#include "aotc/emit/llvm/pipeline.h"

#include "llvm/IR/DiagnosticHandler.h"
#include "llvm/IR/DiagnosticInfo.h"
#include "llvm/IR/DiagnosticPrinter.h"
#include "llvm/IR/Verifier.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/TargetParser/Triple.h"
#include "llvm/Transforms/Utils/Cloning.h"

namespace ingot::aotc {
namespace {

// Functions of one target that are compiled together: setting up LLVM's passes costs about as much as a small kernel.
// The number is fixed, so that batches, and with them the bytes, do not depend on how many threads there are.
constexpr size_t kBatch = 6;

struct Batch {
  std::vector<const CpuKernel *> kernels;
  std::vector<uint32_t> stack_bytes;   // by kernel
  std::vector<uint64_t> scratch_bytes; // by kernel
  std::vector<uint8_t> object;
  std::string llvm_text, asm_text;
  std::string error;
};

// What LLVM reports while it generates code: frame sizes (asked for by "warn-stack-size") and errors.
struct Reports : llvm::DiagnosticHandler {
  std::map<std::string, uint64_t> frames;
  std::string errors;
  bool handleDiagnostics(const llvm::DiagnosticInfo &info) override {
    if (const auto *frame = llvm::dyn_cast<llvm::DiagnosticInfoResourceLimit>(&info)) {
      frames[frame->getFunction().getName().str()] = frame->getResourceSize();
    } else if (info.getSeverity() == llvm::DS_Error) {
      llvm::raw_string_ostream out(errors);
      llvm::DiagnosticPrinterRawOStream printer(out);
      info.print(printer);
      out << '\n';
    }
    return true;
  }
};

void set_attributes(llvm::Function &f, const TargetRecord &record) {
  f.addFnAttr(llvm::Attribute::NoUnwind);
  f.addFnAttr(llvm::Attribute::NoRecurse);
  f.addFnAttr(llvm::Attribute::NoFree);
  f.addFnAttr(llvm::Attribute::NoSync);
  // Below the stack pointer nothing is safe on Windows, whose convention differs in that too.
  f.addFnAttr(llvm::Attribute::NoRedZone);
  f.addFnAttr("no-builtins");
  f.addFnAttr("frame-pointer", "none");
  f.addFnAttr("warn-stack-size", "0");
  // The schedule chose its vectors; LLVM shall not halve them.
  std::string bits = std::to_string(std::max(128u, record.vector_bytes * 8));
  f.addFnAttr("prefer-vector-width", bits);
  f.addFnAttr("min-legal-vector-width", bits);
}

// Emits, verifies and optimises a batch in `context`, and generates what is wanted.
void compile_batch(Batch &batch, unsigned opt_level, bool llvm_text, bool asm_text, bool object, bool optimise = true) {
  const CpuTarget &target = batch.kernels[0]->target;
  std::unique_ptr<llvm::TargetMachine> machine = create_target_machine(target, opt_level, &batch.error);
  if (!machine)
    return;
  CodeTraits traits = CodeTraits::of(*machine);
  llvm::LLVMContext context;
  auto owned = std::make_unique<Reports>();
  Reports &reports = *owned;
  context.setDiagnosticHandler(std::move(owned));
  llvm::Module module("kernels", context);
  module.setTargetTriple(target.triple);
  module.setDataLayout(machine->createDataLayout());
  module.setPICLevel(llvm::PICLevel::BigPIC);

  for (const CpuKernel *k : batch.kernels) {
    FunctionEmitter emitter(*k->kernel, k->record, traits, module);
    set_attributes(*emitter.emit(k->symbol), k->record);
    batch.scratch_bytes.push_back(emitter.scratch_bytes());
  }
  for (llvm::Function &f : module)
    if (f.hasLocalLinkage())
      set_attributes(f, batch.kernels[0]->record);
  std::string problem;
  llvm::raw_string_ostream problems(problem);
  if (llvm::verifyModule(module, &problems))
    throw InternalError("LLVM emitter: " + batch.kernels[0]->symbol + " and its batch: invalid IR: " + problems.str());

  if (traits.division_bits < 64)
    expand_divisions(module, traits.division_bits);
  if (optimise)
    optimise_module(module, *machine, opt_level);
  if (llvm_text) {
    llvm::raw_string_ostream out(batch.llvm_text);
    module.print(out, nullptr);
  }
  // Code generation changes the module, so text comes from a copy that is thrown away.
  if (asm_text) {
    auto copy = llvm::CloneModule(module);
    std::vector<uint8_t> text;
    generate_code(*copy, *machine, false, text);
    batch.asm_text.assign(text.begin(), text.end());
  }
  if (object)
    generate_code(module, *machine, true, batch.object);
  if (!reports.errors.empty()) {
    batch.error =
        "target '" + target.name + "': LLVM cannot compile " + batch.kernels[0]->symbol + ": " + reports.errors;
    return;
  }
  uint64_t helpers = 0; // a kernel calls at most one helper at a time
  for (const llvm::Function &f : module)
    if (f.hasLocalLinkage())
      helpers = std::max(helpers, reports.frames[f.getName().str()] + 16);
  for (const CpuKernel *k : batch.kernels)
    // The return address, and what aligning the frame for vectors may skip.
    batch.stack_bytes.push_back(
        static_cast<uint32_t>(reports.frames[k->symbol] + 16 + k->record.vector_bytes + helpers));
}

void run_batches(std::vector<Batch> &batches, const CpuOptions &options) {
  std::atomic<size_t> next{0};
  std::mutex failure_mutex;
  std::exception_ptr failure;
  auto work = [&] {
    for (size_t k; (k = next.fetch_add(1)) < batches.size();) {
      try {
        std::shared_lock lock(llvm_global_state());
        compile_batch(batches[k], options.opt_level, bool(options.on_llvm), bool(options.on_asm), true);
      } catch (...) {
        std::lock_guard lock(failure_mutex);
        if (!failure)
          failure = std::current_exception();
        next = batches.size();
      }
    }
  };
  std::vector<std::thread> threads;
  size_t count = std::min<size_t>(std::max(1u, options.jobs), batches.size());
  for (size_t k = 1; k < count; k++)
    threads.emplace_back(work);
  work();
  for (std::thread &t : threads)
    t.join();
  if (failure)
    std::rethrow_exception(failure);
}

std::string architecture(const CpuTarget &target) { return llvm::Triple(target.triple).getArchName().str(); }

} // namespace

CpuResult compile_cpu(const std::vector<CpuKernel> &kernels, const CpuOptions &options) {
  CpuResult result;
  CpuModule module;
  if (kernels.empty()) {
    result.module = std::move(module);
    return result;
  }
  std::set<std::string> names;
  for (const CpuKernel &k : kernels) {
    ensure(k.kernel != nullptr, "compile_cpu: a kernel is null");
    ensure(names.insert(k.symbol).second, "compile_cpu: symbol " + k.symbol + " is given twice");
    if (architecture(k.target) != architecture(kernels[0].target)) {
      result.error = "targets '" + kernels[0].target.name + "' and '" + k.target.name +
                     "' are of different architectures: one image holds one; compile them apart";
      return result;
    }
  }

  // Batches hold kernels of one target, in order; the versions of a kernel usually alternate in the list.
  std::vector<Batch> batches;
  std::vector<std::pair<CpuTarget, size_t>> open; // the batch that a target fills
  std::vector<std::pair<size_t, size_t>> place;   // batch and position, by kernel
  for (const CpuKernel &k : kernels) {
    auto at = std::find_if(open.begin(), open.end(), [&](const auto &o) { return o.first == k.target; });
    if (at == open.end())
      at = open.insert(open.end(), {k.target, SIZE_MAX});
    if (at->second == SIZE_MAX || batches[at->second].kernels.size() >= kBatch) {
      at->second = batches.size();
      batches.emplace_back();
    }
    batches[at->second].kernels.push_back(&k);
    place.emplace_back(at->second, batches[at->second].kernels.size() - 1);
  }
  run_batches(batches, options);

  std::vector<std::vector<uint8_t>> objects;
  for (Batch &b : batches) {
    if (!b.error.empty()) {
      result.error = b.error;
      return result;
    }
    if (options.on_llvm)
      options.on_llvm(b.llvm_text);
    if (options.on_asm)
      options.on_asm(b.asm_text);
    objects.push_back(std::move(b.object));
  }
  LinkedImage image = link_image(objects);
  if (!image.error.empty()) {
    result.error = "target '" + kernels[0].target.name + "': linking native code: " + image.error;
    return result;
  }
  for (size_t k = 0; k < kernels.size(); k++) {
    const CpuKernel &kernel = kernels[k];
    auto at = std::lower_bound(image.symbols.begin(), image.symbols.end(), kernel.symbol,
                               [](const LinkedSymbol &s, const std::string &name) { return s.name < name; });
    ensure(at != image.symbols.end() && at->name == kernel.symbol, "the linked image lacks " + kernel.symbol);
    const Batch &b = batches[place[k].first];
    module.symbols.push_back({kernel.symbol, at->offset, b.stack_bytes[place[k].second],
                              b.scratch_bytes[place[k].second], at->size, kernel.target.feature_mask});
  }
  module.elf = std::move(image.elf);
  result.module = std::move(module);
  return result;
}

std::string emit_llvm_text(const CpuKernel &kernel, unsigned opt_level) {
  std::shared_lock lock(llvm_global_state());
  Batch batch;
  batch.kernels = {&kernel};
  compile_batch(batch, opt_level, true, false, false, opt_level > 0);
  ensure(batch.error.empty(), batch.error);
  return batch.llvm_text;
}

std::string emit_asm_text(const CpuKernel &kernel, unsigned opt_level) {
  std::shared_lock lock(llvm_global_state());
  Batch batch;
  batch.kernels = {&kernel};
  compile_batch(batch, opt_level, false, true, false);
  ensure(batch.error.empty(), batch.error);
  return batch.asm_text;
}

} // namespace ingot::aotc
