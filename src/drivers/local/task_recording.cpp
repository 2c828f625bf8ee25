// See task_recording.h.
#include "src/drivers/local/task_recording.h"

#include "src/drivers/local/task_pool.h"

namespace ingot::drivers {
namespace {

constexpr uint64_t kGrainBytes = 4096; // copies and fills are cut at multiples of it, from their start

uint64_t divide_up(uint64_t a, uint64_t b) { return a / b + (a % b != 0); }

// Sums of costs must not wrap around, whatever an archive says.
constexpr uint64_t kMaxCostNs = uint64_t(1) << 40;
uint64_t bounded(uint64_t cost) { return cost < kMaxCostNs ? cost : kMaxCostNs; }

uint64_t cost_of(const ingot_driver_dispatch_t &d) {
  uint64_t bytes = 0;
  if (d.bytes >= 0)
    bytes = uint64_t(d.bytes);
  else
    for (uint32_t i = 0; i < d.binding_count; ++i) bytes += bounded(d.bindings[i].length);
  const uint64_t compute = d.flops > 0 ? uint64_t(d.flops) / kFlopsPerNs : 0, memory = bytes / kBytesPerNs;
  return bounded(kCommandNs + (compute > memory ? compute : memory));
}

const uint8_t *start_of(const ingot_driver_span_t &s) {
  return static_cast<const uint8_t *>(s.host) + s.offset;
}

} // namespace

Code TaskRecording::create(const ingot_allocator_t &allocator, ingot_driver_stream_t *stream,
                           const ingot_driver_recording_size_t &size, uint32_t threads, Hazards *hazards,
                           TaskRecording **out, Error *error) {
  TaskRecording *r = create_object<TaskRecording>(allocator, "a recording", error);
  if (!r) return INGOT_OUT_OF_MEMORY;
  r->allocator_ = allocator;
  r->threads_ = threads;
  r->hazards_ = hazards;
  const size_t commands = size_t(size.dispatches) + size.copies + size.fills;
  const auto fill = [&] {
    INGOT_TRY(host_recording_create(allocator, stream, size, &r->host_, error));
    INGOT_TRY(r->commands_.create(allocator, commands, "a recording", error));
    INGOT_TRY(r->sorted_.create(allocator, commands, "a recording", error));
    INGOT_TRY(r->level_ends_.create(allocator, commands, "a recording", error));
    INGOT_TRY(r->waves_.create(allocator, commands, "a recording", error));
    return r->cuts_.create(allocator, commands * (size_t(threads) + 1), "a recording", error);
  };
  if (const Code code = fill()) {
    destroy(r);
    return code;
  }
  *out = r;
  return INGOT_OK;
}

void TaskRecording::destroy(TaskRecording *r) {
  host_recording_destroy(r->host_);
  destroy_object(r->allocator_, r);
}

void TaskRecording::begin() {
  host_->size = 0;
  count_ = wave_count_ = levels_ = 0;
  hazards_->reset();
}

void TaskRecording::append(HostCommand *command, uint64_t cost_ns, uint32_t level) {
  commands_[count_] = {command, cost_ns, count_, level, 0, 1};
  ++count_;
  if (level >= levels_) levels_ = level + 1;
}

void TaskRecording::add(HostDispatch *dispatch, const ingot_driver_dispatch_t &d, const uint8_t *access) {
  if (!dispatch) return;
  uint32_t level = 0;
  for (int pass = 0; pass < 2; ++pass) // first the level, then all accesses at that level
    for (uint32_t i = 0; i < d.binding_count; ++i) {
      const uint8_t *data = start_of(d.bindings[i]);
      const bool writes = access[i] & program::kAccessWrite;
      if (pass == 1)
        hazards_->note(data, d.bindings[i].length, writes, level);
      else if (const uint32_t needed = hazards_->level(data, d.bindings[i].length, writes); needed > level)
        level = needed;
    }
  append(dispatch, cost_of(d), level);
}

void TaskRecording::add_copy(const ingot_driver_span_t &target, const ingot_driver_span_t &source) {
  HostCommand *c = host_record_copy(*host_, target, source);
  if (!c) return;
  const uint32_t a = hazards_->level(start_of(target), target.length, true);
  const uint32_t b = hazards_->level(start_of(source), source.length, false);
  const uint32_t level = a > b ? a : b;
  hazards_->note(start_of(source), source.length, false, level);
  hazards_->note(start_of(target), target.length, true, level);
  append(c, bounded(kCommandNs + 2 * bounded(target.length) / kBytesPerNs), level);
}

void TaskRecording::add_fill(const ingot_driver_span_t &target, uint64_t pattern, uint32_t pattern_bytes) {
  HostCommand *c = host_record_fill(*host_, target, pattern, pattern_bytes);
  if (!c) return;
  const uint32_t level = hazards_->level(start_of(target), target.length, true);
  hazards_->note(start_of(target), target.length, true, level);
  append(c, bounded(kCommandNs + target.length / kBytesPerNs), level);
}

void TaskRecording::end() {
  // Counting sort by level; commands of a level stay in the order in which they were recorded.
  for (uint32_t l = 0; l < levels_; ++l) level_ends_[l] = 0;
  for (uint32_t i = 0; i < count_; ++i) ++level_ends_[commands_[i].level];
  uint32_t start = 0;
  for (uint32_t l = 0; l < levels_; ++l) {
    const uint32_t in_level = level_ends_[l];
    level_ends_[l] = start;
    start += in_level;
  }
  for (uint32_t i = 0; i < count_; ++i) sorted_[level_ends_[commands_[i].level]++] = commands_[i];
  for (uint32_t i = 0; i < count_; ++i) commands_[i] = sorted_[i];
  for (uint32_t at = 0; at < count_;) {
    uint32_t next = at + 1;
    while (next < count_ && commands_[next].level == commands_[at].level && next - at < kMaxWaveCommands)
      ++next;
    Wave &wave = waves_[wave_count_++];
    wave = {at, next - at, 0, 1, at * (threads_ + 1),
            0,  0}; // room for the cuts: there are no more waves than commands
    divide(wave);
    at = next;
  }
  uint64_t ahead = 0;
  for (uint32_t i = wave_count_; i-- > 0;) {
    if (waves_[i].parties > 1) ahead += waves_[i].cost_ns;
    waves_[i].spread_ns = ahead;
  }
}

// Decides units and parties of a wave, and which units each party is given.
void TaskRecording::divide(Wave &wave) {
  TaskCommand *const begin = &commands_[wave.first], *const end = begin + wave.count;
  for (const TaskCommand *c = begin; c != end; ++c) wave.cost_ns += c->cost_ns;
  uint64_t parties = wave.cost_ns / kPartyNs;
  if (parties > threads_) parties = threads_;
  const uint64_t share = wave.cost_ns / (parties > 1 ? parties * kUnitsPerParty : 1);
  const uint64_t unit_ns = parties > 1 ? (share > kUnitNs ? share : kUnitNs) : kPatienceNs;
  for (TaskCommand *c = begin; c != end; ++c) {
    uint64_t units = divide_up(c->cost_ns, unit_ns);
    if (units > kUnitsPerParty * uint64_t(threads_)) units = kUnitsPerParty * uint64_t(threads_);
    if (const uint64_t most = divisible(*c->command); units > most) units = most ? most : 1;
    c->first_unit = wave.units;
    c->units = uint32_t(units);
    wave.units += c->units;
  }
  if (parties > wave.units) parties = wave.units;
  wave.parties = parties > 1 ? uint32_t(parties) : 1;
  uint16_t *cut = &cuts_[wave.cuts];
  uint32_t done = 0;
  *cut++ = 0;
  if (wave.parties > 1) {
    uint64_t sum = 0; // cost of the units before the command's
    for (const TaskCommand *c = begin; c != end; ++c) {
      // Party `done` ends where its share is reached: inside this command?
      for (; done + 1 < wave.parties; ++done) {
        const uint64_t goal = wave.cost_ns * (done + 1) / wave.parties;
        if (goal >= sum + c->cost_ns) break;
        const uint64_t inside = ((goal - sum) * c->units + c->cost_ns / 2) / c->cost_ns;
        *cut++ = uint16_t(c->first_unit + inside);
      }
      sum += c->cost_ns;
    }
  }
  for (; done < wave.parties; ++done) *cut++ = uint16_t(wave.units);
}

uint64_t divisible(const HostCommand &command) {
  switch (command.op) {
    case HostOp::dispatch:
      return static_cast<const HostDispatch &>(command).args.group_end;
    case HostOp::copy: {
      const HostCopy &c = static_cast<const HostCopy &>(command);
      const uintptr_t t = uintptr_t(c.target), s = uintptr_t(c.source);
      const bool apart = (t > s ? t - s : s - t) >= c.length; // else the order of the bytes counts
      return apart ? divide_up(c.length, kGrainBytes) : 1;
    }
    case HostOp::fill:
      break;
  }
  return divide_up(static_cast<const HostFill &>(command).length, kGrainBytes);
}

namespace {

// Where unit `unit` of `units` begins among `total`.
uint64_t split(uint64_t total, uint32_t unit, uint32_t units) {
  return total / units * unit + total % units * unit / units;
}

uint64_t run_groups(const HostDispatch &d, uint32_t begin, uint32_t end, uint8_t *scratch) {
  // The argument block belongs to all threads: each runs a copy with its own range, scratch and error word.
  alignas(HostDispatch) uint8_t memory[kMaxHostDispatch];
  memcpy(memory, &d, d.size);
  HostDispatch &mine = *reinterpret_cast<HostDispatch *>(memory);
  uint64_t error = 0;
  mine.args.group_begin = begin;
  mine.args.group_end = end;
  mine.args.error = uintptr_t(&error);
  mine.args.scratch = uintptr_t(scratch);
  mine.function(&mine.args);
  return *const_cast<volatile uint64_t *>(&error);
}

} // namespace

uint64_t run_units(const TaskCommand &c, uint32_t begin, uint32_t end, uint8_t *scratch) {
  if (c.command->op == HostOp::dispatch) {
    const HostDispatch &d = *static_cast<const HostDispatch *>(c.command);
    const uint32_t groups = d.args.group_end;
    return run_groups(d, uint32_t(split(groups, begin, c.units)), uint32_t(split(groups, end, c.units)),
                      scratch);
  }
  const bool copies = c.command->op == HostOp::copy;
  const uint64_t length = copies ? static_cast<const HostCopy *>(c.command)->length
                                 : static_cast<const HostFill *>(c.command)->length;
  const uint64_t grains = divide_up(length, kGrainBytes);
  const uint64_t from = split(grains, begin, c.units) * kGrainBytes;
  const uint64_t to = end == c.units ? length : split(grains, end, c.units) * kGrainBytes;
  if (copies) {
    HostCopy part = *static_cast<const HostCopy *>(c.command);
    part.target = static_cast<uint8_t *>(part.target) + from;
    part.source = static_cast<const uint8_t *>(part.source) + from;
    part.length = to - from;
    host_copy(part);
  } else {
    const HostFill &f = *static_cast<const HostFill *>(c.command);
    host_fill(static_cast<uint8_t *>(f.target) + from, to - from, f.pattern, f.pattern_bytes);
  }
  return 0;
}

} // namespace ingot::drivers
