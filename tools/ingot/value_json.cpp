// See value_json.h.
#include "tools/ingot/value_json.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <ingot/values.h>
#include <nlohmann/json.hpp>

#include "tools/ingot/failure.h"
#include "tools/ingot/npy.h"

namespace ingot::tool {

namespace {

using Json = nlohmann::json;
using ValuePtr = std::shared_ptr<ingot_value_t>;

void check_call(ingot_code_t code, const ingot_error_t &error) {
  if (code != INGOT_OK) fail(error.message);
}

class Reader {
 public:
  // `folder` is where files that a value names lie.
  Reader(std::string where, std::filesystem::path folder) : where_(std::move(where)), folder_(std::move(folder)) {}

  ValuePtr value(const Json &json) {
    if (json.is_null()) return make_value();
    if (!json.is_object() || !json.contains("list")) return tensor(json);
    const std::string name = json.at("list").get<std::string>();
    ElementType type = INGOT_ELEMENT_TYPE_NONE;
    if (name != "none" && !parse_element_type(name, &type)) bad("'" + name + "' is no element type");
    std::vector<ValuePtr> elements;
    for (const Json &element : json.at("elements")) elements.push_back(tensor(element));
    std::vector<const ingot_value_t *> handles;
    for (const ValuePtr &e : elements) handles.push_back(e.get());
    ValuePtr out = make_value();
    ingot_error_t error;
    check_call(ingot_value_set_list(out.get(), type, handles.data(), handles.size(), &error), error);
    return out;
  }

 private:
  [[noreturn]] void bad(const std::string &why) const { misuse(where_ + ": " + why); }

  ValuePtr tensor(const Json &json) {
    if (json.is_string() || json.is_array()) {
      std::vector<int64_t> dims;
      std::vector<std::string> texts;
      nested(json, 0, dims, texts);
      return strings(dims, texts);
    }
    if (!json.is_object()) bad("neither strings, a tensor, a list nor null: " + json.dump().substr(0, 60));
    if (json.contains("npy")) {
      const std::string path = (folder_ / json.at("npy").get<std::string>()).string();
      ElementType wanted = INGOT_ELEMENT_TYPE_NONE;
      if (json.contains("type") && !parse_element_type(json.at("type").get<std::string>(), &wanted)) bad("an unknown element type");
      return numbers(to_tensor(read_npy(path), wanted, path));
    }
    TensorType type;
    const std::string name = json.at("type").get<std::string>();
    if (!parse_element_type(name, &type.type) || type.type == INGOT_ELEMENT_TYPE_VALUE) bad("'" + name + "' is no element type");
    type.dims = json.at("dims").get<std::vector<int64_t>>();
    const Json &values = json.at("values");
    if (type.dims.size() > INGOT_MAX_RANK || !values.is_array() || int64_t(values.size()) != element_count(type))
      bad("a tensor of " + std::to_string(values.size()) + " values whose dims say another number");
    if (type.type == INGOT_ELEMENT_TYPE_STRING) return strings(type.dims, values.get<std::vector<std::string>>());
    HostTensor out = make_tensor(type);
    for (size_t i = 0; i < values.size(); ++i)
      if (!set(out, int64_t(i), values[i])) bad("value " + std::to_string(i) + ", " + values[i].dump() + ", is no " + name);
    return numbers(out);
  }

  static bool set(HostTensor &out, int64_t index, const Json &v) {
    if (v.is_boolean()) return set_element(out, index, v.get<bool>());
    if (v.is_number_unsigned()) return is_float(out.type.type) ? set_element(out, index, v.get<double>()) : set_unsigned(out, index, v.get<uint64_t>());
    if (v.is_number_integer()) return is_float(out.type.type) ? set_element(out, index, v.get<double>()) : set_integer(out, index, v.get<int64_t>());
    if (v.is_number()) return set_element(out, index, v.get<double>());
    const std::string text = v.is_string() ? v.get<std::string>() : "";
    if (!is_float(out.type.type)) return false;
    if (text == "nan") return set_element(out, index, std::nan(""));
    return (text == "inf" || text == "-inf") && set_element(out, index, text == "inf" ? HUGE_VAL : -HUGE_VAL);
  }

