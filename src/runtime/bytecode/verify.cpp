// The verifier: one walk over the instructions, one over the jumps. After it the interpreter takes on trust
// that every register lies in the file, every memory number and access is right, every jump leads to an
// instruction, and that control does not run off the end. Addresses, counts and trips are data: the interpreter
// checks those as it goes.
#include <stddef.h>

#include "src/runtime/bytecode/classes.h"
#include "src/runtime/bytecode/forms.h"
#include "src/runtime/bytecode/program.h"

namespace ingot::bytecode {
namespace {

class Verifier {
 public:
  Verifier(Kernel &kernel, Error *error) : k_(kernel), h_(*kernel.header), error_(error) {}

  Code run(uint8_t *starts) {
    bool ends = false;
    for (at_ = 0; at_ < h_.instruction_count;) {
      starts[at_] = 1;
      const Instruction &i = k_.code[at_];
      words_ = 1;
      problem_ = nullptr;
      if (i.op >= kOps)
        problem_ = "has an unknown opcode";
      else if (i.n < 1 || i.n > kMaxLanes)
        problem_ = "has no lanes, or more than 1024";
      else
        check(i);
      if (problem_) return complain();
      const Op op = Op(i.op);
      ends = op == Op::end || op == Op::jump;
      at_ += words_;
    }
    at_ = h_.instruction_count;
    if (!ends) return fail(error_, INGOT_CORRUPT, "bytecode: control runs off the end of the kernel");
    if (h_.body >= h_.instruction_count || !starts[h_.body])
      return fail(error_, INGOT_CORRUPT, "bytecode: the body starts at word %u, which is no instruction",
                  h_.body);
    for (at_ = 0; at_ < h_.instruction_count; ++at_) {
      if (!starts[at_]) continue;
      const Instruction &i = k_.code[at_];
      if (i.op < uint32_t(Op::jump) || i.op > uint32_t(Op::loop_i64)) continue;
      problem_ = "jumps to what is no instruction";
      if (i.imm >= h_.instruction_count || !starts[i.imm]) return complain();
    }
    return INGOT_OK;
  }

 private:
  Code complain() {
    if (missing_)
      return fail(error_, INGOT_INCOMPATIBLE,
                  "bytecode: instruction %u (%s) computes with %s%s, which this runtime was built without: its option "
                  "bytecode_classes does not name %s",
                  at_, op_name(Op(k_.code[at_].op)), k_.code[at_].n > 1 ? "lanes of " : "", class_name(missing_),
                  class_name(missing_));
    return fail(error_, INGOT_CORRUPT, "bytecode: instruction %u (%s) %s", at_,
                k_.code[at_].op < kOps ? op_name(Op(k_.code[at_].op)) : "?", problem_);
  }
  void need(bool condition, const char *problem) {
    if (!condition && !problem_) problem_ = problem;
  }
  void need_classes(uint8_t missing) {
    missing_ = missing;
    need(!missing, "");
  }
  void slots(uint64_t slot, uint64_t bytes) {
    need(slot * 8 + bytes <= uint64_t(h_.slot_count) * 8, "names a register outside the file");
  }
  const Memory *memory(uint32_t number, uint8_t access) {
    need(number < h_.memory_count, "names a memory that there is not");
    if (problem_) return nullptr;
    need((k_.memories[number].access & access) == access, "accesses a memory in a way that it does not allow");
    return &k_.memories[number];
  }

