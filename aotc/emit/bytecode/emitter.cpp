// Selection of opcodes. See emitter.h.
//
// Integers of 8 and 16 bits and bools are 32-bit lanes: sign-extended, 0 or 1. An op whose result may leave the
// type is followed by a sign extension; unsigned ops that see the upper bits zero-extend their operands first.
//
// A carried value is one variable over its whole loop, the result included. A value that is yielded into it is
// computed in place where nothing wants the old one any more, so that sums cost no moves.
#include "aotc/emit/bytecode/emitter.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <set>
#include <tuple>

#include "aotc/base/error.h"
#include "aotc/emit/bytecode/code.h"
#include "aotc/emit/bytecode/hoist.h"
#include "aotc/kernel/rewrite.h"
#include "aotc/kernel/verifier.h"

namespace ingot::aotc {
namespace {

using bytecode::Op;
using bytecode_emit::Code;
using bytecode_emit::kNoVar;
using bytecode_emit::Line;
using bytecode_emit::Var;
using kernel::Kernel;
using kernel::kNoValue;
using kernel::Opcode;
using kernel::Region;
using kernel::ValueId;
using kernel::Values;

uint32_t width(Scalar scalar) {
  return scalar == Scalar::kI64 || scalar == Scalar::kF64 || scalar == Scalar::kIndex ? 8 : 4;
}
bool is_small(Scalar scalar) { return scalar == Scalar::kI8 || scalar == Scalar::kI16; }

bytecode::Storage storage(Scalar scalar) {
  switch (scalar) {
    case Scalar::kBool:
      return bytecode::Storage::boolean;
    case Scalar::kI8:
      return bytecode::Storage::i8;
    case Scalar::kI16:
      return bytecode::Storage::i16;
    case Scalar::kI32:
      return bytecode::Storage::i32;
    case Scalar::kI64:
      return bytecode::Storage::i64;
    case Scalar::kF32:
      return bytecode::Storage::f32;
    case Scalar::kF64:
      return bytecode::Storage::f64;
    default:
      throw InternalError("bytecode: a memory of type " + std::string(name(scalar)));
  }
}

// How far each value is used, in program order; a use within a loop that the value was made outside of counts
// as one at the loop's end.
class Uses {
 public:
  explicit Uses(const Kernel &kernel)
      : last_(kernel.types.size(), 0), depth_(kernel.types.size(), 0), count_(kernel.types.size(), 0) {
    region(kernel.body);
  }
  size_t last(ValueId value) const { return last_[value]; }
  uint32_t count(ValueId value) const { return count_[value]; }
  size_t position(const kernel::Op &op) const { return position_.at(&op); }

 private:
  void define(ValueId value) { depth_[value] = loops_.size(); }
  void use(ValueId value) {
    ++count_[value];
    last_[value] = std::max(last_[value], at_);
    if (depth_[value] < loops_.size()) pending_[depth_[value]].push_back(value);
  }
  void region(const Region &r) {
    for (ValueId value : r.params) define(value);
    for (const kernel::Op &op : r.ops) {
      position_[&op] = ++at_;
      for (ValueId value : op.operands) use(value);
      bool loops = op.code == Opcode::kFor || op.code == Opcode::kWhile;
      if (loops) loops_.push_back(0);
      pending_.resize(std::max(pending_.size(), loops_.size() + 1));
      for (const Region &part : op.regions) region(part);
      if (loops) {
        loops_.pop_back();
        ++at_;
        // Those made outside of this loop; made further out still, they wait for that loop's end too.
        for (size_t depth = 0; depth <= loops_.size(); ++depth)
          for (ValueId value : pending_[depth]) last_[value] = at_;
        pending_[loops_.size()].clear();
        if (op.code == Opcode::kFor)
          for (size_t i = 1; i < 3; ++i) last_[op.operands[i]] = std::max(last_[op.operands[i]], at_);
      }
      for (ValueId value : op.results) define(value);
    }
  }

  std::vector<size_t> last_, depth_;
  std::vector<uint32_t> count_;
  std::vector<char> loops_;
  std::vector<std::vector<ValueId>> pending_; // by the depth at which they were made
  std::map<const kernel::Op *, size_t> position_;
  size_t at_ = 0;
};

class Emitter {
 public:
  explicit Emitter(const Kernel &kernel)
      : k_(kernel), uses_(kernel), vars_(kernel.types.size(), kNoVar), into_(kernel.types.size(), kNoVar) {}

