// See programs.h.
#include "tests/conformance/programs.h"

#include <cstring>

namespace conformance {
namespace {

using namespace ingot::aotc::archive;

constexpr uint32_t kElements = 64, kBytes = 4 * kElements; // a tensor's bytes are a multiple of every binding alignment

uint32_t add_slot(Function &f, SlotKind kind, uint32_t of, uint32_t offset, uint32_t size) {
  Slot s;
  s.kind = kind;
  s.of = of;
  s.offset = offset;
  s.size = size;
  f.slots.push_back(s);
  return uint32_t(f.slots.size() - 1);
}

uint32_t add_weights(ArchiveModel &model, const std::vector<int32_t> &values) {
  Segment s;
  s.bytes.resize(4 * values.size());
  std::memcpy(s.bytes.data(), values.data(), s.bytes.size());
  s.name = "weights" + std::to_string(model.segments.size());
  model.segments.push_back(s);
  return uint32_t(model.segments.size() - 1);
}

// What every program needs.
struct Text {
  explicit Text(Function &function) : f(function), e(function), w(function.commands), zero(e.constant(0)), one(e.constant(1)), four(e.constant(4)) {}
  uint32_t input(const char *name, std::vector<uint32_t> dims, uint32_t bytes, ingot_element_type_t type = INGOT_ELEMENT_TYPE_I32) {
    f.inputs.push_back({name, type, dims, {}, kNone});
    return add_slot(f, SlotKind::input, uint32_t(f.inputs.size() - 1), kNone, bytes);
  }
  uint32_t output(const char *name, std::vector<uint32_t> dims, uint32_t bytes, ingot_element_type_t type = INGOT_ELEMENT_TYPE_I32,
                  uint32_t capacity = kNone) {
    f.outputs.push_back({name, type, dims, {}, capacity});
    return add_slot(f, SlotKind::output, uint32_t(f.outputs.size() - 1), kNone, bytes);
  }
  uint32_t site(uint32_t kernel, const char *node) {
    f.sites.push_back({kernel, {node}, e.constant(100), kNone});
    return uint32_t(f.sites.size() - 1);
  }
  Function &f;
  ExprBuilder e;
  CommandBuilder w;
  uint32_t zero, one, four;
};

} // namespace

Bytes line(const std::string &target) {
  return make_archive(target, [](ArchiveModel &model, Function &f) {
    std::vector<int32_t> values;
    for (uint32_t i = 0; i < kElements; ++i) values.push_back(int32_t(10 * i));
    const uint32_t segment = add_weights(model, values);
    Text t(f);
    const uint32_t n = t.e.constant(kElements), bytes = t.e.constant(kBytes);
    const uint32_t x = t.input("x", {n}, bytes), y = t.output("y", {n}, bytes), c = add_slot(f, SlotKind::constant, segment, kNone, bytes);
    f.arenas = {bytes};
    const uint32_t temporary = add_slot(f, SlotKind::transient, 0, t.zero, bytes);
    t.w.dispatch(kAdd, t.site(kAdd, "add"), n, t.one, t.one, {{x, t.zero, bytes}, {c, t.zero, bytes}, {temporary, t.zero, bytes}}, {});
    t.w.barrier();
    t.w.dispatch(kScale, t.site(kScale, "scale"), n, t.one, t.one, {{temporary, t.zero, bytes}, {y, t.zero, bytes}}, {t.e.constant(3), t.e.constant(-5)});
  });
}

int32_t mirror_expected(int i, int32_t x) { return 2 * (2 * x + int32_t(kMirrored) - 1 - i) + i; }

Bytes mirror(const std::string &target, const std::vector<uint64_t> &asked, bool dependent) {
  return make_mirror_archive(target, asked, dependent, [](Function &f) {
    Text t(f);
    const uint32_t n = t.e.constant(kMirrored), bytes = t.e.constant(4 * kMirrored);
    const uint32_t x = t.input("x", {n}, bytes), y = t.output("y", {n}, bytes);
    f.arenas = {bytes};
    const uint32_t between = add_slot(f, SlotKind::transient, 0, t.zero, bytes);
    t.w.dispatch(0, t.site(0, "first"), t.one, t.one, t.one, {{x, t.zero, bytes}, {between, t.zero, bytes}}, {});
    t.w.barrier();
    t.w.dispatch(0, t.site(0, "second"), t.one, t.one, t.one, {{between, t.zero, bytes}, {y, t.zero, bytes}}, {});
  });
}

Bytes fed(const std::string &target, bool masked, bool other, uint32_t from) {
  return make_fed_archive(target, masked, other, [&](Function &f) {
    Text t(f);
    const uint32_t n = t.e.constant(kFed / 2), bytes = t.e.constant(2 * kFed), first = t.e.constant(from), rest = t.e.constant(2 * kFed - from);
    const uint32_t x = t.input("x", {n}, bytes), y = t.output("y", {n}, bytes);
    t.w.dispatch(0, t.site(0, "only"), t.one, t.one, t.one, {{x, first, rest}, {y, t.zero, bytes}}, {});
  });
}

int32_t bindings_expected(int i, int32_t x, int run) {
  const int32_t transient = 2 * x + 1;
  return (100 + i) + 2 * 7 + 3 * x + 5 * transient + 7 * (transient - 3) + 11 * run;
}

Bytes bindings(const std::string &target) {
  return make_archive(target, [](ArchiveModel &model, Function &f) {
    std::vector<int32_t> values(kElements, -1); // the constant begins inside the segment
    for (uint32_t i = 0; i < kElements; ++i) values.push_back(int32_t(100 + i));
    const uint32_t segment = add_weights(model, values);
    Text t(f);
    const uint32_t n = t.e.constant(kElements), bytes = t.e.constant(kBytes);
    const uint32_t x = t.input("x", {n}, bytes), y = t.output("y", {n}, bytes);
    const uint32_t c = add_slot(f, SlotKind::constant, segment, kNone, bytes);
    f.slots[c].segment_offset = kBytes;
    const uint32_t splat = add_slot(f, SlotKind::splat, 0, kNone, bytes);
    f.slots[splat].pattern = 7;
    f.slots[splat].pattern_bytes = 4;
    const uint32_t state = add_slot(f, SlotKind::state, 2, kNone, bytes);
    f.arenas = {t.e.constant(4 * kBytes)};
    const uint32_t whole = add_slot(f, SlotKind::transient, 0, bytes, t.e.constant(2 * kBytes)); // from the second quarter on
    const uint32_t view = add_slot(f, SlotKind::alias, whole, bytes, bytes);                     // its second half
    t.w.dispatch(kBump, kNone, n, t.one, t.one, {{state, t.zero, bytes}}, {t.one});
    t.w.dispatch(kScale, kNone, n, t.one, t.one, {{x, t.zero, bytes}, {whole, t.zero, bytes}}, {t.e.constant(2), t.one});
    t.w.barrier();
    t.w.copy(view, t.zero, whole, t.zero, bytes);
    t.w.barrier();
    t.w.dispatch(kBump, kNone, n, t.one, t.one, {{view, t.zero, bytes}}, {t.e.constant(-3)});
    t.w.barrier();
    t.w.dispatch(kMix, kNone, n, t.one, t.one,
                 {{c, t.zero, bytes}, {splat, t.zero, bytes}, {x, t.zero, bytes}, {whole, t.zero, bytes}, {view, t.zero, bytes},
                  {state, t.zero, bytes}, {y, t.zero, bytes}}, {});
  });
}

int32_t prepared_expected(int i, int32_t x) { return x + (10 * i + 7) * 3 - 5 + 1; }

// Two steps, the first of which only the second reads; the constant and the splat are the prepare section's alone.
Bytes prepared(const std::string &target) {
  Function prepare;
  prepare.name = "prepare";
  return make_archive(target, [&](ArchiveModel &model, Function &f) {
    std::vector<int32_t> values;
    for (uint32_t i = 0; i < kElements; ++i) values.push_back(int32_t(10 * i));
    const uint32_t segment = add_weights(model, values);
    Text p(prepare);
    const uint32_t length = p.e.constant(kElements), size = p.e.constant(kBytes);
    const uint32_t c = add_slot(prepare, SlotKind::constant, segment, kNone, size);
    const uint32_t seven = add_slot(prepare, SlotKind::splat, 0, kNone, size);
    prepare.slots[seven].pattern = 7;
    prepare.slots[seven].pattern_bytes = 4;
    prepare.arenas = {size};
    const uint32_t sum = add_slot(prepare, SlotKind::transient, 0, p.zero, size);
    const uint32_t scaled = add_slot(prepare, SlotKind::prepared, 5, kNone, size), out = add_slot(prepare, SlotKind::prepared, 2, kNone, size);
    p.w.dispatch(kAdd, p.site(kAdd, "sum"), length, p.one, p.one, {{c, p.zero, size}, {seven, p.zero, size}, {sum, p.zero, size}}, {});
    p.w.barrier();
    p.w.dispatch(kScale, kNone, length, p.one, p.one, {{sum, p.zero, size}, {scaled, p.zero, size}}, {p.e.constant(3), p.e.constant(-5)});
    p.w.barrier();
    p.w.copy(out, p.zero, scaled, p.zero, size);
    p.w.barrier();
    p.w.dispatch(kBump, kNone, length, p.one, p.one, {{out, p.zero, size}}, {p.one});
    Text t(f);
    const uint32_t n = t.e.constant(kElements), bytes = t.e.constant(kBytes);
    const uint32_t x = t.input("x", {n}, bytes), y = t.output("y", {n}, bytes);
    const uint32_t ready = add_slot(f, SlotKind::prepared, 2, kNone, bytes);
    t.w.dispatch(kAdd, t.site(kAdd, "add"), n, t.one, t.one, {{x, t.zero, bytes}, {ready, t.zero, bytes}, {y, t.zero, bytes}}, {});
  }, nullptr, &prepare);
}

Bytes free_dims(const std::string &target) {
  return make_archive(target, [](ArchiveModel &, Function &f) {
    f.symbols = {{"N", 0, 100000, SymbolKind::input}};
    Text t(f);
    const uint32_t n = t.e.symbol(0), bytes = t.e.mul(n, t.four);
    const uint32_t x = t.input("x", {n}, bytes), y = t.output("y", {n}, bytes);
    f.arenas = {t.e.align_up(bytes, 64)};
    const uint32_t temporary = add_slot(f, SlotKind::transient, 0, t.zero, bytes);
    t.w.dispatch(kScale, kNone, n, t.one, t.one, {{x, t.zero, bytes}, {temporary, t.zero, bytes}}, {t.e.constant(2), t.one});
    t.w.barrier();
    t.w.copy(y, t.zero, temporary, t.zero, bytes);
  });
}

Bytes many_params(const std::string &target, const std::vector<int64_t> &params) {
  return make_archive(target, [&](ArchiveModel &, Function &f) {
    Text t(f);
    const uint32_t y = t.output("y", {t.one}, t.four);
    std::vector<uint32_t> list;
    for (const int64_t p : params) list.push_back(t.e.constant(p));
    t.w.dispatch(kMany, kNone, t.one, t.one, t.one, {{y, t.zero, t.four}}, list);
  });
}

Bytes wide_param(const std::string &target, int64_t value) {
  return make_archive(target, [&](ArchiveModel &, Function &f) {
    Text t(f);
    const uint32_t y = t.output("y", {t.one}, t.four);
    t.w.dispatch(kHigh, kNone, t.one, t.one, t.one, {{y, t.zero, t.four}}, {t.e.constant(value)});
  });
}

Bytes grid(const std::string &target, uint32_t x, uint32_t y, uint32_t z) {
  return make_archive(target, [&](ArchiveModel &, Function &f) {
    Text t(f);
    const uint32_t dims[] = {t.e.constant(x), t.e.constant(y), t.e.constant(z)}, bytes = t.e.constant(int64_t(4) * x * y * z);
    const uint32_t out = t.output("y", {dims[2], dims[1], dims[0]}, bytes);
    t.w.dispatch(kGrid, kNone, dims[0], dims[1], dims[2], {{out, t.zero, bytes}}, {});
  });
}

int32_t control_expected(int32_t x) {
  int32_t y = 0;
  for (int32_t i = 0; i < x; ++i) y += 3 + i;
  y += x % 2 ? 100 : 200;
  for (int32_t go = y; go != 0; go /= 2) y += 1000;
  return y;
}

Bytes control(const std::string &target) {
  return make_archive(target, [](ArchiveModel &, Function &f) {
    f.symbols = {{"trips", -5, 1000, SymbolKind::host}, {"i", 0, 1000, SymbolKind::host}, {"go", 0, 1000000, SymbolKind::host}};
    f.messages = {"the trip count must not be negative"};
    Text t(f);
    const uint32_t trips = t.e.symbol(0);
    const uint32_t x = t.input("x", {}, t.four), y = t.output("y", {}, t.four);
    f.arenas = {t.e.constant(64)};
    const uint32_t temporary = add_slot(f, SlotKind::transient, 0, t.zero, t.four);
    const auto add = [&](CommandBuilder &w, uint32_t slot, uint32_t value) {
      w.dispatch(kBump, kNone, t.one, t.one, t.one, {{slot, t.zero, t.four}}, {value});
      w.barrier();
    };
    f.subroutines.emplace_back();
    CommandBuilder sub(f.subroutines[0]);
    add(sub, y, t.e.constant(3));
    t.w.read_scalar(x, t.zero, INGOT_ELEMENT_TYPE_I32, 0);
    t.w.check(t.e.binary(ExprOp::le, t.zero, trips), 0);
    t.w.fill(y, t.zero, t.four, 0, 4);
    t.w.barrier();
    t.w.begin_loop(trips, kNone, 1);
    t.w.call(0);
    add(t.w, y, t.e.symbol(1));
    t.w.end_loop();
    t.w.begin_if(t.e.binary(ExprOp::mod, trips, t.e.constant(2)));
    add(t.w, y, t.e.constant(100));
    t.w.begin_else();
    add(t.w, y, t.e.constant(200));
    t.w.end_if();
    t.w.copy(temporary, t.zero, y, t.zero, t.four);
    t.w.read_scalar(temporary, t.zero, INGOT_ELEMENT_TYPE_I32, 2);
    t.w.begin_loop(kNone, 2, kNone); // while (go) { go /= 2; y += 1000; }
    const uint32_t go = t.e.symbol(2);
    add(t.w, temporary, t.e.sub(t.e.floordiv(go, t.e.constant(2)), go));
    add(t.w, y, t.e.constant(1000));
    t.w.read_scalar(temporary, t.zero, INGOT_ELEMENT_TYPE_I32, 2);
    t.w.end_loop();
  });
}

Bytes scalar(const std::string &target, ingot_element_type_t type) {
  return make_archive(target, [&](ArchiveModel &, Function &f) {
    f.symbols = {{"v", -1000000, INT64_MAX, SymbolKind::host}};
    Text t(f);
    const uint32_t size = t.e.constant(ingot_element_type_bits(type) / 8);
    const uint32_t x = t.input("x", {t.one}, size, type), y = t.output("y", {t.one}, t.four);
    t.w.fill(y, t.zero, t.four, 0xffffffff, 4);
    t.w.read_scalar(x, t.zero, type, 0);
    t.w.dispatch(kScale, kNone, t.one, t.one, t.one, {{add_slot(f, SlotKind::transient, 0, t.zero, t.four), t.zero, t.four}, {y, t.zero, t.four}},
                 {t.zero, t.e.symbol(0)});
    f.arenas = {t.e.constant(64)};
  });
}

Bytes counter(const std::string &target) {
  return make_archive(target, [](ArchiveModel &, Function &f) {
    Text t(f);
    const uint32_t y = t.output("count", {t.one}, t.four), state = add_slot(f, SlotKind::state, 1, kNone, t.four);
    t.w.dispatch(kBump, kNone, t.one, t.one, t.one, {{state, t.zero, t.four}}, {t.one});
    t.w.barrier();
    t.w.copy(y, t.zero, state, t.zero, t.four);
  });
}

Bytes refuse(const std::string &target) {
  return make_archive(target, [](ArchiveModel &, Function &f) {
    f.symbols = {{"N", 0, 100000, SymbolKind::input}};
    f.error_sites = {{"unused", "Add", "nothing"}, {"model/refuse", "Test", "a value is negative"}};
    Text t(f);
    const uint32_t n = t.e.symbol(0), bytes = t.e.mul(n, t.four);
    const uint32_t x = t.input("x", {n}, bytes), y = t.output("y", {n}, bytes);
    t.w.dispatch(kRefuse, t.site(kRefuse, "model/refuse"), n, t.one, t.one, {{x, t.zero, bytes}, {y, t.zero, bytes}}, {t.zero});
  });
}

Bytes nonzero(const std::string &target) {
  return make_archive(target, [](ArchiveModel &, Function &f) {
    f.symbols = {{"N", 0, 10000, SymbolKind::input}, {"found", 0, 10000, SymbolKind::host}};
    Text t(f);
    const uint32_t n = t.e.symbol(0), found = t.e.symbol(1), in = t.e.mul(n, t.four), out = t.e.mul(found, t.four);
    const uint32_t x = t.input("x", {n}, in), y = t.output("positions", {found}, out, INGOT_ELEMENT_TYPE_I32, in);
    f.arenas = {t.e.constant(64), t.e.align_up(out, 64)}; // the second one grows while running
    const uint32_t count = add_slot(f, SlotKind::transient, 0, t.zero, t.four), list = add_slot(f, SlotKind::transient, 1, t.zero, out);
    t.w.dispatch(kCount, kNone, t.one, t.one, t.one, {{x, t.zero, in}, {count, t.zero, t.four}}, {n});
    t.w.read_scalar(count, t.zero, INGOT_ELEMENT_TYPE_I32, 1);
    t.w.dispatch(kPositions, kNone, t.one, t.one, t.one, {{x, t.zero, in}, {list, t.zero, out}}, {n});
    t.w.barrier();
    t.w.copy(y, t.zero, list, t.zero, out);
  });
}

Bytes spin(const std::string &target, int64_t steps, uint32_t groups, int dispatches) {
  return make_archive(target, [&](ArchiveModel &, Function &f) {
    Text t(f);
    const uint32_t n = t.e.constant(groups), bytes = t.e.constant(4 * groups);
    const uint32_t x = t.input("x", {n}, bytes), y = t.output("y", {n}, bytes);
    t.w.copy(y, t.zero, x, t.zero, bytes);
    for (int i = 0; i < dispatches; ++i) {
      t.w.barrier();
      t.w.dispatch(kSpin, t.site(kSpin, "spin"), n, t.one, t.one, {{y, t.zero, bytes}}, {t.e.constant(steps)});
    }
  });
}

Bytes looped(const std::string &target, int64_t steps, uint32_t groups) {
  return make_archive(target, [&](ArchiveModel &, Function &f) {
    f.symbols = {{"trips", 0, 1000000, SymbolKind::host}};
    Text t(f);
    const uint32_t n = t.e.constant(groups), bytes = t.e.constant(4 * groups);
    const uint32_t x = t.input("x", {n}, bytes), trips = t.input("trips", {t.one}, t.four), y = t.output("y", {n}, bytes);
    t.w.read_scalar(trips, t.zero, INGOT_ELEMENT_TYPE_I32, 0);
    t.w.copy(y, t.zero, x, t.zero, bytes);
    t.w.begin_loop(t.e.symbol(0), kNone, kNone);
    t.w.dispatch(kSpin, kNone, n, t.one, t.one, {{y, t.zero, bytes}}, {t.e.constant(steps)});
    t.w.barrier();
    t.w.end_loop();
  });
}

Bytes moves(const std::string &target) {
  return make_archive(target, [](ArchiveModel &, Function &f) {
    Text t(f);
    const uint32_t forty = t.e.constant(40), eight = t.e.constant(8), bytes = t.e.constant(160), c_bytes = t.e.constant(64);
    const uint32_t x = t.input("x", {forty}, bytes);
    const uint32_t a = t.output("a", {forty}, bytes), b = t.output("b", {forty}, bytes), c = t.output("c", {eight}, c_bytes, INGOT_ELEMENT_TYPE_I64);
    t.w.copy(a, t.zero, x, t.zero, bytes);
    t.w.fill(b, t.zero, bytes, 0x01020304, 4);
    t.w.fill(c, t.zero, c_bytes, 0x0102030405060708, 8);
    t.w.barrier();
    t.w.copy(b, t.four, x, t.e.constant(12), t.e.constant(7)); // odd places
  });
}

Bytes weights(const std::string &target, uint32_t segments, uint32_t elements) {
  return make_archive(target, [&](ArchiveModel &model, Function &f) {
    Text t(f);
    const uint32_t n = t.e.constant(elements), bytes = t.e.constant(int64_t(4) * elements);
    const uint32_t y = t.output("y", {n}, bytes);
    f.arenas = {bytes};
    const uint32_t temporary = add_slot(f, SlotKind::transient, 0, t.zero, bytes);
    t.w.fill(y, t.zero, bytes, 0, 4);
    for (uint32_t s = 0; s < segments; ++s) {
      std::vector<int32_t> values(elements);
      for (uint32_t i = 0; i < elements; ++i) values[i] = int32_t(i * 31 + s * 1000);
      const uint32_t c = add_slot(f, SlotKind::constant, add_weights(model, values), kNone, bytes);
      t.w.barrier();
      t.w.copy(temporary, t.zero, y, t.zero, bytes);
      t.w.barrier();
      t.w.dispatch(kAdd, kNone, n, t.one, t.one, {{temporary, t.zero, bytes}, {c, t.zero, bytes}, {y, t.zero, bytes}}, {});
    }
  });
}

Bytes large(const std::string &target, uint32_t constants, uint64_t bytes, uint64_t tail) {
  Segment last;
  last.name = "weights";
  last.bytes.resize(64, 0xa5);
  const uint32_t segment = uint32_t(targets().size()); // after the code of all targets
  return make_archive(target, [&](ArchiveModel &, Function &f) {
    Text t(f);
    const uint32_t size = t.e.constant(int64_t(bytes)), length = t.e.constant(int64_t(tail)), from = t.e.constant(int64_t(bytes - tail));
    const uint32_t y = t.output("y", {t.e.constant(int64_t(constants * tail / 4))}, t.e.constant(int64_t(constants * tail)));
    for (uint32_t i = 0; i < constants; ++i) {
      const uint32_t c = add_slot(f, SlotKind::constant, segment, kNone, size);
      f.slots[c].segment_offset = i * bytes;
      t.w.copy(y, t.e.constant(int64_t(i * tail)), c, from, length);
    }
  }, &last);
}

Bytes chain(const std::string &target, int dispatches) {
  return make_archive(target, [&](ArchiveModel &, Function &f) {
    Text t(f);
    const uint32_t x = t.input("x", {t.one}, t.four), y = t.output("y", {t.one}, t.four);
    t.w.copy(y, t.zero, x, t.zero, t.four);
    for (int i = 1; i <= dispatches; ++i) {
      t.w.barrier();
      t.w.dispatch(kBump, t.site(kBump, "bump"), t.one, t.one, t.one, {{y, t.zero, t.four}}, {t.e.constant(i)});
    }
  });
}

} // namespace conformance
