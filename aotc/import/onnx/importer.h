// The importer's inside: values, one node's context, scopes. Operator functions see only Node.
//
// A Value is a tensor known in up to three forms: constant data, host expressions (small integer tensors), a graph value.
// Each is made from the others on demand, so shape arithmetic never reaches the graph unless a kernel needs it.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include <onnx/onnx_pb.h>

#include "aotc/base/diagnostics.h"
#include "aotc/graph/graph.h"
#include "aotc/import/onnx/import.h"
#include "aotc/import/onnx/tensor.h"

namespace ingot::aotc::importer {

using graph::kNoValue;
using graph::TensorType;
using graph::ValueId;
using K = kernel::Opcode;
using Dims = std::vector<Expr>;

inline constexpr int64_t kMaxHostElements = 1024; // above that, integer tensors are tensors
inline constexpr int64_t kMaxDim = 1 << 20;       // default bound of a free dim
// From opset 23 to 27 operators gained types (of which the graph has none) and no new meaning.
// Below opset 6 no exporter in use writes models; what a row says decides (Not has never changed).
inline constexpr int64_t kMinOpset = 1, kMaxOpset = 27;

// What a value of type graph::kHostValue holds.
struct HostType {
  enum class Kind : uint8_t { kStrings, kList, kOptional } kind = Kind::kStrings;
  bool strings = false;                  // a list's elements, an optional's tensor
  bool list = false;                     // an optional's element is a list
  ElementType element = ElementType::kF32;
  int32_t narrow = 0;
  std::optional<size_t> rank;            // of the tensors in it; a run checks it where it matters
};

struct Value {
  TensorType type;
  std::optional<HostType> host_type;
  int32_t narrow = 0;                            // the ONNX type that `type` stores (narrow.h), 0: `type` itself
  std::string name;
  bool poisoned = false;                         // made by a node that was refused: its users stay silent
  ValueId id = kNoValue;
  uint64_t home = 0;                             // region in which `id` is defined; 0 is the function's graph
  std::shared_ptr<const graph::ConstantData> data;
  std::optional<std::vector<Expr>> host;         // row-major; integers and bool only
  uint64_t host_home = 0;                        // region in which the symbols of `host` are bound
};
using ValuePtr = std::shared_ptr<Value>;

// An operator function refuses its node by throwing this (Node::fail); it is caught where nodes are visited, turned into
// a diagnostic, and never leaves the importer.
struct Refusal {
  std::string reason, hint;
};

struct Rest;
struct Scope;

// A body that is imported in place of a node: its outputs get the names of the node's.
struct InPlace {
  Rest *enclosing = nullptr;
  Scope *scope = nullptr;                                    // where the node's outputs go
  std::vector<std::pair<std::string, std::string>> outputs; // of the body, of the node
};

// The nodes that follow the one being imported, and the names that all of them are to give.
struct Rest {
  const google::protobuf::RepeatedPtrField<onnx::NodeProto> *nodes = nullptr;
  const std::set<std::string> *outputs = nullptr;
  int next = 0;
  bool taken = false; // the node imported them itself, and set its own outputs
  const InPlace *in_place = nullptr; // what follows ends where these nodes do, unless it stands for a node of others
};

struct Scope {
  Scope *parent = nullptr;
  std::unordered_map<std::string, ValuePtr> values;
};

class Importer;

// One node while it is lowered: inputs, attributes, outputs, and the helpers that operators share.
class Node {
 public:
  Node(Importer &importer, Scope &scope, const onnx::NodeProto &proto, int64_t opset, std::string name, std::string source);

  graph::GraphBuilder &b;
  const int64_t opset;
  const std::string name, source; // "p2o.Conv.0", "ai.onnx.Conv"

  [[noreturn]] void fail(std::string reason, std::string hint = "") const { throw Refusal{std::move(reason), std::move(hint)}; }

  // Inputs. An absent optional input ("" or past the end) has no value.
  size_t inputs() const { return inputs_.size(); }
  bool has(size_t i) const { return i < inputs_.size() && inputs_[i]; }
  const ValuePtr &value(size_t i) const;         // fails if absent
  const TensorType &type(size_t i) const { return value(i)->type; }
  const Dims &dims(size_t i) const { return value(i)->type.dims; }
  int64_t rank(size_t i) const { return static_cast<int64_t>(dims(i).size()); }
  ElementType element(size_t i) const { return value(i)->type.element; }
  int32_t narrow(size_t i) const { return value(i)->narrow; } // the narrow ONNX type of the input, or 0
  ValueId in(size_t i);                          // as a graph value
  void need_inputs(size_t min, size_t max) const;
  void need_float(size_t i) const;
  void need_same_element(size_t i, size_t j) const;