  BytecodeKernel run() {
    std::vector<bytecode::Memory> memories;
    bytecode::Header header = {};
    header.magic = bytecode::kMagic;
    header.binding_count = static_cast<uint32_t>(k_.buffer_count());
    header.param_count = static_cast<uint32_t>(k_.params.size());
    header.memory_count = static_cast<uint32_t>(k_.memories.size());
    uint64_t arrays = 0;
    for (const kernel::Memory &m : k_.memories) {
      bytecode::Memory out = {};
      out.storage = storage(m.type);
      bool buffer = m.space == kernel::Space::kBuffer;
      out.access = buffer && m.access == kernel::Access::kRead    ? bytecode::kReads
                   : buffer && m.access == kernel::Access::kWrite ? bytecode::kWrites
                                                                  : bytecode::kReads | bytecode::kWrites;
      out.elements = m.count;
      arrays += (m.count * bytecode::storage_bytes(out.storage) + 63) / 64 * 64;
      memories.push_back(out);
    }
    region(k_.body);
    BytecodeKernel result;
    result.bytes = code_.finish(header, memories);
    std::memcpy(&header, result.bytes.data(), sizeof header);
    result.instructions = header.instruction_count;
    result.slots = header.slot_count;
    result.scratch_bytes =
        (memories.size() * 24 + 63) / 64 * 64 + (header.slot_count * uint64_t{8} + 63) / 64 * 64 + arrays;
    return result;
  }

 private:
  [[noreturn]] void fail(const kernel::Op &op) const {
    throw InternalError("bytecode: kernel " + k_.name + ": no code for " + std::string(name(op.code)));
  }

  Type type(ValueId value) const { return k_.types[value]; }
  uint32_t bytes(Type t) const { return width(t.scalar) * t.lanes; }

  // ---- Variables

  Var get(ValueId value) {
    ensure(vars_[value] != kNoVar, "bytecode: a value is used before it is made");
    return vars_[value];
  }
  // The variable for a result: its own, or the one that it will be yielded into.
  Var make(ValueId value) {
    if (vars_[value] == kNoVar)
      vars_[value] = into_[value] != kNoVar ? into_[value] : code_.add(bytes(type(value)));
    return vars_[value];
  }
  Var temporary(Type t) { return code_.add(bytes(t)); }

  Line line(Op op, Type t, Var d, Var a = kNoVar, Var b = kNoVar, Var c = kNoVar) {
    Line l;
    l.op = op;
    l.n = t.lanes;
    l.d = d;
    l.a = a;
    l.b = b;
    l.c = c;
    return l;
  }
  void emit(Op op, Type t, Var d, Var a = kNoVar, Var b = kNoVar, Var c = kNoVar) {
    code_.emit(line(op, t, d, a, b, c));
  }
  Op pair(Scalar scalar, Op narrow, Op wide) const { return width(scalar) == 8 ? wide : narrow; }

  Var constant(Type t, uint64_t bits) {
    if (width(t.scalar) == 4) bits = static_cast<uint32_t>(bits);
    auto [it, fresh] = constants_.try_emplace({width(t.scalar), t.lanes, bits}, kNoVar);
    if (fresh) {
      it->second = code_.add(bytes(t));
      Line l = line(pair(t.scalar, Op::const_32, Op::const_64), t, it->second);
      l.is_wide = true;
      l.wide = bits;
      code_.emit_once(std::move(l));
    }
    return it->second;
  }
  Var constant_int(Type t, int64_t value) { return constant(t, static_cast<uint64_t>(value)); }

  void move(Type t, Var to, Var from) {
    if (to != from) emit(pair(t.scalar, Op::move_32, Op::move_64), t, to, from);
  }
  // All at once: what one move reads, no earlier one may have written.
  void move_all(const std::vector<std::tuple<Type, Var, Var>> &moves) {
    std::vector<std::tuple<Type, Var, Var>> left;
    for (const auto &m : moves)
      if (std::get<1>(m) != std::get<2>(m)) left.push_back(m);
    while (!left.empty()) {
      bool moved = false;
      for (size_t i = 0; i < left.size() && !moved; ++i) {
        auto [t, to, from] = left[i];
        bool wanted = false;
        for (size_t j = 0; j < left.size(); ++j) wanted |= j != i && std::get<2>(left[j]) == to;
        if (wanted) continue;
        move(t, to, from);
        left.erase(left.begin() + static_cast<ptrdiff_t>(i));
        moved = true;
      }
      if (moved) continue;
      auto [t, to, from] = left[0]; // a cycle: free one of its places
      Var aside = temporary(t);
      move(t, aside, to);
      for (auto &m : left)
        if (std::get<2>(m) == to) std::get<2>(m) = aside;
    }
  }

  // ---- Structure

