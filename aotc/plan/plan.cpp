// Steps to an archive function: live ranges, slots, expressions, command words.
#include "aotc/plan/plan.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <set>

#include "aotc/archive/commands.h"
#include "aotc/base/error.h"
#include "aotc/plan/memory.h"

namespace ingot::aotc::plan {

using fuse::Program;
using fuse::Step;
using fuse::Steps;
using fuse::Tensor;
using fuse::TensorId;

uint64_t WeightPool::add(const std::vector<uint8_t> &bytes) {
  uint64_t hash = 1469598103934665603u; // FNV-1a: finds candidates, equality is checked
  for (uint8_t b : bytes)
    hash = (hash ^ b) * 1099511628211u;
  auto range = known_.equal_range(hash);
  for (auto it = range.first; it != range.second; ++it) {
    auto [offset, size] = it->second;
    if (size == bytes.size() && std::memcmp(bytes_.data() + offset, bytes.data(), size) == 0)
      return offset;
  }
  bytes_.resize((bytes_.size() + 63) / 64 * 64);
  uint64_t offset = bytes_.size();
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  known_.emplace(hash, std::pair(offset, bytes.size()));
  return offset;
}

namespace {

ingot_element_type_t archive_type(ElementType type) {
  switch (type) {
  case ElementType::kNone: return INGOT_ELEMENT_TYPE_NONE;
  case ElementType::kBool: return INGOT_ELEMENT_TYPE_BOOL;
  case ElementType::kI8: return INGOT_ELEMENT_TYPE_I8;
  case ElementType::kU8: return INGOT_ELEMENT_TYPE_U8;
  case ElementType::kI16: return INGOT_ELEMENT_TYPE_I16;
  case ElementType::kU16: return INGOT_ELEMENT_TYPE_U16;
  case ElementType::kI32: return INGOT_ELEMENT_TYPE_I32;
  case ElementType::kU32: return INGOT_ELEMENT_TYPE_U32;
  case ElementType::kI64: return INGOT_ELEMENT_TYPE_I64;
  case ElementType::kU64: return INGOT_ELEMENT_TYPE_U64;
  case ElementType::kF16: return INGOT_ELEMENT_TYPE_F16;
  case ElementType::kBF16: return INGOT_ELEMENT_TYPE_BF16;
  case ElementType::kF32: return INGOT_ELEMENT_TYPE_F32;
  case ElementType::kF64: return INGOT_ELEMENT_TYPE_F64;
  }
  throw InternalError("plan: unknown element type");
}

struct Range {
  uint32_t first = UINT32_MAX, last = 0;
  bool live() const { return first != UINT32_MAX; }
};

class Planner {
 public:
  Planner(const Program &program, const std::vector<DispatchInfo> &dispatches, uint32_t weight_segment, uint32_t alignment,
          WeightPool &weights)
      : program_(program), dispatches_(dispatches), weight_segment_(weight_segment), alignment_(alignment), weights_(weights), exprs_(function_) {}

  archive::Function run(MemoryReport *report) {
    function_.name = program_.name;
    ranges_.resize(program_.tensors.size());
    walk(program_.steps);
    declare_symbols();
    for (size_t i = 0; i < program_.inputs.size(); ++i)
      function_.inputs.push_back(spec(program_.inputs[i], program_.input_tensors[i]));
    for (size_t i = 0; i < program_.outputs.size(); ++i)
      function_.outputs.push_back(spec(program_.outputs[i], program_.output_tensors[i]));
    assign_memory(report);
    error_sites();
    archive::CommandBuilder commands(function_.commands);
    emit(program_.steps, commands);
    return std::move(function_);
  }

 private:
  // ---- live ranges: positions count steps in order, a loop's start and end too

  void touch(TensorId t) {
    Range &r = ranges_[t];
    r.first = std::min(r.first, position_);
    r.last = std::max(r.last, position_);
    for (auto &loop : open_loops_)
      loop.touched.insert(t);
  }

