// Files: damaged models, payloads in every form, external data and attacks through it.
#include <catch2/catch.hpp>

#include <unistd.h>

#include <random>

#include "aotc/graph/constant.h"
#include "tests/import/model.h"

using namespace test;
using Catch::Contains;

namespace {

Model &relu(Model &m) {
  m.input("x", kFloat, {"2", "3"}).output("y");
  m.node("Relu", {"x"}, {"y"});
  return m;
}

// y = x + c, with c stored by `fill`.
Imported add_constant(const std::function<void(onnx::TensorProto &)> &fill, const std::string &path = "m.onnx", int type = kFloat) {
  Model m;
  m.input("x", type, {"2"}).output("y");
  m.node("Add", {"x", "c"}, {"y"});
  fill(*m.tensor("c", type, {2}));
  return m.import({}, path);
}

std::vector<double> constant_of(const Imported &r) {
  const graph::Op *op = r.find(Opcode::kConstant);
  REQUIRE(op);
  std::vector<double> out;
  for (size_t i = 0; i < op->constant->bytes.size() / byte_size(op->constant->type); ++i)
    out.push_back(graph::read_float(*op->constant, i));
  return out;
}

void external(onnx::TensorProto &t, const std::string &location, const std::string &offset = "", const std::string &length = "") {
  t.set_data_location(onnx::TensorProto::EXTERNAL);
  const auto add = [&](const char *key, const std::string &value) {
    auto *e = t.add_external_data();
    e->set_key(key), e->set_value(value);
  };
  add("location", location);
  if (!offset.empty())
    add("offset", offset);
  if (!length.empty())
    add("length", length);
}

std::string floats(std::vector<float> v) { return {reinterpret_cast<const char *>(v.data()), v.size() * 4}; }

} // namespace

TEST_CASE("what is no model is refused", "[import]") {
  const auto refuse = [](const std::string &bytes) {
    Diagnostics d;
    ImportOptions options;
    options.path = "m.onnx";
    REQUIRE_FALSE(import_onnx_bytes(bytes, options, d));
    REQUIRE(d.list().size() == 1);
    return to_string(d.list()[0]);
  };
  CHECK_THAT(refuse(""), Contains("m.onnx: not a readable ONNX model"));
  CHECK_THAT(refuse("hello, world"), Contains("not a readable ONNX model"));
  CHECK_THAT(refuse(onnx::ModelProto().SerializeAsString() + "\x08\x01"), Contains("holds no ONNX graph"));
  Diagnostics d;
  ImportOptions options;
  options.path = "/nonexistent/m.onnx";
  CHECK_FALSE(import_onnx(options, d));
  CHECK_THAT(to_string(d.list().at(0)), Contains("/nonexistent/m.onnx: the file does not exist"));
}

TEST_CASE("truncated and damaged models never crash", "[import]") {
  Model m;
  relu(m).floats("w", {3, 2}, {1, 2, 3, 4, 5, 6});
  m.output("z");
  m.node("MatMul", {"y", "w"}, {"z"});
  const std::string bytes = m.bytes();
  ImportOptions options;
  options.path = "m.onnx";
  for (size_t cut = 0; cut < bytes.size(); ++cut) {
    Diagnostics d;
    const auto f = import_onnx_bytes(bytes.substr(0, cut), options, d);
    REQUIRE(f.has_value() == d.empty());
  }
  std::mt19937 random(7);
  for (int round = 0; round < 4000; ++round) {
    std::string damaged = bytes;
    for (int k = 0; k < 1 + round % 4; ++k)
      damaged[random() % damaged.size()] = static_cast<char>(random());
    Diagnostics d;
    const auto f = import_onnx_bytes(damaged, options, d);
    REQUIRE(f.has_value() == d.empty());
  }
}

TEST_CASE("opsets outside 1 to 27 are refused, foreign domains without use are not", "[import]") {
  for (int opset : {0, 28, 1000}) {
    Model m(opset);
    CHECK_THAT(relu(m).import().text(), Contains("the model has opset " + std::to_string(opset) + " of ai.onnx; supported are 1 to 27"));
  }
  Model m;
  auto *foreign = m.proto.add_opset_import();
  foreign->set_domain("com.microsoft"), foreign->set_version(1);
  CHECK(relu(m).import().text() == "");
}