  // Schedules load every second or third element as two loads and a shuffle; here that is one op. Finds these
  // shuffles in a region; loads that nothing else uses need not be made.
  void find_steps(const Region &r) {
    std::map<ValueId, const kernel::Op *> loads; // since the last effect
    for (const kernel::Op &o : r.ops) {
      if (o.code == Opcode::kLoad)
        loads[o.results[0]] = &o;
      else if (has_side_effect(o.code) || !o.regions.empty())
        loads.clear();
      if (o.code != Opcode::kShuffle || o.imms.size() < 2 || o.imms[0] != 0) continue;
      auto first = loads.find(o.operands[0]), second = loads.find(o.operands[1]);
      if (first == loads.end() || second == loads.end() || first->second->memory != second->second->memory)
        continue;
      int64_t lanes = type(o.operands[0]).lanes, between = 0, step = o.imms[1];
      if (first != second) {
        auto a = offset_of(first->second->operands[0]), b = offset_of(second->second->operands[0]);
        if (a.first != b.first) continue;
        between = b.second - a.second;
      }
      bool regular = true;
      for (size_t l = 0; l < o.imms.size(); ++l)
        regular = regular && (o.imms[l] < lanes ? o.imms[l] : o.imms[l] - lanes + between) ==
                                 step * static_cast<int64_t>(l);
      if (!regular) continue;
      steps_[&o] = {first->second, step};
      for (const kernel::Op *load : {first->second, second->second})
        if (uses_.count(load->results[0]) == (first == second ? 2u : 1u)) skipped_.insert(load);
    }
  }
  // An index as a value plus a constant.
  std::pair<ValueId, int64_t> offset_of(ValueId index) const {
    auto it = sums_.find(index);
    if (it == sums_.end()) return {index, 0};
    return it->second;
  }

  void region(const Region &r) {
    for (const kernel::Op &o : r.ops) // indices of the form value + constant
      if (o.code == Opcode::kAdd && type(o.results[0]) == Type(Scalar::kIndex))
        for (size_t i = 0; i < 2; ++i)
          if (auto it = leaves_.find(o.operands[i]);
              it != leaves_.end() && it->second->code == Opcode::kConst) {
            auto base = offset_of(o.operands[1 - i]);
            sums_[o.results[0]] = {base.first, base.second + it->second->imm};
          }
    find_steps(r);
    for (const kernel::Op &o : r.ops)
      if (o.code != Opcode::kYield) op(o);
  }

  // Lets values that the region yields be computed in the places where they go, from operand `first` of the
  // yield on. `places[i]` are the variables, `olds[i]` the values in them until then (kNoValue: none).
  void yield_into(const Region &r, size_t first, const std::vector<Var> &places, const Values &olds) {
    const kernel::Op &yield = r.ops.back();
    for (size_t i = 0; i < places.size(); ++i) {
      ValueId value = yield.operands[first + i];
      size_t times = 0;
      for (ValueId other : yield.operands) times += other == value;
      if (times != 1 || vars_[value] != kNoVar || into_[value] != kNoVar)
        continue; // made outside, or going to two places
      const kernel::Op *maker = nullptr;
      for (const kernel::Op &o : r.ops)
        for (ValueId result : o.results)
          if (result == value) maker = &o;
      if (!maker || is_leaf(maker->code) || maker->code == Opcode::kTile) continue;
      if (olds[i] != kNoValue && uses_.last(olds[i]) > uses_.position(*maker)) continue;
      into_[value] = places[i];
    }
  }
  void yields(const Region &r, size_t first, const Values &targets_types, const std::vector<Var> &places) {
    const kernel::Op &yield = r.ops.back();
    std::vector<std::tuple<Type, Var, Var>> moves;
    for (size_t i = 0; i < places.size(); ++i)
      moves.emplace_back(type(targets_types[i]), places[i], operand(yield.operands[first + i]));
    move_all(moves);
  }

  // A value as an operand; leaves are made where they are first used.
  Var operand(ValueId value) {
    if (vars_[value] == kNoVar)
      if (auto it = leaves_.find(value); it != leaves_.end()) vars_[value] = leaf(*it->second);
    return get(value);
  }

  Var leaf(const kernel::Op &o) {
    Type t = type(o.results[0]);
    switch (o.code) {
      case Opcode::kConst:
        if (t.scalar == Scalar::kF32) return constant(t, std::bit_cast<uint32_t>(static_cast<float>(o.fimm)));
        if (t.scalar == Scalar::kF64) return constant(t, std::bit_cast<uint64_t>(o.fimm));
        return constant_int(t, o.imm);
      case Opcode::kParam:
        return code_.add_fixed(bytecode::kParamSlot + static_cast<uint32_t>(o.imm), bytes(t));
      case Opcode::kGroupId:
        return code_.add_fixed(bytecode::kGroupSlot + static_cast<uint32_t>(o.imm), 8);
      case Opcode::kGridSize:
        return code_.add_fixed(bytecode::kGridSlot + static_cast<uint32_t>(o.imm), 8);
      case Opcode::kLocalId:
        return constant_int(t, 0);
      default: { // kLaneIota
        Var v = code_.add(bytes(t));
        code_.emit_once(line(pair(t.scalar, Op::iota_32, Op::iota_64), t, v));
        if (is_small(t.scalar))
          code_.emit_once(line(t.scalar == Scalar::kI8 ? Op::sign_8 : Op::sign_16, t, v, v));
        return v;
      }
    }
  }

