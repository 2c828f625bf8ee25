// `ingot verify-numerics`: which node of a model goes wrong on this device, and by how much.
//
// Node by node: aotc compiles the model a second time so that what every node computes is an output (`aotc --probe`); that
// archive runs here, and each value is compared with the reference's. As it ships: an archive that is given runs with
// the tensors that it keeps between its kernels made visible (expose.h), so that a fault which only a fused kernel
// has is found in that kernel.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "schemas/program_words.h"
#include "tools/ingot/commands.h"
#include "tools/ingot/expose.h"
#include "tools/ingot/model.h"
#include "tools/ingot/npy.h"
#include "tools/ingot/onnxruntime.h"
#include "tools/ingot/scratch.h"

namespace ingot::tool {

namespace {

using nlohmann::ordered_json;
namespace fs = std::filesystem;

struct Node {
  std::string name, op;
  std::vector<std::string> inputs, outputs;
};

// One tensor beside its reference.
struct Comparison {
  enum Verdict { kAgrees, kDisagrees, kNotCompared } verdict = kNotCompared;
  std::string tensor;
  TensorType type;
  Difference difference;
  std::string detail; // where the tensors differ, or why they are not compared

  std::string kernel; // as shipped: who wrote it; node by node: empty
  std::vector<std::string> nodes;
  std::string op;
};

// ---- compiling

std::string find_aotc(const std::string &given) {
  if (!given.empty()) return given;
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  const fs::path beside = self.parent_path() / "aotc";
  if (!error && access(beside.c_str(), X_OK) == 0) return beside.string();
  return "aotc";
}

void run_aotc(const std::vector<std::string> &command, const std::string &folder, const std::string &what) {
  const ProgramResult result = run_program(command, folder);
  if (!result.found)
    misuse(command[0] + " cannot be started: " + result.output +
           "; verify-numerics compiles the model itself: install aotc beside ingot or in PATH, or name it by --aotc=PROGRAM");
  if (result.status != 0) misuse(what + ":\n" + result.output);
}

// The flags of an archive's own compilation that decide what is compiled. A word without dashes belongs to the one before.
std::vector<std::string> flags_of(const std::string &recorded) {
  std::vector<std::string> all, out;
  std::istringstream words(recorded);
  for (std::string word; words >> word;)
    if (word[0] == '-' || all.empty())
      all.push_back(word);
    else
      all.back() += " " + word;
  for (const std::string &flag : all)
    for (const char *kept : {"--target=", "--input-shape=", "-O"})
      if (flag.rfind(kept, 0) == 0) out.push_back(flag);
  return out;
}

ingot_archive_info_t info_of(const Archive &archive) {
  ingot_archive_info_t info{};
  ingot_archive_info(archive.get(), &info);
  return info;
}

struct Compiler {
  std::string aotc, folder;
  std::vector<std::string> flags; // model, entry, shapes, targets

  Compiler(const VerifyNumericsOptions &options, const Archive *archive, const std::string &folder)
      : aotc(find_aotc(options.aotc)), folder(folder) {
    flags = {options.model, "--progress=off", "--entry=" + options.function};
    if (archive)
      for (const std::string &flag : flags_of(info_of(*archive).flags))
        if (options.targets.empty() || flag.rfind("--target=", 0) != 0) flags.push_back(flag);
    for (const std::string &target : options.targets) flags.push_back("--target=" + target);
    for (const std::string &shape : options.input_shapes) flags.push_back("--input-shape=" + shape);
  }

  // Each node's outputs as outputs: the archive, and the nodes in the order of the model.
  Archive probe(std::vector<Node> *nodes, std::set<std::string> *own_outputs) const {
    const std::string list = folder + "/nodes.json", path = folder + "/probe.ingot";
    call({"--probe=" + list, "-o", path}, "aotc does not compile the model");
    const Bytes text = read_file(list);
    const auto listed = nlohmann::json::parse(text.data(), text.data() + text.size());
    *own_outputs = listed.at("outputs");
    for (const auto &item : listed.at("nodes"))
      nodes->push_back({item.at("node"), item.at("op"), item.at("inputs"), item.at("outputs")});
    return open_archive(path);
  }

  // For the inputs in folder/inputs.
  NamedTensors reference() const {
    call({"--probe=" + folder + "/nodes.json", "--emit=reference", "--inputs=" + folder + "/inputs", "-o", folder + "/reference"},
         "the reference interpreter does not run the model");
    return read_tensor_folder(folder + "/reference");
  }

