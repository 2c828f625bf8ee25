// Runs kernels: flattening of the op tree into instructions over slots, then execution of a workgroup's threads in
// lockstep. See interpreter_ops.h for slots and for ops without side effects.
#include "aotc/kernel/interpreter.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "aotc/base/error.h"
#include "aotc/kernel/fragment.h"
#include "aotc/kernel/integer.h"
#include "aotc/kernel/interpreter_ops.h"
#include "aotc/kernel/text.h"
#include "aotc/kernel/verifier.h"

namespace ingot::aotc::kernel {

using interp::Block;
using interp::Control;
using interp::Copy;
using interp::Instruction;

// ---- Flattening

struct Interpreter::Program {
  Kernel kernel;
  uint32_t threads = 1;
  uint32_t mask_depth = 1; // nesting of regions
  size_t slot_bytes = 0;
  size_t staging_bytes = 0; // for parallel copies
  std::vector<size_t> slots;          // by value
  std::vector<Instruction> prologue;  // leaves that are the same for every workgroup
  Block body;
  std::vector<Control> controls;

  explicit Program(const Kernel &source);
  size_t bytes_of(ValueId value) const {
    Type type = kernel.types[value];
    return size_t{byte_size(type.scalar)} * type.lanes;
  }
  Block flatten(const Region &region, uint32_t depth);
  std::vector<Copy> copies(const Values &from, const Values &to, size_t skip, bool &staged);
};

std::vector<Copy> Interpreter::Program::copies(const Values &from, const Values &to, size_t skip, bool &staged) {
  std::vector<Copy> list;
  staged = false;
  size_t total = 0;
  for (size_t k = 0; k < to.size(); ++k) {
    ValueId source = from[k + skip];
    if (source == to[k])
      continue;
    list.push_back({slots[source], slots[to[k]], static_cast<uint32_t>(bytes_of(source))});
    total += bytes_of(source) * threads;
    for (size_t j = 0; j < to.size(); ++j)
      staged |= source == to[j];
  }
  staging_bytes = std::max(staging_bytes, total);
  return list;
}

Interpreter::Program::Program(const Kernel &source) : kernel(source) {
  if (std::string problem = verify(kernel); !problem.empty())
    throw InternalError("interpreter: " + problem);
  threads = kernel.local_size[0] * kernel.local_size[1] * kernel.local_size[2];
  slots.resize(kernel.types.size());
  for (ValueId v = 0; v < kernel.types.size(); ++v) {
    slots[v] = slot_bytes;
    slot_bytes += (bytes_of(v) * threads + 15) & ~size_t{15};
  }
  body = flatten(kernel.body, 0);
}

Block Interpreter::Program::flatten(const Region &region, uint32_t depth) {
  mask_depth = std::max(mask_depth, depth + 1);
  Block block;
  for (const Op &op : region.ops) {
    if (op.code == Opcode::kYield || op.code == Opcode::kPrefetch)
      continue;
    Instruction in;
    in.code = op.code;
    in.op = &op;
    in.imm = op.imm;
    in.imm2 = op.imm2;
    in.fimm = op.fimm;
    in.memory = op.memory;
    in.align = op.align;
    in.lane_numbers = op.imms.data();
    if (op.regions.empty()) {
      in.operand_count = static_cast<uint32_t>(op.operands.size());
      if (op.code == Opcode::kTile || op.code == Opcode::kWarpgroupMma || op.code == Opcode::kWarpgroupWait || is_feed(op.code))
        for (const Values *list : {&op.operands, &op.results})
          for (ValueId id : *list)
            in.tile.push_back(slots[id]);
      for (size_t k = 0; k < op.operands.size() && k < std::size(in.operand); ++k)
        in.operand[k] = slots[op.operands[k]];
      if (!op.operands.empty())
        in.operand_lanes = kernel.types[op.operands[0]].lanes;
    }
    ValueId shape = op.results.empty() ? kNoValue : op.results[0];
    if (op.code == Opcode::kStore || op.code == Opcode::kStorePart || op.code == Opcode::kScatter)
      shape = op.operands[1];
    if (op.code == Opcode::kStoreIf)
      shape = op.operands[2];
    if (shape != kNoValue) {
      in.lanes = kernel.types[shape].lanes;
      in.scalar = kernel.types[shape].scalar;
      in.element_bytes = byte_size(in.scalar);
    }
    if (!op.results.empty())
      in.result = slots[op.results[0]];
    in.pure = interp::find_pure(kernel, op);
    if (op.code == Opcode::kMad && is_float(in.scalar)) {
      in.unfused = interp::find_unfused_mad(kernel.types[shape]);
      in.operand_count = 3;
    }
    if (is_leaf(op.code) && op.code != Opcode::kGroupId) {
      prologue.push_back(in);
      continue;
    }
    if (!op.regions.empty()) {
      Control control;
      control.depth = depth;
      auto leave = [&](const Values &from, const Values &to, size_t skip) {
        bool staged = false;
        control.leave.push_back(copies(from, to, skip, staged));
        control.staged.push_back(staged);
      };
      bool ignored = false;
      const Region &first = op.regions[0];
      const Values &yields = first.ops.back().operands;
      if (op.code == Opcode::kFor) {
        Values carried(first.params.begin() + 1, first.params.end());
        control.enter = copies(op.operands, carried, 3, ignored);
        leave(yields, carried, 0);
        leave(carried, op.results, 0);
        control.induction = slots[first.params[0]];
        for (size_t k = 0; k < 3; ++k)
          in.operand[k] = slots[op.operands[k]];
        in.scalar = kernel.types[op.operands[0]].scalar;
        in.element_bytes = byte_size(in.scalar);
      } else if (op.code == Opcode::kIf) {
        in.operand[0] = slots[op.operands[0]];
        leave(yields, op.results, 0);
        leave(op.regions[1].ops.back().operands, op.results, 0);
      } else {
        const Region &second = op.regions[1];
        control.enter = copies(op.operands, first.params, 0, ignored);
        leave(yields, second.params, 1);
        leave(second.ops.back().operands, first.params, 0);
        leave(yields, op.results, 1);
        control.condition = slots[yields[0]];
      }
      in.extra = static_cast<uint32_t>(controls.size());
      controls.emplace_back();
      for (const Region &part : op.regions)
        control.blocks.push_back(flatten(part, depth + 1));
      controls[in.extra] = std::move(control);
    }
    block.instructions.push_back(in);
  }
  return block;
}

// ---- Running

namespace {

struct Failure {
  std::string message;
};

// The active threads: those t in [begin, end) with bits[t] set; `bits` may be anything where all of them are.
struct Mask {
  uint8_t *bits = nullptr;
  uint32_t begin = 0, end = 0, count = 0;
  bool full() const { return count == end - begin; }
  bool has(uint32_t t) const { return full() || bits[t]; }
};

// Who touched an element since the last barrier. Pages are made when first touched.
struct Shadow {
  uint32_t write_epoch = 0, read_epoch = 0;
  uint32_t writer = 0, reader = 0;
};
constexpr uint32_t kAtomic = ~0u, kSeveral = ~0u - 1;
constexpr size_t kPage = 1024;

struct MemoryState {
  uint8_t *data = nullptr;
  uint64_t elements = 0;
  size_t thread_stride = 0; // bytes; private arrays
  std::vector<uint8_t> own; // arrays
  bool checked = false;     // for races
  std::vector<std::unique_ptr<Shadow[]>> pages;
};

// A copy under way. It arrives as late as it may, when its thread waits.
struct PendingCopy {
  const interp::Instruction *in;
  int64_t to = 0;
  std::array<uint8_t, 16> bytes = {};
};
// Boxes that are fed. A slice comes as soon as its place is free.
struct Feeds {
  struct Box {
    const interp::Instruction *in;
    std::vector<int64_t> coordinates; // of slice 0
  };
  std::vector<Box> boxes;
  int64_t stages = 0, slices = 0, brought = 0;
  int64_t waited = 0, freed = 0; // slices
};
struct PendingCopies {
  std::vector<PendingCopy> open;                 // since the last commit
  std::vector<std::vector<PendingCopy>> batches; // the oldest first
};

} // namespace

namespace interp {

class Machine {
 public:
  Machine(const Kernel &kernel, const std::vector<Control> &controls, uint32_t threads, const RunOptions &options)
      : kernel_(kernel), controls_(controls), options_(options), threads_(threads) {}

