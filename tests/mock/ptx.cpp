// See ptx.h.
#include "tests/mock/ptx.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <stdexcept>

namespace mock {
namespace {

constexpr uint32_t kSharedAlign = 1024; // of a block's shared memory
enum Space : uint8_t { kGlobal, kShared, kLocal, kGeneric };
enum Round : uint8_t { kNearest, kZero, kDown, kUp };
enum Compare : uint8_t { kEq, kNe, kLt, kLe, kGt, kGe, kLo, kLs, kHi, kHs, kNum, kNan, kEqu, kNeu, kLtu, kLeu, kGtu, kGeu };
enum Special : uint8_t { kTid, kNtid = 3, kCtaid = 6, kNctaid = 9, kLane = 12 };

struct Wrong : std::runtime_error {
  using std::runtime_error::runtime_error;
};

uint32_t bytes_of(Type t) {
  switch (t) {
  case Type::b8: case Type::u8: case Type::s8: return 1;
  case Type::b16: case Type::u16: case Type::s16: case Type::f16: return 2;
  case Type::b64: case Type::u64: case Type::s64: case Type::f64: return 8;
  default: return 4;
  }
}
bool is_float(Type t) { return t == Type::f16 || t == Type::f32 || t == Type::f64; }
bool is_signed(Type t) { return t == Type::s8 || t == Type::s16 || t == Type::s32 || t == Type::s64; }

template <class T> T as(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
template <class T> uint64_t bits(T value) {
  uint64_t out = 0;
  std::memcpy(&out, &value, sizeof value);
  return out;
}

// ---- parsing

class Parser {
 public:
  Parser(const std::string &text, std::map<std::string, Kernel> &kernels) : text_(text), kernels_(kernels) {}

  void parse() {
    size_t at = 0;
    uint32_t number = 0;
    while (at < text_.size()) {
      size_t end = text_.find('\n', at);
      if (end == std::string::npos)
        end = text_.size();
      std::string line = text_.substr(at, end - at);
      at = end + 1;
      line_ = ++number;
      if (size_t comment = line.find("//"); comment != std::string::npos)
        line.resize(comment);
      size_t first = line.find_first_not_of(" \t\r");
      if (first == std::string::npos)
        continue;
      size_t last = line.find_last_not_of(" \t\r");
      statement(line.substr(first, last - first + 1));
    }
    if (in_body_)
      fail("the text ends within a kernel");
  }

 private:
  [[noreturn]] void fail(const std::string &what) const { throw Wrong("line " + std::to_string(line_) + ": " + what); }

  static bool starts(const std::string &s, const char *with) { return s.rfind(with, 0) == 0; }

  void statement(const std::string &s) {
    if (!in_body_)
      return outside(s);
    if (s == "}")
      return finish();
    if (s == "{")
      return;
    if (starts(s, ".reg"))
      return registers(s);
    if (starts(s, ".local"))
      return variable(s, Operand::local, kernel_.local_bytes);
    if (starts(s, ".shared"))
      return variable(s, Operand::shared, kernel_.shared_bytes);
    if (s[0] == '.' || starts(s, "$L__tmp"))
      return;
    if (s.back() == ':') {
      labels_[s.substr(0, s.size() - 1)] = static_cast<int32_t>(kernel_.code.size());
      return;
    }
    instruction(s);
  }

  void outside(const std::string &s) {
    if (starts(s, ".visible .entry")) {
      kernel_ = {};
      symbols_.clear();
      for (const auto &[name, where] : module_shared_)
        symbols_[name] = where;
      kernel_.shared_bytes = module_bytes_;
      labels_.clear(), jumps_.clear(), prefixes_.clear(), params_.clear();
      size_t begin = s.find_first_not_of(' ', 15), end = s.find('(', begin);
      kernel_.name = s.substr(begin, end - begin);
    } else if (starts(s, ".param")) {
      size_t size = s.find(".u64") != std::string::npos || s.find(".b64") != std::string::npos ? 8 : 4;
      size_t begin = s.find_last_of(' ') + 1;
      std::string name = s.substr(begin);
      if (size_t bytes = name.find('['); bytes != std::string::npos) { // .param .align 64 .b8 name[128]
        size = std::stoul(name.substr(bytes + 1));
        name.resize(bytes);
      }
      while (!name.empty() && (name.back() == ',' || name.back() == ')'))
        name.pop_back();
      uint32_t offset = kernel_.param_offsets.empty() ? 0 : kernel_.param_offsets.back() + 8;
      params_[name] = offset;
      kernel_.param_offsets.push_back(offset);
      kernel_.param_sizes.push_back(static_cast<uint32_t>(size));
    } else if (starts(s, ".reqntid")) {
      if (std::sscanf(s.c_str(), ".reqntid %u, %u, %u", &kernel_.block[0], &kernel_.block[1], &kernel_.block[2]) != 3)
        fail("not understood: " + s);
    } else if (s == "{") {
      in_body_ = true;
    } else if (starts(s, ".shared")) {
      variable(s, Operand::shared, module_bytes_);
    } else if (starts(s, ".extern .shared")) {
      external(s);
    } else if (starts(s, ".func") || starts(s, ".visible .func")) {
      fail("functions are not known: " + s);
    }
  }

  // .shared .align 4 .b8 name[1024];
  void variable(const std::string &s, Operand::Kind kind, uint32_t &bytes) {
    unsigned align = 1, count = 0;
    char name[200] = {};
    const char *at = s.c_str() + s.find(".align");
    if (std::sscanf(at, ".align %u .b8 %199[^[][%u]", &align, name, &count) != 3)
      fail("not understood: " + s);
    bytes = (bytes + align - 1) / align * align;
    Operand place{kind, bytes};
    bytes += count;
    symbols_[name] = place;
    if (!in_body_)
      module_shared_[name] = place;
  }

  // .extern .shared .align 128 .b8 name[];  all such arrays begin at one address
  void external(const std::string &s) {
    unsigned align = 1;
    char name[200] = {}, end = 0;
    if (std::sscanf(s.c_str(), ".extern .shared .align %u .b8 %199[^[][]%c", &align, name, &end) != 3 || end != ';' || align > kSharedAlign)
      fail("not understood: " + s);
    given_align_ = std::max(given_align_, align);
    module_shared_[name] = {Operand::given, 0};
  }

  // .reg .f32 %f<23>;  or  .reg .b64 %SP;
  void registers(const std::string &s) {
    size_t begin = s.find('%'), open = s.find('<', begin);
    if (open == std::string::npos) {
      symbols_[s.substr(begin, s.find(';') - begin)] = {Operand::reg, kernel_.registers++};
      return;
    }
    prefixes_[s.substr(begin, open - begin)] = kernel_.registers;
    kernel_.registers += static_cast<uint32_t>(std::stoul(s.substr(open + 1)));
  }

  Operand operand(std::string s) {
    if (s[0] == '%') {
      static const std::map<std::string, uint64_t> specials = {
          {"%tid.x", kTid},     {"%tid.y", kTid + 1},     {"%tid.z", kTid + 2},     {"%ntid.x", kNtid},     {"%ntid.y", kNtid + 1},     {"%ntid.z", kNtid + 2},
          {"%ctaid.x", kCtaid}, {"%ctaid.y", kCtaid + 1}, {"%ctaid.z", kCtaid + 2}, {"%nctaid.x", kNctaid}, {"%nctaid.y", kNctaid + 1}, {"%nctaid.z", kNctaid + 2},
          {"%laneid", kLane}};
      if (auto found = specials.find(s); found != specials.end())
        return {Operand::special, found->second};
      if (auto found = symbols_.find(s); found != symbols_.end())
        return found->second;
      size_t digits = s.find_last_not_of("0123456789") + 1;
      auto found = prefixes_.find(s.substr(0, digits));
      if (found == prefixes_.end())
        fail("register " + s + " is not declared");
      return {Operand::reg, found->second + std::stoul(s.substr(digits))};
    }
    if (auto found = symbols_.find(s); found != symbols_.end())
      return found->second;
    if (auto found = params_.find(s); found != params_.end())
      return {Operand::param, found->second};
    if (starts(s, "0f"))
      return {Operand::immediate, std::stoull(s.substr(2), nullptr, 16)};
    if (starts(s, "0d"))
      return {Operand::immediate, std::stoull(s.substr(2), nullptr, 16)};
    if (starts(s, "0x"))
      return {Operand::immediate, std::stoull(s, nullptr, 16)};
    if (s == "true" || s == "false")
      return {Operand::immediate, s == "true"};
    if (s.find_first_not_of("-0123456789") != std::string::npos)
      fail("operand " + s + " is not known");
    return {Operand::immediate, s[0] == '-' ? static_cast<uint64_t>(std::stoll(s)) : std::stoull(s)};
  }

  // Splits at commas outside of braces and brackets.
  static std::vector<std::string> split(const std::string &s) {
    std::vector<std::string> out(1);
    int depth = 0;
    for (char c : s) {
      depth += c == '{' || c == '[';
      depth -= c == '}' || c == ']';
      if (c == ',' && depth == 0)
        out.emplace_back();
      else if (c != ' ' && c != '\t' && c != ';')
        out.back() += c;
    }
    if (out.back().empty())
      out.pop_back();
    return out;
  }

  std::vector<Operand> list(const std::string &s) { // {a, b} or a
    std::vector<Operand> out;
    if (s[0] != '{')
      return {operand(s)};
    for (const std::string &one : split(s.substr(1, s.size() - 2)))
      out.push_back(operand(one));
    return out;
  }

  void address(const std::string &s, Instruction &in) { // [%rd1+8]
    std::string inside = s.substr(1, s.size() - 2);
    size_t plus = inside.find('+');
    in.a = operand(inside.substr(0, plus));
    if (plus != std::string::npos)
      in.offset = std::stoll(inside.substr(plus + 1));
  }

  static bool type_named(const std::string &s, Type &out) {
    static const std::map<std::string, Type> names = {
        {"pred", Type::pred}, {"b8", Type::b8}, {"b16", Type::b16}, {"b32", Type::b32}, {"b64", Type::b64}, {"u8", Type::u8},
        {"u16", Type::u16}, {"u32", Type::u32}, {"u64", Type::u64}, {"s8", Type::s8}, {"s16", Type::s16}, {"s32", Type::s32},
        {"s64", Type::s64}, {"f16", Type::f16}, {"f32", Type::f32}, {"f64", Type::f64}, {"tf32", Type::b32}};
    auto found = names.find(s);
    if (found == names.end())
      return false;
    out = found->second;
    return true;
  }

  // cp.async.cg.shared.global [to], [from], 16, read;   cp.async.commit_group;   cp.async.wait_group 1;
  bool copy(const std::string &word, const std::vector<std::string> &arguments, Instruction &in) {
    if (word == "cp.async.commit_group") {
      in.op = Op::cp_commit;
      return arguments.empty();
    }
    if (word == "cp.async.wait_group") {
      in.op = Op::cp_wait;
      in.a = operand(arguments.at(0));
      return arguments.size() == 1;
    }
    if (unsigned rank = 0; std::sscanf(word.c_str(), "cp.async.bulk.tensor.%ud", &rank) == 1) {
      // cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [to], [map, {x, y}], [signal];
      if (word != "cp.async.bulk.tensor." + std::to_string(rank) + "d.shared::cluster.global.mbarrier::complete_tx::bytes" || arguments.size() != 3) return false;
      const std::vector<std::string> source = split(arguments[1].substr(1, arguments[1].size() - 2));
      Instruction to, signal;
      address(arguments[0], to), address(arguments[2], signal);
      in.op = Op::box;
      in.a = to.a, in.b = operand(source.at(0)), in.c = signal.a;
      if (source.size() != 2 || to.offset != 0 || signal.offset != 0) return false;
      in.factors = list(source[1]);
      return in.factors.size() == rank;
    }
    if ((word != "cp.async.cg.shared.global" && word != "cp.async.ca.shared.global") || arguments.size() != 4)
      return false;
    Instruction to;
    address(arguments[0], to);
    address(arguments[1], in);
    in.op = Op::cp_async;
    in.d[0] = to.a;
    in.b = operand(arguments[2]), in.c = operand(arguments[3]);
    return to.offset == 0 && in.b.kind == Operand::immediate && (in.b.value == 4 || in.b.value == 8 || in.b.value == 16) &&
           (word != "cp.async.cg.shared.global" || in.b.value == 16);
  }

  // mbarrier.init.shared::cta.b64 [signal], 1;   mbarrier.arrive.expect_tx.shared::cta.b64 _, [signal], 4096;
  // mbarrier.arrive.shared::cta.b64 _, [signal];   mbarrier.try_wait.parity.shared::cta.b64 %p1, [signal], parity;
  bool signal(const std::string &word, const std::vector<std::string> &arguments, Instruction &in) {
    const bool init = word == "mbarrier.init.shared::cta.b64", expect = word == "mbarrier.arrive.expect_tx.shared::cta.b64",
               arrive = word == "mbarrier.arrive.shared::cta.b64", wait = word == "mbarrier.try_wait.parity.shared::cta.b64";
    if (!(init || expect || arrive || wait) || arguments.size() != (init || arrive ? 2u : 3u)) return false;
    in.op = init ? Op::signal_init : expect ? Op::signal_expect : arrive ? Op::signal_arrive : Op::signal_wait;
    address(arguments[init ? 0 : 1], in);
    if (!arrive) in.b = operand(arguments[init ? 1 : 2]);
    if (wait) in.d[0] = operand(arguments[0]);
    return in.offset == 0 && (init || wait || arguments[0] == "_");
  }

  // wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {sums}, a, b, 1, 1, 1, 0, 0;   wgmma.fence, wgmma.commit_group, wgmma.wait_group 0
  bool warpgroup(const std::string &word, const std::vector<std::string> &arguments, Instruction &in) {
    if (word == "wgmma.fence.sync.aligned")
      return arguments.empty();
    if (word == "wgmma.commit_group.sync.aligned") {
      in.op = Op::wgmma_commit;
      return arguments.empty();
    }
    if (word == "wgmma.wait_group.sync.aligned") {
      in.op = Op::wgmma_wait;
      in.a = operand(arguments.at(0));
      return arguments.size() == 1 && in.a.kind == Operand::immediate;
    }
    unsigned columns = 0;
    char types[20] = {};
    if (std::sscanf(word.c_str(), "wgmma.mma_async.sync.aligned.m64n%uk16.f32.%19s", &columns, types) != 2 || std::string(types) != "f16.f16" || arguments.size() != 8)
      return false;
    for (size_t i = 3; i < 8; i++)
      if (arguments[i] != (i < 6 ? "1" : "0")) return false;
    in.op = Op::wgmma;
    in.factors = list(arguments[0]);
    in.a = operand(arguments[1]), in.b = operand(arguments[2]);
    return columns % 8 == 0 && columns <= 256 && in.factors.size() == columns / 2;
  }

  void instruction(std::string s) {
    Instruction in;
    in.line = line_;
    static const std::string kScratch = "{ .reg .b16 tmp; "; // half of a word that is thrown away
    if (starts(s, kScratch.c_str())) {
      if (!symbols_.count("tmp"))
        symbols_["tmp"] = {Operand::reg, kernel_.registers++};
      s = s.substr(kScratch.size(), s.rfind('}') - kScratch.size());
      s.resize(s.find_last_not_of(' ') + 1);
    }
    if (s[0] == '@') {
      in.negated = s[1] == '!';
      size_t begin = in.negated ? 2 : 1, end = s.find_first_of(" \t");
      in.predicate = static_cast<int32_t>(operand(s.substr(begin, end - begin)).value);
      s = s.substr(s.find_first_not_of(" \t", end));
    }
    size_t end = s.find_first_of(" \t;");
    std::string word = s.substr(0, end);
    std::vector<std::string> parts(1);
    for (char c : word)
      if (c == '.')
        parts.emplace_back();
      else
        parts.back() += c;
    std::vector<std::string> arguments = split(end == std::string::npos ? "" : s.substr(end));
    const std::string name = parts[0];
    bool wide = false, high = false;
    std::vector<Type> types;
    static const std::map<std::string, Compare> compares = {{"eq", kEq}, {"ne", kNe}, {"lt", kLt}, {"le", kLe}, {"gt", kGt}, {"ge", kGe},
        {"lo", kLo}, {"ls", kLs}, {"hi", kHi}, {"hs", kHs}, {"num", kNum}, {"nan", kNan}, {"equ", kEqu}, {"neu", kNeu}, {"ltu", kLtu},
        {"leu", kLeu}, {"gtu", kGtu}, {"geu", kGeu}};
    in.space = kGeneric;
    bool param = false, known = true;
    for (size_t i = 1; i < parts.size(); i++) {
      const std::string &p = parts[i];
      Type type;
      if (type_named(p, type)) types.push_back(type);
      else if (p == "f16x2") types.push_back(Type::f16), in.lanes = 2;
      else if (p == "wide") wide = true;
      else if (p == "hi" && name != "setp") high = true;
      else if (p == "lo" && name != "setp") continue;
      else if (p == "global") in.space = kGlobal;
      else if (p == "shared") in.space = kShared;
      else if (p == "local") in.space = kLocal;
      else if (p == "param") param = true;
      else if (p == "v2" || p == "v4") in.lanes = p == "v2" ? 2 : 4;
      else if (p == "rzi" || p == "rz") in.round = kZero;
      else if (p == "rmi") in.round = kDown;
      else if (p == "rpi") in.round = kUp;
      else if (p == "NaN") in.nan = true;
      else if (name == "setp" && compares.count(p)) in.compare = compares.at(p);
      else if (name == "griddepcontrol" || name == "cp" || name == "ldmatrix" || name == "mma" || name == "wgmma" || name == "fence" || name == "mbarrier" || name == "prefetch") continue; // looked at as a whole
      else if (p == "nc") in.cached = true;
      else if (p == "rn" || p == "rni" || p == "sync" || p == "uni" || p == "relaxed" || p == "sys" || p == "gpu" || p == "volatile" ||
               p == "idx" || p == "add" || p == "min" || p == "max" || p == "and" || p == "or" || p == "xor" || p == "exch") continue;
      else known = false;
    }
    if (!types.empty()) in.type = types[0];
    in.from = types.size() > 1 ? types[1] : in.type;
    auto take = [&](Op op, size_t count) {
      in.op = op;
      if (arguments.size() != count + 1) known = false;
      else {
        in.d[0] = operand(arguments[0]);
        if (count > 0) in.a = operand(arguments[1]);
        if (count > 1) in.b = operand(arguments[2]);
        if (count > 2) in.c = operand(arguments[3]);
        if (count > 3) in.e = operand(arguments[4]);
      }
    };
    auto has = [&](const char *p) { return word.find(p) != std::string::npos; };
    if (!known) {
    } else if (name == "cvt" && in.lanes == 2) {
      take(Op::cvt_pair, 2);
      known = known && word == "cvt.rn.f16x2.f32";
    } else if (name == "cp") {
      known = copy(word, arguments, in);
    } else if (name == "ldmatrix") {
      const std::vector<Operand> to = list(arguments[0]);
      in.op = Op::ldmatrix, in.space = kShared, in.negated = has(".trans");
      address(arguments[1], in);
      known = to.size() == 4 && (word == "ldmatrix.sync.aligned.m8n8.x4.shared.b16" || word == "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16");
      for (size_t i = 0; i < 4 && known; i++) in.d[i] = to[i];
    } else if (name == "mma") {
      const std::vector<Operand> to = list(arguments[0]);
      in.op = Op::mma;
      for (size_t i = 1; i < arguments.size(); i++)
        for (const Operand &o : list(arguments[i])) in.factors.push_back(o);
      in.type = word == "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32" ? Type::f16 : Type::f32;
      known = in.type == Type::f16 || word == "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32";
      for (const char *a : {"s8", "u8"})
        for (const char *b : {"s8", "u8"})
          if (word == std::string("mma.sync.aligned.m16n8k32.row.col.s32.") + a + "." + b + ".s32")
            known = true, in.type = a[0] == 's' ? Type::s8 : Type::u8, in.from = b[0] == 's' ? Type::s8 : Type::u8;
      known = known && to.size() == 4 && in.factors.size() == 10;
      for (size_t i = 0; i < 4 && known; i++) in.d[i] = to[i];
    } else if (name == "wgmma") {
      known = warpgroup(word, arguments, in);
    } else if (name == "mbarrier") {
      known = signal(word, arguments, in);
    } else if (name == "prefetch") {
      in.op = Op::prefetch_map;
      known = word == "prefetch.tensormap" && arguments.size() == 1;
      if (known) address(arguments[0], in);
    } else if (word == "fence.mbarrier_init.release.cluster") {
      in.op = Op::signals_fence;
      known = arguments.empty();
    } else if (name == "fence") {
      in.op = Op::fence_async;
      known = word == "fence.proxy.async.shared::cta" && arguments.empty();
    } else if (name == "setp" && in.lanes == 2) {
      const size_t bar = arguments[0].find('|');
      in.op = Op::setp;
      in.d[0] = operand(arguments[0].substr(0, bar)), in.d[1] = operand(arguments[0].substr(bar + 1));
      in.a = operand(arguments[1]), in.b = operand(arguments[2]);
    } else if (name == "mov") {
      if (arguments[0][0] == '{') {
        std::vector<Operand> to = list(arguments[0]);
        in.op = Op::unpack, in.lanes = static_cast<uint8_t>(to.size());
        for (size_t i = 0; i < to.size() && i < 4; i++) in.d[i] = to[i];
        in.a = operand(arguments[1]);
      } else if (arguments[1][0] == '{') {
        std::vector<Operand> parts_of = list(arguments[1]);
        in.op = Op::pack, in.lanes = static_cast<uint8_t>(parts_of.size());
        in.d[0] = operand(arguments[0]);
        in.a = parts_of[0], in.b = parts_of[1];
        if (parts_of.size() == 4) in.c = parts_of[2], in.e = parts_of[3];
      } else take(Op::mov, 1);
    } else if (name == "ld" || name == "st") {
      in.op = name == "st" ? Op::st : param ? Op::ld_param : Op::ld;
      std::vector<Operand> values = list(arguments[name == "ld" ? 0 : 1]);
      for (size_t i = 0; i < values.size(); i++) in.d[i] = values[i];
      address(arguments[name == "ld" ? 1 : 0], in);
      known = values.size() == in.lanes;
    } else if (name == "add") take(Op::add, 2);
    else if (name == "sub") take(Op::sub, 2);
    else if (name == "mul") take(wide ? Op::mul_wide : high ? Op::mul_hi : Op::mul, 2);
    else if (name == "mad") take(wide ? Op::mad_wide : Op::mad, 3), known = known && !high;
    else if (name == "fma") take(Op::fma, 3);
    else if (name == "div") take(Op::div, 2);
    else if (name == "rem") take(Op::rem, 2);
    else if (name == "abs") take(Op::abs, 1);
    else if (name == "neg") take(Op::neg, 1);
    else if (name == "min") take(Op::min, 2);
    else if (name == "max") take(Op::max, 2);
    else if (name == "sqrt") take(Op::sqrt, 1);
    else if (name == "rcp") take(Op::rcp, 1);
    else if (name == "setp") take(Op::setp, 2);
    else if (name == "selp") take(Op::selp, 3);
    else if (name == "and") take(Op::and_, 2);
    else if (name == "or") take(Op::or_, 2);
    else if (name == "xor") take(Op::xor_, 2);
    else if (name == "not") take(Op::not_, 1);
    else if (name == "shl") take(Op::shl, 2);
    else if (name == "shr") take(Op::shr, 2);
    else if (name == "popc") take(Op::popc, 1);
    else if (name == "clz") take(Op::clz, 1);
    else if (name == "copysign") take(Op::copysign, 2);
    else if (name == "bfe") take(Op::bfe, 3);
    else if (name == "bfi") take(Op::bfi, 4);
    else if (name == "prmt") take(Op::prmt, 3);
    else if (name == "cvt") take(Op::cvt, 1);
    else if (name == "cvta") take(Op::mov, 1);
    else if (name == "bar") { // of some threads, where it says how many
      in.op = Op::bar;
      in.a = operand(arguments.at(0));
      if (arguments.size() > 1) in.b = operand(arguments[1]);
      known = arguments.size() <= 2 && in.a.kind == Operand::immediate && (arguments.size() == 1 || in.b.kind == Operand::immediate);
    }
    else if (name == "shfl") take(Op::shfl, 4);
    else if (name == "atom") {
      // Kernels have sums, minima and maxima; of some with constants LLVM makes others, of an addition of 0 an `or`.
      static constexpr std::pair<const char *, Op> kAtomics[] = {{".add", Op::atom_add}, {".min", Op::atom_min}, {".max", Op::atom_max}, {".and", Op::atom_and},
                                                                 {".or", Op::atom_or}, {".xor", Op::atom_xor}, {".exch", Op::atom_exch}};
      known = false;
      for (const auto &[suffix, op] : kAtomics)
        if (has(suffix)) in.op = op, known = true;
      in.d[0] = operand(arguments[0]);
      address(arguments[1], in);
      in.b = operand(arguments[2]);
    } else if (name == "bra") {
      in.op = Op::bra;
      jumps_.emplace_back(kernel_.code.size(), arguments[0]);
    } else if (name == "ret" || name == "exit") in.op = Op::ret;
    else if (name == "griddepcontrol" && parts.size() == 2 && (parts[1] == "wait" || parts[1] == "launch_dependents"))
      in.op = parts[1] == "wait" ? Op::depend_wait : Op::nop;
    else known = false;
    if (!known)
      fail("instruction not known: " + s);
    kernel_.code.push_back(in);
  }

  void finish() {
    for (const auto &[at, label] : jumps_) {
      auto found = labels_.find(label);
      if (found == labels_.end())
        fail("no label " + label);
      kernel_.code[at].target = found->second;
    }
    Instruction end;
    end.op = Op::ret;
    kernel_.code.push_back(end);
    kernel_.given_at = (kernel_.shared_bytes + given_align_ - 1) / given_align_ * given_align_;
    in_body_ = false;
    kernels_[kernel_.name] = kernel_;
  }

  const std::string &text_;
  std::map<std::string, Kernel> &kernels_;
  Kernel kernel_;
  std::map<std::string, Operand> symbols_, module_shared_;
  std::map<std::string, uint32_t> prefixes_, params_;
  std::map<std::string, int32_t> labels_;
  std::vector<std::pair<size_t, std::string>> jumps_;
  uint32_t module_bytes_ = 0, given_align_ = 1, line_ = 0;
  bool in_body_ = false;
};

// ---- running

template <class T> T round_to(T x, uint8_t round) {
  switch (round) {
  case kZero: return std::trunc(x);
  case kDown: return std::floor(x);
  case kUp: return std::ceil(x);
  default: return std::nearbyint(x);
  }
}

double to_double(Type t, uint64_t v) {
  return t == Type::f64 ? as<double>(v) : t == Type::f32 ? double(as<float>(v)) : double(as<_Float16>(v));
}
uint64_t from_double(Type t, double v) {
  return t == Type::f64 ? bits(v) : t == Type::f32 ? bits(float(v)) : bits(_Float16(v));
}

int64_t widened(Type t, uint64_t v) { // by the type's own sign
  switch (t) {
  case Type::s8: return int8_t(v);
  case Type::s16: return int16_t(v);
  case Type::s32: return int32_t(v);
  case Type::b8: case Type::u8: return uint8_t(v);
  case Type::b16: case Type::u16: return uint16_t(v);
  case Type::b32: case Type::u32: return uint32_t(v);
  case Type::pred: return v & 1;
  default: return int64_t(v);
  }
}
uint64_t cut(Type t, uint64_t v) {
  uint32_t bytes = bytes_of(t);
  return bytes == 8 ? v : v & ((uint64_t(1) << 8 * bytes) - 1);
}

uint64_t convert(const Instruction &in, uint64_t v) {
  const Type to = in.type, from = in.from;
  if (is_float(from) && is_float(to)) {
    if (from == Type::f64 && to == Type::f16) return bits(_Float16(as<double>(v))); // in one rounding
    double x = to_double(from, v);
    return from == to ? from_double(to, round_to(x, in.round)) : from_double(to, x);
  }
  if (is_float(from)) {
    double x = round_to(to_double(from, v), in.round);
    const uint32_t n = 8 * bytes_of(to);
    if (std::isnan(x)) return n == 64 ? uint64_t(1) << 63 : 0;
    if (is_signed(to)) {
      const double top = std::ldexp(1.0, int(n) - 1);
      if (x >= top) return cut(to, (uint64_t(1) << (n - 1)) - 1);
      if (x < -top) return cut(to, uint64_t(1) << (n - 1));
      return cut(to, uint64_t(int64_t(x)));
    }
    const double top = std::ldexp(1.0, int(n));
    if (x >= top) return cut(to, ~uint64_t(0));
    return x <= 0 ? 0 : cut(to, uint64_t(x));
  }
  if (is_float(to)) {
    if (is_signed(from)) {
      const int64_t x = widened(from, v);
      return to == Type::f32 ? bits(float(x)) : to == Type::f64 ? bits(double(x)) : bits(_Float16(float(x)));
    }
    const uint64_t x = cut(from, v);
    return to == Type::f32 ? bits(float(x)) : to == Type::f64 ? bits(double(x)) : bits(_Float16(float(x)));
  }
  if (to == Type::s8) return uint64_t(widened(to, uint64_t(widened(from, v)))); // registers are wider: the sign fills them
  return cut(to, uint64_t(widened(from, v)));
}

template <class T> bool float_compare(uint8_t c, T a, T b) {
  const bool nan = std::isnan(a) || std::isnan(b);
  switch (c) {
  case kEq: return a == b;
  case kNe: return !nan && a != b;
  case kLt: return a < b;
  case kLe: return a <= b;
  case kGt: return a > b;
  case kGe: return a >= b;
  case kNum: return !nan;
  case kNan: return nan;
  case kEqu: return nan || a == b;
  case kNeu: return nan || a != b;
  case kLtu: return nan || a < b;
  case kLeu: return nan || a <= b;
  case kGtu: return nan || a > b;
  default: return nan || a >= b;
  }
}

bool compare(const Instruction &in, uint64_t a, uint64_t b) {
  if (in.type == Type::f32) return float_compare(in.compare, as<float>(a), as<float>(b));
  if (is_float(in.type)) return float_compare(in.compare, to_double(in.type, a), to_double(in.type, b));
  const uint64_t ua = cut(in.type, a), ub = cut(in.type, b);
  if (is_signed(in.type) && in.compare >= kLt && in.compare <= kGe) {
    const int64_t sa = widened(in.type, a), sb = widened(in.type, b);
    return in.compare == kLt ? sa < sb : in.compare == kLe ? sa <= sb : in.compare == kGt ? sa > sb : sa >= sb;
  }
  switch (in.compare) {
  case kEq: return ua == ub;
  case kNe: return ua != ub;
  case kLt: case kLo: return ua < ub;
  case kLe: case kLs: return ua <= ub;
  case kGt: case kHi: return ua > ub;
  default: return ua >= ub;
  }
}

template <class T> uint64_t float_op(const Instruction &in, T a, T b, T c) {
  switch (in.op) {
  case Op::add: return bits(T(a + b));
  case Op::sub: return bits(T(a - b));
  case Op::mul: return bits(T(a * b));
  case Op::div: return bits(T(a / b));
  case Op::fma: return bits(T(std::fma(a, b, c)));
  case Op::abs: return bits(T(std::fabs(a)));
  case Op::neg: return bits(T(-a));
  case Op::sqrt: return bits(T(std::sqrt(a)));
  case Op::rcp: return bits(T(T(1) / a));
  case Op::copysign: return bits(T(std::copysign(b, a)));
  case Op::min: case Op::max:
    if (std::isnan(a) || std::isnan(b)) return in.nan ? bits(std::numeric_limits<T>::quiet_NaN()) : bits(std::isnan(a) ? b : a);
    if (a == b) return bits(std::signbit(a) == (in.op == Op::min) ? a : b);
    return bits((a < b) == (in.op == Op::min) ? a : b);
  default: throw Wrong("no such operation on floats");
  }
}

uint64_t high_product(Type t, uint64_t a, uint64_t b) {
  if (bytes_of(t) == 8) {
    if (is_signed(t)) return uint64_t((__int128(int64_t(a)) * int64_t(b)) >> 64);
    return uint64_t((static_cast<unsigned __int128>(a) * b) >> 64);
  }
  return cut(t, uint64_t((__int128(widened(t, a)) * widened(t, b)) >> (8 * bytes_of(t))));
}

uint64_t int_op(const Instruction &in, uint64_t a, uint64_t b, uint64_t c) {
  const Type t = in.type;
  const uint32_t width = 8 * bytes_of(t);
  switch (in.op) {
  case Op::add: return cut(t, a + b);
  case Op::sub: return cut(t, a - b);
  case Op::mul: return cut(t, a * b);
  case Op::mul_hi: return high_product(t, a, b);
  case Op::mul_wide: return uint64_t(widened(t, a)) * uint64_t(widened(t, b)) & (width == 16 ? 0xffffffffu : ~uint64_t(0));
  case Op::mad: return cut(t, a * b + c);
  case Op::mad_wide: return uint64_t(widened(t, a)) * uint64_t(widened(t, b)) + c;
  case Op::div: case Op::rem: {
    if (cut(t, b) == 0) return in.op == Op::div ? cut(t, ~uint64_t(0)) : cut(t, a);
    if (is_signed(t)) {
      const int64_t sa = widened(t, a), sb = widened(t, b);
      if (sb == -1) return in.op == Op::div ? cut(t, 0 - a) : 0;
      return cut(t, uint64_t(in.op == Op::div ? sa / sb : sa % sb));
    }
    return in.op == Op::div ? cut(t, a) / cut(t, b) : cut(t, a) % cut(t, b);
  }
  case Op::abs: return cut(t, widened(t, a) < 0 ? 0 - a : a);
  case Op::neg: return cut(t, 0 - a);
  case Op::min: case Op::max: {
    const bool less = is_signed(t) ? widened(t, a) < widened(t, b) : cut(t, a) < cut(t, b);
    return cut(t, less == (in.op == Op::min) ? a : b);
  }
  case Op::and_: return t == Type::pred ? a & b & 1 : cut(t, a & b);
  case Op::or_: return t == Type::pred ? (a | b) & 1 : cut(t, a | b);
  case Op::xor_: return t == Type::pred ? (a ^ b) & 1 : cut(t, a ^ b);
  case Op::not_: return t == Type::pred ? ~a & 1 : cut(t, ~a);
  case Op::shl: return uint32_t(b) >= width ? 0 : cut(t, a << uint32_t(b));
  case Op::shr:
    if (is_signed(t)) return cut(t, uint64_t(widened(t, a) >> (uint32_t(b) >= width ? width - 1 : uint32_t(b))));
    return uint32_t(b) >= width ? 0 : cut(t, a) >> uint32_t(b);
  case Op::bfe: {
    const uint32_t at = uint32_t(b) & 0xff, n = uint32_t(c) & 0xff;
    if (n == 0) return 0;
    const int64_t value = widened(t, a);
    if (at >= width) return is_signed(t) && value < 0 ? cut(t, ~uint64_t(0)) : 0;
    if (at + n >= width) return cut(t, uint64_t(is_signed(t) ? value >> at : int64_t(cut(t, a) >> at)));
    const uint64_t field = cut(t, a) >> at & ((uint64_t(1) << n) - 1);
    return is_signed(t) && field >> (n - 1) & 1 ? cut(t, field | ~((uint64_t(1) << n) - 1)) : field;
  }
  case Op::popc: return uint64_t(__builtin_popcountll(cut(t, a)));
  case Op::clz: return cut(t, a) == 0 ? width : uint64_t(__builtin_clzll(cut(t, a))) - (64 - width);
  default: throw Wrong("no such operation on integers");
  }
}

struct Copy {
  uint8_t *to;
  std::array<uint8_t, 16> bytes;
  uint32_t size;
};

struct Thread {
  uint32_t pc = 0;
  enum : uint8_t { runs, at_barrier, at_shuffle, at_signal, done } state = runs;
  bool waited = false; // for the kernels ahead
  uint32_t id[3] = {};
  std::vector<Copy> open;                 // since the last commit
  std::vector<std::vector<Copy>> batches; // the oldest first
  struct Product {
    uint32_t at;   // in the code
    uint64_t a, b; // matrix descriptors
    bool operator==(const Product &) const = default;
  };
  std::vector<Product> products;          // wgmma under way
  std::vector<size_t> committed;          // how many of them with each commit, the oldest first
  std::vector<std::pair<uint64_t, uint32_t>> written; // to shared memory since its last fence for the units of warpgroups
  std::map<uint64_t, uint64_t> sums;      // what the registers hold that these add to, by their numbers
};

// A box on its way, line by line of 128 bytes.
struct Box {
  uint8_t *to;
  std::vector<uint8_t> bytes;
};

// An mbarrier.
struct Signal {
  uint32_t arrivals = 0, missing = 0, ended = 0; // of a phase, in this one; phases
  uint64_t bytes = 0;                            // expected
  std::vector<Box> boxes;
};

// Memory below 2 GiB: ldmatrix and cp.async take addresses of shared memory as 32 bits.
class LowMemory {
 public:
  explicit LowMemory(size_t size) : size_(size) {
    void *at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (at == MAP_FAILED) throw Wrong("no memory below 2 GiB for shared memory");
    data_ = static_cast<uint8_t *>(at);
  }
  LowMemory(const LowMemory &) = delete;
  LowMemory &operator=(const LowMemory &) = delete;
  ~LowMemory() { munmap(data_, size_); }
  uint8_t *data() const { return data_; }
  size_t size() const { return size_; }

 private:
  uint8_t *data_;
  size_t size_;
};

class Block {
 public:
  Block(const Kernel &kernel, const Launch &launch, Chain *chain)
      : k_(kernel), l_(launch), chain_(chain), shared_((launch.shared_bytes ? kernel.given_at + launch.shared_bytes : kernel.shared_bytes) + kSharedAlign) {
    threads_.resize(size_t(launch.block[0]) * launch.block[1] * launch.block[2]);
    registers_.resize(threads_.size() * k_.registers);
    local_.resize(threads_.size() * (k_.local_bytes + 16));
    for (const Instruction &in : k_.code) has_products_ = has_products_ || in.op == Op::wgmma;
  }

  void run(std::array<uint32_t, 3> group) {
    group_ = group;
    if (has_products_) unfenced_.assign(shared_.size(), 0);
    std::memset(shared_.data(), 0xcd, shared_.size()); // whoever reads what nobody wrote will notice
    for (uint32_t t = 0; t < threads_.size(); t++) {
      threads_[t] = {};
      threads_[t].waited = !l_.early;
      threads_[t].id[0] = t % l_.block[0];
      threads_[t].id[1] = t / l_.block[0] % l_.block[1];
      threads_[t].id[2] = t / l_.block[0] / l_.block[1];
    }
    signals_.clear();
    for (;;) {
      bool all_done = true, any = false;
      for (uint32_t t = 0; t < threads_.size(); t++) {
        const bool waits = threads_[t].state == Thread::at_signal;
        if (threads_[t].state == Thread::runs || waits) {
          const uint32_t before = threads_[t].pc;
          threads_[t].state = Thread::runs;
          go(t);
          any = any || !waits || threads_[t].state != Thread::at_signal || threads_[t].pc != before;
        }
        all_done = all_done && threads_[t].state == Thread::done;
      }
      if (all_done) return;
      if (!exchange() && !release_barriers() && !any) stuck();
    }
  }

 private:
  // Shuffles, and ops of matrix units, of warps whose threads have all come; false where none could.
  bool exchange() {
    bool any = false;
    for (uint32_t first = 0; first + 128 <= threads_.size(); first += 128)
      any = finish_products(first) || any;
    for (uint32_t first = 0; first < threads_.size(); first += 32) {
      const uint32_t end = std::min<uint32_t>(first + 32, uint32_t(threads_.size()));
      uint32_t waiting = 0, at = 0;
      for (uint32_t t = first; t < end; t++)
        if (threads_[t].state == Thread::at_shuffle) ++waiting, at = threads_[t].pc;
      if (waiting == 0 || k_.code[at].op == Op::wgmma_wait) continue;
      if (waiting != end - first) throw Wrong("a shuffle that not all threads of a warp take part in");
      const Instruction &in = k_.code[at];
      for (uint32_t t = first; t < end; t++)
        if (threads_[t].pc != at) throw Wrong("threads of a warp at different shuffles");
      any = true;
      if (in.op != Op::shfl) {
        if (end - first != 32) throw Wrong("an op of matrix units in a warp that is not whole");
        in.op == Op::mma ? multiply(in, first) : load_matrices(in, first);
        for (uint32_t t = first; t < end; t++) threads_[t].state = Thread::runs, ++threads_[t].pc;
        continue;
      }
      uint64_t values[32], lanes[32];
      for (uint32_t t = first; t < end; t++) {
        values[t - first] = get(in.a, t);
        lanes[t - first] = get(in.b, t) & 31;
      }
      for (uint32_t t = first; t < end; t++) {
        if (lanes[t - first] >= end - first) throw Wrong("a shuffle from a lane that is not there");
        set(in.d[0], t, values[lanes[t - first]]);
        threads_[t].state = Thread::runs;
        ++threads_[t].pc;
      }
    }
    return any;
  }

  // Four matrices of 8 x 8 words of 16 bits: thread 8 i + r names row r of matrix i. Thread t gets the two words t % 4 * 2 of row
  // t / 4 of each; transposed: of its column.
  void load_matrices(const Instruction &in, uint32_t first) {
    uint16_t m[4][8][8];
    for (uint32_t t = 0; t < 32; t++) std::memcpy(m[t / 8][t % 8], access(in, first + t, 16), 16);
    for (uint32_t t = 0; t < 32; t++)
      for (uint32_t i = 0; i < 4; i++) {
        const uint32_t line = t / 4, at = t % 4 * 2;
        const uint64_t low = in.negated ? m[i][at][line] : m[i][line][at], high = in.negated ? m[i][at + 1][line] : m[i][line][at + 1];
        set(in.d[i], first + t, low | high << 16);
      }
  }

  // Sums 16 x 8 += A B, with the words of A and B as PTX's manual draws them ("Matrix fragments for mma.m16n8k16", "mma.m16n8k8",
  // "mma.m16n8k32" of 8 bits): eight words along k, word w of row r in thread r % 8 * 4 + w % 4. One rounding an addition; integers wrap.
  void multiply(const Instruction &in, uint32_t first) {
    if (bytes_of(in.type) == 1) return multiply_bytes(in, first);
    const uint32_t per_word = in.type == Type::f16 ? 2 : 1;
    auto element = [&](const Operand &o, uint32_t lane, uint32_t e) {
      const uint64_t word = get(o, first + lane);
      return in.type == Type::f16 ? to_double(Type::f16, word >> 16 * e & 0xffff) : double(as<float>(word & ~uint64_t(0x1fff)));
    };
    std::vector<uint64_t> sums(32 * 4);
    for (uint32_t t = 0; t < 32; t++)
      for (uint32_t i = 0; i < 4; i++) {
        const uint32_t row = t / 4 + i / 2 * 8, column = t % 4 * 2 + i % 2;
        float sum = as<float>(get(in.factors[6 + i], first + t));
        for (uint32_t w = 0; w < 8; w++)
          for (uint32_t e = 0; e < per_word; e++)
            sum = float(double(sum) + element(in.factors[row / 8 + w / 4 * 2], row % 8 * 4 + w % 4, e) * element(in.factors[4 + w / 4], column * 4 + w % 4, e));
        sums[t * 4 + i] = bits(sum);
      }
    for (uint32_t t = 0; t < 32; t++)
      for (uint32_t i = 0; i < 4; i++) set(in.d[i], first + t, sums[t * 4 + i]);
  }

  void multiply_bytes(const Instruction &in, uint32_t first) {
    auto element = [&](const Operand &o, Type type, uint32_t lane, uint32_t e) {
      const auto byte = static_cast<uint8_t>(get(o, first + lane) >> 8 * e);
      return type == Type::s8 ? int32_t{static_cast<int8_t>(byte)} : int32_t{byte};
    };
    std::vector<uint32_t> sums(32 * 4);
    for (uint32_t t = 0; t < 32; t++)
      for (uint32_t i = 0; i < 4; i++) {
        const uint32_t row = t / 4 + i / 2 * 8, column = t % 4 * 2 + i % 2;
        uint32_t sum = static_cast<uint32_t>(get(in.factors[6 + i], first + t));
        for (uint32_t k = 0; k < 32; k++) {
          const uint32_t w = k / 4;
          sum += static_cast<uint32_t>(element(in.factors[row / 8 + w / 4 * 2], in.type, row % 8 * 4 + w % 4, k % 4) *
                                       element(in.factors[4 + w / 4], in.from, column * 4 + w % 4, k % 4));
        }
        sums[t * 4 + i] = sum;
      }
    for (uint32_t t = 0; t < 32; t++)
      for (uint32_t i = 0; i < 4; i++) set(in.d[i], first + t, sums[t * 4 + i]);
  }

  // What a product adds to is out of sight until the wait.
  void start_product(const Instruction &in, uint32_t t) {
    Thread &th = threads_[t];
    th.products.push_back({th.pc, get(in.a, t), get(in.b, t)});
    for (const Operand &o : in.factors)
      if (th.sums.emplace(o.value, get(o, t)).second) set(o, t, 0x7fc0dead);
  }

  // At a wait of all 128 threads of a warpgroup, the products that they have begun, with the factors that are there only now. The words
  // of factors as PTX's manual draws them ("Matrix descriptor", 128-byte swizzling, K-major): lines of 128 bytes, 8 lines 1,024 bytes.
  bool finish_products(uint32_t first) {
    uint32_t waiting = 0;
    for (uint32_t t = first; t < first + 128; t++)
      waiting += threads_[t].state == Thread::at_shuffle && k_.code[threads_[t].pc].op == Op::wgmma_wait;
    if (waiting == 0) return false;
    if (waiting != 128) throw Wrong("a wait for products that not all threads of a warpgroup reach");
    const std::vector<Thread::Product> products = threads_[first].products;
    const std::vector<size_t> committed = threads_[first].committed;
    const uint64_t left = get(k_.code[threads_[first].pc].a, first); // batches that may go on
    const size_t ended = left >= committed.size() ? 0 : committed[committed.size() - 1 - left];
    for (uint32_t t = first; t < first + 128; t++) {
      if (threads_[t].pc != threads_[first].pc || threads_[t].products != products) throw Wrong("threads of a warpgroup with different products, or matrices, under way");
      if (threads_[t].committed != committed || (committed.empty() ? 0 : committed.back()) != products.size()) throw Wrong("products that were not committed");
    }
    for (size_t i = 0; i < ended; i++) {
      const Instruction &in = k_.code[products[i].at];
      const auto lines = uint32_t(in.factors.size() / 4 * 8);
      auto matrix = [&](uint64_t d, uint32_t rows) {
        if (d >> 62 != 1 || (d >> 49 & 7) != 0 || (d >> 32 & 0x3fff) != 64) throw Wrong("a matrix descriptor of another layout");
        const uint64_t begin = (d & 0x3fff) << 4;
        std::vector<double> out;
        for (uint32_t l = 0; l < rows; l++)
          for (uint32_t k = 0; k < 16; k++) {
            uint64_t at = begin + l / 8 * 1024 + l % 8 * 128 + 2 * k;
            at ^= (at >> 7 & 7) << 4; // the 16 bytes change places by the line's number, which is in the address
            uint16_t word;
            std::memcpy(&word, window(at), 2);
            out.push_back(to_double(Type::f16, word));
          }
        return out;
      };
      const std::vector<double> a = matrix(products[i].a, 64), b = matrix(products[i].b, lines);
      for (uint32_t t = first; t < first + 128; t++)
        for (uint32_t f = 0; f < in.factors.size(); f++) {
          const uint32_t row = (t - first) / 32 * 16 + t % 32 / 4 + f % 4 / 2 * 8, column = f / 4 * 8 + t % 4 * 2 + f % 2;
          uint64_t &bits_of = threads_[t].sums.at(in.factors[f].value);
          float sum = as<float>(bits_of);
          for (uint32_t k = 0; k < 16; k++) sum = float(double(sum) + a[row * 16 + k] * b[column * 16 + k]);
          bits_of = bits(sum);
        }
    }
    for (uint32_t t = first; t < first + 128; t++) {
      Thread &th = threads_[t];
      if (ended == products.size()) {
        for (const auto &[reg, value] : th.sums) registers_[size_t(t) * k_.registers + reg] = value;
        th.sums.clear();
      }
      th.products.erase(th.products.begin(), th.products.begin() + std::ptrdiff_t(ended));
      std::erase_if(th.committed, [&](size_t n) { return n <= ended; });
      for (size_t &n : th.committed) n -= ended;
      th.state = Thread::runs, ++th.pc;
    }
    return true;
  }

  // What threads write to shared memory is not there for the units of warpgroups before a fence of the thread that wrote it.
  void note_written(uint32_t t, const uint8_t *to, uint32_t size) {
    const uint8_t *base = shared_base();
    if (!has_products_ || to < base || to >= base + shared_bytes()) return;
    const auto at = uint64_t(to - base);
    std::fill_n(unfenced_.begin() + std::ptrdiff_t(at), size, t + 1);
    threads_[t].written.emplace_back(at, size);
  }

  // Of 256 KiB of shared memory, whose addresses a matrix descriptor has without their higher bits.
  const uint8_t *window(uint64_t at) const {
    const auto base = uint64_t(uintptr_t(shared_base()));
    const uint64_t address = base + ((at - base) & 0x3ffff);
    if (address + 2 > base + shared_bytes()) throw Wrong("a matrix outside of shared memory");
    if (unfenced_[address - base] != 0) throw Wrong("a matrix that was written without a fence for the units of warpgroups");
    return reinterpret_cast<const uint8_t *>(uintptr_t(address));
  }

  // Those that all have come to, of the block or of as many threads as it says; false where there is none.
  bool release_barriers() {
    std::map<uint64_t, std::vector<uint32_t>> waiting; // by number
    for (uint32_t t = 0; t < threads_.size(); t++)
      if (threads_[t].state == Thread::at_barrier) waiting[k_.code[threads_[t].pc].a.value].push_back(t);
    bool any = false;
    for (const auto &[number, list] : waiting) {
      const uint32_t at = threads_[list[0]].pc;
      const Operand &some = k_.code[at].b;
      if (list.size() != (some.kind == Operand::none ? threads_.size() : some.value)) continue;
      for (uint32_t t : list)
        if (threads_[t].pc != at) throw Wrong("threads at different barriers");
      for (uint32_t t : list) threads_[t].state = Thread::runs, ++threads_[t].pc;
      any = true;
    }
    return any;
  }
  [[noreturn]] void stuck() const {
    for (const Thread &t : threads_)
      if (t.state == Thread::at_barrier) throw Wrong("a barrier that not all threads reach");
    throw Wrong("an mbarrier whose phase never ends");
  }

  Signal &signal_at(const Instruction &in, uint32_t t) {
    Instruction at = in;
    at.space = kShared;
    access(at, t, 8);
    auto found = signals_.find(get(in.a, t));
    if (found == signals_.end()) throw Wrong("an mbarrier that was not initialised");
    return found->second;
  }
  void arrive(Signal &s) {
    if (s.missing == 0) throw Wrong("more arrivals at an mbarrier than it counts");
    --s.missing;
  }
  // What was expected comes now that somebody waits for it.
  bool ended(Signal &s, uint64_t parity) {
    uint64_t coming = 0;
    for (const Box &b : s.boxes) coming += b.bytes.size();
    if (coming > s.bytes && s.missing == 0) throw Wrong("boxes of more bytes than their mbarrier expects");
    if (s.missing == 0 && coming == s.bytes) {
      for (const Box &b : s.boxes) {
        std::memcpy(b.to, b.bytes.data(), b.bytes.size());
        if (has_products_) std::fill_n(unfenced_.begin() + (b.to - shared_base()), b.bytes.size(), 0);
      }
      s.boxes.clear();
      s.bytes = 0, s.missing = s.arrivals, ++s.ended;
    }
    return (s.ended & 1) != (parity & 1);
  }
  const TensorMap &map_at(uint64_t at) const {
    for (const std::vector<uint8_t> &p : l_.params)
      if (at == uint64_t(uintptr_t(p.data())) && p.size() == sizeof(TensorMap)) {
        const TensorMap &m = *reinterpret_cast<const TensorMap *>(p.data());
        if (m.magic != TensorMap::kMagic) throw Wrong("an argument that is no tensor map");
        return m;
      }
    throw Wrong("a tensor map that is no argument of the kernel");
  }
  // Reads now; the place has NaNs until it comes.
  void bring_box(const Instruction &in, uint32_t t) {
    const TensorMap &m = map_at(get(in.b, t));
    if (in.factors.size() != m.rank) throw Wrong("as many coordinates as the tensor map has not");
    uint64_t lines = 1;
    for (uint32_t i = 1; i < m.rank; i++) lines *= m.box[i];
    Instruction to = in;
    to.space = kShared;
    if (get(in.a, t) % 128 != 0) throw Wrong("a box that does not begin at 128 bytes");
    Box box{access(to, t, 16), std::vector<uint8_t>(lines * 128), };
    to.offset = int64_t(lines) * 128 - 16;
    access(to, t, 16);
    for (uint64_t l = 0; l < lines; l++) {
      uint64_t rest = l, from = m.address;
      bool inside = true;
      for (uint32_t i = 1; i < m.rank; i++) {
        const int64_t at = int64_t(int32_t(get(in.factors[i], t))) + int64_t(rest % m.box[i]);
        rest /= m.box[i];
        inside = inside && at >= 0 && uint64_t(at) < m.sizes[i];
        from += uint64_t(at) * m.strides[i];
      }
      for (uint32_t k = 0; inside && k < 64; k++) {
        const int64_t at = int64_t(int32_t(get(in.factors[0], t))) + k;
        if (at < 0 || uint64_t(at) >= m.sizes[0]) continue;
        Instruction word = in;
        word.op = Op::ld, word.space = kGlobal, word.offset = 0;
        word.a = {Operand::immediate, from + 2 * uint64_t(at)};
        uint64_t place = uint64_t(uintptr_t(box.to)) + l * 128 + 2 * k; // the 16 bytes change places by the line's number, which is in the address
        place ^= (place >> 7 & 7) << 4;
        std::memcpy(box.bytes.data() + (place - uint64_t(uintptr_t(box.to))), access(word, t, 2), 2);
      }
    }
    std::memset(box.to, 0xff, box.bytes.size());
    Instruction signal = in;
    signal.a = in.c;
    signal_at(signal, t).boxes.push_back(std::move(box));
  }

  uint64_t get(const Operand &o, uint32_t t) const {
    switch (o.kind) {
    case Operand::reg: return registers_[size_t(t) * k_.registers + o.value];
    case Operand::immediate: return o.value;
    case Operand::shared: return uint64_t(uintptr_t(shared_base())) + o.value;
    case Operand::given: return uint64_t(uintptr_t(shared_base())) + k_.given_at;
    case Operand::local: return uint64_t(uintptr_t(local_base(t))) + o.value;
    case Operand::param: return uint64_t(uintptr_t(l_.params[o.value / 8].data()));
    case Operand::special:
      if (o.value < kNtid) return threads_[t].id[o.value];
      if (o.value < kCtaid) return l_.block[o.value - kNtid];
      if (o.value < kNctaid) return group_[o.value - kCtaid];
      return o.value < kLane ? l_.grid[o.value - kNctaid] : t % 32;
    default: throw Wrong("an operand without a value");
    }
  }
  void set(const Operand &o, uint32_t t, uint64_t value) { registers_[size_t(t) * k_.registers + o.value] = value; }
  uint32_t shared_bytes() const { return l_.shared_bytes ? k_.given_at + l_.shared_bytes : k_.shared_bytes; }
  uint8_t *shared_base() const { return reinterpret_cast<uint8_t *>((uintptr_t(shared_.data()) + kSharedAlign - 1) & ~uintptr_t(kSharedAlign - 1)); }
  uint8_t *local_base(uint32_t t) const {
    return reinterpret_cast<uint8_t *>((uintptr_t(local_.data()) + t * (k_.local_bytes + 16) + 15) & ~uintptr_t(15));
  }

  uint8_t *access(const Instruction &in, uint32_t t, uint32_t bytes) {
    const uint64_t at = get(in.a, t) + uint64_t(in.offset);
    auto inside = [&](uint64_t begin, uint64_t end) { return at >= begin && at <= end && bytes <= end - at; };
    if (at % bytes != 0) throw Wrong("an address that is not aligned");
    const uint64_t shared = uint64_t(uintptr_t(shared_base())), local = uint64_t(uintptr_t(local_base(t)));
    bool good = false;
    if ((in.space == kShared || in.space == kGeneric) && inside(shared, shared + shared_bytes())) good = true;
    else if ((in.space == kLocal || in.space == kGeneric) && inside(local, local + k_.local_bytes)) good = true;
    else if (in.space == kGlobal || in.space == kGeneric)
      good = inside(seen_[0], seen_[1]) || (l_.memory(at, &seen_[0], &seen_[1]) && inside(seen_[0], seen_[1]));
    if (!good) throw Wrong("an access outside of memory");
    if (inside(seen_[0], seen_[1])) meet_others(in, t, at, bytes);
    return reinterpret_cast<uint8_t *>(uintptr_t(at));
  }

  // Other kernels of the run may be at work with this one.
  void meet_others(const Instruction &in, uint32_t t, uint64_t at, uint32_t bytes) {
    const bool writes = in.op == Op::st || (in.op >= Op::atom_add && in.op <= Op::atom_exch);
    if (chain_ && !threads_[t].waited) ++chain_->early_reads;
    if (!threads_[t].waited && writes) throw Wrong("a write before griddepcontrol.wait");
    for (uint64_t word = at / 4; chain_ && word <= (at + bytes - 1) / 4; ++word) {
      if (!threads_[t].waited && chain_->written.count(word)) throw Wrong("what a kernel ahead writes is read before griddepcontrol.wait");
      if (in.cached && chain_->written.count(word)) throw Wrong("ld.global.nc of what a kernel ahead writes");
      if (writes) chain_->written.insert(word);
    }
  }

  // Reads now, and writes when the thread waits: in between, what is there is neither what was there before nor what comes.
  void copy(const Instruction &in, uint32_t t) {
    const auto size = uint32_t(in.b.value), read = uint32_t(get(in.c, t));
    if (read != 0 && read != size) throw Wrong("a copy of a part");
    Instruction to;
    to.a = in.d[0], to.space = kShared;
    Copy c = {access(to, t, size), {}, size};
    Instruction from = in;
    from.space = kGlobal;
    if (read) std::memcpy(c.bytes.data(), access(from, t, size), size);
    std::memset(c.to, 0xff, size); // NaNs
    threads_[t].open.push_back(c);
  }

  void go(uint32_t t) {
    Thread &th = threads_[t];
    for (;;) {
      const Instruction &in = k_.code[th.pc];
      if (in.predicate >= 0 && ((registers_[size_t(t) * k_.registers + size_t(in.predicate)] & 1) != 0) == in.negated) {
        ++th.pc;
        continue;
      }
      try {
        switch (in.op) {
        case Op::bra: th.pc = uint32_t(in.target); continue;
        case Op::ret:
          if (!th.waited) throw Wrong("a thread that ends without griddepcontrol.wait");
          th.state = Thread::done;
          return;
        case Op::bar: th.state = Thread::at_barrier; return;
        case Op::signal_wait:
          set(in.d[0], t, ended(signal_at(in, t), get(in.b, t)));
          if (!(get(in.d[0], t) & 1)) { // tried again when others have gone on
            th.state = Thread::at_signal;
            return;
          }
          break;
        case Op::shfl: case Op::ldmatrix: case Op::mma: case Op::wgmma_wait: th.state = Thread::at_shuffle; return;
        default: step(in, t);
        }
      } catch (const Wrong &w) {
        throw Wrong("line " + std::to_string(in.line) + ": " + w.what());
      }
      ++th.pc;
    }
  }

  void step(const Instruction &in, uint32_t t) {
    switch (in.op) {
    case Op::nop: return;
    case Op::depend_wait: threads_[t].waited = true; return;
    case Op::mov: return set(in.d[0], t, get(in.a, t));
    case Op::ld_param: {
      const uint32_t index = uint32_t(in.a.value / 8);
      uint64_t value = 0;
      std::memcpy(&value, l_.params[index].data() + in.offset, std::min<size_t>(bytes_of(in.type), l_.params[index].size() - size_t(in.offset)));
      return set(in.d[0], t, value);
    }
    case Op::ld: {
      const uint32_t bytes = bytes_of(in.type);
      const uint8_t *from = access(in, t, bytes * in.lanes);
      for (uint32_t i = 0; i < in.lanes; i++) {
        uint64_t value = 0;
        std::memcpy(&value, from + bytes * i, bytes);
        set(in.d[i], t, is_signed(in.type) ? uint64_t(widened(in.type, value)) : value);
      }
      return;
    }
    case Op::st: {
      const uint32_t bytes = bytes_of(in.type);
      uint8_t *to = access(in, t, bytes * in.lanes);
      for (uint32_t i = 0; i < in.lanes; i++) {
        const uint64_t value = get(in.d[i], t);
        std::memcpy(to + bytes * i, &value, bytes);
      }
      note_written(t, to, bytes * in.lanes);
      return;
    }
    case Op::unpack: {
      const uint64_t value = get(in.a, t);
      const uint32_t width = 8 * bytes_of(in.type) / in.lanes;
      for (uint32_t i = 0; i < in.lanes; i++) set(in.d[i], t, value >> (width * i) & ((uint64_t(1) << width) - 1));
      return;
    }
    case Op::pack: {
      const uint32_t width = 8 * bytes_of(in.type) / in.lanes;
      const uint64_t mask = (uint64_t(1) << width) - 1;
      uint64_t value = (get(in.a, t) & mask) | (get(in.b, t) & mask) << width;
      if (in.lanes == 4) value |= (get(in.c, t) & mask) << 2 * width | (get(in.e, t) & mask) << 3 * width;
      return set(in.d[0], t, value);
    }
    case Op::setp: {
      const uint64_t left = get(in.a, t), right = get(in.b, t);
      set(in.d[0], t, compare(in, left, right));
      if (in.lanes == 2) set(in.d[1], t, compare(in, left >> 16, right >> 16));
      return;
    }
    case Op::bfi: {
      const uint32_t width = 8 * bytes_of(in.type), at = uint32_t(get(in.c, t)) & 0xff, n = uint32_t(get(in.e, t)) & 0xff;
      const uint64_t mask = at >= width ? 0 : ((n >= width ? ~uint64_t(0) : (uint64_t(1) << n) - 1) << at);
      return set(in.d[0], t, cut(in.type, (get(in.b, t) & ~mask) | (get(in.a, t) << (at & 63) & mask)));
    }
    case Op::prmt: {
      const uint64_t bytes = (get(in.a, t) & 0xffffffff) | get(in.b, t) << 32, select = get(in.c, t);
      uint64_t out = 0;
      for (uint32_t i = 0; i < 4; i++) {
        const uint32_t pick = select >> 4 * i & 0xf;
        uint64_t byte = bytes >> 8 * (pick & 7) & 0xff;
        if (pick & 8) byte = byte & 0x80 ? 0xff : 0;
        out |= byte << 8 * i;
      }
      return set(in.d[0], t, out);
    }
    case Op::selp: return set(in.d[0], t, (get(in.c, t) & 1) ? get(in.a, t) : get(in.b, t));
    case Op::cvt_pair: // the first is the high half
      return set(in.d[0], t, from_double(Type::f16, double(as<float>(get(in.b, t)))) | from_double(Type::f16, double(as<float>(get(in.a, t)))) << 16);
    case Op::cp_async: return copy(in, t);
    case Op::cp_commit:
      threads_[t].batches.push_back(std::move(threads_[t].open));
      threads_[t].open.clear();
      return;
    case Op::cp_wait:
      while (threads_[t].batches.size() > get(in.a, t)) {
        for (const Copy &c : threads_[t].batches.front()) {
          std::memcpy(c.to, c.bytes.data(), c.size);
          note_written(t, c.to, c.size);
        }
        threads_[t].batches.erase(threads_[t].batches.begin());
      }
      return;
    case Op::wgmma: return start_product(in, t);
    case Op::signal_init: {
      Instruction at = in;
      at.space = kShared;
      access(at, t, 8);
      const auto n = uint32_t(get(in.b, t));
      if (!signals_.emplace(get(in.a, t), Signal{n, n, 0, 0, {}}).second) throw Wrong("an mbarrier that is initialised twice");
      return;
    }
    case Op::signals_fence: return;
    case Op::signal_expect: {
      Signal &s = signal_at(in, t);
      s.bytes += get(in.b, t);
      return arrive(s);
    }
    case Op::signal_arrive: return arrive(signal_at(in, t));
    case Op::box: return bring_box(in, t);
    case Op::prefetch_map: return void(map_at(get(in.a, t)));
    case Op::fence_async:
      for (const auto &[at, size] : threads_[t].written)
        for (uint64_t i = at; i < at + size; i++)
          if (unfenced_[i] == t + 1) unfenced_[i] = 0;
      threads_[t].written.clear();
      return;
    case Op::wgmma_commit: threads_[t].committed.push_back(threads_[t].products.size()); return;
    case Op::cvt: return set(in.d[0], t, convert(in, get(in.a, t)));
    case Op::atom_add: case Op::atom_min: case Op::atom_max: case Op::atom_and: case Op::atom_or: case Op::atom_xor: case Op::atom_exch: {
      const uint32_t bytes = bytes_of(in.type);
      uint8_t *at = access(in, t, bytes);
      uint64_t old = 0;
      std::memcpy(&old, at, bytes);
      Instruction plain = in;
      plain.op = in.op == Op::atom_add ? Op::add : in.op == Op::atom_min ? Op::min : in.op == Op::atom_max ? Op::max : in.op == Op::atom_and ? Op::and_
                 : in.op == Op::atom_xor ? Op::xor_ : Op::or_;
      const uint64_t value = in.op == Op::atom_exch ? get(in.b, t) : int_op(plain, old, get(in.b, t), 0);
      std::memcpy(at, &value, bytes);
      return set(in.d[0], t, old);
    }
    default: break;
    }
    const uint64_t a = get(in.a, t), b = in.b.kind ? get(in.b, t) : 0, c = in.c.kind ? get(in.c, t) : 0;
    if (in.type == Type::f32) return set(in.d[0], t, float_op(in, as<float>(a), as<float>(b), as<float>(c)));
    if (in.type == Type::f64) return set(in.d[0], t, float_op(in, as<double>(a), as<double>(b), as<double>(c)));
    if (in.type == Type::f16) { // each of a pair; exact in f64 before the one rounding
      uint64_t out = 0;
      for (uint32_t i = 0; i < in.lanes; i++) {
        const auto half = [&](uint64_t v) { return to_double(Type::f16, v >> 16 * i & 0xffff); };
        out |= from_double(Type::f16, as<double>(float_op(in, half(a), half(b), half(c)))) << 16 * i;
      }
      return set(in.d[0], t, out);
    }
    set(in.d[0], t, int_op(in, a, b, c));
  }

  const Kernel &k_;
  const Launch &l_;
  Chain *chain_;
  std::array<uint32_t, 3> group_ = {};
  std::vector<Thread> threads_;
  std::vector<uint64_t> registers_;
  LowMemory shared_;
  std::vector<uint8_t> local_;
  bool has_products_ = false;
  std::map<uint64_t, Signal> signals_; // by address
  std::vector<uint32_t> unfenced_; // by byte of shared memory: who wrote it without a fence since, plus 1
  uint64_t seen_[2] = {}; // the last piece of memory
};

} // namespace

std::string parse(const std::string &text, std::map<std::string, Kernel> &kernels) {
  try {
    Parser(text, kernels).parse();
    return "";
  } catch (const std::exception &e) {
    return e.what();
  }
}

bool make_map(TensorMap *out, uint64_t address, uint32_t rank, const uint64_t *sizes, const uint64_t *strides, const uint32_t *box) {
  bool good = rank >= 1 && rank <= 5 && address % 16 == 0 && box[0] == 64;
  *out = {TensorMap::kMagic, address, rank, {}, {}, {}, {}};
  for (uint32_t i = 0; good && i < rank; i++) {
    out->sizes[i] = sizes[i], out->box[i] = box[i];
    out->strides[i] = i == 0 ? 2 : strides[i - 1];
    good = sizes[i] >= 1 && sizes[i] <= uint64_t(1) << 32 && box[i] >= 1 && box[i] <= 256 &&
           (i == 0 || (out->strides[i] % 16 == 0 && out->strides[i] > 0 && out->strides[i] < uint64_t(1) << 40));
  }
  return good;
}

std::string run(const Kernel &kernel, const Launch &launch, Chain *chain) {
  if (kernel.block[0] && kernel.block != launch.block) return kernel.name + ": launched with other blocks than .reqntid says";
  try {
    Block block(kernel, launch, chain);
    for (uint32_t z = 0; z < launch.grid[2]; z++)
      for (uint32_t y = 0; y < launch.grid[1]; y++)
        for (uint32_t x = 0; x < launch.grid[0]; x++) block.run({x, y, z});
    return "";
  } catch (const std::exception &e) {
    return kernel.name + ": " + e.what();
  }
}

} // namespace mock