 private:
  void call(const std::vector<std::string> &more, const char *failure) const {
    std::vector<std::string> command = {aotc};
    command.insert(command.end(), flags.begin(), flags.end());
    command.insert(command.end(), more.begin(), more.end());
    run_aotc(command, folder, failure);
  }
};

// ---- running and comparing

struct Ran {
  std::string device;
  uint32_t variant = 0;
  std::string target;
  std::vector<HostTensor> outputs;
};

Ran run_archive(const Archive &archive, const std::string &where, const VerifyNumericsOptions &options,
                const std::vector<HostTensor> &inputs) {
  const uint32_t function = find_function(archive, where, options.function);
  const Instance instance;
  const Device device = open_device(instance, archive, options.device);
  auto session = device.prepare(archive);
  if (!session) check(session.status(), where);
  const std::vector<Tensor> views = views_of(inputs);
  Outputs outputs = make_outputs(*session, function, inputs_of(archive, function), inputs, outputs_of(archive, function).size());
  check(session->run({views.data(), views.size()}, {outputs.views.data(), outputs.views.size()}, function), where);
  outputs.take_dims();
  Ran ran{device.uri(), ingot_session_variant(session->get()), "", std::move(outputs.tensors)};
  ingot_variant_info_t variant{};
  if (ingot_archive_variant(archive.get(), ran.variant, &variant) == INGOT_OK) ran.target = variant.target;
  return ran;
}

// Distance from 1 to the next number of the type; 0 for what is no float.
double epsilon_of(ElementType type) {
  switch (type) {
    case INGOT_ELEMENT_TYPE_F16: return 0x1p-10;
    case INGOT_ELEMENT_TYPE_BF16: return 0x1p-7;
    case INGOT_ELEMENT_TYPE_F32: return 0x1p-23;
    case INGOT_ELEMENT_TYPE_F64: return 0x1p-52;
    default: return 0;
  }
}

// What the user asked for, or *agrees* (|a-r| <= 1e-3 |r| + 1e-4 max|r|), widened to a few units of coarser types.
Tolerance tolerance_for(const Tolerance &given, ElementType type) {
  Tolerance used = given;
  used.integers = given.relative || given.absolute;
  if (used.integers || given.ulp) return used;
  used.relative = std::max(1e-3, 4 * epsilon_of(type));
  used.of_peak = std::max(1e-4, epsilon_of(type));
  return used;
}

void compare_into(Comparison &c, const HostTensor &actual, const HostTensor &reference, const Tolerance &tolerance) {
  c.type = reference.type;
  if (!(actual.type == reference.type)) {
    c.verdict = Comparison::kDisagrees;
    c.difference.error = HUGE_VAL;
    c.detail = "it is " + to_text(actual.type) + ", the reference " + to_text(reference.type);
    return;
  }
  c.difference = compare(actual, reference, tolerance_for(tolerance, reference.type.type));
  const Difference &d = c.difference;
  c.verdict = d.wrong ? Comparison::kDisagrees : Comparison::kAgrees;
  if (d.at < 0) return;
  c.detail = format("at %s: %s, the reference %s", position(c.type, d.at).c_str(), element_text(actual, d.at).c_str(),
                    element_text(reference, d.at).c_str());
}

using Values = std::map<std::string, const HostTensor *>;

std::vector<Comparison> compare_nodes(const std::vector<Node> &nodes, const Values &actual, const Values &reference,
                                      const Tolerance &tolerance) {
  std::vector<Comparison> out;
  for (const Node &node : nodes)
    for (const std::string &name : node.outputs) {
      Comparison c;
      c.tensor = name;
      c.nodes = {node.name};
      c.op = node.op;
      const auto a = actual.find(name), r = reference.find(name);
      if (a == actual.end()) continue;
      c.type = a->second->type;
      if (r == reference.end())
        c.detail = "the reference gives no such tensor";
      else
        compare_into(c, *a->second, *r->second, tolerance);
      out.push_back(std::move(c));
    }
  return out;
}

// [n, c/16, spatial..., 16] in bytes -> [n, c, spatial...] as `type` says.
HostTensor out_of_blocks(const HostTensor &blocked, const TensorType &type) {
  HostTensor out = make_tensor(type);
  const size_t width = ingot_element_type_bits(type.type) / 8;
  int64_t spatial = 1;
  for (size_t d = 2; d < type.dims.size(); ++d) spatial *= type.dims[d];
  const int64_t channels = type.dims[1], block = program::kChannelBlock;
  for (int64_t n = 0; n < type.dims[0]; ++n)
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t s = 0; s < spatial; ++s) {
        const int64_t from = ((n * (channels / block) + c / block) * spatial + s) * block + c % block;
        std::memcpy(out.bytes.data() + size_t((n * channels + c) * spatial + s) * width, blocked.bytes.data() + size_t(from) * width, width);
      }
  return out;
}

// A tensor of bytes as its reference's type says it is; nothing where it cannot be.
std::optional<HostTensor> typed(const HostTensor &raw, const TensorType &type, bool blocked) {
  if (raw.type.dims[0] != int64_t(byte_size(type))) return std::nullopt;
  if (blocked) {
    if (type.dims.size() < 3 || type.dims[1] % program::kChannelBlock) return std::nullopt;
    return out_of_blocks(raw, type);
  }
  HostTensor out = make_tensor(type);
  std::memcpy(out.bytes.data(), raw.bytes.data(), byte_size(type));
  return out;
}

std::vector<Comparison> compare_shipped(const VerifyNumericsOptions &options, const Archive &archive,
                                        const std::vector<HostTensor> &inputs, const Values &reference) {
  const Ran plain = run_archive(archive, options.archive, options, inputs);
  const uint32_t function = find_function(archive, options.archive, options.function);
  const Exposed exposed = expose(read_file(options.archive), plain.variant, function);
  auto opened = Archive::open(exposed.archive.data(), exposed.archive.size(), true);
  if (!opened) throw Failure(kInternal, std::string("the archive with its tensors exposed: ") + opened.message());
  const Ran ran = run_archive(*opened, options.archive, options, inputs);
  std::vector<Comparison> out;
  for (const ExposedTensor &tensor : exposed.tensors) {
    const size_t suffix = std::strlen(program::kBlockedSuffix);
    const bool blocked = tensor.name.size() > suffix &&
                         tensor.name.compare(tensor.name.size() - suffix, suffix, program::kBlockedSuffix) == 0;
    const auto r = reference.find(blocked ? tensor.name.substr(0, tensor.name.size() - suffix) : tensor.name);
    const HostTensor &actual = ran.outputs[tensor.output];
    const bool own = tensor.output < plain.outputs.size();
    if (r == reference.end()) continue;
    std::optional<HostTensor> raw;
    if (!own && !(raw = typed(actual, r->second->type, blocked))) continue;
    Comparison c;
    c.tensor = r->first;
    c.kernel = tensor.kernel;
    c.nodes = tensor.nodes;
    // An output is taken from the run of the archive as it is.
    compare_into(c, own ? plain.outputs[tensor.output] : *raw, *r->second, options.tolerance);
    out.push_back(std::move(c));
  }
  return out;
}

// ---- reports

std::string number(double value) { return std::isfinite(value) ? format("%.3g", value) : "infinite"; }

std::string error_text(const Comparison &c) {
  const Difference &d = c.difference;
  std::string out = "max error " + number(d.error);
  if (d.peak > 0 && std::isfinite(d.error)) out += format(" (%.2g of the tensor's scale, %.3g)", d.error / d.peak, d.peak);
  if (d.ulp) out += format(", %llu ULP", (unsigned long long)*d.ulp);
  return out;
}

const char *verdict_text(const Comparison &c) {
  static constexpr const char *kTexts[] = {"agrees", "DISAGREES", "not compared"};
  return kTexts[c.verdict];
}

std::string quoted(const std::vector<std::string> &names) {
  std::string out;
  for (const std::string &name : names) out += (out.empty() ? "'" : ", '") + name + "'";
  return out;
}

const Comparison *first_wrong(const std::vector<Comparison> &list) {
  for (const Comparison &c : list)
    if (c.verdict == Comparison::kDisagrees) return &c;
  return nullptr;
}

size_t count_of(const std::vector<Comparison> &list, Comparison::Verdict verdict) {
  return size_t(std::count_if(list.begin(), list.end(), [&](const Comparison &c) { return c.verdict == verdict; }));
}

double share(const Comparison &c) {
  const Difference &d = c.difference;
  return d.error == 0 ? 0 : d.peak > 0 ? d.error / d.peak : std::numeric_limits<double>::max();
}

struct Report {
  const VerifyNumericsOptions &options;
  Ran ran;
  std::string reference;
  std::vector<std::string> inputs; // of the function
  std::vector<Node> nodes;
  std::vector<Comparison> by_node, shipped;

