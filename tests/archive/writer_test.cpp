// The writer: same model, same bytes; equal segments once; expressions fold and are shared; what is written comes back
// through the introspection of the C ABI.
#include <catch2/catch.hpp>

#include "tests/archive/hand_made.h"
#include "tests/archive/support.h"

using namespace support;
using hand_made::ExprOp;

TEST_CASE("the same model gives the same bytes") {
  CHECK(hand_made::control_flow() == hand_made::control_flow());
  CHECK(hand_made::add_scale(100) == hand_made::add_scale(100));
  CHECK(hand_made::add_scale(100) != hand_made::add_scale(101));
}

TEST_CASE("equal segments are stored once, at the stricter alignment") {
  hand_made::Builder b;
  const uint32_t first = b.weights({1, 2, 3}), other = b.weights({1, 2, 4}), second = b.weights({1, 2, 3});
  b.model.segments[second].alignment = 4096;
  b.kernel("empty", {}, 0);
  hand_made::Function &f = b.function();
  hand_made::ExprBuilder e(f);
  for (uint32_t s : {first, other, second}) hand_made::constant_slot(f, s, 0, e.constant(12));
  const std::vector<uint8_t> bytes = b.bytes();
  auto archive = ingot::Archive::open(bytes.data(), bytes.size());
  INFO(archive.message());
  REQUIRE(archive.ok());
  ingot_archive_info_t info;
  ingot_archive_info(archive->get(), &info);
  CHECK(info.segment_count == 3);
  CHECK(info.file_size == bytes.size());
  CHECK(std::string(info.compiler) == "hand-made");
  ingot_slot_info_t a, c;
  REQUIRE(ingot_archive_slot(archive->get(), 0, 0, 0, &a) == INGOT_OK);
  REQUIRE(ingot_archive_slot(archive->get(), 0, 0, 2, &c) == INGOT_OK);
  CHECK(a.of == c.of);
  ingot_segment_info_t segment;
  REQUIRE(ingot_archive_segment(archive->get(), a.of, &segment) == INGOT_OK);
  CHECK(segment.alignment == 4096);
  CHECK(segment.offset % 4096 == 0);
  CHECK(uintptr_t(segment.data) % 4096 == 0);
}

TEST_CASE("expressions: folding and sharing agree with the runtime's evaluation") {
  // Random trees over constants and two symbols, built once with folding, once node by node; both evaluated by the runtime.
  uint32_t seed = 99;
  const auto random = [&](uint32_t n) { seed = seed * 1664525 + 1013904223; return (seed >> 8) % n; };
  hand_made::Builder b;
  b.kernel("empty", {}, 0);
  hand_made::Function &f = b.function();
  f.symbols = {{"a", 0, 1000, hand_made::SymbolKind::input}, {"b", 0, 1000, hand_made::SymbolKind::input}};
  std::vector<uint32_t> folded, plain;
  {
    hand_made::ExprBuilder e(f);
    const uint32_t a = e.symbol(0), c = e.symbol(1);
    f.inputs = {{"x", INGOT_ELEMENT_TYPE_F32, {a, c}, {}, hand_made::kNone}};
  }
  const auto raw = [&](hand_made::Expr x) { f.exprs.push_back(x); return uint32_t(f.exprs.size() - 1); };
  for (int tree = 0; tree < 300; ++tree) {
    std::vector<uint32_t> p, q;
    hand_made::ExprBuilder e(f);
    for (int i = 0; i < 12; ++i) {
      if (i < 4) {
        const int64_t v = int64_t(random(21)) - 10;
        const uint32_t s = random(2);
        const bool symbol = random(3) == 0;
        p.push_back(symbol ? e.symbol(s) : e.constant(v));
        q.push_back(symbol ? raw({ExprOp::symbol, s, 0, 0, 0}) : raw({ExprOp::constant, 0, 0, 0, v}));
        continue;
      }
      const ExprOp op = ExprOp(2 + random(15));
      const uint32_t x = random(uint32_t(i)), y = random(uint32_t(i)), z = random(uint32_t(i));
      if (op == ExprOp::select) p.push_back(e.select(p[x], p[y], p[z])), q.push_back(raw({op, q[x], q[y], q[z], 0}));
      else if (op == ExprOp::logical_not) p.push_back(e.logical_not(p[x])), q.push_back(raw({op, q[x], 0, 0, 0}));
      else p.push_back(e.binary(op, p[x], p[y])), q.push_back(raw({op, q[x], q[y], 0, 0}));
    }
    folded.push_back(p.back());
    plain.push_back(q.back());
  }
  const std::vector<uint8_t> bytes = b.bytes();
  auto archive = ingot::Archive::open(bytes.data(), bytes.size());
  INFO(archive.message());
  REQUIRE(archive.ok());
  int values = 0;
  for (size_t i = 0; i < folded.size(); ++i)
    for (int64_t s : {0, 1, 7}) {
      const int64_t symbols[] = {s, 5 - s};
      int64_t x = 0, y = 0;
      const ingot_code_t p = ingot_archive_evaluate(archive->get(), 0, 0, folded[i], symbols, 2, &x, nullptr);
      const ingot_code_t q = ingot_archive_evaluate(archive->get(), 0, 0, plain[i], symbols, 2, &y, nullptr);
      REQUIRE(p == q);
      if (p != INGOT_OK) continue;
      REQUIRE(x == y);
      ++values;
    }
  CHECK(values > 300);
}