  // Whether the step is a recurrence that may run beside those of `others`, which it neither waits for nor disturbs.
  bool runs_beside(const Step &step, const std::vector<const Step *> &others) const {
    if (step.kind != Step::Kind::kDispatch || !program_.dispatches[step.dispatch].sequence)
      return false;
    for (const Step *other : others)
      for (size_t i = 0; i < step.operands.size(); ++i)
        for (size_t k = 0; k < other->operands.size(); ++k)
          if (step.operands[i] == other->operands[k] && (program_.dispatches[step.dispatch].operands[i].output ||
                                                         program_.dispatches[other->dispatch].operands[k].output))
            return false;
    return true;
  }

  void walk(const Steps &steps) {
    std::vector<const Step *> together; // a recurrence is the work of one thread: neighbours share no memory, so that
                                        // several run at a time
    for (const Step &step : steps) {
      const bool beside = runs_beside(step, together);
      if (!beside || together.empty())
        ++position_;
      if (!beside)
        together.clear();
      if (step.kind == Step::Kind::kDispatch && program_.dispatches[step.dispatch].sequence)
        together.push_back(&step);
      switch (step.kind) {
      case Step::Kind::kDispatch:
      case Step::Kind::kCopy:
      case Step::Kind::kReadScalar:
      case Step::Kind::kHost:
        for (TensorId t : step.operands)
          touch(t);
        if (step.host)
          host_symbols_.insert(host_symbols_.end(), step.host->symbols.begin(), step.host->symbols.end());
        if (step.kind == Step::Kind::kReadScalar)
          host_symbols_.push_back(step.symbol);
        break;
      case Step::Kind::kCheck:
        note_bound(step.condition);
        break;
      case Step::Kind::kBind:
        host_symbols_.push_back(step.symbol);
        bound_to_[step.symbol].push_back(step.condition);
        break;
      case Step::Kind::kIf: {
        // A tensor that both branches write (the result) is one; branches run one after the other in this numbering.
        walk(step.then);
        ++position_;
        walk(step.otherwise);
        ++position_;
        break;
      }
      case Step::Kind::kLoop: {
        host_symbols_.push_back(step.loop->info.iteration);
        iterations_.push_back(step.loop->info.iteration);
        open_loops_.push_back({position_, {}});
        walk(step.then);
        ++position_;
        for (const auto &c : step.loop->carried) {
          touch(c.next);
          touch(c.state);
        }
        for (const auto &c : step.loop->scans) {
          touch(c.slice);
          touch(c.whole);
          ranges_[c.whole].first = std::min(ranges_[c.whole].first, open_loops_.back().start);
          if (!step.loop->info.trip_count)
            growing_.insert(c.whole);
        }
        for (const auto &s : step.loop->sizes)
          loop_sizes_.emplace(s.symbol, std::pair(s.next, step.loop->info.trip_count));
        if (step.loop->condition)
          touch(*step.loop->condition);
        // What came from outside must survive every iteration.
        for (TensorId t : open_loops_.back().touched)
          if (ranges_[t].first <= open_loops_.back().start)
            ranges_[t].last = std::max(ranges_[t].last, position_);
        open_loops_.pop_back();
        ++position_;
        break;
      }
      }
    }
  }

  // A check `symbol <= expression of input dims` bounds a host symbol: results of its size get that capacity.
  void note_bound(const Expr &condition) {
    if (condition.terms().size() != 1 || condition.terms()[0].factors.size() != 1)
      return;
    const Atom &atom = *condition.terms()[0].factors[0];
    auto symbol = atom.op == ExprOp::kLe ? atom.args[0].symbol() : std::nullopt;
    if (symbol && symbol->kind() == SymbolKind::kHost && !host_dependent(atom.args[1]))
      bounds_.emplace(*symbol, atom.args[1]);
  }

  // ---- bounds of results whose size depends on data, over input dims alone

  static constexpr int64_t kMost = (int64_t{1} << 31) * 8; // bytes: a tensor stays below 2^31 elements

  Expr capacity(const Expr &bytes) const {
    const Expr most = upper(bytes, 0);
    const int64_t ends = bytes.upper(); // what the symbols' ranges alone say
    if (most.constant() || ends < kMost)
      return max(0, min(most, Expr(std::min(ends, kMost))));
    return most;
  }

