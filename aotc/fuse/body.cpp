// Elements of graph values as dispatch bodies: one function per primitive.
#include "aotc/fuse/body.h"

#include <cmath>
#include <cstring>

#include "aotc/base/error.h"
#include "schemas/cpu_abi.h"

namespace ingot::aotc::fuse {

using dispatch::Guard;
using dispatch::ReduceKind;
using dispatch::Value;
using dispatch::ValueKind;
using graph::Op;
using kernel::Opcode;
using BodyId = dispatch::ValueId;

std::vector<Expr> row_major(const std::vector<Expr> &dims) {
  std::vector<Expr> strides(dims.size(), Expr(1));
  for (size_t i = dims.size(); i-- > 1;)
    strides[i - 1] = strides[i] * dims[i];
  return strides;
}

Index reindex(const std::vector<Expr> &from, const Index &index, const std::vector<Expr> &to) {
  // Groups of dims with equal products convert on their own, which keeps most indices plain: [n,c,h,w] -> [n,c,h*w]
  // touches h and w only.
  Index out;
  size_t i = 0, j = 0;
  while (i < from.size() || j < to.size()) {
    size_t i0 = i, j0 = j;
    Expr a(1), b(1);
    if (i < from.size())
      a = from[i++];
    if (j < to.size())
      b = to[j++];
    while (!(a == b)) {
      // Extend the side that is smaller, where that is known; else both to the end.
      bool more_a = i < from.size(), more_b = j < to.size();
      if (more_a && (!more_b || (proves_le(a, b) && !proves_le(b, a))))
        a = a * from[i++];
      else if (more_b && (!more_a || (proves_le(b, a) && !proves_le(a, b))))
        b = b * to[j++];
      else if (more_a && more_b) {
        a = a * from[i++];
        b = b * to[j++];
      } else
        break; // equal by the graph's verifier although not by form
    }
    // Trailing dims of 1 belong to this group.
    if (i == from.size())
      while (j < to.size() && to[j] == Expr(1))
        ++j;
    if (j == to.size())
      while (i < from.size() && from[i] == Expr(1))
        ++i;
    if (i - i0 == 1 && j - j0 == 1) {
      out.push_back(index[i0]);
      continue;
    }
    Expr linear(0);
    for (size_t k = i0; k < i; ++k)
      linear = linear * from[k] + index[k];
    Expr rest(1);
    std::vector<Expr> strides(j - j0, Expr(1));
    for (size_t k = j; k-- > j0;) {
      strides[k - j0] = rest;
      rest = rest * to[k];
    }
    bool outermost = true;
    for (size_t k = j0; k < j; ++k) {
      if (to[k] == Expr(1)) {
        out.push_back(Expr(0));
        continue;
      }
      Expr q = floordiv(linear, strides[k - j0]);
      // The outermost digit needs no mod: the linear index is in range.
      out.push_back(outermost ? q : mod(q, to[k]));
      outermost = false;
    }
  }
  return out;
}

BodyId BodyBuilder::add(Value value) {
  std::string key = std::to_string(static_cast<int>(value.kind)) + "," + std::to_string(static_cast<int>(value.type)) + "," +
                    std::to_string(value.imm) + ",";
  uint64_t bits;
  std::memcpy(&bits, &value.fimm, 8);
  key += std::to_string(bits) + "," + value.expr.to_string() + "," + std::to_string(value.operand) + ",";
  for (const Guard &g : value.guards)
    key += g.value.to_string() + "<" + g.extent.to_string() + ";";
  key += std::to_string(value.otherwise) + "," + std::to_string(static_cast<int>(value.code)) + "," +
         std::to_string(static_cast<int>(value.reduce));
  for (BodyId a : value.args)
    key += "%" + std::to_string(a);
  for (uint32_t a : value.axes)
    key += "a" + std::to_string(a);
  auto [it, fresh] = memo_.try_emplace(key, static_cast<BodyId>(d_.values.size()));
  if (fresh)
    d_.values.push_back(std::move(value));
  return it->second;
}

BodyId BodyBuilder::constant_int(ElementType type, int64_t value) {
  Value v;
  v.kind = ValueKind::kConst;
  v.type = type;
  v.imm = value;
  return add(v);
}

BodyId BodyBuilder::constant_float(ElementType type, double value) {
  Value v;
  v.kind = ValueKind::kConst;
  v.type = type;
  v.fimm = value;
  return add(v);
}

BodyId BodyBuilder::zero(ElementType type) {
  return is_float(type) ? constant_float(type, 0) : constant_int(type, 0);
}

BodyId BodyBuilder::scalar_of(const graph::ConstantData &data, ElementType type) {
  auto read = [&](auto sample) {
    std::memcpy(&sample, data.bytes.data(), sizeof sample);
    return sample;
  };
  ensure(data.bytes.size() >= byte_size(type), "fuse: a scalar constant has too few bytes");
  switch (type) {
  case ElementType::kF32: return constant_float(type, read(float{}));
  case ElementType::kF64: return constant_float(type, read(double{}));
  case ElementType::kF16: return constant_float(type, static_cast<double>(read(_Float16{})));
  case ElementType::kBF16: {
    uint32_t bits = static_cast<uint32_t>(read(uint16_t{})) << 16;
    float f;
    std::memcpy(&f, &bits, 4);
    return constant_float(type, f);
  }
  case ElementType::kI8: return constant_int(type, read(int8_t{}));
  case ElementType::kU8: case ElementType::kBool: return constant_int(type, read(uint8_t{}));
  case ElementType::kI16: return constant_int(type, read(int16_t{}));
  case ElementType::kU16: return constant_int(type, read(uint16_t{}));
  case ElementType::kI32: return constant_int(type, read(int32_t{}));
  case ElementType::kU32: return constant_int(type, read(uint32_t{}));
  case ElementType::kI64: case ElementType::kU64: return constant_int(type, read(int64_t{}));
  case ElementType::kNone: break;
  }
  throw InternalError("fuse: a constant has no type");
}

BodyId BodyBuilder::index_value(const Expr &expr, ElementType type) {
  Value v;
  if (auto c = expr.constant()) {
    v.kind = ValueKind::kConst;
    v.type = type;
    v.imm = *c;
    return add(v);
  }
  v.kind = ValueKind::kIndex;
  v.type = type;
  v.expr = expr;
  return add(v);
}

BodyId BodyBuilder::op(Opcode code, ElementType type, std::vector<BodyId> args) {
  Value v;
  v.kind = ValueKind::kOp;
  v.code = code;
  v.type = type;
  v.args = std::move(args);
  return add(v);
}

BodyId BodyBuilder::inside(const std::vector<Guard> &guards) {
  BodyId all = dispatch::kNoValue;
  auto combine = [&](BodyId c) { all = all == dispatch::kNoValue ? c : op(Opcode::kAnd, ElementType::kBool, {all, c}); };
  for (const Guard &g : guards) {
    if (!proves_ge0(g.value))
      combine(op(Opcode::kGe, ElementType::kBool, {index_value(g.value), index_value(0)}));
    if (!proves_lt(g.value, g.extent))
      combine(op(Opcode::kLt, ElementType::kBool, {index_value(g.value), index_value(g.extent)}));
  }
  return all == dispatch::kNoValue ? constant_int(ElementType::kBool, 1) : all;
}

BodyId BodyBuilder::reduce_value(ReduceKind kind, ElementType type, BodyId x, std::vector<uint32_t> axes) {
  if (axes.empty())
    return x;
  // f16 and bf16 accumulate in f32 and are rounded once.
  bool narrow = (type == ElementType::kF16 || type == ElementType::kBF16) && kind <= ReduceKind::kMul;
  Value v;
  v.kind = ValueKind::kReduce;
  v.reduce = kind;
  v.type = narrow ? ElementType::kF32 : type;
  v.args = {narrow ? op(Opcode::kConvert, ElementType::kF32, {x}) : x};
  v.axes = std::move(axes);
  BodyId r = add(v);
  return narrow ? op(Opcode::kConvert, type, {r}) : r;
}

uint32_t BodyBuilder::add_axis(const char *prefix, const Expr &extent) {
  uint32_t number = static_cast<uint32_t>(d_.axes.size());
  ensure(number < 64, "fuse: a dispatch has more than 64 axes");
  d_.axes.push_back({Symbol::axis(prefix + std::to_string(number), extent), extent});
  return number;
}

uint32_t BodyBuilder::reduction_axis(const Expr &extent, const Index &index) {
  auto is_free = [&](uint32_t a) {
    if (!(d_.axes[a].extent == extent))
      return false;
    bool used = false;
    for (const Expr &e : index)
      used = used || e.depends_on(d_.axes[a].symbol);
    for (const Guard &g : guards_)
      used = used || g.value.depends_on(d_.axes[a].symbol);
    return !used;
  };
  for (size_t i = contracted_.size(); i-- > 0;)
    if (is_free(contracted_[i]))
      return contracted_[i];
  for (uint32_t a = 0; a < d_.axes.size(); ++a)
    if (is_free(a))
      return a;
  return add_axis("r", extent);
}

BodyId BodyBuilder::load(graph::ValueId v, const Index &index) {
  const graph::TensorType &type = view_.function.values[v].type;
  graph::ValueId memory = view_.storage(v);
  size_t operand = 0;
  while (operand < inputs_->size() && (*inputs_)[operand] != memory)
    ++operand;
  if (operand == inputs_->size()) {
    inputs_->push_back(memory);
    dispatch::Operand o;
    o.name = "x" + std::to_string(operand);
    o.type = type.element;
    o.count = type.elements();
    const Op *definition = view_.definition(memory);
    o.constant = definition && definition->code == graph::Opcode::kConstant;
    d_.operands.push_back(o);
  }
  Value value;
  value.kind = ValueKind::kLoad;
  value.type = type.element;
  value.operand = static_cast<uint32_t>(operand);
  std::vector<Expr> strides = row_major(type.dims);
  Expr offset(0);
  for (size_t i = 0; i < index.size(); ++i)
    offset = offset + index[i] * strides[i];
  value.expr = offset;
  for (const Guard &g : guards_)
    if (!proves_ge0(g.value) || !proves_lt(g.value, g.extent))
      value.guards.push_back(g);
  if (!value.guards.empty())
    value.otherwise = zero(type.element);
  return add(std::move(value));
}

BodyId BodyBuilder::element(graph::ValueId v, const Index &index) {
  std::string key = std::to_string(v);
  for (const Expr &e : index)
    key += "|" + e.to_string();
  for (const Guard &g : guards_)
    key += "<" + g.value.to_string() + "," + g.extent.to_string();
  auto it = elements_.find(key);
  if (it != elements_.end())
    return it->second;
  const Op *definition = view_.definition(v);
  BodyId result;
  if (definition && definition->code == graph::Opcode::kConstant && definition->constant->bytes.size() ==
      byte_size(definition->constant->type))
    result = scalar_of(*definition->constant, view_.function.values[v].type.element);
  else if (view_.materialised(v) || !definition)
    result = load(v, index);
  else
    result = define(*definition, v, index);
  elements_.emplace(std::move(key), result);
  return result;
}

BodyId BodyBuilder::define(const Op &op_, graph::ValueId v, const Index &index) {
  const graph::TensorType &type = view_.function.values[v].type;
  auto operand_dims = [&](size_t i) -> const std::vector<Expr> & { return view_.function.values[op_.operands[i]].type.dims; };
  switch (op_.code) {
  case graph::Opcode::kConstant:
    return load(v, index);
  case graph::Opcode::kSplat:
    return scalar_of(*op_.constant, type.element);
  case graph::Opcode::kIota: {
    Expr value = op_.exprs[0] + op_.exprs[1] * index[op_.axes[0]];
    if (is_integer(type.element))
      return index_value(value, type.element);
    return op(Opcode::kConvert, type.element, {index_value(value)});
  }
  case graph::Opcode::kHostTensor:
    return host_tensor(op_, index);
  case graph::Opcode::kMap: {
    std::vector<BodyId> args;
    for (graph::ValueId operand : op_.operands)
      args.push_back(element(operand, index));
    return op(op_.map, type.element, std::move(args));
  }
  case graph::Opcode::kBroadcast: {
    const std::vector<Expr> &dims = operand_dims(0);
    Index inner;
    for (size_t i = 0; i < dims.size(); ++i)
      inner.push_back(dims[i] == Expr(1) ? Expr(0) : index[op_.axes[i]]);
    return element(op_.operands[0], inner);
  }
  case graph::Opcode::kReshape:
    return reshape(op_, index);
  case graph::Opcode::kTranspose: {
    Index inner(index.size());
    for (size_t i = 0; i < index.size(); ++i)
      inner[op_.axes[i]] = index[i];
    return element(op_.operands[0], inner);
  }
  case graph::Opcode::kSlice: {
    Index inner;
    for (size_t i = 0; i < index.size(); ++i)
      inner.push_back(op_.exprs[i] + index[i] * Expr(op_.ints[i]));
    return element(op_.operands[0], inner);
  }
  case graph::Opcode::kPad:
    return pad(op_, index);
  case graph::Opcode::kConcat:
    return concat(op_, index);
  case graph::Opcode::kReduce:
    return reduce(op_, index);
  case graph::Opcode::kScan:
    return scan(op_, index);
  case graph::Opcode::kContract:
    return contract(op_, index);
  case graph::Opcode::kConv:
    return conv(op_, index);
  case graph::Opcode::kPool:
    return pool(op_, index);
  case graph::Opcode::kGather:
    return gather(op_, index);
  default:
    break;
  }
  throw InternalError("fuse: op of node '" + op_.node + "' has no element-wise definition");
}

BodyId BodyBuilder::host_tensor(const Op &op_, const Index &index) {
  ElementType type = view_.function.values[op_.results[0]].type.element;
  if (index.empty())
    return index_value(op_.exprs[0], type);
  if (auto c = index[0].constant())
    return index_value(op_.exprs[static_cast<size_t>(*c)], type);
  // A short chain of selects on the position.
  BodyId result = index_value(op_.exprs.back(), type), position = index_value(index[0]);
  for (size_t i = op_.exprs.size() - 1; i-- > 0;)
    result = op(Opcode::kSelect, type,
                {op(Opcode::kEq, ElementType::kBool, {position, index_value(static_cast<int64_t>(i))}),
                 index_value(op_.exprs[i], type), result});
  return result;
}

BodyId BodyBuilder::reshape(const Op &op_, const Index &index) {
  const std::vector<Expr> &to = view_.function.values[op_.operands[0]].type.dims;
  const std::vector<Expr> &from = view_.function.values[op_.results[0]].type.dims;
  return element(op_.operands[0], reindex(from, index, to));
}

BodyId BodyBuilder::pad(const Op &op_, const Index &index) {
  const std::vector<Expr> &dims = view_.function.values[op_.operands[0]].type.dims;
  size_t rank = dims.size();
  Index inner(rank);
  if (op_.pad_mode != graph::PadMode::kConstant) {
    for (size_t i = 0; i < rank; ++i) {
      Expr at = index[i] - op_.exprs[i];
      if (op_.exprs[i] == Expr(0) && op_.exprs[rank + i] == Expr(0))
        inner[i] = index[i];
      else if (op_.pad_mode == graph::PadMode::kEdge)
        inner[i] = max(Expr(0), min(at, dims[i] - 1));
      else if (op_.pad_mode == graph::PadMode::kWrap)
        inner[i] = mod(at, dims[i]);
      else { // reflect: a triangle wave of period 2 (d - 1)
        Expr period = max(Expr(1), (dims[i] - 1) * 2);
        Expr m = mod(at, period);
        inner[i] = min(m, period - m);
        inner[i] = min(inner[i], dims[i] - 1);
      }
    }
    return element(op_.operands[0], inner);
  }
  std::vector<Guard> added;
  for (size_t i = 0; i < rank; ++i) {
    inner[i] = index[i] - op_.exprs[i];
    if (!(op_.exprs[i] == Expr(0) && op_.exprs[rank + i] == Expr(0)))
      added.push_back({inner[i], dims[i]});
  }
  ElementType type = view_.function.values[op_.results[0]].type.element;
  BodyId fill = op_.operands.size() > 1 ? element(op_.operands[1], {}) : zero(type);
  size_t before = guards_.size();
  guards_.insert(guards_.end(), added.begin(), added.end());
  BodyId x = element(op_.operands[0], inner);
  guards_.resize(before);
  // Zero padding of a plain load is the guarded load itself.
  const Value &v = d_.values[x], &f = d_.values[fill];
  bool zero_fill = f.kind == ValueKind::kConst && (is_float(type) ? f.fimm == 0 && !std::signbit(f.fimm) : f.imm == 0);
  if (zero_fill && v.kind == ValueKind::kLoad)
    return x;
  return op(Opcode::kSelect, type, {inside(added), x, fill});
}

BodyId BodyBuilder::concat(const Op &op_, const Index &index) {
  size_t axis = static_cast<size_t>(op_.ints[0]);
  ElementType type = view_.function.values[op_.results[0]].type.element;
  Expr start(0);
  BodyId result = dispatch::kNoValue;
  // Later pieces replace earlier ones where the index has reached them.
  for (graph::ValueId piece : op_.operands) {
    const Expr &extent = view_.function.values[piece].type.dims[axis];
    Index inner = index;
    inner[axis] = index[axis] - start;
    size_t before = guards_.size();
    guards_.push_back({inner[axis], extent});
    BodyId x = element(piece, inner);
    guards_.resize(before);
    if (result == dispatch::kNoValue)
      result = x;
    else
      result = op(Opcode::kSelect, type,
                  {op(Opcode::kGe, ElementType::kBool, {index_value(index[axis]), index_value(start)}), x, result});
    start = start + extent;
  }
  return result;
}

BodyId BodyBuilder::reduce(const Op &op_, const Index &index) {
  const graph::TensorType &x = view_.function.values[op_.operands[0]].type;
  std::vector<bool> reduced(x.dims.size(), false);
  for (uint32_t a : op_.axes)
    reduced[a] = true;
  Index inner;
  size_t next = 0;
  std::vector<uint32_t> axes;
  for (size_t i = 0; i < x.dims.size(); ++i)
    inner.push_back(reduced[i] ? Expr(0) : index[next++]);
  for (size_t i = 0; i < x.dims.size(); ++i) {
    if (!reduced[i])
      continue;
    Index used = inner;
    uint32_t axis = reduction_axis(x.dims[i], used);
    inner[i] = Expr(d_.axes[axis].symbol);
    // An extent of 1 has a constant index, so there is nothing to reduce; argmax still needs its axis.
    if (!(x.dims[i] == Expr(1)) || op_.reduce >= ReduceKind::kArgMin)
      axes.push_back(axis);
  }
  ElementType type = op_.reduce >= ReduceKind::kArgMin ? ElementType::kI64 : x.element;
  if (op_.reduce >= ReduceKind::kArgMin && x.dims[op_.axes[0]] == Expr(1))
    return constant_int(ElementType::kI64, 0);
  return reduce_value(op_.reduce, type, element(op_.operands[0], inner), std::move(axes));
}

BodyId BodyBuilder::scan(const Op &op_, const Index &index) {
  const graph::TensorType &x = view_.function.values[op_.operands[0]].type;
  size_t axis = static_cast<size_t>(op_.ints[0]);
  bool exclusive = op_.ints[1] != 0, reverse = op_.ints[2] != 0;
  uint32_t k = reduction_axis(x.dims[axis], index);
  Index inner = index;
  inner[axis] = Expr(d_.axes[k].symbol);
  BodyId at = index_value(inner[axis]), here = index_value(index[axis]);
  Opcode compare = reverse ? (exclusive ? Opcode::kGt : Opcode::kGe) : (exclusive ? Opcode::kLt : Opcode::kLe);
  BodyId taken = op(Opcode::kSelect, x.element,
                    {op(compare, ElementType::kBool, {at, here}), element(op_.operands[0], inner), zero(x.element)});
  return reduce_value(ReduceKind::kAdd, x.element, taken, {k});
}

// A factor in the type that its products are summed in.
BodyId BodyBuilder::widened(BodyId value, ElementType type) {
  ElementType from = d_.values[value].type;
  if (from == type)
    return value;
  return op(is_unsigned(from) ? Opcode::kConvertU : Opcode::kConvert, type, {value});
}

BodyId BodyBuilder::contract(const Op &op_, const Index &index) {
  std::map<char, Expr> at;
  for (size_t i = 0; i < op_.labels[2].size(); ++i)
    at[op_.labels[2][i]] = index[i];
  std::vector<uint32_t> axes;
  for (size_t side = 0; side < 2; ++side) {
    const std::vector<Expr> &dims = view_.function.values[op_.operands[side]].type.dims;
    for (size_t i = 0; i < dims.size(); ++i)
      if (!at.count(op_.labels[side][i])) {
        uint32_t axis = add_axis("k", dims[i]);
        at[op_.labels[side][i]] = Expr(d_.axes[axis].symbol);
        if (!(dims[i] == Expr(1)))
          axes.push_back(axis);
      }
  }
  BodyId sides[2];
  const size_t outer = contracted_.size();
  contracted_.insert(contracted_.end(), axes.begin(), axes.end());
  for (size_t side = 0; side < 2; ++side) {
    Index inner;
    for (char label : op_.labels[side])
      inner.push_back(at[label]);
    sides[side] = element(op_.operands[side], inner);
  }
  contracted_.resize(outer);
  ElementType type = view_.function.values[op_.results[0]].type.element;
  bool narrow = type == ElementType::kF16 || type == ElementType::kBF16;
  ElementType wide = narrow ? ElementType::kF32 : type;
  for (BodyId &side : sides)
    side = widened(side, wide);
  BodyId sum = reduce_value(ReduceKind::kAdd, wide, op(Opcode::kMul, wide, {sides[0], sides[1]}), std::move(axes));
  return narrow ? op(Opcode::kConvert, type, {sum}) : sum;
}

BodyId BodyBuilder::conv(const Op &op_, const Index &index) {
  const graph::TensorType &x = view_.function.values[op_.operands[0]].type;
  const graph::TensorType &w = view_.function.values[op_.operands[1]].type;
  size_t spatial = w.dims.size() - 2;
  int64_t groups = op_.ints[0], x_block = op_.ints[1], result_block = op_.ints[2];
  Expr per_group = w.dims[1];
  Expr out = result_block ? index[1] * Expr(result_block) + index.back() : index[1];
  std::vector<uint32_t> axes;
  auto reduced = [&](const Expr &extent) {
    uint32_t axis = add_axis("k", extent);
    if (!(extent == Expr(1)))
      axes.push_back(axis);
    return Expr(d_.axes[axis].symbol);
  };
  // The innermost channels of a block are the last axis: a step of weights and input is then a line of memory.
  Expr c = reduced(x_block && groups == 1 ? floordiv(per_group, Expr(x_block)) : per_group);
  Index xi(x.dims.size()), wi(w.dims.size());
  xi[0] = index[0];
  Expr outputs_per_group = floordiv(w.dims[0], Expr(groups));
  if (x_block && groups > 1)
    xi[1] = index[1];
  else
    xi[1] = groups == 1 ? c : floordiv(out, outputs_per_group) * per_group + c;
  wi[0] = out;
  std::vector<Guard> added;
  for (size_t i = 0; i < spatial; ++i) {
    Expr k = reduced(w.dims[2 + i]);
    xi[2 + i] = index[2 + i] * Expr(op_.strides[i]) + k * Expr(op_.dilations[i]) - op_.exprs[i];
    wi[2 + i] = k;
    added.push_back({xi[2 + i], x.dims[2 + i]});
  }
  wi[1] = c;
  if (x_block && groups > 1) {
    xi.back() = index.back();
  } else if (x_block) {
    xi.back() = reduced(Expr(x_block));
    wi[1] = c * Expr(x_block) + xi.back();
  }
  size_t before = guards_.size();
  guards_.insert(guards_.end(), added.begin(), added.end());
  BodyId xv = element(op_.operands[0], xi);
  guards_.resize(before);
  BodyId wv = element(op_.operands[1], wi);
  ElementType type = view_.function.values[op_.results[0]].type.element;
  bool narrow = type == ElementType::kF16 || type == ElementType::kBF16;
  ElementType wide = narrow ? ElementType::kF32 : type;
  xv = widened(xv, wide);
  wv = widened(wv, wide);
  BodyId sum = reduce_value(ReduceKind::kAdd, wide, op(Opcode::kMul, wide, {xv, wv}), std::move(axes));
  return narrow ? op(Opcode::kConvert, type, {sum}) : sum;
}

BodyId BodyBuilder::pool(const Op &op_, const Index &index) {
  const graph::TensorType &x = view_.function.values[op_.operands[0]].type;
  size_t spatial = op_.strides.size();
  ElementType type = x.element;
  ElementType wide = type == ElementType::kF16 || type == ElementType::kBF16 ? ElementType::kF32 : type;
  Index xi(x.dims.size());
  xi[0] = index[0];
  xi[1] = index[1];
  if (op_.ints[2])
    xi.back() = index.back();
  std::vector<uint32_t> axes;
  std::vector<Guard> added, padded;
  for (size_t i = 0; i < spatial; ++i) {
    uint32_t axis = add_axis("k", Expr(op_.window[i]));
    Expr k(d_.axes[axis].symbol);
    if (op_.window[i] != 1)
      axes.push_back(axis);
    xi[2 + i] = index[2 + i] * Expr(op_.strides[i]) + k * Expr(op_.dilations[i]) - op_.exprs[i];
    added.push_back({xi[2 + i], x.dims[2 + i]});
    // Padding counts, what lies beyond it (ceil_mode) does not.
    padded.push_back({xi[2 + i] + op_.exprs[i], x.dims[2 + i] + op_.exprs[i] + op_.exprs[spatial + i]});
  }
  size_t before = guards_.size();
  guards_.insert(guards_.end(), added.begin(), added.end());
  BodyId v = element(op_.operands[0], xi);
  guards_.resize(before);
  bool guarded = false;
  for (const Guard &g : added)
    guarded = guarded || !proves_ge0(g.value) || !proves_lt(g.value, g.extent);
  if (op_.pool_mode == graph::PoolMode::kMax) {
    if (guarded) {
      BodyId lowest;
      if (is_float(type))
        lowest = constant_float(type, -HUGE_VAL);
      else if (is_unsigned(type))
        lowest = constant_int(type, 0);
      else
        lowest = constant_int(type, -(int64_t{1} << (byte_size(type) * 8 - 1)));
      // A plain guarded load can give the lowest value itself.
      if (d_.values[v].kind == ValueKind::kLoad && d_.values[v].guards.size() <= added.size()) {
        Value load = d_.values[v];
        load.otherwise = lowest;
        v = add(std::move(load));
      } else {
        v = op(Opcode::kSelect, type, {inside(added), v, lowest});
      }
    }
    return reduce_value(ReduceKind::kMax, type, v, std::move(axes));
  }
  if (wide != type)
    v = op(Opcode::kConvert, wide, {v});
  BodyId result;
  if (op_.pool_mode == graph::PoolMode::kLp) {
    double p = static_cast<double>(op_.ints[1]);
    BodyId a = op(Opcode::kAbs, wide, {v});
    BodyId powered = p == 1 ? a : p == 2 ? op(Opcode::kMul, wide, {v, v}) : op(Opcode::kPow, wide, {a, constant_float(wide, p)});
    BodyId sum = reduce_value(ReduceKind::kAdd, wide, powered, axes);
    result = p == 1 ? sum : p == 2 ? op(Opcode::kSqrt, wide, {sum}) : op(Opcode::kPow, wide, {sum, constant_float(wide, 1 / p)});
  } else {
    BodyId sum = reduce_value(ReduceKind::kAdd, wide, v, axes);
    // The number of elements under the window is a product of per-axis counts: plain index arithmetic.
    Expr count(1);
    for (size_t i = 0; i < spatial; ++i) {
      bool with_pads = op_.ints[0] != 0;
      Expr first = index[2 + i] * Expr(op_.strides[i]) - op_.exprs[i];
      Expr lo = with_pads ? -op_.exprs[i] : Expr(0);
      Expr hi = with_pads ? x.dims[2 + i] + op_.exprs[spatial + i] : x.dims[2 + i];
      Expr d(op_.dilations[i]);
      Expr skipped = max(Expr(0), ceildiv(lo - first, d));
      Expr end = min(Expr(op_.window[i]), max(Expr(0), ceildiv(hi - first, d)));
      count = count * max(Expr(0), end - skipped);
    }
    BodyId divisor = count.is_constant() ? constant_float(wide, static_cast<double>(*count.constant()))
                                         : op(Opcode::kConvert, wide, {index_value(count)});
    result = op(Opcode::kDiv, wide, {sum, divisor});
  }
  return wide != type ? op(Opcode::kConvert, type, {result}) : result;
}

BodyId BodyBuilder::gather(const Op &op_, const Index &index) {
  const graph::TensorType &x = view_.function.values[op_.operands[0]].type;
  const graph::TensorType &indices = view_.function.values[op_.operands[1]].type;
  size_t axis = static_cast<size_t>(op_.ints[0]), rank = indices.dims.size();
  Index at(index.begin() + static_cast<std::ptrdiff_t>(axis), index.begin() + static_cast<std::ptrdiff_t>(axis + rank));
  BodyId raw = element(op_.operands[1], at);
  if (indices.element != ElementType::kI64)
    raw = op(is_unsigned(indices.element) ? Opcode::kConvertU : Opcode::kConvert, ElementType::kI64, {raw});
  const Expr &extent = x.dims[axis];
  BodyId size = index_value(extent), nought = index_value(0);
  BodyId wrapped = op(Opcode::kSelect, ElementType::kI64,
                      {op(Opcode::kLt, ElementType::kBool, {raw, nought}), op(Opcode::kAdd, ElementType::kI64, {raw, size}), raw});
  BodyId last = op(Opcode::kSub, ElementType::kI64, {size, index_value(1)});
  BodyId safe = op(Opcode::kMax, ElementType::kI64, {op(Opcode::kMin, ElementType::kI64, {wrapped, last}), nought});
  dispatch::Check check;
  check.condition = op(Opcode::kNe, ElementType::kBool, {safe, wrapped});
  if (!guards_.empty())
    check.condition = op(Opcode::kAnd, ElementType::kBool, {check.condition, inside(guards_)});
  check.code = INGOT_KERNEL_ERROR_INDEX;
  check.site = op_.ints.size() > 1 ? op_.ints[1] : 0;
  d_.checks.push_back(check);
  Index inner(index.begin(), index.begin() + static_cast<std::ptrdiff_t>(axis));
  inner.push_back(Expr(Symbol::value("v" + std::to_string(safe), safe, extent)));
  inner.insert(inner.end(), index.begin() + static_cast<std::ptrdiff_t>(axis + rank), index.end());
  // An empty axis has no element to read, whatever the clamp says.
  if (proves_le(Expr(1), extent))
    return element(op_.operands[0], inner);
  size_t before = guards_.size();
  guards_.push_back({Expr(0), extent});
  BodyId result = element(op_.operands[0], inner);
  guards_.resize(before);
  return result;
}

dispatch::Dispatch BodyBuilder::build(graph::ValueId root, std::vector<graph::ValueId> &inputs) {
  inputs_ = &inputs;
  const graph::TensorType &type = view_.function.values[root].type;
  const Op *definition = view_.definition(root);
  ensure(definition != nullptr, "fuse: a root without a definition");
  const bool append = definition->code == graph::Opcode::kAppend;
  Index index;
  dispatch::Store store;
  for (const Expr &dim : append ? view_.function.values[definition->operands[1]].type.dims : type.dims) {
    if (dim == Expr(1)) {
      index.push_back(Expr(0));
      continue;
    }
    uint32_t axis = add_axis("a", dim);
    store.axes.push_back(axis);
    index.push_back(Expr(d_.axes[axis].symbol));
  }
  store.value = append ? element(definition->operands[1], index) : define(*definition, root, index);
  if (append && !index.empty())
    index[static_cast<size_t>(definition->ints[0])] = index[static_cast<size_t>(definition->ints[0])] + definition->exprs[0];
  std::vector<Expr> strides = row_major(type.dims);
  for (size_t i = 0; i < index.size(); ++i)
    store.offset = store.offset + index[i] * strides[i];
  dispatch::Operand out;
  out.name = "y";
  out.type = type.element;
  out.count = type.elements();
  out.output = true;
  store.operand = static_cast<uint32_t>(d_.operands.size());
  d_.operands.push_back(out);
  d_.stores.push_back(store);
  return std::move(d_);
}

} // namespace ingot::aotc::fuse
