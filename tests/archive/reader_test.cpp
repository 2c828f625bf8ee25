// The verifier: one wrong thing at a time, each refused with a message that says where and what.
#include <catch2/catch.hpp>

#include <cstring>
#include <functional>

#include "tests/archive/hand_made.h"
#include "tests/archive/support.h"

using namespace support;
using hand_made::ExprOp;
using hand_made::kNone;

namespace {

// A sound model with a bit of everything, as a base for spoiling.
hand_made::Builder sound() {
  using namespace hand_made;
  Builder b;
  const uint32_t k = b.kernel("scale_f32", {kAccessReadWrite}, 2);
  const uint32_t weights = b.weights({1, 2, 3, 4});
  Function &f = b.function();
  f.symbols = {{"n", 1, 100, SymbolKind::input}, {"h", 0, 9, SymbolKind::host}};
  ExprBuilder e(f);
  const uint32_t zero = e.constant(0), one = e.constant(1), sixteen = e.constant(16), n = e.symbol(0), h = e.symbol(1);
  const uint32_t bytes = e.mul(n, e.constant(4));
  f.inputs = {{"x", INGOT_ELEMENT_TYPE_F32, {n}, {"length"}, kNone}};
  f.outputs = {{"y", INGOT_ELEMENT_TYPE_F32, {n}, {}, kNone}};
  f.arenas = {e.constant(64)};
  f.messages = {"no"};
  f.sites = {{k, {"node"}, kNone, kNone}};
  input_slot(f, 0, bytes);                  // 0
  output_slot(f, 0, bytes);                 // 1
  constant_slot(f, weights, 0, sixteen);    // 2
  transient_slot(f, 0, zero, sixteen);      // 3
  alias_slot(f, 3, zero, sixteen);          // 4
  splat_slot(f, 0x3f800000, 4, sixteen);    // 5
  state_slot(f, 0, sixteen);                // 6
  f.subroutines.resize(2);
  CommandBuilder s0(f.subroutines[0]);
  s0.barrier();
  CommandBuilder s1(f.subroutines[1]);
  s1.call(0);
  CommandBuilder w(f.commands);
  w.dispatch(k, 0, one, one, one, {{3, zero, sixteen}}, {e.constant(4), zero}); // words 0 .. 12
  w.copy(1, zero, 0, zero, bytes);                                              // 13
  w.fill(4, zero, sixteen, 1, 4);                                               // 19
  w.read_scalar(2, zero, INGOT_ELEMENT_TYPE_I32, 1);                            // 26
  w.check(e.binary(ExprOp::lt, h, n), 0);                                       // 31
  w.begin_loop(h, kNone, kNone);                                                // 34
  w.begin_if(h);                                                                // 39
  w.call(1);                                                                    // 43
  w.end_if();
  w.end_loop();
  w.bind(n, 1);                                                                 // 45
  return b;
}

std::string refusal(const std::function<void(hand_made::Builder &)> &spoil) {
  hand_made::Builder b = sound();
  spoil(b);
  const std::vector<uint8_t> bytes = b.bytes();
  auto archive = ingot::Archive::open(bytes.data(), bytes.size());
  if (archive.ok()) return "accepted";
  CHECK(archive.status().code() == INGOT_CORRUPT);
  return archive.message();
}
std::string refusal_f(const std::function<void(hand_made::Function &)> &spoil) {
  const std::string head = "archive: variant 0 (llvm-cpu), function 0 (main): ";
  const std::string text = refusal([&](hand_made::Builder &b) { spoil(b.variant().functions[0]); });
  return text.rfind(head, 0) == 0 ? text.substr(head.size()) : text;
}

} // namespace

TEST_CASE("the sound model is accepted") { CHECK(refusal([](hand_made::Builder &) {}) == "accepted"); }

