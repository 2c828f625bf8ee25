// See run.h.
#include "tests/schedule/run.h"

#include <cmath>
#include <cstring>

#include "aotc/kernel/interpreter.h"
#include "aotc/kernel/text.h"
#include "aotc/kernel/verifier.h"

namespace ingot::aotc::testing {

int64_t value_of(const Expr &e, const Case &c) {
  auto v = e.evaluate([&](const Symbol &s) -> std::optional<int64_t> {
    for (auto &[symbol, value] : c.dims)
      if (symbol == s)
        return value;
    return std::nullopt;
  });
  if (!v)
    throw std::logic_error("expression without a value: " + e.to_string());
  return *v;
}

Buffers make_buffers(const Case &c, uint64_t seed) {
  Buffers out;
  std::mt19937_64 random(seed);
  for (const dispatch::Operand &o : c.dispatch.operands) {
    size_t count = static_cast<size_t>(value_of(o.count, c));
    std::vector<uint8_t> bytes(count * byte_size(o.type), 0xa5);
    if (!o.output)
      for (size_t i = 0; i < count; ++i) {
        if (o.type == ElementType::kF32) {
          float f = static_cast<float>(static_cast<double>(random() >> 11) * 0x1p-53 * 2 - 1);
          memcpy(&bytes[i * 4], &f, 4);
        } else if (o.type == ElementType::kF16) { // +-1 or 1.5 by 1/16 to 1/2
          uint64_t bits = random();
          uint16_t half = static_cast<uint16_t>((bits & 0x8000) | (0x2c00 + (bits >> 16 & 0x3) * 0x400) | (bits >> 20 & 0x200));
          memcpy(&bytes[i * 2], &half, 2);
        } else if (o.type == ElementType::kBool) {
          bytes[i] = random() & 1;
        } else if (byte_size(o.type) == 1) { // every byte, the ends more often
          constexpr uint8_t kEnds[] = {0, 0x7f, 0x80, 0xff};
          uint64_t bits = random();
          bytes[i] = bits >> 62 ? static_cast<uint8_t>(bits) : kEnds[bits & 3];
        } else {
          int64_t v = static_cast<int64_t>(random() % 41) - (is_unsigned(o.type) ? 0 : 20);
          memcpy(&bytes[i * byte_size(o.type)], &v, byte_size(o.type));
        }
      }
    out.bytes.push_back(std::move(bytes));
  }
  return out;
}

std::string interpret(const Case &c, const schedule::Scheduled &s, Buffers &buffers) {
  if (std::string problem = kernel::verify(s.kernel); !problem.empty())
    return problem + "\n" + kernel::print(s.kernel);
  std::vector<kernel::Binding> bindings;
  for (auto &bytes : buffers.bytes)
    bindings.push_back({bytes.data(), bytes.size()});
  std::vector<int64_t> params;
  if (s.params)
    for (const Expr &e : *s.params)
      params.push_back(value_of(e, c));
  else
    for (const Symbol &symbol : c.dispatch.free_symbols())
      params.push_back(value_of(symbol, c));
  kernel::RunOptions options;
  options.params = params;
  for (int i = 0; i < 3; ++i)
    options.grid[static_cast<size_t>(i)] = static_cast<uint32_t>(value_of(s.grid[static_cast<size_t>(i)], c));
  kernel::RunResult result = kernel::interpret(s.kernel, bindings, options);
  buffers.error_word = result.error_word;
  return result.ok ? "" : result.message;
}

std::string compare(const Case &c, const Buffers &a, const Buffers &b) {
  if (a.error_word != b.error_word)
    return "the error word is " + std::to_string(a.error_word) + ", expected " + std::to_string(b.error_word);
  for (size_t o = 0; o < c.dispatch.operands.size(); ++o) {
    const dispatch::Operand &operand = c.dispatch.operands[o];
    if (!operand.output)
      continue;
    if (operand.type != ElementType::kF32) {
      if (a.bytes[o] != b.bytes[o])
        return operand.name + " differs";
      continue;
    }
    size_t count = a.bytes[o].size() / 4;
    const float *x = reinterpret_cast<const float *>(a.bytes[o].data());
    const float *y = reinterpret_cast<const float *>(b.bytes[o].data());
    float largest = 0;
    for (size_t i = 0; i < count; ++i)
      if (std::isfinite(y[i]))
        largest = std::max(largest, std::fabs(y[i]));
    for (size_t i = 0; i < count; ++i) {
      bool same = memcmp(&x[i], &y[i], 4) == 0 || (std::isnan(x[i]) && std::isnan(y[i])) ||
                  std::fabs(x[i] - y[i]) <= 1e-4f * std::fabs(y[i]) + 1e-5f * largest;
      if (!same)
        return operand.name + "[" + std::to_string(i) + "] is " + std::to_string(x[i]) + ", expected " +
               std::to_string(y[i]);
    }
  }
  return {};
}

std::string prepack(Case &c, Buffers &buffers) {
  for (const schedule::Repack &r : schedule::prepack_simd(c.dispatch)) {
    Case pack{r.pack, c.dims};
    Buffers b;
    b.bytes.push_back(buffers.bytes[r.operand]);
    b.bytes.emplace_back(static_cast<size_t>(value_of(r.pack.operands[1].count, pack)) * byte_size(r.pack.operands[1].type));
    if (std::string problem = dispatch::verify(r.pack); !problem.empty())
      return problem;
    if (std::string problem = interpret(pack, schedule::schedule_naive(r.pack, TargetRecord::x86_64_v2()), b); !problem.empty())
      return "pack: " + problem;
    buffers.bytes[r.operand] = b.bytes[1];
  }
  return dispatch::verify(c.dispatch);
}

} // namespace ingot::aotc::testing
