// The compiler around the emitter: what an image is, that its bytes depend on nothing but the kernels, that a missing
// function is an error with its name, what a bad target text says, and that register tiles stay in registers.
#include <catch2/catch.hpp>

#include <algorithm>
#include <map>
#include <sstream>
#include <string>

#include "aotc/base/error.h"
#include "aotc/emit/llvm/linker.h"
#include "aotc/emit/llvm/native_runner.h"
#include "aotc/emit/llvm/pipeline.h"
#include "schemas/cpu_abi.h"
#include "tests/emit_llvm/case.h"

#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/Module.h"
#include "llvm/Target/TargetMachine.h"

namespace ingot::aotc::test {
namespace {

using namespace kernel;

CpuTarget target(const char *text) {
  std::string error;
  auto t = parse_cpu_target(text, &error);
  INFO(error);
  REQUIRE(t.has_value());
  return *t;
}

// y = relu(x) * 3 with a constant that needs a constant pool.
Kernel simple(const std::string &name) {
  Kernel k;
  k.name = name;
  Builder b(k);
  Type v(Scalar::kF32, 8);
  uint32_t x = b.add_buffer("x", Access::kRead, Scalar::kF32), y = b.add_buffer("y", Access::kWrite, Scalar::kF32);
  ValueId at = b.mul(b.group_id(0), b.index(8));
  b.store(y, at, b.mul(b.max(b.load(x, at, 8), b.zero(v)), b.constant_float(v, 3)));
  return k;
}

// 6 rows x 16 columns over k: the AVX2 register tile, 12 accumulators.
Kernel micro_kernel(int rows, int vectors, uint32_t lanes) {
  Kernel k;
  k.name = "micro";
  Builder b(k);
  uint32_t a = b.add_buffer("a", Access::kRead, Scalar::kF32), w = b.add_buffer("w", Access::kRead, Scalar::kF32);
  uint32_t c = b.add_buffer("c", Access::kWrite, Scalar::kF32);
  ValueId n = b.add_param("k", Scalar::kIndex, 1, 1 << 20);
  Type v(Scalar::kF32, lanes);
  int64_t width = vectors * lanes;
  ValueId g = b.group_id(0), tile = b.mul(g, b.mul(b.index(rows), n));
  Values acc = b.for_loop(b.index(0), n, b.index(1), Values(static_cast<size_t>(rows * vectors), b.zero(v)),
                          [&](ValueId i, const Values &in) {
                            Values out = in, panel;
                            for (int j = 0; j < vectors; j++)
                              panel.push_back(
                                  b.load(w, b.add(b.mul(i, b.index(width)), b.index(j * lanes)), lanes, lanes));
                            ValueId at = b.add(tile, b.mul(i, b.index(rows)));
                            for (int r = 0; r < rows; r++) {
                              ValueId s = b.splat(b.load(a, b.add(at, b.index(r))), lanes);
                              for (int j = 0; j < vectors; j++) {
                                ValueId &z = out[static_cast<size_t>(r * vectors + j)];
                                z = b.mad(s, panel[static_cast<size_t>(j)], z);
                              }
                            }
                            return out;
                          });
  for (int r = 0; r < rows; r++)
    for (int j = 0; j < vectors; j++)
      b.store(c, b.add(b.mul(g, b.index(rows * width)), b.index(r * width + j * lanes)),
              acc[static_cast<size_t>(r * vectors + j)], lanes);
  return k;
}

// Instructions of the loop that multiplies and adds: fused ones, others, and those that touch the stack.
struct LoopCount {
  int fused = 0, others = 0, stack = 0;
};
LoopCount count_fma_loop(const std::string &text) {
  std::istringstream in(text);
  std::map<std::string, LoopCount> since; // counts from each label on
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(".L") && line.find(':') != std::string::npos) {
      since[line.substr(0, line.find(':'))] = {};
      continue;
    }
    size_t at = line.find_first_not_of(" \t");
    if (at == std::string::npos || line[at] == '.' || line[at] == '#' || at == 0)
      continue;
    for (auto &[label, count] : since) {
      bool fused = line.compare(at, 6, "vfmadd") == 0;
      (fused ? count.fused : count.others)++;
      count.stack += line.find("%rsp") != std::string::npos;
    }
    for (auto &[label, count] : since) // a jump back ends the loop
      if (line[at] == 'j' && line.size() > label.size() && line.ends_with(label) && count.fused)
        return count;
  }
  return {};
}

} // namespace