  void bind(std::span<const Binding> bindings);
  void allocate(size_t slot_bytes, size_t staging_bytes, uint32_t depth) {
    slots_.assign(slot_bytes + 64, 0);
    staging_.resize(staging_bytes + 64);
    masks_.assign(size_t{depth + 1} * threads_, 1);
  }
  void start(const std::vector<Instruction> &prologue);
  void group(const Block &body, uint64_t linear);
  uint64_t error_word() const { return error_word_; }
  uint64_t ops() const { return ops_; }

 private:
  void run(const Block &block, const Mask &mask);
  void step(const Instruction &in, const Mask &mask);
  void for_loop(const Instruction &in, const Mask &mask);
  void if_else(const Instruction &in, const Mask &mask);
  void while_loop(const Instruction &in, const Mask &mask);
  void memory_op(const Instruction &in, const Mask &mask);
  void subgroup_op(const Instruction &in, const Mask &mask);
  void copy_op(const Instruction &in, const Mask &mask);
  void feed_op(const Instruction &in, const Mask &mask);
  void bring(const Feeds::Box &box, int64_t slice);
  void fragment_load(const Instruction &in, const Mask &mask);
  void fragment_mma(const Instruction &in, const Mask &mask);
  void fragment_pack(const Instruction &in, const Mask &mask);
  void fragment_rows(const Instruction &in, const Mask &mask);
  void warpgroup_op(const Instruction &in, const Mask &mask);
  void need_all(const Instruction &in, const Mask &mask) const;
  uint32_t sum_row(uint32_t thread, uint32_t i) const;
  uint32_t sum_column(uint32_t thread, uint32_t i) const;
  uint8_t *sum(size_t offset, uint32_t first, uint32_t row, uint32_t column);
  uint8_t *factor_word(size_t offset, uint32_t first, uint32_t lane, uint32_t word);
  template <class T> void tile_op(const Instruction &in, const Mask &mask);
  void copy(const std::vector<Copy> &list, bool staged, const Mask &mask);
  void spend(uint64_t ops);

  template <class T> T *slot(size_t offset, uint32_t thread, uint32_t lanes = 1) {
    return reinterpret_cast<T *>(slots_.data() + offset) + size_t{thread} * lanes;
  }
  int64_t integer(size_t offset, Scalar scalar, uint32_t thread);
  void set_integer(size_t offset, Scalar scalar, uint32_t thread, int64_t value);

  // The address of elements [index, index + n) of a memory, checked.
  uint8_t *access(const Instruction &in, MemoryState &memory, uint32_t thread, int64_t index, uint32_t n, bool write,
                  bool atomic = false);
  void touch(const Instruction &in, MemoryState &memory, uint32_t thread, uint64_t element, bool write, bool atomic);
  [[noreturn]] void fail(const Instruction &in, uint32_t thread, const std::string &what) const;

