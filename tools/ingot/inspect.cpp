// `ingot inspect`: everything that an archive says of itself, collected once as JSON; the text form prints from
// that.
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "tools/ingot/bytecode.h"
#include "tools/ingot/commands.h"
#include "tools/ingot/model.h"

namespace ingot::tool {

namespace {

using nlohmann::ordered_json;

std::string hex64(uint64_t value) { return format("%016llx", (unsigned long long)value); }

// One function of one variant.
class FunctionReader {
 public:
  FunctionReader(const Archive &archive, uint32_t variant, uint32_t function)
      : archive_(archive.get()), v_(variant), f_(function) {
    if (ingot_archive_function(archive_, v_, f_, &info_) != INGOT_OK)
      throw Failure(kInternal, "a function cannot be read");
  }

  ordered_json read(bool commands) {
    ordered_json out;
    out["name"] = info_.name;
    out["inputs"] = tensors(info_.input_count, ingot_archive_input);
    out["outputs"] = tensors(info_.output_count, ingot_archive_output);
    out["symbols"] = symbols();
    out["memory"] = memory();
    out["counts"] = counts();
    if (commands) out["commands"] = command_texts();
    return out;
  }

 private:
  std::string expr(uint32_t e) const {
    if (e == INGOT_NONE) return "";
    std::string text(ingot_archive_expr_text(archive_, v_, f_, e, nullptr, 0), '\0');
    ingot_archive_expr_text(archive_, v_, f_, e, text.data(), text.size() + 1);
    return text;
  }

  // Value at the symbols' smallest (or largest) values; null where it depends on data or leaves 64 bits.
  ordered_json value(uint32_t e, bool largest) const {
    std::vector<int64_t> symbols;
    for (uint32_t s = 0; s < info_.symbol_count; ++s) {
      ingot_symbol_info_t symbol;
      if (ingot_archive_symbol(archive_, v_, f_, s, &symbol) != INGOT_OK) return nullptr;
      symbols.push_back(largest ? symbol.max : symbol.min);
    }
    int64_t out;
    if (ingot_archive_evaluate(archive_, v_, f_, e, symbols.data(), info_.symbol_count, &out, nullptr) !=
        INGOT_OK)
      return nullptr;
    return out;
  }

  template <class Get>
  ordered_json tensors(uint32_t count, Get get) const {
    ordered_json out = ordered_json::array();
    for (uint32_t i = 0; i < count; ++i) {
      ingot_signature_tensor_t info;
      if (get(archive_, f_, i, &info) != INGOT_OK) continue;
      ordered_json item = {{"name", info.name}, {"type", ingot_element_type_name(info.type)}};
      item["dims"] = ordered_json::array();
      for (uint32_t d = 0; d < info.rank; ++d) {
        if (info.fixed_dims[d] >= 0)
          item["dims"].push_back(info.fixed_dims[d]);
        else
          item["dims"].push_back(v_ == 0 ? expr(info.dims[d])
                                         : std::string("?")); // expressions are those of variant 0
      }
      item["dim_names"] = ordered_json::array();
      for (uint32_t d = 0; d < info.rank; ++d) item["dim_names"].push_back(info.dim_names[d]);
      out.push_back(std::move(item));
    }
    return out;
  }

  ordered_json symbols() const {
    ordered_json out = ordered_json::array();
    for (uint32_t s = 0; s < info_.symbol_count; ++s) {
      ingot_symbol_info_t symbol;
      if (ingot_archive_symbol(archive_, v_, f_, s, &symbol) != INGOT_OK) continue;
      out.push_back({{"name", symbol.name},
                     {"min", symbol.min},
                     {"max", symbol.max},
                     {"bound_by", symbol.host ? "the run" : "an input dim"}});
    }
    return out;
  }

