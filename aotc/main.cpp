// aotc: the command line. Flags to options, diagnostics to text, stages to a progress line; see docs/architecture.md.
//
// Exit status: 0 done; 1 the model cannot be compiled, every reason is listed; 2 wrong usage; 3 an internal error.
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "aotc/base/error.h"
#include "aotc/driver/compile.h"
#include "aotc/driver/tensor_folder.h"
#include "aotc/import/onnx/import.h"

namespace {

using namespace ingot::aotc;

constexpr int kDone = 0, kCannotCompile = 1, kUsage = 2, kInternal = 3;

// Writes to a temporary name in the same folder, then renames, with the signals that would end us held back: either the
// whole file is there or nothing is.
bool write_file(const std::string &path, const std::vector<uint8_t> &bytes, std::string &error) {
  if (path == "-") {
    if (std::fwrite(bytes.data(), 1, bytes.size(), stdout) != bytes.size() || std::fflush(stdout) != 0) {
      error = std::string("cannot write to the standard output: ") + std::strerror(errno);
      return false;
    }
    return true;
  }
  sigset_t held, before;
  sigemptyset(&held);
  for (int s : {SIGINT, SIGTERM, SIGHUP})
    sigaddset(&held, s);
  sigprocmask(SIG_BLOCK, &held, &before);
  std::string temporary = path + ".XXXXXX";
  int fd = mkstemp(temporary.data());
  bool ok = fd >= 0;
  if (ok) {
    size_t at = 0;
    while (ok && at < bytes.size()) {
      ssize_t n = ::write(fd, bytes.data() + at, bytes.size() - at);
      if (n < 0 && errno == EINTR)
        continue;
      ok = n > 0;
      at += ok ? static_cast<size_t>(n) : 0;
    }
    mode_t mask = umask(0);
    umask(mask);
    ok = ok && fchmod(fd, 0666 & ~mask) == 0;
    int saved = errno;
    ok = ::close(fd) == 0 && ok;
    ok = ok && std::rename(temporary.c_str(), path.c_str()) == 0;
    if (!ok) {
      saved = errno ? errno : saved;
      ::unlink(temporary.c_str());
      errno = saved;
    }
  }
  if (!ok)
    error = "cannot write '" + path + "': " + std::strerror(errno) + "; nothing was written";
  sigprocmask(SIG_SETMASK, &before, nullptr);
  return ok;
}

class ProgressPrinter {
 public:
  enum class Mode { kLine, kJson, kOff };
  explicit ProgressPrinter(Mode mode) : mode_(mode), start_(std::chrono::steady_clock::now()) {}

  void operator()(const Progress &p) {
    if (mode_ == Mode::kOff)
      return;
    auto now = std::chrono::steady_clock::now();
    if (p.stage != stage_) {
      stage_ = p.stage;
      stage_start_ = now;
    } else if (p.done < p.total && now - last_ < std::chrono::milliseconds(100)) {
      return;
    }
    last_ = now;
    double spent = std::chrono::duration<double>(now - stage_start_).count();
    double left = p.done ? spent / static_cast<double>(p.done) * static_cast<double>(p.total - p.done) : -1;
    if (mode_ == Mode::kJson) {
      nlohmann::json line = {{"stage", p.stage}, {"done", p.done}, {"total", p.total},
                             {"seconds", std::chrono::duration<double>(now - start_).count()}};
      if (left >= 0)
        line["seconds_left_in_stage"] = left;
      std::fprintf(stderr, "%s\n", line.dump().c_str());
    } else {
      std::fprintf(stderr, "\r\033[K%s %zu/%zu", p.stage.c_str(), p.done, p.total);
      if (left >= 0.5)
        std::fprintf(stderr, ", about %.0f s left", left);
      open_ = true;
    }
  }
  void finish() {
    if (open_)
      std::fprintf(stderr, "\r\033[K");
    open_ = false;
  }

 private:
  Mode mode_;
  bool open_ = false;
  std::string stage_;
  std::chrono::steady_clock::time_point start_, stage_start_, last_;
};

// {"outputs": the model's own, "nodes": [{"node", "op", "inputs", "outputs"}] in the order of the model}
std::vector<uint8_t> probe_json(const Probe &probe) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const ProbedNode &n : probe.nodes)
    list.push_back({{"node", n.name}, {"op", n.op}, {"inputs", n.inputs}, {"outputs", n.outputs}});
  const nlohmann::ordered_json all = {{"outputs", probe.outputs}, {"nodes", list}};
  const std::string text = all.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  return {text.begin(), text.end()};
}

int usage(const std::string &message) {
  std::fprintf(stderr, "aotc: %s\n", message.c_str());
  return kUsage;
}