TEST_CASE("an image is one read-only segment without section headers, and holds every version") {
  Kernel k = simple("simple");
  std::vector<CpuKernel> list;
  for (const CpuTarget &t : x86_targets())
    list.push_back({&k, "simple_" + std::to_string(list.size()), record_of(t), t});
  CpuResult r = compile_cpu(list, {});
  INFO(r.error);
  REQUIRE(r.module);
  REQUIRE(r.module->symbols.size() == x86_targets().size());
  CHECK(r.module->symbols[0].feature_mask == INGOT_CPU_X86_64_V2);
  CHECK(r.module->symbols[1].feature_mask == (INGOT_CPU_X86_64_V2 | INGOT_CPU_X86_64_V3));
  CHECK(r.module->symbols[2].feature_mask == (INGOT_CPU_X86_64_V2 | INGOT_CPU_X86_64_V3 | INGOT_CPU_X86_64_V4));
  const auto &elf = r.module->elf;
  CHECK(elf.size() < 8192);
  uint64_t section_offset;
  std::memcpy(&section_offset, elf.data() + 0x28, 8);
  CHECK(section_offset == 0);
  for (const auto &s : r.module->symbols) {
    CHECK(s.offset + s.code_bytes <= elf.size());
    CHECK(s.code_bytes > 16);
    CHECK(s.stack_bytes >= 8);
    CHECK(s.stack_bytes < 256);
    CHECK(s.scratch_bytes == 0);
  }
  std::string text(elf.begin(), elf.end());
  CHECK(text.find("aotc-") == std::string::npos); // no temporary path
}

TEST_CASE("the bytes do not depend on the number of threads or on earlier compilations") {
  std::vector<Kernel> kernels;
  for (int i = 0; i < 20; i++)
    kernels.push_back(simple("k" + std::to_string(i)));
  std::vector<CpuKernel> list;
  for (const Kernel &k : kernels)
    for (const CpuTarget &t : x86_targets())
      list.push_back({&k, k.name + "_" + std::to_string(list.size()), record_of(t), t});
  CpuOptions one, two;
  two.jobs = 2;
  CpuResult a = compile_cpu(list, one), b = compile_cpu(list, two), c = compile_cpu(list, two);
  REQUIRE(a.module);
  REQUIRE(b.module);
  REQUIRE(c.module);
  CHECK(a.module->elf == b.module->elf);
  CHECK(b.module->elf == c.module->elf);
}

TEST_CASE("a call of a function that is not there fails the link, by name, and the next link works") {
  CpuTarget t = target("x86-64-v3");
  std::string error;
  auto machine = create_target_machine(t, 2, &error);
  REQUIRE(machine);
  llvm::LLVMContext context;
  llvm::Module module("m", context);
  module.setTargetTriple(t.triple);
  module.setDataLayout(machine->createDataLayout());
  llvm::IRBuilder<> b(context);
  auto *type = llvm::FunctionType::get(b.getFloatTy(), {b.getFloatTy()}, false);
  auto callee = module.getOrInsertFunction("expf", type);
  auto *f = llvm::Function::Create(type, llvm::Function::ExternalLinkage, "f", module);
  b.SetInsertPoint(llvm::BasicBlock::Create(context, "", f));
  b.CreateRet(b.CreateCall(callee, {f->getArg(0)}));
  std::vector<uint8_t> object;
  generate_code(module, *machine, true, object);
  LinkedImage image = link_image({object});
  INFO(image.error);
  CHECK(image.error.find("undefined symbol: expf") != std::string::npos);
  CHECK(image.error.find("/tmp") == std::string::npos);
  Kernel k = simple("after");
  CHECK(compile_cpu({{&k, "after", record_of(t), t}}, {}).module.has_value());
}

