// TensorProto decoding. Nothing in a tensor is trusted: dims, lengths and file locations are checked before use.
#include "aotc/import/onnx/tensor.h"

#include <cstring>
#include <filesystem>
#include <fstream>

#include "aotc/graph/constant.h"
#include "aotc/import/onnx/narrow.h"

namespace ingot::aotc::importer {

namespace {

namespace fs = std::filesystem;
using onnx::TensorProto;

constexpr uint64_t kMaxElements = 0x7fffffff;

bool parse_u64(const std::string &text, uint64_t &value) {
  if (text.empty() || text.size() > 19)
    return false;
  value = 0;
  for (char c : text) {
    if (c < '0' || c > '9')
      return false;
    value = value * 10 + static_cast<uint64_t>(c - '0');
  }
  return true;
}

// A file that external data may name: relative, below `folder`, also after links are resolved.
bool locate(const std::string &location, const std::string &folder, fs::path &path, std::string &error) {
  const std::string quoted = "external data '" + location + "'";
  const fs::path relative(location);
  if (location.empty() || location.find('\0') != std::string::npos) {
    error = "external data without a location";
    return false;
  }
  if (relative.is_absolute() || relative.has_root_path() || location[0] == '\\' ||
      (location.size() > 1 && location[1] == ':')) {
    error = quoted + " has an absolute path; only files in the model's folder are read";
    return false;
  }
  for (const fs::path &part : relative)
    if (part == "..") {
      error = quoted + " leaves the model's folder ('..')";
      return false;
    }
  std::error_code code;
  const fs::path root = fs::canonical(folder.empty() ? "." : folder, code);
  if (code) {
    error = "the model's folder '" + folder + "' cannot be resolved: " + code.message();
    return false;
  }
  path = fs::canonical(root / relative, code);
  if (code) {
    error = quoted + " cannot be opened: " + code.message();
    return false;
  }
  const fs::path inside = path.lexically_relative(root);
  if (inside.empty() || *inside.begin() == "..") {
    error = quoted + " is a link that leaves the model's folder";
    return false;
  }
  if (!fs::is_regular_file(path, code)) {
    error = quoted + " is not a regular file";
    return false;
  }
  return true;
}

bool read_external(const TensorProto &tensor, const std::string &folder, uint64_t size, std::vector<uint8_t> &bytes,
                   std::string &error) {
  std::string location, offset_text, length_text;
  for (const auto &entry : tensor.external_data()) {
    if (entry.key() == "location")
      location = entry.value();
    else if (entry.key() == "offset")
      offset_text = entry.value();
    else if (entry.key() == "length")
      length_text = entry.value();
  }
  fs::path path;
  if (!locate(location, folder, path, error))
    return false;
  const std::string quoted = "external data '" + location + "'";
  uint64_t offset = 0, length = size;
  if (!offset_text.empty() && !parse_u64(offset_text, offset)) {
    error = quoted + ": offset '" + offset_text + "' is not a number";
    return false;
  }
  if (!length_text.empty() && !parse_u64(length_text, length)) {
    error = quoted + ": length '" + length_text + "' is not a number";
    return false;
  }
  if (length != size) {
    error = quoted + ": length " + std::to_string(length) + ", but the tensor needs " + std::to_string(size) + " bytes";
    return false;
  }
  std::error_code code;
  const uint64_t file_size = fs::file_size(path, code);
  if (code || offset > file_size || length > file_size - offset) {
    error = quoted + ": bytes " + std::to_string(offset) + " to " + std::to_string(offset + length) +
            " lie past the file's end at " + std::to_string(code ? 0 : file_size);
    return false;
  }
  std::ifstream file(path, std::ios::binary);
  bytes.resize(length);
  file.seekg(static_cast<std::streamoff>(offset));
  if (length && !file.read(reinterpret_cast<char *>(bytes.data()), static_cast<std::streamsize>(length))) {
    error = quoted + " cannot be read";
    return false;
  }
  return true;
}

template <typename Field>
bool take(const Field &field, const char *name, ElementType type, uint64_t elements, std::vector<uint8_t> &bytes,
          std::string &error) {
  if (static_cast<uint64_t>(field.size()) != elements) {
    error = std::string(name) + " holds " + std::to_string(field.size()) + " elements, the dims say " +
            std::to_string(elements);
    return false;
  }
  bytes.reserve(elements * byte_size(type));
  for (const auto value : field) {
    if constexpr (std::is_floating_point_v<std::decay_t<decltype(value)>>)
      graph::append_float(bytes, type, value);
    else if (type == ElementType::kF16 || type == ElementType::kBF16) // int32_data holds the bits
      graph::append_int(bytes, ElementType::kU16, static_cast<int64_t>(value));
    else
      graph::append_int(bytes, type, static_cast<int64_t>(value));
  }
  return true;
}

// Elements of 2 or 4 bits, low bits first, to one a byte.
std::vector<uint8_t> unpack(const std::vector<uint8_t> &packed, uint64_t elements, int bits, bool with_sign) {
  std::vector<uint8_t> out(elements);
  const int each = 8 / bits, unused = 8 - bits;
  for (uint64_t i = 0; i < elements; ++i) {
    const int shifted = packed[i / static_cast<uint64_t>(each)] >> (bits * static_cast<int>(i % static_cast<uint64_t>(each)));
    const uint8_t high = static_cast<uint8_t>(shifted << unused);
    out[i] = with_sign ? static_cast<uint8_t>(static_cast<int8_t>(high) >> unused) : static_cast<uint8_t>(high >> unused);
  }
  return out;
}

} // namespace

std::optional<ElementType> element_type(int32_t onnx_type) {
  switch (onnx_type) {
    case TensorProto::FLOAT: return ElementType::kF32;
    case TensorProto::UINT8: return ElementType::kU8;
    case TensorProto::INT8: return ElementType::kI8;
    case TensorProto::UINT16: return ElementType::kU16;
    case TensorProto::INT16: return ElementType::kI16;
    case TensorProto::INT32: return ElementType::kI32;
    case TensorProto::INT64: return ElementType::kI64;
    case TensorProto::BOOL: return ElementType::kBool;
    case TensorProto::FLOAT16: return ElementType::kF16;
    case TensorProto::DOUBLE: return ElementType::kF64;
    case TensorProto::UINT32: return ElementType::kU32;
    case TensorProto::UINT64: return ElementType::kU64;
    case TensorProto::BFLOAT16: return ElementType::kBF16;
    default: return std::nullopt;
  }
}

int32_t onnx_type_of(ElementType type) {
  for (int32_t code = 0; code < TensorProto::DataType_ARRAYSIZE; ++code)
    if (element_type(code) == type)
      return code;
  return TensorProto::UNDEFINED;
}

std::string onnx_type_name(int32_t onnx_type) {
  static constexpr const char *names[] = {
      "undefined", "float",    "uint8",      "int8",       "uint16",   "int16",        "int32",      "int64",          "string",
      "bool",      "float16",  "double",     "uint32",     "uint64",   "complex64",    "complex128", "bfloat16",       "float8e4m3fn",
      "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "uint4",    "int4",         "float4e2m1",
      "float8e8m0", "uint2", "int2"};
  if (onnx_type >= 0 && static_cast<size_t>(onnx_type) < std::size(names))
    return names[onnx_type];
  return "type " + std::to_string(onnx_type);
}

std::optional<DecodedTensor> decode_tensor(const TensorProto &tensor, const std::string &folder, std::string &error) {
  std::optional<ElementType> type = element_type(tensor.data_type());
  const bool narrow = !type && narrow_storage(tensor.data_type());
  if (narrow)
    type = narrow_storage(tensor.data_type());
  if (!type) {
    error = "tensor '" + tensor.name() + "' has element type " + onnx_type_name(tensor.data_type()) +
            ", which is not supported";
    return std::nullopt;
  }
  if (tensor.has_segment()) {
    error = "tensor '" + tensor.name() + "' is stored in segments, which is not supported";
    return std::nullopt;
  }
  DecodedTensor out;
  out.type.element = *type;
  out.narrow = narrow ? tensor.data_type() : 0;
  if (tensor.dims_size() > 8) {
    error = "tensor '" + tensor.name() + "' has rank " + std::to_string(tensor.dims_size()) + "; at most 8 is supported";
    return std::nullopt;
  }
  uint64_t elements = 1;
  bool empty = false;
  for (int64_t dim : tensor.dims()) {
    if (dim < 0 || dim > static_cast<int64_t>(kMaxElements)) {
      error = "tensor '" + tensor.name() + "' has dim " + std::to_string(dim);
      return std::nullopt;
    }
    empty = empty || dim == 0;
    out.type.dims.push_back(dim);
  }
  for (int64_t dim : tensor.dims()) {
    elements *= empty ? 0 : static_cast<uint64_t>(dim);
    if (elements > kMaxElements) {
      error = "tensor '" + tensor.name() + "' has more than 2^31-1 elements";
      return std::nullopt;
    }
  }
  if (empty)
    elements = 0;
  const int bits = narrow ? narrow_bits(tensor.data_type()) : 8;
  const uint64_t size = narrow ? (elements * static_cast<uint64_t>(bits) + 7) / 8 : elements * byte_size(*type);
  auto data = std::make_shared<graph::ConstantData>();
  data->type = *type;
  bool good = true;
  if (tensor.has_data_location() && tensor.data_location() == TensorProto::EXTERNAL) {
    good = read_external(tensor, folder, size, data->bytes, error);
  } else if (tensor.has_raw_data()) {
    if (tensor.raw_data().size() != size) {
      error = "raw_data holds " + std::to_string(tensor.raw_data().size()) + " bytes, the dims and type say " +
              std::to_string(size);
      good = false;
    } else {
      data->bytes.assign(tensor.raw_data().begin(), tensor.raw_data().end());
    }
  } else if (narrow) { // int32_data holds the packed bytes
    good = take(tensor.int32_data(), "int32_data", ElementType::kU8, size, data->bytes, error);
  } else {
    switch (*type) {
      case ElementType::kF32: good = take(tensor.float_data(), "float_data", *type, elements, data->bytes, error); break;
      case ElementType::kF64: good = take(tensor.double_data(), "double_data", *type, elements, data->bytes, error); break;
      case ElementType::kI64: good = take(tensor.int64_data(), "int64_data", *type, elements, data->bytes, error); break;
      case ElementType::kU32:
      case ElementType::kU64: good = take(tensor.uint64_data(), "uint64_data", *type, elements, data->bytes, error); break;
      default: good = take(tensor.int32_data(), "int32_data", *type, elements, data->bytes, error); break;
    }
  }
  if (!good) {
    error = "tensor '" + tensor.name() + "': " + error;
    return std::nullopt;
  }
  if (bits < 8)
    data->bytes = unpack(data->bytes, elements, bits, *type == ElementType::kI8);
  if (*type == ElementType::kBool) // any non-zero byte is true; a stored bool is 0 or 1
    for (uint8_t &byte : data->bytes)
      byte = byte != 0;
  out.data = std::move(data);
  return out;
}

} // namespace ingot::aotc::importer
