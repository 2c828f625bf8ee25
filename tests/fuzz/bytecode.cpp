// libFuzzer on bytecode: an image is verified and, where that passes, run with little fuel on buffers of
// exactly the bound lengths, at each level of microkernels. Inputs are kernels as the archive holds them; what
// precedes is taken from the header, so that mutated kernels stay plausible. The mutator works on whole
// instructions.
//
//   fuzz_bytecode -ingot_write_seeds=DIR   writes the seeds: kernels that use every opcode
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "schemas/bytecode.h"
#include "schemas/cpu_abi.h"
#include "src/runtime/bytecode/lanes.h"
#include "src/runtime/bytecode/program.h"
#include "src/runtime/cpu/features.h"

using namespace ingot;
using namespace ingot::bytecode;

namespace {

constexpr size_t kBytes = 256; // of each binding
constexpr uint64_t kFuel = 2000;

struct Freed {
  void *memory;
  explicit Freed(size_t bytes, int fill) {
    if (posix_memalign(&memory, 64, bytes ? bytes : 1)) std::abort();
    std::memset(memory, fill, bytes);
  }
  ~Freed() { std::free(memory); }
  Freed(const Freed &) = delete;
  uint8_t *data() { return static_cast<uint8_t *>(memory); }
};

uint64_t next(uint64_t &state) {
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

void run_once(const uint8_t *data, size_t size, uint64_t features) {
  Freed image(size, 0);
  if (size) std::memcpy(image.data(), data, size);
  Header h = {};
  if (size >= sizeof h) std::memcpy(&h, data, sizeof h);
  if (h.binding_count > 16 || h.param_count > 16) return;
  uint8_t access[16] = {};
  for (uint32_t i = 0; i < h.binding_count; ++i) {
    Memory m;
    if (size < sizeof h + (i + 1) * sizeof m) return;
    std::memcpy(&m, data + sizeof h + i * sizeof m, sizeof m);
    access[i] = m.access & 3;
  }
  const Signature signature = {h.binding_count, h.param_count, access};
  Kernel kernel;
  ingot_error_t error;
  if (verify(resolve_allocator(nullptr), image.data(), size, 0, signature, &kernel, &error)) {
    if (error.code != INGOT_CORRUPT || !error.message[0]) std::abort();
    return;
  }
  char line[256];
  for (uint32_t at = 0; at < h.instruction_count;)
    at += disassemble(kernel, at, line, at % 3 ? sizeof line : 16);
  if (kernel.scratch_bytes > 1 << 20) return;
  kernel.lanes = &choose_lanes(features);
  kernel.fuel = kFuel;
  Freed scratch(kernel.scratch_bytes, 0x5a);
  std::vector<std::unique_ptr<Freed>> buffers;
  uint64_t error_word = 0;
  IngotCpuArgs header = {};
  header.group_end = 2;
  header.grid[0] = 2;
  header.grid[1] = header.grid[2] = 1;
  header.tail = h.binding_count + h.param_count;
  header.error = uintptr_t(&error_word);
  header.scratch = uintptr_t(scratch.memory);
  std::vector<uint64_t> words(5);
  std::memcpy(words.data(), &header, sizeof header);
  for (uint32_t i = 0; i < h.binding_count; ++i) {
    buffers.push_back(std::make_unique<Freed>(kBytes - 8 * i, 3));
    words.push_back(uintptr_t(buffers.back()->memory));
  }
  for (uint32_t i = 0; i < h.param_count; ++i) words.push_back(i + 1);
  words.push_back(uintptr_t(&kernel));
  for (uint32_t i = 0; i < h.binding_count; ++i) words.push_back(kBytes - 8 * i);
  run(kernel, reinterpret_cast<const IngotCpuArgs *>(words.data()));
}

// ---- seeds

std::vector<uint8_t> layout(Header h, const std::vector<Memory> &memories,
                            const std::vector<Instruction> &code) {
  h.memory_count = uint32_t(memories.size());
  h.instruction_count = uint32_t(code.size());
  std::vector<uint8_t> out(sizeof h + memories.size() * sizeof(Memory) + code.size() * sizeof(Instruction));
  std::memcpy(out.data(), &h, sizeof h);
  std::memcpy(out.data() + sizeof h, memories.data(), memories.size() * sizeof(Memory));
  std::memcpy(out.data() + sizeof h + memories.size() * sizeof(Memory), code.data(),
              code.size() * sizeof(Instruction));
  return out;
}

// One instruction of the opcode with operands that are in range, for a file of 256 slots of which 8.. hold
// small numbers.
void append(std::vector<Instruction> &code, Op op, uint32_t lanes, uint32_t memory_count) {
  Instruction i = {};
  i.op = uint16_t(op);
  i.n = uint16_t(lanes);
  i.d = 64;
  i.a = 8;
  i.b = 96;
  i.c = 128;
  i.imm = 0;
  const std::string name = op_name(op);
  if (name.rfind("load", 0) == 0 || name.rfind("gather", 0) == 0) i.imm = uint32_t(code.size()) % memory_count;
  if (name.rfind("store", 0) == 0 || name.rfind("scatter", 0) == 0)
    i.imm = uint32_t(code.size()) % memory_count;
  if (name.rfind("atomic", 0) == 0) {
    i.imm = 3 + uint32_t(code.size()) % 2;
    i.n = 1;
  }
  if (name.rfind("const", 0) == 0) {
    i.d = 96;
    i.wide = 3;
  }
  if (op >= Op::jump && op <= Op::loop_i64) i.imm = uint32_t(code.size()) + 1;
  if (op == Op::loop_i32 || op == Op::loop_i64) i.d = 9;
  if (op == Op::shuffle_32 || op == Op::shuffle_64) {
    i.imm = lanes;
    code.push_back(i);
    code.resize(code.size() + extra_words(lanes));
    return;
  }
  if (op == Op::tile) {
    i.n = 4;
    i.a = 2 | (lanes % 2 ? kTileZero : 0);
    i.b = 3;
    i.c = 2;
    i.d = 160;
    i.imm = tile_operands(3, 2, 2);
    code.push_back(i);
    const uint16_t memory = lanes % 2 ? 5 : 3; // f32 or i32
    std::vector<uint16_t> numbers(extra_words(i.imm) * 8, 10);
    numbers[0] = numbers[1] = memory;
    const size_t at = code.size();
    code.resize(at + extra_words(i.imm));
    std::memcpy(static_cast<void *>(&code[at]), numbers.data(), numbers.size() * 2);
    return;
  }
  if (op == Op::end) return;
  code.push_back(i);
}

std::vector<uint8_t> seed(uint32_t lanes, uint32_t first, uint32_t step) {
  Header h = {};
  h.magic = kMagic;
  h.binding_count = 7;
  h.param_count = 2;
  h.slot_count = 512;
  std::vector<Memory> memories;
  for (uint32_t s = 0; s < kStorageCount; ++s) {
    Memory m = {};
    m.storage = Storage(s);
    m.access = kReads | kWrites;
    memories.push_back(m);
  }
  Memory own = memories[5];
  own.elements = 20;
  memories.push_back(own);
  std::vector<Instruction> code;
  Instruction number = {};
  number.op = uint16_t(Op::const_64);
  number.n = 1;
  for (uint32_t slot = 9; slot < 12; ++slot) {
    number.d = uint16_t(slot);
    number.wide = slot - 8;
    code.push_back(number);
  }
  Instruction end = {};
  end.op = uint16_t(Op::end);
  end.n = 1;
  code.push_back(end);
  h.body = uint32_t(code.size());
  for (uint32_t op = first; op < kOps; op += step) append(code, Op(op), lanes, uint32_t(memories.size()));
  code.push_back(end);
  return layout(h, memories, code);
}

} // namespace

extern "C" size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

extern "C" int LLVMFuzzerInitialize(int *argc, char ***argv) {
  constexpr char kFlag[] = "-ingot_write_seeds=";
  for (int i = 1; i < *argc; ++i) {
    if (std::strncmp((*argv)[i], kFlag, sizeof kFlag - 1) != 0) continue;
    int number = 0;
    for (uint32_t lanes : {1u, 2u, 4u, 8u, 16u})
      for (uint32_t step : {1u, 7u})
        for (uint32_t first = 0; first < step; ++first) {
          const std::vector<uint8_t> bytes = seed(lanes, first, step);
          std::ofstream file(std::string((*argv)[i] + sizeof kFlag - 1) + "/seed" + std::to_string(number++),
                             std::ios::binary);
          file.write(reinterpret_cast<const char *>(bytes.data()), long(bytes.size()));
        }
    exit(0);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  run_once(data, size, 0);
  const uint64_t here = host_cpu_features();
  if (here & INGOT_CPU_X86_64_V3) run_once(data, size, INGOT_CPU_X86_64_V3);
  if (here & INGOT_CPU_X86_64_V4) run_once(data, size, INGOT_CPU_X86_64_V4);
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int number) {
  uint64_t state = number * 0x9e3779b97f4a7c15ull + 1;
  Header h;
  if (size < sizeof h + sizeof(Instruction) || next(state) % 8 == 0)
    return LLVMFuzzerMutate(data, size, max_size);
  std::memcpy(&h, data, sizeof h);
  const size_t start = sizeof h + size_t(h.memory_count % 64) * sizeof(Memory);
  if (size < start + sizeof(Instruction)) return LLVMFuzzerMutate(data, size, max_size);
  const size_t words = (size - start) / sizeof(Instruction);
  for (uint64_t round = 0; round <= next(state) % 4; ++round) {
    const size_t at = start + next(state) % words * sizeof(Instruction);
    Instruction i;
    std::memcpy(&i, data + at, sizeof i);
    switch (next(state) % 10) {
      case 0:
        i.op = uint16_t(next(state) % kOps);
        break;
      case 1:
        i.n = uint16_t(1 + next(state) % 17);
        break;
      case 2:
        i.d = uint16_t(next(state) % 300);
        break;
      case 3:
        i.a = uint16_t(next(state) % 300);
        break;
      case 4:
        i.b = uint16_t(next(state) % 300);
        break;
      case 5:
        i.c = uint16_t(next(state) % 300);
        break;
      case 6:
        i.imm = uint32_t(next(state) % 40);
        break;
      case 7:
        i.wide = next(state) >> next(state) % 64;
        break;
      case 8:
        std::memcpy(&i, data + start + next(state) % words * sizeof i, sizeof i);
        break;
      default:
        reinterpret_cast<uint8_t *>(&i)[next(state) % sizeof i] ^= uint8_t(1u << next(state) % 8);
    }
    std::memcpy(data + at, &i, sizeof i);
  }
  return size;
}
