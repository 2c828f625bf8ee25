// `ingot run`: one run, outputs printed or written, compared with references where asked for. `ingot run-many`:
// many such runs in one process, described by JSON lines, for test runners.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "tools/ingot/commands.h"
#include "tools/ingot/model.h"
#include "tools/ingot/npy.h"
#include "tools/ingot/value_json.h"

namespace ingot::tool {

namespace {

constexpr int64_t kPrinted = 1024; // elements of an output that are shown

void print_output(const Signature &signature, const HostTensor &tensor) {
  const char *name = signature.name.c_str();
  if (tensor.value) {
    std::printf("%s: %s = %s\n", name, to_text(tensor.type).c_str(), value_text(tensor).c_str());
    return;
  }
  std::printf("%s: %s = %s%s\n", name, to_text(tensor.type).c_str(), tensor.type.dims.size() > 1 ? "\n" : "",
              values_text(tensor, kPrinted).c_str());
}

} // namespace

int run_command(const RunOptions &options) {
  const Archive archive = open_archive(options.archive);
  const uint32_t function = find_function(archive, options.archive, options.function);
  const std::vector<Signature> in = inputs_of(archive, function), out = outputs_of(archive, function);
  // Wrong specs are found before anything is run.
  std::vector<NamedSpec> targets;
  if (options.outputs.empty() || (options.outputs.size() == 1 && options.outputs[0] == "-")) {
    if (!options.outputs.empty() || options.expected.empty())
      for (uint32_t i = 0; i < out.size(); ++i) targets.push_back({i, "-"});
  } else {
    targets = resolve_names(options.outputs, out, "output");
  }
  for (const NamedSpec &target : targets)
    if (target.body != "-" && (target.body.size() < 2 || target.body[0] != '@'))
      misuse("'" + target.body + "' is no place for an output; write - or @FILE.npy");
  const std::vector<NamedSpec> references = resolve_names(options.expected, out, "output");
  for (const NamedSpec &reference : references)
    if (reference.body == "-") misuse("'-' is no reference; write @FILE.npy or TYPE=VALUE,...");

  const std::vector<HostTensor> inputs = make_inputs(options.inputs, in, false);
  const Instance instance;
  const Device device = open_device(instance, archive, options.device);
  auto session = device.prepare(archive);
  if (!session) check(session.status(), options.archive);
  const std::vector<Tensor> views = views_of(inputs);
  Outputs outputs = make_outputs(*session, function, in, inputs, out.size());
  const Status status =
      session->run({views.data(), views.size()}, {outputs.views.data(), outputs.views.size()}, function);
  check(status);
  outputs.take_dims();

  for (const NamedSpec &target : targets) {
    const HostTensor &tensor = outputs.tensors[target.index];
    if (target.body == "-")
      print_output(out[target.index], tensor);
    else if (tensor.value)
      write_value(target.body.substr(1), tensor);
    else
      write_npy(target.body.substr(1), tensor);
  }
  std::string wrong;
  for (const NamedSpec &reference : references) {
    const HostTensor &actual = outputs.tensors[reference.index];
    Signature concrete = {out[reference.index].name, actual.type};
    const HostTensor wanted = parse_tensor(reference.body, concrete);
    const std::string why = actual.value ? value_disagreement(actual, wanted, options.tolerance) : disagreement(actual, wanted, options.tolerance);
    if (!why.empty())
      wrong += (wrong.empty() ? "" : "\n") + std::string("output '") + concrete.name + "': " + why;
  }
  if (!wrong.empty()) fail(wrong);
  return 0;
}

namespace {

std::vector<std::string> strings(const nlohmann::json &line, const char *key) {
  if (!line.contains(key)) return {};
  return line.at(key).get<std::vector<std::string>>();
}

RunOptions parse_line(const std::string &text) {
  try {
    const nlohmann::json line = nlohmann::json::parse(text);
    for (const auto &[key, value] : line.items()) {
      static constexpr const char *kKeys[] = {"archive", "device", "function", "inputs",
                                              "outputs", "expect", "rtol",     "atol"};
      if (std::none_of(std::begin(kKeys), std::end(kKeys), [&](const char *k) { return key == k; }))
        misuse("unknown key '" + key + "'");
    }
    RunOptions options;
    options.archive = line.at("archive").get<std::string>();
    options.device = line.value("device", options.device);
    options.function = line.value("function", options.function);
    options.inputs = strings(line, "inputs");
    options.outputs = strings(line, "outputs");
    options.expected = strings(line, "expect");
    if (line.contains("rtol")) options.tolerance.relative = line.at("rtol").get<double>();
    if (line.contains("atol")) options.tolerance.absolute = line.at("atol").get<double>();
    for (const std::string &output : options.outputs)
      if (output == "-" || (output.size() > 2 && output.compare(output.size() - 2, 2, "=-") == 0))
        misuse("outputs go to files here, as in \"y=@y.npy\"");
    return options;
  } catch (const nlohmann::json::exception &error) {
    misuse(std::string("not a run: ") + error.what());
  }
}

} // namespace

int run_many_command(const std::string &list) {
  std::ifstream file;
  if (list != "-") {
    file.open(list);
    if (!file) fail(list + ": cannot be opened");
  }
  std::istream &lines = list == "-" ? std::cin : file;
  bool failed = false;
  long index = 0;
  for (std::string line; std::getline(lines, line); ++index) {
    nlohmann::json result = {{"index", index}, {"status", 0}};
    try {
      RunOptions options = parse_line(line);
      // Nothing is printed for runs that name no output.
      if (options.outputs.empty() && options.expected.empty()) misuse("neither \"outputs\" nor \"expect\"");
      result["status"] = run_command(options);
    } catch (const Failure &failure) {
      result["status"] = failure.status;
      result["error"] = failure.what();
      failed = true;
    }
    std::printf("%s\n", result.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
    std::fflush(stdout);
  }
  return failed ? kFailed : 0;
}

} // namespace ingot::tool