  // Attributes.
  const onnx::AttributeProto *attribute(const char *name) const;
  int64_t int_attr(const char *name, int64_t otherwise) const;
  float float_attr(const char *name, float otherwise) const;
  std::string string_attr(const char *name, const std::string &otherwise) const;
  std::optional<std::vector<int64_t>> ints_attr(const char *name) const;
  std::vector<float> floats_attr(const char *name) const;
  const onnx::GraphProto &graph_attr(const char *name) const;
  int64_t axis(int64_t axis, int64_t rank) const; // negative counts from the end; checked

  // Host values. `host` never makes a run-time read; `shape_values` does where it must (a 1-D tensor of known length).
  const std::vector<Expr> *host(size_t i);
  bool all_host();                               // every present input has a host value
  // `clamp`: what lies outside of [min, max] counts as the bound (slices), else a run fails there.
  std::vector<Expr> shape_values(size_t i, int64_t min, int64_t max, bool clamp = false);
  std::optional<std::vector<int64_t>> constant_ints(size_t i);
  std::vector<int64_t> need_constant_ints(size_t i, const char *what);
  std::optional<std::vector<double>> constant_floats(size_t i); // any numeric type, from data
  Expr host_scalar(size_t i, int64_t min, int64_t max);         // reads it at run time if need be

  // Outputs.
  size_t outputs() const { return static_cast<size_t>(proto_.output_size()); }
  bool wants(size_t i) const { return i < outputs() && !proto_.output(static_cast<int>(i)).empty(); }
  void set(size_t i, ValueId value);
  void set_narrow(size_t i, ValueId stored, int32_t onnx_type); // elements of a narrow type, as narrow.h stores them
  void set_host(size_t i, ElementType element, Dims dims, std::vector<Expr> values);
  void set_data(size_t i, TensorType type, std::shared_ptr<const graph::ConstantData> data);
  void set_value(size_t i, const ValuePtr &value); // forwards, e.g. Identity
  void set_host_value(size_t i, ValueId value, HostType type);
  const std::optional<HostType> &host_type(size_t i) const { return value(i)->host_type; }
  bool is_strings(size_t i) const { return has(i) && host_type(i) && host_type(i)->kind == HostType::Kind::kStrings; }

  // Dims.
  void require_equal(const Expr &a, const Expr &b, const std::string &what); // refuses, or checks at run time
  Expr unify(const Expr &a, const Expr &b, const std::string &what);         // the same, giving the better known one
  Expr broadcast_dim(const Expr &a, const Expr &b, const std::string &what);
  Dims broadcast_dims(const Dims &a, const Dims &b);
  void need_broadcasts_to(size_t input, const Dims &dims);  // one way only: `dims` stay as they are
  Dims check_dims(Dims dims) const;              // refuses negative dims and 2^31 elements
  ValueId broadcast_to(ValueId x, const Dims &dims) { return b.broadcast_to(x, dims); }
  ValueId keep_axes(ValueId reduced, const std::vector<uint32_t> &axes, const Dims &full); // 1 where reduced
  ValueId spread(ValueId reduced, const std::vector<uint32_t> &axes, const Dims &full);    // broadcast back to full

  // Values.
  ValueId lift(ValueId x);                       // f16, bf16 -> f32, for arithmetic
  ValueId lower(ElementType element, ValueId x) { return b.convert(element, x); }
  ValueId constant(ValueId like, double value);  // splat with the element type and dims of `like`
  ValueId scalar_of(ElementType element, const Expr &value, const Dims &dims); // a host value as a tensor of dims
  ValueId reshape(ValueId x, Dims dims) { return b.reshape(x, std::move(dims)); }
  const Dims &dims_of(ValueId x) const { return b.type(x).dims; }
  ValueId as_scalar(ValueId x);                  // one element, any rank -> rank 0
  std::string describe_types() const;

  const onnx::NodeProto &proto() const { return proto_; }
  Importer &importer() { return importer_; }
  Scope &scope() { return scope_; }

