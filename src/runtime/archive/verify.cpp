// The meaning of an archive's metadata, checked once at load: after this, execution trusts every index, every word of
// the command streams and every constant size; what depends on dims is checked when they are bound.
#include <stdarg.h>
#include <stdio.h>

#include "src/runtime/archive/archive.h"
#include "src/runtime/program/expr.h"

namespace ingot {
namespace {

using program::kNone;
using program::Opcode;
using program::SlotKind;

constexpr uint64_t kMaxStateBytes = uint64_t(1) << 40;

// Bits of Verifier::depends.
constexpr uint8_t kOnInput = 1, kOnHost = 2;

class FunctionVerifier {
public:
  // The function whose number is that of functions is the prepare section.
  FunctionVerifier(const ingot_archive_t &archive, uint32_t variant, uint32_t function, Error *error)
      : archive_(archive), v_(archive.variant(variant)), prepare_(INGOT_DEVICE_MEMORY && function == count(v_->functions())),
        f_(prepare_ ? v_->prepare() : archive.function(variant, function)), error_(error), variant_(variant),
        function_(function) {}

  Code run() {
    if (!*text(f_->name())) return bad("it has no name");
    if (prepare_ && (count(f_->symbols()) | count(f_->inputs()) | count(f_->outputs()) | count(f_->subroutines())))
      return bad("what prepares has no symbols, inputs, outputs and subroutines");
    INGOT_TRY(symbols());
    INGOT_TRY(exprs());
    INGOT_TRY(tensors());
    INGOT_TRY(slots());
    INGOT_TRY(sites());
    if (archive_.values())
      if (const char *problem = archive_.values()->verify(archive_, f_, nullptr)) return bad("%s", problem);
    return commands();
  }

private:
  Code bad(const char *format, ...) __attribute__((format(printf, 2, 3), cold)) {
    char what[300];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    return fail(error_, INGOT_CORRUPT, "archive: variant %u (%.30s), function %u (%.60s): %s", variant_,
                text(v_->target()), function_, text(f_->name()), what);
  }

  bool is_expr(uint32_t e) const { return e < count(f_->exprs()); }
  // The value of an expression that no symbol can change.
  bool constant(uint32_t e, int64_t *out) const {
    if (depends_[e] != 0 || states_[e] != ExprState::value) return false;
    *out = values_[e];
    return true;
  }
  // A size that must be a constant node, not negative and at most `limit`.
  bool constant_size(uint32_t e, uint64_t limit, uint64_t *out) const {
    const schema::Expr *node = f_->exprs()->Get(e);
    if (node->op() != uint32_t(program::ExprOp::constant) || node->value() < 0 || uint64_t(node->value()) > limit) return false;
    *out = uint64_t(node->value());
    return true;
  }

  Code symbols() {
    INGOT_TRY(bound_.create(archive_.allocator, count(f_->symbols()), "verification", error_));
    for (uint32_t i = 0; i < count(f_->symbols()); ++i) {
      const schema::Symbol *s = f_->symbols()->Get(i);
      if (s->kind() > uint8_t(program::SymbolKind::host)) return bad("symbol %u: unknown kind", i);
      if (s->min() > s->max()) return bad("symbol %u: its minimum is above its maximum", i);
      if (s->kind() == uint8_t(program::SymbolKind::input) && (s->min() < 0 || s->max() > program::kMaxDim))
        return bad("symbol %u: the range of a dim must lie in 0 .. 2^31", i);
    }
    return INGOT_OK;
  }

  Code exprs() {
    const uint32_t n = count(f_->exprs());
    // FlatBuffers' own verifier looks at the alignment of a vector's length only.
    if (n && uintptr_t(f_->exprs()->Data()) % alignof(schema::Expr) != 0) return bad("its expressions are not aligned");
    INGOT_TRY(depends_.create(archive_.allocator, n, "verification", error_));
    INGOT_TRY(values_.create(archive_.allocator, n, "verification", error_));
    INGOT_TRY(states_.create(archive_.allocator, n, "verification", error_));
    for (uint32_t i = 0; i < n; ++i) {
      const schema::Expr *e = f_->exprs()->Get(i);
      if (e->op() >= program::kExprOpCount) return bad("expression %u: unknown operator %u", i, e->op());
      if (e->op() == uint32_t(program::ExprOp::symbol)) {
        if (e->a() >= count(f_->symbols())) return bad("expression %u: no symbol %u", i, e->a());
        depends_[i] = f_->symbols()->Get(e->a())->kind() == uint8_t(program::SymbolKind::host) ? kOnHost : kOnInput;
        continue;
      }
      const uint32_t operands[3] = {e->a(), e->b(), e->c()};
      for (uint32_t k = 0; k < expr_operands(e->op()); ++k) {
        if (operands[k] >= i) return bad("expression %u: its operand %u does not come before it", i, operands[k]);
        depends_[i] |= depends_[operands[k]];
      }
    }
    Array<int64_t> none; // all symbols unset: constants get values, the rest does not
    INGOT_TRY(none.create(archive_.allocator, count(f_->symbols()), "verification", error_));
    evaluate(f_->exprs(), none.data(), bound_.data(), values_.data(), states_.data(), nullptr);
    return INGOT_OK;
  }

