// ai.onnx.ml on numbers: Binarizer, ArrayFeatureExtractor, LabelEncoder, TreeEnsemble.
#include "aotc/import/onnx/ml.h"

#include <algorithm>
#include <cmath>

#include "aotc/graph/constant.h"
#include "aotc/import/onnx/algebra.h"

namespace ingot::aotc::importer {

namespace {

constexpr ElementType kI64 = ElementType::kI64;

ValueId table(Node &n, const std::vector<int64_t> &values) {
  return n.b.constant({kI64, {Expr(static_cast<int64_t>(values.size()))}}, graph::make_ints(kI64, values));
}

ValueId table(Node &n, ElementType e, const std::vector<double> &values) {
  return n.b.constant({e, {Expr(static_cast<int64_t>(values.size()))}}, graph::make_floats(e, values));
}

// An attribute that is a tensor of numbers.
struct Numbers {
  ElementType element = ElementType::kNone;
  std::vector<double> values;
};

Numbers tensor_attr(Node &n, const char *name) {
  Numbers out;
  const onnx::AttributeProto *a = n.attribute(name);
  if (!a)
    return out;
  std::string error = "it is no tensor";
  const ValuePtr v = a->has_t() ? n.importer().constant(a->t(), error) : nullptr;
  if (!v || v->narrow)
    n.fail(std::string("attribute '") + name + "': " + (v ? "its element type is not supported" : error));
  out.element = v->type.element;
  const size_t count = v->data->bytes.size() / byte_size(v->data->type);
  for (size_t i = 0; i < count; ++i)
    out.values.push_back(graph::read_float(*v->data, i));
  return out;
}

std::vector<int64_t> need_ints(Node &n, const char *name, size_t count) {
  const auto values = n.ints_attr(name);
  if (!values || values->size() != count)
    n.fail(std::string("attribute '") + name + "' has " + std::to_string(values ? values->size() : 0) + " elements, expected " + std::to_string(count));
  return *values;
}

// x > threshold as 1 and 0 of x's type
void import_binarizer(Node &n) {
  n.need_inputs(1, 1);
  Algebra a(n);
  const ValueId x = n.lift(n.in(0));
  const ValueId above = a.lt(a.number(x, n.float_attr("threshold", 0)), x);
  n.set(0, n.b.convert(n.element(0), above));
}

// x[..., y]
void import_array_feature_extractor(Node &n) {
  n.need_inputs(2, 2);
  if (n.rank(0) < 1 || is_float(n.element(1)))
    n.fail("takes a tensor and integer indices, got " + n.describe_types());
  const Expr count = n.type(1).elements();
  const ValueId y = n.b.gather(n.in(0), n.reshape(n.in(1), {count}), static_cast<uint32_t>(n.rank(0) - 1));
  n.set(0, n.rank(0) == 1 ? n.reshape(y, {Expr(1), count}) : y);
}

} // namespace

bool encodes_numbers(Node &n) {
  constexpr int64_t kExact = int64_t{1} << 53; // of the doubles that tables are made of
  if (n.opset < 2)
    return false;
  for (const char *name : {"keys_strings", "values_strings"})
    if (n.attribute(name))
      return false;
  for (const char *name : {"keys_tensor", "values_tensor", "default_tensor"})
    if (const auto *a = n.attribute(name); a && a->t().data_type() != onnx::TensorProto::FLOAT && a->t().data_type() != onnx::TensorProto::DOUBLE &&
                                           a->t().data_type() != onnx::TensorProto::INT32 && a->t().data_type() != onnx::TensorProto::INT16)
      return false;
  for (const char *name : {"keys_int64s", "values_int64s"})
    if (const auto values = n.ints_attr(name))
      for (const int64_t v : *values)
        if (v > kExact || v < -kExact)
          return false;
  return true;
}

// A key becomes its value, anything else the default: the key's place is looked for, then its value fetched.
void import_numeric_label_encoder(Node &n) {
  n.need_inputs(1, 1);
  const auto list = [&](const char *ints, const char *floats, const char *tensor) {
    Numbers out;
    if (const auto values = n.ints_attr(ints)) {
      out.element = kI64;
      out.values.assign(values->begin(), values->end());
    } else if (n.attribute(floats)) {
      const std::vector<float> numbers = n.floats_attr(floats);
      out.element = ElementType::kF32;
      out.values.assign(numbers.begin(), numbers.end());
    } else {
      out = tensor_attr(n, tensor);
    }
    return out;
  };
  const Numbers keys = list("keys_int64s", "keys_floats", "keys_tensor");
  Numbers values = list("values_int64s", "values_floats", "values_tensor");
  if (keys.values.empty() || keys.values.size() != values.values.size())
    n.fail("has " + std::to_string(keys.values.size()) + " keys and " + std::to_string(values.values.size()) + " values");
  if (n.element(0) != keys.element)
    n.fail("looks for keys of type " + std::string(name(keys.element)) + " in " + to_string(n.type(0)));
  double otherwise = is_float(values.element) ? -0.0 : -1;
  if (const Numbers tensor = tensor_attr(n, "default_tensor"); !tensor.values.empty())
    otherwise = tensor.values[0];
  else if (values.element == kI64)
    otherwise = static_cast<double>(n.int_attr("default_int64", -1));
  else if (values.element == ElementType::kF32)
    otherwise = n.float_attr("default_float", -0.0f);
  // Of equal keys the last one counts; place 0 is for what is no key.
  std::vector<double> kept_keys, kept_values = {otherwise};
  for (size_t i = 0; i < keys.values.size(); ++i) {
    const bool again = std::any_of(keys.values.begin() + static_cast<long>(i) + 1, keys.values.end(), [&](double k) {
      return k == keys.values[i] || (std::isnan(k) && std::isnan(keys.values[i]));
    });
    if (again)
      continue;
    kept_keys.push_back(keys.values[i]);
    kept_values.push_back(values.values[i]);
  }
  const auto constants = [&](ElementType e, const std::vector<double> &numbers) {
    return is_float(e) ? table(n, e, numbers)
                       : n.b.constant({e, {Expr(static_cast<int64_t>(numbers.size()))}}, graph::make_ints(e, {numbers.begin(), numbers.end()}));
  };
  Algebra a(n);
  const Expr count = n.type(0).elements();
  const ValueId x = n.reshape(n.in(0), {count, 1}), k = n.reshape(constants(keys.element, kept_keys), {Expr(1), Expr(static_cast<int64_t>(kept_keys.size()))});
  ValueId same = a.eq(x, k);
  if (is_float(keys.element))
    same = a.map(K::kOr, same, a.both(a.map(K::kIsNan, x), a.map(K::kIsNan, k)));
  const ValueId places = a.select(same, n.reshape(a.iota(kI64, Expr(static_cast<int64_t>(kept_keys.size())), 1, 2), {Expr(1), Expr(static_cast<int64_t>(kept_keys.size()))}), a.number(kI64, -1.0));
  const ValueId place = a.add(n.b.reduce(dispatch::ReduceKind::kMax, places, {1}), 1);
  n.set(0, n.reshape(n.b.gather(constants(values.element, kept_values), place, 0), n.dims(0)));
}

namespace {

// --- TreeEnsemble: all rows go down all trees together, one level a step. Leaves follow the nodes in one list, and a leaf
// is its own successor, so that the depth of the deepest tree serves for all.

enum Mode : int64_t { kLessEqual, kLess, kGreaterEqual, kGreater, kEqual, kNotEqual, kMember };

struct Trees {
  std::vector<int64_t> roots, feature, mode, yes, no, missing;
  std::vector<double> split;
  std::vector<int64_t> target;
  std::vector<double> weight;
  std::vector<int64_t> member_node; // of each value that a membership test holds
  std::vector<double> member_value;
  size_t nodes = 0;
  int64_t depth = 0;
};

Trees read_trees(Node &n) {
  Trees t;
  const Numbers splits = tensor_attr(n, "nodes_splits"), modes = tensor_attr(n, "nodes_modes"), weights = tensor_attr(n, "leaf_weights");
  t.nodes = splits.values.size();
  const size_t leaves = weights.values.size();
  if (!t.nodes || !leaves || modes.values.size() != t.nodes)
    n.fail("has " + std::to_string(t.nodes) + " splits, " + std::to_string(modes.values.size()) + " modes and " + std::to_string(leaves) + " leaves");
  t.roots = n.ints_attr("tree_roots").value_or(std::vector<int64_t>{});
  t.feature = need_ints(n, "nodes_featureids", t.nodes);
  t.target = need_ints(n, "leaf_targetids", leaves);
  t.weight = weights.values;
  t.split = splits.values;
  t.missing = n.attribute("nodes_missing_value_tracks_true") ? need_ints(n, "nodes_missing_value_tracks_true", t.nodes) : std::vector<int64_t>(t.nodes, 0);
  const auto successors = [&](const char *ids, const char *flags) {
    std::vector<int64_t> out = need_ints(n, ids, t.nodes);
    const std::vector<int64_t> leaf = need_ints(n, flags, t.nodes);
    for (size_t i = 0; i < out.size(); ++i) {
      if (out[i] < 0 || out[i] >= static_cast<int64_t>(leaf[i] ? leaves : t.nodes))
        n.fail(std::string("attribute '") + ids + "' names " + (leaf[i] ? "leaf " : "node ") + std::to_string(out[i]) + ", which does not exist");
      out[i] += leaf[i] ? static_cast<int64_t>(t.nodes) : 0;
    }
    return out;
  };
  t.yes = successors("nodes_truenodeids", "nodes_trueleafs");
  t.no = successors("nodes_falsenodeids", "nodes_falseleafs");
  const Numbers members = tensor_attr(n, "membership_values");
  size_t next = 0;
  for (size_t i = 0; i < t.nodes; ++i) {
    t.mode.push_back(static_cast<int64_t>(modes.values[i]));
    if (t.mode[i] < kLessEqual || t.mode[i] > kMember)
      n.fail("mode " + std::to_string(t.mode[i]) + " of node " + std::to_string(i) + " is unknown");
    if (t.mode[i] != kMember)
      continue;
    for (; next < members.values.size() && !std::isnan(members.values[next]); ++next) {
      t.member_node.push_back(static_cast<int64_t>(i));
      t.member_value.push_back(members.values[next]);
    }
    ++next; // the NaN behind each list
  }
  // Depth: an edge to a node of a lower number could close a circle, in which a row would go round for ever.
  std::vector<int64_t> level(t.nodes, -1);
  std::vector<int64_t> open;
  for (int64_t root : t.roots) {
    if (root < 0 || root >= static_cast<int64_t>(t.nodes))
      n.fail("root " + std::to_string(root) + " does not exist");
    level[static_cast<size_t>(root)] = 1;
    open.push_back(root);
  }
  while (!open.empty()) {
    const size_t i = static_cast<size_t>(open.back());
    open.pop_back();
    t.depth = std::max(t.depth, level[i]);
    if (level[i] > static_cast<int64_t>(t.nodes))
      n.fail("its nodes form a circle");
    for (int64_t to : {t.yes[i], t.no[i]})
      if (to < static_cast<int64_t>(t.nodes) && level[static_cast<size_t>(to)] < level[i] + 1) {
        level[static_cast<size_t>(to)] = level[i] + 1;
        open.push_back(to);
      }
  }
  // A leaf leads to itself.
  for (size_t i = 0; i < leaves; ++i)
    for (std::vector<int64_t> *list : {&t.yes, &t.no})
      list->push_back(static_cast<int64_t>(t.nodes + i));
  t.feature.resize(t.nodes + leaves, 0);
  t.mode.resize(t.nodes + leaves, kLessEqual);
  t.missing.resize(t.nodes + leaves, 0);
  t.split.resize(t.nodes + leaves, 0);
  return t;
}

ValueId post_transform(Node &n, ValueId y) {
  Algebra a(n);
  switch (n.int_attr("post_transform", 0)) {
  case 0: return y;
  case 1: {
    const Dims to = n.dims_of(y);
    const ValueId largest = n.keep_axes(n.b.reduce(dispatch::ReduceKind::kMax, y, {1}), {1}, to);
    const ValueId e = a.map(K::kExp, a.sub(y, largest));
    return a.div(e, n.keep_axes(a.sum(e, {1}), {1}, to));
  }
  case 2: return a.map(K::kSigmoid, y);
  default: n.fail("post_transform " + std::to_string(n.int_attr("post_transform", 0)) + " is not supported", "0 (none), 1 (softmax) and 2 (logistic) are");
  }
}

void import_tree_ensemble(Node &n) {
  n.need_inputs(1, 1);
  n.need_float(0);
  if (n.rank(0) != 2)
    n.fail("takes rows of features, got " + to_string(n.type(0)));
  const Trees t = read_trees(n);
  const int64_t targets = n.int_attr("n_targets", 1), aggregate = n.int_attr("aggregate_function", 1);
  if (t.roots.empty() || targets < 1 || aggregate < 0 || aggregate > 3)
    n.fail("has " + std::to_string(t.roots.size()) + " trees, " + std::to_string(targets) + " targets, aggregate function " + std::to_string(aggregate));
  for (int64_t target : t.target)
    if (target < 0 || target >= targets)
      n.fail("a leaf names target " + std::to_string(target) + " of " + std::to_string(targets));
  const Expr rows = n.dims(0)[0], features = n.dims(0)[1];
  for (size_t i = 0; i < t.nodes; ++i)
    if (t.feature[i] < 0 || (features.constant() && t.feature[i] >= *features.constant()))
      n.fail("node " + std::to_string(i) + " looks at feature " + std::to_string(t.feature[i]) + " of " + features.to_string());
  Algebra a(n);
  const ValueId x = n.lift(n.in(0)), flat = n.reshape(x, {rows * features});
  const ElementType e = a.element(x);
  const Expr trees = static_cast<int64_t>(t.roots.size());
  const Dims both = {rows, trees};
  const ValueId feature = table(n, t.feature), mode = table(n, t.mode), yes = table(n, t.yes), no = table(n, t.no),
                missing = table(n, t.missing), split = table(n, e, t.split);
  const ValueId row_start = a.mul(n.reshape(a.iota(kI64, rows, 0, 2), {rows, 1}), a.number(kI64, features));
  const ValueId start = a.spread(n.reshape(table(n, t.roots), {1, trees}), both);
  const auto results = counted_loop(n, t.depth, {start}, [&](const Expr &, const std::vector<ValueId> &old) {
    const ValueId node = old[0];
    const auto of = [&](ValueId list) { return n.b.gather(list, node, 0); };
    const ValueId v = n.b.gather(flat, a.add(a.spread(row_start, both), of(feature)), 0), s = of(split), m = of(mode);
    const auto is = [&](Mode which) { return a.eq(m, a.number(kI64, static_cast<double>(which))); };
    const auto no_value = n.b.splat_int(ElementType::kBool, both, 0);
    ValueId holds = no_value;
    const auto where = [&](Mode which, ValueId test) { holds = a.select(is(which), test, holds); };
    where(kLessEqual, a.le(v, s));
    where(kLess, a.lt(v, s));
    where(kGreaterEqual, a.le(s, v));
    where(kGreater, a.lt(s, v));
    where(kEqual, a.eq(v, s));
    where(kNotEqual, a.map(K::kNot, a.eq(v, s)));
    if (!t.member_node.empty()) {
      const Expr count = static_cast<int64_t>(t.member_node.size());
      const ValueId owner = a.eq(n.reshape(node, {rows, trees, 1}), n.reshape(table(n, t.member_node), {1, 1, count}));
      const ValueId equal = a.eq(n.reshape(v, {rows, trees, 1}), n.reshape(table(n, e, t.member_value), {1, 1, count}));
      const ValueId hits = a.sum(n.b.convert(kI64, a.both(owner, equal)), {2});
      where(kMember, a.lt(a.number(kI64, 0.0), hits));
    }
    holds = a.map(K::kOr, holds, a.both(a.map(K::kIsNan, v), a.eq(of(missing), a.number(kI64, 1.0))));
    return std::vector<ValueId>{a.select(holds, of(yes), of(no))};
  });
  const ValueId leaf = a.sub(results[0], static_cast<double>(t.nodes));
  const Dims deep = {rows, trees, Expr(targets)};
  const ValueId weight = n.reshape(n.b.gather(table(n, e, t.weight), leaf, 0), {rows, trees, 1});
  const ValueId target = n.reshape(n.b.gather(table(n, t.target), leaf, 0), {rows, trees, 1});
  const ValueId hit = a.spread(a.eq(target, n.reshape(a.iota(kI64, targets, 2, 3), {1, 1, Expr(targets)})), deep);
  ValueId y;
  if (aggregate <= 1) {
    y = a.sum(a.select(hit, weight, a.number(e, 0.0)), {1});
    if (aggregate == 0)
      y = a.div(y, static_cast<double>(t.roots.size()));
  } else {
    const bool least = aggregate == 2;
    const double none = least ? HUGE_VAL : -HUGE_VAL;
    y = n.b.reduce(least ? dispatch::ReduceKind::kMin : dispatch::ReduceKind::kMax, a.select(hit, weight, a.number(e, none)), {1});
    y = a.select(a.eq(y, a.number(e, none)), a.number(e, 0.0), y); // no tree speaks of this target
  }
  n.set(0, n.lower(n.element(0), post_transform(n, y)));
}

} // namespace

std::vector<OperatorRow> ml_operators() {
  return {
      {"ai.onnx.ml", "ArrayFeatureExtractor", 1, 5, import_array_feature_extractor},
      {"ai.onnx.ml", "Binarizer", 1, 5, import_binarizer},
      {"ai.onnx.ml", "TreeEnsemble", 5, 5, import_tree_ensemble},
  };
}

} // namespace ingot::aotc::importer
