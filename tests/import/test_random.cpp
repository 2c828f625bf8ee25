// Random nodes of every operator: odd ranks, types, attributes and missing inputs give a graph that verifies or a
// diagnostic, never an internal error. (import_onnx_bytes verifies each graph it makes and throws if it is ill-formed.)
#include <catch2/catch.hpp>

#include <unistd.h>

#include <random>
#include <sstream>

#include "tests/import/model.h"

using namespace test;

namespace {

struct Maker {
  explicit Maker(uint32_t seed) : random(seed) {}
  std::mt19937 random;

  size_t pick(size_t n) { return random() % n; }
  int64_t number() {
    static const int64_t numbers[] = {0, 1, -1, 2, -2, 3, 4, 5, 7, 8, -3, 16, 100, 1 << 20, 0x7fffffff, -0x7fffffff, INT64_MAX, INT64_MIN};
    return numbers[pick(pick(4) ? 10 : std::size(numbers))];
  }
  std::vector<std::string> dims() {
    static const char *some[] = {"1", "2", "3", "4", "6", "8", "N", "W", "0"};
    std::vector<std::string> out(pick(6));
    for (auto &d : out)
      d = some[pick(pick(8) ? 7 : std::size(some))];
    return out;
  }
  int type() {
    static const int types[] = {kFloat, kFloat, kFloat, kInt64, kInt64, kBool, kInt32, kHalf, kUint8, onnx::TensorProto::DOUBLE,
                                onnx::TensorProto::INT8, onnx::TensorProto::UINT64, onnx::TensorProto::BFLOAT16};
    return types[pick(std::size(types))];
  }

  void attribute(onnx::NodeProto &n) {
    static const char *ints[] = {"axis", "keepdims", "group", "blocksize", "k", "to", "num_outputs", "batch_dims", "exclusive", "reverse",
                                 "ceil_mode", "p", "size", "num_groups", "largest", "transA", "transB", "upper", "allowzero", "fmod",
                                 "training_mode", "storage_order", "noop_with_empty_axes", "start", "end", "block_size", "antialias",
                                 "exclude_outside", "count_include_pad", "ignore_index", "batch_axis", "time_axis", "dtype", "output_dtype"};
    static const char *lists[] = {"axes", "perm", "pads", "strides", "dilations", "kernel_shape", "split", "starts", "ends", "output_padding", "output_shape"};
    static const char *floats[] = {"alpha", "beta", "epsilon", "min", "max", "value", "momentum", "lambd", "bias", "cubic_coeff_a"};
    static const std::pair<const char *, const char *> strings[] = {
        {"mode", "linear"}, {"mode", "nearest"}, {"mode", "cubic"}, {"mode", "reflect"}, {"mode", "edge"}, {"mode", "CRD"}, {"auto_pad", "SAME_UPPER"},
        {"auto_pad", "SAME_LOWER"}, {"auto_pad", "VALID"}, {"reduction", "add"}, {"reduction", "max"}, {"direction", "LEFT"},
        {"coordinate_transformation_mode", "align_corners"}, {"coordinate_transformation_mode", "tf_crop_and_resize"},
        {"equation", "ij,jk->ik"}, {"equation", "...ii->...i"}, {"equation", "a...,b->"}, {"nearest_mode", "ceil"}, {"mode", "?"}};
    switch (pick(4)) {
      case 0: attr(n, ints[pick(std::size(ints))], number()); break;
      case 1: {
        std::vector<int64_t> values(pick(5));
        for (int64_t &v : values)
          v = number();
        attr(n, lists[pick(std::size(lists))], values);
        break;
      }
      case 2: attr(n, floats[pick(std::size(floats))], static_cast<float>(number()) * 0.5f); break;
      default: {
        const auto &[name, value] = strings[pick(std::size(strings))];
        attr(n, name, std::string(value));
      }
    }
  }

  // One node with random inputs (run-time or constant), attributes and outputs.
  void fill(Model &m, const std::string &op) {
    std::vector<std::string> in, out;
    const std::vector<std::string> shared = dims();
    const int common = type();
    for (size_t i = 0, count = pick(5); i < count; ++i) {
      const std::string name = "x" + std::to_string(i);
      switch (pick(8)) {
        case 0: in.push_back(""); break;
        case 1:
        case 2: {
          std::vector<int64_t> values(pick(5));
          for (int64_t &v : values)
            v = number();
          m.ints(name, {static_cast<int64_t>(values.size())}, values);
          in.push_back(name);
          break;
        }
        case 3:
          m.floats(name, {}, {static_cast<float>(number())});
          in.push_back(name);
          break;
        default:
          m.input(name, pick(3) ? common : type(), pick(2) ? shared : dims());
          in.push_back(name);
      }
    }
    for (size_t i = 0, count = 1 + (pick(4) ? 0 : pick(3)); i < count; ++i) {
      out.push_back("y" + std::to_string(i));
      m.output(out.back());
    }
    onnx::NodeProto &n = m.node(op, in, out);
    for (size_t i = pick(4); i > 0; --i)
      attribute(n);
  }
};

} // namespace

TEST_CASE("random nodes are imported or refused", "[import]") {
  size_t imported = 0, total = 0;
  for (const std::string &line : list_onnx_operators()) {
    std::istringstream words(line);
    std::string domain, op, range;
    words >> domain >> op >> range;
    const int64_t first = std::stoll(range), last = std::stoll(range.substr(range.find('-') + 1));
    for (uint32_t round = 0; round < 40; ++round) {
      Maker maker(static_cast<uint32_t>(std::hash<std::string>()(op)) * 1000 + round);
      Model m(first + static_cast<int64_t>(maker.pick(static_cast<size_t>(last - first + 1))));
      maker.fill(m, op);
      INFO(m.proto.ShortDebugString());
      Imported r;
      try {
        r = m.import();
      } catch (const std::exception &e) {
        FAIL_CHECK(e.what());
        continue;
      }
      ++total;
      imported += r.function.has_value();
      if (r.function.has_value() != r.diagnostics.empty())
        FAIL_CHECK("neither a graph nor a diagnostic");
      if (r.function) {
        std::string error;
        const std::string text = graph::print(*r.function);
        const auto again = graph::parse(text, {}, error);
        if (again && graph::print(*again) != text)
          FAIL_CHECK("text differs after a round trip");
        if (!again && error.find("large constant") == std::string::npos)
          FAIL_CHECK(error + "\n" + text);
      }
    }
  }
  CHECK(imported > total / 20); // the generator hits legal nodes too
}