  Code tensor(const char *kind, uint32_t index, const schema::TensorSpec *t) {
    if (t->type() == 0 || t->type() >= INGOT_ELEMENT_TYPE_COUNT) return bad("%s %u: unknown element type", kind, index);
    if (count(t->dims()) > program::kMaxRank) return bad("%s %u: rank %u, above 8", kind, index, count(t->dims()));
    if (count(t->dim_names()) != 0 && count(t->dim_names()) != count(t->dims()))
      return bad("%s %u: %u names for %u dims", kind, index, count(t->dim_names()), count(t->dims()));
    for (uint32_t d = 0; d < count(t->dims()); ++d)
      if (!is_expr(t->dims()->Get(d))) return bad("%s %u: dim %u is no expression", kind, index, d);
    return INGOT_OK;
  }

  Code tensors() {
    for (uint32_t i = 0; i < count(f_->inputs()); ++i) {
      const schema::TensorSpec *t = f_->inputs()->Get(i);
      INGOT_TRY(tensor("input", i, t));
      for (uint32_t d = 0; d < count(t->dims()); ++d) {
        const uint32_t e = t->dims()->Get(d);
        if (depends_[e] & kOnHost) return bad("input %u: dim %u depends on a host scalar", i, d);
        const schema::Expr *node = f_->exprs()->Get(e);
        if (node->op() == uint32_t(program::ExprOp::symbol)) bound_[node->a()] = 1;
      }
    }
    for (uint32_t i = 0; i < count(f_->symbols()); ++i)
      if (f_->symbols()->Get(i)->kind() == uint8_t(program::SymbolKind::input) && !bound_[i])
        return bad("symbol %u (%.40s): no input binds it", i, text(f_->symbols()->Get(i)->name()));
    for (uint32_t i = 0; i < count(f_->outputs()); ++i) {
      const schema::TensorSpec *t = f_->outputs()->Get(i);
      INGOT_TRY(tensor("output", i, t));
      uint8_t late = 0;
      for (uint32_t d = 0; d < count(t->dims()); ++d) late |= depends_[t->dims()->Get(d)] & kOnHost;
      if (t->capacity() == kNone && late) return bad("output %u: its size depends on data, and it has no capacity", i);
      if (t->capacity() != kNone && (!is_expr(t->capacity()) || depends_[t->capacity()] & kOnHost))
        return bad("output %u: its capacity is no expression over input dims", i);
    }
    for (uint32_t i = 0; i < count(f_->arenas()); ++i)
      if (!is_expr(f_->arenas()->Get(i))) return bad("arena %u: its size is no expression", i);
    return INGOT_OK;
  }

