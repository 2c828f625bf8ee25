// See amd_host.h.
#include "tests/gpu_spike/amd_host.h"

#include <ucontext.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>

#include "aotc/emit/llvm/code_traits.h"
#include "aotc/emit/ptx/hsaco.h"
#include "aotc/kernel/integer.h"

#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/Verifier.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Support/raw_ostream.h"

namespace ingot::aotc::gpu_spike {
namespace {

constexpr size_t kStack = 128 << 10, kOperand = 64; // bytes

// ---- The workgroup

enum class Call : uint32_t { kGroup, kThread, kImplicit, kCount, kPermute, kOtherHalf, kWmma, kMfma, kBarrier, kDone }; // from kPermute on together

struct Lane {
  ucontext_t context = {};
  std::unique_ptr<char[]> stack;
  Call at = Call::kDone;
  uint32_t site = 0;
  void *result = nullptr;
  uint8_t operand[3][kOperand] = {};
};

struct Machine {
  const kernel::Kernel &kernel;
  uint32_t wave;      // lanes
  AmdFault fault;
  void (*entry)(const uint64_t *) = nullptr;
  std::vector<uint64_t> arguments = {};
  uint32_t grid[3] = {}, group[3] = {};
  std::vector<Lane> lanes = {};
  ucontext_t home = {};
  uint32_t now = 0; // lane
  size_t products = 0;