// --check: each target by itself; what several of them cannot run is told once.
int check_targets(const CompileOptions &options, ProgressPrinter &printer) {
  std::set<std::string> told;
  std::vector<std::string> verdicts;
  bool good = true;
  for (const TargetRequest &target : options.targets) {
    CompileOptions one = options;
    one.targets = {target};
    Diagnostics diagnostics;
    const bool supported = compile(one, diagnostics).has_value();
    printer.finish();
    for (const Diagnostic &d : diagnostics.list())
      if (told.insert(to_string(d)).second)
        std::fprintf(stderr, "aotc: error: %s\n", to_string(d).c_str());
    const size_t problems = diagnostics.list().size();
    if (supported)
      std::printf("aotc: %s: every node is supported\n", target.text.c_str());
    else
      verdicts.push_back("aotc: " + target.text + ": " + std::to_string(problems) + (problems == 1 ? " problem" : " problems"));
    good = good && supported;
  }
  for (const std::string &verdict : verdicts)
    std::fprintf(stderr, "%s\n", verdict.c_str());
  return good ? kDone : kCannotCompile;
}

int run(int argc, char **argv) {
  CLI::App app{"Compiles ONNX models ahead of time into an archive that libingot runs."};
  std::vector<std::string> models, entries, targets, shapes, states;
  std::string output, emit = "archive", probe, inputs, dump_dir, ptxas, progress = "auto", precision = "f32";
  unsigned jobs = std::max(1u, std::thread::hardware_concurrency());
  unsigned opt_level = 2;
  bool list = false, operators = false, check = false, version = false;
  app.add_option("MODEL", models, "ONNX models; each may have an --entry, in the same order");
  app.add_option("-o,--output", output, "file to write; '-' is the standard output");
  app.add_option("--target", targets, "TARGET[:DETAIL], may be repeated; default llvm-cpu");
  app.add_option("--input-shape", shapes, "NAME=1x3x48x320 fixes a dynamic input; '?' keeps a dim, '1..64' gives a range");
  app.add_option("--state", states, "INPUT:OUTPUT, with a '*' in both for many: an output that is the input with more behind it, as a "
                                    "key-value cache, grows in place in memory of the context");
  app.add_option("--entry", entries, "name of the function (default: main)");
  app.add_option("--precision", precision, "arithmetic of GPU targets: f32, f16 (in memory; sums stay f32), bf16, relaxed; a target's own: "
                                                "--target=vulkan,precision=f16")
      ->check(CLI::IsMember({"f32", "f16", "bf16", "relaxed"}));
  app.add_option("--emit", emit, "what to write: archive, graph, dispatches, kernels, program, llvm, asm, spirv, msl, wgsl, ptx, reference "
                                 "(what the reference interpreter computes from --inputs, as a folder)")
      ->check(CLI::IsMember({"archive", "graph", "dispatches", "kernels", "program", "llvm", "asm", "spirv", "msl", "wgsl", "ptx", "reference"}));
  app.add_option("--probe", probe, "FILE.json: what every node computes becomes an output too, and the file lists the nodes");
  app.add_option("--inputs", inputs, "for --emit=reference: a folder with tensors.json and tensors.bin");
  app.add_option("--dump-dir", dump_dir, "folder for every stage and every kernel in every form");
  app.add_option("--ptxas", ptxas, "NVIDIA's assembler, a path or a name on PATH: kernels for cuda are there as code of the target's chip too, which loads "
                                   "without being compiled");
  app.add_option("--progress", progress, "auto, json or off")->check(CLI::IsMember({"auto", "json", "off"}));
  app.add_option("--jobs", jobs, "threads; the output does not depend on it")->check(CLI::Range(1u, 256u));
  app.add_option("-O", opt_level, "0 to 3, default 2")->check(CLI::Range(0u, 3u));
  app.add_flag("--check", check, "report every unsupported node and generate nothing");
  app.add_flag("--list-targets", list, "one per line: name, alias, state");
  app.add_flag("--list-operators", operators, "one per line: domain, operator, opsets");
  app.add_flag("--version", version, "print the version");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &e) {
    if (e.get_exit_code() == 0)
      return app.exit(e);
    return usage(std::string(e.what()) + "; `aotc --help` lists the flags");
  }
  if (version) {
    std::printf("aotc %s\n", kCompilerVersion);
    return kDone;
  }
  if (list) {
    for (const TargetState &t : list_targets())
      std::printf("%-14s %-14s %s\n", t.name.c_str(), t.alias.empty() ? "-" : t.alias.c_str(), t.state.c_str());
    return kDone;
  }
  if (operators) {
    for (const std::string &line : list_onnx_operators())
      std::printf("%s\n", line.c_str());
    return kDone;
  }
  if (models.empty())
    return usage("no model is given: aotc MODEL.onnx -o MODEL.ingot");
  CompileOptions options;
  options.input_shapes = shapes;
  options.states = states;
  options.opt_level = opt_level;
  options.jobs = jobs;
  options.check_only = check;
  options.dump_dir = dump_dir;
  options.ptxas = ptxas;
  static constexpr std::pair<const char *, Emit> kEmits[] = {
      {"archive", Emit::kArchive}, {"graph", Emit::kGraph}, {"dispatches", Emit::kDispatches}, {"kernels", Emit::kKernels},
      {"program", Emit::kProgram}, {"llvm", Emit::kLlvm}, {"asm", Emit::kAsm}, {"spirv", Emit::kSpirv}, {"msl", Emit::kMsl}, {"ptx", Emit::kPtx},
      {"wgsl", Emit::kWgsl}, {"reference", Emit::kReference}};
  for (auto [name, value] : kEmits)
    if (emit == name)
      options.emit = value;
  if (output.empty() && !check) {
    if (options.emit == Emit::kArchive)
      return usage("no output is given: add -o MODEL.ingot");
    if (options.emit == Emit::kReference)
      return usage("no output is given: add -o FOLDER");
    output = "-";
  }
  if (entries.size() > models.size() || (models.size() > 1 && entries.size() != models.size()))
    return usage(std::to_string(models.size()) + " models and " + std::to_string(entries.size()) +
                 " --entry names are given: several models need one each");
  for (size_t i = 0; i < models.size(); ++i)
    options.models.push_back({models[i], i < entries.size() ? entries[i] : "main"});
  for (size_t i = 0; i < options.models.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      if (options.models[i].entry == options.models[j].entry)
        return usage("two models have the entry '" + options.models[i].entry + "'");
  if ((!probe.empty() || options.emit == Emit::kReference) && models.size() > 1)
    return usage("--probe and --emit=reference take one model");
  options.probe = !probe.empty();
  if (options.emit == Emit::kReference) {
    std::string problem = "no inputs are given: add --inputs=FOLDER";
    auto tensors = inputs.empty() ? std::nullopt : read_tensor_folder(inputs, &problem);
    if (!tensors)
      return usage(problem);
    options.inputs = std::move(*tensors);
  }
  if (targets.empty())
    targets.push_back("llvm-cpu");
  for (const std::string &text : targets) {
    std::string error;
    auto target = parse_target(text, &error, precision);
    if (!target)
      return usage(error);
    options.targets.push_back(std::move(*target));
  }
  if (!ptxas.empty() && std::none_of(options.targets.begin(), options.targets.end(), [](const TargetRequest &t) { return t.name == "cuda"; }))
    return usage("--ptxas goes with --target=cuda, which is not among the targets");
  ProgressPrinter printer(progress == "json"                          ? ProgressPrinter::Mode::kJson
                          : progress == "auto" && isatty(STDERR_FILENO) ? ProgressPrinter::Mode::kLine
                                                                        : ProgressPrinter::Mode::kOff);
  options.progress = [&](const Progress &p) { printer(p); };
  if (check)
    return check_targets(options, printer);
  Diagnostics diagnostics;
  auto result = compile(options, diagnostics);
  printer.finish();
  if (!result) {
    for (const Diagnostic &d : diagnostics.list())
      std::fprintf(stderr, "aotc: error: %s\n", to_string(d).c_str());
    const size_t problems = diagnostics.list().size();
    std::fprintf(stderr, "aotc: %zu problem%s; nothing was written\n", problems, problems == 1 ? "" : "s");
    return kCannotCompile;
  }
  std::string error;
  if (options.emit == Emit::kReference ? !write_tensor_folder(output, result->reference, &error)
                                       : !write_file(output, result->bytes, error)) {
    std::fprintf(stderr, "aotc: error: %s\n", error.c_str());
    return kCannotCompile;
  }
  if (options.probe && !write_file(probe, probe_json(result->probe), error)) {
    std::fprintf(stderr, "aotc: error: %s\n", error.c_str());
    return kCannotCompile;
  }
  return kDone;
}

} // namespace

int main(int argc, char **argv) {
  try {
    return run(argc, argv);
  } catch (const std::bad_alloc &) {
    std::fprintf(stderr, "aotc: error: out of memory\n");
    return kCannotCompile;
  } catch (const std::exception &e) {
    std::fprintf(stderr, "aotc: internal error: %s\nThis is a bug of aotc. Please report it with the model and the flags; "
                         "--dump-dir=DIR keeps the stages up to the failure.\n", e.what());
    return kInternal;
  }
}