  Code slot(uint32_t i) {
    const schema::Slot *s = f_->slots()->Get(i);
    if (s->kind() >= program::kSlotKindCount) return bad("slot %u: unknown kind %u", i, s->kind());
    if (!is_expr(s->size())) return bad("slot %u: its size is no expression", i);
    int64_t size, offset;
    if (constant(s->size(), &size) && size < 0) return bad("slot %u: its size is negative", i);
    const SlotKind kind = SlotKind(s->kind());
    const bool has_offset = kind == SlotKind::transient || kind == SlotKind::alias;
    if (has_offset && !is_expr(s->offset())) return bad("slot %u: its offset is no expression", i);
    uint64_t bytes = 0;
    switch (kind) {
    case SlotKind::constant:
      if (s->of() >= archive_.segments.size()) return bad("slot %u: no segment %u", i, s->of());
      if (archive_.root()->segments()->Get(s->of())->kind() == uint8_t(program::SegmentKind::code))
        return bad("slot %u: its segment %u is code", i, s->of());
      if (!constant_size(s->size(), INT64_MAX, &bytes)) return bad("slot %u: the size of a constant must be constant", i);
      if (!fits(s->segment_offset(), bytes, archive_.segments[s->of()].size))
        return bad("slot %u: %llu bytes at %llu end past segment %u of %llu", i, (unsigned long long)bytes,
                   (unsigned long long)s->segment_offset(), s->of(), (unsigned long long)archive_.segments[s->of()].size);
      break;
    case SlotKind::splat:
      if (!is_power_of_two(s->pattern_bytes()) || s->pattern_bytes() > 8)
        return bad("slot %u: a splat's element takes 1, 2, 4 or 8 bytes, not %u", i, s->pattern_bytes());
      if (!constant_size(s->size(), uint64_t(1) << 33, &bytes) || bytes % s->pattern_bytes() != 0)
        return bad("slot %u: the size of a splat must be a constant multiple of its element", i);
      break;
    case SlotKind::input:
      if (s->of() >= count(f_->inputs())) return bad("slot %u: no input %u", i, s->of());
      break;
    case SlotKind::output:
      if (s->of() >= count(f_->outputs())) return bad("slot %u: no output %u", i, s->of());
      break;
    case SlotKind::transient: {
      if (s->of() >= count(f_->arenas())) return bad("slot %u: no arena %u", i, s->of());
      int64_t arena;
      if (constant(s->offset(), &offset) && constant(s->size(), &size) && constant(f_->arenas()->Get(s->of()), &arena) &&
          (offset < 0 || arena < 0 || !fits(uint64_t(offset), uint64_t(size), uint64_t(arena))))
        return bad("slot %u: %lld bytes at %lld end past arena %u of %lld", i, (long long)size, (long long)offset,
                   s->of(), (long long)arena);
      break;
    }
    case SlotKind::alias: {
      if (s->of() >= i) return bad("slot %u: an alias of slot %u, which does not come before it", i, s->of());
      depth_[i] = uint8_t(depth_[s->of()] + 1);
      if (depth_[i] > 8) return bad("slot %u: more than 8 aliases of one another", i);
      int64_t parent;
      if (constant(s->offset(), &offset) && constant(s->size(), &size) &&
          constant(f_->slots()->Get(s->of())->size(), &parent) &&
          (offset < 0 || !fits(uint64_t(offset), uint64_t(size), uint64_t(parent))))
        return bad("slot %u: %lld bytes at %lld end past slot %u of %lld", i, (long long)size, (long long)offset,
                   s->of(), (long long)parent);
      writable_[i] = writable_[s->of()];
      return INGOT_OK;
    }
    case SlotKind::state:
    case SlotKind::prepared:
      if (kind == SlotKind::state && s->of() >= 4096) return bad("slot %u: state %u, above 4095", i, s->of());
      if (!constant_size(s->size(), kMaxStateBytes, &bytes)) return bad("slot %u: its size must be constant", i);
      if (prepare_ && kind == SlotKind::state) return bad("slot %u: what prepares has no state", i);
      if (kind == SlotKind::prepared && !v_->prepare()) return bad("slot %u: nothing prepares it", i);
      break;
    }
    writable_[i] = kind == SlotKind::output || kind == SlotKind::transient || kind == SlotKind::state ||
                   (kind == SlotKind::prepared && prepare_);
    return INGOT_OK;
  }

  Code slots() {
    const uint32_t n = count(f_->slots());
    INGOT_TRY(depth_.create(archive_.allocator, n, "verification", error_));
    INGOT_TRY(writable_.create(archive_.allocator, n, "verification", error_));
    for (uint32_t i = 0; i < n; ++i) INGOT_TRY(slot(i));
    return INGOT_OK;
  }

  Code sites() {
    for (uint32_t i = 0; i < count(f_->sites()); ++i) {
      const schema::Site *s = f_->sites()->Get(i);
      if (s->kernel() >= count(v_->kernels())) return bad("site %u: no kernel %u", i, s->kernel());
      if ((s->flops() != kNone && !is_expr(s->flops())) || (s->bytes() != kNone && !is_expr(s->bytes())))
        return bad("site %u: a cost is no expression", i);
    }
    return INGOT_OK;
  }

  // ---- command words ----