  // At least e, for all values of the host scalars; their lower ends are not below 0 where a size has them as factors.
  Expr upper(const Expr &e, int depth) const {
    if (!host_dependent(e))
      return e;
    if (depth > 12)
      return std::clamp<int64_t>(e.upper(), 0, kMost);
    Expr sum = 0;
    for (const Term &term : e.terms()) {
      Expr product = 1;
      for (const auto &factor : term.factors) {
        const Expr f = Expr::from_terms({{1, {factor}}});
        product = times(product, term.coefficient > 0 || !host_dependent(f) ? upper_atom(*factor, f, depth) : Expr(std::max<int64_t>(f.lower(), 0)));
      }
      sum = sum + times(product, term.coefficient);
    }
    return sum;
  }

  // Without overflow: what is above the limit stays there.
  static Expr times(const Expr &a, const Expr &b) {
    const auto x = a.constant(), y = b.constant();
    int64_t product;
    if (x && y && (__builtin_mul_overflow(*x, *y, &product) || product > kMost))
      return kMost;
    return a * b;
  }

  Expr upper_atom(const Atom &a, const Expr &self, int depth) const {
    if (!host_dependent(self))
      return self;
    const auto arg = [&](size_t i) { return upper(a.args[i], depth + 1); };
    switch (a.op) {
    case ExprOp::kSymbol: return upper_symbol(a.symbol, depth);
    case ExprOp::kMin: return min(arg(0), arg(1));
    case ExprOp::kMax: return max(arg(0), arg(1));
    case ExprOp::kSelect: return max(arg(1), arg(2));
    case ExprOp::kFloorDiv:
      if (const auto divisor = a.args[1].constant(); divisor && *divisor > 0)
        return floordiv(arg(0), *divisor);
      break;
    default: break;
    }
    return std::clamp<int64_t>(self.upper(), 0, kMost);
  }

  Expr upper_symbol(const Symbol &s, int depth) const {
    const Expr range = s.max();
    if (auto trips = trips_.find(s); trips != trips_.end())
      return upper(trips->second, depth + 1);
    if (auto bound = bounds_.find(s); bound != bounds_.end())
      return min(range, bound->second);
    auto values = bound_to_.find(s);
    if (values == bound_to_.end())
      return range;
    Expr most = upper(values->second[0], depth + 1);
    for (size_t i = 1; i < values->second.size(); ++i)
      most = max(most, upper(values->second[i], depth + 1));
    auto size = loop_sizes_.find(s);
    if (size == loop_sizes_.end())
      return min(range, most);
    // It may grow by as much in every iteration; what does not grow by a sum has only its range.
    const auto &[next, trips] = size->second;
    const Expr found = bound_to_.at(next)[0];
    if (!found.depends_on(s))
      return min(range, max(most, upper(found, depth + 1)));
    const auto linear = found.linear_in(s);
    if (!trips || !linear || !(linear->coefficient == Expr(1)))
      return range;
    return min(range, most + times(upper(*trips, depth + 1), max(0, upper(linear->rest, depth + 1))));
  }

  // ---- symbols and expressions

  void declare_symbols() {
    for (const Symbol &s : program_.dims)
      declare(s, archive::SymbolKind::input);
    for (const Symbol &s : host_symbols_)
      declare(s, archive::SymbolKind::host);
    for (const Symbol &s : iterations_) // after the loop it is the number of iterations, one more than the last
      function_.symbols[symbols_.at(s.id())].max += 1;
    // Iterations done is what the iteration number is after the loop.
    std::function<void(const Steps &)> alias = [&](const Steps &steps) {
      for (const Step &step : steps) {
        if (step.kind == Step::Kind::kLoop && step.loop->info.trips)
          symbols_[step.loop->info.trips.id()] = symbols_.at(step.loop->info.iteration.id());
        if (step.kind == Step::Kind::kLoop && step.loop->info.trips)
          trips_.emplace(step.loop->info.trips, step.loop->info.trip_count ? *step.loop->info.trip_count : Expr(step.loop->info.iteration) + 1);
        alias(step.then);
        alias(step.otherwise);
      }
    };
    alias(program_.steps);
  }

