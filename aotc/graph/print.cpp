// Text of a function, one op a line; parse.cpp reads it back.
//
//   function main
//   dim w 1..1048576
//   site "node 'g' (ai.onnx.Gather): index out of range: ..."
//   input "x" %0 : f32[1,w]
//   %1 "y" : f32[1,w] = map(%0) code=exp node="e1" source="ai.onnx.Exp"
//   output "y" %1
//
// Regions stand in braces after their op. Every attribute has one spelling, and only those that an op uses are printed.
#include <algorithm>
#include <cstdio>

#include "aotc/graph/check.h"

namespace ingot::aotc::graph {

namespace {

std::string quote(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char hex[8];
      std::snprintf(hex, sizeof hex, "\\x%02x", static_cast<unsigned char>(c));
      out += hex;
    } else {
      out += c;
    }
  }
  return out + '"';
}

template <typename T>
std::string list(const std::vector<T> &items) {
  std::string out = "[";
  for (size_t i = 0; i < items.size(); ++i) {
    if (i)
      out += ", ";
    if constexpr (std::is_same_v<T, Expr>)
      out += items[i].to_string();
    else if constexpr (std::is_same_v<T, std::string>)
      out += quote(items[i]);
    else
      out += std::to_string(items[i]);
  }
  return out + ']';
}

std::string symbol(const Symbol &s) {
  return s.name() + ':' + std::to_string(s.min()) + ".." + std::to_string(s.max());
}

// FNV-1a: names a constant too large to print; equality of text is not identity of data, hence "in order" in parse.
uint64_t hash(const std::vector<uint8_t> &bytes) {
  uint64_t h = 0xcbf29ce484222325u;
  for (uint8_t b : bytes)
    h = (h ^ b) * 0x100000001b3u;
  return h;
}

std::string constant(const ConstantData &data) {
  std::string out(name(data.type));
  char text[32];
  if (data.bytes.size() > 64 * std::max<size_t>(1, byte_size(data.type))) {
    std::snprintf(text, sizeof text, "#%016llx", static_cast<unsigned long long>(hash(data.bytes)));
    return out + text;
  }
  out += ':';
  for (uint8_t b : data.bytes) {
    std::snprintf(text, sizeof text, "%02x", b);
    out += text;
  }
  return out;
}

struct Printer {
  const Function &function;
  std::string out;

  std::string value(ValueId v) const { return v == kNoValue ? "%none" : '%' + std::to_string(v); }

  void definition(ValueId v) {
    const ValueInfo &info = function.values[v];
    out += value(v);
    if (!info.name.empty())
      out += ' ' + quote(info.name);
    out += " : " + to_string(info.type);
  }

  void graph(const Graph &graph, const std::string &indent) {
    for (const Signature &input : graph.inputs) {
      out += indent + "input " + quote(input.name) + ' ';
      definition(input.value);
      out += input.strings ? " strings\n" : "\n";
    }
    for (const Op &o : graph.ops)
      op(o, indent);
    for (const Signature &output : graph.outputs)
      out += indent + "output " + quote(output.name) + ' ' + value(output.value) + (output.strings ? " strings\n" : "\n");
    for (const Expr &size : graph.sizes)
      out += indent + "size [" + size.to_string() + "]\n";
  }

  void op(const Op &op, const std::string &indent) {
    out += indent;
    for (size_t i = 0; i < op.results.size(); ++i) {
      if (i)
        out += ", ";
      definition(op.results[i]);
    }
    if (!op.results.empty())
      out += " = ";
    out += std::string(name(op.code)) + '(';
    for (size_t i = 0; i < op.operands.size(); ++i)
      out += (i ? ", " : "") + value(op.operands[i]);
    out += ')';
    if (op.code == Opcode::kMap)
      out += " code=" + std::string(kernel::name(op.map));
    if (op.code == Opcode::kReduce)
      out += " kind=" + std::string(name(op.reduce));
    if (op.code == Opcode::kPad)
      out += " mode=" + std::string(name(op.pad_mode));
    if (op.code == Opcode::kPool)
      out += " pool=" + std::string(name(op.pool_mode));
    if (!op.axes.empty())
      out += " axes=" + list(op.axes);
    if (!op.ints.empty())
      out += " ints=" + list(op.ints);
    if (!op.window.empty())
      out += " window=" + list(op.window);
    if (!op.strides.empty())
      out += " strides=" + list(op.strides);
    if (!op.dilations.empty())
      out += " dilations=" + list(op.dilations);
    if (!op.exprs.empty())
      out += " exprs=" + list(op.exprs);
    if (!op.labels.empty())
      out += " labels=" + list(op.labels);
    if (!op.text.empty())
      out += " text=" + quote(op.text);
    if (op.symbol)
      out += " symbol=" + symbol(op.symbol);
    for (const Symbol &size : op.sizes)
      out += " size=" + symbol(size);
    if (op.code == Opcode::kHost)
      out += " host=" + std::to_string(static_cast<uint32_t>(op.host));
    for (const Symbol &s : op.symbols)
      out += " binds=" + symbol(s);
    if (op.constant)
      out += " data=" + constant(*op.constant);
    if (op.compute)
      out += " compute=" + quote(dispatch::print(*op.compute));
    if (op.loop) {
      const LoopInfo &info = *op.loop;
      if (info.trip_count)
        out += " trip_count=[" + info.trip_count->to_string() + ']';
      out += " iteration=" + symbol(info.iteration) + " trips=" + symbol(info.trips);
      out += " has_condition=" + std::to_string(info.has_condition);
      if (info.initial_condition)
        out += " initial_condition=[" + info.initial_condition->to_string() + ']';
      out += " carried=" + std::to_string(info.carried) + " scans=" + std::to_string(info.scans);
    }
    if (!op.node.empty())
      out += " node=" + quote(op.node);
    if (!op.source.empty())
      out += " source=" + quote(op.source);
    for (const Graph &region : op.regions) {
      out += " {\n";
      graph(region, indent + "  ");
      out += indent + '}';
    }
    out += '\n';
  }
};

} // namespace

std::string print(const Function &function) {
  Printer printer{function, "function " + function.name + '\n'};
  for (const Symbol &dim : function.dims)
    printer.out += "dim " + dim.name() + ' ' + std::to_string(dim.min()) + ".." + std::to_string(dim.max()) + '\n';
  for (const std::string &site : function.sites)
    printer.out += "site " + quote(site) + '\n';
  for (const State &state : function.states)
    printer.out += "state " + quote(state.name) + " : " + to_string(state.type) + '\n';
  printer.graph(function.graph, "");
  return printer.out;
}

} // namespace ingot::aotc::graph
