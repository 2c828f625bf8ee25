#include "tools/ingot/tensor_folder.h"

#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tools/ingot/failure.h"
#include "tools/ingot/npy.h"

namespace ingot::tool {

NamedTensors read_tensor_folder(const std::string &folder) {
  const Bytes text = read_file(folder + "/tensors.json"), data = read_file(folder + "/tensors.bin");
  NamedTensors out;
  try {
    for (const auto &item : nlohmann::json::parse(text.data(), text.data() + text.size())) {
      TensorType type;
      const std::string name = item.at("name");
      if (!parse_element_type(item.at("type").get<std::string>(), &type.type))
        fail(folder + ": '" + name + "' has the unknown type " + item.at("type").dump());
      type.dims = item.at("dims").get<std::vector<int64_t>>();
      const uint64_t offset = item.at("offset"), bytes = item.at("bytes");
      HostTensor tensor = make_tensor(type);
      if (bytes != byte_size(type) || offset > data.size() || bytes > data.size() - offset)
        fail(folder + ": '" + name + "' does not lie in tensors.bin as its type demands");
      std::memcpy(tensor.bytes.data(), data.data() + offset, bytes);
      out.emplace_back(name, std::move(tensor));
    }
  } catch (const nlohmann::json::exception &error) {
    fail(folder + "/tensors.json: " + error.what());
  }
  return out;
}

void write_tensor_folder(const std::string &folder, const std::vector<Signature> &names, const std::vector<HostTensor> &tensors) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  std::vector<const void *> parts;
  std::vector<size_t> sizes;
  uint64_t offset = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const HostTensor &tensor = tensors[i];
    const size_t bytes = byte_size(tensor.type);
    list.push_back({{"name", names[i].name}, {"type", ingot_element_type_name(tensor.type.type)}, {"dims", tensor.type.dims},
                    {"offset", offset}, {"bytes", bytes}});
    parts.push_back(tensor.bytes.data());
    sizes.push_back(bytes);
    offset += bytes;
  }
  std::filesystem::create_directories(folder);
  write_file(folder + "/tensors.bin", parts.data(), sizes.data(), parts.size());
  const std::string text = list.dump();
  const void *part = text.data();
  const size_t size = text.size();
  write_file(folder + "/tensors.json", &part, &size, 1);
}

} // namespace ingot::tool