  void check(const Instruction &i) {
    if (i.op < kLaneOps) {
      const Form &f = kForms[i.op];
      slots(i.d, f.d * i.n);
      slots(i.a, f.a * i.n);
      if (f.b) slots(i.b, f.b * i.n);
      if (f.c) slots(i.c, f.c * i.n);
      if (!problem_) need_classes(missing_classes(Op(i.op), i.n));
      return;
    }
    const Op op = Op(i.op);
    // Pairs of opcodes for 4 and 8 bytes start at an opcode of even distance from const_32.
    const uint32_t width = (i.op - kLaneOps) % 2 ? 8 : 4;
    static_assert(
        (uint32_t(Op::shuffle_64) - kLaneOps) % 2 == 1 && (uint32_t(Op::const_32) - kLaneOps) % 2 == 0,
        "pairs");
    switch (op) {
      case Op::const_32:
      case Op::const_64:
      case Op::iota_32:
      case Op::iota_64:
        return slots(i.d, i.n * width);
      case Op::splat_32:
      case Op::splat_64:
        slots(i.d, i.n * width);
        return slots(i.a, width);
      case Op::move_32:
      case Op::move_64:
        slots(i.d, i.n * width);
        return slots(i.a, i.n * width);
      case Op::pick_32:
      case Op::pick_64:
        slots(i.d, i.n * width);
        slots(i.a, 4);
        slots(i.b, i.n * width);
        return slots(i.c, i.n * width);
      case Op::extract_32:
      case Op::extract_64:
        slots(i.d, width);
        need(i.imm < i.n, "names a lane that there is not");
        return slots(i.a, i.n * width);
      case Op::insert_32:
      case Op::insert_64:
        slots(i.d, i.n * width);
        slots(i.a, i.n * width);
        need(i.imm < i.n, "names a lane that there is not");
        return slots(i.b, width);
      case Op::shuffle_32:
      case Op::shuffle_64: {
        need(i.imm >= 1 && i.imm <= kMaxLanes, "has no lanes, or more than 1024");
        if (!words(i.n)) return;
        slots(i.d, i.n * width);
        slots(i.a, i.imm * width);
        slots(i.b, i.imm * width);
        for (uint32_t l = 0; l < i.n; ++l) need(extra(l) < 2 * i.imm, "names a lane that there is not");
        return;
      }
      case Op::sum_i32:
      case Op::sum_f32:
      case Op::product_i32:
      case Op::product_f32:
      case Op::least_i32:
      case Op::least_f32:
      case Op::most_i32:
      case Op::most_f32:
        return reduction(i, 4);
      case Op::sum_i64:
      case Op::sum_f64:
      case Op::product_i64:
      case Op::product_f64:
      case Op::least_i64:
      case Op::least_f64:
      case Op::most_i64:
      case Op::most_f64:
        return reduction(i, 8);
      case Op::load_step: {
        const Memory *m = memory(i.imm, kReads);
        if (!m) return;
        slots(i.d, lane_bytes(m->storage) * uint64_t(i.n));
        slots(i.a, 8);
        return slots(i.b, 8);
      }
      case Op::load:
      case Op::load_part:
      case Op::load_if:
      case Op::load_mask:
      case Op::gather:
      case Op::gather_mask: {
        const Memory *m = memory(i.imm, kReads);
        if (!m) return;
        const uint64_t bytes = lane_bytes(m->storage) * uint64_t(i.n);
        slots(i.d, bytes);
        slots(i.a, op == Op::gather || op == Op::gather_mask ? 8 * i.n : 8);
        if (op == Op::load_part) slots(i.b, 8);
        if (op == Op::load_if) slots(i.b, 4);
        if (op == Op::load_mask || op == Op::gather_mask) slots(i.b, 4 * i.n);
        if (op != Op::load && op != Op::gather) slots(i.c, bytes);
        return;
      }
      case Op::store:
      case Op::store_part:
      case Op::store_if:
      case Op::store_mask:
      case Op::scatter:
      case Op::scatter_mask: {
        const Memory *m = memory(i.imm, kWrites);
        if (!m) return;
        slots(i.a, op == Op::scatter || op == Op::scatter_mask ? 8 * i.n : 8);
        slots(i.b, lane_bytes(m->storage) * uint64_t(i.n));
        if (op == Op::store_part) slots(i.c, 8);
        if (op == Op::store_if) slots(i.c, 4);
        if (op == Op::store_mask || op == Op::scatter_mask) slots(i.c, 4 * i.n);
        return;
      }
      case Op::atomic_add:
      case Op::atomic_min:
      case Op::atomic_max: {
        const Memory *m = memory(i.imm, kReads | kWrites);
        if (!m) return;
        need(m->storage == Storage::i32 || m->storage == Storage::i64,
             "is atomic on what is neither i32 nor i64");
        need(i.n == 1, "is atomic over several lanes");
        slots(i.d, 8);
        slots(i.a, 8);
        return slots(i.b, 8);
      }
      case Op::tile:
        return tile(i);
      case Op::jump:
      case Op::end:
        return;
      case Op::jump_if:
      case Op::jump_unless:
      case Op::error:
        return slots(i.a, 4);
      case Op::jump_ge_i32:
      case Op::jump_ge_i64:
        slots(i.a, 8);
        return slots(i.b, 8);
      case Op::loop_i32:
      case Op::loop_i64:
        slots(i.d, 8);
        slots(i.a, 8);
        return slots(i.b, 8);
      default:
        need(false, "has an unknown opcode");
    }
  }

  void reduction(const Instruction &i, uint32_t width) {
    need(is_power_of_two(i.n), "reduces a number of lanes that is no power of two");
    slots(i.d, width);
    slots(i.a, i.n * width);
    // By class: i32, i64, f32, f64.
    constexpr uint8_t kClasses[4] = {0, kClassI64, 0, kClassF64};
    if (!problem_) need_classes(kClasses[(i.op - uint32_t(Op::sum_i32)) % 4] & ~kBuiltClasses);
  }

  // The u16 that follow the instruction.
  bool words(uint32_t u16_count) {
    const uint32_t extra = extra_words(u16_count);
    need(extra < h_.instruction_count - at_, "is cut off");
    words_ = 1 + extra;
    return !problem_;
  }
  uint32_t extra(uint32_t i) const {
    uint16_t value;
    memcpy(&value, reinterpret_cast<const uint8_t *>(k_.code + at_ + 1) + 2 * i, 2);
    return value;
  }

