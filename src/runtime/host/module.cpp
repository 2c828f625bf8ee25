// The module's table (module.h): verifies host slots and host ops, keeps what slots hold, runs ops.
#include "src/runtime/host/module.h"

#include "src/runtime/api/session.h"
#include "src/runtime/archive/archive.h"
#include "src/runtime/host/host.h"
#include "src/runtime/host/ops.h"

namespace ingot {

using program::HostOp;
using program::HostSlotKind;
using program::kHostOpHeader;
using program::kHostSlotWords;

// Of one function in one context.
class HostValues {
public:
  ingot_allocator_t allocator = {};
  Array<Ref *> held;        // per host slot; transients and constants, made when they are first used
  Array<uint8_t> constant;
};

namespace {

constexpr char kNames[program::kHostOpCount][10] = {
    "",    "copy",  "none",   "empty", "construct", "insert", "erase",    "at",        "length", "has",    "box",   "shape",
    "put", "split", "concat", "take",  "equal",     "join",   "tokenize", "normalize", "match",  "lookup", "tfidf", "decode"};

const uint32_t *slot_words(const schema::Function *f, uint32_t slot) { return f->host_slots()->data() + size_t(slot) * kHostSlotWords; }
uint32_t slot_count(const schema::Function *f) { return count(f->host_slots()) / kHostSlotWords; }
uint64_t long_word(const uint32_t *w) { return w[0] | uint64_t(w[1]) << 32; }
bool is_host_type(uint8_t type) { return type == INGOT_ELEMENT_TYPE_STRING || type == INGOT_ELEMENT_TYPE_VALUE; }

// ---- verification

const char *verify_slot(const ingot_archive_t &archive, const schema::Function *f, const uint32_t *w) {
  switch (HostSlotKind(w[0])) {
  case HostSlotKind::transient: return nullptr;
  case HostSlotKind::input:
    return w[1] < count(f->inputs()) && is_host_type(f->inputs()->Get(w[1])->type()) ? nullptr : "a host slot is no such input";
  case HostSlotKind::output:
    return w[1] < count(f->outputs()) && is_host_type(f->outputs()->Get(w[1])->type()) ? nullptr : "a host slot is no such output";
  case HostSlotKind::constant: break;
  default: return "a host slot of unknown kind";
  }
  if (w[1] >= archive.segments.size() || archive.root()->segments()->Get(w[1])->kind() == uint8_t(program::SegmentKind::code))
    return "a constant host slot names no segment of weights";
  if (!fits(long_word(w + 4), long_word(w + 6), archive.segments[w[1]].size)) return "a constant host slot ends past its segment";
  if (w[2] == INGOT_ELEMENT_TYPE_NONE || w[2] > INGOT_ELEMENT_TYPE_STRING || w[3] > program::kMaxRank)
    return "a constant host slot has an unknown type or a rank above 8";
  return nullptr;
}

bool is_writable(const schema::Function *f, uint32_t slot) { // aliases name slots before them
  const schema::Slot *s = f->slots()->Get(slot);
  while (s->kind() == uint8_t(program::SlotKind::alias)) s = f->slots()->Get(s->of());
  return s->kind() == uint8_t(program::SlotKind::output) || s->kind() == uint8_t(program::SlotKind::transient) ||
         s->kind() == uint8_t(program::SlotKind::state);
}

const char *verify_op(const schema::Function *f, const uint32_t *w) {
  const uint32_t length = w[0] >> 8;
  if (length < kHostOpHeader) return "a host op is too short";
  if (w[1] == 0 || w[1] >= program::kHostOpCount) return "an unknown host op";
  const program::HostOpForm &form = program::kHostOps[w[1]];
  const auto within = [](uint32_t n, const uint8_t (&range)[2]) { return n >= range[0] && n <= range[1]; };
  if (w[2] != form.results || !within(w[3], form.sources) || !within(w[4], form.exprs) || !within(w[5], form.symbols) ||
      w[6] != form.immediates)
    return "a host op has wrong numbers of operands";
  if (length != kHostOpHeader + w[2] + w[3] + w[4] + w[5] + w[6]) return "a host op has the wrong length";
  const uint32_t *at = w + kHostOpHeader;
  for (uint32_t i = 0; i < w[2] + w[3]; ++i, ++at) {
    if (*at >= slot_count(f)) return "no such host slot";
    const HostSlotKind kind = HostSlotKind(slot_words(f, *at)[0]);
    if (i < w[2] && kind != HostSlotKind::transient && kind != HostSlotKind::output) return "a host op writes to an input or a constant";
  }
  for (uint32_t i = 0; i < w[4]; ++i, ++at)
    if (*at >= count(f->exprs())) return "no such expression";
  for (uint32_t i = 0; i < w[5]; ++i, ++at)
    if (*at >= count(f->symbols()) || f->symbols()->Get(*at)->kind() != uint8_t(program::SymbolKind::host)) return "no such host symbol";
  const HostOp op = HostOp(w[1]);
  if (op == HostOp::box || op == HostOp::put) {
    if (at[0] >= count(f->slots())) return "no such slot";
    if (op == HostOp::put && !is_writable(f, at[0])) return "it writes to a constant, a splat or an input";
    if (at[1] == INGOT_ELEMENT_TYPE_NONE || at[1] >= INGOT_ELEMENT_TYPE_STRING) return "unknown element type";
  }
  if ((op == HostOp::empty || op == HostOp::shape) && (at[0] == INGOT_ELEMENT_TYPE_NONE || at[0] > INGOT_ELEMENT_TYPE_STRING))
    return "unknown element type";
  return nullptr;
}

const char *verify(const ingot_archive_t &archive, const schema::Function *f, const uint32_t *words) {
  if (words) return verify_op(f, words);
  if (count(f->host_slots()) % kHostSlotWords != 0) return "its host slots have the wrong length";
  for (uint32_t i = 0; i < slot_count(f); ++i)
    if (const char *problem = verify_slot(archive, f, slot_words(f, i))) return problem;
  return nullptr;
}

// ---- slots

Code make_constant(const ingot_archive_t &archive, const uint32_t *w, const ingot_allocator_t &allocator, Ref *out, Error *error) {
  const uint8_t *bytes = archive.segments[w[1]].data + long_word(w + 4);
  const uint64_t size = long_word(w + 6);
  int64_t dims[INGOT_MAX_RANK];
  uint64_t n = 0;
  for (uint32_t i = 0; i < w[3]; ++i) dims[i] = w[8 + i];
  INGOT_TRY(count_elements(dims, w[3], &n, error));
  const auto wrong = [&] { return fail(error, INGOT_CORRUPT, "archive: a constant of %llu bytes is malformed", (unsigned long long)size); };
  if (w[2] != INGOT_ELEMENT_TYPE_STRING) {
    INGOT_TRY(make_tensor(allocator, ingot_element_type_t(w[2]), dims, w[3], out, error));
    if ((*out)->bytes != size) return wrong();
    if (size) memcpy((*out)->data(), bytes, size);
    return INGOT_OK;
  }
  if (size < 8 * (n + 1)) return wrong();
  INGOT_TRY(make_strings(allocator, dims, w[3], size - 8 * (n + 1), out, error));
  memcpy((*out)->data(), bytes, size); // a private copy, which is then checked
  const uint64_t *offsets = reinterpret_cast<const uint64_t *>((*out)->data());
  bool good = offsets[0] == 0 && offsets[n] <= size - 8 * (n + 1);
  for (uint64_t i = 0; i < n; ++i) good = good && offsets[i] <= offsets[i + 1];
  return good ? Code(INGOT_OK) : wrong();
}

Code open_values(ingot_context_t &context, FunctionState &s, Error *error) {
  if (s.host) return INGOT_OK;
  HostValues *values = create_object<HostValues>(context.allocator, "host values", error);
  if (!values) return INGOT_OUT_OF_MEMORY;
  values->allocator = context.allocator;
  const schema::Function *f = s.plan->function;
  Code code = values->held.create(context.allocator, slot_count(f), "host slots", error);
  if (code == INGOT_OK) code = values->constant.create(context.allocator, slot_count(f), "host slots", error);
  if (code != INGOT_OK) {
    destroy_object(context.allocator, values);
    return code;
  }
  for (uint32_t i = 0; i < slot_count(f); ++i) values->constant[i] = slot_words(f, i)[0] == uint32_t(HostSlotKind::constant);
  s.host = values;
  return INGOT_OK;
}

void clear(HostValues *values) {
  for (size_t i = 0; i < values->held.size(); ++i)
    if (!values->constant[i]) {
      destroy_object(values->allocator, values->held[i]);
      values->held[i] = nullptr;
    }
}

void destroy(HostValues *values) {
  for (Ref *ref : values->held) destroy_object(values->allocator, ref);
  destroy_object(values->allocator, values);
}

// ---- running

class Op {
public:
  Op(const HostCalls &calls, void *run, ingot_context_t &context, FunctionState &state, const uint32_t *words, Error *error)
      : calls_(calls), run_(run), c_(context), s_(state), f_(state.plan->function), device_(*context.session->device), w_(words),
        results_(words + kHostOpHeader), sources_(results_ + words[2]), exprs_(sources_ + words[3]), symbols_(exprs_ + words[4]),
        immediates_(symbols_ + words[5]), error_(error) {}

