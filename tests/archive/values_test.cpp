// Lists, optionals and strings: values of the API, a hand-made program of host ops, refusals, exhausted memory.
#include <catch2/catch.hpp>

#include <cstring>

#include "schemas/program_words.h"
#include "tests/archive/hand_made.h"
#include "tests/archive/support.h"

using namespace support;

namespace {

constexpr auto kF32 = INGOT_ELEMENT_TYPE_F32;

ingot::String text(const char *t) { return {t, strlen(t)}; }
std::string string_of(const ingot::Value &value, uint64_t index, uint32_t element = INGOT_NONE) {
  const auto s = value.string(index, element);
  return s.ok() ? std::string(s->data, s->size) : "?";
}
std::vector<float> floats_of(const ingot::Value &value, uint32_t element = INGOT_NONE) {
  const auto t = value.tensor(element);
  if (!t.ok()) return {};
  const float *data = static_cast<const float *>(t->data);
  return {data, data + t->size / 4};
}

struct Run {
  explicit Run(const ingot_allocator_t *allocator = nullptr)
      : words(allocator), o(allocator), list(allocator), optional(allocator), upper(allocator), found(allocator), pieces(allocator) {}
  ingot::Status operator()(ingot::Session &session) {
    ingot::Tensor in[] = {tensor(x, kF32, {3}), words.view({4}), o.view()};
    ingot::Tensor out[] = {tensor(y, kF32, {-1}), list.view(), optional.view(), upper.view({-1}), found.view(), pieces.view()};
    const ingot::Status status = session.run(in, out);
    total = out[0].dims[0];
    kept = out[3].dims[0];
    return status;
  }
  std::vector<float> x = {1, 2, 3}, y = std::vector<float>(1000);
  ingot::Value words, o, list, optional, upper, found, pieces;
  int64_t total = 0, kept = 0;
};

} // namespace

TEST_CASE("a value holds nothing, numbers, strings or a list, and says what") {
  ingot::Value v, w;
  CHECK(v.kind() == INGOT_VALUE_NONE);
  CHECK_FALSE(v.tensor().ok());
  float numbers[6] = {1, 2, 3, 4, 5, 6};
  REQUIRE(v.set_tensor(ingot::view(numbers, {2, 3})).ok());
  CHECK(v.kind() == INGOT_VALUE_TENSOR);
  CHECK(floats_of(v) == std::vector<float>{1, 2, 3, 4, 5, 6});
  CHECK(v.tensor()->dims[1] == 3);
  CHECK_FALSE(v.string(0).ok());
  REQUIRE(w.set_strings({text("a"), text(""), text("\xc3\xa4")}, {3}).ok());
  CHECK(w.kind() == INGOT_VALUE_STRINGS);
  CHECK(string_of(w, 2) == "\xc3\xa4");
  CHECK_FALSE(w.string(3).ok());
  ingot::Value list;
  REQUIRE(list.set_list(kF32, {v.get(), v.get()}).ok());
  CHECK(list.count() == 2);
  v.set_none(); // the list keeps what it holds
  CHECK(floats_of(list, 1).size() == 6);
  CHECK_FALSE(list.tensor(2).ok());
  const ingot_value_t *mixed[] = {list.get(), w.get()};
  CHECK(contains(list.set_list(kF32, ingot::Span<const ingot_value_t *const>(mixed, 2)).message(), "element 0 of a list is no tensor"));
  CHECK(list.count() == 2); // as it was
  ingot::Tensor small = ingot::view(numbers, {2, 3});
  small.size = 20;
  CHECK(contains(v.set_tensor(small).message(), "needs 24 bytes, its memory holds 20"));
}

TEST_CASE("a program of host ops") {
  Loaded l(hand_made::values());
  ingot_function_info_t info;
  REQUIRE(ingot_archive_function(l.archive->get(), 0, 0, &info) == INGOT_OK);
  CHECK(info.host_decision_count > 0); // at host ops the host waits
  CHECK_FALSE(info.fixed);
  INFO(l.error());
  REQUIRE(l.session.ok());
  Run run;
  REQUIRE(run.words.set_strings({text("one"), text("MONDAY"), text("\xc3\xa4-two"), text("two")}, {4}).ok());
  for (int round = 0; round < 3; ++round) {
    if (round == 1) REQUIRE(run.o.set_tensor(ingot::view(run.x.data(), {3})).ok());
    if (round == 2) run.o.set_none();
    const ingot::Status status = run(*l.session);
    INFO(status.message());
    REQUIRE(status.ok());
    CHECK(run.total == 14); // four times all three, and two parts of one
    CHECK(std::vector<float>(run.y.begin(), run.y.begin() + 14) == std::vector<float>{1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 1, 2, 3});
    CHECK(run.list.count() == 2);
    CHECK(floats_of(run.list, 0) == run.x);
    CHECK(run.optional.kind() == (round == 1 ? INGOT_VALUE_TENSOR : INGOT_VALUE_NONE));
    CHECK(run.kept == 3);
    CHECK(string_of(run.upper, 0) == "ONE");
    CHECK(string_of(run.upper, 1) == "\xc3\x84-TWO");
    const auto found = run.found.tensor();
    REQUIRE(found.ok());
    const int64_t *numbers = static_cast<const int64_t *>(found->data);
    CHECK(std::vector<int64_t>(numbers, numbers + 4) == std::vector<int64_t>{1, -1, -1, 2});
    CHECK(run.pieces.tensor()->dims[1] == 2);
    CHECK(string_of(run.pieces, 5) == "two");
    CHECK(string_of(run.pieces, 7) == "");
  }
}