  bool agrees() const { return !first_wrong(by_node) && !first_wrong(shipped); }

  // Were the inputs of a node that went wrong still right?
  std::string state_of(const std::string &input) const {
    if (std::find(inputs.begin(), inputs.end(), input) != inputs.end()) return "given";
    for (const Comparison &c : by_node)
      if (c.tensor == input) return std::string(verdict_text(c)) + (c.verdict == Comparison::kNotCompared ? "" : ", " + error_text(c));
    return "constant";
  }

  void print_table() const {
    std::printf("%-12s %10s %10s %12s  %s\n", "", "max error", "of scale", "ULP", "tensor, type, node (operator)");
    for (const Comparison &c : by_node) {
      const Difference &d = c.difference;
      const bool compared = c.verdict != Comparison::kNotCompared;
      std::printf("%-12s %10s %10s %12s  %s %s, '%s' (%s)\n", verdict_text(c), compared ? number(d.error).c_str() : "-",
                  compared && d.peak > 0 ? number(d.error / d.peak).c_str() : "-",
                  d.ulp && compared ? std::to_string(*d.ulp).c_str() : "-", c.tensor.c_str(), to_text(c.type).c_str(),
                  c.nodes[0].c_str(), c.op.c_str());
    }
  }

  void print_wrong(const Comparison &c) const {
    const Difference &d = c.difference;
    std::printf("  tensor '%s', %s: %s\n", c.tensor.c_str(), to_text(c.type).c_str(), error_text(c).c_str());
    std::printf("  %s\n", c.detail.c_str());
    if (d.wrong) std::printf("  %lld of %lld elements are outside the tolerance\n", (long long)d.wrong, (long long)d.count);
  }