  void declare(const Symbol &s, archive::SymbolKind kind) {
    if (symbols_.count(s.id()))
      return;
    symbols_[s.id()] = static_cast<uint32_t>(function_.symbols.size());
    archive::Symbol symbol;
    symbol.name = s.name();
    symbol.min = s.min();
    symbol.max = s.max();
    symbol.kind = kind;
    function_.symbols.push_back(std::move(symbol));
  }

  uint32_t expr(const Expr &e) {
    std::string key = e.to_string();
    auto it = expr_cache_.find(key);
    if (it != expr_cache_.end())
      return it->second;
    uint32_t sum = archive::kNone;
    for (const Term &term : e.terms()) {
      uint32_t p = archive::kNone;
      for (const auto &factor : term.factors) {
        uint32_t f = atom(*factor);
        p = p == archive::kNone ? f : exprs_.mul(p, f);
      }
      if (p == archive::kNone)
        p = exprs_.constant(term.coefficient);
      else if (term.coefficient != 1)
        p = exprs_.mul(p, exprs_.constant(term.coefficient));
      sum = sum == archive::kNone ? p : exprs_.add(sum, p);
    }
    if (sum == archive::kNone)
      sum = exprs_.constant(0);
    expr_cache_.emplace(std::move(key), sum);
    return sum;
  }

  uint32_t atom(const Atom &a) {
    using Op = archive::ExprOp;
    auto two = [&](Op op) { return exprs_.binary(op, expr(a.args[0]), expr(a.args[1])); };
    switch (a.op) {
    case ExprOp::kSymbol: {
      auto it = symbols_.find(a.symbol.id());
      if (it == symbols_.end() && a.symbol.kind() == SymbolKind::kDim) { // with a usual value: the dim of that name
        auto dim = std::find_if(program_.dims.begin(), program_.dims.end(), [&](const Symbol &s) { return s.name() == a.symbol.name(); });
        it = dim == program_.dims.end() ? it : symbols_.find(dim->id());
      }
      ensure(it != symbols_.end(), "plan: symbol " + a.symbol.name() + " is never bound");
      return exprs_.symbol(it->second);
    }
    case ExprOp::kFloorDiv: return two(Op::floordiv);
    case ExprOp::kMod: return two(Op::mod);
    case ExprOp::kMin: return two(Op::min);
    case ExprOp::kMax: return two(Op::max);
    case ExprOp::kEq: return two(Op::eq);
    case ExprOp::kLt: return two(Op::lt);
    case ExprOp::kLe: return two(Op::le);
    case ExprOp::kAnd: return two(Op::logical_and);
    case ExprOp::kOr: return two(Op::logical_or);
    case ExprOp::kNot: return exprs_.logical_not(expr(a.args[0]));
    case ExprOp::kSelect: return exprs_.select(expr(a.args[0]), expr(a.args[1]), expr(a.args[2]));
    }
    throw InternalError("plan: unknown expression");
  }

  static bool host_dependent(const Expr &e) {
    for (const Symbol &s : e.symbols())
      if (s.kind() == SymbolKind::kHost)
        return true;
    return false;
  }

  bool is_host(TensorId t) const { return program_.tensors[t].type.element == graph::kHostValue; }

  Expr byte_count(TensorId t) const {
    const Tensor &x = program_.tensors[t];
    return x.type.elements() * Expr(static_cast<int64_t>(byte_size(x.type.element)));
  }

  // Bytes to reserve: results stacked by a loop get room for its trip count, whatever ends it earlier; where it has none,
  // for one more than are done.
  Expr reserved_bytes(TensorId t) const {
    Expr bytes = byte_count(t);
    return trips_.empty() ? bytes : bytes.substitute(trips_);
  }