  void for_loop(const kernel::Op &o) {
    const Region &body = o.regions[0];
    Type counter = type(o.operands[0]);
    bool wide = width(counter.scalar) == 8;
    std::vector<Var> carried;
    std::vector<std::tuple<Type, Var, Var>> enter;
    for (size_t i = 0; i < o.results.size(); ++i) {
      Var v = into_[o.results[i]];
      if (v == kNoVar) v = code_.add(bytes(type(o.results[i])));
      carried.push_back(v);
      enter.emplace_back(type(o.results[i]), v, operand(o.operands[3 + i]));
    }
    Var hi = operand(o.operands[1]), step = operand(o.operands[2]);
    Var i = temporary(counter);
    enter.emplace_back(counter, i, operand(o.operands[0]));
    move_all(enter);
    vars_[body.params[0]] = i;
    for (size_t k = 0; k < carried.size(); ++k) vars_[body.params[k + 1]] = carried[k];
    uint32_t exit = code_.new_label(), again = code_.new_label();
    Line test = line(wide ? Op::jump_ge_i64 : Op::jump_ge_i32, Type(), kNoVar, i, hi);
    test.label = exit;
    code_.emit(std::move(test));
    code_.begin_loop();
    code_.place(again);
    yield_into(body, 0, carried, Values(body.params.begin() + 1, body.params.end()));
    region(body);
    yields(body, 0, o.results, carried);
    Line loop = line(wide ? Op::loop_i64 : Op::loop_i32, Type(), i, step, hi);
    loop.label = again;
    code_.emit(std::move(loop));
    code_.end_loop();
    code_.place(exit);
    for (size_t k = 0; k < carried.size(); ++k) vars_[o.results[k]] = carried[k];
  }

  void if_else(const kernel::Op &o) {
    std::vector<Var> results;
    for (ValueId id : o.results) results.push_back(make(id));
    bool has_else = o.regions[1].ops.size() > 1 || !results.empty();
    uint32_t otherwise = code_.new_label(), done = code_.new_label();
    Line test = line(Op::jump_unless, Type(), kNoVar, operand(o.operands[0]));
    test.label = otherwise;
    code_.emit(std::move(test));
    for (size_t side = 0; side < 2; ++side) {
      if (side == 1) code_.place(otherwise);
      yield_into(o.regions[side], 0, results, Values(results.size(), kNoValue));
      region(o.regions[side]);
      yields(o.regions[side], 0, o.results, results);
      if (side == 0 && has_else) {
        Line jump = line(Op::jump, Type(), kNoVar);
        jump.label = done;
        code_.emit(std::move(jump));
      }
    }
    code_.place(done);
  }

  void while_loop(const kernel::Op &o) {
    const Region &condition = o.regions[0], &body = o.regions[1];
    std::vector<Var> before, after; // of the condition's params; of the body's, and the results
    std::vector<std::tuple<Type, Var, Var>> enter;
    for (size_t i = 0; i < o.results.size(); ++i) {
      Type t = type(o.results[i]);
      before.push_back(code_.add(bytes(t)));
      after.push_back(code_.add(bytes(t)));
      enter.emplace_back(t, before[i], operand(o.operands[i]));
    }
    move_all(enter);
    for (size_t i = 0; i < before.size(); ++i) {
      vars_[condition.params[i]] = before[i];
      vars_[body.params[i]] = after[i];
    }
    uint32_t exit = code_.new_label(), again = code_.new_label();
    code_.begin_loop();
    code_.place(again);
    region(condition);
    yields(condition, 1, o.results, after);
    Line test = line(Op::jump_unless, Type(), kNoVar, operand(condition.ops.back().operands[0]));
    test.label = exit;
    code_.emit(std::move(test));
    region(body);
    yields(body, 0, o.results, before);
    Line jump = line(Op::jump, Type(), kNoVar);
    jump.label = again;
    code_.emit(std::move(jump));
    code_.end_loop();
    code_.place(exit);
    for (size_t i = 0; i < after.size(); ++i) vars_[o.results[i]] = after[i];
  }

  // ---- Arithmetic