TEST_CASE("segments, variants and kernels") {
  using B = hand_made::Builder;
  CHECK(contains(refusal([](B &b) { b.model.segments[1].alignment = 96; }), "its alignment is not a power of two"));
  CHECK(contains(refusal([](B &b) { b.model.segments[1].alignment = 8192; }), "its alignment is not a power of two"));
  CHECK(contains(refusal([](B &b) { b.model.segments[1].kind = hand_made::SegmentKind(9); }), "unknown kind"));
  CHECK(contains(refusal([](B &b) { b.model.variants.clear(); }), "it holds no variant"));
  CHECK(contains(refusal([](B &b) { b.variant().functions.clear(); }), "it has no function"));
  CHECK(contains(refusal([](B &b) { b.variant().io_alignment = 3; }), "its alignment is not a power of two up to 64"));
  CHECK(contains(refusal([](B &b) { b.variant().io_alignment = 128; }), "its alignment is not a power of two up to 64"));
  CHECK(contains(refusal([](B &b) { b.variant().executables[0].segment = 1; }), "no segment of code"));
  CHECK(contains(refusal([](B &b) { b.variant().executables[0].format = hand_made::CodeFormat(77); }), "unknown format"));
  CHECK(contains(refusal([](B &b) { b.variant().kernels[0].versions.clear(); }), "kernel 0 (scale_f32): it has no code version"));
  CHECK(contains(refusal([](B &b) { b.variant().kernels[0].versions[0].executable = 1; }), "names no executable"));
  CHECK(contains(refusal([](B &b) { b.variant().kernels[0].versions[0].scratch_bytes = uint64_t(1) << 40; }), "scratch"));
  CHECK(contains(refusal([](B &b) { b.variant().kernels[0].bindings[0] = 4; }), "access is not 1, 2 or 3"));
  CHECK(contains(refusal([](B &b) { b.variant().kernels[0].bindings.resize(65, 1); }), "more than 64"));
  CHECK(contains(refusal([](B &b) { b.variant().kernels[0].local_size[1] = 0; }), "local size"));
  CHECK(contains(refusal([](B &b) { b.model.variants.push_back(b.variant()); b.model.variants[1].functions[0].inputs[0].name = "z"; }), "another signature"));
  CHECK(contains(refusal([](B &b) { b.model.variants.push_back(b.variant()); b.model.variants[1].functions.clear(); }), "it has no function"));
}

TEST_CASE("symbols, expressions, signatures") {
  using F = hand_made::Function;
  CHECK(refusal_f([](F &f) { f.symbols[0].kind = hand_made::SymbolKind(2); }) == "symbol 0: unknown kind");
  CHECK(refusal_f([](F &f) { f.symbols[0].min = 101; }) == "symbol 0: its minimum is above its maximum");
  CHECK(refusal_f([](F &f) { f.symbols[0].min = -1; }) == "symbol 0: the range of a dim must lie in 0 .. 2^31");
  CHECK(refusal_f([](F &f) { f.symbols[0].max = int64_t(1) << 40; }) == "symbol 0: the range of a dim must lie in 0 .. 2^31");
  CHECK(refusal_f([](F &f) { f.symbols.push_back({"free", 0, 1, hand_made::SymbolKind::input}); }) == "symbol 2 (free): no input binds it");
  CHECK(refusal_f([](F &f) { f.exprs.push_back({ExprOp(17), 0, 0, 0, 0}); }).find("unknown operator 17") != std::string::npos);
  CHECK(contains(refusal_f([](F &f) { const uint32_t i = uint32_t(f.exprs.size()); f.exprs.push_back({ExprOp::add, 0, i, 0, 0}); }), "does not come before it"));
  CHECK(contains(refusal_f([](F &f) { f.exprs.push_back({ExprOp::symbol, 2, 0, 0, 0}); }), "no symbol 2"));
  CHECK(refusal_f([](F &f) { f.inputs[0].dims[0] = 999; }) == "input 0: dim 0 is no expression");
  CHECK(refusal_f([](F &f) { f.inputs[0].type = 0; }) == "input 0: unknown element type");
  CHECK(refusal_f([](F &f) { f.outputs[0].type = 99; }) == "output 0: unknown element type");
  CHECK(refusal_f([](F &f) { f.outputs[0].dims.resize(9, 0); }) == "output 0: rank 9, above 8");
  CHECK(refusal_f([](F &f) { f.inputs[0].dim_names.push_back("more"); }) == "input 0: 2 names for 1 dims");
  CHECK(refusal_f([](F &f) { hand_made::ExprBuilder e(f); f.inputs[0].dims[0] = e.symbol(1); }) == "input 0: dim 0 depends on a host scalar");
  CHECK(refusal_f([](F &f) { hand_made::ExprBuilder e(f); f.outputs[0].dims[0] = e.symbol(1); }) == "output 0: its size depends on data, and it has no capacity");
  CHECK(refusal_f([](F &f) { hand_made::ExprBuilder e(f); f.outputs[0].capacity = e.symbol(1); }) == "output 0: its capacity is no expression over input dims");
  CHECK(refusal_f([](F &f) { f.arenas[0] = 999; }) == "arena 0: its size is no expression");
  CHECK(contains(refusal_f([](F &f) { f.name = ""; }), "it has no name"));
}