  struct Place {
    uint32_t text, word; // text: kNone for the main one, else the subroutine
  };
  Code bad_command(Place at, const char *what) {
    if (at.text == kNone) return bad("command at word %u: %s", at.word, what);
    return bad("subroutine %u, command at word %u: %s", at.text, at.word, what);
  }

  // Slot, offset and length of an access; constant ones must lie inside.
  Code access(Place at, uint32_t slot, uint32_t offset, uint32_t length, bool write) {
    if (!is_expr(length)) return bad_command(at, "no such expression");
    return access_from(at, slot, offset, length, write);
  }
  // The same; length kNone: one element of a scalar, whose size the run checks.
  Code access_from(Place at, uint32_t slot, uint32_t offset, uint32_t length, bool write) {
    if (slot >= count(f_->slots())) return bad_command(at, "no such slot");
    if (!is_expr(offset)) return bad_command(at, "no such expression");
    if (write && !writable_[slot]) return bad_command(at, "it writes to a constant, a splat, an input or what is prepared");
    int64_t begin, bytes = 1, size;
    if (constant(offset, &begin) && begin < 0) return bad_command(at, "a negative offset");
    if (length != kNone && constant(length, &bytes) && bytes < 0) return bad_command(at, "a negative length");
    if (constant(offset, &begin) && (length == kNone || constant(length, &bytes)) &&
        constant(f_->slots()->Get(slot)->size(), &size) && !fits(uint64_t(begin), uint64_t(bytes), uint64_t(size)))
      return bad_command(at, "it reaches past the end of its slot");
    return INGOT_OK;
  }

  Code dispatch(Place at, const uint32_t *w, uint32_t length) {
    if (length < 8) return bad_command(at, "a dispatch is too short");
    if (w[1] >= count(v_->kernels())) return bad_command(at, "no such kernel");
    if (w[2] != kNone && w[2] >= count(f_->sites())) return bad_command(at, "no such site");
    for (uint32_t k = 3; k < 6; ++k) {
      int64_t groups;
      if (!is_expr(w[k])) return bad_command(at, "a grid size is no expression");
      if (constant(w[k], &groups) && (groups < 0 || groups > UINT32_MAX)) return bad_command(at, "a grid size is out of range");
    }
    const schema::Kernel *kernel = v_->kernels()->Get(w[1]);
    if (w[6] != count(kernel->bindings()) || w[7] != kernel->param_count())
      return bad_command(at, "bindings or parameters differ in number from the kernel's");
    if (length != 8 + 3 * w[6] + w[7]) return bad_command(at, "a dispatch has the wrong length");
    for (uint32_t b = 0; b < w[6]; ++b) {
      const uint32_t *r = w + 8 + 3 * b;
      INGOT_TRY(access(at, r[0], r[1], r[2], (kernel->bindings()->Get(b) & program::kAccessWrite) != 0));
    }
    for (uint32_t p = 0; p < w[7]; ++p)
      if (!is_expr(w[8 + 3 * w[6] + p])) return bad_command(at, "a parameter is no expression");
    return INGOT_OK;
  }

  bool is_host_symbol(uint32_t s) const {
    return s < count(f_->symbols()) && f_->symbols()->Get(s)->kind() == uint8_t(program::SymbolKind::host);
  }