TEST_CASE("a payload is read in every form", "[import]") {
  CHECK(constant_of(add_constant([](auto &t) { t.add_float_data(1), t.add_float_data(-2); })) == std::vector<double>{1, -2});
  CHECK(constant_of(add_constant([](auto &t) { t.set_raw_data(floats({3, 4})); })) == std::vector<double>{3, 4});
  CHECK(constant_of(add_constant([](auto &t) { t.add_int32_data(0x3c00), t.add_int32_data(0xc000); }, "m", kHalf)) ==
        std::vector<double>{1, -2});
  CHECK(constant_of(add_constant([](auto &t) { t.add_int32_data(0x3f80), t.add_int32_data(0x4000); }, "m",
                                 onnx::TensorProto::BFLOAT16)) == std::vector<double>{1, 2});
  CHECK(constant_of(add_constant([](auto &t) { t.add_int32_data(-1), t.add_int32_data(5); }, "m", onnx::TensorProto::INT8)) ==
        std::vector<double>{-1, 5});
  CHECK(constant_of(add_constant([](auto &t) { t.add_double_data(0.5), t.add_double_data(7); }, "m",
                                 onnx::TensorProto::DOUBLE)) == std::vector<double>{0.5, 7});
  CHECK(constant_of(add_constant([](auto &t) { t.add_uint64_data(4294967295u), t.add_uint64_data(2); }, "m",
                                 onnx::TensorProto::UINT32)) == std::vector<double>{4294967295.0, 2});
}

TEST_CASE("a payload that does not fit its dims is refused", "[import]") {
  CHECK_THAT(add_constant([](auto &t) { t.add_float_data(1); }).text(), Contains("tensor 'c': float_data holds 1 elements, the dims say 2"));
  CHECK_THAT(add_constant([](auto &t) { t.set_raw_data("abc"); }).text(), Contains("raw_data holds 3 bytes, the dims and type say 8"));
  CHECK_THAT(add_constant([](auto &t) { t.set_dims(0, -5); }).text(), Contains("has dim -5"));
  CHECK_THAT(add_constant([](auto &t) { t.set_dims(0, int64_t{1} << 40); }).text(), Contains("has dim 1099511627776"));
  CHECK_THAT(add_constant([](auto &t) { t.set_dims(0, 1 << 20), t.add_dims(1 << 20); }).text(), Contains("more than 2^31-1 elements"));
  CHECK_THAT(add_constant([](auto &t) { t.set_data_type(8); }).text(), Contains("tensor 'c' holds 0 strings, its dims say 2"));
  CHECK_THAT(add_constant([](auto &t) { t.set_data_type(99); }).text(), Contains("element type type 99"));
}

TEST_CASE("external data is read from beside the model", "[import]") {
  Folder folder;
  folder.write("w.bin", "????" + floats({8, 9}));
  const std::string model = (folder.path / "m.onnx").string();
  CHECK(constant_of(add_constant([](auto &t) { external(t, "w.bin", "4", "8"); }, model)) == std::vector<double>{8, 9});
  CHECK(constant_of(add_constant([](auto &t) { external(t, "./w.bin", "4"); }, model)) == std::vector<double>{8, 9});
}

TEST_CASE("external data cannot leave the model's folder or lie about its size", "[import]") {
  Folder outside, folder;
  const auto secret = outside.write("secret.bin", floats({1, 2}));
  folder.write("w.bin", floats({8, 9}));
  std::filesystem::create_symlink(secret, folder.path / "link.bin");
  std::filesystem::create_directory_symlink(outside.path, folder.path / "dir");
  std::filesystem::create_directory(folder.path / "sub");
  const std::string model = (folder.path / "m.onnx").string();
  const auto refuse = [&](const std::string &location, const std::string &offset = "", const std::string &length = "") {
    const Imported r = add_constant([&](auto &t) { external(t, location, offset, length); }, model);
    REQUIRE_FALSE(r.function);
    return r.text();
  };
  CHECK_THAT(refuse(secret.string()), Contains("has an absolute path"));
  CHECK_THAT(refuse("../" + outside.path.filename().string() + "/secret.bin"), Contains("leaves the model's folder ('..')"));
  CHECK_THAT(refuse("sub/../../x"), Contains("leaves the model's folder ('..')"));
  CHECK_THAT(refuse("link.bin"), Contains("is a link that leaves the model's folder"));
  CHECK_THAT(refuse("dir/secret.bin"), Contains("is a link that leaves the model's folder"));
  CHECK_THAT(refuse("C:\\secret.bin"), Contains("absolute path"));
  CHECK_THAT(refuse(""), Contains("without a location"));
  CHECK_THAT(refuse("missing.bin"), Contains("cannot be opened"));
  CHECK_THAT(refuse("sub"), Contains("is not a regular file"));
  CHECK_THAT(refuse("w.bin", "4"), Contains("bytes 4 to 12 lie past the file's end at 8"));
  CHECK_THAT(refuse("w.bin", "9223372036854775807"), Contains("past the file's end"));
  CHECK_THAT(refuse("w.bin", "-4"), Contains("offset '-4' is not a number"));
  CHECK_THAT(refuse("w.bin", "0", "4"), Contains("length 4, but the tensor needs 8 bytes"));
}

TEST_CASE("sparse initializers are refused", "[import]") {
  Model m;
  relu(m);
  m.g->add_sparse_initializer()->mutable_values()->set_name("s");
  CHECK_THAT(m.import().text(), Contains("sparse initializer 's' is not supported"));
}
