// Graph IR: tensors in SSA form, a small closed set of primitives, nothing of targets.
//
// Importers lower a model to it. Every value has an element type and dims (constants or symbolic Exprs) and keeps the
// name of its source node. Dims are explicit: there is no implicit broadcasting, operands of `map` have equal dims.
// Small integer tensors used only as shapes, bounds or conditions are Exprs in the importer and never become values.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "aotc/base/expr.h"
#include "aotc/base/type.h"
#include "aotc/dispatch/dispatch.h"
#include "aotc/kernel/kernel.h"
#include "schemas/program_words.h"

namespace ingot::aotc::graph {

using ValueId = uint32_t;
inline constexpr ValueId kNoValue = ~0u;

struct TensorType {
  ElementType element = ElementType::kF32;
  std::vector<Expr> dims; // rank <= 8
  Expr elements() const { return product(dims); }
  bool operator==(const TensorType &) const = default;
};
std::string to_string(const TensorType &type); // "f32[1,3,48,w]"

// Lists, optionals and strings are values that the runtime keeps. Their type has no element; strings have dims, the others
// none, and what they hold is known to the importer alone.
inline constexpr ElementType kHostValue = ElementType::kNone;

// Bytes of a constant tensor, dense row-major little-endian. Shared, never copied.
struct ConstantData {
  ElementType type;
  std::vector<uint8_t> bytes;
};

enum class Opcode : uint8_t {
  kConstant,  // () constant
  kSplat,     // () scalar constant in `constant` (one element) repeated over dims
  kIota,      // () axis: value = start + step * index along `axis` (start, step in exprs[0..1]); ints and floats
  kHostTensor,// () exprs as a rank-0 or rank-1 i64/i32 tensor: a host value crosses to the device
  kMap,       // (same dims...) scalar op `code` on each element; result type may differ (compare, convert)
  kBroadcast, // (x) axes[i] = result axis of input axis i; an input dim equals the result's or is 1
  kReshape,   // (x) same elements, row-major
  kTranspose, // (x) axes = permutation: result axis i is input axis axes[i]
  kSlice,     // (x) exprs = start per axis, ints = step per axis (non-zero; start counts from 0 also for negative steps)
  kPad,       // (x[, value]) exprs = low per axis then high per axis (>= 0); mode
  kConcat,    // (x...) ints[0] = axis
  kReduce,    // (x) reduce kind over axes; the axes are dropped from the result. Empty tensors give the identity.
  kScan,      // (x) cumulative sum along ints[0]; ints[1] exclusive, ints[2] reverse
  kContract,  // (a, b) einsum sum of products: letters per operand axis in labels[0], labels[1], result in labels[2];
              // floats accumulate in f32 (f64 in f64), ints in their own type, bytes of either sign also in i32
  kConv,      // (x[n,c,spatial], w[m,c/groups,kernel]), types as for contract; strides, dilations, exprs = pads low then high, groups in ints[0];
              // ints[1], ints[2] = b > 0: x, the result has its channels in blocks of b: [n,c/b,spatial,b]
  kPool,      // (x[n,c,spatial]) mode max/average/lp: window, strides, dilations, exprs pads low then high;
              // ints[0] = count_include_pad, ints[1] = p of lp, ints[2] = b > 0: channels in blocks, as for conv. The
              // result's spatial dims say how far (ceil_mode).
  kGather,    // (x, indices) result = x dims with axis ints[0] replaced by the indices' dims; negative indices count from
              // the end; out of range is a run-time error naming the node
  kCompute,   // (operands...) dispatch: its operands are the op's operands in order, then its results
  kReadScalar,// (scalar tensor of int or bool) -> defines host symbol `symbol`; no tensor result
  kCheck,     // () exprs[0] must be non-zero at run time, else error `text`
  kIf,        // () condition exprs[0]; regions[0], regions[1] without inputs; results = the outputs of the one taken
  kLoop,      // (initial...) see LoopInfo; exprs = initial values of `sizes`
  kBind,      // () -> defines host symbol `symbol` as exprs[0]; no tensor result
  kHost,      // (host values..., or the tensor of box) `host` op of the runtime: exprs, symbols it binds, ints = immediates;
              // results are host values, that of put a tensor; `constant` and no op: a constant host value
  kState,     // () the memory of state ints[0] of Function::states, of which no more than was appended has a meaning
  kAppend,    // (state or its append, x) x is written there in place, from exprs[0] on along axis ints[0]; the result is the
              // same memory. A scalar state is overwritten.
};

enum class PadMode : uint8_t { kConstant, kReflect, kEdge, kWrap };
enum class PoolMode : uint8_t { kMax, kAverage, kLp };

struct Graph;

struct LoopInfo {
  std::optional<Expr> trip_count;     // none: until the condition ends it
  Symbol iteration;                   // host symbol: 0, 1, 2 ... in the body
  bool has_condition = false;         // body's output 0 is the bool scalar "go on"
  std::optional<Expr> initial_condition; // host expr; none = true
  uint32_t carried = 0;               // operands, body inputs, next body outputs, first results
  uint32_t scans = 0;                 // then body outputs stacked along a new axis 0: further results
  Symbol trips;                       // host symbol: iterations done, after the loop (dim 0 of scan results)
};

struct Op {
  Opcode code = Opcode::kConstant;
  std::string node;                   // source node name (or what the importer made of it)
  std::string source;                 // "ai.onnx.Conv", for diagnostics
  std::vector<ValueId> operands;
  std::vector<ValueId> results;
  kernel::Opcode map = kernel::Opcode::kAdd;              // kMap; signed or unsigned variant as the types demand
  dispatch::ReduceKind reduce = dispatch::ReduceKind::kAdd; // kReduce
  PadMode pad_mode = PadMode::kConstant;
  PoolMode pool_mode = PoolMode::kMax;
  std::vector<uint32_t> axes;
  std::vector<int64_t> ints, strides, dilations, window;
  std::vector<Expr> exprs;
  std::vector<std::string> labels;    // kContract
  std::string text;
  Symbol symbol;                      // kReadScalar, kBind
  // Host symbols that each region gives a value (Graph::sizes), for dims of results that depend on what a region does.
  // kIf: bound after it. kLoop: bound in the body too, where they are the values of the iteration before.
  std::vector<Symbol> sizes;
  program::HostOp host = {};          // kHost
  std::vector<Symbol> symbols;        // kHost: host symbols that it binds
  std::shared_ptr<const ConstantData> constant;
  std::shared_ptr<const dispatch::Dispatch> compute;
  std::optional<LoopInfo> loop;
  std::vector<Graph> regions;         // they may use values of the enclosing graphs
};

struct ValueInfo {
  TensorType type;
  std::string name;                   // of the model where it has one
};

struct Signature {
  std::string name;
  ValueId value = kNoValue;
  bool strings = false;               // of a function's host values: a tensor of strings, else a list or an optional
};

// Values are numbered over the whole function, nested regions included: `values` of a region is unused.
struct Graph {
  std::vector<Signature> inputs;      // of a function: the model's inputs; of a region: its parameters
  std::vector<Signature> outputs;
  std::vector<Op> ops;                // topologically sorted
  std::vector<Expr> sizes;            // of a region: values for the enclosing op's `sizes`
};

// Memory that lives from run to run, as long as a context: zero at first.
struct State {
  std::string name;
  TensorType type;                    // of constant dims: what it has room for
};

struct Function {
  std::string name = "main";
  Graph graph;
  std::vector<State> states;          // of the archive's variants: functions that name a state alike share it
  std::vector<ValueInfo> values;
  std::vector<Symbol> dims;           // free dims, in order of first appearance in the inputs
  std::vector<std::string> sites;     // error sites: "node 'gather_3' (ai.onnx.Gather): index out of range"
};

// Appends ops to a graph and infers result types; a wrong use throws InternalError (importers check what users can
// cause first and report it). All functions return the result's ValueId. `node` / `source` given by set_origin.
class GraphBuilder {
 public:
  GraphBuilder(Function &function, Graph &graph) : function_(function), graph_(&graph) {}
  void set_origin(std::string node, std::string source) { node_ = std::move(node), source_ = std::move(source); }
  // Builds into another graph (a region) until set back.
  Graph *exchange_graph(Graph *graph) { return std::exchange(graph_, graph); }