  Code run() {
    const HostObject *sources[255];
    for (uint32_t i = 0; i < w_[3]; ++i) INGOT_TRY(load(sources_[i], &sources[i]));
    int64_t exprs[INGOT_MAX_RANK];
    for (uint32_t i = 0; i < w_[4]; ++i) INGOT_TRY(calls_.value(run_, exprs_[i], &exprs[i]));
    Ref results[2];
    const HostOpArgs a = {c_.allocator, sources, w_[3], exprs, w_[4], immediates_, results, error_};
    INGOT_TRY(apply(a));
    for (uint32_t i = 0; i < w_[2]; ++i) INGOT_TRY(store(results_[i], static_cast<Ref &&>(results[i])));
    return INGOT_OK;
  }

private:
  Code apply(const HostOpArgs &a) {
    switch (HostOp(w_[1])) {
    case HostOp::copy: a.results[0] = Ref::share(const_cast<HostObject *>(a.sources[0])); return INGOT_OK;
    case HostOp::none: return INGOT_OK;
    case HostOp::empty: return make_list(a.allocator, ingot_element_type_t(a.immediates[0]), 0, &a.results[0], error_);
    case HostOp::construct: return host_construct(a);
    case HostOp::insert: return host_insert(a);
    case HostOp::erase: return host_erase(a);
    case HostOp::at: return host_at(a);
    case HostOp::length:
      INGOT_TRY(need_list(a, 0));
      return calls_.set_symbol(run_, symbols_[0], int64_t(a.sources[0]->count));
    case HostOp::has: return calls_.set_symbol(run_, symbols_[0], a.sources[0] != nullptr);
    case HostOp::box: return box(a);
    case HostOp::shape: return shape(a);
    case HostOp::put: return put(a);
    case HostOp::split: return host_split(a);
    case HostOp::concat: return host_concat(a);
    case HostOp::take: return host_take(a);
    case HostOp::equal: return host_equal(a);
    case HostOp::join: return host_join(a);
    case HostOp::tokenize: return host_tokenize(a);
    case HostOp::normalize: return host_normalize(a);
    case HostOp::match: return host_match(a);
    case HostOp::lookup: return host_lookup(a);
    case HostOp::tfidf: return host_tfidf(a);
    case HostOp::decode: return host_decode(a);
    }
    return fail(error_, INGOT_CORRUPT, "an unknown host op");
  }