  void nested(const Json &json, size_t depth, std::vector<int64_t> &dims, std::vector<std::string> &texts) {
    if (json.is_string()) {
      if (depth != dims.size()) bad("strings at several depths");
      texts.push_back(json.get<std::string>());
      return;
    }
    if (!json.is_array() || depth >= INGOT_MAX_RANK) bad("an array of something other than strings");
    if (dims.size() == depth) {
      if (!texts.empty()) bad("strings at several depths");
      dims.push_back(int64_t(json.size()));
    }
    if (int64_t(json.size()) != dims[depth]) bad("arrays of several lengths");
    for (const Json &element : json) nested(element, depth + 1, dims, texts);
  }

  ValuePtr strings(const std::vector<int64_t> &dims, const std::vector<std::string> &texts) {
    std::vector<ingot_string_t> views;
    for (const std::string &text : texts) views.push_back({text.data(), text.size()});
    ValuePtr out = make_value();
    ingot_error_t error;
    check_call(ingot_value_set_strings(out.get(), views.data(), dims.data(), uint32_t(dims.size()), &error), error);
    return out;
  }

  ValuePtr numbers(const HostTensor &tensor) {
    const Tensor view = view_of(tensor);
    ValuePtr out = make_value();
    ingot_error_t error;
    check_call(ingot_value_set_tensor(out.get(), &view, &error), error);
    return out;
  }