  Op by_class(Scalar scalar, Op i32, Op i64, Op f32, Op f64) const {
    switch (scalar) {
      case Scalar::kF32:
        return f32;
      case Scalar::kF64:
        return f64;
      case Scalar::kI64:
      case Scalar::kIndex:
        return i64;
      default:
        return i32;
    }
  }
  Var extend(Type t, Var v, bool is_signed) {
    if (!is_small(t.scalar)) return v;
    Var out = temporary(t);
    bool byte = t.scalar == Scalar::kI8;
    emit(is_signed ? (byte ? Op::sign_8 : Op::sign_16) : (byte ? Op::zero_8 : Op::zero_16), t, out, v);
    return out;
  }
  // Brings a result back into its small type.
  void wrap(Type t, Var v) {
    if (is_small(t.scalar)) emit(t.scalar == Scalar::kI8 ? Op::sign_8 : Op::sign_16, t, v, v);
  }

#define INGOT_BOTH(name) by_class(t.scalar, Op::name##_i32, Op::name##_i64, Op::count, Op::count)
#define INGOT_FLOATS(name) by_class(t.scalar, Op::count, Op::count, Op::name##_f32, Op::name##_f64)
#define INGOT_ALL(name) by_class(t.scalar, Op::name##_i32, Op::name##_i64, Op::name##_f32, Op::name##_f64)
  Op select_op(Opcode code, Type t) const {
    switch (code) {
      case Opcode::kAdd:
        return INGOT_ALL(add);
      case Opcode::kSub:
        return INGOT_ALL(sub);
      case Opcode::kMul:
        return INGOT_ALL(mul);
      case Opcode::kDiv:
        return INGOT_ALL(div);
      case Opcode::kRem:
        return INGOT_BOTH(rem);
      case Opcode::kDivU:
        return INGOT_BOTH(div_u);
      case Opcode::kRemU:
        return INGOT_BOTH(rem_u);
      case Opcode::kMin:
        return INGOT_ALL(min);
      case Opcode::kMax:
        return INGOT_ALL(max);
      case Opcode::kMinU:
        return INGOT_BOTH(min_u);
      case Opcode::kMaxU:
        return INGOT_BOTH(max_u);
      case Opcode::kAnd:
        return INGOT_BOTH(and);
      case Opcode::kOr:
        return INGOT_BOTH(or);
      case Opcode::kXor:
        return INGOT_BOTH(xor);
      case Opcode::kShl:
        return INGOT_BOTH(shl);
      case Opcode::kShr:
        return INGOT_BOTH(shr);
      case Opcode::kShrU:
        return INGOT_BOTH(shr_u);
      case Opcode::kNeg:
        return INGOT_ALL(neg);
      case Opcode::kAbs:
        return INGOT_ALL(abs);
      case Opcode::kNot:
        return t.scalar == Scalar::kBool ? Op::not_bool : INGOT_BOTH(not);
      case Opcode::kMad:
        return INGOT_ALL(mad);
      case Opcode::kSqrt:
        return INGOT_FLOATS(sqrt);
      case Opcode::kFloor:
        return INGOT_FLOATS(floor);
      case Opcode::kCeil:
        return INGOT_FLOATS(ceil);
      case Opcode::kTrunc:
        return INGOT_FLOATS(trunc);
      case Opcode::kRint:
        return INGOT_FLOATS(rint);
      case Opcode::kCopySign:
        return INGOT_FLOATS(copy_sign);
      case Opcode::kEq:
        return INGOT_ALL(eq);
      case Opcode::kNe:
        return INGOT_ALL(ne);
      case Opcode::kLt:
        return INGOT_ALL(lt);
      case Opcode::kLe:
        return INGOT_ALL(le);
      case Opcode::kGt:
        return INGOT_ALL(gt);
      case Opcode::kGe:
        return INGOT_ALL(ge);
      case Opcode::kLtU:
        return INGOT_BOTH(lt_u);
      case Opcode::kLeU:
        return INGOT_BOTH(le_u);
      case Opcode::kGtU:
        return INGOT_BOTH(gt_u);
      case Opcode::kGeU:
        return INGOT_BOTH(ge_u);
      case Opcode::kIsNan:
        return INGOT_FLOATS(is_nan);
      case Opcode::kIsInf:
        return INGOT_FLOATS(is_inf);
      case Opcode::kReduceAdd:
        return INGOT_ALL(sum);
      case Opcode::kReduceMul:
        return INGOT_ALL(product);
      case Opcode::kReduceMin:
        return INGOT_ALL(least);
      case Opcode::kReduceMax:
        return INGOT_ALL(most);
      default:
        return Op::count;
    }
  }
#undef INGOT_BOTH
#undef INGOT_FLOATS
#undef INGOT_ALL

  void arithmetic(const kernel::Op &o) {
    Type t = type(o.operands[0]);
    Op op = select_op(o.code, t);
    if (op == Op::count) fail(o);
    std::vector<Var> args;
    for (ValueId id : o.operands) args.push_back(operand(id));
    if (is_small(t.scalar)) {
      if (o.code == Opcode::kDivU || o.code == Opcode::kRemU || o.code == Opcode::kShrU)
        for (Var &a : args) a = extend(t, a, false);
      if (o.code == Opcode::kShl || o.code == Opcode::kShr || o.code == Opcode::kShrU) {
        Var amount = temporary(t);
        emit(Op::and_i32, t, amount, args[1], constant_int(t, t.scalar == Scalar::kI8 ? 7 : 15));
        args[1] = amount;
      }
    }
    args.resize(3, kNoVar);
    Var d = make(o.results[0]);
    emit(op, t, d, args[0], args[1], args[2]);
    if (is_small(type(o.results[0]).scalar)) wrap(type(o.results[0]), d);
  }