  void print_nodes() const {
    const size_t wrong = count_of(by_node, Comparison::kDisagrees), skipped = count_of(by_node, Comparison::kNotCompared);
    std::printf("%s node by node on %s, target %s, beside %s: %zu tensors of %zu nodes\n", options.model.c_str(),
                ran.device.c_str(), ran.target.c_str(), reference.c_str(), by_node.size() - skipped, nodes.size());
    if (options.all) print_table();
    if (skipped) std::printf("%zu tensors are not compared: the reference does not give them\n", skipped);
    const Comparison *first = first_wrong(by_node);
    if (!first) {
      std::printf("all agree");
      const auto worst = std::max_element(by_node.begin(), by_node.end(), [](const Comparison &a, const Comparison &b) { return share(a) < share(b); });
      if (worst != by_node.end() && share(*worst) > 0)
        std::printf("; furthest off is node '%s' (%s): %s", worst->nodes[0].c_str(), worst->op.c_str(), error_text(*worst).c_str());
      std::printf("\n");
      return;
    }
    std::printf("first to disagree: node '%s' (%s)\n", first->nodes[0].c_str(), first->op.c_str());
    print_wrong(*first);
    std::set<std::string> shown;
    for (const Node &node : nodes)
      if (std::find(node.outputs.begin(), node.outputs.end(), first->tensor) != node.outputs.end())
        for (const std::string &input : node.inputs)
          if (shown.insert(input).second) std::printf("  its input '%s': %s\n", input.c_str(), state_of(input).c_str());
    std::printf("%zu tensors before it agree; %zu after it disagree, too\n", size_t(first - by_node.data()), wrong - 1);
  }

  void print_shipped() const {
    const Comparison *first = first_wrong(shipped);
    std::printf("%s as it is: ", options.archive.c_str());
    if (!first) {
      std::printf("%zu tensors that its kernels write agree\n", shipped.size());
      return;
    }
    if (first->kernel.empty())
      std::printf("first to disagree: tensor '%s'\n", first->tensor.c_str());
    else
      std::printf("first to disagree: kernel '%s' of node%s %s\n", first->kernel.c_str(), first->nodes.size() == 1 ? "" : "s",
                  quoted(first->nodes).c_str());
    print_wrong(*first);
    std::printf("%zu tensors before it agree; %zu after it disagree, too\n", size_t(first - shipped.data()),
                count_of(shipped, Comparison::kDisagrees) - 1);
    if (!first_wrong(by_node))
      std::printf("compiled node by node the model agrees: the fault is in that kernel, or in this file\n");
  }

  ordered_json json_of(const Comparison &c) const {
    const Difference &d = c.difference;
    ordered_json out = {{"nodes", c.nodes}};
    if (!c.op.empty()) out["op"] = c.op;
    if (!c.kernel.empty()) out["kernel"] = c.kernel;
    out["tensor"] = c.tensor;
    out["type"] = to_text(c.type);
    out["verdict"] = c.verdict == Comparison::kAgrees ? "agrees" : c.verdict == Comparison::kDisagrees ? "disagrees" : "not compared";
    if (c.verdict == Comparison::kNotCompared) return out;
    out["max_error"] = std::isfinite(d.error) ? ordered_json(d.error) : ordered_json("infinite");
    out["scale"] = d.peak;
    out["ulp"] = d.ulp ? ordered_json(*d.ulp) : ordered_json(nullptr);
    out["elements"] = d.count;
    out["outside"] = d.wrong;
    if (!d.degenerate.empty()) out["reference_is"] = d.degenerate;
    if (!c.detail.empty()) out["detail"] = c.detail;
    return out;
  }