TEST_CASE("writable data fails the link") {
  CpuTarget t = target("x86-64-v3");
  std::string error;
  auto machine = create_target_machine(t, 2, &error);
  llvm::LLVMContext context;
  llvm::Module module("m", context);
  module.setTargetTriple(t.triple);
  module.setDataLayout(machine->createDataLayout());
  llvm::IRBuilder<> b(context);
  auto *counter = new llvm::GlobalVariable(module, b.getInt32Ty(), false, llvm::GlobalValue::InternalLinkage,
                                           b.getInt32(7), "counter");
  auto *f = llvm::Function::Create(llvm::FunctionType::get(b.getVoidTy(), false),
                                   llvm::Function::ExternalLinkage, "f", module);
  b.SetInsertPoint(llvm::BasicBlock::Create(context, "", f));
  b.CreateStore(b.CreateAdd(b.CreateLoad(b.getInt32Ty(), counter), b.getInt32(1)), counter);
  b.CreateRetVoid();
  std::vector<uint8_t> object;
  generate_code(module, *machine, true, object);
  CHECK(link_image({object}).error.find("writable data") != std::string::npos);
}

TEST_CASE("target texts") {
  CHECK(target("host").feature_mask != 0);
  CHECK(target("aarch64-linux-gnu").triple == "aarch64-unknown-linux-gnu");
  CHECK(target("aarch64-linux-gnu,features=+dotprod,+i8mm").feature_mask ==
        (INGOT_CPU_AARCH64_DOTPROD | INGOT_CPU_AARCH64_I8MM));
  CpuTarget zen = target("x86_64-linux-gnu,cpu=znver4");
  CHECK((zen.feature_mask & INGOT_CPU_X86_64_V4) != 0);
  CHECK((zen.feature_mask & INGOT_CPU_X86_AVX512_BF16) != 0);
  auto message = [](const char *text) {
    std::string error;
    CHECK(!parse_cpu_target(text, &error));
    return error;
  };
  CHECK(message("x86-64-v9").find("target 'x86-64-v9'") != std::string::npos);
  CHECK(message("x86_64-linux-gnu,cpu=nonesuch").find("LLVM knows no CPU 'nonesuch'") != std::string::npos);
  CHECK(message("x86_64-linux-gnu,tune=a").find("'tune=a' is neither cpu=NAME nor features=LIST") != std::string::npos);
  CHECK(message("wasm32-unknown-unknown").find("not ELF") != std::string::npos);
  CHECK(message("x86_64-pc-windows-msvc").find("not ELF") != std::string::npos);
}

TEST_CASE("one image holds one architecture") {
  Kernel k = simple("simple");
  CpuTarget x86 = target("x86-64-v3"), arm = target("aarch64-linux-gnu");
  CpuResult r = compile_cpu({{&k, "a", record_of(x86), x86}, {&k, "b", record_of(arm), arm}}, {});
  CHECK(!r.module);
  CHECK(r.error.find("different architectures") != std::string::npos);
}

TEST_CASE("math functions must have been expanded before") {
  Kernel k;
  k.name = "raw";
  Builder b(k);
  uint32_t x = b.add_buffer("x", Access::kReadWrite, Scalar::kF32);
  b.store(x, b.index(0), b.unary(Opcode::kExp, b.load(x, b.index(0))));
  CpuTarget t = target("x86-64-v3");
  CHECK_THROWS_AS(compile_cpu({{&k, "raw", record_of(t), t}}, {}), InternalError);
}