  // ---- Conversions

  void convert(const kernel::Op &o) {
    Type from = type(o.operands[0]), to = type(o.results[0]);
    bool is_unsigned = o.code == Opcode::kConvertU;
    Var a = operand(o.operands[0]), d = make(o.results[0]);
    if (o.code == Opcode::kBitcast || from == to) {
      move(to, d, a);
      return;
    }
    if (to.scalar == Scalar::kBool) {
      emit(by_class(from.scalar, Op::bool_i32, Op::bool_i64, Op::bool_f32, Op::bool_f64), from, d, a);
      return;
    }
    if (is_float(from.scalar) && is_float(to.scalar)) {
      emit(to.scalar == Scalar::kF64 ? Op::f64_f32 : Op::f32_f64, to, d, a);
      return;
    }
    if (is_float(from.scalar)) {
      float_to_int(from, to, is_unsigned, d, a);
      return;
    }
    // From integers and bools. A small unsigned one is a small non-negative one from here on.
    bool wide = width(from.scalar) == 8;
    if (is_unsigned && is_small(from.scalar) &&
        (is_float(to.scalar) || bit_width(to.scalar) > bit_width(from.scalar)))
      a = extend(from, a, false);
    bool high_bit = is_unsigned && (from.scalar == Scalar::kI32 || wide); // where the sign bit counts
    if (is_float(to.scalar)) {
      bool f64 = to.scalar == Scalar::kF64;
      Op op = wide ? (high_bit ? (f64 ? Op::f64_u64 : Op::f32_u64) : (f64 ? Op::f64_i64 : Op::f32_i64))
                   : (high_bit ? (f64 ? Op::f64_u32 : Op::f32_u32) : (f64 ? Op::f64_i32 : Op::f32_i32));
      emit(op, to, d, a);
      return;
    }
    if (width(to.scalar) == 8) {
      if (wide)
        move(to, d, a);
      else
        emit(high_bit ? Op::i64_u32 : Op::i64_i32, to, d, a);
      return;
    }
    if (wide)
      emit(Op::i32_i64, to, d, a);
    else
      move(to, d, a);
    wrap(to, d);
  }

  void float_to_int(Type from, Type to, bool is_unsigned, Var d, Var a) {
    bool f64 = from.scalar == Scalar::kF64;
    if (width(to.scalar) == 8) {
      emit(is_unsigned ? (f64 ? Op::u64_f64 : Op::u64_f32) : (f64 ? Op::i64_f64 : Op::i64_f32), to, d, a);
      return;
    }
    emit(is_unsigned ? (f64 ? Op::u32_f64 : Op::u32_f32) : (f64 ? Op::i32_f64 : Op::i32_f32), to, d, a);
    if (!is_small(to.scalar)) return;
    int64_t high = to.scalar == Scalar::kI8 ? 127 : 32767;
    if (is_unsigned) {
      emit(Op::min_u_i32, to, d, d, constant_int(to, 2 * high + 1));
      wrap(to, d);
    } else {
      emit(Op::min_i32, to, d, d, constant_int(to, high));
      emit(Op::max_i32, to, d, d, constant_int(to, -high - 1));
    }
  }

  // ---- Memory

  void memory(const kernel::Op &o) {
    auto arg = [&](size_t i) { return operand(o.operands[i]); };
    Line l;
    l.imm = o.memory;
    bool stores = o.results.empty();
    ValueId value = stores ? o.operands[o.code == Opcode::kStoreIf ? 2 : 1] : o.results[0];
    l.n = type(value).lanes;
    switch (o.code) {
      case Opcode::kLoad:
        l.op = Op::load;
        l.a = arg(0);
        break;
      case Opcode::kStore:
        l.op = Op::store;
        l.a = arg(0);
        l.b = arg(1);
        break;
      case Opcode::kLoadPart:
      case Opcode::kStorePart:
        l.op = stores ? Op::store_part : Op::load_part;
        l.a = arg(0);
        l.b = arg(1);
        l.c = arg(2);
        break;
      case Opcode::kLoadIf:
        l.op = type(o.operands[0]).lanes == 1 ? Op::load_if : Op::load_mask;
        l.a = arg(1);
        l.b = arg(0);
        l.c = arg(2);
        break;
      case Opcode::kStoreIf:
        l.op = type(o.operands[0]).lanes == 1 ? Op::store_if : Op::store_mask;
        l.a = arg(1);
        l.b = arg(2);
        l.c = arg(0);
        break;
      case Opcode::kGather:
        l.op = o.operands.size() == 3 ? Op::gather_mask : Op::gather;
        l.a = arg(0);
        if (o.operands.size() == 3) {
          l.b = arg(1);
          l.c = arg(2);
        }
        break;
      case Opcode::kScatter:
        l.op = o.operands.size() == 3 ? Op::scatter_mask : Op::scatter;
        l.a = arg(0);
        l.b = arg(1);
        if (o.operands.size() == 3) l.c = arg(2);
        break;
      default: // atomics
        l.op = o.code == Opcode::kAtomicAdd   ? Op::atomic_add
               : o.code == Opcode::kAtomicMin ? Op::atomic_min
                                              : Op::atomic_max;
        l.a = arg(0);
        l.b = arg(1);
    }
    if (!stores) l.d = make(o.results[0]);
    code_.emit(std::move(l));
  }