 private:
  friend class Importer;
  Importer &importer_;
  Scope &scope_;
  const onnx::NodeProto &proto_;
  std::vector<ValuePtr> inputs_;
  std::vector<ValuePtr> outputs_;
};

using OperatorFunction = void (*)(Node &);

struct OperatorRow {
  const char *domain; // "" is ai.onnx
  const char *op;
  int64_t min_opset, max_opset;
  OperatorFunction import;
};
const std::vector<OperatorRow> &operator_table();
// Rows of each family, in its file.
std::vector<OperatorRow> elementwise_operators();
std::vector<OperatorRow> activation_operators();
std::vector<OperatorRow> shape_operators();
std::vector<OperatorRow> movement_operators();
std::vector<OperatorRow> gather_operators();
std::vector<OperatorRow> contract_operators();
std::vector<OperatorRow> nn_operators();
std::vector<OperatorRow> pool_operators();
std::vector<OperatorRow> norm_operators();
std::vector<OperatorRow> reduce_operators();
std::vector<OperatorRow> resize_operators();
std::vector<OperatorRow> control_operators();
std::vector<OperatorRow> quantize_operators();
std::vector<OperatorRow> sort_operators();
std::vector<OperatorRow> loss_operators();
std::vector<OperatorRow> recurrent_operators();
std::vector<OperatorRow> attention_operators();
std::vector<OperatorRow> spatial_operators();
std::vector<OperatorRow> sample_operators();
std::vector<OperatorRow> signal_operators();
std::vector<OperatorRow> detect_operators();
std::vector<OperatorRow> training_operators();
std::vector<OperatorRow> random_operators();
std::vector<OperatorRow> sequence_operators();
std::vector<OperatorRow> string_operators();

// An input of the model that a state takes the place of.
struct GrowingState {
  std::string output;             // of the model: what it is after the run
  uint32_t number = 0;            // of the function's states
  size_t axis = 0;                // that grows
  ValueId memory = graph::kNoValue, before = graph::kNoValue; // all of it; what earlier runs appended
  Expr length;                    // of `before`
};

// How far the states of one dim have grown: a state itself, read when a run begins and written at its end.
struct StateLength {
  Expr length;                    // before the run
  std::optional<Expr> added;      // by the run
  ValueId memory = graph::kNoValue;
};

class Importer {
 public:
  Importer(const ImportOptions &options, Diagnostics &diagnostics);
  std::optional<graph::Function> run(const onnx::ModelProto &model);

  graph::Function function;
  graph::GraphBuilder builder;

  std::string unique_symbol(const std::string &base);
  const std::string &folder() const { return folder_; }
  ValueId materialise(Value &value);
  const std::vector<Expr> *host(Value &value);
  ValuePtr find(Scope &scope, const std::string &name);
  // Imports nodes of a sub-graph, from number `first` on, into `scope` (its graph is the builder's current one).
  void import_nodes(Scope &scope, const google::protobuf::RepeatedPtrField<onnx::NodeProto> &nodes,
                    const std::set<std::string> &outputs, int first = 0, const InPlace *in_place = nullptr);
  Rest &rest() { return *rests_.back(); }
  int doublings = 0; // what follows a condition is being imported in both of its branches: how often
  void import_initializers(Scope &scope, const onnx::GraphProto &graph);
  // Between enter and leave, ops go to `region`, and what was made inside is visible. Returns what leave takes.
  graph::Graph *enter_region(graph::Graph &region);
  void leave_region(graph::Graph *outer);
  bool visible(uint64_t home) const;
  uint64_t region() const { return regions_.back(); }
  ValuePtr constant(const onnx::TensorProto &tensor, std::string &error);
  size_t problems() const { return diagnostics_.list().size(); }
  void problem(const std::string &reason, const std::string &hint = "", const std::string &node = "");

 private:
  friend class Node;
  void import_node(Scope &scope, const onnx::NodeProto &proto);
  void check_narrow(const Node &node, const std::string &op); // refuses narrow inputs of operators that compute with them
  bool import_call(Scope &scope, const onnx::NodeProto &proto, const std::string &name);
  bool import_inputs(Scope &scope, const onnx::GraphProto &graph);
  // states.cpp
  void find_states(const Scope &scope, const onnx::GraphProto &graph);
  Expr state_length(const std::string &input, const std::string &name, int64_t most);
  void begin_state(Value &value);
  void close_states(Scope &scope);
  void poison(Scope &scope, const onnx::NodeProto &proto);
  void drop_unused();
  void probe(Scope &scope);

  const ImportOptions &options_;
  Diagnostics &diagnostics_;
  std::string folder_;
  std::map<std::string, int64_t> opsets_;
  std::map<std::pair<std::string, std::string>, const onnx::FunctionProto *> functions_;
  std::map<std::string, Expr> dims_;    // dim_param -> symbol, or the constant an input shape gives
  std::set<std::string> symbol_names_;
  std::map<std::string, GrowingState> growing_;   // by the input's name
  std::vector<StateLength> lengths_;
  std::vector<const onnx::FunctionProto *> calls_; // being inlined: recursion is refused
  std::vector<uint64_t> regions_ = {0}; // serial numbers of the open regions
  uint64_t last_region_ = 0;
  std::vector<Rest *> rests_;           // of the open import_nodes
  size_t anonymous_ = 0;
  int depth_ = 0;
};

} // namespace ingot::aotc::importer
