// Small ONNX models, built in memory, and what became of them.
//
//   Model m(13);
//   m.input("x", f32, {2, 3}).output("y").node("Relu", {"x"}, {"y"});
//   Imported r = m.import();   // r.function, r.text(): diagnostics, one a line
#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <onnx/onnx_pb.h>

#include "aotc/graph/check.h"
#include "aotc/import/onnx/import.h"

namespace test {

using namespace ingot::aotc;
using ingot::aotc::graph::Opcode;

inline constexpr int kFloat = onnx::TensorProto::FLOAT, kInt64 = onnx::TensorProto::INT64, kBool = onnx::TensorProto::BOOL,
                     kInt32 = onnx::TensorProto::INT32, kHalf = onnx::TensorProto::FLOAT16, kUint8 = onnx::TensorProto::UINT8;

struct Imported {
  std::optional<graph::Function> function;
  Diagnostics diagnostics;

  std::string text() const {
    std::string out;
    for (const Diagnostic &d : diagnostics.list())
      out += to_string(d) + "\n";
    return out;
  }
  // Ops with this code, regions included.
  size_t count(Opcode code) const { return count(function->graph, code); }
  size_t maps(kernel::Opcode code) const {
    size_t n = 0;
    for (const graph::Op &op : function->graph.ops)
      n += op.code == Opcode::kMap && op.map == code;
    return n;
  }
  const graph::Op *find(Opcode code) const {
    for (const graph::Op &op : function->graph.ops)
      if (op.code == code)
        return &op;
    return nullptr;
  }
  std::string output(size_t i = 0) const {
    return to_string(function->values[function->graph.outputs[i].value].type);
  }
  static size_t count(const graph::Graph &g, Opcode code) {
    size_t n = 0;
    for (const graph::Op &op : g.ops) {
      n += op.code == code;
      for (const graph::Graph &region : op.regions)
        n += count(region, code);
    }
    return n;
  }
};

// Builds one GraphProto; Model wraps the main one.
struct GraphOf {
  explicit GraphOf(onnx::GraphProto *graph) : g(graph) {}
  onnx::GraphProto *g;

  // A dim is a number, or a name if it is not one; "" has no value.
  GraphOf &input(const std::string &name, int type, const std::vector<std::string> &dims) {
    value(g->add_input(), name, type, dims);
    return *this;
  }
  GraphOf &output(const std::string &name) {
    g->add_output()->set_name(name);
    return *this;
  }
  onnx::NodeProto &node(const std::string &op, const std::vector<std::string> &in, const std::vector<std::string> &out,
                        const std::string &domain = "") {
    onnx::NodeProto *n = g->add_node();
    n->set_op_type(op);
    n->set_name("the_" + op);
    n->set_domain(domain);
    for (const auto &i : in)
      n->add_input(i);
    for (const auto &o : out)
      n->add_output(o);
    return *n;
  }
  GraphOf &floats(const std::string &name, const std::vector<int64_t> &dims, const std::vector<float> &values) {
    onnx::TensorProto *t = tensor(name, kFloat, dims);
    for (float v : values)
      t->add_float_data(v);
    return *this;
  }
  GraphOf &ints(const std::string &name, const std::vector<int64_t> &dims, const std::vector<int64_t> &values) {
    onnx::TensorProto *t = tensor(name, kInt64, dims);
    for (int64_t v : values)
      t->add_int64_data(v);
    return *this;
  }
  onnx::TensorProto *tensor(const std::string &name, int type, const std::vector<int64_t> &dims) {
    onnx::TensorProto *t = g->add_initializer();
    t->set_name(name);
    t->set_data_type(type);
    for (int64_t d : dims)
      t->add_dims(d);
    return t;
  }
  static void value(onnx::ValueInfoProto *v, const std::string &name, int type, const std::vector<std::string> &dims) {
    v->set_name(name);
    auto *t = v->mutable_type()->mutable_tensor_type();
    t->set_elem_type(type);
    auto *shape = t->mutable_shape();
    for (const std::string &d : dims) {
      auto *dim = shape->add_dim();
      if (!d.empty() && (std::isdigit(static_cast<unsigned char>(d[0])) || d[0] == '-'))
        dim->set_dim_value(std::stoll(d));
      else if (!d.empty())
        dim->set_dim_param(d);
    }
  }
};

struct Model : GraphOf {
  explicit Model(int64_t opset = 17) : GraphOf(nullptr) {
    proto.set_ir_version(8);
    proto.add_opset_import()->set_version(opset);
    g = proto.mutable_graph();
    g->set_name("g");
  }
  Model(const Model &) = delete;
  onnx::ModelProto proto;

  std::string bytes() const { return proto.SerializeAsString(); }
  Imported import(std::vector<std::string> shapes = {}, std::string path = "m.onnx") const {
    Imported r;
    ImportOptions options;
    options.path = std::move(path);
    options.input_shapes = std::move(shapes);
    r.function = import_onnx_bytes(bytes(), options, r.diagnostics);
    return r;
  }
};

inline void attr(onnx::NodeProto &n, const std::string &name, int64_t v) {
  auto *a = n.add_attribute();
  a->set_name(name), a->set_type(onnx::AttributeProto::INT), a->set_i(v);
}
inline void attr(onnx::NodeProto &n, const std::string &name, int v) { attr(n, name, int64_t{v}); }
inline void attr(onnx::NodeProto &n, const std::string &name, float v) {
  auto *a = n.add_attribute();
  a->set_name(name), a->set_type(onnx::AttributeProto::FLOAT), a->set_f(v);
}
inline void attr(onnx::NodeProto &n, const std::string &name, const std::string &v) {
  auto *a = n.add_attribute();
  a->set_name(name), a->set_type(onnx::AttributeProto::STRING), a->set_s(v);
}
inline void attr(onnx::NodeProto &n, const std::string &name, const std::vector<int64_t> &v) {
  auto *a = n.add_attribute();
  a->set_name(name), a->set_type(onnx::AttributeProto::INTS);
  for (int64_t x : v)
    a->add_ints(x);
}
inline GraphOf subgraph(onnx::NodeProto &n, const std::string &name) {
  auto *a = n.add_attribute();
  a->set_name(name), a->set_type(onnx::AttributeProto::GRAPH);
  return GraphOf(a->mutable_g());
}

// A folder that goes away with the test.
struct Folder {
  Folder() {
    static int number = 0;
    path = std::filesystem::temp_directory_path() / ("ingot_import_" + std::to_string(::getpid()) + "_" + std::to_string(number++));
    std::filesystem::create_directories(path);
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  std::filesystem::path write(const std::string &name, const std::string &bytes) const {
    std::ofstream(path / name, std::ios::binary) << bytes;
    return path / name;
  }
  std::filesystem::path path;
};

} // namespace test
