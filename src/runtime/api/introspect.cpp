// What the C ABI tells about an archive: sizes, names, tables, texts. A program that only runs models does not link it.
#include <stdarg.h>
#include <stdio.h>

#include "src/runtime/api/objects.h"
#include "src/runtime/program/expr.h"
#include "src/runtime/program/plan.h"

using namespace ingot;
using program::kNone;
using program::Opcode;

namespace {

// The names of enumerators, by number.
const char *segment_kind(uint32_t kind) {
  static constexpr char names[][8] = {"weights", "code", "other"};
  return kind < 3 ? names[kind] : "?";
}
const char *code_format(uint32_t format) {
  static constexpr char names[][9] = {"none", "elf", "spirv", "ptx", "cubin", "hsaco", "msl", "wgsl", "bytecode"};
  return format < 9 ? names[format] : "?";
}
const char *slot_kind(uint32_t kind) {
  static constexpr char names[][10] = {"constant", "splat", "input", "output", "transient", "alias", "state", "prepared"};
  return kind < 8 ? names[kind] : "?";
}

const schema::Variant *find_variant(const ingot_archive_t *archive, uint32_t v) {
  return archive && v < count(archive->root()->variants()) ? archive->variant(v) : nullptr;
}
const schema::Function *find_function(const ingot_archive_t *archive, uint32_t v, uint32_t f) {
  const schema::Variant *variant = find_variant(archive, v);
  if (!variant) return nullptr;
  const uint32_t functions = count(variant->functions());
  return f < functions ? variant->functions()->Get(f) : f == functions ? variant->prepare() : nullptr;
}

// Dispatches and host decisions in a text, nested ones included.
void count_commands(const flatbuffers::Vector<uint32_t> *words, ingot_function_info_t *out) {
  for (uint32_t at = 0; at < count(words);) { // bodies are walked through by stepping over their heads
    const uint32_t word = words->Get(at);
    const Opcode op = Opcode(word & 0xff);
    out->dispatch_count += op == Opcode::dispatch;
    out->host_decision_count += op == Opcode::read_scalar || op == Opcode::branch || op == Opcode::loop || op == Opcode::host_op;
    at += op == Opcode::branch ? 4 : op == Opcode::loop ? 5 : word >> 8;
  }
}

ingot_code_t signature(const schema::Function *f, const schema::TensorSpec *t, ingot_signature_tensor_t *out) {
  *out = {};
  out->name = text(t->name());
  out->type = t->type();
  out->rank = count(t->dims());
  for (uint32_t d = 0; d < out->rank; ++d) {
    out->dims[d] = t->dims()->Get(d);
    const schema::Expr *node = f->exprs()->Get(out->dims[d]);
    out->fixed_dims[d] = node->op() == uint32_t(program::ExprOp::constant) ? node->value() : -1;
    out->dim_names[d] = d < count(t->dim_names()) ? text(t->dim_names()->Get(d)) : "";
  }
  return INGOT_OK;
}

// snprintf that appends and never overruns.
struct Line {
  char *buffer;
  size_t capacity, length;
  void add(const char *format, ...) __attribute__((format(printf, 2, 3)));
  void expr(const schema::Function *f, uint32_t e) {
    char value[256];
    expr_text(f, e, value, sizeof value);
    add("%s", value);
  }
};

void Line::add(const char *format, ...) {
  if (length + 1 >= capacity) return;
  va_list arguments;
  va_start(arguments, format);
  const int n = vsnprintf(buffer + length, capacity - length, format, arguments);
  va_end(arguments);
  if (n > 0) length = length + size_t(n) < capacity ? length + size_t(n) : capacity - 1;
}

void print_slot(Line &line, const schema::Function *f, uint32_t slot) {
  line.add("%%%u", slot);
  if (f->slots()->Get(slot)->name()) line.add(":%s", text(f->slots()->Get(slot)->name()));
}

void print_command(Line &line, const schema::Variant *v, const schema::Function *f, const uint32_t *w) {
  const auto symbol = [&](uint32_t s) {
    if (s == kNone) line.add("-");
    else line.add("%s", text(f->symbols()->Get(s)->name()));
  };
  switch (Opcode(w[0] & 0xff)) {
  case Opcode::dispatch:
    line.add("dispatch %s grid(", text(v->kernels()->Get(w[1])->name()));
    for (uint32_t i = 0; i < 3; ++i) {
      if (i) line.add(", ");
      line.expr(f, w[3 + i]);
    }
    line.add(")");
    for (uint32_t i = 0; i < w[6]; ++i) {
      static constexpr char access[][7] = {"", " read", " write", " rw"};
      const uint32_t *b = w + 8 + 3 * i;
      line.add("%s ", access[v->kernels()->Get(w[1])->bindings()->Get(i) & 3]);
      print_slot(line, f, b[0]);
      line.add("[");
      line.expr(f, b[1]);
      line.add(", +");
      line.expr(f, b[2]);
      line.add("]");
    }
    if (w[7]) line.add(" params(");
    for (uint32_t i = 0; i < w[7]; ++i) {
      if (i) line.add(", ");
      line.expr(f, w[8 + 3 * w[6] + i]);
    }
    if (w[7]) line.add(")");
    break;
  case Opcode::copy:
    line.add("copy ");
    print_slot(line, f, w[1]);
    line.add("[");
    line.expr(f, w[2]);
    line.add("] <- ");
    print_slot(line, f, w[3]);
    line.add("[");
    line.expr(f, w[4]);
    line.add(", +");
    line.expr(f, w[5]);
    line.add("]");
    break;
  case Opcode::fill:
    line.add("fill ");
    print_slot(line, f, w[1]);
    line.add("[");
    line.expr(f, w[2]);
    line.add(", +");
    line.expr(f, w[3]);
    line.add("] with 0x%llx of %u bytes", (unsigned long long)(uint64_t(w[6]) << 32 | w[5]), w[4]);
    break;
  case Opcode::barrier: line.add("barrier"); break;
  case Opcode::read_scalar:
    line.add("read ");
    symbol(w[4]);
    line.add(" <- %s ", ingot_element_type_name(ingot_element_type_t(w[3])));
    print_slot(line, f, w[1]);
    line.add("[");
    line.expr(f, w[2]);
    line.add("]");
    break;
  case Opcode::check:
    line.add("check ");
    line.expr(f, w[1]);
    line.add(", \"%s\"", text(f->messages()->Get(w[2])));
    break;
  case Opcode::branch:
    line.add("if ");
    line.expr(f, w[1]);
    break;
  case Opcode::loop:
    line.add("loop ");
    symbol(w[3]);
    line.add(" < ");
    if (w[1] == kNone) line.add("-");
    else line.expr(f, w[1]);
    line.add(" while ");
    symbol(w[2]);
    break;
  case Opcode::call: line.add("call subroutine %u", w[1]); break;
  case Opcode::bind:
    line.add("bind ");
    symbol(w[2]);
    line.add(" <- ");
    line.expr(f, w[1]);
    break;
  case Opcode::host_op: {
    static constexpr char kNames[program::kHostOpCount][10] = {
        "",    "copy",  "none",   "empty", "construct", "insert", "erase",    "at",        "length", "has",    "box",   "shape",
        "put", "split", "concat", "take",  "equal",     "join",   "tokenize", "normalize", "match",  "lookup", "tfidf", "decode"};
    line.add("host %s", kNames[w[1]]);
    const uint32_t *list = w + program::kHostOpHeader;
    for (uint32_t i = 0; i < w[3]; ++i) line.add(i ? ", h%u" : " h%u", list[w[2] + i]);
    for (uint32_t i = 0; i < w[2]; ++i) line.add(i ? ", h%u" : " -> h%u", list[i]);
    break;
  }
  }
}

} // namespace

