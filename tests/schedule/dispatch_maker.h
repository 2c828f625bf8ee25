// Short constructors of dispatches for the tests of schedules: the forms that fusion produces.
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "aotc/dispatch/dispatch.h"

namespace ingot::aotc::testing {

using dispatch::Guard;
using dispatch::ReduceKind;
using dispatch::ValueId;
using kernel::Opcode;

// Builds one dispatch. Axes and values are given by what was returned for them.
struct Maker {
  dispatch::Dispatch d;

  explicit Maker(std::string name) { d.name = std::move(name); }
  uint32_t operand(std::string name, Expr count, bool output = false, ElementType type = ElementType::kF32,
                   bool constant = false);
  uint32_t input(std::string name, Expr count, ElementType type = ElementType::kF32) {
    return operand(std::move(name), count, false, type);
  }
  uint32_t weight(std::string name, Expr count) { return operand(std::move(name), count, false, ElementType::kF32, true); }
  uint32_t output(std::string name, Expr count, ElementType type = ElementType::kF32) {
    return operand(std::move(name), count, true, type);
  }
  Symbol axis(Expr extent);
  uint32_t number(const Symbol &axis) const;
  ValueId load(uint32_t operand, Expr offset, std::vector<Guard> guards = {}, double otherwise = 0);
  ValueId constant(double value);
  ValueId op(Opcode code, std::vector<ValueId> args);
  ValueId op(Opcode code, ElementType type, std::vector<ValueId> args);
  ValueId index(Expr e, ElementType type = ElementType::kI64);
  ValueId reduce(ReduceKind kind, ValueId arg, const std::vector<Symbol> &axes);
  void store(uint32_t operand, Expr offset, ValueId value, const std::vector<Symbol> &axes);
};

// A dispatch and sizes for its free symbols.
struct Case {
  dispatch::Dispatch dispatch;
  std::vector<std::pair<Symbol, int64_t>> dims;
};

struct ConvShape {
  int64_t n = 1, groups = 1, in = 3, out = 8; // in, out: channels of a group
  std::vector<int64_t> size{8, 8}, kernel{3, 3}, stride{1, 1}, dilation{1, 1}, pad{1, 1};
  bool bias = true;
  int activation = 0; // 0 none, 1 relu, 2 hard swish, 3 residual and relu, 4 sigmoid
  int prologue = 0;   // 0 none, 1 relu on the input, 2 a scale for each channel
  std::optional<Symbol> width; // stands for the last of `size`
};
Case conv(const ConvShape &shape);
// y[b, m, n] = sum over k of x[b, m, k] w[(b,) k, n]; `transposed`: w[n, k].
Case matmul(Expr batch, Expr m, Expr n, Expr k, bool transposed, bool weight, int activation, bool batched_weight,
            std::vector<std::pair<Symbol, int64_t>> dims = {});
// y[b, m, n] = sum over k of x[b, m, k] w[k, n], u8 by i8 in i32; with `zeros` less a number for each row and one for each column,
// as zero points leave them; with `requantise` as u8, by a scale for each column.
Case byte_matmul(Expr batch, Expr m, Expr n, Expr k, bool transposed, bool weight, bool requantise,
                 std::vector<std::pair<Symbol, int64_t>> dims = {}, bool zeros = false);
// Convolution of u8 by i8 on channels in blocks of 16 (x plain where `in` < 16): y = requantised u8 or i32.
struct ByteConvShape {
  int64_t n = 1, in = 16, out = 32, stride = 1, kernel = 3, pad = 0; // pad: zeros on all sides
  std::vector<int64_t> size{9, 11};
  bool requantise = true;
};
Case byte_conv(const ByteConvShape &shape);
Case softmax(Expr rows, Expr columns, std::vector<std::pair<Symbol, int64_t>> dims = {});
struct AttentionShape {
  enum class Mask : uint8_t { kNone, kKeys, kMatrix, kFlags, kCausal };
  int64_t batch = 1, heads = 2;
  Expr rows = 5, keys = 7;
  int64_t depth = 8, columns = 8;
  bool interleaved = false;        // [batch, rows, heads, size] instead of [batch, heads, rows, size]
  bool values_transposed = false;  // [.., size, keys]
  Mask mask = Mask::kNone;         // kFlags, kCausal: -inf where not
  int64_t shift = 0;               // kCausal: key <= row + shift; below 0 some rows see no key
  double scale = 0.35;             // large: exp would overflow without the maximum
  bool epilogue = false;
  bool bounded = false;            // rows that see no key are 0 instead of NaN
  std::vector<std::pair<Symbol, int64_t>> dims;
};
Case attention(const AttentionShape &shape);
Case layer_norm(Expr rows, Expr columns, std::vector<std::pair<Symbol, int64_t>> dims = {});
Case pool(int64_t channels, std::vector<int64_t> size, std::vector<int64_t> kernel, std::vector<int64_t> stride,
          std::vector<int64_t> pad, bool max);
Case reduce(ReduceKind kind, std::vector<int64_t> shape, std::vector<int> axes, ElementType type = ElementType::kF32);
Case transpose(std::vector<int64_t> shape, std::vector<int> permutation);
Case elementwise(std::vector<int64_t> shape, int broadcast, int kind);
Case concat(std::vector<int64_t> outer_parts_inner);
Case gather_rows(int64_t rows, int64_t table, int64_t width);
// Layer normalisation of rows of a table, as an embedding has it. Ids outside of the table are clamped and fail a check.
Case embedding_norm(Expr rows, int64_t table, int64_t width, std::vector<std::pair<Symbol, int64_t>> dims = {});

// Such a product with other types of 8 bits.
Case with_bytes(const Case &c, ElementType left, ElementType right);

// The case with its first two operands, the factors, stored as f16.
Case in_half(const Case &c, uint32_t operands = 2);

} // namespace ingot::aotc::testing
