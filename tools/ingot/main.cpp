// The `ingot` command line. Exit status: 0 done, 1 failed (the reason is printed), 2 wrong usage, 3 an internal
// error.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>

#include "tools/ingot/commands.h"
#include "tools/ingot/failure.h"

using namespace ingot::tool;

namespace {

constexpr char kSpecs[] =
    "NAME=SPEC or SPEC (in order): 2x3xf32=1,2,3,4,5,6 | 2x3xf32=0.5 (all the same) | 2x3xf32=random:SEED | "
    "2x3xf32=@FILE.bin | @FILE.npy | random:SEED; strings, lists, optionals: @FILE.json | json:TEXT";

// Everything repeatable takes one value a time, so that a value may begin with anything.
CLI::Option *add_list(CLI::App *app, const char *name, std::vector<std::string> &target, const char *help) {
  return app->add_option(name, target, help)->allow_extra_args(false)->take_all();
}

int run(int argc, char **argv) {
  CLI::App app{"Runs, measures and explains archives that aotc compiled.", "ingot"};
  app.set_version_flag("--version", std::string("ingot ") + ingot_version());
  app.require_subcommand(1);
  int status = 0;

  RunOptions run_options;
  double rtol = 0, atol = 0;
  CLI::App *run = app.add_subcommand("run", "run a model once");
  run->add_option("archive", run_options.archive, "the archive")->required();
  run->add_option("--device", run_options.device, "driver, driver:ordinal, driver://id?options or auto");
  run->add_option("--function", run_options.function, "entry point");
  add_list(run, "--input", run_options.inputs, kSpecs);
  add_list(run, "--output", run_options.outputs,
           "[NAME=]- to print, or [NAME=]@FILE.npy (strings, lists, optionals: FILE.json); all are printed by default");
  add_list(run, "--expect", run_options.expected, "[NAME=]@FILE.npy: what an output must agree with");
  CLI::Option *rtol_option = run->add_option("--rtol", rtol, "relative tolerance of --expect");
  CLI::Option *atol_option = run->add_option("--atol", atol, "absolute tolerance of --expect");
  run->callback([&] {
    if (rtol_option->count()) run_options.tolerance.relative = rtol;
    if (atol_option->count()) run_options.tolerance.absolute = atol;
    status = run_command(run_options);
  });

  std::string list;
  CLI::App *run_many = app.add_subcommand("run-many", "run what the lines of a file describe, in one process");
  run_many
      ->add_option(
          "list", list,
          "JSON lines {\"archive\", \"inputs\", \"outputs\", \"expect\", \"rtol\", \"atol\", \"function\", "
          "\"device\"}; - reads standard input. Prints {\"index\", \"status\", \"error\"} for each")
      ->required();
  run_many->callback([&] { status = run_many_command(list); });

  BenchOptions bench_options;
  CLI::App *bench = app.add_subcommand("bench", "measure load, prepare, first run, many runs, memory");
  bench->add_option("archive", bench_options.archive, "the archive")->required();
  bench->add_option("--device", bench_options.device, "as for run");
  bench->add_option("--function", bench_options.function, "entry point");
  add_list(bench, "--input", bench_options.inputs,
           "as for run; inputs not given are random:0, and 1x3x48x320xf32 alone gives a shape");
  bench->add_option("--threads", bench_options.threads, "threads of the device (default: all that it has)");
  bench->add_option("--seconds", bench_options.seconds, "time for the repeated runs (at least 10 are made)");
  bench->add_option("--runs", bench_options.runs, "number of repeated runs instead");
  bench->add_flag("--on-device", bench_options.on_device, "inputs and results lie in memory of the device, as an application on a GPU has them");
  bench->add_flag("--kernels", bench_options.kernels,
                  "time, GFLOP/s, bytes and share of this machine's peak per kernel");
  bench->add_flag("--json", bench_options.json, "machine-readable");
  bench->callback([&] { status = bench_command(bench_options); });

  std::string archive, device, driver;
  bool json = false, commands = false, hash = false;
  CLI::App *inspect = app.add_subcommand("inspect", "what an archive holds");
  inspect->add_option("archive", archive, "the archive")->required();
  inspect->add_flag("--json", json, "machine-readable");
  inspect->add_flag("--commands", commands, "each function's commands too");
  bool code = false;
  inspect->add_flag("--disassemble", code, "each bytecode kernel's instructions too (docs/bytecode.md)");
  inspect->callback([&] { status = inspect_command(archive, json, commands, code); });

  CLI::App *verify = app.add_subcommand("verify", "check an archive's structure and meaning");
  verify->add_option("archive", archive, "the archive")->required();
  verify->add_flag("--hash", hash, "check every segment's checksum too");
  verify->callback([&] { status = verify_command(archive, hash); });

  VerifyNumericsOptions numerics;
  uint64_t ulp = 0;
  CLI::App *verify_numerics = app.add_subcommand(
      "verify-numerics", "compare a model node by node with a reference, and an archive of it as it is");
  verify_numerics->add_option("model", numerics.model, "the ONNX model")->required();
  verify_numerics->add_option("archive", numerics.archive, "an archive of it: compared, too, and compiled like it");
  verify_numerics->add_option("--device", numerics.device, "as for run");
  verify_numerics->add_option("--function", numerics.function, "entry point");
  verify_numerics->add_option("--reference", numerics.reference, "onnxruntime (of --python) or interpreter (of --aotc; slow)")
      ->check(CLI::IsMember({"interpreter", "onnxruntime"}));
  add_list(verify_numerics, "--input", numerics.inputs, "as for run; inputs not given are random");
  add_list(verify_numerics, "--input-shape", numerics.input_shapes, "NAME=1x3x48x320 fixes a dynamic input");
  verify_numerics->add_option("--seed", numerics.seed, "of the inputs not given");
  add_list(verify_numerics, "--target", numerics.targets, "as for aotc; by default the archive's, else llvm-cpu");
  CLI::Option *numerics_rtol = verify_numerics->add_option("--rtol", rtol, "relative tolerance");
  CLI::Option *numerics_atol = verify_numerics->add_option("--atol", atol, "absolute tolerance");
  CLI::Option *ulp_option = verify_numerics->add_option("--ulp", ulp, "floats this many ULP apart agree");
  verify_numerics->add_option("--aotc", numerics.aotc, "the compiler; by default the one beside ingot, then that of PATH");
  verify_numerics->add_option("--python", numerics.python, "a Python that has onnxruntime");
  verify_numerics->add_flag("--all", numerics.all, "print every node");
  verify_numerics->add_flag("--json", numerics.json, "machine-readable, every node");
  verify_numerics->callback([&] {
    if (numerics_rtol->count()) numerics.tolerance.relative = rtol;
    if (numerics_atol->count()) numerics.tolerance.absolute = atol;
    if (ulp_option->count()) numerics.tolerance.ulp = ulp;
    status = verify_numerics_command(numerics);
  });

  CLI::App *explain = app.add_subcommand("explain", "which variant runs on which device here, and why not");
  explain->add_option("archive", archive, "the archive")->required();
  explain->add_option("--device", device, "only this device");
  explain->callback([&] { status = explain_command(archive, device); });

  CLI::App *list_drivers = app.add_subcommand("list-drivers", "drivers in this build");
  list_drivers->callback([&] { status = list_drivers_command(); });
  CLI::App *list_devices = app.add_subcommand("list-devices", "URIs of the devices here");
  list_devices->add_option("driver", driver, "only this driver's");
  list_devices->callback([&] { status = list_devices_command(driver); });
  CLI::App *dump_devices = app.add_subcommand("dump-devices", "what decides compilation, per device");
  dump_devices->add_option("driver", driver, "only this driver's");
  dump_devices->callback([&] { status = dump_devices_command(driver); });

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &error) {
    if (error.get_exit_code() == 0) return app.exit(error); // --help, --version
    bool command = argc > 1 && argv[1][0] == '-';
    for (const CLI::App *known : app.get_subcommands({}))
      command = command || (argc > 1 && known->get_name() == argv[1]);
    if (argc > 1 && !command)
      std::fprintf(stderr, "ingot: no command '%s'; `ingot --help` tells what there is\n", argv[1]);
    else
      std::fprintf(stderr, "ingot: %s; `ingot --help` tells what there is\n", error.what());
    return kWrongUsage;
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout)) fail("standard output cannot be written");
  return status;
}

} // namespace

int main(int argc, char **argv) {
  try {
    return run(argc, argv);
  } catch (const Failure &failure) {
    std::fflush(stdout);
    std::fprintf(stderr, "ingot: %s\n", failure.what());
    return failure.status;
  } catch (const std::bad_alloc &) {
    std::fprintf(stderr, "ingot: out of memory\n");
    return kFailed;
  } catch (const std::exception &error) {
    std::fprintf(stderr, "ingot: internal error: %s: please report it, with the command line\n", error.what());
    return kInternal;
  }
}
