// Allocation of registers and layout of instructions. See code.h.
#include "aotc/emit/bytecode/code.h"

#include <algorithm>
#include <cstring>

#include "aotc/base/error.h"

namespace ingot::aotc::bytecode_emit {

using bytecode::Instruction;
using bytecode::Op;

Var Code::add(uint32_t bytes) {
  Variable v;
  v.bytes = bytes;
  variables_.push_back(v);
  return static_cast<Var>(variables_.size() - 1);
}

Var Code::add_fixed(uint32_t slot, uint32_t bytes) {
  Var var = add(bytes);
  variables_[var].slot = slot;
  return var;
}

Var Code::add_part(Var whole, uint32_t offset, uint32_t bytes) {
  ensure(offset % 8 == 0, "bytecode: a part of a register that starts within a slot");
  Var var = add(bytes);
  variables_[var].part_of = whole;
  variables_[var].offset = offset;
  return var;
}

uint32_t Code::new_label() {
  labels_.push_back(SIZE_MAX);
  return static_cast<uint32_t>(labels_.size() - 1);
}

void Code::place(uint32_t label) { labels_[label] = lines_.size(); }

void Code::end_loop() {
  loops_.push_back({open_.back(), lines_.size()});
  open_.pop_back();
}

uint16_t Code::slot_of(Var var) const {
  if (var == kNoVar) return 0;
  const Variable &v = variables_[root(var)];
  ensure(v.slot >= 0, "bytecode: a register that nothing writes");
  return static_cast<uint16_t>(v.slot + variables_[var].offset / 8);
}

// Linear scan over the hull of each variable's lines. A variable that is live on entry of a loop and used in it
// is live until the loop's end. An instruction's result never shares a register with an operand that ends
// there: the microkernels may write lanes before they have read all of them, unless the registers are the same.
void Code::allocate(uint32_t first_free) {
  struct Range {
    Var var;
    size_t begin = SIZE_MAX, end = 0;
  };
  std::vector<Range> ranges(variables_.size());
  std::vector<std::vector<size_t>> touched(variables_.size());
  auto touch = [&](Var var, size_t at) {
    if (var == kNoVar) return;
    Var whole = root(var);
    touched[whole].push_back(at);
    ranges[whole].begin = std::min(ranges[whole].begin, at);
    ranges[whole].end = std::max(ranges[whole].end, at);
  };
  for (size_t at = 0; at < lines_.size(); ++at) {
    const Line &line = lines_[at];
    for (Var var : {line.d, line.a, line.b, line.c}) touch(var, at);
    for (Var var : line.operands) touch(var, at);
  }
  for (const Line &line : once_)
    for (Var var : {line.d, line.a, line.b, line.c})
      if (var != kNoVar) variables_[root(var)].pinned = true;
  // Outer loops first would do too: an extension to an inner loop's end never leaves the outer one.
  std::vector<std::vector<size_t>> enclosing(
      lines_.size()); // by line: ends are found through the loops' numbers
  for (size_t l = 0; l < loops_.size(); ++l)
    for (size_t at = loops_[l].begin; at < loops_[l].end; ++at) enclosing[at].push_back(l);
  for (Var var = 0; var < variables_.size(); ++var) {
    ranges[var].var = var;
    for (size_t at : touched[var])
      for (size_t l : enclosing[at])
        if (loops_[l].begin > ranges[var].begin) ranges[var].end = std::max(ranges[var].end, loops_[l].end - 1);
    if (variables_[var].pinned) {
      ranges[var].begin = 0;
      ranges[var].end = lines_.size();
    }
  }
  std::stable_sort(ranges.begin(), ranges.end(),
                   [](const Range &a, const Range &b) { return a.begin < b.begin; });
  struct Taken {
    uint32_t begin, end; // slots
    size_t until;
  };
  std::vector<Taken> taken; // by begin
  slots_ = first_free;
  for (const Range &range : ranges) {
    Variable &v = variables_[range.var];
    if (range.begin == SIZE_MAX || v.part_of != kNoVar || v.slot >= 0) continue;
    std::erase_if(taken, [&](const Taken &t) { return t.until < range.begin; });
    uint32_t size = (v.bytes + 7) / 8, align = size >= 8 ? 8 : 1; // whole cache lines
    auto up = [&](uint32_t slot) { return (slot + align - 1) / align * align; };
    uint32_t at = up(first_free);
    size_t before = 0;
    for (; before < taken.size(); ++before) {
      if (at + size <= taken[before].begin) break;
      at = std::max(at, up(taken[before].end));
    }
    taken.insert(taken.begin() + static_cast<ptrdiff_t>(before), {at, at + size, range.end});
    v.slot = at;
    slots_ = std::max(slots_, at + size);
  }
  ensure(slots_ <= bytecode::kMaxSlots,
         "bytecode: the kernel wants " + std::to_string(slots_) + " slots of registers");
}

std::vector<uint8_t> Code::finish(bytecode::Header header, const std::vector<bytecode::Memory> &memories) {
  allocate(bytecode::kParamSlot + header.param_count);
  std::vector<Instruction> out;
  std::vector<size_t> word_of(lines_.size() + 1);
  std::vector<std::pair<size_t, uint32_t>> jumps; // word, label
  auto append = [&](const Line &line) {
    Instruction i = {};
    i.op = static_cast<uint16_t>(line.op);
    i.n = line.n;
    i.d = slot_of(line.d);
    i.a = line.a == kNoVar ? static_cast<uint16_t>(line.raw_a) : slot_of(line.a);
    if (line.is_wide) {
      i.wide = line.wide;
    } else {
      i.b = line.b == kNoVar ? static_cast<uint16_t>(line.raw_b) : slot_of(line.b);
      i.c = line.c == kNoVar ? static_cast<uint16_t>(line.raw_c) : slot_of(line.c);
      i.imm = line.imm;
    }
    if (line.label != kNoVar) jumps.emplace_back(out.size(), line.label);
    out.push_back(i);
    std::vector<uint16_t> extra = line.numbers;
    for (Var var : line.operands) extra.push_back(slot_of(var));
    if (extra.empty()) return;
    size_t at = out.size();
    out.resize(at + bytecode::extra_words(static_cast<uint32_t>(extra.size())), Instruction{});
    std::memcpy(static_cast<void *>(&out[at]), extra.data(), extra.size() * 2);
  };
  for (const Line &line : once_) append(line);
  append(Line{});
  header.body = static_cast<uint32_t>(out.size());
  for (size_t at = 0; at < lines_.size(); ++at) {
    word_of[at] = out.size();
    append(lines_[at]);
  }
  word_of[lines_.size()] = out.size();
  append(Line{});
  for (auto [word, label] : jumps) out[word].imm = static_cast<uint32_t>(word_of[labels_[label]]);
  ensure(out.size() <= bytecode::kMaxInstructions,
         "bytecode: the kernel has " + std::to_string(out.size()) + " instructions");
  header.slot_count = slots_;
  header.instruction_count = static_cast<uint32_t>(out.size());
  std::vector<uint8_t> bytes(sizeof header + memories.size() * sizeof(bytecode::Memory) +
                             out.size() * sizeof(Instruction));
  uint8_t *to = bytes.data();
  std::memcpy(to, &header, sizeof header);
  if (!memories.empty())
    std::memcpy(to + sizeof header, memories.data(), memories.size() * sizeof(bytecode::Memory));
  std::memcpy(to + sizeof header + memories.size() * sizeof(bytecode::Memory), out.data(),
              out.size() * sizeof(Instruction));
  return bytes;
}

} // namespace ingot::aotc::bytecode_emit