TEST_CASE("slots") {
  using F = hand_made::Function;
  const auto constant = [](F &f, int64_t v) { return hand_made::ExprBuilder(f).constant(v); };
  CHECK(refusal_f([](F &f) { f.slots[0].kind = hand_made::SlotKind(8); }) == "slot 0: unknown kind 8");
  CHECK(refusal_f([](F &f) { f.slots[0].size = kNone; }) == "slot 0: its size is no expression");
  CHECK(refusal_f([](F &f) { f.slots[0].of = 1; }) == "slot 0: no input 1");
  CHECK(refusal_f([](F &f) { f.slots[1].of = 1; }) == "slot 1: no output 1");
  CHECK(refusal_f([](F &f) { f.slots[2].segment_offset = 4; }) == "slot 2: 16 bytes at 4 end past segment 1 of 16");
  CHECK(refusal_f([](F &f) { f.slots[2].segment_offset = UINT64_MAX; }).find("end past segment 1 of 16") != std::string::npos);
  CHECK(refusal_f([](F &f) { f.slots[2].of = 0; }) == "slot 2: its segment 0 is code");
  CHECK(refusal_f([](F &f) { f.slots[2].size = f.inputs[0].dims[0]; }) == "slot 2: the size of a constant must be constant");
  CHECK(refusal_f([&](F &f) { f.slots[3].offset = constant(f, 49); }) == "slot 3: 16 bytes at 49 end past arena 0 of 64");
  CHECK(refusal_f([&](F &f) { f.slots[3].offset = constant(f, -1); }) == "slot 3: 16 bytes at -1 end past arena 0 of 64");
  CHECK(refusal_f([&](F &f) { f.slots[3].size = constant(f, -1); }) == "slot 3: its size is negative");
  CHECK(refusal_f([](F &f) { f.slots[3].of = 1; }) == "slot 3: no arena 1");
  CHECK(refusal_f([](F &f) { f.slots[3].offset = kNone; }) == "slot 3: its offset is no expression");
  CHECK(refusal_f([](F &f) { f.slots[4].of = 4; }) == "slot 4: an alias of slot 4, which does not come before it");
  CHECK(refusal_f([&](F &f) { f.slots[4].offset = constant(f, 1); }) == "slot 4: 16 bytes at 1 end past slot 3 of 16");
  CHECK(refusal_f([](F &f) { f.slots[5].pattern_bytes = 3; }) == "slot 5: a splat's element takes 1, 2, 4 or 8 bytes, not 3");
  CHECK(refusal_f([&](F &f) { f.slots[5].size = constant(f, 15); }) == "slot 5: the size of a splat must be a constant multiple of its element");
  CHECK(refusal_f([](F &f) { f.slots[6].of = 4096; }) == "slot 6: state 4096, above 4095");
  CHECK(refusal_f([](F &f) { f.slots[6].size = f.inputs[0].dims[0]; }) == "slot 6: its size must be constant");
  CHECK(refusal_f([](F &f) {
          for (uint32_t i = 0; i < 9; ++i) hand_made::alias_slot(f, uint32_t(f.slots.size() - (i ? 1 : 3)), f.slots[4].offset, f.slots[4].size);
          for (uint32_t i = 7; i < 16; ++i) f.slots[i].of = i - 1 == 6 ? 3 : i - 1;
        }).find("more than 8 aliases") != std::string::npos);
  CHECK(refusal_f([](F &f) { f.sites[0].kernel = 1; }) == "site 0: no kernel 1");
  CHECK(refusal_f([](F &f) { f.sites[0].flops = 999; }) == "site 0: a cost is no expression");
}