  ordered_json memory() const {
    ordered_json out, arenas = ordered_json::array(), kinds = ordered_json::object(), state = 0, low = 0,
                      high = 0;
    std::string peak;
    const auto add = [](ordered_json &sum, const ordered_json &value) {
      int64_t total;
      if (sum.is_null() || value.is_null() ||
          __builtin_add_overflow(sum.get<int64_t>(), value.get<int64_t>(), &total))
        sum = nullptr;
      else
        sum = total;
    };
    for (uint32_t a = 0; a < info_.arena_count; ++a) {
      const uint32_t e = ingot_archive_arena(archive_, v_, f_, a);
      const ordered_json minimum = value(e, false), maximum = value(e, true);
      arenas.push_back({{"bytes", expr(e)}, {"at_minimum", minimum}, {"at_maximum", maximum}});
      peak += (peak.empty() ? "" : " + ") + expr(e);
      add(low, minimum);
      add(high, maximum);
    }
    for (uint32_t s = 0; s < info_.slot_count; ++s) {
      ingot_slot_info_t slot;
      if (ingot_archive_slot(archive_, v_, f_, s, &slot) != INGOT_OK) continue;
      ordered_json &kind = kinds[slot.kind];
      if (kind.is_null()) kind = {{"slots", 0}, {"bytes_at_minimum", 0}, {"bytes_at_maximum", 0}};
      kind["slots"] = kind["slots"].get<int64_t>() + 1;
      add(kind["bytes_at_minimum"], value(slot.size, false));
      add(kind["bytes_at_maximum"], value(slot.size, true));
    }
    out["peak"] = peak.empty() ? "0" : peak;
    out["peak_at_minimum"] = low;
    out["peak_at_maximum"] = high;
    out["arenas"] = arenas;
    out["slots"] = kinds;
    return out;
  }

  // Submissions: straight lines of work between the points where the host waits or decides, each counted once.
  ordered_json counts() const {
    uint32_t cursor = 0, depth = 0, submissions = 0, before = 0, copies = 0, fills = 0, crossings = 0,
             checks = 0;
    bool open = false;
    char text[64];
    while (ingot_archive_command_text(archive_, v_, f_, &cursor, &depth, text, sizeof text)) {
      const std::string line = text;
      const auto is = [&](const char *word) { return line.compare(0, std::string(word).size(), word) == 0; };
      copies += is("copy ");
      fills += is("fill ");
      checks += is("check ");
      crossings += is("read ") || is("host box");
      if (depth != before || is("(else)")) open = false;
      before = depth;
      const bool work = is("dispatch ") || is("copy ") || is("fill ") || is("(else) dispatch ") ||
                        is("(else) copy ") || is("(else) fill ");
      if (work && !open) ++submissions;
      if (work)
        open = true;
      else if (!is("barrier") && !is("check "))
        open = false;
    }
    return {{"dispatches", info_.dispatch_count},
            {"copies", copies},
            {"fills", fills},
            {"checks", checks},
            {"submissions", info_.fixed ? (submissions ? 1u : 0u) : submissions},
            {"host_decisions", info_.host_decision_count},
            {"device_to_host_crossings", crossings},
            {"slots", info_.slot_count},
            {"expressions", info_.expr_count},
            {"fixed", info_.fixed}};
  }

  ordered_json command_texts() const {
    ordered_json out = ordered_json::array();
    uint32_t cursor = 0, depth = 0;
    std::string text(1 << 16, '\0');
    while (ingot_archive_command_text(archive_, v_, f_, &cursor, &depth, text.data(), text.size()))
      out.push_back(std::string(2 * depth, ' ') + text.c_str());
    return out;
  }

