#include "tests/fuzz/seeds.h"

#include <fstream>
#include <iterator>
#include <stdexcept>

#include "tests/archive/hand_made.h"

namespace fuzz {
namespace {

using namespace hand_made;

// Programs without any kernel: all they do is up to the executor, so their mutants run on every driver.

// Copies, fills, aliases, constants, splats and states over two free dims.
Bytes plain_program() {
  ArchiveModel model;
  model.provenance = {"hand-made", "--nothing", "none.onnx", {}};
  Segment weights;
  weights.bytes.assign(256, 7);
  weights.name = "weights";
  model.segments.push_back(weights);
  Variant v;
  v.target = "llvm-cpu";
  v.arch = "x86_64";
  Function f;
  f.symbols = {{"B", 1, 64, ingot::program::SymbolKind::input},
               {"W", 0, 4096, ingot::program::SymbolKind::input}};
  ExprBuilder e(f);
  const uint32_t b = e.symbol(0), w = e.symbol(1), zero = e.constant(0), four = e.constant(4);
  const uint32_t bytes = e.mul(e.mul(b, w), four), constant = e.constant(128), row = e.mul(w, four),
                 splat = e.constant(64);
  const uint32_t arena = e.add(e.align_up(bytes, 64), e.constant(256));
  f.arenas = {arena};
  f.inputs.push_back({"x", INGOT_ELEMENT_TYPE_F32, {b, w}, {"batch", "width"}, kNone});
  f.outputs.push_back({"y", INGOT_ELEMENT_TYPE_F32, {b, w}, {}, kNone});
  f.outputs.push_back({"c", INGOT_ELEMENT_TYPE_U8, {constant}, {}, kNone});
  f.outputs.push_back({"n", INGOT_ELEMENT_TYPE_I64, {}, {}, kNone});
  const uint32_t in = input_slot(f, 0, bytes), y = output_slot(f, 0, bytes), c = output_slot(f, 1, constant);
  const uint32_t n = output_slot(f, 2, e.constant(8));
  const uint32_t weight = constant_slot(f, 0, 64, constant), temporary = transient_slot(f, 0, zero, bytes);
  const uint32_t second = transient_slot(f, 0, e.align_up(bytes, 64), e.constant(256));
  const uint32_t first_row = alias_slot(f, temporary, zero, row), one = splat_slot(f, 0x3f800000, 4, splat);
  const uint32_t state = state_slot(f, 0, e.constant(8));
  f.messages = {"the batch must not be 13"};
  CommandBuilder words(f.commands);
  words.check(e.binary(ExprOp::ne, b, e.constant(13)), 0);
  words.copy(temporary, zero, in, zero, bytes);
  words.barrier();
  words.fill(first_row, zero, row, 0x40000000, 4);
  words.copy(second, zero, one, zero, splat);
  words.copy(second, splat, weight, zero, constant);
  words.copy(y, zero, temporary, zero, bytes);
  words.copy(c, zero, weight, zero, constant);
  words.fill(state, zero, e.constant(8), 5, 8);
  words.copy(n, zero, state, zero, e.constant(8));
  v.functions.push_back(f);
  model.variants.push_back(v);
  model.variants.push_back(v); // two equal variants
  return write_archive(model);
}

// read_scalar, if, else, both loops, calls and checks, driven by the input's value.
Bytes plain_control() {
  ArchiveModel model;
  Variant v;
  v.target = "llvm-cpu";
  v.arch = "x86_64";
  Function f;
  f.symbols = {{"n", -5, 1000, ingot::program::SymbolKind::host},
               {"i", 0, 1000, ingot::program::SymbolKind::host},
               {"go", 0, 100, ingot::program::SymbolKind::host}};
  ExprBuilder e(f);
  const uint32_t n = e.symbol(0), i = e.symbol(1), zero = e.constant(0), eight = e.constant(8),
                 one = e.constant(1);
  f.arenas = {e.constant(64)};
  f.inputs.push_back({"x", INGOT_ELEMENT_TYPE_I64, {}, {}, kNone});
  f.outputs.push_back({"y", INGOT_ELEMENT_TYPE_I64, {}, {}, kNone});
  f.outputs.push_back({"found", INGOT_ELEMENT_TYPE_I64, {n}, {}, e.constant(8000)}); // its size depends on data
  const uint32_t in = input_slot(f, 0, eight), y = output_slot(f, 0, eight),
                 found = output_slot(f, 1, e.mul(n, eight));
  const uint32_t t = transient_slot(f, 0, zero, eight);
  f.messages = {"x must not be negative"};
  CommandBuilder words(f.commands);
  words.read_scalar(in, zero, INGOT_ELEMENT_TYPE_I64, 0);
  words.check(e.binary(ExprOp::le, zero, n), 0);
  words.fill(t, zero, eight, 0, 8);
  words.begin_loop(n, kNone, 1);
  words.call(0);
  words.begin_if(e.binary(ExprOp::mod, i, e.constant(2)));
  words.fill(t, zero, eight, 1, 8);
  words.begin_else();
  words.copy(t, zero, in, zero, eight);
  words.end_if();
  words.end_loop();
  words.fill(t, zero, eight, 1, 8);
  words.read_scalar(t, zero, INGOT_ELEMENT_TYPE_I64, 2);
  words.begin_loop(kNone, 2, kNone);
  words.fill(t, zero, eight, 0, 8);
  words.read_scalar(t, zero, INGOT_ELEMENT_TYPE_I64, 2);
  words.end_loop();
  words.copy(y, zero, t, zero, eight);
  words.bind(e.binary(ExprOp::min, n, eight), 2);
  words.fill(found, zero, e.mul(n, eight), 9, 8);
  f.subroutines.resize(1);
  CommandBuilder(f.subroutines[0])
      .fill(t, zero, e.select(e.binary(ExprOp::lt, i, one), eight, e.constant(4)), 3, 4);
  v.functions.push_back(f);
  f.name = "again";
  v.functions.push_back(f);
  model.variants.push_back(v);
  return write_archive(model);
}

} // namespace

std::vector<Seed> hand_made_seeds() {
  return {{"plain_program", plain_program()},
          {"plain_control", plain_control()},
          {"add_scale", add_scale(8)},
          {"free_add", free_add()},
          {"nonzero", nonzero()},
          {"control_flow", control_flow()},
          {"gather", gather()},
          {"prepared", prepared(6)},
          {"versions", versions(1, 2)},
          {"counter", counter()},
          {"reciprocal", reciprocal()},
          {"plain_values", values()}};
}

Seed file_seed(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + " cannot be opened");
  return {path.substr(path.rfind('/') + 1),
          {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()}};
}

} // namespace fuzz