  // The variable that holds the tile's initial sums as it wants them, if nothing else wants them any more.
  Var sums_of(const kernel::Op &o) {
    auto it = tile_of_.find(o.operands[0]);
    if (it == tile_of_.end() || it->second.first->results.size() != o.results.size()) return kNoVar;
    for (size_t i = 0; i < o.results.size(); ++i)
      if (o.operands[i] != it->second.first->results[i] || uses_.last(o.operands[i]) > uses_.position(o))
        return kNoVar;
    return it->second.second;
  }

  void tile(const kernel::Op &o) {
    kernel::TileShape shape = *kernel::tile_shape(o);
    Type t = type(o.results[0]);
    ensure(shape.rows <= bytecode::kMaxTileRows && shape.vectors * shape.chunks <= bytecode::kMaxTileVectors &&
               bytes(t) % 8 == 0,
           "bytecode: a tile of a shape that the interpreter does not have");
    Var whole = sums_of(o);
    bool in_place = whole != kNoVar, zero = !in_place;
    if (!in_place) whole = code_.add(bytes(t) * static_cast<uint32_t>(o.results.size()));
    for (size_t i = 0; i < o.results.size(); ++i) {
      vars_[o.results[i]] = code_.add_part(whole, bytes(t) * static_cast<uint32_t>(i), bytes(t));
      auto it = leaves_.find(o.operands[i]);
      zero = zero && it != leaves_.end() && it->second->code == Opcode::kConst && it->second->imm == 0 &&
             std::bit_cast<uint64_t>(it->second->fimm) == 0;
    }
    if (!zero && !in_place)
      for (size_t i = 0; i < o.results.size(); ++i) move(t, vars_[o.results[i]], operand(o.operands[i]));
    tile_of_[o.results[0]] = {&o, whole};
    Line l;
    l.op = Op::tile;
    l.n = static_cast<uint16_t>(t.lanes / shape.chunks);
    l.d = whole;
    l.raw_a = static_cast<uint32_t>(shape.loops) | (zero ? bytecode::kTileZero : 0u);
    l.raw_b = static_cast<uint32_t>(shape.rows);
    l.raw_c = static_cast<uint32_t>(shape.vectors * shape.chunks);
    l.numbers = {static_cast<uint16_t>(o.memory), static_cast<uint16_t>(o.imm2)};
    for (size_t i = shape.a(); i < o.operands.size(); ++i) l.operands.push_back(operand(o.operands[i]));
    l.imm = static_cast<uint32_t>(2 + l.operands.size());
    code_.emit(std::move(l));
  }

  // ---- One op

  void op(const kernel::Op &o) {
    if (is_leaf(o.code)) {
      leaves_[o.results[0]] = &o;
      return;
    }
    if (skipped_.count(&o)) return;
    if (runs_once(o)) {
      code_.emit_to_once(true);
      emit_op(o);
      code_.emit_to_once(false);
      once_.insert(o.results[0]);
      once_bytes_ += bytes(type(o.results[0]));
      return;
    }
    nesting_ += !o.regions.empty();
    emit_op(o);
    nesting_ -= !o.regions.empty();
  }

  // Vectors that only constants and lane numbers make are the same for every workgroup: they are made once a call, as far as
  // registers go.
  bool runs_once(const kernel::Op &o) {
    constexpr uint64_t kMostBytes = 32 << 10;
    if (nesting_ > 0 || !o.regions.empty() || o.results.size() != 1 || is_memory(o.code) || has_side_effect(o.code) ||
        o.code == Opcode::kTile || steps_.count(&o))
      return false;
    const Type t = type(o.results[0]);
    if (t.lanes == 1 || into_[o.results[0]] != kNoVar || once_bytes_ + bytes(t) > kMostBytes) return false;
    return std::all_of(o.operands.begin(), o.operands.end(), [&](ValueId v) {
      const auto leaf = leaves_.find(v);
      return once_.count(v) || (leaf != leaves_.end() && (leaf->second->code == Opcode::kConst || leaf->second->code == Opcode::kLaneIota));
    });
  }

