// Builder: appends ops to a kernel, region by region. Result types are inferred; a misuse (mixed types, a wrong count)
// throws InternalError, since it is a bug of the schedule. It folds what every schedule wants and no more: index
// arithmetic on constants, x+0, x*1, x*0. Leaves (constants, params, ids) are put at the kernel's top and shared.
//
//   Builder b(kernel);
//   Values sum = b.for_loop(lo, hi, step, {zero}, [&](ValueId i, const Values &acc) {
//     return Values{b.add(acc[0], b.load(x, i))};
//   });
#pragma once

#include <functional>
#include <map>
#include <unordered_map>
#include <utility>

#include "aotc/kernel/kernel.h"

namespace ingot::aotc::kernel {

class Builder {
 public:
  explicit Builder(Kernel &kernel);

  // Declarations. add_buffer must precede add_array. Both return the memory's number.
  uint32_t add_buffer(std::string name, Access access, Scalar type, uint32_t align = 64, bool constant = false);
  uint32_t add_array(std::string name, Space space, Scalar type, uint64_t count, uint32_t align = 64);
  ValueId add_param(std::string name, Scalar type = Scalar::kIndex, int64_t min = INT64_MIN, int64_t max = INT64_MAX);

  // Leaves.
  ValueId index(int64_t value);                  // constant of type index
  ValueId constant(Type type, int64_t value);    // integer or bool constant
  ValueId constant_float(Type type, double value);
  ValueId zero(Type type);
  ValueId group_id(int dim);
  ValueId local_id(int dim);
  ValueId grid_size(int dim);
  ValueId lane_iota(Type type);

  // Any one-, two- or three-operand op by opcode; the named ones below are shorthands.
  ValueId unary(Opcode op, ValueId a);
  ValueId binary(Opcode op, ValueId a, ValueId b);
  ValueId compare(Opcode op, ValueId a, ValueId b);
  ValueId ternary(Opcode op, ValueId a, ValueId b, ValueId c);
  ValueId add(ValueId a, ValueId b) { return binary(Opcode::kAdd, a, b); }
  ValueId sub(ValueId a, ValueId b) { return binary(Opcode::kSub, a, b); }
  ValueId mul(ValueId a, ValueId b) { return binary(Opcode::kMul, a, b); }
  ValueId div(ValueId a, ValueId b) { return binary(Opcode::kDiv, a, b); }
  ValueId rem(ValueId a, ValueId b) { return binary(Opcode::kRem, a, b); }
  ValueId min(ValueId a, ValueId b) { return binary(Opcode::kMin, a, b); }
  ValueId max(ValueId a, ValueId b) { return binary(Opcode::kMax, a, b); }
  ValueId mad(ValueId a, ValueId b, ValueId c) { return ternary(Opcode::kMad, a, b, c); }
  ValueId lt(ValueId a, ValueId b) { return compare(Opcode::kLt, a, b); }
  ValueId logical_and(ValueId a, ValueId b) { return binary(Opcode::kAnd, a, b); }
  ValueId select(ValueId condition, ValueId a, ValueId b);
  ValueId convert(Type type, ValueId a);
  ValueId convert_u(Type type, ValueId a);
  ValueId bitcast(Type type, ValueId a);

  // Vectors.
  ValueId splat(ValueId scalar, uint32_t lanes); // lanes == 1: the scalar itself
  ValueId extract(ValueId vector, uint32_t lane);
  ValueId insert(ValueId vector, ValueId scalar, uint32_t lane);
  ValueId shuffle(ValueId a, ValueId b, std::vector<int64_t> lanes);
  ValueId reduce(Opcode op, ValueId vector);     // kReduceAdd ...
  ValueId dot(Opcode op, ValueId a, ValueId b, ValueId c); // kDot4, kDot2

