#include "tools/ingot/spec.h"

#include <charconv>
#include <cmath>
#include <cstring>

#include "tools/ingot/failure.h"
#include "tools/ingot/npy.h"
#include "tools/ingot/value_json.h"

namespace ingot::tool {

namespace {

std::string names_of(const std::vector<Signature> &signature) {
  if (signature.empty()) return "there is none";
  std::string out = "there are";
  for (const Signature &s : signature) out += (&s == &signature[0] ? " '" : ", '") + s.name + "'";
  return out;
}

bool starts_with(const std::string &text, const std::string &head) {
  return text.compare(0, head.size(), head) == 0;
}

// Could this be a spec without a name?
bool is_body(const std::string &text) {
  if (text == "-" || starts_with(text, "@") || starts_with(text, "random:") || starts_with(text, "json:")) return true;
  TensorType type;
  return parse_type(text.substr(0, text.find('=')), &type);
}

// "A spec may not be that": shows it, cut short, with the forms that exist.
[[noreturn]] void no_spec(const std::string &body, const std::string &why) {
  misuse("'" + body.substr(0, 80) + "' " + why +
         "; write TYPE=VALUE,... as in 2x3xf32=1,2,3,4,5,6, TYPE=random:SEED, TYPE=@FILE.bin, @FILE.npy or "
         "random:SEED");
}

uint64_t parse_seed(const std::string &text, const std::string &body) {
  uint64_t seed = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seed);
  if (text.empty() || error != std::errc() || end != text.data() + text.size())
    no_spec(body, "has no number as its seed");
  return seed;
}

bool set_from_text(HostTensor &tensor, int64_t index, const std::string &text) {
  const ElementType type = tensor.type.type;
  const char *begin = text.data(), *end = begin + text.size();
  if (type == INGOT_ELEMENT_TYPE_BOOL && (text == "true" || text == "false"))
    return set_element(tensor, index, text == "true");
  if (is_integer(type) || type == INGOT_ELEMENT_TYPE_BOOL) {
    int64_t value = 0;
    auto result = std::from_chars(begin, end, value);
    if (result.ec == std::errc() && result.ptr == end) return set_integer(tensor, index, value);
    uint64_t large = 0;
    result = std::from_chars(begin, end, large);
    return result.ec == std::errc() && result.ptr == end && set_unsigned(tensor, index, large);
  }
  if (begin != end && *begin == '+') ++begin;
  double value = 0; // from_chars knows inf and nan
  const auto result = std::from_chars(begin, end, value);
  return result.ec == std::errc() && result.ptr == end && set_element(tensor, index, value);
}

HostTensor from_values(const std::string &body, TensorType type, const std::string &values) {
  HostTensor tensor = make_tensor(std::move(type));
  const int64_t count = element_count(tensor.type);
  int64_t given = 0;
  for (size_t at = 0; at <= values.size() && !(values.empty() && count == 0);) {
    size_t comma = values.find(',', at);
    if (comma == std::string::npos) comma = values.size();
    size_t first = at, last = comma;
    while (first < last && values[first] == ' ') ++first;
    while (last > first && values[last - 1] == ' ') --last;
    const std::string text = values.substr(first, last - first);
    HostTensor probe; // a value too many must still be counted, not written
    HostTensor *to = &tensor;
    if (given >= count) {
      probe = make_tensor({tensor.type.type, {1}});
      to = &probe;
    }
    if (!set_from_text(*to, given >= count ? 0 : given, text))
      misuse("'" + body.substr(0, 80) + "': value " + std::to_string(given) + ", '" + text.substr(0, 40) +
             "', is no " + ingot_element_type_name(tensor.type.type));
    ++given;
    at = comma + 1;
  }
  if (given == 1 && count > 1) {
    for (int64_t i = 1; i < count; ++i) {
      if (is_complex(tensor.type.type))
        set_element(tensor, i, element(tensor, 0));
      else
        set_element_bits(tensor, i, element_bits(tensor, 0));
    }
  } else if (given != count) {
    misuse(format("'%s': %lld values for the %lld elements of %s; give one for all, or one each",
                  body.substr(0, 80).c_str(), (long long)given, (long long)count,
                  to_text(tensor.type).c_str()));
  }
  return tensor;
}

} // namespace