  archive::TensorSpec spec(const graph::Signature &signature, TensorId t) {
    const Tensor &x = program_.tensors[t];
    archive::TensorSpec s;
    s.name = signature.name;
    s.type = is_host(t) ? (signature.strings ? INGOT_ELEMENT_TYPE_STRING : INGOT_ELEMENT_TYPE_VALUE) : archive_type(x.type.element);
    for (const Expr &d : x.type.dims) {
      s.dims.push_back(expr(d));
      auto symbol = d.symbol();
      s.dim_names.push_back(symbol ? symbol->name() : "");
    }
    if (x.kind == Tensor::Kind::kOutput && is_host(t))
      s.capacity = expr(0);
    else if (x.kind == Tensor::Kind::kOutput && host_dependent(byte_count(t)))
      s.capacity = expr(capacity(byte_count(t)));
    return s;
  }

  // ---- memory

  void assign_memory(MemoryReport *report) {
    // By the host scalars of their sizes; none come first. What grows while it is alive must not move, so it is alone.
    std::map<std::vector<uint64_t>, std::vector<Interval>> arenas;
    for (TensorId t = 0; t < program_.tensors.size(); ++t)
      if (program_.tensors[t].kind == Tensor::Kind::kTransient && ranges_[t].live() && !is_host(t)) {
        Expr bytes = reserved_bytes(t);
        std::vector<uint64_t> key;
        for (const Symbol &s : bytes.symbols())
          if (s.kind() == SymbolKind::kHost)
            key.push_back(s.id());
        if (growing_.count(t))
          key.push_back(UINT64_MAX - t);
        arenas[key].push_back({t, ranges_[t].first, ranges_[t].last, bytes});
      }
    std::map<TensorId, std::pair<uint32_t, uint32_t>> places; // arena, offset expression
    for (const auto &[key, intervals] : arenas) {
      Layout layout = lay_out(intervals, alignment_);
      if (report) {
        report->arena_bytes += layout.representative_size;
        report->live_bytes += layout.representative_live;
      }
      uint32_t number = static_cast<uint32_t>(function_.arenas.size());
      std::vector<uint32_t> offsets(intervals.size());
      uint32_t size = layout.fixed ? exprs_.constant(layout.representative_size) : exprs_.constant(0);
      for (size_t i : layout.order) {
        uint32_t offset = layout.fixed ? exprs_.constant(layout.offsets[i]) : exprs_.constant(0);
        auto end = [&](size_t j) { return exprs_.add(offsets[j], expr(layout.padded[j])); };
        if (!layout.fixed) {
          for (size_t k = 0; k < layout.below[i].size(); ++k)
            offset = k == 0 ? end(layout.below[i][k]) : exprs_.binary(archive::ExprOp::max, offset, end(layout.below[i][k]));
        }
        offsets[i] = offset;
        if (!layout.fixed && layout.top[i])
          size = exprs_.binary(archive::ExprOp::max, size, end(i));
      }
      function_.arenas.push_back(size);
      for (size_t i = 0; i < intervals.size(); ++i)
        places.emplace(intervals[i].tensor, std::pair(number, offsets[i]));
    }
    slots_.assign(program_.tensors.size(), archive::kNone);
    for (TensorId t = 0; t < program_.tensors.size(); ++t) {
      const Tensor &x = program_.tensors[t];
      bool io = x.kind == Tensor::Kind::kInput || x.kind == Tensor::Kind::kOutput;
      if (!io && !ranges_[t].live())
        continue;
      if (is_host(t)) {
        slots_[t] = host_slot(x);
        continue;
      }
      archive::Slot slot;
      slot.name = x.name;
      slot.size = expr(reserved_bytes(t));
      switch (x.kind) {
      case Tensor::Kind::kInput:
        slot.kind = archive::SlotKind::input;
        slot.of = x.index;
        break;
      case Tensor::Kind::kOutput:
        slot.kind = archive::SlotKind::output;
        slot.of = x.index;
        break;
      case Tensor::Kind::kState:
        slot.kind = archive::SlotKind::state;
        slot.of = x.index;
        break;
      case Tensor::Kind::kPrepared:
        slot.kind = archive::SlotKind::prepared;
        slot.of = x.index;
        break;
      case Tensor::Kind::kConstant:
        if (x.splat) {
          slot.kind = archive::SlotKind::splat;
          slot.pattern_bytes = static_cast<uint8_t>(byte_size(x.type.element));
          std::memcpy(&slot.pattern, x.constant->bytes.data(), slot.pattern_bytes);
        } else {
          slot.kind = archive::SlotKind::constant;
          slot.of = weight_segment_;
          slot.segment_offset = weights_.add(x.constant->bytes);
        }
        break;
      case Tensor::Kind::kTransient: {
        auto [arena, offset] = places.at(t);
        slot.kind = archive::SlotKind::transient;
        slot.of = arena;
        slot.offset = offset;
        break;
      }
      }
      slots_[t] = static_cast<uint32_t>(function_.slots.size());
      function_.slots.push_back(std::move(slot));
    }
  }