TEST_CASE("wrong values are refused, and so is an archive that was opened without them") {
  const std::vector<uint8_t> bytes = hand_made::values();
  CHECK(contains(ingot::Archive::open(bytes.data(), bytes.size()).message(), "works with lists or strings (feature 0x1): open it as <ingot/values.h> says"));
  Loaded l(bytes);
  REQUIRE(l.session.ok());
  Run run;
  CHECK(contains(run(*l.session).message(), "input 'words' is no tensor of strings with the dims given"));
  REQUIRE(run.words.set_strings({text("a"), text("b")}, {2}).ok());
  CHECK(contains(run(*l.session).message(), "input 'words' is no tensor of strings with the dims given"));
  ingot::Tensor in[] = {tensor(run.x, kF32, {3}), run.words.view({2}), run.o.view()};
  ingot::Tensor out[] = {tensor(run.y, kF32, {-1}), run.list.view(), run.optional.view(), run.upper.view({-1}), run.found.view(), run.pieces.view()};
  CHECK(l.session->run(in, out).ok());
  in[1].data = nullptr;
  CHECK(contains(l.session->run(in, out).message(), "a value is NULL"));
}

TEST_CASE("every allocation of a run with values may fail") {
  CountingAllocator counter;
  const ingot_allocator_t allocator = counter.get();
  for (long fail_at = 0; fail_at < 2000; ++fail_at) {
    counter.fail_at = -1;
    {
      Loaded l(hand_made::values(), "local-sync", &allocator);
      REQUIRE(l.session.ok());
      Run run(&allocator);
      REQUIRE(run.words.set_strings({text("one"), text("MONDAY"), text("-"), text("two")}, {4}).ok());
      counter.fail_at = counter.calls + fail_at;
      const ingot::Status status = run(*l.session);
      const bool reached = counter.calls > counter.fail_at;
      counter.fail_at = -1;
      if (reached) CHECK(status.code() == INGOT_OUT_OF_MEMORY);
      CHECK(run(*l.session).ok()); // the context is as good as before
      if (!reached) fail_at = 2000;
    }
    CHECK(counter.live == 0);
    CHECK_FALSE(counter.mismatch);
  }
}

TEST_CASE("host ops that are malformed are refused when the archive is opened") {
  using namespace hand_made;
  using ingot::program::HostOp;
  const auto refuse = [](HostOp op, std::vector<uint32_t> results, std::vector<uint32_t> sources, std::vector<uint32_t> exprs,
                         std::vector<uint32_t> symbols, std::vector<uint32_t> immediates) {
    ArchiveModel model;
    model.required_features = 1;
    Variant v;
    v.target = "llvm-cpu";
    Function f;
    f.symbols = {{"n", 1, 64, ingot::program::SymbolKind::input}, {"h", 0, 64, ingot::program::SymbolKind::host}};
    ExprBuilder e(f);
    const uint32_t n = e.symbol(0);
    f.inputs = {{"x", kF32, {n}, {}, kNone}, {"v", INGOT_ELEMENT_TYPE_VALUE, {}, {}, kNone}};
    input_slot(f, 0, e.mul(n, e.constant(4)));
    f.host_slots = {{}, {ingot::program::HostSlotKind::input, 1, 0, {}, 0, 0}};
    CommandBuilder(f.commands).host_op(op, results, sources, exprs, symbols, immediates);
    v.functions.push_back(f);
    model.variants.push_back(v);
    return std::string(Loaded::open(write_archive(model), nullptr).message());
  };
  const std::string fine = refuse(HostOp::copy, {0}, {1}, {}, {}, {});
  CHECK(fine.empty());
  CHECK(contains(refuse(HostOp::copy, {1}, {0}, {}, {}, {}), "writes to an input or a constant"));
  CHECK(contains(refuse(HostOp::copy, {2}, {0}, {}, {}, {}), "no such host slot"));
  CHECK(contains(refuse(HostOp::copy, {0}, {0, 0}, {}, {}, {}), "wrong numbers of operands"));
  CHECK(contains(refuse(HostOp(99), {0}, {0}, {}, {}, {}), "unknown host op"));
  CHECK(contains(refuse(HostOp::at, {0}, {1}, {77}, {}, {}), "no such expression"));
  CHECK(contains(refuse(HostOp::length, {}, {1}, {}, {0}, {}), "no such host symbol"));
  CHECK(contains(refuse(HostOp::put, {}, {1}, {}, {}, {0, 12}), "writes to a constant, a splat or an input"));
  CHECK(contains(refuse(HostOp::box, {0}, {}, {}, {}, {9, 12}), "no such slot"));
  CHECK(contains(refuse(HostOp::box, {0}, {}, {}, {}, {0, 26}), "unknown element type"));
}