  void tile(const Instruction &i) {
    const uint32_t rows = i.b, vectors = i.c, loops = i.a & 0xff;
    need(rows >= 1 && rows <= kMaxTileRows && vectors >= 1 && vectors <= kMaxTileVectors && loops >= 1 &&
             loops <= kMaxTileLoops && (i.a & ~(0xffu | kTileZero)) == 0,
         "has a shape that tiles do not have");
    if (problem_) return;
    need(i.imm == tile_operands(rows, vectors, loops), "has another number of operands than its shape says");
    if (problem_ || !words(i.imm)) return;
    const Memory *a = memory(extra(0), kReads), *b = problem_ ? nullptr : memory(extra(1), kReads);
    if (problem_) return;
    need(a->storage == b->storage && a->storage >= Storage::i32,
         "multiplies memories of different types, or of small ones");
    slots(i.d, uint64_t(rows) * vectors * i.n * lane_bytes(a->storage));
    for (uint32_t o = 2; o < i.imm; ++o) slots(extra(o), 8);
    const uint8_t needed = a->storage == Storage::i64 ? kClassI64 : a->storage == Storage::f64 ? kClassF64 : 0;
    if (!problem_) need_classes(needed & ~kBuiltClasses);
  }

  Kernel &k_;
  const Header &h_;
  Error *error_;
  uint32_t at_ = 0, words_ = 1;
  uint8_t missing_ = 0; // classes that the instruction needs and this build has not
  const char *problem_ = nullptr;
};

Code check_memories(const Kernel &k, const Signature &signature, uint64_t *array_bytes, Error *error) {
  uint64_t total = 0;
  for (uint32_t i = 0; i < k.header->memory_count; ++i) {
    const Memory &m = k.memories[i];
    if (uint32_t(m.storage) >= kStorageCount)
      return fail(error, INGOT_CORRUPT, "bytecode: memory %u has an unknown type", i);
    for (uint8_t byte : m.reserved)
      if (byte) return fail(error, INGOT_CORRUPT, "bytecode: memory %u has reserved bytes that are not 0", i);
    const bool is_array = i >= signature.binding_count;
    if (is_array ? m.access != (kReads | kWrites) : m.access != signature.binding_access[i])
      return fail(error, INGOT_CORRUPT, "bytecode: memory %u has an access that is not its binding's", i);
    if (is_array ? m.elements == 0 || m.elements > kMaxArrayBytes : m.elements != 0)
      return fail(error, INGOT_CORRUPT, "bytecode: memory %u has a size that it cannot have", i);
    if (is_array) total += align_up(m.elements * storage_bytes(m.storage), kAlignment);
    if (total > kMaxArrayBytes) return fail(error, INGOT_CORRUPT, "bytecode: the arrays take more than 1 GiB");
  }
  *array_bytes = total;
  return INGOT_OK;
}

} // namespace

Code verify(const ingot_allocator_t &allocator, const uint8_t *image, size_t size, uint64_t offset,
            const Signature &signature, Kernel *out, Error *error) {
  if (offset % 8 || uintptr_t(image) % 8 || !fits(offset, sizeof(Header), size))
    return fail(error, INGOT_CORRUPT, "bytecode: a kernel at byte %llu of an image of %zu",
                (unsigned long long)offset, size);
  Kernel k;
  k.header = reinterpret_cast<const Header *>(image + offset);
  const Header &h = *k.header;
  if (h.magic != kMagic || h.reserved)
    return fail(error, INGOT_CORRUPT, "bytecode: no kernel at byte %llu: magic 0x%08x, expected 0x%08x",
                (unsigned long long)offset, h.magic, kMagic);
  if (h.binding_count != signature.binding_count || h.param_count != signature.param_count)
    return fail(error, INGOT_CORRUPT, "bytecode: %u bindings and %u params, but the archive says %u and %u",
                h.binding_count, h.param_count, signature.binding_count, signature.param_count);
  if (h.memory_count < h.binding_count || h.memory_count > kMaxMemories || h.slot_count > kMaxSlots ||
      h.instruction_count > kMaxInstructions || h.param_count > h.slot_count ||
      kParamSlot + h.param_count > h.slot_count)
    return fail(error, INGOT_CORRUPT,
                "bytecode: %u memories, %u slots, %u instructions, %u params: out of bounds", h.memory_count,
                h.slot_count, h.instruction_count, h.param_count);
  const uint64_t memories = h.memory_count * sizeof(Memory), code = h.instruction_count * sizeof(Instruction);
  if (!fits(offset + sizeof(Header), memories + code, size))
    return fail(error, INGOT_CORRUPT, "bytecode: the kernel at byte %llu ends past the image's end",
                (unsigned long long)offset);
  k.memories = reinterpret_cast<const Memory *>(image + offset + sizeof(Header));
  k.code = reinterpret_cast<const Instruction *>(image + offset + sizeof(Header) + memories);
  uint64_t arrays = 0;
  INGOT_TRY(check_memories(k, signature, &arrays, error));
  k.scratch_bytes = align_up(h.memory_count * uint64_t(24), kAlignment) +
                    align_up(h.slot_count * uint64_t(8), kAlignment) + arrays;
  Array<uint8_t> starts;
  INGOT_TRY(starts.create(allocator, h.instruction_count, "the bytecode verifier", error));
  INGOT_TRY(Verifier(k, error).run(starts.data()));
  *out = k;
  return INGOT_OK;
}

} // namespace ingot::bytecode