TEST_CASE("prepare sections") {
  // The program of `prepared` with one thing changed, in the prepare section or in the function.
  const auto refusal = [](const std::function<void(hand_made::Function &prepare, hand_made::Function &main)> &change) {
    const auto bytes = hand_made::prepared(8, change);
    auto archive = ingot::Archive::open(bytes.data(), bytes.size());
    if (archive.ok()) return std::string("accepted");
    const std::string message = archive.message(), head = "): ";
    return message.substr(message.find(head) + head.size());
  };
  using F = hand_made::Function;
  CHECK(refusal([](F &, F &) {}) == "accepted");
  const std::string alone = "what prepares has no symbols, inputs, outputs and subroutines";
  CHECK(refusal([](F &p, F &) { p.symbols.push_back({"N", 0, 1, hand_made::SymbolKind::host}); }) == alone);
  CHECK(refusal([](F &p, F &f) { p.inputs = f.inputs; }) == alone);
  CHECK(refusal([](F &p, F &f) { p.outputs = f.outputs; }) == alone);
  CHECK(refusal([](F &p, F &) { p.subroutines.push_back({}); }) == alone);
  CHECK(refusal([](F &p, F &) { hand_made::state_slot(p, 0, p.slots[0].size); }) == "slot 2: what prepares has no state");
  CHECK(contains(refusal([](F &p, F &) {
          p.messages.push_back("never");
          p.commands.insert(p.commands.end(), {uint32_t(ingot::program::Opcode::check) | 3u << 8, 0, 0});
        }), "a decision while preparing"));
  CHECK(contains(refusal([](F &p, F &f) { std::swap(p.slots[0], p.slots[1]); (void)f; }), "writes to a constant"));
  CHECK(contains(refusal([](F &, F &f) { f.commands[8] = 0, f.commands[14] = 2; }), "writes to a constant, a splat, an input or what is prepared"));
  CHECK(contains(refusal([](F &, F &f) { f.slots[2].size = f.inputs[0].dims[0] + 99; }), "its size is no expression"));
  CHECK(refusal([](F &, F &f) { f.slots[2].of = 77; }) == "accepted"); // nothing wrote it: zeros
  const auto without = hand_made::prepared(8, nullptr, false);
  auto archive = ingot::Archive::open(without.data(), without.size());
  CHECK(contains(archive.message(), "slot 2: nothing prepares it"));
}

