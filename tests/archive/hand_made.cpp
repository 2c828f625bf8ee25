// See hand_made.h.
#include "tests/archive/hand_made.h"

#include <cstring>
#include <fstream>
#include <stdexcept>

#include "src/runtime/cpu/features.h"

namespace hand_made {
namespace {

template <class T> T read_at(const std::vector<uint8_t> &image, uint64_t offset) {
  T value;
  if (offset + sizeof value > image.size()) throw std::runtime_error("kernel image is too short");
  std::memcpy(&value, image.data() + offset, sizeof value);
  return value;
}

} // namespace

std::vector<uint8_t> kernel_image() {
  std::ifstream file(INGOT_TEST_KERNELS, std::ios::binary);
  if (!file) throw std::runtime_error("cannot open " INGOT_TEST_KERNELS);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

uint64_t symbol_address(const std::vector<uint8_t> &image, const std::string &name) {
  const uint64_t sections = read_at<uint64_t>(image, 40);
  const uint16_t size = read_at<uint16_t>(image, 58), count = read_at<uint16_t>(image, 60);
  for (uint16_t s = 0; s < count; ++s) {
    const uint64_t header = sections + uint64_t(s) * size;
    if (read_at<uint32_t>(image, header + 4) != 11) continue; // SHT_DYNSYM
    const uint64_t symbols = read_at<uint64_t>(image, header + 24), bytes = read_at<uint64_t>(image, header + 32);
    const uint64_t strings = read_at<uint64_t>(image, sections + uint64_t(read_at<uint32_t>(image, header + 40)) * size + 24);
    for (uint64_t at = symbols; at < symbols + bytes; at += 24)
      if (name == reinterpret_cast<const char *>(image.data() + strings + read_at<uint32_t>(image, at)))
        return read_at<uint64_t>(image, at + 8);
  }
  throw std::runtime_error("no symbol " + name + " in the kernel image");
}

Builder::Builder() : image(kernel_image()) {
  model.provenance = {"hand-made", "", "none", {}};
  model.segments.push_back({image, 64, SegmentKind::code, "kernels"});
  Variant v;
  v.target = "llvm-cpu";
  v.arch = ingot::host_arch();
  v.executables.push_back({CodeFormat::elf, 0});
  model.variants.push_back(v);
}

uint32_t Builder::kernel(const std::string &entry, std::vector<uint8_t> bindings, uint32_t params, uint64_t scratch) {
  Kernel k;
  k.name = entry;
  k.bindings = std::move(bindings);
  k.param_count = params;
  CodeVersion c;
  c.entry = entry;
  c.symbol_offset = symbol_address(image, entry);
  c.scratch_bytes = scratch;
  c.stack_bytes = 64;
  k.versions.push_back(c);
  variant().kernels.push_back(k);
  return uint32_t(variant().kernels.size() - 1);
}

Function &Builder::function(const std::string &name) {
  variant().functions.emplace_back();
  variant().functions.back().name = name;
  return variant().functions.back();
}

uint32_t Builder::weights(const std::vector<float> &values) {
  Segment s;
  s.bytes.resize(values.size() * 4);
  if (!values.empty()) std::memcpy(s.bytes.data(), values.data(), s.bytes.size());
  s.name = "weights";
  model.segments.push_back(s);
  return uint32_t(model.segments.size() - 1);
}

namespace {

uint32_t add_slot(Function &f, SlotKind kind, uint32_t of, uint32_t offset, uint32_t size) {
  Slot s;
  s.kind = kind;
  s.of = of;
  s.offset = offset;
  s.size = size;
  f.slots.push_back(s);
  return uint32_t(f.slots.size() - 1);
}

} // namespace

uint32_t input_slot(Function &f, uint32_t input, uint32_t size) { return add_slot(f, SlotKind::input, input, kNone, size); }
uint32_t output_slot(Function &f, uint32_t output, uint32_t size) { return add_slot(f, SlotKind::output, output, kNone, size); }
uint32_t constant_slot(Function &f, uint32_t segment, uint64_t offset, uint32_t size) {
  const uint32_t slot = add_slot(f, SlotKind::constant, segment, kNone, size);
  f.slots[slot].segment_offset = offset;
  return slot;
}
uint32_t transient_slot(Function &f, uint32_t arena, uint32_t offset, uint32_t size) {
  return add_slot(f, SlotKind::transient, arena, offset, size);
}
uint32_t alias_slot(Function &f, uint32_t of, uint32_t offset, uint32_t size) { return add_slot(f, SlotKind::alias, of, offset, size); }
uint32_t splat_slot(Function &f, uint64_t pattern, uint8_t pattern_bytes, uint32_t size) {
  const uint32_t slot = add_slot(f, SlotKind::splat, 0, kNone, size);
  f.slots[slot].pattern = pattern;
  f.slots[slot].pattern_bytes = pattern_bytes;
  return slot;
}
uint32_t state_slot(Function &f, uint32_t state, uint32_t size) { return add_slot(f, SlotKind::state, state, kNone, size); }

uint32_t prepared_slot(Function &f, uint32_t number, uint32_t size) { return add_slot(f, SlotKind::prepared, number, kNone, size); }

std::vector<uint8_t> prepared(int64_t n, const std::function<void(Function &prepare, Function &main)> &change, bool with_section) {
  Builder b;
  const uint32_t add = b.kernel("add_f32", {kAccessRead, kAccessRead, kAccessWrite}, 1);
  std::vector<float> w;
  for (int64_t i = 0; i < n; ++i) w.push_back(float(i) * 0.25f);
  const uint32_t segment = b.weights(w);
  Function prepare;
  prepare.name = "prepare";
  {
    ExprBuilder e(prepare);
    const uint32_t zero = e.constant(0), bytes = e.constant(n * 4);
    const uint32_t from = constant_slot(prepare, segment, 0, bytes), to = prepared_slot(prepare, 3, bytes);
    CommandBuilder(prepare.commands).copy(to, zero, from, zero, bytes);
  }
  Function &f = b.function();
  ExprBuilder e(f);
  const uint32_t zero = e.constant(0), one = e.constant(1), count = e.constant(n), bytes = e.constant(n * 4);
  f.inputs = {{"x", INGOT_ELEMENT_TYPE_F32, {count}, {}, kNone}};
  f.outputs = {{"y", INGOT_ELEMENT_TYPE_F32, {count}, {}, kNone}};
  const uint32_t x = input_slot(f, 0, bytes), y = output_slot(f, 0, bytes), ready = prepared_slot(f, 3, bytes);
  CommandBuilder(f.commands).dispatch(add, kNone, one, one, one, {{x, zero, bytes}, {ready, zero, bytes}, {y, zero, bytes}}, {count});
  if (change) change(prepare, f);
  if (with_section) b.variant().prepare = prepare;
  return b.bytes();
}

std::vector<uint8_t> add_scale(int64_t n, uint32_t io_alignment) {
  Builder b;
  b.variant().io_alignment = io_alignment;
  const uint32_t add = b.kernel("add_f32", {kAccessRead, kAccessRead, kAccessWrite}, 1);
  const uint32_t scale = b.kernel("scale_f32", {kAccessReadWrite}, 2);
  std::vector<float> w;
  for (int64_t i = 0; i < n; ++i) w.push_back(float(i) * 0.5f);
  const uint32_t segment = b.weights(w);
  Function &f = b.function();
  ExprBuilder e(f);
  const uint32_t zero = e.constant(0), one = e.constant(1), count = e.constant(n), bytes = e.constant(n * 4);
  f.inputs = {{"x", INGOT_ELEMENT_TYPE_F32, {count}, {"features"}, kNone}};
  f.outputs = {{"y", INGOT_ELEMENT_TYPE_F32, {count}, {}, kNone}};
  f.arenas = {e.constant(64 + n * 4)};
  const uint32_t x = input_slot(f, 0, bytes), y = output_slot(f, 0, bytes), c = constant_slot(f, segment, 0, bytes);
  const uint32_t t = transient_slot(f, 0, e.constant(64), bytes), view = alias_slot(f, t, zero, bytes);
  f.sites = {{add, {"add"}, count, e.constant(n * 12)}, {scale, {"scale", "twice"}, count, e.constant(n * 8)}};
  CommandBuilder w_(f.commands);
  w_.dispatch(add, 0, e.ceildiv(count, 16), one, one, {{x, zero, bytes}, {c, zero, bytes}, {t, zero, bytes}}, {count});
  w_.barrier();
  w_.dispatch(scale, 1, one, one, one, {{view, zero, bytes}}, {count, e.constant(0x40000000)});
  w_.barrier();
  w_.copy(y, zero, view, zero, bytes);
  return b.bytes();
}

std::vector<uint8_t> free_add() {
  Builder b;
  const uint32_t add = b.kernel("add_f32", {kAccessRead, kAccessRead, kAccessWrite}, 1);
  Function &f = b.function();
  f.symbols = {{"B", 1, 64, SymbolKind::input}, {"W", 1, 4096, SymbolKind::input}};
  ExprBuilder e(f);
  const uint32_t zero = e.constant(0), one = e.constant(1), rows = e.symbol(0), width = e.symbol(1);
  const uint32_t count = e.mul(rows, width), bytes = e.mul(count, e.constant(4));
  f.inputs = {{"x", INGOT_ELEMENT_TYPE_F32, {rows, width}, {}, kNone}, {"y", INGOT_ELEMENT_TYPE_F32, {rows, width}, {}, kNone}};
  f.outputs = {{"z", INGOT_ELEMENT_TYPE_F32, {rows, width}, {}, kNone}};
  f.arenas = {e.align_up(bytes, 64)};
  const uint32_t x = input_slot(f, 0, bytes), y = input_slot(f, 1, bytes), z = output_slot(f, 0, bytes);
  const uint32_t t = transient_slot(f, 0, zero, bytes);
  f.sites = {{add, {"add"}, count, kNone}};
  CommandBuilder w(f.commands);
  w.dispatch(add, 0, e.ceildiv(count, 16), one, one, {{x, zero, bytes}, {y, zero, bytes}, {t, zero, bytes}}, {count});
  w.copy(z, zero, t, zero, bytes);
  return b.bytes();
}

std::vector<uint8_t> nonzero() {
  Builder b;
  const uint32_t count_kernel = b.kernel("count_nonzero_f32", {kAccessRead, kAccessWrite}, 1, 128);
  const uint32_t positions = b.kernel("positions_f32", {kAccessRead, kAccessWrite}, 1);
  Function &f = b.function();
  f.symbols = {{"N", 0, 1000, SymbolKind::input}, {"found", 0, 1000, SymbolKind::host}};
  ExprBuilder e(f);
  const uint32_t zero = e.constant(0), one = e.constant(1), eight = e.constant(8), n = e.symbol(0), found = e.symbol(1);
  const uint32_t in_bytes = e.mul(n, e.constant(4)), out_bytes = e.mul(found, eight);
  f.inputs = {{"x", INGOT_ELEMENT_TYPE_F32, {n}, {}, kNone}};
  f.outputs = {{"positions", INGOT_ELEMENT_TYPE_I64, {found}, {}, e.mul(n, eight)}};
  f.arenas = {e.constant(64)};
  const uint32_t x = input_slot(f, 0, in_bytes), out = output_slot(f, 0, out_bytes);
  const uint32_t t = transient_slot(f, 0, zero, eight);
  CommandBuilder w(f.commands);
  w.dispatch(count_kernel, kNone, one, one, one, {{x, zero, in_bytes}, {t, zero, eight}}, {n});
  w.read_scalar(t, zero, INGOT_ELEMENT_TYPE_I64, 1);
  w.dispatch(positions, kNone, one, one, one, {{x, zero, in_bytes}, {out, zero, out_bytes}}, {n});
  return b.bytes();
}

std::vector<uint8_t> control_flow() {
  Builder b;
  const uint32_t add = b.kernel("add_scalar_i64", {kAccessReadWrite}, 1);
  Function &f = b.function();
  f.symbols = {{"trips", -5, 1000, SymbolKind::host}, {"i", 0, 1000, SymbolKind::host}, {"go", 0, 1000000, SymbolKind::host}};
  f.messages = {"the trip count must not be negative"};
  ExprBuilder e(f);
  const uint32_t zero = e.constant(0), one = e.constant(1), eight = e.constant(8), two = e.constant(2), trips = e.symbol(0);
  f.inputs = {{"x", INGOT_ELEMENT_TYPE_I64, {}, {}, kNone}};
  f.outputs = {{"y", INGOT_ELEMENT_TYPE_I64, {}, {}, kNone}};
  f.arenas = {e.constant(64)};
  const uint32_t x = input_slot(f, 0, eight), y = output_slot(f, 0, eight), t = transient_slot(f, 0, zero, eight);
  f.subroutines.emplace_back();
  CommandBuilder sub(f.subroutines[0]);
  sub.dispatch(add, kNone, one, one, one, {{y, zero, eight}}, {e.constant(3)});
  CommandBuilder w(f.commands);
  w.read_scalar(x, zero, INGOT_ELEMENT_TYPE_I64, 0);
  w.check(e.binary(ExprOp::le, zero, trips), 0);
  w.fill(y, zero, eight, 0, 8);
  w.begin_loop(trips, kNone, 1);
  w.call(0);
  w.dispatch(add, kNone, one, one, one, {{y, zero, eight}}, {e.symbol(1)}); // + i
  w.end_loop();
  w.begin_if(e.binary(ExprOp::mod, trips, two));
  w.dispatch(add, kNone, one, one, one, {{y, zero, eight}}, {e.constant(100)});
  w.begin_else();
  w.dispatch(add, kNone, one, one, one, {{y, zero, eight}}, {e.constant(200)});
  w.end_if();
  w.copy(t, zero, y, zero, eight);
  w.read_scalar(t, zero, INGOT_ELEMENT_TYPE_I64, 2);
  w.begin_loop(kNone, 2, kNone); // while (t) { t = t / 2; y += 1000; }
  const uint32_t go = e.symbol(2);
  w.dispatch(add, kNone, one, one, one, {{t, zero, eight}}, {e.sub(e.floordiv(go, two), go)});
  w.dispatch(add, kNone, one, one, one, {{y, zero, eight}}, {e.constant(1000)});
  w.read_scalar(t, zero, INGOT_ELEMENT_TYPE_I64, 2);
  w.end_loop();
  return b.bytes();
}

std::vector<uint8_t> gather() {
  Builder b;
  const uint32_t kernel = b.kernel("gather_f32", {kAccessRead, kAccessRead, kAccessWrite}, 3);
  const uint32_t segment = b.weights({10, 11, 12, 13});
  Function &f = b.function();
  f.symbols = {{"N", 0, 100, SymbolKind::input}};
  f.error_sites = {{"unused", "Add", "nothing"}, {"model/lookup", "Gather", "an index is outside axis 0 of 'table'"}};
  ExprBuilder e(f);
  const uint32_t zero = e.constant(0), one = e.constant(1), n = e.symbol(0), table = e.constant(16);
  const uint32_t in_bytes = e.mul(n, e.constant(8)), out_bytes = e.mul(n, e.constant(4));
  f.inputs = {{"index", INGOT_ELEMENT_TYPE_I64, {n}, {}, kNone}};
  f.outputs = {{"y", INGOT_ELEMENT_TYPE_F32, {n}, {}, kNone}};
  const uint32_t x = input_slot(f, 0, in_bytes), y = output_slot(f, 0, out_bytes), c = constant_slot(f, segment, 0, table);
  f.sites = {{kernel, {"model/lookup"}, kNone, kNone}};
  CommandBuilder w(f.commands);
  w.dispatch(kernel, 0, one, one, one, {{c, zero, table}, {x, zero, in_bytes}, {y, zero, out_bytes}}, {n, e.constant(4), one});
  return b.bytes();
}

std::vector<uint8_t> versions(uint64_t middle_mask, uint64_t top_mask) {
  Builder b;
  const uint32_t kernel = b.kernel("version_one", {kAccessWrite}, 0);
  Kernel &k = b.variant().kernels[kernel];
  k.versions[0].rank = 1;
  for (const char *entry : {"version_three", "version_two"}) { // not in the order of their ranks
    CodeVersion c = k.versions[0];
    c.entry = entry;
    c.symbol_offset = symbol_address(b.image, entry);
    c.rank = entry == std::string("version_two") ? 2 : 3;
    c.feature_mask = c.rank == 2 ? middle_mask : top_mask;
    k.versions.push_back(c);
  }
  Function &f = b.function();
  ExprBuilder e(f);
  const uint32_t zero = e.constant(0), one = e.constant(1), four = e.constant(4);
  f.outputs = {{"version", INGOT_ELEMENT_TYPE_I32, {}, {}, kNone}};
  const uint32_t y = output_slot(f, 0, four);
  CommandBuilder(f.commands).dispatch(kernel, kNone, one, one, one, {{y, zero, four}}, {});
  return b.bytes();
}

namespace {

// The bytes of strings as host slots have them.
void append_strings(std::vector<uint8_t> &out, const std::vector<std::string> &texts, HostSlot *slot) {
  out.resize((out.size() + 7) / 8 * 8);
  slot->offset = out.size();
  uint64_t at = 0;
  const auto put = [&](uint64_t v) {
    for (int i = 0; i < 8; ++i) out.push_back(uint8_t(v >> 8 * i));
  };
  put(0);
  for (const std::string &t : texts) put(at += t.size());
  for (const std::string &t : texts) out.insert(out.end(), t.begin(), t.end());
  slot->size = out.size() - slot->offset;
  slot->kind = ingot::program::HostSlotKind::constant;
  slot->type = INGOT_ELEMENT_TYPE_STRING;
  slot->dims = {uint32_t(texts.size())};
}

template <class T> void append_numbers(std::vector<uint8_t> &out, ingot_element_type_t type, const std::vector<T> &values, HostSlot *slot) {
  out.resize((out.size() + 7) / 8 * 8);
  slot->offset = out.size();
  for (T v : values)
    for (size_t i = 0; i < sizeof v; ++i) out.push_back(reinterpret_cast<const uint8_t *>(&v)[i]);
  slot->size = out.size() - slot->offset;
  slot->kind = ingot::program::HostSlotKind::constant;
  slot->type = type;
  slot->dims = {uint32_t(values.size())};
}

} // namespace

std::vector<uint8_t> values() {
  using ingot::program::HostOp;
  using ingot::program::HostSlotKind;
  using ingot::program::SymbolKind;
  constexpr auto kF32 = INGOT_ELEMENT_TYPE_F32, kI64 = INGOT_ELEMENT_TYPE_I64, kString = INGOT_ELEMENT_TYPE_STRING, kValue = INGOT_ELEMENT_TYPE_VALUE;
  ArchiveModel model;
  model.required_features = 1;
  Variant v;
  v.target = "llvm-cpu";
  v.arch = "x86_64";
  Function f;
  f.symbols = {{"n", 1, 64, SymbolKind::input}, {"w", 1, 16, SymbolKind::input}, {"length", 0, 100, SymbolKind::host},
               {"has", 0, 1, SymbolKind::host}, {"total", 0, 1000, SymbolKind::host}, {"i", 0, 100, SymbolKind::host},
               {"kept", 0, 100, SymbolKind::host}};
  ExprBuilder e(f);
  const uint32_t n = e.symbol(0), w = e.symbol(1), length = e.symbol(2), has = e.symbol(3), total = e.symbol(4), kept = e.symbol(6), zero = e.constant(0), four = e.constant(4);
  f.inputs = {{"x", kF32, {n}, {}, kNone}, {"words", kString, {w}, {}, kNone}, {"o", kValue, {}, {}, kNone}};
  f.outputs = {{"y", kF32, {total}, {}, e.constant(4000)}, {"list", kValue, {}, {}, zero}, {"optional", kValue, {}, {}, zero},
               {"upper", kString, {kept}, {}, zero}, {"found", kValue, {}, {}, zero}, {"pieces", kValue, {}, {}, zero}};
  const uint32_t x = input_slot(f, 0, e.mul(n, four)), y = output_slot(f, 0, e.mul(total, four));
  Segment weights;
  weights.name = "weights";
  HostSlot delimiter, stopwords, automaton, keys, numbers, otherwise, pool, counts, indexes, weight;
  append_strings(weights.bytes, {"-"}, &delimiter);
  append_strings(weights.bytes, {"monday"}, &stopwords);
  // [a-z]+
  append_numbers<int32_t>(weights.bytes, INGOT_ELEMENT_TYPE_I32, {4, 4, 0, 1, 1, 0, 2, 2, 3, 0, 0, 0, 0, 'a', 'z'}, &automaton);
  append_strings(weights.bytes, {"one", "two"}, &keys);
  append_numbers<int64_t>(weights.bytes, kI64, {1, 2}, &numbers);
  append_numbers<int64_t>(weights.bytes, kI64, {-1}, &otherwise);
  append_strings(weights.bytes, {"one", "one", "two"}, &pool);
  append_numbers<int64_t>(weights.bytes, kI64, {0, 1}, &counts);
  append_numbers<int64_t>(weights.bytes, kI64, {0, 1}, &indexes);
  append_numbers<float>(weights.bytes, kF32, {0.5f, 2}, &weight);
  model.segments.push_back(weights);
  const auto slot = [&](HostSlot s) {
    f.host_slots.push_back(s);
    return uint32_t(f.host_slots.size() - 1);
  };
  const auto io = [&](HostSlotKind kind, uint32_t of) { return slot({kind, of, 0, {}, 0, 0}); };
  const uint32_t words = io(HostSlotKind::input, 1), o = io(HostSlotKind::input, 2), out_list = io(HostSlotKind::output, 1),
                 out_optional = io(HostSlotKind::output, 2), upper = io(HostSlotKind::output, 3), found = io(HostSlotKind::output, 4),
                 pieces = io(HostSlotKind::output, 5), boxed = slot({}), list = slot({}), joined = slot({}), element = slot({}),
                 count = slot({}), equal = slot({}), match = slot({}), looked = slot({}), score = slot({}), twice = slot({});
  const uint32_t d = slot(delimiter), stop = slot(stopwords), regex = slot(automaton), key = slot(keys), number = slot(numbers),
                 other = slot(otherwise), p = slot(pool), c = slot(counts), index = slot(indexes), weighed = slot(weight);
  f.messages = {"the list is not as long as it should be"};
  CommandBuilder b(f.commands);
  b.host_op(HostOp::box, {boxed}, {}, {n}, {}, {x, uint32_t(kF32)});
  b.host_op(HostOp::empty, {list}, {}, {}, {}, {uint32_t(kF32)});
  b.host_op(HostOp::split, {list}, {boxed}, {}, {}, {0, 1});
  b.begin_loop(e.constant(3), kNone, 5);
  b.host_op(HostOp::insert, {list}, {list, boxed}, {zero}, {}, {});
  b.host_op(HostOp::erase, {list}, {list}, {}, {}, {});
  b.host_op(HostOp::insert, {list}, {list, boxed}, {}, {}, {});
  b.end_loop();
  b.host_op(HostOp::length, {}, {list}, {}, {2}, {});
  b.check(e.binary(ExprOp::eq, length, e.add(n, e.constant(3))), 0);
  b.host_op(HostOp::at, {element}, {list}, {e.sub(length, e.constant(1))}, {}, {});
  b.host_op(HostOp::construct, {out_list}, {element, boxed}, {}, {}, {});
  b.host_op(HostOp::concat, {joined}, {list}, {}, {}, {0, 0});
  b.host_op(HostOp::shape, {}, {joined}, {}, {4}, {uint32_t(kF32)});
  b.host_op(HostOp::put, {}, {joined}, {total}, {}, {y, uint32_t(kF32)});
  b.host_op(HostOp::has, {}, {o}, {}, {3}, {});
  b.begin_if(has);
  b.host_op(HostOp::copy, {out_optional}, {o}, {}, {}, {});
  b.begin_else();
  b.host_op(HostOp::none, {out_optional}, {}, {}, {}, {});
  b.end_if();
  b.host_op(HostOp::normalize, {upper}, {words, stop}, {}, {}, {2, 0});
  b.host_op(HostOp::shape, {}, {upper}, {}, {6}, {uint32_t(kString)});
  b.host_op(HostOp::tokenize, {pieces, count}, {words, d}, {}, {}, {0});
  b.host_op(HostOp::join, {twice}, {words, d}, {}, {}, {});
  b.host_op(HostOp::equal, {equal}, {words, twice}, {}, {}, {});
  b.host_op(HostOp::match, {match}, {words, regex}, {}, {}, {});
  b.host_op(HostOp::lookup, {looked}, {words, key, number, other}, {}, {}, {});
  b.host_op(HostOp::tfidf, {score}, {words, p, c, index, weighed}, {}, {}, {2, 1, 2, 1});
  b.host_op(HostOp::take, {twice}, {number, index}, {}, {}, {});
  b.host_op(HostOp::copy, {found}, {looked}, {}, {}, {});
  v.functions.push_back(f);
  model.variants.push_back(v);
  return write_archive(model);
}

std::vector<uint8_t> counter() {
  Builder b;
  const uint32_t add = b.kernel("add_scalar_i64", {kAccessReadWrite}, 1);
  Function &f = b.function();
  ExprBuilder e(f);
  const uint32_t zero = e.constant(0), one = e.constant(1), eight = e.constant(8);
  f.outputs = {{"count", INGOT_ELEMENT_TYPE_I64, {}, {}, kNone}};
  const uint32_t s = state_slot(f, 3, eight), y = output_slot(f, 0, eight);
  CommandBuilder w(f.commands);
  w.dispatch(add, kNone, one, one, one, {{s, zero, eight}}, {one});
  w.copy(y, zero, s, zero, eight);
  return b.bytes();
}

std::vector<uint8_t> empties(uint32_t dispatches) {
  Builder b;
  const uint32_t kernel = b.kernel("empty", {kAccessWrite}, 0);
  Function &f = b.function();
  ExprBuilder e(f);
  const uint32_t zero = e.constant(0), one = e.constant(1), four = e.constant(4);
  f.outputs = {{"y", INGOT_ELEMENT_TYPE_F32, {}, {}, kNone}};
  const uint32_t y = output_slot(f, 0, four);
  CommandBuilder w(f.commands);
  for (uint32_t i = 0; i < dispatches; ++i) w.dispatch(kernel, kNone, one, one, one, {{y, zero, four}}, {});
  return b.bytes();
}

std::vector<uint8_t> reciprocal() {
  Builder b;
  const uint32_t kernel = b.kernel("reciprocal_f32", {kAccessRead, kAccessWrite}, 0);
  Function &f = b.function();
  ExprBuilder e(f);
  const uint32_t zero = e.constant(0), one = e.constant(1), four = e.constant(4);
  f.inputs = {{"x", INGOT_ELEMENT_TYPE_F32, {}, {}, kNone}};
  f.outputs = {{"y", INGOT_ELEMENT_TYPE_F32, {}, {}, kNone}};
  const uint32_t x = input_slot(f, 0, four), y = output_slot(f, 0, four);
  CommandBuilder(f.commands).dispatch(kernel, kNone, one, one, one, {{x, zero, four}, {y, zero, four}}, {});
  return b.bytes();
}

} // namespace hand_made