  ordered_json json_of(const std::vector<Comparison> &list) const {
    ordered_json out = ordered_json::array();
    for (const Comparison &c : list) out.push_back(json_of(c));
    return out;
  }

  void print_json() const {
    ordered_json out = {{"model", options.model}, {"device", ran.device}, {"target", ran.target},
                        {"reference", reference}, {"agrees", agrees()}};
    const Comparison *first = first_wrong(by_node);
    out["first"] = first ? json_of(*first) : ordered_json(nullptr);
    out["tensors"] = json_of(by_node);
    if (!options.archive.empty()) {
      first = first_wrong(shipped);
      out["archive"] = {{"file", options.archive}, {"first", first ? json_of(*first) : ordered_json(nullptr)}, {"tensors", json_of(shipped)}};
    }
    std::printf("%s\n", out.dump(2, ' ', false, ordered_json::error_handler_t::replace).c_str());
  }
};

void check_same_source(const Archive &archive, const Archive &probe, const VerifyNumericsOptions &options) {
  const ingot_archive_info_t a = info_of(archive), p = info_of(probe);
  if (std::memcmp(a.source_sha256, p.source_sha256, sizeof a.source_sha256) != 0)
    misuse(options.archive + " was compiled from another model than " + options.model + " (" + a.source_name +
           "; its SHA-256 differs)");
}

Values by_name(const std::vector<Signature> &names, const std::vector<HostTensor> &tensors) {
  Values out;
  for (size_t i = 0; i < tensors.size(); ++i) out[names[i].name] = &tensors[i];
  return out;
}

Report verify(const VerifyNumericsOptions &options, const std::string &folder) {
  Report report{options, {}, options.reference, {}, {}, {}, {}};
  std::optional<Archive> archive;
  if (!options.archive.empty()) archive.emplace(open_archive(options.archive));
  const Compiler compiler(options, archive ? &*archive : nullptr, folder);
  std::set<std::string> own_outputs;
  const Archive probe = compiler.probe(&report.nodes, &own_outputs);
  if (archive) check_same_source(*archive, probe, options);
  const uint32_t function = find_function(probe, options.model, options.function);
  const std::vector<Signature> in = inputs_of(probe, function), out = outputs_of(probe, function);
  const std::vector<HostTensor> inputs = make_inputs(options.inputs, in, true, options.seed);
  report.ran = run_archive(probe, options.model, options, inputs);
  for (const Signature &input : in) report.inputs.push_back(input.name);
  write_tensor_folder(folder + "/inputs", in, inputs);
  NamedTensors values;
  if (options.reference == "interpreter") {
    values = compiler.reference();
  } else {
    std::vector<std::string> names, hidden;
    for (const Signature &output : out) {
      names.push_back(output.name);
      if (!own_outputs.count(output.name)) hidden.push_back(output.name);
    }
    OnnxRuntimeResult result = run_onnxruntime(options.python, options.model, names, hidden, folder);
    report.reference += " " + result.version;
    values = std::move(result.values);
  }
  Values reference;
  for (const auto &[name, tensor] : values) reference[name] = &tensor;
  report.by_node = compare_nodes(report.nodes, by_name(out, report.ran.outputs), reference, options.tolerance);
  if (archive) report.shipped = compare_shipped(options, *archive, inputs, reference);
  return report;
}

} // namespace

int verify_numerics_command(const VerifyNumericsOptions &options) {
  for (const std::string &file : {options.model, options.archive})
    if (!file.empty() && !fs::is_regular_file(file)) misuse(file + ": no such file");
  const std::string folder = enter_scratch_folder();
  const Report report = [&] {
    try {
      return verify(options, folder);
    } catch (const Failure &failure) {
      if (failure.status != kFailed) throw;
      misuse(failure.what()); // 1 means that something disagrees
    }
  }();
  if (options.json) {
    report.print_json();
  } else {
    report.print_nodes();
    if (!options.archive.empty()) report.print_shipped();
  }
  return report.agrees() ? 0 : kFailed;
}

} // namespace ingot::tool