  const Kernel &kernel_;
  const std::vector<Control> &controls_;
  const RunOptions &options_;
  uint32_t threads_;
  std::vector<uint8_t> slots_, staging_, masks_;
  std::vector<MemoryState> memories_;
  std::vector<PendingCopies> pending_; // by thread
  Feeds feeds_;
  std::array<uint64_t, 3> group_ = {0, 0, 0};
  uint32_t epoch_ = 0;
  uint64_t error_word_ = 0, ops_ = 0;
};

void Machine::fail(const Instruction &in, uint32_t thread, const std::string &what) const {
  auto triple = [](uint64_t x, uint64_t y, uint64_t z) {
    return "(" + std::to_string(x) + ", " + std::to_string(y) + ", " + std::to_string(z) + ")";
  };
  uint32_t x = kernel_.local_size[0], y = kernel_.local_size[1];
  std::string op = print_op(kernel_, *in.op);
  op = op.substr(0, op.find('\n'));
  throw Failure{"kernel " + kernel_.name + ": " + what + ", by thread " +
                triple(thread % x, thread / x % y, thread / x / y) + " of group " +
                triple(group_[0], group_[1], group_[2]) + ", in: " + op};
}

void Machine::spend(uint64_t ops) {
  ops_ += ops;
  if (options_.fuel != 0 && ops_ > options_.fuel)
    throw Failure{"kernel " + kernel_.name + ": out of fuel after " + std::to_string(options_.fuel) + " ops"};
}

int64_t Machine::integer(size_t offset, Scalar scalar, uint32_t thread) {
  switch (scalar) {
  case Scalar::kBool: return *slot<uint8_t>(offset, thread);
  case Scalar::kI8: return *slot<int8_t>(offset, thread);
  case Scalar::kI16: return *slot<int16_t>(offset, thread);
  case Scalar::kI32: return *slot<int32_t>(offset, thread);
  default: return *slot<int64_t>(offset, thread);
  }
}

void Machine::set_integer(size_t offset, Scalar scalar, uint32_t thread, int64_t value) {
  switch (scalar) {
  case Scalar::kI8: *slot<int8_t>(offset, thread) = static_cast<int8_t>(value); break;
  case Scalar::kI16: *slot<int16_t>(offset, thread) = static_cast<int16_t>(value); break;
  case Scalar::kI32: *slot<int32_t>(offset, thread) = static_cast<int32_t>(value); break;
  default: *slot<int64_t>(offset, thread) = value;
  }
}

void Machine::bind(std::span<const Binding> bindings) {
  size_t buffers = kernel_.buffer_count();
  if (bindings.size() != buffers)
    throw Failure{"kernel " + kernel_.name + ": " + std::to_string(buffers) + " buffers are needed, " +
                  std::to_string(bindings.size()) + " are bound"};
  if (options_.params.size() != kernel_.params.size())
    throw Failure{"kernel " + kernel_.name + ": " + std::to_string(kernel_.params.size()) + " params are needed, " +
                  std::to_string(options_.params.size()) + " are given"};
  for (size_t i = 0; i < kernel_.params.size(); ++i) {
    const Param &param = kernel_.params[i];
    int64_t value = options_.params[i];
    if (!is_float(param.type) && (value < param.min || value > param.max))
      throw Failure{"kernel " + kernel_.name + ": param " + param.name + " is " + std::to_string(value) +
                    ", outside its range " + std::to_string(param.min) + " to " + std::to_string(param.max)};
  }
  memories_.resize(kernel_.memories.size());
  for (size_t i = 0; i < memories_.size(); ++i) {
    const Memory &memory = kernel_.memories[i];
    MemoryState &state = memories_[i];
    size_t size = byte_size(memory.type);
    if (memory.space == Space::kBuffer) {
      state.data = static_cast<uint8_t *>(bindings[i].data);
      state.elements = bindings[i].bytes / size;
    } else {
      size_t copies = memory.space == Space::kPrivate ? threads_ : 1;
      state.elements = memory.count;
      state.thread_stride = memory.space == Space::kPrivate ? memory.count * size : 0;
      state.own.resize(memory.count * size * copies);
      state.data = state.own.data();
    }
    state.checked = options_.check_races && threads_ > 1 && memory.space != Space::kPrivate &&
                    (memory.space == Space::kWorkgroup || memory.access != Access::kRead);
    if (state.checked)
      state.pages.resize(state.elements / kPage + 1);
  }
}

void Machine::start(const std::vector<Instruction> &prologue) {
  for (const Instruction &in : prologue) {
    if (in.pure) {
      in.pure(slots_.data(), in, 0, threads_);
      continue;
    }
    for (uint32_t t = 0; t < threads_; ++t) {
      uint32_t x = kernel_.local_size[0], y = kernel_.local_size[1];
      uint32_t local[3] = {t % x, t / x % y, t / x / y};
      if (in.code == Opcode::kLocalId)
        *slot<int64_t>(in.result, t) = local[in.imm];
      else if (in.code == Opcode::kGridSize)
        *slot<int64_t>(in.result, t) = options_.grid[static_cast<size_t>(in.imm)];
      else if (in.scalar == Scalar::kF32)
        *slot<uint32_t>(in.result, t) = static_cast<uint32_t>(options_.params[static_cast<size_t>(in.imm)]);
      else
        set_integer(in.result, in.scalar, t, options_.params[static_cast<size_t>(in.imm)]);
    }
  }
}

void Machine::group(const Block &body, uint64_t linear) {
  group_ = {linear % options_.grid[0], linear / options_.grid[0] % options_.grid[1],
            linear / options_.grid[0] / options_.grid[1]};
  ++epoch_;
  for (MemoryState &memory : memories_)
    std::fill(memory.own.begin(), memory.own.end(), uint8_t{0xff}); // what is read before it is written stands out
  pending_.assign(threads_, {});
  feeds_ = {};
  run(body, Mask{masks_.data(), 0, threads_, threads_});
}

void Machine::run(const Block &block, const Mask &mask) {
  spend(block.instructions.size() * mask.count);
  uint8_t *slots = slots_.data();
  for (const Instruction &in : block.instructions) {
    if (in.pure && !in.unfused)
      in.pure(slots, in, mask.begin, mask.end);
    else
      step(in, mask);
  }
}

void Machine::step(const Instruction &in, const Mask &mask) {
  switch (in.code) {
  case Opcode::kMad:
    (options_.mad_fused ? in.pure : in.unfused)(slots_.data(), in, mask.begin, mask.end);
    return;
  case Opcode::kGroupId:
    for (uint32_t t = mask.begin; t < mask.end; ++t)
      *slot<int64_t>(in.result, t) = static_cast<int64_t>(group_[static_cast<size_t>(in.imm)]);
    return;
  case Opcode::kFor: return for_loop(in, mask);
  case Opcode::kIf: return if_else(in, mask);
  case Opcode::kWhile: return while_loop(in, mask);
  case Opcode::kBarrier:
    if (mask.count != threads_)
      fail(in, mask.begin, "barrier that only " + std::to_string(mask.count) + " of " + std::to_string(threads_) +
                               " threads reach");
    ++epoch_;
    return;
  case Opcode::kError:
    for (uint32_t t = mask.begin; t < mask.end && error_word_ == 0; ++t)
      if (mask.has(t) && *slot<uint8_t>(in.operand[0], t))
        error_word_ = static_cast<uint64_t>(in.imm2) << 32 | static_cast<uint32_t>(in.imm);
    return;
  case Opcode::kSubgroupAdd:
  case Opcode::kSubgroupMin:
  case Opcode::kSubgroupMax:
  case Opcode::kSubgroupShuffle: return subgroup_op(in, mask);
  case Opcode::kCopyAsync:
  case Opcode::kCopyCommit:
  case Opcode::kCopyWait: return copy_op(in, mask);
  case Opcode::kFeed:
  case Opcode::kFeedStart:
  case Opcode::kFeedWait:
  case Opcode::kFeedFree: return feed_op(in, mask);
  case Opcode::kFragmentLoad: return fragment_load(in, mask);
  case Opcode::kFragmentMma: return fragment_mma(in, mask);
  case Opcode::kFragmentPack: return fragment_pack(in, mask);
  case Opcode::kFragmentRowAdd:
  case Opcode::kFragmentRowMax: return fragment_rows(in, mask);
  case Opcode::kFragmentRow:
  case Opcode::kFragmentColumn:
    for (uint32_t t = mask.begin; t < mask.end; ++t)
      for (uint32_t i = 0; i < kernel_.fragment.sums(); ++i)
        slot<int64_t>(in.result, t, kernel_.fragment.sums())[i] = in.code == Opcode::kFragmentRow ? sum_row(t, i) : sum_column(t, i);
    return;
  case Opcode::kWarpgroupMma:
  case Opcode::kWarpgroupWait: return warpgroup_op(in, mask);
  case Opcode::kTile:
    switch (in.scalar) {
    case Scalar::kF32: return tile_op<float>(in, mask);
    case Scalar::kF64: return tile_op<double>(in, mask);
    case Scalar::kI32: return tile_op<uint32_t>(in, mask); // wraps
    default: return tile_op<uint64_t>(in, mask);
    }
  default: return memory_op(in, mask);
  }
}

// ---- Control

void Machine::copy(const std::vector<Copy> &list, bool staged, const Mask &mask) {
  if (mask.count == 0)
    return;
  auto move = [&](const Copy &c, uint8_t *to, const uint8_t *from) {
    if (mask.full()) {
      std::memcpy(to + size_t{mask.begin} * c.bytes, from + size_t{mask.begin} * c.bytes,
                  size_t{mask.end - mask.begin} * c.bytes);
      return;
    }
    for (uint32_t t = mask.begin; t < mask.end; ++t)
      if (mask.bits[t])
        std::memcpy(to + size_t{t} * c.bytes, from + size_t{t} * c.bytes, c.bytes);
  };
  if (!staged) {
    for (const Copy &c : list)
      move(c, slots_.data() + c.to, slots_.data() + c.from);
    return;
  }
  size_t offset = 0;
  for (const Copy &c : list) {
    move(c, staging_.data() + offset, slots_.data() + c.from);
    offset += size_t{c.bytes} * threads_;
  }
  offset = 0;
  for (const Copy &c : list) {
    move(c, slots_.data() + c.to, staging_.data() + offset);
    offset += size_t{c.bytes} * threads_;
  }
}

namespace {

// The threads of `outer` for which keep(t), in `bits`.
template <class Keep> Mask narrow_mask(const Mask &outer, uint8_t *bits, Keep keep) {
  Mask mask{bits, outer.end, outer.begin, 0};
  for (uint32_t t = outer.begin; t < outer.end; ++t) {
    bits[t] = outer.has(t) && keep(t);
    if (bits[t]) {
      mask.begin = std::min(mask.begin, t);
      mask.end = t + 1;
      ++mask.count;
    }
  }
  if (mask.count == 0)
    mask.begin = mask.end = outer.begin;
  return mask;
}

} // namespace

void Machine::for_loop(const Instruction &in, const Mask &mask) {
  const Control &control = controls_[in.extra];
  uint8_t *bits = masks_.data() + size_t{control.depth + 1} * threads_;
  copy(control.enter, false, mask);
  for (uint32_t t = mask.begin; t < mask.end; ++t) {
    if (!mask.has(t))
      continue;
    if (integer(in.operand[2], in.scalar, t) <= 0)
      fail(in, t, "loop with step " + std::to_string(integer(in.operand[2], in.scalar, t)));
    set_integer(control.induction, in.scalar, t, integer(in.operand[0], in.scalar, t));
  }
  Mask active = narrow_mask(mask, bits, [&](uint32_t t) {
    return integer(control.induction, in.scalar, t) < integer(in.operand[1], in.scalar, t);
  });
  int64_t limit = INT64_MAX >> (64 - bit_width(in.scalar));
  while (active.count > 0) {
    run(control.blocks[0], active);
    copy(control.leave[0], control.staged[0], active);
    spend(active.count);
    active = narrow_mask(active, bits, [&](uint32_t t) {
      int64_t i = integer(control.induction, in.scalar, t), step = integer(in.operand[2], in.scalar, t);
      if (i > limit - step)
        return false; // the next one would not fit its type, so it is past any bound
      set_integer(control.induction, in.scalar, t, i + step);
      return i + step < integer(in.operand[1], in.scalar, t);
    });
  }
  copy(control.leave[1], false, mask);
}

void Machine::if_else(const Instruction &in, const Mask &mask) {
  const Control &control = controls_[in.extra];
  uint8_t *bits = masks_.data() + size_t{control.depth + 1} * threads_;
  for (size_t side = 0; side < 2; ++side) {
    Mask active = narrow_mask(mask, bits, [&](uint32_t t) { return (*slot<uint8_t>(in.operand[0], t) != 0) == (side == 0); });
    if (active.count == 0)
      continue;
    run(control.blocks[side], active);
    copy(control.leave[side], control.staged[side], active);
  }
}

void Machine::while_loop(const Instruction &in, const Mask &mask) {
  const Control &control = controls_[in.extra];
  uint8_t *bits = masks_.data() + size_t{control.depth + 1} * threads_;
  copy(control.enter, false, mask);
  Mask active = narrow_mask(mask, bits, [](uint32_t) { return true; });
  while (active.count > 0) {
    run(control.blocks[0], active);
    spend(active.count);
    copy(control.leave[2], false, active); // overwritten by a later turn of the same thread
    active = narrow_mask(active, bits, [&](uint32_t t) { return *slot<uint8_t>(control.condition, t) != 0; });
    if (active.count == 0)
      break;
    copy(control.leave[0], control.staged[0], active);
    run(control.blocks[1], active);
    copy(control.leave[1], control.staged[1], active);
  }
}

// ---- Memory

void Machine::touch(const Instruction &in, MemoryState &memory, uint32_t thread, uint64_t element, bool write,
                    bool atomic) {
  auto &page = memory.pages[element / kPage];
  if (!page)
    page = std::make_unique<Shadow[]>(kPage);
  Shadow &shadow = page[element % kPage];
  uint32_t me = atomic ? kAtomic : thread;
  auto race = [&](const char *what) {
    fail(in, thread, std::string("race: ") + what + " element " + std::to_string(element) + " of @" +
                         kernel_.memories[in.memory].name + " without a barrier between");
  };
  if (shadow.write_epoch == epoch_ && shadow.writer != me)
    race(write ? "two threads write" : "a thread reads what another one writes,");
  if (write) {
    if (shadow.read_epoch == epoch_ && shadow.reader != thread)
      race("a thread writes what another one reads,");
    shadow.write_epoch = epoch_;
    shadow.writer = me;
  } else {
    shadow.reader = shadow.read_epoch == epoch_ && shadow.reader != thread ? kSeveral : thread;
    shadow.read_epoch = epoch_;
  }
}

uint8_t *Machine::access(const Instruction &in, MemoryState &memory, uint32_t thread, int64_t index, uint32_t n,
                         bool write, bool atomic) {
  uint64_t first = static_cast<uint64_t>(index);
  if (first >= memory.elements || memory.elements - first < n)
    fail(in, thread, "access out of range: elements " + std::to_string(index) + " to " +
                         std::to_string(wrapping_add(index, n - 1)) + " of @" + kernel_.memories[in.memory].name +
                         ", which has " + std::to_string(memory.elements));
  if (in.align > 1 && first % in.align != 0)
    fail(in, thread, "index " + std::to_string(index) + " of @" + kernel_.memories[in.memory].name +
                         " is not a multiple of the alignment " + std::to_string(in.align));
  if (memory.checked)
    for (uint32_t k = 0; k < n; ++k)
      touch(in, memory, thread, first + k, write, atomic);
  return memory.data + memory.thread_stride * thread + first * byte_size(kernel_.memories[in.memory].type);
}

void Machine::memory_op(const Instruction &in, const Mask &mask) {
  MemoryState &memory = memories_[in.memory];
  const size_t bytes = in.element_bytes;
  const uint32_t lanes = in.lanes;
  const bool is_bool = in.scalar == Scalar::kBool;
  // Stored bools are 0 or 1; what is loaded counts as true where it is not 0.
  auto load = [&](uint8_t *to, const uint8_t *from, uint32_t n) {
    if (!is_bool)
      std::memcpy(to, from, n * bytes);
    else
      for (uint32_t k = 0; k < n; ++k)
        to[k] = from[k] != 0;
  };
  for (uint32_t t = mask.begin; t < mask.end; ++t) {
    if (!mask.has(t))
      continue;
    auto value_at = [&](size_t offset) { return slots_.data() + offset + size_t{t} * lanes * bytes; };
    switch (in.code) {
    case Opcode::kLoad:
      load(value_at(in.result), access(in, memory, t, *slot<int64_t>(in.operand[0], t), lanes, false), lanes);
      break;
    case Opcode::kStore:
      std::memcpy(access(in, memory, t, *slot<int64_t>(in.operand[0], t), lanes, true), value_at(in.operand[1]),
                  lanes * bytes);
      break;
    case Opcode::kLoadPart:
    case Opcode::kStorePart: {
      bool write = in.code == Opcode::kStorePart;
      int64_t count = *slot<int64_t>(in.operand[write ? 2 : 1], t);
      uint32_t n = static_cast<uint32_t>(std::clamp<int64_t>(count, 0, lanes));
      if (!write)
        std::memcpy(value_at(in.result), value_at(in.operand[2]), lanes * bytes);
      if (n == 0)
        break;
      uint8_t *place = access(in, memory, t, *slot<int64_t>(in.operand[0], t), n, write);
      if (write)
        std::memcpy(place, value_at(in.operand[1]), n * bytes);
      else
        load(value_at(in.result), place, n);
      break;
    }
    case Opcode::kLoadIf:
    case Opcode::kStoreIf: {
      bool write = in.code == Opcode::kStoreIf;
      const uint8_t *condition = slot<uint8_t>(in.operand[0], t, in.operand_lanes);
      int64_t index = *slot<int64_t>(in.operand[1], t);
      uint8_t *value = value_at(write ? in.operand[2] : in.result);
      if (!write)
        std::memcpy(value, value_at(in.operand[2]), lanes * bytes);
      uint32_t width = in.operand_lanes == 1 ? lanes : 1; // elements that one bool decides
      for (uint32_t k = 0; k < lanes; k += width) {
        if (!condition[in.operand_lanes == 1 ? 0 : k])
          continue;
        uint8_t *place = access(in, memory, t, index + k, width, write);
        if (write)
          std::memcpy(place, value + k * bytes, width * bytes);
        else
          load(value + k * bytes, place, width);
      }
      break;
    }
    case Opcode::kGather:
    case Opcode::kScatter: {
      bool write = in.code == Opcode::kScatter;
      const int64_t *indices = slot<int64_t>(in.operand[0], t, lanes);
      uint32_t mask_operand = write ? 2 : 1;
      const uint8_t *keep = in.operand_count == 3 ? slot<uint8_t>(in.operand[mask_operand], t, lanes) : nullptr;
      uint8_t *value = value_at(write ? in.operand[1] : in.result);
      if (!write && keep)
        std::memcpy(value, value_at(in.operand[2]), lanes * bytes);
      for (uint32_t k = 0; k < lanes; ++k) {
        if (keep && !keep[k])
          continue;
        uint8_t *place = access(in, memory, t, indices[k], 1, write);
        if (write)
          std::memcpy(place, value + k * bytes, bytes);
        else
          load(value + k * bytes, place, 1);
      }
      break;
    }
    case Opcode::kAtomicAdd:
    case Opcode::kAtomicMin:
    case Opcode::kAtomicMax: {
      uint8_t *place = access(in, memory, t, *slot<int64_t>(in.operand[0], t), 1, true, true);
      uint64_t raw = 0;
      std::memcpy(&raw, place, bytes);
      int64_t old = sign_extend(static_cast<int64_t>(raw), bit_width(in.scalar)), next = 0;
      Opcode op = in.code == Opcode::kAtomicAdd   ? Opcode::kAdd
                  : in.code == Opcode::kAtomicMin ? Opcode::kMin
                                                  : Opcode::kMax;
      fold_integer(op, in.scalar, old, integer(in.operand[1], in.scalar, t), next);
      std::memcpy(place, &next, bytes);
      set_integer(in.result, in.scalar, t, old);
      break;
    }
    default: fail(in, t, "op that the interpreter does not know");
    }
  }
}

// ---- Tiles

template <class T> void Machine::tile_op(const Instruction &in, const Mask &mask) {
  const TileShape shape = *tile_shape(*in.op);
  MemoryState &a = memories_[in.memory], &b = memories_[static_cast<size_t>(in.imm2)];
  Instruction in_b = in; // for messages and accesses of the second memory
  in_b.memory = static_cast<uint32_t>(in.imm2);
  const size_t operands = in.op->operands.size();
  for (uint32_t t = mask.begin; t < mask.end; ++t) {
    if (!mask.has(t))
      continue;
    auto number = [&](size_t operand) { return *slot<int64_t>(in.tile[operand], t); };
    for (size_t i = 0; i < shape.a(); ++i)
      std::memcpy(slot<T>(in.tile[operands + i], t, in.lanes), slot<T>(in.tile[i], t, in.lanes), in.lanes * sizeof(T));
    std::array<int64_t, 4> trips = {1, 1, 1, 1}, i = {0, 0, 0, 0}, a_step = {}, b_step = {};
    for (size_t l = 0; l < shape.loops; ++l) {
      trips[l] = number(shape.loop(l));
      a_step[l] = number(shape.loop(l) + 1);
      b_step[l] = number(shape.loop(l) + 2);
    }
    if (*std::min_element(trips.begin(), trips.end()) <= 0)
      continue;
    for (;;) {
      spend(1);
      int64_t a_at = 0, b_at = 0;
      for (size_t l = 0; l < 4; ++l) {
        a_at += i[l] * a_step[l];
        b_at += i[l] * b_step[l];
      }
      const int64_t n = in.lanes / static_cast<int64_t>(shape.chunks);
      for (size_t v = 0; v < shape.vectors * shape.chunks; ++v) {
        int64_t count = std::clamp<int64_t>(number(shape.count() + v), 0, n);
        if (count == 0)
          continue;
        int64_t first = wrapping_add(number(shape.b() + v), b_at);
        const T *y = reinterpret_cast<const T *>(access(in_b, b, t, first, static_cast<uint32_t>(count), false));
        for (size_t r = 0; r < shape.rows; ++r) {
          T x;
          std::memcpy(&x, access(in, a, t, wrapping_add(number(shape.a() + r), a_at), 1, false), sizeof x);
          T *sum = slot<T>(in.tile[operands + r * shape.vectors + v / shape.chunks], t, in.lanes) +
                   static_cast<int64_t>(v % shape.chunks) * n;
          for (int64_t lane = 0; lane < count; ++lane) {
            T value;
            std::memcpy(&value, y + lane, sizeof value);
            if constexpr (std::is_floating_point_v<T>)
              sum[lane] = options_.mad_fused ? std::fma(x, value, sum[lane]) : static_cast<T>(x * value) + sum[lane];
            else
              sum[lane] += x * value;
          }
        }
      }
      size_t l = 4;
      while (l > 0 && ++i[l - 1] == trips[l - 1])
        i[--l] = 0;
      if (l == 0)
        break;
    }
  }
}

// ---- Feeds

void Machine::bring(const Feeds::Box &box, int64_t slice) {
  const Op &op = *box.in->op;
  const TensorMap &map = kernel_.tensor_maps[static_cast<size_t>(op.imm2)];
  const MemoryState &from = memories_[map.memory], &to = memories_[op.memory];
  if (static_cast<uint64_t>(map.end()) > from.elements)
    fail(*box.in, 0, "a tensor of " + std::to_string(map.end()) + " elements in @" + kernel_.memories[map.memory].name + ", which has " + std::to_string(from.elements));
  const int64_t place = slice % feeds_.stages * (static_cast<int64_t>(to.elements) / feeds_.stages) + op.imm;
  for (int64_t e = 0; e < map.box_elements(); ++e) {
    int64_t rest = e, source = map.offset;
    bool inside = true;
    for (size_t i = 0; i < map.rank(); ++i) {
      const int64_t at = box.coordinates[i] + slice * op.imms[i] + rest % map.box[i];
      rest /= map.box[i];
      inside = inside && at >= 0 && at < map.sizes[i];
      source += at * map.strides[i];
    }
    const int64_t line = e / kWarpgroupLine, k = e % kWarpgroupLine;
    uint8_t *target = to.data + 2 * (place + line * kWarpgroupLine + ((k / 8) ^ (line % 8)) * 8 + k % 8);
    if (inside)
      std::memcpy(target, from.data + 2 * source, 2);
    else
      std::memset(target, 0, 2);
  }
}

void Machine::feed_op(const Instruction &in, const Mask &mask) {
  if (mask.count != threads_)
    fail(in, mask.begin, "feeds that not all threads take part in");
  for (uint32_t t = 1; t < threads_; ++t)
    for (size_t i = 0; i < in.tile.size(); ++i)
      if (*slot<int64_t>(in.tile[i], t) != *slot<int64_t>(in.tile[i], 0))
        fail(in, t, "feeds that differ within the workgroup");
  if (in.code == Opcode::kFeed) {
    feeds_.boxes.push_back({&in, {}});
    for (size_t at : in.tile)
      feeds_.boxes.back().coordinates.push_back(*slot<int64_t>(at, 0));
    return;
  }
  const int64_t number = *slot<int64_t>(in.tile[0], 0);
  if (in.code == Opcode::kFeedStart) {
    feeds_.stages = in.imm;
    feeds_.slices = number;
  } else if (number < 0 || number >= feeds_.slices) {
    fail(in, 0, "slice " + std::to_string(number) + " of " + std::to_string(feeds_.slices));
  } else if (in.code == Opcode::kFeedWait) {
    if (number >= feeds_.brought)
      fail(in, 0, "slice " + std::to_string(number) + " never comes: its place has not been freed");
    if (number != feeds_.waited)
      fail(in, 0, "slice " + std::to_string(number) + " is waited for out of turn");
    feeds_.waited = number + 1;
    return;
  } else {
    if (number != feeds_.freed || number >= feeds_.waited)
      fail(in, 0, "slice " + std::to_string(number) + " is freed out of turn");
    feeds_.freed = number + 1;
  }
  for (; feeds_.brought < std::min(feeds_.slices, feeds_.freed + feeds_.stages); ++feeds_.brought)
    for (const Feeds::Box &box : feeds_.boxes)
      bring(box, feeds_.brought);
}

// ---- Copies under way

void Machine::copy_op(const Instruction &in, const Mask &mask) {
  MemoryState &to = memories_[in.memory];
  for (uint32_t t = mask.begin; t < mask.end; ++t) {
    if (!mask.has(t))
      continue;
    PendingCopies &pending = pending_[t];
    if (in.code == Opcode::kCopyAsync) {
      const uint32_t elements = static_cast<uint32_t>(in.imm), bytes = elements * byte_size(kernel_.memories[in.memory].type);
      PendingCopy copy{&in, *slot<int64_t>(in.operand[0], t), {}};
      access(in, to, t, copy.to, elements, true); // it may arrive at once
      if (*slot<uint8_t>(in.operand[2], t)) {
        Instruction source = in;
        source.memory = static_cast<uint32_t>(in.imm2);
        std::memcpy(copy.bytes.data(), access(source, memories_[source.memory], t, *slot<int64_t>(in.operand[1], t), elements, false), bytes);
      }
      pending.open.push_back(copy);
    } else if (in.code == Opcode::kCopyCommit) {
      pending.batches.push_back(std::move(pending.open));
      pending.open.clear();
    } else {
      while (pending.batches.size() > static_cast<size_t>(in.imm)) {
        for (const PendingCopy &copy : pending.batches.front()) {
          const uint32_t elements = static_cast<uint32_t>(copy.in->imm);
          std::memcpy(access(*copy.in, memories_[copy.in->memory], t, copy.to, elements, true), copy.bytes.data(),
                      elements * byte_size(kernel_.memories[copy.in->memory].type));
        }
        pending.batches.erase(pending.batches.begin());
      }
    }
  }
}

// ---- Fragments. Factors as mma.sync of PTX lays them out for 32 threads of four words: lane l has row l / 4 and row l / 4 + 8, and of k
// the word l % 4 and the word l % 4 + 4. Where threads have two words, lane l + 32 has the last two of lane l; of eight, four are zeros.
// Sums: a thread's runs of columns fill a row from thread to thread, then the next; mma.sync's are so too.

uint32_t Machine::sum_row(uint32_t thread, uint32_t i) const {
  const FragmentShape &f = kernel_.fragment;
  return thread % f.threads * f.run / 8 + i / f.run * (16 / f.rows());
}
uint32_t Machine::sum_column(uint32_t thread, uint32_t i) const {
  const FragmentShape &f = kernel_.fragment;
  return thread * f.run % 8 + i % f.run;
}
// Where the subgroup whose first thread is `first` has that sum, of a value at `offset`.
uint8_t *Machine::sum(size_t offset, uint32_t first, uint32_t row, uint32_t column) {
  const FragmentShape &f = kernel_.fragment;
  const uint32_t apart = 16 / f.rows(), thread = first + (row % apart * 8 + column) / f.run, i = row / apart * f.run + column % f.run;
  return slots_.data() + offset + (size_t{thread} * f.sums() + i) * 4;
}
// Where it has a factor's word `word` of lane `lane` of 32.
uint8_t *Machine::factor_word(size_t offset, uint32_t first, uint32_t lane, uint32_t word) {
  const FragmentShape &f = kernel_.fragment;
  const uint32_t own = std::min(f.words, 4u);
  return slots_.data() + offset + (size_t{first + lane + word / own * 32} * f.words + word % own) * 4;
}

void Machine::need_all(const Instruction &in, const Mask &mask) const {
  if (mask.count != threads_)
    fail(in, mask.begin, "subgroup op that only " + std::to_string(mask.count) + " of " + std::to_string(threads_) +
                             " threads reach");
}

void Machine::fragment_load(const Instruction &in, const Mask &mask) {
  need_all(in, mask);
  const uint32_t size = kernel_.fragment.threads;
  MemoryState &memory = memories_[in.memory];
  const uint32_t bytes = byte_size(kernel_.memories[in.memory].type), per_word = 4 / bytes;
  const auto role = static_cast<FragmentRole>(in.imm);
  std::memset(slots_.data() + in.result, 0, size_t{threads_} * kernel_.fragment.words * 4);
  for (uint32_t t = 0; t < threads_; ++t) {
    const int64_t index = *slot<int64_t>(in.operand[0], t), pitch = *slot<int64_t>(in.operand[1], t);
    if (index != *slot<int64_t>(in.operand[0], t / size * size) || pitch != *slot<int64_t>(in.operand[1], t / size * size))
      fail(in, t, "fragment whose index or pitch differs within the subgroup");
    if (pitch % in.align != 0)
      fail(in, t, "pitch " + std::to_string(pitch) + " is not a multiple of the alignment " + std::to_string(in.align));
    Instruction single = in;
    single.align = 1;
    access(in, memory, t, index, 1, false); // the alignment
    const uint32_t lane = t % size;
    if (lane >= 32)
      continue; // their words come with those of lanes below
    for (uint32_t w = 0; w < 4; ++w)
      for (uint32_t e = 0; e < per_word; ++e) {
        const bool a = role == FragmentRole::kA;
        const uint32_t line = lane / 4 + (a ? w % 2 : w / 2) * 8, k = (lane % 4 + (a ? w / 2 : w % 2) * 4) * per_word + e;
        const int64_t at = role == FragmentRole::kBRows    ? k * pitch + line
                           : role == FragmentRole::kBPairs ? (k % 4 * 2 + k / 4) * pitch + line
                                                           : line * pitch + k;
        std::memcpy(factor_word(in.result, t - lane, lane, w) + e * bytes, access(single, memory, t, wrapping_add(index, at), 1, false), bytes);
      }
  }
}

void Machine::fragment_mma(const Instruction &in, const Mask &mask) {
  need_all(in, mask);
  const auto element = static_cast<Scalar>(in.imm);
  const uint32_t bytes = byte_size(element), depth = 32 / bytes;
  auto value = [&](const uint8_t *word, uint32_t at, bool is_unsigned) -> double {
    uint32_t bits = 0;
    std::memcpy(&bits, word + at * bytes, bytes);
    switch (element) {
    case Scalar::kF16: return half_to_float(static_cast<uint16_t>(bits));
    case Scalar::kBF16: return std::bit_cast<float>(bits << 16);
    case Scalar::kF32: return std::bit_cast<float>(bits & ~0x1fffu);
    default: return is_unsigned ? static_cast<double>(bits) : static_cast<int8_t>(bits);
    }
  };
  const uint32_t n = kernel_.fragment.sums(), size = kernel_.fragment.threads;
  std::vector<uint8_t> results(size_t{threads_} * n * 4);
  for (uint32_t t = 0; t < threads_; ++t) {
    const uint32_t first = t / size * size;
    for (uint32_t i = 0; i < n; ++i) {
      const uint32_t row = sum_row(t, i), column = sum_column(t, i);
      const size_t own = (size_t{t} * n + i) * 4;
      uint8_t *to = results.data() + own;
      std::memcpy(to, slots_.data() + in.operand[2] + own, 4);
      for (uint32_t k = 0; k < depth; ++k) {
        const uint32_t word = k * bytes / 4, at = k % (4 / bytes);
        const double x = value(factor_word(in.operand[0], first, row % 8 * 4 + word % 4, row / 8 + word / 4 * 2), at, in.imm2 & kUnsignedA);
        const double y = value(factor_word(in.operand[1], first, column * 4 + word % 4, static_cast<uint32_t>(in.imm2 & kHalfOfB) * 2 + word / 4), at, in.imm2 & kUnsignedB);
        if (element == Scalar::kI8) {
          int32_t sum;
          std::memcpy(&sum, to, 4);
          sum = static_cast<int32_t>(static_cast<uint32_t>(sum) + static_cast<uint32_t>(static_cast<int32_t>(x * y)));
          std::memcpy(to, &sum, 4);
        } else {
          float sum;
          std::memcpy(&sum, to, 4);
          sum = static_cast<float>(sum + x * y);
          std::memcpy(to, &sum, 4);
        }
      }
    }
  }
  std::memcpy(slots_.data() + in.result, results.data(), results.size());
}

void Machine::fragment_pack(const Instruction &in, const Mask &mask) {
  need_all(in, mask);
  std::memset(slots_.data() + in.result, 0, size_t{threads_} * kernel_.fragment.words * 4);
  for (uint32_t first = 0; first < threads_; first += kernel_.fragment.threads)
    for (uint32_t row = 0; row < 16; ++row)
      for (uint32_t w = 0; w < 8; ++w) { // of the row
        uint32_t word = 0;
        if (static_cast<Scalar>(in.imm) == Scalar::kF32) { // one column a word
          std::memcpy(factor_word(in.result, first, row % 8 * 4 + w % 4, row / 8 + w / 4 * 2), sum(in.operand[0], first, row, w % 4 * 2 + w / 4), 4);
          continue;
        }
        for (uint32_t e = 0; e < 2; ++e) {
          float value;
          std::memcpy(&value, sum(in.operand[w / 4], first, row, w % 4 * 2 + e), 4);
          word |= uint32_t{static_cast<Scalar>(in.imm) == Scalar::kF16 ? float_to_half(value) : float_to_bfloat(value)} << 16 * e;
        }
        std::memcpy(factor_word(in.result, first, row % 8 * 4 + w % 4, row / 8 + w / 4 * 2), &word, 4);
      }
}

// Pairs of neighbours, then pairs of these, then the two halves.
void Machine::fragment_rows(const Instruction &in, const Mask &mask) {
  need_all(in, mask);
  auto both = [&](float a, float b) {
    if (in.code == Opcode::kFragmentRowAdd)
      return a + b;
    return std::isnan(a) || std::isnan(b) ? std::numeric_limits<float>::quiet_NaN() : a > b ? a : b;
  };
  for (uint32_t first = 0; first < threads_; first += kernel_.fragment.threads)
    for (uint32_t row = 0; row < 16; ++row) {
      float v[8];
      for (uint32_t k = 0; k < 8; ++k)
        std::memcpy(&v[k], sum(in.operand[0], first, row, k), 4);
      const float all = both(both(both(v[0], v[1]), both(v[2], v[3])), both(both(v[4], v[5]), both(v[6], v[7])));
      for (uint32_t k = 0; k < 8; ++k)
        std::memcpy(sum(in.result, first, row, k), &all, 4);
    }
}

// A fragment of sums is one of mma.sync's. What is under way is done at once: the verifier sees to it that nobody looks before a wait.
void Machine::warpgroup_op(const Instruction &in, const Mask &mask) {
  need_all(in, mask);
  const size_t first = in.code == Opcode::kWarpgroupMma ? 3 : 0, count = in.op->results.size(), operands = in.op->operands.size();
  for (size_t i = 0; i < count; ++i)
    std::memcpy(slots_.data() + in.tile[operands + i], slots_.data() + in.tile[first + i], size_t{threads_} * 16);
  if (first == 0)
    return;
  const Scalar element = kernel_.memories[in.memory].type;
  const uint32_t columns = static_cast<uint32_t>(count) * 8, depth = static_cast<uint32_t>(in.imm) * 16;
  for (uint32_t group = 0; group < threads_; group += kWarpgroup) {
    for (uint32_t t = group; t < group + kWarpgroup; ++t)
      for (size_t i = 0; i < first; ++i)
        if (*slot<int64_t>(in.operand[i], t) != *slot<int64_t>(in.operand[i], group))
          fail(in, t, "warpgroup_mma whose indices differ within the warpgroup");
    const int64_t k0 = *slot<int64_t>(in.operand[2], group);
    if (k0 < 0 || k0 % 16 != 0 || k0 + depth > kWarpgroupLine)
      fail(in, group, "steps that begin at element " + std::to_string(k0) + " of a line");
    // Lines of factors, as every thread of the group reads them.
    auto factor = [&](uint32_t memory, size_t operand, uint32_t lines) {
      const int64_t index = *slot<int64_t>(in.operand[operand], group);
      if (index % (8 * kWarpgroupLine) != 0)
        fail(in, group, "index " + std::to_string(index) + " is not one of a piece of 8 lines");
      Instruction single = in;
      single.memory = memory;
      single.align = 1;
      std::vector<float> out(size_t{lines} * depth);
      for (uint32_t l = 0; l < lines; ++l)
        for (uint32_t i = 0; i < depth; ++i) {
          const uint32_t k = static_cast<uint32_t>(k0) + i, subgroup = lines == 64 && operand == 0 ? l / 16 : 0;
          const int64_t at = index + l * kWarpgroupLine + ((k / 8) ^ (l % 8)) * 8 + k % 8;
          uint16_t bits;
          std::memcpy(&bits, access(single, memories_[memory], group + subgroup * kSubgroup, at, 1, false), 2);
          out[size_t{l} * depth + i] = element == Scalar::kF16 ? half_to_float(bits) : std::bit_cast<float>(uint32_t{bits} << 16);
        }
      return out;
    };
    const std::vector<float> a = factor(in.memory, 0, 64), b = factor(static_cast<uint32_t>(in.imm2), 1, columns);
    for (uint32_t t = group; t < group + kWarpgroup; ++t)
      for (size_t f = 0; f < count; ++f)
        for (uint32_t i = 0; i < 4; ++i) {
          const size_t row = (t - group) / kSubgroup * 16 + t % kSubgroup / 4 + i / 2 * 8, column = 8 * f + t % 4 * 2 + i % 2;
          uint8_t *at = slots_.data() + in.tile[operands + f] + size_t{t} * 16 + i * 4;
          float sum;
          std::memcpy(&sum, at, 4);
          for (uint32_t k = 0; k < depth; ++k)
            sum = static_cast<float>(sum + static_cast<double>(a[row * depth + k]) * b[column * depth + k]);
          std::memcpy(at, &sum, 4);
        }
  }
}

// ---- Subgroups

void Machine::subgroup_op(const Instruction &in, const Mask &mask) {
  const uint32_t size = options_.subgroup_size;
  if (mask.count != threads_)
    fail(in, mask.begin, "subgroup op that only " + std::to_string(mask.count) + " of " + std::to_string(threads_) +
                             " threads reach");
  std::vector<uint8_t> source(slots_.begin() + static_cast<ptrdiff_t>(in.operand[0]),
                              slots_.begin() + static_cast<ptrdiff_t>(in.operand[0] + threads_ * in.element_bytes));
  if (in.code == Opcode::kSubgroupShuffle) {
    for (uint32_t t = 0; t < threads_; ++t) {
      uint32_t lane = static_cast<uint32_t>(*slot<int32_t>(in.operand[1], t)) & (size - 1);
      uint32_t from = std::min(t / size * size + lane, threads_ - 1);
      std::memcpy(slots_.data() + in.result + size_t{t} * in.element_bytes, source.data() + size_t{from} * in.element_bytes,
                  in.element_bytes);
    }
    return;
  }
  // A halving tree over the subgroup, on the op's own elementwise function; missing threads take no part.
  Op op;
  op.code = in.code == Opcode::kSubgroupAdd ? Opcode::kAdd : in.code == Opcode::kSubgroupMin ? Opcode::kMin : Opcode::kMax;
  op.operands = in.op->operands;
  op.results = in.op->results;
  Pure combine = find_pure(kernel_, op);
  for (uint32_t base = 0; base < threads_; base += size) {
    uint32_t n = std::min(size, threads_ - base);
    uint8_t work[3 * 8];
    Instruction pair;
    pair.operand[0] = 0;
    pair.operand[1] = 8;
    pair.result = 16;
    for (uint32_t half = size / 2; half > 0; half /= 2)
      for (uint32_t k = 0; k < half && k + half < n; ++k) {
        std::memcpy(work, &source[size_t{base + k} * in.element_bytes], in.element_bytes);
        std::memcpy(work + 8, &source[size_t{base + k + half} * in.element_bytes], in.element_bytes);
        combine(work, pair, 0, 1);
        std::memcpy(&source[size_t{base + k} * in.element_bytes], work + 16, in.element_bytes);
      }
    for (uint32_t k = 0; k < n; ++k)
      std::memcpy(slots_.data() + in.result + size_t{base + k} * in.element_bytes,
                  &source[size_t{base} * in.element_bytes], in.element_bytes);
  }
}

} // namespace interp

// ---- Entry

Interpreter::Interpreter(const Kernel &kernel) : program_(std::make_unique<const Program>(kernel)) {}
Interpreter::~Interpreter() = default;
Interpreter::Interpreter(Interpreter &&) noexcept = default;

RunResult Interpreter::run(std::span<const Binding> bindings, const RunOptions &options) const {
  RunResult result;
  interp::Machine machine(program_->kernel, program_->controls, program_->threads, options);
  try {
    if (!std::has_single_bit(options.subgroup_size))
      throw Failure{"the subgroup size " + std::to_string(options.subgroup_size) + " is no power of two"};
    machine.bind(bindings);
    machine.allocate(program_->slot_bytes, program_->staging_bytes, program_->mask_depth);
    machine.start(program_->prologue);
    uint64_t total = uint64_t{options.grid[0]} * options.grid[1] * options.grid[2];
    if (options.groups.empty()) {
      for (uint64_t g = 0; g < total; ++g)
        machine.group(program_->body, g);
    } else {
      for (uint64_t g : options.groups) {
        if (g >= total)
          throw Failure{"workgroup " + std::to_string(g) + " is outside the grid of " + std::to_string(total)};
        machine.group(program_->body, g);
      }
    }
    result.ok = true;
  } catch (const Failure &failure) {
    result.message = failure.message;
  }
  result.error_word = machine.error_word();
  result.ops = machine.ops();
  return result;
}

RunResult interpret(const Kernel &kernel, std::span<const Binding> bindings, const RunOptions &options) {
  return Interpreter(kernel).run(bindings, options);
}

} // namespace ingot::aotc::kernel
