// Operators on strings, and those whose work is look-up: LabelEncoder, TfIdfVectorizer; ImageDecoder. All are host ops:
// the runtime does them, tensors go through host memory.
#include "aotc/graph/constant.h"
#include "aotc/import/onnx/host_values.h"
#include "aotc/import/onnx/ml.h"
#include "aotc/import/onnx/regex.h"

namespace ingot::aotc::importer {

namespace {

using A = onnx::AttributeProto;

void need_strings(Node &n, size_t i) {
  if (!n.is_strings(i))
    n.fail("input " + std::to_string(i) + " is " + to_string(n.type(i)) + ", expected strings");
}

std::vector<std::string> strings_attr(Node &n, const char *name) {
  const A *a = n.attribute(name);
  if (!a)
    return {};
  if (a->type() != A::STRINGS)
    n.fail(std::string("attribute '") + name + "' has the wrong kind, expected strings");
  return {a->strings().begin(), a->strings().end()};
}

ValueId strings_list(Node &n, const std::vector<std::string> &texts) {
  return strings_constant(n.b, {Expr(static_cast<int64_t>(texts.size()))}, texts);
}

// Strings of which the last dim is found while running.
void set_strings(Node &n, size_t output, ValueId value, Dims dims) {
  std::vector<Symbol> symbols;
  for (size_t i = 0; i < dims.size(); ++i)
    symbols.push_back(Symbol::host(n.importer().unique_symbol(n.name + "_dim" + std::to_string(i)), 0, kMaxDim));
  n.b.host(HostOp::shape, {value}, {}, {}, symbols, {static_cast<int64_t>(graph::kHostValue)});
  dims.back() = symbols.back();
  n.set_host_value(output, host_op(n, HostOp::copy, {value}, dims), strings_type());
}

void import_string_concat(Node &n) {
  n.need_inputs(2, 2);
  need_strings(n, 0);
  need_strings(n, 1);
  n.set_host_value(0, host_op(n, HostOp::join, {n.in(0), n.in(1)}, n.broadcast_dims(n.dims(0), n.dims(1))), strings_type());
}

void import_string_split(Node &n) {
  n.need_inputs(1, 1);
  need_strings(n, 0);
  const std::string delimiter = n.string_attr("delimiter", "");
  const int64_t most = n.int_attr("maxsplit", -1);
  if (most > 0x7ffffffe)
    n.fail("attribute 'maxsplit' is " + std::to_string(most));
  std::vector<ValueId> sources = {n.in(0)};
  if (!delimiter.empty())
    sources.push_back(strings_list(n, {delimiter}));
  Dims dims = n.dims(0);
  dims.push_back(0);
  n.check_dims(dims);
  const std::vector<ValueId> results = n.b.host(HostOp::tokenize, sources, {{graph::kHostValue, dims}, {graph::kHostValue, n.dims(0)}}, {}, {},
                                                {most < 0 ? 0 : most + 1});
  set_strings(n, 0, results[0], dims);
  n.set(1, unbox(n, results[1], ElementType::kI64, n.dims(0)));
}

void import_string_normalizer(Node &n) {
  n.need_inputs(1, 1);
  need_strings(n, 0);
  const std::string action = n.string_attr("case_change_action", "NONE");
  const int64_t code = action == "NONE" ? 0 : action == "LOWER" ? 1 : action == "UPPER" ? 2 : -1;
  if (code < 0)
    n.fail("attribute 'case_change_action' is '" + action + "', expected NONE, LOWER or UPPER");
  if (n.rank(0) < 1 || n.rank(0) > 2)
    n.fail("takes strings of [n] or [1, n], got " + to_string(n.type(0)));
  if (n.rank(0) == 2)
    n.require_equal(n.dims(0)[0], 1, "rows of the input");
  const ValueId y = host_op(n, HostOp::normalize, {n.in(0), strings_list(n, strings_attr(n, "stopwords"))}, n.dims(0), {},
                            {code, n.int_attr("is_case_sensitive", 0) != 0});
  set_strings(n, 0, y, n.dims(0));
}

void import_regex(Node &n) {
  n.need_inputs(1, 1);
  need_strings(n, 0);
  const std::string pattern = n.string_attr("pattern", "");
  std::string error;
  const auto words = compile_regex(pattern, error);
  if (!words)
    n.fail("pattern '" + pattern + "': " + error, "the syntax is RE2's");
  const ValueId automaton = numbers_constant(n.b, ElementType::kI32, *words);
  n.set(0, unbox(n, host_op(n, HostOp::match, {n.in(0), automaton}, n.dims(0)), ElementType::kBool, n.dims(0)));
}

// ---- LabelEncoder

// One side of the mapping, as a host constant.
struct Side {
  ValueId values = graph::kNoValue;
  ElementType element = graph::kHostValue; // strings
  int64_t count = -1;
};

Side side_of(Node &n, const std::string &prefix) {
  Side side;
  const auto list = [&](const char *suffix) { return n.attribute((prefix + suffix).c_str()); };
  if (list("_strings")) {
    const auto texts = strings_attr(n, (prefix + "_strings").c_str());
    side.values = strings_list(n, texts);
    side.count = static_cast<int64_t>(texts.size());
  } else if (list("_int64s")) {
    const auto ints = *n.ints_attr((prefix + "_int64s").c_str());
    side = {numbers_constant(n.b, ElementType::kI64, ints), ElementType::kI64, static_cast<int64_t>(ints.size())};
  } else if (list("_floats")) {
    const std::vector<float> floats = n.floats_attr((prefix + "_floats").c_str());
    side.element = ElementType::kF32;
    side.count = static_cast<int64_t>(floats.size());
    side.values = n.b.host_constant({Expr(side.count)}, graph::make_floats(side.element, {floats.begin(), floats.end()}));
  } else if (const A *a = list("_tensor"); a && a->has_t()) {
    std::string error;
    const ValuePtr v = n.importer().constant(a->t(), error);
    if (!v || v->narrow || !v->type.elements().constant())
      n.fail("attribute '" + prefix + "_tensor' is not supported" + (error.empty() ? "" : ": " + error));
    side.element = v->type.element;
    side.count = *v->type.elements().constant();
    side.values = v->host_type ? v->id : n.b.host_constant(v->type.dims, v->data);
  }
  return side;
}

Side default_of(Node &n, ElementType element) {
  if (n.attribute("default_tensor")) {
    Side side = side_of(n, "default");
    if (side.element != element || side.count != 1)
      n.fail("attribute 'default_tensor' must be one element of the values' type");
    return side;
  }
  if (element == graph::kHostValue)
    return {strings_list(n, {n.string_attr("default_string", "_Unused")}), element, 1};
  if (is_float(element))
    return {n.b.host_constant({Expr(1)}, graph::make_floats(element, {n.float_attr("default_float", -0.0f)})), element, 1};
  return {numbers_constant(n.b, element, {n.int_attr("default_int64", -1)}), element, 1};
}

void import_label_encoder(Node &n) {
  if (encodes_numbers(n))
    return import_numeric_label_encoder(n); // on the device
  n.need_inputs(1, 1);
  Side keys, values;
  if (n.opset < 2) { // a list of labels: from either to the other
    const auto classes = strings_attr(n, "classes_strings");
    std::vector<int64_t> numbers;
    for (size_t i = 0; i < classes.size(); ++i)
      numbers.push_back(static_cast<int64_t>(i));
    const int64_t count = static_cast<int64_t>(classes.size());
    keys = {strings_list(n, classes), graph::kHostValue, count};
    values = {numbers_constant(n.b, ElementType::kI64, numbers), ElementType::kI64, count};
    if (!n.is_strings(0))
      std::swap(keys, values);
  } else {
    keys = side_of(n, "keys");
    values = side_of(n, "values");
  }
  if (keys.count < 0 || values.count != keys.count)
    n.fail("has " + std::to_string(keys.count) + " keys and " + std::to_string(values.count) + " values");
  if (n.element(0) != keys.element)
    n.fail("looks " + to_string(n.type(0)) + " up in keys of " + (keys.element == graph::kHostValue ? "strings" : std::string(name(keys.element))));
  const Side otherwise = default_of(n, values.element);
  const ValueId y = host_op(n, HostOp::lookup, {box(n, n.value(0)), keys.values, values.values, otherwise.values}, n.dims(0));
  if (values.element == graph::kHostValue)
    n.set_host_value(0, y, strings_type());
  else
    n.set(0, unbox(n, y, values.element, n.dims(0)));
}

// ---- TfIdfVectorizer

void import_tfidf(Node &n) {
  n.need_inputs(1, 1);
  if (n.rank(0) < 1 || n.rank(0) > 2)
    n.fail("takes [n] or [rows, n], got " + to_string(n.type(0)));
  const std::string mode = n.string_attr("mode", "TF");
  const int64_t code = mode == "TF" ? 0 : mode == "IDF" ? 1 : mode == "TFIDF" ? 2 : -1;
  const int64_t shortest = n.int_attr("min_gram_length", 1), longest = n.int_attr("max_gram_length", 1), skips = n.int_attr("max_skip_count", 0);
  const auto counts = n.ints_attr("ngram_counts").value_or(std::vector<int64_t>()), indexes = n.ints_attr("ngram_indexes").value_or(std::vector<int64_t>());
  if (code < 0 || shortest < 1 || longest < shortest || longest > 64 || skips < 0 || skips > 1 << 20 ||
      static_cast<int64_t>(counts.size()) < longest || indexes.empty())
    n.fail("has n-grams of " + std::to_string(shortest) + " to " + std::to_string(longest) + " elements with " + std::to_string(skips) +
           " skips, mode " + mode + ", " + std::to_string(counts.size()) + " counts and " + std::to_string(indexes.size()) + " indexes");
  int64_t width = 0;
  for (int64_t i : indexes) {
    if (i < 0 || i >= 0x7fffffff)
      n.fail("attribute 'ngram_indexes' holds " + std::to_string(i));
    width = std::max(width, i + 1);
  }
  ValueId x = n.in(0), pool;
  if (n.is_strings(0)) {
    pool = strings_list(n, strings_attr(n, "pool_strings"));
  } else {
    if (n.element(0) != ElementType::kI32 && n.element(0) != ElementType::kI64)
      n.fail("takes strings, i32 or i64, got " + to_string(n.type(0)));
    pool = numbers_constant(n.b, ElementType::kI64, n.ints_attr("pool_int64s").value_or(std::vector<int64_t>()));
    x = host_op(n, HostOp::box, {n.b.convert(ElementType::kI64, x)}, {}, n.dims(0));
  }
  const std::vector<float> weights = n.floats_attr("weights");
  if (!weights.empty() && weights.size() != indexes.size())
    n.fail("has " + std::to_string(weights.size()) + " weights for " + std::to_string(indexes.size()) + " n-grams");
  const ValueId weight = n.b.host_constant({Expr(static_cast<int64_t>(weights.size()))},
                                           graph::make_floats(ElementType::kF32, {weights.begin(), weights.end()}));
  const ValueId y = host_op(n, HostOp::tfidf, {x, pool, numbers_constant(n.b, ElementType::kI64, counts),
                                               numbers_constant(n.b, ElementType::kI64, indexes), weight},
                            {}, {}, {code, shortest, longest, skips});
  Dims dims = n.dims(0);
  dims.back() = width;
  n.set(0, unbox(n, y, ElementType::kF32, dims));
}

void import_image_decoder(Node &n) {
  n.need_inputs(1, 1);
  const std::string format = n.string_attr("pixel_format", "RGB");
  const int64_t code = format == "RGB" ? 0 : format == "BGR" ? 1 : format == "Grayscale" ? 2 : -1;
  if (code < 0)
    n.fail("attribute 'pixel_format' is '" + format + "', expected RGB, BGR or Grayscale");
  if (n.rank(0) != 1 || n.element(0) != ElementType::kU8)
    n.fail("takes the bytes of a file as u8[n], got " + to_string(n.type(0)));
  HostType picture;
  picture.element = ElementType::kU8;
  picture.rank = 3;
  n.set_value(0, unbox(n, host_op(n, HostOp::decode, {box(n, n.value(0))}, {}, {}, {code}), picture));
}

} // namespace

std::vector<OperatorRow> string_operators() {
  return {
      {"", "StringConcat", 20, kMaxOpset, import_string_concat},
      {"", "StringSplit", 20, kMaxOpset, import_string_split},
      {"", "StringNormalizer", 10, kMaxOpset, import_string_normalizer},
      {"", "RegexFullMatch", 20, kMaxOpset, import_regex},
      {"", "TfIdfVectorizer", 9, kMaxOpset, import_tfidf},
      {"", "ImageDecoder", 20, kMaxOpset, import_image_decoder},
      {"ai.onnx.ml", "LabelEncoder", 1, 5, import_label_encoder},
  };
}

} // namespace ingot::aotc::importer