  const ingot_archive_t *archive_;
  uint32_t v_, f_;
  ingot_function_info_t info_;
};

ordered_json read_kernels(const Archive &archive, uint32_t variant, uint32_t count, bool code) {
  ordered_json out = ordered_json::array();
  for (uint32_t k = 0; k < count; ++k) {
    ingot_kernel_info_t kernel;
    if (ingot_archive_kernel(archive.get(), variant, k, &kernel) != INGOT_OK) continue;
    ordered_json item = {{"name", kernel.name}, {"params", kernel.param_count}};
    item["bindings"] = ordered_json::array();
    static constexpr const char *kAccess[] = {"?", "read", "write", "read_write"};
    for (uint32_t b = 0; b < kernel.binding_count; ++b)
      item["bindings"].push_back(kAccess[kernel.binding_access[b] & 3]);
    item["versions"] = ordered_json::array();
    for (uint32_t n = 0; n < kernel.version_count; ++n) {
      ingot_version_info_t version;
      if (ingot_archive_kernel_version(archive.get(), variant, k, n, &version) != INGOT_OK) continue;
      item["versions"].push_back({{"entry", version.entry},
                                  {"format", version.format},
                                  {"rank", version.rank},
                                  {"feature_mask", format("0x%llx", (unsigned long long)version.feature_mask)},
                                  {"code_bytes", version.code_size},
                                  {"stack_bytes", version.stack_bytes},
                                  {"scratch_bytes", version.scratch_bytes},
                                  {"schedule", version.schedule}});
      if (code) item["versions"].back()["code"] = disassemble(archive, variant, k, n);
    }
    out.push_back(std::move(item));
  }
  return out;
}

// Byte ranges of segments that one variant uses, without overlaps.
class Ranges {
 public:
  void add(uint32_t segment, uint64_t begin, uint64_t size) {
    if (size) all_.push_back({segment, begin, begin + size});
  }
  void settle() {
    std::sort(all_.begin(), all_.end());
    std::vector<Range> merged;
    for (const Range &r : all_)
      if (!merged.empty() && merged.back().segment == r.segment && r.begin <= merged.back().end)
        merged.back().end = std::max(merged.back().end, r.end);
      else
        merged.push_back(r);
    all_ = std::move(merged);
  }
  uint64_t bytes() const {
    uint64_t sum = 0;
    for (const Range &r : all_) sum += r.end - r.begin;
    return sum;
  }
  void merge(const Ranges &other) {
    all_.insert(all_.end(), other.all_.begin(), other.all_.end());
    settle();
  }

