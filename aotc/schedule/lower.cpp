// Expressions and body values to kernel ops. See lower.h.
#include "aotc/schedule/lower.h"

#include <algorithm>
#include <limits>

#include "aotc/base/error.h"

namespace ingot::aotc::schedule {

using dispatch::Guard;
using dispatch::ReduceKind;
using dispatch::Value;
using dispatch::ValueKind;
using kernel::kNoValue;
using kernel::Opcode;
using kernel::ValueId;
using kernel::Values;

Lowering::Lowering(kernel::Builder &builder, const dispatch::Dispatch &dispatch, const std::vector<Symbol> &params,
                   size_t arrays)
    : b_(builder), d_(dispatch), sets_(dispatch.axis_sets()), values_(dispatch.values.size(), kNoValue) {
  for (size_t i = 0; i < d_.operands.size(); ++i) {
    const dispatch::Operand &o = d_.operands[i];
    if (i + arrays >= d_.operands.size())
      b_.add_array(o.name, kernel::Space::kPrivate, to_scalar(o.type), static_cast<uint64_t>(*o.count.constant()), 64);
    else
      b_.add_buffer(o.name, o.output ? kernel::Access::kWrite : kernel::Access::kRead, to_scalar(o.type), 64, o.constant && !o.output);
  }
  int number = 0;
  for (const Symbol &symbol : params) {
    // Names of params need only be unique; symbols' names may repeat.
    ValueId value = b_.add_param("p" + std::to_string(number++), Scalar::kIndex, symbol.min(), symbol.max());
    symbols_[symbol] = {value, 0};
  }
  for (uint32_t i = 0; i < d_.axes.size(); ++i)
    axis_numbers_[d_.axes[i].symbol] = i;
}

Lowering::Scope::Scope(Lowering &l)
    : lowering_(l), values_(l.values_), expressions_(l.expressions_), symbols_(l.symbols_), bound_(l.bound_),
      lane_axis_(l.lane_axis_), lanes_(l.lanes_), count_(l.count_), lane_align_(l.lane_align_), assumed_(l.assumed_.size()) {
  ++l.depth_;
}

Lowering::Scope::~Scope() {
  lowering_.values_ = std::move(values_);
  lowering_.expressions_ = std::move(expressions_);
  lowering_.symbols_ = std::move(symbols_);
  lowering_.bound_ = bound_;
  lowering_.lane_axis_ = lane_axis_;
  lowering_.lanes_ = lanes_;
  lowering_.count_ = count_;
  lowering_.lane_align_ = lane_align_;
  lowering_.assumed_.resize(assumed_);
  --lowering_.depth_;
}

void Lowering::bind(uint32_t axis, ValueId value) {
  if (bound_ & axis_bit(axis)) { // bound anew: what depends on the old binding no longer holds
    for (size_t i = 0; i < values_.size(); ++i)
      if (sets_[i] & axis_bit(axis))
        values_[i] = kNoValue;
    expressions_.clear();
  }
  if (lane_axis_ == static_cast<int>(axis)) {
    lane_axis_ = -1;
    lanes_ = 1;
    count_ = kNoValue;
  }
  bound_ |= axis_bit(axis);
  symbols_[d_.axes[axis].symbol] = {value, depth_};
}

void Lowering::bind_symbol(const Symbol &symbol, ValueId value) { symbols_[symbol] = {value, depth_}; }

void Lowering::bind_lanes(uint32_t axis, ValueId base, uint32_t lanes, ValueId count, uint32_t align) {
  bind(axis, base);
  if (lanes == 1 && count == kNoValue)
    return;
  lane_axis_ = static_cast<int>(axis);
  lanes_ = lanes;
  count_ = count;
  lane_align_ = align;
}

uint32_t Lowering::alignment(const Expr &rest) const {
  return lane_align_ > 1 && mod(rest, int64_t{lane_align_}).constant() == 0 ? lane_align_ : 1;
}

ValueId Lowering::widen(ValueId value, uint32_t lanes) {
  return b_.type_of(value).lanes == lanes ? value : b_.splat(value, lanes);
}

void Lowering::set(dispatch::ValueId value, ValueId what) { values_[value] = what; }

bool Lowering::varies(dispatch::ValueId value) const {
  return lane_axis_ >= 0 && (sets_[value] & axis_bit(static_cast<uint32_t>(lane_axis_)));
}

bool Lowering::varies(const Expr &e) const {
  if (lane_axis_ < 0)
    return false;
  for (const Symbol &s : e.symbols()) {
    if (s.kind() == SymbolKind::kValue && varies(s.value()))
      return true;
    if (s == d_.axes[static_cast<size_t>(lane_axis_)].symbol)
      return true;
  }
  return false;
}

ValueId Lowering::leaf_symbol(const Symbol &symbol) {
  if (symbol.kind() == SymbolKind::kValue) {
    ValueId v = eval(symbol.value());
    return b_.convert(b_.type_of(v).with_scalar(Scalar::kIndex), v);
  }
  auto it = symbols_.find(symbol);
  ensure(it != symbols_.end(), "schedule: symbol " + symbol.name() + " is not bound in " + d_.name);
  if (lane_axis_ >= 0 && symbol == d_.axes[static_cast<size_t>(lane_axis_)].symbol)
    return b_.add(b_.splat(it->second.first, lanes_), b_.lane_iota(Type(Scalar::kIndex, lanes_)));
  return it->second.first;
}

int Lowering::depth_of(const Atom &a) const {
  if (a.op == ExprOp::kSymbol) {
    if (a.symbol.kind() == SymbolKind::kValue)
      return 1 << 20;
    auto it = symbols_.find(a.symbol);
    return it == symbols_.end() ? 1 << 20 : it->second.second;
  }
  int depth = 0;
  for (const Expr &e : a.args)
    depth = std::max(depth, depth_of(e));
  return depth;
}

int Lowering::depth_of(const Expr &e) const {
  int depth = 0;
  for (const Term &t : e.terms())
    for (const auto &f : t.factors)
      depth = std::max(depth, depth_of(*f));
  return depth;
}

namespace {

// Brings two index values to the same number of lanes.
void unify(kernel::Builder &b, ValueId &x, ValueId &y) {
  uint32_t nx = b.type_of(x).lanes, ny = b.type_of(y).lanes;
  if (nx < ny)
    x = b.splat(x, ny);
  else if (ny < nx)
    y = b.splat(y, nx);
}

} // namespace

ValueId Lowering::condition(const Expr &e) {
  if (e.terms().size() == 1 && e.terms()[0].coefficient == 1 && e.terms()[0].factors.size() == 1) {
    const Atom &a = *e.terms()[0].factors[0];
    switch (a.op) {
    case ExprOp::kEq:
    case ExprOp::kLt:
    case ExprOp::kLe: {
      ValueId x = expr_any(a.args[0]), y = expr_any(a.args[1]);
      unify(b_, x, y);
      return b_.compare(a.op == ExprOp::kEq ? Opcode::kEq : a.op == ExprOp::kLt ? Opcode::kLt : Opcode::kLe, x, y);
    }
    case ExprOp::kAnd:
    case ExprOp::kOr: {
      ValueId x = condition(a.args[0]), y = condition(a.args[1]);
      unify(b_, x, y);
      return b_.binary(a.op == ExprOp::kAnd ? Opcode::kAnd : Opcode::kOr, x, y);
    }
    case ExprOp::kNot:
      return b_.unary(Opcode::kNot, condition(a.args[0]));
    default:
      break;
    }
  }
  ValueId x = expr_any(e);
  return b_.compare(Opcode::kNe, x, b_.zero(b_.type_of(x)));
}

ValueId Lowering::atom(const Atom &a) {
  if (a.op == ExprOp::kSymbol)
    return leaf_symbol(a.symbol);
  bool vector = false;
  for (const Expr &e : a.args)
    vector |= varies(e);
  std::string key = (vector ? "v:" : "s:") + a.key;
  if (auto it = expressions_.find(key); it != expressions_.end())
    return it->second;
  ValueId result = kNoValue;
  switch (a.op) {
  case ExprOp::kFloorDiv:
  case ExprOp::kMod: {
    ValueId x = expr_any(a.args[0]), y = expr_any(a.args[1]);
    unify(b_, x, y);
    bool nonnegative = a.args[0].lower() >= 0;
    Type type = b_.type_of(x);
    if (a.op == ExprOp::kFloorDiv) {
      if (nonnegative) {
        result = b_.div(x, y);
      } else { // division truncates: move negative dividends down
        ValueId negative = b_.lt(x, b_.zero(type));
        ValueId moved = b_.add(b_.sub(x, y), b_.splat(b_.index(1), type.lanes));
        result = b_.div(b_.select(negative, moved, x), y);
      }
    } else {
      result = b_.rem(x, y);
      if (!nonnegative)
        result = b_.select(b_.lt(result, b_.zero(type)), b_.add(result, y), result);
    }
    break;
  }
  case ExprOp::kMin:
  case ExprOp::kMax: {
    result = expr_any(a.args[0]);
    for (size_t i = 1; i < a.args.size(); ++i) {
      ValueId y = expr_any(a.args[i]);
      unify(b_, result, y);
      result = a.op == ExprOp::kMin ? b_.min(result, y) : b_.max(result, y);
    }
    break;
  }
  case ExprOp::kSelect: {
    ValueId c = condition(a.args[0]), x = expr_any(a.args[1]), y = expr_any(a.args[2]);
    unify(b_, x, y);
    uint32_t lanes = b_.type_of(c).lanes;
    if (lanes > 1 && b_.type_of(x).lanes == 1) {
      x = b_.splat(x, lanes);
      y = b_.splat(y, lanes);
    }
    result = b_.select(c, x, y);
    break;
  }
  default: { // comparisons and logic are 0 or 1
    std::vector<Term> one(1);
    one[0].coefficient = 1;
    one[0].factors.push_back(std::make_shared<const Atom>(a));
    ValueId c = condition(Expr::from_terms(std::move(one)));
    uint32_t lanes = b_.type_of(c).lanes;
    result = b_.select(c, b_.splat(b_.index(1), lanes), b_.splat(b_.index(0), lanes));
  }
  }
  expressions_[key] = result;
  return result;
}

ValueId Lowering::expr(const Expr &e) {
  ValueId v = expr_any(e);
  ensure(b_.type_of(v).lanes == 1, "schedule: expression varies over lanes: " + e.to_string());
  return v;
}

ValueId Lowering::expr_any(const Expr &e) {
  if (auto c = e.constant())
    return b_.index(*c);
  bool vector = varies(e);
  std::string key;
  if (e.terms().size() > 1) {
    key = (vector ? "V:" : "S:") + e.to_string();
    if (auto it = expressions_.find(key); it != expressions_.end())
      return it->second;
  }
  // Terms of outer loops first: their sum is invariant in inner ones.
  std::vector<std::pair<int, const Term *>> order;
  for (const Term &t : e.terms()) {
    int depth = 0;
    bool term_varies = false;
    for (const auto &f : t.factors) {
      depth = std::max(depth, depth_of(*f));
      std::vector<Term> one(1);
      one[0].coefficient = 1;
      one[0].factors.push_back(f);
      term_varies |= vector && varies(Expr::from_terms(std::move(one)));
    }
    order.emplace_back(depth + (term_varies ? 1 << 24 : 0), &t);
  }
  std::stable_sort(order.begin(), order.end(), [](const auto &x, const auto &y) { return x.first < y.first; });
  ValueId sum = kNoValue;
  for (auto [depth, t] : order) {
    // Factors of one expression may mix scalars and vectors.
    ValueId product = b_.index(t->coefficient);
    for (const auto &f : t->factors) {
      ValueId x = atom(*f);
      unify(b_, product, x);
      product = b_.mul(product, x);
    }
    if (sum == kNoValue) {
      sum = product;
    } else {
      unify(b_, sum, product);
      sum = b_.add(sum, product);
    }
  }
  if (sum == kNoValue)
    sum = b_.index(0);
  if (!key.empty())
    expressions_[key] = sum;
  return sum;
}

ValueId Lowering::lane_mask(uint32_t lanes) {
  if (count_ == kNoValue)
    return kNoValue;
  return b_.lt(b_.lane_iota(Type(Scalar::kIndex, lanes)), b_.splat(count_, lanes));
}

ValueId Lowering::load(const Value &value) {
  uint32_t memory = value.operand;
  Scalar scalar = b_.kernel().memories[memory].type;
  auto constant_of = [&](uint32_t lanes) {
    if (value.otherwise == dispatch::kNoValue)
      return b_.zero(Type(scalar, lanes));
    const Value &c = d_.values[value.otherwise];
    return is_float(scalar) ? b_.constant_float(Type(scalar, lanes), c.fimm) : b_.constant(Type(scalar, lanes), c.imm);
  };
  // An axis of constant extent 0 has left the offset; nothing computed over it is stored, nor may it be read.
  if (d_.operands[memory].count.constant() == 0)
    return constant_of(1);
  // What does not vary over lanes decides for all of them; what does makes a mask.
  ValueId uniform = kNoValue, mask = kNoValue;
  for (const Guard &g : value.guards) {
    if (std::find(assumed_.begin(), assumed_.end(), g) != assumed_.end())
      continue;
    auto test = [&](bool low) {
      ValueId x = expr_any(g.value), y = low ? b_.index(0) : expr_any(g.extent);
      unify(b_, x, y);
      return b_.compare(low ? Opcode::kGe : Opcode::kLt, x, y);
    };
    for (bool low : {true, false}) {
      if (low ? proves_ge0(g.value) : proves_lt(g.value, g.extent))
        continue;
      ValueId c = test(low);
      ValueId &into = b_.type_of(c).lanes > 1 ? mask : uniform;
      into = into == kNoValue ? c : b_.logical_and(into, c);
    }
  }
  // A guard that varies may still leave no mask: proven, or assumed inside the interior of a padded row.
  if (!varies(value.expr) && mask == kNoValue) {
    ValueId offset = expr(value.expr);
    return uniform == kNoValue ? b_.load(memory, offset) : b_.load_if(memory, uniform, offset, constant_of(1));
  }
  const Symbol &lane = d_.axes[static_cast<size_t>(lane_axis_)].symbol;
  auto linear = value.expr.linear_in(lane);
  bool contiguous = linear && linear->coefficient.constant() == 1 && !varies(linear->rest);
  if (!varies(value.expr)) { // only guards vary
    ValueId offset = expr(value.expr);
    ValueId all = b_.constant(Scalar::kBool, 0); // some lane reads it
    ValueId m = mask;
    if (ValueId part = lane_mask(lanes_); part != kNoValue)
      m = b_.logical_and(m, part);
    for (uint32_t i = 0; i < lanes_; ++i)
      all = b_.binary(Opcode::kOr, all, b_.extract(m, i));
    if (uniform != kNoValue)
      all = b_.logical_and(all, uniform);
    ValueId loaded = b_.load_if(memory, all, offset, constant_of(1));
    if (uniform != kNoValue)
      m = b_.logical_and(m, b_.splat(uniform, lanes_));
    return b_.select(m, b_.splat(loaded, lanes_), constant_of(lanes_));
  }
  if (contiguous && mask == kNoValue) {
    ValueId offset = b_.add(expr(linear->rest), symbols_[lane].first);
    if (count_ == kNoValue)
      return uniform == kNoValue ? b_.load(memory, offset, lanes_, alignment(linear->rest))
                                 : b_.load_if(memory, uniform, offset, constant_of(lanes_));
    ValueId count = count_;
    if (uniform != kNoValue)
      count = b_.select(uniform, count_, b_.index(0));
    return b_.load_part(memory, offset, count, constant_of(lanes_));
  }
  if (ValueId part = lane_mask(lanes_); part != kNoValue)
    mask = mask == kNoValue ? part : b_.logical_and(mask, part);
  if (uniform != kNoValue)
    mask = mask == kNoValue ? b_.splat(uniform, lanes_) : b_.logical_and(mask, b_.splat(uniform, lanes_));
  if (contiguous) {
    ValueId offset = b_.add(expr(linear->rest), symbols_[lane].first);
    return b_.load_if(memory, mask, offset, constant_of(lanes_));
  }
  if (linear && linear->coefficient.constant() == 2 && !varies(linear->rest) && mask == kNoValue && lanes_ % 2 == 0) {
    // Every other element, from two vectors that end with the last one wanted.
    ValueId offset = b_.add(expr(linear->rest), b_.mul(symbols_[lane].first, b_.index(2)));
    ValueId low = b_.load(memory, offset, lanes_), high = b_.load(memory, b_.add(offset, b_.index(lanes_ - 1)), lanes_);
    std::vector<int64_t> pick;
    for (uint32_t i = 0; i < lanes_; ++i)
      pick.push_back(i < lanes_ / 2 ? 2 * i : 2 * i + 1);
    return b_.shuffle(low, high, pick);
  }
  ValueId indices = expr_any(value.expr);
  return mask == kNoValue ? b_.gather(memory, indices) : b_.gather(memory, indices, mask, constant_of(lanes_));
}

ValueId Lowering::identity(const Value &r, uint32_t lanes) {
  ElementType element = d_.values[r.args[0]].type;
  Type type(to_scalar(element), lanes);
  double infinity = std::numeric_limits<double>::infinity();
  uint32_t bits = bit_width(type.scalar);
  int64_t lowest = bits == 64 ? INT64_MIN : -(int64_t{1} << (bits - 1));
  switch (r.reduce) {
  case ReduceKind::kAdd:
  case ReduceKind::kOr:
    return b_.zero(type);
  case ReduceKind::kMul:
  case ReduceKind::kAnd:
    return is_float(type.scalar) ? b_.constant_float(type, 1) : b_.constant(type, 1);
  case ReduceKind::kMin:
  case ReduceKind::kArgMin:
  case ReduceKind::kArgMinLast:
    if (is_float(type.scalar))
      return b_.constant_float(type, infinity);
    return b_.constant(type, type.scalar == Scalar::kBool ? 1 : is_unsigned(element) ? -1 : -(lowest + 1));
  case ReduceKind::kMax:
  case ReduceKind::kArgMax:
  case ReduceKind::kArgMaxLast:
    if (is_float(type.scalar))
      return b_.constant_float(type, -infinity);
    return b_.constant(type, type.scalar == Scalar::kBool || is_unsigned(element) ? 0 : lowest);
  }
  throw InternalError("schedule: unknown reduction");
}

ValueId Lowering::combine(const Value &r, ValueId a, ValueId b) {
  ElementType element = d_.values[r.args[0]].type;
  switch (r.reduce) {
  case ReduceKind::kAdd:
    return b_.add(a, b);
  case ReduceKind::kMul:
    return b_.mul(a, b);
  case ReduceKind::kMin:
    if (element == ElementType::kBool)
      return b_.logical_and(a, b);
    return b_.binary(is_unsigned(element) ? Opcode::kMinU : Opcode::kMin, a, b);
  case ReduceKind::kMax:
    if (element == ElementType::kBool)
      return b_.binary(Opcode::kOr, a, b);
    return b_.binary(is_unsigned(element) ? Opcode::kMaxU : Opcode::kMax, a, b);
  case ReduceKind::kAnd:
    return b_.logical_and(a, b);
  case ReduceKind::kOr:
    return b_.binary(Opcode::kOr, a, b);
  default:
    throw InternalError("schedule: combine of an arg reduction");
  }
}

Values Lowering::loops(const std::vector<uint32_t> &axes, size_t from, const std::vector<dispatch::ValueId> &wanted,
                       const Values &init, const std::function<Values(const Values &)> &body) {
  for (dispatch::ValueId v : wanted)
    hoist(v);
  if (from == axes.size())
    return body(init);
  // Short windows (pooling) are unrolled.
  auto constant = d_.axes[axes[from]].extent.constant();
  uint32_t unroll = constant && *constant > 0 && *constant <= 5 ? static_cast<uint32_t>(*constant) : 1;
  return b_.for_loop(
      b_.index(0), extent(axes[from]), b_.index(1), init,
      [&](ValueId i, const Values &carried) {
        Scope scope(*this);
        bind(axes[from], i);
        return loops(axes, from + 1, wanted, carried, body);
      },
      lanes_ > 1 ? unroll : 1);
}

ValueId Lowering::reduce(dispatch::ValueId id) {
  const Value &r = d_.values[id];
  dispatch::ValueId arg = r.args[0];
  uint32_t lanes = varies(id) ? lanes_ : 1;
  bool is_arg = r.reduce >= ReduceKind::kArgMin;
  if (!is_arg) {
    // A product under a sum accumulates in one step.
    const Value &a = d_.values[arg];
    bool mad = r.reduce == ReduceKind::kAdd && is_float(to_scalar(a.type)) && a.kind == ValueKind::kOp &&
               a.code == Opcode::kMul && values_[arg] == kNoValue;
    std::vector<dispatch::ValueId> wanted = mad ? a.args : std::vector<dispatch::ValueId>{arg};
    Values sum = loops(r.axes, 0, wanted, {identity(r, lanes)}, [&](const Values &acc) {
      if (mad) {
        ValueId x = eval(a.args[0]), y = eval(a.args[1]);
        return Values{b_.mad(widen(x, lanes), widen(y, lanes), acc[0])};
      }
      ValueId x = eval(arg);
      return Values{combine(r, acc[0], widen(x, lanes))};
    });
    return sum[0];
  }
  ensure(r.axes.size() == 1, "schedule: an arg reduction has one axis");
  bool is_max = r.reduce == ReduceKind::kArgMax || r.reduce == ReduceKind::kArgMaxLast;
  bool last = r.reduce == ReduceKind::kArgMinLast || r.reduce == ReduceKind::kArgMaxLast;
  ElementType element = d_.values[arg].type;
  Values best = loops(
      r.axes, 0, {arg}, {identity(r, lanes), b_.constant(Type(Scalar::kI64, lanes), 0)}, [&](const Values &acc) {
        ValueId x = widen(eval(arg), lanes);
        Scalar scalar = b_.type_of(x).scalar;
        ValueId better;
        if (scalar == Scalar::kBool) {
          ValueId wins = is_max ? b_.logical_and(x, b_.unary(Opcode::kNot, acc[0]))
                                : b_.logical_and(b_.unary(Opcode::kNot, x), acc[0]);
          better = last ? b_.binary(Opcode::kOr, wins, b_.compare(Opcode::kEq, x, acc[0])) : wins;
        } else {
          Opcode signed_op = is_max ? (last ? Opcode::kGe : Opcode::kGt) : (last ? Opcode::kLe : Opcode::kLt);
          Opcode unsigned_op = is_max ? (last ? Opcode::kGeU : Opcode::kGtU) : (last ? Opcode::kLeU : Opcode::kLtU);
          better = b_.compare(is_unsigned(element) ? unsigned_op : signed_op, x, acc[0]);
          if (is_float(scalar)) { // a NaN wins over any number
            ValueId nan = b_.unary(Opcode::kIsNan, x);
            if (!last)
              nan = b_.logical_and(nan, b_.unary(Opcode::kNot, b_.unary(Opcode::kIsNan, acc[0])));
            better = b_.binary(Opcode::kOr, better, nan);
          }
        }
        ValueId i = b_.convert(Scalar::kI64, symbols_.at(d_.axes[r.axes[0]].symbol).first);
        return Values{b_.select(better, x, acc[0]), b_.select(better, b_.splat(i, lanes), acc[1])};
      });
  Scalar result = to_scalar(r.type);
  return b_.convert(Type(result, lanes), best[1]);
}

ValueId Lowering::eval(dispatch::ValueId id) {
  if (values_[id] != kNoValue)
    return values_[id];
  const Value &v = d_.values[id];
  Scalar scalar = to_scalar(v.type);
  ValueId result = kNoValue;
  switch (v.kind) {
  case ValueKind::kConst:
    result = is_float(scalar) ? b_.constant_float(scalar, v.fimm) : b_.constant(scalar, v.imm);
    break;
  case ValueKind::kIndex: {
    ValueId x = expr_any(v.expr);
    result = b_.convert(b_.type_of(x).with_scalar(scalar), x);
    break;
  }
  case ValueKind::kLoad:
    result = load(v);
    break;
  case ValueKind::kReduce:
    result = reduce(id);
    break;
  case ValueKind::kOp: {
    if (v.code == Opcode::kSelect && lanes_ > 1 && branches_ < kMostBranches && !varies(v.args[0])) { // of concatenations: one is loaded
      std::vector<bool> first(d_.values.size()), second(d_.values.size());
      bool loads = needs(v.args[1], first);
      loads = needs(v.args[2], second) || loads;
      if (loads) {
        for (dispatch::ValueId i = 0; i < id; ++i) // what both arms need is there before the branch
          if (first[i] && second[i] && (sets_[i] & ~bound_) == 0)
            eval(i);
        auto arm = [&](dispatch::ValueId a) {
          return [this, a] {
            Scope scope(*this);
            return Values{eval_lanes(a)};
          };
        };
        const ValueId condition = eval(v.args[0]);
        ++branches_;
        result = b_.if_else(condition, arm(v.args[1]), arm(v.args[2]))[0];
        --branches_;
        break;
      }
    }
    Values args;
    uint32_t lanes = 1;
    for (dispatch::ValueId a : v.args) {
      args.push_back(eval(a));
      lanes = std::max<uint32_t>(lanes, b_.type_of(args.back()).lanes);
    }
    for (size_t i = 0; i < args.size(); ++i) {
      bool scalar_condition = v.code == Opcode::kSelect && i == 0;
      if (!scalar_condition)
        args[i] = widen(args[i], lanes);
    }
    if (v.code == Opcode::kConvert)
      result = b_.convert(Type(scalar, lanes), args[0]);
    else if (v.code == Opcode::kConvertU)
      result = b_.convert_u(Type(scalar, lanes), args[0]);
    else if (v.code == Opcode::kBitcast)
      result = b_.bitcast(Type(scalar, lanes), args[0]);
    else if (args.size() == 1)
      result = b_.unary(v.code, args[0]);
    else if (args.size() == 2)
      result = b_.binary(v.code, args[0], args[1]);
    else
      result = b_.ternary(v.code, args[0], args[1], args[2]);
    break;
  }
  }
  values_[id] = result;
  return result;
}

bool Lowering::needs(dispatch::ValueId id, std::vector<bool> &seen) const {
  if (seen[id] || values_[id] != kNoValue)
    return false;
  seen[id] = true;
  const Value &v = d_.values[id];
  bool loads = v.kind == ValueKind::kLoad && varies(id);
  auto of = [&](const Expr &e) {
    for (const Symbol &s : e.symbols())
      if (s.kind() == SymbolKind::kValue)
        loads = needs(s.value(), seen) || loads;
  };
  for (dispatch::ValueId a : v.args)
    loads = needs(a, seen) || loads;
  of(v.expr);
  for (const Guard &g : v.guards) {
    of(g.value);
    of(g.extent);
  }
  return loads;
}

ValueId Lowering::eval_lanes(dispatch::ValueId id) {
  return widen(eval(id), lanes_);
}

void Lowering::hoist(const Expr &e) {
  std::vector<bool> seen(d_.values.size());
  hoist(e, seen);
}

void Lowering::hoist(dispatch::ValueId id) {
  std::vector<bool> seen(d_.values.size());
  hoist(id, seen);
}

void Lowering::hoist(const Expr &e, std::vector<bool> &seen) {
  for (const Symbol &s : e.symbols())
    if (s.kind() == SymbolKind::kValue)
      hoist(s.value(), seen);
}

void Lowering::hoist(dispatch::ValueId id, std::vector<bool> &seen) {
  if (seen[id] || values_[id] != kNoValue)
    return;
  seen[id] = true;
  if ((sets_[id] & ~bound_) == 0) {
    eval(id);
    return;
  }
  const Value &v = d_.values[id];
  for (dispatch::ValueId a : v.args)
    hoist(a, seen);
  if (v.kind == ValueKind::kLoad || v.kind == ValueKind::kIndex) {
    hoist(v.expr, seen);
    for (const Guard &g : v.guards) {
      hoist(g.value, seen);
      hoist(g.extent, seen);
    }
  }
}

void Lowering::store(const dispatch::Store &s) {
  if (d_.operands[s.operand].count.constant() == 0)
    return; // an axis is empty, and has left the offset
  ValueId value = eval(s.value);
  bool offset_varies = varies(s.offset);
  if (!offset_varies && b_.type_of(value).lanes == 1) {
    b_.store(s.operand, expr(s.offset), value);
    return;
  }
  value = eval_lanes(s.value);
  const Symbol &lane = d_.axes[static_cast<size_t>(lane_axis_)].symbol;
  auto linear = s.offset.linear_in(lane);
  if (linear && linear->coefficient.constant() == 1 && !varies(linear->rest)) {
    ValueId offset = b_.add(expr(linear->rest), symbols_[lane].first);
    if (count_ == kNoValue)
      b_.store(s.operand, offset, value, alignment(linear->rest));
    else
      b_.store_part(s.operand, offset, value, count_);
    return;
  }
  ValueId indices = expr_any(s.offset);
  b_.scatter(s.operand, indices, value, lane_mask(lanes_));
}

} // namespace ingot::aotc::schedule