std::vector<NamedSpec> resolve_names(const std::vector<std::string> &specs,
                                     const std::vector<Signature> &signature, const char *kind) {
  std::vector<NamedSpec> out;
  std::vector<bool> taken(signature.size(), false);
  uint32_t position = 0;
  for (const std::string &spec : specs) {
    uint32_t index = INGOT_NONE;
    size_t longest = 0;
    for (uint32_t i = 0; i < signature.size(); ++i) { // names may hold '=', so the longest that matches counts
      const std::string &name = signature[i].name;
      if (name.size() >= longest && starts_with(spec, name + "=") && is_body(spec.substr(name.size() + 1))) {
        index = i;
        longest = name.size();
      }
    }
    std::string body = spec;
    if (index != INGOT_NONE) {
      body = spec.substr(longest + 1);
    } else if (is_body(spec)) {
      index = position++;
      if (index >= signature.size())
        misuse(format("more --%ss than the function has: it has %zu", kind, signature.size()));
    } else {
      for (const Signature &s : signature)
        if (starts_with(spec, s.name + "="))
          no_spec(spec.substr(s.name.size() + 1), std::string("is no value for ") + kind + " '" + s.name + "'");
      const size_t equals = spec.find('=');
      if (equals != std::string::npos && is_body(spec.substr(equals + 1)))
        misuse(std::string("no ") + kind + " is called '" + spec.substr(0, equals) +
               "': " + names_of(signature));
      no_spec(spec, std::string("describes no ") + kind);
    }
    if (taken[index]) misuse(std::string(kind) + " '" + signature[index].name + "' is given twice");
    taken[index] = true;
    out.push_back({index, body});
  }
  return out;
}

HostTensor parse_tensor(const std::string &body, const Signature &signature) {
  if (is_value_type(signature.type.type)) return parse_value(body, signature.name, signature.type.type);
  if (starts_with(body, "@")) {
    const std::string path = body.substr(1);
    if (path.size() >= 4 && path.compare(path.size() - 4, 4, ".bin") == 0)
      misuse("'" + body + "': raw bytes need a type in front, as in " + to_text(signature.type) + "=" + body);
    return to_tensor(read_npy(path), signature.type.type, path);
  }
  if (starts_with(body, "random:")) {
    for (int64_t dim : signature.type.dims)
      if (dim < 0)
        misuse("'" + signature.name + "' is " + to_text(signature.type) + ": say which shape, as in " +
               signature.name + "=1x3x48x320xf32=" + body);
    HostTensor tensor = make_tensor(signature.type);
    fill_random(tensor, parse_seed(body.substr(7), body));
    return tensor;
  }
  const size_t equals = body.find('=');
  TensorType type;
  if (!parse_type(body.substr(0, equals), &type)) no_spec(body, "does not begin with a type");
  element_count(type); // refuses what is too large
  const std::string rest = equals == std::string::npos ? "random:0" : body.substr(equals + 1);
  if (starts_with(rest, "random:")) {
    HostTensor tensor = make_tensor(type);
    fill_random(tensor, parse_seed(rest.substr(7), body));
    return tensor;
  }
  if (starts_with(rest, "@")) {
    const std::string path = rest.substr(1);
    if (path.size() >= 4 && path.compare(path.size() - 4, 4, ".npy") == 0) {
      HostTensor tensor = to_tensor(read_npy(path), type.type, path);
      if (!(tensor.type == type))
        fail(path + ": holds " + to_text(tensor.type) + ", but " + to_text(type) + " stands in front");
      return tensor;
    }
    Bytes bytes = read_file(path);
    if (bytes.size() != byte_size(type))
      fail(format("%s: %zu bytes, but %s takes %zu", path.c_str(), bytes.size(), to_text(type).c_str(),
                  byte_size(type)));
    return {type, std::move(bytes)};
  }
  return from_values(body, type, rest);
}

void fill_random(HostTensor &tensor, uint64_t seed) {
  const int64_t count = element_count(tensor.type);
  const ElementType type = tensor.type.type;
  uint64_t state = seed;
  const auto draw = [&] { // splitmix64
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
  };
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t bits = draw();
    const double unit = double(bits >> 11) * 0x1p-53;
    if (type == INGOT_ELEMENT_TYPE_F32) {
      const float value = float(unit * 2 - 1);
      std::memcpy(tensor.bytes.data() + i * 4, &value, 4);
    } else if (type == INGOT_ELEMENT_TYPE_BOOL) {
      set_element_bits(tensor, i, bits >> 63);
    } else if (is_integer(type)) {
      const uint32_t width = ingot_element_type_bits(type);
      const uint64_t range = type == INGOT_ELEMENT_TYPE_U8 ? 256 : width >= 8 ? 10 : width == 4 ? 8 : 2;
      set_element_bits(tensor, i, (bits >> 32) % range);
    } else if (type == INGOT_ELEMENT_TYPE_F8E8M0) {
      set_element_bits(tensor, i, 124 + (bits >> 32) % 7);
    } else if (type == INGOT_ELEMENT_TYPE_COMPLEX64) {
      const float pair[2] = {float(unit * 2 - 1), float(double(draw() >> 11) * 0x1p-52 - 1)};
      std::memcpy(tensor.bytes.data() + i * 8, pair, 8);
    } else if (type == INGOT_ELEMENT_TYPE_COMPLEX128) {
      const double pair[2] = {unit * 2 - 1, double(draw() >> 11) * 0x1p-52 - 1};
      std::memcpy(tensor.bytes.data() + i * 16, pair, 16);
    } else {
      set_element(tensor, i, unit * 2 - 1);
    }
  }
}

} // namespace ingot::tool
