#include "aotc/driver/tensor_folder.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>

namespace ingot::aotc {

namespace fs = std::filesystem;

std::optional<std::vector<NamedTensor>> read_tensor_folder(const std::string &folder, std::string *problem) {
  const auto refuse = [&](const std::string &why) {
    *problem = "'" + folder + "' is no folder of tensors: " + why;
    return std::nullopt;
  };
  std::ifstream text(fs::path(folder) / "tensors.json"), data(fs::path(folder) / "tensors.bin", std::ios::binary);
  if (!text || !data)
    return refuse("it must hold tensors.json and tensors.bin");
  const std::vector<char> bytes((std::istreambuf_iterator<char>(data)), std::istreambuf_iterator<char>());
  std::vector<NamedTensor> tensors;
  try {
    for (const auto &item : nlohmann::json::parse(text)) {
      NamedTensor t;
      t.name = item.at("name");
      const auto type = parse_element_type(item.at("type").get<std::string>());
      if (!type)
        return refuse("type " + item.at("type").dump() + " of '" + t.name + "' is not supported");
      t.type = *type;
      t.dims = item.at("dims").get<std::vector<int64_t>>();
      const uint64_t offset = item.at("offset"), size = item.at("bytes");
      if (offset > bytes.size() || size > bytes.size() - offset)
        return refuse("'" + t.name + "' reaches past the end of tensors.bin");
      t.bytes.assign(bytes.begin() + static_cast<long>(offset), bytes.begin() + static_cast<long>(offset + size));
      tensors.push_back(std::move(t));
    }
  } catch (const nlohmann::json::exception &error) {
    return refuse(std::string("tensors.json: ") + error.what());
  }
  return tensors;
}

bool write_tensor_folder(const std::string &folder, const std::vector<NamedTensor> &tensors, std::string *problem) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  const fs::path path(folder);
  std::error_code code;
  const bool made = fs::create_directories(path, code);
  std::ofstream data(path / "tensors.bin", std::ios::binary);
  uint64_t offset = 0;
  for (const NamedTensor &t : tensors) {
    list.push_back({{"name", t.name}, {"type", name(t.type)}, {"dims", t.dims}, {"offset", offset}, {"bytes", t.bytes.size()}});
    data.write(reinterpret_cast<const char *>(t.bytes.data()), static_cast<std::streamsize>(t.bytes.size()));
    offset += t.bytes.size();
  }
  data.close();
  std::ofstream text(path / "tensors.json");
  text << list.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
  text.close();
  if (data && text)
    return true;
  *problem = "'" + folder + "' cannot be written: " + (errno ? std::strerror(errno) : "unknown reason");
  for (const char *file : {"tensors.bin", "tensors.json"})
    fs::remove(path / file, code);
  if (made)
    fs::remove(path, code);
  return false;
}

} // namespace ingot::aotc