  const TensorType &type(ValueId value) const { return function_.values[value].type; }
  Function &function() { return function_; }
  ValueId add_value(TensorType type, std::string name);            // a function input or region parameter
  void set_name(ValueId value, std::string name) { function_.values[value].name = std::move(name); }
  int64_t add_site(std::string text);

  ValueId constant(TensorType type, std::shared_ptr<const ConstantData> data);
  ValueId splat_float(ElementType type, std::vector<Expr> dims, double value);
  ValueId splat_int(ElementType type, std::vector<Expr> dims, int64_t value);
  ValueId iota(ElementType type, std::vector<Expr> dims, uint32_t axis, Expr start = 0, Expr step = 1);
  ValueId host_tensor(ElementType type, std::vector<Expr> values, bool scalar);
  ValueId map(kernel::Opcode code, std::vector<ValueId> operands);  // arithmetic: the operands' type; comparisons: bool
  ValueId convert(ElementType type, ValueId x);                     // signedness-aware; no-op when equal
  ValueId bitcast(ElementType type, ValueId x);                     // the same bytes as another type of their size
  ValueId broadcast(ValueId x, std::vector<uint32_t> axes, std::vector<Expr> dims);
  ValueId broadcast_to(ValueId x, const std::vector<Expr> &dims);   // numpy rules, right-aligned
  ValueId reshape(ValueId x, std::vector<Expr> dims);               // no-op when equal
  ValueId transpose(ValueId x, std::vector<uint32_t> permutation);  // no-op for the identity
  ValueId slice(ValueId x, std::vector<Expr> starts, std::vector<int64_t> steps, std::vector<Expr> dims);
  ValueId pad(ValueId x, std::vector<Expr> low, std::vector<Expr> high, PadMode mode, ValueId value = kNoValue);
  ValueId concat(std::vector<ValueId> xs, uint32_t axis);
  ValueId reduce(dispatch::ReduceKind kind, ValueId x, std::vector<uint32_t> axes);
  ValueId scan_sum(ValueId x, uint32_t axis, bool exclusive, bool reverse);
  ValueId contract(ValueId a, ValueId b, std::string a_labels, std::string b_labels, std::string result_labels);
  ValueId conv(ValueId x, ValueId w, std::vector<int64_t> strides, std::vector<int64_t> dilations,
               std::vector<Expr> pads_low, std::vector<Expr> pads_high, int64_t groups, int64_t x_block = 0,
               int64_t result_block = 0);
  ValueId pool(PoolMode mode, ValueId x, std::vector<int64_t> window, std::vector<int64_t> strides,
               std::vector<int64_t> dilations, std::vector<Expr> pads_low, std::vector<Expr> pads_high,
               std::vector<Expr> spatial_dims, bool count_include_pad, int64_t p = 2, int64_t block = 0);
  ValueId gather(ValueId x, ValueId indices, uint32_t axis);
  std::vector<ValueId> compute(dispatch::Dispatch dispatch, std::vector<ValueId> operands, std::vector<TensorType> results);
  ValueId state(uint32_t number);
  ValueId append_state(ValueId state, ValueId x, uint32_t axis, Expr start);
  Symbol read_scalar(ValueId scalar, std::string name, int64_t min, int64_t max);
  void check(Expr condition, std::string text);
  Symbol bind(Expr value, std::string name, int64_t min, int64_t max);
  // A host op; `results` are their types.
  std::vector<ValueId> host(program::HostOp code, std::vector<ValueId> operands, std::vector<TensorType> results,
                            std::vector<Expr> exprs = {}, std::vector<Symbol> symbols = {}, std::vector<int64_t> immediates = {});
  // A host value of known contents: numbers, or strings (data of type kHostValue, bytes as schemas/program_words.h says).
  ValueId host_constant(std::vector<Expr> dims, std::shared_ptr<const ConstantData> data);
  std::vector<ValueId> if_else(Expr condition, Graph then, Graph otherwise, std::vector<TensorType> results,
                               std::vector<Symbol> sizes = {});
  // first: initial values of sizes.
  std::vector<ValueId> loop(LoopInfo info, std::vector<ValueId> initial, Graph body, std::vector<TensorType> results,
                            std::vector<Symbol> sizes = {}, std::vector<Expr> first = {});

 private:
  Op &append(Opcode code, std::vector<ValueId> operands);
  ValueId finish(Op &op, TensorType type);
  Function &function_;
  Graph *graph_;
  std::string node_, source_;
};

std::string print(const Function &function);
// Reads what print writes (constants above 64 elements print as a hash and are looked up in `constants`, in order).
std::optional<Function> parse(std::string_view text, const std::vector<std::shared_ptr<const ConstantData>> &constants,
                              std::string &error);
std::string verify(const Function &function); // empty, or what is wrong and where

} // namespace ingot::aotc::graph