  // Words [begin, end) of a text; `depth` is the nesting so far. *deepest rises to the nesting inside.
  Code body(uint32_t text, const uint32_t *words, uint32_t begin, uint32_t end, uint32_t depth, uint32_t *deepest) {
    if (depth > program::kMaxNesting) return bad_command({text, begin}, "nested more than 32 deep");
    if (depth > *deepest) *deepest = depth;
    for (uint32_t at = begin; at < end;) {
      const Place place = {text, at};
      const uint32_t *w = words + at;
      const uint32_t length = w[0] >> 8;
      if (length == 0 || length > end - at) return bad_command(place, "its length does not fit the text");
      if (prepare_ && (w[0] & 0xff) > uint32_t(Opcode::barrier)) return bad_command(place, "a decision while preparing");
      const auto exactly = [&](uint32_t n) { return length == n ? Code(INGOT_OK) : bad_command(place, "wrong length"); };
      switch (Opcode(w[0] & 0xff)) {
      case Opcode::dispatch: INGOT_TRY(dispatch(place, w, length)); break;
      case Opcode::copy:
        INGOT_TRY(exactly(6));
        INGOT_TRY(access(place, w[1], w[2], w[5], true));
        INGOT_TRY(access(place, w[3], w[4], w[5], false));
        break;
      case Opcode::fill:
        INGOT_TRY(exactly(7));
        if (!is_power_of_two(w[4]) || w[4] > 8) return bad_command(place, "a fill pattern takes 1, 2, 4 or 8 bytes");
        INGOT_TRY(access(place, w[1], w[2], w[3], true));
        break;
      case Opcode::barrier: INGOT_TRY(exactly(1)); break;
      case Opcode::read_scalar:
        INGOT_TRY(exactly(5));
        if (w[3] < INGOT_ELEMENT_TYPE_BOOL || w[3] > INGOT_ELEMENT_TYPE_U64)
          return bad_command(place, "a scalar must be a bool or an integer");
        if (!is_host_symbol(w[4])) return bad_command(place, "no such host symbol");
        INGOT_TRY(access_from(place, w[1], w[2], kNone, false));
        break;
      case Opcode::check:
        INGOT_TRY(exactly(3));
        if (!is_expr(w[1])) return bad_command(place, "its condition is no expression");
        if (w[2] >= count(f_->messages())) return bad_command(place, "no such message");
        break;
      case Opcode::branch:
        if (length < 4 || w[2] > length - 4 || w[3] != length - 4 - w[2]) return bad_command(place, "wrong length");
        if (!is_expr(w[1])) return bad_command(place, "its condition is no expression");
        INGOT_TRY(body(text, words, at + 4, at + 4 + w[2], depth + 1, deepest));
        INGOT_TRY(body(text, words, at + 4 + w[2], at + length, depth + 1, deepest));
        break;
      case Opcode::loop:
        if (length < 5 || w[4] != length - 5) return bad_command(place, "wrong length");
        if (w[1] == kNone && w[2] == kNone) return bad_command(place, "a loop with neither trip count nor condition");
        if (w[1] != kNone && !is_expr(w[1])) return bad_command(place, "its trip count is no expression");
        if ((w[2] != kNone && !is_host_symbol(w[2])) || (w[3] != kNone && !is_host_symbol(w[3])))
          return bad_command(place, "no such host symbol");
        INGOT_TRY(body(text, words, at + 5, at + length, depth + 1, deepest));
        break;
      case Opcode::call: {
        INGOT_TRY(exactly(2));
        const uint32_t limit = text == kNone ? count(f_->subroutines()) : text;
        if (w[1] >= limit) return bad_command(place, "it calls a subroutine that does not come before it");
        const uint32_t inside = depth + 1 + nesting_[w[1]];
        if (inside > program::kMaxNesting) return bad_command(place, "nested more than 32 deep");
        if (inside > *deepest) *deepest = inside;
        break;
      }
      case Opcode::bind:
        INGOT_TRY(exactly(3));
        if (!is_expr(w[1])) return bad_command(place, "its value is no expression");
        if (!is_host_symbol(w[2])) return bad_command(place, "no such host symbol");
        break;
      case Opcode::host_op:
        if (archive_.values()) {
          if (const char *problem = archive_.values()->verify(archive_, f_, w)) return bad_command(place, problem);
          break;
        }
        [[fallthrough]]; // without the feature there is no such opcode
      default: return bad_command(place, "unknown opcode");
      }
      at += length;
    }
    return INGOT_OK;
  }

  Code commands() {
    const uint32_t n = count(f_->subroutines());
    INGOT_TRY(nesting_.create(archive_.allocator, n, "verification", error_));
    for (uint32_t i = 0; i <= n; ++i) { // the main text comes last
      const auto *words = i < n ? f_->subroutines()->Get(i)->commands() : f_->commands();
      uint32_t deepest = 0;
      INGOT_TRY(body(i < n ? i : kNone, words ? words->data() : nullptr, 0, count(words), 0, &deepest));
      if (i < n) nesting_[i] = deepest;
    }
    return INGOT_OK;
  }