TEST_CASE("introspection tells what was written") {
  const std::vector<uint8_t> bytes = hand_made::control_flow();
  auto archive = ingot::Archive::open(bytes.data(), bytes.size());
  REQUIRE(archive.ok());
  ingot_archive_t *a = archive->get();
  ingot_function_info_t f;
  REQUIRE(ingot_archive_function(a, 0, 0, &f) == INGOT_OK);
  CHECK(std::string(f.name) == "main");
  CHECK(f.dispatch_count == 6);
  CHECK(f.host_decision_count == 6); // three reads, one if, two loops
  CHECK(!f.fixed);
  CHECK(ingot_archive_find_function(a, "main") == 0);
  CHECK(ingot_archive_find_function(a, "other") == INGOT_NONE);
  CHECK(ingot_archive_function(a, 0, 1, &f) == INGOT_OUT_OF_RANGE);
  CHECK(ingot_archive_function(a, 1, 0, &f) == INGOT_OUT_OF_RANGE);
  std::string text;
  char line[500];
  uint32_t cursor = 0, depth = 0;
  while (ingot_archive_command_text(a, 0, 0, &cursor, &depth, line, sizeof line)) text += std::string(2 * depth, ' ') + line + "\n";
  CHECK(text == "read trips <- i64 %0[0]\n"
                "check 0<=trips, \"the trip count must not be negative\"\n"
                "fill %1[0, +8] with 0x0 of 8 bytes\n"
                "loop i < trips while -\n"
                "  call subroutine 0\n"
                "  dispatch add_scalar_i64 grid(1, 1, 1) rw %1[0, +8] params(i)\n"
                "if trips%2\n"
                "  dispatch add_scalar_i64 grid(1, 1, 1) rw %1[0, +8] params(100)\n"
                "  (else) dispatch add_scalar_i64 grid(1, 1, 1) rw %1[0, +8] params(200)\n"
                "copy %2[0] <- %1[0, +8]\n"
                "read go <- i64 %2[0]\n"
                "loop - < - while go\n"
                "  dispatch add_scalar_i64 grid(1, 1, 1) rw %2[0, +8] params((go/2)-go)\n"
                "  dispatch add_scalar_i64 grid(1, 1, 1) rw %1[0, +8] params(1000)\n"
                "  read go <- i64 %2[0]\n"
                "subroutine 0\n"
                "dispatch add_scalar_i64 grid(1, 1, 1) rw %1[0, +8] params(3)\n");
  ingot_symbol_info_t symbol;
  REQUIRE(ingot_archive_symbol(a, 0, 0, 0, &symbol) == INGOT_OK);
  CHECK((std::string(symbol.name) == "trips" && symbol.min == -5 && symbol.max == 1000 && symbol.host));
  ingot_kernel_info_t kernel;
  REQUIRE(ingot_archive_kernel(a, 0, 0, &kernel) == INGOT_OK);
  CHECK((std::string(kernel.name) == "add_scalar_i64" && kernel.binding_count == 1 && kernel.binding_access[0] == 3));
  ingot_version_info_t version;
  REQUIRE(ingot_archive_kernel_version(a, 0, 0, 0, &version) == INGOT_OK);
  CHECK((std::string(version.format) == "elf" && version.stack_bytes == 64));
  CHECK(ingot_archive_kernel_version(a, 0, 0, 1, &version) == INGOT_OUT_OF_RANGE);

  const std::vector<uint8_t> fixed = hand_made::add_scale(8);
  auto second = ingot::Archive::open(fixed.data(), fixed.size());
  REQUIRE(ingot_archive_function(second->get(), 0, 0, &f) == INGOT_OK);
  CHECK(f.fixed);
  ingot_signature_tensor_t t;
  REQUIRE(ingot_archive_input(second->get(), 0, 0, &t) == INGOT_OK);
  CHECK((std::string(t.name) == "x" && t.rank == 1 && t.fixed_dims[0] == 8 && std::string(t.dim_names[0]) == "features"));
  CHECK(std::string(ingot_archive_site_node(second->get(), 0, 0, 1, 1)) == "twice");
  int64_t peak = 0;
  REQUIRE(ingot_archive_evaluate(second->get(), 0, 0, ingot_archive_arena(second->get(), 0, 0, 0), nullptr, 0, &peak, nullptr) == INGOT_OK);
  CHECK(peak == 96);
}
