#include "aotc/emit/llvm/pipeline.h"

#include "aotc/base/error.h"

#include "llvm/ADT/SmallVector.h"
#include "llvm/Analysis/TargetLibraryInfo.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/InstIterator.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/Transforms/InstCombine/InstCombine.h"
#include "llvm/Transforms/Scalar/ADCE.h"
#include "llvm/Transforms/Scalar/EarlyCSE.h"
#include "llvm/Transforms/Scalar/GVN.h"
#include "llvm/Transforms/Scalar/LICM.h"
#include "llvm/Transforms/Scalar/LoopPassManager.h"
#include "llvm/Transforms/Scalar/SROA.h"
#include "llvm/Transforms/Scalar/SimplifyCFG.h"
#include "llvm/Transforms/Utils/IntegerDivision.h"

namespace ingot::aotc {
namespace {

llvm::TargetLibraryInfoImpl no_library(const llvm::TargetMachine &machine) {
  llvm::TargetLibraryInfoImpl none(machine.getTargetTriple());
  none.disableAllFunctions();
  return none;
}

llvm::FunctionPassManager pipeline(unsigned opt_level) {
  llvm::FunctionPassManager passes;
  passes.addPass(llvm::SROAPass(llvm::SROAOptions::ModifyCFG));
  passes.addPass(llvm::EarlyCSEPass(true));
  passes.addPass(llvm::SimplifyCFGPass());
  passes.addPass(llvm::InstCombinePass());
  llvm::LoopPassManager loops;
  loops.addPass(llvm::LICMPass(llvm::LICMOptions()));
  passes.addPass(llvm::createFunctionToLoopPassAdaptor(std::move(loops), /*UseMemorySSA=*/true));
  if (opt_level >= 2)
    passes.addPass(llvm::GVNPass(llvm::GVNOptions().setPRE(false).setLoadPRE(false)));
  else
    passes.addPass(llvm::EarlyCSEPass());
  passes.addPass(llvm::InstCombinePass());
  passes.addPass(llvm::SimplifyCFGPass());
  passes.addPass(llvm::ADCEPass());
  return passes;
}

} // namespace

void expand_divisions(llvm::Module &module, unsigned bits) {
  using llvm::Instruction;
  auto wanted = [&](llvm::Instruction &i) {
    bool division = i.getOpcode() == Instruction::SDiv || i.getOpcode() == Instruction::UDiv ||
                    i.getOpcode() == Instruction::SRem || i.getOpcode() == Instruction::URem;
    return division && i.getType()->getScalarSizeInBits() > bits;
  };
  std::vector<llvm::BinaryOperator *> found;
  for (llvm::Function &f : module)
    for (llvm::Instruction &i : llvm::instructions(f))
      if (wanted(i))
        found.push_back(llvm::cast<llvm::BinaryOperator>(&i));
  std::vector<llvm::BinaryOperator *> scalars;
  for (llvm::BinaryOperator *d : found) {
    auto *vector = llvm::dyn_cast<llvm::FixedVectorType>(d->getType());
    if (!vector) {
      scalars.push_back(d);
      continue;
    }
    llvm::IRBuilder<> b(d);
    llvm::Value *all = llvm::PoisonValue::get(vector);
    for (uint64_t lane = 0; lane < vector->getNumElements(); lane++) {
      llvm::Value *one = b.CreateBinOp(d->getOpcode(), b.CreateExtractElement(d->getOperand(0), lane),
                                       b.CreateExtractElement(d->getOperand(1), lane));
      if (auto *scalar = llvm::dyn_cast<llvm::BinaryOperator>(one); scalar && wanted(*scalar))
        scalars.push_back(scalar);
      all = b.CreateInsertElement(all, one, lane);
    }
    d->replaceAllUsesWith(all);
    d->eraseFromParent();
  }
  for (llvm::BinaryOperator *d : scalars) {
    if (d->getOpcode() == Instruction::SDiv || d->getOpcode() == Instruction::UDiv)
      llvm::expandDivisionUpTo64Bits(d);
    else
      llvm::expandRemainderUpTo64Bits(d);
  }
}

void optimise_module(llvm::Module &module, llvm::TargetMachine &machine, unsigned opt_level) {
  if (opt_level == 0)
    return;
  llvm::PassBuilder builder(&machine);
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager sccs;
  llvm::ModuleAnalysisManager modules;
  functions.registerPass([&] { return llvm::TargetLibraryAnalysis(no_library(machine)); }); // before the default one
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(sccs);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, sccs, modules);
  for (unsigned round = 0; round < (opt_level >= 3 ? 2u : 1u); round++) {
    llvm::FunctionPassManager passes = pipeline(opt_level);
    for (llvm::Function &f : module)
      if (!f.isDeclaration())
        functions.invalidate(f, passes.run(f, functions));
  }
}

void generate_code(llvm::Module &module, llvm::TargetMachine &machine, bool object, std::vector<uint8_t> &out) {
  llvm::SmallVector<char, 0> bytes;
  llvm::raw_svector_ostream stream(bytes);
  llvm::legacy::PassManager passes;
  passes.add(new llvm::TargetLibraryInfoWrapperPass(no_library(machine)));
  bool refused = machine.addPassesToEmitFile(passes, stream, nullptr, object ? llvm::CodeGenFileType::ObjectFile
                                                                             : llvm::CodeGenFileType::AssemblyFile,
                                             /*DisableVerify=*/true);
  ensure(!refused, "LLVM: the target cannot emit this file type");
  passes.run(module);
  out.assign(bytes.begin(), bytes.end());
}

} // namespace ingot::aotc
