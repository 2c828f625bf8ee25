// Text of an archive function: one line per slot and command, expressions written out.
#include "aotc/driver/print_program.h"

#include <sstream>

namespace ingot::aotc {
namespace {

using archive::Function;
using archive::kNone;

constexpr const char *kHostOps[program::kHostOpCount] = {
    "",    "copy",  "none",   "empty", "construct", "insert", "erase",    "at",        "length", "has",    "box",   "shape",
    "put", "split", "concat", "take",  "equal",     "join",   "tokenize", "normalize", "match",  "lookup", "tfidf", "decode"};

class Printer {
 public:
  Printer(const archive::Variant &variant, const Function &function) : variant_(variant), f_(function) {}

  std::string run() {
    out_ << "function @" << f_.name << " target " << variant_.target << " " << variant_.arch << " {\n";
    for (const archive::Symbol &s : f_.symbols)
      out_ << "  symbol " << s.name << (s.kind == program::SymbolKind::host ? " host " : " input ") << s.min << " " << s.max << "\n";
    for (size_t i = 0; i < f_.arenas.size(); ++i)
      out_ << "  arena " << i << " size " << expr(f_.arenas[i]) << "\n";
    for (size_t i = 0; i < f_.slots.size(); ++i)
      print_slot(i);
    for (size_t i = 0; i < f_.host_slots.size(); ++i) {
      static constexpr const char *kKinds[] = {"transient", "input", "output", "constant"};
      out_ << "  host slot " << i << " " << kKinds[static_cast<size_t>(f_.host_slots[i].kind)] << " " << f_.host_slots[i].of << "\n";
    }
    print_words(f_.commands, 0, f_.commands.size(), "  ");
    out_ << "}\n";
    return out_.str();
  }

 private:
  std::string expr(uint32_t node) {
    if (node == kNone)
      return "none";
    const archive::Expr &e = f_.exprs[node];
    static constexpr const char *kNames[] = {"",   "",   " + ", " - ", " * ", " // ", " % ", "min", "max",
                                             " == ", " != ", " < ", " <= ", " && ", " || ", "!", "select"};
    size_t op = static_cast<size_t>(e.op);
    switch (e.op) {
    case program::ExprOp::constant: return std::to_string(e.value);
    case program::ExprOp::symbol: return f_.symbols[e.a].name;
    case program::ExprOp::min:
    case program::ExprOp::max: return std::string(kNames[op]) + "(" + expr(e.a) + ", " + expr(e.b) + ")";
    case program::ExprOp::logical_not: return "!" + expr(e.a);
    case program::ExprOp::select: return "select(" + expr(e.a) + ", " + expr(e.b) + ", " + expr(e.c) + ")";
    default: return "(" + expr(e.a) + kNames[op] + expr(e.b) + ")";
    }
  }

  void print_slot(size_t i) {
    const archive::Slot &s = f_.slots[i];
    static constexpr const char *kKinds[] = {"constant", "splat", "input", "output", "transient", "alias", "state", "prepared"};
    out_ << "  slot " << i << " " << kKinds[static_cast<size_t>(s.kind)];
    switch (s.kind) {
    case program::SlotKind::constant: out_ << " segment " << s.of << " at " << s.segment_offset; break;
    case program::SlotKind::splat: out_ << " pattern " << s.pattern << " of " << int(s.pattern_bytes); break;
    case program::SlotKind::transient: out_ << " arena " << s.of << " at " << expr(s.offset); break;
    default: out_ << " " << s.of; break;
    }
    out_ << " size " << expr(s.size) << " \"" << s.name << "\"\n";
  }

  void print_words(const archive::Words &w, size_t begin, size_t end, const std::string &indent) {
    for (size_t at = begin; at < end;) {
      auto op = static_cast<program::Opcode>(w[at] & 0xff);
      size_t length = w[at] >> 8;
      const uint32_t *a = &w[at + 1];
      out_ << indent;
      switch (op) {
      case program::Opcode::dispatch: {
        out_ << "dispatch @" << variant_.kernels[a[0]].name << " grid " << expr(a[2]) << " " << expr(a[3]) << " " << expr(a[4]);
        for (uint32_t b = 0; b < a[5]; ++b)
          out_ << (b ? ", s" : " (s") << a[7 + 3 * b];
        out_ << ")";
        for (uint32_t p = 0; p < a[6]; ++p)
          out_ << " " << expr(a[7 + 3 * a[5] + p]);
        out_ << "\n";
        break;
      }
      case program::Opcode::copy:
        out_ << "copy s" << a[0] << "[" << expr(a[1]) << "] from s" << a[2] << "[" << expr(a[3]) << "] bytes " << expr(a[4]) << "\n";
        break;
      case program::Opcode::fill:
        out_ << "fill s" << a[0] << "[" << expr(a[1]) << "] bytes " << expr(a[2]) << "\n";
        break;
      case program::Opcode::barrier:
        out_ << "barrier\n";
        break;
      case program::Opcode::read_scalar:
        out_ << "read_scalar s" << a[0] << "[" << expr(a[1]) << "] as " << f_.symbols[a[3]].name << "\n";
        break;
      case program::Opcode::check:
        out_ << "check " << expr(a[0]) << " \"" << f_.messages[a[1]] << "\"\n";
        break;
      case program::Opcode::branch:
        out_ << "if " << expr(a[0]) << " {\n";
        print_words(w, at + 4, at + 4 + a[1], indent + "  ");
        out_ << indent << "} else {\n";
        print_words(w, at + 4 + a[1], at + 4 + a[1] + a[2], indent + "  ");
        out_ << indent << "}\n";
        break;
      case program::Opcode::loop:
        out_ << "loop trips " << expr(a[0]) << " while " << (a[1] == kNone ? "always" : f_.symbols[a[1]].name) << " {\n";
        print_words(w, at + 5, at + 5 + a[3], indent + "  ");
        out_ << indent << "}\n";
        break;
      case program::Opcode::host_op: {
        out_ << "host " << kHostOps[a[0]] << " (";
        const uint32_t *list = a + 6;
        for (uint32_t i = 0; i < a[1] + a[2]; ++i) {
          const uint32_t slot = i < a[2] ? list[a[1] + i] : list[i - a[2]];
          out_ << (i == a[2] ? " -> h" : i ? ", h" : "h") << slot;
        }
        out_ << ")";
        list += a[1] + a[2];
        for (uint32_t i = 0; i < a[3]; ++i)
          out_ << " [" << expr(*list++) << "]";
        for (uint32_t i = 0; i < a[4]; ++i)
          out_ << " binds " << f_.symbols[*list++].name;
        for (uint32_t i = 0; i < a[5]; ++i)
          out_ << " " << *list++;
        out_ << "\n";
        break;
      }
      case program::Opcode::call:
        out_ << "call " << a[0] << "\n";
        break;
      case program::Opcode::bind:
        out_ << "bind " << f_.symbols[a[1]].name << " to " << expr(a[0]) << "\n";
        break;
      }
      at += length ? length : 1;
    }
  }

  const archive::Variant &variant_;
  const Function &f_;
  std::ostringstream out_;
};

} // namespace

std::string print_variant(const archive::Variant &variant) {
  std::string text;
  if (variant.prepare)
    text += Printer(variant, *variant.prepare).run();
  for (const Function &f : variant.functions)
    text += Printer(variant, f).run();
  return text;
}

} // namespace ingot::aotc