  std::string run_group();
  std::string together(uint32_t first);
  void resume(uint32_t lane) {
    now = lane;
    swapcontext(&home, &lanes[lane].context);
  }
};
Machine *machine = nullptr;

void start() {
  machine->entry(machine->arguments.data());
  machine->lanes[machine->now].at = Call::kDone;
}

// What every intrinsic has become.
extern "C" void ingot_amd_call(uint32_t what, uint32_t site, void *result, const void *a, const void *b, const void *c) {
  Machine &m = *machine;
  const auto call = static_cast<Call>(what & 0xff);
  const uint32_t dimension = what >> 8, thread = m.now;
  const auto &size = m.kernel.local_size;
  auto word = [&](uint32_t value) { std::memcpy(result, &value, 4); };
  switch (call) {
  case Call::kGroup: return word(m.group[dimension]);
  case Call::kThread: return word(dimension == 0 ? thread % size[0] : dimension == 1 ? thread / size[0] % size[1] : thread / size[0] / size[1]);
  case Call::kImplicit: {
    const uint32_t *grid = m.grid;
    std::memcpy(result, &grid, sizeof grid);
    return;
  }
  case Call::kCount: { // of the bits of a below this lane, in this half of the wave, and b
    uint32_t mask, before;
    std::memcpy(&mask, a, 4);
    std::memcpy(&before, b, 4);
    const uint32_t lane = thread % m.wave, in = lane < 32 * dimension ? 0 : std::min(lane - 32 * dimension, 32u);
    return word(before + static_cast<uint32_t>(std::popcount(in == 32 ? mask : mask & ((1u << in) - 1))));
  }
  default: break;
  }
  if (call == Call::kBarrier && m.fault == AmdFault::kNoBarriers)
    return;
  Lane &own = m.lanes[thread];
  own.at = call;
  own.site = site;
  own.result = result;
  const void *from[] = {a, b, c};
  for (int i = 0; i < 3; ++i)
    if (from[i])
      std::memcpy(own.operand[i], from[i], kOperand);
  swapcontext(&own.context, &m.home);
}

template <class T> T element(const Lane &lane, int operand, uint32_t i) {
  T value;
  std::memcpy(&value, lane.operand[operand] + i * sizeof value, sizeof value);
  return value;
}

// What the lanes of the wave whose first is `first` do together, who all stand at the same.
std::string Machine::together(uint32_t first) {
  Lane *w = &lanes[first];
  if (w->at == Call::kPermute) {
    for (uint32_t l = 0; l < wave; ++l) {
      const uint32_t value = element<uint32_t>(w[element<uint32_t>(w[l], 0, 0) / 4 % wave], 1, 0);
      std::memcpy(w[l].result, &value, 4);
    }
    return "";
  }
  if (w->at == Call::kOtherHalf) {
    for (uint32_t l = 0; l < wave; ++l) {
      if (element<uint32_t>(w[l], 1, 0) != 0x76543210 || element<uint32_t>(w[l], 2, 0) != 0xfedcba98)
        return "permlanex16 of other lanes than the same of the other row";
      const uint32_t value = element<uint32_t>(w[fault == AmdFault::kNoExchange ? l : l ^ 16], 0, 0);
      std::memcpy(w[l].result, &value, 4);
    }
    return "";
  }
  // D = A B + C of 16 x 16: where lane and element of line l (a row of A, a column of B) at k are, and of D.
  ++products;
  const bool mfma = w->at == Call::kMfma, replicated = !mfma && kernel.fragment.words == 8;
  const uint32_t own = mfma ? 4 : replicated ? 16 : 8;
  auto factor = [&](int operand, uint32_t line, uint32_t k) {
    if (fault == AmdFault::kFactorElsewhere && operand == 0)
      k ^= 1;
    return kernel::half_to_float(element<uint16_t>(w[line + 16 * (k / own)], operand, k % own));
  };
  if (replicated)
    for (uint32_t l = 0; l < 16; ++l)
      if (std::memcmp(w[l].operand[0], w[l + 16].operand[0], 32) != 0 || std::memcmp(w[l].operand[1], w[l + 16].operand[1], 32) != 0)
        return "lanes 16..31 do not repeat a factor of lanes 0..15";
  for (uint32_t row = 0; row < 16; ++row)
    for (uint32_t column = 0; column < 16; ++column) {
      uint32_t h = mfma ? row / 4 : replicated ? row % 2 : row / 8, i = mfma ? row % 4 : replicated ? row / 2 : row % 8;
      if (fault == AmdFault::kSumsElsewhere)
        i ^= 1;
      Lane &lane = w[column + 16 * h];
      float sum = element<float>(lane, 2, i);
      for (uint32_t k = 0; k < 16; ++k)
        sum = static_cast<float>(sum + static_cast<double>(factor(0, row, k)) * factor(1, column, k));
      std::memcpy(static_cast<uint8_t *>(lane.result) + 4 * i, &sum, 4);
    }
  return "";
}

std::string Machine::run_group() {
  const auto count = static_cast<uint32_t>(lanes.size());
  for (uint32_t l = 0; l < count; ++l) {
    Lane &lane = lanes[l];
    if (!lane.stack)
      lane.stack = std::make_unique_for_overwrite<char[]>(kStack);
    getcontext(&lane.context);
    lane.context.uc_stack.ss_sp = lane.stack.get();
    lane.context.uc_stack.ss_size = kStack;
    lane.context.uc_link = &home;
    makecontext(&lane.context, start, 0);
    resume(l);
  }
  for (;;) {
    bool moved = false;
    uint32_t done = 0, waiting = 0, stray = 0;
    for (uint32_t first = 0; first < count; first += wave) {
      const uint32_t end = std::min(first + wave, count);
      const Lane &leader = lanes[first];
      if (leader.at == Call::kDone || leader.at == Call::kBarrier) {
        for (uint32_t l = first; l < end; ++l)
          (lanes[l].at == Call::kDone ? done : lanes[l].at == Call::kBarrier ? waiting : stray) += 1;
        if (stray > 0)
          return "a wave's lanes do not meet";
        continue;
      }
      for (uint32_t l = first; l < end; ++l)
        if (lanes[l].at != leader.at || lanes[l].site != leader.site)
          return "a wave's lanes do not meet";
      if (end - first < wave)
        return "a wave that is not whole does something together";
      if (std::string wrong = together(first); !wrong.empty())
        return wrong;
      for (uint32_t l = first; l < end; ++l)
        resume(l);
      moved = true;
    }
    if (moved)
      continue;
    if (done == count)
      return "";
    if (waiting < count)
      return "some threads wait at a barrier that others have passed by";
    for (const Lane &lane : lanes)
      if (lane.site != lanes[0].site)
        return "threads wait at different barriers";
    for (uint32_t l = count; l-- > 0;) // the last first, as they may
      resume(l);
  }
}

// ---- Compilation

std::optional<uint32_t> call_of(llvm::StringRef name) {
  auto of = [](Call call, uint32_t dimension = 0) { return static_cast<uint32_t>(call) | dimension << 8; };
  for (uint32_t d = 0; d < 3; ++d) {
    const std::string axis(1, "xyz"[d]);
    if (name == "llvm.amdgcn.workgroup.id." + axis)
      return of(Call::kGroup, d);
    if (name == "llvm.amdgcn.workitem.id." + axis)
      return of(Call::kThread, d);
  }
  if (name == "llvm.amdgcn.implicitarg.ptr")
    return of(Call::kImplicit);
  if (name == "llvm.amdgcn.mbcnt.lo" || name == "llvm.amdgcn.mbcnt.hi")
    return of(Call::kCount, name.ends_with("hi"));
  if (name == "llvm.amdgcn.ds.bpermute")
    return of(Call::kPermute);
  if (name.starts_with("llvm.amdgcn.permlanex16"))
    return of(Call::kOtherHalf);
  if (name.starts_with("llvm.amdgcn.wmma.f32.16x16x16.f16"))
    return of(Call::kWmma);
  if (name == "llvm.amdgcn.mfma.f32.16x16x16f16")
    return of(Call::kMfma);
  if (name == "llvm.amdgcn.s.barrier")
    return of(Call::kBarrier);
  return std::nullopt;
}

// Calls of intrinsics become calls of ingot_amd_call, operands and results through memory. "" or which has no such form.
std::string replace_intrinsics(llvm::Module &module, llvm::Function &function) {
  llvm::LLVMContext &context = module.getContext();
  llvm::IRBuilder<> b(&*function.getEntryBlock().getFirstInsertionPt());
  llvm::Value *slots[4];
  for (llvm::Value *&slot : slots) {
    auto *made = b.CreateAlloca(llvm::ArrayType::get(b.getInt8Ty(), kOperand));
    made->setAlignment(llvm::Align(kOperand));
    slot = made;
  }
  llvm::Type *pointer = llvm::PointerType::get(context, 0);
  llvm::FunctionCallee callee =
      module.getOrInsertFunction("ingot_amd_call", llvm::FunctionType::get(b.getVoidTy(), {b.getInt32Ty(), b.getInt32Ty(), pointer, pointer, pointer, pointer}, false));
  std::vector<llvm::CallInst *> calls;
  for (llvm::BasicBlock &block : function)
    for (llvm::Instruction &i : block)
      if (auto *call = llvm::dyn_cast<llvm::CallInst>(&i); call && call->getCalledFunction() && call->getCalledFunction()->getName().starts_with("llvm.amdgcn."))
        calls.push_back(call);
  uint32_t site = 0;
  for (llvm::CallInst *call : calls) {
    const llvm::StringRef name = call->getCalledFunction()->getName();
    const std::optional<uint32_t> what = call_of(name);
    if (!what)
      return "no form of " + name.str();
    b.SetInsertPoint(call);
    const bool exchange = static_cast<Call>(*what & 0xff) == Call::kOtherHalf; // its first operand is what inactive lanes get
    const unsigned first = exchange ? 1 : 0, operands = std::min(3u, call->arg_size() - first);
    for (unsigned i = 0; i < operands; ++i)
      b.CreateStore(call->getArgOperand(first + i), slots[1 + i]);
    llvm::Value *null = llvm::ConstantPointerNull::get(llvm::PointerType::get(context, 0));
    auto operand = [&](unsigned i) { return i < operands ? slots[1 + i] : null; };
    b.CreateCall(callee, {b.getInt32(*what), b.getInt32(++site), slots[0], operand(0), operand(1), operand(2)});
    if (!call->getType()->isVoidTy())
      call->replaceAllUsesWith(b.CreateLoad(call->getType(), slots[0]));
    call->eraseFromParent();
  }
  return "";
}

// entry(slots of 64 bits): calls the kernel with these arguments.
void add_entry(llvm::Module &module, llvm::Function &function) {
  llvm::LLVMContext &context = module.getContext();
  auto *entry = llvm::Function::Create(llvm::FunctionType::get(llvm::Type::getVoidTy(context), {llvm::PointerType::get(context, 0)}, false),
                                       llvm::Function::ExternalLinkage, "ingot_amd_entry", module);
  llvm::IRBuilder<> b(llvm::BasicBlock::Create(context, "entry", entry));
  std::vector<llvm::Value *> arguments;
  for (llvm::Argument &argument : function.args())
    arguments.push_back(b.CreateLoad(argument.getType(), b.CreateConstGEP1_32(b.getInt64Ty(), entry->getArg(0), argument.getArgNo())));
  b.CreateCall(&function, arguments);
  b.CreateRetVoid();
}

} // namespace

std::string run_amd(const kernel::Kernel &kernel, const TargetRecord &record, std::vector<std::vector<uint32_t>> &buffers,
                    const std::vector<std::pair<int, uint64_t>> &params, const std::array<uint32_t, 3> &grid, size_t *products, AmdFault fault) {
  auto failed = [](llvm::Error error) { return "LLJIT: " + llvm::toString(std::move(error)); };
  llvm::InitializeNativeTarget();
  llvm::InitializeNativeTargetAsmPrinter();
  auto host = llvm::orc::JITTargetMachineBuilder::detectHost();
  if (!host)
    return failed(host.takeError());
  host->setCodeGenOptLevel(llvm::CodeGenOptLevel::None);
  auto jit = llvm::orc::LLJITBuilder().setJITTargetMachineBuilder(std::move(*host)).create();
  if (!jit)
    return failed(jit.takeError());
  auto context = std::make_unique<llvm::LLVMContext>();
  auto module = std::make_unique<llvm::Module>("amd", *context);
  module->setDataLayout((*jit)->getDataLayout());
  module->setTargetTriple((*jit)->getTargetTriple().str());
  CodeTraits traits;
  traits.f16_convert = traits.f64_to_f16 = traits.rounding = traits.fma = true; // as AMDGPU's
  emit::emit_amdgpu_function(kernel, record, traits, *module);
  llvm::Function *function = module->getFunction(kernel.name);
  function->setCallingConv(llvm::CallingConv::C);
  if (std::string wrong = replace_intrinsics(*module, *function); !wrong.empty())
    return wrong;
  add_entry(*module, *function);
  std::string problem;
  llvm::raw_string_ostream stream(problem);
  if (llvm::verifyModule(*module, &stream))
    return problem;
  auto generator = llvm::orc::DynamicLibrarySearchGenerator::GetForCurrentProcess((*jit)->getDataLayout().getGlobalPrefix());
  if (!generator)
    return failed(generator.takeError());
  (*jit)->getMainJITDylib().addGenerator(std::move(*generator));
  llvm::orc::SymbolMap own;
  own[(*jit)->mangleAndIntern("ingot_amd_call")] = {llvm::orc::ExecutorAddr::fromPtr(&ingot_amd_call), llvm::JITSymbolFlags::Exported | llvm::JITSymbolFlags::Callable};
  if (llvm::Error error = (*jit)->getMainJITDylib().define(llvm::orc::absoluteSymbols(std::move(own))))
    return failed(std::move(error));
  if (llvm::Error error = (*jit)->addIRModule(llvm::orc::ThreadSafeModule(std::move(module), std::move(context))))
    return failed(std::move(error));
  auto entry = (*jit)->lookup("ingot_amd_entry");
  if (!entry)
    return failed(entry.takeError());

  Machine m{kernel, record.subgroup_size, fault};
  m.entry = entry->toPtr<void (*)(const uint64_t *)>();
  m.lanes = std::vector<Lane>(size_t{kernel.local_size[0]} * kernel.local_size[1] * kernel.local_size[2]);
  std::vector<std::unique_ptr<uint32_t[], void (*)(void *)>> aligned; // as devices align buffers
  for (std::vector<uint32_t> &buffer : buffers) {
    auto *copy = static_cast<uint32_t *>(std::aligned_alloc(256, (buffer.size() * 4 + 255) / 256 * 256));
    aligned.emplace_back(copy, std::free);
    std::memcpy(copy, buffer.data(), buffer.size() * 4);
    m.arguments.push_back(reinterpret_cast<uint64_t>(copy));
  }
  for (auto [bytes, bits] : params)
    m.arguments.push_back(bits);
  uint32_t error_word = 0;
  m.arguments.push_back(reinterpret_cast<uint64_t>(&error_word)); // read by kernels that have one
  machine = &m;
  std::string wrong;
  for (uint32_t i = 0; i < 3; ++i)
    m.grid[i] = grid[i];
  for (m.group[2] = 0; m.group[2] < grid[2] && wrong.empty(); ++m.group[2])
    for (m.group[1] = 0; m.group[1] < grid[1] && wrong.empty(); ++m.group[1])
      for (m.group[0] = 0; m.group[0] < grid[0] && wrong.empty(); ++m.group[0])
        wrong = m.run_group();
  machine = nullptr;
  for (size_t i = 0; i < buffers.size(); ++i)
    std::memcpy(buffers[i].data(), aligned[i].get(), buffers[i].size() * 4);
  if (products)
    *products += m.products;
  return wrong;
}

} // namespace ingot::aotc::gpu_spike