  // The number of a slot for a value that the runtime keeps.
  uint32_t host_slot(const Tensor &x) {
    archive::HostSlot slot;
    switch (x.kind) {
    case Tensor::Kind::kInput: slot.kind = program::HostSlotKind::input; break;
    case Tensor::Kind::kOutput: slot.kind = program::HostSlotKind::output; break;
    case Tensor::Kind::kTransient: break;
    case Tensor::Kind::kPrepared: case Tensor::Kind::kState: break; // none is a list or a string
    case Tensor::Kind::kConstant:
      slot.kind = program::HostSlotKind::constant;
      slot.type = x.constant->type == graph::kHostValue ? INGOT_ELEMENT_TYPE_STRING : archive_type(x.constant->type);
      for (const Expr &d : x.type.dims)
        slot.dims.push_back(static_cast<uint32_t>(*d.constant()));
      slot.offset = weights_.add(x.constant->bytes);
      slot.size = x.constant->bytes.size();
      break;
    }
    slot.of = x.kind == Tensor::Kind::kConstant ? weight_segment_ : x.index;
    function_.host_slots.push_back(std::move(slot));
    return static_cast<uint32_t>(function_.host_slots.size() - 1);
  }

  void error_sites() {
    // "node 'NAME' (OP): MESSAGE", as importers write it.
    for (const std::string &text : program_.sites) {
      archive::ErrorSite site;
      size_t quote = text.find('\''), close = quote == std::string::npos ? quote : text.find("' (", quote + 1);
      size_t end = close == std::string::npos ? close : text.find("): ", close);
      if (end != std::string::npos) {
        site.node = text.substr(quote + 1, close - quote - 1);
        site.op = text.substr(close + 3, end - close - 3);
        site.message = text.substr(end + 3);
      } else {
        site.message = text;
      }
      function_.error_sites.push_back(std::move(site));
    }
  }

  // ---- commands

  // Whether a step needs the writes of steps since the last barrier, or overwrites what they use.
  struct Use {
    TensorId tensor;
    bool writes;
    const fuse::SizeRange *sizes = nullptr; // alternatives do not wait for each other
  };
  void order(const std::vector<Use> &uses, archive::CommandBuilder &out) {
    for (auto [t, writes, sizes] : uses)
      for (auto [u, written, others] : pending_) {
        if ((!writes && !written) || (sizes && others && sizes->group == others->group && sizes->from != others->from))
          continue;
        bool same_memory = t == u;
        if (!same_memory && program_.tensors[t].kind == Tensor::Kind::kTransient &&
            program_.tensors[u].kind == Tensor::Kind::kTransient)
          same_memory = ranges_[t].first > ranges_[u].last || ranges_[u].first > ranges_[t].last; // may share bytes
        if (same_memory) {
          flush(out);
          for (auto use : uses)
            pending_.push_back(use);
          return;
        }
      }
    for (auto use : uses)
      pending_.push_back(use);
  }

  void flush(archive::CommandBuilder &out) {
    if (!pending_.empty())
      out.barrier();
    pending_.clear();
  }