extern "C" {

void ingot_archive_info(const ingot_archive_t *archive, ingot_archive_info_t *out) {
  if (!out) return;
  *out = {};
  out->compiler = out->flags = out->source_name = "";
  if (!archive) return;
  const schema::Archive *root = archive->root();
  out->format_version = archive->format_version;
  out->variant_count = count(root->variants());
  out->segment_count = count(root->segments());
  out->file_size = archive->file_size;
  out->metadata_size = archive->metadata.size();
  out->metadata_xxh3 = archive->metadata_xxh3;
  out->required_features = archive->required_features;
  const schema::Provenance *p = root->provenance();
  if (!p) return;
  out->compiler = text(p->compiler());
  out->flags = text(p->flags());
  out->source_name = text(p->source_name());
  if (count(p->source_sha256()) == 32) memcpy(out->source_sha256, p->source_sha256()->data(), 32);
}

ingot_code_t ingot_archive_segment(const ingot_archive_t *archive, uint32_t segment, ingot_segment_info_t *out) {
  if (!archive || !out) return INGOT_INVALID_ARGUMENT;
  if (segment >= archive->segments.size()) return INGOT_OUT_OF_RANGE;
  const schema::Segment *s = archive->root()->segments()->Get(segment);
  *out = {text(s->name()), segment_kind(s->kind()), archive->data_offset + s->offset(), s->size(), s->alignment(), s->xxh3(),
          archive->segments[segment].data};
  return INGOT_OK;
}

ingot_code_t ingot_archive_variant(const ingot_archive_t *archive, uint32_t variant, ingot_variant_info_t *out) {
  if (!archive || !out) return INGOT_INVALID_ARGUMENT;
  const schema::Variant *v = find_variant(archive, variant);
  if (!v) return INGOT_OUT_OF_RANGE;
  *out = {text(v->target()),     text(v->arch()),        count(v->kernels()),
          count(v->functions()), count(v->executables()), v->io_alignment()};
  return INGOT_OK;
}

ingot_code_t ingot_archive_kernel(const ingot_archive_t *archive, uint32_t variant, uint32_t kernel, ingot_kernel_info_t *out) {
  if (!archive || !out) return INGOT_INVALID_ARGUMENT;
  const schema::Variant *v = find_variant(archive, variant);
  if (!v || kernel >= count(v->kernels())) return INGOT_OUT_OF_RANGE;
  const schema::Kernel *k = v->kernels()->Get(kernel);
  *out = {text(k->name()),
          count(k->bindings()),
          k->param_count(),
          count(k->versions()),
          k->bindings() ? k->bindings()->data() : nullptr,
          {k->local_x(), k->local_y(), k->local_z()}};
  return INGOT_OK;
}

ingot_code_t ingot_archive_kernel_version(const ingot_archive_t *archive, uint32_t variant, uint32_t kernel, uint32_t version,
                                          ingot_version_info_t *out) {
  if (!archive || !out) return INGOT_INVALID_ARGUMENT;
  const schema::Variant *v = find_variant(archive, variant);
  if (!v || kernel >= count(v->kernels()) || version >= count(v->kernels()->Get(kernel)->versions()))
    return INGOT_OUT_OF_RANGE;
  const schema::CodeVersion *c = v->kernels()->Get(kernel)->versions()->Get(version);
  const schema::Executable *e = v->executables()->Get(c->executable());
  *out = {text(c->entry()),   text(c->schedule()), code_format(e->format()), c->feature_mask(), c->code_size(),
          c->scratch_bytes(), c->rank(),           c->stack_bytes(),         c->executable(),   e->segment(),
          c->symbol_offset()};
  return INGOT_OK;
}

ingot_code_t ingot_archive_function(const ingot_archive_t *archive, uint32_t variant, uint32_t function,
                                    ingot_function_info_t *out) {
  if (!archive || !out) return INGOT_INVALID_ARGUMENT;
  const schema::Function *f = find_function(archive, variant, function);
  if (!f) return INGOT_OUT_OF_RANGE;
  *out = {};
  out->name = text(f->name());
  out->input_count = count(f->inputs());
  out->output_count = count(f->outputs());
  out->symbol_count = count(f->symbols());
  out->expr_count = count(f->exprs());
  out->slot_count = count(f->slots());
  out->site_count = count(f->sites());
  out->arena_count = count(f->arenas());
  count_commands(f->commands(), out);
  for (uint32_t i = 0; i < count(f->subroutines()); ++i) count_commands(f->subroutines()->Get(i)->commands(), out);
  out->fixed = out->symbol_count == 0 && out->host_decision_count == 0;
  return INGOT_OK;
}

uint32_t ingot_archive_find_function(const ingot_archive_t *archive, const char *name) {
  const schema::Variant *v = find_variant(archive, 0);
  for (uint32_t i = 0; v && name && i < count(v->functions()); ++i)
    if (strings_equal(text(v->functions()->Get(i)->name()), name)) return i;
  return INGOT_NONE;
}

ingot_code_t ingot_archive_input(const ingot_archive_t *archive, uint32_t function, uint32_t input,
                                 ingot_signature_tensor_t *out) {
  if (!archive || !out) return INGOT_INVALID_ARGUMENT;
  const schema::Function *f = find_function(archive, 0, function);
  if (!f || input >= count(f->inputs())) return INGOT_OUT_OF_RANGE;
  return signature(f, f->inputs()->Get(input), out);
}

ingot_code_t ingot_archive_output(const ingot_archive_t *archive, uint32_t function, uint32_t output,
                                  ingot_signature_tensor_t *out) {
  if (!archive || !out) return INGOT_INVALID_ARGUMENT;
  const schema::Function *f = find_function(archive, 0, function);
  if (!f || output >= count(f->outputs())) return INGOT_OUT_OF_RANGE;
  return signature(f, f->outputs()->Get(output), out);
}

ingot_code_t ingot_archive_symbol(const ingot_archive_t *archive, uint32_t variant, uint32_t function, uint32_t symbol,
                                  ingot_symbol_info_t *out) {
  if (!archive || !out) return INGOT_INVALID_ARGUMENT;
  const schema::Function *f = find_function(archive, variant, function);
  if (!f || symbol >= count(f->symbols())) return INGOT_OUT_OF_RANGE;
  const schema::Symbol *s = f->symbols()->Get(symbol);
  *out = {text(s->name()), s->min(), s->max(), s->kind() == uint8_t(program::SymbolKind::host)};
  return INGOT_OK;
}

ingot_code_t ingot_archive_slot(const ingot_archive_t *archive, uint32_t variant, uint32_t function, uint32_t slot,
                                ingot_slot_info_t *out) {
  if (!archive || !out) return INGOT_INVALID_ARGUMENT;
  const schema::Function *f = find_function(archive, variant, function);
  if (!f || slot >= count(f->slots())) return INGOT_OUT_OF_RANGE;
  const schema::Slot *s = f->slots()->Get(slot);
  *out = {text(s->name()), slot_kind(s->kind()), s->of(), s->offset(), s->size(), s->segment_offset(), s->pattern()};
  return INGOT_OK;
}

ingot_code_t ingot_archive_site(const ingot_archive_t *archive, uint32_t variant, uint32_t function, uint32_t site,
                                ingot_site_info_t *out) {
  if (!archive || !out) return INGOT_INVALID_ARGUMENT;
  const schema::Function *f = find_function(archive, variant, function);
  if (!f || site >= count(f->sites())) return INGOT_OUT_OF_RANGE;
  const schema::Site *s = f->sites()->Get(site);
  *out = {s->kernel(), count(s->nodes()), s->flops(), s->bytes()};
  return INGOT_OK;
}

const char *ingot_archive_site_node(const ingot_archive_t *archive, uint32_t variant, uint32_t function, uint32_t site,
                                    uint32_t node) {
  const schema::Function *f = find_function(archive, variant, function);
  if (!f || site >= count(f->sites()) || node >= count(f->sites()->Get(site)->nodes())) return "";
  return text(f->sites()->Get(site)->nodes()->Get(node));
}

uint32_t ingot_archive_arena(const ingot_archive_t *archive, uint32_t variant, uint32_t function, uint32_t arena) {
  const schema::Function *f = find_function(archive, variant, function);
  return f && arena < count(f->arenas()) ? f->arenas()->Get(arena) : INGOT_NONE;
}

size_t ingot_archive_expr_text(const ingot_archive_t *archive, uint32_t variant, uint32_t function, uint32_t expr,
                               char *buffer, size_t capacity) {
  const schema::Function *f = find_function(archive, variant, function);
  if (!f || (!buffer && capacity)) return 0;
  return expr_text(f, expr, buffer, capacity);
}

ingot_code_t ingot_archive_evaluate(const ingot_archive_t *archive, uint32_t variant, uint32_t function, uint32_t expr,
                                    const int64_t *symbols, uint32_t symbol_count, int64_t *out, ingot_error_t *error) {
  if (!archive || !out || (!symbols && symbol_count)) return null_argument(error, "an argument of ingot_archive_evaluate");
  const schema::Function *f = find_function(archive, variant, function);
  if (!f || expr >= count(f->exprs()) || symbol_count != count(f->symbols()))
    return fail(error, INGOT_OUT_OF_RANGE, "no such variant, function or expression, or another number of symbols");
  Array<uint8_t> set;
  Array<int64_t> values;
  Array<ExprState> states;
  INGOT_TRY(set.create(archive->allocator, symbol_count, "symbols", error));
  INGOT_TRY(values.create(archive->allocator, count(f->exprs()), "expressions", error));
  INGOT_TRY(states.create(archive->allocator, count(f->exprs()), "expressions", error));
  for (uint8_t &s : set) s = 1;
  evaluate(f->exprs(), symbols, set.data(), values.data(), states.data(), nullptr);
  if (states[expr] != ExprState::value) return expr_error(f, expr, states[expr], error);
  *out = values[expr];
  return INGOT_OK;
}

bool ingot_archive_command_text(const ingot_archive_t *archive, uint32_t variant, uint32_t function, uint32_t *cursor,
                                uint32_t *depth, char *buffer, size_t capacity) {
  const schema::Function *f = find_function(archive, variant, function);
  if (!f || !cursor || !depth || !buffer || capacity == 0) return false;
  // The main text, then each subroutine under a heading of its own: the cursor counts through all of them.
  uint32_t base = 0;
  const flatbuffers::Vector<uint32_t> *words = f->commands();
  buffer[0] = 0;
  *depth = 0;
  for (uint32_t next = 0; *cursor >= base + count(words); ++next) {
    base += count(words);
    if (next >= count(f->subroutines())) return false;
    if (*cursor == base) {
      ++*cursor;
      snprintf(buffer, capacity, "subroutine %u", next);
      return true;
    }
    ++base; // the heading
    words = f->subroutines()->Get(next)->commands();
  }
  const uint32_t target = *cursor - base;
  uint32_t at = 0, ends[program::kMaxNesting + 1], elses[program::kMaxNesting + 1], nesting = 0;
  while (at < count(words)) { // walk again from the start: only that tells the depth
    while (nesting && at >= ends[nesting - 1]) --nesting;
    const uint32_t *w = words->data() + at;
    const Opcode op = Opcode(w[0] & 0xff);
    const uint32_t head = op == Opcode::branch ? 4 : op == Opcode::loop ? 5 : w[0] >> 8;
    if (at == target) {
      Line line = {buffer, capacity, 0};
      if (nesting && elses[nesting - 1] == at) line.add("(else) ");
      print_command(line, find_variant(archive, variant), f, w);
      *depth = nesting;
      *cursor = base + at + head;
      return true;
    }
    if (op == Opcode::branch || op == Opcode::loop) {
      ends[nesting] = at + (w[0] >> 8);
      elses[nesting++] = op == Opcode::branch ? at + 4 + w[2] : kNone;
    }
    at += head;
  }
  return false;
}

} // extern "C"
