// States: what a model takes from its last run and gives back longer, as a decoder's keys and values.
//
//   before: input past: f32[1,8,p,64]; present = Concat(past, k) over axis 2; output present
//   after:  state past: f32[1,8,1024,64], its length l, a state too
//           p = read l; check p <= 1023; past = slice(state, 0, p)
//           present = slice(append(state, k) at p, 0, p + 1); ...; append(l) = p + 1
//
// A run that fails may have written to the states.
#include <algorithm>

#include "aotc/import/onnx/importer.h"

namespace ingot::aotc::importer {

namespace {

// The text that `*` of the pattern stands for in the name.
std::optional<std::string> matched(const std::string &pattern, const std::string &name) {
  const size_t star = pattern.find('*');
  if (star == std::string::npos)
    return pattern == name ? std::optional<std::string>("") : std::nullopt;
  const std::string head = pattern.substr(0, star), tail = pattern.substr(star + 1);
  if (name.size() < head.size() + tail.size() || name.compare(0, head.size(), head) != 0 ||
      name.compare(name.size() - tail.size(), tail.size(), tail) != 0)
    return std::nullopt;
  return name.substr(head.size(), name.size() - head.size() - tail.size());
}

std::string filled_in(std::string pattern, const std::string &text) {
  const size_t star = pattern.find('*');
  return star == std::string::npos ? pattern : pattern.replace(star, 1, text);
}

std::vector<Expr> zeros(size_t rank) { return std::vector<Expr>(rank, Expr(0)); }

} // namespace

// Which inputs are states, and which outputs they become.
void Importer::find_states(const Scope &scope, const onnx::GraphProto &graph) {
  for (const std::string &text : options_.states) {
    const size_t colon = text.rfind(':');
    const std::string from = text.substr(0, colon), to = colon == std::string::npos ? "" : text.substr(colon + 1);
    const auto stars = [](const std::string &s) { return std::count(s.begin(), s.end(), '*'); };
    if (from.empty() || to.empty() || stars(from) > 1 || stars(from) != stars(to)) {
      problem("--state=" + text + " is not INPUT:OUTPUT, with at most one '*' in each");
      continue;
    }
    bool any = false;
    for (const onnx::ValueInfoProto &input : graph.input()) {
      const auto star = matched(from, input.name());
      if (!star || scope.values.count(input.name()))
        continue;
      any = true;
      GrowingState state;
      state.output = filled_in(to, *star);
      const auto &outputs = graph.output();
      if (std::none_of(outputs.begin(), outputs.end(), [&](const auto &o) { return o.name() == state.output; }))
        problem("--state=" + text + ": the model has no output '" + state.output + "' for input '" + input.name() + "'");
      for (const auto &[name, other] : growing_)
        if (name != input.name() && other.output == state.output)
          problem("--state: both '" + name + "' and '" + input.name() + "' become '" + state.output + "'");
      if (!growing_.emplace(input.name(), state).second)
        problem("--state names input '" + input.name() + "' twice");
    }
    if (!any)
      problem("--state=" + text + ": the model has no input '" + from + "'");
  }
}

// A dim that is the length of states: what was appended to them since the context was made or reset.
Expr Importer::state_length(const std::string &input, const std::string &name, int64_t most) {
  builder.set_origin("", "");
  const TensorType scalar{ElementType::kI64, {}};
  function.states.push_back({"length of " + input, scalar});
  StateLength length;
  length.memory = builder.state(static_cast<uint32_t>(function.states.size() - 1));
  const Symbol found = builder.read_scalar(length.memory, unique_symbol(name + "_stored"), 0, 0x7fffffff);
  builder.check(less_equal(Expr(found), most), "the states are full: state '" + input + "' takes more after at most " + std::to_string(most) +
                                                   " positions; reset them, or compile with a larger range of '" + input + "'");
  length.length = Expr(builder.bind(Expr(found), unique_symbol(name), 0, most));
  lengths_.push_back(length);
  return length.length;
}

// `value`: an input whose type is known. It becomes a view of the state.
void Importer::begin_state(Value &value) {
  GrowingState &state = growing_.at(value.name);
  const TensorType &type = value.type;
  size_t grows = 0;
  for (size_t d = 0; d < type.dims.size(); ++d) {
    if (type.dims[d].is_constant())
      continue;
    ++grows;
    state.axis = d;
    state.length = type.dims[d];
  }
  const bool known = std::any_of(lengths_.begin(), lengths_.end(), [&](const StateLength &l) { return l.length == state.length; });
  if (grows != 1 || !known || value.host_type || value.narrow) {
    problem("input '" + value.name + "' cannot be a state: it is " + to_string(type),
            "a state is a tensor of numbers with one free dim, which is no dim of another input; fix the others with --input-shape");
    return;
  }
  TensorType memory = type;
  memory.dims[state.axis] = state.length.upper(); // until it is known how much a run adds
  state.number = static_cast<uint32_t>(function.states.size());
  function.states.push_back({value.name, memory});
  builder.set_origin("", "");
  state.memory = builder.state(state.number);
  state.before = builder.slice(state.memory, zeros(type.dims.size()), std::vector<int64_t>(type.dims.size(), 1), type.dims);
  value.id = state.before;
  value.poisoned = false;
}

// Turns each concatenation into an append, and writes down how long the states have become.
void Importer::close_states(Scope &scope) {
  std::vector<graph::Op> &ops = function.graph.ops;
  for (auto &[name, state] : growing_) {
    const auto value = scope.values.find(state.output);
    if (value == scope.values.end() || value->second->poisoned)
      continue; // reported elsewhere
    const ValueId present = value->second->id;
    const auto concat = std::find_if(ops.begin(), ops.end(), [&](const graph::Op &op) { return op.results.size() == 1 && op.results[0] == present; });
    if (concat == ops.end() || concat->code != graph::Opcode::kConcat || concat->operands.size() != 2 || concat->operands[0] != state.before ||
        concat->ints[0] != static_cast<int64_t>(state.axis)) {
      problem("output '" + state.output + "' is not input '" + name + "' with more behind it along dim " + std::to_string(state.axis),
              "a state grows by a Concat of itself and what a run adds, outside of If and Loop");
      continue;
    }
    const Expr added = builder.type(concat->operands[1]).dims[state.axis];
    StateLength &length = *std::find_if(lengths_.begin(), lengths_.end(), [&](const StateLength &l) { return l.length == state.length; });
    if (length.added && !(*length.added == added)) {
      problem("the states of dim " + length.length.to_string() + " grow by " + length.added->to_string() + " and by " + added.to_string());
      continue;
    }
    length.added = added;
    TensorType memory = function.states[state.number].type;
    const __int128 rows = static_cast<__int128>(state.length.upper()) + added.upper();
    __int128 elements = rows;
    for (size_t d = 0; d < memory.dims.size(); ++d)
      elements = d == state.axis || elements > 0x7fffffff ? elements : elements * *memory.dims[d].constant();
    if (elements > 0x7fffffff) {
      problem("state '" + name + "' would have more than 2^31-1 elements",
              "bound what a run adds, " + added.to_string() + ", and the state itself with --input-shape");
      continue;
    }
    memory.dims[state.axis] = static_cast<int64_t>(rows);
    function.states[state.number].type = memory;
    function.values[state.memory].type = memory;
    // present's place in the order: after what it is made of, before its users
    graph::Op append = *concat, view = *concat;
    append.code = graph::Opcode::kAppend;
    append.operands = {state.memory, concat->operands[1]};
    append.results = {builder.add_value(memory, "")};
    append.exprs = {state.length};
    view.code = graph::Opcode::kSlice;
    view.operands = append.results;
    view.exprs = zeros(memory.dims.size());
    view.ints.assign(memory.dims.size(), 1);
    *concat = std::move(append);
    ops.insert(concat + 1, std::move(view));
  }
  builder.set_origin("", "");
  for (const StateLength &length : lengths_)
    if (length.added)
      builder.append_state(length.memory, builder.host_tensor(ElementType::kI64, {length.length + *length.added}, true), 0, 0);
}

} // namespace ingot::aotc::importer