  const ingot_archive_t &archive_;
  const schema::Variant *v_;
  const bool prepare_;
  const schema::Function *f_;
  Error *error_;
  uint32_t variant_, function_;
  Array<uint8_t> bound_, depends_, depth_, writable_;
  Array<int64_t> values_;
  Array<ExprState> states_;
  Array<uint32_t> nesting_;
};

Code verify_kernels(const ingot_archive_t &archive, uint32_t index, Error *error) {
  const schema::Variant *v = archive.variant(index);
  for (uint32_t i = 0; i < count(v->executables()); ++i) {
    const schema::Executable *e = v->executables()->Get(i);
    if (e->format() == 0 || e->format() > uint8_t(program::CodeFormat::bytecode) ||
        e->segment() >= archive.segments.size() ||
        archive.root()->segments()->Get(e->segment())->kind() != uint8_t(program::SegmentKind::code))
      return fail(error, INGOT_CORRUPT, "archive: variant %u, executable %u: unknown format, or no segment of code", index, i);
  }
  for (uint32_t i = 0; i < count(v->kernels()); ++i) {
    const schema::Kernel *k = v->kernels()->Get(i);
    const auto bad = [&](const char *what) {
      return fail(error, INGOT_CORRUPT, "archive: variant %u (%.30s), kernel %u (%.80s): %s", index, text(v->target()), i,
                  text(k->name()), what);
    };
    if (count(k->bindings()) > program::kMaxBindings || k->param_count() > program::kMaxParams)
      return bad("more than 64 bindings or parameters");
    for (uint32_t b = 0; b < count(k->bindings()); ++b)
      if (k->bindings()->Get(b) < 1 || k->bindings()->Get(b) > 3) return bad("a binding's access is not 1, 2 or 3");
    if (count(k->versions()) == 0) return bad("it has no code version");
    if (k->local_x() == 0 || k->local_y() == 0 || k->local_z() == 0) return bad("its local size is 0");
    for (uint32_t n = 0; n < count(k->versions()); ++n) {
      const schema::CodeVersion *c = k->versions()->Get(n);
      if (c->executable() >= count(v->executables())) return bad("a code version names no executable");
      if (c->scratch_bytes() > uint64_t(1) << 32) return bad("a code version wants more than 4 GiB of scratch memory");
    }
  }
  return INGOT_OK;
}

bool same_tensors(const flatbuffers::Vector<flatbuffers::Offset<schema::TensorSpec>> *a,
                  const flatbuffers::Vector<flatbuffers::Offset<schema::TensorSpec>> *b) {
  if (count(a) != count(b)) return false;
  for (uint32_t i = 0; i < count(a); ++i)
    if (!strings_equal(text(a->Get(i)->name()), text(b->Get(i)->name())) || a->Get(i)->type() != b->Get(i)->type() ||
        count(a->Get(i)->dims()) != count(b->Get(i)->dims()))
      return false;
  return true;
}

} // namespace

Code verify_meaning(const ingot_archive_t &archive, Error *error) {
  const schema::Archive *root = archive.root();
  if (root->provenance() && count(root->provenance()->source_sha256()) != 0 &&
      count(root->provenance()->source_sha256()) != 32)
    return fail(error, INGOT_CORRUPT, "archive: the source's SHA-256 has %u bytes", count(root->provenance()->source_sha256()));
  if (count(root->variants()) == 0) return fail(error, INGOT_CORRUPT, "archive: it holds no variant");
  for (uint32_t v = 0; v < count(root->variants()); ++v) {
    const schema::Variant *variant = archive.variant(v), *first = archive.variant(0);
    if (!is_power_of_two(variant->io_alignment()) || variant->io_alignment() > kAlignment)
      return fail(error, INGOT_CORRUPT, "archive: variant %u: its alignment is not a power of two up to 64", v);
    if (count(variant->functions()) == 0) return fail(error, INGOT_CORRUPT, "archive: variant %u: it has no function", v);
    INGOT_TRY(verify_kernels(archive, v, error));
    if (count(variant->functions()) != count(first->functions()))
      return fail(error, INGOT_CORRUPT, "archive: variant %u has %u functions, variant 0 has %u", v,
                  count(variant->functions()), count(first->functions()));
    if (INGOT_DEVICE_MEMORY && variant->prepare()) INGOT_TRY(FunctionVerifier(archive, v, count(variant->functions()), error).run());
    for (uint32_t f = 0; f < count(variant->functions()); ++f) {
      INGOT_TRY(FunctionVerifier(archive, v, f, error).run());
      const schema::Function *a = first->functions()->Get(f), *b = variant->functions()->Get(f);
      if (!strings_equal(text(a->name()), text(b->name())) || !same_tensors(a->inputs(), b->inputs()) ||
          !same_tensors(a->outputs(), b->outputs()))
        return fail(error, INGOT_CORRUPT, "archive: function %u has another signature in variant %u than in variant 0", f, v);
    }
  }
  return INGOT_OK;
}

} // namespace ingot