  void emit(const Steps &steps, archive::CommandBuilder &out) {
    for (const Step &step : steps) {
      switch (step.kind) {
      case Step::Kind::kDispatch:
        emit_dispatch(step, out);
        break;
      case Step::Kind::kCopy:
        emit_copy(step.operands[0], step.operands[1], Expr(0), byte_count(step.operands[1]), out);
        break;
      case Step::Kind::kReadScalar:
        pending_.clear(); // a read waits for everything
        out.read_scalar(slots_[step.operands[0]], expr(0),
                        archive_type(program_.tensors[step.operands[0]].type.element),
                        symbols_.at(step.symbol.id()));
        break;
      case Step::Kind::kHost:
        emit_host(step, out);
        break;
      case Step::Kind::kCheck:
        out.check(expr(step.condition), message(step.text));
        break;
      case Step::Kind::kBind:
        flush(out);
        out.bind(expr(step.condition), symbols_.at(step.symbol.id()));
        break;
      case Step::Kind::kIf:
        flush(out);
        out.begin_if(expr(step.condition));
        emit(step.then, out);
        flush(out);
        out.begin_else();
        emit(step.otherwise, out);
        flush(out);
        out.end_if();
        break;
      case Step::Kind::kLoop:
        emit_loop(step, out);
        break;
      }
    }
  }

  void emit_host(const Step &step, archive::CommandBuilder &out) {
    const fuse::HostStep &host = *step.host;
    pending_.clear(); // what touches tensors waits for everything before
    std::vector<uint32_t> results, sources, exprs, symbols, immediates;
    for (size_t i = 0; i < step.operands.size(); ++i) {
      const TensorId t = step.operands[i];
      if (is_host(t))
        (i + host.results >= step.operands.size() ? results : sources).push_back(slots_[t]);
      else
        immediates = {slots_[t], static_cast<uint32_t>(archive_type(program_.tensors[t].type.element))}; // box and put
    }
    for (const Expr &e : host.exprs)
      exprs.push_back(expr(e));
    for (const Symbol &s : host.symbols)
      symbols.push_back(symbols_.at(s.id()));
    for (int64_t i : host.immediates)
      immediates.push_back(static_cast<uint32_t>(i));
    if (host.code == program::HostOp::empty || host.code == program::HostOp::shape) {
      const auto element = static_cast<ElementType>(immediates[0]);
      immediates[0] = element == graph::kHostValue ? INGOT_ELEMENT_TYPE_STRING : archive_type(element);
    }
    out.host_op(host.code, results, sources, exprs, symbols, immediates);
  }

  uint32_t message(const std::string &text) {
    function_.messages.push_back(text);
    return static_cast<uint32_t>(function_.messages.size() - 1);
  }

  void emit_copy(TensorId from, TensorId to, const Expr &to_offset, const Expr &bytes, archive::CommandBuilder &out) {
    if (is_host(from)) {
      out.host_op(program::HostOp::copy, {slots_[to]}, {slots_[from]}, {}, {}, {});
      return;
    }
    order({{from, false}, {to, true}}, out);
    out.copy(slots_[to], expr(to_offset), slots_[from], expr(0), expr(bytes));
  }

  void emit_dispatch(const Step &step, archive::CommandBuilder &out) {
    const dispatch::Dispatch &d = program_.dispatches[step.dispatch];
    const DispatchInfo &info = dispatches_[step.dispatch];
    archive::Site site;
    site.kernel = info.kernel;
    site.nodes = d.nodes;
    const Expr holds = step.sizes ? step.sizes->holds() : Expr(1);
    site.flops = expr(info.cost.flops * holds);
    site.bytes = expr(info.cost.bytes * holds);
    uint32_t number = static_cast<uint32_t>(function_.sites.size());
    function_.sites.push_back(std::move(site));
    std::vector<archive::BindingRef> bindings;
    std::vector<Use> uses;
    for (size_t i = 0; i < d.operands.size(); ++i) {
      TensorId t = step.operands[i];
      bindings.push_back({slots_[t], expr(0), function_.slots[slots_[t]].size});
      if (program_.tensors[t].kind != Tensor::Kind::kConstant)
        uses.push_back({t, d.operands[i].output, step.sizes ? &*step.sizes : nullptr});
    }
    order(uses, out);
    std::vector<uint32_t> params;
    if (info.params)
      for (const Expr &e : *info.params)
        params.push_back(expr(e));
    else if (d.loop)
      for (const Expr &e : d.loop->params)
        params.push_back(expr(e));
    else
      for (const Symbol &s : d.free_symbols())
        params.push_back(expr(Expr(s)));
    out.dispatch(info.kernel, number, expr(info.grid[0] * holds), expr(info.grid[1]), expr(info.grid[2]), bindings, params);
  }