TEST_CASE("command words") {
  const auto word = [](size_t at, uint32_t value) {
    return refusal_f([=](hand_made::Function &f) { f.commands.at(at) = value; });
  };
  CHECK(word(0, 0x00000d63) == "command at word 0: unknown opcode");
  CHECK(word(0, 0x00000001) == "command at word 0: its length does not fit the text");
  CHECK(word(0, 0xffffff01) == "command at word 0: its length does not fit the text");
  CHECK(word(0, 0x00000c01) == "command at word 0: a dispatch has the wrong length");
  CHECK(word(1, 1) == "command at word 0: no such kernel");
  CHECK(word(2, 1) == "command at word 0: no such site");
  CHECK(word(3, 999) == "command at word 0: a grid size is no expression");
  CHECK(word(6, 2) == "command at word 0: bindings or parameters differ in number from the kernel's");
  CHECK(word(7, 65) == "command at word 0: bindings or parameters differ in number from the kernel's");
  CHECK(word(8, 7) == "command at word 0: no such slot");
  CHECK(word(8, 2) == "command at word 0: it writes to a constant, a splat, an input or what is prepared");
  CHECK(word(8, 0) == "command at word 0: it writes to a constant, a splat, an input or what is prepared");
  CHECK(word(8, 5) == "command at word 0: it writes to a constant, a splat, an input or what is prepared");
  CHECK(word(9, 999) == "command at word 0: no such expression");
  CHECK(word(9, 1) == "command at word 0: it reaches past the end of its slot"); // expression 1 is 1
  CHECK(word(11, 999) == "command at word 0: a parameter is no expression");
  CHECK(word(14, 2) == "command at word 13: it writes to a constant, a splat, an input or what is prepared");
  CHECK(word(16, 99) == "command at word 13: no such slot");
  CHECK(word(23, 3) == "command at word 19: a fill pattern takes 1, 2, 4 or 8 bytes");
  CHECK(word(29, INGOT_ELEMENT_TYPE_F32) == "command at word 26: a scalar must be a bool or an integer");
  CHECK(word(30, 0) == "command at word 26: no such host symbol");
  CHECK(word(46, 999) == "command at word 45: its value is no expression");
  CHECK(word(47, 0) == "command at word 45: no such host symbol");
  CHECK(word(45, 0x0000020a) == "command at word 45: wrong length");
  CHECK(word(33, 1) == "command at word 31: no such message");
  CHECK(word(32, 999) == "command at word 31: its condition is no expression");
  CHECK(word(35, kNone) == "command at word 34: a loop with neither trip count nor condition");
  CHECK(word(35, 999) == "command at word 34: its trip count is no expression");
  CHECK(word(36, 0) == "command at word 34: no such host symbol");
  CHECK(word(38, 5) == "command at word 34: wrong length");
  CHECK(word(41, 9) == "command at word 39: wrong length");
  CHECK(word(44, 2) == "command at word 43: it calls a subroutine that does not come before it");
  CHECK(refusal_f([](hand_made::Function &f) { f.subroutines[1][1] = 1; }) == "subroutine 1, command at word 0: it calls a subroutine that does not come before it");
  CHECK(refusal_f([](hand_made::Function &f) { f.commands.resize(44); }) == "command at word 34: its length does not fit the text");
  CHECK(contains(refusal_f([](hand_made::Function &f) { // 33 deep
          f.commands.clear();
          hand_made::CommandBuilder w(f.commands);
          for (int i = 0; i < 33; ++i) w.begin_if(0);
          for (int i = 0; i < 33; ++i) w.end_if();
        }), "nested more than 32 deep"));
  CHECK(refusal_f([](hand_made::Function &f) { // 32 deep
          f.commands.clear();
          hand_made::CommandBuilder w(f.commands);
          for (int i = 0; i < 32; ++i) w.begin_if(0);
          for (int i = 0; i < 32; ++i) w.end_if();
        }) == "accepted");
}