// Index and integer divisions of every kind: what 32-bit machines have no instructions for.
Kernel divisions() {
  Kernel k;
  k.name = "divisions";
  Builder b(k);
  uint32_t x = b.add_buffer("x", Access::kRead, Scalar::kI64), y = b.add_buffer("y", Access::kWrite, Scalar::kI64);
  uint32_t z = b.add_buffer("z", Access::kWrite, Scalar::kI32);
  ValueId n = b.add_param("n"), g = b.group_id(0), at = b.mul(g, b.index(8));
  ValueId v = b.load(x, at, 4), w = b.load(x, b.add(at, b.index(4)), 4);
  for (Opcode op : {Opcode::kDiv, Opcode::kRem, Opcode::kDivU, Opcode::kRemU}) {
    b.store(y, b.binary(op, at, n), b.binary(op, v, w));
    b.store(z, b.binary(op, g, n),
            b.binary(op, b.convert(Type(Scalar::kI32, 4), v), b.convert(Type(Scalar::kI32, 4), w)));
  }
  return k;
}

TEST_CASE("other architectures compile and link without a library") {
  Kernel tile = micro_kernel(4, 2, 4), division = divisions();
  for (const char *text : {"aarch64-linux-gnu", "riscv64-linux-gnu,features=+m,+a,+f,+d,+c",
                           "riscv32-unknown-elf,features=+m,+a,+f,+d", "armv7-linux-gnueabihf,features=+neon",
                           "thumbv7em-none-eabihf,features=+vfp4"}) {
    CpuTarget t = target(text);
    CpuResult r = compile_cpu({{&tile, "tile", record_of(t), t}, {&division, "division", record_of(t), t}}, {});
    INFO(text << ": " << r.error);
    CHECK(r.module.has_value());
  }
}

TEST_CASE("relu is one instruction") {
  Kernel k = simple("relu");
  CpuTarget t = target("x86-64-v3");
  std::string text = emit_asm_text({&k, "relu", record_of(t), t});
  INFO(text);
  CHECK(text.find("vmaxps") != std::string::npos);
  CHECK(text.find("vblend") == std::string::npos);
  CHECK(text.find("vcmp") == std::string::npos);
}

TEST_CASE("register tiles stay in registers") {
  struct Tile {
    const char *target;
    int rows, vectors;
    uint32_t lanes;
  };
  for (Tile tile : {Tile{"x86-64-v3", 6, 2, 8}, Tile{"x86-64-v3", 4, 3, 8}, Tile{"x86-64-v4", 8, 2, 16},
                    Tile{"x86-64-v4", 14, 2, 16}, Tile{"aarch64-linux-gnu", 8, 2, 4}}) {
    Kernel k = micro_kernel(tile.rows, tile.vectors, tile.lanes);
    CpuTarget t = target(tile.target);
    CpuResult r = compile_cpu({{&k, "micro", record_of(t), t}}, {});
    REQUIRE(r.module);
    INFO(tile.target << " " << tile.rows << "x" << tile.vectors * tile.lanes);
    // Callee-saved registers only; a spilled accumulator takes 16 bytes and more in the loop.
    CHECK(r.module->symbols[0].stack_bytes <=
          16 + record_of(t).vector_bytes + 10 * 8 + (t.triple[0] == 'a' ? 8 * 8 : 0));
  }

  for (Tile tile : {Tile{"x86-64-v3", 6, 2, 8}, Tile{"x86-64-v4", 8, 2, 16}, Tile{"x86-64-v4", 14, 2, 16}}) {
    Kernel k = micro_kernel(tile.rows, tile.vectors, tile.lanes);
    CpuTarget t = target(tile.target);
    std::string text = emit_asm_text({&k, "micro", record_of(t), t});
    INFO(tile.target << "\n" << text);
    LoopCount loop = count_fma_loop(text);
    int steps = loop.fused / (tile.rows * tile.vectors); // of k, as LLVM may unroll
    REQUIRE(steps >= 1);
    CHECK(loop.fused == steps * tile.rows * tile.vectors);
    CHECK(loop.others <= steps * (tile.rows + tile.vectors) + 8); // broadcasts and loads, then the loop's own
    CHECK(loop.stack == 0);
  }
}

} // namespace ingot::aotc::test
