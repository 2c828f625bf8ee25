// Serial kernels against plain C++, in the reference interpreter: TopK, NonZero, Compress, Scatter, MaxPool's indices.
#include <catch2/catch.hpp>

#include <unistd.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "aotc/kernel/interpreter.h"
#include "aotc/kernel/verifier.h"
#include "tests/import/model.h"

using namespace test;

namespace {

// Runs the model's one compute op on raw buffers: operands, then results. Returns the error word.
uint64_t run(const Imported &r, std::vector<kernel::Binding> bindings) {
  REQUIRE(r.text() == "");
  const graph::Op *op = r.find(Opcode::kCompute);
  REQUIRE(op);
  REQUIRE(dispatch::verify(*op->compute) == "");
  const dispatch::LoopBody &body = *op->compute->loop;
  REQUIRE(kernel::verify(body.kernel) == "");
  std::vector<int64_t> params;
  for (const Expr &e : body.params)
    params.push_back(e.constant().value()); // the models here have fixed dims
  kernel::RunOptions options;
  options.params = params;
  const kernel::RunResult result = kernel::interpret(body.kernel, bindings, options);
  INFO(result.message);
  REQUIRE(result.ok);
  return result.error_word;
}

template <typename T>
kernel::Binding bind(std::vector<T> &v) {
  return {v.data(), v.size() * sizeof(T)};
}

} // namespace

TEST_CASE("TopK orders by value, then by index", "[import]") {
  std::mt19937 random(5);
  for (int round = 0; round < 40; ++round) {
    const int64_t outer = 1 + random() % 3, extent = 1 + random() % 7, inner = 1 + random() % 3, k = random() % (extent + 1);
    const bool largest = random() % 2;
    Model m(11);
    m.input("x", kFloat, {std::to_string(outer), std::to_string(extent), std::to_string(inner)}).ints("k", {1}, {k}).output("v").output("i");
    auto &n = m.node("TopK", {"x", "k"}, {"v", "i"});
    attr(n, "axis", 1), attr(n, "largest", int64_t{largest});
    std::vector<float> x(static_cast<size_t>(outer * extent * inner));
    for (float &f : x)
      f = static_cast<float>(random() % 4);
    std::vector<float> values(static_cast<size_t>(outer * k * inner));
    std::vector<int64_t> indices(values.size(), -1);
    CHECK(run(m.import(), {bind(x), bind(values), bind(indices)}) == 0);
    for (int64_t o = 0; o < outer; ++o)
      for (int64_t i = 0; i < inner; ++i) {
        std::vector<int64_t> order(static_cast<size_t>(extent));
        std::iota(order.begin(), order.end(), 0);
        const auto at = [&](int64_t j) { return x[static_cast<size_t>((o * extent + j) * inner + i)]; };
        std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return largest ? at(a) > at(b) : at(a) < at(b); });
        for (int64_t j = 0; j < k; ++j) {
          REQUIRE(indices[static_cast<size_t>((o * k + j) * inner + i)] == order[static_cast<size_t>(j)]);
          REQUIRE(values[static_cast<size_t>((o * k + j) * inner + i)] == at(order[static_cast<size_t>(j)]));
        }
      }
  }
}

TEST_CASE("NonZero lists coordinates in row-major order", "[import]") {
  Model m;
  m.input("x", kBool, {"2", "3", "2"}).output("y");
  m.node("NonZero", {"x"}, {"y"});
  std::vector<uint8_t> x = {0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 0, 1};
  std::vector<int64_t> indices(36, -1), count(1);
  CHECK(run(m.import(), {bind(x), bind(indices), bind(count)}) == 0);
  REQUIRE(count[0] == 5);
  CHECK(std::vector<int64_t>(indices.begin(), indices.begin() + 5) == std::vector<int64_t>{0, 0, 0, 1, 1});
  CHECK(std::vector<int64_t>(indices.begin() + 12, indices.begin() + 17) == std::vector<int64_t>{0, 2, 2, 1, 2});
  CHECK(std::vector<int64_t>(indices.begin() + 24, indices.begin() + 29) == std::vector<int64_t>{1, 0, 1, 1, 1});
}

TEST_CASE("Scatter writes in order, reduces, and names a bad index", "[import]") {
  Model m(16);
  m.input("x", kFloat, {"4", "2"}).input("i", kInt64, {"3", "1"}).input("u", kFloat, {"3", "2"}).output("y");
  attr(m.node("ScatterND", {"x", "i", "u"}, {"y"}), "reduction", std::string("add"));
  const Imported r = m.import();
  std::vector<float> x = {0, 1, 2, 3, 4, 5, 6, 7}, updates = {10, 20, 30, 40, 50, 60}, y(8);
  std::vector<int64_t> offsets = {3, 1, 3}; // rows, computed by the graph
  CHECK(run(r, {bind(x), bind(offsets), bind(updates), bind(y)}) == 0);
  CHECK(y == std::vector<float>{0, 1, 32, 43, 4, 5, 66, 87});
  offsets[1] = -5; // how the graph marks an index out of range
  const uint64_t error = run(r, {bind(x), bind(offsets), bind(updates), bind(y)});
  CHECK((error & 0xffffffff) == 1);
  CHECK(r.function->sites.at(error >> 32) == "node 'the_ScatterND' (ai.onnx.ScatterND): index out of range");
  CHECK(y == std::vector<float>{0, 1, 2, 3, 4, 5, 66, 87});
}

TEST_CASE("MaxPool's indices are positions in the input", "[import]") {
  Model m(12);
  m.input("x", kFloat, {"1", "2", "3", "3"}).output("y").output("i");
  auto &n = m.node("MaxPool", {"x"}, {"y", "i"});
  attr(n, "kernel_shape", std::vector<int64_t>{2, 2}), attr(n, "pads", std::vector<int64_t>{1, 1, 0, 0});
  attr(n, "strides", std::vector<int64_t>{2, 2});
  std::vector<float> x = {1, 2, 3, 4, 9, 6, 7, 8, 5, /**/ -1, -2, -3, -4, -5, -6, -7, -8, -9}, y(8);
  std::vector<int64_t> i(8);
  CHECK(run(m.import(), {bind(x), bind(y), bind(i)}) == 0);
  CHECK(y == std::vector<float>{1, 3, 7, 9, -1, -2, -4, -5});
  CHECK(i == std::vector<int64_t>{0, 2, 6, 4, 9, 10, 12, 13});
}

TEST_CASE("Compress keeps what the condition names", "[import]") {
  Model m(11);
  m.input("x", kFloat, {"4", "2"}).input("c", kBool, {"3"}).output("y");
  attr(m.node("Compress", {"x", "c"}, {"y"}), "axis", 0);
  std::vector<uint8_t> c = {1, 0, 1};
  std::vector<int64_t> indices(3, -1), count(1);
  CHECK(run(m.import(), {bind(c), bind(indices), bind(count)}) == 0);
  CHECK(count[0] == 2);
  CHECK(indices[0] == 0);
  CHECK(indices[1] == 2);
}

TEST_CASE("axes known at run time choose among branches", "[import]") {
  Model m(18);
  m.input("x", kFloat, {"2", "3", "4"}).input("axes", kInt64, {"2"}).output("y");
  attr(m.node("ReduceSum", {"x", "axes"}, {"y"}), "keepdims", 0);
  const Imported r = m.import();
  REQUIRE(r.text() == "");
  CHECK(r.count(Opcode::kReduce) == 3); // 3 choose 2
  CHECK(r.count(Opcode::kCheck) == 1);  // distinct
  CHECK(r.count(Opcode::kReadScalar) == 2);
}