  std::string where_;
  std::filesystem::path folder_;
};

// A tensor that a value is or holds, copied.
HostTensor tensor_of(const ingot_value_t *value, uint32_t element) {
  Tensor info;
  ingot_error_t error;
  check_call(ingot_value_tensor(value, element, &info, &error), error);
  HostTensor out = make_tensor({info.type, {info.dims, info.dims + info.rank}});
  if (info.size) std::memcpy(out.bytes.data(), info.data, info.size);
  return out;
}

std::vector<std::string> strings_of(const ingot_value_t *value, uint32_t element, std::vector<int64_t> *dims) {
  Tensor info;
  ingot_error_t error;
  check_call(ingot_value_tensor(value, element, &info, &error), error);
  dims->assign(info.dims, info.dims + info.rank);
  const int64_t count = element_count({INGOT_ELEMENT_TYPE_STRING, *dims});
  std::vector<std::string> out;
  for (int64_t i = 0; i < count; ++i) {
    ingot_string_t text;
    check_call(ingot_value_string(value, element, uint64_t(i), &text, &error), error);
    out.emplace_back(text.data, text.size);
  }
  return out;
}

ElementType type_of(const ingot_value_t *value, uint32_t element) {
  Tensor info;
  return ingot_value_tensor(value, element, &info, nullptr) == INGOT_OK ? info.type : INGOT_ELEMENT_TYPE_NONE;
}

Json element_json(const ingot_value_t *value, uint32_t element) {
  if (type_of(value, element) == INGOT_ELEMENT_TYPE_STRING) {
    std::vector<int64_t> dims;
    const std::vector<std::string> texts = strings_of(value, element, &dims);
    return {{"type", "string"}, {"dims", dims}, {"values", texts}};
  }
  const HostTensor tensor = tensor_of(value, element);
  Json values = Json::array();
  for (int64_t i = 0; i < element_count(tensor.type); ++i) {
    const std::string text = element_text(tensor, i);
    const Json number = Json::parse(text, nullptr, false); // "nan" and "inf" stay text
    values.push_back(number.is_discarded() ? Json(text) : number);
  }
  return {{"type", ingot_element_type_name(tensor.type.type)}, {"dims", tensor.type.dims}, {"values", values}};
}

Json to_json(const ingot_value_t *value) {
  switch (ingot_value_kind(value)) {
    case INGOT_VALUE_NONE: return nullptr;
    case INGOT_VALUE_LIST: {
      Json elements = Json::array();
      for (size_t i = 0; i < ingot_value_count(value); ++i) elements.push_back(element_json(value, uint32_t(i)));
      const ElementType type = ingot_value_list_type(value);
      return {{"list", type == INGOT_ELEMENT_TYPE_NONE ? "none" : ingot_element_type_name(type)}, {"elements", elements}};
    }
    default: return element_json(value, INGOT_NONE);
  }
}

std::string dump(const Json &json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string element_disagreement(const ingot_value_t *a, const ingot_value_t *r, uint32_t element, const Tolerance &tolerance) {
  if (type_of(a, element) != type_of(r, element))
    return std::string("is ") + ingot_element_type_name(type_of(a, element)) + ", expected " + ingot_element_type_name(type_of(r, element));
  if (type_of(r, element) != INGOT_ELEMENT_TYPE_STRING) return disagreement(tensor_of(a, element), tensor_of(r, element), tolerance);
  std::vector<int64_t> dims, wanted;
  const auto texts = strings_of(a, element, &dims), expected = strings_of(r, element, &wanted);
  if (dims != wanted)
    return "is " + to_text(TensorType{INGOT_ELEMENT_TYPE_STRING, dims}) + ", expected " + to_text(TensorType{INGOT_ELEMENT_TYPE_STRING, wanted});
  for (size_t i = 0; i < texts.size(); ++i)
    if (texts[i] != expected[i])
      return "string " + std::to_string(i) + " is " + dump(texts[i]) + ", expected " + dump(expected[i]);
  return "";
}

} // namespace

bool is_value_type(ElementType type) { return type == INGOT_ELEMENT_TYPE_STRING || type == INGOT_ELEMENT_TYPE_VALUE; }

ValuePtr make_value() {
  ingot_value_t *value = nullptr;
  ingot_error_t error;
  check_call(ingot_value_create(nullptr, &value, &error), error);
  return ValuePtr(value, ingot_value_release);
}

HostTensor parse_value(const std::string &body, const std::string &name, ElementType type) {
  Json json;
  std::filesystem::path folder;
  try {
    if (body.compare(0, 5, "json:") == 0) {
      json = Json::parse(body.substr(5));
    } else if (body.size() > 6 && body[0] == '@' && body.compare(body.size() - 5, 5, ".json") == 0) {
      const Bytes bytes = read_file(body.substr(1));
      folder = std::filesystem::path(body.substr(1)).parent_path();
      json = Json::parse(bytes.data(), bytes.data() + bytes.size());
    } else {
      misuse("'" + name + "' is " + ingot_element_type_name(type) + ": write @FILE.json or json:TEXT, as in " + name + "=json:[\"a\", \"b\"]");
    }
    HostTensor out{{type, {}}, Bytes()};
    out.value = Reader("'" + name + "'", folder).value(json);
    if (type == INGOT_ELEMENT_TYPE_STRING) {
      if (ingot_value_kind(out.value.get()) != INGOT_VALUE_STRINGS) misuse("'" + name + "' takes strings");
      strings_of(out.value.get(), INGOT_NONE, &out.type.dims);
    }
    return out;
  } catch (const Json::exception &error) {
    misuse("'" + name + "': " + error.what());
  }
}

std::string value_text(const HostTensor &tensor) { return dump(to_json(tensor.value.get())); }

void write_value(const std::string &path, const HostTensor &tensor) {
  const std::string text = value_text(tensor) + "\n";
  const void *part = text.data();
  const size_t size = text.size();
  write_file(path, &part, &size, 1);
}

std::string value_disagreement(const HostTensor &actual, const HostTensor &reference, const Tolerance &tolerance) {
  const ingot_value_t *a = actual.value.get(), *r = reference.value.get();
  static constexpr const char *kKinds[] = {"nothing", "a tensor", "strings", "a list"};
  if (ingot_value_kind(a) != ingot_value_kind(r))
    return std::string("is ") + kKinds[ingot_value_kind(a)] + ", expected " + kKinds[ingot_value_kind(r)];
  if (ingot_value_kind(r) == INGOT_VALUE_NONE) return "";
  if (ingot_value_kind(r) != INGOT_VALUE_LIST) return element_disagreement(a, r, INGOT_NONE, tolerance);
  if (ingot_value_count(a) != ingot_value_count(r))
    return "has " + std::to_string(ingot_value_count(a)) + " elements, expected " + std::to_string(ingot_value_count(r));
  for (size_t i = 0; i < ingot_value_count(r); ++i)
    if (const std::string why = element_disagreement(a, r, uint32_t(i), tolerance); !why.empty())
      return "element " + std::to_string(i) + " " + why;
  return "";
}

} // namespace ingot::tool