 private:
  struct Range {
    uint32_t segment;
    uint64_t begin, end;
    bool operator<(const Range &o) const { return segment != o.segment ? segment < o.segment : begin < o.begin; }
  };
  std::vector<Range> all_;
};

// What a target costs in the file: its code, and the constants that its slots name.
struct VariantBytes {
  Ranges code, constants;
};

VariantBytes bytes_of(const Archive &archive, uint32_t v, const ingot_variant_info_t &variant) {
  VariantBytes out;
  for (uint32_t k = 0; k < variant.kernel_count; ++k) {
    ingot_kernel_info_t kernel;
    if (ingot_archive_kernel(archive.get(), v, k, &kernel) != INGOT_OK) continue;
    for (uint32_t n = 0; n < kernel.version_count; ++n) {
      ingot_version_info_t version;
      ingot_segment_info_t segment;
      if (ingot_archive_kernel_version(archive.get(), v, k, n, &version) == INGOT_OK &&
          ingot_archive_segment(archive.get(), version.code_segment, &segment) == INGOT_OK)
        out.code.add(version.code_segment, 0, segment.size);
    }
  }
  for (uint32_t f = 0; f <= variant.function_count; ++f) { // the last: what a session runs once
    ingot_function_info_t function;
    if (ingot_archive_function(archive.get(), v, f, &function) != INGOT_OK) continue;
    const std::vector<int64_t> none(function.symbol_count); // a constant's size names no symbol
    for (uint32_t s = 0; s < function.slot_count; ++s) {
      ingot_slot_info_t slot;
      int64_t size = 0;
      if (ingot_archive_slot(archive.get(), v, f, s, &slot) == INGOT_OK && std::string(slot.kind) == "constant" &&
          ingot_archive_evaluate(archive.get(), v, f, slot.size, none.data(), function.symbol_count, &size, nullptr) == INGOT_OK)
        out.constants.add(slot.of, slot.segment_offset, uint64_t(size));
    }
  }
  out.code.settle();
  out.constants.settle();
  return out;
}

ordered_json read_archive(const std::string &path, const Archive &archive, bool commands, bool code) {
  ingot_archive_info_t info;
  ingot_archive_info(archive.get(), &info);
  ordered_json out;
  out["archive"] = path;
  out["format_version"] = info.format_version;
  out["file_bytes"] = info.file_size;
  out["metadata_bytes"] = info.metadata_size;
  out["metadata_xxh3"] = hex64(info.metadata_xxh3);
  out["required_features"] = info.required_features;
  std::string sha;
  for (uint8_t byte : info.source_sha256) sha += format("%02x", byte);
  out["provenance"] = {
      {"compiler", info.compiler}, {"flags", info.flags}, {"source", info.source_name}, {"source_sha256", sha}};
  out["segments"] = ordered_json::array();
  for (uint32_t s = 0; s < info.segment_count; ++s) {
    ingot_segment_info_t segment;
    if (ingot_archive_segment(archive.get(), s, &segment) != INGOT_OK) continue;
    out["segments"].push_back({{"name", segment.name},
                               {"kind", segment.kind},
                               {"offset", segment.offset},
                               {"bytes", segment.size},
                               {"alignment", segment.alignment},
                               {"xxh3", hex64(segment.xxh3)}});
  }
  uint32_t first_count = 0;
  Ranges earlier; // constants of the variants before
  out["variants"] = ordered_json::array();
  for (uint32_t v = 0; v < info.variant_count; ++v) {
    ingot_variant_info_t variant;
    if (ingot_archive_variant(archive.get(), v, &variant) != INGOT_OK) continue;
    if (v == 0) first_count = variant.kernel_count;
    ordered_json item = {{"target", variant.target},
                         {"arch", variant.arch},
                         {"io_alignment", variant.io_alignment},
                         {"executables", variant.executable_count},
                         {"kernel_count", variant.kernel_count}};
    const VariantBytes bytes = bytes_of(archive, v, variant);
    const uint64_t before = earlier.bytes();
    earlier.merge(bytes.constants);
    item["code_bytes"] = bytes.code.bytes();
    item["constant_bytes"] = bytes.constants.bytes();
    item["constant_bytes_of_earlier_variants"] = before + bytes.constants.bytes() - earlier.bytes();
    item["functions"] = ordered_json::array();
    for (uint32_t f = 0; f < variant.function_count; ++f)
      item["functions"].push_back(FunctionReader(archive, v, f).read(commands));
    ingot_function_info_t prepare;
    if (ingot_archive_function(archive.get(), v, variant.function_count, &prepare) == INGOT_OK)
      item["prepare"] = FunctionReader(archive, v, variant.function_count).read(commands);
    item["kernels"] = read_kernels(archive, v, variant.kernel_count, code);
    out["variants"].push_back(std::move(item));
  }
  out["kernel_count"] = first_count; // of the first variant
  return out;
}

std::string text_of(const ordered_json &value) {
  return value.is_string() ? value.get<std::string>() : value.is_null() ? "depends on data" : value.dump();
}

void print_function(const ordered_json &f, const char *what = "function") {
  std::printf("  %s %s\n", what, f["name"].get<std::string>().c_str());
  for (const char *kind : {"inputs", "outputs"})
    for (const ordered_json &t : f[kind]) {
      std::string dims, names;
      for (const ordered_json &d : t["dims"]) dims += text_of(d) + " x ";
      for (const ordered_json &n : t["dim_names"])
        if (!n.get<std::string>().empty()) names += (names.empty() ? "  (" : ", ") + n.get<std::string>();
      if (!names.empty()) names += ")";
      std::printf("    %-7s %s: %s%s%s\n", std::string(kind).substr(0, std::string(kind).size() - 1).c_str(),
                  t["name"].get<std::string>().c_str(), dims.c_str(), t["type"].get<std::string>().c_str(),
                  names.c_str());
    }
  for (const ordered_json &s : f["symbols"])
    std::printf("    dim     %s: %s .. %s, bound by %s\n", s["name"].get<std::string>().c_str(),
                text_of(s["min"]).c_str(), text_of(s["max"]).c_str(), s["bound_by"].get<std::string>().c_str());
  const ordered_json &m = f["memory"], &c = f["counts"];
  std::printf("    memory  peak of transients = %s bytes", m["peak"].get<std::string>().c_str());
  if (!f["symbols"].empty())
    std::printf(": %s at minimum dims, %s at maximum", text_of(m["peak_at_minimum"]).c_str(),
                text_of(m["peak_at_maximum"]).c_str());
  std::printf("\n");
  for (const auto &[kind, slots] : m["slots"].items())
    std::printf("            %s %s slots: %s bytes%s\n", text_of(slots["slots"]).c_str(), kind.c_str(),
                text_of(slots["bytes_at_minimum"]).c_str(),
                slots["bytes_at_minimum"] == slots["bytes_at_maximum"]
                    ? ""
                    : (" to " + text_of(slots["bytes_at_maximum"])).c_str());
  std::printf(
      "    counts  %s dispatches, %s copies, %s fills, %s checks in %s submissions; %s host decisions, "
      "%s device-to-host crossings\n",
      text_of(c["dispatches"]).c_str(), text_of(c["copies"]).c_str(), text_of(c["fills"]).c_str(),
      text_of(c["checks"]).c_str(), text_of(c["submissions"]).c_str(), text_of(c["host_decisions"]).c_str(),
      text_of(c["device_to_host_crossings"]).c_str());
  if (f.contains("commands"))
    for (const ordered_json &line : f["commands"]) std::printf("      %s\n", line.get<std::string>().c_str());
}

void print(const ordered_json &r) {
  std::printf("%s: %s bytes, format %s, metadata %s bytes (xxh3 %s)\n", text_of(r["archive"]).c_str(),
              text_of(r["file_bytes"]).c_str(), text_of(r["format_version"]).c_str(),
              text_of(r["metadata_bytes"]).c_str(), text_of(r["metadata_xxh3"]).c_str());
  const ordered_json &p = r["provenance"];
  std::printf("made by %s from %s (sha256 %s), flags: %s\n", text_of(p["compiler"]).c_str(),
              text_of(p["source"]).c_str(), text_of(p["source_sha256"]).c_str(), text_of(p["flags"]).c_str());
  for (const ordered_json &s : r["segments"])
    std::printf("segment %s: %s, %s bytes at %s, aligned to %s, xxh3 %s\n", text_of(s["name"]).c_str(),
                text_of(s["kind"]).c_str(), text_of(s["bytes"]).c_str(), text_of(s["offset"]).c_str(),
                text_of(s["alignment"]).c_str(), text_of(s["xxh3"]).c_str());
  for (const ordered_json &v : r["variants"]) {
    std::printf("variant %s%s: %s kernels in %s executables, I/O aligned to %s\n", text_of(v["target"]).c_str(),
                v["arch"].get<std::string>().empty() ? "" : (" " + text_of(v["arch"])).c_str(),
                text_of(v["kernel_count"]).c_str(), text_of(v["executables"]).c_str(),
                text_of(v["io_alignment"]).c_str());
    std::printf("  bytes   %s of code, %s of constants, of which %s are shared with variants before\n",
                text_of(v["code_bytes"]).c_str(), text_of(v["constant_bytes"]).c_str(),
                text_of(v["constant_bytes_of_earlier_variants"]).c_str());
    if (v.contains("prepare")) print_function(v["prepare"], "once, when a session is made:");
    for (const ordered_json &f : v["functions"]) print_function(f);
    for (const ordered_json &k : v["kernels"]) {
      std::printf("  kernel %s: %zu bindings, %s params\n", text_of(k["name"]).c_str(), k["bindings"].size(),
                  text_of(k["params"]).c_str());
      for (const ordered_json &n : k["versions"]) {
        std::printf("    %s: %s, rank %s, features %s, %s bytes of code, %s of stack, %s of scratch %s\n",
                    text_of(n["entry"]).c_str(), text_of(n["format"]).c_str(), text_of(n["rank"]).c_str(),
                    text_of(n["feature_mask"]).c_str(), text_of(n["code_bytes"]).c_str(),
                    text_of(n["stack_bytes"]).c_str(), text_of(n["scratch_bytes"]).c_str(),
                    text_of(n["schedule"]).c_str());
        if (n.contains("code"))
          for (const ordered_json &line : n["code"]) std::printf("      %s\n", line.get<std::string>().c_str());
      }
    }
  }
}

} // namespace

int inspect_command(const std::string &path, bool json, bool commands, bool code) {
  const Archive archive = open_archive(path);
  const ordered_json report = read_archive(path, archive, commands, code);
  if (json)
    std::printf("%s\n", report.dump(2, ' ', false, ordered_json::error_handler_t::replace).c_str());
  else
    print(report);
  return 0;
}

} // namespace ingot::tool
