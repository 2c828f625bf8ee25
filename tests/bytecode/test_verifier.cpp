// The bytecode verifier: one broken kernel per rule, each refused with the rule's words; and the interpreter on
// what only shows while running.
#include <catch2/catch.hpp>

#include <cstring>
#include <functional>

#include "schemas/bytecode.h"
#include "schemas/cpu_abi.h"
#include "src/runtime/bytecode/program.h"
#include "tests/bytecode/runner.h"

using namespace ingot::bytecode;
using namespace ingot::aotc::testing;

namespace {

// A kernel by hand: two bindings (f32 read, f32 written), an array of 8 i32, one param.
struct Made {
  Header header = {};
  std::vector<Memory> memories;
  std::vector<Instruction> code;
  std::vector<uint8_t> access = {kReads, kWrites};

  Made() {
    header.magic = kMagic;
    header.binding_count = 2;
    header.param_count = 1;
    header.slot_count = 64;
    Memory in = {}, out = {}, own = {};
    in.storage = out.storage = Storage::f32;
    in.access = kReads;
    out.access = kWrites;
    own.storage = Storage::i32;
    own.access = kReads | kWrites;
    own.elements = 8;
    memories = {in, out, own};
    // The body: out[0..8) = in[0..8) + in[0..8).
    add(Op::const_64, 1, 8, 0).wide = 0;
    add(Op::end, 1, 0, 0);
    header.body = 2;
    add(Op::load, 8, 16, 8).imm = 0;
    add(Op::add_f32, 8, 24, 16).b = 16;
    Instruction &store = add(Op::store, 8, 0, 8);
    store.b = 24;
    store.imm = 1;
    add(Op::end, 1, 0, 0);
  }
  Instruction &add(Op op, uint32_t n, uint32_t d, uint32_t a) {
    Instruction i = {};
    i.op = static_cast<uint16_t>(op);
    i.n = static_cast<uint16_t>(n);
    i.d = static_cast<uint16_t>(d);
    i.a = static_cast<uint16_t>(a);
    code.push_back(i);
    return code.back();
  }
  // Puts an instruction in front of the body's end.
  Instruction &insert(Op op, uint32_t n, uint32_t d, uint32_t a) {
    Instruction end = code.back();
    code.pop_back();
    size_t at = code.size();
    add(op, n, d, a);
    code.push_back(end);
    return code[at];
  }
  std::vector<uint8_t> bytes() const {
    Header h = header;
    h.memory_count = static_cast<uint32_t>(memories.size());
    h.instruction_count = static_cast<uint32_t>(code.size());
    std::vector<uint8_t> out(sizeof h + memories.size() * sizeof(Memory) + code.size() * sizeof(Instruction));
    std::memcpy(out.data(), &h, sizeof h);
    if (!memories.empty()) std::memcpy(out.data() + sizeof h, memories.data(), memories.size() * sizeof(Memory));
    std::memcpy(out.data() + sizeof h + memories.size() * sizeof(Memory), code.data(),
                code.size() * sizeof(Instruction));
    return out;
  }
  BytecodeRun run(std::vector<std::vector<uint8_t>> *results = nullptr, uint64_t fuel = 1000) const {
    std::vector<std::vector<uint8_t>> buffers = {std::vector<uint8_t>(32), std::vector<uint8_t>(32)};
    for (size_t i = 0; i < 8; ++i) {
      float value = static_cast<float>(i);
      std::memcpy(buffers[0].data() + 4 * i, &value, 4);
    }
    BytecodeRun result;
    for (uint64_t features : lane_levels()) {
      std::vector<std::vector<uint8_t>> copies = buffers;
      result = run_image(bytes(), access, copies, {5}, {1, 1, 1}, features, fuel);
      if (results) *results = copies;
    }
    return result;
  }
};

struct Rule {
  const char *words;
  std::function<void(Made &)> broken;
};

// A tile of the input with itself: 2 rows, 2 vectors of 4 lanes, one loop. Slots of the operands: 8 (which
// holds 0).
void add_tile(Made &m, uint32_t rows = 2, uint32_t vectors = 2, uint32_t loops = 1) {
  Instruction &tile = m.insert(Op::tile, 4, 32, 0);
  tile.a = static_cast<uint16_t>(loops | kTileZero);
  tile.b = static_cast<uint16_t>(rows);
  tile.c = static_cast<uint16_t>(vectors);
  tile.imm = tile_operands(rows, vectors, loops);
  uint32_t words = extra_words(tile.imm);
  std::vector<uint16_t> numbers(words * 8, 8);
  numbers[0] = numbers[1] = 0;
  std::vector<Instruction> extra(words);
  std::memcpy(static_cast<void *>(extra.data()), numbers.data(), words * 16);
  m.code.insert(m.code.end() - 1, extra.begin(), extra.end());
}

const Rule kRules[] = {
    {"magic", [](Made &m) { m.header.magic ^= 1; }},
    {"magic", [](Made &m) { m.header.reserved = 1; }},
    {"bindings and", [](Made &m) { m.header.binding_count = 3; }},
    {"bindings and", [](Made &m) { m.header.param_count = 2; }},
    {"out of bounds", [](Made &m) { m.header.slot_count = kMaxSlots + 1; }},
    {"out of bounds", [](Made &m) { m.header.slot_count = 3; }},
    {"unknown type", [](Made &m) { m.memories[0].storage = Storage(kStorageCount); }},
    {"reserved", [](Made &m) { m.memories[0].reserved[5] = 1; }},
    {"not its binding's", [](Made &m) { m.memories[0].access = kReads | kWrites; }},
    {"not its binding's", [](Made &m) { m.memories[2].access = kReads; }},
    {"cannot have", [](Made &m) { m.memories[0].elements = 1; }},
    {"cannot have", [](Made &m) { m.memories[2].elements = 0; }},
    {"cannot have", [](Made &m) { m.memories[2].elements = kMaxArrayBytes + 1; }},
    {"1 GiB", [](Made &m) { m.memories[2].elements = kMaxArrayBytes; }},
    {"unknown opcode", [](Made &m) { m.code[3].op = static_cast<uint16_t>(Op::count); }},
    {"no lanes", [](Made &m) { m.code[3].n = 0; }},
    {"no lanes", [](Made &m) { m.code[3].n = kMaxLanes + 1; }},
    {"outside the file", [](Made &m) { m.code[3].d = 61; }},
    {"outside the file", [](Made &m) { m.code[3].a = 61; }},
    {"outside the file", [](Made &m) { m.code[3].b = 61; }},
    {"outside the file", [](Made &m) { m.insert(Op::select_32, 8, 0, 0).c = 61; }},
    {"outside the file", [](Made &m) { m.code[2].d = 61; }},
    {"outside the file", [](Made &m) { m.code[2].a = 64; }},
    {"outside the file", [](Made &m) { m.code[4].b = 61; }},
    {"outside the file", [](Made &m) { m.insert(Op::const_64, 8, 57, 0); }},
    {"outside the file", [](Made &m) { m.insert(Op::iota_64, 8, 57, 0); }},
    {"outside the file", [](Made &m) { m.insert(Op::splat_64, 8, 57, 0); }},
    {"outside the file", [](Made &m) { m.insert(Op::splat_64, 8, 0, 64); }},
    {"outside the file", [](Made &m) { m.insert(Op::move_32, 8, 0, 61); }},
    {"outside the file", [](Made &m) { m.insert(Op::pick_64, 8, 0, 0).c = 57; }},
    {"outside the file", [](Made &m) { m.insert(Op::extract_32, 8, 64, 0); }},
    {"outside the file", [](Made &m) { m.insert(Op::insert_32, 8, 0, 0).b = 64; }},
    {"a lane that there is not", [](Made &m) { m.insert(Op::extract_32, 8, 0, 0).imm = 8; }},
    {"a lane that there is not", [](Made &m) { m.insert(Op::insert_64, 8, 0, 0).imm = 8; }},
    {"a memory that there is not", [](Made &m) { m.code[2].imm = 3; }},
    {"does not allow", [](Made &m) { m.code[2].imm = 1; }},
    {"does not allow", [](Made &m) { m.code[4].imm = 0; }},
    {"no power of two", [](Made &m) { m.insert(Op::sum_f32, 6, 0, 0); }},
    {"outside the file", [](Made &m) { m.insert(Op::most_i64, 8, 0, 57); }},
    {"outside the file", [](Made &m) { m.insert(Op::load_part, 8, 0, 0).c = 61; }},
    {"outside the file", [](Made &m) { m.insert(Op::load_step, 8, 0, 0).b = 64; }},
    {"outside the file", [](Made &m) { m.insert(Op::load_if, 8, 0, 0).b = 64; }},
    {"outside the file", [](Made &m) { m.insert(Op::load_mask, 8, 0, 0).b = 61; }},
    {"outside the file", [](Made &m) { m.insert(Op::gather, 8, 0, 57); }},
    {"outside the file", [](Made &m) { m.insert(Op::gather_mask, 8, 0, 0).c = 61; }},
    {"outside the file",
     [](Made &m) {
       Instruction &i = m.insert(Op::scatter, 8, 0, 57);
       i.imm = 1;
     }},
    {"outside the file",
     [](Made &m) {
       Instruction &i = m.insert(Op::store_part, 8, 0, 0);
       i.imm = 1;
       i.c = 64;
     }},
    {"outside the file",
     [](Made &m) {
       Instruction &i = m.insert(Op::store_mask, 8, 0, 0);
       i.imm = 1;
       i.c = 61;
     }},
    {"neither i32 nor i64",
     [](Made &m) {
       m.memories[2].storage = Storage::f32;
       m.insert(Op::atomic_add, 1, 0, 0).imm = 2;
     }},
    {"over several lanes", [](Made &m) { m.insert(Op::atomic_max, 2, 0, 0).imm = 2; }},
    {"is cut off", [](Made &m) { m.insert(Op::shuffle_32, 1024, 0, 0).imm = 1; }},
    {"no lanes", [](Made &m) { m.insert(Op::shuffle_32, 8, 0, 0).imm = 0; }},
    {"a lane that there is not",
     [](Made &m) {
       m.insert(Op::shuffle_32, 2, 0, 0).imm = 2;
       m.insert(Op::neg_i32, 4, 4, 4); // the list: its first number is the opcode
     }},
    {"no instruction", [](Made &m) { m.insert(Op::jump, 1, 0, 0).imm = 100; }},
    {"no instruction", [](Made &m) { m.insert(Op::jump_if, 1, 0, 0).imm = 1u << 31; }},
    {"no instruction",
     [](Made &m) {
       add_tile(m);
       m.insert(Op::jump_unless, 1, 0, 0).imm = 6; // within the tile's numbers
     }},
    {"outside the file", [](Made &m) { m.insert(Op::jump_if, 1, 0, 64).imm = 2; }},
    {"outside the file", [](Made &m) { m.insert(Op::jump_ge_i64, 1, 0, 0).b = 64; }},
    {"outside the file", [](Made &m) { m.insert(Op::loop_i64, 1, 64, 0).imm = 2; }},
    {"outside the file", [](Made &m) { m.insert(Op::error, 1, 0, 64); }},
    {"off the end", [](Made &m) { m.code.pop_back(); }},
    {"off the end", [](Made &m) { m.code.clear(); }},
    {"the body starts", [](Made &m) { m.header.body = 100; }},
    {"shape that tiles do not have", [](Made &m) { add_tile(m, 0); }},
    {"shape that tiles do not have", [](Made &m) { add_tile(m, kMaxTileRows + 1, 1); }},
    {"shape that tiles do not have", [](Made &m) { add_tile(m, 1, kMaxTileVectors + 1); }},
    {"shape that tiles do not have", [](Made &m) { add_tile(m, 2, 2, kMaxTileLoops + 1); }},
    {"shape that tiles do not have", [](Made &m) { add_tile(m, 2, 2, 0); }},
    {"another number of operands",
     [](Made &m) {
       add_tile(m);
       --m.code[5].imm;
     }},
    {"different types",
     [](Made &m) {
       add_tile(m);
       uint16_t array = 2;
       std::memcpy(&m.code[6], &array, 2);
     }},
    {"does not allow",
     [](Made &m) {
       add_tile(m);
       uint16_t output = 1;
       std::memcpy(&m.code[6], &output, 2);
     }},
    {"outside the file",
     [](Made &m) {
       add_tile(m);
       m.code[5].d = 57; // 16 lanes take 8 slots
     }},
    {"outside the file",
     [](Made &m) {
       add_tile(m);
       uint16_t far = 64;
       std::memcpy(reinterpret_cast<uint8_t *>(&m.code[6]) + 8, &far, 2);
     }},
};

} // namespace