  // What the caller gave, inputs first.
  Code given(size_t tensor, ingot_value_t **out) {
    *out = reinterpret_cast<ingot_value_t *>(s_.given[tensor].host);
    return *out ? Code(INGOT_OK) : fail(error_, INGOT_INVALID_ARGUMENT, "an input or output that is a value is NULL");
  }

  Code load(uint32_t slot, const HostObject **out) {
    const uint32_t *w = slot_words(f_, slot);
    Ref *&held = s_.host->held[slot];
    switch (HostSlotKind(w[0])) {
    case HostSlotKind::input: return load_given(w[1], f_->inputs()->Get(w[1]), out);
    case HostSlotKind::output: {
      ingot_value_t *value;
      INGOT_TRY(given(s_.input_bytes.size() + w[1], &value));
      *out = value->object.get();
      return INGOT_OK;
    }
    case HostSlotKind::constant:
      if (!held) {
        Ref made;
        INGOT_TRY(make_constant(*c_.session->archive, w, c_.allocator, &made, error_));
        INGOT_TRY(hold(&held, static_cast<Ref &&>(made)));
      }
      break;
    case HostSlotKind::transient: break;
    }
    *out = held ? held->get() : nullptr;
    return INGOT_OK;
  }

  // Strings have the dims that the caller said when dims were bound.
  Code load_given(uint32_t input, const schema::TensorSpec *spec, const HostObject **out) {
    ingot_value_t *value;
    INGOT_TRY(given(input, &value));
    const HostObject *o = value->object.get();
    *out = o;
    if (spec->type() != INGOT_ELEMENT_TYPE_STRING) return INGOT_OK;
    bool same = o && o->is_strings() && o->rank == count(spec->dims());
    for (uint32_t d = 0; same && d < o->rank; ++d) {
      int64_t dim = 0;
      INGOT_TRY(calls_.value(run_, spec->dims()->Get(d), &dim));
      same = dim == o->dims[d];
    }
    if (same) return INGOT_OK;
    return fail(error_, INGOT_INVALID_ARGUMENT, "input '%.60s' is no tensor of strings with the dims given", text(spec->name()));
  }