  // Memory.
  ValueId load(uint32_t memory, ValueId index, uint32_t lanes = 1, uint32_t align = 1);
  void store(uint32_t memory, ValueId index, ValueId value, uint32_t align = 1);
  ValueId load_part(uint32_t memory, ValueId index, ValueId count, ValueId otherwise);
  void store_part(uint32_t memory, ValueId index, ValueId value, ValueId count);
  ValueId load_if(uint32_t memory, ValueId condition, ValueId index, ValueId otherwise, uint32_t align = 1);
  void store_if(uint32_t memory, ValueId condition, ValueId index, ValueId value, uint32_t align = 1);
  ValueId gather(uint32_t memory, ValueId indices, ValueId mask = kNoValue, ValueId otherwise = kNoValue);
  void scatter(uint32_t memory, ValueId indices, ValueId value, ValueId mask = kNoValue);
  ValueId atomic(Opcode op, uint32_t memory, ValueId index, ValueId value);
  void prefetch(uint32_t memory, ValueId index);
  struct TileLoop {
    ValueId trips, a_step, b_step;
  };
  // Sums in, sums out: one for each a (rows) and `chunks` b's (vectors), the b's fastest. See kTile.
  Values tile(uint32_t a_memory, uint32_t b_memory, const Values &init, const Values &a, const Values &b,
              const Values &counts, const std::vector<TileLoop> &loops, uint32_t chunks = 1);

  // Control.
  using LoopBody = std::function<Values(ValueId i, const Values &carried)>;
  using Body = std::function<Values()>;
  Values for_loop(ValueId lo, ValueId hi, ValueId step, const Values &init, const LoopBody &body, uint32_t unroll = 1);
  Values if_else(ValueId condition, const Body &then, const Body &otherwise);
  void if_then(ValueId condition, const std::function<void()> &then);
  Values while_loop(const Values &init, const std::function<std::pair<ValueId, Values>(const Values &)> &condition,
                    const std::function<Values(const Values &)> &body);
  void barrier();
  ValueId subgroup(Opcode op, ValueId value);
  ValueId subgroup_shuffle(ValueId value, ValueId lane); // lane is i32
  // Matrix units and copies under way: see the opcodes.
  ValueId fragment_load(uint32_t memory, ValueId index, ValueId pitch, FragmentRole role);
  ValueId fragment_mma(Scalar element, ValueId a, ValueId b, int half, ValueId sums);
  ValueId fragment_pack(Scalar element, ValueId left, ValueId right = kNoValue); // of f32 `left` alone
  ValueId fragment_rows(Opcode op, ValueId sums); // kFragmentRowAdd, kFragmentRowMax
  ValueId fragment_row();
  ValueId fragment_column();
  Values warpgroup_mma(uint32_t a_memory, ValueId a, uint32_t b_memory, ValueId b, ValueId k, int64_t steps, const Values &sums);
  Values warpgroup_wait(const Values &sums, int64_t under_way = 0);
  void copy_async(uint32_t array, ValueId to, uint32_t buffer, ValueId from, ValueId condition, uint32_t elements);
  void copy_commit();
  void copy_wait(int64_t batches);
  uint32_t add_tensor_map(TensorMap map); // its number
  void feed(uint32_t array, int64_t at, uint32_t map, const Values &coordinates, const std::vector<int64_t> &steps);
  void feed_start(uint32_t signals, int64_t stages, ValueId slices);
  void feed_wait(ValueId slice);
  void feed_free(ValueId slice);
  void error_if(ValueId condition, int64_t code, int64_t site);

  // Appends an op without regions as it is, with results of the types given; leaves are shared as usual. For passes
  // that copy kernels: nothing is checked or folded.
  Values append(Op op, const std::vector<Type> &results);

  Type type_of(ValueId value) const { return kernel_.types[value]; }
  // The value if it is an index or integer constant.
  bool is_constant(ValueId value, int64_t &out) const;
  Kernel &kernel() { return kernel_; }

 private:
  // Leaves (constants, params, ids) live once at the top of the body.
  struct LeafKey {
    Opcode code;
    Type type;
    uint64_t bits; // of imm or fimm
    bool operator<(const LeafKey &other) const;
  };
  ValueId new_value(Type type);
  ValueId append_value(Op op, Type result);
  void append_effect(Op op);
  ValueId leaf(Opcode code, Type type, int64_t imm, double fimm = 0);
  ValueId fold(Opcode op, ValueId a, ValueId b); // kNoValue where nothing folds
  void require(bool condition, Opcode op, const char *what) const;

  Kernel &kernel_;
  std::vector<Region *> stack_; // innermost last; regions are built aside and moved in when done
  size_t leaf_count_ = 0;       // leaves at the top of the body
  std::map<LeafKey, ValueId> leaves_;
  std::unordered_map<ValueId, int64_t> constant_values_;
};

} // namespace ingot::aotc::kernel