TEST_CASE("the kernel that the rules break runs as it is") {
  Made m;
  std::vector<std::vector<uint8_t>> results;
  CHECK(m.run(&results).error == "");
  for (size_t i = 0; i < 8; ++i) {
    float value;
    std::memcpy(&value, results[1].data() + 4 * i, 4);
    CHECK(value == 2 * static_cast<float>(i));
  }
  add_tile(m);
  CHECK(m.run().error == "");
  CHECK(m.run().error_word == 0);
}

TEST_CASE("every rule of the verifier is broken once") {
  int number = 0;
  for (const Rule &rule : kRules) {
    Made m;
    rule.broken(m);
    std::string error = m.run().error;
    INFO("rule " << number++ << " (" << rule.words << "): " << error);
    CHECK(error.find(rule.words) != std::string::npos);
  }
}

TEST_CASE("a kernel that is cut off is refused") {
  std::vector<uint8_t> whole = Made().bytes();
  for (size_t size = 0; size < whole.size(); ++size) {
    std::vector<uint8_t> part(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
    std::vector<std::vector<uint8_t>> buffers(2, std::vector<uint8_t>(32));
    CHECK(run_image(part, {kReads, kWrites}, buffers, {5}, {1, 1, 1}, 0).error != "");
  }
}

TEST_CASE("accesses outside a binding end the run") {
  struct Access {
    Op op;
    uint32_t memory;
    int64_t index;
    bool allowed;
  };
  // Slot 9 holds the index, slots 40.. the index for every lane (where indices are vectors), slot 10 is 1.
  const Access cases[] = {
      {Op::load, 0, 0, true},           {Op::load, 0, 1, false},        {Op::load, 0, -1, false},
      {Op::load, 0, INT64_MIN, false},  {Op::store, 1, 0, true},        {Op::store, 1, 1, false},
      {Op::store, 1, INT64_MAX, false}, {Op::gather, 0, 7, true},       {Op::gather, 0, 8, false},
      {Op::gather, 0, -1, false},       {Op::scatter, 1, 7, true},      {Op::scatter, 1, 8, false},
      {Op::scatter, 1, -1, false},      {Op::load_mask, 0, 0, true},    {Op::load_mask, 0, 1, false},
      {Op::store_mask, 1, 0, true},     {Op::store_mask, 1, 1, false},  {Op::load_step, 0, 7, true},
      {Op::load_step, 0, 6, false},     {Op::load_step, 0, -1, false},  {Op::load_if, 0, 1, false},
      {Op::store_if, 1, 1, false},      {Op::load_part, 0, 7, true},    {Op::load_part, 0, 8, false},
      {Op::store_part, 1, 7, true},     {Op::store_part, 1, 8, false},  {Op::gather_mask, 0, 7, true},
      {Op::gather_mask, 0, 8, false},   {Op::scatter_mask, 1, 7, true}, {Op::scatter_mask, 1, 8, false},
      {Op::atomic_add, 2, 7, true},     {Op::atomic_add, 2, 8, false},  {Op::atomic_min, 2, -1, false},
  };
  for (const Access &access : cases) {
    INFO(ingot::bytecode::op_name(access.op) << " at " << access.index);
    Made m;
    m.header.slot_count = 128;
    bool indices = access.op == Op::gather || access.op == Op::scatter || access.op == Op::gather_mask ||
                   access.op == Op::scatter_mask;
    m.insert(Op::const_64, 1, 9, 0).wide = static_cast<uint64_t>(access.index);
    m.insert(Op::const_64, 8, 40, 0).wide = static_cast<uint64_t>(access.index);
    m.insert(Op::const_64, 1, 10, 0).wide = 1;
    m.insert(Op::const_32, 8, 56, 0).wide = 1;                                                 // conditions
    m.insert(Op::const_64, 1, 11, 0).wide = static_cast<uint64_t>(access.index == 7 ? -1 : 1); // a step
    bool loads = access.op == Op::load || access.op == Op::gather || access.op == Op::load_mask ||
                 access.op == Op::load_if || access.op == Op::load_part || access.op == Op::gather_mask;
    bool atomic = access.op >= Op::atomic_add && access.op <= Op::atomic_max;
    bool part = access.op == Op::load_part || access.op == Op::store_part;
    uint16_t condition = part ? 10 : 56;
    Instruction &i = m.insert(access.op, atomic ? 1 : 8, 64, indices ? 40u : 9u);
    i.imm = access.memory;
    i.b = access.op == Op::load_step ? 11 : loads ? condition : 72;
    i.c = loads ? 72 : condition;
    BytecodeRun run = m.run();
    REQUIRE(run.error == "");
    CHECK(run.error_word == (access.allowed ? 0 : (uint64_t{7} << 32 | INGOT_KERNEL_ERROR_BOUNDS)));
  }
}

TEST_CASE("fuel ends what does not end by itself") {
  Made m;
  m.insert(Op::jump, 1, 0, 0).imm = 2;
  BytecodeRun run = m.run();
  CHECK(run.error == "");
  CHECK(run.error_word == (uint64_t{7} << 32 | INGOT_KERNEL_ERROR_FUEL));
  Made loop;
  loop.insert(Op::const_64, 1, 9, 0).wide = 0;
  Instruction &back = loop.insert(Op::loop_i64, 1, 9, 8);
  back.b = 8; // 0 += 0 while below 0: ends
  back.imm = 2;
  CHECK(loop.run().error_word == 0);
  loop.code[5].wide = static_cast<uint64_t>(INT64_MIN); // never reaches it
  CHECK(loop.run().error_word == (uint64_t{7} << 32 | INGOT_KERNEL_ERROR_FUEL));
  Made tile;
  add_tile(tile);
  // Trips of 2^62 with steps of 0.
  Instruction trips = {};
  trips.op = static_cast<uint16_t>(Op::const_64);
  trips.n = 1;
  trips.d = 11;
  trips.wide = uint64_t{1} << 62;
  Instruction lanes = trips;
  lanes.d = 12;
  lanes.wide = 4;
  tile.code.insert(tile.code.begin() + 5, {trips, lanes});
  uint16_t slot = 11, count = 12;
  uint8_t *numbers = reinterpret_cast<uint8_t *>(&tile.code[8]);
  for (int v = 0; v < 2; ++v) std::memcpy(numbers + 2 * (2 + 2 + 2 + v), &count, 2);
  std::memcpy(numbers + 2 * (2 + 2 + 2 * 2), &slot, 2);
  CHECK(tile.run().error_word == (uint64_t{7} << 32 | INGOT_KERNEL_ERROR_FUEL));
}
