#include "tools/ingot/onnxruntime.h"

#include <nlohmann/json.hpp>

#include "tools/ingot/failure.h"
#include "tools/ingot/npy.h"
#include "tools/ingot/scratch.h"

namespace ingot::tool {

namespace {

constexpr int kNoPackage = 40; // exit status of the script

// Values inside the model become outputs by appending a second `graph` field that holds nothing but outputs: protobuf
// merges the two, so that the package `onnx` is not needed.
constexpr char kScript[] = R"py(
import json, os, sys

try:
    import numpy as np
    import onnxruntime
except ImportError as error:
    print(error, file=sys.stderr)
    sys.exit(40)
folder = sys.argv[1]
with open(folder + "/request.json", encoding="utf-8") as file:
    request = json.load(file)
types = {"bool": np.bool_, "f16": np.float16, "f32": np.float32, "f64": np.float64}
types.update({kind + bits: getattr(np, name + bits) for kind, name in (("i", "int"), ("u", "uint")) for bits in ("8", "16", "32", "64")})
names = {np.dtype(t): n for n, t in types.items()}


def read(folder):
    with open(folder + "/tensors.json", encoding="utf-8") as file:
        listed = json.load(file)
    with open(folder + "/tensors.bin", "rb") as file:
        data = file.read()
    for t in listed:
        if t["type"] not in types:
            sys.exit("input '%s' is %s, which NumPy has not; --reference=interpreter takes it" % (t["name"], t["type"]))
        raw = data[t["offset"]:t["offset"] + t["bytes"]]
        yield t["name"], np.frombuffer(raw, types[t["type"]]).reshape(t["dims"])


def field(number, payload):
    def varint(value):
        out = bytearray()
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        return bytes(out) + bytes([value])
    return varint(number << 3 | 2) + varint(len(payload)) + payload


options = onnxruntime.SessionOptions()
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
options.log_severity_level = 4
options.add_session_config_entry("session.model_external_initializers_file_folder_path",
                                 os.path.dirname(os.path.abspath(request["model"])))
with open(request["model"], "rb") as file:
    model = file.read()
GRAPH, OUTPUT, NAME = 7, 12, 1
if request["hidden"]:
    model += field(GRAPH, b"".join(field(OUTPUT, field(NAME, n.encode())) for n in request["hidden"]))
try:
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    results = session.run(request["names"], dict(read(folder + "/inputs")))
except Exception as error:
    sys.exit("%s: %s" % (type(error).__name__, error))
listed, offset = [], 0
os.makedirs(folder + "/onnxruntime", exist_ok=True)
with open(folder + "/onnxruntime/tensors.bin", "wb") as file:
    for name, value in zip(request["names"], results):
        if not isinstance(value, np.ndarray) or value.dtype not in names:
            continue
        raw = value.tobytes()
        file.write(raw)
        listed.append({"name": name, "type": names[value.dtype], "dims": list(value.shape), "offset": offset, "bytes": len(raw)})
        offset += len(raw)
with open(folder + "/onnxruntime/tensors.json", "w", encoding="utf-8") as file:
    json.dump(listed, file)
print(onnxruntime.__version__)
)py";

} // namespace

OnnxRuntimeResult run_onnxruntime(const std::string &python, const std::string &model,
                                  const std::vector<std::string> &names, const std::vector<std::string> &hidden,
                                  const std::string &folder) {
  const std::string request = nlohmann::json({{"model", model}, {"names", names}, {"hidden", hidden}}).dump();
  const void *part = request.data();
  const size_t size = request.size();
  write_file(folder + "/request.json", &part, &size, 1);
  const ProgramResult result = run_program({python, "-c", kScript, folder}, folder);
  constexpr char kHint[] = "--python=PROGRAM names another Python, --reference=interpreter needs none";
  if (!result.found)
    misuse("--reference=onnxruntime: " + python + " cannot be started: " + result.output + "; install Python 3 and its package onnxruntime (" + kHint + ")");
  if (result.status == kNoPackage)
    misuse("--reference=onnxruntime: " + python + ": " + result.output + "install it with `" + python +
           " -m pip install onnxruntime` (" + kHint + ")");
  if (result.status != 0) misuse("onnxruntime does not run " + model + ": " + result.output);
  OnnxRuntimeResult out;
  out.version = result.output.substr(0, result.output.find('\n'));
  out.values = read_tensor_folder(folder + "/onnxruntime");
  return out;
}

} // namespace ingot::tool