TEST_CASE("expressions that overflow or divide by zero are named when they are used") {
  hand_made::Builder b;
  const uint32_t k = b.kernel("empty", {hand_made::kAccessWrite}, 1);
  hand_made::Function &f = b.function();
  f.symbols = {{"n", 0, 100, hand_made::SymbolKind::input}};
  hand_made::ExprBuilder e(f);
  const uint32_t zero = e.constant(0), one = e.constant(1), n = e.symbol(0), bytes = e.mul(n, e.constant(4));
  const uint32_t big = e.mul(n, e.constant(INT64_MAX)), divided = e.floordiv(e.constant(100), n);
  f.inputs = {{"x", INGOT_ELEMENT_TYPE_F32, {n}, {}, kNone}};
  f.outputs = {{"y", INGOT_ELEMENT_TYPE_F32, {n}, {}, kNone}};
  const uint32_t y = hand_made::output_slot(f, 0, bytes);
  hand_made::CommandBuilder(f.commands).dispatch(k, kNone, one, one, one, {{y, zero, bytes}}, {e.add(big, e.select(n, divided, zero))});
  Loaded l(b.bytes());
  INFO(l.error());
  REQUIRE(l.session.ok());
  std::vector<float> x(4), out(4);
  const auto run = [&](int64_t dim) {
    ingot::Tensor in[] = {tensor(x, INGOT_ELEMENT_TYPE_F32, {dim})}, o[] = {tensor(out, INGOT_ELEMENT_TYPE_F32, {dim})};
    return std::string(l.session->run(in, o).message());
  };
  CHECK(run(0) == ""); // the division is in the branch that is not chosen
  CHECK(contains(run(2), "overflows 64 bits for these dims"));
  CHECK(contains(run(2), "n*9223372036854775807"));
  CHECK(run(0) == "");
}

TEST_CASE("native code that is not what it should be is refused") {
  const auto refused = [](const std::function<void(std::vector<uint8_t> &)> &spoil) {
    hand_made::Builder b;
    b.kernel("empty", {}, 0);
    b.function();
    spoil(b.model.segments[0].bytes);
    Loaded l(b.bytes());
    return l.session.ok() ? std::string("accepted") : l.error();
  };
  const auto header = [](std::vector<uint8_t> &image, uint32_t type) -> uint8_t * { // the first program header of a type
    uint64_t at;
    uint16_t n;
    std::memcpy(&at, &image[32], 8);
    std::memcpy(&n, &image[56], 2);
    for (uint16_t i = 0; i < n; ++i) {
      uint32_t t;
      std::memcpy(&t, &image[at + 56u * i], 4);
      if (t == type) return &image[at + 56u * i];
    }
    return nullptr;
  };
  using Image = std::vector<uint8_t>;
  CHECK(refused([](Image &) {}) == "accepted");
  CHECK(contains(refused([](Image &i) { i.resize(40); }), "shorter than an ELF header"));
  CHECK(contains(refused([](Image &i) { i[4] = 1; }), "not a little-endian ELF64 image"));
  CHECK(contains(refused([](Image &i) { i[16] = 2; }), "not a position-independent image"));
  CHECK(contains(refused([](Image &i) { i[18] ^= 1; }), "for ELF machine"));
  CHECK(contains(refused([](Image &i) { i[56] = 200; }), "program headers lie outside"));
  CHECK(contains(refused([](Image &i) { i[39] = 0xff; }), "program headers lie outside"));
  CHECK(contains(refused([&](Image &i) { header(i, 1)[4] |= 2; }), "it has writable data"));
  CHECK(contains(refused([&](Image &i) { header(i, 1)[39] = 0x7f; }), "a segment lies outside the image"));
  CHECK(contains(refused([&](Image &i) { header(i, 1)[23] = 0x7f; }), "a segment lies outside the image"));
  const auto dynamic = [&](Image &i, int64_t tag, uint64_t value) {
    uint64_t at;
    std::memcpy(&at, header(i, 2) + 8, 8);
    std::memcpy(&i[at], &tag, 8);
    std::memcpy(&i[at + 8], &value, 8);
  };
  CHECK(contains(refused([&](Image &i) { dynamic(i, 1, 1); }), "needs another library"));
  CHECK(contains(refused([&](Image &i) { dynamic(i, 8, 24); }), "it has relocations"));
  CHECK(contains(refused([&](Image &i) { dynamic(i, 25, 1); }), "it has initialisers"));
  hand_made::Builder b;
  const uint32_t k = b.kernel("empty", {}, 0);
  b.variant().kernels[k].versions[0].symbol_offset = 0; // not in an executable segment
  b.function();
  Loaded l(b.bytes());
  CHECK(contains(l.error(), "lies outside the executable segments"));
}
