// Sums of products: MatMul, Gemm, Einsum.
#include <algorithm>

#include "aotc/import/onnx/math.h"

namespace ingot::aotc::importer {

namespace {

// before: y = MatMul(a[b,1,m,k], b[c,k,n]); after: contract bamk, ckn by labels; batch dims of 1 are dropped first
void import_matmul(Node &n) {
  n.need_inputs(2, 2);
  n.need_same_element(0, 1);
  if (n.element(0) == ElementType::kBool || n.rank(0) == 0 || n.rank(1) == 0)
    n.fail("takes numbers of rank 1 or more");
  Dims da = n.dims(0), db = n.dims(1);
  const bool row = da.size() == 1, column = db.size() == 1;
  const std::string what = to_string(n.type(0)) + " times " + to_string(n.type(1)) + ": inner dims";
  n.require_equal(da.back(), db[column ? 0 : db.size() - 2], what);
  std::string la, lb, result;
  Dims ra, rb; // operand dims without broadcast 1s
  Dims out;
  const size_t batch_a = row ? 0 : da.size() - 2, batch_b = column ? 0 : db.size() - 2, batch = std::max(batch_a, batch_b);
  for (size_t i = 0; i < batch; ++i) {
    const bool in_a = i + batch_a >= batch, in_b = i + batch_b >= batch;
    const Expr a = in_a ? da[i + batch_a - batch] : Expr(1), b = in_b ? db[i + batch_b - batch] : Expr(1);
    const Expr dim = n.broadcast_dim(a, b, to_string(n.type(0)) + " times " + to_string(n.type(1)) + ": batch dims");
    const char label = static_cast<char>('a' + i);
    const bool one_a = a == Expr(1), one_b = b == Expr(1);
    if (!one_a) {
      la += label;
      ra.push_back(a);
    }
    if (!one_b) {
      lb += label;
      rb.push_back(b);
    }
    if (!one_a || !one_b)
      result += label;
    out.push_back(dim);
  }
  if (!row) {
    la += 'm';
    ra.push_back(da[da.size() - 2]);
    result += 'm';
    out.push_back(da[da.size() - 2]);
  }
  la += 'k';
  ra.push_back(da.back());
  lb += 'k';
  rb.push_back(db[column ? 0 : db.size() - 2]);
  if (!column) {
    lb += 'n';
    rb.push_back(db.back());
    result += 'n';
    out.push_back(db.back());
  }
  n.check_dims(out);
  const ValueId y = n.b.contract(n.reshape(n.in(0), ra), n.reshape(n.in(1), rb), la, lb, result);
  n.set(0, n.reshape(y, out));
}

void import_gemm(Node &n) {
  n.need_inputs(n.opset < 11 ? 3 : 2, 3);
  n.need_same_element(0, 1);
  if (n.rank(0) != 2 || n.rank(1) != 2)
    n.fail("takes two matrices, got " + to_string(n.type(0)) + " and " + to_string(n.type(1)));
  const bool ta = n.int_attr("transA", 0) != 0, tb = n.int_attr("transB", 0) != 0;
  const double alpha = n.float_attr("alpha", 1), beta = n.float_attr("beta", 1);
  n.require_equal(n.dims(0)[ta ? 0 : 1], n.dims(1)[tb ? 1 : 0],
                  to_string(n.type(0)) + (ta ? " transposed" : "") + " times " + to_string(n.type(1)) +
                      (tb ? " transposed" : "") + ": inner dims");
  const ElementType e = n.element(0);
  ValueId y = n.b.contract(n.in(0), n.in(1), ta ? "km" : "mk", tb ? "nk" : "kn", "mn");
  // alpha and beta are floats; with integers the arithmetic is done in f64 if they are not whole.
  const auto scale = [&](ValueId x, double factor) {
    if (factor == 1)
      return x;
    if (is_float(e) || factor == static_cast<double>(static_cast<int64_t>(factor)))
      return n.b.map(K::kMul, {x, n.constant(x, factor)});
    const ValueId wide = n.b.convert(ElementType::kF64, x);
    return n.b.convert(e, n.b.map(K::kMul, {wide, n.constant(wide, factor)}));
  };
  y = scale(n.lift(y), alpha);
  if (n.has(2) && beta != 0) {
    n.need_same_element(0, 2);
    const Dims dims = n.dims_of(y);
    n.need_broadcasts_to(2, dims);
    y = n.b.map(K::kAdd, {y, n.broadcast_to(scale(n.lift(n.in(2)), beta), dims)});
  }
  n.set(0, n.lower(e, y));
}

// --- Einsum ---

struct Term {
  ValueId x;
  std::string labels;
};

// Takes the diagonal of axes that share a label: a mask where their indices agree, then a sum over all but the first.
Term diagonal(Node &n, Term term) {
  for (size_t i = 0; i < term.labels.size(); ++i) {
    const size_t j = term.labels.find(term.labels[i], i + 1);
    if (j == std::string::npos)
      continue;
    const Dims dims = n.dims_of(term.x);
    n.require_equal(dims[i], dims[j], "label '" + term.labels.substr(i, 1) + "' names axes of different extents");
    const ValueId same = n.b.map(K::kEq, {n.b.iota(ElementType::kI64, dims, static_cast<uint32_t>(i)),
                                         n.b.iota(ElementType::kI64, dims, static_cast<uint32_t>(j))});
    const ValueId masked = n.b.map(K::kSelect, {same, term.x, n.constant(term.x, 0)});
    term.x = n.b.reduce(dispatch::ReduceKind::kAdd, masked, {static_cast<uint32_t>(j)});
    term.labels.erase(j, 1);
    return diagonal(n, std::move(term));
  }
  return term;
}

// Sums over labels that nobody else needs.
Term reduce_to(Node &n, Term term, const std::string &keep) {
  std::vector<uint32_t> axes;
  std::string left;
  for (size_t i = 0; i < term.labels.size(); ++i) {
    if (keep.find(term.labels[i]) == std::string::npos)
      axes.push_back(static_cast<uint32_t>(i));
    else
      left += term.labels[i];
  }
  term.x = n.b.reduce(dispatch::ReduceKind::kAdd, term.x, axes);
  term.labels = left;
  return term;
}

void import_einsum(Node &n) {
  n.need_inputs(1, 16);
  std::string equation;
  for (char c : n.string_attr("equation", ""))
    if (c != ' ')
      equation += c;
  const ElementType element = n.element(0);
  std::vector<std::string> specs;
  const size_t arrow = equation.find("->");
  const std::string left = equation.substr(0, arrow);
  for (size_t at = 0; at <= left.size();) {
    const size_t end = std::min(left.find(',', at), left.size());
    specs.push_back(left.substr(at, end - at));
    at = end + 1;
  }
  if (specs.size() != n.inputs())
    n.fail("equation '" + equation + "' has " + std::to_string(specs.size()) + " operands, the node has " +
           std::to_string(n.inputs()));
  // An ellipsis stands for axes aligned at the right: digits name them.
  const auto expand = [&](const std::string &spec, size_t dots, size_t missing) {
    std::string out;
    for (size_t i = 0; i < spec.size(); ++i) {
      if (spec.compare(i, 3, "...") == 0) {
        for (size_t k = missing; k < dots; ++k)
          out += static_cast<char>('0' + k);
        i += 2;
      } else if (std::isalpha(static_cast<unsigned char>(spec[i]))) {
        out += spec[i];
      } else {
        n.fail("equation '" + equation + "' is malformed");
      }
    }
    return out;
  };
  size_t dots = 0;
  std::vector<size_t> own(specs.size());
  for (size_t i = 0; i < specs.size(); ++i) {
    n.need_same_element(0, i);
    const bool has = specs[i].find("...") != std::string::npos;
    const size_t letters = specs[i].size() - (has ? 3 : 0);
    if (letters > n.dims(i).size() || (!has && letters != n.dims(i).size()))
      n.fail("'" + specs[i] + "' does not fit input " + std::to_string(i) + " " + to_string(n.type(i)));
    own[i] = n.dims(i).size() - letters;
    dots = std::max(dots, own[i]);
  }
  std::vector<Term> terms;
  std::map<char, Expr> extent;
  for (size_t i = 0; i < specs.size(); ++i) {
    Term term{n.lift(n.in(i)), expand(specs[i], dots, dots - own[i])};
    for (size_t d = 0; d < term.labels.size(); ++d) {
      const Expr &dim = n.dims(i)[d];
      const auto [it, fresh] = extent.emplace(term.labels[d], dim);
      if (!fresh)
        it->second = n.broadcast_dim(it->second, dim, "equation '" + equation + "', label '" + term.labels.substr(d, 1) + "'");
    }
    terms.push_back(std::move(term));
  }
  std::string result;
  if (arrow != std::string::npos) {
    result = expand(equation.substr(arrow + 2), dots, 0);
  } else { // ellipsis first, then labels that occur once, sorted
    std::map<char, int> count;
    for (const Term &term : terms)
      for (char c : term.labels)
        ++count[c];
    for (const auto &[c, k] : count)
      if (std::isdigit(static_cast<unsigned char>(c)) || k == 1)
        result += c;
  }
  for (size_t i = 0; i < result.size(); ++i)
    if (!extent.count(result[i]) || result.find(result[i], i + 1) != std::string::npos)
      n.fail("equation '" + equation + "': the result names '" + result.substr(i, 1) + "' twice or from nowhere");
  // Axes of extent 1 that broadcast against longer ones drop out.
  for (Term &term : terms) {
    term = diagonal(n, std::move(term));
    Dims kept;
    std::string labels;
    const Dims dims = n.dims_of(term.x);
    for (size_t d = 0; d < dims.size(); ++d)
      if (!(dims[d] == Expr(1)) || extent[term.labels[d]] == Expr(1)) {
        kept.push_back(dims[d]);
        labels += term.labels[d];
      }
    term = {n.reshape(term.x, kept), labels};
  }
  Term acc = terms[0];
  for (size_t i = 1; i < terms.size(); ++i) {
    std::string needed = result;
    for (size_t j = i + 1; j < terms.size(); ++j)
      needed += terms[j].labels;
    acc = reduce_to(n, std::move(acc), needed + terms[i].labels);
    const Term other = reduce_to(n, terms[i], needed + acc.labels);
    std::string labels;
    for (char c : acc.labels + other.labels)
      if (needed.find(c) != std::string::npos && labels.find(c) == std::string::npos)
        labels += c;
    acc = {n.b.contract(acc.x, other.x, acc.labels, other.labels, labels), labels};
  }
  acc = reduce_to(n, std::move(acc), result);
  std::vector<uint32_t> permutation;
  Dims out;
  for (char c : result) {
    const size_t at = acc.labels.find(c);
    if (at != std::string::npos)
      permutation.push_back(static_cast<uint32_t>(at));
    out.push_back(extent[c]);
  }
  acc.x = n.b.transpose(acc.x, permutation);
  n.set(0, n.lower(element, n.reshape(acc.x, n.check_dims(out))));
}

} // namespace

std::vector<OperatorRow> contract_operators() {
  return {
      {"", "Einsum", 12, kMaxOpset, import_einsum},
      {"", "Gemm", 6, kMaxOpset, import_gemm},
      {"", "MatMul", 6, kMaxOpset, import_matmul},
  };
}

} // namespace ingot::aotc::importer