  Code hold(Ref **held, Ref value) {
    if (!*held && !(*held = create_object<Ref>(c_.allocator, "a host slot", error_))) return INGOT_OUT_OF_MEMORY;
    **held = static_cast<Ref &&>(value);
    return INGOT_OK;
  }

  Code store(uint32_t slot, Ref value) {
    const uint32_t *w = slot_words(f_, slot);
    if (HostSlotKind(w[0]) != HostSlotKind::output) return hold(&s_.host->held[slot], static_cast<Ref &&>(value));
    ingot_value_t *to;
    INGOT_TRY(given(s_.input_bytes.size() + w[1], &to));
    to->object = static_cast<Ref &&>(value);
    return INGOT_OK;
  }

  // Bytes of a slot, which must hold at least that many.
  Code bytes_at(uint64_t bytes, Block *out, uint64_t *offset) {
    Place place;
    uint64_t size = 0;
    INGOT_TRY(calls_.settle(run_));
    INGOT_TRY(calls_.place(run_, immediates_[0], &place, &size));
    if (bytes > size)
      return fail(error_, INGOT_OUT_OF_RANGE, "a tensor of %llu bytes and slot %u of %llu", (unsigned long long)bytes, immediates_[0],
                  (unsigned long long)size);
    *out = {place.host, place.memory, place.offset + bytes, place.serial};
    *offset = place.offset;
    return INGOT_OK;
  }

  Code box(const HostOpArgs &a) {
    INGOT_TRY(make_tensor(a.allocator, ingot_element_type_t(immediates_[1]), a.exprs, a.expr_count, &a.results[0], error_));
    HostObject &o = *a.results[0];
    Block block;
    uint64_t offset = 0;
    if (o.bytes == 0) return INGOT_OK;
    INGOT_TRY(bytes_at(o.bytes, &block, &offset));
    return read_block(device_, block, offset, o.data(), o.bytes, error_);
  }

  Code need_tensor(const HostOpArgs &a, uint32_t type, uint32_t rank) {
    const HostObject *o = a.sources[0];
    if (o && !o->is_list() && o->type == ingot_element_type_t(type) && o->rank == rank) return INGOT_OK;
    return fail(error_, INGOT_INVALID_ARGUMENT, "%s of %s, rank %u; the model was compiled for a tensor of %s, rank %u",
                !o ? "nothing" : o->is_list() ? "a list" : "a tensor", ingot_element_type_name(o ? o->type : 0), o ? o->rank : 0,
                ingot_element_type_name(ingot_element_type_t(type)), rank);
  }

  Code shape(const HostOpArgs &a) {
    INGOT_TRY(need_tensor(a, immediates_[0], w_[5]));
    for (uint32_t d = 0; d < w_[5]; ++d) INGOT_TRY(calls_.set_symbol(run_, symbols_[d], a.sources[0]->dims[d]));
    return INGOT_OK;
  }

  Code put(const HostOpArgs &a) {
    INGOT_TRY(need_tensor(a, immediates_[1], a.expr_count));
    const HostObject &o = *a.sources[0];
    for (uint32_t d = 0; d < o.rank; ++d)
      if (o.dims[d] != a.exprs[d])
        return fail(error_, INGOT_INVALID_ARGUMENT, "dim %u of a tensor is %lld, expected %lld", d, (long long)o.dims[d], (long long)a.exprs[d]);
    Block block;
    uint64_t offset = 0;
    if (o.bytes == 0) return INGOT_OK;
    INGOT_TRY(bytes_at(o.bytes, &block, &offset));
    return write_block(device_, block, offset, o.data(), o.bytes, error_);
  }

  const HostCalls &calls_;
  void *run_;
  ingot_context_t &c_;
  FunctionState &s_;
  const schema::Function *f_;
  const ingot_device_t &device_;
  const uint32_t *w_, *results_, *sources_, *exprs_, *symbols_, *immediates_;
  Error *error_;
};

Code run(const HostCalls &calls, void *run, ingot_context_t &context, FunctionState &state, const uint32_t *words, Error *error) {
  INGOT_TRY(open_values(context, state, error));
  const Code code = Op(calls, run, context, state, words, error).run();
  if (code != INGOT_OK) prefix(error, "%.60s: %s", text(state.plan->function->name()), kNames[words[1]]);
  return code;
}

constexpr HostModule kModule = {verify, run, clear, destroy};

} // namespace

const HostModule &host_module() { return kModule; }

} // namespace ingot