  void emit_loop(const Step &step, archive::CommandBuilder &out) {
    const fuse::LoopStep &loop = *step.loop;
    flush(out);
    uint32_t condition = archive::kNone;
    if (loop.condition) {
      // A host symbol of its own holds the condition; before the loop it is what the model says, usually true.
      archive::Symbol s;
      s.name = program_.name + ".loop" + std::to_string(function_.symbols.size());
      s.min = 0;
      s.max = 1;
      s.kind = archive::SymbolKind::host;
      condition = static_cast<uint32_t>(function_.symbols.size());
      function_.symbols.push_back(s);
      out.read_scalar(true_slot(), expr(0), INGOT_ELEMENT_TYPE_BOOL, condition);
    }
    Expr trips = loop.info.trip_count ? *loop.info.trip_count : Expr(INT64_MAX);
    if (loop.info.initial_condition)
      trips = select(*loop.info.initial_condition, trips, Expr(0));
    bool unbounded = !loop.info.trip_count && !loop.info.initial_condition;
    out.begin_loop(unbounded ? archive::kNone : expr(trips), condition, symbols_.at(loop.info.iteration.id()));
    emit(step.then, out);
    emit_sizes(loop, false, out);
    for (const auto &scan : loop.scans)
      emit_copy(scan.slice, scan.whole, byte_count(scan.slice) * Expr(loop.info.iteration), byte_count(scan.slice), out);
    emit_sizes(loop, true, out);
    for (const auto &carried : loop.carried)
      emit_copy(carried.next, carried.state, Expr(0), byte_count(carried.state), out);
    flush(out);
    if (loop.condition)
      out.read_scalar(slots_[*loop.condition], expr(0), INGOT_ELEMENT_TYPE_BOOL, condition);
    out.end_loop();
  }

  void emit_sizes(const fuse::LoopStep &loop, bool carried, archive::CommandBuilder &out) {
    for (const fuse::LoopStep::Size &s : loop.sizes) {
      if (s.carried != carried)
        continue;
      flush(out);
      out.bind(expr(Expr(s.next)), symbols_.at(s.symbol.id()));
    }
  }

  uint32_t true_slot() {
    if (true_slot_ == archive::kNone) {
      archive::Slot slot;
      slot.kind = archive::SlotKind::splat;
      slot.pattern = 1;
      slot.pattern_bytes = 1;
      slot.size = expr(1);
      slot.name = "true";
      true_slot_ = static_cast<uint32_t>(function_.slots.size());
      function_.slots.push_back(slot);
    }
    return true_slot_;
  }

  struct OpenLoop {
    uint32_t start;
    std::set<TensorId> touched;
  };

  const Program &program_;
  const std::vector<DispatchInfo> &dispatches_;
  uint32_t weight_segment_, alignment_;
  WeightPool &weights_;
  archive::Function function_;
  archive::ExprBuilder exprs_;
  std::vector<Range> ranges_;
  std::vector<OpenLoop> open_loops_;
  std::vector<Symbol> host_symbols_;
  std::map<uint64_t, uint32_t> symbols_;
  std::map<Symbol, Expr> trips_, bounds_;
  std::map<Symbol, std::vector<Expr>> bound_to_;
  std::map<Symbol, std::pair<Symbol, std::optional<Expr>>> loop_sizes_; // what they become, and how often at most
  std::set<TensorId> growing_;
  std::vector<Symbol> iterations_;
  std::map<std::string, uint32_t> expr_cache_;
  std::vector<uint32_t> slots_;
  std::vector<Use> pending_;
  uint32_t position_ = 0;
  uint32_t true_slot_ = archive::kNone;
};

} // namespace

archive::Function plan_function(const Program &program, const std::vector<DispatchInfo> &dispatches,
                                uint32_t weight_segment, uint32_t alignment, WeightPool &weights,
                                MemoryReport *report) {
  return Planner(program, dispatches, weight_segment, alignment, weights).run(report);
}

} // namespace ingot::aotc::plan
