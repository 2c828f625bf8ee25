#include "tools/ingot/model.h"

#include <utility>

#include "tools/ingot/value_json.h"

namespace ingot::tool {

Archive open_archive(const std::string &path, const ingot_allocator_t *allocator) {
  auto archive = values::map(path.c_str(), allocator);
  const std::string message = archive.message();
  if (!archive) check(archive.status(), message.find(path) == std::string::npos ? path : "");
  return std::move(*archive);
}

uint32_t find_function(const Archive &archive, const std::string &path, const std::string &name) {
  const uint32_t found = archive.function(name.c_str());
  if (found != INGOT_NONE) return found;
  std::string names;
  ingot_function_info_t info;
  for (uint32_t f = 0; ingot_archive_function(archive.get(), 0, f, &info) == INGOT_OK; ++f)
    names += std::string(f ? ", '" : "'") + info.name + "'";
  fail(path + ": no function '" + name + "'; it has " + names);
}

namespace {

template <class Get>
std::vector<Signature> signature_of(uint32_t count, Get get) {
  std::vector<Signature> out;
  for (uint32_t i = 0; i < count; ++i) {
    ingot_signature_tensor_t info;
    if (get(i, &info) != INGOT_OK) throw Failure(kInternal, "the archive's signature cannot be read");
    out.push_back({info.name, {info.type, {info.fixed_dims, info.fixed_dims + info.rank}}});
  }
  return out;
}

ingot_function_info_t function_info(const Archive &archive, uint32_t function) {
  ingot_function_info_t info;
  if (ingot_archive_function(archive.get(), 0, function, &info) != INGOT_OK)
    throw Failure(kInternal, "the archive's function cannot be read");
  return info;
}

} // namespace

std::vector<Signature> inputs_of(const Archive &archive, uint32_t function) {
  return signature_of(function_info(archive, function).input_count,
                      [&](uint32_t i, ingot_signature_tensor_t *out) {
                        return ingot_archive_input(archive.get(), function, i, out);
                      });
}

std::vector<Signature> outputs_of(const Archive &archive, uint32_t function) {
  return signature_of(function_info(archive, function).output_count,
                      [&](uint32_t i, ingot_signature_tensor_t *out) {
                        return ingot_archive_output(archive.get(), function, i, out);
                      });
}

Device open_device(const Instance &instance, const Archive &archive, const std::string &uri) {
  check(instance.status());
  auto device = instance.open(archive, uri.c_str());
  if (!device) check(device.status());
  return std::move(*device);
}

std::vector<HostTensor> make_inputs(const std::vector<std::string> &specs,
                                    const std::vector<Signature> &signature, bool fill, uint64_t seed) {
  std::vector<HostTensor> out(signature.size());
  std::vector<bool> given(signature.size(), false);
  for (const NamedSpec &spec : resolve_names(specs, signature, "input")) {
    out[spec.index] = parse_tensor(spec.body, signature[spec.index]);
    given[spec.index] = true;
  }
  std::string missing;
  for (size_t i = 0; i < signature.size(); ++i) {
    if (given[i]) continue;
    if (fill)
      out[i] = parse_tensor("random:" + std::to_string(seed), signature[i]);
    else
      missing += (missing.empty() ? "'" : ", '") + signature[i].name + "' (" + to_text(signature[i].type) + ")";
  }
  if (!missing.empty()) misuse("no --input for " + missing);
  return out;
}

std::vector<Tensor> views_of(const std::vector<HostTensor> &tensors) {
  std::vector<Tensor> out;
  for (const HostTensor &t : tensors) out.push_back(view_of(t));
  return out;
}

std::string to_text(const std::vector<Signature> &signature, const std::vector<HostTensor> &tensors) {
  std::string out;
  for (size_t i = 0; i < signature.size(); ++i)
    out += (i ? ", " : "") + signature[i].name + ": " + to_text(tensors[i].type);
  return out;
}

std::string to_text(const std::vector<Signature> &signature) {
  std::string out;
  for (size_t i = 0; i < signature.size(); ++i)
    out += (i ? ", " : "") + signature[i].name + ": " + to_text(signature[i].type);
  return out;
}

Outputs make_outputs(const Session &session, uint32_t function, const std::vector<Signature> &signature,
                     const std::vector<HostTensor> &tensors, size_t count) {
  const std::vector<Tensor> inputs = views_of(tensors);
  Outputs out;
  out.views.resize(count);
  const Status status = session.infer({inputs.data(), inputs.size()}, {out.views.data(), count}, function);
  try {
    check(status);
  } catch (const Failure &failure) {
    throw Failure(failure.status, std::string(failure.what()) + "; given " + to_text(signature, tensors) +
                                      "; the function takes " + to_text(signature));
  }
  for (Tensor &view : out.views) {
    // A size that only the run knows comes as an upper bound: this much is provided, and the run says if it needs more.
    constexpr size_t kMostForUnknown = size_t{1} << 30;
    bool unknown = false;
    for (uint32_t i = 0; i < view.rank; ++i) unknown = unknown || view.dims[i] < 0;
    if (unknown && view.size > kMostForUnknown) view.size = kMostForUnknown;
    if (is_value_type(view.type)) {
      HostTensor value{{view.type, {view.dims, view.dims + view.rank}}, Bytes()};
      value.value = make_value();
      view.data = value.value.get();
      view.size = 0;
      out.tensors.push_back(std::move(value));
      continue;
    }
    HostTensor tensor{{view.type, {view.dims, view.dims + view.rank}}, Bytes(view.size)};
    view.data = tensor.bytes.data();
    out.tensors.push_back(std::move(tensor));
  }
  return out;
}

void Outputs::take_dims() {
  for (size_t i = 0; i < views.size(); ++i)
    tensors[i].type.dims.assign(views[i].dims, views[i].dims + views[i].rank);
}

} // namespace ingot::tool