  void emit_op(const kernel::Op &o) {
    switch (o.code) {
      case Opcode::kFor:
        return for_loop(o);
      case Opcode::kIf:
        return if_else(o);
      case Opcode::kWhile:
        return while_loop(o);
      case Opcode::kTile:
        return tile(o);
      case Opcode::kBarrier: // a group has one thread
      case Opcode::kPrefetch:
        return;
      case Opcode::kConvert:
      case Opcode::kConvertU:
      case Opcode::kBitcast:
        return convert(o);
      case Opcode::kSelect: {
        Type t = type(o.results[0]);
        bool one = type(o.operands[0]).lanes == 1 && t.lanes > 1;
        Var c = operand(o.operands[0]), a = operand(o.operands[1]), b = operand(o.operands[2]);
        emit(one ? pair(t.scalar, Op::pick_32, Op::pick_64) : pair(t.scalar, Op::select_32, Op::select_64), t,
             make(o.results[0]), c, a, b);
        return;
      }
      case Opcode::kSplat: {
        Type t = type(o.results[0]);
        Var a = operand(o.operands[0]);
        emit(pair(t.scalar, Op::splat_32, Op::splat_64), t, make(o.results[0]), a);
        return;
      }
      case Opcode::kExtract:
      case Opcode::kInsert: {
        Type t = type(o.operands[0]);
        bool extracts = o.code == Opcode::kExtract;
        Var a = operand(o.operands[0]), b = extracts ? kNoVar : operand(o.operands[1]);
        Line l = line(extracts ? pair(t.scalar, Op::extract_32, Op::extract_64)
                               : pair(t.scalar, Op::insert_32, Op::insert_64),
                      t, make(o.results[0]), a, b);
        l.imm = static_cast<uint32_t>(o.imm);
        code_.emit(std::move(l));
        return;
      }
      case Opcode::kShuffle: {
        if (auto it = steps_.find(&o); it != steps_.end()) {
          Line l = line(Op::load_step, type(o.results[0]), kNoVar, operand(it->second.first->operands[0]),
                        constant_int(Type(Scalar::kIndex), it->second.second));
          l.d = make(o.results[0]);
          l.imm = it->second.first->memory;
          code_.emit(std::move(l));
          return;
        }
        Type t = type(o.results[0]);
        Var a = operand(o.operands[0]), b = operand(o.operands[1]);
        Line l = line(pair(t.scalar, Op::shuffle_32, Op::shuffle_64), t, make(o.results[0]), a, b);
        l.imm = type(o.operands[0]).lanes;
        for (int64_t lane : o.imms) l.numbers.push_back(static_cast<uint16_t>(lane));
        code_.emit(std::move(l));
        return;
      }
      case Opcode::kError: {
        Line l = line(Op::error, Type(), kNoVar, operand(o.operands[0]));
        l.imm = static_cast<uint32_t>(o.imm);
        l.raw_b = static_cast<uint32_t>(o.imm2) & 0xffff;
        l.raw_c = static_cast<uint32_t>(o.imm2) >> 16;
        code_.emit(std::move(l));
        return;
      }
      default:
        if (is_memory(o.code)) return memory(o);
        return arithmetic(o);
    }
  }

  const Kernel &k_;
  Uses uses_;
  Code code_;
  std::vector<Var> vars_; // by value
  std::vector<Var> into_; // by value: where it is to be computed
  std::map<ValueId, const kernel::Op *> leaves_;
  std::map<ValueId, std::pair<ValueId, int64_t>> sums_; // see offset_of
  std::map<const kernel::Op *, std::pair<const kernel::Op *, int64_t>>
      steps_;                                                     // shuffle: its first load, and the step
  std::set<ValueId> once_; // values made once a call, leaves aside
  uint64_t once_bytes_ = 0;
  int nesting_ = 0; // of loops and ifs
  std::set<const kernel::Op *> skipped_;                          // loads of these
  std::map<ValueId, std::pair<const kernel::Op *, Var>> tile_of_; // by its first result: the op and its sums
  std::map<std::tuple<uint32_t, uint32_t, uint64_t>, Var> constants_; // by width, lanes and bits
};

} // namespace

BytecodeKernel emit_bytecode(const Kernel &kernel) {
  Kernel hoisted = hoist_invariants(kernel);
  kernel::remove_dead_ops(hoisted);
  std::string problem = kernel::verify(hoisted);
  ensure(problem.empty(), "bytecode: " + problem);
  return Emitter(hoisted).run();
}

} // namespace ingot::aotc
